//! The server's half: a toy application on [`ServerConnection`]s that answers, logs, and takes what is published.

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use bytes::{Buf as _, Bytes};
use selium_remote_client_protocol::{
    CloseReason, ErrorCode, Limits, RemoteError, RequestId, SendError, Time,
    client::StreamKind,
    hello::{Features, ServerHello},
    limits::{MAX_CHUNK, MAX_FRAME, MIN_STREAM_QUEUE},
    publish::Intake,
    server::{ServerConnection, ServerEvent},
};

use super::{
    Around,
    plan::{Item, LogEnd, PubId, Reads, What, content, message_key, published_key},
};
use crate::{
    rng::Dice,
    transport::{Read, Side, Transport},
    world::{
        flush,
        law::{Broken, Law, law},
    },
};

/// A link tells its end once: that it was lost behind that, only a write would tell.
const WRITE_FAILS: Duration = Duration::from_secs(60);

/// A ping may be on its way at any time, and a part of it be there.
const PING: usize = 11;

/// One life of the server: what it has taken is gone with it.
pub(super) struct Life {
    pub(super) incarnation: [u8; 16],
    intakes: BTreeMap<PubId, Intake>,
}

impl Life {
    pub(super) fn new(dice: &mut Dice) -> Self {
        Self {
            incarnation: dice.bytes16(),
            intakes: BTreeMap::new(),
        }
    }
}

/// How messages of a stream are acknowledged.
#[derive(Clone, Copy, Debug)]
struct Acks {
    slowest: u64,
    /// They may be dropped behind the server.
    flagged: bool,
}

/// A request that is not answered.
struct Running {
    ask: usize,
    at: Time,
    cancelled: bool,
}

/// A stream to the client.
struct Log {
    ask: usize,
    /// The place in what is planned.
    at: usize,
    seq: u64,
    next: Time,
    full: bool,
}

/// A stream from the client.
struct Incoming {
    ask: usize,
    acks: Acks,
    ack_at: Option<Time>,
    /// The last number that came.
    last: Option<u64>,
    unread: VecDeque<usize>,
    reads: Reads,
    read_at: Time,
    half_closed: bool,
    end_at: Option<Time>,
}

/// The server's end of a connection.
pub(super) struct ServerEnd {
    pub(super) number: u64,
    pub(super) core: ServerConnection,
    limits: Limits,
    clock: bool,
    dice: Dice,
    max_write: usize,
    unsent: VecDeque<Bytes>,
    running: BTreeMap<RequestId, Running>,
    logs: BTreeMap<RequestId, Log>,
    incoming: BTreeMap<RequestId, Incoming>,
    closed: bool,
    /// Anything has come.
    pub(super) heard: bool,
    ended: bool,
    /// When a driver's write fails at the latest, when the client has gone behind its end.
    gone_at: Option<Time>,
    lost: bool,
    finished: bool,
    pub(super) draining: bool,
}

impl ServerEnd {
    pub(super) fn new(number: u64, limits: Limits, clock: bool, dice: Dice) -> Self {
        let mut dice = dice;
        Self {
            number,
            core: ServerConnection::new(limits),
            limits,
            clock,
            max_write: dice.pick_or(&[64 * 1024, 64 * 1024, 1_400, 1], 64 * 1024),
            dice,
            unsent: VecDeque::new(),
            running: BTreeMap::new(),
            logs: BTreeMap::new(),
            incoming: BTreeMap::new(),
            closed: false,
            heard: false,
            ended: false,
            gone_at: None,
            lost: false,
            finished: false,
            draining: false,
        }
    }

    /// Whether nothing is left of it.
    pub(super) fn is_over(&self) -> bool {
        self.lost || self.finished
    }

    fn clock(&self, now: Time) -> Time {
        if self.clock { now } else { Time::ZERO }
    }

    /// When it does something by itself.
    pub(super) fn next(&self) -> Option<Time> {
        let answers = self.running.values().map(|running| running.at);
        let logs = self.logs.values().filter(|log| !log.full);
        let incoming = self.incoming.values().flat_map(|incoming| {
            let reads = matches!(incoming.reads, Reads::Every(_)) && !incoming.unread.is_empty();
            let read_at = reads.then_some(incoming.read_at);
            [incoming.ack_at, incoming.end_at, read_at]
        });
        answers
            .chain(logs.map(|log| log.next))
            .chain(incoming.flatten())
            .chain(self.gone_at)
            .min()
    }

    /// Ends one of the streams, if there are some.
    pub(super) fn reset_one(&mut self, around: &mut Around<'_>) {
        let ids: Vec<RequestId> = self
            .logs
            .keys()
            .chain(self.incoming.keys())
            .copied()
            .collect();
        let Some(id) = self.dice.pick(&ids).copied() else {
            return;
        };
        let log = self.logs.remove(&id).map(|log| log.ask);
        let ask = self.incoming.remove(&id).map(|incoming| incoming.ask);
        if let Some(ask) = log.or(ask).and_then(|ask| around.truth.asked.get_mut(ask)) {
            ask.over = Some((true, Some(ErrorCode::Internal)));
        }
        around.report.server_resets += 1;
        self.core
            .reset(id, RemoteError::new(ErrorCode::Internal, "enough"));
    }

    pub(super) fn drain(&mut self) {
        self.draining = true;
        self.core.drain();
    }

    /// Does what can be done now; answers whether that was anything.
    pub(super) fn run(
        &mut self,
        around: &mut Around<'_>,
        life: &mut Life,
        link: &mut dyn Transport,
    ) -> Law<bool> {
        let now = around.now;
        let mut moved = false;
        while !self.lost
            && let Some(read) = link.read(now, Side::Server)
        {
            moved = true;
            self.heard = true;
            match read {
                Read::Bytes(bytes) => {
                    let len = bytes.len() as u64;
                    around.trace.note(now, self.number, "server reads", len, 0);
                    if !self.ended {
                        self.core.handle_input(self.clock(now), bytes);
                    }
                }
                Read::End => {
                    self.ended = true;
                    self.gone_at = Some(now.saturating_add(WRITE_FAILS));
                    self.core.handle_eof(self.clock(now));
                }
                Read::Lost(_) => {
                    self.lost = true;
                    self.core.handle_eof(self.clock(now));
                }
            }
            self.events(around, life)?;
        }
        self.lost |= self.gone_at.is_some_and(|at| at <= now);
        moved |= self.work(around, life)?;
        self.events(around, life)?;
        loop {
            moved |= flush(link, now, Side::Server, &mut self.unsent)?;
            if !self.unsent.is_empty() || self.lost {
                break;
            }
            let Some(transmit) = self.core.poll_transmit(self.max_write) else {
                if self.ended && !core::mem::replace(&mut self.finished, true) {
                    link.finish(now, Side::Server);
                }
                break;
            };
            law!(!transmit.is_empty(), "the server transmits nothing");
            let len = transmit.len() as u64;
            around.trace.note(now, self.number, "server writes", len, 0);
            self.unsent.extend(transmit.parts);
            moved = true;
        }
        self.check_held()?;
        Ok(moved)
    }

    fn check_held(&self) -> Law {
        let limits = &self.limits;
        let streams = self.core.streams() + 8;
        let most = limits.control_queue
            + limits.connection_queue
            + streams * (MIN_STREAM_QUEUE + super::plan::LONGEST)
            + limits.reassembly
            + 4 * MAX_FRAME;
        let held = self.core.held();
        law!(
            held <= most,
            "the server holds {held} bytes, {most} at most"
        );
        law!(
            self.core.streams() <= limits.max_streams,
            "{} streams are open",
            self.core.streams()
        );
        law!(
            self.core.reassembling() <= limits.reassembly,
            "{} bytes are in reassembly",
            self.core.reassembling()
        );
        Ok(())
    }

    fn events(&mut self, around: &mut Around<'_>, life: &mut Life) -> Law {
        while let Some(event) = self.core.poll_event() {
            self.event(event, around, life)
                .map_err(|broken| Broken(format!("the server's end {}: {broken}", self.number)))?;
        }
        Ok(())
    }

    fn event(&mut self, event: ServerEvent, around: &mut Around<'_>, life: &mut Life) -> Law {
        law!(!self.closed, "an event behind the close: {event:?}");
        let now = around.now;
        match event {
            ServerEvent::Hello(_) => {
                let mut hello = ServerHello::new(life.incarnation, &self.limits);
                if self.clock {
                    hello.features = Features::CLOCK;
                }
                self.core.accept(&hello);
            }
            ServerEvent::Request { id, body, .. } => self.request(id, body, around)?,
            // The client's end checks that one of them drains.
            ServerEvent::Refused { id, error, .. } => law!(
                error.code == ErrorCode::Unavailable
                    || error.code == ErrorCode::ResourceExhausted && around.truth.tight,
                "request {id} is refused: {error}"
            ),
            ServerEvent::Cancelled { id, stream: false } => {
                let Some(running) = self.running.get_mut(&id) else {
                    return Err(Broken(format!(
                        "request {id} is cancelled, and does not run"
                    )));
                };
                law!(!running.cancelled, "request {id} is cancelled twice");
                running.cancelled = true;
                if self.dice.chance(50) {
                    running.at = now;
                }
            }
            ServerEvent::Cancelled { id, stream: true } | ServerEvent::Reset { id, .. } => {
                let log = self.logs.remove(&id).is_some();
                law!(
                    log | self.incoming.remove(&id).is_some(),
                    "stream {id} is given up, and is over"
                );
            }
            ServerEvent::Message {
                id,
                seq,
                payload,
                cost,
            } => {
                around.trace.note(now, self.number, "takes", id.get(), seq);
                law!(
                    cost == payload.len() + 32 && payload.len() <= self.limits.max_message,
                    "a message of {} bytes costs {cost}",
                    payload.len()
                );
                self.message(id, seq, &payload.into_bytes(), cost, around, life)?;
            }
            ServerEvent::Ended { id } => {
                let Some(incoming) = self.incoming.get_mut(&id) else {
                    return Err(Broken(format!("the end of stream {id}, which is over")));
                };
                law!(
                    !core::mem::replace(&mut incoming.half_closed, true),
                    "stream {id} ends twice"
                );
                around.report.half_closes += 1;
                let (got, sent) = match around.truth.asked.get(incoming.ask) {
                    Some(asked) => match &asked.ask.what {
                        What::Upload { sizes } => (asked.received, sizes.len()),
                        What::Publish { id } => around
                            .truth
                            .published
                            .get(id)
                            .map_or((0, 0), |life| (life.taken, life.pushed.len())),
                        _ => (0, 0),
                    },
                    None => (0, 0),
                };
                law!(
                    got == sent as u64,
                    "stream {id} ended behind {got} messages of {sent}"
                );
                let wait = self.dice.millis(0..=incoming.acks.slowest);
                incoming.end_at = Some(now.saturating_add(wait));
            }
            ServerEvent::Room { id } => {
                if let Some(log) = self.logs.get_mut(&id) {
                    log.full = false;
                }
            }
            ServerEvent::Closed(reason) => {
                self.closed = true;
                self.running.clear();
                self.logs.clear();
                self.incoming.clear();
                return match reason {
                    CloseReason::Lost => Ok(()),
                    CloseReason::Peer(error) | CloseReason::Local(error)
                        if matches!(
                            error.code,
                            ErrorCode::Cancelled
                                | ErrorCode::ResourceExhausted
                                | ErrorCode::Unavailable
                        ) =>
                    {
                        Ok(())
                    }
                    other => Err(Broken(format!("two honest machines ended with: {other}"))),
                };
            }
            other => return Err(Broken(format!("an event that nobody asked for: {other:?}"))),
        }
        Ok(())
    }

    fn request(&mut self, id: RequestId, body: Bytes, around: &mut Around<'_>) -> Law {
        // The rest of a request that had begun still comes.
        law!(
            !self.draining || body.len() > MAX_CHUNK,
            "request {id} came behind the drain"
        );
        law!(body.len() >= 8, "request {id} is cut");
        let mut rest = body;
        let number = usize::try_from(rest.get_u64()).unwrap_or(usize::MAX);
        let Some(asked) = around.truth.asked.get_mut(number) else {
            return Err(Broken(format!("nobody has asked what request {id} asks")));
        };
        law!(
            !core::mem::replace(&mut asked.seen, true),
            "request {id} came twice"
        );
        law!(
            rest == content(number as u64, asked.ask.len),
            "request {id} has other bytes than it was sent with"
        );
        let running = Running {
            ask: number,
            at: around.now.saturating_add(asked.ask.delay),
            cancelled: false,
        };
        law!(
            self.running.insert(id, running).is_none(),
            "request {id} runs already"
        );
        Ok(())
    }

    fn message(
        &mut self,
        id: RequestId,
        seq: u64,
        payload: &Bytes,
        cost: usize,
        around: &mut Around<'_>,
        life: &mut Life,
    ) -> Law {
        let Some(incoming) = self.incoming.get_mut(&id) else {
            return Err(Broken(format!(
                "message {seq} of stream {id}, which is over"
            )));
        };
        law!(!incoming.half_closed, "message {seq} behind the end");
        let Some(asked) = around.truth.asked.get_mut(incoming.ask) else {
            return Ok(());
        };
        if let Some(last) = incoming.last {
            law!(seq == last + 1, "message {seq} came behind {last}");
        }
        incoming.last = Some(seq);
        let expected = match &asked.ask.what {
            What::Upload { sizes } => {
                law!(
                    seq == asked.received,
                    "message {seq} came, and {} was to come",
                    asked.received
                );
                asked.received += 1;
                around.report.uploaded += 1;
                let len = sizes.get(seq as usize).copied();
                len.map(|len| content(message_key(incoming.ask, seq), len))
            }
            What::Publish { id } => {
                let Some(published) = around.truth.published.get_mut(id) else {
                    return Err(Broken("a publication that nobody made".to_owned()));
                };
                if life.intakes.entry(*id).or_default().take(seq) {
                    law!(
                        seq == published.taken,
                        "message {seq} is handed over, and {} was to be",
                        published.taken
                    );
                    published.taken += 1;
                    around.report.published += 1;
                } else {
                    law!(seq < published.taken, "message {seq} is not handed over");
                    around.report.duplicates += 1;
                }
                let len = published.pushed.get(seq as usize).copied();
                len.map(|len| content(published_key(*id, seq), len))
            }
            _ => None,
        };
        law!(
            expected.as_ref() == Some(payload),
            "message {seq} of stream {id} came as {} other bytes",
            payload.len()
        );
        incoming.unread.push_back(cost);
        // Every other stream holds nothing of the connection's window.
        if id.get() % 2 == 1 {
            self.core.release(id, cost);
        }
        if incoming.ack_at.is_none() {
            let wait = self.dice.millis(0..=incoming.acks.slowest);
            incoming.ack_at = Some(around.now.saturating_add(wait));
        }
        Ok(())
    }

    /// Answers, logs, acknowledges and reads what is due.
    fn work(&mut self, around: &mut Around<'_>, life: &mut Life) -> Law<bool> {
        let now = around.now;
        let mut moved = false;
        let due = |running: &Running| running.at <= now;
        while let Some(id) = self
            .running
            .iter()
            .find(|(_, running)| due(running))
            .map(|(id, _)| *id)
        {
            moved = true;
            if let Some(running) = self.running.remove(&id) {
                self.answer(id, &running, around, life)?;
            }
        }
        let ids: Vec<RequestId> = self
            .logs
            .iter()
            .filter(|(_, log)| !log.full && log.next <= now)
            .map(|(id, _)| *id)
            .collect();
        for id in ids {
            moved = true;
            self.log(id, around)?;
        }
        let core = &mut self.core;
        for (id, incoming) in &mut self.incoming {
            let id = *id;
            if around.truth.finishing && incoming.reads == Reads::Late {
                incoming.reads = Reads::AtOnce;
            }
            let most = match incoming.reads {
                Reads::AtOnce => usize::MAX,
                Reads::Every(_) if incoming.read_at <= now => 1,
                _ => 0,
            };
            for cost in (0..most).map_while(|_| incoming.unread.pop_front()) {
                moved = true;
                core.consume(id, cost);
                if let Reads::Every(wait) = incoming.reads {
                    incoming.read_at = now.saturating_add(wait);
                }
            }
            let ends = incoming.end_at.is_some_and(|at| at <= now);
            if let Some(last) = incoming.last
                && (ends || incoming.ack_at.is_some_and(|at| at <= now))
            {
                moved = true;
                incoming.ack_at = None;
                core.acknowledge(id, last, incoming.acks.flagged);
            }
            if ends {
                moved = true;
                core.end(id, None);
                if let Some(asked) = around.truth.asked.get_mut(incoming.ask) {
                    asked.over = Some((false, None));
                }
            }
        }
        self.incoming
            .retain(|_, incoming| incoming.end_at.is_none_or(|at| at > now));
        Ok(moved)
    }

    fn answer(
        &mut self,
        id: RequestId,
        running: &Running,
        around: &mut Around<'_>,
        life: &mut Life,
    ) -> Law {
        let now = around.now;
        let Some(asked) = around.truth.asked.get_mut(running.ask) else {
            return Ok(());
        };
        let ask = &asked.ask;
        let len = match ask.answer {
            Ok(len) => len,
            Err(code) => {
                asked.answered = Some(Err(code));
                self.core.respond(id, Err(RemoteError::new(code, "no")));
                return Ok(());
            }
        };
        let body = content(!(running.ask as u64), len).to_vec();
        let (body, kind) = match &ask.what {
            What::Plain => {
                if running.cancelled && self.dice.chance(50) {
                    let code = ErrorCode::Cancelled;
                    asked.answered = Some(Err(code));
                    self.core.respond(id, Err(RemoteError::new(code, "no")));
                } else {
                    asked.answered = Some(Ok(()));
                    self.core.respond(id, Ok(body));
                }
                return Ok(());
            }
            What::Log { .. } => (body, StreamKind::ToClient),
            What::Upload { .. } => (body, StreamKind::ToServer),
            What::Publish { id } => {
                let last = life.intakes.entry(*id).or_default().last();
                let last = last.map_or(0, |last| last + 1);
                (last.to_be_bytes().to_vec(), StreamKind::ToServer)
            }
        };
        match self.core.respond_stream(id, body, kind) {
            Ok(()) => law!(
                !running.cancelled,
                "request {id} was cancelled and opens a stream"
            ),
            Err(error) => {
                let code = match error {
                    SendError::Full => ErrorCode::ResourceExhausted,
                    SendError::TooLarge(_) => ErrorCode::TooLarge,
                    _ => ErrorCode::Cancelled,
                };
                law!(
                    (code == ErrorCode::Cancelled) == running.cancelled,
                    "request {id} opens no stream: {error}"
                );
                asked.answered = Some(Err(code));
                return Ok(());
            }
        }
        asked.answered = Some(Ok(()));
        self.core.set_weight(id, ask.weight);
        if kind == StreamKind::ToClient {
            let log = Log {
                ask: running.ask,
                at: 0,
                seq: 0,
                next: now,
                full: false,
            };
            self.logs.insert(id, log);
            return self.log(id, around);
        }
        let incoming = Incoming {
            ask: running.ask,
            acks: Acks {
                slowest: self.dice.pick_or(&[0, 0, 30, 800], 0),
                flagged: flagged(running.ask),
            },
            ack_at: None,
            last: None,
            unread: VecDeque::new(),
            reads: ask.reads,
            read_at: now,
            half_closed: false,
            end_at: None,
        };
        self.incoming.insert(id, incoming);
        Ok(())
    }

    /// Puts what is due into a stream, as far as there is room.
    fn log(&mut self, id: RequestId, around: &mut Around<'_>) -> Law {
        let now = around.now;
        let Some(log) = self.logs.get_mut(&id) else {
            return Ok(());
        };
        let Some(asked) = around.truth.asked.get_mut(log.ask) else {
            return Ok(());
        };
        let What::Log {
            sizes,
            gaps,
            pace,
            end,
        } = &asked.ask.what
        else {
            return Ok(());
        };
        while let Some(len) = sizes.get(log.at).copied() {
            let payload = content(message_key(log.ask, log.seq), len);
            match self.core.send(id, log.seq, payload) {
                Ok(()) => {}
                Err(SendError::Full) => {
                    log.full = true;
                    return Ok(());
                }
                Err(error) => return Err(Broken(format!("stream {id} takes nothing: {error}"))),
            }
            let seq = log.seq;
            asked.items.push(Item::Message { seq, len });
            log.at += 1;
            log.seq += 1;
            if self.dice.chance(*gaps) {
                let missing = self.dice.within(1..=5);
                let next = log.seq + missing;
                let count = self.dice.chance(70).then_some(missing);
                if self.core.gap(id, next, count).is_err() {
                    return Err(Broken(format!("stream {id} takes no gap")));
                }
                asked.items.push(Item::Gap { next, count });
                log.seq = next;
            }
            if !pace.is_zero() {
                log.next = now.saturating_add(*pace);
                return Ok(());
            }
        }
        let error = |code| RemoteError::new(code, "over");
        let over = match *end {
            LogEnd::Open => {
                // It waits, and is not looked at again.
                log.full = true;
                return Ok(());
            }
            LogEnd::End => {
                self.core.end(id, None);
                (false, None)
            }
            LogEnd::Error(code) => {
                self.core.end(id, Some(error(code)));
                (false, Some(code))
            }
            LogEnd::Reset(code) => {
                self.core.reset(id, error(code));
                around.report.server_resets += 1;
                (true, Some(code))
            }
        };
        asked.over = Some(over);
        self.logs.remove(&id);
        Ok(())
    }

    /// Dies with its server: nobody hears of it.
    pub(super) fn die(&mut self) {
        self.lost = true;
        self.running.clear();
        self.logs.clear();
        self.incoming.clear();
    }

    /// That nothing is left of what was.
    pub(super) fn check_base(&self, calm: bool) -> Law {
        let core = &self.core;
        let left = (core.requests(), core.streams());
        law!(
            !calm || left == (0, 0),
            "all is over, and the server has {left:?} requests and streams"
        );
        let held = (core.held(), core.queued(), core.reassembling());
        law!(
            !calm || (held.0 < PING && (held.1, held.2) == (0, 0)),
            "all is over, and the server holds {held:?} bytes"
        );
        Ok(())
    }

    /// How far it is, for a failure's words.
    pub(super) fn state(&self) -> String {
        let (ended, unsent) = (self.ended, self.unsent.len());
        let (closed, held) = (self.core.is_closed(), self.core.held());
        format!("ended {ended}, closed {closed}, {unsent} pieces unsent, {held} bytes held")
    }

    /// Whether its application has nothing to do.
    pub(super) fn is_idle(&self) -> bool {
        self.running.is_empty() && self.logs.is_empty() && self.incoming.is_empty()
    }
}

/// Whether what this request publishes may be dropped behind the server.
pub(super) fn flagged(ask: usize) -> bool {
    crate::rng::mix(ask as u64).is_multiple_of(3)
}
