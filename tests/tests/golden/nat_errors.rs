//! ICMP errors through source translation: rows T07, T13, T14, P01.

use tapgate_tests::golden::check;
use tapgate_tests::packet::{error, icmp, ping, tcp, udp};
use tapgate_tests::recipe::*;

/// Errors from outside about translated flows: the inner packet is the guest's own again.
#[test]
fn t14_errors_from_outside() {
    check("t14_errors_from_outside", |case| {
        case.all_known();
        case.at(
            10,
            "guest-a",
            udp("10.0.1.1:4000", "198.51.100.9:53", b"some question")
                .link(GUEST_A, NET_A)
                .bytes(),
        );
        case.at(
            11,
            "guest-a",
            tcp("10.0.1.1:4000", "198.51.100.9:80", "S", b"")
                .link(GUEST_A, NET_A)
                .bytes(),
        );
        case.at(
            12,
            "guest-a",
            ping("10.0.1.1", REMOTE, 4242, 1, b"ping")
                .link(GUEST_A, NET_A)
                .bytes(),
        );
        let seen = [
            udp("203.0.113.10:4000", "198.51.100.9:53", b"some question")
                .ttl(60)
                .bytes(),
            tcp("203.0.113.10:4000", "198.51.100.9:80", "S", b"")
                .ttl(60)
                .bytes(),
            ping("203.0.113.10", REMOTE, 4242, 1, b"ping")
                .ttl(60)
                .bytes(),
        ];
        let mut at = 20;
        for (kind, rest) in [
            ((3, 1), [0; 4]),
            ((3, 3), [0; 4]),
            ((3, 4), [0, 0, 5, 0]),
            ((11, 0), [0; 4]),
        ] {
            for about in &seen {
                let message = error("198.51.100.200", "203.0.113.10", kind, rest, about);
                case.at(at, "uplink", message.link(PROVIDER, A).bytes());
                at += 1;
            }
        }
        // The whole packet quoted (RFC 1812 §4.3.2.3), with its payload.
        let whole = icmp(
            "198.51.100.200",
            "203.0.113.10",
            (3, 3),
            [0; 4],
            &seen[0][14..],
        );
        case.at(40, "uplink", whole.link(PROVIDER, A).bytes());
        // The flow lives on (T07).
        case.at(
            50,
            "uplink",
            udp("198.51.100.9:53", "203.0.113.10:4000", b"answer")
                .link(PROVIDER, A)
                .bytes(),
        );
    });
}

/// Errors from a guest about what came in: seen from outside they are about the public flow.
#[test]
fn t14_errors_from_inside() {
    check("t14_errors_from_inside", |case| {
        case.all_known();
        case.at(
            10,
            "guest-a",
            udp("10.0.1.1:4000", "198.51.100.9:53", b"question")
                .link(GUEST_A, NET_A)
                .bytes(),
        );
        case.at(
            20,
            "uplink",
            udp("198.51.100.9:53", "203.0.113.10:4000", b"answer")
                .link(PROVIDER, A)
                .bytes(),
        );
        let seen = udp("198.51.100.9:53", "10.0.1.1:4000", b"answer")
            .ttl(63)
            .bytes();
        case.at(
            30,
            "guest-a",
            error("10.0.1.1", REMOTE, (3, 3), [0; 4], &seen)
                .link(GUEST_A, NET_A)
                .bytes(),
        );
        // From a router behind the guest.
        case.at(
            31,
            "guest-a",
            error("10.0.1.9", REMOTE, (3, 1), [0; 4], &seen)
                .link(GUEST_A, NET_A)
                .bytes(),
        );
    });
}

/// Errors that match no flow, or not the flow they claim, go nowhere.
#[test]
fn p01_errors_that_do_not_match() {
    check("p01_errors_that_do_not_match", |case| {
        case.all_known();
        case.at(
            10,
            "guest-a",
            udp("10.0.1.1:4000", "198.51.100.9:53", b"question")
                .link(GUEST_A, NET_A)
                .bytes(),
        );
        let about = |from: &str, to: &str| udp(from, to, b"question").bytes();
        for (n, seen) in [
            about("203.0.113.10:4001", "198.51.100.9:53"),
            about("203.0.113.10:4000", "198.51.100.9:54"),
            about("203.0.113.10:4000", "198.51.100.8:53"),
            about("203.0.113.30:4000", "198.51.100.9:53"),
            about("198.51.100.9:53", "203.0.113.10:4000"),
            tcp("203.0.113.10:4000", "198.51.100.9:53", "S", b"").bytes(),
            ping("203.0.113.10", REMOTE, 4000, 1, b"").bytes(),
        ]
        .into_iter()
        .enumerate()
        {
            let message = error(REMOTE, "203.0.113.10", (3, 3), [0; 4], &seen);
            case.at(20 + n as u64, "uplink", message.link(PROVIDER, A).bytes());
        }
        // The outer destination is another personality's; a quote cut short; wrong checksums of
        // the message and of the quoted header (T13).
        let right = about("203.0.113.10:4000", "198.51.100.9:53");
        let message = error(REMOTE, "203.0.113.30", (3, 3), [0; 4], &right);
        case.at(30, "uplink", message.link(PROVIDER, C).bytes());
        let cut = icmp(REMOTE, "203.0.113.10", (3, 3), [0; 4], &right[14..14 + 20]);
        case.at(31, "uplink", cut.link(PROVIDER, A).bytes());
        let good = error(REMOTE, "203.0.113.10", (3, 3), [0; 4], &right).link(PROVIDER, A);
        let mut wrong = good.bytes();
        wrong[36] ^= 0x40;
        case.at(32, "uplink", wrong);
        let mut quoted = right.clone();
        quoted[24] ^= 0x40;
        let message = error(REMOTE, "203.0.113.10", (3, 3), [0; 4], &quoted);
        case.at(33, "uplink", message.link(PROVIDER, A).bytes());
        case.at(40, "uplink", good.bytes());
    });
}
