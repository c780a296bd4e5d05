//! What the socket filter lets in of frames to a MAC that the host uses too.

mod lab;

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use afpacket::sync::RawPacketStream;
use lab::bridge::A;
use lab::{Lab, within};
use tapgate_dataplane::link::Links;
use tapgate_dataplane::port::device::Device;
use tapgate_dataplane::port::{Opened, Ports};
use tapgate_dataplane::shared::{Shared, SharedAddress};
use tapgate_engine::addr::MacAddr;
use tapgate_engine::config::PortRange;

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 7];
const OURS: [u8; 6] = [2, 0, 0, 0, 0, 8];
const FOREIGN: [u8; 6] = [2, 0, 0, 0, 0, 9];
const OWN: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 7);
const OWN_TOO: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 8);
const GUEST: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 9);
const OWN6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7);
const GUEST6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 1, 7);

/// From the destination MAC on; the source MAC's end is set when it is sent.
fn frame(to: [u8; 6], tag: Option<u16>, ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = [to, [2, 0, 0, 1, 0, 0]].concat();
    if let Some(tag) = tag {
        bytes.extend([0x81, 0x00]);
        bytes.extend(tag.to_be_bytes());
    }
    bytes.extend(ethertype.to_be_bytes());
    bytes.extend(payload);
    bytes.resize(bytes.len().max(64), 0);
    bytes
}

/// `options` is a multiple of four bytes.
fn ipv4(to: Ipv4Addr, protocol: u8, fragment: u16, options: &[u8], port: u16) -> Vec<u8> {
    let words = 5 + options.len() as u8 / 4;
    let mut bytes = vec![0x40 | words, 0, 0, 4 * words + 8, 0, 0];
    bytes.extend(fragment.to_be_bytes());
    bytes.extend([64, protocol, 0, 0, 192, 0, 2, 1]);
    bytes.extend(to.octets());
    bytes.extend(options);
    bytes.extend([0xf0, 0xf0]);
    bytes.extend(port.to_be_bytes());
    bytes.extend([0; 4]);
    bytes
}

fn ipv6(to: Ipv6Addr, next: u8, port: u16) -> Vec<u8> {
    let mut bytes = vec![0x60, 0, 0, 0, 0, 8, next, 64];
    bytes.extend(Ipv6Addr::LOCALHOST.octets());
    bytes.extend(to.octets());
    bytes.extend([0xf0, 0xf0]);
    bytes.extend(port.to_be_bytes());
    bytes.extend([0; 4]);
    bytes
}

fn address(address: impl Into<IpAddr>, tcp: &[(u16, u16)], udp: &[(u16, u16)]) -> SharedAddress {
    let ranges = |ranges: &[(u16, u16)]| {
        let range = |(first, last): &(u16, u16)| PortRange {
            first: *first,
            last: *last,
        };
        ranges.iter().map(range).collect()
    };
    SharedAddress {
        address: address.into(),
        tcp: ranges(tcp),
        udp: ranges(udp),
    }
}

fn shared(vlan: Option<u16>, addresses: Vec<SharedAddress>) -> Shared {
    Shared {
        name: "host".to_owned(),
        mac: MacAddr(MAC),
        vlan,
        addresses,
        guests: vec![
            "198.51.100.8/30".parse().unwrap(),
            "192.0.0.0/14".parse().unwrap(),
            "2001:db8:0:0:0:0:1::/96".parse().unwrap(),
        ],
        alive: vec!["2001:db8:9:8000::/50".parse().unwrap()],
    }
}

/// Which of `frames`, sent to a socket with this filter, come in.
fn let_in(frames: &[Vec<u8>], shared: &[Shared]) -> Vec<bool> {
    let mut lab = Lab::new();
    let provider = lab.veth_guest("provider", "up0", "10.9.0.1/24");
    let index = Links::open().unwrap().get("up0").unwrap().index;
    let device = Device::open(index, 1500).unwrap();
    let only = device.socket().only(Some(&[MacAddr(OURS)]), shared);
    only.unwrap();
    let mut ports = Ports::default();
    ports.attach(A, Opened::Device(device));
    within(&provider, || {
        let mut socket = RawPacketStream::new().unwrap();
        socket.bind("eth0").unwrap();
        for (number, frame) in (0..).zip(frames) {
            let mut frame = frame.clone();
            frame[11] = number;
            socket.write_all(&frame).unwrap();
        }
    });
    let mut came = vec![false; frames.len()];
    let mut look = |frames: &mut [tapgate_engine::frame::Frame<'_>], _: &mut [Option<_>; 64]| {
        for frame in frames {
            if frame.bytes[6..11] == [2, 0, 0, 1, 0] {
                came[usize::from(frame.bytes[11])] = true;
            }
        }
    };
    while ports.pass(A, &mut look).unwrap().frames > 0 {}
    came
}

fn check(cases: &[(&str, bool, Vec<u8>)], shared: &[Shared]) {
    let frames: Vec<_> = cases.iter().map(|case| case.2.clone()).collect();
    let came = let_in(&frames, shared);
    let wrong = cases
        .iter()
        .zip(came)
        .filter(|(case, came)| case.1 != *came);
    let wrong: Vec<_> = wrong.map(|(case, came)| (case.0, came)).collect();
    assert_eq!(wrong, [], "let in, or not, against expectation");
}

#[test]
fn of_frames_to_the_host_s_mac_only_what_can_be_the_router_s_is_received() {
    let ip = |payload: Vec<u8>| frame(MAC, None, 0x0800, &payload);
    let of = |text: &str| text.parse().unwrap();
    let ip6 = |payload: Vec<u8>| frame(MAC, None, 0x86dd, &payload);
    let cases = [
        ("arp", true, frame(MAC, None, 0x0806, &[0; 28])),
        (
            "other ethertypes",
            false,
            frame(MAC, None, 0x88b5, &[0; 28]),
        ),
        ("a broadcast", true, frame([0xff; 6], None, 0x88b5, &[])),
        (
            "a MAC of ours alone",
            true,
            frame(OURS, Some(7), 0x88b5, &[]),
        ),
        ("nobody's MAC", false, frame(FOREIGN, None, 0x0806, &[])),
        ("ping", true, ip(ipv4(OWN, 1, 0, &[], 0))),
        ("ssh", false, ip(ipv4(OWN, 6, 0, &[], 22))),
        ("a download", false, ip(ipv4(OWN, 6, 0x4000, &[], 60_999))),
        ("esp", false, ip(ipv4(OWN, 50, 0, &[], 61_000))),
        ("our tcp, first", true, ip(ipv4(OWN, 6, 0, &[], 61_000))),
        ("our tcp, last", true, ip(ipv4(OWN, 6, 0x4000, &[], 65_535))),
        ("a forwarded port", true, ip(ipv4(OWN, 6, 0, &[], 2222))),
        ("the ports beside it", false, ip(ipv4(OWN, 6, 0, &[], 2223))),
        ("the ports beside it", false, ip(ipv4(OWN, 6, 0, &[], 2221))),
        (
            "of the other protocol",
            false,
            ip(ipv4(OWN, 17, 0, &[], 2222)),
        ),
        ("our udp", true, ip(ipv4(OWN, 17, 0, &[], 5353))),
        ("behind options", true, ip(ipv4(OWN, 6, 0, &[1; 8], 2222))),
        ("behind options", false, ip(ipv4(OWN, 6, 0, &[1; 8], 22))),
        (
            "a first fragment",
            false,
            ip(ipv4(OWN, 17, 0x2000, &[], 22)),
        ),
        ("a later fragment", true, ip(ipv4(OWN, 17, 0x2001, &[], 22))),
        (
            "the last fragment",
            true,
            ip(ipv4(OWN, 17, 0x0001, &[], 22)),
        ),
        ("second address", true, ip(ipv4(OWN_TOO, 6, 0, &[], 80))),
        ("second address", false, ip(ipv4(OWN_TOO, 6, 0, &[], 2222))),
        ("a guest's address", true, ip(ipv4(GUEST, 6, 0, &[], 22))),
        (
            "the prefix's last",
            true,
            ip(ipv4([198, 51, 100, 11].into(), 6, 0, &[], 22)),
        ),
        (
            "next to the prefix",
            false,
            ip(ipv4([198, 51, 100, 12].into(), 6, 0, &[], 22)),
        ),
        (
            "a wide prefix",
            true,
            ip(ipv4([192, 3, 255, 255].into(), 50, 0, &[], 0)),
        ),
        (
            "next to it",
            false,
            ip(ipv4([192, 4, 0, 0].into(), 50, 0, &[], 0)),
        ),
        ("ping6", true, ip6(ipv6(OWN6, 58, 0))),
        ("ssh6", false, ip6(ipv6(OWN6, 6, 22))),
        ("esp6", false, ip6(ipv6(OWN6, 50, 61_000))),
        ("our tcp6", true, ip6(ipv6(OWN6, 6, 61_000))),
        ("our udp6", true, ip6(ipv6(OWN6, 17, 61_000))),
        ("not our udp6", false, ip6(ipv6(OWN6, 17, 60_999))),
        ("fragments6", true, ip6(ipv6(OWN6, 44, 22))),
        ("a guest's address6", true, ip6(ipv6(GUEST6, 6, 22))),
        (
            "a guest's prefix",
            true,
            ip6(ipv6(of("2001:db8:9:bfff::1"), 6, 22)),
        ),
        (
            "next to it",
            false,
            ip6(ipv6(of("2001:db8:9:c000::1"), 6, 22)),
        ),
        (
            "another of the host's",
            false,
            ip6(ipv6(of("2001:db8::1:0:7"), 58, 0)),
        ),
        (
            "a neighbour's answer",
            true,
            ip6(ipv6(of("fe80::ff:fe00:7"), 58, 0)),
        ),
        (
            "link-local ssh",
            false,
            ip6(ipv6(of("fe80::ff:fe00:7"), 6, 22)),
        ),
        ("a tag", false, frame(MAC, Some(100), 0x0806, &[0; 28])),
    ];
    let reserved = (61_000, 65_535);
    let addresses = vec![
        address(OWN_TOO, &[(80, 80)], &[]),
        address(OWN, &[reserved, (2222, 2222)], &[(5353, 5353)]),
        address(OWN6, &[reserved], &[reserved]),
    ];
    check(&cases, &[shared(None, addresses)]);
}

#[test]
fn each_vlan_has_its_own_part_of_the_host_s_mac() {
    let tcp = |tag, port| frame(MAC, tag, 0x0800, &ipv4(OWN, 6, 0, &[], port));
    let cases = [
        ("untagged", true, tcp(None, 1000)),
        ("untagged, tagged's port", false, tcp(None, 2000)),
        ("a priority alone", true, tcp(Some(0xe000), 1000)),
        ("tagged", true, tcp(Some(100), 2000)),
        ("tagged with a priority", true, tcp(Some(0xe064), 2000)),
        ("tagged, untagged's port", false, tcp(Some(100), 1000)),
        ("tagged otherwise", false, tcp(Some(101), 2000)),
    ];
    let of = |vlan, port| shared(vlan, vec![address(OWN, &[(port, port)], &[])]);
    check(&cases, &[of(None, 1000), of(Some(100), 2000)]);
}

#[test]
fn more_ports_than_a_filter_holds_let_everything_in() {
    let tcp = |to, port| frame(to, None, 0x0800, &ipv4(OWN, 6, 0, &[], port));
    let ports = |count| (0..count).map(|n| (2 * n, 2 * n)).collect::<Vec<_>>();
    let of = |count| [shared(None, vec![address(OWN, &ports(count), &[])])];
    let cases = [
        ("the last port", true, tcp(MAC, 2198)),
        ("a port between", false, tcp(MAC, 2197)),
        ("nobody's MAC", false, tcp(FOREIGN, 2198)),
    ];
    check(&cases, &of(1100));
    let all = cases.map(|(name, _, frame)| (name, true, frame));
    check(&all, &of(2000));
}

#[test]
fn with_more_guests_than_a_filter_tells_apart_whatever_is_not_the_host_s_comes_in() {
    let ip = |to, port| frame(MAC, None, 0x0800, &ipv4(to, 6, 0, &[], port));
    let mut shared = shared(None, vec![address(OWN, &[(2222, 2222)], &[])]);
    shared.guests = (0..100)
        .map(|n| format!("203.0.113.{n}/32").parse().unwrap())
        .collect();
    let cases = [
        ("ours", true, ip(OWN, 2222)),
        ("ssh", false, ip(OWN, 22)),
        ("a guest's", true, ip([203, 0, 113, 99].into(), 22)),
        ("anything", true, ip([203, 0, 113, 100].into(), 22)),
    ];
    check(&cases, &[shared]);
}
