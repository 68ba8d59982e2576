//! Many seeds of every world; `SELIUM_SIM_SEEDS` sets how many (in all; each world takes its share of it).
//!
//! A failure prints the command that runs its seed again.
#![allow(clippy::print_stdout)] // What was exercised is part of the result.

use selium_remote_sim::{
    run::{WorldKind, run},
    world::report::Report,
};

/// The default is for an ordinary `cargo test`: seconds.
fn seeds() -> u64 {
    std::env::var("SELIUM_SIM_SEEDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(3_000)
}

fn many(kind: WorldKind, least: u64) -> Report {
    let seeds = kind.share(seeds()).max(least);
    let mut sum = Report::default();
    for seed in 0..seeds {
        sum.add(&run(kind, seed, false).report);
    }
    for (name, value) in sum.lines() {
        println!("{value:>14}  {name}");
    }
    sum
}

#[test]
fn the_laws_hold_over_pipes() {
    let sum = many(WorldKind::Pipes, 100);
    // The runs were about something.
    let exercised = [
        sum.started,
        sum.refused,
        sum.stopped,
        sum.joined,
        sum.unknown,
        sum.expired,
        sum.cancels,
        sum.abandoned,
        sum.records,
        sum.long_records,
        sum.gaps_counted,
        sum.gaps_unknown,
        sum.ends,
        sum.complete,
        sum.lost,
        sum.silent,
        sum.killed,
        sum.closed,
        sum.clockless,
        sum.long_requests,
    ];
    assert!(exercised.iter().all(|count| *count > 0), "{sum:?}");
}

#[test]
fn the_laws_hold_over_quic() {
    let sum = many(WorldKind::Quic, 8);
    assert!(sum.started > 0 && sum.records > 0, "{sum:?}");
}

#[test]
fn hostile_peers_end_as_documented_and_others_keep_their_service() {
    let sum = many(WorldKind::Hostile, 32);
    assert!(sum.attacks > 60 && sum.records > 0, "{sum:?}");
}

#[test]
fn the_laws_hold_between_the_cores_alone() {
    let sum = many(WorldKind::Cores, 800);
    let exercised = [
        sum.answers,
        sum.long_requests,
        sum.long_answers,
        sum.errors,
        sum.not_sent,
        sum.expired,
        sum.cancels,
        sum.abandoned,
        sum.records,
        sum.long_records,
        sum.gaps_counted,
        sum.gaps_unknown,
        sum.published,
        sum.resumes,
        sum.unknown_published,
        sum.uploaded,
        sum.acks,
        sum.flagged,
        sum.half_closes,
        sum.client_resets,
        sum.server_resets,
        sum.client_drains,
        sum.server_drains,
        sum.drain_refusals,
        sum.restarts,
        sum.pongs,
        sum.lost,
        sum.silent,
        sum.killed,
        sum.closed,
        sum.small_windows,
        sum.quic_links,
        sum.bases,
        sum.shares,
    ];
    assert!(exercised.iter().all(|count| *count > 0), "{sum:?}");
}

#[test]
fn a_seed_is_one_history() {
    for kind in [WorldKind::Pipes, WorldKind::Hostile, WorldKind::Cores] {
        for seed in 0..6 {
            let (one, two) = (run(kind, seed, false), run(kind, seed, false));
            assert_eq!(one, two, "seed {seed} of {}", kind.name());
        }
        assert_ne!(run(kind, 1, false).hash, run(kind, 2, false).hash);
    }
}
