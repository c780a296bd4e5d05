//! What `ip -j` says of a system.

use super::systems::{left_out, made_of};
use super::*;

/// An uplink, a bridge with two ports, a bond.
const ADDR: &str = r#"[
    {"ifname": "eth0", "link_type": "ether", "mtu": 1500, "address": "02:00:00:00:00:01",
     "addr_info": [{"family": "inet", "local": "198.51.100.7", "prefixlen": 24, "scope": "global"},
                   {"family": "inet6", "local": "2001:db8::7", "prefixlen": 64, "scope": "global"}]},
    {"ifname": "eth1", "link_type": "ether", "mtu": 1500, "master": "bond0", "addr_info": []},
    {"ifname": "eth2", "link_type": "ether", "mtu": 1500, "master": "bond0", "addr_info": []},
    {"ifname": "bond0", "link_type": "ether", "mtu": 1500, "linkinfo": {"info_kind": "bond"},
     "addr_info": [{"family": "inet", "local": "10.9.0.1", "prefixlen": 24, "scope": "global"}]},
    {"ifname": "br0", "link_type": "ether", "mtu": 1500, "linkinfo": {"info_kind": "bridge"},
     "addr_info": [{"family": "inet", "local": "10.1.0.1", "prefixlen": 24, "scope": "global"}]},
    {"ifname": "vm@1", "link_type": "ether", "mtu": 1500, "master": "br0", "addr_info": []},
    {"ifname": "vm+1", "link_type": "ether", "mtu": 1500, "master": "br0", "addr_info": []}]"#;
const DEFAULT: &str =
    r#"{"dst": "default", "gateway": "198.51.100.1", "dev": "eth0", "flags": []}"#;

fn saved(name: &str, files: &[(&str, &str)]) -> Result<Written, Failure> {
    let files = [&[("addr.json", ADDR)], files].concat();
    made_of(&format!("saved-{name}"), &files, kernel::read)
}

#[test]
fn routes_of_both_families_in_one_file_keep_their_own() {
    let v6 = r#"{"type": "blackhole", "dst": "default", "dev": "lo", "table": "9", "flags": [], "pref": "medium"},
        {"dst": "default", "dev": "eth0", "table": "8", "metric": 1024, "flags": [], "pref": "medium"}"#;
    let v4 = r#"{"type": "blackhole", "dst": "default", "dev": "lo", "table": "9", "flags": []}"#;
    let written = saved(
        "families",
        &[
            ("route.json", &format!("[{DEFAULT}, {v4}, {v6}]")),
            ("route6.json", &format!("[{v6}]")),
        ],
    )
    .unwrap();
    let count = |entry: &str| written.text.matches(entry).count();
    assert_eq!(count("{ to = \"default\", type = \"blackhole\" }"), 1);
    assert_eq!(count("{ to = \"::/0\", type = \"blackhole\" }"), 1);
    assert_eq!(count("{ to = \"::/0\", dev = \"eth0\" }"), 1);
    assert_eq!(count("{ to = \"default\""), 2, "{}", written.text);
    assert_eq!(written.faults, [""; 0]);
}

#[test]
fn a_bond_is_its_own_port_and_names_are_of_one_thing_each() {
    let tables = r#"{"dst": "default", "gateway": "198.51.100.9", "dev": "eth0", "table": "isp+a", "flags": []},
        {"dst": "default", "gateway": "198.51.100.8", "dev": "eth0", "table": "isp-a", "flags": []}"#;
    let written = saved(
        "ports",
        &[("route.json", &format!("[{DEFAULT}, {tables}]"))],
    )
    .unwrap();
    for entry in [
        "bond0 = { ports = [\"bond0\"]",
        "br0 = { ports = [\"vm-1\", \"vm-1-2\"]",
        "vm-1 = { device = \"vm@1\" }",
        "vm-1-2 = { device = \"vm+1\" }",
        "isp-a = [",
        "isp-a-2 = [",
    ] {
        assert!(written.text.contains(entry), "{entry}\n{}", written.text);
    }
    assert_eq!(written.faults, [""; 0]);
}

#[test]
fn what_is_in_a_vrf_is_listed() {
    let addr = ADDR.replace(
        "[\n    {\"ifname\": \"eth0\"",
        r#"[{"ifname": "vrf-a", "link_type": "ether", "linkinfo": {"info_kind": "vrf"}, "addr_info": []},
            {"ifname": "eth3", "link_type": "ether", "master": "vrf-a",
             "addr_info": [{"family": "inet", "local": "10.10.0.1", "prefixlen": 24, "scope": "global"}]},
            {"ifname": "eth0""#,
    );
    assert_ne!(addr, ADDR);
    let vrf = r#"{"dst": "default", "gateway": "10.10.0.254", "dev": "eth3", "table": "10", "flags": []}"#;
    let rules = r#"[{"priority": 0, "src": "all", "table": "local"},
        {"priority": 1000, "src": "all", "l3mdev": null},
        {"priority": 1001, "src": "all", "table": "[l3mdev-table]"},
        {"priority": 1002, "src": "all", "iif": "eth0", "table": "local"},
        {"priority": 32766, "src": "all", "table": "main"}]"#;
    let written = saved(
        "vrf",
        &[
            ("addr.json", &addr),
            ("route.json", &format!("[{DEFAULT}, {vrf}]")),
            ("rule.json", rules),
        ],
    )
    .unwrap();
    let entries = |line: &&str| line.contains("eth3") || line.contains("l3mdev");
    let entries: Vec<&str> = written.text.lines().filter(entries).collect();
    assert!(entries.iter().all(|line| line.starts_with('#')));
    assert!(!written.text.contains("lookup = "), "{}", written.text);
    let listed = |why: &str| left_out(&written, Fate::Missing, why).len();
    assert_eq!(listed("it is in the VRF vrf-a"), 1);
    assert_eq!(listed("no rule that asks their tables"), 2);
    assert_eq!(listed("own addresses come first in any case"), 1);
    assert_eq!(written.faults, [""; 0]);
}

#[test]
fn vlans_of_another_protocol_are_listed() {
    let of = |protocol: &str| {
        let vlan = format!(
            r#"[{{"ifname": "v7", "link": "eth0", "link_type": "ether",
                "linkinfo": {{"info_kind": "vlan", "info_data": {{"protocol": "{protocol}", "id": 7}}}},
                "addr_info": [{{"family": "inet", "local": "10.7.0.1", "prefixlen": 24}}]}},"#
        );
        let addr = ADDR.replacen('[', &vlan, 1);
        let route = format!("[{DEFAULT}]");
        let files = [("addr.json", &*addr), ("route.json", &*route)];
        let written = saved(&format!("tags-{protocol}"), &files).unwrap();
        left_out(&written, Fate::Missing, "no 802.1ad VLAN devices").len()
    };
    assert_eq!((of("802.1Q"), of("802.1ad")), (0, 1));
}

#[test]
fn what_the_kernel_asks_second_or_never_is_listed() {
    let twice = r#"{"dst": "10.3.0.0/16", "gateway": "198.51.100.2", "dev": "eth0", "metric": 50, "flags": []},
        {"dst": "10.3.0.0/16", "gateway": "198.51.100.3", "dev": "eth0", "metric": 50, "flags": []},
        {"dst": "10.3.0.0/16", "gateway": "198.51.100.4", "dev": "eth0", "metric": 60, "flags": [],
         "metrics": [{"congestion": "cubic", "ecn": null}]}"#;
    let rules = r#"[{"priority": 10, "src": "all", "iif": "br0", "oif": "eth0", "action": "prohibit"},
        {"priority": 11, "src": "all", "ipproto": "sctp", "dport": 80, "action": "prohibit"},
        {"priority": 12, "src": "all", "fwmark": "0", "table": "main"},
        {"priority": 32766, "src": "all", "table": "main"}]"#;
    let written = saved(
        "second",
        &[
            ("route.json", &format!("[{DEFAULT}, {twice}]")),
            ("rule.json", rules),
        ],
    )
    .unwrap();
    assert_eq!(written.faults, [""; 0]);
    let second = left_out(&written, Fate::Missing, "the same prefix and metric");
    assert_eq!(second.len(), 1);
    assert!(second[0].contains("198.51.100.3"), "{second:?}");
    assert!(written.text.contains("via = \"198.51.100.4\""));
    assert_eq!(
        left_out(&written, Fate::Missing, "no packet has both").len(),
        1
    );
    assert_eq!(
        left_out(&written, Fate::Wider, "ports of TCP and UDP alone").len(),
        1
    );
    assert!(
        written.text.contains("fwmark = \"0x0/0xffffffff\""),
        "{}",
        written.text
    );
}

#[test]
fn a_firewall_that_cannot_be_read_is_not_none() {
    let route = format!("[{DEFAULT}]");
    let with =
        |name: &str, file: &str, text: &str| saved(name, &[("route.json", &route), (file, text)]);
    for (name, file, text) in [
        ("cut", "iptables.save", "iptables: not found\n"),
        ("sets", "ipset.save", "ipset v7: Kernel error\n"),
        ("nft", "nft.json", "{\"nftables\": ["),
    ] {
        let failure = with(name, file, text).err().unwrap();
        assert!(failure.to_string().contains("name "), "{failure}");
    }
    let empty = "*filter\n:FORWARD ACCEPT [0:0]\nCOMMIT\n";
    assert!(with("empty", "iptables.save", empty).is_ok());
    let counted = "*filter\n:FORWARD ACCEPT [0:0]\n[1:40] -A FORWARD -i eth0 -j DROP\nCOMMIT\n";
    let written = with("counted", "iptables.save", counted).unwrap();
    assert!(
        written.text.contains("action = \"drop\""),
        "{}",
        written.text
    );
    let files = [
        ("route.json", &*route),
        ("iptables.save", counted),
        ("nft.json", "oops"),
    ];
    assert!(saved("beside", &files).is_err());
}

#[test]
fn a_terminal_gets_no_control_characters() {
    assert_eq!(harmless("a\u{1b}[2Jb\u{9b}ü"), "a\\u{1b}[2Jb\\u{9b}ü");
}

#[test]
fn what_does_not_tell_its_size_is_not_read_forever() {
    let failure = input::text(Path::new("/dev/zero")).unwrap_err();
    assert!(
        failure.to_string().contains("larger than 64 MiB"),
        "{failure}"
    );
}

/// Rules, routes and neighbours by the ten thousand take as much longer as there are more of them.
#[test]
fn ten_thousand_of_each_are_no_long_wait() {
    let route = |n: usize| {
        let to = format!("20.{}.{}.0/24", n / 256, n % 256);
        format!(r#"{{"dst": "{to}", "gateway": "198.51.100.2", "dev": "eth0", "flags": []}}"#)
    };
    let rule = |n: usize| {
        let from = format!("10.{}.{}.0", n / 256, n % 256);
        format!(
            r#"{{"priority": {}, "src": "{from}", "srclen": 24, "goto": 20000}}"#,
            n + 1
        )
    };
    let neighbor = |n: usize| {
        let (high, low) = (n / 256, n % 256);
        format!(
            r#"{{"dst": "10.9.{high}.{low}", "dev": "bond0", "lladdr": "02:00:00:00:{high:02x}:{low:02x}", "state": ["REACHABLE"]}}"#
        )
    };
    let many = |one: &dyn Fn(usize) -> String| {
        let all: Vec<String> = (0..10_000).map(one).collect();
        format!("[{}]", all.join(", "))
    };
    let begun = std::time::Instant::now();
    let files = [
        ("route.json", many(&route)),
        ("rule.json", many(&rule)),
        ("neigh.json", many(&neighbor)),
    ];
    let files = files.each_ref().map(|(file, text)| (*file, text.as_str()));
    let written = saved("many", &files).unwrap();
    assert!(written.text.matches("{ to = \"20.").count() == 10_000);
    // Two seconds; 24 where each is compared with all before it.
    assert!(begun.elapsed().as_secs() < 10, "{:?}", begun.elapsed());
}
