//! What would become of a packet, and why: the real `process` runs on a copy of the little state
//! that the packet concerns.

mod describe;
mod frame;
mod own;
mod watch;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub use describe::{Line, describe};
pub use frame::{Packet, frame};
pub use own::explain_own;
pub use watch::{Pattern, Seen};

use super::process::process_traced;
use crate::base::addr::{InterfaceId, MacAddr, PortId};
use crate::base::time::Instant;
use crate::config::Mapping;
use crate::model::interface::Arrival;
use crate::model::nat::Mapped;
use crate::model::snapshot::Snapshot;
use crate::model::trace::{Silent, Steps};
use crate::path::back::way_back;
use crate::path::hairpin::remote;
use crate::path::judge::{Course, Plan, judge, payer};
use crate::path::query::{Query, mapped};
use crate::path::{bridge, fragments, standing};
use crate::state::flows::Flows;
use crate::state::fragments::{Fate, Fragments};
use crate::state::neighbor::Neighbors;
use crate::state::payer::Payer;
use crate::state::ports::{NoPort, Wanted};
use crate::state::router::Router;
use crate::state::session::{Hit, SessionMemory, Sessions, Subject};
use crate::state::shard::{Shard, Tracked};
use crate::wire::arp::Arp;
use crate::wire::flow::Flow;
use crate::wire::frame::{Frame, Verdict, vlan_id};
use crate::wire::icmp::quoted_flow;
use crate::wire::nd::{self, NEIGHBOR_ADVERTISEMENT};
use crate::wire::packet::{self, Transport};

/// What would become of `frame`: every decision, and the verdict. Nothing changes.
pub fn explain(
    frame: &mut Frame<'_>,
    ingress: PortId,
    snapshot: &Snapshot,
    (router, shard): (&Router, &Shard),
    now: Instant,
) -> (Steps, Verdict) {
    let mut small = Small::of(snapshot, (router, shard), now);
    if snapshot.limits_bandwidth() {
        small.shard.bandwidth = shard.bandwidth.clone();
    }
    // Who speaks, as a neighbour on any interface of the port: it is answered, and may live elsewhere.
    for interface in snapshot.on_port(ingress, vlan_id(frame.vlan)) {
        for claimed in claimed(frame) {
            small.take_hop(&router.neighbors, (interface.id, claimed));
        }
    }
    if let Ok(packet) = <Ipv4Addr as packet::Family>::parse(frame) {
        small.take(frame, &packet, ingress, snapshot, (router, shard));
    } else if let Ok(packet) = <Ipv6Addr as packet::Family>::parse(frame) {
        small.take(frame, &packet, ingress, snapshot, (router, shard));
    }
    let both = (&mut small.router, &mut small.shard);
    process_traced(frame, ingress, snapshot, both, now)
}

/// The addresses that a frame says are its sender's.
fn claimed(frame: &Frame<'_>) -> Vec<IpAddr> {
    if let Ok(packet) = <Ipv4Addr as packet::Family>::parse(frame) {
        return vec![packet.flow.source.into()];
    }
    if let Ok(packet) = <Ipv6Addr as packet::Family>::parse(frame) {
        let source = IpAddr::V6(packet.flow.source);
        let is_advertisement = |kind| kind == Transport::IcmpOther(NEIGHBOR_ADVERTISEMENT);
        let body = frame.bytes.get(packet.l4..packet.end);
        let target = body
            .filter(|_| is_advertisement(packet.transport))
            .and_then(|body| nd::parse(body, nd::TARGET_LINK_LAYER).ok());
        return std::iter::once(source)
            .chain(target.map(|message| message.target.into()))
            .collect();
    }
    let arp = Arp::parse(frame.bytes).ok();
    arp.map(|arp| arp.sender.into()).into_iter().collect()
}

/// The state that one packet concerns: its session if it has one, the external port it would get,
/// its next hops.
struct Small {
    router: Router,
    shard: Shard,
}

impl Small {
    /// What concerns every packet.
    fn of(snapshot: &Snapshot, (router, shard): (&Router, &Shard), now: Instant) -> Self {
        let section = snapshot.config().router();
        let memory = Sessions {
            v4: SessionMemory::owned(4),
            v6: SessionMemory::owned(4),
            inherited: false,
        };
        let mut small = Self {
            router: Router {
                claims: router.claims.clone(),
                declined: router.declined.clone(),
                next_hops: router.next_hops.clone(),
                virtuals: router.virtuals.clone(),
                answered: router.answered.clone(),
                metadata: router.metadata.budgets(),
                generation: router.generation,
                ..Router::empty(section, router.seed, router.claims_from)
            },
            shard: Shard::over(memory, section, shard.share, shard.seed, now),
        };
        small.shard.generation = shard.generation;
        small
    }

    fn take<A: Tracked>(
        &mut self,
        frame: &Frame<'_>,
        packet: &packet::Packet<A>,
        ingress: PortId,
        snapshot: &Snapshot,
        (router, shard): (&Router, &Shard),
    ) {
        let destination = MacAddr::from_slice(frame.bytes);
        let wearer = snapshot.wearer(ingress, vlan_id(frame.vlan), destination);
        let arrival = wearer.map(|interface| Arrival {
            port: ingress,
            interface,
        });
        let arrival = arrival.or_else(|| {
            let place = (ingress, vlan_id(frame.vlan));
            bridge::arrival(snapshot, place, packet.flow.destination.into())
        });
        let followed = arrival.and_then(|arrival| {
            let (fragments, followed) = datagram(frame, packet, arrival, (snapshot, shard))?;
            self.shard.fragments = fragments;
            followed
        });
        let packet = followed.as_ref().unwrap_or(packet);
        let quoted = quoted_flow(frame.bytes, packet).map(|flow| flow.reversed());
        let flow = quoted.unwrap_or(packet.flow);
        if let Some(hit) = A::flows(shard).sessions.find(&flow) {
            self.take_session::<A>(hit, snapshot, (router, shard));
        }
        // The session may be over, so what a first packet needs is taken in any case.
        let Some(arrival) = arrival else {
            return;
        };
        let mapped = mapped(&packet.flow, arrival.interface, (snapshot, shard));
        if let Some(mapped) = mapped {
            self.take_mapping(packet, mapped, arrival, snapshot);
        }
        let query = Query {
            keeps: None,
            flow: packet.flow,
            mapped,
            transport: packet.transport,
            interface: arrival.interface,
            ingress: Some(arrival.port),
            tos: A::tos(frame),
            bounds: None,
        };
        if let Ok(Course::Forward(plan)) = judge(&query, snapshot, &mut Silent) {
            self.take_hop(
                &router.neighbors,
                (plan.way.interface.id, plan.way.next_hop),
            );
            // Whoever's answers its own could be taken for.
            if let Some(other) = A::flows(shard).sessions.find(&plan.to.reversed()) {
                self.take_session::<A>(other, snapshot, (router, shard));
            }
            self.take_quota(&plan, A::flows(shard));
            self.take_limits(&plan, shard);
            self.take_port(&plan, A::flows(shard));
        }
        // The way back to a sender further away.
        let asked = (packet.flow.destination, packet.flow.source, A::tos(frame));
        if let Ok(way) = way_back(snapshot, arrival.interface, asked, &mut Silent) {
            self.take_hop(&router.neighbors, (way.interface.id, way.next_hop));
        }
    }

    fn take_session<A: Tracked>(
        &mut self,
        Hit { number, direction }: Hit,
        snapshot: &Snapshot,
        (router, shard): (&Router, &Shard),
    ) {
        let sessions = &A::flows(shard).sessions;
        let (mut record, detail) = (*sessions.get(number), *sessions.detail(number));
        if let Ok(way) = standing::way((&record, &detail), direction, snapshot, &mut Silent) {
            self.take_hop(&router.neighbors, (way.interface.id, way.next_hop));
        }
        // Neighbours have other places in the copy: without a place they are found by address.
        for direction in [direction, direction.reversed()] {
            let path = record.path(direction);
            let path = path.map(|path| crate::state::session::Path::by(path.interface));
            record.set_path(direction, path);
        }
        let flows = A::flows_mut(&mut self.shard);
        let number = flows.sessions.insert(record, detail, Payer::Nobody);
        if let Some(number) = number {
            flows.sessions.ledger_mut().answered(number, None);
        }
        flows.restore(&record);
    }

    /// That the port a packet is for is in use, and whether its sender was spoken to.
    fn take_mapping<A: Tracked>(
        &mut self,
        packet: &packet::Packet<A>,
        mapped: Mapped<A>,
        arrival: Arrival<'_>,
        snapshot: &Snapshot,
    ) {
        let flow = &packet.flow;
        let Some(personality) = snapshot.holder(flow.destination.into()) else {
            return;
        };
        let remote = remote(flow, (arrival.interface, personality), snapshot);
        let (external, protocol) = ((flow.destination, flow.destination_port), flow.protocol);
        let Flows { sessions, ports } = A::flows_mut(&mut self.shard);
        ports.restore(
            external.0,
            protocol,
            mapped.inside,
            external.1,
            Payer::Nobody,
        );
        sessions.assume(Subject::mapping(external, protocol), 1);
        if let Some(remote) = A::from_ip(remote) {
            let spoken = Subject::spoken(external, remote, protocol);
            sessions.assume(spoken, mapped.spoken_to.into());
        }
    }

    fn take_hop(&mut self, neighbors: &Neighbors, place: (InterfaceId, IpAddr)) {
        self.router.neighbors.take_over(neighbors, place);
    }

    /// Whether the plan's payer may have one more session.
    fn take_quota<A: Tracked>(&mut self, plan: &Plan<'_, A>, flows: &Flows<A>) {
        let ledger = flows.sessions.ledger();
        let used = ledger.shares().used(plan.payer.index());
        if !ledger.may_open(plan.payer) && ledger.spare(plan.payer).is_none() {
            let ledger = A::flows_mut(&mut self.shard).sessions.ledger_mut();
            ledger.refuse(plan.payer, used);
        }
    }

    /// How much of the plan's limits is used up.
    fn take_limits<A: Tracked>(&mut self, plan: &Plan<'_, A>, shard: &Shard) {
        self.shard.openers = shard.openers.only(plan.payer.index());
        self.shard.destinations = shard.destinations.only(plan.payer.index());
        let opening = A::flows_mut(&mut self.shard).sessions.ledger_mut();
        opening.presume(plan.payer, A::flows(shard).sessions.ledger());
        let Some(limits) = plan.rule.and_then(|rule| rule.limits) else {
            return;
        };
        self.shard.rates = shard.rates.only((limits.rule, plan.payer));
        let (rule, opener) = (limits.rule, plan.opener());
        let used = A::flows(shard).sessions.connections().of(rule, opener);
        if used > 0 {
            let connections = A::flows_mut(&mut self.shard).sessions.connections_mut();
            connections.presume(rule, opener, used);
        }
    }

    /// The mapping that the plan's packet would get, or none if there is none to be had.
    fn take_port<A: Tracked>(&mut self, plan: &Plan<'_, A>, flows: &Flows<A>) {
        let (Some(wanted), Some(shared)) = (plan.wanted(), plan.snat) else {
            return;
        };
        if shared.snat.mapping == Mapping::EndpointDependent {
            return self.take_shared_port(&wanted, plan, flows);
        }
        let (external, protocol) = (wanted.external, wanted.protocol);
        let ports = &mut A::flows_mut(&mut self.shard).ports;
        match flows.ports.peek(&wanted) {
            Ok(port) => drop(ports.restore(external, protocol, wanted.inside, port, wanted.payer)),
            Err(NoPort::Exhausted) => ports.exhaust(external, protocol),
            Err(NoPort::Limited) => ports.limit(&wanted),
        }
    }
}

impl Small {
    /// The port that the plan's packet would share, or none, and how many have one towards where it goes.
    fn take_shared_port<A: Tracked>(
        &mut self,
        wanted: &Wanted<A>,
        plan: &Plan<'_, A>,
        flows: &Flows<A>,
    ) {
        let leaves = Flow {
            source: wanted.external,
            ..plan.to
        };
        let Flows { sessions, ports } = A::flows_mut(&mut self.shard);
        let there = Subject::destination(&leaves);
        for subject in [there, there.of_payer(wanted.payer.index())] {
            sessions.assume(subject, flows.sessions.shared_by(&subject));
        }
        match flows.peek(wanted, Mapping::EndpointDependent, &plan.to) {
            Ok(port) => ports.leave_only(wanted.external, wanted.protocol, port),
            Err(_) => ports.exhaust(wanted.external, wanted.protocol),
        }
    }
}

/// The datagram alone that a fragment is one of, for trying things out; and the fragment with the flow
/// of its datagram, if that is known. `None`: it is no fragment.
fn datagram<A: Tracked>(
    frame: &Frame<'_>,
    packet: &packet::Packet<A>,
    arrival: Arrival<'_>,
    (snapshot, shard): (&Snapshot, &Shard),
) -> Option<(Fragments, Option<packet::Packet<A>>)> {
    if packet.part == packet::Part::Whole {
        return None;
    }
    let piece = A::piece(frame, packet).ok()?;
    let key = fragments::key(packet, &piece, arrival);
    let place = (arrival.interface, Some(arrival.port));
    let (payer, _) = payer(snapshot, place, packet.flow.source.into());
    let datagram = shard.fragments.find(&key);
    let datagram = datagram.and_then(|number| shard.fragments.get(number));
    let followed = match datagram.map(|datagram| datagram.fate) {
        Some(Fate::Follows { protocol, ports }) => {
            Some(fragments::following(packet, protocol, ports))
        }
        _ => A::parse_first(frame, packet)
            .ok()
            .filter(|_| piece.is_first()),
    };
    Some((shard.fragments.only(&key, payer), followed))
}
