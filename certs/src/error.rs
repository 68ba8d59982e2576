//! What can be wrong with a certificate directory.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use thiserror::Error;

use crate::{CA_FILE, CLIENT_CERTIFICATE_FILE, CLIENT_KEY_FILE, MAX_FILE};

/// The sentence that follows every error: what should be there, and the commands that make it.
fn remedy(directory: &Path) -> String {
    let directory = match directory.as_os_str().is_empty() {
        true => Path::new("."),
        false => directory,
    };
    format!(
        "expected are {CA_FILE}, {CLIENT_CERTIFICATE_FILE} and {CLIENT_KEY_FILE} (PEM) in {0}; \
         `selium cert init` or `issue` makes them, `selium cert import` takes in those that you were sent, and \
         `selium-runtime generate-certs --output-dir {0}` makes them for a server without client authentication",
        directory.display()
    )
}

fn remedy_of(file: &Path) -> String {
    remedy(file.parent().unwrap_or(Path::new(".")))
}

/// Why a certificate directory cannot be used. Every text names the exact path, the files that are expected and the
/// commands that make them; none contains anything of a file.
#[derive(Debug)]
#[non_exhaustive]
pub enum CertificateError {
    /// There is no such directory.
    DirectoryMissing {
        /// Where it should be.
        directory: PathBuf,
    },
    /// It is something else.
    NotADirectory {
        /// Its path.
        directory: PathBuf,
    },
    /// A file is missing.
    FileMissing {
        /// Where it should be.
        path: PathBuf,
    },
    /// It is a directory, a pipe or another thing that is not a file.
    NotAFile {
        /// Its path.
        path: PathBuf,
    },
    /// A file or the directory cannot be read.
    Unreadable {
        /// Its path.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A file is larger than [`MAX_FILE`] bytes.
    TooLarge {
        /// Its path.
        path: PathBuf,
    },
    /// A file is empty.
    Empty {
        /// Its path.
        path: PathBuf,
    },
    /// A file has nothing of what it should hold.
    Nothing {
        /// Its path.
        path: PathBuf,
        /// What it should hold.
        expected: &'static str,
    },
    /// A file has something else than it should hold.
    Misplaced {
        /// Its path.
        path: PathBuf,
        /// What it should hold.
        expected: &'static str,
        /// What it holds.
        found: &'static str,
    },
    /// A file's PEM is damaged.
    Pem {
        /// Its path.
        path: PathBuf,
        /// How.
        problem: &'static str,
    },
    /// The private key is encrypted.
    EncryptedKey {
        /// Its path.
        path: PathBuf,
    },
    /// A certificate's contents cannot be used.
    Certificate {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: rustls::Error,
    },
    /// The private key's contents cannot be used.
    Key {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: rustls::Error,
    },
    /// The key is not the certificate's.
    KeyMismatch {
        /// The directory of both.
        directory: PathBuf,
    },
    /// The key is the CA's certificate's: the files of the two certificates are swapped.
    Swapped {
        /// The directory of all.
        directory: PathBuf,
    },
    /// rustls refuses the configuration as a whole.
    Tls {
        /// The directory.
        directory: PathBuf,
        /// Why.
        source: rustls::Error,
    },
}

impl CertificateError {
    /// What is wrong, without what to do about it.
    #[must_use]
    pub fn fact(&self) -> String {
        match self {
            Self::DirectoryMissing { directory } => {
                format!("there is no certificate directory {}", directory.display())
            }
            Self::NotADirectory { directory } => {
                format!("{} is not a directory", directory.display())
            }
            Self::FileMissing { path } => format!("the file {} is missing", path.display()),
            Self::NotAFile { path } => format!("{} is not a file", path.display()),
            Self::Unreadable { path, .. } => format!(
                "{} cannot be read; check its owner and mode (the user who runs this must be able to read it)",
                path.display()
            ),
            Self::TooLarge { path } => format!(
                "{} is larger than {MAX_FILE} bytes, it is no certificate file",
                path.display()
            ),
            Self::Empty { path } => format!("{} is empty", path.display()),
            Self::Nothing { path, expected } => {
                format!("{} has no {expected} in PEM in it", path.display())
            }
            Self::Misplaced {
                path,
                expected,
                found,
            } => format!(
                "{} holds a {found} instead of a {expected}; it may be swapped with another file",
                path.display()
            ),
            Self::Pem { path, problem } => {
                format!("the PEM in {} is damaged ({problem})", path.display())
            }
            Self::EncryptedKey { path } => format!(
                "the private key in {} is encrypted, which is not supported",
                path.display()
            ),
            Self::Certificate { path, .. } => {
                format!("a certificate in {} cannot be used", path.display())
            }
            Self::Key { path, .. } => {
                format!("the private key in {} cannot be used", path.display())
            }
            Self::KeyMismatch { directory } => format!(
                "the private key {} does not belong to the certificate {}",
                directory.join(CLIENT_KEY_FILE).display(),
                directory.join(CLIENT_CERTIFICATE_FILE).display()
            ),
            Self::Swapped { directory } => format!(
                "the private key {} belongs to the certificate in {CA_FILE}: {} and {CA_FILE} are swapped",
                directory.join(CLIENT_KEY_FILE).display(),
                directory.join(CLIENT_CERTIFICATE_FILE).display()
            ),
            Self::Tls { directory, .. } => {
                format!(
                    "no TLS configuration can be made of {}",
                    directory.display()
                )
            }
        }
    }

    /// What to do about it in a client's directory.
    fn remedy(&self) -> String {
        match self {
            Self::DirectoryMissing { directory }
            | Self::NotADirectory { directory }
            | Self::KeyMismatch { directory }
            | Self::Swapped { directory }
            | Self::Tls { directory, .. } => remedy(directory),
            Self::EncryptedKey { path } => format!(
                "`openssl pkey -in <encrypted> -out {}` decrypts it",
                path.display()
            ),
            Self::FileMissing { path }
            | Self::NotAFile { path }
            | Self::Unreadable { path, .. }
            | Self::TooLarge { path }
            | Self::Empty { path }
            | Self::Nothing { path, .. }
            | Self::Misplaced { path, .. }
            | Self::Pem { path, .. }
            | Self::Certificate { path, .. }
            | Self::Key { path, .. } => remedy_of(path),
        }
    }
}

impl fmt::Display for CertificateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let between = match self {
            Self::EncryptedKey { .. } => "; ",
            _ => ": ",
        };
        write!(f, "{}{between}{}", self.fact(), self.remedy())
    }
}

impl std::error::Error for CertificateError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unreadable { source, .. } => Some(source),
            Self::Certificate { source, .. }
            | Self::Key { source, .. }
            | Self::Tls { source, .. } => Some(source),
            _ => None,
        }
    }
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
