//! Announcements: who hears of which address (X01, RFC 5227 §3).

use std::time::Duration;

use tapgate_tests::packet::{Arp, untag};
use tapgate_tests::recipe::*;
use tapgate_tests::router::Router;

/// Every own address is announced on its own port, in its own VLAN, by its own MAC: as a request
/// and as a reply, three times.
#[test]
fn x01_addresses_are_announced_at_the_start() {
    let mut router = Router::new(MULTI_MAC);
    router.advance(Duration::from_secs(10));
    let mut seen = announcements(&mut router);
    seen.sort();
    let mut expected = Vec::new();
    for (port, vlan, mac, address) in [
        ("guest-a", None, NET_A, "10.0.1.254"),
        ("guest-b", None, NET_B, "10.0.2.254"),
        ("guest-c", None, NET_C, "10.0.3.254"),
        ("uplink", None, A, "203.0.113.10"),
        ("uplink", None, C, "203.0.113.30"),
        ("uplink", Some(20), B, "203.0.113.20"),
    ] {
        for operation in [1, 1, 1, 2, 2, 2] {
            let (port, mac) = (port.to_owned(), mac.to_string());
            expected.push((port, vlan, mac, address.to_owned(), operation));
        }
    }
    expected.sort();
    assert_eq!(seen, expected);
}

/// A port whose device came back is announced on anew, and no other.
#[test]
fn x01_a_port_that_comes_back_is_announced_on() {
    let mut router = Router::new(MULTI_MAC);
    router.advance(Duration::from_secs(10));
    router.take_all();
    router.attach("uplink");
    router.advance(Duration::from_secs(10));
    let seen = announcements(&mut router);
    assert_eq!(seen.len(), 18);
    assert!(seen.iter().all(|(port, ..)| port == "uplink"));
}

/// A reload announces what is new, and nothing that was there before.
#[test]
fn a_reload_announces_only_what_is_new() {
    let mut router = Router::new(MULTI_MAC);
    router.advance(Duration::from_secs(10));
    router.take_all();
    router.reload(&MULTI_MAC.replace("10.0.3.254/24", "10.0.3.253/24"));
    router.advance(Duration::from_secs(10));
    let seen = announcements(&mut router);
    assert_eq!(seen.len(), 6);
    assert!(
        seen.iter()
            .all(|(_, _, _, address, _)| address == "10.0.3.253")
    );
}

type Announced = (String, Option<u16>, String, String, u16);

fn announcements(router: &mut Router) -> Vec<Announced> {
    let mut seen = Vec::new();
    for (port, frames) in router.take_all() {
        for sent in frames {
            let (bytes, vlan) = untag(&sent.bytes);
            let arp = Arp::parse(&bytes).expect("nothing but ARP");
            assert_eq!(arp.sender.1, arp.target.1, "an announcement");
            let (mac, address) = (arp.sender.0.to_string(), arp.sender.1.to_string());
            seen.push((port.clone(), vlan, mac, address, arp.operation));
        }
    }
    seen
}
