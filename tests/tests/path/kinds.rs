//! Every kind of translation, byte for byte: what leaves is what a builder makes of the other addresses
//! (T02, T06, T14, T15, T17, T20, T21).

use tapgate_engine::addr::MacAddr;
use tapgate_engine::drops::DropReason;
use tapgate_engine::frame::Verdict;
use tapgate_tests::packet::{Packet, address, error, icmp, ip, mac, ping, pong, tcp, udp};
use tapgate_tests::recipe::{GUEST_A, GUEST_B, NET_A, REMOTE};
use tapgate_tests::router::{Router, mac_of};

const X: &str = "02:00:00:00:00:aa";
const GATEWAY: &str = "203.0.113.1";
const A: &str = "10.0.0.1";
const B: &str = "10.0.0.2";

/// A provider, and guests `a` and `b` in one network; translated so.
fn router(nat: &str) -> Router {
    let mut router = Router::settled(&format!(
        r#"
[ports]
uplink = {{ memory = true }}
a = {{ memory = true }}
b = {{ memory = true }}
[personalities]
x = {{ port = "uplink", mac = "{X}", addresses = ["203.0.113.10/24", "203.0.113.11/32", "203.0.113.12/32", "203.0.113.13/32"], gateway = "{GATEWAY}" }}
[networks]
n = {{ ports = ["a", "b"], addresses = ["10.0.0.254/24"], mac = "{NET_A}" }}
[guests]
a = {{ port = "a", mac = "{GUEST_A}", addresses = ["{A}", "10.0.0.4"] }}
b = {{ port = "b", mac = "{GUEST_B}", addresses = ["{B}"] }}
[tables]
main = [{{ to = "default", dev = "x" }}]
[nat]
{nat}
"#
    ));
    router.answer_everything();
    for (port, from, own) in [("a", GUEST_A, A), ("b", GUEST_B, B)] {
        let first = udp(&format!("{own}:9"), &format!("{REMOTE}:9"), b"");
        router.inject(port, first.link(from, NET_A).bytes());
    }
    router.take_all();
    router.explain_everything();
    router
}

/// A port, the MAC of whoever is behind it, and ours there.
fn link(port: &str) -> (MacAddr, MacAddr) {
    match port {
        "uplink" => (mac_of(address(GATEWAY)), mac(X)),
        "a" => (GUEST_A, NET_A),
        _ => (GUEST_B, NET_A),
    }
}

/// `sent` comes in by a port, and what leaves is `expected` by another, and nothing else.
#[track_caller]
fn passes(router: &mut Router, (from, sent): (&str, Packet), (to, expected): (&str, Packet)) {
    let (theirs, ours) = link(from);
    let verdict = router.inject(from, sent.link(theirs, ours).bytes());
    let left = router.sent();
    assert_eq!(left.len(), 1, "{verdict:?}: {left:02x?}");
    let (theirs, ours) = link(to);
    let expected = expected.ttl(63).link(ours, theirs).bytes();
    assert_eq!(left[0], (to.to_owned(), expected), "left: what came out");
}

/// What a packet is refused for; nothing is forwarded.
#[track_caller]
fn refused(router: &mut Router, (from, sent): (&str, Packet), reason: DropReason) {
    let (theirs, ours) = link(from);
    let verdict = router.inject(from, sent.link(theirs, ours).bytes());
    assert_eq!(verdict, Verdict::Drop(reason));
    router.take_all();
}

fn at(address: &str, port: u16) -> String {
    format!("{address}:{port}")
}

const ONE_TO_ONE: &str = r#"one_to_one = [
  { inside = "10.0.0.1", outside = "203.0.113.11" },
  { inside = "10.0.0.2", outside = "203.0.113.12" },
]
snat = [{ from = "10.0.0.0/24", to = "203.0.113.10" }]"#;

#[test]
fn t20_one_to_one_is_for_all_protocols_both_ways_and_keeps_ports() {
    let mut router = router(ONE_TO_ONE);
    let out = "203.0.113.11";
    for protocol in [47, 50, 51, 132, 253] {
        let body = [protocol; 24];
        let of = |from: &str, to: &str| ip(from, to, protocol, &body);
        passes(
            &mut router,
            ("a", of(A, REMOTE)),
            ("uplink", of(out, REMOTE)),
        );
        passes(
            &mut router,
            ("uplink", of(REMOTE, out)),
            ("a", of(REMOTE, A)),
        );
        passes(
            &mut router,
            ("uplink", of("192.0.2.7", out)),
            ("a", of("192.0.2.7", A)),
        );
        passes(
            &mut router,
            ("a", of(A, "192.0.2.7")),
            ("uplink", of(out, "192.0.2.7")),
        );
    }
    // Below 1024 and above, whoever begins.
    for port in [53, 5_000] {
        let remote = at(REMOTE, 4_000 + port);
        let sent = udp(&at(A, port), &remote, b"question");
        passes(
            &mut router,
            ("a", sent),
            ("uplink", udp(&at(out, port), &remote, b"question")),
        );
        let other = at("192.0.2.7", port);
        let asked = tcp(&other, &at(out, 22), "S", b"");
        passes(
            &mut router,
            ("uplink", asked),
            ("a", tcp(&other, &at(A, 22), "S", b"")),
        );
        let answer = tcp(&at(A, 22), &other, "S.", b"");
        passes(
            &mut router,
            ("a", answer),
            ("uplink", tcp(&at(out, 22), &other, "S.", b"")),
        );
    }
    passes(
        &mut router,
        ("uplink", ping(REMOTE, out, 7, 1, b"ping")),
        ("a", ping(REMOTE, A, 7, 1, b"ping")),
    );
    passes(
        &mut router,
        ("a", pong(A, REMOTE, 7, 1, b"ping")),
        ("uplink", pong(out, REMOTE, 7, 1, b"ping")),
    );
    // An ICMP message that belongs to no flow, such as a timestamp request.
    let timestamp = |from: &str, to: &str| icmp(from, to, (13, 0), [0, 1, 0, 1], &[0; 12]);
    passes(
        &mut router,
        ("uplink", timestamp(REMOTE, out)),
        ("a", timestamp(REMOTE, A)),
    );
    // What has no address of its own outside still shares one.
    passes(
        &mut router,
        ("a", udp("10.0.0.4:5000", &at(REMOTE, 5), b"")),
        ("uplink", udp("203.0.113.10:5000", &at(REMOTE, 5), b"")),
    );
}

#[test]
fn t14_errors_about_one_to_one_flows_show_the_other_side() {
    let mut router = router(ONE_TO_ONE);
    let (inside, outside) = (at(A, 5_000), at("203.0.113.11", 5_000));
    let remote = at(REMOTE, 53);
    let question = udp(&inside, &remote, b"question");
    let left = udp(&outside, &remote, b"question");
    passes(
        &mut router,
        ("a", question.clone()),
        ("uplink", left.clone()),
    );
    let about = |from: &str, to: &str, quoted: &Packet| {
        error(from, to, (3, 3), [0; 4], &quoted.clone().bytes())
    };
    passes(
        &mut router,
        (
            "uplink",
            about(REMOTE, "203.0.113.11", &left.clone().ttl(63)),
        ),
        ("a", about(REMOTE, A, &question.clone().ttl(63))),
    );
    let came = udp(&remote, &outside, b"answer");
    let arrived = udp(&remote, &inside, b"answer");
    passes(
        &mut router,
        ("uplink", came.clone()),
        ("a", arrived.clone()),
    );
    passes(
        &mut router,
        ("a", about(A, REMOTE, &arrived.ttl(63))),
        ("uplink", about("203.0.113.11", REMOTE, &came.ttl(63))),
    );
}

#[test]
fn t06_t15_one_to_one_turns_at_the_address_outside() {
    let mut router = router(ONE_TO_ONE);
    let (a, b) = ("203.0.113.11", "203.0.113.12");
    passes(
        &mut router,
        ("a", ping(A, b, 1, 1, b"hi")),
        ("b", ping(a, B, 1, 1, b"hi")),
    );
    passes(
        &mut router,
        ("b", pong(B, a, 1, 1, b"hi")),
        ("a", pong(b, A, 1, 1, b"hi")),
    );
    let sent = udp(&at(A, 5_000), &at(b, 53), b"x");
    let arrived = udp(&at(a, 5_000), &at(B, 53), b"x");
    passes(&mut router, ("a", sent.clone()), ("b", arrived.clone()));
    let about = |from: &str, to: &str, quoted: Packet| {
        error(from, to, (3, 3), [0; 4], &quoted.ttl(63).bytes())
    };
    passes(
        &mut router,
        ("b", about(B, a, arrived)),
        ("a", about(b, A, sent)),
    );
    // Itself, too.
    let own = tcp(&at(A, 6_000), &at(a, 80), "S", b"");
    passes(
        &mut router,
        ("a", own),
        ("a", tcp(&at(a, 6_000), &at(A, 80), "S", b"")),
    );
}

#[test]
fn t06_what_turns_at_another_personalitys_address_wears_what_it_has_outside() {
    let mut router = Router::settled(&format!(
        r#"
[ports]
uplink = {{ memory = true }}
a = {{ memory = true }}
b = {{ memory = true }}
[personalities]
x = {{ port = "uplink", mac = "{X}", addresses = ["203.0.113.10/24"], gateway = "{GATEWAY}" }}
y = {{ port = "uplink", mac = "02:00:00:00:00:bb", addresses = ["203.0.113.11/32"], gateway = "{GATEWAY}", onlink = true }}
z = {{ port = "uplink", mac = "02:00:00:00:00:cc", addresses = ["203.0.113.12/32"], gateway = "{GATEWAY}", onlink = true }}
[networks]
n = {{ ports = ["a", "b"], addresses = ["10.0.0.254/24"], mac = "{NET_A}" }}
[guests]
a = {{ port = "a", mac = "{GUEST_A}", addresses = ["{A}", "10.0.0.4"] }}
b = {{ port = "b", mac = "{GUEST_B}", addresses = ["{B}"] }}
[tables]
main = [{{ to = "default", dev = "x" }}]
[nat]
snat = [{{ from = "10.0.0.0/24", dev = "x" }}]
one_to_one = [{{ inside = "{A}", outside = "203.0.113.11" }}, {{ inside = "{B}", outside = "203.0.113.12" }}]
"#
    ));
    router.answer_everything();
    // Known alone by another personality's address; only sharing one, at a third.
    for (from, seen) in [(A, "203.0.113.11"), ("10.0.0.4", "203.0.113.10")] {
        passes(
            &mut router,
            ("a", udp(&at(from, 5_000), &at("203.0.113.12", 53), b"x")),
            ("b", udp(&at(seen, 5_000), &at(B, 53), b"x")),
        );
    }
}

const FORWARD: &str = r#"snat = [{ from = "10.0.0.0/24", to = "203.0.113.10" }]
forward = [
  { address = "203.0.113.10", proto = "tcp", port = 80, to = "10.0.0.2:8080" },
  { address = "203.0.113.10", proto = "udp", port = "6000-6999", to = "10.0.0.2" },
  { address = "203.0.113.11", proto = "udp", port = "6000-6999", to = "10.0.0.2:16000" },
  { address = "203.0.113.10", proto = "tcp", port = 22, to = "10.0.0.1", from = ["198.51.100.0/24"] },
  { address = "203.0.113.10", proto = "tcp", port = 22, to = "10.0.0.2:2222", from = ["192.0.2.7"] },
]"#;

#[test]
fn t06_t15_a_forwarded_port_is_reached_from_inside_and_sees_the_address_outside() {
    let mut router = router(FORWARD);
    let shared = "203.0.113.10";
    let syn = tcp(&at(A, 5_000), &at(shared, 80), "S", b"");
    let arrived = tcp(&at(shared, 5_000), &at(B, 8_080), "S", b"");
    passes(&mut router, ("a", syn.clone()), ("b", arrived.clone()));
    let answer = tcp(&at(B, 8_080), &at(shared, 5_000), "S.", b"");
    passes(
        &mut router,
        ("b", answer),
        ("a", tcp(&at(shared, 80), &at(A, 5_000), "S.", b"")),
    );
    let about = |from: &str, to: &str, quoted: Packet| {
        error(from, to, (3, 3), [0; 4], &quoted.ttl(63).bytes())
    };
    passes(
        &mut router,
        ("b", about(B, shared, arrived)),
        ("a", about(shared, A, syn)),
    );
    // The guest that serves it reaches itself, by a port that is free.
    let syn = tcp(&at(B, 5_000), &at(shared, 80), "S", b"");
    let (theirs, ours) = link("b");
    assert_eq!(
        router.inject("b", syn.link(theirs, ours).bytes()),
        router.emit("b")
    );
    let (_, bytes) = router.last_sent().unwrap();
    assert_eq!(
        (&bytes[26..30], &bytes[30..34]),
        (&[203, 0, 113, 10][..], &[10, 0, 0, 2][..])
    );
    assert_ne!(bytes[34..36], 5_000_u16.to_be_bytes(), "that is a's (T03)");
    assert_eq!(bytes[36..38], 8_080_u16.to_be_bytes());
    // One that shares no address shows its own.
    let syn = tcp(&at(A, 7_000), &at("203.0.113.11", 80), "S", b"");
    refused(&mut router, ("a", syn), DropReason::PortUnreachable);
}

#[test]
fn t22_no_source_port_of_a_guest_shadows_what_is_served_at_the_address() {
    let mut router = router(FORWARD);
    let (shared, remote) = ("203.0.113.10", at(REMOTE, 7));
    // From the port that is forwarded to another, and by the identifier that the remote uses.
    for sent in [
        udp(&at(A, 6_500), &remote, b"x"),
        tcp(&at(A, 80), &remote, "S", b""),
        ping(A, REMOTE, 77, 1, b"hi"),
    ] {
        let (theirs, ours) = link("a");
        let verdict = router.inject("a", sent.link(theirs, ours).bytes());
        assert_eq!(verdict, router.emit("uplink"));
    }
    router.take_all();
    passes(
        &mut router,
        ("uplink", udp(&remote, &at(shared, 6_500), b"x")),
        ("b", udp(&remote, &at(B, 6_500), b"x")),
    );
    passes(
        &mut router,
        ("uplink", tcp(&remote, &at(shared, 80), "S", b"")),
        ("b", tcp(&remote, &at(B, 8_080), "S", b"")),
    );
    let (theirs, ours) = link("uplink");
    let asked = ping(REMOTE, shared, 77, 1, b"hi").link(theirs, ours);
    assert_eq!(
        router.inject("uplink", asked.bytes()),
        router.emit("uplink")
    );
    assert_eq!(router.counts()["echo_replies"], 1);
}

#[test]
fn ranges_of_ports_are_forwarded_and_mapped() {
    let mut router = router(FORWARD);
    let remote = at(REMOTE, 9);
    for port in [6_000, 6_500, 6_999] {
        passes(
            &mut router,
            ("uplink", udp(&remote, &at("203.0.113.10", port), b"x")),
            ("b", udp(&remote, &at(B, port), b"x")),
        );
        passes(
            &mut router,
            ("uplink", udp(&remote, &at("203.0.113.11", port), b"x")),
            ("b", udp(&remote, &at(B, port + 10_000), b"x")),
        );
    }
    for port in [5_999, 7_000] {
        let beside = udp(&remote, &at("203.0.113.10", port), b"x");
        refused(&mut router, ("uplink", beside), DropReason::NoSession);
    }
    // Nobody is given a port that is forwarded (T03).
    let mut sent = udp(&at(A, 6_500), &at("192.0.2.7", 1), b"x");
    sent = sent.link(GUEST_A, NET_A);
    assert_eq!(router.inject("a", sent.bytes()), router.emit("uplink"));
    let (_, bytes) = router.last_sent().unwrap();
    let port = u16::from_be_bytes([bytes[34], bytes[35]]);
    assert!(
        !(6_000..7_000).contains(&port) && port.is_multiple_of(2),
        "{port}"
    );
}

#[test]
fn a_port_is_forwarded_for_its_sources_alone() {
    let mut router = router(FORWARD);
    let shared = at("203.0.113.10", 22);
    for (source, port, target) in [(REMOTE, "a", at(A, 22)), ("192.0.2.7", "b", at(B, 2_222))] {
        let from = at(source, 4_000);
        passes(
            &mut router,
            ("uplink", tcp(&from, &shared, "S", b"")),
            (port, tcp(&from, &target, "S", b"")),
        );
    }
    let other = tcp("192.0.2.8:4000", &shared, "S", b"");
    refused(&mut router, ("uplink", other), DropReason::NoSession);
}

#[test]
fn of_several_targets_each_source_keeps_one() {
    let nat = |to: &str| {
        format!(
            "forward = [{{ address = \"203.0.113.10\", proto = \"tcp\", port = 80, to = {to} }}]"
        )
    };
    let mut router = router(&nat(r#"["10.0.0.1", "10.0.0.2:8080"]"#));
    let target = |router: &mut Router, n: u8, port: u16| {
        let syn = tcp(
            &at(&format!("192.0.2.{n}"), port),
            "203.0.113.10:80",
            "S",
            b"",
        );
        let (theirs, ours) = link("uplink");
        router.inject("uplink", syn.link(theirs, ours).bytes());
        let (to, bytes) = router.last_sent().expect("it is forwarded");
        let served = if to == "a" { 80_u16 } else { 8_080 };
        assert_eq!(bytes[36..38], served.to_be_bytes());
        to
    };
    let mut by_a = 0;
    for n in 0..200 {
        let first = target(&mut router, n, 4_000);
        assert_eq!(target(&mut router, n, 4_001), first, "source-sticky");
        by_a += usize::from(first == "a");
    }
    assert!((60..140).contains(&by_a), "spread: {by_a} of 200");
}

#[test]
fn t02_of_a_pool_a_guest_keeps_one_address() {
    let mut router =
        router(r#"snat = [{ from = "10.0.0.0/24", to = "203.0.113.11-203.0.113.13" }]"#);
    let mut worn = |port: &str, own: &str| -> Vec<[u8; 4]> {
        let mut seen = Vec::new();
        for n in 0..100 {
            let sent = udp(&at(own, 5_000 + n), &format!("192.0.2.{n}:53"), b"x");
            let (theirs, ours) = link(port);
            router.inject(port, sent.link(theirs, ours).bytes());
            let (_, bytes) = router.last_sent().expect("it leaves");
            seen.push(bytes[26..30].try_into().unwrap());
        }
        seen.sort_unstable();
        seen.dedup();
        seen
    };
    let (a, b) = (worn("a", A), worn("b", B));
    assert_eq!((a.len(), b.len()), (1, 1), "{a:?} {b:?}");
    assert_ne!(a, b, "they are spread");
    assert_eq!(worn("a", "10.0.0.4"), a, "for all that the guest has");
}

/// Prefixes begin at round numbers: that must not lead all of them to the same addresses.
#[test]
fn t02_guests_with_prefixes_are_spread_over_a_pool() {
    let guests: String = (0..16)
        .map(|n| {
            format!(
                "g{n} = {{ port = \"a\", addresses = [\"10.0.0.{}/29\"] }}\n",
                8 * n
            )
        })
        .collect();
    let mut router = Router::settled(&format!(
        r#"
[ports]
uplink = {{ memory = true }}
a = {{ memory = true }}
[personalities]
x = {{ port = "uplink", mac = "{X}", gateway = "{GATEWAY}", addresses = ["203.0.113.10/24", "203.0.113.11/32", "203.0.113.12/32", "203.0.113.13/32"] }}
[networks]
n = {{ ports = ["a"], addresses = ["10.0.0.254/24"], mac = "{NET_A}" }}
[guests]
{guests}
[tables]
main = [{{ to = "default", dev = "x" }}]
[nat]
snat = [{{ from = "10.0.0.0/24", to = "203.0.113.10-203.0.113.13" }}]
"#
    ));
    router.answer_everything();
    let mut worn = std::collections::BTreeMap::new();
    for n in 0..16 {
        let own = format!("10.0.0.{}:5000", 8 * n + 3);
        let sent = udp(&own, "192.0.2.1:53", b"x").link(GUEST_A, NET_A);
        router.inject("a", sent.bytes());
        let left = router.take_packets("uplink");
        let bytes = left.first().expect("it leaves");
        *worn.entry(bytes[26..30].to_vec()).or_insert(0) += 1;
    }
    assert_eq!(worn.into_values().collect::<Vec<_>>(), [4; 4]);
}

#[test]
fn t17_destinations_are_left_out() {
    let nat = r#"snat = [
  { from = "10.0.0.0/24", to = "203.0.113.10", except = ["172.16.0.0/12", "192.0.2.0/24"] },
  { from = "10.0.0.0/25", to = "203.0.113.11", except = ["172.16.0.0/12"] },
]"#;
    let mut router = router(nat);
    for (to, worn) in [
        (REMOTE, "203.0.113.10"),
        ("192.0.2.7", "203.0.113.11"),
        ("172.16.0.9", A),
    ] {
        let to = at(to, 53);
        passes(
            &mut router,
            ("a", udp(&at(A, 5_000), &to, b"x")),
            ("uplink", udp(&at(worn, 5_000), &to, b"x")),
        );
    }
    // Answers find their way, but nobody else does (P04).
    let answer = udp("172.16.0.9:53", &at(A, 5_000), b"x");
    passes(&mut router, ("uplink", answer.clone()), ("a", answer));
    let other = udp("172.16.0.8:53", &at(A, 5_000), b"x");
    refused(
        &mut router,
        ("uplink", other),
        DropReason::InsideDestination,
    );
    // So do errors about what was sent, and no others (P01).
    let sent = udp(&at(A, 5_000), "172.16.0.9:53", b"x").bytes();
    let too_big = ((3, 4), [0, 0, 5, 0]);
    let about = |sent: &[u8]| error("192.0.2.1", A, too_big.0, too_big.1, sent);
    passes(&mut router, ("uplink", about(&sent)), ("a", about(&sent)));
    let unsent = udp(&at(A, 5_001), "172.16.0.9:53", b"x").bytes();
    let wrong = ("uplink", about(&unsent));
    refused(&mut router, wrong, DropReason::IcmpUnmatched);
    // What is translated is not told of at its address inside.
    let translated = udp(&at(A, 5_000), &at(REMOTE, 53), b"x").bytes();
    let wrong = ("uplink", about(&translated));
    refused(&mut router, wrong, DropReason::IcmpUnmatched);
}

#[test]
fn masquerade_wears_what_the_personality_has() {
    let mut router = router(r#"snat = [{ from = "10.0.0.0/24", dev = "x" }]"#);
    passes(
        &mut router,
        ("a", udp(&at(A, 5_000), &at(REMOTE, 53), b"x")),
        ("uplink", udp("203.0.113.10:5000", &at(REMOTE, 53), b"x")),
    );
}

#[test]
fn a_protocol_without_ports_is_translated_where_one_guest_alone_can_be_meant() {
    let mut router = router(r#"snat = [{ from = "10.0.0.0/24", to = "203.0.113.10" }]"#);
    let gre = |from: &str, to: &str| ip(from, to, 47, b"tunnel");
    let shared = "203.0.113.10";
    passes(
        &mut router,
        ("a", gre(A, REMOTE)),
        ("uplink", gre(shared, REMOTE)),
    );
    passes(
        &mut router,
        ("uplink", gre(REMOTE, shared)),
        ("a", gre(REMOTE, A)),
    );
    refused(&mut router, ("b", gre(B, REMOTE)), DropReason::NatAmbiguous);
    passes(
        &mut router,
        ("b", gre(B, "192.0.2.7")),
        ("uplink", gre(shared, "192.0.2.7")),
    );
    // Once the first is over the other may.
    router.wait(301_000);
    router.take_all();
    let (theirs, ours) = link("b");
    let again = gre(B, REMOTE).link(theirs, ours).bytes();
    assert_ne!(
        router.inject("b", again),
        Verdict::Drop(DropReason::NatAmbiguous)
    );
}
