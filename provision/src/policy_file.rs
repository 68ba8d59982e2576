//! Policy files: which roles there are, where their clients come in, and what they may do.
//!
//! A policy is a TOML file with a table for each role. This one has everything that can stand there:
//!
//! ```toml
//! # Everything. Its port is the one of the module's arguments.
//! [role.admin]
//! client-ca = "control-plane/clients-admin.crt"
//!
//! # Ready-made: list, inspect, logs.
//! [role.viewer]
//! port = 7003
//!
//! # Ready-made, with changes.
//! [role.on-call]
//! base = "operator"
//! port = 7001
//! client-ca = ["on-call.crt", "on-call-next.crt"]
//! modules = ["hello.wasm", "apps/*"]
//!
//! # All of it written out.
//! [role.deploy]
//! port = 7002
//! client-ca = "control-plane/clients-deploy.crt"
//! permissions = ["start", "list", "logs"]
//! modules = ["apps/*"]
//! ceiling = ["ChannelLifecycle", "ChannelWriter", "NetQuicConnect"]
//! dangerous = true
//!
//! [role.deploy.limits]
//! connections = 16
//! hello-seconds = 5
//! requests = 32
//! streams = 32
//! queued-bytes = 1048576
//! processes = 20
//! starts-per-minute = 30
//! ```
//!
//! | key | what | when it is missing |
//! | --- | --- | --- |
//! | `base` | the ready-made role to start from: `admin`, `operator`, `viewer` | the role of that name, or none |
//! | `port` | the port of the role's clients, 1 to 65535 | only admin's is: the port of the module's arguments |
//! | `client-ca` | files with the certificates of the CAs whose clients have the role, relative to the policy file | `clients-ROLE.crt` where `selium cert` puts it |
//! | `permissions` | what its clients may ask for: `start`, `stop`, `list`, `inspect`, `logs`, `subscribe`, `subscribe-lossless`, `publish`, `channels` | those of the base; without a base an error |
//! | `modules` | patterns of the modules that they may start; `*` stands for any characters, `/` too | those of the base, or none |
//! | `ceiling` | the capabilities that they may pass on | that of the base, or none |
//! | `dangerous` | must be `true` when the ceiling holds a takeover capability (below) | `false` |
//! | `limits` | how much they may use; each limit can be left out | the server's own limits |
//!
//! What is given replaces what the base has. Unknown keys are errors.
//!
//! | ready-made | permissions | modules | ceiling |
//! | --- | --- | --- | --- |
//! | `admin` | all | all | all |
//! | `operator` | all but `subscribe-lossless`, which can stop any guest | all | ChannelLifecycle, ChannelWriter, TimeRead |
//! | `viewer` | `list`, `inspect`, `logs` | none | none |
//!
//! | limit | from | to |
//! | --- | --- | --- |
//! | `connections` | 1 | 1024 |
//! | `hello-seconds` | 1 | 300 |
//! | `requests`, `streams` | 1 | 4096 |
//! | `queued-bytes` | 65536 | 67108864 |
//! | `processes` | 0 | 1024 |
//! | `starts-per-minute` | 0 | 60000 |
//!
//! # Takeover capabilities
//!
//! A process with one of these can get around the roles, so that its role is another admin's. A ceiling with them needs
//! `dangerous = true`; only the role called admin has them by itself.
//!
//! | capabilities | why |
//! | --- | --- |
//! | ProcessLifecycle | starts and stops every process, with any capability; the host checks no ceiling for children |
//! | NetQuicBind with NetQuicAccept | can listen on the port of the control plane, with the runtime's own certificate |
//! | NetQuicConnect | can connect to a control plane that is not provisioned, from inside the host |
//! | ChannelLifecycle with ChannelReader | can attach every shared channel and read it, the logs of all processes included |
//!
//! **ChannelLifecycle and ChannelWriter alone are not refused**, because a process without them has no log. But
//! ChannelLifecycle reaches every shared channel: its holder can drain and delete those of others, logs
//! included. It can destroy, and with ChannelWriter write into them; it cannot read.
//!
//! # What is refused
//!
//! Besides what is malformed: no role admin; a port for admin, or none for another; two roles on one port; two roles
//! that trust the same CA key, and a client CA that is also the server's (see [`crate::trust`]); a takeover capability
//! without `dangerous`; limits out of range; a file of CAs with a private key in it. All errors have the line.
//!
//! Without a policy file there is the admin only: [`Listener::admin`].

mod error;
mod load;
mod parse;
mod values;

use std::path::PathBuf;

use selium_remote_client_protocol::{Capability, CapabilitySet};
use selium_remote_server_core::policy::{Permission, Permissions, Role};

pub use error::{PolicyError, Position};

/// The most bytes of a policy file.
pub const MAX_POLICY: usize = 256 * 1024;

/// The most files of CAs that one role has.
pub const MAX_CA_FILES: usize = 16;

/// A policy as it was read: everything but the certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PolicyFile {
    /// Where it was read.
    pub path: PathBuf,
    /// Its roles: admin, and the others in the order of the file.
    pub roles: Vec<RoleEntry>,
}

/// A role of a policy file.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RoleEntry {
    /// What its clients may do.
    pub role: Role,
    /// Its port; `None` for admin.
    pub port: Option<u16>,
    /// The files with its CAs, as they are given; none: the usual one.
    pub client_ca: Vec<PathBuf>,
    /// Where they are given, or else the role.
    pub client_ca_at: Position,
}

/// Capabilities of a ceiling with which a process can get around the roles, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Takeover {
    /// Which, together.
    pub capabilities: &'static [Capability],
    /// What they can do.
    pub why: &'static str,
}

/// The takeover capabilities: a ceiling that holds all of one of them needs `dangerous = true`.
pub static TAKEOVERS: [Takeover; 4] = [
    Takeover {
        capabilities: &[Capability::ProcessLifecycle],
        why: "starts and stops every process, with any capability",
    },
    Takeover {
        capabilities: &[Capability::NetQuicBind, Capability::NetQuicAccept],
        why: "can take over the port of the control plane",
    },
    Takeover {
        capabilities: &[Capability::NetQuicConnect],
        why: "can connect to a control plane that is not provisioned, from inside the host",
    },
    Takeover {
        capabilities: &[Capability::ChannelLifecycle, Capability::ChannelReader],
        why: "can read every shared channel, the logs of all processes included",
    },
];

impl Takeover {
    /// Those that a ceiling holds.
    pub fn of(ceiling: CapabilitySet) -> impl Iterator<Item = &'static Takeover> {
        let held = move |it: &&Takeover| it.capabilities.iter().all(|it| ceiling.contains(*it));
        TAKEOVERS.iter().filter(held)
    }
}

/// The names of the ready-made roles.
pub const READY_MADE: [&str; 3] = [crate::ADMIN, "operator", "viewer"];

/// The ready-made role of this name.
#[must_use]
pub fn ready_made(name: &str) -> Option<Role> {
    let permissions: Permissions = match name {
        crate::ADMIN => return Some(Role::admin()),
        "operator" => Permission::ALL
            .into_iter()
            .filter(|it| *it != Permission::SubscribeLossless)
            .collect(),
        "viewer" => [Permission::List, Permission::Inspect, Permission::Logs]
            .into_iter()
            .collect(),
        _ => return None,
    };
    let mut role = Role::new(name);
    role.permissions = permissions;
    if permissions.contains(Permission::Start) {
        role.modules = vec!["*".to_owned()];
        role.ceiling = [
            Capability::ChannelLifecycle,
            Capability::ChannelWriter,
            Capability::TimeRead,
        ]
        .into_iter()
        .collect();
    }
    Some(role)
}
