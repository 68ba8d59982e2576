//! The client's state machine (PROTOCOL.md, "A connection's life" and "Requests").
//!
//! ```text
//!              hello accepted                 goodbye, fault, silence, loss
//!   Greeting ----------------->  Open  --------------------------------------> Closed
//!       \_______________________________________________________________________/
//!                     refused, another protocol, version 0.3.3
//! ```
//!
//! Drive it as the crate's documentation says. Every request ends in exactly one of [`ClientEvent::Response`] and
//! [`ClientEvent::Expired`], unless it is abandoned or the connection closes; [`ClientEvent::Closed`] ends all that
//! are left.

mod config;
mod event;
mod heartbeat;
mod input;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;

use self::heartbeat::Heartbeat;
pub use self::{
    config::{ClientConfig, RequestError, RequestOptions, StreamKind},
    event::ClientEvent,
};
use crate::{
    ErrorCode, Payload, RemoteError, Time,
    envelope::{ClientEnvelope, Envelope, SERVER_MAGIC, ServerEnvelope, VERSIONS},
    frame::Frame,
    limits::Weight,
    mux::{Assembly, CloseReason, Head, Mux, RequestId, SendError, Transmit, goodbye},
};

#[derive(Debug)]
enum Phase {
    Greeting { seen: Vec<u8> },
    Open,
    Closed,
}

/// A request that was sent and not finished.
///
/// ```text
///   Waiting ---- first frame of a long answer ----> Answering
///      |  \_______________ answer ________________/    |
///      v                                               v
///   (gone, or Streaming when it opened a stream and was not cancelled)
/// ```
#[derive(Debug)]
enum Exchange {
    Waiting,
    Answering {
        code: u64,
        assembly: Assembly,
    },
    Streaming {
        /// Whether this side has ended its half.
        finished: bool,
        /// The sequence number of the last message that was taken.
        last: Option<u64>,
    },
}

#[derive(Debug)]
struct Sent {
    exchange: Exchange,
    stream: StreamKind,
    deadline: Option<Time>,
    /// Whether the server was told to cancel it: if it opens a stream nevertheless, that is over.
    cancelled: bool,
}

impl Sent {
    fn is_streaming(&self) -> bool {
        matches!(self.exchange, Exchange::Streaming { .. })
    }
}

/// One connection, seen from the client.
#[derive(Debug)]
pub struct ClientConnection {
    mux: Mux,
    phase: Phase,
    opening: Option<Bytes>,
    events: VecDeque<ClientEvent>,
    sent: BTreeMap<u64, Sent>,
    /// Deadlines of the requests that were not answered.
    deadlines: BTreeSet<(Time, u64)>,
    /// How many of `sent` are open streams.
    streams: usize,
    last: RequestId,
    max_requests: usize,
    max_request: usize,
    /// Whether nothing new is requested: one side drains.
    draining: bool,
    /// Whether the server does.
    drained: bool,
    heartbeat: Heartbeat,
}

impl ClientConnection {
    /// A new connection: its first transmit is the preface with the hello.
    #[must_use]
    pub fn new(config: ClientConfig) -> Self {
        let envelope = ClientEnvelope {
            versions: VERSIONS,
            hello: config.hello.encode().into(),
        };
        let heartbeat = Heartbeat::new(&config);
        Self {
            mux: Mux::new(config.limits),
            phase: Phase::Greeting { seen: Vec::new() },
            opening: Some(envelope.encode()),
            events: VecDeque::new(),
            sent: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            streams: 0,
            last: RequestId(0),
            max_requests: config.max_requests,
            max_request: 0,
            draining: false,
            drained: false,
            heartbeat,
        }
    }

    /// Takes bytes from the transport.
    pub fn handle_input(&mut self, now: Time, bytes: Bytes) {
        match &mut self.phase {
            Phase::Closed => return,
            Phase::Open => self.mux.push(bytes),
            Phase::Greeting { seen } => {
                seen.extend_from_slice(&bytes);
                let answer = ServerEnvelope::decode(seen);
                let rest = |end: usize| Bytes::copy_from_slice(seen.get(end..).unwrap_or_default());
                match answer {
                    Envelope::Incomplete => return,
                    Envelope::Legacy => return self.closed(CloseReason::Legacy),
                    Envelope::Foreign => return self.closed(CloseReason::Foreign),
                    Envelope::Complete(ServerEnvelope::Refused { versions, error }, _) => {
                        return self.closed(CloseReason::Refused { versions, error });
                    }
                    Envelope::Complete(ServerEnvelope::Accepted { version, hello }, end) => {
                        let rest = rest(end);
                        if let Err(reason) = self.greeted(now, version, &hello) {
                            return self.closed(reason);
                        }
                        self.mux.push(rest);
                    }
                }
            }
        }
        if let Err(reason) = self.read(now) {
            self.closed(reason);
        }
        self.mux.measure_if_due(now);
        self.check_queue();
    }

    /// The transport ended.
    pub fn handle_eof(&mut self, _now: Time) {
        let reason = match &self.phase {
            Phase::Greeting { seen } if seen.iter().zip(&SERVER_MAGIC).any(|(a, b)| a != b) => {
                CloseReason::Foreign
            }
            _ => CloseReason::Lost,
        };
        self.closed(reason);
    }

    /// Takes the passing of time.
    pub fn handle_timeout(&mut self, now: Time) {
        if !matches!(self.phase, Phase::Open) {
            return;
        }
        while let Some((deadline, id)) = self.deadlines.first().copied()
            && deadline <= now
        {
            self.deadlines.pop_first();
            self.abandon(RequestId(id));
            self.events
                .push_back(ClientEvent::Expired { id: RequestId(id) });
        }
        if self.heartbeat.is_silent(now) {
            self.closed(CloseReason::Silent);
        } else if self.heartbeat.wants_ping(now) {
            self.heartbeat.schedule(now);
            self.ping(now);
        }
        self.check_queue();
    }

    /// The next event.
    #[must_use]
    pub fn poll_event(&mut self) -> Option<ClientEvent> {
        if let Some(id) = self.mux.out.roomy.pop() {
            return Some(ClientEvent::Room { id: RequestId(id) });
        }
        self.events.pop_front()
    }

    /// The next write, of at most `max` bytes and at most [`crate::limits::MAX_WRITE`], but of one whole frame at least.
    #[must_use]
    pub fn poll_transmit(&mut self, max: usize) -> Option<Transmit> {
        if let Some(opening) = self.opening.take() {
            return Some(Transmit {
                parts: vec![opening],
            });
        }
        self.mux.transmit(max)
    }

    /// When [`ClientConnection::handle_timeout`] is due.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        if !matches!(self.phase, Phase::Open) {
            return None;
        }
        let deadline = self.deadlines.first().map(|(deadline, _)| *deadline);
        deadline.into_iter().chain(self.heartbeat.due()).min()
    }

    /// Bytes that it holds: what waits to be sent, and what has arrived and is not complete.
    #[must_use]
    pub fn held(&self) -> usize {
        self.mux.held()
    }

    /// Whether the connection is over.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        matches!(self.phase, Phase::Closed)
    }

    /// Sends a request.
    ///
    /// # Errors
    /// See [`RequestError`]; nothing was sent then.
    pub fn request(
        &mut self,
        op: u64,
        body: impl Into<Payload>,
        options: RequestOptions,
    ) -> Result<RequestId, RequestError> {
        if !matches!(self.phase, Phase::Open) {
            return Err(RequestError::NotOpen);
        }
        if self.draining {
            return Err(RequestError::Draining);
        }
        let body = body.into();
        if body.len() > self.max_request {
            return Err(RequestError::TooLarge(self.max_request));
        }
        if self.sent.len().saturating_sub(self.streams) >= self.max_requests {
            return Err(RequestError::TooMany(self.max_requests));
        }
        let limit = self.mux.limits.control_queue;
        if !self.mux.has_room_for(body.len()) {
            return Err(RequestError::Busy(limit));
        }
        let id = self.last.next().ok_or(RequestError::IdsExhausted)?;
        self.last = id;
        self.deadlines
            .extend(options.deadline.map(|deadline| (deadline, id.0)));
        self.sent.insert(
            id.0,
            Sent {
                exchange: Exchange::Waiting,
                stream: options.stream,
                deadline: options.deadline,
                cancelled: false,
            },
        );
        self.mux.control(id.0, Head::Request { op }, body);
        self.check_queue();
        Ok(id)
    }

    /// Asks the server to cancel a request; its answer still comes and says what became of it. A stream ends, also one
    /// that opens before the server hears of this.
    pub fn cancel(&mut self, id: RequestId) {
        if self.mux.out.take_back(id.0) {
            self.forget(id.0);
            let error = RemoteError::new(ErrorCode::Cancelled, "cancelled before it was sent");
            let result = Err(error);
            self.events.push_back(ClientEvent::Response { id, result });
            return;
        }
        match self.sent.get_mut(&id.0) {
            Some(sent) if sent.is_streaming() => {
                self.abandon(id);
                self.stream_cancelled(id);
            }
            Some(sent) if !sent.cancelled => {
                sent.cancelled = true;
                self.mux.out.urgent(&Frame::Cancel { id: id.0 });
            }
            _ => {}
        }
    }

    /// Gives a request or stream up: the server is told, nothing more is heard of it.
    pub fn abandon(&mut self, id: RequestId) {
        let Some(mut sent) = self.forget(id.0) else {
            // An ended stream may have unread messages.
            self.mux.inbox.remove(id.0);
            if !self.mux.is_closed() {
                self.mux.credit(id.0);
            }
            return;
        };
        if let Exchange::Answering { assembly, .. } = &mut sent.exchange {
            self.mux.inbox.abandon(assembly);
        }
        if self.mux.out.take_back(id.0) {
            return; // The server has not heard of it.
        }
        self.mux.out.remove(id.0);
        self.mux.inbox.remove(id.0);
        if !self.mux.is_closed() {
            self.mux.out.urgent(&Frame::Cancel { id: id.0 });
            self.mux.credit(id.0);
        }
    }

    /// Gives back the credit of a message or gap that was read.
    pub fn consume(&mut self, id: RequestId, cost: usize) {
        if self.mux.is_closed() {
            return;
        }
        self.mux.inbox.consume(id.0, cost);
        self.mux.credit(id.0);
    }

    /// Publishes a message on a stream to the server.
    ///
    /// # Errors
    /// See [`SendError`]; nothing was queued then. After [`SendError::Full`] a [`ClientEvent::Room`] comes.
    pub fn send(
        &mut self,
        id: RequestId,
        seq: u64,
        payload: impl Into<Payload>,
    ) -> Result<(), SendError> {
        let Some(Sent {
            exchange:
                Exchange::Streaming {
                    finished: false,
                    last,
                },
            stream: StreamKind::ToServer,
            ..
        }) = self.sent.get_mut(&id.0)
        else {
            return Err(SendError::NotOpen);
        };
        if last.is_some_and(|last| seq <= last) {
            return Err(SendError::Order);
        }
        self.mux.send(id.0, seq, payload.into())?;
        *last = Some(seq);
        Ok(())
    }

    /// Sets how much of the connection a stream to the server gets beside others.
    pub fn set_weight(&mut self, id: RequestId, weight: Weight) {
        self.mux.out.set_weight(id.0, weight);
    }

    /// Ends a stream to the server at once, with a reason; what was not sent is dropped. Its end is a
    /// [`ClientEvent::Ended`] with the same reason.
    pub fn reset(&mut self, id: RequestId, error: RemoteError) {
        let is_open = self.sent.get(&id.0).is_some_and(Sent::is_streaming);
        if !is_open || self.forget(id.0).is_none() {
            return;
        }
        self.mux.out.remove(id.0);
        self.mux.inbox.remove(id.0);
        self.mux.out.urgent(&Frame::Reset {
            id: id.0,
            error: error.clone(),
        });
        self.mux.credit(id.0);
        let error = Some(error);
        self.events.push_back(ClientEvent::Ended { id, error });
        self.check_queue();
    }

    /// Makes no new requests from now on, and says so. What runs goes on.
    pub fn drain(&mut self) {
        if matches!(self.phase, Phase::Open) && !self.draining {
            self.draining = true;
            self.mux.out.urgent(&Frame::Drain);
        }
    }

    /// Ends this side's half of a stream to the server, behind what was sent.
    pub fn finish(&mut self, id: RequestId) {
        if let Some(Sent {
            exchange: Exchange::Streaming { finished, .. },
            stream: StreamKind::ToServer,
            ..
        }) = self.sent.get_mut(&id.0)
            && !core::mem::replace(finished, true)
        {
            self.mux.out.end(id.0, None);
        }
    }

    /// Pings the server; the answer is a [`ClientEvent::Pong`]. Does nothing while a ping is unanswered, or while
    /// the connection is not open.
    pub fn ping(&mut self, now: Time) {
        if !matches!(self.phase, Phase::Open) {
            return;
        }
        if let Some(ping) = self.heartbeat.ping(now) {
            self.mux.out.urgent(&ping);
        }
    }

    /// Closes the connection with a goodbye.
    pub fn close(&mut self) {
        self.closed(CloseReason::Local(RemoteError::new(
            ErrorCode::Cancelled,
            "the client closed the connection",
        )));
    }

    fn forget(&mut self, id: u64) -> Option<Sent> {
        let sent = self.sent.remove(&id)?;
        self.met(sent.deadline, id);
        self.streams = self
            .streams
            .saturating_sub(usize::from(sent.is_streaming()));
        Some(sent)
    }

    /// A deadline that does not count any more.
    fn met(&mut self, deadline: Option<Time>, id: u64) {
        if let Some(deadline) = deadline {
            self.deadlines.remove(&(deadline, id));
        }
    }

    fn stream_cancelled(&mut self, id: RequestId) {
        let error = RemoteError::new(ErrorCode::Cancelled, "the client cancelled the stream");
        let error = Some(error);
        self.events.push_back(ClientEvent::Ended { id, error });
    }

    fn check_queue(&mut self) {
        if self.mux.overflows() {
            let limit = self.mux.limits.control_queue;
            let message = "the server does not read what it is sent";
            let error = RemoteError::new(ErrorCode::ResourceExhausted, message);
            self.over(CloseReason::Local(error.with_limit(limit as u64)), true);
        }
    }

    fn closed(&mut self, reason: CloseReason) {
        let unread = matches!(reason, CloseReason::Peer(_));
        self.over(reason, unread);
    }

    fn over(&mut self, reason: CloseReason, unread: bool) {
        if self.is_closed() {
            return;
        }
        let greeted = matches!(self.phase, Phase::Open);
        self.phase = Phase::Closed;
        self.sent.clear();
        self.deadlines.clear();
        self.streams = 0;
        self.opening = None;
        let goodbye = goodbye(&reason).filter(|_| greeted);
        self.mux.close(goodbye, unread);
        self.events.push_back(ClientEvent::Closed(reason));
    }
}
