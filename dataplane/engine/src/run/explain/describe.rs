//! Decisions in words.

use serde::{Deserialize, Serialize};

use crate::base::addr::{GuestId, InterfaceId};
use crate::config::condition::Condition;
use crate::config::policy::{Action, Facing, Origin};
use crate::model::policy::{Mismatch, Ruling};
use crate::model::snapshot::Snapshot;
use crate::model::tables::NoWay;
use crate::model::trace::{Ends, Leasing, Piecing, Step, Violation, Whose};
use crate::wire::flow::Direction;

/// Rules that were passed over, listed one by one.
const LISTED: usize = 10;

/// One decision about a packet, as it is printed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// The stage that decided: `interface`, `session`, `rule`, `table`, `route`, `ttl`, `mtu`,
    /// `nat`, `neighbor`, `egress`, …
    pub stage: String,
    /// What was decided and what it was decided on, in one line.
    pub detail: String,
}

/// A decision in words, with the names that `snapshot` has for things.
pub fn describe(step: &Step, snapshot: &Snapshot) -> Line {
    Line {
        stage: stage(step).to_owned(),
        detail: detail(step, snapshot),
    }
}

fn stage(step: &Step) -> &'static str {
    match step {
        Step::Interface { .. } => "interface",
        Step::Session { .. } | Step::FirstPacket | Step::QuotesSession => "session",
        Step::Fragment { .. } | Step::Reassembled { .. } => "fragment",
        Step::Violation(_) => "source",
        Step::Local { .. } => "local",
        Step::Policy { .. } => "policy",
        Step::Redirect { .. }
        | Step::OneToOne { .. }
        | Step::Snat { .. }
        | Step::LetIn { .. }
        | Step::Filtered { .. }
        | Step::NoTranslation => "nat",
        Step::Source { .. } => "source",
        Step::Marked { .. }
        | Step::Rule { .. }
        | Step::RuleGoesOn { .. }
        | Step::RuleEnds { .. }
        | Step::NoRule { .. } => "rule",
        Step::NoRoute { .. } => "table",
        Step::RouteToGuest { .. }
        | Step::Route { .. }
        | Step::Throw { .. }
        | Step::NextHopDown { .. }
        | Step::LastResort { .. }
        | Step::AnswersBy { .. }
        | Step::RouteEnds { .. } => "route",
        Step::Ttl { .. } => "ttl",
        Step::Mss { .. } => "mss",
        Step::TooBig { .. } | Step::Cut { .. } => "mtu",
        Step::NextHopIsGuest { .. } | Step::NextHop { .. } | Step::NextHopAsked { .. } => {
            "neighbor"
        }
        Step::Rewrite { .. } => "rewrite",
        Step::Guarded { .. } | Step::Out { .. } => "egress",
        Step::Bridged { .. } | Step::Flooded { .. } => "bridge",
        Step::Told { .. } => "icmp",
        Step::AskedForGuest { .. } | Step::TakesOver { .. } => "owner",
        Step::AskedForGateway { .. } => "gateway",
        Step::ArpAnswered { .. } => "arp",
        Step::NdAnswered { .. } => "nd",
        Step::RouterSolicited { .. } => "ra",
        Step::Dhcp { .. } => "dhcp",
        Step::Dhcp6 { .. } => "dhcp6",
        Step::Metadata { .. } => "metadata",
        Step::Dropped(_) => "drop",
    }
}

fn detail(step: &Step, snapshot: &Snapshot) -> String {
    let interface = |id| snapshot.interface_name(id);
    let port = |id| snapshot.port_name(id);
    let table = |place| snapshot.table_name(place);
    let guest = |id: GuestId| &snapshot.owners().guest(id).name;
    match step {
        Step::Interface {
            interface: id,
            port: at,
            mac,
        } => match snapshot.interface(*id).and_then(|i| i.bridge) {
            Some(_) => format!(
                "bridged to {mac}, from port {} of {}",
                port(*at),
                interface(*id)
            ),
            None => format!("{mac} on port {} is {}", port(*at), interface(*id)),
        },
        Step::Session { direction, state } => {
            let direction = match direction {
                Direction::Forward => "forward",
                Direction::Reply => "reply",
            };
            format!("{direction} of a session that is {state}")
        }
        Step::FirstPacket => "none: a first packet".to_owned(),
        Step::Fragment {
            identification,
            start,
            what,
        } => format!(
            "of datagram {identification:#06x}, at byte {start}: {}",
            piecing(*what)
        ),
        Step::Reassembled { length } => {
            format!("all fragments are there: a packet of {length} bytes")
        }
        Step::QuotesSession => "quotes a packet of a session".to_owned(),
        Step::Violation(violation) => forbidden(violation, snapshot),
        Step::Local {
            destination,
            interface: id,
        } => format!("{destination} is {}'s own address", interface(*id)),
        Step::Redirect { from, to } => {
            format!(
                "nat.forward redirects {}:{} to {}:{}",
                from.0, from.1, to.0, to.1
            )
        }
        Step::Policy {
            decided,
            allowed,
            passed_over,
        } => policy(decided.as_ref(), *allowed, passed_over, snapshot),
        Step::OneToOne { from, to } => format!("nat.one_to_one has {to} for {from}"),
        Step::Snat {
            index,
            from,
            to,
            block,
        } => {
            let ports = block.map_or_else(String::new, |block| format!(", ports {block}"));
            format!("nat.snat[{index}] translates {from} to {to}{ports}")
        }
        Step::LetIn {
            index,
            filtering,
            from,
            to,
        } => format!(
            "{}:{} uses {}:{}, and nat.snat[{index}] lets its sender in (filtering is {})",
            to.0,
            to.1,
            from.0,
            from.1,
            filtering.name()
        ),
        Step::Filtered {
            index,
            filtering,
            port,
            sender,
        } => format!(
            "a guest uses {}:{}, but nat.snat[{index}] does not let {sender} in (filtering is {})",
            port.0,
            port.1,
            filtering.name()
        ),
        Step::NoTranslation => "no translation".to_owned(),
        Step::Rule {
            priority,
            condition,
            table: place,
        } => {
            let terms = terms(condition, &interface);
            format!("{priority}: {terms} lookup {}", table(*place))
        }
        Step::Marked { mark } => format!("marked {mark:#x} by the policy: routed with that"),
        Step::RuleGoesOn {
            priority,
            condition,
            target,
        } => {
            let terms = terms(condition, &interface);
            let action = target.map_or("nop".to_owned(), |target| format!("goto {target}"));
            format!("{priority}: {terms} {action}")
        }
        Step::RuleEnds {
            priority,
            condition,
            action,
        } => {
            let terms = terms(condition, &interface);
            format!("{priority}: {terms} {}", action.name())
        }
        Step::NoRule { to } => format!("no rule leads to a route to {to}"),
        Step::NoRoute { to, table: place } => {
            format!("{}: no route to {to}; on to the next rule", table(*place))
        }
        Step::RouteToGuest { to, guest: id } => {
            let network = snapshot.owners().guest(*id).network;
            format!("{to} is guest {}'s, dev {}", guest(*id), interface(network))
        }
        Step::Route {
            prefix,
            metric,
            via,
            interface: id,
            table: place,
        } => {
            let via = via.map_or_else(String::new, |via| format!(" via {via}"));
            let metric = match metric {
                0 => String::new(),
                metric => format!(" metric {metric}"),
            };
            let (dev, table) = (interface(*id), table(*place));
            format!("{prefix}{via} dev {dev}{metric} in table {table}")
        }
        Step::Throw {
            prefix,
            table: place,
        } => format!(
            "throw {prefix} in table {}; on to the next rule",
            table(*place)
        ),
        Step::RouteEnds {
            end,
            prefix,
            table: place,
        } => format!("{} {prefix} in table {}", ended(*end), table(*place)),
        Step::Source { address } => address.to_string(),
        Step::AnswersBy {
            interface: id,
            next_hop,
        } => format!(
            "answers leave by {}, to which this came: next hop {next_hop}",
            interface(*id)
        ),
        Step::NextHopDown {
            interface: id,
            next_hop,
            outage,
        } => format!(
            "{next_hop} on {} is out of use: {}; on to the next route",
            interface(*id),
            outage.name()
        ),
        Step::LastResort { outage } => format!(
            "nothing else leads there: what is out of use (\"{}\") is tried all the same",
            outage.name()
        ),
        Step::Ttl { before } => format!("{before} becomes {}", before - 1),
        Step::Mss { before, after } => format!("{before} becomes {after}"),
        Step::TooBig {
            length,
            interface: id,
            mtu,
        } => {
            let own = snapshot.interface(*id).map(|interface| interface.mtu);
            let whose = if own == Some(*mtu) {
                ""
            } else {
                "the route by "
            };
            format!(
                "{length} bytes that may not be fragmented exceed {whose}{}'s MTU of {mtu}",
                interface(*id)
            )
        }
        Step::Cut { fragments, mtu } => {
            format!("cut into {fragments} fragments of at most {mtu} bytes")
        }
        Step::NextHopIsGuest { guest: id, mac } => format!("guest {} is {mac}", guest(*id)),
        Step::NextHop {
            address,
            interface: id,
            mac,
        } => format!("{address} on {} is {mac}", interface(*id)),
        Step::NextHopAsked {
            address,
            interface: id,
        } => format!(
            "{address} on {} is not resolved: asking for it, the packet waits",
            interface(*id)
        ),
        Step::Rewrite { from, to } => format!("{} becomes {}", ends(from), ends(to)),
        Step::Guarded {
            source: Some(source),
            interface: id,
        } => format!(
            "{source} is not an address of {}, and nothing translates it",
            interface(*id)
        ),
        Step::Guarded {
            source: None,
            interface: id,
        } => format!(
            "the source address is not one of {}'s: the egress guard drops it",
            interface(*id)
        ),
        Step::Out {
            port: at,
            interface: id,
            to,
        } => {
            let mac = snapshot.interface(*id).map(|interface| interface.mac);
            let (at, name) = (port(*at), interface(*id));
            format!(
                "out on {at} as {name} from {} to {to}",
                mac.unwrap_or_default()
            )
        }
        Step::Bridged { port: at, to } => {
            format!("passes as it is to {to}, out on {}", port(*at))
        }
        Step::Flooded { ports } => format!("{ports} ports of the segment hear it"),
        Step::Told { sender, kind, code } => format!("{sender} is told: type {kind} code {code}"),
        Step::AskedForGuest { target, guest: id } => {
            let at = port(snapshot.owners().guest(*id).port);
            format!("{target} is guest {}'s, behind port {at}", guest(*id))
        }
        Step::AskedForGateway { target } => {
            format!("the way to {target}, a provider's router, is by us")
        }
        Step::TakesOver { address, guest: id } => {
            format!("{address} is guest {}'s now, which says so", guest(*id))
        }
        Step::ArpAnswered {
            sender,
            target,
            whose,
        }
        | Step::NdAnswered {
            sender,
            target,
            whose,
        } => {
            let whose = match whose {
                Whose::Ours => "ours",
                Whose::Anothers => "another's",
            };
            format!("{sender} asks for {target}, which is {whose}")
        }
        Step::RouterSolicited {
            asker,
            interface: id,
        } => match asker {
            Some(asker) => format!(
                "{asker} will be told that {} is its gateway",
                interface(*id)
            ),
            None => format!("all will be told that {} is their gateway", interface(*id)),
        },
        Step::Dhcp {
            guest: id,
            what,
            address,
        } => leasing(guest(*id), *what, address),
        Step::Dhcp6 { asker, lease } => match lease {
            Some((id, address)) => format!("guest {} has {address}", guest(*id)),
            None => format!("{asker} is told what is not its address"),
        },
        Step::Metadata { guest: id } => {
            format!("the metadata service takes it, as guest {}'s", guest(*id))
        }
        Step::Dropped(reason) => format!("{}: {}", reason.name(), reason.explanation()),
    }
}

fn policy(
    decided: Option<&Ruling>,
    allowed: bool,
    passed_over: &[(Origin, Mismatch)],
    snapshot: &Snapshot,
) -> String {
    let verdict = match decided {
        Some(ruling) => ruled(ruling, snapshot),
        None if allowed => "no rule says anything: it may pass".to_owned(),
        None => {
            "no rule joins the two networks: inside addresses are their own network's".to_owned()
        }
    };
    if passed_over.is_empty() {
        return verdict;
    }
    let one = |(rule, by): &(Origin, Mismatch)| {
        let by = match by {
            Mismatch::Source => "another source",
            Mismatch::Destination => "another destination",
            Mismatch::Service => "another protocol, port or type",
            Mismatch::SourcePort => "another source port",
        };
        format!("{} ({by})", snapshot.rule_name(*rule))
    };
    let mut listed: Vec<String> = passed_over.iter().take(LISTED).map(one).collect();
    if passed_over.len() > LISTED {
        listed.push(format!("{} more", passed_over.len() - LISTED));
    }
    format!("{verdict}; passed over: {}", listed.join(", "))
}

/// What a rule does with a packet, and what goes with that.
fn ruled(ruling: &Ruling, snapshot: &Snapshot) -> String {
    match ruling.origin {
        Origin::Closed(Facing::In) => return "its groups do not let it in".to_owned(),
        Origin::Closed(Facing::Out) => return "its sender's groups do not let it out".to_owned(),
        _ => {}
    }
    let (origin, mark) = (snapshot.rule_name(ruling.origin), ruling.mark);
    let mut text = match ruling.action {
        Action::Accept => format!("{origin} lets it pass"),
        Action::Drop => format!("{origin} drops it"),
        Action::Reject => format!("{origin} rejects it"),
    };
    if ruling.log {
        text += ", into the log";
    }
    if mark != 0 {
        text += &format!(", with mark {mark}");
    }
    if let Some(rate) = ruling.limits.and_then(|limits| limits.rate) {
        text += &format!(", up to {rate} flows a second");
    }
    if let Some(connections) = ruling.limits.and_then(|limits| limits.connections) {
        text += &format!(", up to {connections} sessions at a time");
    }
    text
}

fn piecing(what: Piecing) -> &'static str {
    match what {
        Piecing::First => "the first, which decides for all",
        Piecing::Follows => "goes where the first went",
        Piecing::Waits => "waits for the first, or for the rest",
        Piecing::Refused => "its datagram was refused",
    }
}

fn forbidden(violation: &Violation, snapshot: &Snapshot) -> String {
    match violation {
        Violation::Mac(mac) => format!("{mac} is not the MAC of a guest on that port"),
        Violation::Address(address) => {
            format!("{address} does not belong to a guest on that port")
        }
        Violation::Elsewhere(address, port) => {
            format!("{address} lives on port {}", snapshot.port_name(*port))
        }
        Violation::Gateway(address) => {
            format!("{address} is the network gateway's, whoever claims it")
        }
        Violation::Dhcp => "a guest must not answer DHCP".to_owned(),
        Violation::Router => "a guest must not advertise routes".to_owned(),
    }
}

fn leasing(guest: &str, what: Leasing, address: &std::net::IpAddr) -> String {
    match what {
        Leasing::Offered => format!("guest {guest} is offered {address}"),
        Leasing::Granted => format!("guest {guest} is told: {address} is its own"),
        Leasing::Refused => format!("guest {guest} is refused: it has {address}"),
        Leasing::Declined => format!("guest {guest} says {address} is in use"),
        Leasing::Released => format!("guest {guest} gives {address} back"),
    }
}

/// What a rule asks, as in `ip rule`.
fn terms<'s>(
    condition: &Condition<InterfaceId>,
    interface: &impl Fn(InterfaceId) -> &'s str,
) -> String {
    let terms = condition.terms(|id| interface(id).to_owned());
    let terms = terms.iter().map(|(key, value)| format!("{key} {value}"));
    Vec::from_iter(terms).join(" ")
}

fn ended(end: NoWay) -> &'static str {
    match end {
        NoWay::NoRoute => "no route",
        NoWay::RuleUnreachable | NoWay::RouteUnreachable => "unreachable",
        NoWay::Prohibited => "prohibit",
        NoWay::Blackhole => "blackhole",
    }
}

fn ends(ends: &Ends) -> String {
    let ((from, from_port), (to, to_port)) = (ends.source, ends.destination);
    format!("{from}:{from_port} > {to}:{to_port}")
}
