//! Sessions in memory that outlives the process (P04).

use std::time::Duration;

use tapgate_engine::drops::DropReason;
use tapgate_engine::model::health::Outage;
use tapgate_tests::memory::Memory;
use tapgate_tests::packet::{tcp, udp};
use tapgate_tests::recipe::*;
use tapgate_tests::router::{Router, config, mac_of};

use super::{OUT, converse, inbound, outbound, stations};

/// The dataplane ends and another takes its place over the same memory: flows go on, also if the
/// first packet after it comes from outside, and no port is given to somebody else.
#[test]
fn sessions_outlive_the_process() {
    let config = config(MULTI_MAC);
    for inbound_first in [true, false] {
        let mut memory = Memory::free(1_024);
        memory.start(&config, |before| {
            stations(before);
            converse(before);
        });
        memory.start(&config, |after| go_on(after, inbound_first));
    }
}

/// All flows go on 500 ms later.
fn go_on(after: &mut Router, inbound_first: bool) {
    after.now = after.now + Duration::from_millis(500);
    stations(after);
    assert_eq!(after.sessions().len(), 3);
    // Another guest of the network wants the same port.
    let rival =
        udp("10.0.1.2:4000", OUT.1, b"rival").link("02:00:00:00:00:44".parse().unwrap(), NET_A);
    after.inject("guest-a", rival.bytes());
    let sent = after.take_packets("uplink");
    assert_ne!(sent[0][34..36], 4_000_u16.to_be_bytes());

    let both: [fn(&mut Router) -> bool; 2] = if inbound_first {
        [inbound, outbound]
    } else {
        [outbound, inbound]
    };
    for direction in both {
        assert!(direction(after), "inbound first: {inbound_first}");
    }
    let segment = tcp("198.51.100.9:80", "203.0.113.10:4000", "P.", b"more").link(PROVIDER, A);
    after.inject("uplink", segment.bytes());
    assert_eq!(
        after.take_packets("guest-a").len(),
        1,
        "TCP goes on as well"
    );
}

/// What has been idle for too long, or is not allowed any more, does not outlive the process.
#[test]
fn what_is_over_does_not_outlive_the_process() {
    let narrowed = MULTI_MAC.replace(
        "to = \"203.0.113.10\" }",
        "to = \"203.0.113.10\", ports = \"5000-5999\" }",
    );
    for (later, pause) in [(MULTI_MAC, 301), (narrowed.as_str(), 1)] {
        let mut memory = Memory::free(1_024);
        memory.start(&config(MULTI_MAC), |before| {
            stations(before);
            converse(before);
        });
        memory.start(&config(later), |after| {
            after.now = after.now + Duration::from_secs(pause);
            stations(after);
            assert!(!inbound(after), "after {pause} s under\n{later}");
            assert_eq!(after.dropped(DropReason::NoSession), 1);
        });
    }
}

/// Memory that something overwrote is a nuisance, not an end.
#[test]
fn any_memory_is_survived() {
    let config = config(MULTI_MAC);
    for seed in 1..20_u64 {
        let mut memory = Memory::free(256);
        memory.fill(seed);
        memory.start(&config, |router| {
            stations(router);
            router.sessions();
            router.advance(Duration::from_secs(60));
            router.take_all();
            for port in 0..300 {
                let from = format!("10.0.1.1:{}", 4_000 + port);
                router.inject(
                    "guest-a",
                    udp(&from, OUT.1, b"").link(GUEST_A, NET_A).bytes(),
                );
            }
            router.reload(MULTI_MAC);
            router.advance(Duration::from_secs(8_000));
            router.take_all();
            converse(router);
            assert!(inbound(router), "seed {seed}");
        });
    }
}

/// Two uplinks of which the first is preferred: sessions by the second stay there over a start, whoever
/// speaks first, although the new process takes all next hops to be in use (T21).
#[test]
fn t21_sessions_by_an_uplink_that_is_not_preferred_outlive_the_process() {
    const TEXT: &str = r#"
[ports]
first = { memory = true }
second = { memory = true }
a = { memory = true }
[personalities]
x = { port = "first", mac = "02:00:00:00:00:aa", addresses = ["203.0.113.10/24"], gateway = "203.0.113.1" }
y = { port = "second", mac = "02:00:00:00:00:bb", addresses = ["198.18.0.10/24"], gateway = "198.18.0.1" }
[networks]
lan = { ports = ["a"], addresses = ["10.0.1.254/24"], mac = "02:00:00:00:00:01" }
[guests]
web = { port = "a", mac = "02:00:00:00:01:01", addresses = ["10.0.1.1"] }
[nat]
snat = [{ from = "10.0.1.0/24", dev = "x" }, { from = "10.0.1.0/24", dev = "y" }]
forward = [{ proto = "tcp", address = "198.18.0.10", port = 80, to = "10.0.1.1:80" }]
[tables]
main = [{ to = "default", dev = "x", metric = 10 }, { to = "default", dev = "y", metric = 20 }]
"#;
    let guest = |packet: tapgate_tests::packet::Packet| {
        let [from, to] = ["02:00:00:00:01:01", "02:00:00:00:00:01"];
        packet
            .link(from.parse().unwrap(), to.parse().unwrap())
            .bytes()
    };
    let source = |router: &mut Router| {
        let sent = router.take_packets("second");
        assert!(router.take_packets("first").is_empty());
        sent.first().map(|bytes| bytes[26..30].to_vec())
    };
    let config = config(TEXT);
    let mut memory = Memory::free(64);
    memory.start(&config, |before| {
        before.answer_everything();
        before.wait(10_000);
        before.set_outage("x", "203.0.113.1", Some(Outage::Silent));
        let opened = tcp("198.51.100.9:4000", "198.18.0.10:80", "S", b"");
        let gateway = mac_of("198.18.0.1".parse().unwrap());
        before.inject(
            "second",
            opened
                .link(gateway, "02:00:00:00:00:bb".parse().unwrap())
                .bytes(),
        );
        before.wait(10);
        before.inject(
            "a",
            guest(tcp("10.0.1.1:80", "198.51.100.9:4000", "S.", b"")),
        );
        before.inject(
            "a",
            guest(udp("10.0.1.1:5000", "198.51.100.9:53", b"query")),
        );
        before.wait(10);
        assert_eq!(before.sessions().len(), 2);
    });
    memory.start(&config, |after| {
        after.answer_everything();
        after.wait(10);
        after.take_all();
        for packet in [
            tcp("10.0.1.1:80", "198.51.100.9:4000", "P.", b"more"),
            udp("10.0.1.1:5000", "198.51.100.9:53", b"again"),
        ] {
            after.inject("a", guest(packet));
            after.wait(10);
            assert_eq!(source(after), Some(vec![198, 18, 0, 10]));
        }
        assert_eq!(after.sessions().len(), 2);
        assert_eq!(after.counts().get("sessions_revoked"), None);
    });
}
