//! Scans an IPv6 prefix as the world does: for each of many random targets, what a provider's router
//! sends on the link, which is a neighbour solicitation, and an echo request to the router's MAC.
//! The same targets for the same seed.
//!
//! ```text
//! scan DEVICE FROM_IP FROM_MAC TO_MAC PREFIX --count TARGETS --rate TARGETS_PER_SECOND --seed N
//! ```
//! PREFIX is a /64.

use std::error::Error;
use std::net::Ipv6Addr;
use std::process::ExitCode;

use etherparse::PacketBuilder;
use ipnet::Ipv6Net;
use tapgate_engine::addr::MacAddr;
use tapgate_engine::base::random::Random;
use tapgate_tests::inject::{self, option};
use tapgate_tests::packet;

/// ICMPv6 type.
const SOLICITATION: u8 = 135;

fn main() -> ExitCode {
    inject::main("scan", "targets", run)
}

fn run(arguments: &[String]) -> Result<u64, Box<dyn Error>> {
    let [device, from_ip, from_mac, to_mac, prefix, options @ ..] = arguments else {
        return Err("expected: DEVICE FROM_IP FROM_MAC TO_MAC PREFIX".into());
    };
    let count = option(options, "--count", 100_000)?;
    let rate = option(options, "--rate", 10_000)?;
    let mut random = Random::new(option(options, "--seed", 1)?);
    let from: (Ipv6Addr, MacAddr) = (from_ip.parse()?, packet::mac(from_mac));
    let to_mac = packet::mac(to_mac);
    let prefix: Ipv6Net = prefix.parse()?;
    inject::send(device, (count, rate), || {
        let target = Ipv6Addr::from(u128::from(prefix.network()) | u128::from(random.draw()));
        Ok([solicitation(from, target)?, echo(from, (target, to_mac))?])
    })
}

/// Who has `target`? Asked of the group that its owner has joined.
fn solicitation(from: (Ipv6Addr, MacAddr), target: Ipv6Addr) -> Result<Vec<u8>, Box<dyn Error>> {
    let [.., a, b, c] = target.octets();
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
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(from.1.0, [0x33, 0x33, 0xff, a, b, c])
        .ipv6(from.0.octets(), group.octets(), 255)
        .icmpv6_raw(SOLICITATION, 0, [0; 4])
        .write(
            &mut frame,
            &[&target.octets()[..], &[1, 1], &from.1.0].concat(),
        )?;
    Ok(frame)
}

fn echo(from: (Ipv6Addr, MacAddr), to: (Ipv6Addr, MacAddr)) -> Result<Vec<u8>, Box<dyn Error>> {
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(from.1.0, to.1.0)
        .ipv6(from.0.octets(), to.0.octets(), 64)
        .icmpv6_echo_request(1, 1)
        .write(&mut frame, b"scan")?;
    Ok(frame)
}
