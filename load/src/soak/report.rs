//! The summary, and the verdict.

use std::time::Duration;

use super::watch::Watch;
use super::{HONEST_LIMIT, Outcome, RETURN_LIMIT, World};
use crate::memory::{MIB, mib};
use crate::stats::{micros, percentile, short};

/// What a started process may leave behind in the runtime: a ring of 512 KiB, which the module frees after the stop,
/// and 128 KiB that nobody can free.
const PER_START: u64 = 640 * 1024;

/// What a connection may leave behind: about 3 KiB were measured, besides what QUIC itself had, which is freed.
const PER_CONNECTION: u64 = 4 * 1024;

/// What else the memory may grow by: replay rings up to their budget of 16 MiB, and what allocators keep.
const SLACK: u64 = 24 * MIB;

/// Prints the summary; answers whether all is well.
pub(super) fn print(world: &World, outcome: &Outcome, watch: &Watch, seed: u64) -> bool {
    let ledger = &world.ledger;
    println!("\noperations");
    for (what, times) in ledger.done() {
        println!("  {times:>9}  {what}");
    }
    println!(
        "  {:>9}  connections, {} processes started",
        ledger.connections(),
        ledger.starts()
    );
    println!("errors that go with what was done");
    for (what, times) in ledger.errors() {
        println!("  {times:>9}  {what}");
    }
    println!("an honest client, all the time");
    println!("  ping        {}", waits(&watch.pings));
    println!("  connection  {}", waits(&watch.connects));
    let mut failures = Vec::new();
    if ledger.unexpected_count() > 0 {
        failures.push(format!(
            "{} unexpected errors, the first of them:",
            ledger.unexpected_count()
        ));
        failures.extend(ledger.kept().into_iter().map(|line| format!("    {line}")));
    }
    memory(outcome, watch, &mut failures);
    println!("afterwards");
    match &outcome.returned {
        Ok(took) => println!(
            "  connections, streams and starts were back at their base after {:.1} s",
            took.as_secs_f64()
        ),
        Err(info) => failures.push(format!(
            "not back at the base after {} s: {} connections instead of 1, {} streams, {} starts",
            RETURN_LIMIT.as_secs(),
            info.connections,
            info.streams,
            info.starts
        )),
    }
    match &outcome.honest {
        Ok(took) => println!(
            "  an honest client was served within {:.0} ms",
            took.as_secs_f64() * 1e3
        ),
        Err(error) => failures.push(format!(
            "an honest client was not served within {} s: {error:#}",
            HONEST_LIMIT.as_secs()
        )),
    }
    if failures.is_empty() {
        println!("soak: ok (seed {seed})");
        return true;
    }
    println!("soak: FAILED (seed {seed})");
    for failure in failures {
        println!("  {failure}");
    }
    false
}

fn memory(outcome: &Outcome, watch: &Watch, failures: &mut Vec<String>) {
    let [start, warm, end] = outcome.memory;
    let allowed = SLACK + outcome.starts * PER_START + outcome.connections * PER_CONNECTION;
    let growth = end.saturating_sub(warm);
    println!("resident memory of the runtime");
    println!(
        "  at the start {}, after the warm-up {}, at the end {}",
        mib(start),
        mib(warm),
        mib(end)
    );
    println!(
        "  grown by {} since the warm-up, in which {} processes were started and {} connections made; allowed are {}",
        mib(growth),
        outcome.starts,
        outcome.connections,
        mib(allowed)
    );
    let step = watch.memory.len().div_ceil(10).max(1);
    let line: Vec<String> = watch
        .memory
        .iter()
        .step_by(step)
        .map(|bytes| (bytes / MIB).to_string())
        .collect();
    println!("  every {step} s, in MiB: {}", line.join(" "));
    if growth > allowed {
        failures.push(format!(
            "the memory has grown by {}, {} are allowed",
            mib(growth),
            mib(allowed)
        ));
    }
}

fn waits(waits: &[Duration]) -> String {
    let millis: Vec<f64> = waits.iter().map(|wait| micros(wait) / 1e3).collect();
    let of = |share| short(percentile(millis.clone(), share));
    format!(
        "{} times, p50 {} ms, p99 {} ms, longest {} ms",
        waits.len(),
        of(0.5),
        of(0.99),
        of(1.0)
    )
}
