//! ARP: answers for own addresses, what is learnt from others, requests of our own (RFC 826).

use std::net::{IpAddr, Ipv4Addr};

use etherparse::{ArpHardwareId, ArpOperation, ArpPacketSlice, EtherType};

use crate::addr::{MacAddr, PortId};
use crate::answers::Answer;
use crate::drops::DropReason;
use crate::explain::Trace;
use crate::frame::{ETHERTYPE_ARP, Frame, Offload, OwnedFrame, Verdict};
use crate::packet::ETHERNET;
use crate::process::Router;
use crate::shard::Shard;
use crate::snapshot::{Interface, Snapshot};

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
        if destination != MacAddr::BROADCAST
            && snapshot.wearer(ingress, vlan, destination).is_none()
        {
            return Err(DropReason::UnknownMac);
        }
        if let Some(network) = snapshot.network_on(ingress) {
            self.admit(ingress, network, arp.sender, DropReason::SpoofedArp)?;
        }
        if let Some(interface) = self.claimant(arp.sender.into(), ingress, vlan) {
            self.conflict(interface, arp.sender.into(), source);
            return Err(DropReason::ArpSenderIsUs);
        }
        // Somebody else wants what we are claiming (RFC 5227 §2.1.1; A04).
        if arp.sender.is_unspecified()
            && let Some(interface) = self.claiming(arp.target.into(), ingress, vlan)
        {
            self.conflict(interface, arp.target.into(), source);
            return Err(DropReason::ArpSenderIsUs);
        }
        let asked = (ingress, vlan);
        let nobody = match arp.sender == arp.target || arp.reply {
            true => DropReason::ArpUnsolicited,
            false => DropReason::ArpNotForUs,
        };
        let to_us = snapshot
            .on_port(ingress, vlan)
            .filter(|interface| destination.is_group() || interface.mac == destination)
            .find(|interface| interface.owns(arp.target.into()));
        self.learn(&arp, ingress, vlan, destination, to_us);
        if arp.reply {
            return match to_us {
                Some(_) => Ok(Verdict::Consumed),
                None => Err(nobody),
            };
        }
        let (interface, owner, delay) =
            match self.answer_for(arp.target.into(), asked, destination, nobody) {
                Answer::Own(interface) => (interface, "ours", None),
                Answer::Proxied(interface) => {
                    (interface, "another's", self.proxy_delay(destination))
                }
                Answer::Wait(id) => return Ok(self.hold(frame, ingress, id)),
                Answer::Silence(reason) => return Err(reason),
            };
        self.may_answer(ingress)?;
        self.trace.step("arp", || {
            format!("{} asks for {}, which is {owner}", arp.sender, arp.target)
        });
        frame.truncate(FRAME);
        frame.offload = Offload::default(); // the answer is ours
        answer(frame.bytes, &arp, interface);
        self.shard.counters.arp_requests_answered += 1;
        if let Some(longest) = delay {
            let begin = self.shard.outbox.len();
            let (snapshot, reply) = (self.snapshot, OwnedFrame::from(&*frame));
            self.shard
                .send(snapshot, reply, interface, (source, ingress));
            self.delay_answers(begin, longest);
            return Ok(Verdict::Consumed);
        }
        self.emit(frame, interface, (source, ingress))
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
            } else if to_it && !arp.reply && self.snapshot.is_on_link(interface, ingress, sender) {
                neighbors.learn(interface.id, sender, from, self.now)
            } else {
                neighbors.hear(interface.id, sender, from).0
            };
            self.shard.release(snapshot, released, interface, from);
        }
    }
}

impl Shard {
    /// Asks for `target`'s MAC: one station, or everybody where it may be (RFC 826; the unicast
    /// form is RFC 1122 §2.3.2.1 (2)).
    pub(crate) fn request(
        &mut self,
        snapshot: &Snapshot,
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
            Some(to) => self.send(snapshot, frame, interface, to),
            None => {
                let ports = snapshot.whereabouts(interface, target.into());
                self.broadcast(snapshot, &frame, interface, ports);
            }
        }
    }

    /// Asks whether anybody has `address`, which we want (RFC 5227 §2.1.1).
    pub(crate) fn arp_probe(
        &mut self,
        snapshot: &Snapshot,
        interface: &Interface,
        address: Ipv4Addr,
    ) {
        let frame = build(&Arp {
            reply: false,
            sender_mac: interface.mac,
            sender: Ipv4Addr::UNSPECIFIED,
            target_mac: MacAddr::ZERO,
            target: address,
        });
        self.counters.arp_probes_sent += 1;
        self.broadcast(snapshot, &frame, interface, &interface.ports);
    }

    /// Announces `address`: in the request form and in the reply form, since some peers update
    /// from only one of them (RFC 5227 §3).
    pub(crate) fn announce(
        &mut self,
        snapshot: &Snapshot,
        interface: &Interface,
        address: Ipv4Addr,
    ) {
        for (reply, target_mac) in [(false, MacAddr::ZERO), (true, MacAddr::BROADCAST)] {
            let frame = build(&Arp {
                reply,
                sender_mac: interface.mac,
                sender: address,
                target_mac,
                target: address,
            });
            self.counters.arp_announcements_sent += 1;
            self.broadcast(snapshot, &frame, interface, &interface.ports);
        }
    }

    fn broadcast(
        &mut self,
        snapshot: &Snapshot,
        frame: &OwnedFrame,
        interface: &Interface,
        ports: &[PortId],
    ) {
        for &port in ports {
            self.send(
                snapshot,
                frame.clone(),
                interface,
                (MacAddr::BROADCAST, port),
            );
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
