//! Missing messages, as they are told: not one line each, where there are many.

use std::time::Duration;

use tokio::time::Instant;

use crate::render::channel::gap_text;
use crate::render::size;

/// How often a line is written.
pub(crate) const EVERY: Duration = Duration::from_secs(1);

/// What is missing in some places.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sum {
    places: u64,
    /// Messages, where that is known.
    messages: u64,
    /// Places where it is not.
    unknown: u64,
    /// The number of the message behind the last place.
    next: u64,
}

impl Sum {
    fn add(&mut self, count: Option<u64>, next: u64) {
        self.places = self.places.saturating_add(1);
        match count {
            Some(count) => self.messages = self.messages.saturating_add(count),
            None => self.unknown = self.unknown.saturating_add(1),
        }
        self.next = next;
    }

    /// What is missing, and in how many places.
    fn text(&self) -> String {
        let places = size::grouped(self.places);
        match (self.messages, self.unknown) {
            (messages, 0) => format!("{} lost in {places} places", size::messages(messages)),
            (0, _) => format!("messages lost in {places} places (how many is not known)"),
            (messages, unknown) => format!(
                "{} lost in {places} places, and in {} of them how many is not known",
                size::messages(messages),
                size::grouped(unknown)
            ),
        }
    }
}

/// Gathers gaps: the first is told at once, those that come within [`EVERY`] of the last line in one line behind that.
#[derive(Debug, Default)]
pub(crate) struct Gaps {
    all: Sum,
    untold: Sum,
    told: Option<Instant>,
}

impl Gaps {
    /// So many messages are missing before the one with the number `next`. What is to be said now, if anything.
    pub(crate) fn add(&mut self, count: Option<u64>, next: u64, now: Instant) -> Option<String> {
        self.all.add(count, next);
        self.untold.add(count, next);
        self.look(now)
    }

    /// When [`Gaps::look`] has something to say, if that is so at all.
    pub(crate) fn due(&self) -> Option<Instant> {
        let told = self.told.filter(|_| self.untold.places > 0)?;
        Some(told + EVERY)
    }

    fn is_due(&self, now: Instant) -> bool {
        self.untold.places > 0 && self.told.is_none_or(|told| now >= told + EVERY)
    }

    /// What is to be said now of what was not told yet.
    pub(crate) fn look(&mut self, now: Instant) -> Option<String> {
        if !self.is_due(now) {
            return None;
        }
        self.told = Some(now);
        let sum = std::mem::take(&mut self.untold);
        Some(match sum.places {
            1 => gap_text((sum.unknown == 0).then_some(sum.messages), sum.next),
            _ => format!("{}, the last before number {}", sum.text(), sum.next),
        })
    }

    /// What is missing in all, when one line has not said that already.
    pub(crate) fn total(&self) -> Option<String> {
        (self.all.places > 1).then(|| format!("in all, {}", self.all.text()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_gap_is_told_at_once_and_once() {
        let mut gaps = Gaps::default();
        let now = Instant::now();
        assert_eq!(gaps.total(), None);
        let first = gaps.add(Some(3), 9, now);
        assert_eq!(first.as_deref(), Some("3 messages lost before number 9"));
        assert_eq!((gaps.due(), gaps.total()), (None, None));
        assert_eq!(gaps.look(now + 2 * EVERY), None);
        let second = gaps.add(None, 20, now + EVERY);
        assert_eq!(
            second.as_deref(),
            Some("messages lost before number 20 (how many is not known)")
        );
        assert_eq!(
            gaps.total().as_deref(),
            Some("in all, 3 messages lost in 2 places, and in 1 of them how many is not known")
        );
    }

    #[test]
    fn many_gaps_are_one_line_a_second() {
        let mut gaps = Gaps::default();
        let now = Instant::now();
        let mut lines = Vec::new();
        for millis in 0..2_500 {
            let at = now + Duration::from_millis(millis);
            lines.extend(gaps.look(at));
            lines.extend(gaps.add(Some(2), millis, at));
        }
        assert_eq!(
            lines,
            [
                "2 messages lost before number 0",
                "1,998 messages lost in 999 places, the last before number 999",
                "2,000 messages lost in 1,000 places, the last before number 1999",
            ]
        );
        // The rest is due, also when nothing more comes.
        assert_eq!(gaps.due(), Some(now + 3 * EVERY));
        assert!(gaps.look(now + 3 * EVERY).is_some());
        assert_eq!(gaps.due(), None);
        assert_eq!(
            gaps.total().as_deref(),
            Some("in all, 5,000 messages lost in 2,500 places")
        );
    }

    #[test]
    fn what_nobody_counted_is_said_so() {
        let mut gaps = Gaps::default();
        let now = Instant::now();
        gaps.add(None, 1, now);
        gaps.add(None, 2, now);
        gaps.add(None, 3, now);
        gaps.add(Some(1), 4, now);
        assert_eq!(
            gaps.look(now + EVERY).as_deref(),
            Some(
                "1 message lost in 3 places, and in 2 of them how many is not known, the last before number 4"
            )
        );
        // One alone is said as ever.
        gaps.add(None, 7, now + EVERY);
        assert_eq!(
            gaps.look(now + 2 * EVERY).as_deref(),
            Some("messages lost before number 7 (how many is not known)")
        );
    }
}
