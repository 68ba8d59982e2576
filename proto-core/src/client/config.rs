//! How a client connection behaves, and what a request is besides its body.

use core::time::Duration;

use thiserror::Error;

use crate::{Time, hello::ClientHello, limits::Limits};

/// How a client connection behaves.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ClientConfig {
    /// What it tells the server of itself.
    pub hello: ClientHello,
    /// What it is willing to hold. The hello states the same.
    pub limits: Limits,
    /// Requests in flight at most, whatever the server allows.
    pub max_requests: usize,
    /// How often the server is pinged; never when there is no duration.
    pub heartbeat: Option<Duration>,
    /// How long a ping may stay without an answer before the connection counts as dead.
    pub heartbeat_timeout: Duration,
}

impl ClientConfig {
    /// The default: 1,024 requests, a ping every 5 s, 20 s to answer it.
    #[must_use]
    pub fn new(hello: ClientHello, limits: Limits) -> Self {
        Self {
            hello,
            limits,
            max_requests: 1_024,
            heartbeat: Some(Duration::from_secs(5)),
            heartbeat_timeout: Duration::from_secs(20),
        }
    }
}

/// Which way a stream flows that a request opens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StreamKind {
    /// The request opens no stream.
    #[default]
    None,
    /// From the server to the client (log follow, subscribe).
    ToClient,
    /// From the client to the server (publish).
    ToServer,
}

/// What a request is besides its body.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct RequestOptions {
    /// The stream that it opens when it succeeds.
    pub stream: StreamKind,
    /// When to give up, if it was not answered.
    pub deadline: Option<Time>,
}

impl RequestOptions {
    /// A request without a deadline that opens a stream, or none.
    #[must_use]
    pub const fn new(stream: StreamKind) -> Self {
        Self {
            stream,
            deadline: None,
        }
    }

    /// With this deadline, or with none.
    #[must_use]
    pub const fn deadline(mut self, deadline: Option<Time>) -> Self {
        self.deadline = deadline;
        self
    }
}

/// Why a request was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RequestError {
    /// The connection is not open (yet, or any more).
    #[error("the connection is not open")]
    NotOpen,
    /// One side finishes what runs and takes nothing new.
    #[error("the connection is draining")]
    Draining,
    /// The server would not take it; the limit in bytes is given.
    #[error("the request is longer than the server's limit of {0} bytes")]
    TooLarge(usize),
    /// As many requests as allowed are in flight; the limit is given.
    #[error("{0} requests are in flight, which is the limit")]
    TooMany(usize),
    /// So much waits to be sent already that it would not fit; the limit in bytes is given. Later it may.
    #[error("requests of more than {0} bytes wait to be sent")]
    Busy(usize),
    /// All ids were used.
    #[error("the connection has no ids left")]
    IdsExhausted,
}
