//! Reading the files: sizes first, then kinds, then contents.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::Path,
};

use rustls_pki_types::{
    CertificateDer, PrivateKeyDer,
    pem::{self, PemObject, SectionKind},
};

use zeroize::Zeroizing;

use crate::{CertificateError, CertificateWarning, MAX_FILE};

/// A private key that is wiped when it is dropped.
pub(crate) type Secret = Zeroizing<PrivateKeyDer<'static>>;

/// Checks that the directory is one that can be looked into.
pub(crate) fn check_directory(path: &Path) -> Result<(), CertificateError> {
    let directory = || path.to_owned();
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => Ok(()),
        Ok(_) => Err(CertificateError::NotADirectory {
            directory: directory(),
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(CertificateError::DirectoryMissing {
                directory: directory(),
            })
        }
        Err(source) => Err(CertificateError::Unreadable {
            path: directory(),
            source,
        }),
    }
}

/// The certificates of a file, at least one.
pub(crate) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let (text, _) = read(path)?;
    let sections = sections(path, &text)?;
    let found = sections.first().map(|(kind, _)| *kind);
    let certificates: Vec<_> = sections
        .into_iter()
        .filter(|(kind, _)| *kind == SectionKind::Certificate)
        .map(|(_, der)| CertificateDer::from(der))
        .collect();
    match certificates.is_empty() {
        true => Err(lacks(path, "certificate", found)),
        false => Ok(certificates),
    }
}

/// A file without what it should hold, but perhaps with something else.
fn lacks(path: &Path, expected: &'static str, found: Option<SectionKind>) -> CertificateError {
    let path = path.to_owned();
    match found.and_then(name_of) {
        Some(found) => CertificateError::Misplaced {
            path,
            expected,
            found,
        },
        None => CertificateError::Nothing { path, expected },
    }
}

fn name_of(kind: SectionKind) -> Option<&'static str> {
    match kind {
        SectionKind::Certificate => Some("certificate"),
        SectionKind::PrivateKey | SectionKind::RsaPrivateKey | SectionKind::EcPrivateKey => {
            Some("private key")
        }
        SectionKind::PublicKey => Some("public key"),
        SectionKind::Csr => Some("certificate request"),
        _ => None,
    }
}

/// The first private key of a file, and a warning when others may read it.
pub(crate) fn private_key(
    path: &Path,
) -> Result<(Secret, Option<CertificateWarning>), CertificateError> {
    let (text, metadata) = read(path)?;
    let sections = sections(path, &text)?;
    let found = sections.first().map(|(kind, _)| *kind);
    let key = sections
        .into_iter()
        .find_map(|(kind, der)| PrivateKeyDer::from_pem(kind, der));
    match key {
        Some(key) => Ok((Zeroizing::new(key), open_to_others(path, &metadata))),
        None if contains(&text, b"ENCRYPTED") => Err(CertificateError::EncryptedKey {
            path: path.to_owned(),
        }),
        None => Err(lacks(path, "private key", found)),
    }
}

fn contains(text: &[u8], word: &[u8]) -> bool {
    text.windows(word.len()).any(|window| window == word)
}

/// The text of a file, which may hold a key.
pub(crate) fn read(path: &Path) -> Result<(Zeroizing<Vec<u8>>, fs::Metadata), CertificateError> {
    let path_of = || path.to_owned();
    let unreadable = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => CertificateError::FileMissing { path: path_of() },
        _ => CertificateError::Unreadable {
            path: path_of(),
            source,
        },
    };
    // Looked at before it is opened: opening a pipe would wait for its writer.
    if !fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(CertificateError::NotAFile { path: path_of() });
    }
    let file = File::open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    // Room for all of it from the start: a buffer that grows leaves copies behind.
    let room = usize::try_from(metadata.len().min(MAX_FILE) + 1).unwrap_or_default();
    let mut text = Zeroizing::new(Vec::with_capacity(room));
    file.take(MAX_FILE + 1)
        .read_to_end(&mut text)
        .map_err(unreadable)?;
    if text.len() as u64 > MAX_FILE {
        return Err(CertificateError::TooLarge { path: path_of() });
    }
    if text.iter().all(u8::is_ascii_whitespace) {
        return Err(CertificateError::Empty { path: path_of() });
    }
    Ok((text, metadata))
}

/// All sections of a PEM file whose kinds are known, in order.
pub(crate) fn sections(
    path: &Path,
    text: &[u8],
) -> Result<Vec<(SectionKind, Vec<u8>)>, CertificateError> {
    <(SectionKind, Vec<u8>)>::pem_slice_iter(text)
        .collect::<Result<_, _>>()
        .map_err(|error| CertificateError::Pem {
            path: path.to_owned(),
            problem: problem(&error),
        })
}

/// What is wrong with a text in PEM, in our words: the error's own may contain the line in question, which in a file
/// that lost its line breaks is the whole key.
pub(crate) fn problem(error: &pem::Error) -> &'static str {
    match error {
        pem::Error::MissingSectionEnd { .. } => {
            "the end of a section is missing, it may be cut off"
        }
        pem::Error::IllegalSectionStart { .. } => "the first line of a section is wrong",
        pem::Error::Base64Decode(_) => "a section is not base64",
        _ => "it is not PEM",
    }
}

/// A warning when a key's file may be read or written by others.
#[cfg(unix)]
pub(crate) fn open_to_others(path: &Path, metadata: &fs::Metadata) -> Option<CertificateWarning> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = metadata.permissions().mode() & 0o777;
    (mode & 0o077 != 0).then(|| CertificateWarning::KeyOpenToOthers {
        path: path.to_owned(),
        mode,
    })
}

/// Elsewhere access is not a matter of mode bits.
#[cfg(not(unix))]
pub(crate) fn open_to_others(_path: &Path, _metadata: &fs::Metadata) -> Option<CertificateWarning> {
    None
}
