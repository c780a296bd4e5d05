//! Addresses that guests own: proxied answers, claims by others, forwarded ports. Rows A03, A05,
//! A08, N04, N05, N15, T21.

use std::net::Ipv6Addr;

use etherparse::PacketBuilder;
use tapgate_engine::addr::MacAddr;
use tapgate_tests::golden::check;
use tapgate_tests::packet::{Arp, is_at, mac, tcp, udp, who_has};

const A: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xaa]);
const HOST: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const LAN: MacAddr = MacAddr([2, 0, 0, 0, 1, 0xfe]);
const WEB: MacAddr = MacAddr([0x52, 0x54, 0, 0, 0, 1]);
const DB: MacAddr = MacAddr([0x52, 0x54, 0, 0, 0, 2]);
const GATEWAY: MacAddr = MacAddr([2, 0, 0, 0, 0, 0x99]);
const STRANGER: MacAddr = MacAddr([2, 0, 0, 0, 0, 0x66]);

/// A neighbour solicitation, or (flags given) an advertisement.
fn nd(from: (MacAddr, &str), to: Option<MacAddr>, target: &str, flags: Option<u8>) -> Vec<u8> {
    let ip = |text: &str| text.parse::<Ipv6Addr>().unwrap().octets();
    let (mac, sender) = (from.0, ip(from.1));
    let target = ip(target);
    let [.., a, b, c] = target;
    let mut group = ip("ff02::1:ff00:0");
    group[13..].copy_from_slice(&[a, b, c]);
    let (to_mac, to) = match to {
        Some(mac) => (mac.0, target),
        None => ([0x33, 0x33, 0xff, a, b, c], group),
    };
    let mut rest = target.to_vec();
    if sender != [0; 16] {
        rest.extend([if flags.is_some() { 2 } else { 1 }, 1]);
        rest.extend(mac.0);
    }
    let kind = if flags.is_some() { 136 } else { 135 };
    let mut bytes = Vec::new();
    PacketBuilder::ethernet2(mac.0, to_mac)
        .ipv6(sender, to, 255)
        .icmpv6_raw(kind, 0, [flags.unwrap_or(0), 0, 0, 0])
        .write(&mut bytes, &rest)
        .unwrap();
    bytes
}

/// Requests and probes from the uplink, from another guest, and from the owner itself; then what
/// nobody owns outside.
#[test]
fn a03_a08_arp_proxy() {
    check("a03_a08_arp_proxy", |case| {
        let unicast = |mac| Arp {
            to: mac,
            ..who_has("198.51.100.20", (GATEWAY, "198.51.100.1"))
        };
        let outside = (GATEWAY, "198.51.100.1");
        case.at(10, "uplink", who_has("198.51.100.20", outside).bytes());
        case.at(11, "uplink", unicast(A).bytes());
        case.at(
            12,
            "uplink",
            who_has("198.51.100.20", (STRANGER, "0.0.0.0")).bytes(),
        );
        case.at(13, "uplink", who_has("198.51.100.32", outside).bytes());
        case.at(14, "uplink", who_has("198.51.100.39", outside).bytes());
        case.at(20, "db", who_has("198.51.100.20", (DB, "10.0.1.2")).bytes());
        case.at(21, "db", who_has("10.0.1.1", (DB, "0.0.0.0")).bytes());
        case.at(
            30,
            "web",
            who_has("198.51.100.20", (WEB, "0.0.0.0")).bytes(),
        );
        case.at(
            31,
            "web",
            who_has("198.51.100.20", (WEB, "198.51.100.20")).bytes(),
        );
        for (n, nobodys) in [
            "198.51.100.21",
            "198.51.100.31",
            "198.51.100.40",
            "10.0.1.1",
        ]
        .iter()
        .enumerate()
        {
            case.at(40 + n as u64, "uplink", who_has(nobodys, outside).bytes());
        }
    });
}

/// The same in IPv6, with probes for addresses of prefixes too.
#[test]
fn n04_n05_nd_proxy() {
    check("n04_n05_nd_proxy", |case| {
        let outside = (GATEWAY, "2001:db8:9::1");
        case.at(10, "uplink", nd(outside, None, "2001:db8:9::20", None));
        case.at(11, "uplink", nd(outside, Some(A), "2001:db8:9::20", None));
        case.at(
            12,
            "uplink",
            nd((STRANGER, "::"), None, "2001:db8:9::20", None),
        );
        case.at(13, "uplink", nd(outside, None, "2001:db8:9:0:b::77", None));
        case.at(20, "db", nd((DB, "::"), None, "2001:db8:9::20", None));
        case.at(21, "db", nd((DB, "fe80::2"), None, "2001:db8:9::20", None));
        case.at(30, "web", nd((WEB, "::"), None, "2001:db8:9::20", None));
        case.at(31, "web", nd((WEB, "::"), None, "2001:db8:9:0:b::77", None));
        case.at(40, "uplink", nd(outside, None, "2001:db8:9::22", None));
        case.at(41, "uplink", nd(outside, None, "2001:db8:9:0:c::", None));
    });
}

/// A stranger claims guests' addresses.
#[test]
fn a05_claims_of_others() {
    check("a05_claims_of_others", |case| {
        // Twenty times in five seconds: one defence each.
        let all = mac("ff:ff:ff:ff:ff:ff");
        for n in 0..20 {
            let claim = is_at((STRANGER, "198.51.100.20"), (all, "198.51.100.20"));
            case.at(1_000 + n * 250, "uplink", claim.bytes());
            let na = nd(
                (STRANGER, "2001:db8:9::20"),
                Some(A),
                "2001:db8:9::20",
                Some(0x20),
            );
            case.at(1_001 + n * 250, "uplink", na);
        }
    });
}

/// Two forwarded ports, with the answers; what is the host's.
#[test]
fn t21_forwards_on_a_shared_address() {
    check("t21_forwards_on_a_shared_address", |case| {
        let vlan = Some(7);
        let known = Arp {
            vlan,
            ..is_at((GATEWAY, "203.0.113.1"), (HOST, "203.0.113.7"))
        };
        let remote =
            |packet: tapgate_tests::packet::Packet| packet.link(GATEWAY, HOST).vlan(7).bytes();
        case.at(
            10,
            "uplink",
            remote(tcp("192.0.2.9:5000", "203.0.113.7:2222", "S", b"")),
        );
        let answer = tcp("10.0.1.1:22", "192.0.2.9:5000", "S.", b"");
        case.at(11, "web", answer.link(WEB, LAN).bytes());
        case.at(12, "uplink", known.bytes());
        case.at(
            20,
            "uplink",
            remote(udp("192.0.2.9:5000", "203.0.113.7:5353", b"question")),
        );
        case.at(
            21,
            "db",
            udp("10.0.1.2:53", "192.0.2.9:5000", b"answer")
                .link(DB, LAN)
                .bytes(),
        );
        case.at(
            30,
            "web",
            udp("10.0.1.1:4000", "192.0.2.9:53", b"out")
                .link(WEB, LAN)
                .bytes(),
        );
        case.at(
            40,
            "uplink",
            remote(tcp("192.0.2.9:5000", "203.0.113.7:22", "S", b"")),
        );
        case.at(
            41,
            "uplink",
            remote(udp("192.0.2.9:5000", "203.0.113.7:61999", b"nobody's")),
        );
    });
}
