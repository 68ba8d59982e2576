//! What the end-to-end tests share: a runtime with the server module, the command line, a client that says anything,
//! and servers that are none.
//!
//! The tests are in `tests/`, a file for each part. They run only where `SELIUM_REMOTE_E2E` is set, as `cargo xtask test`
//! does; anywhere else they say that they were skipped, and pass. Everything is on loopback, waits have deadlines, and
//! no child outlives its test.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    clippy::print_stderr,
    reason = "everything here is for tests, which fail by panicking"
)]

pub mod certificates;
mod command;
mod figures;
pub mod guests;
mod hurry;
mod impostor;
mod json;
mod peer;
pub mod roles;
pub mod runtime;
mod server;
mod setup;
pub mod traffic;

pub use command::{Following, Run, WARNING, run};
pub use figures::{Dice, MIB, median, mib, processor_time, resident};
pub use hurry::Hurry;
pub use impostor::{Ca, Impostor};
pub use json::{array, line, lines, number, text};
pub use peer::{Answer, Knock, Peer, Tls, Wire, frames, hello};
pub use server::{Server, Shared};
pub use setup::{Setup, load_tests, setup};

use std::time::{Duration, Instant};

/// How long a test waits for what must happen: long on a busy machine, short against a hang.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// What every logging process needs, as the command line takes it.
pub const LOGGING: &str = "ChannelLifecycle,ChannelWriter";

/// Looks again and again until there is something.
///
/// # Panics
/// When that takes longer than [`PATIENCE`].
pub fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "never seen: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Runs a future on a runtime, for at most twice [`PATIENCE`].
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    block_on_for(PATIENCE * 2, future)
}

/// Runs a future on a runtime, for at most so long.
pub fn block_on_for<T>(limit: Duration, future: impl Future<Output = T>) -> T {
    runtime::block_on(async {
        runtime::timeout(limit, future)
            .await
            .expect("it ends in time")
    })
}

/// Waits for what must happen soon.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match runtime::timeout(PATIENCE, future).await {
        Some(value) => value,
        None => panic!("not within {} s: {what}", PATIENCE.as_secs()),
    }
}
