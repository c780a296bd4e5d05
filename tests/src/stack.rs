//! A guest in memory with a real TCP stack, smoltcp's, behind a port of a [`Router`] under test.
//!
//! [`Router`]: crate::router::Router

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Duration;

use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{self, Device, DeviceCapabilities, Medium};
use smoltcp::socket::tcp::{self, State};
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpAddress, IpCidr, IpEndpoint};
use tapgate_engine::addr::MacAddr;
use tapgate_engine::frame::OwnedFrame;

use crate::packet::unfinished;
use crate::router::Router;

/// Bytes of the largest frame.
const FRAME: usize = 1_514;

/// A guest with a TCP stack.
pub struct Stack {
    port: String,
    nic: Nic,
    interface: Interface,
    sockets: SocketSet<'static>,
    next_port: u16,
    /// Leaves checksums to be finished by whoever puts its frames on a wire, as a guest with
    /// virtio-net does.
    pub leaves_checksums: bool,
}

/// A connection of a [`Stack`].
#[derive(Debug, Clone, Copy)]
pub struct Connection(SocketHandle);

impl Stack {
    /// A guest behind `port` with these addresses (such as "10.0.1.1/24"); its default gateway is
    /// `gateway`.
    pub fn new(port: &str, mac: MacAddr, addresses: &[&str], gateway: &str) -> Self {
        let mut nic = Nic::default();
        let mut config = Config::new(HardwareAddress::Ethernet(EthernetAddress(mac.0)));
        config.random_seed = 11;
        let mut interface = Interface::new(config, &mut nic, Instant::ZERO);
        interface.update_ip_addrs(|own| {
            for address in addresses {
                let address: IpCidr = address.parse().expect("an address with its length");
                own.push(address).expect("two at most");
            }
        });
        if let Ok(gateway) = gateway.parse() {
            let routes = interface.routes_mut();
            routes.add_default_ipv4_route(gateway).expect("room for it");
        }
        Self {
            port: port.to_owned(),
            nic,
            interface,
            sockets: SocketSet::new(Vec::new()),
            next_port: 49_152,
            leaves_checksums: false,
        }
    }

    /// Begins to connect.
    pub fn connect(&mut self, router: &mut Router, to: (&str, u16)) -> Connection {
        let buffer = || tcp::SocketBuffer::new(vec![0; 32_768]);
        let mut socket = tcp::Socket::new(buffer(), buffer());
        let to = to.0.parse::<IpAddr>().map(|address| (address, to.1));
        let (address, port) = to.expect("an address");
        let remote = IpEndpoint::new(IpAddress::from(address), port);
        self.next_port += 1;
        let context = self.interface.context();
        let connected = socket.connect(context, remote, self.next_port);
        connected.expect("an address to speak from");
        let connection = Connection(self.sockets.add(socket));
        self.run(router, Duration::from_millis(20));
        connection
    }

    /// Says `bytes` by a connection.
    pub fn say(&mut self, router: &mut Router, connection: Connection, bytes: &[u8]) {
        let socket = self.sockets.get_mut::<tcp::Socket<'_>>(connection.0);
        let said = socket.send_slice(bytes).expect("it is open");
        assert_eq!(said, bytes.len(), "more than fits");
        self.run(router, Duration::from_millis(20));
    }

    /// What came by a connection and was not heard before.
    pub fn hear(&mut self, connection: Connection) -> Vec<u8> {
        let socket = self.sockets.get_mut::<tcp::Socket<'_>>(connection.0);
        let mut heard = Vec::new();
        while socket.can_recv() {
            let more = socket.recv(|bytes| (bytes.len(), bytes.to_vec()));
            heard.extend(more.expect("it can"));
        }
        heard
    }

    /// How far a connection is.
    pub fn state(&self, connection: Connection) -> State {
        self.sockets.get::<tcp::Socket<'_>>(connection.0).state()
    }

    /// Closes a connection, and does not wait for the other end.
    pub fn close(&mut self, router: &mut Router, connection: Connection) {
        let socket = self.sockets.get_mut::<tcp::Socket<'_>>(connection.0);
        socket.close();
        self.run(router, Duration::from_millis(20));
    }

    /// Connects to port 80, sends a request as it is, and waits until the other end closes. Empty if it
    /// does not within five seconds.
    pub fn request(&mut self, router: &mut Router, to: &str, request: &str) -> String {
        let connection = self.connect(router, (to, 80));
        let mut heard = Vec::new();
        for _ in 0..250 {
            if self.state(connection) == State::Established && !request.is_empty() {
                break;
            }
            self.run(router, Duration::from_millis(20));
        }
        if self.state(connection) != State::Established {
            return String::new();
        }
        self.say(router, connection, request.as_bytes());
        for _ in 0..250 {
            heard.extend(self.hear(connection));
            if self.state(connection) != State::Established {
                break;
            }
            self.run(router, Duration::from_millis(20));
        }
        heard.extend(self.hear(connection));
        self.close(router, connection);
        self.sockets.remove(connection.0);
        String::from_utf8(heard).expect("text")
    }

    /// The status line and the content of the answer to `GET path`.
    pub fn get(&mut self, router: &mut Router, to: &str, path: &str) -> (String, String) {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {to}\r\n\r\n");
        let answer = self.request(router, to, &request);
        let (head, content) = answer.split_once("\r\n\r\n").unwrap_or(("", ""));
        let status = head.lines().next().unwrap_or_default();
        (status.to_owned(), content.to_owned())
    }

    /// Time passes for the guest and the router, and frames go back and forth.
    pub fn run(&mut self, router: &mut Router, duration: Duration) {
        let end = router.now + duration;
        loop {
            let mut moved = true;
            while moved {
                let now = Instant::from_millis(router.now.as_millis() as i64);
                self.interface.poll(now, &mut self.nic, &mut self.sockets);
                let frames: Vec<Vec<u8>> = self.nic.sent.drain(..).collect();
                moved = !frames.is_empty();
                for bytes in frames {
                    router.inject_frame(&self.port, self.as_sent(bytes));
                }
                router.advance(Duration::ZERO);
                let heard = router.take(&self.port);
                moved |= !heard.is_empty();
                self.nic
                    .received
                    .extend(heard.into_iter().map(|it| it.bytes));
            }
            if router.now >= end {
                return;
            }
            router.wait(5);
        }
    }

    fn as_sent(&self, bytes: Vec<u8>) -> OwnedFrame {
        let plain = |bytes| OwnedFrame {
            bytes,
            ..OwnedFrame::default()
        };
        match self.leaves_checksums {
            true => unfinished(&bytes, None).unwrap_or_else(|| plain(bytes)),
            false => plain(bytes),
        }
    }
}

#[derive(Default)]
struct Nic {
    received: VecDeque<Vec<u8>>,
    sent: VecDeque<Vec<u8>>,
}

struct Received(Vec<u8>);
struct Sending<'n>(&'n mut VecDeque<Vec<u8>>);

impl Device for Nic {
    type RxToken<'a> = Received;
    type TxToken<'a> = Sending<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Received, Sending<'_>)> {
        let frame = self.received.pop_front()?;
        Some((Received(frame), Sending(&mut self.sent)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Sending<'_>> {
        Some(Sending(&mut self.sent))
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
        f(&self.0)
    }
}

impl phy::TxToken for Sending<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, f: F) -> R {
        let mut frame = vec![0; length];
        let result = f(&mut frame);
        self.0.push_back(frame);
        result
    }
}
