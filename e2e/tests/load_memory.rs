//! What thousands of connections leave behind in the runtime: nothing.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "tests"
)]

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use selium_remote_client::Client;
use selium_remote_e2e::{
    MIB, PATIENCE, Server, block_on_for, median, mib, processor_time, resident, soon,
};

/// Connections of one slice. Ten slices: the first is the warm-up.
const SLICE: usize = 200;
const SLICES: usize = 10;
/// Requests on each connection.
const REQUESTS: usize = 10;
/// Connections whose rate is taken as one figure; the rate of a slice is the median of its figures.
const STRETCH: usize = 20;
/// Connections at a time: connecting and closing are mostly waiting.
const SIDE_BY_SIDE: usize = 4;
/// How much the runtime's memory may grow after the warm-up.
const GROWTH: u64 = 20 * MIB;
/// What must be left of the speed at the end.
const LEFT: f64 = 0.9;

/// What a slice of connections took.
#[derive(Clone, Copy, Debug)]
struct Slice {
    /// Requests a second, at the median of its stretches, connecting and closing included.
    rate: f64,
    /// Time from a request to its answer, at the median.
    latency: Duration,
    /// Processor time of the runtime for each connection and its requests.
    processor: Duration,
    /// The runtime's resident memory at its end.
    memory: u64,
}

/// Connects, asks, and closes; returns what each request took.
async fn visit(server: &Server) -> [Duration; REQUESTS] {
    let client = server.config().connect().await.expect("a connection");
    let mut took = [Duration::ZERO; REQUESTS];
    for (n, took) in took.iter_mut().enumerate() {
        let begun = Instant::now();
        if n % 2 == 0 {
            client.info().await.expect("an answer");
        } else {
            client.processes(true).await.expect("an answer");
        }
        *took = begun.elapsed();
    }
    client.close().await;
    took
}

async fn slice(server: &Server) -> Slice {
    let processor = processor_time(server.pid());
    let (mut rates, mut latencies) = (Vec::new(), Vec::new());
    for _ in 0..SLICE / STRETCH {
        let begun = Instant::now();
        for _ in 0..STRETCH / SIDE_BY_SIDE {
            let all = join_all((0..SIDE_BY_SIDE).map(|_| visit(server))).await;
            latencies.extend(all.into_iter().flatten());
        }
        rates.push((STRETCH * REQUESTS) as f64 / begun.elapsed().as_secs_f64());
    }
    Slice {
        rate: median(&rates),
        latency: median(&latencies),
        processor: (processor_time(server.pid()) - processor) / SLICE as u32,
        memory: resident(server.pid()),
    }
}

/// Waits until only this client is connected.
async fn only(observer: &Client) {
    soon("the others are forgotten", async {
        while observer.info().await.expect("counters").connections > 1 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
}

#[test]
fn two_thousand_connections_leave_nothing_behind() {
    if !selium_remote_e2e::load_tests() {
        return;
    }
    let Some(server) = Server::start(&[]) else {
        return;
    };
    block_on_for(PATIENCE * 12, async {
        let observer = server.config().connect().await.expect("a connection");
        let before = resident(server.pid());
        let mut slices = Vec::new();
        for n in 0..SLICES {
            let slice = slice(&server).await;
            eprintln!(
                "connections {} to {}: {:.0} requests/s, a request {:.1?}, the runtime's processor time for a \
                 connection {:.2?}, its memory {:.1} MiB",
                n * SLICE + 1,
                (n + 1) * SLICE,
                slice.rate,
                slice.latency,
                slice.processor,
                mib(slice.memory)
            );
            slices.push(slice);
        }
        only(&observer).await;
        let noted = slices[0].memory;
        // The runtime is done with a connection only some time after it was closed.
        let begun = Instant::now();
        while resident(server.pid()) > noted + GROWTH && begun.elapsed() < PATIENCE {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        let end = resident(server.pid());
        // Medians of three slices, after the warm-up and at the end: one slice is at the mercy of what else runs here.
        let of = |slices: &[Slice]| {
            let rates: Vec<f64> = slices.iter().map(|slice| slice.rate).collect();
            let efforts: Vec<Duration> = slices.iter().map(|slice| slice.processor).collect();
            (median(&rates), median(&efforts).as_secs_f64())
        };
        let (first, last) = (of(&slices[1..4]), of(&slices[SLICES - 3..]));
        let left = last.0 / first.0;
        let effort = last.1 / first.1;
        eprintln!(
            "memory: {:.1} MiB at first, {:.1} MiB after {SLICE} connections, {:.1} MiB after {}: {:.2} KiB for each \
             connection",
            mib(before),
            mib(noted),
            mib(end),
            SLICE * SLICES,
            (end as f64 - noted as f64) / 1024.0 / (SLICE * (SLICES - 1)) as f64
        );
        eprintln!(
            "speed at the end: {:.1} percent; the runtime's processor time for a connection: {:.1} percent of that at \
             the start",
            left * 100.0,
            effort * 100.0
        );
        assert!(
            end <= noted + GROWTH,
            "the runtime's memory has grown: {noted} to {end}"
        );
        // A machine that does other things at the end than at the start changes the rate, but not so much the work that
        // each connection is to the runtime: one of the two must hold.
        assert!(
            left >= LEFT || effort <= 1.0 / LEFT,
            "the server has become slower: {slices:?}"
        );
        observer.close().await;
    });
}
