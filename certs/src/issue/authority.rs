//! A CA: its certificate with its key, and what it issues.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
};

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SanType,
    SerialNumber,
};
use ring::rand::{SecureRandom as _, SystemRandom};
use rustls_pki_types::{CertificateDer, UnixTime};
use time::OffsetDateTime;
use zeroize::Zeroizing;

use super::{
    IssueError,
    details::{self, Chain, DAY, Details, hex, seconds},
    name::{Host, Name},
};

/// How long a CA lives, in days.
pub const CA_DAYS: u32 = 3_650;

/// How long a certificate lives unless something else is asked for, in days.
pub const DEFAULT_DAYS: u32 = 90;

/// The longest life of a certificate, in days: that of a CA.
pub const MAX_DAYS: u32 = CA_DAYS;

/// How long before the present a certificate begins to be valid, in seconds: clocks differ.
pub const BACKDATED: i64 = 300;

/// The bytes of a serial number. The first bit is 0 and the number is not, so that it takes no more as an integer.
const SERIAL: usize = 16;

/// What a certificate is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// A server that is dialled by these names.
    Server(Vec<Host>),
    /// A client.
    Client,
}

/// A new key. Its text is wiped when it is dropped.
pub(super) struct NewKey {
    pub(super) pair: KeyPair,
    pub(super) pem: Zeroizing<String>,
}

impl NewKey {
    pub(super) fn generate() -> Result<Self, IssueError> {
        let pair = KeyPair::generate()?;
        let pem = Zeroizing::new(pair.serialize_pem());
        Ok(Self { pair, pem })
    }
}

/// A CA that can issue.
pub(super) struct Ca {
    pub(super) der: CertificateDer<'static>,
    pub(super) details: Details,
    issuer: Issuer<'static, KeyPair>,
}

impl Ca {
    /// Makes a CA, and the text of its key.
    pub(super) fn create(
        what: &str,
        now: UnixTime,
    ) -> Result<(Self, Zeroizing<String>), IssueError> {
        let key = NewKey::generate()?;
        let mut params = params(seconds(now), i64::from(CA_DAYS))?;
        // CAs of the same kind differ in their names, so that it can be told which one somebody means.
        let tag: String = hex(&random::<4>()?);
        params.distinguished_name = common_name(&format!("Selium {what} CA {tag}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key.pair)?;
        let details = Details::parse(certificate.der()).map_err(IssueError::Crypto)?;
        let ca = Self {
            der: certificate.der().clone(),
            details,
            issuer: Issuer::new(params, key.pair),
        };
        Ok((ca, key.pem))
    }

    /// Loads a CA. Returns nothing if there is neither a certificate nor a key.
    pub(super) fn load(folder: &Path, stem: &str) -> Result<Option<Self>, IssueError> {
        let (certificate, key) = paths(folder, stem);
        if super::write::present([&certificate, &key])?.is_empty() {
            return Ok(None);
        }
        let wrong = |why: String| IssueError::Authority {
            path: certificate.clone(),
            why,
        };
        let chain = details::chain(&certificate).map_err(wrong)?;
        let (secret, public, _) = details::key(&key).map_err(wrong)?;
        let Some((der, details)) = chain
            .into_iter()
            .find(|(_, details)| details.public_key == public.public_key)
        else {
            return Err(wrong(format!(
                "the key {} is of another one",
                key.display()
            )));
        };
        if !details.is_ca {
            return Err(wrong("it is not a CA's certificate".to_owned()));
        }
        let pair = KeyPair::try_from(&*secret).map_err(|error| wrong(error.to_string()))?;
        let issuer =
            Issuer::from_ca_cert_der(&der, pair).map_err(|error| wrong(error.to_string()))?;
        Ok(Some(Self {
            der,
            details,
            issuer,
        }))
    }

    /// Issues a certificate. It ends with the CA at the latest.
    pub(super) fn issue(
        &self,
        name: &Name,
        purpose: &Use,
        days: u32,
        key: &impl PublicKeyData,
        now: UnixTime,
    ) -> Result<Issued, IssueError> {
        let now = seconds(now);
        if now > self.details.not_after {
            return Err(IssueError::Refused(format!(
                "the CA {:?} has expired: make a new one, see `selium cert --help`",
                self.details.subject
            )));
        }
        let left = self.details.not_after.saturating_sub(now);
        let mut params = params(now, i64::from(days))?;
        if left < i64::from(days) * DAY {
            params.not_after = time(self.details.not_after)?;
        }
        params.distinguished_name = common_name(name.as_str());
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        match purpose {
            Use::Server(hosts) => {
                params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
                params.subject_alt_names = hosts.iter().map(san).collect::<Result<_, _>>()?;
            }
            Use::Client => params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth],
        }
        let certificate = params.signed_by(key, &self.issuer)?;
        Issued::new(&certificate)
    }

    /// Whether this CA issued the certificate; asked as of a moment at which it was valid.
    pub(super) fn issued(&self, chain: &Chain, purpose: &Use) -> bool {
        let Some(leaf) = details::leaf(chain) else {
            return false;
        };
        let Ok(begin) = u64::try_from(leaf.not_before) else {
            return false;
        };
        let at = UnixTime::since_unix_epoch(std::time::Duration::from_secs(begin));
        match purpose {
            Use::Client => super::verify::client(chain, [&self.der], at).is_ok(),
            Use::Server(hosts) => hosts
                .first()
                .is_some_and(|host| super::verify::server(chain, [&self.der], host, at).is_ok()),
        }
    }

    /// Its certificate as text.
    pub(super) fn pem(&self) -> String {
        super::pem_certificate(&self.der)
    }
}

/// A new certificate.
pub(super) struct Issued {
    pub(super) pem: String,
    pub(super) details: Details,
}

impl Issued {
    fn new(certificate: &Certificate) -> Result<Self, IssueError> {
        Ok(Self {
            pem: certificate.pem(),
            details: Details::parse(certificate.der()).map_err(IssueError::Crypto)?,
        })
    }
}

/// The files of a CA: certificate and key.
pub(super) fn paths(folder: &Path, stem: &str) -> (PathBuf, PathBuf) {
    let stem = folder.join(format!("{stem}-ca"));
    let path = |end| {
        let mut path = stem.clone().into_os_string();
        path.push(end);
        PathBuf::from(path)
    };
    (path(".crt"), path(".key"))
}

/// What all certificates have: when they are valid, and a number that no other has.
fn params(now: i64, days: i64) -> Result<CertificateParams, IssueError> {
    let mut params = CertificateParams::default();
    let mut serial = random::<SERIAL>()?;
    if let Some(first) = serial.first_mut() {
        *first = (*first & 0x7f) | 0x40;
    }
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.not_before = time(now.saturating_sub(BACKDATED))?;
    params.not_after = time(now.saturating_add(days.saturating_mul(DAY)))?;
    Ok(params)
}

fn common_name(name: &str) -> DistinguishedName {
    let mut names = DistinguishedName::new();
    names.push(DnType::CommonName, name);
    names
}

fn san(host: &Host) -> Result<SanType, IssueError> {
    Ok(match host {
        Host::Dns(name) => SanType::DnsName(name.as_str().try_into()?),
        Host::Ip(address) => SanType::IpAddress(*address),
    })
}

fn time(seconds: i64) -> Result<OffsetDateTime, IssueError> {
    OffsetDateTime::from_unix_timestamp(seconds).map_err(|_| {
        IssueError::Refused(
            "this machine's clock shows a time that no certificate can have: set it".to_owned(),
        )
    })
}

fn random<const N: usize>() -> Result<[u8; N], IssueError> {
    let mut bytes = [0; N];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| IssueError::Crypto("the system gives no random numbers".to_owned()))?;
    Ok(bytes)
}

/// The names that a server's certificate has, the ones of this machine always among them.
pub(super) fn with_local(hosts: &[Host]) -> Vec<Host> {
    let mut all = Host::local().to_vec();
    for host in hosts {
        if !all.contains(host) {
            all.push(host.clone());
        }
    }
    all
}

/// The names that a certificate has, as far as they can be had again.
pub(super) fn hosts(details: &Details) -> Vec<Host> {
    let dns = details.dns.iter().filter_map(|name| name.parse().ok());
    let addresses = details.addresses.iter().copied().map(ip);
    dns.chain(addresses).collect()
}

fn ip(address: IpAddr) -> Host {
    Host::Ip(address)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use x509_parser::{certificate::X509Certificate, extensions::KeyUsage};

    use super::*;

    fn now() -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(1_800_000_000))
    }

    fn leaf(ca: &Ca, purpose: &Use) -> CertificateDer<'static> {
        use rustls_pki_types::pem::PemObject as _;
        let key = NewKey::generate().unwrap();
        let issued = ca
            .issue(&Name::admin(), purpose, 90, &key.pair, now())
            .unwrap();
        CertificateDer::from_pem_slice(issued.pem.as_bytes()).unwrap()
    }

    fn parse(der: &[u8]) -> X509Certificate<'_> {
        x509_parser::parse_x509_certificate(der).unwrap().1
    }

    fn usage<'a>(certificate: &'a X509Certificate<'_>) -> &'a KeyUsage {
        let usage = certificate.key_usage().unwrap().unwrap();
        assert!(usage.critical);
        usage.value
    }

    #[test]
    fn a_ca_may_issue_certificates_and_no_cas() {
        let (ca, key) = Ca::create("test", now()).unwrap();
        assert!(key.starts_with("-----BEGIN PRIVATE KEY-----"));
        let certificate = parse(&ca.der);
        let constraints = certificate.basic_constraints().unwrap().unwrap();
        assert!(constraints.critical && constraints.value.ca);
        assert_eq!(constraints.value.path_len_constraint, Some(0));
        let usage = usage(&certificate);
        assert!(usage.key_cert_sign() && usage.crl_sign() && !usage.digital_signature());
        assert!(certificate.extended_key_usage().unwrap().is_none());
        assert_eq!(certificate.version().0, 2);
        assert!(certificate.verify_signature(None).is_ok());
    }

    #[test]
    fn certificates_are_for_one_use_each() {
        let (ca, _) = Ca::create("test", now()).unwrap();
        for purpose in [Use::Client, Use::Server(Host::local().to_vec())] {
            let der = leaf(&ca, &purpose);
            let certificate = parse(&der);
            let constraints = certificate.basic_constraints().unwrap().unwrap();
            assert!(constraints.critical && !constraints.value.ca);
            let usage = usage(&certificate);
            assert!(usage.digital_signature() && !usage.key_cert_sign() && !usage.key_agreement());
            assert!(!usage.key_encipherment());
            let extended = certificate.extended_key_usage().unwrap().unwrap().value;
            let is_server = purpose != Use::Client;
            assert_eq!(
                (extended.server_auth, extended.client_auth),
                (is_server, !is_server)
            );
            assert!(!extended.any && extended.other.is_empty());
            let names = certificate.subject_alternative_name().unwrap();
            assert_eq!(
                names.map(|names| names.value.general_names.len()),
                is_server.then_some(3)
            );
            let issuer = parse(&ca.der);
            assert!(
                certificate
                    .verify_signature(Some(issuer.public_key()))
                    .is_ok()
            );
        }
    }

    #[test]
    fn serial_numbers_are_positive_and_do_not_repeat() {
        let mut seen = std::collections::HashSet::new();
        for _ in 0..200 {
            let serial = params(1_800_000_000, 1)
                .unwrap()
                .serial_number
                .unwrap()
                .to_bytes();
            assert_eq!(serial.len(), SERIAL);
            assert!(serial[0] & 0x80 == 0 && serial[0] != 0);
            assert!(seen.insert(serial));
        }
    }

    #[test]
    fn a_ca_is_loaded_with_its_own_key_only() {
        let folder = tempfile::tempdir().unwrap();
        let write = |ca: &Ca, key: &str| {
            let (certificate, key_file) = paths(folder.path(), "x");
            std::fs::write(certificate, ca.pem()).unwrap();
            std::fs::write(key_file, key).unwrap();
        };
        assert!(Ca::load(folder.path(), "x").unwrap().is_none());
        let (one, key) = Ca::create("one", now()).unwrap();
        let (_, other) = Ca::create("other", now()).unwrap();
        write(&one, &key);
        let loaded = Ca::load(folder.path(), "x").unwrap().unwrap();
        assert_eq!(loaded.details, one.details);
        // What the loaded one issues is the CA's as much as what the first issued.
        let der = leaf(&loaded, &Use::Client);
        let details = Details::parse(&der).unwrap();
        assert_eq!(details.authority_key_id, one.details.key_id);
        assert!(one.issued(&vec![(der, details)], &Use::Client));
        write(&one, &other);
        let error = Ca::load(folder.path(), "x").err().unwrap().to_string();
        assert!(error.contains("is of another one"), "{error}");
        // A certificate that is no CA's.
        let key = NewKey::generate().unwrap();
        let leaf = one
            .issue(&Name::admin(), &Use::Client, 1, &key.pair, now())
            .unwrap();
        let (certificate, key_file) = paths(folder.path(), "x");
        std::fs::write(certificate, leaf.pem).unwrap();
        std::fs::write(key_file, key.pem.as_bytes()).unwrap();
        let error = Ca::load(folder.path(), "x").err().unwrap().to_string();
        assert!(error.contains("not a CA"), "{error}");
    }
}
