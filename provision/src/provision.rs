//! What is provisioned, and its limits.

use core::time::Duration;

use selium_remote_server_core::policy::{
    MAX_PATTERN, MAX_PATTERNS, MAX_ROLE_NAME, MAX_ROLES, Policy, Role, RoleLimits,
};

use crate::{AuditKey, KeyPem, ProvisionError, audit};

/// The role that every server has. Its port is the one of the module's arguments.
pub const ADMIN: &str = "admin";

/// The most bytes of the server's certificate chain in PEM: a leaf and two intermediates of RSA keys, amply.
pub const MAX_CHAIN_PEM: usize = 16 * 1024;

/// The most bytes of the server's private key in PEM: an RSA key of 8,192 bits has 6.4 KiB.
pub const MAX_KEY_PEM: usize = 8 * 1024;

/// The most bytes of the client CAs of one listener in PEM: some 20 of ECDSA keys, or 8 of RSA keys.
pub const MAX_CA_PEM: usize = 16 * 1024;

/// The most connections of a role: those of the server.
pub const MAX_CONNECTIONS: u32 = 1_024;

/// The longest time for a hello.
pub const MAX_HELLO: Duration = Duration::from_secs(300);

/// The most requests in flight on one connection.
pub const MAX_REQUESTS: u32 = 4_096;

/// The most streams of one connection.
pub const MAX_STREAMS: u32 = 4_096;

/// The fewest bytes that wait on one connection's streams: with fewer, not even one of the largest log records passes.
pub const MIN_QUEUED_BYTES: u32 = 64 * 1024;

/// The most bytes that wait on one connection's streams: those of the whole server.
pub const MAX_QUEUED_BYTES: u32 = 64 * 1024 * 1024;

/// The most processes of a role: those of the server.
pub const MAX_PROCESSES: u32 = 1_024;

/// The most starts in any minute: more than the runtime can compile.
pub const MAX_STARTS_PER_MINUTE: u32 = 60_000;

/// All that is patched into a module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provision {
    /// What the server shows to clients: its certificate and intermediates, in PEM.
    pub server_chain: Vec<u8>,
    /// The private key of the first of them, in PEM.
    pub server_key: KeyPem,
    /// The key of the audit log's MACs.
    pub audit_key: AuditKey,
    /// The listeners, in any order; at least the admin's. [`MAX_ROLES`] at most.
    pub listeners: Vec<Listener>,
}

/// A role, and where its clients come in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// What its clients may do.
    pub role: Role,
    /// Its port; `None` is the port of the module's arguments, which the admin's listener has and no other.
    pub port: Option<u16>,
    /// The certificates of the CAs whose clients have the role, in PEM; several while one replaces another.
    pub client_ca: Vec<u8>,
}

impl Provision {
    /// The policy: the roles in the order of the listeners.
    #[must_use]
    pub fn policy(&self) -> Policy {
        Policy::new(self.listeners.iter().map(|it| it.role.clone()).collect())
    }

    /// Every listener with its port, when the module's arguments name `admin` as theirs.
    ///
    /// # Errors
    /// When another listener has that port too.
    pub fn ports(&self, admin: u16) -> Result<Vec<(u16, &Listener)>, ProvisionError> {
        if self.listeners.iter().any(|it| it.port == Some(admin)) {
            return Err(ProvisionError::SamePort(admin));
        }
        let port = |it: &Listener| it.port.unwrap_or(admin);
        Ok(self.listeners.iter().map(|it| (port(it), it)).collect())
    }

    /// Checks all limits and what listeners must and must not have together.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(&self) -> Result<(), ProvisionError> {
        blob(
            "the server's certificate chain",
            &self.server_chain,
            MAX_CHAIN_PEM,
            "CERTIFICATE-----",
        )?;
        blob(
            "the server's key",
            self.server_key.expose(),
            MAX_KEY_PEM,
            "PRIVATE KEY-----",
        )?;
        if self.listeners.is_empty() {
            return Err(ProvisionError::NoListener);
        }
        if self.listeners.len() > MAX_ROLES {
            return Err(ProvisionError::TooLarge("the list of listeners", MAX_ROLES));
        }
        for (at, listener) in self.listeners.iter().enumerate() {
            listener.check()?;
            let before = self.listeners.get(..at).unwrap_or_default();
            if before
                .iter()
                .any(|other| other.role.name == listener.role.name)
            {
                return Err(ProvisionError::SameRole(listener.role.name.clone()));
            }
            if let Some(port) = listener.port
                && before.iter().any(|other| other.port == Some(port))
            {
                return Err(ProvisionError::SamePort(port));
            }
        }
        if !self.listeners.iter().any(|it| it.port.is_none()) {
            return Err(ProvisionError::NoAdmin);
        }
        Ok(())
    }
}

impl Listener {
    /// The admin's listener: all rights for clients of these CAs.
    #[must_use]
    pub fn admin(client_ca: Vec<u8>) -> Self {
        Self {
            role: Role::admin(),
            port: None,
            client_ca,
        }
    }

    /// The client CAs, as they are to be handed to the host: with a line in front, which means nothing to it and which
    /// nobody can know who has no audit key.
    ///
    /// The host lets any process with `NetQuicBind` and `NetTlsServerConfig` listen on a port that is bound already, under
    /// its certificate, if the process hands over the same client CAs, byte for byte. CAs are public; this line is not.
    #[must_use]
    pub fn host_ca(&self, key: &AuditKey) -> Vec<u8> {
        let mut pem = audit::secret_line(key, &self.client_ca).into_bytes();
        pem.push(b'\n');
        pem.extend_from_slice(&self.client_ca);
        pem
    }

    fn check(&self) -> Result<(), ProvisionError> {
        let name = &self.role.name;
        if !is_role_name(name) {
            return Err(ProvisionError::RoleName);
        }
        if self.port == Some(0) {
            return Err(ProvisionError::PortZero(name.clone()));
        }
        if self.port.is_none() != (name == ADMIN) {
            return Err(ProvisionError::AdminPort(name.clone()));
        }
        blob(
            "a listener's client CA",
            &self.client_ca,
            MAX_CA_PEM,
            "CERTIFICATE-----",
        )?;
        if self.role.modules.len() > MAX_PATTERNS {
            return Err(ProvisionError::TooLarge(
                "a role's list of modules",
                MAX_PATTERNS,
            ));
        }
        if self.role.modules.iter().any(|it| !is_pattern(it)) {
            return Err(ProvisionError::Pattern(name.clone()));
        }
        match limit_out_of_range(&self.role.limits) {
            Some(limit) => Err(ProvisionError::Limit(limit.name, name.clone())),
            None => Ok(()),
        }
    }
}

/// Whether it is a role's name: 1 to [`MAX_ROLE_NAME`] characters of `a-z 0-9 -`, the first of them a letter.
pub(crate) fn is_role_name(name: &str) -> bool {
    name.len() <= MAX_ROLE_NAME
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && name
            .bytes()
            .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
}

/// Whether it is a pattern of modules: not empty, no control characters, [`MAX_PATTERN`] bytes at most.
pub(crate) fn is_pattern(pattern: &str) -> bool {
    (1..=MAX_PATTERN).contains(&pattern.len()) && !pattern.contains(char::is_control)
}

/// A limit of a role, as policies name it.
pub(crate) struct LimitRange {
    pub(crate) name: &'static str,
    pub(crate) min: u32,
    pub(crate) max: u32,
}

const fn range(name: &'static str, min: u32, max: u32) -> LimitRange {
    LimitRange { name, min, max }
}

/// The limits of a role, in the order in which [`values`] gives them and the format numbers them. The time for a hello
/// is in milliseconds here.
pub(crate) static LIMITS: [LimitRange; 7] = [
    range("connections", 1, MAX_CONNECTIONS),
    range("hello-seconds", 1, MAX_HELLO.as_millis() as u32),
    range("requests", 1, MAX_REQUESTS),
    range("streams", 1, MAX_STREAMS),
    range("queued-bytes", MIN_QUEUED_BYTES, MAX_QUEUED_BYTES),
    range("processes", 0, MAX_PROCESSES),
    range("starts-per-minute", 0, MAX_STARTS_PER_MINUTE),
];

/// The values of a role's limits, in the order of [`LIMITS`].
pub(crate) fn values(limits: &RoleLimits) -> [u32; 7] {
    [
        limits.connections,
        u32::try_from(limits.hello.as_millis()).unwrap_or(u32::MAX),
        limits.requests,
        limits.streams,
        limits.queued_bytes,
        limits.processes,
        limits.starts_per_minute,
    ]
}

/// The limits of these values, in the order of [`LIMITS`].
pub(crate) fn limits_of(values: [u32; 7]) -> RoleLimits {
    let [
        connections,
        hello,
        requests,
        streams,
        queued,
        processes,
        starts,
    ] = values;
    let mut limits = RoleLimits::default();
    limits.connections = connections;
    limits.hello = Duration::from_millis(hello.into());
    limits.requests = requests;
    limits.streams = streams;
    limits.queued_bytes = queued;
    limits.processes = processes;
    limits.starts_per_minute = starts;
    limits
}

fn limit_out_of_range(limits: &RoleLimits) -> Option<&'static LimitRange> {
    let values = values(limits);
    let mut all = LIMITS.iter().zip(values);
    let wrong = all.find(|(limit, value)| !(limit.min..=limit.max).contains(value));
    wrong.map(|(limit, _)| limit)
}

/// Checks that a blob has PEM of that kind in it and is not longer than its limit.
fn blob(what: &'static str, pem: &[u8], limit: usize, kind: &str) -> Result<(), ProvisionError> {
    if pem.len() > limit {
        return Err(ProvisionError::TooLarge(what, limit));
    }
    let mut windows = pem.windows(kind.len());
    if !windows.any(|window| window == kind.as_bytes()) {
        return Err(ProvisionError::NotPem(what));
    }
    Ok(())
}
