//! Requests begin in the order of their ids, whatever their lengths.
#![allow(clippy::unwrap_used, clippy::panic)]

use selium_remote_client_protocol::{
    Limits, RequestId, Time,
    client::{ClientConfig, ClientConnection, ClientEvent, RequestOptions},
    hello::{ClientHello, ServerHello},
    limits::MAX_WRITE,
    server::{ServerConnection, ServerEvent},
};

struct Pair {
    client: ClientConnection,
    server: ServerConnection,
    requests: Vec<(u64, usize)>,
    cancelled: Vec<u64>,
}

impl Pair {
    fn open() -> Self {
        let limits = Limits::default();
        let hello = ClientHello::new([1; 16], [2; 16], &limits);
        let mut pair = Self {
            client: ClientConnection::new(ClientConfig::new(hello, limits)),
            server: ServerConnection::new(limits),
            requests: Vec::new(),
            cancelled: Vec::new(),
        };
        pair.exchange();
        assert!(matches!(
            pair.client.poll_event(),
            Some(ClientEvent::Connected(_))
        ));
        pair
    }

    fn carry(&mut self, max: usize) -> bool {
        let Some(transmit) = self.client.poll_transmit(max) else {
            return false;
        };
        self.server
            .handle_input(Time::ZERO, transmit.to_vec().into());
        while let Some(event) = self.server.poll_event() {
            match event {
                ServerEvent::Hello(_) => {
                    self.server
                        .accept(&ServerHello::new([3; 16], &Limits::default()));
                }
                ServerEvent::Request { id, body, .. } => self.requests.push((id.get(), body.len())),
                ServerEvent::Cancelled { id, .. } => self.cancelled.push(id.get()),
                other => panic!("{other:?}"),
            }
        }
        true
    }

    fn exchange(&mut self) {
        loop {
            let mut quiet = !self.carry(MAX_WRITE);
            while let Some(transmit) = self.server.poll_transmit(MAX_WRITE) {
                quiet = false;
                self.client
                    .handle_input(Time::ZERO, transmit.to_vec().into());
            }
            if quiet {
                break;
            }
        }
        assert!(!self.client.is_closed() && !self.server.is_closed());
    }

    fn request(&mut self, length: usize) -> RequestId {
        self.client
            .request(9, vec![0; length], RequestOptions::default())
            .unwrap()
    }
}

#[test]
fn a_short_request_does_not_overtake_the_beginning_of_a_long_one() {
    let mut pair = Pair::open();
    let lengths = [10, 200_000, 20, 100_000, 30, 0, 300_000, 40];
    for length in lengths {
        pair.request(length);
    }
    pair.exchange();
    let mut arrived = pair.requests.clone();
    arrived.sort_unstable();
    let expected: Vec<(u64, usize)> = (1..).zip(lengths).collect();
    assert_eq!(arrived, expected);
    assert_eq!(
        pair.requests[1],
        (3, 20),
        "a short one still completes before the long one"
    );
}

#[test]
fn requests_that_wait_for_the_reassembly_budget_stay_in_order() {
    let mut pair = Pair::open();
    // Seven times 300,000 bytes exceed the budget of 2 MiB; the control queue holds three at a time.
    for _ in 0..4 {
        for _ in 0..3 {
            pair.request(300_000);
            pair.request(17_000);
        }
        for _ in 0..3 {
            pair.carry(MAX_WRITE);
        }
        pair.exchange();
    }
    assert_eq!(pair.requests.len(), 24);
}

#[test]
fn what_was_not_begun_is_taken_back_without_a_word() {
    let mut pair = Pair::open();
    let first = pair.request(200_000);
    let second = pair.request(200_000);
    let third = pair.request(10);
    let fourth = pair.request(10);
    pair.client.abandon(second);
    pair.client.cancel(third);
    assert!(matches!(
        pair.client.poll_event(),
        Some(ClientEvent::Response { id, result: Err(_) }) if id == third
    ));
    pair.exchange();
    let mut arrived: Vec<u64> = pair.requests.iter().map(|(id, _)| *id).collect();
    arrived.sort_unstable();
    assert_eq!(arrived, [first.get(), fourth.get()]);
    assert!(pair.cancelled.is_empty());
}

#[test]
fn what_was_begun_is_cancelled() {
    let mut pair = Pair::open();
    let long = pair.request(200_000);
    let short = pair.request(10);
    assert!(pair.carry(MAX_WRITE));
    pair.client.abandon(long);
    pair.exchange();
    assert_eq!(pair.requests, [(short.get(), 10)]);
    pair.request(200_000);
    pair.exchange();
    assert_eq!(pair.requests.len(), 2);
}
