//! What `selium server install` does: everything is read and checked first, then written. It fails closed: where
//! anything is wrong, nothing is written.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use rustls_pki_types::UnixTime;
use selium_remote_certs::CA_FILE;
use selium_remote_certs::issue::{
    Age, Certificates, Details, Host, Layout, Refusal, Role, SERVER_CERTIFICATE_FILE,
    SERVER_KEY_FILE, ServerIdentity,
};
use selium_remote_provision::policy_file::{PolicyFile, Takeover};
use selium_remote_provision::trust::{self, TrustError};
use selium_remote_provision::{ADMIN, KeyPem, Listener, Provision, install};
use zeroize::Zeroizing;

use crate::audit_key::{self, AUDIT_KEY_FILE};
use crate::failure::Failure;
use crate::render::{escape, shell::quoted, time::when};
use crate::runtime_line::{MODULE_FILE, RuntimeLine};

/// The link in the runtime's folder `modules`, and the folder.
const MODULES: &str = "modules";

/// What is to be installed.
#[derive(Debug)]
pub(crate) struct Request<'a> {
    pub(crate) work: &'a Path,
    pub(crate) policy: Option<&'a Path>,
    pub(crate) module: Option<&'a Path>,
    pub(crate) domain: &'a str,
    pub(crate) port: u16,
}

/// A role of the server.
pub(crate) struct Installed {
    pub(crate) role: String,
    pub(crate) port: u16,
    /// The CAs whose clients have it.
    pub(crate) cas: Certificates,
}

/// What is to be written, all of it checked.
pub(crate) struct Plan {
    pub(crate) line: RuntimeLine,
    pub(crate) identity: ServerIdentity,
    pub(crate) roles: Vec<Installed>,
    pub(crate) warnings: Vec<String>,
    /// What clients read, in full.
    pub(crate) certs: String,
    pub(crate) module: PathBuf,
    pub(crate) audit_key: PathBuf,
    /// The link that is to be made.
    pub(crate) link: Option<PathBuf>,
    new_key: Option<selium_remote_provision::AuditKey>,
    patched: Zeroizing<Vec<u8>>,
}

/// Where a server's certificates are.
struct Material {
    folder: PathBuf,
    server_ca: PathBuf,
    client_ca: PathBuf,
    /// One CA for everything, as the runtime makes it.
    is_one_ca: bool,
}

impl Plan {
    /// Reads and checks everything.
    ///
    /// # Errors
    /// The first thing that is wrong, and what to do.
    pub(crate) fn make(request: &Request<'_>, now: UnixTime) -> Result<Self, Failure> {
        let host = host(request)?;
        let layout = Layout::new(request.work);
        let full = full_path(request.work)?;
        let material = Material::find(&layout, request)?;
        let mut warnings = Vec::new();
        let (identity, server_ca) = material.server(request, &host, now, &mut warnings)?;
        let listeners =
            material.listeners(&layout, request, &identity, &server_ca, &mut warnings)?;
        for listener in &listeners {
            warnings.extend(takeovers(listener));
        }

        let audit_path = layout.control_plane().join(AUDIT_KEY_FILE);
        let found = audit_key::load(&audit_path).map_err(Failure::Local)?;
        let (key, is_new) = match found {
            Some(found) => {
                warnings.extend(found.warning);
                (found.key, false)
            }
            None => (audit_key::generate().map_err(Failure::Local)?, true),
        };
        let provision = Provision {
            server_chain: identity.certificates().pem().into_bytes(),
            server_key: KeyPem::new(identity.key_pem().as_bytes().to_vec()),
            audit_key: key.clone(),
            listeners,
        };
        let roles = roles(&provision, request, now, &mut warnings)?;

        let modules = layout.certs().with_file_name(MODULES);
        let module = modules.join(MODULE_FILE);
        let link = link(&modules)?;
        let from = request.module.unwrap_or(&module);
        let plain = read_module(from, request.module.is_none())?;
        let patched = install::patch(&plain, &provision)
            .map_err(|error| Failure::Local(format!("{}: {error}", from.display())))?;
        let domain = host.to_string();
        Ok(Self {
            line: RuntimeLine::new(&full, &domain, request.port),
            identity,
            roles,
            warnings,
            certs: format!("{}/certs", full.trim_end_matches('/')),
            module,
            audit_key: audit_path,
            link,
            new_key: is_new.then_some(key),
            patched,
        })
    }

    /// Whether the audit key is a new one.
    pub(crate) fn makes_key(&self) -> bool {
        self.new_key.is_some()
    }

    /// Writes everything, the module last; gives what was written.
    ///
    /// # Errors
    /// When the system refuses.
    pub(crate) fn carry_out(&self) -> Result<Vec<PathBuf>, Failure> {
        let mut written = Vec::new();
        if let Some(key) = &self.new_key {
            audit_key::write_new(&self.audit_key, key).map_err(Failure::Local)?;
            written.push(self.audit_key.clone());
        }
        if let Some(folder) = self.module.parent() {
            audit_key::make_folder(folder).map_err(Failure::Local)?;
        }
        if let Some(link) = &self.link {
            make_link(link).map_err(|error| {
                Failure::Local(format!("cannot make the link {}: {error}", link.display()))
            })?;
            written.push(link.clone());
        }
        install::write(&self.module, &self.patched)
            .map_err(|error| Failure::Local(error.to_string()))?;
        written.push(self.module.clone());
        Ok(written)
    }
}

/// The name that the server listens for.
fn host(request: &Request<'_>) -> Result<Host, Failure> {
    let usage = |message: String| Failure::usage("server install", message);
    if request.port == 0 {
        return Err(usage("--port: clients cannot dial port 0".to_owned()));
    }
    match request.domain.parse() {
        Ok(Host::Ip(address)) => Err(usage(format!(
            "--domain is the address {address}, but the runtime tells clients apart by the name that they ask for: give a \
             name; clients that dial an address ask for localhost (--domain localhost)"
        ))),
        Ok(host) => Ok(host),
        Err(error) => Err(usage(format!("--domain: {error}"))),
    }
}

/// The work dir as it stands in the command line.
fn full_path(work: &Path) -> Result<String, Failure> {
    let shown = work.display();
    if !work.is_dir() {
        return Err(Failure::Local(format!(
            "there is no folder {shown}: `selium cert init --dir {}` makes it, with all certificates",
            dir(work)
        )));
    }
    let full = std::path::absolute(work)
        .map_err(|error| Failure::Local(format!("cannot tell where {shown} is: {error}")))?;
    let text = full.to_str().filter(|text| escape::line(text) == *text);
    text.map(str::to_owned).ok_or_else(|| {
        Failure::Local(format!(
            "the path {} has characters that cannot stand in a command line: rename the folder",
            full.display()
        ))
    })
}

/// A work dir as a word of a command.
fn dir(work: &Path) -> String {
    match work.as_os_str().is_empty() {
        true => ".".to_owned(),
        false => quoted(&work.display().to_string()),
    }
}

fn is_there(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

impl Material {
    fn find(layout: &Layout, request: &Request<'_>) -> Result<Self, Failure> {
        let server = |folder: &Path| {
            [SERVER_CERTIFICATE_FILE, SERVER_KEY_FILE].map(|file| folder.join(file))
        };
        let (own, certs) = (layout.control_plane(), layout.certs());
        let server_ca = certs.join(CA_FILE);
        let client_ca = layout.clients_of(&Role::admin());
        let [certificate, key] = server(&own);
        // Any of them: a folder in which some are lost is none of the runtime's.
        if [&certificate, &key, &client_ca]
            .into_iter()
            .any(|path| is_there(path))
        {
            return Ok(Self {
                folder: own,
                server_ca,
                client_ca,
                is_one_ca: false,
            });
        }
        let [certificate, key] = server(certs);
        if [&server_ca, &certificate, &key]
            .into_iter()
            .all(|path| is_there(path))
        {
            return Ok(Self {
                folder: certs.to_owned(),
                client_ca: server_ca.clone(),
                server_ca,
                is_one_ca: true,
            });
        }
        Err(Failure::Local(format!(
            "there is no certificate for the server in {} (server.crt, server.key): `selium cert init --dir {}` makes all \
             that is needed; if it is elsewhere, name the work dir with --work-dir",
            own.display(),
            dir(request.work)
        )))
    }

    /// The server's certificate and key, and the CAs that clients trust.
    fn server(
        &self,
        request: &Request<'_>,
        host: &Host,
        now: UnixTime,
        warnings: &mut Vec<String>,
    ) -> Result<(ServerIdentity, Certificates), Failure> {
        let failed =
            |error: selium_remote_certs::issue::IssueError| Failure::Local(error.to_string());
        let path = self.folder.join(SERVER_CERTIFICATE_FILE);
        let key = self.folder.join(SERVER_KEY_FILE);
        let identity = ServerIdentity::load(&path, &key).map_err(failed)?;
        let server_ca = Certificates::load(&self.server_ca).map_err(failed)?;
        if let Err(refusal) = identity.check(&server_ca, host, now) {
            return Err(Failure::Local(self.refused(
                request,
                host,
                identity.leaf(),
                &refusal,
            )));
        }
        if identity.leaf().age(now) == Age::Due {
            warnings.push(format!(
                "the server's certificate {} ends at {}: {}",
                path.display(),
                when(identity.leaf().not_after),
                self.renewal(request)
            ));
        }
        warnings.extend(identity.warning().map(ToString::to_string));
        Ok((identity, server_ca))
    }

    /// What to do about the server's certificate.
    fn renewal(&self, request: &Request<'_>) -> String {
        match self.is_one_ca {
            true => "`selium cert init` in another folder makes new ones".to_owned(),
            false => format!(
                "`selium cert renew server --dir {}` makes a new one; install again then",
                dir(request.work)
            ),
        }
    }

    /// Why clients would refuse the server, and what to do.
    fn refused(
        &self,
        request: &Request<'_>,
        host: &Host,
        leaf: &Details,
        refusal: &Refusal,
    ) -> String {
        let path = self.folder.join(SERVER_CERTIFICATE_FILE);
        let renewal = self.renewal(request);
        let what = match refusal {
            Refusal::Expired => format!(
                "has expired (it ended at {}): {renewal}",
                when(leaf.not_after)
            ),
            Refusal::NotYet => format!(
                "is not valid yet (it begins at {}): is the clock right?",
                when(leaf.not_before)
            ),
            Refusal::OtherCa => format!(
                "was not issued by a CA in {}, so that no client that trusts these takes the server: {renewal}",
                self.server_ca.display()
            ),
            Refusal::WrongUse => format!(
                "is not for a server but for: {}; {renewal}",
                leaf.usages.join(", ")
            ),
            Refusal::WrongName => {
                let way = match self.is_one_ca {
                    true => "`selium cert init --server-name` in another folder".to_owned(),
                    false => format!(
                        "`selium cert renew server --dir {} --server-name {host}`, with --server-name again for every \
                         name that it is to keep (`selium cert init` has --server-name too)",
                        dir(request.work)
                    ),
                };
                let names = leaf.hosts();
                let names = match names.is_empty() {
                    true => "none".to_owned(),
                    false => names.join(", "),
                };
                format!(
                    "is not valid for the name {host} (--domain), only for: {names}. Name one of these with --domain, or make \
                     a certificate with that name: {way}"
                )
            }
            Refusal::Unusable(why) => format!("cannot be used: {why}; {renewal}"),
            other => format!("cannot be used ({other:?}): {renewal}"),
        };
        format!("the server's certificate {} {what}", path.display())
    }

    fn listeners(
        &self,
        layout: &Layout,
        request: &Request<'_>,
        identity: &ServerIdentity,
        server_ca: &Certificates,
        warnings: &mut Vec<String>,
    ) -> Result<Vec<Listener>, Failure> {
        let chain = identity.certificates().pem();
        let server_ca = server_ca.pem();
        let (chain, server_ca) = (chain.as_bytes(), server_ca.as_bytes());
        if let Some(path) = request.policy {
            let policy =
                PolicyFile::load(path).map_err(|error| Failure::Local(error.to_string()))?;
            if self.is_one_ca {
                return Err(Failure::Local(format!(
                    "{} has one CA for everything, so that admin is the only role there: a policy needs a CA for clients, \
                     and one for each role; `selium cert init` in another folder makes separate CAs",
                    self.folder.display()
                )));
            }
            let listeners = policy.listeners(&layout.control_plane(), chain, server_ca);
            return listeners.map_err(|error| Failure::Local(error.to_string()));
        }
        let failed =
            |error: selium_remote_certs::issue::IssueError| Failure::Local(error.to_string());
        let clients = Certificates::load(&self.client_ca).map_err(failed)?;
        let listeners = vec![Listener::admin(clients.pem().into_bytes())];
        match trust::check(&listeners, chain, server_ca) {
            // It is found last: everything else is right.
            Err(TrustError::ServerCa { .. }) if self.is_one_ca => {
                warnings.push(self.one_ca());
            }
            Err(error) => return Err(Failure::Local(error.to_string())),
            Ok(()) => {}
        }
        Ok(listeners)
    }

    /// What it means when one CA is behind everything.
    fn one_ca(&self) -> String {
        let folder = self.folder.display();
        let key = self.folder.join("ca.key");
        let also = match is_there(&key) {
            true => format!("; whoever reads {} can make more of them", key.display()),
            false => String::new(),
        };
        format!(
            "{folder} has one CA for everything, as `selium-runtime generate-certs` makes it. It works, for the role admin \
             only. But the server shows the runtime's own certificate then, and any guest that may listen may use that key, \
             and so can pose as the control plane; and every certificate of that CA which TLS takes for a client's, whatever \
             it was made for, is an admin's{also}. `selium cert init` in another folder makes separate CAs"
        )
    }
}

/// The roles with their ports, and whether TLS takes their CAs.
fn roles(
    provision: &Provision,
    request: &Request<'_>,
    now: UnixTime,
    warnings: &mut Vec<String>,
) -> Result<Vec<Installed>, Failure> {
    let ports = provision.ports(request.port).map_err(|error| {
        Failure::Local(format!(
            "{error}: {} is that of the role admin (--port), and the policy gives it to another role too",
            request.port
        ))
    })?;
    let mut roles = Vec::new();
    for (port, listener) in ports {
        let role = listener.role.name.clone();
        let file = request.policy.unwrap_or(Path::new("clients-admin.crt"));
        let cas = Certificates::parse(file, &listener.client_ca)
            .map_err(|error| Failure::Local(error.to_string()))?;
        check_cas(&role, &cas, now, warnings)?;
        roles.push(Installed { role, port, cas });
    }
    Ok(roles)
}

fn check_cas(
    role: &str,
    cas: &Certificates,
    now: UnixTime,
    warnings: &mut Vec<String>,
) -> Result<(), Failure> {
    let of = |ca: &Details| format!("the client CA of the role {role} ({})", ca.subject);
    let failed = |text: String| Err(Failure::Local(text));
    for ca in cas.details() {
        match ca.age(now) {
            // The runtime's TLS does not look at the time of a CA: it would be trusted for ever.
            Age::Expired => {
                return failed(format!(
                    "{} has expired (it ended at {}): take it out of its file, and see \"a new CA\" in `selium cert --help`",
                    of(ca),
                    when(ca.not_after)
                ));
            }
            Age::NotYet => {
                return failed(format!(
                    "{} is not valid yet (it begins at {}): is the clock right?",
                    of(ca),
                    when(ca.not_before)
                ));
            }
            Age::Due => warnings.push(format!(
                "{} ends at {}: see \"a new CA\" in `selium cert --help`",
                of(ca),
                when(ca.not_after)
            )),
            Age::Fresh => {}
        }
        if !ca.is_ca {
            warnings.push(format!(
                "{} does not say that it is a CA's certificate",
                of(ca)
            ));
        }
    }
    match cas.refused_as_root() {
        Some((ca, why)) => failed(format!("{} cannot be used: {why}", of(ca))),
        None => Ok(()),
    }
}

/// A warning for a role that can make itself more than it is.
fn takeovers(listener: &Listener) -> Option<String> {
    let role = &listener.role;
    if role.name == ADMIN {
        return None;
    }
    let found = Takeover::of(role.ceiling).map(|takeover| {
        let names: Vec<_> = takeover.capabilities.iter().map(|it| it.name()).collect();
        format!("a process with {} {}", names.join(" and "), takeover.why)
    });
    let found: Vec<_> = found.collect();
    (!found.is_empty()).then(|| {
        format!(
            "the role {} may pass on capabilities with which it is as good as admin: {}",
            role.name,
            found.join("; ")
        )
    })
}

/// The link with which the runtime finds `path=modules/NAME`, if it is to be made. What stands in its place must lead to
/// the same folder, or the runtime would run another module than the one that is written.
fn link(modules: &Path) -> Result<Option<PathBuf>, Failure> {
    let link = modules.join(MODULES);
    if !is_there(&link) {
        return Ok(Some(link));
    }
    let (leads_to, folder) = (link.canonicalize().ok(), modules.canonicalize().ok());
    match leads_to.is_some() && leads_to == folder {
        true => Ok(None),
        false => Err(Failure::Local(format!(
            "{} does not lead to {}, where the module is written; but it is there that the runtime looks for it: move it \
             away, and it is made as a link",
            link.display(),
            modules.display()
        ))),
    }
}

#[cfg(unix)]
fn make_link(link: &Path) -> io::Result<()> {
    match std::os::unix::fs::symlink(".", link) {
        // Another installation was as fast.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

#[cfg(not(unix))]
fn make_link(_link: &Path) -> io::Result<()> {
    Err(io::Error::other(
        "make it by hand: it leads to the folder that it is in",
    ))
}

/// A module's bytes. They may have a key in them already.
fn read_module(path: &Path, is_default: bool) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let shown = path.display();
    let failed =
        |error: io::Error| Failure::Local(format!("the module {shown} cannot be read: {error}"));
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let advice = match is_default {
                true => {
                    "name the server's module with --module FILE (it is part of the release; `cargo xtask wasm` builds it)"
                }
                false => "look at --module",
            };
            return Err(Failure::Local(format!(
                "there is no module {shown}: {advice}"
            )));
        }
        Err(error) => return Err(failed(error)),
    };
    // Looked at before it is opened: opening a pipe would wait for its writer.
    if !metadata.is_file() {
        return Err(failed(io::Error::other("this is not a file")));
    }
    let most = u64::try_from(install::MAX_MODULE).unwrap_or(u64::MAX);
    // Room for all of it from the start: a buffer that grows leaves copies behind.
    let room = usize::try_from(metadata.len().min(most)).unwrap_or_default();
    let mut bytes = Zeroizing::new(Vec::with_capacity(room.saturating_add(2)));
    let file = File::open(path).map_err(failed)?;
    file.take(most.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    Ok(bytes)
}
