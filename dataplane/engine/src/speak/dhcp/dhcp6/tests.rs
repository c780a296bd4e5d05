use super::*;

const ADDRESS: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x12, 0x3401, 0, 0, 0, 0x10);
const OTHER: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x12, 0x3401, 0, 0, 0, 0x11);
const SERVER_MAC: MacAddr = MacAddr([2, 0, 0, 0, 1, 0xfe]);
const SERVER_DUID: [u8; 10] = [0, 3, 0, 1, 2, 0, 0, 0, 1, 0xfe];
const CLIENT_DUID: [u8; 10] = [0, 3, 0, 1, 0x52, 0x54, 0, 0, 0, 1];

const SOLICIT: u8 = 1;
const ADVERTISE: u8 = 2;
const REQUEST: u8 = 3;
const CONFIRM: u8 = 4;
const RENEW: u8 = 5;
const REBIND: u8 = 6;
const REPLY: u8 = 7;
const RELEASE: u8 = 8;
const DECLINE: u8 = 9;
const INFORMATION: u8 = 11;

/// Options as code and body.
type Options = Vec<(u16, Vec<u8>)>;

#[derive(Clone)]
struct Asked(Vec<u8>);

/// A message from a client that says who it is.
fn asked(kind: u8) -> Asked {
    Asked(vec![kind, 0xa, 0xb, 0xc]).option(CLIENT_ID, &CLIENT_DUID)
}

impl Asked {
    fn option(mut self, code: u16, body: &[u8]) -> Self {
        push(&mut self.0, code, body);
        self
    }

    fn server(self) -> Self {
        self.option(SERVER_ID, &SERVER_DUID)
    }

    /// With an association that holds these addresses.
    fn association(self, id: u32, addresses: &[Ipv6Addr]) -> Self {
        let mut body = id.to_be_bytes().to_vec();
        body.extend([0; 8]);
        for address in addresses {
            push(
                &mut body,
                IA_ADDR,
                &[&address.octets()[..], &[0; 8]].concat(),
            );
        }
        self.option(IA_NA, &body)
    }

    fn answer(&self, address: Option<Ipv6Addr>) -> Result<(u8, Options), DropReason> {
        let dhcp6: Dhcp6 = serde_json::from_str(
            r#"{ "dns": ["2620:fe::fe"], "ntp": ["2001:db8::123"], "search": ["example.net"] }"#,
        )
        .unwrap();
        let lease = Lease {
            address,
            server: SERVER_MAC,
            dhcp6: &dhcp6,
        };
        let message = answer(&self.0, &lease)?;
        assert_eq!(message[1..4], self.0[1..4], "the transaction");
        let options = list(&message[4..]);
        assert!(options.contains(&(SERVER_ID, SERVER_DUID.to_vec())));
        Ok((message[0], options))
    }
}

fn list(bytes: &[u8]) -> Options {
    options(bytes)
        .map(|option| option.map(|(code, body)| (code, body.to_vec())).unwrap())
        .collect()
}

fn find(options: &Options, code: u16) -> Option<Vec<u8>> {
    let found = options.iter().find(|(seen, _)| *seen == code);
    found.map(|(_, body)| body.clone())
}

/// An association's id, T1, T2 and options.
fn associations(options: &Options) -> Vec<(u32, u32, u32, Options)> {
    let word = |body: &[u8], at: usize| u32::from_be_bytes(*body[at..].first_chunk().unwrap());
    let bodies = options.iter().filter(|(code, _)| *code == IA_NA);
    bodies
        .map(|(_, body)| {
            (
                word(body, 0),
                word(body, 4),
                word(body, 8),
                list(&body[12..]),
            )
        })
        .collect()
}

fn lent(address: Ipv6Addr, time: u32) -> (u16, Vec<u8>) {
    let time = time.to_be_bytes();
    (IA_ADDR, [&address.octets()[..], &time, &time].concat())
}

fn status_is(code: u16) -> (u16, Vec<u8>) {
    (13, code.to_be_bytes().to_vec())
}

#[test]
fn a_guest_is_handed_its_own_address() {
    let solicit = asked(SOLICIT).association(7, &[]);
    let request = asked(REQUEST).server().association(7, &[ADDRESS]);
    let renew = asked(RENEW).server().association(7, &[ADDRESS]);
    let rebind = asked(REBIND).association(7, &[ADDRESS]);
    for (asked, kind) in [
        (solicit.clone(), ADVERTISE),
        (solicit.option(RAPID_COMMIT, &[]), REPLY),
        (request, REPLY),
        (renew, REPLY),
        (rebind, REPLY),
    ] {
        let (answered, options) = asked.answer(Some(ADDRESS)).unwrap();
        assert_eq!(answered, kind);
        assert_eq!(find(&options, CLIENT_ID), Some(CLIENT_DUID.to_vec()));
        let granted = vec![lent(ADDRESS, 3600)];
        assert_eq!(associations(&options), [(7, 1800, 2880, granted)]);
        let rapid = asked.0[0] == SOLICIT && kind == REPLY;
        assert_eq!(find(&options, RAPID_COMMIT).is_some(), rapid);
    }
}

#[test]
fn another_address_is_given_no_more_time() {
    let renew = asked(RENEW).server().association(7, &[OTHER]);
    let (_, options) = renew.answer(Some(ADDRESS)).unwrap();
    let answered = vec![lent(ADDRESS, 3600), lent(OTHER, 0)];
    assert_eq!(associations(&options)[0].3, answered);
}

#[test]
fn without_an_address_a_guest_is_told_the_rest() {
    let solicit = asked(SOLICIT).association(7, &[]);
    let (kind, options) = solicit.answer(None).unwrap();
    assert_eq!(kind, ADVERTISE);
    assert_eq!(associations(&options), [(7, 0, 0, vec![status_is(2)])]);
    assert!(find(&options, 23).is_some());
    let renew = asked(RENEW).server().association(7, &[OTHER]);
    let (_, options) = renew.answer(None).unwrap();
    let answered = vec![lent(OTHER, 0), status_is(3)];
    assert_eq!(associations(&options)[0].3, answered, "no binding");
}

#[test]
fn the_second_association_gets_no_address() {
    let twice = asked(SOLICIT).association(1, &[]).association(2, &[]);
    let (_, options) = twice.answer(Some(ADDRESS)).unwrap();
    let answered = associations(&options);
    assert_eq!(answered[0].3, [lent(ADDRESS, 3600)]);
    assert_eq!(answered[1].3, [status_is(2)]);
}

#[test]
fn a_guest_that_remembers_is_told_whether_it_is_right() {
    let confirm = |address| asked(CONFIRM).association(7, &[address]);
    let (_, options) = confirm(ADDRESS).answer(Some(ADDRESS)).unwrap();
    assert!(options.contains(&status_is(0)));
    let (_, options) = confirm(OTHER).answer(Some(ADDRESS)).unwrap();
    assert!(options.contains(&status_is(4)), "not on link");
    let nothing = asked(CONFIRM).association(7, &[]).answer(Some(ADDRESS));
    assert_eq!(nothing, Err(DropReason::DhcpIgnored));
}

#[test]
fn release_and_decline_are_acknowledged() {
    for kind in [RELEASE, DECLINE] {
        let asked = asked(kind).server().association(7, &[ADDRESS]);
        let (answered, options) = asked.answer(Some(ADDRESS)).unwrap();
        assert_eq!(answered, REPLY);
        assert!(options.contains(&status_is(0)));
        assert!(associations(&options).is_empty());
    }
}

/// RFC 8415 §18.3.6, RFC 3646, RFC 5908.
#[test]
fn information_is_for_everybody() {
    let wanted: Vec<u8> = [23u16, 24, 56, 32]
        .iter()
        .flat_map(|c| c.to_be_bytes())
        .collect();
    let ask = Asked(vec![INFORMATION, 0, 0, 1]).option(REQUESTED, &wanted);
    let (kind, options) = ask.answer(None).unwrap();
    assert_eq!(kind, REPLY);
    assert_eq!(find(&options, CLIENT_ID), None);
    let dns: Ipv6Addr = "2620:fe::fe".parse().unwrap();
    assert_eq!(find(&options, 23), Some(dns.octets().to_vec()));
    assert_eq!(find(&options, 24), Some(b"\x07example\x03net\0".to_vec()));
    let ntp: Ipv6Addr = "2001:db8::123".parse().unwrap();
    let ntp = [&[0, 1, 0, 16][..], &ntp.octets()].concat();
    assert_eq!(find(&options, 56), Some(ntp));
    assert!(find(&options, 32).is_some(), "when to ask again");
    let (_, options) = asked(INFORMATION)
        .option(REQUESTED, &[0, 23])
        .answer(None)
        .unwrap();
    assert!(find(&options, 23).is_some() && find(&options, 24).is_none());
}

/// RFC 8415 §16.
#[test]
fn messages_that_lack_or_have_what_they_must_or_must_not() {
    let ignored = |asked: Asked| {
        let answered = asked.answer(Some(ADDRESS));
        assert_eq!(answered, Err(DropReason::DhcpIgnored));
    };
    let nobody = |kind| Asked(vec![kind, 0, 0, 1]);
    for kind in [SOLICIT, REQUEST, CONFIRM, RENEW, REBIND, RELEASE, DECLINE] {
        ignored(nobody(kind).association(7, &[ADDRESS]));
    }
    for kind in [SOLICIT, CONFIRM, REBIND] {
        ignored(asked(kind).server().association(7, &[ADDRESS]));
    }
    let another = [0, 3, 0, 1, 2, 0, 0, 0, 9, 9];
    for kind in [REQUEST, RENEW, RELEASE, DECLINE] {
        ignored(asked(kind).association(7, &[ADDRESS]));
        let elsewhere = asked(kind).option(SERVER_ID, &another);
        ignored(elsewhere.association(7, &[ADDRESS]));
    }
    ignored(asked(INFORMATION).option(SERVER_ID, &another));
    ignored(asked(INFORMATION).association(7, &[]));
    ignored(asked(INFORMATION).option(IA_PD, &[0; 12]));
    for kind in [ADVERTISE, REPLY, 10, 12, 13, 0, 255] {
        ignored(asked(kind));
    }
}

#[test]
fn options_nobody_reads_do_no_harm() {
    // The decoder takes lengths for granted in each of these.
    let mut strange = asked(SOLICIT).association(7, &[]);
    for code in [7u16, 8, 11, 13, 16, 17, 19, 23, 26, 32, 56, 61] {
        strange = strange.option(code, &[]);
    }
    let (kind, _) = strange.answer(Some(ADDRESS)).unwrap();
    assert_eq!(kind, ADVERTISE);
    let mut nested = vec![0; 12];
    for _ in 0..100 {
        let inner = std::mem::replace(&mut nested, vec![0; 12]);
        push(&mut nested, IA_NA, &inner);
    }
    let deep = asked(SOLICIT).option(IA_NA, &nested);
    assert!(deep.answer(Some(ADDRESS)).is_ok());
}

#[test]
fn what_makes_no_sense_is_malformed() {
    let malformed = |asked: Asked| {
        let answered = asked.answer(Some(ADDRESS));
        assert_eq!(answered, Err(DropReason::DhcpMalformed));
    };
    malformed(Asked(vec![SOLICIT, 0, 0]));
    malformed(Asked([&asked(SOLICIT).0[..], &[0]].concat()));
    malformed(Asked([&asked(SOLICIT).0[..], &[0, 3, 0, 9, 1]].concat()));
    malformed(asked(SOLICIT).option(CLIENT_ID, &CLIENT_DUID));
    malformed(asked(SOLICIT).option(IA_NA, &[0; 11]));
    malformed(asked(SOLICIT).option(REQUESTED, &[0]));
    malformed(asked(SOLICIT).option(SERVER_ID, &[0; 131]));
}

proptest::proptest! {
    /// Nothing that comes in does harm, and what is answered is a message.
    #[test]
    fn random_and_cut_requests(
        random in proptest::collection::vec(proptest::num::u8::ANY, 0..300),
        kind in 0u8..16,
        codes in proptest::collection::vec(0u8..64, 0..8),
        cut in 0usize..300,
    ) {
        let mut whole = asked(kind).association(1, &[ADDRESS]);
        for (code, body) in codes.iter().zip(random.chunks(17)) {
            whole = whole.option(u16::from(*code), body);
        }
        let cut = Asked(whole.0[..cut.min(whole.0.len())].to_vec());
        for asked in [Asked(random), whole, cut] {
            let _ = asked.answer(Some(ADDRESS));
        }
    }
}
