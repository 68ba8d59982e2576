//! One seed, and any number of independent streams of dice.
//!
//! Dice are forked by name, from the seed and not from what was drawn: a draw more in one place shifts nothing in
//! another, so that a seed goes on telling nearly the same story when the simulator grows.

use core::{ops::RangeInclusive, time::Duration};

use rand_pcg::{Pcg64Mcg, rand_core::Rng as _};

/// A stream of dice.
#[derive(Clone, Debug)]
pub struct Dice {
    seed: u64,
    rng: Pcg64Mcg,
}

/// Mixes a word, so that neighbours have nothing in common (the finalizer of SplitMix64).
#[must_use]
pub const fn mix(word: u64) -> u64 {
    let word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

impl Dice {
    /// The dice of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let state = (u128::from(mix(seed)) << 64) | u128::from(mix(!seed));
        Self {
            seed,
            rng: Pcg64Mcg::new(state),
        }
    }

    /// Other dice, which depend on the seed and the name only.
    #[must_use]
    pub fn fork(&self, name: &str) -> Self {
        let named = name.bytes().fold(mix(self.seed), |hash, byte| {
            mix(hash ^ u64::from(byte)).rotate_left(7)
        });
        Self::new(named)
    }

    /// The same with a number.
    #[must_use]
    pub fn fork_nth(&self, name: &str, nth: u64) -> Self {
        let named = self.fork(name);
        Self::new(mix(named.seed ^ mix(nth)))
    }

    /// 64 bits.
    pub fn word(&mut self) -> u64 {
        self.rng.next_u64()
    }

    /// 16 bytes.
    pub fn bytes16(&mut self) -> [u8; 16] {
        let both = (u128::from(self.word()) << 64) | u128::from(self.word());
        both.to_be_bytes()
    }

    /// A number below `n` (0 when that is 0). The bias of the remainder does not matter here.
    pub fn below(&mut self, n: u64) -> u64 {
        self.word().checked_rem(n).unwrap_or(0)
    }

    /// A number out of a range, both ends included.
    pub fn within(&mut self, range: RangeInclusive<u64>) -> u64 {
        let (low, high) = range.into_inner();
        low.saturating_add(self.below(high.saturating_sub(low).saturating_add(1)))
    }

    /// The same as a size.
    pub fn size(&mut self, range: RangeInclusive<usize>) -> usize {
        let (low, high) = range.into_inner();
        usize::try_from(self.within(low as u64..=high as u64)).unwrap_or(high)
    }

    /// A duration in milliseconds out of a range.
    pub fn millis(&mut self, range: RangeInclusive<u64>) -> Duration {
        Duration::from_millis(self.within(range))
    }

    /// True in `percent` of 100 cases.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// One of several things.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        let at = self.below(from.len() as u64);
        from.get(usize::try_from(at).ok()?)
    }

    /// A copy of one of several things; `otherwise` when there are none.
    pub fn pick_or<T: Copy>(&mut self, from: &[T], otherwise: T) -> T {
        self.pick(from).copied().unwrap_or(otherwise)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_tells_one_story() {
        let draw = |mut dice: Dice| -> Vec<u64> { (0..8).map(|_| dice.word()).collect() };
        assert_eq!(draw(Dice::new(7)), draw(Dice::new(7)));
        assert_ne!(draw(Dice::new(7)), draw(Dice::new(8)));
    }

    #[test]
    fn forks_depend_on_their_names_only() {
        let mut one = Dice::new(7);
        let before = one.fork("pipe").word();
        one.word();
        assert_eq!(one.fork("pipe").word(), before);
        assert_ne!(one.fork("host").word(), before);
        assert_ne!(
            one.fork_nth("pipe", 1).word(),
            one.fork_nth("pipe", 2).word()
        );
    }

    #[test]
    fn ranges_are_kept() {
        let mut dice = Dice::new(1);
        for _ in 0..1_000 {
            assert!((3..=5).contains(&dice.within(3..=5)));
        }
        assert_eq!(dice.within(4..=4), 4);
        assert_eq!(dice.below(0), 0);
    }
}
