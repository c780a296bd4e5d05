use super::*;

const CHADDR: [u8; 6] = [0x52, 0x54, 0, 0, 0, 1];
const GATEWAY: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 254);
const INSIDE: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 10);
const FAR: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 10);
const OTHER: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 11);

const DISCOVER: u8 = 1;
const OFFER: u8 = 2;
const REQUEST: u8 = 3;
const DECLINE: u8 = 4;
const ACK: u8 = 5;
const NAK: u8 = 6;
const RELEASE: u8 = 7;
const INFORM: u8 = 8;

/// A request under construction, byte by byte.
#[derive(Clone)]
struct Asked(Vec<u8>);

fn asked(kind: u8) -> Asked {
    let mut bytes = vec![0; FIXED];
    bytes[0..4].copy_from_slice(&[1, 1, 6, 3]);
    bytes[4..8].copy_from_slice(&[0xde, 0xad, 0xbe, 0xef]);
    bytes[8..10].copy_from_slice(&[0, 9]);
    bytes[28..34].copy_from_slice(&CHADDR);
    bytes[236..240].copy_from_slice(&MAGIC);
    Asked(bytes).option(53, &[kind])
}

impl Asked {
    fn option(mut self, code: u8, value: &[u8]) -> Self {
        self.0.extend([code, value.len() as u8]);
        self.0.extend(value);
        self
    }

    fn address(self, code: u8, address: Ipv4Addr) -> Self {
        self.option(code, &address.octets())
    }

    fn ciaddr(mut self, address: Ipv4Addr) -> Self {
        self.0[12..16].copy_from_slice(&address.octets());
        self
    }

    fn giaddr(mut self, address: Ipv4Addr) -> Self {
        self.0[24..28].copy_from_slice(&address.octets());
        self
    }

    fn broadcast(mut self) -> Self {
        self.0[10] = 0x80;
        self
    }

    fn answer(&self, lease: &Lease<'_>) -> Result<Outcome, DropReason> {
        sender(&self.0)?;
        answer(&self.0, lease)
    }
}

fn config() -> Dhcp {
    serde_json::from_str(
        r#"{ "dns": ["9.9.9.9", "149.112.112.112"], "ntp": ["192.0.2.123"],
             "domain": "example.net", "search": ["example.net", "lab.example"] }"#,
    )
    .unwrap()
}

fn lease(dhcp: &Dhcp, address: Ipv4Addr) -> Lease<'_> {
    Lease {
        address,
        gateway: "192.168.1.254/24".parse().unwrap(),
        mtu: 1400,
        hostname: "web",
        dhcp,
        metadata: false,
    }
}

/// A reply's options in the order of their codes; each is there once.
fn options(message: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut list = Vec::new();
    let mut rest = &message[FIXED..];
    while let [code, tail @ ..] = rest {
        match code {
            255 => {
                assert!(tail.iter().all(|byte| *byte == 0), "padding");
                return list;
            }
            0 => rest = tail,
            _ => {
                let length = usize::from(tail[0]);
                assert!(list.iter().all(|(seen, _)| seen != code), "{code} twice");
                list.push((*code, tail[1..=length].to_vec()));
                rest = &tail[1 + length..];
            }
        }
    }
    panic!("no end: {message:?}");
}

fn option(message: &[u8], code: u8) -> Option<Vec<u8>> {
    let found = options(message).into_iter().find(|(seen, _)| *seen == code);
    found.map(|(_, value)| value)
}

/// The reply and its kind.
#[track_caller]
fn replied(outcome: Result<Outcome, DropReason>) -> (u8, Reply) {
    let (kind, reply) = match outcome.unwrap() {
        Outcome::Offer(reply) => (OFFER, reply),
        Outcome::Ack(reply) => (ACK, reply),
        Outcome::Nak(reply) => (NAK, reply),
        other => panic!("{other:?}"),
    };
    assert_eq!(option(&reply.message, 53), Some(vec![kind]));
    (kind, reply)
}

/// RFC 2131 §4.3.1 table 3.
#[test]
fn d01_fields_of_an_offer_and_an_ack() {
    let dhcp = config();
    let lease = lease(&dhcp, INSIDE);
    let discover = asked(DISCOVER).option(55, &[1, 3, 6, 12, 15, 26, 42, 119, 121]);
    let request = discover.clone();
    let request = Asked([&request.0[..FIXED], &request.0[FIXED + 3..]].concat())
        .option(53, &[REQUEST])
        .address(54, GATEWAY)
        .address(50, INSIDE);
    for (asked, expected) in [(discover, OFFER), (request, ACK)] {
        let (kind, reply) = replied(asked.broadcast().answer(&lease));
        assert_eq!(kind, expected);
        let m = &reply.message;
        assert!(m.len() >= 300);
        assert_eq!(m[0..4], [2, 1, 6, 0], "op, htype, hlen, hops");
        assert_eq!(m[4..8], [0xde, 0xad, 0xbe, 0xef], "xid");
        assert_eq!(m[8..12], [0, 0, 0x80, 0], "secs, flags");
        assert_eq!(m[12..16], [0; 4], "ciaddr");
        assert_eq!(m[16..20], INSIDE.octets(), "yiaddr");
        assert_eq!(m[20..28], [0; 8], "siaddr, giaddr");
        assert_eq!(m[28..34], CHADDR);
        assert_eq!(m[34..236], [0; 202], "sname, file");
        assert_eq!(m[236..240], MAGIC);
        let expected = [
            (1, vec![255, 255, 255, 0]),
            (3, GATEWAY.octets().to_vec()),
            (6, vec![9, 9, 9, 9, 149, 112, 112, 112]),
            (12, b"web".to_vec()),
            (15, b"example.net".to_vec()),
            (26, 1400u16.to_be_bytes().to_vec()),
            (42, vec![192, 0, 2, 123]),
            (51, 3600u32.to_be_bytes().to_vec()),
            (53, vec![kind]),
            (54, GATEWAY.octets().to_vec()),
            (58, 1800u32.to_be_bytes().to_vec()),
            (59, 3150u32.to_be_bytes().to_vec()),
            (119, b"\x07example\x03net\0\x03lab\x07example\0".to_vec()),
            (121, [&[0][..], &GATEWAY.octets()].concat()),
        ];
        assert_eq!(options(m), expected);
    }
}

#[test]
fn d01_the_client_identifier_is_told_back_in_every_answer() {
    let dhcp = config();
    let lease = lease(&dhcp, INSIDE);
    let id = [0xff, 1, 2, 3, 4, 5, 6];
    for asked in [
        asked(DISCOVER),
        asked(REQUEST).ciaddr(INSIDE),
        asked(REQUEST).address(50, OTHER),
        asked(INFORM).ciaddr(INSIDE),
    ] {
        let (_, without) = replied(asked.answer(&lease));
        assert_eq!(option(&without.message, 61), None);
        let (_, with) = replied(asked.option(61, &id).answer(&lease));
        assert_eq!(option(&with.message, 61), Some(id.to_vec()));
        for never in [50, 55, 57] {
            assert_eq!(option(&with.message, never), None);
        }
    }
}

/// RFC 2131 §4.1.
#[test]
fn d02_where_answers_go() {
    let dhcp = config();
    let lease = lease(&dhcp, INSIDE);
    let relay = Ipv4Addr::new(192, 168, 1, 77);
    let to = |asked: Asked| {
        let (_, reply) = replied(asked.answer(&lease));
        (reply.to, reply.port)
    };
    assert_eq!(to(asked(DISCOVER)), (INSIDE, 68), "to yiaddr");
    let everybody = (Ipv4Addr::BROADCAST, 68);
    assert_eq!(to(asked(DISCOVER).broadcast()), everybody);
    assert_eq!(to(asked(DISCOVER).broadcast().giaddr(relay)), (relay, 67));
    let renewing = asked(REQUEST).ciaddr(INSIDE);
    assert_eq!(to(renewing.clone()), (INSIDE, 68), "to ciaddr");
    assert_eq!(to(renewing.broadcast()), (INSIDE, 68), "even so");
    let refused = asked(REQUEST).address(50, OTHER);
    assert_eq!(to(refused.clone()), everybody);
    assert_eq!(to(refused.giaddr(relay)), (relay, 67));
}

/// RFC 2131 §4.3.2, as a table: the client's state, what it sends, what it gets.
#[test]
fn d03_requests_in_every_state() {
    let dhcp = config();
    let lease = lease(&dhcp, INSIDE);
    let kind = |asked: Asked| asked.answer(&lease).map(|outcome| replied(Ok(outcome)).0);
    let selecting = |server, address| asked(REQUEST).address(54, server).address(50, address);
    assert_eq!(kind(selecting(GATEWAY, INSIDE)), Ok(ACK));
    assert_eq!(kind(selecting(GATEWAY, OTHER)), Ok(NAK));
    let another = kind(selecting(OTHER, INSIDE));
    assert_eq!(another, Err(DropReason::DhcpIgnored), "another server");
    assert_eq!(kind(asked(REQUEST).address(50, INSIDE)), Ok(ACK), "reboot");
    assert_eq!(kind(asked(REQUEST).address(50, FAR)), Ok(NAK), "moved");
    assert_eq!(kind(asked(REQUEST).ciaddr(INSIDE)), Ok(ACK), "renewing");
    assert_eq!(kind(asked(REQUEST).ciaddr(OTHER)), Ok(NAK), "moved");
    let nothing = kind(asked(REQUEST));
    assert_eq!(nothing, Err(DropReason::DhcpMalformed), "asks for nothing");
    for foreign in [OFFER, ACK, NAK, 9, 0] {
        assert_eq!(kind(asked(foreign)), Err(DropReason::DhcpIgnored));
    }
}

#[test]
fn d03_a_nak_has_no_address_and_no_lease() {
    let dhcp = config();
    let (_, nak) = replied(
        asked(REQUEST)
            .ciaddr(OTHER)
            .option(55, &[1, 3, 6])
            .answer(&lease(&dhcp, INSIDE)),
    );
    assert_eq!(nak.message[12..28], [0; 16]);
    let codes: Vec<u8> = options(&nak.message)
        .iter()
        .map(|(code, _)| *code)
        .collect();
    assert_eq!(codes, [53, 54, 56]);
    let relayed = asked(REQUEST).ciaddr(OTHER).giaddr(FAR);
    let (_, nak) = replied(relayed.answer(&lease(&dhcp, INSIDE)));
    assert_eq!(nak.message[10], 0x80, "the relay is to broadcast it");
}

#[test]
fn d04_inform_decline_and_release() {
    let dhcp = config();
    let lease = lease(&dhcp, INSIDE);
    let inform = asked(INFORM).ciaddr(OTHER).option(55, &[6]);
    let (kind, ack) = replied(inform.answer(&lease));
    assert_eq!((kind, ack.to), (ACK, OTHER));
    assert_eq!(ack.message[12..16], OTHER.octets());
    assert_eq!(ack.message[16..20], [0; 4], "no yiaddr");
    for never in [51, 58, 59] {
        assert_eq!(option(&ack.message, never), None);
    }
    assert!(option(&ack.message, 6).is_some());
    assert_eq!(asked(INFORM).answer(&lease), Err(DropReason::DhcpMalformed));

    let decline = |address| asked(DECLINE).address(54, GATEWAY).address(50, address);
    assert_eq!(decline(INSIDE).answer(&lease), Ok(Outcome::Declined));
    let not_its_own = decline(OTHER).answer(&lease);
    assert_eq!(not_its_own, Err(DropReason::DhcpIgnored));
    let release = |address| asked(RELEASE).address(54, GATEWAY).ciaddr(address);
    assert_eq!(release(INSIDE).answer(&lease), Ok(Outcome::Released));
    let not_its_own = release(OTHER).answer(&lease);
    assert_eq!(not_its_own, Err(DropReason::DhcpIgnored));
}

#[test]
fn d04_a_lease_for_ever_is_never_renewed() {
    let dhcp = Dhcp {
        lease_seconds: u32::MAX,
        ..Dhcp::default()
    };
    let (_, offer) = replied(asked(DISCOVER).answer(&lease(&dhcp, INSIDE)));
    for time in [51, 58, 59] {
        assert_eq!(option(&offer.message, time), Some(vec![255; 4]));
    }
}

/// A guest that reads option 121 finds metadata by it, and its default route all the same.
#[test]
fn option_121_leads_to_metadata_where_there_is_any() {
    let dhcp = config();
    let lease = Lease {
        metadata: true,
        ..lease(&dhcp, INSIDE)
    };
    let Ok(Outcome::Offer(offer)) = asked(DISCOVER).answer(&lease) else {
        panic!("no offer");
    };
    let gateway = GATEWAY.octets();
    let routes = [&[32, 169, 254, 169, 254][..], &gateway, &[0], &gateway].concat();
    assert_eq!(option(&offer.message, 121), Some(routes));
}

/// RFC 3442: both options, whatever is asked for, and 121 holds the default route.
#[test]
fn d05_options_3_and_121_are_both_sent_asked_for_or_not() {
    let dhcp = config();
    for asked in [
        asked(DISCOVER),
        asked(DISCOVER).option(55, &[1, 3, 6]),
        asked(DISCOVER).option(55, &[121, 1, 3]),
    ] {
        let (_, offer) = replied(asked.answer(&lease(&dhcp, INSIDE)));
        assert_eq!(option(&offer.message, 3), Some(GATEWAY.octets().to_vec()));
        assert_eq!(
            option(&offer.message, 121),
            Some(vec![0, 192, 168, 1, 254]),
            "0/0 -> the gateway"
        );
    }
}

#[test]
fn d05_other_options_only_if_asked_for() {
    let dhcp = config();
    let lease = lease(&dhcp, INSIDE);
    let (_, offer) = replied(asked(DISCOVER).option(55, &[6, 26]).answer(&lease));
    for (code, there) in [(6, true), (26, true), (12, false), (15, false), (42, false)] {
        assert_eq!(option(&offer.message, code).is_some(), there, "{code}");
    }
    let nothing = Dhcp::default();
    let (_, offer) = replied(asked(DISCOVER).answer(&super::tests::lease(&nothing, INSIDE)));
    for code in [6, 15, 42, 119] {
        assert_eq!(option(&offer.message, code), None, "nothing to say");
    }
}

/// A message is never longer than the client takes: 576 bytes with headers unless it says more.
#[test]
fn a_long_answer_is_cut_to_what_the_client_takes() {
    let dhcp: Dhcp = serde_json::from_str(
        r#"{ "dns": ["9.9.9.9"], "search": ["one.a-long-name.example.net",
             "two.a-long-name.example.net", "three.a-long-name.example.net"] }"#,
    )
    .unwrap();
    let lease = lease(&dhcp, INSIDE);
    let discover = asked(DISCOVER).option(61, &[7; 200]);
    let (_, offer) = replied(discover.answer(&lease));
    assert!(offer.message.len() <= 548);
    assert_eq!(option(&offer.message, 119), None, "the least important");
    assert!(option(&offer.message, 6).is_some());
    let (_, offer) = replied(discover.option(57, &1000u16.to_be_bytes()).answer(&lease));
    assert!(option(&offer.message, 119).is_some());
}

#[test]
fn options_nobody_reads_do_no_harm() {
    let dhcp = config();
    let strange = asked(DISCOVER)
        .option(12, &[0xff, 0xfe]) // no UTF-8
        .option(81, &[]) // too short
        .option(151, &[])
        .option(121, &[33, 1]);
    let (kind, _) = replied(strange.answer(&lease(&dhcp, INSIDE)));
    assert_eq!(kind, OFFER);
}

#[test]
fn what_makes_no_sense_is_malformed() {
    let dhcp = config();
    let lease = lease(&dhcp, INSIDE);
    let malformed = |spoil: &dyn Fn(&mut Vec<u8>)| {
        let mut asked = asked(DISCOVER);
        spoil(&mut asked.0);
        assert_eq!(asked.answer(&lease), Err(DropReason::DhcpMalformed));
    };
    malformed(&|bytes| bytes[0] = 2);
    malformed(&|bytes| bytes[1] = 6);
    malformed(&|bytes| bytes[2] = 16);
    malformed(&|bytes| bytes[2] = 255);
    malformed(&|bytes| bytes[236] = 0);
    malformed(&|bytes| bytes.truncate(239));
    malformed(&|bytes| bytes.truncate(240));
    malformed(&|bytes| bytes.truncate(242));
    malformed(&|bytes| bytes.extend([53, 1, 3]));
    malformed(&|bytes| bytes.extend([54, 3, 1, 2, 3]));
    malformed(&|bytes| bytes.extend([61, 9, 1]));
    malformed(&|bytes| bytes.extend([55]));
}
