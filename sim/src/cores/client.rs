//! The client's half: a toy application on one [`ClientConnection`] after another. It asks, follows, uploads and
//! publishes, and compares everything that it is told with what the server's half did.

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use selium_remote_client_protocol::{
    CloseReason, ErrorCode, Limits, RemoteError, RequestId, SendError, Time,
    client::{
        ClientConfig, ClientConnection, ClientEvent, RequestError, RequestOptions, StreamKind,
    },
    hello::ClientHello,
    limits::MAX_CHUNK,
    publish::Publication,
};

use super::{
    Around,
    plan::{Ask, Item, PubId, Reads, What, body, content, message_key, published_key},
    server::flagged,
};
use crate::{
    link::Weather,
    rng::Dice,
    transport::{Read, Side, Transport},
    world::{
        flush,
        law::{Broken, Law, law},
    },
};

/// How long a client waits for the server's hello.
const HELLO_WAIT: Duration = Duration::from_secs(15);

/// How long a client waits for its last words to arrive.
const CLOSE_WAIT: Duration = Duration::from_secs(1);

/// How long a publication waits before it asks for a stream again that was refused.
const RETRY: Duration = Duration::from_millis(200);

/// How long a drained connection is kept after what ran is finished, at most.
const DRAINED: Duration = Duration::from_secs(2);

/// Links after which a client gets only calm ones, so that it comes to its end.
const BAD_LINKS: u32 = 3;

struct Pending {
    ask: usize,
    cancelled: bool,
}

/// An open stream, in either direction.
struct Stream {
    ask: usize,
    /// The client has given it up, with this reason if it had one.
    given_up: Option<Option<ErrorCode>>,
    ended: bool,
    /// To the client: the next item that comes.
    at: usize,
    unread: VecDeque<usize>,
    reads: Reads,
    read_at: Time,
    /// To the server: messages sent, of an upload.
    sent: usize,
    acknowledged: Option<u64>,
    full: bool,
    finished: bool,
}

/// A publication over all its streams.
struct Published {
    key: u64,
    life: u64,
    incarnation: Option<[u8; 16]>,
    publication: Publication,
    /// Lengths of messages that wait for room.
    waiting: VecDeque<usize>,
    /// The request for a stream, then the stream.
    stream: Option<RequestId>,
    /// It goes on over the present stream.
    resumed: bool,
    acknowledged: u64,
    retry_at: Time,
    done: bool,
}

impl Published {
    fn new(key: u64, backlog: usize) -> Self {
        Self {
            key,
            life: 0,
            incarnation: None,
            resumed: false,
            publication: Publication::new(backlog),
            waiting: VecDeque::new(),
            stream: None,
            acknowledged: 0,
            retry_at: Time::ZERO,
            done: false,
        }
    }

    fn id(&self) -> PubId {
        (self.key, self.life)
    }

    /// Its stream, or the request for one, is gone.
    fn interrupted(&mut self, now: Time) {
        self.stream = None;
        self.retry_at = now.saturating_add(RETRY);
        self.resumed = false;
    }
}

struct Conn {
    session: u64,
    core: ClientConnection,
    max_write: usize,
    hello_by: Time,
    greeted: bool,
    incarnation: [u8; 16],
    unsent: VecDeque<Bytes>,
    pending: BTreeMap<RequestId, Pending>,
    streams: BTreeMap<RequestId, Stream>,
    draining: bool,
    drained: bool,
    drained_since: Option<Time>,
    closed: bool,
    ended: bool,
    finished: bool,
    kill_at: Option<Time>,
    calm: bool,
}

/// The client.
pub(super) struct Client {
    dice: Dice,
    session: [u8; 16],
    limits: Limits,
    server: Limits,
    conn: Option<Conn>,
    pub(super) dial_at: Option<Time>,
    dials: u32,
    published: Vec<Published>,
    pub(super) quits: bool,
}

/// What a stream's request opens.
fn kind(what: &What) -> StreamKind {
    match what {
        What::Plain => StreamKind::None,
        What::Log { .. } => StreamKind::ToClient,
        What::Upload { .. } | What::Publish { .. } => StreamKind::ToServer,
    }
}

impl Client {
    pub(super) fn new(dice: Dice, limits: Limits, server: Limits, publications: u64) -> Self {
        let mut dice = dice;
        let session = dice.bytes16();
        let published = (0..publications)
            .map(|key| Published::new(key, dice.pick_or(&[0, 20_000, 1 << 20], 0)))
            .collect();
        Self {
            dice,
            session,
            limits,
            server,
            conn: None,
            dial_at: Some(Time::ZERO),
            dials: 0,
            published,
            quits: false,
        }
    }

    /// The weather on its next link.
    pub(super) fn weather(&self, worst: Weather, finishing: bool) -> Weather {
        if finishing || self.dials >= BAD_LINKS {
            Weather::Calm
        } else {
            worst
        }
    }

    /// Begins a connection.
    pub(super) fn dialled(&mut self, now: Time, session: u64, weather: Weather) {
        self.dial_at = None;
        self.dials += 1;
        let hello = ClientHello::new(self.dice.bytes16(), self.session, &self.limits);
        let config = ClientConfig::new(hello, self.limits);
        self.conn = Some(Conn {
            session,
            core: ClientConnection::new(config),
            max_write: self
                .dice
                .pick_or(&[64 * 1024, 64 * 1024, 1_200, 1], 64 * 1024),
            hello_by: now.saturating_add(HELLO_WAIT),
            greeted: false,
            incarnation: [0; 16],
            unsent: VecDeque::new(),
            pending: BTreeMap::new(),
            streams: BTreeMap::new(),
            draining: false,
            drained: false,
            drained_since: None,
            closed: false,
            ended: false,
            finished: false,
            kill_at: None,
            calm: weather == Weather::Calm,
        });
    }

    /// The session that it holds an end of.
    pub(super) fn session(&self) -> Option<u64> {
        self.conn.as_ref().map(|conn| conn.session)
    }

    /// Whether requests can be made.
    pub(super) fn is_open(&self) -> bool {
        self.conn
            .as_ref()
            .is_some_and(|conn| conn.greeted && !conn.core.is_closed() && !conn.draining)
    }

    /// Whether its link is one that does nothing worse than delay.
    pub(super) fn is_calm(&self) -> bool {
        self.conn.as_ref().is_some_and(|conn| conn.calm)
    }

    /// Whether all that it began is over.
    pub(super) fn is_idle(&self) -> bool {
        self.is_open()
            && self.published.iter().all(|published| published.done)
            && self
                .conn
                .as_ref()
                .is_some_and(|conn| conn.pending.is_empty() && conn.streams.is_empty())
    }

    /// How many messages and gaps of a request's stream have come.
    pub(super) fn has(&self, ask: usize) -> usize {
        let conn = self.conn.iter();
        let mut streams = conn.flat_map(|conn| conn.streams.values());
        streams
            .find(|stream| stream.ask == ask)
            .map_or(0, |stream| stream.at)
    }

    /// Whether a request is not waited for any more.
    pub(super) fn was_answered(&self, ask: usize) -> bool {
        self.conn
            .as_ref()
            .is_some_and(|conn| conn.pending.values().all(|pending| pending.ask != ask))
    }

    /// When it does something by itself.
    pub(super) fn next(&self, now: Time) -> Option<Time> {
        let Some(conn) = &self.conn else {
            return self.dial_at;
        };
        let hello = (!conn.greeted && !conn.closed).then_some(conn.hello_by);
        let reads = conn
            .streams
            .values()
            .filter(|stream| !stream.unread.is_empty())
            .filter(|stream| matches!(stream.reads, Reads::Every(_)))
            .map(|stream| stream.read_at);
        let drained = conn
            .drained_since
            .map(|since| since.saturating_add(DRAINED));
        let retries = self
            .published
            .iter()
            .filter(|published| published.stream.is_none() && !published.done && self.is_open())
            .map(|published| published.retry_at)
            .filter(|at| *at > now);
        reads
            .chain(hello)
            .chain(conn.kill_at)
            .chain(drained.filter(|_| !conn.closed))
            .chain(retries)
            .chain(conn.core.poll_timeout())
            .min()
    }

    /// Closes the connection in order.
    pub(super) fn close(&mut self) {
        if let Some(conn) = &mut self.conn {
            conn.core.close();
        }
    }

    pub(super) fn ping(&mut self, now: Time) {
        if let Some(conn) = &mut self.conn {
            conn.core.ping(now);
        }
    }

    pub(super) fn drain(&mut self, around: &mut Around<'_>) {
        if let Some(conn) = &mut self.conn
            && conn.greeted
            && !conn.closed
        {
            around.report.client_drains += 1;
            conn.core.drain();
            conn.draining = true;
        }
    }

    /// Dies, and comes back.
    pub(super) fn kill(&mut self, around: &mut Around<'_>, link: &mut dyn Transport) {
        if let Some(mut conn) = self.conn.take() {
            around.trace.note(around.now, 1, "dies", 0, 0);
            self.lose(&mut conn, around.now);
            link.kill(around.now, Side::Client);
            if !self.quits {
                let wait = self.dice.millis(0..=1_000);
                self.dial_at = Some(around.now.saturating_add(wait));
            }
        }
    }

    /// Its streams are gone.
    fn lose(&mut self, conn: &mut Conn, now: Time) {
        for published in &mut self.published {
            if published.stream.is_some() {
                published.interrupted(now);
            }
        }
        conn.pending.clear();
        conn.streams.clear();
    }

    /// Gives a publication messages.
    pub(super) fn push(&mut self, key: u64, sizes: Vec<usize>, around: &mut Around<'_>) -> Law {
        if let Some(published) = self.published.get_mut(key as usize) {
            published.waiting.extend(sizes);
        }
        self.publish(around)
    }

    /// Gives up a request or stream: cancels it, abandons it, or resets it.
    pub(super) fn give_up(&mut self, how: GiveUp, around: &mut Around<'_>) {
        let Some(conn) = &mut self.conn else {
            return;
        };
        let streams = conn.streams.iter().filter(|(_, stream)| !stream.ended);
        let streams = streams.map(|(id, _)| *id);
        let ids: Vec<RequestId> = match how {
            GiveUp::Reset => streams.collect(),
            _ => conn.pending.keys().copied().chain(streams).collect(),
        };
        if let Some(id) = self.dice.pick(&ids).copied() {
            self.give_up_one(id, how, around);
        }
    }

    fn give_up_one(&mut self, id: RequestId, how: GiveUp, around: &mut Around<'_>) {
        let now = around.now;
        let Some(conn) = &mut self.conn else {
            return;
        };
        around.trace.note(now, 1, "gives up", id.get(), how as u64);
        match how {
            GiveUp::Cancel => {
                around.report.cancels += 1;
                if let Some(pending) = conn.pending.get_mut(&id) {
                    pending.cancelled = true;
                }
                if let Some(stream) = conn.streams.get_mut(&id) {
                    stream.given_up.get_or_insert(Some(ErrorCode::Cancelled));
                }
                conn.core.cancel(id);
            }
            GiveUp::Reset => {
                around.report.client_resets += 1;
                if let Some(stream) = conn.streams.get_mut(&id) {
                    stream.given_up.get_or_insert(Some(ErrorCode::Unavailable));
                }
                let error = RemoteError::new(ErrorCode::Unavailable, "the client gives up");
                conn.core.reset(id, error);
            }
            GiveUp::Abandon => {
                around.report.abandoned += 1;
                conn.pending.remove(&id);
                conn.streams.remove(&id);
                conn.core.abandon(id);
                let of = |published: &&mut Published| published.stream == Some(id);
                if let Some(published) = self.published.iter_mut().find(of) {
                    published.interrupted(now);
                }
            }
        }
    }

    /// Asks; answers the request's id if it could be sent.
    pub(super) fn ask(&mut self, ask: Ask, around: &mut Around<'_>) -> Law<Option<RequestId>> {
        let now = around.now;
        let (client, server) = (self.limits, self.server);
        let Some(conn) = self
            .conn
            .as_mut()
            .filter(|conn| conn.greeted && !conn.core.is_closed())
        else {
            return Ok(None);
        };
        let options = RequestOptions::new(kind(&ask.what))
            .deadline(ask.deadline.map(|wait| now.saturating_add(wait)));
        let len = ask.len;
        let number = around.truth.add(ask);
        let sent = conn.core.request(1, body(number, len), options);
        law!(
            sent.is_ok() || sent != Err(RequestError::Draining) || conn.draining,
            "nobody drains, and the request is refused for that"
        );
        law!(
            sent.is_err() || !conn.draining,
            "a request is made behind the drain"
        );
        match sent {
            Ok(id) => {
                around.report.requests += 1;
                around.report.long_requests += u64::from(len > MAX_CHUNK);
                around.trace.note(now, 1, "asks", id.get(), number as u64);
                let pending = Pending {
                    ask: number,
                    cancelled: false,
                };
                law!(
                    conn.pending.insert(id, pending).is_none(),
                    "request id {id} was given out twice"
                );
                Ok(Some(id))
            }
            Err(error) => {
                around.report.not_sent += 1;
                let takes = server
                    .max_request
                    .min(server.reassembly.max(MAX_CHUNK))
                    .min(client.control_queue - 16_448);
                let expected = match error {
                    RequestError::Draining => conn.draining,
                    RequestError::TooLarge(limit) => limit == takes && len + 8 > limit,
                    RequestError::TooMany(_) => conn.pending.len() >= server.max_requests,
                    RequestError::Busy(limit) => limit == client.control_queue,
                    _ => false,
                };
                law!(expected, "a request of {len} bytes cannot be sent: {error}");
                Ok(None)
            }
        }
    }

    /// Does what can be done now; answers whether that was anything.
    pub(super) fn run(&mut self, around: &mut Around<'_>, link: &mut dyn Transport) -> Law<bool> {
        let now = around.now;
        let mut moved = false;
        while let Some(conn) = &mut self.conn
            && !conn.ended
            && let Some(read) = link.read(now, Side::Client)
        {
            moved = true;
            match read {
                Read::Bytes(bytes) => {
                    around.trace.note(now, 1, "reads", bytes.len() as u64, 0);
                    conn.core.handle_input(now, bytes);
                }
                Read::End | Read::Lost(_) => {
                    conn.ended = true;
                    conn.core.handle_eof(now);
                }
            }
            self.events(around)?;
        }
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
        if !conn.greeted && !conn.closed && conn.hello_by <= now {
            moved = true;
            conn.core.close();
        }
        self.events(around)?;
        moved |= self.work(around)?;
        self.publish(around)?;
        self.events(around)?;
        moved |= self.write(around, link)?;
        Ok(moved)
    }

    fn write(&mut self, around: &mut Around<'_>, link: &mut dyn Transport) -> Law<bool> {
        let now = around.now;
        let mut moved = false;
        let Some(conn) = &mut self.conn else {
            return Ok(false);
        };
        let drained = loop {
            moved |= flush(link, now, Side::Client, &mut conn.unsent)?;
            if !conn.unsent.is_empty() {
                break false;
            }
            let Some(transmit) = conn.core.poll_transmit(conn.max_write) else {
                break true;
            };
            law!(!transmit.is_empty(), "the client transmits nothing");
            let len = transmit.len() as u64;
            around.trace.note(now, 1, "writes", len, 0);
            conn.unsent.extend(transmit.parts);
            moved = true;
        };
        if conn.closed {
            if drained && !core::mem::replace(&mut conn.finished, true) {
                link.finish(now, Side::Client);
                moved = true;
            }
            let kill_at = *conn.kill_at.get_or_insert(now.saturating_add(CLOSE_WAIT));
            if conn.ended || kill_at <= now {
                self.kill(around, link);
                moved = true;
            }
        }
        Ok(moved)
    }

    /// Reads what is due, sends what there is room for, and leaves a drained connection when all that ran is over.
    fn work(&mut self, around: &mut Around<'_>) -> Law<bool> {
        let now = around.now;
        let Some(conn) = self
            .conn
            .as_mut()
            .filter(|conn| conn.greeted && !conn.closed)
        else {
            return Ok(false);
        };
        let mut moved = false;
        let core = &mut conn.core;
        let mut cancels = Vec::new();
        for (id, stream) in &mut conn.streams {
            let id = *id;
            let Some(asked) = around.truth.asked.get(stream.ask) else {
                continue;
            };
            if around.truth.finishing || conn.draining {
                if stream.reads == Reads::Late {
                    stream.reads = Reads::AtOnce;
                }
                let is_log = matches!(asked.ask.what, What::Log { .. });
                let all_there = stream.at == asked.items.len() && stream.unread.is_empty();
                if is_log
                    && all_there
                    && stream.given_up.is_none()
                    && !stream.ended
                    && stream.reads != Reads::Never
                    && asked.over.is_none()
                    && matches!(&asked.ask.what, What::Log { end: super::plan::LogEnd::Open, sizes, .. }
                        if asked.items.iter().filter(|item| matches!(item, Item::Message { .. })).count() == sizes.len())
                {
                    cancels.push(id);
                }
            }
            let most = match stream.reads {
                Reads::AtOnce => usize::MAX,
                Reads::Every(_) if stream.read_at <= now => 1,
                _ => 0,
            };
            for cost in (0..most).map_while(|_| stream.unread.pop_front()) {
                moved = true;
                core.consume(id, cost);
                if let Reads::Every(wait) = stream.reads {
                    stream.read_at = now.saturating_add(wait);
                }
            }
            if let What::Upload { sizes } = &asked.ask.what
                && !stream.finished
                && !stream.ended
            {
                while !stream.full
                    && let Some(len) = sizes.get(stream.sent).copied()
                {
                    let seq = stream.sent as u64;
                    match core.send(id, seq, content(message_key(stream.ask, seq), len)) {
                        Ok(()) => {
                            moved = true;
                            stream.sent += 1;
                        }
                        Err(SendError::Full) => stream.full = true,
                        Err(error) => {
                            return Err(Broken(format!("stream {id} takes nothing: {error}")));
                        }
                    }
                }
                if stream.sent == sizes.len() {
                    moved = true;
                    stream.finished = true;
                    core.finish(id);
                }
            }
        }
        conn.streams
            .retain(|_, stream| !stream.ended || !stream.unread.is_empty());
        let over = conn.pending.is_empty()
            && conn
                .streams
                .values()
                .all(|stream| stream.ended || stream.finished || stream.reads == Reads::Never);
        if conn.draining {
            let since = *conn.drained_since.get_or_insert(now);
            // What runs is finished first, but streams that have no end of their own.
            let waited = now.saturating_since(since) >= DRAINED;
            if waited && (over || conn.pending.is_empty()) {
                moved = true;
                conn.core.close();
            } else if waited {
                conn.drained_since = Some(now);
            }
        }
        for id in cancels {
            moved = true;
            self.give_up_one(id, GiveUp::Cancel, around);
        }
        Ok(moved)
    }

    /// Pushes what waits, opens streams for publications that have none, and ends those that are over.
    fn publish(&mut self, around: &mut Around<'_>) -> Law {
        let now = around.now;
        let mut asks = Vec::new();
        let is_open = self.is_open();
        for published in &mut self.published {
            if published.done {
                continue;
            }
            let id = published.id();
            let truth = around.truth.published.entry(id).or_default();
            let mut news = false;
            while let Some(len) = published.waiting.front().copied() {
                let number = published.publication.next();
                let payload = content(published_key(id, number), len);
                match published.publication.push(payload) {
                    Ok(given) => law!(
                        given == number && given == truth.pushed.len() as u64,
                        "message {number} got the number {given}"
                    ),
                    Err(SendError::Full) => break,
                    Err(error) => return Err(Broken(format!("a publication says: {error}"))),
                }
                truth.pushed.push(len);
                published.waiting.pop_front();
                news = true;
            }
            let all = published.waiting.is_empty() && published.publication.is_flushed();
            let Some(conn) = &mut self.conn else {
                continue;
            };
            let open = published.stream.filter(|id| conn.streams.contains_key(id));
            if let Some(stream) = open {
                if news {
                    pump(published, &mut conn.core, stream)?;
                }
                if all
                    && around.truth.finishing
                    && let Some(stream) = conn.streams.get_mut(&stream)
                    && !core::mem::replace(&mut stream.finished, true)
                    && let Some(id) = published.stream
                {
                    conn.core.finish(id);
                }
            } else if published.stream.is_none() && all && around.truth.finishing {
                published.done = true;
            } else if published.stream.is_none() && !all && published.retry_at <= now && is_open {
                asks.push(published.key);
            }
        }
        for key in asks {
            let Some(id) = self.published.get(key as usize).map(Published::id) else {
                continue;
            };
            let sent = self.ask(Ask::new(What::Publish { id }), around)?;
            if let Some(published) = self.published.get_mut(key as usize) {
                published.stream = sent;
                published.retry_at = now.saturating_add(RETRY);
            }
        }
        Ok(())
    }

    /// Hears what there is to hear.
    pub(super) fn events(&mut self, around: &mut Around<'_>) -> Law {
        while let Some(event) = self.conn.as_mut().and_then(|conn| conn.core.poll_event()) {
            self.event(event, around)
                .map_err(|broken| Broken(format!("the client: {broken}")))?;
        }
        Ok(())
    }

    fn event(&mut self, event: ClientEvent, around: &mut Around<'_>) -> Law {
        let now = around.now;
        let Some(conn) = &mut self.conn else {
            return Ok(());
        };
        law!(!conn.closed, "an event behind the close: {event:?}");
        match event {
            ClientEvent::Connected(hello) => {
                law!(!core::mem::replace(&mut conn.greeted, true), "two hellos");
                conn.incarnation = hello.incarnation;
                return self.greeted(hello.incarnation, around);
            }
            ClientEvent::Response { id, result } => {
                around.trace.note(now, 1, "answer", id.get(), 0);
                let Some(pending) = conn.pending.remove(&id) else {
                    return Err(Broken(format!(
                        "an answer to request {id}, which has ended: {result:?}"
                    )));
                };
                return self.answered(id, &pending, result, around);
            }
            ClientEvent::Expired { id } => {
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
                around.trace.note(now, 1, "message", id.get(), seq);
                let len = payload.len();
                law!(
                    cost == len + 32 && len <= self.limits.max_message,
                    "a message of {len} bytes costs {cost}"
                );
                let ask = item(conn, id, Item::Message { seq, len }, cost, around)?;
                law!(
                    payload.into_bytes() == content(message_key(ask, seq), len),
                    "message {seq} of stream {id} has other bytes"
                );
                around.report.records += 1;
                around.report.long_records += u64::from(len > MAX_CHUNK);
            }
            ClientEvent::Gap {
                id,
                next,
                count,
                cost,
            } => {
                law!(cost == 32, "a gap costs {cost}");
                match count {
                    Some(_) => around.report.gaps_counted += 1,
                    None => around.report.gaps_unknown += 1,
                }
                item(conn, id, Item::Gap { next, count }, cost, around)?;
            }
            ClientEvent::Ended { id, error } => {
                return self.ended(id, error.map(|error| error.code), around);
            }
            ClientEvent::Acknowledged {
                id,
                seq,
                may_be_dropped,
            } => {
                around.trace.note(now, 1, "acknowledged", id.get(), seq);
                return self.acknowledged(id, seq, may_be_dropped, around);
            }
            ClientEvent::Room { id } => {
                if let Some(stream) = conn.streams.get_mut(&id) {
                    stream.full = false;
                    let of = |published: &&mut Published| published.stream == Some(id);
                    if !stream.ended
                        && let Some(published) = self.published.iter_mut().find(of)
                    {
                        pump(published, &mut conn.core, id)?;
                    }
                }
            }
            ClientEvent::Draining => {
                law!(
                    !core::mem::replace(&mut conn.drained, true),
                    "the server drains twice"
                );
                conn.draining = true;
            }
            ClientEvent::Pong { .. } => around.report.pongs += 1,
            ClientEvent::Closed(reason) => {
                conn.closed = true;
                let report = &mut *around.report;
                report.unwelcome += u64::from(!conn.greeted);
                let counter = match &reason {
                    CloseReason::Local(error) if error.code == ErrorCode::Cancelled => {
                        &mut report.closed
                    }
                    CloseReason::Local(error) | CloseReason::Peer(error)
                        if error.code == ErrorCode::ResourceExhausted && around.truth.tight =>
                    {
                        &mut report.lost
                    }
                    CloseReason::Lost if conn.ended => &mut report.lost,
                    CloseReason::Silent if !conn.calm || around.dead => &mut report.silent,
                    other => {
                        return Err(Broken(format!("two honest machines ended with: {other}")));
                    }
                };
                *counter += 1;
                let Some(mut conn) = self.conn.take() else {
                    return Ok(());
                };
                self.lose(&mut conn, now);
                self.conn = Some(conn);
            }
            other => return Err(Broken(format!("an event that nobody asked for: {other:?}"))),
        }
        Ok(())
    }

    /// The hello has come: a server that is another one knows nothing of what was published.
    fn greeted(&mut self, incarnation: [u8; 16], around: &mut Around<'_>) -> Law {
        for published in &mut self.published {
            let before = published.incarnation.replace(incarnation);
            if published.done || before.is_none_or(|before| before == incarnation) {
                continue;
            }
            let id = published.id();
            let Some(truth) = around.truth.published.get(&id) else {
                continue;
            };
            // What is not acknowledged is unknown: it was taken over or not. All else was.
            let mut unknown = VecDeque::new();
            for (number, payload) in published.publication.unacknowledged() {
                let at = published.acknowledged + unknown.len() as u64;
                let len = truth.pushed.get(number as usize).copied().unwrap_or(0);
                law!(
                    number == at
                        && payload.clone().into_bytes() == content(published_key(id, number), len),
                    "message {number} is unknown, and {at} was to be"
                );
                unknown.push_back(len);
            }
            let known = truth.pushed.len() - unknown.len();
            law!(
                known as u64 == published.acknowledged && known as u64 <= truth.taken,
                "{known} messages are known to be taken over, {} are",
                truth.taken
            );
            around.report.unknown_published += unknown.len() as u64;
            published.life += 1;
            published.acknowledged = 0;
            let backlog = self.dice.pick_or(&[0, 20_000, 1 << 20], 0);
            published.publication = Publication::new(backlog);
            published.resumed = false;
            // The application decides to publish them again.
            unknown.extend(core::mem::take(&mut published.waiting));
            published.waiting = unknown;
        }
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
        let longest = self
            .limits
            .max_message
            .min(self.limits.reassembly.max(MAX_CHUNK));
        let Some(conn) = &mut self.conn else {
            return Ok(());
        };
        let Some(asked) = around.truth.asked.get(pending.ask) else {
            return Ok(());
        };
        let ask = &asked.ask;
        let of = |published: &&mut Published| published.stream == Some(id);
        let mut published = self.published.iter_mut().find(of);
        let body = match result {
            Ok(body) => body,
            Err(error) => {
                let told = asked.answered == Some(Err(error.code));
                let expected = match error.code {
                    ErrorCode::Cancelled => pending.cancelled,
                    ErrorCode::Unavailable => conn.draining || around.draining,
                    ErrorCode::ResourceExhausted => around.truth.tight,
                    ErrorCode::TooLarge => ask.answer.is_ok_and(|len| len > longest),
                    _ => false,
                };
                law!(told || expected, "request {id} was answered: {error}");
                around.report.drain_refusals +=
                    u64::from(!told && error.code == ErrorCode::Unavailable);
                around.report.errors += 1;
                if let Some(published) = &mut published {
                    published.interrupted(now);
                }
                return Ok(());
            }
        };
        law!(
            asked.answered == Some(Ok(())),
            "request {id} was answered with success, the server says {:?}",
            asked.answered
        );
        around.report.answers += 1;
        around.report.long_answers += u64::from(body.len() > MAX_CHUNK);
        if !matches!(ask.what, What::Publish { .. }) {
            law!(
                Ok(body.len()) == ask.answer && body == content(!(pending.ask as u64), body.len()),
                "the answer to request {id} has other bytes"
            );
        }
        if ask.what == What::Plain {
            return Ok(());
        }
        around.report.follows += 1;
        let stream = Stream {
            ask: pending.ask,
            given_up: pending.cancelled.then_some(Some(ErrorCode::Cancelled)),
            ended: false,
            at: 0,
            unread: VecDeque::new(),
            reads: ask.reads,
            read_at: now,
            sent: 0,
            acknowledged: None,
            full: pending.cancelled,
            finished: pending.cancelled,
        };
        conn.core.set_weight(id, ask.weight);
        conn.streams.insert(id, stream);
        if let (What::Publish { id: of }, false) = (&ask.what, pending.cancelled) {
            let Some(published) = &mut published else {
                return Err(Broken("a stream for no publication".to_owned()));
            };
            let has = body
                .first_chunk::<8>()
                .map_or(0, |bytes| u64::from_be_bytes(*bytes));
            let taken = around.truth.published.get(of).map_or(0, |life| life.taken);
            law!(
                has >= published.acknowledged && has <= taken,
                "the server has {has} messages, {} were acknowledged and {taken} taken over",
                published.acknowledged
            );
            let count = published
                .publication
                .resume(has.checked_sub(1))
                .map_err(|error| Broken(format!("resume: {error}")))?;
            published.resumed = true;
            around.report.resumes += u64::from(has > 0);
            published.acknowledged += count as u64;
            law!(
                published.acknowledged == has,
                "after the resume {} messages are acknowledged, the server has {has}",
                published.acknowledged
            );
            pump(published, &mut conn.core, id)?;
        }
        Ok(())
    }

    fn acknowledged(
        &mut self,
        id: RequestId,
        seq: u64,
        may_be_dropped: bool,
        around: &mut Around<'_>,
    ) -> Law {
        let Some(stream) = self
            .conn
            .as_mut()
            .and_then(|conn| conn.streams.get_mut(&id))
        else {
            return Err(Broken(format!(
                "an acknowledgement of stream {id}, which is over"
            )));
        };
        law!(!stream.ended, "an acknowledgement behind the end");
        law!(
            stream.acknowledged.is_none_or(|before| seq >= before),
            "message {seq} is acknowledged behind {:?}",
            stream.acknowledged
        );
        stream.acknowledged = Some(seq);
        law!(
            may_be_dropped == flagged(stream.ask),
            "an acknowledgement says {may_be_dropped} of drops, and is not what was sent"
        );
        around.report.acks += 1;
        around.report.flagged += u64::from(may_be_dropped);
        let Some(asked) = around.truth.asked.get(stream.ask) else {
            return Ok(());
        };
        let taken = match &asked.ask.what {
            What::Publish { id } => around.truth.published.get(id).map_or(0, |life| life.taken),
            _ => asked.received,
        };
        law!(
            seq < taken,
            "message {seq} is acknowledged, {taken} were taken over"
        );
        let of = |published: &&mut Published| published.stream == Some(id);
        if let Some(published) = self.published.iter_mut().find(of) {
            published.acknowledged += published.publication.acknowledged(seq) as u64;
            law!(
                published.acknowledged == seq + 1,
                "message {seq} is acknowledged, and {} are",
                published.acknowledged
            );
        }
        Ok(())
    }

    fn ended(&mut self, id: RequestId, error: Option<ErrorCode>, around: &mut Around<'_>) -> Law {
        let now = around.now;
        around.trace.note(now, 1, "end", id.get(), 0);
        let Some(stream) = self
            .conn
            .as_mut()
            .and_then(|conn| conn.streams.get_mut(&id))
        else {
            return Err(Broken(format!("the end of stream {id}, which is over")));
        };
        law!(
            !core::mem::replace(&mut stream.ended, true),
            "a second end of stream {id}"
        );
        let Some(asked) = around.truth.asked.get(stream.ask) else {
            return Ok(());
        };
        around.report.ends += 1;
        if let Some(reason) = stream.given_up {
            law!(
                error == reason,
                "stream {id} ended with {error:?}, and was given up with {reason:?}"
            );
        } else {
            law!(
                asked.over.is_some_and(|(_, reason)| reason == error),
                "stream {id} ended with {error:?}, the server ended it with {:?}",
                asked.over
            );
        }
        let in_order = stream.given_up.is_none() && asked.over.is_some_and(|(cut, _)| !cut);
        match &asked.ask.what {
            What::Log { .. } => law!(
                !in_order || stream.at == asked.items.len(),
                "stream {id} ended behind {} of {} messages and gaps",
                stream.at,
                asked.items.len()
            ),
            What::Upload { sizes } => law!(
                !in_order
                    || (stream.acknowledged.map_or(0, |seq| seq + 1) == sizes.len() as u64
                        && stream.finished),
                "stream {id} ended with {:?} of {} messages acknowledged",
                stream.acknowledged,
                sizes.len()
            ),
            _ => {}
        }
        let finished = stream.finished;
        let of = |published: &&mut Published| published.stream == Some(id);
        if let Some(published) = self.published.iter_mut().find(of) {
            published.interrupted(now);
            if in_order {
                law!(
                    finished && published.publication.is_flushed(),
                    "the server ends a publication that is not over"
                );
                published.done = published.waiting.is_empty();
            }
        }
        Ok(())
    }
}

/// How a request or stream is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GiveUp {
    Cancel,
    Abandon,
    Reset,
}

fn pump(published: &mut Published, core: &mut ClientConnection, stream: RequestId) -> Law {
    match published.publication.pump(core, stream) {
        // It ends meanwhile; that is told in a moment.
        Ok(()) | Err(SendError::NotOpen) => Ok(()),
        Err(error) => Err(Broken(format!("a publication takes nothing: {error}"))),
    }
}

/// Compares what came on a stream with what was put into it; answers its request.
fn item(
    conn: &mut Conn,
    id: RequestId,
    item: Item,
    cost: usize,
    around: &Around<'_>,
) -> Law<usize> {
    let Some(stream) = conn.streams.get_mut(&id) else {
        return Err(Broken(format!("{item:?} of stream {id}, which is over")));
    };
    law!(!stream.ended, "{item:?} behind the end of stream {id}");
    let asked = around.truth.asked.get(stream.ask);
    let expected = asked.and_then(|asked| asked.items.get(stream.at));
    law!(
        expected == Some(&item),
        "{item:?} came on stream {id}, and {expected:?} was to come"
    );
    stream.at += 1;
    stream.unread.push_back(cost);
    Ok(stream.ask)
}
