//! What the port layer does for drivers that can do less, or later, than the kernel's own. They are
//! queues in memory that act so.

use tapgate_dataplane::port::driver::Capabilities;
use tapgate_dataplane::port::memory::{Acts, FarEnd, StoredFrame, pair};
use tapgate_dataplane::port::{Opened, Ports};
use tapgate_engine::addr::PortId;
use tapgate_engine::drops::DropReason;
use tapgate_engine::frame::{Checksum, Frame, Gso, GsoKind, Offload};

const A: PortId = PortId(0);
const B: PortId = PortId(1);
/// Ethernet, IPv4 and TCP headers.
const HEADERS: usize = 14 + 20 + 20;

/// What the kernel's own drivers do.
const KERNEL: Acts = Acts {
    capabilities: Capabilities::ALL,
    completes_after: 0,
};

/// Two memory ports and their far ends; the second acts as told.
fn lab(acts: Acts) -> (Ports, FarEnd, FarEnd) {
    let mut ports = Ports::default();
    let [(a, far_a), (b, far_b)] = [pair().unwrap(), pair().unwrap()];
    ports.attach(A, Opened::Memory(a));
    ports.attach(B, Opened::Memory(b));
    far_b.act(acts);
    (ports, far_a, far_b)
}

/// Puts frames in by the first port, and out by the second.
fn forward(ports: &mut Ports, far: &FarEnd, frames: &[StoredFrame]) {
    for frame in frames {
        assert!(far.put(frame.clone()));
    }
    let mut left = frames.len();
    while left > 0 {
        let passed = ports.pass(A, |frames, outputs| outputs[..frames.len()].fill(Some(B)));
        left -= passed.unwrap().frames;
    }
}

fn all(far: &FarEnd) -> Vec<StoredFrame> {
    std::iter::from_fn(|| far.take()).collect()
}

/// Adds up 16-bit words (RFC 1071).
fn sum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2);
    let word = |w: &[u8]| u32::from(w[0]) << 8 | u32::from(*w.get(1).unwrap_or(&0));
    let mut sum: u32 = words.map(word).sum();
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    sum as u16
}

/// The sum of a TCP frame's pseudo-header.
fn pseudo(frame: &[u8]) -> u16 {
    let length = (frame.len() - 34) as u16;
    let mut pseudo = frame[26..34].to_vec();
    pseudo.extend([0, 6]);
    pseudo.extend(length.to_be_bytes());
    sum(&pseudo)
}

/// A TCP frame whose payload starts with `number`, with a partial checksum; a super-frame if that
/// is more than 1,000 bytes.
fn tcp(number: u8, payload: usize) -> StoredFrame {
    let mut bytes = vec![number; HEADERS + payload];
    bytes[12..16].copy_from_slice(&[0x08, 0x00, 0x45, 0]);
    bytes[16..18].copy_from_slice(&((20 + 20 + payload) as u16).to_be_bytes());
    bytes[18..26].copy_from_slice(&[0, 0, 0, 0, 64, 6, 0, 0]);
    let check = !sum(&bytes[14..34]);
    bytes[24..26].copy_from_slice(&check.to_be_bytes());
    bytes[46] = 5 << 4;
    let check = pseudo(&bytes);
    bytes[50..52].copy_from_slice(&check.to_be_bytes());
    let gso = Gso {
        kind: GsoKind::Tcp4,
        size: 1000,
        ecn: false,
    };
    StoredFrame {
        bytes,
        vlan: Some(7),
        offload: Offload {
            checksum: Checksum::Partial {
                start: 34,
                offset: 16,
            },
            gso: (payload > 1000).then_some(gso),
        },
    }
}

/// A frame with nothing left to do.
fn plain(number: u8) -> StoredFrame {
    StoredFrame {
        bytes: vec![number; 60],
        vlan: None,
        offload: Offload::default(),
    }
}

#[test]
fn what_a_driver_cannot_do_is_done_in_software() {
    let frames = [plain(1), tcp(2, 500), tcp(3, 2500), plain(4), tcp(5, 10)];
    let (mut ports, far_a, far_b) = lab(KERNEL);
    forward(&mut ports, &far_a, &frames);
    assert_eq!(all(&far_b), frames);

    for (capabilities, partial) in [
        ((false, true, true), 2),
        ((true, true, false), 2),
        ((false, true, false), 2),
        ((true, false, true), 0),
        ((false, false, false), 0),
    ] {
        let (segmentation, checksums, scatter) = capabilities;
        let capabilities = Capabilities {
            segmentation,
            checksums,
            scatter,
        };
        let (mut ports, far_a, far_b) = lab(Acts {
            capabilities,
            ..KERNEL
        });
        forward(&mut ports, &far_a, &frames);
        let came = all(&far_b);
        let order: Vec<_> = came
            .iter()
            .map(|frame| (*frame.bytes.last().unwrap(), frame.bytes.len()))
            .collect();
        let segment = |payload| (3, HEADERS + payload);
        let expected = [
            (1, 60),
            (2, HEADERS + 500),
            segment(1000),
            segment(1000),
            segment(500),
            (4, 60),
            (5, HEADERS + 10),
        ];
        // A driver that has frames cut takes the super-frame whole only if it has the rest as well.
        assert_eq!(order, expected, "{capabilities:?}");
        let unfinished = came
            .iter()
            .filter(|frame| frame.offload.checksum != Checksum::Present);
        assert_eq!(unfinished.count(), partial, "{capabilities:?}");
        for frame in came.iter().filter(|frame| frame.vlan == Some(7)) {
            assert_eq!(frame.offload.gso, None);
            if frame.offload.checksum == Checksum::Present {
                let whole = u32::from(pseudo(&frame.bytes)) + u32::from(sum(&frame.bytes[34..]));
                assert_eq!(whole % 0xffff, 0, "{capabilities:?}");
            }
        }
        assert_eq!(ports.counters(B).tx_frames, 7);
        assert_eq!(ports.drops().iter().map(|(_, count)| count).sum::<u64>(), 0);
    }
}

#[test]
fn a_frame_that_cannot_be_finished_is_counted_and_does_not_stop_its_neighbours() {
    let mut wrong = [tcp(2, 100), tcp(3, 2500)];
    for frame in &mut wrong {
        frame.offload.checksum = Checksum::Partial {
            start: 14,
            offset: 12, // the source address
        };
    }
    let [small, large] = wrong;
    let (mut ports, far_a, far_b) = lab(Acts {
        capabilities: Capabilities {
            checksums: false,
            ..Capabilities::ALL
        },
        ..KERNEL
    });
    forward(&mut ports, &far_a, &[plain(1), small, large, plain(4)]);
    assert_eq!(all(&far_b), [plain(1), plain(4)]);
    assert_eq!(ports.drops().get(DropReason::OffloadMalformed), 2);
}

#[test]
fn a_driver_that_completes_later_is_asked_until_it_has() {
    let (mut ports, far_a, far_b) = lab(Acts {
        completes_after: 3,
        ..KERNEL
    });
    forward(&mut ports, &far_a, &[plain(1), plain(2)]);
    assert_eq!(ports.counters(B).tx_frames, 2);
    assert!(ports.reclaim());
    // Sent by itself, while others are under way.
    ports.send(B, &mut Frame::new(&mut [3; 60]));
    assert!(ports.reclaim());
    assert_eq!(all(&far_b), []);
    assert!(ports.reclaim());
    assert_eq!(all(&far_b), [plain(1), plain(2)]);
    assert!(!ports.reclaim());
    assert_eq!(all(&far_b), [plain(3)]);
    assert!(!ports.reclaim());
}

#[test]
fn a_driver_full_of_frames_under_way_refuses_and_recovers() {
    let (mut ports, far_a, far_b) = lab(Acts {
        completes_after: 2,
        ..KERNEL
    });
    for _ in 0..2 {
        forward(&mut ports, &far_a, &vec![plain(1); 150]);
    }
    assert_eq!(ports.drops().get(DropReason::TransmitFailed), 300 - 256);
    assert_eq!(ports.counters(B).tx_errors, 300 - 256);
    while ports.reclaim() {}
    assert_eq!(all(&far_b).len(), 256);
    forward(&mut ports, &far_a, &[plain(2)]);
    while ports.reclaim() {}
    assert_eq!(all(&far_b), [plain(2)]);

    // One that goes takes along what is under way.
    forward(&mut ports, &far_a, &[plain(3)]);
    assert!(ports.reclaim());
    ports.detach(B);
    assert!(!ports.reclaim());
    forward(&mut ports, &far_a, &[plain(4)]);
    assert_eq!(ports.drops().get(DropReason::PortDown), 1);
}

/// An answer goes out by the port its question came in by, from the memory it came in.
#[test]
fn a_port_sends_what_it_received() {
    let (mut ports, far_a, far_b) = lab(KERNEL);
    far_a.put(plain(1));
    far_a.put(plain(2));
    let passed = ports.pass(A, |frames, outputs| {
        assert_eq!(frames.len(), 2);
        frames[0].bytes.fill(9);
        outputs[..2].copy_from_slice(&[Some(A), Some(B)]);
    });
    assert_eq!(passed.unwrap().frames, 2);
    assert_eq!(all(&far_a), [plain(9)]);
    assert_eq!(all(&far_b), [plain(2)]);
}
