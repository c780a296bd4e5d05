//! Which interface wears a MAC.

use crate::base::addr::{InterfaceId, MacAddr, PortId};

/// Who wears a MAC on a port in a VLAN: open addressing, at most half full. Only the
/// configuration puts entries in, so that nobody outside can make it slow.
#[derive(Debug, Default)]
pub(crate) struct Wearers {
    places: Vec<Option<(u128, InterfaceId)>>,
    used: usize,
}

impl Wearers {
    #[inline]
    pub(crate) fn find(&self, key: u128) -> Option<InterfaceId> {
        let mut at = self.home(key);
        loop {
            match self.places.get(at)? {
                Some((found, id)) if *found == key => return Some(*id),
                Some(_) => at = (at + 1) & (self.places.len() - 1),
                None => return None,
            }
        }
    }

    pub(crate) fn insert(&mut self, key: u128, id: InterfaceId) {
        if (self.used + 1) * 2 > self.places.len() {
            let old = std::mem::take(&mut self.places);
            self.places = vec![None; (old.len() * 2).max(8)];
            self.used = 0;
            for (key, id) in old.into_iter().flatten() {
                self.insert(key, id);
            }
        }
        let mut at = self.home(key);
        while self.places[at].is_some() {
            at = (at + 1) & (self.places.len() - 1);
        }
        self.places[at] = Some((key, id));
        self.used += 1;
    }

    #[inline]
    fn home(&self, key: u128) -> usize {
        let mixed = (key as u64 ^ (key >> 64) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed >> 32) as usize & self.places.len().wrapping_sub(1)
    }
}

#[inline]
pub(crate) fn wearer_key(port: PortId, vlan: Option<u16>, mac: MacAddr) -> u128 {
    u128::from(mac.to_u64())
        | u128::from(vlan.unwrap_or(0) & 0xfff) << 48
        | u128::from(port.0) << 64
}
