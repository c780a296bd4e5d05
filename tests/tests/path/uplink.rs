//! What comes in by an uplink is from outside, and reaches inside only what it may (H05, P04).

use std::net::SocketAddr;

use etherparse::PacketBuilder;
use tapgate_engine::drops::DropReason;
use tapgate_engine::frame::Verdict;
use tapgate_tests::packet::{tagged, untag};
use tapgate_tests::pair::{GATEWAY, GUEST, Mac, ROUTER_IN, ROUTER_OUT};
use tapgate_tests::router::Router;

const DB: Mac = [2, 0, 0, 0, 1, 2];
const SECOND_OUT: Mac = [2, 0, 0, 0, 0, 0xbb];

/// Two personalities on one uplink, one of them in VLAN 20; two guests, each with a public address of
/// another one.
const CONFIG: &str = r#"
[ports]
up = { memory = true }
g = { memory = true }
h = { memory = true }
[personalities]
A = { port = "up", mac = "02:00:00:00:00:aa", addresses = ["198.51.100.10/24", "2001:db8:9::10/64"], gateway = ["198.51.100.1", "2001:db8:9::1"] }
B = { port = "up", vlan = 20, mac = "02:00:00:00:00:bb", addresses = ["203.0.113.20/24", "2001:db8:a::20/64"], gateway = ["203.0.113.1", "2001:db8:a::1"] }
[networks]
a = { ports = ["g", "h"], addresses = ["10.0.1.254/24", "2001:db8:1::fe/64"], mac = "02:00:00:00:01:fe" }
[guests]
web = { port = "g", mac = "02:00:00:00:01:01", addresses = ["10.0.1.1", "2001:db8:1::1"], public = ["198.51.100.20", "2001:db8:9::20"], personality = "A" }
db = { port = "h", mac = "02:00:00:00:01:02", addresses = ["10.0.1.2", "2001:db8:1::2"], public = ["203.0.113.21", "2001:db8:a::21"], personality = "B" }
[tables]
main = [{ to = "default", dev = "A" }, { to = "::/0", dev = "A" }]
B = [{ to = "default", dev = "B" }, { to = "::/0", dev = "B" }]
[routing]
rules = [{ priority = 100, lookup = "main", suppress_prefixlength = 0 }, { priority = 101, from = "203.0.113.21", lookup = "B" }, { priority = 102, from = "2001:db8:a::21", lookup = "B" }]
[nat]
snat = [{ from = "10.0.1.0/24", to = "198.51.100.10" }, { from = "2001:db8:1::/64", to = "2001:db8:9::10" }]
forward = [
  { address = "198.51.100.10", proto = "udp", port = 2222, to = "10.0.1.1:22" },
  { address = "2001:db8:9::10", proto = "udp", port = 2222, to = "[2001:db8:1::1]:22" },
]
"#;

/// Who has what, in one family.
struct Family {
    remote: &'static str,
    /// Of the first personality, the second and the network.
    own: [&'static str; 3],
    /// Of the first guest and the second.
    public: [&'static str; 2],
    inside: [&'static str; 2],
    /// In the network's prefix.
    nobodys: &'static str,
}

const FAMILIES: [Family; 2] = [
    Family {
        remote: "192.0.2.9",
        own: ["198.51.100.10", "203.0.113.20", "10.0.1.254"],
        public: ["198.51.100.20", "203.0.113.21"],
        inside: ["10.0.1.1", "10.0.1.2"],
        nobodys: "10.0.1.77",
    },
    Family {
        remote: "2001:db8:ffff::9",
        own: ["2001:db8:9::10", "2001:db8:a::20", "2001:db8:1::fe"],
        public: ["2001:db8:9::20", "2001:db8:a::21"],
        inside: ["2001:db8:1::1", "2001:db8:1::2"],
        nobodys: "2001:db8:1::77",
    },
];

fn router() -> Router {
    let mut router = Router::settled(CONFIG);
    router.answer_everything();
    router
}

fn udp(macs: (Mac, Mac), from: (&str, u16), to: (&str, u16)) -> Vec<u8> {
    let end = |(address, port): (&str, u16)| SocketAddr::new(address.parse().unwrap(), port);
    let ethernet = PacketBuilder::ethernet2(macs.0, macs.1);
    let ip = match (end(from), end(to)) {
        (SocketAddr::V4(from), SocketAddr::V4(to)) => {
            ethernet.ipv4(from.ip().octets(), to.ip().octets(), 64)
        }
        (SocketAddr::V6(from), SocketAddr::V6(to)) => {
            ethernet.ipv6(from.ip().octets(), to.ip().octets(), 64)
        }
        mixed => panic!("{mixed:?}"),
    };
    let mut bytes = Vec::new();
    ip.udp(from.1, to.1).write(&mut bytes, b"payload").unwrap();
    bytes
}

/// A packet from the provider's gateway to the first personality's MAC.
fn from_up(from: (&str, u16), to: (&str, u16)) -> Vec<u8> {
    udp((GATEWAY, ROUTER_OUT), from, to)
}

/// The same to the second's.
fn from_up_to_second(from: (&str, u16), to: (&str, u16)) -> Vec<u8> {
    tagged(&udp((GATEWAY, SECOND_OUT), from, to), Some(20))
}

/// The ports by which UDP left when this came in.
fn leaves(router: &mut Router, port: &str, bytes: &[u8]) -> Vec<String> {
    router.take_all();
    router.inject(port, bytes);
    let is_udp = |bytes: &[u8]| match untag(bytes).0 {
        bytes if bytes[12..14] == [8, 0] => bytes[23] == 17,
        bytes if bytes[12..14] == [0x86, 0xdd] => bytes[20] == 17,
        _ => false,
    };
    let sent = router.sent().into_iter();
    let udp = sent.filter(|(_, bytes)| is_udp(bytes));
    udp.map(|(port, _)| port).collect()
}

fn refused(router: &mut Router, what: &str, bytes: &[u8], reason: DropReason) {
    router.take_all();
    let before = router.dropped(reason);
    assert_eq!(
        router.explain("up", bytes).1,
        Verdict::Drop(reason),
        "{what}"
    );
    assert_eq!(router.inject("up", bytes), Verdict::Drop(reason), "{what}");
    assert_eq!(router.dropped(reason), before + 1, "{what}");
    assert!(router.is_silent(), "{what}: {:02x?}", router.sent());
}

#[test]
fn h05_nobody_on_the_uplink_has_an_address_of_ours() {
    let mut router = router();
    for family in &FAMILIES {
        let forged = (family.own.iter().chain(&family.public)).chain(&family.inside);
        for source in forged.chain([&family.nobodys]) {
            let forwarded = (family.own[0], 2222);
            let to = [
                family.public[0],
                family.own[0],
                family.inside[1],
                family.remote,
            ];
            for to in to.map(|to| (to, 53)).into_iter().chain([forwarded]) {
                let what = format!("{source} to {to:?}");
                let bytes = from_up((source, 4_000), to);
                refused(&mut router, &what, &bytes, DropReason::InsideSource);
            }
            let what = format!("{source} to the second");
            let bytes = from_up_to_second((source, 4_000), (family.public[1], 53));
            refused(&mut router, &what, &bytes, DropReason::InsideSource);
        }
    }
    let own = ("fe80::ff:fe00:aa", 4_000);
    let bytes = from_up(own, ("2001:db8:9::10", 53));
    refused(&mut router, "link-local", &bytes, DropReason::InsideSource);
    assert_eq!(router.sessions().len(), 0);
}

#[test]
fn h05_a_forged_packet_does_not_shut_the_true_guest_out() {
    let mut router = router();
    for Family {
        remote,
        own,
        public: [web, db],
        inside: [web_inside, db_inside],
        ..
    } in &FAMILIES
    {
        // To another guest, to the internet, and under a private address that is translated.
        for (source, to, out) in [
            (db, (web, 53), "g"),
            (db, (web_inside, 53), "g"),
            (db, (remote, 53), "up"),
            (db_inside, (web, 53), "g"),
            (db_inside, (remote, 53), "up"),
        ] {
            let what = format!("{source} to {to:?}");
            let genuine = udp((DB, ROUTER_IN), (source, 4_000), (to.0, to.1));
            for forged in [
                from_up((source, 4_000), (to.0, to.1)),
                from_up_to_second((source, 4_000), (to.0, to.1)),
            ] {
                refused(&mut router, &what, &forged, DropReason::InsideSource);
            }
            assert_eq!(leaves(&mut router, "h", &genuine), [out], "{what}");
            // Nor does it count as the guest's once the flow is known.
            let forged = from_up((source, 4_000), (to.0, to.1));
            refused(&mut router, &what, &forged, DropReason::InsideSource);
            assert_eq!(leaves(&mut router, "h", &genuine), [out], "{what}");
        }
        let genuine = udp((DB, ROUTER_IN), (db_inside, 4_000), (own[0], 2222));
        let forged = from_up((db_inside, 4_000), (own[0], 2222));
        refused(
            &mut router,
            "to a forwarded port",
            &forged,
            DropReason::InsideSource,
        );
        // The guest itself reaches it (T06).
        let verdict = router.inject("h", genuine);
        assert!(
            matches!(verdict, Verdict::Emit(_) | Verdict::Hold),
            "{verdict:?}"
        );
    }
}

#[test]
fn h05_p04_inside_addresses_are_reached_by_sessions_and_forwarded_ports_alone() {
    let mut router = router();
    for family in &FAMILIES {
        let remote = (family.remote, 4_000);
        let inside = family
            .inside
            .iter()
            .chain([&family.nobodys, &family.own[2]]);
        for to in inside {
            for bytes in [
                from_up(remote, (to, 53)),
                from_up_to_second(remote, (to, 53)),
            ] {
                refused(&mut router, to, &bytes, DropReason::InsideDestination);
            }
        }
        assert_eq!(router.sessions().len(), 0);
        let forwarded = from_up(remote, (family.own[0], 2222));
        assert_eq!(leaves(&mut router, "up", &forwarded), ["g"]);
        let asks = udp((GUEST, ROUTER_IN), (family.inside[0], 5_000), remote);
        assert_eq!(leaves(&mut router, "g", &asks), ["up"]);
        let answer = from_up(remote, (family.own[0], 5_000));
        assert_eq!(leaves(&mut router, "up", &answer), ["g"]);
        router.reload(CONFIG);
        assert_eq!(
            leaves(&mut router, "up", &forwarded),
            ["g"],
            "after a reload"
        );
        assert_eq!(leaves(&mut router, "up", &answer), ["g"], "after a reload");
        router.wait(4_000_000);
        assert_eq!(router.sessions().len(), 0);
    }
}

#[test]
fn h05_a_public_address_is_reached_at_its_personality_alone() {
    let mut router = router();
    for family in &FAMILIES {
        let remote = (family.remote, 4_000);
        let [web, db] = family.public.map(|address| (address, 53));
        for (what, bytes, reason) in [
            (
                "web at B",
                from_up_to_second(remote, web),
                DropReason::WrongPersonality,
            ),
            ("db at A", from_up(remote, db), DropReason::WrongPersonality),
            (
                "web in VLAN 20",
                tagged(&from_up(remote, web), Some(20)),
                DropReason::UnknownMac,
            ),
            (
                "db in no VLAN",
                untag(&from_up_to_second(remote, db)).0,
                DropReason::UnknownMac,
            ),
        ] {
            refused(&mut router, what, &bytes, reason);
        }
        assert_eq!(router.sessions().len(), 0);
        assert_eq!(leaves(&mut router, "up", &from_up(remote, web)), ["g"]);
        let to_db = from_up_to_second(remote, db);
        assert_eq!(leaves(&mut router, "up", &to_db), ["h"]);
        let answer = udp((DB, ROUTER_IN), db, remote);
        assert_eq!(leaves(&mut router, "h", &answer), ["up"]);
        router.wait(4_000_000);
    }
}

/// A session from before a configuration that gives its source to a guest is not the guest's.
#[test]
fn h05_a_session_of_somebody_outside_ends_when_its_address_becomes_a_guests() {
    for family in &FAMILIES {
        let public = r#"public = ["203.0.113.21", "2001:db8:a::21"], "#;
        assert!(CONFIG.contains(public));
        let before = CONFIG.replace(public, "");
        let mut router = Router::settled(&before);
        router.answer_everything();
        let [web, db] = family.public.map(|address| (address, 53));
        let early = from_up(db, web);
        assert_eq!(leaves(&mut router, "up", &early), ["g"]);
        router.reload(CONFIG);
        let genuine = udp((DB, ROUTER_IN), db, web);
        assert_eq!(leaves(&mut router, "h", &genuine), ["g"]);
        refused(&mut router, "later", &early, DropReason::InsideSource);
    }
}

#[test]
fn h05_explain_says_why() {
    let mut router = router();
    let lines = |router: &mut Router, bytes: &[u8]| {
        let (lines, _) = router.explain("up", bytes);
        lines.last().unwrap().detail.clone()
    };
    let forged = from_up(("10.0.1.2", 4_000), ("198.51.100.20", 53));
    assert!(lines(&mut router, &forged).starts_with("inside-source: "));
    let inside = from_up(("192.0.2.9", 4_000), ("10.0.1.2", 53));
    assert!(lines(&mut router, &inside).starts_with("inside-destination: "));
}

/// The provider's prefix may hold the network's or lie within it, and so may its router: the longer
/// prefix decides, and a router is believed to be where the configuration says.
#[test]
fn h05_the_providers_hosts_are_outside_although_a_shorter_prefix_inside_has_them() {
    let config = CONFIG
        .replace("10.0.1.254/24", "10.0.1.254/8")
        .replace(
            r#"addresses = ["198.51.100.10/24", "2001:db8:9::10/64"], gateway = ["198.51.100.1", "#,
            r#"addresses = ["198.51.100.10/24", "10.200.0.2/24", "2001:db8:9::10/64"], onlink = true, gateway = ["10.9.9.9", "#,
        );
    let mut router = Router::settled(&config);
    router.answer_everything();
    let web = ("198.51.100.20", 53);
    for outside in ["10.200.0.7", "10.9.9.9", "198.51.100.77"] {
        let bytes = from_up((outside, 4_000), web);
        assert_eq!(leaves(&mut router, "up", &bytes), ["g"], "{outside}");
    }
    for inside in ["10.9.9.8", "10.200.1.7"] {
        let bytes = from_up((inside, 4_000), web);
        refused(&mut router, inside, &bytes, DropReason::InsideSource);
    }
}

/// What is served only while it is alive inside may as well be a host of the provider's.
#[test]
fn h05_an_address_that_may_be_alive_is_reached_at_its_personality_and_may_be_outside() {
    let network = "a = { ports = [\"g\", \"h\"], ";
    let proxy = "proxy = { personality = \"A\", alive = [\"2001:db8:9::/64\"] }, ";
    let config = CONFIG.replace(network, &format!("{network}{proxy}"));
    assert_ne!(config, CONFIG);
    let mut router = Router::settled(&config);
    router.answer_everything();
    let bytes = from_up(("2001:db8:9::77", 4_000), ("2001:db8:9::20", 53));
    assert_eq!(leaves(&mut router, "up", &bytes), ["g"]);
    let (from, alive) = (("2001:db8:ffff::9", 4_000), ("2001:db8:9::99", 53));
    let bytes = from_up_to_second(from, alive);
    refused(
        &mut router,
        "alive at B",
        &bytes,
        DropReason::WrongPersonality,
    );
    let bytes = from_up(from, alive);
    assert_eq!(
        router.inject("up", bytes),
        Verdict::Hold,
        "asked for inside"
    );
}
