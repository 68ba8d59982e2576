//! Decisions out of bytes, and the limits to decide among.

use crate::Limits;

/// Bytes that decide what happens. When they are used up, every decision is 0.
#[derive(Clone, Debug)]
pub struct Source<'a>(&'a [u8]);

impl<'a> Source<'a> {
    /// A source of these bytes.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Whether all bytes are used up.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What was not used.
    #[must_use]
    pub fn rest(self) -> &'a [u8] {
        self.0
    }

    /// Up to `len` bytes as they are.
    pub fn bytes(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// One byte.
    pub fn byte(&mut self) -> u8 {
        self.bytes(1).first().copied().unwrap_or_default()
    }

    /// A decision between so many.
    pub fn below(&mut self, count: u8) -> u8 {
        self.byte() % count.max(1)
    }

    /// Yes or no.
    pub fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    /// Two bytes, little-endian.
    pub fn word(&mut self) -> u16 {
        u16::from_le_bytes([self.byte(), self.byte()])
    }

    /// A number: mostly small, sometimes of any size.
    pub fn number(&mut self) -> u64 {
        match self.byte() {
            small @ 0..=199 => u64::from(small),
            200..=239 => u64::from(self.word()),
            _ => {
                let mut bytes = [0; 8];
                let from = self.bytes(8);
                bytes[..from.len()].copy_from_slice(from);
                u64::from_le_bytes(bytes)
            }
        }
    }

    /// A length of at most `max`: small, or of any size.
    pub fn len(&mut self, max: usize) -> usize {
        let len = match self.byte() {
            small @ 0..=159 => usize::from(small),
            _ => usize::from(self.word()),
        };
        len.min(max)
    }

    /// Some text.
    pub fn text(&mut self, max: usize) -> String {
        let len = self.len(max);
        let text = String::from_utf8_lossy(self.bytes(len)).into_owned();
        crate::error::clip(&text, max).to_owned()
    }
}

/// Limits that a few messages reach.
pub(super) fn small() -> Limits {
    Limits::with(|limits| {
        limits.connection_window = 8_000;
        limits.max_connection_window = 20_000;
        limits.stream_window = 6_000;
        limits.reassembly = 50_000;
        limits.max_message = 40_000;
        limits.max_request = 40_000;
        limits.max_requests = 6;
        limits.max_streams = 4;
        limits.control_queue = 60_000;
        limits.stream_queue = 20_000;
        limits.connection_queue = 40_000;
    })
}

/// Limits with which hardly anything is possible.
pub(super) fn tiny() -> Limits {
    Limits::with(|limits| {
        limits.connection_window = 1;
        limits.max_connection_window = 1;
        limits.stream_window = 40;
        limits.reassembly = 10;
        limits.max_message = 20;
        limits.max_request = 30;
        limits.max_requests = 2;
        limits.max_streams = 1;
        limits.stream_queue = 1;
        limits.connection_queue = 1;
    })
}
