//! Frames: length, kind, id, body (PROTOCOL.md, "Frames").
//!
//! Pure functions on bytes. A length is checked before anything is allocated for it, message content is sliced out of
//! the input rather than copied, and short input is a value (`None`), never an error.

mod gather;
mod read;
#[cfg(test)]
pub(crate) mod tests;

use thiserror::Error;

pub use self::{gather::Gather, read::FrameReader};
use crate::{
    error::RemoteError,
    limits::{MAX_ERROR_FIELD, MAX_ERROR_MESSAGE, MAX_FRAME},
    payload::Payload,
    varint,
};

/// Numbers of frame kinds. Kinds from 0x80 on are optional: who does not know one skips it.
pub mod kind {
    /// Asks for a pong with the same eight bytes.
    pub const PING: u8 = 0x01;
    /// Answers a ping.
    pub const PONG: u8 = 0x02;
    /// The connection ends, with a reason.
    pub const GOODBYE: u8 = 0x03;
    /// No new requests, please; those that run go on.
    pub const DRAIN: u8 = 0x04;
    /// Raises the credit of a stream, or of the connection (id 0).
    pub const CREDIT: u8 = 0x05;
    /// Starts a request message.
    pub const REQUEST: u8 = 0x10;
    /// Starts a response message.
    pub const RESPONSE: u8 = 0x11;
    /// Continues the request or response message of this id.
    pub const MORE: u8 = 0x12;
    /// The client no longer wants the answer or the stream.
    pub const CANCEL: u8 = 0x13;
    /// Starts a stream message.
    pub const DATA: u8 = 0x20;
    /// Continues the stream message of this id.
    pub const DATA_MORE: u8 = 0x21;
    /// The sender's half of the stream ends.
    pub const END: u8 = 0x22;
    /// The stream ends in both directions at once.
    pub const RESET: u8 = 0x23;
    /// Messages are missing here.
    pub const GAP: u8 = 0x24;
    /// Messages were taken over.
    pub const ACK: u8 = 0x25;
    /// The first optional kind.
    pub const OPTIONAL: u8 = 0x80;
}

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Frame {
    /// See [`kind::PING`].
    Ping([u8; 8]),
    /// See [`kind::PONG`].
    Pong([u8; 8]),
    /// See [`kind::GOODBYE`].
    Goodbye(RemoteError),
    /// See [`kind::DRAIN`].
    Drain,
    /// See [`kind::CREDIT`].
    Credit {
        /// The stream, or 0 for the connection.
        id: u64,
        /// Bytes that may be sent in all since the start.
        limit: u64,
    },
    /// See [`kind::REQUEST`].
    Request {
        /// The request.
        id: u64,
        /// The operation.
        op: u64,
        /// Bytes of the whole message.
        total: u64,
        /// Its first bytes.
        chunk: Payload,
    },
    /// See [`kind::RESPONSE`].
    Response {
        /// The request.
        id: u64,
        /// 0, or an error code.
        code: u64,
        /// Bytes of the whole message.
        total: u64,
        /// Its first bytes.
        chunk: Payload,
    },
    /// See [`kind::MORE`].
    More {
        /// The request.
        id: u64,
        /// The message's next bytes.
        chunk: Payload,
    },
    /// See [`kind::CANCEL`].
    Cancel {
        /// The request.
        id: u64,
    },
    /// See [`kind::DATA`].
    Data {
        /// The stream.
        id: u64,
        /// The message's sequence number.
        seq: u64,
        /// Bytes of the whole message.
        total: u64,
        /// Its first bytes.
        chunk: Payload,
    },
    /// See [`kind::DATA_MORE`].
    DataMore {
        /// The stream.
        id: u64,
        /// The message's next bytes.
        chunk: Payload,
    },
    /// See [`kind::END`].
    End {
        /// The stream.
        id: u64,
        /// Why, when it is not simply over.
        error: Option<RemoteError>,
    },
    /// See [`kind::RESET`].
    Reset {
        /// The stream.
        id: u64,
        /// Why.
        error: RemoteError,
    },
    /// See [`kind::GAP`].
    Gap {
        /// The stream.
        id: u64,
        /// The sequence number of the next message.
        next: u64,
        /// How many messages are missing, when that is known.
        count: Option<u64>,
    },
    /// See [`kind::ACK`].
    Ack {
        /// The stream.
        id: u64,
        /// Every message up to this sequence number was taken over.
        seq: u64,
        /// Whether they may have been dropped behind it.
        may_be_dropped: bool,
    },
    /// An optional kind that is not known here.
    Unknown {
        /// Its number.
        kind: u8,
    },
}

/// Why the input is no frame, and where in the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
#[error("frame at byte {at}: {kind}")]
pub struct FrameError {
    /// The frame's offset behind the envelope, in bytes.
    pub at: u64,
    /// What is wrong with it.
    pub kind: FrameErrorKind,
}

/// What is wrong with a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum FrameErrorKind {
    /// Its length is past [`MAX_FRAME`].
    #[error("its length of {0} bytes is past the limit of {MAX_FRAME}")]
    TooLong(u64),
    /// It is shorter than its own header.
    #[error("it is shorter than its header")]
    TooShort,
    /// Its kind is mandatory and unknown here.
    #[error("its kind {0:#04x} is not known here")]
    UnknownKind(u8),
    /// Its id is 0 where a request is needed, or the other way round.
    #[error("its id does not go with its kind {0:#04x}")]
    Id(u8),
    /// Its body is not what its kind has.
    #[error("its body does not go with its kind {0:#04x}")]
    Body(u8),
    /// It holds more content than the whole message, or more than [`crate::limits::MAX_CHUNK`], or none where some is due.
    #[error("its chunk of {0} bytes does not fit its message")]
    Chunk(usize),
}

/// The most bytes before a frame's content: length, kind, id and two integers.
const MAX_HEAD: usize = 1 + 4 * varint::MAX_LEN;

/// The bytes of a frame's header around a chunk, at most.
pub(crate) const FRAME_OVERHEAD: usize = varint::MAX_LEN + MAX_HEAD;

// An error with its longest texts has to fit into a frame.
const _: () = assert!(MAX_ERROR_MESSAGE + MAX_ERROR_FIELD + 64 < MAX_FRAME);

impl Frame {
    fn kind_and_id(&self) -> (u8, u64) {
        match self {
            Frame::Ping(_) => (kind::PING, 0),
            Frame::Pong(_) => (kind::PONG, 0),
            Frame::Goodbye(_) => (kind::GOODBYE, 0),
            Frame::Drain => (kind::DRAIN, 0),
            Frame::Credit { id, .. } => (kind::CREDIT, *id),
            Frame::Request { id, .. } => (kind::REQUEST, *id),
            Frame::Response { id, .. } => (kind::RESPONSE, *id),
            Frame::More { id, .. } => (kind::MORE, *id),
            Frame::Cancel { id } => (kind::CANCEL, *id),
            Frame::Data { id, .. } => (kind::DATA, *id),
            Frame::DataMore { id, .. } => (kind::DATA_MORE, *id),
            Frame::End { id, .. } => (kind::END, *id),
            Frame::Reset { id, .. } => (kind::RESET, *id),
            Frame::Gap { id, .. } => (kind::GAP, *id),
            Frame::Ack { id, .. } => (kind::ACK, *id),
            Frame::Unknown { kind } => (*kind, 0),
        }
    }
}
