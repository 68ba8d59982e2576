//! From bytes to frames.

use bytes::Bytes;

use super::{Frame, FrameError, FrameErrorKind, MAX_HEAD, kind};
use crate::{
    error::{ErrorCode, RemoteError},
    limits::{MAX_CHUNK, MAX_FRAME},
    payload::Payload,
    varint,
};

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
        let at = self.at;
        let fail = |kind| FrameError { at, kind };
        let mut copy = [0u8; MAX_HEAD];
        let mut head = Head {
            bytes: start(&self.input, &mut copy),
            used: 0,
        };
        let Some(len) = head.varint() else {
            return Ok(None);
        };
        if len > MAX_FRAME as u64 {
            return Err(fail(FrameErrorKind::TooLong(len)));
        }
        let len = len as usize;
        let total = head.used + len;
        if self.input.len() < total {
            return Ok(None);
        }
        head.end_after(len);
        let too_short = fail(FrameErrorKind::TooShort);
        let kind = head.byte().ok_or(too_short)?;
        let id = head.varint().ok_or(too_short)?;
        let needs_request = (kind::REQUEST..kind::OPTIONAL).contains(&kind);
        let needs_connection = kind < kind::CREDIT;
        if (needs_request && id == 0) || (needs_connection && id != 0) {
            return Err(fail(FrameErrorKind::Id(kind)));
        }
        let frame = match kind {
            kind::REQUEST | kind::RESPONSE | kind::DATA => {
                let body = fail(FrameErrorKind::Body(kind));
                let first = head.varint().ok_or(body)?;
                let whole = head.varint().ok_or(body)?;
                let content = self.content(head.used, total);
                starting(kind, id, first, whole, content)
            }
            kind::MORE | kind::DATA_MORE => {
                let content = self.content(head.used, total);
                continuing(kind, id, content)
            }
            // Its body in place, when it lies in one piece as it nearly always does.
            _ => match self.input.front().get(head.used..total) {
                Some(body) => {
                    let frame = small(kind, id, body);
                    self.input.advance(total);
                    frame
                }
                None => small(kind, id, &self.content(head.used, total).into_bytes()),
            },
        };
        self.at = at.saturating_add(total as u64);
        frame.map(Some).map_err(fail)
    }

    /// Takes a frame of `total` bytes off the input, without the `used` first ones.
    #[inline]
    fn content(&mut self, used: usize, total: usize) -> Payload {
        self.input.advance(used);
        self.input.split_to(total - used)
    }
}

/// A frame that starts a message of `total` bytes.
#[inline]
fn starting(
    kind: u8,
    id: u64,
    first: u64,
    total: u64,
    chunk: Payload,
) -> Result<Frame, FrameErrorKind> {
    let fits = chunk.len() as u64 <= total
        && chunk.len() <= MAX_CHUNK
        && (!chunk.is_empty() || total == 0);
    if !fits {
        return Err(FrameErrorKind::Chunk(chunk.len()));
    }
    Ok(match kind {
        kind::REQUEST => Frame::Request {
            id,
            op: first,
            total,
            chunk,
        },
        kind::RESPONSE => Frame::Response {
            id,
            code: first,
            total,
            chunk,
        },
        _ => Frame::Data {
            id,
            seq: first,
            total,
            chunk,
        },
    })
}

/// A frame that goes on with a message.
#[inline]
fn continuing(kind: u8, id: u64, chunk: Payload) -> Result<Frame, FrameErrorKind> {
    if chunk.is_empty() || chunk.len() > MAX_CHUNK {
        return Err(FrameErrorKind::Chunk(chunk.len()));
    }
    Ok(if kind == kind::MORE {
        Frame::More { id, chunk }
    } else {
        Frame::DataMore { id, chunk }
    })
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

/// The first bytes of `input`, enough for every frame's head if there are so many: where they are when they lie in one
/// piece, else copied.
fn start<'a>(input: &'a Payload, copy: &'a mut [u8; MAX_HEAD]) -> &'a [u8] {
    let front = input.front();
    if front.len() >= MAX_HEAD || front.len() == input.len() {
        return front;
    }
    let mut filled = 0;
    for piece in input.pieces() {
        let free = copy.get_mut(filled..).unwrap_or_default();
        let len = free.len().min(piece.len());
        if let (Some(to), Some(from)) = (free.get_mut(..len), piece.get(..len)) {
            to.copy_from_slice(from);
        }
        filled += len;
        if filled == MAX_HEAD {
            break;
        }
    }
    copy.get(..filled).unwrap_or_default()
}

/// A cursor over the start of a frame.
struct Head<'a> {
    bytes: &'a [u8],
    used: usize,
}

impl Head<'_> {
    /// Ends it `len` bytes from here, where its frame ends.
    #[inline]
    fn end_after(&mut self, len: usize) {
        self.bytes = self.bytes.get(..len).unwrap_or(self.bytes);
    }

    #[inline]
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.bytes.split_first()?;
        self.bytes = rest;
        self.used += 1;
        Some(*first)
    }

    #[inline]
    fn varint(&mut self) -> Option<u64> {
        let (value, len) = varint::get(self.bytes)?;
        self.bytes = self.bytes.get(len..)?;
        self.used += len;
        Some(value)
    }
}
