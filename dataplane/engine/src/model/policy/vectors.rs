//! The dimensions of the policy's rules that others have not.

use std::collections::HashMap;

use super::question::End;
use crate::base::addr::InterfaceId;
use crate::base::spans::Spans;
use crate::config::policy::{CheckedRule, PortSpan, Side};
use crate::config::{Config, Guest};
use crate::model::vectors::{Bits, Number, Vectors, spans};

/// By interface and by guest.
#[derive(Debug, Clone, Default)]
pub(super) struct Sides {
    interfaces: Vec<Number>,
    guests: Vec<Number>,
}

/// By protocol and port.
#[derive(Debug, Clone, Default)]
pub(super) struct Ports {
    by_protocol: Vec<Spans<u16>>,
    /// Of protocols that no rule names.
    other: Number,
}

impl Sides {
    pub(super) fn build(
        rules: &[CheckedRule],
        of: fn(&CheckedRule) -> &[Side],
        config: &Config,
        numbers: &[InterfaceId],
        vectors: &mut Vectors,
    ) -> Self {
        let any = Bits::of(rules.len(), |rule| of(&rules[rule]).is_empty());
        let mut zones: HashMap<u16, Vec<usize>> = HashMap::new();
        let mut interfaces: HashMap<usize, Vec<usize>> = HashMap::new();
        let mut guests: HashMap<usize, Vec<usize>> = HashMap::new();
        let mut groups: HashMap<u16, Vec<usize>> = HashMap::new();
        for (n, rule) in rules.iter().enumerate() {
            for side in of(rule) {
                match side {
                    Side::Zone(zone) => zones.entry(*zone).or_default().push(n),
                    Side::Interface(index) => interfaces.entry(*index).or_default().push(n),
                    Side::Guest(index) => guests.entry(*index).or_default().push(n),
                    Side::Group(group) => groups.entry(*group).or_default().push(n),
                }
            }
        }
        let checked = config.policy();
        let mut number = |interface: usize, guest: Option<usize>| {
            let own = guest.and_then(|guest| checked.guest_zones[guest]);
            // A bridged network is what is beyond its guests: the provider's segment.
            let bridged = config.interfaces()[interface].kind.bridged();
            let is_in = guest.is_none() || bridged.is_none();
            let zone = own.or(checked.interface_zones[interface].filter(|_| is_in));
            let in_zone = zone.and_then(|zone| zones.get(&zone));
            let of_guest = guest.and_then(|guest| guests.get(&guest));
            let in_groups = guest.map_or(&[][..], |guest| &checked.guest_groups[guest]);
            let of_groups = in_groups.iter().map(|group| groups.get(group));
            let of_interface = interfaces.get(&interface).filter(|_| is_in);
            let lists = [in_zone, of_interface, of_guest];
            let lists = lists.into_iter().chain(of_groups).flatten();
            vectors.number(any.with(lists.flatten()))
        };
        let mut sides = Self::default();
        for (index, id) in numbers.iter().enumerate() {
            if sides.interfaces.len() <= id.index() {
                sides.interfaces.resize(id.index() + 1, 0);
            }
            sides.interfaces[id.index()] = number(index, None);
        }
        let guest = |(n, guest): (usize, &Guest)| number(guest.network, Some(n));
        sides.guests = config.guests().iter().enumerate().map(guest).collect();
        sides
    }

    pub(super) fn find(&self, end: &End) -> Number {
        let guest = end.guest.and_then(|guest| self.guests.get(guest.index()));
        let interface = || self.interfaces.get(end.interface.index());
        guest.or_else(interface).copied().unwrap_or(0)
    }
}

impl Ports {
    pub(super) fn build(
        rules: &[CheckedRule],
        of: fn(&CheckedRule) -> &[(u8, PortSpan)],
        vectors: &mut Vectors,
    ) -> Self {
        let any = Bits::of(rules.len(), |rule| of(&rules[rule]).is_empty());
        let mut protocols: HashMap<u8, Vec<(u16, Option<u16>, usize)>> = HashMap::new();
        for (n, rule) in rules.iter().enumerate() {
            for &(protocol, (first, last)) in of(rule) {
                let ranges = protocols.entry(protocol).or_default();
                ranges.push((first, last.checked_add(1), n));
            }
        }
        let mut by_protocol = vec![Spans::default(); 1 + usize::from(u8::MAX)];
        for (protocol, ranges) in protocols {
            by_protocol[usize::from(protocol)] = spans(ranges.into_iter(), &any, vectors);
        }
        Self {
            by_protocol,
            other: vectors.number(any),
        }
    }

    pub(super) fn find(&self, protocol: u8, port: u16) -> Number {
        let spans = &self.by_protocol[usize::from(protocol)];
        spans.find(port).unwrap_or(self.other)
    }
}
