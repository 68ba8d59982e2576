//! How long small requests take beside streams that fill the line, and how much of the line the streams get.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout
)] // Helpers of tests may panic and print as tests do.

mod quic_driver;

use core::time::Duration;
use std::collections::BTreeMap;

use bytes::Bytes;
use quic_driver::{App, Rig, millis};
use selium_remote_client_protocol::{
    RequestId, Time,
    client::{ClientEvent, RequestOptions, StreamKind},
    server::ServerEvent,
};
use selium_remote_sim::{
    quic::{Profile, Settings},
    transport::Side,
};

const ASK: u64 = 1;
const FOLLOW: u64 = 20;
const PUBLISH: u64 = 33;

const MESSAGE: usize = 1_024;
const EVERY: Duration = Duration::from_millis(50);

/// Streams that are never empty, and small requests beside them.
struct Firehoses {
    kind: StreamKind,
    streams: usize,
    opened: Vec<RequestId>,
    seqs: BTreeMap<RequestId, u64>,
    payload: Bytes,
    next: Option<Time>,
    asked: BTreeMap<RequestId, Time>,
    /// Sent and answered.
    answers: Vec<(Time, Duration)>,
    /// When which bytes were read.
    read: Vec<(Time, usize)>,
}

impl Firehoses {
    fn new(kind: StreamKind, streams: usize) -> Self {
        Self {
            kind,
            streams,
            opened: Vec::new(),
            seqs: BTreeMap::new(),
            payload: vec![7; MESSAGE].into(),
            next: None,
            asked: BTreeMap::new(),
            answers: Vec::new(),
            read: Vec::new(),
        }
    }

    fn client(&mut self, rig: &mut Rig, event: ClientEvent) {
        match event {
            ClientEvent::Connected(_) => {
                let op = match self.kind {
                    StreamKind::ToServer => PUBLISH,
                    _ => FOLLOW,
                };
                for _ in 0..self.streams {
                    let options = RequestOptions::new(self.kind);
                    rig.client.request(op, Bytes::new(), options).unwrap();
                }
                self.next = Some(rig.now);
            }
            ClientEvent::Response { id, result } => {
                result.unwrap();
                match self.asked.remove(&id) {
                    Some(at) => self.answers.push((at, rig.now.saturating_since(at))),
                    None if self.kind == StreamKind::ToServer => self.opened.push(id),
                    None => {}
                }
            }
            ClientEvent::Message {
                id, payload, cost, ..
            } => {
                self.read.push((rig.now, payload.len()));
                rig.client.consume(id, cost);
            }
            ClientEvent::Closed(reason) => panic!("{reason}, {}", rig.state()),
            _ => {}
        }
    }

    fn server(&mut self, rig: &mut Rig, event: ServerEvent) {
        match event {
            ServerEvent::Request { id, op: ASK, .. } => {
                rig.server.respond(id, Ok(vec![1; 64]));
            }
            ServerEvent::Request { id, .. } => {
                rig.server
                    .respond_stream(id, b"ok".to_vec(), self.kind)
                    .unwrap();
                if self.kind == StreamKind::ToClient {
                    self.opened.push(id);
                }
            }
            ServerEvent::Message {
                id, payload, cost, ..
            } => {
                self.read.push((rig.now, payload.len()));
                rig.server.consume(id, cost);
            }
            _ => {}
        }
    }
}

impl App for Firehoses {
    fn act(&mut self, rig: &mut Rig) -> bool {
        let mut moved = false;
        while let Some(event) = rig.client_events.pop_front() {
            moved = true;
            self.client(rig, event);
        }
        while let Some(event) = rig.server_events.pop_front() {
            moved = true;
            self.server(rig, event);
        }
        if let Some(next) = self.next.filter(|next| *next <= rig.now) {
            let body = Bytes::from_static(&[2; 64]);
            let id = rig.client.request(ASK, body, RequestOptions::default());
            self.asked.insert(id.unwrap(), rig.now);
            self.next = Some(next.saturating_add(EVERY));
            moved = true;
        }
        for id in &self.opened {
            let seq = self.seqs.entry(*id).or_default();
            loop {
                let payload = self.payload.clone();
                let sent = match self.kind {
                    StreamKind::ToServer => rig.client.send(*id, *seq, payload),
                    _ => rig.server.send(*id, *seq, payload),
                };
                if sent.is_err() {
                    break;
                }
                *seq += 1;
                moved = true;
            }
        }
        moved
    }

    fn next(&self) -> Option<Time> {
        self.next
    }
}

/// What was measured behind the settling time.
#[derive(Debug)]
struct Measured {
    /// Of the answers' times, in milliseconds.
    p99: f64,
    /// The streams' bytes as a part of the line.
    goodput: f64,
}

struct Run {
    name: &'static str,
    bits_per_second: u64,
    rtt: Duration,
    queue: usize,
    kind: StreamKind,
    streams: usize,
    settle: Duration,
    span: Duration,
}

impl Run {
    fn measure(&self) -> Measured {
        let profile = Profile::line(self.bits_per_second, self.rtt, self.queue);
        let mut rig = Rig::new(1, profile, &Settings::default());
        let mut app = Firehoses::new(self.kind, self.streams);
        rig.run(&mut app, Time::from_origin(self.settle + self.span));
        let settled = Time::from_origin(self.settle);
        let mut times: Vec<f64> = app
            .answers
            .iter()
            .filter(|(at, _)| *at >= settled)
            .map(|(_, took)| millis(*took))
            .collect();
        times.sort_by(f64::total_cmp);
        let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize];
        let bytes: usize = app
            .read
            .iter()
            .filter(|(at, _)| *at >= settled)
            .map(|(_, len)| len)
            .sum();
        let bits = bytes as f64 * 8.0 / self.span.as_secs_f64();
        // An answer that did not come is as bad as a late one.
        let expected = (self.span.as_secs_f64() / EVERY.as_secs_f64()) as usize;
        assert!(times.len() + 20 > expected, "{} answers", times.len());
        let measured = Measured {
            p99: at(0.99),
            goodput: bits / self.bits_per_second as f64,
        };
        println!(
            "{}: answers p50 {:.1} p99 {:.1} max {:.1} ms, goodput {:.1} percent, dropped by the queue {} up {} down",
            self.name,
            at(0.5),
            measured.p99,
            at(1.0),
            100.0 * measured.goodput,
            rig.link.path().counts(Side::Client).overflowed,
            rig.link.path().counts(Side::Server).overflowed,
        );
        measured
    }
}

/// 10 Mbit/s, 20 ms, and a router that holds 50 ms of it.
const LINE: Run = Run {
    name: "10 Mbit/s, 20 ms, 1 stream down",
    bits_per_second: 10_000_000,
    rtt: Duration::from_millis(20),
    queue: 64 * 1024,
    kind: StreamKind::ToClient,
    streams: 1,
    settle: Duration::from_secs(2),
    span: Duration::from_secs(58),
};

/// Long enough for the variants.
const SHORT: Duration = Duration::from_secs(18);

/// 100 Mbit/s, 50 ms, and a router that holds as much as the line.
const FAT: Run = Run {
    name: "100 Mbit/s, 50 ms, 1 stream down, after 5 s",
    bits_per_second: 100_000_000,
    rtt: Duration::from_millis(50),
    queue: 640 * 1024,
    kind: StreamKind::ToClient,
    streams: 1,
    settle: Duration::from_secs(5),
    span: Duration::from_secs(3),
};

fn holds(run: &Run) {
    let measured = run.measure();
    assert!(measured.p99 < 150.0, "{}: {measured:?}", run.name);
    assert!(measured.goodput >= 0.8, "{}: {measured:?}", run.name);
}

#[test]
fn answers_come_in_time_beside_a_firehose() {
    holds(&LINE);
}

#[test]
fn answers_come_in_time_beside_8_firehoses() {
    holds(&Run {
        name: "10 Mbit/s, 20 ms, 8 streams down",
        streams: 8,
        span: SHORT,
        ..LINE
    });
}

#[test]
fn answers_come_in_time_beside_an_upload() {
    holds(&Run {
        name: "10 Mbit/s, 20 ms, 1 stream up",
        kind: StreamKind::ToServer,
        span: SHORT,
        ..LINE
    });
}

#[test]
fn answers_come_in_time_beside_a_firehose_before_a_deep_queue() {
    holds(&Run {
        name: "10 Mbit/s, 20 ms, a queue of 1 MiB, 1 stream down",
        queue: 1024 * 1024,
        span: SHORT,
        ..LINE
    });
}

#[test]
fn a_long_fat_path_fills() {
    let measured = FAT.measure();
    assert!(measured.goodput >= 0.6, "{measured:?}");
}

#[test]
fn a_long_fat_path_fills_with_16_streams() {
    let measured = Run {
        name: "100 Mbit/s, 50 ms, 16 streams down, after 5 s",
        streams: 16,
        ..FAT
    }
    .measure();
    assert!(measured.goodput >= 0.6, "{measured:?}");
}
