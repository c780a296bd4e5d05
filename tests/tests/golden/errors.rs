//! ICMP errors: rows F05 to F07, F09 to F12.

use tapgate_tests::golden::check;
use tapgate_tests::packet::{self, error, icmp, ip, mac, ping, tcp, udp};
use tapgate_tests::recipe::*;

/// No route: network unreachable at once.
#[test]
fn f05_no_route() {
    check("f05_no_route", |case| {
        case.at(
            0,
            "guest",
            packet::who_has("10.0.1.254", (GUEST_A, "10.0.1.1")).bytes(),
        );
        case.at(
            10,
            "guest",
            udp("10.0.1.1:4000", "198.51.100.9:53", b"where to")
                .link(GUEST_A, NET_A)
                .bytes(),
        );
        case.at(
            20,
            "guest",
            tcp("10.0.1.1:4000", "198.51.100.9:80", "S", b"")
                .link(GUEST_A, NET_A)
                .bytes(),
        );
    });
}

/// A next hop that does not resolve: host unreachable, when resolution has failed, once for
/// each packet that waited.
#[test]
fn f05_next_hop_does_not_resolve() {
    check("f05_next_hop_does_not_resolve", |case| {
        case.all_known();
        case.at(
            10,
            "guest-a",
            udp("10.0.1.1:4000", "10.0.2.77:53", b"first")
                .link(GUEST_A, NET_A)
                .bytes(),
        );
        case.at(
            500,
            "guest-a",
            udp("10.0.1.1:4001", "10.0.2.77:53", b"second")
                .link(GUEST_A, NET_A)
                .bytes(),
        );
    });
}

/// What routes say other than "forward": prohibited and unreachable are answered to guests,
/// a blackhole is silent.
#[test]
fn f06_administrative_drops() {
    check("f06_administrative_drops", |case| {
        case.all_known();
        for (n, to) in ["198.18.1.1:9", "198.18.2.1:9", "198.18.3.1:9"]
            .into_iter()
            .enumerate()
        {
            case.at(
                10 + n as u64,
                "guest-a",
                udp("10.0.1.1:4000", to, b"no").link(GUEST_A, NET_A).bytes(),
            );
        }
    });
}

/// The same from the internet: prohibited is silent (decision 6).
#[test]
fn f06_administrative_drops_from_outside() {
    check("f06_administrative_drops_from_outside", |case| {
        case.at(
            0,
            "uplink",
            packet::who_has("203.0.113.10", (PROVIDER, "203.0.113.1")).bytes(),
        );
        for (n, to) in ["198.18.1.1:9", "198.18.2.1:9", "198.18.3.1:9"]
            .into_iter()
            .enumerate()
        {
            let packet = udp("198.51.100.9:4000", to, b"no").link(PROVIDER, A);
            case.at(10 + n as u64, "uplink", packet.bytes());
        }
    });
}

/// Larger than the egress MTU with DF: fragmentation needed, and the MTU.
#[test]
fn f07_fragmentation_needed() {
    check("f07_fragmentation_needed", |case| {
        case.all_known();
        let sized = |to: &str, total: usize| {
            udp("10.0.1.1:4000", to, &vec![1; total - 28])
                .df()
                .link(GUEST_A, NET_A)
                .bytes()
        };
        case.at(10, "guest-a", sized("10.0.3.1:5000", 576));
        case.at(11, "guest-a", sized("10.0.3.1:5000", 577));
        case.at(20, "guest-a", sized("10.0.2.1:5000", 1500));
        case.at(21, "guest-a", sized("10.0.2.1:5000", 1501));
        case.at(30, "guest-a", sized("198.51.100.9:5000", 1500));
        case.at(31, "guest-a", sized("198.51.100.9:5000", 1501));
    });
}

/// An error quotes as much as fits 576 bytes, with the header as it was received.
#[test]
fn f09_quotes_as_much_as_fits() {
    check("f09_quotes_as_much_as_fits", |case| {
        case.all_known();
        let payload: Vec<u8> = (0..1372).map(|n| (n % 253) as u8).collect();
        let long = udp("10.0.1.1:4000", "10.0.2.1:5000", &payload)
            .ttl(1)
            .tos(0x08)
            .id(77);
        case.at(10, "guest-a", long.clone().link(GUEST_A, NET_A).bytes());
        case.at(
            20,
            "guest-a",
            long.options(&[0x94, 4, 0, 0]).link(GUEST_A, NET_A).bytes(),
        );
        let short = udp("10.0.1.1:4000", "10.0.2.1:5000", b"").ttl(1).padded(18);
        case.at(30, "guest-a", short.link(GUEST_A, NET_A).bytes());
    });
}

/// An error comes from the address of the interface it leaves by.
#[test]
fn f10_source_of_errors() {
    check("f10_source_of_errors", |case| {
        case.all_known();
        for (port, from, mac, to) in [
            (
                "guest-a",
                "10.0.1.1:33434",
                (GUEST_A, NET_A),
                "198.51.100.9:33434",
            ),
            (
                "guest-b",
                "10.0.2.1:33434",
                (GUEST_B, NET_B),
                "10.0.1.1:33434",
            ),
            (
                "guest-c",
                "10.0.3.1:33434",
                (GUEST_C, NET_C),
                "198.51.100.9:33434",
            ),
        ] {
            case.at(
                10,
                port,
                udp(from, to, b"trace").ttl(1).link(mac.0, mac.1).bytes(),
            );
        }
        // From outside, answers that come too far.
        for (port, from, mac) in [
            ("guest-a", "10.0.1.1:33434", (GUEST_A, NET_A)),
            ("guest-b", "10.0.2.1:33434", (GUEST_B, NET_B)),
        ] {
            let asks = udp(from, "198.51.100.9:33434", b"asks").link(mac.0, mac.1);
            case.at(15, port, asks.bytes());
        }
        let from = "198.51.100.9:33434";
        case.at(
            20,
            "uplink",
            udp(from, "203.0.113.10:33434", b"trace")
                .ttl(1)
                .link(PROVIDER, A)
                .bytes(),
        );
        case.at(
            21,
            "uplink",
            udp(from, "203.0.113.20:33434", b"trace")
                .ttl(1)
                .link(PROVIDER, B)
                .vlan(20)
                .bytes(),
        );
    });
}

/// What no error is sent about.
#[test]
fn f11_no_error_about() {
    check("f11_no_error_about", |case| {
        case.all_known();
        let all = mac("ff:ff:ff:ff:ff:ff");
        let inner = udp("10.0.2.1:5000", "10.0.1.1:4000", b"inner").bytes();
        let about = |kind| {
            error("10.0.1.1", "10.0.2.1", kind, [0; 4], &inner)
                .ttl(1)
                .link(GUEST_A, NET_A)
                .bytes()
        };
        case.at(10, "guest-a", about((11, 0)));
        case.at(11, "guest-a", about((3, 1)));
        case.at(12, "guest-a", about((12, 0)));
        case.at(
            13,
            "guest-a",
            icmp("10.0.1.1", "10.0.2.1", (5, 1), [10, 0, 1, 2], &inner[14..])
                .ttl(1)
                .link(GUEST_A, NET_A)
                .bytes(),
        );
        let expired = |to: &str| udp("10.0.1.1:4000", to, b"").ttl(1);
        case.at(
            20,
            "guest-a",
            expired("10.0.2.255:9").link(GUEST_A, NET_A).bytes(),
        );
        case.at(
            21,
            "guest-a",
            expired("255.255.255.255:9").link(GUEST_A, all).bytes(),
        );
        case.at(
            22,
            "guest-a",
            expired("224.0.0.9:9")
                .link(GUEST_A, mac("01:00:5e:00:00:09"))
                .bytes(),
        );
        case.at(
            23,
            "guest-a",
            expired("10.0.2.1:9").link(GUEST_A, all).bytes(),
        );
        let later = ip("10.0.1.1", "10.0.2.1", 17, &[1; 32])
            .fragment(4, false)
            .ttl(1);
        case.at(30, "guest-a", later.link(GUEST_A, NET_A).bytes());
        for (n, source) in [
            "0.0.0.0:1",
            "127.0.0.1:1",
            "224.0.0.1:1",
            "240.0.0.1:1",
            "10.0.1.255:1",
        ]
        .into_iter()
        .enumerate()
        {
            case.at(
                40 + n as u64,
                "guest-a",
                udp(source, "10.0.2.1:9", b"")
                    .ttl(1)
                    .link(GUEST_A, NET_A)
                    .bytes(),
            );
        }
        // An echo request and a first fragment do get one.
        case.at(
            50,
            "guest-a",
            ping("10.0.1.1", "10.0.2.1", 1, 1, b"")
                .ttl(1)
                .link(GUEST_A, NET_A)
                .bytes(),
        );
        let first = ip("10.0.1.1", "10.0.2.1", 17, &[1; 32])
            .fragment(0, true)
            .ttl(1);
        case.at(51, "guest-a", first.link(GUEST_A, NET_A).bytes());
    });
}

/// Each kind of error has its own limit: a flood of expired packets does not starve path MTU
/// discovery.
#[test]
fn f12_rate_limit() {
    check("f12_rate_limit", |case| {
        case.at(
            0,
            "guest",
            packet::who_has("10.0.1.254", (GUEST_A, "10.0.1.1")).bytes(),
        );
        for n in 0..20 {
            let expired = udp("10.0.1.1:4000", "10.0.2.1:9", b"").ttl(1).id(n as u16);
            case.at(10 + n, "guest", expired.link(GUEST_A, NET_A).bytes());
        }
        case.at(
            70,
            "guest",
            udp("10.0.1.1:4000", "10.0.2.1:9", &[1; 1000])
                .df()
                .link(GUEST_A, NET_A)
                .bytes(),
        );
        for n in 0..20 {
            let expired = udp("10.0.1.1:4000", "10.0.2.1:9", b"")
                .ttl(1)
                .id(100 + n as u16);
            case.at(1000 + n * 50, "guest", expired.link(GUEST_A, NET_A).bytes());
        }
    });
}
