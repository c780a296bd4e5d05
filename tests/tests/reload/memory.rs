//! What an earlier dataplane left of its sessions is not believed (H14).
//!
//! Real sessions of every kind are left in memory, and some of their bytes are changed. Under the same
//! configuration the next router refuses such a session or keeps it, and either does no harm: the
//! others live on, no external port is held by two or by nobody, and every frame that leaves is one
//! that may (the harness looks at each, and keeps the books).

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use proptest::prelude::RngExt;
use proptest::test_runner::{RngAlgorithm, TestRng};
use tapgate_engine::addr::MacAddr;
use tapgate_engine::base::ip::Address;
use tapgate_engine::config::Config;
use tapgate_engine::run::SessionView;
use tapgate_engine::session::SessionRecord;
use tapgate_tests::flow::{ECHO, Flow, UDP};
use tapgate_tests::memory::{Memory, Records};
use tapgate_tests::packet::{tagged, untag};
use tapgate_tests::router::{Router, config};

/// IPv4 leaves by a shared address with a port range in a VLAN, IPv6 by another personality.
const OWNERS: &str = include_str!("../../fuzz/configs/owners.toml");
const TCP: u8 = 6;
/// More than any test needs: nobody has to make room.
const CAPACITY: usize = 64;

/// Sessions of every kind: port, protocol, from, to, how far they have come. Their own ports differ
/// by more than a bit, so that no change of one bit makes two the same.
const OPENED4: &str = "
    web    udp  10.0.1.1:4000       198.18.0.99:53    answered
    web    udp  10.0.1.1:4100       198.18.0.99:53    unanswered
    web    tcp  10.0.1.1:4200       198.18.0.99:80    answered
    web    tcp  10.0.1.1:4300       198.18.0.99:80    unanswered
    web    tcp  10.0.1.1:4400       198.18.0.99:80    reset
    web    echo 10.0.1.1:4500       198.18.0.99:0     answered
    mail   udp  10.0.2.5:4600       198.18.0.99:53    answered
    web    udp  10.0.1.1:4700       10.0.2.5:53       answered
    host   tcp  198.18.0.77:4800    203.0.113.7:2222  answered
    host   udp  198.18.0.77:4900    203.0.113.7:5353  answered
    uplink udp  198.51.100.77:5000  198.51.100.20:53  answered
";
const OPENED6: &str = "
    mail   udp  [2001:db8:b::5]:4000   [2001:db8:ee::9]:53  answered
    mail   tcp  [2001:db8:b::5]:4200   [2001:db8:ee::9]:80  answered
    mail   tcp  [2001:db8:b::5]:4400   [2001:db8:ee::9]:80  reset
    mail   echo [2001:db8:b::5]:4500   [2001:db8:ee::9]:0   answered
    web    udp  [2001:db8:9::20]:4600  [2001:db8:ee::9]:53  answered
    uplink tcp  [2001:db8:ee::9]:4700  [2001:db8:9::20]:80  unanswered
";

/// Where a frame comes in: port, VLAN, from and to which MAC.
#[derive(Clone, Copy)]
struct Place(&'static str, Option<u16>, MacAddr, MacAddr);

const WEB: MacAddr = MacAddr([0x52, 0x54, 0, 0, 0, 1]);
const OTHER: MacAddr = MacAddr([2, 0, 0, 0, 0x66, 1]);
const LAN: MacAddr = MacAddr([2, 0, 0, 0, 1, 0xfe]);
const FAR: MacAddr = MacAddr([2, 0, 0, 0, 2, 0xfe]);
/// By name; `host` is the uplink's VLAN.
const PLACES: [(&str, Place); 6] = [
    ("web", Place("web", None, WEB, LAN)),
    ("db", Place("db", None, OTHER, LAN)),
    ("mail", Place("mail", None, OTHER, FAR)),
    ("spare", Place("spare", None, OTHER, FAR)),
    (
        "uplink",
        Place("uplink", None, OTHER, MacAddr([2, 0, 0, 0, 0, 0xaa])),
    ),
    (
        "host",
        Place("uplink", Some(7), OTHER, MacAddr([2, 0, 0, 0, 0, 1])),
    ),
];

/// Memory with all sessions of a list in it.
fn left(config: &Config, list: &str) -> Memory {
    let mut memory = Memory::free(CAPACITY);
    memory.start(config, |router| {
        // Nobody answers before that: it would be an objection to our addresses.
        router.wait(10_000);
        router.answer_everything();
        let lines = list.lines().filter(|line| !line.trim().is_empty());
        let opened = lines.map(|line| open(router, line)).count();
        assert_eq!(router.sessions().len(), opened);
    });
    memory
}

/// Opens a session that a line of a list describes.
fn open(router: &mut Router, line: &str) {
    let [place, protocol, from, to, stage] = line.split_whitespace().collect::<Vec<_>>()[..] else {
        panic!("five words: {line}");
    };
    let (_, place) = PLACES.into_iter().find(|(name, _)| *name == place).unwrap();
    let flow = Flow {
        protocol: match protocol {
            "udp" => UDP,
            "tcp" => TCP,
            _ => ECHO,
        },
        source: from.parse().unwrap(),
        destination: to.parse().unwrap(),
    };
    let Place(port, vlan, own, gateway) = place;
    router.lives_on(flow.source.ip(), port);
    router.take_all();
    router.inject(port, tagged(&flow.frame(own, gateway, true), vlan));
    let sent = router.sent().into_iter();
    let mut leaving = sent.filter_map(|(port, bytes)| {
        let (bytes, vlan) = untag(&bytes);
        Some((Flow::of(&bytes)?, port, vlan, bytes))
    });
    let (outside, far, far_vlan, bytes) = leaving.next().expect(line);
    if stage != "unanswered" {
        let [to, from] = [0, 6].map(|at| MacAddr::from_slice(&bytes[at..]));
        let answer = outside.reversed().frame(to, from, false);
        router.inject(&far, tagged(&answer, far_vlan));
        inject(router, place, flow);
    }
    if stage == "reset" {
        router.inject(port, tagged(&flow.reset(own, gateway), vlan));
    }
}

/// A packet in the midst of a flow; there are none of protocols without ports.
fn inject(router: &mut Router, Place(port, vlan, own, gateway): Place, flow: Flow) {
    if [UDP, TCP, ECHO].contains(&flow.protocol) {
        router.inject(port, tagged(&flow.frame(own, gateway, false), vlan));
    }
}

/// A session, as its record says.
#[derive(Debug, Clone, Copy)]
struct Left {
    inside: Flow,
    outside: Flow,
}

impl Left {
    /// `None`: the record is free.
    fn of<A: Address>(record: &SessionRecord<A>) -> Option<Self> {
        let flow = |flow: tapgate_engine::wire::flow::Flow<A>| Flow {
            protocol: match flow.protocol {
                1 | 58 => ECHO,
                other => other,
            },
            source: SocketAddr::new(flow.source.into(), flow.source_port),
            destination: SocketAddr::new(flow.destination.into(), flow.destination_port),
        };
        record.is_live().then(|| Self {
            inside: flow(record.inside()),
            outside: flow(record.outside()),
        })
    }

    /// Another guest's flow, which has the same external port if nobody else has it.
    fn rival(&self) -> Flow {
        let mut rival = self.inside;
        match &mut rival.source {
            SocketAddr::V4(source) => source.set_ip(Ipv4Addr::new(10, 0, 2, 6)),
            SocketAddr::V6(source) => source.set_ip("2001:db8:b::6".parse().unwrap()),
        }
        rival
    }
}

/// All sessions in the memory.
fn all(memory: &Memory) -> Vec<Left> {
    fn of<A: Address>(records: &Records<A>) -> impl Iterator<Item = Left> {
        (0..records.capacity()).filter_map(|number| Left::of(records.record(number)))
    }
    of(&memory.v4).chain(of(&memory.v6)).collect()
}

fn live<A: Address>(records: &Records<A>) -> Vec<usize> {
    let all = 0..records.capacity();
    all.filter(|number| records.record(*number).is_live())
        .collect()
}

/// What a byte is changed to: each bit the other way, all off, all on.
const CHANGES: [fn(u8) -> u8; 10] = [
    |byte| byte ^ 0x01,
    |byte| byte ^ 0x02,
    |byte| byte ^ 0x04,
    |byte| byte ^ 0x08,
    |byte| byte ^ 0x10,
    |byte| byte ^ 0x20,
    |byte| byte ^ 0x40,
    |byte| byte ^ 0x80,
    |_| 0x00,
    |_| 0xff,
];

/// Says which case it was when a check fails, wherever that is.
struct Case(String);

impl Drop for Case {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.0);
        }
    }
}

/// What became of changed sessions.
#[derive(Debug, Default)]
struct Outcomes {
    kept: usize,
    refused: usize,
}

/// Every change of every byte of every session of a family. The same byte of every third session at
/// once, which know nothing of each other: a router takes its time to start.
fn every_change<A: Address>(list: &str, records: fn(&mut Memory) -> &mut Records<A>) -> Outcomes {
    let config = config(OWNERS);
    let mut left = left(&config, list);
    let live = live(records(&mut left));
    let places = (0..Records::<A>::SIZE).flat_map(|at| CHANGES.map(|change| (at, change)));
    let mut outcomes = Outcomes::default();
    for (third, (at, change)) in (0..3).flat_map(|third| places.clone().map(move |at| (third, at)))
    {
        let mut memory = left.clone();
        let places = live.iter().filter(|number| *number % 3 == third);
        let own = places.filter(|number| change_byte(records(&mut memory), **number, at, change));
        let own: Vec<usize> = own.copied().collect();
        if own.is_empty() {
            continue;
        }
        let (mut changed, mut others) = (Vec::new(), Vec::new());
        for number in &live {
            let session = Left::of(records(&mut memory).record(*number));
            match own.contains(number) {
                true => changed.extend(session),
                false => others.extend(session),
            }
        }
        let _case = Case(format!("byte {at} is another: {changed:#?}"));
        let kept = memory.start(&config, |router| harmless(router, &changed, &others));
        outcomes.kept += kept;
        outcomes.refused += own.len() - kept;
    }
    outcomes
}

/// Whether that makes a difference: a byte that belongs to no field stays as it is.
fn change_byte<A: Address>(
    records: &mut Records<A>,
    number: usize,
    at: usize,
    change: impl Fn(u8) -> u8,
) -> bool {
    let mut bytes = records.read(number);
    let byte = bytes[at];
    bytes[at] = change(byte);
    records.write(number, &bytes);
    records.read(number)[at] != byte
}

/// Nothing that `router` does because of changed sessions does harm. Returns how many of these it has
/// kept; all `others` live on.
fn harmless(router: &mut Router, changed: &[Left], others: &[Left]) -> usize {
    let kept = count(router, "sessions_recovered");
    let refused = count(router, "sessions_refused");
    assert_eq!(kept + refused, changed.len() + others.len());
    assert!(kept >= others.len(), "another session was refused");
    for session in router.sessions() {
        assert!(is_ours(&session), "{session:?}");
    }
    router.answer_everything();
    for session in changed.iter().chain(others.first()) {
        for flow in [session.inside, session.outside.reversed(), session.rival()] {
            for (_, place) in PLACES {
                inject(router, place, flow);
            }
        }
    }
    no_port_is_held_by_two(router);
    // Until everybody who was asked for has answered, or is given up.
    router.wait(10_000);
    let there = router.sessions();
    for other in others {
        let source = (other.inside.source.ip(), other.inside.source.port());
        let mut there = there.iter();
        assert!(
            there.any(|session| session.source == source),
            "{other:?} is gone"
        );
    }
    everything_ends(router);
    kept - others.len()
}

/// Whether a session's source is translated to what the configuration gives out, if it is.
fn is_ours(session: &SessionView) -> bool {
    session
        .translated
        .is_none_or(|(address, port)| match address {
            IpAddr::V4(address) => address == Ipv4Addr::new(203, 0, 113, 7) && port / 1_000 == 61,
            IpAddr::V6(address) => {
                address == Ipv6Addr::new(0x2001, 0xdb8, 9, 0, 0, 0, 0, 0x10) && port != 0
            }
        })
}

fn no_port_is_held_by_two(router: &Router) {
    let mut holders = BTreeMap::new();
    for session in router.sessions() {
        if let Some(port) = session.translated {
            let port = (session.protocol, port);
            let holder = *holders.entry(port).or_insert(session.source);
            assert_eq!(holder, session.source, "both hold {port:?}");
        }
    }
}

/// Everything ends once it has been idle for too long, and no port is held any more.
fn everything_ends(router: &mut Router) {
    router.now = router.now + Duration::from_secs(8_000);
    router.wait(5_000);
    assert_eq!(count(router, "sessions"), 0);
    assert_eq!(count(router, "nat_ports_held"), 0, "a port is lost");
}

fn count(router: &mut Router, name: &str) -> usize {
    let counts = router.counts();
    counts.get(name).map_or(0, |count| *count as usize)
}

/// What makes no sense, the line of [`OPENED4`] that is changed, and the bytes of its record.
type Senseless = (&'static str, usize, &'static [(usize, u8)]);

/// Each check of a record's fields refuses one that no other does.
const SENSELESS: [Senseless; 13] = [
    ("no such stage", 0, &[(1, 4)]),
    ("UDP that is closing", 0, &[(1, 3)]),
    ("something unknown was seen of TCP", 2, &[(2, 16)]),
    ("UDP of which TCP's was seen", 0, &[(2, 1)]),
    ("translated, and says that it is not", 0, &[(3, 0)]),
    ("translated by a port that it does not hold", 0, &[(3, 1)]),
    ("holds a port that is its own", 7, &[(3, 5)]),
    ("seen in the future", 0, &[(11, 0x80)]),
    ("echo to a port", 5, &[(34, 1), (36, 1)]),
    ("ports of a protocol without", 0, &[(0, 47)]),
    ("from a group", 0, &[(48, 224)]),
    ("an external address that is not given out", 0, &[(60, 9)]),
    ("an external port that is not given out", 0, &[(39, 9)]),
];

#[test]
fn h14_a_field_that_makes_no_sense_is_refused() {
    let config = config(OWNERS);
    let left = left(&config, OPENED4);
    let opened = live(&left.v4).len();
    for (what, number, changes) in SENSELESS {
        let mut memory = left.clone();
        for (at, value) in changes {
            change_byte(&mut memory.v4, number, *at, |_| *value);
        }
        memory.start(&config, |router| {
            assert_eq!(count(router, "sessions_refused"), 1, "{what}");
            assert_eq!(count(router, "sessions_recovered"), opened - 1, "{what}");
        });
    }
}

#[test]
fn h14_no_changed_byte_of_an_ipv4_session_does_harm() {
    let outcomes = every_change(OPENED4, |memory| &mut memory.v4);
    assert!(
        outcomes.kept > 1_000 && outcomes.refused > 1_000,
        "{outcomes:?}"
    );
}

#[test]
fn h14_no_changed_byte_of_an_ipv6_session_does_harm() {
    let outcomes = every_change(OPENED6, |memory| &mut memory.v6);
    assert!(
        outcomes.kept > 1_000 && outcomes.refused > 1_000,
        "{outcomes:?}"
    );
}

/// Among others, sessions that hold the same port.
#[test]
fn h14_sessions_with_pieces_of_others_do_no_harm() {
    let config = config(OWNERS);
    let left = left(&config, &(OPENED4.to_owned() + OPENED6));
    let mut random = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    for round in 0..500 {
        let mut memory = left.clone();
        mix(&mut memory.v4, &mut random);
        mix(&mut memory.v6, &mut random);
        let changed = all(&memory);
        let _case = Case(format!("round {round}: {changed:#?}"));
        memory.start(&config, |router| harmless(router, &changed, &[]));
    }
}

/// Copies some pieces of sessions, of 1 to 32 bytes, to where they are in others.
fn mix<A: Address>(records: &mut Records<A>, random: &mut TestRng) {
    let live = live(records);
    for _ in 0..random.random_range(1..8) {
        let [from, to] = [0; 2].map(|_| live[random.random_range(0..live.len())]);
        let (source, mut bytes) = (records.read(from), records.read(to));
        let start = random.random_range(0..bytes.len());
        let end = bytes.len().min(start + (1 << random.random_range(0..6)));
        bytes[start..end].copy_from_slice(&source[start..end]);
        records.write(to, &bytes);
    }
}

#[test]
fn h14_noise_is_refused_and_does_no_harm() {
    let config = config(OWNERS);
    for seed in 1..200 {
        let mut memory = Memory::free(CAPACITY);
        memory.fill(seed);
        let changed = all(&memory);
        let _case = Case(format!("seed {seed}"));
        memory.start(&config, |router| harmless(router, &changed, &[]));
    }
}
