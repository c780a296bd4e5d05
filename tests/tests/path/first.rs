//! One guest reaches the internet through SNAT, and the answer comes back.

use etherparse::PacketBuilder;
use tapgate_engine::drops::DropReason;
use tapgate_engine::frame::Verdict;
use tapgate_tests::pair::*;
use tapgate_tests::router::Router;

const CONFIG: &str = r#"
[ports]
up = { memory = true }
g = { memory = true }
[personalities]
A = { port = "up", mac = "02:00:00:00:00:aa", addresses = ["203.0.113.10/32"], gateway = "192.0.2.1", onlink = true }
[networks]
a = { ports = ["g"], addresses = ["10.0.1.254/24"], mac = "02:00:00:00:01:fe" }
[tables]
ipA = [{ to = "default", dev = "A" }]
[routing]
rules = [{ priority = 60000, from = "10.0.1.0/24", lookup = "ipA" }, { priority = 60001, from = "203.0.113.10", lookup = "ipA" }]
[nat]
snat = [{ from = "10.0.1.0/24", to = "203.0.113.10" }]
"#;

#[test]
fn a_first_packet_waits_for_arp_leaves_translated_and_its_answer_returns() {
    let mut router = Router::settled(CONFIG);
    let (up, guest) = ("up", "g");
    let out = udp(
        (GUEST, ROUTER_IN),
        ([10, 0, 1, 1], 5000),
        ([198, 51, 100, 1], 53),
    );
    assert_eq!(router.inject(guest, out.clone()), Verdict::Hold);
    router.take_all();
    arp_reply(
        &mut router,
        up,
        (GATEWAY, "192.0.2.1"),
        (ROUTER_OUT, "203.0.113.10"),
    );
    let (port, bytes) = router.last_sent().expect("the packet that waited");
    assert_eq!(port, up);
    let sliced = etherparse::SlicedPacket::from_ethernet(&bytes).unwrap();
    let Some(etherparse::NetSlice::Ipv4(ip)) = sliced.net else {
        panic!()
    };
    assert_eq!(ip.header().source(), [203, 0, 113, 10]);
    assert_eq!(ip.header().ttl(), 63);
    assert_eq!(
        (&bytes[0..6], &bytes[6..12]),
        (&GATEWAY[..], &ROUTER_OUT[..])
    );

    assert_eq!(router.inject(guest, out), router.emit(up));
    let back = udp(
        (GATEWAY, ROUTER_OUT),
        ([198, 51, 100, 1], 53),
        ([203, 0, 113, 10], 5000),
    );
    assert_eq!(
        router.inject(up, back.clone()),
        Verdict::Hold,
        "the guest is to be asked for"
    );
    router.take_all();
    arp_reply(
        &mut router,
        guest,
        (GUEST, "10.0.1.1"),
        (ROUTER_IN, "10.0.1.254"),
    );
    let (port, bytes) = router.last_sent().expect("the answer");
    assert_eq!((&port[..], &bytes[0..6]), (guest, &GUEST[..]));
    assert_eq!(&bytes[30..34], &[10, 0, 1, 1]);
    assert_eq!(router.inject(up, back), router.emit(guest));

    let stranger = udp(
        (GATEWAY, ROUTER_OUT),
        ([198, 51, 100, 2], 53),
        ([203, 0, 113, 10], 5000),
    );
    assert_eq!(
        router.inject(up, stranger),
        Verdict::Drop(DropReason::NoSession)
    );
}

#[test]
fn a_guest_cannot_have_us_write_to_the_source_it_forges() {
    // Not even where the port's sources are not checked.
    let unchecked = CONFIG.replace("g = { ", "g = { source = \"off\", ");
    let mut router = Router::settled(&unchecked);
    let (up, guest) = ("up", "g");
    arp_reply(
        &mut router,
        up,
        (GATEWAY, "192.0.2.1"),
        (ROUTER_OUT, "203.0.113.10"),
    );
    router.take_all();
    let victim = [198, 51, 100, 9];
    let mut echo = Vec::new();
    PacketBuilder::ethernet2(GUEST, ROUTER_IN)
        .ipv4(victim, [203, 0, 113, 10], 64)
        .icmpv4_echo_request(1, 1)
        .write(&mut echo, &[])
        .unwrap();
    assert_eq!(
        router.inject(guest, echo),
        Verdict::Drop(DropReason::WrongInterface)
    );
    let mut unroutable = udp((GUEST, ROUTER_IN), (victim, 1), ([203, 0, 113, 10], 2));
    assert_eq!(
        router.inject(guest, unroutable.clone()),
        Verdict::Drop(DropReason::PortUnreachable)
    );
    unroutable[22] = 1;
    router.inject(guest, unroutable);
    assert!(router.is_silent(), "nothing was sent in our name");
}
