//! A guest on the fd side of a TAP: what QEMU is to a VM, as cheap as a socket.
//!
//! [`Guest`] is a network stack, smoltcp's, whose NIC is the descriptor of a real TAP. The netdev of
//! that TAP is what a `device` port attaches to. One thread drives many guests by calling
//! [`Guest::poll`] in turn.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use std::net::Ipv4Addr;

use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{self, ChecksumCapabilities, Device, DeviceCapabilities, Medium};
use smoltcp::socket::{dhcpv4, icmp, tcp, udp};
use smoltcp::time::Instant;
use smoltcp::wire::{
    EthernetAddress, HardwareAddress, Icmpv4Packet, Icmpv4Repr, IpAddress, IpCidr, IpEndpoint,
};
use tapgate_engine::addr::MacAddr;
use tun_tap::{Iface, Mode};

/// Bytes of the largest frame: there are no super-frames without `virtio_net_hdr`.
const FRAME: usize = 1_514;
/// A guest.
pub struct Guest {
    nic: Nic,
    interface: Interface,
    sockets: SocketSet<'static>,
    echo: SocketHandle,
    datagrams: SocketHandle,
    /// The identifier of its echo requests.
    identifier: u16,
    dhcp: Option<SocketHandle>,
    download: Option<Download>,
    sequence: u16,
    /// Echo requests that wait for their answers.
    unanswered: BTreeSet<u16>,
}

/// What is fetched by TCP.
struct Download {
    socket: SocketHandle,
    bytes: Vec<u8>,
}

impl Guest {
    /// Opens the fd side of the TAP `tap` in the caller's network namespace, and makes the TAP if
    /// there is none; it goes with the guest unless it is persistent. The netdev must be set up.
    ///
    /// # Errors
    /// Not allowed, no `/dev/net/tun`, or another has the TAP.
    pub fn new(
        tap: &str,
        mac: MacAddr,
        address: (Ipv4Addr, u8),
        gateway: Ipv4Addr,
    ) -> io::Result<Self> {
        let mut guest = Self::without_address(tap, mac)?;
        guest.configure(address.0, address.1, Some(gateway));
        Ok(guest)
    }

    /// The same, but the guest asks for its address by DHCP.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn by_dhcp(tap: &str, mac: MacAddr) -> io::Result<Self> {
        let mut guest = Self::without_address(tap, mac)?;
        guest.dhcp = Some(guest.sockets.add(dhcpv4::Socket::new()));
        Ok(guest)
    }

    fn without_address(tap: &str, mac: MacAddr) -> io::Result<Self> {
        let mut nic = Nic {
            tap: Iface::without_packet_info(tap, Mode::Tap)?,
            received: 0,
        };
        nic.tap.set_non_blocking()?;
        let hardware = HardwareAddress::Ethernet(EthernetAddress(mac.0));
        let interface = Interface::new(Config::new(hardware), &mut nic, Instant::now());
        let mut sockets = SocketSet::new(Vec::new());
        let packets =
            || icmp::PacketBuffer::new(vec![icmp::PacketMetadata::EMPTY; 16], vec![0; 2_048]);
        let mut echo = icmp::Socket::new(packets(), packets());
        let identifier = u16::from_be_bytes([mac.0[4], mac.0[5]]);
        echo.bind(icmp::Endpoint::Ident(identifier))
            .expect("not bound yet");
        let packets =
            || udp::PacketBuffer::new(vec![udp::PacketMetadata::EMPTY; 16], vec![0; 16_384]);
        Ok(Self {
            nic,
            interface,
            echo: sockets.add(echo),
            datagrams: sockets.add(udp::Socket::new(packets(), packets())),
            sockets,
            identifier,
            dhcp: None,
            download: None,
            sequence: 0,
            unanswered: BTreeSet::new(),
        })
    }

    fn configure(&mut self, address: Ipv4Addr, length: u8, gateway: Option<Ipv4Addr>) {
        self.interface.update_ip_addrs(|addresses| {
            addresses.clear();
            let address = IpCidr::new(IpAddress::Ipv4(address), length);
            addresses.push(address).expect("room for one");
        });
        if let Some(gateway) = gateway {
            let routes = self.interface.routes_mut();
            routes
                .add_default_ipv4_route(gateway)
                .expect("room for one");
        }
    }

    /// The guest's address, once it has one.
    pub fn address(&self) -> Option<Ipv4Addr> {
        self.interface.ipv4_addr()
    }

    /// Frames that came in.
    pub fn received(&self) -> u64 {
        self.nic.received
    }

    /// Does what can be done now: reads all frames that wait, answers, sends what is due.
    pub fn poll(&mut self) {
        let now = Instant::now();
        self.interface.poll(now, &mut self.nic, &mut self.sockets);
        self.configured();
        self.pongs();
        if let Some(download) = &mut self.download {
            let socket = self.sockets.get_mut::<tcp::Socket>(download.socket);
            while socket.can_recv() {
                let read = socket.recv(|bytes| {
                    download.bytes.extend_from_slice(bytes);
                    (bytes.len(), ())
                });
                read.expect("it can receive");
            }
            if socket.state() == tcp::State::CloseWait {
                socket.close();
            }
        }
        self.interface.poll(now, &mut self.nic, &mut self.sockets);
    }

    fn configured(&mut self) {
        let Some(handle) = self.dhcp else { return };
        let event = self.sockets.get_mut::<dhcpv4::Socket>(handle).poll();
        if let Some(dhcpv4::Event::Configured(lease)) = event {
            let (address, gateway) = (lease.address, lease.router);
            self.configure(address.address(), address.prefix_len(), gateway);
        }
    }

    fn pongs(&mut self) {
        let socket = self.sockets.get_mut::<icmp::Socket>(self.echo);
        while let Ok((message, _)) = socket.recv() {
            let reply = Icmpv4Packet::new_checked(message)
                .and_then(|packet| Icmpv4Repr::parse(&packet, &ChecksumCapabilities::default()));
            if let Ok(Icmpv4Repr::EchoReply { seq_no, .. }) = reply {
                self.unanswered.remove(&seq_no);
            }
        }
    }

    /// Sends an echo request, which waits until its next hop is resolved. smoltcp's answers do not
    /// wait for that, so the first request between two guests may stay unanswered.
    pub fn ping(&mut self, to: Ipv4Addr) {
        let request = Icmpv4Repr::EchoRequest {
            ident: self.identifier,
            seq_no: self.sequence,
            data: b"are you there?",
        };
        self.unanswered.insert(self.sequence);
        self.sequence = self.sequence.wrapping_add(1);
        let socket = self.sockets.get_mut::<icmp::Socket>(self.echo);
        let space = socket.send(request.buffer_len(), IpAddress::Ipv4(to));
        let mut packet = Icmpv4Packet::new_unchecked(space.expect("room for a request"));
        request.emit(&mut packet, &ChecksumCapabilities::default());
        self.poll();
    }

    /// Echo requests that were not answered so far.
    pub fn unanswered(&self) -> usize {
        self.unanswered.len()
    }

    /// Waits for no answer to what was sent so far.
    pub fn forget_pings(&mut self) {
        self.unanswered.clear();
    }

    /// Begins to fetch what a server sends until it closes the connection. One at a time.
    pub fn fetch(&mut self, server: (Ipv4Addr, u16), local_port: u16) {
        if let Some(before) = self.download.take() {
            self.sockets.remove(before.socket);
        }
        let buffer = |length| tcp::SocketBuffer::new(vec![0; length]);
        let mut socket = tcp::Socket::new(buffer(65_535), buffer(1_024));
        let remote = IpEndpoint::new(IpAddress::Ipv4(server.0), server.1);
        socket
            .connect(self.interface.context(), remote, local_port)
            .expect("an address and a port");
        self.download = Some(Download {
            socket: self.sockets.add(socket),
            bytes: Vec::new(),
        });
        self.poll();
    }

    /// The state of the connection by which it fetches.
    pub fn connection(&self) -> Option<tcp::State> {
        let download = self.download.as_ref()?;
        Some(self.sockets.get::<tcp::Socket>(download.socket).state())
    }

    /// What was fetched so far, and whether the server has sent all.
    pub fn fetched(&self) -> (&[u8], bool) {
        let bytes = match &self.download {
            Some(download) => &download.bytes[..],
            None => &[],
        };
        let done = matches!(
            self.connection(),
            Some(tcp::State::LastAck | tcp::State::Closed | tcp::State::TimeWait)
        );
        (bytes, done && !bytes.is_empty())
    }

    /// Sends a frame as it is, whatever it says.
    pub fn transmit(&mut self, frame: &[u8]) {
        let sending = Sending(&self.nic.tap);
        phy::TxToken::consume(sending, frame.len(), |buffer| buffer.copy_from_slice(frame));
    }

    /// Sends a datagram.
    pub fn send(&mut self, local_port: u16, to: (Ipv4Addr, u16), payload: &[u8]) {
        let socket = self.sockets.get_mut::<udp::Socket>(self.datagrams);
        if !socket.is_open() {
            socket.bind(local_port).expect("a port");
        }
        let to = IpEndpoint::new(IpAddress::Ipv4(to.0), to.1);
        socket.send_slice(payload, to).expect("room for a datagram");
        self.poll();
    }

    /// A datagram that came in.
    pub fn receive(&mut self) -> Option<Vec<u8>> {
        let socket = self.sockets.get_mut::<udp::Socket>(self.datagrams);
        let (payload, _) = socket.recv().ok()?;
        Some(payload.to_vec())
    }
}

/// The guest's NIC.
struct Nic {
    tap: Iface,
    received: u64,
}

/// A frame that came in.
struct Received {
    bytes: [u8; FRAME],
    length: usize,
}

/// Leave to send one frame.
struct Sending<'a>(&'a Iface);

impl Device for Nic {
    type RxToken<'a> = Received;
    type TxToken<'a> = Sending<'a>;

    fn receive(&mut self, _now: Instant) -> Option<(Received, Sending<'_>)> {
        let mut frame = Received {
            bytes: [0; FRAME],
            length: 0,
        };
        match self.tap.recv(&mut frame.bytes) {
            Ok(length) => frame.length = length,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return None,
            Err(error) => panic!("{}: {error}", self.tap.name()),
        }
        self.received += 1;
        Some((frame, Sending(&self.tap)))
    }

    fn transmit(&mut self, _now: Instant) -> Option<Sending<'_>> {
        Some(Sending(&self.tap))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = FRAME;
        capabilities
    }
}

impl phy::RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.bytes[..self.length])
    }
}

impl phy::TxToken for Sending<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, f: F) -> R {
        let mut frame = vec![0; length];
        let result = f(&mut frame);
        // A NIC without a link (EIO) loses what is sent, and so does a full queue.
        let _ = self.0.send(&frame);
        result
    }
}
