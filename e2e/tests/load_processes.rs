//! Many starts and stops, and stops of guests that do not yield.
//!
//! The tests look at the runtime's memory and processor time, so that each has a runtime of its own and they take turns.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "tests"
)]

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use selium_remote_client::{Client, LogItem, LogOptions, Process};
use selium_remote_e2e::{
    MIB, PATIENCE, Server, block_on_for, guests, median, mib, processor_time, resident, soon,
};

static TURN: Mutex<()> = Mutex::new(());

/// The first line of a process's log.
async fn first_line(process: &Process) -> String {
    let mut log = process.logs(LogOptions::new()).await.expect("its log");
    match soon("its line", log.next()).await {
        Some(Ok(LogItem::Record { record, .. })) => record.message,
        other => panic!("{other:?} is no line"),
    }
}

async fn cycle(client: &Client) {
    let process = Process::start(client, guests::hello())
        .await
        .expect("it starts");
    assert_eq!(first_line(&process).await, "hello from selium");
    process.stop().await.expect("it stops");
}

#[test]
fn three_hundred_starts_and_stops() {
    if !selium_remote_e2e::load_tests() {
        return;
    }
    const WARM_UP: u32 = 20;
    const CYCLES: u32 = 300;
    /// What the issue asks for.
    const GROWTH: u64 = 50 * MIB;
    let Some(server) = Server::start(&[]) else {
        return;
    };
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    block_on_for(PATIENCE * 12, async {
        let client = server.config().connect().await.expect("a connection");
        let mut noted = resident(server.pid());
        eprintln!("before: {:.1} MiB", mib(noted));
        for n in 1..=CYCLES {
            let begun = Instant::now();
            cycle(&client).await;
            if n == WARM_UP {
                noted = resident(server.pid());
            }
            if n == WARM_UP || n.is_multiple_of(50) {
                let info = client.info().await.expect("counters");
                eprintln!(
                    "cycle {n} ({:.0?}): {:.1} MiB; {} processes known, {} logs, {} KiB of logs, {} orphans",
                    begun.elapsed(),
                    mib(resident(server.pid())),
                    info.processes,
                    info.hubs,
                    info.ring_bytes / 1024,
                    info.orphans
                );
            }
        }
        let end = resident(server.pid());
        let growth = end.saturating_sub(noted);
        eprintln!(
            "{CYCLES} starts and stops: {:.1} MiB to {:.1} MiB, {:.1} KiB for each after the first {WARM_UP}",
            mib(noted),
            mib(end),
            growth as f64 / 1024.0 / f64::from(CYCLES - WARM_UP)
        );
        assert!(
            growth < GROWTH,
            "the runtime has grown by {:.1} MiB",
            mib(growth)
        );
        let info = client.info().await.expect("counters");
        assert_eq!(
            (info.connections, info.streams, info.starts, info.orphans),
            (1, 0, 0, 0)
        );
        client.close().await;
    });
}

/// Thousands of rounds for which the guest does not yield about so long, on this machine as busy as it is now.
async fn rounds_for(client: &Client, time: Duration) -> u32 {
    // Long enough to outweigh the start itself.
    const PROBE: u32 = 200_000;
    let begun = Instant::now();
    let process = Process::start(client, guests::busy(1))
        .await
        .expect("it starts");
    first_line(&process).await;
    process.stop().await.expect("it stops");
    let start = begun.elapsed();
    let begun = Instant::now();
    let process = Process::start(client, guests::busy(PROBE))
        .await
        .expect("it starts");
    let line = first_line(&process).await;
    assert!(line.starts_with("idle again"), "{line}");
    process.stop().await.expect("it stops");
    let spun = begun.elapsed().saturating_sub(start);
    eprintln!("{PROBE} thousand rounds take {spun:.0?}");
    let rounds = f64::from(PROBE) * time.as_secs_f64() / spun.as_secs_f64().max(0.001);
    rounds as u32
}

#[test]
fn stops_of_busy_guests() {
    if !selium_remote_e2e::load_tests() {
        return;
    }
    const STOPS: usize = 500;
    /// How long a guest does not yield.
    const BUSY: Duration = Duration::from_millis(200);
    let Some(server) = Server::start(&[]) else {
        return;
    };
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    block_on_for(PATIENCE * 8, async {
        let client = server.config().connect().await.expect("a connection");
        let witness = server.config().connect().await.expect("a connection");
        let rounds = rounds_for(&client, BUSY).await;
        let processor = processor_time(server.pid());
        let begun = Instant::now();
        let (mut starts, mut stops, mut pings) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..STOPS {
            let begun = Instant::now();
            let process = Process::start(&client, guests::busy(rounds))
                .await
                .expect("it starts");
            starts.push(begun.elapsed());
            let begun = Instant::now();
            // The runtime agrees, and ends the guest when it yields.
            process.stop().await.expect("the stop is answered");
            stops.push(begun.elapsed());
            pings.push(witness.ping().await.expect("the server lives on"));
        }
        let took = begun.elapsed();
        eprintln!(
            "{STOPS} stops of guests that do not yield for {BUSY:.0?}, in {took:.1?}: a start {:.1?} (at most {:.1?}), a \
             stop {:.1?} (at most {:.1?}), a ping of somebody else {:.1?} (at most {:.1?})",
            median(&starts),
            starts.iter().max().unwrap(),
            median(&stops),
            stops.iter().max().unwrap(),
            median(&pings),
            pings.iter().max().unwrap()
        );
        // A stopped guest goes on until it yields, and then it does end: the runtime comes to rest.
        let begun = Instant::now();
        soon("the runtime is at rest", async {
            loop {
                let used = processor_time(server.pid());
                tokio::time::sleep(Duration::from_millis(500)).await;
                if processor_time(server.pid()) - used <= Duration::from_millis(50) {
                    return;
                }
            }
        })
        .await;
        eprintln!(
            "at rest {:.1?} later; the runtime used {:.1?} of processor time",
            begun.elapsed(),
            processor_time(server.pid()) - processor
        );
        let info = client.info().await.expect("counters");
        assert_eq!((info.starts, info.streams), (0, 0));
        cycle(&client).await;
        client.close().await;
        witness.close().await;
    });
    server.must_answer();
}
