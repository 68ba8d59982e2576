//! The server of the Selium Remote Client as a module of the Selium runtime.
//!
//! The rules are in `selium-remote-server-core`, the hostcalls in `selium-remote-transport-wasm`; this crate joins them and
//! holds no rule of its own. Entrypoint `start`, arguments `utf8:DOMAIN,u16:PORT`:
//!
//! ```text
//! selium-runtime --module 'path=...;capabilities=...;args=utf8:localhost,u16:7000'
//!
//!   listener (many waiting accepts) ──> reader task ──> Server <── log tasks, host operations, clock
//!                                       writer task <──
//! ```
//!
//! Everything runs on one thread; the server is borrowed for the length of one call, never over an await.

mod clock;
mod connection;
mod logs;
mod module;
mod runtime;
mod serve;

use serve::serve;

selium_remote_transport_wasm::entrypoint!(start, serve);
