//! Guests with addresses of their own: routing to them, port forwarding, an address shared with the
//! host, what is alive behind a network, listener reports.

mod lab;

use std::net::Ipv6Addr;

use etherparse::PacketBuilder;
use lab::{GATEWAY, GUEST, Lab, ROUTER_IN, ROUTER_OUT};
use tapgate_engine::addr::PortId;
use tapgate_engine::drops::DropReason;
use tapgate_engine::frame::Verdict;

/// One MAC and one address, the host's own; a /29 and an IPv6 /64 beside it.
const SHARED: &str = r#"{
    "ports": { "up": { "memory": true }, "g": { "memory": true } },
    "personalities": { "host": { "port": "up", "mac": "02:00:00:00:00:aa",
        "addresses": ["198.51.100.7/32", "2001:db8:9::7/64"], "gateway": ["198.51.100.1", "fe80::9"],
        "onlink": true, "shared": "61000-61003" } },
    "networks": { "a": { "ports": ["g"], "addresses": ["10.0.1.254/24"], "mac": "02:00:00:00:01:fe" } },
    "guests": { "web": { "port": "g", "mac": "02:00:00:00:01:01", "addresses": ["10.0.1.1"],
        "public": ["203.0.113.8/29", "2001:db8:9::20"] } },
    "tables": { "main": [ { "to": "default", "dev": "host" }, { "to": "::/0", "dev": "host" } ] },
    "nat": { "snat": [ { "from": "10.0.1.0/24", "to": "198.51.100.7" } ],
        "forward": [ { "address": "198.51.100.7", "proto": "tcp", "port": 2222, "to": "10.0.1.1:22" },
            { "address": "198.51.100.7", "proto": "udp", "port": 61001, "to": "10.0.1.1:53" } ] }
}"#;

const HOST: [u8; 4] = [198, 51, 100, 7];
const REMOTE: [u8; 4] = [192, 0, 2, 9];
const INSIDE: [u8; 4] = [10, 0, 1, 1];

fn v6(address: &str) -> [u8; 16] {
    address.parse::<Ipv6Addr>().unwrap().octets()
}

type Ends = ([u8; 4], u16);

fn udp(macs: ([u8; 6], [u8; 6]), from: Ends, to: Ends) -> Vec<u8> {
    let mut bytes = Vec::new();
    PacketBuilder::ethernet2(macs.0, macs.1)
        .ipv4(from.0, to.0, 64)
        .udp(from.1, to.1)
        .write(&mut bytes, b"payload")
        .unwrap();
    bytes
}

fn tcp(macs: ([u8; 6], [u8; 6]), from: Ends, to: Ends, syn: bool, ack: bool) -> Vec<u8> {
    let mut builder = PacketBuilder::ethernet2(macs.0, macs.1)
        .ipv4(from.0, to.0, 64)
        .tcp(from.1, to.1, 1, 1_000);
    if syn {
        builder = builder.syn();
    }
    if ack {
        builder = builder.ack(1);
    }
    let mut bytes = Vec::new();
    builder.write(&mut bytes, &[]).unwrap();
    bytes
}

/// Source and destination, with ports, of an IPv4 frame; its checksums are right.
fn ends(bytes: &[u8]) -> (Ends, Ends) {
    let sliced = etherparse::SlicedPacket::from_ethernet(bytes).unwrap();
    let Some(etherparse::NetSlice::Ipv4(ip)) = &sliced.net else {
        panic!("{sliced:?}")
    };
    let header = ip.header().to_header();
    assert_eq!(header.calc_header_checksum(), header.header_checksum);
    let port = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
    let (from, to) = ((header.source, port(34)), (header.destination, port(36)));
    match sliced.transport.unwrap() {
        etherparse::TransportSlice::Tcp(tcp) => {
            let right = tcp.calc_checksum_ipv4(ip.header().source(), ip.header().destination());
            assert_eq!(right.unwrap(), tcp.checksum());
        }
        etherparse::TransportSlice::Udp(udp) => {
            let right = udp
                .to_header()
                .calc_checksum_ipv4(&header, udp.payload())
                .unwrap();
            assert_eq!(right, udp.checksum());
        }
        other => panic!("{other:?}"),
    }
    (from, to)
}

/// The frame that left by `port`, of those that are IPv4.
fn left(lab: &mut Lab, port: PortId) -> Vec<u8> {
    let sent = lab.sent();
    let ip = |(to, bytes): &(PortId, Vec<u8>)| *to == port && bytes[12..14] == [8, 0];
    let found = sent.iter().find(|frame| ip(frame));
    found.unwrap_or_else(|| panic!("{sent:02x?}")).1.clone()
}

fn shared() -> Lab {
    let mut lab = Lab::new(SHARED);
    let (up, guest) = (lab.up, lab.guest);
    // The first packet asks for the gateway's MAC, with the shared address; the answer comes to
    // the shared MAC.
    lab.send(
        guest,
        udp((GUEST, ROUTER_IN), ([203, 0, 113, 8], 1), (REMOTE, 9)),
    );
    lab.arp_reply(up, GATEWAY, [198, 51, 100, 1], ROUTER_OUT, HOST);
    lab.out.clear();
    lab
}

#[test]
fn what_is_the_hosts_is_left_to_it() {
    let mut lab = shared();
    let up = lab.up;
    let link = (GATEWAY, ROUTER_OUT);
    for bytes in [
        tcp(link, (REMOTE, 5_000), (HOST, 22), true, false),
        udp(link, (REMOTE, 53), (HOST, 40_000)),
        udp(link, (REMOTE, 53), ([198, 51, 100, 99], 40_000)),
        // Within the range, but nobody's flow: the kernel is kept from answering elsewhere.
        tcp(link, (REMOTE, 5_000), (HOST, 61_000), true, false),
    ] {
        assert_eq!(lab.send(up, bytes), Verdict::Drop(DropReason::LeftToHost));
    }
    let mut ping = Vec::new();
    PacketBuilder::ethernet2(link.0, link.1)
        .ipv4(REMOTE, HOST, 64)
        .icmpv4_echo_request(1, 1)
        .write(&mut ping, &[])
        .unwrap();
    assert_eq!(lab.send(up, ping), Verdict::Drop(DropReason::LeftToHost));
    let arp = etherparse::ArpPacket::new(
        etherparse::ArpHardwareId::ETHERNET,
        etherparse::EtherType::IPV4,
        etherparse::ArpOperation::REQUEST,
        &GATEWAY,
        &[198, 51, 100, 1],
        &[0; 6],
        &HOST,
    );
    let mut who_has = Vec::new();
    PacketBuilder::ethernet2(GATEWAY, [0xff; 6])
        .arp(arp.unwrap())
        .write(&mut who_has)
        .unwrap();
    assert_eq!(lab.send(up, who_has), Verdict::Drop(DropReason::LeftToHost));
    assert!(lab.out.is_empty());
    // Neither claimed nor announced: the kernel did that.
    let mut fresh = Lab::fresh(SHARED);
    fresh.wait(20_000);
    let host = |(_, bytes): &(PortId, Vec<u8>)| {
        bytes[12..14] == [8, 6] && bytes[38..42] == HOST
            || bytes.len() > 78 && bytes[54] != 143 && bytes[62..78] == v6("2001:db8:9::7")
    };
    assert!(!fresh.sent().iter().any(host));
}

#[test]
fn a_shared_address_is_worn_with_reserved_ports_only_and_never_a_forwarded_one() {
    let mut lab = shared();
    let (up, guest) = (lab.up, lab.guest);
    let mut used = Vec::new();
    for port in [4_000, 4_001, 4_002, 61_001] {
        let verdict = lab.send(guest, udp((GUEST, ROUTER_IN), (INSIDE, port), (REMOTE, 53)));
        if verdict == Verdict::Drop(DropReason::NatExhausted) {
            continue;
        }
        let bytes = left(&mut lab, up);
        assert_eq!(bytes[6..12], ROUTER_OUT);
        let (from, to) = ends(&bytes);
        assert_eq!((from.0, to), (HOST, (REMOTE, 53)));
        used.push(from.1);
        let back = udp((GATEWAY, ROUTER_OUT), (REMOTE, 53), from);
        assert_eq!(lab.send(up, back), Verdict::Emit(guest));
        assert_eq!(ends(&left(&mut lab, guest)), ((REMOTE, 53), (INSIDE, port)));
    }
    used.sort_unstable();
    assert_eq!(used, [61_000, 61_002, 61_003], "61001 is forwarded");
}

#[test]
fn t21_a_forwarded_port_keeps_the_remotes_address_and_answers_come_back_as_asked() {
    let mut lab = shared();
    let (up, guest) = (lab.up, lab.guest);
    let link = (GATEWAY, ROUTER_OUT);
    let syn = tcp(link, (REMOTE, 5_000), (HOST, 2_222), true, false);
    assert_eq!(lab.send(up, syn.clone()), Verdict::Emit(guest));
    let bytes = left(&mut lab, guest);
    assert_eq!((&bytes[..6], &bytes[6..12]), (&GUEST[..], &ROUTER_IN[..]));
    assert_eq!(ends(&bytes), ((REMOTE, 5_000), (INSIDE, 22)));
    let answer = tcp(
        (GUEST, ROUTER_IN),
        (INSIDE, 22),
        (REMOTE, 5_000),
        true,
        true,
    );
    assert_eq!(lab.send(guest, answer), Verdict::Emit(up));
    let bytes = left(&mut lab, up);
    assert_eq!(
        (&bytes[..6], &bytes[6..12]),
        (&GATEWAY[..], &ROUTER_OUT[..])
    );
    assert_eq!(ends(&bytes), ((HOST, 2_222), (REMOTE, 5_000)));

    // It stands under a new configuration that forwards it still, and ends with one that does not.
    lab.apply(&SHARED.replace("10.0.1.1:53", "10.0.1.1:54"));
    let more = tcp(link, (REMOTE, 5_000), (HOST, 2_222), false, true);
    assert_eq!(lab.send(up, more.clone()), Verdict::Emit(guest));
    assert_eq!(ends(&left(&mut lab, guest)).1, (INSIDE, 22));
    lab.apply(&SHARED.replace("10.0.1.1:22", "10.0.1.1:23"));
    assert_eq!(lab.send(up, more), Verdict::Emit(guest));
    assert_eq!(
        ends(&left(&mut lab, guest)).1,
        (INSIDE, 23),
        "a new session"
    );
    lab.apply(&SHARED.replace("\"port\": 2222", "\"port\": 2223"));
    assert_eq!(lab.send(up, syn), Verdict::Drop(DropReason::LeftToHost));
}

#[test]
fn every_address_of_a_routed_prefix_is_usable() {
    let mut lab = shared();
    let (up, guest) = (lab.up, lab.guest);
    for last in 8..16 {
        let own = ([203, 0, 113, last], 7);
        let out = udp((GUEST, ROUTER_IN), own, (REMOTE, 9));
        assert_eq!(lab.send(guest, out), Verdict::Emit(up), ".{last} out");
        assert_eq!(
            ends(&left(&mut lab, up)),
            (own, (REMOTE, 9)),
            "untranslated"
        );
        let unasked = udp((GATEWAY, ROUTER_OUT), (REMOTE, 99), own);
        assert_eq!(lab.send(up, unasked), Verdict::Emit(guest), ".{last} in");
        let bytes = left(&mut lab, guest);
        assert_eq!(
            bytes[..6],
            GUEST,
            "the guest's MAC is known and not asked for"
        );
    }
    for last in [7, 16] {
        let not_own = udp((GUEST, ROUTER_IN), ([203, 0, 113, last], 7), (REMOTE, 9));
        assert_eq!(
            lab.send(guest, not_own),
            Verdict::Drop(DropReason::SpoofedSource)
        );
        let not_its = udp((GATEWAY, ROUTER_OUT), (REMOTE, 9), ([203, 0, 113, last], 7));
        assert_eq!(lab.send(up, not_its), Verdict::Drop(DropReason::LeftToHost));
    }
}

#[test]
fn s08_what_nobody_owns_on_the_guests_own_link_is_not_sent_back() {
    let mut lab = shared();
    let guest = lab.guest;
    let to_nobody = udp((GUEST, ROUTER_IN), (INSIDE, 1), ([10, 0, 1, 77], 2));
    assert_eq!(
        lab.send(guest, to_nobody),
        Verdict::Drop(DropReason::SamePort)
    );
    let bytes = left(&mut lab, guest);
    assert_eq!((bytes[34], bytes[35]), (3, 1), "host unreachable");
}

const ALIVE: &str = r#"{
    "router": { "neighbors": 128 },
    "ports": { "up": { "memory": true }, "g": { "memory": true } },
    "personalities": { "A": { "port": "up", "mac": "02:00:00:00:00:aa",
        "addresses": ["2001:db8:9::7/64"], "gateway": "2001:db8:8::1", "onlink": true } },
    "networks": { "a": { "ports": ["g"], "addresses": ["2001:db8:1::1/64"], "mac": "02:00:00:00:01:fe",
        "proxy": { "personality": "A", "alive": ["2001:db8:9::/64"] } } },
    "tables": { "main": [ { "to": "::/0", "dev": "A" } ] }
}"#;

/// A neighbour solicitation or advertisement with its link-layer address.
fn nd(macs: ([u8; 6], [u8; 6]), ips: (&str, &str), kind: (u8, u8), target: &str) -> Vec<u8> {
    let mut rest = v6(target).to_vec();
    rest.extend([if kind.0 == 135 { 1 } else { 2 }, 1]);
    rest.extend(macs.0);
    let mut bytes = Vec::new();
    PacketBuilder::ethernet2(macs.0, macs.1)
        .ipv6(v6(ips.0), v6(ips.1), 255)
        .icmpv6_raw(kind.0, 0, [kind.1, 0, 0, 0])
        .write(&mut bytes, &rest)
        .unwrap();
    bytes
}

fn asked_for(last: u32) -> Vec<u8> {
    let target = Ipv6Addr::from_bits(u128::from_be_bytes(v6("2001:db8:9::")) | u128::from(last));
    let [.., a, b, c] = target.octets();
    let group = format!("ff02::1:ff{a:02x}:{b:02x}{c:02x}");
    let macs = (GATEWAY, [0x33, 0x33, 0xff, a, b, c]);
    nd(
        macs,
        ("2001:db8:8::1", &group),
        (135, 0),
        &target.to_string(),
    )
}

#[test]
fn what_is_alive_inside_is_answered_for_outside() {
    let mut lab = Lab::new(ALIVE);
    let (up, guest) = (lab.up, lab.guest);
    assert_eq!(lab.send(up, asked_for(0x55)), Verdict::Hold);
    lab.wait(0);
    let asked: Vec<_> = lab.sent();
    assert!(
        asked
            .iter()
            .any(|(port, bytes)| *port == guest && bytes[54] == 135),
        "it is asked inside: {asked:02x?}"
    );
    assert!(!asked.iter().any(|(port, _)| *port == up), "no answer yet");
    let there = "2001:db8:9::55";
    let answer = nd((GUEST, ROUTER_IN), (there, "fe80::1"), (136, 0x60), there);
    assert_eq!(lab.send(guest, answer), Verdict::Consumed);
    let sent = lab.sent();
    let (port, bytes) = &sent[0];
    assert_eq!(
        (*port, bytes[54], bytes[58]),
        (up, 136, 0xc0),
        "the question that waited"
    );
    assert_eq!(
        (&bytes[6..12], &bytes[80..86]),
        (&ROUTER_OUT[..], &ROUTER_OUT[..])
    );
    assert_eq!(
        lab.send(up, asked_for(0x55)),
        Verdict::Consumed,
        "and at once from now on"
    );
    // Its packets pass, both ways, and leave untranslated.
    let mut bytes = Vec::new();
    PacketBuilder::ethernet2(GUEST, ROUTER_IN)
        .ipv6(v6(there), v6("2001:db8:ffff::1"), 64)
        .udp(1, 2)
        .write(&mut bytes, &[])
        .unwrap();
    assert_eq!(lab.send(guest, bytes), Verdict::Emit(up));
}

#[test]
fn a_question_about_what_is_not_alive_is_met_with_silence() {
    let mut lab = Lab::new(ALIVE);
    let up = lab.up;
    let target = "2001:db8:9::66";
    let unicast = nd(
        (GATEWAY, ROUTER_OUT),
        ("2001:db8:8::1", target),
        (135, 0),
        target,
    );
    assert_eq!(lab.send(up, unicast), Verdict::Hold);
    lab.wait(10_000);
    let sent = lab.sent();
    assert!(!sent.iter().any(|(port, _)| *port == up), "{sent:02x?}");
}

#[test]
fn n24_a_scan_costs_no_resolved_neighbour_and_no_state_for_each_target() {
    let mut lab = Lab::new(ALIVE);
    let (up, guest) = (lab.up, lab.guest);
    let there = "2001:db8:9::55";
    lab.send(up, asked_for(0x55));
    lab.wait(0);
    let answer = nd((GUEST, ROUTER_IN), (there, "fe80::1"), (136, 0x60), there);
    lab.send(guest, answer);
    let mut asked = 0;
    for target in 0..100_000 {
        lab.send(up, asked_for(0x1000 + target));
        if target % 100 == 0 {
            // Ten thousand a second.
            lab.wait(10);
            asked += lab.sent().iter().filter(|(port, _)| *port == guest).count();
            let verdict = lab.send(up, asked_for(0x55));
            assert_eq!(
                verdict,
                Verdict::Consumed,
                "answered through it all, at {target}"
            );
        }
    }

    assert!(tapgate_engine::run::neighbors(&lab.engine().router).len() <= 128);
    assert!(asked < 2_000, "{asked} solicitations inside in 10 s");
}

#[test]
fn m01_m03_groups_are_reported_while_anybody_needs_them() {
    let mut lab = Lab::fresh(SHARED);
    let up = lab.up;
    lab.wait(3_000);
    let reports = reports(&mut lab, up);
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
    lab.apply(&two);
    lab.wait(3_000);
    assert!(
        !self::reports(&mut lab, up).iter().any(|(_, g)| *g == group),
        "known already"
    );
    lab.apply(&two.replace("\"2001:db8:9::20\", ", ""));
    lab.wait(3_000);
    assert!(
        !self::reports(&mut lab, up).iter().any(|(_, g)| *g == group),
        "still needed"
    );
    lab.apply(&SHARED.replace("2001:db8:9::20", "2001:db8:9::21"));
    lab.wait(3_000);
    let records: Vec<_> = self::reports(&mut lab, up)
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
    let mut lab = Lab::new(SHARED);
    let up = lab.up;
    for bytes in [
        query("2001:db8::1", 1, 28, 1_000),
        query("fe80::9", 64, 28, 1_000),
    ] {
        assert_eq!(lab.send(up, bytes), Verdict::Drop(DropReason::MldMalformed));
    }
    assert_eq!(
        lab.send(up, query("fe80::9", 1, 28, 1_000)),
        Verdict::Consumed
    );
    lab.wait(1_000);
    let answers = reports(&mut lab, up);
    assert!(answers.contains(&(2, v6("ff02::1:ff00:20"))), "{answers:?}");
    assert_eq!(
        lab.send(up, query("fe80::9", 1, 24, 500)),
        Verdict::Consumed
    );
    lab.wait(500);
    let version_1: Vec<_> = lab
        .sent()
        .into_iter()
        .filter(|(port, bytes)| *port == up && bytes.get(62) == Some(&131))
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
fn reports(lab: &mut Lab, port: PortId) -> Vec<(u8, [u8; 16])> {
    let mut records = Vec::new();
    for (to, bytes) in lab.sent() {
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
