//! What can be wrong with a certificate directory.

use std::{
    io,
    path::{Path, PathBuf},
};

use thiserror::Error;

use crate::{CA_FILE, CLIENT_CERTIFICATE_FILE, CLIENT_KEY_FILE, MAX_FILE};

/// The sentence that follows every error: what should be there, and the command that makes it.
fn remedy(directory: &Path) -> String {
    let directory = match directory.as_os_str().is_empty() {
        true => Path::new("."),
        false => directory,
    };
    format!(
        "expected are {CA_FILE}, {CLIENT_CERTIFICATE_FILE} and {CLIENT_KEY_FILE} (PEM) in {0}; \
         `selium-runtime generate-certs --output-dir {0}` makes them",
        directory.display()
    )
}

fn remedy_of(file: &Path) -> String {
    remedy(file.parent().unwrap_or(Path::new(".")))
}

/// Why a certificate directory cannot be used. Every text names the exact path, the files that are expected and the
/// command that makes them.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// There is no such directory.
    #[error("there is no certificate directory {}: {}", directory.display(), remedy(directory))]
    DirectoryMissing {
        /// Where it should be.
        directory: PathBuf,
    },
    /// It is something else.
    #[error("{} is not a directory: {}", directory.display(), remedy(directory))]
    NotADirectory {
        /// Its path.
        directory: PathBuf,
    },
    /// A file is missing.
    #[error("the file {} is missing: {}", path.display(), remedy_of(path))]
    FileMissing {
        /// Where it should be.
        path: PathBuf,
    },
    /// It is a directory, a pipe or another thing that is not a file.
    #[error("{} is not a file: {}", path.display(), remedy_of(path))]
    NotAFile {
        /// Its path.
        path: PathBuf,
    },
    /// A file or the directory cannot be read.
    #[error(
        "{} cannot be read; check its owner and mode (the user who runs this must be able to read it): {}",
        path.display(), remedy_of(path)
    )]
    Unreadable {
        /// Its path.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A file is larger than [`MAX_FILE`] bytes.
    #[error("{} is larger than {MAX_FILE} bytes, it is no certificate file: {}", path.display(), remedy_of(path))]
    TooLarge {
        /// Its path.
        path: PathBuf,
    },
    /// A file is empty.
    #[error("{} is empty: {}", path.display(), remedy_of(path))]
    Empty {
        /// Its path.
        path: PathBuf,
    },
    /// A file has nothing of what it should hold.
    #[error("{} has no {expected} in PEM in it: {}", path.display(), remedy_of(path))]
    Nothing {
        /// Its path.
        path: PathBuf,
        /// What it should hold.
        expected: &'static str,
    },
    /// A file's PEM is damaged.
    #[error("the PEM in {} is damaged: {}", path.display(), remedy_of(path))]
    Pem {
        /// Its path.
        path: PathBuf,
        /// Where it is damaged.
        source: rustls_pki_types::pem::Error,
    },
    /// The private key is encrypted.
    #[error(
        "the private key in {} is encrypted, which is not supported; `openssl pkey -in <encrypted> -out {}` decrypts it",
        path.display(), path.display()
    )]
    EncryptedKey {
        /// Its path.
        path: PathBuf,
    },
    /// A certificate's contents cannot be used.
    #[error("a certificate in {} cannot be used: {}", path.display(), remedy_of(path))]
    Certificate {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: rustls::Error,
    },
    /// The private key's contents cannot be used.
    #[error("the private key in {} cannot be used: {}", path.display(), remedy_of(path))]
    Key {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: rustls::Error,
    },
    /// The key is not the certificate's.
    #[error(
        "the private key {} does not belong to the certificate {}: {}",
        directory.join(CLIENT_KEY_FILE).display(),
        directory.join(CLIENT_CERTIFICATE_FILE).display(),
        remedy(directory)
    )]
    KeyMismatch {
        /// The directory of both.
        directory: PathBuf,
    },
    /// rustls refuses the configuration as a whole.
    #[error("no TLS configuration can be made of {}: {}", directory.display(), remedy(directory))]
    Tls {
        /// The directory.
        directory: PathBuf,
        /// Why.
        source: rustls::Error,
    },
}

/// What should be put right in a certificate directory that can be used nevertheless.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CertificateWarning {
    /// Other users may read or change the private key.
    #[error("other users may use the private key {} (mode {mode:03o}); `chmod 600 {}` protects it", path.display(), path.display())]
    KeyOpenToOthers {
        /// The key's path.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
}
