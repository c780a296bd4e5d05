//! Guests that are bridged to an uplink: their frames pass as they are, by the pairs of MAC and address
//! that are configured, and nothing else does.

mod neighbors;
mod packets;
mod rules;

use etherparse::PacketBuilder;
use tapgate_engine::addr::MacAddr;
use tapgate_engine::drops::DropReason;
use tapgate_engine::frame::Verdict;
use tapgate_tests::packet::{Arp, Packet, error, is_at, mac, ping, pong, tcp, udp, who_has};
use tapgate_tests::pair::{nd, v6};
use tapgate_tests::router::Router;

const X: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xaa]);
const WEB: MacAddr = MacAddr([0x52, 0x54, 0, 0, 0, 1]);
const DB: MacAddr = MacAddr([0x52, 0x54, 0, 0, 0, 2]);
const VM: MacAddr = MacAddr([0x52, 0x54, 0, 0, 0, 3]);
const LAN: MacAddr = MacAddr([2, 0, 0, 0, 1, 0xfe]);
/// The provider's router.
const GATEWAY: MacAddr = MacAddr([2, 0, 0, 0, 0, 0x99]);
const STRANGER: MacAddr = MacAddr([2, 0, 0, 0, 0, 0x66]);

const WEB4: &str = "203.0.113.21";
const DB4: &str = "203.0.113.22";
const OWN4: &str = "203.0.113.10";
const VM4: &str = "203.0.113.31";
const GATEWAY4: &str = "203.0.113.1";
const REMOTE: &str = "198.51.100.9";
const WEB6: &str = "2001:db8:9::21";
const DB6: &str = "2001:db8:9::22";
const OWN6: &str = "2001:db8:9::10";
const REMOTE6: &str = "2001:db8:ffff::1";
const WEB_LINK: &str = "fe80::5054:ff:fe00:1";
const DB_LINK: &str = "fe80::5054:ff:fe00:2";
const GATEWAY_LINK: &str = "fe80::99";

/// Guests `web` and `db` are bridged beside personality `x`, by which `vm` of network `lan` leaves;
/// `vm` has an address outside as well.
fn config(vlan: &str, more: &str) -> String {
    format!(
        r#"
[ports]
uplink = {{ memory = true }}
web = {{ memory = true }}
db = {{ memory = true }}
vm = {{ memory = true }}
[personalities]
x = {{ port = "uplink", mac = "{X}", addresses = ["{OWN4}/24", "{OWN6}/64"], gateway = ["{GATEWAY4}", "{GATEWAY_LINK}"]{vlan} }}
[networks]
public = {{ bridged = "uplink", ports = ["web", "db"]{vlan} }}
lan = {{ ports = ["vm"], addresses = ["10.0.0.254/24", "2001:db8:1::fe/64"], mac = "{LAN}" }}
[guests]
web = {{ port = "web", mac = "{WEB}", public = ["{WEB4}", "{WEB6}"] }}
db = {{ port = "db", mac = "{DB}", public = ["{DB4}", "{DB6}"] }}
vm = {{ port = "vm", mac = "{VM}", addresses = ["10.0.0.1", "2001:db8:1::1"], public = ["{VM4}"] }}
[tables]
main = [{{ to = "default", dev = "x" }}, {{ to = "::/0", dev = "x" }}]
[nat]
snat = [{{ from = "10.0.0.0/24", to = "{OWN4}" }}]
forward = [{{ address = "{OWN4}", proto = "tcp", port = 8022, to = "10.0.0.1:22" }}]
{more}
"#
    )
}

fn router_with(more: &str) -> Router {
    let mut router = Router::settled(&config("", more));
    router.explain_everything();
    router
}

fn router() -> Router {
    router_with("")
}

/// A frame comes in by a port and leaves by another as it is, and nothing else leaves.
#[track_caller]
fn passes(router: &mut Router, from: &str, to: &str, frame: impl AsRef<[u8]>) {
    let frame = frame.as_ref();
    let verdict = router.inject(from, frame);
    assert_eq!(verdict, router.emit(to));
    assert_eq!(router.sent(), [(to.to_owned(), frame.to_vec())]);
}

/// A frame comes in by a port, and nothing leaves.
#[track_caller]
fn refused(router: &mut Router, from: &str, frame: impl AsRef<[u8]>, reason: DropReason) {
    assert_eq!(router.inject(from, frame), Verdict::Drop(reason));
    assert!(router.is_silent());
}

fn query(to: &str) -> Packet {
    udp(&format!("{WEB4}:5000"), &format!("{to}:53"), b"query")
}

fn datagram6(macs: (MacAddr, MacAddr), ips: (&str, &str), hops: u8) -> Vec<u8> {
    tapgate_tests::pair::udp6((macs.0.0, macs.1.0), ips, hops, 40)
}

/// A solicitation to the group of its target.
fn ns(from: (MacAddr, &str), target: &str) -> Vec<u8> {
    let [.., a, b, c] = v6(target);
    let group = format!("ff02::1:ff{a:02x}:{b:02x}{c:02x}");
    let option = (from.1 != "::").then_some(1);
    let to = [0x33, 0x33, 0xff, a, b, c];
    nd((from.0.0, to), (from.1, &group), (135, 0), target, option)
}

fn na(from: (MacAddr, &str), to: (MacAddr, &str), target: &str) -> Vec<u8> {
    nd(
        (from.0.0, to.0.0),
        (from.1, to.1),
        (136, 0x60),
        target,
        Some(2),
    )
}

const ALL: MacAddr = MacAddr([0x33, 0x33, 0, 0, 0, 1]);

/// An ICMPv6 message of another kind.
fn icmp6(macs: (MacAddr, MacAddr), ips: (&str, &str), kind: u8, rest: &[u8], hops: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    PacketBuilder::ethernet2(macs.0.0, macs.1.0)
        .ipv6(v6(ips.0), v6(ips.1), hops)
        .icmpv6_raw(kind, 0, [0; 4])
        .write(&mut bytes, rest)
        .unwrap();
    bytes
}
