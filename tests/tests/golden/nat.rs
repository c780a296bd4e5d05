//! Source translation: rows T03, T05, T09, T12, T16, T19, X01 and the recipe itself.

use tapgate_tests::golden::check;
use tapgate_tests::packet::{error, ip, ping, pong, tcp, udp, who_has};
use tapgate_tests::recipe::*;

/// Each guest leaves by its own address, MAC and VLAN; what comes back reaches it.
#[test]
fn x01_three_guests_three_personalities() {
    check("x01_three_guests_three_personalities", |case| {
        case.all_known();
        for (n, (port, from, link, public, own, vlan)) in [
            (
                "guest-a",
                "10.0.1.1:4000",
                (GUEST_A, NET_A),
                "203.0.113.10:4000",
                A,
                None,
            ),
            (
                "guest-b",
                "10.0.2.1:4000",
                (GUEST_B, NET_B),
                "203.0.113.20:4000",
                B,
                Some(20),
            ),
            (
                "guest-c",
                "10.0.3.1:4000",
                (GUEST_C, NET_C),
                "203.0.113.30:4000",
                C,
                None,
            ),
        ]
        .into_iter()
        .enumerate()
        {
            let at = 10 + 10 * n as u64;
            case.at(
                at,
                port,
                udp(from, "198.51.100.9:53", b"question")
                    .link(link.0, link.1)
                    .bytes(),
            );
            let mut back = udp("198.51.100.9:53", public, b"answer").link(PROVIDER, own);
            if let Some(vlan) = vlan {
                back = back.vlan(vlan);
            }
            case.at(at + 5, "uplink", back.bytes());
        }
    });
}

/// A TCP connection from handshake to FIN, and a reset.
#[test]
fn t09_tcp() {
    check("t09_tcp", |case| {
        case.all_known();
        let out = |flags: &str, payload: &[u8]| {
            tcp("10.0.1.1:40000", "198.51.100.9:443", flags, payload)
                .link(GUEST_A, NET_A)
                .bytes()
        };
        let back = |flags: &str, payload: &[u8]| {
            tcp("198.51.100.9:443", "203.0.113.10:40000", flags, payload)
                .link(PROVIDER, A)
                .bytes()
        };
        case.at(10, "guest-a", out("S", b""));
        case.at(20, "uplink", back("S.", b""));
        case.at(30, "guest-a", out(".", b""));
        case.at(40, "guest-a", out("P.", b"hello"));
        case.at(50, "uplink", back("P.", b"well met"));
        case.at(60, "guest-a", out("F.", b""));
        case.at(70, "uplink", back("F.", b""));
        case.at(80, "guest-a", out(".", b""));
        case.at(
            90,
            "guest-a",
            tcp("10.0.1.1:40001", "198.51.100.9:443", "S", b"")
                .link(GUEST_A, NET_A)
                .bytes(),
        );
        case.at(
            91,
            "uplink",
            tcp("198.51.100.9:443", "203.0.113.10:40001", "R.", b"")
                .link(PROVIDER, A)
                .bytes(),
        );
    });
}

/// Nothing that no session expects comes in.
#[test]
fn t05_unsolicited() {
    check("t05_unsolicited", |case| {
        case.all_known();
        case.at(
            10,
            "guest-a",
            udp("10.0.1.1:4000", "198.51.100.9:53", b"")
                .link(GUEST_A, NET_A)
                .bytes(),
        );
        case.at(
            20,
            "uplink",
            udp("198.51.100.9:53", "203.0.113.10:4001", b"port")
                .link(PROVIDER, A)
                .bytes(),
        );
        case.at(
            21,
            "uplink",
            tcp("198.51.100.9:53", "203.0.113.10:4000", "S", b"")
                .link(PROVIDER, A)
                .bytes(),
        );
        case.at(
            22,
            "uplink",
            udp("198.51.100.9:53", "203.0.113.30:4000", b"address")
                .link(PROVIDER, C)
                .bytes(),
        );
        case.at(
            23,
            "uplink",
            pong(REMOTE, "203.0.113.10", 4000, 1, b"echo")
                .link(PROVIDER, A)
                .bytes(),
        );
        case.at(
            24,
            "uplink",
            ip(REMOTE, "203.0.113.10", 47, &[0; 20])
                .link(PROVIDER, A)
                .bytes(),
        );
        case.at(
            24,
            "uplink",
            udp("198.51.100.10:53", "203.0.113.10:4000", b"remote")
                .link(PROVIDER, A)
                .bytes(),
        );
        case.at(
            25,
            "uplink",
            udp("198.51.100.9:53", "203.0.113.10:4000", b"right")
                .link(PROVIDER, A)
                .bytes(),
        );
    });
}

/// Two guests with the same source port, or echo identifier, to the same host: one keeps it,
/// the other gets one of the same parity and class.
#[test]
fn t03_t12_same_ports() {
    check("t03_t12_same_ports", |case| {
        case.at(
            0,
            "guest",
            who_has("10.0.1.254", (GUEST_A, "10.0.1.1")).bytes(),
        );
        case.at(
            0,
            "guest",
            who_has("10.0.1.254", (GUEST_B, "10.0.1.2")).bytes(),
        );
        case.at(
            0,
            "uplink",
            who_has("203.0.113.10", (PROVIDER, "203.0.113.1")).bytes(),
        );
        for (n, (own, mac)) in [("10.0.1.1", GUEST_A), ("10.0.1.2", GUEST_B)]
            .into_iter()
            .enumerate()
        {
            let at = 10 + n as u64;
            let from = format!("{own}:4001");
            case.at(
                at,
                "guest",
                udp(&from, "198.51.100.9:53", b"").link(mac, NET_A).bytes(),
            );
            case.at(
                at + 10,
                "guest",
                tcp(&from, "198.51.100.9:80", "S", b"")
                    .link(mac, NET_A)
                    .bytes(),
            );
            case.at(
                at + 20,
                "guest",
                ping(own, REMOTE, 4242, 1, b"echo").link(mac, NET_A).bytes(),
            );
        }
        case.at(
            50,
            "uplink",
            pong(REMOTE, "203.0.113.10", 4242, 1, b"echo")
                .link(PROVIDER, A)
                .bytes(),
        );
        case.at(
            51,
            "uplink",
            udp("198.51.100.9:53", "203.0.113.10:4001", b"")
                .link(PROVIDER, A)
                .bytes(),
        );
    });
}

/// Echo through NAT.
#[test]
fn t12_echo() {
    check("t12_echo", |case| {
        case.all_known();
        for seq in 1..4 {
            case.at(
                u64::from(seq) * 10,
                "guest-a",
                ping("10.0.1.1", REMOTE, 4242, seq, b"ping")
                    .link(GUEST_A, NET_A)
                    .bytes(),
            );
            case.at(
                u64::from(seq) * 10 + 5,
                "uplink",
                pong(REMOTE, "203.0.113.10", 4242, seq, b"ping")
                    .link(PROVIDER, A)
                    .bytes(),
            );
        }
    });
}

/// Two ports for everybody: the third flow is refused, told so, and never leaves untranslated;
/// the first two go on.
#[test]
fn t16_fails_closed_when_full() {
    check("t16_fails_closed_when_full", |case| {
        case.at(
            0,
            "guest",
            who_has("10.0.1.254", (GUEST_A, "10.0.1.1")).bytes(),
        );
        case.at(
            0,
            "uplink",
            who_has("203.0.113.10", (PROVIDER, "203.0.113.1")).bytes(),
        );
        for n in 0..3 {
            let from = format!("10.0.1.1:{}", 4000 + n);
            case.at(
                10 + n,
                "guest",
                udp(&from, "198.51.100.9:53", b"")
                    .link(GUEST_A, NET_A)
                    .bytes(),
            );
        }
        case.at(
            20,
            "guest",
            udp("10.0.1.1:4000", "198.51.100.9:53", b"on")
                .link(GUEST_A, NET_A)
                .bytes(),
        );
        case.at(
            21,
            "guest",
            udp("10.0.1.1:4001", "198.51.100.9:53", b"on")
                .link(GUEST_A, NET_A)
                .bytes(),
        );
        case.at(
            22,
            "guest",
            udp("10.0.1.1:4002", "198.51.100.9:53", b"no")
                .link(GUEST_A, NET_A)
                .bytes(),
        );
    });
}

/// No transport checksum stays none.
#[test]
fn t19_udp_without_checksum() {
    check("t19_udp_without_checksum", |case| {
        case.all_known();
        let mut out = udp("10.0.1.1:4000", "198.51.100.9:53", b"none")
            .link(GUEST_A, NET_A)
            .bytes();
        out[40..42].fill(0);
        case.at(10, "guest-a", out);
        let mut back = udp("198.51.100.9:53", "203.0.113.10:4000", b"none")
            .link(PROVIDER, A)
            .bytes();
        back[40..42].fill(0);
        case.at(20, "uplink", back);
    });
}

/// A protocol without ports is translated by address; what cannot be translated does not leave.
#[test]
fn x01_untranslatable() {
    check("x01_untranslatable", |case| {
        case.all_known();
        for (n, protocol) in [47, 50, 132, 253].into_iter().enumerate() {
            case.at(
                10 + n as u64,
                "guest-a",
                ip("10.0.1.1", REMOTE, protocol, &[1; 32])
                    .link(GUEST_A, NET_A)
                    .bytes(),
            );
        }
        let part = ip("10.0.1.1", REMOTE, 47, &[1; 32]);
        case.at(
            20,
            "guest-a",
            part.clone().fragment(0, true).link(GUEST_A, NET_A).bytes(),
        );
        case.at(
            21,
            "guest-a",
            part.fragment(4, false).link(GUEST_A, NET_A).bytes(),
        );
        // A source no SNAT rule covers and no personality owns.
        case.at(
            30,
            "guest-a",
            udp("10.0.9.9:4000", "198.51.100.9:53", b"")
                .link(GUEST_A, NET_A)
                .bytes(),
        );
    });
}

/// A guest's own address does not leave by an uplink, whoever forgot to translate it.
#[test]
fn x01_egress_guard() {
    check("x01_egress_guard", |case| {
        case.at(
            0,
            "guest",
            who_has("10.0.1.254", (GUEST_A, "10.0.1.1")).bytes(),
        );
        case.at(
            0,
            "uplink",
            who_has("203.0.113.10", (PROVIDER, "203.0.113.1")).bytes(),
        );
        for (n, from) in ["10.0.1.1:4000", "203.0.113.9:4000", "203.0.113.10:4000"]
            .iter()
            .enumerate()
        {
            let packet = udp(from, "198.51.100.9:53", b"leak").link(GUEST_A, NET_A);
            case.at(10 + n as u64, "guest", packet.bytes());
        }
        case.at(
            20,
            "guest",
            ip("10.0.1.1", REMOTE, 47, b"leak")
                .link(GUEST_A, NET_A)
                .bytes(),
        );
        let first = udp("10.0.1.1:4000", "198.51.100.9:53", &[7; 16]).fragment(0, true);
        case.at(20, "guest", first.link(GUEST_A, NET_A).bytes());
        let part = ip("10.0.1.1", REMOTE, 17, b"leak leak").fragment(3, false);
        case.at(21, "guest", part.link(GUEST_A, NET_A).bytes());
        let about = udp("198.51.100.9:53", "10.0.1.1:4000", b"").bytes();
        case.at(
            22,
            "guest",
            error("10.0.1.1", REMOTE, (3, 3), [0; 4], &about)
                .link(GUEST_A, NET_A)
                .bytes(),
        );
    });
}

/// A session's packets come in by its interfaces, and by no other: not from another guest that
/// forges the opener's address, and not to another personality's MAC.
#[test]
fn x02_sessions_belong_to_their_interfaces() {
    check("x02_sessions_belong_to_their_interfaces", |case| {
        case.all_known();
        let out = udp("10.0.1.1:4000", "198.51.100.9:53", b"question");
        case.at(10, "guest-a", out.clone().link(GUEST_A, NET_A).bytes());
        case.at(20, "guest-b", out.clone().link(GUEST_B, NET_B).bytes());
        let back = udp("198.51.100.9:53", "203.0.113.10:4000", b"answer");
        case.at(21, "uplink", back.clone().link(PROVIDER, C).bytes());
        let tagged = back.clone().link(PROVIDER, B).vlan(20);
        case.at(22, "uplink", tagged.bytes());
        let inside = udp("198.51.100.9:53", "203.0.113.10:4000", b"forged");
        case.at(23, "guest-b", inside.link(GUEST_B, NET_B).bytes());
        let about = udp("203.0.113.10:4000", "198.51.100.9:53", b"question").bytes();
        let error = error(REMOTE, "203.0.113.10", (3, 3), [0; 4], &about);
        case.at(24, "uplink", error.link(PROVIDER, C).bytes());
        case.at(30, "guest-a", out.link(GUEST_A, NET_A).bytes());
        case.at(31, "uplink", back.link(PROVIDER, A).bytes());
    });
}
