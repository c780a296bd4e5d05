//! All attacks at once, as fast as told: what a guest with root in its machine can do, or whoever
//! shares the provider's segment. The same frames for the same seed.
//!
//! ```text
//! attack guest|neighbour DEVICE OWN_MAC OWN4 OWN6 ROUTER_MAC GATEWAY4 VICTIM4 VICTIM6 REMOTE4
//!        --rate FRAMES_PER_SECOND --seconds N --seed N
//! ```
//! OWN is what the attacker has; VICTIM are addresses of another guest, public ones for a neighbour,
//! who also takes VICTIM6 for a prefix of 80 bits. What the attacker cannot send in time it leaves
//! out. Prints `frames=N a_second=N` at the end.

use std::error::Error;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use etherparse::PacketBuilder;
use tapgate_engine::addr::MacAddr;
use tapgate_engine::base::random::Random;
use tapgate_engine::checksum::{checksum, fold, pseudo_header, sum};
use tapgate_tests::inject::{self, Attached, VNET_HEADER, option};
use tapgate_tests::packet::{self, Packet};

/// Frames made beforehand; each is changed a little every time it is sent.
const POOL: usize = 4_000;
/// What is not sent so long after its time is left out.
const LATE: Duration = Duration::from_millis(20);
const GATEWAY6: &str = "fe80::1";
/// Far addresses that nobody has (RFC 2544), the first two bytes.
const FAR: &str = "198.18.0.1";

/// A frame behind its `virtio_net_hdr`, and the bytes that are new every time: a range of the frame.
/// If there are any, its checksums are made right again.
struct Shot {
    bytes: Vec<u8>,
    new: Vec<usize>,
}

impl Shot {
    fn fixed(frame: Vec<u8>) -> Self {
        Self::new(frame, [])
    }

    fn new(frame: Vec<u8>, new: impl IntoIterator<Item = usize>) -> Self {
        Self {
            bytes: [vec![0; VNET_HEADER], frame].concat(),
            new: new.into_iter().collect(),
        }
    }

    /// With metadata: flags, kind of super-frame, header length, segment size, and where the checksum
    /// is.
    fn with(mut self, flags: u8, kind: u8, words: [u16; 4]) -> Self {
        (self.bytes[0], self.bytes[1]) = (flags, kind);
        for (at, word) in words.into_iter().enumerate() {
            self.bytes[2 + 2 * at..4 + 2 * at].copy_from_slice(&word.to_ne_bytes());
        }
        self
    }

    fn renew(&mut self, random: &mut Random) {
        let frame = &mut self.bytes[VNET_HEADER..];
        for at in &self.new {
            frame[*at] = random.draw() as u8;
        }
        if self.new.is_empty() {
            return;
        }
        match (frame[12], frame[20]) {
            (0x08, _) if frame[13] == 0 => {
                frame[24..26].fill(0);
                let check = checksum(&frame[14..34]);
                frame[24..26].copy_from_slice(&check.to_be_bytes());
            }
            (0x86, 58) => {
                frame[56..58].fill(0);
                let length = frame.len() - 54;
                let pseudo = pseudo_header(&frame[22..38], &frame[38..54], 58, length);
                let check = !fold(sum(&frame[54..], pseudo));
                frame[56..58].copy_from_slice(&check.to_be_bytes());
            }
            _ => {}
        }
    }
}

/// Who is who.
struct Scene {
    own: (MacAddr, Ipv4Addr, Ipv6Addr),
    router: MacAddr,
    gateway: Ipv4Addr,
    victim: (Ipv4Addr, Ipv6Addr),
    remote: Ipv4Addr,
}

fn main() -> ExitCode {
    let mut rate = 0;
    let code = inject::main("attack", "frames", |arguments| {
        let (frames, seconds) = run(arguments)?;
        rate = (frames as f64 / seconds) as u64;
        Ok(frames)
    });
    println!("a_second={rate}");
    code
}

fn run(arguments: &[String]) -> Result<(u64, f64), Box<dyn Error>> {
    let [
        role,
        device,
        own_mac,
        own4,
        own6,
        router,
        gateway,
        victim4,
        victim6,
        remote,
        options @ ..,
    ] = arguments
    else {
        return Err("expected: guest|neighbour DEVICE OWN_MAC OWN4 OWN6 ROUTER_MAC GATEWAY4 VICTIM4 VICTIM6 REMOTE4".into());
    };
    let rate = option(options, "--rate", 100_000)?;
    let time = Duration::from_secs(option(options, "--seconds", 10)?);
    let mut random = Random::new(option(options, "--seed", 1)?);
    let scene = Scene {
        own: (packet::mac(own_mac), own4.parse()?, own6.parse()?),
        router: packet::mac(router),
        gateway: gateway.parse()?,
        victim: (victim4.parse()?, victim6.parse()?),
        remote: remote.parse()?,
    };
    let kinds = match role.as_str() {
        "guest" => scene.of_a_guest(),
        "neighbour" => scene.of_a_neighbour(),
        _ => return Err(format!("no such attacker: {role}").into()),
    };
    let weights: usize = kinds.iter().map(|(weight, _)| weight).sum();
    let mut pool: Vec<(u64, Shot)> = Vec::new();
    for (weight, make) in &kinds {
        for _ in 0..POOL * weight / weights {
            pool.push((random.draw(), make(&mut random)));
        }
    }
    pool.sort_by_key(|(order, _)| *order);
    let socket = Attached::to(device)?;
    let start = Instant::now();
    let (mut sent, mut missed) = (0_u64, 0_u64);
    let mut next = 0;
    loop {
        let elapsed = start.elapsed();
        if elapsed >= time {
            return Ok((sent, elapsed.as_secs_f64()));
        }
        let due = (elapsed.as_secs_f64() * rate as f64) as u64 - missed;
        let late = (LATE.as_secs_f64() * rate as f64) as u64;
        if due.saturating_sub(next) > late {
            missed += due - next - late;
            continue;
        }
        while next < due {
            let place = next as usize % pool.len();
            let shot = &mut pool[place].1;
            shot.renew(&mut random);
            sent += u64::from(socket.send(&shot.bytes));
            next += 1;
        }
        thread::sleep(Duration::from_micros(500));
    }
}

type Make<'s> = Box<dyn Fn(&mut Random) -> Shot + 's>;

impl Scene {
    /// By how often: what a guest does.
    fn of_a_guest(&self) -> Vec<(usize, Make<'_>)> {
        let (mac, own, _) = self.own;
        let source = format!("{own}:4000");
        let far = format!("{FAR}:53");
        let near = format!("{}:9", self.remote);
        let link = move |packet: Packet| packet.link(mac, self.router);
        let (here, there) = (source.clone(), far.clone());
        let syn = move |_: &mut Random| {
            let syn = link(packet::tcp(&here, &there, "S", b"")).bytes();
            Shot::new(syn, [31, 32, 33, 34, 35, 36, 37])
        };
        let udp = {
            let (here, there) = (source.clone(), far.clone());
            move |_: &mut Random| {
                let datagram = link(packet::udp(&here, &there, b"")).bytes();
                Shot::new(datagram, [31, 32, 33, 34, 35, 36, 37])
            }
        };
        let plain = move |change: fn(Packet) -> Packet, length: usize| {
            let (here, near) = (source.clone(), near.clone());
            move |_: &mut Random| {
                let packet = link(packet::udp(&here, &near, &vec![7; length]));
                Shot::new(change(packet).bytes(), [18, 19])
            }
        };
        let spoofed = {
            let victim = format!("{}:4000", self.victim.0);
            move |_: &mut Random| {
                Shot::new(link(packet::udp(&victim, &far, b"")).bytes(), [32, 33, 35])
            }
        };
        let claim = [self.gateway, self.victim.0].map(|address| address.to_string());
        let gateway = self.gateway.to_string();
        let own4 = own.to_string();
        vec![
            (30, Box::new(udp)),
            (10, Box::new(syn)),
            (10, Box::new(|_| Shot::new(self.udp6(self.own.2), 46..54))),
            // Neighbours that are not there, and the gateway's own address.
            (6, Box::new(|_| self.advertised(self.own.2, 76..78))),
            (3, Box::new(|_| self.advertised(gateway6(), []))),
            (3, Box::new(|_| self.probed(gateway6()))),
            (4, Box::new(|_| Shot::new(self.who_has(), [41]))),
            (
                3,
                Box::new(move |random| {
                    let whose = &claim[random.draw() as usize % 2];
                    let to = (self.router, gateway.as_str());
                    Shot::fixed(packet::is_at((mac, whose), to).bytes())
                }),
            ),
            (4, Box::new(|_| Shot::fixed(self.multicast_query()))),
            // Errors to be told of, fragments.
            (4, Box::new(plain(|packet| packet.ttl(1), 10))),
            (4, Box::new(plain(Packet::df, 1_472))),
            (2, Box::new(plain(|packet| packet.fragment(0, true), 800))),
            (
                2,
                Box::new(plain(|packet| packet.fragment(800, false), 800)),
            ),
            (5, Box::new(|random| self.malformed(random))),
            (2, Box::new(move |random| self.miswritten(random, &own4))),
            (1, Box::new(|_| self.tiny_segments())),
            (2, Box::new(|_| Shot::fixed(self.router_advertisement()))),
            (4, Box::new(|_| Shot::new(self.discover(), 46..50))),
            (4, Box::new(spoofed)),
        ]
    }

    /// By how often: what a neighbour on the uplink does.
    fn of_a_neighbour(&self) -> Vec<(usize, Make<'_>)> {
        let mac = self.own.0;
        let (victim, victim6) = self.victim;
        let link = move |packet: Packet| packet.link(mac, self.router);
        let to_victim = move |from: String| {
            move |_: &mut Random| {
                let packet = packet::udp(&from, &format!("{victim}:80"), b"");
                Shot::new(link(packet).bytes(), [34, 35, 36, 37])
            }
        };
        let to_prefix = move |_: &mut Random| {
            let from = "2001:db8:ffff::66".parse().unwrap_or(Ipv6Addr::UNSPECIFIED);
            Shot::new(udp6((mac, from), (self.router, victim6)), 48..54)
        };
        vec![
            // As the victim, as an inside address, and as a stranger.
            (20, Box::new(to_victim(format!("{victim}:4000")))),
            (20, Box::new(to_victim("10.0.1.1:4000".to_owned()))),
            (20, Box::new(to_victim("198.18.0.1:4000".to_owned()))),
            (20, Box::new(to_prefix)),
            (8, Box::new(|_| Shot::new(self.solicited(), 72..78))),
            (3, Box::new(|_| self.advertised(self.victim.1, []))),
            (
                3,
                Box::new(move |_| {
                    let to = (self.router, "192.0.2.1");
                    Shot::fixed(packet::is_at((mac, &victim.to_string()), to).bytes())
                }),
            ),
            (3, Box::new(|_| Shot::new(self.who_has(), [40, 41]))),
            (3, Box::new(|random| self.malformed(random))),
        ]
    }

    fn link_local(&self) -> Ipv6Addr {
        let [a, b, c, d, e, f] = self.own.0.0;
        let word = |high, low| u16::from_be_bytes([high, low]);
        Ipv6Addr::new(
            0xfe80,
            0,
            0,
            0,
            word(a ^ 2, b),
            word(c, 0xff),
            word(0xfe, d),
            word(e, f),
        )
    }

    fn udp6(&self, from: Ipv6Addr) -> Vec<u8> {
        let far = Ipv6Addr::new(0x2001, 0xdb8, 0xfffe, 0, 0, 0, 0, 1);
        udp6((self.own.0, from), (self.router, far))
    }

    /// "`target` is at my MAC", to everybody.
    fn advertised(&self, target: Ipv6Addr, new: impl IntoIterator<Item = usize>) -> Shot {
        let body = [&target.octets()[..], &[2, 1], &self.own.0.0].concat();
        let frame = icmp6(
            self.own.0,
            self.link_local(),
            all_nodes(),
            (136, [0x20, 0, 0, 0]),
            &body,
        );
        // A checksum too, if only the target's last bytes are new.
        Shot::new(frame, new)
    }

    /// "I am about to use `target`" (RFC 4862 §5.4.2).
    fn probed(&self, target: Ipv6Addr) -> Shot {
        let group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, 1);
        let body = target.octets();
        let from = Ipv6Addr::UNSPECIFIED;
        Shot::fixed(icmp6(self.own.0, from, group, (135, [0; 4]), &body))
    }

    /// Who has the victim's address, or one beside it?
    fn solicited(&self) -> Vec<u8> {
        let [.., a, b, c] = self.victim.1.octets();
        let group = Ipv6Addr::new(
            0xff02,
            0,
            0,
            0,
            0,
            1,
            0xff00 | u16::from(a),
            u16::from_be_bytes([b, c]),
        );
        let body = [&self.victim.1.octets()[..], &[1, 1], &self.own.0.0].concat();
        icmp6(self.own.0, self.link_local(), group, (135, [0; 4]), &body)
    }

    fn who_has(&self) -> Vec<u8> {
        let own = self.own.1.to_string();
        packet::who_has(&self.victim.0.to_string(), (self.own.0, &own)).bytes()
    }

    /// A general query (RFC 3810 §5.1).
    fn multicast_query(&self) -> Vec<u8> {
        let mut body = vec![0; 20];
        (body[16], body[17]) = (2, 125);
        let plain = icmp6(
            self.own.0,
            self.link_local(),
            all_nodes(),
            (130, [0, 1, 0, 0]),
            &body,
        );
        // The router-alert option goes between the header and the message.
        let mut frame = plain[..54].to_vec();
        frame.extend([58, 0, 5, 2, 0, 0, 1, 0]);
        frame.extend(&plain[54..]);
        (frame[19], frame[20], frame[21]) = (frame[19] + 8, 0, 1);
        frame
    }

    fn router_advertisement(&self) -> Vec<u8> {
        let body = [0; 8];
        let life = [64, 0, 0x07, 0x08];
        icmp6(
            self.own.0,
            self.link_local(),
            all_nodes(),
            (134, life),
            &body,
        )
    }

    fn discover(&self) -> Vec<u8> {
        let mut body = vec![1, 1, 6, 0];
        body.resize(28, 0);
        body.extend(self.own.0.0);
        body.resize(236, 0);
        body.extend([0x63, 0x82, 0x53, 0x63, 53, 1, 1, 255]);
        let mut frame = Vec::new();
        PacketBuilder::ethernet2(self.own.0.0, [0xff; 6])
            .ipv4([0; 4], [255; 4], 64)
            .udp(68, 67)
            .write(&mut frame, &body)
            .expect("to memory");
        (frame[40], frame[41]) = (0, 0); // no checksum: the transaction's number changes
        frame
    }

    /// A datagram whose "checksum" is its destination port, for the next kernel to write.
    fn miswritten(&self, _: &mut Random, own: &str) -> Shot {
        let there = format!("{}:9", self.remote);
        let datagram = packet::udp(&format!("{own}:4000"), &there, b"datagram");
        let frame = datagram.link(self.own.0, self.router).bytes();
        Shot::fixed(frame).with(1, 0, [0, 0, 34, 2])
    }

    /// A super-frame that is to be cut into segments of one byte.
    fn tiny_segments(&self) -> Shot {
        let (here, there) = (format!("{}:4000", self.own.1), format!("{}:9", self.remote));
        let segment = packet::tcp(&here, &there, "P.", &[7; 200]);
        let frame = segment.link(self.own.0, self.router).bytes();
        Shot::fixed(frame).with(1, 1, [54, 1, 34, 16])
    }

    fn malformed(&self, random: &mut Random) -> Shot {
        let (here, there) = (format!("{}:4000", self.own.1), format!("{}:9", self.remote));
        let datagram = packet::udp(&here, &there, &[7; 64]);
        let mut frame = datagram.link(self.own.0, self.router).bytes();
        for _ in 0..4 {
            let at = 12 + random.draw() as usize % 30;
            frame[at] = random.draw() as u8;
        }
        frame.truncate(14 + random.draw() as usize % frame.len());
        Shot::fixed(frame)
    }
}

fn gateway6() -> Ipv6Addr {
    GATEWAY6.parse().expect("an address")
}

fn all_nodes() -> Ipv6Addr {
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1)
}

fn udp6(from: (MacAddr, Ipv6Addr), to: (MacAddr, Ipv6Addr)) -> Vec<u8> {
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(from.0.0, to.0.0)
        .ipv6(from.1.octets(), to.1.octets(), 64)
        .udp(4000, 53)
        .write(&mut frame, b"")
        .expect("to memory");
    frame
}

/// An ICMPv6 message to a group: type and the four bytes behind the checksum, then the rest.
fn icmp6(
    mac: MacAddr,
    from: Ipv6Addr,
    group: Ipv6Addr,
    (kind, rest): (u8, [u8; 4]),
    body: &[u8],
) -> Vec<u8> {
    let [.., a, b, c, d] = group.octets();
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(mac.0, [0x33, 0x33, a, b, c, d])
        .ipv6(from.octets(), group.octets(), 255)
        .icmpv6_raw(kind, 0, rest)
        .write(&mut frame, body)
        .expect("to memory");
    frame
}
