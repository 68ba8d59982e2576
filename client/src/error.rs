//! What can go wrong.

mod kind;

use std::{fmt, io, time::Duration};

use selium_remote_certs::CertificateError;
use selium_remote_client_protocol::{RemoteError, fields::FieldError};
use thiserror::Error;

use crate::{
    PublicationFailure,
    closed::{Closed, GaveUp, OutcomeUnknown},
    failure::{ConnectFailure, Seconds},
};

pub use kind::ErrorKind;

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

/// What went wrong. The text says what, why, and what to do next; the [source](std::error::Error::source) is what lies
/// below that, where there is anything.
///
/// Programs ask [`ClientError::kind`] and the methods beside it, which hold for all variants. What of a request is known
/// that was not answered is in PROTOCOL.md, "Outcomes".
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
        if *changing { format!("; {}", OutcomeUnknown(Some(operation))) }
        else { ": the server is busy or hangs; try again, or allow more time".to_owned() }
    )]
    Expired {
        /// What was asked of the server.
        operation: &'static str,
        /// Whether the request changes something: its outcome is unknown then.
        changing: bool,
        /// How long it was waited for.
        after: Duration,
        /// The request's id on its connection, when it was sent; pings have none.
        request: Option<u64>,
    },
    /// The server's answer cannot be read.
    #[error(
        "the server's answer to `{operation}` cannot be read: update the older of client and server"
    )]
    Protocol {
        /// What was asked of it.
        operation: &'static str,
        /// The request's id on its connection.
        request: u64,
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
        "`{operation}` was sent before the connection was lost; {} ({error})",
        OutcomeUnknown(Some(operation))
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
    /// The connection was lost and is not made again. [`GaveUp::changing`] tells whether the outcome of a request is
    /// unknown.
    #[error(transparent)]
    GaveUp(Box<GaveUp>),
    /// The connection has no ids left for requests; nothing was sent.
    #[error("this connection has made as many requests as one can: connect again")]
    IdsExhausted,
}
