//! Control frames that wait, encoded, first in first out.

use std::collections::VecDeque;

use crate::{
    frame::{Frame, Gather},
    limits::MAX_WRITE,
};

/// Bytes of the buffer that an idle connection keeps.
const KEPT: usize = 128;

/// One buffer for all of them: a flood of short frames costs little more than its bytes.
#[derive(Debug, Default)]
pub(super) struct Urgent {
    bytes: Vec<u8>,
    /// How many of the bytes have left.
    gone: usize,
    lengths: VecDeque<u32>,
}

impl Urgent {
    /// Bytes that wait.
    pub(super) fn len(&self) -> usize {
        self.bytes.len().saturating_sub(self.gone)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lengths.is_empty()
    }

    pub(super) fn push(&mut self, frame: &Frame) {
        let before = self.bytes.len();
        frame.put(&mut self.bytes);
        let length = self.bytes.len().saturating_sub(before);
        // A frame is far shorter than that.
        self.lengths
            .push_back(u32::try_from(length).unwrap_or(u32::MAX));
    }

    /// Moves as many whole frames from the front as `room` holds.
    pub(super) fn take(&mut self, room: usize, out: &mut Gather) {
        let mut taken = 0usize;
        while let Some(length) = self.lengths.front() {
            let with = taken.saturating_add(*length as usize);
            if with > room {
                break;
            }
            taken = with;
            self.lengths.pop_front();
        }
        let end = self.gone.saturating_add(taken).min(self.bytes.len());
        out.raw(self.bytes.get(self.gone..end).unwrap_or_default());
        self.gone = end;
        if self.gone == self.bytes.len() {
            // A buffer that a flood has stretched is not kept.
            self.gone = 0;
            self.bytes.clear();
            self.bytes.shrink_to(KEPT);
            self.lengths.shrink_to(32);
        } else if self.gone >= MAX_WRITE {
            self.bytes.drain(..self.gone);
            self.gone = 0;
        }
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
        let mut take = |room| {
            let mut out = Gather::default();
            urgent.take(room, &mut out);
            out.finish().concat()
        };
        assert!(take(one - 1).is_empty());
        assert_eq!(take(2 * one + 1).len(), 2 * one);
        let rest = take(usize::MAX);
        assert_eq!(rest.len(), 3 * one);
        assert_eq!(rest.get(3), Some(&2));
        assert!(urgent.is_empty());
        assert_eq!(urgent.len(), 0);
    }
}
