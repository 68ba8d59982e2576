//! The results as a table and as JSON.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

use super::Measured;
use super::series::Series;
use crate::cpu::Cpu;
use crate::stats::{Slice, Spread, micros, numbers, percentile, short, spread};

/// What is said below the table.
const NOTES: &str = "\
Rates and p50 are medians over the rounds [least..greatest]; p99 is over all rounds together. Ratios are taken within
each round. The CPU of both sides is in us per request: this process, and the runtime with all guests. \"A connection each\" uses one socket and one TLS configuration, as a client of 0.3.3 does (so that TLS
sessions can be resumed), and makes a new QUIC connection with a hello for each request, two for start+stop. \"A client
each\" makes a new client of the library instead, and resumes nothing. What the echo guest gains by keeping its
connection is the most that the runtime allows. The library shares one ping among all that wait for it, so that `info`
takes its place with 64 in flight. hello.wasm is compiled by the runtime at each start.
";

/// A figure of a series that goes into a ratio.
#[derive(Clone, Copy, Debug)]
enum Figure {
    P50,
    Rate,
}

/// What a ratio is expected to be.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Expected {
    AtMost(f64),
    AtLeast(f64),
    Nothing,
}

impl Expected {
    fn is_met(self, value: f64) -> Option<bool> {
        match self {
            Self::AtMost(limit) => Some(value <= limit),
            Self::AtLeast(limit) => Some(value >= limit),
            Self::Nothing => None,
        }
    }

    fn text(self) -> String {
        match self {
            Self::AtMost(limit) => format!("<= {limit}"),
            Self::AtLeast(limit) => format!(">= {limit}"),
            Self::Nothing => "-".to_owned(),
        }
    }
}

/// A ratio of two series.
struct Ratio {
    label: &'static str,
    of: Series,
    over: Series,
    figure: Figure,
    expected: Expected,
}

#[rustfmt::skip]
const RATIOS: [Ratio; 14] = [
    p50("ping, sequential / echo guest, p50", Series::PingSequential, Series::GuestEcho),
    p50("info, sequential / echo guest, p50", Series::InfoSequential, Series::GuestEcho),
    p50("list of 10, sequential / echo guest, p50", Series::ListSequential, Series::GuestEcho),
    rate("ping, sequential / a connection each", Series::PingSequential, Series::PingConnect, 8.0),
    rate("info, sequential / a connection each", Series::InfoSequential, Series::InfoConnect, 8.0),
    rate("list of 10, sequential / a connection each", Series::ListSequential, Series::ListConnect, 8.0),
    rate("info, 64 in flight / a connection each", Series::InfoWide, Series::InfoConnect, 40.0),
    rate("list of 10, 64 in flight / a connection each", Series::ListWide, Series::ListConnect, 40.0),
    plain("start+stop, sequential / a connection each", Series::StartSequential, Series::StartConnect, Figure::Rate),
    plain("start+stop, 8 in flight / a connection each", Series::StartWide, Series::StartConnect, Figure::Rate),
    plain("ping, sequential / a client each", Series::PingSequential, Series::ClientConnect, Figure::Rate),
    plain("echo guest, sequential / a connection each", Series::GuestEcho, Series::GuestConnect, Figure::Rate),
    plain("echo guest / native echo, p50", Series::GuestEcho, Series::NativeEcho, Figure::P50),
    plain("ping / echo guest, a connection each, p50", Series::PingConnect, Series::GuestConnect, Figure::P50),
];

const fn p50(label: &'static str, of: Series, over: Series) -> Ratio {
    Ratio {
        label,
        of,
        over,
        figure: Figure::P50,
        expected: Expected::AtMost(1.3),
    }
}

const fn rate(label: &'static str, of: Series, over: Series, least: f64) -> Ratio {
    Ratio {
        label,
        of,
        over,
        figure: Figure::Rate,
        expected: Expected::AtLeast(least),
    }
}

const fn plain(label: &'static str, of: Series, over: Series, figure: Figure) -> Ratio {
    Ratio {
        label,
        of,
        over,
        figure,
        expected: Expected::Nothing,
    }
}

/// A series, summed up.
struct Row {
    series: Series,
    samples: usize,
    rate: Spread,
    p50: Spread,
    p99: f64,
    client_us: f64,
    runtime_us: f64,
}

impl Row {
    fn of(measured: &Measured) -> Self {
        let rounds = &measured.rounds;
        let all = rounds
            .iter()
            .flat_map(|round| &round.latencies)
            .map(micros)
            .collect::<Vec<_>>();
        let mut cpu = Cpu::default();
        for round in rounds {
            cpu += round.cpu;
        }
        let each = |time: Duration| micros(&time) / all.len() as f64;
        Self {
            client_us: each(cpu.client),
            runtime_us: each(cpu.runtime),
            series: measured.series,
            samples: all.len(),
            rate: Spread::of(rounds.iter().map(Slice::rate)),
            p50: Spread::of(rounds.iter().map(|round| round.percentile(0.5))),
            p99: percentile(all, 0.99),
        }
    }
}

/// The results.
pub(super) struct Report {
    rows: Vec<Row>,
    ratios: Vec<(&'static Ratio, Spread)>,
    rounds: usize,
    quick: bool,
    took: Duration,
}

impl Report {
    /// Sums up what was measured.
    pub(super) fn new(measured: &[Measured], quick: bool, took: Duration) -> Self {
        Self {
            rows: measured.iter().map(Row::of).collect(),
            ratios: RATIOS
                .iter()
                .map(|ratio| (ratio, ratio.over_rounds(measured)))
                .collect(),
            rounds: measured
                .iter()
                .map(|of| of.rounds.len())
                .max()
                .unwrap_or_default(),
            quick,
            took,
        }
    }

    /// As tables; nothing when nothing was measured.
    pub(super) fn text(&self) -> String {
        let mut out = String::new();
        if self.rows.is_empty() {
            return out;
        }
        // Writing to a string cannot fail.
        let _ = writeln!(
            out,
            "{} rounds in {:.0} s, {} cores{}\n",
            self.rounds,
            self.took.as_secs_f64(),
            cores(),
            if self.quick { ", quick" } else { "" }
        );
        let _ = writeln!(
            out,
            "{:<38} {:>6}  {:<22} {:<22} {:>8} {:>8} {:>8}",
            "series", "n", "requests/s", "p50, us", "p99, us", "client", "runtime"
        );
        for row in &self.rows {
            let _ = writeln!(
                out,
                "{:<38} {:>6}  {:<22} {:<22} {:>8} {:>8} {:>8}",
                row.series.label(),
                row.samples,
                spread(row.rate),
                spread(row.p50),
                short(row.p99),
                short(row.client_us),
                short(row.runtime_us)
            );
        }
        let _ = writeln!(
            out,
            "\n{:<46} {:<20} {:>8}",
            "ratio", "median [least..greatest]", "expected"
        );
        for (ratio, value) in &self.ratios {
            let verdict = match ratio.expected.is_met(value.median) {
                Some(true) => "met",
                Some(false) => "missed",
                None => "",
            };
            let line = format!(
                "{:<46} {:<24} {:>8}  {verdict}",
                ratio.label,
                spread(*value),
                ratio.expected.text()
            );
            let _ = writeln!(out, "{}", line.trim_end());
        }
        let _ = write!(out, "\n{NOTES}");
        out
    }

    /// As JSON.
    pub(super) fn json(&self) -> Value {
        let rows: Vec<Value> = self
            .rows
            .iter()
            .map(|row| {
                json!({
                    "series": row.series.key(),
                    "samples": row.samples,
                    "requests_per_second": numbers(row.rate),
                    "p50_us": numbers(row.p50),
                    "p99_us": row.p99,
                    "client_cpu_us": row.client_us,
                    "runtime_cpu_us": row.runtime_us,
                })
            })
            .collect();
        let ratios: Vec<Value> = self
            .ratios
            .iter()
            .map(|(ratio, value)| {
                let (at_most, at_least) = match ratio.expected {
                    Expected::AtMost(limit) => (Some(limit), None),
                    Expected::AtLeast(limit) => (None, Some(limit)),
                    Expected::Nothing => (None, None),
                };
                json!({
                    "ratio": ratio.label,
                    "value": numbers(*value),
                    "expected_at_most": at_most,
                    "expected_at_least": at_least,
                    "met": ratio.expected.is_met(value.median),
                })
            })
            .collect();
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "quick": self.quick,
            "rounds": self.rounds,
            "cores": cores(),
            "seconds": self.took.as_secs_f64(),
            "series": rows,
            "ratios": ratios,
        })
    }
}

impl Ratio {
    fn over_rounds(&self, measured: &[Measured]) -> Spread {
        let rounds = |series| {
            let found = measured.iter().find(move |of| of.series == series);
            found.into_iter().flat_map(|of| &of.rounds)
        };
        let value = |slice: &Slice| match self.figure {
            Figure::P50 => slice.percentile(0.5),
            Figure::Rate => slice.rate(),
        };
        Spread::of(
            rounds(self.of)
                .zip(rounds(self.over))
                .map(|(of, over)| value(of) / value(over)),
        )
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(0, usize::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(series: Series, milliseconds: [u64; 3]) -> Measured {
        let slice = |ms| Slice {
            latencies: vec![Duration::from_millis(ms); 10],
            wall: Duration::from_millis(ms * 10),
            cpu: Cpu {
                client: Duration::from_millis(ms),
                runtime: Duration::from_millis(ms * 2),
            },
        };
        Measured {
            series,
            rounds: milliseconds.map(slice).to_vec(),
        }
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        // Everything is ten times slower in the last round, and no ratio changes.
        let all = [
            measured(Series::PingConnect, [10, 10, 100]),
            measured(Series::PingSequential, [1, 1, 10]),
        ];
        let report = Report::new(&all, true, Duration::from_secs(1));
        let (ratio, value) = report
            .ratios
            .iter()
            .find(|(ratio, _)| {
                ratio.of == Series::PingSequential && ratio.over == Series::PingConnect
            })
            .expect("the ratio");
        assert!((value.min - 10.0).abs() < 1e-9 && (value.max - 10.0).abs() < 1e-9);
        assert_eq!(ratio.expected.is_met(value.median), Some(true));
        assert!(report.text().contains("met"));
        let json = report.json();
        assert_eq!(json["series"][0]["samples"], 30);
        // 120 ms for 30 requests.
        assert_eq!(json["series"][0]["client_cpu_us"], 4_000.0);
        assert_eq!(json["series"][0]["runtime_cpu_us"], 8_000.0);
    }

    #[test]
    fn what_was_not_measured_is_not_met() {
        assert_eq!(Expected::AtMost(1.5).is_met(f64::NAN), Some(false));
        assert_eq!(Report::new(&[], true, Duration::ZERO).text(), "");
        assert_eq!(Expected::AtLeast(8.0).is_met(7.9), Some(false));
        assert_eq!(Expected::Nothing.is_met(1.0), None);
    }
}
