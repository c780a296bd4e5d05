//! nf_tables messages as they are on the socket.

use std::convert::Infallible;

use netlink_packet_core::{
    NLA_F_NESTED, NLM_F_REQUEST, NetlinkDeserializable, NetlinkHeader, NetlinkMessage,
    NetlinkPayload, NetlinkSerializable,
};

/// struct nfgenmsg.
pub const GENERIC_HEADER: usize = 4;
pub const TABLE_NAME: u16 = 1;
pub const TABLE_FLAGS: u16 = 2;
pub const CHAIN_TABLE: u16 = 1;
pub const CHAIN_NAME: u16 = 3;

/// One message: struct nfgenmsg and attributes.
#[derive(Debug, Clone)]
pub struct Message {
    kind: u16,
    pub body: Vec<u8>,
}

impl Message {
    /// Asks for all chains of the family.
    pub fn get_chains() -> Self {
        Self::about(libc::NFPROTO_NETDEV as u8, libc::NFT_MSG_GETCHAIN, &[])
    }

    /// Asks for all tables of the family.
    pub fn get_tables() -> Self {
        Self::about(libc::NFPROTO_NETDEV as u8, libc::NFT_MSG_GETTABLE, &[])
    }

    /// The begin or end of a batch.
    pub fn mark(kind: u16) -> Self {
        let [high, low] = (libc::NFNL_SUBSYS_NFTABLES as u16).to_be_bytes();
        Self {
            kind,
            body: vec![libc::AF_UNSPEC as u8, 0, high, low],
        }
    }

    pub fn about(family: u8, kind: libc::c_int, attributes: &[u8]) -> Self {
        Self {
            kind: (libc::NFNL_SUBSYS_NFTABLES as u16) << 8 | kind as u16,
            body: [&[family, 0, 0, 0], attributes].concat(),
        }
    }

    pub fn serialize(self, flags: u16) -> Vec<u8> {
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(self));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        bytes
    }
}

impl NetlinkSerializable for Message {
    fn message_type(&self) -> u16 {
        self.kind
    }

    fn buffer_len(&self) -> usize {
        self.body.len()
    }

    fn serialize(&self, buffer: &mut [u8]) {
        buffer.copy_from_slice(&self.body);
    }
}

impl NetlinkDeserializable for Message {
    type Error = Infallible;

    fn deserialize(header: &NetlinkHeader, payload: &[u8]) -> Result<Self, Infallible> {
        Ok(Self {
            kind: header.message_type,
            body: payload.to_vec(),
        })
    }
}

/// Attributes one after the other, each a length, a kind and a value (RFC 3549 §2.2).
#[derive(Debug, Default)]
pub struct Attributes(pub Vec<u8>);

impl Attributes {
    pub fn put(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        let length = (4 + value.len()) as u16;
        self.0.extend(length.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    pub fn number(&mut self, kind: u16, value: u32) -> &mut Self {
        self.put(kind, &value.to_be_bytes())
    }

    pub fn text(&mut self, kind: u16, value: &str) -> &mut Self {
        self.put(kind, &[value.as_bytes(), &[0]].concat())
    }

    pub fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) -> &mut Self {
        let start = self.0.len();
        self.put(kind | NLA_F_NESTED, &[]);
        fill(self);
        let length = (self.0.len() - start) as u16;
        self.0[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self
    }

    /// Bytes to compare with.
    pub fn value(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        self.nest(kind, |data| {
            data.put(1, value);
        })
    }
}
