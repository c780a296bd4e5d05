//! Translation and policy, against nft: random configurations, and through each of them many random
//! sequences of packets, of both families. What the engine delivers, where and under which addresses, is
//! what the kernel delivers with rules of nft that mean the same; ports that a side may choose are one
//! for all of a conversation. What differs on purpose is in [`purpose`]. Needs root and nftables.
//!
//! `TAPGATE_SEQUENCES=100000` runs so many. Each 50 have a configuration, whose seed is printed with
//! what differs: `TAPGATE_SEED` begins with that one.

mod flow;
mod model;
mod pieces;
mod purpose;
mod seen;
mod sequence;
mod sides;
mod step;

use std::collections::BTreeMap;

use tapgate_tests::router::Router;

use crate::random::Random;
use flow::Both;
use model::Model;
use sequence::Sequence;
use sides::{Kernel, Side};
use step::{Act, Step, Wrong};

/// Sequences, unless the environment says how many.
const SEQUENCES: u64 = 4_000;
/// Sequences through one configuration.
const EACH: u64 = 50;
/// The kinds of differences of which one is told in full.
const TOLD: usize = 8;

#[test]
fn packets_go_as_the_kernel_has_them_go() {
    let sequences = setting("TAPGATE_SEQUENCES", SEQUENCES);
    let seed = setting("TAPGATE_SEED", 1);
    let mut found = Found::default();
    for number in 0..sequences.div_ceil(EACH) {
        // A thread has its own namespace, which goes with it.
        let run = std::thread::spawn(move || configuration(seed.wrapping_add(number)));
        found.add(run.join().expect("no panic"));
    }
    println!("{sequences} sequences from TAPGATE_SEED={seed}\n{found}");
    let kinds = found.differ.len();
    assert!(kinds == 0, "{kinds} kinds of differences that nobody meant");
    for act in [
        Act::Opens,
        Act::Answers,
        Act::Ping,
        Act::Error(Wrong::Nothing),
    ] {
        let (delivered, _) = found.acts[&act];
        assert!(delivered > 0, "{act:?} is delivered");
    }
    for act in [Act::Stranger, Act::Forged, Act::Error(Wrong::Port)] {
        let (delivered, _) = found.acts[&act];
        assert_eq!(delivered, 0, "{act:?} is nobody's");
    }
}

/// What became of sequences.
#[derive(Default)]
struct Found {
    /// How many packets both sides delivered alike, and how many there were.
    acts: BTreeMap<Act, (usize, usize)>,
    /// Packets about which each side said something itself.
    told: Both<usize>,
    on_purpose: BTreeMap<&'static str, usize>,
    /// By kind: how many, and the shortest.
    differ: BTreeMap<String, (usize, String)>,
}

impl Found {
    fn count(&mut self, step: &Step) {
        let (delivered, all) = self.acts.entry(step.act).or_default();
        *all += 1;
        *delivered += usize::from(!step.seen[0].is_empty() && step.is_alike());
        for (told, more) in self.told.iter_mut().zip(step.told) {
            *told += more;
        }
    }

    fn differs(&mut self, kind: String, count: usize, story: String) {
        let entry = self
            .differ
            .entry(kind)
            .or_insert_with(|| (0, story.clone()));
        entry.0 += count;
        if story.len() < entry.1.len() {
            entry.1 = story;
        }
    }

    fn add(&mut self, other: Self) {
        for (act, (delivered, all)) in other.acts {
            let sum = self.acts.entry(act).or_default();
            *sum = (sum.0 + delivered, sum.1 + all);
        }
        for (told, more) in self.told.iter_mut().zip(other.told) {
            *told += more;
        }
        for (reason, count) in other.on_purpose {
            *self.on_purpose.entry(reason).or_default() += count;
        }
        for (kind, (count, story)) in other.differ {
            self.differs(kind, count, story);
        }
    }
}

impl std::fmt::Display for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (act, (delivered, all)) in &self.acts {
            writeln!(f, "{act:?}: {delivered} of {all} delivered by both")?;
        }
        let [ours, theirs] = self.told;
        writeln!(
            f,
            "not compared: what tapgate ({ours}) and the kernel ({theirs}) tell senders themselves"
        )?;
        for (reason, count) in &self.on_purpose {
            writeln!(f, "on purpose, {count}: {reason}")?;
        }
        for (kind, (count, _)) in &self.differ {
            writeln!(f, "DIFFERENT, {count}: {kind}")?;
        }
        for (_, story) in self.differ.values().take(TOLD) {
            writeln!(f, "\n{story}")?;
        }
        Ok(())
    }
}

/// Sends sequences through one configuration.
fn configuration(seed: u64) -> Found {
    let mut random = Random(seed);
    let model = Model::random(&mut random);
    let mut router = Router::settled(&model.toml());
    router.answer_everything();
    let mut kernel = Kernel::new(&model);
    let mut found = Found::default();
    for number in 0..EACH {
        let mut sequence = Sequence::new(&model, number as u32, &mut random);
        let mut sides: Both<&mut dyn Side> = [&mut router, &mut kernel];
        sequence.run(&mut sides, &mut random);
        sequence.steps.iter().for_each(|step| found.count(step));
        if let Some(last) = sequence.steps.last().filter(|last| !last.is_alike()) {
            match purpose::reason(last) {
                Some(reason) => *found.on_purpose.entry(reason).or_default() += 1,
                None => {
                    let steps: String = sequence.steps.iter().map(ToString::to_string).collect();
                    let at = format!("TAPGATE_SEED={seed}, sequence {number}");
                    let story = format!("{at}:\n{steps}\n{}\n{}", model.toml(), model.nft());
                    found.differs(last.kind(), 1, story);
                }
            }
        }
        router.wait(10);
    }
    found
}

fn setting(name: &str, otherwise: u64) -> u64 {
    let set = std::env::var(name).ok();
    set.map_or(otherwise, |value| value.parse().expect("a number"))
}
