//! Looking at what is there: whether it can be used, and for how long.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rustls_pki_types::{CertificateDer, UnixTime};

use super::{
    IssueError, Layout, RUNTIME_CA, SERVER_CA, SERVER_CERTIFICATE_FILE, SERVER_KEY_FILE, authority,
    details::{self, Age, Chain, Details, KeyDetails},
    error::fact,
    list,
    name::Host,
    verify::{self, Refusal},
    write,
};
use crate::{CA_FILE, CLIENT_CERTIFICATE_FILE, CLIENT_KEY_FILE, CertificateWarning, file};

/// The most files of a folder that are inspected.
const MAX_INSPECTED: usize = 256;

/// How something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// It can be used.
    Fine,
    /// It can be used, and should be renewed.
    Due,
    /// It cannot be used.
    Unusable,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Check {
    /// The file.
    pub path: PathBuf,
    /// What it is for.
    pub what: String,
    /// How it is.
    pub verdict: Verdict,
    /// Why, if it is not fine.
    pub problem: Option<String>,
    /// What to do, if it is not fine.
    pub advice: Option<String>,
    /// The last second in which it is valid, in seconds since the Unix epoch.
    pub not_after: Option<i64>,
}

/// How everything is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Status {
    /// What was looked at.
    pub checks: Vec<Check>,
    /// What it means.
    pub notes: Vec<String>,
    /// What should be put right, although everything works.
    pub warnings: Vec<String>,
}

impl Status {
    /// How the worst of it is.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        let worst = self.checks.iter().map(|check| check.verdict).max();
        worst.unwrap_or(Verdict::Unusable)
    }

    fn note(&mut self, path: &Path, what: &str, finding: Finding, not_after: Option<i64>) {
        let (verdict, problem, advice) = match finding {
            None => (Verdict::Fine, None, None),
            Some((verdict, problem, advice)) => (verdict, Some(problem), Some(advice)),
        };
        self.checks.push(Check {
            path: path.to_owned(),
            what: what.to_owned(),
            verdict,
            problem,
            advice,
            not_after,
        });
    }

    fn key_warning(&mut self, warning: Option<CertificateWarning>) {
        self.warnings
            .extend(warning.map(|warning| warning.to_string()));
    }
}

/// What is wrong: how bad it is, why, and what to do.
type Finding = Option<(Verdict, String, String)>;

fn unusable(problem: impl Into<String>, advice: impl Into<String>) -> Finding {
    Some((Verdict::Unusable, problem.into(), advice.into()))
}

/// What a certificate is looked at for.
struct Wanted<'a> {
    what: &'a str,
    /// The CAs of the other side, if they are known, and what file they are from.
    trusted: Option<(&'a [CertificateDer<'static>], String)>,
    is_server: bool,
    /// What to do about one that is not fine.
    advice: &'a str,
}

const NEW_CLIENT: &str =
    "`selium cert renew` where the CAs are makes a new one; without CAs, ask for a bundle";
const NEW_SERVER: &str = "`selium cert renew` where the CAs are makes a new one";

impl Layout {
    /// Looks at the clients' directory, and at the control plane's, the clients' folders and the CAs if they are here.
    #[must_use]
    pub fn status(&self, now: UnixTime) -> Status {
        let mut status = Status {
            warnings: self.open_folders(),
            ..Status::default()
        };
        let certs = self.certs();
        let roots = cas(&mut status, &certs.join(CA_FILE), "CA of the server", now);
        let client_cas = self.is_whole().then(|| self.client_cas()).flatten();
        let clients = client_cas
            .as_ref()
            .map(|(cas, from)| (cas.as_slice(), from.clone()));
        let own = self.client_pair(&mut status, certs, clients.clone(), now);
        let server = self.runtime_pair(&mut status, now);
        self.one_ca(&mut status, &roots, own.as_ref(), server.as_ref());
        if !self.is_whole() {
            return status;
        }
        self.control_plane_pair(&mut status, &roots, now);
        for folder in self.client_folders().unwrap_or_default() {
            let files =
                [CA_FILE, CLIENT_CERTIFICATE_FILE, CLIENT_KEY_FILE].map(|file| folder.join(file));
            // What was interrupted before anything was there can be used for nothing, and is used for nothing.
            if write::present(&files).is_ok_and(|found| found.is_empty()) {
                continue;
            }
            cas(&mut status, &folder.join(CA_FILE), "CA of the server", now);
            self.client_pair(&mut status, &folder, clients.clone(), now);
        }
        self.authorities(&mut status, now);
        status
    }

    fn client_pair(
        &self,
        status: &mut Status,
        folder: &Path,
        trusted: Option<(&[CertificateDer<'static>], String)>,
        now: UnixTime,
    ) -> Option<Chain> {
        let wanted = Wanted {
            what: "client",
            trusted,
            is_server: false,
            advice: NEW_CLIENT,
        };
        let files = [CLIENT_CERTIFICATE_FILE, CLIENT_KEY_FILE].map(|file| folder.join(file));
        pair(status, &files, &wanted, now)
    }

    /// The runtime's own certificate, which only a runtime's work dir has.
    fn runtime_pair(&self, status: &mut Status, now: UnixTime) -> Option<Chain> {
        let files = [SERVER_CERTIFICATE_FILE, SERVER_KEY_FILE].map(|file| self.certs().join(file));
        if write::present(&files).is_ok_and(|found| found.is_empty()) {
            return None;
        }
        let wanted = Wanted {
            what: "runtime",
            // Whoever dials guests decides which CA they trust.
            trusted: None,
            is_server: true,
            advice: NEW_SERVER,
        };
        pair(status, &files, &wanted, now)
    }

    fn control_plane_pair(
        &self,
        status: &mut Status,
        roots: &[CertificateDer<'static>],
        now: UnixTime,
    ) {
        let folder = self.control_plane();
        if !folder.is_dir() {
            return;
        }
        let files = [SERVER_CERTIFICATE_FILE, SERVER_KEY_FILE].map(|file| folder.join(file));
        let wanted = Wanted {
            what: "control plane",
            trusted: Some((roots, self.certs().join(CA_FILE).display().to_string())),
            is_server: true,
            advice: NEW_SERVER,
        };
        pair(status, &files, &wanted, now);
        for path in self.client_ca_files() {
            let role = path
                .file_stem()
                .and_then(|stem| stem.to_str())
                .and_then(|stem| stem.strip_prefix("clients-"))
                .unwrap_or_default()
                .to_owned();
            let trusted = cas(status, &path, &format!("CA of the role {role}"), now);
            let keys = |cas: &[CertificateDer<'static>]| -> Vec<Vec<u8>> {
                cas.iter()
                    .filter_map(|der| Details::parse(der).ok())
                    .map(|details| details.public_key)
                    .collect()
            };
            let of_server = keys(roots);
            if keys(&trusted).iter().any(|key| of_server.contains(key)) {
                status.warnings.push(format!(
                    "{} trusts the CA of the server: whoever has a server's certificate of it may have a client's too",
                    path.display()
                ));
            }
        }
    }

    /// The CAs, if they are here.
    fn authorities(&self, status: &mut Status, now: UnixTime) {
        let folder = self.authority();
        let Ok(found) = list::files(folder) else {
            return;
        };
        for path in found {
            let name = path.file_name().and_then(|name| name.to_str());
            let Some(stem) = name.and_then(|name| name.strip_suffix("-ca.crt")) else {
                continue;
            };
            let (_, key_file) = authority::paths(folder, stem);
            let what = format!("CA {stem}");
            let chain = match details::chain(&path) {
                Ok(chain) => chain,
                Err(problem) => {
                    status.note(&path, &what, unusable(problem, NEW_CA), None);
                    continue;
                }
            };
            let key = details::key(&key_file);
            let finding = match &key {
                Err(problem) => unusable(problem.clone(), NEW_CA),
                Ok((_, public, _)) => match chain
                    .iter()
                    .find(|(_, details)| details.public_key == public.public_key)
                {
                    Some((_, details)) => age(details, now, NEW_CA),
                    None => unusable(
                        format!("the key {} is of another CA", key_file.display()),
                        NEW_CA,
                    ),
                },
            };
            let ends = chain.iter().map(|(_, details)| details.not_after).min();
            status.note(&path, &what, finding, ends);
            status.key_warning(key.ok().and_then(|(_, _, warning)| warning));
        }
    }

    /// Says what it means when one CA is behind everything.
    fn one_ca(
        &self,
        status: &mut Status,
        roots: &[CertificateDer<'static>],
        client: Option<&Chain>,
        server: Option<&Chain>,
    ) {
        let from_root = |chain: Option<&Chain>| chain.is_some_and(|chain| issued_by(chain, roots));
        if from_root(client) || from_root(server) {
            status.notes.push(one_ca_text(self.certs()));
        }
        let key = self.certs().join("ca.key");
        if write::present([&key]).is_ok_and(|found| !found.is_empty()) {
            status.warnings.push(format!(
                "the private key of a CA lies in {}, where runtime and clients read: move it to a safe place",
                key.display()
            ));
        }
    }

    /// The CAs of clients that are known here: those that the control plane trusts, or those that issue.
    fn client_cas(&self) -> Option<(Vec<CertificateDer<'static>>, String)> {
        let files = self.client_ca_files();
        if !files.is_empty() {
            let all = files.iter().flat_map(|path| certificates(path)).collect();
            return Some((
                all,
                format!("{}/clients-*.crt", self.control_plane().display()),
            ));
        }
        let cas = self.cas().ok()?;
        let all: Vec<_> = cas
            .into_iter()
            .filter(|(stem, _)| ![SERVER_CA, RUNTIME_CA].contains(&stem.as_str()))
            .flat_map(|(_, chain)| chain.into_iter().map(|(der, _)| der))
            .collect();
        (!all.is_empty()).then(|| (all, self.authority().display().to_string()))
    }

    fn client_ca_files(&self) -> Vec<PathBuf> {
        let mut files = list::files(&self.control_plane()).unwrap_or_default();
        files.retain(|path| {
            let name = path.file_name().and_then(|name| name.to_str());
            name.is_some_and(|name| name.starts_with("clients-") && name.ends_with(".crt"))
        });
        files
    }

    /// Warnings for folders that others may look into, and for what interrupted runs left.
    pub(super) fn open_folders(&self) -> Vec<String> {
        let mut folders = vec![self.certs().to_owned()];
        if self.is_whole() {
            folders.extend([
                self.control_plane(),
                self.authority().to_owned(),
                self.issued(),
            ]);
            folders.extend(self.client_folders().unwrap_or_default());
        }
        let mut warnings = Vec::new();
        for folder in folders {
            warnings.extend(open_folder(&folder));
            warnings.extend(left_over(&folder));
        }
        warnings
    }
}

const NEW_CA: &str = "see \"a new CA\" in `selium cert --help`";

/// A warning for a folder that others may look into.
#[cfg(unix)]
pub(super) fn open_folder(folder: &Path) -> Option<String> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = fs::metadata(folder).ok()?.permissions().mode() & 0o777;
    (mode & 0o077 != 0).then(|| {
        format!(
            "other users may look into {0} (mode {mode:03o}); `chmod 700 {0}` protects it",
            folder.display()
        )
    })
}

/// Elsewhere access is not a matter of mode bits.
#[cfg(not(unix))]
pub(super) fn open_folder(_folder: &Path) -> Option<String> {
    None
}

fn left_over(folder: &Path) -> Option<String> {
    let entries = fs::read_dir(folder).ok()?;
    let found = entries.flatten().take(list::MAX_ENTRIES).find(|entry| {
        let name = entry.file_name();
        name.to_str().is_some_and(write::is_temporary)
    })?;
    Some(format!(
        "{} was left by a command that was interrupted, and may contain a private key: delete it",
        found.path().display()
    ))
}

/// What a directory means in which one CA is behind everything.
fn one_ca_text(folder: &Path) -> String {
    format!(
        "{} has one CA for everything, as `selium-runtime generate-certs` makes it: it works, for the role admin only; but \
         any guest may use the runtime's key, and so can pose as the control plane before these clients. `selium cert \
         init` in another folder makes separate CAs",
        folder.display()
    )
}

/// Whether one of the CAs issued a chain, by the names and key identifiers in it.
fn issued_by(chain: &Chain, cas: &[CertificateDer<'static>]) -> bool {
    let Some(leaf) = details::leaf(chain) else {
        return false;
    };
    cas.iter().any(|der| {
        Details::parse(der).is_ok_and(|ca| {
            let same_key = match (&leaf.authority_key_id, &ca.key_id) {
                (Some(wanted), Some(id)) => wanted == id,
                _ => true,
            };
            ca.subject == leaf.issuer && same_key && signed(chain, der)
        })
    })
}

/// Whether the CA's key signed the chain, asked as of a moment at which it was valid.
fn signed(chain: &Chain, ca: &CertificateDer<'static>) -> bool {
    let Some(leaf) = details::leaf(chain) else {
        return false;
    };
    let begin = u64::try_from(leaf.not_before).unwrap_or_default();
    let at = UnixTime::since_unix_epoch(std::time::Duration::from_secs(begin));
    // Asked for both uses: a wrong use is told before a wrong issuer.
    verify::client(chain, [ca], at).is_ok()
        || authority::hosts(leaf)
            .first()
            .is_some_and(|host| verify::server(chain, [ca], host, at).is_ok())
}

/// Looks at a certificate with its key.
fn pair(
    status: &mut Status,
    [certificate, key]: &[PathBuf; 2],
    wanted: &Wanted<'_>,
    now: UnixTime,
) -> Option<Chain> {
    let (key_finding, public) = match details::key(key) {
        Ok((_, public, warning)) => {
            status.key_warning(warning);
            (None, Some(public))
        }
        Err(problem) => (unusable(problem, wanted.advice), None),
    };
    let chain = details::chain(certificate);
    let (finding, ends) = match &chain {
        Err(problem) => (unusable(problem.clone(), wanted.advice), None),
        Ok(chain) => (
            judge(chain, public.as_ref(), key, wanted, now),
            details::leaf(chain).map(|leaf| leaf.not_after),
        ),
    };
    status.note(certificate, wanted.what, finding, ends);
    status.note(key, &format!("{}, key", wanted.what), key_finding, None);
    chain.ok()
}

/// What is wrong with a certificate that can be read.
fn judge(
    chain: &Chain,
    public: Option<&KeyDetails>,
    key: &Path,
    wanted: &Wanted<'_>,
    now: UnixTime,
) -> Finding {
    let leaf = details::leaf(chain)?;
    if public.is_some_and(|public| public.public_key != leaf.public_key) {
        return unusable(
            format!("the private key {} does not belong to it", key.display()),
            wanted.advice,
        );
    }
    let finding = age(leaf, now, wanted.advice);
    if finding
        .as_ref()
        .is_some_and(|(verdict, ..)| *verdict == Verdict::Unusable)
    {
        return finding;
    }
    // A certificate for nothing in particular may be used for everything.
    let usage = if wanted.is_server { "server" } else { "client" };
    if !leaf.usages.is_empty() && !leaf.usages.contains(&usage) {
        return unusable(
            format!(
                "it is not for a {usage} but for: {}",
                leaf.usages.join(", ")
            ),
            wanted.advice,
        );
    }
    if let Some((cas, from)) = &wanted.trusted {
        let result = match wanted.is_server {
            true => {
                let local = Host::local();
                let named = authority::hosts(leaf);
                let host = named.first().or(local.first())?;
                verify::server(chain, *cas, host, now)
            }
            false => verify::client(chain, *cas, now),
        };
        if let Err(refusal) = result {
            return unusable(
                match refusal {
                    Refusal::OtherCa => format!("it was not issued by a CA in {from}"),
                    other => refusal_text(&other),
                },
                wanted.advice,
            );
        }
    }
    finding
}

fn refusal_text(refusal: &Refusal) -> String {
    match refusal {
        Refusal::Expired => "it has expired".to_owned(),
        Refusal::NotYet => "it is not valid yet".to_owned(),
        Refusal::OtherCa => "it was issued by another CA".to_owned(),
        Refusal::WrongUse => "it is for something else".to_owned(),
        Refusal::WrongName => "it names no server".to_owned(),
        Refusal::Unusable(why) => format!("TLS refuses it: {why}"),
    }
}

fn age(details: &Details, now: UnixTime, advice: &str) -> Finding {
    match details.age(now) {
        Age::Fresh => None,
        Age::Due => Some((
            Verdict::Due,
            match details.is_ca {
                true => "less than a year of its life is left",
                false => "less than a third of its life is left",
            }
            .to_owned(),
            advice.to_owned(),
        )),
        Age::Expired => unusable("it has expired", advice),
        Age::NotYet => unusable("it is not valid yet (is the clock right?)", advice),
    }
}

/// Looks at a file of CAs.
fn cas(
    status: &mut Status,
    path: &Path,
    what: &str,
    now: UnixTime,
) -> Vec<CertificateDer<'static>> {
    const ADVICE: &str = "get it from whoever keeps the CAs (`ca.crt` of a bundle)";
    let chain = match details::chain(path) {
        Ok(chain) => chain,
        Err(problem) => {
            status.note(path, what, unusable(problem, ADVICE), None);
            return Vec::new();
        }
    };
    let findings = chain.iter().map(|(_, details)| match details.is_ca {
        true => age(details, now, NEW_CA),
        false => unusable("it is not a CA's certificate", ADVICE),
    });
    // During a change of CAs the old one may expire: the best one counts.
    let finding = findings
        .min_by_key(|finding| finding.as_ref().map(|(verdict, ..)| *verdict))
        .flatten();
    let ends = chain.iter().map(|(_, details)| details.not_after).max();
    status.note(path, what, finding, ends);
    chain.into_iter().map(|(der, _)| der).collect()
}

/// The certificates of a file as far as it can be read.
fn certificates(path: &Path) -> Vec<CertificateDer<'static>> {
    file::certificates(path).unwrap_or_default()
}

/// What is in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Contents {
    /// A certificate.
    Certificate(Box<Details>),
    /// A private key; nothing of it is shown.
    Key(KeyDetails),
    /// It cannot be read or understood.
    Problem(String),
}

/// Something that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Item {
    /// The file.
    pub path: PathBuf,
    /// What is in it.
    pub contents: Contents,
}

/// What is in a file, or in all files of a folder that end with `.crt`, `.pem` or `.key`; and what should be known of
/// it.
///
/// # Errors
/// When there is no such file or folder, or a folder has too many.
pub fn inspect(path: &Path) -> Result<(Vec<Item>, Status), IssueError> {
    let mut status = Status::default();
    let mut items = Vec::new();
    let files = match path.is_dir() {
        true => {
            let mut files = list::files(path)?;
            files.retain(|path| {
                let end = path.extension().and_then(|end| end.to_str());
                end.is_some_and(|end| ["crt", "pem", "key"].contains(&end))
            });
            if files.len() > MAX_INSPECTED {
                return Err(IssueError::Refused(format!(
                    "{} has more than {MAX_INSPECTED} certificates and keys: name one of them",
                    path.display()
                )));
            }
            if files.is_empty() {
                return Err(IssueError::Refused(format!(
                    "there are no certificates in {} (*.crt, *.pem, *.key): name another folder, or make some with \
                     `selium cert init`",
                    path.display()
                )));
            }
            status.warnings.extend(left_over(path));
            files
        }
        false => {
            file::read(path).map_err(|error| IssueError::File {
                what: fact(&error),
                advice: "name a file or a folder with certificates".to_owned(),
            })?;
            vec![path.to_owned()]
        }
    };
    for file in &files {
        let contents = look_into(file, &mut status);
        items.extend(contents.into_iter().map(|contents| Item {
            path: file.clone(),
            contents,
        }));
    }
    if path.is_dir() {
        let roots = certificates(&path.join(CA_FILE));
        let from_root = [CLIENT_CERTIFICATE_FILE, SERVER_CERTIFICATE_FILE]
            .iter()
            .filter_map(|file| details::chain(&path.join(file)).ok())
            .any(|chain| issued_by(&chain, &roots));
        if from_root
            && write::present([&path.join(CLIENT_KEY_FILE)]).is_ok_and(|found| !found.is_empty())
        {
            status.notes.push(one_ca_text(path));
        }
    }
    Ok((items, status))
}

fn look_into(path: &Path, status: &mut Status) -> Vec<Contents> {
    let read = file::read(path).and_then(|(text, metadata)| {
        let sections = file::sections(path, &text)?;
        Ok((sections, metadata))
    });
    let (sections, metadata) = match read {
        Ok(read) => read,
        Err(error) => return vec![Contents::Problem(fact(&error))],
    };
    let mut contents = Vec::new();
    for (kind, der) in sections {
        use rustls_pki_types::{PrivateKeyDer, pem::PemObject as _, pem::SectionKind};
        if kind == SectionKind::Certificate {
            contents.push(match Details::parse(&der) {
                Ok(details) => Contents::Certificate(Box::new(details)),
                Err(why) => Contents::Problem(format!(
                    "a certificate in {} is damaged ({why})",
                    path.display()
                )),
            });
        } else if let Some(key) = PrivateKeyDer::from_pem(kind, der) {
            status.key_warning(file::open_to_others(path, &metadata));
            contents.push(match KeyDetails::of(&zeroize::Zeroizing::new(key)) {
                Ok(details) => Contents::Key(details),
                Err(why) => Contents::Problem(format!(
                    "the private key in {} cannot be used ({why})",
                    path.display()
                )),
            });
        }
    }
    if contents.is_empty() {
        contents.push(Contents::Problem(format!(
            "{} has neither a certificate nor a private key in PEM in it",
            path.display()
        )));
    }
    contents
}
