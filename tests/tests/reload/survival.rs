//! A session survives a reload exactly when its first packet would be admitted, with the same
//! rewrite, by a router that was started with the new configuration (P04): whatever the two
//! configurations, whichever end speaks first afterwards, and however late.

mod world;

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;
use tapgate_engine::addr::MacAddr;
use tapgate_engine::config::Config;
use tapgate_engine::drops::DropReason;
use tapgate_engine::frame::Verdict;
use tapgate_tests::flow::{ECHO, Flow};
use tapgate_tests::recipe::PROVIDER;
use tapgate_tests::router::Router;

use world::{FORWARDS, HOSTS, Place, REMOTE, World, address, mac, world};

/// Who opens a session to whom.
#[derive(Debug, Clone, Copy)]
enum Ends {
    Out(usize),
    Between(usize, usize),
    /// From outside to a redirected port.
    Forwarded(usize),
    /// From outside to a guest's public address.
    Public(usize),
}

#[derive(Debug, Clone, Copy)]
struct Opening {
    ends: Ends,
    v6: bool,
    protocol: u8,
    port: u16,
    /// After the reload the other end speaks first.
    other_first: bool,
}

fn opening() -> BoxedStrategy<Opening> {
    let ends = prop_oneof![
        4 => (0..HOSTS).prop_map(Ends::Out),
        2 => (0..HOSTS, 0..HOSTS).prop_map(|(from, to)| Ends::Between(from, to)),
        2 => (0..FORWARDS.len()).prop_map(Ends::Forwarded),
        2 => (0..HOSTS).prop_map(Ends::Public),
    ];
    let protocol = prop_oneof![Just(17), Just(6), Just(ECHO)];
    let fields = (
        ends,
        any::<bool>(),
        protocol,
        4_000..4_008_u16,
        any::<bool>(),
    );
    fields
        .prop_map(|(ends, v6, protocol, port, other_first)| Opening {
            ends,
            v6,
            protocol,
            port,
            other_first,
        })
        .boxed()
}

/// Few parts change at once, else nothing survives.
fn changes() -> impl Strategy<Value = u32> {
    vec(0..18_u32, 0..6).prop_map(|parts| parts.iter().fold(0, |bits, part| bits | 1 << part))
}

/// The configuration after `before`, if both can be applied at all.
fn valid(before: &World, other: &World, which: u32) -> Result<World, TestCaseError> {
    let after = before.with(other, which);
    let is_valid = |world: &World| toml::from_str::<Config>(&world.toml()).is_ok();
    prop_assume!(is_valid(before) && is_valid(&after));
    Ok(after)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(250))]

    #[test]
    fn p04_a_session_survives_exactly_if_its_first_packet_would_be_admitted(
        (before, other) in (world(), world()),
        which in changes(),
        openings in vec(opening(), 1..9),
        late in any::<bool>(),
    ) {
        let after = valid(&before, &other, which)?;
        survive(&before, &after, &openings, (late, false)).map_err(TestCaseError::fail)?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// The same, with every frame explained beforehand, which must change nothing, tell the verdict,
    /// and show the frame that leaves.
    #[test]
    fn explain_says_what_becomes_of_first_packets_and_sessions_under_any_configuration(
        (before, other) in (world(), world()),
        which in changes(),
        openings in vec(opening(), 1..9),
        late in any::<bool>(),
    ) {
        let after = valid(&before, &other, which)?;
        survive(&before, &after, &openings, (late, true)).map_err(TestCaseError::fail)?;
    }
}

/// An open session.
#[derive(Debug, Clone, Copy)]
struct Session {
    opening: Opening,
    /// Its first packet as it came in, and as it left.
    inside: Flow,
    outside: Flow,
    /// The guest ports that its ends were behind.
    ports: (usize, usize),
    /// The personality that it came by from outside.
    personality: Option<&'static str>,
    /// Which personality leads to its other end.
    beyond: bool,
}

fn survive(
    before: &World,
    after: &World,
    openings: &[Opening],
    (late, explains): (bool, bool),
) -> Result<(), String> {
    let mut router = start(before);
    if explains {
        router.explain_everything();
    }
    let mut sessions: Vec<Session> = Vec::new();
    for opening in openings {
        let Some(inside) = opening.first(before) else {
            continue;
        };
        if sessions
            .iter()
            .any(|other| [other.inside, other.inside.reversed()].contains(&inside))
        {
            continue;
        }
        let ports = opening.ports(before, None);
        let Some(place) = opening.place(before, ports.0) else {
            continue;
        };
        let seen = send(&mut router, &place, inside, opening.mac(), true);
        let Some(outside) = seen.flow.filter(|_| seen.created == 1) else {
            continue;
        };
        let worn = outside.source.ip().to_string();
        sessions.push(Session {
            opening: *opening,
            inside,
            outside,
            ports,
            personality: opening.comes_by(before).and_then(|second| before.personality(second)),
            beyond: worn == "198.51.100.10"
                || matches!(opening.ends, Ends::Out(host) if opening.v6 && before.public_on(host) == Some(true)),
        });
    }
    let expected: Vec<Expected> = {
        let mut fresh = start(after);
        // Who is behind another port now may not be heard there.
        live(&mut fresh, (before, after));
        sessions
            .iter()
            .map(|session| session.expected(after, &mut fresh))
            .collect()
    };
    live(&mut router, (before, after));
    router.reload(&after.toml());
    router.wait(if late { 10_000 } else { 1 });
    for (session, expected) in sessions.iter().zip(expected) {
        session
            .check(after, &mut router, expected)
            .map_err(|fault| {
                format!(
                    "{fault}\nexpected {expected:?}, of {session:#?}\nunder\n{}\nafter\n{}",
                    after.toml(),
                    before.toml()
                )
            })?;
    }
    Ok(())
}

fn start(world: &World) -> Router {
    let mut router = Router::new(&world.toml());
    router.answer_everything();
    live(&mut router, (world, world));
    router.wait(3_000);
    router.take_all();
    router
}

/// Every host answers on its port alone: where the new world has it, or else the old one had it. If that
/// is not in its network, it may be anywhere.
fn live(router: &mut Router, (before, after): (&World, &World)) {
    for (host, v6) in (0..HOSTS).flat_map(|host| [(host, false), (host, true)]) {
        let port = after.port_of(host, v6, before.port_of(host, v6, host));
        match after.is_at_home(host, v6, port) {
            true => router.lives_on(address(host, v6), &format!("g{port}")),
            false => router.lives_anywhere(address(host, v6)),
        }
    }
}

type Counts = BTreeMap<String, u64>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    Lives,
    Ends,
    /// Its frame is refused before anybody looks at its addresses, or it waits for somebody.
    Unknown,
}

/// What became of a packet.
#[derive(Debug)]
struct Seen {
    verdict: Verdict,
    flow: Option<Flow>,
    revoked: u64,
    created: u64,
}

fn send(router: &mut Router, place: &Place, flow: Flow, from: MacAddr, first: bool) -> Seen {
    router.take_all();
    let before = router.counts();
    let verdict = router.inject(&place.0, flow.frame(from, place.1, first));
    let at_once = router.counts();
    let mut flow = router.sent().iter().find_map(|(_, bytes)| Flow::of(bytes));
    if flow.is_none() && verdict == Verdict::Hold {
        // An address that is new is claimed before anybody is asked from it.
        router.wait(2_000);
        flow = router.sent().iter().find_map(|(_, bytes)| Flow::of(bytes));
    }
    let after = router.counts();
    let count = |counts: &Counts, name| counts.get(name).copied().unwrap_or(0);
    let more = |now, name| count(now, name) - count(&before, name);
    // Whoever is swept meanwhile is another.
    let revoked = more(&at_once, "sessions_revoked");
    let created = more(&after, "sessions_created");
    Seen {
        verdict,
        flow,
        revoked,
        created,
    }
}

/// The frame was refused for what is not IP's business.
fn never_looked_at(verdict: Verdict) -> bool {
    use DropReason::{SpoofedMac, UnknownMac};
    matches!(verdict, Verdict::Drop(SpoofedMac | UnknownMac))
}

impl Opening {
    /// The opener's first packet.
    fn first(&self, world: &World) -> Option<Flow> {
        let remote = REMOTE[usize::from(self.v6)].parse().unwrap();
        let (source, destination, protocol, port) = match self.ends {
            Ends::Out(host) => (address(host, self.v6), remote, self.protocol, 53),
            Ends::Between(from, to) if from != to => (
                address(from, self.v6),
                address(to, self.v6),
                self.protocol,
                53,
            ),
            Ends::Between(..) => return None,
            Ends::Forwarded(which) => {
                let (to, protocol, port) = FORWARDS[which];
                let to: std::net::IpAddr = to.parse().unwrap();
                let remote = REMOTE[usize::from(to.is_ipv6())].parse().unwrap();
                (remote, to, protocol, port)
            }
            Ends::Public(host) => {
                world.public_on(host)?;
                (
                    REMOTE[1].parse().unwrap(),
                    address(host, true),
                    self.protocol,
                    53,
                )
            }
        };
        Some(Flow {
            protocol,
            source: (source, self.port).into(),
            destination: (destination, if protocol == ECHO { 0 } else { port }).into(),
        })
    }

    /// The guest ports that opener and other end are behind, where they are guests.
    fn ports(&self, world: &World, before: Option<(usize, usize)>) -> (usize, usize) {
        let port = |host: usize, v6, before: Option<usize>| {
            world.port_of(host, v6, before.unwrap_or(host))
        };
        let (first, second) = (before.map(|ports| ports.0), before.map(|ports| ports.1));
        match self.ends {
            Ends::Out(host) => (port(host, self.v6, first), 0),
            Ends::Between(from, to) => (port(from, self.v6, first), port(to, self.v6, second)),
            Ends::Public(host) => (0, port(host, true, second)),
            Ends::Forwarded(_) => (0, 0),
        }
    }

    /// The personality that it comes by, if it comes from outside.
    fn comes_by(&self, world: &World) -> Option<bool> {
        match self.ends {
            Ends::Forwarded(_) => Some(false),
            Ends::Public(host) => world.public_on(host),
            Ends::Out(_) | Ends::Between(..) => None,
        }
    }

    fn place(&self, world: &World, port: usize) -> Option<Place> {
        match self.comes_by(world) {
            Some(second) => world.outside(second),
            None => world.inside(port),
        }
    }

    fn mac(&self) -> MacAddr {
        match self.ends {
            Ends::Out(host) | Ends::Between(host, _) => mac(host),
            Ends::Forwarded(_) | Ends::Public(_) => PROVIDER,
        }
    }
}

impl Session {
    /// Where the opener's packets come in under `world`.
    fn place(&self, world: &World) -> Option<Place> {
        match self.personality {
            Some(name) => {
                let second = [false, true]
                    .into_iter()
                    .find(|second| world.personality(*second) == Some(name))?;
                world.outside(second)
            }
            None => world.inside(self.opening.ports(world, Some(self.ports)).0),
        }
    }

    /// Where the other end's packets come in, its MAC, and the first of them.
    fn other_end(&self, world: &World) -> Option<(Place, MacAddr)> {
        let host = match self.opening.ends {
            Ends::Out(_) => return Some((world.outside(self.beyond)?, PROVIDER)),
            Ends::Between(_, host) | Ends::Public(host) => host,
            Ends::Forwarded(_) => {
                let to = self.outside.destination.ip();
                (0..HOSTS).find(|host| address(*host, to.is_ipv6()) == to)?
            }
        };
        let v6 = self.inside.source.is_ipv6();
        let before = match self.opening.ends {
            Ends::Forwarded(_) => host,
            _ => self.ports.1,
        };
        Some((world.inside(world.port_of(host, v6, before))?, mac(host)))
    }

    /// What a router that knows nothing but the new configuration does with the first packet.
    fn expected(&self, world: &World, fresh: &mut Router) -> Expected {
        let Some(place) = self.place(world) else {
            return Expected::Ends;
        };
        let seen = send(fresh, &place, self.inside, self.opening.mac(), true);
        if never_looked_at(seen.verdict) || seen.verdict == Verdict::Hold && seen.flow.is_none() {
            return Expected::Unknown;
        }
        let Some(left) = seen.flow.filter(|_| seen.created == 1) else {
            return Expected::Ends;
        };
        let translated = |flow: Flow| flow.source != self.inside.source;
        let source = match translated(left) || translated(self.outside) {
            false => true,
            true => {
                let range = world.range(self.inside.source.ip(), self.outside.source.ip());
                left.source.ip() == self.outside.source.ip()
                    && range.is_some_and(|(first, last)| {
                        (first..=last).contains(&self.outside.source.port())
                    })
            }
        };
        match source && left.destination == self.outside.destination {
            true => Expected::Lives,
            false => Expected::Ends,
        }
    }

    fn check(&self, world: &World, router: &mut Router, expected: Expected) -> Result<(), String> {
        if expected == Expected::Unknown {
            return Ok(());
        }
        let lives = expected == Expected::Lives;
        let mut looked_at = false;
        if self.opening.other_first
            && let Some((place, mac)) = self.other_end(world)
        {
            let seen = send(router, &place, self.outside.reversed(), mac, false);
            looked_at = !never_looked_at(seen.verdict);
            if looked_at {
                let back = seen.flow == Some(self.inside.reversed());
                let ended = seen.revoked == 1 || !self.is_there(router);
                check(ended != lives, format!("the other end speaks: {seen:?}"))?;
                check(
                    seen.flow.is_none() || back || !lives,
                    format!("it arrives otherwise: {seen:?}"),
                )?;
                check(
                    !back || lives || self.inside == self.outside,
                    format!("it arrives: {seen:?}"),
                )?;
            }
        }
        let Some(place) = self.place(world) else {
            return Ok(());
        };
        let seen = send(router, &place, self.inside, self.opening.mac(), false);
        if lives {
            check(
                seen.revoked == 0 && seen.created == 0,
                format!("it ended: {seen:?}"),
            )?;
            check(
                seen.flow == Some(self.outside),
                format!("it leaves otherwise: {seen:?}"),
            )
        } else if !looked_at && !never_looked_at(seen.verdict) {
            let ended = seen.revoked == 1 || seen.created == 1 || !self.is_there(router);
            check(ended, format!("it lives on: {seen:?}"))
        } else {
            Ok(())
        }
    }

    fn is_there(&self, router: &Router) -> bool {
        router.sessions().iter().any(|session| {
            let of = (session.source, session.destination);
            let ends = |end: std::net::SocketAddr| (end.ip(), end.port());
            of == (ends(self.inside.source), ends(self.inside.destination))
        })
    }
}

fn check(holds: bool, otherwise: String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(otherwise) }
}
