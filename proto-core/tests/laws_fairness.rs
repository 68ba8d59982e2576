//! Fairness: busy streams share by weight, and control waits behind nothing.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod common;

use bytes::Bytes;
use common::{Pair, config};
use proptest::prelude::*;
use selium_remote_client_protocol::{
    ErrorCode, Limits, RemoteError, RequestId, Time, Weight,
    client::{RequestOptions, StreamKind},
    frame::{Frame, FrameReader},
    limits::{MAX_CHUNK, MAX_WRITE, MESSAGE_OVERHEAD},
};

/// A round gives each stream its weight times this (PROTOCOL.md, "Order and fairness").
const TURN: usize = MAX_CHUNK + MESSAGE_OVERHEAD;

/// Over so many rounds a share is exact to 10 percent: what is left of a turn, and of the round, is one turn each.
const ROUNDS: usize = 20;

fn limits() -> Limits {
    Limits::with(|limits| {
        limits.connection_window = 1 << 30;
        limits.stream_window = 1 << 30;
        limits.reassembly = 8 << 20;
        limits.connection_queue = 64 << 20;
        limits.stream_queue = 1 << 20;
        limits.control_queue = 64 << 20;
    })
}

fn frames(bytes: Bytes) -> Vec<Frame> {
    let mut reader = FrameReader::new();
    reader.push(bytes);
    let frames = std::iter::from_fn(|| reader.next().unwrap()).collect();
    assert_eq!(reader.buffered(), 0, "a write ends with a frame");
    frames
}

/// What frames of a stream cost.
fn cost(frame: &Frame) -> Option<(u64, usize)> {
    match frame {
        Frame::Data { id, chunk, .. } => Some((*id, chunk.len() + MESSAGE_OVERHEAD)),
        Frame::DataMore { id, chunk } => Some((*id, chunk.len())),
        Frame::Gap { id, .. } => Some((*id, MESSAGE_OVERHEAD)),
        _ => None,
    }
}

/// A busy stream: its weight, and the sizes of its messages, over and over.
fn busy() -> impl Strategy<Value = (u8, Vec<usize>)> {
    let size = prop_oneof![
        1usize..200,
        1usize..5_000,
        16_300usize..16_500,
        1usize..100_000,
    ];
    let weight = prop_oneof![3 => Just(1u8), 1 => 1u8..=16];
    (weight, proptest::collection::vec(size, 1..4))
}

/// A pair with one stream in this direction for each weight; the writes of its sender.
struct Sending {
    pair: Pair,
    kind: StreamKind,
    ids: Vec<RequestId>,
}

impl Sending {
    fn new(kind: StreamKind, server: Limits, weights: impl Iterator<Item = u8>) -> Self {
        let mut pair = Pair::open(limits(), server);
        let ids = weights
            .map(|weight| {
                let id = pair.stream(kind);
                let weight = Weight::new(weight).unwrap();
                match kind {
                    StreamKind::ToServer => pair.client.set_weight(id, weight),
                    _ => pair.server.set_weight(id, weight),
                }
                id
            })
            .collect();
        Self { pair, kind, ids }
    }

    fn send(&mut self, id: RequestId, seq: u64, len: usize) -> bool {
        let message = vec![0; len];
        match self.kind {
            StreamKind::ToServer => self.pair.client.send(id, seq, message).is_ok(),
            _ => self.pair.server.send(id, seq, message).is_ok(),
        }
    }

    /// One write, which arrives.
    fn write(&mut self, max: usize) -> Vec<Frame> {
        let Pair { client, server, .. } = &mut self.pair;
        let transmit = match self.kind {
            StreamKind::ToServer => client.poll_transmit(max),
            _ => server.poll_transmit(max),
        };
        let bytes = Bytes::from(transmit.expect("busy").to_vec());
        match self.kind {
            StreamKind::ToServer => server.handle_input(Time::ZERO, bytes.clone()),
            _ => client.handle_input(Time::ZERO, bytes.clone()),
        }
        self.pair.client_events.clear();
        self.pair.server_events.clear();
        self.pair.collect();
        frames(bytes)
    }
}

fn kind(to_server: bool) -> StreamKind {
    if to_server {
        StreamKind::ToServer
    } else {
        StreamKind::ToClient
    }
}

proptest! {
    #![proptest_config(config(8))]

    /// However long their messages and however large the writes.
    #[test]
    fn busy_streams_share_by_their_weights(
        to_server: bool,
        streams in proptest::collection::vec(busy(), 2..=32),
        max in prop_oneof![Just(MAX_WRITE), 17_000..MAX_WRITE],
    ) {
        let mut sending = Sending::new(kind(to_server), limits(), streams.iter().map(|(weight, _)| *weight));
        let all: usize = streams.iter().map(|(weight, _)| usize::from(*weight)).sum();
        let mut queued = vec![0u64; streams.len()];
        let mut sent = vec![0usize; streams.len()];
        while sent.iter().sum::<usize>() < ROUNDS * TURN * all {
            for (at, (_, sizes)) in streams.iter().enumerate() {
                let id = sending.ids[at];
                let size = |seq: u64| sizes[seq as usize % sizes.len()];
                while sending.send(id, queued[at], size(queued[at])) {
                    queued[at] += 1;
                }
            }
            for frame in sending.write(max) {
                if let Some((id, cost)) = cost(&frame) {
                    let at = sending.ids.iter().position(|known| known.get() == id).unwrap();
                    sent[at] += cost;
                }
            }
        }
        sending.pair.assert_open();
        let total: usize = sent.iter().sum();
        for (at, (weight, sizes)) in streams.iter().enumerate() {
            let share = total * usize::from(*weight) / all;
            prop_assert!(
                sent[at].abs_diff(share) * 10 <= share,
                "a stream of weight {} with messages of {:?} sent {} of {}", weight, sizes, sent[at], share
            );
        }
    }

    /// What is short goes first, whatever waits: an answer of one chunk, a pong, credit, a reset.
    #[test]
    fn control_is_in_front_of_the_next_write(
        streams in proptest::collection::vec(busy(), 1..8),
        len in 0usize..=MAX_CHUNK,
        long in 17_000usize..200_000,
        max in prop_oneof![Just(0usize), Just(MAX_WRITE), 17_000..MAX_WRITE],
        writes in 0usize..4,
    ) {
        let server = Limits::with(|limits| {
            *limits = self::limits();
            limits.stream_window = 1_000;
        });
        let mut sending = Sending::new(StreamKind::ToClient, server, streams.iter().map(|(weight, _)| *weight));
        let publishing = sending.pair.stream(StreamKind::ToServer);
        let ask = |sending: &mut Sending| {
            let id = sending.pair.client.request(1, Bytes::new(), RequestOptions::default()).unwrap();
            sending.pair.run();
            id
        };
        let answers = [(); 2].map(|()| ask(&mut sending));
        for (at, (_, sizes)) in streams.iter().enumerate() {
            let id = sending.ids[at];
            (0..400u64).take_while(|seq| sending.send(id, *seq, sizes[*seq as usize % sizes.len()])).count();
        }
        sending.pair.server.respond(answers[0], Ok(vec![1; long]));
        let waits = sending.pair.server.held();
        for _ in 0..writes {
            if sending.pair.server.wants_write() {
                sending.write(max);
            }
        }
        // Each in turn, in the middle of whatever is being sent.
        sending.pair.server.respond(answers[1], Ok(vec![2; len]));
        let first = sending.write(max).swap_remove(0);
        let is_the_answer = matches!(&first, Frame::Response { id, chunk, .. } if *id == answers[1].get() && chunk.len() == len);
        prop_assert!(is_the_answer, "{:?} of {} bytes waiting", first, waits);

        let ping = Frame::Ping([7; 8]);
        sending.pair.server.handle_input(Time::ZERO, ping.to_bytes());
        prop_assert_eq!(sending.write(max).swap_remove(0), Frame::Pong([7; 8]));

        // A published message that is read: its acknowledgement, and credit.
        let id = publishing.get();
        let data = Frame::Data { id, seq: 0, total: 600, chunk: vec![0; 600].into() };
        sending.pair.client.send(publishing, 0, vec![0; 600]).unwrap();
        sending.pair.client_events.clear();
        sending.pair.server.handle_input(Time::ZERO, data.to_bytes());
        sending.pair.server.acknowledge(publishing, 0, false);
        sending.pair.server.consume(publishing, 632);
        let next = sending.write(max);
        prop_assert_eq!(&next[0], &Frame::Ack { id, seq: 0, may_be_dropped: false });
        prop_assert_eq!(&next[1], &Frame::Credit { id, limit: 1_632 });

        let error = RemoteError::new(ErrorCode::Cancelled, "enough");
        sending.pair.server.reset(publishing, error.clone());
        prop_assert_eq!(&sending.write(max)[0], &Frame::Reset { id, error });
        sending.pair.server.drain();
        prop_assert_eq!(&sending.write(max)[0], &Frame::Drain);
    }
}
