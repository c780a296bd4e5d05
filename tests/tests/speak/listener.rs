//! Listener reports (MLD): a switch that snoops hears which groups are needed.

use etherparse::PacketBuilder;
use tapgate_engine::drops::DropReason;
use tapgate_engine::frame::Verdict;
use tapgate_tests::pair::*;
use tapgate_tests::router::Router;

#[test]
fn m01_m03_groups_are_reported_while_anybody_needs_them() {
    let mut router = Router::new(SHARED);
    let up = "up";
    router.wait(3_000);
    let reports = reports(&mut router, up);
    let group = v6("ff02::1:ff00:20");
    let of_web: Vec<_> = reports
        .iter()
        .filter(|(_, group_)| *group_ == group)
        .collect();
    assert_eq!(of_web.len(), 2, "twice: {reports:?}");
    assert!(of_web.iter().all(|(record, _)| *record == 4), "from now on");
    assert!(!reports.iter().any(|(_, group)| *group == v6("ff02::1")));

    // Another address with the same low 24 bits comes, and the first goes.
    let two = SHARED.replace(
        "2001:db8:9::20\"",
        "2001:db8:9::20\", \"2001:db8:9:0:1::20\"",
    );
    router.reload(&two);
    router.wait(3_000);
    assert!(
        !self::reports(&mut router, up)
            .iter()
            .any(|(_, g)| *g == group),
        "known already"
    );
    router.reload(&two.replace("\"2001:db8:9::20\", ", ""));
    router.wait(3_000);
    assert!(
        !self::reports(&mut router, up)
            .iter()
            .any(|(_, g)| *g == group),
        "still needed"
    );
    router.reload(&SHARED.replace("2001:db8:9::20", "2001:db8:9::21"));
    router.wait(3_000);
    let records: Vec<_> = self::reports(&mut router, up)
        .into_iter()
        .filter(|(_, g)| *g == group)
        .map(|(record, _)| record)
        .collect();
    assert_eq!(records, [3, 3], "no longer, twice");
}

#[test]
fn m02_queries_are_answered_in_their_own_version() {
    let query = |source: &str, hop_limit, length: usize, delay: u16| {
        let mut rest = vec![0; length - 8];
        if length == 28 {
            rest[16] = 2;
        }
        let [high, low] = delay.to_be_bytes();
        let mut bytes = Vec::new();
        PacketBuilder::ethernet2(GATEWAY, [0x33, 0x33, 0, 0, 0, 1])
            .ipv6(v6(source), v6("ff02::1"), hop_limit)
            .icmpv6_raw(130, 0, [high, low, 0, 0])
            .write(&mut bytes, &rest)
            .unwrap();
        bytes
    };
    let mut router = Router::settled(SHARED);
    let up = "up";
    for bytes in [
        query("2001:db8::1", 1, 28, 1_000),
        query("fe80::9", 64, 28, 1_000),
    ] {
        assert_eq!(
            router.inject(up, bytes),
            Verdict::Drop(DropReason::MldMalformed)
        );
    }
    assert_eq!(
        router.inject(up, query("fe80::9", 1, 28, 1_000)),
        Verdict::Consumed
    );
    router.wait(1_000);
    let answers = reports(&mut router, up);
    assert!(answers.contains(&(2, v6("ff02::1:ff00:20"))), "{answers:?}");
    assert_eq!(
        router.inject(up, query("fe80::9", 1, 24, 500)),
        Verdict::Consumed
    );
    router.wait(500);
    let version_1: Vec<_> = router
        .sent()
        .into_iter()
        .filter(|(port, bytes)| port == up && bytes.get(62) == Some(&131))
        .collect();
    let groups: Vec<&[u8]> = version_1.iter().map(|(_, bytes)| &bytes[70..86]).collect();
    assert!(groups.contains(&&v6("ff02::1:ff00:20")[..]));
    assert!(
        version_1
            .iter()
            .all(|(_, bytes)| bytes[38..54] == bytes[70..86]),
        "to the group"
    );
}

/// Record and group of every version-2 report that left by `port`; each is as RFC 3810 wants it.
fn reports(router: &mut Router, port: &str) -> Vec<(u8, [u8; 16])> {
    let mut records = Vec::new();
    for (to, bytes) in router.sent() {
        if to != port || bytes[12..14] != [0x86, 0xdd] || bytes[20] != 0 {
            continue;
        }
        assert_eq!(bytes[..6], [0x33, 0x33, 0, 0, 0, 0x16]);
        assert_eq!(
            (bytes[21], &bytes[38..54]),
            (1, &v6("ff02::16")[..]),
            "hop limit, group"
        );
        assert_eq!(bytes[54..62], [58, 0, 5, 2, 0, 0, 1, 0], "router alert");
        assert_eq!(bytes[22..24], [0xfe, 0x80], "from a link-local address");
        assert_eq!(bytes[62], 143);
        for record in bytes[70..].chunks(20) {
            records.push((record[0], record[4..].try_into().unwrap()));
        }
    }
    records
}

/// A querier that lets us take our time does not keep us from answering another in time.
#[test]
fn m02_the_sooner_of_two_answers_is_given() {
    let query = |delay: u16| {
        let [high, low] = delay.to_be_bytes();
        let mut rest = vec![0; 20];
        rest[16] = 2;
        let mut bytes = Vec::new();
        PacketBuilder::ethernet2(GATEWAY, [0x33, 0x33, 0, 0, 0, 1])
            .ipv6(v6("fe80::9"), v6("ff02::1"), 1)
            .icmpv6_raw(130, 0, [high, low, 0, 0])
            .write(&mut bytes, &rest)
            .unwrap();
        bytes
    };
    let mut router = Router::settled(SHARED);
    router.inject("up", query(0xffff)); // more than two hours
    router.inject("up", query(1_000));
    router.wait(1_000);
    assert!(reports(&mut router, "up").contains(&(2, v6("ff02::1:ff00:20"))));
}
