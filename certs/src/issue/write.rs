//! Writing files so that no moment shows half of one.
//!
//! Files are staged first: each is written under another name in its own folder, with its final owner and mode from
//! the beginning, and brought to the disk. When all of them are there, they are renamed. Whatever fails or is
//! interrupted before that leaves every old file as it was.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use ring::rand::{SecureRandom as _, SystemRandom};

use super::{IssueError, details::hex};

/// How temporary files begin. They end with [`END`].
const BEGIN: &str = ".selium-";

/// How temporary files end.
const END: &str = ".tmp";

/// What a file holds, and so who may read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A private key: only its owner, whatever the umask is.
    Key,
    /// Certificates: everybody as far as the umask and the folder let them.
    Certificate,
}

/// What happens to a file that is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Existing {
    /// It is an error.
    Refuse,
    /// It is replaced; its owner stays, its mode becomes that of a new file.
    Replace,
    /// It is replaced; owner and mode stay.
    Renew,
}

#[derive(Debug)]
struct Staged {
    temporary: PathBuf,
    path: PathBuf,
    is_new: bool,
}

/// Files that are written together.
#[derive(Debug, Default)]
pub(super) struct Batch {
    staged: Vec<Staged>,
}

impl Batch {
    /// Writes a file under a temporary name.
    pub(super) fn stage(
        &mut self,
        path: PathBuf,
        contents: &[u8],
        kind: Kind,
        existing: Existing,
    ) -> Result<(), IssueError> {
        let old = look(&path)?;
        if old.is_some() && existing == Existing::Refuse {
            return Err(refused(vec![path]));
        }
        let temporary = temporary(&path)?;
        let file = create(&temporary, kind).map_err(IssueError::io("create", &temporary))?;
        // From here on, dropping the batch removes the file.
        self.staged.push(Staged {
            temporary: temporary.clone(),
            path,
            is_new: old.is_none(),
        });
        if let Some(old) = old {
            keep(&file, &old, existing)
                .map_err(IssueError::io("keep owner and mode for", &temporary))?;
        }
        fill(file, contents).map_err(IssueError::io("write", &temporary))
    }

    /// Puts every file in its place. When one cannot be, those before it are put back as they were.
    pub(super) fn commit(mut self) -> Result<Vec<PathBuf>, IssueError> {
        let mut placed = Vec::new();
        let mut result = Ok(());
        for file in &self.staged {
            match place(file) {
                Ok(undo) => placed.push((file.path.clone(), undo)),
                Err(error) => {
                    result = Err(error);
                    break;
                }
            }
        }
        self.staged.drain(..placed.len());
        for (path, undo) in placed.iter().rev() {
            // What cannot be tidied up has an odd name; `status` tells of it.
            let _ = match (undo, &result) {
                (Undo::Remove, Err(_)) => fs::remove_file(path),
                (Undo::Restore(old), Err(_)) => fs::rename(old, path),
                (Undo::Restore(old), Ok(())) => fs::remove_file(old),
                (Undo::Remove, Ok(())) | (Undo::Nothing, _) => Ok(()),
            };
        }
        result?;
        let mut folders: Vec<_> = placed.iter().map(|(path, _)| folder(path)).collect();
        folders.dedup();
        for folder in folders {
            sync(folder).map_err(IssueError::io("bring to the disk", folder))?;
        }
        Ok(placed.into_iter().map(|(path, _)| path).collect())
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        for file in &self.staged {
            // What is left has an odd name and the mode of a key; `status` tells of it.
            let _ = fs::remove_file(&file.temporary);
        }
    }
}

/// The error for files that are there already.
pub(super) fn refused(paths: Vec<PathBuf>) -> IssueError {
    IssueError::Exists {
        paths,
        advice: "--force replaces what is there".to_owned(),
    }
}

/// Those of the paths where something is.
pub(super) fn present<'a>(
    paths: impl IntoIterator<Item = &'a PathBuf>,
) -> Result<Vec<PathBuf>, IssueError> {
    let mut found = Vec::new();
    for path in paths {
        match fs::symlink_metadata(path) {
            Ok(_) => found.push(path.clone()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(IssueError::io("look at", path)(error)),
        }
    }
    Ok(found)
}

/// Makes a folder that only its owner may enter, and those above it.
pub(super) fn make_folder(path: &Path) -> Result<(), IssueError> {
    if path.as_os_str().is_empty() || path.is_dir() {
        return Ok(());
    }
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder
        .create(path)
        .map_err(IssueError::io("make the folder", path))
}

/// Whether a name is one of our temporary files, which only an interrupted run leaves behind.
pub(super) fn is_temporary(name: &str) -> bool {
    name.starts_with(BEGIN) && name.ends_with(END)
}

/// Waits until no other command changes the folder, and keeps others from it as long as the file lives.
pub(super) fn lock(folder: &Path) -> Result<File, IssueError> {
    let path = folder.join(".lock");
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).write(true);
    private(&mut options);
    let file = options.open(&path).map_err(IssueError::io("open", &path))?;
    match file.lock() {
        Ok(()) => Ok(file),
        // Some file systems cannot; then it is up to the user.
        Err(error) if error.kind() == io::ErrorKind::Unsupported => Ok(file),
        Err(error) => Err(IssueError::io("lock", &path)(error)),
    }
}

/// What is at the path now. Only a file may be replaced.
fn look(path: &Path) -> Result<Option<fs::Metadata>, IssueError> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_file() => Ok(Some(metadata)),
        Ok(metadata) if metadata.is_symlink() => Err(IssueError::Link {
            path: path.to_owned(),
        }),
        Ok(_) => Err(IssueError::Refused(format!(
            "{} is not a file: move it away and try again",
            path.display()
        ))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(IssueError::io("look at", path)(error)),
    }
}

fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// A name in the same folder that nobody has.
fn temporary(path: &Path) -> Result<PathBuf, IssueError> {
    let mut random = [0; 8];
    SystemRandom::new()
        .fill(&mut random)
        .map_err(|_| IssueError::Crypto("the system gives no random numbers".to_owned()))?;
    let mut name = std::ffi::OsString::from(BEGIN);
    name.push(path.file_name().unwrap_or_default());
    name.push(format!("-{}{END}", hex(&random)));
    Ok(path.with_file_name(name))
}

fn create(path: &Path, kind: Kind) -> io::Result<File> {
    let mut options = OpenOptions::new();
    // Follows no link, and takes nothing over.
    options.write(true).create_new(true);
    if kind == Kind::Key {
        private(&mut options);
    }
    #[cfg(unix)]
    if kind == Kind::Certificate {
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o644);
    }
    options.open(path)
}

#[cfg(unix)]
fn private(options: &mut OpenOptions) {
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
}

/// Elsewhere access is inherited from the folder.
#[cfg(not(unix))]
fn private(_options: &mut OpenOptions) {}

/// Gives a new file, which is still empty, the owner and the mode of the old one.
#[cfg(unix)]
fn keep(file: &File, old: &fs::Metadata, existing: Existing) -> io::Result<()> {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, fchown};
    let new = file.metadata()?;
    if (new.uid(), new.gid()) != (old.uid(), old.gid()) {
        fchown(file, Some(old.uid()), Some(old.gid()))?;
    }
    if existing == Existing::Renew {
        file.set_permissions(fs::Permissions::from_mode(old.mode() & 0o777))?;
    }
    Ok(())
}

#[cfg(not(unix))]
fn keep(_file: &File, _old: &fs::Metadata, _existing: Existing) -> io::Result<()> {
    Ok(())
}

fn fill(mut file: File, contents: &[u8]) -> io::Result<()> {
    file.write_all(contents)?;
    file.sync_all()
}

/// How to undo what was put in its place.
enum Undo {
    /// Nothing was there.
    Remove,
    /// The old file has this name now.
    Restore(PathBuf),
    /// The file system has no links, so that the old file is gone.
    Nothing,
}

fn place(file: &Staged) -> Result<Undo, IssueError> {
    let Staged {
        temporary: staged,
        path,
        is_new,
    } = file;
    if *is_new {
        // A link is made only if nothing is there, which a rename would replace.
        match fs::hard_link(staged, path) {
            Ok(()) => {
                let _ = fs::remove_file(staged);
                return Ok(Undo::Remove);
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(refused(vec![path.clone()]));
            }
            // File systems without links.
            Err(_) => {}
        }
    }
    let old = temporary(path)?;
    let undo = match is_new {
        true => Undo::Remove,
        false if fs::hard_link(path, &old).is_ok() => Undo::Restore(old),
        false => Undo::Nothing,
    };
    match fs::rename(staged, path) {
        Ok(()) => Ok(undo),
        Err(error) => {
            if let Undo::Restore(old) = undo {
                let _ = fs::remove_file(old);
            }
            Err(IssueError::io("put in its place", path)(error))
        }
    }
}

/// Brings the names in a folder to the disk.
#[cfg(unix)]
fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(not(unix))]
fn sync(_folder: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn nothing_is_there_before_all_of_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let [a, b] = ["a", "b"].map(|name| folder.path().join(name));
        fs::write(&a, "old").unwrap();
        let mut batch = Batch::default();
        batch
            .stage(a.clone(), b"new", Kind::Key, Existing::Renew)
            .unwrap();
        batch
            .stage(b.clone(), b"new", Kind::Certificate, Existing::Refuse)
            .unwrap();
        assert_eq!(fs::read(&a).unwrap(), b"old");
        assert!(!b.exists());
        assert_eq!(batch.commit().unwrap(), [a.clone(), b.clone()]);
        assert_eq!(
            (fs::read(&a).unwrap(), fs::read(&b).unwrap()),
            (b"new".to_vec(), b"new".to_vec())
        );
        assert_eq!(names(folder.path()), ["a", "b"]);
    }

    #[test]
    fn what_is_not_committed_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        fs::write(&path, "old").unwrap();
        let mut batch = Batch::default();
        batch
            .stage(path.clone(), b"new", Kind::Key, Existing::Replace)
            .unwrap();
        let staged = names(folder.path());
        assert_eq!(staged.len(), 2);
        assert!(is_temporary(&staged[0]), "{staged:?}");
        drop(batch);
        assert_eq!(names(folder.path()), ["a"]);
        assert_eq!(fs::read(&path).unwrap(), b"old");
    }

    #[test]
    fn a_failure_in_the_middle_takes_new_files_away_and_keeps_old_ones() {
        let folder = tempfile::tempdir().unwrap();
        let [new, late, old] = ["new", "late", "old"].map(|name| folder.path().join(name));
        fs::write(&old, "old").unwrap();
        let mut batch = Batch::default();
        for (path, existing) in [
            (&old, Existing::Renew),
            (&new, Existing::Refuse),
            (&late, Existing::Refuse),
        ] {
            batch
                .stage(path.clone(), b"x", Kind::Key, existing)
                .unwrap();
        }
        // Somebody else was faster.
        fs::write(&late, "theirs").unwrap();
        let error = batch.commit().unwrap_err();
        assert!(matches!(error, IssueError::Exists { .. }), "{error}");
        assert_eq!(names(folder.path()), ["late", "old"]);
        assert_eq!(fs::read(&late).unwrap(), b"theirs");
        assert_eq!(fs::read(&old).unwrap(), b"old");
    }

    #[cfg(unix)]
    #[test]
    fn modes_are_those_of_the_kind_or_of_the_old_file() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let mode = || fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        let write = |existing| {
            let mut batch = Batch::default();
            batch
                .stage(path.clone(), b"x", Kind::Key, existing)
                .unwrap();
            batch.commit().unwrap();
        };
        write(Existing::Refuse);
        assert_eq!(mode(), 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        write(Existing::Renew);
        assert_eq!(mode(), 0o640);
        write(Existing::Replace);
        assert_eq!(mode(), 0o600);
    }

    #[cfg(unix)]
    #[test]
    fn links_are_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let [link, target] = ["link", "target"].map(|name| folder.path().join(name));
        fs::write(&target, "old").unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        let error = Batch::default()
            .stage(link.clone(), b"x", Kind::Key, Existing::Replace)
            .unwrap_err();
        assert!(matches!(error, IssueError::Link { .. }), "{error}");
        assert_eq!(fs::read(&target).unwrap(), b"old");
        assert_eq!(
            present([&link, &folder.path().join("none")]).unwrap(),
            [link]
        );
    }
}
