//! Exported entrypoints, without `unsafe` in the module that exports them.
//!
//! The host passes the log URI to every entrypoint as its first parameter, then the arguments of the start; text and bytes as pointer and
//! length. **It writes them from address 1040 upward, which is the far end of this program's own stack**: a deep call chain would overwrite them. They are copied
//! before anything else happens.

use core::future::Future;

use thiserror::Error;

use crate::{executor, host::sys};

/// Longest text argument, in bytes.
pub const MAX_ARGUMENT: u32 = 1_024;

/// The arguments of the server's entrypoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartArguments {
    /// The log URI; empty when unset.
    pub log_uri: String,
    /// The domain, which is the server name that clients must ask for.
    pub domain: String,
    /// The UDP port.
    pub port: u16,
}

/// Why the arguments cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ArgumentError {
    /// Longer than [`MAX_ARGUMENT`], or not in memory at all.
    #[error("the {0} argument is too long (the limit is {MAX_ARGUMENT} bytes)")]
    TooLong(&'static str),
    /// Not UTF-8.
    #[error("the {0} argument is not UTF-8")]
    NotText(&'static str),
    /// Not between 1 and 65535.
    #[error("the port argument is not a port")]
    NotAPort,
}

fn text(name: &'static str, address: i32, len: i32) -> Result<String, ArgumentError> {
    // Addresses and lengths are unsigned; the ABI only has signed types.
    let (address, len) = (address.cast_unsigned(), len.cast_unsigned());
    if address == 0 || len == 0 {
        return Ok(String::new());
    }
    if len > MAX_ARGUMENT {
        return Err(ArgumentError::TooLong(name));
    }
    let bytes = sys::copy_memory(address, len).ok_or(ArgumentError::TooLong(name))?;
    String::from_utf8(bytes).map_err(|_| ArgumentError::NotText(name))
}

fn arguments(
    log_uri: (i32, i32),
    domain: (i32, i32),
    port: i32,
) -> Result<StartArguments, ArgumentError> {
    // Copy both before judging either.
    let (log_uri, domain) = (
        text("log URI", log_uri.0, log_uri.1),
        text("domain", domain.0, domain.1),
    );
    let port = u16::try_from(port)
        .ok()
        .filter(|port| *port != 0)
        .ok_or(ArgumentError::NotAPort)?;
    Ok(StartArguments {
        log_uri: log_uri?,
        domain: domain?,
        port,
    })
}

/// What [`entrypoint!`](crate::entrypoint) expands to. Returns when `serve` does, or when the host shuts down.
#[doc(hidden)]
pub fn run_entrypoint<F>(
    log_uri: (i32, i32),
    domain: (i32, i32),
    port: i32,
    serve: impl FnOnce(Result<StartArguments, ArgumentError>) -> F,
) where
    F: Future<Output = ()> + 'static,
{
    let arguments = arguments(log_uri, domain, port);
    // An error means that the host is gone; there is nobody to tell.
    let _ = executor::run(serve(arguments));
}

/// Exports a function `name(log_uri, domain: utf8, port: u16)` that runs an `async fn(Result<StartArguments, ArgumentError>)` to its end.
///
/// Works in crates with `#![forbid(unsafe_code)]`.
///
/// ```
/// #![forbid(unsafe_code)]
/// use selium_remote_transport_wasm::entry::{ArgumentError, StartArguments};
///
/// selium_remote_transport_wasm::entrypoint!(start, serve);
///
/// async fn serve(arguments: Result<StartArguments, ArgumentError>) {
///     let _ = arguments;
/// }
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! entrypoint {
    ($name:ident, $serve:path) => {
        /// Entrypoint for the host: log URI, domain and port.
        #[unsafe(no_mangle)]
        pub extern "C" fn $name(
            log_uri: i32,
            log_uri_len: i32,
            domain: i32,
            domain_len: i32,
            port: i32,
        ) {
            $crate::entry::run_entrypoint(
                (log_uri, log_uri_len),
                (domain, domain_len),
                port,
                $serve,
            );
        }
    };
}

/// What [`numbers_entrypoint!`](crate::numbers_entrypoint) expands to. Returns when `serve` does, or when the host shuts down.
#[doc(hidden)]
pub fn run_numbers<const N: usize, F>(words: [i32; N], serve: impl FnOnce([i32; N]) -> F)
where
    F: Future<Output = ()> + 'static,
{
    // An error means that the host is gone; there is nobody to tell.
    let _ = executor::run(serve(words));
}

/// A 64-bit argument from its halves.
pub fn wide(low: i32, high: i32) -> u64 {
    (u64::from(high.cast_unsigned()) << 32) | u64::from(low.cast_unsigned())
}

/// Exports a function `name(log_uri, words...)` that runs an `async fn([i32; N])` to its end, for arguments that are numbers: a word for each of up
/// to 32 bits, two for each of 64, the low one first ([`wide`]). The log URI is ignored.
///
/// Works in crates with `#![forbid(unsafe_code)]`.
///
/// ```
/// #![forbid(unsafe_code)]
/// use selium_remote_transport_wasm::entry::wide;
///
/// selium_remote_transport_wasm::numbers_entrypoint!(count, serve, size, limit_low, limit_high);
///
/// async fn serve([size, low, high]: [i32; 3]) {
///     let _ = (size, wide(low, high));
/// }
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! numbers_entrypoint {
    ($name:ident, $serve:path $(, $word:ident)*) => {
        /// Entrypoint for the host: log URI and numbers.
        #[unsafe(no_mangle)]
        pub extern "C" fn $name(_log_uri: i32, _log_uri_len: i32 $(, $word: i32)*) {
            $crate::entry::run_numbers([$($word),*], $serve);
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake;

    #[test]
    fn arguments_are_copied_and_checked() {
        fake::reset();
        fake::set_memory(1040, b"localhost\0\0\0\0\0\0\0uri\xff");
        let ok = arguments((0, 0), (1040, 9), 7000).unwrap();
        assert_eq!(
            ok,
            StartArguments {
                log_uri: String::new(),
                domain: "localhost".into(),
                port: 7000
            }
        );
        assert_eq!(
            arguments((1056, 3), (1040, 9), 65_535).unwrap().log_uri,
            "uri"
        );
        assert_eq!(
            arguments((1056, 4), (1040, 9), 1),
            Err(ArgumentError::NotText("log URI"))
        );
        assert_eq!(
            arguments((0, 0), (1040, -1), 1),
            Err(ArgumentError::TooLong("domain"))
        );
        assert_eq!(
            arguments((0, 0), (-5, 9), 1),
            Err(ArgumentError::TooLong("domain"))
        );
        assert_eq!(
            arguments((0, 0), (1040, 9), 0),
            Err(ArgumentError::NotAPort)
        );
        assert_eq!(
            arguments((0, 0), (1040, 9), 65_536),
            Err(ArgumentError::NotAPort)
        );
    }
}
