//! What other firewalls can say and this policy can not (yet): in one place, so that who gives it
//! another word finds what to take out here.

/// Beyond a rule's `rate` flows are refused, and not asked about by the next one; and each guest has its own.
const RATE: &str = "`rate` of a rule counts each guest by itself, and what is beyond is dropped: write it where it is accepted";
const CONNECTIONS: &str = "`connections` of a rule counts each guest by itself, and what is beyond is dropped: write it where it is accepted";
const LOG: &str = "write `log = true` at the rule that decides about these";

const MARK: &str = "write `mark` at the rule that accepts these";

/// Targets that write into the log.
pub(super) const LOGS: &[&str] = &["LOG", "NFLOG", "ULOG"];

/// iptables' matches, by the name after `-m`, and why there is none here.
pub(super) const MATCHES: &[(&str, &str)] = &[
    ("limit", RATE),
    ("hashlimit", RATE),
    ("ct count", CONNECTIONS),
    ("connlimit", CONNECTIONS),
    ("mark", "a rule does not ask for a mark"),
    ("connmark", "a rule does not ask for a mark"),
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
    ("LOG", LOG),
    ("NFLOG", LOG),
    ("ULOG", LOG),
    ("MARK", MARK),
    ("CONNMARK", MARK),
    ("CT", "there are no application helpers, and all is tracked"),
    ("TCPMSS", "write `clamp_mss = true` at the personality"),
    ("TOS", "the traffic class is not changed"),
    ("DSCP", "the traffic class is not changed"),
    ("TTL", "the TTL is only counted down"),
    ("CLASSIFY", "there are no queues"),
    ("NFQUEUE", "no other program is asked"),
    ("QUEUE", "no other program is asked"),
    ("NOTRACK", "all is tracked"),
    ("NETMAP", "write `one_to_one` of the two prefixes"),
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
