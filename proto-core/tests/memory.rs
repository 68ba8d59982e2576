//! What things hold while they are idle, that decoding never takes more than its input justifies, and that data is
//! neither copied nor boxed on its way. A binary of its own, because its allocator counts.
//!
//! `cargo test -p selium-remote-client-protocol --test memory -- --nocapture` prints the figures of ARCHITECTURE.md.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout
)] // Helpers of tests may panic, and print, as tests do.

#[allow(dead_code)] // The benchmark uses all of it.
#[path = "../benches/core/joined.rs"]
mod joined;
#[path = "../benches/core/proof.rs"]
mod proof;

use allocation_counter::{AllocationInfo, measure};
use bytes::Bytes;
use selium_remote_client_protocol::{
    Limits, RequestId, Time,
    client::{ClientConfig, ClientConnection, ClientEvent, RequestOptions, StreamKind},
    frame::{Frame, FrameReader},
    hello::{ClientHello, ServerHello},
    limits::{MAX_FRAME, MAX_WRITE},
    server::{ServerConnection, ServerEvent},
};

use crate::joined::Joined;

/// Bytes that each may hold at most: its own size and what it has allocated. A fifth more than was measured on 64 bits.
const IDLE_CONNECTION_CLIENT: i64 = 2_100;
const IDLE_CONNECTION_SERVER: i64 = 1_760;
const IDLE_STREAM_CLIENT: i64 = 630;
const IDLE_STREAM_SERVER: i64 = 910;
const IDLE_PUBLICATION_CLIENT: i64 = 960;
const IDLE_PUBLICATION_SERVER: i64 = 580;
const OPEN_REQUEST_CLIENT: i64 = 260;
const OPEN_REQUEST_SERVER: i64 = 210;

/// How many are made to find what one holds.
const MANY: usize = 128;

/// Two machines, and what each has allocated and not freed.
struct Watched {
    client: ClientConnection,
    server: ServerConnection,
    client_held: i64,
    server_held: i64,
    /// Answer requests by opening a stream of this kind.
    opens: Option<StreamKind>,
}

/// Does something and counts what it leaves allocated.
fn counted<T>(held: &mut i64, work: impl FnOnce() -> T) -> T {
    let mut result = None;
    let info = measure(|| result = Some(work()));
    *held += info.bytes_current;
    result.unwrap()
}

impl Watched {
    fn new() -> Self {
        let limits = Limits::default();
        let hello = ClientHello::new([1; 16], [2; 16], &limits);
        let config = ClientConfig::new(hello, limits);
        let (mut client_held, mut server_held) = (0, 0);
        let client = counted(&mut client_held, || ClientConnection::new(config.clone()));
        let server = counted(&mut server_held, || ServerConnection::new(limits));
        let mut watched = Self {
            client,
            server,
            client_held: client_held + size_of::<ClientConnection>() as i64,
            server_held: server_held + size_of::<ServerConnection>() as i64,
            opens: None,
        };
        watched.run();
        counted(&mut watched.server_held, || {
            let hello = ServerHello::new([9; 16], &limits);
            watched.server.accept(&hello);
        });
        watched.run();
        watched
    }

    /// Carries everything. What crosses is copied, so that each side counts its own memory only.
    fn run(&mut self) {
        let mut moved = true;
        while moved {
            let up = counted(&mut self.client_held, || {
                self.client
                    .poll_transmit(MAX_WRITE)
                    .map(|transmit| Wire::copy(&transmit.parts))
            });
            if let Some(Wire(bytes)) = &up {
                counted(&mut self.server_held, || {
                    self.server
                        .handle_input(Time::ZERO, Bytes::copy_from_slice(bytes));
                });
            }
            counted(&mut self.server_held, || {
                while let Some(event) = self.server.poll_event() {
                    if let (ServerEvent::Request { id, .. }, Some(kind)) = (event, self.opens) {
                        self.server.respond_stream(id, Vec::new(), kind).unwrap();
                    }
                }
            });
            let down = counted(&mut self.server_held, || {
                self.server
                    .poll_transmit(MAX_WRITE)
                    .map(|transmit| Wire::copy(&transmit.parts))
            });
            if let Some(Wire(bytes)) = &down {
                counted(&mut self.client_held, || {
                    self.client
                        .handle_input(Time::ZERO, Bytes::copy_from_slice(bytes));
                });
            }
            counted(&mut self.client_held, || {
                while let Some(event) = self.client.poll_event() {
                    if let ClientEvent::Message { id, cost, .. } = event {
                        self.client.consume(id, cost);
                    }
                }
            });
            moved = up.is_some() || down.is_some();
        }
        assert!(!self.client.is_closed() && !self.server.is_closed());
    }

    fn request(&mut self, stream: StreamKind) -> RequestId {
        counted(&mut self.client_held, || {
            self.client
                .request(1, Bytes::new(), RequestOptions::new(stream))
                .unwrap()
        })
    }

    /// Makes many requests, and what they open; what each of them adds to the client and to the server.
    fn grow(&mut self, stream: StreamKind) -> (i64, i64) {
        self.opens = (stream != StreamKind::None).then_some(stream);
        let make = |watched: &mut Self, count: usize| {
            for _ in 0..count {
                let id = watched.request(stream);
                watched.run();
                // A stream that has worked and is idle now.
                let message = Bytes::from_static(&[7; 100]);
                match stream {
                    StreamKind::ToClient => counted(&mut watched.server_held, || {
                        watched.server.send(id, 0, message).unwrap();
                    }),
                    StreamKind::ToServer => counted(&mut watched.client_held, || {
                        watched.client.send(id, 0, message).unwrap();
                    }),
                    StreamKind::None => {}
                }
                watched.run();
            }
        };
        make(self, 1); // What the first one brings belongs to the connection.
        let before = (self.client_held, self.server_held);
        make(self, MANY);
        let each = |now: i64, before: i64| (now - before).div_euclid(MANY as i64) + 1;
        (
            each(self.client_held, before.0),
            each(self.server_held, before.1),
        )
    }
}

/// Bytes on the wire, which are nobody's memory.
struct Wire(Vec<u8>);

impl Wire {
    fn copy(parts: &[Bytes]) -> Self {
        let mut wire = Vec::new();
        allocation_counter::opt_out(|| wire = parts.concat());
        Self(wire)
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        allocation_counter::opt_out(|| self.0 = Vec::new());
    }
}

fn check(what: &str, held: i64, most: i64) {
    println!("{what}: {held} bytes");
    assert!(held > 0, "{what}: nothing was counted");
    assert!(held <= most, "{what}: {held} bytes, more than {most}");
}

#[test]
fn an_idle_connection_holds_little() {
    let watched = Watched::new();
    check(
        "idle connection, client",
        watched.client_held,
        IDLE_CONNECTION_CLIENT,
    );
    check(
        "idle connection, server",
        watched.server_held,
        IDLE_CONNECTION_SERVER,
    );
}

#[test]
fn a_connection_that_worked_and_is_idle_again_holds_as_little() {
    let mut watched = Watched::new();
    let mut ids = Vec::new();
    watched.opens = Some(StreamKind::ToClient);
    for _ in 0..MANY {
        ids.push(watched.request(StreamKind::ToClient));
    }
    watched.run();
    for round in 0..4 {
        for id in &ids {
            counted(&mut watched.server_held, || {
                let message = Bytes::from(vec![7; 4000]);
                watched.server.send(*id, round, message).unwrap();
            });
        }
        watched.run();
    }
    for id in ids {
        counted(&mut watched.server_held, || watched.server.end(id, None));
    }
    watched.run();
    println!(
        "after {MANY} streams: client {} bytes, server {} bytes",
        watched.client_held, watched.server_held
    );
    // Queues keep the room that a burst took, which is bounded by their limits.
    let most = 64 * 1024;
    assert!(watched.client_held <= IDLE_CONNECTION_CLIENT + most);
    assert!(watched.server_held <= IDLE_CONNECTION_SERVER + most);
}

#[test]
fn an_idle_stream_holds_little() {
    let (client, server) = Watched::new().grow(StreamKind::ToClient);
    check(
        "idle stream to the client, client",
        client,
        IDLE_STREAM_CLIENT,
    );
    check(
        "idle stream to the client, server",
        server,
        IDLE_STREAM_SERVER,
    );
    let (client, server) = Watched::new().grow(StreamKind::ToServer);
    check(
        "idle stream to the server, client",
        client,
        IDLE_PUBLICATION_CLIENT,
    );
    check(
        "idle stream to the server, server",
        server,
        IDLE_PUBLICATION_SERVER,
    );
}

#[test]
fn an_open_request_holds_little() {
    let (client, server) = Watched::new().grow(StreamKind::None);
    check("open request, client", client, OPEN_REQUEST_CLIENT);
    check("open request, server", server, OPEN_REQUEST_SERVER);
}

/// Reads all frames of some input that comes in pieces, and counts.
fn reading(input: &[u8], piece: usize) -> AllocationInfo {
    measure(|| {
        let mut reader = FrameReader::new();
        for piece in input.chunks(piece) {
            reader.push(Bytes::copy_from_slice(piece));
            while let Ok(Some(frame)) = reader.next() {
                drop(frame);
            }
        }
    })
}

/// Bytes that reading may hold at a time for so many bytes of input: the input, twice what waits of it (while two pieces
/// become one), the list of its pieces, and a little.
fn justified(fed: usize) -> u64 {
    4 * fed as u64 + 512
}

#[test]
fn lengths_that_are_claimed_take_no_memory() {
    let mut worst = 0;
    for input in [
        // A frame of 16,448 bytes, of which three are there.
        &[0x80, 0, 0x40, 0x40, 0x20, 5, 1][..],
        &[0x80, 0, 0x40, 0x40, 0x10, 5, 1],
        // 2^62 - 1 bytes.
        &[0xff; 8],
        &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x20, 5, 1],
        // A message of 1 MiB, of which one byte is there.
        &[8, 0x20, 5, 1, 0x80, 0x10, 0, 0, 7],
        &[8, 0x10, 5, 1, 0x80, 0x10, 0, 0, 7],
        // An error whose text claims 2^30 bytes.
        &[8, 0x23, 5, 1, 0x02, 0xbf, 0xff, 0xff, 0xff],
    ] {
        for piece in [usize::MAX, 1] {
            let taken = reading(input, piece.min(input.len()));
            worst = worst.max(taken.bytes_max);
            assert!(
                taken.bytes_max <= justified(input.len()),
                "{input:x?}: {taken:?}"
            );
            assert_eq!(taken.bytes_current, 0);
        }
    }
    println!("the worst of the claims took {worst} bytes");
}

#[test]
fn reading_takes_as_much_as_its_input_justifies() {
    let mut seed = 0x9e37_79b9_7f4a_7c15u64;
    println!("seed {seed:#x}");
    let mut dice = |below: usize| {
        // xorshift64
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        usize::try_from(seed >> 16).unwrap() % below
    };
    for _ in 0..2_000 {
        let mut input = Vec::new();
        for _ in 0..1 + dice(5) {
            let len = dice(MAX_FRAME + 40);
            let kinds = [
                1, 2, 3, 4, 5, 0x10, 0x11, 0x12, 0x20, 0x21, 0x22, 0x23, 0x24, 0x25, 0x80,
            ];
            input.extend((0x8000_0000 | len as u32).to_be_bytes());
            input.extend([
                kinds[dice(kinds.len())],
                dice(3) as u8,
                1,
                0xbf,
                0xff,
                0xff,
                0xff,
            ]);
            // Whole, or cut off, or too long.
            input.resize(
                input.len() + [len.saturating_sub(7), dice(len + 1), 1][dice(3)],
                dice(256) as u8,
            );
        }
        let piece = [1, 7, 100, 1_200, usize::MAX][dice(5)].min(input.len());
        let piece = if input.len() > 4_000 {
            piece.max(100)
        } else {
            piece
        };
        let taken = reading(&input, piece);
        assert!(
            taken.bytes_max <= justified(input.len()),
            "{} bytes in pieces of {piece}: {taken:?}",
            input.len()
        );
        assert_eq!(taken.bytes_current, 0, "something is left");
    }
}

#[test]
fn announced_messages_take_what_came_of_them() {
    let mut watched = Watched::new();
    let before = watched.server_held;
    let mut fed = 0;
    // As many as may be in flight, each announced with 8,000 bytes and begun with one.
    for id in 1..=Limits::default().max_requests as u64 {
        let begun = Frame::Request {
            id,
            op: 1,
            total: 8_000,
            chunk: vec![7u8].into(),
        };
        let bytes = begun.to_bytes();
        fed += bytes.len();
        counted(&mut watched.server_held, || {
            watched
                .server
                .handle_input(Time::ZERO, Bytes::copy_from_slice(&bytes));
        });
    }
    assert!(!watched.server.is_closed());
    assert_eq!(watched.server.requests(), 256);
    let held = watched.server_held - before;
    println!("256 announced requests: {fed} bytes came, {held} are held");
    // Each costs its place in the table, and the buffer of its one byte.
    assert!(held <= 256 * (OPEN_REQUEST_SERVER + 128), "{held}");
}

#[test]
fn a_length_of_two_to_the_62_closes_and_holds_nothing() {
    let mut watched = Watched::new();
    counted(&mut watched.server_held, || {
        watched
            .server
            .handle_input(Time::ZERO, Bytes::from(vec![0xff; 8]));
        assert!(watched.server.is_closed());
        while watched.server.poll_transmit(MAX_WRITE).is_some() {}
        while watched.server.poll_event().is_some() {}
    });
    let held = watched.server_held;
    assert!(held <= IDLE_CONNECTION_SERVER, "{held}");
}

/// Allocations and bytes for each message, sent and read; queues have their sizes before it is counted.
fn for_each_message(len: usize, streams: usize) -> (f64, f64) {
    let count = (256 * 1024 / len).clamp(64, 2048);
    let mut joined = Joined::new();
    let streams: Vec<_> = (0..streams).map(|_| joined.stream()).collect();
    let payload = Bytes::from(vec![7u8; len]);
    joined.carry(&streams, &payload, count);
    let taken = measure(|| joined.carry(&streams, &payload, count));
    let each = |all: u64| all as f64 / count as f64;
    (each(taken.count_total), each(taken.bytes_total))
}

#[test]
fn a_data_frame_allocates_its_payload_and_nothing_else() {
    for streams in [1, 64] {
        let (allocations, bytes) = for_each_message(64, streams);
        println!("64 B over {streams} streams: {allocations:.3} allocations, {bytes:.0} bytes");
        // One is the payload, which is copied out of the input. Writes and inputs are shared by many frames.
        assert!(allocations <= 1.1, "{allocations}");
    }
}

#[test]
fn long_payloads_are_not_copied() {
    for len in [16 * 1024, 64 * 1024] {
        let (allocations, bytes) = for_each_message(len, 1);
        println!("{len} B: {allocations:.3} allocations, {bytes:.0} bytes");
        assert!(bytes <= len as f64 / 8.0, "{bytes} bytes for each message");
    }
    let proof = proof::no_copies();
    assert!(proof.holds(), "{proof:?}");
}
