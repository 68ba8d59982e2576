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
