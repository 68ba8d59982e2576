//! The core's own monotonic time.
//!
//! `std::time::Instant` cannot be made on `wasm32-unknown-unknown`, and a server module without a clock has no time at
//! all. The core therefore measures time as a duration since an origin that the driver chooses, and keeps working when
//! time never advances: every time-driven rule then simply never fires.

use core::time::Duration;

/// A point in time: a duration since the driver's origin.
///
/// Values of two drivers are not comparable. A driver without a clock passes [`Time::ZERO`] everywhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(Duration);

impl Time {
    /// The origin.
    pub const ZERO: Time = Time(Duration::ZERO);

    /// The time that lies `since_origin` after the origin.
    #[must_use]
    pub const fn from_origin(since_origin: Duration) -> Self {
        Self(since_origin)
    }

    /// The time that lies `ms` milliseconds after the origin.
    #[must_use]
    pub const fn from_millis(ms: u64) -> Self {
        Self(Duration::from_millis(ms))
    }

    /// The duration since the origin.
    #[must_use]
    pub const fn since_origin(self) -> Duration {
        self.0
    }

    /// The duration from `earlier` to `self`; zero when `earlier` is later.
    #[must_use]
    pub fn saturating_since(self, earlier: Time) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    /// `self` plus `duration`, or the last representable time.
    #[must_use]
    pub fn saturating_add(self, duration: Duration) -> Time {
        Time(self.0.saturating_add(duration))
    }
}
