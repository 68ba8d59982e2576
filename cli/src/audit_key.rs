//! The key of the audit log as a file: 64 hexadecimal digits and a newline. Nothing of it is ever shown.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::Path;

use selium_remote_provision::{AUDIT_KEY, AuditKey, install};
use zeroize::Zeroizing;

/// Its name in the control plane's folder.
pub(crate) const AUDIT_KEY_FILE: &str = "audit.key";

/// The hexadecimal digits of a key.
const DIGITS: usize = 2 * AUDIT_KEY;

/// More bytes than the file can have, with any end of line.
const MAX_FILE: usize = DIGITS + 3;

/// A key that was found.
pub(crate) struct Found {
    pub(crate) key: AuditKey,
    /// That others may read it.
    pub(crate) warning: Option<String>,
}

/// Reads a key; `None` if there is no such file.
///
/// # Errors
/// When the file cannot be read or is no key.
pub(crate) fn load(path: &Path) -> Result<Option<Found>, String> {
    let shown = path.display();
    let failed = |error: io::Error| format!("the audit key {shown} cannot be read: {error}");
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    // Looked at before it is opened: opening a pipe would wait for its writer.
    if !metadata.is_file() {
        return Err(failed(io::Error::other("this is not a file")));
    }
    // Room for all of it from the start: a buffer that grows leaves copies behind.
    let mut text = Zeroizing::new(Vec::with_capacity(MAX_FILE));
    let file = File::open(path).map_err(failed)?;
    let most = u64::try_from(MAX_FILE).unwrap_or(u64::MAX);
    file.take(most).read_to_end(&mut text).map_err(failed)?;
    let key = parse(&text).ok_or_else(|| {
        format!(
            "{shown} is no audit key, which is {DIGITS} hexadecimal digits and a newline: put it back from a copy. Without \
             one, move it away, and `selium server install` makes another; logs of the lost key cannot be checked any more"
        )
    })?;
    Ok(Some(Found {
        key,
        warning: open_to_others(path, &metadata),
    }))
}

fn parse(text: &[u8]) -> Option<AuditKey> {
    let digits = text.strip_suffix(b"\n").unwrap_or(text);
    let digits = digits.strip_suffix(b"\r").unwrap_or(digits);
    if digits.len() != DIGITS {
        return None;
    }
    let mut key = Zeroizing::new([0_u8; AUDIT_KEY]);
    for (byte, pair) in key.iter_mut().zip(digits.chunks_exact(2)) {
        for digit in pair {
            let value = char::from(*digit).to_digit(16)?;
            *byte = *byte << 4 | u8::try_from(value).ok()?;
        }
    }
    Some(AuditKey::new(*key))
}

/// A key that nobody has.
///
/// # Errors
/// When the system gives no random numbers.
pub(crate) fn generate() -> Result<AuditKey, String> {
    let mut key = Zeroizing::new([0_u8; AUDIT_KEY]);
    getrandom::fill(&mut *key)
        .map_err(|error| format!("the system gives no random numbers: {error}"))?;
    Ok(AuditKey::new(*key))
}

/// Writes a key where there is none, 0600 in a folder 0700: as a whole or not at all.
///
/// # Errors
/// When the system refuses, or there is one.
pub(crate) fn write_new(path: &Path, key: &AuditKey) -> Result<(), String> {
    let folder = path.parent().unwrap_or(Path::new(""));
    make_folder(folder)?;
    let mut text = Zeroizing::new(Vec::with_capacity(MAX_FILE));
    for byte in key.expose() {
        for half in [byte >> 4, byte & 15] {
            let digit = char::from_digit(u32::from(half), 16).unwrap_or_default();
            text.push(u8::try_from(digit).unwrap_or_default());
        }
    }
    text.push(b'\n');
    let temporary = folder.join(format!(".{AUDIT_KEY_FILE}.{}.tmp", std::process::id()));
    install::write(&temporary, &text).map_err(|error| error.to_string())?;
    // A link is made only if nothing is there, which a rename would replace.
    let linked = fs::hard_link(&temporary, path);
    let placed = match &linked {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => linked,
        // File systems without links.
        Err(_) => fs::rename(&temporary, path),
        Ok(()) => linked,
    };
    // After a rename it is gone already.
    let _ = fs::remove_file(&temporary);
    let shown = path.display();
    placed.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => format!(
            "cannot make the audit key {shown}: another command made it meanwhile: try again"
        ),
        _ => format!("cannot make the audit key {shown}: {error}"),
    })
}

/// Makes a folder that only its owner may enter, and those above it.
///
/// # Errors
/// When the system refuses.
pub(crate) fn make_folder(path: &Path) -> Result<(), String> {
    if path.as_os_str().is_empty() || path.is_dir() {
        return Ok(());
    }
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder
        .create(path)
        .map_err(|error| format!("cannot make the folder {}: {error}", path.display()))
}

/// A warning when others may read or change the key.
#[cfg(unix)]
fn open_to_others(path: &Path, metadata: &fs::Metadata) -> Option<String> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = metadata.permissions().mode() & 0o777;
    (mode & 0o077 != 0).then(|| {
        let shown = path.display();
        format!(
            "other users may use the audit key {shown} (mode {mode:03o}), and so write audit records that are taken for the \
             server's; `chmod 600 {shown}` protects it"
        )
    })
}

/// Elsewhere access is not a matter of mode bits.
#[cfg(not(unix))]
fn open_to_others(_path: &Path, _metadata: &fs::Metadata) -> Option<String> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new").join(AUDIT_KEY_FILE);
        assert!(load(&path).unwrap().is_none());
        let key = generate().unwrap();
        assert_ne!(key, generate().unwrap());
        write_new(&path, &key).unwrap();
        let found = load(&path).unwrap().unwrap();
        assert!(found.key == key && found.warning.is_none());
        assert_eq!(fs::read(&path).unwrap().len(), 65);
        // It is never replaced, and nothing is left beside it.
        let error = write_new(&path, &generate().unwrap()).unwrap_err();
        assert!(error.contains("cannot make the audit key"), "{error}");
        assert!(load(&path).unwrap().unwrap().key == key);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn ends_of_lines_and_cases_do_not_matter_and_all_else_does() {
        let digits = "0123456789abcdef".repeat(4);
        let key = parse(digits.as_bytes()).unwrap();
        assert_eq!(key.expose()[..3], [0x01, 0x23, 0x45]);
        for text in [
            format!("{digits}\n"),
            format!("{digits}\r\n"),
            digits.to_uppercase(),
        ] {
            assert_eq!(parse(text.as_bytes()), Some(key.clone()));
        }
        for text in [
            String::new(),
            "\n".to_owned(),
            digits[1..].to_owned(),
            format!("{digits}0"),
            format!("{digits}\n\n"),
            format!(" {}", &digits[1..]),
            format!("{}g", &digits[1..]),
            format!("+{}", &digits[1..]),
        ] {
            assert_eq!(parse(text.as_bytes()), None, "{text:?}");
        }
    }
}
