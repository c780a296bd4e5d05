//! Prefixes that stand for each other (T23, RFC 6296), and prefixes of IPv4.

use etherparse::PacketBuilder;
use tapgate_engine::drops::DropReason;
use tapgate_engine::frame::Verdict;
use tapgate_tests::pair::*;
use tapgate_tests::router::Router;

const INSIDE: &str = "fd01:203:405:1::1234";
/// What that is outside (RFC 6296 appendix B).
const OUTSIDE: &str = "2001:db8:1:d550::1234";

const CONFIG: &str = r#"
[ports]
up = { memory = true }
g = { memory = true }
[personalities]
A = { port = "up", mac = "02:00:00:00:00:aa", addresses = ["2001:db8:9::10/64"], gateway = "2001:db8:9::1" }
B = { port = "up", mac = "02:00:00:00:00:bb", addresses = ["2001:db8:9::11/128"], gateway = "2001:db8:9::1", onlink = true }
[networks]
a = { ports = ["g"], addresses = ["fd01:203:405:1::fe/64", "fd01:203:405:ffff::fe/64"], mac = "02:00:00:00:01:fe" }
[tables]
main = [{ to = "::/0", dev = "A" }]
[nat]
one_to_one = [{ inside = "fd01:203:405::/48", outside = "2001:db8:1::/48", dev = "A" }]
"#;

fn router(config: &str) -> Router {
    let mut router = Router::settled(config);
    router.answer_everything();
    for address in [OUTSIDE, "2001:db8:1:d550::2"] {
        let asked = datagram((GATEWAY, ROUTER_OUT), (FAR, 9), (address, 9), 64);
        router.inject("up", asked);
    }
    let said = datagram((GUEST, ROUTER_IN), (INSIDE, 10), (FAR, 10), 64);
    router.inject("g", said);
    router.take_all();
    router.explain_everything();
    router
}

/// The MAC by which an address answers.
fn at(address: &str) -> Mac {
    let [.., a, b, c, d] = v6(address);
    [6, 6, a, b, c, d]
}

fn datagram(macs: (Mac, Mac), from: (&str, u16), to: (&str, u16), hop_limit: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    PacketBuilder::ethernet2(macs.0, macs.1)
        .ipv6(v6(from.0), v6(to.0), hop_limit)
        .udp(from.1, to.1)
        .write(&mut bytes, b"payload")
        .unwrap();
    bytes
}

/// An error of `from` to `to` about the packet in `about`.
fn error(macs: (Mac, Mac), from: &str, to: &str, about: &[u8], hop_limit: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    PacketBuilder::ethernet2(macs.0, macs.1)
        .ipv6(v6(from), v6(to), hop_limit)
        .icmpv6_raw(1, 4, [0; 4])
        .write(&mut bytes, &about[14..])
        .unwrap();
    bytes
}

/// What comes in by a port leaves by another so, to a byte; behind the addresses nothing changes.
#[track_caller]
fn passes(router: &mut Router, (from, sent): (&str, Vec<u8>), (to, expected): (&str, Vec<u8>)) {
    let behind = sent[14 + 40..].to_vec();
    let verdict = router.inject(from, sent);
    let left = router.sent();
    assert_eq!(left, [(to.to_owned(), expected.clone())], "{verdict:?}");
    if expected[20] == 17 {
        assert_eq!(
            expected[14 + 40..],
            behind,
            "the transport header, its checksum too"
        );
    }
}

#[test]
fn t23_an_address_of_the_prefix_wears_another_both_ways_and_no_checksum_changes() {
    let mut router = router(CONFIG);
    let out = |from, hop| datagram((GUEST, ROUTER_IN), (from, 5_000), (FAR, 53), hop);
    let outside = |from, hop| {
        datagram(
            (ROUTER_OUT, at("2001:db8:9::1")),
            (from, 5_000),
            (FAR, 53),
            hop,
        )
    };
    passes(
        &mut router,
        ("g", out(INSIDE, 64)),
        ("up", outside(OUTSIDE, 63)),
    );
    let answer = datagram((GATEWAY, ROUTER_OUT), (FAR, 53), (OUTSIDE, 5_000), 64);
    let inside = datagram((ROUTER_IN, at(INSIDE)), (FAR, 53), (INSIDE, 5_000), 63);
    passes(&mut router, ("up", answer), ("g", inside));
    // Unasked, too: it stands for the guest.
    let asked = datagram((GATEWAY, ROUTER_OUT), (FAR, 7_777), (OUTSIDE, 80), 64);
    let inside = datagram((ROUTER_IN, at(INSIDE)), (FAR, 7_777), (INSIDE, 80), 63);
    passes(&mut router, ("up", asked), ("g", inside));
}

#[test]
fn t23_errors_show_the_other_side() {
    let mut router = router(CONFIG);
    let sent = datagram((GUEST, ROUTER_IN), (INSIDE, 5_000), (FAR, 53), 64);
    router.inject("g", sent);
    router.take_all();
    let left = datagram(
        (ROUTER_OUT, at("2001:db8:9::1")),
        (OUTSIDE, 5_000),
        (FAR, 53),
        63,
    );
    let came = datagram((ROUTER_IN, at(INSIDE)), (INSIDE, 5_000), (FAR, 53), 63);
    passes(
        &mut router,
        ("up", error((GATEWAY, ROUTER_OUT), FAR, OUTSIDE, &left, 64)),
        ("g", error((ROUTER_IN, at(INSIDE)), FAR, INSIDE, &came, 63)),
    );
}

#[test]
fn t23_guests_reach_each_other_at_the_prefix_outside() {
    let mut router = router(CONFIG);
    let (other, outside) = ("fd01:203:405:1::2", "2001:db8:1:d550::2");
    passes(
        &mut router,
        (
            "g",
            datagram((GUEST, ROUTER_IN), (INSIDE, 5_000), (outside, 53), 64),
        ),
        (
            "g",
            datagram((ROUTER_IN, at(other)), (OUTSIDE, 5_000), (other, 53), 63),
        ),
    );
}

#[test]
fn t23_subnet_ffff_has_no_address_outside_and_is_told() {
    let mut router = router(CONFIG);
    let from = "fd01:203:405:ffff::1";
    let sent = datagram((GUEST, ROUTER_IN), (from, 5_000), (FAR, 53), 64);
    assert_eq!(
        router.inject("g", sent),
        Verdict::Drop(DropReason::NatUnsupported)
    );
    let (_, told) = router.last_sent().unwrap();
    let (_, to, kind, code, _) = icmp6(&told);
    assert_eq!((to, kind, code), (v6(from).into(), 1, 3));
}

#[test]
fn t23_h05_nobody_outside_wears_the_prefix_nor_reaches_it_elsewhere() {
    let mut router = router(CONFIG);
    let mut refused = |to_mac, from, to, reason| {
        let sent = datagram((GATEWAY, to_mac), (from, 5_000), (to, 53), 64);
        assert_eq!(router.inject("up", sent), Verdict::Drop(reason));
    };
    refused(
        ROUTER_OUT,
        "2001:db8:1:d550::2",
        OUTSIDE,
        DropReason::InsideSource,
    );
    refused(ROUTER_OUT, FAR, INSIDE, DropReason::InsideDestination);
    let b = [2, 0, 0, 0, 0, 0xbb];
    refused(b, FAR, OUTSIDE, DropReason::WrongPersonality);
}

#[test]
fn prefixes_of_ipv4_keep_what_is_behind_them() {
    let mut router = Router::settled(
        r#"
[ports]
up = { memory = true }
g = { memory = true }
[personalities]
A = { port = "up", mac = "02:00:00:00:00:aa", addresses = ["198.51.100.7/24"], gateway = "198.51.100.1" }
[networks]
a = { ports = ["g"], addresses = ["10.0.1.254/24"], mac = "02:00:00:00:01:fe" }
[tables]
main = [{ to = "default", dev = "A" }]
[nat]
snat = [{ from = "10.0.1.0/24", dev = "A" }]
one_to_one = [{ inside = "10.0.1.0/25", outside = "203.0.113.128/25", dev = "A" }]
"#,
    );
    router.answer_everything();
    let from = |last| ([10, 0, 1, last], 5_000);
    let far = ([192, 0, 2, 1], 53);
    for (last, outside) in [
        (5, ([203, 0, 113, 133], 5_000)),
        (200, ([198, 51, 100, 7], 5_000)),
    ] {
        router.inject("g", udp((GUEST, ROUTER_IN), from(last), far));
        router.inject("g", udp((GUEST, ROUTER_IN), from(last), far));
        let (port, bytes) = router.last_sent().unwrap();
        assert_eq!((port.as_str(), &bytes[26..30]), ("up", &outside.0[..]));
    }
    let answer = udp((GATEWAY, ROUTER_OUT), far, ([203, 0, 113, 133], 5_000));
    router.inject("up", answer);
    let (port, bytes) = router.last_sent().unwrap();
    assert_eq!((port.as_str(), &bytes[30..34]), ("g", &[10, 0, 1, 5][..]));
}
