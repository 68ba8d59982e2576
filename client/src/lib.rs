//! Client library for orchestrating Selium runtimes and their processes from outside.
//!
//! Use it in programs that do not run on a Selium runtime. It starts, lists and stops processes, reads their logs, and
//! exchanges messages with them over channels, through the Remote Client module of a runtime.
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
//! Messages go over channels: what a [`Publisher`] sends, guests and [`Subscriber`]s get, one by one and whole. Here a
//! guest reads requests from one channel and writes its answers to another:
//!
//! ```no_run
//! use selium_remote_client::{
//!     Capability, Channel, Client, ClientError, Process, ProcessBuilder, SubscribeItem,
//! };
//!
//! async fn ask(client: &Client) -> Result<(), ClientError> {
//!     let requests = Channel::create(client, 64 * 1024).await?;
//!     let answers = Channel::create(client, 64 * 1024).await?;
//!     let mut subscriber = answers.subscribe(64 * 1024).await?;
//!
//!     let echo = ProcessBuilder::new("echo.wasm", "start")
//!         .capability(Capability::ChannelReader)
//!         .capability(Capability::ChannelWriter)
//!         .arg_channel(&requests)
//!         .arg_channel(&answers);
//!     let echo = Process::start(client, echo).await?;
//!
//!     let mut publisher = requests.publish().await?;
//!     publisher.send("hello").await?;
//!     if let Some(item) = subscriber.next().await
//!         && let SubscribeItem::Message { payload, .. } = item?
//!     {
//!         println!("{}", String::from_utf8_lossy(&payload));
//!     }
//!
//!     publisher.close().await?;
//!     echo.stop().await?;
//!     requests.delete().await?;
//!     answers.delete().await
//! }
//! ```
//!
//! - A [`Client`] is one connection. It is cheap to clone, and its requests run side by side.
//! - Every request has a deadline ([`ClientConfigBuilder::request_timeout`]). When it passes on a request that changes
//!   something, the outcome is unknown, and the error says so ([`ClientError::Expired`]).
//! - Errors ([`ClientError`]) say what, why and what to do next, and have a [`ErrorKind`] for programs.
//! - A [`LogStream`] and a [`Subscriber`] are each a `Stream` of `futures_core`, and a [`Publisher`] is a `Sink` of
//!   `futures_sink`; all have methods of their own for programs without these.
//! - Dropping a future, a stream or a publisher gives it up on the server too; each method says what that means.
//!
//! # Runtimes
//!
//! A feature chooses the runtime that connections run on; everything else is the same on each.
//!
//! | feature | runtime |
//! | --- | --- |
//! | `tokio` (default) | the tokio runtime around the call, with I/O and time enabled |
//! | `async-std` | async-std's executor. It is discontinued, and quinn 0.11 is the last line that supports it: new programs use `tokio` or `smol` |
//! | `smol` | smol's global executor, however the calling task is run |
//!
//! For the last two, `default-features = false` keeps tokio's runtime out of the build (quinn needs tokio's `sync`, and
//! nothing more). Features add up, as another part of a program may enable one: with several, a call within a tokio
//! runtime uses that one, any other `async-std`, and without that `smol`. With `tokio` alone, a call outside of a
//! tokio runtime fails with [`ClientError::NoRuntime`].

mod call;
mod channel;
mod client;
mod config;
mod error;
mod failure;
mod id;
mod incoming;
mod link;
mod log;
mod process;
mod publisher;
mod server;
mod session;
mod start;
mod subscriber;

pub use selium_remote_certs::{CertificateDirectory, CertificateError, CertificateWarning};
pub use selium_remote_client_protocol::{
    AbiParam, AbiScalarType, AbiScalarValue, AbiSignature, Capability, CapabilitySet, CloseReason,
    EntrypointArg, ErrorCode, GuestResourceId, GuestUint, RemoteError, Weight,
    abi::ArgumentError,
    log_record::{LogField, LogLevel, LogRecord, LogRecordError, LogSpan},
    ops::{
        Backpressure, ChannelInfo, ChannelState, LogState, ProcessInfo, ProcessState, ServerInfo,
    },
};

pub use channel::{Channel, ChannelBuilder, ChannelId};
pub use client::Client;
pub use config::{
    ClientConfigBuilder, DEFAULT_CERTIFICATE_DIRECTORY, DEFAULT_CONNECT_TIMEOUT, DEFAULT_DOMAIN,
    DEFAULT_PORT, DEFAULT_REQUEST_TIMEOUT, DEFAULT_RESPONSE_LIMIT, MAX_TIMEOUT, MIN_RESPONSE_LIMIT,
};
pub use error::{ClientError, ErrorKind, InvalidArgument, MessageLimit};
pub use failure::{Closed, ConnectFailure};
pub use link::{Cause as ConnectCause, Rejection as CertificateRejection};
pub use log::{LogItem, LogOptions, LogStream};
pub use process::{Process, ProcessId};
pub use publisher::{DEFAULT_BACKLOG, PublicationFailure, PublishOptions, Publisher};
pub use server::Server;
pub use start::ProcessBuilder;
pub use subscriber::{SubscribeItem, SubscribeOptions, Subscriber};
