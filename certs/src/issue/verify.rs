//! Whether the other side would take a certificate: asked of the code that decides it in the handshake.

use std::sync::Arc;

use rustls::{
    CertificateError, RootCertStore,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier as _},
    crypto::ring,
    server::WebPkiClientVerifier,
};
use rustls_pki_types::{CertificateDer, UnixTime};

use super::{details::Chain, name::Host};

/// Why the other side would refuse a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// It is not valid any more.
    Expired,
    /// It is not valid yet.
    NotYet,
    /// No CA that is trusted issued it.
    OtherCa,
    /// It is for something else.
    WrongUse,
    /// It is for other names.
    WrongName,
    /// Something else is wrong with it.
    Unusable(String),
}

impl From<rustls::Error> for Refusal {
    fn from(error: rustls::Error) -> Self {
        use CertificateError as E;
        match error {
            rustls::Error::InvalidCertificate(E::Expired | E::ExpiredContext { .. }) => {
                Self::Expired
            }
            rustls::Error::InvalidCertificate(E::NotValidYet | E::NotValidYetContext { .. }) => {
                Self::NotYet
            }
            rustls::Error::InvalidCertificate(E::UnknownIssuer | E::BadSignature) => Self::OtherCa,
            rustls::Error::InvalidCertificate(
                E::InvalidPurpose | E::InvalidPurposeContext { .. },
            ) => Self::WrongUse,
            rustls::Error::InvalidCertificate(
                E::NotValidForName | E::NotValidForNameContext { .. },
            ) => Self::WrongName,
            other => Self::Unusable(other.to_string()),
        }
    }
}

/// The certificates as roots. What cannot be one is left out: nothing is trusted for it.
fn roots<'a>(cas: impl IntoIterator<Item = &'a CertificateDer<'static>>) -> Arc<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(cas.into_iter().cloned());
    Arc::new(roots)
}

/// Whether a server that trusts these CAs takes a client with this chain at that time.
pub(super) fn client<'a>(
    chain: &Chain,
    cas: impl IntoIterator<Item = &'a CertificateDer<'static>>,
    at: UnixTime,
) -> Result<(), Refusal> {
    let roots = roots(cas);
    let (leaf, rest) = split(chain)?;
    if roots.is_empty() {
        return Err(Refusal::OtherCa);
    }
    let verifier =
        WebPkiClientVerifier::builder_with_provider(roots, Arc::new(ring::default_provider()))
            .build()
            .map_err(|error| Refusal::Unusable(error.to_string()))?;
    verifier.verify_client_cert(&leaf, &rest, at)?;
    Ok(())
}

/// Whether a client that trusts these CAs takes a server of that name with this chain at that time.
pub(super) fn server<'a>(
    chain: &Chain,
    cas: impl IntoIterator<Item = &'a CertificateDer<'static>>,
    host: &Host,
    at: UnixTime,
) -> Result<(), Refusal> {
    let roots = roots(cas);
    let (leaf, rest) = split(chain)?;
    if roots.is_empty() {
        return Err(Refusal::OtherCa);
    }
    let name = host.server_name().ok_or(Refusal::WrongName)?;
    let verifier =
        WebPkiServerVerifier::builder_with_provider(roots, Arc::new(ring::default_provider()))
            .build()
            .map_err(|error| Refusal::Unusable(error.to_string()))?;
    verifier.verify_server_cert(&leaf, &rest, &name, &[], at)?;
    Ok(())
}

type Split = (CertificateDer<'static>, Vec<CertificateDer<'static>>);

fn split(chain: &Chain) -> Result<Split, Refusal> {
    let mut certificates = chain.iter().map(|(der, _)| der.clone());
    let leaf = certificates
        .next()
        .ok_or_else(|| Refusal::Unusable("there is no certificate".to_owned()))?;
    Ok((leaf, certificates.collect()))
}
