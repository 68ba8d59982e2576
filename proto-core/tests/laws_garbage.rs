//! No input panics, and what comes of it is one of two: the machine is open and works, or it is closed and says why.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod common;

use bytes::Bytes;
use common::{Pair, config};
use proptest::{collection::vec, option, prelude::*};
use selium_remote_client_protocol::{
    CloseReason, ErrorCode, Limits, Payload, RemoteError, Time,
    client::{ClientConfig, ClientConnection, ClientEvent, RequestOptions, StreamKind},
    envelope::{CLIENT_MAGIC, SERVER_MAGIC, ServerEnvelope},
    frame::{Frame, FrameReader},
    hello::{ClientHello, ServerHello},
    limits::{MAX_ENVELOPE, MAX_FRAME, MAX_WRITE},
    server::{ServerConnection, ServerEvent},
    varint,
};

/// Ids: those that are in use (1 to 5), those before and behind them, and others.
fn id() -> impl Strategy<Value = u64> {
    prop_oneof![8 => 1u64..=5, 4 => 5u64..12, 1 => 0..=varint::MAX]
}

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![4 => 0u64..10, 2 => 0u64..100_000, 1 => 0..=varint::MAX, 1 => Just(varint::MAX)]
}

fn chunk() -> impl Strategy<Value = Payload> {
    prop_oneof![4 => 0usize..40, 1 => 0usize..16_385].prop_map(|len| vec![7; len].into())
}

fn error() -> impl Strategy<Value = RemoteError> {
    (number(), "[a-z]{0,9}")
        .prop_map(|(code, text)| RemoteError::new(ErrorCode::from_wire(code), text))
}

/// The whole length of a message that begins with this chunk: right, or anything.
fn total(chunk: &Payload, more: Option<u64>) -> u64 {
    more.map_or(chunk.len() as u64, |more| {
        (chunk.len() as u64).saturating_add(more)
    })
}

/// Frames that are well formed, in places where they may be wrong.
fn frame() -> impl Strategy<Value = Frame> {
    let begins = || (id(), number(), chunk(), option::of(number()));
    prop_oneof![
        any::<[u8; 8]>().prop_map(Frame::Ping),
        any::<[u8; 8]>().prop_map(Frame::Pong),
        Just(Frame::Drain),
        (id(), number()).prop_map(|(id, limit)| Frame::Credit { id, limit }),
        begins().prop_map(|(id, op, chunk, more)| Frame::Request {
            id,
            op,
            total: total(&chunk, more),
            chunk
        }),
        begins().prop_map(|(id, code, chunk, more)| Frame::Response {
            id,
            code,
            total: total(&chunk, more),
            chunk
        }),
        begins().prop_map(|(id, seq, chunk, more)| Frame::Data {
            id,
            seq,
            total: total(&chunk, more),
            chunk
        }),
        (id(), chunk()).prop_map(|(id, chunk)| Frame::More { id, chunk }),
        (id(), chunk()).prop_map(|(id, chunk)| Frame::DataMore { id, chunk }),
        id().prop_map(|id| Frame::Cancel { id }),
        (id(), option::of(error())).prop_map(|(id, error)| Frame::End { id, error }),
        (id(), error()).prop_map(|(id, error)| Frame::Reset { id, error }),
        (id(), number(), option::of(number())).prop_map(|(id, next, count)| Frame::Gap {
            id,
            next,
            count
        }),
        (id(), number(), any::<bool>()).prop_map(|(id, seq, may_be_dropped)| Frame::Ack {
            id,
            seq,
            may_be_dropped
        }),
        error().prop_map(Frame::Goodbye),
        (0x80u8..).prop_map(|kind| Frame::Unknown { kind }),
    ]
}

/// Something that a hostile peer writes.
#[derive(Clone, Debug)]
enum Piece {
    Frame(Frame),
    /// A frame with one byte changed.
    Bent(Frame, prop::sample::Index, u8),
    /// A frame that is cut off.
    Cut(Frame, prop::sample::Index),
    Bytes(Vec<u8>),
}

impl Piece {
    fn bytes(&self) -> Bytes {
        match self {
            Piece::Frame(frame) => frame.to_bytes(),
            Piece::Bent(frame, at, by) => {
                let mut bytes = frame.to_bytes().to_vec();
                let at = at.index(bytes.len());
                bytes[at] ^= by;
                bytes.into()
            }
            Piece::Cut(frame, at) => {
                let bytes = frame.to_bytes();
                bytes.slice(..at.index(bytes.len()))
            }
            Piece::Bytes(bytes) => bytes.clone().into(),
        }
    }
}

fn piece() -> impl Strategy<Value = Piece> {
    prop_oneof![
        30 => frame().prop_map(Piece::Frame),
        2 => (frame(), any::<prop::sample::Index>(), 1u8..).prop_map(|(frame, at, by)| Piece::Bent(frame, at, by)),
        1 => (frame(), any::<prop::sample::Index>()).prop_map(|(frame, at)| Piece::Cut(frame, at)),
        1 => vec(any::<u8>(), 0..60).prop_map(Piece::Bytes),
    ]
}

fn limits() -> Limits {
    Limits::with(|limits| {
        limits.connection_window = 20_000;
        limits.stream_window = 10_000;
        limits.reassembly = 60_000;
        limits.max_message = 50_000;
        limits.max_request = 50_000;
        limits.max_requests = 6;
        limits.control_queue = 40_000;
    })
}

/// Requests 1 to 5: a stream each way, a request that runs, a long answer that waits to be sent, and an ended stream.
fn busy() -> Pair {
    let mut pair = Pair::open(limits(), limits());
    let down = pair.stream(StreamKind::ToClient);
    let up = pair.stream(StreamKind::ToServer);
    let running = pair.request(StreamKind::None);
    let answered = pair.request(StreamKind::None);
    let over = pair.stream(StreamKind::ToClient);
    pair.server.end(over, None);
    pair.run();
    pair.server.respond(answered, Ok(vec![1; 30_000]));
    pair.server.send(down, 1, vec![1; 30_000]).unwrap();
    pair.client.send(up, 1, vec![1; 30_000]).unwrap();
    assert_eq!(
        (down.get(), up.get(), running.get(), over.get()),
        (1, 2, 3, 5)
    );
    pair.client_events.clear();
    pair.server_events.clear();
    pair
}

/// Everything that a machine writes; its frames.
fn written(mut poll: impl FnMut() -> Option<Vec<u8>>) -> Vec<Frame> {
    let mut reader = FrameReader::new();
    let mut bytes = 0;
    while let Some(write) = poll() {
        bytes += write.len();
        assert!(write.len() <= MAX_WRITE && bytes < 4 << 20, "it is bounded");
        reader.push(write.into());
    }
    let frames = std::iter::from_fn(|| reader.next().unwrap()).collect();
    assert_eq!(reader.buffered(), 0);
    frames
}

/// A closed machine has said why, as its last word.
fn said_why(reason: &CloseReason, frames: &[Frame]) {
    let goodbyes = frames
        .iter()
        .filter(|frame| matches!(frame, Frame::Goodbye(_)));
    let last = frames.last();
    match reason {
        CloseReason::Protocol(why) => {
            assert!(!why.is_empty());
            assert_eq!(goodbyes.count(), 1);
            assert!(
                matches!(last, Some(Frame::Goodbye(error)) if error.code == ErrorCode::Protocol && error.message == *why)
            );
        }
        CloseReason::Local(error) => {
            assert_eq!(error.code, ErrorCode::ResourceExhausted);
            assert_eq!(last, Some(&Frame::Goodbye(error.clone())));
        }
        CloseReason::Peer(_) => assert_eq!(goodbyes.count(), 0),
        other => panic!("{other:?}"),
    }
}

proptest! {
    #![proptest_config(config(400))]

    #[test]
    fn a_server_stays_sane_or_says_why_not(pieces in vec(piece(), 1..30), at_once: bool) {
        let mut pair = busy();
        let whole = pieces.iter().all(|piece| matches!(piece, Piece::Frame(_)));
        for piece in &pieces {
            pair.server.handle_input(Time::ZERO, piece.bytes());
            prop_assert!(pair.server.reassembling() <= limits().reassembly);
            let queues = limits().control_queue + limits().connection_queue;
            prop_assert!(pair.server.held() <= limits().reassembly + queues + 2 * MAX_FRAME);
            prop_assert!(pair.server.requests() <= limits().max_requests + limits().max_streams);
            if at_once {
                pair.collect();
            }
        }
        pair.collect();
        let mut last = 5;
        for event in &pair.server_events {
            if let ServerEvent::Request { id, .. } = event {
                prop_assert!(id.get() > last, "requests that the machine made are answered once");
                last = id.get();
            }
        }
        let server = &mut pair.server;
        let frames = written(|| server.poll_transmit(MAX_WRITE).map(|write| write.to_vec()));
        let closed = pair.server_events.iter().filter(|event| matches!(event, ServerEvent::Closed(_))).count();
        if server.is_closed() {
            prop_assert_eq!(closed, 1);
            let Some(ServerEvent::Closed(reason)) = pair.server_events.last() else {
                panic!("the last event: {:?}", pair.server_events);
            };
            said_why(reason, &frames);
            server.handle_input(Time::ZERO, Frame::Ping([1; 8]).to_bytes());
            prop_assert_eq!(server.poll_transmit(MAX_WRITE), None);
            prop_assert_eq!((server.requests(), server.streams()), (0, 0));
        } else if whole {
            prop_assert_eq!(closed, 0);
            server.handle_input(Time::ZERO, Frame::Ping([1; 8]).to_bytes());
            let frames = written(|| server.poll_transmit(MAX_WRITE).map(|write| write.to_vec()));
            prop_assert_eq!(frames.first(), Some(&Frame::Pong([1; 8])));
        }
    }

    #[test]
    fn a_client_stays_sane_or_says_why_not(pieces in vec(piece(), 1..30), at_once: bool) {
        let mut pair = busy();
        let whole = pieces.iter().all(|piece| matches!(piece, Piece::Frame(_)));
        for piece in &pieces {
            pair.client.handle_input(Time::ZERO, piece.bytes());
            if at_once {
                pair.collect();
            }
        }
        pair.collect();
        let answers = |id: u64| pair.client_events.iter().filter(|event| matches!(event, ClientEvent::Response { id: of, .. } if of.get() == id)).count();
        prop_assert!(answers(3) <= 1 && answers(4) <= 1);
        prop_assert_eq!(answers(1) + answers(2) + answers(5), 0);
        let client = &mut pair.client;
        let frames = written(|| client.poll_transmit(MAX_WRITE).map(|write| write.to_vec()));
        if client.is_closed() {
            let Some(ClientEvent::Closed(reason)) = pair.client_events.last() else {
                panic!("the last event: {:?}", pair.client_events);
            };
            said_why(reason, &frames);
            client.handle_input(Time::ZERO, Frame::Ping([1; 8]).to_bytes());
            prop_assert_eq!(client.poll_transmit(MAX_WRITE), None);
            let refused = client.request(1, Bytes::new(), RequestOptions::default());
            prop_assert!(refused.is_err());
        } else if whole {
            client.handle_input(Time::ZERO, Frame::Ping([1; 8]).to_bytes());
            let frames = written(|| client.poll_transmit(MAX_WRITE).map(|write| write.to_vec()));
            prop_assert_eq!(frames.first(), Some(&Frame::Pong([1; 8])));
        }
    }

    /// Before the hello: what is no hello is answered in words that any version understands, at the latest behind as
    /// many bytes as an envelope may have.
    #[test]
    fn what_comes_instead_of_a_hello_is_refused(
        garbage in vec(any::<u8>(), 0..1_200),
        bend in option::of((any::<prop::sample::Index>(), 1u8..)),
        start in 0u8..3,
        cut in 1usize..400,
    ) {
        let limits = Limits::default();
        let hello = ClientHello::new([1; 16], [2; 16], &limits);
        let mut client = ClientConnection::new(ClientConfig::new(hello, limits));
        let mut hello = client.poll_transmit(MAX_WRITE).unwrap().to_vec();
        let answer = ServerHello::new([9; 16], &limits).encode().into();
        let mut answer = ServerEnvelope::Accepted { version: 1, hello: answer }.encode().to_vec();
        if let Some((at, by)) = bend {
            for bytes in [&mut hello, &mut answer] {
                let at = at.index(bytes.len());
                bytes[at] ^= by;
            }
        }
        let (to_server, to_client) = match start {
            0 => (garbage.clone(), garbage),
            1 => ([&CLIENT_MAGIC[..], &garbage].concat(), [&SERVER_MAGIC[..], &garbage].concat()),
            _ => (hello, answer),
        };
        let mut server = ServerConnection::new(limits);
        for piece in to_server.chunks(cut) {
            server.handle_input(Time::ZERO, Bytes::copy_from_slice(piece));
        }
        let event = server.poll_event();
        match &event {
            None => prop_assert!(to_server.len() <= MAX_ENVELOPE && !server.is_closed()),
            Some(ServerEvent::Hello(_)) => prop_assert!(!server.is_open()),
            Some(ServerEvent::Closed(reason)) => {
                let answer = server.poll_transmit(MAX_WRITE).unwrap().to_vec();
                let legacy = *reason == CloseReason::Legacy;
                prop_assert!(legacy || answer.starts_with(&SERVER_MAGIC), "{:?}", reason);
                prop_assert!(answer.len() <= MAX_ENVELOPE);
            }
            other => panic!("{other:?}"),
        }
        for piece in to_client.chunks(cut) {
            client.handle_input(Time::ZERO, Bytes::copy_from_slice(piece));
        }
        match client.poll_event() {
            None => prop_assert!(to_client.len() <= MAX_ENVELOPE),
            Some(ClientEvent::Connected(_)) => {}
            Some(ClientEvent::Closed(reason)) => prop_assert!(
                !matches!(reason, CloseReason::Local(_) | CloseReason::Lost | CloseReason::Silent),
                "{:?}", reason
            ),
            other => panic!("{other:?}"),
        }
    }
}
