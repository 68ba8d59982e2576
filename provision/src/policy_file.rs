//! Policy files: which roles there are, where their clients come in, and what they may do.
//!
//! A policy is a TOML file with a table for each role:
//!
//! ```toml
//! [role.admin]
//! client-ca = "control-plane/clients-admin.crt"
//!
//! [role.viewer]
//! port = 7003
//! ```
//!
//! The page `docs/POLICY.md` of the project says what can stand there, what is refused, and why.

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
