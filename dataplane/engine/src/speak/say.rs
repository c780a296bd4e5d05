//! ARP and neighbour discovery that the router sends unasked: requests for MACs, probes for
//! duplicates, announcements.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::base::addr::{InterfaceId, MacAddr, PortId};
use crate::model::interface::Interface;
use crate::state::context::Context;
use crate::state::egress;
use crate::wire::arp::Arp;
use crate::wire::frame::OwnedFrame;
use crate::wire::icmp;
use crate::wire::nd::{
    self, ALL_NODES, NEIGHBOR_ADVERTISEMENT, NEIGHBOR_SOLICITATION, Nonce, OVERRIDE, ROUTER,
    SOURCE_LINK_LAYER, TARGET_LINK_LAYER, link_layer_option, multicast_mac, solicited_node,
};
use crate::wire::packet::{Family, TTL};

/// Asks for `target`'s MAC: one station, or everybody where it may be.
pub(crate) fn solicit<T>(
    ctx: &mut Context<'_, T>,
    interface: InterfaceId,
    target: IpAddr,
    to: Option<(MacAddr, PortId)>,
) {
    if let Some(interface) = ctx.snapshot.interface(interface) {
        match target {
            IpAddr::V4(target) => arp_request(ctx, interface, target, to),
            IpAddr::V6(target) => neighbor_solicitation(ctx, interface, target, to),
        }
    }
}

/// Pings a host by a next hop: whose MAC, and the port it is behind (RFC 792, RFC 4443 §4.1).
pub(crate) fn ping<A: Family, T>(
    ctx: &mut Context<'_, T>,
    interface: InterfaceId,
    (target, (identifier, sequence)): (A, (u16, u16)),
    to: (MacAddr, PortId),
) {
    let Some(interface) = ctx.snapshot.interface(interface) else {
        return;
    };
    let source = interface.source_for(target);
    // Until an address is claimed nothing is sent from it.
    let ours = |source: &A| ctx.router.claims.is_ours(interface.id, (*source).into());
    let Some(source) = source.filter(ours) else {
        return;
    };
    let [i, s] = [identifier.to_be_bytes(), sequence.to_be_bytes()];
    let message = [A::ECHO_REQUEST, 0, 0, 0, i[0], i[1], s[0], s[1]];
    let frame = icmp::frame((source, target), TTL, &[&message, PING]);
    ctx.shard.counters.pings_sent += 1;
    egress::send(ctx, frame, interface, to);
}

/// What a ping carries: whoever captures it learns what it is for.
const PING: &[u8] = b"tapgate: is this next hop alive?";

/// RFC 826; the unicast form is RFC 1122 §2.3.2.1 (2).
fn arp_request<T>(
    ctx: &mut Context<'_, T>,
    interface: &Interface,
    target: Ipv4Addr,
    to: Option<(MacAddr, PortId)>,
) {
    let Some(sender) = interface.source_for(target) else {
        return;
    };
    let arp = Arp {
        reply: false,
        sender_mac: interface.mac,
        sender,
        target_mac: MacAddr::ZERO,
        target,
    };
    ctx.shard.counters.arp_requests_sent += 1;
    match to {
        Some(to) => egress::send(ctx, arp.frame(), interface, to),
        None => {
            let ports = ctx.snapshot.whereabouts(interface, target.into());
            let everybody = (MacAddr::BROADCAST, ports);
            egress::flood(ctx, &arp.frame(), interface, everybody);
        }
    }
}

/// Asks whether anybody has `address`, which we want (RFC 5227 §2.1.1).
pub(crate) fn arp_probe<T>(ctx: &mut Context<'_, T>, interface: &Interface, address: Ipv4Addr) {
    let arp = Arp {
        reply: false,
        sender_mac: interface.mac,
        sender: Ipv4Addr::UNSPECIFIED,
        target_mac: MacAddr::ZERO,
        target: address,
    };
    ctx.shard.counters.arp_probes_sent += 1;
    let everybody = (MacAddr::BROADCAST, interface.ports.as_slice());
    egress::flood(ctx, &arp.frame(), interface, everybody);
}

/// How an address is announced by ARP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Request,
    Reply,
}

/// Tells everybody behind `ports` that `address` is here (RFC 5227 §2.3, §3).
pub(crate) fn arp_announcement<T>(
    ctx: &mut Context<'_, T>,
    interface: &Interface,
    address: Ipv4Addr,
    form: Form,
    ports: &[PortId],
) {
    let arp = Arp {
        reply: form == Form::Reply,
        sender_mac: interface.mac,
        sender: address,
        target_mac: match form {
            Form::Request => MacAddr::ZERO,
            Form::Reply => MacAddr::BROADCAST,
        },
        target: address,
    };
    ctx.shard.counters.arp_announcements_sent += 1;
    egress::flood(ctx, &arp.frame(), interface, (MacAddr::BROADCAST, ports));
}

/// RFC 4861 §7.2.2 (N09, N11).
fn neighbor_solicitation<T>(
    ctx: &mut Context<'_, T>,
    interface: &Interface,
    target: Ipv6Addr,
    to: Option<(MacAddr, PortId)>,
) {
    // Until an address is claimed there is no source to ask from. The neighbour table asks again
    // later.
    let Some(source) = ctx.router.claims.source_on(interface) else {
        return;
    };
    let destination = if to.is_some() {
        target
    } else {
        solicited_node(target)
    };
    let option = link_layer_option(SOURCE_LINK_LAYER, interface.mac);
    let kind = (NEIGHBOR_SOLICITATION, 0);
    let frame = nd::frame((source, destination), kind, target, &option);
    ctx.shard.counters.neighbor_solicitations_sent += 1;
    match to {
        Some(to) => egress::send(ctx, frame, interface, to),
        None => {
            let ports = ctx.snapshot.whereabouts(interface, target.into());
            let group = (multicast_mac(destination), ports);
            egress::flood(ctx, &frame, interface, group);
        }
    }
}

/// Asks whether anybody has `address`, which we want (RFC 4862 §5.4.2, RFC 7527 §4; N12, N14).
pub(crate) fn duplicate_probe<T>(
    ctx: &mut Context<'_, T>,
    interface: &Interface,
    address: Ipv6Addr,
    nonce: Nonce,
) {
    let destination = solicited_node(address);
    let ends = (Ipv6Addr::UNSPECIFIED, destination);
    let kind = (NEIGHBOR_SOLICITATION, 0);
    let frame = nd::frame(ends, kind, address, &nd::nonce_option(nonce));
    ctx.shard.counters.duplicate_probes_sent += 1;
    let group = (multicast_mac(destination), interface.ports.as_slice());
    egress::flood(ctx, &frame, interface, group);
}

/// Tells everybody behind `ports` that `address` is here (RFC 4861 §7.2.6; N17).
pub(crate) fn neighbor_announcement<T>(
    ctx: &mut Context<'_, T>,
    interface: &Interface,
    address: Ipv6Addr,
    takeover: bool,
    ports: &[PortId],
) {
    let flags = if takeover { ROUTER | OVERRIDE } else { ROUTER };
    let Some(frame) = advertisement(ctx, interface, (address, flags), ALL_NODES) else {
        return;
    };
    ctx.shard.counters.neighbor_announcements_sent += 1;
    let group = (multicast_mac(ALL_NODES), ports);
    egress::flood(ctx, &frame, interface, group);
}

/// Tells one station, or all behind a port, whose `target` is.
pub(crate) fn advertise<T>(
    ctx: &mut Context<'_, T>,
    interface: &Interface,
    about: (Ipv6Addr, u8),
    destination: Ipv6Addr,
    to: (MacAddr, PortId),
) {
    if let Some(frame) = advertisement(ctx, interface, about, destination) {
        egress::send(ctx, frame, interface, to);
    }
}

/// A neighbour advertisement about `target`, from the address itself if it is the interface's own,
/// else from one that it speaks from, since a proxy has no other. `None`: it has none yet.
fn advertisement<T>(
    ctx: &Context<'_, T>,
    interface: &Interface,
    (target, flags): (Ipv6Addr, u8),
    destination: Ipv6Addr,
) -> Option<OwnedFrame> {
    let source = match interface.owns(target.into()) {
        true => target,
        false => ctx.router.claims.source_on(interface)?,
    };
    let option = link_layer_option(TARGET_LINK_LAYER, interface.mac);
    let kind = (NEIGHBOR_ADVERTISEMENT, flags);
    Some(nd::frame((source, destination), kind, target, &option))
}
