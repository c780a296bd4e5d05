//! The books: what the counters say of each frame, beside its verdict.

use tapgate_engine::frame::Verdict;

/// The counters that say what became of frames, and how many sessions there are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Handled {
    /// Frames that were made ready to leave, for whatever reason.
    leaving: u64,
    held: u64,
    /// Fragments that wait for others of their datagram.
    collected: u64,
    fragments: u64,
    /// Messages of which all guests of a segment have a copy.
    to_all: u64,
    /// Datagrams put together of the fragments that waited.
    reassembled: u64,
    /// Sessions taken over and begun, but for those that ended.
    balance: i128,
    sessions: u64,
}

impl Handled {
    /// From the counters by name.
    pub(super) fn of(counters: &[(&str, u64, &str)]) -> Self {
        let count = |names: &[&str]| -> u64 {
            let named = counters.iter().filter(|(name, ..)| names.contains(name));
            named.map(|(_, count, _)| count).sum()
        };
        let begun = count(&["sessions_recovered", "sessions_created"]);
        let ended = count(&["sessions_expired", "sessions_revoked", "sessions_displaced"]);
        Self {
            leaving: count(&[
                "forwarded_by_session",
                "forwarded_first",
                "icmp_errors_translated",
                "echo_replies",
                "bridged",
                "arp_requests_answered",
            ]),
            held: count(&["packets_held"]),
            collected: count(&["fragments_held"]),
            fragments: count(&["fragments_sent"]),
            to_all: count(&["bridged_to_all"]),
            reassembled: count(&["datagrams_reassembled"]),
            balance: i128::from(begun) - i128::from(ended),
            sessions: count(&["sessions"]),
        }
    }

    /// Asserts that a frame with this verdict was counted as what it is, once, and that sessions
    /// neither came nor went uncounted. `before`: the same before the frame.
    pub(super) fn check(&self, before: &Self, verdict: Verdict) {
        let leaving = self.leaving - before.leaving;
        let held = self.held - before.held;
        let collected = self.collected - before.collected;
        let fragments = self.fragments - before.fragments;
        let reassembled = self.reassembled - before.reassembled;
        let right = match verdict {
            Verdict::Emit(_) => leaving == 1 && held == 0 && fragments == 0,
            // By copies, of which the router has heard one.
            Verdict::Replaced if self.to_all > before.to_all => leaving == 0 && fragments == 0,
            // By its own fragments, or by the answer to the datagram that it completed.
            Verdict::Replaced => leaving == 1 && held == 0 && (fragments > 0 || reassembled == 1),
            // For other fragments; or the fragments of an answer wait for a next hop.
            Verdict::Hold if collected > 0 => leaving == 0 && held == 0 && fragments == 0,
            Verdict::Hold if fragments > 0 => leaving == 1 && held == fragments,
            // Of those ready to leave only an answer waits: a packet is processed anew.
            Verdict::Hold => leaving <= 1 && held == 1 && fragments == 0,
            // An answer of ours waits for its time, or what we say of it for a next hop.
            Verdict::Consumed => leaving <= 1 && fragments == 0,
            // Ready to leave, and the guard stopped it; or what its sender is told waits.
            Verdict::Drop(_) => leaving <= 1 && held <= 1 && fragments == 0,
        };
        let waits = u64::from(verdict == Verdict::Hold);
        assert!(
            right && collected <= waits && reassembled <= 1,
            "{verdict:?}: {leaving} ready to leave, {held} held, {collected} collected, {fragments} fragments"
        );
        assert_eq!(
            self.balance,
            i128::from(self.sessions),
            "sessions begun less those ended are not those there are"
        );
    }
}
