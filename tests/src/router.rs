//! The engine with a clock, a network around it, and eyes on everything that comes out.

mod engine;
mod report;

use std::collections::{BTreeMap, VecDeque};
use std::net::Ipv4Addr;
use std::time::Duration;

use tapgate_engine::addr::{MacAddr, PortId};
use tapgate_engine::config::Config;
use tapgate_engine::drops::{DropCounters, DropReason};
use tapgate_engine::explain::Line;
use tapgate_engine::frame::{Frame, Offload, OwnedFrame, Verdict};
use tapgate_engine::run::{NeighborView, SessionView};
use tapgate_engine::segment::{complete_checksum, segment};
use tapgate_engine::session::SessionMemory;
use tapgate_engine::state::claims::Notice;
use tapgate_engine::time::Instant;

use crate::packet::{Arp, tagged, untag};
use crate::{decode, nd, wire};
use engine::Engine;
use report::Event;

/// What feeds hashing and random choices in all tests, so that runs repeat.
pub const SEED: u64 = 7;
/// When the clock starts: not at zero, where "never" could hide.
const START: Instant = Instant::from_millis(1_000_000);
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

/// A station around the router that answers ARP, and does nothing else.
#[derive(Debug, Clone)]
struct Station {
    port: String,
    vlan: Option<u16>,
    address: Ipv4Addr,
    mac: MacAddr,
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
    explains: bool,
    out: BTreeMap<String, Vec<Sent>>,
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
        let sessions = config(text).router().sessions.min(65_536) as usize;
        Self::with_memory(text, SessionMemory::owned(sessions))
    }

    /// The same over session memory that something else may have used before.
    pub fn with_memory(text: &str, memory: SessionMemory) -> Self {
        Self {
            engine: Engine::new(&config(text), memory, SEED, START),
            now: START,
            stations: Vec::new(),
            everybody_answers: false,
            explains: false,
            out: BTreeMap::new(),
            answers: VecDeque::new(),
            remembered: VecDeque::new(),
            last: None,
            scratch: Vec::new(),
            tainted: false,
        }
    }

    /// Puts a station on a port that answers ARP for its address from now on.
    pub fn station(&mut self, port: &str, vlan: Option<u16>, address: &str, mac: MacAddr) {
        self.stations.push(Station {
            port: port.to_owned(),
            vlan,
            address: address.parse().expect("an address"),
            mac,
        });
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
        self.engine.adopt(&config(text), self.now);
        self.remember(Event::Reload(self.engine.generation()));
        self.drain();
        self.settle();
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

    /// A frame comes in by `port`, as on the wire; a VLAN tag is taken off as ports do.
    pub fn inject(&mut self, port: &str, bytes: &[u8]) -> Verdict {
        let (bytes, vlan) = untag(bytes);
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

    /// What came out of `port` since it was last taken.
    pub fn take(&mut self, port: &str) -> Vec<Sent> {
        self.out.remove(port).unwrap_or_default()
    }

    /// The bytes of what came out of `port` since it was last taken, without ARP.
    pub fn take_packets(&mut self, port: &str) -> Vec<Vec<u8>> {
        let packets = self.take(port).into_iter().map(|sent| sent.bytes);
        packets
            .filter(|bytes| untag(bytes).0[12..14] == [8, 0])
            .collect()
    }

    /// Everything that came out, by port, since it was last taken.
    pub fn take_all(&mut self) -> BTreeMap<String, Vec<Sent>> {
        std::mem::take(&mut self.out)
    }

    /// The port called `name`.
    pub fn port(&self, name: &str) -> PortId {
        let port = self.engine.port(name);
        port.unwrap_or_else(|| panic!("no port {name}"))
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

    /// The sessions, up to 1,000 of them.
    pub fn sessions(&self) -> Vec<SessionView> {
        self.engine.sessions(1_000, self.now)
    }

    /// The neighbours.
    pub fn neighbors(&self) -> Vec<NeighborView> {
        self.engine.neighbors()
    }

    /// What an operator must hear of, since this was last asked.
    pub fn notices(&mut self) -> Vec<Notice> {
        self.engine.notices()
    }

    /// What guests sent that is not theirs: port, reason, frames.
    pub fn violations(&self) -> Vec<(PortId, DropReason, u64)> {
        self.engine.violations()
    }

    /// What would become of a frame, and why.
    pub fn explain(&mut self, port: &str, bytes: &[u8]) -> (Vec<Line>, Verdict) {
        let (bytes, vlan) = untag(bytes);
        let mut frame = OwnedFrame {
            bytes,
            vlan,
            offload: Offload::default(),
        };
        let ingress = self.port(port);
        self.engine
            .explain(&mut frame.as_frame(), ingress, self.now)
    }

    /// Everything counted that is not zero, by name.
    pub fn counts(&mut self) -> BTreeMap<String, u64> {
        self.engine.counts()
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

    /// How many frames were dropped for `reason`.
    pub fn dropped(&mut self, reason: DropReason) -> u64 {
        self.engine.drops().get(reason)
    }

    fn step(&mut self, port: &str, mut owned: OwnedFrame) -> Verdict {
        let ingress = self.port(port);
        let wire = tagged(&owned.bytes, owned.vlan.filter(|_| owned.bytes.len() >= 14));
        self.remember(Event::In(self.now, port.to_owned(), wire));
        self.tainted |= is_wrong(&owned);
        self.last = Some((ingress, owned.clone()));
        let before = self.engine.drops().clone();
        let frees = matches!(owned.bytes.get(12..14), Some([0x08, 0x06] | [0x86, 0xdd]));
        let explained = self.explains.then(|| {
            let mut copy = owned.clone();
            self.engine
                .explain(&mut copy.as_frame(), ingress, self.now)
                .1
        });
        let mut frame = owned.as_frame();
        let verdict = self.engine.process(&mut frame, ingress, self.now);
        let mut sent = Vec::new();
        if let Verdict::Emit(port) = verdict {
            sent.push((port, OwnedFrame::from(&frame)));
        }
        self.remember(Event::Verdict(verdict));
        assert!(
            explained.is_none_or(|explained| explained == verdict),
            "explain: {explained:?}"
        );
        self.counted(verdict, &before, frees);
        for (port, frame) in sent {
            self.deliver(port, frame);
        }
        self.drain();
        verdict
    }

    /// Exactly one verdict: a drop counts its reason once and nothing else; anything else counts no
    /// drop. Other frames may be dropped besides: older ones that were pushed out of a queue, or
    /// let go by an answer from their next hop (`frees`) and then refused, and the error that
    /// would have told the sender, by the egress guard.
    fn counted(&mut self, verdict: Verdict, before: &DropCounters, frees: bool) {
        for (reason, count) in self.engine.drops().iter() {
            let more = count - before.get(reason);
            let own = u64::from(verdict == Verdict::Drop(reason));
            let others = match (verdict, reason) {
                _ if frees => u64::MAX,
                (Verdict::Hold, DropReason::HoldQueueFull) => 1,
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
            self.out.entry(name.clone()).or_default().push(Sent {
                at: self.now,
                bytes: wire,
            });
        }
    }

    fn answer(&mut self, port: &str, vlan: Option<u16>, bytes: &[u8]) {
        if let Some((asker, asked, mac)) = nd::solicited(bytes)
            && self.everybody_answers
            && asker != asked
        {
            let [.., a, b, c, d] = asked.octets();
            let own = MacAddr([6, 6, a, b, c, d]);
            let reply = nd::advertisement((asked, own), (asker, mac));
            self.answers
                .push_back((port.to_owned(), tagged(&reply, vlan)));
        }
        let Some(arp) = Arp::parse(bytes).filter(|arp| arp.operation == 1) else {
            return;
        };
        let (asked, own) = (arp.target.1, arp.sender.1);
        let station = self.stations.iter().find(|station| {
            station.port == port && station.vlan == vlan && station.address == asked
        });
        let mac = match station {
            Some(station) => station.mac,
            None if self.everybody_answers && asked != own => mac_of(asked),
            None => return,
        };
        let reply = Arp {
            operation: 2,
            sender: (mac, asked),
            target: arp.sender,
            from: mac,
            to: arp.from,
            vlan,
        };
        self.answers.push_back((port.to_owned(), reply.bytes()));
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

/// A configuration from its text.
pub fn config(text: &str) -> Config {
    toml::from_str(text).unwrap_or_else(|error| panic!("{error}"))
}
