//! Logs "tick 1" to "tick N" at an interval, then ends.
//!
//! Needs `ChannelLifecycle` and `ChannelWriter` for its log and `TimeRead` for its pauses; without `TimeRead` it ticks
//! without pausing.

use std::time::Duration;

use selium_userland::{entrypoint, time};

/// Logs `count` ticks, `interval_ms` apart.
#[entrypoint]
pub async fn ticker(count: u32, interval_ms: u32) {
    run(count, interval_ms).await;
}

/// The same under the name that the runtime takes when none is given.
#[entrypoint]
pub async fn start(count: u32, interval_ms: u32) {
    run(count, interval_ms).await;
}

async fn run(count: u32, interval_ms: u32) {
    let interval = Duration::from_millis(u64::from(interval_ms));
    let mut pausing = interval_ms > 0;
    for tick in 1..=count {
        tracing::info!("tick {tick}");
        if pausing
            && tick < count
            && let Err(error) = time::sleep(interval).await
        {
            // Not granted now means never granted: asking again for each tick would only cost time.
            tracing::warn!("no pauses, TimeRead is not granted: {error}");
            pausing = false;
        }
    }
}
