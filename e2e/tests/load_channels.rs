//! A million messages through eight channels, and a subscriber that is too slow: how fast it goes, and what both sides hold.
//!
//! The tests measure this process as well, so that they take turns.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "tests"
)]

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use selium_remote_client::{Channel, PublishOptions};
use selium_remote_e2e::runtime::{self, Beside};
use selium_remote_e2e::traffic::{
    self, KIB, LONGEST, Script, channel, connect, fill, flush, lossless, message, publish,
    read_script, send_script, subscribe, told,
};
use selium_remote_e2e::{
    Dice, MIB, PATIENCE, Server, block_on_for, load_tests, median, mib, processor_time, resident,
    soon,
};
use tokio::join;

static TURN: Mutex<()> = Mutex::new(());

fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The process that the clients are in.
fn own() -> u32 {
    std::process::id()
}

/// What a run of [`through_channels`] took.
#[derive(Debug, Default)]
struct Tenths {
    /// Messages a second in each tenth.
    rates: Vec<f64>,
    runtime: Side,
    /// All clients, what makes and checks the messages included.
    clients: Side,
    bytes: u64,
}

/// What one process spent.
#[derive(Debug, Default)]
struct Side {
    /// Its processor time so far.
    spent: Duration,
    /// Its processor time for a message in each tenth, in seconds.
    efforts: Vec<f64>,
    /// Its resident memory at the end of each.
    memory: Vec<u64>,
}

impl Side {
    fn begin(pid: u32) -> Self {
        Self {
            spent: processor_time(pid),
            ..Self::default()
        }
    }

    fn slice(&mut self, pid: u32, messages: f64) {
        let spent = processor_time(pid);
        let effort = spent.saturating_sub(self.spent).as_secs_f64() / messages;
        self.efforts.push(effort);
        self.memory.push(resident(pid));
        self.spent = spent;
    }

    /// Its memory at the end of the first tenth, by which everything is as large as it gets, and at the most later.
    fn grown(&self) -> u64 {
        let most = self.memory.iter().max().copied().unwrap_or_default();
        most.saturating_sub(self.memory.first().copied().unwrap_or_default())
    }
}

/// Publishes `count` messages through each of so many channels to a lossless subscriber each, every publisher and every
/// subscriber on a connection of its own, and checks every message.
async fn through_channels(
    server: &Arc<Server>,
    channels: u64,
    count: u64,
    dice: &mut Dice,
) -> Tenths {
    let client = connect(server).await;
    let beside = Beside::start();
    let read = Arc::new(AtomicU64::new(0));
    let mut tasks = FuturesUnordered::new();
    let mut made = Vec::new();
    for _ in 0..channels {
        let script = Script::new(dice, 1, 4 * KIB);
        let channel = channel(&client, 256 * KIB).await;
        let subscribing = connect(server).await;
        let theirs = Channel::new(&subscribing, channel.handle());
        let mut subscriber = subscribe(&theirs, lossless()).await;
        let (from, id) = (Arc::clone(server), channel.handle());
        tasks.push(beside.spawn(async move {
            let publishing = connect(&from).await;
            let mut publisher = publish(&Channel::new(&publishing, id)).await;
            send_script(&mut publisher, &script, 0..count).await;
            soon("the close", publisher.close()).await.expect("closed");
            publishing.close().await;
            0
        }));
        let read = Arc::clone(&read);
        tasks.push(runtime::spawn(async move {
            let mut bytes = 0;
            for number in 0..count {
                let (sequence, payload) = message(&mut subscriber).await;
                assert_eq!(sequence, number);
                script.check(number, &payload);
                bytes += payload.len() as u64;
                read.fetch_add(1, Ordering::Relaxed);
            }
            drop(subscriber);
            subscribing.close().await;
            bytes
        }));
        made.push(channel);
    }
    let total = channels * count;
    let mut tenths = Tenths {
        runtime: Side::begin(server.pid()),
        clients: Side::begin(own()),
        ..Tenths::default()
    };
    let mut begun = Instant::now();
    let mut at = 0;
    for tenth in 1..=10 {
        while read.load(Ordering::Relaxed) < total * tenth / 10 {
            // What has gone wrong is told at once.
            while let Some(Some(bytes)) = tasks.next().now_or_never() {
                tenths.bytes += bytes.expect("it went well");
            }
            assert!(begun.elapsed() < PATIENCE * 10, "it does not go on");
            runtime::sleep(Duration::from_millis(5)).await;
        }
        let now = read.load(Ordering::Relaxed);
        let messages = (now - at) as f64;
        tenths.rates.push(messages / begun.elapsed().as_secs_f64());
        tenths.runtime.slice(server.pid(), messages);
        tenths.clients.slice(own(), messages);
        (at, begun) = (now, Instant::now());
    }
    while let Some(bytes) = soon("the end of a task", tasks.next()).await {
        tenths.bytes += bytes.expect("it went well");
    }
    let infos = client.channels().await.expect("a list");
    assert_eq!(infos.len() as u64, channels);
    for (info, channel) in infos.iter().zip(made) {
        assert_eq!(info.published, count);
        channel.delete().await.expect("deleted");
    }
    tenths
}

/// How much the memory of either side may grow after the first tenth.
const GROWTH: u64 = 24 * MIB;

/// Runs it, prints the figures and judges them.
async fn measured(server: &Arc<Server>, count: u64, dice: &mut Dice) -> Tenths {
    let begun = Instant::now();
    let tenths = through_channels(server, 8, count, dice).await;
    let took = begun.elapsed();
    let (runtime, clients) = (&tenths.runtime, &tenths.clients);
    for (n, rate) in tenths.rates.iter().enumerate() {
        eprintln!(
            "tenth {}: {rate:.0} messages/s; for each {:.1} us of the runtime's processor time and {:.1} us of the clients'; \
             memory of the runtime {:.1} MiB, of the clients {:.1} MiB",
            n + 1,
            runtime.efforts[n] * 1e6,
            clients.efforts[n] * 1e6,
            mib(runtime.memory[n]),
            mib(clients.memory[n])
        );
    }
    eprintln!(
        "{} messages of {:.1} MiB on {} in {took:.1?}: {:.0} messages/s, {:.1} MiB/s, the median tenth {:.0} messages/s; grown after \
         the first tenth: the runtime by {:.1} MiB, the clients by {:.1} MiB",
        count * 8,
        mib(tenths.bytes),
        runtime::NAME,
        (count * 8) as f64 / took.as_secs_f64(),
        mib(tenths.bytes) / took.as_secs_f64(),
        median(&tenths.rates),
        mib(runtime.grown()),
        mib(clients.grown())
    );
    assert!(runtime.grown() <= GROWTH, "the runtime's memory has grown");
    assert!(clients.grown() <= GROWTH, "the clients' memory has grown");
    tenths
}

#[test]
fn forty_thousand_messages_through_eight_channels() {
    let Some(server) = Server::start(&[]) else {
        return;
    };
    let _turn = turn();
    let mut dice = Dice::seeded("eight channels");
    block_on_for(PATIENCE * 4, async {
        measured(&Arc::new(server), 5_000, &mut dice).await
    });
}

#[test]
fn a_million_messages_through_eight_channels() {
    if !load_tests() {
        return;
    }
    let Some(server) = Server::start(&[]) else {
        return;
    };
    let _turn = turn();
    let mut dice = Dice::seeded("a million messages");
    let tenths = block_on_for(PATIENCE * 60, async {
        measured(&Arc::new(server), 125_000, &mut dice).await
    });
    // Medians of three tenths, at the start and at the end: one is at the mercy of what else runs here, and in the very
    // last one the slower channels are alone.
    let ratio = |figures: &[f64]| median(&figures[6..9]) / median(&figures[..3]);
    let (speed, effort) = (ratio(&tenths.rates), ratio(&tenths.runtime.efforts));
    eprintln!(
        "speed at the end {:.1} percent of that at the start, the runtime's processor time for a message {:.1} percent",
        speed * 100.0,
        effort * 100.0
    );
    // A machine that does other things at the end than at the start changes the rate, but not so much the work that each
    // message is to the runtime: one of the two must hold.
    assert!(speed >= 0.9 || effort <= 1.0 / 0.9, "it has become slower");
}

#[test]
fn a_slow_lossless_subscriber_holds_its_publisher_up_and_nothing_grows() {
    // A runtime of its own, whose memory is measured.
    let Some(server) = Server::start(&[]) else {
        return;
    };
    let _turn = turn();
    let script = Script::new(&mut Dice::seeded("slow, lossless"), 1, 32 * KIB);
    block_on_for(PATIENCE * 4, async {
        let client = connect(&server).await;
        let reading = connect(&server).await;
        let channel = channel(&client, 256 * KIB).await;
        let theirs = Channel::new(&reading, channel.handle());
        // The first round brings buffers to their size.
        for round in 0..3 {
            let before = (resident(server.pid()), resident(own()));
            let mut slow = subscribe(&theirs, lossless()).await;
            let options = PublishOptions::new().backlog(128 * KIB);
            let mut publisher = channel.publish_with(options).await.expect("a publication");
            let sent = fill(&mut publisher, &script, 40_000).await;
            let held: usize = (0..sent).map(|number| script.length(number)).sum();
            let kept: usize = publisher
                .unacknowledged()
                .iter()
                .map(|(_, bytes)| bytes.len())
                .sum();
            let grown = resident(server.pid()).saturating_sub(before.0);
            let grown_here = resident(own()).saturating_sub(before.1);
            eprintln!(
                "round {round}: {sent} messages of {:.2} MiB until it stood still, {} KiB of them without an acknowledgement; \
                 the runtime's memory has grown by {:.1} MiB to {:.1} MiB, the clients' by {:.1} MiB to {:.1} MiB",
                mib(held as u64),
                kept / KIB,
                mib(grown),
                mib(resident(server.pid())),
                mib(grown_here),
                mib(resident(own()))
            );
            assert!(kept <= 128 * KIB, "the client's backlog: {kept}");
            assert!(held > 512 * KIB, "what there is room for: {held}");
            assert!(held < 8 * LONGEST, "what is held somewhere: {held}");
            assert!(grown < 24 * MIB, "the runtime's memory: {grown}");
            assert!(grown_here < 16 * MIB, "the clients' memory: {grown_here}");
            // Others are not held up.
            let free = traffic::channel(&client, 64 * KIB).await;
            let mut other = publish(&free).await;
            send_script(&mut other, &script, 0..100).await;
            flush(&mut other).await;
            free.delete().await.expect("deleted");
            // Reading on, everything arrives, the last of it included.
            join!(
                flush(&mut publisher),
                read_script(&mut slow, &script, 0..sent)
            );
            drop((slow, publisher));
            told(&channel, "nobody is there", |info| {
                (info.lossless, info.publishers) == (0, 0)
            })
            .await;
        }
        channel.delete().await.expect("deleted");
    });
}
