//! How requests and streams end: cancelled, finished, reset, ended while nobody reads.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod common;

use bytes::Bytes;
use common::Pair;
use selium_remote_client_protocol::{
    CloseReason, ErrorCode, Limits, Payload, RemoteError, SendError, Time,
    client::{ClientConfig, ClientConnection, ClientEvent, RequestOptions, StreamKind},
    envelope::SERVER_MAGIC,
    frame::Frame,
    hello::ClientHello,
    limits::MAX_WRITE,
    server::{ServerConnection, ServerEvent},
};

fn cancelled(event: Option<&ClientEvent>) -> bool {
    matches!(
        event,
        Some(ClientEvent::Ended { error: Some(error), .. }) if error.code == ErrorCode::Cancelled
    )
}

fn reset() -> RemoteError {
    RemoteError::new(ErrorCode::Internal, "reset")
}

#[test]
fn a_cancel_that_crosses_the_opening_of_a_stream_ends_it_on_both_sides() {
    let mut pair = Pair::open(Limits::default(), Limits::default());
    let id = pair.request(StreamKind::ToClient);
    pair.run();
    pair.server
        .respond_stream(id, Vec::new(), StreamKind::ToClient)
        .unwrap();
    pair.server.send(id, 0, vec![1]).unwrap();
    pair.client.cancel(id);
    pair.run();
    assert_eq!(pair.server.streams(), 0);
    assert!(matches!(
        pair.client_events[0],
        ClientEvent::Response { result: Ok(_), .. }
    ));
    assert!(
        cancelled(pair.client_events.last()),
        "{:?}",
        pair.client_events
    );
    assert_eq!(pair.client_events.len(), 2);
    pair.assert_open();
}

#[test]
fn cancelling_an_open_stream_ends_it() {
    let mut pair = Pair::open(Limits::default(), Limits::default());
    let id = pair.stream(StreamKind::ToClient);
    pair.server.send(id, 0, vec![1; 100_000]).unwrap();
    pair.step_down();
    pair.client.cancel(id);
    pair.run();
    assert!(
        cancelled(pair.client_events.last()),
        "{:?}",
        pair.client_events
    );
    assert_eq!(pair.server.streams(), 0);
    pair.assert_open();
}

#[test]
fn a_request_that_was_cancelled_opens_no_stream() {
    let mut pair = Pair::open(Limits::default(), Limits::default());
    let id = pair.request(StreamKind::ToClient);
    pair.run();
    pair.client.cancel(id);
    pair.run();
    let opened = pair
        .server
        .respond_stream(id, Vec::new(), StreamKind::ToClient);
    assert_eq!(opened, Err(SendError::NotOpen));
    pair.run();
    assert_eq!(pair.server.requests(), 0);
    assert!(matches!(
        &pair.client_events[..],
        [ClientEvent::Response { result: Err(error), .. }] if error.code == ErrorCode::Cancelled
    ));
}

#[test]
fn a_long_answer_survives_the_end_of_its_stream() {
    // Cancelled by the client, reset by the server: before and behind the answer's first frame.
    for (by_client, begun) in [(true, false), (true, true), (false, false), (false, true)] {
        let mut pair = Pair::open(Limits::default(), Limits::default());
        let id = pair.request(StreamKind::ToClient);
        pair.run();
        if by_client {
            pair.client.cancel(id);
        }
        let body = vec![7; 60_000];
        pair.server
            .respond_stream(id, body, StreamKind::ToClient)
            .unwrap();
        pair.server.send(id, 0, vec![1; 1_000]).unwrap();
        if begun {
            let first = pair.server.poll_transmit(20_000).unwrap();
            pair.client.handle_input(Time::ZERO, first.to_vec().into());
        }
        if by_client {
            pair.step_up();
        } else {
            pair.server.reset(id, reset());
        }
        pair.run();
        pair.assert_open();
        let [
            ClientEvent::Response { result, .. },
            ClientEvent::Ended { error, .. },
        ] = &pair.client_events[..]
        else {
            panic!("by the client: {by_client}, begun: {begun}");
        };
        assert_eq!(result.as_ref().unwrap().len(), 60_000);
        assert!(error.is_some());
        assert_eq!(pair.server.streams(), 0);
    }
}

#[test]
fn what_a_stream_left_unread_is_given_back_when_the_server_ends_it() {
    for abruptly in [true, false] {
        let limits = Limits::with(|limits| {
            limits.connection_window = 10_000;
            limits.stream_window = 10_000;
        });
        let mut pair = Pair::open(Limits::default(), limits);
        let unread = pair.stream(StreamKind::ToServer);
        let other = pair.stream(StreamKind::ToServer);
        pair.client.send(unread, 1, vec![0; 9_968]).unwrap();
        pair.run();
        pair.client.send(other, 1, vec![0; 5_000]).unwrap();
        pair.run();
        if abruptly {
            pair.server.reset(unread, reset());
        } else {
            pair.server.end(unread, None);
        }
        pair.run();
        let arrived = pair
            .server_events
            .iter()
            .any(|event| matches!(event, ServerEvent::Message { id, .. } if *id == other));
        assert!(arrived, "abruptly: {abruptly}");
    }
}

#[test]
fn nothing_is_sent_behind_the_end_of_a_half() {
    let mut pair = Pair::open(Limits::default(), Limits::default());
    let id = pair.stream(StreamKind::ToServer);
    pair.client.send(id, 1, vec![1]).unwrap();
    pair.client.finish(id);
    assert_eq!(pair.client.send(id, 2, vec![2]), Err(SendError::NotOpen));
    pair.run();
    assert_eq!(pair.client.send(id, 3, vec![3]), Err(SendError::NotOpen));
    pair.client.finish(id);
    pair.run();
    pair.assert_open();
    let ends = |event: &&ServerEvent| matches!(event, ServerEvent::Ended { .. });
    assert_eq!(pair.server_events.iter().filter(ends).count(), 1);
}

#[test]
fn only_a_stream_to_the_server_is_finished() {
    let mut pair = Pair::open(Limits::default(), Limits::default());
    let waiting = pair.request(StreamKind::ToServer);
    let reading = pair.stream(StreamKind::ToClient);
    pair.client.finish(waiting);
    pair.client.finish(reading);
    assert_eq!(pair.client.poll_transmit(usize::MAX), None);
    pair.server
        .respond_stream(waiting, Vec::new(), StreamKind::ToServer)
        .unwrap();
    pair.run();
    assert_eq!(pair.client.send(waiting, 1, vec![1]), Ok(()));
}

#[test]
fn a_half_ends_once() {
    let mut pair = Pair::open(Limits::default(), Limits::default());
    let id = pair.stream(StreamKind::ToServer);
    let end = Frame::End {
        id: id.get(),
        error: None,
    };
    for _ in 0..2 {
        pair.server.handle_input(Time::ZERO, end.to_bytes());
    }
    pair.collect();
    let [
        ServerEvent::Ended { .. },
        ServerEvent::Closed(CloseReason::Protocol(_)),
    ] = &pair.server_events[..]
    else {
        panic!("{:?}", pair.server_events);
    };
}

#[test]
fn a_request_is_said_to_be_cancelled_once() {
    let mut pair = Pair::open(Limits::default(), Limits::default());
    let id = pair.request(StreamKind::None);
    pair.run();
    pair.server_events.clear();
    for _ in 0..3 {
        let cancel = Frame::Cancel { id: id.get() };
        pair.server.handle_input(Time::ZERO, cancel.to_bytes());
    }
    pair.collect();
    assert_eq!(pair.server_events.len(), 1, "{:?}", pair.server_events);
}

#[test]
fn streams_that_end_unread_count_until_their_end_was_sent() {
    let client = Limits::with(|limits| {
        limits.stream_window = 1_000;
    });
    let server = Limits::with(|limits| {
        limits.max_streams = 2;
    });
    let mut pair = Pair::open(client, server);
    let ids = [(); 2].map(|()| pair.stream(StreamKind::ToClient));
    for id in ids {
        // The first fills the window, the second had begun within it, the third waits.
        for seq in 0..3 {
            let length = if seq == 0 { 900 } else { 30_000 };
            pair.server.send(id, seq, vec![0; length]).unwrap();
        }
        pair.server.end(id, None);
    }
    pair.run();
    let third = pair.request(StreamKind::ToClient);
    pair.run();
    let opened = pair
        .server
        .respond_stream(third, Vec::new(), StreamKind::ToClient);
    assert_eq!(opened, Err(SendError::Full), "the client reads nothing");
    // One is read to its end, the other is given up: both make room.
    pair.read_all(&ids[..1]);
    pair.stream(StreamKind::ToClient);
    pair.client.abandon(ids[1]);
    pair.run();
    pair.stream(StreamKind::ToClient);
}

#[test]
fn a_stream_that_ended_unread_and_is_given_up_holds_no_reassembly() {
    let client = Limits::with(|limits| {
        limits.stream_window = 1_000;
        limits.reassembly = 100_000;
        limits.max_message = 100_000;
    });
    let mut pair = Pair::open(client, Limits::default());
    let id = pair.stream(StreamKind::ToClient);
    // Credit is short behind the first message, so that the second is begun and stays so.
    pair.server.send(id, 0, vec![0; 900]).unwrap();
    pair.server.send(id, 1, vec![0; 60_000]).unwrap();
    pair.server.end(id, None);
    pair.run();
    pair.client.abandon(id);
    let request = pair.request(StreamKind::None);
    pair.run();
    pair.client_events.clear();
    pair.server.respond(request, Ok(vec![0; 80_000]));
    pair.run();
    assert!(
        matches!(
            pair.client_events[..],
            [ClientEvent::Response { result: Ok(_), .. }]
        ),
        "the answer waits for reassembly that nobody uses"
    );
}

#[test]
fn bytes_behind_the_hello_are_refused_in_words_however_they_arrive() {
    let limits = Limits::default();
    let hello = ClientHello::new([1; 16], [2; 16], &limits);
    let mut client = ClientConnection::new(ClientConfig::new(hello, limits));
    let hello = client.poll_transmit(usize::MAX).unwrap().to_vec();
    for apart in [false, true] {
        let mut server = ServerConnection::new(limits);
        if apart {
            server.handle_input(Time::ZERO, hello.clone().into());
            server.handle_input(Time::ZERO, Bytes::from_static(b"x"));
        } else {
            let all = [&hello[..], b"x"].concat();
            server.handle_input(Time::ZERO, all.into());
        }
        assert!(server.is_closed());
        let answer = server
            .poll_transmit(usize::MAX)
            .map(|answer| answer.to_vec());
        let answer = answer.unwrap_or_default();
        assert!(answer.starts_with(&SERVER_MAGIC), "apart: {apart}");
    }
}

#[test]
fn a_connection_lost_in_the_middle_of_the_hello_is_lost_and_not_foreign() {
    let cases = [
        (&b""[..], CloseReason::Lost),
        (b"SLRS\r", CloseReason::Lost),
        (b"SLRS\r\n\x1a\n\0\x01", CloseReason::Lost),
        (b"HTTP", CloseReason::Foreign),
    ];
    for (bytes, expected) in cases {
        let limits = Limits::default();
        let hello = ClientHello::new([1; 16], [2; 16], &limits);
        let mut client = ClientConnection::new(ClientConfig::new(hello, limits));
        client.handle_input(Time::ZERO, Bytes::from_static(bytes));
        client.handle_eof(Time::ZERO);
        assert_eq!(client.poll_event(), Some(ClientEvent::Closed(expected)));
    }
}

#[test]
fn open_streams_are_no_requests_in_flight() {
    let limits = Limits::with(|limits| {
        limits.max_requests = 2;
        limits.max_streams = 4;
    });
    let mut pair = Pair::open(Limits::default(), limits);
    let mut streams: Vec<_> = (0..4).map(|_| pair.stream(StreamKind::ToClient)).collect();
    let request = |pair: &mut Pair| {
        pair.client
            .request(1, Bytes::new(), RequestOptions::default())
    };
    assert!(request(&mut pair).is_ok() && request(&mut pair).is_ok());
    assert!(request(&mut pair).is_err(), "two are in flight");
    for id in streams.drain(..) {
        pair.client.abandon(id);
    }
    assert!(request(&mut pair).is_err(), "still two");
}

#[test]
fn refusing_a_client_that_was_accepted_says_goodbye() {
    let mut pair = Pair::open(Limits::default(), Limits::default());
    pair.server.refuse(reset());
    pair.run();
    assert_eq!(
        pair.client_events,
        [ClientEvent::Closed(CloseReason::Peer(reset()))]
    );
    pair.server.refuse(reset());
    assert_eq!(pair.server.poll_transmit(usize::MAX), None);
}

#[test]
fn an_answer_to_a_request_that_was_not_sent_is_none() {
    let mut pair = Pair::open(Limits::default(), Limits::default());
    let long = pair
        .client
        .request(1, vec![0; 29_000], RequestOptions::default())
        .unwrap();
    let short = pair.request(StreamKind::ToClient);
    assert!(short > long);
    let answer = Frame::Response {
        id: short.get(),
        code: 0,
        total: 0,
        chunk: Payload::new(),
    };
    pair.client.handle_input(Time::ZERO, answer.to_bytes());
    pair.collect();
    assert!(matches!(
        pair.client_events.last(),
        Some(ClientEvent::Closed(CloseReason::Protocol(_)))
    ));
}

#[test]
fn nothing_is_sent_between_the_hello_and_its_answer() {
    let limits = Limits::default();
    let hello = ClientHello::new([1; 16], [2; 16], &limits);
    let mut client = ClientConnection::new(ClientConfig::new(hello, limits));
    assert!(client.poll_transmit(MAX_WRITE).is_some(), "the hello");
    client.ping(Time::ZERO);
    client.drain();
    client.close();
    assert_eq!(client.poll_transmit(MAX_WRITE), None);
}

#[test]
fn an_acknowledgement_does_not_overtake_the_answer_that_opened_the_stream() {
    let mut pair = Pair::open(Limits::default(), Limits::default());
    let id = pair.request(StreamKind::ToServer);
    pair.run();
    pair.server
        .respond_stream(id, vec![0; 40_000], StreamKind::ToServer)
        .unwrap();
    pair.server.acknowledge(id, 0, false);
    pair.run();
    pair.assert_open();
    assert!(matches!(
        pair.client_events[..],
        [ClientEvent::Response { .. }]
    ));
}

#[test]
fn a_stream_that_opens_before_its_request_was_sent_has_one_window() {
    let mut pair = Pair::open(Limits::default(), Limits::default());
    let options = RequestOptions::new(StreamKind::ToServer);
    let id = pair.client.request(1, vec![0; 40_000], options).unwrap();
    let begin = pair.client.poll_transmit(0).unwrap();
    assert!(begin.len() < 20_000, "a part of the request");
    // The server answers at once; what it says of credit before that counts for nothing.
    let frames = [
        Frame::Credit {
            id: id.get(),
            limit: 1 << 40,
        },
        Frame::Response {
            id: id.get(),
            code: 0,
            total: 0,
            chunk: Payload::new(),
        },
    ];
    for frame in frames {
        pair.client.handle_input(Time::ZERO, frame.to_bytes());
    }
    let (mut seq, mut written) = (0, begin.len());
    for _ in 0..100 {
        while pair.client.send(id, seq, vec![0; 10_000]).is_ok() {
            seq += 1;
        }
        while let Some(write) = pair.client.poll_transmit(MAX_WRITE) {
            written += write.len();
        }
    }
    let window = Limits::default().stream_window;
    assert!(written > 40_000 + window / 2, "{written}");
    assert!(written < 40_000 + window + 1_000, "{written}");
}
