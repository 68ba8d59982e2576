//! Patching a provision into a module, and writing the module.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use thiserror::Error;
use wasmparser::{BinaryReaderError, Parser, Payload};
use zeroize::Zeroizing;

use crate::{
    Provision, ProvisionError, format,
    segment::{CAPACITY, MARKER},
};

/// The most bytes of a module.
pub const MAX_MODULE: usize = 64 * 1024 * 1024;

/// Why a module could not be provisioned or written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum InstallError {
    /// The file is no WASM module.
    #[error("this is no WASM module: {0}")]
    NotWasm(BinaryReaderError),
    /// The module is larger than [`MAX_MODULE`].
    #[error("the module has {0} bytes, more than {MAX_MODULE}")]
    TooLarge(usize),
    /// There is no segment in it.
    #[error(
        "this module was not built for provisioning: there is no provision segment in it; take the server module of this release"
    )]
    NoSegment,
    /// There are several in it.
    #[error(
        "this module was not built for provisioning: there are {0} provision segments in it; take the server module of this release"
    )]
    SeveralSegments(usize),
    /// The segment that is there was changed or cut off.
    #[error(
        "the provision segment of this module cannot be replaced ({0}): take a fresh copy of the server module"
    )]
    Damaged(ProvisionError),
    /// The provision cannot be written.
    #[error(transparent)]
    Provision(#[from] ProvisionError),
    /// A file cannot be written.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// Where the segment stands in a module's file, and what state it is in. It is found by its marker, so that a module that is
/// provisioned already is found too.
///
/// # Errors
/// When the file is no module, or has no segment, several, or one that is neither unprovisioned nor has a right
/// checksum.
pub fn locate(module: &[u8]) -> Result<(usize, format::State), InstallError> {
    if module.len() > MAX_MODULE {
        return Err(InstallError::TooLarge(module.len()));
    }
    let mut found = Vec::new();
    for payload in Parser::new(0).parse_all(module) {
        let Payload::DataSection(section) = payload.map_err(InstallError::NotWasm)? else {
            continue;
        };
        for entry in section {
            let entry = entry.map_err(InstallError::NotWasm)?;
            // The data stands at the end of its entry.
            let end = usize::try_from(entry.range.end).unwrap_or(usize::MAX);
            let start = end.saturating_sub(entry.data.len());
            let markers = entry.data.windows(MARKER.len()).enumerate();
            let markers = markers.filter(|(_, window)| *window == MARKER);
            found.extend(markers.map(|(at, _)| (start + at, entry.data.len() - at)));
        }
    }
    let (at, rest) = match *found.as_slice() {
        [one] => one,
        [] => return Err(InstallError::NoSegment),
        _ => return Err(InstallError::SeveralSegments(found.len())),
    };
    let bytes = module.get(at..at + rest.min(CAPACITY)).unwrap_or_default();
    let state = format::state(bytes).map_err(InstallError::Damaged)?;
    Ok((at, state))
}

/// A copy of the module with the provision in it, whether or not there was one before. Everything else stays as it is,
/// byte for byte. The copy holds the private key; it is wiped when it is dropped.
///
/// # Errors
/// As [`locate`] and [`format::encode`].
pub fn patch(module: &[u8], provision: &Provision) -> Result<Zeroizing<Vec<u8>>, InstallError> {
    let (at, _) = locate(module)?;
    let segment = format::encode(provision)?;
    let mut patched = Zeroizing::new(module.to_vec());
    let place = patched.get_mut(at..at + segment.len());
    place
        .ok_or(InstallError::NoSegment)?
        .copy_from_slice(&segment);
    Ok(patched)
}

/// The provision of a module; `None` when it has none.
///
/// # Errors
/// As [`locate`] and [`format::decode`].
pub fn extract(module: &[u8]) -> Result<Option<Provision>, InstallError> {
    let (at, _) = locate(module)?;
    let segment = module.get(at..at + CAPACITY).unwrap_or_default();
    Ok(format::decode(segment)?)
}

/// Writes a file that only its owner may read, so that it is there as a whole or not at all: into a temporary file in
/// the same folder, synced, and renamed. What stood there before is replaced; a link there is replaced itself.
///
/// # Errors
/// When the system refuses. The temporary file is removed then.
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), InstallError> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let Some(name) = path.file_name() else {
        return Err(failed(path, io::Error::from(io::ErrorKind::InvalidInput)));
    };
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    hidden.push(format!(".{}.new", std::process::id()));
    let temporary = folder.join(hidden);
    let file = create(&temporary).map_err(|source| failed(&temporary, source))?;
    let done = fill(file, bytes).and_then(|()| fs::rename(&temporary, path));
    if let Err(source) = done {
        let _ = fs::remove_file(&temporary); // The first error says more.
        return Err(failed(path, source));
    }
    sync_folder(folder).map_err(|source| failed(folder, source))
}

/// A new file, 0600 whatever the umask is. It must not be there before: it could be a link, or open elsewhere.
fn create(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    match options.open(path) {
        // Left behind by a process of the same id, which is gone.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            fs::remove_file(path)?;
            options.open(path)
        }
        other => other,
    }
}

fn fill(mut file: File, bytes: &[u8]) -> io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        file.set_permissions(fs::Permissions::from_mode(0o600))?;
    }
    file.write_all(bytes)?;
    file.sync_all()
}

/// Makes the rename last. Elsewhere folders cannot be opened.
fn sync_folder(folder: &Path) -> io::Result<()> {
    match cfg!(unix) {
        true => File::open(folder)?.sync_all(),
        false => Ok(()),
    }
}

fn failed(path: &Path, source: io::Error) -> InstallError {
    InstallError::Io {
        path: path.to_owned(),
        source,
    }
}
