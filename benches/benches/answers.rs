//! What it costs to answer for owned addresses, and to own them: nanoseconds for an ARP request and
//! a neighbour solicitation from the uplink, with ten and with a hundred thousand addresses; time
//! to load them and bytes each.

use std::hint::black_box;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant as Clock};

use criterion::{BenchmarkId, Criterion, Throughput};
use etherparse::{ArpHardwareId, ArpOperation, ArpPacket, EtherType, PacketBuilder};
use serde_json::json;
use tapgate_engine::addr::PortId;
use tapgate_engine::config::{Config, File};
use tapgate_engine::frame::{Frame, Offload, Verdict};
use tapgate_engine::process;
use tapgate_engine::session::SessionMemory;
use tapgate_engine::shard::Shard;
use tapgate_engine::snapshot::Snapshot;
use tapgate_engine::time::Instant;

const MANY: u32 = 100_000;
const GATEWAY: [u8; 6] = [2, 0, 0, 0, 9, 9];

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .sample_size(20)
        .configure_from_args();
    for count in [10, MANY] {
        let mut router = Router::new(count);
        let mut group = criterion.benchmark_group("answers");
        group.throughput(Throughput::Elements(1));
        let requests: Vec<Vec<u8>> = (0..1024).map(|n| arp(n * 97 % count)).collect();
        group.bench_function(BenchmarkId::new("ARP request", count), |bencher| {
            let mut all = requests.iter().cycle();
            bencher.iter(|| router.answer(all.next().map_or(&[][..], Vec::as_slice)));
        });
        let requests: Vec<Vec<u8>> = (0..1024).map(|n| solicitation(n * 97 % count)).collect();
        group.bench_function(
            BenchmarkId::new("neighbour solicitation", count),
            |bencher| {
                let mut all = requests.iter().cycle();
                bencher.iter(|| router.answer(all.next().map_or(&[][..], Vec::as_slice)));
            },
        );
        group.finish();
    }
    criterion.final_summary();
    load();
}

/// Loading a hundred thousand addresses, half of each family, from what control sends.
fn load() {
    let text = serde_json::to_vec(&file(MANY)).expect("a file");
    let before = resident();
    let start = Clock::now();
    let config: Config = serde_json::from_slice(&text).expect("the configuration is right");
    let checked = start.elapsed();
    let snapshot = Snapshot::build(&config, None);
    let loaded = start.elapsed();
    // What stays in the dataplane: the owner table, and the configuration it was made from.
    drop((text, config));
    let each = resident().saturating_sub(before) as f64 / f64::from(MANY);
    let table = snapshot.owners().memory() as f64 / f64::from(MANY);
    let met = |met| if met { "met" } else { "NOT MET" };
    println!(
        "load: {MANY} addresses in {:.0} ms ({:.0} of them reading and checking); bar: under 1 s: {}",
        loaded.as_secs_f64() * 1e3,
        checked.as_secs_f64() * 1e3,
        met(loaded < Duration::from_secs(1)),
    );
    println!(
        "memory: {each:.0} bytes an address, {table:.0} of them in the table; bar: under 200: {}",
        met(each < 200.0)
    );
}

/// Memory this process has, in bytes.
fn resident() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").expect("a Linux kernel");
    let resident = pages.split(' ').nth(1).and_then(|pages| pages.parse().ok());
    resident.unwrap_or(0) * rustix::param::page_size()
}

struct Router {
    snapshot: Snapshot,
    shard: Shard,
    uplink: PortId,
    scratch: Vec<u8>,
}

impl Router {
    fn new(count: u32) -> Self {
        let config = Config::try_from(file(count)).expect("the configuration is right");
        let snapshot = Snapshot::build(&config, None);
        let start = Instant::from_millis(0);
        let mut shard = Shard::new(&snapshot, SessionMemory::owned(64), 42, start);
        // Own addresses are claimed, everything is announced.
        for second in 0..60 {
            shard.poll(&snapshot, Instant::from_millis(second * 1_000));
            shard.drain(&snapshot, Instant::from_millis(second * 1_000), |_, _| {});
        }
        Self {
            uplink: snapshot.port_id("up").expect("the port is configured"),
            snapshot,
            shard,
            scratch: Vec::new(),
        }
    }

    fn answer(&mut self, request: &[u8]) {
        self.scratch.clear();
        self.scratch.extend_from_slice(request);
        let mut frame = Frame {
            bytes: &mut self.scratch,
            vlan: None,
            offload: Offload::default(),
            headroom: &mut [],
        };
        let now = Instant::from_millis(61_000);
        let verdict = process(
            &mut frame,
            self.uplink,
            &self.snapshot,
            &mut self.shard,
            now,
        );
        let mut answers = u32::from(verdict == Verdict::Emit(self.uplink));
        self.shard.drain(&self.snapshot, now, |_, frame| {
            black_box(&frame.bytes);
            answers += 1;
        });
        assert_eq!(answers, 1, "{verdict:?}");
    }
}

/// `count` addresses, half of each family, owned by ten guests.
fn file(count: u32) -> File {
    let guests: serde_json::Map<_, _> = (0..10)
        .map(|guest| {
            let owned: Vec<String> = (0..count / 10)
                .map(|n| n * 10 + guest)
                .map(|n| match n % 2 {
                    0 => address4(n).to_string(),
                    _ => address6(n).to_string(),
                })
                .collect();
            let port = format!("g{guest}");
            (port.clone(), json!({ "port": port, "public": owned }))
        })
        .collect();
    let mut ports: serde_json::Map<_, _> = (0..10)
        .map(|guest| (format!("g{guest}"), json!({ "memory": true })))
        .collect();
    let network: Vec<String> = ports.keys().cloned().collect();
    ports.insert("up".to_owned(), json!({ "memory": true }));
    let file = json!({
        "ports": ports,
        "personalities": { "A": { "port": "up", "mac": "02:00:00:00:00:aa",
            "addresses": ["192.0.2.7/24", "2001:db8::7/64"] } },
        "networks": { "a": { "ports": network, "addresses": ["192.168.0.1/24"] } },
        "guests": guests,
    });
    serde_json::from_value(file).expect("the file is right")
}

/// Number `n`, even.
fn address4(n: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(u32::from_be_bytes([10, 0, 0, 0]) + n)
}

/// Number `n`, odd.
fn address6(n: u32) -> Ipv6Addr {
    let prefix = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0);
    Ipv6Addr::from_bits(prefix.to_bits() | 0x1_0000_0000 | u128::from(n))
}

/// The gateway asks for the IPv4 address nearest to number `n`.
fn arp(n: u32) -> Vec<u8> {
    let target = address4(n & !1).octets();
    let request = ArpPacket::new(
        ArpHardwareId::ETHERNET,
        EtherType::IPV4,
        ArpOperation::REQUEST,
        &GATEWAY,
        &[192, 0, 2, 1],
        &[0; 6],
        &target,
    );
    let mut bytes = Vec::new();
    PacketBuilder::ethernet2(GATEWAY, [0xff; 6])
        .arp(request.expect("an ARP packet"))
        .write(&mut bytes)
        .expect("to write into memory");
    bytes
}

/// The gateway asks for the IPv6 address nearest to number `n`.
fn solicitation(n: u32) -> Vec<u8> {
    let target = address6(n | 1).octets();
    let [.., a, b, c] = target;
    let mut group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, 0).octets();
    group[13..].copy_from_slice(&[a, b, c]);
    let asker = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).octets();
    let rest = [&target[..], &[1, 1], &GATEWAY].concat();
    let mut bytes = Vec::new();
    PacketBuilder::ethernet2(GATEWAY, [0x33, 0x33, 0xff, a, b, c])
        .ipv6(asker, group, 255)
        .icmpv6_raw(135, 0, [0; 4])
        .write(&mut bytes, &rest)
        .expect("to write into memory");
    bytes
}
