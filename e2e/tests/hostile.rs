//! Bytes that no client of ours sends: each connection ends with a word that names the fault, and others notice nothing.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

use bytes::Bytes;
use selium_remote_client_protocol::{
    ErrorCode, Payload, RemoteError,
    envelope::{Envelope, ServerEnvelope},
    frame::{Frame, FrameReader},
    ops::op,
};
use selium_remote_e2e::{LOGGING, Server, Shared, Wire, block_on, frames, hello, soon};

static SERVER: Shared = Shared::new();

/// Somebody well-behaved, on whom the test must have no effect: a command that follows a ticker's log.
struct Witness {
    follower: selium_remote_e2e::Following,
    id: String,
}

impl Witness {
    fn start(server: &Server) -> Self {
        let started = server.selium(&[
            "start",
            "ticker.wasm",
            "ticker",
            "-c",
            LOGGING,
            "-c",
            "TimeRead",
            "-a",
            "u32:100000",
            "-a",
            "u32:10",
        ]);
        started.succeeded();
        let id = started.stdout.trim_end().to_owned();
        let mut follower = server.follow(&["logs", "--follow", &id]);
        follower.until("ticks", |line| line.ends_with("tick 10"));
        Self { follower, id }
    }

    /// Ticks still come, and none was missed.
    fn noticed_nothing(mut self, server: &Server) {
        let number = |line: &str| {
            line.rsplit_once(" tick ")
                .expect("a tick")
                .1
                .parse::<usize>()
                .unwrap()
        };
        let last = server.selium(&["logs", "--tail", "1", &self.id]);
        last.succeeded();
        let goal = number(last.stdout.trim_end()) + 20;
        self.follower
            .until("more ticks", |line| number(line) >= goal);
        server.selium(&["stop", &self.id]).succeeded();
        let run = self.follower.end();
        assert_eq!(run.code, Some(0), "{run}");
        for (line, n) in run.stdout.lines().zip(1..) {
            assert_eq!(number(line), n, "{line}");
        }
        assert!(run.stdout.lines().count() >= goal);
        server.must_answer();
    }
}

fn protocol(message: &str) -> RemoteError {
    RemoteError::new(ErrorCode::Protocol, message)
}

#[test]
fn what_is_no_hello_is_refused() {
    let Some(server) = SERVER.get() else { return };
    let witness = Witness::start(&server);
    let foreign = protocol("this is a Selium control plane; your bytes are of another protocol");
    block_on(async {
        for bytes in [
            b"12345678".to_vec(),
            b"GET / HTTP/1.1\r\n\r\n".to_vec(),
            vec![0; 65_536],
            vec![0xff; 65_536],
            (0..65_536u32)
                .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
                .collect(),
            // The magic, then a hello longer than an envelope may be.
            b"SLRC\r\n\x1a\n\0\x01\0\x01\xff\xff\0\0".to_vec(),
        ] {
            let mut wire = Wire::saying(&server, &bytes).await;
            assert_eq!(wire.refusal().await, foreign, "{:?}", &bytes[..8]);
        }
        // A hello that is none, one without what it needs, and one from the future.
        let envelope = |low: u8, high: u8, hello: &[u8]| {
            let mut bytes = b"SLRC\r\n\x1a\n".to_vec();
            bytes.extend([0, low, 0, high, 0, u8::try_from(hello.len()).unwrap(), 0, 0]);
            bytes.extend(hello);
            bytes
        };
        let refusal = async |bytes: Vec<u8>| Wire::saying(&server, &bytes).await.refusal().await;
        let error = refusal(envelope(1, 1, b"")).await;
        assert_eq!(
            (error.code, error.message.as_str()),
            (
                ErrorCode::InvalidArgument,
                "field 1 at byte 0: it is missing"
            )
        );
        let error = refusal(envelope(1, 1, b"\x03\x01x")).await;
        assert_eq!(error.code, ErrorCode::InvalidArgument, "{error:?}");
        // Field 40, mandatory.
        let error = refusal(envelope(1, 1, b"\x40\x51\x00")).await;
        assert_eq!(error.code, ErrorCode::Unsupported, "{error:?}");
        for (low, high) in [(2, 9), (0, 0), (9, 2)] {
            let error = refusal(envelope(low, high, &hello()[16..])).await;
            assert_eq!(error.code, ErrorCode::Unsupported);
            assert_eq!(
                error.message,
                format!(
                    "this server speaks versions 1 to 1 of the protocol, the client {low} to {high}"
                )
            );
        }
        // Bytes right behind the hello: the client may send nothing more until the answer.
        for behind in [b"\0".to_vec(), hello(), frames(&[Frame::Ping([1; 8])])] {
            let error = refusal([hello(), behind].concat()).await;
            assert_eq!(
                error,
                protocol("bytes behind the hello before it was answered")
            );
        }
    });
    witness.noticed_nothing(&server);
}

#[test]
fn a_few_bytes_and_the_end_are_nothing() {
    let Some(server) = SERVER.get() else { return };
    let witness = Witness::start(&server);
    block_on(async {
        // An empty stream, and everything that is too short to be anything; version 0.3.3 died of these.
        for length in 0..8 {
            for bytes in [
                vec![b'x'; length],
                vec![0; length],
                b"SLRC\r\n\x1a\n"[..length].to_vec(),
            ] {
                let mut wire = Wire::saying(&server, &bytes).await;
                wire.over().await;
            }
        }
        // A hello that breaks off, at every byte.
        let hello = hello();
        for length in (8..hello.len()).step_by(7) {
            Wire::saying(&server, &hello[..length]).await.over().await;
        }
        // A hello in pieces is one all the same.
        let mut wire = Wire::open(&server).await;
        for piece in hello.chunks(9) {
            wire.write(piece).await;
        }
        let answer = wire.read().await.expect("the server's hello");
        assert!(matches!(
            ServerEnvelope::decode(&answer),
            Envelope::Complete(ServerEnvelope::Accepted { .. }, _)
        ));
        // A connection that is gone before anything was said, and one that is cut in the middle.
        for bytes in [&b""[..], b"SLRC", &hello] {
            let wire = Wire::saying(&server, bytes).await;
            wire.connection.close(7u32.into(), b"gone");
        }
    });
    witness.noticed_nothing(&server);
}

#[test]
fn refused_peers_that_end_their_half_at_once_are_still_told() {
    let Some(server) = SERVER.get() else { return };
    block_on(async {
        for n in 0..20 {
            let mut wire = Wire::saying(&server, b"GET / HTTP/1.1\r\n\r\n").await;
            wire.finish();
            let answer = wire.rest().await;
            assert!(
                matches!(
                    ServerEnvelope::decode(&answer),
                    Envelope::Complete(ServerEnvelope::Refused { .. }, _)
                ),
                "attempt {n}: {answer:?}"
            );
        }
    });
}

#[test]
fn frames_that_are_none_end_the_connection_with_the_reason() {
    let Some(server) = SERVER.get() else { return };
    let witness = Witness::start(&server);
    let request = |id: u64, total: u64, chunk: &[u8]| Frame::Request {
        id,
        op: op::SERVER_INFO,
        total,
        chunk: Payload::from(Bytes::copy_from_slice(chunk)),
    };
    let again = [request(5, 0, b""), request(5, 0, b"")];
    let back = [request(5, 0, b""), request(4, 0, b"")];
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (
            vec![0xff; 8],
            "frame at byte 0: its length of 4611686018427387903 bytes is past the limit of 16448",
        ),
        (
            vec![0x80, 0, 0x40, 0x41, 1],
            "frame at byte 0: its length of 16449 bytes is past the limit of 16448",
        ),
        (vec![0], "frame at byte 0: it is shorter than its header"),
        (vec![1, 1], "frame at byte 0: it is shorter than its header"),
        (
            vec![2, 0x7f, 1],
            "frame at byte 0: its kind 0x7f is not known here",
        ),
        (
            vec![2, 0, 0],
            "frame at byte 0: its kind 0x00 is not known here",
        ),
        (
            vec![2, 0x10, 0],
            "frame at byte 0: its id does not go with its kind 0x10",
        ),
        (
            vec![3, 0x01, 1, 0],
            "frame at byte 0: its id does not go with its kind 0x01",
        ),
        (
            vec![3, 0x01, 0, 0],
            "frame at byte 0: its body does not go with its kind 0x01",
        ),
        (
            vec![5, 0x10, 1, 1, 0, 9],
            "frame at byte 0: its chunk of 1 bytes does not fit its message",
        ),
        (
            vec![2, 0x12, 1],
            "frame at byte 0: its chunk of 0 bytes does not fit its message",
        ),
        (
            frames(&[Frame::Cancel { id: 1 }]),
            "request 1 was never made",
        ),
        (
            frames(&[Frame::More {
                id: 1,
                chunk: Payload::from(vec![0]),
            }]),
            "request 1 was never made",
        ),
        (
            frames(&[Frame::Response {
                id: 1,
                code: 0,
                total: 0,
                chunk: Payload::new(),
            }]),
            "request 1: a client does not send this",
        ),
        (
            frames(&[Frame::Data {
                id: 1,
                seq: 0,
                total: 1,
                chunk: Payload::from(vec![0]),
            }]),
            "request 1 was never made",
        ),
        // 51 hellos: their first two bytes are a length, their third is no kind.
        (
            hello().repeat(51),
            "frame at byte 0: its kind 0x52 is not known here",
        ),
        (
            b"GET / HTTP/1.1\r\n\r\n".repeat(1_000),
            "frame at byte 0: its kind 0x54 is not known here",
        ),
    ];
    block_on(async {
        for (bytes, message) in cases {
            let (mut wire, _) = Wire::greeted(&server).await;
            wire.write(&bytes).await;
            assert_eq!(wire.goodbye().await, protocol(message));
        }
        // Ids that do not increase: the first is answered.
        for bytes in [frames(&again), frames(&back)] {
            let (mut wire, _) = Wire::greeted(&server).await;
            wire.write(&bytes).await;
            let (first, last) = (5, if bytes == frames(&again) { 5 } else { 4 });
            let mut reader = FrameReader::new();
            let error = loop {
                match reader.next().unwrap() {
                    Some(Frame::Response { id, .. }) => assert_eq!(id, first),
                    Some(Frame::Goodbye(error)) => break error,
                    Some(other) => panic!("{other:?}"),
                    None => reader.push(wire.read().await.expect("a goodbye")),
                }
            };
            assert_eq!(
                error,
                protocol(&format!(
                    "request {last}: ids must increase, the last was 5"
                ))
            );
        }
        // Optional kinds are skipped, and pings are answered behind them.
        let (mut wire, _) = Wire::greeted(&server).await;
        let mut bytes = vec![5, 0x80, 0, 1, 2, 3, 2, 0xff, 7];
        bytes.extend(frames(&[Frame::Ping([9; 8])]));
        wire.write(&bytes).await;
        let mut reader = FrameReader::new();
        loop {
            match reader.next().unwrap() {
                Some(frame) => break assert_eq!(frame, Frame::Pong([9; 8])),
                None => reader.push(wire.read().await.expect("a pong")),
            }
        }
    });
    witness.noticed_nothing(&server);
}

#[test]
fn frames_that_break_off_end_quietly() {
    let Some(server) = SERVER.get() else { return };
    let witness = Witness::start(&server);
    let ping = frames(&[Frame::Ping([1; 8])]);
    let start = frames(&[Frame::Request {
        id: 1,
        op: op::PROCESS_START,
        total: 300_000,
        chunk: Payload::from(vec![1; 16_384]),
    }]);
    block_on(async {
        let cuts = [1, 2, 5, ping.len() - 1].map(|length| ping[..length].to_vec());
        let more = [3, 1_000, 16_383, start.len()].map(|length| start[..length].to_vec());
        for bytes in cuts.into_iter().chain(more).chain([hello()]) {
            let (mut wire, _) = Wire::greeted(&server).await;
            wire.write(&bytes).await;
            // It waits for the rest, and says nothing when none comes.
            wire.over().await;
        }
    });
    witness.noticed_nothing(&server);
}

#[test]
fn a_client_that_says_nothing_holds_up_nobody() {
    let Some(server) = SERVER.get() else { return };
    let witness = Witness::start(&server);
    block_on(async {
        let mut silent = Vec::new();
        for n in 0..20 {
            let bytes = [&b""[..], b"S", b"SLRC\r\n\x1a\n"][n % 3];
            silent.push(Wire::saying(&server, bytes).await);
        }
        let (mut wire, _) = Wire::greeted(&server).await;
        wire.write(&frames(&[Frame::Ping([4; 8])])).await;
        let pong = soon("a pong", wire.read()).await.expect("a pong");
        assert_eq!(pong[..], frames(&[Frame::Pong([4; 8])]));
        // With 20 silent peers around, of whom a third has not even opened a stream, commands still work.
        server.must_answer();
        drop(silent);
    });
    witness.noticed_nothing(&server);
}
