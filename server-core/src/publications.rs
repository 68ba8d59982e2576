//! The server's halves of publications: what was taken of them, and what of that the host has written.
//!
//! ```text
//!                 stream lost, reset, ended            the last write is over
//!   with a stream ------------------------> detached ------------------------> idle
//!          ^_______________________ opened again __________________________________/
//! ```
//!
//! A publication keeps its writer as long as the host has messages of it, so that those of another stream come behind
//! them. Only idle ones are forgotten, past a bound: of the role that has most of them, the one that was detached first.

use std::collections::{BTreeMap, VecDeque};

use selium_remote_client_protocol::{RemoteError, publish::Intake};

use crate::{
    host::{HostCall, WriterId},
    policy::RoleId,
    ring::ENTRY_OVERHEAD,
    server::Waiter,
};

/// Which publication: the client's session and its number there.
pub(crate) type Key = ([u8; 16], u64);

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
    /// Numbers and bytes, in their order.
    pending: VecDeque<(u64, usize)>,
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
    /// Those without a stream of which the host has nothing, by when they became so.
    idle: BTreeMap<u64, Key>,
    last_idle: u64,
    last_writer: u64,
    /// Bytes of all messages that the host has.
    bytes: usize,
    max_idle: usize,
}

impl Publications {
    pub(crate) fn new(max_idle: usize) -> Self {
        Self {
            known: BTreeMap::new(),
            writers: BTreeMap::new(),
            idle: BTreeMap::new(),
            last_idle: 0,
            last_writer: 0,
            bytes: 0,
            max_idle,
        }
    }

    pub(crate) fn get(&self, key: Key) -> Option<&Publication> {
        self.known.get(&key)
    }

    pub(crate) fn get_mut(&mut self, key: Key) -> Option<&mut Publication> {
        self.known.get_mut(&key)
    }

    /// Bytes of all messages that the host has.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// What a message takes while the host has it.
    pub(crate) fn cost(len: usize) -> usize {
        len.saturating_add(ENTRY_OVERHEAD)
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
            self.idle.remove(&place);
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
        self.last_idle += 1;
        publication.idle = Some(self.last_idle);
        self.idle.insert(self.last_idle, key);
        let writer = publication.writer.take();
        if self.idle.len() > self.max_idle {
            self.forget_one();
        }
        self.close(writer?)
    }

    /// Gives a publication up: what the host has of it is no longer of interest.
    pub(crate) fn remove(&mut self, key: Key) -> (Option<Publication>, Option<HostCall>) {
        let Some(mut publication) = self.known.remove(&key) else {
            return (None, None);
        };
        if let Some(place) = publication.idle {
            self.idle.remove(&place);
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
        let channel = publication.channel;
        let writer = self.writers.entry(id).or_insert_with(|| Writer {
            key,
            channel,
            pending: VecDeque::new(),
        });
        let cost = Self::cost(len);
        writer.pending.push_back((number, cost));
        self.bytes = self.bytes.saturating_add(cost);
        Some(id)
    }

    /// The host is done with the oldest message of a writer.
    pub(crate) fn written(&mut self, id: WriterId) -> Option<Written> {
        let writer = self.writers.get_mut(&id)?;
        let (number, cost) = writer.pending.pop_front()?;
        self.bytes = self.bytes.saturating_sub(cost);
        let (key, channel) = (writer.key, writer.channel);
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

    /// Forgets an idle publication: of the role that has most of them, so that one role's do not push out another's.
    fn forget_one(&mut self) {
        let role = |key: &Key| self.known.get(key).map(|publication| publication.role);
        let mut of_roles: BTreeMap<RoleId, usize> = BTreeMap::new();
        for role in self.idle.values().filter_map(role) {
            *of_roles.entry(role).or_default() += 1;
        }
        let most = of_roles.into_iter().max_by_key(|(_, count)| *count);
        let most = most.map(|(role, _)| role);
        let oldest = self.idle.iter().find(|(_, key)| role(key) == most);
        let oldest = oldest.map(|(place, key)| (*place, *key));
        if let Some((place, key)) = oldest {
            self.idle.remove(&place);
            self.known.remove(&key);
        }
    }
}
