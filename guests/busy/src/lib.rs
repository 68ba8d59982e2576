//! Computes for a while without yielding, then stays alive for ever.
//!
//! For tests of what a stop does to a guest that cannot be stopped. Needs `ChannelLifecycle` and `ChannelWriter` for its
//! log.

use std::hint::black_box;

use selium_userland::entrypoint;

/// Logs "idle again" after `rounds` thousand rounds of arithmetic, during which nothing is awaited. There is no clock to
/// look at: that would be an await. How long a round takes is up to the machine.
#[entrypoint]
pub async fn start(rounds: u32) {
    let sum = spin(rounds);
    tracing::info!("idle again, sum {sum}");
    std::future::pending::<()>().await;
}

fn spin(rounds: u32) -> u64 {
    let mut sum = 0_u64;
    for round in 0..rounds {
        for step in 0..1_000_u64 {
            sum = black_box(sum.wrapping_mul(31).wrapping_add(step ^ u64::from(round)));
        }
    }
    sum
}
