//! Lost connections, over real ones: what goes on, what is told, and what is never done twice.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod common;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, UNIX_EPOCH},
};

use bytes::Bytes;
use common::{
    Ca, Server,
    dice::Dice,
    runtime::{Task, apply, runtime_test, sleep, spawn, threads_test},
    soon,
    world::{Cut, World},
};
use futures_util::FutureExt as _;
use selium_remote_client::{
    Channel, Client, ClientError, CloseReason, ConnectionEvent, ConnectionEvents, ConnectionState,
    ErrorCode, ErrorKind, LogItem, LogOptions, LogStream, Process, ProcessBuilder, PublishOptions,
    Publisher, Reconnect, SubscribeItem, SubscribeOptions, Subscriber,
};
use selium_remote_client_protocol::ops::op;

fn quickly() -> Reconnect {
    Reconnect::new()
        .delay(Duration::from_millis(2))
        .max_delay(Duration::from_millis(8))
}

async fn world_with(reconnect: Reconnect) -> (Server, World, Client) {
    let server = Server::new();
    let world = World::new(&server);
    let config = server.config().reconnect(reconnect);
    let client = soon(config.connect()).await.unwrap();
    (server, world, client)
}

async fn world() -> (Server, World, Client) {
    world_with(quickly()).await
}

async fn until(what: &str, mut is: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !is() {
        assert!(Instant::now() < deadline, "it happens soon: {what}");
        tokio::task::yield_now().await;
        sleep(Duration::from_millis(1)).await;
    }
}

async fn event(events: &mut ConnectionEvents) -> ConnectionEvent {
    soon(events.next()).await.expect("the client is not over")
}

/// Waits for an attempt: the loss was noticed.
async fn retrying(events: &mut ConnectionEvents) {
    while !matches!(event(events).await, ConnectionEvent::Retrying { .. }) {}
}

/// Cuts the connection, and lets no other one be made.
async fn cut_off(world: &World, events: &mut ConnectionEvents) {
    world.refuse(true);
    world.state().sever();
    retrying(events).await;
}

fn hello() -> ProcessBuilder {
    ProcessBuilder::new("hello.wasm", "start")
}

#[apply(runtime_test!)]
async fn a_lost_connection_is_made_again_and_that_is_told_in_order() {
    let (_server, world, client) =
        world_with(Reconnect::new().delay(Duration::from_millis(2))).await;
    let mut events = client.events();
    assert!(matches!(
        event(&mut events).await,
        ConnectionEvent::Connected {
            again: false,
            incarnation
        } if incarnation == [0; 16]
    ));
    for round in 0..3u32 {
        assert_eq!(client.state(), ConnectionState::Connected);
        let began = Instant::now();
        world.state().sever();
        match event(&mut events).await {
            ConnectionEvent::Lost { reason } => assert_eq!(reason, CloseReason::Lost),
            other => panic!("{other:?}"),
        }
        assert_eq!(client.state(), ConnectionState::Reconnecting);
        assert!(!client.is_closed());
        let after = match event(&mut events).await {
            ConnectionEvent::Retrying {
                after,
                attempt: 1,
                error: None,
            } => after,
            other => panic!("{other:?}"),
        };
        // Connections that do not last do not begin the waits anew.
        let longest = Duration::from_millis(2 << round.min(2));
        assert!(after >= longest / 2 && after <= longest, "{after:?}");
        match event(&mut events).await {
            ConnectionEvent::Connected { again, incarnation } => {
                assert!(again && incarnation == [0; 16] && began.elapsed() >= after);
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(soon(client.info()).await.unwrap().connections, 4);
    // A listener that comes later is told where things stand.
    assert!(matches!(
        event(&mut client.events()).await,
        ConnectionEvent::Connected { again: true, .. }
    ));
    world.state().restart();
    let mut seen = Vec::new();
    while !matches!(seen.last(), Some(ConnectionEvent::NewIncarnation { .. })) {
        seen.push(event(&mut events).await);
    }
    match &seen[seen.len() - 2..] {
        [
            ConnectionEvent::Connected { incarnation, .. },
            ConnectionEvent::NewIncarnation { old, new },
        ] => assert_eq!((incarnation, old, new), (&[1; 16], &[0; 16], &[1; 16])),
        other => panic!("{other:?}"),
    }
    assert_eq!(client.server().incarnation, [1; 16]);
    soon(client.close()).await;
    assert!(matches!(event(&mut events).await, ConnectionEvent::Closed));
    assert!(soon(events.next()).await.is_none());
}

#[apply(runtime_test!)]
async fn without_reconnecting_the_client_ends_with_its_connection() {
    let (_server, world, client) = world_with(Reconnect::never()).await;
    let mut events = client.events();
    world.state().sever();
    let error = soon(async {
        loop {
            if let Err(error) = client.info().await {
                break error;
            }
        }
    })
    .await;
    assert!(matches!(error, ClientError::Closed(_)), "{error:?}");
    assert_eq!(client.state(), ConnectionState::Closed);
    let mut told = Vec::new();
    while let Some(event) = soon(events.next()).await {
        told.push(event);
    }
    assert!(
        matches!(
            &told[..],
            [
                ConnectionEvent::Connected { .. },
                ConnectionEvent::Lost { .. },
                ConnectionEvent::Closed
            ]
        ),
        "{told:?}"
    );
    assert_eq!(world.state().connections, 1);
}

#[apply(runtime_test!)]
async fn a_question_without_an_answer_is_asked_again() {
    let (_server, world, client) = world().await;
    for cut in [Cut::Before, Cut::Behind] {
        world.state().asked.clear();
        world.state().cut = Some((1, cut));
        soon(client.info()).await.unwrap();
        let asked = std::mem::take(&mut world.state().asked);
        let times = if cut == Cut::Before { 1 } else { 2 };
        assert_eq!(asked, vec![(op::SERVER_INFO, None, false); times]);
    }
    // A ping is answered by the core, and asks again as well.
    cut_off(&world, &mut client.events()).await;
    let mut ping = Box::pin(client.ping());
    assert!((&mut ping).now_or_never().is_none());
    world.refuse(false);
    soon(ping).await.unwrap();
}

#[apply(runtime_test!)]
async fn a_start_that_was_executed_is_answered_and_not_executed_again() {
    let (_server, world, client) = world().await;
    world.state().cut = Some((1, Cut::Behind));
    let process = soon(Process::start(&client, hello())).await.unwrap();
    assert_eq!(process.name(), Some("p1"));
    assert_eq!(world.state().started, [1]);
    let asked = std::mem::take(&mut world.state().asked);
    assert_eq!(
        asked,
        [
            (op::PROCESS_START, Some(1), false),
            (op::PROCESS_START, Some(1), true)
        ]
    );
    soon(Process::start(&client, hello())).await.unwrap();
    assert_eq!(world.state().started, [1, 2]);
}

#[apply(runtime_test!)]
async fn a_start_that_the_server_does_not_know_has_an_unknown_outcome() {
    let (_server, world, client) = world().await;
    let mut events = client.events();
    let unknown = |error: ClientError| {
        assert!(
            matches!(error, ClientError::OutcomeUnknown { .. }),
            "{error:?}"
        );
        assert_eq!(error.kind(), ErrorKind::OutcomeUnknown);
        assert_eq!(error.code(), Some(ErrorCode::OutcomeUnknown));
        assert!(error.is_outcome_unknown() && !error.is_retryable() && !error.is_timeout());
        assert!(error.request_id().is_some());
        let text = error.to_string();
        assert!(text.contains("`process start` was sent"), "{text}");
        assert!(text.contains("look with `selium ps --all`"), "{text}");
    };
    world.state().cut = Some((1, Cut::Before));
    unknown(soon(Process::start(&client, hello())).await.unwrap_err());
    assert!(world.state().started.is_empty());

    // It was executed, and the server was restarted before it could say so.
    world.state().cut = Some((1, Cut::Behind));
    world.refuse(true);
    let start = spawn({
        let client = client.clone();
        async move { Process::start(&client, hello()).await.map(drop) }
    });
    until("it was started", || !world.state().started.is_empty()).await;
    retrying(&mut events).await;
    world.state().restart();
    world.refuse(false);
    unknown(soon(start).await.unwrap().unwrap_err());
    assert_eq!(world.state().started.len(), 1);
}

#[apply(runtime_test!)]
async fn requests_wait_for_the_connection_as_long_as_they_may() {
    let (_server, world, client) = world().await;
    let mut events = client.events();
    cut_off(&world, &mut events).await;
    let hurried = client.with_timeout(Duration::from_millis(50));
    assert_eq!(hurried.timeout(), Duration::from_millis(50));
    let began = Instant::now();
    let error = soon(Process::start(&hurried, hello())).await.unwrap_err();
    assert!(began.elapsed() >= Duration::from_millis(50));
    assert!(
        matches!(error, ClientError::NotConnected { .. }),
        "{error:?}"
    );
    assert!(error.is_timeout() && error.is_retryable() && !error.is_outcome_unknown());
    let text = "not connected for 50 ms, `process start` was not sent: the connection was lost and is being made again";
    assert_eq!(error.to_string(), text);
    let error = soon(hurried.processes(false)).await.unwrap_err();
    assert!(
        matches!(error, ClientError::NotConnected { after, .. } if after == hurried.timeout()),
        "{error:?}"
    );

    // One that was sent has an unknown outcome when its time passes.
    world.refuse(false);
    soon(client.info()).await.unwrap();
    world.refuse(true);
    world.state().cut = Some((1, Cut::Behind));
    let error = soon(Process::start(&hurried, hello())).await.unwrap_err();
    assert!(
        matches!(error, ClientError::Expired { changing: true, .. }),
        "{error:?}"
    );
    assert!(error.is_outcome_unknown());

    let waiting = client.clone();
    let info = spawn(async move { waiting.info().await });
    let waiting = client.clone();
    let start = spawn(async move { Process::start(&waiting, hello()).await.map(drop) });
    world.refuse(false);
    soon(info).await.unwrap().unwrap();
    soon(start).await.unwrap().unwrap();
    assert_eq!(world.state().started.len(), 2);
}

async fn item(subscriber: &mut Subscriber) -> SubscribeItem {
    soon(subscriber.next()).await.unwrap().unwrap()
}

fn message(sequence: u64, payload: &'static str) -> SubscribeItem {
    let payload = Bytes::from_static(payload.as_bytes());
    SubscribeItem::Message { sequence, payload }
}

#[apply(runtime_test!)]
async fn a_subscription_goes_on_where_it_was() {
    let (_server, world, client) = world().await;
    let mut events = client.events();
    let channel = soon(Channel::create(&client, 4_096)).await.unwrap();
    let options = SubscribeOptions::new().lossless(true);
    let mut subscriber = soon(channel.subscribe_with(options)).await.unwrap();
    let mut publisher = soon(channel.publish()).await.unwrap();
    for text in ["a", "b", "c"] {
        soon(publisher.send(text)).await.unwrap();
    }
    soon(publisher.flush()).await.unwrap();
    assert_eq!(item(&mut subscriber).await, message(0, "a"));
    cut_off(&world, &mut events).await;
    // What arrived before the end is not lost, and not sent twice.
    assert_eq!(item(&mut subscriber).await, message(1, "b"));
    {
        let mut state = world.state();
        let name = channel.name().unwrap();
        for text in ["d", "e", "f"] {
            state.hub.channel(name).messages.push_back(text.into());
        }
        state.hub.retain(name, 2);
    }
    world.refuse(false);
    assert_eq!(item(&mut subscriber).await, message(2, "c"));
    let gap = SubscribeItem::Gap {
        next: 4,
        count: Some(1),
    };
    assert_eq!(item(&mut subscriber).await, gap);
    assert_eq!(item(&mut subscriber).await, message(4, "e"));
    assert_eq!(item(&mut subscriber).await, message(5, "f"));
    // Another loss, before anything new came.
    world.state().sever();
    assert!(soon(subscriber.next()).now_or_never().is_none());
    soon(publisher.send("g")).await.unwrap();
    assert_eq!(item(&mut subscriber).await, message(6, "g"));
    soon(channel.delete()).await.unwrap();
    assert!(soon(subscriber.next()).await.is_none());
    assert_eq!(subscriber.end_reason(), Some("the channel was deleted"));
}

async fn record(log: &mut LogStream) -> LogItem {
    soon(log.next()).await.unwrap().unwrap()
}

fn is_record(item: &LogItem, number: u64) -> bool {
    matches!(item, LogItem::Unreadable { sequence, .. } if *sequence == number)
}

#[apply(runtime_test!)]
async fn a_log_goes_on_where_it_was() {
    let (_server, world, client) = world().await;
    let mut events = client.events();
    let channel = soon(Channel::create(&client, 4_096)).await.unwrap();
    let name = channel.name().unwrap();
    for _ in 0..3 {
        let record = Bytes::from_static(b"r");
        world.state().hub.channel(name).messages.push_back(record);
    }
    let process = Process::new(&client, channel.handle());
    let mut log = soon(process.log_channel()).await.unwrap();
    let mut once = soon(process.logs(LogOptions::new().follow(false)))
        .await
        .unwrap();
    for number in 0..3 {
        assert!(is_record(&record(&mut log).await, number));
        assert!(is_record(&record(&mut once).await, number));
    }
    cut_off(&world, &mut events).await;
    for _ in 0..4 {
        let record = Bytes::from_static(b"r");
        world.state().hub.channel(name).messages.push_back(record);
    }
    world.state().hub.retain(name, 2);
    // It had all that it was to have.
    assert!(soon(once.next()).await.is_none());
    world.refuse(false);
    let gap = LogItem::Gap {
        next: 5,
        count: Some(2),
    };
    assert_eq!(record(&mut log).await, gap);
    assert!(is_record(&record(&mut log).await, 5));
    assert!(is_record(&record(&mut log).await, 6));
    assert_eq!(log.position(), 7);
}

#[apply(runtime_test!)]
async fn the_beginning_of_a_log_that_was_lost_unread_is_told() {
    let (_server, world, client) = world().await;
    let mut events = client.events();
    let channel = soon(Channel::create(&client, 4_096)).await.unwrap();
    let name = channel.name().unwrap();
    let process = Process::new(&client, channel.handle());
    let mut log = soon(process.log_channel()).await.unwrap();
    cut_off(&world, &mut events).await;
    for _ in 0..4 {
        let record = Bytes::from_static(b"r");
        world.state().hub.channel(name).messages.push_back(record);
    }
    world.state().hub.retain(name, 1);
    world.refuse(false);
    let gap = LogItem::Gap {
        next: 3,
        count: Some(3),
    };
    assert_eq!(record(&mut log).await, gap);
    assert!(is_record(&record(&mut log).await, 3));
}

#[apply(runtime_test!)]
async fn a_publication_goes_on_by_itself_while_nobody_looks() {
    let (_server, world, client) = world().await;
    let channel = soon(Channel::create(&client, 4_096)).await.unwrap();
    let mut subscriber = soon(channel.subscribe(4_096)).await.unwrap();
    let mut publisher = soon(channel.publish()).await.unwrap();
    let mut number = 0;
    // Not come, come and not acknowledged, in all combinations of two losses.
    for cuts in [
        [Cut::Before, Cut::Before],
        [Cut::Before, Cut::Behind],
        [Cut::Behind, Cut::Before],
        [Cut::Behind, Cut::Behind],
    ] {
        for cut in cuts {
            world.state().cut = Some((1, cut));
            assert_eq!(soon(publisher.send("x")).await.unwrap(), number);
            // Nobody touches the publisher.
            assert_eq!(item(&mut subscriber).await, message(number, "x"));
            number += 1;
        }
    }
    soon(publisher.flush()).await.unwrap();
    assert_eq!(publisher.acknowledged(), Some(number - 1));
    soon(publisher.close()).await.unwrap();
    assert_eq!(soon(channel.inspect()).await.unwrap().published, number);
}

#[apply(runtime_test!)]
async fn what_the_server_has_is_not_sent_again() {
    let (_server, world, client) = world().await;
    let mut events = client.events();
    let channel = soon(Channel::create(&client, 4_096)).await.unwrap();
    let mut publisher = soon(channel.publish()).await.unwrap();
    world.refuse(true);
    world.state().cut = Some((1, Cut::Behind));
    soon(publisher.send("x")).await.unwrap();
    retrying(&mut events).await;
    assert_eq!(publisher.acknowledged(), None);
    world.state().hub.hold();
    world.refuse(false);
    // Nothing is taken any more: the answer to the resume has said that it was.
    soon(publisher.flush()).await.unwrap();
    assert_eq!(publisher.acknowledged(), Some(0));
}

#[apply(runtime_test!)]
async fn messages_are_taken_without_a_connection_as_long_as_there_is_room() {
    let (_server, world, client) = world().await;
    let mut events = client.events();
    let channel = soon(Channel::create(&client, 65_536)).await.unwrap();
    let options = PublishOptions::new().backlog(16_384);
    let mut publisher = soon(channel.publish_with(options)).await.unwrap();
    cut_off(&world, &mut events).await;
    let mut sent = 0;
    let error = loop {
        match publisher.try_send(vec![1; 1_000]) {
            Ok(number) => assert_eq!(number, sent),
            Err(error) => break error,
        }
        sent += 1;
    };
    assert!(
        matches!(error, ClientError::BacklogFull { .. }),
        "{error:?}"
    );
    assert_eq!(sent, 15);
    assert_eq!(publisher.unacknowledged().len(), 15);
    let mut waiting = Box::pin(publisher.send(vec![1; 1_000]));
    assert!((&mut waiting).now_or_never().is_none());
    world.refuse(false);
    assert_eq!(soon(waiting).await.unwrap(), 15);
    // Closing goes on over losses, too.
    world.state().cut = Some((1, Cut::Behind));
    soon(publisher.close()).await.unwrap();
    assert_eq!(soon(channel.inspect()).await.unwrap().published, 16);
}

#[apply(runtime_test!)]
async fn a_restarted_server_ends_streams_and_what_is_lost_is_named() {
    let (_server, world, client) = world().await;
    let mut events = client.events();
    let channel = soon(Channel::create(&client, 65_536)).await.unwrap();
    let name = channel.name().unwrap().to_owned();
    let mut publisher = soon(client.publish(&name, PublishOptions::new()))
        .await
        .unwrap();
    let mut idle = soon(client.publish(&name, PublishOptions::new()))
        .await
        .unwrap();
    soon(publisher.send("a")).await.unwrap();
    soon(publisher.flush()).await.unwrap();
    let mut subscriber = soon(channel.subscribe(4_096)).await.unwrap();
    let process = Process::new(&client, channel.handle());
    let mut log = soon(process.log_channel()).await.unwrap();
    assert!(is_record(&record(&mut log).await, 0));
    cut_off(&world, &mut events).await;
    soon(publisher.send("b")).await.unwrap();
    soon(publisher.send("c")).await.unwrap();
    world.state().restart();
    world.refuse(false);
    // Another channel of that name, perhaps even of that id, is not meant.
    assert_eq!(
        soon(Channel::create(&client, 1_024)).await.unwrap().id(),
        channel.id()
    );
    let is_new = |error: &ClientError| {
        assert_eq!(error.kind(), ErrorKind::NewIncarnation, "{error:?}");
        assert!(!error.is_retryable());
    };
    let error = soon(subscriber.next()).await.unwrap().unwrap_err();
    is_new(&error);
    let text = "the server was restarted (it was 00000000, it is 01010101 now) and knows nothing from before: what the \
                channel 0123456700000001 had from message 1 on cannot be told; its id is void";
    assert_eq!(error.to_string(), text);
    assert!(soon(subscriber.next()).await.is_none());
    let error = soon(log.next()).await.unwrap().unwrap_err();
    is_new(&error);
    assert!(error.to_string().contains("from record 1 on"), "{error}");

    for _ in 0..2 {
        let error = soon(publisher.flush()).await.unwrap_err();
        is_new(&error);
        assert!(error.is_outcome_unknown());
        let ClientError::Publication(failure) = error else {
            panic!("{error:?}");
        };
        assert_eq!((failure.acknowledged, failure.unknown), (Some(0), 1..3));
    }
    let unknown = publisher.unacknowledged();
    assert_eq!(unknown, [(1, "b".into()), (2, "c".into())]);
    until("the idle one is noticed", || idle.try_send("x").is_err()).await;
    let error = soon(idle.send("x")).await.unwrap_err();
    is_new(&error);
    soon(client.info()).await.unwrap();
}

#[apply(runtime_test!)]
async fn a_publication_that_the_server_forgot_has_an_unknown_outcome() {
    let (_server, world, client) = world().await;
    let mut events = client.events();
    let channel = soon(Channel::create(&client, 65_536)).await.unwrap();
    let mut publisher = soon(channel.publish()).await.unwrap();
    cut_off(&world, &mut events).await;
    soon(publisher.send("a")).await.unwrap();
    assert_eq!(publisher.sent(), 1);
    assert!(
        publisher.ended().now_or_never().is_none(),
        "it may go on yet"
    );
    world.state().hub.forget();
    world.refuse(false);
    let end = soon(publisher.ended()).await;
    assert_eq!(end.kind(), ErrorKind::OutcomeUnknown);
    let error = soon(publisher.flush()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutcomeUnknown);
    assert!(error.request_id().is_some(), "{error:?}");
    assert!(matches!(&error, ClientError::Publication(failure) if failure.unknown == (0..1)));
}

#[apply(runtime_test!)]
async fn attempts_come_to_an_end_if_they_are_to() {
    let policy = quickly().attempts(3);
    let (_server, world, client) = world_with(policy).await;
    let mut events = client.events();
    let channel = soon(Channel::create(&client, 65_536)).await.unwrap();
    let mut publisher = soon(channel.publish()).await.unwrap();
    let mut subscriber = soon(channel.subscribe(4_096)).await.unwrap();
    world.refuse(true);
    world.state().cut = Some((1, Cut::Behind));
    let error = soon(Process::start(&client, hello())).await.unwrap_err();
    assert!(
        matches!(&error, ClientError::GaveUp(gave_up) if gave_up.attempts == 3 && gave_up.changing),
        "{error:?}"
    );
    assert_eq!(error.operation(), Some("process start"));
    assert!(error.request_id().is_some(), "{error:?}");
    assert!(error.is_outcome_unknown() && !error.is_auth() && !error.is_retryable());
    assert_eq!(error.kind(), ErrorKind::Refused);
    let text = error.to_string();
    assert!(
        text.contains("(3 attempts)") && text.contains("outcome unknown"),
        "{text}"
    );
    let error = soon(client.info()).await.unwrap_err();
    assert!(error.is_retryable() && !error.is_outcome_unknown());
    assert!(client.is_closed());
    let error = soon(subscriber.next()).await.unwrap().unwrap_err();
    assert!(matches!(error, ClientError::GaveUp(_)), "{error:?}");
    let error = soon(publisher.send("x")).await.unwrap_err();
    assert!(
        matches!(&error, ClientError::Publication(failure)
            if matches!(*failure.cause, ClientError::GaveUp(_))),
        "{error:?}"
    );
    let mut attempts = Vec::new();
    let mut last = None;
    while let Some(event) = soon(events.next()).await {
        if let ConnectionEvent::Retrying { attempt, error, .. } = &event {
            attempts.push((*attempt, error.is_some()));
        }
        last = Some(event);
    }
    assert_eq!(attempts, [(1, false), (2, true), (3, true)]);
    assert!(matches!(last, Some(ConnectionEvent::GaveUp { .. })));
}

#[apply(runtime_test!)]
async fn an_authentication_error_is_final_and_certificates_are_read_again() {
    let server_ca = Ca::new("ca");
    let directory = server_ca.client_directory(&server_ca);
    let server = Server::with(&server_ca, "localhost", None, &[], directory);
    let world = World::new(&server);
    let config = server.config().reconnect(quickly());
    let client = soon(config.connect()).await.unwrap();
    let mut events = client.events();
    let first = client.credentials_expire_at().unwrap();

    // A renewed certificate counts from the next connection on.
    let path = server.directory.path();
    let (certificate, key) = server_ca.issue("client", |params| {
        params.not_after = rcgen::date_time_ymd(2090, 1, 1);
    });
    std::fs::write(path.join("client.crt"), certificate.pem()).unwrap();
    std::fs::write(path.join("client.key"), key.serialize_pem()).unwrap();
    assert_eq!(client.credentials_expire_at(), Some(first));
    world.state().sever();
    until("it is connected again", || {
        client.credentials_expire_at() != Some(first)
    })
    .await;
    let expires = client.credentials_expire_at().unwrap();
    let seconds = expires.duration_since(UNIX_EPOCH).unwrap().as_secs();
    assert_eq!(seconds, 3_786_912_000);
    soon(client.info()).await.unwrap();

    // A directory that is just being written is looked at again, once.
    std::fs::remove_file(path.join("client.key")).unwrap();
    world.state().sever();
    loop {
        if let ConnectionEvent::Retrying {
            error: Some(error), ..
        } = event(&mut events).await
        {
            assert_eq!(error.kind(), ErrorKind::Certificate);
            break;
        }
    }
    std::fs::write(path.join("client.key"), key.serialize_pem()).unwrap();
    soon(client.info()).await.unwrap();

    // Another CA: nobody is asked twice.
    let connections = world.state().connections;
    std::fs::write(path.join("ca.crt"), Ca::new("other").pem().0).unwrap();
    world.state().sever();
    let error = soon(client.info()).await.unwrap_err();
    assert!(
        matches!(&error, ClientError::GaveUp(gave_up) if gave_up.attempts == 1),
        "{error:?}"
    );
    assert!(error.is_auth() && !error.is_retryable());
    assert_eq!(error.kind(), ErrorKind::Authentication);
    assert_eq!(world.state().connections, connections);
    while !matches!(event(&mut events).await, ConnectionEvent::GaveUp { error } if error.is_auth())
    {
    }
    assert!(soon(events.next()).await.is_none());
}

#[apply(runtime_test!)]
async fn closing_while_reconnecting_does_not_wait() {
    let patient = Reconnect::new().delay(Duration::from_secs(3_600));
    let patient = patient.max_delay(Duration::from_secs(3_600));
    let (_server, world, client) = world_with(patient).await;
    let mut events = client.events();
    let channel = soon(Channel::create(&client, 65_536)).await.unwrap();
    let mut publisher = soon(channel.publish()).await.unwrap();
    let mut subscriber = soon(channel.subscribe(4_096)).await.unwrap();
    cut_off(&world, &mut events).await;
    soon(publisher.send("x")).await.unwrap();
    let waiting = client.clone();
    let waiting = spawn(async move { waiting.info().await.map(drop) });
    let following = spawn(async move { subscriber.next().await.map(|item| item.map(drop)) });
    let publishing = spawn(async move { publisher.close().await });
    tokio::task::yield_now().await;
    let began = Instant::now();
    soon(client.clone().close()).await;
    assert!(began.elapsed() < Duration::from_millis(500));
    let error = soon(waiting).await.unwrap().unwrap_err();
    assert!(matches!(error, ClientError::Closed(_)), "{error:?}");
    let error = soon(following).await.unwrap().unwrap().unwrap_err();
    assert!(matches!(error, ClientError::Closed(_)), "{error:?}");
    let error = soon(publishing).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
    assert!(matches!(&error, ClientError::Publication(failure) if failure.unknown == (0..1)));
    assert_eq!(client.state(), ConnectionState::Closed);
    assert!(matches!(event(&mut events).await, ConnectionEvent::Closed));
    assert!(soon(events.next()).await.is_none());
    assert_eq!(world.state().connections, 1);
}

/// Nothing is left of a client that was dropped while it was being connected: neither a task nor an attempt.
#[cfg(feature = "tokio")]
#[test]
fn dropping_everything_while_reconnecting_ends_the_task() {
    let clients = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    common::runtime::block_on(async {
        let patient = Reconnect::new()
            .delay(Duration::from_secs(3_600))
            .max_delay(Duration::from_secs(3_600));
        for policy in [quickly(), patient] {
            let server = Server::new();
            let world = World::new(&server);
            let config = server.config().reconnect(policy);
            let client = clients.spawn(config.connect()).await.unwrap().unwrap();
            let mut events = client.events();
            let channel = soon(Channel::create(&client, 65_536)).await.unwrap();
            let mut publisher = soon(channel.publish()).await.unwrap();
            let mut subscriber = soon(channel.subscribe(4_096)).await.unwrap();
            cut_off(&world, &mut events).await;
            soon(publisher.send("x")).await.unwrap();
            assert!(subscriber.next().now_or_never().is_none());
            let metrics = clients.metrics();
            assert!(metrics.num_alive_tasks() > 0);
            drop((client, channel, publisher));
            assert!(metrics.num_alive_tasks() > 0, "the subscriber is left");
            drop(subscriber);
            while soon(events.next()).await.is_some() {}
            until("all tasks ended", || metrics.num_alive_tasks() == 0).await;
        }
    });
}

#[cfg(feature = "tokio")]
#[test]
fn a_client_that_reconnects_outlives_its_runtime() {
    let clients = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    common::runtime::block_on(async {
        let server = Server::new();
        let world = World::new(&server);
        let config = server.config().reconnect(quickly());
        let client = clients.spawn(config.connect()).await.unwrap().unwrap();
        let mut events = client.events();
        let channel = soon(Channel::create(&client, 65_536)).await.unwrap();
        let mut publisher = soon(channel.publish()).await.unwrap();
        let mut subscriber = soon(channel.subscribe(4_096)).await.unwrap();
        cut_off(&world, &mut events).await;
        soon(publisher.send("x")).await.unwrap();
        let waiting = client.clone();
        let waiting = spawn(async move { waiting.info().await.map(drop) });
        let flushing = spawn(async move { publisher.flush().await });
        let reading = spawn(async move { subscriber.next().await.map(|item| item.map(drop)) });
        tokio::task::yield_now().await;
        clients.shutdown_background();
        let error = soon(waiting).await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Closed);
        let error = soon(flushing).await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Closed);
        let error = soon(reading).await.unwrap().unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Closed);
        assert!(client.is_closed());
        soon(client.close()).await;
    });
}

/// What became of one publisher.
struct Published {
    sent: u64,
    acknowledged: Option<u64>,
    unknown: BTreeSet<u64>,
}

fn body(whose: u8, number: u64, length: usize) -> Vec<u8> {
    let mut body = vec![whose];
    body.extend(number.to_be_bytes());
    body.resize(9 + length, whose);
    body
}

async fn publish(mut publisher: Publisher, whose: u8, messages: u64) -> Published {
    let mut sent = 0;
    let mut failed = None;
    for number in 0..messages {
        match publisher
            .send(body(whose, number, (number * 37 % 900) as usize))
            .await
        {
            Ok(got) => assert_eq!(got, number),
            Err(error) => {
                failed = Some(error);
                break;
            }
        }
        sent += 1;
    }
    if failed.is_none() {
        failed = publisher.close().await.err();
    }
    let unknown = match failed {
        None => BTreeSet::new(),
        Some(ClientError::Publication(failure)) => {
            let listed: BTreeSet<u64> = failure.unknown.clone().collect();
            let held: BTreeSet<u64> = publisher.unacknowledged().iter().map(|(n, _)| *n).collect();
            assert_eq!(listed, held);
            listed
        }
        Some(other) => panic!("{other:?}"),
    };
    Published {
        sent,
        acknowledged: publisher.acknowledged(),
        unknown,
    }
}

/// What somebody who reads was told: messages, and how many were missing in between.
#[derive(Default)]
struct Told {
    position: u64,
    messages: BTreeMap<u64, Bytes>,
    missing: u64,
}

impl Told {
    fn message(&mut self, sequence: u64, payload: Bytes) {
        assert_eq!(sequence, self.position, "each once and in order");
        self.position += 1;
        self.messages.insert(sequence, payload);
    }

    fn gap(&mut self, next: u64, count: Option<u64>) {
        let count = count.expect("the server counts");
        assert_eq!(self.position + count, next, "the gap is exact");
        self.position = next;
        self.missing += count;
    }
}

/// Reads up to a number, or to the end of the server's run.
async fn read(mut subscriber: Subscriber, until: u64) -> Told {
    let mut told = Told::default();
    while told.position < until {
        match subscriber.next().await {
            Some(Ok(SubscribeItem::Message { sequence, payload })) => {
                told.message(sequence, payload);
            }
            Some(Ok(SubscribeItem::Gap { next, count })) => told.gap(next, count),
            Some(Err(error)) if error.kind() == ErrorKind::NewIncarnation => break,
            other => panic!("{other:?}"),
        }
    }
    told
}

/// As [`read`], a log (of records that are none).
async fn follow(mut log: LogStream, until: u64) -> Told {
    let mut told = Told::default();
    while told.position < until {
        match log.next().await {
            Some(Ok(LogItem::Unreadable {
                sequence, bytes, ..
            })) => told.message(sequence, bytes),
            Some(Ok(LogItem::Gap { next, count })) => told.gap(next, count),
            Some(Err(error)) if error.kind() == ErrorKind::NewIncarnation => break,
            other => panic!("{other:?}"),
        }
    }
    told
}

/// What the server does besides cutting connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Also {
    Nothing,
    /// It retains a few messages only, now and then.
    Forgets,
    /// It forgets everything, once.
    Restarts,
}

const PUBLISHERS: u8 = 3;
const MESSAGES: u64 = 120;
const STARTS: usize = 40;

/// Cuts the connection at random points while everything runs.
///
/// Answers how many messages the subscriber missed for that.
async fn torn(dice: &mut Dice, also: Also) -> u64 {
    let restart = also == Also::Restarts;
    let (_server, world, client) = world().await;
    let client = client.with_timeout(Duration::from_secs(20));
    let channel = soon(Channel::create(&client, 65_536)).await.unwrap();
    let total = u64::from(PUBLISHERS) * MESSAGES;
    let subscriber = soon(channel.subscribe_with(SubscribeOptions::new())).await;
    let reading: Task<_> = spawn(read(subscriber.unwrap(), total));
    let process = Process::new(&client, channel.handle());
    let log = soon(process.log_channel()).await.unwrap();
    let following: Task<_> = spawn(follow(log, total));
    let mut publishing = Vec::new();
    for whose in 0..PUBLISHERS {
        let options = PublishOptions::new().backlog(32 * 1024);
        let publisher = soon(channel.publish_with(options)).await.unwrap();
        publishing.push(spawn(publish(publisher, whose, MESSAGES)));
    }
    let starting = spawn({
        let client = client.clone();
        async move {
            let (mut known, mut unknown) = (Vec::new(), 0);
            for _ in 0..STARTS {
                match Process::start(&client, hello()).await {
                    Ok(process) => known.push(process.handle()),
                    Err(ClientError::OutcomeUnknown { .. }) => unknown += 1,
                    Err(other) => panic!("{other:?}"),
                }
                // An answer that is asked for again is as good as the first one.
                client.info().await.unwrap();
            }
            (known, unknown)
        }
    });
    let done = Arc::new(AtomicBool::new(false));
    let tearing = spawn({
        let (world, done) = (world.clone(), Arc::clone(&done));
        let mut dice = Dice(dice.below(usize::MAX) as u64);
        async move {
            let rounds = 12;
            for round in 0..rounds {
                if restart && round == rounds / 4 {
                    world.state().restart();
                }
                if also == Also::Forgets {
                    world.state().hub.retain("c1", dice.below(8));
                }
                let cut = [Cut::Before, Cut::Behind][dice.below(2)];
                let events = 1 + dice.below(40);
                let connections = world.state().connections;
                world.state().cut = Some((events, cut));
                let torn = || {
                    let state = world.state();
                    state.connections > connections || state.cut.is_none()
                };
                while !torn() && !done.load(Ordering::Relaxed) {
                    sleep(Duration::from_millis(1)).await;
                }
            }
            world.state().cut = None;
        }
    });

    let patience = Duration::from_secs(60);
    let ended = common::runtime::timeout(patience, async {
        let mut published = Vec::new();
        for task in publishing {
            published.push(task.await.expect("no publisher panics"));
        }
        let starts = starting.await.expect("no start panics");
        let got = reading.await.expect("no subscriber panics");
        let log = following.await.expect("no follower panics");
        done.store(true, Ordering::Relaxed);
        tearing.await.expect("nothing panics");
        (published, starts, got, log)
    });
    let (published, (known, unknown), got, log) = ended.await.expect("it ends");

    // Nothing is executed twice, and what is known was executed.
    let started = world.state().started.clone();
    let distinct: BTreeSet<u64> = started.iter().copied().collect();
    assert_eq!(distinct.len(), started.len(), "executed twice: {started:?}");
    assert!(known.iter().all(|token| distinct.contains(token)));
    assert_eq!(known.len() + unknown, STARTS);
    assert!(started.len() >= known.len() && started.len() <= STARTS);

    for (whose, published) in (0..PUBLISHERS).zip(&published) {
        // Each is acknowledged or listed.
        let acknowledged = published.acknowledged.map_or(0, |number| number + 1);
        let unknown: BTreeSet<u64> = (acknowledged..published.sent).collect();
        assert_eq!(published.unknown, unknown, "publisher {whose}");
        if !restart {
            assert_eq!((acknowledged, published.sent), (MESSAGES, MESSAGES));
        }
    }
    let state = world.state();
    let hub = match restart {
        true => &state.past[0],
        false => &state.hub,
    };
    let channel = hub.channels.values().next().unwrap();
    // Nothing is in the channel twice, all that was acknowledged is, and what came was.
    let mut there = BTreeMap::new();
    let all: Vec<&Bytes> = channel.forgotten.iter().chain(&channel.messages).collect();
    for message in &all {
        let number = u64::from_be_bytes(message[1..9].try_into().unwrap());
        let next = there.entry(message[0]).or_insert(0);
        assert_eq!(number, *next, "publisher {}", message[0]);
        let length = (number * 37 % 900) as usize;
        assert_eq!(**message, body(message[0], number, length));
        *next += 1;
    }
    for (whose, published) in (0..PUBLISHERS).zip(&published) {
        let acknowledged = published.acknowledged.map_or(0, |number| number + 1);
        let there = there.get(&whose).copied().unwrap_or(0);
        assert!(there >= acknowledged && there <= published.sent);
    }
    for told in [&got, &log] {
        for (sequence, payload) in &told.messages {
            assert_eq!(all[*sequence as usize], payload);
        }
        assert_eq!(told.messages.len() as u64 + told.missing, told.position);
        assert!(restart || told.position == total);
        assert!(also == Also::Forgets || told.missing == 0);
    }
    let missed = total - got.messages.len() as u64;
    assert_eq!(state.past.len(), usize::from(restart));
    assert!(state.connections > 1, "it was torn");
    missed
}

#[apply(threads_test!)]
async fn whatever_is_torn_nothing_is_done_twice_or_lost_unseen() {
    let mut dice = Dice::new();
    for _ in 0..4 {
        torn(&mut dice, Also::Nothing).await;
    }
}

#[apply(threads_test!)]
async fn a_restart_in_the_middle_is_told_to_everybody() {
    let mut dice = Dice::new();
    let mut missed = 0;
    for _ in 0..4 {
        missed += torn(&mut dice, Also::Restarts).await;
    }
    assert!(missed > 0, "no restart came in the middle");
}

#[apply(threads_test!)]
async fn what_the_server_does_not_have_any_more_is_a_gap_of_as_many() {
    let mut dice = Dice::new();
    let mut missed = 0;
    for _ in 0..4 {
        missed += torn(&mut dice, Also::Forgets).await;
    }
    assert!(missed > 0, "nothing was forgotten in time");
}
