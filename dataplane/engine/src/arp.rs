//! ARP: answers for own addresses, what is learnt from others, requests of our own (RFC 826).

use std::net::{IpAddr, Ipv4Addr};

use etherparse::{ArpHardwareId, ArpOperation, ArpPacketSlice, EtherType};

use crate::addr::{MacAddr, PortId};
use crate::drops::DropReason;
use crate::explain::Trace;
use crate::frame::{ETHERTYPE_ARP, Frame, Offload, OwnedFrame, Verdict};
use crate::packet::ETHERNET;
use crate::process::Router;
use crate::shard::Shard;
use crate::snapshot::Interface;

/// Bytes of an Ethernet/IPv4 ARP frame.
const FRAME: usize = ETHERNET + 28;

/// What an ARP packet for Ethernet and IPv4 says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Arp {
    reply: bool,
    sender_mac: MacAddr,
    sender: Ipv4Addr,
    target_mac: MacAddr,
    target: Ipv4Addr,
}

impl<T: Trace> Router<'_, T> {
    pub(crate) fn arp(
        &mut self,
        frame: &mut Frame<'_>,
        ingress: PortId,
        vlan: Option<u16>,
        source: MacAddr,
        destination: MacAddr,
    ) -> Result<Verdict, DropReason> {
        let arp = parse(frame.bytes)?;
        let snapshot = self.snapshot;
        if snapshot.wearer(ingress, vlan, source).is_some() {
            return Err(DropReason::OwnFrame);
        }
        // A06: the sender must be who sent the frame, one station, and not one of us.
        if arp.sender_mac != source || !arp.sender_mac.is_unicast() {
            return Err(DropReason::ArpSenderMismatch);
        }
        if snapshot
            .owner(arp.sender.into())
            .is_some_and(|owner| owner.ports.contains(&ingress))
        {
            return Err(DropReason::ArpSenderIsUs);
        }
        let hears = |interface: &&Interface| destination.is_group() || interface.mac == destination;
        if destination != MacAddr::BROADCAST
            && snapshot.wearer(ingress, vlan, destination).is_none()
        {
            return Err(DropReason::UnknownMac);
        }
        let asked = snapshot
            .on_port(ingress, vlan)
            .filter(hears)
            .find(|interface| interface.owns(arp.target.into()));
        self.learn(&arp, ingress, vlan, destination, asked);
        match asked {
            Some(interface) if !arp.reply => {
                self.trace.step("arp", || {
                    format!("{} asks for {}, which is ours", arp.sender, arp.target)
                });
                frame.truncate(FRAME);
                frame.offload = Offload::default(); // the answer is ours
                answer(frame.bytes, &arp, interface);
                self.shard.counters.arp_requests_answered += 1;
                self.emit(frame, interface, (source, ingress))
            }
            Some(_) => Ok(Verdict::Consumed),
            None if arp.sender == arp.target || arp.reply => Err(DropReason::ArpUnsolicited),
            None => Err(DropReason::ArpNotForUs),
        }
    }

    /// RFC 826's merge (A02): a known sender is updated whatever it says; an unknown one is
    /// remembered only if it speaks to us and is on the link. Other senders are answered but never
    /// learnt from (A06), and neither is 0.0.0.0, a probe's sender (A03).
    fn learn(
        &mut self,
        arp: &Arp,
        ingress: PortId,
        vlan: Option<u16>,
        destination: MacAddr,
        asked: Option<&Interface>,
    ) {
        let sender = IpAddr::V4(arp.sender);
        let from = (arp.sender_mac, ingress);
        let snapshot = self.snapshot;
        if arp.sender.is_unspecified() {
            return;
        }
        for interface in snapshot.on_port(ingress, vlan) {
            let to_it = asked.is_some_and(|asked| asked.id == interface.id);
            let neighbors = &mut self.shard.neighbors;
            let released = if arp.reply && to_it && destination == interface.mac {
                neighbors.confirm(interface.id, sender, from, self.now)
            } else if to_it && !arp.reply && interface.is_on_link(sender) {
                neighbors.learn(interface.id, sender, from, self.now)
            } else {
                neighbors.hear(interface.id, sender, from).0
            };
            self.shard.release(released, interface, from);
        }
    }
}

impl Shard {
    /// Asks for `target`'s MAC: one station, or everybody on the interface's ports (RFC 826; the
    /// unicast form is RFC 1122 §2.3.2.1 (2)).
    pub(crate) fn request(
        &mut self,
        interface: &Interface,
        target: Ipv4Addr,
        to: Option<(MacAddr, PortId)>,
    ) {
        let Some(sender) = interface.source_for(target) else {
            return;
        };
        let frame = build(&Arp {
            reply: false,
            sender_mac: interface.mac,
            sender,
            target_mac: MacAddr::ZERO,
            target,
        });
        self.counters.arp_requests_sent += 1;
        match to {
            Some(to) => self.send(frame, interface, to),
            None => self.broadcast(&frame, interface),
        }
    }

    /// Announces `address`: in the request form and in the reply form, since some peers update
    /// from only one of them (RFC 5227 §3).
    pub(crate) fn announce(&mut self, interface: &Interface, address: Ipv4Addr) {
        for (reply, target_mac) in [(false, MacAddr::ZERO), (true, MacAddr::BROADCAST)] {
            let frame = build(&Arp {
                reply,
                sender_mac: interface.mac,
                sender: address,
                target_mac,
                target: address,
            });
            self.counters.arp_announcements_sent += 1;
            self.broadcast(&frame, interface);
        }
    }

    fn broadcast(&mut self, frame: &OwnedFrame, interface: &Interface) {
        for &port in &interface.ports {
            self.send(frame.clone(), interface, (MacAddr::BROADCAST, port));
        }
    }
}

fn parse(bytes: &[u8]) -> Result<Arp, DropReason> {
    let body = bytes.get(ETHERNET..).unwrap_or_default();
    let slice = ArpPacketSlice::from_slice(body).map_err(|_| DropReason::ArpMalformed)?;
    let reply = match slice.operation() {
        ArpOperation::REQUEST => false,
        ArpOperation::REPLY => true,
        _ => return Err(DropReason::ArpMalformed),
    };
    let address = |bytes: &[u8]| {
        bytes
            .first_chunk::<4>()
            .map(|octets| Ipv4Addr::from(*octets))
    };
    let right_kind = slice.hw_addr_type() == ArpHardwareId::ETHERNET
        && slice.proto_addr_type() == EtherType::IPV4
        && slice.hw_addr_size() == 6
        && slice.proto_addr_size() == 4;
    match (
        address(slice.sender_protocol_addr()),
        address(slice.target_protocol_addr()),
    ) {
        (Some(sender), Some(target)) if right_kind => Ok(Arp {
            reply,
            sender_mac: MacAddr::from_slice(slice.sender_hw_addr()),
            sender,
            target_mac: MacAddr::from_slice(slice.target_hw_addr()),
            target,
        }),
        _ => Err(DropReason::ArpMalformed),
    }
}

/// Turns a request into its reply, in place (A01).
fn answer(bytes: &mut [u8], request: &Arp, interface: &Interface) {
    let reply = Arp {
        reply: true,
        sender_mac: interface.mac,
        sender: request.target,
        target_mac: request.sender_mac,
        target: request.sender,
    };
    write(&mut bytes[ETHERNET..FRAME], &reply);
}

/// An ARP packet as a frame whose MACs are still to be set.
fn build(arp: &Arp) -> OwnedFrame {
    let mut bytes = vec![0; FRAME];
    bytes[12..14].copy_from_slice(&ETHERTYPE_ARP.to_be_bytes());
    write(&mut bytes[ETHERNET..], arp);
    OwnedFrame {
        bytes,
        ..OwnedFrame::default()
    }
}

fn write(body: &mut [u8], arp: &Arp) {
    body[0..8].copy_from_slice(&[0, 1, 0x08, 0x00, 6, 4, 0, if arp.reply { 2 } else { 1 }]);
    body[8..14].copy_from_slice(&arp.sender_mac.0);
    body[14..18].copy_from_slice(&arp.sender.octets());
    body[18..24].copy_from_slice(&arp.target_mac.0);
    body[24..28].copy_from_slice(&arp.target.octets());
}
