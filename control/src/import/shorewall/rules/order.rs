//! The order in which rules and policies are asked.

use std::collections::BTreeSet;

use super::super::super::firewall::{Decision, Entry, Fate, Origin, Place, Rule, Verdict};
use super::super::super::matching::{Family, Match};
use super::super::lines::Row;
use super::super::side::{Pair, Side, grouped, within};
use super::{Line, What, Work};

/// A line of `policy`.
pub(super) struct Policy {
    from: Side,
    to: Side,
    /// None: flows go on to be asked as of a zone around.
    decision: Option<Decision>,
    origin: Origin,
}

impl Policy {
    fn is_for(&self, (from, to): Pair) -> bool {
        let both = self.from.zones.contains(&from) && self.to.zones.contains(&to);
        both && (from != to || within(&self.from, &self.to))
    }
}

impl Work<'_, '_> {
    pub(super) fn policies(&mut self, rows: &[Row]) -> Vec<Policy> {
        let mut policies = Vec::new();
        for row in rows {
            let (from, to) = match (
                self.zones.side(row.column(0, "source")),
                self.zones.side(row.column(1, "dest")),
            ) {
                (Ok(from), Ok(to)) => (from, to),
                (Err(why), _) | (_, Err(why)) => {
                    self.reader.firewall.note(&row.origin, Fate::Wider, why);
                    continue;
                }
            };
            let name = row.column(2, "policy");
            let name = name.split([':', '(', ' ']).next().unwrap_or_default();
            let verdict = match name {
                "ACCEPT" => Some(Verdict::Accept),
                "DROP" | "BLACKLIST" => Some(Verdict::Drop),
                "REJECT" => Some(Verdict::Reject),
                // No flows are expected.
                "NONE" => Some(Verdict::Drop),
                "CONTINUE" => None,
                other => {
                    let why =
                        format!("the policy {other} asks another program; it is written as drop");
                    self.reader.firewall.note(&row.origin, Fate::Missing, why);
                    Some(Verdict::Drop)
                }
            };
            if from.zones.is_empty() || to.zones.is_empty() {
                self.reader
                    .firewall
                    .note(&row.origin, Fate::Host, "about the host's own packets");
                continue;
            }
            let logs = row.column(3, "loglevel");
            let log = !logs.is_empty() && !logs.eq_ignore_ascii_case("none");
            if !row.column(4, "limit").is_empty() || !row.column(5, "connlimit").is_empty() {
                let why =
                    "what holds where no rule says more has no rate and no number of connections";
                let fate = if verdict == Some(Verdict::Accept) {
                    Fate::Wider
                } else {
                    Fate::Missing
                };
                self.reader.firewall.note(&row.origin, fate, why);
            }
            policies.push(Policy {
                from,
                to,
                decision: verdict.map(|verdict| Decision {
                    log,
                    ..verdict.into()
                }),
                origin: row.origin.clone(),
            });
        }
        policies
    }

    /// Where zones are devices and nothing else, a flow is in one pair, and rules stay in their order.
    pub(super) fn flat(&mut self, lines: Vec<Line>, policies: &[Policy]) {
        for line in lines {
            match line.what {
                What::Gap(note) => self.reader.firewall.rules.push(Entry::Gap(note)),
                What::Rule(when, decision, origin) => {
                    for (from, to) in grouped(&line.pairs) {
                        self.emit((&from, &to), &when, decision, &origin);
                    }
                }
            }
        }
        for zone in 0..self.zones.names.len() {
            let said = policies.iter().any(|policy| policy.is_for((zone, zone)));
            if let (false, Some(when)) = (said, self.within(zone)) {
                let origin = self.implicit(zone, policies);
                self.default(when, Verdict::Accept.into(), &origin);
            }
        }
        for policy in policies {
            let Some(decision) = policy.decision else {
                continue;
            };
            for side in self.both(&policy.from.zones, &policy.to.zones) {
                self.default(side, decision, &policy.origin);
            }
        }
    }

    /// Where zones are addresses behind devices, Shorewall asks zone by zone, the inner ones first; so do
    /// the rules that are written.
    pub(super) fn by_pairs(&mut self, lines: &[Line], policies: &[Policy]) {
        let all = self.zones.names.len();
        let mut told: BTreeSet<usize> = BTreeSet::new();
        for line in lines.iter().filter(|line| line.pairs.is_empty()) {
            if let What::Gap(note) = &line.what {
                self.reader.firewall.rules.push(Entry::Gap(note.clone()));
            }
        }
        for pair in (0..all).flat_map(|from| (0..all).map(move |to| (from, to))) {
            let (from, to) = ([pair.0].into(), [pair.1].into());
            for (n, line) in lines
                .iter()
                .enumerate()
                .filter(|(_, line)| line.pairs.contains(&pair))
            {
                match &line.what {
                    What::Gap(note) => {
                        if told.insert(n) {
                            self.reader.firewall.rules.push(Entry::Gap(note.clone()));
                        }
                    }
                    What::Rule(when, decision, origin) => {
                        self.emit((&from, &to), when, *decision, origin)
                    }
                }
            }
            match policies.iter().find(|policy| policy.is_for(pair)) {
                Some(policy) => {
                    if let Some(decision) = policy.decision {
                        self.emit((&from, &to), &Match::default(), decision, &policy.origin);
                    }
                }
                None if pair.0 == pair.1 => {
                    if let Some(when) = self.within(pair.0) {
                        let origin = self.implicit(pair.0, policies);
                        self.emit((&from, &to), &when, Verdict::Accept.into(), &origin);
                    }
                }
                None => {}
            }
        }
    }

    fn emit(
        &mut self,
        (from, to): (&BTreeSet<usize>, &BTreeSet<usize>),
        when: &Match,
        decision: Decision,
        origin: &Origin,
    ) {
        for when in self.both(from, to).iter().filter_map(|side| side.and(when)) {
            self.reader.firewall.rules.push(Entry::Rule(Box::new(Rule {
                when,
                family: Family::V4,
                decision,
                origin: origin.clone(),
            })));
        }
    }

    pub(super) fn default(&mut self, when: Match, decision: Decision, origin: &Origin) {
        self.reader.firewall.defaults.push(Rule {
            when,
            family: Family::V4,
            decision,
            origin: origin.clone(),
        });
    }

    /// What it means to come from some zones and go to others; from all of them means from anywhere.
    fn both(&self, from: &BTreeSet<usize>, to: &BTreeSet<usize>) -> Vec<Match> {
        let all = self.zones.names.len();
        let sides = |zones: &BTreeSet<usize>, to| match zones.len() == all && !self.zones.by_address
        {
            true => vec![Match::default()],
            false => self.zones.sides(zones, to),
        };
        let (from, to) = (sides(from, false), sides(to, true));
        from.iter()
            .flat_map(|from| to.iter().filter_map(|to| from.and(to)))
            .collect()
    }

    /// Flows within a zone, which pass unless something is said of them; not those of an uplink, which
    /// have no business here.
    fn within(&self, zone: usize) -> Option<Match> {
        let sides = self.both(&[zone].into(), &[zone].into());
        let uplinks = &self.reader.firewall.uplinks;
        let outside = |when: &Match| {
            when.from
                .within
                .iter()
                .flatten()
                .any(|device| uplinks.contains(device))
        };
        match sides.iter().any(outside) {
            true => None,
            false => sides.into_iter().next(),
        }
    }

    /// Where it would be written that flows within a zone pass.
    fn implicit(&self, zone: usize, policies: &[Policy]) -> Origin {
        let file = policies
            .first()
            .map_or_else(|| "policy".into(), |policy| policy.origin.file.clone());
        Origin {
            file,
            place: Place::Line(0),
            text: format!(
                "within {} flows pass unless it says otherwise",
                self.zones.names[zone]
            ),
        }
    }
}
