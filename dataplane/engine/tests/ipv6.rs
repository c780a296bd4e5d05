//! IPv6 through the same router: neighbour discovery for own addresses, forwarding, errors.

mod lab;

use std::net::Ipv6Addr;

use etherparse::{Icmpv6Type, NetSlice, PacketBuilder, SlicedPacket, TransportSlice};
use lab::{GATEWAY, GUEST, Lab, ROUTER_IN, ROUTER_OUT};
use tapgate_engine::addr::PortId;
use tapgate_engine::drops::DropReason;
use tapgate_engine::frame::Verdict;

const CONFIG: &str = r#"{
    "ports": { "up": { "memory": true }, "g": { "memory": true } },
    "personalities": { "A": { "port": "up", "mac": "02:00:00:00:00:aa",
        "addresses": ["2001:db8:9::10/64"], "gateway": "2001:db8:9::1" } },
    "networks": {
        "a": { "ports": ["g"], "addresses": ["2001:db8:1::fe/64"], "mac": "02:00:00:00:01:fe" } },
    "tables": { "main": [ { "to": "::/0", "dev": "A" } ] }
}"#;

const HOST: &str = "2001:db8:1::1";
const GATE: &str = "2001:db8:1::fe";
const FAR: &str = "2001:db8:ffff::1";

fn ip(text: &str) -> [u8; 16] {
    text.parse::<Ipv6Addr>().unwrap().octets()
}

/// A neighbour solicitation or advertisement with its link-layer address option.
fn nd(
    macs: ([u8; 6], [u8; 6]),
    ips: (&str, &str),
    kind: u8,
    flags: u8,
    target: &str,
    option: Option<u8>,
) -> Vec<u8> {
    let mut rest = ip(target).to_vec();
    if let Some(option) = option {
        rest.extend([option, 1]);
        rest.extend(macs.0);
    }
    let mut bytes = Vec::new();
    PacketBuilder::ethernet2(macs.0, macs.1)
        .ipv6(ip(ips.0), ip(ips.1), 255)
        .icmpv6_raw(kind, 0, [flags, 0, 0, 0])
        .write(&mut bytes, &rest)
        .unwrap();
    bytes
}

fn udp(macs: ([u8; 6], [u8; 6]), ips: (&str, &str), hop_limit: u8, payload: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    PacketBuilder::ethernet2(macs.0, macs.1)
        .ipv6(ip(ips.0), ip(ips.1), hop_limit)
        .udp(5000, 53)
        .write(&mut bytes, &vec![7; payload])
        .unwrap();
    bytes
}

/// What an ICMPv6 frame says, its checksum verified: addresses, type, code, length of the packet.
fn icmp(bytes: &[u8]) -> (Ipv6Addr, Ipv6Addr, u8, u8, usize) {
    let sliced = SlicedPacket::from_ethernet(bytes).unwrap();
    let Some(NetSlice::Ipv6(net)) = &sliced.net else {
        panic!("{sliced:?}")
    };
    let Some(TransportSlice::Icmpv6(icmp)) = &sliced.transport else {
        panic!("{sliced:?}")
    };
    let (source, destination) = (net.header().source(), net.header().destination());
    assert!(icmp.is_checksum_valid(source, destination));
    let length = 40 + usize::from(net.header().payload_length());
    let (kind, code) = (icmp.type_u8(), icmp.code_u8());
    (source.into(), destination.into(), kind, code, length)
}

/// A lab whose neighbours are known.
fn lab() -> Lab {
    let mut lab = Lab::new(CONFIG);
    let (up, guest) = (lab.up, lab.guest);
    ask(&mut lab, guest, (GUEST, ROUTER_IN), HOST, GATE);
    ask(
        &mut lab,
        up,
        (GATEWAY, ROUTER_OUT),
        "2001:db8:9::1",
        "2001:db8:9::10",
    );
    lab.out.clear();
    lab
}

fn ask(lab: &mut Lab, port: PortId, macs: ([u8; 6], [u8; 6]), from: &str, target: &str) {
    let bytes = nd(macs, (from, target), 135, 0, target, Some(1));
    assert_eq!(lab.send(port, bytes), Verdict::Consumed);
}

#[test]
fn n03_a_solicitation_for_an_own_address_is_answered_with_all_flags() {
    let mut lab = Lab::new(CONFIG);
    let guest = lab.guest;
    let group = [0x33, 0x33, 0xff, 0, 0, 0xfe];
    let bytes = nd(
        (GUEST, group),
        (HOST, "ff02::1:ff00:fe"),
        135,
        0,
        GATE,
        Some(1),
    );
    assert_eq!(lab.send(guest, bytes), Verdict::Consumed);
    let (port, answer) = lab
        .out
        .iter()
        .find(|(_, bytes)| bytes[12..14] == [0x86, 0xdd])
        .expect("an advertisement");
    assert_eq!(
        (*port, &answer[..12]),
        (guest, &[GUEST, ROUTER_IN].concat()[..])
    );
    assert_eq!(icmp(answer), (ip(GATE).into(), ip(HOST).into(), 136, 0, 72));
    assert_eq!(answer[58], 0xe0, "router, solicited, override");
    assert_eq!(answer[62..78], ip(GATE));
    assert_eq!(answer[78..], [&[2, 1][..], &ROUTER_IN].concat());
}

#[test]
fn n04_a_duplicate_address_probe_for_an_own_address_is_answered_to_all_nodes() {
    let mut lab = lab();
    let guest = lab.guest;
    let group = [0x33, 0x33, 0xff, 0, 0, 0xfe];
    let bytes = nd(
        (GUEST, group),
        ("::", "ff02::1:ff00:fe"),
        135,
        0,
        GATE,
        None,
    );
    assert_eq!(lab.send(guest, bytes), Verdict::Consumed);
    let (_, answer) = lab.out.pop_back().expect("an advertisement");
    assert_eq!(answer[..6], [0x33, 0x33, 0, 0, 0, 1]);
    assert_eq!(
        icmp(&answer),
        (ip(GATE).into(), ip("ff02::1").into(), 136, 0, 72)
    );
    assert_eq!(answer[58], 0xa0, "router, override, not solicited");
}

#[test]
fn n01_solicitations_that_fail_a_check_are_silent() {
    let mut lab = lab();
    let guest = lab.guest;
    let good = || nd((GUEST, ROUTER_IN), (HOST, GATE), 135, 0, GATE, Some(1));
    let spoil = |at: usize, value: u8| {
        let mut bytes = good();
        bytes[at] = value;
        bytes
    };
    let probe = |destination, option| {
        nd(
            (GUEST, ROUTER_IN),
            ("::", destination),
            135,
            0,
            GATE,
            option,
        )
    };
    let mutants = [
        ("hop limit 254", spoil(21, 254)),
        ("checksum", spoil(56, 0x12)),
        ("code", spoil(55, 1)),
        ("option of length zero", spoil(79, 0)),
        (
            "multicast target",
            nd((GUEST, ROUTER_IN), (HOST, GATE), 135, 0, "ff02::1", Some(1)),
        ),
        ("probe with an option", probe("ff02::1:ff00:fe", Some(1))),
        ("probe not to its group", probe(GATE, None)),
    ];
    for (what, bytes) in mutants {
        let verdict = lab.send(guest, bytes);
        assert_eq!(verdict, Verdict::Drop(DropReason::NdMalformed), "{what}");
        assert!(lab.out.is_empty(), "{what}");
    }
    assert_eq!(lab.send(guest, good()), Verdict::Consumed);
}

#[test]
fn n07_a_solicitation_for_what_is_not_ours_is_silent() {
    let mut lab = lab();
    let guest = lab.guest;
    for target in ["2001:db8:1::fd", "2001:db8:9::10", "2001:db8:1::1"] {
        let bytes = nd((GUEST, ROUTER_IN), (HOST, target), 135, 0, target, Some(1));
        assert_eq!(
            lab.send(guest, bytes),
            Verdict::Drop(DropReason::NdNotForUs),
            "{target}"
        );
        assert!(lab.out.is_empty());
    }
}

#[test]
fn n09_an_unknown_next_hop_is_solicited_and_the_packet_leaves_when_it_answers() {
    let mut lab = Lab::new(CONFIG);
    let (up, guest) = (lab.up, lab.guest);
    ask(
        &mut lab,
        up,
        (GATEWAY, ROUTER_OUT),
        "2001:db8:9::1",
        "2001:db8:9::10",
    );
    let inward = udp((GATEWAY, ROUTER_OUT), (FAR, HOST), 9, 10);
    assert_eq!(lab.send(up, inward), Verdict::Hold);
    let (port, asked) = lab.out.pop_back().expect("a solicitation");
    assert_eq!(port, guest);
    assert_eq!(asked[..6], [0x33, 0x33, 0xff, 0, 0, 1]);
    let (source, destination, kind, ..) = icmp(&asked);
    assert_eq!((source, kind), (ip("fe80::1").into(), 135));
    assert_eq!(destination, "ff02::1:ff00:1".parse::<Ipv6Addr>().unwrap());
    let answer = nd(
        (GUEST, ROUTER_IN),
        (HOST, "fe80::1"),
        136,
        0x60,
        HOST,
        Some(2),
    );
    assert_eq!(lab.send(guest, answer), Verdict::Consumed);
    let (port, bytes) = lab.out.pop_back().expect("the packet that waited");
    assert_eq!((port, &bytes[..6], bytes[21]), (guest, &GUEST[..], 8));
}

#[test]
fn s01_the_hop_limit_is_decremented_and_its_end_is_told() {
    let mut lab = lab();
    let (up, guest) = (lab.up, lab.guest);
    let inward = udp((GATEWAY, ROUTER_OUT), (FAR, HOST), 2, 10);
    assert_eq!(lab.send(up, inward), Verdict::Emit(guest));
    let (_, bytes) = lab.out.pop_back().unwrap();
    assert_eq!(bytes[21], 1);
    let inward = udp((GATEWAY, ROUTER_OUT), (FAR, HOST), 1, 10);
    assert_eq!(lab.send(up, inward), Verdict::Drop(DropReason::TtlExceeded));
    let (port, error) = lab.out.pop_back().expect("an error");
    assert_eq!(port, up);
    let (source, destination, kind, code, _) = icmp(&error);
    assert_eq!(
        (source, destination),
        (ip("2001:db8:9::10").into(), ip(FAR).into())
    );
    assert_eq!((kind, code), (3, 0));
}

#[test]
fn s02_s03_too_big_is_told_with_the_mtu_in_at_most_1280_bytes() {
    let mut lab = lab();
    let (up, guest) = (lab.up, lab.guest);
    let fits = udp((GATEWAY, ROUTER_OUT), (FAR, HOST), 9, 1500 - 48);
    assert_eq!(lab.send(up, fits), Verdict::Emit(guest));
    lab.out.clear();
    let over = udp((GATEWAY, ROUTER_OUT), (FAR, HOST), 9, 1501 - 48);
    assert_eq!(
        lab.send(up, over),
        Verdict::Drop(DropReason::FragmentationNeeded)
    );
    let (_, error) = lab.out.pop_back().expect("an error");
    let (.., kind, code, length) = icmp(&error);
    assert_eq!((kind, code, length), (2, 0, 1280));
    assert_eq!(error[58..62], 1500_u32.to_be_bytes());
}

#[test]
fn s07_echo_is_answered_from_the_address_asked() {
    let mut lab = lab();
    let guest = lab.guest;
    for asked in [GATE, "2001:db8:9::10"] {
        let mut bytes = Vec::new();
        PacketBuilder::ethernet2(GUEST, ROUTER_IN)
            .ipv6(ip(HOST), ip(asked), 1)
            .icmpv6(Icmpv6Type::EchoRequest(etherparse::IcmpEchoHeader {
                id: 9,
                seq: 3,
            }))
            .write(&mut bytes, b"ping")
            .unwrap();
        assert_eq!(lab.send(guest, bytes), Verdict::Emit(guest));
        let (_, reply) = lab.out.pop_back().unwrap();
        assert_eq!(
            icmp(&reply),
            (ip(asked).into(), ip(HOST).into(), 129, 0, 52)
        );
        assert_eq!(reply[58..66], [&[0, 9, 0, 3][..], b"ping"].concat());
    }
}

#[test]
fn echo_between_link_local_addresses_stays_on_its_link() {
    let mut lab = lab();
    let guest = lab.guest;
    ask(&mut lab, guest, (GUEST, ROUTER_IN), "fe80::5", "fe80::1");
    lab.out.clear();
    let mut bytes = Vec::new();
    PacketBuilder::ethernet2(GUEST, ROUTER_IN)
        .ipv6(ip("fe80::5"), ip("fe80::1"), 64)
        .icmpv6(Icmpv6Type::EchoRequest(etherparse::IcmpEchoHeader {
            id: 1,
            seq: 1,
        }))
        .write(&mut bytes, &[])
        .unwrap();
    assert_eq!(lab.send(guest, bytes), Verdict::Emit(guest));
    let (_, reply) = lab.out.pop_back().unwrap();
    assert_eq!(
        icmp(&reply),
        (ip("fe80::1").into(), ip("fe80::5").into(), 129, 0, 48)
    );
}

#[test]
fn s09_link_local_and_multicast_are_not_forwarded() {
    let mut lab = lab();
    let guest = lab.guest;
    for (from, to, reason) in [
        ("fe80::5", FAR, DropReason::Martian),
        ("::", FAR, DropReason::Martian),
        ("::1", FAR, DropReason::Martian),
        (HOST, "fe80::9", DropReason::Martian),
        (HOST, "::1", DropReason::Martian),
        (HOST, "ff0e::1", DropReason::Broadcast),
    ] {
        let bytes = udp((GUEST, ROUTER_IN), (from, to), 64, 10);
        assert_eq!(
            lab.send(guest, bytes),
            Verdict::Drop(reason),
            "{from} > {to}"
        );
        assert!(lab.out.is_empty());
    }
}

#[test]
fn x01_a_guest_that_nothing_translates_does_not_leave_the_uplink() {
    let mut lab = lab();
    let guest = lab.guest;
    let bytes = udp((GUEST, ROUTER_IN), (HOST, FAR), 64, 10);
    assert_eq!(
        lab.send(guest, bytes),
        Verdict::Drop(DropReason::EgressGuard)
    );
    assert!(lab.out.is_empty());
}

/// An IPv6 packet with extension headers `rest` (with what follows them) behind `next`.
fn raw(macs: ([u8; 6], [u8; 6]), ips: (&str, &str), next: u8, rest: &[u8]) -> Vec<u8> {
    let mut bytes = [&macs.1[..], &macs.0, &[0x86, 0xdd, 0x60, 0, 0, 0]].concat();
    bytes.extend((rest.len() as u16).to_be_bytes());
    bytes.extend([next, 64]);
    bytes.extend(ip(ips.0));
    bytes.extend(ip(ips.1));
    bytes.extend(rest);
    bytes
}

/// UDP without a checksum error that matters: ports 1 and 2, eight bytes.
const UDP: [u8; 8] = [0, 1, 0, 2, 0, 8, 0, 0];

/// Type and code of the one ICMPv6 error that came back to the guest.
fn told(lab: &mut Lab, bytes: Vec<u8>) -> Option<(u8, u8)> {
    let guest = lab.guest;
    lab.out.clear();
    lab.send(guest, bytes);
    let errors: Vec<_> = lab
        .sent()
        .into_iter()
        .filter(|(port, bytes)| *port == guest && bytes[12..14] == [0x86, 0xdd])
        .collect();
    assert!(errors.len() <= 1);
    errors.first().map(|(_, bytes)| {
        let (from, to, kind, code, _) = icmp(bytes);
        assert_eq!((from, to), (ip(GATE).into(), ip(HOST).into()));
        (kind, code)
    })
}

#[test]
fn s04_every_cause_has_its_code() {
    let config = CONFIG.replace(
        r#""main": ["#,
        r#""main": [ { "to": "2001:db8:f1::/48", "type": "unreachable" },
            { "to": "2001:db8:f2::/48", "type": "prohibit" },
            { "to": "2001:db8:f3::/48", "type": "blackhole" },"#,
    );
    let config = config.replace(
        r#"{ "to": "::/0", "dev": "A" }"#,
        r#"{ "to": "2001:db8:ffff::/48", "dev": "A" }"#,
    );
    let mut lab = Lab::new(&config);
    let guest = lab.guest;
    ask(&mut lab, guest, (GUEST, ROUTER_IN), HOST, GATE);
    let to = |far: &str| udp((GUEST, ROUTER_IN), (HOST, far), 64, 10);
    assert_eq!(
        told(&mut lab, to("2001:db8:f0::1")),
        Some((1, 0)),
        "no route"
    );
    assert_eq!(
        told(&mut lab, to("2001:db8:f1::1")),
        Some((1, 6)),
        "reject route"
    );
    assert_eq!(
        told(&mut lab, to("2001:db8:f2::1")),
        Some((1, 1)),
        "prohibited"
    );
    assert_eq!(told(&mut lab, to("2001:db8:f3::1")), None, "blackhole");
    assert_eq!(
        told(&mut lab, to("fe80::77")),
        None,
        "beyond scope: never answered off the link"
    );
    // The address is on the link and does not answer.
    lab.send(guest, to("2001:db8:1::77"));
    lab.wait(3_100);
    let errors: Vec<_> = lab
        .sent()
        .into_iter()
        .filter(|(port, bytes)| *port == guest && bytes[54] < 128)
        .collect();
    let (_, _, kind, code, _) = icmp(&errors[0].1);
    assert_eq!(
        (kind, code),
        (1, 3),
        "address unreachable after three tries"
    );
}

#[test]
fn s05_no_error_about_what_must_not_be_answered() {
    let mut lab = lab();
    let link = (GUEST, ROUTER_IN);
    let expired = |bytes: Vec<u8>| {
        let mut bytes = bytes;
        bytes[21] = 1;
        bytes
    };
    assert_eq!(
        told(&mut lab, expired(udp(link, (HOST, FAR), 64, 4))),
        Some((3, 0)),
        "the control"
    );
    let error = {
        let mut bytes = Vec::new();
        PacketBuilder::ethernet2(link.0, link.1)
            .ipv6(ip(HOST), ip(FAR), 1)
            .icmpv6_raw(1, 0, [0; 4])
            .write(&mut bytes, &[0; 48])
            .unwrap();
        bytes
    };
    assert_eq!(told(&mut lab, error), None, "an error");
    let group = (GUEST, [0x33, 0x33, 0, 0, 0, 1]);
    assert_eq!(
        told(&mut lab, expired(udp(group, (HOST, "ff0e::1"), 64, 4))),
        None,
        "multicast"
    );
    assert_eq!(
        told(&mut lab, expired(udp(group, (HOST, FAR), 64, 4))),
        None,
        "link multicast"
    );
    assert_eq!(
        told(&mut lab, expired(udp(link, ("::", FAR), 64, 4))),
        None,
        "from nobody"
    );
    assert_eq!(
        told(&mut lab, expired(udp(link, ("ff02::5", FAR), 64, 4))),
        None,
        "from many"
    );
}

#[test]
fn s06_errors_are_limited_and_a_traceroute_loses_no_hop() {
    let config = CONFIG.replace(
        r#""ports": {"#,
        r#""router": { "icmp_errors_per_second": 20 }, "ports": {"#,
    );
    let mut lab = Lab::new(&config);
    let guest = lab.guest;
    ask(&mut lab, guest, (GUEST, ROUTER_IN), HOST, GATE);
    let expired = || udp((GUEST, ROUTER_IN), (HOST, FAR), 1, 10);
    for _ in 0..3 {
        assert_eq!(
            told(&mut lab, expired()),
            Some((3, 0)),
            "three probes at once"
        );
    }
    let mut answered = 0;
    for _ in 0..1_000 {
        answered += usize::from(told(&mut lab, expired()).is_some());
        lab.wait(1);
    }
    assert!((20..=30).contains(&answered), "{answered} in a second");
}

#[test]
fn s10_an_option_that_may_be_skipped_is() {
    let mut lab = resolved();
    let guest = lab.guest;
    let options = [&[17, 0, 0x1e, 4, 0, 0, 0, 0][..], &UDP].concat();
    let bytes = raw((GUEST, ROUTER_IN), (HOST, "2001:db8:9::77"), 0, &options);
    assert_eq!(lab.send(guest, bytes), Verdict::Emit(lab.up));
}

#[test]
fn s10_options_and_routing_headers_that_must_be_refused() {
    let mut lab = lab();
    let link = (GUEST, ROUTER_IN);
    let hop_by_hop = |option: u8| [&[17, 0, option, 4, 0, 0, 0, 0][..], &UDP].concat();
    let with = |option| raw(link, (HOST, FAR), 0, &hop_by_hop(option));
    assert_eq!(told(&mut lab, with(0x80)), Some((4, 2)), "10xxxxxx: told");
    assert_eq!(
        told(&mut lab, with(0xc0)),
        Some((4, 2)),
        "11xxxxxx: told, not multicast"
    );
    assert_eq!(told(&mut lab, with(0x40)), None, "01xxxxxx: dropped");
    let source_route = [&[17, 2, 0, 1, 0, 0, 0, 0][..], &ip(FAR), &UDP].concat();
    let bytes = raw(link, (HOST, GATE), 43, &source_route);
    assert_eq!(
        told(&mut lab, bytes),
        Some((4, 0)),
        "RFC 5095 at its destination"
    );
}

#[test]
fn s11_errors_about_permitted_flows_reach_their_sender() {
    let config = CONFIG.replace(
        r#"["2001:db8:9::10/64"]"#,
        r#"["2001:db8:9::10/64"], "onlink": true"#,
    );
    let config = config.replace(
        r#""tables""#,
        r#""guests": { "v": { "port": "g", "mac": "02:00:00:00:01:01", "public": ["2001:db8:1::1"] } }, "tables""#,
    );
    let mut lab = Lab::new(&config);
    let (up, guest) = (lab.up, lab.guest);
    ask(
        &mut lab,
        up,
        (GATEWAY, ROUTER_OUT),
        "2001:db8:9::1",
        "2001:db8:9::10",
    );
    let flow = udp((GUEST, ROUTER_IN), (HOST, FAR), 64, 10);
    assert_eq!(lab.send(guest, flow.clone()), Verdict::Emit(up));
    for (kind, code) in [(1, 0), (1, 4), (2, 0), (3, 0), (4, 1), (4, 2)] {
        let mut bytes = Vec::new();
        PacketBuilder::ethernet2(GATEWAY, ROUTER_OUT)
            .ipv6(ip(FAR), ip(HOST), 64)
            .icmpv6_raw(kind, code, [0, 0, 5, 0])
            .write(&mut bytes, &flow[14..])
            .unwrap();
        assert_eq!(lab.send(up, bytes), Verdict::Emit(guest), "{kind}/{code}");
    }
    for kind in [128, 129] {
        let mut bytes = Vec::new();
        PacketBuilder::ethernet2(GATEWAY, ROUTER_OUT)
            .ipv6(ip(FAR), ip(HOST), 64)
            .icmpv6_raw(kind, 0, [0, 1, 0, 1])
            .write(&mut bytes, b"echo")
            .unwrap();
        assert_eq!(lab.send(up, bytes), Verdict::Emit(guest), "{kind}");
    }
}

/// The link-layer destination of a packet from the guest to `FAR`, which goes by the gateway.
fn leads_to(lab: &mut Lab) -> Option<[u8; 6]> {
    let (up, guest) = (lab.up, lab.guest);
    lab.out.clear();
    lab.send(
        guest,
        udp((GUEST, ROUTER_IN), (HOST, "2001:db8:9::77"), 64, 10),
    );
    let sent = lab.sent();
    let packet = sent
        .iter()
        .find(|(port, bytes)| *port == up && bytes[20] == 17);
    packet.map(|(_, bytes)| bytes[..6].try_into().unwrap())
}

const FIRST: [u8; 6] = [2, 0, 0, 0, 9, 1];
const SECOND: [u8; 6] = [2, 0, 0, 0, 9, 2];

/// A router that has asked for 2001:db8:9::77, and been told by `FIRST`.
fn resolved() -> Lab {
    let config = CONFIG.replace(
        r#""tables""#,
        r#""guests": { "v": { "port": "g", "mac": "02:00:00:00:01:01", "public": ["2001:db8:1::1"] } }, "tables""#,
    );
    let mut lab = Lab::new(&config);
    assert_eq!(leads_to(&mut lab), None);
    advertise(&mut lab, FIRST, 0x60);
    assert_eq!(leads_to(&mut lab), Some(FIRST));
    lab
}

fn advertise(lab: &mut Lab, mac: [u8; 6], flags: u8) {
    let up = lab.up;
    let target = "2001:db8:9::77";
    let to = if flags & 0x40 == 0 {
        "ff02::1"
    } else {
        "2001:db8:9::10"
    };
    let to_mac = if flags & 0x40 == 0 {
        [0x33, 0x33, 0, 0, 0, 1]
    } else {
        ROUTER_OUT
    };
    lab.send(
        up,
        nd((mac, to_mac), (target, to), 136, flags, target, Some(2)),
    );
}

#[test]
fn n02_n10_an_advertisement_without_override_keeps_the_mac() {
    let mut lab = resolved();
    advertise(&mut lab, SECOND, 0x40);
    assert_eq!(leads_to(&mut lab), Some(FIRST), "O=0: kept, now stale");
    advertise(&mut lab, SECOND, 0x20);
    assert_eq!(leads_to(&mut lab), Some(SECOND), "O=1: replaced");
    let up = lab.up;
    let target = "2001:db8:9::77";
    let group = (FIRST, [0x33, 0x33, 0, 0, 0, 1]);
    let wrong = nd(group, (target, "ff02::1"), 136, 0x60, target, Some(2));
    assert_eq!(
        lab.send(up, wrong),
        Verdict::Drop(DropReason::NdMalformed),
        "S=1 to all"
    );
    let mut far = nd(
        (FIRST, ROUTER_OUT),
        (target, "2001:db8:9::10"),
        136,
        0x60,
        target,
        Some(2),
    );
    far[21] = 254;
    assert_eq!(
        lab.send(up, far),
        Verdict::Drop(DropReason::NdMalformed),
        "passed a router"
    );
    assert_eq!(leads_to(&mut lab), Some(SECOND));
}

#[test]
fn n08_a_solicitation_with_a_new_mac_is_believed() {
    let mut lab = resolved();
    let up = lab.up;
    let from = (SECOND, ROUTER_OUT);
    let asks = nd(
        from,
        ("2001:db8:9::77", "2001:db8:9::10"),
        135,
        0,
        "2001:db8:9::10",
        Some(1),
    );
    assert_eq!(lab.send(up, asks), Verdict::Consumed);
    assert_eq!(leads_to(&mut lab), Some(SECOND));
    lab.wait(5_100);
    let probes: Vec<_> = lab
        .sent()
        .into_iter()
        .filter(|(_, bytes)| bytes[54] == 135)
        .collect();
    assert_eq!(probes[0].1[..6], SECOND, "stale: used, then probed");
}

#[test]
fn n11_a_host_that_goes_deaf_is_probed_three_times_and_forgotten() {
    let mut lab = resolved();
    lab.wait(46_000);
    assert_eq!(leads_to(&mut lab), Some(FIRST), "stale by now, and used");
    let start = lab.now;
    let mut probes = Vec::new();
    for _ in 0..100 {
        lab.wait(100);
        for (port, bytes) in lab.sent() {
            if port == lab.up && bytes[54] == 135 {
                assert_eq!(bytes[..6], FIRST, "to it alone");
                probes.push(lab.now.since(start).as_millis());
            }
        }
    }
    assert_eq!(probes.len(), 3, "{probes:?}");
    assert!((4_900..=5_200).contains(&probes[0]), "{probes:?}");
    assert!(
        probes
            .windows(2)
            .all(|pair| (900..=1_100).contains(&(pair[1] - pair[0])))
    );
    assert_eq!(leads_to(&mut lab), None, "asked for anew");
}

#[test]
fn n18_an_optimistic_host_is_served() {
    let mut lab = resolved();
    let up = lab.up;
    // RFC 4429 §3.3: solicitations without a link-layer option, advertisements without override.
    let asks = nd(
        (SECOND, ROUTER_OUT),
        ("2001:db8:9::88", "2001:db8:9::10"),
        135,
        0,
        "2001:db8:9::10",
        None,
    );
    assert_eq!(
        lab.send(up, asks),
        Verdict::Consumed,
        "answered to its frame's source"
    );
    let (_, answer) = &lab.sent()[0];
    assert_eq!(answer[..6], SECOND);
    assert_eq!(leads_to(&mut lab), Some(FIRST));
}

#[test]
fn n19_a_redirect_changes_nothing() {
    let mut lab = resolved();
    let up = lab.up;
    let mut redirect = nd(
        (SECOND, ROUTER_OUT),
        ("fe80::9", HOST),
        137,
        0,
        "2001:db8:9::66",
        None,
    );
    redirect.truncate(redirect.len());
    let verdict = lab.send(up, redirect);
    assert!(
        matches!(
            verdict,
            Verdict::Drop(DropReason::NdIgnored | DropReason::NdMalformed)
        ),
        "{verdict:?}"
    );
    assert_eq!(leads_to(&mut lab), Some(FIRST));
}
