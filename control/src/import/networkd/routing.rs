//! `[Route]`, `[RoutingPolicyRule]` and `[Neighbor]`, in the words of `ip`.

use super::file::Section;
use super::values::is_on;
use crate::import::iproute;
use crate::import::system::{Inet, Neighbor, System};

/// Keys of `[RoutingPolicyRule]`, and the words of `ip rule` for them.
const RULE: [(&str, &str); 14] = [
    ("From", "from"),
    ("To", "to"),
    ("FirewallMark", "fwmark"),
    ("TypeOfService", "tos"),
    ("IncomingInterface", "iif"),
    ("OutgoingInterface", "oif"),
    ("IPProtocol", "ipproto"),
    ("SourcePort", "sport"),
    ("DestinationPort", "dport"),
    ("Table", "lookup"),
    ("Priority", "pref"),
    ("SuppressPrefixLength", "suppress_prefixlength"),
    ("GoTo", "goto"),
    ("User", "uidrange"),
];
/// Keys of `[Route]`, and the words of `ip route` for them.
const ROUTE: [(&str, &str); 9] = [
    ("Gateway", "via"),
    ("Source", "from"),
    ("Metric", "metric"),
    ("Table", "table"),
    ("PreferredSource", "src"),
    ("MTUBytes", "mtu"),
    ("TCPAdvertisedMaximumSegmentSize", "advmss"),
    ("Scope", "scope"),
    ("Protocol", "proto"),
];
/// A section's keys as words of `ip`.
fn words(section: &Section, names: &[(&str, &str)], own: &[&str]) -> Vec<String> {
    let mut words = Vec::new();
    for (key, value, _) in &section.keys {
        match names.iter().find(|(name, _)| name == key) {
            // Neither is part of where packets go.
            Some((_, "scope" | "proto")) => {}
            Some((_, word)) => words.extend([(*word).to_owned(), value.clone()]),
            None if own.contains(&key.as_str()) => {}
            None => words.push(format!("{key}={value}")),
        }
    }
    words
}

pub(super) fn route(system: &mut System, section: &Section, device: &str) -> Result<(), String> {
    let said = section.said();
    let own = [
        "Destination",
        "GatewayOnLink",
        "Gateway",
        "Type",
        "MultiPathRoute",
        "IPv6Preference",
        "InitialCongestionWindow",
        "InitialAdvertisedReceiveWindow",
        "QuickAck",
        "FastOpenNoCookie",
        "TTLPropagate",
        "HopLimit",
        "TCPCongestionControlAlgorithm",
        "TCPRetransmissionTimeoutSec",
    ];
    let kind = section.get("Type").filter(|kind| *kind != "unicast");
    let gateway = section
        .get("Gateway")
        .filter(|gateway| !gateway.starts_with('_'));
    if section
        .get("Gateway")
        .is_some_and(|gateway| gateway.starts_with('_'))
    {
        return Err("its gateway is handed out by DHCP or RA: --gateway says it".to_owned());
    }
    let family = match (section.get("Destination"), gateway) {
        (Some(to), _) if to.contains(':') => Inet::V6,
        (None, Some(via)) if via.contains(':') => Inet::V6,
        _ => Inet::V4,
    };
    let to = section.get("Destination").unwrap_or("default");
    let to = if ["0.0.0.0/0", "::/0"].contains(&to) {
        "default"
    } else {
        to
    };
    let mut all: Vec<String> = kind.into_iter().chain([to]).map(str::to_owned).collect();
    let names: Vec<(&str, &str)> = ROUTE
        .iter()
        .copied()
        .filter(|(key, _)| *key != "Gateway")
        .collect();
    all.extend(words(section, &names, &own));
    if let Some(via) = gateway {
        all.extend(["via".to_owned(), via.to_owned()]);
    }
    if kind.is_none() {
        all.extend(["dev".to_owned(), device.to_owned()]);
    }
    if section.get("GatewayOnLink").map_or(Ok(false), is_on)? {
        all.push("onlink".to_owned());
    }
    for (_, hop, _) in section
        .keys
        .iter()
        .filter(|(key, ..)| key == "MultiPathRoute")
    {
        // ADDRESS[@DEVICE] [WEIGHT]
        let (place, weight) = hop.split_once(' ').unwrap_or((hop, "1"));
        let (via, dev) = place.split_once('@').unwrap_or((place, device));
        all.extend(["nexthop", "via", via, "dev", dev, "weight", weight.trim()].map(str::to_owned));
    }
    system.routes.push(iproute::route(&all, family, &said)?);
    Ok(())
}

pub(super) fn rule(system: &mut System, section: &Section) -> Result<(), String> {
    let said = section.said();
    let own = ["Type", "InvertRule", "Family"];
    let mut all = words(section, &RULE, &own);
    if section.get("InvertRule").map_or(Ok(false), is_on)? {
        all.insert(0, "not".to_owned());
    }
    if let Some(kind) = section.get("Type").filter(|kind| *kind != "table") {
        all.push(kind.to_owned());
    }
    let families: &[Inet] = match section.get("Family") {
        Some("both") => &[Inet::V4, Inet::V6],
        Some("ipv6") => &[Inet::V6],
        _ => &[Inet::V4],
    };
    for family in families {
        let rule = iproute::rule(
            &all,
            Some(*family),
            |family| system.next_priority(family),
            &said,
        )?;
        // Each interface may say the same.
        let twice = system.rules.iter().any(|known| {
            let mut like = known.clone();
            like.origin = rule.origin.clone();
            like == rule
        });
        if !twice {
            system.rules.push(rule);
        }
    }
    Ok(())
}

pub(super) fn neighbor(system: &mut System, section: &Section, device: &str) -> Result<(), String> {
    let own = ["Address", "LinkLayerAddress"];
    if let Some((key, ..)) = section
        .keys
        .iter()
        .find(|(key, ..)| !own.contains(&key.as_str()))
    {
        return Err(format!("its option {key} is not read"));
    }
    let text = section.get("Address").unwrap_or_default();
    system.neighbors.push(Neighbor {
        address: text
            .parse()
            .map_err(|_| format!("{text} is not an address"))?,
        device: device.to_owned(),
        mac: section.get("LinkLayerAddress").map(str::to_ascii_lowercase),
        fixed: true,
        origin: section.said(),
    });
    Ok(())
}
