//! DHCPv4 and DHCPv6: what guests are told about their network.
//!
//! | asked | by a guest of the port | by another MAC, or on another port |
//! |---|---|---|
//! | DHCPv4 | its own address and the network's settings, if it has an address to be handed out | silent |
//! | DHCPv6 | the same; without such an address, the settings alone | silent; where no guests are configured, the settings alone |
//!
//! A request is looked at before anything else that IP asks of a packet, because its sender has no
//! address yet. A packet that is not for a network's gateway goes on as any other.

mod dhcp4;
mod dhcp6;

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use etherparse::PacketBuilder;

use super::answers;
use crate::base::addr::{MacAddr, PortId};
use crate::base::checksum;
use crate::base::drops::DropReason;
use crate::model::interface::Interface;
use crate::model::owners::Guest;
use crate::model::snapshot::Snapshot;
use crate::model::trace::{Leasing, Step, Trace};
use crate::state::context::Context;
use crate::state::egress;
use crate::wire::frame::{Checksum, Frame, Link, OwnedFrame, Verdict};
use crate::wire::packet::{Family, Packet, TTL, UDP};

/// Longest request that is read, in bytes.
const LONGEST: usize = 1472;
/// For how long an address is not offered to a guest that found somebody else using it.
const DECLINED: Duration = Duration::from_secs(30);

/// The network that is asked by a request to port 67, if it is for a network's gateway.
pub(crate) fn asked4(snapshot: &Snapshot, to: Ipv4Addr, link: Link) -> Option<&Interface> {
    let broadcast =
        |network: &Interface| snapshot.is_directed_broadcast(to) && network.is_on_link(to.into());
    asked(snapshot, link, |network| {
        to.is_broadcast() || network.owns(to.into()) || broadcast(network)
    })
}

/// The network that is asked by a request to port 547, if it is for a network's gateway.
pub(crate) fn asked6(snapshot: &Snapshot, to: Ipv6Addr, link: Link) -> Option<&Interface> {
    asked(snapshot, link, |network| {
        to == dhcp6::SERVERS || network.owns(to.into())
    })
}

fn asked(
    snapshot: &Snapshot,
    link: Link,
    is_for: impl Fn(&Interface) -> bool,
) -> Option<&Interface> {
    let mut hearing = snapshot.hearing(link);
    hearing.find(|network| !network.personality && is_for(network))
}

/// A DHCPv4 request to `network`'s gateway.
#[cold]
pub(crate) fn request4<T: Trace>(
    ctx: &mut Context<'_, T>,
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
    let guest = client(ctx.snapshot, link.port, asker)?.ok_or(DropReason::NotTheGuest)?;
    let lease = guest
        .dhcp_address
        .and_then(|address| dhcp4::Lease::new(address, &guest.hostname, network))
        .ok_or(DropReason::ServiceNotOffered)?;
    answers::may_answer(ctx, link.port)?;
    let outcome = dhcp4::answer(payload, &lease)?;
    ctx.trace.step(|| Step::Dhcp {
        guest: guest.id,
        what: match &outcome {
            dhcp4::Outcome::Offer(_) => Leasing::Offered,
            dhcp4::Outcome::Ack(_) => Leasing::Granted,
            dhcp4::Outcome::Nak(_) => Leasing::Refused,
            dhcp4::Outcome::Declined => Leasing::Declined,
            dhcp4::Outcome::Released => Leasing::Released,
        },
        address: lease.address().into(),
    });
    if let Some(reply) = settle(ctx, outcome, lease.address())? {
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
        send(ctx, bytes, network, (mac, link.port));
    }
    Ok(Verdict::Consumed)
}

/// Counts and remembers what came of a request about `address`; returns the reply to be sent.
fn settle<T>(
    ctx: &mut Context<'_, T>,
    outcome: dhcp4::Outcome,
    address: Ipv4Addr,
) -> Result<Option<dhcp4::Reply>, DropReason> {
    let counters = &mut ctx.shard.counters;
    let declined = &mut ctx.router.declined;
    Ok(match outcome {
        dhcp4::Outcome::Declined => {
            counters.dhcp_declined += 1;
            declined.insert(address, ctx.now + DECLINED);
            None
        }
        dhcp4::Outcome::Released => {
            counters.dhcp_released += 1;
            declined.remove(&address);
            None
        }
        dhcp4::Outcome::Offer(reply) => {
            if declined.get(&address).is_some_and(|until| ctx.now < *until) {
                return Err(DropReason::AddressDeclined);
            }
            declined.remove(&address);
            counters.dhcp_offers_sent += 1;
            Some(reply)
        }
        dhcp4::Outcome::Ack(reply) => {
            counters.dhcp_acks_sent += 1;
            Some(reply)
        }
        dhcp4::Outcome::Nak(reply) => {
            counters.dhcp_naks_sent += 1;
            Some(reply)
        }
    })
}

/// A DHCPv6 request to `network`'s gateway.
#[cold]
pub(crate) fn request6<T: Trace>(
    ctx: &mut Context<'_, T>,
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
    let payload = payload(frame, packet)?;
    let guest = client(ctx.snapshot, link.port, link.source)?;
    answers::may_answer(ctx, link.port)?;
    let lease = dhcp6::Lease {
        address: guest.and_then(|guest| guest.dhcp6_address),
        server: network.mac,
        dhcp6,
    };
    let message = dhcp6::answer(payload, &lease)?;
    ctx.trace.step(|| Step::Dhcp6 {
        asker: asker.into(),
        lease: guest
            .zip(lease.address)
            .map(|(guest, address)| (guest.id, address.into())),
    });
    ctx.shard.counters.dhcp6_replies_sent += 1;
    let mut bytes = Vec::with_capacity(320);
    PacketBuilder::ethernet2(network.mac.0, link.source.0)
        .ipv6(source.octets(), asker.octets(), TTL)
        .udp(dhcp6::SERVER, packet.flow.source_port)
        .write(&mut bytes, &message)
        .map_err(|_| DropReason::DhcpMalformed)?;
    send(ctx, bytes, network, link.station());
    Ok(Verdict::Consumed)
}

fn send<T>(ctx: &mut Context<'_, T>, bytes: Vec<u8>, network: &Interface, to: (MacAddr, PortId)) {
    let frame = OwnedFrame {
        bytes,
        ..OwnedFrame::default()
    };
    egress::send(ctx, frame, network, to);
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
