//! Logs that have fallen silent, and may not have shown their last record.
//!
//! The runtime wakes a waiting reader only when a channel's end lies strictly behind the place it waits for: if a record
//! was being written just when its reader looked, the reader sees it only when the next one is written. The last record
//! of a burst can stay invisible for ever so. The remedy (which the host knows) makes every waiting reader look once more.
//! This is the timetable: once after the log was found, and once after each burst. Not more often, since a record that is written in the very moment of the
//! remedy is seen only when the next one is written.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use selium_remote_client_protocol::Time;

use crate::host::LogId;

/// How long a log has to be silent before it is looked after.
pub const QUIET: Duration = Duration::from_millis(200);

#[derive(Clone, Copy, Debug)]
struct Log {
    last: Time,
    due: Time,
    /// Somebody asked since its last record.
    asked: bool,
}

/// The timetable. Holds at most one entry a log.
#[derive(Debug, Default)]
pub struct QuietLogs {
    logs: BTreeMap<LogId, Log>,
    by_due: BTreeSet<(Time, LogId)>,
}

impl QuietLogs {
    /// A record came, or the log was just found.
    pub fn touched(&mut self, log: LogId, now: Time) {
        if let Some(known) = self.logs.get_mut(&log) {
            // Moved on when it is due: a busy log costs nothing here.
            known.last = now;
            known.asked = false;
            return;
        }
        let due = now.saturating_add(QUIET);
        self.by_due.insert((due, log));
        self.logs.insert(
            log,
            Log {
                last: now,
                due,
                asked: false,
            },
        );
    }

    /// A log is over.
    pub fn remove(&mut self, log: LogId) {
        if let Some(known) = self.logs.remove(&log) {
            self.by_due.remove(&(known.due, log));
        }
    }

    /// When the next log is due.
    #[must_use]
    pub fn next(&self) -> Option<Time> {
        self.by_due.first().map(|(due, _)| *due)
    }

    /// The next log to look after at this time.
    pub fn pop(&mut self, now: Time) -> Option<LogId> {
        loop {
            let (due, log) = *self.by_due.first().filter(|(due, _)| *due <= now)?;
            let quiet_at = self.logs.get(&log)?.last.saturating_add(QUIET);
            if quiet_at <= now {
                self.remove(log);
                return Some(log);
            }
            // It spoke in the meantime.
            self.by_due.remove(&(due, log));
            self.by_due.insert((quiet_at, log));
            if let Some(known) = self.logs.get_mut(&log) {
                known.due = quiet_at;
            }
        }
    }

    /// Whether a log is to be looked after now: the way of a server without a clock. It is when it was asked for twice
    /// with no record in between, so that it is silent as long as askers wait between two questions.
    pub fn asked(&mut self, log: LogId) -> bool {
        let Some(known) = self.logs.get_mut(&log) else {
            return false;
        };
        if !core::mem::replace(&mut known.asked, true) {
            return false;
        }
        self.remove(log);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: LogId = LogId(1);
    const B: LogId = LogId(2);

    fn at(ms: u64) -> Time {
        Time::from_millis(ms)
    }

    #[test]
    fn a_burst_is_followed_by_one_look() {
        let mut quiet = QuietLogs::default();
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
        assert!(quiet.logs.is_empty());
    }

    #[test]
    fn without_a_clock_logs_are_looked_after_on_request() {
        let mut quiet = QuietLogs::default();
        assert!(!quiet.asked(A));
        quiet.touched(A, Time::ZERO);
        assert!(!quiet.asked(A), "it may be in the middle of a burst");
        quiet.touched(A, Time::ZERO);
        assert!(!quiet.asked(A));
        assert!(quiet.asked(A));
        assert!(!quiet.asked(A), "once a burst");
    }
}
