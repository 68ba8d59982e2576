//! Who may do what: roles.
//!
//! The runtime does not tell a module who connected, so a role is a listener: whoever came in there has it. A role names
//! the operations that its clients may ask for, the modules that they may start, the capabilities that they may pass on,
//! and how much they may use. The server knows nothing of certificates and ports; its driver says with each connection
//! which role it has.

use core::time::Duration;

use selium_remote_client_protocol::CapabilitySet;

/// The most roles of one server.
pub const MAX_ROLES: usize = 16;

/// The most bytes of a role's name: 1 to 32 characters of `a-z 0-9 -`, the first of them a letter.
pub const MAX_ROLE_NAME: usize = 32;

/// The most patterns of modules that one role has.
pub const MAX_PATTERNS: usize = 64;

/// The most bytes of a pattern.
pub const MAX_PATTERN: usize = 256;

/// A role's place in [`Policy::roles`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RoleId(pub u16);

/// All roles of a server, at least one and at most [`MAX_ROLES`]: connections with another one may do nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Policy {
    /// The roles; [`RoleId`] counts them.
    pub roles: Vec<Role>,
}

/// What clients of one listener may do.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Role {
    /// Its name, as the hello tells it.
    pub name: String,
    /// What its clients may ask for.
    pub permissions: Permissions,
    /// Patterns of modules that they may start: `*` stands for any characters, `/` included. None: none. See
    /// [`crate::access::module_matches`].
    pub modules: Vec<String>,
    /// The capabilities that they may pass on.
    pub ceiling: CapabilitySet,
    /// How much they may use.
    pub limits: RoleLimits,
}

/// A set of [`Permission`]s.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Permissions(u32);

/// One thing that clients may ask for. (Server info and pings are open to everybody.) The numbers are those of the
/// provisioning format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
#[repr(u8)]
pub enum Permission {
    /// Start processes.
    Start = 0,
    /// Stop processes, whoever started them.
    Stop = 1,
    /// List processes.
    List = 2,
    /// Inspect processes.
    Inspect = 3,
    /// Read the logs of processes, whoever started them.
    Logs = 4,
    /// List, inspect and subscribe to channels so that writers are not held back.
    Subscribe = 5,
    /// Subscribe so that writers wait: it can stop any guest.
    SubscribeLossless = 6,
    /// Publish to channels.
    Publish = 7,
    /// Create, share, drain and delete channels.
    Channels = 8,
}

impl Permission {
    /// All of them, in the order of their numbers.
    pub const ALL: [Permission; 9] = [
        Permission::Start,
        Permission::Stop,
        Permission::List,
        Permission::Inspect,
        Permission::Logs,
        Permission::Subscribe,
        Permission::SubscribeLossless,
        Permission::Publish,
        Permission::Channels,
    ];

    /// Its name in policies and errors.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Permission::Start => "start",
            Permission::Stop => "stop",
            Permission::List => "list",
            Permission::Inspect => "inspect",
            Permission::Logs => "logs",
            Permission::Subscribe => "subscribe",
            Permission::SubscribeLossless => "subscribe-lossless",
            Permission::Publish => "publish",
            Permission::Channels => "channels",
        }
    }

    /// The permission of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.name() == name)
    }

    const fn bit(self) -> u32 {
        1 << self as u32
    }
}

impl Permissions {
    /// Every permission.
    #[must_use]
    pub fn all() -> Self {
        Permission::ALL.into_iter().collect()
    }

    /// Whether it is in the set.
    #[must_use]
    pub const fn contains(self, permission: Permission) -> bool {
        self.0 & permission.bit() != 0
    }

    /// The set as a number, a bit a permission.
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// The set of a number; `None` when it has bits that stand for nothing.
    #[must_use]
    pub fn from_bits(bits: u32) -> Option<Self> {
        (bits & !Self::all().0 == 0).then_some(Self(bits))
    }
}

impl FromIterator<Permission> for Permissions {
    fn from_iter<T: IntoIterator<Item = Permission>>(permissions: T) -> Self {
        let bits = permissions.into_iter().map(Permission::bit);
        Self(bits.fold(0, |set, bit| set | bit))
    }
}

/// How much the clients of a role may use, all of them together where nothing else is said. The server's own limits
/// ([`crate::Config`]) hold for all roles together, or for each connection of any: of two limits on the same the lower one
/// counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RoleLimits {
    /// Open connections. Past it a new one is refused with "resource exhausted".
    pub connections: u32,
    /// How long a connection may take for its hello; needs a clock. Past it it is refused.
    pub hello: Duration,
    /// Requests in flight on one connection. Past it a request is answered "resource exhausted".
    pub requests: u32,
    /// Open streams on one connection. Past it a request for another one is answered "resource exhausted".
    pub streams: u32,
    /// Bytes that wait to be sent on one connection's streams. Past it records become a gap.
    pub queued_bytes: u32,
    /// Processes that were started by them and not stopped. Past it a start is answered "resource exhausted".
    pub processes: u32,
    /// Starts at once, and how many more may follow a minute, evenly; needs a clock, and is not enforced without one. Past
    /// it a start is answered "resource exhausted".
    pub starts_per_minute: u32,
}

impl Default for RoleLimits {
    /// The server's own limits.
    fn default() -> Self {
        Self {
            connections: 1_024,
            hello: Duration::from_secs(10),
            requests: 256,
            streams: 512,
            queued_bytes: 1024 * 1024,
            processes: 1_024,
            starts_per_minute: 600,
        }
    }
}

impl Default for Policy {
    /// One role: [`Role::admin`].
    fn default() -> Self {
        Self::new(vec![Role::admin()])
    }
}

impl Policy {
    /// A policy of these roles.
    #[must_use]
    pub fn new(roles: Vec<Role>) -> Self {
        Self { roles }
    }
}

impl Role {
    /// A role that may do nothing.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            permissions: Permissions::default(),
            modules: Vec::new(),
            ceiling: CapabilitySet::default(),
            limits: RoleLimits::default(),
        }
    }

    /// The role that may do everything.
    #[must_use]
    pub fn admin() -> Self {
        Self {
            permissions: Permissions::all(),
            modules: vec!["*".to_owned()],
            ceiling: CapabilitySet::all(),
            ..Self::new("admin")
        }
    }
}
