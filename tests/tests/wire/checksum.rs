//! F18, F21, T19, X04: what translation changes, and that it changes nothing else. Each packet
//! that comes out is compared with one built anew, checksums and all.

use std::collections::BTreeMap;

use proptest::prelude::*;
use tapgate_engine::checksum::{Delta, checksum};
use tapgate_engine::frame::OwnedFrame;
use tapgate_tests::packet::{self, Packet, icmp, ping, pong, tcp, udp};
use tapgate_tests::recipe::*;
use tapgate_tests::router::Router;
use tapgate_tests::wire;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Tcp,
    Udp,
    Echo,
}

/// A packet that the guest sends, and its answer.
#[derive(Debug, Clone)]
struct Exchange {
    protocol: Protocol,
    ports: (u16, u16),
    remote: [u8; 4],
    payload: Vec<u8>,
    tos: u8,
    id: u16,
    df: bool,
    options: bool,
    /// The checksum is left to the device, as virtio-net and veth do.
    partial: bool,
}

impl Exchange {
    fn any() -> impl Strategy<Value = Self> {
        let protocol = prop_oneof![
            Just(Protocol::Tcp),
            Just(Protocol::Udp),
            Just(Protocol::Echo)
        ];
        // Sums near zero are where mistakes hide.
        let byte = prop_oneof![2 => Just(0), 2 => Just(0xff), 3 => any::<u8>()];
        let payload = proptest::collection::vec(byte, 0..200);
        // Within the default range, so that they are kept.
        let ports = (1_024..=u16::MAX, any::<u16>());
        let remote = prop_oneof![
            Just([198, 51, 100, 9]),
            Just([8, 8, 255, 255]),
            (11..127u8, any::<[u8; 3]>()).prop_map(|(a, [b, c, d])| [a, b, c, d]),
        ];
        (
            protocol,
            ports,
            remote,
            payload,
            any::<(u8, u16, [bool; 3])>(),
        )
            .prop_map(
                |(protocol, ports, remote, payload, (tos, id, [df, options, partial]))| Self {
                    protocol,
                    ports,
                    remote,
                    payload,
                    tos,
                    id,
                    df,
                    options,
                    partial,
                },
            )
    }

    /// The packet between two addresses, with the guest's port as seen there.
    fn packet(&self, from: &str, to: &str, own: u16, reply: bool) -> Packet {
        let other = self.ports.1;
        let (from_port, to_port) = if reply { (other, own) } else { (own, other) };
        let (source, destination) = (format!("{from}:{from_port}"), format!("{to}:{to_port}"));
        let mut packet = match self.protocol {
            Protocol::Tcp => tcp(
                &source,
                &destination,
                if reply { "S." } else { "S" },
                &self.payload,
            ),
            Protocol::Udp => udp(&source, &destination, &self.payload),
            Protocol::Echo if reply => pong(from, to, own, 1, &self.payload),
            Protocol::Echo => ping(from, to, own, 1, &self.payload),
        };
        packet = packet.tos(self.tos).id(self.id);
        if self.df {
            packet = packet.df();
        }
        if self.options {
            packet = packet.options(&[0x94, 4, 0, 0, 1, 1, 1, 0]);
        }
        packet
    }

    /// The guest's port, or identifier, in what left.
    fn port(&self, packets: &[Vec<u8>]) -> Result<u16, TestCaseError> {
        prop_assert_eq!(packets.len(), 1);
        let l4 = 14 + usize::from(packets[0][14] & 0xf) * 4;
        let at = l4
            + if self.protocol == Protocol::Echo {
                4
            } else {
                0
            };
        Ok(u16::from_be_bytes([packets[0][at], packets[0][at + 1]]))
    }

    fn frame(&self, packet: &Packet) -> OwnedFrame {
        let bytes = packet.bytes();
        let unfinished = packet::unfinished(&bytes, None).filter(|_| self.partial);
        unfinished.unwrap_or(OwnedFrame {
            bytes,
            ..OwnedFrame::default()
        })
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn f18_f21_t19_translation_changes_addresses_ports_and_sums_only(
        exchanges in proptest::collection::vec(Exchange::any(), 1..8),
        moves in any::<bool>(),
    ) {
        let pool = "to = \"203.0.113.10\", ports = \"900-999\" }";
        let moved = MULTI_MAC.replace("to = \"203.0.113.10\" }", pool);
        let mut router = router(if moves { &moved } else { MULTI_MAC });
        for exchange in exchanges {
            let own = exchange.ports.0;
            let remote = std::net::Ipv4Addr::from(exchange.remote).to_string();
            let sent = exchange.packet("10.0.1.1", &remote, own, false);
            router.inject_frame("guest-a", exchange.frame(&sent.link(GUEST_A, NET_A)));
            let packets = router.take_packets("uplink");
            let port = exchange.port(&packets)?;
            let range = if moves { 900..=999 } else { own..=own };
            prop_assert!(range.contains(&port), "{}", port);
            let seen = exchange.packet("203.0.113.10", &remote, port, false).ttl(63);
            same(&packets, &seen.clone().link(A, PROVIDER))?;

            // T14: an error that quotes the whole packet gives the guest back its own.
            let error = icmp("192.0.2.1", "203.0.113.10", (3, 1), [0; 4], &seen.bytes()[14..]);
            router.inject("uplink", error.link(PROVIDER, A).bytes());
            let expected = exchange.packet("10.0.1.1", &remote, own, false).ttl(63).bytes();
            let packets = router.take_packets("guest-a");
            prop_assert_eq!(packets.len(), 1);
            quoted(&packets[0][42..], &expected[14..])?;

            let sent = exchange.packet(&remote, "203.0.113.10", port, true);
            router.inject_frame("uplink", exchange.frame(&sent.link(PROVIDER, A)));
            let expected = exchange.packet(&remote, "10.0.1.1", own, true).ttl(63);
            same(&router.take_packets("guest-a"), &expected.link(NET_A, GUEST_A))?;
        }
    }

    /// X04: a super-frame is translated as one; its segments are what the far end needs.
    #[test]
    fn x04_super_frames(
        is_tcp in any::<bool>(),
        length in 1..60_000usize,
        size in 500..1_400u16,
    ) {
        let mut router = router(MULTI_MAC);
        let payload: Vec<u8> = (0..length).map(|n| (n * 31 + n / 251) as u8).collect();
        let (inside, outside) = ("10.0.1.1:4000", "198.51.100.9:443");
        let packet = if is_tcp { tcp(inside, outside, "P.", &payload) } else { udp(inside, outside, &payload) };
        let packet = packet.df().link(GUEST_A, NET_A);
        let frame = packet::unfinished(&packet.bytes(), Some(size)).unwrap();
        router.inject_frame("guest-a", frame);
        let segments = router.take_packets("uplink");
        prop_assert_eq!(segments.len(), length.div_ceil(usize::from(size)));
        let header = if is_tcp { 54 } else { 42 };
        let received: Vec<u8> = segments.iter().flat_map(|bytes| bytes[header..].to_vec()).collect();
        prop_assert_eq!(received, payload);
        for bytes in &segments {
            prop_assert_eq!(&bytes[26..30], &[203, 0, 113, 10]);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    /// F21: RFC 1624 §3, equation 3, gives what RFC 1071 gives.
    #[test]
    fn f21_incremental_is_full(
        bytes in proptest::collection::vec(prop_oneof![Just(0), Just(0xff), any::<u8>()], 2..80),
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u16>()), 1..6),
    ) {
        let mut bytes = bytes[..bytes.len() & !1].to_vec();
        let before = checksum(&bytes);
        let mut delta = Delta::default();
        for (at, word) in changes {
            let at = at.index(bytes.len() / 2) * 2;
            let old = u16::from_be_bytes([bytes[at], bytes[at + 1]]);
            bytes[at..at + 2].copy_from_slice(&word.to_be_bytes());
            delta = delta.word(old, word);
        }
        // All-zero data sums to zero, which no difference can tell from its other form.
        if bytes.iter().any(|byte| *byte != 0) {
            prop_assert_eq!(delta.apply(before), checksum(&bytes));
        }
    }
}

fn router(config: &str) -> Router {
    let mut router = Router::new(config);
    router.station("guest-a", None, "10.0.1.1", GUEST_A);
    router.station("uplink", None, "192.0.2.1", PROVIDER);
    router
}

/// X04, F07, F08: segments too large for the next link are cut further, or refused with DF.
#[test]
fn x04_super_frames_to_a_narrow_link() {
    let payload: Vec<u8> = (0..20_000).map(|n| (n * 31 + n / 251) as u8).collect();
    let packet = tcp("10.0.1.1:4000", "10.0.3.1:80", "P.", &payload).link(GUEST_A, NET_A);
    for size in [500, 1_400] {
        let mut router = router(MULTI_MAC);
        router.answer_everything();
        let frame = packet::unfinished(&packet.bytes(), Some(size)).unwrap();
        router.inject_frame("guest-a", frame);
        // Identification and offset, then payload: the TCP header is in each first fragment.
        let mut datagrams = BTreeMap::<u16, BTreeMap<u16, Vec<u8>>>::new();
        for packet in router.take_packets("guest-c") {
            let word = |at: usize| u16::from_be_bytes([packet[at], packet[at + 1]]);
            let parts = datagrams.entry(word(18)).or_default();
            parts.insert(word(20) & 0x1fff, packet[34..].to_vec());
        }
        let segments = datagrams
            .values()
            .map(|parts| parts.values().flatten().copied().collect());
        let received = segments.flat_map(|segment: Vec<u8>| segment[20..].to_vec());
        assert_eq!(received.collect::<Vec<u8>>(), payload);
        assert_eq!(datagrams.len(), 20_000_usize.div_ceil(size.into()));

        let frame = packet::unfinished(&packet.clone().df().bytes(), Some(size)).unwrap();
        router.inject_frame("guest-a", frame);
        let errors = router.take_packets("guest-a");
        assert_eq!(
            errors.len(),
            usize::from(size > 536),
            "3/4 if a segment does not fit"
        );
        assert!(
            errors
                .iter()
                .all(|bytes| bytes[34..42] == [3, 4, bytes[36], bytes[37], 0, 0, 2, 64])
        );
    }
}

/// T19: a UDP checksum that comes out as zero is sent as all ones, whichever side has it.
#[test]
fn t19_zero_is_sent_as_all_ones() {
    let (outside, inside) = ("203.0.113.10:4000", "10.0.1.1:4000");
    for odd in [outside, inside] {
        // The checksum over the same packet with zeroes there is what makes it zero.
        let blank = udp(odd, "198.51.100.9:53", &[0, 0]).bytes();
        let payload = &blank[40..42];
        let mut router = router(MULTI_MAC);
        let sent = udp(inside, "198.51.100.9:53", payload).link(GUEST_A, NET_A);
        router.inject("guest-a", sent.bytes());
        let expected = udp(outside, "198.51.100.9:53", payload)
            .ttl(63)
            .link(A, PROVIDER);
        assert_eq!(
            udp(odd, "198.51.100.9:53", payload).bytes()[40..42],
            [0xff, 0xff]
        );
        assert_eq!(router.take_packets("uplink"), [expected.bytes()]);

        let sent = udp("198.51.100.9:53", outside, payload).link(PROVIDER, A);
        router.inject("uplink", sent.bytes());
        let expected = udp("198.51.100.9:53", inside, payload)
            .ttl(63)
            .link(NET_A, GUEST_A);
        assert_eq!(router.take_packets("guest-a"), [expected.bytes()]);
    }
}

/// The quoted packet, byte for byte, and one checksum in another form than built anew at most.
fn quoted(got: &[u8], expected: &[u8]) -> Result<(), TestCaseError> {
    let frame = |packet: &[u8]| [&[0; 12][..], &[8, 0], packet].concat();
    let (got, expected) = (frame(got), frame(expected));
    prop_assert_eq!(&got[14..34], &expected[14..34]);
    prop_assert_ne!(wire::transport_checksum(&got), Some(false));
    let l4 = 14 + usize::from(got[14] & 0xf) * 4;
    prop_assert_eq!(&got[34..l4 + 2], &expected[34..l4 + 2]);
    prop_assert_eq!(got.len(), expected.len());
    Ok(())
}

/// Exactly one packet, and byte for byte the expected one. A TCP checksum of 0 may be 0xffff.
fn same(packets: &[Vec<u8>], expected: &Packet) -> Result<(), TestCaseError> {
    let expected = expected.bytes();
    prop_assert_eq!(packets.len(), 1);
    let mut got = packets[0].clone();
    let l4 = 14 + usize::from(got[14] & 0xf) * 4;
    let field = match got[23] {
        1 => l4 + 2,
        6 => l4 + 16,
        _ => l4 + 6,
    };
    let pair = (&got[field..field + 2], &expected[field..field + 2]);
    if got[23] != 17 && (pair == (&[0, 0], &[0xff, 0xff]) || pair == (&[0xff, 0xff], &[0, 0])) {
        got[field..field + 2].copy_from_slice(&expected[field..field + 2]);
    }
    prop_assert_eq!(got, expected);
    Ok(())
}
