//! Credit: how many bytes of stream data a sender may have sent in all (PROTOCOL.md, "Credit").
//!
//! Limits are absolute, as in QUIC: a limit that arrives twice or late does no harm, and a limit never shrinks.

/// The sender's side.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SendCredit {
    limit: u64,
    used: u64,
}

impl SendCredit {
    pub(crate) fn new(limit: u64) -> Self {
        Self { limit, used: 0 }
    }

    /// Bytes that may be sent now.
    pub(crate) fn available(&self) -> usize {
        usize::try_from(self.limit.saturating_sub(self.used)).unwrap_or(usize::MAX)
    }

    /// Takes bytes that [`SendCredit::available`] allowed.
    pub(crate) fn take(&mut self, bytes: usize) {
        debug_assert!(bytes <= self.available());
        self.used = self.used.saturating_add(bytes as u64);
    }

    /// Raises the limit; answers whether it rose.
    pub(crate) fn raise(&mut self, limit: u64) -> bool {
        let rises = limit > self.limit;
        self.limit = self.limit.max(limit);
        rises
    }
}

/// The receiver's side.
///
/// ```text
/// limit = consumed + in reassembly + window        (never shrinking)
/// ```
///
/// Bytes of a message in reassembly count as consumed, so that a message larger than the window can arrive. When it is
/// complete they count as unread again, so that no further credit is given until it was read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReceiveCredit {
    window: u64,
    limit: u64,
    received: u64,
    consumed: u64,
    reassembling: u64,
}

impl ReceiveCredit {
    pub(crate) fn new(window: usize) -> Self {
        Self {
            window: window as u64,
            limit: window as u64,
            received: 0,
            consumed: 0,
            reassembling: 0,
        }
    }

    /// Counts received bytes; `false` when the sender had no credit for them.
    #[must_use]
    pub(crate) fn receive(&mut self, bytes: usize) -> bool {
        self.received = self.received.saturating_add(bytes as u64);
        self.received <= self.limit
    }

    /// Counts bytes that were read, or dropped with their stream.
    pub(crate) fn consume(&mut self, bytes: usize) {
        self.consumed = self.consumed.saturating_add(bytes as u64);
    }

    /// Counts bytes into (and, once the message is complete or dropped, out of) reassembly.
    pub(crate) fn reassemble(&mut self, into: usize, out_of: usize) {
        self.reassembling = self
            .reassembling
            .saturating_add(into as u64)
            .saturating_sub(out_of as u64);
    }

    /// The new limit to tell the sender, once it is worth a frame: when half of the window can be given back.
    pub(crate) fn update(&mut self) -> Option<u64> {
        let limit = self
            .consumed
            .saturating_add(self.reassembling)
            .saturating_add(self.window);
        if limit.saturating_sub(self.limit) < self.window.div_ceil(2) {
            return None;
        }
        self.limit = limit;
        Some(limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_never_shrinks() {
        let mut credit = SendCredit::new(10);
        credit.take(10);
        assert_eq!(credit.available(), 0);
        assert!(!credit.raise(5));
        assert!(!credit.raise(10));
        assert!(credit.raise(15));
        assert_eq!(credit.available(), 5);
    }

    #[test]
    fn credit_returns_in_halves_of_the_window() {
        let mut credit = ReceiveCredit::new(100);
        assert!(credit.receive(60));
        credit.consume(49);
        assert_eq!(credit.update(), None);
        credit.consume(1);
        assert_eq!(credit.update(), Some(150));
        assert_eq!(credit.update(), None);
        assert!(credit.receive(90));
        assert!(!credit.receive(1), "151 bytes are past 150");
    }

    #[test]
    fn a_message_larger_than_the_window_arrives_and_is_then_owed() {
        let mut credit = ReceiveCredit::new(100);
        for _ in 0..4 {
            assert!(credit.receive(100));
            credit.reassemble(100, 0);
            assert!(credit.update().is_some());
        }
        // Complete: 400 bytes are unread. The 100 bytes of credit that are out stay out; no more come.
        credit.reassemble(0, 400);
        assert_eq!(credit.update(), None);
        assert!(credit.receive(100));
        credit.consume(400);
        assert!(
            credit.update().is_none(),
            "nothing was read past what is owed"
        );
        credit.consume(50);
        assert_eq!(credit.update(), Some(550));
    }
}
