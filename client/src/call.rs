//! Requests: sent, held while they wait, sent again on another connection, given up when nobody waits any more.

use std::{
    sync::{Arc, atomic::AtomicU64, atomic::Ordering},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use selium_remote_client_protocol::{
    ErrorCode, RemoteError, RequestId, Weight,
    client::{RequestError, StreamKind},
    fields::FieldError,
    ops::op,
};
use tracing::{Instrument as _, Span};

use crate::{
    ClientError, InvalidArgument,
    board::{Board, Connection, MAX_WAITERS, Unconnected},
    closed::Asked,
    session::{Arrival, MAX_PINGS, MAX_WAITING_BYTES, Manner, Outcome, Session, Unsent},
    spans::{self, About},
};

/// What all clones of a client share. Its connections come and go; the numbers count for all of them.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) board: Arc<Board>,
    /// Changing requests: each has a number of its own in the session.
    tokens: AtomicU64,
    /// Publications that were begun: each has a number of its own in the session.
    publications: AtomicU64,
}

impl Drop for Inner {
    fn drop(&mut self) {
        // The connection says goodbye when it is dropped.
        drop(self.board.close());
    }
}

/// How something is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ask {
    pub(crate) changing: bool,
    pub(crate) stream: StreamKind,
    pub(crate) weight: Option<Weight>,
    pub(crate) timeout: Duration,
}

impl Ask {
    pub(crate) fn new(changing: bool, timeout: Duration) -> Self {
        Self {
            changing,
            stream: StreamKind::None,
            weight: None,
            timeout,
        }
    }

    pub(crate) fn stream(mut self, stream: StreamKind, weight: Option<Weight>) -> Self {
        self.stream = stream;
        self.weight = weight;
        self
    }
}

/// What a stream that is gone on with is behind.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Behind {
    /// The connection that it was lost with.
    pub(crate) connection: u64,
    /// The run of the server that knows it.
    pub(crate) incarnation: [u8; 16],
}

/// A request or a stream that is given up when this is dropped, unless it is over.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) inner: Arc<Inner>,
    pub(crate) connection: Arc<Connection>,
    id: RequestId,
    over: bool,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.abandon();
    }
}

impl Held {
    /// What arrives next on the stream.
    pub(crate) fn poll_arrival(&mut self, cx: &mut Context<'_>) -> Poll<Arrival> {
        let id = self.id;
        let link = self.connection.link();
        let polled = link.with(|session, _| session.poll_arrival(id, cx));
        self.over = matches!(polled, Poll::Ready(Arrival::End(_) | Arrival::Closed));
        polled
    }

    /// Does something with the session.
    pub(crate) fn with<T>(&self, change: impl FnOnce(&mut Session, RequestId) -> T) -> T {
        let link = self.connection.link();
        link.with(|session, _| change(session, self.id))
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

    /// Whether a stream whose connection ended may go on with another one.
    pub(crate) fn lasts(&self) -> bool {
        self.inner.board.lasts(&self.connection)
    }

    /// Where such a stream goes on.
    pub(crate) fn behind(&self) -> Behind {
        Behind {
            connection: self.connection.number,
            incarnation: self.connection.server.incarnation,
        }
    }

    /// The error of a stream whose connection ended.
    pub(crate) fn closed(&self) -> ClientError {
        self.connection.closed(None)
    }

    /// Reads the answer to a request.
    pub(crate) fn read<T>(
        &self,
        op: u64,
        body: &Bytes,
        decode: impl FnOnce(&[u8]) -> Result<T, FieldError>,
    ) -> Result<T, ClientError> {
        decode(body).map_err(|source| self.unreadable(op, Some(source)))
    }

    /// The error of an answer that cannot be read, or makes no sense.
    pub(crate) fn unreadable(&self, op: u64, source: Option<FieldError>) -> ClientError {
        ClientError::Protocol {
            operation: op::name(op),
            request: self.id.get(),
            source,
        }
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
    pub(crate) fn new(board: Arc<Board>) -> Self {
        Self {
            board,
            tokens: AtomicU64::new(1),
            publications: AtomicU64::new(1),
        }
    }

    /// The number of a new publication.
    pub(crate) fn publication(&self) -> u64 {
        self.publications.fetch_add(1, Ordering::Relaxed)
    }

    /// Sends a request and waits for its answer. With a stream, what is answered holds it.
    ///
    /// When the connection is lost meanwhile, the request is sent again on the next one: with the same token, and saying
    /// so, if it changes something.
    pub(crate) async fn call<R: About>(
        self: &Arc<Self>,
        request: &R,
        ask: Ask,
    ) -> Result<(Bytes, Held), ClientError> {
        let began = Some(Instant::now());
        self.send(request, ask, began, None).await
    }

    /// As [`Inner::call`], for a stream that was lost: however long it takes until there is a connection again.
    pub(crate) async fn resume<R: About>(
        self: &Arc<Self>,
        request: &R,
        ask: Ask,
        behind: Behind,
    ) -> Result<(Bytes, Held), ClientError> {
        self.send(request, ask, None, Some(behind)).await
    }

    async fn send<R: About>(
        self: &Arc<Self>,
        request: &R,
        ask: Ask,
        began: Option<Instant>,
        behind: Option<Behind>,
    ) -> Result<(Bytes, Held), ClientError> {
        let span = spans::call(request);
        let sending = self.sending(request, ask, began, behind, &span);
        sending.instrument(span.clone()).await
    }

    async fn sending<R: About>(
        self: &Arc<Self>,
        request: &R,
        ask: Ask,
        began: Option<Instant>,
        behind: Option<Behind>,
        span: &Span,
    ) -> Result<(Bytes, Held), ClientError> {
        let operation = op::name(R::OP);
        let Ask {
            changing, timeout, ..
        } = ask;
        let token = changing.then(|| self.tokens.fetch_add(1, Ordering::Relaxed));
        let deadline = began.map(|began| began + timeout);
        // The request as it was sent last.
        let mut sent = None;
        let mut number = behind.map_or(0, |behind| behind.connection);
        loop {
            let asked = Asked {
                operation,
                request: sent,
                changing: changing && sent.is_some(),
            };
            let waited = self.board.connected(number, deadline).await;
            let connection = waited.map_err(|error| match error {
                Unconnected::Late if sent.is_some() => expired(asked, timeout),
                error => unconnected(error, asked, timeout),
            })?;
            number = connection.number;
            if let Some(behind) = behind
                && behind.incarnation != connection.server.incarnation
            {
                return Err(ClientError::NewIncarnation {
                    old: behind.incarnation,
                    new: connection.server.incarnation,
                    lost: String::new(),
                });
            }
            // A request that had nothing to wait for has all of its time.
            let elapsed = began.map_or(Duration::ZERO, |began| began.elapsed());
            let left = match elapsed < Duration::from_millis(1) {
                true => timeout,
                false => timeout.saturating_sub(elapsed),
            };
            let manner = Manner {
                token,
                retry: sent.is_some() && changing,
                stream: ask.stream,
                weight: ask.weight,
                timeout: left,
            };
            let link = connection.link();
            let called = link.with(|session, now| session.call(now, request, manner));
            let (id, answer) = match called {
                Ok(called) => called,
                Err(Unsent::Core(RequestError::NotOpen)) if self.board.lasts(&connection) => {
                    continue;
                }
                // Another connection may be to a server that does not drain.
                Err(Unsent::Core(RequestError::Draining))
                    if behind.is_some() && self.board.is_enabled() =>
                {
                    continue;
                }
                Err(error) => return Err(unsent(&connection, asked, error)),
            };
            sent = Some(id.get());
            spans::sent(span, number, id.get());
            let mut held = Held {
                inner: Arc::clone(self),
                connection,
                id,
                over: false,
            };
            let outcome = answer.await.unwrap_or(Outcome::Closed);
            held.over = ask.stream == StreamKind::None || !matches!(outcome, Outcome::Answer(_));
            tracing::trace!(outcome = outcome.name(), "over");
            let asked = Asked {
                operation,
                request: sent,
                changing,
            };
            match outcome {
                Outcome::Answer(body) => return Ok((body, held)),
                Outcome::Error(error) if error.code == ErrorCode::OutcomeUnknown => {
                    return Err(ClientError::OutcomeUnknown {
                        error: Box::new(error),
                        operation,
                        request: id.get(),
                    });
                }
                Outcome::Error(error) => return Err(held.remote(error, operation)),
                Outcome::Expired => return Err(expired(asked, timeout)),
                Outcome::Closed if held.lasts() => {}
                Outcome::Closed => return Err(held.connection.closed(Some(asked))),
            }
        }
    }

    /// The time to the server and back.
    pub(crate) async fn ping(&self, timeout: Duration) -> Result<Duration, ClientError> {
        let asked = Asked {
            operation: "ping",
            request: None,
            changing: false,
        };
        let deadline = Instant::now() + timeout;
        let mut number = 0;
        loop {
            let waited = self.board.connected(number, Some(deadline)).await;
            let connection = waited.map_err(|error| unconnected(error, asked, timeout))?;
            number = connection.number;
            let left = deadline.saturating_duration_since(Instant::now());
            let link = connection.link();
            let Some(answer) = link.with(|session, now| session.ping(now, left)) else {
                return Err(ClientError::Exhausted { limit: MAX_PINGS });
            };
            match answer.await {
                Ok(Outcome::Answer(round_trip)) => return Ok(round_trip),
                Ok(Outcome::Expired) => return Err(expired(asked, timeout)),
                _ if self.board.lasts(&connection) => {}
                _ => return Err(connection.closed(Some(asked))),
            }
        }
    }
}

fn expired(asked: Asked, after: Duration) -> ClientError {
    ClientError::Expired {
        operation: asked.operation,
        changing: asked.changing,
        after,
        request: asked.request,
    }
}

fn unconnected(error: Unconnected, asked: Asked, after: Duration) -> ClientError {
    match error {
        Unconnected::Late => ClientError::NotConnected {
            operation: asked.operation,
            after,
        },
        Unconnected::Crowded => ClientError::Exhausted { limit: MAX_WAITERS },
        Unconnected::Over(end) => end.error(Some(asked)),
    }
}

fn unsent(connection: &Connection, asked: Asked, error: Unsent) -> ClientError {
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
        _ => connection.closed(Some(asked)),
    }
}
