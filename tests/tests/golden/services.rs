//! What guests are told about their network: rows D01 to D07, N20 to N23.

use etherparse::PacketBuilder;
use tapgate_engine::addr::MacAddr;
use tapgate_tests::golden::check;
use tapgate_tests::packet::{mac, udp};

/// The gateway of network `lan`, and its guests: `web` by its MAC, `db` alone on its port.
const GATEWAY: MacAddr = MacAddr([2, 0, 0, 0, 1, 0xfe]);
const WEB: MacAddr = MacAddr([0x52, 0x54, 0, 0, 0, 1]);
const DB: MacAddr = MacAddr([0x52, 0x54, 0, 0, 0, 2]);
const STRANGER: MacAddr = MacAddr([2, 0, 0, 0, 0, 0x66]);

const SERVER: [u8; 4] = [192, 168, 1, 254];
const WEB_ADDRESS: [u8; 4] = [192, 168, 1, 10];

const DISCOVER: u8 = 1;
const REQUEST: u8 = 3;
const DECLINE: u8 = 4;
const RELEASE: u8 = 7;
const INFORM: u8 = 8;

/// A DHCP request: who sends it, what kind it is, its options after that.
struct Dhcp {
    from: MacAddr,
    bytes: Vec<u8>,
}

fn dhcp(from: MacAddr, kind: u8) -> Dhcp {
    let mut bytes = vec![0; 240];
    bytes[0..4].copy_from_slice(&[1, 1, 6, 0]);
    bytes[4..8].copy_from_slice(&[0x12, 0x34, 0x56, kind]);
    bytes[28..34].copy_from_slice(&from.0);
    bytes[236..240].copy_from_slice(&[99, 130, 83, 99]);
    Dhcp { from, bytes }.option(53, &[kind])
}

impl Dhcp {
    fn option(mut self, code: u8, value: &[u8]) -> Self {
        self.bytes.extend([code, value.len() as u8]);
        self.bytes.extend(value);
        self
    }

    fn at(mut self, field: usize, value: &[u8]) -> Self {
        self.bytes[field..field + value.len()].copy_from_slice(value);
        self
    }

    fn ciaddr(self, address: [u8; 4]) -> Self {
        self.at(12, &address)
    }

    fn wants_broadcast(self) -> Self {
        self.at(10, &[0x80])
    }

    /// From a client without an address, to everybody.
    fn broadcast(&self) -> Vec<u8> {
        let everybody = (self.from, MacAddr::BROADCAST);
        self.sent("0.0.0.0:68", "255.255.255.255:67", everybody)
    }

    fn sent(&self, from: &str, to: &str, link: (MacAddr, MacAddr)) -> Vec<u8> {
        let bytes = [&self.bytes[..], &[255]].concat();
        udp(from, to, &bytes).link(link.0, link.1).bytes()
    }
}

/// An IPv6 frame to a group from a guest's link-local address.
fn group(
    from: MacAddr,
    to: &str,
    write: impl FnOnce(etherparse::PacketBuilderStep<etherparse::IpHeaders>) -> Vec<u8>,
) -> Vec<u8> {
    let [a, b, c, d, e, f] = from.0;
    let own = [
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
    ];
    let to: std::net::Ipv6Addr = to.parse().expect("an address");
    let [.., w, x, y, z] = to.octets();
    let builder = PacketBuilder::ethernet2(from.0, [0x33, 0x33, w, x, y, z]);
    write(builder.ipv6(own, to.octets(), 255))
}

fn solicitation(from: MacAddr) -> Vec<u8> {
    group(from, "ff02::2", |ip| {
        let mut bytes = Vec::new();
        let option = [&[1, 1][..], &from.0].concat();
        ip.icmpv6_raw(133, 0, [0; 4])
            .write(&mut bytes, &option)
            .expect("to memory");
        bytes
    })
}

/// A DHCPv6 message with these options.
fn dhcp6(from: MacAddr, kind: u8, options: &[(u16, &[u8])]) -> Vec<u8> {
    let mut message = vec![kind, 1, 2, kind];
    for (code, body) in options {
        message.extend(code.to_be_bytes());
        message.extend((body.len() as u16).to_be_bytes());
        message.extend(*body);
    }
    group(from, "ff02::1:2", |ip| {
        let mut bytes = Vec::new();
        ip.udp(546, 547)
            .write(&mut bytes, &message)
            .expect("to memory");
        bytes
    })
}

fn web(kind: u8) -> Dhcp {
    dhcp(WEB, kind)
}

/// DISCOVER and REQUEST as clients send them: told in unicast, told to everybody, through a relay,
/// with a client identifier; renewing, rebinding, and only asking.
#[test]
fn d01_d02_dhcp() {
    check("d01_d02_dhcp", |case| {
        let asked = |request: Dhcp| request.option(55, &[1, 3, 6, 12, 15, 26, 42, 119, 121]);
        let selected = || {
            let request = asked(web(REQUEST));
            request.option(54, &SERVER).option(50, &WEB_ADDRESS)
        };
        case.at(0, "web", asked(web(DISCOVER)).broadcast());
        case.at(10, "web", selected().broadcast());
        case.at(
            20,
            "web",
            asked(web(DISCOVER)).wants_broadcast().broadcast(),
        );
        case.at(30, "web", selected().wants_broadcast().broadcast());
        let id = [0xff, 0, 1, 2, 3, 4, 5];
        case.at(40, "web", web(DISCOVER).option(61, &id).broadcast());
        let relayed = web(DISCOVER).at(24, &[192, 168, 1, 77]);
        let link = (WEB, GATEWAY);
        case.at(
            50,
            "web",
            relayed.sent("192.168.1.10:67", "192.168.1.254:67", link),
        );
        let renewing = web(REQUEST).ciaddr(WEB_ADDRESS);
        case.at(
            60,
            "web",
            renewing.sent("192.168.1.10:68", "192.168.1.254:67", link),
        );
        let everybody = (WEB, MacAddr::BROADCAST);
        case.at(
            70,
            "web",
            renewing.sent("192.168.1.10:68", "255.255.255.255:67", everybody),
        );
        let inform = web(INFORM).ciaddr(WEB_ADDRESS).option(55, &[6]);
        case.at(
            80,
            "web",
            inform.sent("192.168.1.10:68", "192.168.1.254:67", link),
        );
    });
}

/// A wrong address is refused, another server's client is left alone, a declined address is not
/// offered until it is given back.
#[test]
fn d03_d04_dhcp_refusals() {
    check("d03_d04_dhcp_refusals", |case| {
        let other = [192, 168, 1, 99];
        case.at(0, "web", web(REQUEST).option(50, &other).broadcast());
        case.at(10, "web", web(REQUEST).ciaddr(other).broadcast());
        let elsewhere = web(REQUEST).option(54, &other).option(50, &WEB_ADDRESS);
        case.at(20, "web", elsewhere.broadcast());
        case.at(30, "web", web(REQUEST).broadcast());
        case.at(40, "web", web(REQUEST).option(50, &WEB_ADDRESS).broadcast());
        let decline = web(DECLINE).option(54, &SERVER).option(50, &WEB_ADDRESS);
        case.at(50, "web", decline.broadcast());
        case.at(60, "web", web(DISCOVER).broadcast());
        let release = web(RELEASE).option(54, &SERVER).ciaddr(WEB_ADDRESS);
        let link = (WEB, GATEWAY);
        case.at(
            70,
            "web",
            release.sent("192.168.1.10:68", "192.168.1.254:67", link),
        );
        case.at(80, "web", web(DISCOVER).broadcast());
        case.at(90, "web", decline.broadcast());
        case.at(29_000, "web", web(DISCOVER).broadcast());
        case.at(30_100, "web", web(DISCOVER).broadcast());
    });
}

/// A public address is handed out as a host's: the gateway is reached directly, and the default
/// route leads there.
#[test]
fn d05_d06_dhcp_far_gateway() {
    check("d05_d06_dhcp_far_gateway", |case| {
        case.at(0, "db", dhcp(DB, DISCOVER).broadcast());
        case.at(
            10,
            "db",
            dhcp(DB, DISCOVER).option(55, &[1, 3, 6]).broadcast(),
        );
        case.at(
            20,
            "db",
            dhcp(DB, DISCOVER).option(55, &[1, 3, 6, 121]).broadcast(),
        );
    });
}

/// Nobody gets what is another's: strangers, other ports, a network that offers nothing, a guest
/// without an address; nor may a guest play the server.
#[test]
fn d07_dhcp_strangers() {
    check("d07_dhcp_strangers", |case| {
        case.at(0, "web", dhcp(STRANGER, DISCOVER).broadcast());
        case.at(10, "web", dhcp(DB, DISCOVER).broadcast());
        case.at(20, "db", web(DISCOVER).broadcast());
        case.at(30, "web", web(DISCOVER).at(28, &DB.0).broadcast());
        let relayed = web(DISCOVER).at(28, &DB.0).at(24, &[192, 168, 1, 10]);
        let link = (WEB, GATEWAY);
        case.at(
            35,
            "web",
            relayed.sent("192.168.1.10:67", "192.168.1.254:67", link),
        );
        case.at(40, "spare", dhcp(STRANGER, DISCOVER).broadcast());
        case.at(50, "silent", dhcp(STRANGER, DISCOVER).broadcast());
        case.at(60, "uplink", dhcp(STRANGER, DISCOVER).broadcast());
        let offer = web(2).at(0, &[2]);
        let link = (WEB, MacAddr::BROADCAST);
        case.at(
            70,
            "web",
            offer.sent("192.168.1.10:67", "255.255.255.255:68", link),
        );
        case.at(
            80,
            "web",
            offer.sent("192.168.1.10:67", "203.0.113.20:68", (WEB, GATEWAY)),
        );
        case.at(90, "web", web(DISCOVER).broadcast());
    });
}

/// A thousand requests within a second are answered as often as `answers_per_second` allows.
#[test]
fn d07_dhcp_flood() {
    check("d07_dhcp_flood", |case| {
        for n in 0..1_000 {
            case.at(n, "web", web(DISCOVER).broadcast());
        }
        case.at(1_000, "db", dhcp(DB, DISCOVER).broadcast());
    });
}

/// A guest with an IPv6 address is handed it, another is told the rest.
#[test]
fn dhcp6_single_address_and_stateless() {
    check("dhcp6_single_address_and_stateless", |case| {
        let client = [0, 3, 0, 1, 0x52, 0x54, 0, 0, 0, 1];
        let server = [&[0, 3, 0, 1][..], &GATEWAY.0].concat();
        let association = [0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];
        let wanted = [0, 23, 0, 24];
        let all: [(u16, &[u8]); 3] = [(1, &client), (3, &association), (6, &wanted)];
        case.at(0, "web", dhcp6(WEB, 1, &all));
        case.at(
            10,
            "web",
            dhcp6(WEB, 3, &[all[0], (2, &server), all[1], all[2]]),
        );
        case.at(20, "db", dhcp6(DB, 1, &all));
        case.at(30, "db", dhcp6(DB, 11, &[(6, &wanted)]));
        case.at(40, "web", dhcp6(STRANGER, 11, &[(6, &wanted)]));
        case.at(50, "web", dhcp6(WEB, 1, &[(1, &client), (3, &[0; 11])]));
        case.at(60, "silent", dhcp6(STRANGER, 11, &[(6, &wanted)]));
    });
}

/// Advertisements by schedule and on demand: to a guest that has an address by DHCPv6 with the
/// managed flag, to another with the other flag only.
#[test]
fn n20_n21_n22_n23_router_advertisements() {
    check("n20_n21_n22_n23_router_advertisements", |case| {
        case.at(6_000, "web", solicitation(WEB));
        case.at(6_000, "db", solicitation(DB));
        case.at(6_000, "silent", solicitation(STRANGER));
        case.at(40_000, "web", solicitation(mac("02:00:00:00:00:66")));
    });
}
