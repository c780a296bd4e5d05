//! IPv4 forwarding: rows F01 to F04, F08, F13 to F18, X02, X03.

use tapgate_tests::golden::check;
use tapgate_tests::packet::{self, ip, mac, ping, tcp, udp};
use tapgate_tests::recipe::*;

const A_TO_B: (&str, &str) = ("10.0.1.1:4000", "10.0.2.1:5000");

/// Headers that are wrong are dropped in silence; the same packet in order passes.
#[test]
fn f01_malformed_headers() {
    check("f01_malformed_headers", |case| {
        case.all_known();
        let good = udp(A_TO_B.0, A_TO_B.1, &[7; 100])
            .link(GUEST_A, NET_A)
            .bytes();
        // Header checksum, version 3, version 6, header length 4 words, total length beyond the
        // frame, total length within the header.
        let mutants: [(usize, &[u8]); 6] = [
            (24, &[0x01, 0x90]),
            (14, &[0x35]),
            (14, &[0x65]),
            (14, &[0x44]),
            (16, &[0x01, 0x90]),
            (16, &[0x00, 0x13]),
        ];
        for (n, (at, bytes)) in mutants.into_iter().enumerate() {
            let mut mutant = good.clone();
            mutant[at..at + bytes.len()].copy_from_slice(bytes);
            // All but the first carry a right checksum, so that it is not that which stops them.
            if n > 0 {
                refresh(&mut mutant);
            }
            case.at(10 + n as u64, "guest-a", mutant);
        }
        for length in [15, 33] {
            case.at(20, "guest-a", &good[..length]);
        }
        case.at(30, "guest-a", good);
    });
}

/// Bytes after the packet are link padding: not forwarded, not summed.
#[test]
fn f02_link_padding() {
    check("f02_link_padding", |case| {
        case.all_known();
        let short = udp(A_TO_B.0, A_TO_B.1, b"").link(GUEST_A, NET_A);
        case.at(10, "guest-a", short.clone().padded(18).bytes());
        case.at(20, "guest-a", short.padded(10).bytes());
        let trailer = tcp("10.0.1.1:4000", "198.51.100.9:80", "S", b"").link(GUEST_A, NET_A);
        case.at(30, "guest-a", trailer.padded(6).bytes());
        case.at(
            40,
            "guest-a",
            ping("10.0.1.1", "10.0.1.254", 1, 1, b"x")
                .link(GUEST_A, NET_A)
                .padded(17)
                .bytes(),
        );
    });
}

/// The TTL goes down by one; at zero the sender is told.
#[test]
fn f03_ttl() {
    check("f03_ttl", |case| {
        case.all_known();
        for (n, ttl) in [64, 2, 1, 0].into_iter().enumerate() {
            let packet = udp(A_TO_B.0, A_TO_B.1, b"ttl")
                .ttl(ttl)
                .link(GUEST_A, NET_A);
            case.at(10 + n as u64, "guest-a", packet.bytes());
        }
    });
}

/// An address of the router itself is reached with a TTL of 1.
#[test]
fn f04_own_address_with_ttl_1() {
    check("f04_own_address_with_ttl_1", |case| {
        case.all_known();
        case.at(
            10,
            "guest-a",
            ping("10.0.1.1", "10.0.1.254", 1, 1, b"own")
                .ttl(1)
                .link(GUEST_A, NET_A)
                .bytes(),
        );
        case.at(
            20,
            "uplink",
            ping("192.0.2.1", "203.0.113.10", 1, 1, b"own")
                .ttl(1)
                .link(PROVIDER, A)
                .bytes(),
        );
    });
}

/// Larger than the egress MTU, DF clear: fragments that reassemble.
#[test]
fn f08_fragmentation() {
    check("f08_fragmentation", |case| {
        case.all_known();
        let payload: Vec<u8> = (0..1472).map(|n| (n % 251) as u8).collect();
        let to_c = udp("10.0.1.1:4000", "10.0.3.1:5000", &payload).link(GUEST_A, NET_A);
        case.at(10, "guest-a", to_c.clone().id(0xbeef).bytes());
        // Router alert is copied into every fragment, record route is not.
        let options = [0x94, 4, 0, 0, 7, 7, 4, 0, 0, 0, 0, 0];
        let less = udp("10.0.1.1:4000", "10.0.3.1:5000", &payload[..1200]).link(GUEST_A, NET_A);
        case.at(20, "guest-a", less.options(&options).bytes());
        // A fragment that must be cut again: the offset goes on, MF stays.
        let first = udp("10.0.1.1:4000", "10.0.3.1:5000", &payload[..792])
            .fragment(0, true)
            .id(9);
        case.at(29, "guest-a", first.link(GUEST_A, NET_A).bytes());
        let part = ip("10.0.1.1", "10.0.3.1", 17, &payload[..800])
            .fragment(100, true)
            .id(9);
        case.at(30, "guest-a", part.link(GUEST_A, NET_A).bytes());
        case.at(40, "guest-a", to_c.df().bytes());
    });
}

/// The echo server: each own address answers from that address, up to the MTU.
#[test]
fn f13_echo() {
    check("f13_echo", |case| {
        case.all_known();
        for (n, size) in [0, 548, 1472].into_iter().enumerate() {
            let payload: Vec<u8> = (0..size).map(|n| n as u8).collect();
            for (m, own) in ["10.0.1.254", "10.0.2.254", "203.0.113.10"]
                .into_iter()
                .enumerate()
            {
                let request = ping("10.0.1.1", own, 7, n as u16, &payload).link(GUEST_A, NET_A);
                case.at(10 + (n * 3 + m) as u64, "guest-a", request.bytes());
            }
            for (own, mac, vlan) in [("203.0.113.10", A, None), ("203.0.113.20", B, Some(20))] {
                let mut request = ping(REMOTE, own, 9, n as u16, &payload).link(PROVIDER, mac);
                if let Some(vlan) = vlan {
                    request = request.vlan(vlan);
                }
                case.at(30 + n as u64, "uplink", request.bytes());
            }
        }
        // A wrong ICMP checksum gets no answer.
        let mut wrong = ping("10.0.1.1", "10.0.1.254", 1, 1, b"x")
            .link(GUEST_A, NET_A)
            .bytes();
        wrong[36] ^= 1;
        case.at(50, "guest-a", wrong);
    });
}

/// Addresses that must not be forwarded, and source routes.
#[test]
fn f14_martians() {
    check("f14_martians", |case| {
        case.all_known();
        let sources = [
            "0.0.0.0",
            "0.1.2.3",
            "127.0.0.1",
            "224.0.0.1",
            "255.255.255.255",
        ];
        for (n, source) in sources.into_iter().enumerate() {
            let packet = ip(source, "10.0.2.1", 253, b"martian").link(GUEST_A, NET_A);
            case.at(10 + n as u64, "guest-a", packet.bytes());
            let packet = ip(source, "10.0.2.1", 253, b"martian").link(PROVIDER, A);
            case.at(10 + n as u64, "uplink", packet.bytes());
        }
        for (n, destination) in ["0.0.0.0", "0.1.2.3", "127.0.0.1"].into_iter().enumerate() {
            let packet = ip("10.0.1.1", destination, 253, b"martian").link(GUEST_A, NET_A);
            case.at(20 + n as u64, "guest-a", packet.bytes());
        }
        for (n, kind) in [0x83, 0x89].into_iter().enumerate() {
            let route = [kind, 7, 4, 10, 0, 3, 1, 0];
            let packet = udp(A_TO_B.0, A_TO_B.1, b"source route").options(&route);
            case.at(
                30 + n as u64,
                "guest-a",
                packet.link(GUEST_A, NET_A).bytes(),
            );
        }
        // 240/4 is unicast like any other.
        case.at(
            40,
            "guest-a",
            udp("10.0.1.1:4000", "240.0.0.1:9", b"E")
                .link(GUEST_A, NET_A)
                .bytes(),
        );
    });
}

/// Broadcasts, and unicast packets in broadcast frames, are not forwarded.
#[test]
fn f15_broadcasts() {
    check("f15_broadcasts", |case| {
        case.all_known();
        let all = mac("ff:ff:ff:ff:ff:ff");
        let group = mac("01:00:5e:00:00:01");
        case.at(
            10,
            "guest-a",
            udp(A_TO_B.0, A_TO_B.1, b"L2").link(GUEST_A, all).bytes(),
        );
        case.at(
            11,
            "guest-a",
            udp(A_TO_B.0, A_TO_B.1, b"L2").link(GUEST_A, group).bytes(),
        );
        case.at(
            12,
            "guest-a",
            udp("10.0.1.1:4000", "255.255.255.255:67", b"")
                .link(GUEST_A, all)
                .bytes(),
        );
        case.at(
            13,
            "guest-a",
            udp("10.0.1.1:4000", "255.255.255.255:67", b"")
                .link(GUEST_A, NET_A)
                .bytes(),
        );
        case.at(
            14,
            "guest-a",
            udp("10.0.1.1:4000", "10.0.2.255:9", b"directed")
                .link(GUEST_A, NET_A)
                .bytes(),
        );
        case.at(
            15,
            "guest-a",
            udp("10.0.1.1:4000", "10.0.1.255:9", b"own")
                .link(GUEST_A, NET_A)
                .bytes(),
        );
        case.at(
            16,
            "guest-a",
            udp("10.0.1.1:4000", "224.0.0.251:5353", b"mdns")
                .link(GUEST_A, group)
                .bytes(),
        );
        case.at(
            17,
            "guest-a",
            ping("10.0.1.1", "10.0.1.255", 1, 1, b"")
                .link(GUEST_A, all)
                .bytes(),
        );
        case.at(
            18,
            "guest-a",
            ping("10.0.1.1", "10.0.1.254", 1, 1, b"")
                .link(GUEST_A, all)
                .bytes(),
        );
        case.at(
            20,
            "uplink",
            udp("198.51.100.9:1", "10.0.2.255:9", b"directed")
                .link(PROVIDER, A)
                .bytes(),
        );
    });
}

/// Link-local addresses stay on their link.
#[test]
fn f16_link_local() {
    check("f16_link_local", |case| {
        case.all_known();
        case.at(
            10,
            "guest-a",
            udp("10.0.1.1:4000", "169.254.1.1:80", b"")
                .link(GUEST_A, NET_A)
                .bytes(),
        );
        case.at(
            20,
            "guest-a",
            udp("169.254.1.1:4000", "10.0.2.1:80", b"")
                .link(GUEST_A, NET_A)
                .bytes(),
        );
    });
}

/// A packet that leaves by the port it came in by draws no redirect.
#[test]
fn f17_no_redirects() {
    check("f17_no_redirects", |case| {
        case.all_known();
        case.at(
            0,
            "guest-a",
            packet::who_has("10.0.1.254", (mac("02:00:00:00:00:77"), "10.0.1.2")).bytes(),
        );
        case.at(
            10,
            "guest-a",
            udp("10.0.1.1:4000", "10.0.1.2:5000", b"same link")
                .link(GUEST_A, NET_A)
                .bytes(),
        );
    });
}

/// Nothing but TTL, checksum and MACs changes on the way.
#[test]
fn f18_nothing_else_changes() {
    check("f18_nothing_else_changes", |case| {
        case.all_known();
        let marked = udp(A_TO_B.0, A_TO_B.1, b"marked").tos(0xb9).id(0xabcd).df();
        case.at(10, "guest-a", marked.link(GUEST_A, NET_A).bytes());
        let options = udp(A_TO_B.0, A_TO_B.1, b"options").options(&[0x94, 4, 0, 0, 1, 1, 1, 0]);
        case.at(20, "guest-a", options.link(GUEST_A, NET_A).bytes());
        let first = udp(A_TO_B.0, A_TO_B.1, &[3; 1472]).fragment(0, true).id(7);
        case.at(29, "guest-a", first.link(GUEST_A, NET_A).bytes());
        let fragment = ip("10.0.1.1", "10.0.2.1", 17, &[3; 64])
            .fragment(185, true)
            .id(7);
        case.at(30, "guest-a", fragment.link(GUEST_A, NET_A).bytes());
        for (n, protocol) in [47, 50, 132, 253].into_iter().enumerate() {
            let other = ip("10.0.1.1", "10.0.2.1", protocol, &[protocol; 20]);
            case.at(40 + n as u64, "guest-a", other.link(GUEST_A, NET_A).bytes());
        }
        // A wrong transport checksum is not the router's to judge, nor to repair.
        let mut wrong = tcp(A_TO_B.0, A_TO_B.1, "S", b"")
            .link(GUEST_A, NET_A)
            .bytes();
        wrong[50] ^= 0xff;
        case.at(50, "guest-a", wrong);
    });
}

/// A personality's MAC with another's address, or another VLAN's, and MACs nobody wears.
#[test]
fn x02_mac_and_address_of_one_personality() {
    check("x02_mac_and_address_of_one_personality", |case| {
        case.all_known();
        let to = |own: &str| ping(REMOTE, own, 1, 1, b"x02");
        case.at(10, "uplink", to("203.0.113.10").link(PROVIDER, C).bytes());
        case.at(11, "uplink", to("203.0.113.20").link(PROVIDER, B).bytes());
        case.at(
            12,
            "uplink",
            to("203.0.113.10").link(PROVIDER, A).vlan(20).bytes(),
        );
        case.at(
            13,
            "uplink",
            to("203.0.113.10")
                .link(PROVIDER, mac("02:00:00:00:00:55"))
                .bytes(),
        );
        case.at(
            14,
            "uplink",
            to("203.0.113.10")
                .link(PROVIDER, mac("ff:ff:ff:ff:ff:ff"))
                .bytes(),
        );
        case.at(
            15,
            "uplink",
            packet::who_has("203.0.113.20", (PROVIDER, "192.0.2.1")).bytes(),
        );
        case.at(
            20,
            "uplink",
            to("203.0.113.20").link(PROVIDER, B).vlan(20).bytes(),
        );
    });
}

/// Our own frames, seen again, go nowhere.
#[test]
fn x03_own_frames() {
    check("x03_own_frames", |case| {
        case.all_known();
        case.at(
            10,
            "uplink",
            ping("203.0.113.10", "203.0.113.30", 1, 1, b"")
                .link(A, C)
                .bytes(),
        );
        case.at(
            11,
            "uplink",
            packet::who_has("203.0.113.10", (C, "203.0.113.30")).bytes(),
        );
        case.at(
            12,
            "uplink",
            udp("203.0.113.10:4000", "198.51.100.9:53", b"")
                .link(A, PROVIDER)
                .bytes(),
        );
        case.at(
            13,
            "guest-a",
            udp("10.0.2.1:4000", "10.0.1.1:53", b"")
                .link(NET_A, GUEST_A)
                .bytes(),
        );
        case.at(
            14,
            "uplink",
            ping(REMOTE, "203.0.113.10", 1, 1, b"")
                .link(mac("03:00:00:00:00:01"), A)
                .bytes(),
        );
    });
}

/// Puts a right checksum on an IPv4 header, whatever else is wrong with it.
fn refresh(frame: &mut [u8]) {
    let length = usize::from(frame[14] & 0xf) * 4;
    frame[24..26].fill(0);
    let check = tapgate_engine::checksum::checksum(&frame[14..14 + length]);
    frame[24..26].copy_from_slice(&check.to_be_bytes());
}
