//! Virtual addresses: who says that it has one gets it, if it lists it; routes, sessions and what is answered
//! follow.

use tapgate_engine::drops::DropReason;
use tapgate_engine::frame::Verdict;
use tapgate_tests::packet::{is_at, mac, ping, udp, who_has};
use tapgate_tests::pair;
use tapgate_tests::router::{Router, mac_of};

const X: &str = "02:00:00:00:00:aa";
const GATEWAY: &str = "02:00:00:00:00:01";
const MACS: [&str; 3] = [
    "02:00:00:00:00:0a",
    "02:00:00:00:00:0b",
    "02:00:00:00:00:0c",
];
/// Inside; outside; of IPv6, outside.
const INSIDE: &str = "10.0.1.100";
const PUBLIC: &str = "203.0.113.100";
const PUBLIC6: &str = "2001:db8:9::100";

/// `a` and `b` list the virtual addresses, `c` does not. `learnt`: their MACs are not configured.
fn text(learnt: bool) -> String {
    let lists = format!(r#"virtual = ["{INSIDE}"], virtual_public = ["{PUBLIC}", "{PUBLIC6}"]"#);
    let guest = |name: &str, n: usize, more: &str| {
        let mac = if learnt {
            String::new()
        } else {
            format!("mac = \"{}\", ", MACS[n])
        };
        format!(
            "{name} = {{ port = \"{name}\", {mac}addresses = [\"10.0.1.{}\", \"2001:db8:1::{}\"], {more} }}",
            n + 1,
            n + 1
        )
    };
    format!(
        r#"
[ports]
uplink = {{ memory = true }}
a = {{ memory = true }}
b = {{ memory = true }}
c = {{ memory = true }}
[personalities]
x = {{ port = "uplink", mac = "{X}", addresses = ["203.0.113.10/24", "2001:db8:9::10/64"], gateway = ["203.0.113.1", "2001:db8:9::1"] }}
[networks]
lan = {{ ports = ["a", "b", "c"], addresses = ["10.0.1.254/24", "2001:db8:1::fe/64"], mac = "{GATEWAY}" }}
[guests]
{}
{}
{}
[nat]
snat = [{{ from = "10.0.1.0/24", dev = "x" }}]
[tables]
main = [{{ to = "default", dev = "x" }}, {{ to = "::/0", dev = "x" }}]
"#,
        guest("a", 0, &lists),
        guest("b", 1, &lists),
        guest("c", 2, ""),
    )
}

fn router() -> Router {
    let mut router = Router::settled(&text(false));
    router.answer_everything();
    router.explain_everything();
    router.take_all();
    router
}

/// A gratuitous ARP of the guest with this MAC, as a request.
fn gratuitous(address: &str, from: &str) -> Vec<u8> {
    who_has(address, (mac(from), address)).bytes()
}

/// What a guest with this MAC says to everybody about the address of IPv6, with these flags.
fn advertisement(from: &str, flags: u8) -> Vec<u8> {
    let macs = (mac(from).0, [0x33, 0x33, 0, 0, 0, 1]);
    let ips = (PUBLIC6, "ff02::1");
    pair::nd(macs, ips, (136, flags), PUBLIC6, Some(2))
}

/// The port that a packet from outside to a virtual address leaves by.
fn reached(router: &mut Router, address: &str, port: u16) -> String {
    router.take_all();
    let gateway = mac_of("203.0.113.1".parse().expect("an address"));
    let packet = udp(
        &format!("198.51.100.9:{port}"),
        &format!("{address}:53"),
        b"?",
    );
    router.inject("uplink", packet.link(gateway, mac(X)).bytes());
    let all = router.take_all();
    let got = all
        .iter()
        .find(|(_, sent)| sent.iter().any(|sent| sent.bytes[12..14] == [8, 0]));
    got.map_or_else(String::new, |(port, _)| port.clone())
}

#[test]
fn a_virtual_address_is_the_first_ones_until_another_announces_it() {
    let mut router = router();
    assert_eq!(router.holder(PUBLIC), "a");
    assert_eq!(reached(&mut router, PUBLIC, 1), "a");
    for (from, port) in [(MACS[1], "b"), (MACS[0], "a")] {
        let before = router.generation();
        assert_eq!(
            router.inject(port, gratuitous(PUBLIC, from)),
            Verdict::Consumed
        );
        router.wait(60);
        assert_eq!(router.generation(), before + 1, "published once");
        assert_eq!(router.holder(PUBLIC), port);
        assert_eq!(reached(&mut router, PUBLIC, 2), port);
        // The other form of announcement changes nothing more.
        let reply = is_at((mac(from), PUBLIC), (mac("ff:ff:ff:ff:ff:ff"), PUBLIC));
        router.inject(port, reply.bytes());
        assert_eq!(router.generation(), before + 1);
    }
    assert_eq!(router.counts()["virtual_addresses_moved"], 2);
}

#[test]
fn sessions_follow_and_it_is_announced_outside() {
    let mut router = router();
    assert_eq!(reached(&mut router, PUBLIC, 7), "a");
    assert_eq!(router.sessions().len(), 1);
    router.take_all();
    router.inject("b", gratuitous(PUBLIC, MACS[1]));
    router.wait(60);
    let told = router.take("uplink");
    let announces = |bytes: &[u8]| {
        bytes[12..14] == [8, 6] && bytes[28..32] == [203, 0, 113, 100] && bytes[6..12] == mac(X).0
    };
    assert!(
        told.iter().any(|sent| announces(&sent.bytes)),
        "by the personality's MAC"
    );
    assert_eq!(reached(&mut router, PUBLIC, 7), "b", "of the same session");
    assert_eq!(router.sessions().len(), 1);
    // The holder's answers pass, and those of the one that was are spoofed.
    let answer = || udp(&format!("{PUBLIC}:53"), "198.51.100.9:7", b"!");
    router.take_all();
    router.inject("b", answer().link(mac(MACS[1]), mac(GATEWAY)).bytes());
    router.wait(10);
    let left = router.take("uplink");
    assert!(left.iter().any(|sent| sent.bytes[12..14] == [8, 0]));
    let from_a = router.inject("a", answer().link(mac(MACS[0]), mac(GATEWAY)).bytes());
    assert_eq!(from_a, Verdict::Drop(DropReason::SpoofedSource));
}

#[test]
fn only_who_lists_it_gets_it() {
    let mut router = router();
    let stranger = router.inject("c", gratuitous(PUBLIC, MACS[2]));
    assert_eq!(stranger, Verdict::Drop(DropReason::SpoofedArp));
    // Nor one that lists it with another guest's MAC, which it has not.
    let forged = router.inject("b", gratuitous(PUBLIC, MACS[0]));
    assert!(matches!(forged, Verdict::Drop(_)), "{forged:?}");
    let gateway = mac_of("203.0.113.1".parse().expect("an address"));
    router.inject("uplink", who_has(PUBLIC, (gateway, PUBLIC)).bytes());
    router.wait(100);
    assert_eq!(router.holder(PUBLIC), "a");
}

#[test]
fn what_is_no_announcement_takes_nothing_from_who_was_heard() {
    let mut router = router();
    // The holder asks for the gateway: it was heard.
    router.inject("a", who_has("10.0.1.254", (mac(MACS[0]), INSIDE)).bytes());
    let asked = router.inject("b", who_has("10.0.1.254", (mac(MACS[1]), INSIDE)).bytes());
    assert_eq!(asked, Verdict::Drop(DropReason::SpoofedArp));
    router.wait(100);
    assert_eq!(router.holder(INSIDE), "a");
}

#[test]
fn after_a_start_who_has_it_is_asked() {
    let mut router = Router::new(&text(false));
    router.wait(3_000);
    let mut asked = router.take("b");
    asked.extend(router.take("a"));
    let asks = |bytes: &[u8]| {
        bytes[12..14] == [8, 6]
            && bytes[28..32] == [10, 0, 1, 254]
            && bytes[38..42] == [10, 0, 1, 100]
    };
    let count = asked.iter().filter(|sent| asks(&sent.bytes)).count();
    assert_eq!(count, 6, "three times, each of the two that list it");
    assert!(!router.take("c").iter().any(|sent| asks(&sent.bytes)));
    // Its answer is enough.
    let answer = is_at((mac(MACS[1]), INSIDE), (mac(GATEWAY), "10.0.1.254"));
    assert_eq!(router.inject("b", answer.bytes()), Verdict::Consumed);
    router.wait(60);
    assert_eq!(router.holder(INSIDE), "b");
    router.take_all();
    router.wait(30_000);
    let asked = router.take("b");
    assert!(!asked.iter().any(|sent| asks(&sent.bytes)), "it was heard");
}

#[test]
fn an_unsolicited_advertisement_takes_over_an_address_of_ipv6() {
    let mut router = router();
    assert_eq!(router.holder(PUBLIC6), "a");
    let bytes = advertisement(MACS[1], 0x20);
    assert_eq!(router.inject("b", bytes), Verdict::Consumed);
    router.wait(60);
    assert_eq!(router.holder(PUBLIC6), "b");
    // One that does not override takes nothing.
    let bytes = advertisement(MACS[0], 0);
    let verdict = router.inject("a", bytes);
    assert!(matches!(verdict, Verdict::Drop(_)), "{verdict:?}");
    assert_eq!(router.holder(PUBLIC6), "b");
}

#[test]
fn a_guest_may_probe_for_what_it_may_have() {
    let mut router = router();
    for (port, from) in [("a", MACS[0]), ("b", MACS[1])] {
        let probe = who_has(INSIDE, (mac(from), "0.0.0.0")).bytes();
        let silence = Verdict::Drop(DropReason::AskedByOwner);
        assert_eq!(router.inject(port, probe), silence, "{port}");
    }
    // Any other must find it taken.
    router.take_all();
    let probe = who_has(INSIDE, (mac(MACS[2]), "0.0.0.0")).bytes();
    let verdict = router.inject("c", probe);
    assert!(matches!(verdict, Verdict::Emit(_)), "{verdict:?}");
}

#[test]
fn of_a_guest_whose_mac_is_learnt_the_new_one_is_asked_for() {
    let mut router = Router::settled(&text(true));
    router.answer_everything();
    for (n, port) in [(0, "a"), (1, "b")] {
        router.station(port, None, INSIDE, mac(MACS[n]));
    }
    router.inject("a", gratuitous(INSIDE, MACS[0]));
    router.wait(60);
    let far = |router: &mut Router, seq: u16| {
        router.take_all();
        let packet = ping("10.0.1.3", INSIDE, 7, seq, b"x");
        router.inject("c", packet.link(mac(MACS[2]), mac(GATEWAY)).bytes());
        router.wait(10);
        let all = router.take_all();
        let to = all.iter().find_map(|(port, sent)| {
            let ip = sent.iter().find(|sent| sent.bytes[12..14] == [8, 0])?;
            Some((port.clone(), ip.bytes[..6].to_vec()))
        });
        to.expect("it arrives")
    };
    assert_eq!(
        far(&mut router, 1),
        ("a".to_owned(), mac(MACS[0]).0.to_vec())
    );
    router.inject("b", gratuitous(INSIDE, MACS[1]));
    router.wait(60);
    assert_eq!(
        far(&mut router, 2),
        ("b".to_owned(), mac(MACS[1]).0.to_vec())
    );
}

#[test]
fn an_apply_leaves_it_where_it_is_while_that_guest_lists_it() {
    let mut router = router();
    router.inject("b", gratuitous(PUBLIC, MACS[1]));
    router.wait(60);
    let more = text(false).replace("[nat]", "[router]\nneighbors = 5000\n[nat]");
    router.reload(&more);
    assert_eq!(router.holder(PUBLIC), "b");
    // Another guest before it changes nothing either.
    let renamed = text(false).replace("\na = { port = \"a\", mac", "\n0 = { port = \"a\", mac");
    router.reload(&renamed);
    assert_eq!(router.holder(PUBLIC), "b");
    let without = text(false);
    let at = without.rfind("virtual = ").expect("b's");
    let end = at + without[at..].find(" }").expect("an end");
    let without = format!("{}{}", &without[..at], &without[end..]);
    router.reload(&without);
    assert_eq!(router.holder(PUBLIC), "a");
}
