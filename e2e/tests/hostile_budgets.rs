//! Half-received messages: what they may take of the module's memory, on one connection and on all together.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "tests"
)]

mod hostile_aid;

use std::sync::Arc;

use hostile_aid::{Honest, Talk, beginning, info, protocol, turn};
use selium_remote_client_protocol::{
    ErrorCode,
    frame::Frame,
    limits::{Limits, MAX_CHUNK},
    ops::ServerInfo,
};
use selium_remote_e2e::{
    MIB, PATIENCE, Server, Wire, block_on_for, frames, load_tests, mib, resident,
};

/// What a connection costs the runtime besides what it holds: its QUIC state is 70 to 100 KB (SECURITY.md), and a task
/// of the module reads into a buffer of 64 KiB.
const CONNECTION: u64 = 192 * 1024;

/// Incomplete requests over all connections (PROTOCOL.md, "Limits").
const ALL: u64 = 64 * MIB;

/// What the module takes for a byte of an incomplete request that came in chunks as long as they may be: the reads that
/// it came in stay until it is complete, and the module's memory has holes between them.
const FACTOR: u64 = 2;

/// What reading at full speed moves in the runtime: the QUIC stack's windows (1.25 MB) and buffers of the operations on
/// their way.
const BUSY: u64 = 8 * MIB;

/// A request that is as long as it may be and lacks its last byte.
fn unfinished(id: u64, limit: usize) -> Vec<u8> {
    let mut all = vec![beginning(id, limit as u64, MAX_CHUNK)];
    let mut missing = limit - MAX_CHUNK - 1;
    while missing > 0 {
        let chunk = missing.min(MAX_CHUNK);
        all.push(Frame::More {
            id,
            chunk: vec![b'x'; chunk].into(),
        });
        missing -= chunk;
    }
    frames(&all)
}

/// Fails unless so many bytes are held. What waits for the honest client at this moment is counted, too.
fn held_by_requests(info: &ServerInfo, bytes: u64) {
    assert!(
        (bytes..bytes + 65_536).contains(&info.held_bytes),
        "{bytes}: {info:?}"
    );
}

fn fresh() -> Option<Arc<Server>> {
    Server::start(&[]).map(Arc::new)
}

#[test]
fn a_connections_budget_ends_the_connection_that_passes_it() {
    let _turn = turn();
    let Some(server) = fresh() else { return };
    let honest = Honest::start(&server);
    let limits = Limits::default();
    block_on_for(PATIENCE * 2, async {
        let client = server.config().connect().await.expect("a connection");
        // Whole totals count, however little came of them.
        let fit = (limits.reassembly / limits.max_request) as u64;
        let total = limits.max_request as u64;
        for chunk in [1, MAX_CHUNK] {
            let mut talk = Talk::open(&server).await;
            for id in 1..=fit {
                talk.say(&[beginning(id, total, chunk)]).await;
            }
            assert_eq!(talk.ping().await, []);
            // What is given up makes room again.
            talk.say(&[Frame::Cancel { id: 1 }]).await;
            assert_eq!(talk.answer(1).await.unwrap_err().code, ErrorCode::Cancelled);
            let next = fit + 1;
            talk.say(&[beginning(next, total, chunk)]).await;
            assert_eq!(talk.ping().await, []);
            let info = client.info().await.expect("counters");
            held_by_requests(&info, fit * chunk as u64);
            talk.say(&[beginning(next + 1, total, chunk)]).await;
            assert_eq!(
                talk.goodbye().await,
                protocol(format!(
                    "request {}: messages in reassembly exceed the budget of our hello",
                    next + 1
                ))
            );
        }
        // Requests that are not complete are in flight: past that limit they are refused, and nothing else happens.
        let mut talk = Talk::open(&server).await;
        let some = limits.max_requests as u64;
        let all: Vec<Frame> = (1..=some + 2).map(|id| beginning(id, 2, 1)).collect();
        talk.say(&all).await;
        for id in some + 1..=some + 2 {
            let error = talk.answer(id).await.unwrap_err();
            assert_eq!(
                (error.code, error.limit),
                (ErrorCode::ResourceExhausted, Some(some))
            );
        }
        // So is a request that could never be taken.
        talk.say(&[Frame::Cancel { id: 1 }]).await;
        assert_eq!(talk.answer(1).await.unwrap_err().code, ErrorCode::Cancelled);
        for (id, total) in [
            (some + 3, total + 1),
            (some + 4, 1 << 32),
            (some + 5, (1 << 62) - 1),
        ] {
            talk.say(&[beginning(id, total, 1)]).await;
            assert_eq!(talk.answer(id).await.unwrap_err().code, ErrorCode::TooLarge);
        }
        assert_eq!(talk.ping().await, []);
        talk.over().await;
        client.close().await;
    });
    let report = honest.was_served("a connection's budget", &server);
    report.stayed_within("a connection's budget", 4 * MIB);
}

#[test]
fn the_budget_of_all_connections_ends_the_one_that_passes_it() {
    let _turn = turn();
    let Some(server) = fresh() else { return };
    let honest = Honest::start(&server);
    let limits = Limits::default();
    block_on_for(PATIENCE * 4, async {
        let client = server.config().connect().await.expect("a connection");
        let before = resident(server.pid());
        let fit = limits.reassembly / limits.max_request;
        let each = (fit * (limits.max_request - 1)) as u64;
        let whole: Vec<u8> = (1..=fit as u64)
            .flat_map(|id| unfinished(id, limits.max_request))
            .collect();
        let mut held = Vec::new();
        for n in 1..=ALL / each {
            let mut talk = Talk::open(&server).await;
            talk.wire.write(&whole).await;
            assert_eq!(talk.ping().await, [], "connection {n}");
            held.push(talk);
        }
        let counters = client.info().await.expect("counters");
        held_by_requests(&counters, held.len() as u64 * each);
        eprintln!(
            "{} bytes of incomplete requests on {} connections: {:.1} MiB of the runtime",
            counters.held_bytes,
            held.len(),
            mib(resident(server.pid()).saturating_sub(before)),
        );
        let mut last = Talk::open(&server).await;
        last.wire.write(&whole).await;
        let error = last.goodbye().await;
        assert_eq!(
            (error.code, error.message.as_str()),
            (
                ErrorCode::ResourceExhausted,
                "too many requests are incomplete on all connections together"
            )
        );
        // The others are as they were, and so are short requests.
        for talk in &mut held {
            assert_eq!(talk.ping().await, []);
        }
        let id = fit as u64 + 1;
        held[0].say(&[info(id)]).await;
        held[0].answer(id).await.expect("counters");
        Wire::cut_all(held.into_iter().map(|talk| talk.wire)).await;
        client.close().await;
    });
    let report = honest.was_served("the budget of all connections", &server);
    report.stayed_within(
        "the budget of all connections",
        FACTOR * ALL + (ALL / MIB) * CONNECTION + BUSY,
    );
}

/// Frames of a kind that nobody knows, as many as fill a read of the module (64 KiB).
fn padding() -> Vec<u8> {
    let mut frame = 0x8000_4000u32.to_be_bytes().to_vec();
    frame.extend([0x80, 0]);
    frame.resize(frame.len() + 16_382, 0);
    frame.repeat(4)
}

/// Peers that leave a byte in each read.
const PINNING: u64 = 4;

/// What a peer's incomplete requests may take at most when they are a byte each: 256 of them in flight, with some
/// hundred bytes for each.
const BYTES_EACH: u64 = MIB;

/// Half of a request of 2 bytes, then 64 KiB that are skipped, 256 times: a piece of a read keeps the whole read alive.
/// 170 such peers, which are told nothing and hold 43,520 bytes by the server's own count, end the module: its memory
/// cannot grow past 2 GiB.
#[test]
fn a_byte_of_a_request_does_not_keep_the_read_that_it_came_in() {
    let _turn = turn();
    let Some(server) = fresh() else { return };
    let honest = Honest::start(&server);
    let count = if load_tests() { 40 } else { PINNING };
    block_on_for(PATIENCE * 4, async {
        let before = resident(server.pid());
        let padding = padding();
        let mut all = Vec::new();
        for _ in 0..count {
            let mut talk = Talk::open(&server).await;
            for id in 1..=Limits::default().max_requests as u64 {
                talk.say(&[beginning(id, 2, 1)]).await;
                talk.wire.write(&padding).await;
                if id % 16 == 0 {
                    assert_eq!(talk.ping().await, []);
                }
            }
            all.push(talk);
        }
        eprintln!(
            "{count} peers with 256 bytes of incomplete requests each: {:.1} MiB of the runtime for each",
            mib(resident(server.pid()).saturating_sub(before) / count)
        );
        Wire::cut_all(all.into_iter().map(|talk| talk.wire)).await;
    });
    let report = honest.was_served("bytes that keep their reads", &server);
    report.stayed_within(
        "bytes that keep their reads",
        count * (BYTES_EACH + CONNECTION) + BUSY,
    );
}
