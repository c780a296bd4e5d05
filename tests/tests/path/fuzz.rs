//! Nothing that comes in stops the router: random bytes, and valid frames with bytes changed, cut
//! or grown, with any metadata, end in exactly one verdict that is counted once. Whatever comes
//! out still wears one personality's MAC, VLAN and address, and `explain` foretells every verdict
//! (all checked by the harness).

use std::net::Ipv6Addr;
use std::time::Duration;

use etherparse::PacketBuilder;
use proptest::prelude::*;
use proptest::sample::Index;
use tapgate_engine::frame::{Checksum, Gso, GsoKind, Offload, OwnedFrame};
use tapgate_tests::packet::{self, error, icmp, ip, ping, tcp, udp, who_has};
use tapgate_tests::recipe::*;
use tapgate_tests::router::Router;

const PORTS: [&str; 4] = ["uplink", "guest-a", "guest-b", "guest-c"];

#[derive(Debug, Clone)]
enum Op {
    Frame { port: usize, frame: OwnedFrame },
    Advance(u64),
    Reload,
}

/// A change to a frame that was valid.
#[derive(Debug, Clone)]
enum Change {
    Byte(Index, u8),
    /// Within the headers, where it matters.
    Header(u8, u8),
    Cut(Index),
    Grow(u8),
}

fn valid() -> impl Strategy<Value = Vec<u8>> {
    let out = (GUEST_A, NET_A);
    let inner = udp("203.0.113.10:4000", "198.51.100.9:53", b"question").bytes();
    let own = udp("198.51.100.9:53", "10.0.1.1:4000", b"answer").bytes();
    let mut frames = vec![
        udp("10.0.1.1:4000", "198.51.100.9:53", b"question")
            .link(out.0, out.1)
            .bytes(),
        tcp("10.0.1.1:4000", "198.51.100.9:80", "S", b"")
            .link(out.0, out.1)
            .bytes(),
        tcp("10.0.1.1:4000", "10.0.2.1:80", "P.", &[7; 1_000])
            .link(out.0, out.1)
            .bytes(),
        ping("10.0.1.1", REMOTE, 4_242, 1, b"ping")
            .link(out.0, out.1)
            .bytes(),
        ping("10.0.1.1", "10.0.1.254", 1, 1, b"ping")
            .link(out.0, out.1)
            .bytes(),
        udp("10.0.1.1:4000", "10.0.3.1:9", &[1; 1_400])
            .link(out.0, out.1)
            .bytes(),
        udp("10.0.1.1:4000", "10.0.2.1:9", b"")
            .options(&[7, 7, 4, 0, 0, 0, 0, 0])
            .link(out.0, out.1)
            .bytes(),
        ip("10.0.1.1", "10.0.2.1", 17, &[1; 64])
            .fragment(3, true)
            .link(out.0, out.1)
            .bytes(),
        error("10.0.1.1", REMOTE, (3, 3), [0; 4], &own)
            .link(out.0, out.1)
            .bytes(),
        who_has("10.0.1.254", (GUEST_A, "10.0.1.1")).bytes(),
        who_has("203.0.113.10", (PROVIDER, "192.0.2.1")).bytes(),
        udp("198.51.100.9:53", "203.0.113.10:4000", b"answer")
            .link(PROVIDER, A)
            .bytes(),
        udp("198.51.100.9:53", "203.0.113.20:4000", b"answer")
            .link(PROVIDER, B)
            .vlan(20)
            .bytes(),
        error("192.0.2.1", "203.0.113.10", (11, 0), [0; 4], &inner)
            .link(PROVIDER, A)
            .bytes(),
        icmp(
            "192.0.2.1",
            "203.0.113.10",
            (3, 4),
            [0, 0, 2, 0],
            &inner[14..],
        )
        .link(PROVIDER, A)
        .bytes(),
    ];
    frames.extend(ipv6());
    proptest::sample::select(frames)
}

/// IPv6 packets of the first guest, and to the first personality.
fn ipv6() -> Vec<Vec<u8>> {
    let guest = Ipv6Addr::new(0x2001, 0xdb8, 0xa, 0, 0, 0, 0, 1).octets();
    let gateway = Ipv6Addr::new(0x2001, 0xdb8, 0xa, 0, 0, 0, 0, 0xfe).octets();
    let own = Ipv6Addr::new(0x2001, 0xdb8, 0x9, 0, 0, 0, 0, 0x10).octets();
    let far = Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 1).octets();
    let out = |to| PacketBuilder::ethernet2(GUEST_A.0, NET_A.0).ipv6(guest, to, 255);
    let back = || PacketBuilder::ethernet2(PROVIDER.0, A.0).ipv6(far, own, 255);
    let build = |write: &dyn Fn(&mut Vec<u8>)| {
        let mut frame = Vec::new();
        write(&mut frame);
        frame
    };
    let solicitation = [&gateway[..], &[1, 1], &GUEST_A.0].concat();
    let quoted = build(&|to| {
        let ip = PacketBuilder::ipv6(own, far, 60);
        ip.udp(4_000, 53).write(to, b"six").unwrap();
    });
    vec![
        build(&|to| {
            out(far)
                .tcp(4_000, 80, 1, 1_000)
                .syn()
                .write(to, b"")
                .unwrap()
        }),
        build(&|to| out(far).udp(4_000, 53).write(to, &[6; 100]).unwrap()),
        build(&|to| {
            out(far)
                .icmpv6_echo_request(7, 1)
                .write(to, b"six")
                .unwrap()
        }),
        build(&|to| {
            out(gateway)
                .icmpv6_echo_request(7, 1)
                .write(to, b"six")
                .unwrap()
        }),
        build(&|to| {
            out(gateway)
                .icmpv6_raw(135, 0, [0; 4])
                .write(to, &solicitation)
                .unwrap()
        }),
        build(&|to| back().udp(53, 4_000).write(to, b"six").unwrap()),
        build(&|to| back().icmpv6_raw(1, 4, [0; 4]).write(to, &quoted).unwrap()),
        build(&|to| {
            back()
                .icmpv6_raw(2, 0, [0, 0, 5, 0])
                .write(to, &quoted)
                .unwrap()
        }),
    ]
}

/// The recipe with IPv6 beside it: routed from the first network, and by SNAT to the personality.
fn dual_stack() -> String {
    MULTI_MAC
        .replace(
            "[\"203.0.113.10/32\"]",
            "[\"203.0.113.10/32\", \"2001:db8:9::10/64\"]",
        )
        .replace(
            "[\"10.0.1.254/24\"]",
            "[\"10.0.1.254/24\", \"2001:db8:a::fe/64\"]",
        )
        .replace(
            "ipB = [",
            "six = [{ to = \"::/0\", dev = \"A\", via = \"2001:db8:9::1\" }]\nipB = [",
        )
        .replace(
            "rules = [",
            "rules = [\n  { priority = 61000, from = \"2001:db8::/32\", lookup = \"six\" },",
        )
        .replace(
            "snat = [",
            "snat = [\n  { from = \"2001:db8:a::/64\", to = \"2001:db8:9::10\" },",
        )
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let change = prop_oneof![
        2 => any::<(Index, u8)>().prop_map(|(at, byte)| Change::Byte(at, byte)),
        6 => (0..80u8, any::<u8>()).prop_map(|(at, byte)| Change::Header(at, byte)),
        1 => any::<Index>().prop_map(Change::Cut),
        1 => any::<u8>().prop_map(Change::Grow),
    ];
    proptest::collection::vec(change, 0..4)
}

fn changed(mut bytes: Vec<u8>, changes: Vec<Change>, repair: bool) -> Vec<u8> {
    for change in changes {
        match change {
            Change::Byte(at, byte) if !bytes.is_empty() => {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            Change::Header(at, byte) => {
                if let Some(place) = bytes.get_mut(usize::from(at)) {
                    *place = byte;
                }
            }
            Change::Cut(at) => bytes.truncate(at.index(bytes.len() + 1)),
            Change::Grow(by) => bytes.resize(bytes.len() + usize::from(by), 0xee),
            Change::Byte(..) => {}
        }
    }
    // A right header checksum lets the rest be looked at.
    if repair && bytes.len() >= 34 && bytes[12..14] == [8, 0] {
        let length = (usize::from(bytes[14] & 0xf) * 4).clamp(20, bytes.len() - 14);
        bytes[24..26].fill(0);
        let check = tapgate_engine::checksum::checksum(&bytes[14..14 + length]);
        bytes[24..26].copy_from_slice(&check.to_be_bytes());
    }
    bytes
}

fn offload() -> impl Strategy<Value = Offload> {
    let checksum = prop_oneof![
        Just(Checksum::Present),
        Just(Checksum::Verified),
        Just(Checksum::Partial {
            start: 34,
            offset: 6
        }),
        Just(Checksum::Partial {
            start: 34,
            offset: 16
        }),
        (0..120u16, 0..40u16).prop_map(|(start, offset)| Checksum::Partial { start, offset }),
        any::<(u16, u16)>().prop_map(|(start, offset)| Checksum::Partial { start, offset }),
    ];
    let kind = prop_oneof![Just(GsoKind::Tcp4), Just(GsoKind::Tcp6), Just(GsoKind::Udp)];
    let gso = (
        kind,
        prop_oneof![Just(0), 1..40u16, 400..1_500u16, any::<u16>()],
        any::<bool>(),
    )
        .prop_map(|(kind, size, ecn)| Gso { kind, size, ecn });
    let some = (checksum, proptest::option::weighted(0.4, gso));
    prop_oneof![
        3 => Just(Offload::default()),
        2 => some.prop_map(|(checksum, gso)| Offload { checksum, gso }),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let random = proptest::collection::vec(any::<u8>(), 0..200);
    let mutant = (valid(), changes(), any::<bool>())
        .prop_map(|(bytes, changes, repair)| changed(bytes, changes, repair));
    let bytes = prop_oneof![1 => random, 9 => mutant];
    let vlan = prop_oneof![6 => Just(None), 1 => Just(Some(20)), 1 => any::<u16>().prop_map(Some)];
    let frame =
        (0..PORTS.len(), bytes, vlan, offload()).prop_map(|(port, bytes, vlan, offload)| {
            let (bytes, tag) = packet::untag(&bytes);
            Op::Frame {
                port,
                frame: OwnedFrame {
                    bytes,
                    vlan: tag.or(vlan),
                    offload,
                },
            }
        });
    let millis = prop_oneof![Just(1), Just(1_100), Just(40_000), Just(400_000)];
    prop_oneof![
        40 => frame,
        2 => millis.prop_map(Op::Advance),
        1 => Just(Op::Reload),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_frame_ends_in_one_verdict(ops in proptest::collection::vec(op(), 1..200)) {
        let config = dual_stack();
        let mut router = Router::new(&config);
        router.answer_everything();
        router.explain_everything();
        for op in ops {
            match op {
                Op::Frame { port, frame } => drop(router.inject_frame(PORTS[port], frame)),
                Op::Advance(millis) => router.advance(Duration::from_millis(millis)),
                Op::Reload => router.reload(&config),
            }
            router.take_all();
        }
        // It still works.
        router.advance(Duration::from_secs(400));
        router.take_all();
        let ping = ping("10.0.1.1", "10.0.1.254", 1, 1, b"still there?").link(GUEST_A, NET_A);
        router.inject("guest-a", ping.bytes());
        prop_assert_eq!(router.take_packets("guest-a").len(), 1);
    }
}

/// An answer to somebody beyond a gateway leaves by the gateway, which `explain` must know as well.
#[test]
fn explain_finds_the_way_back_of_an_answer() {
    let mut router = Router::settled(MULTI_MAC);
    router.station("uplink", None, "192.0.2.1", PROVIDER);
    let request = ping(REMOTE, "203.0.113.10", 9, 0, b"").link(PROVIDER, A);
    router.inject("uplink", request.bytes());
    router.explain_everything();
    assert_eq!(
        router.inject("uplink", request.bytes()),
        router.emit("uplink")
    );
}
