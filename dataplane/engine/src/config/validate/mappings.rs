//! How entries of `nat.snat` map and filter, and which of them may share an external address.

use super::check::{Check, place};
use crate::config::{Filtering, Mapping, PortRange, Snat};

/// The first port that is given out in blocks (RFC 7422 §2.2).
pub(super) const LEAST_IN_BLOCKS: u16 = 1024;

impl Check {
    /// What entry `n` says of its mappings goes together.
    pub(super) fn behaviour(&mut self, n: usize, snat: &Snat) {
        let at = |key: &str| place!["nat", "snat", n, key];
        let dependent = snat.mapping == Mapping::EndpointDependent;
        if dependent && snat.filtering != Filtering::default() {
            self.fault(
                at("filtering"),
                format!(
                    "\"{}\" needs a port that is one guest's alone, and with `mapping = \"endpoint-dependent\"` several may have it",
                    snat.filtering.name()
                ),
                "leave out `filtering`, or `mapping`",
            );
        }
        if dependent && snat.block.is_some() {
            self.fault(
                at("block"),
                "the ports of a block are one address's alone, and with `mapping = \"endpoint-dependent\"` several share them",
                "leave out `block`, or `mapping`",
            );
        }
        self.blocks(n, snat);
    }

    /// Entry `n` gives out no ports that one of `earlier`, each with its place in the file, gives out in
    /// another manner.
    pub(super) fn shares_well(&mut self, n: usize, snat: &Snat, earlier: &[(usize, Snat)]) {
        for (place, other) in earlier {
            let meet = |a: PortRange, b: PortRange| a.first <= b.last && b.first <= a.last;
            let Some(shared) = snat.to.iter().find(|address| other.to.contains(address)) else {
                continue;
            };
            if !meet(snat.ports, other.ports) {
                continue;
            }
            let (key, problem) = if snat.block.is_some() || other.block.is_some() {
                let problem = "one of them gives them out in blocks, which are one address's alone";
                ("block", problem)
            } else if snat.mapping != other.mapping {
                let problem =
                    "they map differently, and guests of one could take all ports from the other's";
                ("mapping", problem)
            } else {
                continue;
            };
            self.conflict(
                place!["nat", "snat", n, key],
                place!["nat", "snat", *place, key],
                format!("both entries give out ports of {shared}, and {problem}"),
                "write other `ports` or other addresses, or make one entry of them",
            );
        }
    }

    /// Each address of `from` has a block.
    fn blocks(&mut self, n: usize, snat: &Snat) {
        let at = |key: &str| place!["nat", "snat", n, key];
        let Some(blocks) = snat.blocks() else {
            return;
        };
        let (ports, size) = (snat.ports, snat.block.map_or(0, u16::from));
        if ports.first < LEAST_IN_BLOCKS {
            self.fault(
                at("ports"),
                format!("ports below {LEAST_IN_BLOCKS} are not given out in blocks"),
                format!("write ports from {LEAST_IN_BLOCKS} on, or leave it out"),
            );
        }
        let each = blocks.of_an_address();
        if each == 0 {
            self.fault(
                at("block"),
                format!("{ports} are only {} ports", ports.size()),
                format!("write at most {}", ports.size()),
            );
            return;
        }
        let have = u128::from(each) * snat.to.len() as u128;
        let wanted = blocks.wanted().unwrap_or(u128::MAX);
        if wanted <= have {
            return;
        }
        let addresses = wanted.div_ceil(u128::from(each));
        let per_address = wanted.div_ceil(snat.to.len() as u128);
        let largest = u128::from(ports.size()) / per_address;
        let smaller = match largest {
            0 => String::new(),
            largest => format!(", or `block = {largest}`"),
        };
        self.fault(
            at("block"),
            format!(
                "{} has {wanted} addresses, but there are only {have} blocks: {} address(es) with {each} blocks of {size} of the ports {ports}",
                snat.from,
                snat.to.len()
            ),
            format!(
                "write {addresses} addresses in `to` ({wanted} / {each}){smaller}, or a longer prefix in `from`"
            ),
        );
    }
}
