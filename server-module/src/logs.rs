//! Reading the logs of processes.
//!
//! A process's log channel can be found only after its first instructions ran, and not any more after it was stopped: it
//! is looked for right after the start. Its channel is attached to and deleted in the end, since the runtime never frees
//! what a process owned; deleting it also completes the read that waits.
//!
//! **Channels of processes are hostile ground.** Their owners, and every other process with `ChannelLifecycle`, can delete
//! them at any time, and opening a reader or a writer on a channel that was deleted ends this module: the runtime panics inside
//! the call. So a channel is attached to afresh, which is refused when it is gone, right before anything is opened on it. That
//! leaves the moment between the two calls, which a process that creates and deletes its log all the time does hit: who
//! may use `ChannelLifecycle` can end the control plane (SECURITY.md). And a process can register any channel as its log: one
//! that is this module's own log, or is read for another process, is not read.

use core::{
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
};
use std::rc::Rc;

use selium_remote_server_core::{Completion, HostProcess, LogId};
use selium_remote_transport_wasm::{
    HostError,
    channel::{Channel, ReadError, SharedId, WeakReader},
    executor, log as own_log, process,
};

use crate::module::{LogControl, Module};

/// The largest record that is read, in bytes: as large as the ring that logs are written to.
const MAX_RECORD: u32 = 512 * 1024;

/// The longest wait between two looks for a log, in milliseconds.
const MAX_WAIT_MS: u64 = 500;

/// Looks per attempt when there is no clock to wait with: about a tenth of a second over all attempts in a row.
const LOOKS_WITHOUT_CLOCK: u32 = 64;

/// Round trips to the host without a new record after which a stopped process's log counts as read.
const QUIET_ROUND_TRIPS: u32 = 8;

/// Looks for a process's log and reads it to its end.
pub(crate) async fn open(
    module: Rc<Module>,
    control: Rc<LogControl>,
    log: LogId,
    process: HostProcess,
    attempt: u32,
) {
    let found = find(&module, &control, process, attempt).await;
    let Some((shared, channel)) = found else {
        module.logs.borrow_mut().remove(&log);
        module.complete(if control.closing.get() {
            Completion::LogEnded { log }
        } else {
            Completion::LogMissing { log }
        });
        return;
    };
    match channel.weak_reader().await {
        Ok(reader) => {
            module.complete(Completion::LogOpened { log });
            let keeper = keep(Rc::clone(&control), shared, channel, process);
            if executor::spawn(keeper).is_err() {
                tracing::error!("too many tasks; a log's channel will not be freed");
            }
            read(&module, &control, log, reader).await;
        }
        Err(error) => tracing::warn!(%error, "a process's log cannot be read"),
    }
    // The keeper waits for this when the log ended by itself.
    control.closing.set(true);
    control.changed.notify();
    module.logs.borrow_mut().remove(&log);
    module.complete(Completion::LogEnded { log });
}

/// One attempt to find a log's channel.
async fn find(
    module: &Rc<Module>,
    control: &LogControl,
    process: HostProcess,
    attempt: u32,
) -> Option<(SharedId, Channel)> {
    let looks = if module.clock.runs() {
        if attempt > 0 {
            let wait = 1u64.checked_shl(attempt).unwrap_or(MAX_WAIT_MS);
            module.clock.sleep(wait.min(MAX_WAIT_MS)).await;
        }
        1
    } else {
        LOOKS_WITHOUT_CLOCK
    };
    for _ in 0..looks {
        if control.closing.get() {
            return None;
        }
        match process::log_channel(process.0).await {
            Ok(shared) if is_taken(module, shared).await => {
                // It is looked for again, but need not be told each time.
                if attempt == 0 || attempt.is_power_of_two() {
                    tracing::warn!("a process calls another's log its own; it is not read");
                }
                return None;
            }
            Ok(shared) => {
                control.channel.set(Some(shared));
                return Channel::attach(shared)
                    .await
                    .inspect_err(
                        |error| tracing::warn!(%error, "a process's log cannot be attached to"),
                    )
                    .map(|channel| (shared, channel))
                    .ok();
            }
            Err(HostError::NotFound) => executor::yield_now().await,
            Err(error) => {
                tracing::warn!(%error, "a process's log cannot be looked up");
                return None;
            }
        }
    }
    None
}

/// Whether a channel is this module's own log, or is read as the log of another process.
///
/// (The log of another process that was deleted is over for us as soon as its reader has ended.)
async fn is_taken(module: &Module, shared: SharedId) -> bool {
    let is_read = |control: &Rc<LogControl>| control.channel.get() == Some(shared);
    if module.logs.borrow().values().any(is_read) {
        return true;
    }
    own_log::is_own(shared).await
}

async fn read(module: &Rc<Module>, control: &LogControl, log: LogId, mut reader: WeakReader) {
    loop {
        let completion = match reader.read(MAX_RECORD).await {
            Ok(frame) => Completion::LogRecord {
                log,
                bytes: frame.payload,
            },
            Err(ReadError::Gap) => Completion::LogLost { log },
            Err(ReadError::Closed) => return,
            Err(error) => {
                tracing::warn!(%error, "reading a process's log failed");
                return;
            }
        };
        control.reads.set(control.reads.get().wrapping_add(1));
        module.complete(completion);
        // One busy log must not keep the others, and the connections, waiting.
        executor::yield_now().await;
    }
}

/// Looks after a log's channel until it is to end, and then frees it.
async fn keep(control: Rc<LogControl>, shared: SharedId, channel: Channel, process: HostProcess) {
    while !control.closing.get() {
        control.changed.notified().await;
        if control.nudging.take()
            && let Err(error) = nudge(shared).await
        {
            tracing::debug!(%error, "a log could not be looked after");
        }
    }
    settle(&control, process).await;
    // Its last record may have stayed invisible.
    if nudge(shared).await.is_ok() {
        settle(&control, process).await;
    }
    if let Err(error) = channel.delete().await {
        tracing::debug!(%error, "a log's channel was gone already");
    }
}

/// Makes every waiting reader of a channel look once more.
///
/// The runtime wakes waiting readers on a write, and only those that wait for a place strictly before the channel's new
/// end: one that looked in the middle of the last write waits for exactly that end and sleeps on. Reading wakes those that
/// wait at the end or behind it, but only while the channel has a writer. So: a writer, one read by a throw-away reader
/// (of the oldest record, which is there), and both are freed. While the idle writer exists nobody sees anything new;
/// that is why this is done rarely.
///
/// Both are asked for at once: in between, the channel could be deleted.
async fn nudge(shared: SharedId) -> Result<(), ReadError> {
    let channel = Channel::attach(shared).await.map_err(ReadError::Host)?;
    let (reader, writer) = both(channel.weak_reader(), channel.strong_writer()).await;
    let (mut reader, writer) = (
        reader.map_err(ReadError::Host)?,
        writer.map_err(ReadError::Host)?,
    );
    let read = reader.read(MAX_RECORD).await;
    drop(writer);
    match read {
        Ok(_) | Err(ReadError::Gap) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Does two things side by side.
async fn both<A: Future, B: Future>(a: A, b: B) -> (A::Output, B::Output) {
    let (mut a, mut b) = (pin!(a), pin!(b));
    let (mut first, mut second) = (None, None);
    poll_fn(|cx| {
        if first.is_none()
            && let Poll::Ready(value) = a.as_mut().poll(cx)
        {
            first = Some(value);
        }
        if second.is_none()
            && let Poll::Ready(value) = b.as_mut().poll(cx)
        {
            second = Some(value);
        }
        match (first.take(), second.take()) {
            (Some(first), Some(second)) => Poll::Ready((first, second)),
            (one, other) => {
                (first, second) = (one, other);
                Poll::Pending
            }
        }
    })
    .await
}

/// Lets a log's reader read what is left: until no record has come for a few round trips to the host.
async fn settle(control: &LogControl, process: HostProcess) {
    let mut quiet = 0;
    let mut reads = control.reads.get();
    while quiet < QUIET_ROUND_TRIPS {
        // Any hostcall that changes nothing will do: what the host has for the reader arrives before its answer.
        let _ = process::log_channel(process.0).await;
        executor::yield_now().await;
        if control.reads.get() == reads {
            quiet += 1;
        } else {
            quiet = 0;
            reads = control.reads.get();
        }
    }
}
