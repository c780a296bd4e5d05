//! ICMPv6 errors of ours and about our flows, and what is refused with one.

use etherparse::PacketBuilder;
use tapgate_engine::drops::DropReason;
use tapgate_engine::frame::Verdict;
use tapgate_tests::pair::*;
use tapgate_tests::router::Router;

/// An IPv6 packet with extension headers `rest` (with what follows them) behind `next`.
fn raw(macs: ([u8; 6], [u8; 6]), ips: (&str, &str), next: u8, rest: &[u8]) -> Vec<u8> {
    let mut bytes = [&macs.1[..], &macs.0, &[0x86, 0xdd, 0x60, 0, 0, 0]].concat();
    bytes.extend((rest.len() as u16).to_be_bytes());
    bytes.extend([next, 64]);
    bytes.extend(v6(ips.0));
    bytes.extend(v6(ips.1));
    bytes.extend(rest);
    bytes
}

/// UDP without a checksum error that matters: ports 1 and 2, eight bytes.
const UDP: [u8; 8] = [0, 1, 0, 2, 0, 8, 0, 0];

/// Type and code of the one ICMPv6 error that came back to the guest.
fn told(router: &mut Router, bytes: Vec<u8>) -> Option<(u8, u8)> {
    let guest = "g";
    router.take_all();
    router.inject(guest, bytes);
    let errors: Vec<_> = router
        .sent()
        .into_iter()
        .filter(|(port, bytes)| port == guest && bytes[12..14] == [0x86, 0xdd])
        .collect();
    assert!(errors.len() <= 1);
    errors.first().map(|(_, bytes)| {
        let (from, to, kind, code, _) = icmp6(bytes);
        assert_eq!((from, to), (v6(GATE).into(), v6(HOST).into()));
        (kind, code)
    })
}

#[test]
fn s04_every_cause_has_its_code() {
    let config = CONFIG6.replace(
        "main = [",
        r#"main = [{ to = "2001:db8:f1::/48", type = "unreachable" },
            { to = "2001:db8:f2::/48", type = "prohibit" },
            { to = "2001:db8:f3::/48", type = "blackhole" }, "#,
    );
    let config = config.replace(
        r#"{ to = "::/0", dev = "A" }"#,
        r#"{ to = "2001:db8:ffff::/48", dev = "A" }"#,
    );
    let mut router = Router::settled(&config);
    let guest = "g";
    ask(&mut router, guest, (GUEST, ROUTER_IN), HOST, GATE);
    let to = |far: &str| udp6((GUEST, ROUTER_IN), (HOST, far), 64, 10);
    assert_eq!(
        told(&mut router, to("2001:db8:f0::1")),
        Some((1, 0)),
        "no route"
    );
    assert_eq!(
        told(&mut router, to("2001:db8:f1::1")),
        Some((1, 6)),
        "reject route"
    );
    assert_eq!(
        told(&mut router, to("2001:db8:f2::1")),
        Some((1, 1)),
        "prohibited"
    );
    assert_eq!(told(&mut router, to("2001:db8:f3::1")), None, "blackhole");
    assert_eq!(
        told(&mut router, to("fe80::77")),
        None,
        "beyond scope: never answered off the link"
    );
    // The address is on the link and does not answer.
    router.inject(guest, to("2001:db8:1::77"));
    router.wait(3_100);
    let errors: Vec<_> = router
        .sent()
        .into_iter()
        .filter(|(port, bytes)| port == guest && bytes[54] < 128)
        .collect();
    let (_, _, kind, code, _) = icmp6(&errors[0].1);
    assert_eq!(
        (kind, code),
        (1, 3),
        "address unreachable after three tries"
    );
}

#[test]
fn s05_no_error_about_what_must_not_be_answered() {
    let mut router = acquainted();
    let link = (GUEST, ROUTER_IN);
    let expired = |bytes: Vec<u8>| {
        let mut bytes = bytes;
        bytes[21] = 1;
        bytes
    };
    assert_eq!(
        told(&mut router, expired(udp6(link, (HOST, FAR), 64, 4))),
        Some((3, 0)),
        "the control"
    );
    let error = {
        let mut bytes = Vec::new();
        PacketBuilder::ethernet2(link.0, link.1)
            .ipv6(v6(HOST), v6(FAR), 1)
            .icmpv6_raw(1, 0, [0; 4])
            .write(&mut bytes, &[0; 48])
            .unwrap();
        bytes
    };
    assert_eq!(told(&mut router, error), None, "an error");
    let group = (GUEST, [0x33, 0x33, 0, 0, 0, 1]);
    assert_eq!(
        told(&mut router, expired(udp6(group, (HOST, "ff0e::1"), 64, 4))),
        None,
        "multicast"
    );
    assert_eq!(
        told(&mut router, expired(udp6(group, (HOST, FAR), 64, 4))),
        None,
        "link multicast"
    );
    assert_eq!(
        told(&mut router, expired(udp6(link, ("::", FAR), 64, 4))),
        None,
        "from nobody"
    );
    assert_eq!(
        told(&mut router, expired(udp6(link, ("ff02::5", FAR), 64, 4))),
        None,
        "from many"
    );
}

#[test]
fn s06_errors_are_limited_and_a_traceroute_loses_no_hop() {
    let config = CONFIG6.replace("[ports]", "[router]\nicmp_errors_per_second = 20\n[ports]");
    let mut router = Router::settled(&config);
    let guest = "g";
    ask(&mut router, guest, (GUEST, ROUTER_IN), HOST, GATE);
    let expired = || udp6((GUEST, ROUTER_IN), (HOST, FAR), 1, 10);
    for _ in 0..3 {
        assert_eq!(
            told(&mut router, expired()),
            Some((3, 0)),
            "three probes at once"
        );
    }
    let mut answered = 0;
    for _ in 0..1_000 {
        answered += usize::from(told(&mut router, expired()).is_some());
        router.wait(1);
    }
    assert!((20..=30).contains(&answered), "{answered} in a second");
}

#[test]
fn s10_an_option_that_may_be_skipped_is() {
    let mut router = resolved();
    let guest = "g";
    let options = [&[17, 0, 0x1e, 4, 0, 0, 0, 0][..], &UDP].concat();
    let bytes = raw((GUEST, ROUTER_IN), (HOST, "2001:db8:9::77"), 0, &options);
    assert_eq!(router.inject(guest, bytes), router.emit("up"));
}

#[test]
fn s10_options_and_routing_headers_that_must_be_refused() {
    let mut router = acquainted();
    let link = (GUEST, ROUTER_IN);
    let hop_by_hop = |option: u8| [&[17, 0, option, 4, 0, 0, 0, 0][..], &UDP].concat();
    let with = |option| raw(link, (HOST, FAR), 0, &hop_by_hop(option));
    assert_eq!(
        told(&mut router, with(0x80)),
        Some((4, 2)),
        "10xxxxxx: told"
    );
    assert_eq!(
        told(&mut router, with(0xc0)),
        Some((4, 2)),
        "11xxxxxx: told, not multicast"
    );
    assert_eq!(told(&mut router, with(0x40)), None, "01xxxxxx: dropped");
    assert_eq!(
        router.inject("g", with(0x40)),
        Verdict::Drop(DropReason::IpOptions),
        "01xxxxxx: dropped indeed"
    );
    let source_route = [&[17, 2, 0, 1, 0, 0, 0, 0][..], &v6(FAR), &UDP].concat();
    let bytes = raw(link, (HOST, GATE), 43, &source_route);
    assert_eq!(
        told(&mut router, bytes),
        Some((4, 0)),
        "RFC 5095 at its destination"
    );
}

#[test]
fn s11_errors_about_permitted_flows_reach_their_sender() {
    let config = owned().replace(
        r#"["2001:db8:9::10/64"]"#,
        r#"["2001:db8:9::10/64"], onlink = true"#,
    );
    let mut router = Router::settled(&config);
    let (up, guest) = ("up", "g");
    ask(
        &mut router,
        up,
        (GATEWAY, ROUTER_OUT),
        "2001:db8:9::1",
        "2001:db8:9::10",
    );
    let flow = udp6((GUEST, ROUTER_IN), (HOST, FAR), 64, 10);
    assert_eq!(router.inject(guest, flow.clone()), router.emit(up));
    for (kind, code) in [(1, 0), (1, 4), (2, 0), (3, 0), (4, 1), (4, 2)] {
        let mut bytes = Vec::new();
        PacketBuilder::ethernet2(GATEWAY, ROUTER_OUT)
            .ipv6(v6(FAR), v6(HOST), 64)
            .icmpv6_raw(kind, code, [0, 0, 5, 0])
            .write(&mut bytes, &flow[14..])
            .unwrap();
        assert_eq!(
            router.inject(up, bytes),
            router.emit(guest),
            "{kind}/{code}"
        );
    }
    for kind in [128, 129] {
        let mut bytes = Vec::new();
        PacketBuilder::ethernet2(GATEWAY, ROUTER_OUT)
            .ipv6(v6(FAR), v6(HOST), 64)
            .icmpv6_raw(kind, 0, [0, 1, 0, 1])
            .write(&mut bytes, b"echo")
            .unwrap();
        assert_eq!(router.inject(up, bytes), router.emit(guest), "{kind}");
    }
}

#[test]
fn s04_a_link_local_source_is_told_that_it_reaches_its_link_only() {
    let mut router = acquainted();
    let up = "up";
    ask(&mut router, "g", (GUEST, ROUTER_IN), "fe80::5", "fe80::1");
    ask(
        &mut router,
        up,
        (GATEWAY, ROUTER_OUT),
        "fe80::9",
        "fe80::ff:fe00:aa",
    );
    for (port, macs, ends, own) in [
        ("g", (GUEST, ROUTER_IN), ("fe80::5", FAR), "fe80::1"),
        (
            up,
            (GATEWAY, ROUTER_OUT),
            ("fe80::9", HOST),
            "fe80::ff:fe00:aa",
        ),
    ] {
        router.take_all();
        let verdict = router.inject(port, udp6(macs, ends, 64, 10));
        assert_eq!(verdict, Verdict::Drop(DropReason::Martian));
        let sent = router.sent();
        assert_eq!((sent.len(), &sent[0].0[..]), (1, port));
        let (from, to, kind, code, _) = icmp6(&sent[0].1);
        assert_eq!((from, to), (v6(own).into(), v6(ends.0).into()));
        assert_eq!((kind, code), (1, 2), "beyond scope of source address");
    }
    // Not to ourselves, whoever pretends to be us.
    router.inject("g", udp6((GUEST, ROUTER_IN), ("fe80::1", FAR), 64, 10));
    assert!(router.is_silent());
}

#[test]
fn s10_destination_options_are_refused_by_the_destination_alone() {
    let mut router = acquainted();
    let link = (GUEST, ROUTER_IN);
    let with = |option: u8, to| {
        let options = [&[17, 0, 1, 0, option, 2, 0, 0][..], &UDP].concat();
        raw(link, (HOST, to), 60, &options)
    };
    for (option, expected) in [
        (0x9e, Some((4, 2))),
        (0xde, Some((4, 2))),
        (0x5e, None),
        (0x1e, Some((1, 4))),
    ] {
        assert_eq!(
            told(&mut router, with(option, GATE)),
            expected,
            "{option:#x}"
        );
    }
    router.take_all();
    router.inject("g", with(0x9e, GATE));
    let (_, error) = router.last_sent().unwrap();
    assert_eq!(error[58..62], [0, 0, 0, 44], "points at the option");
    let mut router = resolved();
    let passing = with(0x9e, "2001:db8:9::77");
    assert_eq!(router.inject("g", passing), router.emit("up"));
}
