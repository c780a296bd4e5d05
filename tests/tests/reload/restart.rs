//! Sessions in memory that outlives the process (P04).

use std::time::Duration;

use tapgate_engine::drops::DropReason;
use tapgate_tests::memory::Memory;
use tapgate_tests::packet::{tcp, udp};
use tapgate_tests::recipe::*;
use tapgate_tests::router::{Router, config};

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
