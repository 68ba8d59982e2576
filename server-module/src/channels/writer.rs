//! Writing to a channel: one task for all publications, which take turns.
//!
//! One write at a time: the host orders writes by their beginning, and a second one would wait for the first anyway where there is no room. While
//! only this module can write, one strong writer serves all and stays: what readers see ends at its place, which is the end (trap 15 does no
//! harm), nothing is left behind by writers that come and go (trap 14), and there are never two strong writers (trap 18).
//!
//! Once processes can write as well, an idle writer would hide what they write, and freeing it would wake nobody: whoever waited meanwhile
//! would sleep until the next write. So bursts end with a weak writer: the strong one is freed *before* the last message, and a weak write wakes all
//! that wait before the new end.

use core::{
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
};
use std::{
    collections::{BTreeMap, VecDeque},
    rc::Rc,
};

use bytes::Bytes;
use selium_remote_client_protocol::ops::Backpressure;
use selium_remote_server_core::host::WriterId;
use selium_remote_transport_wasm::{
    HostError,
    channel::{StrongWriter, WeakWriter},
    executor::{self, SpawnError},
};

use super::{Channels, Entry, GONE, Sink, care, is_closed, patiently, reports::Reports, words};

/// Messages that have to wait for a strong writer to be made where others write as well: it costs two round trips, and a weak write
/// leaves as much behind as making a writer does.
const BURST: usize = 4;

/// Round trips to the host that a burst's last message waits for more behind it. A stream of messages is no burst each time that its sender draws
/// breath: each end of one leaves something behind (trap 14).
const LINGER: u32 = 12;

/// Messages that are written in a row, at most, when the host is done with each at once.
const TURN: u32 = 8;

/// Messages without any read of ours after which one is read and thrown away, since the host remembers every message until somebody
/// reads (trap 22).
pub(super) const MAX_UNREAD: u32 = 4_096;

/// What waits to be written, in turns. Bounded by what the server lets publications have in flight.
#[derive(Default)]
pub(super) struct Queue {
    writers: BTreeMap<WriterId, VecDeque<Bytes>>,
    turns: VecDeque<WriterId>,
    waiting: usize,
}

impl Queue {
    fn push(&mut self, writer: WriterId, bytes: Bytes) {
        let messages = self.writers.entry(writer).or_default();
        if messages.is_empty() {
            self.turns.push_back(writer);
        }
        messages.push_back(bytes);
        self.waiting += 1;
    }

    fn pop(&mut self) -> Option<(WriterId, Bytes)> {
        let writer = self.turns.pop_front()?;
        let messages = self.writers.get_mut(&writer)?;
        let bytes = messages.pop_front()?;
        if messages.is_empty() {
            self.writers.remove(&writer);
        } else {
            self.turns.push_back(writer);
        }
        self.waiting -= 1;
        Some((writer, bytes))
    }
}

impl Entry {
    /// Whether something waits to be written.
    pub(super) fn has_more(&self) -> bool {
        self.queue.borrow().waiting > 0
    }
}

/// Takes a message to be written behind those of its writer.
pub(super) fn push(
    channels: &Rc<Channels>,
    sink: &Sink,
    entry: &Rc<Entry>,
    writer: WriterId,
    bytes: Bytes,
) -> Result<(), SpawnError> {
    if !entry.writing.get() {
        executor::spawn(write(
            Rc::clone(channels),
            Rc::clone(sink),
            Rc::clone(entry),
        ))?;
        entry.writing.set(true);
    }
    entry.queue.borrow_mut().push(writer, bytes);
    entry.written_to.notify();
    Ok(())
}

/// The writers that the task holds.
#[derive(Default)]
struct Writers {
    strong: Option<StrongWriter>,
    weak: Option<WeakWriter>,
}

/// Writes what comes, until the channel is gone.
async fn write(channels: Rc<Channels>, sink: Sink, entry: Rc<Entry>) {
    let mut writers = Writers::default();
    let mut reports = Reports::new(Rc::clone(&channels), sink, Rc::clone(&entry));
    let (mut written, mut taken) = (0, 0);
    loop {
        while entry.holds.get() > 0 && !entry.is_gone() {
            reports.tell();
            entry.written_to.notified().await;
        }
        let next = entry.queue.borrow_mut().pop();
        let Some((writer, bytes)) = next else {
            // They may bring more to write.
            if reports.tell() {
                continue;
            }
            if entry.is_gone() {
                break;
            }
            if written > 0 {
                let ended = entry.next_stamp();
                care::after_burst(&entry, written, ended).await;
                written = 0;
                continue;
            }
            if entry.is_shared() {
                writers.strong = None;
            }
            entry.written_to.notified().await;
            continue;
        };
        if written == 0 {
            for control in entry.readers.borrow().values() {
                control.begin_burst();
            }
        }
        let len = bytes.len();
        entry.in_write.set(true);
        let result = writers.write(&entry, &bytes, &mut reports).await;
        entry.in_write.set(false);
        written += u64::from(result.is_ok());
        // Of one that failed nobody knows whether it counts.
        let total = entry.total.get().filter(|_| result.is_ok());
        entry.total.set(total.map(|total| total + 1));
        if total.is_some() {
            entry.retained.borrow_mut().push(len, entry.size.get());
        }
        reports.add(writer, len, result);
        let unread = entry.unread.get().saturating_add(1);
        entry.unread.set(unread);
        if unread >= MAX_UNREAD {
            care::look(&entry).await;
        }
        // Mostly others have their turn while the host writes; and it writes on while they have it.
        taken = (taken + 1) % TURN;
        if taken == 0 {
            executor::yield_now().await;
        }
    }
    entry.writing.set(false);
    channels.forget(&entry);
}

impl Writers {
    /// Writes one message with the writer that fits.
    async fn write(
        &mut self,
        entry: &Entry,
        bytes: &[u8],
        reports: &mut Reports,
    ) -> Result<(), String> {
        if entry.is_gone() {
            return Err(GONE.to_owned());
        }
        let result = self.choose(entry, bytes, reports).await;
        if let Err(error) = &result {
            *self = Self::default();
            if matches!(error, HostError::Other(text) if is_closed(text)) {
                entry.lost();
            }
        }
        result.map_err(|error| words(&error))
    }

    async fn choose(
        &mut self,
        entry: &Entry,
        frame: &[u8],
        reports: &mut Reports,
    ) -> Result<(), HostError> {
        if !entry.is_shared() {
            if self.strong.is_none() {
                self.strong = Some(entry.open(|channel| channel.strong_writer()).await?);
            }
            return self.strongly(entry, frame, reports).await;
        }
        if entry.backpressure == Backpressure::Drop {
            // Trap 18: a drop can leave a writer in the middle of a message, and nobody is told. A weak one, so that who waits is woken.
            *self = Self::default();
            self.weak = Some(entry.open(|channel| channel.weak_writer()).await?);
            let result = self.weakly(entry, frame, reports).await;
            self.weak = None;
            return result;
        }
        if self.strong.is_some() && !entry.has_more() {
            reports.tell();
            if !more_comes(entry).await {
                self.strong = None;
            }
        }
        let waiting = entry.queue.borrow().waiting;
        if self.strong.is_none() && waiting >= BURST {
            self.strong = Some(entry.open(|channel| channel.strong_writer()).await?);
        }
        if self.strong.is_some() {
            return self.strongly(entry, frame, reports).await;
        }
        if self.weak.is_none() {
            self.weak = Some(entry.open(|channel| channel.weak_writer()).await?);
        }
        self.weakly(entry, frame, reports).await
    }

    async fn strongly(
        &mut self,
        entry: &Entry,
        frame: &[u8],
        reports: &mut Reports,
    ) -> Result<(), HostError> {
        let Some(writer) = &mut self.strong else {
            return Err(HostError::NotFound);
        };
        let written = while_there(entry, reports, writer.write(frame)).await;
        if written.is_none()
            && let Some(writer) = self.strong.take()
        {
            writer.release();
        }
        written.unwrap_or(Err(HostError::NotFound))
    }

    async fn weakly(
        &mut self,
        entry: &Entry,
        frame: &[u8],
        reports: &mut Reports,
    ) -> Result<(), HostError> {
        let Some(writer) = &mut self.weak else {
            return Err(HostError::NotFound);
        };
        let written = while_there(entry, reports, writer.write(frame)).await;
        if written.is_none()
            && let Some(writer) = self.weak.take()
        {
            writer.release();
        }
        written.unwrap_or(Err(HostError::NotFound))
    }
}

/// Waits until more is to be written, but not for long.
async fn more_comes(entry: &Entry) -> bool {
    let more = poll_fn(|cx| {
        while entry.written_to.poll_notified(cx).is_ready() {}
        if entry.has_more() || entry.is_gone() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    });
    patiently(LINGER, more).await.is_some()
}

/// Waits for a write, as long as there is a channel: the host does not end those on a channel that was drained and then deleted (trap 19). Meanwhile
/// the server is told of those before it.
async fn while_there<T>(
    entry: &Entry,
    reports: &mut Reports,
    work: impl Future<Output = T>,
) -> Option<T> {
    let mut work = pin!(work);
    poll_fn(|cx| {
        while entry.written_to.poll_notified(cx).is_ready() {}
        if let Poll::Ready(value) = work.as_mut().poll(cx) {
            return Poll::Ready(Some(value));
        }
        if entry.is_gone() {
            return Poll::Ready(None);
        }
        reports.tell_due();
        Poll::Pending
    })
    .await
}
