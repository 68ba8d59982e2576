//! How much has come through, and how fast.

use std::cell::Cell;
use std::time::Duration;

use tokio::time::Instant;

use crate::render::size;

/// How often progress is shown.
pub(crate) const EVERY: Duration = Duration::from_secs(1);

/// Counts messages.
#[derive(Debug)]
pub(crate) struct Meter {
    begun: Instant,
    messages: Cell<u64>,
    bytes: Cell<u64>,
    /// When it was looked at, and what had come through then.
    seen: Cell<(Instant, u64, u64)>,
}

impl Meter {
    /// Begins now.
    pub(crate) fn start() -> Self {
        let now = Instant::now();
        Self {
            begun: now,
            messages: Cell::new(0),
            bytes: Cell::new(0),
            seen: Cell::new((now, 0, 0)),
        }
    }

    /// One more message, of so many bytes.
    pub(crate) fn count(&self, bytes: usize) {
        self.messages.set(self.messages.get().saturating_add(1));
        self.bytes
            .set(self.bytes.get().saturating_add(bytes as u64));
    }

    /// The messages.
    pub(crate) fn messages(&self) -> u64 {
        self.messages.get()
    }

    /// Their bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.get()
    }

    /// What came through, and how fast since it was looked at last.
    pub(crate) fn look(&self) -> String {
        self.look_at(Instant::now())
    }

    fn look_at(&self, now: Instant) -> String {
        let (messages, bytes) = (self.messages.get(), self.bytes.get());
        let (then, old_messages, old_bytes) = self.seen.replace((now, messages, bytes));
        line(
            (messages, bytes),
            (
                messages.saturating_sub(old_messages),
                bytes.saturating_sub(old_bytes),
            ),
            now.duration_since(then),
        )
    }

    /// What came through in all, and how fast.
    pub(crate) fn total(&self) -> String {
        let all = (self.messages.get(), self.bytes.get());
        line(all, all, self.begun.elapsed())
    }
}

fn line(all: (u64, u64), recent: (u64, u64), time: Duration) -> String {
    let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1);
    let rate = |count: u64| count.saturating_mul(1_000) / millis;
    format!(
        "{}, {}; {} messages/s, {}/s",
        size::messages(all.0),
        size::bytes(all.1),
        size::grouped(rate(recent.0)),
        size::bytes(rate(recent.1)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_those_of_the_time_between() {
        let meter = Meter::start();
        for _ in 0..1_500 {
            meter.count(1_024);
        }
        let then = meter.begun + Duration::from_millis(500);
        assert_eq!(
            meter.look_at(then),
            "1,500 messages, 1.4 MiB; 3,000 messages/s, 2.9 MiB/s"
        );
        assert_eq!(
            meter.look_at(then + EVERY),
            "1,500 messages, 1.4 MiB; 0 messages/s, 0 B/s"
        );
        // A clock that stands still divides by nothing.
        meter.count(1);
        assert!(meter.look_at(then + EVERY).starts_with("1,501 messages"));
    }
}
