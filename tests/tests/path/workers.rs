//! A router with two workers: frames are steered to the one that has their session, whichever way
//! they go, and the two share what the router has once.

mod world;

use std::net::{IpAddr, SocketAddr};

use proptest::collection::vec;
use proptest::prelude::*;
use tapgate_engine::addr::{MacAddr, PortId};
use tapgate_engine::frame::{Frame, Verdict};
use tapgate_engine::run::{self, sessions, steer};
use tapgate_engine::session::SessionMemory;
use tapgate_engine::snapshot::Snapshot;
use tapgate_engine::state::ports::Share;
use tapgate_engine::state::router::Router;
use tapgate_engine::state::shard::Shard;
use tapgate_engine::time::Instant;
use tapgate_tests::flow::{ECHO, Flow, UDP, quoted, time_exceeded};
use tapgate_tests::packet::is_at;
use tapgate_tests::recipe::{A, NET_A, NET_B, PROVIDER};
use tapgate_tests::router::config;

use world::{HOSTS, address, mac, remote, text};

const WORKERS: u16 = 2;

/// The router, and what is counted of what it did.
struct Two {
    snapshot: Snapshot,
    router: Router,
    shards: Vec<Shard>,
    now: Instant,
    flows: Vec<Open>,
}

/// A flow that was sent on: by which worker, as it came and as it left, and the stations at its ends.
#[derive(Debug, Clone, Copy)]
struct Open {
    worker: u16,
    inside: Flow,
    outside: Flow,
    ends: [Station; 2],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Station {
    Host(u8),
    Remote,
}

impl Station {
    fn port(self, snapshot: &Snapshot) -> PortId {
        let name = match self {
            Self::Host(host) => format!("g{host}"),
            Self::Remote => "up".to_owned(),
        };
        snapshot.port_id(&name).unwrap()
    }

    /// Its MAC, and the router's towards it.
    fn macs(self) -> (MacAddr, MacAddr) {
        match self {
            Self::Host(host @ 0..4) => (mac(host), NET_A),
            Self::Host(host) => (mac(host), NET_B),
            Self::Remote => (PROVIDER, A),
        }
    }
}

impl Two {
    fn new() -> Self {
        let config = config(&text());
        let snapshot = Snapshot::build(&config, None);
        let now = Instant::from_millis(1_000_000);
        let shard = |worker| {
            let memory = SessionMemory::owned(1_024);
            let share = Share::of(worker, WORKERS).unwrap();
            run::start_shard(&snapshot, memory, share, 7, now)
        };
        let mut two = Self {
            shards: (0..WORKERS).map(shard).collect(),
            router: run::start_router(&snapshot, false, 7, now),
            snapshot,
            now,
            flows: Vec::new(),
        };
        two.wait(5);
        two
    }

    fn wait(&mut self, seconds: u64) {
        for _ in 0..seconds * 10 {
            self.now = self.now + std::time::Duration::from_millis(100);
            for shard in &mut self.shards {
                run::poll(&self.snapshot, (&mut self.router, shard), self.now);
                run::drain(
                    &self.snapshot,
                    (&mut self.router, shard),
                    self.now,
                    |_, _| {},
                );
            }
        }
    }

    /// One frame comes in: who it is steered to, the verdict, the frame then, and other frames.
    fn send(&mut self, from: Station, mut bytes: Vec<u8>) -> (u16, Verdict, Vec<u8>, Vec<Vec<u8>>) {
        let port = from.port(&self.snapshot);
        let before = self.dropped();
        let mut frame = Frame::new(&mut bytes);
        let worker = steer::steer(&frame, port, &self.snapshot, WORKERS);
        let both = (&mut self.router, &mut self.shards[usize::from(worker)]);
        let verdict = run::process(&mut frame, port, &self.snapshot, both, self.now);
        let after = self.dropped();
        for (number, (before, after)) in before.into_iter().zip(after).enumerate() {
            let is_its = number == usize::from(worker) && matches!(verdict, Verdict::Drop(_));
            assert_eq!(after - before, u64::from(is_its), "{verdict:?}");
        }
        let mut others = Vec::new();
        // What one worker heard may release what is another's.
        for shard in &mut self.shards {
            let both = (&mut self.router, shard);
            run::drain(&self.snapshot, both, self.now, |_, frame| {
                others.push(frame.bytes.to_vec());
            });
        }
        (worker, verdict, bytes, others)
    }

    fn dropped(&mut self) -> Vec<u64> {
        let sum = |shard: &mut Shard| shard.drops().iter().map(|(_, count)| count).sum();
        self.shards.iter_mut().map(sum).collect()
    }

    /// The provider's router says who it is, for both families.
    fn meet_the_gateway(&mut self) {
        let reply = is_at((PROVIDER, "203.0.113.1"), (A, "203.0.113.10"));
        let own = ("fe80::9".parse().unwrap(), PROVIDER);
        let asker = ("2001:db8:a::1".parse().unwrap(), A);
        let advertisement = tapgate_tests::nd::advertisement(own, asker);
        for flow in [false, true].map(|v6| outward(7, false, v6, UDP, 4_000)) {
            let (from, to) = Station::Host(7).macs();
            assert_eq!(
                self.send(Station::Host(7), flow.frame(from, to, true)).1,
                Verdict::Hold
            );
        }
        for bytes in [reply.bytes(), advertisement] {
            assert_eq!(self.send(Station::Remote, bytes).1, Verdict::Consumed);
        }
    }

    /// A flow's first packet, or a later one of the same.
    fn open(&mut self, ends: [Station; 2], inside: Flow) {
        let (from, to) = ends[0].macs();
        let (worker, verdict, bytes, _) = self.send(ends[0], inside.frame(from, to, true));
        if matches!(
            verdict,
            Verdict::Drop(tapgate_engine::drops::DropReason::NatExhausted)
        ) {
            return;
        }
        assert_eq!(
            verdict,
            Verdict::Emit(ends[1].port(&self.snapshot)),
            "{inside:?}"
        );
        let outside = Flow::of(&bytes).unwrap();
        match self.flows.iter().find(|open| open.inside == inside) {
            Some(known) => assert_eq!((known.worker, known.outside), (worker, outside)),
            None => {
                for other in &self.flows {
                    let same = |a: SocketAddr, b: SocketAddr| a == b;
                    let twice = other.outside.protocol == outside.protocol
                        && same(other.outside.source, outside.source)
                        && other.inside.source != inside.source;
                    assert!(!twice, "{other:?} has it too: {outside:?}");
                }
                self.flows.push(Open {
                    worker,
                    inside,
                    outside,
                    ends,
                });
            }
        }
    }

    fn answer(&mut self, open: Open) {
        let (from, to) = open.ends[1].macs();
        let (worker, verdict, bytes, _) =
            self.send(open.ends[1], open.outside.reversed().frame(from, to, false));
        assert_eq!(worker, open.worker, "{open:?}");
        assert_eq!(
            verdict,
            Verdict::Emit(open.ends[0].port(&self.snapshot)),
            "{open:?}"
        );
        assert_eq!(Flow::of(&bytes), Some(open.inside.reversed()));
    }

    /// Somebody at the far end (of answers: at the opener's) reports an error.
    fn error(&mut self, open: Open, about_answers: bool) {
        let (place, came, left) = match about_answers {
            false => (open.ends[1], open.outside, open.inside),
            true => (
                open.ends[0],
                open.inside.reversed(),
                open.outside.reversed(),
            ),
        };
        let (from, to) = place.macs();
        let about = came.frame(from, to, true);
        let (worker, verdict, bytes, _) = self.send(
            place,
            time_exceeded((from, to), came.destination.ip(), &about),
        );
        assert_eq!(worker, open.worker, "{open:?}");
        let sender = if about_answers {
            open.ends[1]
        } else {
            open.ends[0]
        };
        assert_eq!(
            verdict,
            Verdict::Emit(sender.port(&self.snapshot)),
            "{open:?}"
        );
        assert_eq!(quoted(&bytes), Some((left, left.source.ip())), "{open:?}");
    }

    /// Every session is in one shard, in that which sent it on.
    fn check_sessions(&self) {
        for (number, shard) in self.shards.iter().enumerate() {
            for view in sessions(&self.snapshot, shard, 0, 10_000, self.now).0 {
                let of = |open: &&Open| {
                    let ends = |at: SocketAddr| (at.ip(), at.port());
                    let (from, to) = (ends(open.inside.source), ends(open.inside.destination));
                    let protocol = if open.inside.protocol == ECHO {
                        [1, 58]
                    } else {
                        [open.inside.protocol; 2]
                    };
                    (from, to) == (view.source, view.destination)
                        && protocol.contains(&view.protocol)
                };
                // What met the gateway first is nobody's here.
                if let Some(open) = self.flows.iter().find(of) {
                    assert_eq!(usize::from(open.worker), number, "{view:?}");
                }
            }
        }
    }
}

fn outward(host: u8, which: bool, v6: bool, protocol: u8, port: u16) -> Flow {
    Flow {
        protocol,
        source: (address(host, v6), port).into(),
        destination: (remote(which, v6), if protocol == ECHO { 0 } else { 53 }).into(),
    }
}

#[derive(Debug, Clone, Copy)]
enum Op {
    Out(u8, bool, bool, u8, u16),
    Between(u8, u8, bool, u8, u16),
    Forwarded(usize, bool, u16),
    Public(u8, bool, u8, u16),
    Answer(usize),
    Error(usize, bool),
    /// Echo to an own address, from a guest or from outside.
    Own(Option<u8>, bool),
}

fn op() -> impl Strategy<Value = Op> {
    let protocol = || prop_oneof![Just(UDP), Just(6), Just(ECHO)];
    let port = || 4_000..4_012_u16;
    prop_oneof![
        6 => (0..HOSTS, any::<bool>(), any::<bool>(), protocol(), port()).prop_map(|(h, w, v, p, n)| Op::Out(h, w, v, p, n)).boxed(),
        2 => (0..HOSTS, 0..HOSTS, any::<bool>(), protocol(), port()).prop_map(|(a, b, v, p, n)| Op::Between(a, b, v, p, n)).boxed(),
        1 => (0..3_usize, any::<bool>(), port()).prop_map(|(f, w, n)| Op::Forwarded(f, w, n)).boxed(),
        1 => (0..4_u8, any::<bool>(), protocol(), port()).prop_map(|(h, w, p, n)| Op::Public(h, w, p, n)).boxed(),
        6 => any::<usize>().prop_map(Op::Answer).boxed(),
        4 => (any::<usize>(), any::<bool>()).prop_map(|(n, a)| Op::Error(n, a)).boxed(),
        1 => (proptest::option::of(0..HOSTS), any::<bool>()).prop_map(|(h, v)| Op::Own(h, v)).boxed(),
    ]
}

impl Two {
    fn step(&mut self, op: Op) {
        match op {
            Op::Out(host, which, v6, protocol, port) => {
                let flow = outward(host, which, v6, protocol, port);
                self.open([Station::Host(host), Station::Remote], flow);
            }
            Op::Between(from, to, v6, protocol, port) if from != to => {
                let flow = Flow {
                    destination: (address(to, v6), if protocol == ECHO { 0 } else { 53 }).into(),
                    ..outward(from, false, v6, protocol, port)
                };
                self.open([Station::Host(from), Station::Host(to)], flow);
            }
            Op::Between(..) => {}
            Op::Forwarded(rule, which, port) => {
                let (to, protocol, host) = [
                    ("203.0.113.10:4010", UDP, 1),
                    ("203.0.113.10:2222", 6, 4),
                    ("[2001:db8:a::1]:2222", 6, 2),
                ][rule];
                let destination: SocketAddr = to.parse().unwrap();
                let source = (remote(which, destination.is_ipv6()), port).into();
                let flow = Flow {
                    protocol,
                    source,
                    destination,
                };
                self.open([Station::Remote, Station::Host(host)], flow);
            }
            Op::Public(host, which, protocol, port) => {
                let flow = outward(host, which, true, protocol, 80).reversed();
                let flow = Flow {
                    source: (flow.source.ip(), port).into(),
                    destination: (flow.destination.ip(), if protocol == ECHO { 0 } else { 80 })
                        .into(),
                    ..flow
                };
                self.open([Station::Remote, Station::Host(host)], flow);
            }
            Op::Answer(which) if !self.flows.is_empty() => {
                self.answer(self.flows[which % self.flows.len()]);
            }
            Op::Error(which, answers) if !self.flows.is_empty() => {
                self.error(self.flows[which % self.flows.len()], answers);
            }
            Op::Answer(_) | Op::Error(..) => {}
            Op::Own(host, v6) => {
                let (station, source) = match host {
                    Some(host) => (Station::Host(host), address(host, v6)),
                    None => (Station::Remote, remote(false, v6)),
                };
                let own: IpAddr = if v6 { "2001:db8:a::1" } else { "203.0.113.10" }
                    .parse()
                    .unwrap();
                let flow = Flow {
                    protocol: ECHO,
                    source: (source, 9_999).into(),
                    destination: (own, 0).into(),
                };
                let (from, to) = station.macs();
                let (_, verdict, bytes, _) = self.send(station, flow.frame(from, to, true));
                assert_eq!(verdict, Verdict::Emit(station.port(&self.snapshot)));
                assert_eq!(Flow::of(&bytes), Some(flow.reversed()));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn every_frame_of_a_flow_is_for_the_worker_that_has_its_session(ops in vec(op(), 1..200)) {
        let mut two = Two::new();
        two.meet_the_gateway();
        for op in ops {
            two.step(op);
        }
        two.check_sessions();
    }
}

/// What one worker has learnt the other knows, and what one asks for the other does not ask again.
#[test]
fn neighbours_are_the_routers() {
    let mut two = Two::new();
    let mut asked = 0;
    let mut workers = [0; 2];
    for host in 0..HOSTS {
        let (from, to) = Station::Host(host).macs();
        let frame = outward(host, false, false, UDP, 4_000).frame(from, to, true);
        let (worker, verdict, _, others) = two.send(Station::Host(host), frame);
        assert_eq!(verdict, Verdict::Hold);
        workers[usize::from(worker)] += 1;
        asked += others
            .iter()
            .filter(|bytes| bytes[12..14] == [8, 6])
            .count();
    }
    assert!(workers[0] > 0 && workers[1] > 0, "{workers:?}");
    assert_eq!(asked, 1);
    two.meet_the_gateway();
    for host in 0..HOSTS {
        let flow = outward(host, true, false, UDP, 4_001);
        two.open([Station::Host(host), Station::Remote], flow);
    }
}
