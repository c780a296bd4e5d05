//! A router with one guest behind one personality, all in memory.

use std::collections::VecDeque;

use etherparse::PacketBuilder;
use tapgate_engine::addr::PortId;
use tapgate_engine::config::{Config, File};
use tapgate_engine::frame::{Frame, Offload, Verdict};
use tapgate_engine::process;
use tapgate_engine::session::SessionMemory;
use tapgate_engine::shard::Shard;
use tapgate_engine::snapshot::Snapshot;
use tapgate_engine::time::Instant;

pub const GUEST: [u8; 6] = [2, 0, 0, 0, 1, 1];
pub const GATEWAY: [u8; 6] = [2, 0, 0, 0, 9, 9];
pub const ROUTER_IN: [u8; 6] = [2, 0, 0, 0, 1, 0xfe];
pub const ROUTER_OUT: [u8; 6] = [2, 0, 0, 0, 0, 0xaa];

pub struct Lab {
    snapshot: Snapshot,
    shard: Shard,
    pub out: VecDeque<(PortId, Vec<u8>)>,
    pub up: PortId,
    pub guest: PortId,
}

impl Lab {
    pub fn new(config: &str) -> Self {
        let file: File = serde_json::from_str(config).unwrap();
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

    pub fn send(&mut self, port: PortId, mut bytes: Vec<u8>) -> Verdict {
        let now = Instant::from_millis(10_000);
        let mut frame = Frame {
            bytes: &mut bytes,
            vlan: None,
            offload: Offload::default(),
        };
        let verdict = process(&mut frame, port, &self.snapshot, &mut self.shard, now);
        if let Verdict::Emit(port) = verdict {
            self.out.push_back((port, frame.bytes.to_vec()));
        }
        let out = &mut self.out;
        self.shard.drain(&self.snapshot, now, |port, frame| {
            out.push_back((port, frame.bytes.to_vec()))
        });
        verdict
    }

    #[allow(dead_code)] // IPv6 has no ARP
    pub fn arp_reply(
        &mut self,
        port: PortId,
        mac: [u8; 6],
        ip: [u8; 4],
        to: [u8; 6],
        to_ip: [u8; 4],
    ) {
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
