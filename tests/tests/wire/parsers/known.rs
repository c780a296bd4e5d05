//! The known differences: who reads what otherwise than the engine, and why that is well.

use super::{Field, Ip, Reading, Who};
use tapgate_tests::packet::untag;

const ALL: &[Who] = &[Who::Etherparse, Who::Smoltcp, Who::Pnet];

/// A known difference.
pub(crate) struct Known {
    /// A word for it.
    name: &'static str,
    /// Who reads otherwise.
    who: &'static [Who],
    /// What is read otherwise.
    fields: &'static [Field],
    /// Whether this may be the cause.
    applies: fn(&Case) -> bool,
}

/// A frame on which somebody differs from the engine.
pub(crate) struct Case<'a> {
    who: Who,
    /// Without its tag.
    bytes: Vec<u8>,
    ours: &'a Reading,
    theirs: &'a Reading,
}

impl<'a> Case<'a> {
    pub(crate) fn new(who: Who, bytes: &[u8], ours: &'a Reading, theirs: &'a Reading) -> Self {
        let bytes = untag(bytes).0;
        Self {
            who,
            bytes,
            ours,
            theirs,
        }
    }

    fn refused(&self) -> bool {
        *self.ours == Reading::Refused
    }

    fn accepted(&self) -> Option<&Ip> {
        match self.ours {
            Reading::Ip(ip) => Some(ip),
            _ => None,
        }
    }

    fn protocol(&self) -> Option<u8> {
        self.accepted().map(|ip| ip.protocol)
    }

    fn is(&self, ethertype: [u8; 2]) -> bool {
        self.bytes.get(12..14) == Some(&ethertype)
    }

    fn v4(&self) -> bool {
        self.is([0x08, 0x00]) && self.bytes.len() >= 34
    }

    fn v6(&self) -> bool {
        self.is([0x86, 0xdd]) && self.bytes.len() >= 54
    }

    fn word(&self, at: usize) -> usize {
        usize::from(self.bytes[at]) << 8 | usize::from(self.bytes[at + 1])
    }

    /// The IPv4 header's length.
    fn header(&self) -> usize {
        usize::from(self.bytes[14] & 0xf) * 4
    }

    /// The transport's bytes.
    fn transport(&self, ip: &Ip) -> Vec<u8> {
        self.bytes[ip.l4..ip.end].to_vec()
    }

    /// Headers of an IPv6 packet, each with where it is, as far as they are there: every reader's
    /// way, by RFC 8200 §4 alone.
    fn chain(&self) -> Vec<(u8, usize)> {
        let (mut next, mut at) = (self.bytes[20], 54);
        let mut chain = vec![(next, at)];
        while matches!(next, 0 | 43 | 44 | 60) && at + 8 <= self.bytes.len() {
            let units = match next {
                44 => 0,
                _ => usize::from(self.bytes[at + 1]),
            };
            (next, at) = (self.bytes[at], at + (units + 1) * 8);
            chain.push((next, at));
        }
        chain
    }
}

/// The name of the known difference that `field` of this case is.
pub(crate) fn name(case: &Case, field: Field) -> Option<&'static str> {
    let mut known = KNOWN.iter().filter(|known| {
        known.who.contains(&case.who) && known.fields.contains(&field) && (known.applies)(case)
    });
    known.next().map(|known| known.name)
}

/// Every known difference, with everybody who has it.
pub(crate) fn all() -> impl Iterator<Item = (&'static str, Who)> {
    let pairs = |known: &'static Known| known.who.iter().map(|who| (known.name, *who));
    KNOWN.iter().flat_map(pairs)
}

const KNOWN: &[Known] = &[
    // RFC 791 §3.1 says the flag must be zero, not that others drop the packet. etherparse does not
    // keep it, so that its sum over the header lacks it.
    Known {
        name: "reserved flag",
        who: &[Who::Etherparse],
        fields: &[Field::Accepted],
        applies: |case| case.v4() && case.bytes[20] & 0x80 != 0,
    },
    // RFC 1624 §3: 0 and 0xffff are the same number in one's complement, and RFC 1071 §1 verifies by
    // summing all of the header. The two compare the field with the sum they make.
    Known {
        name: "negative zero",
        who: &[Who::Etherparse, Who::Pnet],
        fields: &[Field::Accepted],
        applies: |case| case.v4() && case.bytes[24..26] == [0xff, 0xff],
    },
    // RFC 7126 §4.3, §4.4: source routes are refused. That is the router's policy, not syntax.
    Known {
        name: "source route",
        who: ALL,
        fields: &[Field::Accepted],
        applies: |case| {
            let options = |case: &Case| case.bytes.get(34..14 + case.header()).map(<[u8]>::to_vec);
            case.refused()
                && case.v4()
                && options(case)
                    .is_some_and(|options| options.iter().any(|byte| matches!(byte, 131 | 137)))
        },
    },
    // RFC 8504 §5.3 lets a node refuse long chains of extension headers; the engine stops at eight.
    Known {
        name: "too many extension headers",
        who: ALL,
        fields: &[Field::Accepted],
        applies: |case| case.refused() && case.v6() && case.chain().len() > 8,
    },
    // RFC 8200 §4.1: hop-by-hop options come first. smoltcp and pnet leave that to their callers.
    Known {
        name: "late hop-by-hop options",
        who: &[Who::Smoltcp, Who::Pnet],
        fields: &[Field::Accepted],
        applies: |case| {
            case.refused() && case.v6() && case.chain().iter().skip(1).any(|(next, _)| *next == 0)
        },
    },
    // RFC 8200 §4.5: behind the header of a fragment is a part of something, so the engine stops at
    // it. The others go on behind it, etherparse even through what may be no header at all.
    Known {
        name: "a fragment's header is the last",
        who: ALL,
        fields: &[Field::Protocol, Field::TransportHeader],
        applies: |case| match (case.ours, case.theirs) {
            (Reading::Ip(ours), Reading::Ip(theirs)) if ours.protocol == 44 => {
                let behind = (case.bytes[ours.l4], ours.l4 + 8);
                case.v6()
                    && (behind == (theirs.protocol, theirs.l4)
                        || case.who == Who::Etherparse && theirs.l4 > behind.1)
            }
            _ => false,
        },
    },
    Known {
        name: "headers behind a fragment's",
        who: &[Who::Etherparse],
        fields: &[Field::Accepted],
        applies: |case| case.v6() && case.protocol() == Some(44),
    },
    // RFC 8200 §4.5: the offset is 13 bits and two reserved ones follow. pnet masks two bits off, so
    // that the higher reserved one counts as an offset.
    Known {
        name: "pnet's fragment offset",
        who: &[Who::Pnet],
        fields: &[
            Field::Accepted,
            Field::Protocol,
            Field::Fragment,
            Field::LaterFragment,
            Field::Transport,
            Field::TransportHeader,
        ],
        applies: |case| {
            case.v6()
                && case.chain().iter().any(|(next, at)| {
                    *next == 44 && case.bytes.get(at + 3).is_some_and(|byte| byte & 4 != 0)
                })
        },
    },
    // RFC 8200 §4.5: the fragment header's second byte is reserved and to be ignored. smoltcp's
    // extension header takes it for a length, as it is in all others.
    Known {
        name: "a reserved byte as a length",
        who: &[Who::Smoltcp],
        fields: &[Field::Accepted],
        applies: |case| {
            case.v6()
                && case.chain().iter().any(|(next, at)| {
                    *next == 44 && case.bytes.get(at + 1).is_some_and(|byte| *byte != 0)
                })
        },
    },
    // RFC 2675 §3: a payload length of zero may be a jumbogram's, and etherparse takes the rest of
    // the frame for it. No link here carries one, and the rest is padding.
    Known {
        name: "payload length zero",
        who: &[Who::Etherparse],
        fields: &[
            Field::Accepted,
            Field::Protocol,
            Field::Fragment,
            Field::LaterFragment,
            Field::Transport,
            Field::TransportHeader,
            Field::End,
        ],
        applies: |case| case.v6() && case.word(18) == 0 && case.bytes.len() > 54,
    },
    // RFC 4302 §2: etherparse reads behind the authentication header. The engine does not: it is a
    // protocol whose packets a router must leave as they are.
    Known {
        name: "authentication header",
        who: &[Who::Etherparse],
        fields: &[
            Field::Accepted,
            Field::Protocol,
            Field::Transport,
            Field::TransportHeader,
        ],
        applies: |case| case.protocol() == Some(51),
    },
    // RFC 768: the length is the receiver's to check. The engine forwards by the IP header's.
    Known {
        name: "UDP length",
        who: &[Who::Etherparse, Who::Smoltcp],
        fields: &[Field::Accepted],
        applies: |case| {
            case.accepted().is_some_and(|ip| {
                let udp = case.transport(ip);
                let length = |udp: &[u8]| usize::from(udp[4]) << 8 | usize::from(udp[5]);
                ip.protocol == 17 && udp.len() >= 8 && !(8..=udp.len()).contains(&length(&udp))
            })
        },
    },
    // RFC 792: a time stamp has 20 bytes, which is the receiver's to check.
    Known {
        name: "time stamp's length",
        who: &[Who::Etherparse],
        fields: &[Field::Accepted],
        applies: |case| {
            case.accepted().is_some_and(|ip| {
                let icmp = case.transport(ip);
                ip.protocol == 1 && matches!(icmp[..], [13 | 14, 0, ..]) && icmp.len() != 20
            })
        },
    },
    // RFC 4443 §2.4 (b): unknown informational messages are the receiver's to discard, and a
    // router's to forward. smoltcp refuses them, and known ones that lack a part.
    Known {
        name: "ICMPv6 of other types, or incomplete",
        who: &[Who::Smoltcp],
        fields: &[Field::Accepted],
        applies: |case| case.v6() && case.protocol() == Some(58),
    },
    // RFC 3376 §4 and ICMP of the other family: etherparse reads them, and refuses short ones. They
    // are protocols like any other to the engine.
    Known {
        name: "protocols that only etherparse reads",
        who: &[Who::Etherparse],
        fields: &[Field::Accepted],
        applies: |case| match case.protocol() {
            Some(2) => true,
            Some(1) => case.v6(),
            Some(58) => case.v4(),
            _ => false,
        },
    },
    // RFC 1812 §5.2.2, RFC 8200 §3: pnet cuts a payload to what is there and takes a header for as
    // long as it says, at least 20 bytes.
    Known {
        name: "pnet takes lengths for granted",
        who: &[Who::Pnet],
        fields: &[Field::Accepted],
        applies: |case| {
            let lengths4 = |case: &Case| {
                let (header, total) = (case.header(), case.word(16));
                header < 20 || total < header || total > case.bytes.len() - 14
            };
            case.refused()
                && (case.v4() && lengths4(case)
                    || case.v6() && 40 + case.word(18) > case.bytes.len() - 14)
        },
    },
    // RFC 9293 §3.1: a data offset below five, or behind the end.
    Known {
        name: "pnet does not look at TCP's data offset",
        who: &[Who::Pnet],
        fields: &[Field::Accepted],
        applies: |case| {
            case.refused()
                && (case.v4() && case.bytes[23] == 6
                    || case.v6() && case.chain().last().is_some_and(|(next, _)| *next == 6))
        },
    },
    // RFC 792, RFC 4443 §2.1: every message has a second word. pnet asks for the first only.
    Known {
        name: "ICMP of less than eight bytes",
        who: &[Who::Pnet],
        fields: &[Field::Accepted],
        applies: |case| {
            case.refused()
                && (case.v4() && case.bytes[23] == 1
                    || case.v6() && case.chain().last().is_some_and(|(next, _)| *next == 58))
        },
    },
    // RFC 826: a router asks and answers; others of the registry's operations are refused.
    Known {
        name: "ARP operations but request and reply",
        who: ALL,
        fields: &[Field::Accepted],
        applies: |case| {
            case.is([0x08, 0x06])
                && case.refused()
                && case.bytes.len() >= 42
                && !matches!(case.word(20), 1 | 2)
        },
    },
];
