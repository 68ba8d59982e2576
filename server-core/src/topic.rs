//! One source of a channel: what is read of it on behalf of all its subscribers of one kind.
//!
//! ```text
//!            first subscriber                 last one gone
//!   Closed ------------------->   Open   ----------------------->  Closing
//!      ^                       (paused or not)                        |
//!      |_______________ the reader ended _____________________________|
//! ```
//!
//! Lossy: what the ring has no room for is dropped, and counted for those who had not got it. Lossless: what a subscriber
//! has not got is never dropped; the reader is paused while that passes the bound, and goes on when it is half of it.
//! Numbers go on when a reader was closed and another one is opened: one of them stands for what was written between.

use std::collections::BTreeMap;

use crate::{
    host::ReaderId,
    ring::{Entry, Ring},
};

/// Whom a source is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Kind {
    /// Subscribers that may lose messages.
    Lossy,
    /// Subscribers that writers wait for.
    Lossless,
}

/// A source of the channel with this number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct TopicId {
    pub(crate) channel: u64,
    pub(crate) kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reader {
    Closed,
    Open { id: ReaderId, paused: bool },
    Closing,
}

/// Whether there is anything more to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rest {
    /// There may be.
    Some,
    /// The reader has ended while the channel was being drained or deleted: what that comes to is not known yet.
    Unknown,
    /// The channel is drained and was read to its end.
    None,
}

/// What the reader is to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    Pause(ReaderId),
    Resume(ReaderId),
}

/// A source. `S` names a subscriber.
#[derive(Debug)]
pub(crate) struct Topic<S> {
    kind: Kind,
    ring: Ring,
    /// The next number that each subscriber gets.
    cursors: BTreeMap<S, u64>,
    reader: Reader,
    /// Whether something may be missing behind the last entry.
    broken: bool,
    pub(crate) rest: Rest,
}

impl<S: Copy + Ord> Topic<S> {
    pub(crate) fn new(kind: Kind) -> Self {
        Self {
            kind,
            ring: Ring::default(),
            cursors: BTreeMap::new(),
            reader: Reader::Closed,
            broken: false,
            rest: Rest::Some,
        }
    }

    pub(crate) fn ring(&self) -> &Ring {
        &self.ring
    }

    /// How many subscribers it has.
    pub(crate) fn len(&self) -> usize {
        self.cursors.len()
    }

    pub(crate) fn subscribers(&self) -> Vec<S> {
        self.cursors.keys().copied().collect()
    }

    /// The ring, and where a subscriber stands in it.
    pub(crate) fn place(&mut self, subscriber: S) -> Option<(&Ring, &mut u64)> {
        let cursor = self.cursors.get_mut(&subscriber)?;
        Some((&self.ring, cursor))
    }

    /// Marks the place where something may be missing, once.
    pub(crate) fn mark_break(&mut self) {
        if core::mem::take(&mut self.broken) && self.rest != Rest::None {
            self.ring.push(Entry::Lost);
        }
    }

    /// Adds a subscriber, who gets nothing of what was before when it asks for nothing of that.
    pub(crate) fn join(&mut self, subscriber: S, tail: Option<u64>, since: Option<u64>) {
        let start = self.ring.start_for(tail, since);
        self.cursors
            .insert(subscriber, start.unwrap_or(self.ring.next()));
    }

    /// Forgets a subscriber; whether it was the last one.
    pub(crate) fn leave(&mut self, subscriber: S) -> bool {
        self.cursors.remove(&subscriber).is_some() && self.cursors.is_empty()
    }

    /// Whether a reader is to be opened now.
    pub(crate) fn wants_reader(&self) -> bool {
        self.reader == Reader::Closed && self.rest == Rest::Some && !self.cursors.is_empty()
    }

    /// A reader was opened.
    pub(crate) fn opened(&mut self, id: ReaderId) {
        self.mark_break();
        self.reader = Reader::Open { id, paused: false };
    }

    /// The reader that brings messages.
    pub(crate) fn reader(&self) -> Option<ReaderId> {
        match self.reader {
            Reader::Open { id, .. } => Some(id),
            _ => None,
        }
    }

    /// The reader that brings messages now.
    pub(crate) fn is_reading(&self) -> bool {
        matches!(self.reader, Reader::Open { paused: false, .. })
    }

    /// Whether the reader waits until there is room.
    pub(crate) fn is_paused(&self) -> bool {
        matches!(self.reader, Reader::Open { paused: true, .. })
    }

    /// The subscribers that have not got everything.
    pub(crate) fn behind(&self) -> Vec<S> {
        let next = self.ring.next();
        let behind = self.cursors.iter().filter(|(_, cursor)| **cursor < next);
        behind.map(|(subscriber, _)| *subscriber).collect()
    }

    /// Whether there is no reader, not even one that is closing.
    pub(crate) fn is_closed(&self) -> bool {
        self.reader == Reader::Closed
    }

    /// Closes the reader, if it is open.
    pub(crate) fn close(&mut self) -> Option<ReaderId> {
        let id = self.reader()?;
        self.reader = Reader::Closing;
        self.broken = true;
        Some(id)
    }

    /// The reader is gone; whether it had been closed.
    pub(crate) fn ended(&mut self) -> bool {
        let was_closing = self.reader == Reader::Closing;
        self.reader = Reader::Closed;
        self.broken |= !was_closing;
        was_closing
    }

    /// Adds what was read.
    pub(crate) fn push(&mut self, entry: Entry) {
        self.ring.push(entry);
    }

    /// Below which number nobody misses an entry that is dropped, or is told how many.
    fn keep(&self) -> u64 {
        match self.kind {
            Kind::Lossy => self.ring.last(),
            Kind::Lossless => {
                let least = self.cursors.values().min().copied();
                least.unwrap_or(u64::MAX).min(self.ring.next())
            }
        }
    }

    /// Drops what is too much, and says whether the reader is to wait or to go on.
    pub(crate) fn settle(&mut self, max: usize) -> Option<Pace> {
        let keep = self.keep();
        if self.kind == Kind::Lossy {
            self.ring.trim(max, keep);
            return None;
        }
        let Reader::Open { id, paused } = self.reader else {
            self.ring.trim(max, keep);
            return None;
        };
        // So that a reader does not stop and go with each message.
        let max = if paused { max / 2 } else { max };
        self.ring.trim(max, keep);
        let full = self.ring.bytes() > max;
        if full == paused {
            return None;
        }
        self.reader = Reader::Open { id, paused: full };
        Some(if full {
            Pace::Pause(id)
        } else {
            Pace::Resume(id)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const R: ReaderId = ReaderId(1);

    fn message() -> Entry {
        Entry::Record(vec![0; 36].into())
    }

    #[test]
    fn the_slowest_lossless_subscriber_pauses_the_reader() {
        let mut topic = Topic::new(Kind::Lossless);
        let (fast, slow) = (1, 2);
        topic.join(fast, None, None);
        topic.join(slow, None, None);
        assert!(topic.wants_reader());
        topic.opened(R);
        for n in 1..=10u64 {
            topic.push(message());
            *topic.place(fast).unwrap().1 = n;
            assert_eq!(topic.settle(1_000), None, "{n}");
        }
        topic.push(message());
        assert_eq!(topic.settle(1_000), Some(Pace::Pause(R)));
        assert_eq!((topic.ring().first(), topic.ring().bytes()), (0, 1_100));
        // One that was on its way.
        topic.push(message());
        assert_eq!(topic.settle(1_000), None);
        *topic.place(slow).unwrap().1 = 6;
        assert_eq!(topic.settle(1_000), None, "not before half");
        *topic.place(slow).unwrap().1 = 7;
        assert_eq!(topic.settle(1_000), Some(Pace::Resume(R)));
        assert_eq!(topic.settle(1_000), None);
        // A fast one that goes changes nothing; when the slow one goes nobody misses anything.
        assert!(!topic.leave(fast));
        assert!(topic.leave(slow));
        assert_eq!(topic.settle(200), None);
        assert_eq!(topic.ring().first(), 10);
    }

    #[test]
    fn a_message_longer_than_the_bound_does_not_stop_the_reader_for_ever() {
        let mut topic = Topic::new(Kind::Lossless);
        topic.join(1, None, None);
        topic.opened(R);
        topic.push(message());
        assert_eq!(topic.settle(50), Some(Pace::Pause(R)));
        *topic.place(1).unwrap().1 = 1;
        assert_eq!(topic.settle(50), Some(Pace::Resume(R)));
        assert_eq!(topic.ring().bytes(), 0);
    }

    #[test]
    fn a_reader_that_was_away_leaves_a_mark() {
        let mut topic = Topic::new(Kind::Lossy);
        topic.join(1, None, None);
        topic.opened(R);
        topic.push(message());
        assert!(topic.leave(1));
        assert_eq!(topic.close(), Some(R));
        assert_eq!(topic.close(), None);
        topic.join(2, None, None);
        assert!(!topic.wants_reader(), "the old one is there");
        assert!(topic.ended());
        assert!(topic.wants_reader());
        topic.opened(ReaderId(2));
        assert_eq!(topic.ring().entry(1), Some(&Entry::Lost));
        assert_eq!(*topic.place(2).unwrap().1, 1, "it was there, and is told");
        assert_eq!(topic.ring().next(), 2);
    }
}
