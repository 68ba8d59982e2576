//! Creating, sharing, draining and deleting.

use std::rc::Rc;

use selium_remote_client_protocol::ops::Backpressure;
use selium_remote_server_core::{Completion, host::OpId};
use selium_remote_transport_wasm::{
    HostError,
    channel::{self as host, ReadError},
    executor,
};

use super::{
    Channels, Entry, GONE, HEADROOM, Life, Sink, care, patiently, reader::MAX_MESSAGE, words,
};

/// Round trips to the host that those who wait on a channel are given to hear of its end from the host.
const ROUND_TRIPS: u32 = 8;

fn done(sink: Sink, op: OpId, result: Result<(), String>) {
    sink.complete(Completion::ChannelDone { op, result });
}

pub(super) async fn create(
    channels: Rc<Channels>,
    sink: Sink,
    entry: Rc<Entry>,
    op: OpId,
    capacity: u32,
) {
    let (capacity, backpressure) = match entry.backpressure {
        Backpressure::Drop => (capacity, host::Backpressure::Drop),
        _ => (capacity.saturating_mul(HEADROOM), host::Backpressure::Park),
    };
    let result = match host::Channel::create(capacity, backpressure).await {
        Ok(channel) => {
            *entry.channel.borrow_mut() = Some(channel);
            entry.size.set(capacity.into());
            Ok(())
        }
        Err(error) => {
            entry.end();
            channels.forget(&entry);
            Err(error.to_string())
        }
    };
    done(sink, op, result);
}

pub(super) async fn share(sink: Sink, entry: Rc<Entry>, op: OpId) {
    let result = entry.share().await;
    // The task that writes frees an idle writer now.
    executor::yield_now().await;
    done(sink, op, result.map(drop).map_err(|error| words(&error)));
}

pub(super) async fn delete(channels: Rc<Channels>, sink: Sink, entry: Rc<Entry>, op: OpId) {
    let channel = entry.channel.take();
    let result = match channel {
        // Trap 19: "cannot terminate channel that is draining" is said after it is gone from the table, and then it is dropped.
        // "Not found" says that somebody else was faster.
        Some(channel) => match channel.delete().await {
            Err(HostError::PermissionDenied) => Err(HostError::PermissionDenied.to_string()),
            _ => Ok(()),
        },
        None if entry.is_gone() => Ok(()),
        None => Err(GONE.to_owned()),
    };
    // Who waits hears of it from the host, and their handles are free then. But not after a drain.
    settle().await;
    entry.end();
    channels.forget(&entry);
    done(sink, op, result);
}

async fn settle() {
    for _ in 0..ROUND_TRIPS {
        host::round_trip().await;
        executor::yield_now().await;
    }
}

pub(super) async fn drain(sink: Sink, entry: Rc<Entry>, op: OpId) {
    // A drain begins at once and wakes nobody, so it can be asked of a channel that somebody else has deleted.
    let draining = entry.channel.borrow().as_ref().map(host::Channel::drain);
    let result = match draining {
        Some(draining) => draining.await,
        None => Err(HostError::NotFound),
    };
    let begins = result.is_ok() && entry.life.get() == Life::Open;
    if begins {
        entry.life.set(Life::Draining);
        entry.drained_at.set(entry.next_stamp());
        let end = end_of_drain(Rc::clone(&entry));
        if executor::spawn(end).is_err() {
            tracing::error!("too many tasks; readers of a drained channel are not ended");
        }
    }
    done(sink, op, result.map_err(|error| words(&error)));
}

/// Waits until all that was written can be read, and then ends the readers that wait since before the drain (trap 19): those that asked after
/// it are answered by the host.
async fn end_of_drain(entry: Rc<Entry>) {
    while !everything_is_there(&entry).await {
        // A write is not finished: it needs room, and so reads.
        entry.drain_moved.notified().await;
        if entry.is_gone() {
            return;
        }
    }
    care::nudge(&entry).await;
    settle().await;
    if entry.life.get() == Life::Draining {
        entry.life.set(Life::Drained);
        if let Some(zombie) = entry.zombie.take() {
            zombie.release();
            entry.end_feeding(None);
        }
        if let Some(sleeper) = entry.sleeper.take() {
            sleeper.release();
        }
        entry.tell_readers();
    }
}

/// Whether a throw-away reader comes to the end of a draining channel without having to wait.
async fn everything_is_there(entry: &Entry) -> bool {
    let Ok(mut reader) = entry.open(|channel| channel.weak_reader()).await else {
        return true;
    };
    loop {
        match patiently(care::PATIENCE, reader.read(MAX_MESSAGE)).await {
            Some(Ok(_) | Err(ReadError::Gap)) => executor::yield_now().await,
            Some(Err(_)) => return true,
            None => {
                reader.release();
                return false;
            }
        }
    }
}
