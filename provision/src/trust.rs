//! Whose certificates a listener trusts: comparing the keys of CAs.
//!
//! A role is a CA, so no CA key may be trusted by two listeners; the keys are compared, because a CA may have several
//! certificates. And no client CA may be the one that issued the server's certificate: who can issue for one could pose
//! as the other.

use std::collections::BTreeMap;

use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use thiserror::Error;
use x509_parser::prelude::{FromDer as _, SubjectPublicKeyInfo, X509Certificate};

use crate::Listener;

/// Why the CAs of listeners cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TrustError {
    /// What should be certificates is something else.
    #[error("{what} cannot be read as certificates: {reason}")]
    Certificates {
        /// The role; `None` for the server's.
        role: Option<String>,
        /// What it is.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A certificate that should be a CA's is not.
    #[error(
        "the client CA of the role {role} has a certificate that is no CA's ({subject}): give the CA, not what it issued"
    )]
    NoCa {
        /// The role.
        role: String,
        /// Whose certificate it is.
        subject: String,
    },
    /// Two listeners trust the same CA.
    #[error(
        "the roles {one} and {other} trust the same CA key ({subject}): whoever has one role would have the other; give each role a CA of its own"
    )]
    SharedCa {
        /// The role that is named first.
        one: String,
        /// The other.
        other: String,
        /// The subject of the certificate, for the other.
        subject: String,
    },
    /// A client CA is the server's too.
    #[error(
        "the client CA of the role {role} is also the server's ({subject}): whoever has a certificate of one kind could pass for the other; make a CA for clients only (`selium cert init` does)"
    )]
    ServerCa {
        /// The role.
        role: String,
        /// The subject of the certificate.
        subject: String,
    },
}

impl TrustError {
    /// The role whose client CA is to be changed, where it is about one.
    #[must_use]
    pub fn role(&self) -> Option<&str> {
        match self {
            TrustError::Certificates { role, .. } => role.as_deref(),
            TrustError::SharedCa { other: role, .. }
            | TrustError::NoCa { role, .. }
            | TrustError::ServerCa { role, .. } => Some(role),
        }
    }
}

/// Checks the client CAs of all listeners against each other and against the server's.
///
/// `server_chain` is what the server shows, and `server_ca` are the CAs that clients trust, where they are at hand (it
/// may be empty; also without them a client CA that signed the server's certificate is found). All of it is PEM.
///
/// # Errors
/// The first thing that is wrong. [`TrustError::ServerCa`] is found last: a caller that only warns of it knows that
/// everything else is right.
pub fn check(
    listeners: &[Listener],
    server_chain: &[u8],
    server_ca: &[u8],
) -> Result<(), TrustError> {
    let mut owners: BTreeMap<Vec<u8>, &str> = BTreeMap::new();
    let chain = certificates(None, "the server's certificate chain", server_chain, false)?;
    let server_cas = certificates(None, "the server's CA", server_ca, true)?;
    let mut is_server_ca = None;
    for listener in listeners {
        let role = listener.role.name.as_str();
        let what = format!("the client CA of the role {role}");
        for der in certificates(Some(role), &what, &listener.client_ca, false)? {
            let ca = parse(Some(role), &what, &der)?;
            let subject = ca.subject().to_string();
            // Old CAs have no basic constraints at all; the runtime's TLS trusts them as roots.
            let constraints = ca.basic_constraints().ok().flatten();
            if constraints.is_some_and(|it| !it.value.ca) {
                let role = role.to_owned();
                return Err(TrustError::NoCa { role, subject });
            }
            let key = ca.public_key();
            let owner = owners.entry(key.raw.to_vec()).or_insert(role);
            if *owner != role {
                return Err(TrustError::SharedCa {
                    one: (*owner).to_owned(),
                    other: role.to_owned(),
                    subject,
                });
            }
            let role = role.to_owned();
            if is_server_ca.is_none() && is_the_servers(key, &chain, &server_cas)? {
                is_server_ca = Some(TrustError::ServerCa { role, subject });
            }
        }
    }
    is_server_ca.map_or(Ok(()), Err)
}

/// Whether a key is in the server's chain, among its CAs, or has signed a certificate of the chain.
fn is_the_servers(
    key: &SubjectPublicKeyInfo<'_>,
    chain: &[CertificateDer<'_>],
    server_cas: &[CertificateDer<'_>],
) -> Result<bool, TrustError> {
    for der in chain.iter().chain(server_cas) {
        let certificate = parse(None, "the server's certificates", der)?;
        if certificate.public_key().raw == key.raw
            || certificate.verify_signature(Some(key)).is_ok()
        {
            return Ok(true);
        }
    }
    Ok(false)
}

fn certificates(
    role: Option<&str>,
    what: &str,
    pem: &[u8],
    may_be_empty: bool,
) -> Result<Vec<CertificateDer<'static>>, TrustError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let reason = match found {
        Ok(found) if may_be_empty || !found.is_empty() => return Ok(found),
        Ok(_) => "there is none".to_owned(),
        // The error's own words may have the line in question, which may be a key.
        Err(_) => "the PEM is damaged".to_owned(),
    };
    Err(unreadable(role, what, reason))
}

fn parse<'a>(
    role: Option<&str>,
    what: &str,
    der: &'a CertificateDer<'_>,
) -> Result<X509Certificate<'a>, TrustError> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        Ok(_) => Err(unreadable(
            role,
            what,
            "there are bytes behind it".to_owned(),
        )),
        Err(error) => Err(unreadable(role, what, error.to_string())),
    }
}

fn unreadable(role: Option<&str>, what: &str, reason: String) -> TrustError {
    TrustError::Certificates {
        role: role.map(str::to_owned),
        what: what.to_owned(),
        reason,
    }
}
