//! What both machines share: the queue of what is to be sent, messages in reassembly, credit, closing.

mod credit;
mod inbox;
mod outbox;
mod pace;

use core::time::Duration;

use bytes::Bytes;
use thiserror::Error;

pub(crate) use inbox::{Assembly, Fault, Inbox};
pub(crate) use outbox::{Head, Outbox};

pub(crate) use self::pace::MEASURES;
use self::pace::Pace;
use crate::{
    ErrorCode, RemoteError, Time,
    frame::{Frame, FrameError, FrameReader, Gather},
    hello::PeerLimits,
    limits::{Limits, MAX_CHUNK, MAX_FRAME, MAX_WRITE, MESSAGE_OVERHEAD, MIN_STREAM_QUEUE},
    payload::Payload,
    varint,
};

/// The id of a request, and of the stream that it opened: chosen by the client, strictly increasing, never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub(crate) u64);

impl RequestId {
    /// The number that travels.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The id after this one, while there is one.
    pub(crate) fn next(self) -> Option<Self> {
        let next = self.0.checked_add(1)?;
        (next <= varint::MAX).then_some(Self(next))
    }
}

impl core::fmt::Display for RequestId {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.0.fmt(f)
    }
}

/// Bytes for one write to the transport, at most [`MAX_WRITE`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Transmit {
    /// The bytes in order, in pieces for a vectored write.
    pub parts: Vec<Bytes>,
}

impl Transmit {
    /// Bytes in all.
    #[must_use]
    pub fn len(&self) -> usize {
        self.parts.iter().map(Bytes::len).sum()
    }

    /// Whether there are no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// The bytes in one buffer, for transports without vectored writes.
    #[must_use]
    pub fn to_vec(&self) -> Vec<u8> {
        self.parts.concat()
    }
}

impl From<Vec<Bytes>> for Transmit {
    fn from(parts: Vec<Bytes>) -> Self {
        Self { parts }
    }
}

/// Why a connection is over.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CloseReason {
    /// This side closed it.
    #[error("closed here: {0}")]
    Local(RemoteError),
    /// The other side closed it.
    #[error("closed by the peer: {0}")]
    Peer(RemoteError),
    /// The other side broke the protocol.
    #[error("protocol error: {0}")]
    Protocol(String),
    /// The transport ended without a goodbye.
    #[error("the connection was lost")]
    Lost,
    /// The other side does not answer pings.
    #[error("the peer does not answer")]
    Silent,
    /// The server refuses this client, or every version that it speaks.
    #[error("refused: {error}")]
    Refused {
        /// Lowest and highest version that the server speaks.
        versions: (u16, u16),
        /// Why.
        error: RemoteError,
    },
    /// The other side speaks the protocol of version 0.3.3.
    #[error("the peer speaks the protocol of version 0.3.3")]
    Legacy,
    /// The other side speaks another protocol.
    #[error("the peer does not speak this protocol")]
    Foreign,
}

/// Why a message was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SendError {
    /// There is no such stream, or this side has ended it.
    #[error("the stream is not open")]
    NotOpen,
    /// Too much waits already; a room event tells when there is room.
    #[error("the stream's queue is full")]
    Full,
    /// The peer would never take it; the limit in bytes is given.
    #[error("the message is longer than the peer's limit of {0} bytes")]
    TooLarge(usize),
    /// Empty messages do not exist.
    #[error("the message is empty")]
    Empty,
    /// Its sequence number is not greater than the one before.
    #[error("sequence numbers have to increase")]
    Order,
}

/// The parts of a connection that are the same on both sides.
#[derive(Debug)]
pub(crate) struct Mux {
    pub(crate) out: Outbox,
    pub(crate) inbox: Inbox,
    pub(crate) limits: Limits,
    pub(crate) peer: PeerLimits,
    /// Bytes that the connection's streams may queue together.
    pub(crate) queue_share: usize,
    reader: FrameReader,
    pace: Pace,
    closed: bool,
}

impl Mux {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            out: Outbox::default(),
            inbox: Inbox::new(&limits),
            limits,
            peer: PeerLimits::default(),
            queue_share: limits.connection_queue,
            reader: FrameReader::new(),
            pace: Pace::new(&limits),
            closed: false,
        }
    }

    pub(crate) fn open(&mut self, peer: PeerLimits) {
        self.peer = peer;
        self.out
            .open(peer.connection_window, peer.stream_window, peer.reassembly);
    }

    pub(crate) fn push(&mut self, bytes: Bytes) {
        self.reader.push(bytes);
    }

    /// The next frame to look at; none any more once the connection is closed.
    pub(crate) fn next_frame(&mut self) -> Result<Option<Frame>, CloseReason> {
        if self.closed {
            return Ok(None);
        }
        self.reader.next().map_err(protocol)
    }

    /// Sends a ping that measures the path.
    pub(crate) fn measure(&mut self, now: Time) {
        self.inbox.mark();
        let token = self.pace.probe(now, self.inbox.received());
        self.out.urgent(&Frame::Ping(token));
    }

    /// The same when it is time to.
    pub(crate) fn measure_if_due(&mut self, now: Time) {
        if !self.closed && self.pace.wants_probe(self.inbox.received()) {
            self.measure(now);
        }
    }

    /// Takes the answer to a ping that measured.
    pub(crate) fn measured(&mut self, now: Time, token: [u8; 8]) {
        if let Some(window) = self.pace.pong(now, token, || self.inbox.arrivals()) {
            self.inbox.set_window(window);
            self.connection_credit();
        }
    }

    /// Takes the round trip of a ping that was sent for another reason.
    pub(crate) fn round_trip(&mut self, now: Time, round_trip: Duration) {
        self.pace.confirm(now, round_trip);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Ends the connection; says goodbye when `goodbye` is given. Nothing but what is urgent is sent any more, and not even
    /// that when it is `unread`: answers that a peer does not read are not kept until it goes.
    pub(crate) fn close(&mut self, goodbye: Option<RemoteError>, unread: bool) {
        if self.closed {
            return;
        }
        self.closed = true;
        self.out.drop_lanes();
        if unread {
            self.out.drop_urgent();
        }
        self.reader = FrameReader::new();
        self.inbox = Inbox::new(&self.limits);
        if let Some(error) = goodbye {
            self.out.urgent(&Frame::Goodbye(error));
        }
    }

    /// Whether what waits to be sent, and is bounded by nothing else, has passed its limit.
    pub(crate) fn overflows(&self) -> bool {
        !self.closed && self.out.control_bytes() > self.limits.control_queue
    }

    /// Whether a request of `len` bytes can wait without passing that limit.
    pub(crate) fn has_room_for(&self, len: usize) -> bool {
        let queued = self.out.control_bytes().saturating_add(len + MAX_FRAME);
        queued <= self.limits.control_queue
    }

    /// Fills one write.
    pub(crate) fn transmit(&mut self, max: usize) -> Option<Transmit> {
        if self.out.is_idle() {
            return None;
        }
        let mut out = Gather::default();
        self.out.fill(&mut out, max.min(MAX_WRITE));
        if out.is_empty() {
            return None;
        }
        Some(Transmit {
            parts: out.finish(),
        })
    }

    /// Queues a request or a response: a short one goes at once, a long one shares with the streams. A request never
    /// begins before those that were made earlier.
    pub(crate) fn control(&mut self, id: u64, head: Head, payload: Payload) {
        let total = payload.len() as u64;
        let behind = matches!(head, Head::Request { .. }) && self.out.holds_requests();
        if payload.len() > MAX_CHUNK || behind {
            self.out.message(id, head, payload);
            return;
        }
        self.out.urgent(&head.frame(id, total, payload));
    }

    /// Bytes of the longest response that the peer takes.
    pub(crate) fn longest_response(&self) -> usize {
        self.peer.max_message.min(self.peer.longest_reassembled())
    }

    /// Bytes that one stream may queue: its own limit, or its share of the connection's. A share instead of first come,
    /// first served: streams that find the queue full could otherwise wait for ever.
    fn allowance(&self) -> usize {
        if self.out.lane_bytes() >= self.queue_share {
            return MIN_STREAM_QUEUE; // Others filled theirs when there were fewer.
        }
        let share = self.queue_share / self.out.lanes().max(1);
        share.clamp(
            MIN_STREAM_QUEUE,
            self.limits.stream_queue.max(MIN_STREAM_QUEUE),
        )
    }

    /// Bytes that the connection holds: what waits to be sent, and what has arrived and is not complete.
    pub(crate) fn held(&self) -> usize {
        self.out.held() + self.inbox.held() + self.reader.buffered()
    }

    /// Queues a stream message.
    pub(crate) fn send(&mut self, id: u64, seq: u64, payload: Payload) -> Result<(), SendError> {
        if payload.is_empty() {
            return Err(SendError::Empty);
        }
        let limit = self.peer.max_message.min(self.peer.reassembly);
        if payload.len() > limit {
            return Err(SendError::TooLarge(limit));
        }
        if self.out.queued(id) >= self.allowance() {
            self.out.want_room(id);
            return Err(SendError::Full);
        }
        self.out.message(id, Head::Data { seq }, payload);
        Ok(())
    }

    /// Queues the credit that became free on a stream and on the connection.
    pub(crate) fn credit(&mut self, id: u64) {
        if let Some(limit) = self.inbox.stream_update(id) {
            self.out.urgent(&Frame::Credit { id, limit });
        }
        self.connection_credit();
    }

    fn connection_credit(&mut self) {
        if let Some(limit) = self.inbox.connection_update() {
            self.out.urgent(&Frame::Credit { id: 0, limit });
        }
    }
}

/// What a message of `len` bytes costs in credit; what to hand to `consume` once it was read.
#[must_use]
pub(crate) fn cost(len: usize) -> usize {
    len + MESSAGE_OVERHEAD
}

/// The goodbye that goes with a reason.
pub(crate) fn goodbye(reason: &CloseReason) -> Option<RemoteError> {
    match reason {
        CloseReason::Local(error) => Some(error.clone()),
        CloseReason::Protocol(message) => {
            Some(RemoteError::new(ErrorCode::Protocol, message.clone()))
        }
        CloseReason::Silent => Some(RemoteError::new(
            ErrorCode::Unavailable,
            "no answer to pings",
        )),
        _ => None,
    }
}

pub(crate) fn protocol(error: FrameError) -> CloseReason {
    CloseReason::Protocol(error.to_string())
}

pub(crate) fn fault(id: u64, fault: Fault) -> CloseReason {
    CloseReason::Protocol(format!("request {id}: {}", fault.as_str()))
}
