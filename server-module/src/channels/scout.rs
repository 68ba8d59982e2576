//! Reading a channel that several write to, without waiting with a strong reader.
//!
//! A writer that begins a message for which there is no room moves the end of what can be read, and wakes nobody (trap 16). Who waited for just that
//! place sleeps until another write ends. If all writers wait for room none does; and if the sleeper is a strong reader, the room is what *it* holds:
//! then nothing moves any more, for good, since its read can neither be woken nor taken back.
//!
//! ```text
//!   the scout, a weak reader, waits ──► it has read a message ──► the strong reader reads the same one, at once
//!          ▲            │ sleeps?                                              │
//!          │            └─ another scout begins where the strong reader stands │
//!          └───────────────────────────────────────────────────────────────────┘
//! ```
//!
//! A weak reader that sleeps holds up nobody. The price is a second read for each message, and so this is done only while a channel has several
//! writers: a single one moves the end by writing.

use selium_remote_transport_wasm::channel::{Frame, StrongReader, WeakReader};

use super::{Entry, care, patiently, reader::Control, reader::Next};

/// Messages of one writer in a row after which it counts as the only one.
const ALONE: u32 = 4_096;

/// What it has to have read since it last came to the end, for the writers to be so many bytes ahead that they may wait: this part of what
/// the runtime keeps.
const PART: u64 = 8;

/// The most round trips to the host for which a scout is trusted to be awake. It begins with [`care::PATIENCE`], and grows by [`GROWTH`]
/// with each that found nothing.
const MAX_PATIENCE: u32 = 256;

const GROWTH: u32 = 4;

/// What goes before a strong reader.
pub(super) struct Scout {
    reader: Option<WeakReader>,
    /// The strong reader has a message before it.
    clear: bool,
    last_writer: Option<u16>,
    /// Messages of that writer in a row.
    alone: u32,
    /// Bytes since it last came to the end of everything.
    read: u64,
}

impl Scout {
    pub(super) fn new() -> Self {
        Self {
            reader: None,
            clear: false,
            last_writer: None,
            alone: ALONE,
            read: 0,
        }
    }

    /// The strong reader has read this.
    pub(super) fn saw(&mut self, frame: &Frame) {
        self.read = self.read.saturating_add(frame.payload.len() as u64);
        match self.last_writer.replace(frame.writer_id) {
            Some(last) if last != frame.writer_id => self.alone = 0,
            _ => self.alone = self.alone.saturating_add(1),
        }
    }

    /// Whether a scout has to go before the strong reader: only where several write.
    pub(super) fn is_needed(&self, entry: &Entry) -> bool {
        entry.is_shared() && self.alone < ALONE
    }

    /// Waits for what comes next of the strong reader, which begins a read only where there is something to be read.
    pub(super) async fn next(&mut self, control: &Control, strong: &mut StrongReader) -> Next {
        let entry = &control.entry;
        loop {
            let is_needed = self.is_needed(entry);
            control.scouting.set(is_needed);
            if self.clear || strong.is_busy() || !is_needed {
                match control.next(strong).await {
                    Next::Change if !control.replace.get() => continue,
                    next => {
                        self.clear = false;
                        return next;
                    }
                }
            }
            match self.wait(control).await {
                Some(Next::Read(_)) | None => self.clear = true,
                // The strong reader itself.
                Some(Next::Change) if control.replace.get() => return Next::Change,
                Some(Next::Change) => self.replace(entry).await,
                Some(Next::End) => return Next::End,
            }
        }
    }

    /// Waits for the scout. `None`: there is none, and the strong reader will tell why.
    async fn wait(&mut self, control: &Control) -> Option<Next> {
        let entry = &control.entry;
        if self.reader.is_none() {
            self.replace(entry).await;
        }
        let mut patience = care::PATIENCE;
        while self.read >= entry.size.get() / PART && !control.paused.get() {
            let reader = self.reader.as_mut()?;
            let next = patiently(patience, control.next(reader)).await;
            if next.is_some() {
                return next;
            }
            if patience >= MAX_PATIENCE {
                self.read = 0;
                break;
            }
            patience *= GROWTH;
            self.replace(entry).await;
        }
        let reader = self.reader.as_mut()?;
        Some(control.next(reader).await)
    }

    /// Another one, which begins where the strong reader stands.
    async fn replace(&mut self, entry: &Entry) {
        let opened = entry.open(|channel| channel.weak_reader()).await.ok();
        if let Some(before) = core::mem::replace(&mut self.reader, opened) {
            put_away(entry, before);
        }
    }

    /// It is not needed any more.
    pub(super) fn end(self, entry: &Entry) {
        if let Some(reader) = self.reader {
            put_away(entry, reader);
        }
    }
}

/// The next message ends its read, and then it is freed.
fn put_away(entry: &Entry, reader: WeakReader) {
    if reader.is_busy()
        && let Some(before) = entry.looked.replace(Some(reader))
    {
        before.release();
    }
}
