//! What was issued.

use std::{fs, io, path::PathBuf};

use super::{
    IssueError, Layout, RUNTIME_CA, SERVER_CA,
    details::{self, Chain, Details},
    name::{Name, Role},
};
use crate::file;

/// The most names that are listed. A folder with more is another one by mistake.
pub const MAX_ENTRIES: usize = 10_000;

/// Something that was issued.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Entry {
    /// To whom.
    pub name: Name,
    /// The role, or `server` or `runtime`; nothing if the CA is not here any more.
    pub role: Option<String>,
    /// The copy of the certificate.
    pub path: PathBuf,
    /// What it says, or why it cannot be read.
    pub certificate: Result<Details, String>,
}

impl Layout {
    /// What was issued, by name.
    ///
    /// # Errors
    /// When there are no CAs, or their folder cannot be read.
    pub fn list(&self) -> Result<Vec<Entry>, IssueError> {
        let cas = self.cas()?;
        let mut entries = Vec::new();
        for name in self.names()? {
            let path = self.copy(&name);
            let chain = details::chain(&path);
            let role = chain.as_ref().ok().and_then(|chain| role_of(chain, &cas));
            let certificate = chain.and_then(|chain| {
                let first = chain.into_iter().next().map(|(_, details)| details);
                first.ok_or_else(|| "it is empty".to_owned())
            });
            entries.push(Entry {
                name,
                role,
                path,
                certificate,
            });
        }
        Ok(entries)
    }

    /// The names that something was issued to.
    fn names(&self) -> Result<Vec<Name>, IssueError> {
        let folder = self.issued();
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(IssueError::io("read", &folder)(error)),
        };
        let mut names: Vec<Name> = Vec::new();
        for entry in entries {
            let entry = entry.map_err(IssueError::io("read", &folder))?;
            let file = entry.file_name();
            let stem = file.to_str().and_then(|name| name.strip_suffix(".crt"));
            let Some(name) = stem.and_then(|stem| stem.parse().ok()) else {
                continue;
            };
            if names.len() == MAX_ENTRIES {
                return Err(IssueError::Refused(format!(
                    "{} has more than {MAX_ENTRIES} certificates: move old ones away",
                    folder.display()
                )));
            }
            names.push(name);
        }
        names.sort();
        Ok(names)
    }

    /// The certificates of all CAs that can be read, with what their files begin with.
    pub(super) fn cas(&self) -> Result<Vec<(String, Chain)>, IssueError> {
        let folder = self.authority();
        let entries = fs::read_dir(folder).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => IssueError::NoAuthority {
                directory: folder.to_owned(),
            },
            _ => IssueError::io("read", folder)(error),
        })?;
        let mut cas = Vec::new();
        for entry in entries.take(MAX_ENTRIES) {
            let entry = entry.map_err(IssueError::io("read", folder))?;
            let file = entry.file_name();
            let stem = file.to_str().and_then(|name| name.strip_suffix("-ca.crt"));
            let Some(stem) = stem.filter(|stem| is_stem(stem)) else {
                continue;
            };
            if let Ok(chain) = details::chain(&entry.path()) {
                cas.push((stem.to_owned(), chain));
            }
        }
        cas.sort_by(|(a, _), (b, _)| a.cmp(b));
        Ok(cas)
    }
}

fn is_stem(stem: &str) -> bool {
    [SERVER_CA, RUNTIME_CA].contains(&stem) || stem.parse::<Role>().is_ok()
}

/// Which CA issued a certificate, by the key identifiers.
fn role_of(chain: &Chain, cas: &[(String, Chain)]) -> Option<String> {
    let leaf = details::leaf(chain)?;
    let id = leaf.authority_key_id.as_ref()?;
    let is_issuer = |chain: &Chain| chain.iter().any(|(_, ca)| ca.key_id.as_ref() == Some(id));
    cas.iter()
        .find(|(_, chain)| is_issuer(chain))
        .map(|(stem, _)| stem.clone())
}

/// The files of a folder, by name, no more than so many.
pub(super) fn files(folder: &std::path::Path) -> Result<Vec<PathBuf>, IssueError> {
    file::check_directory(folder).map_err(|error| IssueError::file(&error, "name another one"))?;
    let entries = fs::read_dir(folder).map_err(IssueError::io("read", folder))?;
    let mut files = Vec::new();
    for entry in entries.take(MAX_ENTRIES) {
        files.push(entry.map_err(IssueError::io("read", folder))?.path());
    }
    files.sort();
    Ok(files)
}
