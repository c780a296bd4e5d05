//! What there is: ports, personalities, networks, guests.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::net::IpAddr;

use super::super::links::{Links, SHARED};
use super::super::names::Names;
use super::super::policy::short;
use super::quote::{change, quote};
use super::toml::{inline, key, list, one_or_more, quoted};

/// `[ports]`, `[personalities]` and `[networks]`.
pub(super) fn interfaces(out: &mut String, links: &Links, ports: &mut Names) {
    out.push_str("\n[ports]\n");
    let uplinks = links.personalities.iter().map(|p| &p.nic);
    let inside = links.networks.iter().flat_map(|n| &n.ports);
    let mut seen = BTreeSet::new();
    for device in uplinks.chain(inside) {
        if seen.insert(device) {
            let mut fields = vec![("device", quoted(device))];
            if let Some(mtu) = links.mtus.get(device) {
                fields.push(("mtu", mtu.to_string()));
            }
            let _ = writeln!(out, "{} = {}", key(&ports.of(device)), inline(&fields));
        }
    }
    out.push_str("\n[personalities]\n");
    for p in &links.personalities {
        change(out, &p.changes);
        let mut fields = vec![
            ("port", quoted(&ports.of(&p.nic))),
            ("mac", quoted(&p.mac)),
            (
                "addresses",
                list(p.addresses.iter().map(|net| quoted(&net.to_string()))),
            ),
        ];
        if let Some(vlan) = p.vlan {
            fields.push(("vlan", vlan.to_string()));
        }
        if !p.gateways.is_empty() {
            let gateways = p.gateways.iter().map(|g| quoted(&g.to_string()));
            fields.push(("gateway", one_or_more(gateways.collect())));
        }
        let reached = |gateway: &IpAddr| p.addresses.iter().any(|net| net.contains(gateway));
        if !p.gateways.iter().all(reached) {
            fields.push(("onlink", "true".to_owned()));
        }
        if p.shared {
            fields.push(("shared", quoted(SHARED)));
        }
        let _ = write!(out, "{} = {}", key(&p.name), inline(&fields));
        out.push_str(match p.shared {
            true => "    # the host's kernel keeps MAC, addresses and its other ports\n",
            false => "\n",
        });
    }
    out.push_str("\n[networks]\n");
    if links.networks.is_empty() {
        let why = "the rules name no device towards guests; --address br0=192.168.1.254/24 does";
        change(out, &[why.to_owned()]);
    }
    for n in &links.networks {
        change(out, &n.changes);
        let mut fields = vec![(
            "ports",
            list(n.ports.iter().map(|port| quoted(&ports.of(port)))),
        )];
        if let Some((nic, vlan)) = &n.bridged {
            fields.push(("bridged", quoted(&ports.of(nic))));
            fields.extend(vlan.map(|vlan| ("vlan", vlan.to_string())));
        }
        if !n.addresses.is_empty() || n.bridged.is_none() {
            let nets = n.addresses.iter().map(|net| quoted(&net.to_string()));
            fields.push(("addresses", list(nets)));
        }
        if let Some((by, alive)) = &n.proxy {
            let alive = list(alive.iter().map(|net| quoted(&short(net))));
            let proxy = [("personality", quoted(by)), ("alive", alive)];
            fields.push(("proxy", inline(&proxy)));
        }
        let _ = writeln!(out, "{} = {}", key(&n.name), inline(&fields));
    }
}

/// Which addresses are behind which port.
pub(super) fn guests(out: &mut String, links: &Links, ports: &mut Names) {
    if links.guests.is_empty() {
        return;
    }
    out.push_str("\n[guests]\n");
    for (port, guest) in &links.guests {
        for origin in &guest.origins {
            quote(out, "", origin);
        }
        let name = ports.of(port);
        let mut fields = vec![("port", quoted(&name))];
        if let Some(mac) = &guest.mac {
            fields.push(("mac", quoted(mac)));
        }
        for (key, nets) in [("addresses", &guest.addresses), ("public", &guest.public)] {
            if !nets.is_empty() {
                fields.push((key, list(nets.iter().map(|net| quoted(&short(net))))));
            }
        }
        if let Some(by) = &guest.personality {
            fields.push(("personality", quoted(by)));
        }
        let _ = writeln!(out, "{} = {}", key(&name), inline(&fields));
    }
}
