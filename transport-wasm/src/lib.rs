//! What a server needs to live inside the stock Selium runtime as a WASM guest.
//!
//! The crate is the only one of its workspace that may use `unsafe`, and the only one that knows the host's ABI. Above it there are
//! plain Rust types: an executor, owned handles, errors.
//!
//! ```text
//!   server module            (no unsafe, no ABI)
//!  ────────────────────────────────────────────────────────────────
//!   entry   quic  channel  process  time  log      owned handles
//!           slot ── Port: one slot, one operation at a time
//!           orphan: what was dropped half-way is driven to its end
//!   executor: tasks by index, mailbox, ready queue
//!   host: HostFuture<Op>, errors, one scratch buffer for all results
//!           sys: imported functions (wasm32) or `fake` (everywhere else)
//! ```
//!
//! # Rules that the types enforce
//!
//! - **One owner per slot.** The host recycles a slot at once and without a generation, so a second free would destroy somebody
//!   else's connection. Slots are not `Clone`, cannot be made from numbers outside this crate, and are freed by `Drop`.
//! - **One operation per slot.** The host takes a reader or writer out of its table while an operation on it runs; a second operation
//!   would panic a host task and never complete. Operations take `&mut self`.
//! - **Nothing is cancelled, so nothing is lost.** The host cannot cancel. Operations on handles are *resumable*: when the future of a
//!   `read`, `write` or `accept` is dropped, its operation stays with the handle and the next call picks it up. When the handle is
//!   dropped too, the operation moves to the [`orphan`]age, which frees the slot after the host has finished with it.
//! - **Nothing is unbounded.** Tasks, queued log records, strings and buffers have named limits.
//!
//! Everything runs on one thread. On other targets than wasm32 the imports are replaced by the [`fake`] host, so that the
//! same code runs under ordinary tests.
//!
//! # Futures of this crate need this executor
//!
//! The host wakes *tasks* (by index), not wakers: a hostcall future must be polled whenever its task is polled. `poll_fn`, `join` and
//! `select` style combinators do that. Combinators that give each child its own waker and poll only woken children
//! (`FuturesUnordered` and the like) do not, and would wait for ever: spawn a task per child instead.

pub mod channel;
pub mod entry;
pub mod executor;
#[cfg(not(target_arch = "wasm32"))]
pub mod fake;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
pub mod host;
pub mod log;
pub mod orphan;
pub mod process;
pub mod quic;
mod slot;
#[cfg(test)]
mod tests;
pub mod time;

pub use host::HostError;
pub use selium_abi::Capability;
