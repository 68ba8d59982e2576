//! How often something may happen: token buckets in the server's own time.

use core::time::Duration;

use selium_remote_client_protocol::Time;

/// The parts of one token: a bucket of N tokens a minute gets N parts a millisecond.
const TOKEN: u64 = 60_000;

/// A bucket that holds up to so many tokens, gets as many a minute, and gives one for each thing that happens.
///
/// It is full at first. Where time never advances nothing comes back by itself.
#[derive(Clone, Debug)]
pub(crate) struct Bucket {
    most: u64,
    level: u64,
    per_ms: u64,
    at: Time,
}

impl Bucket {
    pub(crate) fn new(most: u32, per_minute: u32) -> Self {
        let most = u64::from(most).saturating_mul(TOKEN);
        Self {
            most,
            level: most,
            per_ms: u64::from(per_minute),
            at: Time::ZERO,
        }
    }

    /// Takes a token, if there is one.
    pub(crate) fn take(&mut self, now: Time) -> bool {
        self.refill(now);
        match self.level.checked_sub(TOKEN) {
            Some(level) => {
                self.level = level;
                true
            }
            None => false,
        }
    }

    /// Gives a token.
    pub(crate) fn give(&mut self) {
        self.level = self.level.saturating_add(TOKEN).min(self.most);
    }

    /// How long it takes until there is a token; `None` when there never is.
    pub(crate) fn wait(&self) -> Option<Duration> {
        if self.most < TOKEN {
            return None;
        }
        let missing = TOKEN.saturating_sub(self.level);
        match missing {
            0 => Some(Duration::ZERO),
            _ if self.per_ms == 0 => None,
            _ => Some(Duration::from_millis(missing.div_ceil(self.per_ms))),
        }
    }

    fn refill(&mut self, now: Time) {
        // Whole milliseconds only; what is left of one counts the next time.
        let passed = now.saturating_since(self.at).as_millis();
        let passed = u64::try_from(passed).unwrap_or(u64::MAX);
        if passed == 0 {
            return;
        }
        self.at = self.at.saturating_add(Duration::from_millis(passed));
        let grown = passed.saturating_mul(self.per_ms);
        self.level = self.level.saturating_add(grown).min(self.most);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(bucket: &mut Bucket, now: Time) -> u32 {
        let mut taken = 0;
        while bucket.take(now) {
            taken += 1;
        }
        taken
    }

    #[test]
    fn a_bucket_gives_what_it_holds_and_what_comes_with_time() {
        let mut bucket = Bucket::new(5, 60);
        assert_eq!(taken(&mut bucket, Time::ZERO), 5);
        assert_eq!(bucket.wait(), Some(Duration::from_secs(1)));
        assert_eq!(taken(&mut bucket, Time::from_millis(999)), 0);
        assert_eq!(bucket.wait(), Some(Duration::from_millis(1)));
        assert_eq!(taken(&mut bucket, Time::from_millis(1_000)), 1);
        assert_eq!(taken(&mut bucket, Time::from_millis(3_500)), 2);
        // Time that goes back or stands still gives nothing.
        assert_eq!(taken(&mut bucket, Time::from_millis(1)), 0);
        assert_eq!(taken(&mut bucket, Time::from_millis(3_500)), 0);
        assert_eq!(taken(&mut bucket, Time::from_millis(1 << 60)), 5);
    }

    #[test]
    fn steps_below_a_millisecond_add_up() {
        let mut bucket = Bucket::new(1, 60_000);
        assert!(bucket.take(Time::ZERO));
        let at = |us| Time::from_origin(Duration::from_micros(us));
        assert!(!bucket.take(at(400)) && !bucket.take(at(800)));
        assert!(bucket.take(at(1_200)), "a token a millisecond");
        assert!(!bucket.take(at(1_900)));
        assert!(bucket.take(at(2_000)));
    }

    #[test]
    fn without_time_only_what_is_given_comes_back() {
        let mut bucket = Bucket::new(2, 60);
        assert_eq!(taken(&mut bucket, Time::ZERO), 2);
        for _ in 0..9 {
            bucket.give();
        }
        assert_eq!(taken(&mut bucket, Time::ZERO), 2, "no more than it holds");
        assert_eq!(Bucket::new(0, 0).wait(), None);
        assert!(!Bucket::new(0, u32::MAX).take(Time::from_millis(1 << 60)));
    }
}
