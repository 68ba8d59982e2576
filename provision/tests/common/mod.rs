//! What the tests are made with.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair,
};
use selium_remote_provision::{AuditKey, KeyPem, Listener, Provision, policy_file::ready_made};

/// What stands in the key and must be seen nowhere.
pub const CANARY: &str = "c2VjcmV0LWNhbmFyeQ";

pub const PEM: &str = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";

pub fn key_pem() -> KeyPem {
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{CANARY}\n-----END PRIVATE KEY-----\n");
    KeyPem::new(pem.into_bytes())
}

/// A provision of three roles, with certificates that are none.
pub fn provision() -> Provision {
    let mut viewer = ready_made("viewer").unwrap();
    viewer.limits.connections = 3;
    let listener = |role, port| Listener {
        role,
        port: Some(port),
        client_ca: PEM.into(),
    };
    Provision {
        server_chain: PEM.repeat(2).into(),
        server_key: key_pem(),
        audit_key: AuditKey::new(*b"0123456789abcdefCANARY-AUDIT-KEY"),
        listeners: vec![
            listener(ready_made("operator").unwrap(), 7001),
            Listener::admin(PEM.into()),
            listener(viewer, 7003),
        ],
    }
}

pub struct Ca(pub CertifiedIssuer<'static, KeyPair>);

pub fn ca(name: &str) -> Ca {
    ca_of(name, KeyPair::generate().unwrap())
}

/// A CA of a key that exists, for a second certificate of it.
pub fn ca_of(name: &str, key: KeyPair) -> Ca {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.distinguished_name.push(DnType::CommonName, name);
    Ca(CertifiedIssuer::self_signed(params, key).unwrap())
}

impl Ca {
    pub fn pem(&self) -> Vec<u8> {
        self.0.pem().into_bytes()
    }

    /// Another certificate of the same key.
    pub fn again(&self, name: &str) -> Ca {
        ca_of(
            name,
            KeyPair::from_pem(&self.0.key().serialize_pem()).unwrap(),
        )
    }

    /// A server's certificate.
    pub fn server(&self) -> Vec<u8> {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.is_ca = IsCa::ExplicitNoCa;
        params.signed_by(&key, &self.0).unwrap().pem().into_bytes()
    }
}
