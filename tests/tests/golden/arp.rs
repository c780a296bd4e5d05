//! ARP: rows A01 to A03, A06, A07.

use tapgate_engine::addr::MacAddr;
use tapgate_tests::golden::check;
use tapgate_tests::packet::{Arp, address, is_at, mac, udp, who_has};
use tapgate_tests::recipe::*;

const STRANGER: MacAddr = MacAddr([2, 0, 0, 0, 0, 0x66]);

/// Every own address is answered for, by the interface that owns it, to who asked; nobody
/// else's is.
#[test]
fn a01_replies() {
    check("a01_replies", |case| {
        for (port, from, own) in [
            ("guest-a", (GUEST_A, "10.0.1.1"), "10.0.1.254"),
            ("guest-b", (GUEST_B, "10.0.2.1"), "10.0.2.254"),
            ("uplink", (PROVIDER, "192.0.2.1"), "203.0.113.10"),
            ("uplink", (PROVIDER, "192.0.2.1"), "203.0.113.30"),
        ] {
            case.at(10, port, who_has(own, from).bytes());
        }
        let unicast = Arp {
            to: NET_A,
            ..who_has("10.0.1.254", (GUEST_A, "10.0.1.1"))
        };
        case.at(20, "guest-a", unicast.bytes());
        let in_vlan = Arp {
            vlan: Some(20),
            ..who_has("203.0.113.20", (PROVIDER, "192.0.2.1"))
        };
        case.at(21, "uplink", in_vlan.bytes());
        // Not ours, another interface's, another VLAN's.
        for (port, from, other) in [
            ("guest-a", (GUEST_A, "10.0.1.1"), "10.0.1.7"),
            ("guest-a", (GUEST_A, "10.0.1.1"), "10.0.2.254"),
            ("guest-a", (GUEST_A, "10.0.1.1"), "203.0.113.10"),
            ("uplink", (PROVIDER, "192.0.2.1"), "203.0.113.20"),
            ("uplink", (PROVIDER, "192.0.2.1"), "203.0.113.11"),
            ("uplink", (PROVIDER, "192.0.2.1"), "10.0.1.254"),
        ] {
            case.at(30, port, who_has(other, from).bytes());
        }
    });
}

/// A known host's new MAC is followed, by any ARP packet; an unknown host's announcement makes
/// no entry.
#[test]
fn a02_merge() {
    check("a02_merge", |case| {
        case.at(
            0,
            "guest-a",
            who_has("10.0.1.254", (GUEST_A, "10.0.1.1")).bytes(),
        );
        case.at(
            0,
            "guest-b",
            who_has("10.0.2.254", (GUEST_B, "10.0.2.1")).bytes(),
        );
        let send = |to: &str| udp("10.0.1.1:4000", to, b"").link(GUEST_A, NET_A).bytes();
        case.at(10, "guest-a", send("10.0.2.1:9"));
        // A gratuitous request, then a gratuitous reply.
        case.at(
            20,
            "guest-b",
            who_has("10.0.2.1", (mac("02:00:00:00:00:21"), "10.0.2.1")).bytes(),
        );
        case.at(30, "guest-a", send("10.0.2.1:9"));
        let moved = mac("02:00:00:00:00:22");
        case.at(
            40,
            "guest-b",
            Arp {
                to: MacAddr::BROADCAST,
                ..is_at((moved, "10.0.2.1"), (moved, "10.0.2.1"))
            }
            .bytes(),
        );
        case.at(50, "guest-a", send("10.0.2.1:9"));
        // A request to somebody else updates too.
        case.at(
            60,
            "guest-b",
            who_has("10.0.2.9", (mac("02:00:00:00:00:23"), "10.0.2.1")).bytes(),
        );
        case.at(70, "guest-a", send("10.0.2.1:9"));
        // Unknown: the next packet asks.
        case.at(
            80,
            "guest-b",
            who_has("10.0.2.5", (STRANGER, "10.0.2.5")).bytes(),
        );
        case.at(90, "guest-a", send("10.0.2.5:9"));
        case.at(
            100,
            "guest-b",
            is_at((STRANGER, "10.0.2.5"), (NET_B, "10.0.2.254")).bytes(),
        );
    });
}

/// A probe for an own address is answered; the probe's sender is nobody.
#[test]
fn a03_probe() {
    check("a03_probe", |case| {
        case.at(
            10,
            "guest-a",
            who_has("10.0.1.254", (GUEST_A, "0.0.0.0")).bytes(),
        );
        case.at(
            20,
            "uplink",
            who_has("203.0.113.10", (STRANGER, "0.0.0.0")).bytes(),
        );
        case.at(
            30,
            "guest-a",
            who_has("10.0.1.1", (GUEST_A, "0.0.0.0")).bytes(),
        );
        case.at(
            40,
            "guest-b",
            who_has("10.0.2.254", (GUEST_B, "10.0.2.1")).bytes(),
        );
        case.at(
            50,
            "guest-b",
            udp("10.0.2.1:1", "10.0.1.1:9", b"")
                .link(GUEST_B, NET_B)
                .bytes(),
        );
    });
}

/// What is not believed: the right MAC stays.
#[test]
fn a06_poison() {
    check("a06_poison", |case| {
        case.at(
            0,
            "guest-a",
            who_has("10.0.1.254", (GUEST_A, "10.0.1.1")).bytes(),
        );
        case.at(
            0,
            "guest-b",
            who_has("10.0.2.254", (GUEST_B, "10.0.2.1")).bytes(),
        );
        let lie = is_at((STRANGER, "10.0.2.1"), (NET_B, "10.0.2.254"));
        let group = mac("01:00:5e:00:00:01");
        // A broadcast, a multicast and a zero MAC; a MAC that is not the frame's; a group source.
        for (n, sha) in [MacAddr::BROADCAST, group, MacAddr::ZERO]
            .into_iter()
            .enumerate()
        {
            case.at(
                10 + n as u64,
                "guest-b",
                Arp {
                    sender: (sha, address("10.0.2.1")),
                    ..lie
                }
                .bytes(),
            );
        }
        case.at(
            15,
            "guest-b",
            Arp {
                from: mac("02:00:00:00:00:67"),
                ..lie
            }
            .bytes(),
        );
        case.at(
            16,
            "guest-b",
            Arp {
                from: group,
                sender: (group, address("10.0.2.1")),
                ..lie
            }
            .bytes(),
        );
        let nobody = Arp {
            from: MacAddr::ZERO,
            sender: (MacAddr::ZERO, address("10.0.2.1")),
            ..lie
        };
        case.at(17, "guest-b", nobody.bytes());
        // Our own address, from somebody else; a reply to somebody else; from another port.
        case.at(
            20,
            "guest-b",
            who_has("10.0.2.1", (STRANGER, "10.0.2.254")).bytes(),
        );
        case.at(
            21,
            "guest-b",
            is_at((STRANGER, "10.0.2.254"), (GUEST_B, "10.0.2.1")).bytes(),
        );
        case.at(
            23,
            "guest-a",
            who_has("10.0.1.254", (STRANGER, "10.0.2.1")).bytes(),
        );
        // Malformed: hardware type, protocol type, lengths, cut short, unknown operation.
        let good = who_has("10.0.2.254", (STRANGER, "10.0.2.1")).bytes();
        for (n, (at, byte)) in [(15, 6), (16, 0x86), (18, 8), (19, 16), (21, 9)]
            .into_iter()
            .enumerate()
        {
            let mut bytes = good.clone();
            bytes[at] = byte;
            case.at(30 + n as u64, "guest-b", bytes);
        }
        case.at(36, "guest-b", &good[..41]);
        case.at(
            50,
            "guest-a",
            udp("10.0.1.1:4000", "10.0.2.1:9", b"")
                .link(GUEST_A, NET_A)
                .bytes(),
        );
    });
}

/// A foreign sender that asks for an own address is answered, and not learnt from.
#[test]
fn a06_foreign_sender() {
    check("a06_foreign_sender", |case| {
        case.at(
            0,
            "guest-a",
            who_has("10.0.1.254", (GUEST_A, "10.0.1.1")).bytes(),
        );
        case.at(
            10,
            "uplink",
            who_has("203.0.113.10", (STRANGER, "100.64.0.1")).bytes(),
        );
        case.at(
            11,
            "guest-b",
            who_has("10.0.2.254", (STRANGER, "192.168.9.9")).bytes(),
        );
        case.at(
            20,
            "guest-a",
            udp("10.0.1.1:4000", "100.64.0.1:9", b"")
                .link(GUEST_A, NET_A)
                .bytes(),
        );
        case.at(
            21,
            "guest-a",
            udp("10.0.1.1:4000", "192.168.9.9:9", b"")
                .link(GUEST_A, NET_A)
                .bytes(),
        );
        case.at(
            30,
            "uplink",
            is_at((PROVIDER, "192.0.2.1"), (A, "203.0.113.10")).bytes(),
        );
    });
}

/// One request a second; what waits is sent when the answer comes, in order.
#[test]
fn a07_resolution() {
    check("a07_resolution", |case| {
        case.at(
            0,
            "guest-a",
            who_has("10.0.1.254", (GUEST_A, "10.0.1.1")).bytes(),
        );
        for n in 0..3 {
            let waiting = udp("10.0.1.1:4000", "10.0.2.1:9", &[n; 10]).link(GUEST_A, NET_A);
            case.at(10 + u64::from(n) * 500, "guest-a", waiting.bytes());
        }
        case.at(
            1200,
            "guest-b",
            is_at((GUEST_B, "10.0.2.1"), (NET_B, "10.0.2.254")).bytes(),
        );
    });
}

/// 257 packets to an absent host within a second: two requests at most, and no more than a
/// bounded number of packets is kept.
#[test]
fn a07_flood_to_an_absent_host() {
    check("a07_flood_to_an_absent_host", |case| {
        case.at(
            0,
            "guest-a",
            who_has("10.0.1.254", (GUEST_A, "10.0.1.1")).bytes(),
        );
        for n in 0..257 {
            let packet = udp("10.0.1.1:4000", "10.0.2.66:9", b"")
                .id(n)
                .link(GUEST_A, NET_A);
            case.at(10 + u64::from(n) * 3, "guest-a", packet.bytes());
        }
    });
}
