//! `[router]`.

use super::address;
use super::check::{Check, place};
use crate::config::{File, Limits, RouterSection, Segment, Timeouts};

impl Check {
    /// Checks limits and identity of the router as a whole.
    pub(super) fn router(&mut self, file: &File) {
        let router = &file.router;
        if let Some(why) = address::not_a_host(router.id.into()) {
            self.fault(
                place!["router", "id"],
                format!("{} {why}", router.id),
                "write an IPv4 address of the router's own, or leave it out",
            );
        }
        self.timeouts(&router.timeouts);
        self.ranges(router);
        self.limits(&router.limits, || place!["router", "limits"]);
    }

    fn timeouts(&mut self, timeouts: &Timeouts) {
        let minimum = [
            (
                "tcp_established",
                timeouts.tcp_established,
                7_440,
                "RFC 5382 REQ-5",
            ),
            (
                "tcp_transitory",
                timeouts.tcp_transitory,
                240,
                "RFC 5382 REQ-5",
            ),
            (
                "tcp_opening",
                timeouts.tcp_opening.unwrap_or(30),
                30,
                "a SYN that was lost is repeated",
            ),
            (
                "tcp_closing",
                timeouts.tcp_closing.unwrap_or(240),
                240,
                "RFC 7857 §2.2",
            ),
            ("udp", timeouts.udp, 120, "RFC 4787 REQ-5"),
            ("icmp", timeouts.icmp, 60, "RFC 5508 REQ-1"),
            ("other", timeouts.other, 1, "no session can end at once"),
        ];
        for (key, value, least, why) in minimum {
            if value < least {
                self.fault(
                    place!["router", "timeouts", key],
                    format!("{value} s is too short ({why})"),
                    format!("write {least} or more, or leave it out"),
                );
            }
        }
    }

    fn ranges(&mut self, router: &RouterSection) {
        if router.proxy_delay > 1_000 {
            self.fault(
                place!["router", "proxy_delay"],
                format!(
                    "{} ms is too long: who asks gives up after 1 s",
                    router.proxy_delay
                ),
                "write 0 to 1000 milliseconds",
            );
        }
        if router.announce_interval > 0 && router.announce_interval < 10 {
            self.fault(
                place!["router", "announce_interval"],
                format!("every {} s is too often", router.announce_interval),
                "write 10 or more seconds, or 0 to announce only at a start or change",
            );
        }
        for (key, value, most) in [
            ("answers_per_second", router.answers_per_second, 1_000_000),
            ("sessions", router.sessions, 1 << 24),
            ("neighbors", router.neighbors, 60_000),
        ] {
            if value == 0 || value > most {
                self.fault(
                    place!["router", key],
                    format!("{value} is out of range"),
                    format!("write 1 to {most}"),
                );
            }
        }
    }

    /// Checks what a guest may use, which is written in the table at `place`.
    pub(super) fn limits(&mut self, limits: &Limits, place: impl Fn() -> Vec<Segment>) {
        for (key, value) in [
            ("sessions", limits.sessions),
            ("new_sessions_per_second", limits.new_sessions_per_second),
            ("unanswered_syns", limits.unanswered_syns),
            (
                "new_destinations_per_second",
                limits.new_destinations_per_second,
            ),
            ("ports", limits.ports),
            ("icmp_errors_per_second", limits.icmp_errors_per_second),
        ] {
            if value == Some(0) {
                let mut at = place();
                at.push(key.into());
                self.fault(
                    at,
                    format!("with {key} = 0 a guest can do nothing"),
                    "write 1 or more, or leave it out",
                );
            }
        }
    }
}
