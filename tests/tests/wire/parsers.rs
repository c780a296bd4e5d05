//! Four readers of the same random frames: the engine, etherparse, smoltcp and pnet. They agree, or
//! the difference is written down in `known`; what is written there must also happen.
//!
//! `TAPGATE_SEED` and `TAPGATE_FRAMES` choose other frames, and more of them.

mod engine;
mod frames;
mod known;
mod readers;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::panic::{self, AssertUnwindSafe, catch_unwind};

use tapgate_engine::addr::MacAddr;
use tapgate_tests::decode;
use tapgate_tests::router::SEED;

use engine::Engine;
use frames::{Random, frame};

/// Frames compared in one run.
const FRAMES: u64 = 200_000;

/// Somebody else who reads frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Who {
    Etherparse,
    Smoltcp,
    Pnet,
}

/// What a reader makes of a frame.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Reading {
    /// An IP packet.
    Ip(Ip),
    /// An ARP packet for Ethernet and IPv4.
    Arp(Arp),
    /// A frame of another EtherType.
    Other(u16),
    /// Malformed, says the reader.
    Refused,
    /// The reader does not read such frames, or panicked.
    NoOpinion,
}

/// What is read from an IP packet. Offsets are from the start of the frame.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Ip {
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
    pub(crate) protocol: u8,
    pub(crate) ttl: u8,
    pub(crate) dont_fragment: bool,
    pub(crate) fragment: bool,
    pub(crate) later_fragment: bool,
    /// Where the transport header begins.
    pub(crate) l4: usize,
    /// Where the packet ends: before link padding.
    pub(crate) end: usize,
    pub(crate) transport: Transport,
}

/// What is read from a transport header.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Transport {
    Tcp { ports: (u16, u16), flags: u8 },
    Udp { ports: (u16, u16) },
    EchoRequest(u16),
    EchoReply(u16),
    IcmpError,
    IcmpOther(u8),
    Fragment,
    Other,
}

/// What is read from an ARP packet; the engine tells the addresses only by its answer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Arp {
    pub(crate) operation: Option<u16>,
    pub(crate) sender: Option<(MacAddr, IpAddr)>,
    pub(crate) target: Option<IpAddr>,
}

/// What two readings can differ in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Field {
    /// One accepts what the other refuses.
    Accepted,
    Kind,
    Addresses,
    Protocol,
    Ttl,
    DontFragment,
    Fragment,
    LaterFragment,
    Transport,
    TransportHeader,
    End,
}

thread_local! {
    /// A panic is expected here, and not worth a line each.
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

#[test]
fn four_readers_agree_or_the_difference_is_known() {
    let seed = variable("TAPGATE_SEED").unwrap_or(SEED);
    let frames = variable("TAPGATE_FRAMES").unwrap_or(FRAMES);
    println!("seed {seed}, {frames} frames");
    let report = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if !QUIET.get() {
            report(info);
        }
    }));
    let mut random = Random::new(seed);
    let mut engine = Engine::new();
    let mut seen = BTreeMap::new();
    let (mut compared, mut accepted, mut silent) = (0_u64, 0_u64, BTreeMap::new());
    for number in 0..frames {
        let bytes = frame(&mut random);
        let ours = engine.read(&bytes);
        accepted += u64::from(!matches!(ours, Reading::Refused | Reading::NoOpinion));
        for (who, theirs) in read_by_others(&bytes) {
            if matches!(theirs, Reading::NoOpinion) || matches!(ours, Reading::NoOpinion) {
                *silent.entry(who).or_insert(0_u64) += 1;
                continue;
            }
            compared += 1;
            for field in differences(&ours, &theirs) {
                let case = known::Case::new(who, &bytes, &ours, &theirs);
                let Some(name) = known::name(&case, field) else {
                    panic!(
                        "{who:?} and the engine differ in {field:?}; TAPGATE_SEED={seed}, frame {number}:\n{}\n{}\nengine: {ours:?}\n{who:?}: {theirs:?}",
                        decode::hex(&bytes),
                        decode::line(&bytes),
                    );
                };
                *seen.entry((name, who)).or_insert(0_u64) += 1;
            }
        }
    }
    println!("{compared} comparisons; accepted by the engine {accepted}; no opinion: {silent:?}");
    for ((name, who), count) in &seen {
        println!("{name} ({who:?}): {count}");
    }
    let stale: Vec<_> = known::all().filter(|key| !seen.contains_key(key)).collect();
    assert!(
        stale.is_empty(),
        "known differences that did not occur (TAPGATE_SEED={seed}): {stale:?}"
    );
    assert!(
        (frames / 2..frames).contains(&accepted),
        "most frames are plausible, not all"
    );
}

/// The others' readings. pnet trusts lengths, so that it may panic: that is no opinion.
fn read_by_others(bytes: &[u8]) -> [(Who, Reading); 3] {
    QUIET.set(true);
    let pnet = catch_unwind(AssertUnwindSafe(|| readers::pnet(bytes)));
    QUIET.set(false);
    [
        (Who::Etherparse, readers::etherparse(bytes)),
        (Who::Smoltcp, readers::smoltcp(bytes)),
        (Who::Pnet, pnet.unwrap_or(Reading::NoOpinion)),
    ]
}

fn differences(ours: &Reading, theirs: &Reading) -> Vec<Field> {
    match (ours, theirs) {
        (Reading::Refused, Reading::Refused) => vec![],
        (Reading::Refused, _) | (_, Reading::Refused) => vec![Field::Accepted],
        (Reading::Other(a), Reading::Other(b)) if a == b => vec![],
        (Reading::Arp(ours), Reading::Arp(theirs)) => {
            let same = (ours.operation.is_none() || ours.operation == theirs.operation)
                && (ours.sender.is_none() || ours.sender == theirs.sender)
                && (ours.target.is_none() || ours.target == theirs.target);
            if same { vec![] } else { vec![Field::Addresses] }
        }
        (Reading::Ip(a), Reading::Ip(b)) => {
            let addresses = |ip: &Ip| (ip.source, ip.destination);
            let compared = [
                (Field::Addresses, addresses(a) == addresses(b)),
                (Field::Protocol, a.protocol == b.protocol),
                (Field::Ttl, a.ttl == b.ttl),
                (Field::DontFragment, a.dont_fragment == b.dont_fragment),
                (Field::Fragment, a.fragment == b.fragment),
                (Field::LaterFragment, a.later_fragment == b.later_fragment),
                (Field::Transport, a.transport == b.transport),
                (Field::TransportHeader, a.l4 == b.l4),
                (Field::End, a.end == b.end),
            ];
            let different = compared.into_iter().filter(|(_, same)| !same);
            different.map(|(field, _)| field).collect()
        }
        _ => vec![Field::Kind],
    }
}

fn variable(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name}={text} is not a number")),
    )
}
