//! Lengths and checksums that are right, so that a frame gets past the first look.

use tapgate_engine::checksum::{checksum, fold, pseudo_header, sum};

const ETHERNET: usize = 14;
/// The longest ICMP error that the harness lets pass (F09), and its Ethernet header.
const LONGEST_ERROR: usize = 576 + ETHERNET;

/// Where a frame's transport header is.
pub(crate) struct Transport {
    pub(crate) ipv4: bool,
    pub(crate) protocol: u8,
    /// Its place in the frame.
    pub(crate) at: usize,
    /// Where its checksum is, from there.
    pub(crate) checksum: usize,
    /// The packet's end.
    end: usize,
}

/// The transport header of an untagged frame whose packet is no fragment; behind IPv6 extension
/// headers it is not looked for.
pub(crate) fn transport(frame: &[u8]) -> Option<Transport> {
    let ip = frame.get(ETHERNET..)?;
    let (ipv4, protocol, header, length) = match frame.get(12..14)? {
        [0x08, 0x00] if ip.len() >= 20 => {
            let fragment = u16::from_be_bytes([ip[6], ip[7]]) & 0x3fff != 0;
            let length = usize::from(u16::from_be_bytes([ip[2], ip[3]]));
            (
                true,
                if fragment { 255 } else { ip[9] },
                usize::from(ip[0] & 0xf) * 4,
                length,
            )
        }
        [0x86, 0xdd] if ip.len() >= 40 => {
            let length = usize::from(u16::from_be_bytes([ip[4], ip[5]]));
            (false, ip[6], 40, 40 + length)
        }
        _ => return None,
    };
    let (checksum, least) = match protocol {
        1 if ipv4 => (2, 8),
        58 if !ipv4 => (2, 8),
        6 => (16, 20),
        17 => (6, 8),
        _ => return None,
    };
    let fits = header >= 20 && header + least <= length && length <= ip.len();
    fits.then_some(Transport {
        ipv4,
        protocol,
        at: ETHERNET + header,
        checksum,
        end: ETHERNET + length,
    })
}

/// Makes lengths and checksums right, as far as there are headers.
pub(crate) fn mend(frame: &mut [u8]) {
    let Some(kind) = frame.get(12..14).map(|kind| [kind[0], kind[1]]) else {
        return;
    };
    let length = frame.len() - ETHERNET;
    let ip = &mut frame[ETHERNET..];
    match kind {
        [0x08, 0x00] if length >= 20 => {
            let header = (usize::from(ip[0] & 0xf) * 4).clamp(20, length.min(60));
            ip[0] = 0x40 | (header / 4) as u8;
            ip[2..4].copy_from_slice(&(length as u16).to_be_bytes());
            ip[10..12].fill(0);
            let check = checksum(&ip[..header / 4 * 4]);
            ip[10..12].copy_from_slice(&check.to_be_bytes());
        }
        [0x86, 0xdd] if length >= 40 => {
            ip[0] = 0x60 | ip[0] & 0xf;
            ip[4..6].copy_from_slice(&((length - 40) as u16).to_be_bytes());
        }
        _ => return,
    }
    let Some(own) = transport(frame) else { return };
    if own.protocol == 17 {
        let length = (own.end - own.at) as u16;
        frame[own.at + 4..own.at + 6].copy_from_slice(&length.to_be_bytes());
    }
    let field = own.at + own.checksum;
    frame[field..field + 2].fill(0);
    let (from, to) = match own.ipv4 {
        true => (&frame[26..30], &frame[30..34]),
        false => (&frame[22..38], &frame[38..54]),
    };
    let pseudo = match own.protocol {
        1 => 0,
        protocol => pseudo_header(from, to, protocol, own.end - own.at),
    };
    let check = match !fold(sum(&frame[own.at..own.end], pseudo)) {
        0 if own.protocol == 17 => 0xffff,
        check => check,
    };
    frame[field..field + 2].copy_from_slice(&check.to_be_bytes());
}

/// Shortens an ICMP error that would be longer than those of our own may be: one of others is sent
/// on as it is, and the harness does not tell them apart.
pub(crate) fn shorten_error(frame: &mut Vec<u8>) {
    let error = transport(frame)
        .is_some_and(|own| own.protocol == 1 && matches!(frame[own.at], 3 | 11 | 12));
    if error && frame.len() > LONGEST_ERROR {
        frame.truncate(LONGEST_ERROR);
        mend(frame);
    }
}
