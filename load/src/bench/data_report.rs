//! What was measured of messages, as tables and as JSON.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

use super::data::{Case, Measured, Turn};
use super::flows::{Flow, Side, Transfer};
use crate::cpu::Cpu;
use crate::stats::{Spread, micros, numbers, percentile, short, spread};

/// The least share of the pump guest's rate.
const LEAST: f64 = 0.9;

/// What is said below the tables.
const NOTES: &str = "\
Rates are medians over all slices [least..greatest], ratios medians of those within pairs of slices, ours and the pump
guest's in turns. \"Pump\" is a guest that carries bytes between channels and QUIC streams and does nothing else, on our own
guest layer, with a quinn client; for publish to subscribe there are two such pumps. CPU is per message, of all slices
together: the client's process, and the runtime's with all guests (also those that write to the channels and read
them). One by one: each message waits until the last one has arrived; p50 are medians over the slices, p99 is over all of them
together.
";

/// One side of a case, summed up.
struct Sum {
    rate: Spread,
    p50: Spread,
    p99: f64,
    client_us: f64,
    runtime_us: f64,
}

impl Sum {
    fn of<'a>(transfers: impl Iterator<Item = &'a Transfer> + Clone) -> Self {
        let all = transfers
            .clone()
            .flat_map(|it| &it.latencies)
            .map(micros)
            .collect();
        let mut cpu = Cpu::default();
        let mut messages = 0;
        for transfer in transfers.clone() {
            cpu += transfer.cpu;
            messages += transfer.messages;
        }
        let each = |time: Duration| micros(&time) / messages as f64;
        Self {
            rate: Spread::of(transfers.clone().map(Transfer::rate)),
            p50: Spread::of(transfers.map(|it| percentile(of_each(it), 0.5))),
            p99: percentile(all, 0.99),
            client_us: each(cpu.client),
            runtime_us: each(cpu.runtime),
        }
    }
}

fn of_each(transfer: &Transfer) -> Vec<f64> {
    transfer.latencies.iter().map(micros).collect()
}

/// A case, summed up.
struct Row {
    case: Case,
    turns: usize,
    ours: Sum,
    pump: Sum,
    /// Of the rates; of the times, for messages one by one.
    ratio: Spread,
}

impl Row {
    fn of(measured: &Measured) -> Self {
        let turns = &measured.turns;
        let side = |side| {
            Sum::of(turns.iter().map(move |turn| match side {
                Side::Ours => &turn.ours,
                Side::Pump => &turn.pump,
            }))
        };
        let ratio = |turn: &Turn| match measured.case.one_by_one {
            true => percentile(of_each(&turn.ours), 0.5) / percentile(of_each(&turn.pump), 0.5),
            false => turn.ours.rate() / turn.pump.rate(),
        };
        Self {
            case: measured.case,
            turns: turns.len(),
            ours: side(Side::Ours),
            pump: side(Side::Pump),
            ratio: Spread::of(turns.iter().map(ratio)),
        }
    }

    /// Whether it is as it is expected to be, where something is.
    fn is_met(&self) -> Option<bool> {
        let is_expected = !self.case.one_by_one && self.case.flow != Flow::Publish;
        is_expected.then_some(self.ratio.median >= LEAST)
    }
}

/// The results.
pub(super) struct Report {
    rows: Vec<Row>,
}

impl Report {
    /// Sums up what was measured.
    pub(super) fn new(measured: &[Measured]) -> Self {
        Self {
            rows: measured.iter().map(Row::of).collect(),
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
            "\n{:<40} {:<24} {:<24} {:<18} {:>8} {:>8} {:>8} {:>8}",
            "messages", "ours/s", "pump/s", "ratio", "client", "pump's", "runtime", "pump's"
        );
        for row in self.rows.iter().filter(|row| !row.case.one_by_one) {
            let verdict = match row.is_met() {
                Some(true) => "  met",
                Some(false) => "  missed",
                None => "",
            };
            let _ = writeln!(
                out,
                "{:<40} {:<24} {:<24} {:<18} {:>8} {:>8} {:>8} {:>8}{verdict}",
                row.case.label(),
                spread(row.ours.rate),
                spread(row.pump.rate),
                spread(row.ratio),
                short(row.ours.client_us),
                short(row.pump.client_us),
                short(row.ours.runtime_us),
                short(row.pump.runtime_us),
            );
        }
        let _ = writeln!(
            out,
            "\n{:<40} {:<20} {:>8} {:<20} {:>8} {:<18} {:>8} {:>8} {:>8} {:>8}",
            "publish to subscribe, one by one, us",
            "p50",
            "p99",
            "pump's p50",
            "p99",
            "ratio of p50",
            "client",
            "pump's",
            "runtime",
            "pump's"
        );
        for row in self.rows.iter().filter(|row| row.case.one_by_one) {
            let _ = writeln!(
                out,
                "{:<40} {:<20} {:>8} {:<20} {:>8} {:<18} {:>8} {:>8} {:>8} {:>8}",
                row.case.label(),
                spread(row.ours.p50),
                short(row.ours.p99),
                spread(row.pump.p50),
                short(row.pump.p99),
                spread(row.ratio),
                short(row.ours.client_us),
                short(row.pump.client_us),
                short(row.ours.runtime_us),
                short(row.pump.runtime_us),
            );
        }
        let _ = write!(
            out,
            "\nExpected: ratios of subscribe and of publish to subscribe >= {LEAST}. CPU in us.\n{NOTES}"
        );
        out
    }

    /// As JSON.
    pub(super) fn json(&self) -> Value {
        let side = |sum: &Sum, case: Case| {
            let mut json = json!({
                "messages_per_second": numbers(sum.rate),
                "client_cpu_us": sum.client_us,
                "runtime_cpu_us": sum.runtime_us,
            });
            if let (true, Some(json)) = (case.one_by_one, json.as_object_mut()) {
                json.insert("p50_us".to_owned(), numbers(sum.p50));
                json.insert("p99_us".to_owned(), sum.p99.into());
            }
            json
        };
        self.rows
            .iter()
            .map(|row| {
                json!({
                    "case": key(row.case),
                    "bytes": row.case.size,
                    "channels": row.case.channels,
                    "pairs": row.turns,
                    "ours": side(&row.ours, row.case),
                    "pump": side(&row.pump, row.case),
                    "ratio": numbers(row.ratio),
                    "expected_at_least": row.is_met().map(|_| LEAST),
                    "met": row.is_met(),
                })
            })
            .collect()
    }
}

fn key(case: Case) -> &'static str {
    match (case.flow, case.one_by_one) {
        (Flow::Subscribe, _) => "subscribe",
        (Flow::Publish, _) => "publish",
        (Flow::Both, false) => "publish_subscribe",
        (Flow::Both, true) => "publish_subscribe_one_by_one",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transfer(messages: usize, milliseconds: u64, latencies: &[u64]) -> Transfer {
        let time = Duration::from_millis;
        Transfer {
            messages,
            wall: time(milliseconds),
            cpu: Cpu {
                client: time(milliseconds),
                runtime: time(milliseconds * 2),
            },
            latencies: latencies.iter().copied().map(time).collect(),
        }
    }

    fn measured(flow: Flow, one_by_one: bool, turns: Vec<Turn>) -> Measured {
        let case = Case {
            flow,
            size: 1024,
            channels: 1,
            one_by_one,
        };
        Measured { case, turns }
    }

    #[test]
    fn ratios_are_taken_within_a_pair() {
        // The machine is ten times slower at the second pair, and no ratio changes.
        let turns = [1, 10].map(|slow| Turn {
            ours: transfer(100, 100 * slow, &[]),
            pump: transfer(100, 80 * slow, &[]),
        });
        for (flow, met) in [
            (Flow::Subscribe, Some(false)),
            (Flow::Both, Some(false)),
            (Flow::Publish, None),
        ] {
            let row = Row::of(&measured(flow, false, turns.to_vec()));
            assert!((row.ratio.min - 0.8).abs() < 1e-9 && (row.ratio.max - 0.8).abs() < 1e-9);
            assert_eq!(row.is_met(), met);
            // 1.1 s for 200 messages, and twice as much.
            assert_eq!(
                (row.ours.client_us, row.ours.runtime_us),
                (5_500.0, 11_000.0)
            );
        }
    }

    #[test]
    fn messages_one_by_one_are_compared_by_what_they_take() {
        let turn = Turn {
            ours: transfer(3, 9, &[2, 3, 4]),
            pump: transfer(3, 6, &[1, 2, 3]),
        };
        let report = Report::new(&[measured(Flow::Both, true, vec![turn])]);
        let json = report.json();
        assert_eq!(json[0]["case"], "publish_subscribe_one_by_one");
        assert_eq!(json[0]["ratio"]["median"], 1.5);
        assert_eq!(json[0]["ours"]["p99_us"], 4_000.0);
        assert_eq!(json[0]["met"], Value::Null);
        assert!(report.text().contains("one by one"));
    }

    #[test]
    fn nothing_is_said_of_what_was_not_measured() {
        assert_eq!(Report::new(&[]).text(), "");
        let case = measured(Flow::Subscribe, false, Vec::new());
        assert_eq!(Row::of(&case).is_met(), Some(false));
    }
}
