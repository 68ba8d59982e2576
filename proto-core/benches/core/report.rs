//! The table, and whether the aims are met.

use std::process::ExitCode;

use selium_remote_client_protocol::{limits::MAX_CHUNK, payload::SHARE_FROM};

use crate::proof::Proof;

/// The payloads that are measured, in bytes.
pub(crate) const SIZES: [usize; 5] = [64, 1024, 4 * 1024, 16 * 1024, 64 * 1024];

/// Small data frames a second through both machines, on one core.
const FRAMES_PER_SECOND: f64 = 2_000_000.0;

/// Allocations of a write that frames share: the buffer and the list of its parts, and what its input takes on the other
/// side. They are no frame's own.
const PER_WRITE: f64 = 10.0;

/// Bytes that may be allocated for a frame of 16 KiB: where credit cuts a message, short ends of it are copied.
const ALLOCATED_PER_LONG_FRAME: f64 = 2048.0;

#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) what: &'static str,
    pub(crate) payload: usize,
    /// Medians and means per frame.
    pub(crate) nanoseconds: f64,
    pub(crate) allocations: f64,
    pub(crate) bytes: f64,
    pub(crate) writes: f64,
}

#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) rows: Vec<Row>,
}

impl Report {
    /// Prints everything; fails when an aim is missed.
    pub(crate) fn print(&self, proof: &Proof) -> ExitCode {
        println!();
        println!(
            "{:<22} {:>8} {:>12} {:>10} {:>12} {:>10} {:>8}",
            "what", "payload", "frames/s", "ns/frame", "allocations", "bytes", "writes"
        );
        for row in &self.rows {
            println!(
                "{:<22} {:>8} {:>12.0} {:>10.1} {:>12.3} {:>10.1} {:>8.4}",
                row.what,
                size(row.payload),
                1e9 / row.nanoseconds,
                row.nanoseconds,
                row.allocations,
                row.bytes,
                row.writes
            );
        }
        println!("(medians of single runs; allocations, bytes allocated and writes per frame)");
        println!();
        let mut met = true;
        let mut verdict = |what: &str, holds: bool, seen: String| {
            met &= holds;
            println!("{} {what}: {seen}", if holds { "PASS" } else { "FAIL" });
        };
        if let Some(row) = self.row("data", 64) {
            let frames = 1e9 / row.nanoseconds;
            verdict(
                "at least 2 million data frames of 64 B a second, sent to consumed",
                frames >= FRAMES_PER_SECOND,
                format!("{frames:.0}"),
            );
        }
        for row in self.rows.iter().filter(|row| row.what.starts_with("data")) {
            // Short payloads are copied once, out of the input that they would keep alive otherwise. A message of several
            // frames is put together in one list.
            let payload = match row.payload {
                0..SHARE_FROM => 1.0,
                SHARE_FROM..=MAX_CHUNK => 0.0,
                len => 1.0 / len.div_ceil(MAX_CHUNK) as f64,
            };
            let a_write = (row.allocations - payload) / row.writes;
            verdict(
                &format!(
                    "no allocation but the payload and those of writes, {} of {}",
                    row.what,
                    size(row.payload)
                ),
                a_write <= PER_WRITE,
                format!(
                    "{:.3} a frame, {payload} of them its payload; that leaves {a_write:.1} for each write",
                    row.allocations
                ),
            );
        }
        if let Some(row) = self.row("data", 64 * 1024) {
            verdict(
                "payloads of 64 KiB are not copied, by bytes allocated",
                row.bytes <= ALLOCATED_PER_LONG_FRAME,
                format!("{:.0} bytes for each frame of 16 KiB", row.bytes),
            );
        }
        verdict(
            "payloads of 64 KiB are not copied, by the memory that they lie in",
            proof.holds(),
            format!(
                "of 65536 bytes {} left from where they were sent, {} were read where they came in",
                proof.sent_in_place, proof.received_in_place
            ),
        );
        if met {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }
    }

    fn row(&self, what: &str, payload: usize) -> Option<&Row> {
        self.rows
            .iter()
            .find(|row| row.what == what && row.payload == payload)
    }
}

/// A size for people.
pub(crate) fn size(bytes: usize) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        _ => format!("{} KiB", bytes / 1024),
    }
}

/// The median.
pub(crate) fn median(mut samples: Vec<f64>) -> f64 {
    samples.sort_by(f64::total_cmp);
    let (low, high) = ((samples.len() - 1) / 2, samples.len() / 2);
    (samples[low] + samples[high]) / 2.0
}
