//! Log hubs: one reader per log, numbered records, a bounded replay ring, any number of followers.
//!
//! ```text
//!   Waiting ---- opened ----> Attached ---- ended ----> Ended
//!      \__________________ process stopped ______________/
//! ```
//!
//! Records are numbered as [`crate::ring`] says.

use selium_remote_client_protocol::ops::LogState;

use crate::{
    host::LogId,
    ring::{Entry, Ring},
};

/// A hub.
#[derive(Debug)]
pub struct Hub {
    log: LogId,
    state: LogState,
    ring: Ring,
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
            ring: Ring::default(),
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

    /// Its records.
    #[must_use]
    pub fn ring(&self) -> &Ring {
        &self.ring
    }

    /// When the last record came, if there is a clock.
    #[must_use]
    pub fn last_ms(&self) -> Option<u64> {
        self.last_ms
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
        let before = self.ring.bytes();
        self.ring.push(entry);
        self.last_ms = now_ms.or(self.last_ms);
        self.ring.trim(max, self.ring.last());
        self.ring.bytes() as isize - before as isize
    }

    /// Where a follower begins that wants at most `tail` entries, none before `since`.
    #[must_use]
    pub fn start_for(&self, tail: Option<u64>, since: Option<u64>) -> u64 {
        self.ring.start_for(tail, since).unwrap_or(0)
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
            assert_eq!(held as usize, hub.ring().bytes());
            assert!(hub.ring().bytes() <= 1_000);
        }
        assert_eq!((hub.ring().first(), hub.ring().next()), (90, 100));
        assert_eq!(hub.ring().entry(89), None);
        assert!(hub.ring().entry(90).is_some() && hub.ring().entry(99).is_some());
        assert_eq!(hub.ring().entry(100), None);
        // One entry is held whatever its size.
        hub.push(record(5_000), 1_000, None);
        assert_eq!(hub.ring().first(), 100);
    }

    #[test]
    fn followers_begin_where_they_ask() {
        let mut hub = Hub::new(LogId(1), true);
        for _ in 0..10 {
            hub.push(record(1), 5 * 65, None);
        }
        assert_eq!((hub.ring().first(), hub.ring().next()), (5, 10));
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
