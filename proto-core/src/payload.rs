//! Payloads as ropes of [`Bytes`], so that a message that arrived in several pieces is handed on without a copy.

use bytes::{Bytes, BytesMut};

/// Pieces smaller than this are copied out of the read buffer that they arrived in: what is kept for long must not keep
/// large buffers alive, and what arrives byte by byte must not take many times its size.
pub const COPY_BELOW: usize = 1024;

/// The bytes of one message, in order, in one or more pieces.
#[derive(Clone, Debug, Default)]
pub struct Payload {
    first: Bytes,
    rest: Vec<Bytes>,
    len: usize,
}

impl Payload {
    /// An empty payload.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The number of bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Appends a piece; empty pieces are left out. Two small pieces in a row are copied into one, so that there are
    /// never more than one and a piece for each half of [`COPY_BELOW`].
    pub fn push(&mut self, piece: Bytes) {
        if piece.is_empty() {
            return;
        }
        self.len = self.len.saturating_add(piece.len());
        let last = self.rest.last_mut().unwrap_or(&mut self.first);
        if last.is_empty() {
            self.first = piece;
        } else if last.len() < COPY_BELOW && piece.len() < COPY_BELOW {
            *last = [&last[..], &piece[..]].concat().into();
        } else {
            self.rest.push(piece);
        }
    }

    /// Appends all pieces of `other`.
    pub fn append(&mut self, other: Payload) {
        self.push(other.first);
        for piece in other.rest {
            self.push(piece);
        }
    }

    /// The pieces, in order, none of them empty.
    pub fn pieces(&self) -> impl Iterator<Item = &Bytes> {
        core::iter::once(&self.first)
            .chain(self.rest.iter())
            .filter(|piece| !piece.is_empty())
    }

    /// Splits off the first `at` bytes (all of them when there are fewer).
    #[must_use]
    pub fn split_to(&mut self, at: usize) -> Payload {
        let mut front = Payload::new();
        let mut missing = at.min(self.len);
        while missing > 0 && !self.first.is_empty() {
            let piece = self.first.split_to(missing.min(self.first.len()));
            missing = missing.saturating_sub(piece.len());
            self.len = self.len.saturating_sub(piece.len());
            front.push(piece);
            if self.first.is_empty() && !self.rest.is_empty() {
                self.first = self.rest.remove(0);
            }
        }
        front
    }

    /// The bytes in one piece: without a copy when there is only one, with one copy otherwise.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        if self.rest.is_empty() {
            return self.first;
        }
        let mut all = BytesMut::with_capacity(self.len);
        for piece in self.pieces() {
            all.extend_from_slice(piece);
        }
        all.freeze()
    }

    /// All bytes in a new buffer.
    #[must_use]
    pub fn to_vec(&self) -> Vec<u8> {
        let mut all = Vec::with_capacity(self.len());
        for piece in self.pieces() {
            all.extend_from_slice(piece);
        }
        all
    }

    /// The same bytes, copied when they are so few that keeping their buffers alive would cost more.
    #[must_use]
    pub fn detached(self) -> Payload {
        if self.len >= COPY_BELOW {
            return self;
        }
        let mut all = BytesMut::with_capacity(self.len);
        for piece in self.pieces() {
            all.extend_from_slice(piece);
        }
        all.freeze().into()
    }
}

impl From<Vec<Bytes>> for Payload {
    fn from(parts: Vec<Bytes>) -> Self {
        let mut payload = Payload::new();
        for part in parts {
            payload.push(part);
        }
        payload
    }
}

impl From<Bytes> for Payload {
    fn from(bytes: Bytes) -> Self {
        let mut payload = Payload::new();
        payload.push(bytes);
        payload
    }
}

impl From<Vec<u8>> for Payload {
    fn from(bytes: Vec<u8>) -> Self {
        Bytes::from(bytes).into()
    }
}

impl PartialEq for Payload {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len
            && self
                .pieces()
                .flat_map(|piece| piece.iter())
                .eq(other.pieces().flat_map(|piece| piece.iter()))
    }
}

impl Eq for Payload {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn splitting_keeps_bytes_in_order(pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..20), 0..8), at in 0usize..200) {
            let whole: Vec<u8> = pieces.concat();
            let mut payload = Payload::new();
            for piece in pieces {
                payload.push(piece.into());
            }
            prop_assert_eq!(payload.len(), whole.len());
            let front = payload.split_to(at);
            let at = at.min(whole.len());
            prop_assert_eq!(front.len(), at);
            prop_assert_eq!(front.to_vec(), &whole[..at]);
            prop_assert_eq!(payload.detached().to_vec(), &whole[at..]);
        }
    }
}
