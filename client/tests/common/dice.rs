//! Randomness that can be repeated.

use std::hash::{BuildHasher as _, RandomState};

/// Numbers from a seed that is printed; `SELIUM_REMOTE_SEED` repeats a run.
pub(crate) struct Dice(pub(crate) u64);

#[allow(clippy::print_stderr, reason = "what a failed run needs")]
impl Dice {
    pub(crate) fn new() -> Self {
        let given = std::env::var("SELIUM_REMOTE_SEED").ok();
        let seed = given.map_or_else(
            || RandomState::new().hash_one(0u8),
            |text| text.parse().expect("SELIUM_REMOTE_SEED is a number"),
        );
        eprintln!("SELIUM_REMOTE_SEED={seed}");
        Self(seed)
    }

    /// A number below `limit` (splitmix64).
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % limit as u64) as usize
    }
}
