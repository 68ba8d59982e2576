//! What a server is given: its certificate with its key, and the CAs of its clients, checked before it starts with them.

use std::path::{Path, PathBuf};

use rustls::RootCertStore;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem::PemObject as _};
use zeroize::Zeroizing;

use super::{
    IssueError,
    details::{self, Chain, Details},
    name::Host,
    pem_certificate, pem_key,
    verify::{self, Refusal},
};
use crate::{CertificateWarning, file::problem};

/// A file of certificates.
#[derive(Clone, Debug)]
pub struct Certificates {
    path: PathBuf,
    chain: Chain,
}

/// A server's certificate with its key. The key is wiped when it is dropped, and `Debug` shows nothing of it.
pub struct ServerIdentity {
    certificates: Certificates,
    leaf: Details,
    key: Zeroizing<String>,
    warning: Option<CertificateWarning>,
}

impl Certificates {
    /// Reads a file.
    ///
    /// # Errors
    /// When it cannot be read, has no certificate in it, or one that is damaged.
    pub fn load(path: &Path) -> Result<Self, IssueError> {
        let chain = details::chain(path).map_err(|what| IssueError::File {
            what,
            advice: ADVICE.to_owned(),
        })?;
        let path = path.to_owned();
        Ok(Self { path, chain })
    }

    /// Reads what is in a file; `path` is for errors.
    ///
    /// # Errors
    /// As [`Certificates::load`].
    pub fn parse(path: &Path, pem: &[u8]) -> Result<Self, IssueError> {
        let failed = |why: String| IssueError::File {
            what: format!("a certificate in {} is damaged ({why})", path.display()),
            advice: ADVICE.to_owned(),
        };
        let mut chain = Chain::new();
        for der in CertificateDer::pem_slice_iter(pem) {
            let der = der.map_err(|error| failed(problem(&error).to_owned()))?;
            let details = Details::parse(&der).map_err(failed)?;
            chain.push((der, details));
        }
        let path = path.to_owned();
        Ok(Self { path, chain })
    }

    /// Where they are from.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What they say.
    pub fn details(&self) -> impl Iterator<Item = &Details> {
        self.chain.iter().map(|(_, details)| details)
    }

    /// The certificates, and nothing else that was in the file.
    #[must_use]
    pub fn pem(&self) -> String {
        self.chain
            .iter()
            .map(|(der, _)| pem_certificate(der))
            .collect()
    }

    /// The first of them that TLS refuses as a CA, and why.
    #[must_use]
    pub fn refused_as_root(&self) -> Option<(&Details, String)> {
        self.chain.iter().find_map(|(der, details)| {
            let error = RootCertStore::empty().add(der.clone()).err()?;
            Some((details, error.to_string()))
        })
    }
}

impl ServerIdentity {
    /// Reads a certificate with its intermediates, and the key of the first of them.
    ///
    /// # Errors
    /// When one of the files cannot be read, the key does not belong to the certificate, or is in a form that the runtime
    /// does not read.
    pub fn load(certificate: &Path, key: &Path) -> Result<Self, IssueError> {
        let certificates = Certificates::load(certificate)?;
        let (secret, public, warning) = details::key(key).map_err(|what| IssueError::File {
            what,
            advice: ADVICE.to_owned(),
        })?;
        let leaf = details::leaf(&certificates.chain).cloned();
        let leaf = leaf
            .filter(|leaf| leaf.public_key == public.public_key)
            .ok_or_else(|| IssueError::File {
                what: format!(
                    "the private key {} does not belong to the certificate {}",
                    key.display(),
                    certificate.display()
                ),
                advice: ADVICE.to_owned(),
            })?;
        if matches!(*secret, PrivateKeyDer::Sec1(_)) {
            return Err(IssueError::File {
                what: format!(
                    "the runtime does not read private keys in the form of {} (EC PRIVATE KEY)",
                    key.display()
                ),
                advice:
                    "`openssl pkcs8 -topk8 -nodes` writes it in one that it reads (PRIVATE KEY)"
                        .to_owned(),
            });
        }
        Ok(Self {
            certificates,
            leaf,
            key: pem_key(&secret),
            warning,
        })
    }

    /// The certificate and its intermediates.
    #[must_use]
    pub fn certificates(&self) -> &Certificates {
        &self.certificates
    }

    /// What the certificate says.
    #[must_use]
    pub fn leaf(&self) -> &Details {
        &self.leaf
    }

    /// The private key in PEM, for handing it to who needs it.
    #[must_use]
    pub fn key_pem(&self) -> &Zeroizing<String> {
        &self.key
    }

    /// A warning when others may read the key.
    #[must_use]
    pub fn warning(&self) -> Option<&CertificateWarning> {
        self.warning.as_ref()
    }

    /// Whether a client that trusts these CAs takes the server by that name at that time.
    ///
    /// # Errors
    /// Why it does not.
    pub fn check(&self, cas: &Certificates, host: &Host, now: UnixTime) -> Result<(), Refusal> {
        let ders = cas.chain.iter().map(|(der, _)| der);
        verify::server(&self.certificates.chain, ders, host, now)
    }
}

impl std::fmt::Debug for ServerIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerIdentity")
            .field("certificates", &self.certificates)
            .finish_non_exhaustive()
    }
}

const ADVICE: &str =
    "`selium cert status` tells how everything is, `selium cert renew` makes what is due or lost";
