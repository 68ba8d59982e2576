//! The bodies of this crate's fuzz targets. **Unstable and private**: only there with the feature `fuzzing`, for `fuzz/`
//! and for the tests of this crate.
#![allow(
    clippy::panic,
    clippy::indexing_slicing,
    reason = "to panic is how these functions report"
)]

use crate::host::{
    HostError, MAX_ERROR_TEXT, Op,
    calls::{
        ChannelDelete, ChannelShare, QuicAccept, QuicBind, QuicRead, QuicWrite, TimeNowCall,
        TlsServerConfig,
    },
    scratch,
};

/// Replies of the host: any bytes are read or refused as malformed, and what was read is no larger than they are. The
/// first byte says what kind of reply it is.
pub fn wasm_host_replies(data: &[u8]) {
    let Some((which, reply)) = data.split_first() else {
        return;
    };
    // Where replies stand in the module, too: aligned, with old bytes behind them.
    scratch::with(|buffer| {
        let len = reply.len().min(buffer.len());
        buffer[..len].copy_from_slice(&reply[..len]);
        let reply = &buffer[..len];
        match which % 9 {
            0 => known::<QuicBind>(reply),
            1 => known::<QuicWrite>(reply),
            2 => known::<TlsServerConfig>(reply),
            3 => known::<ChannelDelete>(reply),
            4 => known::<ChannelShare>(reply),
            5 => known::<TimeNowCall>(reply),
            6 => {
                if let Ok(frame) = QuicRead::decode(reply) {
                    assert!(frame.payload.len() <= len, "payload from nowhere");
                }
            }
            7 => {
                if let Ok(accepted) = QuicAccept::decode(reply) {
                    assert!(accepted.remote_addr.len() <= len, "text from nowhere");
                }
            }
            // The host does not say how long an error is.
            _ => match HostError::from_reply(buffer) {
                HostError::Other(text) => assert!(text.len() <= MAX_ERROR_TEXT),
                error => assert!(!error.to_string().is_empty()),
            },
        }
    });
}

fn known<O: Op>(reply: &[u8]) {
    match O::decode(reply) {
        Ok(_) | Err(HostError::Malformed(_)) => {}
        Err(error) => panic!("a reply that cannot be read is malformed, not {error:?}"),
    }
}
