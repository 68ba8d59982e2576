//! The transport, by the names that the rest of this crate uses. A transport for another runtime has the same ones.

#[cfg(feature = "tokio")]
pub(crate) use selium_remote_transport_tokio::{
    ConnectionError, DialError, Link, Machine, Phase, Target, Windows, cause, dial, unblock,
};

#[cfg(feature = "tokio")]
pub use selium_remote_transport_tokio::{Cause, Rejection};

#[cfg(not(feature = "tokio"))]
compile_error!("selium-remote-client needs a transport: enable its feature `tokio`");
