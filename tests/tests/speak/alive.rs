//! A network whose living addresses are answered for outside.

use std::net::Ipv6Addr;

use etherparse::PacketBuilder;
use tapgate_engine::frame::Verdict;
use tapgate_tests::pair::*;
use tapgate_tests::router::Router;

const ALIVE: &str = r#"
[router]
neighbors = 128
[ports]
up = { memory = true }
g = { memory = true }
[personalities]
A = { port = "up", mac = "02:00:00:00:00:aa", addresses = ["2001:db8:9::7/64"], gateway = "2001:db8:8::1", onlink = true }
[networks]
a = { ports = ["g"], addresses = ["2001:db8:1::1/64"], mac = "02:00:00:00:01:fe", proxy = { personality = "A", alive = ["2001:db8:9::/64"] } }
[tables]
main = [{ to = "::/0", dev = "A" }]
"#;

fn asked_for(last: u32) -> Vec<u8> {
    let target = Ipv6Addr::from_bits(u128::from_be_bytes(v6("2001:db8:9::")) | u128::from(last));
    let [.., a, b, c] = target.octets();
    let group = format!("ff02::1:ff{a:02x}:{b:02x}{c:02x}");
    let macs = (GATEWAY, [0x33, 0x33, 0xff, a, b, c]);
    nd(
        macs,
        ("2001:db8:8::1", &group),
        (135, 0),
        &target.to_string(),
        Some(1),
    )
}

#[test]
fn what_is_alive_inside_is_answered_for_outside() {
    let mut router = Router::settled(ALIVE);
    let (up, guest) = ("up", "g");
    assert_eq!(router.inject(up, asked_for(0x55)), Verdict::Hold);
    router.wait(0);
    let asked: Vec<_> = router.sent();
    assert!(
        asked
            .iter()
            .any(|(port, bytes)| port == guest && bytes[54] == 135),
        "it is asked inside: {asked:02x?}"
    );
    assert!(!asked.iter().any(|(port, _)| port == up), "no answer yet");
    let there = "2001:db8:9::55";
    let answer = nd(
        (GUEST, ROUTER_IN),
        (there, "fe80::1"),
        (136, 0x60),
        there,
        Some(2),
    );
    assert_eq!(router.inject(guest, answer), Verdict::Consumed);
    let sent = router.sent();
    let (port, bytes) = &sent[0];
    assert_eq!(
        (&port[..], bytes[54], bytes[58]),
        (up, 136, 0xc0),
        "the question that waited"
    );
    assert_eq!(
        (&bytes[6..12], &bytes[80..86]),
        (&ROUTER_OUT[..], &ROUTER_OUT[..])
    );
    assert_eq!(
        router.inject(up, asked_for(0x55)),
        Verdict::Consumed,
        "and at once from now on"
    );
    // Its packets pass, both ways, and leave untranslated.
    let mut bytes = Vec::new();
    PacketBuilder::ethernet2(GUEST, ROUTER_IN)
        .ipv6(v6(there), v6("2001:db8:ffff::1"), 64)
        .udp(1, 2)
        .write(&mut bytes, &[])
        .unwrap();
    assert_eq!(router.inject(guest, bytes), router.emit(up));
}

#[test]
fn a_question_about_what_is_not_alive_is_met_with_silence() {
    let mut router = Router::settled(ALIVE);
    let up = "up";
    let target = "2001:db8:9::66";
    let unicast = nd(
        (GATEWAY, ROUTER_OUT),
        ("2001:db8:8::1", target),
        (135, 0),
        target,
        Some(1),
    );
    assert_eq!(router.inject(up, unicast), Verdict::Hold);
    router.wait(10_000);
    let sent = router.sent();
    assert!(!sent.iter().any(|(port, _)| port == up), "{sent:02x?}");
}

#[test]
fn n24_a_scan_costs_no_resolved_neighbour_and_no_state_for_each_target() {
    let mut router = Router::settled(ALIVE);
    let (up, guest) = ("up", "g");
    let there = "2001:db8:9::55";
    router.inject(up, asked_for(0x55));
    router.wait(0);
    let answer = nd(
        (GUEST, ROUTER_IN),
        (there, "fe80::1"),
        (136, 0x60),
        there,
        Some(2),
    );
    router.inject(guest, answer);
    let mut asked = 0;
    for target in 0..100_000 {
        router.inject(up, asked_for(0x1000 + target));
        if target % 100 == 0 {
            // Ten thousand a second.
            router.wait(10);
            asked += router
                .sent()
                .iter()
                .filter(|(port, _)| port == guest)
                .count();
            let verdict = router.inject(up, asked_for(0x55));
            assert_eq!(
                verdict,
                Verdict::Consumed,
                "answered through it all, at {target}"
            );
        }
    }
    assert!(router.neighbors().len() <= 128);
    assert!(asked < 2_000, "{asked} solicitations inside in 10 s");
}
