//! From frames to bytes.

use bytes::{BufMut, Bytes, BytesMut};

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
}

fn put_error(out: &mut Vec<u8>, error: &RemoteError) {
    varint::put(out, u64::from(error.code.to_wire()));
    out.extend(error.encode());
}
