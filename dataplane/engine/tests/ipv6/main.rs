//! IPv6 through the same router: neighbour discovery for own addresses, forwarding, errors.

mod errors;
#[path = "../lab/mod.rs"]
mod lab;
mod neighbors;

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
