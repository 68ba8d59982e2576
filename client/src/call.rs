//! Requests: sent, held while they wait, given up when nobody waits any more.

use std::{sync::Arc, task::Context, task::Poll, time::Duration};

use bytes::Bytes;
use selium_remote_client_protocol::{
    CloseReason, ErrorCode, RemoteError, RequestId,
    client::RequestError,
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
        if !self.over {
            self.link().with(|session, _| session.abandon(self.id));
        }
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

    /// The error of a stream whose connection ended.
    pub(crate) fn closed(&self) -> ClientError {
        self.inner.closed(false)
    }

    pub(crate) fn id(&self) -> RequestId {
        self.id
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
        held.over = !manner.stream || !matches!(outcome, Outcome::Answer(_));
        let operation = op::name(R::OP);
        match outcome {
            Outcome::Answer(body) => Ok((body, held)),
            Outcome::Error(error) => Err(ClientError::Remote {
                error: Box::new(error),
                operation,
                request: id.get(),
            }),
            Outcome::Expired => Err(ClientError::Expired {
                operation,
                changing: manner.changing,
                after: manner.timeout,
            }),
            Outcome::Closed => Err(self.closed(manner.changing)),
        }
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
