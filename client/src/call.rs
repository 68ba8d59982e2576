//! Requests: sent, held while they wait, given up when nobody waits any more.

use std::{
    sync::{Arc, atomic::AtomicU64, atomic::Ordering},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use selium_remote_client_protocol::{
    CloseReason, ErrorCode, RemoteError, RequestId,
    client::{RequestError, StreamKind},
    ops::{Request, op},
};

use crate::{
    ClientError, InvalidArgument, Server,
    failure::Closed,
    link::Link,
    session::{Arrival, MAX_WAITING_BYTES, Manner, Outcome, Session, Unsent},
};

/// A connection that says goodbye when nobody uses it any more.
#[derive(Debug)]
pub(crate) struct Opened(pub(crate) Link<Session>);

impl Drop for Opened {
    fn drop(&mut self) {
        self.0.with(|session, _| session.close());
    }
}

/// What all clones of a client share.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) opened: Opened,
    pub(crate) server: Server,
    pub(crate) request_timeout: Duration,
    /// Publications that were begun: each has a number of its own in the session.
    pub(crate) publications: AtomicU64,
}

/// A request or a stream that is given up when this is dropped, unless it is over.
#[derive(Debug)]
pub(crate) struct Held {
    inner: Arc<Inner>,
    id: RequestId,
    over: bool,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.abandon();
    }
}

impl Held {
    fn link(&self) -> &Link<Session> {
        &self.inner.opened.0
    }

    /// What arrives next on the stream.
    pub(crate) fn poll_arrival(&mut self, cx: &mut Context<'_>) -> Poll<Arrival> {
        let id = self.id;
        let polled = self.link().with(|session, _| session.poll_arrival(id, cx));
        self.over = matches!(polled, Poll::Ready(Arrival::End(_) | Arrival::Closed));
        polled
    }

    /// Does something with the session.
    pub(crate) fn with<T>(&self, change: impl FnOnce(&mut Session, RequestId) -> T) -> T {
        self.link().with(|session, _| change(session, self.id))
    }

    /// Gives it up, unless it is over.
    pub(crate) fn abandon(&mut self) {
        if !std::mem::replace(&mut self.over, true) {
            self.with(Session::abandon);
        }
    }

    /// Nothing is left to be given up.
    pub(crate) fn over(&mut self) {
        self.over = true;
    }

    /// The error of a stream whose connection ended.
    pub(crate) fn closed(&self) -> ClientError {
        self.inner.closed(false)
    }

    /// The error that the server ended the stream with.
    pub(crate) fn remote(&self, error: RemoteError, operation: &'static str) -> ClientError {
        ClientError::Remote {
            error: Box::new(error),
            operation,
            request: self.id.get(),
        }
    }
}

impl Inner {
    /// Sends a request and waits for its answer. With a stream, what is answered holds it.
    pub(crate) async fn call<R: Request>(
        self: &Arc<Self>,
        request: &R,
        manner: Manner,
    ) -> Result<(Bytes, Held), ClientError> {
        let link = &self.opened.0;
        let (id, answer) = link
            .with(|session, now| session.call(now, request, manner))
            .map_err(|error| self.unsent(error))?;
        let mut held = Held {
            inner: Arc::clone(self),
            id,
            over: false,
        };
        let outcome = answer.await.unwrap_or(Outcome::Closed);
        held.over = manner.stream == StreamKind::None || !matches!(outcome, Outcome::Answer(_));
        let operation = op::name(R::OP);
        match outcome {
            Outcome::Answer(body) => Ok((body, held)),
            Outcome::Error(error) => Err(held.remote(error, operation)),
            Outcome::Expired => Err(ClientError::Expired {
                operation,
                changing: manner.changing,
                after: manner.timeout,
            }),
            Outcome::Closed => Err(self.closed(manner.changing)),
        }
    }

    /// The number of a new publication.
    pub(crate) fn publication(&self) -> u64 {
        self.publications.fetch_add(1, Ordering::Relaxed)
    }

    /// Why the connection is over.
    pub(crate) fn closed(&self, changing: bool) -> ClientError {
        closed(&self.opened.0, changing)
    }

    fn unsent(&self, error: Unsent) -> ClientError {
        let error = match error {
            Unsent::Busy => {
                return ClientError::Busy {
                    limit: MAX_WAITING_BYTES,
                };
            }
            Unsent::Core(error) => error,
        };
        match error {
            RequestError::Draining => ClientError::Draining,
            RequestError::TooLarge(limit) => ClientError::InvalidArgument(InvalidArgument {
                field: "request",
                problem: format!("it is longer than the server's limit of {limit} bytes"),
                limit: Some(limit),
            }),
            RequestError::TooMany(limit) => ClientError::Exhausted { limit },
            RequestError::Busy(limit) => ClientError::Busy { limit },
            RequestError::IdsExhausted => ClientError::IdsExhausted,
            _ => self.closed(false),
        }
    }
}

/// Why the connection is over.
pub(crate) fn closed(link: &Link<Session>, changing: bool) -> ClientError {
    let reason = link.with(|session, _| session.reason().cloned());
    let reason = reason.unwrap_or_else(|| {
        // Only if the session was dropped from under the request.
        CloseReason::Local(RemoteError::new(ErrorCode::Cancelled, ""))
    });
    ClientError::Closed(Box::new(Closed::new(reason, link.loss(), changing)))
}
