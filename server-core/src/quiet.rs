//! Logs and channels that have fallen silent, and may not have shown their last record.
//!
//! The runtime wakes a waiting reader only when a channel's end lies strictly behind the place it waits for: if a record
//! was being written just when its reader looked, the reader sees it only when the next one is written. The last record
//! of a burst can stay invisible for ever so. The remedy (which the host knows) makes every waiting reader look once more.
//! This is the timetable: once after the reading began, and once after each burst. Not more often, since a record that is
//! written in the very moment of the remedy is seen only when the next one is written.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use selium_remote_client_protocol::Time;

/// How long a source has to be silent before it is looked after.
pub const QUIET: Duration = Duration::from_millis(200);

#[derive(Clone, Copy, Debug)]
struct Source {
    last: Time,
    due: Time,
    /// Somebody asked since its last record.
    asked: bool,
}

/// The timetable of what `K` names. Holds at most one entry a source.
#[derive(Debug)]
pub struct Quiet<K> {
    sources: BTreeMap<K, Source>,
    by_due: BTreeSet<(Time, K)>,
}

impl<K> Default for Quiet<K> {
    fn default() -> Self {
        Self {
            sources: BTreeMap::new(),
            by_due: BTreeSet::new(),
        }
    }
}

impl<K: Copy + Ord> Quiet<K> {
    /// A record came, or the reading has just begun.
    pub fn touched(&mut self, source: K, now: Time) {
        if let Some(known) = self.sources.get_mut(&source) {
            // Moved on when it is due: a busy source costs nothing here.
            known.last = now;
            known.asked = false;
            return;
        }
        let due = now.saturating_add(QUIET);
        self.by_due.insert((due, source));
        self.sources.insert(
            source,
            Source {
                last: now,
                due,
                asked: false,
            },
        );
    }

    /// A source is over.
    pub fn remove(&mut self, source: K) {
        if let Some(known) = self.sources.remove(&source) {
            self.by_due.remove(&(known.due, source));
        }
    }

    /// When the next one is due.
    #[must_use]
    pub fn next(&self) -> Option<Time> {
        self.by_due.first().map(|(due, _)| *due)
    }

    /// The next one to look after at this time.
    pub fn pop(&mut self, now: Time) -> Option<K> {
        loop {
            let (due, source) = *self.by_due.first().filter(|(due, _)| *due <= now)?;
            let quiet_at = self.sources.get(&source)?.last.saturating_add(QUIET);
            if quiet_at <= now {
                self.remove(source);
                return Some(source);
            }
            // It spoke in the meantime.
            self.by_due.remove(&(due, source));
            self.by_due.insert((quiet_at, source));
            if let Some(known) = self.sources.get_mut(&source) {
                known.due = quiet_at;
            }
        }
    }

    /// Whether a source is to be looked after now: the way of a server without a clock. It is when it was asked for twice
    /// with no record in between, so that it is silent as long as askers wait between two questions.
    pub fn asked(&mut self, source: K) -> bool {
        let Some(known) = self.sources.get_mut(&source) else {
            return false;
        };
        if !core::mem::replace(&mut known.asked, true) {
            return false;
        }
        self.remove(source);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::LogId;

    const A: LogId = LogId(1);
    const B: LogId = LogId(2);

    fn at(ms: u64) -> Time {
        Time::from_millis(ms)
    }

    #[test]
    fn a_burst_is_followed_by_one_look() {
        let mut quiet = Quiet::default();
        quiet.touched(A, at(0));
        quiet.touched(A, at(150));
        assert_eq!(quiet.next(), Some(at(200)));
        assert_eq!(quiet.pop(at(200)), None, "it spoke 50 ms ago");
        assert_eq!(quiet.next(), Some(at(350)));
        assert_eq!(quiet.pop(at(350)), Some(A));
        assert_eq!(quiet.pop(at(9_999)), None, "once a burst");
        assert_eq!(quiet.next(), None);
        quiet.touched(A, at(10_000));
        quiet.touched(B, at(10_100));
        assert_eq!(quiet.pop(at(10_400)), Some(A));
        assert_eq!(quiet.pop(at(10_400)), Some(B));
        quiet.touched(A, at(10_500));
        quiet.remove(A);
        assert_eq!(quiet.next(), None);
        assert!(quiet.sources.is_empty());
    }

    #[test]
    fn without_a_clock_logs_are_looked_after_on_request() {
        let mut quiet = Quiet::default();
        assert!(!quiet.asked(A));
        quiet.touched(A, Time::ZERO);
        assert!(!quiet.asked(A), "it may be in the middle of a burst");
        quiet.touched(A, Time::ZERO);
        assert!(!quiet.asked(A));
        assert!(quiet.asked(A));
        assert!(!quiet.asked(A), "once a burst");
    }
}
