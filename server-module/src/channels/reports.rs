//! Telling the server what was written: some messages at a time.
//!
//! Each time that the server is told it acknowledges, and a write to a connection goes out, which costs more than the write to the channel. So what
//! was written is told of together: when there is nothing more to write, when it is enough, and when anything comes in from a client, or the
//! clock ticks, since the next write may have to wait for a reader for ever. (Clients ping every few seconds.)

use std::{cell::RefCell, rc::Rc};

use selium_remote_server_core::{Completion, host::WriterId};

use super::{Channels, Entry, Sink};

/// Messages and bytes that are enough: a part of what a client may have on its way, so that it is not kept waiting.
const ENOUGH: usize = 16;
const ENOUGH_BYTES: usize = 16 * 1024;

/// The channels to which something was written that the server was not told of.
#[derive(Default)]
pub(super) struct Due(RefCell<Vec<Rc<Entry>>>);

impl Channels {
    /// Has the server told of everything that was written.
    pub(crate) fn report(&self) {
        for entry in self.due.0.take() {
            entry.reports_due.set(true);
            entry.written_to.notify();
        }
    }
}

/// What was written, and what the server was not told of yet.
pub(super) struct Reports {
    channels: Rc<Channels>,
    sink: Sink,
    entry: Rc<Entry>,
    written: Vec<(WriterId, Result<(), String>)>,
    bytes: usize,
}

impl Reports {
    pub(super) fn new(channels: Rc<Channels>, sink: Sink, entry: Rc<Entry>) -> Self {
        Self {
            channels,
            sink,
            entry,
            written: Vec::new(),
            bytes: 0,
        }
    }

    /// A message was written, or not.
    pub(super) fn add(&mut self, writer: WriterId, len: usize, result: Result<(), String>) {
        if self.written.is_empty() {
            self.entry.reports_due.set(false);
            self.channels
                .due
                .0
                .borrow_mut()
                .push(Rc::clone(&self.entry));
        }
        self.bytes = self.bytes.saturating_add(len);
        let failed = result.is_err();
        self.written.push((writer, result));
        // A failure may be the last thing that happens to the channel. And what is enough is told of while the next message is on its way to the host,
        // unless the host is done with each at once.
        if failed || self.written.len() >= 2 * ENOUGH {
            self.tell();
        }
    }

    /// Tells the server when it is time. To be called while the next message is written.
    pub(super) fn tell_due(&mut self) {
        let enough = self.written.len() >= ENOUGH || self.bytes >= ENOUGH_BYTES;
        if enough || self.entry.reports_due.get() {
            self.tell();
        }
    }

    /// Tells the server; whether there was anything to tell.
    pub(super) fn tell(&mut self) -> bool {
        let any = !self.written.is_empty();
        if any {
            let mut due = self.channels.due.0.borrow_mut();
            due.retain(|entry| !Rc::ptr_eq(entry, &self.entry));
        }
        self.bytes = 0;
        for (writer, result) in self.written.drain(..) {
            Rc::clone(&self.sink).complete(Completion::Written { writer, result });
        }
        any
    }
}
