//! The transport, by the names that the rest of this crate uses, and the choice of its runtime.

use std::time::Instant;

use selium_remote_transport_quinn::Runtime;
pub(crate) use selium_remote_transport_quinn::{
    ConnectionError, DialError, Link, Machine, Phase, Target, Windows, Wire, cause,
};

pub use selium_remote_transport_quinn::{Cause, Rejection};

#[cfg(not(any(feature = "tokio", feature = "async-std", feature = "smol")))]
compile_error!(
    "selium-remote-client needs a runtime: enable its feature `tokio`, `async-std` or `smol`"
);

/// The runtime to use here, as the crate's documentation says.
#[allow(
    unreachable_code,
    reason = "which returns are there depends on the features"
)]
pub(crate) fn runtime() -> Result<Runtime, DialError> {
    #[cfg(feature = "tokio")]
    if let Some(runtime) = selium_remote_transport_tokio::runtime() {
        return Ok(runtime);
    }
    #[cfg(feature = "async-std")]
    return Ok(selium_remote_transport_async_std::async_std());
    #[cfg(feature = "smol")]
    return Ok(selium_remote_transport_async_std::smol());
    Err(DialError::NoRuntime)
}

/// Connects on the runtime that is here.
pub(crate) async fn dial(
    target: &Target,
    tls: rustls::ClientConfig,
    windows: Windows,
    deadline: Instant,
) -> Result<Wire, DialError> {
    selium_remote_transport_quinn::dial(&runtime()?, target, tls, windows, deadline).await
}

/// Runs blocking work beside the runtime that is here; `None` when the deadline passed.
pub(crate) async fn unblock<T: Send + 'static>(
    deadline: Instant,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<Option<T>, DialError> {
    Ok(runtime()?.unblock(deadline, work).await)
}
