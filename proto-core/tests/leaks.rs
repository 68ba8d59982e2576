//! Whatever happens to requests and streams: once all of them are over, no credit, reassembly or id is missing.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use common::{Pair, config};
use proptest::prelude::*;
use selium_remote_client_protocol::{
    ErrorCode, Limits, RemoteError, RequestId, Time,
    client::{ClientEvent, RequestOptions, StreamKind},
    limits::MAX_WRITE,
    server::ServerEvent,
};

/// One thing that happens.
#[derive(Clone, Debug)]
enum Op {
    Request {
        stream: u8,
        len: usize,
    },
    /// To the request so many before the last.
    Do(usize, Deed),
    /// Each side reads so many of its oldest messages.
    Read(usize),
    /// A write of at most so many bytes crosses.
    Up(usize),
    Down(usize),
}

/// What a side does to a request or its stream.
#[derive(Clone, Debug)]
enum Deed {
    Respond { len: usize },
    Fail,
    Send { len: usize },
    Gap,
    End,
    Reset,
    Publish { len: usize },
    Finish,
    Cancel,
    Abandon,
}

fn op() -> impl Strategy<Value = Op> {
    let len = || prop_oneof![0usize..200, 0usize..40_000];
    let max = || prop_oneof![Just(0usize), 0..MAX_WRITE];
    let deed = prop_oneof![
        4 => len().prop_map(|len| Deed::Respond { len }),
        1 => Just(Deed::Fail),
        4 => len().prop_map(|len| Deed::Send { len }),
        2 => Just(Deed::Gap),
        1 => Just(Deed::End),
        1 => Just(Deed::Reset),
        4 => len().prop_map(|len| Deed::Publish { len }),
        1 => Just(Deed::Finish),
        1 => Just(Deed::Cancel),
        1 => Just(Deed::Abandon),
    ];
    prop_oneof![
        2 => (0u8..3, len()).prop_map(|(stream, len)| Op::Request { stream, len }),
        20 => (0usize..12, deed).prop_map(|(which, deed)| Op::Do(which, deed)),
        2 => (0usize..5).prop_map(Op::Read),
        5 => max().prop_map(Op::Up),
        5 => max().prop_map(Op::Down),
    ]
}

fn error() -> RemoteError {
    RemoteError::new(ErrorCode::Internal, "no")
}

struct World {
    pair: Pair,
    requests: Vec<(RequestId, StreamKind)>,
    seq: u64,
}

impl World {
    fn new() -> Self {
        let limits = Limits::with(|limits| {
            limits.connection_window = 8_000;
            limits.stream_window = 6_000;
            limits.reassembly = 50_000;
            limits.max_message = 40_000;
            limits.max_request = 40_000;
            limits.max_requests = 8;
            limits.max_streams = 6;
        });
        Self {
            pair: Pair::open(limits, limits),
            requests: Vec::new(),
            seq: 0,
        }
    }

    fn request(&mut self, stream: u8, len: usize) {
        let stream = match stream {
            0 => StreamKind::None,
            1 => StreamKind::ToClient,
            _ => StreamKind::ToServer,
        };
        let options = RequestOptions::new(stream);
        if let Ok(id) = self.pair.client.request(1, vec![0; len], options) {
            self.requests.push((id, stream));
        }
    }

    fn apply(&mut self, op: &Op) {
        let pair = &mut self.pair;
        match *op {
            Op::Request { stream, len } => self.request(stream, len),
            Op::Do(which, ref deed) => {
                if let Some((id, kind)) = self.requests.iter().rev().nth(which).copied() {
                    self.act(id, kind, deed);
                }
            }
            Op::Read(up_to) => self.read(up_to),
            Op::Up(max) => {
                if let Some(write) = pair.client.poll_transmit(max) {
                    pair.server.handle_input(Time::ZERO, write.to_vec().into());
                }
                pair.collect();
            }
            Op::Down(max) => {
                if let Some(write) = pair.server.poll_transmit(max) {
                    pair.client.handle_input(Time::ZERO, write.to_vec().into());
                }
                pair.collect();
            }
        }
    }

    /// What a side may not do is refused, and harms nobody.
    fn act(&mut self, id: RequestId, kind: StreamKind, deed: &Deed) {
        self.seq += 1;
        let Pair { client, server, .. } = &mut self.pair;
        match *deed {
            Deed::Respond { len } if kind == StreamKind::None => {
                server.respond(id, Ok(vec![0; len]));
            }
            Deed::Respond { len } => {
                let _ = server.respond_stream(id, vec![0; len], kind);
            }
            Deed::Fail => server.respond(id, Err(error())),
            Deed::Send { len } => {
                let _ = server.send(id, self.seq, vec![0; len]);
            }
            Deed::Gap => {
                let _ = server.gap(id, self.seq, None);
            }
            Deed::End => server.end(id, None),
            Deed::Reset => server.reset(id, error()),
            Deed::Publish { len } => {
                let _ = client.send(id, self.seq, vec![0; len]);
            }
            Deed::Finish => client.finish(id),
            Deed::Cancel => client.cancel(id),
            Deed::Abandon => client.abandon(id),
        }
    }

    /// Reads as many of the oldest messages on each side.
    fn read(&mut self, up_to: usize) {
        let pair = &mut self.pair;
        let seen = pair.client_events.len().min(up_to);
        for event in pair.client_events.drain(..seen) {
            if let ClientEvent::Message { id, cost, .. } | ClientEvent::Gap { id, cost, .. } = event
            {
                pair.client.consume(id, cost);
            }
        }
        let seen = pair.server_events.len().min(up_to);
        for event in pair.server_events.drain(..seen) {
            if let ServerEvent::Message { id, cost, .. } = event {
                pair.server.consume(id, cost);
            }
        }
    }

    /// Ends all that is left, from one side or the other.
    fn end_all(&mut self, from_client: bool) {
        self.pair.run();
        for (id, _) in &self.requests {
            let id = *id;
            if from_client {
                self.pair.client.abandon(id);
            } else {
                self.pair.server.reset(id, error());
            }
        }
        self.pair.run();
        for (id, _) in &self.requests {
            self.pair.server.respond(*id, Err(error()));
        }
        while !self.pair.client_events.is_empty() || !self.pair.server_events.is_empty() {
            self.read(usize::MAX);
            self.pair.run();
        }
        self.pair.assert_open();
    }
}

proptest! {
    #![proptest_config(config(64))]

    #[test]
    fn nothing_is_missing_when_all_is_over(
        ops in proptest::collection::vec(op(), 0..150),
        from_client: bool,
    ) {
        let mut world = World::new();
        for op in &ops {
            world.apply(op);
            world.pair.assert_open();
        }
        world.end_all(from_client);
        let mut pair = world.pair;
        prop_assert_eq!((pair.server.requests(), pair.server.streams()), (0, 0));

        // Every request and every stream that the limits allow, and the largest messages.
        let mut streams = Vec::new();
        for _ in 0..3 {
            streams.push(pair.stream(StreamKind::ToClient));
            streams.push(pair.stream(StreamKind::ToServer));
        }
        let ids: Vec<_> = (0..8).map(|_| pair.request(StreamKind::None)).collect();
        pair.run();
        for id in ids {
            pair.server.respond(id, Ok(vec![0; 40_000]));
        }
        pair.run();
        let answers = pair.client_events.iter();
        prop_assert_eq!(answers.filter(|event| matches!(event, ClientEvent::Response { result: Ok(_), .. })).count(), 8);
        pair.client_events.clear();
        pair.server_events.clear();
        pair.client.request(1, vec![0; 40_000], RequestOptions::default()).unwrap();
        pair.client.send(streams[1], 1, vec![0; 3_000]).unwrap();
        pair.server.send(streams[0], 1, vec![0; 3_000]).unwrap();
        pair.run();
        prop_assert_eq!(pair.client_events.len(), 1);
        prop_assert_eq!(pair.server_events.len(), 2);
        pair.assert_open();
    }
}
