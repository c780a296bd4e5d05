//! DHCPv6 (RFC 8415): a guest is handed its own address if it has one, and told the rest.
//!
//! As with IPv4, which guest is behind a port decides what is handed out there.

use std::net::Ipv6Addr;

use dhcproto::v6::{
    Decodable, DhcpOption, DhcpOptions, Encodable, IAAddr, IANA, Message, MessageType,
    NtpSuboption, OptionCode, Status, StatusCode, UnknownOption,
};

use crate::base::addr::MacAddr;
use crate::base::drops::DropReason;
use crate::config::services::{Dhcp6, DomainName};

/// The server's UDP port.
pub(crate) const SERVER: u16 = 547;
/// All servers and relays on the link (RFC 8415 §7.1).
pub(crate) const SERVERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2);

/// Bytes of a message before its options: type and transaction.
const FIXED: usize = 4;
/// Bytes of an IA_NA and of an IA Address before their options (RFC 8415 §21.4, §21.6).
const IA: usize = 12;
const IA_ADDRESS: usize = 24;
/// Longest DUID (RFC 8415 §11.1).
const MOST_DUID: usize = 130;
/// Most identity associations answered in one message.
const MOST_ASSOCIATIONS: usize = 4;

const CLIENT_ID: u16 = 1;
const SERVER_ID: u16 = 2;
const IA_NA: u16 = 3;
const IA_TA: u16 = 4;
const IA_ADDR: u16 = 5;
const REQUESTED: u16 = 6;
const RAPID_COMMIT: u16 = 14;
const IA_PD: u16 = 25;

/// What one guest is offered.
#[derive(Debug)]
pub(crate) struct Lease<'a> {
    /// Its address, if it has one to be handed out.
    pub(crate) address: Option<Ipv6Addr>,
    /// The gateway's MAC, which names the server.
    pub(crate) server: MacAddr,
    pub(crate) dhcp6: &'a Dhcp6,
}

/// Answers a message of the guest that `lease` is for (RFC 8415 §18.3).
///
/// # Errors
/// Why there is no answer.
pub(crate) fn answer(payload: &[u8], lease: &Lease<'_>) -> Result<Vec<u8>, DropReason> {
    let request = Request::parse(payload)?;
    let duid = duid(lease.server);
    let ours = request.server.as_ref() == Some(&duid);
    let known = request.client.is_some();
    let mut kind = MessageType::Reply;
    // What each message must and must not carry: RFC 8415 §16.
    let answered = match request.message.msg_type() {
        MessageType::Solicit if known && request.server.is_none() => {
            if !request.rapid {
                kind = MessageType::Advertise;
            }
            request.grant(lease, Status::NoAddrsAvail)
        }
        MessageType::Request if known && ours => request.grant(lease, Status::NoAddrsAvail),
        MessageType::Renew if known && ours => request.grant(lease, Status::NoBinding),
        MessageType::Rebind if known && request.server.is_none() => {
            request.grant(lease, Status::NoBinding)
        }
        MessageType::Confirm if known && request.server.is_none() => request.confirm(lease)?,
        MessageType::Release | MessageType::Decline if known && ours => {
            vec![status(Status::Success)]
        }
        MessageType::InformationRequest
            if !request.identity && (request.server.is_none() || ours) =>
        {
            Vec::new()
        }
        _ => return Err(DropReason::DhcpIgnored),
    };
    let mut options: DhcpOptions = answered.into_iter().collect();
    options.insert(DhcpOption::ServerId(duid));
    if let Some(client) = request.client.clone() {
        options.insert(DhcpOption::ClientId(client));
    }
    if request.rapid && request.message.msg_type() == MessageType::Solicit {
        options.insert(DhcpOption::RapidCommit);
    }
    for option in request.parameters(lease.dhcp6) {
        options.insert(option);
    }
    let mut message = request.message;
    message.set_msg_type(kind).set_opts(options);
    message.to_vec().map_err(|_| DropReason::DhcpMalformed)
}

/// A request, as far as it matters.
struct Request {
    message: Message,
    client: Option<Vec<u8>>,
    server: Option<Vec<u8>>,
    associations: Vec<IANA>,
    wanted: Option<Vec<u16>>,
    rapid: bool,
    /// It asks for addresses or prefixes of some kind.
    identity: bool,
}

impl Request {
    fn parse(payload: &[u8]) -> Result<Self, DropReason> {
        let read = readable(payload).ok_or(DropReason::DhcpMalformed)?;
        let identity = read.other_identity;
        let message = Message::from_bytes(&read.bytes).map_err(|_| DropReason::DhcpMalformed)?;
        let mut request = Self {
            client: None,
            server: None,
            associations: Vec::new(),
            wanted: None,
            rapid: false,
            identity,
            message,
        };
        for option in request.message.opts().iter() {
            match option {
                DhcpOption::ClientId(duid) => request.client = Some(duid.clone()),
                DhcpOption::ServerId(duid) => request.server = Some(duid.clone()),
                DhcpOption::IANA(association) => request.associations.push(association.clone()),
                DhcpOption::ORO(list) => {
                    let codes = list.opts.iter().map(|code| u16::from(*code));
                    request.wanted = Some(codes.collect());
                }
                DhcpOption::RapidCommit => request.rapid = true,
                _ => {}
            }
        }
        request.identity |= !request.associations.is_empty();
        Ok(request)
    }

    /// Answers for the request's associations: the first gets the guest's address; the others, or
    /// all if it has none, the status `without`. An address that is not the guest's gets a lifetime
    /// of 0 (RFC 8415 §18.3.4).
    fn grant(&self, lease: &Lease<'_>, without: Status) -> Vec<DhcpOption> {
        let time = lease.dhcp6.lease_seconds;
        let mut address = lease.address;
        let mut answers = Vec::new();
        for association in &self.associations {
            let mut opts = DhcpOptions::new();
            let granted = address.take();
            // `DhcpOptions` puts a new option before those of the same code, so what shall come
            // first is inserted last.
            for other in held(association).filter(|held| Some(*held) != granted) {
                opts.insert(life(other, 0));
            }
            match granted {
                Some(address) => opts.insert(life(address, time)),
                None => opts.insert(status(without)),
            }
            let part = |tenths: u64| match (granted, time) {
                (None, _) => 0,
                (_, u32::MAX) => u32::MAX, // for ever
                (_, time) => (u64::from(time) * tenths / 10) as u32,
            };
            answers.push(DhcpOption::IANA(IANA {
                id: association.id,
                t1: part(5),
                t2: part(8),
                opts,
            }));
        }
        answers
    }

    /// Whether the addresses a guest remembers are still right (RFC 8415 §18.3.3).
    fn confirm(&self, lease: &Lease<'_>) -> Result<Vec<DhcpOption>, DropReason> {
        let mut held = self.associations.iter().flat_map(held).peekable();
        if held.peek().is_none() {
            return Err(DropReason::DhcpIgnored);
        }
        let right = held.all(|address| Some(address) == lease.address);
        Ok(vec![status(if right {
            Status::Success
        } else {
            Status::NotOnLink
        })])
    }

    /// The network's settings, as far as they are asked for.
    fn parameters(&self, dhcp6: &Dhcp6) -> Vec<DhcpOption> {
        let ntp = dhcp6
            .ntp
            .iter()
            .map(|ntp| NtpSuboption::ServerAddress(*ntp));
        // RFC 8415 §10: uncompressed.
        let search = dhcp6.search.iter().flat_map(DomainName::wire).collect();
        let mut options = Vec::new();
        if !dhcp6.dns.is_empty() {
            options.push(DhcpOption::DomainNameServers(dhcp6.dns.clone()));
        }
        if !dhcp6.search.is_empty() {
            let search = UnknownOption::new(OptionCode::DomainSearchList, search);
            options.push(DhcpOption::Unknown(search));
        }
        if !dhcp6.ntp.is_empty() {
            options.push(DhcpOption::NtpServer(ntp.collect()));
        }
        if self.message.msg_type() == MessageType::InformationRequest {
            options.push(DhcpOption::InformationRefreshTime(
                dhcp6.lease_seconds.max(600),
            ));
        }
        let wants = |option: &DhcpOption| {
            let code = OptionCode::from(option).into();
            self.wanted
                .as_ref()
                .is_none_or(|codes| codes.contains(&code))
        };
        options.retain(wants);
        options
    }
}

/// The server's identifier, made from the gateway's MAC: DUID-LL (RFC 8415 §11.4).
fn duid(mac: MacAddr) -> Vec<u8> {
    [&[0, 3, 0, 1][..], &mac.0].concat()
}

fn life(addr: Ipv6Addr, time: u32) -> DhcpOption {
    DhcpOption::IAAddr(IAAddr {
        addr,
        preferred_life: time,
        valid_life: time,
        opts: DhcpOptions::new(),
    })
}

fn status(status: Status) -> DhcpOption {
    DhcpOption::StatusCode(StatusCode {
        status,
        msg: String::new(),
    })
}

fn held(association: &IANA) -> impl Iterator<Item = Ipv6Addr> {
    association.opts.iter().filter_map(|option| match option {
        DhcpOption::IAAddr(address) => Some(address.addr),
        _ => None,
    })
}

struct Readable {
    bytes: Vec<u8>,
    /// It has an association for temporary addresses or prefixes, of which there are none.
    other_identity: bool,
}

/// The message with only those options that are read here, each of a right length: the decoder
/// goes astray at options shorter than they should be, and recurses into others.
fn readable(payload: &[u8]) -> Option<Readable> {
    let mut bytes = payload.get(..FIXED)?.to_vec();
    let (mut associations, mut other_identity) = (0, false);
    let mut seen = 0u32;
    for option in options(&payload[FIXED..]) {
        let (code, body) = option?;
        let fits = match code {
            CLIENT_ID | SERVER_ID => (3..=MOST_DUID).contains(&body.len()),
            REQUESTED => body.len().is_multiple_of(2),
            RAPID_COMMIT => body.is_empty(),
            IA_NA => {
                let association = association(body)?;
                associations += 1;
                if associations <= MOST_ASSOCIATIONS {
                    push(&mut bytes, IA_NA, &association);
                }
                continue;
            }
            IA_TA | IA_PD => {
                other_identity = true;
                continue;
            }
            _ => continue,
        };
        if !fits || seen & 1 << code != 0 {
            return None;
        }
        seen |= 1 << code;
        push(&mut bytes, code, body);
    }
    Some(Readable {
        bytes,
        other_identity,
    })
}

/// An IA_NA's body with nothing in it but addresses, and those without options.
fn association(body: &[u8]) -> Option<Vec<u8>> {
    let mut read = body.get(..IA)?.to_vec();
    for option in options(&body[IA..]) {
        let (code, body) = option?;
        if code == IA_ADDR && read.len() < 256 {
            push(&mut read, IA_ADDR, body.get(..IA_ADDRESS)?);
        }
    }
    Some(read)
}

/// The options in `bytes`; `None` for one that is cut short, and then no more.
fn options(mut bytes: &[u8]) -> impl Iterator<Item = Option<(u16, &[u8])>> {
    std::iter::from_fn(move || {
        let rest = std::mem::take(&mut bytes);
        if rest.is_empty() {
            return None;
        }
        let Some(&[a, b, c, d]) = rest.first_chunk() else {
            return Some(None);
        };
        let length = usize::from(u16::from_be_bytes([c, d]));
        let Some(body) = rest.get(4..4 + length) else {
            return Some(None);
        };
        bytes = &rest[4 + length..];
        Some(Some((u16::from_be_bytes([a, b]), body)))
    })
}

fn push(bytes: &mut Vec<u8>, code: u16, body: &[u8]) {
    bytes.extend_from_slice(&code.to_be_bytes());
    bytes.extend_from_slice(&(body.len() as u16).to_be_bytes());
    bytes.extend_from_slice(body);
}

#[cfg(test)]
#[path = "dhcp6/tests.rs"]
mod tests;
