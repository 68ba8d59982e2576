//! Making everything, and making something for somebody.

use std::path::{Path, PathBuf};

use rustls_pki_types::UnixTime;

use super::{
    IssueError, Layout, Outcome, RUNTIME_CA, SERVER_CA, SERVER_CERTIFICATE_FILE, SERVER_KEY_FILE,
    authority::{self, Ca, DEFAULT_DAYS, Issued, NewKey, Use},
    name::{Host, Name, Role},
    write::{self, Batch, Existing, Kind},
};
use crate::{CA_FILE, CLIENT_CERTIFICATE_FILE, CLIENT_KEY_FILE};

/// What [`Layout::init`] is to make.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Init {
    /// The names of the server, beside those of this machine.
    pub hosts: Vec<Host>,
    /// Whom the first client is issued to.
    pub name: Name,
    /// How long certificates live, in days.
    pub days: u32,
    /// Whether to replace what is there.
    pub force: bool,
}

impl Default for Init {
    fn default() -> Self {
        Self {
            hosts: Vec::new(),
            name: Name::admin(),
            days: DEFAULT_DAYS,
            force: false,
        }
    }
}

/// What [`Layout::issue`] is to make.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Issue {
    /// For whom.
    pub name: Name,
    /// What they may do.
    pub role: Role,
    /// How long it lives, in days.
    pub days: u32,
    /// Where to put it, instead of [`Layout::client`].
    pub out: Option<PathBuf>,
    /// Whether to replace what is there.
    pub force: bool,
}

impl Issue {
    /// For somebody, as an admin.
    #[must_use]
    pub fn new(name: Name) -> Self {
        Self {
            name,
            role: Role::admin(),
            days: DEFAULT_DAYS,
            out: None,
            force: false,
        }
    }
}

impl Layout {
    /// Makes the CAs, the server's certificate, the runtime's and the first client's.
    ///
    /// # Errors
    /// When something of it is there already (nothing was changed then), or a file cannot be written.
    pub fn init(&self, init: &Init, now: UnixTime) -> Result<Outcome, IssueError> {
        refuse_reserved(&init.name)?;
        let existing = existing(init.force);
        let paths = self.of_init(&init.name);
        let check = || refuse_present(&paths, existing);
        check()?;
        let admin = Role::admin();
        for folder in [
            &self.issued(),
            &self.control_plane(),
            &self.certs().to_owned(),
        ] {
            write::make_folder(folder)?;
        }
        let _lock = write::lock(self.authority())?;
        check()?;

        let mut batch = Batch::default();
        let mut outcome = Outcome::default();
        let mut create = |batch: &mut Batch, stem: &str, what: &str| {
            let (ca, key) = Ca::create(what, now)?;
            stage_ca(batch, self.authority(), stem, &ca, &key, existing)?;
            outcome.certificates.push(ca.details.clone());
            Ok::<_, IssueError>(ca)
        };
        let server_ca = create(&mut batch, SERVER_CA, "control-plane server")?;
        let runtime_ca = create(&mut batch, RUNTIME_CA, "runtime")?;
        let client_ca = create(&mut batch, admin.as_str(), "admin")?;

        let hosts = authority::with_local(&init.hosts);
        let mut issue =
            |batch: &mut Batch, ca: &Ca, name: &Name, purpose: Use, files: [PathBuf; 2]| {
                let key = NewKey::generate()?;
                let issued = ca.issue(name, &purpose, init.days, &key.pair, now)?;
                let [certificate, key_file] = files;
                stage_pair(batch, &issued, Some(&key), certificate, key_file, existing)?;
                self.stage_copy(batch, name, &issued, existing)?;
                outcome.certificates.push(issued.details);
                Ok::<_, IssueError>(())
            };
        let names = [Name::SERVER, Name::RUNTIME].map(Name::reserved);
        let [server, runtime] = &names;
        let (control_plane, certs) = (self.control_plane(), self.certs());
        let pair = |folder: &Path, files: [&str; 2]| files.map(|file| folder.join(file));
        let of_server = [SERVER_CERTIFICATE_FILE, SERVER_KEY_FILE];
        let of_client = [CLIENT_CERTIFICATE_FILE, CLIENT_KEY_FILE];
        let purpose = Use::Server(hosts);
        issue(
            &mut batch,
            &server_ca,
            server,
            purpose.clone(),
            pair(&control_plane, of_server),
        )?;
        batch.stage(
            self.clients_of(&admin),
            client_ca.pem().as_bytes(),
            Kind::Certificate,
            existing,
        )?;
        issue(
            &mut batch,
            &runtime_ca,
            runtime,
            purpose,
            pair(certs, of_server),
        )?;
        issue(
            &mut batch,
            &client_ca,
            &init.name,
            Use::Client,
            pair(certs, of_client),
        )?;
        batch.stage(
            certs.join(CA_FILE),
            server_ca.pem().as_bytes(),
            Kind::Certificate,
            existing,
        )?;
        outcome.files = batch.commit()?;
        outcome.warnings = self.open_folders();
        Ok(outcome)
    }

    /// Makes a certificate directory for somebody, and the role's CA if it has none.
    ///
    /// # Errors
    /// When there are no CAs, when something was issued to that name already (nothing was changed then), or when a file
    /// cannot be written.
    pub fn issue(&self, issue: &Issue, now: UnixTime) -> Result<Outcome, IssueError> {
        let Issue { name, role, .. } = issue;
        refuse_reserved(name)?;
        let _lock = self.locked()?;
        let server_ca = self.ca(SERVER_CA)?;
        let existing = existing(issue.force);
        let out = issue.out.clone().unwrap_or_else(|| self.client(name));
        let files = [CA_FILE, CLIENT_CERTIFICATE_FILE, CLIENT_KEY_FILE].map(|file| out.join(file));
        let mut all = files.to_vec();
        all.push(self.copy(name));
        if existing == Existing::Refuse {
            let found = write::present(&all)?;
            if !found.is_empty() {
                return Err(IssueError::Exists {
                    paths: found,
                    advice: format!(
                        "`selium cert renew {name}` renews what was issued, --force issues anew and replaces what is there"
                    ),
                });
            }
        }

        let mut outcome = Outcome::default();
        let mut batch = Batch::default();
        let ca = match Ca::load(self.authority(), role.as_str())? {
            Some(ca) => ca,
            None => self.new_role(role, &mut batch, &mut outcome, now)?,
        };
        let key = NewKey::generate()?;
        let issued = ca.issue(name, &Use::Client, issue.days, &key.pair, now)?;
        write::make_folder(&out)?;
        write::make_folder(&self.issued())?;
        let [ca_file, certificate, key_file] = files;
        batch.stage(
            ca_file,
            server_ca.pem().as_bytes(),
            Kind::Certificate,
            existing,
        )?;
        stage_pair(
            &mut batch,
            &issued,
            Some(&key),
            certificate,
            key_file,
            existing,
        )?;
        self.stage_copy(&mut batch, name, &issued, existing)?;
        outcome.certificates.push(issued.details);
        outcome.files = batch.commit()?;
        outcome.warnings = self.open_folders();
        Ok(outcome)
    }

    /// Makes the CA of a role, and lets the control plane trust it.
    fn new_role(
        &self,
        role: &Role,
        batch: &mut Batch,
        outcome: &mut Outcome,
        now: UnixTime,
    ) -> Result<Ca, IssueError> {
        let (ca, key) = Ca::create(role.as_str(), now)?;
        stage_ca(
            batch,
            self.authority(),
            role.as_str(),
            &ca,
            &key,
            Existing::Refuse,
        )?;
        outcome.certificates.push(ca.details.clone());
        let trusted = self.clients_of(role);
        if !self.control_plane().is_dir() {
            outcome.notes.push(format!(
                "the role {role} has a new CA: add {} to {} where the control plane is; there `selium server install`{} and a \
                 restart of the runtime put it in force",
                authority::paths(self.authority(), role.as_str()).0.display(),
                trusted.display(),
                with_policy(role)
            ));
            return Ok(ca);
        }
        // CAs that are trusted already stay: their clients go on until they have new certificates.
        let mut text = String::new();
        if !write::present([&trusted])?.is_empty() {
            let old = crate::file::certificates(&trusted).map_err(|error| {
                IssueError::file(&error, "move it away, or put it right, and try again")
            })?;
            text.extend(old.iter().map(|der| super::pem_certificate(der)));
        }
        text.push_str(&ca.pem());
        batch.stage(
            trusted.clone(),
            text.as_bytes(),
            Kind::Certificate,
            Existing::Renew,
        )?;
        outcome.notes.push(format!(
            "the role {role} has a new CA, which {} names: `selium server install`{} and a restart of the runtime put it in \
             force",
            trusted.display(),
            with_policy(role)
        ));
        Ok(ca)
    }

    /// Everything that `init` writes.
    fn of_init(&self, name: &Name) -> Vec<PathBuf> {
        let mut paths = Vec::new();
        for file in [
            CA_FILE,
            CLIENT_CERTIFICATE_FILE,
            CLIENT_KEY_FILE,
            SERVER_CERTIFICATE_FILE,
            SERVER_KEY_FILE,
        ] {
            paths.push(self.certs().join(file));
        }
        for file in [SERVER_CERTIFICATE_FILE, SERVER_KEY_FILE] {
            paths.push(self.control_plane().join(file));
        }
        paths.push(self.clients_of(&Role::admin()));
        for stem in [SERVER_CA, RUNTIME_CA, Role::admin().as_str()] {
            let (certificate, key) = authority::paths(self.authority(), stem);
            paths.extend([certificate, key]);
        }
        let names = [Name::reserved(Name::SERVER), Name::reserved(Name::RUNTIME)];
        paths.extend(names.iter().chain([name]).map(|name| self.copy(name)));
        paths
    }

    /// Keeps others from the CAs.
    pub(super) fn locked(&self) -> Result<std::fs::File, IssueError> {
        if !self.authority().is_dir() {
            return Err(IssueError::NoAuthority {
                directory: self.authority().to_owned(),
            });
        }
        write::lock(self.authority())
    }

    /// A CA that has to be there.
    pub(super) fn ca(&self, stem: &str) -> Result<Ca, IssueError> {
        Ca::load(self.authority(), stem)?.ok_or_else(|| IssueError::NoAuthority {
            directory: self.authority().to_owned(),
        })
    }

    pub(super) fn stage_copy(
        &self,
        batch: &mut Batch,
        name: &Name,
        issued: &Issued,
        existing: Existing,
    ) -> Result<(), IssueError> {
        batch.stage(
            self.copy(name),
            issued.pem.as_bytes(),
            Kind::Certificate,
            existing,
        )
    }
}

pub(super) fn existing(force: bool) -> Existing {
    match force {
        true => Existing::Replace,
        false => Existing::Refuse,
    }
}

pub(super) fn refuse_present(paths: &[PathBuf], existing: Existing) -> Result<(), IssueError> {
    if existing != Existing::Refuse {
        return Ok(());
    }
    let found = write::present(paths)?;
    match found.is_empty() {
        true => Ok(()),
        false => Err(write::refused(found)),
    }
}

/// What the installation of a control plane with that role needs besides.
fn with_policy(role: &Role) -> &'static str {
    match *role == Role::admin() {
        true => "",
        false => " with a policy that has the role (--policy)",
    }
}

fn refuse_reserved(name: &Name) -> Result<(), IssueError> {
    match name.is_reserved() {
        true => Err(IssueError::Refused(format!(
            "the name `{name}` stands for a server: choose another one"
        ))),
        false => Ok(()),
    }
}

fn stage_ca(
    batch: &mut Batch,
    folder: &Path,
    stem: &str,
    ca: &Ca,
    key: &str,
    existing: Existing,
) -> Result<(), IssueError> {
    let (certificate, key_file) = authority::paths(folder, stem);
    batch.stage(key_file, key.as_bytes(), Kind::Key, existing)?;
    batch.stage(
        certificate,
        ca.pem().as_bytes(),
        Kind::Certificate,
        existing,
    )
}

/// The key comes first: whoever sees the new certificate finds its key.
pub(super) fn stage_pair(
    batch: &mut Batch,
    issued: &Issued,
    key: Option<&NewKey>,
    certificate: PathBuf,
    key_file: PathBuf,
    existing: Existing,
) -> Result<(), IssueError> {
    if let Some(key) = key {
        batch.stage(key_file, key.pem.as_bytes(), Kind::Key, existing)?;
    }
    batch.stage(
        certificate,
        issued.pem.as_bytes(),
        Kind::Certificate,
        existing,
    )
}
