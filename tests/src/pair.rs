//! A router between one guest, on port `g`, and a provider, on port `up`; and what they say.

use std::net::Ipv6Addr;

use etherparse::{NetSlice, PacketBuilder, SlicedPacket, TransportSlice};
use tapgate_engine::addr::MacAddr;
use tapgate_engine::frame::Verdict;

use crate::packet::is_at;
use crate::router::Router;

/// A station's MAC as packet builders want it.
pub type Mac = [u8; 6];

/// The guest's MAC.
pub const GUEST: Mac = [2, 0, 0, 0, 1, 1];
/// The provider's gateway's.
pub const GATEWAY: Mac = [2, 0, 0, 0, 9, 9];
/// The router's on the guest's port.
pub const ROUTER_IN: Mac = [2, 0, 0, 0, 1, 0xfe];
/// The router's on the provider's port.
pub const ROUTER_OUT: Mac = [2, 0, 0, 0, 0, 0xaa];

/// An IPv4 address and a port.
pub type Ends = ([u8; 4], u16);

/// An IPv6 address as it is on the wire.
pub fn v6(text: &str) -> [u8; 16] {
    let address: Ipv6Addr = text.parse().expect("an IPv6 address");
    address.octets()
}

/// The router hears who has the address `own`, by ARP.
pub fn arp_reply(router: &mut Router, port: &str, own: (Mac, &str), asker: (Mac, &str)) {
    let reply = is_at((MacAddr(own.0), own.1), (MacAddr(asker.0), asker.1));
    assert_eq!(router.inject(port, reply.bytes()), Verdict::Consumed);
}

/// A UDP datagram over IPv4.
pub fn udp(macs: (Mac, Mac), from: Ends, to: Ends) -> Vec<u8> {
    let mut bytes = Vec::new();
    PacketBuilder::ethernet2(macs.0, macs.1)
        .ipv4(from.0, to.0, 64)
        .udp(from.1, to.1)
        .write(&mut bytes, b"payload")
        .expect("to memory");
    bytes
}

/// A UDP datagram over IPv6, from port 5000 to port 53.
pub fn udp6(macs: (Mac, Mac), ips: (&str, &str), hop_limit: u8, payload: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    PacketBuilder::ethernet2(macs.0, macs.1)
        .ipv6(v6(ips.0), v6(ips.1), hop_limit)
        .udp(5000, 53)
        .write(&mut bytes, &vec![7; payload])
        .expect("to memory");
    bytes
}

/// A neighbour solicitation or advertisement, with its sender's MAC if it has an `option`.
pub fn nd(
    macs: (Mac, Mac),
    ips: (&str, &str),
    (kind, flags): (u8, u8),
    target: &str,
    option: Option<u8>,
) -> Vec<u8> {
    let mut rest = v6(target).to_vec();
    if let Some(option) = option {
        rest.extend([option, 1]);
        rest.extend(macs.0);
    }
    let mut bytes = Vec::new();
    PacketBuilder::ethernet2(macs.0, macs.1)
        .ipv6(v6(ips.0), v6(ips.1), 255)
        .icmpv6_raw(kind, 0, [flags, 0, 0, 0])
        .write(&mut bytes, &rest)
        .expect("to memory");
    bytes
}

/// What an ICMPv6 frame says, its checksum verified: addresses, type, code, length of the packet.
pub fn icmp6(bytes: &[u8]) -> (Ipv6Addr, Ipv6Addr, u8, u8, usize) {
    let sliced = SlicedPacket::from_ethernet(bytes).expect("a packet");
    let (Some(NetSlice::Ipv6(net)), Some(TransportSlice::Icmpv6(icmp))) =
        (&sliced.net, &sliced.transport)
    else {
        panic!("{sliced:?}")
    };
    let (source, destination) = (net.header().source(), net.header().destination());
    assert!(icmp.is_checksum_valid(source, destination));
    let length = 40 + usize::from(net.header().payload_length());
    let (kind, code) = (icmp.type_u8(), icmp.code_u8());
    (source.into(), destination.into(), kind, code, length)
}

/// IPv6 for one guest, which nothing translates.
pub const CONFIG6: &str = r#"
[ports]
up = { memory = true }
g = { memory = true }
[personalities]
A = { port = "up", mac = "02:00:00:00:00:aa", addresses = ["2001:db8:9::10/64"], gateway = "2001:db8:9::1" }
[networks]
a = { ports = ["g"], addresses = ["2001:db8:1::fe/64"], mac = "02:00:00:00:01:fe" }
[tables]
main = [{ to = "::/0", dev = "A" }]
"#;

/// One MAC and one address, the host's own; a /29 and an IPv6 /64 beside it.
pub const SHARED: &str = r#"
[ports]
up = { memory = true }
g = { memory = true }
[personalities]
host = { port = "up", mac = "02:00:00:00:00:aa", addresses = ["198.51.100.7/32", "2001:db8:9::7/64"], gateway = ["198.51.100.1", "fe80::9"], onlink = true, shared = "61000-61003" }
[networks]
a = { ports = ["g"], addresses = ["10.0.1.254/24"], mac = "02:00:00:00:01:fe" }
[guests]
web = { port = "g", mac = "02:00:00:00:01:01", addresses = ["10.0.1.1"], public = ["203.0.113.8/29", "2001:db8:9::20"], limits = { ports = 9 } }
[tables]
main = [{ to = "default", dev = "host" }, { to = "::/0", dev = "host" }]
[nat]
snat = [{ from = "10.0.1.0/24", to = "198.51.100.7" }]
forward = [
  { address = "198.51.100.7", proto = "tcp", port = 2222, to = "10.0.1.1:22" },
  { address = "198.51.100.7", proto = "udp", port = 61001, to = "10.0.1.1:53" },
]
"#;

/// The guest's address.
pub const HOST: &str = "2001:db8:1::1";
/// The router's, towards the guest.
pub const GATE: &str = "2001:db8:1::fe";
/// A host on the internet.
pub const FAR: &str = "2001:db8:ffff::1";
/// A host on the provider's link.
pub const BESIDE: &str = "2001:db8:9::77";

/// [`CONFIG6`] with an owner for the guest's address, so that it may leave.
pub fn owned() -> String {
    CONFIG6.replace(
        "[tables]",
        "[guests]\nv = { port = \"g\", mac = \"02:00:00:00:01:01\", public = [\"2001:db8:1::1\"] }\n[tables]",
    )
}

/// Somebody asks for an address of the router's, and is known from then on.
pub fn ask(router: &mut Router, port: &str, macs: (Mac, Mac), from: &str, target: &str) {
    let bytes = nd(macs, (from, target), (135, 0), target, Some(1));
    assert_eq!(router.inject(port, bytes), Verdict::Consumed);
}

/// A router with [`CONFIG6`] whose neighbours are known.
pub fn acquainted() -> Router {
    acquainted_with(CONFIG6)
}

/// The same with another configuration that has its addresses.
pub fn acquainted_with(config: &str) -> Router {
    let mut router = Router::settled(config);
    ask(&mut router, "g", (GUEST, ROUTER_IN), HOST, GATE);
    ask(
        &mut router,
        "up",
        (GATEWAY, ROUTER_OUT),
        "2001:db8:9::1",
        "2001:db8:9::10",
    );
    router.take_all();
    router
}

/// The MAC of the host that answers for [`BESIDE`] first.
pub const FIRST: Mac = [2, 0, 0, 0, 9, 1];
/// The MAC of another that answers for it.
pub const SECOND: Mac = [2, 0, 0, 0, 9, 2];

/// The MAC to which the router sends the guest's packet for [`BESIDE`].
pub fn leads_to(router: &mut Router) -> Option<Mac> {
    router.take_all();
    router.inject("g", udp6((GUEST, ROUTER_IN), (HOST, BESIDE), 64, 10));
    let sent = router.sent();
    let packet = sent
        .iter()
        .find(|(port, bytes)| port == "up" && bytes[20] == 17);
    packet.and_then(|(_, bytes)| bytes.first_chunk().copied())
}

/// A router with [`owned`] that has asked for [`BESIDE`], and been told by [`FIRST`].
pub fn resolved() -> Router {
    let mut router = Router::settled(&owned());
    assert_eq!(leads_to(&mut router), None);
    advertise(&mut router, FIRST, 0x60);
    assert_eq!(leads_to(&mut router), Some(FIRST));
    router
}

/// Somebody says that [`BESIDE`] is at `mac`: to all, or solicited to the router.
pub fn advertise(router: &mut Router, mac: Mac, flags: u8) {
    let (to, to_mac) = match flags & 0x40 {
        0 => ("ff02::1", [0x33, 0x33, 0, 0, 0, 1]),
        _ => ("2001:db8:9::10", ROUTER_OUT),
    };
    let bytes = nd((mac, to_mac), (BESIDE, to), (136, flags), BESIDE, Some(2));
    router.inject("up", bytes);
}
