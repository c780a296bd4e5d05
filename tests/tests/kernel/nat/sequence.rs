//! A sequence of packets, offered to both sides, and what each made of them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::random::Random;
use tapgate_tests::decode;
use tapgate_tests::fragments::{cut, fragment, join};

use super::flow::{Both, Flow, Said, Stage, error, frame};
use super::kernel::{At, Side};
use super::model::{Model, PLAIN, PORTS, REMOTES};
use super::seen::{Ends, Seen};

/// What was sent, as far as what differs on purpose depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Act {
    Opens,
    Answers,
    /// An ICMP error about what arrived; whether it says what is so.
    Error {
        right: bool,
    },
    Stranger,
    /// From or to an address that is nobody's there.
    Forged,
    /// A ping to the router itself.
    Ping,
}

/// What one packet, or one datagram's fragments, came to.
#[derive(Debug)]
pub struct Step {
    pub act: Act,
    pub protocol: u8,
    pub flags: &'static str,
    pub stage: Stage,
    /// Cut into fragments, and how.
    pub pieces: Option<Pieces>,
    pub port: usize,
    pub sent: Both<Vec<Vec<u8>>>,
    pub seen: Both<Vec<Seen>>,
}

/// In which order fragments are sent, and which are wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pieces {
    InOrder,
    Backwards,
    Shuffled,
    Doubled,
    Incomplete,
    Overlapping,
    Tiny,
}

/// A few conversations at once.
pub struct Sequence<'m> {
    model: &'m Model,
    flows: Vec<Flow>,
    /// Ports that no conversation of this sequence has.
    strange: u16,
    id: u32,
    pub steps: Vec<Step>,
}

impl<'m> Sequence<'m> {
    /// The `number`th with this configuration.
    pub fn new(model: &'m Model, number: u32, random: &mut Random) -> Self {
        let base = 10_000 + 8 * (number % 4_000) as u16;
        let mut flows: Vec<Flow> = Vec::new();
        for _ in 0..1 + random.below(3) {
            let flow = Flow::random(model, base, random);
            if !flows.iter().any(|other| flow.meets(other)) {
                flows.push(flow);
            }
        }
        Self {
            model,
            flows,
            strange: base + 4,
            id: number * 40,
            steps: Vec::new(),
        }
    }

    /// Offers packets until there is enough, or the sides differ.
    pub fn run(&mut self, sides: &mut Both<&mut dyn Side>, random: &mut Random) -> bool {
        for _ in 0..3 + random.below(10) {
            let number = random.below(self.flows.len() as u64) as usize;
            match random.below(20) {
                0..=12 => self.speak(number, sides, random),
                13..=16 => self.complain(number, sides, random),
                17 => self.intrude(number, sides, random),
                18 => self.forge(sides, random),
                _ => self.ping(sides, random),
            }
            let last = self.steps.last();
            if last.is_some_and(|step| step.seen[0] != step.seen[1]) {
                return false;
            }
        }
        true
    }

    /// One end says what comes next.
    fn speak(&mut self, number: usize, sides: &mut Both<&mut dyn Side>, random: &mut Random) {
        let flow = &mut self.flows[number];
        let can_answer = flow.at.is_some() && flow.heard[0].iter().all(Option::is_some);
        let end = usize::from(can_answer && random.chance(50));
        let mut said = flow.says(end, random);
        let pieces = (matches!(flow.protocol, 17 | 1) && random.chance(15)).then(|| {
            said.payload = (0..100 + random.below(2_500)).map(|n| n as u8).collect();
            Pieces::random(random)
        });
        let port = if end == 0 { flow.port } else { flow.at.unwrap_or(0) };
        self.id += 1;
        let (id, order) = (self.id, random.clone());
        let flow = &self.flows[number];
        let sent = [0, 1].map(|side| {
            let ends = match (end, &flow.heard[0][side]) {
                (1, Some(heard)) => {
                    let heard = Seen::all(&[(port, heard.clone())]).remove(0);
                    let reply = (heard.to, heard.from);
                    match flow.protocol {
                        1 => ((reply.0.0, 0), (reply.1.0, reply.1.1)),
                        _ => reply,
                    }
                }
                _ => (flow.from, flow.to),
            };
            let whole = frame(port, flow.protocol, ends, &said);
            match pieces {
                None => vec![whole],
                Some(pieces) => pieces.of(&whole, id, &mut order.clone()),
            }
        });
        let act = if end == 0 { Act::Opens } else { Act::Answers };
        self.offer(Some(number), (act, pieces, said.flags), port, sent, sides);
    }

    /// An end, or a router on the way to it, sends an ICMP error about what arrived.
    fn complain(&mut self, number: usize, sides: &mut Both<&mut dyn Side>, random: &mut Random) {
        let flow = &self.flows[number];
        let end = random.below(2) as usize;
        let port = if end == 0 { flow.at } else { Some(flow.port) };
        let (Some(port), [Some(_), Some(_)]) = (port, &flow.heard[end]) else {
            return;
        };
        let kinds = [
            [(3, 1), (3, 3), (3, 4), (11, 0)],
            [(1, 0), (1, 4), (2, 0), (3, 0)],
        ];
        let (kind, code) = kinds[flow.family][random.below(4) as usize];
        let rest = match (kind, code) {
            (3, 4) | (2, 0) => [0, 0, 5, 0x50],
            _ => [0; 4],
        };
        let wrong = if random.chance(70) { 0 } else { 1 + random.below(4) };
        let by_router = port == 0 && random.chance(50);
        let (long, other) = (random.chance(50), random.below(3) as usize);
        let header = [20, 40][flow.family];
        let sent = [0, 1].map(|side| {
            let heard = flow.heard[end][side].clone().expect("looked at above");
            let about = Seen::all(&[(port, heard.clone())]).remove(0);
            let mut quote = heard[14..].to_vec();
            quote.truncate(if long { 500 } else { header + 8 });
            let mut to = about.from.0;
            match wrong {
                1 => quote[header..header + 2].copy_from_slice(&[7, 7]),
                2 => quote.truncate(header + 4),
                3 => to = Model::external(flow.family, other),
                // Another destination.
                4 => quote[header - 1] ^= 1,
                _ => {}
            }
            let from = match by_router {
                true => Model::remote(flow.family, 77),
                false => about.to.0,
            };
            vec![error(port, (from, to), (kind, code, rest), &quote)]
        });
        let right = wrong == 0;
        self.offer(
            Some(number),
            (Act::Error { right }, None, ""),
            port,
            sent,
            sides,
        );
    }

    /// Somebody outside speaks to a port that a guest uses, which did not speak to them.
    fn intrude(&mut self, number: usize, sides: &mut Both<&mut dyn Side>, random: &mut Random) {
        let flow = &self.flows[number];
        let [Some(_), Some(_)] = flow.chosen else {
            return;
        };
        let from = Model::remote(flow.family, 1 + random.below(REMOTES));
        let from = (from, if flow.protocol == 1 { 0 } else { self.strange });
        self.strange += 1;
        if flow.protocol == PLAIN {
            return;
        }
        let said = Said {
            flags: ["S", "."][random.below(2) as usize],
            reply: true,
            payload: b"strange".to_vec(),
            ..Said::default()
        };
        if flow.protocol == 1 && from.0 == flow.to.0 {
            return;
        }
        let sent = [0, 1].map(|side| {
            let to = flow.chosen[side].expect("looked at above");
            vec![frame(0, flow.protocol, (from, to), &said)]
        });
        let flags = if flow.protocol == 6 { said.flags } else { "" };
        self.offer(None, (Act::Stranger, None, flags), 0, sent, sides);
    }

    /// Somebody sends from an address that is another's, or from outside to one inside.
    fn forge(&mut self, sides: &mut Both<&mut dyn Side>, random: &mut Random) {
        let family = random.below(2) as usize;
        let guest = |random: &mut Random| Model::guest(family, 1 + random.below(3) as usize);
        let remote = Model::remote(family, 1 + random.below(REMOTES));
        let (port, from, to): (usize, IpAddr, IpAddr) = match random.below(4) {
            0 => (0, remote, guest(random)),
            1 => (0, guest(random), Model::external(family, random.below(3) as usize)),
            2 => (0, Model::external(family, 1), guest(random)),
            _ => {
                let port = 1 + random.below(3) as usize;
                let other = 1 + port % 3;
                (port, Model::guest(family, other), remote)
            }
        };
        let (protocol, said) = (17, Said::default());
        let ends = ((from, self.strange), (to, 80));
        self.strange += 1;
        let whole = vec![frame(port, protocol, ends, &said)];
        let sent = [whole.clone(), whole];
        self.offer(None, (Act::Forged, None, ""), port, sent, sides);
    }

    /// Somebody pings the router.
    fn ping(&mut self, sides: &mut Both<&mut dyn Side>, random: &mut Random) {
        let (family, port) = (random.below(2) as usize, random.below(4) as usize);
        let from = match port {
            0 => Model::remote(family, 1 + random.below(REMOTES)),
            guest => Model::guest(family, guest),
        };
        let to = match port {
            0 => Model::external(family, random.below(2) as usize),
            guest => Model::gateway(family, guest),
        };
        let said = Said {
            payload: b"ping".to_vec(),
            ..Said::default()
        };
        let whole = vec![frame(port, 1, ((from, self.strange), (to, 0)), &said)];
        self.strange += 1;
        let sent = [whole.clone(), whole];
        self.offer(None, (Act::Ping, None, ""), port, sent, sides);
    }

    /// Offers frames to both sides, and remembers what came of it.
    fn offer(
        &mut self,
        number: Option<usize>,
        (act, pieces, flags): (Act, Option<Pieces>, &'static str),
        port: usize,
        sent: Both<Vec<Vec<u8>>>,
        sides: &mut Both<&mut dyn Side>,
    ) {
        let mut flow = number.map(|number| &mut self.flows[number]);
        let mut came: Both<Vec<At>> = Default::default();
        let mut seen: Both<Vec<Seen>> = Default::default();
        for side in 0..2 {
            came[side] = whole(sides[side].offer(port, &sent[side]));
            seen[side] = Seen::all(&came[side]);
            if !matches!(act, Act::Error { .. }) {
                // What the router itself says of a packet that it refuses.
                seen[side].retain(|seen| !seen.is_error());
            }
            let Some(flow) = &mut flow else { continue };
            if let (Act::Opens, None, [first]) = (act, flow.chosen[side], &seen[side][..]) {
                let free = first.from.0 != flow.from.0 && Some(first.from.0) != self.model.alone(flow.family);
                flow.chosen[side] = free.then_some(first.from);
            }
        }
        let chosen: Both<Option<Ends>> = flow.as_ref().map_or([None; 2], |flow| flow.chosen);
        let mut side = 0;
        let seen = seen.map(|all| {
            let mut all: Vec<Seen> = all.into_iter().map(|it| it.with_chosen(chosen[side])).collect();
            all.sort();
            side += 1;
            all
        });
        let stage = flow.as_ref().map_or(Stage::New, |flow| flow.stage);
        let protocol = flow.as_ref().map_or(0, |flow| flow.protocol);
        if let (Some(flow), [first], [_]) = (flow, &seen[0][..], &seen[1][..]) {
            let end = match act {
                Act::Opens => Some(0),
                Act::Answers => Some(1),
                _ => None,
            };
            if let Some(end) = end {
                if end == 0 {
                    flow.at = Some(first.port);
                }
                flow.heard[end] = came.map(|came| {
                    let mut frames = came.into_iter();
                    let heard = frames.find(|frame| !Seen::all(std::slice::from_ref(frame)).is_empty());
                    heard.map(|(_, bytes)| bytes)
                });
            }
        }
        self.steps.push(Step {
            act,
            protocol,
            flags,
            stage,
            pieces,
            port,
            sent,
            seen,
        });
    }
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(
            f,
            "{:?} {} {:?} {:?} by {}",
            self.act, self.flags, self.stage, self.pieces, PORTS[self.port]
        )?;
        for (name, side) in [("tapgate", 0), ("kernel ", 1)] {
            for frame in &self.sent[side] {
                writeln!(f, "    {name} < {}", decode::line(frame))?;
            }
            for seen in &self.seen[side] {
                writeln!(f, "    {name} > {seen}")?;
            }
        }
        Ok(())
    }
}

impl Pieces {
    fn random(random: &mut Random) -> Self {
        match random.below(14) {
            0..=3 => Self::InOrder,
            4..=6 => Self::Backwards,
            7..=9 => Self::Shuffled,
            10 => Self::Doubled,
            11 => Self::Incomplete,
            12 => Self::Overlapping,
            _ => Self::Tiny,
        }
    }

    /// The fragments of a frame.
    fn of(self, whole: &[u8], id: u32, random: &mut Random) -> Vec<Vec<u8>> {
        let size = match self {
            Self::Tiny if whole[12] == 8 => 8,
            _ => 64 + 8 * random.below(140) as usize,
        };
        let mut pieces = cut(whole, id, size);
        let last = random.below(pieces.len() as u64) as usize;
        match self {
            Self::InOrder => {}
            // The first has the whole header of UDP and echo, but nothing more.
            Self::Tiny => pieces.truncate(100),
            Self::Backwards => pieces.reverse(),
            Self::Shuffled => {
                for n in (1..pieces.len()).rev() {
                    pieces.swap(n, random.below(n as u64 + 1) as usize);
                }
            }
            Self::Doubled => pieces.insert(last, pieces[last].clone()),
            Self::Incomplete => {
                pieces.remove(last);
            }
            Self::Overlapping => {
                let (start, protocol) = match whole[12] {
                    8 => (34, whole[23]),
                    _ => (54, whole[20]),
                };
                let data = &whole[start + 16..start + 16 + 64];
                pieces.insert(last, fragment(whole, protocol, id, 16, true, data));
            }
        }
        pieces
    }
}

/// Frames that came out, fragments put together.
fn whole(frames: Vec<At>) -> Vec<At> {
    let mut by_port: BTreeMap<usize, Vec<Vec<u8>>> = BTreeMap::new();
    for (port, frame) in frames {
        by_port.entry(port).or_default().push(frame);
    }
    let joined = by_port.into_iter().flat_map(|(port, frames)| {
        let whole = join(frames).into_iter();
        whole.map(move |frame| (port, frame)).collect::<Vec<_>>()
    });
    joined.collect()
}
