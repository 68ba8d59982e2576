//! Credit: how many bytes of stream data a sender may have sent in all (PROTOCOL.md, "Credit").
//!
//! Limits are absolute, as in QUIC: a limit that arrives twice or late does no harm, and a limit never shrinks.

use crate::limits::MESSAGE_OVERHEAD;

/// A window's credit is given back in so many steps.
const STEPS: u64 = 8;

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
/// limit = consumed + in reassembly + window            (never shrinking)
///     or  received + half a window, while messages in reassembly miss that much
/// ```
///
/// Bytes of a message in reassembly count as consumed, so that a message larger than the window can arrive. When it is
/// complete they count as unread again, so that no further credit is given until it was read. The second line lets a
/// message that has begun arrive although earlier ones are unread: it holds a part of the reassembly budget, which
/// others wait for. On a stream nothing else can use that credit; a stream holds its largest window so far and two
/// messages at most.
///
/// The connection's credit is shared, and its window follows the path, so that it may become smaller than what streams
/// hold unread:
///
/// ```text
/// limit <= received + window                                          what is on its way
/// limit <= consumed + in reassembly + largest window so far + missing what is held
/// ```
///
/// (Limits that were given in a larger window stay.) What has arrived and was not read is therefore at most the largest
/// window so far, and the messages in reassembly, each with its overhead: the reassembly budget bounds those.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReceiveCredit {
    window: u64,
    /// The largest window so far: as much may be held unread on the connection.
    room: u64,
    limit: u64,
    received: u64,
    consumed: u64,
    /// Bytes of messages in reassembly that have arrived.
    reassembling: u64,
    /// Bytes of messages in reassembly that have not.
    missing: u64,
}

impl ReceiveCredit {
    pub(crate) fn new(window: usize) -> Self {
        Self::growing(window, window)
    }

    /// A stream that begins while the window is not what the hello said.
    pub(crate) fn growing(first: usize, window: usize) -> Self {
        Self {
            window: window as u64,
            room: window.max(first) as u64,
            limit: first as u64,
            received: 0,
            consumed: 0,
            reassembling: 0,
            missing: 0,
        }
    }

    /// Changes the window; credit that was given stays given.
    pub(crate) fn set_window(&mut self, window: usize) {
        self.window = window as u64;
        self.room = self.room.max(self.window);
    }

    /// Bytes received in all.
    pub(crate) fn received(&self) -> u64 {
        self.received
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

    /// A message begins, of which so many bytes have arrived and so many have not.
    pub(crate) fn begin(&mut self, arrived: usize, missing: usize) {
        self.reassembling = self.reassembling.saturating_add(arrived as u64);
        self.missing = self.missing.saturating_add(missing as u64);
    }

    /// More of a message arrives.
    pub(crate) fn proceed(&mut self, bytes: usize) {
        self.reassembling = self.reassembling.saturating_add(bytes as u64);
        self.missing = self.missing.saturating_sub(bytes as u64);
    }

    /// A message is complete, or dropped: so many bytes of it had arrived before, and so many had not.
    pub(crate) fn over(&mut self, arrived: usize, missing: usize) {
        self.reassembling = self.reassembling.saturating_sub(arrived as u64);
        self.missing = self.missing.saturating_sub(missing as u64);
    }

    /// The new limit of a stream to tell the sender, once it is worth a frame: when an eighth of the window can be given
    /// back, or the message in reassembly is about to stop for want of credit. (With larger steps a sender on a long path
    /// waits for a good part of its window all the time.)
    pub(crate) fn update(&mut self) -> Option<u64> {
        self.give(self.due(), self.window.div_ceil(STEPS), u64::MAX)
    }

    /// The same for the connection, whose window streams share. What unread streams hold of it never comes back, so that
    /// an eighth of the rest is worth a frame; and others may use what is meant for messages in reassembly, so that it is
    /// given once.
    pub(crate) fn shared_update(&mut self) -> Option<u64> {
        let due = self.shared_due();
        let rest = due.saturating_sub(self.received).min(self.window);
        let most = due.saturating_add(self.missing);
        self.give(due, rest.div_ceil(STEPS), most)
    }

    /// The limit if there were no messages in reassembly that others wait for.
    fn due(&self) -> u64 {
        self.consumed
            .saturating_add(self.reassembling)
            .saturating_add(self.window)
    }

    /// The same for the connection. A window shrinks for the sake of what is on its way; what streams hold unread may be more
    /// than it then, and must not stop the others. So there is room for as much unread as ever, and a window on its way.
    fn shared_due(&self) -> u64 {
        self.consumed
            .saturating_add(self.reassembling)
            .saturating_add(self.room)
            .min(self.received.saturating_add(self.window))
            .max(self.due())
    }

    fn give(&mut self, due: u64, worth: u64, most: u64) -> Option<u64> {
        let half = self.window.div_ceil(2);
        let ahead = self.received.saturating_add(self.missing.min(half));
        let limit = due.max(ahead.min(most));
        let gain = limit.saturating_sub(self.limit);
        // A sender with less than the price of one byte is stuck: windows of a few bytes return their credit sooner.
        let worth = worth.min(self.window.saturating_sub(MESSAGE_OVERHEAD as u64));
        let left = self.limit.saturating_sub(self.received);
        let stops = left < self.missing.min(self.window.div_ceil(4));
        if gain == 0 || (gain < worth && !stops) {
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
    fn credit_returns_in_eighths_of_the_window() {
        let mut credit = ReceiveCredit::new(800);
        assert!(credit.receive(600));
        credit.consume(99);
        assert_eq!(credit.update(), None);
        credit.consume(1);
        assert_eq!(credit.update(), Some(900));
        assert_eq!(credit.update(), None);
        assert!(credit.receive(300));
        assert!(!credit.receive(1), "901 bytes are past 900");
    }

    #[test]
    fn a_message_larger_than_the_window_arrives_and_is_then_owed() {
        let mut credit = ReceiveCredit::new(100);
        credit.begin(0, 400);
        for _ in 0..4 {
            assert!(credit.receive(100));
            credit.proceed(100);
            assert!(credit.update().is_some());
        }
        // Complete: 400 bytes are unread. The 100 bytes of credit that are out stay out; no more come.
        credit.over(400, 0);
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

    #[test]
    fn a_begun_message_goes_on_though_others_are_unread() {
        let mut credit = ReceiveCredit::new(100);
        assert!(credit.receive(99)); // Nobody reads it.
        assert!(credit.receive(1));
        credit.begin(1, 400);
        let mut left = 400;
        while left > 0 {
            let limit = credit.update().expect("it goes on");
            let room = limit - credit.received();
            assert!((1..=50).contains(&room), "{room}");
            let chunk = (room as usize).min(left);
            assert!(credit.receive(chunk));
            credit.proceed(chunk);
            left -= chunk;
        }
        credit.over(401, 0);
        assert_eq!(credit.update(), None);
        assert!(!credit.receive(51), "the rest is owed");
    }

    #[test]
    fn an_announced_message_is_worth_no_more_than_itself() {
        let mut credit = ReceiveCredit::new(100);
        assert!(credit.receive(99));
        assert!(credit.receive(1));
        credit.begin(1, 10);
        // Others use what was meant for it, and nobody reads.
        let mut most = 100;
        while let Some(limit) = credit.shared_update() {
            let room = (limit - credit.received()) as usize;
            assert!(credit.receive(room));
            most = limit;
            assert!(most <= 111);
        }
        assert_eq!(most, 111);
    }

    #[test]
    fn unread_streams_leave_the_rest_of_the_window_to_others() {
        let mut credit = ReceiveCredit::new(1_000);
        assert!(credit.receive(750)); // Nobody reads it.
        for _ in 0..100 {
            assert!(credit.receive(125));
            credit.consume(125);
            assert!(credit.shared_update().is_some());
        }
    }

    #[test]
    fn a_shrinking_window_leaves_something_beside_what_is_unread() {
        let mut credit = ReceiveCredit::new(1_000);
        assert!(credit.receive(250)); // Nobody reads it: a stream's part of the window.
        credit.set_window(125);
        for _ in 0..100 {
            assert!(credit.receive(25));
            credit.consume(25);
            let _ = credit.shared_update();
        }
    }

    #[test]
    fn the_last_byte_of_a_begun_message_has_its_credit() {
        let mut credit = ReceiveCredit::new(183);
        assert!(credit.receive(92)); // A whole message, which nobody reads.
        assert!(credit.receive(91)); // Another one but for its last byte, for which credit comes.
        credit.begin(91, 1);
        assert_eq!(credit.update(), Some(274));
        assert!(credit.receive(1));
        credit.over(91, 1);
        assert!(credit.receive(90)); // More is unread than the window holds, and a third one begins.
        credit.begin(90, 2);
        assert_eq!(credit.update(), Some(276));
    }

    #[test]
    fn the_smallest_window_is_enough_for_a_byte_at_a_time() {
        for window in MESSAGE_OVERHEAD + 1..4 * MESSAGE_OVERHEAD {
            let mut credit = ReceiveCredit::new(window);
            let mut sender = SendCredit::new(window as u64);
            for _ in 0..100 {
                let bytes = sender.available();
                assert!(bytes > MESSAGE_OVERHEAD, "stuck with {bytes} of {window}");
                let bytes = MESSAGE_OVERHEAD + 1;
                sender.take(bytes);
                assert!(credit.receive(bytes));
                credit.consume(bytes);
                if let Some(limit) = credit.update() {
                    sender.raise(limit);
                }
            }
        }
    }

    #[test]
    fn a_window_that_shrinks_takes_no_credit_back() {
        let mut credit = ReceiveCredit::new(100);
        credit.set_window(50);
        assert!(credit.receive(50));
        credit.consume(50);
        assert_eq!(credit.update(), None, "as much as there is");
        assert!(credit.receive(50));
        credit.consume(50);
        assert_eq!(credit.update(), Some(150));
        credit.set_window(200);
        assert_eq!(credit.update(), Some(300));
    }

    #[test]
    fn what_is_held_is_bounded_by_the_largest_window_and_what_is_in_reassembly() {
        let mut credit = ReceiveCredit::new(1_000);
        let mut begun = 0;
        // A sender that uses all it gets, a receiver that reads nothing, and windows of all sizes.
        for (window, message) in [(4_000, 0), (100, 300), (2_000, 5_000), (50, 0), (3_000, 70)] {
            credit.set_window(window);
            credit.begin(0, message);
            begun += message as u64;
            for _ in 0..20 {
                let ahead = credit.limit - credit.received;
                assert!(credit.receive(ahead as usize));
                if let Some(limit) = credit.shared_update() {
                    assert!(limit - credit.received <= window as u64);
                }
            }
            assert!(credit.received <= 4_000 + begun, "{}", credit.received);
        }
        assert!(credit.received > 4_000, "{}", credit.received);
    }
}
