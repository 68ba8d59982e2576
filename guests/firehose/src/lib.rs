//! Writes numbered messages to a channel as fast as it can, then stays alive for ever.
//!
//! For tests of backpressure, gaps and fairness, and for benches. Needs `ChannelLifecycle` and `ChannelWriter`. It has no log.
//!
//! Entrypoint `start`, arguments `output` (u64, a shared channel), `size` (u32) and `count` (u64): writes `count` messages of `size` bytes (at least 8),
//! for ever when `count` is 0. Each begins with its number, from 0, in 8 bytes, the lowest first; the others repeat the lowest of them.

use selium_remote_transport_wasm::{
    HostError,
    channel::{Channel, MAX_FRAME, SharedId},
    entry::wide,
    numbers_entrypoint,
};

/// The shortest message: its number.
const MIN_SIZE: usize = 8;

numbers_entrypoint!(
    start,
    serve,
    output_low,
    output_high,
    size,
    count_low,
    count_high
);

async fn serve([output_low, output_high, size, count_low, count_high]: [i32; 5]) {
    let output = SharedId::from_argument(wide(output_low, output_high));
    let size = usize::try_from(size.cast_unsigned()).unwrap_or(MAX_FRAME);
    let _ = pour(
        output,
        size.clamp(MIN_SIZE, MAX_FRAME),
        wide(count_low, count_high),
    )
    .await;
    core::future::pending::<()>().await;
}

async fn pour(output: SharedId, size: usize, count: u64) -> Result<(), HostError> {
    let output = Channel::attach(output).await?;
    // Freed when it is done: an idle one would freeze the channel for others.
    let mut writer = output.strong_writer().await?;
    let mut number = 0_u64;
    while count == 0 || number < count {
        writer.write(&message(number, size)).await?;
        number = number.wrapping_add(1);
    }
    Ok(())
}

fn message(number: u64, size: usize) -> Vec<u8> {
    let bytes = number.to_le_bytes();
    let [low, ..] = bytes;
    let mut message = Vec::with_capacity(size);
    message.extend_from_slice(&bytes);
    message.resize(size, low);
    message
}
