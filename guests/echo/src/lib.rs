//! Writes each message that it reads from one channel to another: for request and reply, and for tests of channels as arguments.
//!
//! Needs `ChannelLifecycle`, `ChannelReader` and `ChannelWriter`. It loses nothing: it holds up who writes to its input, and is held up by who
//! reads its output.

use futures_util::{SinkExt, StreamExt};
use selium_userland::{
    entrypoint,
    io::{Channel, DriverError, SharedChannel},
};

/// The longest message.
const MAX_MESSAGE: u32 = 1024 * 1024;

/// With shared channels: each parameter is a resource of kind u64, a number to attach to.
#[entrypoint]
#[allow(unsafe_code)] // see inside
pub async fn echo(input: u64, output: u64) -> Result<(), DriverError> {
    // Safety: the runtime refuses a start whose numbers are not those of shared resources.
    let (input, output) = unsafe {
        (
            SharedChannel::from_raw(input),
            SharedChannel::from_raw(output),
        )
    };
    let input = Channel::attach_shared(input).await?;
    let output = Channel::attach_shared(output).await?;
    pump(input, output).await
}

/// With the channels themselves: each parameter is a resource of kind i32, a handle.
#[entrypoint]
#[allow(unsafe_code)] // see inside
pub async fn echo_handles(input: i32, output: i32) -> Result<(), DriverError> {
    let handle = |handle: i32| u64::try_from(handle).map_err(|_| DriverError::InvalidArgument);
    let (input, output) = (handle(input)?, handle(output)?);
    // Safety: the runtime has put the channels into this process's table under these numbers.
    let (input, output) = unsafe { (Channel::from_raw(input), Channel::from_raw(output)) };
    pump(input, output).await
}

async fn pump(input: Channel, output: Channel) -> Result<(), DriverError> {
    let mut reader = input.subscribe(MAX_MESSAGE).await?;
    tracing::info!("echoing");
    let mut writer = output.publish().await?;
    while let Some(frame) = reader.next().await {
        writer.send(frame?.payload).await?;
    }
    Ok(())
}
