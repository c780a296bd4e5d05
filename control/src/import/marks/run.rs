//! Chains that set marks, walked for all packets at once: these are taken apart by what lines ask for.

use std::collections::BTreeSet;

use super::super::line::{Asked, Line, Marking, Marks, Of, Origin, Then, Verdict};
use super::super::matching::{Match, State};

/// Most parts that packets are taken into.
const MOST_CLASSES: usize = 256;
/// Deepest nesting of jumps, and most lines that are walked.
const DEEPEST: usize = 32;
const MOST_STEPS: usize = 20_000;
/// Where packets are that have left a chain of the kernel's own.
const OUT: usize = 0;

/// Which packets come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Packets {
    /// The first of each connection.
    First,
    /// Those after it, in either direction.
    Later,
}

/// Packets that ask for this, and for nothing that a class before it asks for.
#[derive(Debug, Clone)]
pub(super) struct Class<'m> {
    pub(super) when: Match,
    pub(super) packet: u32,
    pub(super) connection: u32,
    /// The packet's mark when it was routed.
    pub(super) routed: u32,
    /// The lines that its marks are from, the packet's and the connection's.
    pub(super) lines: [Lines<'m>; 2],
    /// The same of the mark that it was routed with.
    pub(super) routed_by: Lines<'m>,
    /// The chain that they are in, or have come back to.
    at: usize,
}

/// Lines, by where they stand.
pub(super) type Lines<'m> = Vec<&'m Origin>;

impl<'m> Class<'m> {
    /// All packets of connections that have this mark by these lines.
    pub(super) fn all(connection: u32, lines: Lines<'m>) -> Self {
        Self {
            when: Match::default(),
            packet: 0,
            connection,
            routed: 0,
            lines: [Vec::new(), lines],
            routed_by: Vec::new(),
            at: OUT,
        }
    }

    fn mark(&mut self, of: Of) -> &mut u32 {
        match of {
            Of::Packet => &mut self.packet,
            Of::Connection => &mut self.connection,
        }
    }

    fn holds(&self, asked: &Asked) -> bool {
        let mark = match asked.of {
            Of::Packet => self.packet,
            Of::Connection => self.connection,
        };
        ((mark ^ asked.value) & asked.mask == 0) != asked.not
    }

    fn set(&mut self, line: &'m Line, marking: Marking) {
        let Marking {
            to,
            keep,
            take,
            flip,
        } = marking;
        let other = match to {
            Of::Packet => Of::Connection,
            Of::Connection => Of::Packet,
        };
        let taken = *self.mark(other) & take;
        let mark = self.mark(to);
        *mark = (*mark & keep) ^ taken ^ flip;
        let mut lines = vec![&line.origin];
        let mut from = |of: Of| lines.extend(&self.lines[of as usize]);
        if keep != 0 {
            from(to);
        }
        if take != 0 {
            from(other);
        }
        line.marks.iter().for_each(|asked| from(asked.of));
        let mut seen = BTreeSet::new();
        lines.retain(|origin| seen.insert(std::ptr::from_ref(*origin)));
        self.lines[to as usize] = lines;
    }
}

/// What packets have for marks behind these chains.
///
/// # Errors
/// It cannot be said, for this reason.
pub(super) fn run<'m>(
    marks: &[&'m Marks],
    packets: Packets,
    mut classes: Vec<Class<'m>>,
    routed: bool,
) -> Result<Vec<Class<'m>>, String> {
    for marks in marks {
        let mut run = Run {
            marks,
            packets,
            classes,
            last: OUT,
            steps: 0,
        };
        let chains = match routed {
            false => &marks.before,
            true => &marks.after,
        };
        for chain in chains {
            run.enter(chain)?;
        }
        classes = run.classes;
    }
    Ok(classes)
}

struct Run<'m> {
    marks: &'m Marks,
    packets: Packets,
    classes: Vec<Class<'m>>,
    /// The number of the last chain that was entered.
    last: usize,
    steps: usize,
}

impl<'m> Run<'m> {
    /// All packets come to a chain of the kernel's own.
    fn enter(&mut self, chain: &str) -> Result<(), String> {
        self.last += 1;
        let at = self.last;
        self.move_all(OUT, at);
        self.chain(chain, (at, OUT), 0)?;
        self.move_all(at, OUT);
        Ok(())
    }

    /// Those that are at one place are at another.
    fn move_all(&mut self, from: usize, to: usize) {
        let there = self.classes.iter_mut().filter(|class| class.at == from);
        there.for_each(|class| class.at = to);
    }

    /// Walks a chain for those that are in it; `back`: where they return to.
    fn chain(
        &mut self,
        name: &str,
        (at, back): (usize, usize),
        depth: usize,
    ) -> Result<(), String> {
        let marks = self.marks;
        for line in marks.chains.get(name).into_iter().flatten() {
            self.steps += 1;
            if self.steps > MOST_STEPS || depth > DEEPEST {
                return Err("the chains jump to each other too often".to_owned());
            }
            let when = match &line.when {
                Ok(when) => when,
                Err(_) => match may_leave(marks, line) {
                    true => return Err(unsure(line)),
                    false => continue,
                },
            };
            let Some(when) = self.asked(when) else {
                continue;
            };
            self.last += 1;
            let inner = self.last;
            match &line.then {
                Then::Mark(marking) => {
                    self.split(line, &when, at, |class| class.set(line, *marking))?;
                }
                Then::Jump(to) => {
                    self.split(line, &when, at, |class| class.at = inner)?;
                    self.chain(to, (inner, at), depth + 1)?;
                    self.move_all(inner, at);
                }
                Then::Goto(to) => {
                    self.split(line, &when, at, |class| class.at = inner)?;
                    self.chain(to, (inner, back), depth + 1)?;
                    self.move_all(inner, back);
                }
                Then::Return => self.split(line, &when, at, |class| class.at = back)?,
                Then::Decide(_) => self.split(line, &when, at, |class| class.at = OUT)?,
                _ => {}
            }
        }
        Ok(())
    }

    /// What a line asks of these packets; `None`: it is not about them.
    fn asked(&self, when: &Match) -> Option<Match> {
        let is_about = match (self.packets, when.state) {
            (Packets::First, State::First | State::NotRedirected) => true,
            // Whether it is only about first packets is not known of this one.
            (Packets::Later, State::Group | State::Stray) => false,
            (Packets::Later, _) => true,
            (Packets::First, _) => false,
        };
        is_about.then(|| Match {
            state: State::First,
            ..when.clone()
        })
    }

    /// Takes those that a line is for from their classes, and changes them.
    fn split(
        &mut self,
        line: &'m Line,
        when: &Match,
        at: usize,
        change: impl Fn(&mut Class<'m>),
    ) -> Result<(), String> {
        let mut left = Vec::new();
        for class in std::mem::take(&mut self.classes) {
            let meant = class.at == at && line.marks.iter().all(|asked| class.holds(asked));
            let both = class.when.and(when).filter(|_| meant);
            let Some(both) = both else {
                left.push(class);
                continue;
            };
            let all = both == class.when;
            let mut part = class.clone();
            part.when = both;
            change(&mut part);
            left.push(part);
            if !all {
                left.push(class);
            }
        }
        self.classes = left;
        match self.classes.len() > MOST_CLASSES {
            true => Err("marks are given to too many kinds of packets".to_owned()),
            false => Ok(()),
        }
    }
}

/// Whether packets may leave a chain by a line whose conditions cannot be said.
fn may_leave(marks: &Marks, line: &Line) -> bool {
    match &line.then {
        Then::Return | Then::Decide(Verdict::Accept) | Then::Goto(_) => true,
        Then::Jump(to) => marks
            .reached(to)
            .any(|line| line.then == Then::Decide(Verdict::Accept)),
        _ => false,
    }
}

fn unsure(line: &Line) -> String {
    format!(
        "which packets come to it depends on what cannot be said ({})",
        line.origin.place()
    )
}
