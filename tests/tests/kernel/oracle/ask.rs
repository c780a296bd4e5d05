//! One packet, and what each side says of it.

use std::io::Write;
use std::net::IpAddr;
use std::process::{Command, Stdio};

use tapgate_engine::base::ip::Address;
use tapgate_engine::model::route::{Selector, route};
use tapgate_engine::model::tables::NoWay;
use tapgate_engine::model::trace::{Silent, Step, Steps, Trace};
use tapgate_engine::snapshot::Snapshot;
use tapgate_engine::wire::flow::Flow;

use super::sets::{DEVICES, destination, own, source};
use crate::random::Random;

/// What is asked.
#[derive(Debug, Clone)]
pub struct Packet {
    pub from: Option<IpAddr>,
    pub to: IpAddr,
    /// The device it came in by; `None`: it is the router's own.
    pub iif: Option<u64>,
    /// The device that it is bound to, if it is the router's own.
    pub oif: Option<u64>,
    pub mark: u32,
    pub tos: u8,
    /// Protocol and ports. `ip` that is told none takes UDP.
    pub transport: (u8, u16, u16),
}

/// What is said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    Way {
        device: u64,
        next_hop: IpAddr,
        /// Of a packet of the router's own that has none.
        source: Option<IpAddr>,
        /// The route's own `mtu` and `advmss`.
        sizes: (Option<u32>, Option<u32>),
    },
    /// Also what a rule says.
    NoRoute,
    Unreachable,
    Prohibited,
    Silent,
}

impl Packet {
    pub fn random(random: &mut Random) -> Self {
        let family = random.below(2) as usize;
        let iif = random.chance(70).then(|| random.below(DEVICES));
        let oif = (iif.is_none() && random.chance(30)).then(|| random.below(DEVICES));
        // Over IPv6 a source makes the device a wish.
        let bound = oif.is_some() && family == 1;
        let from = match iif {
            Some(_) => Some(source(family, random)),
            None => (!bound && random.chance(60)).then(|| own(family, random.below(DEVICES))),
        };
        let transport = match random.below(3) {
            0 => (if family == 0 { 1 } else { 58 }, 0, 0),
            n => {
                let port =
                    |random: &mut Random| [22, 80, 443, 5_000, 40_000][random.below(5) as usize];
                (if n == 1 { 6 } else { 17 }, port(random), port(random))
            }
        };
        Self {
            from,
            to: destination(family, random),
            iif,
            oif,
            mark: [0, 0, 1, 2, 0x11, 0x20][random.below(6) as usize],
            tos: [0, 0, 4, 8, 0x10, 0x1c][random.below(6) as usize],
            transport,
        }
    }

    /// What `ip` is asked.
    pub fn command(&self) -> String {
        let mut text = format!("route get {}", self.to);
        if let Some(from) = self.from {
            text += &format!(" from {from}");
        }
        for (key, device) in [("iif", self.iif), ("oif", self.oif)] {
            text += &device.map_or(String::new(), |device| format!(" {key} v{device}"));
        }
        if self.mark != 0 {
            text += &format!(" mark {:#x}", self.mark);
        }
        if self.tos != 0 {
            text += &format!(" tos {:#x}", self.tos);
        }
        let (protocol, from, to) = self.transport;
        text += &format!(" ipproto {protocol}");
        if [6, 17].contains(&protocol) {
            text += &format!(" sport {from} dport {to}");
        }
        text
    }

    /// What the engine says.
    pub fn ask(&self, snapshot: &Snapshot) -> Answer {
        self.routed(snapshot, &mut Silent)
    }

    /// How the engine came to it.
    pub fn explained(&self, snapshot: &Snapshot) -> String {
        let mut steps = Steps::default();
        self.routed(snapshot, &mut steps);
        let steps = steps.0.iter().map(|step| format!("{step:?}\n"));
        steps.collect()
    }

    fn routed(&self, snapshot: &Snapshot, trace: &mut impl Trace) -> Answer {
        match (self.to, self.from) {
            (IpAddr::V4(to), from) => {
                let from =
                    from.map_or(Address::UNSPECIFIED, |from| Address::from_ip(from).unwrap());
                self.answer(from, to, snapshot, trace)
            }
            (IpAddr::V6(to), from) => {
                let from =
                    from.map_or(Address::UNSPECIFIED, |from| Address::from_ip(from).unwrap());
                self.answer(from, to, snapshot, trace)
            }
        }
    }

    fn answer<A: Address>(
        &self,
        from: A,
        to: A,
        snapshot: &Snapshot,
        trace: &mut impl Trace,
    ) -> Answer {
        let (protocol, source_port, destination_port) = self.transport;
        let interface = |device: u64| snapshot.interface_id(&format!("n{device}")).unwrap();
        let selector = Selector {
            keeps: None,
            flow: Flow {
                source: from,
                destination: to,
                source_port,
                destination_port,
                protocol,
            },
            iif: self.iif.map(interface),
            oif: self.oif.map(interface),
            mark: self.mark,
            tos: self.tos,
        };
        match route(snapshot, selector, trace) {
            Ok(way) => {
                let name = snapshot.interface_name(way.interface.id);
                Answer::Way {
                    device: name[1..].parse().unwrap(),
                    next_hop: way.next_hop,
                    source: match self.from {
                        Some(_) => None,
                        None => way.source_for(to).map(Into::into),
                    },
                    sizes: way.route.map_or((None, None), |route| {
                        (route.mtu, route.advmss.map(u32::from))
                    }),
                }
            }
            Err(NoWay::NoRoute | NoWay::RuleUnreachable) => Answer::NoRoute,
            Err(NoWay::RouteUnreachable) => Answer::Unreachable,
            Err(NoWay::Prohibited) => Answer::Prohibited,
            Err(NoWay::Blackhole) => Answer::Silent,
        }
    }

    /// Whether the two may differ as the head of this test says.
    pub fn is_on_purpose(&self, theirs: &Answer, snapshot: &Snapshot) -> bool {
        let mut steps = Steps::default();
        let ours = self.routed(snapshot, &mut steps);
        let is_way = matches!(ours, Answer::Way { .. });
        let on_link = matches!(
            theirs,
            Answer::Way { device, next_hop, .. } if Some(*device) == self.oif && *next_hop == self.to
        );
        let by_route = steps
            .0
            .iter()
            .any(|step| matches!(step, Step::RouteEnds { .. } | Step::Throw { .. }));
        match self.to {
            IpAddr::V4(_) => on_link && !is_way,
            IpAddr::V6(_) => self.oif.is_some() && by_route,
        }
    }
}

/// What the kernel says of each.
pub fn kernel(packets: &[Packet]) -> Vec<Answer> {
    let mut child = Command::new("ip")
        .args(["-o", "-force", "-batch", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("iproute2 is needed");
    let mut stdin = child.stdin.take().expect("it is piped");
    let asked: String = packets
        .iter()
        .map(|packet| packet.command() + "\n")
        .collect();
    // The answers to a few hundred questions find room in the pipe.
    stdin.write_all(asked.as_bytes()).expect("to be read");
    drop(stdin);
    let output = child.wait_with_output().expect("a child");
    let (answers, errors) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    let mut all: Vec<Option<Answer>> = vec![None; packets.len()];
    let mut error = "";
    for line in errors.lines() {
        match line.strip_prefix("Command failed -:") {
            Some(number) => {
                let place = number.trim().parse::<usize>().expect("a number") - 1;
                all[place] = Some(failure(error, &packets[place]));
            }
            None => error = line,
        }
    }
    let mut answers = answers.lines();
    for (answer, packet) in all.iter_mut().zip(packets) {
        if answer.is_none() {
            let line = answers.next().expect("an answer to each that did not fail");
            *answer = Some(success(line, packet));
        }
    }
    all.into_iter().flatten().collect()
}

fn failure(error: &str, packet: &Packet) -> Answer {
    match error {
        "RTNETLINK answers: Network is unreachable" => Answer::NoRoute,
        "RTNETLINK answers: No route to host" => Answer::Unreachable,
        "RTNETLINK answers: Permission denied" => Answer::Prohibited,
        "RTNETLINK answers: Invalid argument" => Answer::Silent,
        other => panic!("ip {}: {other}", packet.command()),
    }
}

fn success(line: &str, packet: &Packet) -> Answer {
    let words: Vec<&str> = line.split_whitespace().collect();
    let after = |word: &str| {
        let at = words.iter().position(|known| *known == word)?;
        Some(&words[at + 1..])
    };
    // An error of IPv4 may be said as a kind of route.
    match words[0] {
        "unreachable" => return Answer::Unreachable,
        "prohibit" => return Answer::Prohibited,
        "blackhole" => return Answer::Silent,
        _ => {}
    }
    let device = after("dev").unwrap_or_else(|| panic!("ip {}: {line}", packet.command()))[0];
    let via = after("via").map(|words| match words[0] {
        "inet6" => words[1],
        via => via,
    });
    let number = |word: &str| after(word).map(|words| words[0].parse().expect("a number"));
    let source = after("src").filter(|_| packet.from.is_none());
    Answer::Way {
        device: device[1..].parse().expect("one of ours"),
        next_hop: via.map_or(packet.to, |via| via.parse().expect("an address")),
        source: source.map(|words| words[0].parse().expect("an address")),
        sizes: (number("mtu"), number("advmss")),
    }
}
