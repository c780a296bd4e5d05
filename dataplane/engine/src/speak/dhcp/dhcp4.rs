//! DHCPv4 (RFC 2131, RFC 2132): a guest is handed its own address, and nobody else's.
//!
//! There are no leases to remember: which guest is behind a port decides what is handed out there.

use std::net::Ipv4Addr;

use dhcproto::v4::{
    Decodable, DhcpOption, DhcpOptions, Encodable, Message, MessageType, Opcode, OptionCode,
    UnknownOption,
};
use ipnet::{IpNet, Ipv4Net};

use crate::base::drops::DropReason;
use crate::config::metadata::METADATA_V4;
use crate::config::services::{Dhcp, DomainName};
use crate::model::interface::Interface;

/// The server's UDP port.
pub(crate) const SERVER: u16 = 67;
/// The client's.
pub(crate) const CLIENT: u16 = 68;

/// Bytes of a message before its options, with the magic cookie (RFC 2131 §2, §3).
const FIXED: usize = 240;
/// Where the name and file fields lie, which are not used.
const NAMES: std::ops::Range<usize> = 44..236;
const MAGIC: [u8; 4] = [99, 130, 83, 99];
/// Smallest message, as of BOOTP (RFC 1542 §2.1).
const SMALLEST: usize = 300;
/// Bytes of an IP packet that every client takes (RFC 2132 §9.10).
const TAKEN: u16 = 576;
/// Bytes of its IP and UDP headers.
const HEADERS: usize = 28;

/// What one guest is offered.
#[derive(Debug)]
pub(crate) struct Lease<'a> {
    address: Ipv4Addr,
    /// The gateway, which is also the server. Its prefix length is that of the prefix that covers
    /// `address`, or 32 if none does.
    gateway: Ipv4Net,
    mtu: u32,
    hostname: &'a str,
    dhcp: &'a Dhcp,
    /// The network has metadata.
    metadata: bool,
}

impl<'a> Lease<'a> {
    /// `address` on a network. If it lies in the prefix of none of the gateway's addresses, it is
    /// handed out as a /32 with the gateway outside (D06).
    pub(crate) fn new(
        address: Ipv4Addr,
        hostname: &'a str,
        network: &'a Interface,
    ) -> Option<Self> {
        let own = network.addresses.iter().filter_map(|prefix| match prefix {
            IpNet::V4(net) => Some(*net),
            IpNet::V6(_) => None,
        });
        let covering = own.clone().find(|net| net.contains(&address));
        let gateway = covering.or_else(|| own.map(|net| net.addr().into()).next())?;
        Some(Self {
            address,
            gateway,
            mtu: network.mtu,
            hostname,
            dhcp: network.services.dhcp.as_ref()?,
            metadata: network.services.metadata,
        })
    }

    pub(crate) fn address(&self) -> Ipv4Addr {
        self.address
    }

    pub(crate) fn server(&self) -> Ipv4Addr {
        self.gateway.addr()
    }

    fn is_far(&self) -> bool {
        !self.gateway.contains(&self.address)
    }

    fn mask(&self) -> Ipv4Addr {
        if self.is_far() {
            Ipv4Addr::BROADCAST
        } else {
            self.gateway.netmask()
        }
    }

    /// A client that reads option 121 ignores option 3, so the default route is in both
    /// (RFC 3442, D05); a gateway outside the prefix is reached directly (D06). Metadata is asked for by
    /// the gateway.
    fn routes(&self) -> Vec<(Ipv4Net, Ipv4Addr)> {
        let gateway = self.server();
        let direct = (gateway.into(), Ipv4Addr::UNSPECIFIED);
        // A route of the guest's own for all of 169.254.0.0/16 (RFC 3927 §2.8) is less specific.
        let metadata = (METADATA_V4.into(), gateway);
        let default = (Ipv4Net::default(), gateway);
        let direct = self.is_far().then_some(direct);
        let metadata = self.metadata.then_some(metadata);
        direct
            .into_iter()
            .chain(metadata)
            .chain([default])
            .collect()
    }
}

/// What a request leads to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The address is offered.
    Offer(Reply),
    /// The address is the guest's; or the guest asked only for the settings.
    Ack(Reply),
    /// What the guest asks for is not its own.
    Nak(Reply),
    /// The guest says somebody else uses the address.
    Declined,
    /// The guest no longer uses it.
    Released,
}

/// A message and where it goes (RFC 2131 §4.1, D02).
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) message: Vec<u8>,
    pub(crate) to: Ipv4Addr,
    pub(crate) port: u16,
}

/// A request, as far as it matters.
struct Request {
    message: Message,
    kind: MessageType,
    requested: Option<Ipv4Addr>,
    server: Option<Ipv4Addr>,
    client: Option<Vec<u8>>,
    wanted: Option<Vec<u8>>,
    /// Bytes of a message that the client takes.
    room: usize,
}

/// The hardware address of who sent a request, and whether a relay passed it on.
///
/// # Errors
/// It is not a request at all.
pub(crate) fn sender(payload: &[u8]) -> Result<([u8; 6], bool), DropReason> {
    let fixed = payload
        .first_chunk::<FIXED>()
        .ok_or(DropReason::DhcpMalformed)?;
    // A request over Ethernet (RFC 2131 §2).
    if fixed[0..3] != [1, 1, 6] || fixed[NAMES.end..] != MAGIC {
        return Err(DropReason::DhcpMalformed);
    }
    let relayed = fixed[24..28] != [0; 4];
    match fixed[28..].first_chunk() {
        Some(address) => Ok((*address, relayed)),
        None => Err(DropReason::DhcpMalformed),
    }
}

/// Answers a request of the guest that `lease` is for (RFC 2131 §4.3, D03, D04).
///
/// # Errors
/// Why there is no answer.
pub(crate) fn answer(payload: &[u8], lease: &Lease<'_>) -> Result<Outcome, DropReason> {
    let request = Request::parse(payload, lease)?;
    if request
        .server
        .is_some_and(|server| server != lease.server())
    {
        return Err(DropReason::DhcpIgnored);
    }
    let held = request.message.ciaddr();
    match request.kind {
        MessageType::Discover => Ok(Outcome::Offer(request.grant(MessageType::Offer, lease)?)),
        MessageType::Request => {
            // RENEWING and REBINDING use the address already, SELECTING and INIT-REBOOT name it in
            // an option (RFC 2131 §4.3.2).
            let asked = match request.requested {
                _ if !held.is_unspecified() => held,
                Some(requested) => requested,
                None => return Err(DropReason::DhcpMalformed),
            };
            if asked == lease.address {
                Ok(Outcome::Ack(request.grant(MessageType::Ack, lease)?))
            } else {
                Ok(Outcome::Nak(request.refuse(lease)?))
            }
        }
        MessageType::Inform if held.is_unspecified() => Err(DropReason::DhcpMalformed),
        MessageType::Inform => Ok(Outcome::Ack(request.inform(lease)?)),
        MessageType::Decline if request.requested == Some(lease.address) => Ok(Outcome::Declined),
        MessageType::Release if held == lease.address => Ok(Outcome::Released),
        _ => Err(DropReason::DhcpIgnored),
    }
}

impl Request {
    fn parse(payload: &[u8], lease: &Lease<'_>) -> Result<Self, DropReason> {
        let read = readable(payload).ok_or(DropReason::DhcpMalformed)?;
        let message = Message::from_bytes(&read).map_err(|_| DropReason::DhcpMalformed)?;
        let mut request = Self {
            kind: message.opts().msg_type().ok_or(DropReason::DhcpMalformed)?,
            requested: None,
            server: None,
            client: None,
            wanted: None,
            room: usize::from(TAKEN),
            message,
        };
        for (_, option) in request.message.opts().iter() {
            match option {
                DhcpOption::RequestedIpAddress(address) => request.requested = Some(*address),
                DhcpOption::ServerIdentifier(address) => request.server = Some(*address),
                DhcpOption::ClientIdentifier(bytes) => request.client = Some(bytes.clone()),
                DhcpOption::ParameterRequestList(codes) => {
                    request.wanted = Some(codes.iter().map(|code| (*code).into()).collect());
                }
                DhcpOption::MaxMessageSize(size) => request.room = usize::from(*size.max(&TAKEN)),
                _ => {}
            }
        }
        request.room = request.room.min(lease.mtu as usize) - HEADERS;
        Ok(request)
    }

    /// An OFFER or the ACK of a REQUEST (RFC 2131 §4.3.1 table 3, D01).
    fn grant(mut self, kind: MessageType, lease: &Lease<'_>) -> Result<Reply, DropReason> {
        if kind == MessageType::Offer {
            self.message.set_ciaddr(Ipv4Addr::UNSPECIFIED);
        }
        self.message.set_yiaddr(lease.address);
        let time = lease.dhcp.lease_seconds;
        let part = |eighths: u64| match time {
            u32::MAX => u32::MAX, // for ever
            time => (u64::from(time) * eighths / 8) as u32,
        };
        let mut options = vec![
            DhcpOption::AddressLeaseTime(time),
            // T1 and T2 (RFC 2131 §4.4.5).
            DhcpOption::Renewal(part(4)),
            DhcpOption::Rebinding(part(7)),
        ];
        options.extend(self.parameters(lease));
        let to = self.destination(lease.address);
        self.finish(kind, lease, options, to)
    }

    /// The ACK of an INFORM: no address, no lease (RFC 2131 §4.3.5).
    fn inform(mut self, lease: &Lease<'_>) -> Result<Reply, DropReason> {
        let held = self.message.ciaddr();
        self.message.set_yiaddr(Ipv4Addr::UNSPECIFIED);
        let options = self.parameters(lease);
        let to = match self.message.giaddr() {
            relay if relay.is_unspecified() => (held, CLIENT),
            relay => (relay, SERVER),
        };
        self.finish(MessageType::Ack, lease, options, to)
    }

    fn refuse(mut self, lease: &Lease<'_>) -> Result<Reply, DropReason> {
        self.message.set_ciaddr(Ipv4Addr::UNSPECIFIED);
        self.message.set_yiaddr(Ipv4Addr::UNSPECIFIED);
        let why = DhcpOption::Message(format!("your address is {}", lease.address));
        let relay = self.message.giaddr();
        let to = if relay.is_unspecified() {
            (Ipv4Addr::BROADCAST, CLIENT)
        } else {
            // The relay must broadcast it (RFC 2131 §4.3.2).
            let flags = self.message.flags().set_broadcast();
            self.message.set_flags(flags);
            (relay, SERVER)
        };
        self.finish(MessageType::Nak, lease, vec![why], to)
    }

    /// Where an OFFER or ACK goes (RFC 2131 §4.1).
    fn destination(&self, address: Ipv4Addr) -> (Ipv4Addr, u16) {
        let (relay, held) = (self.message.giaddr(), self.message.ciaddr());
        if !relay.is_unspecified() {
            (relay, SERVER)
        } else if !held.is_unspecified() {
            (held, CLIENT)
        } else if self.message.flags().broadcast() {
            (Ipv4Addr::BROADCAST, CLIENT)
        } else {
            (address, CLIENT)
        }
    }

    /// The network's settings, the most important first. Routes are sent whether they are asked for
    /// or not; so is everything else if the client does not say what it wants.
    fn parameters(&self, lease: &Lease<'_>) -> Vec<DhcpOption> {
        let dhcp = lease.dhcp;
        let mut options = vec![
            DhcpOption::SubnetMask(lease.mask()),
            DhcpOption::Router(vec![lease.server()]),
            DhcpOption::ClasslessStaticRoute(lease.routes()),
        ];
        let wants = |option: &DhcpOption| match &self.wanted {
            Some(codes) => codes.contains(&OptionCode::from(option).into()),
            None => true,
        };
        let domains: Vec<u8> = dhcp.search.iter().flat_map(DomainName::wire).collect();
        let rest = [
            DhcpOption::DomainNameServer(dhcp.dns.clone()),
            DhcpOption::InterfaceMtu(lease.mtu.min(0xffff) as u16),
            DhcpOption::Hostname(lease.hostname.to_owned()),
            DhcpOption::DomainName(dhcp.domain.as_ref().map_or("", |name| name.as_str()).into()),
            DhcpOption::NtpServers(dhcp.ntp.clone()),
            DhcpOption::Unknown(UnknownOption::new(OptionCode::DomainSearch, domains)),
        ];
        options.extend(rest.into_iter().filter(|option| wants(option)));
        options
    }

    /// Puts a reply together: as many of `options` as the client has room for.
    fn finish(
        self,
        kind: MessageType,
        lease: &Lease<'_>,
        options: Vec<DhcpOption>,
        (to, port): (Ipv4Addr, u16),
    ) -> Result<Reply, DropReason> {
        let mut message = self.message;
        message
            .set_opcode(Opcode::BootReply)
            .set_hops(0)
            .set_secs(0)
            .set_siaddr(Ipv4Addr::UNSPECIFIED);
        let first = [
            DhcpOption::MessageType(kind),
            DhcpOption::ServerIdentifier(lease.server()),
        ];
        // RFC 6842 §3: told back in every answer.
        let client = self.client.map(DhcpOption::ClientIdentifier);
        let mut kept = DhcpOptions::new();
        let mut length = FIXED + 1;
        for option in first.into_iter().chain(client).chain(options) {
            let bytes = option.to_vec().map_err(|_| DropReason::DhcpMalformed)?;
            // Two bytes are an option's head: with no more than that it says nothing.
            if bytes.len() > 2 && length + bytes.len() <= self.room {
                length += bytes.len();
                kept.insert(option);
            }
        }
        message.set_opts(kept);
        let mut message = message.to_vec().map_err(|_| DropReason::DhcpMalformed)?;
        if message.len() < SMALLEST {
            message.resize(SMALLEST, 0);
        }
        Ok(Reply { message, to, port })
    }
}

/// The request with only those options that are read here, each of the right length: the decoder
/// refuses a message for any option it cannot make sense of, and trusts some lengths.
fn readable(payload: &[u8]) -> Option<Vec<u8>> {
    const PAD: u8 = 0;
    const END: u8 = 255;
    let mut read = payload.get(..FIXED)?.to_vec();
    read[NAMES].fill(0);
    let mut options = &payload[FIXED..];
    let mut seen = 0u64;
    while let [code, ref rest @ ..] = *options {
        if code == END {
            break;
        }
        if code == PAD {
            options = rest;
            continue;
        }
        let length = usize::from(*rest.first()?);
        let option = options.get(..2 + length)?;
        options = &options[2 + length..];
        let fits = match code {
            50 | 54 => length == 4,
            53 => length == 1,
            57 => length == 2,
            55 => length >= 1,
            61 => length >= 2,
            _ => continue,
        };
        // An option that comes in several pieces (RFC 3396 §5) is refused: none of these can be so
        // long that it needs them.
        if !fits || seen & 1 << code != 0 {
            return None;
        }
        seen |= 1 << code;
        read.extend_from_slice(option);
    }
    read.push(END);
    Some(read)
}

#[cfg(test)]
#[path = "dhcp4/tests.rs"]
mod tests;
