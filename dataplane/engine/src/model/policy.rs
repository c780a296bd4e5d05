//! The policy, compiled: which rule is the first that matches, at a cost that hardly depends on how many
//! there are.
//!
//! Each of six dimensions (where from, where to, source, destination, service, source port) says by one
//! look-up which rules it leaves in question, as a bit for each; the first bit that all leave is the rule
//! (bit vectors, Lakshman and Stiliadis 1998). A summary of each vector, one bit for 512, skips what is
//! empty (aggregation, Baboescu and Varghese 2001), and a vector that leaves all is not looked at.

mod question;
mod vectors;

use std::ops::Range;

use ipnet::IpNet;

use super::vectors::{Addresses, Bits, Vector, Vectors, first};
use crate::base::addr::InterfaceId;
use crate::config::Config;
use crate::config::policy::{Action, CheckedRule, Facing, Origin, PortSpan, RuleLimits, Side};
pub use question::{End, Question};
use vectors::{Ports, Sides};

/// What about a flow a rule does not match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Mismatch {
    Source,
    Destination,
    Service,
    SourcePort,
}

/// What a rule says of the flows that match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ruling {
    /// Its place among all rules of the configuration.
    pub place: u16,
    /// Where it stands in the file.
    pub origin: Origin,
    /// What becomes of them.
    pub action: Action,
    /// They are written into the log.
    pub log: bool,
    /// The mark of their sessions; 0 is none.
    pub mark: u32,
    /// How many it lets through.
    pub limits: Option<RuleLimits>,
}

/// All rules of a configuration.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    /// In the order in which they are asked.
    rules: Vec<Ruling>,
    groups: Groups,
    vectors: Vectors,
    from: Sides,
    to: Sides,
    source: Addresses,
    destination: Addresses,
    services: Ports,
    source_ports: Ports,
}

/// Who is in security groups, and which rules are theirs.
#[derive(Debug, Clone)]
struct Groups {
    /// Some guest is in one.
    any: bool,
    /// By guest: whether it is in one, and in one that says what it may open.
    members: Vec<(bool, bool)>,
    /// The rules about flows that members open, and about those that are opened to them.
    out: Range<usize>,
    into: Range<usize>,
    /// What is said where no rule of a guest's groups accepts.
    closed: [Ruling; 2],
}

impl Policy {
    /// The policy of a configuration whose interfaces have these numbers.
    pub(crate) fn build(config: &Config, interfaces: &[InterfaceId]) -> Self {
        let rules = &config.policy().rules[..];
        let groups = Groups::of(config);
        if rules.is_empty() && !groups.any {
            return Self::default();
        }
        let mut vectors = Vectors::default();
        let mut side = |of: fn(&CheckedRule) -> &[Side]| {
            Sides::build(rules, of, config, interfaces, &mut vectors)
        };
        let (from, to) = (side(|rule| &rule.from), side(|rule| &rule.to));
        let mut addresses = |of: fn(&CheckedRule) -> &[IpNet]| {
            let any = Bits::of(rules.len(), |rule| of(&rules[rule]).is_empty());
            let named = rules.iter().enumerate();
            let prefixes = named.flat_map(|(n, rule)| of(rule).iter().map(move |net| (*net, n)));
            Addresses::build(prefixes, &any, &mut vectors)
        };
        let source = addresses(|rule| &rule.source);
        let destination = addresses(|rule| &rule.destination);
        let mut ports =
            |of: fn(&CheckedRule) -> &[(u8, PortSpan)]| Ports::build(rules, of, &mut vectors);
        let services = ports(|rule| &rule.services);
        let source_ports = ports(|rule| &rule.source_ports);
        vectors.seal();
        Self {
            rules: (0..).zip(rules).map(Ruling::of).collect(),
            groups,
            vectors,
            from,
            to,
            source,
            destination,
            services,
            source_ports,
        }
    }

    /// It has no rules.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty() && !self.groups.any
    }

    /// The rule that decides: the first that matches, but that both ends' groups are asked before
    /// `default`. `None`: none does.
    pub fn decide(&self, asked: &Question) -> Option<&Ruling> {
        if self.is_empty() {
            return None;
        }
        self.find(&self.vectors_for(asked), asked).0
    }

    /// What every rule says, in the order in which they are asked.
    pub fn rulings(&self) -> impl Iterator<Item = &Ruling> {
        self.rules.iter()
    }

    /// The rule at a place.
    pub fn ruling(&self, place: u16) -> Option<&Ruling> {
        self.rules.get(usize::from(place))
    }

    /// The rules between the two sides that were passed over before the one that decides, each with
    /// what it does not match.
    pub fn passed_over(&self, asked: &Question) -> Vec<(Origin, Mismatch)> {
        if self.is_empty() {
            return Vec::new();
        }
        let vectors = self.vectors_for(asked);
        let (_, end) = self.find(&vectors, asked);
        let [from, to, dimensions @ ..] = vectors;
        let reasons = [
            Mismatch::Source,
            Mismatch::Destination,
            Mismatch::Service,
            Mismatch::SourcePort,
        ];
        let concerns = |rule: &usize| from.has(*rule) && to.has(*rule);
        let why = |rule: usize| {
            let misses = |(vector, _): &(&Vector, Mismatch)| !vector.has(rule);
            let (_, reason) = dimensions.into_iter().zip(reasons).find(misses)?;
            Some((self.rules[rule].origin, reason))
        };
        (0..end).filter(concerns).filter_map(why).collect()
    }

    /// What decides, and up to where was looked for it.
    fn find(&self, vectors: &[&Vector; 6], asked: &Question) -> (Option<&Ruling>, usize) {
        let all = 0..self.rules.len();
        let first = |range| first(vectors, range);
        let found = |rule: usize| (Some(&self.rules[rule]), rule);
        let groups = &self.groups;
        if !groups.any {
            return first(all.clone()).map_or((None, all.end), found);
        }
        if let Some(rule) = first(0..groups.out.start) {
            return found(rule);
        }
        let (_, restricted) = groups.membership(&asked.from);
        if restricted && first(groups.out.clone()).is_none() {
            return (Some(&groups.closed[Facing::Out as usize]), groups.out.end);
        }
        if let (true, _) = groups.membership(&asked.to) {
            let closed = &groups.closed[Facing::In as usize];
            let into = first(groups.into.clone());
            return into.map_or((Some(closed), groups.into.end), found);
        }
        let default = first(groups.into.end..all.end);
        default.map_or((None, all.end), found)
    }

    fn vectors_for(&self, asked: &Question) -> [&Vector; 6] {
        [
            self.from.find(&asked.from),
            self.to.find(&asked.to),
            self.source.find(asked.from.address),
            self.destination.find(asked.to.address),
            self.services.find(asked.protocol, asked.service),
            self.source_ports.find(asked.protocol, asked.source_port),
        ]
        .map(|number| self.vectors.get(number))
    }
}

impl Groups {
    fn of(config: &Config) -> Self {
        let checked = config.policy();
        let membership = |groups: &Vec<u16>| {
            let says_out = |group: &u16| checked.groups[usize::from(*group)].1;
            (!groups.is_empty(), groups.iter().any(says_out))
        };
        let members: Vec<_> = checked.guest_groups.iter().map(membership).collect();
        // They come in this order.
        let end = |is_before: fn(&Origin) -> bool| {
            checked
                .rules
                .partition_point(|rule| is_before(&rule.origin))
        };
        let rules = end(|origin| matches!(origin, Origin::Rule(_)));
        let out =
            end(|origin| matches!(origin, Origin::Rule(_) | Origin::Group(_, Facing::Out, _)));
        let into = end(|origin| !matches!(origin, Origin::Default(_)));
        Self {
            any: members.iter().any(|(is_member, _)| *is_member),
            members,
            out: rules..out,
            into: out..into,
            closed: [Facing::In, Facing::Out].map(Ruling::closed),
        }
    }

    /// Whether a guest is at this end that is in groups, and in one that says what it may open.
    fn membership(&self, end: &End) -> (bool, bool) {
        let guest = end.guest.and_then(|guest| self.members.get(guest.index()));
        guest.copied().unwrap_or_default()
    }
}

impl Default for Groups {
    fn default() -> Self {
        Self {
            any: false,
            members: Vec::new(),
            out: 0..0,
            into: 0..0,
            closed: [Facing::In, Facing::Out].map(Ruling::closed),
        }
    }
}

impl Ruling {
    /// No rule of a guest's groups accepts.
    fn closed(facing: Facing) -> Self {
        Self {
            place: u16::MAX,
            origin: Origin::Closed(facing),
            action: Action::Drop,
            log: false,
            mark: 0,
            limits: None,
        }
    }

    fn of((place, rule): (u16, &CheckedRule)) -> Self {
        Self {
            place,
            origin: rule.origin,
            action: rule.action,
            log: rule.log,
            mark: rule.mark,
            limits: rule.limits,
        }
    }
}

#[cfg(test)]
mod tests;
