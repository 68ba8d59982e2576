//! One client's connection, as the server keeps it.

use std::collections::BTreeMap;

use selium_remote_client_protocol::{Limits, RequestId, Time, server::ServerConnection};

/// A connection. Chosen by the server, never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// A stream of log records to a client.
#[derive(Clone, Debug)]
pub(crate) struct Follower {
    /// The process's number.
    pub(crate) ordinal: u64,
    /// The next sequence number to send.
    pub(crate) cursor: u64,
    /// Where it ends, if it does not follow.
    pub(crate) until: Option<u64>,
}

#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) core: ServerConnection,
    /// The client's address, as the host tells it.
    pub(crate) peer: String,
    /// The client's session, once its hello came.
    pub(crate) session: [u8; 16],
    pub(crate) followers: BTreeMap<RequestId, Follower>,
    /// When the hello has to be there.
    pub(crate) hello_by: Time,
}

impl Connection {
    pub(crate) fn new(limits: Limits, peer: &str, hello_by: Time) -> Self {
        Self {
            core: ServerConnection::new(limits),
            peer: peer.to_owned(),
            session: [0; 16],
            followers: BTreeMap::new(),
            hello_by,
        }
    }
}
