//! The module's own log: `tracing` events as records in a channel that the runtime forwards.
//!
//! - The runtime waits five seconds for a module's log channel and then gives up: [`init`] comes first thing in the entrypoint.
//! - It stops forwarding **for good at the first lag**, so the ring of [`CHANNEL_BYTES`] must never be overtaken. Records are written one at a time, each waiting for
//!   the one before; in between they wait in a queue of [`MAX_QUEUED_RECORDS`] and [`MAX_QUEUED_BYTES`]. What does not fit is
//!   counted, and the next record carries the count as the field `suppressed`.
//! - Weak writers get slower with every write, for ever. The log keeps one strong writer; it is the only one on its channel, so that its idling
//!   freezes nobody.
//! - Without the capability `TimeRead` there is no clock: records carry a counter until [`set_now`] is called, then the last
//!   time it was told.
//!
//! Spans are supported by name only: a record lists the names of the entered spans, without their fields.

mod flat;
mod queue;
mod subscriber;
#[cfg(test)]
mod tests;

use core::{
    cell::{Cell, RefCell},
    fmt::Write as _,
    future::poll_fn,
    task::Poll,
};
use std::panic::PanicHookInfo;

use queue::{Bounded, Said, State};
use subscriber::{GuestSubscriber, level_number};
use thiserror::Error;
pub use tracing_core::LevelFilter;
use tracing_core::{Dispatch, Level, dispatcher};

use crate::{
    channel::{Backpressure, Channel, SharedId, StrongWriter, new_slot},
    executor::{self, SpawnError},
    host::{
        self, HostError,
        calls::{ChannelDelete, ChannelShare, StrongWrite, WeakWrite, WeakWriterNew},
        io::{self, Pieces},
    },
    process,
    slot::Slot,
};

/// Capacity of the log channel in bytes, as every Selium guest has it.
pub const CHANNEL_BYTES: u32 = 512 * 1024;
/// Most records that wait to be written. Overflow is counted as suppressed.
pub const MAX_QUEUED_RECORDS: usize = 256;
/// Most bytes that wait to be written: a quarter of the channel. Overflow is counted as suppressed.
pub const MAX_QUEUED_BYTES: usize = 128 * 1024;
/// Longest message, in bytes; the rest is cut off.
pub const MAX_MESSAGE: usize = 4 * 1024;
/// Most fields of a record; more are left out.
pub const MAX_FIELDS: usize = 16;
/// Longest field value, in bytes; the rest is cut off.
pub const MAX_VALUE: usize = 256;
/// Longest field key and span name, in bytes; the rest is cut off.
pub const MAX_KEY: usize = 64;
/// Longest target, in bytes; the rest is cut off.
pub const MAX_TARGET: usize = 128;
/// Most spans open at a time; more have no name in the records.
pub const MAX_SPANS: usize = 256;
/// Most span names in a record, outermost first.
pub const MAX_SPAN_DEPTH: usize = 8;

thread_local! {
    static STATE: RefCell<State> = const { RefCell::new(State::new()) };
    static WRITERS: Cell<Option<Writers>> = const { Cell::new(None) };
    static CHANNEL: Cell<Option<(u32, SharedId)>> = const { Cell::new(None) };
}

/// Slots for last words. They live as long as the module.
#[derive(Debug, Clone, Copy)]
struct Writers {
    strong: u32,
    weak: Option<u32>,
    /// A write is in flight on `strong`.
    busy: bool,
}

/// `None` when the state is in use (a log call inside a log call) or gone.
fn with_state<R>(use_state: impl FnOnce(&mut State) -> R) -> Option<R> {
    STATE
        .try_with(|state| {
            state
                .try_borrow_mut()
                .ok()
                .map(|mut state| use_state(&mut state))
        })
        .ok()
        .flatten()
}

/// Whether this is the channel of this module's own log.
///
/// The host gives numbers out again: when another process has deleted our channel, its number may soon be somebody else's. So
/// the channel is asked for its number once more; one that is gone gets another number, and is not ours any more.
pub async fn is_own(shared: SharedId) -> bool {
    let Some((slot, ours)) = CHANNEL.get().filter(|(_, ours)| *ours == shared) else {
        return false;
    };
    match host::call::<ChannelShare>(&slot).await {
        Ok(now) if now == ours.get() => true,
        // Not asked again: every answer costs the host a number.
        _ => {
            CHANNEL.set(None);
            false
        }
    }
}

/// Why there will be no log.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum InitError {
    /// The host refused; most likely `ChannelLifecycle` or `ChannelWriter` is missing.
    #[error("cannot set up the log channel: {0}")]
    Host(#[from] HostError),
    /// No room for the task that writes.
    #[error(transparent)]
    Spawn(#[from] SpawnError),
    /// Somebody else has installed a `tracing` subscriber.
    #[error("another tracing subscriber is installed")]
    Subscriber,
}

/// Sets the log up: channel, registration, writer, subscriber. To be called once, from a task, before anything else. A module without
/// the capabilities can go on without a log; nothing is left behind then.
///
/// Cancel safe, but pointless to cancel.
///
/// # Errors
/// See [`InitError`].
pub async fn init() -> Result<(), InitError> {
    let channel = Channel::create(CHANNEL_BYTES, Backpressure::Drop).await?;
    let shared = channel.share().await?;
    process::register_log_channel(shared).await?;
    CHANNEL.set(Some((channel.raw_slot(), shared)));
    let writer = channel.strong_writer().await?;
    let raw = channel.raw_slot();
    // Only for last words while a write is in flight; the log works without it.
    let weak = new_slot(host::call::<WeakWriterNew>(&raw)).await.ok();
    dispatcher::set_global_default(Dispatch::new(GuestSubscriber))
        .map_err(|_| InitError::Subscriber)?;
    let strong = writer.raw_slot();
    executor::spawn(pump(writer))?;
    WRITERS.set(strong.map(|strong| Writers {
        strong,
        weak: weak.map(Slot::leak),
        busy: false,
    }));
    channel.leak();
    Ok(())
}

/// Writes what is queued, one record at a time.
async fn pump(mut writer: StrongWriter) {
    loop {
        let record = poll_fn(|cx| {
            let next = with_state(|state| {
                let record = state.pop();
                if record.is_none() {
                    state.waker = Some(cx.waker().clone());
                }
                record
            });
            match next.flatten() {
                Some(record) => Poll::Ready(record),
                None => Poll::Pending,
            }
        })
        .await;
        set_busy(true);
        if writer.write(&record).await.is_err() {
            with_state(State::lost_one);
        }
        set_busy(false);
    }
}

fn set_busy(busy: bool) {
    if let Some(writers) = WRITERS.get() {
        WRITERS.set(Some(Writers { busy, ..writers }));
    }
}

/// Tells the log the time, in milliseconds since 1970. Records carry the last time told; call it whenever the clock was read.
pub fn set_now(unix_ms: u64) {
    with_state(|state| state.set_now(unix_ms));
}

/// Records that were suppressed so far, because the log could not be written as fast.
pub fn suppressed() -> u64 {
    with_state(|state| state.suppressed_in_all).unwrap_or_default()
}

/// Records that wait to be written.
pub fn waiting() -> usize {
    with_state(|state| state.waiting()).unwrap_or_default()
}

/// Records up to which level are kept; `INFO` at first.
pub fn set_max_level(level: LevelFilter) {
    with_state(|state| state.max_level = level);
    tracing_core::callsite::rebuild_interest_cache();
}

/// Installs a panic hook that gets one record out: a panic ends the module, and the runtime prints nothing about it.
///
/// The record is written by `create` alone, which starts the host's task before the trap. It carries the number of records that were lost with the
/// queue as `suppressed`. When a write is in flight, the log's strong writer cannot be used (a second operation on a slot never
/// completes) and would hide what others write: it is freed, and the record goes through a weak writer kept for this.
pub fn install_panic_hook() {
    std::panic::set_hook(Box::new(last_words));
}

fn last_words(info: &PanicHookInfo<'_>) {
    let mut message = Bounded::new(MAX_MESSAGE);
    let _ = write!(message, "{info}");
    let said = Said {
        message: message.into_text(),
        fields: Vec::new(),
    };
    let record = with_state(|state| {
        let lost = state.unwritten();
        state.encode(level_number(&Level::ERROR), "panic", &said, lost)
    });
    // Once: a second panic, in a destructor, has nothing to add.
    if let (Some(payload), Some(writers)) = (record, WRITERS.take()) {
        match writers {
            Writers {
                strong,
                busy: false,
                ..
            } => host::launch::<StrongWrite>(&io::Write {
                handle: strong,
                payload: Pieces::One(&payload),
            }),
            Writers {
                strong,
                weak: Some(weak),
                ..
            } => {
                host::launch::<ChannelDelete>(&strong);
                host::launch::<WeakWrite>(&io::Write {
                    handle: weak,
                    payload: Pieces::One(&payload),
                });
            }
            Writers { .. } => {}
        }
    }
}
