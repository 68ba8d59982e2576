//! The server of the Selium Remote Client as a module of the Selium runtime.
//!
//! The rules are in `selium-remote-server-core`, the hostcalls in `selium-remote-transport-wasm`, and what `selium server
//! install` writes into the module's file in `selium-remote-provision`; this crate joins them and holds no rule of its own. Entrypoint `start`, arguments `utf8:DOMAIN,u16:PORT`:
//!
//! ```text
//! selium-runtime --module 'path=...;capabilities=...;args=utf8:localhost,u16:7000'
//!
//!   a port for each role,
//!   many waiting accepts ──> reader task ──> Server <── log tasks, host operations, clock
//!                            writer task <──
//! ```
//!
//! Everything runs on one thread; the server is borrowed for the length of one call, never over an await.

mod audit;
mod changes;
mod channels;
mod clock;
mod connection;
mod listen;
mod logs;
mod module;
mod provisioned;
mod runtime;
mod serve;

use serve::serve;

selium_remote_transport_wasm::entrypoint!(start, serve);
