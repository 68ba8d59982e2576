//! One client's connection, as the server keeps it.

use std::collections::BTreeMap;

use selium_remote_client_protocol::{Limits, RequestId, Time, server::ServerConnection};

use crate::{policy::RoleId, publications::Key, topic::TopicId};

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

/// A subscription for which writers wait, as it was when it was looked at last.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waited {
    /// Bytes that waited on its stream; the most that there is when it was seen to take something since.
    pub(crate) queued: usize,
    /// Since when it has taken nothing; not known before it was looked at.
    pub(crate) since: Option<Time>,
}

/// Bytes that are bounded over all connections.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counted {
    /// Answers and other control frames that wait to be sent.
    pub(crate) control: usize,
    /// Requests that have arrived and are not complete.
    pub(crate) reassembling: usize,
}

impl Counted {
    pub(crate) fn with(self, other: Self) -> Self {
        Self {
            control: self.control.saturating_add(other.control),
            reassembling: self.reassembling.saturating_add(other.reassembling),
        }
    }

    pub(crate) fn without(self, other: Self) -> Self {
        Self {
            control: self.control.saturating_sub(other.control),
            reassembling: self.reassembling.saturating_sub(other.reassembling),
        }
    }
}

#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) core: ServerConnection,
    /// The client's address, as the host tells it.
    pub(crate) peer: String,
    /// What its client may do.
    pub(crate) role: RoleId,
    /// Whether its client was let in, once.
    pub(crate) accepted: bool,
    /// The client's session, once its hello came.
    pub(crate) session: [u8; 16],
    /// What of it is counted in the server's totals.
    pub(crate) counted: Counted,
    pub(crate) followers: BTreeMap<RequestId, Follower>,
    /// Its streams of messages to the client.
    pub(crate) subscriptions: BTreeMap<RequestId, TopicId>,
    /// Those of them for which writers wait.
    pub(crate) waited_for: BTreeMap<RequestId, Waited>,
    /// Its streams of messages from the client.
    pub(crate) publishing: BTreeMap<RequestId, Key>,
    /// When the hello has to be there.
    pub(crate) hello_by: Time,
}

impl Connection {
    pub(crate) fn new(limits: Limits, peer: &str, role: RoleId, hello_by: Time) -> Self {
        Self {
            core: ServerConnection::new(limits),
            peer: peer.to_owned(),
            role,
            accepted: false,
            session: [0; 16],
            counted: Counted::default(),
            followers: BTreeMap::new(),
            subscriptions: BTreeMap::new(),
            waited_for: BTreeMap::new(),
            publishing: BTreeMap::new(),
            hello_by,
        }
    }

    /// Whether its hello is still to come.
    pub(crate) fn is_silent(&self) -> bool {
        !self.core.is_open() && !self.core.is_closed()
    }
}
