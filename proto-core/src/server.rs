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

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use crate::{
    ErrorCode, Payload, RemoteError, Time,
    envelope::{ClientEnvelope, Envelope, ServerEnvelope, VERSIONS},
    frame::Frame,
    hello::{ClientHello, ServerHello},
    legacy,
    limits::{Limits, MESSAGE_OVERHEAD},
    mux::{
        Assembly, CloseReason, Fault, Head, Mux, RequestId, SendError, Transmit, cost, fault,
        goodbye,
    },
};

pub use crate::client::StreamKind;

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ServerEvent {
    /// The client's hello came: call [`ServerConnection::accept`] or [`ServerConnection::refuse`].
    Hello(ClientHello),
    /// A request came: answer it exactly once, with one of the `respond` calls.
    Request {
        /// The request.
        id: RequestId,
        /// The operation.
        op: u64,
        /// Its fields.
        body: Bytes,
    },
    /// The client no longer wants a request's answer (which must still be given) or a stream (which is gone).
    Cancelled {
        /// The request or stream.
        id: RequestId,
        /// Whether it was a stream.
        stream: bool,
    },
    /// A published message came. Give `cost` back with [`ServerConnection::consume`] once it was handled.
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
    /// The client ended its half of a stream.
    Ended {
        /// The stream.
        id: RequestId,
    },
    /// A stream whose queue was full has room.
    Room {
        /// The stream.
        id: RequestId,
    },
    /// The connection is over. The last event.
    Closed(CloseReason),
}

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
///                                    |                                 |
///                                 respond                       end, reset, cancel
/// ```
#[derive(Debug)]
enum Exchange {
    Receiving { op: u64, assembly: Assembly },
    Running,
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
    streams: usize,
    last: u64,
    draining: bool,
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
        }
    }

    /// Takes bytes from the transport.
    pub fn handle_input(&mut self, _now: Time, bytes: Bytes) {
        match &mut self.phase {
            Phase::Closed => return,
            Phase::Open => self.mux.push(bytes),
            Phase::Deciding { .. } => {
                return self.closed(CloseReason::Protocol(
                    "bytes behind the hello before it was answered".to_owned(),
                ));
            }
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
                        return self.refuse(RemoteError::new(
                            ErrorCode::Protocol,
                            "bytes behind the hello before it was answered",
                        ));
                    }
                    Envelope::Complete(envelope, _) => return self.greeted(&envelope),
                }
            }
        }
        if let Err(reason) = self.read() {
            self.closed(reason);
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
            let hello = hello.encode().into();
            self.opening = Some(ServerEnvelope::Accepted { version, hello }.encode());
        }
    }

    /// Refuses the client and closes.
    pub fn refuse(&mut self, error: RemoteError) {
        let reason = CloseReason::Local(error.clone());
        self.refused(error, reason);
    }

    /// Answers a request that opens no stream.
    pub fn respond(&mut self, id: RequestId, result: Result<Vec<u8>, RemoteError>) {
        if !matches!(self.requests.get(&id.0), Some(Exchange::Running)) {
            return;
        }
        self.requests.remove(&id.0);
        self.answer(id.0, result);
    }

    /// Answers a request with success and opens its stream.
    ///
    /// # Errors
    /// When as many streams are open as allowed; the request was answered "resource exhausted" then.
    pub fn respond_stream(
        &mut self,
        id: RequestId,
        body: Vec<u8>,
        kind: StreamKind,
    ) -> Result<(), SendError> {
        if !matches!(self.requests.get(&id.0), Some(Exchange::Running)) {
            return Err(SendError::NotOpen);
        }
        let limit = self.mux.limits.max_streams;
        if self.streams >= limit {
            self.respond(id, Err(exhausted("streams are open", limit)));
            return Err(SendError::Full);
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
        }
    }

    /// Ends a stream at once; what was not sent is dropped.
    pub fn reset(&mut self, id: RequestId, error: RemoteError) {
        if matches!(self.requests.get(&id.0), Some(Exchange::Streaming(_))) {
            self.forget(id.0);
            self.mux.out.remove(id.0);
            self.mux.inbox.remove(id.0);
            self.mux.out.urgent(&Frame::Reset { id: id.0, error });
        }
    }

    /// Acknowledges published messages up to `seq`.
    pub fn acknowledge(&mut self, id: RequestId, seq: u64, may_be_dropped: bool) {
        if self.check_stream(id, StreamKind::ToServer).is_ok() {
            self.mux.out.urgent(&Frame::Ack {
                id: id.0,
                seq,
                may_be_dropped,
            });
            self.check_queue();
        }
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

    /// Closes the connection with a goodbye.
    pub fn close(&mut self, error: RemoteError) {
        self.closed(CloseReason::Local(error));
    }

    fn check_stream(&self, id: RequestId, kind: StreamKind) -> Result<(), SendError> {
        match self.requests.get(&id.0) {
            Some(Exchange::Streaming(open)) if *open == kind => Ok(()),
            _ => Err(SendError::NotOpen),
        }
    }

    fn answer(&mut self, id: u64, result: Result<Vec<u8>, RemoteError>) {
        let (code, body) = match result {
            Ok(body) => (0, body),
            Err(error) => (u64::from(error.code.to_wire()), error.encode()),
        };
        self.mux.control(id, Head::Response { code }, body.into());
        self.check_queue();
    }

    fn greeted(&mut self, envelope: &ClientEnvelope) {
        let Some(version) = envelope.common_version() else {
            let (low, high) = envelope.versions;
            return self.refuse(RemoteError::new(
                ErrorCode::Unsupported,
                format!(
                    "this server speaks versions {} to {} of the protocol, the client {low} to {high}",
                    VERSIONS.0, VERSIONS.1
                ),
            ));
        };
        match ClientHello::decode(&envelope.hello) {
            Ok(hello) => {
                self.mux.open(hello.limits);
                self.phase = Phase::Deciding { version };
                self.events.push_back(ServerEvent::Hello(hello));
            }
            Err(error) => self.refuse(error.into()),
        }
    }

    fn legacy(&mut self) {
        self.closed(CloseReason::Legacy);
        self.opening = Some(legacy::error_response(legacy::ADVICE).into());
    }

    fn refused(&mut self, error: RemoteError, reason: CloseReason) {
        self.closed(reason);
        let versions = VERSIONS;
        self.opening = Some(ServerEnvelope::Refused { versions, error }.encode());
    }

    fn read(&mut self) -> Result<(), CloseReason> {
        while let Some(frame) = self.mux.next_frame()? {
            self.frame(frame)?;
        }
        Ok(())
    }

    fn frame(&mut self, frame: Frame) -> Result<(), CloseReason> {
        match frame {
            Frame::Ping(token) => self.mux.out.urgent(&Frame::Pong(token)),
            Frame::Goodbye(error) => return Err(CloseReason::Peer(error)),
            Frame::Drain => self.draining = true,
            Frame::Credit { id, limit } => self.mux.out.raise(id, limit),
            Frame::Request {
                id,
                op,
                total,
                chunk,
            } => return self.request(id, op, total, chunk),
            Frame::More { id, chunk } => return self.more(id, chunk),
            Frame::Cancel { id } => return self.cancelled(id),
            Frame::Data { .. } | Frame::DataMore { .. } => return self.stream_frame(frame),
            Frame::End { id, .. } => {
                if self.known(id)?
                    && self
                        .check_stream(RequestId(id), StreamKind::ToServer)
                        .is_ok()
                {
                    self.mux.inbox.end(id).map_err(|f| fault(id, f))?;
                    self.events
                        .push_back(ServerEvent::Ended { id: RequestId(id) });
                }
            }
            Frame::Reset { id, .. } => return self.cancelled(id),
            // An answer to a ping that this machine never sends, or a kind that is optional.
            Frame::Pong(_) | Frame::Unknown { .. } => {}
            Frame::Response { id, .. } | Frame::Gap { id, .. } | Frame::Ack { id, .. } => {
                return Err(CloseReason::Protocol(format!(
                    "request {id}: a client does not send this"
                )));
            }
        }
        Ok(())
    }

    /// Whether a request is in flight; an id that was never used is a fault.
    fn known(&self, id: u64) -> Result<bool, CloseReason> {
        if id > self.last {
            return Err(CloseReason::Protocol(format!(
                "request {id} was never made"
            )));
        }
        Ok(self.requests.contains_key(&id))
    }

    fn request(&mut self, id: u64, op: u64, total: u64, chunk: Payload) -> Result<(), CloseReason> {
        if id <= self.last {
            return Err(CloseReason::Protocol(format!(
                "request {id}: ids must increase, the last was {}",
                self.last
            )));
        }
        self.last = id;
        let (limit, limit_bytes) = (self.mux.limits.max_requests, self.mux.limits.max_request);
        let refusal = if self.draining {
            Some(RemoteError::new(
                ErrorCode::Unavailable,
                "the server takes no new requests, it is shutting down",
            ))
        } else if self.requests.len().saturating_sub(self.streams) >= limit {
            Some(exhausted("requests are in flight", limit))
        } else if total > limit_bytes as u64 {
            let message =
                format!("the request is {total} bytes long, more than the limit of {limit_bytes}");
            let error = RemoteError::new(ErrorCode::TooLarge, message);
            Some(error.with_limit(limit_bytes as u64))
        } else {
            None
        };
        if let Some(error) = refusal {
            self.answer(id, Err(error));
            return Ok(());
        }
        match self.mux.inbox.begin(total, chunk, limit_bytes) {
            Ok(Ok(body)) => self.complete(id, op, body),
            Ok(Err(assembly)) => {
                self.requests
                    .insert(id, Exchange::Receiving { op, assembly });
            }
            Err(f) => return Err(fault(id, f)),
        }
        Ok(())
    }

    fn more(&mut self, id: u64, chunk: Payload) -> Result<(), CloseReason> {
        if !self.known(id)? {
            return Ok(()); // The rest of a request that was refused or cancelled.
        }
        let Some(Exchange::Receiving { op, assembly }) = self.requests.get_mut(&id) else {
            return Err(fault(id, Fault::Sequence));
        };
        let op = *op;
        match self.mux.inbox.proceed(assembly, chunk) {
            Ok(Some(body)) => self.complete(id, op, body),
            Ok(None) => {}
            Err(f) => return Err(fault(id, f)),
        }
        Ok(())
    }

    fn complete(&mut self, id: u64, op: u64, body: Payload) {
        self.requests.insert(id, Exchange::Running);
        self.events.push_back(ServerEvent::Request {
            id: RequestId(id),
            op,
            body: body.into_bytes(),
        });
    }

    fn cancelled(&mut self, id: u64) -> Result<(), CloseReason> {
        if !self.known(id)? {
            return Ok(());
        }
        match self.requests.get_mut(&id) {
            Some(Exchange::Receiving { assembly, .. }) => {
                self.mux.inbox.abandon(assembly);
                self.requests.remove(&id);
                let error = RemoteError::new(ErrorCode::Cancelled, "cancelled before it was read");
                self.answer(id, Err(error));
            }
            Some(Exchange::Running) => self.events.push_back(ServerEvent::Cancelled {
                id: RequestId(id),
                stream: false,
            }),
            Some(Exchange::Streaming(_)) => {
                self.forget(id);
                self.mux.out.remove(id);
                self.mux.inbox.remove(id);
                self.mux.credit(id);
                self.events.push_back(ServerEvent::Cancelled {
                    id: RequestId(id),
                    stream: true,
                });
            }
            None => {}
        }
        Ok(())
    }

    fn stream_frame(&mut self, frame: Frame) -> Result<(), CloseReason> {
        let (id, len) = match &frame {
            Frame::Data { id, chunk, .. } => (*id, chunk.len() + MESSAGE_OVERHEAD),
            Frame::DataMore { id, chunk } => (*id, chunk.len()),
            _ => return Ok(()),
        };
        if !self.known(id)? {
            self.mux.inbox.discard(len).map_err(|f| fault(id, f))?;
            self.mux.credit(id);
            return Ok(());
        }
        if !self.mux.inbox.is_open(id) {
            return Err(fault(id, Fault::Sequence));
        }
        let complete = match frame {
            Frame::Data {
                seq, total, chunk, ..
            } => self.mux.inbox.data(id, seq, total, chunk),
            Frame::DataMore { chunk, .. } => self.mux.inbox.data_more(id, chunk),
            _ => Ok(None),
        };
        if let Some(complete) = complete.map_err(|f| fault(id, f))? {
            self.events.push_back(ServerEvent::Message {
                id: RequestId(id),
                seq: complete.seq,
                cost: cost(complete.payload.len()),
                payload: complete.payload,
            });
        }
        self.mux.credit(id);
        Ok(())
    }

    fn forget(&mut self, id: u64) {
        if let Some(Exchange::Streaming(_)) = self.requests.remove(&id) {
            self.streams = self.streams.saturating_sub(1);
        }
    }

    fn check_queue(&mut self) {
        if self.mux.overflows() {
            let limit = self.mux.limits.control_queue;
            self.closed(CloseReason::Local(
                RemoteError::new(
                    ErrorCode::ResourceExhausted,
                    "the client does not read its answers",
                )
                .with_limit(limit as u64),
            ));
        }
    }

    fn closed(&mut self, reason: CloseReason) {
        if self.is_closed() {
            return;
        }
        let greeted = self.is_open();
        self.phase = Phase::Closed;
        self.requests.clear();
        self.streams = 0;
        self.mux.close(goodbye(&reason).filter(|_| greeted));
        self.events.push_back(ServerEvent::Closed(reason));
    }
}

fn exhausted(what: &str, limit: usize) -> RemoteError {
    RemoteError::new(
        ErrorCode::ResourceExhausted,
        format!("{limit} {what}, which is the limit"),
    )
    .with_limit(limit as u64)
}
