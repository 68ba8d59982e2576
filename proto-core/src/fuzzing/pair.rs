//! Both machines, whatever is done with them, against a model.

use core::time::Duration;
use std::collections::BTreeMap;

use bytes::Bytes;

use super::{Source, watch::Watch};
use crate::{
    ErrorCode, Limits, Payload, RemoteError, RequestId, Time, Weight,
    client::{ClientConfig, ClientConnection, ClientEvent, RequestOptions, StreamKind},
    frame::FrameReader,
    hello::{ClientHello, Features, ServerHello},
    limits::MAX_WRITE,
    server::{ServerConnection, ServerEvent},
};

/// The most steps of one run.
const MAX_STEPS: usize = 500;

/// The requests and streams that the server allows.
const REQUESTS: usize = 8;
const STREAMS: usize = 6;

/// The longest message of use on streams that have one, in bytes.
const LONGEST: usize = 1_000;

/// A message with what was lost in front of it: nothing, so many, or an unknown number.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Message {
    seq: u64,
    len: usize,
    lost: Option<Option<u64>>,
}

/// One direction of a stream: what was put in, what came out, and how it ended.
#[derive(Debug, Default)]
struct Flow {
    put: Vec<Message>,
    got: Vec<Message>,
    /// Lost since the last message, on either side.
    put_lost: Option<Option<u64>>,
    got_lost: Option<Option<u64>>,
    /// The sender ended it; the receiver heard of that.
    ended: bool,
    heard: bool,
    /// Some side tore it down: what is on its way may be dropped.
    torn: bool,
}

impl Flow {
    fn put(&mut self, seq: u64, len: usize) {
        let lost = self.put_lost.take();
        self.put.push(Message { seq, len, lost });
    }

    fn got(&mut self, seq: u64, len: usize) {
        let lost = self.got_lost.take();
        let message = Message { seq, len, lost };
        assert_eq!(
            self.put.get(self.got.len()),
            Some(&message),
            "message {} of this stream",
            self.got.len()
        );
        self.got.push(message);
    }

    fn settle(&self) {
        if self.torn {
            return;
        }
        assert_eq!(self.got.len(), self.put.len(), "messages are missing");
        assert_eq!(self.got_lost, self.put_lost, "gaps behind the last message");
        assert_eq!(self.heard, self.ended, "the end");
    }
}

fn lose(lost: &mut Option<Option<u64>>, count: Option<u64>) {
    *lost = Some(match lost.take() {
        None => count,
        Some(before) => before.zip(count).map(|(a, b)| a.saturating_add(b)),
    });
}

/// What happened to a request, on both sides.
#[derive(Debug)]
struct Exchange {
    kind: StreamKind,
    len: usize,
    /// The client gave it up, or let it expire: nothing may be heard of it.
    abandoned: bool,
    /// The client asked to cancel it.
    cancelled: bool,
    /// The client ended the stream at once.
    reset: bool,
    /// Requests that the server has seen.
    asked: usize,
    /// The answer that the server gave: its length, or an error.
    answered: Option<Option<usize>>,
    /// The server opened its stream.
    opened: bool,
    /// Ends that the client has heard of: a response or an expiry.
    ended: usize,
    /// The client's stream is open.
    live: bool,
    down: Flow,
    up: Flow,
    /// Costs of messages that were not read. What was torn down needs no reading, and it does no harm.
    unread_down: Vec<usize>,
    unread_up: Vec<usize>,
}

struct World {
    client: ClientConnection,
    server: ServerConnection,
    up: Vec<u8>,
    down: Vec<u8>,
    client_watch: Watch,
    server_watch: Watch,
    /// What each machine was fed, for the other's watch.
    up_reader: FrameReader,
    down_reader: FrameReader,
    exchanges: BTreeMap<u64, Exchange>,
    now: Time,
    seq: u64,
    split: usize,
    /// The longest message.
    longest: usize,
    server_draining: bool,
}

/// Operations on two machines that are joined by byte pipes with cuts anywhere. What arrives is a prefix of what was
/// sent, in order and with its boundaries; every request ends at most once, and once when all is over; then nothing is
/// missing: every request and stream that the limits allow can be had again.
pub fn pair(data: &[u8]) {
    let mut source = Source::new(data);
    let mut world = World::open(&mut source);
    for _ in 0..MAX_STEPS {
        if source.is_empty() {
            break;
        }
        world.step(&mut source);
        world.events();
    }
    world.settle();
    world.end_all(&mut source);
    world.everything_again();
}

fn error() -> RemoteError {
    RemoteError::new(ErrorCode::Internal, "no")
}

fn content(id: RequestId, seq: u64, len: usize) -> Payload {
    let first = id.get().wrapping_mul(31).wrapping_add(seq.wrapping_mul(7)) as u8;
    let bytes: Vec<u8> = (0..len).map(|at| first.wrapping_add(at as u8)).collect();
    bytes.into()
}

impl World {
    fn open(source: &mut Source<'_>) -> Self {
        let tight = source.below(4) == 3;
        let (connection_window, stream_window, longest) = match source.below(3) {
            0 => (8_000, 6_000, 20_000),
            1 => (100_000, 50_000, 20_000),
            _ => (300, 200, 1_000),
        };
        let limits = Limits::with(|limits| {
            limits.connection_window = connection_window;
            limits.max_connection_window = 3 * connection_window;
            limits.stream_window = stream_window;
            limits.reassembly = if tight { longest } else { 2 * longest };
            limits.max_message = longest;
            limits.max_request = longest;
            limits.max_requests = REQUESTS;
            limits.max_streams = STREAMS;
        });
        let hello = ClientHello::new([1; 16], [2; 16], &limits);
        let mut config = ClientConfig::new(hello, limits);
        config.heartbeat = None;
        let mut world = Self {
            client: ClientConnection::new(config),
            server: ServerConnection::new(limits),
            up: Vec::new(),
            down: Vec::new(),
            client_watch: Watch::of_client(),
            server_watch: Watch::of_server(),
            up_reader: FrameReader::new(),
            down_reader: FrameReader::new(),
            exchanges: BTreeMap::new(),
            now: Time::ZERO,
            seq: 0,
            split: usize::MAX,
            longest,
            server_draining: false,
        };
        world.write_up(usize::MAX);
        let hello = core::mem::take(&mut world.up);
        world.server.handle_input(world.now, hello.into());
        assert!(matches!(
            world.server.poll_event(),
            Some(ServerEvent::Hello(_))
        ));
        let mut theirs = ServerHello::new([9; 16], &limits);
        if source.flag() {
            theirs.features = Features::CLOCK;
        }
        world.server.accept(&theirs);
        world.write_down(usize::MAX);
        let hello = core::mem::take(&mut world.down);
        world.client.handle_input(world.now, hello.into());
        assert!(matches!(
            world.client.poll_event(),
            Some(ClientEvent::Connected(_))
        ));
        world.client_watch.heard_hello(theirs.limits);
        world.server_watch.heard_hello(theirs.limits);
        world
    }

    fn write_up(&mut self, max: usize) -> bool {
        let Some(write) = self.client.poll_transmit(max) else {
            return false;
        };
        let bytes = write.to_vec();
        self.up.extend_from_slice(&bytes);
        self.client_watch.sent(bytes.into());
        true
    }

    fn write_down(&mut self, max: usize) -> bool {
        let Some(write) = self.server.poll_transmit(max) else {
            return false;
        };
        let bytes = write.to_vec();
        self.down.extend_from_slice(&bytes);
        self.server_watch.sent(bytes.into());
        true
    }

    /// Carries so many bytes to the server.
    fn carry_up(&mut self, len: usize) -> bool {
        let len = len.min(self.up.len());
        let bytes: Bytes = self.up.drain(..len).collect();
        self.up_reader.push(bytes.clone());
        while let Some(frame) = self.up_reader.next().expect("our own frames") {
            self.server_watch.heard(&frame);
        }
        self.server.handle_input(self.now, bytes);
        len > 0
    }

    /// Carries so many bytes to the client.
    fn carry_down(&mut self, len: usize) -> bool {
        let len = len.min(self.down.len());
        let bytes: Bytes = self.down.drain(..len).collect();
        self.down_reader.push(bytes.clone());
        while let Some(frame) = self.down_reader.next().expect("our own frames") {
            self.client_watch.heard(&frame);
        }
        self.client.handle_input(self.now, bytes);
        len > 0
    }

    fn step(&mut self, source: &mut Source<'_>) {
        self.seq += 1;
        let seq = self.seq;
        match source.below(32) {
            0..=2 => self.request(source),
            3..=5 => self.respond(source),
            6..=9 => {
                let len = source.len(self.longest);
                if let Some((id, exchange)) = any_of(&mut self.exchanges, source)
                    && self.server.send(id, seq, content(id, seq, len)).is_ok()
                {
                    assert!(exchange.opened && len > 0);
                    exchange.down.put(seq, len);
                }
            }
            10 => {
                let count = source.flag().then(|| u64::from(source.byte()));
                if let Some((id, exchange)) = any_of(&mut self.exchanges, source)
                    && self.server.gap(id, seq, count).is_ok()
                {
                    lose(&mut exchange.down.put_lost, count);
                }
            }
            11..=14 => {
                let len = source.len(self.longest);
                if let Some((id, exchange)) = any_of(&mut self.exchanges, source)
                    && self.client.send(id, seq, content(id, seq, len)).is_ok()
                {
                    assert!(exchange.live && len > 0);
                    exchange.up.put(seq, len);
                }
            }
            15 => {
                let reason = source.flag().then(error);
                let reset = source.below(3) == 2;
                if let Some((id, exchange)) = any_of(&mut self.exchanges, source)
                    && exchange.opened
                {
                    // What the client publishes is not read any more.
                    exchange.up.torn = true;
                    if reset {
                        exchange.down.torn = true;
                        self.server.reset(id, error());
                    } else {
                        exchange.down.ended = true;
                        self.server.end(id, reason);
                    }
                }
            }
            16 => {
                if let Some((id, exchange)) = any_of(&mut self.exchanges, source)
                    && exchange.live
                    && exchange.kind == StreamKind::ToServer
                {
                    self.client.finish(id);
                    exchange.up.ended = true;
                }
            }
            17 => {
                if let Some((id, exchange)) = any_of(&mut self.exchanges, source) {
                    exchange.cancelled = true;
                    exchange.up.torn = true;
                    exchange.down.torn = true;
                    self.client.cancel(id);
                }
            }
            18 if source.flag() => {
                if let Some((id, exchange)) = any_of(&mut self.exchanges, source)
                    && exchange.live
                {
                    exchange.reset = true;
                    exchange.up.torn = true;
                    exchange.down.torn = true;
                    self.client.reset(id, error());
                }
            }
            18 => {
                if let Some((id, exchange)) = any_of(&mut self.exchanges, source) {
                    self.client.abandon(id);
                    exchange.give_up();
                }
            }
            19 | 20 => self.read(source),
            21 => {
                let by = Duration::from_millis(u64::from(source.byte()) / 8);
                self.now = self.now.saturating_add(by);
                self.client.handle_timeout(self.now);
            }
            22 => self.client.ping(self.now),
            23 => {
                let weight = Weight::new(source.byte());
                if let Some(weight) = weight {
                    if let Some((id, _)) = any_of(&mut self.exchanges, source) {
                        self.client.set_weight(id, weight);
                        self.server.set_weight(id, weight);
                    }
                } else if source.below(16) == 15 {
                    self.server_draining = true;
                    self.server.drain();
                } else if let Some((id, exchange)) = any_of(&mut self.exchanges, source)
                    && let Some(last) = exchange.up.got.last()
                {
                    self.server.acknowledge(id, last.seq, false);
                }
            }
            24 | 25 => drop(self.write_up(source.len(MAX_WRITE))),
            26 | 27 => drop(self.write_down(source.len(MAX_WRITE))),
            28 => drop(self.carry_up(source.len(usize::MAX))),
            29 => drop(self.carry_down(source.len(usize::MAX))),
            30 => {
                while self.write_up(MAX_WRITE) {}
                let _ = self.carry_up(usize::MAX);
            }
            _ => {
                while self.write_down(MAX_WRITE) {}
                let _ = self.carry_down(usize::MAX);
            }
        }
    }

    fn request(&mut self, source: &mut Source<'_>) {
        let kind = match source.below(3) {
            0 => StreamKind::None,
            1 => StreamKind::ToClient,
            _ => StreamKind::ToServer,
        };
        let len = source.len(self.longest);
        let deadline = (source.below(4) == 3).then(|| {
            let after = Duration::from_millis(u64::from(source.byte()));
            self.now.saturating_add(after)
        });
        let options = RequestOptions::new(kind).deadline(deadline);
        if let Ok(id) = self.client.request(7, vec![9; len], options) {
            self.exchanges.insert(id.get(), Exchange::new(kind, len));
        }
    }

    fn respond(&mut self, source: &mut Source<'_>) {
        let len = source.len(self.longest);
        let fails = source.below(4) == 3;
        let Some((id, exchange)) = any_of(&mut self.exchanges, source) else {
            return;
        };
        if exchange.asked == 0 || exchange.answered.is_some() {
            // What was not asked, or was answered, is not answered (again): nothing comes of it.
            self.server.respond(id, Err(error()));
            return;
        }
        if fails {
            exchange.answered = Some(None);
            self.server.respond(id, Err(error()));
        } else if exchange.kind == StreamKind::None {
            exchange.answered = Some(Some(len));
            self.server.respond(id, Ok(vec![5; len]));
        } else {
            let opened = self.server.respond_stream(id, vec![5; len], exchange.kind);
            exchange.opened = opened.is_ok();
            if id.get() % 3 == 1 {
                self.server.set_longest(id, LONGEST);
            }
            exchange.answered = Some(opened.is_ok().then_some(len));
        }
    }

    /// Reads the oldest message of a stream on one side, or all of them.
    fn read(&mut self, source: &mut Source<'_>) {
        let (up, all) = (source.flag(), source.flag());
        if let Some((id, exchange)) = any_of(&mut self.exchanges, source) {
            let unread = if up {
                &mut exchange.unread_up
            } else {
                &mut exchange.unread_down
            };
            let count = if all { unread.len() } else { 1 };
            for cost in unread.drain(..count.min(unread.len())) {
                if up {
                    self.server.consume(id, cost);
                } else {
                    self.client.consume(id, cost);
                }
            }
        }
    }

    fn read_all(&mut self) -> bool {
        let mut read = false;
        for (id, exchange) in &mut self.exchanges {
            for cost in exchange.unread_up.drain(..) {
                read = true;
                self.server.consume(RequestId(*id), cost);
            }
            for cost in exchange.unread_down.drain(..) {
                read = true;
                self.client.consume(RequestId(*id), cost);
            }
        }
        read
    }

    /// Reads all events, and holds them against the model.
    fn events(&mut self) {
        while let Some(event) = self.server.poll_event() {
            self.server_event(event);
        }
        while let Some(event) = self.client.poll_event() {
            self.client_event(event);
        }
        assert!(!self.client.is_closed() && !self.server.is_closed());
    }

    fn of(&mut self, id: RequestId) -> &mut Exchange {
        self.exchanges
            .get_mut(&id.get())
            .expect("a request that was made")
    }

    fn server_event(&mut self, event: ServerEvent) {
        match event {
            ServerEvent::Request { id, op, body } => {
                let exchange = self.of(id);
                assert_eq!((op, body.len()), (7, exchange.len));
                assert!(body.iter().all(|byte| *byte == 9));
                exchange.asked += 1;
                assert_eq!(exchange.asked, 1, "request {id} came twice");
            }
            ServerEvent::Refused { id, op, .. } => {
                let exchange = self.of(id);
                assert_eq!((op, exchange.asked), (7, 0), "refused what it asked for");
            }
            ServerEvent::Reset { id, .. } => {
                let exchange = self.of(id);
                assert!(exchange.opened && exchange.reset);
            }
            ServerEvent::Cancelled { id, stream } => {
                let exchange = self.of(id);
                assert!(exchange.cancelled || exchange.abandoned);
                assert_eq!(stream, exchange.opened);
            }
            ServerEvent::Message {
                id,
                seq,
                payload,
                cost,
            } => {
                assert_eq!(payload, content(id, seq, payload.len()), "bytes changed");
                let exchange = self.of(id);
                assert!(exchange.opened && !exchange.up.heard);
                exchange.up.got(seq, payload.len());
                exchange.unread_up.push(cost);
                // Every other stream holds nothing of the connection's window.
                if id.get() % 2 == 1 {
                    self.server.release(id, cost);
                }
            }
            ServerEvent::TooLong { id, len, .. } => {
                assert!(id.get() % 3 == 1 && len > LONGEST as u64);
                assert!(self.of(id).opened);
            }
            ServerEvent::Ended { id } => {
                let exchange = self.of(id);
                assert!(exchange.up.ended && !exchange.up.heard);
                exchange.up.heard = true;
                assert_eq!(exchange.up.got.len(), exchange.up.put.len(), "ended early");
            }
            ServerEvent::Room { id } => drop(self.of(id)),
            ServerEvent::Hello(_) | ServerEvent::Closed(_) => panic!("{event:?}"),
        }
    }

    fn client_event(&mut self, event: ClientEvent) {
        match event {
            ClientEvent::Response { id, result } => {
                let exchange = self.of(id);
                assert!(!exchange.abandoned, "{id} was given up");
                exchange.ended += 1;
                assert_eq!(exchange.ended, 1, "{id} ended twice");
                match result {
                    Ok(body) => {
                        assert_eq!(exchange.answered, Some(Some(body.len())));
                        assert!(body.iter().all(|byte| *byte == 5));
                        exchange.live = exchange.kind != StreamKind::None;
                    }
                    Err(error) => {
                        let refused = matches!(
                            error.code,
                            ErrorCode::ResourceExhausted | ErrorCode::Unavailable
                        );
                        let cancelled = exchange.cancelled && error.code == ErrorCode::Cancelled;
                        assert!(
                            exchange.answered == Some(None) || refused || cancelled,
                            "{id} failed by itself: {error}"
                        );
                    }
                }
            }
            ClientEvent::Expired { id } => {
                let exchange = self.of(id);
                assert!(!exchange.abandoned, "{id} was given up");
                exchange.ended += 1;
                assert_eq!(exchange.ended, 1, "{id} ended twice");
                exchange.give_up();
            }
            ClientEvent::Message {
                id,
                seq,
                payload,
                cost,
            } => {
                assert_eq!(payload, content(id, seq, payload.len()), "bytes changed");
                let flow = self.streaming(id);
                flow.down.got(seq, payload.len());
                flow.unread_down.push(cost);
            }
            ClientEvent::Gap {
                id, count, cost, ..
            } => {
                let exchange = self.streaming(id);
                lose(&mut exchange.down.got_lost, count);
                exchange.unread_down.push(cost);
            }
            ClientEvent::Acknowledged { id, .. } => drop(self.streaming(id)),
            ClientEvent::Ended { id, .. } => {
                let exchange = self.streaming(id);
                exchange.live = false;
                exchange.down.heard = true;
                exchange.up.torn = true;
                if !exchange.down.torn {
                    assert!(exchange.down.ended, "ended by itself");
                    let (got, put) = (&exchange.down.got, &exchange.down.put);
                    assert_eq!(got.len(), put.len(), "ended early");
                }
            }
            ClientEvent::Room { id } => drop(self.of(id)),
            ClientEvent::Pong { .. } => {}
            ClientEvent::Draining => assert!(self.server_draining),
            ClientEvent::Connected(_) | ClientEvent::Closed(_) => panic!("{event:?}"),
        }
    }

    fn streaming(&mut self, id: RequestId) -> &mut Exchange {
        let exchange = self.of(id);
        assert!(!exchange.abandoned, "{id} was given up");
        assert!(exchange.live, "{id} is no stream");
        exchange
    }

    /// Carries everything, reading nothing, until nothing moves.
    fn run(&mut self) {
        for round in 0.. {
            assert!(round < 100_000, "no end");
            let mut moved = self.write_up(MAX_WRITE);
            moved |= self.write_down(MAX_WRITE);
            moved |= self.carry_up(self.split);
            moved |= self.carry_down(self.split);
            self.events();
            if !moved {
                return;
            }
        }
    }

    /// Everything that was sent arrives, when everything is read.
    fn settle(&mut self) {
        loop {
            self.run();
            if !self.read_all() {
                break;
            }
        }
        for (id, exchange) in &self.exchanges {
            exchange.down.settle();
            exchange.up.settle();
            if exchange.answered.is_some() && !exchange.abandoned {
                assert_eq!(exchange.ended, 1, "the answer to {id} is missing");
            }
            if exchange.asked == 1 && exchange.answered.is_some() {
                assert!(
                    self.server_watch.answer(*id).is_some(),
                    "{id} has no answer"
                );
            }
        }
    }

    /// Ends all that is left, from one side or the other, and finds every counter back at zero.
    fn end_all(&mut self, source: &mut Source<'_>) {
        let from_client = source.flag();
        self.split = 1 + source.len(usize::MAX);
        let ids: Vec<u64> = self.exchanges.keys().copied().collect();
        for id in ids.iter().map(|id| RequestId(*id)) {
            let exchange = self.of(id);
            exchange.up.torn = true;
            exchange.down.torn = true;
            if from_client {
                exchange.give_up();
                self.client.abandon(id);
            } else {
                self.server.reset(id, error());
            }
        }
        self.run();
        for id in ids.iter().map(|id| RequestId(*id)) {
            let exchange = self.of(id);
            if exchange.asked == 1 && exchange.answered.is_none() {
                exchange.answered = Some(None);
            }
            self.server.respond(id, Err(error()));
        }
        loop {
            self.run();
            if !self.read_all() {
                break;
            }
        }
        for (id, exchange) in &self.exchanges {
            assert!(exchange.abandoned || exchange.ended == 1, "{id} has no end");
        }
        assert_eq!((self.server.requests(), self.server.streams()), (0, 0));
        assert_eq!(self.server.held(), 0, "bytes are held of nothing");
        assert_eq!(self.server.reassembling(), 0);
        assert_eq!(
            self.client.poll_timeout().filter(|due| *due <= self.now),
            None
        );
    }

    /// Every request and stream that the limits allow can be had again, and the largest messages.
    fn everything_again(&mut self) {
        if self.server_draining {
            return;
        }
        let longest = self.longest;
        self.exchanges.clear();
        self.split = usize::MAX;
        let ask = |world: &mut Self, kind, len: usize| {
            let options = RequestOptions::new(kind);
            let id = world.client.request(7, vec![9; len], options);
            let id = id.expect("the limits allow it");
            world.exchanges.insert(id.get(), Exchange::new(kind, len));
            id
        };
        let mut streams = Vec::new();
        for kind in [StreamKind::ToClient, StreamKind::ToServer].repeat(STREAMS / 2) {
            let id = ask(self, kind, 1);
            self.run();
            let exchange = self.of(id);
            (exchange.opened, exchange.answered) = (true, Some(Some(2)));
            let opened = self.server.respond_stream(id, vec![5; 2], kind);
            assert_eq!(opened, Ok(()), "a stream that the limits allow");
            self.run();
            streams.push((id, kind));
        }
        let ids: Vec<_> = (0..REQUESTS)
            .map(|_| ask(self, StreamKind::None, 100))
            .collect();
        self.run();
        // One of each is as long as can be; the others are short, to be quick.
        for (nth, id) in ids.into_iter().enumerate() {
            let len = if nth == 0 { longest } else { 1 };
            self.of(id).answered = Some(Some(len));
            self.server.respond(id, Ok(vec![5; len]));
        }
        for (nth, (id, kind)) in streams.into_iter().enumerate() {
            self.seq += 1;
            let len = if nth < 2 { longest } else { 1 };
            let (seq, payload) = (self.seq, content(id, self.seq, len));
            if kind == StreamKind::ToClient {
                assert_eq!(self.server.send(id, seq, payload), Ok(()));
                self.of(id).down.put(seq, len);
            } else {
                assert_eq!(self.client.send(id, seq, payload), Ok(()));
                self.of(id).up.put(seq, len);
            }
        }
        self.settle();
    }
}

impl Exchange {
    fn new(kind: StreamKind, len: usize) -> Self {
        Self {
            kind,
            len,
            abandoned: false,
            cancelled: false,
            reset: false,
            asked: 0,
            answered: None,
            opened: false,
            ended: 0,
            live: false,
            down: Flow::default(),
            up: Flow::default(),
            unread_down: Vec::new(),
            unread_up: Vec::new(),
        }
    }

    fn give_up(&mut self) {
        self.abandoned = true;
        self.live = false;
        self.up.torn = true;
        self.down.torn = true;
    }
}

/// One of the requests, near the end first.
fn any_of<'a>(
    exchanges: &'a mut BTreeMap<u64, Exchange>,
    source: &mut Source<'_>,
) -> Option<(RequestId, &'a mut Exchange)> {
    let nth = usize::from(source.below(12));
    exchanges
        .iter_mut()
        .rev()
        .nth(nth)
        .map(|(id, exchange)| (RequestId(*id), exchange))
}
