//! Certificates of the Selium Remote Client: loading a certificate directory into rustls.
//!
//! A client's certificate directory holds three PEM files, as `selium cert init` and `selium-runtime generate-certs`
//! write them:
//!
//! | file | what |
//! | --- | --- |
//! | [`CA_FILE`] | one or more certificates; each is trusted as a root that may issue the server's |
//! | [`CLIENT_CERTIFICATE_FILE`] | the client's certificate, followed by intermediates, if there are any |
//! | [`CLIENT_KEY_FILE`] | the private key of the first of them (PKCS#8, PKCS#1 or SEC1, not encrypted) |
//!
//! The configuration that comes of it (PROTOCOL.md, "A connection's life") speaks TLS 1.3 only, through the provider
//! ring, and offers no ALPN: the runtime's listeners refuse clients that offer any.
//!
//! ```no_run
//! let directory = selium_remote_certs::CertificateDirectory::load("./certs")?;
//! for warning in directory.warnings() {
//!     eprintln!("warning: {warning}");
//! }
//! let config: rustls::ClientConfig = directory.client_config()?;
//! # Ok::<(), selium_remote_certs::CertificateError>(())
//! ```
//!
//! With the feature `issue` the crate also makes certificates and looks into them: see the module `issue`, which is
//! what `selium cert` consists of.

mod error;
mod file;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
#[cfg(feature = "issue")]
pub mod issue;
mod shown;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{ClientConfig, RootCertStore, crypto::ring, sign};
use rustls_pki_types::CertificateDer;

pub use error::{CertificateError, CertificateWarning};
pub use shown::{Moment, Purpose, ShownCertificate};

/// The file with the certificates that are trusted to issue the server's.
pub const CA_FILE: &str = "ca.crt";

/// The file with the client's certificate chain.
pub const CLIENT_CERTIFICATE_FILE: &str = "client.crt";

/// The file with the client's private key.
pub const CLIENT_KEY_FILE: &str = "client.key";

/// The most bytes of one file. Certificate files have a few KiB; a larger one is another file by mistake.
pub const MAX_FILE: u64 = 1024 * 1024;

/// A loaded certificate directory: every file is there, readable and of the right kind.
#[derive(Debug)]
pub struct CertificateDirectory {
    path: PathBuf,
    roots: Vec<CertificateDer<'static>>,
    chain: Vec<CertificateDer<'static>>,
    key: file::Secret,
    warnings: Vec<CertificateWarning>,
}

impl CertificateDirectory {
    /// Reads the directory's three files (each at most [`MAX_FILE`] bytes). This blocks on the file system.
    ///
    /// # Errors
    /// See [`CertificateError`]: what is missing, unreadable or of the wrong kind, with its exact path.
    pub fn load(path: impl Into<PathBuf>) -> Result<Self, CertificateError> {
        let path = path.into();
        file::check_directory(&path)?;
        let roots = file::certificates(&path.join(CA_FILE))?;
        let chain = file::certificates(&path.join(CLIENT_CERTIFICATE_FILE))?;
        let (key, warning) = file::private_key(&path.join(CLIENT_KEY_FILE))?;
        Ok(Self {
            path,
            roots,
            chain,
            key,
            warnings: warning.into_iter().collect(),
        })
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file whose certificates are trusted; errors about the server's certificate should name it.
    #[must_use]
    pub fn ca_path(&self) -> PathBuf {
        self.path.join(CA_FILE)
    }

    /// What is not wrong enough to refuse it, but should be put right.
    #[must_use]
    pub fn warnings(&self) -> &[CertificateWarning] {
        &self.warnings
    }

    /// What the certificate says that the client shows. It says nothing about whether a server takes it.
    #[must_use]
    pub fn shown(&self) -> ShownCertificate {
        ShownCertificate::of(&self.path.join(CLIENT_CERTIFICATE_FILE), &self.chain)
    }

    /// The configuration of a TLS client that trusts the directory's roots and shows its certificate.
    ///
    /// # Errors
    /// When a certificate or the key cannot be used, or the key does not belong to the certificate.
    pub fn client_config(&self) -> Result<ClientConfig, CertificateError> {
        let mut roots = RootCertStore::empty();
        for root in &self.roots {
            roots
                .add(root.clone())
                .map_err(|source| CertificateError::Certificate {
                    path: self.ca_path(),
                    source,
                })?;
        }
        let identity = Arc::new(sign::SingleCertAndKey::from(self.certified_key()?));
        ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|source| CertificateError::Tls {
                directory: self.path.clone(),
                source,
            })
            .map(|builder| {
                builder
                    .with_root_certificates(roots)
                    .with_client_cert_resolver(identity)
            })
    }

    /// The client's chain with its key, checked against each other.
    fn certified_key(&self) -> Result<sign::CertifiedKey, CertificateError> {
        let key =
            ring::sign::any_supported_type(&self.key).map_err(|source| CertificateError::Key {
                path: self.path.join(CLIENT_KEY_FILE),
                source,
            })?;
        let identity = sign::CertifiedKey::new(self.chain.clone(), key);
        match identity.keys_match() {
            Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {
                Ok(identity)
            }
            Err(rustls::Error::InconsistentKeys(_)) if self.is_swapped(&identity) => {
                Err(CertificateError::Swapped {
                    directory: self.path.clone(),
                })
            }
            Err(rustls::Error::InconsistentKeys(_)) => Err(CertificateError::KeyMismatch {
                directory: self.path.clone(),
            }),
            Err(source) => Err(CertificateError::Certificate {
                path: self.path.join(CLIENT_CERTIFICATE_FILE),
                source,
            }),
        }
    }

    /// Whether the key is of what stands in the file of the CAs.
    fn is_swapped(&self, identity: &sign::CertifiedKey) -> bool {
        self.roots.first().is_some_and(|root| {
            sign::CertifiedKey::new(vec![root.clone()], Arc::clone(&identity.key))
                .keys_match()
                .is_ok()
        })
    }
}

/// Loads a directory and makes the configuration of a TLS client of it, leaving warnings out.
///
/// # Errors
/// As [`CertificateDirectory::load`] and [`CertificateDirectory::client_config`].
pub fn client_config(path: impl Into<PathBuf>) -> Result<ClientConfig, CertificateError> {
    CertificateDirectory::load(path)?.client_config()
}
