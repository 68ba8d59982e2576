//! Floods: tiny frames by the hundred thousand, streams that are opened and given up, peers that never read, peers that
//! never say hello. What the module holds for them stays bounded, and an honest client beside them keeps its service.
//!
//! `SELIUM_REMOTE_LOAD` makes the floods as long as the worst that was thought of: a million frames.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "tests"
)]

mod hostile_aid;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hostile_aid::{Honest, Talk, follow, info, outcome, raw, storm, turn};
use quinn::{ReadError, TransportConfig};
use selium_remote_client_protocol::{ErrorCode, RemoteError, frame::Frame, ops::op};
use selium_remote_e2e::{
    MIB, PATIENCE, Server, Wire, block_on_for, frames, load_tests, mib, resident, soon,
};

/// What a connection costs the runtime besides what it holds: its QUIC state is 70 to 100 KB (SECURITY.md), and a task
/// of the module reads into a buffer of 64 KiB.
const CONNECTION: u64 = 192 * 1024;

/// What a peer that does not read makes the module hold: 1 MiB of control frames (PROTOCOL.md, "Limits"). The shortest,
/// a PONG of 11 bytes, takes 4 times its length in the module's memory, and the table of them may just have doubled.
const UNREAD: u64 = 6 * MIB;

/// What a connection's streams queue at most (PROTOCOL.md, "Limits"), when all of them are there before the first fills.
const STREAM_QUEUE: u64 = MIB;

/// How many times that is queued when they come one after another: the share of each is that of the streams which were
/// open when it filled, and 64 KiB at most, and nothing is taken back. 1 + ln(n / 16) for n streams: 2.2 for 50, and 4.5
/// for the 512 that there may be.
const SHARES: u64 = 3;

/// What reading and answering at full speed moves in the runtime: the QUIC stack's windows (1.25 MB) and buffers of the
/// operations on their way in both directions, some of them twice.
const BUSY: u64 = 8 * MIB;

/// So many frames, or as many as the load tests ask for.
fn many(ordinary: usize, load: usize) -> usize {
    if load_tests() { load } else { ordinary }
}

/// A server that no other test has used: its memory is small.
fn fresh() -> Option<Arc<Server>> {
    Server::start(&[]).map(Arc::new)
}

/// A connection that lives on while its client does nothing at all, with a QUIC window of so many bytes.
async fn kept_alive(server: &Server, window: Option<u32>) -> Wire {
    let mut transport = TransportConfig::default();
    transport.keep_alive_interval(Some(Duration::from_secs(5)));
    if let Some(window) = window {
        transport.stream_receive_window(window.into());
        transport.receive_window(window.into());
    }
    Wire::open_with(server, transport).await
}

/// Pings in a row before their answers are read: more than 95,000 at a time would be more than a client may leave unread.
const AT_ONCE: usize = 20_000;

#[test]
fn tiny_frames_are_answered_or_skipped() {
    let _turn = turn();
    let Some(server) = fresh() else { return };
    let honest = Honest::start(&server);
    let begun = Instant::now();
    let count = many(200_000, 1_000_000);
    block_on_for(PATIENCE * 10, async {
        // Pings, whose answers are read.
        let mut talk = Talk::open(&server).await;
        let ping = frames(&[Frame::Ping([5; 8])]);
        let pong = frames(&[Frame::Pong([5; 8])]);
        let (some, expected) = (ping.repeat(AT_ONCE), pong.repeat(AT_ONCE));
        let (send, recv) = talk.wire.halves();
        for _ in 0..count / AT_ONCE {
            send.write_all(&some).await.expect("it is read");
            let mut seen = 0;
            while seen < expected.len() {
                let chunk = soon("answers", recv.read_chunk(usize::MAX, true)).await;
                let bytes = chunk.expect("no error").expect("no end").bytes;
                assert_eq!(bytes, expected[seen..][..bytes.len()], "an answer each");
                seen += bytes.len();
            }
        }
        let pings = begun.elapsed();
        // Frames that are not answered: credit for everything and for nothing, kinds of the future, cancels of old ids.
        talk.say(&[info(1)]).await;
        talk.answer(1).await.expect("counters");
        let mut some = frames(&[
            Frame::Credit { id: 0, limit: 1 },
            Frame::Credit {
                id: 1,
                limit: u64::MAX >> 2,
            },
            Frame::Cancel { id: 1 },
            Frame::Pong([0; 8]),
        ]);
        some.extend([2, 0x80, 0, 2, 0xff, 9]);
        let some = some.repeat(500);
        for _ in 0..count / 3_000 {
            talk.wire.write(&some).await;
        }
        assert_eq!(talk.ping().await, []);
        eprintln!(
            "{count} pings in {pings:.1?}, {count} frames without an answer in {:.1?}",
            begun.elapsed() - pings
        );
        talk.over().await;
    });
    let report = honest.was_served("tiny frames", &server);
    report.stayed_within("tiny frames", BUSY + CONNECTION);
    assert!(report.held <= MIB, "{} bytes held", report.held);
}

/// Reads everything up to the end, and counts responses by what they say.
#[derive(Debug, Default)]
struct Answers {
    fine: usize,
    cancelled: usize,
    exhausted: usize,
    data: usize,
    seen: BTreeSet<u64>,
    goodbye: Option<RemoteError>,
}

impl Answers {
    fn take(&mut self, frame: Frame) {
        match frame {
            Frame::Response {
                id, code, chunk, ..
            } => {
                assert!(self.seen.insert(id), "request {id} was answered twice");
                match outcome(code, chunk) {
                    Ok(_) => self.fine += 1,
                    Err(error) if error.code == ErrorCode::Cancelled => self.cancelled += 1,
                    Err(error) if error.code == ErrorCode::ResourceExhausted => self.exhausted += 1,
                    Err(error) => panic!("{error:?}"),
                }
            }
            Frame::Goodbye(error) => self.goodbye = Some(error),
            Frame::Data { .. } | Frame::DataMore { .. } => self.data += 1,
            other => panic!("{other:?}"),
        }
    }
}

/// How many requests a client has open at most when it keeps to the limit of 256 that the server's hello states.
const IN_FLIGHT: u64 = 200;

/// Requests that are made and cancelled in one write, more than may be in flight.
const AT_A_TIME: usize = 1_000;

#[test]
fn rapid_resets_cost_what_they_bring() {
    let _turn = turn();
    let Some(server) = fresh() else { return };
    let honest = Honest::start(&server);
    let count = many(20_000, 100_000) as u64;
    // What is measured is the module's work, so that the time it may take is proportional: a tenth of what it does on a
    // quiet machine with two cores.
    let limit = Duration::from_secs(20).max(Duration::from_millis(count / 2));
    block_on_for(PATIENCE * 10, async {
        let (client, process) = storm(&server, "rapid", 500).await;
        // Follow, wait until it is open, cancel: every stream is opened, fills its queue, and goes.
        let begun = Instant::now();
        let mut talk = Talk::open(&server).await;
        let mut answers = Answers::default();
        let mut next = 1;
        while next < count {
            let ids = next..next + IN_FLIGHT;
            next += IN_FLIGHT;
            let all: Vec<Frame> = ids.clone().map(|id| follow(id, "rapid")).collect();
            talk.say(&all).await;
            while answers.seen.last().is_none_or(|last| *last < ids.end - 1) {
                answers.take(talk.frame().await);
            }
            let all: Vec<Frame> = ids.map(|id| Frame::Cancel { id }).collect();
            talk.say(&all).await;
        }
        for frame in talk.ping().await {
            answers.take(frame);
        }
        let followed = begun.elapsed();
        assert_eq!(
            (answers.fine, answers.seen.len()),
            (count as usize, count as usize)
        );
        assert!(answers.data > 0, "streams were fed: {answers:?}");
        assert!(followed < limit, "{followed:.1?}");

        // Request and cancel in one write, without waiting: each is answered once, whatever became of it.
        for (what, request) in [
            ("follows", follow as fn(u64, &str) -> Frame),
            ("lists", |id, _| {
                raw(id, op::PROCESS_LIST, Bytes::from_static(b"\x07\x01\x01"))
            }),
        ] {
            let begun = Instant::now();
            let mut talk = Talk::open(&server).await;
            let mut answers = Answers::default();
            for first in (1..=count).step_by(AT_A_TIME) {
                let ids = first..=count.min(first + AT_A_TIME as u64 - 1);
                let some: Vec<Frame> = ids
                    .clone()
                    .flat_map(|id| [request(id, "rapid"), Frame::Cancel { id }])
                    .collect();
                talk.say(&some).await;
                while answers.seen.len() < *ids.end() as usize {
                    answers.take(talk.frame().await);
                }
            }
            assert_eq!(answers.goodbye, None);
            let took = begun.elapsed();
            eprintln!(
                "{count} {what}, each cancelled at once: {} fine, {} cancelled, {} too many, in {took:.1?}",
                answers.fine, answers.cancelled, answers.exhausted
            );
            assert!(took < limit, "{took:.1?}");
            talk.cut().await;
        }
        let info = client.info().await.expect("counters");
        eprintln!("{count} streams opened and cancelled in {followed:.1?}");
        assert!(info.streams <= IN_FLIGHT + 1, "{info:?}");
        talk.cut().await;
        process.stop().await.expect("it stops");
        client.close().await;
    });
    let report = honest.was_served("rapid resets", &server);
    report.stayed_within("rapid resets", BUSY + STREAM_QUEUE + 3 * CONNECTION);
    assert!(
        report.held <= 3 * (MIB + STREAM_QUEUE),
        "{} bytes held",
        report.held
    );
}

/// Peers that ping and never read, all at a time.
const DEAF: u64 = 6;

#[test]
fn who_does_not_read_is_told_goodbye() {
    let _turn = turn();
    let Some(server) = fresh() else { return };
    let honest = Honest::start(&server);
    let count = many(DEAF as usize, 100) as u64;
    block_on_for(PATIENCE * 10, async {
        let client = server.config().connect().await.expect("a connection");
        let before = resident(server.pid());
        let pings = frames(&vec![Frame::Ping([6; 8]); 5_000]);
        let mut deaf = Vec::new();
        for _ in 0..count {
            let (mut wire, _) = kept_alive(&server, Some(2_048)).await.greet().await;
            // A third more than the limit; what the server has closed it reads and drops.
            for _ in 0..28 {
                wire.write(&pings).await;
            }
            deaf.push(wire);
        }
        let begun = Instant::now();
        let info = loop {
            let info = client.info().await.expect("counters");
            if info.zombies >= count {
                break info;
            }
            assert!(begun.elapsed() < PATIENCE, "{info:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        let per_peer = resident(server.pid()).saturating_sub(before) / count;
        eprintln!(
            "{count} peers that ping and do not read: {} bytes held, {:.1} MiB of the runtime for each",
            info.held_bytes,
            mib(per_peer)
        );
        // The limit, the goodbye and the last frame that passed the limit.
        assert!(info.held_bytes <= count * (MIB + 65_536), "{info:?}");
        // Who reads in the end finds answers, then why, then the end.
        let mut last = Talk::from(deaf.pop().unwrap());
        let goodbye = loop {
            match last.frame().await {
                Frame::Pong(_) => {}
                Frame::Goodbye(error) => break error,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(
            (goodbye.code, goodbye.message.as_str(), goodbye.limit),
            (
                ErrorCode::ResourceExhausted,
                "the client does not read its answers",
                Some(MIB)
            )
        );
        last.over().await;
        Wire::cut_all(deaf).await;
        client.close().await;
    });
    let report = honest.was_served("peers that never read", &server);
    report.stayed_within("peers that never read", count * (UNREAD + CONNECTION));
}

/// Peers that follow a storm and never read, and streams of each.
const IDLE: u64 = 10;
const STREAMS: u64 = 50;

#[test]
fn followers_that_never_read_hold_a_bounded_queue() {
    let _turn = turn();
    let Some(server) = fresh() else { return };
    let honest = Honest::start(&server);
    block_on_for(PATIENCE * 4, async {
        let client = server.config().connect().await.expect("a connection");
        let builder = selium_remote_e2e::guests::storm(20_000).name("unread");
        let process = selium_remote_client::Process::start(&client, builder)
            .await
            .expect("it starts");
        let mut idle = Vec::new();
        for _ in 0..IDLE {
            let wire = kept_alive(&server, Some(2_048)).await;
            let hello = Wire::hello_with(|hello| {
                hello.limits.connection_window = u64::MAX;
                hello.limits.stream_window = u64::MAX;
            });
            let (mut wire, _) = wire.greet_as(&hello).await;
            let all: Vec<Frame> = (1..=STREAMS).map(|id| follow(id, "unread")).collect();
            wire.write(&frames(&all)).await;
            idle.push(wire);
        }
        // Until the storm is over, or hangs (ARCHITECTURE.md, "Logs").
        let (mut records, mut since) = (0, Instant::now());
        let mut most = 0;
        while since.elapsed() < Duration::from_secs(1) {
            let now = process.inspect().await.expect("it is there").log_records;
            if now != records {
                (records, since) = (now, Instant::now());
            }
            let info = client.info().await.expect("counters");
            most = most.max(info.held_bytes);
            assert!(info.held_bytes <= IDLE * SHARES * STREAM_QUEUE, "{info:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        eprintln!(
            "{records} records, {IDLE} peers with {STREAMS} streams that read none: {most} bytes held"
        );
        assert!(records > 500, "a storm: {records}");
        let info = client.info().await.expect("counters");
        assert_eq!(
            info.streams,
            IDLE * STREAMS + 1,
            "they are still open: {info:?}"
        );
        Wire::cut_all(idle).await;
        process.stop().await.expect("it stops");
        client.close().await;
    });
    let report = honest.was_served("followers that never read", &server);
    // Besides, a log has a ring of 256 KiB in the module and 640 KiB in the runtime.
    report.stayed_within(
        "followers that never read",
        IDLE * (SHARES * STREAM_QUEUE + 2 * 65_536 + CONNECTION) + MIB,
    );
}

#[test]
fn who_never_says_hello_holds_a_connection_and_no_more() {
    let _turn = turn();
    let Some(server) = fresh() else { return };
    let honest = Honest::start(&server);
    // With a stream each, so that they leave the accepts to others, and short of the 1,024 clients that there may be.
    let count = many(200, 900);
    block_on_for(PATIENCE * 4, async {
        let begun = Instant::now();
        let mut silent = Vec::new();
        for n in 0..count {
            let mut wire = kept_alive(&server, None).await;
            wire.write(
                [
                    &b"S"[..],
                    b"SLRC\r\n\x1a\n",
                    &selium_remote_e2e::hello()[..60],
                ][n % 3],
            )
            .await;
            silent.push(wire);
        }
        let client = server.config().connect().await.expect("there is room");
        let info = client.info().await.expect("counters");
        assert!(info.connections >= count as u64, "{info:?}");
        // What waits for the honest client at this moment is counted, too.
        assert!(info.held_bytes < 65_536, "{info:?}");
        eprintln!("{count} peers without a hello in {:.1?}", begun.elapsed());
        // The beginning of a hello can still be gone on with.
        let last = silent.pop().unwrap();
        let hello = selium_remote_e2e::hello();
        let at = [1, 8, 60][(count - 1) % 3];
        let (wire, _) = last.greet_as(&hello[at..]).await;
        let mut talk = Talk::from(wire);
        assert_eq!(talk.ping().await, []);
        talk.over().await;
        Wire::cut_all(silent).await;
        client.close().await;
    });
    let report = honest.was_served("peers without a hello", &server);
    report.stayed_within("peers without a hello", count as u64 * CONNECTION);
}

/// What a peer sends after the server has told it goodbye.
const RANT: usize = 32 * 1024 * 1024;

#[test]
fn what_a_closed_peer_goes_on_sending_is_dropped() {
    let _turn = turn();
    let Some(server) = fresh() else { return };
    let honest = Honest::start(&server);
    let bytes = many(RANT, 8 * RANT);
    block_on_for(PATIENCE * 4, async {
        let (mut wire, _) = Wire::greeted(&server).await;
        wire.write(&frames(&[Frame::Cancel { id: 1 }])).await;
        let some = vec![0xff; 65_536];
        for _ in 0..bytes / some.len() {
            wire.write(&some).await;
        }
        assert_eq!(
            wire.goodbye().await,
            hostile_aid::protocol("request 1 was never made")
        );
        // Its half was read to the end: nothing was stopped, and the connection is still there.
        let (_, recv) = wire.halves();
        assert!(!matches!(
            recv.read_chunk(1, true).await,
            Err(ReadError::ConnectionLost(_))
        ));
    });
    let report = honest.was_served("what is said behind a goodbye", &server);
    report.stayed_within("what is said behind a goodbye", BUSY + CONNECTION);
}
