//! Channels on the stock runtime: that no message waits for the next one, and that lossless subscribers take nothing from lossy ones.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "tests"
)]

use std::cell::Cell;
use std::time::{Duration, Instant};

use selium_remote_client::{Channel, Client, SubscribeItem, SubscribeOptions, Subscriber};
use selium_remote_e2e::{Dice, Hurry, PATIENCE, Server, Shared, block_on_for, soon};
use tokio::join;

static SERVER: Shared = Shared::new();

/// How long a single message may take. What sleeps is looked after after 200 ms at the latest, and replaced at once.
const LATE: Duration = Duration::from_secs(5);

/// How long a test may take.
const LIMIT: Duration = Duration::from_secs(180);

async fn connect(server: &Server) -> Client {
    let connected = server
        .config()
        .connect_timeout(PATIENCE)
        .request_timeout(PATIENCE)
        .connect()
        .await;
    connected.expect("a connection")
}

async fn subscribe(channel: &Channel, lossless: bool) -> Subscriber {
    let options = SubscribeOptions::new().lossless(lossless);
    let subscribed = channel.subscribe_with(options).await;
    subscribed.expect("a subscription")
}

/// The next item, which has to be a message: its number in the source, and its own.
async fn message(subscriber: &mut Subscriber) -> (u64, u64) {
    let next = tokio::time::timeout(LATE, subscriber.next()).await;
    let next = next.expect("it waits for the next one");
    match next.expect("it goes on").expect("no error") {
        SubscribeItem::Message { sequence, payload } => (sequence, number_of(&payload)),
        other => panic!("a message was to come: {other:?}"),
    }
}

/// The number behind the next message of a lossy one, which is `number`: nothing is lost or doubled without a word. Where
/// the server cannot tell whether something was, there is a gap.
async fn lax(subscriber: &mut Subscriber, number: u64, gaps: &Cell<u64>) -> u64 {
    let mut told = false;
    loop {
        let next = soon("a message", subscriber.next()).await;
        match next.expect("it goes on").expect("no error") {
            SubscribeItem::Message { payload, .. } => {
                let came = number_of(&payload);
                assert!(
                    came == number || told && came > number,
                    "{came} for {number}"
                );
                return came + 1;
            }
            SubscribeItem::Gap { count: None, .. } => {
                told = true;
                gaps.set(gaps.get() + 1);
            }
            other => panic!("a message was to come: {other:?}"),
        }
    }
}

fn number_of(payload: &[u8]) -> u64 {
    u64::from_le_bytes(*payload.first_chunk::<8>().expect("a number"))
}

fn numbered(number: u64, length: usize) -> Vec<u8> {
    let mut bytes = number.to_le_bytes().to_vec();
    bytes.resize(length.max(8), 7);
    bytes
}

#[test]
fn no_message_waits_for_the_next_one() {
    let Some(server) = SERVER.get() else {
        return;
    };
    // Readers fall asleep when one of the runtime's threads stands still at the wrong moment.
    let _hurry = Hurry::of(2);
    const COUNT: u64 = 10_000;
    block_on_for(LIMIT, async {
        let client = connect(&server).await;
        for lossless in [false, true] {
            let channel = Channel::create(&client, 64 * 1024).await;
            let channel = channel.expect("a channel");
            let mut alone = subscribe(&channel, lossless).await;
            let mut publisher = channel.publish().await.expect("a publication");
            let mut dice = Dice::seeded("late");
            let mut longest = Duration::ZERO;
            for pair in 0..COUNT / 2 {
                let numbers = [pair * 2, pair * 2 + 1];
                let begun = Instant::now();
                for number in numbers {
                    let length = if dice.below(4) == 0 { 8_000 } else { 64 };
                    let sent = publisher.send(numbered(number, length)).await;
                    sent.expect("it is sent");
                    // The second comes while the reader begins to wait for it.
                    let pause = Duration::from_micros(dice.below(400));
                    let until = Instant::now() + pause;
                    while Instant::now() < until {
                        tokio::task::yield_now().await;
                    }
                }
                for number in numbers {
                    assert_eq!(message(&mut alone).await, (number, number));
                }
                longest = longest.max(begun.elapsed());
            }
            eprintln!("lossless {lossless}: the longest of {COUNT} took {longest:?}");
            channel.delete().await.expect("deleted");
        }
    });
}

#[test]
fn lossless_subscribers_take_nothing_from_lossy_ones() {
    let Some(server) = SERVER.get() else {
        return;
    };
    const ROUNDS: u64 = 200;
    const EACH: u64 = 40;
    block_on_for(LIMIT, async {
        let client = connect(&server).await;
        let other = connect(&server).await;
        let channel = Channel::create(&client, 4 * 1024 * 1024).await;
        let channel = channel.expect("a channel");
        let name = channel.name().expect("a name");
        let elsewhere = Channel::find(&other, name).await;
        let elsewhere = elsewhere.expect("it is found");
        let mut lossy = subscribe(&channel, false).await;
        let mut publisher = channel.publish().await.expect("a publication");
        let gaps = Cell::new(0);
        let mut next = 0;
        for round in 0..ROUNDS {
            let gone = Cell::new(false);
            let sent = Cell::new(next);
            let seen = Cell::new(next);
            let write = async {
                while !gone.get() || sent.get() < next + EACH {
                    let bytes = numbered(sent.get(), 500);
                    soon("room", publisher.send(bytes))
                        .await
                        .expect("it is sent");
                    sent.set(sent.get() + 1);
                    // Now and then it is quiet.
                    if round % 3 == 0 || sent.get().is_multiple_of(16) {
                        let flushed = soon("acknowledgements", publisher.flush()).await;
                        flushed.expect("all is acknowledged");
                    }
                }
                publisher.flush().await.expect("all is acknowledged");
            };
            let come_and_go = async {
                let mut lossless = subscribe(&elsewhere, true).await;
                // Who comes while the last one's reader is closing begins with a gap.
                let first = loop {
                    let next = soon("a message", lossless.next()).await;
                    match next.expect("it goes on").expect("no error") {
                        SubscribeItem::Message { payload, .. } => break number_of(&payload),
                        SubscribeItem::Gap { count: None, .. } => {}
                        other => panic!("a message was to come: {other:?}"),
                    }
                };
                for number in 1..round % 7 {
                    assert_eq!(message(&mut lossless).await.1, first + number);
                }
                drop(lossless);
                gone.set(true);
            };
            let read = async {
                while !gone.get() || seen.get() < sent.get() {
                    seen.set(lax(&mut lossy, seen.get(), &gaps).await);
                }
            };
            join!(write, come_and_go, read);
            while seen.get() < sent.get() {
                seen.set(lax(&mut lossy, seen.get(), &gaps).await);
            }
            next = sent.get();
        }
        eprintln!("{} gaps in {ROUNDS} rounds", gaps.get());
        assert!(gaps.get() * 20 <= ROUNDS, "{} gaps", gaps.get());
        channel.delete().await.expect("deleted");
    });
}
