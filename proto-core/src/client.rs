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

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use thiserror::Error;

use crate::{
    ErrorCode, Payload, RemoteError, Time,
    envelope::{ClientEnvelope, Envelope, ServerEnvelope, VERSIONS},
    frame::Frame,
    hello::{ClientHello, ServerHello},
    limits::{Limits, MESSAGE_OVERHEAD},
    mux::{Assembly, CloseReason, Head, Mux, RequestId, SendError, Transmit, cost, fault, goodbye},
};

/// How a client connection behaves.
#[derive(Clone, Debug)]
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
pub struct RequestOptions {
    /// The stream that it opens when it succeeds.
    pub stream: StreamKind,
    /// When to give up, if it was not answered.
    pub deadline: Option<Time>,
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

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClientEvent {
    /// The server's hello came: requests may be sent.
    Connected(ServerHello),
    /// A request was answered. If it opened a stream and succeeded, the stream is open now.
    Response {
        /// The request.
        id: RequestId,
        /// The answer's body, or the server's error.
        result: Result<Bytes, RemoteError>,
    },
    /// A request's deadline passed. It was cancelled; a late answer is dropped.
    Expired {
        /// The request.
        id: RequestId,
    },
    /// A stream message came. Give `cost` back with [`ClientConnection::consume`] once it was read.
    Message {
        /// The stream.
        id: RequestId,
        /// Its sequence number.
        seq: u64,
        /// Its bytes.
        payload: Payload,
        /// Its cost in credit.
        cost: usize,
    },
    /// Messages are missing here. Give `cost` back as for a message.
    Gap {
        /// The stream.
        id: RequestId,
        /// The sequence number of the next message.
        next: u64,
        /// How many are missing, when that is known.
        count: Option<u64>,
        /// Its cost in credit.
        cost: usize,
    },
    /// The server ended the stream.
    Ended {
        /// The stream.
        id: RequestId,
        /// Why, when it is not simply over.
        error: Option<RemoteError>,
    },
    /// The server took over published messages.
    Acknowledged {
        /// The stream.
        id: RequestId,
        /// Every message up to this sequence number.
        seq: u64,
        /// Whether they may have been dropped behind it.
        may_be_dropped: bool,
    },
    /// A stream whose queue was full has room.
    Room {
        /// The stream.
        id: RequestId,
    },
    /// A ping was answered.
    Pong {
        /// From the ping's queueing to its answer.
        round_trip: Duration,
    },
    /// The server takes no new requests.
    Draining,
    /// The connection is over. The last event.
    Closed(CloseReason),
}

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
///   (gone, or Streaming when it opened a stream)
/// ```
#[derive(Debug)]
enum Exchange {
    Waiting,
    Answering { code: u64, assembly: Assembly },
    Streaming,
}

#[derive(Debug)]
struct Sent {
    exchange: Exchange,
    stream: StreamKind,
    deadline: Option<Time>,
}

/// One connection, seen from the client.
#[derive(Debug)]
pub struct ClientConnection {
    mux: Mux,
    phase: Phase,
    opening: Option<Bytes>,
    events: VecDeque<ClientEvent>,
    sent: BTreeMap<u64, Sent>,
    last: RequestId,
    max_requests: usize,
    max_request: usize,
    draining: bool,
    heartbeat: Heartbeat,
}

#[derive(Debug)]
struct Heartbeat {
    interval: Option<Duration>,
    timeout: Duration,
    next: Option<Time>,
    sent: Option<(u64, Time)>,
    counter: u64,
}

impl ClientConnection {
    /// A new connection: its first transmit is the preface with the hello.
    #[must_use]
    pub fn new(config: ClientConfig) -> Self {
        let envelope = ClientEnvelope {
            versions: VERSIONS,
            hello: config.hello.encode().into(),
        };
        Self {
            mux: Mux::new(config.limits),
            phase: Phase::Greeting { seen: Vec::new() },
            opening: Some(envelope.encode()),
            events: VecDeque::new(),
            sent: BTreeMap::new(),
            last: RequestId(0),
            max_requests: config.max_requests,
            max_request: 0,
            draining: false,
            heartbeat: Heartbeat {
                interval: config.heartbeat,
                timeout: config.heartbeat_timeout,
                next: None,
                sent: None,
                counter: 0,
            },
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
        self.check_queue();
    }

    /// The transport ended.
    pub fn handle_eof(&mut self, _now: Time) {
        let reason = match &self.phase {
            Phase::Greeting { seen } if !seen.is_empty() => CloseReason::Foreign,
            _ => CloseReason::Lost,
        };
        self.closed(reason);
    }

    /// Takes the passing of time.
    pub fn handle_timeout(&mut self, now: Time) {
        if !matches!(self.phase, Phase::Open) {
            return;
        }
        let expired: Vec<u64> = self
            .sent
            .iter()
            .filter(|(_, sent)| {
                !matches!(sent.exchange, Exchange::Streaming)
                    && sent.deadline.is_some_and(|deadline| deadline <= now)
            })
            .map(|(id, _)| *id)
            .collect();
        for id in expired {
            self.abandon(RequestId(id));
            self.events
                .push_back(ClientEvent::Expired { id: RequestId(id) });
        }
        self.beat(now);
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

    /// The next write, of at most `max` bytes (and at most [`crate::limits::MAX_WRITE`]).
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
        let answer_due = self
            .heartbeat
            .sent
            .map(|(_, at)| at.saturating_add(self.heartbeat.timeout));
        self.sent
            .values()
            .filter(|sent| !matches!(sent.exchange, Exchange::Streaming))
            .filter_map(|sent| sent.deadline)
            .chain(self.heartbeat.next)
            .chain(answer_due)
            .min()
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
        if self.sent.len() >= self.max_requests {
            return Err(RequestError::TooMany(self.max_requests));
        }
        let limit = self.mux.limits.control_queue;
        if !self.mux.has_room_for(body.len()) {
            return Err(RequestError::Busy(limit));
        }
        let id = self.last.next().ok_or(RequestError::IdsExhausted)?;
        self.last = id;
        self.sent.insert(
            id.0,
            Sent {
                exchange: Exchange::Waiting,
                stream: options.stream,
                deadline: options.deadline,
            },
        );
        self.mux.control(id.0, Head::Request { op }, body);
        self.check_queue();
        Ok(id)
    }

    /// Asks the server to cancel a request; its answer still comes and says what became of it.
    pub fn cancel(&mut self, id: RequestId) {
        if self.mux.out.take_back(id.0) {
            self.sent.remove(&id.0);
            let error = RemoteError::new(ErrorCode::Cancelled, "cancelled before it was sent");
            let result = Err(error);
            self.events.push_back(ClientEvent::Response { id, result });
        } else if self.sent.contains_key(&id.0) && !self.mux.is_closed() {
            self.mux.out.urgent(&Frame::Cancel { id: id.0 });
        }
    }

    /// Gives a request or stream up: the server is told, nothing more is heard of it.
    pub fn abandon(&mut self, id: RequestId) {
        let Some(mut sent) = self.sent.remove(&id.0) else {
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
    /// See [`SendError`]; nothing was queued then.
    pub fn send(
        &mut self,
        id: RequestId,
        seq: u64,
        payload: impl Into<Payload>,
    ) -> Result<(), SendError> {
        match self.sent.get(&id.0) {
            Some(Sent {
                exchange: Exchange::Streaming,
                stream: StreamKind::ToServer,
                ..
            }) => self.mux.send(id.0, seq, payload.into()),
            _ => Err(SendError::NotOpen),
        }
    }

    /// Ends this side's half of a stream, behind what was sent.
    pub fn finish(&mut self, id: RequestId) {
        if self.sent.contains_key(&id.0) && !self.mux.is_closed() {
            self.mux.out.end(id.0, None);
        }
    }

    /// Pings the server; the answer is a [`ClientEvent::Pong`]. Does nothing while a ping is unanswered.
    pub fn ping(&mut self, now: Time) {
        if self.heartbeat.sent.is_some() || self.mux.is_closed() {
            return;
        }
        self.heartbeat.counter += 1;
        let token = self.heartbeat.counter;
        self.heartbeat.sent = Some((token, now));
        self.mux.out.urgent(&Frame::Ping(token.to_be_bytes()));
    }

    /// Closes the connection with a goodbye.
    pub fn close(&mut self) {
        self.closed(CloseReason::Local(RemoteError::new(
            ErrorCode::Cancelled,
            "the client closed the connection",
        )));
    }

    fn greeted(&mut self, now: Time, version: u16, hello: &[u8]) -> Result<(), CloseReason> {
        if version < VERSIONS.0 || version > VERSIONS.1 {
            return Err(CloseReason::Protocol(format!(
                "the server chose version {version}, which was not offered"
            )));
        }
        let hello = ServerHello::decode(hello)
            .map_err(|error| CloseReason::Protocol(format!("the server's hello: {error}")))?;
        self.mux.open(hello.limits);
        self.max_requests = self.max_requests.min(hello.max_requests.max(1));
        self.max_request = hello.max_request;
        self.phase = Phase::Open;
        self.heartbeat.next = self
            .heartbeat
            .interval
            .map(|interval| now.saturating_add(interval));
        self.events.push_back(ClientEvent::Connected(hello));
        Ok(())
    }

    fn read(&mut self, now: Time) -> Result<(), CloseReason> {
        while let Some(frame) = self.mux.next_frame()? {
            self.frame(now, frame)?;
        }
        Ok(())
    }

    fn frame(&mut self, now: Time, frame: Frame) -> Result<(), CloseReason> {
        match frame {
            Frame::Ping(token) => self.mux.out.urgent(&Frame::Pong(token)),
            Frame::Pong(token) => self.pong(now, u64::from_be_bytes(token)),
            Frame::Goodbye(error) => return Err(CloseReason::Peer(error)),
            Frame::Drain => {
                self.draining = true;
                self.events.push_back(ClientEvent::Draining);
            }
            Frame::Credit { id, limit } => self.mux.out.raise(id, limit),
            Frame::Response {
                id,
                code,
                total,
                chunk,
            } => {
                return self.response(id, code, total, chunk);
            }
            Frame::More { id, chunk } => return self.more(id, chunk),
            Frame::Data { .. } | Frame::DataMore { .. } | Frame::Gap { .. } => {
                return self.stream_frame(frame);
            }
            Frame::End { id, error } => return self.stream_over(id, error, false),
            Frame::Reset { id, error } => return self.stream_over(id, Some(error), true),
            Frame::Ack {
                id,
                seq,
                may_be_dropped,
            } => {
                if self.streaming(id, StreamKind::ToServer)? {
                    self.acknowledged(id, seq, may_be_dropped);
                }
            }
            Frame::Unknown { .. } => {}
            Frame::Request { id, .. } | Frame::Cancel { id } => {
                return Err(CloseReason::Protocol(format!(
                    "request {id}: the server sends no requests"
                )));
            }
        }
        Ok(())
    }

    /// An acknowledgement replaces one that was not read yet: they count up.
    fn acknowledged(&mut self, id: u64, seq: u64, may_be_dropped: bool) {
        let id = RequestId(id);
        if let Some(ClientEvent::Acknowledged {
            id: last,
            seq: up_to,
            may_be_dropped: may,
        }) = self.events.back_mut()
            && *last == id
        {
            *up_to = seq;
            *may |= may_be_dropped;
            return;
        }
        self.events.push_back(ClientEvent::Acknowledged {
            id,
            seq,
            may_be_dropped,
        });
    }

    /// Whether a frame belongs to something that is still wanted; an id that was never used is a fault.
    fn known(&self, id: u64) -> Result<bool, CloseReason> {
        if id > self.last.0 {
            return Err(CloseReason::Protocol(format!(
                "request {id}: nobody asked for it"
            )));
        }
        Ok(self.sent.contains_key(&id))
    }

    /// Whether the stream is open in this direction; `false` when it was given up.
    fn streaming(&self, id: u64, kind: StreamKind) -> Result<bool, CloseReason> {
        if !self.known(id)? {
            return Ok(false);
        }
        match self.sent.get(&id) {
            Some(Sent {
                exchange: Exchange::Streaming,
                stream,
                ..
            }) if *stream == kind => Ok(true),
            _ => Err(CloseReason::Protocol(format!(
                "request {id}: no such stream"
            ))),
        }
    }

    fn response(
        &mut self,
        id: u64,
        code: u64,
        total: u64,
        chunk: Payload,
    ) -> Result<(), CloseReason> {
        if !self.known(id)? {
            return Ok(()); // A late answer.
        }
        let max = self.mux.limits.max_message;
        let begun = self.mux.inbox.begin(total, chunk, max);
        let begun = begun.map_err(|f| fault(id, f))?;
        let Some(sent) = self.sent.get_mut(&id) else {
            return Ok(());
        };
        if !matches!(sent.exchange, Exchange::Waiting) {
            return Err(CloseReason::Protocol(format!(
                "request {id}: answered twice"
            )));
        }
        match begun {
            Ok(body) => self.answered(id, code, body),
            Err(assembly) => {
                sent.exchange = Exchange::Answering { code, assembly };
                Ok(())
            }
        }
    }

    fn more(&mut self, id: u64, chunk: Payload) -> Result<(), CloseReason> {
        if !self.known(id)? {
            return Ok(());
        }
        let Some(Sent {
            exchange: Exchange::Answering { code, assembly },
            ..
        }) = self.sent.get_mut(&id)
        else {
            return Err(CloseReason::Protocol(format!(
                "request {id}: no message to continue"
            )));
        };
        let code = *code;
        match self.mux.inbox.proceed(assembly, chunk) {
            Ok(Some(body)) => self.answered(id, code, body),
            Ok(None) => Ok(()),
            Err(f) => Err(fault(id, f)),
        }
    }

    fn answered(&mut self, id: u64, code: u64, body: Payload) -> Result<(), CloseReason> {
        let body = body.into_bytes();
        let result = if code == 0 {
            Ok(body)
        } else {
            let error = RemoteError::decode(ErrorCode::from_wire(code), &body);
            Err(error.map_err(|error| {
                CloseReason::Protocol(format!("request {id}: its error: {error}"))
            })?)
        };
        match self.sent.get_mut(&id) {
            Some(sent) if result.is_ok() && sent.stream != StreamKind::None => {
                sent.exchange = Exchange::Streaming;
                match sent.stream {
                    StreamKind::ToServer => self.mux.out.open_lane(id),
                    _ => self.mux.inbox.open(id),
                }
            }
            _ => {
                self.sent.remove(&id);
                self.mux.out.remove(id);
            }
        }
        let id = RequestId(id);
        self.events.push_back(ClientEvent::Response { id, result });
        Ok(())
    }

    fn stream_frame(&mut self, frame: Frame) -> Result<(), CloseReason> {
        let (id, len) = match &frame {
            Frame::Data { id, chunk, .. } => (*id, chunk.len() + MESSAGE_OVERHEAD),
            Frame::DataMore { id, chunk } => (*id, chunk.len()),
            Frame::Gap { id, .. } => (*id, MESSAGE_OVERHEAD),
            _ => return Ok(()),
        };
        if !self.streaming(id, StreamKind::ToClient)? {
            self.mux.inbox.discard(len).map_err(|f| fault(id, f))?;
            self.mux.credit(id);
            return Ok(());
        }
        let complete = match frame {
            Frame::Data {
                seq, total, chunk, ..
            } => self.mux.inbox.data(id, seq, total, chunk),
            Frame::DataMore { chunk, .. } => self.mux.inbox.data_more(id, chunk),
            Frame::Gap { next, count, .. } => self.mux.inbox.gap(id).map(|()| {
                let id = RequestId(id);
                let cost = MESSAGE_OVERHEAD;
                self.events.push_back(ClientEvent::Gap {
                    id,
                    next,
                    count,
                    cost,
                });
                None
            }),
            _ => Ok(None),
        };
        if let Some(complete) = complete.map_err(|f| fault(id, f))? {
            self.events.push_back(ClientEvent::Message {
                id: RequestId(id),
                seq: complete.seq,
                cost: cost(complete.payload.len()),
                payload: complete.payload,
            });
        }
        self.mux.credit(id);
        Ok(())
    }

    fn stream_over(
        &mut self,
        id: u64,
        error: Option<RemoteError>,
        abruptly: bool,
    ) -> Result<(), CloseReason> {
        if !self.known(id)? {
            return Ok(());
        }
        if !matches!(
            self.sent.get(&id),
            Some(Sent {
                exchange: Exchange::Streaming,
                ..
            })
        ) {
            return Err(CloseReason::Protocol(format!(
                "request {id}: no such stream"
            )));
        }
        if abruptly {
            self.mux.inbox.remove(id);
        } else {
            self.mux.inbox.end(id).map_err(|f| fault(id, f))?;
        }
        self.sent.remove(&id);
        self.mux.out.remove(id);
        let id = RequestId(id);
        self.events.push_back(ClientEvent::Ended { id, error });
        self.mux.credit(id.0);
        Ok(())
    }

    fn beat(&mut self, now: Time) {
        let heartbeat = &mut self.heartbeat;
        if let Some((_, at)) = heartbeat.sent
            && at.saturating_add(heartbeat.timeout) <= now
        {
            return self.closed(CloseReason::Silent);
        }
        if heartbeat.next.is_some_and(|next| next <= now) {
            heartbeat.next = heartbeat
                .interval
                .map(|interval| now.saturating_add(interval));
            self.ping(now);
        }
    }

    fn pong(&mut self, now: Time, token: u64) {
        if let Some((expected, at)) = self.heartbeat.sent
            && expected == token
        {
            self.heartbeat.sent = None;
            let round_trip = now.saturating_since(at);
            self.events.push_back(ClientEvent::Pong { round_trip });
        }
    }

    fn check_queue(&mut self) {
        if self.mux.overflows() {
            let limit = self.mux.limits.control_queue;
            self.closed(CloseReason::Local(
                RemoteError::new(
                    ErrorCode::ResourceExhausted,
                    "the server does not read what it is sent",
                )
                .with_limit(limit as u64),
            ));
        }
    }

    fn closed(&mut self, reason: CloseReason) {
        if self.is_closed() {
            return;
        }
        let greeted = matches!(self.phase, Phase::Open);
        self.phase = Phase::Closed;
        self.sent.clear();
        self.opening = None;
        self.mux.close(goodbye(&reason).filter(|_| greeted));
        self.events.push_back(ClientEvent::Closed(reason));
    }
}
