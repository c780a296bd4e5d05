//! The policy, a reload, `explain`, and frames that are right but for a few bytes.

use super::*;

const POLICY: &str = r#"[policy]
zones = { segment = ["public"] }
rules = [
  { action = "accept", to = "web", proto = "tcp", port = 443 },
  { action = "accept", from = "db", proto = "udp" },
  { action = "drop", from = "web", to = "vm" },
  { action = "accept", from = "segment", to = "web", proto = "tcp", port = 999 },
]
default = [{ action = "drop", to = "web" }, { action = "drop", from = "db" }]"#;

#[test]
fn the_policy_holds_for_bridged_guests_as_for_all() {
    let mut router = router_with(POLICY);
    let remote = |port: u16| format!("{REMOTE}:{port}");
    let web = |port: u16| format!("{WEB4}:{port}");
    let syn = |to: u16| {
        tcp(&remote(9), &web(to), "S", b"")
            .link(GATEWAY, WEB)
            .bytes()
    };
    passes(&mut router, "uplink", "web", syn(443));
    passes(
        &mut router,
        "web",
        "uplink",
        tcp(&web(443), &remote(9), "S.", b"")
            .link(WEB, GATEWAY)
            .bytes(),
    );
    refused(&mut router, "uplink", syn(22), DropReason::Policy);
    // Stateful: answers to what it asked.
    let answer = udp(&remote(53), &web(5_000), b"")
        .link(GATEWAY, WEB)
        .bytes();
    refused(&mut router, "uplink", &answer, DropReason::Policy);
    passes(
        &mut router,
        "web",
        "uplink",
        query(REMOTE).link(WEB, GATEWAY).bytes(),
    );
    passes(&mut router, "uplink", "web", &answer);
    // The segment is whoever is beyond the guests.
    let asks = |from: &str, to| tcp(&format!("{from}:1"), &format!("{WEB4}:{to}"), "S", b"");
    passes(
        &mut router,
        "uplink",
        "web",
        asks(REMOTE, 999).link(GATEWAY, WEB).bytes(),
    );
    refused(
        &mut router,
        "uplink",
        asks(REMOTE, 998).link(GATEWAY, WEB).bytes(),
        DropReason::Policy,
    );
    let inside = asks("10.0.0.1", 999).link(VM, LAN).bytes();
    refused(&mut router, "vm", inside, DropReason::Policy);
    let from_db = tcp(&format!("{DB4}:1"), &web(999), "S", b"")
        .link(DB, WEB)
        .bytes();
    refused(&mut router, "db", from_db, DropReason::Policy);
    // Between guests, and by the router.
    let from_db = udp(&format!("{DB4}:1"), &web(2), b"").link(DB, WEB).bytes();
    passes(&mut router, "db", "web", from_db);
    let from_db = tcp(&format!("{DB4}:1"), &web(22), "S", b"")
        .link(DB, WEB)
        .bytes();
    refused(&mut router, "db", from_db, DropReason::Policy);
    let to_vm = udp(&web(1), &format!("{VM4}:2"), b"").link(WEB, X).bytes();
    refused(&mut router, "web", to_vm, DropReason::Policy);
    let to_web = udp("10.0.0.1:1", &web(2), b"").link(VM, LAN).bytes();
    refused(&mut router, "vm", to_web, DropReason::Policy);
    // A reload ends exactly what is no longer allowed.
    router.reload(&config("", &POLICY.replace("443", "8443")));
    let more = tcp(&remote(9), &web(443), ".", b"")
        .link(GATEWAY, WEB)
        .bytes();
    refused(&mut router, "uplink", more, DropReason::Policy);
    passes(&mut router, "uplink", "web", &answer);
}

#[test]
fn a_reload_moves_a_guest_and_ends_what_is_no_longer_its_own() {
    let mut router = router();
    let sent = query(REMOTE).link(WEB, GATEWAY).bytes();
    let answer = udp(&format!("{REMOTE}:53"), &format!("{WEB4}:5000"), b"")
        .link(GATEWAY, WEB)
        .bytes();
    passes(&mut router, "web", "uplink", &sent);
    let from_vm = || {
        udp("10.0.0.1:1", &format!("{WEB4}:2"), b"")
            .link(VM, LAN)
            .bytes()
    };
    assert_eq!(router.inject("vm", from_vm()), router.emit("web"));
    router.take_all();
    // The guest moves to the port of the other, which is gone.
    let moved = config("", "")
        .replace(
            &format!("db = {{ port = \"db\", mac = \"{DB}\", public = [\"{DB4}\", \"{DB6}\"] }}"),
            "",
        )
        .replace("web = { port = \"web\"", "web = { port = \"db\"");
    router.reload(&moved);
    passes(&mut router, "uplink", "db", &answer);
    passes(&mut router, "db", "uplink", &sent);
    refused(&mut router, "web", &sent, DropReason::SpoofedMac);
    assert_eq!(router.inject("vm", from_vm()), router.emit("db"));
    router.take_all();
    assert_eq!(router.sessions().len(), 2);
    // Another address: the sessions of the old one are over.
    router.reload(&moved.replace(WEB4, "203.0.113.29"));
    refused(&mut router, "uplink", &answer, DropReason::WrongPersonality);
    refused(&mut router, "db", &sent, DropReason::SpoofedSource);
    // Nobody is where the guest was, as far as the router knows.
    assert_eq!(router.inject("vm", from_vm()), Verdict::Hold);
}

#[test]
fn an_uplink_needs_no_personality() {
    let text = format!(
        r#"
[ports]
uplink = {{ memory = true }}
web = {{ memory = true }}
[networks]
public = {{ bridged = "uplink", ports = ["web"] }}
[guests]
web = {{ port = "web", mac = "{WEB}", public = ["{WEB4}"] }}
"#
    );
    let mut router = Router::settled(&text);
    router.explain_everything();
    passes(
        &mut router,
        "web",
        "uplink",
        query(REMOTE).link(WEB, GATEWAY).bytes(),
    );
    passes(
        &mut router,
        "uplink",
        "web",
        who_has(WEB4, (GATEWAY, GATEWAY4)).bytes(),
    );
    refused(
        &mut router,
        "uplink",
        who_has(GATEWAY4, (STRANGER, REMOTE)).bytes(),
        DropReason::ArpNotForUs,
    );
    // Nobody announces or answers for it.
    router.wait(1_000_000);
    assert!(router.is_silent());
    assert_eq!(mac("52:54:00:00:00:01"), WEB);
}

#[test]
fn explain_tells_who_gets_it() {
    let mut router = router_with(POLICY);
    let frame = query(REMOTE).link(WEB, GATEWAY).bytes();
    let (lines, verdict) = router.explain("web", &frame);
    assert_eq!(verdict, router.emit("uplink"));
    let text: Vec<_> = lines
        .iter()
        .map(|l| format!("{}: {}", l.stage, l.detail))
        .collect();
    assert_eq!(
        text,
        [
            format!("interface: bridged to {GATEWAY}, from port web of public"),
            "session: none: a first packet".to_owned(),
            "policy: no rule says anything: it may pass".to_owned(),
            format!("bridge: passes as it is to {GATEWAY}, out on uplink"),
        ]
    );
}

/// Frames that are right but for a few bytes, by every port. The harness looks at each that leaves, and
/// asks `explain` about each that comes.
#[test]
fn whatever_comes_in_only_pairs_leave() {
    let mut router = router();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 33) as usize % below
    };
    let all = MacAddr::BROADCAST;
    let frames = [
        query(REMOTE).link(WEB, GATEWAY).bytes(),
        query(DB4).link(WEB, GATEWAY).bytes(),
        query(OWN4).link(WEB, X).bytes(),
        udp(&format!("{REMOTE}:53"), &format!("{WEB4}:5000"), b"")
            .link(GATEWAY, WEB)
            .bytes(),
        udp("10.0.0.1:7", &format!("{WEB4}:53"), b"")
            .link(VM, LAN)
            .bytes(),
        udp("0.0.0.0:68", "255.255.255.255:67", &[0; 240])
            .link(WEB, all)
            .bytes(),
        datagram6((WEB, GATEWAY), (WEB6, REMOTE6), 64),
        datagram6((DB, WEB), (DB_LINK, WEB_LINK), 64),
        datagram6((GATEWAY, WEB), (REMOTE6, WEB6), 64),
        who_has(GATEWAY4, (WEB, WEB4)).bytes(),
        who_has(WEB4, (GATEWAY, GATEWAY4)).bytes(),
        who_has(GATEWAY4, (GATEWAY, GATEWAY4)).bytes(),
        is_at((DB, DB4), (WEB, WEB4)).bytes(),
        ns((WEB, WEB_LINK), GATEWAY_LINK),
        ns((WEB, "::"), WEB6),
        na((DB, DB6), (WEB, WEB6), DB6),
        icmp6((GATEWAY, ALL), (GATEWAY_LINK, "ff02::1"), 134, &[0; 8], 255),
        icmp6((WEB, ALL), (WEB_LINK, "ff02::16"), 143, &[4, 0, 0, 0], 1),
    ];
    // What may stand where an address or a MAC does.
    let macs = [WEB, DB, X, VM, LAN, GATEWAY, STRANGER, all, ALL];
    let known = [
        WEB4,
        DB4,
        OWN4,
        VM4,
        GATEWAY4,
        REMOTE,
        "10.0.0.1",
        "0.0.0.0",
        "255.255.255.255",
    ];
    let mut left = 0;
    for _ in 0..6_000 {
        let mut frame = frames[random(frames.len())].clone();
        for _ in 0..random(3) {
            let mac = macs[random(macs.len())].0;
            let ip = tapgate_tests::packet::address(known[random(known.len())]).octets();
            let is_arp = frame[12..14] == [8, 6];
            match random(6) {
                0 => frame[..6].copy_from_slice(&mac),
                1 => frame[6..12].copy_from_slice(&mac),
                2 if is_arp => frame[22..28].copy_from_slice(&mac),
                3 if is_arp => frame[28..32].copy_from_slice(&ip),
                3 if frame[12..14] == [8, 0] => frame[26..30].copy_from_slice(&ip),
                4 if is_arp => frame[38..42].copy_from_slice(&ip),
                4 if frame[12..14] == [8, 0] => frame[30..34].copy_from_slice(&ip),
                _ => {
                    let at = 12 + random(frame.len().min(90) - 12);
                    frame[at] ^= 1 << random(8);
                }
            }
        }
        if frame[12..14] == [8, 0] && frame[14] == 0x45 {
            frame[24..26].fill(0);
            let check = tapgate_engine::checksum::checksum(&frame[14..34]);
            frame[24..26].copy_from_slice(&check.to_be_bytes());
        }
        let port = ["uplink", "web", "db", "vm"][random(4)];
        router.inject(port, frame);
        left += router.sent().len();
        if random(50) == 0 {
            router.wait(random(3_000) as u64);
        }
    }
    assert!(left > 600, "{left}");
}
