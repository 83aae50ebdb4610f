//! Chance that can be had again: for generated inputs, from a seed.

/// SplitMix64: small, and the same everywhere.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number under `bound`; `bound` is small beside 2^64, so the bias is nil.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap()
    }

    pub(crate) fn one_in(&mut self, rarity: usize) -> bool {
        self.below(rarity) == 0
    }

    pub(crate) fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }

    pub(crate) fn pick<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[self.below(from.len())]
    }

    pub(crate) fn place_in(&mut self, bytes: &[u8]) -> Option<usize> {
        (!bytes.is_empty()).then(|| self.below(bytes.len()))
    }
}

/// A setting from the environment, such as how many inputs are generated.
pub(crate) fn setting<T: std::str::FromStr<Err: std::fmt::Debug>>(name: &str, otherwise: T) -> T {
    std::env::var(name).map_or(otherwise, |value| value.parse().unwrap())
}

/// The seed, `N4N_SEED` or this one; told so that a failure can be had again.
pub(crate) fn seed(otherwise: u64) -> u64 {
    let seed = setting("N4N_SEED", otherwise);
    println!("N4N_SEED={seed}");
    seed
}
