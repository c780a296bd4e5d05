//! What guests are told about their network: DHCPv4, DHCPv6 and router advertisements.
//!
//! | asked | by a guest of the port | by another MAC, or on another port |
//! |---|---|---|
//! | DHCPv4 | its own address, if it has one to be handed out | silent |
//! | DHCPv6 | the same; without one, the rest | silent; the rest where no guests are configured |
//! | router solicitation | an advertisement | the same: there is nothing private in it |
//!
//! A request comes before everything that IP asks of a packet, because its sender has no address
//! yet. What is not for a network's gateway goes on as any other packet.

mod dhcp4;
mod dhcp6;
pub(crate) mod ra;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use etherparse::PacketBuilder;

use crate::addr::{MacAddr, PortId};
use crate::checksum;
use crate::drops::DropReason;
use crate::explain::Trace;
use crate::family::Family;
use crate::frame::{Checksum, Frame, OwnedFrame, Verdict};
use crate::icmp::TTL;
use crate::owners::Guest;
use crate::packet::{Packet, Transport, UDP};
use crate::process::Router;
use crate::snapshot::{Interface, Snapshot};
use crate::time::Instant;

/// Longest request that is read, in bytes.
const LONGEST: usize = 1472;
/// For how long an address is not offered to a guest that found somebody else using it.
const DECLINED: Duration = Duration::from_secs(30);

/// Addresses that guests declined, and until when they are not offered; at most one each guest.
pub(crate) type Declined = BTreeMap<Ipv4Addr, Instant>;

/// Where a frame came from, and to whom.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Link {
    pub(crate) port: PortId,
    pub(crate) vlan: Option<u16>,
    pub(crate) source: MacAddr,
    pub(crate) destination: MacAddr,
}

/// Whether a packet may be a request to a DHCP server.
#[inline]
pub(crate) fn is_request<A: Family>(packet: &Packet<A>) -> bool {
    let server = if A::ICMP_HAS_PSEUDO_HEADER {
        dhcp6::SERVER
    } else {
        dhcp4::SERVER
    };
    packet.flow.destination_port == server && packet.transport == Transport::Udp
}

impl<'a, T: Trace> Router<'a, T> {
    /// A request to port 67; `None`: it is not for a network's gateway.
    #[cold]
    pub(crate) fn dhcp(
        &mut self,
        frame: &Frame<'_>,
        packet: &Packet<Ipv4Addr>,
        link: Link,
    ) -> Option<Result<Verdict, DropReason>> {
        let to = packet.flow.destination;
        let network = self.asked(link, |network| {
            to.is_broadcast() || network.owns(to.into()) || self.is_broadcast_on(network, to)
        })?;
        Some(self.dhcp_request(frame, packet, network, link))
    }

    /// A request to port 547; `None`: it is not for a network's gateway.
    #[cold]
    pub(crate) fn dhcp6(
        &mut self,
        frame: &Frame<'_>,
        packet: &Packet<Ipv6Addr>,
        link: Link,
    ) -> Option<Result<Verdict, DropReason>> {
        let to = packet.flow.destination;
        let network = self.asked(link, |network| {
            to == dhcp6::SERVERS || network.owns(to.into())
        })?;
        Some(self.dhcp6_request(frame, packet, network, link))
    }

    /// The network that hears a frame and that `is_for` wants.
    fn asked(&self, link: Link, is_for: impl Fn(&Interface) -> bool) -> Option<&'a Interface> {
        let hears = |network: &&Interface| {
            !network.personality && (link.destination.is_group() || link.destination == network.mac)
        };
        let snapshot = self.snapshot;
        snapshot
            .on_port(link.port, link.vlan)
            .filter(hears)
            .find(|network| is_for(network))
    }

    fn is_broadcast_on(&self, network: &Interface, to: Ipv4Addr) -> bool {
        self.snapshot.is_directed_broadcast(to) && network.is_on_link(to.into())
    }

    fn dhcp_request(
        &mut self,
        frame: &Frame<'_>,
        packet: &Packet<Ipv4Addr>,
        network: &Interface,
        link: Link,
    ) -> Result<Verdict, DropReason> {
        if network.services.dhcp.is_none() {
            return Err(DropReason::ServiceNotOffered);
        }
        let payload = payload(frame, packet)?;
        let (asker, relayed) = dhcp4::sender(payload)?;
        let asker = MacAddr(asker);
        if !relayed && asker != link.source {
            return Err(DropReason::NotTheGuest);
        }
        let guest = client(self.snapshot, link.port, asker)?.ok_or(DropReason::NotTheGuest)?;
        let lease = guest
            .lease
            .and_then(|address| dhcp4::Lease::new(address, &guest.hostname, network))
            .ok_or(DropReason::ServiceNotOffered)?;
        self.may_answer(link.port)?;
        let outcome = dhcp4::answer(payload, &lease)?;
        self.trace.step("dhcp", || {
            let (name, address) = (&guest.name, lease.address());
            match &outcome {
                dhcp4::Outcome::Offer(_) => format!("guest {name} is offered {address}"),
                dhcp4::Outcome::Ack(_) => format!("guest {name} is told: {address} is its own"),
                dhcp4::Outcome::Nak(_) => format!("guest {name} is refused: it has {address}"),
                dhcp4::Outcome::Declined => format!("guest {name} says {address} is in use"),
                dhcp4::Outcome::Released => format!("guest {name} gives {address} back"),
            }
        });
        let reply = match outcome {
            dhcp4::Outcome::Declined => {
                self.shard.counters.dhcp_declined += 1;
                let until = self.now + DECLINED;
                self.shard.declined.insert(lease.address(), until);
                return Ok(Verdict::Consumed);
            }
            dhcp4::Outcome::Released => {
                self.shard.counters.dhcp_released += 1;
                self.shard.declined.remove(&lease.address());
                return Ok(Verdict::Consumed);
            }
            dhcp4::Outcome::Offer(reply) => {
                let until = self.shard.declined.get(&lease.address());
                if until.is_some_and(|until| self.now < *until) {
                    return Err(DropReason::AddressDeclined);
                }
                self.shard.declined.remove(&lease.address());
                self.shard.counters.dhcp_offers_sent += 1;
                reply
            }
            dhcp4::Outcome::Ack(reply) => {
                self.shard.counters.dhcp_acks_sent += 1;
                reply
            }
            dhcp4::Outcome::Nak(reply) => {
                self.shard.counters.dhcp_naks_sent += 1;
                reply
            }
        };
        // RFC 2131 §4.1: to the hardware address, without ARP.
        let mac = if reply.to.is_broadcast() {
            MacAddr::BROADCAST
        } else {
            link.source
        };
        let mut bytes = Vec::with_capacity(640);
        PacketBuilder::ethernet2(network.mac.0, mac.0)
            .ipv4(lease.server().octets(), reply.to.octets(), TTL)
            .udp(dhcp4::SERVER, reply.port)
            .write(&mut bytes, &reply.message)
            .map_err(|_| DropReason::DhcpMalformed)?;
        self.reply(bytes, network, (mac, link.port));
        Ok(Verdict::Consumed)
    }

    fn dhcp6_request(
        &mut self,
        frame: &Frame<'_>,
        packet: &Packet<Ipv6Addr>,
        network: &Interface,
        link: Link,
    ) -> Result<Verdict, DropReason> {
        let (Some(dhcp6), Some(source)) = (&network.services.dhcp6, network.link_local) else {
            return Err(DropReason::ServiceNotOffered);
        };
        let asker = packet.flow.source;
        // RFC 8415 §16: clients send to the group, from a link-local address.
        if packet.flow.destination != dhcp6::SERVERS || !asker.is_unicast_link_local() {
            return Err(DropReason::DhcpIgnored);
        }
        if !self.shard.claims.is_ours(network.id, source.into()) {
            return Err(DropReason::AddressTentative);
        }
        let payload = payload(frame, packet)?;
        let guest = client(self.snapshot, link.port, link.source)?;
        self.may_answer(link.port)?;
        let lease = dhcp6::Lease {
            address: guest.and_then(|guest| guest.lease6),
            server: network.mac,
            dhcp6,
        };
        let message = dhcp6::answer(payload, &lease)?;
        self.trace.step("dhcp6", || match (guest, lease.address) {
            (Some(guest), Some(address)) => format!("guest {} has {address}", guest.name),
            _ => format!("{asker} is told what is not its address"),
        });
        self.shard.counters.dhcp6_replies_sent += 1;
        let mut bytes = Vec::with_capacity(320);
        PacketBuilder::ethernet2(network.mac.0, link.source.0)
            .ipv6(source.octets(), asker.octets(), TTL)
            .udp(dhcp6::SERVER, packet.flow.source_port)
            .write(&mut bytes, &message)
            .map_err(|_| DropReason::DhcpMalformed)?;
        self.reply(bytes, network, (link.source, link.port));
        Ok(Verdict::Consumed)
    }

    fn reply(&mut self, bytes: Vec<u8>, network: &Interface, to: (MacAddr, PortId)) {
        let frame = OwnedFrame {
            bytes,
            ..OwnedFrame::default()
        };
        self.shard.send(self.snapshot, frame, network, to);
    }
}

/// Whether some guest behind `port` is handed an IPv6 address.
pub(crate) fn hands_out_ipv6(snapshot: &Snapshot, port: PortId) -> bool {
    let mut guests = snapshot.owners().on_port(port);
    guests.any(|guest| guest.lease6.is_some())
}

/// The guest that `mac` on `port` is: by its MAC, or because it is the only one there and its MAC
/// is not known beforehand. `None`: no guest is configured there.
///
/// # Errors
/// It is none of those configured there.
fn client(snapshot: &Snapshot, port: PortId, mac: MacAddr) -> Result<Option<&Guest>, DropReason> {
    let mut guests = snapshot.owners().on_port(port);
    if guests.len() == 0 {
        return Ok(None);
    }
    let only = guests.len() == 1;
    let is_it = |guest: &&Guest| guest.mac.map_or(only, |known| known == mac);
    let found = guests.find(is_it);
    found.map(Some).ok_or(DropReason::NotTheGuest)
}

/// What a datagram carries, its checksum verified.
fn payload<'f, A: Family>(
    frame: &'f Frame<'_>,
    packet: &Packet<A>,
) -> Result<&'f [u8], DropReason> {
    let l4 = &frame.bytes[packet.l4..packet.end];
    let word = |at: usize| u16::from_be_bytes([l4[at], l4[at + 1]]);
    let length = usize::from(word(4));
    if frame.offload.gso.is_some() || length > l4.len() || !(8..=8 + LONGEST).contains(&length) {
        return Err(DropReason::DhcpMalformed);
    }
    let datagram = &l4[..length];
    let verified = match (frame.offload.checksum, word(6)) {
        (Checksum::Partial { .. } | Checksum::Verified, _) => true,
        // Only IPv4 may leave it out (RFC 8200 §8.1).
        (Checksum::Present, 0) => !A::ICMP_HAS_PSEUDO_HEADER,
        (Checksum::Present, _) => {
            let (source, destination) = (packet.flow.source, packet.flow.destination);
            let seed = checksum::pseudo_header(
                source.octets().as_ref(),
                destination.octets().as_ref(),
                UDP,
                length,
            );
            checksum::fold(checksum::sum(datagram, seed)) == 0xffff
        }
    };
    if verified {
        Ok(&datagram[8..])
    } else {
        Err(DropReason::DhcpMalformed)
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::explain::{self, frame};
    use crate::session::SessionMemory;
    use crate::shard::Shard;

    /// `explain` tells what a guest would be told.
    #[test]
    fn a_responder_explains_itself() {
        let config = r#"{
            "ports": { "g": { "memory": true }, "h": { "memory": true } },
            "networks": { "a": {
                "ports": ["g", "h"], "addresses": ["10.0.1.254/24"], "dhcp": {}, "dhcp6": {}, "ra": {}
            } },
            "guests": { "web": {
                "port": "g", "mac": "52:54:00:00:00:01", "addresses": ["10.0.1.1", "2001:db8::1"]
            } }
        }"#;
        let snapshot = Snapshot::build(&serde_json::from_str(config).unwrap(), None);
        let mut shard = Shard::new(&snapshot, SessionMemory::owned(16), 7, Instant(0));
        for second in 0..10 {
            shard.poll(&snapshot, Instant(second * 1000));
        }
        let explain = |port: &str, from: &str, to: &str, server| {
            let packet = explain::Packet {
                port,
                from: from.parse::<IpAddr>().unwrap(),
                to: to.parse().unwrap(),
                protocol: UDP,
                source_port: 68,
                destination_port: server,
            };
            let (bytes, _) = frame(snapshot.config(), &packet).unwrap();
            let mut frame = OwnedFrame {
                bytes,
                ..OwnedFrame::default()
            };
            let port = snapshot.port_id(port).unwrap();
            let now = Instant(10_000);
            let (steps, verdict) = shard.explain(&mut frame.as_frame(), port, &snapshot, now);
            let last = steps.0.last().map(|step| step.detail.clone());
            (verdict, last.unwrap_or_default())
        };
        let (verdict, told) = explain("g", "0.0.0.0", "255.255.255.255", 67);
        assert_eq!(verdict, Verdict::Consumed);
        assert_eq!(told, "guest web is offered 10.0.1.1");
        let (verdict, told) = explain("g", "fe80::5054:ff:fe00:1", "ff02::1:2", 547);
        assert_eq!(verdict, Verdict::Consumed);
        assert_eq!(told, "guest web has 2001:db8::1");
        let (verdict, told) = explain("h", "0.0.0.0", "255.255.255.255", 67);
        assert_eq!(verdict, Verdict::Drop(DropReason::NotTheGuest));
        assert!(
            told.contains("Check `port` and `mac` in [guests]"),
            "{told}"
        );
    }
}
