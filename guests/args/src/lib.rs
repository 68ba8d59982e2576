//! Logs the arguments it was started with, so that a test can see that each type arrives intact.
//!
//! Each entrypoint logs one line of `name=value` pairs. Needs `ChannelLifecycle` and `ChannelWriter` for its log.

use selium_userland::entrypoint;

/// Logs a mix of texts, numbers and raw bytes. `blob` is shown in hex and must be exactly eight bytes long: a fixed
/// array is the one type that the entrypoint macro takes from a buffer byte for byte (others are rkyv archives).
#[entrypoint]
pub async fn show(text: &str, small: u16, big: u64, blob: [u8; 8]) {
    let blob = hex(&blob);
    tracing::info!("text={text:?} small={small} big={big} blob={blob}");
}

/// Logs one number of each type. Floats are logged in their shortest form that reads back to the same value.
#[allow(clippy::too_many_arguments)] // one parameter for each type that a start can pass is the point of it
#[entrypoint]
pub async fn scalars(
    i8: i8,
    u8: u8,
    i16: i16,
    u16: u16,
    i32: i32,
    u32: u32,
    i64: i64,
    u64: u64,
    f32: f32,
    f64: f64,
) {
    tracing::info!(
        "i8={i8} u8={u8} i16={i16} u16={u16} i32={i32} u32={u32} i64={i64} u64={u64} f32={f32:?} f64={f64:?}"
    );
}

/// Logs a text and its length in bytes.
#[entrypoint]
pub async fn text(text: &str) {
    let len = text.len();
    tracing::info!("len={len} text={text:?}");
}

/// Logs only the length of a text and the sum of its bytes (wrapping, 32 bits), for texts too long for one record.
#[entrypoint]
pub async fn big(text: &str) {
    let len = text.len();
    let sum = text
        .bytes()
        .fold(0_u32, |sum, byte| sum.wrapping_add(u32::from(byte)));
    tracing::info!("len={len} sum={sum}");
}

/// Logs that it was started, for starts without arguments.
#[entrypoint]
pub async fn start() {
    tracing::info!("no arguments");
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
