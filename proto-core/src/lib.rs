//! The protocol core of the Selium Remote Client: pure state machines, no I/O.
//!
//! Two doors lead in, three lead out, with the same names at every layer: give what came from the transport to
//! `handle_input(now, bytes)` and the passing of time to `handle_timeout(now)`; then drain `poll_transmit`,
//! `poll_event` and `poll_timeout`. There is no clock, no randomness, no task and no lock inside, so that the same
//! bytes and times always give the same events, natively and on wasm32.
//!
//! [`client::ClientConnection`] and [`server::ServerConnection`] are the two machines. Everything else is what they
//! are made of: [`envelope`] (the frozen start), [`hello`], [`frame`], [`fields`] (the encoding of bodies), [`ops`]
//! (what requests and answers say), [`abi`] (the runtime's types), [`error`] and [`limits`]. PROTOCOL.md describes the
//! wire, byte by byte.

/// Gives types that may grow a way to be made: the default, changed.
macro_rules! with {
    ($($type:ty),+) => {$(
        impl $type {
            /// The default, changed by `change`.
            #[must_use]
            pub fn with(change: impl FnOnce(&mut Self)) -> Self {
                let mut made = Self::default();
                change(&mut made);
                made
            }
        }
    )+};
}

pub mod abi;
pub mod client;
pub mod envelope;
pub mod error;
pub mod fields;
pub mod frame;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
pub mod hello;
pub mod legacy;
pub mod limits;
pub mod log_record;
mod mux;
pub mod ops;
pub mod payload;
pub mod publish;
pub mod server;
pub mod time;
pub mod varint;

pub use abi::{
    AbiParam, AbiScalarType, AbiScalarValue, AbiSignature, Capability, CapabilitySet,
    EntrypointArg, GuestResourceId, GuestUint,
};
pub use error::{ErrorCode, RemoteError};
pub use limits::{Limits, Weight};
pub use mux::{CloseReason, RequestId, SendError, Transmit};
pub use payload::Payload;
pub use time::Time;
