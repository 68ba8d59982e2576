//! Following logs over a real connection.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use bytes::Bytes;
use common::{
    Peer, Server,
    runtime::{apply, runtime_test},
    soon,
};
use futures_util::StreamExt as _;
use selium_remote_client::{
    Client, ClientError, ErrorCode, LogItem, LogOptions, LogState, LogStream, Process, RemoteError,
};
use selium_remote_client_protocol::{
    RequestId, SendError,
    ops::{FollowRequest, FollowStarted, ProcessRef, op},
    server::{ServerEvent, StreamKind},
};
use tokio::sync::oneshot;

/// A record with nothing but a message, as a guest's FlatBuffers builder writes it.
fn record(message: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(20u32.to_le_bytes()); // the root lies at 20
    bytes.extend([10, 0, 8, 0, 0, 0, 0, 0, 4, 0]); // vtable at 4: 10 bytes, table of 8, message at 4
    bytes.extend([0; 6]);
    bytes.extend(16u32.to_le_bytes()); // the vtable lies 16 bytes before
    bytes.extend(4u32.to_le_bytes()); // the message lies 4 bytes on
    bytes.extend((message.len() as u32).to_le_bytes());
    bytes.extend(message.as_bytes());
    bytes.push(0);
    bytes
}

fn started() -> Vec<u8> {
    let process = ProcessRef::new(5, "hello");
    FollowStarted::new(process, 3, 6, LogState::Attached).encode()
}

/// Opens the stream that a client asks for.
async fn open(client: &Client, peer: &mut Peer, options: LogOptions) -> (LogStream, RequestId) {
    let serve = async {
        let (id, _) = peer.request(op::LOG_FOLLOW).await;
        peer.act(move |core| {
            core.respond_stream(id, started(), StreamKind::ToClient)
                .unwrap();
        });
        id
    };
    let process = Process::new(client, 5);
    let (stream, id) = soon(async { tokio::join!(process.logs(options), serve) }).await;
    (stream.unwrap(), id)
}

async fn message(stream: &mut LogStream) -> (u64, String) {
    match soon(stream.next()).await {
        Some(Ok(LogItem::Record { sequence, record })) => (sequence, record.message),
        other => panic!("{other:?}"),
    }
}

#[apply(runtime_test!)]
async fn a_log_is_followed_with_gaps_to_its_end() {
    let server = Server::new();
    let (client, mut peer) = server.connect().await;
    let (mut stream, id) = open(&client, &mut peer, LogOptions::default()).await;
    assert_eq!(
        (stream.process().0, stream.log_state()),
        (5, LogState::Attached)
    );
    assert_eq!(
        (
            stream.first_sequence(),
            stream.next_sequence(),
            stream.position()
        ),
        (3, 6, 3)
    );
    peer.act(move |core| {
        core.send(id, 3, record("one")).unwrap();
        core.gap(id, 5, Some(1)).unwrap();
        core.send(id, 5, record("two")).unwrap();
        core.send(id, 6, b"no record".to_vec()).unwrap();
        core.gap(id, 9, None).unwrap();
        let stopped = RemoteError::new(ErrorCode::Cancelled, "the process was stopped");
        core.end(id, Some(stopped));
    });
    assert_eq!(message(&mut stream).await, (3, "one".to_owned()));
    let gap = soon(stream.next()).await.unwrap().unwrap();
    assert_eq!(
        gap,
        LogItem::Gap {
            next: 5,
            count: Some(1)
        }
    );
    assert_eq!(message(&mut stream).await, (5, "two".to_owned()));
    assert_eq!(stream.position(), 6);
    match soon(stream.next()).await {
        Some(Ok(LogItem::Unreadable {
            sequence: 6, bytes, ..
        })) => {
            assert_eq!(bytes, Bytes::from_static(b"no record"));
        }
        other => panic!("{other:?}"),
    }
    let gap = soon(stream.next()).await.unwrap().unwrap();
    assert_eq!(
        gap,
        LogItem::Gap {
            next: 9,
            count: None
        }
    );
    assert_eq!(stream.position(), 9);
    assert!(stream.end_reason().is_none());
    assert!(soon(stream.next()).await.is_none());
    assert_eq!(stream.end_reason(), Some("the process was stopped"));
    assert!(soon(stream.next()).await.is_none(), "it stays over");
    assert!(soon(client.ping()).await.is_ok());
}

#[apply(runtime_test!)]
async fn options_are_passed_on() {
    let server = Server::new();
    let (client, mut peer) = server.connect().await;
    let options = LogOptions::new().tail(10).since(4).follow(false);
    let process = Process::new(&client, 5);
    let serve = async {
        let (id, body) = peer.request(op::LOG_FOLLOW).await;
        let request = FollowRequest::decode(&body).unwrap();
        assert_eq!(
            (request.tail, request.since, request.no_follow),
            (Some(10), Some(4), true)
        );
        assert_eq!(request.target, "0000000000000005");
        let error = RemoteError::new(ErrorCode::NotFound, "no process");
        peer.act(move |core| core.respond(id, Err(error)));
    };
    let (stream, ()) = soon(async { tokio::join!(process.logs(options), serve) }).await;
    assert_eq!(stream.unwrap_err().code(), Some(ErrorCode::NotFound));
}

#[apply(runtime_test!)]
async fn a_server_that_gives_up_is_an_error() {
    let server = Server::new();
    let (client, mut peer) = server.connect().await;
    let (mut stream, id) = open(&client, &mut peer, LogOptions::default()).await;
    let error = RemoteError::new(ErrorCode::ResourceExhausted, "too many followers");
    peer.act(move |core| core.reset(id, error));
    let error = soon(stream.next()).await.unwrap().unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::ResourceExhausted));
    assert!(soon(stream.next()).await.is_none());
}

#[apply(runtime_test!)]
async fn a_lost_connection_is_an_error_behind_what_had_come() {
    let server = Server::new();
    let (client, mut peer) = server.connect().await;
    let (mut stream, id) = open(&client, &mut peer, LogOptions::default()).await;
    let (tell, told) = oneshot::channel();
    peer.act(move |core| {
        core.send(id, 3, record("one")).unwrap();
        core.close(RemoteError::new(ErrorCode::Unavailable, "bye"));
        let _ = tell.send(());
    });
    soon(told).await.unwrap();
    // Closing drops what was queued, so that the record may have come or not; the error comes in any case.
    let error = loop {
        match soon(stream.next()).await {
            Some(Ok(_)) => {}
            Some(Err(error)) => break error,
            None => panic!("a lost connection is no end"),
        }
    };
    assert!(matches!(error, ClientError::Closed(_)), "{error:?}");
    assert!(error.to_string().contains("bye"));
    assert!(soon(stream.next()).await.is_none());
    drop(stream);
}

const FIREHOSE: u64 = 2_000;

/// Sends records of a firehose from `next` on, as many as the stream's queue takes; answers where it stopped.
async fn pour(peer: &Peer, id: RequestId, mut next: u64) -> u64 {
    let (tell, poured) = oneshot::channel();
    peer.act(move |core| {
        while next < FIREHOSE {
            match core.send(id, next, record(&"x".repeat(1_000))) {
                Ok(()) => next += 1,
                Err(SendError::Full) => break,
                Err(error) => panic!("{error}"),
            }
        }
        let _ = tell.send(next);
    });
    soon(poured).await.unwrap()
}

#[apply(runtime_test!)]
async fn a_firehose_waits_for_its_reader_and_delays_nobody() {
    let server = Server::new();
    let (client, mut peer) = server.connect().await;
    let (mut stream, id) = open(&client, &mut peer, LogOptions::default()).await;
    let mut sent = 0;
    // Nobody reads: what may be on its way and what may wait fill up.
    loop {
        let before = sent;
        sent = pour(&peer, id, sent).await;
        assert!(sent < FIREHOSE, "the queue is bounded");
        assert!(soon(client.ping()).await.is_ok());
        if sent == before {
            break;
        }
    }
    let serve = async {
        loop {
            if let ServerEvent::Request { id, .. } = peer.event().await {
                let info = selium_remote_client::ServerInfo::default();
                peer.act(move |core| core.respond(id, Ok(info.encode())));
                break;
            }
        }
    };
    let (info, ()) = soon(async { tokio::join!(client.info(), serve) }).await;
    assert!(info.is_ok(), "requests pass a stream that nobody reads");

    for expected in 0..FIREHOSE {
        while sent <= expected {
            sent = pour(&peer, id, sent).await;
            if sent <= expected {
                assert!(matches!(peer.event().await, ServerEvent::Room { .. }));
            }
        }
        assert_eq!(message(&mut stream).await.0, expected);
    }
}

#[apply(runtime_test!)]
async fn a_dropped_stream_ends_on_the_server_and_returns_its_credit() {
    let server = Server::new();
    let (client, mut peer) = server.connect().await;
    // Each stream fills its window (64 KiB); the connection's holds four of them. Ten in a row need it back.
    for _ in 0..10 {
        let (mut stream, id) = open(&client, &mut peer, LogOptions::default()).await;
        peer.act(move |core| {
            for sequence in 0..60 {
                core.send(id, sequence, record(&"x".repeat(1_000))).unwrap();
            }
        });
        assert_eq!(message(&mut stream).await.0, 0);
        drop(stream);
        match peer.event().await {
            ServerEvent::Cancelled {
                id: cancelled,
                stream: true,
            } => assert_eq!(cancelled, id),
            other => panic!("{other:?}"),
        }
    }
}

#[apply(runtime_test!)]
async fn a_dropped_follow_leaves_no_stream() {
    let server = Server::new();
    let (client, mut peer) = server.connect().await;
    let process = Process::new(&client, 5);
    let mut follow = Box::pin(process.log_channel());
    assert!(futures_util::FutureExt::now_or_never(&mut follow).is_none());
    let (id, _) = peer.request(op::LOG_FOLLOW).await;
    peer.act(move |core| {
        core.respond_stream(id, started(), StreamKind::ToClient)
            .unwrap();
        core.send(id, 3, record("one")).unwrap();
    });
    // The answer has arrived when the pong behind it has.
    assert!(soon(client.ping()).await.is_ok());
    drop(follow);
    assert!(matches!(
        peer.event().await,
        ServerEvent::Cancelled { stream: true, .. }
    ));
}

#[apply(runtime_test!)]
async fn a_log_is_a_stream() {
    let server = Server::new();
    let (client, mut peer) = server.connect().await;
    let (stream, id) = open(&client, &mut peer, LogOptions::default()).await;
    peer.act(move |core| {
        core.send(id, 3, record("one")).unwrap();
        core.send(id, 4, record("two")).unwrap();
        core.end(id, None);
    });
    let items: Vec<_> = soon(stream.fuse().collect()).await;
    assert_eq!(items.len(), 2);
    assert!(items.iter().all(Result::is_ok));
}
