//! Networks that are bridged to an uplink, and their guests.

use super::check::{Check, place};
use super::interfaces::{PortUse, Seen};
use crate::base::addr::MacAddr;
use crate::config::{
    Bridged, File, FileGuest, Interface, InterfaceKind, Network, Port, Segment, SourceCheck,
};

impl Check {
    /// The segment that network `name` is bridged to. It is the provider's: the network has nothing
    /// that only a gateway of ours could do.
    pub(super) fn bridged(
        &mut self,
        name: &String,
        network: &Network,
        (file, ports): (&File, &[Port]),
        members: &[usize],
        seen: &mut Seen,
    ) -> Option<Bridged> {
        let at = |key: &str| place!["networks", name, key];
        let Some(uplink) = &network.bridged else {
            if network.vlan.is_some() {
                self.fault(
                    at("vlan"),
                    "\"vlan\" is for a bridged network; guests' ports are untagged",
                    "add `bridged = \"UPLINK\"`, or remove it",
                );
            }
            return None;
        };
        self.vlan(at("vlan"), network.vlan);
        for (given, key) in [
            (!network.addresses.is_empty(), "addresses"),
            (network.mac.is_some(), "mac"),
            (network.proxy.is_some(), "proxy"),
            (network.dhcp.is_some(), "dhcp"),
            (network.dhcp6.is_some(), "dhcp6"),
            (network.ra.is_some(), "ra"),
            (network.metadata.is_some(), "metadata"),
        ] {
            if given {
                self.fault(
                    at(key),
                    format!("network \"{name}\" is bridged: its gateway is the provider's router, and `{key}` is for a gateway of ours"),
                    "remove it, or remove `bridged`",
                );
            }
        }
        let port = self.port(at("bridged"), uplink, ports)?;
        if let Some(PortUse {
            network: Some(other),
            at: there,
        }) = seen.ports.get(&port)
        {
            self.conflict(
                at("bridged"),
                there.clone(),
                format!("port \"{uplink}\" is in network \"{other}\""),
                "write the port towards the provider",
            );
            return None;
        }
        seen.ports.entry(port).or_insert(PortUse {
            network: None,
            at: at("bridged"),
        });
        self.unique(
            &mut seen.bridged,
            (port, network.vlan),
            at("bridged"),
            &format!("two networks are bridged to one segment of port \"{uplink}\""),
            "put the ports of both into one network, or give one a VLAN of its own",
        );
        for member in members.iter().map(|member| &ports[*member]) {
            self.bridged_port(name, member, (uplink, ports[port].mtu), file);
        }
        Some(Bridged {
            port,
            vlan: network.vlan,
        })
    }

    /// A segment has one MTU (nobody on it could be told of another), and only configured pairs of
    /// MAC and address.
    fn bridged_port(&mut self, name: &str, member: &Port, uplink: (&str, u32), file: &File) {
        let at = |key: &str| place!["ports", &member.name, key];
        let (uplink, mtu) = uplink;
        if member.mtu != mtu {
            let written = file
                .ports
                .get(&member.name)
                .is_some_and(|p| p.mtu.is_some());
            let at = if written {
                at("mtu")
            } else {
                place!["ports", &member.name]
            };
            self.fault(
                at,
                format!(
                    "port \"{}\" has an MTU of {} bytes, and \"{uplink}\", which network \"{name}\" is bridged to, of {mtu}",
                    member.name, member.mtu
                ),
                format!("write `mtu = {mtu}`: a segment has one MTU"),
            );
        }
        if member.source != SourceCheck::Strict {
            self.fault(
                at("source"),
                format!("port \"{}\" is in bridged network \"{name}\", whose guests send from their own MAC and addresses only", member.name),
                "remove it",
            );
        }
    }

    /// A guest of a bridged network has a MAC of its own and `public` addresses, and answers for
    /// them itself.
    pub(super) fn bridged_guest(
        &mut self,
        name: &String,
        guest: &FileGuest,
        mac: Option<MacAddr>,
        (segment, interfaces): (Bridged, &[Interface]),
    ) {
        let at = |key: &str| place!["guests", name, key];
        if !guest.addresses.is_empty() {
            self.fault(
                at("addresses"),
                format!("guest \"{name}\" is bridged: it has no inside"),
                "write them as `public`",
            );
        }
        for (given, key, why) in [
            (
                guest.personality.is_some(),
                "personality",
                "the guest answers for its addresses itself",
            ),
            (
                guest.dhcp.is_some(),
                "dhcp",
                "addresses are handed out by the provider",
            ),
            (
                guest.hostname.is_some(),
                "hostname",
                "nothing is handed out by DHCP",
            ),
        ] {
            if given {
                self.fault(
                    at(key),
                    format!("guest \"{name}\" is bridged: {why}"),
                    "remove it",
                );
            }
        }
        let Some(mac) = mac else {
            self.fault(
                place!["guests", name],
                format!("guest \"{name}\" is bridged, and nothing says by which MAC"),
                "add `mac`, the one that the provider assigned",
            );
            return;
        };
        let on_segment = interfaces.iter().filter(|i| on_segment(i, segment));
        for personality in on_segment {
            if personality.mac == mac {
                self.conflict(
                    at("mac"),
                    place!["personalities", &personality.name, "mac"],
                    format!(
                        "MAC {mac} is personality \"{}\"'s, on the same segment",
                        personality.name
                    ),
                    "write the guest's own MAC",
                );
            }
        }
    }

    /// The personality or network called `name`, which packets are routed by.
    pub(super) fn routed(
        &mut self,
        at: impl Into<Vec<Segment>> + Clone,
        name: &str,
        interfaces: &[Interface],
    ) -> Option<usize> {
        let found = self.interface(at.clone(), name, interfaces)?;
        if interfaces[found].kind.bridged().is_some() {
            self.fault(
                at,
                format!("network \"{name}\" is bridged: nothing is routed by it"),
                "write a personality, or a network that is not bridged",
            );
            return None;
        }
        Some(found)
    }
}

fn on_segment(interface: &Interface, segment: Bridged) -> bool {
    match &interface.kind {
        InterfaceKind::Personality { port, vlan, .. } => {
            (*port, *vlan) == (segment.port, segment.vlan)
        }
        InterfaceKind::Network { .. } => false,
    }
}
