//! Sends malformed and malicious frames on a device, the same ones for the same seed: every kind
//! of packet a router reads, with fields at their extremes, cut short, and with bytes flipped.
//!
//! ```text
//! hostile DEVICE FROM_IP FROM_MAC TO_IP TO_MAC --count N --rate N --seed N
//! ```
//! The frames are addressed to TO_MAC (a few to broadcast, multicast and unknown MACs) and most of
//! their packets to TO_IP or beyond it. FROM_IP should be an address that nothing else uses, since
//! a neighbour may well believe these frames.

use std::error::Error;
use std::process::ExitCode;

use tapgate_engine::addr::MacAddr;
use tapgate_engine::base::random::Random;
use tapgate_tests::inject::{self, option};
use tapgate_tests::packet::{self, Packet};

/// Longest frame that a device with an MTU of 1500 takes.
const LONGEST: usize = 1514;
const REMOTE: &str = "198.51.100.1";

fn main() -> ExitCode {
    inject::main("hostile", "sent", run)
}

fn run(arguments: &[String]) -> Result<u64, Box<dyn Error>> {
    let [device, from_ip, from_mac, to_ip, to_mac, options @ ..] = arguments else {
        return Err("expected: DEVICE FROM_IP FROM_MAC TO_IP TO_MAC".into());
    };
    let count = option(options, "--count", 10_000)?;
    let rate = option(options, "--rate", 5_000)?;
    let mut random = Random::new(option(options, "--seed", 1)?);
    let (from, to) = (packet::mac(from_mac), packet::mac(to_mac));
    let templates = templates((from, from_ip), (to, to_ip));
    inject::send(device, (count, rate), || {
        let template = &templates[below(&mut random, templates.len())];
        Ok([spoil(template, &mut random)])
    })
}

/// Well-formed frames of every kind.
fn templates((from, from_ip): (MacAddr, &str), (to, to_ip): (MacAddr, &str)) -> Vec<Vec<u8>> {
    let source = format!("{from_ip}:4000");
    let beyond = format!("{REMOTE}:9");
    let near = format!("{to_ip}:53");
    let inner = packet::udp(&beyond, &source, b"inner").packet();
    let link = |packet: Packet| packet.link(from, to);
    let packets = vec![
        link(packet::udp(&source, &beyond, b"datagram")),
        link(packet::udp(&source, &near, b"datagram")),
        link(packet::udp(&source, &beyond, &[7; 1400])).df(),
        link(packet::udp(&source, &beyond, &[7; 800])).fragment(0, true),
        link(packet::udp(&source, &beyond, &[7; 800])).fragment(800, false),
        link(packet::udp(&source, "255.255.255.255:67", b"broadcast")),
        link(packet::udp(&source, "224.0.0.251:5353", b"multicast")),
        link(packet::udp("127.0.0.1:1", &beyond, b"martian")),
        link(packet::udp("0.0.0.0:68", &beyond, b"martian")),
        link(packet::udp("224.0.0.1:1", &beyond, b"martian")),
        link(packet::udp("169.254.1.1:1", &beyond, b"link-local")),
        link(packet::tcp(&source, &beyond, "S", b"")),
        link(packet::tcp(&source, &beyond, "P.", b"segment")),
        link(packet::tcp(&source, &near, "R", b"")),
        link(packet::ping(from_ip, REMOTE, 7, 1, b"echo")).ttl(1),
        link(packet::ping(from_ip, to_ip, 7, 1, &[7; 1200])),
        link(packet::ping(from_ip, REMOTE, 7, 1, b"options")).options(&[7, 7, 4, 0, 0, 0, 0, 0]),
        link(packet::ping(from_ip, REMOTE, 7, 1, b"route")).options(&[131, 7, 4, 10, 0, 1, 9, 0]),
        link(packet::error(from_ip, to_ip, (3, 4), [0, 0, 0, 68], &inner)),
        link(packet::error(from_ip, REMOTE, (11, 0), [0; 4], &inner)),
        link(packet::error(from_ip, to_ip, (5, 1), [10, 0, 1, 9], &inner)),
        link(packet::ip(from_ip, REMOTE, 47, b"GRE")),
        link(packet::ip(from_ip, to_ip, 255, b"reserved")),
        link(packet::ip(from_ip, REMOTE, 50, b"ESP")).vlan(7),
    ];
    let mut frames: Vec<Vec<u8>> = packets.iter().map(Packet::bytes).collect();
    frames.push(packet::who_has(to_ip, (from, from_ip)).bytes());
    frames.push(packet::is_at((from, from_ip), (to, to_ip)).bytes());
    frames.push(packet::tagged(
        &packet::who_has(to_ip, (from, from_ip)).bytes(),
        Some(4095),
    ));
    // A neighbour solicitation, an IPv6 hop-by-hop header, an LLC frame, a runt.
    frames.push(ethernet(
        from,
        to,
        0x86dd,
        &ipv6(58, &[135, 0, 0, 0, 0, 0, 0, 0, 0xfe, 0x80]),
    ));
    frames.push(ethernet(
        from,
        to,
        0x86dd,
        &ipv6(0, &[17, 255, 5, 2, 0, 0, 1, 0]),
    ));
    frames.push(ethernet(from, to, 38, &[0x42, 0x42, 3]));
    frames.push(ethernet(from, to, 0x0800, &[]));
    frames
}

fn ipv6(next_header: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0, 0, payload.len() as u8, next_header, 255];
    packet.extend([0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9]);
    packet.extend([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    packet.extend(payload);
    packet
}

fn ethernet(from: MacAddr, to: MacAddr, ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::from(to.0);
    frame.extend(from.0);
    frame.extend(ethertype.to_be_bytes());
    frame.extend(payload);
    frame
}

/// A copy of `frame` with a few things wrong, or nothing.
fn spoil(frame: &[u8], random: &mut Random) -> Vec<u8> {
    let mut below = |limit| below(random, limit);
    let mut frame = frame.to_vec();
    for _ in 0..below(4) {
        let length = frame.len();
        match below(8) {
            0 => frame.truncate(14 + below(length - 13)),
            1 => frame.extend((0..below(LONGEST)).map(|i| i as u8)),
            2 => frame[0] |= 1, // to a group
            3 => frame[..6].fill(0xff),
            4 => frame[5] ^= 0x55, // to nobody
            // A field at its extreme: in the packet's header, or anywhere.
            5 if length > 34 => frame[14 + below(20)] = [0, 0xff][below(2)],
            _ if length > 14 => frame[14 + below(length - 14)] ^= 1 << below(8),
            _ => {}
        }
        frame.truncate(LONGEST);
    }
    frame
}

/// The next random number below `limit`.
fn below(random: &mut Random, limit: usize) -> usize {
    (random.draw() % limit as u64) as usize
}
