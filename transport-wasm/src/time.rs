//! The host's clock. Everything here needs `TimeRead`, which the documented command line does not grant: be ready to live without.

pub use selium_abi::TimeNow;
use selium_abi::TimeSleep;

use crate::host::{
    self, HostError,
    calls::{TimeNowCall, TimeSleepCall},
};

/// Longest sleep, in milliseconds (one day). An abandoned sleep stays in the host until it ends.
pub const MAX_SLEEP_MS: u64 = 24 * 60 * 60 * 1_000;

/// Reads both clocks: Unix time and time since the host's first reading, in milliseconds. Cancel safe.
///
/// # Errors
/// [`HostError::PermissionDenied`] without the capability.
pub async fn now() -> Result<TimeNow, HostError> {
    host::call::<TimeNowCall>(&()).await
}

/// Sleeps for `duration_ms`, cut to [`MAX_SLEEP_MS`]. Cancel safe; a dropped sleep runs on in the host and wakes nobody.
///
/// # Errors
/// [`HostError::PermissionDenied`] without the capability, at once: never loop on a failed sleep.
pub async fn sleep(duration_ms: u64) -> Result<(), HostError> {
    host::call::<TimeSleepCall>(&TimeSleep {
        duration_ms: duration_ms.min(MAX_SLEEP_MS),
    })
    .await
}
