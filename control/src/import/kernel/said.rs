//! Objects of `ip -j`, as `ip` prints them without `-j`.

use std::fmt::Write;
use std::net::IpAddr;

use serde_json::Value;

/// A value as one word.
fn word(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// What a rule's keys are called where the name is another, and what does not belong to its words.
const RULE: [(&str, &str); 5] = [
    ("suppress_prefixlen", "suppress_prefixlength"),
    ("table", "lookup"),
    ("dst", "to"),
    ("iif_detached", "[detached]"),
    ("oif_detached", "[detached]"),
];

/// The order in which `ip` prints a rule's keys.
const RULE_ORDER: [&str; 13] = [
    "tos",
    "dscp",
    "fwmark",
    "iif",
    "iif_detached",
    "oif",
    "oif_detached",
    "ipproto",
    "sport",
    "sport_start",
    "dport",
    "dport_start",
    "table",
];
/// The same of a route.
const ROUTE_ORDER: [&str; 6] = ["table", "protocol", "scope", "prefsrc", "metric", "metrics"];

/// An object's keys, those that are named first.
fn ordered<'o>(object: &'o Value, order: &[&str]) -> Vec<(&'o String, &'o Value)> {
    let mut all: Vec<_> = object.as_object().into_iter().flatten().collect();
    let place = |key: &String| order.iter().position(|known| known == key);
    all.sort_by_key(|(key, _)| place(key).unwrap_or(order.len()));
    all
}

/// `100: from 10.0.1.0/24 iif br0 lookup 101`.
pub(super) fn rule(object: &Value) -> String {
    let get = |key: &str| object.get(key).map(word);
    let mut out = format!("{}:", get("priority").unwrap_or_else(|| "0".to_owned()));
    if object.get("not").is_some() {
        out.push_str(" not");
    }
    let ends = |key: &str, length: &str| {
        let net = get(key)?;
        Some(match get(length) {
            Some(length) => format!("{net}/{length}"),
            None => net,
        })
    };
    let _ = write!(
        out,
        " from {}",
        ends("src", "srclen").unwrap_or_else(|| "all".to_owned())
    );
    if let Some(to) = ends("dst", "dstlen") {
        let _ = write!(out, " to {to}");
    }
    for (key, value) in ordered(object, &RULE_ORDER) {
        let name = RULE.iter().find(|(known, _)| known == key);
        let name = name.map_or(key.as_str(), |(_, name)| name);
        let pair = |end: &str| format!("{}-{}", word(value), get(end).unwrap_or_default());
        let _ = match key.as_str() {
            "priority" | "not" | "src" | "srclen" | "dst" | "dstlen" | "fwmask" | "protocol" => {
                Ok(())
            }
            "fwmark" => match get("fwmask") {
                Some(mask) => write!(out, " fwmark {}/{mask}", word(value)),
                None => write!(out, " fwmark {}", word(value)),
            },
            "sport_start" => write!(out, " sport {}", pair("sport_end")),
            "dport_start" => write!(out, " dport {}", pair("dport_end")),
            "uid_start" => write!(out, " uidrange {}", pair("uid_end")),
            "sport_end" | "dport_end" | "uid_end" => Ok(()),
            "action" => write!(out, " {}", word(value)),
            _ if value.is_null() => write!(out, " {name}"),
            _ => write!(out, " {name} {}", word(value)),
        };
    }
    out
}

/// `default via 192.0.2.1 dev A table 101 onlink`.
pub(super) fn route(object: &Value) -> String {
    let mut out = match object.get("type").map(word) {
        Some(kind) if kind != "unicast" => format!("{kind} "),
        _ => String::new(),
    };
    out.push_str(&object.get("dst").map(word).unwrap_or_default());
    hop(&mut out, object);
    for (key, value) in ordered(object, &ROUTE_ORDER) {
        let _ = match key.as_str() {
            "type" | "dst" | "gateway" | "via" | "dev" | "weight" | "flags" | "nexthops" => Ok(()),
            "metrics" => {
                let all = value.as_array().into_iter().flatten();
                for (name, value) in all.filter_map(Value::as_object).flatten() {
                    let _ = write!(out, " {name} {}", word(value));
                }
                Ok(())
            }
            "protocol" => write!(out, " proto {}", word(value)),
            "prefsrc" => write!(out, " src {}", word(value)),
            _ if value.is_null() => write!(out, " {key}"),
            _ => write!(out, " {key} {}", word(value)),
        };
    }
    flags(&mut out, object);
    for next in object
        .get("nexthops")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        out.push_str(" nexthop");
        hop(&mut out, next);
        if let Some(weight) = next.get("weight") {
            let _ = write!(out, " weight {}", word(weight));
        }
        flags(&mut out, next);
    }
    out
}

fn hop(out: &mut String, object: &Value) {
    if let Some(via) = object.get("via").and_then(Value::as_object) {
        let get = |key: &str| via.get(key).map(word).unwrap_or_default();
        let _ = write!(out, " via {} {}", get("family"), get("host"));
    }
    for (key, name) in [("gateway", "via"), ("dev", "dev")] {
        if let Some(value) = object.get(key) {
            let _ = write!(out, " {name} {}", word(value));
        }
    }
}

fn flags(out: &mut String, object: &Value) {
    for flag in object
        .get("flags")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        let _ = write!(out, " {}", word(flag));
    }
}

/// `192.0.2.7 dev br0 lladdr 02:00:00:00:00:07`.
pub(super) fn neighbor(object: &Value) -> String {
    let mut out = object.get("dst").map(word).unwrap_or_default();
    for key in ["dev", "lladdr"] {
        if let Some(value) = object.get(key) {
            let _ = write!(out, " {key} {}", word(value));
        }
    }
    if object.get("proxy").is_some() {
        out.push_str(" proxy");
    }
    out
}

/// `A@eth0 macvlan 02:00:00:00:00:aa`.
pub(super) fn link(object: &Value) -> String {
    let get = |pointer: &str| object.pointer(pointer).map(word);
    let mut out = get("/ifname").unwrap_or_default();
    if let Some(lower) = get("/link") {
        let _ = write!(out, "@{lower}");
    }
    for pointer in ["/linkinfo/info_kind", "/address"] {
        if let Some(value) = get(pointer) {
            let _ = write!(out, " {value}");
        }
    }
    if let Some(master) = get("/master") {
        let _ = write!(out, " master {master}");
    }
    out
}

/// `inet 10.0.1.254/24 dev br0`.
pub(super) fn address(object: &Value, device: &str) -> String {
    let get = |key: &str| object.get(key).map(word).unwrap_or_default();
    let peer = match object.get("address") {
        Some(peer) => format!(" peer {}", word(peer)),
        None => String::new(),
    };
    format!(
        "{} {}{peer}/{} dev {device}",
        get("family"),
        get("local"),
        get("prefixlen")
    )
}

/// Whether an address ends as one does that is made of a MAC, this one or a former one (RFC 4291 appendix A).
pub(super) fn is_of_a_mac(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.octets()[11..13] == [0xff, 0xfe])
}
