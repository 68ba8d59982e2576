//! The server's state machine (PROTOCOL.md, "A connection's life" and "Requests").
//!
//! ```text
//!              hello read              accept()
//!   Greeting ------------>  Deciding ------------>  Open  ----------> Closed
//!       \___________________________________________________________/
//!           refuse(), another protocol, version 0.3.3, loss
//! ```
//!
//! The machine knows framing, ids, streams and limits; what requests mean is decided above it.

mod event;
mod input;

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

pub use self::event::ServerEvent;
pub use crate::client::StreamKind;
use crate::{
    ErrorCode, Payload, RemoteError, Time,
    envelope::{ClientEnvelope, Envelope, ServerEnvelope},
    frame::Frame,
    hello::{Features, ServerHello},
    limits::{Limits, Weight},
    mux::{Assembly, CloseReason, Head, Mux, RequestId, SendError, Transmit, goodbye},
};

#[derive(Debug)]
enum Phase {
    Greeting { seen: Vec<u8> },
    Deciding { version: u16 },
    Open,
    Closed,
}

/// A request that came and is not finished.
///
/// ```text
///   Receiving ---- complete ----> Running ---- respond_stream ----> Streaming
///       |                            |                                 |
///     CANCEL                      respond                      end, reset, CANCEL
/// ```
#[derive(Debug)]
enum Exchange {
    Receiving {
        op: u64,
        assembly: Assembly,
    },
    Running {
        /// Whether the client has cancelled it: it opens no stream any more.
        cancelled: bool,
    },
    Streaming(StreamKind),
}

/// One connection, seen from the server.
#[derive(Debug)]
pub struct ServerConnection {
    mux: Mux,
    phase: Phase,
    opening: Option<Bytes>,
    events: VecDeque<ServerEvent>,
    requests: BTreeMap<u64, Exchange>,
    /// How many of `requests` are open streams.
    streams: usize,
    last: u64,
    draining: bool,
    /// Whether the client said that it makes no new requests.
    drained: bool,
    pings: u64,
    /// Whether `now` tells anything.
    has_clock: bool,
    /// Whether the path was measured before.
    measured: bool,
}

impl ServerConnection {
    /// A new connection that waits for its client's hello.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            mux: Mux::new(limits),
            phase: Phase::Greeting { seen: Vec::new() },
            opening: None,
            events: VecDeque::new(),
            requests: BTreeMap::new(),
            streams: 0,
            last: 0,
            draining: false,
            drained: false,
            pings: 0,
            has_clock: false,
            measured: false,
        }
    }

    /// Takes bytes from the transport.
    pub fn handle_input(&mut self, now: Time, bytes: Bytes) {
        match &mut self.phase {
            Phase::Closed => return,
            Phase::Open => self.mux.push(bytes),
            Phase::Deciding { .. } => return self.refuse(bytes_behind_the_hello()),
            Phase::Greeting { seen } => {
                seen.extend_from_slice(&bytes);
                let envelope = ClientEnvelope::decode(seen);
                let rest = |end: usize| seen.len() > end;
                match envelope {
                    Envelope::Incomplete => return,
                    Envelope::Legacy => return self.legacy(),
                    Envelope::Foreign => {
                        return self.refused(
                            RemoteError::new(
                                ErrorCode::Protocol,
                                "this is a Selium control plane; your bytes are of another protocol",
                            ),
                            CloseReason::Foreign,
                        );
                    }
                    Envelope::Complete(_, end) if rest(end) => {
                        return self.refuse(bytes_behind_the_hello());
                    }
                    Envelope::Complete(envelope, _) => return self.greeted(&envelope),
                }
            }
        }
        if let Err(reason) = self.read(now) {
            self.closed(reason);
        }
        if self.has_clock {
            // The first time while nothing is on its way that could be waited for: the path's own round trip.
            if core::mem::replace(&mut self.measured, true) {
                self.mux.measure_if_due(now);
            } else if !self.mux.is_closed() {
                self.mux.measure(now);
            }
        }
        self.check_queue();
    }

    /// The transport ended.
    pub fn handle_eof(&mut self, _now: Time) {
        self.closed(CloseReason::Lost);
    }

    /// The next event.
    #[must_use]
    pub fn poll_event(&mut self) -> Option<ServerEvent> {
        if let Some(id) = self.mux.out.roomy.pop() {
            return Some(ServerEvent::Room { id: RequestId(id) });
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

    /// Whether there is something to transmit.
    #[must_use]
    pub fn wants_write(&self) -> bool {
        self.opening.is_some() || !self.mux.out.is_idle()
    }

    /// Whether the connection is over. What [`ServerConnection::poll_transmit`] still gives should be sent.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        matches!(self.phase, Phase::Closed)
    }

    /// Whether the hello was accepted and the connection is not over.
    #[must_use]
    pub fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open)
    }

    /// Bytes that it holds: what waits to be sent, and what has arrived and is not complete.
    #[must_use]
    pub fn held(&self) -> usize {
        self.mux.held()
    }

    /// Bytes of answers and other control frames that wait to be sent.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.mux.out.control_bytes()
    }

    /// Bytes of messages that wait to be sent on one stream, each with what it costs in credit besides: less than before
    /// shows that its client has taken something.
    #[must_use]
    pub fn queued_on(&self, id: RequestId) -> usize {
        self.mux.out.queued(id.0)
    }

    /// Bytes of requests that have arrived and are not complete.
    #[must_use]
    pub fn reassembling(&self) -> usize {
        self.mux.inbox.held()
    }

    /// Sets how many bytes the connection's streams may queue together, below the limit that it was made with.
    pub fn set_queue_share(&mut self, bytes: usize) {
        self.mux.queue_share = bytes.min(self.mux.limits.connection_queue);
    }

    /// Pings that came so far, but for those that only measure: the nearest thing to a clock that a server without one
    /// has.
    #[must_use]
    pub fn pings(&self) -> u64 {
        self.pings
    }

    /// Open streams.
    #[must_use]
    pub fn streams(&self) -> usize {
        self.streams
    }

    /// Requests in flight, streams included.
    #[must_use]
    pub fn requests(&self) -> usize {
        self.requests.len()
    }

    /// Accepts the client. Its requests come from now on.
    pub fn accept(&mut self, hello: &ServerHello) {
        if let Phase::Deciding { version } = self.phase {
            self.phase = Phase::Open;
            self.has_clock = hello.features.contains(Features::CLOCK);
            let hello = hello.encode().into();
            self.opening = Some(ServerEnvelope::Accepted { version, hello }.encode());
        }
    }

    /// Refuses the client and closes. A client that was accepted is told goodbye instead.
    pub fn refuse(&mut self, error: RemoteError) {
        self.close(error);
    }

    /// Answers a request that opens no stream.
    pub fn respond(&mut self, id: RequestId, result: Result<Vec<u8>, RemoteError>) {
        if !matches!(self.requests.get(&id.0), Some(Exchange::Running { .. })) {
            return;
        }
        self.requests.remove(&id.0);
        self.answer(id.0, result);
    }

    /// Answers a request with success and opens its stream.
    ///
    /// # Errors
    /// When as many streams are open as allowed ([`SendError::Full`]), when the client would not take an answer of this
    /// length, or when it has cancelled the request ([`SendError::NotOpen`]); the request was answered with an error
    /// then. A stream that was ended counts until its end was sent.
    pub fn respond_stream(
        &mut self,
        id: RequestId,
        body: Vec<u8>,
        kind: StreamKind,
    ) -> Result<(), SendError> {
        let Some(Exchange::Running { cancelled }) = self.requests.get(&id.0) else {
            return Err(SendError::NotOpen);
        };
        if *cancelled {
            let error = RemoteError::new(ErrorCode::Cancelled, "cancelled before it was answered");
            self.respond(id, Err(error));
            return Err(SendError::NotOpen);
        }
        let limit = self.mux.limits.max_streams;
        if self.streams.saturating_add(self.mux.out.ending()) >= limit {
            self.respond(id, Err(exhausted("streams are open", limit)));
            return Err(SendError::Full);
        }
        let longest = self.mux.longest_response();
        if body.len() > longest {
            self.respond(id, Ok(body));
            return Err(SendError::TooLarge(longest));
        }
        self.streams += 1;
        self.requests.insert(id.0, Exchange::Streaming(kind));
        match kind {
            StreamKind::ToServer => self.mux.inbox.open(id.0),
            _ => self.mux.out.open_lane(id.0),
        }
        self.answer(id.0, Ok(body));
        Ok(())
    }

    /// Sends a message on a stream to the client.
    ///
    /// # Errors
    /// See [`SendError`]; nothing was queued then. After [`SendError::Full`] a [`ServerEvent::Room`] comes.
    pub fn send(
        &mut self,
        id: RequestId,
        seq: u64,
        payload: impl Into<Payload>,
    ) -> Result<(), SendError> {
        self.check_stream(id, StreamKind::ToClient)?;
        self.mux.send(id.0, seq, payload.into())
    }

    /// Sets how much of the connection a stream to the client gets beside others.
    pub fn set_weight(&mut self, id: RequestId, weight: Weight) {
        self.mux.out.set_weight(id.0, weight);
    }

    /// Marks a gap behind what was sent: `next` is the sequence number of the next message.
    ///
    /// # Errors
    /// When the stream is not open.
    pub fn gap(&mut self, id: RequestId, next: u64, count: Option<u64>) -> Result<(), SendError> {
        self.check_stream(id, StreamKind::ToClient)?;
        self.mux.out.gap(id.0, next, count);
        Ok(())
    }

    /// Ends a stream behind what was sent.
    pub fn end(&mut self, id: RequestId, error: Option<RemoteError>) {
        if matches!(self.requests.get(&id.0), Some(Exchange::Streaming(_))) {
            self.forget(id.0);
            self.mux.out.end(id.0, error);
            self.mux.inbox.remove(id.0);
            self.mux.credit(id.0);
        }
    }

    /// Ends a stream at once; what was not sent is dropped, but for the answer that opened it.
    pub fn reset(&mut self, id: RequestId, error: RemoteError) {
        if matches!(self.requests.get(&id.0), Some(Exchange::Streaming(_))) {
            self.forget(id.0);
            if self.mux.out.cut(id.0) {
                // A RESET would overtake the answer.
                self.mux.out.end(id.0, Some(error));
            } else {
                self.mux.out.urgent(&Frame::Reset { id: id.0, error });
            }
            self.mux.inbox.remove(id.0);
            self.mux.credit(id.0);
        }
    }

    /// Acknowledges published messages up to `seq`. Nothing is said while the answer that opened the stream waits: a
    /// client that sent something before it is out of order.
    pub fn acknowledge(&mut self, id: RequestId, seq: u64, may_be_dropped: bool) {
        let is_open = self.check_stream(id, StreamKind::ToServer).is_ok();
        if is_open && !self.mux.out.holds_response(id.0) {
            self.mux.out.urgent(&Frame::Ack {
                id: id.0,
                seq,
                may_be_dropped,
            });
            self.check_queue();
        }
    }

    /// Gives back the connection's credit of a published message, but not its stream's: for a message that has to wait,
    /// so that it holds up its own stream and no other. The caller bounds what waits in all; on each stream that is the
    /// stream's window and two messages. The stream's credit comes back with [`ServerConnection::consume`], which has to
    /// follow. On one stream either all messages are released or none: `consume` takes those that were for the first.
    pub fn release(&mut self, id: RequestId, cost: usize) {
        if self.mux.is_closed() {
            return;
        }
        self.mux.inbox.release(id.0, cost);
        self.mux.credit(id.0);
    }

    /// Sets the length in bytes of the longest message that is of use on a stream from the client: a
    /// [`ServerEvent::TooLong`] comes as soon as a longer one begins.
    pub fn set_longest(&mut self, id: RequestId, bytes: usize) {
        self.mux.inbox.set_longest(id.0, bytes);
    }

    /// Gives back the credit of a published message that was handled.
    pub fn consume(&mut self, id: RequestId, cost: usize) {
        if self.mux.is_closed() {
            return;
        }
        self.mux.inbox.consume(id.0, cost);
        self.mux.credit(id.0);
    }

    /// Takes no new requests from now on, and says so.
    pub fn drain(&mut self) {
        if self.is_open() && !self.draining {
            self.draining = true;
            self.mux.out.urgent(&Frame::Drain);
        }
    }

    /// Closes the connection of a client that does not read: with a goodbye, and without the answers that wait.
    pub fn give_up(&mut self, error: RemoteError) {
        self.over(CloseReason::Local(error), true);
    }

    /// Closes the connection with a goodbye; a client that was not accepted is refused instead.
    pub fn close(&mut self, error: RemoteError) {
        let reason = CloseReason::Local(error.clone());
        if self.is_open() {
            self.closed(reason);
        } else {
            self.refused(error, reason);
        }
    }

    fn check_stream(&self, id: RequestId, kind: StreamKind) -> Result<(), SendError> {
        match self.requests.get(&id.0) {
            Some(Exchange::Streaming(open)) if *open == kind => Ok(()),
            _ => Err(SendError::NotOpen),
        }
    }

    fn answer(&mut self, id: u64, result: Result<Vec<u8>, RemoteError>) {
        let longest = self.mux.longest_response();
        let result = match result {
            Ok(body) if body.len() > longest => Err(too_long(body.len(), longest)),
            result => result,
        };
        let (code, mut body) = match result {
            Ok(body) => (0, body),
            Err(error) => (u64::from(error.code.to_wire()), error.encode()),
        };
        if body.len() > longest {
            body.clear(); // An error without its words.
        }
        self.mux.control(id, Head::Response { code }, body.into());
        self.check_queue();
    }

    fn forget(&mut self, id: u64) {
        if let Some(Exchange::Streaming(_)) = self.requests.remove(&id) {
            self.streams = self.streams.saturating_sub(1);
        }
    }

    fn check_queue(&mut self) {
        if self.mux.overflows() {
            let limit = self.mux.limits.control_queue;
            let message = "the client does not read its answers";
            let error = RemoteError::new(ErrorCode::ResourceExhausted, message);
            self.give_up(error.with_limit(limit as u64));
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
        let greeted = self.is_open();
        self.phase = Phase::Closed;
        self.requests.clear();
        self.streams = 0;
        let goodbye = goodbye(&reason).filter(|_| greeted);
        self.mux.close(goodbye, unread);
        self.events.push_back(ServerEvent::Closed(reason));
    }
}

fn bytes_behind_the_hello() -> RemoteError {
    RemoteError::new(
        ErrorCode::Protocol,
        "bytes behind the hello before it was answered",
    )
}

fn too_long(len: usize, longest: usize) -> RemoteError {
    let message = format!("the answer is {len} bytes long, the client takes {longest}");
    RemoteError::new(ErrorCode::TooLarge, message).with_limit(longest as u64)
}

fn exhausted(what: &str, limit: usize) -> RemoteError {
    RemoteError::new(
        ErrorCode::ResourceExhausted,
        format!("{limit} {what}, which is the limit"),
    )
    .with_limit(limit as u64)
}
