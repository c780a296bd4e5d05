//! Rules and routes, against the kernel's: random sets of both, of both families, and random packets
//! through each. What `ip route get` says of a packet, the engine says: by which device, to which next
//! hop, from which source, or why not. Needs root and iproute2.
//!
//! `TAPGATE_LOOKUPS=1000000` asks so many. Each 200 have a configuration, whose seed is printed with what
//! differs: `TAPGATE_SEED` begins with that one.
//!
//! On purpose tapgate differs in what becomes of the router's own packets that are bound to a device:
//!
//! - where nothing leads out by it, Linux takes the destination of IPv4 to be on its link. The rules say
//!   where packets go, also those of the router;
//! - routes of IPv6 that lead nowhere do not hold for them in Linux, which has them on `lo`. What is to be
//!   unreachable is so for all.
//!
//! Not compared: ports of SCTP and others than TCP and UDP, which rules see none of; a `dscp` of rules, which this iproute2 does not know; which of several next hops a flow
//! takes, since hashes differ, but that it is one of them; packets from the router that name both their
//! source and, over IPv6, a device, which Linux takes for a wish there.

mod ask;
mod sets;

use std::collections::BTreeMap;

use tapgate_engine::config::{Config, File};
use tapgate_engine::snapshot::Snapshot;
use tapgate_tests::netns;

use crate::random::Random;
use ask::{Answer, Packet};
use sets::{DEVICES, Sets};

/// Lookups, unless the environment says how many.
const LOOKUPS: u64 = 100_000;
/// Lookups in one configuration.
const EACH: u64 = 200;
/// What takes commands of each family.
const IP: [&str; 2] = ["ip -4 -batch -", "ip -6 -batch -"];

#[test]
fn f19_as_ip_route_get_says() {
    let setting = |name: &str, otherwise: u64| {
        let set = std::env::var(name).ok();
        set.map_or(otherwise, |value| value.parse().expect("a number"))
    };
    let lookups = setting("TAPGATE_LOOKUPS", LOOKUPS);
    let seed = setting("TAPGATE_SEED", 1);
    let mut seen = BTreeMap::new();
    std::thread::scope(|threads| {
        let run = threads.spawn(|| {
            namespace();
            for number in 0..lookups.div_ceil(EACH) {
                configuration(seed.wrapping_add(number), &mut seen);
            }
        });
        run.join().expect("no difference");
    });
    println!("{lookups} lookups from TAPGATE_SEED={seed}: {seen:?}");
    for outcome in [
        "forwarded",
        "own",
        "no route",
        "unreachable",
        "prohibited",
        "silent",
    ] {
        let count = seen.get(outcome).copied().unwrap_or(0);
        assert!(count > lookups / 1_000, "{outcome}: {count}");
    }
}

/// A namespace with the devices, and addresses on them.
fn namespace() {
    netns::enter_new();
    for (name, value) in [
        ("net/ipv4/ip_forward", "1"),
        ("net/ipv4/conf/all/rp_filter", "0"),
        ("net/ipv4/conf/default/rp_filter", "0"),
        ("net/ipv6/conf/all/forwarding", "1"),
        ("net/ipv6/conf/default/addr_gen_mode", "1"),
    ] {
        netns::sysctl(name, value);
    }
    let mut text = String::new();
    for n in 0..DEVICES {
        text += &format!(
            "link add v{n} type veth peer name w{n}\nlink set v{n} up\nlink set w{n} up\n\
             address add 10.0.{n}.254/24 dev v{n}\naddress add 2001:db8:{n}::fe/64 dev v{n} nodad\n"
        );
    }
    netns::ip(&text);
}

/// Asks about random packets under one configuration.
fn configuration(seed: u64, seen: &mut BTreeMap<&'static str, u64>) {
    let mut random = Random(seed);
    let sets = Sets::random(&mut random);
    let file: File = toml::from_str(&sets.toml()).expect("a file");
    let config = Config::try_from(file).unwrap_or_else(|errors| {
        panic!("TAPGATE_SEED={seed}: {errors:?}\n{}", sets.toml());
    });
    let snapshot = Snapshot::build(&config, None);
    for (family, ip) in IP.into_iter().enumerate() {
        netns::feed(ip, &sets.commands(family));
    }
    let packets: Vec<Packet> = (0..EACH).map(|_| Packet::random(&mut random)).collect();
    let theirs = ask::kernel(&packets);
    for (packet, theirs) in packets.iter().zip(theirs) {
        let ours = packet.ask(&snapshot);
        let same = ours == theirs || sets.are_of_one_route(&ours, &theirs);
        if !same && packet.is_on_purpose(&theirs, &snapshot) {
            *seen.entry("on purpose").or_default() += 1;
            continue;
        }
        assert!(
            same,
            "TAPGATE_SEED={seed}\nip {}\ntapgate: {ours:?}\nkernel:  {theirs:?}\n{}\n{}\n{}",
            packet.command(),
            packet.explained(&snapshot),
            sets.toml(),
            sets.commands(0) + &sets.commands(1)
        );
        *seen.entry(packet.outcome(&ours)).or_default() += 1;
    }
    for (family, ip) in IP.into_iter().enumerate() {
        netns::feed(ip, &sets.removal(family));
    }
}

/// How an answer is counted.
impl Packet {
    fn outcome(&self, answer: &Answer) -> &'static str {
        match answer {
            Answer::Way { .. } if self.iif.is_some() => "forwarded",
            Answer::Way { .. } => "own",
            Answer::NoRoute => "no route",
            Answer::Unreachable => "unreachable",
            Answer::Prohibited => "prohibited",
            Answer::Silent => "silent",
        }
    }
}
