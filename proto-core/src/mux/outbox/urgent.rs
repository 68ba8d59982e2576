//! Control frames that wait, encoded, first in first out.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use crate::frame::Frame;

/// One buffer for all of them: a flood of short frames costs little more than its bytes.
#[derive(Debug, Default)]
pub(super) struct Urgent {
    bytes: BytesMut,
    lengths: VecDeque<u32>,
}

impl Urgent {
    /// Bytes that wait.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lengths.is_empty()
    }

    pub(super) fn push(&mut self, frame: &Frame) {
        let before = self.bytes.len();
        self.bytes.extend_from_slice(&frame.to_bytes());
        let length = self.bytes.len().saturating_sub(before);
        // A frame is far shorter than that.
        self.lengths
            .push_back(u32::try_from(length).unwrap_or(u32::MAX));
    }

    /// As many whole frames from the front as `room` holds.
    pub(super) fn take(&mut self, room: usize) -> Bytes {
        let mut taken = 0usize;
        while let Some(length) = self.lengths.front() {
            let with = taken.saturating_add(*length as usize);
            if with > room {
                break;
            }
            taken = with;
            self.lengths.pop_front();
        }
        let front = self.bytes.split_to(taken.min(self.bytes.len())).freeze();
        if self.bytes.is_empty() {
            // A buffer that a flood has stretched is not kept.
            self.bytes = BytesMut::new();
            self.lengths.shrink_to(32);
        }
        front
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_leave_whole_and_in_order() {
        let mut urgent = Urgent::default();
        for number in 0..5u8 {
            urgent.push(&Frame::Ping([number; 8]));
        }
        let one = urgent.len() / 5;
        assert!(urgent.take(one - 1).is_empty());
        assert_eq!(urgent.take(2 * one + 1).len(), 2 * one);
        let rest = urgent.take(usize::MAX);
        assert_eq!(rest.len(), 3 * one);
        assert_eq!(rest.get(3), Some(&2));
        assert!(urgent.is_empty());
        assert_eq!(urgent.len(), 0);
    }
}
