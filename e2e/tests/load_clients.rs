//! Many clients at once, many requests at once, and peers that take part in nothing.
//!
//! The tests count connections, so that they take turns.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "tests"
)]

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::{join_all, try_join_all};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Endpoint};
use selium_remote_client::{Client, LogItem, LogStream, Process};
use selium_remote_client_protocol::{Payload, frame::Frame, ops::op};
use selium_remote_e2e::{
    PATIENCE, Server, Shared, Wire, block_on, block_on_for, frames, guests, median, soon,
};

static SERVER: Shared = Shared::new();
static TURN: Mutex<()> = Mutex::new(());

fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn connect(server: &Server) -> Client {
    // Hundreds of handshakes at once take their time on a busy machine.
    let config = server
        .config()
        .connect_timeout(PATIENCE)
        .request_timeout(PATIENCE);
    config.connect().await.expect("a connection")
}

/// Waits until only the observer is connected and nothing is held for anybody.
async fn only(observer: &Client) {
    soon("the others are forgotten", async {
        loop {
            let info = observer.info().await.expect("counters");
            if (info.connections, info.streams, info.orphans) == (1, 0, 0) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
}

#[test]
fn five_hundred_clients_at_once() {
    if !selium_remote_e2e::load_tests() {
        return;
    }
    const CLIENTS: usize = 500;
    let Some(server) = SERVER.get() else { return };
    let _turn = turn();
    block_on_for(PATIENCE * 4, async {
        let observer = connect(&server).await;
        only(&observer).await;
        let begun = Instant::now();
        let clients = join_all((0..CLIENTS).map(async |n| {
            let client = connect(&server).await;
            client
                .ping()
                .await
                .unwrap_or_else(|error| panic!("ping {n}: {error}"));
            client
        }))
        .await;
        let connected = begun.elapsed();
        let info = observer.info().await.expect("counters");
        assert_eq!(info.connections, CLIENTS as u64 + 1, "all are connected");

        let begun = Instant::now();
        let lists = try_join_all(clients.iter().map(|client| client.processes(true))).await;
        let second = begun.elapsed();
        assert_eq!(lists.expect("all are answered").len(), CLIENTS);
        let info = observer.info().await.expect("counters");
        assert_eq!(info.connections, CLIENTS as u64 + 1, "all have stayed");

        let begun = Instant::now();
        join_all(clients.into_iter().map(Client::close)).await;
        only(&observer).await;
        eprintln!(
            "{CLIENTS} clients: all connected and pinged after {connected:.1?}, a list for each in {second:.1?}, all \
             closed and forgotten in {:.1?}",
            begun.elapsed()
        );
        observer.close().await;
    });
}

/// What a request takes at the median and at most, over so many in a row.
async fn latency(client: &Client, requests: usize) -> (Duration, Duration) {
    let mut took = Vec::new();
    for _ in 0..requests {
        let begun = Instant::now();
        soon("an answer", client.info()).await.expect("an answer");
        took.push(begun.elapsed());
    }
    (median(&took), *took.iter().max().unwrap())
}

/// So many requests at once on each of these connections; all are answered.
async fn volley(clients: &[Client], each: usize) -> Duration {
    let begun = Instant::now();
    let requests = clients
        .iter()
        .flat_map(|client| (0..each).map(move |n| (client, n)));
    let answers = join_all(requests.map(async |(client, n)| match n % 3 {
        0 => client.info().await.map(drop),
        1 => client.processes(true).await.map(drop),
        _ => client.inspect("load-firehose").await.map(drop),
    }));
    let answers = soon("all answers", answers).await;
    for (n, answer) in answers.iter().enumerate() {
        assert!(answer.is_ok(), "request {n}: {answer:?}");
    }
    begun.elapsed()
}

#[test]
fn a_thousand_requests_in_flight_whoever_does_not_read() {
    if !selium_remote_e2e::load_tests() {
        return;
    }
    const CONNECTIONS: usize = 10;
    const EACH: usize = 100;
    let Some(server) = SERVER.get() else { return };
    let _turn = turn();
    block_on_for(PATIENCE * 4, async {
        let observer = connect(&server).await;
        only(&observer).await;
        let firehose = guests::storm(20_000).name("load-firehose");
        let firehose = Process::start(&observer, firehose)
            .await
            .expect("it starts");
        let clients = join_all((0..CONNECTIONS).map(|_| connect(&server))).await;
        let calm = volley(&clients, EACH).await;
        let (calm_median, calm_most) = latency(&observer, 200).await;

        // Somebody asks 20,000 times, and reads nothing: the window is 2 KiB and the answers are a MiB and more.
        let (mut deaf, _) = Wire::narrow(&server, 2_048).await.greet().await;
        let request = |id: u64| Frame::Request {
            id,
            op: op::SERVER_INFO,
            total: 0,
            chunk: Payload::new(),
        };
        // Somebody asks no more than it may, and reads nothing either.
        let (mut stalled, _) = Wire::narrow(&server, 2_048).await.greet().await;
        let some: Vec<Frame> = (1..=200).map(request).collect();
        stalled.write(&frames(&some)).await;
        let asking = async {
            for first in (1..20_000).step_by(200) {
                let some: Vec<Frame> = (first..first + 200).map(request).collect();
                deaf.write(&frames(&some)).await;
            }
        };
        // Somebody follows the firehose 20 times and looks at none of it.
        let idle = connect(&server).await;
        let idle_process = Process::new(&idle, firehose.handle());
        let idle_streams = try_join_all((0..20).map(|_| idle_process.log_channel()));
        let idle_streams: Vec<LogStream> = idle_streams.await.expect("its log");
        // The others go on meanwhile, and so do requests on the connection whose streams are not read.
        let ((), busy, (busy_median, busy_most), (same_median, _)) = tokio::join!(
            asking,
            volley(&clients, EACH),
            latency(&observer, 200),
            latency(&idle, 200)
        );
        let after = volley(&clients, EACH).await;
        let (after_median, after_most) = latency(&observer, 200).await;
        let info = observer.info().await.expect("counters");
        eprintln!(
            "1,000 requests in flight over {CONNECTIONS} connections: {calm:.1?}; while one peer asks and does not read \
             {busy:.1?}; after that, with it around, {after:.1?}"
        );
        eprintln!(
            "one request at a time, median and most: {calm_median:.1?} {calm_most:.1?}; meanwhile {busy_median:.1?} \
             {busy_most:.1?}; after {after_median:.1?} {after_most:.1?}; on the connection with 20 streams that nobody \
             reads {same_median:.1?}"
        );
        eprintln!(
            "held for peers that do not read: {} bytes, {} zombies, {} connections",
            info.held_bytes, info.zombies, info.connections
        );
        // Who asked too much was closed, which it cannot know without reading; who asked little is still served.
        assert_eq!(stalled.connection.close_reason(), None);
        stalled.connection.close(0u32.into(), b"");
        drop(idle_streams);
        idle.close().await;
        deaf.connection.close(0u32.into(), b"");
        firehose.stop().await.expect("it stops");
        join_all(clients.into_iter().map(Client::close)).await;
        only(&observer).await;
        let info = observer.info().await.expect("counters");
        assert_eq!(
            (info.zombies, info.held_bytes),
            (0, 0),
            "nothing is left of them"
        );
        observer.close().await;
    });
}

/// The first packet of a handshake, sent to the server from a socket of its own that never answers.
async fn half_open(server: &Server) -> UdpSocket {
    // What nobody answers: it only sees the packet.
    let sink = tokio::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .unwrap();
    let tls = selium_remote_certs::client_config(server.certs()).expect("certificates");
    let crypto = QuicClientConfig::try_from(tls).expect("TLS for QUIC");
    let endpoint = Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).expect("a socket");
    let _connecting = endpoint
        .connect_with(
            ClientConfig::new(Arc::new(crypto)),
            sink.local_addr().unwrap(),
            "localhost",
        )
        .expect("an attempt");
    let mut packet = [0; 2_048];
    let length = soon("a packet", sink.recv(&mut packet)).await.unwrap();
    assert!(
        length >= 1_200,
        "an Initial is padded to 1,200 bytes: {length}"
    );
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket
        .send_to(&packet[..length], (Ipv4Addr::LOCALHOST, server.port()))
        .unwrap();
    socket
}

#[test]
fn silent_and_half_open_peers_keep_nobody_out() {
    if !selium_remote_e2e::load_tests() {
        return;
    }
    const SILENT: usize = 200;
    const HALF_OPEN: usize = 60;
    const TRIES: usize = 5;
    /// What the issue asks for.
    const LIMIT: Duration = Duration::from_secs(2);
    let Some(server) = SERVER.get() else { return };
    let _turn = turn();
    block_on(async {
        let observer = connect(&server).await;
        only(&observer).await;
        let begun = Instant::now();
        let mut silent = Vec::new();
        for _ in 0..SILENT {
            // Its stream is not opened as long as nothing is sent on it.
            silent.push(Wire::open(&server).await);
        }
        let mut sockets = Vec::new();
        for _ in 0..HALF_OPEN {
            sockets.push(half_open(&server).await);
        }
        let prepared = begun.elapsed();
        // All of them, at a time at which none was given up yet.
        assert!(
            prepared < Duration::from_secs(25),
            "too slow a machine: {prepared:?}"
        );
        let mut took = Vec::new();
        for n in 0..TRIES {
            let begun = Instant::now();
            let config = server.config().connect_timeout(LIMIT * 5);
            let client = config.connect().await;
            let client = client.unwrap_or_else(|error| panic!("honest client {n}: {error}"));
            client.info().await.expect("an answer");
            took.push(begun.elapsed());
            client.close().await;
        }
        eprintln!(
            "{SILENT} silent peers and {HALF_OPEN} half-open handshakes in {prepared:.1?}: honest clients got in within \
             {took:.1?}"
        );
        // The middle one, for the machine may do other things now and then.
        assert!(median(&took) < LIMIT, "{took:?}");
        for wire in &silent {
            assert_eq!(
                wire.connection.close_reason(),
                None,
                "the silent ones are still there"
            );
        }
        let begun = Instant::now();
        for wire in silent {
            wire.connection.close(0u32.into(), b"");
        }
        drop(sockets);
        only(&observer).await;
        eprintln!("all of them are forgotten after {:.1?}", begun.elapsed());
        observer.close().await;
    });
}

#[test]
fn followers_of_firehoses_agree() {
    if !selium_remote_e2e::load_tests() {
        return;
    }
    const LOGS: u32 = 3;
    const FOLLOWERS: usize = 100;
    const LINES: u32 = 10_000;
    let Some(server) = SERVER.get() else { return };
    let _turn = turn();
    block_on_for(PATIENCE * 5, async {
        let client = connect(&server).await;
        let mut processes = Vec::new();
        for n in 0..LOGS {
            let storm = guests::storm(LINES).name(format!("load-storm-{n}"));
            processes.push(Process::start(&client, storm).await.expect("it starts"));
        }
        let begun = Instant::now();
        let mut streams = Vec::new();
        for process in &processes {
            // A log at a time: 256 requests may wait on one connection.
            let of_one = try_join_all((0..FOLLOWERS).map(|_| process.log_channel())).await;
            streams.extend(of_one.expect("its log"));
        }
        assert_eq!(
            client.info().await.expect("counters").streams,
            u64::from(LOGS) * FOLLOWERS as u64
        );
        // All guests have logged what they log once no log grows any more; then they are stopped, which ends the streams.
        let ending = async {
            let counts = quiet(&client).await;
            for process in &processes {
                client
                    .stop(&process.id().to_string())
                    .await
                    .expect("it stops");
            }
            counts
        };
        let (counts, seen) = tokio::join!(ending, join_all(streams.into_iter().map(read)));
        let took = begun.elapsed();
        for (n, of_one) in seen.chunks(FOLLOWERS).enumerate() {
            // Under each number all who saw it saw the same line.
            let (mut lines, mut torn) = (BTreeMap::new(), BTreeMap::new());
            for seen in of_one {
                for (sequence, line) in &seen.lines {
                    let first = lines.entry(*sequence).or_insert(*line);
                    assert_eq!(first, line, "log {n}, record {sequence}");
                }
                for (sequence, bytes) in &seen.torn {
                    let first = torn.entry(*sequence).or_insert(bytes);
                    assert_eq!(first, &bytes, "log {n}, record {sequence}");
                }
                assert_eq!(seen.end, counts[n], "records and gaps add up to the log");
            }
            let records: Vec<usize> = of_one.iter().map(|seen| seen.lines.len()).collect();
            eprintln!(
                "log {n}: {} records numbered, up to line {} of {LINES}; followers saw {} to {}, median {}; counted gaps {}, \
                 gaps of unknown count {}, torn records {}",
                of_one[0].end,
                of_one[0].lines.last().expect("a line").1,
                records.iter().min().unwrap(),
                records.iter().max().unwrap(),
                median(&records),
                of_one.iter().map(|seen| seen.gaps).sum::<u64>(),
                of_one.iter().map(|seen| seen.unknown).sum::<u64>(),
                torn.len(),
            );
        }
        eprintln!("{} followers on one connection: {took:.1?}", seen.len());
        only(&client).await;
        client.close().await;
    });
}

/// What a follower saw.
#[derive(Debug, Default)]
struct Seen {
    /// Number of the record, number of the line.
    lines: Vec<(u64, u64)>,
    /// Records that the runtime tore: it overwrote them while they were read (RUNTIME-NOTES 21).
    torn: Vec<(u64, Bytes)>,
    /// The number behind the last record.
    end: u64,
    gaps: u64,
    lost: u64,
    unknown: u64,
    skipped: u64,
}

/// Waits until no log grows any more, and returns how many records each has.
///
/// Not every storm gets to its last line: about one run of two had a log that stood still before it, with the runtime
/// idle, and the stop brought no more. Either the guest waits for a wake-up that its SDK lost (RUNTIME-NOTES 7) or the
/// hub's reader does; which was not settled. What has arrived is what is checked here.
async fn quiet(client: &Client) -> Vec<u64> {
    const SAME: u32 = 20;
    let mut counts = Vec::new();
    let mut same = 0;
    while same < SAME {
        tokio::time::sleep(Duration::from_millis(250)).await;
        let now = client.processes(false).await.expect("a list");
        let now: Vec<u64> = now.iter().map(|process| process.log_records).collect();
        same = if now == counts { same + 1 } else { 0 };
        counts = now;
    }
    counts
}

/// Reads to the end; numbers have no holes but those that are told.
async fn read(mut stream: LogStream) -> Seen {
    let mut seen = Seen::default();
    loop {
        let item = tokio::time::timeout(PATIENCE * 2, stream.next()).await;
        let item =
            item.unwrap_or_else(|_| panic!("no end behind {} of {}", seen.end, stream.process()));
        let Some(item) = item else { break };
        let item = item.expect("no error");
        match item {
            LogItem::Record { sequence, record } => {
                assert_eq!(sequence, seen.end, "a hole that was not told");
                seen.end += 1;
                let line = record.message.strip_prefix("line ").expect("a line");
                seen.lines.push((sequence, line.parse().unwrap()));
            }
            LogItem::Unreadable {
                sequence, bytes, ..
            } => {
                assert_eq!(sequence, seen.end, "a hole that was not told");
                seen.end += 1;
                seen.torn.push((sequence, bytes));
            }
            LogItem::Gap { next, count } => {
                assert!(next > seen.end, "a gap goes forward");
                match count {
                    Some(count) => {
                        assert_eq!(count, next - seen.end, "a gap counts right");
                        seen.gaps += 1;
                        seen.lost += count;
                    }
                    None => {
                        seen.unknown += 1;
                        seen.skipped += next - seen.end;
                    }
                }
                seen.end = next;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(stream.end_reason(), Some("the process was stopped"));
    let seen_records = (seen.lines.len() + seen.torn.len()) as u64;
    assert_eq!(seen_records + seen.lost + seen.skipped, seen.end);
    assert!(
        seen.lines.windows(2).all(|pair| pair[0].1 < pair[1].1),
        "lines come in order, each once"
    );
    seen
}
