//! Numbers for names. A name keeps its number from one snapshot to the next.

use std::collections::{BTreeMap, HashSet};

/// The names of one kind of thing with their numbers.
#[derive(Debug, Clone, Default)]
pub(crate) struct Names {
    numbers: BTreeMap<String, u16>,
    /// By number: the name, and the generation that gave it the number.
    given: Vec<Option<(String, u32)>>,
}

impl Names {
    /// Gives each of `names` a number in `generation`. A name that `previous` knows keeps its
    /// number; a new name gets one that nobody had in `previous`.
    pub(crate) fn assign<'a>(
        names: impl Iterator<Item = &'a str>,
        previous: Option<&Self>,
        generation: u32,
    ) -> Self {
        let known = |name: &str| {
            let previous = previous?;
            let number = *previous.numbers.get(name)?;
            Some((number, previous.since(number)))
        };
        let mut taken: HashSet<u16> = previous
            .iter()
            .flat_map(|previous| previous.numbers.values().copied())
            .collect();
        let mut next = 0;
        let mut assigned = Self::default();
        for name in names {
            let (number, since) = known(name).unwrap_or_else(|| {
                while !taken.insert(next) {
                    next += 1;
                }
                (next, generation)
            });
            let place = usize::from(number);
            if assigned.given.len() <= place {
                assigned.given.resize(place + 1, None);
            }
            assigned.given[place] = Some((name.to_owned(), since));
            assigned.numbers.insert(name.to_owned(), number);
        }
        assigned
    }

    pub(crate) fn number(&self, name: &str) -> Option<u16> {
        self.numbers.get(name).copied()
    }

    pub(crate) fn name(&self, number: u16) -> &str {
        let given = self.given.get(usize::from(number));
        given
            .and_then(Option::as_ref)
            .map_or("(gone)", |(name, _)| name)
    }

    /// The generation in which the number was given to the name that has it; `u32::MAX` if none
    /// has it.
    pub(crate) fn since(&self, number: u16) -> u32 {
        let given = self.given.get(usize::from(number));
        given
            .and_then(Option::as_ref)
            .map_or(u32::MAX, |(_, since)| *since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_their_numbers_and_a_number_tells_since_when_it_is_whose() {
        let first = Names::assign(["a", "b"].into_iter(), None, 1);
        let second = Names::assign(["b", "c"].into_iter(), Some(&first), 2);
        assert_eq!(second.number("b"), first.number("b"));
        assert_eq!(second.number("c"), Some(2), "the number of `a` rests");
        let third = Names::assign(["b", "d"].into_iter(), Some(&second), 3);
        assert_eq!(third.number("d"), first.number("a"), "and is given anew");
        assert_eq!((third.since(0), third.since(1)), (3, 1));
        assert_eq!((third.name(0), third.name(2)), ("d", "(gone)"));
        assert_eq!(third.since(2), u32::MAX);
    }
}
