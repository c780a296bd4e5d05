use etherparse::{
    IpHeaders, IpNumber, Ipv4Extensions, Ipv4Header, Ipv4Options, Ipv6Extensions, Ipv6FlowLabel,
    Ipv6Header, NetSlice, PacketBuilder, SlicedPacket, TransportSlice,
};
use proptest::prelude::*;

use super::*;

const MACS: ([u8; 6], [u8; 6]) = ([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);

/// What a super-frame is built from.
#[derive(Debug, Clone)]
struct Super {
    ipv4: bool,
    tcp: bool,
    ip_options: bool,
    tcp_options: bool,
    size: u16,
    payload: Vec<u8>,
    sequence: u32,
    padding: usize,
}

impl Super {
    fn any() -> impl Strategy<Value = Self> {
        let payload = prop_oneof![10 => 0..200usize, 10 => 0..9_000usize, 1 => Just(60_000)];
        let payload = payload.prop_flat_map(|n| proptest::collection::vec(any::<u8>(), n));
        let flags = any::<[bool; 4]>();
        let size = prop_oneof![1..20u16, 100..1460u16, 1448..1461u16];
        (flags, size, payload, any::<u32>(), 0..10usize).prop_map(
            |([ipv4, tcp, ip_options, tcp_options], size, payload, sequence, padding)| Self {
                ipv4,
                tcp,
                ip_options,
                tcp_options,
                // One-byte segments of a large frame only take long.
                size: if payload.len() > 1_000 {
                    size.max(100)
                } else {
                    size
                },
                payload,
                sequence,
                padding,
            },
        )
    }

    /// IPv4 without options.
    fn plain(tcp: bool, size: u16, payload: Vec<u8>, padding: usize) -> Self {
        Self {
            ipv4: true,
            tcp,
            ip_options: false,
            tcp_options: false,
            size,
            payload,
            sequence: 0,
            padding,
        }
    }

    /// The frame as a kernel hands it over: checksums unfinished, link padding behind it.
    fn build(&self) -> (Vec<u8>, Offload) {
        let ip = if self.ipv4 {
            let mut header = Ipv4Header {
                identification: 0xfffe,
                dont_fragment: true,
                time_to_live: 64,
                source: [10, 0, 1, 1],
                destination: [198, 51, 100, 9],
                ..Default::default()
            };
            if self.ip_options {
                // Router alert (RFC 2113).
                header.options = Ipv4Options::try_from(&[0x94, 4, 0, 0][..]).unwrap();
            }
            IpHeaders::Ipv4(header, Ipv4Extensions::default())
        } else {
            let header = Ipv6Header {
                traffic_class: 2,
                flow_label: Ipv6FlowLabel::ZERO,
                payload_length: 0,
                next_header: IpNumber(0),
                hop_limit: 64,
                source: [0x20; 16],
                destination: [0x30; 16],
            };
            IpHeaders::Ipv6(header, Ipv6Extensions::default())
        };
        let builder = PacketBuilder::ethernet2(MACS.0, MACS.1).ip(ip);
        let mut bytes = Vec::new();
        if self.tcp {
            let mut tcp = builder
                .tcp(40_000, 443, self.sequence, 1_000)
                .ack(7)
                .psh()
                .fin();
            tcp = tcp.cwr();
            if self.tcp_options {
                let stamps = etherparse::TcpOptionElement::Timestamp(1, 2);
                tcp = tcp.options(&[stamps]).unwrap();
            }
            tcp.write(&mut bytes, &self.payload).unwrap();
        } else {
            builder
                .udp(40_000, 443)
                .write(&mut bytes, &self.payload)
                .unwrap();
        }
        let start = match (self.ipv4, self.ip_options) {
            (true, false) => 34,
            (true, true) => 38,
            (false, _) => 54,
        };
        let offset = if self.tcp { 16 } else { 6 };
        if self.ipv4 {
            bytes[24..26].fill(0); // as in a TSO frame
        }
        unfinish(&mut bytes, start, offset);
        bytes.resize(bytes.len() + self.padding, 0xee);
        let kind = match (self.tcp, self.ipv4) {
            (true, true) => GsoKind::Tcp4,
            (true, false) => GsoKind::Tcp6,
            (false, _) => GsoKind::Udp,
        };
        let gso = Gso {
            kind,
            size: self.size,
            ecn: true,
        };
        let checksum = Checksum::Partial {
            start: start as u16,
            offset: offset as u16,
        };
        (
            bytes,
            Offload {
                checksum,
                gso: Some(gso),
            },
        )
    }
}

/// Replaces the checksum by the sum over the pseudo-header.
fn unfinish(bytes: &mut [u8], start: usize, offset: usize) {
    put(bytes, start + offset, 0);
    let length = bytes.len() - start;
    let (protocol, addresses) = match bytes[14] >> 4 {
        4 => (bytes[23], &bytes[26..34]),
        _ => (bytes[20], &bytes[22..54]),
    };
    let (source, destination) = addresses.split_at(addresses.len() / 2);
    let pseudo = fold(pseudo_header(source, destination, protocol, length));
    put(bytes, start + offset, pseudo);
}

fn cut(bytes: &mut [u8], offload: Offload) -> Result<Vec<Vec<u8>>, SegmentError> {
    let frame = Frame {
        bytes,
        vlan: Some(7),
        offload,
        headroom: &mut [],
    };
    let mut out = Vec::new();
    let count = segment(&frame, &mut Vec::new(), &mut |frame| {
        assert_eq!(frame.vlan, Some(7));
        assert_eq!(frame.offload.gso, None);
        assert!(!matches!(frame.offload.checksum, Checksum::Partial { .. }));
        out.push(frame.bytes.to_vec());
    })?;
    assert_eq!(count, out.len());
    Ok(out)
}

/// Asserts that every checksum in `bytes` is what etherparse computes, and returns the slices.
fn verified(bytes: &[u8]) -> SlicedPacket<'_> {
    let sliced = SlicedPacket::from_ethernet(bytes).unwrap();
    if let Some(NetSlice::Ipv4(ip)) = &sliced.net {
        let header = ip.header().to_header();
        assert_eq!(header.header_checksum, header.calc_header_checksum());
    }
    let (sent, right) = match (&sliced.transport, &sliced.net) {
        (Some(TransportSlice::Tcp(tcp)), Some(NetSlice::Ipv4(ip))) => (
            tcp.checksum(),
            tcp.calc_checksum_ipv4(ip.header().source(), ip.header().destination()),
        ),
        (Some(TransportSlice::Tcp(tcp)), Some(NetSlice::Ipv6(ip))) => (
            tcp.checksum(),
            tcp.calc_checksum_ipv6(ip.header().source(), ip.header().destination()),
        ),
        (Some(TransportSlice::Udp(udp)), Some(NetSlice::Ipv4(ip))) => {
            let (source, destination) = (ip.header().source(), ip.header().destination());
            let header = udp.to_header();
            (
                udp.checksum(),
                header.calc_checksum_ipv4_raw(source, destination, udp.payload()),
            )
        }
        (Some(TransportSlice::Udp(udp)), Some(NetSlice::Ipv6(ip))) => {
            let (source, destination) = (ip.header().source(), ip.header().destination());
            let header = udp.to_header();
            (
                udp.checksum(),
                header.calc_checksum_ipv6_raw(source, destination, udp.payload()),
            )
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(sent, right.unwrap());
    sliced
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// X04: the segments carry the super-frame's payload, in order, with right checksums.
    #[test]
    fn x04_segments_make_the_whole(from in Super::any()) {
        let (mut bytes, offload) = from.build();
        let frames = cut(&mut bytes, offload).unwrap();
        let size = usize::from(from.size);
        prop_assert_eq!(frames.len(), from.payload.len().div_ceil(size).max(1));
        let mut payload = Vec::new();
        for (n, frame) in frames.iter().enumerate() {
            let sliced = verified(frame);
            if let Some(NetSlice::Ipv4(ip)) = &sliced.net {
                let header = ip.header();
                prop_assert_eq!(header.identification(), 0xfffeu16.wrapping_add(n as u16));
                prop_assert_eq!(usize::from(header.total_len()), frame.len() - 14);
                prop_assert_eq!(header.options().is_empty(), !from.ip_options);
            }
            match sliced.transport.unwrap() {
                TransportSlice::Tcp(tcp) => {
                    let last = n + 1 == frames.len();
                    let sequence = from.sequence.wrapping_add((n * size) as u32);
                    prop_assert_eq!(tcp.sequence_number(), sequence);
                    prop_assert_eq!([tcp.fin(), tcp.psh()], [last, last]);
                    prop_assert_eq!(tcp.cwr(), n == 0);
                    prop_assert!(tcp.ack());
                    prop_assert_eq!(tcp.options().is_empty(), !from.tcp_options);
                    payload.extend_from_slice(tcp.payload());
                }
                TransportSlice::Udp(udp) => {
                    prop_assert_eq!(usize::from(udp.length()), udp.payload().len() + 8);
                    payload.extend_from_slice(udp.payload());
                }
                _ => unreachable!(),
            }
        }
        prop_assert_eq!(payload, from.payload);
    }

    #[test]
    fn partial_checksums_are_completed(from in Super::any()) {
        let (mut bytes, offload) = from.build();
        let whole = Offload { gso: None, ..offload };
        let packet = bytes.len() - from.padding;
        if from.ipv4 {
            let check = checksum(&bytes[14..if from.ip_options { 38 } else { 34 }]);
            put(&mut bytes, 24, check);
        }
        let frames = cut(&mut bytes, whole).unwrap();
        prop_assert_eq!(frames.len(), 1);
        prop_assert_eq!(frames[0].len(), bytes.len());
        verified(&frames[0][..packet]);
    }

    /// Nothing is known of the bytes: headers anywhere, metadata at odds with them.
    #[test]
    fn damaged_frames_never_panic(
        from in Super::any(),
        damage in proptest::collection::vec((0..80usize, any::<u8>()), 0..4),
        length in prop_oneof![0..100usize, Just(usize::MAX)],
        size in prop_oneof![Just(0u16), 1..40u16, Just(1448)],
        place in proptest::option::of((any::<u16>(), 0..40u16)),
    ) {
        let (mut bytes, mut offload) = from.build();
        for (at, byte) in damage {
            if let Some(place) = bytes.get_mut(at) {
                *place = byte;
            }
        }
        bytes.truncate(length.min(2_000));
        if let Some(gso) = &mut offload.gso {
            gso.size = size;
        }
        if let Some((start, offset)) = place {
            offload.checksum = Checksum::Partial { start, offset };
        }
        let _ = cut(&mut bytes, offload);
        offload.gso = None;
        let _ = cut(&mut bytes, offload);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn random_bytes_never_panic(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..120),
        ethertype in prop_oneof![Just(0x0800u16), Just(0x86ddu16), any::<u16>()],
        (start, offset, size) in (0..130u16, 0..40u16, 0..30u16),
        kind in prop_oneof![Just(GsoKind::Tcp4), Just(GsoKind::Tcp6), Just(GsoKind::Udp)],
        (partial, gso) in any::<(bool, bool)>(),
    ) {
        if bytes.len() >= 24 {
            put(&mut bytes, 12, ethertype);
            bytes[16] = 0;
        }
        let checksum = match partial {
            true => Checksum::Partial { start, offset },
            false => Checksum::Present,
        };
        let gso = gso.then_some(Gso { kind, size, ecn: false });
        let _ = cut(&mut bytes, Offload { checksum, gso });
    }
}

/// A UDP datagram whose checksum comes out as zero is sent with 0xffff (RFC 768).
#[test]
fn t19_a_computed_zero_is_sent_as_all_ones() {
    let from = Super::plain(false, 4, vec![0; 4], 0);
    let (mut bytes, offload) = from.build();
    // Without payload the complement of the sum is `rest`; with `rest` as payload it is zero.
    put(&mut bytes, 42, 0);
    let rest = !fold(sum(&bytes[34..], 0));
    put(&mut bytes, 42, rest);
    for offload in [
        offload,
        Offload {
            gso: None,
            ..offload
        },
    ] {
        let frames = cut(&mut bytes, offload).unwrap();
        assert_eq!(frames[0][40..42], [0xff, 0xff]);
    }
}

/// UDP over IPv4 without checksum stays without (T19).
#[test]
fn t19_no_udp_checksum_stays_none() {
    let from = Super::plain(false, 4, vec![1; 10], 0);
    let (mut bytes, mut offload) = from.build();
    put(&mut bytes, 40, 0);
    offload.checksum = Checksum::Present;
    let frames = cut(&mut bytes, offload).unwrap();
    assert_eq!(frames.len(), 3);
    assert!(frames.iter().all(|frame| frame[40..42] == [0, 0]));
}

#[test]
fn contradictions_are_errors() {
    let from = Super::plain(true, 0, vec![1; 10], 0);
    let (mut bytes, offload) = from.build();
    assert_eq!(cut(&mut bytes, offload), Err(SegmentError::NoSize));
    let (mut bytes, offload) = Super {
        size: 5,
        ..from.clone()
    }
    .build();
    for (at, byte) in [
        (12, 0x86),
        (14, 0x65),
        (16, 0x40),
        (20, 0x20),
        (23, 17),
        (46, 0xf0),
    ] {
        let mut bytes = bytes.clone();
        bytes[at] = byte;
        assert_eq!(
            cut(&mut bytes, offload),
            Err(SegmentError::Headers),
            "byte {at}"
        );
    }
    let gso = Gso {
        kind: GsoKind::Tcp6,
        size: 5,
        ecn: false,
    };
    let wrong = Offload {
        gso: Some(gso),
        ..offload
    };
    assert_eq!(cut(&mut bytes, wrong), Err(SegmentError::Headers));
}

/// A partial checksum must not be a way to write over addresses or ports.
#[test]
fn the_checksum_goes_into_a_checksum_field_only() {
    let from = Super::plain(false, 5, vec![1; 30], 4);
    let (bytes, _) = from.build();
    let allowed: Vec<(u16, u16)> = (0..90)
        .flat_map(|start| (0..90).map(move |offset| (start, offset)))
        .filter(|&(start, offset)| checksum_place(&bytes, start, offset))
        .collect();
    assert_eq!(allowed, [(34, 6)]);
}
