//! Renewing what was issued.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use rcgen::SubjectPublicKeyInfo;
use rustls_pki_types::UnixTime;

use super::{
    IssueError, Layout, MAX_DAYS, Outcome, RUNTIME_CA, SERVER_CA, SERVER_CERTIFICATE_FILE,
    SERVER_KEY_FILE,
    authority::{self, BACKDATED, Ca, DEFAULT_DAYS, NewKey, Use},
    details::{self, Age, Chain, DAY, Details, KeyDetails},
    init::stage_pair,
    list::{self, MAX_ENTRIES},
    name::{Host, Name},
    write::{self, Batch, Existing, Kind},
};
use crate::{CLIENT_CERTIFICATE_FILE, CLIENT_KEY_FILE};

/// What [`Layout::renew`] is to do.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Renew {
    /// Only what was issued to this name.
    pub name: Option<Name>,
    /// Only what is due, has expired or does not fit its key.
    pub if_needed: bool,
    /// With the same key, instead of a new one.
    pub keep_key: bool,
    /// How long it lives, in days, instead of as long as before.
    pub days: Option<u32>,
    /// The names of servers, beside those of this machine, instead of those before; nothing leaves them as they are.
    pub hosts: Vec<Host>,
}

/// A certificate with its key, as it lies somewhere.
struct Pair {
    certificate: PathBuf,
    key: PathBuf,
    /// Which server's it is; nothing for a client's.
    server: Option<&'static str>,
    /// Whether somebody may have the same key elsewhere.
    is_handed_over: bool,
}

/// Why a pair is left as it is.
enum Problem {
    /// It is not from here.
    Foreign(String),
    /// It is broken.
    Damaged(String),
}

/// What is to be done with one of them.
struct Plan {
    pair: Pair,
    name: Name,
    old: Details,
    public: Option<KeyDetails>,
    purpose: Use,
    ca: Ca,
    fits: bool,
    needed: bool,
}

impl Layout {
    /// Issues again what lies here, or what was issued to a name: all of it or, on an error, nothing.
    ///
    /// What lies here gets a new key. With [`Renew::keep_key`], and for what was made for somebody else, the new
    /// certificate is for the old key, so that it is all they need.
    ///
    /// # Errors
    /// When there are no CAs, the name is not known, the CA is not here, or a file cannot be written.
    pub fn renew(&self, renew: &Renew, now: UnixTime) -> Result<Outcome, IssueError> {
        let _lock = self.locked()?;
        let mut outcome = Outcome::default();
        let mut plans = Vec::new();
        for pair in self.pairs()? {
            match self.plan(pair, renew, now) {
                Ok(Some(plan)) => plans.push(plan),
                Ok(None) => {}
                Err(Problem::Foreign(text)) => outcome.warnings.push(text),
                Err(Problem::Damaged(text)) => outcome.failures.push(text),
            }
        }
        let mut batch = Batch::default();
        if let Some(name) = &renew.name
            && plans.is_empty()
        {
            self.renew_copy(name, renew, &mut batch, &mut outcome, now)?;
        }
        for plan in plans {
            if !renew.if_needed || plan.needed {
                self.carry_out(plan, renew, &mut batch, &mut outcome, now)?;
            }
        }
        outcome.files = batch.commit()?;
        Ok(outcome)
    }

    /// All pairs that lie here, as far as there is anything of them.
    fn pairs(&self) -> Result<Vec<Pair>, IssueError> {
        let client = |folder: PathBuf| Pair {
            certificate: folder.join(CLIENT_CERTIFICATE_FILE),
            key: folder.join(CLIENT_KEY_FILE),
            server: None,
            is_handed_over: false,
        };
        let server = |folder: PathBuf, name| Pair {
            certificate: folder.join(SERVER_CERTIFICATE_FILE),
            key: folder.join(SERVER_KEY_FILE),
            server: Some(name),
            is_handed_over: false,
        };
        let mut pairs = vec![
            client(self.certs().to_owned()),
            server(self.certs().to_owned(), Name::RUNTIME),
            server(self.control_plane(), Name::SERVER),
        ];
        for folder in self.client_folders()? {
            let is_handed_over = true;
            pairs.push(Pair {
                is_handed_over,
                ..client(folder)
            });
        }
        let mut found = Vec::new();
        for pair in pairs {
            if !write::present([&pair.certificate, &pair.key])?.is_empty() {
                found.push(pair);
            }
        }
        Ok(found)
    }

    /// The folders that `issue` made.
    pub(super) fn client_folders(&self) -> Result<Vec<PathBuf>, IssueError> {
        let folder = self.clients();
        match fs::symlink_metadata(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            _ => {
                let mut folders = list::files(&folder)?;
                folders.retain(|path| path.is_dir());
                folders.truncate(MAX_ENTRIES);
                Ok(folders)
            }
        }
    }

    /// What to do with a pair: nothing if it is not the one that is meant, a problem if it cannot be renewed.
    fn plan(&self, pair: Pair, renew: &Renew, now: UnixTime) -> Result<Option<Plan>, Problem> {
        let key = details::key(&pair.key).map(|(_, public, _)| public);
        let chain = details::chain(&pair.certificate);
        let fits = match (&key, chain.as_ref().ok().and_then(details::leaf)) {
            (Ok(key), Some(leaf)) => key.public_key == leaf.public_key,
            _ => false,
        };
        // Where the certificate is lost, its copy says what it was.
        let chain = match (chain, pair.server) {
            (Ok(chain), _) => chain,
            (Err(why), Some(server)) => {
                let copy = details::chain(&self.copy(&Name::reserved(server)));
                copy.map_err(|_| Problem::Damaged(why))?
            }
            (Err(why), None) => {
                let of_key = key.as_ref().ok().and_then(|key| self.copy_of(key));
                of_key.ok_or_else(|| {
                    Problem::Damaged(format!(
                        "{why}; whose it was is not known: `selium cert issue NAME --out DIR --force` makes another"
                    ))
                })?
            }
        };
        let Some(old) = details::leaf(&chain).cloned() else {
            return Ok(None);
        };
        let name = match pair.server {
            Some(server) => Some(Name::reserved(server)),
            None => old
                .common_name
                .as_deref()
                .and_then(|name| name.parse().ok()),
        };
        if renew.name.is_some() && renew.name != name {
            return Ok(None);
        }
        let purpose = match pair.server {
            Some(_) => Use::Server(hosts_of(&old, renew)),
            None => Use::Client,
        };
        let ca = self
            .issuer(&chain, pair.server, &purpose)
            .map_err(|error| Problem::Damaged(error.to_string()))?;
        let (Some(name), Some(ca)) = (name, ca) else {
            return Err(Problem::Foreign(format!(
                "{} was not issued by a CA in {}: it was left as it is",
                pair.certificate.display(),
                self.authority().display()
            )));
        };
        let is_renamed = match &purpose {
            Use::Server(hosts) => {
                let before = authority::hosts(&old);
                hosts.len() != before.len() || !hosts.iter().all(|host| before.contains(host))
            }
            Use::Client => false,
        };
        let needed = !fits || is_renamed || old.age(now) != Age::Fresh;
        Ok(Some(Plan {
            pair,
            name,
            old,
            public: key.ok(),
            purpose,
            ca,
            fits,
            needed,
        }))
    }

    fn carry_out(
        &self,
        plan: Plan,
        renew: &Renew,
        batch: &mut Batch,
        outcome: &mut Outcome,
        now: UnixTime,
    ) -> Result<(), IssueError> {
        let days = renew.days.unwrap_or_else(|| days_of(&plan.old));
        let Plan { pair, name, ca, .. } = &plan;
        // A new key here would part it from the one that was handed over.
        let is_shared = pair.is_handed_over && plan.fits;
        let (issued, key) = if renew.keep_key || is_shared {
            let public = plan.public.as_ref().ok_or_else(|| {
                IssueError::Refused(format!(
                    "the key {} cannot be read: renew without --keep-key",
                    pair.key.display()
                ))
            })?;
            let public = SubjectPublicKeyInfo::from_der(&public.public_key)?;
            (ca.issue(name, &plan.purpose, days, &public, now)?, None)
        } else {
            let key = NewKey::generate()?;
            let issued = ca.issue(name, &plan.purpose, days, &key.pair, now)?;
            (issued, Some(key))
        };
        let (certificate, key_file) = (pair.certificate.clone(), pair.key.clone());
        stage_pair(
            batch,
            &issued,
            key.as_ref(),
            certificate,
            key_file,
            Existing::Renew,
        )?;
        write::make_folder(&self.issued())?;
        self.stage_copy(batch, name, &issued, Existing::Renew)?;
        outcome.certificates.push(issued.details);
        match pair.server {
            Some(Name::SERVER) => outcome.notes.push(
                "the control plane has a new certificate: `selium server install` and a restart of the runtime put it in \
                 force"
                    .to_owned(),
            ),
            Some(_) => outcome.notes.push(
                "the runtime has a new certificate: a restart puts it in force".to_owned(),
            ),
            None if is_shared => outcome.notes.push(send(name, &self.copy(name))),
            None => {}
        }
        Ok(())
    }

    /// Renews what somebody has elsewhere, for the key that they have.
    fn renew_copy(
        &self,
        name: &Name,
        renew: &Renew,
        batch: &mut Batch,
        outcome: &mut Outcome,
        now: UnixTime,
    ) -> Result<(), IssueError> {
        let path = self.copy(name);
        if write::present([&path])?.is_empty() {
            return Err(IssueError::Unknown {
                name: name.to_string(),
            });
        }
        let chain = details::chain(&path).map_err(IssueError::Refused)?;
        let server = [Name::SERVER, Name::RUNTIME]
            .into_iter()
            .find(|server| name.as_str() == *server);
        let old = details::leaf(&chain)
            .cloned()
            .ok_or_else(|| IssueError::Unknown {
                name: name.to_string(),
            })?;
        if renew.if_needed && old.age(now) == Age::Fresh {
            return Ok(());
        }
        let purpose = match server {
            Some(_) => Use::Server(hosts_of(&old, renew)),
            None => Use::Client,
        };
        let ca = self.issuer(&chain, server, &purpose)?.ok_or_else(|| {
            IssueError::Refused(format!(
                "{} was not issued by a CA in {}: `selium cert issue {name} --force` issues anew",
                path.display(),
                self.authority().display()
            ))
        })?;
        let public = SubjectPublicKeyInfo::from_der(&old.public_key)?;
        let days = renew.days.unwrap_or_else(|| days_of(&old));
        let issued = ca.issue(name, &purpose, days, &public, now)?;
        batch.stage(
            path.clone(),
            issued.pem.as_bytes(),
            Kind::Certificate,
            Existing::Renew,
        )?;
        outcome.certificates.push(issued.details);
        outcome.notes.push(send(name, &path));
        Ok(())
    }

    /// The CA that issued a chain, if it is here with its key.
    fn issuer(
        &self,
        chain: &Chain,
        server: Option<&'static str>,
        purpose: &Use,
    ) -> Result<Option<Ca>, IssueError> {
        let stems = match server {
            Some(Name::SERVER) => vec![SERVER_CA.to_owned()],
            Some(_) => vec![RUNTIME_CA.to_owned()],
            None => {
                let all = self.cas()?.into_iter().map(|(stem, _)| stem);
                all.filter(|stem| ![SERVER_CA, RUNTIME_CA].contains(&stem.as_str()))
                    .collect()
            }
        };
        for stem in stems {
            if let Some(ca) = Ca::load(self.authority(), &stem)?
                && ca.issued(chain, purpose)
            {
                return Ok(Some(ca));
            }
        }
        Ok(None)
    }

    /// The copy of the certificate that was issued for a key.
    fn copy_of(&self, key: &KeyDetails) -> Option<Chain> {
        let entries = self.list().ok()?;
        let entry = entries.into_iter().find(|entry| {
            let certificate = entry.certificate.as_ref().ok();
            certificate.is_some_and(|details| details.public_key == key.public_key)
        })?;
        details::chain(&entry.path).ok()
    }
}

/// How somebody gets a new certificate for the key that they have.
fn send(name: &Name, path: &Path) -> String {
    format!(
        "the new certificate of {name} is for the same key: send {} to them (it is no secret); `selium cert import` puts it \
         in its place",
        path.display()
    )
}

/// The names that a server's certificate gets.
fn hosts_of(old: &Details, renew: &Renew) -> Vec<Host> {
    match renew.hosts.as_slice() {
        [] => authority::with_local(&authority::hosts(old)),
        hosts => authority::with_local(hosts),
    }
}

/// How long a certificate was to live, in whole days.
fn days_of(old: &Details) -> u32 {
    let lifetime = old.not_after.saturating_sub(old.not_before);
    let days = lifetime.saturating_sub(BACKDATED) / DAY;
    match u32::try_from(days) {
        Ok(0) | Err(_) => DEFAULT_DAYS,
        Ok(days) => days.min(MAX_DAYS),
    }
}
