//! What programs ask of an error.

use selium_remote_client_protocol::{CloseReason, ErrorCode, RemoteError};

use crate::{ClientError, link::Cause, reconnect::may_pass};

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
            ClientError::GaveUp(gave_up) => gave_up.error.kind(),
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

    /// The server's own error, with its code and where it helps the field, the limit and the process, when it is the
    /// server's (PROTOCOL.md, "Errors"): the answer to a request, the end of a stream, or of the connection.
    #[must_use]
    pub fn remote(&self) -> Option<&RemoteError> {
        match self {
            ClientError::Remote { error, .. }
            | ClientError::Refused { error, .. }
            | ClientError::OutcomeUnknown { error, .. } => Some(error),
            ClientError::Closed(closed) => match &closed.reason {
                CloseReason::Peer(error) => Some(error),
                _ => None,
            },
            ClientError::Publication(failure) => failure.cause.remote(),
            ClientError::GaveUp(gave_up) => gave_up.error.remote(),
            _ => None,
        }
    }

    /// The server's error code, when it is the server's error (see [`ClientError::remote`]).
    #[must_use]
    pub fn code(&self) -> Option<ErrorCode> {
        self.remote().map(|error| error.code)
    }

    /// What was asked of the server, as PROTOCOL.md, "Operations", names it, when it is about a request; for example
    /// "process start".
    #[must_use]
    pub fn operation(&self) -> Option<&'static str> {
        match self {
            ClientError::Remote { operation, .. }
            | ClientError::OutcomeUnknown { operation, .. }
            | ClientError::Expired { operation, .. }
            | ClientError::Protocol { operation, .. }
            | ClientError::NotConnected { operation, .. } => Some(operation),
            ClientError::Closed(closed) => closed.operation,
            ClientError::GaveUp(gave_up) => gave_up.operation,
            ClientError::Publication(failure) => failure.cause.operation(),
            _ => None,
        }
    }

    /// The id, on its connection, of the request that it is about, when that was sent. The spans of `tracing` have it,
    /// too.
    #[must_use]
    pub fn request_id(&self) -> Option<u64> {
        match self {
            ClientError::Remote { request, .. }
            | ClientError::OutcomeUnknown { request, .. }
            | ClientError::Protocol { request, .. } => Some(*request),
            ClientError::Expired { request, .. } => *request,
            ClientError::Closed(closed) => closed.request,
            ClientError::GaveUp(gave_up) => gave_up.request,
            ClientError::Publication(failure) => failure.cause.request_id(),
            _ => None,
        }
    }

    /// Whether something may or may not have happened: look before doing it again (PROTOCOL.md, "Outcomes").
    #[must_use]
    pub fn is_outcome_unknown(&self) -> bool {
        match self {
            ClientError::OutcomeUnknown { .. } => true,
            ClientError::Closed(closed) => closed.changing,
            ClientError::Expired { changing, .. } => *changing,
            ClientError::GaveUp(gave_up) => gave_up.changing,
            ClientError::Publication(failure) => !failure.unknown.is_empty(),
            _ => self.code() == Some(ErrorCode::OutcomeUnknown),
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
            ClientError::GaveUp(gave_up) => gave_up.error.is_timeout(),
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
            ClientError::GaveUp(gave_up) => gave_up.error.is_auth(),
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
            ClientError::GaveUp(gave_up) => !gave_up.changing && gave_up.error.is_retryable(),
            ClientError::Connect(failure) => matches!(
                failure.cause,
                Cause::NoAnswer | Cause::Refused | Cause::Closed | Cause::Reset
            ),
            ClientError::Closed(closed) => !closed.changing && may_pass(&closed.reason),
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

#[cfg(test)]
mod tests {
    use std::{error::Error as _, sync::Arc, time::Duration};

    use super::*;
    use crate::{
        ChannelId, Closed, GaveUp, InvalidArgument, MessageLimit, PublicationFailure, closed::Asked,
    };

    fn remote(code: ErrorCode) -> ClientError {
        ClientError::Remote {
            error: Box::new(RemoteError::new(code, "why").with_field("target")),
            operation: "process stop",
            request: 7,
        }
    }

    fn asked(changing: bool) -> Asked {
        Asked {
            operation: "process stop",
            request: Some(7),
            changing,
        }
    }

    fn closed(reason: CloseReason, changing: bool) -> ClientError {
        ClientError::Closed(Box::new(Closed::new(reason, None, Some(asked(changing)))))
    }

    fn peer(code: ErrorCode) -> CloseReason {
        CloseReason::Peer(RemoteError::new(code, "why"))
    }

    fn gave_up(error: ClientError, changing: bool) -> ClientError {
        let gave_up = GaveUp::new(Arc::new(error), 3, Some(asked(changing)));
        ClientError::GaveUp(Box::new(gave_up))
    }

    fn publication(unknown: std::ops::Range<u64>, cause: ClientError) -> ClientError {
        ClientError::Publication(Box::new(PublicationFailure {
            channel: ChannelId(1),
            name: "jobs".to_owned(),
            acknowledged: unknown.start.checked_sub(1),
            unknown,
            cause: Arc::new(cause),
        }))
    }

    fn expired(changing: bool) -> ClientError {
        ClientError::Expired {
            operation: "process stop",
            changing,
            after: Duration::from_secs(1),
            request: Some(7),
        }
    }

    fn refused(code: ErrorCode) -> ClientError {
        ClientError::Refused {
            server: "localhost:7000".to_owned(),
            versions: (1, 1),
            error: Box::new(RemoteError::new(code, "why")),
        }
    }

    fn resolve() -> ClientError {
        ClientError::Resolve {
            target: "nowhere:1".to_owned(),
            source: Some(std::io::Error::other("no such name")),
        }
    }

    /// Which of the judgements hold: timeout, auth, retryable, outcome unknown.
    fn judged(error: &ClientError) -> String {
        [
            (error.is_timeout(), 't'),
            (error.is_auth(), 'a'),
            (error.is_retryable(), 'r'),
            (error.is_outcome_unknown(), 'u'),
        ]
        .iter()
        .filter_map(|(holds, letter)| holds.then_some(*letter))
        .collect()
    }

    #[test]
    fn every_error_is_judged() {
        use ErrorCode as Code;
        use ErrorKind as Kind;

        let not_connected = ClientError::NotConnected {
            operation: "process stop",
            after: Duration::from_secs(1),
        };
        let new_incarnation = || ClientError::NewIncarnation {
            old: [1; 16],
            new: [2; 16],
            lost: "all".to_owned(),
        };
        let too_large = ClientError::MessageTooLarge {
            length: 2,
            limit: 1,
            by: MessageLimit::Capacity,
        };
        let unknown = ClientError::OutcomeUnknown {
            error: Box::new(RemoteError::new(Code::OutcomeUnknown, "why")),
            operation: "process stop",
            request: 7,
        };
        for (error, kind, judgement) in [
            (resolve(), Kind::Resolve, ""),
            (ClientError::NoRuntime, Kind::Local, ""),
            (refused(Code::ResourceExhausted), Kind::Refused, "r"),
            (refused(Code::Unauthenticated), Kind::Refused, "a"),
            (refused(Code::Unsupported), Kind::Refused, ""),
            (remote(Code::NotFound), Kind::Remote, ""),
            (remote(Code::PermissionDenied), Kind::Remote, "a"),
            (remote(Code::DeadlineExceeded), Kind::Remote, "t"),
            (remote(Code::Unavailable), Kind::Remote, "r"),
            (unknown, Kind::OutcomeUnknown, "u"),
            (closed(CloseReason::Lost, false), Kind::Closed, "r"),
            (closed(CloseReason::Lost, true), Kind::Closed, "u"),
            (closed(peer(Code::Unavailable), false), Kind::Closed, "r"),
            (
                closed(peer(Code::Unauthenticated), false),
                Kind::Closed,
                "a",
            ),
            (closed(peer(Code::Protocol), false), Kind::Closed, ""),
            (closed(CloseReason::Legacy, false), Kind::Closed, ""),
            (expired(false), Kind::Expired, "tr"),
            (expired(true), Kind::Expired, "tu"),
            (not_connected, Kind::Unreachable, "tr"),
            (
                gave_up(refused(Code::ResourceExhausted), false),
                Kind::Refused,
                "r",
            ),
            (
                gave_up(refused(Code::ResourceExhausted), true),
                Kind::Refused,
                "u",
            ),
            (
                gave_up(refused(Code::Unauthenticated), false),
                Kind::Refused,
                "a",
            ),
            (new_incarnation(), Kind::NewIncarnation, ""),
            (
                publication(2..2, remote(Code::Unavailable)),
                Kind::Remote,
                "r",
            ),
            (
                publication(2..4, remote(Code::Unavailable)),
                Kind::Remote,
                "u",
            ),
            (
                publication(0..1, new_incarnation()),
                Kind::NewIncarnation,
                "u",
            ),
            (ClientError::PublisherClosed, Kind::Closed, ""),
            (ClientError::Draining, Kind::Closed, "r"),
            (ClientError::EmptyMessage, Kind::InvalidArgument, ""),
            (too_large, Kind::InvalidArgument, ""),
            (ClientError::Exhausted { limit: 1 }, Kind::Exhausted, "r"),
            (ClientError::Busy { limit: 1 }, Kind::Exhausted, "r"),
            (ClientError::BacklogFull { limit: 1 }, Kind::Exhausted, "r"),
            (ClientError::IdsExhausted, Kind::Exhausted, "r"),
        ] {
            assert_eq!(error.kind(), kind, "{error:?}");
            assert_eq!(judged(&error), judgement, "{error:?}");
            assert!(!error.to_string().is_empty());
        }
    }

    #[test]
    fn errors_name_the_request() {
        let argument = InvalidArgument {
            field: "target",
            problem: "it is empty".to_owned(),
            limit: None,
        };
        let unreadable = ClientError::Protocol {
            operation: "process stop",
            request: 7,
            source: None,
        };
        for (error, request, code) in [
            (
                remote(ErrorCode::NotFound),
                Some(7),
                Some(ErrorCode::NotFound),
            ),
            (expired(true), Some(7), None),
            (unreadable, Some(7), None),
            (closed(CloseReason::Silent, true), Some(7), None),
            (
                closed(peer(ErrorCode::Internal), true),
                Some(7),
                Some(ErrorCode::Internal),
            ),
            (gave_up(resolve(), true), Some(7), None),
            (
                publication(0..1, remote(ErrorCode::NotFound)),
                Some(7),
                Some(ErrorCode::NotFound),
            ),
            (argument.into(), None, None),
        ] {
            let operation = request.map(|_| "process stop");
            assert_eq!(error.operation(), operation, "{error:?}");
            assert_eq!(error.request_id(), request, "{error:?}");
            assert_eq!(error.code(), code, "{error:?}");
            assert_eq!(error.remote().map(|error| error.code), code);
        }
        let error = remote(ErrorCode::NotFound);
        assert_eq!(error.remote().unwrap().field.as_deref(), Some("target"));
    }

    /// A text that holds another error's does not have that error as its source: programs that print the chain would
    /// say it twice.
    #[test]
    fn sources_go_on_where_the_text_ends() {
        let gave_up = gave_up(resolve(), false);
        let text = gave_up.to_string();
        assert!(text.contains("cannot look up nowhere:1"), "{text}");
        let publication = publication(0..1, gave_up);
        for error in [&publication, &resolve()] {
            let source = error.source().expect("a source").to_string();
            assert_eq!(source, "no such name", "{error:?}");
        }
    }
}
