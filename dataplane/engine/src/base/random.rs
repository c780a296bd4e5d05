//! Random numbers, all from the one seed that a start draws.

use std::hash::{DefaultHasher, Hasher};

/// A small generator of random numbers (xorshift64*), seeded from outside. Not for secrets.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// A generator; equal seeds give equal numbers. Guests see some of them and may find out the
    /// generator's state, but not `seed`, on which secrets depend as well.
    pub fn new(seed: u64) -> Self {
        Self(derive(seed, 0) | 1)
    }

    /// The next number.
    pub fn draw(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    /// A number below `bound`; 0 if that is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.draw() % bound.max(1)
    }
}

/// A number for each `purpose`, by SipHash. Whoever knows some of them knows neither `seed` nor the
/// others.
pub fn derive(seed: u64, purpose: u64) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write_u64(seed);
    hasher.write_u64(purpose);
    hasher.finish()
}
