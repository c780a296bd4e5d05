//! Hashing what strangers choose: addresses and ports.
//!
//! A table gets slow where its keys meet in few places, and guests choose the keys. So a hash depends
//! on a secret that every start draws anew; no word that is multiplied is known to anybody.
//!
//! Each step adds a secret to two 64-bit words and multiplies them: NH (RFC 4418 §5.2.1), by which two
//! different inputs meet with a probability of 2^-64, whatever they are. Its product of 128 bits is kept
//! whole and gets secrets added for the next step. The last step folds one to 64 bits: without it, ports
//! in a row would lie in the table at even distances, and for one start in twenty too close.

use std::fmt;
use std::hash::{BuildHasher, Hasher};

use super::random::derive;

/// A secret, and the hashes that depend on it.
#[derive(Clone)]
pub struct HashKey {
    first: [u64; 2],
    rest: [u64; 2],
}

impl HashKey {
    /// The secret that `seed` gives. Whoever knows hashes does not know the seed.
    pub fn new(seed: u64) -> Self {
        Self {
            first: [derive(seed, 1), derive(seed, 2)],
            rest: [derive(seed, 3), derive(seed, 4)],
        }
    }
}

impl fmt::Debug for HashKey {
    /// Without the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HashKey")
    }
}

impl BuildHasher for HashKey {
    type Hasher = KeyedHasher;

    #[inline]
    fn build_hasher(&self) -> KeyedHasher {
        KeyedHasher {
            state: self.first,
            secret: self.rest,
        }
    }
}

/// A hash on its way. Fastest for keys of 128 bits written at once.
#[derive(Clone)]
pub struct KeyedHasher {
    /// What the next words are added to.
    state: [u64; 2],
    secret: [u64; 2],
}

impl Hasher for KeyedHasher {
    #[inline]
    fn write_u128(&mut self, n: u128) {
        let [low, high] = self.state;
        let product = multiply(
            low.wrapping_add(n as u64),
            high.wrapping_add((n >> 64) as u64),
        );
        self.state = [0, 1].map(|word| product[word].wrapping_add(self.secret[word]));
    }

    #[inline]
    fn write_u64(&mut self, n: u64) {
        self.write_u128(n.into());
    }

    fn write(&mut self, bytes: &[u8]) {
        for part in bytes.chunks(16) {
            let mut words = [0; 16];
            words[..part.len()].copy_from_slice(part);
            self.write_u128(u128::from_le_bytes(words));
        }
    }

    #[inline]
    fn finish(&self) -> u64 {
        let [low, high] = multiply(self.state[0], self.state[1]);
        low ^ high
    }
}

/// The lower and the upper half of a product.
#[inline]
const fn multiply(a: u64, b: u64) -> [u64; 2] {
    let product = a as u128 * b as u128;
    [product as u64, (product >> 64) as u64]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(key: &HashKey, pair: u128, word: u64) -> u64 {
        let mut hasher = key.build_hasher();
        hasher.write_u128(pair);
        hasher.write_u64(word);
        hasher.finish()
    }

    /// Every bit of the input turns about half of the bits of the hash, for every secret.
    #[test]
    fn every_bit_counts() {
        for seed in 0..50 {
            let key = HashKey::new(seed);
            let (pair, word) = (u128::from(seed) << 77 | 5, 9);
            let plain = hash(&key, pair, word);
            let turned = (0..128).map(|bit| hash(&key, pair ^ 1 << bit, word));
            let turned = turned.chain((0..64).map(|bit| hash(&key, pair, word ^ 1 << bit)));
            for other in turned {
                let bits = (plain ^ other).count_ones();
                assert!((10..=54).contains(&bits), "seed {seed}: {bits}");
            }
        }
    }

    #[test]
    fn h02_every_seed_gives_another_secret_that_is_not_shown() {
        let hashes = (0..1_000).map(|seed| hash(&HashKey::new(seed), 1, 2));
        let hashes: std::collections::BTreeSet<u64> = hashes.collect();
        assert_eq!(hashes.len(), 1_000);
        assert_eq!(format!("{:?}", HashKey::new(1)), "HashKey");
    }
}
