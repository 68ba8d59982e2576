//! The guests that are started.

use selium_remote_client::{
    AbiParam, AbiScalarType, AbiScalarValue, AbiSignature, Capability, ProcessBuilder,
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
