//! The guests that are started.

use selium_remote_client::{
    AbiParam, AbiScalarType, AbiScalarValue, AbiSignature, Capability, Channel, ProcessBuilder,
};

/// A guest that can log.
fn logging(module: &str, entrypoint: &str) -> ProcessBuilder {
    ProcessBuilder::new(module, entrypoint)
        .capability(Capability::ChannelLifecycle)
        .capability(Capability::ChannelWriter)
}

fn numbers(count: usize) -> AbiSignature {
    AbiSignature::new(vec![AbiParam::Scalar(AbiScalarType::U32); count], vec![])
}

/// Logs one line and ends.
pub(crate) fn hello() -> ProcessBuilder {
    logging("hello.wasm", "hello")
}

/// Logs `count` lines, so many milliseconds apart.
pub(crate) fn ticker(count: u32, interval_ms: u32) -> ProcessBuilder {
    logging("ticker.wasm", "ticker")
        .capability(Capability::TimeRead)
        .signature(numbers(2))
        .arg_scalar(AbiScalarValue::U32(count))
        .arg_scalar(AbiScalarValue::U32(interval_ms))
}

/// Logs `count` lines as fast as it can, and stays.
pub(crate) fn storm(count: u32) -> ProcessBuilder {
    logging("storm.wasm", "start")
        .signature(numbers(1))
        .arg_scalar(AbiScalarValue::U32(count))
}

/// Echoes what comes in on QUIC connections to this port.
pub(crate) fn netecho(port: u16) -> ProcessBuilder {
    let signature = AbiSignature::new(
        vec![AbiParam::Buffer, AbiParam::Scalar(AbiScalarType::U16)],
        vec![],
    );
    let quic = [
        Capability::NetQuicBind,
        Capability::NetQuicAccept,
        Capability::NetQuicRead,
        Capability::NetQuicWrite,
    ];
    quic.into_iter()
        .fold(
            ProcessBuilder::new("netecho.wasm", "start"),
            ProcessBuilder::capability,
        )
        .signature(signature)
        .arg_utf8("localhost")
        .arg_scalar(AbiScalarValue::U16(port))
}

/// An entrypoint of the pump guest, which is given these channels.
fn of_pump<'a>(
    entrypoint: &str,
    channels: impl IntoIterator<Item = &'a Channel>,
) -> ProcessBuilder {
    let builder = [
        Capability::ChannelLifecycle,
        Capability::ChannelReader,
        Capability::ChannelWriter,
    ]
    .into_iter()
    .fold(
        ProcessBuilder::new("pump.wasm", entrypoint),
        ProcessBuilder::capability,
    );
    channels
        .into_iter()
        .fold(builder, ProcessBuilder::arg_channel)
}

/// Writes bursts of messages to sixteen channels as it is told on another one.
pub(crate) fn source<'a>(
    control: &'a Channel,
    channels: impl IntoIterator<Item = &'a Channel>,
) -> ProcessBuilder {
    of_pump("source", std::iter::once(control).chain(channels))
}

/// Reads sixteen channels and throws away what it has read.
pub(crate) fn sink<'a>(channels: impl IntoIterator<Item = &'a Channel>) -> ProcessBuilder {
    of_pump("sink", channels)
}

/// Carries bytes between twenty-four channels and QUIC connections to this port.
pub(crate) fn pump<'a>(
    port: u16,
    channels: impl IntoIterator<Item = &'a Channel>,
) -> ProcessBuilder {
    let quic = [
        Capability::NetQuicBind,
        Capability::NetQuicAccept,
        Capability::NetQuicRead,
        Capability::NetQuicWrite,
    ];
    let builder = [Capability::ChannelLifecycle, Capability::ChannelReader]
        .into_iter()
        .chain([Capability::ChannelWriter])
        .chain(quic)
        .fold(
            ProcessBuilder::new("pump.wasm", "start"),
            ProcessBuilder::capability,
        )
        .signature(AbiSignature::new(
            vec![AbiParam::Scalar(AbiScalarType::U16)],
            vec![],
        ))
        .arg_scalar(AbiScalarValue::U16(port));
    channels
        .into_iter()
        .fold(builder, ProcessBuilder::arg_channel)
}
