//! The runtime is killed under load and starts again, on the same port with the same certificates: what becomes of every
//! message, and of what is asked for meanwhile.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "tests"
)]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use selium_remote_client::{
    Channel, ChannelBuilder, Client, ClientError, ConnectionState, ErrorCode, ErrorKind,
    PublishOptions, Publisher, SubscribeItem, Subscriber,
};
use selium_remote_e2e::runtime::{self, Beside};
use selium_remote_e2e::traffic::{
    KIB, Script, channel, connect, flush, lossless, message, mix, publish, read_script, remote,
    send_script, subscribe,
};
use selium_remote_e2e::{Dice, Server, block_on_for, soon};

/// Channels, each with a publisher and a lossless subscriber.
const CHANNELS: usize = 4;

/// After so long a client has noticed that nothing comes any more, and is connected again.
const NOTICED: Duration = Duration::from_secs(60);

/// What a run of the server is known by.
type Incarnation = [u8; 16];

/// What became of a publisher.
struct Published {
    publisher: Publisher,
    error: ClientError,
    /// Messages that it took.
    sent: u64,
}

/// Publishes, and waits for acknowledgements now and then, until the publication is over.
async fn publish_on(mut publisher: Publisher, script: Script) -> Published {
    let mut sent = 0;
    let error = loop {
        match publisher.send(script.message(sent)).await {
            Ok(number) => assert_eq!(number, sent),
            Err(error) => break error,
        }
        sent += 1;
        if mix(script.seed ^ sent).is_multiple_of(50)
            && let Err(error) = publisher.flush().await
        {
            break error;
        }
    };
    Published {
        publisher,
        error,
        sent,
    }
}

/// What became of a subscriber.
struct Subscribed {
    error: ClientError,
    /// Messages that it got: the first ones, each whole.
    read: u64,
}

async fn read_on(mut subscriber: Subscriber, script: Script, seen: Arc<AtomicU64>) -> Subscribed {
    let mut read = 0;
    let error = loop {
        match subscriber.next().await.expect("no end without a word") {
            Ok(SubscribeItem::Message { sequence, payload }) => {
                assert_eq!(sequence, read);
                script.check(read, &payload);
                read += 1;
                seen.fetch_add(1, Ordering::Relaxed);
            }
            Ok(other) => panic!("nothing is missing before the end: {other:?}"),
            Err(error) => break error,
        }
    };
    assert_eq!(subscriber.position(), read);
    Subscribed { error, read }
}

/// What became of requests that change something.
#[derive(Default)]
struct Asked {
    done: BTreeSet<String>,
    unknown: BTreeSet<String>,
    /// Names of which it is known that there is nothing.
    not_done: BTreeSet<String>,
}

/// Makes channels with names, one after another, until another run of the server has made some.
async fn make_channels(client: Client, name: String, first: Incarnation) -> Asked {
    let mut asked = Asked::default();
    let mut since = 0;
    for number in 0..200 {
        let name = format!("{name}-{number}");
        let builder = ChannelBuilder::new(64).name(name.as_str());
        match Channel::create_with(&client, builder).await {
            Ok(channel) => {
                if client.server().incarnation == first {
                    // The server has room for 256.
                    channel.delete().await.map_or_else(
                        |error| assert!(error.is_outcome_unknown() || is_new(&error), "{error:?}"),
                        drop,
                    );
                } else {
                    asked.done.insert(name);
                    since += 1;
                }
            }
            Err(error) if error.is_outcome_unknown() => drop(asked.unknown.insert(name)),
            Err(error) if is_new(&error) => drop(asked.not_done.insert(name)),
            Err(error) => panic!("{name}: {error:?}"),
        }
        if since == 5 {
            break;
        }
        runtime::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(since, 5, "it goes on");
    asked
}

fn is_new(error: &ClientError) -> bool {
    error.kind() == ErrorKind::NewIncarnation
}

/// What all of one seed came to.
#[derive(Debug, Default)]
struct Sums {
    sent: u64,
    read: u64,
    acknowledged: u64,
    /// In the channel when the runtime was killed, and not read: lost, as the subscriber was told.
    lost: u64,
    /// Not acknowledged: the publisher was told.
    unknown: u64,
    /// Those of them that were read.
    unknown_and_read: u64,
}

#[test]
fn a_runtime_that_is_killed_under_load_loses_nothing_without_a_word() {
    const SEEDS: usize = 4;
    let mut dice = Dice::seeded("kills");
    let mut worlds = Vec::new();
    for _ in 0..SEEDS {
        let Some(server) = Server::start(&[]) else {
            return;
        };
        worlds.push((server, Dice::new(dice.below(u64::MAX))));
    }
    block_on_for(NOTICED * 3, async {
        let sums = join_all(
            worlds
                .into_iter()
                .map(|(server, dice)| killed(server, dice)),
        )
        .await;
        // Otherwise nothing was shown.
        assert!(sums.iter().all(|sums| sums.read > 0 && sums.unknown > 0));
        assert!(sums.iter().any(|sums| sums.lost > 0), "{sums:?}");
    });
}

async fn killed(server: Server, mut dice: Dice) -> Sums {
    let client = connect(&server).await;
    let first = client.server().incarnation;
    let beside = Beside::start();
    let seen = Arc::new(AtomicU64::new(0));
    let (mut channels, mut scripts) = (Vec::new(), Vec::new());
    let (mut publishing, mut subscribing) = (Vec::new(), Vec::new());
    let mut clients = Vec::new();
    for n in 0..CHANNELS {
        let script = Script::new(&mut dice, 1, 8 * KIB);
        let channel = channel(&client, (64 * KIB) << n).await;
        // Some connections are shared, some are not.
        let (theirs, others) = match n % 2 {
            0 => (connect(&server).await, connect(&server).await),
            _ => (client.clone(), client.clone()),
        };
        let reader = subscribe(&Channel::new(&theirs, channel.handle()), lossless()).await;
        let options = PublishOptions::new().backlog((16 * KIB) << n);
        let writer = Channel::new(&others, channel.handle());
        let writer = writer.publish_with(options).await.expect("a publication");
        publishing.push(runtime::spawn(publish_on(writer, script)));
        subscribing.push(beside.spawn(read_on(reader, script, Arc::clone(&seen))));
        clients.extend([theirs, others]);
        channels.push(channel);
        scripts.push(script);
    }
    let made = runtime::spawn(make_channels(client.clone(), "made".to_owned(), first));
    // Somewhere in the middle of it.
    let moment = 200 + dice.below(4_000);
    soon("messages come", async {
        while seen.load(Ordering::Relaxed) < moment {
            runtime::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    let begun = Instant::now();
    let server = runtime::unblock(move || {
        let mut server = server;
        server.kill_and_restart();
        server
    });
    let server = server.await.expect("it starts again");
    let restarted = begun.elapsed();
    let mut sums = Sums::default();
    let mut rest = Vec::new();
    for (n, (published, subscribed)) in publishing.into_iter().zip(subscribing).enumerate() {
        let both = runtime::timeout(NOTICED, async { (published.await, subscribed.await) }).await;
        let (published, subscribed) = both.expect("both are told in time");
        let (published, subscribed) = (published.expect("it ran"), subscribed.expect("it ran"));
        check(
            &clients[n * 2],
            first,
            &scripts[n],
            &published,
            &subscribed,
            &mut sums,
        );
        rest.push((subscribed.read, published.sent));
    }
    let noticed = begun.elapsed();
    eprintln!(
        "killed behind {moment} messages; another run answered after {restarted:.1?}, everybody was told after {noticed:.1?}: {sums:?}"
    );

    // Nothing of it is there any more, and everything can be had again: what was not read is sent once more.
    for client in &clients {
        client.ping().await.expect("connected again");
        assert_eq!(client.state(), ConnectionState::Connected);
        assert_ne!(client.server().incarnation, first);
    }
    for channel in &channels {
        let gone = remote(&channel.inspect().await.expect_err("it is void")).0;
        assert_eq!(gone, ErrorCode::NotFound);
    }
    let again = (0..CHANNELS).map(async |n| {
        let ((read, sent), script) = (rest[n], &scripts[n]);
        let channel = channel(&clients[n * 2], 64 * KIB).await;
        let mut subscriber = subscribe(&channel, lossless()).await;
        let theirs = Channel::new(&clients[n * 2 + 1], channel.handle());
        let mut publisher = publish(&theirs).await;
        tokio::join!(
            async {
                send_script(&mut publisher, script, read..sent).await;
                flush(&mut publisher).await;
            },
            async {
                for number in read..sent {
                    script.check(number, &message(&mut subscriber).await.1);
                }
            }
        );
        read_script(&mut subscriber, script, 0..0).await;
    });
    join_all(again).await;

    // What was made is there once, and nothing else is.
    let made = soon("channels are made", made).await.expect("it went well");
    assert!(made.done.is_disjoint(&made.unknown));
    let listed = client.channels().await.expect("a list");
    let listed: Vec<String> = listed.into_iter().map(|info| info.name).collect();
    let listed: Vec<&String> = listed
        .iter()
        .filter(|name| name.starts_with("made-"))
        .collect();
    let there: BTreeSet<String> = listed.iter().copied().cloned().collect();
    assert_eq!(there.len(), listed.len());
    assert!(there.is_superset(&made.done));
    assert!(there.is_disjoint(&made.not_done));
    assert!(
        there
            .difference(&made.done)
            .all(|name| made.unknown.contains(name)),
        "{there:?}, {:?}",
        made.done
    );
    server.must_answer();
    sums
}

/// Every message was acknowledged and read, or is told of by one of them.
fn check(
    client: &Client,
    first: Incarnation,
    script: &Script,
    published: &Published,
    subscribed: &Subscribed,
    sums: &mut Sums,
) {
    let now = client.server().incarnation;
    let is_told = |error: &ClientError| match error {
        ClientError::NewIncarnation { old, new, .. } => {
            assert_eq!(*old, first);
            assert_eq!(*new, now);
        }
        other => panic!("the server was restarted: {other:?}"),
    };
    // The subscriber has the first ones, and knows that the rest is lost.
    is_told(&subscribed.error);
    // The publisher knows of which messages nobody knows, and has them.
    let ClientError::Publication(failure) = &published.error else {
        panic!("no end of a publication: {:?}", published.error);
    };
    is_told(&failure.cause);
    let acknowledged = failure.acknowledged.map_or(0, |number| number + 1);
    assert_eq!(failure.unknown, acknowledged..published.sent);
    let kept = published.publisher.unacknowledged();
    assert_eq!(kept.len() as u64, published.sent - acknowledged);
    for ((number, message), expected) in kept.iter().zip(acknowledged..) {
        assert_eq!(*number, expected);
        script.check(*number, message);
    }
    // So that nothing is in nobody's list.
    let read = subscribed.read;
    assert!(read <= published.sent);
    sums.sent += published.sent;
    sums.read += read;
    sums.acknowledged += acknowledged;
    sums.lost += acknowledged.saturating_sub(read);
    sums.unknown += published.sent - acknowledged;
    sums.unknown_and_read += read.saturating_sub(acknowledged);
}
