//! NAT is a bijection (T01, T03, T05, T16, X01), whatever comes in whatever order: random flows of
//! four guests over one small pool, their answers, errors about them, time and reloads, against a
//! model that knows what must hold.

mod model;

use std::time::Duration;

use proptest::prelude::*;
use tapgate_engine::addr::MacAddr;
use tapgate_engine::drops::DropReason;
use tapgate_tests::packet::{self, Packet, error, pong, tcp, udp};
use tapgate_tests::pair;
use tapgate_tests::recipe::*;
use tapgate_tests::router::Router;

use model::{Endpoint, External, Flow, Model, Protocol, Refused, Status, Variant};

#[derive(Debug, Clone)]
enum Op {
    /// The guest sends.
    Out(Flow),
    /// The remote host sends to what it last saw of the flow.
    Reply(Flow),
    /// Somebody on the way reports an error about what it last saw of the flow.
    Error(Flow),
    /// The remote host sends to any external port.
    Unsolicited(Flow, u16),
    Advance(u64),
    Reload(Variant),
}

/// Steps about some of the flows, so that each is met again and again.
fn ops() -> impl Strategy<Value = Vec<Op>> {
    let all: Vec<Flow> = Flow::all().collect();
    let some = proptest::sample::subsequence(all, 4..120);
    some.prop_flat_map(|flows| proptest::collection::vec(op(flows), 1..400))
}

fn op(flows: Vec<Flow>) -> impl Strategy<Value = Op> {
    let flow = proptest::sample::select(flows);
    let seconds = prop_oneof![
        Just(1),
        Just(59),
        Just(62),
        Just(200),
        Just(303),
        Just(7_500)
    ];
    prop_oneof![
        12 => flow.clone().prop_map(Op::Out),
        8 => flow.clone().prop_map(Op::Reply),
        2 => flow.clone().prop_map(Op::Error),
        2 => (flow, 2_998..3_020u16).prop_map(|(flow, port)| Op::Unsolicited(flow, port)),
        2 => seconds.prop_map(Op::Advance),
        1 => Variant::any().prop_map(Op::Reload),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn t01_t03_t16_translation_is_a_bijection(
        ops in ops(),
    ) {
        let mut run = Run::new();
        for op in ops {
            run.step(&op).map_err(|fault| TestCaseError::fail(format!("{op:?}: {fault}")))?;
        }
    }
}

struct Run {
    router: Router,
    model: Model,
}

/// What came out after a frame went in.
struct Seen {
    /// By the uplink: transport source and destination as the remote host sees them.
    outside: Option<Tuple>,
    /// By a guest's port.
    inside: Option<(String, Tuple)>,
    /// Refused for want of a port: of any, or of one for that network's guests.
    refused: Option<Refused>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Tuple {
    protocol: u8,
    source: ([u8; 4], u16),
    destination: ([u8; 4], u16),
    /// Of an ICMP error: the quoted packet's.
    quoted: bool,
}

impl Run {
    fn new() -> Self {
        let mut router = Router::new(&Variant::Whole.toml());
        router.answer_everything();
        Self {
            router,
            model: Model::new(),
        }
    }

    fn step(&mut self, op: &Op) -> Result<(), String> {
        let now = self.router.now;
        match op {
            Op::Advance(seconds) => {
                self.router.advance(Duration::from_secs(*seconds));
                self.router.take_all();
                self.model.advance(self.router.now);
            }
            Op::Reload(variant) => {
                self.router.reload(&variant.toml());
                self.model.reload(*variant);
            }
            Op::Out(flow) => {
                let seen = self.send(&flow.endpoint.port(), out(flow, &self.model));
                let external = seen.outside.map(|tuple| External {
                    address: tuple.source.0.into(),
                    port: tuple.source.1,
                });
                if let Some(tuple) = seen.outside {
                    let to = (flow.remote.octets(), flow.remote_port);
                    check(tuple.destination == to, "it goes elsewhere")?;
                }
                self.model.sent(*flow, external, seen.refused, now)?;
            }
            Op::Reply(flow) => {
                let Some(external) = self.model.last_seen(flow) else {
                    return Ok(());
                };
                self.incoming(flow, external, false)?;
            }
            Op::Unsolicited(flow, port) => {
                let address = Model::ADDRESSES[usize::from(port % 2)];
                self.incoming(
                    flow,
                    External {
                        address,
                        port: *port,
                    },
                    false,
                )?;
            }
            Op::Error(flow) => {
                let Some(external) = self.model.last_seen(flow) else {
                    return Ok(());
                };
                self.incoming(flow, external, true)?;
            }
        }
        Ok(())
    }

    /// Something comes from the flow's remote host (or about it) to `external`.
    fn incoming(&mut self, flow: &Flow, external: External, about: bool) -> Result<(), String> {
        let frame = if about {
            report(flow, external)
        } else {
            back(flow, external)
        };
        let seen = self.send("uplink", frame);
        let (status, owner) = self.model.owner(flow, external);
        match (&seen.inside, status) {
            (None, Status::Dead | Status::Doubtful) => {}
            (None, Status::Live) => return Err(format!("lost, {owner:?} is live")),
            (Some((port, tuple)), Status::Live | Status::Doubtful) => {
                let owner = owner.expect("it has an owner");
                let to = (owner.address().octets(), owner.port_number);
                check(*port == owner.port(), &format!("out by {port}"))?;
                check(tuple.quoted == about, "an error stays one")?;
                let inner = if about {
                    tuple.source
                } else {
                    tuple.destination
                };
                check(inner == to, &format!("{inner:?} instead of {owner:?}"))?;
            }
            (Some((port, tuple)), Status::Dead) => {
                return Err(format!("nobody's, and it went to {port}: {tuple:?}"));
            }
        }
        if !about {
            let arrived = seen.inside.is_some();
            self.model
                .received(flow, external, arrived, self.router.now);
        }
        Ok(())
    }

    fn send(&mut self, port: &str, frame: Packet) -> Seen {
        self.router.take_all();
        let before = self.refusals();
        self.router.inject(port, frame.bytes());
        let mut seen = Seen {
            outside: None,
            inside: None,
            refused: None,
        };
        let after = self.refusals();
        if after[0] > before[0] {
            seen.refused = Some(Refused::Exhausted);
        } else if after[1] > before[1] {
            seen.refused = Some(Refused::Limited);
        }
        for (name, frames) in self.router.take_all() {
            for tuple in frames.iter().filter_map(|sent| tuple(&sent.bytes)) {
                if name == "uplink" {
                    seen.outside = Some(tuple);
                } else if seen.refused.is_none() && port == "uplink" {
                    seen.inside = Some((name.clone(), tuple));
                }
            }
        }
        seen
    }
}

impl Run {
    /// Packets refused for want of any port, and of one for their payer.
    fn refusals(&mut self) -> [u64; 2] {
        [DropReason::NatExhausted, DropReason::GuestPorts].map(|reason| self.router.dropped(reason))
    }
}

fn check(holds: bool, otherwise: &str) -> Result<(), String> {
    if holds {
        Ok(())
    } else {
        Err(otherwise.to_owned())
    }
}

fn out(flow: &Flow, model: &Model) -> Packet {
    let Endpoint { port_number, .. } = flow.endpoint;
    let (from, to) = (flow.endpoint.address().to_string(), flow.remote.to_string());
    let (inside, outside) = (
        format!("{from}:{port_number}"),
        format!("{to}:{}", flow.remote_port),
    );
    let packet = match flow.protocol {
        Protocol::Udp => udp(&inside, &outside, b"out"),
        Protocol::Tcp if model.last_seen(flow).is_none() => tcp(&inside, &outside, "S", b""),
        Protocol::Tcp => tcp(&inside, &outside, ".", b"out"),
        Protocol::Echo => packet::ping(&from, &to, port_number, 1, b"out"),
    };
    packet.link(GUEST_A, if flow.endpoint.host < 2 { NET_A } else { NET_B })
}

fn back(flow: &Flow, external: External) -> Packet {
    let (from, to) = (flow.remote.to_string(), external.address.to_string());
    let outside = format!("{from}:{}", flow.remote_port);
    let packet = match flow.protocol {
        Protocol::Udp => udp(&outside, &format!("{to}:{}", external.port), b"back"),
        Protocol::Tcp => tcp(&outside, &format!("{to}:{}", external.port), "S.", b""),
        Protocol::Echo => pong(&from, &to, external.port, 1, b"out"),
    };
    packet.link(PROVIDER, A)
}

fn report(flow: &Flow, external: External) -> Packet {
    let (from, to) = (external.address.to_string(), flow.remote.to_string());
    let inside = format!("{from}:{}", external.port);
    let outside = format!("{to}:{}", flow.remote_port);
    let about = match flow.protocol {
        Protocol::Udp => udp(&inside, &outside, b"out"),
        Protocol::Tcp => tcp(&inside, &outside, "S", b""),
        Protocol::Echo => packet::ping(&from, &to, external.port, 1, b"out"),
    };
    error(REMOTE, &from, (3, 1), [0; 4], &about.bytes()).link(PROVIDER, A)
}

/// Source and destination of a packet in an untagged frame, or of what an ICMP error quotes.
fn tuple(frame: &[u8]) -> Option<Tuple> {
    (frame[12..14] == [8, 0]).then(|| packet_tuple(&frame[14..], false))
}

fn packet_tuple(ip: &[u8], quoted: bool) -> Tuple {
    let l4 = &ip[usize::from(ip[0] & 0xf) * 4..];
    let word = |at: usize| u16::from_be_bytes([l4[at], l4[at + 1]]);
    let (source, destination) = match (ip[9], l4[0]) {
        (1, 3) => return packet_tuple(&l4[8..], true),
        (1, 8) => (word(4), 0),
        (1, _) => (0, word(4)),
        _ => (word(0), word(2)),
    };
    let address = |at: usize| [ip[at], ip[at + 1], ip[at + 2], ip[at + 3]];
    Tuple {
        protocol: ip[9],
        source: (address(12), source),
        destination: (address(16), destination),
        quoted,
    }
}

/// A stranger's rlogin or IKE cares whether a port is below 1024.
#[test]
fn t03_a_well_known_port_stays_one() {
    let mut router = Router::settled(MULTI_MAC);
    router.answer_everything();
    let mut leaves_from = |from: &str, network, port: &str| {
        let packet = udp(from, &format!("{REMOTE}:500"), b"").link(GUEST_A, network);
        router.inject(port, packet.bytes());
        let sent = router.take_packets("uplink");
        assert_eq!(sent.len(), 1, "{from}");
        u16::from_be_bytes([sent[0][34], sent[0][35]])
    };
    for port in [1, 500, 1_023, 1_024, 40_000] {
        assert_eq!(
            leaves_from(&format!("10.0.1.1:{port}"), NET_A, "guest-a"),
            port
        );
    }
    for host in 2..20 {
        let other = leaves_from(&format!("10.0.1.{host}:1023"), NET_A, "guest-a");
        assert!(other < 1_023 && other % 2 == 1, "{other}");
    }
    // Ports of an address that is shared with the host are the host's, but for the range that is ours.
    let mut router = Router::settled(pair::SHARED);
    router.answer_everything();
    let packet = udp("10.0.1.1:500", &format!("{REMOTE}:500"), b"");
    let link = (MacAddr(pair::GUEST), MacAddr(pair::ROUTER_IN));
    router.inject("g", packet.link(link.0, link.1).bytes());
    let sent = router.take_packets("up");
    let port = u16::from_be_bytes([sent[0][34], sent[0][35]]);
    assert!((61_000..=61_003).contains(&port), "{port}");
}
