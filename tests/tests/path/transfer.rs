//! Two real TCP endpoints, smoltcp's, talk through the router: the client is a guest behind SNAT,
//! the server is on the provider's link, and frames are lost, duplicated and overtake each other.

use std::collections::VecDeque;
use std::time::Duration;

use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp;
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpAddress, IpCidr};
use tapgate_engine::addr::MacAddr;
use tapgate_tests::packet::unfinished;
use tapgate_tests::recipe::{GUEST_A, PROVIDER};
use tapgate_tests::router::Router;

/// What is sent each way, in bytes.
const LENGTH: usize = 1 << 20;
/// When the router's clock starts, in milliseconds.
const START: u64 = 1_000_000;
/// Time after which a transfer has failed.
const DEADLINE: Duration = Duration::from_secs(600);

/// The personality's prefix covers the server, so that no other router is needed.
const CONFIG: &str = r#"
[router]
sessions = 64
[ports]
uplink = { memory = true }
guest  = { memory = true }
[personalities.A]
port = "uplink"
mac = "02:00:00:00:00:aa"
addresses = ["203.0.113.10/24"]
[networks.a]
ports = ["guest"]
addresses = ["10.0.1.254/24"]
[tables]
out = [{ to = "default", dev = "A", via = "203.0.113.1" }]
[routing]
rules = [{ priority = 20000, from = "10.0.1.0/24", lookup = "out" }]
[nat]
snat = [{ from = "10.0.1.0/24", to = "203.0.113.10" }]
"#;

#[test]
fn a_megabyte_each_way() {
    let (router, lost) = transfer(Faults::NONE);
    assert_eq!(lost, 0);
    assert!(router.now.as_millis() < START + 5_000, "{:?}", router.now);
}

#[test]
fn a_megabyte_each_way_over_a_bad_link() {
    let (router, lost) = transfer(Faults {
        lost: 2,
        overtaken: 5,
        doubled: 1,
    });
    assert!(lost > 20, "{lost} frames lost: the link was not bad");
    let sessions = router.sessions();
    assert_eq!(
        sessions.len(),
        1,
        "one connection, one session: {sessions:?}"
    );
}

/// Windows are scaled and full, segments come as super-frames, and some are lost: FIN from both ends
/// is believed, whatever is under way.
#[test]
fn p02_ends_of_large_transfers_are_inside_of_the_window() {
    for faults in [Faults::NONE, Faults::SOME] {
        let mut talk = Talk::new(LARGE, faults);
        talk.until(|client, server| client.is_done() && server.is_done());
        assert_eq!(talk.state(), "established");
        talk.client.socket().close();
        talk.server.socket().close();
        let closed = |host: &mut Host| {
            let state = host.socket().state();
            matches!(state, tcp::State::Closed | tcp::State::TimeWait)
        };
        talk.until(|client, server| closed(client) && closed(server));
        assert_eq!(talk.state(), "closing");
    }
}

/// The same for a RST in the middle of it: the one that comes first, or one that answers what was still
/// under way.
#[test]
fn p02_resets_of_large_transfers_are_inside_of_the_window() {
    for faults in [Faults::NONE, Faults::SOME] {
        for guest in [true, false] {
            let mut talk = Talk::new(LARGE, faults);
            talk.until(|client, server| client.received.min(server.received) > LENGTH / 2);
            assert_eq!(talk.state(), "established");
            let host = if guest {
                &mut talk.client
            } else {
                &mut talk.server
            };
            host.socket().abort();
            for _ in 0..2_000 {
                talk.step();
            }
            assert_eq!(talk.state(), "reset", "by the guest: {guest}");
        }
    }
}

/// How bad a link is, in percent of frames.
#[derive(Debug, Clone, Copy)]
struct Faults {
    lost: u64,
    overtaken: u64,
    doubled: u64,
}

impl Faults {
    const NONE: Self = Self {
        lost: 0,
        overtaken: 0,
        doubled: 0,
    };
    const SOME: Self = Self {
        lost: 1,
        overtaken: 1,
        doubled: 1,
    };
}

/// What the ends are like.
#[derive(Debug, Clone, Copy)]
struct Ends {
    /// The largest frame they send, in bytes. What exceeds the link comes as a super-frame.
    frame: usize,
    /// Bytes they buffer each way.
    buffer: usize,
}

const SMALL: Ends = Ends {
    frame: 1_514,
    buffer: 65_535,
};
/// Offers windows that need scaling (RFC 7323 §2).
const LARGE: Ends = Ends {
    frame: 64_000,
    buffer: 500_000,
};

/// A client inside, a server outside, the router and two links between them.
struct Talk {
    router: Router,
    link: Link,
    client: Host,
    server: Host,
}

impl Talk {
    fn new(ends: Ends, faults: Faults) -> Self {
        let router = Router::new(CONFIG);
        let (inside, gateway, outside) = ([10, 0, 1, 1], [10, 0, 1, 254], [203, 0, 113, 1]);
        let now = router.now;
        let mut client = Host::new("guest", GUEST_A, (inside, Some(gateway)), ends, now);
        let mut server = Host::new("uplink", PROVIDER, (outside, None), ends, now);
        server.socket().listen(443).unwrap();
        client.connect(outside, 443);
        let link = Link {
            faults,
            random: 0x9e37_79b9_7f4a_7c15,
            lost: 0,
        };
        Self {
            router,
            link,
            client,
            server,
        }
    }

    /// What happens in a millisecond.
    fn step(&mut self) {
        for host in [&mut self.client, &mut self.server] {
            host.poll(&mut self.router, &mut self.link);
        }
        self.router.advance(Duration::from_millis(1));
        for host in [&mut self.client, &mut self.server] {
            let sent = self
                .router
                .take(host.port)
                .into_iter()
                .map(|sent| sent.bytes);
            self.link.carry(sent.collect(), &mut host.device.received);
        }
    }

    fn until(&mut self, done: impl Fn(&mut Host, &mut Host) -> bool) {
        let start = self.router.now;
        while !done(&mut self.client, &mut self.server) {
            let passed = self.router.now.since(start);
            assert!(passed < DEADLINE, "{:?}\n{:?}", self.client, self.server);
            self.step();
        }
    }

    /// The state of the one session.
    fn state(&self) -> &'static str {
        let sessions = self.router.sessions();
        assert_eq!(sessions.len(), 1, "{sessions:?}");
        sessions[0].state
    }
}

/// Sends [`LENGTH`] bytes each way at once; returns the router and how many frames were lost.
fn transfer(faults: Faults) -> (Router, u64) {
    let mut talk = Talk::new(SMALL, faults);
    talk.until(|client, server| client.is_done() && server.is_done());
    let peer = talk.server.socket().remote_endpoint().unwrap().addr;
    assert_eq!(
        peer,
        IpAddress::v4(203, 0, 113, 10),
        "the server sees the public address"
    );
    (talk.router, talk.link.lost)
}

/// An endpoint: sends a pattern, and checks that it receives the other's.
struct Host {
    port: &'static str,
    device: Queues,
    interface: Interface,
    sockets: SocketSet<'static>,
    handle: SocketHandle,
    sent: usize,
    received: usize,
}

impl Host {
    fn new(
        port: &'static str,
        mac: MacAddr,
        (address, gateway): ([u8; 4], Option<[u8; 4]>),
        ends: Ends,
        now: tapgate_engine::time::Instant,
    ) -> Self {
        let mut device = Queues {
            frame: ends.frame,
            ..Queues::default()
        };
        let config = Config::new(HardwareAddress::Ethernet(EthernetAddress(mac.0)));
        let mut interface = Interface::new(config, &mut device, time(now));
        interface.update_ip_addrs(|list| {
            list.push(IpCidr::new(IpAddress::Ipv4(address.into()), 24))
                .unwrap();
        });
        if let Some(gateway) = gateway {
            interface
                .routes_mut()
                .add_default_ipv4_route(gateway.into())
                .unwrap();
        }
        let buffer = || tcp::SocketBuffer::new(vec![0; ends.buffer]);
        let mut sockets = SocketSet::new(Vec::new());
        let handle = sockets.add(tcp::Socket::new(buffer(), buffer()));
        Self {
            port,
            device,
            interface,
            sockets,
            handle,
            sent: 0,
            received: 0,
        }
    }

    fn connect(&mut self, to: [u8; 4], port: u16) {
        let socket = self.sockets.get_mut::<tcp::Socket>(self.handle);
        let remote = (IpAddress::Ipv4(to.into()), port);
        socket
            .connect(self.interface.context(), remote, 50_000)
            .unwrap();
    }

    fn socket(&mut self) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut::<tcp::Socket>(self.handle)
    }

    /// Does what can be done now, and hands what it sends to the router.
    fn poll(&mut self, router: &mut Router, link: &mut Link) {
        self.interface
            .poll(time(router.now), &mut self.device, &mut self.sockets);
        let (mut sent, mut received) = (self.sent, self.received);
        let socket = self.socket();
        while socket.can_recv() {
            received += socket
                .recv(|bytes| {
                    for (n, byte) in bytes.iter().enumerate() {
                        assert_eq!(*byte, pattern(received + n), "at {}", received + n);
                    }
                    (bytes.len(), bytes.len())
                })
                .unwrap();
        }
        while socket.can_send() && sent < LENGTH {
            sent += socket
                .send(|space| {
                    let length = space.len().min(LENGTH - sent);
                    for (n, byte) in space[..length].iter_mut().enumerate() {
                        *byte = pattern(sent + n);
                    }
                    (length, length)
                })
                .unwrap();
        }
        (self.sent, self.received) = (sent, received);
        self.interface
            .poll(time(router.now), &mut self.device, &mut self.sockets);
        let mut arriving = VecDeque::new();
        link.carry(self.device.sent.drain(..).collect(), &mut arriving);
        for bytes in arriving {
            match unfinished(&bytes, Some(1_460)) {
                Some(frame) if bytes.len() > 1_514 => router.inject_frame(self.port, frame),
                _ => router.inject(self.port, &bytes),
            };
        }
    }

    fn is_done(&mut self) -> bool {
        self.received == LENGTH && self.sent == LENGTH && self.socket().send_queue() == 0
    }
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{}: sent {}, received {}",
            self.port, self.sent, self.received
        )
    }
}

/// The byte at `at` of what is sent.
fn pattern(at: usize) -> u8 {
    (at ^ at >> 8 ^ at >> 16) as u8
}

fn time(now: tapgate_engine::time::Instant) -> Instant {
    Instant::from_millis(now.as_millis() as i64)
}

/// A wire with faults, the same ones in every run.
struct Link {
    faults: Faults,
    random: u64,
    lost: u64,
}

impl Link {
    fn carry(&mut self, frames: Vec<Vec<u8>>, to: &mut VecDeque<Vec<u8>>) {
        for frame in frames {
            if self.happens(self.faults.lost) {
                self.lost += 1;
                continue;
            }
            if self.happens(self.faults.doubled) {
                to.push_back(frame.clone());
            }
            to.push_back(frame);
            if to.len() > 1 && self.happens(self.faults.overtaken) {
                let last = to.len() - 1;
                to.swap(last, last - 1);
            }
        }
    }

    fn happens(&mut self, percent: u64) -> bool {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % 100 < percent
    }
}

/// A host's network card: what came in and what goes out.
#[derive(Default)]
struct Queues {
    frame: usize,
    received: VecDeque<Vec<u8>>,
    sent: Vec<Vec<u8>>,
}

struct Received(Vec<u8>);
struct Sending<'a>(&'a mut Vec<Vec<u8>>);

impl Device for Queues {
    type RxToken<'a> = Received;
    type TxToken<'a> = Sending<'a>;

    fn receive(&mut self, _now: Instant) -> Option<(Received, Sending<'_>)> {
        let frame = self.received.pop_front()?;
        Some((Received(frame), Sending(&mut self.sent)))
    }

    fn transmit(&mut self, _now: Instant) -> Option<Sending<'_>> {
        Some(Sending(&mut self.sent))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = self.frame;
        capabilities
    }
}

impl RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

impl TxToken for Sending<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, f: F) -> R {
        let mut frame = vec![0; length];
        let result = f(&mut frame);
        self.0.push(frame);
        result
    }
}
