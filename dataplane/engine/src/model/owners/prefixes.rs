//! Prefixes with their owners.

use std::collections::HashMap;

use foldhash::fast::FixedState;
use ipnet::IpNet;

use crate::base::addr::GuestId;
use crate::base::ip::Address;

/// An owned address or prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owned {
    /// Whose it is.
    pub guest: GuestId,
    /// Whether the guest has it outside too: its personality then answers for it.
    pub public: bool,
    /// Whether it is a virtual one, which another guest may take over.
    pub moves: bool,
}

/// Prefixes with their owners: a hash table for each prefix length. That is faster than a trie,
/// because guests have few lengths, and the egress guard asks for every packet of a guest.
#[derive(Debug, Clone)]
pub(super) struct Prefixes<A> {
    /// The longest first.
    by_length: Vec<(u8, HashMap<A, Owned, FixedState>)>,
}

impl<A> Default for Prefixes<A> {
    fn default() -> Self {
        Self {
            by_length: Vec::new(),
        }
    }
}

impl<A: Address> Prefixes<A> {
    /// The owner by the longest prefix that `address` is in, and its length.
    #[inline]
    pub(super) fn find(&self, address: A) -> Option<(Owned, u8)> {
        self.by_length.iter().find_map(|(length, owners)| {
            let owned = owners.get(&address.network(*length))?;
            Some((*owned, *length))
        })
    }

    pub(super) fn insert(&mut self, address: A, length: u8, owned: Owned) {
        self.of(length).insert(address.network(length), owned);
    }

    /// The prefixes of a length.
    pub(super) fn of(&mut self, length: u8) -> &mut HashMap<A, Owned, FixedState> {
        let place = self.by_length.partition_point(|(other, _)| *other > length);
        if self
            .by_length
            .get(place)
            .is_none_or(|(other, _)| *other != length)
        {
            self.by_length.insert(place, (length, HashMap::default()));
        }
        &mut self.by_length[place].1
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (IpNet, &Owned)> {
        self.by_length.iter().flat_map(|(length, owners)| {
            let net = |address: &A| IpNet::new_assert((*address).into(), *length);
            owners
                .iter()
                .map(move |(address, owned)| (net(address), owned))
        })
    }

    /// In bytes, about: hashbrown keeps a byte of control beside each place.
    pub(super) fn memory(&self) -> usize {
        let places = self
            .by_length
            .iter()
            .map(|(_, owners)| owners.capacity() * 8 / 7);
        places.sum::<usize>() * (size_of::<(A, Owned)>() + 1)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use super::*;
    use crate::base::addr::GuestId;

    #[test]
    fn the_longest_prefix_wins() {
        let nets = ["0.0.0.0/0", "192.0.2.8/29", "192.0.2.0/24", "192.0.2.9/32"];
        let mut prefixes = Prefixes::default();
        for (id, net) in nets.into_iter().enumerate() {
            let net: ipnet::Ipv4Net = net.parse().unwrap();
            let owned = Owned {
                guest: GuestId(id as u16),
                public: true,
                moves: false,
            };
            prefixes.insert(net.addr(), net.prefix_len(), owned);
        }
        for (address, net) in [
            ("192.0.2.9", 3),
            ("192.0.2.8", 1),
            ("192.0.2.15", 1),
            ("192.0.2.16", 2),
            ("192.0.3.0", 0),
        ] {
            let (owned, length) = prefixes.find(address.parse().unwrap()).unwrap();
            assert_eq!(usize::from(owned.guest.0), net, "{address}");
            assert!(nets[net].ends_with(&format!("/{length}")), "{address}");
        }
        assert_eq!(prefixes.iter().count(), nets.len());
    }

    #[test]
    fn nothing_is_in_no_prefix() {
        let mut prefixes = Prefixes::default();
        assert_eq!(prefixes.find(Ipv6Addr::LOCALHOST), None);
        let owned = Owned {
            guest: GuestId(0),
            public: false,
            moves: false,
        };
        prefixes.insert("2001:db8:0:b::".parse().unwrap(), 112, owned);
        let inside = "2001:db8:0:b::ffff".parse().unwrap();
        assert_eq!(prefixes.find(inside), Some((owned, 112)));
        assert_eq!(prefixes.find("2001:db8:0:b::1:0".parse().unwrap()), None);
    }
}
