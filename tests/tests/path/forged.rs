//! A guest makes the router write to nobody in its name.

use etherparse::PacketBuilder;
use tapgate_engine::checksum;
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

#[test]
fn f11_nobody_is_told_whose_address_is_of_class_e() {
    let guest = "[guests]\nv = { port = \"g\", addresses = [\"10.0.1.5\"], public = [\"203.0.113.20\"] }\n[tables]";
    let text = CONFIG.replace("[tables]", guest).replace(
        "ipA = [",
        "main = [{ to = \"default\", dev = \"A\" }]\nipA = [",
    );
    let mut router = Router::settled(&text);
    router.answer_everything();
    for (from, told) in [
        ([198, 51, 100, 9], 1),
        ([240, 0, 0, 1], 0),
        ([254, 1, 2, 3], 0),
    ] {
        router.take_all();
        let mut packet = udp((GATEWAY, ROUTER_OUT), (from, 9), ([203, 0, 113, 20], 9));
        // A time to live of 1.
        packet[22] = 1;
        fix_header(&mut packet);
        assert_eq!(
            router.inject("up", packet),
            Verdict::Drop(DropReason::TtlExceeded)
        );
        let errors = router.take_packets("up");
        assert_eq!(errors.len(), told, "{from:?}: {errors:02x?}");
    }
}

/// Makes an IPv4 header's checksum right.
fn fix_header(packet: &mut [u8]) {
    packet[24..26].fill(0);
    let check = checksum::checksum(&packet[14..34]);
    packet[24..26].copy_from_slice(&check.to_be_bytes());
}
