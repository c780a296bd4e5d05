//! Next hops that go and come back: flows take another way, and return (N11, N24, F05). How long each takes is
//! in the unit tests of `state/nexthops`.

use tapgate_engine::addr::MacAddr;
use tapgate_engine::drops::DropReason;
use tapgate_engine::frame::Verdict;
use tapgate_engine::model::health::Outage;
use tapgate_tests::packet::{Packet, mac, pong, tcp, udp};
use tapgate_tests::recipe::{GUEST_A, NET_A, REMOTE};
use tapgate_tests::router::{Router, mac_of};

const X: &str = "02:00:00:00:00:aa";
const Y: &str = "02:00:00:00:00:bb";
const GATEWAY: &str = "203.0.113.1";
const NOWHERE: &str = "nowhere";

/// A guest behind personalities `x` and `y` of two providers, on a NIC each. `probe` is of `x`.
fn config(probe: &str, routes: &str) -> String {
    format!(
        r#"
[ports]
first = {{ memory = true }}
second = {{ memory = true }}
a = {{ memory = true }}
[personalities]
x = {{ port = "first", mac = "{X}", addresses = ["203.0.113.10/24"], gateway = "{GATEWAY}" {probe} }}
y = {{ port = "second", mac = "{Y}", addresses = ["198.18.0.10/24"], gateway = "198.18.0.1" }}
[networks]
lan = {{ ports = ["a"], addresses = ["10.0.1.254/24"], mac = "{NET_A}" }}
[guests]
a = {{ port = "a", mac = "{GUEST_A}", addresses = ["10.0.1.1"] }}
[nat]
snat = [{{ from = "10.0.1.0/24", dev = "x" }}, {{ from = "10.0.1.0/24", dev = "y" }}]
forward = [{{ proto = "tcp", address = "198.18.0.10", port = 80, to = "10.0.1.1:80" }}]
[tables]
main = [{routes}]
"#
    )
}

/// The same two personalities with IPv6, both probed.
fn config_v6() -> String {
    format!(
        r#"
[ports]
first = {{ memory = true }}
second = {{ memory = true }}
[personalities]
x = {{ port = "first", mac = "{X}", addresses = ["2001:db8:a::10/64"], gateway = "2001:db8:a::1" {PROBE} }}
y = {{ port = "second", mac = "{Y}", addresses = ["2001:db8:b::10/64"], gateway = "fe80::1" {PROBE} }}
[tables]
main = [{TWO_V6}]
"#
    )
}

const PROBE: &str = ", probe = { interval = 1, count = 3 }";
const TWO: &str =
    r#"{ to = "default", dev = "x", metric = 10 }, { to = "default", dev = "y", metric = 20 }"#;

fn router(probe: &str, routes: &str) -> Router {
    let mut router = Router::new(&config(probe, routes));
    router.answer_everything();
    router.explain_everything();
    router.wait(10_000);
    router.take_all();
    router
}

fn send(router: &mut Router, port: u16) -> Verdict {
    let packet = udp(&format!("10.0.1.1:{port}"), &format!("{REMOTE}:9"), b"x");
    router.inject("a", packet.link(GUEST_A, NET_A).bytes())
}

/// The personality that a datagram from this port of the guest leaves by, and the source that it has then.
fn leaves(router: &mut Router, port: u16) -> Option<(char, u16, [u8; 4])> {
    router.take_all();
    send(router, port);
    let sent = [('x', "first"), ('y', "second")].map(|(name, port)| (name, router.take(port)));
    let ip = sent.iter().flat_map(|(name, frames)| {
        let ip = frames.iter().filter(|sent| sent.bytes[12..14] == [8, 0]);
        ip.map(move |sent| (*name, &sent.bytes))
    });
    let all: Vec<_> = ip.collect();
    assert!(all.len() <= 1, "{all:?}");
    let (name, bytes) = all.first()?;
    let source = bytes[26..30].try_into().expect("four bytes");
    Some((*name, u16::from_be_bytes([bytes[34], bytes[35]]), source))
}

fn by(router: &mut Router, port: u16) -> Option<char> {
    leaves(router, port).map(|(name, ..)| name)
}

fn gateway_is(router: &mut Router, there: bool) {
    let address = GATEWAY.parse().expect("an address");
    match there {
        true => router.lives_anywhere(address),
        false => router.lives_on(address, NOWHERE),
    }
}

fn state(router: &Router) -> Option<&'static str> {
    let hops = router.next_hops();
    let (.., down) = hops.iter().find(|(name, ..)| name == "x").expect("it");
    *down
}

#[test]
fn n11_flows_take_another_way_while_a_probed_next_hop_does_not_answer() {
    let mut router = router(PROBE, TWO);
    assert_eq!(by(&mut router, 1), Some('x'));
    gateway_is(&mut router, false);
    // No traffic goes there meanwhile.
    router.wait(5_000);
    assert_eq!(state(&router), Some("no answer"));
    assert_eq!(by(&mut router, 2), Some('y'));
    // A session has another address there, so that it ends; its next packet opens another.
    assert_eq!(
        leaves(&mut router, 1).map(|(name, _, source)| (name, source)),
        Some(('y', [198, 18, 0, 10]))
    );
    assert_eq!(router.counts().get("sessions_revoked"), Some(&1));
    gateway_is(&mut router, true);
    router.wait(5_000);
    assert_eq!((state(&router), by(&mut router, 3)), (None, Some('x')));
    // What began meanwhile goes on as it is: it would have another address.
    assert_eq!(by(&mut router, 2), Some('y'));
    assert_eq!(router.counts().get("sessions_revoked"), Some(&1));
}

/// As when the dataplane is started anew meanwhile: nobody has to send something there first.
#[test]
fn n11_a_next_hop_that_is_gone_from_the_start_is_known_to_be_after_one_interval() {
    let mut router = Router::new(&config(PROBE, TWO));
    router.answer_everything();
    gateway_is(&mut router, false);
    assert_eq!((by(&mut router, 1), state(&router)), (None, None));
    router.wait(1_100);
    assert_eq!(state(&router), Some("no answer"));
    assert_eq!(by(&mut router, 2), Some('y'));
    gateway_is(&mut router, true);
    // It was not lost, and is used as soon as it answers.
    router.wait(1_000);
    router.wait(1_000);
    assert_eq!((state(&router), by(&mut router, 3)), (None, Some('x')));
}

/// What was sent there before the device came was not heard.
#[test]
fn n11_who_did_not_answer_is_asked_again_when_the_device_comes() {
    let mut router = Router::new(&config("", TWO));
    router.answer_everything();
    gateway_is(&mut router, false);
    assert_eq!(send(&mut router, 1), Verdict::Hold);
    router.wait(100);
    gateway_is(&mut router, true);
    router.take_all();
    router.attach("first");
    router.wait(1);
    let sent = router.take("first");
    assert!(sent.iter().any(|sent| sent.bytes[12..14] == [8, 0]));
}

#[test]
fn n11_a_next_hop_is_lost_when_its_mac_cannot_be_had_any_more() {
    let mut router = router("", TWO);
    assert_eq!(by(&mut router, 1), Some('x'));
    gateway_is(&mut router, false);
    let asked = |router: &mut Router| router.counts().get("arp_requests_sent").copied();
    let before = asked(&mut router);
    router.wait(60_000);
    assert_eq!(state(&router), None);
    assert_eq!(asked(&mut router), before, "nobody asks");
    // Traffic finds that it is gone: 5 s of delay and 3 probes.
    for second in 0..9 {
        by(&mut router, second);
        router.wait(1_000);
    }
    assert_eq!(state(&router), Some("no answer"));
    assert_eq!(by(&mut router, 100), Some('y'));
    gateway_is(&mut router, true);
    router.wait(5_000);
    assert_eq!((state(&router), by(&mut router, 101)), (None, Some('x')));
}

#[test]
fn a_session_moves_to_another_next_hop_where_it_keeps_its_address() {
    let routes = r#"{ to = "default", dev = "x", metric = 10 },
  { to = "default", dev = "x", via = "203.0.113.2", metric = 20 }"#;
    let mut router = router(PROBE, routes);
    let first = leaves(&mut router, 1).expect("it leaves");
    gateway_is(&mut router, false);
    router.wait(5_000);
    router.take_all();
    send(&mut router, 1);
    router.wait(10);
    let sent = router.take("first");
    let ip = sent.iter().find(|sent| sent.bytes[12..14] == [8, 0]);
    let bytes = &ip.expect("it leaves").bytes;
    let other = mac_of("203.0.113.2".parse().expect("an address"));
    assert_eq!(bytes[..6], other.0);
    assert_eq!(u16::from_be_bytes([bytes[34], bytes[35]]), first.1);
    assert_eq!(router.counts().get("sessions_revoked"), None);
    assert_eq!(router.sessions().len(), 1);
}

#[test]
fn of_several_next_hops_the_others_take_the_flows_of_one_that_is_gone_and_give_them_back() {
    let routes = r#"{ to = "default", nexthops = [{ dev = "x" }, { dev = "y" }] }"#;
    let mut router = router(PROBE, routes);
    let ways = |router: &mut Router, from: u16| -> Vec<Option<char>> {
        (from..from + 40).map(|port| by(router, port)).collect()
    };
    let before = ways(&mut router, 1);
    assert!(before.contains(&Some('x')) && before.contains(&Some('y')));
    gateway_is(&mut router, false);
    router.wait(5_000);
    assert_eq!(ways(&mut router, 1), [Some('y'); 40]);
    gateway_is(&mut router, true);
    router.wait(5_000);
    // Those that are new. Others would have another address again.
    assert_eq!(ways(&mut router, 1), [Some('y'); 40]);
    assert!(ways(&mut router, 101).contains(&Some('x')));
    let revoked = before.iter().filter(|way| **way == Some('x')).count();
    assert_eq!(
        router.counts().get("sessions_revoked"),
        Some(&(revoked as u64))
    );
}

#[test]
fn what_is_behind_a_link_that_is_down_is_out_of_use_at_once() {
    let mut router = router("", TWO);
    router.set_ports_down(&["first"]);
    assert_eq!(state(&router), Some("link down"));
    assert_eq!(by(&mut router, 1), Some('y'));
    router.set_ports_down(&[]);
    router.wait(5_000);
    assert_eq!((state(&router), by(&mut router, 2)), (None, Some('x')));
}

#[test]
fn f05_where_there_is_no_other_way_what_is_out_of_use_is_tried_all_the_same() {
    let mut router = router(PROBE, r#"{ to = "default", dev = "x" }"#);
    gateway_is(&mut router, false);
    router.wait(5_000);
    assert_eq!(state(&router), Some("no answer"));
    // It waits for the next hop, as it would if nothing were known, and its sender is told in the end.
    // Until then its MAC is trusted.
    router.wait(60_000);
    assert_eq!(send(&mut router, 1), Verdict::Hold);
    router.wait(4_000);
    let unresolved = format!("drop {}", DropReason::NeighborUnresolved.name());
    assert_eq!(router.counts().get(&unresolved), Some(&1));
    // It is back before it is trusted again.
    gateway_is(&mut router, true);
    router.wait(1_100);
    assert_eq!(by(&mut router, 2), Some('x'));
}

#[test]
fn f05_of_those_that_are_out_of_use_the_nearest_to_use_is_tried() {
    let y = "198.18.0.1";
    let from_best = [
        Outage::Damped,
        Outage::TargetSilent,
        Outage::Silent,
        Outage::LinkDown,
    ];
    for (place, better) in from_best.into_iter().enumerate() {
        for worse in &from_best[place + 1..] {
            let mut router = router("", TWO);
            router.set_outage("x", GATEWAY, Some(*worse));
            router.set_outage("y", y, Some(better));
            assert_eq!(by(&mut router, 1), Some('y'), "{worse:?} {better:?}");
            // A session does not stay where it is worse: it ends, and begins elsewhere.
            router.set_outage("x", GATEWAY, Some(better));
            router.set_outage("y", y, Some(*worse));
            assert_eq!(by(&mut router, 1), Some('x'), "{worse:?} {better:?}");
            // Where it is no worse it stays, although the other has the lower metric.
            router.set_outage("x", GATEWAY, Some(*worse));
            router.set_outage("y", y, Some(*worse));
            assert_eq!(by(&mut router, 1), Some('x'));
        }
    }
}

/// A target that is silent says nothing against a next hop that answers itself, and one that does not has to be
/// heard before it is thought better of.
#[test]
fn f05_a_next_hop_that_is_gone_is_told_from_one_whose_target_is_silent() {
    let probe = format!(", probe = {{ count = 3, target = \"{TARGET}\" }}");
    let mut router = Router::new(&config(&probe, TWO));
    router.answer_everything();
    pinged(&mut router, 5, "first", true);
    pinged(&mut router, 5, "first", false);
    assert_eq!(state(&router), Some("target silent"));
    gateway_is(&mut router, false);
    pinged(&mut router, 60, "first", false);
    assert_eq!(state(&router), Some("no answer"));
    gateway_is(&mut router, true);
    pinged(&mut router, 5, "first", false);
    assert_eq!(state(&router), Some("target silent"));
    pinged(&mut router, 10, "first", true);
    assert_eq!(state(&router), None);
}

#[test]
fn t21_what_came_by_one_uplink_is_answered_by_it_whichever_is_the_default() {
    let mut router = router(PROBE, TWO);
    let other = mac_of("198.18.0.1".parse().expect("an address"));
    let syn = |packet: Packet, from: MacAddr| packet.link(from, mac(Y)).bytes();
    let opened = tcp(&format!("{REMOTE}:4000"), "198.18.0.10:80", "S", b"");
    router.inject("second", syn(opened, other));
    router.wait(10);
    let reply = tcp("10.0.1.1:80", &format!("{REMOTE}:4000"), "S.", b"");
    router.take_all();
    router.inject("a", reply.link(GUEST_A, NET_A).bytes());
    router.wait(10);
    let sent = router.take("second");
    let ip = sent.iter().find(|sent| sent.bytes[12..14] == [8, 0]);
    let bytes = &ip.expect("an answer").bytes;
    assert_eq!(
        (&bytes[6..12], &bytes[26..30]),
        (&mac(Y).0[..], &[198, 18, 0, 10][..])
    );
}

/// Lets seconds pass, in which the host that a probe names answers the pings that come by a port, or does not:
/// how many came.
fn pinged(router: &mut Router, seconds: u32, port: &str, answers: bool) -> usize {
    let mut pings = 0;
    for _ in 0..seconds * 10 {
        router.take_all();
        router.wait(100);
        for sent in router.take(port) {
            let bytes = &sent.bytes;
            let is_ping = bytes[12..14] == [8, 0] && bytes[23] == 1 && bytes[34] == 8;
            if !is_ping || bytes[30..34] != [198, 51, 100, 53] {
                continue;
            }
            assert_eq!(&bytes[26..30], &[203, 0, 113, 10], "by its own address");
            pings += 1;
            let word = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
            let reply = pong(TARGET, "203.0.113.10", word(38), word(40), &bytes[42..]);
            let gateway = mac_of(GATEWAY.parse().expect("an address"));
            if answers {
                let verdict = router.inject(port, reply.link(gateway, mac(X)).bytes());
                assert_eq!(verdict, Verdict::Consumed);
            }
        }
    }
    pings
}

const TARGET: &str = "198.51.100.53";

#[test]
fn a_gateway_that_answers_and_leads_nowhere_is_found_by_pings_of_a_host_beyond() {
    let probe = format!(", probe = {{ count = 3, target = \"{TARGET}\" }}");
    let mut router = Router::new(&config(&probe, TWO));
    router.answer_everything();
    router.explain_everything();
    assert!(pinged(&mut router, 10, "first", true) >= 8);
    assert_eq!((state(&router), by(&mut router, 1)), (None, Some('x')));
    // The gateway goes on answering ARP.
    pinged(&mut router, 5, "first", false);
    assert_eq!(
        (state(&router), by(&mut router, 2)),
        (Some("target silent"), Some('y'))
    );
    pinged(&mut router, 5, "first", true);
    assert_eq!((state(&router), by(&mut router, 3)), (None, Some('x')));
    // What nobody asked for, or somebody else's, is no answer.
    let stranger = mac("02:00:00:00:09:01");
    for (from, id) in [(TARGET, 0), ("198.51.100.54", 7)] {
        let reply = pong(from, "203.0.113.10", id, 1, b"");
        let verdict = router.inject("first", reply.link(stranger, mac(X)).bytes());
        assert!(matches!(verdict, Verdict::Drop(_)), "{verdict:?}");
    }
}

#[test]
fn n11_a_router_of_ipv6_is_probed_by_neighbour_solicitations() {
    let mut router = Router::new(&config_v6());
    router.answer_everything();
    router.wait(10_000);
    let down = |router: &Router| {
        let hops = router.next_hops().into_iter();
        hops.map(|(name, _, down)| (name, down)).collect::<Vec<_>>()
    };
    let both = |x, y| vec![("x".to_owned(), x), ("y".to_owned(), y)];
    assert_eq!(down(&router), both(None, None));
    for (gateway, lost) in [
        ("2001:db8:a::1", both(Some("no answer"), None)),
        ("fe80::1", both(None, Some("no answer"))),
    ] {
        let gateway = gateway.parse().expect("an address");
        router.lives_on(gateway, NOWHERE);
        router.wait(5_000);
        assert_eq!(down(&router), lost);
        router.lives_anywhere(gateway);
        router.wait(6_000);
        assert_eq!(down(&router), both(None, None));
    }
}

/// From the start, also while its own addresses are still claimed (RFC 5227, RFC 4862).
#[test]
fn n11_a_next_hop_that_is_there_is_in_use_from_the_start() {
    let claimed = format!(", acd = true {PROBE}");
    for text in [config(PROBE, TWO), config(&claimed, TWO), config_v6()] {
        let mut router = Router::new(&text);
        router.answer_everything();
        for _ in 0..200 {
            router.wait(100);
            let down = router.next_hops().into_iter().find_map(|(.., down)| down);
            assert_eq!(down, None);
        }
    }
}

const TWO_V6: &str =
    r#"{ to = "::/0", dev = "x", metric = 10 }, { to = "::/0", dev = "y", metric = 20 }"#;

#[test]
fn a_guest_that_is_a_next_hop_cannot_send_what_is_for_behind_it_to_an_uplink() {
    let routes = format!(r#"{TWO}, {{ to = "10.9.0.0/16", dev = "lan", via = "10.0.1.7" }}"#);
    let mut router = router("", &routes);
    router.lives_on("10.0.1.7".parse().expect("an address"), NOWHERE);
    for _ in 0..3 {
        router.take_all();
        let packet = udp("10.0.1.1:5", "10.9.0.1:9", b"x").link(GUEST_A, NET_A);
        let verdict = router.inject("a", packet.bytes());
        assert_eq!(verdict, Verdict::Hold);
        router.wait(5_000);
        for port in ["first", "second"] {
            let sent = router.take(port);
            assert!(sent.iter().all(|sent| sent.bytes[12..14] != [8, 0]));
        }
    }
}
