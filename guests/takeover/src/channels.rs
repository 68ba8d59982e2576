//! Through the channels of others.

use core::fmt::Display;

use flatbuffers::FlatBufferBuilder;
use futures::{SinkExt as _, StreamExt as _};
use selium_userland::{
    block_on, entrypoint,
    fbs::selium::logging::{LogLevel, LogRecord, LogRecordArgs},
    io::{Channel, DriverError, SharedChannel},
    logging, process, spawn, yield_now,
};

use crate::{hex, refused};

/// The largest record that is read.
const MAX_RECORD: u32 = 64 * 1024;

/// Reads the oldest frame of every channel that was shared before our own log.
///
/// Needs `ChannelReader`.
#[entrypoint]
pub async fn read() {
    let mut tasks = Vec::new();
    for number in guesses("read").await {
        tasks.push(spawn(async move {
            match read_one(number).await {
                Ok(Some(bytes)) => tracing::info!("takeover read: {number} has {}", hex(&bytes)),
                Ok(None) => tracing::info!("takeover read: {number} is at its end"),
                Err(error) => failed("read", number, &error),
            }
        }));
    }
    for task in tasks {
        task.await;
    }
}

async fn read_one(number: u64) -> Result<Option<Vec<u8>>, DriverError> {
    let channel = Channel::attach_shared(SharedChannel(number)).await?;
    let mut reader = channel.subscribe_weak(MAX_RECORD).await?;
    Ok(reader.next().await.transpose()?.map(|frame| frame.payload))
}

/// Drains every channel that was shared before our own log.
#[entrypoint]
pub async fn drain() {
    for number in guesses("drain").await {
        let drained = async {
            let channel = Channel::attach_shared(SharedChannel(number)).await?;
            channel.drain().await
        };
        match drained.await {
            Ok(()) => tracing::info!("takeover drain: {number} drained"),
            Err(error) => failed("drain", number, &error),
        }
    }
}

/// Deletes every channel that was shared before our own log.
#[entrypoint]
pub async fn delete() {
    for number in guesses("delete").await {
        delete_one("delete", number).await;
    }
}

/// Deletes one channel. With the first, it is the log of the control plane.
#[entrypoint]
pub async fn delete_this(number: u32) {
    delete_one("delete_this", number.into()).await;
}

async fn delete_one(attempt: &str, number: u64) {
    let deleted = async {
        let channel = Channel::attach_shared(SharedChannel(number)).await?;
        channel.delete().await
    };
    match deleted.await {
        Ok(()) => tracing::info!("takeover {attempt}: {number} deleted"),
        Err(error) => failed(attempt, number, &error),
    }
}

/// Deletes our own log, after a line in it. Whoever follows it has an attached channel that is no more.
#[entrypoint]
pub async fn vanish() {
    tracing::info!("takeover vanish: going");
    if let Some(channel) = logging::channel()
        && let Err(error) = channel.delete().await
    {
        refused("vanish", &error);
    }
}

/// Makes an idle writer on every channel that was shared before our own log: no reader sees anything new there.
#[entrypoint]
pub async fn mute() {
    for number in guesses("mute").await {
        let writer = async {
            let channel = Channel::attach_shared(SharedChannel(number)).await?;
            channel.publish().await
        };
        match writer.await {
            // The host keeps it, whatever happens to ours.
            Ok(_) => tracing::info!("takeover mute: {number} muted"),
            Err(error) => failed("mute", number, &error),
        }
    }
}

/// Writes a record with this message into every channel that was shared before our own log.
#[entrypoint]
pub async fn forge(message: &str) {
    for number in guesses("forge").await {
        match forge_one(number, message).await {
            Ok(()) => tracing::info!("takeover forge: {number} has it"),
            Err(error) => failed("forge", number, &error),
        }
    }
}

async fn forge_one(number: u64, message: &str) -> Result<(), DriverError> {
    let channel = Channel::attach_shared(SharedChannel(number)).await?;
    // A weak writer does not hold up what the owner writes afterwards.
    let mut writer = channel.publish_weak().await?;
    writer.send(record(message)).await
}

fn record(message: &str) -> Vec<u8> {
    let mut builder = FlatBufferBuilder::new();
    let target = builder.create_string("selium_remote_client_server");
    let message = builder.create_string(message);
    let record = LogRecord::create(
        &mut builder,
        &LogRecordArgs {
            level: LogLevel::Warn,
            target: Some(target),
            message: Some(message),
            fields: None,
            spans: None,
            timestamp_ms: 0,
        },
    );
    builder.finish(record, None);
    builder.finished_data().to_vec()
}

/// Registers another channel as our own log, so that whoever may read our log reads that channel: reading without
/// `ChannelReader`. Needs only `ChannelLifecycle`.
///
/// Not through the macro, which makes a log first: the control plane must find this one.
#[allow(unsafe_code)] // an export is one
#[unsafe(no_mangle)]
pub extern "C" fn adopt(_log_uri: *const u8, _log_uri_len: u32, number: u32) {
    block_on(async move {
        // Nobody to tell when it fails: then there is no log.
        let _ = process::register_log_channel(SharedChannel(number.into())).await;
    });
}

/// A victim: shares a channel that is no log, with one frame in it, and stays.
#[entrypoint]
pub async fn share(frame: &str) {
    let shared = async {
        let channel = Channel::create(4096).await?;
        let shared = channel.share().await?;
        channel.publish_weak().await?.send(frame.into()).await?;
        Ok::<_, DriverError>(shared.raw())
    };
    match shared.await {
        Ok(number) => tracing::info!("takeover share: {number}"),
        Err(error) => refused("share", &error),
    }
    core::future::pending::<()>().await;
}

/// Makes a log channel, registers it and deletes it, so many times: who attaches one finds it gone.
///
/// Not through the macro, as above.
#[allow(unsafe_code)] // an export is one
#[unsafe(no_mangle)]
pub extern "C" fn flicker(_log_uri: *const u8, _log_uri_len: u32, times: u32) {
    block_on(async move {
        for _ in 0..times {
            let once = async {
                let channel = Channel::create(4096).await?;
                process::register_log_channel(channel.share().await?).await?;
                channel.delete().await
            };
            let _ = once.await;
            // Other tasks of the host get their turn.
            yield_now().await;
        }
    });
}

/// The numbers of the channels that were shared before our own log.
async fn guesses(attempt: &str) -> core::ops::Range<u64> {
    let own = async {
        let channel = logging::channel().ok_or(DriverError::InvalidArgument)?;
        channel.share().await
    };
    match own.await {
        Ok(own) => {
            let own = own.raw();
            tracing::info!("takeover {attempt}: our log is {own}");
            0..own
        }
        Err(error) => {
            refused(attempt, &error);
            0..0
        }
    }
}

fn failed(attempt: &str, number: u64, error: &dyn Display) {
    tracing::info!("takeover {attempt}: {number} refused: {error}");
}
