//! A client: it does what its script says over one connection after another, and every law about requests is kept here.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use selium_remote_client_protocol::{
    CloseReason, ErrorCode, Limits, RemoteError, RequestId, Time,
    client::{
        ClientConfig, ClientConnection, ClientEvent, RequestError, RequestOptions, StreamKind,
    },
    hello::ClientHello,
    ops::{
        Common, FollowRequest, FollowStarted, InfoRequest, InspectRequest, ListRequest,
        ProcessInfo, ProcessList, ProcessRef, Request, ServerInfo, StartRequest, StopRequest, op,
    },
};

use super::{
    Rules,
    follow::{Asked, Follow, Reads},
    host::{SimHost, Truth},
    law::{Broken, Law, law},
    report::Report,
    script::{Step, script},
    wire::{Wire, flush},
};
use crate::{
    link::Weather,
    rng::Dice,
    trace::Trace,
    transport::{Read, Side},
};

/// How long a client waits for the server's hello.
const HELLO_WAIT: Duration = Duration::from_secs(15);

/// How long a client waits for its last words to arrive, as the driver on tokio does.
const CLOSE_WAIT: Duration = Duration::from_secs(1);

/// How long a request may run. The host takes seconds, links stall for at most 12 s, and the dead ones are found out
/// by their silence after 25 s.
const PATIENCE: Duration = Duration::from_secs(120);

/// How long an answer takes at most over a calm link that needs nothing of the host.
const PROMPT: Duration = Duration::from_secs(1);

/// Links after which a client gets only calm ones, so that it comes to its end.
const BAD_LINKS: u32 = 3;

/// What a client's step needs of the world.
pub(super) struct Around<'a> {
    pub(super) now: Time,
    pub(super) rules: &'a Rules,
    pub(super) host: &'a mut SimHost,
    pub(super) known: &'a mut Known,
    pub(super) trace: &'a mut Trace,
    pub(super) report: &'a mut Report,
}

/// What all clients know of the server's processes.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// The start of each id.
    by_id: BTreeMap<u64, String>,
    /// Ids and names, in the order in which they became known.
    processes: Vec<(u64, String)>,
}

impl Known {
    /// Takes over that an id belongs to a start.
    fn learn(&mut self, process: &ProcessRef, key: &str) -> Law {
        let known = self
            .by_id
            .entry(process.id)
            .or_insert_with(|| key.to_owned());
        law!(
            known == key,
            "process {:016x} is both `{known}` and `{key}`",
            process.id
        );
        if !self.processes.iter().any(|(id, _)| *id == process.id) {
            self.processes.push((process.id, process.name.clone()));
        }
        Ok(())
    }

    fn target(&self, dice: &mut Dice) -> String {
        match dice.pick(&self.processes) {
            Some(_) if dice.chance(4) => "nobody".to_owned(),
            Some((_, name)) if !name.is_empty() && dice.chance(40) => name.clone(),
            Some((id, _)) if dice.chance(30) => format!("{id:016x}").chars().take(12).collect(),
            Some((id, _)) => format!("{id:016x}"),
            None => "nobody".to_owned(),
        }
    }
}

#[derive(Clone, Debug)]
enum What {
    Start { token: u64 },
    Stop { token: u64 },
    List,
    Inspect,
    Info,
    Follow(Asked),
}

/// A request that was sent and has not ended.
#[derive(Clone, Debug)]
struct Pending {
    what: What,
    sent: Time,
    retry: bool,
    cancelled: bool,
    long: bool,
    /// The host had been asked for it when this was sent.
    executed: bool,
}

/// A changing request that has not been answered.
#[derive(Clone, Debug)]
enum Change {
    Start(Box<StartRequest>),
    Stop(StopRequest),
}

struct Conn {
    wire: u64,
    core: ClientConnection,
    limits: Limits,
    max_write: usize,
    hello_by: Time,
    greeted: bool,
    unsent: VecDeque<Bytes>,
    pending: BTreeMap<RequestId, Pending>,
    streams: BTreeMap<RequestId, Follow>,
    /// Streams of which nothing may be heard any more.
    closed: Option<CloseReason>,
    ended: bool,
    finished: bool,
    kill_at: Option<Time>,
    calm: bool,
}

/// A client.
pub(super) struct Client {
    pub(super) number: u64,
    dice: Dice,
    session: [u8; 16],
    script: VecDeque<(Duration, Step)>,
    step_at: Time,
    tokens: u64,
    changes: BTreeMap<u64, Change>,
    /// Starts by token, for ever.
    keys: BTreeMap<u64, String>,
    /// Tokens that were sent more than once.
    repeated: BTreeSet<u64>,
    /// What was answered with success.
    outcomes: BTreeMap<u64, Bytes>,
    conn: Option<Conn>,
    pub(super) dial_at: Option<Time>,
    pub(super) dials: u32,
    quits: bool,
    checked: Time,
}

impl Client {
    pub(super) fn new(number: u64, dice: Dice, calm: bool) -> Self {
        let mut dice = dice;
        let session = dice.bytes16();
        let script = script(number, &mut dice.fork("script"), calm);
        let first = Time::ZERO.saturating_add(dice.millis(0..=300));
        Self {
            number,
            dice,
            session,
            script,
            step_at: first,
            tokens: 0,
            changes: BTreeMap::new(),
            keys: BTreeMap::new(),
            repeated: BTreeSet::new(),
            outcomes: BTreeMap::new(),
            conn: None,
            dial_at: Some(first),
            dials: 0,
            quits: false,
            checked: Time::ZERO,
        }
    }

    /// The weather on its next link.
    pub(super) fn weather(&self, worst: Weather) -> Weather {
        if self.dials >= BAD_LINKS {
            Weather::Calm
        } else {
            worst
        }
    }

    /// Begins a connection on a link.
    pub(super) fn dialled(&mut self, now: Time, wire: u64, weather: Weather) {
        self.dial_at = None;
        self.dials += 1;
        let dice = &mut self.dice;
        let small = dice.chance(40);
        let limits = Limits::with(|limits| {
            if small {
                limits.connection_window = dice.size(600..=20_000);
                limits.stream_window = dice.size(300..=10_000);
                limits.max_message = dice.size(20_000..=100_000);
                limits.max_connection_window = limits.connection_window + dice.size(0..=20_000);
                limits.reassembly = limits.max_message + dice.size(0..=50_000);
            }
        });
        let hello = ClientHello::new(dice.bytes16(), self.session, &limits);
        let config = ClientConfig::new(hello, limits);
        self.conn = Some(Conn {
            wire,
            core: ClientConnection::new(config),
            limits,
            max_write: dice.pick_or(&[64 * 1024, 64 * 1024, 1_200, 1], 64 * 1024),
            hello_by: now.saturating_add(HELLO_WAIT),
            greeted: false,
            unsent: VecDeque::new(),
            pending: BTreeMap::new(),
            streams: BTreeMap::new(),
            closed: None,
            ended: false,
            finished: false,
            kill_at: None,
            calm: weather == Weather::Calm,
        });
        self.step_at = self.step_at.max(now);
    }

    /// The wire that it holds an end of.
    pub(super) fn wire(&self) -> Option<u64> {
        self.conn.as_ref().map(|conn| conn.wire)
    }

    /// Whether it wants nothing more, streams aside.
    pub(super) fn is_idle(&self) -> bool {
        let waits = |conn: &Conn| !conn.pending.is_empty() || conn.closed.is_some();
        self.script.is_empty()
            && self.changes.is_empty()
            && self.dial_at.is_none()
            && !self.conn.as_ref().is_some_and(waits)
    }

    /// Bytes that its machine holds: of a long message that is on its way more and more.
    pub(super) fn held(&self) -> usize {
        self.conn.as_ref().map_or(0, |conn| conn.core.held())
    }

    /// Whether it is gone for good.
    pub(super) fn is_gone(&self) -> bool {
        self.conn.is_none() && self.dial_at.is_none()
    }

    /// Has it leave.
    pub(super) fn quit(&mut self, now: Time) {
        self.quits = true;
        self.dial_at = None;
        self.script.clear();
        if self.conn.is_some() {
            let step = if self.dice.chance(60) {
                Step::Close
            } else {
                Step::Kill
            };
            self.script.push_back((Duration::ZERO, step));
            self.step_at = now;
        }
    }

    /// When it does something next by itself.
    pub(super) fn next(&self) -> Option<Time> {
        let Some(conn) = &self.conn else {
            return self.dial_at;
        };
        let step = (conn.greeted && conn.closed.is_none() && !self.script.is_empty())
            .then_some(self.step_at);
        let hello = (!conn.greeted && conn.closed.is_none()).then_some(conn.hello_by);
        let reads = conn
            .streams
            .values()
            .filter(|follow| !follow.unread.is_empty())
            .filter(|follow| matches!(follow.asked.reads, Reads::Every(_)))
            .map(|follow| follow.read_at);
        reads
            .chain(step)
            .chain(hello)
            .chain(conn.kill_at)
            .chain(conn.core.poll_timeout())
            .min()
    }

    /// Does what can be done now; answers whether that was anything.
    pub(super) fn run(&mut self, around: &mut Around<'_>, wire: &mut Wire) -> Law<bool> {
        let now = around.now;
        let mut moved = self.read(around, wire)?;
        let Some(conn) = &mut self.conn else {
            return Ok(moved);
        };
        if conn.core.poll_timeout().is_some_and(|due| due <= now) {
            moved = true;
            conn.core.handle_timeout(now);
            law!(
                conn.core.poll_timeout().is_none_or(|due| due > now),
                "the client's timeout does not move on"
            );
        }
        if !conn.greeted && conn.closed.is_none() && conn.hello_by <= now {
            moved = true;
            conn.core.close();
        }
        moved |= self.events(around)?;
        moved |= self.consume(around)?;
        while self
            .conn
            .as_ref()
            .is_some_and(|conn| conn.greeted && conn.closed.is_none())
            && self.step_at <= now
            && let Some((_, step)) = self.script.pop_front()
        {
            moved = true;
            if matches!(step, Step::Kill) {
                around.report.killed += 1;
                self.drop_conn(around, wire)?;
                return Ok(true);
            }
            self.step(step, around)?;
            self.events(around)?;
            let wait = self.script.front().map_or(Duration::ZERO, |next| next.0);
            self.step_at = now.saturating_add(wait);
        }
        self.repeat_unanswered(around)?;
        self.check_patience(now)?;
        moved |= self.write(around, wire)?;
        Ok(moved)
    }

    fn read(&mut self, around: &mut Around<'_>, wire: &mut Wire) -> Law<bool> {
        let mut moved = false;
        while let Some(conn) = &mut self.conn
            && !conn.ended
            && let Some(read) = wire.link.read(around.now, Side::Client)
        {
            moved = true;
            match read {
                Read::Bytes(bytes) => {
                    let len = bytes.len() as u64;
                    around.trace.note(around.now, self.number, "reads", len, 0);
                    conn.core.handle_input(around.now, bytes);
                }
                Read::End | Read::Lost(_) => {
                    around
                        .trace
                        .note(around.now, self.number, "reads the end", 0, 0);
                    conn.ended = true;
                    conn.core.handle_eof(around.now);
                }
            }
            self.events(around)?;
        }
        Ok(moved)
    }

    fn write(&mut self, around: &mut Around<'_>, wire: &mut Wire) -> Law<bool> {
        let now = around.now;
        let mut moved = false;
        let Some(conn) = &mut self.conn else {
            return Ok(false);
        };
        let drained = loop {
            moved |= flush(&mut *wire.link, now, Side::Client, &mut conn.unsent)?;
            if !conn.unsent.is_empty() {
                break false;
            }
            let Some(transmit) = conn.core.poll_transmit(conn.max_write) else {
                break true;
            };
            law!(!transmit.is_empty(), "the client transmits nothing");
            around
                .trace
                .note(now, self.number, "writes", transmit.len() as u64, 0);
            conn.unsent.extend(transmit.parts);
            moved = true;
        };
        if conn.closed.is_some() {
            if drained && !core::mem::replace(&mut conn.finished, true) {
                wire.link.finish(now, Side::Client);
                moved = true;
            }
            let kill_at = *conn.kill_at.get_or_insert(now.saturating_add(CLOSE_WAIT));
            if conn.ended || kill_at <= now {
                self.drop_conn(around, wire)?;
                moved = true;
            }
        }
        Ok(moved)
    }

    /// Drops the connection, whatever state it is in, and comes back when there is something to do.
    fn drop_conn(&mut self, around: &mut Around<'_>, wire: &mut Wire) -> Law {
        let Some(conn) = self.conn.take() else {
            return Ok(());
        };
        around.trace.note(around.now, self.number, "drops", 0, 0);
        law!(
            conn.closed.is_none() || conn.pending.is_empty(),
            "requests outlive their connection"
        );
        wire.link.kill(around.now, Side::Client);
        wire.client_gone = true;
        let wants_more = !self.script.is_empty() || !self.changes.is_empty();
        if wants_more && !self.quits {
            let wait = self.dice.millis(0..=1_500);
            self.dial_at = Some(around.now.saturating_add(wait));
        }
        if self.quits {
            self.changes.clear();
            self.script.clear();
        }
        Ok(())
    }

    /// Reads from the queues of slow readers.
    fn consume(&mut self, around: &mut Around<'_>) -> Law<bool> {
        let Some(conn) = &mut self.conn else {
            return Ok(false);
        };
        let now = around.now;
        let mut moved = false;
        for (id, follow) in &mut conn.streams {
            let most = match follow.asked.reads {
                Reads::AtOnce => usize::MAX,
                Reads::Every(_) if follow.read_at <= now => 1,
                Reads::Every(_) | Reads::Never => 0,
            };
            for _ in 0..most {
                let Some(cost) = follow.unread.pop_front() else {
                    break;
                };
                moved = true;
                conn.core.consume(*id, cost);
                if let Reads::Every(wait) = follow.asked.reads {
                    follow.read_at = now.saturating_add(wait);
                }
            }
        }
        conn.streams
            .retain(|_, follow| !follow.ended || !follow.unread.is_empty());
        Ok(moved)
    }

    fn check_patience(&mut self, now: Time) -> Law {
        if now.saturating_since(self.checked) < Duration::from_secs(1) {
            return Ok(());
        }
        self.checked = now;
        let Some(conn) = &self.conn else {
            return Ok(());
        };
        for (id, pending) in &conn.pending {
            let age = now.saturating_since(pending.sent);
            law!(
                age < PATIENCE,
                "request {id} ({:?}) has waited for {age:?} and has not ended",
                pending.what
            );
        }
        Ok(())
    }

    /// After a reconnect: what was not answered is sent again.
    fn repeat_unanswered(&mut self, around: &mut Around<'_>) -> Law {
        let open = |conn: &&Conn| conn.greeted && conn.closed.is_none();
        let Some(conn) = self.conn.as_ref().filter(open) else {
            return Ok(());
        };
        if !self.script.is_empty() && self.dials == 1 {
            return Ok(()); // The script may do it, or the deadline's end.
        }
        let runs = |token: u64| {
            conn.pending.values().any(|pending| match pending.what {
                What::Start { token: other } | What::Stop { token: other } => other == token,
                _ => false,
            })
        };
        let again: Vec<u64> = self
            .changes
            .keys()
            .copied()
            .filter(|token| !runs(*token))
            .collect();
        for token in again {
            self.change(token, true, None, around)?;
        }
        Ok(())
    }

    fn step(&mut self, step: Step, around: &mut Around<'_>) -> Law {
        match step {
            Step::Start { spec, deadline } => {
                self.tokens += 1;
                self.keys.insert(self.tokens, spec.entrypoint.clone());
                self.changes.insert(self.tokens, Change::Start(spec));
                self.change(self.tokens, false, deadline, around)
            }
            Step::Stop { deadline } => {
                let target = around.known.target(&mut self.dice);
                self.tokens += 1;
                self.changes.insert(
                    self.tokens,
                    Change::Stop(StopRequest::with(|made| {
                        made.target = target;
                    })),
                );
                self.change(self.tokens, false, deadline, around)
            }
            Step::List => {
                let request = ListRequest::with(|made| {
                    made.all = self.dice.chance(50);
                    made.limit = self.dice.size(1..=20);
                    made.cursor = self.dice.within(0..=3);
                });
                self.send(&request, Common::default(), What::List, around)
            }
            Step::Inspect => {
                let target = around.known.target(&mut self.dice);
                let request = InspectRequest::with(|made| {
                    made.target = target;
                });
                self.send(&request, Common::default(), What::Inspect, around)
            }
            Step::Info => self.send(&InfoRequest, Common::default(), What::Info, around),
            Step::Follow(asked) => {
                let request = FollowRequest::with(|made| {
                    made.target = around.known.target(&mut self.dice);
                    made.tail = asked.tail;
                    made.since = asked.since;
                    made.no_follow = asked.no_follow;
                });
                self.send(&request, Common::default(), What::Follow(asked), around)
            }
            Step::Repeat => {
                let tokens: Vec<u64> = self.changes.keys().copied().collect();
                match self.dice.pick(&tokens) {
                    Some(token) => self.change(*token, true, None, around),
                    None => Ok(()),
                }
            }
            Step::Cancel | Step::Abandon => {
                let gives_up = matches!(step, Step::Abandon);
                self.give_up(gives_up, around);
                Ok(())
            }
            Step::Ping => {
                if let Some(conn) = &mut self.conn {
                    conn.core.ping(around.now);
                }
                Ok(())
            }
            Step::Close | Step::Kill => {
                if let Some(conn) = &mut self.conn {
                    conn.core.close();
                }
                Ok(())
            }
        }
    }

    fn give_up(&mut self, entirely: bool, around: &mut Around<'_>) {
        let Some(conn) = &mut self.conn else {
            return;
        };
        let streams = conn.streams.iter().filter(|(_, follow)| !follow.ended);
        let ids: Vec<RequestId> = conn
            .pending
            .keys()
            .chain(streams.map(|(id, _)| id))
            .copied()
            .collect();
        let Some(id) = self.dice.pick(&ids).copied() else {
            return;
        };
        if entirely {
            around.report.abandoned += 1;
            conn.core.abandon(id);
            conn.pending.remove(&id);
            conn.streams.remove(&id);
        } else {
            around.report.cancels += 1;
            if let Some(pending) = conn.pending.get_mut(&id) {
                pending.cancelled = true;
            }
            if let Some(follow) = conn.streams.get_mut(&id) {
                follow.cancelled = true;
            }
            conn.core.cancel(id);
        }
    }

    /// Sends a changing request, for the first time or again.
    fn change(
        &mut self,
        token: u64,
        retry: bool,
        deadline: Option<Duration>,
        around: &mut Around<'_>,
    ) -> Law {
        let common = Common::with(|made| {
            made.token = Some(token);
            made.retry = retry;
            made.deadline_ms = deadline.and_then(|d| u64::try_from(d.as_millis()).ok());
        });
        if retry {
            self.repeated.insert(token);
        }
        match self.changes.get(&token).cloned() {
            Some(Change::Start(spec)) => self.send(&*spec, common, What::Start { token }, around),
            Some(Change::Stop(stop)) => self.send(&stop, common, What::Stop { token }, around),
            None => Ok(()),
        }
    }

    fn send<R: Request>(
        &mut self,
        request: &R,
        common: Common,
        what: What,
        around: &mut Around<'_>,
    ) -> Law {
        let now = around.now;
        let Some(conn) = &mut self.conn else {
            return Ok(());
        };
        let body = request.encode(&common);
        let long = body.len() > 16 * 1024;
        let kind = match R::OP {
            op::LOG_FOLLOW => StreamKind::ToClient,
            _ => StreamKind::None,
        };
        let deadline = common
            .deadline_ms
            .map(|ms| now.saturating_add(Duration::from_millis(ms)));
        let options = RequestOptions::new(kind).deadline(deadline);
        let executed = match &what {
            What::Start { token } => self
                .keys
                .get(token)
                .and_then(|key| around.host.starts.get(key))
                .is_some_and(|start| start.times > 0),
            _ => false,
        };
        match conn.core.request(R::OP, body, options) {
            Ok(id) => {
                around.report.requests += 1;
                around.report.long_requests += u64::from(long);
                around.report.retries += u64::from(common.retry);
                around.trace.note(now, self.number, "asks", id.get(), R::OP);
                let old = conn.pending.insert(
                    id,
                    Pending {
                        what,
                        sent: now,
                        retry: common.retry,
                        cancelled: false,
                        long,
                        executed,
                    },
                );
                law!(old.is_none(), "request id {id} was given out twice");
            }
            // Not sent at all; a change stays to be done.
            Err(error) => {
                around.trace.note(now, self.number, "cannot ask", R::OP, 0);
                law!(
                    !conn.calm || long || matches!(error, RequestError::TooMany(_)),
                    "a request cannot be sent over a calm link: {error}"
                );
                match what {
                    What::Start { token } | What::Stop { token } if !common.retry => {
                        self.changes.remove(&token);
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }

    fn events(&mut self, around: &mut Around<'_>) -> Law<bool> {
        let mut moved = false;
        while let Some(event) = self.conn.as_mut().and_then(|conn| conn.core.poll_event()) {
            moved = true;
            self.event(event, around)
                .map_err(|broken| Broken(format!("client {}: {broken}", self.number)))?;
        }
        Ok(moved)
    }

    fn event(&mut self, event: ClientEvent, around: &mut Around<'_>) -> Law {
        let Some(conn) = &mut self.conn else {
            return Ok(());
        };
        law!(
            conn.closed.is_none(),
            "an event behind the close: {event:?}"
        );
        let now = around.now;
        match event {
            ClientEvent::Connected(_) => {
                around.trace.note(now, self.number, "connected", 0, 0);
                law!(!core::mem::replace(&mut conn.greeted, true), "two hellos");
                self.step_at = self.step_at.max(now);
            }
            ClientEvent::Response { id, result } => {
                let code = result
                    .as_ref()
                    .err()
                    .map_or(0, |error| error.code.to_wire());
                around
                    .trace
                    .note(now, self.number, "answer", id.get(), u64::from(code));
                let Some(pending) = conn.pending.remove(&id) else {
                    return Err(Broken(format!(
                        "an answer to request {id}, which has ended: {result:?}"
                    )));
                };
                return self.answered(id, &pending, result, around);
            }
            ClientEvent::Expired { id } => {
                around.trace.note(now, self.number, "expired", id.get(), 0);
                around.report.expired += 1;
                law!(
                    conn.pending.remove(&id).is_some(),
                    "request {id} expired and had ended"
                );
            }
            ClientEvent::Message {
                id,
                seq,
                payload,
                cost,
            } => {
                around.trace.note(now, self.number, "record", id.get(), seq);
                let Some(follow) = conn.streams.get_mut(&id) else {
                    return Err(Broken(format!(
                        "record {seq} of stream {id}, which is over"
                    )));
                };
                law!(
                    payload.len() <= conn.limits.max_message && cost == payload.len() + 32,
                    "a record of {} bytes costs {cost}",
                    payload.len()
                );
                follow.message(seq, &payload.into_bytes(), around.host, around.report)?;
                self.arrived(id, cost)?;
            }
            ClientEvent::Gap {
                id,
                next,
                count,
                cost,
            } => {
                around.trace.note(now, self.number, "gap", id.get(), next);
                let Some(follow) = conn.streams.get_mut(&id) else {
                    return Err(Broken(format!("a gap of stream {id}, which is over")));
                };
                let mut rules = around.rules.clone();
                rules.longest_record = conn.limits.max_message.min(conn.limits.reassembly);
                follow.gap(next, count, around.host, &rules, around.report)?;
                self.arrived(id, cost)?;
            }
            ClientEvent::Ended { id, error } => {
                around.trace.note(now, self.number, "end", id.get(), 0);
                let Some(follow) = conn.streams.get_mut(&id) else {
                    return Err(Broken(format!("the end of stream {id}, which is over")));
                };
                follow.end(error.as_ref(), around.host, around.rules, around.report)?;
            }
            ClientEvent::Pong { round_trip } => {
                law!(
                    !conn.calm || round_trip <= PROMPT,
                    "a ping over a calm link took {round_trip:?}"
                );
            }
            ClientEvent::Closed(reason) => return self.closed(reason, around),
            other => return Err(Broken(format!("an event that nobody asked for: {other:?}"))),
        }
        Ok(())
    }

    /// Keeps what was delivered until it is read, and checks that no more is unread than there was credit for.
    fn arrived(&mut self, id: RequestId, cost: usize) -> Law {
        let Some(conn) = &mut self.conn else {
            return Ok(());
        };
        if let Some(follow) = conn.streams.get_mut(&id) {
            follow.unread.push_back(cost);
        }
        let unread: usize = conn
            .streams
            .values()
            .flat_map(|follow| &follow.unread)
            .sum();
        let overheads = 32 * (conn.streams.len() + 1);
        let most = Rules::window(&conn.limits) + conn.limits.reassembly + overheads;
        law!(unread <= most, "{unread} bytes are unread, {most} may be");
        Ok(())
    }

    fn closed(&mut self, reason: CloseReason, around: &mut Around<'_>) -> Law {
        let Some(conn) = &mut self.conn else {
            return Ok(());
        };
        around.trace.note(around.now, self.number, "closed", 0, 0);
        let report = &mut *around.report;
        report.unwelcome += u64::from(!conn.greeted);
        // What an honest server says to an honest client. A link that does not carry may fill queues.
        let counter = match &reason {
            CloseReason::Local(error) if error.code == ErrorCode::Cancelled => &mut report.closed,
            CloseReason::Local(error) | CloseReason::Peer(error)
                if error.code == ErrorCode::ResourceExhausted && !conn.calm =>
            {
                &mut report.lost
            }
            CloseReason::Peer(error) if error.code == ErrorCode::ResourceExhausted => {
                law!(
                    around.rules.crowded,
                    "the server closed a calm connection: {error}"
                );
                &mut report.lost
            }
            CloseReason::Lost if conn.ended => &mut report.lost,
            CloseReason::Silent if !conn.calm => &mut report.silent,
            CloseReason::Refused { error, .. }
                if error.code == ErrorCode::DeadlineExceeded
                    && around.rules.clock
                    && !conn.calm =>
            {
                &mut report.lost
            }
            other => return Err(Broken(format!("two honest machines ended with: {other}"))),
        };
        *counter += 1;
        // The close ends them all: once, since the core says nothing more.
        conn.pending.clear();
        conn.streams.clear();
        conn.closed = Some(reason);
        Ok(())
    }

    fn answered(
        &mut self,
        id: RequestId,
        pending: &Pending,
        result: Result<Bytes, RemoteError>,
        around: &mut Around<'_>,
    ) -> Law {
        let now = around.now;
        let calm = self.conn.as_ref().is_some_and(|conn| conn.calm);
        let of_host = matches!(pending.what, What::Start { .. } | What::Stop { .. });
        let took = now.saturating_since(pending.sent);
        law!(
            !calm || of_host || pending.long || took <= PROMPT,
            "{:?} took {took:?} over a calm link",
            pending.what
        );
        if let Err(error) = &result {
            law!(
                !matches!(error.code, ErrorCode::Internal | ErrorCode::Protocol) || of_host,
                "{:?} was answered: {error}",
                pending.what
            );
        }
        let decoded = |what: &str, ok: bool| match ok {
            true => Ok(()),
            false => Err(Broken(format!("the answer to {what} cannot be read"))),
        };
        match (&pending.what, result) {
            (What::Start { token }, result) => self.start_answered(*token, pending, result, around),
            (What::Stop { token }, result) => self.stop_answered(*token, pending, result, around),
            (What::List, Ok(body)) => decoded("list", ProcessList::decode(&body).is_ok()),
            (What::Inspect, Ok(body)) => {
                let info = ProcessInfo::decode(&body)
                    .map_err(|error| Broken(format!("inspect: {error}")))?;
                let process = self.process_of(info.id, around)?;
                let logged = around.host.truth(process).len() as u64;
                law!(
                    info.log_records <= logged,
                    "inspect tells of {} records of {logged}",
                    info.log_records
                );
                Ok(())
            }
            (What::Info, Ok(body)) => decoded("info", ServerInfo::decode(&body).is_ok()),
            (What::Follow(asked), Ok(body)) => {
                let started = FollowStarted::decode(&body)
                    .map_err(|error| Broken(format!("follow: {error}")))?;
                let process = self.process_of(started.process.id, around)?;
                let mut follow = Follow::new(now, process, *asked, &started, around.host)?;
                follow.cancelled = pending.cancelled;
                around.report.follows += 1;
                if let Some(conn) = &mut self.conn {
                    conn.streams.insert(id, follow);
                }
                Ok(())
            }
            (_, Err(_)) => Ok(()),
        }
    }

    fn process_of(
        &self,
        id: u64,
        around: &Around<'_>,
    ) -> Law<selium_remote_server_core::HostProcess> {
        let key = around.known.by_id.get(&id);
        key.and_then(|key| around.host.process(key))
            .ok_or_else(|| Broken(format!("process {id:016x} was never started")))
    }

    /// A retry has been answered with an outcome, or with "outcome unknown".
    fn retried(
        &mut self,
        pending: &Pending,
        error: Option<&RemoteError>,
        around: &mut Around<'_>,
    ) -> Law {
        let unknown = error.is_some_and(|error| error.code == ErrorCode::OutcomeUnknown);
        if !pending.retry {
            law!(
                !unknown || around.rules.forgetful,
                "the outcome of a first request is unknown: {:?}",
                pending.what
            );
            return Ok(());
        }
        if unknown {
            around.report.unknown += 1;
            law!(
                !pending.executed || around.rules.forgetful,
                "the server executes {:?} and says that its outcome is unknown",
                pending.what
            );
        } else {
            around.report.joined += 1;
        }
        Ok(())
    }

    fn start_answered(
        &mut self,
        token: u64,
        pending: &Pending,
        result: Result<Bytes, RemoteError>,
        around: &mut Around<'_>,
    ) -> Law {
        self.changes.remove(&token);
        let Some(key) = self.keys.get(&token).cloned() else {
            return Err(Broken(format!("no start has the token {token}")));
        };
        self.retried(pending, result.as_ref().err(), around)?;
        let process = around.host.process(&key);
        let error = match result {
            Ok(body) => {
                around.report.started += 1;
                law!(
                    process.is_some(),
                    "`{key}` was answered with success, and the host did not start it"
                );
                let told =
                    ProcessRef::decode(&body).map_err(|error| Broken(format!("start: {error}")))?;
                self.same_outcome(token, body)?;
                return around.known.learn(&told, &key);
            }
            Err(error) => error,
        };
        around.report.refused += 1;
        if let Some(id) = error.process {
            around.report.cancelled_started += 1;
            law!(
                process.is_some(),
                "`{key}`: {error}, and the host did not start it"
            );
            return around.known.learn(&ProcessRef::new(id, ""), &key);
        }
        // A first request that ends in an error has not been executed, unless the host failed.
        let start = around.host.starts.entry(key.clone()).or_default();
        // When it was sent again meanwhile, it goes on for that one though the first was cancelled.
        if !self.repeated.contains(&token) {
            let failed = start.result == Some(None);
            law!(
                start.times == 0 || failed,
                "`{key}` was answered with `{error}`, and the host was asked for it"
            );
            start.refused = start.times == 0;
        }
        Ok(())
    }

    fn stop_answered(
        &mut self,
        token: u64,
        pending: &Pending,
        result: Result<Bytes, RemoteError>,
        around: &mut Around<'_>,
    ) -> Law {
        self.changes.remove(&token);
        self.retried(pending, result.as_ref().err(), around)?;
        let Ok(body) = result else {
            return Ok(());
        };
        around.report.stopped += 1;
        let told = ProcessRef::decode(&body).map_err(|error| Broken(format!("stop: {error}")))?;
        let process = self.process_of(told.id, around)?;
        law!(
            around.host.is_stopped(process),
            "{told:?} was answered as stopped, and the host did not stop it"
        );
        self.same_outcome(token, body)
    }

    fn same_outcome(&mut self, token: u64, body: Bytes) -> Law {
        let known = self.outcomes.entry(token).or_insert_with(|| body.clone());
        law!(*known == body, "token {token} has two outcomes");
        Ok(())
    }

    /// At the end, when nothing has stood in the way for long: who reads a log has all of it.
    pub(super) fn check_complete(&self, around: &mut Around<'_>) -> Law {
        let Some(conn) = &self.conn else {
            return Ok(());
        };
        for (id, follow) in &conn.streams {
            if follow.ended || follow.cancelled || follow.asked.reads == Reads::Never {
                continue;
            }
            let never_reads = |other: &Follow| other.asked.reads == Reads::Never;
            if conn.streams.values().any(never_reads) {
                continue; // It may hold the connection's credit.
            }
            let truth = around.host.truth(follow.process);
            let (cursor, logged) = (follow.cursor, truth.len() as u64);
            let lost = truth.iter().filter(|t| **t == Truth::Lost).count();
            law!(
                cursor >= logged,
                "client {}, stream {id}: {cursor} of {logged} records ({lost} lost by the runtime) have come, and nothing moves",
                self.number
            );
            let unread = around.host.unread(follow.process, around.now);
            law!(
                unread == 0,
                "client {}, stream {id}: {unread} records were logged and the server has not asked for them",
                self.number
            );
            around.report.complete += 1;
        }
        Ok(())
    }
}
