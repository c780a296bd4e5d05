//! What is known of every flow, and what may therefore happen next.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::Duration;

use proptest::prelude::*;
use tapgate_engine::time::Instant;

/// How late an idle session may be found out: ticks of the session clock, and one round of the
/// search for expired ones.
const TICK: Duration = Duration::from_millis(200);
const ROUND: Duration = Duration::from_secs(6);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    Udp,
    Tcp,
    Echo,
}

/// A guest's own address and port: hosts 0 and 1 are in network a, 2 and 3 in network b.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    pub host: u8,
    pub port_number: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Flow {
    pub protocol: Protocol,
    pub endpoint: Endpoint,
    pub remote: Ipv4Addr,
    pub remote_port: u16,
}

/// A guest's endpoint as the remote host sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct External {
    pub address: Ipv4Addr,
    pub port: u16,
}

/// Configurations that differ in what they allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variant {
    /// Both networks share 16 ports of the first address.
    Whole,
    /// They share 8 ports.
    Half,
    /// They share 16 ports of the second address.
    Moved,
    /// Network b is not translated, and may therefore not leave.
    OnlyA,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Its packets must pass, as they did.
    Live,
    /// It was forbidden for a while, or its idle time is not known exactly: either will do.
    Doubtful,
    /// Nothing from outside may reach it.
    Dead,
}

/// Why a flow got no external port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// There is none.
    Exhausted,
    /// There are, but its network's guests have as many as they leave.
    Limited,
}

#[derive(Debug, Clone, Copy)]
struct Known {
    external: External,
    seen: Instant,
    /// A configuration forbade it while nothing was sent.
    was_forbidden: bool,
    /// Seen to have ended.
    ended: bool,
}

/// Every flow that was ever translated.
#[derive(Debug)]
pub struct Model {
    flows: BTreeMap<Flow, Known>,
    variant: Variant,
    now: Instant,
}

impl Model {
    /// The personality's addresses.
    pub const ADDRESSES: [Ipv4Addr; 2] = [
        Ipv4Addr::new(203, 0, 113, 10),
        Ipv4Addr::new(203, 0, 113, 11),
    ];

    pub fn new() -> Self {
        Self {
            flows: BTreeMap::new(),
            variant: Variant::Whole,
            now: Instant::default(),
        }
    }

    pub fn advance(&mut self, now: Instant) {
        self.now = now;
    }

    pub fn reload(&mut self, variant: Variant) {
        self.variant = variant;
        for (flow, known) in &mut self.flows {
            known.was_forbidden |= !variant.allows(flow.endpoint, known.external);
        }
    }

    /// What the remote host last saw of a flow.
    pub fn last_seen(&self, flow: &Flow) -> Option<External> {
        self.flows.get(flow).map(|known| known.external)
    }

    /// Whose a packet from the flow's remote host to `external` is.
    pub fn owner(&self, flow: &Flow, external: External) -> (Status, Option<Endpoint>) {
        let candidates = self.flows.iter().filter(|(other, known)| {
            known.external == external
                && (other.protocol, other.remote, other.remote_port)
                    == (flow.protocol, flow.remote, flow.remote_port)
        });
        let mut best = (Status::Dead, None);
        for (flow, known) in candidates {
            match self.status(flow, known) {
                Status::Live => return (Status::Live, Some(flow.endpoint)),
                Status::Doubtful => best = (Status::Doubtful, Some(flow.endpoint)),
                Status::Dead => {}
            }
        }
        best
    }

    /// A packet came from outside to `external`, and arrived or did not.
    pub fn received(&mut self, flow: &Flow, external: External, arrived: bool, now: Instant) {
        self.now = now;
        let (_, Some(endpoint)) = self.owner(flow, external) else {
            return;
        };
        let flow = Flow { endpoint, ..*flow };
        if let Some(known) = self.flows.get_mut(&flow) {
            if arrived {
                known.seen = now;
                known.was_forbidden = false;
            } else {
                known.ended = true;
            }
        }
    }

    /// A guest's packet left as `external`, or did not leave.
    pub fn sent(
        &mut self,
        flow: Flow,
        external: Option<External>,
        refused: Option<Refused>,
        now: Instant,
    ) -> Result<(), String> {
        self.now = now;
        let before = self.flows.get(&flow).copied();
        let status = before.map_or(Status::Dead, |known| self.status(&flow, &known));
        let Some(external) = external else {
            if status == Status::Live {
                return Err("a live flow's packet was dropped".into());
            }
            if let Some(known) = self.flows.get_mut(&flow) {
                known.ended = true;
            }
            return match (self.variant.pool(flow.endpoint), refused) {
                (None, None) => Ok(()),
                (Some(pool), Some(refused)) => self.is_full(&flow, pool, refused),
                (pool, _) => Err(format!("dropped, refused: {refused:?}, though {pool:?}")),
            };
        };
        if !self.variant.allows(flow.endpoint, external) {
            return Err(format!("left as {external:?} under {:?}", self.variant));
        }
        if status == Status::Live && before.is_some_and(|known| known.external != external) {
            return Err(format!("a live flow changed to {external:?}"));
        }
        for (other, known) in self.flows.clone() {
            if other.protocol != flow.protocol || other == flow {
                continue;
            }
            let (live, same) = (
                self.status(&other, &known) == Status::Live,
                other.endpoint == flow.endpoint,
            );
            if known.external == external && !same {
                if live {
                    return Err(format!("{external:?} is {other:?}'s"));
                }
                self.flows.remove(&other);
            }
            // Two mappings are in use where a reload forbade one for a while.
            let shared = self.endpoint_has(&flow, external);
            if status == Status::Dead && same && live && known.external != external && !shared {
                return Err(format!(
                    "T01: {external:?}, and {:?} to another host",
                    known.external
                ));
            }
        }
        let known = Known {
            external,
            seen: now,
            was_forbidden: false,
            ended: false,
        };
        self.flows.insert(flow, known);
        Ok(())
    }

    fn endpoint_has(&self, flow: &Flow, external: External) -> bool {
        self.flows.iter().any(|(other, known)| {
            (other.protocol, other.endpoint) == (flow.protocol, flow.endpoint)
                && known.external == external
                && self.status(other, known) != Status::Dead
        })
    }

    fn status(&self, flow: &Flow, known: &Known) -> Status {
        let idle = self.now.since(known.seen);
        let (least, most) = flow.protocol.idle();
        if known.ended || idle > most + TICK || !self.variant.allows(flow.endpoint, known.external)
        {
            Status::Dead
        } else if known.was_forbidden || idle + TICK > least {
            Status::Doubtful
        } else {
            Status::Live
        }
    }

    /// Whether so many ports of `pool` may be held that a new flow had to be refused.
    fn is_full(
        &self,
        flow: &Flow,
        (address, first, last): (Ipv4Addr, u16, u16),
        refused: Refused,
    ) -> Result<(), String> {
        let may_hold = |(other, known): &(&Flow, &Known)| {
            let idle = self.now.since(known.seen);
            other.protocol == flow.protocol
                && known.external.address == address
                && !known.ended
                && idle < other.protocol.idle().1 + ROUND
        };
        // Ports of a range that a reload narrowed count as well.
        let holders = || self.flows.iter().filter(may_hold);
        let ports = |(_, known): (&Flow, &Known)| known.external.port;
        let held: BTreeSet<u16> = holders().map(ports).collect();
        let in_range = held.iter().filter(|port| (first..=last).contains(*port));
        let same = |(other, _): &(&Flow, &Known)| other.endpoint.port() == flow.endpoint.port();
        let own: BTreeSet<u16> = holders().filter(same).map(ports).collect();
        let all = usize::from(last - first) + 1;
        let enough = match refused {
            Refused::Exhausted => in_range.count() == all,
            Refused::Limited => own.len() + held.len() >= all,
        };
        if enough {
            Ok(())
        } else {
            let (held, own) = (held.len(), own.len());
            Err(format!(
                "{refused:?} with {held} of {all} ports held, {own} of them its own"
            ))
        }
    }
}

impl Protocol {
    /// How long a session certainly lives without traffic, and at most.
    fn idle(self) -> (Duration, Duration) {
        let (least, most) = match self {
            Self::Udp => (300, 300),
            Self::Tcp => (240, 7_440),
            Self::Echo => (60, 60),
        };
        (Duration::from_secs(least), Duration::from_secs(most))
    }
}

impl Endpoint {
    pub fn address(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 0, 1 + self.host / 2, 1 + self.host % 2)
    }

    /// The port it is behind.
    pub fn port(self) -> String {
        if self.host < 2 {
            "guest-a".into()
        } else {
            "guest-b".into()
        }
    }
}

impl Flow {
    /// 3 protocols, 4 hosts with 8 ports each, 2 remote hosts with 2 ports each.
    pub fn all() -> impl Iterator<Item = Self> {
        let protocols = [Protocol::Udp, Protocol::Tcp, Protocol::Echo];
        (0..4 * 8 * 4 * 3).map(move |n: u16| {
            let protocol = protocols[usize::from(n / 128)];
            let remote_port = match protocol {
                Protocol::Echo => 0, // it has none
                _ => 53 + n / 64 % 2,
            };
            let host = (n % 4) as u8;
            Self {
                protocol,
                endpoint: Endpoint {
                    host,
                    port_number: 3_004 + n / 4 % 8,
                },
                remote: Ipv4Addr::new(198, 51, 100, 9 + (n / 32 % 2) as u8),
                remote_port,
            }
        })
    }
}

impl Variant {
    pub fn any() -> impl Strategy<Value = Self> {
        proptest::sample::select(vec![Self::Whole, Self::Half, Self::Moved, Self::OnlyA])
    }

    /// The address and ports a guest's packets may wear; none: they may not leave.
    fn pool(self, endpoint: Endpoint) -> Option<(Ipv4Addr, u16, u16)> {
        match self {
            Self::Whole => Some((Model::ADDRESSES[0], 3_000, 3_015)),
            Self::Half => Some((Model::ADDRESSES[0], 3_000, 3_007)),
            Self::Moved => Some((Model::ADDRESSES[1], 3_000, 3_015)),
            Self::OnlyA if endpoint.host < 2 => Some((Model::ADDRESSES[0], 3_000, 3_015)),
            Self::OnlyA => None,
        }
    }

    fn allows(self, endpoint: Endpoint, external: External) -> bool {
        self.pool(endpoint).is_some_and(|(address, first, last)| {
            external.address == address && (first..=last).contains(&external.port)
        })
    }

    pub fn toml(self) -> String {
        let (to, ports) = match self {
            Self::Whole | Self::OnlyA => ("203.0.113.10", "3000-3015"),
            Self::Half => ("203.0.113.10", "3000-3007"),
            Self::Moved => ("203.0.113.11", "3000-3015"),
        };
        let networks = if self == Self::OnlyA { "1" } else { "12" };
        let snat: Vec<String> = networks
            .chars()
            .map(|n| format!("{{ from = \"10.0.{n}.0/24\", to = \"{to}\", ports = \"{ports}\" }}"))
            .collect();
        format!(
            r#"
[router]
sessions = 1024
icmp_errors_per_second = 1000000
[ports]
uplink = {{ memory = true }}
guest-a = {{ memory = true }}
guest-b = {{ memory = true }}
[personalities.A]
port = "uplink"
mac = "02:00:00:00:00:aa"
addresses = ["203.0.113.10/24", "203.0.113.11/24"]
gateway = "203.0.113.1"
[networks]
a = {{ ports = ["guest-a"], addresses = ["10.0.1.254/24"], mac = "02:00:00:00:00:01" }}
b = {{ ports = ["guest-b"], addresses = ["10.0.2.254/24"], mac = "02:00:00:00:00:02" }}
[tables]
out = [{{ to = "default", dev = "A" }}]
[routing]
rules = [{{ priority = 40000, lookup = "out" }}]
[nat]
snat = [{}]
"#,
            snat.join(", ")
        )
    }
}
