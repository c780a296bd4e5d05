//! TCP connections as the router follows them: which segments are believed, and how long a session
//! lives without any (T04, T07, T09, T10, T11, P02).

use std::time::Duration;

use tapgate_engine::drops::DropReason;
use tapgate_engine::frame::Verdict;
use tapgate_tests::packet::{Packet, error, tcp, udp, unfinished};
use tapgate_tests::recipe::*;
use tapgate_tests::router::Router;

/// One end of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Guest,
    Remote,
}
use End::{Guest, Remote};

/// A connection of the first guest's, whose ends count as real ones do.
struct Connection {
    router: Router,
    /// The guest's port.
    port: u16,
    /// What each end sends next.
    next: [u32; 2],
}

impl Connection {
    fn new(config: &str) -> Self {
        let mut router = Router::new(config);
        router.answer_everything();
        router.station("guest-a", None, "10.0.1.1", GUEST_A);
        router.station("uplink", None, "192.0.2.1", PROVIDER);
        Self {
            router,
            port: 4_000,
            next: [5_000, u32::MAX - 50],
        }
    }

    fn established(config: &str) -> Self {
        let mut connection = Self::new(config);
        connection.all(&[(Guest, "S"), (Remote, "S."), (Guest, ".")]);
        assert_eq!(connection.state(), Some("established"));
        connection
    }

    /// A segment of the connection as it is now.
    fn segment(&self, from: End, flags: &str, payload: &[u8]) -> Packet {
        let guest = match from {
            Guest => format!("10.0.1.1:{}", self.port),
            Remote => format!("203.0.113.10:{}", self.port),
        };
        let remote = "198.51.100.9:443";
        let segment = match from {
            Guest => tcp(&guest, remote, flags, payload).link(GUEST_A, NET_A),
            Remote => tcp(remote, &guest, flags, payload).link(PROVIDER, A),
        };
        let other = self.next[1 - from as usize];
        let acknowledged = if flags.contains('.') { other } else { 0 };
        let sequence = self.next[from as usize];
        segment.sequence(sequence).acknowledges(acknowledged)
    }

    /// Whether a segment passes; its sender does not count it.
    fn passes(&mut self, from: End, segment: &Packet) -> bool {
        let (port, to) = match from {
            Guest => ("guest-a", "uplink"),
            Remote => ("uplink", "guest-a"),
        };
        self.router.take_all();
        self.router.inject(port, segment.bytes());
        self.router.take_packets(to).len() == 1
    }

    /// Sends a segment, which passes.
    fn send(&mut self, from: End, flags: &str, payload: &[u8]) {
        let segment = self.segment(from, flags, payload);
        assert!(self.passes(from, &segment), "{flags} from the {from:?}");
        let marks = flags.contains('S') as usize + flags.contains('F') as usize;
        let next = &mut self.next[from as usize];
        *next = next.wrapping_add((payload.len() + marks) as u32);
    }

    fn all(&mut self, segments: &[(End, &str)]) {
        for (from, flags) in segments {
            self.send(*from, flags, b"");
        }
    }

    /// The state of the connection's session.
    fn state(&self) -> Option<&'static str> {
        let sessions = self.router.sessions();
        let mine = sessions
            .iter()
            .find(|session| session.source.1 == self.port);
        mine.map(|session| session.state)
    }

    fn wait(&mut self, seconds: u64) {
        self.router.advance(Duration::from_secs(seconds));
        self.router.take_all();
    }

    /// Whether the session lives on for less than `seconds` without a packet, and no longer.
    fn lives(mut self, seconds: u64) {
        self.wait(seconds - 1);
        assert!(self.state().is_some(), "after {} s", seconds - 1);
        self.wait(2);
        assert_eq!(self.state(), None, "after {} s", seconds + 1);
    }
}

fn with(timeouts: &str) -> String {
    let changed = MULTI_MAC.replace(
        "sessions = 4096",
        &format!("sessions = 4096\ntimeouts = {{ {timeouts} }}"),
    );
    assert_ne!(changed, MULTI_MAC);
    changed
}

/// RFC 5382 REQ-2: both SYNs cross.
#[test]
fn t09_simultaneous_open() {
    let mut connection = Connection::new(MULTI_MAC);
    let guests = connection.segment(Guest, "S", b"");
    let remotes = connection.segment(Remote, "S", b"");
    assert!(connection.passes(Guest, &guests) && connection.passes(Remote, &remotes));
    let next = connection.next;
    for (from, syn) in [(Guest, "S."), (Remote, "S.")] {
        assert_eq!(connection.state(), Some("opening"));
        connection.next = next.map(|next| next.wrapping_add(1));
        let both = connection
            .segment(from, syn, b"")
            .sequence(next[from as usize]);
        assert!(connection.passes(from, &both));
    }
    assert_eq!(connection.state(), Some("established"));
    connection.lives(7_440);
}

/// RFC 5382 REQ-2, REQ-5: the open half goes on for as long as an established connection may pause.
#[test]
fn t09_half_close() {
    for (closed, open) in [(Guest, Remote), (Remote, Guest)] {
        let mut connection = Connection::established(MULTI_MAC);
        connection.all(&[(closed, "F."), (open, ".")]);
        for _ in 0..3 {
            connection.wait(7_000);
            connection.send(open, "P.", b"more");
            connection.send(closed, ".", b"");
            assert_eq!(connection.state(), Some("half-closed"));
        }
        connection.all(&[(open, "F."), (closed, ".")]);
        assert_eq!(connection.state(), Some("closing"));
        connection.lives(240);
    }
}

/// RFC 9293 §3.6.1, RFC 6191: the same ports again, after FINs or a reset, from either end.
#[test]
fn t09_the_same_ports_again() {
    let ways: [&[(End, &str)]; 3] = [
        &[(Guest, "F."), (Remote, "F."), (Guest, ".")],
        &[(Remote, "R")],
        &[(Guest, "R.")],
    ];
    for (opener, other) in [(Guest, Remote), (Remote, Guest)] {
        for ended in ways {
            let again = || {
                let mut connection = Connection::established(MULTI_MAC);
                connection.all(ended);
                connection.wait(100);
                connection.next = [900_000_000, 800_000_000];
                connection.send(opener, "S", b"");
                assert_eq!(connection.state(), Some("opening"));
                connection
            };
            again().lives(240);
            let mut connection = again();
            connection.all(&[(other, "S."), (opener, ".")]);
            assert_eq!(connection.state(), Some("established"));
            assert_eq!(connection.router.sessions().len(), 1);
            connection.lives(7_440);
        }
    }
}

/// What is opened anew on old ports is as new as any other, and the oldest attempt makes room.
#[test]
fn t09_a_connection_on_old_ports_is_not_displaced_before_older_ones() {
    let config = MULTI_MAC.replace(
        "sessions = 4096",
        "sessions = 4096\nlimits = { sessions = 2 }",
    );
    let mut connection = Connection::established(&config);
    connection.all(&[(Guest, "F."), (Remote, "F.")]);
    let attempt = |connection: &mut Connection, port| {
        let from = format!("10.0.1.1:{port}");
        let syn = tcp(&from, "198.51.100.9:443", "S", b"").link(GUEST_A, NET_A);
        assert!(connection.passes(Guest, &syn));
    };
    attempt(&mut connection, 4_001);
    connection.send(Guest, "S", b"");
    attempt(&mut connection, 4_002);
    let mut ports: Vec<u16> = connection
        .router
        .sessions()
        .iter()
        .map(|s| s.source.1)
        .collect();
    ports.sort_unstable();
    assert_eq!(ports, [4_000, 4_002]);
}

/// RFC 5961 §3, §4: a stranger who does not know the numbers ends nothing and shortens nothing.
#[test]
fn p02_blind_resets_and_syns() {
    for flags in ["R", "R.", "S", "S.", "SR"] {
        for offset in [-1, -70_000, 65_536, 1 << 20, i32::MAX] {
            let mut connection = Connection::established(MULTI_MAC);
            connection.send(Guest, "P.", b"question");
            connection.send(Remote, "P.", b"answer");
            connection.send(Guest, ".", b"");
            let sequence = connection.next[1].wrapping_add(offset as u32);
            let forged = connection.segment(Remote, flags, b"").sequence(sequence);
            assert!(connection.passes(Remote, &forged), "the guest decides");
            assert_eq!(connection.state(), Some("established"), "{flags} {offset}");
            let counts = connection.router.counts();
            assert_eq!(
                counts.get("tcp_segments_ignored"),
                Some(&1),
                "{flags} {offset}"
            );
            connection.wait(7_000);
            connection.send(Remote, "P.", b"still there");
            connection.send(Guest, ".", b"");
            assert_eq!(connection.state(), Some("established"), "{flags} {offset}");
        }
    }
}

/// RFC 7857 §2.2: a reset that is believed is translated, and the session is kept for four minutes.
/// Data within them goes on.
#[test]
fn t11_resets() {
    for from in [Guest, Remote] {
        for flags in ["R", "R."] {
            let reset = || {
                let mut connection = Connection::established(MULTI_MAC);
                connection.send(Guest, "P.", b"question");
                connection.send(Remote, "P.", b"answer");
                connection.send(from, flags, b"");
                assert_eq!(connection.state(), Some("reset"), "{flags} of the {from:?}");
                connection
            };
            reset().lives(240);
            let mut connection = reset();
            connection.wait(239);
            connection.all(&[(Remote, "."), (Guest, ".")]);
            assert_eq!(connection.state(), Some("established"));
            // Resets that answer what comes for a connection that is over do not keep it (RFC 7857 §8).
            let mut connection = reset();
            connection.wait(200);
            connection.send(Guest, "R", b"");
            connection.lives(40);
        }
    }
}

/// RFC 5382 REQ-5, RFC 7857 §2.1: opening and closing have times of their own if wanted.
#[test]
fn t11_opening_and_closing_times() {
    for (timeouts, opening, closing) in [
        ("tcp_transitory = 300", 300, 300),
        ("tcp_opening = 30", 30, 240),
        ("tcp_transitory = 250, tcp_closing = 500", 250, 500),
    ] {
        let config = with(timeouts);
        let mut connection = Connection::new(&config);
        connection.send(Guest, "S", b"");
        connection.lives(opening);
        let mut connection = Connection::established(&config);
        connection.all(&[(Guest, "F."), (Remote, "F."), (Guest, ".")]);
        connection.lives(closing);
        let mut connection = Connection::established(&config);
        connection.send(Remote, "R", b"");
        connection.lives(closing);
        Connection::established(&config).lives(7_440);
    }
}

/// A FIN or RST behind a super-frame's worth of data that is not acknowledged yet.
#[test]
fn p02_super_frames_are_inside_of_the_window() {
    for (flags, state) in [("F.", "half-closed"), ("R.", "reset")] {
        let mut connection = Connection::established(MULTI_MAC);
        let data = connection.segment(Guest, "P.", &[7; 60_000]).bytes();
        let frame = unfinished(&data, Some(1_460)).unwrap();
        connection.router.take_all();
        connection.router.inject_frame("guest-a", frame);
        assert_eq!(connection.router.take_packets("uplink").len(), 42);
        connection.next[0] += 60_000;
        let last = connection.segment(Guest, flags, &[7; 4_000]).bytes();
        let frame = unfinished(&last, Some(1_460)).unwrap();
        connection.router.inject_frame("guest-a", frame);
        assert_eq!(connection.state(), Some(state));
        if flags == "F." {
            // Its last byte is what counts.
            connection.next[0] += 4_001;
            connection.all(&[(Remote, "."), (Remote, "F.")]);
            assert_eq!(connection.state(), Some("closing"));
        }
    }
}

/// RFC 5382 REQ-4a, decision 6: strangers are not told, at no time. If the guest's SYN crosses theirs,
/// the connection works.
#[test]
fn t10_unsolicited_syns_are_dropped_in_silence() {
    let mut connection = Connection::new(MULTI_MAC);
    let syn = connection.segment(Remote, "S", b"");
    for wait in [0, 1, 4, 6, 60] {
        connection.router.advance(Duration::from_secs(wait));
        let verdict = connection.router.inject("uplink", syn.bytes());
        assert_eq!(verdict, Verdict::Drop(DropReason::NoSession));
        connection.router.wait(20_000);
        assert!(
            connection.router.take_packets("uplink").is_empty(),
            "after {wait} s"
        );
        assert_eq!(connection.state(), None, "it is not remembered");
    }
    // Simultaneous open, five seconds after the stranger's first SYN.
    let mut connection = Connection::new(MULTI_MAC);
    assert!(!connection.passes(Remote, &syn));
    connection.wait(5);
    let guests = connection.segment(Guest, "S", b"");
    assert!(connection.passes(Guest, &guests) && connection.passes(Remote, &syn));
    connection.next = connection.next.map(|next| next.wrapping_add(1));
    let both = connection
        .segment(Remote, "S.", b"")
        .sequence(connection.next[1].wrapping_sub(1));
    assert!(connection.passes(Remote, &both));
    connection.send(Guest, ".", b"");
    assert_eq!(connection.state(), Some("established"));
    connection.wait(20);
    assert!(connection.router.take_packets("uplink").is_empty());
}

/// RFC 4787 REQ-12, RFC 5382 REQ-10: no ICMP error ends a connection or keeps it alive.
#[test]
fn t07_icmp_errors_neither_end_nor_refresh() {
    let mut connection = Connection::established(MULTI_MAC);
    connection.wait(7_000);
    let about = tcp("203.0.113.10:4000", "198.51.100.9:443", ".", b"12345678").bytes();
    for kind in [(3, 0), (3, 1), (3, 2), (3, 3), (3, 13), (11, 0), (12, 0)] {
        let told = error(REMOTE, "203.0.113.10", kind, [0; 4], &about).link(PROVIDER, A);
        assert!(connection.passes(Remote, &told), "{kind:?}");
        assert_eq!(connection.state(), Some("established"));
    }
    connection.lives(440);
}

/// RFC 4787 REQ-5, REQ-6: what the guest sends refreshes; so do answers, as the standard allows. What
/// the guest refuses by an ICMP error does not (RFC 7857 §8).
#[test]
fn t04_udp_times() {
    let out = udp("10.0.1.1:4000", "198.51.100.9:443", b"").link(GUEST_A, NET_A);
    let back = udp("198.51.100.9:443", "203.0.113.10:4000", b"").link(PROVIDER, A);
    for (timeouts, seconds) in [("udp = 120", 120), ("udp = 300", 300)] {
        let mut connection = Connection::new(&with(timeouts));
        assert!(connection.passes(Guest, &out));
        for (from, packet) in [(Remote, &back), (Guest, &out), (Remote, &back)] {
            connection.wait(seconds - 1);
            assert!(
                connection.passes(from, packet),
                "{from:?} after {seconds} s"
            );
        }
        connection.wait(seconds - 10);
        let about = udp("198.51.100.9:443", "10.0.1.1:4000", b"").bytes();
        let refused = error("10.0.1.1", REMOTE, (3, 3), [0; 4], &about).link(GUEST_A, NET_A);
        assert!(connection.passes(Guest, &refused));
        connection.lives(10);
    }
}
