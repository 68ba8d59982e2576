//! Channels on the stock runtime through the client library: what becomes of them, and of every byte that goes over them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "tests"
)]

use std::collections::BTreeMap;
use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::{join_all, poll_fn};
use selium_remote_client::{
    AbiParam, AbiScalarType, AbiScalarValue, AbiSignature, Backpressure, Capability, Channel,
    ChannelBuilder, ChannelState, Client, ClientError, ErrorCode, ErrorKind, MessageLimit, Process,
    ProcessBuilder, PublishOptions, Publisher, SubscribeItem, SubscribeOptions,
};
use selium_remote_e2e::runtime;
use selium_remote_e2e::traffic::{
    self, KIB, LONGEST, STILL, Script, channel, connect, fill, filled, flush, item, lossless,
    message, mix, publication, publish, read_script, remote, send_script, subscribe, told,
};
use selium_remote_e2e::{
    Dice, Following, Hurry, PATIENCE, Server, Shared, block_on, block_on_for, mib, soon,
};
use tokio::join;

static SERVER: Shared = Shared::new();

/// After so long without a word a connection is over, and so is a lossless subscription that takes nothing.
const IDLE: Duration = Duration::from_secs(30);

// --- Guests

const U64: AbiParam = AbiParam::Scalar(AbiScalarType::U64);
const U32: AbiParam = AbiParam::Scalar(AbiScalarType::U32);

fn guest(module: &str, entrypoint: &str) -> ProcessBuilder {
    ProcessBuilder::new(module, entrypoint)
        .capability(Capability::ChannelLifecycle)
        .capability(Capability::ChannelReader)
        .capability(Capability::ChannelWriter)
}

async fn start(client: &Client, builder: ProcessBuilder) -> Process {
    let started = Process::start(client, builder).await;
    started.expect("it starts")
}

/// A guest that writes so many numbered messages of so many bytes; for ever when it is 0.
async fn firehose(client: &Client, channel: &Channel, size: u32, count: u64) -> Process {
    let builder = guest("firehose.wasm", "start")
        .signature(AbiSignature::new(vec![U64, U32, U64], vec![]))
        .arg_channel(channel)
        .arg_scalar(AbiScalarValue::U32(size))
        .arg_scalar(AbiScalarValue::U64(count));
    start(client, builder).await
}

/// The number of a message of [`firehose`], all of which has to be as it was written.
fn from_firehose(message: &[u8], size: usize) -> u64 {
    let number = whole(message, size);
    number.unwrap_or_else(|| panic!("no guest wrote this: {message:?}"))
}

/// The number of a message of [`firehose`], if it is as it was written.
fn whole(message: &[u8], size: usize) -> Option<u64> {
    let (number, rest) = message.split_first_chunk::<8>()?;
    let is_whole = message.len() == size && rest.iter().all(|byte| *byte == number[0]);
    is_whole.then(|| u64::from_le_bytes(*number))
}

// --- What becomes of channels

#[test]
fn channels_are_made_found_changed_and_deleted() {
    let Some(server) = Server::start(&["TimeRead"]) else {
        return;
    };
    block_on(async {
        let client = connect(&server).await;
        assert!(Channel::list(&client).await.expect("a list").is_empty());

        let plain = channel(&client, 1_000).await;
        assert_eq!(plain.capacity(), Some(1_024), "rounded up");
        assert_eq!(plain.backpressure(), Some(Backpressure::Park));
        assert!(!plain.name().expect("a name").is_empty());
        let prices = ChannelBuilder::new(64 * 1024)
            .name("prices")
            .backpressure(Backpressure::Drop);
        let prices = Channel::create_with(&client, prices)
            .await
            .expect("created");
        assert_eq!(prices.name(), Some("prices"));
        assert_eq!(prices.backpressure(), Some(Backpressure::Drop));
        assert_ne!(plain.id(), prices.id());

        // A process and a channel may have the same name.
        let process = ProcessBuilder::new("hello.wasm", "hello").name("prices");
        start(&client, process).await;

        // Looked up by name, id, and the beginning of the id.
        let id = prices.id().to_string();
        assert_eq!(id.len(), 16);
        for target in ["prices", &id, &id[..12]] {
            let found = Channel::find(&client, target).await.expect(target);
            assert_eq!(found.id(), prices.id());
            assert_eq!(found.capacity(), Some(65_536));
        }
        let other = connect(&server).await;
        let seen = Channel::find(&other, "prices").await.expect("it is there");
        assert_eq!(seen.handle(), prices.handle(), "for every client");

        let listed = Channel::list(&client).await.expect("a list");
        let ids: Vec<u64> = listed.iter().map(|info| info.id).collect();
        assert_eq!(ids, [plain.handle(), prices.handle()]);
        let info = prices.inspect().await.expect("it is there");
        assert_eq!(listed[1], info);
        assert_eq!(
            (info.name.as_str(), info.capacity, info.backpressure),
            ("prices", 65_536, Backpressure::Drop)
        );
        assert_eq!((info.state, info.shared), (ChannelState::Open, false));
        assert_eq!(
            (info.lossless, info.lossy, info.publishers, info.published),
            (0, 0, 0, 0)
        );
        let age = std::time::SystemTime::UNIX_EPOCH
            + Duration::from_millis(info.created_ms.expect("the server has a clock"));
        let age = age.elapsed().expect("it was before now");
        assert!(age < PATIENCE * 2, "{age:?}");

        // Who uses it.
        let (mut one, two) = (publish(&plain).await, publish(&plain).await);
        let strict = subscribe(&plain, lossless()).await;
        let lax = join_all([(); 2].map(|()| plain.subscribe(100))).await;
        one.send("hello").await.expect("it is sent");
        flush(&mut one).await;
        let info = plain.inspect().await.expect("it is there");
        assert_eq!(
            (info.lossless, info.lossy, info.publishers, info.published),
            (1, 2, 2, 1)
        );
        drop((one, two, strict, lax));
        told(&plain, "everybody has gone", |info| {
            (info.lossless, info.lossy, info.publishers) == (0, 0, 0)
        })
        .await;

        // Share and drain, and again.
        for _ in 0..2 {
            assert!(prices.share().await.expect("shared").shared);
        }
        for _ in 0..2 {
            let info = prices.drain().await.expect("drained");
            assert_eq!(info.state, ChannelState::Draining);
        }
        assert!(!plain.inspect().await.expect("it is there").shared);
        assert_eq!(
            remote(&prices.publish().await.unwrap_err()),
            (ErrorCode::Unavailable, None)
        );

        // Deleted is deleted, and its name is free.
        prices.clone().delete().await.expect("deleted");
        for error in [
            prices.inspect().await.unwrap_err(),
            prices.share().await.unwrap_err(),
            prices.drain().await.unwrap_err(),
            prices.clone().delete().await.unwrap_err(),
            prices.publish().await.unwrap_err(),
            prices.subscribe(100).await.unwrap_err(),
            seen.publish().await.unwrap_err(),
            Channel::find(&client, "prices").await.unwrap_err(),
        ] {
            assert_eq!(remote(&error), (ErrorCode::NotFound, Some("target")));
        }
        let again = ChannelBuilder::new(1).name("prices");
        let again = Channel::create_with(&client, again).await.expect("created");
        assert_ne!(again.id(), prices.id(), "an id is used once");
        assert_eq!(Channel::list(&client).await.expect("a list").len(), 2);
        server.must_answer();
    });
}

#[test]
fn what_cannot_be_is_refused_with_a_reason() {
    let Some(server) = Server::start(&[]) else {
        return;
    };
    block_on(async {
        let client = connect(&server).await;
        let named = |name: &str| ChannelBuilder::new(1_024).name(name);
        let refused = async |builder: ChannelBuilder| {
            let created = Channel::create_with(&client, builder).await;
            created.expect_err("this cannot be")
        };
        // Here.
        for builder in [
            ChannelBuilder::new(0),
            ChannelBuilder::new(16 * 1024 * 1024 + 1),
            named(""),
            named(&"x".repeat(64)),
        ] {
            assert_eq!(refused(builder).await.kind(), ErrorKind::InvalidArgument);
        }
        assert!(matches!(
            Channel::find(&client, &"x".repeat(129)).await,
            Err(ClientError::InvalidArgument(_))
        ));
        assert!(
            Channel::list(&client).await.expect("a list").is_empty(),
            "nothing of that was done"
        );
        // By the server.
        let channel = Channel::create_with(&client, named("taken")).await;
        let channel = channel.expect("created");
        assert_eq!(
            remote(&refused(named("taken")).await),
            (ErrorCode::AlreadyExists, Some("name"))
        );
        for name in ["No Name", "a\nb", "-x", "0123456789abcdef"] {
            assert_eq!(
                remote(&refused(named(name)).await),
                (ErrorCode::InvalidArgument, Some("name")),
                "{name}"
            );
        }
        let error = Channel::find(&client, "none").await.unwrap_err();
        assert_eq!(remote(&error), (ErrorCode::NotFound, Some("target")));
        assert!(error.to_string().contains("none"), "{error}");
        let drops = named("drops").backpressure(Backpressure::Drop);
        let drops = Channel::create_with(&client, drops).await.expect("created");
        assert_eq!(
            remote(&drops.subscribe_with(lossless()).await.unwrap_err()),
            (ErrorCode::InvalidArgument, Some("lossless"))
        );
        assert_eq!(
            channel.subscribe(0).await.unwrap_err().kind(),
            ErrorKind::InvalidArgument
        );
        // Too much.
        let mut all = vec![channel, drops];
        let error = loop {
            let large = ChannelBuilder::new(16 * 1024 * 1024);
            match Channel::create_with(&client, large).await {
                Ok(channel) => all.push(channel),
                Err(error) => break error,
            }
            assert!(all.len() < 10, "there is a limit in bytes");
        };
        assert_eq!(
            remote(&error),
            (ErrorCode::ResourceExhausted, Some("capacity"))
        );
        assert_eq!(all.len(), 2 + 3, "64 MiB less what there was");
        let large = all.pop().expect("one of them");
        large.delete().await.expect("deleted");
        let error = loop {
            match Channel::create(&client, 1).await {
                Ok(channel) => all.push(channel),
                Err(error) => break error,
            }
            assert!(all.len() <= 256, "there is a limit in number");
        };
        assert_eq!(remote(&error), (ErrorCode::ResourceExhausted, None));
        assert_eq!(all.len(), 256);
        let gone = join_all(all.into_iter().map(Channel::delete)).await;
        assert!(gone.into_iter().all(|gone| gone.is_ok()));
        assert!(Channel::list(&client).await.expect("a list").is_empty());
        // All of it is free again.
        Channel::create(&client, 16 * 1024 * 1024)
            .await
            .expect("created");
    });
}

#[test]
fn deleting_and_draining_end_what_is_open() {
    let Some(server) = SERVER.get() else {
        return;
    };
    let script = Script::new(&mut Dice::seeded("ends"), 100, 2_000);
    block_on(async {
        let client = connect(&server).await;
        let other = connect(&server).await;
        for shared in [false, true] {
            // A channel with everything: readers of both kinds, an idle publisher, and one that waits.
            let channel = channel(&client, 64 * KIB).await;
            if shared {
                channel.share().await.expect("shared");
            }
            let mut strict = subscribe(&channel, lossless()).await;
            let mut lax = subscribe(&channel, SubscribeOptions::new()).await;
            let mut idle = publish(&channel).await;
            let mut waiting = publish(&channel).await;
            let taken = fill(&mut waiting, &script, 20_000).await;
            let acknowledged = waiting.acknowledged().expect("some are acknowledged");
            assert!(acknowledged + 1 < taken);
            Channel::new(&other, channel.handle())
                .delete()
                .await
                .expect("deleted");
            // Publications: which messages may be there.
            let failure = publication(waiting.flush().await.unwrap_err());
            assert_eq!(failure.cause.code(), Some(ErrorCode::NotFound));
            assert!(failure.to_string().contains("was deleted"), "{failure}");
            let acknowledged = failure.acknowledged.expect("some were acknowledged");
            assert_eq!(failure.unknown, acknowledged + 1..taken);
            let kept = waiting.unacknowledged();
            assert_eq!(kept.len() as u64, taken - acknowledged - 1);
            for (number, message) in kept {
                script.check(number, &message);
            }
            let failure = publication(send_in_vain(&mut idle).await);
            assert_eq!(failure.cause.code(), Some(ErrorCode::NotFound));
            assert!(failure.acknowledged.is_none(), "{failure:?}");
            // Subscriptions: what is on its way still comes, in its order, and then the end.
            for (subscriber, is_lossless) in [(&mut strict, true), (&mut lax, false)] {
                let mut expected = 0;
                while let Some(item) = soon("the end", subscriber.next()).await {
                    match item.expect("no error") {
                        SubscribeItem::Message { sequence, payload } => {
                            assert_eq!(sequence, expected);
                            script.check(sequence, &payload);
                            expected += 1;
                        }
                        SubscribeItem::Gap { .. } if !is_lossless => break,
                        other => panic!("{other:?}"),
                    }
                }
                while soon("the end", subscriber.next()).await.is_some() {}
                assert_eq!(subscriber.end_reason(), Some("the channel was deleted"));
                assert!(expected > 0, "something had come");
            }

            // A channel that is drained with messages in it.
            let channel = channel_with_rest(&client, &script, shared).await;
            let mut strict = subscribe(&channel, lossless().since(0)).await;
            let mut publisher = publish(&channel).await;
            send_script(&mut publisher, &script, 10..20).await;
            flush(&mut publisher).await;
            channel.drain().await.expect("drained");
            let failure = publication(send_in_vain(&mut publisher).await);
            assert_eq!(failure.cause.code(), Some(ErrorCode::Unavailable));
            assert_eq!(failure.acknowledged, Some(9), "its own messages");
            read_script(&mut strict, &script, 0..20).await;
            assert!(soon("the end", strict.next()).await.is_none());
            assert_eq!(strict.end_reason(), None, "everything was read");
            // Who comes later gets nothing and the end.
            let mut late = subscribe(&channel, SubscribeOptions::new()).await;
            while let Some(item) = soon("the end", late.next()).await {
                item.expect("no error");
            }
            assert_eq!(late.end_reason(), None);
            channel.delete().await.expect("deleted");
        }
        client.ping().await.expect("the connection lives");
        server.must_answer();
    });
}

/// The error of a publisher whose publication is over; it may learn of that only now.
async fn send_in_vain(publisher: &mut Publisher) -> ClientError {
    match publisher.send("in vain").await {
        Ok(_) => soon("the end", publisher.flush()).await.unwrap_err(),
        Err(error) => error,
    }
}

/// A channel with messages 0 to 9 of a script, which nobody has read.
async fn channel_with_rest(client: &Client, script: &Script, shared: bool) -> Channel {
    let channel = channel(client, 64 * KIB).await;
    if shared {
        channel.share().await.expect("shared");
    }
    let mut publisher = publish(&channel).await;
    send_script(&mut publisher, script, 0..10).await;
    publisher.close().await.expect("closed");
    channel
}

// --- From outside to outside

#[test]
fn messages_arrive_as_they_were_sent() {
    let Some(server) = SERVER.get() else {
        return;
    };
    let mut dice = Dice::seeded("messages");
    // (numbers, shortest, longest, in a burst)
    // A burst is a third of what the server holds for who may lose something, on average.
    let small = (3_000, 1, 64 * KIB, 60);
    let large = (24, LONGEST, LONGEST, 1);
    let both = (24, 64 * KIB, LONGEST, 1);
    block_on(async {
        let client = connect(&server).await;
        let reading = connect(&server).await;
        for (count, shortest, longest, burst) in [small, large, both] {
            let script = Script::new(&mut dice, shortest, longest);
            let channel = channel(&client, 4 * LONGEST).await;
            let theirs = Channel::new(&reading, channel.handle());
            let mut strict = subscribe(&theirs, lossless()).await;
            let mut lax = subscribe(&theirs, SubscribeOptions::new()).await;
            let mut publisher = publish(&channel).await;
            assert_eq!(publisher.max_message(), LONGEST);
            // As fast as it goes, for one that loses nothing; in bursts that the server can hold, for one that may.
            let mut at = 0;
            while at < count {
                let to = (at + burst).min(count);
                let all = async {
                    send_script(&mut publisher, &script, at..to).await;
                    flush(&mut publisher).await;
                };
                join!(
                    all,
                    read_script(&mut strict, &script, at..to),
                    read_script(&mut lax, &script, at..to),
                );
                at = to;
            }
            drop(lax);
            let all = async {
                send_script(&mut publisher, &script, 0..count).await;
                soon("the close", publisher.close()).await.expect("closed");
            };
            join!(all, read_script(&mut strict, &script, 0..count));
            let info = channel.inspect().await.expect("it is there");
            assert_eq!(info.published, count * 2);
            channel.delete().await.expect("deleted");
        }
    });
}

#[test]
fn flush_means_that_the_channel_has_it() {
    let Some(server) = SERVER.get() else {
        return;
    };
    let script = Script::new(&mut Dice::seeded("flush"), 1, 1_000);
    block_on(async {
        let client = connect(&server).await;
        for shared in [false, true] {
            let channel = channel(&client, 256 * KIB).await;
            if shared {
                channel.share().await.expect("shared");
            }
            // Nobody reads, and the publisher's connection is lost right after the flush.
            let lost = connect(&server).await;
            let mut publisher = publish(&Channel::new(&lost, channel.handle())).await;
            send_script(&mut publisher, &script, 0..100).await;
            flush(&mut publisher).await;
            assert_eq!(publisher.acknowledged(), Some(99));
            assert!(publisher.unacknowledged().is_empty());
            assert!(!publisher.may_be_dropped());
            drop((publisher, lost));
            let info = channel.inspect().await.expect("it is there");
            assert_eq!(info.published, 100, "at once, not soon");
            let mut late = subscribe(&channel, lossless().since(0)).await;
            read_script(&mut late, &script, 0..100).await;

            // While it has no room, flush waits, and what was acknowledged is what it has.
            let mut publisher = publish(&channel).await;
            let sent = fill(&mut publisher, &script, 100_000).await;
            assert!(publisher.flush().now_or_never().is_none());
            // On a busy machine it may have stood still only for a while.
            soon("it is what the channel has", async {
                loop {
                    let acknowledged = publisher.acknowledged().expect("some");
                    let info = channel.inspect().await.expect("it is there");
                    assert!(info.published > 100 + acknowledged);
                    if info.published == 100 + acknowledged + 1 {
                        break;
                    }
                }
            })
            .await;
            let reading = async {
                for number in 0..sent {
                    let (_, payload) = message(&mut late).await;
                    script.check(number, &payload);
                }
            };
            join!(flush(&mut publisher), reading);
            channel.delete().await.expect("deleted");

            // On a channel that drops, it says that this is all it means.
            let drops = ChannelBuilder::new(16 * 1024).backpressure(Backpressure::Drop);
            let drops = Channel::create_with(&client, drops).await.expect("created");
            if shared {
                drops.share().await.expect("shared");
            }
            let mut publisher = publish(&drops).await;
            send_script(&mut publisher, &script, 0..1_000).await;
            flush(&mut publisher).await;
            assert!(publisher.may_be_dropped());
            drops.delete().await.expect("deleted");
        }
    });
}

#[test]
fn what_no_channel_holds_is_not_sent() {
    let Some(server) = SERVER.get() else {
        return;
    };
    block_on(async {
        let client = connect(&server).await;
        let channel = channel(&client, 1_024).await;
        let mut subscriber = subscribe(&channel, lossless()).await;
        let mut publisher = publish(&channel).await;
        assert_eq!(publisher.max_message(), 1_024);
        for _ in 0..2 {
            assert!(matches!(
                publisher.send("").await,
                Err(ClientError::EmptyMessage)
            ));
            assert!(matches!(
                publisher.try_send(vec![1; 1_025]),
                Err(ClientError::MessageTooLarge {
                    length: 1_025,
                    limit: 1_024,
                    by: MessageLimit::Capacity,
                })
            ));
            assert!(publisher.unacknowledged().is_empty());
        }
        flush(&mut publisher).await;
        assert_eq!(channel.inspect().await.expect("it is there").published, 0);
        // It goes on, with what just fits.
        for length in [1_024, 1, 1_024] {
            publisher.send(vec![7; length]).await.expect("it is sent");
        }
        for length in [1_024, 1, 1_024] {
            assert_eq!(message(&mut subscriber).await.1, vec![7; length]);
        }
        publisher.close().await.expect("closed");
        assert!(matches!(
            publisher.send("x").await,
            Err(ClientError::PublisherClosed)
        ));
        channel.delete().await.expect("deleted");
        // Past what the server takes, however much the channel holds.
        let channel = traffic::channel(&client, 4 * LONGEST).await;
        let mut publisher = publish(&channel).await;
        assert!(matches!(
            publisher.send(vec![1; LONGEST + 1]).await,
            Err(ClientError::MessageTooLarge {
                limit: LONGEST,
                by: MessageLimit::Connection,
                ..
            })
        ));
        // A subscriber may accept less than there is: that is told, and where it stands.
        let mut subscriber = channel.subscribe(100).await.expect("a subscription");
        for length in [100, 101] {
            publisher.send(vec![1; length]).await.expect("it is sent");
        }
        assert_eq!(message(&mut subscriber).await.1.len(), 100);
        let error = soon("the error", subscriber.next()).await;
        assert!(matches!(
            error,
            Some(Err(ClientError::MessageTooLarge {
                length: 101,
                limit: 100,
                by: MessageLimit::Subscription,
            }))
        ));
        assert_eq!(subscriber.position(), 1);
        assert!(subscriber.next().await.is_none());
        channel.delete().await.expect("deleted");
    });
}

// --- Slow subscribers

#[test]
fn a_slow_lossy_subscriber_is_told_what_is_missing() {
    let Some(server) = SERVER.get() else {
        return;
    };
    let script = Script::new(&mut Dice::seeded("slow, lossy"), 100, 10_000);
    block_on(async {
        let client = connect(&server).await;
        let reading = connect(&server).await;
        // The channel holds all that is sent, so that the runtime drops nothing: every gap is counted.
        let channel = channel(&client, 16 * LONGEST).await;
        let theirs = Channel::new(&reading, channel.handle());
        let mut slow = subscribe(&theirs, SubscribeOptions::new()).await;
        let mut publisher = publish(&channel).await;
        let (mut sent, mut bytes) = (0, 0);
        while bytes < 12 * LONGEST {
            bytes += script.length(sent);
            send_script(&mut publisher, &script, sent..sent + 1).await;
            sent += 1;
        }
        flush(&mut publisher).await;
        let (mut read, mut gaps, mut missing, mut expected) = (0, 0, 0, 0);
        while expected < sent {
            match item(&mut slow).await {
                SubscribeItem::Message { sequence, payload } => {
                    assert_eq!(sequence, expected, "no hole that is not told");
                    script.check(sequence, &payload);
                    (read, expected) = (read + 1, expected + 1);
                }
                SubscribeItem::Gap { next, count } => {
                    assert_eq!(
                        count,
                        Some(next - expected),
                        "the count of a gap before {next}"
                    );
                    (gaps, missing, expected) = (gaps + 1, missing + next - expected, next);
                }
                other => panic!("{other:?}"),
            }
        }
        eprintln!(
            "{sent} messages of {:.1} MiB: {read} read, {missing} missing in {gaps} gaps",
            mib(bytes as u64)
        );
        assert_eq!(read + missing, sent);
        assert!(gaps > 0 && read > 0, "{gaps} gaps, {read} read");
        // It is a subscriber like any other then.
        send_script(&mut publisher, &script, sent..sent + 10).await;
        flush(&mut publisher).await;
        read_script(&mut slow, &script, sent..sent + 10).await;
        channel.delete().await.expect("deleted");
    });
}

#[test]
fn what_the_runtime_drops_is_a_gap_of_unknown_size() {
    let Some(server) = SERVER.get() else {
        return;
    };
    const SIZE: usize = 700;
    block_on(async {
        let client = connect(&server).await;
        for backpressure in [Backpressure::Park, Backpressure::Drop] {
            let small = ChannelBuilder::new(16 * 1024).backpressure(backpressure);
            let channel = Channel::create_with(&client, small).await.expect("created");
            let mut lax = subscribe(&channel, SubscribeOptions::new()).await;
            let process = firehose(&client, &channel, SIZE as u32, 0).await;
            // A number that was left out is behind a gap; without one they go on by one.
            let (mut last, mut gaps, mut told_gap, mut read) = (None, 0, true, 0u32);
            let mut torn = 0;
            let begun = Instant::now();
            while gaps < 3 || read < 1_000 {
                assert!(
                    begun.elapsed() < PATIENCE,
                    "{backpressure:?}: {read} read, {gaps} gaps"
                );
                match item(&mut lax).await {
                    SubscribeItem::Message { payload, .. } => {
                        // The runtime lets a writer overtake a weak reader in the middle of a message, and does not say so.
                        let Some(number) = whole(&payload, SIZE) else {
                            assert_eq!(payload.len(), SIZE);
                            (torn, told_gap) = (torn + 1, true);
                            continue;
                        };
                        match last {
                            Some(last) if !told_gap => assert_eq!(number, last + 1),
                            Some(last) => assert!(number > last, "{number} after {last}"),
                            None => {}
                        }
                        (last, told_gap, read) = (Some(number), false, read + 1);
                    }
                    SubscribeItem::Gap { .. } => (gaps, told_gap) = (gaps + 1, true),
                    other => panic!("{other:?}"),
                }
            }
            eprintln!("{backpressure:?}: {read} read, {gaps} gaps, {torn} torn");
            assert!(
                torn <= gaps,
                "messages are torn where some are missing only"
            );
            process.stop().await.expect("stopped");
            channel.delete().await.expect("deleted");
        }
        server.must_answer();
    });
}

// --- Subscribers that go

#[test]
fn who_leaves_holds_nobody_up() {
    let Some(server) = SERVER.get() else {
        return;
    };
    let script = Script::new(&mut Dice::seeded("leaving"), 1, 8 * KIB);
    block_on(async {
        let client = connect(&server).await;
        for shared in [false, true] {
            let channel = channel(&client, 64 * KIB).await;
            if shared {
                channel.share().await.expect("shared");
            }
            let mut publisher = publish(&channel).await;
            let mut sent = 0;
            // By dropping the subscription, by closing the connection, by dropping it.
            for way in 0..3 {
                let leaving = connect(&server).await;
                let theirs = Channel::new(&leaving, channel.handle());
                let subscriber = subscribe(&theirs, lossless()).await;
                let script = Script {
                    seed: script.seed.wrapping_add(way),
                    ..script
                };
                // Numbers go on in the publication, and begin anew in what is sent.
                let before = sent;
                loop {
                    let number = sent - before;
                    assert!(number < 20_000, "it is held up");
                    let message = script.message(number);
                    let acknowledged = publisher.acknowledged();
                    match runtime::timeout(STILL, publisher.send(message)).await {
                        Some(number) => sent = number.expect("it is sent") + 1,
                        None if publisher.acknowledged() == acknowledged => break,
                        None => {}
                    }
                }
                assert!(publisher.flush().now_or_never().is_none());
                let begun = Instant::now();
                match way {
                    0 => drop(subscriber),
                    1 => leaving.close().await,
                    _ => drop((subscriber, leaving, theirs)),
                }
                flush(&mut publisher).await;
                let took = begun.elapsed();
                eprintln!("way {way}, shared: {shared}: on again after {took:.1?}");
                assert!(took < Duration::from_secs(5), "way {way}: {took:?}");
            }
            channel.delete().await.expect("deleted");
            // With two of them, the one that stays loses nothing.
            let channel = traffic::channel(&client, 64 * KIB).await;
            if shared {
                channel.share().await.expect("shared");
            }
            let mut publisher = publish(&channel).await;
            let leaving = subscribe(&connect_to(&server, &channel).await, lossless()).await;
            let mut staying = subscribe(&channel, lossless()).await;
            let all = async {
                send_script(&mut publisher, &script, 0..2_000).await;
                flush(&mut publisher).await;
            };
            let begin = staying.position();
            let reading = async {
                let mut leaving = Some(leaving);
                for number in 0..2_000 {
                    let (sequence, payload) = message(&mut staying).await;
                    assert_eq!(sequence, begin + number);
                    script.check(number, &payload);
                    if number == 500 {
                        drop(leaving.take());
                    }
                }
            };
            join!(all, reading);
            channel.delete().await.expect("deleted");
        }
    });
}

#[test]
#[cfg_attr(
    not(feature = "tokio"),
    ignore = "long, and what the server does on any runtime of its clients"
)]
fn a_subscription_that_is_not_read_holds_up_no_other_on_its_connection() {
    let Some(server) = SERVER.get() else {
        return;
    };
    /// What the server holds for one that does not read, and the channel, have room for more.
    const COUNT: u64 = 900;
    let script = Script::new(&mut Dice::seeded("one connection"), 1, 8 * KIB);
    // On a machine that is busy round trips become long now and then, so that the connection's window shrinks.
    let _hurry = Hurry::of(6);
    block_on_for(PATIENCE * 10, async {
        let client = connect(&server).await;
        for _ in 0..30 {
            let channel = channel(&client, 64 * KIB).await;
            let unread = subscribe(&channel, lossless()).await;
            let mut staying = subscribe(&channel, lossless()).await;
            let mut publisher = publish(&channel).await;
            let all = async {
                send_script(&mut publisher, &script, 0..COUNT).await;
                flush(&mut publisher).await;
            };
            join!(all, read_script(&mut staying, &script, 0..COUNT));
            drop(unread);
            channel.delete().await.expect("deleted");
        }
    });
}

#[test]
#[cfg_attr(
    not(feature = "tokio"),
    ignore = "long, and what the server does on any runtime of its clients"
)]
fn who_vanishes_holds_nobody_up_for_long() {
    // Without a clock only the idle timeout of connections ends such subscribers; with one the server counts too.
    let (Some(plain), Some(clocked)) = (Server::start(&[]), Server::start(&["TimeRead"])) else {
        return;
    };
    let script = Script::new(&mut Dice::seeded("vanishing"), 1, 8 * KIB);
    block_on_for(PATIENCE * 3, async {
        join!(
            killed(&plain, &script, "without a clock"),
            killed(&clocked, &script, "with a clock"),
            stalls(&clocked, &script),
        );
    });
}

/// The result of a future, and how late this machine was in doing what was due meanwhile: no more than that is forgiven.
async fn with_lateness<T>(future: impl Future<Output = T>) -> (T, Duration) {
    const TICK: Duration = Duration::from_millis(10);
    let mut late = Duration::ZERO;
    let ticking = async {
        loop {
            let begun = Instant::now();
            runtime::sleep(TICK).await;
            late = late.max(begun.elapsed().saturating_sub(TICK));
        }
    };
    let result = tokio::select! {
        result = future => result,
        () = ticking => unreachable!(),
    };
    (result, late)
}

/// A lossless subscriber is killed: its peer is not told.
async fn killed(server: &Server, script: &Script, what: &str) {
    let client = connect(server).await;
    let builder = ChannelBuilder::new(64 * 1024).name("vanishing");
    let channel = Channel::create_with(&client, builder)
        .await
        .expect("created");
    let subscriber = runtime::unblock({
        let command = server.command(&["channel", "sub", "vanishing", "--lossless"]);
        move || {
            let mut subscriber = Following::start(command);
            subscriber.note("its subscription", |line| line.contains("subscribed"));
            subscriber
        }
    });
    let subscriber = subscriber.await.expect("it runs");
    told(&channel, "the subscriber", |info| info.lossless == 1).await;
    let mut publisher = publish(&channel).await;
    let begun = Instant::now();
    drop(subscriber);
    let sent = fill(&mut publisher, script, 20_000).await;
    assert!(begun.elapsed() < IDLE / 2, "it stood still early");
    let (ended, late) = with_lateness(runtime::timeout(IDLE * 2, publisher.flush())).await;
    ended.expect("it goes on").expect("all is acknowledged");
    let took = begun.elapsed();
    eprintln!("{what}: on again {took:.1?} after the subscriber was killed, with {sent} messages");
    assert!(
        took > IDLE / 2,
        "{what}: something else has ended it: {took:?}"
    );
    assert!(
        took <= IDLE + Duration::from_secs(1) + late,
        "{what}: {took:?}, {late:?}"
    );
    let info = channel.inspect().await.expect("it is there");
    assert_eq!(info.lossless, 0);
}

/// A lossless subscriber lives and takes nothing.
async fn stalls(server: &Server, script: &Script) {
    let client = connect(server).await;
    let channel = channel(&client, 64 * KIB).await;
    let stalling = connect(server).await;
    let theirs = Channel::new(&stalling, channel.handle());
    let mut subscriber = subscribe(&theirs, lossless()).await;
    let mut publisher = publish(&channel).await;
    let begun = Instant::now();
    let sent = fill(&mut publisher, script, 20_000).await;
    let (ended, late) = with_lateness(runtime::timeout(IDLE * 2, publisher.flush())).await;
    ended.expect("it goes on").expect("all is acknowledged");
    let took = begun.elapsed();
    eprintln!("on again {took:.1?} after the subscriber began to stall, with {sent} messages");
    assert!(took > IDLE - Duration::from_secs(1), "{took:?}");
    // Messages were under way for a moment first.
    assert!(
        took <= IDLE + Duration::from_secs(2) + late,
        "{took:?}, {late:?}"
    );
    // What it had got is there, and then it is told.
    let mut expected = 0;
    let error = loop {
        match soon("the end", subscriber.next()).await.expect("an error") {
            Ok(SubscribeItem::Message { sequence, payload }) => {
                assert_eq!(sequence, expected);
                script.check(sequence, &payload);
                expected += 1;
            }
            Ok(other) => panic!("{other:?}"),
            Err(error) => break error,
        }
    };
    assert_eq!(error.code(), Some(ErrorCode::ResourceExhausted), "{error}");
    assert!(error.to_string().contains("for 30 s"), "{error}");
    stalling.ping().await.expect("its connection lives");
}

// --- Guests

#[test]
fn a_guest_answers_what_it_is_asked() {
    let Some(server) = SERVER.get() else {
        return;
    };
    let mut dice = Dice::seeded("echo");
    block_on(async {
        let client = connect(&server).await;
        for handles in [false, true] {
            let requests = channel(&client, 64 * KIB).await;
            let answers = channel(&client, 64 * KIB).await;
            let mut subscriber = subscribe(&answers, lossless()).await;
            let echo = match handles {
                false => guest("echo.wasm", "echo")
                    .arg_channel(&requests)
                    .arg_channel(&answers),
                true => guest("echo.wasm", "echo_handles")
                    .arg_channel_handle(&requests)
                    .arg_channel_handle(&answers),
            };
            let echo = start(&client, echo).await;
            for channel in [&requests, &answers] {
                assert!(channel.inspect().await.expect("it is there").shared);
            }
            // One by one, and many at once.
            let script = Script::new(&mut dice, 1, 16 * KIB);
            let mut publisher = publish(&requests).await;
            for number in 0..100 {
                send_script(&mut publisher, &script, number..number + 1).await;
                read_script(&mut subscriber, &script, number..number + 1).await;
            }
            let all = async {
                send_script(&mut publisher, &script, 100..1_100).await;
                flush(&mut publisher).await;
            };
            join!(all, read_script(&mut subscriber, &script, 100..1_100));
            // The longest that both hold.
            for length in [64 * KIB, 1, 64 * KIB] {
                publisher.send(vec![9; length]).await.expect("it is sent");
                assert_eq!(message(&mut subscriber).await.1, vec![9; length]);
            }
            publisher.close().await.expect("closed");
            echo.stop().await.expect("stopped");
            requests.delete().await.expect("deleted");
            answers.delete().await.expect("deleted");
        }
        server.must_answer();
    });
}

#[test]
fn what_a_guest_writes_everybody_gets() {
    let Some(server) = SERVER.get() else {
        return;
    };
    const SIZES: [usize; 3] = [8, 700, 30_000];
    const COUNT: u64 = 3_000;
    block_on(async {
        let client = connect(&server).await;
        let channel = channel(&client, 64 * KIB).await;
        // Three who lose nothing, at their own speeds.
        let mut subscribers = Vec::new();
        for _ in 0..3 {
            let theirs = connect_to(&server, &channel).await;
            subscribers.push(subscribe(&theirs, lossless()).await);
        }
        // One guest after the other: see below.
        for size in SIZES {
            firehose(&client, &channel, size as u32, COUNT).await;
            let reading = subscribers.iter_mut().map(async |subscriber| {
                let begin = subscriber.position();
                for number in 0..COUNT {
                    let (sequence, payload) = message(subscriber).await;
                    assert_eq!(sequence, begin + number);
                    assert_eq!(from_firehose(&payload, size), number);
                }
            });
            join_all(reading).await;
        }
        channel.delete().await.expect("deleted");
    });
}

#[test]
fn guests_and_publishers_write_to_one_channel() {
    let Some(server) = SERVER.get() else {
        return;
    };
    /// Sizes tell the guests apart.
    const SIZES: [usize; 2] = [64, 3_000];
    const COUNT: u64 = 3_000;
    let mut dice = Dice::seeded("fan-in");
    block_on(async {
        let client = connect(&server).await;
        let channel = channel(&client, 256 * KIB).await;
        let mut subscriber = subscribe(&channel, lossless()).await;
        for size in SIZES {
            firehose(&client, &channel, size as u32, COUNT).await;
        }
        let scripts = [(); 2].map(|()| Script::new(&mut dice, 100, 2_000));
        let mut publishers = Vec::new();
        for _ in &scripts {
            publishers.push(publish(&channel).await);
        }
        let sending = publishers.iter_mut().zip(&scripts);
        let sending = join_all(sending.map(async |(publisher, script)| {
            send_script(publisher, script, 0..COUNT).await;
            flush(publisher).await;
        }));
        let reading = async {
            let mut guests = BTreeMap::from(SIZES.map(|size| (size, 0)));
            let mut own = [0; 2];
            for expected in 0..COUNT * 4 {
                let (sequence, payload) = message(&mut subscriber).await;
                assert_eq!(sequence, expected);
                let of = (0..2).find(|n| payload == scripts[*n].message(own[*n]));
                match of {
                    Some(of) => own[of] += 1,
                    None => {
                        let next = guests.get_mut(&payload.len());
                        let next =
                            next.unwrap_or_else(|| panic!("of nobody: {payload:?}, {own:?}"));
                        assert_eq!(from_firehose(&payload, payload.len()), *next);
                        *next += 1;
                    }
                }
            }
            assert_eq!(own, [COUNT; 2]);
            assert!(guests.values().all(|count| *count == COUNT));
        };
        join!(sending, reading);
        assert!(
            subscriber.next().now_or_never().is_none(),
            "nothing besides"
        );
        channel.delete().await.expect("deleted");
    });
}

#[test]
fn an_idle_publisher_freezes_nobody() {
    let Some(server) = SERVER.get() else {
        return;
    };
    const COUNT: u64 = 1_000;
    let script = Script::new(&mut Dice::seeded("idle"), 1, 4 * KIB);
    block_on(async {
        let client = connect(&server).await;
        for shared in [false, true] {
            let channel = channel(&client, 64 * KIB).await;
            if shared {
                channel.share().await.expect("shared");
            }
            let mut strict = subscribe(&channel, lossless()).await;
            let mut lax = subscribe(&channel, SubscribeOptions::new()).await;
            // One has never written, one has.
            let mut never = publish(&channel).await;
            let mut once = publish(&connect_to(&server, &channel).await).await;
            once.send("once").await.expect("it is sent");
            assert_eq!(message(&mut strict).await.1, "once");
            // It may have begun beside the other's reader, and then been fed by that: it is told that something may be
            // missing.
            let first = match item(&mut lax).await {
                SubscribeItem::Gap { count: None, .. } => message(&mut lax).await.1,
                SubscribeItem::Message { payload, .. } => payload,
                other => panic!("{other:?}"),
            };
            assert_eq!(first, "once");
            // One message at a time, each seen before the next; then many.
            let mut busy = publish(&channel).await;
            for number in 0..50 {
                send_script(&mut busy, &script, number..number + 1).await;
                read_script(&mut strict, &script, number..number + 1).await;
                read_script(&mut lax, &script, number..number + 1).await;
            }
            let all = async {
                send_script(&mut busy, &script, 0..COUNT).await;
                flush(&mut busy).await;
            };
            join!(all, read_script(&mut strict, &script, 0..COUNT));
            drop(lax);
            // A guest writes, while all of them are open.
            let begin = strict.position();
            firehose(&client, &channel, 100, COUNT).await;
            for number in 0..COUNT {
                let (sequence, payload) = message(&mut strict).await;
                assert_eq!(sequence, begin + number);
                assert_eq!(from_firehose(&payload, 100), number);
            }
            // And they are publishers all the same.
            for publisher in [&mut never, &mut once, &mut busy] {
                publisher.send("more").await.expect("it is sent");
                flush(publisher).await;
                assert_eq!(message(&mut strict).await.1, "more");
            }
            channel.delete().await.expect("deleted");
        }
    });
}

/// The same channel over a connection of its own.
async fn connect_to(server: &Server, channel: &Channel) -> Channel {
    let client = connect(server).await;
    Channel::new(&client, channel.handle())
}

// --- Cancelling

/// Drives a future until it is done, or has been polled as often as is left. `None`: it was given up where it waited.
async fn cut<T>(left: &mut u32, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(value) => Poll::Ready(Some(value)),
        Poll::Pending if *left == 0 => Poll::Ready(None),
        Poll::Pending => {
            *left -= 1;
            Poll::Pending
        }
    })
    .await
}

/// The messages of a round: its number, theirs, and bytes that follow from both.
fn of_round(seed: u64, round: u32, number: u32) -> Bytes {
    let length = mix(seed ^ mix(u64::from(round) << 32 | u64::from(number))) % 3_000;
    let mut bytes = [round.to_le_bytes(), number.to_le_bytes()].concat();
    bytes.extend(filled(
        seed,
        u64::from(round) << 32 | u64::from(number),
        length as usize,
    ));
    bytes.into()
}

/// How many messages a round sends before it closes.
fn in_round(seed: u64, round: u32) -> u32 {
    8 + (mix(seed.wrapping_add(u64::from(round))) % 16) as u32
}

/// What became of a publisher that was given up somewhere.
#[derive(Default)]
struct GivenUp {
    sent: u32,
    acknowledged: u32,
    whole: bool,
}

/// Publishes, sends, flushes, sends, closes; gives up after so many polls that had to wait.
async fn round(channel: &Channel, seed: u64, round: u32, mut left: u32) -> GivenUp {
    let mut came = GivenUp::default();
    let options = PublishOptions::new().backlog(16 * KIB);
    let Some(publisher) = cut(&mut left, channel.publish_with(options)).await else {
        return came;
    };
    let mut publisher = publisher.expect("a publication");
    let count = in_round(seed, round);
    came.whole = async {
        for number in 0..count {
            cut(&mut left, publisher.send(of_round(seed, round, number)))
                .await?
                .expect("it is sent");
            came.sent = number + 1;
            if number % 2 == 0 {
                cut(&mut left, publisher.flush())
                    .await?
                    .expect("all is acknowledged");
            }
        }
        cut(&mut left, publisher.close()).await?.expect("closed");
        Some(())
    }
    .await
    .is_some();
    let acknowledged = publisher.acknowledged();
    came.acknowledged = acknowledged.map_or(0, |number| u32::try_from(number).unwrap() + 1);
    came
}

#[test]
fn a_publisher_can_be_given_up_anywhere() {
    let Some(server) = SERVER.get() else {
        return;
    };
    /// More waits than a round has.
    const MANY: u32 = 400;
    /// The round whose message is the last one.
    const LAST: u32 = u32::MAX;
    let seed = Dice::seeded("giving up").below(u64::MAX);
    block_on(async {
        let client = connect(&server).await;
        // Small, so that there is something to wait for.
        let channel = channel(&client, 4 * KIB).await;
        let theirs = connect_to(&server, &channel).await;
        let mut subscriber = subscribe(&theirs, lossless()).await;
        let reading = runtime::spawn(async move {
            let mut counts = BTreeMap::<u32, u32>::new();
            loop {
                let (_, payload) = message(&mut subscriber).await;
                let (head, _) = payload.split_first_chunk::<8>().expect("its numbers");
                let [round, number] =
                    [0, 4].map(|at| u32::from_le_bytes(head[at..at + 4].try_into().unwrap()));
                if round == LAST {
                    return counts;
                }
                let next = counts.entry(round).or_default();
                assert_eq!(number, *next, "messages of round {round}");
                assert!(
                    payload == of_round(seed, round, number),
                    "bytes of round {round}"
                );
                *next += 1;
            }
        });
        let mut rounds = Vec::new();
        let mut whole = 0;
        for at in 0..MANY {
            let came = soon("a round", round(&channel, seed, at, at)).await;
            client.ping().await.expect("the connection is usable");
            whole += u32::from(came.whole);
            rounds.push(came);
            if whole == 5 {
                break;
            }
        }
        assert_eq!(whole, 5, "it could be given up at every wait");
        let given_up = rounds.len() as u32 - whole;
        eprintln!("given up at {given_up} waits");
        assert!(given_up >= 5);
        told(&channel, "no publication is left", |info| {
            info.publishers == 0
        })
        .await;
        let mut publisher = publish(&channel).await;
        publisher
            .send([LAST.to_le_bytes(), [0; 4]].concat())
            .await
            .expect("it is sent");
        publisher.close().await.expect("closed");
        let counts = soon("the last message", reading)
            .await
            .expect("it went well");
        for (at, came) in rounds.iter().enumerate() {
            let count = counts.get(&(at as u32)).copied().unwrap_or_default();
            assert!(
                (came.acknowledged..=came.sent).contains(&count),
                "round {at}: {count} came, {} were sent, {} acknowledged",
                came.sent,
                came.acknowledged
            );
            if came.whole {
                assert_eq!(count, in_round(seed, at as u32), "round {at}");
            }
        }
        channel.delete().await.expect("deleted");
        server.must_answer();
    });
}

#[test]
fn what_is_given_up_is_done_as_a_whole_or_not_at_all() {
    let Some(server) = SERVER.get() else {
        return;
    };
    const COUNT: u64 = 5_000;
    let mut dice = Dice::seeded("giving up and going on");
    let script = Script::new(&mut dice, 1, 3_000);
    block_on(async {
        let client = connect(&server).await;
        // Small, so that there is something to wait for.
        let channel = channel(&client, 4 * KIB).await;
        let beside = self::traffic::channel(&client, 4 * KIB).await;
        let mut subscriber = subscribe(&channel, lossless()).await;
        let options = PublishOptions::new().backlog(16 * KIB);
        let mut publisher = channel.publish_with(options).await.expect("a publication");
        // On the same connection, undisturbed.
        let (mut theirs, mut others) =
            (publish(&beside).await, subscribe(&beside, lossless()).await);
        let undisturbed = async {
            join!(
                async {
                    send_script(&mut theirs, &script, 0..COUNT).await;
                    flush(&mut theirs).await;
                },
                read_script(&mut others, &script, 0..COUNT)
            )
        };
        let mut given_up = (0, 0, 0);
        let mut own = dice.clone();
        let publishing = async {
            for number in 0..COUNT {
                loop {
                    let mut left = own.below(3) as u32;
                    if let Some(sent) = cut(&mut left, publisher.send(script.message(number))).await
                    {
                        assert_eq!(sent.expect("it is sent"), number, "none was sent twice");
                        break;
                    }
                    given_up.0 += 1;
                    let mut left = own.below(3) as u32;
                    match cut(&mut left, publisher.flush()).await {
                        Some(flushed) => flushed.expect("all is acknowledged"),
                        None => given_up.1 += 1,
                    }
                    let_others().await;
                }
            }
            flush(&mut publisher).await;
        };
        let reading = async {
            let mut next = 0;
            while next < COUNT {
                let mut left = dice.below(2) as u32;
                match cut(&mut left, subscriber.next()).await {
                    Some(Some(Ok(SubscribeItem::Message { sequence, payload }))) => {
                        assert_eq!(sequence, next);
                        script.check(sequence, &payload);
                        next += 1;
                    }
                    None => {
                        given_up.2 += 1;
                        let_others().await;
                    }
                    other => panic!("{other:?}"),
                }
            }
        };
        join!(publishing, reading, undisturbed);
        eprintln!(
            "given up: {} sends, {} flushes, {} reads",
            given_up.0, given_up.1, given_up.2
        );
        assert!(given_up.0 > 20 && given_up.1 > 20 && given_up.2 > 20);
        for channel in [channel, beside] {
            assert_eq!(
                channel.inspect().await.expect("it is there").published,
                COUNT
            );
            channel.delete().await.expect("deleted");
        }
    });
}

/// Lets the connection's tasks run.
async fn let_others() {
    runtime::sleep(Duration::from_micros(200)).await;
}
