//! Frames out of place, hellos with absurd limits, credit and windows of a byte: each ends as PROTOCOL.md says, or is
//! skipped as it says, and an honest client beside them keeps its service.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "tests"
)]

mod hostile_aid;

use bytes::Bytes;
use hostile_aid::{Honest, Talk, beginning, follow, info, outcome, protocol, raw, storm, turn};
use selium_remote_client_protocol::{
    ErrorCode, Payload, RemoteError,
    frame::Frame,
    hello::ClientHello,
    limits::MESSAGE_OVERHEAD,
    ops::{FollowStarted, ServerInfo, op},
};
use selium_remote_e2e::{MIB, PATIENCE, Shared, Wire, block_on, block_on_for, frames, hello};

/// Asked for before the turn, so that the tests that wait for theirs keep it.
static SERVER: Shared = Shared::new();

/// What a connection costs the runtime besides what it holds: its QUIC state is 70 to 100 KB (SECURITY.md), and a task
/// of the module reads into a buffer of 64 KiB.
const CONNECTION: u64 = 192 * 1024;

/// What a connection's hello takes at most (PROTOCOL.md, "The envelope").
const LONGEST_HELLO: usize = 1_000;

fn data(id: u64, total: u64, chunk: usize) -> Frame {
    Frame::Data {
        id,
        seq: 0,
        total,
        chunk: vec![7; chunk].into(),
    }
}

fn data_more(id: u64, chunk: usize) -> Frame {
    Frame::DataMore {
        id,
        chunk: vec![7; chunk].into(),
    }
}

fn more(id: u64, chunk: usize) -> Frame {
    Frame::More {
        id,
        chunk: vec![7; chunk].into(),
    }
}

fn response(id: u64) -> Frame {
    Frame::Response {
        id,
        code: 0,
        total: 0,
        chunk: Payload::new(),
    }
}

fn gap(id: u64) -> Frame {
    Frame::Gap {
        id,
        next: 1,
        count: Some(1),
    }
}

fn ack(id: u64) -> Frame {
    Frame::Ack {
        id,
        seq: 1,
        may_be_dropped: false,
    }
}

fn reset(id: u64) -> Frame {
    Frame::Reset {
        id,
        error: RemoteError::new(ErrorCode::Internal, "so be it"),
    }
}

fn end(id: u64) -> Frame {
    Frame::End { id, error: None }
}

/// No credit, for a stream that is to stay silent.
fn no_windows(hello: &mut ClientHello) {
    hello.limits.connection_window = 0;
    hello.limits.stream_window = 0;
}

/// A connection on which request 1 is over, stream 2 is open (and silent for want of credit), and request 3 is not
/// complete; and the bytes of frames that were sent on it.
async fn in_the_middle(server: &selium_remote_e2e::Server, log: &str) -> (Talk, usize) {
    let mut talk = Talk::with(server, no_windows).await;
    let said = [info(1), follow(2, log), beginning(3, 300, 1)];
    talk.say(&said).await;
    talk.answer(1).await.expect("counters");
    talk.answer(2).await.expect("a stream");
    (talk, frames(&said).len())
}

#[test]
fn frames_out_of_place_end_the_connection() {
    let Some(server) = SERVER.get() else { return };
    let _turn = turn();
    let honest = Honest::start(&server);
    block_on(async {
        let (client, process) = storm(&server, "out-of-place", 50).await;
        let never = "request 4 was never made";
        let never_sent = |id: u64| format!("request {id}: a client does not send this");
        let does_not_continue =
            |id: u64| format!("request {id}: a message does not continue where it should");
        let increase = |id: u64| format!("request {id}: ids must increase, the last was 3");
        let cases: Vec<(Frame, String)> = vec![
            // Stream data where the client may send none, of which it has no credit in this place either.
            (data(2, 1, 1), does_not_continue(2)),
            (data(2, 1 << 40, 16_384), does_not_continue(2)),
            (data_more(2, 16_384), does_not_continue(2)),
            (data(3, 1, 1), does_not_continue(3)),
            (data_more(3, 1), does_not_continue(3)),
            (more(2, 1), does_not_continue(2)),
            (
                more(3, 300),
                "request 3: a message is longer than it said".to_owned(),
            ),
            // Of ids that were never used.
            (data(4, 1, 1), never.to_owned()),
            (data_more(4, 1), never.to_owned()),
            (end(4), never.to_owned()),
            (reset(4), never.to_owned()),
            (more(4, 1), never.to_owned()),
            (Frame::Cancel { id: 4 }, never.to_owned()),
            (Frame::Credit { id: 4, limit: 1 }, never.to_owned()),
            // The end of a request that is no stream.
            (end(3), "request 3: no such stream".to_owned()),
            // Answers that nobody asked for, whatever became of the id.
            (response(1), never_sent(1)),
            (response(2), never_sent(2)),
            (response(3), never_sent(3)),
            (response(4), never_sent(4)),
            (gap(1), never_sent(1)),
            (gap(2), never_sent(2)),
            (gap(4), never_sent(4)),
            (ack(1), never_sent(1)),
            (ack(2), never_sent(2)),
            (ack(4), never_sent(4)),
            // Ids that were used: by a request that is over, an open stream, one that is not complete.
            (info(1), increase(1)),
            (info(2), increase(2)),
            (info(3), increase(3)),
            (beginning(1, 1 << 61, 1), increase(1)),
        ];
        for (frame, message) in cases {
            let (mut talk, _) = in_the_middle(&server, "out-of-place").await;
            talk.say(std::slice::from_ref(&frame)).await;
            let error = talk.goodbye().await;
            assert_eq!(error, protocol(message), "{frame:?}");
        }
        // A length of 2^62 behind frames that are in order.
        let (mut talk, at) = in_the_middle(&server, "out-of-place").await;
        let mut bytes = frames(&[Frame::Ping([1; 8])]);
        let at = at + bytes.len();
        bytes.extend([0xff; 8]);
        talk.wire.write(&bytes).await;
        assert_eq!(
            talk.goodbye().await,
            protocol(format!(
                "frame at byte {at}: its length of 4611686018427387903 bytes is past the limit of 16448"
            ))
        );
        process.stop().await.expect("it stops");
        client.close().await;
    });
    honest.was_served("frames out of place", &server);
}

/// Times the connection's window that is sent on ids that are over.
const WINDOWS: usize = 8;

#[test]
fn frames_of_what_is_over_are_skipped() {
    let Some(server) = SERVER.get() else { return };
    let _turn = turn();
    let honest = Honest::start(&server);
    block_on(async {
        let (client, process) = storm(&server, "over", 50).await;
        let (mut talk, _) = in_the_middle(&server, "over").await;
        talk.say(&[Frame::Cancel { id: 3 }]).await;
        let error = talk.answer(3).await.unwrap_err();
        assert_eq!(error.code, ErrorCode::Cancelled);
        // What crossed the end of a request, nothing of which is answered.
        let late = |id: u64| {
            [
                more(id, 299),
                Frame::Cancel { id },
                end(id),
                reset(id),
                Frame::Credit { id, limit: 1 << 61 },
            ]
        };
        for id in [1, 3] {
            talk.say(&late(id)).await;
        }
        // An answer to a ping that was not sent, kinds of the future, and an end of a half that the client never had.
        talk.say(&[Frame::Pong([1; 8]), end(2)]).await;
        talk.wire.write(&[5, 0x80, 0, 1, 2, 3, 2, 0xff, 7]).await;
        assert_eq!(talk.ping().await, []);
        // Stream data of what is over counts for the connection's credit, which comes back at once: as much as the
        // window holds, again and again, and the server holds none of it.
        let window = server_window(&server).await;
        let (mut sent, mut granted) = (0, window);
        while sent < WINDOWS * window {
            assert!(
                sent + 16_384 + MESSAGE_OVERHEAD <= granted,
                "credit comes back"
            );
            talk.say(&[data(1, 16_384, 16_384)]).await;
            sent += 16_384 + MESSAGE_OVERHEAD;
            for frame in talk.ping().await {
                match frame {
                    Frame::Credit { id: 0, limit } => granted = usize::try_from(limit).unwrap(),
                    other => panic!("{other:?}"),
                }
            }
            assert!(granted <= sent + window, "no more than the window");
        }
        // The stream is still open, and ends when its client resets it.
        let streams = async |client: &selium_remote_client::Client| {
            client.info().await.expect("counters").streams
        };
        let before = streams(&client).await;
        talk.say(&[reset(2), data(2, 9, 9), end(2)]).await;
        assert_eq!(talk.ping().await, []);
        assert_eq!(streams(&client).await, before - 1);
        talk.say(&[info(10)]).await;
        talk.answer(10).await.expect("requests go on");
        talk.over().await;
        process.stop().await.expect("it stops");
        client.close().await;
    });
    let report = honest.was_served("frames of what is over", &server);
    report.stayed_within("frames of what is over", CONNECTION);
}

async fn server_window(server: &selium_remote_e2e::Server) -> usize {
    let (wire, hello) = Wire::greeted(server).await;
    wire.cut().await;
    usize::try_from(hello.limits.connection_window).unwrap()
}

#[test]
fn requests_can_neither_be_ended_nor_reset() {
    let Some(server) = SERVER.get() else { return };
    let _turn = turn();
    let honest = Honest::start(&server);
    block_on(async {
        // END of a request that is over crossed its answer.
        let mut talk = Talk::open(&server).await;
        talk.say(&[beginning(1, 300, 1), Frame::Cancel { id: 1 }])
            .await;
        talk.say(&[end(1), more(1, 299)]).await;
        assert_eq!(talk.answer(1).await.unwrap_err().code, ErrorCode::Cancelled);
        let list = raw(2, op::PROCESS_LIST, Bytes::from_static(b"\x07\x01\x01"));
        talk.say(&[list, Frame::Cancel { id: 2 }]).await;
        // All came in one write: either it was cancelled in time or it was not.
        match talk.answer(2).await {
            Ok(_) => {}
            Err(error) => assert_eq!(error.code, ErrorCode::Cancelled),
        }
        assert_eq!(talk.ping().await, []);
        // So did a RESET. Of a request that is not over it names a stream that does not exist.
        talk.say(&[reset(1), reset(2), beginning(3, 300, 1)]).await;
        assert_eq!(talk.ping().await, []);
        talk.say(&[reset(3)]).await;
        assert_eq!(talk.goodbye().await, protocol("request 3: no such stream"));
    });
    honest.was_served("resets of requests", &server);
}

/// Frames behind a last word: pings, requests, and bytes that are no frames.
fn ravings(first: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    for id in first..first + 1_000 {
        bytes.extend(frames(&[
            Frame::Ping([3; 8]),
            info(id),
            beginning(id + 5_000, 300, 1),
        ]));
    }
    bytes.extend([0xff; 4_096]);
    bytes
}

#[test]
fn nothing_is_heard_behind_a_goodbye() {
    let Some(server) = SERVER.get() else { return };
    let _turn = turn();
    let honest = Honest::start(&server);
    block_on(async {
        let client = server.config().connect().await.expect("a connection");
        // Behind the client's own.
        let mut talk = Talk::open(&server).await;
        talk.say(&[Frame::Goodbye(RemoteError::new(
            ErrorCode::Cancelled,
            "bye",
        ))])
        .await;
        for n in 0..40 {
            talk.wire.write(&ravings(1 + n * 1_000)).await;
        }
        let info = client.info().await.expect("counters");
        assert!(info.held_bytes < 65_536, "{info:?}");
        talk.over().await;
        // Behind the server's.
        let mut talk = Talk::open(&server).await;
        talk.say(&[Frame::Cancel { id: 1 }]).await;
        for n in 0..40 {
            talk.wire.write(&ravings(1 + n * 1_000)).await;
        }
        assert_eq!(talk.goodbye().await, protocol("request 1 was never made"));
        client.close().await;
    });
    let report = honest.was_served("ravings behind a goodbye", &server);
    report.stayed_within("ravings behind a goodbye", 2 * CONNECTION);
}

/// Connections whose hellos come a byte at a time.
const DRIPPERS: usize = 10;

#[test]
fn a_hello_may_come_byte_by_byte() {
    let Some(server) = SERVER.get() else { return };
    let _turn = turn();
    let honest = Honest::start(&server);
    block_on_for(PATIENCE * 2, async {
        // The longest that there may be: an optional field that nobody knows fills it up.
        let mut long = hello();
        let fill = LONGEST_HELLO - long.len() - 4;
        long.extend([0x40, 0xc8, 0x40 | (fill >> 8) as u8, fill as u8]);
        long.resize(LONGEST_HELLO, 0);
        let length = u16::try_from(LONGEST_HELLO - 16).unwrap();
        long[12..14].copy_from_slice(&length.to_be_bytes());
        let mut wires = Vec::new();
        for _ in 0..DRIPPERS {
            wires.push(Wire::open(&server).await);
        }
        let mut pace = Talk::open(&server).await;
        for n in 0..LONGEST_HELLO - 1 {
            for wire in &mut wires {
                wire.write(&long[n..=n]).await;
            }
            // Goes through the module, so that the bytes are not gathered into one read.
            assert_eq!(pace.ping().await, []);
        }
        for wire in wires {
            let (wire, _) = wire.greet_as(&long[LONGEST_HELLO - 1..]).await;
            let mut talk = Talk::from(wire);
            assert_eq!(talk.ping().await, []);
            talk.over().await;
        }
        pace.over().await;
    });
    let report = honest.was_served("hellos byte by byte", &server);
    report.stayed_within("hellos byte by byte", DRIPPERS as u64 * CONNECTION);
}

/// Connections with absurd limits, all open at a time.
const ABSURD: usize = 120;

/// What a connection's streams queue at most (PROTOCOL.md, "Limits").
const STREAM_QUEUE: u64 = MIB;

#[test]
fn absurd_limits_are_kept_to() {
    let Some(server) = SERVER.get() else { return };
    let _turn = turn();
    let honest = Honest::start(&server);
    block_on_for(PATIENCE * 2, async {
        let (client, process) = storm(&server, "absurd", 100).await;
        let all = |value: u64| {
            move |hello: &mut ClientHello| {
                let size = usize::try_from(value).unwrap();
                hello.limits.max_message = size;
                hello.limits.reassembly = size;
                hello.limits.connection_window = value;
                hello.limits.stream_window = value;
            }
        };
        // Nothing may be sent: answers with content are too large, without their words; the others come.
        let mut none = Talk::with(&server, all(0)).await;
        none.say(&[info(1), follow(2, "absurd"), info(3)]).await;
        for id in 1..=3 {
            match none.frame().await {
                Frame::Response {
                    id: answered,
                    code,
                    total,
                    chunk,
                } => assert_eq!(
                    (answered, outcome(code, chunk), total),
                    (id, Err(RemoteError::new(ErrorCode::TooLarge, "")), 0)
                ),
                other => panic!("{other:?}"),
            }
        }
        none.say(&[Frame::Credit {
            id: 2,
            limit: 1 << 61,
        }])
        .await;
        assert_eq!(none.ping().await, [], "no stream was opened");
        none.over().await;
        // Everything may be sent: it comes as it always does.
        for limit in [(1 << 62) - 1, 1 << 62, u64::MAX] {
            let mut much = Talk::with(&server, all(limit)).await;
            much.say(&[follow(1, "absurd"), info(2)]).await;
            let (mut records, mut answers) = (0, 0);
            while records < 100 || answers < 2 {
                match much.frame().await {
                    Frame::Data { seq, .. } => {
                        assert_eq!(seq, records);
                        records += 1;
                    }
                    Frame::Response { code: 0, .. } => answers += 1,
                    other => panic!("{other:?}"),
                }
            }
            much.over().await;
        }
        // A flood of both, each of which asks for what it cannot take or does not.
        let mut flood = Vec::new();
        for n in 0..ABSURD {
            let limit = [0, 1, 33, (1 << 62) - 1, u64::MAX][n % 5];
            let mut talk = Talk::with(&server, all(limit)).await;
            talk.say(&[info(1), follow(2, "absurd"), info(3)]).await;
            flood.push(talk);
        }
        for (n, talk) in flood.iter_mut().enumerate() {
            assert_eq!(talk.ping_behind(3).await, 3, "connection {n}");
        }
        let info: ServerInfo = client.info().await.expect("counters");
        assert!(info.connections >= ABSURD as u64, "{info:?}");
        assert!(info.held_bytes <= ABSURD as u64 * STREAM_QUEUE, "{info:?}");
        Wire::cut_all(flood.into_iter().map(|talk| talk.wire)).await;
        process.stop().await.expect("it stops");
        client.close().await;
    });
    let report = honest.was_served("absurd limits", &server);
    // Records that wait are the log's own, not copies: what is held for its followers is held once.
    report.stayed_within("absurd limits", ABSURD as u64 * CONNECTION + STREAM_QUEUE);
}

/// Checks what comes on a stream against the credit that was given for it.
struct Credited {
    limit: u64,
    used: u64,
    /// The message that is in progress: bytes that are missing of it.
    missing: u64,
    messages: u64,
}

impl Credited {
    fn take(&mut self, frame: &Frame) {
        let cost = match frame {
            Frame::Data { total, chunk, .. } => {
                assert_eq!(self.missing, 0, "messages do not overlap");
                self.missing = *total;
                self.took(chunk) + MESSAGE_OVERHEAD as u64
            }
            Frame::DataMore { chunk, .. } => self.took(chunk),
            other => panic!("{other:?}"),
        };
        self.used += cost;
        assert!(self.used <= self.limit, "{} of {}", self.used, self.limit);
    }

    fn took(&mut self, chunk: &Payload) -> u64 {
        let length = chunk.len() as u64;
        self.missing = self
            .missing
            .checked_sub(length)
            .expect("no more than it said");
        self.messages += u64::from(self.missing == 0);
        length
    }
}

#[test]
fn credit_of_a_byte_brings_a_byte() {
    let Some(server) = SERVER.get() else { return };
    let _turn = turn();
    let honest = Honest::start(&server);
    block_on_for(PATIENCE * 2, async {
        const LINES: u64 = 20;
        let (client, process) = storm(&server, "by-the-byte", LINES as u32).await;
        for (stream, connection) in [(1, 1 << 40), (33, 1 << 40), (64, 1 << 40), (1 << 40, 1)] {
            let mut talk = Talk::with(&server, |hello| {
                hello.limits.stream_window = stream;
                hello.limits.connection_window = connection;
            })
            .await;
            talk.say(&[follow(1, "by-the-byte")]).await;
            let started = FollowStarted::decode(&talk.answer(1).await.expect("a stream")).unwrap();
            assert_eq!(started.next, LINES);
            let (id, first) = if stream < connection {
                (1, stream)
            } else {
                (0, connection)
            };
            let mut seen = Credited {
                limit: first,
                used: 0,
                missing: 0,
                messages: 0,
            };
            // A byte at a time, which it uses to the last one once a message has begun.
            let mut bytes = 0;
            while seen.messages == 0 || seen.missing == 0 {
                // The first answer overtakes what the credit brings, the second does not.
                for frame in talk.ping().await.into_iter().chain(talk.ping().await) {
                    seen.take(&frame);
                }
                if seen.missing > 0 {
                    assert_eq!(seen.used, seen.limit, "credit is used");
                }
                seen.limit += 1;
                bytes += 1;
                assert!(bytes < 1_000, "a record is shorter");
                talk.say(&[Frame::Credit {
                    id,
                    limit: seen.limit,
                }])
                .await;
            }
            // Credit that shrinks changes nothing; all of it at once brings the rest.
            talk.say(&[Frame::Credit { id, limit: 1 }]).await;
            seen.limit = 1 << 40;
            talk.say(&[Frame::Credit {
                id,
                limit: seen.limit,
            }])
            .await;
            while seen.messages < LINES {
                let frame = talk.frame().await;
                seen.take(&frame);
            }
            talk.over().await;
        }
        process.stop().await.expect("it stops");
        client.close().await;
    });
    let report = honest.was_served("credit by the byte", &server);
    report.stayed_within("credit by the byte", 4 * CONNECTION);
}

/// Connections whose QUIC window is a byte.
const NARROW: usize = 20;

#[test]
fn a_quic_window_of_one_byte_holds_up_nobody_else() {
    let Some(server) = SERVER.get() else { return };
    let _turn = turn();
    let honest = Honest::start(&server);
    block_on_for(PATIENCE * 2, async {
        let (client, process) = storm(&server, "narrow", 1_000).await;
        let (mut read, mut unread) = (Vec::new(), Vec::new());
        for _ in 0..NARROW {
            // The hello comes through it, byte by byte.
            let (wire, _) = Wire::narrow(&server, 1).await.greet().await;
            let mut talk = Talk::from(wire);
            talk.say(&[info(1), follow(2, "narrow")]).await;
            unread.push(talk);
            let (wire, _) = Wire::narrow(&server, 1).await.greet().await;
            let mut talk = Talk::from(wire);
            talk.say(&[info(1), info(2)]).await;
            read.push(talk);
        }
        for talk in &mut read {
            assert_eq!(talk.ping_behind(2).await, 2, "both are answered");
        }
        Wire::cut_all(read.into_iter().chain(unread).map(|talk| talk.wire)).await;
        process.stop().await.expect("it stops");
        client.close().await;
    });
    let report = honest.was_served("windows of a byte", &server);
    // A write of 64 KiB waits in the runtime, and the next in the module, besides what a stream queues.
    report.stayed_within(
        "windows of a byte",
        NARROW as u64 * 2 * (CONNECTION + 2 * 64 * 1024),
    );
}
