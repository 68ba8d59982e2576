//! Channels over a real connection.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::indexing_slicing
)]

mod common;

use std::{
    collections::BTreeMap,
    future::{Future, poll_fn},
    pin::pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use common::{
    HubPeer, Server,
    dice::Dice,
    runtime::{apply, runtime_test, spawn, threads_test},
    soon,
};
use futures_util::{FutureExt as _, SinkExt, StreamExt as _, stream};
use selium_remote_client::{
    AbiParam, AbiScalarType, AbiSignature, Backpressure, Channel, ChannelBuilder, ChannelId,
    ChannelState, Client, ClientError, CloseReason, EntrypointArg, ErrorCode, ErrorKind,
    MessageLimit, Process, ProcessBuilder, PublishOptions, Publisher, RemoteError, SubscribeItem,
    SubscribeOptions, Subscriber, Weight,
};
use selium_remote_client_protocol::{
    Limits,
    limits::{MAX_CHUNK, MESSAGE_OVERHEAD},
    ops::{ProcessRef, PublishStarted, StartRequest, SubscribeRequest, op},
    server::{ServerEvent, StreamKind},
};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

impl Dice {
    /// A length of at most `limit` bytes, short ones more often, around the ends of chunks now and then.
    fn length(&mut self, limit: usize) -> usize {
        let length = match self.below(8) {
            0 => 1,
            1 => MAX_CHUNK - 1 + self.below(3),
            2 => 1 + self.below(limit),
            3 => 1 + self.below(64 * KIB),
            _ => 1 + self.below(1_000),
        };
        length.min(limit)
    }

    /// A message that says whose it is and which, in its first bytes, and goes on with what follows from that.
    fn message(&mut self, whose: u8, number: u64, limit: usize) -> Bytes {
        let length = self.length(limit).max(9);
        filled(whose, number, length)
    }
}

fn filled(whose: u8, number: u64, length: usize) -> Bytes {
    let mut message = vec![whose];
    message.extend(number.to_be_bytes());
    message.extend((message.len()..length).map(|at| (at as u64).wrapping_add(number) as u8));
    message.into()
}

async fn hub() -> (Server, Client, HubPeer) {
    let server = Server::new();
    let (client, peer) = server
        .connect_to_hub(server.config(), Limits::default())
        .await;
    (server, client, peer)
}

async fn message(subscriber: &mut Subscriber) -> (u64, Bytes) {
    match soon(subscriber.next()).await {
        Some(Ok(SubscribeItem::Message { sequence, payload })) => (sequence, payload),
        other => panic!("{other:?}"),
    }
}

/// The failure of a publication, and what it says of the messages.
fn failure(error: ClientError) -> (Arc<ClientError>, Option<u64>, std::ops::Range<u64>) {
    match error {
        ClientError::Publication(failure) => (failure.cause, failure.acknowledged, failure.unknown),
        other => panic!("{other:?}"),
    }
}

#[apply(runtime_test!)]
async fn channels_are_created_found_listed_and_deleted() {
    let (_server, client, peer) = hub().await;
    let plain = soon(Channel::create(&client, 1_000)).await.unwrap();
    assert_eq!((plain.name(), plain.capacity()), (Some("c1"), Some(1_024)));
    assert_eq!(plain.backpressure(), Some(Backpressure::Park));
    assert_eq!(plain.id().to_string(), "0123456700000001");
    assert_eq!("0123456700000001".parse(), Ok(plain.id()));
    assert_eq!(plain.to_string(), "c1 (0123456700000001)");
    let builder = ChannelBuilder::new(4_096)
        .name("prices")
        .backpressure(Backpressure::Drop);
    let prices = soon(Channel::create_with(&client, builder.clone()))
        .await
        .unwrap();
    assert_eq!(prices.backpressure(), Some(Backpressure::Drop));

    let again = soon(Channel::create_with(&client, builder)).await;
    assert_eq!(again.unwrap_err().code(), Some(ErrorCode::AlreadyExists));
    let error = soon(Channel::create(&client, 0)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);

    for target in ["prices", "0123456700000002"] {
        let found = soon(Channel::find(&client, target)).await.unwrap();
        assert_eq!(found.id(), prices.id());
        assert_eq!(found.name(), Some("prices"));
    }
    let nothing = soon(Channel::find(&client, "nothing")).await;
    assert_eq!(nothing.unwrap_err().code(), Some(ErrorCode::NotFound));

    // A list of several answers.
    for _ in 0..8 {
        soon(Channel::create(&client, 1)).await.unwrap();
    }
    let list = soon(Channel::list(&client)).await.unwrap();
    let ids: Vec<_> = list.iter().map(|info| info.id & 0xff).collect();
    assert_eq!(ids, [1, 2, 4, 5, 6, 7, 8, 9, 10, 11]);

    assert!(!soon(prices.inspect()).await.unwrap().shared);
    assert!(soon(prices.share()).await.unwrap().shared);
    assert!(soon(prices.inspect()).await.unwrap().shared);
    for _ in 0..2 {
        let info = soon(prices.drain()).await.unwrap();
        assert_eq!(info.state, ChannelState::Draining);
    }
    // An id alone will do.
    let by_id = Channel::new(&client, prices.handle());
    assert_eq!((by_id.name(), by_id.capacity()), (None, None));
    assert_eq!(by_id.to_string(), "0123456700000002");
    soon(by_id.delete()).await.unwrap();
    let gone = soon(prices.inspect()).await.unwrap_err();
    assert_eq!(gone.code(), Some(ErrorCode::NotFound));
    let deleted = soon(client.delete_channel("c1")).await.unwrap();
    assert_eq!(deleted.state, ChannelState::Deleted);

    // What changes something carries a token of its own, the rest none.
    let asked = peer.ask(|_, hub| std::mem::take(&mut hub.asked)).await;
    let mut last = 0;
    for (operation, common) in asked {
        assert!(!common.retry);
        match operation {
            op::CHANNEL_CREATE | op::CHANNEL_DELETE | op::CHANNEL_DRAIN | op::CHANNEL_SHARE => {
                assert!(common.token > Some(last), "{operation}: {common:?}");
                last = common.token.unwrap();
            }
            _ => assert_eq!(common.token, None, "{operation}"),
        }
    }
    assert!(last > 10);
}

#[apply(runtime_test!)]
async fn a_change_without_an_answer_has_an_unknown_outcome() {
    let server = Server::new();
    let config = server.config().request_timeout(Duration::from_millis(30));
    let (client, peer) = server.connect_to_hub(config, Limits::default()).await;
    peer.ask(|_, hub| hub.mute = true).await;
    let channel = Channel::new(&client, 1);
    for error in [
        soon(Channel::create(&client, 1)).await.unwrap_err(),
        soon(channel.drain()).await.unwrap_err(),
        soon(channel.share()).await.unwrap_err(),
        soon(channel.clone().delete()).await.unwrap_err(),
    ] {
        assert!(
            matches!(error, ClientError::Expired { changing: true, .. }),
            "{error:?}"
        );
        assert!(!error.is_retryable() && error.is_timeout());
    }
}

#[apply(runtime_test!)]
async fn messages_keep_their_boundaries() {
    let mut dice = Dice::new();
    let (_server, client, peer) = hub().await;
    let channel = soon(Channel::create(&client, MIB as u32)).await.unwrap();
    let mut publisher = soon(channel.publish()).await.unwrap();
    assert_eq!(publisher.max_message(), MIB);
    assert_eq!(publisher.channel(), channel.id());
    assert_eq!(publisher.name(), "c1");
    let mut subscriber = soon(channel.subscribe(MIB as u32)).await.unwrap();
    let mut messages: Vec<Bytes> = vec![filled(0, 0, MIB), Bytes::from_static(b"x")];
    messages.extend((0..200).map(|number| {
        let length = dice.length(100 * KIB);
        filled(1, number, length.max(9)).slice(..length)
    }));
    messages.push(filled(2, 0, MIB));

    let send = async {
        for (number, message) in messages.iter().enumerate() {
            let taken = publisher.send(message.clone()).await.unwrap();
            assert_eq!(taken, number as u64);
        }
        publisher.flush().await.unwrap();
    };
    let read = async {
        for (number, expected) in messages.iter().enumerate() {
            let (sequence, payload) = message(&mut subscriber).await;
            assert_eq!(sequence, number as u64);
            assert!(payload == expected, "message {number} is another one");
        }
    };
    soon(async { tokio::join!(send, read) }).await;
    let last = messages.len() as u64 - 1;
    assert_eq!(publisher.acknowledged(), Some(last));
    assert!(publisher.unacknowledged().is_empty());
    assert!(!publisher.may_be_dropped());
    soon(publisher.close()).await.unwrap();
    let kept = peer
        .ask(|_, hub| {
            hub.channel("c1")
                .messages
                .iter()
                .cloned()
                .collect::<Vec<_>>()
        })
        .await;
    assert!(kept == messages);
}

#[apply(runtime_test!)]
async fn what_cannot_be_published_is_not_sent() {
    let server = Server::new();
    let limits = Limits::with(|limits| limits.max_message = 5_000);
    let (client, peer) = server.connect_to_hub(server.config(), limits).await;
    for (capacity, limit, by) in [
        (1_000, 1_024, MessageLimit::Capacity),
        (100_000, 5_000, MessageLimit::Connection),
    ] {
        let channel = soon(Channel::create(&client, capacity)).await.unwrap();
        let mut publisher = soon(channel.publish()).await.unwrap();
        assert_eq!(publisher.max_message(), limit);
        let too_long = Bytes::from(vec![1; limit + 1]);
        let sink = &mut publisher;
        for error in [
            soon(sink.send(too_long.clone())).await.unwrap_err(),
            sink.try_send(too_long.clone()).unwrap_err(),
            soon(sink.feed(too_long.clone())).await.unwrap_err(),
        ] {
            let text = error.to_string();
            assert!(text.contains(&limit.to_string()), "{text}");
            assert_eq!(error.kind(), ErrorKind::InvalidArgument);
            match error {
                ClientError::MessageTooLarge {
                    length,
                    limit: said,
                    by: of,
                } => assert_eq!((length, said, of), (limit + 1, limit, by)),
                other => panic!("{other:?}"),
            }
        }
        for error in [
            soon(sink.send("")).await.unwrap_err(),
            sink.try_send("").unwrap_err(),
            soon(sink.feed(Bytes::new())).await.unwrap_err(),
        ] {
            assert!(matches!(error, ClientError::EmptyMessage), "{error:?}");
        }
        // It goes on, and numbers only what is sent.
        assert_eq!(soon(sink.send(vec![1; limit])).await.unwrap(), 0);
        soon(publisher.close()).await.unwrap();
        let name = channel.name().unwrap().to_owned();
        let kept = peer
            .ask(move |_, hub| hub.channel(&name).messages.len())
            .await;
        assert_eq!(kept, 1);
    }
}

#[apply(runtime_test!)]
async fn a_server_that_does_not_take_messages_makes_send_wait() {
    const BACKLOG: usize = 300_000;
    const LENGTH: usize = 1_000;
    let (_server, client, peer) = hub().await;
    let channel = soon(Channel::create(&client, 4_096)).await.unwrap();
    let options = PublishOptions::new().backlog(BACKLOG);
    let mut publisher = soon(channel.publish_with(options)).await.unwrap();
    peer.ask(|core, hub| hub.pause(core, true)).await;
    let mut sent = 0u64;
    let waiting = loop {
        match publisher.send(filled(0, sent, LENGTH)).now_or_never() {
            Some(taken) => assert_eq!(taken.unwrap(), sent),
            None => break sent,
        }
        sent += 1;
        assert!(sent < 10_000, "the backlog is bounded");
    };
    // Exactly what the option says is held here.
    let fits = (BACKLOG / (LENGTH + MESSAGE_OVERHEAD)) as u64;
    assert_eq!(waiting, fits);
    assert_eq!(publisher.unacknowledged().len() as u64, fits);
    let error = publisher.try_send("x".repeat(LENGTH)).unwrap_err();
    assert!(matches!(error, ClientError::BacklogFull { limit: BACKLOG }));
    assert!(error.is_retryable());
    // The server holds what it gave credit for, and requests pass.
    peer.until("the window is full", |_, hub| {
        hub.unread() + LENGTH + MESSAGE_OVERHEAD > Limits::default().stream_window
    })
    .await;
    for _ in 0..20 {
        assert!(soon(client.ping()).await.is_ok());
    }
    // That, and a message that had begun.
    let unread = peer.ask(|_, hub| hub.unread()).await;
    let most = Limits::default().stream_window + LENGTH + MESSAGE_OVERHEAD;
    assert!(unread <= most, "{unread} bytes");

    // One is taken, one fits.
    let mut send = Box::pin(publisher.send(filled(0, sent, LENGTH)));
    assert!((&mut send).now_or_never().is_none());
    assert!(peer.ask(|core, hub| hub.take_one(core)).await);
    assert_eq!(soon(send).await.unwrap(), sent);
    assert!(publisher.send("x".repeat(LENGTH)).now_or_never().is_none());
    peer.ask(|core, hub| hub.pause(core, false)).await;
    soon(publisher.close()).await.unwrap();
    let kept = peer
        .ask(|_, hub| {
            hub.channel("c1")
                .messages
                .iter()
                .cloned()
                .collect::<Vec<_>>()
        })
        .await;
    assert_eq!(
        kept.len() as u64,
        fits + 1,
        "what was not taken is left out"
    );
    for (number, message) in kept.iter().enumerate() {
        assert!(*message == filled(0, number as u64, LENGTH), "{number}");
    }
}

#[apply(runtime_test!)]
async fn flush_waits_for_the_last_acknowledgement() {
    let (_server, client, peer) = hub().await;
    for (capacity, drops) in [(1_024, false), (2_048, true)] {
        let builder = ChannelBuilder::new(capacity).backpressure(match drops {
            true => Backpressure::Drop,
            false => Backpressure::Park,
        });
        let channel = soon(Channel::create_with(&client, builder)).await.unwrap();
        let mut publisher = soon(channel.publish()).await.unwrap();
        assert_eq!(publisher.acknowledged(), None);
        soon(publisher.flush()).await.unwrap();
        peer.ask(|core, hub| hub.pause(core, true)).await;
        for number in 0..3 {
            assert_eq!(soon(publisher.send("message")).await.unwrap(), number);
        }
        peer.until("they have come", |_, hub| hub.unread() == 3 * (7 + 32))
            .await;
        assert!(publisher.flush().now_or_never().is_none());
        assert_eq!(publisher.acknowledged(), None);
        assert!(!publisher.may_be_dropped());
        for number in 0..3u64 {
            assert!(publisher.flush().now_or_never().is_none());
            assert!(peer.ask(|core, hub| hub.take_one(core)).await);
            // The acknowledgement has come when the pong behind it has.
            soon(client.ping()).await.unwrap();
            assert_eq!(publisher.acknowledged(), Some(number));
            let left: Vec<u64> = publisher.unacknowledged().iter().map(|(n, _)| *n).collect();
            assert_eq!(left, (number + 1..3).collect::<Vec<_>>());
        }
        soon(publisher.flush()).await.unwrap();
        assert_eq!(publisher.may_be_dropped(), drops);
        peer.ask(|core, hub| hub.pause(core, false)).await;
        soon(publisher.close()).await.unwrap();
        assert_eq!(publisher.may_be_dropped(), drops, "also when it is over");
    }
}

#[apply(runtime_test!)]
async fn a_closed_publisher_has_left_nothing_behind() {
    let (_server, client, peer) = hub().await;
    let channel = soon(Channel::create(&client, 1_024)).await.unwrap();
    let mut publisher = soon(channel.publish()).await.unwrap();
    peer.ask(|core, hub| hub.pause(core, true)).await;
    soon(publisher.send("one")).await.unwrap();
    assert!(publisher.close().now_or_never().is_none());
    let error = soon(publisher.send("two")).await.unwrap_err();
    assert!(matches!(error, ClientError::PublisherClosed), "{error:?}");
    assert!(matches!(
        publisher.try_send("two"),
        Err(ClientError::PublisherClosed)
    ));
    peer.ask(|core, hub| hub.pause(core, false)).await;
    // A close that was given up is gone on with.
    soon(publisher.close()).await.unwrap();
    assert_eq!(peer.ask(|_, hub| hub.streams()).await, 0);
    soon(publisher.close()).await.unwrap();
    soon(publisher.flush()).await.unwrap();
    assert_eq!(publisher.acknowledged(), Some(0));
    drop(publisher);
    soon(client.ping()).await.unwrap();
    let kept = peer.ask(|_, hub| hub.channel("c1").messages.len()).await;
    assert_eq!(kept, 1);
}

#[apply(runtime_test!)]
async fn a_dropped_publisher_is_gone_at_once() {
    let (_server, client, peer) = hub().await;
    let channel = soon(Channel::create(&client, 1_024)).await.unwrap();
    // Each leaves a full window unread; ten in a row need the connection's credit back.
    peer.ask(|core, hub| hub.pause(core, true)).await;
    for _ in 0..10 {
        let mut publisher = soon(channel.publish()).await.unwrap();
        let mut number = 0;
        while publisher.send(vec![7; 1_000]).now_or_never().is_some() {
            number += 1;
        }
        assert!(number > 500);
        peer.until("some have come", |_, hub| hub.unread() > 30_000)
            .await;
        drop(publisher);
        peer.until("the publication is gone", |_, hub| hub.streams() == 0)
            .await;
        peer.ask(|core, hub| while hub.take_one(core) {}).await;
    }
    peer.ask(|core, hub| hub.pause(core, false)).await;
    let mut publisher = soon(channel.publish()).await.unwrap();
    soon(publisher.send("at last")).await.unwrap();
    soon(publisher.close()).await.unwrap();
    let kept = peer
        .ask(|_, hub| hub.channel("c1").messages.make_contiguous().to_vec())
        .await;
    assert_eq!(kept, ["at last"], "nothing of those that were given up");
}

#[apply(runtime_test!)]
async fn a_publication_that_the_server_ends_says_what_is_unknown() {
    let (_server, client, peer) = hub().await;
    for (drain, code) in [(true, ErrorCode::Unavailable), (false, ErrorCode::NotFound)] {
        let channel = soon(Channel::create(&client, 1_024)).await.unwrap();
        let mut publisher = soon(channel.publish()).await.unwrap();
        let mut idle = soon(channel.publish()).await.unwrap();
        soon(idle.send("before")).await.unwrap();
        soon(idle.flush()).await.unwrap();
        assert!(idle.ended().now_or_never().is_none());
        peer.ask(|core, hub| hub.pause(core, true)).await;
        for number in 0..5 {
            assert_eq!(publisher.sent(), number);
            soon(publisher.send(filled(0, number, 20))).await.unwrap();
        }
        peer.until("they have come", |_, hub| hub.unread() == 5 * (20 + 32))
            .await;
        peer.ask(|core, hub| hub.take_one(core) && hub.take_one(core))
            .await;
        let change = async {
            match drain {
                true => drop(channel.drain().await.unwrap()),
                false => drop(
                    client
                        .delete_channel(channel.name().unwrap())
                        .await
                        .unwrap(),
                ),
            }
        };
        // Who has nothing to send hears of it at once.
        let (end, ()) = soon(async { tokio::join!(idle.ended(), change) }).await;
        assert_eq!(end.code(), Some(code));
        assert_eq!(failure(end).1, Some(0));
        for error in [
            soon(publisher.ended()).await,
            soon(publisher.ended()).await,
            soon(publisher.flush()).await.unwrap_err(),
            soon(publisher.flush()).await.unwrap_err(),
        ] {
            assert_eq!(error.code(), Some(code));
            assert!(!error.is_retryable(), "nobody knows what became of 2 to 4");
            let text = error.to_string();
            assert!(text.contains("messages 2 to 4"), "{text}");
            let (cause, acknowledged, unknown) = failure(error);
            assert!(matches!(*cause, ClientError::Remote { .. }), "{cause:?}");
            assert_eq!((acknowledged, unknown), (Some(1), 2..5));
        }
        assert!(soon(publisher.send("more")).await.is_err());
        assert!(publisher.try_send("more").is_err());
        assert!(soon(publisher.close()).await.is_err());
        let expected: Vec<_> = (2..5)
            .map(|number| (number, filled(0, number, 20)))
            .collect();
        assert_eq!(publisher.unacknowledged(), expected);
        // The other one has nothing to lose.
        soon(idle.flush()).await.unwrap();
        let error = soon(idle.send("behind")).await.unwrap_err();
        assert_eq!(error.is_retryable(), drain);
        assert!(
            error.to_string().contains("every message was acknowledged"),
            "{error}"
        );
        let (_, acknowledged, unknown) = failure(error);
        assert_eq!((acknowledged, unknown), (Some(0), 1..1));
        soon(idle.close()).await.unwrap();
        let closed = soon(idle.ended()).await;
        assert!(matches!(closed, ClientError::PublisherClosed), "{closed:?}");
        peer.ask(|core, hub| hub.pause(core, false)).await;
    }
    assert!(soon(client.ping()).await.is_ok());
}

#[apply(runtime_test!)]
async fn a_lost_connection_lists_what_was_not_acknowledged() {
    let (_server, client, peer) = hub().await;
    let channel = soon(Channel::create(&client, 1_024)).await.unwrap();
    let options = PublishOptions::new().backlog(20_000);
    let mut publisher = soon(channel.publish_with(options)).await.unwrap();
    peer.ask(|core, hub| hub.pause(core, true)).await;
    let mut sent = Vec::new();
    loop {
        let message = filled(3, sent.len() as u64, 500);
        let Some(taken) = publisher.send(message.clone()).now_or_never() else {
            break;
        };
        sent.push((taken.unwrap(), message));
    }
    peer.until("two have come", |_, hub| hub.unread() >= 2 * (500 + 32))
        .await;
    peer.ask(|core, hub| hub.take_one(core) && hub.take_one(core))
        .await;
    soon(client.ping()).await.unwrap();
    assert_eq!(publisher.acknowledged(), Some(1));

    // Waiters of all kinds hear of it.
    let loss = async {
        peer.connection.close(7u32.into(), b"");
        std::future::pending::<()>().await
    };
    let error = soon(async {
        tokio::select! {
            result = publisher.flush() => result.unwrap_err(),
            () = loss => unreachable!(),
        }
    })
    .await;
    assert_eq!(error.kind(), ErrorKind::Closed);
    assert!(!error.is_retryable());
    let (cause, acknowledged, unknown) = failure(error);
    assert!(
        matches!(&*cause, ClientError::Closed(closed) if closed.reason == CloseReason::Lost),
        "{cause:?}"
    );
    assert_eq!((acknowledged, unknown), (Some(1), 2..sent.len() as u64));
    assert_eq!(publisher.unacknowledged(), sent[2..]);
    assert_eq!(publisher.acknowledged(), Some(1));
    for error in [
        soon(publisher.send("x")).await.unwrap_err(),
        publisher.try_send("x").unwrap_err(),
        soon(publisher.close()).await.unwrap_err(),
    ] {
        assert!(matches!(error, ClientError::Publication(_)), "{error:?}");
    }
    assert!(soon(channel.publish()).await.is_err());
}

#[apply(runtime_test!)]
async fn a_publisher_is_a_sink() {
    let (_server, client, peer) = hub().await;
    let channel = soon(Channel::create(&client, 65_536)).await.unwrap();
    let options = PublishOptions::new().backlog(0);
    let mut publisher = soon(channel.publish_with(options)).await.unwrap();
    let messages: Vec<Bytes> = (0..200).map(|number| filled(1, number, 900)).collect();
    let (first, rest) = messages.split_at(100);
    soon(publisher.send_all(&mut stream::iter(first.iter().cloned().map(Ok))))
        .await
        .unwrap();
    assert!(publisher.unacknowledged().is_empty(), "it has flushed");

    // A message for which there is no room is kept, in its place, and counted.
    peer.ask(|core, hub| hub.pause(core, true)).await;
    let mut fed = 0;
    while let Some(result) = publisher.feed(rest[fed].clone()).now_or_never() {
        result.unwrap();
        fed += 1;
    }
    assert_eq!(fed, MAX_CHUNK / (900 + MESSAGE_OVERHEAD) + 1);
    let kept = publisher.unacknowledged();
    assert_eq!(kept.len(), fed);
    for (at, (number, message)) in kept.iter().enumerate() {
        assert_eq!(*number, 100 + at as u64);
        assert!(*message == rest[at]);
    }
    assert!(matches!(
        publisher.try_send("x"),
        Err(ClientError::BacklogFull { .. })
    ));
    peer.ask(|core, hub| hub.pause(core, false)).await;
    // The method takes its turn behind it.
    assert_eq!(
        soon(publisher.send(rest[fed].clone())).await.unwrap(),
        100 + fed as u64
    );
    let rest = rest[fed + 1..].iter().cloned().map(Ok);
    soon(stream::iter(rest).forward(&mut publisher))
        .await
        .unwrap();
    let kept = peer
        .ask(|_, hub| {
            hub.channel("c1")
                .messages
                .iter()
                .cloned()
                .collect::<Vec<_>>()
        })
        .await;
    assert!(kept == messages);
    assert_eq!(peer.ask(|_, hub| hub.streams()).await, 0, "forward closes");
}

#[apply(runtime_test!)]
async fn a_sink_that_fails_lists_the_message_that_waits() {
    let (_server, client, peer) = hub().await;
    let channel = soon(Channel::create(&client, 65_536)).await.unwrap();
    let options = PublishOptions::new().backlog(0);
    let mut publisher = soon(channel.publish_with(options)).await.unwrap();
    peer.ask(|core, hub| hub.pause(core, true)).await;
    let long = Bytes::from(vec![1; MAX_CHUNK]);
    for _ in 0..2 {
        soon(publisher.feed(long.clone())).await.unwrap();
    }
    peer.ask(|core, hub| hub.fail(core, &RemoteError::new(ErrorCode::Internal, "broken")))
        .await;
    let error = soon(SinkExt::flush(&mut publisher)).await.unwrap_err();
    let (cause, acknowledged, unknown) = failure(error);
    assert_eq!(cause.code(), Some(ErrorCode::Internal));
    assert_eq!((acknowledged, unknown), (None, 0..2));
    assert_eq!(publisher.unacknowledged(), [(0, long.clone()), (1, long)]);
    assert!(soon(SinkExt::close(&mut publisher)).await.is_err());
}

#[apply(runtime_test!)]
async fn options_are_passed_on() {
    let server = Server::new();
    let (client, mut peer) = server.connect().await;
    let refuse = |peer: &common::Peer, id| {
        let error = RemoteError::new(ErrorCode::NotFound, "no channel");
        peer.act(move |core| core.respond(id, Err(error)));
    };
    let channel = Channel::new(&client, 5);
    let all = SubscribeOptions::new()
        .lossless(true)
        .since(4)
        .tail(10)
        .max_message(9)
        .weight(Weight::new(3).unwrap());
    for (options, expected) in [
        (SubscribeOptions::new(), (false, None, None, None)),
        (all, (true, Some(4), Some(10), Some(3))),
    ] {
        let serve = async {
            let (id, body) = peer.request(op::SUBSCRIBE).await;
            let request = SubscribeRequest::decode(&body).unwrap();
            let common = selium_remote_client_protocol::ops::Common::decode(&body).unwrap();
            let weight = common.weight.map(Weight::get);
            assert_eq!(request.target, "0000000000000005");
            assert_eq!(
                (request.lossless, request.since, request.tail, weight),
                expected
            );
            refuse(&peer, id);
        };
        let (result, ()) =
            soon(async { tokio::join!(channel.subscribe_with(options), serve) }).await;
        assert_eq!(result.unwrap_err().code(), Some(ErrorCode::NotFound));
    }
    let serve = async {
        let (id, body) = peer.request(op::PUBLISH).await;
        let common = selium_remote_client_protocol::ops::Common::decode(&body).unwrap();
        assert_eq!(common.weight, Weight::new(16));
        refuse(&peer, id);
    };
    let options = PublishOptions::new().weight(Weight::MAX);
    let (result, ()) = soon(async { tokio::join!(channel.publish_with(options), serve) }).await;
    assert_eq!(result.unwrap_err().code(), Some(ErrorCode::NotFound));
    let error = soon(channel.subscribe(0)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    let error = soon(client.subscribe("", SubscribeOptions::new())).await;
    assert_eq!(error.unwrap_err().kind(), ErrorKind::InvalidArgument);
}

#[apply(runtime_test!)]
async fn a_subscription_tells_what_is_missing_and_how_it_ends() {
    let (_server, client, peer) = hub().await;
    let channel = soon(Channel::create(&client, 65_536)).await.unwrap();
    for text in ["a", "b", "c", "d"] {
        peer.ask(move |core, hub| hub.write(core, "c1", text.into()))
            .await;
    }
    peer.ask(|_, hub| hub.retain("c1", 2)).await;
    let mut new = soon(Channel::subscribe_shared(&client, "c1"))
        .await
        .unwrap();
    assert_eq!((new.channel(), new.name()), (channel.id(), "c1"));
    assert_eq!((new.first_sequence(), new.next_sequence()), (2, 4));
    assert_eq!(new.position(), 4);
    let tail = SubscribeOptions::new().tail(1).lossless(true);
    let mut tail = soon(channel.subscribe_with(tail)).await.unwrap();
    assert_eq!(tail.position(), 3);
    assert_eq!(message(&mut tail).await, (3, "d".into()));
    let since = SubscribeOptions::new().since(0);
    let mut since = soon(channel.subscribe_with(since)).await.unwrap();
    assert_eq!(since.position(), 0);
    let gap = SubscribeItem::Gap {
        next: 2,
        count: Some(2),
    };
    assert_eq!(soon(since.next()).await.unwrap().unwrap(), gap);
    assert_eq!(since.position(), 2);
    assert_eq!(message(&mut since).await, (2, "c".into()));
    assert_eq!(message(&mut since).await, (3, "d".into()));
    assert_eq!(since.position(), 4);
    let info = soon(channel.inspect()).await.unwrap();
    assert_eq!((info.lossless, info.lossy), (1, 2));

    peer.ask(|core, hub| hub.write(core, "c1", "e".into()))
        .await;
    for subscriber in [&mut new, &mut tail, &mut since] {
        assert_eq!(message(subscriber).await, (4, "e".into()));
        assert!(subscriber.end_reason().is_none());
    }
    // Dropped on the server too.
    drop(tail);
    peer.until("it is gone", |_, hub| hub.streams() == 2).await;
    soon(channel.drain()).await.unwrap();
    assert!(soon(new.next()).await.is_none());
    assert_eq!(new.end_reason(), None);
    assert!(soon(new.next()).await.is_none(), "it stays over");

    let other = soon(Channel::create(&client, 1)).await.unwrap();
    let subscriber = soon(other.subscribe(1)).await.unwrap();
    let mut subscriber = subscriber.fuse();
    soon(other.delete()).await.unwrap();
    assert!(soon(subscriber.next()).await.is_none());
    let subscriber = subscriber.into_inner();
    assert_eq!(subscriber.end_reason(), Some("the channel was deleted"));

    let drops = ChannelBuilder::new(1).backpressure(Backpressure::Drop);
    let drops = soon(Channel::create_with(&client, drops)).await.unwrap();
    let lossless = SubscribeOptions::new().lossless(true);
    let error = soon(drops.subscribe_with(lossless)).await.unwrap_err();
    match error {
        ClientError::Remote { error, .. } => assert_eq!(error.field.as_deref(), Some("lossless")),
        other => panic!("{other:?}"),
    }
}

#[apply(runtime_test!)]
async fn a_message_longer_than_the_chunk_size_ends_the_subscription_before_it() {
    let (_server, client, peer) = hub().await;
    let channel = soon(Channel::create(&client, 65_536)).await.unwrap();
    let mut subscriber = soon(channel.subscribe(10)).await.unwrap();
    for length in [10, 11, 1] {
        peer.ask(move |core, hub| hub.write(core, "c1", vec![0; length].into()))
            .await;
    }
    assert_eq!(message(&mut subscriber).await.1.len(), 10);
    let error = soon(subscriber.next()).await.unwrap().unwrap_err();
    match error {
        ClientError::MessageTooLarge {
            length: 11,
            limit: 10,
            by: MessageLimit::Subscription,
        } => {}
        other => panic!("{other:?}"),
    }
    assert!(soon(subscriber.next()).await.is_none());
    peer.until("the server knows", |_, hub| hub.streams() == 0)
        .await;
    // One that accepts it goes on there.
    let options = SubscribeOptions::new().since(subscriber.position());
    let mut subscriber = soon(channel.subscribe_with(options)).await.unwrap();
    let (sequence, payload) = message(&mut subscriber).await;
    assert_eq!((sequence, payload.len()), (1, 11));
    assert_eq!(message(&mut subscriber).await.0, 2);
}

#[apply(runtime_test!)]
async fn a_lost_connection_is_no_end_of_a_subscription() {
    let (_server, client, peer) = hub().await;
    let channel = soon(Channel::create(&client, 65_536)).await.unwrap();
    let mut subscriber = soon(channel.subscribe(10)).await.unwrap();
    peer.ask(|core, hub| hub.write(core, "c1", "a".into()))
        .await;
    assert_eq!(message(&mut subscriber).await, (0, "a".into()));
    peer.connection.close(0u32.into(), b"");
    let error = soon(subscriber.next()).await.unwrap().unwrap_err();
    assert!(matches!(error, ClientError::Closed(_)), "{error:?}");
    assert_eq!(subscriber.position(), 1);
    assert!(soon(subscriber.next()).await.is_none());
    drop(client);
}

#[apply(threads_test!)]
async fn two_publishers_and_four_subscribers_at_once() {
    const EACH: u64 = 300;
    let mut dice = Dice::new();
    let (_server, client, peer) = hub().await;
    let channel = soon(Channel::create(&client, 65_536)).await.unwrap();
    let mut readers = Vec::new();
    for lossless in [true, false, true, false] {
        let options = SubscribeOptions::new().lossless(lossless);
        let mut subscriber = soon(channel.subscribe_with(options)).await.unwrap();
        readers.push(spawn(async move {
            let mut all = Vec::new();
            while let Some(item) = soon(subscriber.next()).await {
                match item.unwrap() {
                    SubscribeItem::Message { sequence, payload } => {
                        assert_eq!(sequence, all.len() as u64);
                        all.push(payload);
                    }
                    other => panic!("{other:?}"),
                }
            }
            all
        }));
    }
    let mut writers = Vec::new();
    let mut sent = BTreeMap::new();
    for whose in 0..2u8 {
        let messages: Vec<Bytes> = (0..EACH)
            .map(|number| dice.message(whose, number, 40 * KIB))
            .collect();
        sent.insert(whose, messages.clone());
        let options = PublishOptions::new().backlog(64 * KIB);
        let mut publisher = soon(channel.publish_with(options)).await.unwrap();
        writers.push(spawn(async move {
            for message in messages {
                soon(publisher.send(message)).await.unwrap();
            }
            soon(publisher.close()).await.unwrap();
        }));
    }
    for writer in writers {
        writer.await.unwrap();
    }
    soon(channel.drain()).await.unwrap();
    let mut seen = Vec::new();
    for reader in readers {
        seen.push(reader.await.unwrap());
    }
    for all in &seen {
        assert!(*all == seen[0], "everybody gets the same in the same order");
        for (whose, messages) in &sent {
            let of: Vec<_> = all.iter().filter(|message| message[0] == *whose).collect();
            assert!(of.iter().eq(&messages.iter().collect::<Vec<_>>()));
        }
    }
    assert_eq!(peer.ask(|_, hub| hub.streams()).await, 0);
}

/// Polls a future so many times, and then drops it.
async fn cut<F: Future>(future: F, polls: usize) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut left = polls;
    poll_fn(|cx| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// What one does with a channel; `sent` counts the messages that `send` said were taken.
async fn session(
    client: &Client,
    name: &str,
    messages: &[Bytes],
    sent: &mut usize,
) -> Result<(), ClientError> {
    let builder = ChannelBuilder::new(65_536).name(name);
    let channel = Channel::create_with(client, builder).await?;
    let mut subscriber = channel.subscribe(65_536).await?;
    let options = PublishOptions::new().backlog(MAX_CHUNK);
    let mut publisher = channel.publish_with(options).await?;
    for message in messages {
        publisher.send(message.clone()).await?;
        *sent += 1;
    }
    publisher.flush().await?;
    for expected in messages {
        match subscriber.next().await {
            Some(Ok(SubscribeItem::Message { payload, .. })) => assert!(payload == expected),
            other => panic!("{other:?}"),
        }
    }
    publisher.close().await?;
    channel.share().await?;
    Channel::find(client, name).await?;
    Channel::list(client).await?;
    channel.drain().await?;
    channel.delete().await
}

#[apply(runtime_test!)]
async fn given_up_at_any_point_the_connection_stays_usable() {
    let mut dice = Dice::new();
    let (_server, client, peer) = hub().await;
    let check = soon(Channel::create(&client, 65_536)).await.unwrap();
    let mut reader = soon(check.subscribe(65_536)).await.unwrap();
    let mut writer = soon(check.publish()).await.unwrap();
    let mut polls = 0;
    loop {
        let name = format!("cut-{polls}");
        let messages: Vec<Bytes> = (0..12)
            .map(|number| dice.message(9, number, 20 * KIB))
            .collect();
        let mut sent = 0;
        let done = soon(cut(session(&client, &name, &messages, &mut sent), polls)).await;
        if let Some(result) = done {
            result.unwrap();
            break;
        }
        // The streams are gone but for ours, and what came is what was sent, whole, without holes.
        peer.until("the streams are gone", |_, hub| hub.streams() == 2)
            .await;
        let kept = peer
            .ask(move |_, hub| {
                let mut channels = hub.channels.values();
                let channel = channels.find(|channel| channel.info.name == name);
                channel.map(|channel| channel.messages.iter().cloned().collect::<Vec<_>>())
            })
            .await
            .unwrap_or_default();
        assert!(kept.len() <= sent.max(1), "{} of {sent}", kept.len());
        assert!(messages.starts_with(&kept), "cut at {polls}");
        // The connection carries messages both ways.
        let probe = dice.message(8, polls as u64, 60 * KIB);
        soon(writer.send(probe.clone())).await.unwrap();
        soon(writer.flush()).await.unwrap();
        assert!(message(&mut reader).await.1 == probe);
        polls += 1;
        assert!(polls < 2_000, "it ends");
    }
    eprintln!("cut at {polls} points");
    // Each of its eight requests waits once at least, and so does the close.
    assert!(polls > 8, "only {polls} points");
    soon(client.ping()).await.unwrap();
}

#[apply(runtime_test!)]
async fn a_send_that_is_given_up_leaves_its_message_out() {
    let mut dice = Dice::new();
    let (_server, client, peer) = hub().await;
    let channel = soon(Channel::create(&client, 65_536)).await.unwrap();
    let options = PublishOptions::new().backlog(MAX_CHUNK);
    let mut publisher = soon(channel.publish_with(options)).await.unwrap();
    let mut expected = Vec::new();
    for number in 0..400 {
        let message = dice.message(4, number, 10 * KIB);
        let polls = dice.below(4);
        match soon(cut(publisher.send(message.clone()), polls)).await {
            Some(taken) => {
                assert_eq!(taken.unwrap(), expected.len() as u64);
                expected.push(message);
            }
            None if dice.below(2) == 0 => drop(cut(publisher.flush(), polls).await),
            None => tokio::task::yield_now().await,
        }
    }
    soon(publisher.close()).await.unwrap();
    let kept = peer
        .ask(|_, hub| {
            hub.channel("c1")
                .messages
                .iter()
                .cloned()
                .collect::<Vec<_>>()
        })
        .await;
    assert!(kept == expected, "{} of {}", kept.len(), expected.len());
    assert!(
        expected.len() > 50 && expected.len() < 400,
        "{}",
        expected.len()
    );
}

#[apply(runtime_test!)]
async fn channels_are_arguments_of_both_kinds() {
    let server = Server::new();
    let (client, mut peer) = server.connect().await;
    let (shared, given) = (Channel::new(&client, 7), Channel::new(&client, 8));
    let wasm = || ProcessBuilder::new("echo.wasm", "start");
    let scalar = AbiParam::Scalar;
    let kinds = [scalar(AbiScalarType::U64), scalar(AbiScalarType::I32)];
    let with_buffer = AbiSignature::new(vec![AbiParam::Buffer, kinds[0], kinds[1]], vec![]);
    for (builder, params) in [
        (
            wasm().arg_channel(&shared).arg_channel_handle(&given),
            kinds.to_vec(),
        ),
        // A signature that says the same, before or behind.
        (
            wasm()
                .arg_utf8("x")
                .arg_channel(&shared)
                .arg_channel_handle(&given)
                .signature(with_buffer.clone()),
            with_buffer.params().to_vec(),
        ),
        // One that says a part of it.
        (
            wasm()
                .signature(AbiSignature::new(vec![AbiParam::Buffer], vec![]))
                .arg_utf8("x")
                .arg_channel(&shared)
                .arg_channel_handle(&given),
            with_buffer.params().to_vec(),
        ),
    ] {
        let serve = async {
            let (id, body) = peer.request(op::PROCESS_START).await;
            let start = StartRequest::decode(&body).unwrap();
            assert_eq!(start.signature.params(), params);
            let [.., one, two] = &start.args[..] else {
                panic!("{:?}", start.args);
            };
            assert_eq!(*one, EntrypointArg::Resource(7));
            assert_eq!(*two, EntrypointArg::Resource(8));
            peer.act(move |core| core.respond(id, Ok(ProcessRef::new(1, "p").encode())));
        };
        let start = Process::start(&client, builder);
        let (process, ()) = soon(async { tokio::join!(start, serve) }).await;
        process.unwrap();
    }
    // The one kind is not taken for the other.
    let swapped = AbiSignature::new(vec![kinds[1]], vec![]);
    let builder = wasm().signature(swapped).arg_channel(&shared);
    let error = soon(Process::start(&client, builder)).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "invalid arguments: argument 1 is a channel of type u64, the signature says i32"
    );
    let builder = wasm().arg_utf8("x").arg_channel(&shared);
    let error = soon(Process::start(&client, builder)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
}

/// A publication that a scripted server opens with this answer.
async fn published(
    client: &Client,
    peer: &mut common::Peer,
    started: PublishStarted,
) -> (
    Result<Publisher, ClientError>,
    selium_remote_client_protocol::RequestId,
) {
    let serve = async {
        let (id, _) = peer.request(op::PUBLISH).await;
        peer.act(move |core| {
            core.respond_stream(id, started.encode(), StreamKind::ToServer)
                .unwrap();
        });
        id
    };
    let publish = client.publish("web", PublishOptions::default());
    soon(async { tokio::join!(publish, serve) }).await
}

#[apply(runtime_test!)]
async fn a_server_that_makes_no_sense_is_told_apart() {
    let server = Server::new();
    let (client, mut peer) = server.connect().await;
    // It has messages of a publication that has none.
    let mut started = PublishStarted::new(5, "web", 64, Backpressure::Park);
    started.last = Some(3);
    let (publisher, _) = published(&client, &mut peer, started).await;
    let error = publisher.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol, "{error:?}");
    assert!(matches!(
        peer.event().await,
        ServerEvent::Cancelled { stream: true, .. }
    ));
    // It does not say how much the channel holds.
    let started = PublishStarted::new(5, "web", 0, Backpressure::Park);
    let (publisher, id) = published(&client, &mut peer, started).await;
    let mut publisher = publisher.unwrap();
    assert_eq!(publisher.channel(), ChannelId(5));
    assert_eq!(publisher.max_message(), MIB);
    // It ends the publication, and does not say why.
    soon(publisher.send("one")).await.unwrap();
    assert!(matches!(peer.event().await, ServerEvent::Message { .. }));
    peer.act(move |core| core.end(id, None));
    let (cause, acknowledged, unknown) = failure(soon(publisher.flush()).await.unwrap_err());
    assert_eq!(cause.code(), Some(ErrorCode::Cancelled));
    assert_eq!((acknowledged, unknown), (None, 0..1));
    // It resets one.
    let started = PublishStarted::new(5, "web", 64, Backpressure::Park);
    let (publisher, id) = published(&client, &mut peer, started).await;
    let mut publisher = publisher.unwrap();
    soon(publisher.send("one")).await.unwrap();
    let error = RemoteError::new(ErrorCode::TooLarge, "too large after all");
    peer.act(move |core| core.reset(id, error));
    let (cause, ..) = failure(soon(publisher.close()).await.unwrap_err());
    assert_eq!(cause.code(), Some(ErrorCode::TooLarge));
    assert!(soon(client.ping()).await.is_ok());
}
