//! The answer matrix: who is answered about a guest's address, by whom, and with which MAC; what a
//! guest may claim; how addresses are claimed, announced and defended.

use std::net::IpAddr;

use etherparse::{ArpHardwareId, ArpOperation, ArpPacket, EtherType, PacketBuilder};
use tapgate_engine::drops::DropReason;
use tapgate_engine::frame::Verdict;
use tapgate_tests::packet::tagged;
use tapgate_tests::pair::*;
use tapgate_tests::router::Router;

pub(super) const OTHER: [u8; 6] = [2, 0, 0, 0, 1, 2];
pub(super) const STRANGER: [u8; 6] = [2, 0, 0, 0, 7, 7];
pub(super) const WEB4: &str = "198.51.100.20";
pub(super) const WEB6: &str = "2001:db8:9::20";
pub(super) const INSIDE: &str = "10.0.1.5";

/// `web` is behind port `web_port`, `db` behind the other.
pub(super) fn config(web_port: &str) -> String {
    let db_port = if web_port == "g" { "h" } else { "g" };
    format!(
        r#"
[ports]
up = {{ memory = true }}
g = {{ memory = true }}
h = {{ memory = true }}
[personalities]
A = {{ port = "up", mac = "02:00:00:00:00:aa", addresses = ["198.51.100.10/24", "2001:db8:9::10/64"], gateway = ["198.51.100.1", "2001:db8:9::1"] }}
[networks]
a = {{ ports = ["g", "h"], addresses = ["10.0.1.254/24"], mac = "02:00:00:00:01:fe" }}
[guests]
web = {{ port = "{web_port}", mac = "02:00:00:00:01:01", addresses = ["{INSIDE}"], public = ["{WEB4}", "{WEB6}", "198.51.100.32/29", "2001:db8:9:0:b::/112"] }}
db = {{ port = "{db_port}", mac = "02:00:00:00:01:02", addresses = ["10.0.1.6"], public = ["2001:db8:9::21"] }}
[tables]
main = [{{ to = "default", dev = "A" }}, {{ to = "::/0", dev = "A" }}]
"#
    )
}

pub(super) fn solicited_node(address: &str) -> ([u8; 6], [u8; 16]) {
    let [.., a, b, c] = v6(address);
    let mut group = v6("ff02::1:ff00:0");
    group[13..].copy_from_slice(&[a, b, c]);
    ([0x33, 0x33, 0xff, a, b, c], group)
}

/// What is asked, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ask {
    /// DAD NS, ARP probe: from nobody.
    Probe,
    Ordinary,
    /// To one MAC, as reachability probes are.
    Unicast([u8; 6]),
}

/// A request for `target` by `sender`, an address the asker may have.
pub(super) fn request(from: [u8; 6], sender: &str, target: &str, ask: Ask) -> Vec<u8> {
    let mut bytes = Vec::new();
    match target.parse().unwrap() {
        IpAddr::V4(target) => {
            let sender = match ask {
                Ask::Probe => "0.0.0.0",
                _ => sender,
            };
            let sender: std::net::Ipv4Addr = sender.parse().unwrap();
            let arp = ArpPacket::new(
                ArpHardwareId::ETHERNET,
                EtherType::IPV4,
                ArpOperation::REQUEST,
                &from,
                &sender.octets(),
                &[0; 6],
                &target.octets(),
            );
            let to = match ask {
                Ask::Unicast(mac) => mac,
                _ => [0xff; 6],
            };
            let builder = PacketBuilder::ethernet2(from, to).arp(arp.unwrap());
            builder.write(&mut bytes).unwrap();
        }
        IpAddr::V6(address) => {
            let (group_mac, group) = solicited_node(target);
            let (to_mac, to) = match ask {
                Ask::Unicast(mac) => (mac, v6(target)),
                _ => (group_mac, group),
            };
            let mut rest = address.octets().to_vec();
            let from_ip = match ask {
                Ask::Probe => [0; 16],
                _ => {
                    rest.extend([1, 1]);
                    rest.extend(from);
                    v6(sender)
                }
            };
            PacketBuilder::ethernet2(from, to_mac)
                .ipv6(from_ip, to, 255)
                .icmpv6_raw(135, 0, [0; 4])
                .write(&mut bytes, &rest)
                .unwrap();
        }
    }
    bytes
}

/// The MAC and the override flag (always, for ARP) of the one answer to a request; `None` if there
/// is none.
pub(super) fn answer(router: &mut Router, port: &str, bytes: Vec<u8>) -> Option<([u8; 6], bool)> {
    router.take_all();
    let probe = bytes[12..14] == [0x86, 0xdd] && bytes[22..38] == [0; 16];
    router.inject(port, bytes);
    let answers = router.sent();
    assert!(answers.len() <= 1, "{answers:02x?}");
    let (to, bytes) = answers.into_iter().next()?;
    assert_eq!(to, port, "answers go where the question came from");
    let mac: [u8; 6] = bytes[6..12].try_into().unwrap();
    if bytes[12..14] == [0x08, 0x06] {
        assert_eq!(bytes[21], 2, "a reply");
        assert_eq!(bytes[22..28], mac, "the sender's MAC is the frame's");
        return Some((mac, true));
    }
    assert_eq!(bytes[54], 136, "an advertisement");
    assert_eq!(bytes[80..86], mac, "the target's MAC is the frame's");
    let flags = bytes[58];
    assert_eq!(flags & 0x80, 0x80, "from a router");
    assert_eq!(flags & 0x40 == 0, probe, "solicited, unless it was a probe");
    let to_all = bytes[38..54] == v6("ff02::1");
    assert_eq!(to_all, probe, "an answer to a probe goes to all nodes");
    Some((mac, flags & 0x20 != 0))
}

/// Every cell for both families, with `web` behind `owner` and another guest behind `other`.
fn every_cell(router: &mut Router, owner: &str, other: &str, other_guest: (&str, [u8; 6])) {
    let up = "up";
    let (other_ip, other_mac) = other_guest;
    for (target, own, others, gateway) in [
        (WEB4, INSIDE, other_ip, "198.51.100.1"),
        (WEB6, WEB6, "fe80::21", "2001:db8:9::1"),
    ] {
        for (ask_inside, ask_outside) in [
            (Ask::Probe, Ask::Probe),
            (Ask::Ordinary, Ask::Ordinary),
            (Ask::Unicast(ROUTER_IN), Ask::Unicast(ROUTER_OUT)),
        ] {
            let case = format!("{target} {ask_inside:?}");
            let same_mac = request(GUEST, own, target, ask_inside);
            assert_eq!(answer(router, owner, same_mac), None, "owner: {case}");
            let changed_mac = request(STRANGER, own, target, ask_inside);
            assert_eq!(
                router.inject(owner, changed_mac),
                Verdict::Drop(DropReason::SpoofedMac),
                "owner with another MAC: {case}"
            );
            assert!(router.is_silent());
            let another = request(other_mac, others, target, ask_inside);
            let v4 = target == WEB4;
            let by_gateway = Some((ROUTER_IN, v4));
            assert_eq!(answer(router, other, another), by_gateway, "other: {case}");
            let outside = request(GATEWAY, gateway, target, ask_outside);
            let by_personality = Some((ROUTER_OUT, v4));
            assert_eq!(
                answer(router, up, outside),
                by_personality,
                "uplink: {case}"
            );
        }
    }
}

#[test]
fn n03_n04_n05_n15_a03_a05_every_cell_of_the_matrix() {
    let mut router = Router::settled(&config("g"));
    every_cell(&mut router, "g", "h", ("10.0.1.6", OTHER));
}

#[test]
fn the_matrix_follows_a_guest_that_moves() {
    let mut router = Router::settled(&config("g"));
    router.reload(&config("h"));
    router.wait(5_000);
    // `web` is behind `h` now and `db` behind `g`.
    every_cell(&mut router, "h", "g", ("10.0.1.6", OTHER));
}

#[test]
fn n07_a08_what_nobody_owns_is_silent() {
    let mut router = Router::settled(&config("g"));
    let (up, other) = ("up", "h");
    for target in [
        "198.51.100.19", // beside a single address
        "198.51.100.21",
        "198.51.100.31", // beside the prefix
        "198.51.100.40",
        INSIDE, // nothing outside
    ] {
        let asked = request(GATEWAY, "198.51.100.1", target, Ask::Ordinary);
        assert_eq!(answer(&mut router, up, asked), None, "{target}");
    }
    for target in [
        "2001:db8:9::1f",
        "2001:db8:9:0:b::1:0",
        "2001:db8:9:0:a:ffff:ffff:ffff",
    ] {
        let asked = request(GATEWAY, "2001:db8:9::1", target, Ask::Ordinary);
        assert_eq!(answer(&mut router, up, asked), None, "{target}");
    }
    for target in ["198.51.100.32", "198.51.100.39"] {
        let asked = request(GATEWAY, "198.51.100.1", target, Ask::Ordinary);
        assert_eq!(
            answer(&mut router, up, asked),
            Some((ROUTER_OUT, true)),
            "{target}"
        );
    }
    for target in ["2001:db8:9:0:b::", "2001:db8:9:0:b::ffff"] {
        let asked = request(GATEWAY, "2001:db8:9::1", target, Ask::Ordinary);
        assert_eq!(
            answer(&mut router, up, asked),
            Some((ROUTER_OUT, false)),
            "{target}"
        );
    }
    // An inside address is another guest's business only.
    let asked = request(OTHER, "10.0.1.6", INSIDE, Ask::Ordinary);
    assert_eq!(answer(&mut router, other, asked), Some((ROUTER_IN, true)));
    let nobodys = request(OTHER, "10.0.1.6", "10.0.1.77", Ask::Ordinary);
    assert_eq!(answer(&mut router, other, nobodys), None);
}

#[test]
fn a_guest_finds_the_providers_gateway_here() {
    let mut router = Router::settled(&config("g"));
    let (up, web) = ("up", "g");
    for (sender, target, overrides) in [
        (INSIDE, "198.51.100.1", true),
        (WEB4, "198.51.100.1", true),
        (WEB6, "2001:db8:9::1", false),
    ] {
        for ask in [Ask::Ordinary, Ask::Unicast(ROUTER_IN), Ask::Probe] {
            let asked = request(GUEST, sender, target, ask);
            assert_eq!(
                answer(&mut router, web, asked),
                Some((ROUTER_IN, overrides)),
                "{target} {ask:?}"
            );
        }
    }
    // A neighbour of the gateway is not the gateway, and on the uplink it speaks for itself.
    let beside = request(GUEST, WEB6, "2001:db8:9::2", Ask::Ordinary);
    assert_eq!(answer(&mut router, web, beside), None);
    for (sender, target) in [
        ("198.51.100.77", "198.51.100.1"),
        ("2001:db8:9::77", "2001:db8:9::1"),
    ] {
        let outside = request(STRANGER, sender, target, Ask::Ordinary);
        assert_eq!(answer(&mut router, up, outside), None, "{target}");
    }
}

#[test]
fn a09_a_priority_tag_is_no_tag() {
    let mut router = Router::settled(&config("g"));
    let up = "up";
    let asked = request(GATEWAY, "198.51.100.1", WEB4, Ask::Ordinary);
    let verdict = router.inject(up, tagged(&asked.clone(), Some(0)));
    assert_eq!(verdict, router.emit(up));
    let verdict = router.inject(up, tagged(&asked, Some(7)));
    assert!(
        matches!(verdict, Verdict::Drop(_)),
        "another VLAN is another link"
    );
}

#[test]
fn n05_a_proxy_may_let_others_answer_first() {
    let config = config("g").replace("[ports]", "[router]\nproxy_delay = 1000\n[ports]");
    let mut router = Router::settled(&config);
    let up = "up";
    for target in [WEB4, WEB6] {
        let gateway = if target == WEB4 {
            "198.51.100.1"
        } else {
            "2001:db8:9::1"
        };
        let mut delays = Vec::new();
        for _ in 0..100 {
            let asked = request(GATEWAY, gateway, target, Ask::Ordinary);
            assert_eq!(router.inject(up, asked), Verdict::Consumed);
            assert!(router.is_silent(), "not at once");
            let mut waited = 0;
            while router.sent().is_empty() && waited <= 1_000 {
                router.wait(10);
                waited += 10;
            }
            delays.push(waited);
        }
        assert!(delays.iter().all(|delay| *delay <= 1_000), "{delays:?}");
        assert!(delays.iter().any(|delay| *delay < 300), "{delays:?}");
        assert!(delays.iter().any(|delay| *delay > 700), "{delays:?}");
        let asked = request(GATEWAY, gateway, target, Ask::Unicast(ROUTER_OUT));
        assert!(
            answer(&mut router, up, asked).is_some(),
            "nobody else heard that"
        );
    }
    let own = request(GATEWAY, "198.51.100.1", "198.51.100.10", Ask::Ordinary);
    assert!(
        answer(&mut router, up, own).is_some(),
        "own addresses are answered for at once"
    );
}

#[test]
fn n24_answers_that_wait_are_limited() {
    let config = config("g").replace("[ports]", "[router]\nproxy_delay = 1000\n[ports]");
    let mut router = Router::settled(&config);
    let up = "up";
    for _ in 0..5_000 {
        router.inject(up, request(GATEWAY, "198.51.100.1", WEB4, Ask::Ordinary));
    }
    let lost = router.dropped(DropReason::AnswerLimited);
    assert_eq!(lost, 5_000 - 2_048, "half of all are left to other ports");
    router.take_all();
    router.wait(1_000);
    assert_eq!(router.sent().len(), 2_048);
}

#[test]
fn n24_answers_to_a_guest_are_limited() {
    let config = config("g").replace("[ports]", "[router]\nanswers_per_second = 10\n[ports]");
    let mut router = Router::settled(&config);
    let (other, up) = ("h", "up");
    let mut answered = 0;
    for _ in 0..1_000 {
        let asked = request(OTHER, "10.0.1.6", WEB4, Ask::Ordinary);
        answered += usize::from(answer(&mut router, other, asked).is_some());
        router.wait(1);
    }
    assert!((10..=16).contains(&answered), "{answered} in a second");
    for _ in 0..1_000 {
        let asked = request(GATEWAY, "198.51.100.1", WEB4, Ask::Ordinary);
        assert!(
            answer(&mut router, up, asked).is_some(),
            "uplinks are not limited"
        );
    }
}

pub(super) fn is_probe(bytes: &[u8]) -> bool {
    bytes[12..14] == [0x86, 0xdd] && bytes[54] == 135 && bytes[22..38] == [0; 16]
}

/// Makes the ICMPv6 checksum right again.
pub(super) fn fix_icmp6(bytes: &mut [u8]) {
    bytes[56..58].fill(0);
    let length = (bytes.len() - 54) as u32;
    let words = |bytes: &[u8]| -> u32 {
        bytes
            .chunks(2)
            .map(|w| u32::from(w[0]) << 8 | u32::from(w[1]))
            .sum()
    };
    let mut sum = words(&bytes[22..54]) + length + 58 + words(&bytes[54..]);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    bytes[56..58].copy_from_slice(&(!(sum as u16)).to_be_bytes());
}
