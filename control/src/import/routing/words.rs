//! Which words of rules and routes the file has: in one place, so that who gives it another word finds what
//! to change here.

/// A word of `[routing] rules` or of a route in `[tables]`.
pub(super) struct Word {
    /// Its key. What comes after a space tells apart what is written under one key.
    pub(super) name: &'static str,
    /// The file has it.
    pub(super) known: bool,
    /// What is written where it does not.
    pub(super) without: Without,
}

/// What is written of an entry that has a word too many.
#[derive(Clone, Copy)]
pub(super) enum Without {
    /// Nothing: it would say something else.
    Nothing,
    /// The rest of it; and this is said.
    Rest(&'static str),
    /// The rest of it, and nobody misses the word.
    Enough(&'static str),
}

const fn has(name: &'static str) -> Word {
    Word {
        name,
        known: true,
        without: Without::Nothing,
    }
}

const fn lacks(name: &'static str, without: Without) -> Word {
    Word {
        name,
        known: false,
        without,
    }
}

/// A rule's words.
pub(super) const RULE: &[Word] = &[
    has("priority"),
    has("from"),
    has("to"),
    has("iif"),
    has("lookup"),
    has("action"),
    has("suppress_prefixlength"),
    has("oif"),
    has("fwmark"),
    has("tos"),
    has("dscp"),
    has("ipproto"),
    has("sport"),
    has("dport"),
    has("not"),
    has("goto"),
    has("action nop"),
];

/// A route's words.
pub(super) const ROUTE: &[Word] = &[
    has("to"),
    has("via"),
    has("dev"),
    has("onlink"),
    has("type"),
    has("via of the other family"),
    has("metric"),
    lacks(
        "src",
        Without::Enough("`src` is for what the host itself sends; the route is written without it"),
    ),
    lacks(
        "mtu",
        Without::Rest(
            "the route is written without it; `mtu` of the port is for all that leaves there",
        ),
    ),
    lacks(
        "advmss",
        Without::Rest(
            "the route is written without it; `clamp_mss = true` of the personality fits all",
        ),
    ),
    has("nexthops"),
];

/// Whether the file has a word, and what to do if not.
pub(super) fn find(words: &'static [Word], name: &str) -> Option<&'static Word> {
    words.iter().find(|word| word.name == name)
}

/// Whether the file has a word.
pub(super) fn known(words: &'static [Word], name: &str) -> bool {
    find(words, name).is_some_and(|word| word.known)
}
