//! Processes: how fast they may be started, and which there are.
//!
//! The runtime never frees all of what a process had, so that starts are bounded in number.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

use selium_remote_client::ProcessId;
use tokio::time::sleep_until;

/// At most two starts a second.
const PAUSE: Duration = Duration::from_millis(500);

/// How many processes are remembered after they were stopped: the server still has their logs.
const REMEMBERED: usize = 16;

/// The processes of a soak.
#[derive(Debug, Default)]
pub(super) struct Starts {
    next: Cell<Option<Instant>>,
    running: RefCell<VecDeque<ProcessId>>,
    stopped: RefCell<VecDeque<ProcessId>>,
}

impl Starts {
    /// Waits for the turn to start a process; `false` when that would be after `until`.
    pub(super) async fn turn(&self, until: Instant) -> bool {
        let now = Instant::now();
        let turn = self.next.get().map_or(now, |next| next.max(now));
        if turn >= until {
            return false;
        }
        self.next.set(Some(turn + PAUSE));
        sleep_until(turn.into()).await;
        true
    }

    /// A process runs.
    pub(super) fn runs(&self, id: ProcessId) {
        self.running.borrow_mut().push_back(id);
    }

    /// How many run.
    pub(super) fn count(&self) -> usize {
        self.running.borrow().len()
    }

    /// Takes one that runs, to stop it: the oldest, or any.
    pub(super) fn take(&self, any: Option<&mut fastrand::Rng>) -> Option<ProcessId> {
        let mut running = self.running.borrow_mut();
        let index = match any {
            Some(dice) if !running.is_empty() => dice.usize(..running.len()),
            _ => 0,
        };
        let id = running.remove(index)?;
        let mut stopped = self.stopped.borrow_mut();
        stopped.push_back(id);
        if stopped.len() > REMEMBERED {
            stopped.pop_front();
        }
        Some(id)
    }

    /// Any one, to look at: mostly one that runs, sometimes one that was stopped.
    pub(super) fn any(&self, dice: &mut fastrand::Rng) -> Option<ProcessId> {
        let list = if dice.u8(..5) == 0 {
            &self.stopped
        } else {
            &self.running
        };
        let list = list.borrow();
        if list.is_empty() {
            return None;
        }
        list.get(dice.usize(..list.len())).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_stopped_is_remembered_for_a_while() {
        let starts = Starts::default();
        for id in 0..40 {
            starts.runs(ProcessId(id));
        }
        assert_eq!(starts.take(None), Some(ProcessId(0)));
        let mut dice = fastrand::Rng::with_seed(1);
        while starts.take(Some(&mut dice)).is_some() {}
        assert_eq!(starts.count(), 0);
        assert_eq!(starts.stopped.borrow().len(), REMEMBERED);
    }
}
