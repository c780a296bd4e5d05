//! From translations as other firewalls write them to the entries of `[nat]`.

use std::net::IpAddr;

use ipnet::IpNet;

use super::firewall::{Dnat, Fate, Firewall, Origin, Snat, Worn};
use super::links::Links;
use super::matching::{Addresses, Ports, Service, State, without};

/// Most addresses of one entry.
const MOST_ADDRESSES: u128 = 256;
/// Most single ports that a range is taken apart into.
const MOST_SINGLE: u16 = 16;
const TCP: u8 = 6;
const UDP: u8 = 17;

/// The entries of `[nat]`, each with the line that it is from.
#[derive(Debug, Default)]
pub(super) struct Nat {
    pub(super) snat: Vec<(SnatEntry, Origin)>,
    pub(super) one_to_one: Vec<(OneToOne, Origin)>,
    pub(super) forward: Vec<(Forward, Origin)>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct SnatEntry {
    pub(super) from: IpNet,
    pub(super) personality: usize,
    /// Empty: the personality's own.
    pub(super) to: Vec<(IpAddr, IpAddr)>,
    pub(super) except: Vec<IpNet>,
    pub(super) ports: Option<Ports>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct OneToOne {
    pub(super) inside: IpAddr,
    pub(super) outside: IpAddr,
    pub(super) personality: usize,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Forward {
    pub(super) address: IpAddr,
    pub(super) protocol: u8,
    pub(super) port: Ports,
    pub(super) to: Vec<IpAddr>,
    pub(super) to_port: Option<u16>,
    pub(super) from: Vec<IpNet>,
}

/// Writes a firewall's translations; what has no entry is noted.
pub(super) fn translate(firewall: &mut Firewall, links: &mut Links) -> Nat {
    let snat = std::mem::take(&mut firewall.snat);
    let dnat = std::mem::take(&mut firewall.dnat);
    let one_to_one = std::mem::take(&mut firewall.one_to_one);
    let mut work = Work {
        nat: Nat::default(),
        firewall,
        links,
    };
    for (inside, outside, device, origin) in one_to_one {
        work.pair(inside, outside, Some(&device), &origin);
    }
    let paired = work.pairs(&snat, &dnat);
    work.own_addresses(&snat, &dnat);
    work.sources(&snat);
    work.links.complete_personalities();
    work.destinations(&dnat, &paired);
    let nat = work.nat;
    firewall.snat = snat;
    firewall.dnat = dnat;
    nat
}

struct Work<'w> {
    nat: Nat,
    firewall: &'w mut Firewall,
    links: &'w mut Links,
}

impl Work<'_> {
    /// Addresses that stand for each other: all of one goes to the other, and the other leaves as it.
    /// Which destination translations are that.
    fn pairs(&mut self, snat: &[Snat], dnat: &[Dnat]) -> Vec<bool> {
        let mut paired = vec![false; dnat.len()];
        for (n, entry) in dnat.iter().enumerate() {
            let all = entry.when.service == Service::default()
                && entry.when.source == Addresses::default()
                && entry.port.is_none();
            let (Some(outside), [inside], true) =
                (entry.when.destination.single(), &entry.to[..], all)
            else {
                continue;
            };
            let out = snat.iter().find(|source| {
                source.worn
                    == Worn::Addresses {
                        ranges: vec![(outside, outside)],
                        ports: None,
                    }
                    && source.when.source.single() == Some(*inside)
                    && source.when.service == Service::default()
                    && self.ways_out(source).next().is_some()
            });
            let Some(out) = out else { continue };
            let device = out
                .when
                .to
                .within
                .as_ref()
                .and_then(|names| names.first())
                .cloned();
            paired[n] = true;
            self.pair(*inside, outside, device.as_deref(), &entry.origin);
        }
        paired
    }

    fn pair(&mut self, inside: IpAddr, outside: IpAddr, device: Option<&str>, origin: &Origin) {
        let twice =
            |(entry, _): &(OneToOne, Origin)| entry.outside == outside || entry.inside == inside;
        if self.nat.one_to_one.iter().any(twice) {
            let why = "one of the two addresses stands for another already";
            return self.firewall.note(origin, Fate::Missing, why);
        }
        let device = device.and_then(|device| self.links.of(device));
        let personality = match self.links.owner(outside) {
            Some(owner) if self.links.personalities[owner].shared => {
                let why = format!(
                    "{outside} is the host's too, so it cannot stand for {inside}: forward single ports"
                );
                return self.firewall.note(origin, Fate::Missing, why);
            }
            Some(owner) => owner,
            None => {
                let link = device.unwrap_or_default();
                match self.links.personalities[link].shared {
                    true => self.links.beside(link, outside),
                    false => self.links.give(outside, link),
                }
            }
        };
        let entry = OneToOne {
            inside,
            outside,
            personality,
        };
        self.nat.one_to_one.push((entry, origin.clone()));
    }

    /// Gives every address that translations name to the device that they name with it.
    fn own_addresses(&mut self, snat: &[Snat], dnat: &[Dnat]) {
        for entry in snat {
            let Worn::Addresses { ranges, .. } = &entry.worn else {
                continue;
            };
            let Some(personality) = self.ways_out(entry).next() else {
                continue;
            };
            for address in ranges.iter().filter_map(few).flatten() {
                self.links.give(address, personality);
            }
        }
        for entry in dnat.iter().filter(|entry| !entry.to.is_empty()) {
            let Some(address) = entry.when.destination.single() else {
                continue;
            };
            let inside = self.links.networks.iter().flat_map(|n| &n.addresses);
            let is_inside = inside.into_iter().any(|net| net.contains(&address));
            let mut by = self.links.personalities.iter();
            let by = by.position(|p| entry.when.from.has(&p.device));
            if let (Some(personality), false) = (by, is_inside) {
                self.links.give(address, personality);
            }
        }
    }

    /// The personalities that an entry translates at.
    fn ways_out(&self, entry: &Snat) -> impl Iterator<Item = usize> + use<> {
        let mut seen: Vec<&str> = Vec::new();
        let mut found = Vec::new();
        for (n, personality) in self.links.personalities.iter().enumerate() {
            let device = personality.device.as_str();
            if entry.when.to.has(device) && !seen.contains(&device) {
                seen.push(device);
                found.push(n);
            }
        }
        found.into_iter()
    }

    fn sources(&mut self, snat: &[Snat]) {
        let mut spared: Vec<&Snat> = Vec::new();
        for (n, entry) in snat.iter().enumerate() {
            match self.source(entry, &spared, &snat[n + 1..]) {
                Ok(true) if entry.worn == Worn::Own => spared.push(entry),
                Ok(_) => {}
                Err((fate, why)) => self.firewall.note(&entry.origin, fate, why),
            }
        }
    }

    /// Writes one source translation. Whether it has a part in what is written.
    fn source(
        &mut self,
        entry: &Snat,
        spared: &[&Snat],
        later: &[Snat],
    ) -> Result<bool, (Fate, String)> {
        let missing = |why: &str| (Fate::Missing, why.to_owned());
        let implied = |why: &str| (Fate::Implied, why.to_owned());
        let when = &entry.when;
        let ways: Vec<usize> = self.ways_out(entry).collect();
        let own = entry.worn == Worn::Own;
        let to_itself =
            when.destination.within.is_some() && when.destination.within == when.source.within;
        if to_itself
            || (when.state == State::Redirected
                && (ways.is_empty() || when.source.within.is_some()))
        {
            return Err(implied(
                "guests reach what is forwarded by themselves, and are seen as they are outside",
            ));
        }
        if ways.is_empty() {
            return Err(match own {
                true => implied("between networks nothing is translated"),
                false => missing(
                    "sources are translated at uplinks alone; if it leaves by one, name that with --uplink",
                ),
            });
        }
        // Who comes by a network's device has an address of that network.
        let by = when.from.within.as_ref().filter(|_| when.source.within.is_none());
        let networks: Vec<IpNet> = by
            .into_iter()
            .flatten()
            .flat_map(|device| self.links.prefixes(device))
            .collect();
        let from = when.from == Default::default() || !networks.is_empty();
        if when.state != State::First || !from || when.to_own {
            return Err(missing(
                "a source translation asks for the source, the way out and the destination alone",
            ));
        }
        let mut asked = when.source.clone();
        if !networks.is_empty() {
            asked.within = Some(networks);
        }
        let sources = asked
            .prefixes(entry.family)
            .map_err(|why| (Fate::Missing, why))?;
        let sources = sources.unwrap_or_else(|| match self.firewall.families.len() {
            1 => self.firewall.families[0].all(),
            _ => entry.family.all(),
        });
        if own {
            let plain = when.service == Service::default() && when.destination.except.is_empty();
            return match plain {
                true => Ok(true),
                false => Err(missing(
                    "what is spared translation asks for the source, the way out and the destination alone",
                )),
            };
        }
        if when.service != Service::default() {
            let covers = |later: &&Snat| {
                let same = Snat {
                    origin: entry.origin.clone(),
                    worn: entry.worn.clone(),
                    ..(*later).clone()
                };
                let mut general = entry.clone();
                general.when.service = Service::default();
                let alike = matches!(
                    (&later.worn, &entry.worn),
                    (Worn::Device { .. }, Worn::Device { .. })
                ) || later.worn == entry.worn;
                alike && same.when == general.when
            };
            return Err(match later.iter().find(covers) {
                Some(general) => implied(&format!(
                    "{} translates all protocols alike",
                    general.origin.place()
                )),
                None => missing("a source translation is for all protocols"),
            });
        }
        if when.destination.within.is_some() {
            return Err(missing(
                "a source translation is for all destinations, except some",
            ));
        }
        for way in ways {
            let (personality, to, mut ports) = match &entry.worn {
                Worn::Own => continue,
                Worn::Device { ports } => (way, Vec::new(), *ports),
                Worn::Addresses { ranges, ports } => {
                    let Some((first, _)) = ranges.first() else {
                        continue;
                    };
                    let owner = self.links.owner(*first).unwrap_or(way);
                    if self.links.personalities[owner].device
                        != self.links.personalities[way].device
                    {
                        continue;
                    }
                    let stands = self.nat.one_to_one.iter().any(|(one, _)| {
                        ranges
                            .iter()
                            .any(|(first, last)| *first <= one.outside && one.outside <= *last)
                    });
                    if stands {
                        let one = self.nat.one_to_one.iter().any(|(one, _)| {
                            sources == [IpNet::from(one.inside)]
                                && *ranges == [(one.outside, one.outside)]
                        });
                        return Err(match one {
                            true => implied("its one_to_one entry does so"),
                            false => missing("the address stands for one guest alone"),
                        });
                    }
                    if ranges.iter().any(|range| few(range).is_none()) {
                        return Err(missing("it wears too many addresses"));
                    }
                    (owner, ranges.clone(), *ports)
                }
            };
            if self.links.personalities[personality].shared {
                ports = None;
            }
            let mut parts: Vec<(IpNet, Vec<IpNet>)> = sources
                .iter()
                .map(|from| (*from, when.destination.except.clone()))
                .collect();
            let device = self.links.personalities[way].device.clone();
            for spare in spared.iter().filter(|spare| spare.when.to.has(&device)) {
                parts = parts
                    .into_iter()
                    .flat_map(|part| spare_from(part, spare))
                    .collect();
            }
            for (from, except) in parts {
                let like = from.addr().is_ipv4();
                let except: Vec<IpNet> = except
                    .into_iter()
                    .filter(|net| net.addr().is_ipv4() == like)
                    .collect();
                if to.first().is_some_and(|(first, _)| first.is_ipv4() != like) {
                    continue;
                }
                let written = SnatEntry {
                    from,
                    personality,
                    to: to.clone(),
                    except,
                    ports,
                };
                let covered = self.nat.snat.iter().find(|(earlier, _)| {
                    earlier.personality == personality
                        && earlier.from.contains(&from)
                        && (earlier.except.is_empty() || earlier.except == written.except)
                });
                match covered.map(|(_, origin)| origin.place()) {
                    Some(place) => {
                        let why = format!("{place} translates it already");
                        self.firewall.note(&entry.origin, Fate::Implied, why);
                    }
                    None => self.nat.snat.push((written, entry.origin.clone())),
                }
            }
        }
        Ok(true)
    }

    fn destinations(&mut self, dnat: &[Dnat], paired: &[bool]) {
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

/// What is left to translate of sources that leave out some destinations.
fn spare_from((from, except): (IpNet, Vec<IpNet>), spare: &Snat) -> Vec<(IpNet, Vec<IpNet>)> {
    let Ok(sources) = spare.when.source.prefixes(spare.family) else {
        return vec![(from, except)];
    };
    let sources = sources.unwrap_or_else(|| vec![from]);
    let both: Vec<IpNet> = sources
        .iter()
        .filter(|net| net.contains(&from) || from.contains(*net))
        .map(|net| if net.contains(&from) { from } else { *net })
        .collect();
    let mut parts = Vec::new();
    if let Some(destinations) = &spare.when.destination.within {
        for net in &both {
            let mut except = except.clone();
            except.extend(
                destinations
                    .iter()
                    .filter(|d| !except.contains(d))
                    .copied()
                    .collect::<Vec<_>>(),
            );
            parts.push((*net, except));
        }
    }
    parts.extend(
        without(&[from], &both)
            .into_iter()
            .map(|net| (net, except.clone())),
    );
    parts
}

/// The addresses from one to another, if they are few.
pub(super) fn few((first, last): &(IpAddr, IpAddr)) -> Option<Vec<IpAddr>> {
    let number = |address: &IpAddr| match address {
        IpAddr::V4(address) => u128::from(u32::from(*address)),
        IpAddr::V6(address) => u128::from(*address),
    };
    let (from, to) = (number(first), number(last));
    if first.is_ipv4() != last.is_ipv4() || to < from || to - from >= MOST_ADDRESSES {
        return None;
    }
    let all = (from..=to).map(|n| match first {
        IpAddr::V4(_) => IpAddr::V4((n as u32).into()),
        IpAddr::V6(_) => IpAddr::V6(n.into()),
    });
    Some(all.collect())
}
