//! Connections that did not last: why, what became of the requests on them, and what to do.

use std::{error::Error, fmt, sync::Arc};

use selium_remote_client_protocol::{CloseReason, ops::op};

use crate::{
    ClientError,
    link::{Cause, ConnectionError, cause},
};

/// The request that an error is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    /// What was asked of the server.
    pub(crate) operation: &'static str,
    /// Its id on its connection, once it was sent.
    pub(crate) request: Option<u64>,
    /// Whether it changes something, and was sent.
    pub(crate) changing: bool,
}

/// What the error of a request ends with that may have changed something.
pub(crate) struct OutcomeUnknown(pub(crate) Option<&'static str>);

impl fmt::Display for OutcomeUnknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("outcome unknown: it may have happened; look with ")?;
        let is = |ops: &[u64]| ops.iter().any(|one| self.0 == Some(op::name(*one)));
        f.write_str(if is(&[op::PROCESS_START, op::PROCESS_STOP]) {
            "`selium ps --all`"
        } else if self.0.is_some() {
            "`selium channel ls`"
        } else {
            "`selium ps --all` or `selium channel ls`"
        })?;
        f.write_str(" before trying again")
    }
}

/// Why a connection is over, as the requests on it hear it. The source is what QUIC said, if it was QUIC's end.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Closed {
    /// Why, in terms of the protocol.
    pub reason: CloseReason,
    /// Whether a request that changes something was waiting for its answer: its outcome is unknown then.
    pub changing: bool,
    /// What was asked of the server, if it was a request that hears of it.
    pub operation: Option<&'static str>,
    /// The id of that request on the connection, once it was sent.
    pub request: Option<u64>,
    source: Option<ConnectionError>,
}

impl Closed {
    pub(crate) fn new(
        reason: CloseReason,
        source: Option<ConnectionError>,
        asked: Option<Asked>,
    ) -> Self {
        Self {
            reason,
            changing: asked.is_some_and(|asked| asked.changing),
            operation: asked.map(|asked| asked.operation),
            request: asked.and_then(|asked| asked.request),
            source,
        }
    }
}

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.reason {
            CloseReason::Peer(error) => write!(f, "the server closed the connection: {error}")?,
            CloseReason::Local(error) => write!(f, "the connection was closed here: {error}")?,
            CloseReason::Protocol(what) => write!(
                f,
                "the server broke the protocol ({what}): update the older of this client ({}) and the server's module",
                env!("CARGO_PKG_VERSION")
            )?,
            CloseReason::Silent => f.write_str(
                "nothing comes from the server any more: the network is down, the runtime was stopped, or its \
                 remote-client module hangs; connect again, and look into the log of the runtime",
            )?,
            CloseReason::Lost => f.write_str(match self.source.as_ref().map(cause) {
                Some(Cause::NoAnswer) => {
                    "the connection was lost, nothing comes from the server any more: check the network and whether \
                     the runtime still runs, then connect again"
                }
                Some(Cause::Reset) => {
                    "the connection was lost, the server was restarted: connect again; ids from before are void"
                }
                _ => {
                    "the connection was lost, the server ended it without a goodbye: check whether the runtime still \
                     runs, then connect again"
                }
            })?,
            other => other.fmt(f)?,
        }
        match self.changing {
            true => write!(f, "; {}", OutcomeUnknown(self.operation)),
            false => Ok(()),
        }
    }
}

impl Error for Closed {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_ref().map(|source| source as _)
    }
}

/// A connection was lost and is not made again ([`Reconnect`](crate::Reconnect)): there were enough attempts, or the error
/// is one that does not pass. The source is that of the last attempt's error, whose text is part of this one's.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct GaveUp {
    /// How many attempts were made.
    pub attempts: u32,
    /// Whether a request that changes something was waiting for its answer: its outcome is unknown then.
    pub changing: bool,
    /// What was asked of the server, if it was a request that hears of it.
    pub operation: Option<&'static str>,
    /// The id of that request on the connection that was lost, if it was sent.
    pub request: Option<u64>,
    /// Why the last attempt failed.
    pub error: Arc<ClientError>,
}

impl GaveUp {
    pub(crate) fn new(error: Arc<ClientError>, attempts: u32, asked: Option<Asked>) -> Self {
        Self {
            attempts,
            changing: asked.is_some_and(|asked| asked.changing),
            operation: asked.map(|asked| asked.operation),
            request: asked.and_then(|asked| asked.request),
            error,
        }
    }
}

impl fmt::Display for GaveUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the connection was lost and could not be made again ({} {}): {}",
            self.attempts,
            if self.attempts == 1 {
                "attempt"
            } else {
                "attempts"
            },
            self.error
        )?;
        match self.changing {
            true => write!(f, "; {}", OutcomeUnknown(self.operation)),
            false => Ok(()),
        }
    }
}

impl Error for GaveUp {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.error.source()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_outcome_names_where_to_look() {
        for (operation, list) in [
            (
                Some(op::name(op::PROCESS_START)),
                "with `selium ps --all` before",
            ),
            (
                Some(op::name(op::PROCESS_STOP)),
                "with `selium ps --all` before",
            ),
            (
                Some(op::name(op::CHANNEL_CREATE)),
                "with `selium channel ls` before",
            ),
            (
                Some(op::name(op::CHANNEL_DELETE)),
                "with `selium channel ls` before",
            ),
            (None, "with `selium ps --all` or `selium channel ls` before"),
        ] {
            let text = OutcomeUnknown(operation).to_string();
            assert!(text.contains(list), "{operation:?}: {text}");
        }
    }

    #[test]
    fn what_was_asked_is_told() {
        let asked = Asked {
            operation: op::name(op::CHANNEL_DELETE),
            request: Some(7),
            changing: true,
        };
        let closed = Closed::new(CloseReason::Silent, None, Some(asked));
        assert!(
            closed.to_string().contains("`selium channel ls`"),
            "{closed}"
        );
        let gave_up = GaveUp::new(Arc::new(ClientError::NoRuntime), 1, Some(asked));
        let text = gave_up.to_string();
        assert!(text.contains("(1 attempt): the client has to be"), "{text}");
        assert!(text.contains("`selium channel ls`"), "{text}");
        for (closed, changing) in [
            (
                Some(Asked {
                    changing: false,
                    ..asked
                }),
                false,
            ),
            (None, false),
        ] {
            let closed = Closed::new(CloseReason::Silent, None, closed);
            assert_eq!(closed.changing, changing);
            assert!(!closed.to_string().contains("outcome unknown"), "{closed}");
        }
    }
}
