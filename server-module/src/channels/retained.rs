//! What the runtime still has of a channel, as long as nobody else can write to it: where a new reader will stand.
//!
//! A new reader of a channel without a strong one begins with the first message that lies within the ring's length of the
//! end, and that no strong reader has read. The runtime tells no reader where it stands; so that is counted here.

use std::collections::VecDeque;

/// The most messages that are counted. Where more lie within a ring, nobody knows how many those are.
const MAX_COUNTED: usize = 4_096;

/// The lengths of the last messages.
#[derive(Debug)]
pub(super) struct Retained {
    lens: VecDeque<u32>,
    bytes: u64,
    /// Messages written.
    next: u64,
    /// Messages that strong readers have read: one may be read before it is known that it was written.
    gone: u64,
    /// Whether all that lie within the ring's length are counted.
    complete: bool,
}

impl Default for Retained {
    /// Of a channel to which nothing was written.
    fn default() -> Self {
        Self {
            lens: VecDeque::new(),
            bytes: 0,
            next: 0,
            gone: 0,
            complete: true,
        }
    }
}

impl Retained {
    /// A message of this length was written to a ring of `size` bytes.
    pub(super) fn push(&mut self, len: usize, size: u64) {
        let len = u32::try_from(len).unwrap_or(u32::MAX);
        self.lens.push_back(len);
        self.bytes += u64::from(len);
        self.next += 1;
        while self.bytes > size {
            self.pop();
            self.complete = true;
        }
        if self.lens.len() > MAX_COUNTED {
            self.spoil();
        }
        self.drop_gone();
    }

    fn pop(&mut self) {
        if let Some(len) = self.lens.pop_front() {
            self.bytes = self.bytes.saturating_sub(u64::from(len));
        }
    }

    fn first(&self) -> u64 {
        self.next.saturating_sub(self.lens.len() as u64)
    }

    fn drop_gone(&mut self) {
        while !self.lens.is_empty() && self.first() < self.gone {
            self.pop();
        }
    }

    /// The last strong reader is gone, and has read so many.
    pub(super) fn read_up_to(&mut self, passed: u64) {
        self.gone = self.gone.max(passed);
        if passed >= self.first() {
            // Whatever was not counted is among them.
            self.complete = true;
        }
        self.drop_gone();
    }

    /// It is not known what there is. It will be when a ring full was written.
    pub(super) fn spoil(&mut self) {
        self.lens = VecDeque::new();
        self.bytes = 0;
        self.complete = false;
    }

    /// The number of the message with which a new reader will begin, as long as nothing is being written.
    pub(super) fn start(&self) -> Option<u64> {
        self.complete.then(|| self.first().max(self.gone))
    }

    /// How many messages there are from there on, and their bytes.
    pub(super) fn known(&self) -> Option<(u64, u64)> {
        self.complete
            .then_some((self.lens.len() as u64, self.bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_within_a_ring_is_counted() {
        let mut retained = Retained::default();
        assert_eq!(
            (retained.start(), retained.known()),
            (Some(0), Some((0, 0)))
        );
        for len in [40, 30, 30] {
            retained.push(len, 100);
        }
        assert_eq!(
            (retained.start(), retained.known()),
            (Some(0), Some((3, 100)))
        );
        retained.push(1, 100);
        assert_eq!(
            (retained.start(), retained.known()),
            (Some(1), Some((3, 61)))
        );
        retained.read_up_to(3);
        assert_eq!(
            (retained.start(), retained.known()),
            (Some(3), Some((1, 1)))
        );
        // It is told that one was read, and then that it was written.
        retained.read_up_to(5);
        assert_eq!(retained.start(), Some(5));
        retained.push(9, 100);
        assert_eq!(
            (retained.start(), retained.known()),
            (Some(5), Some((0, 0)))
        );
        retained.push(9, 100);
        assert_eq!(
            (retained.start(), retained.known()),
            (Some(5), Some((1, 9)))
        );
        retained.spoil();
        assert_eq!((retained.start(), retained.known()), (None, None));
        retained.push(60, 100);
        assert_eq!(retained.known(), None);
        retained.push(60, 100);
        assert_eq!(
            retained.known(),
            Some((1, 60)),
            "the other one is out of it"
        );
        for _ in 0..2 * MAX_COUNTED {
            retained.push(1, 1 << 20);
            assert!(retained.lens.len() <= MAX_COUNTED);
        }
        assert_eq!(retained.known(), None);
        retained.read_up_to(retained.next);
        assert_eq!(retained.known(), Some((0, 0)), "all of it was read");
    }
}
