//! `probe` of personalities: whether their next hops are there.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

use super::check::{Check, place};
use super::virtuals::Written;
use crate::base::ip::is_of_a_link;
use crate::config::{Interface, InterfaceKind, Personality, Probe};

impl Check {
    pub(super) fn probe(&mut self, name: &str, personality: &Personality) {
        let Some(Probe {
            interval,
            count,
            target,
        }) = personality.probe
        else {
            return;
        };
        let at = || place!["personalities", name, "probe", "target"];
        if let Some(target) = target {
            let mut own = personality.addresses.iter().map(|own| own.0.addr());
            if !own.any(|own| own.is_ipv4() == target.is_ipv4()) {
                self.fault(
                    at(),
                    format!("{target} cannot be pinged from \"{name}\", which has no address of its family"),
                    "write a target of a family that the personality has an address of",
                );
            }
            let is_nobodys = target.is_multicast()
                || target.is_unspecified()
                || target.is_loopback()
                || target == IpAddr::V4(Ipv4Addr::BROADCAST)
                || is_of_a_link(target);
            if is_nobodys
                || personality
                    .addresses
                    .iter()
                    .any(|own| own.0.addr() == target)
            {
                self.fault(
                    at(),
                    format!("{target} is no host beyond a next hop"),
                    "write the address of a host that answers pings, such as a resolver of the provider",
                );
            }
            if personality.shared.is_some() {
                self.fault(
                    at(),
                    "the host's kernel gets the answers to pings from an address that it shares"
                        .to_owned(),
                    "leave `target` out: the next hop itself is asked then",
                );
            }
        }
        for (key, value) in [("interval", interval), ("count", count)] {
            if value == 0 {
                self.fault(
                    place!["personalities", name, "probe", key],
                    format!("{key} is 0"),
                    "write 1 or more; leave `probe` out to have next hops not probed",
                );
            }
        }
    }

    /// A target that is on this side of all next hops would never be heard, and all would be out of use.
    pub(super) fn targets(
        &mut self,
        interfaces: &[Interface],
        (own, owned): (&HashMap<IpAddr, &str>, &HashMap<IpNet, Written<'_>>),
    ) {
        let is_gateway = |target: &IpAddr| {
            let mut all = interfaces.iter();
            all.any(|i| matches!(&i.kind, InterfaceKind::Personality { gateways, .. } if gateways.contains(target)))
        };
        let inside = |target: &IpAddr| {
            let host = IpNet::from(*target);
            let owner = (0..=host.prefix_len()).rev().find_map(|length| {
                let net = IpNet::new(*target, length).ok()?.trunc();
                owned.get(&net)
            });
            let mut all = interfaces.iter();
            let covering = all.find(|i| {
                let is_network = matches!(i.kind, InterfaceKind::Network { .. });
                is_network && i.addresses.iter().any(|net| net.contains(target))
            });
            own.get(target)
                .copied()
                .or(owner.map(|(guest, ..)| guest.as_str()))
                .or(covering.map(|i| i.name.as_str()))
                .filter(|_| !is_gateway(target))
        };
        for personality in interfaces {
            let target = personality.probe.and_then(|probe| probe.target);
            let target = target.filter(|target| {
                !personality
                    .addresses
                    .iter()
                    .any(|own| own.addr() == *target)
            });
            if let Some((target, owner)) =
                target.and_then(|target| Some((target, inside(&target)?)))
            {
                self.fault(
                    place!["personalities", &personality.name, "probe", "target"],
                    format!("{target} is \"{owner}\"'s, on this side of every next hop"),
                    "write the address of a host outside that answers pings, such as a resolver of the provider",
                );
            }
        }
    }
}
