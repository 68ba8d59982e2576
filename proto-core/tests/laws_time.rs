//! Windows follow the path, and nothing else: both machines in virtual time, over a pipe with a rate and a delay.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod common;

use core::time::Duration;
use std::collections::VecDeque;

use bytes::Bytes;
use common::{config, watch::Side, world::World};
use proptest::prelude::*;
use selium_remote_client_protocol::{
    Limits, RequestId, Time,
    client::{ClientEvent, StreamKind},
    limits::{MAX_WRITE, MESSAGE_OVERHEAD, MIN_CONNECTION_WINDOW},
    server::ServerEvent,
};

/// What one packet of the path carries.
const PACKET: usize = 1_200;

/// Bytes of a message; it fits a frame, so that no credit is given for messages in reassembly.
const MESSAGE: usize = 4_000;

/// A path from one side to the other: bytes wait until they are carried, and then for the delay.
struct Lane {
    rate: u64,
    delay: Duration,
    free: Time,
    packets: VecDeque<(Time, usize)>,
}

impl Lane {
    fn new(rate: u64, delay: Duration) -> Self {
        Self {
            rate,
            delay,
            free: Time::ZERO,
            packets: VecDeque::new(),
        }
    }

    fn carry(&mut self, now: Time, mut len: usize) {
        while len > 0 {
            let packet = len.min(PACKET);
            len -= packet;
            let takes = Duration::from_nanos(packet as u64 * 1_000_000_000 / self.rate);
            self.free = self.free.max(now).saturating_add(takes);
            let arrives = self.free.saturating_add(self.delay);
            self.packets.push_back((arrives, packet));
        }
    }
}

/// A side that sends as fast as it may on some streams, over a path; the other side reads at once.
struct Path {
    world: World,
    from: Side,
    data: Lane,
    back: Lane,
    streams: usize,
    ids: Vec<RequestId>,
    seq: u64,
    /// Windows of the connection, as its credit shows them.
    windows: Vec<u64>,
    received: u64,
    round_trips: Vec<Duration>,
    /// Whether the machines are told the time.
    has_time: bool,
    now: Time,
}

impl Path {
    fn new(from: Side, rate: u64, base: Duration, streams: usize, clock: bool) -> Self {
        let limits = Limits::with(|limits| {
            limits.connection_queue = 8 << 20;
            limits.stream_queue = 2 << 20;
        });
        let world = World::open(limits, limits, clock);
        let half = base / 2;
        Self {
            world,
            from,
            data: Lane::new(rate, half),
            back: Lane::new(1 << 40, half),
            streams,
            ids: Vec::new(),
            seq: 0,
            windows: Vec::new(),
            received: 0,
            round_trips: Vec::new(),
            has_time: true,
            now: Time::from_millis(1),
        }
    }

    fn send(&mut self, at: usize) -> bool {
        let (id, seq) = (self.ids[at], self.seq);
        let message = Bytes::from_static(&[0; MESSAGE]);
        let sent = match self.from {
            Side::Client => self.world.client.send(id, seq, message),
            Side::Server => self.world.server.send(id, seq, message),
        };
        self.seq += 1;
        sent.is_ok()
    }

    fn fill(&mut self) {
        for at in 0..self.ids.len() {
            while self.send(at) {}
        }
    }

    fn write(&mut self) {
        for side in [self.from, self.from.other()] {
            let before = self.pipe(side);
            while self.world.write(side, MAX_WRITE) {}
            let written = self.pipe(side) - before;
            let lane = match side == self.from {
                true => &mut self.data,
                false => &mut self.back,
            };
            lane.carry(self.now, written);
        }
    }

    fn pipe(&self, side: Side) -> usize {
        match side {
            Side::Client => self.world.up.len(),
            Side::Server => self.world.down.len(),
        }
    }

    fn read(&mut self) {
        while let Some(event) = self.world.client.poll_event() {
            match event {
                ClientEvent::Message { id, cost, .. } => {
                    self.received += cost as u64;
                    self.world.consume(Side::Client, id, cost);
                }
                ClientEvent::Pong { round_trip } => self.round_trips.push(round_trip),
                ClientEvent::Room { .. } => {}
                other => panic!("{other:?}"),
            }
        }
        while let Some(event) = self.world.server.poll_event() {
            if let ServerEvent::Message { id, cost, .. } = event {
                self.received += cost as u64;
                self.world.consume(Side::Server, id, cost);
            }
        }
    }

    /// The next packet arrives; `false` when nothing is on its way.
    fn step(&mut self) -> bool {
        let first = |lane: &Lane| lane.packets.front().map(|(at, _)| *at);
        let (data, back) = (first(&self.data), first(&self.back));
        let from_data = match (data, back) {
            (None, None) => return false,
            (Some(data), Some(back)) => data <= back,
            (data, _) => data.is_some(),
        };
        let (lane, side) = match from_data {
            true => (&mut self.data, self.from),
            false => (&mut self.back, self.from.other()),
        };
        let (at, len) = lane.packets.pop_front().unwrap();
        self.now = self.now.max(at);
        if self.has_time {
            self.world.now = self.now;
        }
        let before = self.world.watch.credit(self.from.other());
        self.world.arrive(side, len);
        self.read();
        self.write();
        let after = self.world.watch.credit(self.from.other());
        if after > before {
            self.windows
                .push(after - self.world.watch.received(self.from.other()));
        }
        self.world.assert_open();
        true
    }

    /// Pings before anything else, which see the path's own round trip; then the streams, for which no time passes.
    fn measure(&mut self) {
        self.world.client.ping(self.world.now);
        self.write();
        while self.step() {}
        let kind = match self.from {
            Side::Client => StreamKind::ToServer,
            Side::Server => StreamKind::ToClient,
        };
        self.ids = (0..self.streams).map(|_| self.world.stream(kind)).collect();
    }

    fn run(&mut self, long: Duration) {
        let until = self.now.saturating_add(long);
        while self.now < until {
            self.fill();
            self.write();
            assert!(self.step(), "it stands still");
        }
    }

    /// Whether the window was always this one, less a message that had come and was not read when credit was given.
    fn keeps(&self, window: u64) -> bool {
        let least = window - (MESSAGE + MESSAGE_OVERHEAD) as u64;
        let mut windows = self.windows.iter();
        windows.all(|given| (least..=window).contains(given))
    }

    fn last_window(&self) -> u64 {
        *self.windows.last().expect("credit was given")
    }
}

/// What the path needs, within the limits (PROTOCOL.md, "Credit").
fn goal(rate: u64, base: Duration, most: usize) -> u64 {
    let slack = base.clamp(Duration::from_millis(10), Duration::from_millis(50));
    let needs = rate as u128 * (base + slack).as_nanos() / 1_000_000_000;
    (needs as u64).clamp(MIN_CONNECTION_WINDOW as u64, most as u64)
}

/// Long enough for some first windows, and some round trips.
fn settling(rate: u64, base: Duration) -> Duration {
    let windows = Limits::default().connection_window as u64 * 8;
    base * 30 + Duration::from_micros(windows * 1_000_000 / rate)
}

fn rate() -> impl Strategy<Value = u64> {
    prop_oneof![300_000u64..1_250_000, 1_250_000u64..6_000_000]
}

fn base() -> impl Strategy<Value = Duration> {
    (2u64..80).prop_map(Duration::from_millis)
}

proptest! {
    #![proptest_config(config(8))]

    /// It comes near to what the path needs from either side, keeps the path busy and its round trip short.
    #[test]
    fn the_clients_window_becomes_what_the_path_needs(rate in rate(), base in base()) {
        let mut path = Path::new(Side::Server, rate, base, 4, false);
        path.measure();
        path.run(settling(rate, base));
        let goal = goal(rate, base, 4 << 20);
        let window = path.last_window();
        prop_assert!(
            window * 10 >= goal * 6 && window * 10 <= goal * 16,
            "{} at {} B/s over {:?}: {:?}", goal, rate, base, path.windows
        );
        let (from, received) = (path.now, path.received);
        path.world.client.ping(path.now);
        path.run(base * 10 + Duration::from_millis(300));
        let passed = path.now.saturating_since(from);
        let carried = u128::from(path.received - received) * 1_000_000_000 / passed.as_nanos();
        prop_assert!(carried * 10 >= u128::from(rate) * 6, "{} of {} B/s", carried, rate);
        let bound = base + Duration::from_nanos(window * 1_000_000_000 / rate) + Duration::from_millis(5);
        let last = path.round_trips.last().unwrap();
        prop_assert!(*last <= bound, "{:?} is more than {:?}", last, bound);
        for pair in path.windows.windows(2) {
            prop_assert!(pair[1] <= pair[0] * 2 + MESSAGE as u64, "{:?}", path.windows);
        }
    }

    /// A server measures as well, when it has a clock.
    #[test]
    fn a_servers_window_follows_with_a_clock(rate in rate(), base in base()) {
        let mut path = Path::new(Side::Client, rate, base, 4, true);
        path.measure();
        path.run(settling(rate, base));
        let first = Limits::default().connection_window as u64;
        let slow = goal(rate, base, 4 << 20) * 2 < first;
        let shrank = path.windows.iter().any(|window| *window < first * 3 / 4);
        prop_assert!(!slow || shrank, "{:?}", path.windows);
    }

    #[test]
    fn a_server_without_a_clock_keeps_its_window(rate in rate(), base in base()) {
        let mut path = Path::new(Side::Client, rate, base, 4, false);
        path.measure();
        path.run(settling(rate, base));
        let first = Limits::default().connection_window as u64;
        prop_assert!(path.keeps(first), "{:?}", path.windows);
    }

    /// Machines that are told no time keep the windows of their hellos.
    #[test]
    fn without_time_nothing_changes(rate in rate(), base in base(), to_client: bool) {
        let from = if to_client { Side::Server } else { Side::Client };
        let mut path = Path::new(from, rate, base, 4, true);
        path.has_time = false;
        path.measure();
        path.run(base * 10 + Duration::from_millis(300));
        let first = Limits::default().connection_window as u64;
        prop_assert!(!path.windows.is_empty());
        prop_assert!(path.keeps(first), "{:?}", path.windows);
    }

    /// A sender that does not use its window up gets no larger one.
    #[test]
    fn a_sender_that_needs_no_more_gets_no_more(base in base(), messages in 1usize..8) {
        let mut path = Path::new(Side::Server, 1 << 30, base, 4, false);
        path.measure();
        for round in 0..120 {
            for message in 0..messages {
                assert!(path.send((round + message) % 4));
            }
            path.write();
            while path.step() {}
        }
        let first = Limits::default().connection_window as u64;
        prop_assert!(path.keeps(first), "{:?}", path.windows);
    }
}
