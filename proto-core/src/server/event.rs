//! What a server connection tells its driver.

use bytes::Bytes;

use crate::{CloseReason, Payload, RemoteError, RequestId, hello::ClientHello};

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ServerEvent {
    /// The client's hello came: call [`accept`](super::ServerConnection::accept) or [`refuse`](super::ServerConnection::refuse).
    Hello(ClientHello),
    /// A request came: answer it exactly once, with one of the `respond` calls.
    Request {
        /// The request.
        id: RequestId,
        /// The operation.
        op: u64,
        /// Its fields.
        body: Bytes,
    },
    /// A request was refused by this machine itself, which has answered it: one too many, too large, or one that came while
    /// no new ones are taken. Nothing is to be done; it is told for a log of refusals.
    Refused {
        /// The request.
        id: RequestId,
        /// The operation.
        op: u64,
        /// The answer.
        error: RemoteError,
    },
    /// The client no longer wants a request's answer (which must still be given) or a stream (which is gone).
    Cancelled {
        /// The request or stream.
        id: RequestId,
        /// Whether it was a stream.
        stream: bool,
    },
    /// The client gave a stream up, for a reason of its own. The stream is gone.
    Reset {
        /// The stream.
        id: RequestId,
        /// Why.
        error: RemoteError,
    },
    /// A message has begun on a stream that is longer than [`set_longest`](super::ServerConnection::set_longest) allows. It
    /// arrives all the same, unless the stream is reset.
    TooLong {
        /// The stream.
        id: RequestId,
        /// Its sequence number.
        seq: u64,
        /// Its length in bytes.
        len: u64,
    },
    /// A published message came. Give `cost` back with [`consume`](super::ServerConnection::consume) once it was handled.
    Message {
        /// The stream.
        id: RequestId,
        /// Its sequence number.
        seq: u64,
        /// Its bytes.
        payload: Payload,
        /// Its cost in credit.
        cost: usize,
    },
    /// The client ended its half of a stream.
    Ended {
        /// The stream.
        id: RequestId,
    },
    /// A stream whose queue was full has room.
    Room {
        /// The stream.
        id: RequestId,
    },
    /// The connection is over. The last event.
    Closed(CloseReason),
}
