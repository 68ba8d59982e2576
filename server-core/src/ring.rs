//! Numbered entries, the latest of which are held: what logs and channels have in common.
//!
//! Every entry gets a sequence number, from 0, and keeps it. Where the runtime lost something (it does not say how much)
//! one number stands for the hole, so that everyone who replays it sees the same hole at the same place. What a ring
//! itself no longer holds is counted exactly.

use std::collections::VecDeque;

use bytes::Bytes;

/// What an entry costs besides its bytes.
pub const ENTRY_OVERHEAD: usize = 64;

/// One place in a log or channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A record or message.
    Record(Bytes),
    /// The runtime lost an unknown number of them here.
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

/// A ring.
#[derive(Debug, Default)]
pub struct Ring {
    entries: VecDeque<Entry>,
    bytes: usize,
    next: u64,
}

impl Ring {
    /// Bytes that it holds, overheads included.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The sequence number of the oldest entry that is held (the next one's when none is).
    #[must_use]
    pub fn first(&self) -> u64 {
        self.next.saturating_sub(self.entries.len() as u64)
    }

    /// The sequence number that the next entry will get.
    #[must_use]
    pub fn next(&self) -> u64 {
        self.next
    }

    /// The entry with this sequence number, if it is still held.
    #[must_use]
    pub fn entry(&self, sequence: u64) -> Option<&Entry> {
        let at = sequence.checked_sub(self.first())?;
        self.entries.get(usize::try_from(at).ok()?)
    }

    /// Adds an entry.
    pub fn push(&mut self, entry: Entry) {
        self.bytes += entry.cost();
        self.entries.push_back(entry);
        self.next = self.next.saturating_add(1);
    }

    /// Drops the oldest entries below the number `keep` until at most `max` bytes are held.
    pub fn trim(&mut self, max: usize, keep: u64) {
        while self.bytes > max && self.first() < keep {
            let Some(oldest) = self.entries.pop_front() else {
                return;
            };
            self.bytes = self.bytes.saturating_sub(oldest.cost());
        }
    }

    /// The number of the last entry: what is not to be dropped when it is all that there is.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.next.saturating_sub(1)
    }

    /// Where somebody begins who wants at most `tail` entries of those that are held, none before `since`; `None` when
    /// neither is said.
    #[must_use]
    pub fn start_for(&self, tail: Option<u64>, since: Option<u64>) -> Option<u64> {
        let tail = tail.map(|tail| self.next.saturating_sub(tail).max(self.first()));
        // Not cut to what is held: who asks is told exactly what is missing, and waits for what is not written yet.
        tail.max(since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_to_be_kept_is_kept() {
        let mut ring = Ring::default();
        for _ in 0..10 {
            ring.push(Entry::Record(vec![1; 36].into()));
        }
        ring.trim(500, 3);
        assert_eq!((ring.first(), ring.bytes()), (3, 700));
        ring.trim(500, 10);
        assert_eq!((ring.first(), ring.bytes()), (5, 500));
        ring.trim(0, ring.last());
        assert_eq!((ring.first(), ring.bytes()), (9, 100));
        ring.trim(0, 10);
        assert_eq!((ring.first(), ring.next(), ring.bytes()), (10, 10, 0));
        ring.trim(0, 99);
        assert_eq!(ring.start_for(None, None), None);
    }
}
