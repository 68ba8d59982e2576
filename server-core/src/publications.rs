//! The server's halves of publications: what was taken of them, and what of that the host has written.
//!
//! ```text
//!                 stream lost, reset, ended            the last write is over
//!   with a stream ------------------------> detached ------------------------> idle
//!          ^_______________________ opened again __________________________________/
//! ```
//!
//! A publication keeps its writer as long as the host has messages of it, so that those of another stream come behind
//! them. Only idle ones are forgotten, past a bound; see [`idle`].
//!
//! What the host has of a publication waits for its channel, and holds nothing of its connection's window: a channel that
//! is full stops its own publications and no others. It is bounded by each stream's window, and by three limits beyond:
//!
//! ```text
//! all together    max_bytes
//! a role          what it has beyond its part of one half (equal parts for all roles) comes out of the other half,
//!                 which all share: a role cannot take everything
//! a session       session_bytes; past them each of its publications may have an equal part, and one message at least
//! ```
//!
//! The publication that passes one of them is not taken on; see [`Publications::admits`].

mod idle;

use std::collections::{BTreeMap, VecDeque};

use self::idle::Idle;

use selium_remote_client_protocol::{RemoteError, publish::Intake};

use crate::{
    host::{HostCall, WriterId},
    policy::RoleId,
    ring::ENTRY_OVERHEAD,
    server::Waiter,
};

/// A client's session.
pub(crate) type Session = [u8; 16];

/// Which publication: the client's session and its number there.
pub(crate) type Key = (Session, u64);

/// What becomes of a publication's stream once the host has written what it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum After {
    /// It goes on.
    More,
    /// It ends: the client has ended its half.
    End,
    /// It ends with an error, and takes nothing more.
    Refused(RemoteError),
}

/// A publication.
#[derive(Debug)]
pub(crate) struct Publication {
    /// The channel's number.
    pub(crate) channel: u64,
    pub(crate) role: RoleId,
    /// The stream that it has now.
    pub(crate) stream: Option<Waiter>,
    pub(crate) intake: Intake,
    /// The last number that is in the channel.
    pub(crate) written: Option<u64>,
    /// Messages of the present stream that are not acknowledged: their numbers and costs.
    pub(crate) owed: VecDeque<(u64, usize)>,
    pub(crate) after: After,
    writer: Option<WriterId>,
    /// Its place among the idle ones.
    idle: Option<u64>,
}

/// What the host has of a publication.
#[derive(Debug)]
struct Writer {
    key: Key,
    channel: u64,
    role: RoleId,
    /// Numbers and bytes, in their order.
    pending: VecDeque<(u64, usize)>,
    /// Their bytes.
    bytes: usize,
}

/// How much may wait in the host; see the page's head.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) bytes: usize,
    pub(crate) session_bytes: usize,
    pub(crate) roles: usize,
}

/// A message that the host has written, or not.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Written {
    pub(crate) channel: u64,
    pub(crate) number: u64,
    /// The publication, unless it was given up.
    pub(crate) key: Option<Key>,
}

/// All publications.
#[derive(Debug)]
pub(crate) struct Publications {
    known: BTreeMap<Key, Publication>,
    writers: BTreeMap<WriterId, Writer>,
    /// Those without a stream of which the host has nothing.
    idle: Idle,
    last_writer: u64,
    /// Bytes of messages that the host has: of all roles and sessions that have some there.
    of_roles: BTreeMap<RoleId, usize>,
    of_sessions: BTreeMap<Session, usize>,
    max_idle: usize,
    bounds: Bounds,
}

/// Adds to what somebody has.
fn add<K: Ord>(to: &mut BTreeMap<K, usize>, key: K, bytes: usize) {
    let has = to.entry(key).or_default();
    *has = has.saturating_add(bytes);
}

/// Takes from what somebody has. Who has nothing is not in the table.
fn take<K: Ord>(from: &mut BTreeMap<K, usize>, key: K, bytes: usize) {
    if let Some(has) = from.get_mut(&key) {
        *has = has.saturating_sub(bytes);
        if *has == 0 {
            from.remove(&key);
        }
    }
}

impl Publications {
    pub(crate) fn new(max_idle: usize, bounds: Bounds) -> Self {
        Self {
            known: BTreeMap::new(),
            writers: BTreeMap::new(),
            idle: Idle::default(),
            last_writer: 0,
            of_roles: BTreeMap::new(),
            of_sessions: BTreeMap::new(),
            max_idle,
            bounds,
        }
    }

    pub(crate) fn get(&self, key: Key) -> Option<&Publication> {
        self.known.get(&key)
    }

    pub(crate) fn get_mut(&mut self, key: Key) -> Option<&mut Publication> {
        self.known.get_mut(&key)
    }

    /// What a message takes while the host has it.
    fn cost(len: usize) -> usize {
        len.saturating_add(ENTRY_OVERHEAD)
    }

    /// Whether the host may have another message of a publication; the limit that it would pass.
    ///
    /// # Errors
    /// That limit, in bytes.
    pub(crate) fn admits(&self, key: Key, len: usize) -> Result<(), usize> {
        let Some(publication) = self.known.get(&key) else {
            return Ok(());
        };
        let cost = Self::cost(len);
        let Bounds {
            bytes,
            session_bytes,
            roles,
        } = self.bounds;
        // What roles have beyond their parts of one half is in the other.
        let part = bytes / 2 / roles.max(1);
        let mut beyond = 0usize;
        let own = self.of_roles.get(&publication.role).copied();
        let own = own.unwrap_or_default().saturating_add(cost);
        for (role, has) in &self.of_roles {
            if *role != publication.role {
                beyond = beyond.saturating_add(has.saturating_sub(part));
            }
        }
        beyond = beyond.saturating_add(own.saturating_sub(part));
        if own > part && beyond > bytes - part * roles.max(1) {
            return Err(bytes);
        }
        let session = self.of_sessions.get(&key.0).copied();
        if session.unwrap_or_default().saturating_add(cost) <= session_bytes {
            return Ok(());
        }
        let writer = publication.writer.and_then(|id| self.writers.get(&id));
        let has = writer.map_or(0, |writer| writer.bytes);
        let of_session = self.known.range((key.0, 0)..=(key.0, u64::MAX));
        let open = of_session.filter(|(_, p)| p.stream.is_some()).count();
        if has == 0 || has.saturating_add(cost) <= session_bytes / open.max(1) {
            return Ok(());
        }
        Err(session_bytes)
    }

    /// Gives a publication a stream; makes it, if it is new. Answers the stream that it had.
    pub(crate) fn attach(
        &mut self,
        key: Key,
        channel: u64,
        role: RoleId,
        stream: Waiter,
    ) -> Option<Waiter> {
        let publication = self.known.entry(key).or_insert_with(|| Publication {
            channel,
            role,
            stream: None,
            intake: Intake::default(),
            written: None,
            owed: VecDeque::new(),
            after: After::More,
            writer: None,
            idle: None,
        });
        if let Some(place) = publication.idle.take() {
            self.idle.remove(publication.role, key, place);
        }
        publication.owed.clear();
        publication.after = After::More;
        publication.stream.replace(stream)
    }

    /// A publication's stream is gone.
    pub(crate) fn detach(&mut self, key: Key) -> Option<HostCall> {
        let publication = self.known.get_mut(&key)?;
        publication.stream = None;
        publication.owed = VecDeque::new();
        publication.after = After::More;
        self.rest(key)
    }

    /// Looks whether a publication has become idle. Its writer is closed then.
    pub(crate) fn rest(&mut self, key: Key) -> Option<HostCall> {
        let is_pending = self.is_pending(key);
        let publication = self.known.get_mut(&key)?;
        if publication.stream.is_some() || publication.idle.is_some() || is_pending {
            return None;
        }
        publication.idle = Some(self.idle.insert(publication.role, key));
        let writer = publication.writer.take();
        if self.idle.len() > self.max_idle
            && let Some(key) = self.idle.pop()
        {
            self.known.remove(&key);
        }
        self.close(writer?)
    }

    /// Gives a publication up: what the host has of it is no longer of interest.
    pub(crate) fn remove(&mut self, key: Key) -> (Option<Publication>, Option<HostCall>) {
        let Some(mut publication) = self.known.remove(&key) else {
            return (None, None);
        };
        if let Some(place) = publication.idle {
            self.idle.remove(publication.role, key, place);
        }
        let call = publication
            .writer
            .take()
            .and_then(|writer| self.close(writer));
        (Some(publication), call)
    }

    /// The publications to this channel.
    pub(crate) fn of_channel(&self, channel: u64) -> Vec<Key> {
        let of = self.known.iter().filter(|(_, p)| p.channel == channel);
        of.map(|(key, _)| *key).collect()
    }

    /// Whether the host has messages of a publication.
    pub(crate) fn is_pending(&self, key: Key) -> bool {
        let writer = self.known.get(&key).and_then(|p| p.writer);
        let writer = writer.and_then(|writer| self.writers.get(&writer));
        writer.is_some_and(|writer| !writer.pending.is_empty())
    }

    /// Hands a message over to the host; answers the writer.
    pub(crate) fn hand_over(&mut self, key: Key, number: u64, len: usize) -> Option<WriterId> {
        let publication = self.known.get_mut(&key)?;
        let id = *publication.writer.get_or_insert_with(|| {
            self.last_writer += 1;
            WriterId(self.last_writer)
        });
        let (channel, role) = (publication.channel, publication.role);
        let writer = self.writers.entry(id).or_insert_with(|| Writer {
            key,
            channel,
            role,
            pending: VecDeque::new(),
            bytes: 0,
        });
        let cost = Self::cost(len);
        writer.pending.push_back((number, cost));
        writer.bytes = writer.bytes.saturating_add(cost);
        add(&mut self.of_roles, role, cost);
        add(&mut self.of_sessions, key.0, cost);
        Some(id)
    }

    /// The host is done with the oldest message of a writer.
    pub(crate) fn written(&mut self, id: WriterId) -> Option<Written> {
        let writer = self.writers.get_mut(&id)?;
        let (number, cost) = writer.pending.pop_front()?;
        writer.bytes = writer.bytes.saturating_sub(cost);
        let (key, channel) = (writer.key, writer.channel);
        take(&mut self.of_roles, writer.role, cost);
        take(&mut self.of_sessions, key.0, cost);
        let is_its_own = self.known.get(&key).is_some_and(|p| p.writer == Some(id));
        if writer.pending.is_empty() && !is_its_own {
            self.writers.remove(&id);
        }
        Some(Written {
            channel,
            number,
            key: is_its_own.then_some(key),
        })
    }

    /// Nothing more comes for a writer. What the host has of it is counted until it is written.
    fn close(&mut self, id: WriterId) -> Option<HostCall> {
        if self.writers.get(&id)?.pending.is_empty() {
            self.writers.remove(&id);
        }
        Some(HostCall::CloseWriter { writer: id })
    }
}
