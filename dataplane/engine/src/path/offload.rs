//! What the metadata that come with a frame may ask for (H12). A guest chooses them, and whoever puts
//! the frame on a wire obeys them after policy and translation: a checksum is stored where they say,
//! and as many segments made as they say. So a checksum that stays unfinished is the transport's own,
//! which we keep up with what we rewrite. Another one can only be inside a tunnel; it is finished here,
//! before anybody has looked at the packet.

use crate::base::drops::DropReason;
use crate::wire::frame::{Checksum, ETHERNET, Frame, Gso, GsoKind, Offload};
use crate::wire::packet::{Family, Packet, TCP, Transport, UDP};
use crate::wire::segment::{TCP_CHECKSUM, UDP_CHECKSUM, store_checksum};

/// Most segments of a super-frame: 64 KiB at Linux's smallest path MTU (552) are 131, and a sender of
/// merged datagrams may have 128 in one (UDP_MAX_SEGMENTS).
const MOST_SEGMENTS: usize = 256;
/// Least bytes of a TCP segment that is not the last: Linux's TCP_MIN_GSO_SIZE, the smallest MSS that
/// it sends by (48) less all options (40). Datagrams may be of one byte.
const LEAST_SEGMENT: u16 = 8;
/// IPv4 and IPv6 in IP (RFC 2003, RFC 4213), GRE (RFC 2784), EtherIP (RFC 3378), L2TP (RFC 3931),
/// MPLS (RFC 4023). What runs over UDP, such as VXLAN, is known by its place.
const TUNNELS: [u8; 6] = [4, 41, 47, 97, 115, 137];
/// Bytes of the IPv6 header, behind which extension headers may stand.
const IPV6_HEADER: usize = 40;

/// Examines what a packet's metadata ask for, and finishes what cannot stay unfinished.
///
/// # Errors
/// They ask for what no honest sender does.
#[inline(always)]
pub(crate) fn accept<A: Family>(
    frame: &mut Frame<'_>,
    packet: &Packet<A>,
) -> Result<(), DropReason> {
    match is_finished(&frame.offload) {
        true => Ok(()),
        false => examine(frame, packet).ok_or(DropReason::ForgedOffload),
    }
}

/// The same for a frame that is no IP packet: nothing of it can be left to do.
#[inline]
pub(crate) fn accept_none(frame: &Frame<'_>) -> Result<(), DropReason> {
    match is_finished(&frame.offload) {
        true => Ok(()),
        false => Err(DropReason::ForgedOffload),
    }
}

#[inline(always)]
fn is_finished(offload: &Offload) -> bool {
    offload.gso.is_none() && !matches!(offload.checksum, Checksum::Partial { .. })
}

#[inline(never)]
fn examine<A: Family>(frame: &mut Frame<'_>, packet: &Packet<A>) -> Option<()> {
    if packet.transport == Transport::Fragment {
        return None;
    }
    let Packet { l4, end, .. } = *packet;
    let field = match packet.flow.protocol {
        TCP => TCP_CHECKSUM,
        UDP => UDP_CHECKSUM,
        _ => 0,
    };
    let extended = A::ICMP_HAS_PSEUDO_HEADER && l4 != ETHERNET + IPV6_HEADER;
    let place = match frame.offload.checksum {
        Checksum::Partial { start, offset } => Some((usize::from(start), usize::from(offset))),
        Checksum::Present | Checksum::Verified => None,
    };
    let own = field > 0 && place.is_none_or(|place| place == (l4, field));
    if let Some(gso) = frame.offload.gso {
        let whole = own && !extended && segments(frame.bytes, packet, gso)? <= MOST_SEGMENTS;
        return whole.then_some(());
    }
    let (start, offset) = place?;
    let inside = match packet.flow.protocol {
        UDP => start >= l4 + 8,
        protocol => TUNNELS.contains(&protocol) && start >= l4,
    };
    if own && !extended {
        return Some(());
    }
    if !(own || inside) || start + offset + 2 > end {
        return None;
    }
    store_checksum(frame.bytes, (start, offset), end);
    frame.offload.checksum = Checksum::Present;
    Some(())
}

/// How many segments a super-frame is cut into. `None`: it is not of that kind, or the segments are
/// too small.
fn segments<A: Family>(bytes: &[u8], packet: &Packet<A>, gso: Gso) -> Option<usize> {
    let ipv6 = A::ICMP_HAS_PSEUDO_HEADER;
    let (header, least) = match (gso.kind, packet.flow.protocol) {
        (GsoKind::Tcp4, TCP) if !ipv6 => (tcp_header(bytes, packet.l4), LEAST_SEGMENT),
        (GsoKind::Tcp6, TCP) if ipv6 => (tcp_header(bytes, packet.l4), LEAST_SEGMENT),
        (GsoKind::Udp, UDP) => (8, 1),
        _ => return None,
    };
    if gso.size < least {
        return None;
    }
    let payload = (packet.end - packet.l4).checked_sub(header)?;
    Some(payload.div_ceil(usize::from(gso.size)))
}

/// RFC 9293 §3.1: the data offset counts 32-bit words.
fn tcp_header(bytes: &[u8], l4: usize) -> usize {
    bytes
        .get(l4 + 12)
        .map_or(0, |byte| usize::from(byte >> 4) * 4)
}
