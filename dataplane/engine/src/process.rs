//! The router: one frame in, one verdict out.
//!
//! It reads like the list of what a router does. [`Router`] holds what one frame may touch; its
//! methods are spread over the modules by subject: ARP in `arp`, sessions and first packets in
//! `forward`, own addresses in `local`, errors in `icmp`.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::addr::{MacAddr, PortId};
use crate::drops::DropReason;
use crate::egress;
use crate::explain::{Silent, Trace};
use crate::family::Family;
use crate::frame::{ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Frame, Verdict};
use crate::icmp::IcmpError;
use crate::listener;
use crate::nd;
use crate::packet::{ETHERNET, Packet, Problem, Transport};
use crate::service::{self, Link};
use crate::shard::Shard;
use crate::snapshot::{Interface, Snapshot};
use crate::time::Instant;

/// Routes one frame. It is rewritten in place if the verdict says [`Verdict::Emit`]; drops are
/// already counted.
pub fn process(
    frame: &mut Frame<'_>,
    ingress: PortId,
    snapshot: &Snapshot,
    shard: &mut Shard,
    now: Instant,
) -> Verdict {
    Router {
        snapshot,
        shard,
        now,
        trace: &mut Silent,
        ingress: Some(ingress),
    }
    .run(frame, ingress)
}

/// What one frame is routed with.
pub(crate) struct Router<'a, T> {
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) shard: &'a mut Shard,
    pub(crate) now: Instant,
    pub(crate) trace: &'a mut T,
    /// Where the frame came in; `None` for what is ours.
    pub(crate) ingress: Option<PortId>,
}

impl<T: Trace> Router<'_, T> {
    pub(crate) fn run(&mut self, frame: &mut Frame<'_>, ingress: PortId) -> Verdict {
        self.receive(frame, ingress).unwrap_or_else(|reason| {
            self.shard.drops.add(reason, 1);
            Verdict::Drop(reason)
        })
    }

    fn receive(&mut self, frame: &mut Frame<'_>, ingress: PortId) -> Result<Verdict, DropReason> {
        let Some(header) = frame.bytes.first_chunk::<ETHERNET>() else {
            return Err(DropReason::FrameTooShort);
        };
        let destination = MacAddr::from_slice(&header[0..6]);
        let source = MacAddr::from_slice(&header[6..12]);
        if source.is_group() {
            return Err(DropReason::GroupSource);
        }
        self.admit_mac(ingress, source)?;
        let vlan = vlan_id(frame.vlan);
        let link = Link {
            port: ingress,
            vlan,
            source,
            destination,
        };
        match u16::from_be_bytes([header[12], header[13]]) {
            ETHERTYPE_IPV4 => {
                let packet = Ipv4Addr::parse(frame)?;
                frame.truncate(packet.end); // link padding is not forwarded (F02)
                if service::is_request(&packet)
                    && let Some(answered) = self.dhcp(frame, &packet, link)
                {
                    return answered;
                }
                self.ip(frame, &packet, ingress, vlan, source, destination)
            }
            ETHERTYPE_IPV6 => {
                let packet = Ipv6Addr::parse(frame)?;
                frame.truncate(packet.end);
                if service::is_request(&packet)
                    && let Some(answered) = self.dhcp6(frame, &packet, link)
                {
                    return answered;
                }
                match packet.transport {
                    Transport::IcmpOther(kind) if nd::KINDS.contains(&kind) => self
                        .neighbor_discovery(frame, &packet, (ingress, vlan), source, destination),
                    Transport::IcmpOther(listener::QUERY) => {
                        self.listener_query(frame, &packet, (ingress, vlan))
                    }
                    _ => self.ip(frame, &packet, ingress, vlan, source, destination),
                }
            }
            ETHERTYPE_ARP => self.arp(frame, ingress, vlan, source, destination),
            _ => Err(DropReason::UnknownEthertype),
        }
    }

    #[inline]
    fn ip<A: Family>(
        &mut self,
        frame: &mut Frame<'_>,
        packet: &Packet<A>,
        ingress: PortId,
        vlan: Option<u16>,
        source: MacAddr,
        destination: MacAddr,
    ) -> Result<Verdict, DropReason> {
        let snapshot = self.snapshot;
        let Some(interface) = snapshot.wearer(ingress, vlan, destination) else {
            // What a forged server says to everybody goes no further either, but is told apart.
            self.admit_service(ingress, packet)?;
            return Err(self.not_ours(ingress, vlan, source, destination));
        };
        self.trace.step("interface", || {
            let port = snapshot.port_name(ingress);
            format!("{destination} on port {port} is {}", interface.name)
        });
        if let Some(problem) = packet.problem {
            return Err(self.refuse_header(frame, packet, interface, problem));
        }
        if packet.has_flow()
            && let Some((number, direction)) = A::flows(self.shard).sessions.find(&packet.flow)
            && let Some(verdict) =
                self.established(frame, packet, interface, ingress, number, direction)?
        {
            return Ok(verdict);
        }
        self.first(frame, packet, interface, ingress)
    }

    /// A header says that who does not understand it must discard the packet (S10).
    #[cold]
    pub(crate) fn refuse_header<A: Family>(
        &mut self,
        frame: &Frame<'_>,
        packet: &Packet<A>,
        interface: &Interface,
        problem: Problem,
    ) -> DropReason {
        if !problem.told {
            return DropReason::IpOptions;
        }
        let error = IcmpError::ParameterProblem(problem);
        self.refuse(frame, packet, interface, error, DropReason::IpOptions)
    }

    /// Sends a received frame on, in place: [`egress::dress`], the single way out.
    #[inline]
    pub(crate) fn emit(
        &mut self,
        frame: &mut Frame<'_>,
        interface: &Interface,
        (mac, port): (MacAddr, PortId),
    ) -> Result<Verdict, DropReason> {
        let dressed = egress::dress(frame, interface, self.snapshot.owners(), mac);
        self.trace.step("egress", || match dressed {
            Ok(()) => {
                let port = self.snapshot.port_name(port);
                format!(
                    "out on {port} as {} from {} to {mac}",
                    interface.name, interface.mac
                )
            }
            Err(_) => format!(
                "the source address is not one of {}'s: the egress guard drops it",
                interface.name
            ),
        });
        dressed.map(|()| Verdict::Emit(port))
    }

    fn not_ours(
        &self,
        ingress: PortId,
        vlan: Option<u16>,
        source: MacAddr,
        destination: MacAddr,
    ) -> DropReason {
        if self.snapshot.wearer(ingress, vlan, source).is_some() {
            DropReason::OwnFrame
        } else if destination.is_group() {
            DropReason::Broadcast
        } else {
            DropReason::UnknownMac
        }
    }
}

/// The VLAN identifier of a tag; a priority tag (VLAN 0) is as good as none (A09).
pub(crate) fn vlan_id(tag: Option<u16>) -> Option<u16> {
    tag.map(|tag| tag & 0xfff).filter(|id| *id != 0)
}
