//! However the bytes are cut on their way, the same events come and the same bytes go out.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod common;

use bytes::Bytes;
use common::{config, world::pattern};
use proptest::prelude::*;
use selium_remote_client_protocol::{
    ErrorCode, Limits, RemoteError, RequestId, Time,
    client::{ClientConfig, ClientConnection, ClientEvent, RequestOptions, StreamKind},
    hello::{ClientHello, ServerHello},
    limits::MAX_WRITE,
    server::{ServerConnection, ServerEvent},
};

/// What the two applications do before bytes cross.
#[derive(Clone, Debug)]
enum Call {
    Ask(StreamKind, usize),
    /// To the request so many before the last.
    Answer(usize, usize),
    Fail(usize),
    Send(usize, usize),
    Gap(usize),
    End(usize),
    Reset(usize),
    Publish(usize, usize),
    Finish(usize),
    Cancel(usize),
    Abandon(usize),
    Ping,
    Read,
}

fn call() -> impl Strategy<Value = Call> {
    let len = || prop_oneof![3 => 0usize..300, 1 => 0usize..40_000];
    let kind = prop_oneof![
        Just(StreamKind::None),
        Just(StreamKind::ToClient),
        Just(StreamKind::ToServer),
    ];
    let which = || 0usize..4;
    prop_oneof![
        3 => (kind, len()).prop_map(|(kind, len)| Call::Ask(kind, len)),
        5 => (which(), len()).prop_map(|(which, len)| Call::Answer(which, len)),
        1 => which().prop_map(Call::Fail),
        6 => (which(), len()).prop_map(|(which, len)| Call::Send(which, len)),
        2 => which().prop_map(Call::Gap),
        1 => which().prop_map(Call::End),
        1 => which().prop_map(Call::Reset),
        6 => (which(), len()).prop_map(|(which, len)| Call::Publish(which, len)),
        1 => which().prop_map(Call::Finish),
        1 => which().prop_map(Call::Cancel),
        1 => which().prop_map(Call::Abandon),
        1 => Just(Call::Ping),
        3 => Just(Call::Read),
    ]
}

/// All that can be seen of a session.
#[derive(Debug, Default, PartialEq)]
struct Seen {
    client: Vec<ClientEvent>,
    server: Vec<ServerEvent>,
    up: Vec<u8>,
    down: Vec<u8>,
}

struct Session {
    client: ClientConnection,
    server: ServerConnection,
    asked: Vec<(RequestId, StreamKind)>,
    seen: Seen,
    read: (usize, usize),
    seq: u64,
    /// Lengths of the pieces, over and over.
    cuts: Vec<usize>,
    at: usize,
}

impl Session {
    fn new(cuts: Vec<usize>) -> Self {
        let limits = Limits::with(|limits| {
            // No window of the connection is half used here: the pings that this would send depend on when it is seen.
            limits.connection_window = 1 << 24;
            limits.stream_window = 6_000;
            limits.reassembly = 200_000;
            limits.max_message = 60_000;
        });
        let hello = ClientHello::new([1; 16], [2; 16], &limits);
        let mut session = Self {
            client: ClientConnection::new(ClientConfig::new(hello, limits)),
            server: ServerConnection::new(limits),
            asked: Vec::new(),
            seen: Seen::default(),
            read: (0, 0),
            seq: 0,
            cuts,
            at: 0,
        };
        session.cross();
        session.server.accept(&ServerHello::new([9; 16], &limits));
        session.cross();
        session
    }

    fn pieces(&mut self, bytes: &[u8]) -> Vec<Bytes> {
        let mut pieces = Vec::new();
        let mut rest = bytes;
        while !rest.is_empty() {
            let len = self.cuts[self.at % self.cuts.len()].min(rest.len());
            self.at += 1;
            let (piece, later) = rest.split_at(len);
            pieces.push(Bytes::copy_from_slice(piece));
            rest = later;
        }
        pieces
    }

    /// Everything that is written up, then everything that is written down.
    fn cross(&mut self) {
        let mut bytes = Vec::new();
        while let Some(transmit) = self.client.poll_transmit(MAX_WRITE) {
            bytes.extend(transmit.to_vec());
        }
        for piece in self.pieces(&bytes) {
            self.server.handle_input(Time::ZERO, piece);
            let events = std::iter::from_fn(|| self.server.poll_event());
            self.seen.server.extend(events);
        }
        self.seen.up.append(&mut bytes);
        while let Some(transmit) = self.server.poll_transmit(MAX_WRITE) {
            bytes.extend(transmit.to_vec());
        }
        for piece in self.pieces(&bytes) {
            self.client.handle_input(Time::ZERO, piece);
            let events = std::iter::from_fn(|| self.client.poll_event());
            self.seen.client.extend(events);
        }
        self.seen.down.append(&mut bytes);
    }

    fn nth(&self, which: usize) -> Option<(RequestId, StreamKind)> {
        self.asked.iter().rev().nth(which).copied()
    }

    fn read(&mut self) {
        for event in &self.seen.client[self.read.0..] {
            if let ClientEvent::Message { id, cost, .. } | ClientEvent::Gap { id, cost, .. } = event
            {
                self.client.consume(*id, *cost);
            }
        }
        for event in &self.seen.server[self.read.1..] {
            if let ServerEvent::Message { id, cost, .. } = event {
                self.server.consume(*id, *cost);
            }
        }
        self.read = (self.seen.client.len(), self.seen.server.len());
    }

    fn call(&mut self, call: &Call) -> Option<()> {
        self.seq += 1;
        let error = || RemoteError::new(ErrorCode::Internal, "no");
        match *call {
            Call::Ask(kind, len) => {
                let options = RequestOptions::new(kind);
                let id = self.client.request(5, pattern(1, len), options).ok()?;
                self.asked.push((id, kind));
            }
            Call::Answer(which, len) => match self.nth(which)? {
                (id, StreamKind::None) => self.server.respond(id, Ok(pattern(2, len))),
                (id, kind) => {
                    let _ = self.server.respond_stream(id, pattern(2, len), kind);
                }
            },
            Call::Fail(which) => self.server.respond(self.nth(which)?.0, Err(error())),
            Call::Send(which, len) => {
                let message = pattern(self.seq, len);
                let _ = self.server.send(self.nth(which)?.0, self.seq, message);
            }
            Call::Gap(which) => {
                let _ = self.server.gap(self.nth(which)?.0, self.seq, Some(1));
            }
            Call::End(which) => self.server.end(self.nth(which)?.0, Some(error())),
            Call::Reset(which) => self.server.reset(self.nth(which)?.0, error()),
            Call::Publish(which, len) => {
                let message = pattern(self.seq, len);
                let _ = self.client.send(self.nth(which)?.0, self.seq, message);
            }
            Call::Finish(which) => self.client.finish(self.nth(which)?.0),
            Call::Cancel(which) => self.client.cancel(self.nth(which)?.0),
            Call::Abandon(which) => self.client.abandon(self.nth(which)?.0),
            Call::Ping => self.client.ping(Time::ZERO),
            Call::Read => self.read(),
        }
        Some(())
    }
}

fn session(calls: &[Vec<Call>], cuts: Vec<usize>) -> Seen {
    let mut session = Session::new(cuts);
    for calls in calls {
        for call in calls {
            session.call(call);
        }
        session.cross();
    }
    session.seen
}

proptest! {
    #![proptest_config(config(40))]

    #[test]
    fn any_cutting_gives_the_same_events_and_the_same_bytes(
        calls in proptest::collection::vec(proptest::collection::vec(call(), 0..12), 0..16),
        cuts in prop_oneof![
            1 => Just(vec![1usize]),
            3 => proptest::collection::vec(prop_oneof![1usize..10, 1usize..3_000, 1..MAX_WRITE], 1..30),
        ],
    ) {
        let whole = session(&calls, vec![usize::MAX]);
        let cut = session(&calls, cuts);
        prop_assert_eq!(&whole.client, &cut.client);
        prop_assert_eq!(&whole.server, &cut.server);
        prop_assert!(whole.up == cut.up && whole.down == cut.down, "other bytes go out");
        let closed = |seen: &Seen| seen.client.iter().any(|event| matches!(event, ClientEvent::Closed(_)));
        prop_assert!(!closed(&whole));
    }
}
