//! A sequence of packets, offered to both sides, and what each made of them.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::flow::{Both, Flow, Said, Stage, error, frame};
use super::model::{Model, PLAIN, REMOTES};
use super::pieces::{Pieces, whole};
use super::seen::{Ends, Seen};
use super::sides::{At, Side};
use super::step::{Act, Step, Wrong};
use crate::random::Random;

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
        let base = 10_000 + 400 * number as u16;
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

    /// Offers packets until there is enough, or the sides differ: then the last step tells.
    pub fn run(&mut self, sides: &mut Both<&mut dyn Side>, random: &mut Random) {
        for _ in 0..3 + random.below(10) {
            let number = random.below(self.flows.len() as u64) as usize;
            match random.below(20) {
                0..=12 => self.speak(number, sides, random),
                13..=16 => self.complain(number, sides, random),
                17 => self.intrude(number, sides, random),
                18 => self.forge(sides, random),
                _ => self.ping(sides, random),
            }
            if self.steps.last().is_some_and(|step| !step.is_alike()) {
                return;
            }
        }
    }

    /// One end says what comes next.
    fn speak(&mut self, number: usize, sides: &mut Both<&mut dyn Side>, random: &mut Random) {
        let flow = &mut self.flows[number];
        let can_answer = flow.at.is_some() && flow.heard[0].iter().all(Option::is_some);
        let end = usize::from(can_answer && random.chance(50));
        let mut said = flow.says(end, random);
        let pieces = (flow.protocol != 6 && random.chance(15)).then(|| {
            let pieces = match Pieces::random(random) {
                // What does not arrive holds the place of a protocol without ports, for all sequences.
                Pieces::Incomplete | Pieces::Overlapping if flow.protocol == PLAIN => {
                    Pieces::InOrder
                }
                pieces => pieces,
            };
            let most = match pieces {
                Pieces::Tiny => 700,
                Pieces::Atomic => 1_300,
                _ => 2_500,
            };
            said.payload = (0..100 + random.below(most)).map(|n| n as u8).collect();
            pieces
        });
        let port = if end == 0 {
            flow.port
        } else {
            flow.at.unwrap_or(0)
        };
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
        let wrong = match random.below(13) {
            9 if flow.protocol != PLAIN => Wrong::Port,
            10 => Wrong::Short,
            11 => Wrong::Destination,
            12 => Wrong::Elsewhere,
            _ => Wrong::Nothing,
        };
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
                Wrong::Nothing => {}
                Wrong::Port => quote[header..header + 2].copy_from_slice(&[7, 7]),
                Wrong::Short => quote.truncate(header + 4),
                Wrong::Destination => quote[header - 1] ^= 0x40,
                Wrong::Elsewhere => to = Model::external(flow.family, other),
            }
            let from = match by_router {
                true => Model::remote(flow.family, 77),
                false => about.to.0,
            };
            vec![error(port, (from, to), (kind, code, rest), &quote)]
        });
        let act = (Act::Error(wrong), None, "");
        self.offer(Some(number), act, port, sent, sides);
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
        // The kernel gives an identifier to several flows, so it may be an answer to another.
        if flow.protocol == 1 && self.flows.iter().any(|flow| flow.to.0 == from.0) {
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
            1 => (
                0,
                guest(random),
                Model::external(family, random.below(3) as usize),
            ),
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
        // The kernel may be busy. Where it may also be silent on purpose, that would take too long.
        let in_doubt = !flags.is_empty() || pieces.is_some() || matches!(act, Act::Error(_));
        let patience = Duration::from_millis(if in_doubt { 60 } else { 2_000 });
        let mut came: Both<Vec<At>> = Default::default();
        let mut seen: Both<Vec<Seen>> = Default::default();
        let mut told = [0; 2];
        for side in 0..2 {
            let mut frames = sides[side].offer(port, &sent[side]);
            came[side] = whole(frames.clone());
            (seen[side], told[side]) = heard(&came[side], act);
            // What the kernel says meanwhile may be for its neighbours.
            let end = Instant::now() + patience;
            while seen[side].len() < seen[0].len() && Instant::now() < end {
                frames.extend(sides[side].late(end));
                came[side] = whole(frames.clone());
                (seen[side], told[side]) = heard(&came[side], act);
            }
            let Some(flow) = &mut flow else { continue };
            if let (Act::Opens, None, [first]) = (act, flow.chosen[side], &seen[side][..]) {
                let free = first.from.0 != flow.from.0
                    && Some(first.from.0) != self.model.alone(flow.family);
                flow.chosen[side] = free.then_some(first.from);
            }
        }
        let chosen: Both<Option<Ends>> = flow.as_ref().map_or([None; 2], |flow| flow.chosen);
        let mut side = 0;
        let seen = seen.map(|all| {
            let mut all: Vec<Seen> = all
                .into_iter()
                .map(|it| it.with_chosen(chosen[side]))
                .collect();
            all.sort();
            side += 1;
            all
        });
        let stage = flow.as_ref().map_or(Stage::New, |flow| flow.stage);
        let protocol = flow.as_ref().map_or(0, |flow| flow.protocol);
        let unruly = flow.as_ref().is_some_and(|flow| flow.unruly);
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
                    let heard =
                        frames.find(|frame| !Seen::all(std::slice::from_ref(frame)).is_empty());
                    heard.map(|(_, bytes)| bytes)
                });
            }
        }
        self.steps.push(Step {
            act,
            protocol,
            flags,
            stage,
            unruly,
            pieces,
            port,
            sent,
            seen,
            told,
        });
    }
}

/// The packets that came out, and how many more were what the router itself says.
fn heard(came: &[At], act: Act) -> (Vec<Seen>, usize) {
    let mut seen = Seen::all(came);
    let all = seen.len();
    seen.retain(|seen| matches!(act, Act::Error(_)) || !seen.is_error());
    let told = all - seen.len();
    (seen, told)
}
