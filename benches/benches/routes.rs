//! What it costs to find a route, in nanoseconds: the longest prefix, hit and miss, among a thousand, a
//! hundred thousand and a million, whose lengths are spread as those of the internet's table are. Addresses
//! are random, so that no look-up finds what the one before brought into the cache.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use criterion::Criterion;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde_json::{Map, json};
use tapgate_benches::random;
use tapgate_engine::config::Config;
use tapgate_engine::model::route::{Selector, route};
use tapgate_engine::model::tables::{Action, Entry, Fib};
use tapgate_engine::model::trace::Silent;
use tapgate_engine::snapshot::Snapshot;

/// How many of a hundred prefixes have each length, about.
const LENGTHS4: [(u8, u32); 9] = [
    (24, 60),
    (23, 10),
    (22, 11),
    (21, 5),
    (20, 5),
    (19, 3),
    (18, 2),
    (17, 1),
    (16, 3),
];
const LENGTHS6: [(u8, u32); 8] = [
    (48, 46),
    (44, 11),
    (40, 10),
    (36, 6),
    (32, 20),
    (33, 3),
    (34, 2),
    (29, 2),
];
/// Addresses that are looked up in turn.
const ADDRESSES: usize = 1 << 16;
/// For a hit among a million of IPv4.
const BAR: f64 = 40.0;

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .sample_size(20)
        .configure_from_args();
    for family in [4, 6] {
        for count in [1_000, 100_000, 1_000_000] {
            let mut table = None;
            for kind in ["hit", "miss"] {
                let name = format!("longest prefix/IPv{family} {kind}, {count} routes");
                let mut fastest = f64::INFINITY;
                criterion.bench_function(&name, |bencher| {
                    let (fib, hits, misses) = table.get_or_insert_with(|| made(family, count));
                    let addresses = if kind == "hit" { hits } else { misses };
                    let mut all = addresses.iter().cycle();
                    bencher.iter_custom(|times| {
                        let start = Instant::now();
                        for _ in 0..times {
                            let address = all.next().copied().expect("there are some");
                            black_box(fib.covering(black_box(address)).next());
                        }
                        let took = start.elapsed();
                        fastest = fastest.min(took.as_nanos() as f64 / times as f64);
                        took
                    });
                });
                if fastest.is_finite() {
                    let bar = (family, kind, count) == (4, "hit", 1_000_000);
                    let verdict = match (bar, fastest <= BAR) {
                        (false, _) => "",
                        (true, true) => "; bar: at most 40 ns: met",
                        (true, false) => "; bar: at most 40 ns: NOT MET",
                    };
                    println!("{name:<44} undisturbed {fastest:.1} ns{verdict}");
                }
            }
        }
    }
    for rules in [10, 1_000, 10_000] {
        selection(&mut criterion, rules);
    }
    criterion.final_summary();
}

/// How long it takes to find the rule and the route, where each rule is for a prefix of sources and leads to
/// a table of its own.
fn selection(criterion: &mut Criterion, rules: u32) {
    let name = format!("rule selection/{rules} rules");
    let mut made = None;
    criterion.bench_function(&name, |bencher| {
        let snapshot = made.get_or_insert_with(|| ruled(rules));
        let mut state = 1;
        bencher.iter(|| {
            let source = Ipv4Addr::from_bits((10 << 24) | (random(&mut state) % rules) << 8 | 7);
            let packet = Selector::ours(source, Ipv4Addr::new(198, 51, 100, 9), 17);
            black_box(route(snapshot, black_box(packet), &mut Silent)).is_ok()
        });
    });
}

fn ruled(rules: u32) -> Snapshot {
    let tables = (0..rules).map(|n| (format!("t{n}"), json!([{ "to": "default", "dev": "P" }])));
    let from = |n: u32| Ipv4Addr::from_bits((10 << 24) | n << 8);
    let rule = |n| json!({ "priority": n + 1, "from": format!("{}/24", from(n)), "lookup": format!("t{n}") });
    let file = json!({
        "ports": { "up": { "memory": true } },
        "personalities": { "P": { "port": "up", "mac": "02:00:00:00:aa:00",
            "addresses": ["203.0.113.10/24"], "gateway": "203.0.113.1" } },
        "tables": tables.collect::<Map<_, _>>(),
        "routing": { "rules": (0..rules).map(rule).collect::<Vec<_>>() },
    });
    let config: Config = serde_json::from_value(file).expect("it is right");
    Snapshot::build(&config, None)
}

/// A table, addresses that it has a route to and such that it has none to.
fn made(family: u8, count: usize) -> (Fib, Vec<IpAddr>, Vec<IpAddr>) {
    let mut state = 1;
    let mut prefixes: Vec<IpNet> = Vec::with_capacity(count);
    while prefixes.len() < count {
        let missing = count - prefixes.len();
        prefixes.extend((0..missing).map(|_| prefix(family, &mut state)));
        prefixes.sort_unstable();
        prefixes.dedup();
    }
    let entry = Entry {
        metric: 0,
        action: Action::Blackhole,
    };
    let routes = prefixes.iter().map(|to| (*to, entry));
    let start = Instant::now();
    let fib = Fib::new(routes.collect());
    let took = start.elapsed();
    let mebibytes = fib.memory() as f64 / f64::from(1 << 20);
    println!("IPv{family}, {count} routes: made in {took:.1?}, {mebibytes:.1} MiB");
    let hits = (0..ADDRESSES).map(|_| {
        let place = random(&mut state) as usize % prefixes.len();
        within(prefixes[place], &mut state)
    });
    let hits = hits.collect();
    let mut misses = Vec::with_capacity(ADDRESSES);
    while misses.len() < ADDRESSES {
        let address = within(unicast(family), &mut state);
        if fib.covering(address).next().is_none() {
            misses.push(address);
        }
    }
    (fib, hits, misses)
}

/// What routes and addresses are taken from.
fn unicast(family: u8) -> IpNet {
    let net = if family == 4 { "0.0.0.0/1" } else { "2000::/8" };
    net.parse().expect("a prefix")
}

fn prefix(family: u8, state: &mut u64) -> IpNet {
    let lengths = if family == 4 {
        &LENGTHS4[..]
    } else {
        &LENGTHS6[..]
    };
    let mut chosen = random(state) % 100;
    let (length, _) = lengths
        .iter()
        .find(|(_, share)| {
            let here = chosen < *share;
            chosen = chosen.saturating_sub(*share);
            here
        })
        .expect("shares of a hundred");
    let net = match within(unicast(family), state) {
        IpAddr::V4(address) => IpNet::V4(Ipv4Net::new_assert(address, *length)),
        IpAddr::V6(address) => IpNet::V6(Ipv6Net::new_assert(address, *length)),
    };
    net.trunc()
}

/// A random address of a prefix.
fn within(net: IpNet, state: &mut u64) -> IpAddr {
    match net {
        IpNet::V4(net) => {
            let hosts = net.hostmask().to_bits();
            Ipv4Addr::from_bits(net.network().to_bits() | random(state) & hosts).into()
        }
        IpNet::V6(net) => {
            let drawn = (0..4).fold(0, |all, _| all << 32 | u128::from(random(state)));
            let hosts = net.hostmask().to_bits();
            Ipv6Addr::from_bits(net.network().to_bits() | drawn & hosts).into()
        }
    }
}
