//! How many addresses a guest turned to lately: a scan turns to many.

use std::hash::BuildHasher;
use std::net::IpAddr;
use std::time::Duration;

use crate::base::hash::HashKey;
use crate::base::time::Instant;

/// What is counted together.
const WINDOW: Duration = Duration::from_secs(1);
/// Bits for each address that may be counted: one in sixteen is then taken for another, at most.
const BITS_EACH: usize = 8;
/// The fewest and most bits.
const BITS: (usize, usize) = (1 << 10, 1 << 20);

/// By payer: the addresses it turned to in this second, as a bit for each by a secret hash. So nobody can
/// choose addresses that look like one, and what many addresses cost is known beforehand.
#[derive(Debug)]
pub(crate) struct Destinations {
    key: HashKey,
    by: Vec<Window>,
}

#[derive(Debug, Clone, Default)]
struct Window {
    since: Instant,
    count: u32,
    /// Made when its payer sends for the first time.
    seen: Box<[u64]>,
}

impl Destinations {
    /// Nobody has sent anything. `seed` is random per start.
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            key: HashKey::new(seed),
            by: Vec::new(),
        }
    }

    /// Whether payer number `who` may turn to `address`: it did so in this second, or it is one of the
    /// `most` first.
    pub(crate) fn admit(&mut self, who: usize, address: IpAddr, most: u32, now: Instant) -> bool {
        if self.by.len() <= who {
            self.by.resize(who + 1, Window::default());
        }
        let window = &mut self.by[who];
        let bits = (most as usize * BITS_EACH).next_power_of_two();
        let bits = bits.clamp(BITS.0, BITS.1);
        if window.seen.len() != bits / 64 {
            window.seen = vec![0; bits / 64].into();
            (window.since, window.count) = (now, 0);
        } else if now.since(window.since) >= WINDOW {
            window.seen.fill(0);
            (window.since, window.count) = (now, 0);
        }
        let bit = self.key.hash_one(address) as usize % bits;
        let (word, mask) = (&mut window.seen[bit / 64], 1 << (bit % 64));
        if *word & mask != 0 {
            return true;
        }
        let admitted = window.count < most;
        if admitted {
            *word |= mask;
            window.count += 1;
        }
        admitted
    }

    /// Only what is known of payer number `who`; for trying things out.
    pub(crate) fn only(&self, who: usize) -> Self {
        let mut by = vec![Window::default(); who];
        by.extend(self.by.get(who).cloned());
        Self {
            key: self.key.clone(),
            by,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_addresses_a_second_and_those_again() {
        let mut destinations = Destinations::new(7);
        let address = |n: u32| IpAddr::from((0xc633_0000 + n).to_be_bytes());
        let mut admitted = |who, addresses: std::ops::Range<u32>, most, now| {
            let admit = |n: &u32| destinations.admit(who, address(*n), most, Instant(now));
            addresses.filter(admit).count()
        };
        let scan = admitted(3, 0..10_000, 1_000, 5);
        assert!((1_000..1_000 + 10_000 / 8).contains(&scan), "{scan}");
        assert_eq!(admitted(3, 0..900, 1_000, 999), 900, "those again");
        assert_eq!(
            admitted(4, 0..900, 1_000, 999),
            900,
            "another's are its own"
        );
        assert_eq!(
            admitted(3, 20_000..20_900, 1_000, 1_005),
            900,
            "the next second"
        );
        assert_eq!(admitted(3, 0..5, 3, 1_006), 3, "another limit");
    }
}
