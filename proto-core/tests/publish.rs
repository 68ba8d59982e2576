//! A publication over connections that are lost at any moment: each message is handed over once, in order.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use common::{Pair, config};
use proptest::prelude::*;
use selium_remote_client_protocol::{
    Limits, RequestId, SendError,
    client::{ClientEvent, StreamKind},
    publish::{Intake, Publication},
    server::ServerEvent,
};

/// The server's application: takes messages, acknowledges some of them late.
#[derive(Default)]
struct Channel {
    intake: Intake,
    taken: Vec<Vec<u8>>,
}

struct World {
    pair: Pair,
    stream: RequestId,
    publication: Publication,
    channel: Channel,
}

impl World {
    fn new() -> Self {
        let mut pair = Pair::open(Limits::default(), Limits::default());
        let stream = pair.stream(StreamKind::ToServer);
        Self {
            pair,
            stream,
            publication: Publication::new(200_000),
            channel: Channel::default(),
        }
    }

    fn read(&mut self, acknowledge: bool) {
        for event in std::mem::take(&mut self.pair.server_events) {
            if let ServerEvent::Message {
                id,
                seq,
                payload,
                cost,
            } = event
            {
                if self.channel.intake.take(seq) {
                    self.channel.taken.push(payload.to_vec());
                }
                if acknowledge {
                    self.pair.server.acknowledge(id, seq, false);
                }
                self.pair.server.consume(id, cost);
            }
        }
        for event in std::mem::take(&mut self.pair.client_events) {
            if let ClientEvent::Acknowledged { seq, .. } = event {
                self.publication.acknowledged(seq);
            }
        }
    }

    fn reconnect(&mut self) {
        self.pair = Pair::open(Limits::default(), Limits::default());
        self.stream = self.pair.stream(StreamKind::ToServer);
        let last = self.channel.intake.last();
        self.publication.resume(last).unwrap();
    }
}

#[derive(Clone, Debug)]
enum Op {
    Push(usize),
    Pump,
    Up,
    Down,
    Read { acknowledge: bool },
    Lose,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => prop_oneof![1usize..100, 1usize..50_000].prop_map(Op::Push),
        4 => Just(Op::Pump),
        4 => Just(Op::Up),
        4 => Just(Op::Down),
        3 => any::<bool>().prop_map(|acknowledge| Op::Read { acknowledge }),
        1 => Just(Op::Lose),
    ]
}

proptest! {
    #![proptest_config(config(128))]

    #[test]
    fn each_message_is_handed_over_once(ops in proptest::collection::vec(op(), 1..150)) {
        let mut world = World::new();
        let mut pushed: Vec<Vec<u8>> = Vec::new();
        for op in ops {
            match op {
                Op::Push(len) => {
                    let message = vec![pushed.len() as u8; len];
                    match world.publication.push(message.clone()) {
                        Ok(number) => {
                            prop_assert_eq!(number as usize, pushed.len());
                            pushed.push(message);
                        }
                        Err(error) => prop_assert_eq!(error, SendError::Full),
                    }
                }
                Op::Pump => world.publication.pump(&mut world.pair.client, world.stream).unwrap(),
                Op::Up => { world.pair.step_up(); }
                Op::Down => { world.pair.step_down(); }
                Op::Read { acknowledge } => world.read(acknowledge),
                Op::Lose => world.reconnect(),
            }
            world.pair.assert_open();
            prop_assert!(world.channel.taken.len() <= pushed.len());
            prop_assert_eq!(&world.channel.taken[..], &pushed[..world.channel.taken.len()]);
            let acknowledged = pushed.len() - world.publication.unacknowledged().count();
            prop_assert!(acknowledged <= world.channel.taken.len(), "acknowledged, and not taken");
        }
        world.reconnect();
        for _ in 0..1_000 {
            world.publication.pump(&mut world.pair.client, world.stream).unwrap();
            world.pair.run();
            world.read(true);
            if world.publication.is_flushed() {
                break;
            }
        }
        prop_assert!(world.publication.is_flushed());
        prop_assert_eq!(world.channel.taken, pushed);
    }
}
