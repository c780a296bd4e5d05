//! Random frames, mostly plausible; made byte by byte, so that no reader writes what it reads.

/// Random numbers that repeat: SplitMix64.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    fn percent(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next() as u8).collect()
    }
}

const ICMP: u8 = 1;
const IGMP: u8 = 2;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const ESP: u8 = 50;
const AUTH: u8 = 51;
const ICMPV6: u8 = 58;
const NONE: u8 = 59;
const DESTINATION_OPTIONS: u8 = 60;

/// One frame as on the wire.
pub(crate) fn frame(random: &mut Random) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0];
    frame.push(random.below(8) as u8 + 0x10);
    let tagged = random.percent(5);
    if tagged {
        let priority = random.of(&[0, 0x20, 0x70]);
        frame.extend([0x81, 0, priority, random.below(3) as u8]);
    }
    let start = frame.len() + 2;
    match random.below(100) {
        0..45 => {
            frame.extend([0x08, 0x00]);
            frame.extend(ipv4(random));
        }
        45..90 => {
            frame.extend([0x86, 0xdd]);
            frame.extend(ipv6(random));
        }
        90..98 => {
            frame.extend([0x08, 0x06]);
            let sender = [frame[6], frame[7], frame[8], frame[9], frame[10], frame[11]];
            frame.extend(arp(random, sender));
        }
        _ => {
            frame.extend(random.of(&[[0x88, 0xcc], [0x00, 0x40], [0x88, 0x47]]));
            let length = random.below(60);
            frame.extend(random.bytes(length));
        }
    }
    if random.percent(15) {
        let padding = random.below(46) + 1;
        frame.extend(vec![0; padding]);
    }
    if random.percent(20) && frame.len() > start {
        mutate(random, &mut frame, start);
    }
    if random.percent(6) {
        frame.truncate(random.below(frame.len()));
    }
    frame
}

/// Overwrites a few bytes of the headers; half of the time an IPv4 header stays right, so that
/// what is behind it is read.
fn mutate(random: &mut Random, frame: &mut [u8], start: usize) {
    for _ in 0..=random.below(3) {
        let at = start + random.below((frame.len() - start).min(80));
        frame[at] = match random.below(3) {
            0 => random.next() as u8,
            1 => frame[at] ^ 1 << random.below(8),
            _ => random.of(&[0, 1, 7, 8, 20, 0x45, 0x46, 0x60, 0xff]),
        };
    }
    if frame[start - 2..start] == [0x08, 0x00] && random.percent(50) {
        fill_checksum(&mut frame[start..]);
    }
}

fn address4(random: &mut Random) -> [u8; 4] {
    let any = random.bytes(4);
    random.of(&[
        [10, 0, 0, 1],
        [198, 51, 100, 9],
        [any[0], any[1], any[2], any[3]],
    ])
}

fn address6(random: &mut Random) -> Vec<u8> {
    let mut address = vec![0x20, 0x01, 0x0d, 0xb8];
    address.extend(random.bytes(12));
    address
}

fn arp(random: &mut Random, sender: [u8; 6]) -> Vec<u8> {
    let mut arp = vec![0, 1, 8, 0, 6, 4, 0, random.of(&[1, 1, 1, 2, 2, 3])];
    arp.extend(sender);
    arp.extend([10, 0, 0, random.below(8) as u8 + 1]);
    arp.extend([0; 6]);
    arp.extend(random.of(&[[10, 0, 0, 254], [10, 0, 0, 254], [10, 0, 0, 7]]));
    arp
}

fn ipv4(random: &mut Random) -> Vec<u8> {
    let options = match random.percent(25) {
        true => options(random),
        false => vec![],
    };
    let (protocol, payload) = match random.percent(4) {
        true => authenticated(random, false),
        false => transport(random, false),
    };
    let header = 20 + options.len();
    let fragment: u16 = match random.below(100) {
        0..80 => random.of(&[0, 0x4000]),
        80..86 => 0x2000,
        86..90 => 0x2000 | random.below(0x2000) as u16,
        90..94 => random.below(0x2000) as u16,
        94..98 => random.of(&[0x8000, 0xc000]),
        _ => random.next() as u16,
    };
    let mut packet = vec![0x40 | (header / 4) as u8, random.of(&[0, 0, 0xc0])];
    packet.extend(((header + payload.len()) as u16).to_be_bytes());
    packet.extend(random.bytes(2));
    packet.extend(fragment.to_be_bytes());
    packet.extend([random.of(&[1, 64, 64, 255]), protocol, 0, 0]);
    packet.extend(address4(random));
    packet.extend(address4(random));
    packet.extend(options);
    packet.extend(payload);
    match random.below(100) {
        0..3 => {
            let sum = random.next() as u16;
            packet[10..12].copy_from_slice(&sum.to_be_bytes());
        }
        // The identifier makes the sum what has two representations in one's complement.
        3 => {
            packet[4..6].fill(0);
            fill_checksum(&mut packet);
            let identifier = [packet[10], packet[11]];
            packet[4..6].copy_from_slice(&identifier);
            packet[10..12].fill(0xff);
        }
        // Right but for the reserved flag.
        4 => {
            fill_checksum(&mut packet);
            packet[6] ^= 0x80;
        }
        _ => fill_checksum(&mut packet),
    }
    packet
}

fn options(random: &mut Random) -> Vec<u8> {
    let mut options = match random.below(8) {
        0 => vec![1, 1, 1, 1],
        1 => vec![7, 7, 4, 0, 0, 0, 0],
        2 => vec![148, 4, 0, 0],
        3 => vec![131, 7, 4, 10, 0, 0, 1],
        4 => vec![1, 137, 7, 4, 10, 0, 0, 1],
        5 => vec![0, 131, 7, 4],
        6 => vec![68, 1, 131, 9],
        _ => {
            let length = random.below(40) + 1;
            random.bytes(length)
        }
    };
    options.resize(options.len().next_multiple_of(4), 0);
    options
}

/// RFC 1071, over the header as long as it says it is, as far as it is there.
fn fill_checksum(packet: &mut [u8]) {
    let length = (usize::from(packet[0] & 0xf) * 4).min(packet.len()) & !1;
    if length < 12 {
        return;
    }
    packet[10..12].fill(0);
    let words = packet[..length].chunks(2);
    let sum: u32 = words
        .map(|word| u32::from(word[0]) << 8 | u32::from(word[1]))
        .sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    packet[10..12].copy_from_slice(&(!folded as u16).to_be_bytes());
}

fn ipv6(random: &mut Random) -> Vec<u8> {
    let (mut next, mut payload) = match random.percent(4) {
        true => authenticated(random, true),
        false => transport(random, true),
    };
    let extensions = match random.below(100) {
        0..50 => 0,
        50..98 => random.below(4) + 1,
        _ => random.below(12),
    };
    for _ in 0..extensions {
        let kind = random.of(&[ROUTING, FRAGMENT, DESTINATION_OPTIONS, DESTINATION_OPTIONS]);
        (next, payload) = extension(random, kind, next, payload);
    }
    if random.percent(15) {
        (next, payload) = extension(random, 0, next, payload);
    }
    // Also where it may not be.
    if random.percent(1) {
        (next, payload) = extension(random, DESTINATION_OPTIONS, next, payload);
    }
    let length = match random.below(100) {
        0 => 0, // as a jumbogram has it
        _ => payload.len() as u16,
    };
    let mut packet = vec![0x60, random.of(&[0, 0x0b]), 0, 0];
    packet.extend(length.to_be_bytes());
    packet.extend([next, random.of(&[1, 64, 255])]);
    packet.extend(address6(random));
    packet.extend(address6(random));
    packet.extend(payload);
    packet
}

fn extension(random: &mut Random, kind: u8, next: u8, payload: Vec<u8>) -> (u8, Vec<u8>) {
    let mut header = vec![next];
    if kind == FRAGMENT {
        let offset = match random.below(5) {
            0 | 1 => 0, // an atomic fragment
            2 => 1,
            3 => random.next() as u16 & 0xfff9,
            _ => random.of(&[2, 4, 6, 0x0104]),
        };
        header.push(random.of(&[0, 0, 0, 1, 9]));
        header.extend(offset.to_be_bytes());
        header.extend(random.bytes(4));
    } else {
        let units = random.of(&[0, 0, 0, 1, 2]);
        header.push(units as u8);
        match kind {
            ROUTING => header.extend([random.of(&[0, 2, 4]), random.of(&[0, 1]), 0, 0, 0, 0]),
            _ => header.extend(random.of(&[[1, 4, 0, 0, 0, 0], [5, 2, 0, 0, 1, 0]])),
        }
        header.extend(vec![0; units * 8]);
    }
    header.extend(payload);
    (kind, header)
}

/// An authentication header (RFC 4302 §2) before a transport header.
fn authenticated(random: &mut Random, v6: bool) -> (u8, Vec<u8>) {
    let (next, payload) = transport(random, v6);
    let mut header = vec![next, random.of(&[4, 4, 4, 0, 60])];
    header.extend(random.bytes(22));
    header.extend(payload);
    (AUTH, header)
}

/// A protocol and its packet; few have a right checksum, which nobody reads here.
fn transport(random: &mut Random, v6: bool) -> (u8, Vec<u8>) {
    let length = random.below(40);
    let payload = random.bytes(length);
    let own = if v6 { ICMPV6 } else { ICMP };
    let protocol = random.of(&[
        TCP, TCP, TCP, UDP, UDP, UDP, own, own, own, ICMP, ICMPV6, IGMP, ESP, NONE, 253,
    ]);
    let mut bytes = random.bytes(4);
    match protocol {
        TCP => {
            let options = random.of(&[0, 0, 4, 12, 20, 40]);
            bytes.extend(random.bytes(8));
            let offset = match random.percent(4) {
                true => random.below(16),
                false => 5 + options / 4,
            };
            bytes.push((offset << 4) as u8 | random.of(&[0, 0, 1]));
            bytes.push(random.of(&[2, 0x12, 0x10, 0x18, 0x11, 4, 0xc2, random.0 as u8]));
            bytes.extend(random.bytes(6));
            bytes.extend(vec![1; options]);
            bytes.extend(payload);
        }
        UDP => {
            let length = match random.below(100) {
                0 => 0,
                1 => random.below(8) as u16,
                2 => random.next() as u16,
                _ => 8 + payload.len() as u16,
            };
            bytes.extend(length.to_be_bytes());
            bytes.extend(random.bytes(2));
            bytes.extend(payload);
        }
        ICMP => {
            bytes[0] = random.of(&[8, 8, 0, 0, 3, 11, 12, 5, 4, 13, 14, random.0 as u8]);
            bytes[1] = 0;
            bytes.extend(random.bytes(4));
            bytes.extend(payload);
        }
        ICMPV6 => {
            bytes[0] = random.of(&[
                128,
                128,
                129,
                1,
                2,
                3,
                4,
                133,
                134,
                135,
                135,
                136,
                136,
                137,
                130,
                143,
                5,
                random.0 as u8,
            ]);
            bytes[1] = 0;
            bytes.extend(random.bytes(4));
            if (135..=137).contains(&bytes[0]) {
                bytes.extend(address6(random));
            }
            bytes.extend(payload);
        }
        _ => bytes.extend(payload),
    }
    if random.percent(3) {
        bytes.truncate(random.below(bytes.len()));
    }
    (protocol, bytes)
}
