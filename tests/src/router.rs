//! The harness: the engine with a clock and a network around it; every frame that comes out is
//! checked.

mod books;
mod engine;
mod expansion;
mod look;
mod report;
mod stations;

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use tapgate_engine::addr::{MacAddr, PortId};
use tapgate_engine::config::Config;
use tapgate_engine::drops::{DropCounters, DropReason};
use tapgate_engine::frame::{Frame, Offload, OwnedFrame, Verdict};
use tapgate_engine::model::health::Outage;
use tapgate_engine::segment::{complete_checksum, segment};
use tapgate_engine::session::{SessionMemory, Sessions};
use tapgate_engine::time::Instant;

use crate::packet::{tagged, untag};
use crate::{decode, wire};
use engine::Engine;
use report::Event;
use stations::Station;

/// What feeds hashing and random choices in all tests, so that runs repeat.
pub const SEED: u64 = 7;
/// When the clock starts: not at zero, which the engine may use for "never".
pub(crate) const START: Instant = Instant::from_millis(1_000_000);
/// Frames and verdicts remembered for the report of a failed test.
const REMEMBERED: usize = 24;

/// A frame that came out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    /// When.
    pub at: Instant,
    /// The frame as on the wire, with its VLAN tag.
    pub bytes: Vec<u8>,
}

/// A router under test.
///
/// Every frame that comes out is checked by [`wire::fault`]; every frame that goes in must end in
/// exactly one verdict, counted. When a test fails, everything there is to know is printed.
pub struct Router {
    engine: Engine,
    /// The clock.
    pub now: Instant,
    stations: Vec<Station>,
    everybody_answers: bool,
    homes: HashMap<IpAddr, String>,
    explains: bool,
    /// What came out and was not taken yet, with its port.
    out: VecDeque<(String, Sent)>,
    answers: VecDeque<(String, Vec<u8>)>,
    remembered: VecDeque<Event>,
    last: Option<(PortId, OwnedFrame)>,
    scratch: Vec<u8>,
    /// A frame with a wrong transport checksum went in: one may come out.
    tainted: bool,
}

impl Router {
    /// A router with this configuration file, just started.
    pub fn new(text: &str) -> Self {
        let config = config(text);
        let sessions = config.router().sessions.min(65_536) as usize;
        Self::over(&config, SessionMemory::owned(sessions))
    }

    /// A router that has claimed and announced its addresses.
    pub fn settled(text: &str) -> Self {
        let mut router = Self::new(text);
        router.wait(10_000);
        router.take_all();
        router
    }

    /// A router with a configuration that was read before, over this session memory.
    pub fn over(config: &Config, memory: impl Into<Sessions>) -> Self {
        Self::started(config, memory, START)
    }

    /// The same, started when the clock says `now`.
    pub(crate) fn started(config: &Config, memory: impl Into<Sessions>, now: Instant) -> Self {
        Self {
            engine: Engine::new(config, memory.into(), SEED, now),
            now,
            stations: Vec::new(),
            everybody_answers: false,
            homes: HashMap::new(),
            explains: false,
            out: VecDeque::new(),
            answers: VecDeque::new(),
            remembered: VecDeque::new(),
            last: None,
            scratch: Vec::new(),
            tainted: false,
        }
    }

    /// Every ARP request on every port is answered from now on, by [`mac_of`] the address, and
    /// every neighbour solicitation.
    pub fn answer_everything(&mut self) {
        self.everybody_answers = true;
    }

    /// From now on every frame is explained first, and must end as `explain` said.
    pub fn explain_everything(&mut self) {
        self.explains = true;
    }

    /// Adopts another configuration file.
    pub fn reload(&mut self, text: &str) {
        self.change_to(&config(text));
    }

    /// Adopts another configuration that was read before.
    pub fn change_to(&mut self, config: &Config) {
        self.engine.adopt(config, self.now);
        self.remember(Event::Reload(self.engine.generation()));
        self.drain();
        self.settle();
    }

    /// A next hop on the interface called so is out of use from now on for this reason, or in use again.
    pub fn set_outage(&mut self, interface: &str, next_hop: &str, outage: Option<Outage>) {
        let next_hop = next_hop.parse().expect("an address");
        self.engine
            .set_outage((interface, next_hop), outage, self.now);
        self.drain();
        self.settle();
    }

    /// These ports have no link from now on, and all others have one.
    pub fn set_ports_down(&mut self, ports: &[&str]) {
        let ports = ports.iter().map(|name| self.port(name)).collect();
        self.engine.set_ports_down(ports, self.now);
        self.drain();
        self.settle();
    }

    /// Next hops of routes: interface, address, and why it is out of use if it is.
    pub fn next_hops(&self) -> Vec<(String, IpAddr, Option<&'static str>)> {
        self.engine.next_hops()
    }

    /// Lets time pass; what becomes due happens when it is due.
    pub fn advance(&mut self, duration: Duration) {
        let end = self.now + duration;
        let mut polls = 0;
        while let Some(due) = self.engine.next_deadline().filter(|due| *due <= end) {
            polls = if due > self.now { 0 } else { polls + 1 };
            assert!(polls < 1_000, "{due:?} is due, and stays due after polling");
            self.now = self.now.max(due);
            self.engine.poll(self.now);
            self.drain();
            self.settle();
        }
        self.now = end;
    }

    /// The generation of the snapshot.
    pub fn generation(&self) -> u32 {
        self.engine.generation()
    }

    /// The guest that has a virtual address.
    pub fn holder(&self, address: &str) -> String {
        let address = address.parse().expect("an address");
        self.engine.holder(address).expect("a guest").to_owned()
    }

    /// Lets milliseconds pass.
    pub fn wait(&mut self, millis: u64) {
        self.advance(Duration::from_millis(millis));
    }

    /// A frame comes in by `port`, as on the wire; a VLAN tag is taken off as ports do.
    pub fn inject(&mut self, port: &str, bytes: impl AsRef<[u8]>) -> Verdict {
        let (bytes, vlan) = untag(bytes.as_ref());
        self.inject_frame(
            port,
            OwnedFrame {
                bytes,
                vlan,
                offload: Offload::default(),
            },
        )
    }

    /// A frame comes in by `port` with what the kernel or a VM says about it.
    pub fn inject_frame(&mut self, port: &str, frame: OwnedFrame) -> Verdict {
        let verdict = self.step(port, frame);
        self.settle();
        verdict
    }

    /// The port called `name`.
    pub fn port(&self, name: &str) -> PortId {
        let port = self.engine.port(name);
        port.unwrap_or_else(|| panic!("no port {name}"))
    }

    /// The name of a port, counted around: there is one for every number.
    pub fn port_name(&self, number: usize) -> String {
        let ports = self.engine.config().ports();
        ports[number % ports.len()].name.clone()
    }

    /// The verdict of a frame that leaves by the port called `name`.
    pub fn emit(&self, name: &str) -> Verdict {
        Verdict::Emit(self.port(name))
    }

    /// A port's device is there again.
    pub fn attach(&mut self, port: &str) {
        let port = self.port(port);
        self.engine.attach(port, self.now);
        self.drain();
        self.settle();
    }

    /// Frames in their buffers, processed as a worker processes a batch: without this harness's
    /// checks and records, which allocate. Nothing that leaves is kept.
    pub fn batch(&mut self, frames: &mut [(PortId, Vec<u8>)], mut each: impl FnMut(Verdict)) {
        self.engine.warm(frames.iter().map(|(_, bytes)| &bytes[..]));
        for (port, bytes) in frames {
            let mut frame = Frame::new(bytes);
            each(self.engine.process(&mut frame, *port, self.now));
        }
        self.engine.drain(self.now, |_, _| {});
        if self
            .engine
            .next_deadline()
            .is_some_and(|due| due <= self.now)
        {
            self.engine.poll(self.now);
        }
    }

    fn step(&mut self, port: &str, mut owned: OwnedFrame) -> Verdict {
        let ingress = self.port(port);
        let wire = tagged(&owned.bytes, owned.vlan.filter(|_| owned.bytes.len() >= 14));
        self.remember(Event::In(self.now, port.to_owned(), wire));
        self.tainted |= is_wrong(&owned);
        self.last = Some((ingress, owned.clone()));
        let before = self.engine.drops().clone();
        let counted = self.engine.handled();
        let frees = matches!(owned.bytes.get(12..14), Some([0x08, 0x06] | [0x86, 0xdd]));
        let explains = self.explains && !is_answer(&owned.bytes);
        let explained = explains.then(|| self.explained(&owned, ingress));
        let mut frame = owned.as_frame();
        let verdict = self.engine.process(&mut frame, ingress, self.now);
        let mut sent = Vec::new();
        if let Verdict::Emit(port) = verdict {
            sent.push((port, OwnedFrame::from(&frame)));
        }
        self.remember(Event::Verdict(verdict));
        if let Some((explained, bytes)) = explained {
            assert_eq!(explained, verdict, "explain says another verdict");
            let left = sent.first().map(|(_, frame)| &frame.bytes);
            assert!(
                left.is_none_or(|left| *left == bytes),
                "explain shows another frame"
            );
        }
        self.counted(verdict, &before, frees);
        self.engine.handled().check(&counted, verdict);
        for (port, frame) in sent {
            self.deliver(port, frame);
        }
        self.drain();
        verdict
    }

    /// What `explain` says of a frame: the verdict, and the frame as it leaves. Nothing changes by it.
    fn explained(&mut self, owned: &OwnedFrame, ingress: PortId) -> (Verdict, Vec<u8>) {
        let before = self.visible();
        let mut copy = owned.clone();
        let mut frame = copy.as_frame();
        let (_, verdict) = self.engine.explain(&mut frame, ingress, self.now);
        let bytes = frame.bytes.to_vec();
        assert_eq!(self.visible(), before, "explain changed something");
        (verdict, bytes)
    }

    /// Everything that is seen from outside.
    fn visible(&mut self) -> impl PartialEq + std::fmt::Debug + use<> {
        let due = self.engine.next_deadline();
        let counts = self.engine.counts();
        (
            counts,
            due,
            self.sessions(),
            self.neighbors(),
            self.violations(),
        )
    }

    /// Asserts that the frame had exactly one verdict: a drop counts its reason once, and any other
    /// verdict counts no drop. Drops of other frames may be counted at the same time: older ones
    /// that were pushed out of a queue, those that an answer of their next hop let go (`frees`) and
    /// that were then refused, and an ICMP error to the sender that the egress guard stopped.
    fn counted(&mut self, verdict: Verdict, before: &DropCounters, frees: bool) {
        for (reason, count) in self.engine.drops().iter() {
            let more = count - before.get(reason);
            let own = u64::from(verdict == Verdict::Drop(reason));
            let others = match (verdict, reason) {
                _ if frees => u64::MAX,
                (Verdict::Hold, DropReason::HoldQueueFull) => 1,
                // Older datagrams make room for this one.
                (_, DropReason::FragmentNoRoom) => u64::MAX,
                (Verdict::Drop(_), DropReason::EgressGuard) => 1,
                _ => 0,
            };
            assert!(
                (own..=own.saturating_add(others)).contains(&more),
                "{verdict:?} counted {} {more} times",
                reason.name()
            );
        }
    }

    fn drain(&mut self) {
        let mut sent = Vec::new();
        let now = self.now;
        self.engine.drain(now, |port, frame| {
            sent.push((port, OwnedFrame::from(&*frame)))
        });
        for (port, frame) in sent {
            self.deliver(port, frame);
        }
    }

    /// A frame leaves: its offloads are finished as a memory port does, every piece is checked,
    /// and the stations hear it.
    fn deliver(&mut self, port: PortId, mut owned: OwnedFrame) {
        let name = self.engine.port_name(port).to_owned();
        let mut scratch = std::mem::take(&mut self.scratch);
        let mut pieces = Vec::new();
        let count = segment(&owned.as_frame(), &mut scratch, &mut |frame| {
            pieces.push((frame.bytes.to_vec(), frame.vlan));
        });
        self.scratch = scratch;
        count.unwrap_or_else(|error| panic!("{name}: {error}: {}", decode::line(&owned.bytes)));
        for (bytes, vlan) in pieces {
            let wire = tagged(&bytes, vlan);
            self.remember(Event::Out(self.now, name.clone(), wire.clone()));
            let vlan = vlan.map(|tag| tag & 0xfff);
            let fault = wire::fault(self.engine.config(), &name, vlan, &bytes);
            assert_eq!(fault, None, "{name}: {}", decode::line(&wire));
            let checksum = wire::transport_checksum(&bytes);
            assert!(
                self.tainted || checksum != Some(false),
                "{name}: {}",
                decode::line(&wire)
            );
            self.answer(&name, vlan, &bytes);
            let sent = Sent {
                at: self.now,
                bytes: wire,
            };
            self.out.push_back((name.clone(), sent));
        }
    }

    fn settle(&mut self) {
        while let Some((port, bytes)) = self.answers.pop_front() {
            let (bytes, vlan) = untag(&bytes);
            self.step(
                &port,
                OwnedFrame {
                    bytes,
                    vlan,
                    offload: Offload::default(),
                },
            );
        }
    }

    fn remember(&mut self, event: Event) {
        if self.remembered.len() == REMEMBERED {
            self.remembered.pop_front();
        }
        self.remembered.push_back(event);
    }
}

/// Whether a frame is an ARP reply or a neighbour advertisement. `explain` is asked about packets of
/// guests and strangers, and does not know what the router itself is asking for at the moment.
fn is_answer(frame: &[u8]) -> bool {
    match frame.get(12..14) {
        Some([0x08, 0x06]) => frame.get(21) == Some(&2),
        Some([0x86, 0xdd]) => (frame.get(20), frame.get(54)) == (Some(&58), Some(&136)),
        _ => false,
    }
}

/// Whether a frame's transport checksum is wrong, or would be once it is finished.
fn is_wrong(frame: &OwnedFrame) -> bool {
    let mut copy = frame.clone();
    match complete_checksum(&mut copy.as_frame()) {
        Ok(()) => wire::transport_checksum(&copy.bytes) == Some(false),
        Err(_) => true,
    }
}

/// The MAC that [`Router::answer_everything`] gives an address.
pub fn mac_of(address: Ipv4Addr) -> MacAddr {
    let [a, b, c, d] = address.octets();
    MacAddr([6, 0, a, b, c, d])
}

/// A configuration from its text, which means the same when it is spelled out.
pub fn config(text: &str) -> Config {
    let config = toml::from_str(text).unwrap_or_else(|error| panic!("{error}"));
    expansion::assert_same_expanded(&config);
    config
}
