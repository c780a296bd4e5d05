//! One guest reaches the internet through SNAT, and the answer comes back.

mod lab;

use etherparse::PacketBuilder;
use lab::{GATEWAY, GUEST, Lab, ROUTER_IN, ROUTER_OUT};
use tapgate_engine::drops::DropReason;
use tapgate_engine::frame::Verdict;

const CONFIG: &str = r#"{
    "ports": { "up": { "memory": true }, "g": { "memory": true } },
    "personalities": { "A": { "port": "up", "mac": "02:00:00:00:00:aa",
        "addresses": ["203.0.113.10/32"], "gateway": "192.0.2.1", "onlink": true } },
    "networks": { "a": { "ports": ["g"], "addresses": ["10.0.1.254/24"], "mac": "02:00:00:00:01:fe" } },
    "tables": { "ipA": [ { "to": "default", "dev": "A" } ] },
    "routing": { "rules": [ { "priority": 60000, "from": "10.0.1.0/24", "lookup": "ipA" },
        { "priority": 60001, "from": "203.0.113.10", "lookup": "ipA" } ] },
    "nat": { "snat": [ { "from": "10.0.1.0/24", "to": "203.0.113.10" } ] }
}"#;

fn udp(macs: ([u8; 6], [u8; 6]), ips: ([u8; 4], [u8; 4]), ports: (u16, u16)) -> Vec<u8> {
    let mut bytes = Vec::new();
    PacketBuilder::ethernet2(macs.0, macs.1)
        .ipv4(ips.0, ips.1, 64)
        .udp(ports.0, ports.1)
        .write(&mut bytes, b"hello")
        .unwrap();
    bytes
}

#[test]
fn a_first_packet_waits_for_arp_leaves_translated_and_its_answer_returns() {
    let mut lab = Lab::new(CONFIG);
    let (up, guest) = (lab.up, lab.guest);
    let out = udp(
        (GUEST, ROUTER_IN),
        ([10, 0, 1, 1], [198, 51, 100, 1]),
        (5000, 53),
    );
    assert_eq!(lab.send(guest, out.clone()), Verdict::Hold);
    lab.out.clear();
    lab.arp_reply(up, GATEWAY, [192, 0, 2, 1], ROUTER_OUT, [203, 0, 113, 10]);
    let (port, bytes) = lab.out.pop_back().expect("the packet that waited");
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

    assert_eq!(lab.send(guest, out), Verdict::Emit(up));
    let back = udp(
        (GATEWAY, ROUTER_OUT),
        ([198, 51, 100, 1], [203, 0, 113, 10]),
        (53, 5000),
    );
    assert_eq!(
        lab.send(up, back.clone()),
        Verdict::Hold,
        "the guest is to be asked for"
    );
    lab.out.clear();
    lab.arp_reply(guest, GUEST, [10, 0, 1, 1], ROUTER_IN, [10, 0, 1, 254]);
    let (port, bytes) = lab.out.pop_back().expect("the answer");
    assert_eq!((port, &bytes[0..6]), (guest, &GUEST[..]));
    assert_eq!(&bytes[30..34], &[10, 0, 1, 1]);
    assert_eq!(lab.send(up, back), Verdict::Emit(guest));

    let stranger = udp(
        (GATEWAY, ROUTER_OUT),
        ([198, 51, 100, 2], [203, 0, 113, 10]),
        (53, 5000),
    );
    assert_eq!(lab.send(up, stranger), Verdict::Drop(DropReason::NoSession));
}

#[test]
fn a_guest_cannot_have_us_write_to_the_source_it_forges() {
    // Not even where the port's sources are not checked.
    let unchecked = CONFIG.replace("\"g\": { ", "\"g\": { \"source\": \"off\", ");
    let mut lab = Lab::new(&unchecked);
    let (up, guest) = (lab.up, lab.guest);
    lab.arp_reply(up, GATEWAY, [192, 0, 2, 1], ROUTER_OUT, [203, 0, 113, 10]);
    lab.out.clear();
    let victim = [198, 51, 100, 9];
    let mut echo = Vec::new();
    PacketBuilder::ethernet2(GUEST, ROUTER_IN)
        .ipv4(victim, [203, 0, 113, 10], 64)
        .icmpv4_echo_request(1, 1)
        .write(&mut echo, &[])
        .unwrap();
    assert_eq!(
        lab.send(guest, echo),
        Verdict::Drop(DropReason::WrongInterface)
    );
    let mut unroutable = udp((GUEST, ROUTER_IN), (victim, [203, 0, 113, 10]), (1, 2));
    assert_eq!(
        lab.send(guest, unroutable.clone()),
        Verdict::Drop(DropReason::PortUnreachable)
    );
    unroutable[22] = 1;
    lab.send(guest, unroutable);
    assert!(lab.out.is_empty(), "nothing was sent in our name");
}
