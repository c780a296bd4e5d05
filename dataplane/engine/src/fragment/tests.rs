use etherparse::{Ipv4HeaderSlice, PacketBuilder};
use proptest::prelude::*;

use super::*;

/// An Ethernet frame with `payload` after a header with `options`, and link padding.
fn frame(options: &[u8], payload: &[u8], place: u16, padding: usize) -> Vec<u8> {
    let mut header = etherparse::Ipv4Header {
        identification: 0xbeef,
        time_to_live: 64,
        protocol: etherparse::IpNumber(253),
        source: [10, 0, 1, 1],
        destination: [198, 51, 100, 9],
        ..Default::default()
    };
    header.options = options.try_into().unwrap();
    header.set_payload_len(payload.len()).unwrap();
    header.more_fragments = place & MORE_FRAGMENTS != 0;
    header.dont_fragment = place & DONT_FRAGMENT != 0;
    header.fragment_offset = (place & OFFSET).try_into().unwrap();
    header.header_checksum = header.calc_header_checksum();
    let mut bytes = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
    header.write(&mut bytes).unwrap();
    bytes.extend_from_slice(payload);
    bytes.resize(bytes.len() + padding, 0xee);
    bytes
}

fn cut(bytes: &mut [u8], mtu: usize) -> Result<Vec<Vec<u8>>, FragmentError> {
    let mut out = Vec::new();
    let frame = Frame {
        bytes,
        vlan: Some(9),
        offload: Offload::default(),
        headroom: &mut [],
    };
    let count = fragment(&frame, mtu, &mut Vec::new(), &mut |frame| {
        assert_eq!(frame.vlan, Some(9));
        out.push(frame.bytes.to_vec());
    })?;
    assert_eq!(count, out.len());
    Ok(out)
}

/// Asserts what holds for every fragment, and returns its header and its payload.
fn verified(frame: &[u8], mtu: usize) -> (Ipv4HeaderSlice<'_>, &[u8]) {
    assert_eq!(frame[..14], [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0]);
    let ip = Ipv4HeaderSlice::from_slice(&frame[14..]).unwrap();
    let header = ip.to_header();
    assert_eq!(header.calc_header_checksum(), header.header_checksum);
    assert_eq!(usize::from(ip.total_len()), frame.len() - 14);
    assert!(frame.len() - 14 <= mtu);
    assert_eq!((ip.identification(), ip.ttl()), (0xbeef, 64));
    (ip, &frame[14 + ip.slice().len()..])
}

/// Reassembles (RFC 791 §3.2) and returns the payload, and whether more is to come after it.
fn reassembled(frames: &[Vec<u8>], mtu: usize, first: u16) -> (Vec<u8>, bool) {
    let mut payload = Vec::new();
    let mut more = true;
    for frame in frames {
        let (ip, part) = verified(frame, mtu);
        assert!(more, "a fragment after the last");
        let at = usize::from(ip.fragments_offset().value()) * 8 - usize::from(first) * 8;
        assert_eq!(at, payload.len());
        payload.extend_from_slice(part);
        more = ip.more_fragments();
        assert!(!more || part.len() % 8 == 0 || frame == frames.last().unwrap());
    }
    (payload, more)
}

fn options() -> impl Strategy<Value = Vec<u8>> {
    let copied = Just(vec![0x94, 4, 0, 0]); // router alert, RFC 2113
    let record_route = Just(vec![7, 7, 4, 0, 0, 0, 0]);
    let stream = Just(vec![0x88, 4, 1, 2]);
    let nop = Just(vec![1]);
    let one = prop_oneof![copied, record_route, stream, nop];
    proptest::collection::vec(one, 0..5).prop_map(|list| {
        let mut bytes = list.concat();
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    /// F08: the fragments make the whole again, also when they are cut a second time.
    #[test]
    fn f08_reassembles_to_the_original(
        options in options(),
        payload in prop_oneof![30 => 0..3_000usize, 1 => Just(65_400)],
        mtu in 96..1600usize,
        second in 80..96usize,
        (offset, more) in (0..10u16, any::<bool>()),
        padding in 0..20usize,
    ) {
        let payload: Vec<u8> = (0..payload).map(|n| (n * 7 + n / 256) as u8).collect();
        let place = offset | if more { MORE_FRAGMENTS } else { 0 };
        let mut bytes = frame(&options, &payload, place, padding);
        let packet = 20 + options.len() + payload.len();
        if packet + usize::from(offset) * 8 > MAX_PACKET {
            prop_assert_eq!(cut(&mut bytes, mtu), Err(FragmentError::Malformed));
            return Ok(());
        }
        let mut frames = cut(&mut bytes, mtu).unwrap();
        prop_assert_eq!(&frames[0][34..34 + options.len()], &options[..]);
        prop_assert_eq!(frames.len() == 1, packet <= mtu);
        prop_assert_eq!(reassembled(&frames, mtu, offset), (payload.clone(), more));
        for frame in &frames[1..] {
            let copied: Vec<u8> = verified(frame, mtu).0.options().to_vec();
            prop_assert!(!copied.contains(&7), "record route must not be copied: {:?}", copied);
            prop_assert_eq!(copied.iter().filter(|b| **b == 0x94).count(),
                options.iter().filter(|b| **b == 0x94).count());
        }
        if payload.len() < 3_000 {
            frames = frames.iter_mut().flat_map(|frame| cut(frame, second).unwrap()).collect();
            prop_assert_eq!(reassembled(&frames, second, offset), (payload, more));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn random_bytes_never_panic(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..200),
        header in any::<bool>(),
        mtu in 0..120usize,
    ) {
        if header && bytes.len() > 20 {
            bytes[12..14].copy_from_slice(&[8, 0]);
            bytes[14] = 0x40 | bytes[14] & 0xf;
            bytes[16] = 0;
            bytes[20] &= 0x3f;
        }
        let _ = cut(&mut bytes, mtu);
    }
}

/// F08's own figures: a packet of 1500 bytes to an MTU of 576 makes three fragments.
#[test]
fn f08_1500_bytes_to_an_mtu_of_576() {
    let mut bytes = frame(&[], &[5; 1480], 0, 0);
    let sizes: Vec<usize> = cut(&mut bytes, 576).unwrap().iter().map(Vec::len).collect();
    assert_eq!(sizes, [14 + 572, 14 + 572, 14 + 20 + 376]);
}

#[test]
fn what_cannot_be_cut_is_refused() {
    let payload = [5; 1480];
    assert_eq!(
        cut(&mut frame(&[], &payload, DONT_FRAGMENT, 0), 576),
        Err(FragmentError::DontFragment)
    );
    assert_eq!(
        cut(&mut frame(&[], &payload, DONT_FRAGMENT, 0), 1500)
            .unwrap()
            .len(),
        1
    );
    assert_eq!(
        cut(&mut frame(&[], &payload, 0, 0), 27),
        Err(FragmentError::MtuTooSmall)
    );
    assert_eq!(cut(&mut frame(&[], &payload, 0, 0), 28).unwrap().len(), 185);
    assert_eq!(
        cut(&mut frame(&[0x94, 9, 0, 0], &payload, 0, 0), 576),
        Err(FragmentError::Malformed)
    );
    assert_eq!(
        cut(&mut frame(&[0x94, 0, 0, 0], &payload, 0, 0), 576),
        Err(FragmentError::Malformed)
    );
    assert_eq!(
        cut(&mut frame(&[], &payload, 8_100, 0), 576),
        Err(FragmentError::Malformed)
    );

    let mut bytes = frame(&[], &payload, 0, 0);
    let checksum = Checksum::Partial {
        start: 34,
        offset: 6,
    };
    let offload = Offload {
        checksum,
        gso: None,
    };
    let partial = Frame {
        bytes: &mut bytes,
        vlan: None,
        offload,
        headroom: &mut [],
    };
    let result = fragment(&partial, 576, &mut Vec::new(), &mut |_| panic!());
    assert_eq!(result, Err(FragmentError::Unfinished));
}

/// The packets of etherparse, an independent writer, are understood.
#[test]
fn an_etherparse_packet_is_cut() {
    let builder = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
    let mut bytes = Vec::new();
    let udp = builder.ipv4([10, 0, 1, 1], [10, 0, 2, 1], 64).udp(1, 2);
    udp.write(&mut bytes, &[3; 2_000]).unwrap();
    bytes[20] = 0; // the builder sets DF
    assert_eq!(cut(&mut bytes, 1500).unwrap().len(), 2);
}
