//! Client library for orchestrating Selium runtimes and their processes from outside.
//!
//! Use it in programs that do not run on a Selium runtime. It starts, lists and stops processes, reads their logs, and
//! exchanges messages with them over channels, through the Remote Client module of a runtime.
//!
//! ```no_run
//! use selium_remote_client::{
//!     Capability, ClientConfigBuilder, ClientError, LogItem, Process, ProcessBuilder,
//! };
//!
//! #[tokio::main]
//! async fn main() -> Result<(), ClientError> {
//!     // SELIUM_DOMAIN, SELIUM_PORT and SELIUM_CERT_DIR; without them localhost, 7000 and ./certs.
//!     let client = ClientConfigBuilder::from_env()?.connect().await?;
//!
//!     // It gets these capabilities and no others. Without them it could have no log.
//!     let hello = ProcessBuilder::new("hello.wasm", "start")
//!         .name("hello")
//!         .capability(Capability::ChannelLifecycle)
//!         .capability(Capability::ChannelWriter);
//!     let process = Process::start(&client, hello).await?;
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
//!     SubscribeOptions,
//! };
//!
//! async fn ask(client: &Client) -> Result<(), ClientError> {
//!     let requests = Channel::create(client, 64 * 1024).await?;
//!     let answers = Channel::create(client, 64 * 1024).await?;
//!     // Before anything can be answered. Lossless: should this program be slow, the guest waits.
//!     let lossless = SubscribeOptions::new().lossless(true);
//!     let mut subscriber = answers.subscribe_with(lossless).await?;
//!
//!     // The guest `echo` of the repository. ChannelLifecycle is for attaching to what it is given.
//!     let echo = ProcessBuilder::new("echo.wasm", "echo")
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
//!     // Channels live until they are deleted, also when this program ends.
//!     requests.delete().await?;
//!     answers.delete().await
//! }
//! ```
//!
//! - A [`Client`] is a connection, made again when it is lost (see below). It is cheap to clone, and its requests run side
//!   by side.
//! - Every request has a deadline ([`ClientConfigBuilder::request_timeout`], [`Client::with_timeout`]). When it passes on a
//!   request that changes something, the outcome is unknown, and the error says so ([`ClientError::is_outcome_unknown`]).
//! - Errors ([`ClientError`]) say what, why and what to do next. Programs ask them for their [kind](ClientError::kind),
//!   the server's [code](ClientError::code), the [request](ClientError::request_id), and whether it was about
//!   [time](ClientError::is_timeout), about [who may do what](ClientError::is_auth), and may [simply be tried
//!   again](ClientError::is_retryable).
//! - A [`LogStream`] and a [`Subscriber`] are each a `Stream` of `futures_core`, and a [`Publisher`] is a `Sink` of
//!   `futures_sink`; all have methods of their own for programs without these.
//! - Dropping a future, a stream or a publisher gives it up on the server too; each method says what that means.
//!
//! What goes over the wire is in [PROTOCOL.md], to which the documentation refers by its sections. Whoever comes from
//! version 0.3.3 finds in [MIGRATION.md] all that differs.
//!
//! # Examples
//!
//! One for each task, in [`examples`]: `cargo run --example NAME` says how it is used.
//!
//! | example | task |
//! | --- | --- |
//! | `start_and_follow` | start a process, print its log, stop it at Ctrl-C |
//! | `request_reply` | talk to a process over two channels |
//! | `fan_in` | follow many logs in one loop |
//! | `publish_stdin` | publish lines as fast as the channel takes them, and know when it has them all |
//! | `reconnect` | keep a process running through lost connections and restarts of the server |
//! | `mtls` | client certificates: what is wrong with them, and when they end |
//! | `async_std` | the same on another runtime |
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
//!
//! # Limits
//!
//! Nothing is unbounded. What passes a limit of this side is an error before anything is sent; what the server limits is
//! answered with a code (PROTOCOL.md, "Limits").
//!
//! | what | limit | past it |
//! | --- | --- | --- |
//! | requests in flight, open streams of a connection | what the server says: 256 and 512 | [`ClientError::Exhausted`] |
//! | bytes of requests that wait for answers | 786,432 | [`ClientError::Busy`] |
//! | requests and streams that wait for a connection | 4,096 | [`ClientError::Exhausted`] |
//! | callers that wait for one ping | 1,024 | [`ClientError::Exhausted`] |
//! | bytes of messages without acknowledgement, of a publisher | [`PublishOptions::backlog`], 1 MiB | [`Publisher::send`] waits |
//! | bytes that arrived and were not read, of a stream | 128 KiB at first; one message may be larger | the server waits |
//! | bytes of one answer or message | [`ClientConfigBuilder::response_limit`], 1 MiB | "too large", or a gap of one |
//! | events that nobody reads | 64 | the oldest go: [`ConnectionEvent::Missed`] |
//! | processes or channels in one list | 100,000 | [`ClientError::Protocol`] |
//!
//! # Tracing
//!
//! Spans and events go to [`tracing`](https://docs.rs/tracing): lost connections at the level info, what somebody should
//! look at (certificates, a client that gave up) at warn, all else at debug and trace.
//!
//! | span | what | fields |
//! | --- | --- | --- |
//! | `client` | the task that keeps a client connected | `server` |
//! | `connection` | one connection, with the task that drives it, from the attempt to its end | `server`, `number`, `attempt`, and once the server has answered `address`, `role` |
//! | `call` | one request, from the wait for a connection to the answer; within the span of the caller | `operation`, `target` where it names something, `connection` (a number) and `request` (an id) as sent last |
//!
//! The first two belong to no span of the caller, as they outlive the call. Certificates, keys, arguments, log URIs and
//! messages are in none of them.
//!
//! [PROTOCOL.md]: https://github.com/seliumlabs/selium-modules/blob/main/docs/PROTOCOL.md
//! [MIGRATION.md]: https://github.com/seliumlabs/selium-modules/blob/main/docs/MIGRATION.md
//! [`examples`]: https://github.com/seliumlabs/selium-modules/tree/main/client/examples

mod board;
mod call;
mod channel;
mod client;
mod closed;
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
mod spans;
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
pub use closed::{Closed, GaveUp};
pub use config::{
    ClientConfigBuilder, DEFAULT_CERTIFICATE_DIRECTORY, DEFAULT_CONNECT_TIMEOUT, DEFAULT_DOMAIN,
    DEFAULT_PORT, DEFAULT_REQUEST_TIMEOUT, DEFAULT_RESPONSE_LIMIT, MAX_TIMEOUT, MIN_RESPONSE_LIMIT,
};
pub use error::{ClientError, ErrorKind, InvalidArgument, MessageLimit};
pub use failure::ConnectFailure;
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
