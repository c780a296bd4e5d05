//! `ipset save`: sets that iptables' rules name.

use std::collections::BTreeMap;

use ipnet::IpNet;

use super::matching;

/// Sets by name; an error says why one cannot be used.
pub(super) type Sets = BTreeMap<String, Result<Vec<IpNet>, String>>;

/// Whether a file is one of these.
pub(super) fn is(text: &str) -> bool {
    let mut lines = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.next().is_some_and(|line| line.starts_with("create "))
}

/// Reads one.
pub(super) fn read(text: &str, sets: &mut Sets) {
    for line in text.lines() {
        let mut words = line.split_whitespace();
        match (words.next(), words.next(), words.next()) {
            (Some("create"), Some(name), Some(kind)) => {
                let plain = ["hash:ip", "hash:net", "bitmap:ip"].contains(&kind);
                let contents = match plain {
                    true => Ok(Vec::new()),
                    false => Err(format!(
                        "the set {name} is of the type {kind}; a set has addresses and prefixes alone"
                    )),
                };
                sets.insert(name.to_owned(), contents);
            }
            (Some("add"), Some(name), Some(member)) => {
                let Some(Ok(nets)) = sets.get_mut(name) else {
                    continue;
                };
                match (net_or_range(member), words.any(|word| word == "nomatch")) {
                    (Some(more), false) => nets.extend(more),
                    _ => {
                        let why = format!(
                            "the set {name} has the member {member}, which is no plain address or prefix"
                        );
                        sets.insert(name.to_owned(), Err(why));
                    }
                }
            }
            _ => {}
        }
    }
}

/// An address, a prefix or a range, as prefixes.
pub(super) fn net_or_range(text: &str) -> Option<Vec<IpNet>> {
    if let Some((first, last)) = text.split_once('-') {
        return matching::range(first.trim().parse().ok()?, last.trim().parse().ok()?);
    }
    net(text).map(|net| vec![net])
}

/// An address or a prefix; the mask may be written as an address.
pub(super) fn net(text: &str) -> Option<IpNet> {
    if let Some((address, mask)) = text.split_once('/')
        && mask.contains('.')
    {
        return IpNet::with_netmask(address.parse().ok()?, mask.parse().ok()?).ok();
    }
    text.parse()
        .ok()
        .or_else(|| text.parse::<std::net::IpAddr>().ok().map(IpNet::from))
}
