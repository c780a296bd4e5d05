//! What happens at a start, a reload and a restart: announcements (A04's numbers), sessions that
//! live on or end, memory that outlives the process (P04).

use std::time::Duration;

use tapgate_engine::drops::DropReason;
use tapgate_engine::session::{Record, SessionMemory};
use tapgate_tests::packet::{Arp, ping, pong, tcp, udp, untag};
use tapgate_tests::recipe::*;
use tapgate_tests::router::Router;

const OUT: (&str, &str) = ("10.0.1.1:4000", "198.51.100.9:53");
const BACK: (&str, &str) = ("198.51.100.9:53", "203.0.113.10:4000");

/// Every own address is announced on its own port, in its own VLAN, by its own MAC: as a request
/// and as a reply, three times.
#[test]
fn x01_addresses_are_announced_at_the_start() {
    let mut router = Router::new(MULTI_MAC);
    router.advance(Duration::from_secs(10));
    let mut seen = announcements(&mut router);
    seen.sort();
    let mut expected = Vec::new();
    for (port, vlan, mac, address) in [
        ("guest-a", None, NET_A, "10.0.1.254"),
        ("guest-b", None, NET_B, "10.0.2.254"),
        ("guest-c", None, NET_C, "10.0.3.254"),
        ("uplink", None, A, "203.0.113.10"),
        ("uplink", None, C, "203.0.113.30"),
        ("uplink", Some(20), B, "203.0.113.20"),
    ] {
        for operation in [1, 1, 1, 2, 2, 2] {
            let (port, mac) = (port.to_owned(), mac.to_string());
            expected.push((port, vlan, mac, address.to_owned(), operation));
        }
    }
    expected.sort();
    assert_eq!(seen, expected);
}

/// A port whose device came back is announced on anew, and no other.
#[test]
fn x01_a_port_that_comes_back_is_announced_on() {
    let mut router = Router::new(MULTI_MAC);
    router.advance(Duration::from_secs(10));
    router.take_all();
    let uplink = router.snapshot.port_id("uplink").unwrap();
    router
        .shard
        .port_attached(uplink, &router.snapshot, router.now);
    router.advance(Duration::from_secs(10));
    let seen = announcements(&mut router);
    assert_eq!(seen.len(), 18);
    assert!(seen.iter().all(|(port, ..)| port == "uplink"));
}

/// A reload announces what is new, and nothing that was there before.
#[test]
fn a_reload_announces_only_what_is_new() {
    let mut router = Router::new(MULTI_MAC);
    router.advance(Duration::from_secs(10));
    router.take_all();
    router.reload(&MULTI_MAC.replace("10.0.3.254/24", "10.0.3.253/24"));
    router.advance(Duration::from_secs(10));
    let seen = announcements(&mut router);
    assert_eq!(seen.len(), 6);
    assert!(
        seen.iter()
            .all(|(_, _, _, address, _)| address == "10.0.3.253")
    );
}

/// P04: sessions that the new configuration allows live on, under the translation they had.
#[test]
fn p04_a_reload_keeps_what_is_still_allowed() {
    let mut router = router(MULTI_MAC);
    converse(&mut router);
    let held = "snat = [\n  { from = \"10.0.1.0/24\", to = \"203.0.113.10\"";
    assert!(MULTI_MAC.contains(held));
    for change in [
        // Nothing at all, a guest more, another limit, other timeouts.
        MULTI_MAC.to_owned(),
        format!(
            "{MULTI_MAC}\n[ports.more]\nmemory = true\n[networks.more]\nports = [\"more\"]\naddresses = [\"10.0.9.254/24\"]\n"
        ),
        MULTI_MAC.replace(
            "sessions = 4096",
            "sessions = 4096\nicmp_errors_per_second = 5",
        ),
        MULTI_MAC.replace(
            "sessions = 4096",
            "sessions = 4096\ntimeouts = { udp = 600 }",
        ),
        // A port range that holds the ports in use.
        MULTI_MAC.replace(
            "to = \"203.0.113.10\" }",
            "to = \"203.0.113.10\", ports = \"4000-4999\" }",
        ),
        // A rule of another priority, and the interfaces' names in another order.
        MULTI_MAC.replace("priority = 60000", "priority = 59999"),
    ] {
        router.reload(&change);
        assert!(inbound(&mut router), "{change}");
        assert!(outbound(&mut router), "{change}");
        assert_eq!(router.shard.sessions(0, 10, router.now).0.len(), 3);
    }
}

/// The next hop of a route changes: the flow follows it.
#[test]
fn p04_a_reload_moves_flows_to_a_new_next_hop() {
    let mut router = router(MULTI_MAC);
    converse(&mut router);
    let other = "02:00:00:00:00:fd".parse().unwrap();
    router.station("uplink", None, "192.0.2.2", other);
    router.reload(&MULTI_MAC.replace("gateway = \"192.0.2.1\"", "gateway = \"192.0.2.2\""));
    assert!(outbound(&mut router));
    router.inject(
        "guest-a",
        &udp(OUT.0, OUT.1, b"").link(GUEST_A, NET_A).bytes(),
    );
    assert_eq!(router.take_packets("uplink")[0][..6], other.0);
}

/// P04: sessions that the new configuration forbids end, both ways.
#[test]
fn p04_a_reload_ends_what_is_not_allowed_any_more() {
    let changes = [
        // Another address, no translation, another range, no route, another personality.
        MULTI_MAC.replace(
            "from = \"10.0.1.0/24\", to = \"203.0.113.10\" }",
            "from = \"10.0.1.0/24\", to = \"203.0.113.30\" }",
        ),
        MULTI_MAC.replace("{ from = \"10.0.1.0/24\", to = \"203.0.113.10\" },", ""),
        MULTI_MAC.replace(
            "to = \"203.0.113.10\" }",
            "to = \"203.0.113.10\", ports = \"5000-5999\" }",
        ),
        MULTI_MAC.replace("{ to = \"default\", dev = \"A\" },", ""),
        MULTI_MAC.replace(
            "{ to = \"default\", dev = \"A\" },",
            "{ to = \"default\", dev = \"C\" },",
        ),
    ];
    for change in changes {
        assert_ne!(change, MULTI_MAC);
        for first in [inbound, outbound] {
            let mut router = router(MULTI_MAC);
            converse(&mut router);
            router.reload(&change);
            let passed = first(&mut router);
            assert!(!passed, "{change}");
            assert!(!inbound(&mut router), "{change}");
        }
    }
}

/// A reload back and forth while a flow is silent does not end it.
#[test]
fn p04_a_silent_flow_is_judged_when_it_speaks() {
    let mut router = router(MULTI_MAC);
    converse(&mut router);
    router.reload(&MULTI_MAC.replace(
        "to = \"203.0.113.10\" }",
        "to = \"203.0.113.10\", ports = \"5000-5999\" }",
    ));
    router.reload(MULTI_MAC);
    assert!(inbound(&mut router) && outbound(&mut router));
}

/// P04: idle sessions end after their time, not before, and a used one lives on.
#[test]
fn p04_idle_times() {
    for (seconds, alive) in [(299, true), (301, false)] {
        let mut router = router(MULTI_MAC);
        converse(&mut router);
        router.advance(Duration::from_secs(seconds));
        router.take_all();
        assert_eq!(inbound(&mut router), alive, "UDP after {seconds} s");
    }
    for (seconds, alive) in [(59, true), (61, false)] {
        let mut router = router(MULTI_MAC);
        converse(&mut router);
        router.advance(Duration::from_secs(seconds));
        router.take_all();
        let reply = pong(REMOTE, "203.0.113.10", 4_242, 1, b"ping").link(PROVIDER, A);
        router.inject("uplink", &reply.bytes());
        assert_eq!(
            router.take_packets("guest-a").len(),
            usize::from(alive),
            "echo after {seconds} s"
        );
    }
    let segment = |flags| tcp("198.51.100.9:80", "203.0.113.10:4000", flags, b"").link(PROVIDER, A);
    // Established; closing after a reset.
    for (flags, seconds, alive) in [
        (".", 7_439, true),
        (".", 7_441, false),
        ("R", 239, true),
        ("R", 241, false),
    ] {
        let mut router = router(MULTI_MAC);
        converse(&mut router);
        router.inject("uplink", &segment(flags).bytes());
        router.advance(Duration::from_secs(seconds));
        router.take_all();
        router.inject("uplink", &segment(".").bytes());
        let arrived = router.take_packets("guest-a").len();
        assert_eq!(arrived, usize::from(alive), "{flags} and {seconds} s");
    }
}

/// The dataplane ends and another takes its place over the same memory: flows go on, also if the
/// first packet after it comes from outside, and no port is given to somebody else.
#[test]
fn sessions_outlive_the_process() {
    for inbound_first in [true, false] {
        let memory = Memory::new(1_024);
        let mut before = Router::with_memory(MULTI_MAC, memory.mapped());
        stations(&mut before);
        converse(&mut before);
        let now = before.now;
        drop(before);

        let mut after = Router::with_memory(MULTI_MAC, memory.mapped());
        after.now = now + Duration::from_millis(500);
        stations(&mut after);
        assert_eq!(after.shard.sessions(0, 10, after.now).0.len(), 3);
        // Another guest of the network wants the same port.
        let rival =
            udp("10.0.1.2:4000", OUT.1, b"rival").link("02:00:00:00:00:44".parse().unwrap(), NET_A);
        after.inject("guest-a", &rival.bytes());
        let sent = after.take_packets("uplink");
        assert_ne!(sent[0][34..36], 4_000_u16.to_be_bytes());

        let both: [fn(&mut Router) -> bool; 2] = if inbound_first {
            [inbound, outbound]
        } else {
            [outbound, inbound]
        };
        for direction in both {
            assert!(direction(&mut after), "inbound first: {inbound_first}");
        }
        let segment = tcp("198.51.100.9:80", "203.0.113.10:4000", "P.", b"more").link(PROVIDER, A);
        after.inject("uplink", &segment.bytes());
        assert_eq!(
            after.take_packets("guest-a").len(),
            1,
            "TCP goes on as well"
        );
    }
}

/// What has been idle for too long, or is not allowed any more, does not outlive the process.
#[test]
fn what_is_over_does_not_outlive_the_process() {
    let narrowed = MULTI_MAC.replace(
        "to = \"203.0.113.10\" }",
        "to = \"203.0.113.10\", ports = \"5000-5999\" }",
    );
    for (config, pause) in [(MULTI_MAC, 301), (narrowed.as_str(), 1)] {
        let memory = Memory::new(1_024);
        let mut before = Router::with_memory(MULTI_MAC, memory.mapped());
        stations(&mut before);
        converse(&mut before);
        let now = before.now;
        drop(before);
        let mut after = Router::with_memory(config, memory.mapped());
        after.now = now + Duration::from_secs(pause);
        stations(&mut after);
        assert!(!inbound(&mut after), "after {pause} s under\n{config}");
        assert_eq!(after.dropped(DropReason::NoSession), 1);
    }
}

/// Memory that something overwrote is a nuisance, not an end.
#[test]
fn any_memory_is_survived() {
    for seed in 1..20_u64 {
        let memory = Memory::new(256);
        memory.fill(seed);
        let mut router = Router::with_memory(MULTI_MAC, memory.mapped());
        stations(&mut router);
        router.shard.sessions(0, 1_000, router.now);
        router.advance(Duration::from_secs(60));
        router.take_all();
        for port in 0..300 {
            let from = format!("10.0.1.1:{}", 4_000 + port);
            router.inject(
                "guest-a",
                &udp(&from, OUT.1, b"").link(GUEST_A, NET_A).bytes(),
            );
        }
        router.reload(MULTI_MAC);
        router.advance(Duration::from_secs(8_000));
        router.take_all();
        converse(&mut router);
        assert!(inbound(&mut router), "seed {seed}");
    }
}

type Announced = (String, Option<u16>, String, String, u16);

fn announcements(router: &mut Router) -> Vec<Announced> {
    let mut seen = Vec::new();
    for (port, frames) in router.take_all() {
        for sent in frames {
            let (bytes, vlan) = untag(&sent.bytes);
            let arp = Arp::parse(&bytes).expect("nothing but ARP");
            assert_eq!(arp.sender.1, arp.target.1, "an announcement");
            let (mac, address) = (arp.sender.0.to_string(), arp.sender.1.to_string());
            seen.push((port.clone(), vlan, mac, address, arp.operation));
        }
    }
    seen
}

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
        router.inject(port, &packet.bytes());
    }
    router.take_all();
}

/// Whether the flow's packet from the guest leaves as it always did.
fn outbound(router: &mut Router) -> bool {
    router.take_all();
    router.inject(
        "guest-a",
        &udp(OUT.0, OUT.1, b"question").link(GUEST_A, NET_A).bytes(),
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
        &udp(BACK.0, BACK.1, b"answer").link(PROVIDER, A).bytes(),
    );
    let packets = router.take_packets("guest-a");
    packets.len() == 1
        && packets[0][30..34] == [10, 0, 1, 1]
        && packets[0][36..38] == 4_000_u16.to_be_bytes()
}

/// Records that outlive a router, as a mapped memfd does.
struct Memory {
    records: *mut [Record],
}

impl Memory {
    fn new(capacity: usize) -> Self {
        Self {
            records: Box::into_raw(vec![Record::default(); capacity].into()),
        }
    }

    /// The memory for one router; the one before must be gone.
    fn mapped(&self) -> SessionMemory {
        // SAFETY: the records are leaked, so they live forever; each test drops one router before
        // it makes the next, so nobody else refers to them.
        SessionMemory::Mapped(unsafe { &mut *self.records })
    }

    /// Overwrites everything with noise.
    fn fill(&self, seed: u64) {
        let length = size_of::<Record>() * self.records.len();
        // SAFETY: nobody refers to the records now; they consist of integers and addresses, so
        // that any bytes are a valid value.
        let bytes = unsafe { std::slice::from_raw_parts_mut(self.records.cast::<u8>(), length) };
        let mut random = seed;
        for byte in bytes {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            // Small values are the ones that mean something.
            *byte = if random & 0x300 == 0 {
                random as u8
            } else {
                random as u8 & 3
            };
        }
    }
}
