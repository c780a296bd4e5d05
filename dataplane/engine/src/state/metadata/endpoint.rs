//! One guest's connections: smoltcp's TCP between packets in and packets out.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use smoltcp::wire::{HardwareAddress, IpCidr, IpListenEndpoint, IpProtocol, IpRepr};

use super::link::{SENT_AT_ONCE, Wire, at, unverified};
use crate::base::addr::{InterfaceId, MacAddr, PortId};
use crate::base::time::Instant;
use crate::config::metadata::{METADATA_V4, METADATA_V6};
use crate::wire::frame::OwnedFrame;
use crate::wire::packet::TTL;

/// The TCP port.
pub(crate) const PORT: u16 = 80;
/// Longest head of a request, in bytes; as much is under way of a response.
pub(crate) const BUFFER: usize = 4_096;
/// Who asks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asker {
    /// The number of the guest's name.
    pub(crate) guest: u16,
    /// Its network.
    pub(crate) network: InterfaceId,
    /// Its MAC and port.
    pub(crate) station: (MacAddr, PortId),
    /// Largest IP packet that it is sent, in bytes.
    pub(crate) mtu: u32,
}

/// What tells a guest's connections apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ends {
    /// The guest's address and port.
    pub(crate) from: (IpAddr, u16),
    /// The service's address.
    pub(crate) to: IpAddr,
}

/// A TCP segment, whole and verified.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Segment<'f> {
    pub(crate) ends: Ends,
    /// It, from its TCP header on.
    pub(crate) bytes: &'f [u8],
}

/// One guest's connections.
pub(crate) struct Endpoint {
    /// Who asked last.
    asker: Option<Asker>,
    interface: Interface,
    sockets: SocketSet<'static>,
    connections: Vec<Connection>,
    link: Wire,
    /// Connections that ended since it was asked last.
    ended: Vec<Ends>,
}

struct Connection {
    socket: SocketHandle,
    ends: Ends,
    /// When it ends at the latest.
    until: Instant,
    /// What is being said, and how much of it was.
    reply: Option<(Reply, usize)>,
}

/// What is said to a request.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    /// The response's head.
    pub(crate) head: Vec<u8>,
    /// What follows it.
    pub(crate) content: Arc<[u8]>,
}

/// What a request's bytes lead to.
#[derive(Debug, Clone)]
pub(crate) enum Heard {
    /// There is more to come.
    More,
    /// This is said, and the connection is closed.
    Say(Reply),
}

impl Endpoint {
    /// An endpoint without connections. `seed` gives sequence numbers.
    pub(super) fn new(mtu: u32, seed: u64, now: Instant) -> Self {
        let mut link = Wire {
            mtu: mtu as usize,
            received: Vec::new(),
            sent: Vec::new(),
        };
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = seed;
        let mut interface = Interface::new(config, &mut link, at(now));
        interface.update_ip_addrs(|addresses| {
            // There is room for two.
            let _ = addresses.push(IpCidr::new(METADATA_V4.into(), 32));
            let _ = addresses.push(IpCidr::new(METADATA_V6.into(), 128));
        });
        // Whoever asks is told where it asked from: the way back is the station's, not an address's.
        let routes = interface.routes_mut();
        let _ = routes.add_default_ipv4_route(METADATA_V4);
        let _ = routes.add_default_ipv6_route(METADATA_V6);
        Self {
            asker: None,
            interface,
            sockets: SocketSet::new(Vec::new()),
            connections: Vec::new(),
            link,
            ended: Vec::new(),
        }
    }

    /// Who asked last.
    pub(crate) fn asker(&self) -> Option<Asker> {
        self.asker
    }

    /// Listens for the connection that a segment opens, until `until`.
    pub(super) fn open(&mut self, segment: &Segment<'_>, until: Instant) {
        let buffer = || SocketBuffer::new(vec![0; BUFFER]);
        let mut socket = Socket::new(buffer(), buffer());
        socket.set_nagle_enabled(false);
        let listened = socket.listen(IpListenEndpoint {
            addr: Some(segment.ends.to.into()),
            port: PORT,
        });
        debug_assert_eq!(listened, Ok(()));
        self.connections.push(Connection {
            socket: self.sockets.add(socket),
            ends: segment.ends,
            until,
            reply: None,
        });
    }

    /// A segment comes in.
    pub(super) fn receive(&mut self, asker: Asker, segment: &Segment<'_>, now: Instant) {
        self.asker = Some(asker);
        self.link.received = segment.packet();
        let (link, sockets) = (&mut self.link, &mut self.sockets);
        self.interface.poll_ingress_single(at(now), link, sockets);
    }

    /// Goes on with every connection: what was asked is answered as `answer` says, given the bytes so
    /// far. Returns how many took too long.
    pub(crate) fn converse(&mut self, now: Instant, mut answer: impl FnMut(&[u8]) -> Heard) -> u64 {
        let mut late = 0;
        for connection in &mut self.connections {
            let socket = self.sockets.get_mut::<Socket<'_>>(connection.socket);
            if now >= connection.until {
                late += u64::from(socket.state() != State::Closed);
                socket.abort();
                continue;
            }
            connection.go_on(socket, &mut answer);
        }
        let link = &mut self.link;
        let sockets = &mut self.sockets;
        while link.sent.len() < SENT_AT_ONCE {
            let before = link.sent.len();
            self.interface.poll_egress(at(now), link, sockets);
            if link.sent.len() == before {
                break;
            }
        }
        self.connections.retain(|connection| {
            // What waits after the end is over: the guest has acknowledged everything (RFC 9293
            // §3.6.1 would keep the pair of ports from being used again for a while).
            let state = sockets.get::<Socket<'_>>(connection.socket).state();
            let over = matches!(state, State::Closed | State::Listen | State::TimeWait);
            if over {
                sockets.remove(connection.socket);
                self.ended.push(connection.ends);
            }
            !over
        });
        late
    }

    /// The frames to be sent, without MACs.
    pub(crate) fn take_frames(&mut self) -> impl Iterator<Item = OwnedFrame> + '_ {
        self.link.sent.drain(..).map(|bytes| OwnedFrame {
            bytes,
            ..OwnedFrame::default()
        })
    }

    /// The connections that ended since this was asked last.
    pub(super) fn take_ended(&mut self) -> Vec<Ends> {
        std::mem::take(&mut self.ended)
    }

    /// When it is to be looked at again; `None`: it has no connections.
    pub(super) fn next_deadline(&mut self, now: Instant) -> Option<Instant> {
        let last = self.connections.iter().map(|it| it.until).min()?;
        let due = self.interface.poll_at(at(now), &self.sockets);
        let due = due.map(|due| Instant::from_millis(due.total_millis().max(0) as u64));
        Some(due.map_or(last, |due| due.min(last)))
    }
}

impl Connection {
    fn go_on(&mut self, socket: &mut Socket<'_>, answer: &mut impl FnMut(&[u8]) -> Heard) {
        if self.reply.is_none() && socket.can_recv() {
            // Nothing is taken out before the head is whole, so that it begins where the buffer does.
            let heard = socket.peek(BUFFER).map(answer);
            if let Ok(Heard::Say(reply)) = heard {
                self.reply = Some((reply, 0));
            }
        }
        match &mut self.reply {
            Some((reply, said)) => {
                let head = reply.head.len();
                while socket.can_send() {
                    let rest = match *said < head {
                        true => &reply.head[*said..],
                        false => &reply.content[*said - head..],
                    };
                    let Ok(more @ 1..) = socket.send_slice(rest) else {
                        break;
                    };
                    *said += more;
                }
                // What else the guest says is not listened to.
                let _ = socket.recv(|bytes| (bytes.len(), ()));
                if *said == head + reply.content.len() {
                    socket.close();
                }
            }
            // It ended before it asked.
            None if socket.state() == State::CloseWait => socket.abort(),
            None => {}
        }
    }
}

impl Segment<'_> {
    /// A packet with a plain header before it, which says nothing but where it is from and to.
    fn packet(&self) -> Vec<u8> {
        let header = IpRepr::new(
            self.ends.from.0.into(),
            self.ends.to.into(),
            IpProtocol::Tcp,
            self.bytes.len(),
            TTL,
        );
        let mut packet = vec![0; header.header_len() + self.bytes.len()];
        header.emit(&mut packet[..], &unverified());
        packet[header.header_len()..].copy_from_slice(self.bytes);
        packet
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let connections = self.connections.len();
        let mut out = f.debug_struct("Endpoint");
        let out = out.field("asker", &self.asker);
        out.field("connections", &connections)
            .finish_non_exhaustive()
    }
}
