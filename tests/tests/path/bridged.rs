//! Guests that are bridged to an uplink: their frames pass as they are, by the pairs of MAC and address
//! that are configured, and nothing else does.

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

#[test]
fn packets_pass_as_they_are_both_ways() {
    let mut router = router();
    let out = query(REMOTE).link(WEB, GATEWAY).ttl(1).bytes();
    passes(&mut router, "web", "uplink", &out);
    passes(&mut router, "web", "uplink", &out);
    let answer = udp(&format!("{REMOTE}:53"), &format!("{WEB4}:5000"), b"answer");
    passes(
        &mut router,
        "uplink",
        "web",
        answer.link(GATEWAY, WEB).ttl(1).bytes(),
    );
    let syn = tcp(&format!("{REMOTE}:9"), &format!("{DB4}:443"), "S", b"");
    passes(&mut router, "uplink", "db", syn.link(GATEWAY, DB).bytes());
    let syn = tcp(&format!("{DB4}:443"), &format!("{REMOTE}:9"), "S.", b"");
    passes(&mut router, "db", "uplink", syn.link(DB, GATEWAY).bytes());
    let ack = tcp(&format!("{REMOTE}:9"), &format!("{DB4}:443"), ".", b"");
    passes(&mut router, "uplink", "db", ack.link(GATEWAY, DB).bytes());
    let six = datagram6((WEB, GATEWAY), (WEB6, REMOTE6), 1);
    passes(&mut router, "web", "uplink", six);
    let six = datagram6((GATEWAY, WEB), (REMOTE6, WEB6), 1);
    passes(&mut router, "uplink", "web", six);
    // From the link-local address that is made of its MAC.
    let six = datagram6((WEB, GATEWAY), (WEB_LINK, GATEWAY_LINK), 64);
    passes(&mut router, "web", "uplink", six);
    assert_eq!(router.sessions().len(), 5);
    assert_eq!(router.usage("web").opened.0, 3);
    assert_eq!(router.usage("db").served.0, 1);
    // Errors about them, in both directions.
    let late = error(REMOTE, WEB4, (11, 0), [0; 4], &query(REMOTE).bytes());
    passes(
        &mut router,
        "uplink",
        "web",
        late.link(GATEWAY, WEB).bytes(),
    );
    let unknown = udp(&format!("{WEB4}:5001"), &format!("{REMOTE}:53"), b"").bytes();
    let late = error(REMOTE, WEB4, (11, 0), [0; 4], &unknown).link(GATEWAY, WEB);
    refused(
        &mut router,
        "uplink",
        late.bytes(),
        DropReason::IcmpUnmatched,
    );
}

#[test]
fn a_vlan_is_the_uplinks_alone() {
    let mut router = Router::settled(&config(", vlan = 7", ""));
    router.explain_everything();
    let sent = query(REMOTE).link(WEB, GATEWAY);
    assert_eq!(router.inject("web", sent.bytes()), router.emit("uplink"));
    let tagged = |packet: Packet| packet.vlan(7).bytes();
    let out = tagged(query(REMOTE).link(WEB, GATEWAY));
    assert_eq!(router.sent(), [("uplink".to_owned(), out.clone())]);
    refused(&mut router, "web", out, DropReason::UnknownMac);
    let answer = || udp(&format!("{REMOTE}:53"), &format!("{WEB4}:5000"), b"").link(GATEWAY, WEB);
    refused(
        &mut router,
        "uplink",
        answer().bytes(),
        DropReason::UnknownMac,
    );
    let other = answer().vlan(8).bytes();
    refused(&mut router, "uplink", other, DropReason::UnknownMac);
    assert_eq!(
        router.inject("uplink", tagged(answer())),
        router.emit("web")
    );
    assert_eq!(router.sent(), [("web".to_owned(), answer().bytes())]);
    // The router itself, beside it, answers without the tag.
    let asked = who_has(OWN4, (WEB, WEB4));
    assert_eq!(router.inject("web", asked.bytes()), router.emit("web"));
    assert_eq!(
        router.sent(),
        [(
            "web".to_owned(),
            is_at((X, OWN4), (WEB, WEB4)).bytes()[..42].to_vec()
        )]
    );
    let ping = ping("10.0.0.1", WEB4, 7, 1, b"").link(VM, LAN);
    assert_eq!(router.inject("vm", ping.bytes()), router.emit("web"));
    assert_eq!(router.sent()[0].1[12..14], [8, 0]);
}

#[test]
fn a_guest_sends_from_its_own_mac_and_addresses_only() {
    let mut router = router();
    let mut from = |port: &str, (mac, to): (MacAddr, MacAddr), ip: &str, reason| {
        let packet = udp(&format!("{ip}:1"), &format!("{REMOTE}:2"), b"");
        refused(&mut router, port, packet.link(mac, to).bytes(), reason);
    };
    for mac in [DB, GATEWAY, X, STRANGER] {
        from("web", (mac, GATEWAY), WEB4, DropReason::SpoofedMac);
    }
    // Another's pair, at another's port.
    from("web", (DB, GATEWAY), DB4, DropReason::SpoofedMac);
    for ip in [DB4, OWN4, VM4, GATEWAY4, "203.0.113.99", "10.0.0.1", REMOTE] {
        from("web", (WEB, GATEWAY), ip, DropReason::SpoofedSource);
    }
    from(
        "web",
        (MacAddr([1, 0, 0, 0, 0, 1]), GATEWAY),
        WEB4,
        DropReason::GroupSource,
    );
    from("web", (WEB, GATEWAY), "0.0.0.0", DropReason::Martian);
    for ip in [
        DB6,
        OWN6,
        REMOTE6,
        "2001:db8:9::99",
        DB_LINK,
        GATEWAY_LINK,
        "fe80::1",
    ] {
        let frame = datagram6((WEB, GATEWAY), (ip, REMOTE6), 64);
        refused(&mut router, "web", frame, DropReason::SpoofedSource);
    }
    let own = datagram6((WEB, GATEWAY), ("::", REMOTE6), 64);
    refused(&mut router, "web", own, DropReason::Martian);
    let caught: u64 = router.violations().iter().map(|(.., frames)| frames).sum();
    assert_eq!(caught, 5 + 7 + 7);
    // The session of one is not another's.
    passes(
        &mut router,
        "web",
        "uplink",
        query(REMOTE).link(WEB, GATEWAY).bytes(),
    );
    let forged = query(REMOTE).link(DB, GATEWAY).bytes();
    refused(&mut router, "db", forged, DropReason::SpoofedSource);
}

#[test]
fn what_is_neither_ip_nor_arp_does_not_pass() {
    let mut router = router();
    for ethertype in [
        [0x88, 0xcc],
        [0x88, 0x63],
        [0x81, 0x00],
        [0x88, 0xa8],
        [0x00, 0x26],
    ] {
        for (port, from, to) in [
            ("web", WEB, ALL),
            ("web", WEB, GATEWAY),
            ("uplink", GATEWAY, WEB),
        ] {
            let mut frame = query(REMOTE).link(from, to).bytes();
            frame.splice(12..12, [ethertype[0], ethertype[1], 0, 7]);
            // A single tag is taken off by ports: what comes in is in a VLAN.
            let reason = match ethertype {
                [0x81, 0x00] => DropReason::UnknownMac,
                _ => DropReason::UnknownEthertype,
            };
            refused(&mut router, port, frame, reason);
        }
    }
}

#[test]
fn arp_passes_for_own_addresses_only_and_to_one_place() {
    let mut router = router();
    let ask = |target: &str| who_has(target, (WEB, WEB4)).bytes();
    passes(&mut router, "web", "uplink", ask(GATEWAY4));
    passes(&mut router, "web", "uplink", ask(WEB4));
    passes(&mut router, "web", "db", ask(DB4));
    let probe = |target| who_has(target, (WEB, "0.0.0.0")).bytes();
    passes(&mut router, "web", "uplink", probe(WEB4));
    for target in [DB4, OWN4, GATEWAY4] {
        refused(&mut router, "web", probe(target), DropReason::SpoofedArp);
    }
    for claimed in [DB4, OWN4, VM4, GATEWAY4, "203.0.113.99"] {
        let claim = is_at((WEB, claimed), (GATEWAY, GATEWAY4)).bytes();
        refused(&mut router, "web", claim, DropReason::SpoofedArp);
        let claim = who_has(claimed, (WEB, claimed)).bytes();
        refused(&mut router, "web", claim, DropReason::SpoofedArp);
    }
    // A sender's MAC that is not the frame's.
    let mut lie = is_at((WEB, WEB4), (GATEWAY, GATEWAY4)).bytes();
    lie[22..28].copy_from_slice(&GATEWAY.0);
    refused(&mut router, "web", lie, DropReason::ArpSenderMismatch);
    passes(
        &mut router,
        "web",
        "uplink",
        is_at((WEB, WEB4), (GATEWAY, GATEWAY4)).bytes(),
    );
    // The provider asks, by broadcast and by unicast, and the guest answers itself.
    let asked = |target: &str| who_has(target, (GATEWAY, GATEWAY4));
    passes(&mut router, "uplink", "web", asked(WEB4).bytes());
    passes(
        &mut router,
        "uplink",
        "db",
        Arp {
            to: DB,
            ..asked(DB4)
        }
        .bytes(),
    );
    passes(
        &mut router,
        "uplink",
        "web",
        who_has(WEB4, (GATEWAY, "0.0.0.0")).bytes(),
    );
    passes(
        &mut router,
        "uplink",
        "web",
        is_at((GATEWAY, GATEWAY4), (WEB, WEB4)).bytes(),
    );
    let wrong = Arp {
        to: DB,
        ..asked(WEB4)
    }
    .bytes();
    refused(&mut router, "uplink", wrong, DropReason::WrongPersonality);
    refused(
        &mut router,
        "uplink",
        asked("203.0.113.99").bytes(),
        DropReason::ArpNotForUs,
    );
    // Nobody out there is one of them.
    for claimed in [WEB4, DB4] {
        let claim = is_at((STRANGER, claimed), (WEB, WEB4)).bytes();
        refused(&mut router, "uplink", claim, DropReason::InsideSource);
        let claim = who_has(claimed, (STRANGER, claimed)).bytes();
        refused(&mut router, "uplink", claim, DropReason::InsideSource);
    }
    let own = who_has(GATEWAY4, (WEB, WEB4)).bytes();
    refused(&mut router, "uplink", own, DropReason::OwnFrame);
    // What the gateway announces all hear.
    let announced = who_has(GATEWAY4, (GATEWAY, GATEWAY4)).bytes();
    assert_eq!(router.inject("uplink", &announced), Verdict::Replaced);
    assert_eq!(
        router.sent(),
        [
            ("web".to_owned(), announced.clone()),
            ("db".to_owned(), announced)
        ]
    );
}

#[test]
fn nd_passes_for_own_addresses_only_and_to_one_place() {
    let mut router = router();
    for sender in [WEB6, WEB_LINK] {
        passes(
            &mut router,
            "web",
            "uplink",
            ns((WEB, sender), GATEWAY_LINK),
        );
        passes(&mut router, "web", "db", ns((WEB, sender), DB6));
        passes(&mut router, "web", "db", ns((WEB, sender), DB_LINK));
        passes(
            &mut router,
            "web",
            "uplink",
            na((WEB, sender), (GATEWAY, GATEWAY_LINK), sender),
        );
        passes(
            &mut router,
            "web",
            "uplink",
            na((WEB, sender), (GATEWAY, GATEWAY_LINK), WEB6),
        );
        passes(
            &mut router,
            "web",
            "db",
            na((WEB, sender), (DB, DB6), sender),
        );
    }
    // Probes for its own addresses, not for others'.
    for target in [WEB6, WEB_LINK] {
        passes(&mut router, "web", "uplink", ns((WEB, "::"), target));
    }
    for target in [DB6, DB_LINK, OWN6, GATEWAY_LINK, "fe80::1"] {
        let probe = ns((WEB, "::"), target);
        refused(&mut router, "web", probe, DropReason::SpoofedAdvertisement);
        let claim = na((WEB, WEB6), (GATEWAY, GATEWAY_LINK), target);
        refused(&mut router, "web", claim, DropReason::SpoofedAdvertisement);
        let claim = na((WEB, WEB6), (ALL, "ff02::1"), target);
        // Solicited, and yet to all: only unsolicited ones are.
        let reason = router.inject("web", claim);
        assert_eq!(reason, Verdict::Drop(DropReason::SpoofedAdvertisement));
        let question = ns((WEB, target), GATEWAY_LINK);
        refused(&mut router, "web", question, DropReason::SpoofedSource);
    }
    // Another's MAC in the option.
    let mut lie = ns((GATEWAY, WEB6), DB6);
    lie[6..12].copy_from_slice(&WEB.0);
    refused(&mut router, "web", lie, DropReason::SpoofedMac);
    let mut lie = na((GATEWAY, WEB6), (DB, DB6), WEB6);
    lie[6..12].copy_from_slice(&WEB.0);
    refused(&mut router, "web", lie, DropReason::SpoofedMac);
    // Only routers advertise and redirect.
    let ra = |from, to| icmp6(from, to, 134, &[0; 8], 255);
    for kind in [134, 137] {
        let frame = icmp6((WEB, ALL), (WEB_LINK, "ff02::1"), kind, &[0; 32], 255);
        refused(&mut router, "web", frame, DropReason::RogueServer);
    }
    let rs = |from: MacAddr, option: MacAddr| {
        let option = [&[1, 1][..], &option.0].concat();
        let routers = MacAddr([0x33, 0x33, 0, 0, 0, 2]);
        icmp6((from, routers), (WEB_LINK, "ff02::2"), 133, &option, 255)
    };
    passes(&mut router, "web", "uplink", rs(WEB, WEB));
    refused(&mut router, "web", rs(WEB, GATEWAY), DropReason::SpoofedMac);
    let far = icmp6((WEB, ALL), (WEB_LINK, "ff02::2"), 133, &[], 254);
    refused(&mut router, "web", far, DropReason::NdMalformed);
    // From the uplink.
    let gateway = (GATEWAY, GATEWAY_LINK);
    passes(&mut router, "uplink", "web", ns(gateway, WEB6));
    passes(&mut router, "uplink", "db", ns(gateway, DB_LINK));
    passes(&mut router, "uplink", "web", ns((STRANGER, "::"), WEB6));
    passes(
        &mut router,
        "uplink",
        "web",
        na(gateway, (WEB, WEB6), GATEWAY_LINK),
    );
    passes(
        &mut router,
        "uplink",
        "web",
        ra((GATEWAY, WEB), (GATEWAY_LINK, WEB_LINK)),
    );
    refused(
        &mut router,
        "uplink",
        ns(gateway, "2001:db8:9::99"),
        DropReason::NdNotForUs,
    );
    for target in [WEB6, DB_LINK] {
        let claim = na((STRANGER, "fe80::66"), (WEB, WEB6), target);
        refused(&mut router, "uplink", claim, DropReason::InsideSource);
    }
    let redirect = icmp6((GATEWAY, WEB), (GATEWAY_LINK, WEB6), 137, &[0; 32], 255);
    refused(&mut router, "uplink", redirect, DropReason::NdIgnored);
    let advertised = ra((GATEWAY, ALL), (GATEWAY_LINK, "ff02::1"));
    assert_eq!(router.inject("uplink", &advertised), Verdict::Replaced);
    assert_eq!(
        router.sent(),
        [
            ("web".to_owned(), advertised.clone()),
            ("db".to_owned(), advertised)
        ]
    );
}

#[test]
fn groups_pass_for_dhcp_and_mld_only() {
    let mut router = router();
    let dhcp = |ports: (u16, u16), ips: (&str, &str), client: MacAddr| {
        let mut body = [0; 240];
        body[28..34].copy_from_slice(&client.0);
        udp(
            &format!("{}:{}", ips.0, ports.0),
            &format!("{}:{}", ips.1, ports.1),
            &body,
        )
    };
    let all = MacAddr::BROADCAST;
    let ask = |client| dhcp((68, 67), ("0.0.0.0", "255.255.255.255"), client).link(WEB, all);
    passes(&mut router, "web", "uplink", ask(WEB).bytes());
    refused(&mut router, "web", ask(DB).bytes(), DropReason::SpoofedMac);
    let renew = |client| dhcp((68, 67), (WEB4, GATEWAY4), client).link(WEB, GATEWAY);
    passes(&mut router, "web", "uplink", renew(WEB).bytes());
    refused(
        &mut router,
        "web",
        renew(DB).bytes(),
        DropReason::SpoofedMac,
    );
    for to in [all, DB] {
        let offer = dhcp((67, 68), (WEB4, "255.255.255.255"), DB).link(WEB, to);
        refused(&mut router, "web", offer.bytes(), DropReason::RogueServer);
    }
    let offer = |client| dhcp((67, 68), (GATEWAY4, "255.255.255.255"), client).link(GATEWAY, all);
    passes(&mut router, "uplink", "web", offer(WEB).bytes());
    passes(&mut router, "uplink", "db", offer(DB).bytes());
    refused(
        &mut router,
        "uplink",
        offer(STRANGER).bytes(),
        DropReason::Broadcast,
    );
    let offer = dhcp((67, 68), (GATEWAY4, WEB4), WEB).link(GATEWAY, WEB);
    passes(&mut router, "uplink", "web", offer.bytes());
    // DHCPv6.
    let ask = |ports: (u16, u16), to: (MacAddr, &str)| {
        let mut bytes = Vec::new();
        PacketBuilder::ethernet2(WEB.0, to.0.0)
            .ipv6(v6(WEB_LINK), v6(to.1), 1)
            .udp(ports.0, ports.1)
            .write(&mut bytes, &[1, 0, 0, 1])
            .unwrap();
        bytes
    };
    let servers = (MacAddr([0x33, 0x33, 0, 1, 0, 2]), "ff02::1:2");
    passes(&mut router, "web", "uplink", ask((546, 547), servers));
    refused(
        &mut router,
        "web",
        ask((547, 546), (DB, DB_LINK)),
        DropReason::RogueServer,
    );
    // Groups are reported and asked for; the router answers for itself as well.
    let listens = |from, kind| {
        let reports = MacAddr([0x33, 0x33, 0, 0, 0, 0x16]);
        icmp6((WEB, reports), (from, "ff02::16"), kind, &[4, 0, 0, 0], 1)
    };
    for from in [WEB_LINK, "::"] {
        passes(&mut router, "web", "uplink", listens(from, 143));
    }
    refused(
        &mut router,
        "web",
        listens(DB_LINK, 143),
        DropReason::SpoofedSource,
    );
    refused(
        &mut router,
        "web",
        listens(WEB_LINK, 130),
        DropReason::RogueServer,
    );
    let asks = icmp6((GATEWAY, ALL), (GATEWAY_LINK, "ff02::1"), 130, &[0; 20], 1);
    assert_eq!(router.inject("uplink", &asks), Verdict::Replaced);
    assert_eq!(
        router.sent(),
        [("web".to_owned(), asks.clone()), ("db".to_owned(), asks)]
    );
    // Everything else that is for many.
    for (mac, ip) in [
        (all, "255.255.255.255"),
        (all, DB4),
        (MacAddr([1, 0, 0x5e, 0, 0, 0xfb]), "224.0.0.251"),
    ] {
        let out = udp(&format!("{WEB4}:5353"), &format!("{ip}:5353"), b"").link(WEB, mac);
        refused(&mut router, "web", out.bytes(), DropReason::Broadcast);
        let inward = udp(&format!("{REMOTE}:5353"), &format!("{ip}:5353"), b"").link(GATEWAY, mac);
        refused(&mut router, "uplink", inward.bytes(), DropReason::Broadcast);
    }
}

#[test]
fn what_is_told_to_all_is_limited() {
    let mut router = router();
    let announced = who_has(GATEWAY4, (STRANGER, GATEWAY4)).bytes();
    let mut copies = 0;
    for _ in 0..2_000 {
        router.inject("uplink", &announced);
        copies += router.sent().len();
    }
    assert_eq!(copies, 500, "half a second's 1,000 copies, to two guests");
    assert_eq!(router.dropped(DropReason::ArpUnsolicited), 2_000 - 250);
}

#[test]
fn from_the_uplink_only_what_is_a_guests_own_passes() {
    let mut router = router();
    let to = |ip: &str, mac: MacAddr, from: &str| {
        let packet = udp(&format!("{from}:1"), &format!("{ip}:2"), b"");
        packet.link(GATEWAY, mac).bytes()
    };
    for ip in [DB4, OWN4, VM4, "203.0.113.99", "10.0.0.1"] {
        let frame = to(ip, WEB, REMOTE);
        refused(&mut router, "uplink", frame, DropReason::WrongPersonality);
    }
    // A source that is ours is nobody's out there, also in a session's packet.
    let between = udp(&format!("{DB4}:1"), &format!("{WEB4}:2"), b"");
    passes(&mut router, "db", "web", between.link(DB, WEB).bytes());
    for from in [DB4, WEB4, OWN4, VM4, "10.0.0.1"] {
        refused(
            &mut router,
            "uplink",
            to(WEB4, WEB, from),
            DropReason::InsideSource,
        );
        refused(
            &mut router,
            "uplink",
            to(WEB4, WEB, from),
            DropReason::InsideSource,
        );
    }
    refused(
        &mut router,
        "uplink",
        to(WEB4, STRANGER, REMOTE),
        DropReason::UnknownMac,
    );
    let own = query(REMOTE).link(WEB, GATEWAY).bytes();
    refused(&mut router, "uplink", own, DropReason::OwnFrame);
    let six = datagram6((GATEWAY, WEB), (DB6, WEB6), 64);
    refused(&mut router, "uplink", six, DropReason::InsideSource);
    let six = datagram6((GATEWAY, WEB), (DB_LINK, WEB_LINK), 64);
    refused(&mut router, "uplink", six, DropReason::InsideSource);
}

#[test]
fn guests_reach_each_other_by_whichever_mac() {
    let mut router = router();
    let to_db = || udp(&format!("{WEB4}:1"), &format!("{DB4}:2"), b"");
    passes(&mut router, "web", "db", to_db().link(WEB, DB).bytes());
    // A guest whose address is a /32 asks its gateway for everything.
    let sent = to_db().link(WEB, GATEWAY).bytes();
    assert_eq!(router.inject("web", sent), router.emit("db"));
    assert_eq!(
        router.sent(),
        [("db".to_owned(), to_db().link(WEB, DB).bytes())]
    );
    let back = udp(&format!("{DB4}:2"), &format!("{WEB4}:1"), b"");
    passes(&mut router, "db", "web", back.link(DB, WEB).bytes());
    assert_eq!(router.sessions().len(), 1);
    passes(
        &mut router,
        "web",
        "db",
        datagram6((WEB, DB), (WEB_LINK, DB_LINK), 64),
    );
    // But no guest is another's router.
    let through = query(REMOTE).link(WEB, DB).bytes();
    refused(&mut router, "web", through, DropReason::WrongPersonality);
}

#[test]
fn the_router_and_guests_behind_it_are_reached_beside_the_uplink() {
    let mut router = router();
    // The router itself.
    let asked = who_has(OWN4, (WEB, WEB4)).bytes();
    assert_eq!(router.inject("web", asked), router.emit("web"));
    let answer = is_at((X, OWN4), (WEB, WEB4)).bytes()[..42].to_vec();
    assert_eq!(router.sent(), [("web".to_owned(), answer)]);
    let asked = who_has(VM4, (WEB, WEB4)).bytes();
    assert_eq!(router.inject("web", asked), router.emit("web"));
    assert_eq!(
        router.sent(),
        [(
            "web".to_owned(),
            is_at((X, VM4), (WEB, WEB4)).bytes()[..42].to_vec()
        )]
    );
    assert_eq!(
        router.inject("web", ns((WEB, WEB6), OWN6)),
        Verdict::Consumed
    );
    let sent = router.sent();
    assert_eq!(
        (sent.len(), sent[0].0.as_str(), sent[0].1[54]),
        (1, "web", 136)
    );
    for to in [X, GATEWAY] {
        let sent = ping(WEB4, OWN4, 7, 1, b"hello").link(WEB, to).bytes();
        assert_eq!(router.inject("web", sent), router.emit("web"));
        let expected = pong(OWN4, WEB4, 7, 1, b"hello").link(X, WEB).bytes();
        assert_eq!(router.sent(), [("web".to_owned(), expected)]);
    }
    // A guest that leaves by the personality, and what it is answered.
    let (vm, x) = (format!("10.0.0.1:{}", 7_000), format!("{OWN4}:7000"));
    let web = format!("{WEB4}:53");
    let sent = udp(&vm, &web, b"query").link(VM, LAN).bytes();
    assert_eq!(router.inject("vm", sent), router.emit("web"));
    let expected = udp(&x, &web, b"query").link(X, WEB).ttl(63).bytes();
    assert_eq!(router.sent(), [("web".to_owned(), expected)]);
    for to in [X, GATEWAY] {
        let answer = udp(&web, &x, b"answer").link(WEB, to).bytes();
        assert_eq!(router.inject("web", answer), router.emit("vm"));
        let expected = udp(&web, &vm, b"answer").link(LAN, VM).ttl(63).bytes();
        assert_eq!(router.sent(), [("vm".to_owned(), expected)]);
    }
    // By a forwarded port, and at an address that it has outside.
    for (outside, inside) in [
        (format!("{OWN4}:8022"), "10.0.0.1:22"),
        (format!("{VM4}:22"), "203.0.113.31:22"),
    ] {
        let from = format!("{WEB4}:9000");
        let syn = tcp(&from, &outside, "S", b"").link(WEB, GATEWAY).bytes();
        assert_eq!(router.inject("web", syn), router.emit("vm"));
        let expected = tcp(&from, inside, "S", b"").link(LAN, VM).ttl(63).bytes();
        assert_eq!(router.sent(), [("vm".to_owned(), expected)]);
        let answer = tcp(inside, &from, "S.", b"").link(VM, LAN).bytes();
        assert_eq!(router.inject("vm", answer), router.emit("web"));
        let expected = tcp(&outside, &from, "S.", b"").link(X, WEB).ttl(63).bytes();
        assert_eq!(router.sent(), [("web".to_owned(), expected)]);
        // Strangers who say they are the guest do not get into its session.
        let forged = tcp(&from, &outside, ".", b"evil").link(STRANGER, X).bytes();
        refused(&mut router, "uplink", forged, DropReason::InsideSource);
    }
    // Inside stays inside.
    let inside = udp(&format!("{WEB4}:1"), "10.0.0.1:2", b"")
        .link(WEB, X)
        .bytes();
    refused(&mut router, "web", inside, DropReason::InsideDestination);
    // Nobody leaves by the router who is bridged beside it.
    let through = query(REMOTE).link(WEB, X).bytes();
    refused(&mut router, "web", through, DropReason::EgressGuard);
}

#[test]
fn super_frames_pass_and_what_is_too_large_does_not() {
    let mut router = router();
    let syn = |flags, payload: &[u8]| {
        tcp(&format!("{WEB4}:1"), &format!("{REMOTE}:2"), flags, payload).link(WEB, GATEWAY)
    };
    passes(&mut router, "web", "uplink", syn("S", b"").bytes());
    let large = syn(".", &[7; 5_000]).bytes();
    refused(&mut router, "web", &large, DropReason::TooLarge);
    let whole = tapgate_tests::packet::unfinished(&large, Some(1_448)).unwrap();
    assert_eq!(
        router.inject_frame("web", whole.clone()),
        router.emit("uplink")
    );
    let lengths: Vec<_> = router
        .sent()
        .iter()
        .map(|(_, bytes)| bytes.len() - 54)
        .collect();
    assert_eq!(lengths, [1_448, 1_448, 1_448, 656]);
    let whole = tapgate_tests::packet::unfinished(&large, Some(1_500)).unwrap();
    assert_eq!(
        router.inject_frame("web", whole),
        Verdict::Drop(DropReason::TooLarge)
    );
}

#[test]
fn fragments_follow_their_first() {
    let mut router = router();
    let whole = udp(&format!("{WEB4}:1"), &format!("{REMOTE}:2"), &[7; 2_000]).link(WEB, GATEWAY);
    let packet = whole.packet();
    let piece = |from: usize, to: usize| {
        let body = &packet[20 + from..20 + to];
        let more = 20 + to < packet.len();
        tapgate_tests::packet::ip(WEB4, REMOTE, 17, body)
            .id(9)
            .fragment(from as u16 / 8, more)
            .link(WEB, GATEWAY)
            .bytes()
    };
    assert_eq!(router.inject("web", piece(1_000, 2_008)), Verdict::Hold);
    let first = piece(0, 1_000);
    router.inject("web", &first);
    router.wait(1);
    assert_eq!(
        router.sent(),
        [
            ("uplink".to_owned(), first),
            ("uplink".to_owned(), piece(1_000, 2_008))
        ]
    );
    // A router's advertisement in fragments is none.
    let mut ra = icmp6((WEB, DB), (WEB_LINK, DB_LINK), 134, &[0; 8], 255);
    ra[20] = 44;
    ra.splice(54..54, [58, 0, 0, 0, 0, 0, 0, 1]);
    ra[19] += 8;
    assert!(matches!(router.inject("web", ra), Verdict::Drop(_)));
    assert!(router.is_silent());
}

const POLICY: &str = r#"[policy]
zones = { segment = ["public"] }
rules = [
  { action = "accept", to = "web", proto = "tcp", port = 443 },
  { action = "accept", from = "db", proto = "udp" },
  { action = "drop", from = "web", to = "vm" },
  { action = "accept", from = "segment", to = "web", proto = "tcp", port = 999 },
]
default = [{ action = "drop", to = "web" }, { action = "drop", from = "db" }]"#;

#[test]
fn the_policy_holds_for_bridged_guests_as_for_all() {
    let mut router = router_with(POLICY);
    let remote = |port: u16| format!("{REMOTE}:{port}");
    let web = |port: u16| format!("{WEB4}:{port}");
    let syn = |to: u16| {
        tcp(&remote(9), &web(to), "S", b"")
            .link(GATEWAY, WEB)
            .bytes()
    };
    passes(&mut router, "uplink", "web", syn(443));
    passes(
        &mut router,
        "web",
        "uplink",
        tcp(&web(443), &remote(9), "S.", b"")
            .link(WEB, GATEWAY)
            .bytes(),
    );
    refused(&mut router, "uplink", syn(22), DropReason::Policy);
    // Stateful: answers to what it asked.
    let answer = udp(&remote(53), &web(5_000), b"")
        .link(GATEWAY, WEB)
        .bytes();
    refused(&mut router, "uplink", &answer, DropReason::Policy);
    passes(
        &mut router,
        "web",
        "uplink",
        query(REMOTE).link(WEB, GATEWAY).bytes(),
    );
    passes(&mut router, "uplink", "web", &answer);
    // The segment is whoever is beyond the guests.
    let asks = |from: &str, to| tcp(&format!("{from}:1"), &format!("{WEB4}:{to}"), "S", b"");
    passes(
        &mut router,
        "uplink",
        "web",
        asks(REMOTE, 999).link(GATEWAY, WEB).bytes(),
    );
    refused(
        &mut router,
        "uplink",
        asks(REMOTE, 998).link(GATEWAY, WEB).bytes(),
        DropReason::Policy,
    );
    let inside = asks("10.0.0.1", 999).link(VM, LAN).bytes();
    refused(&mut router, "vm", inside, DropReason::Policy);
    let from_db = tcp(&format!("{DB4}:1"), &web(999), "S", b"")
        .link(DB, WEB)
        .bytes();
    refused(&mut router, "db", from_db, DropReason::Policy);
    // Between guests, and by the router.
    let from_db = udp(&format!("{DB4}:1"), &web(2), b"").link(DB, WEB).bytes();
    passes(&mut router, "db", "web", from_db);
    let from_db = tcp(&format!("{DB4}:1"), &web(22), "S", b"")
        .link(DB, WEB)
        .bytes();
    refused(&mut router, "db", from_db, DropReason::Policy);
    let to_vm = udp(&web(1), &format!("{VM4}:2"), b"").link(WEB, X).bytes();
    refused(&mut router, "web", to_vm, DropReason::Policy);
    let to_web = udp("10.0.0.1:1", &web(2), b"").link(VM, LAN).bytes();
    refused(&mut router, "vm", to_web, DropReason::Policy);
    // A reload ends exactly what is no longer allowed.
    router.reload(&config("", &POLICY.replace("443", "8443")));
    let more = tcp(&remote(9), &web(443), ".", b"")
        .link(GATEWAY, WEB)
        .bytes();
    refused(&mut router, "uplink", more, DropReason::Policy);
    passes(&mut router, "uplink", "web", &answer);
}

#[test]
fn a_reload_moves_a_guest_and_ends_what_is_no_longer_its_own() {
    let mut router = router();
    let sent = query(REMOTE).link(WEB, GATEWAY).bytes();
    let answer = udp(&format!("{REMOTE}:53"), &format!("{WEB4}:5000"), b"")
        .link(GATEWAY, WEB)
        .bytes();
    passes(&mut router, "web", "uplink", &sent);
    let from_vm = || {
        udp("10.0.0.1:1", &format!("{WEB4}:2"), b"")
            .link(VM, LAN)
            .bytes()
    };
    assert_eq!(router.inject("vm", from_vm()), router.emit("web"));
    router.take_all();
    // The guest moves to the port of the other, which is gone.
    let moved = config("", "")
        .replace(
            &format!("db = {{ port = \"db\", mac = \"{DB}\", public = [\"{DB4}\", \"{DB6}\"] }}"),
            "",
        )
        .replace("web = { port = \"web\"", "web = { port = \"db\"");
    router.reload(&moved);
    passes(&mut router, "uplink", "db", &answer);
    passes(&mut router, "db", "uplink", &sent);
    refused(&mut router, "web", &sent, DropReason::SpoofedMac);
    assert_eq!(router.inject("vm", from_vm()), router.emit("db"));
    router.take_all();
    assert_eq!(router.sessions().len(), 2);
    // Another address: the sessions of the old one are over.
    router.reload(&moved.replace(WEB4, "203.0.113.29"));
    refused(&mut router, "uplink", &answer, DropReason::WrongPersonality);
    refused(&mut router, "db", &sent, DropReason::SpoofedSource);
    // Nobody is where the guest was, as far as the router knows.
    assert_eq!(router.inject("vm", from_vm()), Verdict::Hold);
}

#[test]
fn an_uplink_needs_no_personality() {
    let text = format!(
        r#"
[ports]
uplink = {{ memory = true }}
web = {{ memory = true }}
[networks]
public = {{ bridged = "uplink", ports = ["web"] }}
[guests]
web = {{ port = "web", mac = "{WEB}", public = ["{WEB4}"] }}
"#
    );
    let mut router = Router::settled(&text);
    router.explain_everything();
    passes(
        &mut router,
        "web",
        "uplink",
        query(REMOTE).link(WEB, GATEWAY).bytes(),
    );
    passes(
        &mut router,
        "uplink",
        "web",
        who_has(WEB4, (GATEWAY, GATEWAY4)).bytes(),
    );
    refused(
        &mut router,
        "uplink",
        who_has(GATEWAY4, (STRANGER, REMOTE)).bytes(),
        DropReason::ArpNotForUs,
    );
    // Nobody announces or answers for it.
    router.wait(1_000_000);
    assert!(router.is_silent());
    assert_eq!(mac("52:54:00:00:00:01"), WEB);
}

#[test]
fn explain_tells_who_gets_it() {
    let mut router = router_with(POLICY);
    let frame = query(REMOTE).link(WEB, GATEWAY).bytes();
    let (lines, verdict) = router.explain("web", &frame);
    assert_eq!(verdict, router.emit("uplink"));
    let text: Vec<_> = lines
        .iter()
        .map(|l| format!("{}: {}", l.stage, l.detail))
        .collect();
    assert_eq!(
        text,
        [
            format!("interface: bridged to {GATEWAY}, from port web of public"),
            "session: none: a first packet".to_owned(),
            "policy: no rule says anything: it may pass".to_owned(),
            format!("bridge: passes as it is to {GATEWAY}, out on uplink"),
        ]
    );
}

/// Frames that are right but for a few bytes, by every port. The harness looks at each that leaves, and
/// asks `explain` about each that comes.
#[test]
fn whatever_comes_in_only_pairs_leave() {
    let mut router = router();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 33) as usize % below
    };
    let all = MacAddr::BROADCAST;
    let frames = [
        query(REMOTE).link(WEB, GATEWAY).bytes(),
        query(DB4).link(WEB, GATEWAY).bytes(),
        query(OWN4).link(WEB, X).bytes(),
        udp(&format!("{REMOTE}:53"), &format!("{WEB4}:5000"), b"")
            .link(GATEWAY, WEB)
            .bytes(),
        udp("10.0.0.1:7", &format!("{WEB4}:53"), b"")
            .link(VM, LAN)
            .bytes(),
        udp("0.0.0.0:68", "255.255.255.255:67", &[0; 240])
            .link(WEB, all)
            .bytes(),
        datagram6((WEB, GATEWAY), (WEB6, REMOTE6), 64),
        datagram6((DB, WEB), (DB_LINK, WEB_LINK), 64),
        datagram6((GATEWAY, WEB), (REMOTE6, WEB6), 64),
        who_has(GATEWAY4, (WEB, WEB4)).bytes(),
        who_has(WEB4, (GATEWAY, GATEWAY4)).bytes(),
        who_has(GATEWAY4, (GATEWAY, GATEWAY4)).bytes(),
        is_at((DB, DB4), (WEB, WEB4)).bytes(),
        ns((WEB, WEB_LINK), GATEWAY_LINK),
        ns((WEB, "::"), WEB6),
        na((DB, DB6), (WEB, WEB6), DB6),
        icmp6((GATEWAY, ALL), (GATEWAY_LINK, "ff02::1"), 134, &[0; 8], 255),
        icmp6((WEB, ALL), (WEB_LINK, "ff02::16"), 143, &[4, 0, 0, 0], 1),
    ];
    // What may stand where an address or a MAC does.
    let macs = [WEB, DB, X, VM, LAN, GATEWAY, STRANGER, all, ALL];
    let known = [
        WEB4,
        DB4,
        OWN4,
        VM4,
        GATEWAY4,
        REMOTE,
        "10.0.0.1",
        "0.0.0.0",
        "255.255.255.255",
    ];
    let mut left = 0;
    for _ in 0..6_000 {
        let mut frame = frames[random(frames.len())].clone();
        for _ in 0..random(3) {
            let mac = macs[random(macs.len())].0;
            let ip = tapgate_tests::packet::address(known[random(known.len())]).octets();
            let is_arp = frame[12..14] == [8, 6];
            match random(6) {
                0 => frame[..6].copy_from_slice(&mac),
                1 => frame[6..12].copy_from_slice(&mac),
                2 if is_arp => frame[22..28].copy_from_slice(&mac),
                3 if is_arp => frame[28..32].copy_from_slice(&ip),
                3 if frame[12..14] == [8, 0] => frame[26..30].copy_from_slice(&ip),
                4 if is_arp => frame[38..42].copy_from_slice(&ip),
                4 if frame[12..14] == [8, 0] => frame[30..34].copy_from_slice(&ip),
                _ => {
                    let at = 12 + random(frame.len().min(90) - 12);
                    frame[at] ^= 1 << random(8);
                }
            }
        }
        if frame[12..14] == [8, 0] && frame[14] == 0x45 {
            frame[24..26].fill(0);
            let check = tapgate_engine::checksum::checksum(&frame[14..34]);
            frame[24..26].copy_from_slice(&check.to_be_bytes());
        }
        let port = ["uplink", "web", "db", "vm"][random(4)];
        router.inject(port, frame);
        left += router.sent().len();
        if random(50) == 0 {
            router.wait(random(3_000) as u64);
        }
    }
    assert!(left > 600, "{left}");
}
