//! What four million sessions take, and when. A program of its own with one test, because it looks at what
//! the process has.

use std::sync::LazyLock;

use tapgate_engine::Engine;
use tapgate_engine::addr::{MacAddr, PortId};
use tapgate_engine::checksum::checksum;
use tapgate_engine::config::Config;
use tapgate_engine::frame::{Frame, Offload, Verdict};
use tapgate_engine::session::{SessionMemory, Sessions};
use tapgate_engine::snapshot::Snapshot;
use tapgate_engine::time::Instant;
use tapgate_tests::packet::{is_at, udp};
use tapgate_tests::router::config;

const SESSIONS: usize = 4_000_000;
/// Bytes that each may take.
const EACH: usize = 128;
/// Ports that each remote address is spoken to from.
const PORTS: usize = 50_000;
const PERSONALITY: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xaa]);
const NETWORK: MacAddr = MacAddr([2, 0, 0, 0, 1, 0xfe]);
const GUEST: MacAddr = MacAddr([2, 0, 0, 0, 2, 1]);
const PROVIDER: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xfe]);

/// A guest with a public address, whose flows are not translated.
const ROUTED: &str = r#"
[router]
sessions = 4_000_000

[ports]
uplink = { memory = true }
guests = { memory = true }

[personalities]
A = { port = "uplink", mac = "02:00:00:00:00:aa", addresses = ["192.0.2.7/24"], gateway = "192.0.2.1" }

[networks]
lan = { ports = ["guests"], addresses = ["10.0.0.254/24"], mac = "02:00:00:00:01:fe" }

[guests.guest]
port = "guests"
mac = "02:00:00:00:02:01"
public = ["198.51.100.9"]
limits = { sessions = 4_000_000, new_sessions_per_second = 100_000_000, new_destinations_per_second = 1_000_000 }

[tables]
main = [{ to = "default", dev = "A" }]
"#;

#[test]
fn four_million_sessions_take_at_most_128_bytes_each() {
    let config: Config = config(ROUTED);
    let snapshot = Snapshot::build(&config, None);
    let now = Instant::from_millis(1_000_000);
    let before = resident();
    let memory = Sessions {
        v4: SessionMemory::owned(SESSIONS),
        v6: SessionMemory::owned(0),
        // Its own address needs no claim first.
        inherited: true,
    };
    let mut engine = Engine::new(&snapshot, memory, 7, now);
    let at_start = engine.shard.memory();
    let [guests, uplink] = ["guests", "uplink"].map(|name| snapshot.port_id(name).unwrap());
    let mut send = |bytes: &mut [u8], from: PortId| {
        let mut frame = Frame {
            bytes,
            vlan: None,
            offload: Offload::default(),
            headroom: &mut [],
        };
        engine.process(&mut frame, from, &snapshot, now)
    };
    assert_eq!(send(&mut datagram(0), guests), Verdict::Hold);
    let answer = is_at((PROVIDER, "192.0.2.1"), (PERSONALITY, "192.0.2.7"));
    send(&mut answer.bytes(), uplink);
    for flow in 0..SESSIONS {
        let verdict = send(&mut datagram(flow), guests);
        assert_eq!(verdict, Verdict::Emit(uplink), "flow {flow}");
    }
    let (taken, counted) = (resident() - before, engine.shard.memory());
    assert_eq!(engine.shard.sessions(), SESSIONS);
    println!(
        "{:.2} bytes a session; the process has {:.2}",
        counted as f64 / SESSIONS as f64,
        taken as f64 / SESSIONS as f64
    );
    assert!(counted <= EACH * SESSIONS, "{counted}");
    // The account is honest: the process has not more than it says, but for what is no session's.
    assert!(
        taken < counted + (8 << 20),
        "{taken}, and {counted} by our count"
    );
    // A packet waits for no large table: they are made at the start.
    assert!(
        counted - at_start < 1 << 16,
        "{at_start} at the start, then {counted}"
    );
    assert_eq!(engine.shard.port_memory(), 0, "nothing is translated");
}

/// The first datagram of a flow.
fn datagram(flow: usize) -> [u8; 60] {
    static FIRST: LazyLock<Vec<u8>> = LazyLock::new(|| {
        let first = udp("198.51.100.9:10000", "203.0.113.0:53", &[0; 18]);
        first.link(GUEST, NETWORK).bytes()
    });
    let mut bytes = [0; 60];
    bytes.copy_from_slice(&FIRST);
    bytes[33] = (flow / PORTS) as u8;
    bytes[24..26].fill(0);
    let sum = checksum(&bytes[14..34]);
    bytes[24..26].copy_from_slice(&sum.to_be_bytes());
    bytes[34..36].copy_from_slice(&(10_000 + (flow % PORTS) as u16).to_be_bytes());
    // None, which is right (RFC 768).
    bytes[40..42].fill(0);
    bytes
}

/// What the process has in memory, in bytes.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    number.unwrap().parse::<usize>().unwrap() * 1024
}
