//! The queue of starts: bounded, and fair between connections.
//!
//! Each start compiles a module on one of the runtime's worker threads, so only a few may be in the host at a time.
//! Those that wait are taken in turn from the connections that wait: a client that asks for a thousand does not keep
//! another one waiting for more than one turn.

use std::collections::{BTreeMap, VecDeque};

use crate::connection::ConnectionId;

/// Waiting starts of type `T`.
#[derive(Debug)]
pub struct StartQueue<T> {
    waiting: BTreeMap<ConnectionId, VecDeque<T>>,
    turns: VecDeque<ConnectionId>,
    len: usize,
    running: usize,
    max_running: usize,
    max_waiting: usize,
}

impl<T> StartQueue<T> {
    /// A queue that lets `max_running` starts into the host and `max_waiting` wait.
    #[must_use]
    pub fn new(max_running: usize, max_waiting: usize) -> Self {
        Self {
            waiting: BTreeMap::new(),
            turns: VecDeque::new(),
            len: 0,
            running: 0,
            max_running,
            max_waiting,
        }
    }

    /// Starts that wait or run.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len + self.running
    }

    /// Whether none waits or runs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Queues a start.
    ///
    /// # Errors
    /// Gives it back when as many wait as allowed.
    pub fn push(&mut self, connection: ConnectionId, start: T) -> Result<(), T> {
        if self.len >= self.max_waiting {
            return Err(start);
        }
        let queue = self.waiting.entry(connection).or_default();
        if queue.is_empty() {
            self.turns.push_back(connection);
        }
        queue.push_back(start);
        self.len += 1;
        Ok(())
    }

    /// The next start for the host, while one may run.
    pub fn pop(&mut self) -> Option<T> {
        if self.running >= self.max_running {
            return None;
        }
        let connection = self.turns.pop_front()?;
        let queue = self.waiting.get_mut(&connection)?;
        let start = queue.pop_front()?;
        if queue.is_empty() {
            self.waiting.remove(&connection);
        } else {
            self.turns.push_back(connection);
        }
        self.len -= 1;
        self.running += 1;
        Some(start)
    }

    /// A start is no longer in the host.
    pub fn finished(&mut self) {
        self.running = self.running.saturating_sub(1);
    }

    /// Takes the waiting starts of a connection out that `matches`.
    pub fn remove(
        &mut self,
        connection: ConnectionId,
        mut matches: impl FnMut(&T) -> bool,
    ) -> Vec<T> {
        let Some(queue) = self.waiting.remove(&connection) else {
            return Vec::new();
        };
        let (out, kept): (VecDeque<T>, VecDeque<T>) =
            queue.into_iter().partition(|start| matches(start));
        self.len = self.len.saturating_sub(out.len());
        if kept.is_empty() {
            self.turns.retain(|turn| *turn != connection);
        } else {
            self.waiting.insert(connection, kept);
        }
        out.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: ConnectionId = ConnectionId(1);
    const B: ConnectionId = ConnectionId(2);

    #[test]
    fn connections_take_turns() {
        let mut queue = StartQueue::new(100, 100);
        for n in 0..5 {
            queue.push(A, ("a", n)).unwrap();
        }
        queue.push(B, ("b", 0)).unwrap();
        let order: Vec<_> = core::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(order[..3], [("a", 0), ("b", 0), ("a", 1)]);
        assert_eq!(order.len(), 6);
    }

    #[test]
    fn both_numbers_are_bounded() {
        let mut queue = StartQueue::new(2, 3);
        for n in 0..3 {
            queue.push(A, n).unwrap();
        }
        assert_eq!(queue.push(B, 9), Err(9));
        assert_eq!(
            (queue.pop(), queue.pop(), queue.pop()),
            (Some(0), Some(1), None)
        );
        queue.finished();
        assert_eq!(queue.pop(), Some(2));
        assert_eq!(queue.len(), 2);
    }

    #[test]
    fn waiting_starts_can_be_taken_out() {
        let mut queue = StartQueue::new(1, 10);
        for n in 0..3 {
            queue.push(A, n).unwrap();
        }
        assert_eq!(queue.remove(A, |n| *n == 1), [1]);
        assert_eq!(queue.remove(A, |_| true), [0, 2]);
        assert_eq!(queue.pop(), None);
        assert!(queue.is_empty());
        queue.push(A, 7).unwrap();
        assert_eq!(queue.pop(), Some(7));
    }
}
