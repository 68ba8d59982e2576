//! Drives a protocol machine of the Selium Remote Client over one stream of a quinn connection, on any [`Runtime`].
//!
//! There is no protocol in this crate. [`dial`] makes the connection and its one bidirectional stream (PROTOCOL.md, "A
//! connection's life"), [`Wire::drive`] starts the task that carries bytes and time between the stream and a
//! [`Machine`], and [`Link`] is how everybody else gets at that machine.
//!
//! ```text
//!               Link::with                        one task
//!   users  ------------------->  Mutex<Machine>  <---------->  quinn stream
//!               changes                           bytes, time
//! ```
//!
//! Reading never waits for writing, so that the two sides cannot block each other.
//!
//! There is no runtime in this crate either: one consists of what quinn asks for (tasks, timers, sockets) and of threads
//! for blocking work. `selium-remote-transport-tokio` and `selium-remote-transport-async-std` have them.
//!
//! The feature `memory` has connections without QUIC, for tests: a [`Wire`] whose other side is called directly.

mod cause;
mod dial;
mod drive;
mod error;
mod link;
#[cfg(feature = "memory")]
pub mod memory;
mod runtime;
mod stream;
mod wait;

use bytes::Bytes;
use selium_remote_client_protocol::{Time, Transmit};

pub use cause::{Cause, Rejection, cause};
pub use dial::{MAX_ADDRESSES, Target, Windows, Wire, dial};
pub use error::{DialError, Phase};
pub use link::Link;
pub use quinn::ConnectionError;
pub use runtime::{Runtime, Work};

/// What is driven: two doors in (bytes, time), two out (bytes, the next time); events stay inside it.
///
/// All calls are made under one lock, none of them may block.
pub trait Machine: Send + 'static {
    /// Takes bytes from the stream.
    fn handle_input(&mut self, now: Time, bytes: Bytes);
    /// The stream or its connection ended.
    fn handle_eof(&mut self, now: Time);
    /// Takes the passing of time. What [`Machine::poll_timeout`] says afterwards lies behind `now`.
    fn handle_timeout(&mut self, now: Time);
    /// The next write, of at most `max` bytes.
    fn poll_transmit(&mut self, max: usize) -> Option<Transmit>;
    /// When [`Machine::handle_timeout`] is due.
    fn poll_timeout(&self) -> Option<Time>;
    /// Whether it is over. What [`Machine::poll_transmit`] still gives is sent, then the connection is closed.
    fn is_closed(&self) -> bool;
}
