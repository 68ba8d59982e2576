//! How fast messages go, next to what a guest that only pumps them can do.
//!
//! A slice of ours and one of the pump guest's take turns, with the same number of messages, so that both see the same machine; what
//! is worth comparing are the ratios within such a pair. How many messages a slice has is found out first.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::flows::{CHANNELS, Flow, Flows, Side, Transfer, Work};
use crate::site::Site;

/// What every case is measured with, in bytes.
const SIZES: [usize; 4] = [64, 1024, 64 * 1024, 1024 * 1024];

/// The most messages of a slice on all channels together, and the fewest on each.
const MOST: usize = 40_000;
const FEWEST: usize = 2;

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scale {
    /// How long a slice should take.
    pub(super) slice: Duration,
    /// Pairs of slices of each case in a round.
    pub(super) pairs: usize,
    pub(super) rounds: usize,
    /// No round begins after this.
    pub(super) budget: Duration,
}

pub(super) const FULL: Scale = Scale {
    slice: Duration::from_millis(150),
    pairs: 2,
    rounds: 6,
    budget: Duration::from_secs(150),
};

pub(super) const QUICK: Scale = Scale {
    slice: Duration::from_millis(60),
    pairs: 1,
    rounds: 3,
    budget: Duration::from_secs(18),
};

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Case {
    pub(super) flow: Flow,
    pub(super) size: usize,
    pub(super) channels: usize,
    /// Whether each message waits for the last one to arrive.
    pub(super) one_by_one: bool,
}

impl Case {
    /// All, in the order of the report.
    pub(super) fn all() -> Vec<Self> {
        let mut cases = Vec::new();
        for flow in [Flow::Subscribe, Flow::Publish, Flow::Both] {
            for channels in [1, CHANNELS] {
                cases.extend(SIZES.map(|size| Self {
                    flow,
                    size,
                    channels,
                    one_by_one: false,
                }));
            }
        }
        cases.extend(SIZES.map(|size| Self {
            flow: Flow::Both,
            size,
            channels: 1,
            one_by_one: true,
        }));
        cases
    }

    /// Its name for people.
    pub(super) fn label(self) -> String {
        let flow = match (self.flow, self.one_by_one) {
            (Flow::Subscribe, _) => "subscribe",
            (Flow::Publish, _) => "publish",
            (Flow::Both, false) => "publish to subscribe",
            (Flow::Both, true) => "one by one",
        };
        let size = match self.size {
            size if size >= 1024 * 1024 => format!("{} MiB", size / (1024 * 1024)),
            size if size >= 1024 => format!("{} KiB", size / 1024),
            size => format!("{size} B"),
        };
        match self.channels {
            CHANNELS => format!("{flow}: {size}, 8 channels"),
            _ => format!("{flow}: {size}"),
        }
    }

    fn work(self, each: usize) -> Work {
        Work {
            flow: self.flow,
            size: self.size,
            channels: self.channels,
            each,
        }
    }

    async fn run(self, flows: &mut Flows, side: Side, each: usize) -> Result<Transfer> {
        let work = self.work(each);
        if self.one_by_one {
            flows.one_by_one(work, side).await
        } else {
            flows.run(work, side).await
        }
    }
}

/// A slice of ours and one of the pump guest's, next to each other.
#[derive(Clone, Debug)]
pub(super) struct Turn {
    pub(super) ours: Transfer,
    pub(super) pump: Transfer,
}

/// What was measured of a case.
#[derive(Debug)]
pub(super) struct Measured {
    pub(super) case: Case,
    pub(super) turns: Vec<Turn>,
}

/// Measures everything.
///
/// # Errors
/// When something breaks, or a slice does not end.
pub(super) async fn measure(
    site: &Site,
    scale: Scale,
    only: &str,
    alone: Option<Side>,
) -> Result<Vec<Measured>> {
    let mut flows = Flows::new(site)
        .await
        .context("the channels and their guests")?;
    let mut measured = Vec::new();
    let mut counts = Vec::new();
    eprintln!("==> messages: how many fill a slice");
    let sides = alone.map_or([Side::Ours, Side::Pump], |side| [side; 2]);
    let cases = Case::all().into_iter();
    for case in cases.filter(|case| case.label().contains(only)) {
        counts.push(
            count(&mut flows, case, sides, scale.slice)
                .await
                .with_context(|| format!("{case:?}"))?,
        );
        measured.push(Measured {
            case,
            turns: Vec::new(),
        });
    }
    let begun = Instant::now();
    for round in 1..=scale.rounds {
        if round > 1 && begun.elapsed() > scale.budget {
            eprintln!("==> the time is up; {} rounds were measured", round - 1);
            break;
        }
        eprintln!("==> messages: round {round} of {}", scale.rounds);
        for (of, each) in measured.iter_mut().zip(&counts) {
            for pair in 0..scale.pairs {
                let turn = turn(&mut flows, of.case, *each, sides, (round + pair) % 2 == 0).await;
                of.turns
                    .push(turn.with_context(|| format!("{:?}", of.case))?);
            }
        }
    }
    Ok(measured)
}

/// Who comes first changes: the second may find the machine warmer.
async fn turn(
    flows: &mut Flows,
    case: Case,
    each: usize,
    [ours, pump]: [Side; 2],
    ours_first: bool,
) -> Result<Turn> {
    if ours_first {
        let ours = case.run(flows, ours, each).await?;
        let pump = case.run(flows, pump, each).await?;
        Ok(Turn { ours, pump })
    } else {
        let pump = case.run(flows, pump, each).await?;
        let ours = case.run(flows, ours, each).await?;
        Ok(Turn { ours, pump })
    }
}

/// How many messages on each channel fill a slice of the slower side. Warms both up.
async fn count(flows: &mut Flows, case: Case, sides: [Side; 2], slice: Duration) -> Result<usize> {
    let most = MOST / case.channels;
    let mut each = FEWEST;
    loop {
        let mut took = Duration::ZERO;
        for side in sides {
            // Twice: one of them may have had to wait for something else.
            let first = case.run(flows, side, each).await?.wall;
            let second = case.run(flows, side, each).await?.wall;
            took = took.max(first.min(second));
        }
        if each >= most || took * 2 >= slice {
            let share = slice.as_secs_f64() / took.as_secs_f64();
            let fits = each as f64 * share.min(2.0);
            return Ok((fits as usize).clamp(FEWEST, most));
        }
        each = (each * 4).min(most);
    }
}
