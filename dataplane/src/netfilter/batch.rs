//! Changes to a table. Attributes have the numbers of linux/netfilter/nf_tables.h.

use netlink_packet_core::{NLA_F_NESTED, NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, NLM_F_REQUEST};

use super::message::{Attributes, CHAIN_NAME, Message};

/// NFT_TABLE_F_OWNER.
pub const OWNED: u32 = 2;
/// NFT_TABLE_F_PERSIST (Linux 6.9): the table stays when its owner has gone, and is everybody's.
pub const STAYS: u32 = 4;
/// NFT_FIB_RESULT_ADDRTYPE and NFTA_FIB_F_DADDR.
const FIB_ADDRESS_TYPE: u32 = 3;
const FIB_DESTINATION: u32 = 2;
/// Elements of a set in one message: an attribute is at most 64 KiB long.
const ELEMENTS: usize = 500;

/// Changes that happen all at once.
#[derive(Debug)]
pub struct Batch {
    bytes: Vec<u8>,
    table: String,
    sets: u32,
}

/// A header that a packet is looked at from.
#[derive(Debug, Clone, Copy)]
#[repr(u32)]
pub enum Header {
    /// Ethernet, with the 802.1Q tag in its place.
    Link = libc::NFT_PAYLOAD_LL_HEADER as u32,
    /// IPv4 or IPv6.
    Network = libc::NFT_PAYLOAD_NETWORK_HEADER as u32,
    /// TCP or UDP; fragments but the first have none.
    Transport = libc::NFT_PAYLOAD_TRANSPORT_HEADER as u32,
}

/// What a packet must be like.
#[derive(Debug)]
pub enum Match<'a> {
    /// The bytes at this offset are `value`, as far as `mask` goes.
    Bytes {
        header: Header,
        offset: u32,
        value: &'a [u8],
        mask: Option<&'a [u8]>,
    },
    /// The `length` bytes at this offset, as a big-endian number, lie in one of these intervals,
    /// which are in order and do not touch; first and last.
    In {
        header: Header,
        offset: u32,
        length: usize,
        intervals: &'a [(u128, u128)],
    },
    /// The network protocol is this one (an EtherType).
    Network([u8; 2]),
    /// The transport protocol is this one.
    Transport(u8),
    /// It is for none of the host's own addresses.
    NotForHost,
    /// It has an 802.1Q tag with a VLAN other than 0.
    InVlan,
    /// It came in by an Ethernet device. Matches nothing more, but `nft` can then tell what the
    /// other matches mean.
    Ethernet,
}

/// What becomes of a packet.
#[derive(Debug, Clone, Copy)]
#[repr(u32)]
pub enum Verdict {
    /// The kernel does not see it.
    Drop = libc::NF_DROP as u32,
    /// No further rule of ours is asked.
    Accept = libc::NF_ACCEPT as u32,
}

impl Batch {
    /// Changes to `table`, which is made with these flags if it is not there.
    pub(super) fn new(table: &str, flags: u32) -> Self {
        let mut batch = Self {
            bytes: Vec::new(),
            table: table.to_owned(),
            sets: 0,
        };
        batch
            .bytes
            .extend(Message::mark(libc::NFNL_MSG_BATCH_BEGIN as u16).serialize(NLM_F_REQUEST));
        let mut attributes = Attributes::default();
        attributes.text(1, table).number(2, flags);
        batch.push(libc::NFT_MSG_NEWTABLE, NLM_F_CREATE | NLM_F_ACK, attributes);
        batch
    }

    /// Makes a chain that all packets which come in by `device` pass, if it is not there: by
    /// ascending `priority`. What no rule of the chain decides about meets its `policy`.
    pub fn chain(&mut self, name: &str, device: &str, priority: i32, policy: Verdict) {
        let mut attributes = self.named(name, CHAIN_NAME);
        attributes.nest(4, |hook| {
            hook.number(1, libc::NF_NETDEV_INGRESS as u32)
                .number(2, priority as u32)
                .text(3, device);
        });
        attributes.number(5, policy as u32).text(7, "filter");
        self.push(libc::NFT_MSG_NEWCHAIN, NLM_F_CREATE, attributes);
    }

    /// Deletes a table of this name with all that is in it.
    pub fn delete_table(&mut self, name: &str) {
        let mut attributes = Attributes::default();
        attributes.text(1, name);
        self.push(libc::NFT_MSG_DELTABLE, NLM_F_ACK, attributes);
    }

    /// Takes all rules out of a chain.
    pub fn flush(&mut self, chain: &str) {
        let attributes = self.named(chain, 2);
        self.push(libc::NFT_MSG_DELRULE, 0, attributes);
    }

    /// Deletes a chain without rules.
    pub fn delete_chain(&mut self, chain: &str) {
        let attributes = self.named(chain, CHAIN_NAME);
        self.push(libc::NFT_MSG_DELCHAIN, 0, attributes);
    }

    /// Appends a rule for packets for which all of `matches` hold.
    pub fn rule(&mut self, chain: &str, matches: &[Match<'_>], verdict: Verdict) {
        let mut expressions = Attributes::default();
        for one in matches {
            self.expression(&mut expressions, one);
        }
        expressions.expression("immediate", |immediate| {
            immediate.number(1, libc::NFT_REG_VERDICT as u32);
            immediate.nest(2, |data| {
                data.nest(2, |code| {
                    code.number(1, verdict as u32);
                });
            });
        });
        let mut attributes = self.named(chain, 2);
        attributes.put(4 | NLA_F_NESTED, &expressions.0);
        self.push(
            libc::NFT_MSG_NEWRULE,
            NLM_F_CREATE | NLM_F_APPEND,
            attributes,
        );
    }

    /// All of it, to be sent.
    pub fn end(mut self) -> Vec<u8> {
        let end = Message::mark(libc::NFNL_MSG_BATCH_END as u16);
        self.bytes.extend(end.serialize(NLM_F_REQUEST));
        self.bytes
    }

    fn expression(&mut self, expressions: &mut Attributes, one: &Match<'_>) {
        match *one {
            Match::Bytes {
                header,
                offset,
                value,
                mask,
            } => {
                expressions.load(header, offset, value.len());
                if let Some(mask) = mask {
                    expressions.mask(mask);
                }
                expressions.compare(libc::NFT_CMP_EQ, value);
            }
            Match::Network(ethertype) => {
                expressions.meta(libc::NFT_META_PROTOCOL);
                expressions.compare(libc::NFT_CMP_EQ, &ethertype);
            }
            Match::Transport(protocol) => {
                expressions.meta(libc::NFT_META_L4PROTO);
                expressions.compare(libc::NFT_CMP_EQ, &[protocol]);
            }
            Match::NotForHost => {
                expressions.expression("fib", |fib| {
                    fib.number(1, libc::NFT_REG_1 as u32)
                        .number(2, FIB_ADDRESS_TYPE)
                        .number(3, FIB_DESTINATION);
                });
                let local = u32::from(libc::RTN_LOCAL).to_ne_bytes();
                expressions.compare(libc::NFT_CMP_NEQ, &local);
            }
            Match::InVlan => {
                expressions.load(Header::Link, 12, 2);
                expressions.compare(libc::NFT_CMP_EQ, &[0x81, 0x00]);
                expressions.load(Header::Link, 14, 2);
                expressions.mask(&[0x0f, 0xff]);
                expressions.compare(libc::NFT_CMP_NEQ, &[0, 0]);
            }
            Match::Ethernet => {
                expressions.meta(libc::NFT_META_IIFTYPE);
                expressions.compare(libc::NFT_CMP_EQ, &libc::ARPHRD_ETHER.to_ne_bytes());
            }
            Match::In {
                header,
                offset,
                length,
                intervals,
            } => {
                let set = self.set(length, intervals);
                expressions.load(header, offset, length);
                expressions.expression("lookup", |lookup| {
                    lookup
                        .text(1, ANONYMOUS)
                        .number(2, libc::NFT_REG_1 as u32)
                        .number(4, set);
                });
            }
        }
    }

    /// Makes a set that goes with the rule it is used by; returns its number in this batch.
    fn set(&mut self, length: usize, intervals: &[(u128, u128)]) -> u32 {
        self.sets += 1;
        let number = self.sets;
        let flags = libc::NFT_SET_ANONYMOUS | libc::NFT_SET_CONSTANT | libc::NFT_SET_INTERVAL;
        // What `nft` shows them as: addresses and ports.
        let shown_as = match length {
            2 => 13,
            4 => 7,
            _ => 8,
        };
        let mut attributes = self.named(ANONYMOUS, 2);
        attributes
            .number(3, flags as u32)
            .number(4, shown_as)
            .number(5, length as u32)
            .number(10, number);
        self.push(libc::NFT_MSG_NEWSET, NLM_F_CREATE, attributes);
        for chunk in intervals.chunks(ELEMENTS) {
            let mut attributes = self.named(ANONYMOUS, 2);
            attributes.number(4, number);
            attributes.nest(3, |elements| {
                for (first, last) in chunk {
                    elements.bound(*first, length, false);
                    // The end is the first number beyond, if there is one.
                    if *last < u128::MAX >> (128 - 8 * length) {
                        elements.bound(last + 1, length, true);
                    }
                }
            });
            self.push(libc::NFT_MSG_NEWSETELEM, NLM_F_CREATE, attributes);
        }
        number
    }

    /// The attributes of something in the table that is called `name`.
    fn named(&self, name: &str, kind: u16) -> Attributes {
        let mut attributes = Attributes::default();
        attributes.text(1, &self.table).text(kind, name);
        attributes
    }

    fn push(&mut self, kind: libc::c_int, flags: u16, attributes: Attributes) {
        let message = Message::about(libc::NFPROTO_NETDEV as u8, kind, &attributes.0);
        self.bytes.extend(message.serialize(NLM_F_REQUEST | flags));
    }
}

/// The kernel finds a name for it.
const ANONYMOUS: &str = "__set%d";

/// Parts of rules and sets.
impl Attributes {
    /// One end of an interval.
    fn bound(&mut self, number: u128, length: usize, end: bool) {
        self.nest(1, |element| {
            if end {
                element.number(3, libc::NFT_SET_ELEM_INTERVAL_END as u32);
            }
            element.value(1, &number.to_be_bytes()[16 - length..]);
        });
    }

    fn expression(&mut self, name: &str, fill: impl FnOnce(&mut Self)) {
        self.nest(1, |expression| {
            expression.text(1, name).nest(2, fill);
        });
    }

    fn load(&mut self, header: Header, offset: u32, length: usize) {
        self.expression("payload", |payload| {
            payload
                .number(1, libc::NFT_REG_1 as u32)
                .number(2, header as u32)
                .number(3, offset)
                .number(4, length as u32);
        });
    }

    fn meta(&mut self, key: libc::c_int) {
        self.expression("meta", |meta| {
            meta.number(1, libc::NFT_REG_1 as u32).number(2, key as u32);
        });
    }

    fn mask(&mut self, mask: &[u8]) {
        self.expression("bitwise", |bitwise| {
            bitwise
                .number(1, libc::NFT_REG_1 as u32)
                .number(2, libc::NFT_REG_1 as u32)
                .number(3, mask.len() as u32)
                .value(4, mask)
                .value(5, &vec![0; mask.len()]);
        });
    }

    fn compare(&mut self, how: libc::c_int, value: &[u8]) {
        self.expression("cmp", |cmp| {
            cmp.number(1, libc::NFT_REG_1 as u32)
                .number(2, how as u32)
                .value(3, value);
        });
    }
}
