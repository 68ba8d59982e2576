//! How large the connection's window is (PROTOCOL.md, "Credit").
//!
//! What was given out as credit may lie in queues below the core, where nothing can be reordered: an answer that is
//! written then comes behind all of it. A window is therefore as large as the path needs, and no larger:
//!
//! ```text
//! window = rate * (base + slack)
//! rate     bytes of stream data that came while a ping was on its way, by that time; a stream has a part of the
//!          window, and the busiest one counts as if all others had come as far with theirs
//! base     the shortest round trip seen lately
//! slack    how long data may wait on the path: as long as the base, but 10 ms at least and 50 ms at most
//! ```
//!
//! It grows only while the sender uses it up, at most twofold at a time, and shrinks only while round trips are longer
//! than base and slack. A base that no round trip has confirmed for 10 s is measured anew, with the window at its
//! least for two pings. Without a clock every round trip takes no time, which tells nothing: the window stays.

use core::time::Duration;

use super::inbox::Arrivals;
use crate::{
    Time,
    limits::{Limits, MIN_CONNECTION_WINDOW},
};

/// Bounds of the slack.
const SLACK: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(50));

/// How long a base holds without being confirmed.
const BASE_AGE: Duration = Duration::from_secs(10);

/// Pings to measure a new base with: the first one still waits behind what was on its way.
const MEASURING: u8 = 2;

/// Set in the numbers of pings that measure: they are no sign of passing time to a server without a clock.
pub(crate) const MEASURES: u64 = 1 << 63;

/// The shortest round trip seen lately.
#[derive(Clone, Copy, Debug)]
struct Base {
    round_trip: Duration,
    confirmed: Time,
}

/// A ping on its way.
#[derive(Clone, Copy, Debug)]
struct Probe {
    token: [u8; 8],
    at: Time,
    received: u64,
}

/// Measures the path and says how large the window is.
#[derive(Debug)]
pub(crate) struct Pace {
    window: usize,
    least: usize,
    most: usize,
    /// The hello's window of the connection, and of a stream.
    first: (usize, usize),
    base: Option<Base>,
    probe: Option<Probe>,
    counter: u64,
    /// Bytes received when the last probe came back.
    seen: u64,
    /// Probes left that measure the base, and the window to go back to.
    measuring: Option<(u8, usize)>,
}

impl Pace {
    pub(crate) fn new(limits: &Limits) -> Self {
        let window = limits.connection_window;
        Self {
            window,
            least: MIN_CONNECTION_WINDOW.min(window),
            most: limits.max_connection_window.max(window),
            first: (window, limits.stream_window),
            base: None,
            probe: None,
            counter: 0,
            seen: 0,
            measuring: None,
        }
    }

    /// Whether it is time to measure: half a window came since the last time.
    pub(crate) fn wants_probe(&self, received: u64) -> bool {
        let since = received.saturating_sub(self.seen);
        self.probe.is_none() && since >= (self.window / 2) as u64
    }

    /// The eight bytes of a ping that measures.
    pub(crate) fn probe(&mut self, now: Time, received: u64) -> [u8; 8] {
        self.counter = self.counter.wrapping_add(1);
        let token = (self.counter | MEASURES).to_be_bytes();
        self.probe = Some(Probe {
            token,
            at: now,
            received,
        });
        token
    }

    /// Takes a pong; the window now, when it is another one.
    pub(crate) fn pong(
        &mut self,
        now: Time,
        token: [u8; 8],
        arrivals: impl FnOnce() -> Arrivals,
    ) -> Option<usize> {
        let probe = self.probe.filter(|probe| probe.token == token)?;
        self.probe = None;
        let arrivals = arrivals();
        self.seen = arrivals.received;
        let round_trip = now.saturating_since(probe.at);
        let before = self.window;
        let all = arrivals.received.saturating_sub(probe.received);
        let (connection, stream) = self.first;
        let busiest = arrivals.busiest.saturating_mul(connection as u64) / stream.max(1) as u64;
        self.sample(now, round_trip, all.max(busiest));
        (self.window != before).then_some(self.window)
    }

    /// Takes the round trip of a ping that was sent for another reason.
    pub(crate) fn confirm(&mut self, now: Time, round_trip: Duration) {
        if round_trip.is_zero() {
            return;
        }
        let base = self.base.get_or_insert(Base {
            round_trip,
            confirmed: now,
        });
        if round_trip <= base.round_trip + slack(base.round_trip) / 4 {
            base.confirmed = now;
            base.round_trip = base.round_trip.min(round_trip);
        }
    }

    fn sample(&mut self, now: Time, round_trip: Duration, bytes: u64) {
        if round_trip.is_zero() {
            return;
        }
        if let Some((left, window)) = self.measuring {
            if left > 1 {
                self.measuring = Some((left - 1, window));
                return;
            }
            self.measuring = None;
            self.window = window;
            self.base = None;
        }
        self.confirm(now, round_trip);
        let Some(base) = self.base else {
            return;
        };
        if now.saturating_since(base.confirmed) >= BASE_AGE {
            self.measuring = Some((MEASURING, self.window));
            self.window = self.least;
            return;
        }
        self.settle(base.round_trip, round_trip, bytes);
    }

    fn settle(&mut self, base: Duration, round_trip: Duration, bytes: u64) {
        let allowed = base + slack(base);
        let fits = u128::from(bytes) * allowed.as_nanos() / round_trip.as_nanos().max(1);
        let fits = usize::try_from(fits).unwrap_or(usize::MAX);
        if round_trip > allowed {
            let goal = fits.max(self.window / 2).max(self.least);
            self.window = self.window.min(goal);
        } else if bytes >= (self.window / 2) as u64 {
            let goal = fits.min(self.window.saturating_mul(2)).min(self.most);
            self.window = self.window.max(goal);
        }
    }
}

/// How long data may wait on a path with this base.
fn slack(base: Duration) -> Duration {
    base.clamp(SLACK.0, SLACK.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Many streams, none of which is busy.
    fn arrivals(received: u64) -> Arrivals {
        Arrivals {
            received,
            busiest: 0,
        }
    }

    /// A path that carries so many bytes a second, with a base round trip; everything beyond waits.
    struct Path {
        rate: u64,
        base: Duration,
        now: Time,
        received: u64,
    }

    impl Path {
        fn new(rate: u64, base_ms: u64) -> Self {
            Self {
                rate,
                base: Duration::from_millis(base_ms),
                now: Time::from_millis(1_000),
                received: 0,
            }
        }

        /// One probe under full load; the round trip.
        fn load(&mut self, pace: &mut Pace) -> Duration {
            let window = pace.window as u64;
            let filled = Duration::from_nanos(window * 1_000_000_000 / self.rate);
            let round_trip = filled.max(self.base);
            let bytes = window.min(self.rate * round_trip.as_nanos() as u64 / 1_000_000_000);
            let token = pace.probe(self.now, self.received);
            self.now = self.now.saturating_add(round_trip);
            self.received += bytes;
            let received = self.received;
            pace.pong(self.now, token, || arrivals(received));
            round_trip
        }

        fn idle(&mut self, pace: &mut Pace) {
            let token = pace.probe(self.now, self.received);
            self.now = self.now.saturating_add(self.base);
            let received = self.received;
            pace.pong(self.now, token, || arrivals(received));
        }
    }

    #[test]
    fn a_long_fat_path_gets_a_large_window() {
        let mut pace = Pace::new(&Limits::default());
        let mut path = Path::new(12_500_000, 100); // 100 Mbit/s
        path.idle(&mut pace);
        for _ in 0..10 {
            path.load(&mut pace);
        }
        let needed = 1_250_000;
        assert!(pace.window >= needed, "{}", pace.window);
        assert!(pace.window <= needed * 8 / 5, "{}", pace.window);
    }

    #[test]
    fn a_slow_path_gets_a_small_window_and_keeps_its_rate() {
        let mut pace = Pace::new(&Limits::default());
        let mut path = Path::new(1_250_000, 20); // 10 Mbit/s
        path.idle(&mut pace);
        for _ in 0..10 {
            path.load(&mut pace);
        }
        assert!((32_768..60_000).contains(&pace.window), "{}", pace.window);
        assert!(path.load(&mut pace) <= Duration::from_millis(45));
    }

    #[test]
    fn a_route_that_became_longer_is_noticed() {
        let mut pace = Pace::new(&Limits::default());
        let mut path = Path::new(12_500_000, 20);
        path.idle(&mut pace);
        for _ in 0..20 {
            path.load(&mut pace);
        }
        path.base = Duration::from_millis(200);
        for _ in 0..120 {
            path.load(&mut pace);
        }
        assert!(pace.window > 2_000_000, "{}", pace.window);
    }

    #[test]
    fn the_base_is_measured_anew_and_the_window_comes_back() {
        let mut pace = Pace::new(&Limits::default());
        let mut path = Path::new(1_250_000, 20);
        path.idle(&mut pace);
        let mut least = usize::MAX;
        for _ in 0..2_000 {
            path.load(&mut pace);
            least = least.min(pace.window);
        }
        let base = pace.base.map(|base| base.round_trip).unwrap();
        assert!(base < Duration::from_millis(30), "{base:?}: it creeps up");
        assert!(pace.window < 70_000, "{}", pace.window);
        assert_eq!(least, MIN_CONNECTION_WINDOW, "it was measured");
    }

    #[test]
    fn without_time_nothing_changes() {
        let mut pace = Pace::new(&Limits::default());
        for round in 0..10u64 {
            let token = pace.probe(Time::ZERO, round << 20);
            assert_eq!(
                pace.pong(Time::ZERO, token, || arrivals((round + 1) << 20)),
                None
            );
        }
        assert_eq!(pace.window, Limits::default().connection_window);
    }

    #[test]
    fn a_sender_that_needs_no_more_gets_no_more() {
        let mut pace = Pace::new(&Limits::default());
        let mut now = Time::from_millis(1);
        for round in 0..100u64 {
            let token = pace.probe(now, round * 1_000);
            now = now.saturating_add(Duration::from_millis(1));
            assert_eq!(
                pace.pong(now, token, || arrivals((round + 1) * 1_000)),
                None
            );
        }
    }

    #[test]
    fn one_stream_that_uses_up_its_part_is_enough_to_grow() {
        let limits = Limits::default();
        let mut pace = Pace::new(&limits);
        let part = limits.stream_window as u64;
        let token = pace.probe(Time::ZERO, 0);
        let now = Time::from_millis(100);
        let window = pace.pong(now, token, || Arrivals {
            received: part,
            busiest: part,
        });
        assert_eq!(
            window,
            Some(limits.connection_window * 3 / 2),
            "base and slack"
        );
    }

    #[test]
    fn other_pongs_are_not_taken() {
        let mut pace = Pace::new(&Limits::default());
        let token = pace.probe(Time::ZERO, 0);
        assert_eq!(
            pace.pong(Time::from_millis(1), [1; 8], || arrivals(1 << 20)),
            None
        );
        assert!(!pace.wants_probe(1 << 30));
        let window = pace.pong(Time::from_millis(1), token, || arrivals(1 << 20));
        assert!(window.is_some_and(|window| window > Limits::default().connection_window));
        assert!(pace.wants_probe(1 << 30));
    }
}
