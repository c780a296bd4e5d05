//! The single way out of the router.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::context::Context;
use super::neighbor::{Held, NeighborId};
use super::shard::{Flood, Output};
use crate::base::addr::{MacAddr, PortId};
use crate::base::drops::DropReason;
use crate::model::interface::Interface;
use crate::model::owners::Owners;
use crate::model::trace::{Step, Trace};
use crate::wire::frame::{
    ETHERNET, ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Frame, OwnedFrame, Verdict,
};
use crate::wire::packet::Family;

/// Most ports that a flood is sent by at once.
const FLOODED_AT_ONCE: usize = 64;
/// Most floods that wait. One too many is lost; what it says is announced or asked again later.
const FLOODS: usize = 1_024;

/// Where an ARP packet's sender address lies in a frame.
const ARP_SENDER_AT: usize = ETHERNET + 14;

/// Gives a frame its MACs and VLAN, if `interface` may send it.
///
/// On a personality the source address (or ARP sender) must be one of its own, or a public one of
/// its guests. It is read from the bytes that leave, whatever produced them; the source MAC and the
/// VLAN are the personality's because they are set here and nowhere else (X01).
#[inline]
pub(crate) fn dress(
    frame: &mut Frame<'_>,
    interface: &Interface,
    owners: &Owners,
    (to, port): (MacAddr, PortId),
) -> Result<(), DropReason> {
    let Some(header) = frame.bytes.first_chunk::<ETHERNET>() else {
        return Err(DropReason::EgressGuard);
    };
    // The unspecified address is the source of probes and reports that are sent before there is an
    // address (RFC 5227 §2.1.1, RFC 4862 §5.4.2). A forwarded packet never has it (F14, S09).
    let may_send = |source: IpAddr| source.is_unspecified() || interface.may_send(source, owners);
    let may_leave = match u16::from_be_bytes([header[12], header[13]]) {
        ETHERTYPE_IPV4 => chunk(frame.bytes, Ipv4Addr::SOURCE_AT)
            .is_some_and(|source: [u8; 4]| interface.may_send(source.into(), owners)),
        ETHERTYPE_ARP => {
            chunk(frame.bytes, ARP_SENDER_AT).is_some_and(|source: [u8; 4]| may_send(source.into()))
        }
        ETHERTYPE_IPV6 => chunk(frame.bytes, Ipv6Addr::SOURCE_AT)
            .is_some_and(|source: [u8; 16]| may_send(source.into())),
        _ => false,
    };
    if !may_leave {
        return Err(DropReason::EgressGuard);
    }
    frame.bytes[0..6].copy_from_slice(&to.0);
    frame.bytes[6..12].copy_from_slice(&interface.mac.0);
    frame.vlan = interface.vlan;
    // A guest that is bridged beside a personality is untagged.
    if frame.vlan.is_some() && interface.ports != [port] {
        frame.vlan = None;
    }
    Ok(())
}

/// Sends a frame of a bridged network's segment on as it is, but to `mac`.
///
/// What leaves by the uplink has the source MAC of a guest and an address of that guest's: it is read
/// from the bytes that leave, as in [`dress`].
pub(crate) fn pass<T: Trace>(
    ctx: &mut Context<'_, T>,
    frame: &mut Frame<'_>,
    interface: &Interface,
    (mac, port): (MacAddr, PortId),
) -> Result<Verdict, DropReason> {
    let segment = interface.bridge.ok_or(DropReason::EgressGuard)?;
    if port == segment.uplink && !is_pair(frame, interface, ctx.snapshot.owners()) {
        ctx.trace.step(|| Step::Guarded {
            source: None,
            interface: interface.id,
        });
        return Err(DropReason::EgressGuard);
    }
    frame.bytes[0..6].copy_from_slice(&mac.0);
    frame.vlan = segment.vlan.filter(|_| port == segment.uplink);
    ctx.trace.step(|| Step::Bridged { port, to: mac });
    Ok(Verdict::Emit(port))
}

/// Whether a frame's source MAC and address (or ARP sender) are those of one guest of a bridged
/// network. The unspecified address is nobody's: before there is one, a guest probes for it, reports
/// its groups and asks for it by DHCP, all of it to groups.
fn is_pair(frame: &Frame<'_>, network: &Interface, owners: &Owners) -> bool {
    let Some(header) = frame.bytes.first_chunk::<ETHERNET>() else {
        return false;
    };
    let source: Option<IpAddr> = match u16::from_be_bytes([header[12], header[13]]) {
        ETHERTYPE_IPV4 => chunk(frame.bytes, Ipv4Addr::SOURCE_AT).map(|it: [u8; 4]| it.into()),
        ETHERTYPE_ARP if frame.bytes.get(ARP_SENDER_AT - 6..ARP_SENDER_AT) == header.get(6..12) => {
            chunk(frame.bytes, ARP_SENDER_AT).map(|it: [u8; 4]| it.into())
        }
        ETHERTYPE_IPV6 => chunk(frame.bytes, Ipv6Addr::SOURCE_AT).map(|it: [u8; 16]| it.into()),
        _ => None,
    };
    let to = MacAddr::from_slice(header);
    let guest = owners.bridged(network.id, MacAddr::from_slice(&header[6..]));
    guest
        .zip(source)
        .is_some_and(|(guest, source)| match source.is_unspecified() {
            true => to.is_group(),
            false => {
                let owner = owners.on_segment(network.id, source);
                owner.is_some_and(|owner| owner.id == guest.id)
            }
        })
}

/// Sends a received frame on, in place.
#[inline]
pub(crate) fn emit<T: Trace>(
    ctx: &mut Context<'_, T>,
    frame: &mut Frame<'_>,
    interface: &Interface,
    (mac, port): (MacAddr, PortId),
) -> Result<Verdict, DropReason> {
    let dressed = dress(frame, interface, ctx.snapshot.owners(), (mac, port));
    ctx.trace.step(|| match dressed {
        Ok(()) => Step::Out {
            port,
            interface: interface.id,
            to: mac,
        },
        Err(_) => Step::Guarded {
            source: None,
            interface: interface.id,
        },
    });
    dressed.map(|()| Verdict::Emit(port))
}

/// Sends a frame of our own making: into the outbox, or dropped and counted.
pub(crate) fn send<T>(
    ctx: &mut Context<'_, T>,
    mut frame: OwnedFrame,
    interface: &Interface,
    (to, port): (MacAddr, PortId),
) {
    let mut view = frame.as_frame();
    match dress(&mut view, interface, ctx.snapshot.owners(), (to, port)) {
        Ok(()) => {
            frame.vlan = view.vlan;
            ctx.shard.outbox.push(Output { port, frame });
        }
        Err(reason) => ctx.shard.drops.add(reason, 1),
    }
}

/// Sends a frame of our own making to a group by several ports. Where there are many it only begins
/// to: the rest is sent by [`continue_floods`], with traffic between.
pub(crate) fn flood<T>(
    ctx: &mut Context<'_, T>,
    frame: &OwnedFrame,
    interface: &Interface,
    (to, ports): (MacAddr, &[PortId]),
) {
    if ports.len() <= FLOODED_AT_ONCE {
        for &port in ports {
            send(ctx, frame.clone(), interface, (to, port));
        }
    } else if ctx.shard.floods.len() < FLOODS {
        ctx.shard.floods.push_back(Flood {
            interface: interface.id,
            to,
            frame: frame.clone(),
            at: 0,
        });
    } else {
        let lost = ports.len() as u64;
        ctx.shard.drops.add(DropReason::TransmitFailed, lost);
    }
}

/// Sends some of what is to be sent by many ports.
pub(crate) fn continue_floods<T>(ctx: &mut Context<'_, T>) {
    let Some(mut flood) = ctx.shard.floods.pop_front() else {
        return;
    };
    let Some(interface) = ctx.snapshot.interface(flood.interface) else {
        return;
    };
    let left = interface.ports.get(flood.at..).unwrap_or_default();
    let now = left.len().min(FLOODED_AT_ONCE);
    for &port in &left[..now] {
        send(ctx, flood.frame.clone(), interface, (flood.to, port));
    }
    flood.at += now;
    if now < left.len() {
        ctx.shard.floods.push_front(flood);
    }
}

/// Keeps a copy of a frame until `neighbor` is resolved. Then a received frame is processed anew,
/// as if it had just come in by `origin`; a frame of our own (`None`) is sent. Older frames that
/// are dropped to make room for it are counted.
pub(crate) fn hold<T>(
    ctx: &mut Context<'_, T>,
    frame: OwnedFrame,
    origin: Option<PortId>,
    neighbor: NeighborId,
) -> Verdict {
    let worker = ctx.shard.share.worker();
    let held = Held {
        frame,
        origin,
        worker,
    };
    let gone = ctx.router.neighbors.hold(neighbor, held);
    ctx.shard.drops.add(DropReason::HoldQueueFull, gone as u64);
    ctx.shard.counters.packets_held += 1;
    Verdict::Hold
}

/// Lets go of frames that waited for a neighbour which is now known: received ones are processed
/// anew, our own are sent.
pub(crate) fn release<T>(
    ctx: &mut Context<'_, T>,
    held: impl IntoIterator<Item = Held>,
    interface: &Interface,
    to: (MacAddr, PortId),
) {
    for held in held {
        if held.origin.is_some() {
            ctx.router.released.push_back(held);
        } else {
            send(ctx, held.frame, interface, to);
        }
    }
}

#[inline]
fn chunk<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::addr::InterfaceId;

    fn interface(personality: bool) -> Interface {
        Interface {
            id: InterfaceId(0),
            name: "A".to_owned(),
            personality,
            mac: MacAddr([2, 0, 0, 0, 0, 0xaa]),
            vlan: Some(7),
            ports: vec![PortId(0)],
            bridge: None,
            addresses: vec!["203.0.113.10/32".parse().unwrap()],
            own: [IpAddr::from([203, 0, 113, 10])].into_iter().collect(),
            link_local: None,
            next_hops: Vec::new(),
            shared: None,
            claims_ipv4: false,
            mtu: 1500,
            services: Default::default(),
            sources: Vec::new(),
            clamps_mss: false,
            probe: None,
        }
    }

    fn frame(ethertype: [u8; 2], at: usize, source: [u8; 4]) -> OwnedFrame {
        let mut bytes = vec![0; 60];
        bytes[12..14].copy_from_slice(&ethertype);
        bytes[at..at + 4].copy_from_slice(&source);
        OwnedFrame {
            bytes,
            ..OwnedFrame::default()
        }
    }

    #[test]
    fn x01_a_personality_sends_only_its_own_addresses_from_its_own_mac_in_its_own_vlan() {
        for (ethertype, at) in [([0x08, 0x00], 26), ([0x08, 0x06], 28)] {
            let mut own = frame(ethertype, at, [203, 0, 113, 10]);
            let mut view = own.as_frame();
            view.vlan = Some(99);
            assert_eq!(
                dress(
                    &mut view,
                    &interface(true),
                    &Owners::default(),
                    (MacAddr([4; 6]), PortId(0))
                ),
                Ok(())
            );
            assert_eq!(view.vlan, Some(7));
            assert_eq!(view.bytes[..12], [4, 4, 4, 4, 4, 4, 2, 0, 0, 0, 0, 0xaa]);

            let mut foreign = frame(ethertype, at, [203, 0, 113, 11]);
            let before = foreign.clone();
            let refused = dress(
                &mut foreign.as_frame(),
                &interface(true),
                &Owners::default(),
                (MacAddr([4; 6]), PortId(0)),
            );
            assert_eq!(refused, Err(DropReason::EgressGuard));
            assert_eq!(foreign, before, "a refused frame is left alone");
            let inside = dress(
                &mut foreign.as_frame(),
                &interface(false),
                &Owners::default(),
                (MacAddr([4; 6]), PortId(0)),
            );
            assert_eq!(inside, Ok(()), "towards guests there is nothing to guard");
        }
    }

    #[test]
    fn what_is_neither_ip_nor_arp_does_not_leave() {
        let mut other = frame([0x88, 0xcc], 26, [203, 0, 113, 10]);
        let refused = dress(
            &mut other.as_frame(),
            &interface(true),
            &Owners::default(),
            (MacAddr([4; 6]), PortId(0)),
        );
        assert_eq!(refused, Err(DropReason::EgressGuard));
        let mut short = OwnedFrame {
            bytes: vec![0x08; 20],
            ..OwnedFrame::default()
        };
        let refused = dress(
            &mut short.as_frame(),
            &interface(false),
            &Owners::default(),
            (MacAddr([4; 6]), PortId(0)),
        );
        assert_eq!(refused, Err(DropReason::EgressGuard));
    }
}
