//! Chains of rules that jump to each other, as iptables and nftables have them, walked in order.

use std::net::IpAddr;

use super::firewall::{Decision, Dnat, Entry, Fate, Firewall, Origin, Rule, Snat, Verdict, Worn};
pub(super) use super::line::{Chains, Line, Then};
use super::matching::{Match, State, few};
use super::untranslated::{HARMLESS, LOGS, TARGETS, why};
use super::words::Goal;

/// Deepest nesting of jumps; nftables allows 16.
const DEEPEST: usize = 32;
/// Most lines walked, those of a chain once for each jump to it.
const MOST_STEPS: usize = 200_000;

/// Most parts that the flows in a chain are taken into.
const MOST_WAYS: usize = 64;

/// Whether a line decides about exactly the flows that the one before it is for.
fn decides_same(line: &Line, before: &Line) -> bool {
    matches!(line.then, Then::Decide(_))
        && (line.asks(), line.family) == (before.asks(), before.family)
}

/// Where a destination translation leads.
pub(super) fn destinations(goals: &[Goal]) -> Then {
    let mut to: Vec<IpAddr> = Vec::new();
    let mut port = None;
    for goal in goals {
        let Some((first, last)) = goal.addresses else {
            return Then::Unclear("it changes the port alone, of whatever address".to_owned());
        };
        let Some(all) = few(&(first, last)) else {
            return Then::Unclear("it goes to too many addresses".to_owned());
        };
        to.extend(all);
        match goal.ports {
            None => {}
            Some((first, last)) if first == last && (port.is_none() || port == Some(first)) => {
                port = Some(first)
            }
            Some(_) => return Then::Unclear("it goes to one of several ports".to_owned()),
        }
    }
    match to.is_empty() {
        true => Then::Unclear("it does not say where it goes".to_owned()),
        false => Then::Dnat(to, port),
    }
}

/// What a chain is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hook {
    Forward,
    Prerouting,
    Postrouting,
}

/// Walks `chain`, and what it jumps to, into a firewall.
pub(super) fn walk(firewall: &mut Firewall, chains: &Chains, chain: &str, hook: Hook) {
    let mut walk = Walk {
        firewall,
        chains,
        hook,
        steps: 0,
    };
    walk.chain(chain, &[Match::default()], 0);
}

struct Walk<'w> {
    firewall: &'w mut Firewall,
    chains: &'w Chains,
    hook: Hook,
    steps: usize,
}

impl Walk<'_> {
    /// Walks a chain for flows that are one of `entered`. What comes back from it is what it was.
    fn chain(&mut self, name: &str, entered: &[Match], depth: usize) {
        let chains = self.chains;
        let mut alive = entered.to_vec();
        let lines = chains.get(name).map(Vec::as_slice).unwrap_or_default();
        let mut lines = lines.iter();
        let mut log = false;
        while let Some(line) = lines.next() {
            // Of the line before this one.
            let logged = std::mem::take(&mut log);
            self.steps += 1;
            if self.steps > MOST_STEPS || depth > DEEPEST {
                self.left_out(line, "the chains jump to each other too often");
                return;
            }
            let when = match line.asks() {
                Ok(when) => when,
                Err(why) => {
                    self.unclear(line, why, depth);
                    let leaves = match &line.then {
                        Then::Return => true,
                        Then::Goto(to) => !self.ends(to, true),
                        _ => false,
                    };
                    if leaves {
                        return self.rest(lines.as_slice());
                    }
                    continue;
                }
            };
            if matches!(when.state, State::Answers | State::Stray | State::Group) {
                self.about_answers(line, when.state);
                continue;
            }
            let joined: Vec<Match> = alive.iter().filter_map(|flows| flows.and(when)).collect();
            if joined.is_empty() {
                let why = "no flow that comes here is one that it asks for";
                self.firewall.note(&line.origin, Fate::Implied, why);
                continue;
            }
            match &line.then {
                Then::Jump(to) => self.chain(to, &joined, depth + 1),
                Then::Goto(to) => self.chain(to, &joined, depth + 1),
                Then::Return => {}
                Then::Nothing => {}
                Then::Other(target)
                    if self.hook == Hook::Forward
                        && LOGS.contains(&target.as_str())
                        && lines
                            .as_slice()
                            .first()
                            .is_some_and(|next| decides_same(next, line)) =>
                {
                    log = true;
                }
                Then::Other(target) => {
                    let why = why(TARGETS, target).unwrap_or("there is no word for what it does");
                    self.left_out(line, why);
                }
                Then::Mark(_) => self.left_out(line, why(TARGETS, "MARK").unwrap_or_default()),
                Then::Unclear(why) => self.left_out(line, why),
                Then::Decide(verdict) => {
                    let verdict = *verdict;
                    let decision = Decision {
                        log: logged,
                        ..verdict.into()
                    };
                    self.decide(line, &joined, decision);
                }
                Then::Snat(worn) => self.snat(line, &joined, worn),
                Then::Dnat(to, port) => self.dnat(line, &joined, to, *port),
            }
            let leaves = match &line.then {
                Then::Return => true,
                // What is decided there, comes to no later rule anyway.
                Then::Goto(to) => *when == Match::default() || !self.ends(to, false),
                _ => false,
            };
            if leaves {
                if *when == Match::default() {
                    return self.unreached(lines.as_slice());
                }
                match when.negated() {
                    Some(others) if alive.len() * others.len() <= MOST_WAYS => {
                        let both = |flows: &Match| {
                            let parts = others.iter().filter_map(|part| flows.and(part));
                            parts.collect::<Vec<_>>()
                        };
                        alive = alive.iter().flat_map(both).collect();
                        if alive.is_empty() {
                            return;
                        }
                    }
                    // At the end of nat nothing is translated.
                    _ if depth == 0 && self.hook == Hook::Postrouting => {
                        self.snat(line, &joined, &Worn::Own);
                    }
                    _ if depth == 0 && self.hook == Hook::Prerouting => {
                        self.dnat(line, &joined, &[], None);
                    }
                    _ => {
                        let why = "who returns here cannot be told from who goes on";
                        self.left_out(line, why);
                        return self.rest(lines.as_slice());
                    }
                }
            }
        }
    }

    fn decide(&mut self, line: &Line, joined: &[Match], decision: Decision) {
        match (self.hook, decision.verdict) {
            (Hook::Forward, _) => {
                for when in joined {
                    self.firewall.rules.push(Entry::Rule(Box::new(Rule {
                        when: when.clone(),
                        family: line.family,
                        decision,
                        origin: line.origin.clone(),
                    })));
                }
            }
            (Hook::Postrouting, Verdict::Accept) => self.snat(line, joined, &Worn::Own),
            (Hook::Prerouting, Verdict::Accept) => self.dnat(line, joined, &[], None),
            _ => self.left_out(line, "it refuses flows where addresses are translated"),
        }
    }

    fn snat(&mut self, line: &Line, joined: &[Match], worn: &Worn) {
        if self.hook != Hook::Postrouting {
            return self.left_out(line, "it is not where sources are translated");
        }
        for when in joined {
            self.firewall.snat.push(Snat {
                when: when.clone(),
                family: line.family,
                worn: worn.clone(),
                origin: line.origin.clone(),
            });
        }
    }

    fn dnat(&mut self, line: &Line, joined: &[Match], to: &[IpAddr], port: Option<u16>) {
        if self.hook != Hook::Prerouting {
            return self.left_out(line, "it is not where destinations are translated");
        }
        for when in joined {
            self.firewall.dnat.push(Dnat {
                when: when.clone(),
                family: line.family,
                to: to.to_vec(),
                port,
                origin: line.origin.clone(),
            });
        }
    }

    /// A rule that no first packet meets.
    fn about_answers(&mut self, line: &Line, state: State) {
        let origin = &line.origin;
        match (&line.then, state) {
            (_, State::Group) => {
                let why = "broadcasts and multicasts are not forwarded";
                self.firewall.note(origin, Fate::Implied, why);
            }
            (Then::Decide(Verdict::Drop | Verdict::Reject), State::Answers) => {
                let why = "answers follow their flow, always";
                self.gap(origin, Fate::Wider, why);
            }
            (Then::Other(_) | Then::Mark(_) | Then::Unclear(_), _) => {
                self.gap(
                    origin,
                    Fate::Missing,
                    "rules are asked about first packets alone",
                );
            }
            (_, State::Stray) => {
                let why = "what is malformed is dropped, and what belongs to no flow is judged as a first packet";
                self.firewall.note(origin, Fate::Implied, why);
            }
            _ => {
                let why = "answers and errors follow their flow";
                self.firewall.note(origin, Fate::Implied, why);
            }
        }
    }

    /// What is left of a chain after a rule that cannot be said and after which not all go on.
    fn rest(&mut self, lines: &[Line]) {
        for line in lines {
            self.left_out(line, "it comes after a return that could not be translated");
        }
    }

    /// What comes after all have left a chain.
    fn unreached(&mut self, lines: &[Line]) {
        for line in lines {
            self.firewall
                .note(&line.origin, Fate::Implied, "nothing comes to this line");
        }
    }

    fn unclear(&mut self, line: &Line, why: &str, depth: usize) {
        let (Then::Jump(to) | Then::Goto(to)) = &line.then else {
            return self.left_out(line, why);
        };
        // What is refused there is refused no more.
        let fate = self.hardest(to, depth + 1);
        self.gap(
            &line.origin,
            fate,
            &format!("{why}; nor is what follows in the chain {to}"),
        );
    }

    /// Whether a chain decides about all that comes to it; `refused`: by refusing it.
    fn ends(&self, name: &str, refused: bool) -> bool {
        let lines = self.chains.get(name).map(Vec::as_slice).unwrap_or_default();
        let decides = |then: &Then| match then {
            Then::Decide(Verdict::Accept) => !refused,
            Then::Decide(Verdict::Drop | Verdict::Reject) => true,
            _ => false,
        };
        let stays = |then: &Then| match then {
            Then::Nothing | Then::Mark(_) => true,
            Then::Other(target) => HARMLESS.contains(&target.as_str()),
            then => decides(then),
        };
        let last = lines.last();
        let ends =
            last.is_some_and(|line| line.asks() == Ok(&Match::default()) && decides(&line.then));
        ends && lines.iter().all(|line| stays(&line.then))
    }

    /// What it means to leave out a whole chain.
    fn hardest(&mut self, name: &str, depth: usize) -> Fate {
        let chains = self.chains;
        for line in chains.get(name).into_iter().flatten() {
            self.steps += 1;
            if self.steps > MOST_STEPS || depth > DEEPEST {
                return Fate::Wider;
            }
            let fate = match &line.then {
                Then::Jump(to) | Then::Goto(to) => self.hardest(to, depth + 1),
                then => self.fate(then),
            };
            if fate == Fate::Wider {
                return fate;
            }
        }
        Fate::Missing
    }

    fn left_out(&mut self, line: &Line, why: &str) {
        let fate = self.fate(&line.then);
        self.gap(&line.origin, fate, why);
    }

    fn gap(&mut self, origin: &Origin, fate: Fate, why: &str) {
        match self.hook {
            Hook::Forward => self.firewall.gap(origin, fate, why),
            _ => self.firewall.note(origin, fate, why),
        }
    }

    fn fate(&self, then: &Then) -> Fate {
        match then {
            Then::Decide(verdict) => verdict.missing(),
            Then::Other(target) if HARMLESS.contains(&target.as_str()) => Fate::Missing,
            Then::Other(_) | Then::Unclear(_) if self.hook == Hook::Forward => Fate::Wider,
            _ => Fate::Missing,
        }
    }
}
