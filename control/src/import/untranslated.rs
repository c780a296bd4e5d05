//! What other firewalls can say and this policy can not (yet): in one place, so that who gives it
//! another word finds what to take out here.

/// iptables' matches, by the name after `-m`, and why there is none here.
pub(super) const MATCHES: &[(&str, &str)] = &[
    ("limit", "a rule has no rate"),
    ("hashlimit", "a rule has no rate"),
    ("connlimit", "a rule has no number of connections"),
    ("mark", "a rule has no mark"),
    ("connmark", "a rule has no mark"),
    ("recent", "a rule does not remember who came before"),
    (
        "mac",
        "a guest's MAC is written in [guests], and checked by itself",
    ),
    (
        "physdev",
        "write the guest or its port's network instead of a bridge's port",
    ),
    ("owner", "it is about the host's own processes"),
    ("time", "a rule does not know the time"),
    ("string", "a rule does not look into the payload"),
    ("u32", "a rule does not look into the payload"),
    ("bpf", "a rule does not look into the payload"),
    ("length", "a rule does not ask for the length"),
    ("ttl", "a rule does not ask for the TTL"),
    ("hl", "a rule does not ask for the hop limit"),
    ("dscp", "a rule does not ask for the traffic class"),
    ("tos", "a rule does not ask for the traffic class"),
    ("tcpmss", "a rule does not ask for the MSS"),
    ("statistic", "a rule does not decide by chance"),
    ("quota", "a rule does not count"),
    ("connbytes", "a rule does not count"),
    ("helper", "there are no application helpers"),
    ("policy", "there is no IPsec here"),
    (
        "rpfilter",
        "a port's `source` says which sources may be there",
    ),
    ("geoip", "write the prefixes as a set"),
];

/// iptables' targets and nft's statements that decide nothing, and why they are not here.
pub(super) const TARGETS: &[(&str, &str)] = &[
    (
        "LOG",
        "a rule does not log; `tapgate show drops` counts, `tapgate explain` tells",
    ),
    (
        "NFLOG",
        "a rule does not log; `tapgate show drops` counts, `tapgate explain` tells",
    ),
    (
        "ULOG",
        "a rule does not log; `tapgate show drops` counts, `tapgate explain` tells",
    ),
    ("MARK", "a rule sets no mark"),
    ("CONNMARK", "a rule sets no mark"),
    ("CT", "there are no application helpers, and all is tracked"),
    (
        "TCPMSS",
        "the MSS is not changed; give the port its `mtu`, and guests are told by ICMP",
    ),
    ("TOS", "the traffic class is not changed"),
    ("DSCP", "the traffic class is not changed"),
    ("TTL", "the TTL is only counted down"),
    ("CLASSIFY", "there are no queues"),
    ("NFQUEUE", "no other program is asked"),
    ("QUEUE", "no other program is asked"),
    ("NOTRACK", "all is tracked"),
    ("NETMAP", "write `one_to_one` for each address"),
    (
        "REDIRECT",
        "the host's own services are reached at the host's own ports, without tapgate",
    ),
    ("TPROXY", "there are no transparent proxies"),
    ("SET", "rules do not change sets"),
];

/// Targets without which a flow still takes the same way: leaving them out widens nothing.
pub(super) const HARMLESS: &[&str] = &[
    "LOG", "NFLOG", "ULOG", "MARK", "CONNMARK", "CT", "TCPMSS", "TOS", "DSCP", "TTL", "CLASSIFY",
    "NOTRACK", "SET",
];

/// Why a word has no counterpart here.
pub(super) fn why(table: &[(&str, &'static str)], word: &str) -> Option<&'static str> {
    let known = table.iter().find(|(name, _)| *name == word);
    known.map(|(_, why)| *why)
}
