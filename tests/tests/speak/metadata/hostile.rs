//! What hostile guests do with the metadata service: to themselves, and never to others.

use std::time::Duration;

use proptest::prelude::*;
use smoltcp::socket::tcp::State;
use tapgate_engine::drops::DropReason;
use tapgate_engine::frame::Verdict;
use tapgate_tests::packet::tcp;

use super::*;

const ID: &str = "/latest/meta-data/instance-id";

/// The MAC that answers for the metadata service on the network, by ARP for it itself.
fn gateway(router: &mut Router) -> MacAddr {
    let ask = tapgate_tests::packet::who_has(V4, (WEB, "10.0.1.1"));
    router.inject("web", ask.bytes());
    let (_, answer) = router.last_sent().expect("an answer");
    MacAddr::from_slice(&answer[6..])
}

#[test]
fn a_flood_of_syns_takes_four_connections_of_ones_own_and_nobody_elses() {
    let (mut router, mut db) = (router(), db());
    let mac = gateway(&mut router);
    for port in 1_000..3_000 {
        let frame = tcp(&format!("10.0.1.1:{port}"), "169.254.169.254:80", "S", b"");
        router.inject("web", frame.link(WEB, mac).bytes());
    }
    assert_eq!(router.counts()["metadata_connections"], 4);
    assert_eq!(router.dropped(DropReason::MetadataLimited), 1_996);
    let met = router.limits_met();
    assert_eq!(met.len(), 1, "said once: {met:?}");
    assert_eq!(met[0].1, DropReason::MetadataLimited);
    assert_eq!(content(&mut db, &mut router, ID), "i-0123");
    // They end, and whoever flooded is heard again.
    router.wait(15_000);
    assert_eq!(router.counts()["metadata_timeouts"], 4);
    assert_eq!(content(&mut web(), &mut router, ID), "i-web");
}

#[test]
fn all_connections_of_all_guests_are_bounded_and_leave_room_for_the_next() {
    let ports: String = (0..200)
        .map(|n| format!("g{n} = {{ memory = true }}\n"))
        .collect();
    let names: Vec<String> = (0..200).map(|n| format!("\"g{n}\"")).collect();
    let guests: String = (0..200)
        .map(|n| format!("g{n} = {{ port = \"g{n}\", addresses = [\"10.0.3.{n}\"] }}\n"))
        .collect();
    let file = format!(
        "[ports]\n{ports}[networks.lan]\nports = [{}]\naddresses = [\"10.0.1.254/16\"]\nmac = \"02:00:00:00:00:01\"\nmetadata = {{}}\n[guests]\n{guests}",
        names.join(",")
    );
    let mut router = Router::settled(&file);
    let mut opened = 0;
    for n in 0..200 {
        for port in 1_000..1_010 {
            let frame = tcp(
                &format!("10.0.3.{n}:{port}"),
                "169.254.169.254:80",
                "S",
                b"",
            );
            let frame = frame.link(WEB, MacAddr([2, 0, 0, 0, 0, 1])).bytes();
            opened += u32::from(router.inject(&format!("g{n}"), frame) == Verdict::Consumed);
        }
        router.take_all();
    }
    assert!((500..=512).contains(&opened), "{opened}");
}

#[test]
fn who_is_slow_is_cut_off_after_fifteen_seconds_whatever_it_does() {
    let (mut router, mut web) = (router(), web());
    let slow = web.connect(&mut router, (V4, 80));
    let silent = web.connect(&mut router, (V4, 80));
    web.say(&mut router, slow, b"GET / HTTP/1.1\r\nX: ");
    for _ in 0..14 {
        web.say(&mut router, slow, b"x");
        web.run(&mut router, Duration::from_secs(1));
        assert_eq!(web.state(slow), State::Established);
    }
    web.run(&mut router, Duration::from_secs(2));
    assert_eq!(
        (web.state(slow), web.state(silent)),
        (State::Closed, State::Closed)
    );
    assert_eq!(router.counts()["metadata_timeouts"], 2);
    assert_eq!(content(&mut web, &mut router, ID), "i-web");
}

#[test]
fn who_does_not_read_is_cut_off_too() {
    let text = "x".repeat(16_000);
    let file = file().replace("#cloud-config\\nhostname: of the web\\n", &text);
    let mut router = Router::settled(&file);
    let mac = gateway(&mut router);
    let say = |router: &mut Router, flags: &str, acknowledged: u32, bytes: &[u8]| {
        let segment = tcp("10.0.1.1:1000", "169.254.169.254:80", flags, bytes);
        let segment = segment.acknowledges(acknowledged).link(WEB, mac);
        router.inject("web", segment.bytes());
        router.advance(Duration::ZERO);
        router.last_sent().map(|(_, frame)| frame)
    };
    let answer = say(&mut router, "S", 0, b"").expect("a SYN-ACK");
    let theirs = u32::from_be_bytes(answer[38..42].try_into().unwrap());
    say(
        &mut router,
        "P.",
        theirs + 1,
        b"GET /latest/user-data HTTP/1.1\r\n\r\n",
    );
    router.take_all();
    // It never acknowledges: no more than a buffer is sent, again and again, for a while.
    router.wait(60_000);
    let sent: usize = router.take("web").iter().map(|it| it.bytes.len()).sum();
    assert!(sent < 40_000, "{sent}");
    assert_eq!(router.counts()["metadata_timeouts"], 1);
}

#[test]
fn a_forged_address_is_told_nothing() {
    let mut router = router();
    let mac = gateway(&mut router);
    for (from, source, reason) in [
        // Another guest's address, and nobody's.
        (WEB, "10.0.1.2:1000", DropReason::SpoofedSource),
        (WEB, "10.0.1.77:1000", DropReason::SpoofedSource),
        (DB, "10.0.1.1:1000", DropReason::SpoofedMac),
        (DB, "10.0.1.2:1000", DropReason::SpoofedMac),
    ] {
        let frame = tcp(source, "169.254.169.254:80", "S", b"").link(from, mac);
        assert_eq!(
            router.inject("web", frame.bytes()),
            Verdict::Drop(reason),
            "{source}"
        );
    }
    router.wait(1_000);
    assert!(!router.counts().contains_key("metadata_connections"));
}

#[test]
fn guests_on_one_port_are_told_apart_by_their_macs() {
    let file = file().replace("port = \"db\"", &format!("port = \"web\"\nmac = \"{DB}\""));
    let mut router = Router::settled(&file);
    let mut db = Stack::new("web", DB, &["10.0.1.2/24", "fe80::1:2/64"], "10.0.1.254");
    for at in [V4, V6] {
        let mut web = web();
        assert_eq!(web.get(&mut router, at, ID).1, "i-web");
        assert_eq!(db.get(&mut router, at, ID).1, "i-0123");
    }
    // One of them that wears the other's address is neither.
    let mac = gateway(&mut router);
    let frame = tcp("10.0.1.2:1000", "169.254.169.254:80", "S", b"").link(WEB, mac);
    let verdict = router.inject("web", frame.bytes());
    assert_eq!(verdict, Verdict::Drop(DropReason::NotTheGuest));
}

#[test]
fn nobody_else_reaches_it() {
    let mut router = router();
    // From the uplink, to the personality's MAC.
    let uplink = MacAddr([2, 0, 0, 0, 0, 0xaa]);
    let frame = tcp("198.51.100.1:1000", "169.254.169.254:80", "S", b"").link(DB, uplink);
    assert!(matches!(
        router.inject("uplink", frame.bytes()),
        Verdict::Drop(_)
    ));
    // From a network without metadata it is asked for as any address is: no ARP answer.
    router.take_all();
    let ask = tapgate_tests::packet::who_has(V4, (DB, "10.0.2.1"));
    router.inject("other", ask.bytes());
    assert!(router.take("other").is_empty());
    let mut other = Stack::new("other", DB, &["10.0.2.1/24", "fe80::3/64"], "10.0.2.254");
    assert_eq!(other.get(&mut router, V4, ID).1, "");
    assert_eq!(other.get(&mut router, V6, ID).1, "");
    assert!(!router.counts().contains_key("metadata_connections"));
}

#[test]
fn who_claims_the_address_does_not_get_it() {
    let mut router = router();
    let claim = tapgate_tests::packet::who_has(V4, (WEB, V4));
    let verdict = router.inject("web", claim.bytes());
    assert_eq!(verdict, Verdict::Drop(DropReason::GatewayClaimed));
    assert_eq!(content(&mut db(), &mut router, ID), "i-0123");
    assert_eq!(content(&mut web(), &mut router, ID), "i-web");
}

#[test]
fn a_reload_goes_on_with_a_connection_and_ends_one_whose_guest_is_gone() {
    let (mut router, mut web, mut db) = (router(), web(), db());
    let (kept, gone) = (
        web.connect(&mut router, (V4, 80)),
        db.connect(&mut router, (V4, 80)),
    );
    web.say(
        &mut router,
        kept,
        b"GET /latest/meta-data/instance-id HTTP/1.1\r\n",
    );
    db.say(
        &mut router,
        gone,
        b"GET /latest/meta-data/instance-id HTTP/1.1\r\n",
    );
    let changed = file().replace(
        "port = \"web\"\nmac",
        "port = \"web\"\ninstance_id = \"i-new\"\nmac",
    );
    let changed = changed
        .replace("port = \"db\"", "port = \"other\"")
        .replace("[\"10.0.1.2\"]", "[\"10.0.2.2\"]")
        .replace("instance_id = \"i-0123\"", "");
    router.reload(&changed);
    web.say(&mut router, kept, b"\r\n");
    assert!(
        String::from_utf8(web.hear(kept))
            .unwrap()
            .ends_with("\r\n\r\ni-new")
    );
    db.say(&mut router, gone, b"\r\n");
    assert!(db.hear(gone).is_empty());
}

/// A segment as hostile as one can be: any flags, numbers near those in use, options, a request or not.
#[derive(Debug, Clone)]
struct Shot {
    port: u16,
    flags: u8,
    sequence: i32,
    acknowledgment: i32,
    window: u16,
    options: Vec<u8>,
    payload: Vec<u8>,
    wait: u16,
}

prop_compose! {
    fn shot()(
        port in 1_000_u16..1_006,
        flags in prop_oneof![Just(0x02), Just(0x10), Just(0x18), Just(0x11), Just(0x04), any::<u8>()],
        sequence in prop_oneof![0..3, -70_000..70_000, any::<i32>()],
        acknowledgment in prop_oneof![Just(1), 0..3, 0..20_000, any::<i32>()],
        window in prop_oneof![Just(0), Just(65_535), any::<u16>()],
        options in prop_oneof![
            Just(vec![]),
            Just(vec![2, 4, 0, 0]),
            Just(vec![2, 4, 0, 1, 3, 3, 14, 0]),
            prop::collection::vec(any::<u8>(), 0..=40),
        ],
        payload in prop_oneof![
            Just(b"GET /latest/user-data HTTP/1.1\r\n\r\n".to_vec()),
            Just(Vec::new()),
            prop::collection::vec(any::<u8>(), 0..60),
            Just(vec![b'x'; 5_000]),
        ],
        wait in prop_oneof![Just(0), 0..2_000_u16],
    ) -> Shot {
        Shot { port, flags, sequence, acknowledgment, window, options, payload, wait }
    }
}

impl Shot {
    /// As a frame; numbers count from where each side begins.
    fn frame(&self, mac: MacAddr, theirs: u32) -> Vec<u8> {
        let mut segment = vec![0; 20];
        segment[0..2].copy_from_slice(&self.port.to_be_bytes());
        segment[2..4].copy_from_slice(&80_u16.to_be_bytes());
        let sequence = 5_000_u32.wrapping_add_signed(self.sequence);
        segment[4..8].copy_from_slice(&sequence.to_be_bytes());
        let acknowledgment = theirs.wrapping_add_signed(self.acknowledgment);
        segment[8..12].copy_from_slice(&acknowledgment.to_be_bytes());
        segment.extend(&self.options);
        segment.resize(segment.len().next_multiple_of(4), 0);
        segment[12] = (segment.len() as u8 / 4) << 4;
        segment[13] = self.flags;
        segment[14..16].copy_from_slice(&self.window.to_be_bytes());
        segment.extend(&self.payload);
        let pseudo = [10, 0, 1, 1, 169, 254, 169, 254, 0, 6];
        let length = (segment.len() as u16).to_be_bytes();
        let all = [&pseudo[..], &length, &segment].concat();
        let sum = tapgate_engine::checksum::checksum(&all);
        segment[16..18].copy_from_slice(&sum.to_be_bytes());
        tapgate_tests::packet::ip("10.0.1.1", V4, 6, &segment)
            .link(WEB, mac)
            .bytes()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Whatever segments a guest sends, the endpoint stands, answers no more than it was sent and a
    /// buffer, holds to its bounds, is explained, and is empty again after a while.
    #[test]
    fn any_segments_leave_it_standing(shots in prop::collection::vec(shot(), 1..60)) {
        let mut router = router();
        let mac = gateway(&mut router);
        router.explain_everything();
        let mut theirs = 0;
        for shot in &shots {
            router.inject("web", shot.frame(mac, theirs));
            router.wait(shot.wait.into());
            for sent in router.take("web") {
                // The number that the last SYN-ACK begins with.
                if sent.bytes[12..14] == [8, 0] && sent.bytes[47] == 0x12 {
                    theirs = u32::from_be_bytes(sent.bytes[38..42].try_into().unwrap());
                }
            }
        }
        router.wait(60_000);
        router.take_all();
        let mut web = web();
        prop_assert_eq!(content(&mut web, &mut router, ID), "i-web");
    }
}
