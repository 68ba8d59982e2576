//! The server in memory: what it does, what goes wrong on request, and what only a real server shows of clients.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::indexing_slicing
)]

mod common;

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{BuildHasher as _, RandomState},
    ops::Range,
    pin::pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use common::{
    runtime::{apply, runtime_test, sleep, spawn, timeout},
    soon,
};
use futures_util::{FutureExt as _, SinkExt as _};
use selium_remote_client::{
    AbiParam, AbiScalarValue, AbiSignature, Backpressure, Capability, Channel, ChannelBuilder,
    ChannelState, Client, ClientConfigBuilder, ClientError, CloseReason, ConnectFailure,
    ConnectionEvent, ConnectionState, EntrypointArg, ErrorCode, ErrorKind, LogItem, LogLevel,
    LogOptions, LogRecord, Process, ProcessBuilder, ProcessState, PublishOptions, Publisher,
    Reconnect, SubscribeItem, SubscribeOptions, Subscriber,
    test_util::{
        Effect, Guest, InMemoryServer, Operation, Permission, Permissions, ProcessEnd, Refusal,
        Role, START_MS, Snapshot, Trap,
    },
};

#[path = "../examples/in_memory.rs"]
#[allow(dead_code, reason = "its main function")]
mod example;

const CHANNELS: [Capability; 3] = [
    Capability::ChannelLifecycle,
    Capability::ChannelReader,
    Capability::ChannelWriter,
];

fn process(module: &str) -> ProcessBuilder {
    let builder = ProcessBuilder::new(module, "start");
    CHANNELS
        .into_iter()
        .fold(builder, ProcessBuilder::capability)
}

async fn echo(guest: Guest) -> Result<(), Trap> {
    let mut requests = guest.reader(0)?;
    let mut answers = guest.writer(1)?;
    while let Some(request) = requests.read().await? {
        answers.write(request).await?;
    }
    Ok(())
}

/// Waits until it is stopped.
async fn idle(guest: Guest) -> Result<(), Trap> {
    guest.stopped().await;
    Ok(())
}

fn lossless() -> SubscribeOptions {
    SubscribeOptions::new().lossless(true)
}

async fn channel(client: &Client, name: &str, capacity: u32) -> Channel {
    let builder = ChannelBuilder::new(capacity).name(name);
    soon(Channel::create_with(client, builder)).await.unwrap()
}

async fn message(subscriber: &mut Subscriber) -> Bytes {
    match soon(subscriber.next()).await {
        Some(Ok(SubscribeItem::Message { payload, .. })) => payload,
        other => panic!("{other:?}"),
    }
}

async fn until(server: &InMemoryServer, is: impl FnMut(&Snapshot) -> bool) -> Snapshot {
    soon(server.until(is)).await
}

/// Waits for an end of a process: its task has to come to it.
async fn ended(server: &InMemoryServer, at: usize) -> ProcessEnd {
    soon(async {
        loop {
            if let Some(end) = server.processes()[at].end.clone() {
                return end;
            }
            server.until(|_| true).await;
            sleep(Duration::from_millis(1)).await;
        }
    })
    .await
}

async fn event(events: &mut selium_remote_client::ConnectionEvents) -> ConnectionEvent {
    soon(events.next()).await.expect("the client is not over")
}

#[apply(runtime_test!)]
async fn the_example_runs() {
    soon(example::run()).await.unwrap();
}

#[apply(runtime_test!)]
async fn a_guest_knows_what_it_was_started_with_and_writes_its_log() {
    let server = InMemoryServer::new();
    let seen = Arc::new(Mutex::new(None));
    let told = Arc::clone(&seen);
    server.module("curious.wasm", move |guest: Guest| {
        let told = Arc::clone(&told);
        async move {
            assert!(guest.reader(0).is_err() && guest.reader(9).is_err());
            guest.log(LogLevel::Warn, guest.text(0).unwrap_or("no text"));
            let record = LogRecord::with(|record| {
                record.message = "by hand".to_owned();
                record.timestamp_ms = 7;
            });
            guest.log_record(&record)?;
            let long = LogRecord::with(|record| record.message = "x".repeat(300_000));
            assert!(guest.log_record(&long).is_err());
            *told.lock().unwrap() = Some((
                guest.module().to_owned(),
                guest.entrypoint().to_owned(),
                guest.args().to_vec(),
                guest.capabilities().to_vec(),
                guest.log_uri().map(str::to_owned),
            ));
            idle(guest).await
        }
    });
    let client = server.connect().await.unwrap();
    assert_eq!(client.server().role, "admin");
    assert!(client.server().has_clock && !client.server().authenticated);
    assert_eq!(client.credentials_expire_at(), None);
    let scalar = AbiScalarValue::I32(-3);
    let builder = process("curious.wasm")
        .name("it")
        .log_uri("log://here")
        .signature(AbiSignature::new(
            vec![AbiParam::Buffer, AbiParam::Scalar(scalar.kind())],
            vec![],
        ))
        .arg_utf8("wörld")
        .arg_scalar(scalar);
    server.advance(Duration::from_millis(250));
    let process = Process::start(&client, builder).await.unwrap();
    let mut log = process.logs(LogOptions::new()).await.unwrap();
    let mut records = Vec::new();
    while records.len() < 2 {
        match soon(log.next()).await.unwrap().unwrap() {
            LogItem::Record { record, .. } => records.push(record),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(
        (records[0].level, &*records[0].message, records[0].time_ms()),
        (LogLevel::Warn, "wörld", Some(START_MS + 250))
    );
    assert_eq!(records[0].target, "curious.wasm");
    assert_eq!(
        (&*records[1].message, records[1].time_ms()),
        ("by hand", None)
    );
    soon(async {
        while seen.lock().unwrap().is_none() {
            sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    let seen = seen.lock().unwrap().take().unwrap();
    assert_eq!(
        (&*seen.0, &*seen.1, seen.4.as_deref()),
        ("curious.wasm", "start", Some("log://here"))
    );
    let args = [
        EntrypointArg::Buffer("wörld".into()),
        EntrypointArg::Scalar(scalar),
    ];
    assert_eq!((&seen.2[..], &seen.3[..]), (&args[..], &CHANNELS[..]));
    let report = &server.processes()[0];
    assert_eq!((report.name.as_deref(), &report.end), (Some("it"), &None));
    process.stop().await.unwrap();
    assert_eq!(server.processes()[0].end, Some(ProcessEnd::Stopped));
    assert!(soon(log.next()).await.is_none());
    assert_eq!(log.end_reason(), Some("the process was stopped"));
}

#[apply(runtime_test!)]
async fn what_is_not_there_is_refused_as_the_runtime_does() {
    let server = InMemoryServer::new();
    server.entrypoint("some.wasm", "start", idle);
    server.module("any.wasm", idle);
    server.entrypoint("any.wasm", "other", idle);
    let client = server.connect().await.unwrap();
    for (module, entrypoint, field) in [
        ("nowhere.wasm", "start", Some("module")),
        ("some.wasm", "stop", Some("entrypoint")),
        ("some.wasm", "start", None),
        ("any.wasm", "what", None),
        ("any.wasm", "other", None),
    ] {
        let started = Process::start(&client, ProcessBuilder::new(module, entrypoint)).await;
        let found = match started {
            Ok(_) => None,
            Err(ClientError::Remote { error, .. }) if error.code == ErrorCode::NotFound => {
                error.field.clone()
            }
            Err(other) => panic!("{other:?}"),
        };
        assert_eq!(found.as_deref(), field, "{module} {entrypoint}");
    }
    server.remove_module("some.wasm");
    let gone = Process::start(&client, ProcessBuilder::new("some.wasm", "start")).await;
    assert_eq!(gone.unwrap_err().code(), Some(ErrorCode::NotFound));
    assert_eq!(server.snapshot().processes, 3);
}

#[apply(runtime_test!)]
async fn a_guest_without_capabilities_is_told_what_it_lacks() {
    let server = InMemoryServer::new();
    server.module("echo.wasm", echo);
    let client = server.connect().await.unwrap();
    let channel = channel(&client, "c", 64).await;
    let (reader, lifecycle) = (Capability::ChannelReader, Capability::ChannelLifecycle);
    for (at, (given, handle, lacks)) in [
        (vec![], false, "ChannelLifecycle"),
        (vec![lifecycle], false, "ChannelReader"),
        (vec![lifecycle, reader], false, "ChannelWriter"),
        (vec![reader], false, "ChannelLifecycle"),
        // It is given the channel itself: there is nothing to attach to.
        (vec![reader], true, "ChannelWriter"),
    ]
    .into_iter()
    .enumerate()
    {
        let builder = ProcessBuilder::new("echo.wasm", "start");
        let builder = given.into_iter().fold(builder, ProcessBuilder::capability);
        let builder = match handle {
            false => builder.arg_channel(&channel).arg_channel(&channel),
            true => builder
                .arg_channel_handle(&channel)
                .arg_channel_handle(&channel),
        };
        Process::start(&client, builder).await.unwrap();
        match ended(&server, at).await {
            ProcessEnd::Trapped(words) => {
                let expected = format!("permission denied: the process was not given {lacks}");
                assert_eq!(words, expected, "{at}");
            }
            other => panic!("{at}: {other:?}"),
        }
    }
    assert_eq!(server.snapshot().readers, 0, "what it had is freed");
}

#[apply(runtime_test!)]
async fn guests_end_by_themselves_or_are_stopped() {
    let server = InMemoryServer::new();
    server.module("short.wasm", |_| async { Ok(()) });
    server.module("trap.wasm", |_| async { Err(Trap::new("unreachable")) });
    let heard = Arc::new(Mutex::new(false));
    let told = Arc::clone(&heard);
    server.module("long.wasm", move |guest: Guest| {
        let told = Arc::clone(&told);
        async move {
            guest.stopped().await;
            *told.lock().unwrap() = guest.is_stopped();
            // It does not outlive its stop, whatever it waits for.
            std::future::pending().await
        }
    });
    let client = server.connect().await.unwrap();
    let mut started = Vec::new();
    for module in ["short.wasm", "trap.wasm", "long.wasm"] {
        started.push(Process::start(&client, process(module)).await.unwrap());
    }
    assert_eq!(ended(&server, 0).await, ProcessEnd::Returned);
    let trapped = ProcessEnd::Trapped("unreachable".to_owned());
    assert_eq!(ended(&server, 1).await, trapped);
    // Clients are not told, as in the runtime.
    for known in client.processes(true).await.unwrap() {
        assert_eq!(known.state, ProcessState::Started);
    }
    for process in started {
        process.stop().await.unwrap();
    }
    assert_eq!(ended(&server, 2).await, ProcessEnd::Stopped);
    let ends: Vec<_> = server.processes().into_iter().map(|p| p.end).collect();
    assert_eq!(ends[..2], [Some(ProcessEnd::Returned), Some(trapped)]);
    soon(async {
        while !*heard.lock().unwrap() {
            sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    assert_eq!(client.processes(false).await.unwrap().len(), 0);
}

#[apply(runtime_test!)]
async fn a_guest_talks_over_channels() {
    let server = InMemoryServer::new();
    server.module("echo.wasm", echo);
    let client = server.connect().await.unwrap();
    let requests = channel(&client, "requests", 1_024).await;
    let answers = channel(&client, "answers", 1_024).await;
    let mut subscriber = answers.subscribe_with(lossless()).await.unwrap();
    let builder = process("echo.wasm")
        .arg_channel(&requests)
        .arg_channel(&answers);
    let process = Process::start(&client, builder).await.unwrap();
    let mut publisher = requests.publish().await.unwrap();
    for number in 0..500 {
        // None of it fits twice.
        let request = Bytes::from(vec![number as u8; 600 + number % 424]);
        publisher.send(request.clone()).await.unwrap();
        assert_eq!(message(&mut subscriber).await, request);
    }
    publisher.close().await.unwrap();
    // Drained and read to its end: the guest comes to its own.
    requests.drain().await.unwrap();
    assert_eq!(ended(&server, 0).await, ProcessEnd::Returned);
    process.stop().await.unwrap();
    answers.delete().await.unwrap();
    assert!(soon(subscriber.next()).await.is_none());
    assert_eq!(subscriber.end_reason(), Some("the channel was deleted"));
    let left = until(&server, |now| now.readers == 0 && now.writers == 0).await;
    assert_eq!((left.channels, left.waiting_bytes), (1, 0));
}

#[apply(runtime_test!)]
async fn a_guest_that_reads_nothing_holds_its_writers_back_and_frees_them_when_it_is_stopped() {
    let server = InMemoryServer::new();
    server.module("slow.wasm", |guest: Guest| async move {
        let _reader = guest.reader(0)?;
        idle(guest).await
    });
    let client = server.connect().await.unwrap();
    let channel = channel(&client, "c", 128).await;
    let builder = process("slow.wasm").arg_channel_handle(&channel);
    let process = Process::start(&client, builder).await.unwrap();
    until(&server, |now| now.readers == 1).await;
    let mut publisher = channel.publish().await.unwrap();
    for _ in 0..4 {
        publisher.send(vec![1; 50]).await.unwrap();
    }
    // Two fit.
    until(&server, |now| now.waiting_bytes == 100).await;
    assert!(
        timeout(Duration::from_millis(20), publisher.flush())
            .await
            .is_none()
    );
    assert_eq!(publisher.acknowledged(), Some(1));
    process.stop().await.unwrap();
    soon(publisher.close()).await.unwrap();
    assert_eq!(server.snapshot().waiting_bytes, 0);
}

#[apply(runtime_test!)]
async fn full_channels_park_or_drop() {
    let server = InMemoryServer::new();
    let client = server.connect().await.unwrap();

    // Lossless: the publisher waits for the subscriber, and nothing is missing.
    let parks = channel(&client, "parks", 1_024).await;
    let mut subscriber = parks.subscribe_with(lossless()).await.unwrap();
    let mut publisher = client
        .publish("parks", PublishOptions::new().backlog(16_384))
        .await
        .unwrap();
    let mut sent = 0u32;
    while let Some(result) = timeout(
        Duration::from_millis(100),
        publisher.send(vec![(sent % 251) as u8; 1_000]),
    )
    .await
    {
        result.unwrap();
        sent += 1;
        assert!(sent < 20_000, "somebody has to wait");
    }
    for number in 0..sent {
        assert_eq!(
            message(&mut subscriber).await,
            vec![(number % 251) as u8; 1_000]
        );
    }
    soon(publisher.close()).await.unwrap();
    assert!(!publisher.may_be_dropped());

    // Lossy: nobody waits, and what is missing is told.
    let builder = ChannelBuilder::new(1_024)
        .name("drops")
        .backpressure(Backpressure::Drop);
    let drops = Channel::create_with(&client, builder).await.unwrap();
    let mut subscriber = drops.subscribe(2_000).await.unwrap();
    let mut publisher = drops.publish().await.unwrap();
    const MANY: u64 = 4_000;
    for number in 0..MANY {
        let mut message = vec![0; 1_000];
        message[..8].copy_from_slice(&number.to_le_bytes());
        soon(publisher.send(message)).await.unwrap();
    }
    soon(publisher.close()).await.unwrap();
    assert!(publisher.may_be_dropped());
    drops.drain().await.unwrap();
    let (mut read, mut missing, mut last) = (0, 0, None);
    while let Some(item) = soon(subscriber.next()).await {
        match item.unwrap() {
            SubscribeItem::Message { payload, .. } => {
                let number = u64::from_le_bytes(payload[..8].try_into().unwrap());
                assert!(last < Some(number), "{last:?} {number}");
                last = Some(number);
                read += 1;
            }
            SubscribeItem::Gap { count, .. } => missing += count.expect("an exact count"),
            other => panic!("{other:?}"),
        }
    }
    assert!(missing > 0);
    assert_eq!((read + missing, last), (MANY, Some(MANY - 1)));
}

#[apply(runtime_test!)]
async fn a_process_writes_and_waits_for_its_readers() {
    let server = InMemoryServer::new();
    server.module("fire.wasm", |guest: Guest| async move {
        let mut writer = guest.writer(0)?;
        assert!(writer.write("").await.is_err());
        assert!(writer.write(vec![0; 257]).await.is_err());
        for number in 0u32..1_000 {
            writer.write(number.to_le_bytes().repeat(16)).await?;
        }
        Ok(())
    });
    let client = server.connect().await.unwrap();
    let channel = channel(&client, "c", 256).await;
    let mut subscriber = channel.subscribe_with(lossless()).await.unwrap();
    let fire = process("fire.wasm").arg_channel(&channel);
    Process::start(&client, fire).await.unwrap();
    for number in 0u32..1_000 {
        assert_eq!(
            message(&mut subscriber).await,
            number.to_le_bytes().repeat(16)
        );
    }
    assert_eq!(ended(&server, 0).await, ProcessEnd::Returned);
    // A channel that goes ends whoever writes to it.
    server.module("endless.wasm", |guest: Guest| async move {
        let mut writer = guest.writer(0)?;
        loop {
            writer.write(vec![0; 250]).await?;
        }
    });
    let endless = process("endless.wasm").arg_channel(&channel);
    Process::start(&client, endless).await.unwrap();
    for _ in 0..10 {
        message(&mut subscriber).await;
    }
    channel.delete().await.unwrap();
    assert!(matches!(ended(&server, 1).await, ProcessEnd::Trapped(_)));
}

#[apply(runtime_test!)]
async fn dropped_connections_are_made_again() {
    let server = InMemoryServer::new();
    let client = server.connect().await.unwrap();
    let mut events = client.events();
    assert!(matches!(
        event(&mut events).await,
        ConnectionEvent::Connected { again: false, .. }
    ));
    let before = client.server().incarnation;
    for _ in 0..3 {
        server.drop_connections();
        assert_eq!(server.snapshot().connections, 0);
        match event(&mut events).await {
            ConnectionEvent::Lost { reason } => assert_eq!(reason, CloseReason::Lost),
            other => panic!("{other:?}"),
        }
        assert!(matches!(
            event(&mut events).await,
            ConnectionEvent::Retrying { attempt: 1, .. }
        ));
        match event(&mut events).await {
            ConnectionEvent::Connected { incarnation, again } => {
                assert_eq!((incarnation, again), (before, true));
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(client.info().await.unwrap().connections, 1);
    }
    let alone = server.config().reconnect(Reconnect::never());
    let alone = alone.connect().await.unwrap();
    server.drop_connections();
    let error = soon(alone.info()).await.unwrap_err();
    assert!(matches!(error, ClientError::Closed(_)), "{error}");
    client.close().await;
    until(&server, |now| now.connections == 0).await;
}

#[apply(runtime_test!)]
async fn connections_are_refused_in_the_ways_there_are() {
    let server = InMemoryServer::new();
    let client = server.connect().await.unwrap();
    let mut events = client.events();

    server.refuse_connections(Refusal::Overload);
    let error = server.connect().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
    assert!(error.is_retryable() && !error.is_auth());
    server.drop_connections();
    let mut failed = 0;
    while failed < 3 {
        if let ConnectionEvent::Retrying { error, .. } = event(&mut events).await {
            failed += usize::from(error.is_some());
        }
    }
    assert_eq!(client.state(), ConnectionState::Reconnecting);
    server.accept_connections();
    soon(client.info()).await.unwrap();

    // Nobody answers: a deadline passes, or it is waited long enough.
    server.refuse_connections(Refusal::Silence);
    let hasty = server.config().connect_timeout(Duration::from_millis(20));
    let error = hasty.connect().await.unwrap_err();
    assert!(error.is_timeout() && error.is_retryable(), "{error}");
    assert_eq!(server.snapshot().callers, 0);
    let waiting = spawn(server.config().connect());
    until(&server, |now| now.callers == 1).await;
    server.accept_connections();
    let second = soon(waiting).await.unwrap().unwrap();
    second.close().await;

    // Final: it is not tried again.
    server.refuse_connections(Refusal::Certificate);
    let error = server.connect().await.unwrap_err();
    assert!(error.is_auth() && !error.is_retryable(), "{error}");
    let is_refused = |failure: &ConnectFailure| failure.is_auth();
    assert!(matches!(&error, ClientError::Connect(failure) if is_refused(failure)));
    server.drop_connections();
    let gave_up = loop {
        if let ConnectionEvent::GaveUp { error } = event(&mut events).await {
            break error;
        }
    };
    assert!(gave_up.is_auth(), "{gave_up}");
    assert_eq!(client.state(), ConnectionState::Closed);
    match client.info().await.unwrap_err() {
        ClientError::GaveUp(gave_up) if gave_up.attempts == 1 => {}
        other => panic!("{other:?}"),
    }
}

#[apply(runtime_test!)]
async fn after_a_restart_nothing_is_known() {
    let server = InMemoryServer::new();
    server.module("idle.wasm", idle);
    let client = server.connect().await.unwrap();
    let mut events = client.events();
    let old_run = client.server().incarnation;
    let old = channel(&client, "c", 1_024).await;
    let mut subscriber = old.subscribe_with(lossless()).await.unwrap();
    let mut publisher = old.publish().await.unwrap();
    publisher.send("before").await.unwrap();
    publisher.flush().await.unwrap();
    message(&mut subscriber).await;
    let process = Process::start(&client, process("idle.wasm")).await.unwrap();
    let mut log = process.log_channel().await.unwrap();

    server.hold(Effect::Message);
    publisher.send("unknown").await.unwrap();
    until(&server, |now| now.held == 1).await;
    server.restart();
    assert_eq!(ended(&server, 0).await, ProcessEnd::Killed);
    let (was, is) = loop {
        if let ConnectionEvent::NewIncarnation { old, new } = event(&mut events).await {
            break (old, new);
        }
    };
    assert_eq!((was, is), (old_run, client.server().incarnation));
    assert_ne!(was, is);
    match soon(publisher.flush()).await.unwrap_err() {
        ClientError::Publication(failure) => {
            assert_eq!((failure.acknowledged, failure.unknown), (Some(0), 1..2));
            assert_eq!(failure.cause.kind(), ErrorKind::NewIncarnation);
        }
        other => panic!("{other:?}"),
    }
    let error = soon(log.next()).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NewIncarnation, "{error}");
    let ended = loop {
        match soon(subscriber.next()).await.unwrap() {
            Ok(SubscribeItem::Message { payload, .. }) => assert_eq!(payload, "unknown"),
            Ok(other) => panic!("{other:?}"),
            Err(error) => break error,
        }
    };
    assert_eq!(ended.kind(), ErrorKind::NewIncarnation, "{ended}");
    assert_eq!(client.processes(true).await.unwrap().len(), 0);
    assert_eq!(client.channels().await.unwrap().len(), 0);
    assert_eq!(
        process.stop().await.unwrap_err().code(),
        Some(ErrorCode::NotFound)
    );

    // Modules are still there, and it is still held.
    server.release();
    let again = channel(&client, "c", 1_024).await;
    let mut publisher = again.publish().await.unwrap();
    publisher.send("new").await.unwrap();
    soon(publisher.close()).await.unwrap();
    let builder = ProcessBuilder::new("idle.wasm", "start");
    Process::start(&client, builder).await.unwrap();
    until(&server, |now| now.processes == 1).await;
}

#[apply(runtime_test!)]
async fn a_server_that_drains_takes_nothing_new() {
    let server = InMemoryServer::new();
    let client = server.config().reconnect(Reconnect::never());
    let client = client.connect().await.unwrap();
    server.drain();
    let error = soon(async {
        loop {
            if let Err(error) = client.info().await {
                return error;
            }
        }
    })
    .await;
    // Whoever says it first.
    let is_drain = matches!(error, ClientError::Draining);
    assert!(
        is_drain || error.code() == Some(ErrorCode::Unavailable),
        "{error}"
    );
    let error = server.connect().await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::Unavailable), "{error}");
}

#[apply(runtime_test!)]
async fn the_next_operation_of_a_kind_fails() {
    let server = InMemoryServer::new();
    server.module("idle.wasm", idle);
    let client = server.connect().await.unwrap();
    let c = channel(&client, "c", 64).await;
    let started = Process::start(&client, process("idle.wasm").name("p"));
    let p = started.await.unwrap();
    let code = ErrorCode::Unavailable;
    let ask = async |operation: Operation| match operation {
        Operation::Info => client.info().await.map(drop),
        Operation::Start => Process::start(&client, process("idle.wasm"))
            .await
            .map(drop),
        Operation::Stop => client.stop("p").await.map(drop),
        Operation::Processes => client.processes(false).await.map(drop),
        Operation::Inspect => p.inspect().await.map(drop),
        Operation::Logs => p.log_channel().await.map(drop),
        Operation::CreateChannel => Channel::create(&client, 64).await.map(drop),
        Operation::DeleteChannel => client.delete_channel("c").await.map(drop),
        Operation::DrainChannel => c.drain().await.map(drop),
        Operation::ShareChannel => c.share().await.map(drop),
        Operation::Channels => client.channels().await.map(drop),
        Operation::InspectChannel => c.inspect().await.map(drop),
        Operation::Subscribe => c.subscribe(64).await.map(drop),
        Operation::Publish => c.publish().await.map(drop),
        other => panic!("{other:?}"),
    };
    for operation in [
        Operation::Info,
        Operation::Start,
        Operation::Processes,
        Operation::Inspect,
        Operation::Logs,
        Operation::CreateChannel,
        Operation::ShareChannel,
        Operation::Channels,
        Operation::InspectChannel,
        Operation::Subscribe,
        Operation::Publish,
        Operation::DrainChannel,
        Operation::DeleteChannel,
        Operation::Stop,
    ] {
        server.fail_next(operation, code);
        // Of others nothing is taken.
        client.ping().await.unwrap();
        let error = ask(operation).await.unwrap_err();
        assert_eq!(error.code(), Some(code), "{operation:?}: {error}");
        ask(operation).await.unwrap();
    }
    assert_eq!(server.processes().len(), 2, "what failed was not done");
}

#[apply(runtime_test!)]
async fn held_answers_leave_the_outcome_unknown() {
    let server = InMemoryServer::new();
    server.module("idle.wasm", idle);
    let client = server.connect().await.unwrap();
    let hasty = client.with_timeout(Duration::from_millis(20));
    let c = channel(&client, "c", 64).await;

    server.hold(Effect::Start);
    let late = Process::start(&hasty, process("idle.wasm").name("p"));
    let error = late.await.unwrap_err();
    assert!(error.is_timeout() && error.is_outcome_unknown(), "{error}");
    // It was started, and the others are not held up.
    until(&server, |now| now.processes == 1 && now.held == 1).await;
    client.info().await.unwrap();
    server.release();
    assert_eq!(server.snapshot().held, 0);
    let known = client.processes(false).await.unwrap();
    assert_eq!(known.iter().map(|p| &*p.name).collect::<Vec<_>>(), ["p"]);

    for (effect, name) in [
        (Effect::Stop, "stop"),
        (Effect::CreateChannel, "create"),
        (Effect::ShareChannel, "share"),
        (Effect::DrainChannel, "drain"),
        (Effect::DeleteChannel, "delete"),
    ] {
        server.hold(effect);
        let ask = |client: Client| {
            let c = Channel::new(&client, c.handle());
            async move {
                match effect {
                    Effect::Stop => client.stop("p").await.map(drop),
                    Effect::CreateChannel => Channel::create(&client, 64).await.map(drop),
                    Effect::ShareChannel => c.share().await.map(drop),
                    Effect::DrainChannel => c.drain().await.map(drop),
                    _ => c.delete().await,
                }
            }
        };
        let error = ask(hasty.clone()).await.unwrap_err();
        assert!(error.is_outcome_unknown(), "{name}: {error}");
        // One that waits gets its answer with the release: who asks the same waits for the same.
        let waiting = spawn(ask(client.clone()));
        until(&server, |now| now.held > 0).await;
        client.ping().await.unwrap();
        server.release();
        soon(waiting).await.unwrap().unwrap();
    }
    assert_eq!(server.snapshot().channels, 2);
    assert_eq!(client.processes(false).await.unwrap().len(), 0);
}

#[apply(runtime_test!)]
async fn held_acknowledgements_keep_the_publisher_waiting() {
    let server = InMemoryServer::new();
    let client = server.connect().await.unwrap();
    let c = channel(&client, "c", 1_024).await;
    let mut subscriber = c.subscribe_with(lossless()).await.unwrap();
    let mut publisher = c.publish().await.unwrap();
    server.hold(Effect::Message);
    for text in ["a", "b", "c"] {
        publisher.send(text).await.unwrap();
        assert_eq!(message(&mut subscriber).await, text);
    }
    assert_eq!(server.snapshot().held, 3);
    assert!(
        timeout(Duration::from_millis(20), publisher.flush())
            .await
            .is_none()
    );
    assert_eq!(publisher.acknowledged(), None);
    assert_eq!(publisher.unacknowledged().len(), 3);
    server.release();
    soon(publisher.flush()).await.unwrap();
    assert_eq!(publisher.acknowledged(), Some(2));
}

#[apply(runtime_test!)]
async fn a_lost_answer_is_asked_for_again() {
    let server = InMemoryServer::new();
    server.module("idle.wasm", idle);
    let client = server.connect().await.unwrap();
    let mut events = client.events();
    let mut lost =
        async || while !matches!(event(&mut events).await, ConnectionEvent::Lost { .. }) {};

    server.lose_next(Effect::Start);
    let p = Process::start(&client, process("idle.wasm")).await.unwrap();
    lost().await;
    assert_eq!(server.processes().len(), 1, "it was started once");
    server.lose_next(Effect::CreateChannel);
    let c = channel(&client, "c", 64).await;
    lost().await;
    assert_eq!(server.snapshot().channels, 1);
    server.lose_next(Effect::ShareChannel);
    assert!(c.share().await.unwrap().shared);
    lost().await;

    let mut subscriber = c.subscribe_with(lossless()).await.unwrap();
    let mut publisher = c.publish().await.unwrap();
    server.lose_next(Effect::Message);
    publisher.send("once").await.unwrap();
    soon(publisher.close()).await.unwrap();
    lost().await;
    assert_eq!(c.inspect().await.unwrap().published, 1);
    // The subscription had the message, or there is a gap where it was.
    let item = soon(subscriber.next()).await.unwrap().unwrap();
    println!("{item:?}");

    server.lose_next(Effect::DrainChannel);
    assert_eq!(c.drain().await.unwrap().state, ChannelState::Draining);
    lost().await;
    server.lose_next(Effect::DeleteChannel);
    c.delete().await.unwrap();
    lost().await;
    assert_eq!(server.snapshot().channels, 0);
    server.lose_next(Effect::Stop);
    p.stop().await.unwrap();
    lost().await;
    assert_eq!(ended(&server, 0).await, ProcessEnd::Stopped);
}

/// The answer is lost, and the server that knew it is gone: that is an error of its own, and nothing is done again.
#[apply(runtime_test!)]
async fn a_lost_answer_of_a_lost_server_is_unknown() {
    let server = InMemoryServer::new();
    server.module("idle.wasm", idle);
    let client = server.connect().await.unwrap();
    server.hold(Effect::Start);
    let starting = {
        let client = client.clone();
        spawn(async move { Process::start(&client, process("idle.wasm")).await })
    };
    until(&server, |now| now.held == 1).await;
    server.restart();
    server.release();
    let error = soon(starting).await.unwrap().unwrap_err();
    assert!(
        matches!(error, ClientError::OutcomeUnknown { .. }),
        "{error}"
    );
    assert_eq!(server.processes().len(), 1);
}

#[apply(runtime_test!)]
async fn a_server_that_reads_nothing_stops_its_clients() {
    let server = InMemoryServer::new();
    let client = server.connect().await.unwrap();
    let c = channel(&client, "c", 64 * 1024).await;
    let mut publisher = c.publish().await.unwrap();
    server.stop_reading();
    let hasty = client.with_timeout(Duration::from_millis(20));
    assert!(hasty.info().await.unwrap_err().is_timeout());
    let mut sent = 0;
    let message = vec![7; 64 * 1024];
    while let Some(result) =
        timeout(Duration::from_millis(100), publisher.send(message.clone())).await
    {
        result.unwrap();
        sent += 1;
        assert!(sent < 100, "somebody has to wait");
    }
    assert_eq!(publisher.acknowledged(), None);
    server.resume();
    soon(publisher.close()).await.unwrap();
    assert_eq!(publisher.acknowledged(), Some(sent - 1));
    client.info().await.unwrap();
}

#[apply(runtime_test!)]
async fn a_server_that_says_nothing_lets_deadlines_pass() {
    let server = InMemoryServer::new();
    let client = server.connect().await.unwrap();
    let hasty = client.with_timeout(Duration::from_millis(20));
    server.stop_sending();
    for error in [
        hasty.info().await.err(),
        hasty.ping().await.err(),
        Channel::create(&hasty, 64).await.err(),
    ] {
        assert!(error.unwrap().is_timeout());
    }
    assert_eq!(server.snapshot().channels, 1, "it was heard");
    server.resume();
    assert_eq!(client.channels().await.unwrap().len(), 1);
}

#[apply(runtime_test!)]
async fn the_servers_time_is_the_tests() {
    let server = InMemoryServer::new();
    let client = server.connect().await.unwrap();
    assert_eq!(client.info().await.unwrap().uptime_ms, Some(0));
    server.advance(Duration::from_secs(90));
    assert_eq!(client.info().await.unwrap().uptime_ms, Some(90_000));

    // A lossless subscriber that takes nothing holds writers back for 30 s of that time, and a second at most.
    let c = channel(&client, "c", 64 * 1024).await;
    let mut subscriber = c.subscribe_with(lossless()).await.unwrap();
    let mut publisher = c.publish().await.unwrap();
    let payload = vec![7; 64 * 1024];
    while timeout(Duration::from_millis(100), publisher.send(payload.clone()))
        .await
        .is_some()
    {}
    server.advance(Duration::from_millis(29_999));
    assert!(
        timeout(Duration::from_millis(50), publisher.flush())
            .await
            .is_none()
    );
    server.advance(Duration::from_millis(1_001));
    soon(publisher.flush()).await.unwrap();
    let error = soon(async {
        loop {
            if let Err(error) = subscriber.next().await.expect("it ends with an error") {
                return error;
            }
        }
    })
    .await;
    assert_eq!(error.code(), Some(ErrorCode::ResourceExhausted), "{error}");

    let timeless = InMemoryServer::builder().without_clock().build();
    let client = timeless.connect().await.unwrap();
    timeless.advance(Duration::from_secs(1));
    assert!(!client.server().has_clock);
    assert_eq!(client.info().await.unwrap().uptime_ms, None);
}

#[apply(runtime_test!)]
async fn the_server_is_configured_as_the_real_one() {
    let server = InMemoryServer::builder()
        .configure(|config| {
            config.max_connections = 1;
            config.authenticated = true;
            let mut role = Role::admin();
            role.name = "watcher".to_owned();
            role.permissions = Permissions::from_iter([Permission::List]);
            config.policy.roles = vec![role];
        })
        .build();
    let client = server.connect().await.unwrap();
    assert!(client.server().authenticated);
    assert_eq!(client.server().role, "watcher");
    client.processes(true).await.unwrap();
    let error = Channel::create(&client, 64).await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::PermissionDenied), "{error}");
    let error = server.connect().await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::ResourceExhausted), "{error}");
    client.close().await;
    until(&server, |now| now.connections == 0).await;
    server.connect().await.unwrap();
}

#[apply(runtime_test!)]
async fn an_applications_own_configuration_is_pointed_at_it() {
    let server = InMemoryServer::new();
    let own = ClientConfigBuilder::default()
        .domain("control.example")
        .request_timeout(Duration::from_secs(3));
    assert_ne!(own.clone().in_memory(&server), own);
    assert_eq!(
        own.clone().in_memory(&server),
        own.clone().in_memory(&server)
    );
    let other = InMemoryServer::new();
    assert_ne!(
        own.clone().in_memory(&server),
        own.clone().in_memory(&other)
    );
    let client = own.in_memory(&server).connect().await.unwrap();
    assert_eq!(client.timeout(), Duration::from_secs(3));
    assert_eq!(client.info().await.unwrap().connections, 1);
}

#[apply(runtime_test!)]
async fn a_dropped_server_ends_everything() {
    struct Told(Arc<Mutex<usize>>);
    impl Drop for Told {
        fn drop(&mut self) {
            *self.0.lock().unwrap() += 1;
        }
    }
    let server = InMemoryServer::new();
    let dropped = Arc::new(Mutex::new(0));
    let (of_module, count) = (Told(Arc::clone(&dropped)), Arc::clone(&dropped));
    server.module("idle.wasm", move |_| {
        let _ = &of_module;
        let told = Told(Arc::clone(&count));
        async move {
            let _told = told;
            std::future::pending().await
        }
    });
    let config = server.config().reconnect(Reconnect::new().attempts(1));
    let client = config.connect().await.unwrap();
    let process = Process::start(&client, process("idle.wasm")).await.unwrap();
    let mut log = process.log_channel().await.unwrap();
    server.refuse_connections(Refusal::Silence);
    let waiting = spawn(server.config().connect());
    until(&server, |now| now.callers == 1).await;
    drop(server);
    assert_eq!(
        soon(waiting).await.unwrap().unwrap_err().kind(),
        ErrorKind::Refused
    );
    assert!(soon(log.next()).await.unwrap().is_err());
    assert!(soon(client.info()).await.is_err());
    soon(async {
        while *dropped.lock().unwrap() < 2 {
            sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    assert!(config_of_nobody().await);
}

/// A configuration outlives its server, and leads nowhere.
async fn config_of_nobody() -> bool {
    let config = InMemoryServer::new().config();
    config
        .connect()
        .await
        .is_err_and(|error| error.is_retryable())
}

/// Clients of one server on runtimes of their own, which come and go.
#[test]
fn runtimes_come_and_go() {
    let server = Arc::new(InMemoryServer::new());
    server.module("echo.wasm", echo);
    let round = |name: &'static str, server: Arc<InMemoryServer>| async move {
        let client = server.connect().await.unwrap();
        let requests = channel(&client, &format!("{name}-requests"), 256).await;
        let answers = channel(&client, &format!("{name}-answers"), 256).await;
        let mut subscriber = answers.subscribe_with(lossless()).await.unwrap();
        let builder = process("echo.wasm")
            .arg_channel(&requests)
            .arg_channel(&answers);
        Process::start(&client, builder).await.unwrap();
        let mut publisher = requests.publish().await.unwrap();
        publisher.send(name).await.unwrap();
        assert_eq!(message(&mut subscriber).await, name);
        client
    };
    let first = Arc::clone(&server);
    common::runtime::block_on(async move { drop(round("one", first).await) });
    let threads: Vec<_> = ["two", "three"]
        .map(|name| {
            let server = Arc::clone(&server);
            std::thread::spawn(move || {
                common::runtime::block_on(async move {
                    round(name, server).await.close().await;
                });
            })
        })
        .into();
    for thread in threads {
        thread.join().unwrap();
    }
    common::runtime::block_on(until(&server, |now| now.connections == 0));
}

/// Numbers from a seed that is printed; `SELIUM_REMOTE_SEED` repeats a run, `SELIUM_REMOTE_SEEDS` makes more of them.
struct Dice(u64);

impl Dice {
    /// A number below `limit` (splitmix64).
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % limit as u64) as usize
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}

/// The seeds of a test: so many, or as many as the environment says.
fn seeds(count: u64) -> impl Iterator<Item = u64> {
    let variable = |name| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let first = variable("SELIUM_REMOTE_SEED").unwrap_or_else(|| RandomState::new().hash_one(0u8));
    let count = variable("SELIUM_REMOTE_SEEDS").unwrap_or(count);
    eprintln!("{count} seeds from SELIUM_REMOTE_SEED={first}");
    (0..count).map(move |n| first.wrapping_add(n))
}

/// Polls a future so often at most, and drops it then: nothing when that was before it was ready. It is polled again when
/// something has woken it, or at once.
async fn cut<T>(future: impl Future<Output = T>, polls: usize, at_once: bool) -> Option<T> {
    let mut future = pin!(future);
    let mut left = polls;
    std::future::poll_fn(|cx| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => {
                if at_once {
                    cx.waker().wake_by_ref();
                }
                Poll::Pending
            }
        }
    })
    .await
}

/// Lets others go on for a while.
async fn breathe(turns: usize) {
    for _ in 0..turns {
        tokio::task::yield_now().await;
    }
}

/// What is known of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It was sent, or handed to a sink that was given up then: it may arrive.
    May,
    /// It was acknowledged: it has arrived.
    Must,
    /// Its future was dropped before it was ready, or it was refused: it was left out.
    Never,
}

/// What a subscriber gets, in the background, for as long as the channel lasts.
fn collect(mut subscriber: Subscriber, slow: usize) -> common::runtime::Task<Vec<u64>> {
    spawn(async move {
        let mut read = Vec::new();
        while let Some(item) = subscriber.next().await {
            match item {
                Ok(SubscribeItem::Message { payload, .. }) => {
                    read.push(u64::from_le_bytes(payload[..8].try_into().unwrap()));
                }
                Ok(other) => panic!("{other:?}"),
                Err(error) => panic!("{error}"),
            }
            breathe(slow).await;
        }
        read
    })
}

/// Publications, cut off in every way there is.
struct Cutter {
    dice: Dice,
    client: Client,
    fates: BTreeMap<u64, Fate>,
    next: u64,
    /// The numbers with which publications began.
    begun: Vec<u64>,
    longest: usize,
    /// How often each operation was dropped in the middle, and how often it came to its end.
    cuts: BTreeMap<&'static str, (usize, usize)>,
}

impl Cutter {
    fn message(&mut self) -> (u64, Bytes) {
        let number = self.next;
        self.next += 1;
        let mut message = number.to_le_bytes().to_vec();
        let longest = self.dice.chance(60);
        message.resize(
            match longest {
                true => self.longest,
                false => 8 + self.dice.below(self.longest - 7),
            },
            0,
        );
        (number, message.into())
    }

    /// How often a future is polled: mostly few times.
    fn polls(&mut self) -> (usize, bool) {
        let polls = match self.dice.chance(80) {
            true => self.dice.below(4),
            false => self.dice.below(40),
        };
        // A future that is not ready at once may not be woken for long.
        (polls, self.dice.chance(70))
    }

    /// Counts what was cut off while it waited, and what came to its end.
    fn count<T>(&mut self, what: &'static str, polls: usize, result: &Option<T>) {
        let (cut, done) = self.cuts.entry(what).or_default();
        match result {
            None => *cut += usize::from(polls > 0),
            Some(_) => *done += 1,
        }
    }

    /// Everything up to the last acknowledgement has arrived, the rest may have.
    fn acknowledged(&mut self, publisher: &Publisher, numbers: &BTreeMap<u64, u64>) {
        let last = publisher.acknowledged();
        for (place, number) in numbers {
            if last.is_some_and(|last| *place <= last) {
                self.fates.insert(*number, Fate::Must);
            }
        }
    }

    /// One publication, from its beginning to its end.
    async fn publication(&mut self) {
        let options = PublishOptions::new().backlog(16_384 + self.dice.below(8_192));
        let (polls, at_once) = self.polls();
        let client = self.client.clone();
        let opened = cut(client.publish("main", options), polls, at_once).await;
        self.count("publish", polls, &opened);
        let Some(publisher) = opened else {
            return;
        };
        let mut publisher = publisher.unwrap();
        self.begun.push(self.next);
        // The publication's own numbers, and which messages they are.
        let mut numbers = BTreeMap::new();
        let mut fed_before = Vec::new();
        for _ in 0..self.dice.below(30) {
            let (polls, at_once) = self.polls();
            match self.dice.below(10) {
                0..=4 => {
                    let (number, message) = self.message();
                    self.fates.insert(number, Fate::Never);
                    let sent = cut(publisher.send(message), polls, at_once).await;
                    self.count("send", polls, &sent);
                    if let Some(place) = sent {
                        let place = place.unwrap();
                        assert_eq!(numbers.insert(place, number), None);
                        self.fates.insert(number, Fate::May);
                    }
                }
                5 | 6 => {
                    // The sink has taken it when it has returned, and may have when it has not.
                    let (number, message) = self.message();
                    self.fates.insert(number, Fate::May);
                    let fed = cut(publisher.feed(message), polls, at_once).await;
                    self.count("feed", polls, &fed);
                    match fed {
                        Some(fed) => {
                            fed.unwrap();
                            fed_before.push(number);
                        }
                        None => drop(self.fates.insert(number, Fate::Never)),
                    }
                }
                7 | 8 => {
                    let flushed = cut(publisher.flush(), polls, at_once).await;
                    self.count("flush", polls, &flushed);
                    if let Some(flushed) = flushed {
                        flushed.unwrap();
                        assert_eq!(publisher.unacknowledged().len(), 0);
                        for number in numbers.values().chain(&fed_before) {
                            self.fates.insert(*number, Fate::Must);
                        }
                    }
                }
                _ => breathe(self.dice.below(20)).await,
            }
            self.acknowledged(&publisher, &numbers);
        }
        if self.dice.chance(60) {
            // A close that is cut off is gone on with by the next.
            loop {
                let (polls, at_once) = self.polls();
                let closed = cut(publisher.close(), polls + 1, at_once).await;
                self.count("close", polls + 1, &closed);
                match closed {
                    Some(closed) => break closed.unwrap(),
                    None if self.dice.chance(20) => break,
                    None => {}
                }
                let late = publisher.send("late").await.unwrap_err();
                assert!(matches!(late, ClientError::PublisherClosed));
                breathe(self.dice.below(5)).await;
            }
        }
        self.acknowledged(&publisher, &numbers);
    }
}

async fn a_cut_publisher(seed: u64, totals: &mut BTreeMap<&'static str, (usize, usize)>) {
    let mut dice = Dice(seed);
    let server = InMemoryServer::builder().seed(seed);
    // So that a slow subscriber is felt.
    let server = server.configure(|config| config.channel_ring_bytes = 8 * 1024);
    let server = Arc::new(server.build());
    let client = server.connect().await.unwrap();
    let capacity = 512 << dice.below(5);
    let main = channel(&client, "main", capacity).await;
    let beside = channel(&client, "beside", 512).await;
    let slow = [0, 0, 3, 20][dice.below(4)];
    let read = collect(main.subscribe_with(lossless()).await.unwrap(), slow);
    let mut others = beside.subscribe_with(lossless()).await.unwrap();
    let mut other = beside.publish().await.unwrap();

    // Acknowledgements are late, now and then.
    let over = Arc::new(AtomicBool::new(false));
    let weather = {
        let (server, over, mut dice) = (Arc::clone(&server), Arc::clone(&over), Dice(!seed));
        spawn(async move {
            while !over.load(Ordering::Relaxed) {
                breathe(dice.below(30)).await;
                server.hold(Effect::Message);
                breathe(dice.below(30)).await;
                server.release();
            }
        })
    };
    let mut cutter = Cutter {
        dice,
        client: client.clone(),
        fates: BTreeMap::new(),
        next: 0,
        begun: Vec::new(),
        longest: capacity as usize,
        cuts: BTreeMap::new(),
    };
    for round in 0..12u64 {
        cutter.publication().await;
        let (polls, at_once) = cutter.polls();
        let created = cut(Channel::create(&client, 64), polls, at_once).await;
        cutter.count("create", polls, &created);
        if let Some(created) = created {
            let created = created.unwrap();
            let (polls, at_once) = cutter.polls();
            let deleted = cut(created.delete(), polls, at_once).await;
            cutter.count("delete", polls, &deleted);
        }
        let subscribed = cut(main.subscribe(64), polls, at_once).await;
        cutter.count("subscribe", polls, &subscribed);
        // Other streams of the connection go on.
        other.send(round.to_le_bytes().to_vec()).await.unwrap();
        assert_eq!(message(&mut others).await, &round.to_le_bytes()[..]);
        soon(other.flush()).await.unwrap();
    }
    other.close().await.unwrap();
    over.store(true, Ordering::Relaxed);
    soon(weather).await.unwrap();
    // One that is not cut off, behind all of them.
    let (number, last) = cutter.message();
    let mut publisher = main.publish().await.unwrap();
    publisher.send(last).await.unwrap();
    soon(publisher.close()).await.unwrap();
    cutter.fates.insert(number, Fate::Must);

    // What is left behind is given back: there are the two subscriptions, and nothing else.
    soon(async {
        while client.info().await.unwrap().streams != 2 {
            sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    // What a publication that was dropped has in the server is still written.
    until(&server, |now| now.waiting_bytes == 0 && now.writers == 0).await;
    main.drain().await.unwrap();
    let read = soon(read).await.unwrap();
    drop(others);
    let mut seen = BTreeSet::new();
    for number in &read {
        assert!(seen.insert(*number), "message {number} came twice");
        assert_ne!(cutter.fates[number], Fate::Never, "message {number} came");
    }
    for (at, first) in cutter.begun.iter().enumerate() {
        let end = cutter.begun.get(at + 1).copied().unwrap_or(number);
        let its_own = read.iter().filter(|number| (*first..end).contains(number));
        assert!(its_own.is_sorted(), "they are in order");
    }
    for (number, fate) in &cutter.fates {
        assert!(
            *fate != Fate::Must || seen.contains(number),
            "message {number} is lost"
        );
    }
    // Every account is back at its base.
    for known in client.channels().await.unwrap() {
        client.delete_channel(&known.name).await.unwrap();
    }
    soon(async {
        loop {
            let now = client.info().await.unwrap();
            assert_eq!(now.connections, 1);
            if (now.streams, now.held_bytes, now.ring_bytes) == (0, 0, 0) {
                return;
            }
        }
    })
    .await;
    let left = until(&server, |now| now.readers == 0 && now.writers == 0).await;
    assert_eq!((left.channels, left.waiting_bytes), (0, 0));
    for (what, (cut, done)) in cutter.cuts {
        let total = totals.entry(what).or_default();
        *total = (total.0 + cut, total.1 + done);
    }
}

#[apply(runtime_test!)]
async fn a_publisher_is_cut_off_at_every_await_point() {
    let mut totals = BTreeMap::new();
    for seed in seeds(150) {
        println!("SELIUM_REMOTE_SEED={seed}");
        a_cut_publisher(seed, &mut totals).await;
    }
    println!("cut off and done: {totals:?}");
    assert_eq!(totals.len(), 8);
    for (what, (cut, done)) in totals {
        // A sink that is fed waits only behind a message that found no room.
        assert!(
            done > 0 && (cut > 0 || what == "feed"),
            "{what}: {cut} {done}"
        );
    }
}

/// What a program saw of a publication that its connection was lost under, over and over.
#[derive(Default)]
struct Saw {
    /// Messages that were sent, by their numbers.
    sent: u64,
    /// Those whose publication has said that their outcome is unknown.
    unknown: BTreeSet<u64>,
    acknowledged: BTreeSet<u64>,
}

/// Publishes so many messages, in as many publications as that takes; each message is sent once.
async fn publish_through(client: Client, seed: u64, messages: u64) -> Saw {
    let mut dice = Dice(seed);
    let mut saw = Saw::default();
    while saw.sent < messages {
        // Whoever comes first after a restart makes the channel anew.
        let builder = ChannelBuilder::new(2_048).name("c");
        let _ = Channel::create_with(&client, builder).await;
        let options = PublishOptions::new().backlog(16_384);
        let mut publisher = match client.publish("c", options).await {
            Ok(publisher) => publisher,
            Err(error) if error.code() == Some(ErrorCode::NotFound) => continue,
            Err(error) => panic!("{error}"),
        };
        let first = saw.sent;
        let failed = loop {
            if saw.sent == messages {
                break publisher.close().await.err();
            }
            let mut message = saw.sent.to_le_bytes().to_vec();
            message.resize(8 + dice.below(500), 0);
            match publisher.send(message).await {
                Ok(number) => assert_eq!(first + number, saw.sent),
                Err(error) => break Some(error),
            }
            saw.sent += 1;
            if dice.chance(10)
                && let Err(error) = publisher.flush().await
            {
                break Some(error);
            }
            breathe(dice.below(4)).await;
        };
        let acknowledged = publisher.acknowledged().map_or(0, |last| last + 1);
        saw.acknowledged.extend(first..first + acknowledged);
        match failed {
            None => {}
            Some(ClientError::Publication(failure)) => {
                assert_eq!(failure.cause.kind(), ErrorKind::NewIncarnation, "{failure}");
                assert_eq!(failure.unknown.start, acknowledged);
                let Range { start, end } = failure.unknown;
                saw.unknown.extend(first + start..first + end);
            }
            Some(other) => panic!("{other}"),
        }
    }
    saw
}

/// What a subscriber got, until it has the last message, and how often the server was another one. Where something may be
/// missing there is a hole.
async fn subscribe_through(
    client: Client,
    mut subscriber: Subscriber,
    options: SubscribeOptions,
    messages: u64,
) -> (Vec<Option<u64>>, usize) {
    let (mut got, mut restarts) = (Vec::new(), 0);
    loop {
        match soon(subscriber.next()).await {
            Some(Ok(SubscribeItem::Message { payload, .. })) => {
                let number = u64::from_le_bytes(payload[..8].try_into().unwrap());
                got.push(Some(number));
                if number + 1 == messages {
                    return (got, restarts);
                }
                continue;
            }
            Some(Ok(SubscribeItem::Gap { .. })) => {
                got.push(None);
                continue;
            }
            Some(Err(error)) => assert_eq!(error.kind(), ErrorKind::NewIncarnation, "{error}"),
            other => panic!("{other:?}"),
        }
        // Whoever comes first after a restart makes the channel anew; something may have been published already.
        restarts += 1;
        got.push(None);
        subscriber = loop {
            let builder = ChannelBuilder::new(2_048).name("c");
            let _ = Channel::create_with(&client, builder).await;
            match client.subscribe("c", options).await {
                Ok(subscriber) => break subscriber,
                Err(error) => assert_eq!(error.code(), Some(ErrorCode::NotFound), "{error}"),
            }
        };
    }
}

async fn lost_connections(seed: u64) -> (usize, usize, usize) {
    let mut dice = Dice(seed);
    let server = InMemoryServer::builder().seed(seed).build();
    let restarts = dice.chance(50);
    let messages = 100 + dice.below(300) as u64;
    let apart = dice.chance(50);
    let (one, two) = match apart {
        false => {
            let client = server.connect().await.unwrap();
            (client.clone(), client)
        }
        true => (
            server.connect().await.unwrap(),
            server.connect().await.unwrap(),
        ),
    };
    let strict = dice.chance(50);
    let options = SubscribeOptions::new().lossless(strict);
    let c = channel(&two, "c", 2_048).await;
    let subscriber = c.subscribe_with(options).await.unwrap();
    let publishing = spawn(publish_through(one.clone(), seed, messages));
    let subscribing = subscribe_through(two, subscriber, options, messages);
    let mut subscribing = spawn(subscribing).fuse();
    let mut publishing = publishing.fuse();
    let (mut saw, mut got, mut drops) = (None, None, 0);
    while saw.is_none() {
        // While the clients are connected, mostly; and between any two steps of the tasks, so to say: they are on other
        // threads, or take turns with this one.
        let (connected, turns) = (dice.chance(90), dice.below(60));
        let next = async {
            if connected {
                server
                    .until(|now| now.connections > usize::from(apart))
                    .await;
            }
            breathe(turns).await;
        };
        tokio::select! {
            result = &mut publishing => saw = Some(result.unwrap()),
            result = &mut subscribing => got = Some(result.unwrap()),
            () = next => match dice.below(10) {
                0 if restarts => server.restart(),
                1 => server.lose_next(Effect::Message),
                2 => {
                    server.refuse_connections(Refusal::Overload);
                    server.drop_connections();
                    breathe(dice.below(30)).await;
                    server.accept_connections();
                }
                3 => server.stop_reading(),
                4 => server.stop_sending(),
                5 => server.hold(Effect::Message),
                6 => server.release(),
                7 | 8 => server.resume(),
                _ => server.drop_connections(),
            },
        }
        drops += 1;
        if drops % 8 == 0 {
            server.resume();
            server.release();
        }
    }
    server.resume();
    server.release();
    let saw = saw.unwrap();
    // Everything is either acknowledged or reported, and nothing both.
    assert_eq!(saw.sent, messages);
    let all: BTreeSet<u64> = saw.acknowledged.union(&saw.unknown).copied().collect();
    assert_eq!(all, (0..messages).collect(), "not accounted for");
    assert_eq!(saw.acknowledged.intersection(&saw.unknown).count(), 0);
    // One more, which is not lost under way, so that the subscriber comes to its end: the last number again, if it had it
    // not.
    let got = match got {
        Some(got) => got,
        None => {
            let mut publisher = loop {
                let builder = ChannelBuilder::new(2_048).name("c");
                let _ = Channel::create_with(&one, builder).await;
                match one.publish("c", PublishOptions::new()).await {
                    Ok(publisher) => break publisher,
                    Err(error) => assert_eq!(error.code(), Some(ErrorCode::NotFound), "{error}"),
                }
            };
            let last = (messages - 1).to_le_bytes().to_vec();
            loop {
                publisher.send(last.clone()).await.unwrap();
                tokio::select! {
                    got = &mut subscribing => break got.unwrap(),
                    () = sleep(Duration::from_millis(2)) => {}
                }
            }
        }
    };
    let (got, restarts_seen) = got;
    // One behind the other, but behind holes.
    let (mut last, mut holes) = (None, 0);
    for item in &got {
        match (*item, last) {
            (None, _) => holes += 1,
            (Some(number), Some(Some(last))) => assert_eq!(number, last + 1, "{got:?}"),
            (Some(number), None) => assert_eq!(number, 0, "{got:?}"),
            // PROTOCOL.md: a source that was without subscribers begins again with what the channel holds.
            (Some(_), Some(None)) => {}
        }
        last = Some(*item);
    }
    if !strict && restarts_seen == 0 {
        // The server reads on for one that may lose messages, and comes back: nothing comes twice.
        let numbers: Vec<u64> = got.iter().flatten().copied().collect();
        assert!(numbers.is_sorted_by(|one, other| one < other), "{got:?}");
    }
    (drops, restarts_seen, holes)
}

#[apply(runtime_test!)]
async fn nothing_is_lost_without_a_word_under_lost_connections_and_restarts() {
    let (mut drops, mut restarts, mut holes) = (0, 0, 0);
    for seed in seeds(60) {
        println!("SELIUM_REMOTE_SEED={seed}");
        let run = timeout(Duration::from_secs(60), lost_connections(seed));
        let run = run.await.expect("it comes to an end");
        (drops, restarts, holes) = (drops + run.0, restarts + run.1, holes + run.2);
    }
    println!("{drops} faults, {restarts} restarts seen, {holes} holes");
    assert!(drops > 0 && restarts > 0 && holes > restarts);
}

#[apply(runtime_test!)]
async fn an_idle_publisher_freezes_nobody() {
    let server = InMemoryServer::new();
    server.module("idle.wasm", |guest: Guest| async move {
        let mut writer = guest.writer(0)?;
        writer.write("guest").await?;
        idle(guest).await
    });
    let client = server.connect().await.unwrap();
    let c = channel(&client, "c", 1_024).await;
    let mut strict = c.subscribe_with(lossless()).await.unwrap();
    let mut lax = c.subscribe(1_024).await.unwrap();
    let mut idler = c.publish().await.unwrap();
    idler.send("idler").await.unwrap();
    idler.flush().await.unwrap();
    let guest = process("idle.wasm").arg_channel(&c);
    Process::start(&client, guest).await.unwrap();
    for expected in ["idler", "guest"] {
        assert_eq!(message(&mut strict).await, expected);
        assert_eq!(message(&mut lax).await, expected);
    }
    // On another connection, too.
    let others = [client.clone(), server.connect().await.unwrap()];
    for (at, other) in others.iter().enumerate() {
        let mut publisher = other.publish("c", PublishOptions::new()).await.unwrap();
        for number in 0..200u64 {
            let text = format!("{at} {number}");
            publisher.send(text.clone()).await.unwrap();
            assert_eq!(message(&mut strict).await, text);
            assert_eq!(message(&mut lax).await, text);
        }
        soon(publisher.close()).await.unwrap();
    }
    // It is still there, and good for more.
    idler.send("more").await.unwrap();
    soon(idler.close()).await.unwrap();
    assert_eq!(message(&mut strict).await, "more");
    assert_eq!(message(&mut lax).await, "more");
}
