//! What the core costs per frame: time, allocations, and whether long payloads are copied.
//!
//! `cargo xtask bench --core` runs it; `cargo bench -p selium-remote-client-protocol` too, and takes criterion's options
//! (a filter, `--save-baseline`, `--baseline`). Criterion measures and compares with earlier runs; the table and the
//! verdict at the end come from the same runs, as the median of single runs of well under a millisecond: other programs
//! on the machine disturb few of them. Allocations are counted in a run of their own, in which nothing is
//! timed.
//!
//! Nothing is between the machines but a move of `Bytes`: what transports, encryption and task switches cost comes on
//! top.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a benchmark: it reads the clock, prints, and may panic"
)]

mod codec;
mod joined;
mod proof;
mod report;
mod traffic;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput};

use crate::report::{Report, Row};

/// One thing to measure: `run` does it for `frames` frames.
pub(crate) struct Case {
    /// What is done.
    pub(crate) what: &'static str,
    /// Bytes of each payload.
    pub(crate) payload: usize,
    /// Frames (or requests, or pings) of one run.
    pub(crate) frames: usize,
    /// Answers how many writes it took.
    pub(crate) run: Box<dyn FnMut() -> usize>,
}

fn main() -> ExitCode {
    let mut criterion = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(800))
        .configure_from_args();
    let mut report = Report::default();
    for case in codec::cases().into_iter().chain(traffic::cases()) {
        if let Some(row) = measure(&mut criterion, case) {
            report.rows.push(row);
        }
    }
    criterion.final_summary();
    report.print(&proof::no_copies())
}

/// Measures one case; `None` when criterion's filter leaves it out.
fn measure(criterion: &mut Criterion, mut case: Case) -> Option<Row> {
    let frames = case.frames as f64;
    let mut samples = Vec::new();
    let mut group = criterion.benchmark_group(case.what);
    group.throughput(Throughput::Elements(case.frames as u64));
    group.bench_function(report::size(case.payload), |bencher| {
        bencher.iter_custom(|runs| {
            let mut took = Duration::ZERO;
            allocation_counter::opt_out(|| {
                for _ in 0..runs {
                    let begun = Instant::now();
                    (case.run)();
                    let run = begun.elapsed();
                    took += run;
                    samples.push(run.as_secs_f64() * 1e9 / frames);
                }
            });
            took
        });
    });
    group.finish();
    if samples.is_empty() {
        return None;
    }
    // Queues have their sizes now: what is left is what every frame costs.
    const RUNS: usize = 16;
    let mut writes = 0;
    let allocated = allocation_counter::measure(|| {
        for _ in 0..RUNS {
            writes += (case.run)();
        }
    });
    let per_frame = |total: f64| total / (RUNS as f64 * frames);
    Some(Row {
        what: case.what,
        payload: case.payload,
        nanoseconds: report::median(samples),
        allocations: per_frame(allocated.count_total as f64),
        bytes: per_frame(allocated.bytes_total as f64),
        writes: per_frame(writes as f64),
    })
}
