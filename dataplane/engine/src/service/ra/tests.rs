use super::message::*;
use super::*;
use crate::addr::MacAddr;
use crate::checksum;
use crate::frame::{Frame, Offload};
use crate::session::SessionMemory;
use serde_json::{Value, json};

const HOST: &str = "fe80::5054:ff:fe00:1";
const HOST_MAC: MacAddr = MacAddr([0x52, 0x54, 0, 0, 0, 1]);
const GATEWAY_MAC: [u8; 6] = [2, 0, 0, 0, 1, 0xfe];
const SOLICITATION: u8 = 133;

struct Lab {
    snapshot: Snapshot,
    shard: Shard,
    now: Instant,
}

/// An advertisement that was sent: when, and the whole frame.
type Sent = (u64, Vec<u8>);

fn snapshot(ra: Value, previous: Option<&Snapshot>) -> Snapshot {
    let mut network = json!({
        "ports": ["g"], "addresses": ["192.168.1.254/24"], "mac": "02:00:00:00:01:fe",
    });
    if !ra.is_null() {
        network["ra"] = ra;
    }
    let config =
        json!({ "ports": { "g": { "memory": true, "mtu": 1400 } }, "networks": { "a": network } });
    Snapshot::build(&serde_json::from_value(config).unwrap(), previous)
}

impl Lab {
    fn new(ra: Value) -> Self {
        Self::with_seed(ra, 7)
    }

    fn with_seed(ra: Value, seed: u64) -> Self {
        let snapshot = snapshot(ra, None);
        let now = Instant::from_millis(1_000_000);
        let shard = Shard::new(&snapshot, SessionMemory::owned(16), seed, now);
        Self {
            snapshot,
            shard,
            now,
        }
    }

    fn reload(&mut self, ra: Value) {
        self.snapshot = snapshot(ra, Some(&self.snapshot));
        self.shard.adopt(&self.snapshot, self.now);
    }

    /// What is advertised within this time.
    fn run(&mut self, millis: u64) -> Vec<Sent> {
        let end = self.now + Duration::from_millis(millis);
        let mut sent = Vec::new();
        loop {
            self.drain(&mut sent);
            let Some(due) = self.shard.next_deadline().filter(|due| *due <= end) else {
                break;
            };
            self.now = self.now.max(due);
            self.shard.poll(&self.snapshot, self.now);
        }
        self.now = end;
        sent
    }

    fn drain(&mut self, sent: &mut Vec<Sent>) {
        let now = self.now;
        self.shard.drain(&self.snapshot, now, |_, frame| {
            if frame.bytes[12..14] == [0x86, 0xdd] && frame.bytes[54] == ADVERTISEMENT {
                sent.push((now.as_millis(), frame.bytes.to_vec()));
            }
        });
    }

    fn solicit(&mut self, from: &str, mac: Option<MacAddr>) -> Verdict {
        let (from, to) = (from.parse().unwrap(), "ff02::2".parse().unwrap());
        let mut body = vec![SOLICITATION, 0, 0, 0, 0, 0, 0, 0];
        if let Some(mac) = mac {
            body.extend([SOURCE_LINK_LAYER, 1]);
            body.extend(mac.0);
        }
        let mut frame = build((from, to), &body);
        frame.bytes[0..6].copy_from_slice(&[0x33, 0x33, 0, 0, 0, 2]);
        frame.bytes[6..12].copy_from_slice(&HOST_MAC.0);
        let mut frame = Frame {
            bytes: &mut frame.bytes,
            vlan: None,
            offload: Offload::default(),
            headroom: &mut [],
        };
        let port = self.snapshot.port_id("g").unwrap();
        crate::process(&mut frame, port, &self.snapshot, &mut self.shard, self.now)
    }
}

fn lifetime(frame: &[u8]) -> u16 {
    u16::from_be_bytes([frame[60], frame[61]])
}

fn is_to_all(frame: &[u8]) -> bool {
    frame[0..6] == [0x33, 0x33, 0, 0, 0, 1]
}

/// The options of an advertisement, whole.
fn options(frame: &[u8]) -> Vec<Vec<u8>> {
    let (mut list, mut rest) = (Vec::new(), &frame[70..]);
    while !rest.is_empty() {
        let (option, more) = rest.split_at(usize::from(rest[1]) * 8);
        list.push(option.to_vec());
        rest = more;
    }
    list
}

fn of_kind(frame: &[u8], kind: u8) -> Vec<Vec<u8>> {
    let mut list = options(frame);
    list.retain(|option| option[0] == kind);
    list
}

fn gaps(sent: &[Sent]) -> Vec<u64> {
    sent.windows(2).map(|pair| pair[1].0 - pair[0].0).collect()
}

#[test]
fn n20_from_the_link_local_address_with_hop_limit_255() {
    let (_, frame) = Lab::new(json!({})).run(3_000).remove(0);
    assert_eq!(frame[0..6], [0x33, 0x33, 0, 0, 0, 1]);
    assert_eq!(frame[6..12], GATEWAY_MAC);
    assert_eq!(frame[21], 255, "hop limit");
    let address = |at: usize| Ipv6Addr::from(*frame[at..].first_chunk::<16>().unwrap());
    assert_eq!(address(22), "fe80::1".parse::<Ipv6Addr>().unwrap());
    assert_eq!(address(38), ALL_NODES);
    let seed = checksum::pseudo_header(&frame[22..38], &frame[38..54], 58, frame.len() - 54);
    assert_eq!(checksum::fold(checksum::sum(&frame[54..], seed)), 0xffff);
    assert_eq!(frame[54..56], [134, 0]);
    assert_eq!(frame[58..60], [64, 0], "hop limit to use, no flags");
    assert_eq!(lifetime(&frame), 1800);
    let source = [&[1, 1][..], &GATEWAY_MAC].concat();
    assert_eq!(of_kind(&frame, 1), [source]);
}

/// A hundred solicitations within a second are answered, each after half a second at most, but
/// not each alone.
#[test]
fn n20_solicited_answers_are_delayed_and_few() {
    let mut lab = Lab::new(json!({}));
    lab.run(60_000);
    let start = lab.now.as_millis();
    let mut sent = Vec::new();
    for _ in 0..100 {
        assert_eq!(lab.solicit(HOST, Some(HOST_MAC)), Verdict::Consumed);
        sent.extend(lab.run(10));
    }
    sent.extend(lab.run(500));
    assert!((2..=40).contains(&sent.len()), "{}", sent.len());
    assert!(sent[0].0 - start <= 500);
    for (_, frame) in &sent {
        assert_eq!(frame[0..6], HOST_MAC.0);
        let host: Ipv6Addr = HOST.parse().unwrap();
        assert_eq!(frame[38..54], host.octets());
    }
}

/// One from the unspecified address is answered to all, and those are at least 3 s apart.
#[test]
fn n20_advertisements_to_all_are_three_seconds_apart() {
    let mut lab = Lab::new(json!({}));
    lab.run(60_000);
    let mut sent = Vec::new();
    for _ in 0..100 {
        assert_eq!(lab.solicit("::", None), Verdict::Consumed);
        sent.extend(lab.run(100));
    }
    assert!((3..=4).contains(&sent.len()), "{}", sent.len());
    assert!(sent.iter().all(|(_, frame)| is_to_all(frame)));
    assert!(gaps(&sent).iter().all(|gap| *gap >= 3_000), "{sent:?}");
}

#[test]
fn n20_an_unspecified_sender_never_touches_the_neighbours() {
    let mut lab = Lab::new(json!({}));
    lab.solicit("::", None);
    let wrong = lab.solicit("::", Some(HOST_MAC));
    assert_eq!(wrong, Verdict::Drop(DropReason::NdMalformed));
    assert_eq!(lab.shard.neighbors.iter().count(), 0);
    lab.solicit(HOST, Some(HOST_MAC));
    let known: Vec<_> = lab
        .shard
        .neighbors
        .iter()
        .map(|n| (n.address, n.mac))
        .collect();
    assert_eq!(known, [(HOST.parse().unwrap(), HOST_MAC)]);
}

#[test]
fn a_solicitation_where_nothing_is_advertised_is_ignored() {
    let mut lab = Lab::new(Value::Null);
    let ignored = lab.solicit(HOST, Some(HOST_MAC));
    assert_eq!(ignored, Verdict::Drop(DropReason::NdIgnored));
    assert!(lab.run(60_000).is_empty());
}

#[test]
fn n21_three_soon_and_then_between_the_least_and_the_largest_interval() {
    let (mut least, mut largest) = (u64::MAX, 0);
    for seed in 0..20 {
        let mut lab = Lab::with_seed(json!({ "interval": 30 }), seed);
        let start = lab.now.as_millis();
        let sent = lab.run(600_000);
        assert!(sent[0].0 - start <= 3_000);
        let gaps = gaps(&sent);
        assert!(gaps[..2].iter().all(|gap| *gap <= 16_000), "{gaps:?}");
        for gap in &gaps[2..] {
            (least, largest) = (least.min(*gap), largest.max(*gap));
        }
    }
    assert!((10_000..13_000).contains(&least), "{least}");
    assert!((27_000..=30_000).contains(&largest), "{largest}");
    // Min is 0.75 Max where a third would be less than 3 s.
    let sent = Lab::new(json!({ "interval": 4 })).run(600_000);
    let in_bounds = |gap: &u64| (3_000..=4_000).contains(gap);
    assert!(gaps(&sent).iter().all(in_bounds), "{:?}", gaps(&sent));
}

#[test]
fn n21_lifetimes() {
    for (ra, expected) in [
        (json!({}), 1800),
        (json!({ "interval": 10 }), 30),
        (json!({ "lifetime": 0 }), 0),
        (json!({ "lifetime": 9000 }), 9000),
    ] {
        let (_, frame) = Lab::new(ra).run(3_000).remove(0);
        assert_eq!(lifetime(&frame), expected);
    }
}

#[test]
fn n21_at_its_end_the_gateway_says_farewell() {
    let mut lab = Lab::new(json!({ "routes": [{ "prefix": "2001:db8::/32" }] }));
    lab.run(60_000);
    lab.shard.stop(&lab.snapshot);
    let sent = lab.run(600_000);
    assert_eq!(sent.len(), 1);
    assert!(is_to_all(&sent[0].1));
    assert_eq!(lifetime(&sent[0].1), 0);
    assert_eq!(of_kind(&sent[0].1, ROUTE)[0][4..8], [0; 4]);
}

#[test]
fn n21_withdrawn_it_says_farewell_three_times() {
    let mut lab = Lab::new(json!({}));
    lab.run(60_000);
    lab.reload(Value::Null);
    let sent = lab.run(600_000);
    assert_eq!(sent.len(), 3);
    assert!(sent.iter().all(|(_, frame)| lifetime(frame) == 0));
    assert!(gaps(&sent).iter().all(|gap| *gap == 3_000));
    lab.reload(json!({}));
    let sent = lab.run(3_000);
    assert_eq!(sent.len(), 1);
    assert_eq!(lifetime(&sent[0].1), 1800, "and is back");
}

#[test]
fn n22_prefixes_flags_and_mtu() {
    let mut lab = Lab::new(json!({ "prefixes": [
        { "prefix": "2001:db8:1::/64" },
        { "prefix": "2001:db8:2::/64", "on_link": true, "preferred": 60, "valid": 120 },
        { "prefix": "2001:db8:3::/56", "on_link": true, "autonomous": false },
    ] }));
    let (_, frame) = lab.run(3_000).remove(0);
    let prefix = |text: &str, length: u8, flags: u8, valid: u32, preferred: u32| {
        let mut option = vec![3, 4, length, flags];
        option.extend(valid.to_be_bytes());
        option.extend(preferred.to_be_bytes());
        option.extend([0; 4]);
        option.extend(text.parse::<Ipv6Addr>().unwrap().octets());
        option
    };
    let expected = [
        prefix("2001:db8:1::", 64, 0x40, 2_592_000, 604_800),
        prefix("2001:db8:2::", 64, 0xc0, 120, 60),
        prefix("2001:db8:3::", 56, 0x80, 2_592_000, 604_800),
    ];
    assert_eq!(of_kind(&frame, PREFIX), expected);
    assert_eq!(of_kind(&frame, MTU), [vec![5, 1, 0, 0, 0, 0, 5, 0x78]]);
}

/// RFC 8106 §5.1, §5.2.
#[test]
fn n22_name_servers_and_domains() {
    let mut lab = Lab::new(json!({
        "interval": 100, "dns": ["2620:fe::fe", "2620:fe::9"], "domains": ["example.net", "a.b"],
    }));
    let (_, frame) = lab.run(3_000).remove(0);
    let rdnss = of_kind(&frame, RDNSS).remove(0);
    assert_eq!(rdnss[..8], [25, 5, 0, 0, 0, 0, 1, 0x2c]);
    let second: Ipv6Addr = "2620:fe::9".parse().unwrap();
    assert_eq!(rdnss[24..], second.octets());
    let dnssl = of_kind(&frame, DNSSL).remove(0);
    let names = b"\x07example\x03net\0\x01a\x01b\0\0\0\0\0\0\0";
    assert_eq!(dnssl, [&[31, 4, 0, 0, 0, 0, 1, 0x2c][..], names].concat());
}

#[test]
fn n23_routes_are_as_long_as_their_prefix() {
    let mut lab = Lab::new(json!({ "interval": 100, "routes": [
        { "prefix": "::/0", "preference": "low" },
        { "prefix": "2001:db8::/32", "preference": "high", "lifetime": 60 },
        { "prefix": "2001:db8:0:1::/64", "lifetime": 0 },
        { "prefix": "2001:db8::1/128" },
    ] }));
    let (_, frame) = lab.run(3_000).remove(0);
    let route = |head: [u8; 4], lifetime: u32, prefix: &[u8]| {
        [&head[..], &lifetime.to_be_bytes(), prefix].concat()
    };
    let db8 = [0x20, 1, 0x0d, 0xb8];
    let expected = [
        route([24, 1, 0, 0x18], 300, &[]),
        route([24, 2, 32, 0x08], 60, &[&db8[..], &[0; 4]].concat()),
        route([24, 2, 64, 0], 0, &[&db8[..], &[0, 0, 0, 1]].concat()),
        route([24, 3, 128, 0], 300, &[&db8[..], &[0; 11], &[1]].concat()),
    ];
    assert_eq!(of_kind(&frame, ROUTE), expected);
}

/// What a new configuration no longer has is taken back in the first advertisements under it.
#[test]
fn n23_what_is_no_longer_configured_is_withdrawn() {
    let mut lab = Lab::new(json!({
        "prefixes": [{ "prefix": "2001:db8:1::/64" }],
        "routes": [{ "prefix": "2001:db8::/32" }, { "prefix": "2001:db8:9::/48" }],
    }));
    lab.run(60_000);
    lab.reload(json!({ "routes": [{ "prefix": "2001:db8:9::/48" }] }));
    let sent = lab.run(60_000);
    for (_, frame) in &sent[..3] {
        let routes = of_kind(frame, ROUTE);
        assert_eq!(routes[0][4..8], 1800u32.to_be_bytes());
        assert_eq!((routes[1][2], &routes[1][4..8]), (32, &[0; 4][..]));
        let prefix = &of_kind(frame, PREFIX)[0];
        assert_eq!(prefix[4..12], [0; 8], "neither valid nor preferred");
    }
    let (_, frame) = lab.run(600_000).pop().unwrap();
    assert_eq!(options(&frame).len(), 3, "forgotten");
    lab.reload(json!({ "routes": [{ "prefix": "2001:db8:9::/48" }] }));
    assert!(lab.run(1_000).is_empty(), "nothing has changed");
}

#[test]
fn a_port_that_comes_back_is_advertised_to_anew() {
    let mut lab = Lab::new(json!({}));
    lab.run(60_000);
    let port = lab.snapshot.port_id("g").unwrap();
    lab.shard.port_attached(port, &lab.snapshot, lab.now);
    assert_eq!(lab.run(1_000).len(), 1);
}

proptest::proptest! {
    /// Nothing that comes in does harm.
    #[test]
    fn n20_random_solicitations(random in proptest::collection::vec(proptest::num::u8::ANY, 0..100)) {
        let mut lab = Lab::new(json!({}));
        let (from, to) = (HOST.parse().unwrap(), "ff02::2".parse().unwrap());
        let mut frame = build((from, to), &[&[SOLICITATION, 0, 0, 0][..], &random].concat());
        frame.bytes[0..6].copy_from_slice(&[0x33, 0x33, 0, 0, 0, 2]);
        frame.bytes[6..12].copy_from_slice(&HOST_MAC.0);
        let port = lab.snapshot.port_id("g").unwrap();
        let now = lab.now;
        crate::process(&mut frame.as_frame(), port, &lab.snapshot, &mut lab.shard, now);
    }
}
