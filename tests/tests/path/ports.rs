//! External ports that come free (T17).

use std::time::Duration;

use tapgate_tests::packet::udp;
use tapgate_tests::recipe::*;
use tapgate_tests::router::Router;

/// The external port by which a datagram from a host of the first network and its port 4000 leaves.
fn leaves_by(router: &mut Router, host: &str) -> u16 {
    router.take_all();
    let datagram = udp(&format!("{host}:4000"), "198.51.100.9:53", b"");
    router.inject("guest-a", datagram.link(GUEST_A, NET_A).bytes());
    let packets = router.take_packets("uplink");
    assert_eq!(packets.len(), 1);
    u16::from_be_bytes([packets[0][34], packets[0][35]])
}

/// RFC 6888 REQ-8: for two minutes a freed port is given to nobody but who had it, while there are
/// others.
#[test]
fn t17_a_freed_port_is_not_given_to_another_guest_at_once() {
    for (pause, host, same) in [
        (302, "10.0.1.1", true),
        (302, "10.0.1.2", false),
        (415, "10.0.1.2", false),
        (550, "10.0.1.2", true),
    ] {
        let mut router = Router::new(MULTI_MAC);
        router.answer_everything();
        router.station("uplink", None, "192.0.2.1", PROVIDER);
        // Somebody else's session goes on.
        assert_eq!(leaves_by(&mut router, "10.0.1.1"), 4_000);
        for _ in 0..pause {
            router.advance(Duration::from_secs(1));
            let other = udp("10.0.1.9:5000", "198.51.100.9:53", b"");
            router.inject("guest-a", other.link(GUEST_A, NET_A).bytes());
        }
        let port = leaves_by(&mut router, host);
        assert_eq!(port == 4_000, same, "{host} after {pause} s");
        assert_eq!(port % 2, 0, "T03: parity");
    }
}
