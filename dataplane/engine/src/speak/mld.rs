//! Multicast listener: answering queriers and reporting the groups we belong to (RFC 3810, RFC 2710).

use std::net::{IpAddr, Ipv6Addr};

use crate::base::checksum;
use crate::base::drops::DropReason;
use crate::model::trace::Trace;
use crate::state::context::Context;
use crate::state::egress;
use crate::state::memberships::{RECORDS, Report};
use crate::wire::frame::{Frame, Link, OwnedFrame, Verdict};
use crate::wire::mld::{
    ALL_ROUTERS, ALL_V2_ROUTERS, DONE_V1, REPORT_V1, Record, frame, message, message_v1,
    response_ms,
};
use crate::wire::nd::multicast_mac;
use crate::wire::packet::{Family, Packet};

/// A querier asks who listens (RFC 3810 §6.2, RFC 2710 §4; M02).
pub(crate) fn query<T: Trace>(
    ctx: &mut Context<'_, T>,
    frame: &Frame<'_>,
    packet: &Packet<Ipv6Addr>,
    link: Link,
) -> Result<Verdict, DropReason> {
    let body = &frame.bytes[packet.l4..packet.end];
    let sum = checksum::sum(body, Ipv6Addr::icmp_sum(packet));
    let from_link = packet.flow.source.is_unicast_link_local() && packet.ttl == 1;
    let right = body.len() == 24 || body.len() >= 28;
    if !from_link || !right || body[1] != 0 || checksum::fold(sum) != 0xffff {
        return Err(DropReason::MldMalformed);
    }
    let version_1 = body.len() == 24;
    let code = u16::from_be_bytes([body[4], body[5]]);
    let longest = match version_1 {
        true => u64::from(code),
        false => response_ms(code),
    };
    let group = body[8..]
        .first_chunk::<16>()
        .map_or(Ipv6Addr::UNSPECIFIED, |octets| Ipv6Addr::from(*octets));
    let mut answered = false;
    for interface in ctx.snapshot.on_port(link.port, link.vlan) {
        let (memberships, how) = (&mut ctx.router.memberships, (longest, version_1));
        answered |= if interface.personality {
            memberships.queried(interface.id, group, how, ctx.now)
        } else {
            let place = (interface.id, link.port);
            memberships.queried_by_guest(place, group, how, ctx.now)?
        };
    }
    if answered {
        ctx.shard.counters.mld_queries_answered += 1;
    }
    Ok(Verdict::Consumed)
}

/// Sends the next reports that are due. Whether there were any.
pub(crate) fn poll<T: Trace>(ctx: &mut Context<'_, T>) -> bool {
    let Some(due) = ctx.router.memberships.poll(ctx.now) else {
        return false;
    };
    let Some(interface) = ctx.snapshot.interface(due.interface) else {
        return true;
    };
    // RFC 3810 §5.2.13: :: before there is a link-local address (RFC 3590).
    let claims = &ctx.router.claims;
    let ours = |address: &Ipv6Addr| claims.is_ours(interface.id, IpAddr::V6(*address));
    let source = interface.link_local.filter(ours);
    let ports = match &due.port {
        None => interface.ports.as_slice(),
        // It may have left the network since it asked.
        Some(port) if interface.ports.contains(port) => std::slice::from_ref(port),
        Some(_) => return true,
    };
    for (to, frame) in frames(&due, source.unwrap_or(Ipv6Addr::UNSPECIFIED)) {
        ctx.shard.counters.mld_reports_sent += 1;
        egress::flood(ctx, &frame, interface, (multicast_mac(to), ports));
    }
    true
}

/// The frames of a report, each with the group it is sent to.
fn frames(report: &Report, source: Ipv6Addr) -> Vec<(Ipv6Addr, OwnedFrame)> {
    if report.version_1 {
        let (kind, to) = match report.record {
            Record::ToInclude => (DONE_V1, Some(ALL_ROUTERS)),
            _ => (REPORT_V1, None),
        };
        let each = |group: &Ipv6Addr| {
            let to = to.unwrap_or(*group);
            (to, frame(source, to, &message_v1(kind, *group)))
        };
        return report.groups.iter().map(each).collect();
    }
    let each = |groups: &[Ipv6Addr]| {
        let message = message(report.record, groups);
        (ALL_V2_ROUTERS, frame(source, ALL_V2_ROUTERS, &message))
    };
    report.groups.chunks(RECORDS).map(each).collect()
}
