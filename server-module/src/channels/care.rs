//! Waking who sleeps too long.
//!
//! The host keeps one list of all who wait on a channel, each with the place it waits for. A write wakes those strictly before the new end, whoever they
//! are. A read wakes those between the end and a ring's length behind the slowest strong reader, but only while the channel
//! has a writer. So a read by a throw-away weak reader is what wakes, in place and without a message of its own.
//!
//! Whom that does not reach: a reader that found nothing at its place, while a writer then entered a message there, wrote it and woke everyone, and
//! which is put on the list only then. It waits for a place before the end, and no read looks there.

use core::future::Future;
use std::rc::Rc;

use selium_remote_transport_wasm::{
    HostError,
    channel::{self as host, ReadError, WeakReader},
    executor,
};

use super::{
    Entry, Life, patiently,
    reader::{Control, MAX_MESSAGE},
};

/// Round trips to the host after which a read counts as one that waits. One goes through the same queue as the read.
pub(super) const PATIENCE: u32 = 4;

/// The most gaps that a throw-away reader gets over.
const MAX_GAPS: u32 = 8;

/// Round trips after which a reader that waits, though there is more for it, is taken for one that sleeps: a few milliseconds. One that is only
/// slow may be replaced as well.
const SLEEP: u32 = 256;

/// Round trips after which something that is under way in the host is given up: a write that has room, or a read of what is there. One takes some
/// microseconds, and the host's threads may stand still for many milliseconds on a busy machine.
pub(super) const LONG_PATIENCE: u32 = 65_536;

/// The most writers that are woken one after another.
const MAX_WAKES: u32 = 256;

/// What a throw-away reader found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// A message.
    Message,
    /// Nothing that could be read now.
    Nothing,
    /// The channel is over.
    End,
}

/// Reads a message and throws it away, if there is one. The reader is given up when it would have to wait.
async fn read(entry: &Entry, reader: WeakReader, patience: u32) -> (Found, Option<WeakReader>) {
    let mut reader = reader;
    for _ in 0..MAX_GAPS {
        match patiently(patience, reader.read(MAX_MESSAGE)).await {
            Some(Ok(_)) => return (Found::Message, Some(reader)),
            Some(Err(ReadError::Gap)) => executor::yield_now().await,
            Some(Err(ReadError::Closed | ReadError::Drained)) => return (Found::End, None),
            Some(Err(_)) => return (Found::Nothing, Some(reader)),
            None => {
                // The next message ends its read, and then it is freed.
                if let Some(before) = entry.looked.replace(Some(reader)) {
                    before.release();
                }
                return (Found::Nothing, None);
            }
        }
    }
    (Found::Nothing, Some(reader))
}

/// Has one message read by a throw-away reader: who can be woken by that is woken, and what is behind a ring's length is forgotten.
pub(super) async fn look(entry: &Entry) -> Found {
    entry.unread.set(0);
    match entry.open(|channel| channel.weak_reader()).await {
        Ok(reader) => read(entry, reader, PATIENCE).await.0,
        Err(HostError::NotFound) => Found::End,
        Err(error) => {
            tracing::debug!(%error, "a channel could not be looked at");
            Found::Nothing
        }
    }
}

/// Wakes the writers that wait for a strong reader which is no more (trap 17). Each read wakes those that are within a ring's length of the end,
/// so that behind them others may wait: until there is nothing more to read. Given up too early, they would wait for ever; a read of what is there may be
/// slow on a busy machine.
pub(super) async fn wake_writers(entry: &Entry) {
    let Ok(mut reader) = entry.open(|channel| channel.weak_reader()).await else {
        return;
    };
    for _ in 0..MAX_WAKES {
        match read(entry, reader, SLEEP).await {
            (Found::Message, Some(same)) => reader = same,
            _ => return,
        }
        executor::yield_now().await;
    }
}

/// Makes every reader of a channel that waits look once more (trap 16).
///
/// First without a writer of our own: that shows whether there is anything to be seen at all, and is enough where the channel
/// has a writer. Where others write as well, ours goes when a message ends, and so the second look has an idle one beside it. It freezes the channel
/// while it is there (trap 15): only when there is a message, which is read at once; and both are opened at
/// once, since the channel may be deleted in between.
pub(super) async fn nudge(entry: &Entry) {
    let sleepers = replace_scouts(entry);
    if !sleepers || entry.is_gone() || entry.nudging.replace(true) {
        return;
    }
    if look(entry).await == Found::Message && entry.is_shared() {
        second_look(entry).await;
    }
    entry.nudging.set(false);
}

/// Has scouts replaced: nothing else wakes them for certain. Whether others may sleep, or nobody is known.
fn replace_scouts(entry: &Entry) -> bool {
    let readers = entry.readers.borrow();
    let mut sleepers = readers.is_empty() || entry.zombie.borrow().is_some();
    for control in readers.values() {
        sleepers |= control.may_sleep();
        if control.scouting.get() {
            control.look_again.set(true);
            control.changed.notify();
        }
    }
    sleepers
}

async fn second_look(entry: &Entry) {
    let both = entry
        .open(|channel| side_by_side(channel.weak_reader(), channel.strong_writer()))
        .await;
    if let Ok((reader, writer)) = both {
        let (_, reader) = read(entry, reader, PATIENCE).await;
        drop(writer);
        drop(reader);
    }
}

/// Waits for two handles that were asked for at once.
async fn side_by_side<A, B>(
    a: impl Future<Output = Result<A, HostError>>,
    b: impl Future<Output = Result<B, HostError>>,
) -> Result<(A, B), HostError> {
    // Both are on their way, so they can be waited for one after the other.
    let a = a.await;
    let b = b.await;
    Ok((a?, b?))
}

/// After a burst of ours: nudges when a reader of ours waits since before its end and has seen less than was written.
///
/// Most readers have seen everything a moment later, so that this costs nothing. When others write or read as well it may err; the server nudges
/// what stays silent.
pub(super) async fn after_burst(entry: &Entry, written: u64, ended: u64) {
    if asleep(entry, written, ended).await {
        nudge(entry).await;
    }
    replace_sleepers(entry, ended).await;
}

/// Has those replaced that still wait since before the end of a burst, though there is more for them: they looked before it
/// was entered and fell asleep after everyone was woken, and a nudge does not reach them. For a single message that happens
/// to about one of ten thousand. What they lack is known only while nobody else can write. This is the task that writes, so
/// that nothing is written meanwhile.
async fn replace_sleepers(entry: &Entry, ended: u64) {
    if entry.total.get().is_none() {
        return;
    }
    let candidates: Vec<Rc<Control>> = entry.readers.borrow().values().cloned().collect();
    for control in candidates {
        let Some(began) = control.waits_since().filter(|began| *began < ended) else {
            continue;
        };
        if control.lacks() == Some(0) || !still_waits(entry, &control, began).await {
            continue;
        }
        if entry.has_more() {
            return; // The next one wakes it.
        }
        replace(entry, &control).await;
    }
}

/// Has a reader replaced that lacks something. Nothing is written meanwhile.
async fn replace(entry: &Entry, control: &Control) {
    if control.lacks().unwrap_or_default() == 0 || entry.sleeper.borrow().is_some() {
        return;
    }
    control.replace.set(true);
    control.changed.notify();
    while control.replace.get() && !control.is_over() {
        host::round_trip().await;
        executor::yield_now().await;
    }
}

/// Whether a reader waits on, as it did when this read of it began. Not when more is to be written, which wakes it.
async fn still_waits(entry: &Entry, control: &Control, began: u64) -> bool {
    for _ in 0..SLEEP {
        host::round_trip().await;
        executor::yield_now().await;
        let waits = control.waits_since() == Some(began) && !control.is_over();
        let wakes = entry.has_more() && entry.holds.get() == 0;
        if !waits || wakes || entry.life.get() != Life::Open {
            return false;
        }
    }
    true
}

/// Keeps our own writes back as long as it lives.
pub(super) struct Hold {
    entry: Rc<Entry>,
}

impl Hold {
    pub(super) fn new(entry: &Rc<Entry>) -> Self {
        entry.holds.set(entry.holds.get() + 1);
        Self {
            entry: Rc::clone(entry),
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.entry
            .holds
            .set(self.entry.holds.get().saturating_sub(1));
        self.entry.written_to.notify();
    }
}

/// Waits until nothing is being written; whether that came.
pub(super) async fn no_write(entry: &Entry) -> bool {
    for _ in 0..LONG_PATIENCE {
        if !entry.in_write.get() {
            return true;
        }
        host::round_trip().await;
        executor::yield_now().await;
    }
    false
}

/// Before a strong reader is opened beside a weak one of ours: waits until nothing is being written and the weak one has
/// read everything. `None` when there is no such reader, or when that cannot be known or does not come.
pub(super) async fn quiet_moment(entry: &Rc<Entry>) -> Option<Hold> {
    let lossy = {
        let readers = entry.readers.borrow();
        let mut own = readers.values().filter(|it| it.reads_by_itself());
        own.next().cloned()
    }?;
    let hold = Hold::new(entry);
    for round in 0..LONG_PATIENCE {
        if lossy.is_over() || entry.life.get() != Life::Open {
            return None;
        }
        if !entry.in_write.get() && lossy.lacks() == Some(0) {
            return Some(hold);
        }
        // It may be asleep: the task that writes is kept from looking after it.
        if !entry.in_write.get()
            && round == PATIENCE
            && let Some(began) = lossy.waits_since()
        {
            look(entry).await;
            if still_waits(entry, &lossy, began).await {
                replace(entry, &lossy).await;
            }
        }
        // It may be about to be opened.
        if lossy.lacks().is_none() && lossy.waits_since().is_some() {
            return None;
        }
        host::round_trip().await;
        executor::yield_now().await;
    }
    None
}

/// Whether a reader of ours still waits after some time for it to be told.
async fn asleep(entry: &Entry, written: u64, ended: u64) -> bool {
    for round in 0..PATIENCE {
        if entry.has_more() || entry.life.get() >= Life::Drained {
            return false;
        }
        let sleeps = entry.zombie.borrow().is_some()
            || entry
                .readers
                .borrow()
                .values()
                .any(|it| it.sleeps(written, ended));
        if !sleeps {
            return false;
        }
        executor::yield_now().await;
        if round > 0 {
            host::round_trip().await;
        }
    }
    true
}
