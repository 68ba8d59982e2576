//! Writes each message that it reads from one channel to another: for request and reply, and for tests of channels as arguments.
//!
//! Needs `ChannelLifecycle`, `ChannelReader` and `ChannelWriter`. It loses nothing: it holds up who writes to its input, and is held up by who
//! reads its output. It has no log, and ends when one of the channels does. Nobody else should write to its output: what they write is seen only
//! with its next message, since it keeps its writer.
//!
//! - `echo`, arguments of kind u64: two shared channels, the input and the output.
//! - `echo_handles`, arguments of kind i32: the channels themselves.

use selium_remote_transport_wasm::{
    HostError,
    channel::{Channel, MAX_FRAME, ReadError, SharedId},
    entry::wide,
    numbers_entrypoint,
};

numbers_entrypoint!(echo, shared, input_low, input_high, output_low, output_high);
numbers_entrypoint!(echo_handles, handles, input, output);

async fn shared([input_low, input_high, output_low, output_high]: [i32; 4]) {
    let input = SharedId::from_argument(wide(input_low, input_high));
    let output = SharedId::from_argument(wide(output_low, output_high));
    if let (Ok(input), Ok(output)) = (Channel::attach(input).await, Channel::attach(output).await) {
        let _ = pump(&input, &output).await;
    }
}

async fn handles([input, output]: [i32; 2]) {
    let _ = pump(
        &Channel::from_argument(input),
        &Channel::from_argument(output),
    )
    .await;
}

async fn pump(input: &Channel, output: &Channel) -> Result<(), HostError> {
    let mut reader = input.strong_reader().await?;
    let mut writer = output.strong_writer().await?;
    loop {
        match reader.read(MAX_FRAME as u32).await {
            Ok(frame) => writer.write(&frame.payload).await?,
            Err(ReadError::Host(error)) => return Err(error),
            Err(_) => return Ok(()),
        }
    }
}
