//! Logs many numbered lines as fast as it can, with fields and inside spans, then stays alive for ever.
//!
//! For tests of streams, gaps and fairness. Needs `ChannelLifecycle` and `ChannelWriter` for its log.

use selium_userland::entrypoint;

/// Lines in one inner span.
const GUST: u32 = 100;

/// Logs "line 1" to "line N", each with the fields `number` and `even`, inside the spans `storm` and `gust`.
#[entrypoint]
pub async fn start(count: u32) {
    rage(count);
    // Without TimeRead there is no sleep to loop over; a future that is never ready parks the guest for good.
    std::future::pending::<()>().await;
}

#[tracing::instrument(name = "storm", level = "info")]
fn rage(count: u32) {
    let mut first = 1;
    while first <= count {
        let last = first.saturating_add(GUST - 1).min(count);
        gust(first, last);
        let Some(next) = last.checked_add(1) else {
            break;
        };
        first = next;
    }
}

#[tracing::instrument(name = "gust", level = "info")]
fn gust(first: u32, last: u32) {
    for number in first..=last {
        tracing::info!(number, even = number % 2 == 0, "line {number}");
    }
}
