//! `[guests]`: the owner table as it is written.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::address::not_a_host;
use super::check::{Check, place};
use super::virtuals::{Others, Written, listed};
use crate::base::addr::MacAddr;
use crate::base::ip::is_of_a_link;
use crate::config::{
    File, FileGuest, Guest, Interface, InterfaceKind, Port, PortKind, Prefix, Segment,
};

/// Longest host name, in bytes (RFC 1035 §2.3.4).
const MAX_HOSTNAME: usize = 63;

/// What no two guests may both have, and where it was seen first. A place in the file is built only
/// for a fault, because there may be a hundred thousand prefixes.
#[derive(Default)]
struct Seen<'f> {
    prefixes: HashMap<IpNet, Written<'f>>,
    macs: HashMap<(Shared, MacAddr), Vec<Segment>>,
}

/// A link that guests share: a port, or a bridged network.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Shared {
    Port(usize),
    Segment(usize),
}

impl Check {
    /// Checks all guests.
    pub(super) fn guests(
        &mut self,
        file: &File,
        ports: &[Port],
        interfaces: &[Interface],
    ) -> Vec<Guest> {
        let mut seen = Seen::default();
        let networks = networks(interfaces);
        let own = own_addresses(interfaces);
        let gateways = gateways(interfaces);
        let mut guests = Vec::new();
        for (name, guest) in &file.guests {
            self.name(place!["guests", name], name);
            let mut owned = |check: &mut Self, key, prefixes: &[Prefix]| {
                check.owned((name, key), prefixes, (&own, &gateways), &mut seen.prefixes)
            };
            let addresses = owned(self, "addresses", &guest.addresses);
            let public = owned(self, "public", &guest.public);
            if guest.addresses.is_empty() && guest.public.is_empty() {
                self.fault(
                    place!["guests", name],
                    format!("guest \"{name}\" owns no address"),
                    "add `addresses = [\"10.0.1.1\"]` (inside) or `public = [\"203.0.113.20\"]`",
                );
            }
            let place = self.place_of(name, guest, file, ports, &networks);
            let mac = self.guest_mac(name, guest, place, ports, interfaces, &mut seen);
            let bridged = place.and_then(|(_, network)| interfaces[network].kind.bridged());
            let personality = match bridged {
                Some(segment) => {
                    self.bridged_guest(name, guest, mac, (segment, interfaces));
                    None
                }
                None => self.answerer(name, guest, interfaces),
            };
            let dhcp_address = self.dhcp_address(name, guest, &addresses, &public);
            let dhcp6_address = dhcp6_address(&addresses, &public);
            let hostname = guest.hostname.clone().unwrap_or_else(|| name.clone());
            self.hostname(name, guest);
            let instance = self.instance(
                (name, guest),
                &hostname,
                place.map(|(_, n)| n),
                (file, interfaces),
            );
            self.limits(&guest.limits, || place!["guests", name, "limits"]);
            let Some((port, network)) = place else {
                continue;
            };
            guests.push(Guest {
                name: name.clone(),
                port,
                network,
                mac,
                addresses,
                public,
                virtual_addresses: listed(guest).map(|listed| listed.address).collect(),
                personality,
                dhcp_address,
                dhcp6_address,
                hostname,
                instance,
                limits: guest.limits.or(&file.router.limits).spelled(),
                bandwidth: guest.bandwidth,
            });
        }
        let others = Others {
            own: &own,
            gateways: &gateways,
            owned: &seen.prefixes,
            interfaces,
        };
        self.virtual_addresses(file, &guests, &others);
        self.targets(interfaces, (&own, &seen.prefixes));
        guests
    }

    /// `prefixes` must be hosts' or prefixes of hosts, nobody else's, and neither the router's own nor the
    /// provider's: who is answered for is claimed (J).
    fn owned<'f>(
        &mut self,
        (name, key): (&'f String, &'static str),
        prefixes: &[Prefix],
        (own, gateways): (&HashMap<IpAddr, &str>, &BTreeMap<IpAddr, &str>),
        seen: &mut HashMap<IpNet, Written<'f>>,
    ) -> Vec<IpNet> {
        for (n, prefix) in prefixes.iter().enumerate() {
            let at = || place!["guests", name, key, n];
            let address = prefix.0.addr();
            if prefix.has_host_bits() {
                self.fault(
                    at(),
                    format!("{prefix} has bits set beyond its prefix length"),
                    format!(
                        "write {address} for the one address, or {} for the whole prefix",
                        prefix.0.trunc()
                    ),
                );
            } else if let Some(why) = not_a_host(address) {
                self.fault(at(), format!("{prefix} {why}"), "write what the guest owns");
            } else if is_of_a_link(address) {
                self.fault(
                    at(),
                    format!("{prefix} is link-local, which every guest has by itself"),
                    "leave it out",
                );
            } else if let Some(owner) = own.get(&address)
                && prefix.0.prefix_len() == prefix.0.max_prefix_len()
            {
                self.fault(
                    at(),
                    format!("{address} is \"{owner}\"'s own address"),
                    "give the guest an address of its own",
                );
            }
            let covered = prefix.0.network()..=prefix.0.broadcast();
            let is_it = prefix.0.prefix_len() == prefix.0.max_prefix_len();
            if let Some((gateway, personality)) = gateways.range(covered).next()
                && (is_it || key == "public")
            {
                self.conflict(
                    at(),
                    place!["personalities", *personality, "gateway"],
                    match is_it {
                        true => format!("{gateway} is the provider's gateway"),
                        false => format!("{prefix} has the provider's gateway {gateway} in it"),
                    },
                    "write what the guest owns, in parts around the gateway",
                );
            }
            match seen.get(&prefix.0) {
                Some(&(other, there, m)) => self.conflict(
                    at(),
                    place!["guests", other, there, m],
                    format!("{} is owned twice", prefix.0),
                    "an address or prefix belongs to exactly one guest, and is inside or public",
                ),
                None => drop(seen.insert(prefix.0, (name, key, n))),
            }
        }
        prefixes.iter().map(|prefix| prefix.0).collect()
    }

    /// The guest's port and that port's network.
    fn place_of(
        &mut self,
        name: &String,
        guest: &FileGuest,
        file: &File,
        ports: &[Port],
        networks: &HashMap<usize, usize>,
    ) -> Option<(usize, usize)> {
        let port = self.port(place!["guests", name, "port"], &guest.port, ports)?;
        let network = networks.get(&port).copied();
        if network.is_none() {
            let known: Vec<&str> = file.networks.keys().map(String::as_str).collect();
            let remedy = match known.is_empty() {
                true => "define a network in [networks] with this port".to_owned(),
                false => format!("add it to the `ports` of a network: {}", known.join(", ")),
            };
            self.fault(
                place!["guests", name, "port"],
                format!("port \"{}\" is in no network", guest.port),
                remedy,
            );
        }
        Some((port, network?))
    }

    fn guest_mac(
        &mut self,
        name: &String,
        guest: &FileGuest,
        place: Option<(usize, usize)>,
        ports: &[Port],
        interfaces: &[Interface],
        seen: &mut Seen<'_>,
    ) -> Option<MacAddr> {
        let at = || place!["guests", name, "mac"];
        if let Some(mac) = guest.mac {
            self.station_mac(at(), mac);
        }
        let (port, network) = place?;
        let device = match ports[port].kind {
            PortKind::Tap { mac, .. } => mac,
            _ => None,
        };
        let mac = guest.mac.or(device)?;
        let is_bridged = interfaces[network].kind.bridged().is_some();
        if mac == interfaces[network].mac && !is_bridged {
            self.fault(
                at(),
                format!(
                    "{mac} is the gateway's of network \"{}\"",
                    interfaces[network].name
                ),
                "write the guest's own MAC",
            );
        }
        if guest.mac.is_some() || is_bridged {
            // Bridged guests are on one link, and all others on one each.
            let link = match is_bridged {
                true => Shared::Segment(network),
                false => Shared::Port(port),
            };
            match seen.macs.get(&(link, mac)) {
                Some(first) => {
                    let problem = match is_bridged {
                        true => format!("MAC {mac} is worn by two guests of one bridged network"),
                        false => {
                            format!("MAC {mac} is worn by two guests on port \"{}\"", guest.port)
                        }
                    };
                    let remedy = "put both guests' addresses into one guest";
                    self.conflict(at(), first.clone(), problem, remedy);
                }
                None => drop(seen.macs.insert((link, mac), at())),
            }
        }
        Some(mac)
    }

    /// The personality that answers for the guest's public addresses.
    fn answerer(
        &mut self,
        name: &String,
        guest: &FileGuest,
        interfaces: &[Interface],
    ) -> Option<usize> {
        // They come first, in the order of the file's map.
        let end = interfaces.partition_point(|interface| interface.kind.is_personality());
        let personalities = &interfaces[..end];
        let names = || {
            personalities
                .iter()
                .map(|personality| personality.name.as_str())
        };
        let wanted = match (&guest.personality, personalities) {
            (Some(wanted), _) => wanted.as_str(),
            (None, _) if guest.public.is_empty() && guest.virtual_public.is_empty() => return None,
            (None, [only]) => &only.name,
            (None, _) => {
                let remedy = match personalities.is_empty() {
                    true => "define one in [personalities], or use `addresses`".to_owned(),
                    false => {
                        let names: Vec<&str> = names().collect();
                        format!("add `personality`: one of {}", names.join(", "))
                    }
                };
                self.fault(
                    place![
                        "guests",
                        name,
                        if guest.public.is_empty() {
                            "virtual_public"
                        } else {
                            "public"
                        }
                    ],
                    format!("nothing says which personality answers for guest \"{name}\""),
                    remedy,
                );
                return None;
            }
        };
        let found = personalities.binary_search_by(|other| other.name.as_str().cmp(wanted));
        if found.is_err() {
            let at = place!["guests", name, "personality"];
            let names: Vec<&str> = names().collect();
            self.undefined(at, "personality", wanted, &names, "[personalities]");
        }
        found.ok()
    }

    fn dhcp_address(
        &mut self,
        name: &String,
        guest: &FileGuest,
        addresses: &[IpNet],
        public: &[IpNet],
    ) -> Option<Ipv4Addr> {
        let Some(wanted) = guest.dhcp else {
            return addresses.iter().chain(public).find_map(|net| match net {
                IpNet::V4(net) if net.prefix_len() == 32 => Some(net.addr()),
                _ => None,
            });
        };
        let owns = |net: &IpNet| net.contains(&IpAddr::V4(wanted));
        if !addresses.iter().chain(public).any(owns) {
            self.fault(
                place!["guests", name, "dhcp"],
                format!("{wanted} is not guest \"{name}\"'s"),
                "write one of its own addresses, or leave it out",
            );
        }
        Some(wanted)
    }

    fn hostname(&mut self, name: &String, guest: &FileGuest) {
        let Some(hostname) = &guest.hostname else {
            return;
        };
        let fits = |c: char| c.is_ascii_alphanumeric() || c == '-';
        let right = (1..=MAX_HOSTNAME).contains(&hostname.len())
            && hostname.chars().all(fits)
            && !hostname.starts_with('-')
            && !hostname.ends_with('-');
        if !right {
            self.fault(
                place!["guests", name, "hostname"],
                format!("\"{hostname}\" cannot be a host name"),
                format!("use 1 to {MAX_HOSTNAME} letters, digits and inner \"-\""),
            );
        }
    }
}

/// The network that each port is in.
fn networks(interfaces: &[Interface]) -> HashMap<usize, usize> {
    let ports = |(network, interface): (usize, &Interface)| {
        let ports = match &interface.kind {
            InterfaceKind::Network { ports, .. } => ports.clone(),
            InterfaceKind::Personality { .. } => Vec::new(),
        };
        ports.into_iter().map(move |port| (port, network))
    };
    interfaces.iter().enumerate().flat_map(ports).collect()
}

/// The router's own addresses, with the names of the interfaces that have them.
fn own_addresses(interfaces: &[Interface]) -> HashMap<IpAddr, &str> {
    interfaces
        .iter()
        .flat_map(|interface| {
            let addresses = interface.addresses.iter();
            addresses.map(|net| (net.addr(), interface.name.as_str()))
        })
        .collect()
}

/// The provider's gateways, with the personalities that have them.
fn gateways(interfaces: &[Interface]) -> BTreeMap<IpAddr, &str> {
    let all = interfaces.iter().flat_map(|interface| {
        let gateways = match &interface.kind {
            InterfaceKind::Personality { gateways, .. } => gateways.as_slice(),
            InterfaceKind::Network { .. } => &[],
        };
        gateways
            .iter()
            .map(|gateway| (*gateway, interface.name.as_str()))
    });
    all.filter(|(gateway, _)| !is_of_a_link(*gateway)).collect()
}

/// What DHCPv6 hands out: the first single address, public ones first.
fn dhcp6_address(addresses: &[IpNet], public: &[IpNet]) -> Option<Ipv6Addr> {
    public.iter().chain(addresses).find_map(|net| match net {
        IpNet::V6(net) if net.prefix_len() == 128 => Some(net.addr()),
        _ => None,
    })
}
