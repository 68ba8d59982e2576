//! From roles to listeners: reading the CAs, and comparing them.

use std::{
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use super::{MAX_POLICY, PolicyError, PolicyFile, RoleEntry};
use crate::{
    Listener, MAX_CA_PEM,
    trust::{self, TrustError},
};

impl PolicyFile {
    /// Reads a policy file. This blocks on the file system.
    ///
    /// # Errors
    /// When the file cannot be read, or as [`PolicyFile::parse`].
    pub fn load(path: &Path) -> Result<Self, PolicyError> {
        let failed = |error: io::Error| PolicyError::new(path, None, error.to_string());
        let bytes = read(path, MAX_POLICY).map_err(failed)?;
        let text = String::from_utf8(bytes).map_err(|error| {
            let position = error.utf8_error().valid_up_to();
            let lossy = String::from_utf8_lossy(error.as_bytes());
            let position = super::Position::of(&lossy, position);
            PolicyError::new(path, Some(position), "this is not UTF-8 text".to_owned())
        })?;
        Self::parse(path, &text)
    }

    /// The listeners, with their CAs, in the order of the roles. `usual` is the folder of the files `clients-ROLE.crt`
    /// for roles that name none; `server_chain` and `server_ca` are as in [`trust::check`]. This blocks on the file
    /// system.
    ///
    /// # Errors
    /// When a file cannot be read or has a private key in it, or as [`trust::check`]; each with the place in the policy
    /// that names the file.
    pub fn listeners(
        &self,
        usual: &Path,
        server_chain: &[u8],
        server_ca: &[u8],
    ) -> Result<Vec<Listener>, PolicyError> {
        let listeners = self.roles.iter().map(|entry| self.listener(entry, usual));
        let listeners: Vec<_> = listeners.collect::<Result<_, _>>()?;
        match trust::check(&listeners, server_chain, server_ca) {
            Ok(()) => Ok(listeners),
            Err(error) => Err(self.untrusted(&error)),
        }
    }

    fn untrusted(&self, error: &TrustError) -> PolicyError {
        let role = error.role();
        let mut entries = self.roles.iter();
        let entry = entries.find(|it| Some(it.role.name.as_str()) == role);
        let position = entry.map(|it| it.client_ca_at);
        PolicyError::new(&self.path, position, error.to_string())
    }

    fn listener(&self, entry: &RoleEntry, usual: &Path) -> Result<Listener, PolicyError> {
        let name = &entry.role.name;
        let folder = self.path.parent().unwrap_or(Path::new(""));
        let mut files: Vec<PathBuf> = entry.client_ca.iter().map(|it| folder.join(it)).collect();
        if files.is_empty() {
            files.push(usual.join(format!("clients-{name}.crt")));
        }
        let error = |message| PolicyError::new(&self.path, Some(entry.client_ca_at), message);
        let mut client_ca = Vec::new();
        for file in files {
            let shown = file.display();
            let pem = read(&file, MAX_CA_PEM).map_err(|source| {
                error(format!(
                    "the client CA of the role {name} cannot be read from {shown}: {source}; \
                     `selium cert issue NAME --role {name}` makes one, or write where it is: client-ca = \"FILE\""
                ))
            })?;
            if pem.windows(11).any(|window| window == b"PRIVATE KEY") {
                return Err(error(format!(
                    "{shown} has a private key in it: give a file with the certificates of CAs only"
                )));
            }
            client_ca.extend_from_slice(&pem);
            if !client_ca.ends_with(b"\n") {
                client_ca.push(b'\n');
            }
        }
        if client_ca.len() > MAX_CA_PEM {
            let message =
                format!("the client CAs of the role {name} have more than {MAX_CA_PEM} bytes");
            return Err(error(message));
        }
        Ok(Listener {
            role: entry.role.clone(),
            port: entry.port,
            client_ca,
        })
    }
}

/// A file that is not longer than that.
fn read(path: &Path, limit: usize) -> io::Result<Vec<u8>> {
    // Looked at before it is opened: opening a pipe would wait for its writer.
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::other("this is not a file"));
    }
    let mut bytes = Vec::new();
    let most = u64::try_from(limit).unwrap_or(u64::MAX);
    File::open(path)?
        .take(most.saturating_add(1))
        .read_to_end(&mut bytes)?;
    if bytes.len() > limit {
        return Err(io::Error::other(format!("it has more than {limit} bytes")));
    }
    Ok(bytes)
}
