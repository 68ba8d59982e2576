//! Writes numbered messages to a channel as fast as it can, then stays alive for ever.
//!
//! For tests of backpressure, gaps and fairness, and for benches. Needs `ChannelLifecycle` and `ChannelWriter`.

use futures_util::SinkExt;
use selium_userland::{
    entrypoint,
    io::{Channel, DriverError, SharedChannel},
};

/// The shortest message: its number.
const MIN_SIZE: usize = 8;

/// Writes `count` messages of `size` bytes (at least 8) to a shared channel (a resource of kind u64); for ever when `count` is 0.
///
/// Each begins with its number, from 0, in 8 bytes, the least significant first. The others repeat the lowest of them.
#[entrypoint]
#[allow(unsafe_code)] // see inside
pub async fn start(output: u64, size: u32, count: u64) -> Result<(), DriverError> {
    // Safety: the runtime refuses a start whose number is not that of a shared resource.
    let output = unsafe { SharedChannel::from_raw(output) };
    let output = Channel::attach_shared(output).await?;
    let size = usize::try_from(size).map_err(|_| DriverError::InvalidArgument)?;
    let mut writer = output.publish().await?;
    let mut number = 0_u64;
    while count == 0 || number < count {
        writer.send(message(number, size)).await?;
        number = number.wrapping_add(1);
    }
    // An idle strong writer would freeze the channel for others, and nobody else can free it.
    writer.downgrade().await?;
    tracing::info!("wrote {number} messages");
    std::future::pending::<()>().await;
    Ok(())
}

fn message(number: u64, size: usize) -> Vec<u8> {
    let bytes = number.to_le_bytes();
    let [low, ..] = bytes;
    let mut message = Vec::with_capacity(size.max(MIN_SIZE));
    message.extend_from_slice(&bytes);
    message.resize(size.max(MIN_SIZE), low);
    message
}
