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
//!     // To attach to a channel that it is given takes `ChannelLifecycle`.
//!     let echo = ProcessBuilder::new("echo.wasm", "start")
//!         .capability(Capability::ChannelLifecycle)
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
//! - A [`Client`] is a connection, made again when it is lost (see below). It is cheap to clone, and its requests run side
//!   by side.
//! - Every request has a deadline ([`ClientConfigBuilder::request_timeout`], [`Client::with_timeout`]). When it passes on a
//!   request that changes something, the outcome is unknown, and the error says so ([`ClientError::is_outcome_unknown`]).
//! - Errors ([`ClientError`]) say what, why and what to do next, and have a [`ErrorKind`] for programs.
//! - A [`LogStream`] and a [`Subscriber`] are each a `Stream` of `futures_core`, and a [`Publisher`] is a `Sink` of
//!   `futures_sink`; all have methods of their own for programs without these.
//! - Dropping a future, a stream or a publisher gives it up on the server too; each method says what that means.
//!
//! # Reconnecting
//!
//! When a connection is lost, the client makes another one in the background, with waits that double from 100 ms to 10 s
//! and are cut at random. [`Reconnect`] says how, how often, or that it does not ([`Reconnect::never`]); the first
//! connection is tried once, in any case. Certificates are read anew each time; [`Client::credentials_expire_at`] tells
//! until when they last.
//!
//! | what was going on | what becomes of it |
//! | --- | --- |
//! | a request that is made meanwhile | it waits for the connection within its deadline ([`ClientError::NotConnected`]) |
//! | a request that only asks | it is asked again, within its deadline |
//! | a request that changes something | it is asked about again, with its token: it is executed once. A server that does not know any more says so: [`ClientError::OutcomeUnknown`], and nothing was done again |
//! | a [`LogStream`] or [`Subscriber`] | it goes on behind what was read, when it is read on; what is missing is a gap |
//! | a [`Publisher`] | it goes on by itself; what was not acknowledged is sent again, and taken once |
//!
//! A server that was restarted has another [`Server::incarnation`] and knows nothing from before: ids of processes and
//! channels are void. Streams end with [`ClientError::NewIncarnation`] then, and publishers with a [`PublicationFailure`]
//! that lists the messages whose outcome is unknown.
//!
//! Some things do not pass: certificates that one side refuses, another protocol, a client that the server does not want.
//! The client gives up then ([`ClientError::GaveUp`]), also after as many attempts as [`Reconnect::attempts`] allows, and is
//! over, as after [`Client::close`]. (A certificate directory that cannot be read is looked at once more: it may just be
//! being written.)
//!
//! [`Client::state`] tells how things stand, [`Client::events`] what happens:
//!
//! ```no_run
//! use selium_remote_client::{Client, ConnectionEvent};
//!
//! async fn watch(client: &Client) {
//!     let mut events = client.events();
//!     while let Some(event) = events.next().await {
//!         match event {
//!             ConnectionEvent::Connected { again: true, .. } => eprintln!("connected again"),
//!             ConnectionEvent::NewIncarnation { .. } => eprintln!("the server was restarted"),
//!             ConnectionEvent::Lost { reason } => eprintln!("connection lost: {reason}"),
//!             ConnectionEvent::Retrying { after, attempt, .. } => {
//!                 eprintln!("attempt {attempt} in {after:?}");
//!             }
//!             ConnectionEvent::GaveUp { error } => eprintln!("not connected again: {error}"),
//!             _ => {}
//!         }
//!     }
//! }
//! ```
//!
//! # Cancel safety
//!
//! Every method says what becomes of its request when its future is dropped; that holds while there is no connection, too:
//! a request that waits for one is not sent, or not again. Dropping a client, a stream or a publisher never waits. The task that
//! reconnects ends with the last of them.
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
//!
//! # Tests
//!
//! The feature `test-util` (for `[dev-dependencies]`) has a server in memory, `test_util::InMemoryServer`: the real
//! server's rules over a fake runtime, without network and certificates. What is under test gets an ordinary [`Client`];
//! the test says what the runtime's modules do, and what goes wrong: lost connections and answers, errors, restarts.

mod board;
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
mod reconnect;
mod server;
mod session;
mod start;
mod subscriber;
mod supervisor;
#[cfg(feature = "test-util")]
pub mod test_util;

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
pub use reconnect::{
    ConnectionEvent, ConnectionEvents, ConnectionState, DEFAULT_MAX_RECONNECT_DELAY,
    DEFAULT_RECONNECT_DELAY, Reconnect,
};
pub use server::Server;
pub use start::ProcessBuilder;
pub use subscriber::{SubscribeItem, SubscribeOptions, Subscriber};
