//! What the forwarding thread writes into the log.

use std::net::{IpAddr, SocketAddr};

use tapgate_engine::config::policy::Action;
use tapgate_engine::snapshot::Snapshot;
use tapgate_engine::state::claims::Notice;
use tapgate_engine::state::journal::Entry;
use tapgate_engine::state::nexthops;
use tapgate_engine::state::payer::Payer;
use tapgate_engine::state::refused::LimitMet;

/// Writes down what a rule with `log` did.
pub fn flow(entry: &Entry, snapshot: &Snapshot) {
    let action = match entry.action {
        Action::Accept => "accept",
        Action::Drop => "drop",
        Action::Reject => "reject",
    };
    let at = |(address, port)| SocketAddr::new(address, port);
    tracing::info!(
        rule = snapshot.rule_name(entry.rule),
        action,
        guest = entry.guest.map_or("-", |guest| snapshot.guest_name(guest)),
        interface = snapshot.interface_name(entry.interface),
        protocol = entry.protocol,
        from = %at(entry.source),
        to = %at(entry.destination),
        left_out = entry.left_out,
        "policy"
    );
}

/// Tells the operator that somebody else claims an address.
pub fn claim(notice: &Notice, snapshot: &Snapshot) {
    let Notice { address, mac, .. } = notice;
    let interface = snapshot.interface_name(notice.interface);
    if notice.given_up {
        tracing::error!(
            %address, %mac, interface,
            "somebody else has this address: not used; find the host with that MAC"
        );
    } else {
        tracing::warn!(
            %address, %mac, interface,
            "somebody else claims this address: defended; find the host with that MAC"
        );
    }
}

/// Tells the operator that a next hop came into use or went out of it.
pub fn next_hop(notice: &nexthops::Notice, snapshot: &Snapshot) {
    let (interface, next_hop) = notice.place;
    let interface = snapshot.interface_name(interface);
    match notice.down {
        Some(why) => tracing::warn!(
            %next_hop, interface, reason = why.name(),
            "next hop out of use: flows take another way while there is one; see `tapgate show routes`"
        ),
        None => tracing::info!(%next_hop, interface, "next hop in use again"),
    }
}

/// Tells the operator that a guest took over a virtual address.
pub fn moved(address: IpAddr, to: u16, before: &Snapshot) {
    let from = before.owners().owner(address).map(|guest| guest.number);
    if from == Some(to) {
        return;
    }
    let from = from.map_or("", |guest| before.guest_name(guest));
    let to = before.guest_name(to);
    tracing::info!(%address, from, to, "virtual address taken over");
}

/// Tells the operator that somebody has all that it may have, or no longer wants more.
pub fn limit(met: &LimitMet, snapshot: &Snapshot) {
    let LimitMet {
        payer,
        reason,
        packets,
        over,
    } = *met;
    let limit = reason.name();
    if over {
        let who = match payer {
            Payer::By(guest) | Payer::To(guest) => snapshot.guest_name(guest),
            Payer::Port(port) => snapshot.port_name(port),
            Payer::Nobody => "",
        };
        tracing::info!(who, limit, packets, "no longer at this limit");
        return;
    }
    match payer {
        Payer::By(guest) | Payer::To(guest) => {
            let guest = snapshot.guest_name(guest);
            tracing::warn!(
                guest,
                limit,
                packets,
                "a guest is at a limit; see `tapgate show guests`"
            );
        }
        Payer::Port(port) => {
            let port = snapshot.port_name(port);
            tracing::warn!(
                port,
                limit,
                packets,
                "what comes in by a port is at a limit"
            );
        }
        Payer::Nobody => tracing::warn!(limit, packets, "a limit is met"),
    }
}
