//! What each line that sets a mark is for.

use std::collections::BTreeSet;

use super::super::firewall::{Entry, Firewall, Origin, Rule};
use super::super::line::{Marking, Marks, Then};
use super::super::links::Links;
use super::super::matching::{Addresses, Devices, Family, Match, Service, State};
use super::super::system::{Inet, System};
use super::routing::{asking, finds_way, inet, leads_by, only_marked};
use super::run::{Class, Lines, Packets, run};

/// What comes by an uplink leaves by it.
const ANSWERED: &str = "what comes to a personality is answered by it";
/// What leaves by an uplink goes on to do so.
const STAYS: &str = "a flow keeps the personality that it leaves by";
/// What has a mark keeps it.
const BORNE: &str = "a session bears its mark";

/// What a line is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Rules of the policy set the mark.
    Written,
    /// tapgate does so without marks.
    Implied(&'static str),
    /// It is left out, for this reason.
    Left(String),
}

/// What all of them are for.
#[derive(Debug, Default)]
pub(super) struct Purposes {
    lines: Vec<(Origin, Purpose)>,
    /// Marks of flows from inside as the policy gives them, in their order: the first that is for one holds.
    pub(super) classes: Vec<(Family, Vec<Given>)>,
    /// Marks that nobody needs here, and the device that what has them came or leaves by.
    pub(super) needless: Vec<(Inet, u32, String)>,
    /// Marks that lines set that are left out; `None`: any.
    pub(super) left: Vec<(Inet, Option<u32>)>,
}

/// A mark of flows.
#[derive(Debug)]
pub(super) struct Given {
    pub(super) when: Match,
    /// The mark, and the lines that it is from, the last first; `None`: none.
    pub(super) mark: Option<(u32, Vec<Origin>)>,
    /// The devices that they come in by.
    pub(super) from: BTreeSet<String>,
}

impl Purposes {
    /// Notes that a line is left out.
    pub(super) fn leave(&mut self, marking: Marking) {
        let both = [Inet::V4, Inet::V6];
        self.left.extend(both.map(|inet| (inet, marking.value())));
    }

    /// What a line is for.
    pub(super) fn of(&self, origin: &Origin) -> Option<&Purpose> {
        let known = self.lines.iter().find(|(known, _)| known == origin);
        known.map(|(_, purpose)| purpose)
    }

    /// Finds out about all lines of a family.
    pub(super) fn find(
        &mut self,
        marks: &[&Marks],
        family: Family,
        system: &System,
        links: &Links,
    ) {
        let mut work = Work {
            marks,
            family,
            inet: inet(family),
            system,
            links,
            purposes: self,
        };
        let found = match only_marked(system, work.inet) {
            Ok(()) => work.find(),
            Err(why) => Err(why),
        };
        if let Err(why) = found {
            work.leave_all(&why);
        }
    }

    /// Says what lines are for. What is left out for one reason, is.
    fn say(&mut self, lines: &[&Origin], purpose: &Purpose) {
        for origin in lines {
            let known = self.lines.iter_mut().find(|(known, _)| known == *origin);
            match known {
                None => self.lines.push(((*origin).clone(), purpose.clone())),
                Some((_, Purpose::Left(_))) => {}
                Some((_, known)) => {
                    let stays = *known == Purpose::Written && !matches!(purpose, Purpose::Left(_));
                    if !stays {
                        *known = purpose.clone();
                    }
                }
            }
        }
    }
}

struct Work<'w, 'p> {
    marks: &'w [&'w Marks],
    family: Family,
    inet: Inet,
    system: &'w System,
    links: &'w Links,
    purposes: &'p mut Purposes,
}

impl<'w> Work<'w, '_> {
    fn find(&mut self) -> Result<(), String> {
        self.unclear();
        let all = vec![Class::all(0, Vec::new())];
        let mut first = run(self.marks, Packets::First, all, false)?;
        for class in &mut first {
            class.routed = class.packet;
            class.routed_by = class.lines[0].clone();
        }
        let mut given = Vec::new();
        for class in &first {
            let mut one = Given {
                when: class.when.clone(),
                mark: None,
                from: BTreeSet::new(),
            };
            if let Some(from) = self.first_packets(class) {
                one.from = from;
                let lines = class.routed_by.iter().map(|line| (*line).clone());
                one.mark = Some((class.packet, lines.collect()));
            }
            given.push(one);
        }
        let last = given.iter().rposition(|one| one.mark.is_some());
        given.truncate(last.map_or(0, |last| last + 1));
        if !given.is_empty() {
            self.purposes.classes.push((self.family, given));
        }
        let behind = run(self.marks, Packets::First, first, true)?;
        for class in behind.iter().filter(|class| class.connection != 0) {
            let class_of = vec![Class::all(class.connection, class.lines[1].clone())];
            let later = run(self.marks, Packets::Later, class_of, false)?;
            self.later_packets(class, &later);
        }
        self.copies();
        Ok(())
    }

    /// Lines whose conditions cannot be said.
    fn unclear(&mut self) {
        for marks in self.marks {
            for line in marks.chains.values().flatten() {
                if matches!(line.then, Then::Unclear(_)) {
                    self.purposes.left.push((self.inet, None));
                }
                let Err(why) = &line.when else { continue };
                let why = Purpose::Left(why.clone());
                match &line.then {
                    Then::Mark(_) => self.leave(&[&line.origin], why),
                    Then::Jump(to) | Then::Goto(to) => {
                        let there = marks.reached(to);
                        let there: Lines<'_> = there
                            .filter(|line| matches!(line.then, Then::Mark(_)))
                            .map(|line| &line.origin)
                            .collect();
                        self.leave(&there, why);
                    }
                    _ => {}
                }
            }
        }
    }

    /// What a mark of first packets is for; the devices that they come in by, if the policy gives it.
    fn first_packets(&mut self, class: &Class<'w>) -> Option<BTreeSet<String>> {
        let rules = asking(self.system, self.inet, class.packet);
        if class.packet == 0 || rules.is_empty() {
            return None;
        }
        let (inside, outside) = self.sides(&class.when);
        let lines = &class.routed_by;
        if outside.is_empty() {
            if inside.is_empty() {
                return None;
            }
            let given = self.may_be_given(&class.when, &inside);
            return match given {
                Ok(()) => {
                    self.purposes.say(lines, &Purpose::Written);
                    Some(inside)
                }
                Err(why) => {
                    self.leave(lines, Purpose::Left(why));
                    None
                }
            };
        }
        let by_itself = match (outside.first(), outside.len(), inside.is_empty()) {
            (Some(device), 1, true) => {
                let leads = |rule: &_| leads_by(self.system, self.links, rule, device);
                rules.iter().all(|rule| leads(rule)).then_some(device)
            }
            _ => None,
        };
        match by_itself {
            Some(device) => self.needless(lines, class.packet, device, ANSWERED),
            None => {
                let why =
                    "it marks what comes from outside too, which is routed by destination alone";
                self.leave(lines, Purpose::Left(why.to_owned()));
            }
        }
        None
    }

    /// What the mark of a connection, whose first packet `class` is, does to those after it.
    fn later_packets(&mut self, class: &Class<'w>, later: &[Class<'w>]) {
        let (from_inside, from_outside) = self.sides(&class.when);
        let uplinks = &self.links.uplinks;
        let to = class.when.to.among(&self.links.all);
        let to: Option<BTreeSet<String>> = to.filter(|to| to.is_subset(uplinks));
        // Answers have its protocol alone.
        let of_flow = Match {
            service: Service {
                protocols: class.when.service.protocols.clone(),
                ..Service::default()
            },
            ..Match::default()
        };
        let of_flow = match from_outside.is_empty() {
            true => Match {
                to: Devices::default(),
                ..class.when.clone()
            },
            false => of_flow,
        };
        for packets in later {
            let rules = asking(self.system, self.inet, packets.packet);
            let Some(when) = packets.when.and(&of_flow) else {
                continue;
            };
            let (inside, _) = self.sides(&when);
            let lines = &packets.lines[0];
            // What is marked for another reason, is whether or not it answers: and answers go back.
            let by_connection = lines.iter().any(|line| class.lines[1].contains(line));
            let is_routed = packets.packet != 0 && !rules.is_empty() && !inside.is_empty();
            if !is_routed || !by_connection {
                continue;
            }
            let all_by = |devices: &BTreeSet<String>| {
                let device = devices.first().filter(|_| devices.len() == 1)?;
                let leads = |rule: &_| leads_by(self.system, self.links, rule, device);
                rules.iter().all(|rule| leads(rule)).then(|| device.clone())
            };
            if let Some(device) = to.as_ref().and_then(all_by) {
                self.needless(lines, packets.packet, &device, STAYS);
            } else if from_outside.is_empty() && packets.packet == class.routed {
                let more: Lines<'_> = lines
                    .iter()
                    .filter(|line| !class.routed_by.contains(line))
                    .copied()
                    .collect();
                self.purposes.say(&more, &Purpose::Implied(BORNE));
            } else if let Some(device) = all_by(&from_outside).filter(|_| from_inside.is_empty()) {
                self.needless(lines, packets.packet, &device, ANSWERED);
            } else {
                let why = "it leads later packets of a flow elsewhere than its first, and a session keeps its way";
                self.leave(lines, Purpose::Left(why.to_owned()));
            }
        }
    }

    /// Lines that only copy marks.
    fn copies(&mut self) {
        let left = |(_, purpose): &(Origin, Purpose)| matches!(purpose, Purpose::Left(_));
        let any_left = self.purposes.lines.iter().any(left);
        if any_left || self.purposes.lines.is_empty() {
            return;
        }
        for (origin, marking) in self.marks.iter().flat_map(|marks| marks.lines()) {
            if marking.take != 0 && self.purposes.of(origin).is_none() {
                self.purposes.say(&[origin], &Purpose::Implied(BORNE));
            }
        }
    }

    /// The devices that these come in by: inside, and outside.
    fn sides(&self, when: &Match) -> (BTreeSet<String>, BTreeSet<String>) {
        let all = &self.links.all;
        let from = when.from.among(all).unwrap_or_else(|| all.clone());
        from.into_iter()
            .partition(|device| !self.links.uplinks.contains(device))
    }

    /// Whether the policy can give flows their mark.
    fn may_be_given(&self, when: &Match, inside: &BTreeSet<String>) -> Result<(), String> {
        if when.to_own {
            return Err("a rule is not asked whether an address is the router's own".to_owned());
        }
        if inside
            .iter()
            .any(|device| self.links.interfaces(device).is_empty())
        {
            return Err("it is for a device that is no network".to_owned());
        }
        if !finds_way(self.system, self.inet) {
            let why = "the policy gives marks to what finds a way without one, and there is no default route";
            return Err(why.to_owned());
        }
        let firewall = &self.system.firewall;
        let asks = when.destination != Addresses::default() || when.service.ports.is_some();
        let translated = firewall.dnat.iter().filter(|dnat| !dnat.to.is_empty());
        let mut translated = translated.filter(|dnat| self.is_about(dnat.family));
        if let Some(dnat) = translated.find(|dnat| asks && meet(&dnat.when, when)) {
            return Err(format!(
                "rules see destinations as they are inside, and {} translates them afterwards",
                dnat.origin.place()
            ));
        }
        match self.by_uplink(firewall, when) {
            Some(rule) => Err(format!(
                "a mark is given before it leads to an uplink, and the rule at {} asks for that",
                rule.origin.place()
            )),
            None => Ok(()),
        }
    }

    /// A rule that tells uplinks apart which these flows may leave by.
    fn by_uplink<'f>(&self, firewall: &'f Firewall, when: &Match) -> Option<&'f Rule> {
        let rules = firewall.rules.iter().filter_map(|entry| match entry {
            Entry::Rule(rule) => Some(&**rule),
            Entry::Gap(_) => None,
        });
        let uplinks = &self.links.uplinks;
        rules.chain(&firewall.defaults).find(|rule| {
            let to = rule.when.to.among(&self.links.all);
            let some = to.is_some_and(|to| {
                let meant = to.intersection(uplinks).count();
                (1..uplinks.len()).contains(&meant)
            });
            some && self.is_about(rule.family) && meet(&rule.when, when)
        })
    }

    fn is_about(&self, family: Family) -> bool {
        [self.family, Family::Both].contains(&family)
    }

    /// A mark is not needed for what these lines set it for.
    fn needless(&mut self, lines: &[&Origin], mark: u32, device: &str, why: &'static str) {
        self.purposes.say(lines, &Purpose::Implied(why));
        let needless = (self.inet, mark, device.to_owned());
        if !self.purposes.needless.contains(&needless) {
            self.purposes.needless.push(needless);
        }
    }

    fn leave(&mut self, lines: &[&Origin], why: Purpose) {
        for (origin, marking) in self.marks.iter().flat_map(|marks| marks.lines()) {
            if lines.contains(&origin) {
                self.purposes.left.push((self.inet, marking.value()));
            }
        }
        self.purposes.say(lines, &why);
    }

    fn leave_all(&mut self, why: &str) {
        let marks = self.marks;
        let all: Lines<'_> = marks
            .iter()
            .flat_map(|marks| marks.lines())
            .map(|(origin, _)| origin)
            .collect();
        self.leave(&all, Purpose::Left(why.to_owned()));
        self.purposes
            .classes
            .retain(|(family, _)| *family != self.family);
        self.purposes
            .needless
            .retain(|(inet, ..)| *inet != self.inet);
    }
}

/// Whether a flow may be both, whatever its state.
fn meet(one: &Match, other: &Match) -> bool {
    let plain = |when: &Match| Match {
        state: State::First,
        to_own: false,
        ..when.clone()
    };
    plain(one).and(&plain(other)).is_some()
}
