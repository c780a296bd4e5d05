//! Fifty guests on real TAPs, each a network stack of its own, behind `device` ports; a provider
//! with a server on a veth. The kernel in the router's place passes the same check, so that the
//! check itself is known to be right. Needs root, iproute2 and nftables.

mod place;
mod provider;

use std::io;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use tapgate_engine::addr::MacAddr;
use tapgate_tests::guest::Guest;
use tapgate_tests::netns;
use tapgate_tests::packet::{self, is_at};

use place::{Kernel, Place, Tapgate};
use provider::{ECHO, LENGTH, PACED, Provider, SERVER, TOGETHER, pattern};

/// How many guests there are.
const GUESTS: usize = 50;
/// These die and return: the TAP of the first goes with it, the other's stays where tapgate made it.
const MORTAL: [usize; 2] = [12, 7];
/// This one forges that one's address.
const FORGER: usize = 3;
const VICTIM: usize = 4;
/// A stack asks for a MAC once a second.
const AGAIN: Duration = Duration::from_millis(1_050);
/// What takes longer has failed. It takes a second or two on a machine that has time.
const PATIENCE: Duration = Duration::from_secs(20);
/// The router's address and MAC towards the guests.
const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 254);
const GATEWAY_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
/// The address they leave by.
const PUBLIC: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 10);

#[test]
fn fifty_guests_behind_device_ports() {
    let forgeries = check(&mut Tapgate::new());
    assert!(forgeries > 0, "what was forged is counted");
}

#[test]
fn fifty_guests_behind_the_kernel() {
    check(&mut Kernel::new());
}

/// The check; what the router says about forgeries.
fn check(router: &mut impl Place) -> u64 {
    netns::enter_new();
    let provider = Provider::new();
    router.start();
    let booted = (0..GUESTS).map(|number| boot(router, number, false));
    let mut lab = Lab {
        guests: booted.collect::<Result<_, _>>().expect("fifty TAPs"),
    };

    lab.ping("the gateway, found by ARP", |_| GATEWAY);
    provider.expect_together(GUESTS);
    lab.fetch(0..GUESTS, TOGETHER, 40_000);
    let mut ports: Vec<u16> = (0..GUESTS).map(|number| lab.fetched(number)).collect();
    ports.sort_unstable();
    ports.dedup();
    assert_eq!(ports.len(), GUESTS, "each has an external port of its own");
    lab.ping("another guest", |number| address(next(number)));
    let others = || (0..GUESTS).filter(|number| !MORTAL.contains(number));
    for number in others() {
        lab.guests[number].fetch((SERVER, PACED), 40_001);
    }
    lab.guests[MORTAL[0]].fetch((SERVER, PACED), 40_001);
    lab.pass(Duration::from_millis(200));
    for number in MORTAL {
        lab.kill(number);
    }
    lab.ping_while(Duration::from_millis(400), others());
    for number in MORTAL {
        lab.guests[number] = boot(router, number, true).expect("its TAP again");
    }
    lab.ping_while(Duration::from_millis(200), others());
    lab.finish("what was under way", others());
    for number in others() {
        lab.fetched(number);
    }
    provider.expect_together(MORTAL.len());
    lab.until("an address, given anew", |lab| {
        lab.guests.iter().all(|guest| guest.address().is_some())
    });
    assert_eq!(lab.guests[MORTAL[1]].address(), Some(address(MORTAL[1])));
    lab.fetch(MORTAL, TOGETHER, 40_002);
    lab.ping("another guest, as before", |number| address(next(number)));

    lab.forge(&provider);
    router.forgeries()
}

/// A guest starts: its TAP is opened, and the netdev set up as libvirt does.
fn boot(router: &mut impl Place, number: usize, again: bool) -> io::Result<Guest> {
    let (tap, mac) = (tap(number), mac(number));
    let guest = match again && router.has_dhcp() {
        true => Guest::by_dhcp(&tap, mac)?,
        false => Guest::new(&tap, mac, (address(number), 24), GATEWAY)?,
    };
    router.attached(number);
    Ok(guest)
}

fn tap(number: usize) -> String {
    format!("g{number}")
}

fn mac(number: usize) -> MacAddr {
    MacAddr([0x52, 0x54, 0, 0, 1, number as u8])
}

fn address(number: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, 1 + number as u8)
}

/// The next guest that lives on.
fn next(number: usize) -> usize {
    let mut following = (1..).map(|n| (number + n) % GUESTS);
    following
        .find(|next| !MORTAL.contains(next))
        .expect("there is one")
}

/// All guests, driven by one thread.
struct Lab {
    guests: Vec<Guest>,
}

impl Lab {
    fn pass(&mut self, duration: Duration) {
        let end = Instant::now() + duration;
        while Instant::now() < end {
            self.poll();
        }
    }

    fn poll(&mut self) {
        for guest in &mut self.guests {
            guest.poll();
        }
        std::thread::sleep(Duration::from_micros(200));
    }

    /// What each guest still waits for.
    fn state(&self) -> String {
        let guests = self.guests.iter().enumerate().map(|(number, guest)| {
            let (address, pings) = (guest.address(), guest.unanswered());
            let (bytes, done) = guest.fetched();
            let (bytes, connection) = (bytes.len(), guest.connection());
            format!("guest {number}, {address:?}: {pings} pings unanswered; {bytes} bytes, {connection:?}, done: {done}\n")
        });
        guests.collect()
    }

    fn until(&mut self, what: &str, mut condition: impl FnMut(&mut Self) -> bool) {
        let start = Instant::now();
        let end = start + PATIENCE;
        while !condition(self) {
            assert!(
                Instant::now() < end,
                "{what}: not within {PATIENCE:?}\n{}",
                self.state()
            );
            self.poll();
        }
        println!("{what}: {} ms", start.elapsed().as_millis());
    }

    /// Everybody pings until everybody has been answered once; stacks such as these lose the first.
    fn ping(&mut self, what: &str, whom: impl Fn(usize) -> Ipv4Addr) {
        let mut waiting: Vec<usize> = (0..GUESTS).collect();
        let mut due = Instant::now();
        self.until(what, |lab| {
            if due <= Instant::now() {
                due = Instant::now() + AGAIN;
                for number in &waiting {
                    lab.guests[*number].forget_pings();
                    lab.guests[*number].ping(whom(*number));
                }
            }
            waiting.retain(|number| lab.guests[*number].unanswered() != 0);
            waiting.is_empty()
        });
    }

    /// These ping each other all the while, and not one answer is missing.
    fn ping_while(&mut self, duration: Duration, who: impl Iterator<Item = usize>) {
        let who: Vec<usize> = who.collect();
        for number in &who {
            self.guests[*number].forget_pings();
        }
        let end = Instant::now() + duration;
        while Instant::now() < end {
            for number in &who {
                self.guests[*number].ping(address(next(*number)));
            }
            self.pass(Duration::from_millis(20));
        }
        self.until("every answer", |lab| {
            who.iter()
                .all(|number| lab.guests[*number].unanswered() == 0)
        });
    }

    /// These fetch from the server, from the same local port, at the same time.
    fn fetch(&mut self, who: impl IntoIterator<Item = usize>, from: u16, local_port: u16) {
        let who: Vec<usize> = who.into_iter().collect();
        for number in &who {
            self.guests[*number].fetch((SERVER, from), local_port);
        }
        self.finish("a download", who.iter().copied());
        for number in who {
            self.fetched(number);
        }
    }

    fn finish(&mut self, what: &str, who: impl Iterator<Item = usize>) {
        let who: Vec<usize> = who.collect();
        self.until(what, |lab| {
            who.iter().all(|number| lab.guests[*number].fetched().1)
        });
    }

    /// The guest has fetched everything, and the server saw the public address; the port it saw.
    fn fetched(&self, number: usize) -> u16 {
        let (bytes, done) = self.guests[number].fetched();
        assert!(done, "guest {number}");
        let end = bytes
            .iter()
            .position(|byte| *byte == b'\n')
            .expect("a line");
        let seen = String::from_utf8_lossy(&bytes[..end]);
        let (address, port) = seen.split_once(':').expect("an address and a port");
        assert_eq!(address, PUBLIC.to_string(), "guest {number}");
        let rest = &bytes[end + 1..];
        assert_eq!(rest.len(), LENGTH, "guest {number}");
        let same = rest
            .iter()
            .enumerate()
            .all(|(at, byte)| *byte == pattern(at));
        assert!(same, "guest {number} received something else");
        port.parse().expect("a port")
    }

    /// Its descriptor is closed, like that of a QEMU that ends.
    fn kill(&mut self, number: usize) {
        let nobody = Guest::new("gone%d", mac(number), (address(number), 24), GATEWAY);
        self.guests[number] = nobody.expect("a TAP that nobody attaches to");
    }

    /// A guest sends under another's address and gets nothing, nor does the other; under its own
    /// it is heard as before.
    fn forge(&mut self, provider: &Provider) {
        let server = format!("{SERVER}:{ECHO}");
        let forged = [
            packet::udp(&format!("{}:5000", address(VICTIM)), &server, b"forged")
                .link(mac(FORGER), GATEWAY_MAC)
                .bytes(),
            // The victim's MAC as well.
            packet::udp(&format!("{}:5000", address(VICTIM)), &server, b"forged")
                .link(mac(VICTIM), GATEWAY_MAC)
                .bytes(),
            is_at(
                (mac(FORGER), &address(VICTIM).to_string()),
                (GATEWAY_MAC, &GATEWAY.to_string()),
            )
            .bytes(),
        ];
        for guest in [FORGER, VICTIM] {
            self.guests[guest].send(5_000, (SERVER, ECHO), b"honest");
        }
        for frame in forged {
            self.guests[FORGER].transmit(&frame);
        }
        self.guests[FORGER].send(5_000, (SERVER, ECHO), b"the last");
        let mut answers = vec![Vec::new(); GUESTS];
        self.until("answers to datagrams", |lab| {
            for number in [FORGER, VICTIM] {
                while let Some(answer) = lab.guests[number].receive() {
                    answers[number].push(answer);
                }
            }
            answers[FORGER].len() == 2 && !answers[VICTIM].is_empty()
        });
        self.pass(Duration::from_millis(200));
        assert_eq!(answers[FORGER], [&b"honest"[..], b"the last"]);
        assert_eq!(answers[VICTIM], [b"honest"]);
        assert_eq!(self.guests[VICTIM].receive(), None);
        assert_eq!(provider.heard("forged"), 0, "nothing forged has left");
        self.ping("another guest, the victim among them", |number| {
            address(next(number))
        });
    }
}
