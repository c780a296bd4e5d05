//! Guests' requests, whole and spoilt, through the whole router: each ends in one verdict that
//! `explain` foretells, whatever comes out is well-formed (all checked by the harness), and nobody
//! is answered but the port's own guest (D07).

use std::time::Duration;

use etherparse::PacketBuilder;
use proptest::prelude::*;
use proptest::sample::Index;
use tapgate_engine::addr::MacAddr;
use tapgate_tests::packet::udp;
use tapgate_tests::router::Router;

const CONFIG: &str = r#"
[ports]
web = { memory = true }
db = { memory = true }

[networks.lan]
ports = ["web", "db"]
addresses = ["192.168.1.254/24"]
dhcp = { dns = ["9.9.9.9"], domain = "example.net", search = ["example.net"] }
dhcp6 = { dns = ["2620:fe::fe"] }
ra = { interval = 4, dns = ["2620:fe::fe"] }

[guests]
web = { port = "web", mac = "52:54:00:00:00:01", addresses = ["192.168.1.10", "2001:db8::10"] }
db  = { port = "db", mac = "52:54:00:00:00:02", addresses = ["203.0.113.20"] }
"#;
const PORTS: [&str; 2] = ["web", "db"];
const GUESTS: [MacAddr; 2] = [
    MacAddr([0x52, 0x54, 0, 0, 0, 1]),
    MacAddr([0x52, 0x54, 0, 0, 0, 2]),
];
const ADDRESSES: [[u8; 4]; 2] = [[192, 168, 1, 10], [203, 0, 113, 20]];

/// A change to a frame that was valid.
#[derive(Debug, Clone)]
enum Change {
    Byte(Index, u8),
    /// In the message, where it matters.
    Message(u8, u8),
    Cut(Index),
    Grow(Vec<u8>),
}

fn dhcp(from: MacAddr, kind: u8, options: &[u8]) -> Vec<u8> {
    let mut message = vec![0; 240];
    message[0..3].copy_from_slice(&[1, 1, 6]);
    message[28..34].copy_from_slice(&from.0);
    message[236..240].copy_from_slice(&[99, 130, 83, 99]);
    message.extend([53, 1, kind]);
    message.extend(options);
    message.push(255);
    to_server(from, &message)
}

fn to_server(from: MacAddr, message: &[u8]) -> Vec<u8> {
    udp("0.0.0.0:68", "255.255.255.255:67", message)
        .link(from, MacAddr::BROADCAST)
        .bytes()
}

fn dhcp6(from: MacAddr, kind: u8) -> Vec<u8> {
    let message = [
        &[kind, 0, 0, 1, 0, 1, 0, 10, 0, 3, 0, 1][..],
        &from.0,
        &[0, 3, 0, 12, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0],
        &[0, 6, 0, 2, 0, 23],
    ];
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(from.0, [0x33, 0x33, 0, 1, 0, 2])
        .ipv6(
            link_local(from),
            [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 2],
            1,
        )
        .udp(546, 547)
        .write(&mut frame, &message.concat())
        .unwrap();
    frame
}

fn solicitation(from: MacAddr) -> Vec<u8> {
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(from.0, [0x33, 0x33, 0, 0, 0, 2])
        .ipv6(
            link_local(from),
            [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2],
            255,
        )
        .icmpv6_raw(133, 0, [0; 4])
        .write(&mut frame, &[&[1, 1][..], &from.0].concat())
        .unwrap();
    frame
}

fn link_local(mac: MacAddr) -> [u8; 16] {
    let [a, b, c, d, e, f] = mac.0;
    [
        0xfe,
        0x80,
        0,
        0,
        0,
        0,
        0,
        0,
        a ^ 2,
        b,
        c,
        0xff,
        0xfe,
        d,
        e,
        f,
    ]
}

fn valid() -> impl Strategy<Value = Vec<u8>> {
    let of = |from: MacAddr, address: [u8; 4]| {
        let wanted = [&[50, 4][..], &address, &[55, 3, 1, 3, 6, 61, 3, 1, 2, 3]].concat();
        vec![
            dhcp(from, 1, &[]),
            dhcp(from, 3, &wanted),
            dhcp(from, 4, &wanted),
            dhcp(from, 8, &[]),
            dhcp6(from, 1),
            dhcp6(from, 6),
            solicitation(from),
        ]
    };
    let frames = [of(GUESTS[0], ADDRESSES[0]), of(GUESTS[1], ADDRESSES[1])];
    proptest::sample::select(frames.concat())
}

/// A DHCP message whose options are random, whole or cut anywhere.
fn random_dhcp() -> impl Strategy<Value = Vec<u8>> {
    let options = proptest::collection::vec(any::<u8>(), 0..400);
    (0usize..2, 0u8..20, options, any::<Option<Index>>()).prop_map(|(guest, kind, options, cut)| {
        let from = GUESTS[guest];
        let frame = dhcp(from, kind, &options);
        let message = &frame[42..];
        let length = cut.map_or(message.len(), |cut| cut.index(message.len()));
        to_server(from, &message[..length])
    })
}

/// Whether a message's options end where they say, with nothing but padding after.
fn well_formed(options: &[u8]) -> bool {
    match options {
        [255, padding @ ..] => padding.iter().all(|byte| *byte == 0),
        [0, rest @ ..] => well_formed(rest),
        [_, length, rest @ ..] => rest.get(usize::from(*length)..).is_some_and(well_formed),
        _ => false,
    }
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Change::Byte(at, byte)),
        (any::<u8>(), any::<u8>()).prop_map(|(at, byte)| Change::Message(at, byte)),
        any::<Index>().prop_map(Change::Cut),
        proptest::collection::vec(any::<u8>(), 1..80).prop_map(Change::Grow),
    ]
}

/// The frame spoilt, with a transport checksum that leaves the spoilt message to be found out.
fn spoil(mut frame: Vec<u8>, changes: &[Change]) -> Vec<u8> {
    for change in changes {
        match change {
            Change::Byte(at, byte) => {
                let at = at.index(frame.len());
                frame[at] = *byte;
            }
            Change::Message(at, byte) => {
                let start = if frame[12..14] == [8, 0] {
                    42 + 236
                } else {
                    62
                };
                let at = start + usize::from(*at) % 64;
                if let Some(place) = frame.get_mut(at) {
                    *place = *byte;
                }
            }
            Change::Cut(at) => frame.truncate(at.index(frame.len()).max(14)),
            Change::Grow(more) => frame.extend(more),
        }
    }
    if frame.len() > 42 && frame[12..14] == [8, 0] && frame[14] == 0x45 && frame[23] == 17 {
        frame[40..42].fill(0);
    }
    frame
}

proptest! {
    #[test]
    fn d07_hostile_requests(
        requests in proptest::collection::vec(
            (0usize..2, prop_oneof![3 => valid(), 1 => random_dhcp()], proptest::collection::vec(change(), 0..3), 0u64..400),
            1..40,
        ),
    ) {
        let mut router = Router::new(CONFIG);
        router.explain_everything();
        router.advance(Duration::from_secs(5));
        for (port, frame, changes, wait) in requests {
            router.inject(PORTS[port], spoil(frame, &changes));
            router.advance(Duration::from_millis(wait));
        }
        for (port, name) in PORTS.iter().enumerate() {
            for sent in router.take(name) {
                let bytes = &sent.bytes;
                let is_dhcp = bytes[12..14] == [8, 0] && bytes[34..36] == [0, 67];
                if is_dhcp {
                    let message = &bytes[42..];
                    prop_assert!(message.len() <= 1_372 && well_formed(&message[240..]));
                }
                // Nobody is offered what is another's.
                if is_dhcp && bytes[58..62] != [0; 4] {
                    prop_assert_eq!(&bytes[58..62], &ADDRESSES[port]);
                    prop_assert_eq!(&bytes[70..76], &GUESTS[port].0);
                }
            }
        }
    }
}
