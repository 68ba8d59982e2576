//! Numbers out of measurements: percentiles, medians over rounds, spreads.

use std::time::Duration;

use serde_json::{Value, json};

use crate::cpu::Cpu;

/// What one stretch of work took.
#[derive(Clone, Debug, Default)]
pub(crate) struct Slice {
    /// Of each piece of work.
    pub(crate) latencies: Vec<Duration>,
    /// Of all of them, side by side or one after another.
    pub(crate) wall: Duration,
    /// The processor time of both sides.
    pub(crate) cpu: Cpu,
}

impl Slice {
    /// Adds another stretch of the same work.
    pub(crate) fn extend(&mut self, other: Self) {
        self.latencies.extend(other.latencies);
        self.wall += other.wall;
        self.cpu += other.cpu;
    }

    /// Pieces of work a second.
    pub(crate) fn rate(&self) -> f64 {
        let seconds = self.wall.as_secs_f64();
        if seconds > 0.0 {
            self.latencies.len() as f64 / seconds
        } else {
            0.0
        }
    }

    /// The latency that this share of the work did not pass, in microseconds.
    pub(crate) fn percentile(&self, share: f64) -> f64 {
        let micros = self.latencies.iter().map(micros).collect();
        percentile(micros, share)
    }
}

/// In microseconds.
pub(crate) fn micros(duration: &Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

/// The value that this share of the values does not pass; NaN when there is none.
pub(crate) fn percentile(mut values: Vec<f64>, share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let rank = (values.len() as f64 * share).ceil() as usize;
    values
        .get(rank.max(1) - 1)
        .or(values.last())
        .copied()
        .unwrap_or(f64::NAN)
}

/// A value of each round: their median, the least and the greatest.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    /// The median; the lower one of two.
    pub(crate) median: f64,
    /// The least.
    pub(crate) min: f64,
    /// The greatest.
    pub(crate) max: f64,
}

impl Spread {
    /// Of these values; all NaN when there is none.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let values: Vec<f64> = values.into_iter().collect();
        Self {
            min: values.iter().copied().fold(f64::NAN, f64::min),
            max: values.iter().copied().fold(f64::NAN, f64::max),
            median: percentile(values, 0.5),
        }
    }
}

/// A number with three digits that count.
pub(crate) fn short(value: f64) -> String {
    match value {
        _ if !value.is_finite() => "-".to_owned(),
        _ if value >= 99.95 => format!("{value:.0}"),
        _ if value >= 9.995 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// A median with its spread, for people.
pub(crate) fn spread(value: Spread) -> String {
    format!(
        "{} [{}..{}]",
        short(value.median),
        short(value.min),
        short(value.max)
    )
}

/// The same as JSON.
pub(crate) fn numbers(value: Spread) -> Value {
    json!({ "median": value.median, "min": value.min, "max": value.max })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let values: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        assert_eq!(percentile(values.clone(), 0.5), 50.0);
        assert_eq!(percentile(values.clone(), 0.99), 99.0);
        assert_eq!(percentile(values, 1.0), 100.0);
        assert_eq!(percentile(vec![7.0], 0.99), 7.0);
        assert!(percentile(vec![], 0.5).is_nan());
    }

    #[test]
    fn a_spread_has_the_ends_and_the_middle() {
        let spread = Spread::of([3.0, 1.0, 2.0]);
        assert_eq!((spread.min, spread.median, spread.max), (1.0, 2.0, 3.0));
        assert!(Spread::of([]).median.is_nan());
    }

    #[test]
    fn rates_count_what_was_done() {
        let slice = Slice {
            latencies: vec![Duration::from_millis(1); 10],
            wall: Duration::from_secs(2),
            ..Slice::default()
        };
        assert_eq!(slice.rate(), 5.0);
        assert_eq!(slice.percentile(0.5), 1_000.0);
        assert_eq!(Slice::default().rate(), 0.0);
        let mut longer = slice.clone();
        longer.extend(slice);
        assert_eq!((longer.latencies.len(), longer.rate()), (20, 5.0));
    }

    #[test]
    fn numbers_are_short() {
        let shown: Vec<String> = [0.5, 12.34, 99.96, 3700.4, f64::NAN]
            .into_iter()
            .map(short)
            .collect();
        assert_eq!(shown, ["0.50", "12.3", "100", "3700", "-"]);
    }
}
