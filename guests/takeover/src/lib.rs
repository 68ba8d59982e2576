//! Tries to get around the control plane that it was started through, a way for each entrypoint.
//!
//! Each attempt logs what it achieved or which error the host gave, in lines that begin with "takeover" and its name:
//!
//! ```text
//! takeover bind: bound
//! takeover bind: refused: driver error: permission denied
//! ```
//!
//! All of them need `ChannelLifecycle` and `ChannelWriter` for their log, and the capabilities of what they try.
//! Nobody gives them a handle: they guess. Shared channels have small numbers in the order in which they were shared, and
//! the number of the attempt's own log says how many came before.

mod channels;
mod net;
mod processes;

use std::fmt::Display;

/// Logs that the host refused it.
fn refused(attempt: &str, error: &dyn Display) {
    tracing::info!("takeover {attempt}: refused: {error}");
}

/// The first bytes in hex, enough to tell what it is.
fn hex(bytes: &[u8]) -> String {
    const SHOWN: usize = 64;
    let shown: String = bytes
        .iter()
        .take(SHOWN)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let more = if bytes.len() > SHOWN { "…" } else { "" };
    format!("{} bytes: {shown}{more}", bytes.len())
}

/// The bytes of a text in hex; none when it is malformed.
fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> = text
        .chars()
        .map(|digit| digit.to_digit(16).and_then(|it| u8::try_from(it).ok()))
        .collect::<Option<_>>()?;
    let pairs = digits.chunks_exact(2);
    pairs.remainder().is_empty().then(|| {
        pairs
            .map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit))
            .collect()
    })
}
