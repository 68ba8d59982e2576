//! The guests as the library starts them.

use selium_remote_client::{
    AbiParam, AbiScalarType, AbiScalarValue, AbiSignature, Capability, ProcessBuilder,
};

/// A guest that can log, with these arguments.
fn logging(module: &str, entrypoint: &str, numbers: &[u32]) -> ProcessBuilder {
    let u32 = AbiParam::Scalar(AbiScalarType::U32);
    let builder = ProcessBuilder::new(module, entrypoint)
        .capability(Capability::ChannelLifecycle)
        .capability(Capability::ChannelWriter)
        .signature(AbiSignature::new(vec![u32; numbers.len()], vec![]));
    numbers.iter().fold(builder, |builder, number| {
        builder.arg_scalar(AbiScalarValue::U32(*number))
    })
}

/// Logs one line and ends.
#[must_use]
pub fn hello() -> ProcessBuilder {
    logging("hello.wasm", "hello", &[])
}

/// Logs so many lines as fast as it can, and stays.
#[must_use]
pub fn storm(lines: u32) -> ProcessBuilder {
    logging("storm.wasm", "start", &[lines])
}

/// Logs so many lines at this interval.
#[must_use]
pub fn ticker(ticks: u32, interval_ms: u32) -> ProcessBuilder {
    logging("ticker.wasm", "ticker", &[ticks, interval_ms]).capability(Capability::TimeRead)
}

/// Computes so many thousand rounds without yielding, logs a line, and stays.
#[must_use]
pub fn busy(rounds: u32) -> ProcessBuilder {
    logging("busy.wasm", "start", &[rounds])
}
