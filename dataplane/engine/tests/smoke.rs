//! One guest reaches the internet through SNAT, and the answer comes back.

use std::collections::VecDeque;

use etherparse::PacketBuilder;
use tapgate_engine::addr::{MacAddr, PortId};
use tapgate_engine::config::{Config, File};
use tapgate_engine::drops::DropReason;
use tapgate_engine::frame::{Frame, Offload, Verdict};
use tapgate_engine::session::SessionMemory;
use tapgate_engine::shard::Shard;
use tapgate_engine::snapshot::Snapshot;
use tapgate_engine::time::Instant;
use tapgate_engine::{addr, process};

const CONFIG: &str = r#"{
    "ports": { "up": { "memory": true }, "g": { "memory": true } },
    "personalities": { "A": { "port": "up", "mac": "02:00:00:00:00:aa",
        "addresses": ["203.0.113.10/32"], "gateway": "192.0.2.1", "onlink": true } },
    "networks": { "a": { "ports": ["g"], "addresses": ["10.0.1.254/24"], "mac": "02:00:00:00:01:fe" } },
    "tables": { "ipA": [ { "to": "default", "dev": "A" } ] },
    "routing": { "rules": [ { "priority": 60000, "from": "10.0.1.0/24", "lookup": "ipA" } ] },
    "nat": { "snat": [ { "from": "10.0.1.0/24", "to": "203.0.113.10" } ] }
}"#;

const GUEST: [u8; 6] = [2, 0, 0, 0, 1, 1];
const GATEWAY: [u8; 6] = [2, 0, 0, 0, 9, 9];
const ROUTER_IN: [u8; 6] = [2, 0, 0, 0, 1, 0xfe];
const ROUTER_OUT: [u8; 6] = [2, 0, 0, 0, 0, 0xaa];

struct Lab {
    snapshot: Snapshot,
    shard: Shard,
    out: VecDeque<(PortId, Vec<u8>)>,
    up: PortId,
    guest: PortId,
}

impl Lab {
    fn new() -> Self {
        let file: File = serde_json::from_str(CONFIG).unwrap();
        let config = Config::try_from(file).unwrap();
        let snapshot = Snapshot::build(&config, None);
        let shard = Shard::new(
            &snapshot,
            SessionMemory::owned(64),
            42,
            Instant::from_millis(0),
        );
        let (up, guest) = (
            snapshot.port_id("up").unwrap(),
            snapshot.port_id("g").unwrap(),
        );
        Self {
            snapshot,
            shard,
            out: VecDeque::new(),
            up,
            guest,
        }
    }

    fn send(&mut self, port: PortId, mut bytes: Vec<u8>) -> Verdict {
        let now = Instant::from_millis(10_000);
        let mut frame = Frame {
            bytes: &mut bytes,
            vlan: None,
            offload: Offload::default(),
        };
        let verdict = process(&mut frame, port, &self.snapshot, &mut self.shard, now);
        if let Verdict::Emit(port) = verdict {
            self.out.push_back((port, bytes));
        }
        let out = &mut self.out;
        self.shard.drain(&self.snapshot, now, |port, frame| {
            out.push_back((port, frame.bytes.to_vec()))
        });
        verdict
    }

    fn arp_reply(&mut self, port: PortId, mac: [u8; 6], ip: [u8; 4], to: [u8; 6], to_ip: [u8; 4]) {
        let arp = etherparse::ArpPacket::new(
            etherparse::ArpHardwareId::ETHERNET,
            etherparse::EtherType::IPV4,
            etherparse::ArpOperation::REPLY,
            &mac,
            &ip,
            &to,
            &to_ip,
        )
        .unwrap();
        let mut bytes = Vec::new();
        PacketBuilder::ethernet2(mac, to)
            .arp(arp)
            .write(&mut bytes)
            .unwrap();
        assert_eq!(self.send(port, bytes), Verdict::Consumed);
    }
}

fn udp(macs: ([u8; 6], [u8; 6]), ips: ([u8; 4], [u8; 4]), ports: (u16, u16)) -> Vec<u8> {
    let mut bytes = Vec::new();
    PacketBuilder::ethernet2(macs.0, macs.1)
        .ipv4(ips.0, ips.1, 64)
        .udp(ports.0, ports.1)
        .write(&mut bytes, b"hello")
        .unwrap();
    bytes
}

#[test]
fn a_first_packet_waits_for_arp_leaves_translated_and_its_answer_returns() {
    let mut lab = Lab::new();
    let (up, guest) = (lab.up, lab.guest);
    let out = udp(
        (GUEST, ROUTER_IN),
        ([10, 0, 1, 1], [198, 51, 100, 1]),
        (5000, 53),
    );
    assert_eq!(lab.send(guest, out.clone()), Verdict::Hold);
    lab.out.clear();
    lab.arp_reply(up, GATEWAY, [192, 0, 2, 1], ROUTER_OUT, [203, 0, 113, 10]);
    let (port, bytes) = lab.out.pop_back().expect("the packet that waited");
    assert_eq!(port, up);
    let sliced = etherparse::SlicedPacket::from_ethernet(&bytes).unwrap();
    let Some(etherparse::NetSlice::Ipv4(ip)) = sliced.net else {
        panic!()
    };
    assert_eq!(ip.header().source(), [203, 0, 113, 10]);
    assert_eq!(ip.header().ttl(), 63);
    assert_eq!(
        (&bytes[0..6], &bytes[6..12]),
        (&GATEWAY[..], &ROUTER_OUT[..])
    );

    assert_eq!(lab.send(guest, out), Verdict::Emit(up));
    let back = udp(
        (GATEWAY, ROUTER_OUT),
        ([198, 51, 100, 1], [203, 0, 113, 10]),
        (53, 5000),
    );
    assert_eq!(
        lab.send(up, back.clone()),
        Verdict::Hold,
        "the guest is to be asked for"
    );
    lab.out.clear();
    lab.arp_reply(guest, GUEST, [10, 0, 1, 1], ROUTER_IN, [10, 0, 1, 254]);
    let (port, bytes) = lab.out.pop_back().expect("the answer");
    assert_eq!((port, &bytes[0..6]), (guest, &GUEST[..]));
    assert_eq!(&bytes[30..34], &[10, 0, 1, 1]);
    assert_eq!(lab.send(up, back), Verdict::Emit(guest));

    let stranger = udp(
        (GATEWAY, ROUTER_OUT),
        ([198, 51, 100, 2], [203, 0, 113, 10]),
        (53, 5000),
    );
    assert_eq!(lab.send(up, stranger), Verdict::Drop(DropReason::NoSession));
    assert_eq!(addr::MacAddr(GUEST), MacAddr::from_slice(&GUEST));
}
