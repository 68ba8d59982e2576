//! What a client connection tells its driver.

use core::time::Duration;

use bytes::Bytes;

use crate::{CloseReason, Payload, RemoteError, RequestId, hello::ServerHello};

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClientEvent {
    /// The server's hello came: requests may be sent.
    Connected(ServerHello),
    /// A request was answered. If it opened a stream and succeeded, the stream is open now.
    Response {
        /// The request.
        id: RequestId,
        /// The answer's body, or the server's error.
        result: Result<Bytes, RemoteError>,
    },
    /// A request's deadline passed. It was cancelled; a late answer is dropped.
    Expired {
        /// The request.
        id: RequestId,
    },
    /// A stream message came. Give `cost` back with [`consume`](super::ClientConnection::consume) once it was read.
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
    /// Messages are missing here. Give `cost` back as for a message.
    Gap {
        /// The stream.
        id: RequestId,
        /// The sequence number of the next message.
        next: u64,
        /// How many are missing, when that is known.
        count: Option<u64>,
        /// Its cost in credit.
        cost: usize,
    },
    /// The server ended the stream.
    Ended {
        /// The stream.
        id: RequestId,
        /// Why, when it is not simply over.
        error: Option<RemoteError>,
    },
    /// The server took over published messages.
    Acknowledged {
        /// The stream.
        id: RequestId,
        /// Every message up to this sequence number.
        seq: u64,
        /// Whether they may have been dropped behind it.
        may_be_dropped: bool,
    },
    /// A stream whose queue was full has room.
    Room {
        /// The stream.
        id: RequestId,
    },
    /// A ping was answered.
    Pong {
        /// From the ping's queueing to its answer.
        round_trip: Duration,
    },
    /// The server takes no new requests.
    Draining,
    /// The connection is over. The last event.
    Closed(CloseReason),
}
