//! Progress: whatever the sizes, windows, budgets and weights, what is read arrives, and requests are answered.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod common;

use core::time::Duration;

use common::{
    config,
    watch::Side,
    world::{Traffic, World, pattern},
};
use proptest::prelude::*;
use selium_remote_client_protocol::{
    Limits, RequestId, Weight,
    client::{ClientEvent, RequestOptions, StreamKind},
    limits::MAX_WRITE,
    server::ServerEvent,
};

/// What one side of a case is willing to hold.
#[derive(Clone, Copy, Debug)]
struct Room {
    connection: usize,
    stream: usize,
    budget: usize,
}

impl Room {
    fn limits(self) -> Limits {
        Limits::with(|limits| {
            limits.connection_window = self.connection;
            limits.max_connection_window = self.connection;
            limits.stream_window = self.stream;
            limits.reassembly = self.budget;
            limits.max_message = self.budget;
            limits.max_request = self.budget;
        })
    }
}

#[derive(Clone, Debug)]
struct Stream {
    to_server: bool,
    weight: u8,
    sizes: Vec<usize>,
}

/// A moment: what is carried, and whether anybody reads and asks.
#[derive(Clone, Copy, Debug)]
struct Moment {
    writes: [usize; 2],
    arrives: [usize; 2],
    reads: bool,
}

fn window() -> impl Strategy<Value = usize> {
    prop_oneof![33usize..40, 33usize..600, 600usize..20_000, Just(65_536)]
}

fn room() -> impl Strategy<Value = Room> {
    let budget = prop_oneof![1usize..500, 16_000usize..17_000, 20_000usize..90_000];
    (window(), window(), budget).prop_map(|(connection, stream, budget)| Room {
        connection,
        stream,
        budget,
    })
}

fn stream() -> impl Strategy<Value = Stream> {
    let size = prop_oneof![
        4 => 1usize..100,
        2 => 1usize..5_000,
        1 => 16_350usize..16_420,
        1 => 1usize..80_000,
    ];
    (
        any::<bool>(),
        1u8..=16,
        proptest::collection::vec(size, 1..8),
    )
        .prop_map(|(to_server, weight, sizes)| Stream {
            to_server,
            weight,
            sizes,
        })
}

fn moment() -> impl Strategy<Value = Moment> {
    let bytes = || prop_oneof![Just(0usize), 1usize..100, 1..MAX_WRITE];
    ([bytes(), bytes()], [bytes(), bytes()], any::<bool>()).prop_map(|(writes, arrives, reads)| {
        Moment {
            writes,
            arrives,
            reads,
        }
    })
}

/// Requests and their answers, whose lengths the requests ask for.
#[derive(Default)]
struct Asked {
    open: Vec<(RequestId, usize)>,
    answered: usize,
}

impl Asked {
    fn ask(&mut self, world: &mut World, len: usize, answer: usize) {
        let options = RequestOptions::new(StreamKind::None);
        let body = pattern(7, len);
        if let Ok(id) = world.client.request(answer as u64, body, options) {
            self.open.push((id, answer));
        }
    }
}

/// Hands out all events; answers whether there were any.
fn events(world: &mut World, traffic: &mut Traffic, asked: &mut Asked) -> bool {
    let mut moved = false;
    while let Some(event) = world.client.poll_event() {
        match event {
            ClientEvent::Message {
                id,
                seq,
                payload,
                cost,
            } => traffic.take(world, id, seq, &payload.to_vec(), cost),
            ClientEvent::Response { id, result } => {
                let at = asked.open.iter().position(|(known, _)| *known == id);
                let (_, len) = asked.open.remove(at.expect("asked, and not answered"));
                assert!(result.unwrap() == pattern(id.get(), len));
                asked.answered += 1;
            }
            ClientEvent::Room { .. } => {}
            other => panic!("{other:?}"),
        }
        moved = true;
    }
    while let Some(event) = world.server.poll_event() {
        match event {
            ServerEvent::Message {
                id,
                seq,
                payload,
                cost,
            } => traffic.take(world, id, seq, &payload.to_vec(), cost),
            ServerEvent::Request { id, op, .. } => {
                let answer = pattern(id.get(), op as usize);
                world.server.respond(id, Ok(answer));
            }
            ServerEvent::Room { .. } => {}
            other => panic!("{other:?}"),
        }
        moved = true;
    }
    moved
}

/// The same, while time passes in these steps, over and over.
fn settle_slowly(world: &mut World, traffic: &mut Traffic, asked: &mut Asked, steps: &[u64]) {
    let mut steps = steps.iter().cycle();
    let mut idle = 0;
    // Nothing may move while a write is on its way for a step.
    while idle < 4 {
        let mut moved = traffic.queue(world);
        for side in [Side::Client, Side::Server] {
            moved |= world.write(side, MAX_WRITE);
            let passed = Duration::from_millis(*steps.next().expect("a cycle"));
            world.now = world.now.saturating_add(passed);
            moved |= world.arrive(side, usize::MAX);
        }
        moved |= events(world, traffic, asked);
        idle = if moved { 0 } else { idle + 1 };
    }
}

/// Carries and reads everything until nothing moves.
fn settle(world: &mut World, traffic: &mut Traffic, asked: &mut Asked) {
    loop {
        let queued = traffic.queue(world);
        let mut moved = queued;
        for side in [Side::Client, Side::Server] {
            moved |= world.write(side, MAX_WRITE) | world.arrive(side, usize::MAX);
        }
        if !(moved | events(world, traffic, asked)) {
            return;
        }
    }
}

fn set_weight(world: &mut World, id: RequestId, stream: &Stream) {
    let weight = Weight::new(stream.weight).unwrap();
    if stream.to_server {
        world.client.set_weight(id, weight);
    } else {
        world.server.set_weight(id, weight);
    }
}

/// As many messages as go through this window in reasonable time, none longer than the receiver takes.
fn fitting(stream: &Stream, receiver: Room) -> Vec<usize> {
    let narrow = receiver.connection.min(receiver.stream);
    let most = (narrow * 300).min(receiver.budget);
    stream.sizes.iter().map(|size| (*size).min(most)).collect()
}

proptest! {
    #![proptest_config(config(40))]

    /// Streams of both directions at once, with long requests and answers in between, over pipes that hold back.
    #[test]
    fn whatever_the_sizes_and_windows_what_is_read_arrives(
        rooms in [room(), room()],
        streams in proptest::collection::vec(stream(), 1..6),
        moments in proptest::collection::vec(moment(), 0..60),
        requests in proptest::collection::vec((0usize..80_000, 0usize..80_000), 0..4),
    ) {
        let [client, server] = rooms;
        let mut world = World::open(client.limits(), server.limits(), false);
        let mut traffic = Traffic::new();
        for stream in &streams {
            let (kind, receiver) = match stream.to_server {
                true => (StreamKind::ToServer, server),
                false => (StreamKind::ToClient, client),
            };
            let id = traffic.add(&mut world, kind, fitting(stream, receiver), true);
            set_weight(&mut world, id, stream);
        }
        let mut asked = Asked::default();
        let mut requests = requests.into_iter();
        for moment in moments {
            traffic.queue(&mut world);
            if let Some((len, answer)) = requests.next() {
                asked.ask(&mut world, len.min(server.budget), answer.min(client.budget));
            }
            for (side, at) in [(Side::Client, 0), (Side::Server, 1)] {
                if moment.writes[at] > 0 {
                    world.write(side, moment.writes[at]);
                }
                world.arrive(side, moment.arrives[at]);
            }
            if moment.reads {
                events(&mut world, &mut traffic, &mut asked);
            }
            world.assert_open();
        }
        settle(&mut world, &mut traffic, &mut asked);
        world.assert_open();
        prop_assert!(traffic.is_complete(), "stuck");
        prop_assert!(asked.open.is_empty(), "not answered: {:?}", asked.open);
        prop_assert_eq!(world.watch.in_reassembly(Side::Client), 0);
        prop_assert_eq!(world.watch.in_reassembly(Side::Server), 0);
    }

    /// Requests and answers are no stream data, and streams leave them half of the reassembly budget: as long as that is
    /// enough for them they come, whatever nobody reads.
    #[test]
    fn requests_are_answered_though_nobody_reads_any_stream(
        rooms in [room(), room()],
        streams in proptest::collection::vec(stream(), 1..6),
        requests in proptest::collection::vec((0usize..80_000, 0usize..80_000), 1..6),
    ) {
        let [client, server] = rooms;
        let mut world = World::open(client.limits(), server.limits(), false);
        let mut traffic = Traffic::new();
        for stream in &streams {
            let (kind, receiver) = match stream.to_server {
                true => (StreamKind::ToServer, server),
                false => (StreamKind::ToClient, client),
            };
            // A message that is longer than half of the budget may take all of it, alone.
            let half = Room { budget: (receiver.budget / 2).max(1), ..receiver };
            traffic.add(&mut world, kind, fitting(stream, half), false);
        }
        let mut asked = Asked::default();
        settle(&mut world, &mut traffic, &mut asked);
        for (len, answer) in &requests {
            // What needs no reassembly has no need of the budget; the rest gets half of it for sure.
            asked.ask(&mut world, (*len).min(server.budget / 2), (*answer).min(client.budget / 2));
            settle(&mut world, &mut traffic, &mut asked);
        }
        world.assert_open();
        prop_assert!(asked.open.is_empty(), "not answered: {:?}", asked.open);
        prop_assert_eq!(asked.answered, requests.len());
    }

    /// A stream that nobody reads holds its window and at most two messages that had begun. While the connection's window is
    /// larger than what such streams hold, the others go on.
    #[test]
    fn streams_that_nobody_reads_hold_up_no_other(
        windows in [33usize..4_000, 33usize..4_000],
        unread in proptest::collection::vec(stream(), 1..4),
        read in proptest::collection::vec(stream(), 1..4),
        spare in 64usize..4_000,
    ) {
        let longest = 3_000;
        let rooms = windows.map(|stream| Room {
            connection: unread.len() * (stream + 2 * (longest + 32)) + spare,
            stream,
            budget: 50_000,
        });
        let mut world = World::open(rooms[0].limits(), rooms[1].limits(), false);
        let mut traffic = Traffic::new();
        for (stream, is_read) in unread.iter().map(|s| (s, false)).chain(read.iter().map(|s| (s, true))) {
            let (kind, receiver) = match stream.to_server {
                true => (StreamKind::ToServer, rooms[1]),
                false => (StreamKind::ToClient, rooms[0]),
            };
            let mut sizes = fitting(stream, receiver);
            if !is_read {
                sizes = sizes.iter().cycle().take(200).map(|size| size.min(&longest)).copied().collect();
            }
            traffic.add(&mut world, kind, sizes, is_read);
        }
        let mut asked = Asked::default();
        settle(&mut world, &mut traffic, &mut asked);
        world.assert_open();
        let held: Vec<_> = traffic.streams.values().map(|flow| (flow.is_read, flow.got, flow.sizes.len())).collect();
        prop_assert!(traffic.is_complete(), "(read, got, of): {:?}", held);
    }

    /// The same while windows grow and shrink with the path: what unread streams have got in a large window is not taken
    /// from the others in a small one.
    #[test]
    fn a_stream_that_is_not_read_holds_up_no_other_on_its_connection(
        stream in 8_000usize..40_000,
        growth in 1usize..6,
        unread in proptest::collection::vec(self::stream(), 1..4),
        read in proptest::collection::vec(self::stream(), 1..4),
        spare in 64usize..4_000,
        steps in proptest::collection::vec(prop_oneof![Just(0u64), 1u64..6, 80u64..400, Just(11_000)], 1..24),
    ) {
        let longest = 3_000;
        let connection = unread.len() * (stream + 2 * (longest + 32)) + spare;
        let limits = Limits::with(|limits| {
            limits.connection_window = connection;
            limits.max_connection_window = connection * growth;
            limits.stream_window = stream;
            limits.reassembly = 50_000;
            limits.max_message = 50_000;
        });
        let mut world = World::open(limits, limits, true);
        let mut traffic = Traffic::new();
        for (flow, is_read) in unread.iter().map(|s| (s, false)).chain(read.iter().map(|s| (s, true))) {
            let kind = if flow.to_server { StreamKind::ToServer } else { StreamKind::ToClient };
            let most = if is_read { 20_000 } else { longest };
            let sizes = flow.sizes.iter().cycle().take(400).map(|size| (*size).min(most));
            let mut enough = connection * (growth + 4);
            let sizes = sizes.take_while(|size| {
                let more = enough > 0;
                enough = enough.saturating_sub(*size);
                more
            });
            traffic.add(&mut world, kind, sizes.collect(), is_read);
        }
        let mut asked = Asked::default();
        settle_slowly(&mut world, &mut traffic, &mut asked, &steps);
        world.assert_open();
        let held: Vec<_> = traffic.streams.values().map(|flow| (flow.is_read, flow.got, flow.sizes.len())).collect();
        prop_assert!(traffic.is_complete(), "(read, got, of): {:?}", held);
    }

    /// What the server keeps of a stream, and has released, is bounded by that stream's window: however many such streams
    /// there are, and however small the connection's window is, they hold up no other. Read later, they go on.
    #[test]
    fn a_stream_that_waits_holds_up_no_other_once_released(
        window in 100usize..4_000,
        stream in 33usize..4_000,
        waiting in proptest::collection::vec(self::stream(), 1..8),
        read in proptest::collection::vec(self::stream(), 1..4),
    ) {
        let room = Room { connection: window, stream, budget: 50_000 };
        let mut world = World::open(room.limits(), room.limits(), false);
        let mut traffic = Traffic::new();
        traffic.keeps = Some(Vec::new());
        let long = |sizes: Vec<usize>| sizes.iter().cycle().take(60).map(|size| (*size).min(3_000)).collect::<Vec<_>>();
        for flow in &waiting {
            traffic.add(&mut world, StreamKind::ToServer, long(fitting(flow, room)), false);
        }
        for flow in &read {
            let kind = if flow.to_server { StreamKind::ToServer } else { StreamKind::ToClient };
            traffic.add(&mut world, kind, fitting(flow, room), true);
        }
        let mut asked = Asked::default();
        settle(&mut world, &mut traffic, &mut asked);
        world.assert_open();
        prop_assert!(traffic.is_complete(), "stuck");
        let kept = traffic.keeps.take().unwrap_or_default();
        let mut by_stream = std::collections::BTreeMap::<RequestId, usize>::new();
        for (id, cost) in &kept {
            *by_stream.entry(*id).or_default() += cost;
        }
        for held in by_stream.values() {
            prop_assert!(*held <= stream + 2 * (3_000 + 32), "a stream holds {} of {}", held, stream);
        }
        for (id, cost) in kept {
            world.consume(Side::Server, id, cost);
        }
        for flow in traffic.streams.values_mut() {
            flow.is_read = true;
        }
        settle(&mut world, &mut traffic, &mut asked);
        prop_assert!(traffic.is_complete(), "stuck afterwards");
    }
}
