//! The port layer against this kernel, without the engine.

mod lab;

use std::io::Write;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use afpacket::sync::RawPacketStream;
use lab::bridge::{A, B, Bridge, device};
use lab::{Lab, eventually, iperf, listen, run, within};
use tapgate_dataplane::link::{self, Change, Links};
use tapgate_dataplane::port::device::Device;
use tapgate_dataplane::port::tap::Tap;
use tapgate_dataplane::port::{Opened, Ports};
use tapgate_dataplane::sys::{netns, tap};
use tapgate_engine::addr::MacAddr;
use tapgate_engine::drops::DropReason;
use tapgate_engine::frame::Checksum;

const SENDER: [u8; 6] = [2, 0, 0, 0, 0, 0xd1];
const RECEIVER: [u8; 6] = [2, 0, 0, 0, 0, 0xd2];

/// A frame of local experiments (EtherType 0x88b5), tagged or not.
fn frame(tag: Option<u16>, payload: &[u8]) -> Vec<u8> {
    let mut bytes = [RECEIVER, SENDER].concat();
    if let Some(tag) = tag {
        bytes.extend([0x81, 0x00]);
        bytes.extend(tag.to_be_bytes());
    }
    bytes.extend([0x88, 0xb5]);
    bytes.extend(payload);
    bytes
}

/// Sends frames from `eth0` of a guest.
fn send_from(guest: &str, frames: &[Vec<u8>]) {
    within(guest, || {
        let mut socket = RawPacketStream::new().unwrap();
        socket.bind("eth0").unwrap();
        for frame in frames {
            socket.write_all(frame).unwrap();
        }
    });
}

/// A TAP whose netdev is `eth0` of a guest.
fn tap_guest(guest: &str, address: &str, queues: u16) -> Opened {
    let queues = tap::create("eth0", queues).unwrap();
    let netns = netns::open(guest).unwrap();
    let change = Change {
        netns: Some(netns.as_fd()),
        mac: Some(MacAddr([2, 0, 0, 0, 0, 0xd0])),
        mtu: Some(1400),
        ..Change::default()
    };
    link::change("eth0", &change).unwrap();
    run(&format!("ip -n {guest} address add {address} dev eth0"));
    Opened::Tap(Tap::new(queues.into_iter().map(Arc::new).collect()))
}

#[test]
fn super_frames_pass_whole_between_veths() {
    let mut lab = Lab::new();
    let a = lab.veth_guest("a", "va", "10.9.0.1/24");
    let b = lab.veth_guest("b", "vb", "10.9.0.2/24");
    let bridge = Bridge::between(device("va"), device("vb"));
    let rate = iperf(&a, &b, "10.9.0.2", 2);
    let ended = bridge.end();
    println!("{rate:.2} Gbit/s, longest frame {}", ended.longest());
    assert!(ended.longest() > 30_000);
    assert!(rate > 0.5, "{rate:.2} Gbit/s");
    assert_eq!(ended.drops(), [], "{ended:?}");
}

#[test]
fn super_frames_pass_whole_between_a_tap_and_a_veth() {
    let mut lab = Lab::new();
    let a = lab.guest("a");
    let b = lab.veth_guest("b", "vb", "10.9.0.2/24");
    for queues in [1, 2] {
        let bridge = Bridge::between(tap_guest(&a, "10.9.0.1/24", queues), device("vb"));
        let shown = run(&format!("ip -n {a} link show eth0"));
        assert!(
            shown.contains("02:00:00:00:00:d0") && shown.contains("mtu 1400"),
            "{shown}"
        );
        let (there, back) = (iperf(&a, &b, "10.9.0.2", 1), iperf(&b, &a, "10.9.0.1", 1));
        let ended = bridge.end();
        println!("{queues} queues: {there:.2} and {back:.2} Gbit/s");
        for port in [A, B] {
            let longest = ended.seen.iter().filter(|seen| seen.from == port);
            let longest = longest.map(|seen| seen.length).max().unwrap();
            assert!(longest > 20_000, "{port:?}: {longest}");
        }
        assert_eq!(ended.drops(), [], "{ended:?}");
    }
}

#[test]
fn a_bridged_udp_datagram_with_a_partial_checksum_is_understood() {
    let mut lab = Lab::new();
    let a = lab.veth_guest("a", "va", "10.9.0.1/24");
    let b = lab.veth_guest("b", "vb", "10.9.0.2/24");
    let bridge = Bridge::between(device("va"), device("vb"));
    let heard = listen(&format!("ip netns exec {b} socat -u UDP-RECV:9 -"));
    eventually("socat listens", 5, || {
        run(&format!("ip netns exec {b} ss -Hlun")).contains(":9 ")
    });
    let send = format!("echo hello | timeout 5 ip netns exec {a} socat -u - UDP-SENDTO:10.9.0.2:9");
    eventually("the datagram arrives", 8, || {
        lab::shell(&send);
        heard.text().contains("hello")
    });
    let partial = |seen: &lab::bridge::Seen| {
        matches!(
            seen.offload.checksum,
            Checksum::Partial {
                start: 34,
                offset: 6
            }
        )
    };
    assert!(bridge.end().seen.iter().any(partial));
}

#[test]
fn tags_the_kernel_took_out_are_put_back() {
    let mut lab = Lab::new();
    let a = lab.veth_guest("a", "va", "10.9.0.1/24");
    tags_are_taken_out_and_put_back(&mut lab, &a, device("va"));
}

#[test]
fn tags_left_in_the_bytes_are_taken_out_and_put_back() {
    let mut lab = Lab::new();
    let a = lab.guest("a");
    let tap = tap_guest(&a, "10.9.0.1/24", 1);
    tags_are_taken_out_and_put_back(&mut lab, &a, tap);
}

fn tags_are_taken_out_and_put_back(lab: &mut Lab, from: &str, port: Opened) {
    let b = lab.veth_guest("b", "vb", "10.9.0.2/24");
    let bridge = Bridge::between(port, device("vb"));
    let dump = listen(&format!(
        "ip netns exec {b} tcpdump -l -e -n -i eth0 -Q in ether src 02:00:00:00:00:d1"
    ));
    eventually("tcpdump listens", 5, || {
        dump.text().contains("listening on eth0")
    });
    send_from(
        from,
        &[
            frame(Some(0x2064), &[0x55; 50]),
            frame(Some(0xe000), &[0x66; 50]),
            frame(None, &[0x77; 50]),
        ],
    );
    eventually("three frames", 5, || {
        // The tagged one has two.
        dump.text().matches("ethertype").count() >= 4
    });

    let seen = bridge.end().seen;
    // Room for the `virtio_net_hdr`, MACs and a tag.
    assert!(seen.iter().all(|seen| seen.headroom >= 10 + 12 + 4));
    let seen: Vec<_> = seen
        .iter()
        .filter(|seen| seen.start[6..12] == SENDER)
        .map(|seen| (seen.vlan, &seen.start[12..15], seen.length))
        .collect();
    assert_eq!(
        seen,
        [
            (Some(0x2064), &[0x88, 0xb5, 0x55][..], 64),
            (None, &[0x88, 0xb5, 0x66], 64),
            (None, &[0x88, 0xb5, 0x77], 64),
        ]
    );
    let text = dump.text();
    let frames = text.lines().filter(|line| line.contains("ethertype"));
    let tagged: Vec<_> = frames.map(|line| line.contains("vlan 100, p 1")).collect();
    assert_eq!(tagged, [true, false, false], "{text}");
    assert_eq!(text.matches("vlan").count(), 1, "{text}");
}

#[test]
fn the_frames_the_kernel_dropped_are_counted() {
    let mut lab = Lab::new();
    let a = lab.veth_guest("a", "va", "10.9.0.1/24");
    let mut ports = Ports::default();
    ports.attach(A, device("va"));
    send_from(&a, &vec![frame(None, &[0; 50]); 5000]);
    eventually("drops counted", 5, || ports.counters(A).kernel_drops > 0);
    let mut received = 0;
    while ports
        .pass(A, |frames, _| received += frames.len())
        .unwrap()
        .frames
        > 0
    {}
    let counters = ports.counters(A);
    assert!(received >= 1000, "{received}");
    assert_eq!(received as u64, counters.rx_frames);
    // Beside ours: what the guest's own kernel sends when its device comes up.
    let all = counters.rx_frames + counters.kernel_drops;
    assert!((5000..5050).contains(&all), "{counters:?}");
}

#[test]
fn sending_to_a_device_that_is_down_or_gone_is_counted_and_does_not_block() {
    let mut lab = Lab::new();
    let a = lab.veth_guest("a", "va", "10.9.0.1/24");
    let _b = lab.veth_guest("b", "vb", "10.9.0.2/24");
    let mut ports = Ports::default();
    for (port, name) in [(A, "va"), (B, "vb")] {
        ports.attach(port, device(name));
    }
    let mut forward = |count: usize| {
        send_from(&a, &vec![frame(None, &[0; 50]); count]);
        let mut passed = 0;
        while passed < count {
            let route = |frames: &mut [tapgate_engine::frame::Frame<'_>],
                         outputs: &mut [Option<_>; 64]| {
                for (frame, output) in frames.iter().zip(outputs) {
                    let ours = frame.bytes[6..12] == SENDER;
                    passed += usize::from(ours);
                    *output = ours.then_some(B);
                }
            };
            ports.pass(A, route).unwrap();
        }
        let drops = ports.drops();
        (
            drops.get(DropReason::PortDown),
            drops.get(DropReason::TransmitFailed),
            ports.counters(B).tx_frames,
        )
    };
    assert_eq!(forward(10), (0, 0, 10));
    run("ip link set vb down");
    assert_eq!(forward(10), (10, 0, 10));
    run("ip link del vb");
    assert_eq!(forward(10), (20, 0, 10));
}

#[test]
fn one_bad_frame_does_not_stop_its_neighbours() {
    let mut lab = Lab::new();
    let a = lab.veth_guest("a", "va", "10.9.0.1/24");
    let _b = lab.veth_guest("b", "vb", "10.9.0.2/24");
    run("ip link set vb mtu 200");
    let mut ports = Ports::default();
    for (port, name) in [(A, "va"), (B, "vb")] {
        ports.attach(port, device(name));
    }
    let (good, bad) = (frame(None, &[1; 50]), frame(None, &[2; 1000]));
    let frames: Vec<_> = [&good, &bad, &good, &bad, &bad, &good]
        .map(Clone::clone)
        .into();
    send_from(&a, &frames);
    let mut passed = 0;
    while passed < frames.len() {
        ports
            .pass(A, |frames, outputs| {
                for (frame, output) in frames.iter().zip(outputs) {
                    let ours = frame.bytes[6..12] == SENDER;
                    passed += usize::from(ours);
                    *output = ours.then_some(B);
                }
            })
            .unwrap();
    }
    let counters = ports.counters(B);
    assert_eq!((counters.tx_frames, counters.tx_errors), (3, 3));
    assert_eq!(ports.drops().get(DropReason::TransmitFailed), 3);
}

#[test]
fn a_device_that_vanishes_is_told_and_found_again_under_its_name() {
    let mut lab = Lab::new();
    let a = lab.veth_guest("a", "va", "10.9.0.1/24");
    let mut links = Links::open().unwrap();
    let first = links.get("va").unwrap().clone();
    assert!(first.up && first.carrier && first.mtu == 1500);
    run("ip link del va");
    eventually("gone", 5, || {
        links.update().unwrap() && links.get("va").is_none()
    });
    lab::veth("va", &a, "10.9.0.1/24");
    eventually("back", 5, || {
        links.update().unwrap();
        links.get("va").is_some_and(|link| link.carrier)
    });
    assert_ne!(links.get("va").unwrap().index, first.index);
    run("ip link set va name other");
    eventually("renamed", 5, || {
        links.update().unwrap() && links.get("other").is_some()
    });
    assert!(links.get("va").is_none());
}

#[test]
fn the_router_own_macs_pass_the_unicast_filter() {
    let _lab = Lab::new();
    run("ip link add va type veth peer name vb");
    let index = Links::open().unwrap().get("va").unwrap().index;
    let device = Device::open(index, 1500).unwrap();
    let socket = device.socket();
    socket.listen(MacAddr(RECEIVER), true).unwrap();
    socket.listen(MacAddr(RECEIVER), false).unwrap();
    socket.listen_to_all().unwrap();
    assert!(run("ip -d link show va").contains("promiscuity 1"));
    assert!(socket.as_fd().try_clone_to_owned().is_ok());
}

#[test]
fn an_uplink_receives_what_is_for_the_router_and_nothing_else() {
    let mut lab = Lab::new();
    let a = lab.veth_guest("a", "va", "10.9.0.1/24");
    let index = Links::open().unwrap().get("va").unwrap().index;
    let device = Device::open(index, 1500).unwrap();
    let socket = device.socket().clone();
    let mut ports = Ports::default();
    ports.attach(A, Opened::Device(device));

    let to = |mac: [u8; 6]| [&mac[..], &SENDER, &[0x88, 0xb5], &[0; 50]].concat();
    let near = [2, 0, 0, 0, 1, 0xd2];
    let far = [2, 1, 0, 0, 0, 0xd2];
    let group = [0x33, 0x33, 0xff, 0, 0, 1];
    let mut heard = |macs: Option<&[[u8; 6]]>| {
        let macs: Option<Vec<_>> = macs.map(|macs| macs.iter().copied().map(MacAddr).collect());
        socket.only(macs.as_deref(), &[]).unwrap();
        send_from(&a, &[RECEIVER, near, far, group, [0xff; 6]].map(to));
        let mut heard = Vec::new();
        let mut look = |frames: &mut [tapgate_engine::frame::Frame<'_>],
                        _: &mut [Option<_>; 64]| {
            for frame in frames.iter().filter(|frame| frame.bytes[6..12] == SENDER) {
                heard.push(frame.bytes[..6].to_vec());
            }
        };
        while ports.pass(A, &mut look).unwrap().frames > 0 {}
        heard
    };
    assert_eq!(heard(Some(&[RECEIVER])), [RECEIVER, group, [0xff; 6]]);
    assert_eq!(
        heard(Some(&[far, RECEIVER])),
        [RECEIVER, far, group, [0xff; 6]]
    );
    assert_eq!(heard(Some(&[])), [group, [0xff; 6]]);
    assert_eq!(heard(Some(&[[2; 6]; 300])).len(), 5);
    assert_eq!(heard(None).len(), 5);
}

/// Super-frames wait on the socket's queue and their tags in the ring's slots. An error that the
/// device left when it went down must not set the one off against the other.
#[test]
fn h12_super_frames_that_waited_while_the_device_was_down_keep_their_metadata() {
    let mut lab = Lab::new();
    let guest = lab.veth_guest("a", "va", "10.9.0.1/24");
    run(&format!("ip -n {guest} link set eth0 mtu 9000"));
    run("ip link set va mtu 9000");
    let mut ports = Ports::default();
    ports.attach(A, device("va"));
    // Longer than a slot of a port with an MTU of 1500, each with a tag and bytes of its own.
    let frame = |number: u8| {
        let mut bytes = vec![0xff; 6];
        bytes.extend([2, 0, 0, 0, 0, 1, 0x81, 0, 0, number, 0x88, 0xb5]);
        bytes.resize(5000 + usize::from(number), number);
        bytes
    };
    send_from(&guest, &[frame(1), frame(2)]);
    std::thread::sleep(Duration::from_millis(100));
    run("ip link set va down");
    run("ip link set va up");
    eventually("up again", 5, || {
        run("ip link show va").contains("LOWER_UP")
    });
    send_from(&guest, &[frame(3), frame(4)]);
    std::thread::sleep(Duration::from_millis(100));

    let mut seen = Vec::new();
    while ports
        .pass(A, |frames, _| {
            let ours = frames
                .iter()
                .filter(|frame| frame.bytes[12..14] == [0x88, 0xb5]);
            seen.extend(ours.map(|frame| (frame.vlan, frame.bytes[20], frame.bytes.len())));
        })
        .unwrap()
        .frames
        > 0
    {}
    let whole = |number: u8| (Some(number.into()), number, 4996 + usize::from(number));
    assert_eq!(seen, [1, 2, 3, 4].map(whole));
    assert_eq!(ports.drops().get(DropReason::FrameTruncated), 0);
}
