//! `virtio_net_hdr` (VIRTIO 1.2 §5.1.6) to and from the engine's [`Offload`], and 802.1Q tags in
//! and out of frames.

use std::mem::MaybeUninit;

use tapgate_engine::frame::{Checksum, Frame, Gso, GsoKind, Offload};

/// Bytes of the header as AF_PACKET and TAP speak it: without `num_buffers`, native byte order.
pub const HEADER: usize = 10;
/// Bytes of an 802.1Q tag.
const TAG: usize = 4;
/// Bytes of the two MACs, after which a tag stands.
const MACS: usize = 12;

const TPID_8021Q: [u8; 2] = [0x81, 0x00];
const VID_MASK: u16 = 0x0fff;

const NEEDS_CSUM: u8 = 1;
const DATA_VALID: u8 = 2;
const GSO_NONE: u8 = 0;
const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;
const GSO_UDP_L4: u8 = 5;
const GSO_ECN: u8 = 0x80;

/// The frame that starts at `start` in `room`, directly behind its `virtio_net_hdr`, in the
/// engine's form; what is before it becomes its headroom. A tag that is still in the bytes moves to
/// [`Frame::vlan`], and a priority tag (VLAN identifier 0, IEEE 802.1Q §9.6) goes. `None` when
/// there is no whole header, or it cannot be read; whether it makes sense, the engine examines.
pub fn received<'a>(room: &'a mut [u8], start: usize, vlan: Option<u16>) -> Option<Frame<'a>> {
    let header = *room.get(..start)?.last_chunk()?;
    let (vlan, stripped) = match (vlan, inner_tag(&room[start..])) {
        (None, Some(tag)) => {
            room.copy_within(start..start + MACS, start + TAG);
            (Some(tag), TAG)
        }
        _ => (vlan, 0),
    };
    let (headroom, bytes) = room.split_at_mut_checked(start + stripped)?;
    let offload = decode(&header, bytes.len(), stripped)?;
    Some(Frame {
        offload,
        bytes,
        vlan: vlan.filter(|tag| tag & VID_MASK != 0),
        headroom,
    })
}

/// What stands on the way out before the part of a frame that is sent from where it lies: the
/// `virtio_net_hdr`, and for a tagged frame its MACs and its tag.
pub type Head = [u8; HEADER + MACS + TAG];

/// The frame as it is written to a port: its head, then the rest of the frame where it lies. The
/// first [`HEADER`] bytes of the head do not reach the wire. The head is written to the frame's
/// headroom, or to `scratch` if that is too small.
pub fn outgoing<'f>(
    frame: &'f mut Frame<'_>,
    scratch: &'f mut MaybeUninit<Head>,
) -> (&'f [u8], &'f [u8]) {
    let headroom = &mut *frame.headroom;
    match (frame.vlan, frame.bytes.split_at_checked(MACS)) {
        (Some(tag), Some((macs, rest))) => {
            let head: &mut Head = match headroom.last_chunk_mut() {
                Some(head) => head,
                None => scratch.write([0; HEADER + MACS + TAG]),
            };
            head[..HEADER].copy_from_slice(&encode(&frame.offload, frame.bytes, TAG));
            head[HEADER..HEADER + MACS].copy_from_slice(macs);
            head[HEADER + MACS..].copy_from_slice(&tag_bytes(tag));
            (head, rest)
        }
        _ => {
            let head = match headroom.len().checked_sub(HEADER) {
                Some(start) => &mut headroom[start..],
                None => &mut scratch.write([0; HEADER + MACS + TAG])[..HEADER],
            };
            head.copy_from_slice(&encode(&frame.offload, frame.bytes, 0));
            (head, frame.bytes)
        }
    }
}

/// Reads the header that came with a frame of `length` bytes, from which `stripped` bytes of tag
/// have been taken since. `None` when the two contradict each other, or when the header asks for
/// what no port of ours offered (UDP fragmentation offload).
fn decode(header: &[u8; HEADER], length: usize, stripped: usize) -> Option<Offload> {
    let [flags, gso_type, _, _, s0, s1, c0, c1, o0, o1] = *header;
    let size = u16::from_ne_bytes([s0, s1]);
    let start = u16::from_ne_bytes([c0, c1]).saturating_sub(stripped as u16);
    let offset = u16::from_ne_bytes([o0, o1]);
    let checksum = if flags & NEEDS_CSUM != 0 {
        Checksum::Partial { start, offset }
    } else if flags & DATA_VALID != 0 {
        Checksum::Verified
    } else {
        Checksum::Present
    };
    let kind = match gso_type & !GSO_ECN {
        GSO_NONE => {
            return Some(Offload {
                checksum,
                gso: None,
            });
        }
        GSO_TCPV4 => GsoKind::Tcp4,
        GSO_TCPV6 => GsoKind::Tcp6,
        GSO_UDP_L4 => GsoKind::Udp,
        _ => return None,
    };
    // §5.1.6.2: whoever sets gso_type must set NEEDS_CSUM.
    let Checksum::Partial { start, .. } = checksum else {
        return None;
    };
    let fits = size > 0 && usize::from(start) + transport_minimum(kind) <= length;
    fits.then_some(Offload {
        checksum,
        gso: Some(Gso {
            kind,
            size,
            ecn: gso_type & GSO_ECN != 0,
        }),
    })
}

/// The header for a frame that goes out as `bytes`, with `tag` more bytes put in behind the MACs.
fn encode(offload: &Offload, bytes: &[u8], tag: usize) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    let Checksum::Partial { start, offset } = offload.checksum else {
        return header;
    };
    let tagged_start = start.wrapping_add(tag as u16);
    header[0] = NEEDS_CSUM;
    header[6..8].copy_from_slice(&tagged_start.to_ne_bytes());
    header[8..10].copy_from_slice(&offset.to_ne_bytes());
    if let Some(gso) = offload.gso {
        let kind = match gso.kind {
            GsoKind::Tcp4 => GSO_TCPV4,
            GsoKind::Tcp6 => GSO_TCPV6,
            GsoKind::Udp => GSO_UDP_L4,
        };
        header[1] = kind | if gso.ecn { GSO_ECN } else { 0 };
        let headers = tagged_start.wrapping_add(transport_length(gso.kind, bytes, start));
        header[2..4].copy_from_slice(&headers.to_ne_bytes());
        header[4..6].copy_from_slice(&gso.size.to_ne_bytes());
    }
    header
}

/// The tag as it stands on the wire.
fn tag_bytes(tag: u16) -> [u8; TAG] {
    let [high, low] = tag.to_be_bytes();
    [TPID_8021Q[0], TPID_8021Q[1], high, low]
}

fn inner_tag(bytes: &[u8]) -> Option<u16> {
    let tag: &[u8; TAG] = bytes.get(MACS..)?.first_chunk()?;
    (tag[..2] == TPID_8021Q).then(|| u16::from_be_bytes([tag[2], tag[3]]))
}

const fn transport_minimum(kind: GsoKind) -> usize {
    match kind {
        GsoKind::Tcp4 | GsoKind::Tcp6 => 20,
        GsoKind::Udp => 8,
    }
}

fn transport_length(kind: GsoKind, bytes: &[u8], start: u16) -> u16 {
    match kind {
        // RFC 9293 §3.1: the data offset counts 32-bit words.
        GsoKind::Tcp4 | GsoKind::Tcp6 => bytes
            .get(usize::from(start) + 12)
            .map_or(20, |byte| u16::from(byte >> 4) * 4),
        GsoKind::Udp => 8,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(flags: u8, gso: u8, size: u16, start: u16, offset: u16) -> [u8; HEADER] {
        let mut h = [flags, gso, 0, 0, 0, 0, 0, 0, 0, 0];
        h[4..6].copy_from_slice(&size.to_ne_bytes());
        h[6..8].copy_from_slice(&start.to_ne_bytes());
        h[8..10].copy_from_slice(&offset.to_ne_bytes());
        h
    }

    /// A TCP frame of `payload` bytes with 12 bytes of options, IPv4 header at 14.
    fn tcp_frame(payload: usize) -> Vec<u8> {
        let mut bytes = vec![0; 14 + 20 + 32 + payload];
        bytes[12..14].copy_from_slice(&[8, 0]);
        bytes[14] = 0x45;
        let length = (bytes.len() - 14) as u16;
        bytes[16..18].copy_from_slice(&length.to_be_bytes());
        bytes[23] = 6;
        bytes[34 + 12] = 8 << 4;
        bytes
    }

    /// A frame as it is received: [`ROOM`] bytes of headroom, then the header.
    fn wire(header: [u8; HEADER], frame: &[u8]) -> Vec<u8> {
        [&[0; ROOM][..], &header, frame].concat()
    }

    const ROOM: usize = 40;
    const START: usize = ROOM + HEADER;

    #[test]
    fn every_offload_survives_the_way_there_and_back() {
        let bytes = tcp_frame(3000);
        let partial = Checksum::Partial {
            start: 34,
            offset: 16,
        };
        let gso = |kind, ecn| {
            Some(Gso {
                kind,
                size: 1448,
                ecn,
            })
        };
        for offload in [
            Offload::default(),
            Offload {
                checksum: partial,
                gso: None,
            },
            Offload {
                checksum: partial,
                gso: gso(GsoKind::Tcp4, false),
            },
            Offload {
                checksum: partial,
                gso: gso(GsoKind::Tcp4, true),
            },
            Offload {
                checksum: partial,
                gso: gso(GsoKind::Tcp6, false),
            },
            Offload {
                checksum: Checksum::Partial {
                    start: 34,
                    offset: 6,
                },
                gso: gso(GsoKind::Udp, false),
            },
        ] {
            let encoded = encode(&offload, &bytes, 0);
            assert_eq!(decode(&encoded, bytes.len(), 0), Some(offload));
        }
    }

    #[test]
    fn the_header_length_of_a_super_frame_covers_its_options_and_its_tag() {
        let bytes = tcp_frame(3000);
        let offload = Offload {
            checksum: Checksum::Partial {
                start: 34,
                offset: 16,
            },
            gso: Some(Gso {
                kind: GsoKind::Tcp4,
                size: 1448,
                ecn: false,
            }),
        };
        let plain = encode(&offload, &bytes, 0);
        assert_eq!(u16::from_ne_bytes([plain[2], plain[3]]), 14 + 20 + 32);
        let tagged = encode(&offload, &bytes, TAG);
        assert_eq!(u16::from_ne_bytes([tagged[2], tagged[3]]), 18 + 20 + 32);
        assert_eq!(u16::from_ne_bytes([tagged[6], tagged[7]]), 38);
        assert_eq!(u16::from_ne_bytes([tagged[8], tagged[9]]), 16);
    }

    #[test]
    fn a_verified_checksum_is_not_vouched_for_again() {
        let offload = decode(&header(DATA_VALID, 0, 0, 0, 0), 60, 0).unwrap();
        assert_eq!(offload.checksum, Checksum::Verified);
        assert_eq!(encode(&offload, &[0; 60], 0), [0; HEADER]);
    }

    #[test]
    fn contradictions_are_refused() {
        for (what, bad) in [
            ("no partial checksum", header(0, GSO_TCPV4, 1448, 34, 16)),
            ("no size", header(NEEDS_CSUM, GSO_TCPV4, 0, 34, 16)),
            (
                "cut TCP header",
                header(NEEDS_CSUM, GSO_TCPV4, 1448, 82, 16),
            ),
            ("UFO", header(NEEDS_CSUM, 3, 1448, 34, 6)),
            ("unknown", header(NEEDS_CSUM, 9, 1448, 34, 16)),
        ] {
            assert_eq!(decode(&bad, 100, 0), None, "{what}");
        }
    }

    /// The same frame with a tag in it.
    fn tagged_frame(tag: u16) -> Vec<u8> {
        let mut bytes = tcp_frame(10);
        bytes.splice(MACS..MACS, tag_bytes(tag));
        bytes
    }

    #[test]
    fn a_tag_in_the_bytes_moves_out_and_takes_the_checksum_along() {
        let mut bytes = wire(header(NEEDS_CSUM, 0, 0, 38, 16), &tagged_frame(0x6064));
        let frame = &mut received(&mut bytes, START, None).unwrap();
        assert_eq!(frame.vlan, Some(0x6064));
        assert_eq!(frame.bytes, tcp_frame(10));
        assert_eq!(frame.headroom.len(), START + TAG, "the tag's place is free");
        let partial = Checksum::Partial {
            start: 34,
            offset: 16,
        };
        assert_eq!(frame.offload.checksum, partial);

        let mut scratch = MaybeUninit::uninit();
        let (head, rest) = outgoing(frame, &mut scratch);
        let wire_form = [&head[HEADER..], rest].concat();
        assert_eq!(wire_form, tagged_frame(0x6064));
        assert_eq!(u16::from_ne_bytes([head[6], head[7]]), 38);
    }

    #[test]
    fn a_priority_tag_goes_and_a_second_tag_stays() {
        let plain = |frame: &[u8]| wire([0; HEADER], frame);
        let mut bytes = plain(&tagged_frame(0xe000));
        let frame = received(&mut bytes, START, None).unwrap();
        assert_eq!((frame.vlan, &*frame.bytes), (None, &tcp_frame(10)[..]));
        // The kernel stripped one: the other is not ours to take off.
        let mut bytes = plain(&tagged_frame(7));
        let frame = received(&mut bytes, START, Some(5)).unwrap();
        assert_eq!((frame.vlan, &*frame.bytes), (Some(5), &tagged_frame(7)[..]));
        let mut bytes = plain(&tagged_frame(7)[..15]);
        let frame = received(&mut bytes, START, None).unwrap();
        assert_eq!((frame.vlan, frame.bytes.len()), (None, 15));
    }

    #[test]
    fn the_head_goes_where_there_is_room_for_it() {
        for vlan in [None, Some(9)] {
            let length = HEADER + vlan.map_or(0, |_| MACS + TAG);
            let (mut bytes, mut before) = (tcp_frame(10), vec![0xee; 64]);
            let mut heads = Vec::new();
            for room in [0, length - 1, length, 64] {
                let frame = &mut Frame {
                    vlan,
                    headroom: &mut before[64 - room..],
                    ..Frame::new(&mut bytes)
                };
                let headroom = frame.headroom.as_ptr_range();
                let mut scratch = MaybeUninit::uninit();
                let (head, rest) = outgoing(frame, &mut scratch);
                assert_eq!(head.len(), length);
                let tag = vlan.map_or(0, |_| TAG);
                assert_eq!(head.len() + rest.len(), HEADER + tag + 76);
                let inside = headroom.contains(&head.as_ptr());
                assert_eq!(inside, room >= length, "{room} bytes");
                heads.push(head.to_vec());
            }
            assert!(heads.iter().all(|head| *head == heads[0]));
        }
    }

    #[test]
    fn a_frame_that_ends_in_its_header_is_none() {
        for length in [0, HEADER - 1] {
            assert!(received(&mut vec![0; length], HEADER, None).is_none());
        }
        assert!(received(&mut [0; HEADER], HEADER - 1, None).is_none());
    }
}
