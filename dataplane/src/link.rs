//! Network devices, told by rtnetlink: which there are, and changes made to them.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use ipnet::{IpNet, Ipv6Net};
use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::address::{
    AddressAttribute, AddressHeader, AddressMessage, AddressScope,
};
pub use netlink_packet_route::link::In6AddrGenMode;
use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, LinkAttribute, LinkFlags, LinkMessage,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use tapgate_engine::addr::MacAddr;

/// The multicast group that announces devices (RTNLGRP_LINK).
const GROUP_LINK: u32 = 1;

/// A network device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its index: another one after the device was deleted and made again.
    pub index: u32,
    /// Counts devices that came. One that leaves the namespace and returns may have the same index,
    /// but not the same number.
    pub number: u64,
    /// Administratively up.
    pub up: bool,
    /// Has a carrier (for a TAP: somebody holds its fd side).
    pub carrier: bool,
    /// Its MAC, if it has one.
    pub mac: Option<MacAddr>,
    /// Largest IP packet, in bytes.
    pub mtu: u32,
    /// Free text; we mark devices of our making with it.
    pub alias: Option<String>,
    /// How the kernel makes itself a link-local address on it; `None` without IPv6.
    pub own_ipv6: Option<In6AddrGenMode>,
}

/// All network devices of our namespace, kept up to date.
#[derive(Debug)]
pub struct Links {
    socket: Socket,
    by_name: HashMap<String, Link>,
    /// Devices that came so far.
    numbers: u64,
    /// Devices found up again, until somebody asks.
    came_up: Vec<String>,
}

/// What to change about a device.
#[derive(Debug, Default)]
pub struct Change<'a> {
    /// The namespace to move it to. The rest happens there.
    pub netns: Option<BorrowedFd<'a>>,
    /// Its MAC.
    pub mac: Option<MacAddr>,
    /// Largest IP packet, in bytes.
    pub mtu: Option<u32>,
    /// Free text.
    pub alias: Option<&'a str>,
    /// Do not set it up.
    pub leave_down: bool,
}

impl Links {
    /// Lists the devices and listens to changes.
    ///
    /// # Errors
    /// No netlink socket to be had.
    pub fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.add_membership(GROUP_LINK)?;
        socket.set_non_blocking(true)?;
        let mut links = Self {
            socket,
            by_name: HashMap::new(),
            numbers: 0,
            came_up: Vec::new(),
        };
        links.list()?;
        Ok(links)
    }

    /// The device of this name.
    pub fn get(&self, name: &str) -> Option<&Link> {
        self.by_name.get(name)
    }

    /// Hears the changes since the last call. Whether there were any.
    ///
    /// # Errors
    /// The netlink socket failed.
    pub fn update(&mut self) -> io::Result<bool> {
        let before = self.by_name.clone();
        loop {
            match receive(&self.socket) {
                Ok(messages) => messages.into_iter().for_each(|message| self.hear(message)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // The queue overflowed: what we know is no longer true.
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => self.list()?,
                Err(error) => return Err(error),
            }
        }
        let is_up = |link: &Link| link.up && link.carrier;
        let again = |(name, link): &(&String, &Link)| {
            let was = before.get(*name).filter(|was| was.index == link.index);
            is_up(link) && was.is_some_and(|was| !is_up(was))
        };
        let came_up = self.by_name.iter().filter(again);
        self.came_up.extend(came_up.map(|(name, _)| name.clone()));
        Ok(self.by_name != before)
    }

    /// Looks at one device. Not all changes of a device that is down are announced.
    ///
    /// # Errors
    /// There is none of this name.
    pub fn look_at(&mut self, name: &str) -> io::Result<()> {
        let socket = Socket::new(NETLINK_ROUTE)?;
        let mut message = LinkMessage::default();
        message.attributes = vec![LinkAttribute::IfName(name.to_owned())];
        request(&socket, RouteNetlinkMessage::GetLink(message), 0)?;
        for message in receive(&socket)? {
            match message.payload {
                NetlinkPayload::Error(error) => return Err(error.to_io()),
                _ => self.hear(message),
            }
        }
        Ok(())
    }

    /// The devices that were down or without a carrier and are up again, since it was asked last.
    pub fn take_came_up(&mut self) -> Vec<String> {
        std::mem::take(&mut self.came_up)
    }

    fn list(&mut self) -> io::Result<()> {
        let socket = Socket::new(NETLINK_ROUTE)?;
        let message = RouteNetlinkMessage::GetLink(LinkMessage::default());
        request(&socket, message, NLM_F_DUMP)?;
        self.by_name.clear();
        loop {
            for message in receive(&socket)? {
                match message.payload {
                    NetlinkPayload::Done(_) => return Ok(()),
                    NetlinkPayload::Error(error) => return Err(error.to_io()),
                    _ => self.hear(message),
                }
            }
        }
    }

    fn hear(&mut self, message: NetlinkMessage<RouteNetlinkMessage>) {
        match message.payload {
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) => {
                let (name, mut link) = read(link);
                let known = self
                    .by_name
                    .values()
                    .find(|known| known.index == link.index);
                link.number = known.map_or(self.numbers + 1, |known| known.number);
                self.numbers = self.numbers.max(link.number);
                // Renamed: the old name is free.
                self.by_name.retain(|_, known| known.index != link.index);
                self.by_name.insert(name, link);
            }
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelLink(link)) => {
                let index = link.header.index;
                self.by_name.retain(|_, known| known.index != index);
            }
            _ => {}
        }
    }
}

impl AsFd for Links {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Changes a device and, unless it is to be left down, sets it up.
///
/// # Errors
/// No such device or namespace, a value the device refuses, no CAP_NET_ADMIN.
pub fn change(name: &str, change: &Change<'_>) -> io::Result<()> {
    let mut message = LinkMessage::default();
    if !change.leave_down {
        message.header.flags = LinkFlags::Up;
        message.header.change_mask = LinkFlags::Up;
    }
    let attributes = &mut message.attributes;
    attributes.push(LinkAttribute::IfName(name.to_owned()));
    if let Some(netns) = change.netns {
        attributes.push(LinkAttribute::NetNsFd(netns.as_raw_fd()));
    }
    if let Some(mac) = change.mac {
        attributes.push(LinkAttribute::Address(mac.0.to_vec()));
    }
    if let Some(mtu) = change.mtu {
        attributes.push(LinkAttribute::Mtu(mtu));
    }
    if let Some(alias) = change.alias {
        attributes.push(LinkAttribute::IfAlias(alias.to_owned()));
    }
    order(RouteNetlinkMessage::SetLink(message))
}

/// Has the kernel make itself link-local addresses on a device in this way from now on. It does so
/// when the device is set up; the addresses there are stay.
///
/// # Errors
/// No such device, no IPv6 on it, no CAP_NET_ADMIN.
pub fn own_ipv6(index: u32, mode: In6AddrGenMode) -> io::Result<()> {
    let mode = vec![AfSpecInet6::AddrGenMode(mode)];
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.attributes = vec![LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(mode)])];
    order(RouteNetlinkMessage::SetLink(message))
}

/// The host's addresses on a device.
///
/// # Errors
/// They cannot be listed.
pub fn addresses(index: u32) -> io::Result<Vec<IpNet>> {
    let socket = Socket::new(NETLINK_ROUTE)?;
    let message = RouteNetlinkMessage::GetAddress(AddressMessage::default());
    request(&socket, message, NLM_F_DUMP)?;
    let mut addresses = Vec::new();
    loop {
        for message in receive(&socket)? {
            match message.payload {
                NetlinkPayload::Done(_) => return Ok(addresses),
                NetlinkPayload::Error(error) => return Err(error.to_io()),
                NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewAddress(address))
                    if address.header.index == index =>
                {
                    addresses.extend(own(&address));
                }
                _ => {}
            }
        }
    }
}

/// The address of the host's own that a message is about, with its prefix length.
fn own(message: &AddressMessage) -> Option<IpNet> {
    // On a point-to-point link the other is the peer's.
    let mut own = None;
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(address) => own = Some(*address),
            AddressAttribute::Address(address) if own.is_none() => own = Some(*address),
            _ => {}
        }
    }
    IpNet::new(own?, message.header.prefix_len).ok()
}

/// Takes a link-local address from a device.
///
/// # Errors
/// It has none such, no CAP_NET_ADMIN.
pub fn take_address(index: u32, address: Ipv6Net) -> io::Result<()> {
    order(RouteNetlinkMessage::DelAddress(link_local(index, address)))
}

/// Gives a link-local address back to a device.
///
/// # Errors
/// No such device, it has the address, no CAP_NET_ADMIN.
pub fn give_address(index: u32, address: Ipv6Net) -> io::Result<()> {
    order(RouteNetlinkMessage::NewAddress(link_local(index, address)))
}

fn link_local(index: u32, address: Ipv6Net) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header = AddressHeader {
        family: AddressFamily::Inet6,
        prefix_len: address.prefix_len(),
        scope: AddressScope::Link,
        index,
        ..AddressHeader::default()
    };
    let address = IpAddr::from(address.addr());
    message.attributes = vec![
        AddressAttribute::Local(address),
        AddressAttribute::Address(address),
    ];
    message
}

/// Deletes a device.
///
/// # Errors
/// No such device, one that cannot be deleted, no CAP_NET_ADMIN.
pub fn delete(index: u32) -> io::Result<()> {
    let mut message = LinkMessage::default();
    message.header.index = index;
    order(RouteNetlinkMessage::DelLink(message))
}

fn order(message: RouteNetlinkMessage) -> io::Result<()> {
    let socket = Socket::new(NETLINK_ROUTE)?;
    request(&socket, message, NLM_F_ACK)?;
    for answer in receive(&socket)? {
        if let NetlinkPayload::Error(error) = answer.payload
            && error.code.is_some()
        {
            return Err(error.to_io());
        }
    }
    Ok(())
}

fn request(socket: &Socket, message: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
    let mut message = NetlinkMessage::from(message);
    message.header.flags = NLM_F_REQUEST | flags;
    message.header.sequence_number = 1;
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    socket.send_to(&bytes, &SocketAddr::new(0, 0), 0)?;
    Ok(())
}

/// The messages of one datagram; those that are none of ours to understand are left out.
fn receive(socket: &Socket) -> io::Result<Vec<NetlinkMessage<RouteNetlinkMessage>>> {
    let (bytes, _) = socket.recv_from_full()?;
    let mut rest = &bytes[..];
    let mut messages = Vec::new();
    while let Some(length) = rest.first_chunk().map(|l| u32::from_ne_bytes(*l) as usize) {
        let Some(one) = rest.get(..length).filter(|one| !one.is_empty()) else {
            break;
        };
        if let Ok(message) = NetlinkMessage::deserialize(one) {
            messages.push(message);
        }
        // Messages start at multiples of four bytes (RFC 3549 §2.3.2).
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(messages)
}

fn read(message: LinkMessage) -> (String, Link) {
    let flags = message.header.flags;
    let mut name = String::new();
    let mut link = Link {
        index: message.header.index,
        number: 0,
        up: flags.contains(LinkFlags::Up),
        carrier: flags.contains(LinkFlags::LowerUp),
        mac: None,
        mtu: 0,
        alias: None,
        own_ipv6: None,
    };
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(text) => name = text,
            LinkAttribute::Address(bytes) => link.mac = bytes.try_into().ok().map(MacAddr),
            LinkAttribute::Mtu(mtu) => link.mtu = mtu,
            LinkAttribute::IfAlias(alias) => link.alias = Some(alias),
            LinkAttribute::AfSpecUnspec(families) => link.own_ipv6 = mode(&families),
            _ => {}
        }
    }
    (name, link)
}

fn mode(families: &[AfSpecUnspec]) -> Option<In6AddrGenMode> {
    let inet6 = families.iter().find_map(|family| match family {
        AfSpecUnspec::Inet6(inet6) => Some(inet6),
        _ => None,
    });
    inet6?.iter().find_map(|attribute| match attribute {
        AfSpecInet6::AddrGenMode(mode) => Some(*mode),
        _ => None,
    })
}
