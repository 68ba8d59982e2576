//! Runs: a world's name and a seed in, a report out.

use crate::{
    cores::{self, Cores},
    hostile,
    link::LinkKind,
    trace::Trace,
    world::{Peers, World, law::Broken, report::Report},
};

/// Shares of busy streams are measured in one seed of so many: it takes as long as many others.
const FAIR_EVERY: u64 = 40;

/// What is simulated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WorldKind {
    /// Honest clients over byte pipes.
    Pipes,
    /// Honest clients over QUIC endpoints on simulated UDP paths.
    Quic,
    /// Hostile clients beside honest ones over byte pipes, and an honest client of a hostile server.
    Hostile,
    /// The two protocol machines alone, each with a toy application.
    Cores,
}

impl WorldKind {
    /// Every kind, in the order in which they are run.
    pub const ALL: &[WorldKind] = &[
        WorldKind::Pipes,
        WorldKind::Quic,
        WorldKind::Hostile,
        WorldKind::Cores,
    ];

    /// How many of so many seeds of all worlds together are its own: about as much time for each.
    #[must_use]
    pub fn share(self, seeds: u64) -> u64 {
        let part = match self {
            WorldKind::Cores => 2,
            WorldKind::Pipes => 3,
            WorldKind::Hostile => 20,
            WorldKind::Quic => 40,
        };
        (seeds / part).max(1)
    }

    /// Its name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            WorldKind::Pipes => "pipes",
            WorldKind::Quic => "quic",
            WorldKind::Hostile => "hostile",
            WorldKind::Cores => "cores",
        }
    }

    /// The kind of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.name() == name)
    }

    /// The command that runs one seed of it.
    #[must_use]
    pub fn replay(self, seed: u64) -> String {
        format!(
            "cargo xtask sim --seeds 1 --from {seed} --world {}",
            self.name()
        )
    }
}

/// What came of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The hash of everything that happened.
    pub hash: u64,
    /// What was exercised.
    pub report: Report,
    /// Everything that happened, when that was asked for.
    pub lines: Vec<String>,
}

/// Says on the way out of a panic which run it was: the machines' own panics do not know.
struct Panicking(WorldKind, u64);

impl Drop for Panicking {
    #[allow(clippy::print_stderr, reason = "the run is ending in a panic")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("replay: {}", self.0.replay(self.1));
        }
    }
}

/// Runs one seed.
///
/// # Panics
/// When a law does not hold; the message has the seed, the virtual time, the last things that happened and the command
/// that runs it again.
#[must_use]
#[allow(clippy::panic, reason = "it is what a simulator is for")]
pub fn run(kind: WorldKind, seed: u64, verbose: bool) -> Outcome {
    let _panicking = Panicking(kind, seed);
    let trace = if verbose {
        Trace::verbose()
    } else {
        Trace::default()
    };
    let fail = |broken: &Broken, ms: f64, lines: &[String]| -> ! {
        panic!(
            "seed {seed} of {} at {ms:.3} ms: {broken}\n{}\nseed {seed} of {} at {ms:.3} ms: {broken}",
            kind.name(),
            lines.join("\n"),
            kind.name(),
        )
    };
    if kind == WorldKind::Cores {
        let mut world = Cores::new(seed, trace);
        if let Err(broken) = world.run() {
            let ms = world.now().since_origin().as_secs_f64() * 1e3;
            fail(&broken, ms, &world.trace.lines());
        }
        if seed.is_multiple_of(FAIR_EVERY) {
            match cores::fair::run(seed) {
                Ok(streams) => world.report.shares += streams,
                Err(broken) => fail(&broken, 0.0, &[]),
            }
        }
        return Outcome {
            hash: world.trace.hash(),
            lines: if verbose {
                world.trace.lines()
            } else {
                Vec::new()
            },
            report: world.report,
        };
    }
    let (link, peers) = match kind {
        WorldKind::Pipes | WorldKind::Cores => (LinkKind::Pipe, Peers::Honest),
        WorldKind::Quic => (LinkKind::Quic, Peers::Honest),
        WorldKind::Hostile => (LinkKind::Pipe, Peers::Hostile),
    };
    let mut world = match World::new(seed, link, peers, trace) {
        Ok(world) => world,
        Err(broken) => fail(&broken, 0.0, &[]),
    };
    if let Err(broken) = world.run() {
        let ms = world.now().since_origin().as_secs_f64() * 1e3;
        fail(&broken, ms, &world.trace.lines());
    }
    let mut outcome = Outcome {
        hash: world.trace.hash(),
        lines: if verbose {
            world.trace.lines()
        } else {
            Vec::new()
        },
        report: world.report,
    };
    if kind == WorldKind::Hostile {
        match hostile::server::run(seed) {
            Ok(sent) => {
                outcome.report.attacks += 1;
                outcome.report.attack_bytes += sent;
            }
            Err(broken) => fail(&broken, 0.0, &[]),
        }
    }
    outcome
}
