//! The machine that the transport drives: the protocol core, and who waits for what (PROTOCOL.md, "Requests").
//!
//! ```text
//!   call -------> pending --- answer, expiry, close ---> (gone)
//!                    |  \____ its future is dropped ____/^
//!                    v answer that opens a stream        |
//!       inflow, outflow --- end was read, dropped -------'
//! ```
//!
//! An entry goes on every way out, so that nothing piles up. What an inflow holds is bounded by the stream's credit,
//! which returns when a message is taken out; what an outflow holds, by its publication's limit.

mod outflow;

use std::{
    collections::{BTreeMap, VecDeque},
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use futures_channel::oneshot;
use selium_remote_client_protocol::{
    CloseReason, Payload, RemoteError, RequestId, Time, Transmit, Weight,
    client::{
        ClientConfig, ClientConnection, ClientEvent, RequestError, RequestOptions, StreamKind,
    },
    hello::ServerHello,
    ops::{Common, Request},
};

use self::outflow::Outflow;
pub(crate) use self::outflow::{Over, Refusal, Standing, acknowledged, unacknowledged};
use crate::link::Machine;

/// The most callers that wait for one ping's answer.
pub(crate) const MAX_PINGS: usize = 1_024;

/// The most bytes of requests that wait for their answers. The core closes a connection whose queue of control bytes
/// passes 1 MiB, because the other side does not read then; a caller with many long requests is told before that.
pub(crate) const MAX_WAITING_BYTES: usize = 768 * 1024;

/// The longest time that is told to the server, in milliseconds (49 days).
const MAX_DEADLINE_MS: u64 = u32::MAX as u64;

/// What became of the hello.
#[derive(Debug)]
pub(crate) enum Greeting {
    /// The server's.
    Hello(Box<ServerHello>),
    /// The deadline passed.
    TimedOut,
    /// The connection is over; [`Session::reason`] tells why.
    Closed,
}

/// What became of a request or a ping.
#[derive(Debug)]
pub(crate) enum Outcome<T> {
    /// It was answered.
    Answer(T),
    /// The server answered with an error.
    Error(RemoteError),
    /// Its deadline passed.
    Expired,
    /// The connection is over; [`Session::reason`] tells why.
    Closed,
}

impl<T> Outcome<T> {
    /// In a word, without what it holds.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Answer(_) => "answered",
            Self::Error(error) => error.code.as_str(),
            Self::Expired => "expired",
            Self::Closed => "closed",
        }
    }
}

/// How a request is to be sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Manner {
    /// The number that it carries if it changes something.
    pub(crate) token: Option<u64>,
    /// Whether it was sent before.
    pub(crate) retry: bool,
    /// The stream that it opens.
    pub(crate) stream: StreamKind,
    /// How much of the connection that stream gets.
    pub(crate) weight: Option<Weight>,
    /// How long it may take.
    pub(crate) timeout: Duration,
}

/// What arrived on a stream.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    Message { seq: u64, payload: Payload },
    Gap { next: u64, count: Option<u64> },
    End(Option<RemoteError>),
    Closed,
}

/// Why a request was not sent.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Unsent {
    /// The core does not take it.
    Core(RequestError),
    /// It and those that wait are longer than [`MAX_WAITING_BYTES`].
    Busy,
}

#[derive(Debug)]
struct Pending {
    stream: StreamKind,
    weight: Option<Weight>,
    bytes: usize,
    waiter: oneshot::Sender<Outcome<Bytes>>,
}

#[derive(Debug, Default)]
struct Inflow {
    arrivals: VecDeque<(Arrival, usize)>,
    end: Option<Arrival>,
    waker: Option<Waker>,
}

impl Inflow {
    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

#[derive(Debug)]
struct Ping {
    deadline: Time,
    waiter: oneshot::Sender<Outcome<Duration>>,
}

/// One connection with everybody who waits for something of it.
#[derive(Debug)]
pub(crate) struct Session {
    core: ClientConnection,
    greeting: Option<(Time, oneshot::Sender<Greeting>)>,
    pending: BTreeMap<RequestId, Pending>,
    /// Bytes of the requests in `pending`.
    waiting_bytes: usize,
    inflows: BTreeMap<RequestId, Inflow>,
    outflows: BTreeMap<RequestId, Outflow>,
    pings: Vec<Ping>,
    /// Who is told that the connection is over.
    ended: Option<oneshot::Sender<()>>,
    /// Bytes of the longest message that the server takes.
    longest: usize,
    reason: Option<CloseReason>,
}

impl Session {
    /// A session whose hello has to be answered before `deadline`.
    pub(crate) fn new(config: ClientConfig, deadline: Time) -> (Self, oneshot::Receiver<Greeting>) {
        let (waiter, greeting) = oneshot::channel();
        let session = Self {
            core: ClientConnection::new(config),
            greeting: Some((deadline, waiter)),
            pending: BTreeMap::new(),
            waiting_bytes: 0,
            inflows: BTreeMap::new(),
            outflows: BTreeMap::new(),
            pings: Vec::new(),
            ended: None,
            longest: 0,
            reason: None,
        };
        (session, greeting)
    }

    /// Why the connection is over, once it is.
    pub(crate) fn reason(&self) -> Option<&CloseReason> {
        self.reason.as_ref()
    }

    /// Tells when the connection is over: once, to the last who asked.
    pub(crate) fn ended(&mut self) -> oneshot::Receiver<()> {
        let (tell, ended) = oneshot::channel();
        self.ended = Some(tell);
        ended
    }

    /// Sends a request.
    pub(crate) fn call<R: Request>(
        &mut self,
        now: Time,
        request: &R,
        manner: Manner,
    ) -> Result<(RequestId, oneshot::Receiver<Outcome<Bytes>>), Unsent> {
        let deadline_ms = u64::try_from(manner.timeout.as_millis()).unwrap_or(u64::MAX);
        let common = Common::with(|made| {
            made.token = manner.token;
            made.retry = manner.retry;
            made.deadline_ms = Some(deadline_ms.min(MAX_DEADLINE_MS));
            made.weight = manner.weight;
        });
        let deadline = now.saturating_add(manner.timeout);
        let options = RequestOptions::new(manner.stream).deadline(Some(deadline));
        let body = request.encode(&common);
        let bytes = body.len();
        if self.waiting_bytes.saturating_add(bytes) > MAX_WAITING_BYTES {
            return Err(Unsent::Busy);
        }
        let id = self
            .core
            .request(R::OP, body, options)
            .map_err(Unsent::Core)?;
        let (waiter, answer) = oneshot::channel();
        self.waiting_bytes += bytes;
        self.pending.insert(
            id,
            Pending {
                stream: manner.stream,
                weight: manner.weight,
                bytes,
                waiter,
            },
        );
        self.settle();
        Ok((id, answer))
    }

    /// Gives a request or a stream up, whatever became of it.
    pub(crate) fn abandon(&mut self, id: RequestId) {
        let waited = self.take_pending(id).is_some();
        let came = self.inflows.remove(&id).is_some();
        let went = self.outflows.remove(&id).is_some();
        if (waited || came || went) && !self.core.is_closed() {
            self.core.abandon(id);
        }
        self.settle();
    }

    /// Pings the server; `None` when as many callers wait as may.
    pub(crate) fn ping(
        &mut self,
        now: Time,
        timeout: Duration,
    ) -> Option<oneshot::Receiver<Outcome<Duration>>> {
        let (waiter, answer) = oneshot::channel();
        if self.core.is_closed() {
            let _ = waiter.send(Outcome::Closed);
            return Some(answer);
        }
        self.pings.retain(|ping| !ping.waiter.is_canceled());
        if self.pings.len() >= MAX_PINGS {
            return None;
        }
        let deadline = now.saturating_add(timeout);
        self.pings.push(Ping { deadline, waiter });
        self.core.ping(now);
        self.settle();
        Some(answer)
    }

    /// Takes what arrived next on a stream and gives its credit back. The end is answered for ever.
    pub(crate) fn poll_arrival(&mut self, id: RequestId, cx: &mut Context<'_>) -> Poll<Arrival> {
        let Some(inflow) = self.inflows.get_mut(&id) else {
            return Poll::Ready(Arrival::Closed);
        };
        if let Some((arrival, cost)) = inflow.arrivals.pop_front() {
            self.core.consume(id, cost);
            self.settle();
            return Poll::Ready(arrival);
        }
        if inflow.end.is_some() {
            let end = self.inflows.remove(&id).and_then(|inflow| inflow.end);
            return Poll::Ready(end.unwrap_or(Arrival::Closed));
        }
        inflow.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Closes the connection with a goodbye.
    pub(crate) fn close(&mut self) {
        self.core.close();
        self.settle();
    }

    /// Hands out what the core has to tell.
    fn settle(&mut self) {
        while let Some(event) = self.core.poll_event() {
            self.event(event);
        }
    }

    fn event(&mut self, event: ClientEvent) {
        match event {
            ClientEvent::Connected(hello) => {
                self.longest = hello.limits.max_message.min(hello.limits.reassembly);
                if let Some((_, waiter)) = self.greeting.take() {
                    let _ = waiter.send(Greeting::Hello(Box::new(hello)));
                }
            }
            ClientEvent::Response { id, result } => self.response(id, result),
            ClientEvent::Expired { id } => {
                if let Some(pending) = self.take_pending(id) {
                    let _ = pending.waiter.send(Outcome::Expired);
                }
            }
            ClientEvent::Message {
                id,
                seq,
                payload,
                cost,
            } => {
                self.arrive(id, Arrival::Message { seq, payload }, cost);
            }
            ClientEvent::Gap {
                id,
                next,
                count,
                cost,
            } => {
                self.arrive(id, Arrival::Gap { next, count }, cost);
            }
            ClientEvent::Ended { id, error } => {
                if let Some(outflow) = self.outflows.get_mut(&id) {
                    outflow.over(Over::Ended(error));
                } else if let Some(inflow) = self.inflows.get_mut(&id) {
                    inflow.end = Some(Arrival::End(error));
                    inflow.wake();
                }
            }
            ClientEvent::Acknowledged {
                id,
                seq,
                may_be_dropped,
            } => {
                if let Some(outflow) = self.outflows.get_mut(&id) {
                    outflow.acknowledged(seq, may_be_dropped);
                }
            }
            ClientEvent::Room { id } => self.pump(id),
            ClientEvent::Pong { round_trip } => {
                for ping in self.pings.drain(..) {
                    let _ = ping.waiter.send(Outcome::Answer(round_trip));
                }
            }
            ClientEvent::Closed(reason) => self.closed(reason),
            // The next request hears of the draining.
            _ => {}
        }
    }

    fn take_pending(&mut self, id: RequestId) -> Option<Pending> {
        let pending = self.pending.remove(&id)?;
        self.waiting_bytes = self.waiting_bytes.saturating_sub(pending.bytes);
        Some(pending)
    }

    fn response(&mut self, id: RequestId, result: Result<Bytes, RemoteError>) {
        let Some(pending) = self.take_pending(id) else {
            return;
        };
        let outcome = match result {
            Ok(body) => {
                match pending.stream {
                    StreamKind::None => {}
                    StreamKind::ToClient => drop(self.inflows.insert(id, Inflow::default())),
                    StreamKind::ToServer => self.outflow_opened(id, pending.weight),
                }
                Outcome::Answer(body)
            }
            Err(error) => Outcome::Error(error),
        };
        // Nobody waits any more? Then the waiter's drop abandons the stream in a moment.
        let _ = pending.waiter.send(outcome);
    }

    fn arrive(&mut self, id: RequestId, arrival: Arrival, cost: usize) {
        match self.inflows.get_mut(&id) {
            Some(inflow) => {
                inflow.arrivals.push_back((arrival, cost));
                inflow.wake();
            }
            None => self.core.consume(id, cost),
        }
    }

    fn closed(&mut self, reason: CloseReason) {
        tracing::debug!(%reason, "connection closed");
        self.reason = Some(reason);
        if let Some((_, waiter)) = self.greeting.take() {
            let _ = waiter.send(Greeting::Closed);
        }
        self.waiting_bytes = 0;
        for pending in std::mem::take(&mut self.pending).into_values() {
            let _ = pending.waiter.send(Outcome::Closed);
        }
        for ping in self.pings.drain(..) {
            let _ = ping.waiter.send(Outcome::Closed);
        }
        for inflow in self.inflows.values_mut() {
            inflow.end.get_or_insert(Arrival::Closed);
            inflow.wake();
        }
        for outflow in self.outflows.values_mut() {
            outflow.over(Over::Closed);
        }
        if let Some(ended) = self.ended.take() {
            let _ = ended.send(());
        }
    }

    fn expire(&mut self, now: Time) {
        for ping in self.pings.extract_if(.., |ping| ping.deadline <= now) {
            let _ = ping.waiter.send(Outcome::Expired);
        }
        if self
            .greeting
            .as_ref()
            .is_some_and(|(deadline, _)| *deadline <= now)
            && let Some((_, waiter)) = self.greeting.take()
        {
            let _ = waiter.send(Greeting::TimedOut);
            self.core.close();
        }
    }
}

impl Machine for Session {
    fn handle_input(&mut self, now: Time, bytes: Bytes) {
        self.core.handle_input(now, bytes);
        self.settle();
    }

    fn handle_eof(&mut self, now: Time) {
        self.core.handle_eof(now);
        self.settle();
    }

    fn handle_timeout(&mut self, now: Time) {
        self.core.handle_timeout(now);
        self.expire(now);
        self.settle();
    }

    fn poll_transmit(&mut self, max: usize) -> Option<Transmit> {
        self.core.poll_transmit(max)
    }

    fn poll_timeout(&self) -> Option<Time> {
        let greeting = self.greeting.as_ref().map(|(deadline, _)| *deadline);
        let pings = self.pings.iter().map(|ping| ping.deadline);
        pings.chain(greeting).chain(self.core.poll_timeout()).min()
    }

    fn is_closed(&self) -> bool {
        self.core.is_closed()
    }
}

#[cfg(test)]
mod tests;
