//! Client library for orchestrating Selium runtimes and their processes from outside.
//!
//! Use it in programs that do not run on a Selium runtime. It starts, lists and stops processes and reads their logs,
//! through the Remote Client module of a runtime.
//!
//! ```no_run
//! use selium_remote_client::{
//!     AbiParam, AbiSignature, Capability, ClientConfigBuilder, ClientError, LogItem, Process,
//!     ProcessBuilder,
//! };
//!
//! #[tokio::main]
//! async fn main() -> Result<(), ClientError> {
//!     let client = ClientConfigBuilder::default()
//!         .domain("localhost")
//!         .port(7000)
//!         .certificate_directory("./certs")
//!         .connect()
//!         .await?;
//!
//!     let builder = ProcessBuilder::new("hello.wasm", "start")
//!         .name("hello")
//!         .capability(Capability::ChannelLifecycle)
//!         .capability(Capability::ChannelWriter)
//!         .signature(AbiSignature::new(vec![AbiParam::Buffer], vec![]))
//!         .arg_utf8("world");
//!     let process = Process::start(&client, builder).await?;
//!     eprintln!("started {}", process.id());
//!
//!     let mut log = process.log_channel().await?;
//!     while let Some(item) = log.next().await {
//!         match item? {
//!             LogItem::Record { record, .. } => println!("{} {}", record.level, record.message),
//!             LogItem::Gap { .. } => eprintln!("some records are missing here"),
//!             _ => {}
//!         }
//!     }
//!     eprintln!("{}", log.end_reason().unwrap_or("the log ended"));
//!
//!     process.stop().await?;
//!     client.close().await;
//!     Ok(())
//! }
//! ```
//!
//! - A [`Client`] is one connection. It is cheap to clone, and its requests run side by side.
//! - Every request has a deadline ([`ClientConfigBuilder::request_timeout`]). When it passes on a request that changes
//!   something, the outcome is unknown, and the error says so ([`ClientError::Expired`]).
//! - Errors ([`ClientError`]) say what, why and what to do next, and have a [`ErrorKind`] for programs.
//! - A [`LogStream`] is a `Stream` of `futures_core`, and has a `next` of its own.
//! - Dropping a future or a [`LogStream`] gives it up on the server too; each method says what that means.
//!
//! Feature `tokio` (default) is the transport; the methods have to be called within a tokio runtime then.

mod call;
mod client;
mod config;
mod error;
mod failure;
mod link;
mod log;
mod process;
mod server;
mod session;
mod start;

pub use selium_remote_certs::{CertificateDirectory, CertificateError, CertificateWarning};
pub use selium_remote_client_protocol::{
    AbiParam, AbiScalarType, AbiScalarValue, AbiSignature, Capability, CapabilitySet, CloseReason,
    EntrypointArg, ErrorCode, GuestResourceId, GuestUint, RemoteError,
    abi::ArgumentError,
    log_record::{LogField, LogLevel, LogRecord, LogRecordError, LogSpan},
    ops::{LogState, ProcessInfo, ProcessState, ServerInfo},
};

pub use client::Client;
pub use config::{
    ClientConfigBuilder, DEFAULT_CERTIFICATE_DIRECTORY, DEFAULT_CONNECT_TIMEOUT, DEFAULT_DOMAIN,
    DEFAULT_PORT, DEFAULT_REQUEST_TIMEOUT, DEFAULT_RESPONSE_LIMIT, MAX_TIMEOUT, MIN_RESPONSE_LIMIT,
};
pub use error::{ClientError, ErrorKind, InvalidArgument};
pub use failure::{Closed, ConnectFailure};
pub use link::{Cause as ConnectCause, Rejection as CertificateRejection};
pub use log::{LogItem, LogOptions, LogStream};
pub use process::{Process, ProcessId};
pub use server::Server;
pub use start::ProcessBuilder;
