//! The smallest guest there is: one line in its log, then it ends.
//!
//! Needs `ChannelLifecycle` and `ChannelWriter`, which every guest needs to have a log.

use selium_userland::entrypoint;

/// Logs the greeting.
#[entrypoint]
pub async fn hello() {
    greet();
}

/// The same under the name that the runtime takes when none is given.
#[entrypoint]
pub async fn start() {
    greet();
}

fn greet() {
    tracing::info!("hello from selium");
}
