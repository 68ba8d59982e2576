//! Requests over a real connection.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::{error::Error as _, time::Duration, time::Instant};

use common::{
    Server,
    runtime::{apply, runtime_test},
    soon,
};
use futures_util::FutureExt as _;
use selium_remote_client::{
    AbiParam, AbiSignature, Capability, ClientError, CloseReason, ErrorCode, ErrorKind, Process,
    ProcessBuilder, RemoteError,
};
use selium_remote_client_protocol::{
    Limits, Time,
    ops::{
        self, Common, ListRequest, ProcessInfo, ProcessList, ProcessRef, ServerInfo, StartRequest,
        op,
    },
    server::{ServerConnection, ServerEvent},
};

fn hello() -> ProcessBuilder {
    ProcessBuilder::new("hello.wasm", "start")
        .name("hello")
        .capability(Capability::ChannelWriter)
        .signature(AbiSignature::new(vec![AbiParam::Buffer], vec![]))
        .arg_utf8("world")
}

fn info(id: u64) -> ProcessInfo {
    let mut info = ProcessInfo::default();
    info.id = id;
    info.name = format!("p{id}");
    info
}

#[apply(runtime_test!)]
async fn the_server_tells_about_itself() {
    let server = Server::new();
    let (client, mut peer) = server.connect().await;
    let serve = async {
        let (id, body) = peer.request(op::SERVER_INFO).await;
        let common = Common::decode(&body).unwrap();
        assert_eq!((common.token, common.deadline_ms), (None, Some(30_000)));
        let mut info = ServerInfo::default();
        info.connections = 1;
        peer.act(move |core| core.respond(id, Ok(info.encode())));
    };
    let (info, ()) = tokio::join!(client.info(), serve);
    assert_eq!(info.unwrap().connections, 1);
}

#[apply(runtime_test!)]
async fn a_process_is_started_and_stopped() {
    let server = Server::new();
    let (client, mut peer) = server.connect().await;
    let serve = async {
        let (id, body) = peer.request(op::PROCESS_START).await;
        assert_eq!(Common::decode(&body).unwrap().token, Some(1));
        let start = StartRequest::decode(&body).unwrap();
        assert_eq!(start.capabilities, [Capability::ChannelWriter]);
        assert_eq!(start.args.len(), 1);
        let process = ProcessRef::new(0xabc, start.name.unwrap());
        peer.act(move |core| core.respond(id, Ok(process.encode())));

        let (id, body) = peer.request(op::PROCESS_STOP).await;
        assert_eq!(Common::decode(&body).unwrap().token, Some(2));
        assert_eq!(ops::decode_target(&body).unwrap(), "0000000000000abc");
        peer.act(move |core| core.respond(id, Ok(ProcessRef::new(0xabc, "hello").encode())));
    };
    let use_it = async {
        let process = Process::start(&client, hello()).await.unwrap();
        assert_eq!((process.handle(), process.name()), (0xabc, Some("hello")));
        assert_eq!(process.id().to_string(), "0000000000000abc");
        process.stop().await.unwrap();
    };
    soon(async { tokio::join!(use_it, serve) }).await;
}

#[apply(runtime_test!)]
async fn the_servers_errors_are_passed_on() {
    let server = Server::new();
    let (client, mut peer) = server.connect().await;
    let serve = async {
        let (id, _) = peer.request(op::PROCESS_START).await;
        let error = RemoteError::new(ErrorCode::AlreadyExists, "`hello` runs").with_field("name");
        peer.act(move |core| core.respond(id, Err(error)));
        id
    };
    let (started, id) = tokio::join!(Process::start(&client, hello()), serve);
    let error = started.unwrap_err();
    assert_eq!(error.to_string(), "already exists: `hello` runs");
    assert_eq!(
        (error.kind(), error.code()),
        (ErrorKind::Remote, Some(ErrorCode::AlreadyExists))
    );
    assert!(error.source().is_none() && !error.is_retryable());
    let ClientError::Remote {
        error,
        operation,
        request,
    } = error
    else {
        panic!("the server's error");
    };
    assert_eq!((operation, request), ("process start", id.get()));
    assert_eq!(error.field.as_deref(), Some("name"));
}

#[apply(runtime_test!)]
async fn wrong_arguments_are_not_sent() {
    let server = Server::new();
    let (client, mut peer) = server.connect().await;
    let error = Process::start(&client, hello().arg_utf8("more"))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    let error = client.stop(&"x".repeat(129)).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "invalid target: it is 129 bytes long, the limit is 128"
    );
    assert_eq!(
        client.inspect("").await.unwrap_err().kind(),
        ErrorKind::InvalidArgument
    );
    client.close().await;
    assert!(
        matches!(peer.event().await, ServerEvent::Closed(_)),
        "nothing came before"
    );
}

#[apply(runtime_test!)]
async fn answers_may_come_in_any_order() {
    let server = Server::new();
    let (client, mut peer) = server.connect().await;
    let serve = async {
        let (first, _) = peer.request(op::PROCESS_INSPECT).await;
        let (second, _) = peer.request(op::PROCESS_INSPECT).await;
        peer.act(move |core| {
            core.respond(second, Ok(info(2).encode()));
            core.respond(first, Ok(info(1).encode()));
        });
    };
    let (first, second, ()) =
        soon(async { tokio::join!(client.process("one"), client.process("two"), serve) }).await;
    assert_eq!((first.unwrap().handle(), second.unwrap().handle()), (1, 2));
}

#[apply(runtime_test!)]
async fn a_long_list_comes_in_pages() {
    let server = Server::new();
    let (client, mut peer) = server.connect().await;
    let serve = async {
        for (cursor, ids, next) in [(0, 1..=3, Some(4)), (4, 4..=5, None)] {
            let (id, body) = peer.request(op::PROCESS_LIST).await;
            let request = ListRequest::decode(&body).unwrap();
            assert_eq!((request.cursor, request.all), (cursor, true));
            let mut list = ProcessList::default();
            list.processes = ids.map(info).collect();
            list.next = next;
            peer.act(move |core| core.respond(id, Ok(list.encode())));
        }
    };
    let (processes, ()) = soon(async { tokio::join!(client.processes(true), serve) }).await;
    let ids: Vec<u64> = processes
        .unwrap()
        .iter()
        .map(|process| process.id)
        .collect();
    assert_eq!(ids, [1, 2, 3, 4, 5]);
}

#[apply(runtime_test!)]
async fn a_list_that_goes_in_circles_is_refused() {
    let server = Server::new();
    let (client, mut peer) = server.connect().await;
    let serve = async {
        let (id, _) = peer.request(op::PROCESS_LIST).await;
        let mut list = ProcessList::default();
        list.next = Some(0);
        peer.act(move |core| core.respond(id, Ok(list.encode())));
    };
    let (processes, ()) = soon(async { tokio::join!(client.processes(false), serve) }).await;
    assert_eq!(processes.unwrap_err().kind(), ErrorKind::Protocol);
}

#[apply(runtime_test!)]
async fn a_long_answer_arrives() {
    let server = Server::new();
    let (client, mut peer) = server.connect().await;
    let serve = async {
        let (id, _) = peer.request(op::PROCESS_LIST).await;
        let mut list = ProcessList::default();
        list.processes = (1..=256)
            .map(|id| {
                let mut process = info(id);
                process.module = "m".repeat(250);
                process.entrypoint = "e".repeat(250);
                process
            })
            .collect();
        peer.act(move |core| core.respond(id, Ok(list.encode())));
    };
    let (processes, ()) = soon(async { tokio::join!(client.processes(true), serve) }).await;
    assert_eq!(processes.unwrap().len(), 256);
}

#[apply(runtime_test!)]
async fn a_dropped_future_gives_its_request_up() {
    let server = Server::new();
    let (client, mut peer) = server.connect().await;
    let mut start = Box::pin(Process::start(&client, hello()));
    assert!((&mut start).now_or_never().is_none());
    let (request, _) = peer.request(op::PROCESS_START).await;
    drop(start);
    match peer.event().await {
        ServerEvent::Cancelled { id, stream: false } => assert_eq!(id, request),
        other => panic!("{other:?}"),
    }
    // A late answer does no harm.
    let late = RemoteError::new(ErrorCode::Cancelled, "cancelled, started as 1").with_process(1);
    peer.act(move |core| core.respond(request, Err(late)));
    assert!(soon(client.ping()).await.is_ok());
}

#[apply(runtime_test!)]
async fn what_is_not_answered_in_time_is_of_unknown_outcome_if_it_changes_something() {
    let server = Server::new();
    let config = server.config().request_timeout(Duration::from_millis(200));
    let (client, mut peer) = server.connect_with(config).await;
    let started = Instant::now();
    let error = soon(client.stop("hello")).await.unwrap_err();
    assert!(started.elapsed() >= Duration::from_millis(200));
    let text = "no answer to `process stop` within 200 ms; outcome unknown: it may have happened; look with \
                `selium ps --all` before trying again";
    assert_eq!(error.to_string(), text);
    assert_eq!(error.operation(), Some("process stop"));
    assert!(error.is_timeout() && !error.is_retryable());

    let error = soon(client.info()).await.unwrap_err();
    assert!(
        matches!(
            error,
            ClientError::Expired {
                changing: false,
                ..
            }
        ),
        "{error:?}"
    );
    assert!(error.is_timeout() && error.is_retryable());

    let (id, body) = peer.request(op::PROCESS_STOP).await;
    assert_eq!(Common::decode(&body).unwrap().deadline_ms, Some(200));
    assert!(
        matches!(peer.event().await, ServerEvent::Cancelled { id: cancelled, .. } if cancelled == id)
    );
}

#[apply(runtime_test!)]
async fn a_goodbye_ends_everything_with_its_reason() {
    let server = Server::new();
    let (client, mut peer) = server.connect().await;
    let serve = async {
        peer.request(op::PROCESS_STOP).await;
        let bye = RemoteError::new(ErrorCode::Unavailable, "the runtime is shutting down");
        peer.act(move |core| core.close(bye));
    };
    let (stopped, ()) = soon(async { tokio::join!(client.stop("hello"), serve) }).await;
    let error = stopped.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
    assert!(!error.is_retryable(), "it may have been stopped");
    for word in ["the runtime is shutting down", "outcome unknown"] {
        assert!(error.to_string().contains(word), "{error}");
    }
    assert!(client.is_closed());
    let error = client.info().await.unwrap_err();
    assert!(
        matches!(&error, ClientError::Closed(closed) if !closed.changing),
        "{error:?}"
    );
    assert!(error.is_retryable());
    assert!(matches!(
        client.ping().await.unwrap_err(),
        ClientError::Closed(_)
    ));
    soon(client.close()).await;
}

#[apply(runtime_test!)]
async fn a_killed_server_is_noticed() {
    let server = Server::new();
    let (client, mut peer) = server.connect().await;
    let serve = async {
        peer.request(op::SERVER_INFO).await;
        peer.connection.close(0u32.into(), b"killed");
    };
    let (told, ()) = soon(async { tokio::join!(client.info(), serve) }).await;
    let error = told.unwrap_err();
    let ClientError::Closed(closed) = &error else {
        panic!("{error:?}");
    };
    assert_eq!(closed.reason, CloseReason::Lost);
    assert!(error.source().unwrap().to_string().contains("killed"));
    assert!(error.to_string().contains("connection was lost"), "{error}");
}

#[apply(runtime_test!)]
async fn a_draining_server_takes_nothing_new() {
    let server = Server::new();
    let (client, peer) = server.connect().await;
    peer.act(|core| core.drain());
    assert!(
        soon(client.ping()).await.is_ok(),
        "the drain came before the pong"
    );
    let error = client.info().await.unwrap_err();
    assert!(matches!(error, ClientError::Draining), "{error:?}");
    assert!(error.is_retryable());
}

#[apply(runtime_test!)]
async fn closing_says_goodbye_and_does_not_wait_long() {
    let server = Server::new();
    let (client, mut peer) = server.connect().await;
    let started = Instant::now();
    soon(client.close()).await;
    assert!(
        started.elapsed() < Duration::from_secs(2),
        "{:?}",
        started.elapsed()
    );
    match peer.event().await {
        ServerEvent::Closed(CloseReason::Peer(error)) => {
            assert_eq!(error.message, "the client closed the connection");
        }
        other => panic!("{other:?}"),
    }
    soon(peer.connection.closed()).await;
}

#[apply(runtime_test!)]
async fn the_last_drop_says_goodbye_too() {
    let server = Server::new();
    let (client, mut peer) = server.connect().await;
    let process = Process::new(&client, 1);
    drop(client);
    assert!(
        process.inspect().now_or_never().is_none(),
        "a process keeps the connection"
    );
    peer.request(op::PROCESS_INSPECT).await;
    assert!(matches!(peer.event().await, ServerEvent::Cancelled { .. }));
    drop(process);
    assert!(matches!(
        peer.event().await,
        ServerEvent::Closed(CloseReason::Peer(_))
    ));
}

#[apply(runtime_test!)]
async fn a_server_that_does_not_read_cannot_hold_closing_up() {
    let server = Server::new();
    // A narrow window, so that the writer waits for the server.
    let mut narrow = quinn::TransportConfig::default();
    narrow.stream_receive_window(65_536u32.into());
    server.set_transport(narrow);
    let hello_only = async {
        let (connection, mut send, mut recv) = server.accept().await;
        let limits = Limits::default();
        let mut core = ServerConnection::new(limits);
        let hello = recv.read_chunk(1_024, true).await.unwrap().unwrap();
        core.handle_input(Time::ZERO, hello.bytes);
        core.accept(&common::hello(&limits));
        let answer = core.poll_transmit(1_024).unwrap().to_vec();
        send.write_all(&answer).await.unwrap();
        (connection, send, recv)
    };
    let connected = soon(async { tokio::join!(server.config().connect(), hello_only) }).await;
    let (client, _streams) = (connected.0.unwrap(), connected.1);
    let big = ProcessBuilder::new("m", "e")
        .signature(AbiSignature::new(vec![AbiParam::Buffer], vec![]))
        .arg_buffer(vec![0; 200 * 1024]);
    let mut starts: Vec<_> = (0..3)
        .map(|_| Box::pin(Process::start(&client, big.clone())))
        .collect();
    for start in &mut starts {
        assert!(start.now_or_never().is_none());
    }
    let error = Process::start(&client, big).await.unwrap_err();
    assert!(
        matches!(error, ClientError::Busy { .. }) && error.is_retryable(),
        "{error:?}"
    );
    let began = Instant::now();
    soon(client.clone().close()).await;
    assert!(
        began.elapsed() < Duration::from_secs(3),
        "{:?}",
        began.elapsed()
    );
    for start in starts {
        let error = soon(start).await.unwrap_err();
        assert!(
            matches!(&error, ClientError::Closed(closed) if closed.changing),
            "{error:?}"
        );
    }
}

#[cfg(feature = "tokio")]
#[test]
fn a_client_outlives_its_runtime() {
    let runtime = || {
        tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .unwrap()
    };
    let (servers, clients) = (runtime(), runtime());
    let server = servers.block_on(async { Server::new() });
    let config = server.config();
    let peer = servers.spawn(async move { (server.peer(Default::default()).await, server) });
    let client = clients
        .block_on(async { soon(config.connect()).await })
        .unwrap();
    let (mut peer, _server) = servers.block_on(peer).unwrap();
    let waiting = servers.spawn({
        let client = client.clone();
        async move { client.info().await }
    });
    servers.block_on(peer.request(op::SERVER_INFO));
    clients.shutdown_timeout(Duration::from_secs(5));
    let error = servers.block_on(soon(waiting)).unwrap().unwrap_err();
    assert!(matches!(error, ClientError::Closed(_)), "{error:?}");
    servers.block_on(soon(client.close()));
}
