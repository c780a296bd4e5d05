//! A router with its ports, all in memory, and a clock that goes when it is told to.

use std::collections::VecDeque;
use std::time::Duration;

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
    pub now: Instant,
}

#[allow(dead_code)] // not every test needs all of it
impl Lab {
    /// A router that has claimed and announced its addresses.
    pub fn new(config: &str) -> Self {
        let mut lab = Self::fresh(config);
        lab.wait(10_000);
        lab.out.clear();
        lab
    }

    /// A router that begins just now.
    pub fn fresh(config: &str) -> Self {
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
            now: Instant::from_millis(0),
        }
    }

    /// Another configuration from now on.
    pub fn apply(&mut self, config: &str) {
        let file: File = serde_json::from_str(config).unwrap();
        let config = Config::try_from(file).unwrap();
        self.snapshot = Snapshot::build(&config, Some(&self.snapshot));
        self.shard.adopt(&self.snapshot, self.now);
    }

    /// Lets time pass, and does what becomes due meanwhile.
    pub fn wait(&mut self, millis: u64) {
        let end = self.now + Duration::from_millis(millis);
        while let Some(due) = self.shard.next_deadline().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            self.shard.poll(&self.snapshot, self.now);
            self.drain();
        }
        self.now = end;
    }

    /// A port's device is there again.
    pub fn attach(&mut self, port: PortId) {
        self.shard.port_attached(port, &self.snapshot, self.now);
    }

    pub fn port(&self, name: &str) -> PortId {
        self.snapshot.port_id(name).unwrap()
    }

    pub fn shard(&mut self) -> &mut Shard {
        &mut self.shard
    }

    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// What left since the last time, by port.
    pub fn sent(&mut self) -> Vec<(PortId, Vec<u8>)> {
        self.out.drain(..).collect()
    }

    fn drain(&mut self) {
        let out = &mut self.out;
        self.shard.drain(&self.snapshot, self.now, |port, frame| {
            out.push_back((port, frame.bytes.to_vec()))
        });
    }

    pub fn send(&mut self, port: PortId, bytes: Vec<u8>) -> Verdict {
        self.send_tagged(port, bytes, None)
    }

    /// A frame in a VLAN.
    pub fn send_tagged(&mut self, port: PortId, mut bytes: Vec<u8>, vlan: Option<u16>) -> Verdict {
        let now = self.now;
        let mut frame = Frame {
            bytes: &mut bytes,
            vlan,
            offload: Offload::default(),
            headroom: &mut [],
        };
        let verdict = process(&mut frame, port, &self.snapshot, &mut self.shard, now);
        if let Verdict::Emit(port) = verdict {
            self.out.push_back((port, frame.bytes.to_vec()));
        }
        self.drain();
        verdict
    }

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
