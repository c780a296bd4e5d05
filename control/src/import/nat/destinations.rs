//! Destination translations: forwarded ports.

use std::net::IpAddr;

use ipnet::IpNet;

use super::super::firewall::{Dnat, Fate};
use super::super::matching::{Ports, Service, State, few, without};
use super::{Forward, Work};

/// Most single ports that a range is taken apart into.
const MOST_SINGLE: u16 = 16;
const TCP: u8 = 6;
const UDP: u8 = 17;

impl Work<'_> {
    pub(super) fn destinations(&mut self, dnat: &[Dnat], paired: &[bool]) {
        let mut spared: Vec<&Dnat> = Vec::new();
        for (entry, paired) in dnat.iter().zip(paired) {
            if *paired {
                continue;
            }
            if entry.to.is_empty() {
                spared.push(entry);
                continue;
            }
            if let Err((fate, why)) = self.destination(entry, &spared) {
                self.firewall.note(&entry.origin, fate, why);
            }
        }
    }

    /// Writes one destination translation.
    fn destination(&mut self, entry: &Dnat, spared: &[&Dnat]) -> Result<(), (Fate, String)> {
        let missing = |why: &str| (Fate::Missing, why.to_owned());
        let when = &entry.when;
        let from_guests = !self
            .links
            .uplinks
            .iter()
            .any(|device| when.from.has(device));
        if when.state != State::First
            || when.to != Default::default()
            || when.service.source_ports.is_some()
        {
            return Err(missing(
                "a forwarded port asks for the address, the protocol, the port and the source alone",
            ));
        }
        let with_ports = when
            .service
            .protocols
            .as_ref()
            .filter(|all| all.iter().all(|p| [TCP, UDP].contains(p)));
        let Some(protocols) = with_ports else {
            return Err(missing(
                "only TCP and UDP ports are forwarded; a whole address is one_to_one, which needs a source translation to that address as well",
            ));
        };
        let mut from = when
            .source
            .prefixes(entry.family)
            .map_err(|why| (Fate::Missing, why))?
            .unwrap_or_default();
        for spare in spared {
            if spare.when.and(when).is_none() {
                continue;
            }
            let whole = spare.when.destination.within.is_none()
                && spare.when.service == Service::default()
                && spare.when.from == Default::default()
                && spare.when.source.except.is_empty();
            let Some(taken) = spare.when.source.within.as_ref().filter(|_| whole) else {
                let why = format!(
                    "{} spares a part of it that cannot be told apart",
                    spare.origin.place()
                );
                return Err((Fate::Missing, why));
            };
            let all = if from.is_empty() {
                entry.family.all()
            } else {
                from
            };
            from = without(&all, taken);
        }
        for address in self.forwarded(entry, from_guests)? {
            if self
                .nat
                .one_to_one
                .iter()
                .any(|(one, _)| one.outside == address)
            {
                return Err(missing(
                    "the address stands for one guest alone, with all its ports",
                ));
            }
            let to: Vec<IpAddr> = entry
                .to
                .iter()
                .copied()
                .filter(|to| to.is_ipv4() == address.is_ipv4())
                .collect();
            if to.is_empty() {
                return Err(missing("it goes to an address of another family"));
            }
            let ports = when
                .service
                .ports
                .clone()
                .unwrap_or_else(|| vec![(1, u16::MAX)]);
            let from: Vec<IpNet> = from
                .iter()
                .copied()
                .filter(|net| net.addr().is_ipv4() == address.is_ipv4())
                .collect();
            for (first, last) in ports {
                let first = first.max(1);
                // All of the ports become the same one there.
                let spans: Vec<Ports> = match entry.port {
                    Some(_) if last - first >= MOST_SINGLE => {
                        return Err(missing("many ports become one; here a range stays a range"));
                    }
                    Some(_) => (first..=last).map(|port| (port, port)).collect(),
                    None => vec![(first, last)],
                };
                for (port, protocol) in spans
                    .iter()
                    .flat_map(|s| protocols.iter().map(move |p| (*s, *p)))
                {
                    let forward = Forward {
                        address,
                        protocol,
                        port,
                        to: to.clone(),
                        to_port: entry.port.filter(|to| (*to, *to) != port),
                        from: from.clone(),
                    };
                    self.forward(forward, entry)?;
                }
            }
        }
        Ok(())
    }

    /// The addresses that an entry is for.
    fn forwarded(&self, entry: &Dnat, from_guests: bool) -> Result<Vec<IpAddr>, (Fate, String)> {
        let missing = |why: &str| (Fate::Missing, why.to_owned());
        let wanted = &entry.when.destination;
        if let (Some(nets), true) = (&wanted.within, wanted.except.is_empty()) {
            let mut all = Vec::new();
            for net in nets {
                let addresses = few(&(net.network(), net.broadcast()));
                all.extend(addresses.ok_or_else(|| missing("it is for too many addresses"))?);
            }
            if all
                .iter()
                .any(|address| self.links.owner(*address).is_none())
            {
                return Err(missing(
                    "what guests send to others is not redirected: only a personality's address is forwarded",
                ));
            }
            return Ok(all);
        }
        if from_guests {
            return Err(missing(
                "what guests send to others is not redirected: only a personality's address is forwarded",
            ));
        }
        let family = entry.to.first().is_some_and(IpAddr::is_ipv4);
        let personalities = self
            .links
            .personalities
            .iter()
            .filter(|p| entry.when.from.has(&p.device));
        let own = personalities.filter_map(|p| {
            let mut own = p.addresses.iter().map(IpNet::addr);
            own.find(|address| {
                address.is_ipv4() == family
                    && !wanted.except.iter().any(|net| net.contains(address))
                    && !self
                        .nat
                        .one_to_one
                        .iter()
                        .any(|(one, _)| one.outside == *address)
            })
        });
        let own: Vec<IpAddr> = own.collect();
        match own.is_empty() {
            true => Err(missing(
                "the device has no address to forward from; --address says it",
            )),
            false => Ok(own),
        }
    }

    /// Adds an entry unless one before it takes its ports.
    fn forward(&mut self, forward: Forward, entry: &Dnat) -> Result<(), (Fate, String)> {
        let meets = |earlier: &Forward| {
            (earlier.address, earlier.protocol) == (forward.address, forward.protocol)
                && earlier.port.0 <= forward.port.1
                && forward.port.0 <= earlier.port.1
        };
        let hides = |earlier: &Forward| {
            let covers = |from: &IpNet| earlier.from.iter().any(|by| by.contains(from));
            let all = !forward.from.is_empty() && forward.from.iter().all(covers);
            earlier.port != forward.port || earlier.from.is_empty() || all
        };
        let before = self.nat.forward.iter().find(|(e, _)| meets(e) && hides(e));
        if let Some((earlier, origin)) = before {
            let goes = |f: &Forward| (f.to.clone(), f.to_port);
            let same = earlier.port == forward.port && goes(earlier) == goes(&forward);
            return match same && (earlier.from.is_empty() || earlier.from == forward.from) {
                true => Err((
                    Fate::Implied,
                    format!("{} forwards it already", origin.place()),
                )),
                false => Err((
                    Fate::Missing,
                    format!("{} forwards a part of these ports already", origin.place()),
                )),
            };
        }
        self.nat.forward.push((forward, entry.origin.clone()));
        Ok(())
    }
}
