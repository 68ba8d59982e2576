//! Both machines against each other.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)] // Helpers of tests may panic as tests do.

mod common;

use bytes::Bytes;
use common::Pair;
use selium_remote_client_protocol::{
    Capability, CloseReason, ErrorCode, Limits, RemoteError, Time,
    client::{ClientEvent, RequestError, RequestOptions, StreamKind},
    envelope::{ClientEnvelope, ServerEnvelope},
    frame::{Frame, Gather},
    legacy,
    ops::{Common, Request, StartRequest, op},
    server::ServerEvent,
};

fn encoded(frame: &Frame) -> Bytes {
    let mut out = Gather::default();
    frame.encode(&mut out);
    out.finish().concat().into()
}

#[test]
fn a_request_is_answered() {
    let mut pair = Pair::open(Limits::default(), Limits::default());
    let start = StartRequest::with(|made| {
        made.module = "hello.wasm".into();
        made.entrypoint = "hello".into();
        made.capabilities = vec![Capability::ChannelWriter];
    });
    let body = start.encode(&Common::with(|made| {
        made.token = Some(1);
    }));
    let id = pair
        .client
        .request(StartRequest::OP, body.clone(), RequestOptions::default())
        .unwrap();
    pair.run();
    let ServerEvent::Request {
        id: seen,
        op,
        body: got,
    } = &pair.server_events[0]
    else {
        panic!("{:?}", pair.server_events);
    };
    assert_eq!((*seen, *op), (id, op::PROCESS_START));
    assert_eq!(StartRequest::decode(got), Ok(start));
    assert_eq!(Common::decode(got).unwrap().token, Some(1));
    pair.server.respond(id, Ok(b"answer".to_vec()));
    pair.server.respond(id, Ok(b"again".to_vec()));
    pair.run();
    assert_eq!(
        pair.client_events,
        [ClientEvent::Response {
            id,
            result: Ok(Bytes::from_static(b"answer"))
        }],
        "exactly one answer"
    );
}

#[test]
fn long_requests_and_answers_share_with_control() {
    let mut pair = Pair::open(Limits::default(), Limits::default());
    let long = vec![7u8; 300_000];
    let id = pair
        .client
        .request(op::PROCESS_START, long.clone(), RequestOptions::default())
        .unwrap();
    pair.client.ping(Time::ZERO);
    // The ping goes first although it was queued last.
    let first = pair.client.poll_transmit(usize::MAX).unwrap();
    assert_eq!(&first.to_vec()[..3], &[10, 1, 0]);
    pair.server.handle_input(Time::ZERO, first.to_vec().into());
    pair.run();
    assert!(
        matches!(&pair.server_events[..], [ServerEvent::Request { body, .. }] if body == &long)
    );
    pair.server
        .respond(id, Err(RemoteError::new(ErrorCode::Internal, "no")));
    pair.run();
    assert!(matches!(
        &pair.client_events[..],
        [ClientEvent::Pong { .. }, ClientEvent::Response { result: Err(error), .. }]
            if error.code == ErrorCode::Internal
    ));
}

#[test]
fn a_request_past_the_servers_limit_is_refused_before_it_is_sent() {
    let mut pair = Pair::open(
        Limits::default(),
        Limits::with(|limits| {
            limits.max_request = 1_000;
        }),
    );
    let request = pair
        .client
        .request(1, vec![0; 1_001], RequestOptions::default());
    assert_eq!(request, Err(RequestError::TooLarge(1_000)));
    assert!(
        pair.client
            .request(1, vec![0; 1_000], RequestOptions::default())
            .is_ok()
    );
}

#[test]
fn requests_in_flight_are_limited_on_both_sides() {
    let limits = Limits::with(|limits| {
        limits.max_requests = 3;
    });
    let mut pair = Pair::open(Limits::default(), limits);
    for _ in 0..3 {
        pair.request(StreamKind::None);
    }
    let fourth = pair
        .client
        .request(1, Bytes::new(), RequestOptions::default());
    assert_eq!(fourth, Err(RequestError::TooMany(3)));
    pair.run();
    // A client that does not keep to it is told.
    let frame = Frame::Request {
        id: 100,
        op: 1,
        total: 0,
        chunk: Bytes::new().into(),
    };
    pair.server.handle_input(Time::ZERO, encoded(&frame));
    pair.server.handle_input(Time::ZERO, encoded(&Frame::Drain));
    let answer = pair.server.poll_transmit(usize::MAX).unwrap().to_vec();
    assert_eq!(
        answer[1..5],
        [
            0x11,
            0x40,
            100,
            ErrorCode::ResourceExhausted.to_wire() as u8
        ]
    );
}

#[test]
fn stream_messages_keep_boundaries_and_credit_bounds_them() {
    let client = Limits::with(|limits| {
        limits.stream_window = 10_000;
        limits.connection_window = 20_000;
    });
    let mut pair = Pair::open(client, Limits::default());
    let id = pair.stream(StreamKind::ToClient);
    pair.client_events.clear();
    let sizes = [1usize, 100, 9_000, 40_000, 16_384, 16_385, 5];
    let mut queued = 0;
    let mut got = Vec::new();
    for _ in 0..10_000 {
        while queued < sizes.len() {
            let message = vec![queued as u8; sizes[queued]];
            if pair.server.send(id, queued as u64, message).is_err() {
                break;
            }
            queued += 1;
        }
        pair.run();
        let events = std::mem::take(&mut pair.client_events);
        for event in events {
            if let ClientEvent::Message {
                seq, payload, cost, ..
            } = event
            {
                got.push((seq, payload.to_vec()));
                pair.client.consume(id, cost);
            }
        }
        if got.len() == sizes.len() {
            break;
        }
    }
    let expected: Vec<_> = sizes
        .iter()
        .enumerate()
        .map(|(seq, size)| (seq as u64, vec![seq as u8; *size]))
        .collect();
    assert_eq!(got, expected);
    pair.server.end(id, None);
    pair.run();
    assert_eq!(
        pair.client_events.last(),
        Some(&ClientEvent::Ended { id, error: None })
    );
    assert_eq!(pair.server.streams(), 0);
}

#[test]
fn an_unread_stream_stops_its_sender_and_nobody_else() {
    let client = Limits::with(|limits| {
        limits.stream_window = 10_000;
        limits.connection_window = 1 << 20;
    });
    let mut pair = Pair::open(
        client,
        Limits::with(|limits| {
            limits.stream_queue = 10_000;
        }),
    );
    let slow = pair.stream(StreamKind::ToClient);
    let fast = pair.stream(StreamKind::ToClient);
    let mut taken = 0;
    while pair.server.send(slow, taken, vec![0; 1_000]).is_ok() {
        taken += 1;
        pair.run();
        assert!(taken < 100, "bounded by window and queue");
    }
    for seq in 0..200 {
        pair.server.send(fast, seq, vec![1; 1_000]).unwrap();
        pair.run();
        for event in std::mem::take(&mut pair.client_events) {
            if let ClientEvent::Message { id, cost, .. } = event
                && id == fast
            {
                pair.client.consume(id, cost);
            }
        }
    }
    // The slow stream goes on when its client gives it up; its credit returns.
    pair.client.abandon(slow);
    pair.run();
    assert!(matches!(
        pair.server_events.last(),
        Some(ServerEvent::Cancelled { stream: true, .. })
    ));
    assert_eq!(pair.server.streams(), 1);
}

#[test]
fn a_full_queue_tells_when_there_is_room() {
    let client = Limits::with(|limits| {
        limits.stream_window = 2_000;
    });
    let mut pair = Pair::open(
        client,
        Limits::with(|limits| {
            limits.stream_queue = 4_000;
        }),
    );
    let id = pair.stream(StreamKind::ToClient);
    pair.client_events.clear();
    let mut seq = 0;
    while pair.server.send(id, seq, vec![0; 1_000]).is_ok() {
        seq += 1;
    }
    pair.server_events.clear();
    for _ in 0..100 {
        pair.run();
        for event in std::mem::take(&mut pair.client_events) {
            if let ClientEvent::Message { cost, .. } = event {
                pair.client.consume(id, cost);
            }
        }
    }
    assert!(pair.server_events.contains(&ServerEvent::Room { id }));
}

#[test]
fn publishing_is_acknowledged() {
    let mut pair = Pair::open(Limits::default(), Limits::default());
    let id = pair.request(StreamKind::ToServer);
    pair.run();
    pair.server
        .respond_stream(id, Vec::new(), StreamKind::ToServer)
        .unwrap();
    pair.run();
    for seq in 1..=3 {
        pair.client.send(id, seq, vec![0; 20_000]).unwrap();
    }
    pair.client.finish(id);
    pair.run();
    let mut seen = Vec::new();
    for event in std::mem::take(&mut pair.server_events) {
        if let ServerEvent::Message {
            seq, payload, cost, ..
        } = event
        {
            assert_eq!(payload.len(), 20_000);
            seen.push(seq);
            pair.server.consume(id, cost);
            pair.server.acknowledge(id, seq, false);
        }
    }
    pair.run();
    assert_eq!(seen, [1, 2, 3]);
    assert!(matches!(
        pair.client_events.last(),
        Some(ClientEvent::Acknowledged {
            seq: 3,
            may_be_dropped: false,
            ..
        })
    ));
}

#[test]
fn deadlines_expire_and_late_answers_are_dropped() {
    let mut pair = Pair::open(Limits::default(), Limits::default());
    let options = RequestOptions::new(StreamKind::None).deadline(Some(Time::from_millis(100)));
    let id = pair.client.request(1, Bytes::new(), options).unwrap();
    pair.run();
    assert_eq!(pair.client.poll_timeout(), Some(Time::from_millis(100)));
    pair.client.handle_timeout(Time::from_millis(100));
    pair.run();
    assert_eq!(pair.client_events, [ClientEvent::Expired { id }]);
    assert!(matches!(
        pair.server_events.last(),
        Some(ServerEvent::Cancelled { stream: false, .. })
    ));
    pair.server.respond(id, Ok(vec![0; 100_000]));
    pair.run();
    assert_eq!(pair.client_events.len(), 1, "{:?}", pair.client_events);
    assert!(!pair.client.is_closed());
}

#[test]
fn a_silent_server_is_noticed() {
    let mut pair = Pair::open(Limits::default(), Limits::default());
    let due = pair.client.poll_timeout().unwrap();
    pair.client.handle_timeout(due);
    assert!(pair.client.poll_transmit(usize::MAX).is_some(), "a ping");
    let answer_due = Time::from_millis(5_000 + 20_000);
    while let Some(at) = pair.client.poll_timeout().filter(|at| *at <= answer_due) {
        pair.client.handle_timeout(at);
        if pair.client.is_closed() {
            break;
        }
    }
    assert_eq!(
        pair.client.poll_event(),
        Some(ClientEvent::Closed(CloseReason::Silent))
    );
}

#[test]
fn hostile_frames_end_the_connection_with_a_reason() {
    let data = |id| Frame::Data {
        id,
        seq: 0,
        total: 1,
        chunk: vec![1].into(),
    };
    let request = |id| Frame::Request {
        id,
        op: 1,
        total: 0,
        chunk: Bytes::new().into(),
    };
    let cases: Vec<(Vec<Frame>, &str)> = vec![
        (vec![data(5)], "was never made"),
        (vec![request(5), request(5)], "ids must increase"),
        (vec![request(5), request(4)], "ids must increase"),
        (vec![request(1), data(1)], "does not continue"),
        (vec![Frame::Cancel { id: 9 }], "was never made"),
        (
            vec![Frame::Response {
                id: 1,
                code: 0,
                total: 0,
                chunk: Bytes::new().into(),
            }],
            "a client does not send this",
        ),
        (
            vec![
                request(1),
                Frame::More {
                    id: 1,
                    chunk: vec![1].into(),
                },
            ],
            "does not continue",
        ),
    ];
    for (frames, expected) in cases {
        let mut pair = Pair::open(Limits::default(), Limits::default());
        for frame in &frames {
            pair.server.handle_input(Time::ZERO, encoded(frame));
        }
        pair.run();
        let said = match pair.client_events.last() {
            Some(ClientEvent::Closed(CloseReason::Peer(error))) => error.to_string(),
            other => panic!("{frames:?}: {other:?}"),
        };
        assert!(
            said.starts_with("protocol error") && said.contains(expected),
            "{said}"
        );
    }
}

#[test]
fn a_request_whose_parts_exceed_the_reassembly_budget_ends_the_connection() {
    let limits = Limits::with(|limits| {
        limits.reassembly = 300_000;
    });
    let mut pair = Pair::open(Limits::default(), limits);
    for id in [1, 2] {
        let frame = Frame::Request {
            id,
            op: 1,
            total: 200_000,
            chunk: vec![0].into(),
        };
        pair.server.handle_input(Time::ZERO, encoded(&frame));
    }
    assert!(pair.server.is_closed());
}

#[test]
fn garbage_before_the_hello_is_refused_in_words() {
    let mut pair = Pair::with(Limits::default(), Limits::default());
    pair.server
        .handle_input(Time::ZERO, Bytes::from_static(b"GET / HTTP/1.1\r\n\r\n"));
    assert!(pair.server.is_closed());
    let answer = pair.server.poll_transmit(usize::MAX).unwrap();
    pair.client.handle_input(Time::ZERO, answer.to_vec().into());
    let Some(ClientEvent::Closed(CloseReason::Refused { error, .. })) = pair.client.poll_event()
    else {
        panic!("refused");
    };
    assert!(error.message.contains("another protocol"), "{error}");
}

#[test]
fn other_versions_are_refused_in_words() {
    let mut pair = Pair::with(Limits::default(), Limits::default());
    let envelope = ClientEnvelope {
        versions: (7, 9),
        hello: Bytes::new(),
    };
    pair.server.handle_input(Time::ZERO, envelope.encode());
    let answer = pair.server.poll_transmit(usize::MAX).unwrap().to_vec();
    let selium_remote_client_protocol::envelope::Envelope::Complete(
        ServerEnvelope::Refused { error, versions },
        _,
    ) = ServerEnvelope::decode(&answer)
    else {
        panic!("refused");
    };
    assert_eq!((error.code, versions), (ErrorCode::Unsupported, (1, 1)));
}

#[test]
fn version_0_3_3_is_known_on_both_sides() {
    let mut pair = Pair::with(Limits::default(), Limits::default());
    let _ = pair.client.poll_transmit(usize::MAX);
    pair.client
        .handle_input(Time::ZERO, legacy::error_response("no").into());
    assert_eq!(
        pair.client.poll_event(),
        Some(ClientEvent::Closed(CloseReason::Legacy))
    );

    pair.server
        .handle_input(Time::ZERO, Bytes::from_static(b"\x10\0\0\0RMCL\0\0\0\0"));
    let answer = pair.server.poll_transmit(usize::MAX).unwrap().to_vec();
    assert_eq!(&answer[8..12], b"RMCL");
    assert!(pair.server.is_closed());
}

#[test]
fn a_client_sends_nothing_behind_its_hello() {
    let mut pair = Pair::with(Limits::default(), Limits::default());
    let first = pair.client.poll_transmit(usize::MAX).unwrap();
    assert!((8..=1_000).contains(&first.len()), "{}", first.len());
    assert_eq!(first.parts.len(), 1, "one write");
    let refused = pair
        .client
        .request(1, Bytes::new(), RequestOptions::default());
    assert_eq!(refused, Err(RequestError::NotOpen));
    assert_eq!(pair.client.poll_transmit(usize::MAX), None);
}

#[test]
fn requests_that_wait_are_bounded() {
    let limits = Limits::with(|limits| {
        limits.control_queue = 500_000;
    });
    let mut pair = Pair::open(limits, Limits::default());
    let mut start = || {
        pair.client.request(
            op::PROCESS_START,
            vec![0; 200_000],
            RequestOptions::default(),
        )
    };
    assert!(start().is_ok() && start().is_ok());
    assert_eq!(start(), Err(RequestError::Busy(500_000)));
    pair.run();
    assert!(!pair.client.is_closed());
    assert_eq!(pair.server_events.len(), 2);
}

#[test]
fn gaps_cost_the_same_on_both_sides() {
    let client = Limits::with(|limits| {
        limits.stream_window = 200;
    });
    let mut pair = Pair::open(client, Limits::default());
    let id = pair.stream(StreamKind::ToClient);
    for seq in 0..50 {
        pair.server.gap(id, 2 * seq, Some(1)).unwrap();
        pair.server.send(id, 2 * seq, vec![1; 10]).unwrap();
    }
    let mut seen = 0;
    for _ in 0..200 {
        pair.run();
        for event in std::mem::take(&mut pair.client_events) {
            if let ClientEvent::Message { cost, .. } | ClientEvent::Gap { cost, .. } = event {
                seen += 1;
                pair.client.consume(id, cost);
            }
        }
    }
    assert!(!pair.client.is_closed());
    assert_eq!(seen, 100);
}

#[test]
fn an_answer_nobody_reads_closes_the_connection() {
    let limits = Limits::with(|limits| {
        limits.control_queue = 50_000;
    });
    let mut pair = Pair::open(Limits::default(), limits);
    let ids: Vec<_> = (0..10).map(|_| pair.request(StreamKind::None)).collect();
    pair.run();
    for id in ids {
        pair.server.respond(id, Ok(vec![0; 10_000]));
    }
    assert!(pair.server.is_closed());
    pair.run();
    assert!(matches!(
        pair.client_events.last(),
        Some(ClientEvent::Closed(CloseReason::Peer(error)))
            if error.code == ErrorCode::ResourceExhausted
    ));
}

#[test]
fn a_draining_server_finishes_what_runs() {
    let mut pair = Pair::open(Limits::default(), Limits::default());
    let id = pair.request(StreamKind::None);
    pair.run();
    pair.server.drain();
    pair.run();
    assert_eq!(pair.client_events, [ClientEvent::Draining]);
    let refused = pair
        .client
        .request(1, Bytes::new(), RequestOptions::default());
    assert_eq!(refused, Err(RequestError::Draining));
    pair.server.respond(id, Ok(Vec::new()));
    pair.run();
    assert!(matches!(
        pair.client_events.last(),
        Some(ClientEvent::Response { result: Ok(_), .. })
    ));
}
