//! The clock, if the runtime grants one (capability TimeRead).

use std::cell::Cell;

use selium_remote_client_protocol::Time;
use selium_remote_transport_wasm::{HostError, log, time};

/// How long the clock stands still between two looks at the host's, in milliseconds. Times are as exact as this.
const TICK_MS: u64 = 100;

/// The time since the module started. Without a clock it never advances.
#[derive(Debug)]
pub(crate) struct Clock {
    origin_ms: u64,
    unix_origin_ms: Option<u64>,
    now: Cell<Time>,
}

impl Clock {
    /// Asks the host for the time.
    ///
    /// # Errors
    /// When the host has no time for us; [`Clock::none`] is to be used then.
    pub(crate) async fn start() -> Result<Self, HostError> {
        let now = time::now().await?;
        log::set_now(now.unix_ms);
        Ok(Self {
            origin_ms: now.monotonic_ms,
            unix_origin_ms: Some(now.unix_ms),
            now: Cell::new(Time::ZERO),
        })
    }

    /// No clock.
    pub(crate) fn none() -> Self {
        Self {
            origin_ms: 0,
            unix_origin_ms: None,
            now: Cell::new(Time::ZERO),
        }
    }

    /// Unix time at the clock's origin, in milliseconds.
    pub(crate) fn unix_origin_ms(&self) -> Option<u64> {
        self.unix_origin_ms
    }

    /// Whether there is a clock.
    pub(crate) fn runs(&self) -> bool {
        self.unix_origin_ms.is_some()
    }

    /// The time of the last tick.
    pub(crate) fn now(&self) -> Time {
        self.now.get()
    }

    /// Waits for the next tick.
    ///
    /// # Errors
    /// When the host has no time for us any more.
    pub(crate) async fn tick(&self) -> Result<(), HostError> {
        time::sleep(TICK_MS).await?;
        let now = time::now().await?;
        log::set_now(now.unix_ms);
        self.now.set(Time::from_millis(
            now.monotonic_ms.saturating_sub(self.origin_ms),
        ));
        Ok(())
    }

    /// Waits about this long; not at all without a clock.
    pub(crate) async fn sleep(&self, ms: u64) {
        if self.runs() {
            // A failed sleep is a short one.
            let _ = time::sleep(ms).await;
        }
    }
}
