//! Putting a datagram together from its fragments (RFC 815, RFC 8200 §4.5).

use super::frame::OwnedFrame;
use super::packet::Family;

/// The datagram that fragments make, of which all are there and none overlap, in one frame: as its
/// sender would have sent it whole.
pub fn reassemble<A: Family>(mut fragments: Vec<OwnedFrame>) -> Option<OwnedFrame> {
    let mut pieces = Vec::with_capacity(fragments.len());
    let vlan = fragments.first()?.vlan;
    for fragment in &mut fragments {
        let frame = fragment.as_frame();
        let packet = A::parse(&frame).ok()?;
        let piece = A::piece(&frame, &packet).ok()?;
        let length = usize::from(piece.end - piece.start);
        pieces.push((piece, packet, &*frame.bytes, packet.end - length));
    }
    pieces.sort_unstable_by_key(|(piece, ..)| piece.start);
    let (last, ..) = pieces.last()?;
    let (_, packet, first, _) = pieces.first()?;
    let mut bytes = A::whole_header(first, packet, usize::from(last.end));
    for (_, packet, frame, at) in &pieces {
        bytes.extend_from_slice(&frame[*at..packet.end]);
    }
    Some(OwnedFrame {
        bytes,
        vlan,
        ..OwnedFrame::default()
    })
}
