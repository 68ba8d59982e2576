//! The rules of the Selium Remote Client's server, without any I/O.
//!
//! [`Server`] holds every connection's protocol machine, the process table, the log hubs, the queue of starts and the
//! outcomes of changing requests. It never touches the runtime itself: what is to be done there comes out of
//! [`Server::poll_host`] as a [`HostCall`] (a driver hands it to its [`Host`]), and what came of it goes back in through
//! [`Server::handle_host`]. The other doors have the names that they have at every layer: `handle_input`,
//! `handle_timeout`; `poll_transmit`, `poll_timeout`. Natively a fake host stands in for the runtime.
//!
//! Rules that hold everywhere:
//!
//! - Clients get ids of this server, never handles of the runtime; see [`ids`].
//! - One hub per log reads it once, whatever the number of followers; see [`hub`]. The same holds for each kind of
//!   subscribers of a channel: a lossless one that is slow holds writers back, and never takes more memory than its ring.
//! - A published message is acknowledged when the host has written it, and its credit returns then: the channel's
//!   backpressure reaches the publisher. A publication outlives its connection, and each of its numbers is taken once.
//! - At most [`Config::max_starts`] starts are in the host at a time, taken in turn from the connections; see [`starts`].
//! - A changing request is executed at most once, however often it is sent; see [`sessions`].
//! - Who came in has a role; what it may not do is refused before anything else is looked at; see [`policy`], [`access`].
//! - What changes something and what is refused is recorded, within bounds; see [`audit`].
//! - Tables keyed by what a client chose are ordered maps: there is no randomness to seed a hash with.

pub mod access;
pub mod audit;
mod channel_ops;
mod channels;
pub mod config;
mod connection;
mod deadlines;
mod directory;
mod failure;
#[cfg(any(test, feature = "test-util"))]
pub mod fake;
mod feed;
mod follow;
mod greeting;
pub mod host;
pub mod hub;
pub mod ids;
pub mod policy;
mod processes;
mod publications;
mod publishing;
pub mod quiet;
mod rate;
mod requests;
pub mod ring;
mod server;
pub mod sessions;
pub mod starts;
mod subscriptions;
pub mod table;
mod topic;

pub use audit::AuditEvent;
pub use config::Config;
pub use connection::ConnectionId;
pub use host::{
    Completion, Host, HostCall, HostChannel, HostProcess, LogId, OpId, ReaderId, WriterId,
};
pub use policy::{Permission, Permissions, Policy, Role, RoleId, RoleLimits};
pub use server::{HostCounters, Server};
