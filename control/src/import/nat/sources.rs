//! Source translations.

use ipnet::IpNet;

use super::super::firewall::{Fate, Snat, Worn};
use super::super::matching::{Service, State, few, without};
use super::{SnatEntry, Work};

impl Work<'_> {
    pub(super) fn sources(&mut self, snat: &[Snat]) {
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
        let by = when
            .from
            .within
            .as_ref()
            .filter(|_| when.source.within.is_none());
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
