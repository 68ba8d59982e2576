//! What the peer is willing to hold: messages, reassembly, and what pieces of bytes cost.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use bytes::Bytes;
use common::Pair;
use selium_remote_client_protocol::{
    CloseReason, ErrorCode, Limits, Payload, SendError, Time,
    client::{ClientEvent, RequestError, RequestOptions, StreamKind},
    frame::Frame,
    limits::MAX_CHUNK,
    payload::COPY_BELOW,
    server::ServerEvent,
};

#[test]
fn a_request_that_the_server_could_not_reassemble_is_refused_at_once() {
    let server = Limits::with(|limits| {
        limits.reassembly = 100_000;
    });
    let mut pair = Pair::open(Limits::default(), server);
    let mut request = |len| {
        pair.client
            .request(1, vec![0; len], RequestOptions::default())
    };
    assert_eq!(request(100_001), Err(RequestError::TooLarge(100_000)));
    assert!(request(100_000).is_ok());
    assert!(request(10).is_ok());
    pair.run();
    assert_eq!(pair.server_events.len(), 2);

    // One frame needs no reassembly.
    let server = Limits::with(|limits| {
        limits.reassembly = 0;
    });
    let mut pair = Pair::open(Limits::default(), server);
    let mut request = |len| {
        pair.client
            .request(1, vec![0; len], RequestOptions::default())
    };
    assert!(request(MAX_CHUNK).is_ok());
    let longer = request(MAX_CHUNK + 1);
    assert_eq!(longer, Err(RequestError::TooLarge(MAX_CHUNK)));
}

#[test]
fn an_answer_that_the_client_would_not_take_becomes_an_error() {
    let cases = [
        // (the largest message, reassembly, the answer, the limit that is named)
        (50_000, 1 << 20, 50_000, None),
        (50_000, 1 << 20, 50_001, Some(50_000)),
        (1 << 20, 50_000, 50_001, Some(50_000)),
        (1 << 20, 100, MAX_CHUNK, None),
        (1 << 20, 100, MAX_CHUNK + 1, Some(MAX_CHUNK as u64)),
    ];
    for (max_message, reassembly, len, limit) in cases {
        let client = Limits::with(|limits| {
            limits.max_message = max_message;
            limits.reassembly = reassembly;
        });
        let mut pair = Pair::open(client, Limits::default());
        let id = pair.request(StreamKind::None);
        pair.run();
        pair.server.respond(id, Ok(vec![0; len]));
        pair.run();
        pair.assert_open();
        let [ClientEvent::Response { result, .. }] = &pair.client_events[..] else {
            panic!("{len}: {:?}", pair.client_events);
        };
        match (result, limit) {
            (Ok(body), None) => assert_eq!(body.len(), len),
            (Err(error), Some(_)) => {
                assert_eq!((error.code, error.limit), (ErrorCode::TooLarge, limit));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_client_that_takes_no_messages_still_hears_the_code_of_an_error() {
    let client = Limits::with(|limits| {
        limits.max_message = 0;
    });
    let mut pair = Pair::open(client, Limits::default());
    let id = pair.request(StreamKind::None);
    pair.run();
    pair.server.respond(id, Ok(vec![0; 10]));
    pair.run();
    pair.assert_open();
    assert!(matches!(
        &pair.client_events[..],
        [ClientEvent::Response { result: Err(error), .. }] if error.code == ErrorCode::TooLarge
    ));
}

#[test]
fn a_stream_whose_answer_is_too_long_is_not_opened() {
    let client = Limits::with(|limits| {
        limits.max_message = 1_000;
    });
    let mut pair = Pair::open(client, Limits::default());
    let id = pair.request(StreamKind::ToClient);
    pair.run();
    let opened = pair
        .server
        .respond_stream(id, vec![0; 1_001], StreamKind::ToClient);
    assert_eq!(opened, Err(SendError::TooLarge(1_000)));
    pair.run();
    assert_eq!((pair.server.streams(), pair.server.requests()), (0, 0));
    assert!(matches!(
        pair.client_events[..],
        [ClientEvent::Response { result: Err(_), .. }]
    ));
}

/// A message that fits one frame needs no reassembly, also when the write at hand has no room for all of it.
#[test]
fn a_full_write_does_not_park_what_needs_no_reassembly() {
    let client = Limits::with(|limits| {
        limits.stream_window = 150_000;
        limits.connection_window = 1 << 21;
        limits.reassembly = 400_000;
        limits.max_message = 400_000;
    });
    let server = Limits::with(|limits| {
        limits.stream_queue = 1 << 20;
    });
    let mut pair = Pair::open(client, server);
    let slow = pair.stream(StreamKind::ToClient);
    let fast = pair.stream(StreamKind::ToClient);
    // The first message stays unread. The second is begun, has no credit to go on, and holds all of the reassembly.
    pair.server.send(slow, 0, vec![0; 400_000]).unwrap();
    pair.server.send(slow, 1, vec![0; 400_000]).unwrap();
    pair.run();
    for seq in 0..8 {
        pair.server.send(fast, seq, vec![1; 8_500]).unwrap();
    }
    assert_eq!(pair.read_all(&[fast]).len(), 8);
    pair.assert_open();
}

#[test]
fn many_small_pieces_cost_little() {
    let mut payload = Payload::new();
    for _ in 0..100_000 {
        payload.push(Bytes::from_static(b"x"));
    }
    assert_eq!(payload.len(), 100_000);
    assert!(payload.pieces().count() <= 1 + 2 * 100_000 / COPY_BELOW);

    // The same through a connection: every byte in a frame, every frame in a read of its own.
    let mut pair = Pair::open(Limits::default(), Limits::default());
    let id = pair.stream(StreamKind::ToServer);
    let first = Frame::Data {
        id: id.get(),
        seq: 1,
        total: 50_000,
        chunk: vec![7].into(),
    };
    let more = Frame::DataMore {
        id: id.get(),
        chunk: vec![7].into(),
    };
    pair.server.handle_input(Time::ZERO, first.to_bytes());
    for _ in 1..50_000 {
        pair.server.handle_input(Time::ZERO, more.to_bytes());
    }
    pair.collect();
    let Some(ServerEvent::Message { payload, .. }) = pair.server_events.last() else {
        panic!("no message");
    };
    assert_eq!(payload.to_vec(), vec![7; 50_000]);
    let pieces = payload.pieces().count();
    assert!(pieces <= 1 + 2 * 50_000 / COPY_BELOW, "{pieces} pieces");
}

#[test]
fn what_is_kept_of_a_read_does_not_keep_the_read() {
    let mut pair = Pair::open(Limits::default(), Limits::default());
    let stream = pair.stream(StreamKind::ToServer);
    // A byte of a request, a byte of a message, and a whole short message, each in a read of 64 KiB.
    let frames = [
        Frame::Request {
            id: stream.get() + 1,
            op: 1,
            total: 2,
            chunk: Bytes::from_static(b"a").into(),
        },
        Frame::Data {
            id: stream.get(),
            seq: 0,
            total: 9,
            chunk: Bytes::from_static(b"short one").into(),
        },
        Frame::Data {
            id: stream.get(),
            seq: 1,
            total: 2,
            chunk: Bytes::from_static(b"b").into(),
        },
    ];
    let reads: Vec<Bytes> = frames
        .iter()
        .map(|frame| {
            let mut read = frame.to_bytes().to_vec();
            // An unknown optional kind fills the rest.
            let rest = 16_000u16.to_be_bytes();
            read.extend([0x40 | rest[0], rest[1], 0x90, 0]);
            read.resize(read.len() + 15_998, 0);
            Bytes::from(read)
        })
        .collect();
    for read in &reads {
        pair.server.handle_input(Time::ZERO, read.clone());
    }
    pair.collect();
    pair.assert_open();
    assert_eq!(pair.server.reassembling(), 2);
    assert_eq!(pair.server_events.len(), 1, "the short message");
    for read in &reads {
        assert!(read.is_unique(), "it is kept");
    }
}

#[test]
fn answers_that_are_not_read_are_not_kept_for_a_closed_connection() {
    let limits = Limits::with(|limits| limits.control_queue = 10_000);
    let mut pair = Pair::open(Limits::default(), limits);
    for _ in 0..2_000 {
        let ping = Frame::Ping([0; 8]).to_bytes();
        pair.server.handle_input(Time::ZERO, ping);
    }
    assert!(pair.server.is_closed());
    assert!(pair.server.held() < 200, "{}", pair.server.held());
    pair.run();
    assert!(matches!(
        pair.client_events.last(),
        Some(ClientEvent::Closed(CloseReason::Peer(error))) if error.code == ErrorCode::ResourceExhausted
    ));
}

#[test]
fn streams_keep_to_the_connections_queue_when_they_open_one_by_one() {
    let server = Limits::with(|limits| {
        limits.connection_queue = 200_000;
        limits.max_streams = 100;
    });
    let mut pair = Pair::open(Limits::default(), server);
    for _ in 0..40 {
        let id = pair.stream(StreamKind::ToClient);
        let mut seq = 0;
        while pair.server.send(id, seq, vec![0; 1_000]).is_ok() {
            seq += 1;
        }
        assert!(seq > 0);
    }
    let held = pair.server.held();
    assert!(held < 200_000 + 64 * 1024 + 40 * 6_000, "{held}");
}
