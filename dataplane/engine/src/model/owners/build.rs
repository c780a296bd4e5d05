//! The owner table, as it is made from a configuration.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ipnet::IpNet;

use super::{Alive, Configured, Guest, Holders, Owned, Owners};
use crate::base::addr::GuestId;
use crate::config;

/// The addresses of a prefix of at most this size are announced, and their multicast groups joined,
/// one by one. Those of larger prefixes are not.
const FEW: u32 = 256;

impl Configured {
    /// Adds a guest, with what it owns by its `spec`.
    pub(crate) fn add(&mut self, mut guest: Guest, spec: &config::Guest) {
        guest.id = GuestId(self.guests.len() as u16);
        if self.by_port.len() <= guest.port.index() {
            self.by_port.resize(guest.port.index() + 1, Vec::new());
        }
        self.by_port[guest.port.index()].push(guest.id);
        if let (Some(_), Some(mac)) = (guest.bridge, guest.mac) {
            self.bridged.insert((guest.network, mac), guest.id);
        }
        for (prefixes, public) in [(&spec.addresses, false), (&spec.public, true)] {
            for prefix in prefixes {
                let owned = Owned {
                    guest: guest.id,
                    public,
                    moves: false,
                };
                match prefix.addr() {
                    IpAddr::V4(address) => {
                        guest.anchor.0.get_or_insert(address);
                        self.v4.insert(address, prefix.prefix_len(), owned);
                    }
                    IpAddr::V6(address) => {
                        guest.anchor.1.get_or_insert(address);
                        self.v6.insert(address, prefix.prefix_len(), owned);
                    }
                }
            }
        }
        for address in &spec.virtual_addresses {
            let members = self.members.entry(address.address).or_default();
            members.guests.push(guest.id);
            members.ports.push(guest.port);
            if let [first] = members.guests[..] {
                let owned = Owned {
                    guest: first,
                    public: address.public,
                    moves: true,
                };
                match address.address {
                    IpAddr::V4(address) => self.v4.insert(address, 32, owned),
                    IpAddr::V6(address) => self.v6.insert(address, 128, owned),
                }
            }
        }
        self.guests.push(guest);
    }

    /// Call when all guests are added: lists what each personality answers for. `before`: who held virtual
    /// addresses so far.
    pub(crate) fn finish(mut self, before: &BTreeMap<IpAddr, u16>) -> Owners {
        let few = |net: &IpNet| {
            let host_bits = net.max_prefix_len() - net.prefix_len();
            host_bits < 32 && 1 << host_bits <= FEW
        };
        let prefixes = self.v4.iter().chain(self.v6.iter());
        let mut public_on: Vec<Vec<(IpAddr, GuestId)>> = Vec::new();
        for (net, owned) in prefixes.filter(|(net, owned)| owned.public && few(net)) {
            let guest = &self.guests[usize::from(owned.guest.0)];
            let Some(personality) = guest.personality else {
                continue;
            };
            if public_on.len() <= personality.index() {
                public_on.resize(personality.index() + 1, Vec::new());
            }
            let addresses = every_address(net).map(|address| (address, owned.guest));
            public_on[personality.index()].extend(addresses);
        }
        for addresses in &mut public_on {
            addresses.sort_unstable_by_key(|&(address, guest)| (guest, address));
        }
        self.public_on = public_on;
        let owners = Owners {
            configured: Arc::new(self),
            holders: Holders::new(),
        };
        owners.with_moves(before)
    }

    pub(crate) fn add_alive(&mut self, alive: Alive) {
        self.alive.push(alive);
    }

    /// Makes room for this many single addresses, so that the tables need not grow while many are
    /// added.
    pub(crate) fn reserve(&mut self, v4: usize, v6: usize) {
        // A table that stays empty would be asked for every packet.
        if v4 > 0 {
            self.v4.of(32).reserve(v4);
        }
        if v6 > 0 {
            self.v6.of(128).reserve(v6);
        }
    }
}

/// Every address of a prefix, the first and the last among them: what is routed has no network or
/// broadcast address.
fn every_address(net: IpNet) -> impl Iterator<Item = IpAddr> {
    let count = 1u32 << (net.max_prefix_len() - net.prefix_len());
    (0..count).map(move |n| match net {
        IpNet::V4(net) => IpAddr::V4(Ipv4Addr::from_bits(net.network().to_bits() | n)),
        IpNet::V6(net) => IpAddr::V6(Ipv6Addr::from_bits(net.network().to_bits() | u128::from(n))),
    })
}
