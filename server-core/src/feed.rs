//! Sending what a ring holds on a stream.

use selium_remote_client_protocol::{RequestId, SendError, server::ServerConnection};

use crate::ring::{Entry, Ring};

/// Why nothing more is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fed {
    /// There is nothing more.
    All,
    /// The stream's queue is full: it says when there is room.
    Full,
    /// The stream is over.
    Gone,
}

/// Sends entries from `cursor` on and before `until`, as far as the stream takes them. What the ring holds no more is
/// counted as a gap.
pub(crate) fn feed(
    core: &mut ServerConnection,
    stream: RequestId,
    ring: &Ring,
    cursor: &mut u64,
    until: u64,
) -> Fed {
    let until = until.min(ring.next());
    while *cursor < until {
        let first = ring.first();
        if *cursor < first {
            let missing = first - *cursor;
            *cursor = first;
            let _ = core.gap(stream, first, Some(missing));
            continue;
        }
        let sent = match ring.entry(*cursor) {
            Some(Entry::Record(bytes)) => core.send(stream, *cursor, bytes.clone()),
            _ => Err(SendError::Empty),
        };
        match sent {
            Ok(()) => {}
            Err(SendError::Full) => return Fed::Full,
            Err(SendError::NotOpen) => return Fed::Gone,
            Err(SendError::TooLarge(_)) => {
                let _ = core.gap(stream, *cursor + 1, Some(1));
            }
            Err(_) => {
                let _ = core.gap(stream, *cursor + 1, None);
            }
        }
        *cursor += 1;
    }
    Fed::All
}
