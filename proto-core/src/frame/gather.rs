//! From frames to bytes.

use bytes::{Bytes, BytesMut};

use super::{Frame, MAX_HEAD};
use crate::{error::RemoteError, payload::Payload, varint};

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

    /// Bytes of the first buffer for headers and short contents: enough for the few control frames of most writes.
    const FIRST_BUFFER: usize = 128;

    /// Bytes of the buffers after it. The headers between long contents share one.
    const NEXT_BUFFER: usize = 1024;

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

    /// Makes room for `bytes` in the buffer, and for some more, so that few frames need a new one.
    #[inline]
    fn reserve(&mut self, bytes: usize) {
        if self.tail.capacity().saturating_sub(self.tail.len()) < bytes {
            let least = if self.len == 0 {
                Self::FIRST_BUFFER
            } else {
                Self::NEXT_BUFFER
            };
            self.tail.reserve(bytes.max(least));
        }
    }

    #[inline]
    fn short(&mut self, bytes: &[u8]) {
        self.reserve(bytes.len());
        self.tail.extend_from_slice(bytes);
        self.len += bytes.len();
    }

    fn content(&mut self, payload: &Payload) {
        for piece in payload.pieces() {
            if piece.len() < Self::SHARE_FROM {
                self.short(piece);
            } else {
                self.flush();
                self.parts.push(piece.clone());
                self.len += piece.len();
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
        if !self.tail.is_empty() {
            self.parts.push(self.tail.freeze());
        }
        self.parts
    }

    /// Appends bytes that are frames already.
    pub fn raw(&mut self, frame: &[u8]) {
        self.short(frame);
    }
}

impl Frame {
    /// Appends the frame.
    pub fn encode(&self, out: &mut Gather) {
        let mut head = Head::new();
        let (error, content) = self.fill(&mut head);
        let content_len = content.map_or(0, Payload::len);
        let head = head.finish(error.len() + content_len);
        if content_len < Gather::SHARE_FROM {
            out.reserve(head.len() + error.len() + content_len);
        }
        out.short(head);
        if !error.is_empty() {
            out.short(&error);
        }
        if let Some(content) = content {
            out.content(content);
        }
    }

    /// The frame alone, in one piece. For frames without content.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        let mut all = Vec::new();
        self.put(&mut all);
        all.into()
    }

    /// Appends the frame to one buffer, its content copied.
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        let mut head = Head::new();
        let (error, content) = self.fill(&mut head);
        let content_len = content.map_or(0, Payload::len);
        let head = head.finish(error.len() + content_len);
        out.reserve(head.len() + error.len() + content_len);
        out.extend_from_slice(head);
        out.extend_from_slice(&error);
        for piece in content.into_iter().flat_map(Payload::pieces) {
            out.extend_from_slice(piece);
        }
    }

    /// Writes what stands before the content; answers the error that follows it, encoded, and the content.
    fn fill(&self, head: &mut Head) -> (Vec<u8>, Option<&Payload>) {
        let (kind, id) = self.kind_and_id();
        head.byte(kind);
        head.varint(id);
        match self {
            Frame::Ping(token) | Frame::Pong(token) => head.put(*token, token.len()),
            Frame::Goodbye(error) | Frame::Reset { error, .. } => return (encoded(error), None),
            Frame::Drain | Frame::Cancel { .. } | Frame::Unknown { .. } => {}
            Frame::Credit { limit, .. } => head.varint(*limit),
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
                head.varint(*first);
                head.varint(*total);
                return (Vec::new(), Some(chunk));
            }
            Frame::More { chunk, .. } | Frame::DataMore { chunk, .. } => {
                return (Vec::new(), Some(chunk));
            }
            Frame::End { error: None, .. } => head.byte(0),
            Frame::End {
                error: Some(error), ..
            } => return (encoded(error), None),
            Frame::Gap { next, count, .. } => {
                head.varint(*next);
                head.varint(count.map_or(0, |count| count.saturating_add(1)));
            }
            Frame::Ack {
                seq,
                may_be_dropped,
                ..
            } => {
                head.varint(*seq);
                head.varint(u64::from(*may_be_dropped));
            }
        }
        (Vec::new(), None)
    }
}

fn encoded(error: &RemoteError) -> Vec<u8> {
    let mut out = Vec::new();
    varint::put(&mut out, u64::from(error.code.to_wire()));
    out.extend(error.encode());
    out
}

/// The start of a frame, written on the stack: room for the length, then kind, id and integers.
struct Head {
    bytes: [u8; varint::MAX_LEN + MAX_HEAD],
    end: usize,
}

impl Head {
    fn new() -> Self {
        Self {
            bytes: [0; varint::MAX_LEN + MAX_HEAD],
            end: varint::MAX_LEN,
        }
    }

    #[inline]
    fn byte(&mut self, byte: u8) {
        if let Some(to) = self.bytes.get_mut(self.end) {
            *to = byte;
            self.end += 1;
        }
    }

    #[inline]
    fn varint(&mut self, value: u64) {
        let (bytes, len) = varint::encode(value);
        self.put(bytes, len);
    }

    /// Appends the first `len` of these bytes. All eight are written, which is faster; what follows overwrites the rest.
    #[inline]
    fn put(&mut self, bytes: [u8; varint::MAX_LEN], len: usize) {
        if let Some(to) = self.bytes.get_mut(self.end..self.end + varint::MAX_LEN) {
            to.copy_from_slice(&bytes);
            self.end += len;
        }
    }

    /// Puts the length in front of what was written, `behind` bytes of the frame following it.
    fn finish(&mut self, behind: usize) -> &[u8] {
        let len = self.end.saturating_sub(varint::MAX_LEN) + behind;
        let (bytes, len) = varint::encode(len as u64);
        let start = varint::MAX_LEN - len;
        if let (Some(to), Some(from)) =
            (self.bytes.get_mut(start..varint::MAX_LEN), bytes.get(..len))
        {
            to.copy_from_slice(from);
        }
        self.bytes.get(start..self.end).unwrap_or_default()
    }
}
