//! What can go wrong.

use std::{fmt, io, sync::Arc, time::Duration};

use selium_remote_certs::CertificateError;
use selium_remote_client_protocol::{ErrorCode, RemoteError, fields::FieldError, ops::op};
use thiserror::Error;

use crate::{
    PublicationFailure,
    failure::{Closed, ConnectFailure, OUTCOME_UNKNOWN, Seconds},
    link::Cause,
};

/// An argument that no server would accept; nothing was sent.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("invalid {field}: {problem}")]
#[non_exhaustive]
pub struct InvalidArgument {
    /// Which argument.
    pub field: &'static str,
    /// What is wrong with it.
    pub problem: String,
    /// The limit that was passed, where there is one: bytes of texts and buffers, numbers of arguments.
    pub limit: Option<usize>,
}

/// Where the limit of a message comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MessageLimit {
    /// The channel holds no more.
    Capacity,
    /// The server takes no longer messages.
    Connection,
    /// The subscription was made so ([`SubscribeOptions::max_message`](crate::SubscribeOptions::max_message)).
    Subscription,
}

/// What went wrong, for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The certificate directory cannot be used.
    Certificate,
    /// The domain could not be looked up.
    Resolve,
    /// This machine or program cannot connect at all.
    Local,
    /// The server was not reached, or did not answer in time.
    Unreachable,
    /// One side does not accept the other's certificate.
    Authentication,
    /// The other side is no server that this client can talk to.
    Incompatible,
    /// The server refuses this client.
    Refused,
    /// The connection is over.
    Closed,
    /// The server answered a request with an error.
    Remote,
    /// An argument is wrong; nothing was sent.
    InvalidArgument,
    /// A request was not answered in time.
    Expired,
    /// The server's answer cannot be read.
    Protocol,
    /// Too much is going on; nothing was sent.
    Exhausted,
    /// It may or may not have happened, and is not known any more.
    OutcomeUnknown,
    /// The server was restarted: what it knew is gone.
    NewIncarnation,
}

/// An incarnation as people compare it: its first bytes.
struct Incarnation<'a>(&'a [u8; 16]);

impl fmt::Display for Incarnation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .iter()
            .take(4)
            .try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// What went wrong. The text says what, why, and what to do next.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The certificate directory cannot be used. The text names the path, the files that are expected and the commands
    /// that make them.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The domain could not be looked up.
    #[error("cannot look up {target}: check the domain and the name service of this machine")]
    Resolve {
        /// Domain and port.
        target: String,
        /// Why; nothing when the name has no address.
        source: Option<io::Error>,
    },
    /// No local UDP socket could be opened.
    #[error("cannot open a UDP socket: check the limits and the network of this machine")]
    Endpoint(#[source] io::Error),
    /// The TLS configuration cannot be used, or the domain is no name that can be asked for.
    #[error(
        "cannot set up TLS for the name `{server_name}`: check the domain, it must be a valid DNS name"
    )]
    Tls {
        /// The name that was to be asked for.
        server_name: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// There is no tokio runtime around the call.
    #[error("the client has to be used within a tokio runtime (with I/O and time enabled)")]
    NoRuntime,
    /// The system has no random numbers.
    #[error("the system gives no random numbers")]
    Random(#[source] getrandom::Error),
    /// The server was not reached, or one side does not accept the other.
    #[error(transparent)]
    Connect(Box<ConnectFailure>),
    /// Connecting took too long.
    #[error("{what} (within {})", Seconds(*after))]
    Timeout {
        /// What was being done, and what may lie behind it.
        what: String,
        /// The whole time that connecting may take.
        after: Duration,
    },
    /// The server is one of version 0.3.3.
    #[error(
        "the server at {server} is a remote-client module of version 0.3.3, whose protocol is another one: \
         update the module in its runtime"
    )]
    Legacy {
        /// The server.
        server: String,
    },
    /// Another service answers.
    #[error(
        "{server} is not a Selium control plane, its bytes are of another protocol: check domain and port"
    )]
    NotSelium {
        /// The server.
        server: String,
    },
    /// The server refuses this client.
    #[error("{server} refuses this client: {error}")]
    Refused {
        /// The server.
        server: String,
        /// Lowest and highest version of the protocol that the server speaks.
        versions: (u16, u16),
        /// Why.
        error: Box<RemoteError>,
    },
    /// The connection is over. [`Closed::changing`] tells whether the outcome of a request is unknown.
    #[error(transparent)]
    Closed(Box<Closed>),
    /// The server is shutting down, it finishes what runs and takes nothing new. Nothing was sent.
    #[error("the server is shutting down and takes no new requests: connect again when it is back")]
    Draining,
    /// The server answered with an error.
    #[error("{error}")]
    Remote {
        /// Its error.
        error: Box<RemoteError>,
        /// What was asked of it.
        operation: &'static str,
        /// The request's id on this connection.
        request: u64,
    },
    /// An argument is wrong; nothing was sent.
    #[error(transparent)]
    InvalidArgument(#[from] InvalidArgument),
    /// A request was not answered in time.
    #[error(
        "no answer to `{operation}` within {}{}", Seconds(*after),
        if *changing { format!("; {OUTCOME_UNKNOWN}") }
        else { ": the server is busy or hangs; try again, or allow more time".to_owned() }
    )]
    Expired {
        /// What was asked of the server.
        operation: &'static str,
        /// Whether the request changes something: its outcome is unknown then.
        changing: bool,
        /// How long it was waited for.
        after: Duration,
    },
    /// The server's answer cannot be read.
    #[error(
        "the server's answer to `{operation}` cannot be read: update the older of client and server"
    )]
    Protocol {
        /// What was asked of it.
        operation: &'static str,
        /// Where it cannot be read; nothing when it is its meaning that makes no sense.
        source: Option<FieldError>,
    },
    /// Too many requests are in flight; nothing was sent.
    #[error(
        "{limit} requests are in flight on this connection, which is the limit: wait for some of them"
    )]
    Exhausted {
        /// The limit.
        limit: usize,
    },
    /// Too many bytes of requests wait for their answers (786,432 may); nothing was sent.
    #[error(
        "requests of {limit} bytes may wait for answers on this connection, and this one would pass that: wait for \
         some of them"
    )]
    Busy {
        /// The limit in bytes.
        limit: usize,
    },
    /// Too many bytes of published messages wait for their acknowledgements
    /// ([`PublishOptions::backlog`](crate::PublishOptions::backlog)); the message was not taken.
    #[error(
        "messages of {limit} bytes may wait for their acknowledgements, and this one would pass that: wait for some of \
         them"
    )]
    BacklogFull {
        /// The limit in bytes.
        limit: usize,
    },
    /// A message to be published has no bytes: a channel has no empty messages. It was not sent.
    #[error("a message without bytes cannot be published")]
    EmptyMessage,
    /// A message is too long. One to be published was not sent; one that was subscribed to ends the subscription.
    #[error(
        "a message of {length} bytes is too long: {} {limit}",
        match by {
            MessageLimit::Capacity => "the channel holds",
            MessageLimit::Connection => "the longest that the server takes has",
            MessageLimit::Subscription => "the longest that this subscription accepts has",
        }
    )]
    MessageTooLarge {
        /// Its bytes.
        length: usize,
        /// The most bytes.
        limit: usize,
        /// Where the limit comes from.
        by: MessageLimit,
    },
    /// A publication ended. It says which messages have an unknown outcome.
    #[error(transparent)]
    Publication(Box<PublicationFailure>),
    /// The publisher was closed: nothing more can be sent with it.
    #[error("the publisher was closed: publish with another one")]
    PublisherClosed,
    /// A request that changes something was sent, its connection was lost, and the server does not know any more what
    /// became of it: it may have happened. It was not done again.
    #[error(
        "`{operation}` was sent before the connection was lost, and {OUTCOME_UNKNOWN} ({error})"
    )]
    OutcomeUnknown {
        /// What the server says.
        error: Box<RemoteError>,
        /// What was asked of it.
        operation: &'static str,
        /// The id, on its connection, of the request that asked again.
        request: u64,
    },
    /// The server was restarted, so that a stream cannot go on. Ids of processes and channels from before are void.
    #[error(
        "the server was restarted (it was {}, it is {} now) and knows nothing from before: {lost}",
        Incarnation(old),
        Incarnation(new)
    )]
    NewIncarnation {
        /// The run of the server that is over.
        old: [u8; 16],
        /// The run that began.
        new: [u8; 16],
        /// What is lost.
        lost: String,
    },
    /// There was no connection in all the time that a request had. It was not sent.
    #[error("not connected for {}, `{operation}` was not sent: the connection was lost and is being made again", Seconds(*after))]
    NotConnected {
        /// What was to be asked of the server.
        operation: &'static str,
        /// How long it was waited for.
        after: Duration,
    },
    /// The connection was lost and is not made again ([`Reconnect`](crate::Reconnect)): there were enough attempts, or
    /// the error is one that does not pass.
    #[error(
        "the connection was lost and could not be made again ({attempts} {}): {error}{}",
        if *attempts == 1 { "attempt" } else { "attempts" },
        if *changing { format!("; {OUTCOME_UNKNOWN}") } else { String::new() }
    )]
    GaveUp {
        /// How many attempts were made.
        attempts: u32,
        /// Whether a request that changes something was waiting for its answer: its outcome is unknown then.
        changing: bool,
        /// Why the last attempt failed.
        error: Arc<ClientError>,
    },
    /// The connection has no ids left for requests; nothing was sent.
    #[error("this connection has made as many requests as one can: connect again")]
    IdsExhausted,
}

impl ClientError {
    /// What kind of error it is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            ClientError::Certificate(_) => ErrorKind::Certificate,
            ClientError::Resolve { .. } => ErrorKind::Resolve,
            ClientError::Endpoint(_)
            | ClientError::Tls { .. }
            | ClientError::NoRuntime
            | ClientError::Random(_) => ErrorKind::Local,
            ClientError::Connect(failure) => match failure.cause {
                _ if failure.is_auth() => ErrorKind::Authentication,
                Cause::ApplicationProtocol | Cause::Version => ErrorKind::Incompatible,
                Cause::UnknownName | Cause::Refused => ErrorKind::Refused,
                _ => ErrorKind::Unreachable,
            },
            ClientError::Timeout { .. } => ErrorKind::Unreachable,
            ClientError::Legacy { .. } | ClientError::NotSelium { .. } => ErrorKind::Incompatible,
            ClientError::Refused { .. } => ErrorKind::Refused,
            ClientError::Closed(_) | ClientError::Draining | ClientError::PublisherClosed => {
                ErrorKind::Closed
            }
            ClientError::Publication(failure) => failure.cause.kind(),
            ClientError::OutcomeUnknown { .. } => ErrorKind::OutcomeUnknown,
            ClientError::NewIncarnation { .. } => ErrorKind::NewIncarnation,
            ClientError::NotConnected { .. } => ErrorKind::Unreachable,
            ClientError::GaveUp { error, .. } => error.kind(),
            ClientError::Remote { .. } => ErrorKind::Remote,
            ClientError::InvalidArgument(_)
            | ClientError::EmptyMessage
            | ClientError::MessageTooLarge { .. } => ErrorKind::InvalidArgument,
            ClientError::Expired { .. } => ErrorKind::Expired,
            ClientError::Protocol { .. } => ErrorKind::Protocol,
            ClientError::Exhausted { .. }
            | ClientError::Busy { .. }
            | ClientError::BacklogFull { .. }
            | ClientError::IdsExhausted => ErrorKind::Exhausted,
        }
    }

    /// The server's error code, when it is the server's error.
    #[must_use]
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            ClientError::Remote { error, .. }
            | ClientError::Refused { error, .. }
            | ClientError::OutcomeUnknown { error, .. } => Some(error.code),
            ClientError::Publication(failure) => failure.cause.code(),
            ClientError::GaveUp { error, .. } => error.code(),
            _ => None,
        }
    }

    /// The id, on its connection, of the request that the server answered with this error.
    #[must_use]
    pub fn request_id(&self) -> Option<u64> {
        match self {
            ClientError::Remote { request, .. } | ClientError::OutcomeUnknown { request, .. } => {
                Some(*request)
            }
            ClientError::Publication(failure) => failure.cause.request_id(),
            _ => None,
        }
    }

    /// Whether something may or may not have happened: look before doing it again.
    #[must_use]
    pub fn is_outcome_unknown(&self) -> bool {
        match self {
            ClientError::OutcomeUnknown { .. } => true,
            ClientError::Closed(closed) => closed.changing,
            ClientError::Expired { changing, .. } | ClientError::GaveUp { changing, .. } => {
                *changing
            }
            ClientError::Publication(failure) => !failure.unknown.is_empty(),
            _ => self.code() == Some(ErrorCode::OutcomeUnknown),
        }
    }

    /// The same error once more, of those that end publications.
    pub(crate) fn again(&self) -> Self {
        match self {
            ClientError::Remote {
                error,
                operation,
                request,
            } => ClientError::Remote {
                error: error.clone(),
                operation,
                request: *request,
            },
            ClientError::OutcomeUnknown {
                error,
                operation,
                request,
            } => ClientError::OutcomeUnknown {
                error: error.clone(),
                operation,
                request: *request,
            },
            ClientError::NewIncarnation { old, new, lost } => ClientError::NewIncarnation {
                old: *old,
                new: *new,
                lost: lost.clone(),
            },
            ClientError::GaveUp {
                attempts,
                changing,
                error,
            } => ClientError::GaveUp {
                attempts: *attempts,
                changing: *changing,
                error: Arc::clone(error),
            },
            ClientError::Closed(closed) => ClientError::Closed(closed.clone()),
            ClientError::Expired {
                operation,
                changing,
                after,
            } => ClientError::Expired {
                operation,
                changing: *changing,
                after: *after,
            },
            ClientError::InvalidArgument(error) => ClientError::InvalidArgument(error.clone()),
            ClientError::Exhausted { limit } => ClientError::Exhausted { limit: *limit },
            ClientError::Busy { limit } => ClientError::Busy { limit: *limit },
            ClientError::IdsExhausted => ClientError::IdsExhausted,
            ClientError::Draining => ClientError::Draining,
            // Nothing else comes of a request, but answers that make no sense.
            _ => ClientError::Protocol {
                operation: op::name(op::PUBLISH),
                source: None,
            },
        }
    }

    /// Whether something took too long, here or on the server.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        match self {
            ClientError::Timeout { .. }
            | ClientError::Expired { .. }
            | ClientError::NotConnected { .. } => true,
            ClientError::Connect(failure) => failure.cause == Cause::NoAnswer,
            ClientError::GaveUp { error, .. } => error.is_timeout(),
            _ => self.code() == Some(ErrorCode::DeadlineExceeded),
        }
    }

    /// Whether it is about who this client is, who the server is, or what this client may do. Trying again does not
    /// help.
    #[must_use]
    pub fn is_auth(&self) -> bool {
        match self {
            ClientError::Certificate(_) => true,
            ClientError::Connect(failure) => failure.is_auth(),
            ClientError::GaveUp { error, .. } => error.is_auth(),
            _ => matches!(
                self.code(),
                Some(ErrorCode::Unauthenticated | ErrorCode::PermissionDenied)
            ),
        }
    }

    /// Whether the same call may simply be made again (after [`ErrorKind::Closed`]: on a new connection) and may
    /// succeed then. Never so when the outcome is unknown.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            ClientError::Timeout { .. }
            | ClientError::Draining
            | ClientError::Exhausted { .. }
            | ClientError::Busy { .. }
            | ClientError::BacklogFull { .. }
            | ClientError::NotConnected { .. }
            | ClientError::IdsExhausted => true,
            ClientError::GaveUp {
                changing, error, ..
            } => !changing && error.is_retryable(),
            ClientError::Connect(failure) => matches!(
                failure.cause,
                Cause::NoAnswer | Cause::Refused | Cause::Closed | Cause::Reset
            ),
            ClientError::Closed(closed) => !closed.changing,
            ClientError::Expired { changing, .. } => !changing,
            ClientError::Publication(failure) => {
                failure.unknown.is_empty() && failure.cause.is_retryable()
            }
            _ => matches!(
                self.code(),
                Some(ErrorCode::Unavailable | ErrorCode::ResourceExhausted)
            ),
        }
    }
}
