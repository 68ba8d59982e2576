//! Frames: length, kind, id, body (PROTOCOL.md, "Frames").
//!
//! Pure functions on bytes. A length is checked before anything is allocated for it, message content is sliced out of
//! the input rather than copied, and short input is a value (`None`), never an error.

use bytes::{BufMut, Bytes, BytesMut};
use thiserror::Error;

use crate::{
    error::{ErrorCode, RemoteError},
    limits::{MAX_CHUNK, MAX_ERROR_FIELD, MAX_ERROR_MESSAGE, MAX_FRAME},
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
    /// It holds more content than the whole message, or more than [`MAX_CHUNK`], or none where some is due.
    #[error("its chunk of {0} bytes does not fit its message")]
    Chunk(usize),
}

/// The most bytes before a frame's content: length, kind, id and two integers.
const MAX_HEAD: usize = 1 + 4 * varint::MAX_LEN;

/// Cuts a stream of bytes into frames.
#[derive(Debug, Default)]
pub struct FrameReader {
    input: Payload,
    at: u64,
}

impl FrameReader {
    /// An empty reader.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds input. What is left after [`FrameReader::next`] answered `None` is less than one frame.
    pub fn push(&mut self, bytes: Bytes) {
        self.input.push(bytes);
    }

    /// Bytes that wait for the rest of their frame.
    #[must_use]
    pub fn buffered(&self) -> usize {
        self.input.len()
    }

    /// The next frame, or `None` while it is not complete.
    ///
    /// # Errors
    /// When the input is no frame; the reader is of no use afterwards.
    #[allow(clippy::should_implement_trait)] // It returns `Result<Option<_>>`, which `?` reads better than an iterator.
    pub fn next(&mut self) -> Result<Option<Frame>, FrameError> {
        let mut head = [0u8; MAX_HEAD];
        let head = peek(&self.input, &mut head);
        let at = self.at;
        let fail = |kind| FrameError { at, kind };
        let Some((len, len_len)) = varint::get(head) else {
            return Ok(None);
        };
        if len > MAX_FRAME as u64 {
            return Err(fail(FrameErrorKind::TooLong(len)));
        }
        let total = len_len + len as usize;
        if self.input.len() < total {
            return Ok(None);
        }
        let head = head.get(len_len..head.len().min(total)).unwrap_or_default();
        let mut head = Head {
            bytes: head,
            used: len_len,
        };
        let too_short = fail(FrameErrorKind::TooShort);
        let kind = head.byte().ok_or(too_short)?;
        let id = head.varint().ok_or(too_short)?;
        let frame = self.decode(kind, id, head, total).map_err(fail)?;
        self.at = self.at.saturating_add(total as u64);
        Ok(Some(frame))
    }

    /// Takes a whole frame of `total` bytes off the input.
    fn decode(
        &mut self,
        kind: u8,
        id: u64,
        mut head: Head<'_>,
        total: usize,
    ) -> Result<Frame, FrameErrorKind> {
        let body = FrameErrorKind::Body(kind);
        let needs_request = (kind::REQUEST..kind::OPTIONAL).contains(&kind);
        let needs_connection = kind < kind::CREDIT;
        if (needs_request && id == 0) || (needs_connection && id != 0) {
            return Err(FrameErrorKind::Id(kind));
        }
        let starts_message = matches!(kind, kind::REQUEST | kind::RESPONSE | kind::DATA);
        let (first, second) = if starts_message {
            (head.varint().ok_or(body)?, head.varint().ok_or(body)?)
        } else {
            (0, 0)
        };
        let mut content = self.input.split_to(total);
        let _ = content.split_to(head.used);
        if starts_message {
            let fits = content.len() as u64 <= second
                && content.len() <= MAX_CHUNK
                && (!content.is_empty() || second == 0);
            if !fits {
                return Err(FrameErrorKind::Chunk(content.len()));
            }
        }
        Ok(match kind {
            kind::REQUEST => Frame::Request {
                id,
                op: first,
                total: second,
                chunk: content,
            },
            kind::RESPONSE => Frame::Response {
                id,
                code: first,
                total: second,
                chunk: content,
            },
            kind::DATA => Frame::Data {
                id,
                seq: first,
                total: second,
                chunk: content,
            },
            kind::MORE | kind::DATA_MORE => {
                if content.is_empty() || content.len() > MAX_CHUNK {
                    return Err(FrameErrorKind::Chunk(content.len()));
                }
                if kind == kind::MORE {
                    Frame::More { id, chunk: content }
                } else {
                    Frame::DataMore { id, chunk: content }
                }
            }
            _ => return small(kind, id, &content.into_bytes()),
        })
    }
}

/// The frames whose bodies are short.
fn small(kind: u8, id: u64, content: &[u8]) -> Result<Frame, FrameErrorKind> {
    let body = FrameErrorKind::Body(kind);
    let mut head = Head {
        bytes: content,
        used: 0,
    };
    Ok(match kind {
        kind::PING => Frame::Ping(content.try_into().map_err(|_| body)?),
        kind::PONG => Frame::Pong(content.try_into().map_err(|_| body)?),
        kind::DRAIN => Frame::Drain,
        kind::CANCEL => Frame::Cancel { id },
        kind::CREDIT => Frame::Credit {
            id,
            limit: head.varint().ok_or(body)?,
        },
        kind::GOODBYE => Frame::Goodbye(error(&mut head).ok_or(body)?),
        kind::RESET => Frame::Reset {
            id,
            error: error(&mut head).ok_or(body)?,
        },
        kind::END => Frame::End {
            id,
            error: match content {
                [0] => None,
                _ => Some(error(&mut head).ok_or(body)?),
            },
        },
        kind::GAP => Frame::Gap {
            id,
            next: head.varint().ok_or(body)?,
            count: head.varint().ok_or(body)?.checked_sub(1),
        },
        kind::ACK => Frame::Ack {
            id,
            seq: head.varint().ok_or(body)?,
            may_be_dropped: head.varint().ok_or(body)? & 1 == 1,
        },
        kind::OPTIONAL.. => Frame::Unknown { kind },
        _ => return Err(FrameErrorKind::UnknownKind(kind)),
    })
}

/// An error as it stands in frames: its code, then its fields.
fn error(head: &mut Head<'_>) -> Option<RemoteError> {
    let code = ErrorCode::from_wire(head.varint()?);
    RemoteError::decode(code, head.bytes).ok()
}

/// Copies the first bytes of `input`, as many as there are and fit.
fn peek<'a>(input: &Payload, into: &'a mut [u8; MAX_HEAD]) -> &'a [u8] {
    let mut filled = 0;
    for piece in input.pieces() {
        let Some(free) = into.get_mut(filled..).filter(|free| !free.is_empty()) else {
            break;
        };
        let len = free.len().min(piece.len());
        if let (Some(to), Some(from)) = (free.get_mut(..len), piece.get(..len)) {
            to.copy_from_slice(from);
        }
        filled += len;
    }
    into.get(..filled).unwrap_or_default()
}

/// A cursor over the start of a frame.
struct Head<'a> {
    bytes: &'a [u8],
    used: usize,
}

impl Head<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.bytes.split_first()?;
        self.bytes = rest;
        self.used += 1;
        Some(*first)
    }

    fn varint(&mut self) -> Option<u64> {
        let (value, len) = varint::get(self.bytes)?;
        self.bytes = self.bytes.get(len..)?;
        self.used += len;
        Some(value)
    }
}

/// Bytes on their way to one write: headers and short contents in shared buffers, long contents as they are.
#[derive(Debug, Default)]
pub struct Gather {
    parts: Vec<Bytes>,
    tail: BytesMut,
    len: usize,
}

impl Gather {
    /// Contents from this length on are not copied.
    const SHARE_FROM: usize = 1024;

    /// Bytes in all.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn content(&mut self, payload: &Payload) {
        self.len += payload.len();
        for piece in payload.pieces() {
            if piece.len() < Self::SHARE_FROM {
                self.tail.extend_from_slice(piece);
            } else {
                self.flush();
                self.parts.push(piece.clone());
            }
        }
    }

    fn flush(&mut self) {
        if !self.tail.is_empty() {
            self.parts.push(self.tail.split().freeze());
        }
    }

    /// The pieces in order, ready for a vectored write.
    #[must_use]
    pub fn finish(mut self) -> Vec<Bytes> {
        self.flush();
        self.parts
    }

    /// Appends bytes that are a frame already.
    pub fn raw(&mut self, frame: &Bytes) {
        self.len += frame.len();
        self.tail.extend_from_slice(frame);
    }
}

impl Frame {
    /// Appends the frame.
    pub fn encode(&self, out: &mut Gather) {
        let mut head = [0u8; MAX_HEAD];
        let mut fields = Vec::new();
        let none = Payload::new();
        let mut content = &none;
        let mut rest = &mut head[..];
        let (kind, id) = self.kind_and_id();
        rest.put_u8(kind);
        varint::put(&mut rest, id);
        match self {
            Frame::Ping(token) | Frame::Pong(token) => rest.put_slice(token),
            Frame::Goodbye(error) | Frame::Reset { error, .. } => put_error(&mut fields, error),
            Frame::Drain | Frame::Cancel { .. } | Frame::Unknown { .. } => {}
            Frame::Credit { limit, .. } => varint::put(&mut rest, *limit),
            Frame::Request {
                op: first,
                total,
                chunk,
                ..
            }
            | Frame::Response {
                code: first,
                total,
                chunk,
                ..
            }
            | Frame::Data {
                seq: first,
                total,
                chunk,
                ..
            } => {
                varint::put(&mut rest, *first);
                varint::put(&mut rest, *total);
                content = chunk;
            }
            Frame::More { chunk, .. } | Frame::DataMore { chunk, .. } => content = chunk,
            Frame::End { error: None, .. } => rest.put_u8(0),
            Frame::End {
                error: Some(error), ..
            } => put_error(&mut fields, error),
            Frame::Gap { next, count, .. } => {
                varint::put(&mut rest, *next);
                varint::put(&mut rest, count.map_or(0, |count| count.saturating_add(1)));
            }
            Frame::Ack {
                seq,
                may_be_dropped,
                ..
            } => {
                varint::put(&mut rest, *seq);
                varint::put(&mut rest, u64::from(*may_be_dropped));
            }
        }
        let head_len = MAX_HEAD - rest.len();
        let len = head_len + fields.len() + content.len();
        let before = out.tail.len();
        varint::put(&mut out.tail, len as u64);
        out.tail.put_slice(head.get(..head_len).unwrap_or_default());
        out.tail.put_slice(&fields);
        out.len += out.tail.len() - before;
        out.content(content);
    }

    /// The frame alone, in one piece. For frames without content.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        let mut out = Gather::default();
        self.encode(&mut out);
        let mut all = BytesMut::with_capacity(out.len());
        for part in out.finish() {
            all.put(part);
        }
        all.freeze()
    }

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

// An error with its longest texts has to fit into a frame.
const _: () = assert!(MAX_ERROR_MESSAGE + MAX_ERROR_FIELD + 64 < MAX_FRAME);

fn put_error(out: &mut Vec<u8>, error: &RemoteError) {
    varint::put(out, u64::from(error.code.to_wire()));
    out.extend(error.encode());
}

/// The bytes of a frame's header around a chunk, at most.
pub(crate) const FRAME_OVERHEAD: usize = varint::MAX_LEN + MAX_HEAD;

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    fn chunk(max: usize) -> impl Strategy<Value = Payload> {
        proptest::collection::vec(any::<u8>(), 1..max).prop_map(Payload::from)
    }

    fn id() -> impl Strategy<Value = u64> {
        prop_oneof![1u64..100, 1..=varint::MAX]
    }

    fn error() -> impl Strategy<Value = RemoteError> {
        (1u64..15, ".{0,40}")
            .prop_map(|(code, message)| RemoteError::new(ErrorCode::from_wire(code), message))
    }

    /// Any frame that a sender may make.
    pub(crate) fn frame() -> impl Strategy<Value = Frame> {
        prop_oneof![
            any::<[u8; 8]>().prop_map(Frame::Ping),
            any::<[u8; 8]>().prop_map(Frame::Pong),
            error().prop_map(Frame::Goodbye),
            Just(Frame::Drain),
            (0..=varint::MAX, 0..=varint::MAX).prop_map(|(id, limit)| Frame::Credit { id, limit }),
            (id(), id(), 0u64..9999, chunk(MAX_CHUNK)).prop_map(|(id, op, more, chunk)| {
                Frame::Request {
                    id,
                    op,
                    total: chunk.len() as u64 + more,
                    chunk,
                }
            }),
            (id(), 0u64..20, 0u64..9999, chunk(3000)).prop_map(|(id, code, more, chunk)| {
                Frame::Response {
                    id,
                    code,
                    total: chunk.len() as u64 + more,
                    chunk,
                }
            }),
            (id(), id(), 0u64..9999, chunk(3000)).prop_map(|(id, seq, more, chunk)| {
                Frame::Data {
                    id,
                    seq,
                    total: chunk.len() as u64 + more,
                    chunk,
                }
            }),
            (id(), chunk(3000)).prop_map(|(id, chunk)| Frame::More { id, chunk }),
            (id(), chunk(3000)).prop_map(|(id, chunk)| Frame::DataMore { id, chunk }),
            id().prop_map(|id| Frame::Cancel { id }),
            (id(), proptest::option::of(error())).prop_map(|(id, error)| Frame::End { id, error }),
            (id(), error()).prop_map(|(id, error)| Frame::Reset { id, error }),
            (id(), id(), proptest::option::of(0..varint::MAX))
                .prop_map(|(id, next, count)| Frame::Gap { id, next, count }),
            (id(), id(), any::<bool>()).prop_map(|(id, seq, may_be_dropped)| Frame::Ack {
                id,
                seq,
                may_be_dropped
            }),
            (0x80u8..).prop_map(|kind| Frame::Unknown { kind }),
        ]
    }

    fn read_all(bytes: &[u8], cuts: &[usize]) -> Result<Vec<Frame>, FrameError> {
        let mut reader = FrameReader::new();
        let mut frames = Vec::new();
        let mut rest = bytes;
        for cut in cuts.iter().copied().chain([usize::MAX]) {
            let (now, later) = rest.split_at(cut.min(rest.len()));
            rest = later;
            reader.push(Bytes::copy_from_slice(now));
            while let Some(frame) = reader.next()? {
                frames.push(frame);
            }
        }
        Ok(frames)
    }

    #[test]
    fn lengths_are_checked_before_anything_else() {
        let read = |bytes: &'static [u8]| {
            let mut reader = FrameReader::new();
            reader.push(Bytes::from_static(bytes));
            reader.next().map_err(|error| error.kind)
        };
        // A length of 2^62 - 1.
        assert_eq!(read(&[0xff; 8]), Err(FrameErrorKind::TooLong(varint::MAX)));
        assert_eq!(read(&[0]), Err(FrameErrorKind::TooShort));
        assert_eq!(read(&[1, kind::PING]), Err(FrameErrorKind::TooShort));
        assert_eq!(
            read(&[2, kind::PING, 0]),
            Err(FrameErrorKind::Body(kind::PING))
        );
        assert_eq!(read(&[2, 0x7f, 1]), Err(FrameErrorKind::UnknownKind(0x7f)));
        assert_eq!(
            read(&[2, kind::CANCEL, 0]),
            Err(FrameErrorKind::Id(kind::CANCEL))
        );
        assert_eq!(
            read(&[2, kind::DRAIN, 1]),
            Err(FrameErrorKind::Id(kind::DRAIN))
        );
        assert_eq!(read(&[2, kind::MORE, 1]), Err(FrameErrorKind::Chunk(0)));
        assert_eq!(
            read(&[5, kind::DATA, 1, 0, 0, 9]),
            Err(FrameErrorKind::Chunk(1))
        );
        assert_eq!(
            read(&[4, kind::DATA, 1, 0, 9]),
            Err(FrameErrorKind::Chunk(0))
        );
    }

    #[test]
    fn long_contents_are_not_copied() {
        let content = Bytes::from(vec![7u8; 8000]);
        let frame = Frame::Data {
            id: 1,
            seq: 1,
            total: 8000,
            chunk: content.clone().into(),
        };
        let mut out = Gather::default();
        frame.encode(&mut out);
        let parts = out.finish();
        assert_eq!(parts.len(), 2);
        assert_eq!(parts[1].as_ptr(), content.as_ptr());

        let input = frame.to_bytes();
        let mut reader = FrameReader::new();
        reader.push(input.clone());
        let Some(Frame::Data { chunk, .. }) = reader.next().unwrap() else {
            panic!("a data frame");
        };
        assert!(input.as_ptr_range().contains(&chunk.into_bytes().as_ptr()));
    }

    proptest! {
        #[test]
        fn frames_round_trip_over_any_chunking(frames in proptest::collection::vec(frame(), 1..8), cuts in proptest::collection::vec(0usize..40, 0..60)) {
            let mut out = Gather::default();
            for frame in &frames {
                frame.encode(&mut out);
            }
            let len = out.len();
            let bytes = Payload::from(out.finish()).to_vec();
            prop_assert_eq!(bytes.len(), len);
            prop_assert_eq!(read_all(&bytes, &cuts), Ok(frames));
        }

        #[test]
        fn any_input_is_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600), cuts in proptest::collection::vec(0usize..40, 0..20)) {
            let whole = read_all(&bytes, &[]);
            prop_assert_eq!(read_all(&bytes, &cuts), whole);
        }
    }
}
