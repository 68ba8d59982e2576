//! Both machines agree with a simple model of requests and streams, whatever is done with them and however their bytes
//! cross.
//!
//! The model is plain tables: what was asked and answered, and the list of what each stream was sent. These races are
//! allowed, and nothing else:
//!
//! - a request that was cancelled is answered "cancelled", or as the server had answered it;
//! - a stream that is cancelled or reset ends with any of the reasons that were on their way, behind any part of what was
//!   sent; what is received is always the beginning of what was sent;
//! - gaps that waited next to each other arrive as one;
//! - a queue may say that it is full.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod common;

use std::collections::{BTreeMap, VecDeque};

use common::{
    config,
    watch::Side,
    world::{World, pattern},
};
use proptest::prelude::*;
use selium_remote_client_protocol::{
    CloseReason, ErrorCode, Limits, RemoteError, RequestId, SendError, Time,
    client::{ClientEvent, RequestOptions, StreamKind},
    limits::MAX_WRITE,
    server::ServerEvent,
};

const LONGEST: usize = 40_000;

#[derive(Clone, Debug)]
enum Op {
    Ask {
        kind: StreamKind,
        len: usize,
        deadline: Option<u64>,
    },
    /// To the request so many before the last.
    Do(usize, Deed),
    Write(Side, usize),
    Arrive(Side, usize),
    /// A side reads so many of the messages that it holds.
    Read(Side, usize),
    Wait(u64),
}

#[derive(Clone, Debug)]
enum Deed {
    Answer { len: usize },
    Fail,
    Send { len: usize, skip: u64 },
    Gap { missing: u64, counted: bool },
    End { reason: bool },
    Reset,
    Acknowledge,
    Finish,
    ClientReset,
    Cancel,
    Abandon,
}

fn op() -> impl Strategy<Value = Op> {
    let len = || prop_oneof![3 => 0usize..200, 1 => 16_380usize..16_390, 1 => 0..LONGEST];
    let side = || prop_oneof![Just(Side::Client), Just(Side::Server)];
    let bytes = || prop_oneof![1usize..50, 1..MAX_WRITE, Just(usize::MAX)];
    let kind = prop_oneof![
        1 => Just(StreamKind::None),
        2 => Just(StreamKind::ToClient),
        2 => Just(StreamKind::ToServer),
    ];
    let deadline = proptest::option::weighted(0.2, 1u64..40);
    let deed = prop_oneof![
        6 => len().prop_map(|len| Deed::Answer { len }),
        1 => Just(Deed::Fail),
        12 => (len(), 0u64..3).prop_map(|(len, skip)| Deed::Send { len, skip }),
        3 => (1u64..5, any::<bool>()).prop_map(|(missing, counted)| Deed::Gap { missing, counted }),
        1 => any::<bool>().prop_map(|reason| Deed::End { reason }),
        1 => Just(Deed::Reset),
        1 => Just(Deed::Acknowledge),
        1 => Just(Deed::Finish),
        1 => Just(Deed::ClientReset),
        1 => Just(Deed::Cancel),
        1 => Just(Deed::Abandon),
    ];
    prop_oneof![
        3 => (kind, len(), deadline).prop_map(|(kind, len, deadline)| Op::Ask { kind, len, deadline }),
        15 => (0usize..8, deed).prop_map(|(which, deed)| Op::Do(which, deed)),
        8 => (side(), bytes()).prop_map(|(side, max)| Op::Write(side, max)),
        8 => (side(), bytes()).prop_map(|(side, max)| Op::Arrive(side, max)),
        3 => (side(), 1usize..6).prop_map(|(side, count)| Op::Read(side, count)),
        1 => (1u64..20).prop_map(Op::Wait),
    ]
}

/// What a stream was sent.
#[derive(Clone, Debug, PartialEq)]
enum Item {
    Message { seq: u64, len: usize },
    Gap { next: u64, count: Option<u64> },
}

/// Where a request stands, on one side.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Stage {
    /// Not known to this side.
    Unknown,
    Running,
    Streaming,
    /// The receiver's half of a stream is over.
    Gone,
}

/// A request, and the stream that it opened.
#[derive(Debug)]
struct Entry {
    kind: StreamKind,
    len: usize,
    deadline: Option<Time>,
    client: Stage,
    server: Stage,
    /// How it ended for the client: answered, expired or given up.
    outcomes: usize,
    given_up: bool,
    cancelled: bool,
    answer: Option<Result<usize, RemoteError>>,
    /// Ends that were said, and by whom they were meant to be sudden.
    ends: Vec<Option<RemoteError>>,
    sudden: bool,
    finished: bool,
    /// Whether the client was told that the stream is over, and the server that the client's half is.
    client_ended: bool,
    server_ended: bool,
    sent: Vec<Item>,
    got: usize,
    next: u64,
    acknowledged: Option<u64>,
}

struct Case {
    world: World,
    entries: BTreeMap<RequestId, Entry>,
    /// What each side holds and has not read.
    held: [VecDeque<(RequestId, usize)>; 2],
    counter: usize,
}

fn limits() -> Limits {
    Limits::with(|limits| {
        limits.connection_window = 9_000;
        limits.stream_window = 5_000;
        limits.max_connection_window = 30_000;
        limits.reassembly = 90_000;
        limits.max_message = LONGEST;
        limits.max_request = LONGEST;
        limits.max_requests = 200;
        limits.max_streams = 6;
    })
}

fn seed(id: RequestId, seq: u64) -> u64 {
    id.get() * 1_000 + seq
}

fn error(text: String) -> RemoteError {
    RemoteError::new(ErrorCode::Internal, text)
}

fn is_cancelled(error: &RemoteError) -> bool {
    error.code == ErrorCode::Cancelled
}

impl Entry {
    fn is_between(&self) -> bool {
        self.kind != StreamKind::None
    }

    /// The next thing that comes is the next thing that was sent.
    fn takes_message(&mut self, id: RequestId, seq: u64, payload: &[u8]) {
        let len = payload.len();
        let expected = self.sent.get(self.got);
        assert_eq!(expected, Some(&Item::Message { seq, len }), "{id}");
        assert!(payload == pattern(seed(id, seq), len), "{id}: other bytes");
        self.got += 1;
    }

    fn takes_gap(&mut self, id: RequestId, next: u64, count: Option<u64>) {
        let mut all = Some(0u64);
        loop {
            let Some(Item::Gap {
                next: to,
                count: one,
            }) = self.sent.get(self.got)
            else {
                panic!("{id}: no gap to {next} of {count:?}");
            };
            all = all.zip(*one).map(|(a, b)| a + b);
            self.got += 1;
            if (*to, all) == (next, count) {
                return;
            }
        }
    }
}

impl Case {
    fn new() -> Self {
        Self {
            world: World::open(limits(), limits(), true),
            entries: BTreeMap::new(),
            held: [VecDeque::new(), VecDeque::new()],
            counter: 0,
        }
    }

    fn apply(&mut self, op: &Op) {
        self.counter += 1;
        match *op {
            Op::Ask {
                kind,
                len,
                deadline,
            } => self.ask(kind, len, deadline),
            Op::Do(which, ref deed) => {
                if let Some(id) = self.entries.keys().rev().nth(which).copied() {
                    self.act(id, deed);
                }
            }
            Op::Write(side, max) => {
                self.world.write(side, max);
            }
            Op::Arrive(side, max) => {
                self.world.arrive(side, max);
            }
            Op::Read(side, count) => self.read(side, count),
            Op::Wait(ms) => {
                let now = self.world.now;
                self.world.now = now.saturating_add(core::time::Duration::from_millis(ms));
                self.world.client.handle_timeout(self.world.now);
            }
        }
        self.events();
        self.world.assert_open();
    }

    fn ask(&mut self, kind: StreamKind, len: usize, deadline: Option<u64>) {
        let wait = |ms| {
            let wait = core::time::Duration::from_millis(ms);
            self.world.now.saturating_add(wait)
        };
        let deadline = deadline.map(wait);
        let options = RequestOptions::new(kind).deadline(deadline);
        let body = pattern(len as u64, len);
        let id = self.world.client.request(7, body, options).unwrap();
        let last = self.entries.keys().next_back();
        assert!(last.is_none_or(|last| *last < id), "ids increase");
        let entry = Entry {
            kind,
            len,
            deadline,
            client: Stage::Running,
            server: Stage::Unknown,
            outcomes: 0,
            given_up: false,
            cancelled: false,
            answer: None,
            ends: Vec::new(),
            sudden: false,
            finished: false,
            client_ended: false,
            server_ended: false,
            sent: Vec::new(),
            got: 0,
            next: 0,
            acknowledged: None,
        };
        self.entries.insert(id, entry);
    }

    fn act(&mut self, id: RequestId, deed: &Deed) {
        let entry = self.entries.get_mut(&id).unwrap();
        let World {
            client,
            server,
            watch,
            ..
        } = &mut self.world;
        let reason = error(format!("reason {}", self.counter));
        match *deed {
            Deed::Answer { len } if entry.kind == StreamKind::None => {
                server.respond(id, Ok(pattern(id.get(), len)));
                if entry.server == Stage::Running {
                    entry.server = Stage::Gone;
                    entry.answer = Some(Ok(len));
                }
            }
            Deed::Answer { len } => {
                let opened = server.respond_stream(id, pattern(id.get(), len), entry.kind);
                if entry.server != Stage::Running {
                    assert_eq!(opened, Err(SendError::NotOpen));
                    return;
                }
                entry.server = Stage::Gone;
                entry.answer = Some(match opened {
                    Ok(()) => {
                        entry.server = Stage::Streaming;
                        Ok(len)
                    }
                    Err(SendError::NotOpen) => {
                        assert!(entry.cancelled || entry.given_up);
                        Err(RemoteError::new(ErrorCode::Cancelled, ""))
                    }
                    Err(SendError::Full) => Err(RemoteError::new(ErrorCode::ResourceExhausted, "")),
                    Err(other) => panic!("{other}"),
                });
            }
            Deed::Fail => {
                server.respond(id, Err(reason.clone()));
                if entry.server == Stage::Running {
                    entry.server = Stage::Gone;
                    entry.answer = Some(Err(reason));
                }
            }
            Deed::Send { len, skip } => {
                let seq = entry.next + skip;
                let message = pattern(seed(id, seq), len);
                let (sent, open) = match entry.kind {
                    StreamKind::ToServer => (
                        client.send(id, seq, message),
                        entry.client == Stage::Streaming && !entry.finished,
                    ),
                    _ => (
                        server.send(id, seq, message),
                        entry.server == Stage::Streaming,
                    ),
                };
                match sent {
                    Ok(()) => {
                        assert!(open && len > 0);
                        entry.sent.push(Item::Message { seq, len });
                        entry.next = seq + 1;
                    }
                    Err(SendError::Full) => assert!(open),
                    Err(SendError::Empty) => assert!(open && len == 0),
                    Err(SendError::NotOpen) => assert!(!open),
                    Err(other) => panic!("{other}"),
                }
            }
            Deed::Gap { missing, counted } => {
                let next = entry.next + missing;
                let count = counted.then_some(missing);
                let open = entry.server == Stage::Streaming && entry.kind == StreamKind::ToClient;
                assert_eq!(server.gap(id, next, count).is_ok(), open);
                if open {
                    entry.sent.push(Item::Gap { next, count });
                    entry.next = next;
                }
            }
            Deed::End { reason: has } => {
                let reason = has.then_some(reason);
                server.end(id, reason.clone());
                if entry.server == Stage::Streaming {
                    entry.server = Stage::Gone;
                    entry.ends.push(reason);
                    // What the client has published, and the server has not seen, is given up.
                    entry.sudden |= entry.kind == StreamKind::ToServer;
                    watch.dropped(Side::Server, id.get());
                }
            }
            Deed::Reset => {
                server.reset(id, reason.clone());
                if entry.server == Stage::Streaming {
                    entry.server = Stage::Gone;
                    entry.ends.push(Some(reason));
                    entry.sudden = true;
                    watch.dropped(Side::Server, id.get());
                }
            }
            Deed::Acknowledge => {
                let last = entry.sent[..entry.got].last();
                if let (StreamKind::ToServer, Some(Item::Message { seq, .. })) = (entry.kind, last)
                {
                    server.acknowledge(id, *seq, false);
                    if entry.server == Stage::Streaming {
                        entry.acknowledged = Some(*seq);
                    }
                }
            }
            Deed::Finish => {
                client.finish(id);
                entry.finished |=
                    entry.client == Stage::Streaming && entry.kind == StreamKind::ToServer;
            }
            Deed::ClientReset => {
                let open = entry.client == Stage::Streaming;
                client.reset(id, reason.clone());
                if open {
                    entry.ends.push(Some(reason));
                    entry.sudden = true;
                    watch.dropped(Side::Client, id.get());
                }
            }
            Deed::Cancel => {
                if matches!(entry.client, Stage::Running | Stage::Streaming) {
                    entry.cancelled = true;
                    entry.sudden = true;
                    watch.dropped(Side::Client, id.get());
                }
                client.cancel(id);
            }
            Deed::Abandon => {
                watch.dropped(Side::Client, id.get());
                client.abandon(id);
                entry.outcomes += usize::from(entry.client == Stage::Running);
                if entry.client != Stage::Gone {
                    entry.given_up = true;
                    entry.sudden = true;
                    entry.client = Stage::Gone;
                }
            }
        }
    }

    fn read(&mut self, side: Side, count: usize) {
        let held = &mut self.held[usize::from(side == Side::Server)];
        let count = count.min(held.len());
        for (id, cost) in held.drain(..count) {
            self.world.consume(side, id, cost);
        }
    }

    fn events(&mut self) {
        while let Some(event) = self.world.client.poll_event() {
            self.client_event(event);
        }
        while let Some(event) = self.world.server.poll_event() {
            self.server_event(event);
        }
    }

    fn client_event(&mut self, event: ClientEvent) {
        match event {
            ClientEvent::Response { id, result } => {
                let entry = self.entries.get_mut(&id).unwrap();
                assert_eq!(entry.client, Stage::Running, "{id}: answered once");
                entry.outcomes += 1;
                entry.client = Stage::Gone;
                match (result, &entry.answer) {
                    (Ok(body), Some(Ok(len))) => {
                        assert!(body == pattern(id.get(), *len), "{id}: another answer");
                        if entry.is_between() {
                            entry.client = Stage::Streaming;
                        }
                    }
                    (Err(said), Some(Err(meant))) => assert_eq!(said.code, meant.code),
                    (Err(said), None) => assert!(entry.cancelled && is_cancelled(&said), "{said}"),
                    other => panic!("{id}: {other:?}"),
                }
            }
            ClientEvent::Expired { id } => {
                let entry = self.entries.get_mut(&id).unwrap();
                assert_eq!(entry.client, Stage::Running, "{id}: expired once");
                assert!(entry.deadline.is_some_and(|at| at <= self.world.now));
                entry.outcomes += 1;
                entry.client = Stage::Gone;
                entry.given_up = true;
                entry.sudden = true;
                self.world.watch.dropped(Side::Client, id.get());
            }
            ClientEvent::Message {
                id,
                seq,
                payload,
                cost,
            } => {
                let entry = self.entries.get_mut(&id).unwrap();
                assert_eq!(entry.client, Stage::Streaming);
                entry.takes_message(id, seq, &payload.to_vec());
                assert_eq!(cost, payload.len() + 32);
                self.held[0].push_back((id, cost));
            }
            ClientEvent::Gap {
                id,
                next,
                count,
                cost,
            } => {
                let entry = self.entries.get_mut(&id).unwrap();
                assert_eq!(entry.client, Stage::Streaming);
                entry.takes_gap(id, next, count);
                assert_eq!(cost, 32);
                self.held[0].push_back((id, cost));
            }
            ClientEvent::Ended { id, error } => {
                let entry = self.entries.get_mut(&id).unwrap();
                assert_eq!(entry.client, Stage::Streaming, "{id}: ended once");
                entry.client = Stage::Gone;
                entry.client_ended = true;
                let own = entry.cancelled && error.as_ref().is_some_and(is_cancelled);
                assert!(own || entry.ends.contains(&error), "{id}: {error:?}");
            }
            ClientEvent::Acknowledged { id, seq, .. } => {
                let entry = &self.entries[&id];
                assert_eq!(entry.client, Stage::Streaming);
                assert!(entry.acknowledged.is_some_and(|last| seq <= last));
            }
            ClientEvent::Room { .. } => {}
            other => panic!("{other:?}"),
        }
    }

    fn server_event(&mut self, event: ServerEvent) {
        match event {
            ServerEvent::Request { id, op, body } => {
                let entry = self.entries.get_mut(&id).unwrap();
                assert_eq!(entry.server, Stage::Unknown, "{id}: it comes once");
                assert!(op == 7 && body == pattern(entry.len as u64, entry.len));
                entry.server = Stage::Running;
            }
            ServerEvent::Cancelled { id, stream } => {
                let entry = self.entries.get_mut(&id).unwrap();
                assert!(entry.cancelled || entry.given_up);
                let before = if stream {
                    Stage::Streaming
                } else {
                    Stage::Running
                };
                assert_eq!(entry.server, before);
                if stream {
                    entry.server = Stage::Gone;
                }
            }
            ServerEvent::Reset { id, error } => {
                let entry = self.entries.get_mut(&id).unwrap();
                assert_eq!(entry.server, Stage::Streaming);
                assert!(entry.ends.contains(&Some(error)));
                entry.server = Stage::Gone;
            }
            ServerEvent::Message {
                id,
                seq,
                payload,
                cost,
            } => {
                let entry = self.entries.get_mut(&id).unwrap();
                assert_eq!(entry.server, Stage::Streaming);
                entry.takes_message(id, seq, &payload.to_vec());
                self.held[1].push_back((id, cost));
            }
            ServerEvent::Ended { id } => {
                let entry = self.entries.get_mut(&id).unwrap();
                assert_eq!(entry.server, Stage::Streaming);
                assert!(entry.finished && entry.got == entry.sent.len());
                assert!(!entry.server_ended, "{id}: ended once");
                entry.server_ended = true;
            }
            ServerEvent::Room { .. } => {}
            other => panic!("{other:?}"),
        }
    }

    /// Everything crosses and is read.
    fn settle(&mut self) {
        loop {
            let mut moved = false;
            for side in [Side::Client, Side::Server] {
                moved |= self.world.write(side, MAX_WRITE);
                moved |= self.world.arrive(side, usize::MAX);
                self.events();
                moved |= !self.held[usize::from(side == Side::Server)].is_empty();
                self.read(side, usize::MAX);
            }
            if !moved {
                return self.world.assert_open();
            }
        }
    }

    /// Ends all that is left in the ordinary way, and compares what came with what was sent.
    fn finish(&mut self) {
        self.settle();
        let ids: Vec<RequestId> = self.entries.keys().copied().collect();
        for id in &ids {
            self.act(*id, &Deed::Answer { len: 3 });
        }
        self.settle();
        for id in &ids {
            match self.entries[id].kind {
                StreamKind::ToServer => self.act(*id, &Deed::Finish),
                _ => self.act(*id, &Deed::End { reason: true }),
            }
        }
        self.settle();
        for (id, entry) in &self.entries {
            assert_eq!(
                entry.outcomes, 1,
                "{id}: every request ends once: {entry:?}"
            );
            assert_eq!(
                entry.server == Stage::Unknown,
                entry.answer.is_none(),
                "{id}"
            );
            let opened = matches!(entry.answer, Some(Ok(_))) && entry.is_between();
            if opened && !entry.sudden {
                assert_eq!(entry.got, entry.sent.len(), "{id}: all of it arrives");
                let ended = match entry.kind {
                    StreamKind::ToServer => entry.server_ended,
                    _ => entry.client_ended,
                };
                assert!(ended, "{id}: it has ended");
            }
        }
        for id in &ids {
            self.act(*id, &Deed::End { reason: false });
        }
        self.settle();
        let streams = self.world.server.streams();
        assert_eq!((self.world.server.requests(), streams), (0, 0));
        assert_eq!(
            (self.world.server.held(), self.world.server.reassembling()),
            (0, 0)
        );
    }
}

proptest! {
    #![proptest_config(config(150))]

    #[test]
    fn whatever_is_done_agrees_with_the_model(ops in proptest::collection::vec(op(), 0..250)) {
        let mut case = Case::new();
        for op in &ops {
            case.apply(op);
        }
        case.finish();
    }

    /// A connection that ends in the middle says so once on each side, as its last word.
    #[test]
    fn a_connection_ends_once(
        ops in proptest::collection::vec(op(), 0..80),
        how in 0u8..4,
    ) {
        let mut case = Case::new();
        for op in &ops {
            case.apply(op);
        }
        let World { client, server, .. } = &mut case.world;
        let reason = error("closed".into());
        match how {
            0 => client.close(),
            1 => server.close(reason.clone()),
            2 => client.handle_eof(Time::ZERO),
            _ => server.handle_eof(Time::ZERO),
        }
        if how < 2 {
            case.world.run();
        } else {
            case.world.client.handle_eof(Time::ZERO);
            case.world.server.handle_eof(Time::ZERO);
        }
        let World { client, server, .. } = &mut case.world;
        for _ in 0..2 {
            client.close();
            server.close(reason.clone());
        }
        let client_events: Vec<_> = std::iter::from_fn(|| client.poll_event()).collect();
        let server_events: Vec<_> = std::iter::from_fn(|| server.poll_event()).collect();
        let (said_client, said_server) = match how {
            0 => {
                let ended = RemoteError::new(ErrorCode::Cancelled, "the client closed the connection");
                (CloseReason::Local(ended.clone()), CloseReason::Peer(ended))
            }
            1 => (CloseReason::Peer(reason.clone()), CloseReason::Local(reason)),
            _ => (CloseReason::Lost, CloseReason::Lost),
        };
        prop_assert_eq!(client_events.last(), Some(&ClientEvent::Closed(said_client)));
        prop_assert_eq!(server_events.last(), Some(&ServerEvent::Closed(said_server)));
        let closed = |event: &&ClientEvent| matches!(event, ClientEvent::Closed(_));
        prop_assert_eq!(client_events.iter().filter(closed).count(), 1);
        let closed = |event: &&ServerEvent| matches!(event, ServerEvent::Closed(_));
        prop_assert_eq!(server_events.iter().filter(closed).count(), 1);
        prop_assert!(client.poll_transmit(MAX_WRITE).is_none_or(|_| how > 1));
    }
}
