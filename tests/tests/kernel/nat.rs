//! Translation and policy, against nft: random configurations, and through each many random sequences
//! of packets, of both families. What the engine delivers, where and under which addresses, is what
//! the kernel does with rules of nft that mean the same. Needs root and nftables.
//!
//! `TAPGATE_SEQUENCES=100000` runs so many, `TAPGATE_SEED` begins with another configuration: that
//! number and those that follow it, as they are printed.

mod flow;
mod kernel;
mod model;
mod random;
mod seen;
mod sequence;

use std::collections::BTreeMap;

use random::Random;
use tapgate_tests::router::Router;

use flow::Both;
use kernel::{Kernel, Side};
use model::Model;
use sequence::Sequence;

/// Sequences with one configuration.
const EACH: u64 = 500;
/// How many are told in full.
const TOLD: usize = 30;

#[test]
fn packets_go_as_the_kernel_has_them_go() {
    let sequences = setting("TAPGATE_SEQUENCES", 2_000);
    let seed = setting("TAPGATE_SEED", 1);
    let mut differ: BTreeMap<String, u64> = BTreeMap::new();
    let mut told: BTreeMap<String, (usize, String)> = BTreeMap::new();
    let mut packets = 0;
    for number in 0..sequences.div_ceil(EACH) {
        let seed = seed + number;
        let run = std::thread::spawn(move || configuration(seed));
        let found = run.join().expect("no panic");
        packets += found.packets;
        for (kind, story) in found.differ {
            *differ.entry(kind.clone()).or_default() += 1;
            let entry = told.entry(kind).or_insert((story.0, story.1.clone()));
            if story.0 < entry.0 { *entry = story; }
        }
    }
    println!("seed {seed}: {sequences} sequences, {packets} packets; {differ:#?}");
    for (_, story) in told.values().take(TOLD) {
        println!("{story}");
    }
    assert!(told.is_empty(), "{} differ", told.len());
}

struct Found {
    packets: usize,
    differ: Vec<(String, (usize, String))>,
}

fn configuration(seed: u64) -> Found {
    let mut random = Random(seed);
    let model = Model::random(&mut random);
    let mut router = Router::settled(&model.toml());
    router.answer_everything();
    let mut kernel = Kernel::new(&model);
    let mut found = Found {
        packets: 0,
        differ: Vec::new(),
    };
    for number in 0..EACH {
        let mut sequence = Sequence::new(&model, number as u32, &mut random);
        let mut sides: Both<&mut dyn Side> = [&mut router, &mut kernel];
        let alike = sequence.run(&mut sides, &mut random);
        found.packets += sequence.steps.len();
        if !alike {
            let last = sequence.steps.last().expect("it differs");
            let kind = format!(
                "{:?} proto {} {} {:?} {:?}: {} {}",
                last.act,
                last.protocol,
                last.flags,
                last.stage,
                last.pieces,
                last.seen[0].len(),
                last.seen[1].len()
            );
            let steps: Vec<String> = sequence.steps.iter().map(ToString::to_string).collect();
            let story = format!(
                "seed {seed}, sequence {number}:\n{}",
                steps.join("")
            );
            found.differ.push((kind, (sequence.steps.len(), story)));
        }
        router.wait(10);
    }
    found
}

fn setting(name: &str, otherwise: u64) -> u64 {
    let set = std::env::var(name).ok();
    set.map_or(otherwise, |value| value.parse().expect("a number"))
}
