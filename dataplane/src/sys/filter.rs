//! The socket filter of an uplink: a classic BPF program that lets in what is for the router.
//!
//! An uplink is shared with the host. Without it the kernel would copy every frame of the host's
//! own traffic to us as well, super-frames included, only for us to drop it.
//!
//! The program is made of blocks, one inside the other. A block either says what becomes of the
//! frame, or ends and leaves it to the block after it. The kernel has taken the tag out of the bytes
//! by then and shows it aside.

use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::{AsRawFd, OwnedFd};

use ipnet::{IpNet, Ipv6Net};
use libc::{sock_filter, sock_fprog};
use tapgate_engine::addr::MacAddr;

use crate::shared::{Shared, SharedAddress, disjoint, of_ports};

/// Most MACs that are told apart by a filter: the program is searched from its start for each frame.
const MOST: usize = 256;
/// Most prefixes behind us that are told apart from the host's other addresses.
const MOST_PREFIXES: usize = 64;
/// The longest program the kernel takes (BPF_MAXINSNS).
const LONGEST: usize = 4096;

const LOAD_WORD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const LOAD_HALF: u16 = (libc::BPF_LD | libc::BPF_H | libc::BPF_ABS) as u16;
const LOAD_BYTE: u16 = (libc::BPF_LD | libc::BPF_B | libc::BPF_ABS) as u16;
/// The half-word at an offset from what was loaded last by [`LOAD_IPV4_LENGTH`].
const LOAD_HALF_BEYOND: u16 = (libc::BPF_LD | libc::BPF_H | libc::BPF_IND) as u16;
const LOAD_IPV4_LENGTH: u16 = (libc::BPF_LDX | libc::BPF_B | libc::BPF_MSH) as u16;
const AND: u16 = (libc::BPF_ALU | libc::BPF_AND | libc::BPF_K) as u16;
const JUMP: u16 = (libc::BPF_JMP | libc::BPF_JA) as u16;
const JUMP_IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const JUMP_IF_ABOVE: u16 = (libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K) as u16;
const JUMP_IF_NOT_BELOW: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
const JUMP_IF_SET: u16 = (libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
const ALL: u32 = u32::MAX;
const NOTHING: u32 = 0;
/// Where the kernel shows the tag; 0 without one.
const TAG: u32 = (libc::SKF_AD_OFF + libc::SKF_AD_VLAN_TAG) as u32;

/// fe80::/10 (RFC 4291 §2.4).
const LINK_LOCAL: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10);

/// Offsets in a frame without a tag.
const ETHERTYPE: u32 = 12;
const IP: u32 = 14;
const IPV6_PAYLOAD: u32 = IP + 40;

type Block = Vec<sock_filter>;

/// Has `socket` receive only broadcasts, multicasts and frames to `macs`. Of frames to the MACs of
/// `shared` it receives only what can be ours. If `macs` is `None` or too many, it receives all.
///
/// # Errors
/// The kernel refuses the program.
pub fn attach(socket: &OwnedFd, macs: Option<&[MacAddr]>, shared: &[Shared]) -> io::Result<()> {
    let program = match macs {
        Some(macs) if macs.len() <= MOST => program(macs, shared),
        _ => take(ALL),
    };
    let fprog = sock_fprog {
        len: program.len() as u16,
        filter: program.as_ptr().cast_mut(),
    };
    // SAFETY: `fprog` points to `len` instructions, which the kernel copies.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const fprog).cast(),
            size_of_val(&fprog) as libc::socklen_t,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

fn program(macs: &[MacAddr], shared: &[Shared]) -> Block {
    let mut program = [
        // The group bit (IEEE 802 §8.2).
        vec![load(LOAD_BYTE, 0)],
        when(JUMP_IF_SET, 1, take(ALL)),
    ]
    .concat();
    for mac in macs {
        program.extend(when_to(*mac, take(ALL)));
    }
    for shared in shared {
        program.extend(when_to(shared.mac, when_in_vlan(shared)));
    }
    program.extend(take(NOTHING));
    if program.len() > LONGEST {
        return take(ALL);
    }
    program
}

fn when_to(MacAddr([a, b, c, d, e, f]): MacAddr, then: Block) -> Block {
    let (high, low) = ([a, b], [c, d, e, f]);
    let high = when(JUMP_IF_EQUAL, u16::from_be_bytes(high).into(), then);
    let then = [vec![load(LOAD_HALF, 0)], high].concat();
    let low = when(JUMP_IF_EQUAL, u32::from_be_bytes(low), then);
    [vec![load(LOAD_WORD, 2)], low].concat()
}

/// VLAN 0 means no VLAN (IEEE 802.1Q §9.6), as if there were no tag.
fn when_in_vlan(shared: &Shared) -> Block {
    let (vlan, then) = (shared.vlan.unwrap_or(0), to_shared_mac(shared));
    let tag = vec![load(LOAD_HALF, TAG), instruction(AND, 0, 0, 0x0fff)];
    [tag, when(JUMP_IF_EQUAL, vlan.into(), then)].concat()
}

/// What can be ours of frames to a MAC of the host's: ARP, and IP to shared addresses as below, to
/// the link-local one and to what is behind us.
fn to_shared_mac(shared: &Shared) -> Block {
    let (mut ipv4, mut ipv6) = (Vec::new(), Vec::new());
    for own in &shared.addresses {
        match own.address {
            IpAddr::V4(_) => ipv4.extend(when_in(own.address.into(), to_shared_ipv4(own))),
            IpAddr::V6(_) => ipv6.extend(when_in(own.address.into(), to_shared_ipv6(own))),
        }
    }
    ipv6.extend(when_in(IpNet::V6(LINK_LOCAL), to_link_local()));
    let behind = shared.guests.iter().chain(&shared.alive);
    if behind.clone().count() > MOST_PREFIXES {
        ipv4.extend(take(ALL));
        ipv6.extend(take(ALL));
    } else {
        for prefix in behind {
            match prefix {
                IpNet::V4(_) => ipv4.extend(when_in(*prefix, take(ALL))),
                IpNet::V6(_) => ipv6.extend(when_in(*prefix, take(ALL))),
            }
        }
        ipv4.extend(take(NOTHING));
        ipv6.extend(take(NOTHING));
    }
    [
        vec![load(LOAD_HALF, ETHERTYPE)],
        when(JUMP_IF_EQUAL, libc::ETH_P_ARP as u32, take(ALL)),
        when(JUMP_IF_EQUAL, libc::ETH_P_IP as u32, ipv4),
        when(JUMP_IF_EQUAL, libc::ETH_P_IPV6 as u32, ipv6),
        take(NOTHING),
    ]
    .concat()
}

/// In an IP packet: when it is sent to `prefix`.
fn when_in(prefix: IpNet, then: Block) -> Block {
    let (offset, address, length) = match prefix {
        IpNet::V4(net) => (IP + 16, net.network().octets().to_vec(), net.prefix_len()),
        IpNet::V6(net) => (IP + 24, net.network().octets().to_vec(), net.prefix_len()),
    };
    let words = address.chunks_exact(4).map(|word| word.iter());
    let words = words.map(|word| word.fold(0, |word, byte| word << 8 | u32::from(*byte)));
    let mut block = then;
    for (n, word) in (0..).zip(words).collect::<Vec<_>>().into_iter().rev() {
        let mut test = vec![load(LOAD_WORD, offset + 4 * n)];
        match u32::from(length).saturating_sub(32 * n) {
            0 => continue,
            bits @ 1..32 => test.push(instruction(AND, 0, 0, u32::MAX << (32 - bits))),
            _ => {}
        }
        block = [test, when(JUMP_IF_EQUAL, word, block)].concat();
    }
    block
}

/// ICMP, our ports, and fragments, of which only the first has ports.
fn to_shared_ipv4(own: &SharedAddress) -> Block {
    let load_port = [
        instruction(LOAD_IPV4_LENGTH, 0, 0, IP),
        instruction(LOAD_HALF_BEYOND, 0, 0, IP + 2),
    ];
    [
        vec![load(LOAD_HALF, IP + 6)],
        when(JUMP_IF_SET, 0x1fff, take(ALL)),
        vec![load(LOAD_BYTE, IP + 9)],
        when(JUMP_IF_EQUAL, libc::IPPROTO_ICMP as u32, take(ALL)),
        when_ours(own, &load_port),
        take(NOTHING),
    ]
    .concat()
}

/// ICMPv6, our ports, and every packet with extension headers, of which there are few.
fn to_shared_ipv6(own: &SharedAddress) -> Block {
    let mut block = vec![load(LOAD_BYTE, IP + 6)];
    for next in [
        libc::IPPROTO_ICMPV6,
        libc::IPPROTO_HOPOPTS,
        libc::IPPROTO_ROUTING,
        libc::IPPROTO_FRAGMENT,
        libc::IPPROTO_DSTOPTS,
    ] {
        block.extend(when(JUMP_IF_EQUAL, next as u32, take(ALL)));
    }
    block.extend(when_ours(own, &[load(LOAD_HALF, IPV6_PAYLOAD + 2)]));
    block.extend(take(NOTHING));
    block
}

/// ICMPv6: neighbours are asked, and answer, by the MAC's link-local address.
fn to_link_local() -> Block {
    [
        vec![load(LOAD_BYTE, IP + 6)],
        when(JUMP_IF_EQUAL, libc::IPPROTO_ICMPV6 as u32, take(ALL)),
        take(NOTHING),
    ]
    .concat()
}

/// With the protocol loaded: packets to the ports that are ours.
fn when_ours(own: &SharedAddress, load_port: &[sock_filter]) -> Block {
    let mut block = Vec::new();
    for (protocol, ports) in own.ports() {
        let mut then = load_port.to_vec();
        for (first, last) in disjoint(ports.iter().map(of_ports)) {
            then.extend([
                instruction(JUMP_IF_NOT_BELOW, 0, 2, first as u32),
                instruction(JUMP_IF_ABOVE, 1, 0, last as u32),
            ]);
            then.extend(take(ALL));
        }
        then.extend(take(NOTHING));
        block.extend(when(JUMP_IF_EQUAL, protocol.into(), then));
    }
    block
}

/// What follows is done if the loaded value compares so with `value`, else skipped. Conditional
/// jumps alone reach no further than 255 instructions.
fn when(compare: u16, value: u32, then: Block) -> Block {
    let skip = instruction(JUMP, 0, 0, then.len() as u32);
    [vec![instruction(compare, 1, 0, value), skip], then].concat()
}

/// The frame's end: so many bytes of it are taken.
fn take(bytes: u32) -> Block {
    vec![instruction(RETURN, 0, 0, bytes)]
}

const fn load(what: u16, offset: u32) -> sock_filter {
    instruction(what, 0, 0, offset)
}

const fn instruction(code: u16, jt: u8, jf: u8, k: u32) -> sock_filter {
    sock_filter { code, jt, jf, k }
}
