//! Log hubs: one reader per log, numbered records, a bounded replay ring, any number of followers.
//!
//! ```text
//!   Waiting ---- opened ----> Attached ---- ended ----> Ended
//!      \__________________ process stopped ______________/
//! ```
//!
//! Every record gets a sequence number, from 0, and keeps it. Where the runtime lost records (it does not say how many)
//! one number stands for the hole, so that everyone who replays it sees the same hole at the same place. What a hub
//! itself no longer holds is counted exactly.

use std::collections::VecDeque;

use bytes::Bytes;
use selium_remote_client_protocol::ops::LogState;

use crate::host::LogId;

/// What an entry costs besides its bytes.
const ENTRY_OVERHEAD: usize = 64;

/// One place in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A record.
    Record(Bytes),
    /// The runtime lost an unknown number of records here.
    Lost,
}

impl Entry {
    fn cost(&self) -> usize {
        match self {
            Entry::Record(bytes) => bytes.len() + ENTRY_OVERHEAD,
            Entry::Lost => ENTRY_OVERHEAD,
        }
    }
}

/// A hub.
#[derive(Debug)]
pub struct Hub {
    log: LogId,
    state: LogState,
    ring: VecDeque<Entry>,
    bytes: usize,
    next: u64,
    attempts: u32,
    looking: bool,
    last_ms: Option<u64>,
}

impl Hub {
    /// A hub of a log that is being looked for; of none when the process cannot have one.
    #[must_use]
    pub fn new(log: LogId, can_log: bool) -> Self {
        Self {
            log,
            state: if can_log {
                LogState::Waiting
            } else {
                LogState::None
            },
            ring: VecDeque::new(),
            bytes: 0,
            next: 0,
            attempts: 0,
            looking: false,
            last_ms: None,
        }
    }

    /// The log.
    #[must_use]
    pub fn log(&self) -> LogId {
        self.log
    }

    /// What is known of the log.
    #[must_use]
    pub fn state(&self) -> LogState {
        self.state
    }

    /// Bytes that the ring holds, overheads included.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The sequence number of the oldest entry that is held (the next one's when none is).
    #[must_use]
    pub fn first(&self) -> u64 {
        self.next.saturating_sub(self.ring.len() as u64)
    }

    /// The sequence number that the next entry will get.
    #[must_use]
    pub fn next(&self) -> u64 {
        self.next
    }

    /// When the last record came, if there is a clock.
    #[must_use]
    pub fn last_ms(&self) -> Option<u64> {
        self.last_ms
    }

    /// The entry with this sequence number, if it is still held.
    #[must_use]
    pub fn entry(&self, sequence: u64) -> Option<&Entry> {
        let at = sequence.checked_sub(self.first())?;
        self.ring.get(usize::try_from(at).ok()?)
    }

    /// Begins to look for the log, unless that is under way or pointless; answers how often it was looked for before.
    pub fn look(&mut self, max_attempts: u32) -> Option<u32> {
        if self.state != LogState::Waiting || self.looking || self.attempts >= max_attempts {
            return None;
        }
        self.looking = true;
        self.attempts += 1;
        Some(self.attempts - 1)
    }

    /// Whether the host is looking for the log or reading it, so that it must be told when that is to end.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.looking || self.state == LogState::Attached
    }

    /// The log was found.
    pub fn opened(&mut self) {
        self.looking = false;
        if self.state == LogState::Waiting {
            self.state = LogState::Attached;
        }
    }

    /// The log was not found this time.
    pub fn missing(&mut self) {
        self.looking = false;
    }

    /// The log is over.
    pub fn ended(&mut self) {
        self.looking = false;
        if self.state != LogState::None {
            self.state = LogState::Ended;
        }
    }

    /// Adds an entry and drops the oldest until the ring holds at most `max` bytes (but for the entry itself); answers
    /// by how many bytes the ring grew (or shrank).
    pub fn push(&mut self, entry: Entry, max: usize, now_ms: Option<u64>) -> isize {
        let before = self.bytes;
        self.bytes += entry.cost();
        self.ring.push_back(entry);
        self.next = self.next.saturating_add(1);
        self.last_ms = now_ms.or(self.last_ms);
        while self.bytes > max && self.ring.len() > 1 {
            if let Some(oldest) = self.ring.pop_front() {
                self.bytes = self.bytes.saturating_sub(oldest.cost());
            }
        }
        self.bytes as isize - before as isize
    }

    /// Where a follower begins that wants at most `tail` entries, none before `since`.
    #[must_use]
    pub fn start_for(&self, tail: Option<u64>, since: Option<u64>) -> u64 {
        let tail = tail.map(|tail| self.next.saturating_sub(tail).max(self.first()));
        // Not cut to what is held: the follower is told exactly what is missing, and waits for what is not written yet.
        tail.max(since).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(len: usize) -> Entry {
        Entry::Record(vec![1; len].into())
    }

    #[test]
    fn the_ring_is_bounded_and_numbers_stay() {
        let mut hub = Hub::new(LogId(1), true);
        let mut held = 0isize;
        for _ in 0..100 {
            held += hub.push(record(36), 1_000, None);
            assert_eq!(held as usize, hub.bytes());
            assert!(hub.bytes() <= 1_000);
        }
        assert_eq!((hub.first(), hub.next()), (90, 100));
        assert_eq!(hub.entry(89), None);
        assert!(hub.entry(90).is_some() && hub.entry(99).is_some());
        assert_eq!(hub.entry(100), None);
        // One entry is held whatever its size.
        hub.push(record(5_000), 1_000, None);
        assert_eq!(hub.first(), 100);
    }

    #[test]
    fn followers_begin_where_they_ask() {
        let mut hub = Hub::new(LogId(1), true);
        for _ in 0..10 {
            hub.push(record(1), 5 * 65, None);
        }
        assert_eq!((hub.first(), hub.next()), (5, 10));
        assert_eq!(
            hub.start_for(None, None),
            0,
            "and is told that 5 are missing"
        );
        assert_eq!(hub.start_for(Some(3), None), 7);
        assert_eq!(hub.start_for(Some(100), None), 5);
        assert_eq!(hub.start_for(Some(0), None), 10);
        assert_eq!(hub.start_for(None, Some(2)), 2);
        assert_eq!(hub.start_for(None, Some(99)), 99);
        assert_eq!(hub.start_for(Some(2), Some(6)), 8, "what both allow");
        assert_eq!(hub.start_for(Some(9), Some(6)), 6);
    }

    #[test]
    fn a_log_is_looked_for_once_at_a_time() {
        let mut hub = Hub::new(LogId(1), true);
        assert_eq!(hub.look(2), Some(0));
        assert_eq!(hub.look(2), None);
        hub.missing();
        assert_eq!(hub.look(2), Some(1));
        hub.missing();
        assert_eq!(hub.look(2), None, "no more attempts");
        assert_eq!(hub.look(3), Some(2));
        hub.opened();
        assert_eq!(hub.state(), LogState::Attached);
        hub.ended();
        assert_eq!(hub.state(), LogState::Ended);
        assert_eq!(Hub::new(LogId(2), false).look(9), None);
    }
}
