//! What a guest may have others do to its frames after they were judged: nothing but what honest
//! senders ask for (H12).

use etherparse::{IpNumber, PacketBuilder};
use tapgate_engine::checksum::{fold, pseudo_header};
use tapgate_engine::drops::DropReason;
use tapgate_engine::frame::{Checksum, Gso, GsoKind, Offload, OwnedFrame, Verdict};
use tapgate_tests::packet::unfinished;
use tapgate_tests::pair::*;
use tapgate_tests::router::Router;

const REMOTE: [u8; 4] = [198, 51, 100, 9];
const INSIDE: [u8; 4] = [10, 0, 1, 1];
const CONFIG: &str = r#"
[ports]
up = { memory = true }
g = { memory = true }
[personalities]
A = { port = "up", mac = "02:00:00:00:00:aa", addresses = ["203.0.113.10/32", "2001:db8:9::10/64"], gateway = ["192.0.2.1", "2001:db8:9::1"], onlink = true }
[networks]
a = { ports = ["g"], addresses = ["10.0.1.254/24", "2001:db8:a::fe/64"], mac = "02:00:00:00:01:fe" }
[guests]
w = { port = "g", addresses = ["10.0.1.1", "2001:db8:a::1"], personality = "A" }
[tables]
main = [{ to = "default", dev = "A" }, { to = "::/0", dev = "A" }]
[nat]
snat = [{ from = "10.0.1.0/24", to = "203.0.113.10" }, { from = "2001:db8:a::/64", to = "2001:db8:9::10" }]
"#;

fn partial(start: usize, offset: usize) -> Offload {
    Offload {
        checksum: Checksum::Partial {
            start: start as u16,
            offset: offset as u16,
        },
        gso: None,
    }
}

fn router() -> Router {
    let mut router = Router::settled(CONFIG);
    router.answer_everything();
    // The gateways are known then.
    router.inject("g", udp((GUEST, ROUTER_IN), (INSIDE, 1), (REMOTE, 9)));
    router.inject(
        "g",
        udp6((GUEST, ROUTER_IN), ("2001:db8:a::1", "2001:db8::9"), 64, 9),
    );
    router.take_all();
    router
}

/// What becomes of a guest's frame: whether it is sent on. If not, it is counted against the guest.
fn passes(router: &mut Router, bytes: &[u8], offload: Offload) -> bool {
    let frame = OwnedFrame {
        bytes: bytes.to_vec(),
        vlan: None,
        offload,
    };
    let violations = |router: &Router| {
        let all = router.violations();
        let forged = all
            .iter()
            .filter(|(_, reason, _)| *reason == DropReason::ForgedOffload);
        forged.map(|(port, _, frames)| (*port, *frames)).next()
    };
    let before = violations(router).map_or(0, |(_, frames)| frames);
    router.take_all();
    match router.inject_frame("g", frame) {
        Verdict::Drop(DropReason::ForgedOffload) => {
            assert_eq!(violations(router), Some((router.port("g"), before + 1)));
            assert!(router.is_silent());
            false
        }
        Verdict::Emit(_) => true,
        other => panic!("{other:?}"),
    }
}

fn datagram(payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    PacketBuilder::ethernet2(GUEST, ROUTER_IN)
        .ipv4(INSIDE, REMOTE, 64)
        .udp(4_000, 53)
        .write(&mut bytes, payload)
        .unwrap();
    bytes
}

fn segment(payload: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    PacketBuilder::ethernet2(GUEST, ROUTER_IN)
        .ipv4(INSIDE, REMOTE, 64)
        .tcp(4_000, 80, 1, 1_000)
        .write(&mut bytes, &vec![7; payload])
        .unwrap();
    bytes
}

/// Behind an IPv6 header and a hop-by-hop header of padding.
fn extended() -> Vec<u8> {
    let plain = udp6((GUEST, ROUTER_IN), ("2001:db8:a::1", "2001:db8::9"), 64, 9);
    let mut bytes = plain[..54].to_vec();
    bytes.extend([bytes[20], 0, 1, 4, 0, 0, 0, 0]);
    bytes[20] = 0;
    bytes[19] += 8;
    bytes.extend(&plain[54..]);
    bytes
}

#[test]
fn h12_a_partial_checksum_lies_where_the_transport_has_it_and_nowhere_else() {
    let mut router = router();
    let places = || (0..100).flat_map(|start| (0..100).map(move |offset| (start, offset)));
    for (what, bytes, own) in [
        (
            "UDP",
            unfinished(&datagram(&[]), None).unwrap().bytes,
            Some((34, 6)),
        ),
        (
            "TCP",
            unfinished(&segment(40), None).unwrap().bytes,
            Some((34, 16)),
        ),
        (
            "an echo request",
            {
                let mut bytes = Vec::new();
                let builder = PacketBuilder::ethernet2(GUEST, ROUTER_IN).ipv4(INSIDE, REMOTE, 64);
                builder
                    .icmpv4_echo_request(1, 1)
                    .write(&mut bytes, &[0; 60])
                    .unwrap();
                bytes
            },
            None,
        ),
        ("UDP behind a header of options", extended(), Some((62, 6))),
    ] {
        for (start, offset) in places() {
            // Beyond UDP's header a tunnel may be.
            let inside = what.starts_with("UDP")
                && own.is_some_and(|(header, _)| {
                    start >= header + 8 && start + offset + 2 <= bytes.len()
                });
            let passed = passes(&mut router, &bytes, partial(start, offset));
            assert_eq!(
                passed,
                own == Some((start, offset)) || inside,
                "{what}: {start}+{offset}"
            );
        }
    }
    let mut request = vec![0xff; 6];
    request.extend(GUEST);
    request.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    request.extend(GUEST);
    request.extend([10, 0, 1, 1, 0, 0, 0, 0, 0, 0, 10, 0, 1, 254]);
    assert!(!passes(&mut router, &request, partial(14, 2)));
}

#[test]
fn h12_a_fragment_has_nothing_left_to_do() {
    let mut router = router();
    let mut bytes = datagram(&[1; 64]);
    bytes[20] = 0x20;
    let check = etherparse::Ipv4HeaderSlice::from_slice(&bytes[14..34]).unwrap();
    let check = check.to_header().calc_header_checksum();
    bytes[24..26].copy_from_slice(&check.to_be_bytes());
    assert!(!passes(&mut router, &bytes, partial(34, 6)));
}

/// The checksums of the datagram inside a tunnel are finished before it leaves, and outside it.
#[test]
fn h12_a_partial_checksum_inside_a_tunnel_is_completed() {
    let (from, to) = ([172, 16, 0, 1], [172, 16, 0, 2]);
    let mut inner = Vec::new();
    PacketBuilder::ipv4(from, to, 64)
        .udp(1, 2)
        .write(&mut inner, b"inside")
        .unwrap();
    let whole = inner.clone();
    let pseudo = fold(pseudo_header(&from, &to, 17, inner.len() - 20));
    inner[26..28].copy_from_slice(&pseudo.to_be_bytes());
    let in_ip = {
        let mut bytes = Vec::new();
        let builder = PacketBuilder::ethernet2(GUEST, ROUTER_IN).ipv4(INSIDE, REMOTE, 64);
        builder.write(&mut bytes, IpNumber::IPV4, &inner).unwrap();
        (bytes, 34 + 20)
    };
    let in_udp = (datagram(&[&[0; 8], &inner[..]].concat()), 42 + 8 + 20);
    // Nothing is translated: IP in IP could not be.
    let config = CONFIG.replace("{ from = \"10.0.1.0/24\", to = \"203.0.113.10\" }, ", "");
    let config = config.replace(
        "addresses = [\"10.0.1.1\", ",
        "public = [\"203.0.113.77/32\"], addresses = [\"10.0.1.1\", ",
    );
    for (mut bytes, start) in [in_ip, in_udp] {
        let mut router = Router::settled(&config);
        router.answer_everything();
        let public = [203, 0, 113, 77];
        bytes[26..30].copy_from_slice(&public);
        bytes[24..26].fill(0);
        let check = tapgate_engine::checksum::checksum(&bytes[14..34]);
        bytes[24..26].copy_from_slice(&check.to_be_bytes());
        if bytes[23] == 17 {
            bytes[40..42].fill(0);
        }
        router.inject("g", udp((GUEST, ROUTER_IN), (public, 1), (REMOTE, 9)));
        router.take_all();
        assert!(passes(&mut router, &bytes, partial(start, 6)));
        let sent = router.take_packets("up");
        assert!(sent[0].ends_with(&whole), "{:02x?}", sent[0]);
    }
}

#[test]
fn h12_super_frames_are_of_their_kind_and_of_segments_that_senders_make() {
    let mut router = router();
    let cut = |kind, size| {
        Some(Gso {
            kind,
            size,
            ecn: false,
        })
    };
    let mut passes = |bytes: &[u8], (start, offset), gso| {
        passes(
            &mut router,
            bytes,
            Offload {
                gso,
                ..partial(start, offset)
            },
        )
    };
    let tcp = unfinished(&segment(30_000), None).unwrap().bytes;
    let udp = unfinished(&datagram(&[5; 30_000]), None).unwrap().bytes;
    let short = unfinished(&segment(7), None).unwrap().bytes;
    for size in [118, 536, 1448] {
        assert!(passes(&tcp, (34, 16), cut(GsoKind::Tcp4, size)), "{size}");
        assert!(passes(&udp, (34, 6), cut(GsoKind::Udp, size)), "{size}");
    }
    // More than 256 segments.
    for size in [0, 1, 8, 48, 117] {
        assert!(!passes(&tcp, (34, 16), cut(GsoKind::Tcp4, size)), "{size}");
        assert!(!passes(&udp, (34, 6), cut(GsoKind::Udp, size)), "{size}");
    }
    // Smaller than any that TCP makes.
    assert!(!passes(&short, (34, 16), cut(GsoKind::Tcp4, 7)));
    assert!(passes(&short, (34, 16), cut(GsoKind::Tcp4, 8)));
    // Another kind, or another checksum.
    assert!(!passes(&tcp, (34, 16), cut(GsoKind::Tcp6, 1448)));
    assert!(!passes(&tcp, (34, 16), cut(GsoKind::Udp, 1448)));
    assert!(!passes(&udp, (34, 6), cut(GsoKind::Tcp4, 1448)));
    assert!(!passes(&tcp, (34, 6), cut(GsoKind::Tcp4, 1448)));
    assert!(!passes(&tcp, (42, 16), cut(GsoKind::Tcp4, 1448)));
    assert!(!passes(&extended(), (62, 6), cut(GsoKind::Udp, 4)));
}
