//! Why something could not be issued, renewed or imported.

use std::{
    io,
    path::{Path, PathBuf},
};

use thiserror::Error;

use crate::CertificateError;

/// Why an operation failed. Every text says what, where, and what to do next; none contains anything of a key.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum IssueError {
    /// A name that cannot be one.
    #[error("{0}")]
    Name(#[from] super::NameError),
    /// Something is there already.
    #[error("{}; nothing was changed ({advice})", exists(paths))]
    Exists {
        /// What is there.
        paths: Vec<PathBuf>,
        /// What to do.
        advice: String,
    },
    /// The system refused something.
    #[error("cannot {what} {}: {source}", path.display())]
    Io {
        /// What was to be done.
        what: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A link stands where a file is to be replaced.
    #[error(
        "{} is a symbolic link; a file that it leads to is not replaced: name the real folder, or remove the link",
        path.display()
    )]
    Link {
        /// The link.
        path: PathBuf,
    },
    /// There are no CAs.
    #[error(
        "there is no certificate authority in {}: `selium cert init` makes one; if it was moved away, say where it is \
         with --authority DIR",
        directory.display()
    )]
    NoAuthority {
        /// Where it should be.
        directory: PathBuf,
    },
    /// A CA cannot be used.
    #[error("the CA {} cannot be used: {why}", path.display())]
    Authority {
        /// Its certificate.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// A file cannot be read or understood.
    #[error("{what}; {advice}")]
    File {
        /// What is wrong, with the path.
        what: String,
        /// What to do.
        advice: String,
    },
    /// Nobody of that name was issued anything.
    #[error(
        "nothing was issued to {name:?}: `selium cert list` shows the names, `selium cert issue {name}` makes one"
    )]
    Unknown {
        /// The name.
        name: String,
    },
    /// What the command is about cannot be done.
    #[error("{0}")]
    Refused(String),
    /// The provider of cryptography refused.
    #[error("cannot make a certificate: {0}")]
    Crypto(String),
}

impl IssueError {
    pub(super) fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { what, path, source }
    }

    pub(super) fn file(error: &CertificateError, advice: impl Into<String>) -> Self {
        Self::File {
            what: fact(error),
            advice: advice.into(),
        }
    }
}

/// What is wrong with a file, with the cause.
pub(super) fn fact(error: &CertificateError) -> String {
    let cause = std::error::Error::source(error);
    cause.map_or_else(
        || error.fact(),
        |cause| format!("{} ({cause})", error.fact()),
    )
}

impl From<rcgen::Error> for IssueError {
    fn from(error: rcgen::Error) -> Self {
        // The errors of rcgen name kinds, never contents of keys.
        Self::Crypto(error.to_string())
    }
}

/// The first of some paths, and how many more there are.
fn exists(paths: &[PathBuf]) -> String {
    let first = paths.first().map(|path| path.display().to_string());
    let first = first.unwrap_or_default();
    match paths.len() {
        0 | 1 => format!("{first} already exists"),
        2 => format!("{first} and 1 more file already exist"),
        more => format!("{first} and {} more files already exist", more - 1),
    }
}
