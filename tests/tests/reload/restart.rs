//! Sessions in memory that outlives the process (P04).

use std::time::Duration;

use tapgate_engine::drops::DropReason;
use tapgate_engine::session::{SessionDetail, SessionMemory, SessionRecord};
use tapgate_tests::packet::{tcp, udp};
use tapgate_tests::recipe::*;
use tapgate_tests::router::Router;

use super::{OUT, converse, inbound, outbound, stations};

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
            assert!(direction(&mut after), "inbound first: {inbound_first}");
        }
        let segment = tcp("198.51.100.9:80", "203.0.113.10:4000", "P.", b"more").link(PROVIDER, A);
        after.inject("uplink", segment.bytes());
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
        converse(&mut router);
        assert!(inbound(&mut router), "seed {seed}");
    }
}

/// Records that outlive a router, as a mapped memfd does.
struct Memory {
    records: *mut [Record],
    details: *mut [SessionDetail],
}

type Record = SessionRecord<std::net::Ipv4Addr>;

impl Memory {
    fn new(capacity: usize) -> Self {
        Self {
            records: Box::into_raw(vec![Record::default(); capacity].into()),
            details: Box::into_raw(vec![SessionDetail::default(); capacity].into()),
        }
    }

    /// The memory for one router; the one before must be gone.
    fn mapped(&self) -> SessionMemory {
        // SAFETY: both lists are leaked, so they live forever; each test drops one router before
        // it makes the next, so nobody else refers to them.
        unsafe { SessionMemory::mapped(&mut *self.records, &mut *self.details) }
    }

    /// Overwrites everything with noise.
    fn fill(&self, seed: u64) {
        let records = size_of::<Record>() * self.records.len();
        let details = size_of::<SessionDetail>() * self.details.len();
        // SAFETY: nobody refers to the lists now; they consist of integers and addresses, so that
        // any bytes are a valid value.
        let (records, details) = unsafe {
            (
                std::slice::from_raw_parts_mut(self.records.cast::<u8>(), records),
                std::slice::from_raw_parts_mut(self.details.cast::<u8>(), details),
            )
        };
        let mut random = seed;
        for byte in records.iter_mut().chain(details) {
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
