//! What the tests share: two machines joined by byte pipes, and how properties are run.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout
)] // Helpers of tests.

pub(crate) mod watch;
pub(crate) mod world;

use std::hash::{BuildHasher, Hasher};

use bytes::Bytes;
use proptest::test_runner::{Config, RngSeed};
use selium_remote_client_protocol::{
    Limits, RequestId, Time,
    client::{ClientConfig, ClientConnection, ClientEvent, RequestOptions, StreamKind},
    hello::{ClientHello, ServerHello},
    limits::MAX_WRITE,
    server::{ServerConnection, ServerEvent},
};

/// So many cases of a property; the environment variable `PROPTEST_CASES` scales all of them (256 changes nothing). The
/// seed is printed, and `PROPTEST_RNG_SEED` repeats it. Nothing is written to disk.
pub(crate) fn config(cases: u32) -> Config {
    let defaults = Config::default();
    let seed = match defaults.rng_seed {
        RngSeed::Fixed(seed) => seed,
        _ => fresh_seed(),
    };
    println!("PROPTEST_RNG_SEED={seed}");
    Config {
        cases: cases.saturating_mul(defaults.cases) / 256,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(seed),
        max_shrink_iters: 2_000,
        ..defaults
    }
}

#[allow(clippy::disallowed_types)] // The one place for randomness: a seed that is printed.
fn fresh_seed() -> u64 {
    std::hash::RandomState::new().build_hasher().finish()
}

pub(crate) struct Pair {
    pub(crate) client: ClientConnection,
    pub(crate) server: ServerConnection,
    pub(crate) client_events: Vec<ClientEvent>,
    pub(crate) server_events: Vec<ServerEvent>,
}

impl Pair {
    /// Before anything was said.
    pub(crate) fn with(client_limits: Limits, server_limits: Limits) -> Self {
        let hello = ClientHello::new([1; 16], [2; 16], &client_limits);
        Self {
            client: ClientConnection::new(ClientConfig::new(hello, client_limits)),
            server: ServerConnection::new(server_limits),
            client_events: Vec::new(),
            server_events: Vec::new(),
        }
    }

    pub(crate) fn open(client_limits: Limits, server_limits: Limits) -> Self {
        let mut pair = Self::with(client_limits, server_limits);
        pair.run();
        assert!(matches!(pair.server_events[..], [ServerEvent::Hello(_)]));
        let hello = ServerHello::new([9; 16], &server_limits);
        pair.server.accept(&hello);
        pair.run();
        assert!(matches!(
            pair.client_events[..],
            [ClientEvent::Connected(_)]
        ));
        pair.client_events.clear();
        pair.server_events.clear();
        pair
    }

    /// Carries everything until nothing moves any more.
    pub(crate) fn run(&mut self) {
        while self.step_up() | self.step_down() {}
    }

    pub(crate) fn step_up(&mut self) -> bool {
        let transmit = self.client.poll_transmit(MAX_WRITE);
        if let Some(transmit) = &transmit {
            self.server
                .handle_input(Time::ZERO, transmit.to_vec().into());
        }
        self.collect();
        transmit.is_some()
    }

    pub(crate) fn step_down(&mut self) -> bool {
        let transmit = self.server.poll_transmit(MAX_WRITE);
        if let Some(transmit) = &transmit {
            self.client
                .handle_input(Time::ZERO, transmit.to_vec().into());
        }
        self.collect();
        transmit.is_some()
    }

    pub(crate) fn collect(&mut self) {
        self.client_events
            .extend(std::iter::from_fn(|| self.client.poll_event()));
        self.server_events
            .extend(std::iter::from_fn(|| self.server.poll_event()));
    }

    pub(crate) fn request(&mut self, stream: StreamKind) -> RequestId {
        let options = RequestOptions::new(stream);
        self.client.request(1, Bytes::new(), options).unwrap()
    }

    /// A stream that is open on both sides.
    pub(crate) fn stream(&mut self, kind: StreamKind) -> RequestId {
        let id = self.request(kind);
        self.run();
        self.server
            .respond_stream(id, b"ok".to_vec(), kind)
            .unwrap();
        self.run();
        self.client_events.clear();
        self.server_events.clear();
        id
    }

    /// Reads every message of these streams that came, until nothing moves; answers the messages' ids and lengths.
    pub(crate) fn read_all(&mut self, ids: &[RequestId]) -> Vec<(RequestId, usize)> {
        let mut read = Vec::new();
        loop {
            self.run();
            let events = std::mem::take(&mut self.client_events);
            let mut moved = false;
            for event in events {
                match event {
                    ClientEvent::Message {
                        id, payload, cost, ..
                    } if ids.contains(&id) => {
                        moved = true;
                        read.push((id, payload.len()));
                        self.client.consume(id, cost);
                    }
                    other => self.client_events.push(other),
                }
            }
            if !moved {
                return read;
            }
        }
    }

    pub(crate) fn assert_open(&self) {
        assert!(!self.client.is_closed(), "{:?}", self.client_events);
        assert!(!self.server.is_closed(), "{:?}", self.server_events);
    }
}
