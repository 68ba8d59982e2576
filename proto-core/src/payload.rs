//! Payloads as ropes of [`Bytes`], so that a message that arrived in several pieces is handed on without a copy.

use bytes::{Buf as _, Bytes};

/// Pieces smaller than this are copied out of the read buffer that they arrived in: what is kept for long must not keep
/// large buffers alive, and what arrives byte by byte must not take many times its size.
pub const COPY_BELOW: usize = 1024;

/// What is kept of a read, from a few bytes to a whole chunk, is shared from this length on and copied below it. A read
/// has 64 KiB at most, so that no more than eight times what is kept stays alive.
pub const SHARE_FROM: usize = 8 * 1024;

/// The bytes of one message, in order, in one or more pieces.
#[derive(Clone, Debug, Default)]
pub struct Payload {
    /// Empty only when there is no other.
    first: Bytes,
    rest: Vec<Bytes>,
    /// So many pieces at the front of `rest` have been taken out. (A `VecDeque` is slower to make and to drop, which
    /// happens several times a frame; most payloads have no `rest`.)
    gone: usize,
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
        if self.is_empty() {
            *self = other;
            return;
        }
        self.push(other.first);
        for piece in other.rest.into_iter().skip(other.gone) {
            self.push(piece);
        }
    }

    /// The pieces, in order, none of them empty.
    pub fn pieces(&self) -> impl Iterator<Item = &Bytes> {
        let first = (!self.first.is_empty()).then_some(&self.first);
        first.into_iter().chain(self.behind())
    }

    /// The pieces behind the first.
    fn behind(&self) -> &[Bytes] {
        self.rest.get(self.gone..).unwrap_or_default()
    }

    /// The first piece; empty when there is none.
    #[inline]
    pub(crate) fn front(&self) -> &[u8] {
        &self.first
    }

    /// Drops the first `count` bytes (all of them when there are fewer).
    #[inline]
    pub(crate) fn advance(&mut self, mut count: usize) {
        while count > 0 && !self.first.is_empty() {
            let from_first = count.min(self.first.len());
            self.first.advance(from_first);
            self.len = self.len.saturating_sub(from_first);
            count -= from_first;
            self.close_up();
        }
    }

    /// Splits off the first `at` bytes (all of them when there are fewer).
    #[must_use]
    #[inline]
    pub fn split_to(&mut self, at: usize) -> Payload {
        if at < self.first.len() {
            self.len -= at;
            return self.first.split_to(at).into();
        }
        if self.rest.is_empty() {
            self.len = 0;
            return core::mem::take(&mut self.first).into();
        }
        self.split_pieces(at.min(self.len))
    }

    /// The same when more than one piece is concerned.
    fn split_pieces(&mut self, at: usize) -> Payload {
        if at < COPY_BELOW {
            // All of its pieces are small: they become one.
            let mut front = Vec::with_capacity(at);
            self.take(at, |piece| front.extend_from_slice(&piece));
            return front.into();
        }
        let mut front = Payload::new();
        front.rest.reserve_exact(self.pieces_before(at));
        self.take(at, |piece| front.push(piece));
        front
    }

    /// Takes the first `count` bytes off, piece by piece.
    fn take(&mut self, mut count: usize, mut to: impl FnMut(Bytes)) {
        while count > 0 && !self.first.is_empty() {
            let piece = self.first.split_to(count.min(self.first.len()));
            count -= piece.len();
            self.len = self.len.saturating_sub(piece.len());
            to(piece);
            self.close_up();
        }
    }

    /// How many pieces behind the first begin before byte `at`.
    fn pieces_before(&self, at: usize) -> usize {
        let mut begin = self.first.len();
        self.behind()
            .iter()
            .take_while(|piece| {
                let before = begin < at;
                begin = begin.saturating_add(piece.len());
                before
            })
            .count()
    }

    /// Moves the next piece up when the first is used up.
    #[inline]
    fn close_up(&mut self) {
        if !self.first.is_empty() {
            return;
        }
        if self.rest.is_empty() {
            self.first = Bytes::new(); // What is used up keeps no buffer alive.
            return;
        }
        if let Some(next) = self.rest.get_mut(self.gone) {
            self.first = core::mem::take(next);
            self.gone += 1;
        }
        // All of them, or so many that moving the others costs no more than taking these did.
        if 2 * self.gone >= self.rest.len() {
            self.rest.drain(..self.gone);
            self.gone = 0;
        }
    }

    /// The bytes in one piece: without a copy when there is only one, with one copy otherwise.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        if self.rest.is_empty() {
            return self.first;
        }
        self.to_vec().into()
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

    /// The same bytes, copied when there are fewer than [`SHARE_FROM`]: what is kept must not keep a read buffer many
    /// times its size alive.
    #[must_use]
    pub fn detached(self) -> Payload {
        if self.len >= SHARE_FROM {
            return self;
        }
        self.to_vec().into()
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
    #[inline]
    fn from(bytes: Bytes) -> Self {
        Self {
            len: bytes.len(),
            first: bytes,
            rest: Vec::new(),
            gone: 0,
        }
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
