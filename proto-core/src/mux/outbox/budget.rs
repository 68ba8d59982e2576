//! The peer's reassembly budget, as its sender shares it out (PROTOCOL.md, "Messages").
//!
//! Stream messages leave half of it to requests and responses: a stream that nobody reads must not keep a long answer
//! from coming. (One stream message that is larger than the other half may have all that is free.) In each of the two
//! classes who came first begins first, so that short messages do not starve a long one.

use std::collections::VecDeque;

/// What takes part of the budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// Requests and responses.
    Control,
    /// Stream messages.
    Data,
}

/// One class's part.
#[derive(Debug, Default)]
struct Share {
    reserved: usize,
    /// Lanes that wait to begin, in the order in which they came.
    waiting: VecDeque<u64>,
}

/// The whole budget.
#[derive(Debug, Default)]
pub(super) struct Budget {
    size: usize,
    control: Share,
    data: Share,
}

impl Budget {
    pub(super) fn new(size: usize) -> Self {
        Self {
            size,
            ..Self::default()
        }
    }

    fn share(&mut self, class: Class) -> &mut Share {
        match class {
            Class::Control => &mut self.control,
            Class::Data => &mut self.data,
        }
    }

    /// Reserves `total` bytes for the lane's message, or puts the lane into the line.
    pub(super) fn reserve(&mut self, class: Class, id: u64, total: usize) -> bool {
        let all = self.control.reserved.saturating_add(self.data.reserved);
        let free = self.size.saturating_sub(all);
        let fits = match class {
            Class::Control => total <= free,
            Class::Data => {
                let within = self.data.reserved.saturating_add(total) <= self.size / 2;
                let alone = self.data.reserved == 0;
                total <= free && (within || alone) && self.control.waiting.is_empty()
            }
        };
        let share = self.share(class);
        let first = share.waiting.front().is_none_or(|first| *first == id);
        if fits && first {
            share.waiting.pop_front();
            share.reserved = share.reserved.saturating_add(total);
            return true;
        }
        if !share.waiting.contains(&id) {
            share.waiting.push_back(id);
        }
        false
    }

    /// Whether anyone waits in the line.
    pub(super) fn has_line(&self) -> bool {
        !self.control.waiting.is_empty() || !self.data.waiting.is_empty()
    }

    /// Gives back what a message held.
    pub(super) fn release(&mut self, class: Class, total: usize) {
        let share = self.share(class);
        share.reserved = share.reserved.saturating_sub(total);
    }

    /// Takes a lane out of the line; answers whether it stood there.
    pub(super) fn forget(&mut self, id: u64) -> bool {
        if !self.has_line() {
            return false; // As nearly always.
        }
        let mut stood = false;
        for share in [&mut self.control, &mut self.data] {
            let before = share.waiting.len();
            share.waiting.retain(|waiting| *waiting != id);
            stood |= share.waiting.len() != before;
        }
        stood
    }

    /// Bytes reserved.
    #[cfg(test)]
    pub(super) fn reserved(&self) -> usize {
        self.control.reserved + self.data.reserved
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_leave_half_to_answers() {
        let mut budget = Budget::new(1_000);
        assert!(budget.reserve(Class::Data, 1, 300));
        assert!(budget.reserve(Class::Data, 2, 200));
        assert!(!budget.reserve(Class::Data, 3, 1));
        assert!(budget.reserve(Class::Control, 4, 500));
        assert!(!budget.reserve(Class::Control, 5, 1));
    }

    #[test]
    fn a_long_message_is_not_starved_by_short_ones() {
        let mut budget = Budget::new(1_000);
        assert!(budget.reserve(Class::Data, 1, 300));
        assert!(!budget.reserve(Class::Data, 2, 900));
        assert!(!budget.reserve(Class::Data, 3, 100), "behind the long one");
        budget.release(Class::Data, 300);
        assert!(!budget.reserve(Class::Data, 3, 100), "still");
        assert!(budget.reserve(Class::Data, 2, 900), "alone");
        assert!(!budget.reserve(Class::Data, 3, 100));
        budget.release(Class::Data, 900);
        assert!(budget.reserve(Class::Data, 3, 100));
        assert_eq!(budget.reserved(), 100);
    }

    #[test]
    fn who_waits_for_an_answer_goes_before_new_stream_messages() {
        let mut budget = Budget::new(1_000);
        assert!(budget.reserve(Class::Data, 1, 500));
        assert!(!budget.reserve(Class::Control, 2, 800));
        budget.release(Class::Data, 500);
        assert!(!budget.reserve(Class::Data, 3, 10));
        assert!(budget.reserve(Class::Control, 2, 800));
        assert!(budget.reserve(Class::Data, 3, 10));
    }

    #[test]
    fn who_gives_up_leaves_the_line() {
        let mut budget = Budget::new(100);
        assert!(!budget.reserve(Class::Control, 1, 101));
        assert!(!budget.reserve(Class::Data, 2, 10));
        assert!(budget.forget(1));
        assert!(!budget.forget(1));
        assert!(budget.reserve(Class::Data, 2, 10));
    }
}
