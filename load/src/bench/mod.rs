//! How fast requests and messages are, next to what the machine and the runtime can do.
//!
//! ```text
//! mod ──► series  requests, and the echoes that are their limits ──► report
//!     └─► data    messages in turns with the pump guest's ──► data_report
//!           └─► flows   channels, publications, subscriptions, and connections to the pump guest
//! ```
//!
//! All series of requests run in one process, interleaved: a round gives each of them a slice, and there are several rounds. Figures
//! of one machine differ from minute to minute; what is worth comparing are ratios within a round.

mod data;
mod data_report;
mod flows;
mod report;
mod series;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use clap::Args;

use crate::Paths;
use crate::site::Site;
use crate::stats::Slice;
use series::{Bench, Plan, Series};

/// The options of `bench`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    paths: Paths,
    /// Write the results to this file as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Fewer rounds and shorter slices: under 80 s, and less exact.
    #[arg(long)]
    quick: bool,
    /// Measure these alone.
    #[arg(long, value_enum)]
    only: Option<Only>,
    /// Of the messages, measure the cases alone whose name contains this, as `publish: 64 KiB`.
    #[arg(long, value_name = "TEXT", default_value = "")]
    case: String,
    /// Of the messages, one side alone: for profilers. It is compared with itself.
    #[arg(long, hide = true, value_enum)]
    side: Option<flows::Side>,
}

/// A part of the bench.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Only {
    /// Requests and their answers.
    Requests,
    /// Messages through channels.
    Messages,
}

/// How often the series that are compared most closely take turns in a round.
const TURNS: usize = 10;

/// How much is measured.
#[derive(Clone, Copy, Debug)]
struct Scale {
    rounds: usize,
    /// Each series' own count is multiplied with this.
    share: f64,
    /// The most time for one slice.
    slice: Duration,
    /// No round begins after this.
    budget: Duration,
}

const FULL: Scale = Scale {
    rounds: 12,
    share: 1.0,
    slice: Duration::from_secs(4),
    budget: Duration::from_secs(150),
};

const QUICK: Scale = Scale {
    rounds: 3,
    share: 0.5,
    slice: Duration::from_secs(1),
    budget: Duration::from_secs(18),
};

/// What was measured of a series: a slice a round.
#[derive(Debug)]
struct Measured {
    series: Series,
    rounds: Vec<Slice>,
}

/// Measures and reports.
///
/// # Errors
/// When something breaks; figures that are worse than expected are no errors.
pub(crate) async fn run(options: &Options) -> Result<ExitCode> {
    let scale = if options.quick { QUICK } else { FULL };
    let paths = &options.paths;
    let begun = Instant::now();
    let mut site = Site::start(&paths.runtime, &paths.module, &paths.guests, &[])?;
    let ready = site.ready().await?;
    eprintln!(
        "==> the server module answered after {:.1} s",
        ready.as_secs_f64()
    );
    let requests = async {
        match options.only {
            Some(Only::Messages) => Ok(Vec::new()),
            _ => measure(&site, paths, scale, begun).await,
        }
    };
    let measured = requests.await;
    let measured = measured.with_context(|| format!("the runtime's log ends:\n{}", site.tail()))?;
    let messages = match options.only {
        Some(Only::Requests) => Ok(Vec::new()),
        _ => {
            let scale = if options.quick {
                data::QUICK
            } else {
                data::FULL
            };
            data::measure(&site, scale, &options.case, options.side).await
        }
    };
    let messages = messages.with_context(|| format!("the runtime's log ends:\n{}", site.tail()))?;
    let requests = report::Report::new(&measured, options.quick, begun.elapsed());
    let messages = data_report::Report::new(&messages);
    print!("{}{}", requests.text(), messages.text());
    if let Some(file) = &options.json {
        let mut json = requests.json();
        if let Some(json) = json.as_object_mut() {
            json.insert("messages".to_owned(), messages.json());
        }
        let json = serde_json::to_vec_pretty(&json)?;
        std::fs::write(file, json).with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn measure(
    site: &Site,
    paths: &Paths,
    scale: Scale,
    begun: Instant,
) -> Result<Vec<Measured>> {
    let mut bench = Bench::new(site, &paths.cli).await?;
    let mut measured: Vec<Measured> = Series::ALL
        .into_iter()
        .map(|series| Measured {
            series,
            rounds: Vec::new(),
        })
        .collect();
    // The first of everything is slower: it does not count.
    for series in Series::ALL {
        bench
            .run(series, Plan::new(series, 0.02, scale.slice))
            .await?;
    }
    for round in 1..=scale.rounds {
        if round > 1 && begun.elapsed() > scale.budget {
            eprintln!("==> the time is up; {} rounds were measured", round - 1);
            break;
        }
        eprintln!("==> round {round} of {}", scale.rounds);
        for of in &mut measured {
            of.rounds.push(Slice::default());
        }
        for turn in 0..TURNS {
            for of in &mut measured {
                let share = match of.series.is_close() {
                    true => scale.share / TURNS as f64,
                    false if turn == 0 => scale.share,
                    false => continue,
                };
                let plan = Plan::new(of.series, share, scale.slice);
                let slice = bench.run(of.series, plan).await;
                let slice = slice.with_context(|| format!("series `{}`", of.series.label()))?;
                if let Some(round) = of.rounds.last_mut() {
                    round.extend(slice);
                }
            }
        }
    }
    Ok(measured)
}
