//! Peers that break the protocol, and how each of them ends (PROTOCOL.md says it; here it is asserted).

pub(crate) mod client;
pub(crate) mod server;
