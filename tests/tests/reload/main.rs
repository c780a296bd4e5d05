//! What a reload and a restart leave alone: sessions that live on or end, memory that outlives the
//! process (P04).

mod large;
mod memory;
mod moves;
mod parts;
mod restart;
mod sessions;
mod survival;

use tapgate_tests::packet::{ping, pong, tcp, udp};
use tapgate_tests::recipe::*;
use tapgate_tests::router::Router;

const OUT: (&str, &str) = ("10.0.1.1:4000", "198.51.100.9:53");
const BACK: (&str, &str) = ("198.51.100.9:53", "203.0.113.10:4000");

fn router(config: &str) -> Router {
    let mut router = Router::new(config);
    stations(&mut router);
    router
}

fn stations(router: &mut Router) {
    router.answer_everything();
    router.station("guest-a", None, "10.0.1.1", GUEST_A);
    router.station("uplink", None, "192.0.2.1", PROVIDER);
}

/// Three flows of the first guest, each answered: UDP, an established TCP connection, echo.
fn converse(router: &mut Router) {
    assert!(outbound(router) && inbound(router));
    for (port, packet) in [
        (
            "guest-a",
            tcp("10.0.1.1:4000", "198.51.100.9:80", "S", b"").link(GUEST_A, NET_A),
        ),
        (
            "uplink",
            tcp("198.51.100.9:80", "203.0.113.10:4000", "S.", b"").link(PROVIDER, A),
        ),
        (
            "guest-a",
            tcp("10.0.1.1:4000", "198.51.100.9:80", ".", b"").link(GUEST_A, NET_A),
        ),
        (
            "guest-a",
            ping("10.0.1.1", REMOTE, 4_242, 1, b"ping").link(GUEST_A, NET_A),
        ),
        (
            "uplink",
            pong(REMOTE, "203.0.113.10", 4_242, 1, b"ping").link(PROVIDER, A),
        ),
    ] {
        router.inject(port, packet.bytes());
    }
    router.take_all();
}

/// Whether the flow's packet from the guest leaves as it always did.
fn outbound(router: &mut Router) -> bool {
    router.take_all();
    router.inject(
        "guest-a",
        udp(OUT.0, OUT.1, b"question").link(GUEST_A, NET_A).bytes(),
    );
    let packets = router.take_packets("uplink");
    packets.len() == 1
        && packets[0][26..30] == [203, 0, 113, 10]
        && packets[0][34..36] == 4_000_u16.to_be_bytes()
}

/// Whether the flow's answer reaches the guest.
fn inbound(router: &mut Router) -> bool {
    router.take_all();
    router.inject(
        "uplink",
        udp(BACK.0, BACK.1, b"answer").link(PROVIDER, A).bytes(),
    );
    let packets = router.take_packets("guest-a");
    packets.len() == 1
        && packets[0][30..34] == [10, 0, 1, 1]
        && packets[0][36..38] == 4_000_u16.to_be_bytes()
}
