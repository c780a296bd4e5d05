//! The engine as a reader. All calls into it are here.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use tapgate_engine::drops::DropReason;
use tapgate_engine::frame::{Frame, Verdict};
use tapgate_engine::packet::{self, Family, Packet};
use tapgate_tests::packet::{self as build, untag};
use tapgate_tests::router::Router;

use super::{Arp, Ip, Reading, Transport};

/// One port, and the address that frames ask for most.
const CONFIG: &str = r#"
[ports]
lan = { memory = true }
[networks.lan]
ports = ["lan"]
mac = "02:00:00:00:00:01"
addresses = ["10.0.0.254/8"]
"#;

/// The engine, and a router of its own for ARP, whose parser is not public.
pub(crate) struct Engine {
    router: Router,
    asked: u32,
}

impl Engine {
    pub(crate) fn new() -> Self {
        let mut router = Router::new(CONFIG);
        router.advance(Duration::from_secs(10));
        Self { router, asked: 0 }
    }

    /// Reads a frame as on the wire; ports take its tag off.
    pub(crate) fn read(&mut self, bytes: &[u8]) -> Reading {
        let (mut bytes, _) = untag(bytes);
        let Some(ethertype) = bytes.get(12..14) else {
            return Reading::Refused;
        };
        let ethertype = u16::from_be_bytes([ethertype[0], ethertype[1]]);
        let frame = Frame {
            headroom: &mut [],
            bytes: &mut bytes,
            vlan: None,
            offload: Default::default(),
        };
        match ethertype {
            0x0800 => ip(Ipv4Addr::parse(&frame)),
            0x86dd => ip(Ipv6Addr::parse(&frame)),
            0x0806 => self.arp(frame.bytes),
            // A second tag, or one with nothing behind it; nobody asks what it is.
            0x8100 => Reading::NoOpinion,
            other => Reading::Other(other),
        }
    }

    /// What the router does with it, and whom it answers about what.
    fn arp(&mut self, bytes: &mut [u8]) -> Reading {
        self.asked += 1;
        if self.asked.is_multiple_of(64) {
            self.router.advance(Duration::from_secs(10));
        }
        self.router.take_all();
        let mut arp = Arp {
            operation: None,
            sender: None,
            target: None,
        };
        match self.router.inject("lan", bytes) {
            Verdict::Drop(DropReason::ArpMalformed) => return Reading::Refused,
            // Dropped before it is read.
            Verdict::Drop(DropReason::GroupSource | DropReason::OwnFrame) => {
                return Reading::NoOpinion;
            }
            Verdict::Emit(_) => {
                let sent = self.router.take("lan");
                let answer = sent.iter().find_map(|sent| build::Arp::parse(&sent.bytes));
                let answer = answer.expect("an answer");
                let (mac, address) = answer.target;
                arp.sender = Some((mac, address.into()));
                arp.target = Some(answer.sender.1.into());
                arp.operation = Some(1);
            }
            _ => {}
        }
        Reading::Arp(arp)
    }
}

fn ip<A: Family>(parsed: Result<Packet<A>, DropReason>) -> Reading {
    let Ok(packet) = parsed else {
        return Reading::Refused;
    };
    let ports = (packet.flow.source_port, packet.flow.destination_port);
    let transport = match packet.transport {
        packet::Transport::Tcp(flags) => Transport::Tcp { ports, flags },
        packet::Transport::Udp => Transport::Udp { ports },
        packet::Transport::EchoRequest => Transport::EchoRequest(ports.0),
        packet::Transport::EchoReply => Transport::EchoReply(ports.1),
        packet::Transport::IcmpError => Transport::IcmpError,
        packet::Transport::IcmpOther(kind) => Transport::IcmpOther(kind),
        packet::Transport::Fragment => Transport::Fragment,
        packet::Transport::Other => Transport::Other,
    };
    Reading::Ip(Ip {
        source: packet.flow.source.into(),
        destination: packet.flow.destination.into(),
        protocol: packet.flow.protocol,
        ttl: packet.ttl,
        dont_fragment: packet.dont_fragment,
        fragment: transport == Transport::Fragment,
        later_fragment: packet.part == packet::Part::Later,
        l4: packet.l4,
        end: packet.end,
        transport,
    })
}
