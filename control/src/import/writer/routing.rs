//! `[tables]` and `[routing]` as a system has them.

use std::fmt::Write;

use super::super::routing::Routing;
use super::quote::{entries, quote};
use super::toml::{inline, key};

/// Writes both.
pub(super) fn write(out: &mut String, routing: &Routing) {
    out.push_str("\n[tables]\n");
    for (name, routes) in &routing.tables {
        if routes.is_empty() {
            let _ = writeln!(out, "{} = []", key(name));
            continue;
        }
        let _ = writeln!(out, "{} = [", key(name));
        for (fields, origin) in routes {
            quote(out, "  ", origin);
            let _ = writeln!(out, "  {},", inline(fields));
        }
        out.push_str("]\n");
    }
    if !routing.rules.is_empty() {
        out.push_str("\n[routing]\n");
        let rules = routing.rules.iter();
        entries(
            out,
            "rules",
            rules.map(|(fields, origin)| (inline(fields), origin)),
        );
    }
}
