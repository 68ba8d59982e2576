//! The cache folder outside of the clone, where everything is kept that takes long to make.
//!
//! ```text
//! $XDG_CACHE_HOME/selium-remote/          (else $HOME/.cache/selium-remote/)
//!     selium-runtime-VERSION/             the stock runtime, installed once
//!     selium-runtime-target/              cargo's target folder of that installation, until it is done
//!     wasm-target-RUSTC/                  cargo's target folder of the server module
//!     guests-target-RUSTC/                cargo's target folder of the guests
//!     cargo-fuzz-VERSION/                 the fuzzer, installed once
//!     interop-venv-PYTHON-HASH            Python's packages for interop/
//!     rustup-target-add-failed-RUSTC      remembers that rustup could not fetch the WASM target
//!     *.lock                              one at a time
//! ```
//!
//! It can be deleted at any time; the next run makes it again.

use std::ffi::OsString;
use std::fs::{self, File, TryLockError};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::ui;

/// The cache folder.
#[derive(Debug)]
pub(crate) struct Cache {
    root: PathBuf,
}

/// Held while it lives; the system lets go of it when we end, however we end.
#[derive(Debug)]
#[must_use]
pub(crate) struct Lock {
    _file: File,
}

impl Cache {
    /// Finds the folder and makes it if need be.
    pub(crate) fn open() -> Result<Self> {
        let root = locate(std::env::var_os("XDG_CACHE_HOME"), std::env::var_os("HOME"))
            .context("no cache folder: set HOME or XDG_CACHE_HOME to an absolute path")?;
        fs::create_dir_all(&root).with_context(|| format!("cannot make {}", root.display()))?;
        Ok(Self { root })
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Waits until no other run holds the lock of that name.
    pub(crate) fn lock(&self, name: &str) -> Result<Lock> {
        let path = self.path(&format!("{name}.lock"));
        let cannot = || format!("cannot lock {}", path.display());
        let file = File::create(&path).with_context(cannot)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                ui::say(&format!("waiting for another run of cargo xtask ({name})"));
                file.lock().with_context(cannot)?;
            }
            Err(TryLockError::Error(error)) => return Err(error).with_context(cannot),
        }
        Ok(Lock { _file: file })
    }
}

/// Puts a file in place whole or not at all, so that no reader sees half of it.
pub(crate) fn copy_whole(from: &Path, to: &Path) -> Result<u64> {
    let folder = to.parent().context("a file needs a folder")?;
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let cannot = || format!("cannot copy {} to {}", from.display(), to.display());
    let mut source = File::open(from).with_context(cannot)?;
    // Temporary files are private by default; what is copied here is not secret.
    let mut fresh = tempfile::Builder::new()
        .permissions(fs::Permissions::from_mode(0o666))
        .tempfile_in(folder)
        .with_context(cannot)?;
    let bytes = std::io::copy(&mut source, &mut fresh).with_context(cannot)?;
    fresh.persist(to).with_context(cannot)?;
    Ok(bytes)
}

/// The XDG base directory specification says that a path that is not absolute is to be ignored.
fn locate(xdg_cache_home: Option<OsString>, home: Option<OsString>) -> Option<PathBuf> {
    let absolute = |value: OsString| Some(PathBuf::from(value)).filter(|path| path.is_absolute());
    xdg_cache_home
        .and_then(absolute)
        .or_else(|| Some(home.and_then(absolute)?.join(".cache")))
        .map(|base| base.join("selium-remote"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn located(xdg: Option<&str>, home: Option<&str>) -> Option<PathBuf> {
        locate(xdg.map(OsString::from), home.map(OsString::from))
    }

    #[test]
    fn the_folder_follows_the_xdg_specification() {
        let expected = |path: &str| Some(PathBuf::from(path));
        assert_eq!(
            located(Some("/c"), Some("/h")),
            expected("/c/selium-remote")
        );
        assert_eq!(
            located(None, Some("/h")),
            expected("/h/.cache/selium-remote")
        );
        assert_eq!(
            located(Some("relative"), Some("/h")),
            expected("/h/.cache/selium-remote")
        );
        assert_eq!(
            located(Some(""), Some("/h")),
            expected("/h/.cache/selium-remote")
        );
        assert_eq!(located(None, None), None);
    }

    #[test]
    fn a_lock_is_held_until_it_is_dropped() {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = Cache {
            root: folder.path().to_owned(),
        };
        let first = cache.lock("x").expect("free");
        let other = File::create(cache.path("x.lock")).expect("opens");
        assert!(matches!(other.try_lock(), Err(TryLockError::WouldBlock)));
        drop(first);
        assert!(other.try_lock().is_ok());
    }

    #[test]
    fn a_copy_replaces_what_was_there_and_leaves_nothing_else() {
        let folder = tempfile::tempdir().expect("a folder");
        let (from, to) = (folder.path().join("from"), folder.path().join("sub/to"));
        fs::write(&from, "one").expect("writes");
        assert_eq!(copy_whole(&from, &to).expect("copies"), 3);
        fs::write(&from, "three").expect("writes");
        assert_eq!(copy_whole(&from, &to).expect("copies"), 5);
        assert_eq!(fs::read_to_string(&to).expect("reads"), "three");
        let files = fs::read_dir(folder.path().join("sub")).expect("lists");
        assert_eq!(files.count(), 1);
    }
}
