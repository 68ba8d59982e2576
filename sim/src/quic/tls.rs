//! TLS for both ends: one certificate and one pair of configurations for all links of the process.

use std::sync::{Arc, LazyLock};

use quinn_proto::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rcgen::{CertificateParams, KeyPair, PKCS_ED25519, SerialNumber};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    client::Resumption,
    crypto::{CryptoProvider, ring},
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};

/// The name in the certificate.
pub(super) const SERVER_NAME: &str = "localhost";

/// Both ends' configurations.
pub(super) struct Tls {
    pub(super) client: Arc<QuicClientConfig>,
    pub(super) server: Arc<QuicServerConfig>,
}

/// Made once: a key and a certificate per link would be most of a short run's work.
pub(super) static TLS: LazyLock<Result<Tls, String>> =
    LazyLock::new(|| make().map_err(|error| error.to_string()));

fn make() -> Result<Tls, Box<dyn core::error::Error>> {
    let key = KeyPair::generate_for(&PKCS_ED25519)?;
    let mut params = CertificateParams::new([SERVER_NAME.to_owned()])?;
    // A random one would not always have the same length.
    params.serial_number = Some(SerialNumber::from(1u64));
    let certificate = params.self_signed(&key)?.der().clone();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));

    let provider = Arc::new(CryptoProvider {
        kx_groups: vec![ring::kx_group::X25519],
        ..ring::default_provider()
    });
    let versions = [&rustls::version::TLS13];
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone())?;
    let mut client = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&versions)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    // The next link would begin with a shorter handshake than the first.
    client.resumption = Resumption::disabled();
    let server = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&versions)?
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)?;
    Ok(Tls {
        client: Arc::new(QuicClientConfig::try_from(client)?),
        server: Arc::new(QuicServerConfig::try_from(server)?),
    })
}
