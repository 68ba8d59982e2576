//! What load tests measure.

use std::fs;
use std::time::Duration;

/// A MiB.
pub const MIB: u64 = 1024 * 1024;

/// Clock ticks a second in `/proc`: a constant of Linux's interface.
const TICKS: u64 = 100;

/// The resident memory of a process in bytes, as Linux counts it.
#[must_use]
pub fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process lives");
    let kib = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"))
        .expect("VmRSS");
    kib.trim().parse::<u64>().expect("a number") * 1024
}

/// The processor time that a process has used: unlike a rate it does not depend much on who else is busy.
#[must_use]
pub fn processor_time(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process lives");
    // Behind the name, which is in parentheses and may contain anything: state is field 3, utime 14 and stime 15.
    let (_, fields) = stat.rsplit_once(')').expect("a name");
    let ticks: u64 = fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(|field| field.parse::<u64>().expect("a number"))
        .sum();
    Duration::from_millis(ticks * 1_000 / TICKS)
}

/// Bytes in MiB, for people.
#[must_use]
pub fn mib(bytes: u64) -> f64 {
    bytes as f64 / MIB as f64
}

/// The middle of some figures.
#[must_use]
pub fn median<T: Copy + PartialOrd>(figures: &[T]) -> T {
    let mut sorted = figures.to_vec();
    sorted.sort_by(|a, b| a.partial_cmp(b).expect("figures can be compared"));
    sorted[sorted.len() / 2]
}

/// Random numbers that a seed repeats. The seed is printed; `SELIUM_REMOTE_SEED` sets it.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// Seeded from the environment or, without it, by chance.
    #[must_use]
    pub fn seeded(what: &str) -> Self {
        use std::hash::{BuildHasher as _, Hasher as _, RandomState};
        let seed = match std::env::var("SELIUM_REMOTE_SEED") {
            Ok(seed) => seed.parse().expect("SELIUM_REMOTE_SEED is a number"),
            Err(_) => RandomState::new().build_hasher().finish(),
        };
        eprintln!("{what}: SELIUM_REMOTE_SEED={seed}");
        Self(seed)
    }

    /// Those of this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below this one.
    pub fn below(&mut self, end: u64) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (bits ^ (bits >> 31)) % end
    }
}
