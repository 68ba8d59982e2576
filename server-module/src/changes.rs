//! Not more changes at a time than the log can tell.
//!
//! Who changed what has to be in the log, and the log holds a bounded number of records. Starts are few at a time; a
//! thousand stops are done within a fifth of a second, and most of their records would be lost. So a stop waits until the
//! log has room for its record. Should the log be stuck (a process can do that), stops go on without it after a moment:
//! that is when they are needed.

use std::cell::Cell;

use selium_remote_transport_wasm::{
    executor::{self, Gate},
    log,
};

use crate::clock::Clock;

/// The most changes whose records may wait for the log or are still to come. A record has 2 KiB at most and the log lets
/// 128 KiB wait.
const MAX_CHANGES: usize = 48;

/// The most changes that wait for their turn; past it they do not wait.
const MAX_WAITING: usize = 4_096;

/// How often the log is looked at before it counts as stuck: for a second.
const LOOKS: u32 = 500;

/// How long between two looks, in milliseconds.
const PAUSE_MS: u64 = 2;

/// Looks for one look, where there is no clock to pause by.
const YIELDS: u32 = 100;

/// Changes under way.
#[derive(Debug)]
pub(crate) struct Changes {
    /// Changes that the host is at and whose records are still to come.
    running: Cell<usize>,
    /// One waits for room at a time, the others behind it.
    turn: Gate,
    stuck: Cell<bool>,
}

impl Changes {
    pub(crate) fn new() -> Self {
        Self {
            running: Cell::new(0),
            turn: Gate::new(1, MAX_WAITING),
            stuck: Cell::new(false),
        }
    }

    /// Waits until the record of one more change has room in the log, if that is soon.
    pub(crate) async fn begin(&self, clock: &Clock) {
        let turn = self.turn.acquire().await;
        let mut looks = if self.stuck.get() { 0 } else { LOOKS };
        while !self.has_room() && looks > 0 {
            looks -= 1;
            pause(clock).await;
        }
        self.stuck.set(!self.has_room());
        self.running.set(self.running.get().saturating_add(1));
        drop(turn);
    }

    /// The record of a change was made, or there is none.
    pub(crate) fn end(&self) {
        self.running.set(self.running.get().saturating_sub(1));
    }

    fn has_room(&self) -> bool {
        self.running.get().saturating_add(log::waiting()) < MAX_CHANGES
    }
}

async fn pause(clock: &Clock) {
    if clock.runs() {
        return clock.sleep(PAUSE_MS).await;
    }
    for _ in 0..YIELDS {
        executor::yield_now().await;
    }
}
