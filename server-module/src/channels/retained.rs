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
    /// Whether all that lie within the ring's length are counted.
    complete: bool,
}

impl Default for Retained {
    /// Of a channel to which nothing was written.
    fn default() -> Self {
        Self {
            lens: VecDeque::new(),
            bytes: 0,
            complete: true,
        }
    }
}

impl Retained {
    /// A message of this length was written to a ring of `size` bytes.
    pub(super) fn push(&mut self, len: usize, size: u64) {
        let Ok(len) = u32::try_from(len) else {
            return self.spoil();
        };
        self.lens.push_back(len);
        self.bytes += u64::from(len);
        while self.bytes > size {
            self.pop();
            self.complete = true;
        }
        if self.lens.len() > MAX_COUNTED {
            self.spoil();
        }
    }

    fn pop(&mut self) {
        if let Some(len) = self.lens.pop_front() {
            self.bytes = self.bytes.saturating_sub(u64::from(len));
        }
    }

    /// The last strong reader is gone, and has not read so many; all others are forgotten.
    pub(super) fn keep_last(&mut self, unread: u64) {
        while self.lens.len() as u64 > unread {
            self.pop();
        }
    }

    /// It is not known what there is. It will be when a ring full was written.
    pub(super) fn spoil(&mut self) {
        self.lens = VecDeque::new();
        self.bytes = 0;
        self.complete = false;
    }

    /// How many messages a new reader will find, and their bytes.
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
        assert_eq!(retained.known(), Some((0, 0)));
        for len in [40, 30, 30] {
            retained.push(len, 100);
        }
        assert_eq!(retained.known(), Some((3, 100)));
        retained.push(1, 100);
        assert_eq!(retained.known(), Some((3, 61)));
        retained.keep_last(1);
        assert_eq!(retained.known(), Some((1, 1)));
        retained.keep_last(9);
        assert_eq!(retained.known(), Some((1, 1)));
        retained.spoil();
        assert_eq!(retained.known(), None);
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
    }
}
