//! A machine that writes what it likes into its `virtio_net_hdr`.

mod lab;

use std::time::Duration;

use lab::wire::{HEADER, Wire};
use lab::{Lab, eventually, run};
use tapgate_dataplane::dataplane::Dataplane;
use tapgate_engine::checksum::{checksum, fold, pseudo_header, sum};
use tapgate_engine::config::{Config, File};
use tapgate_protocol::{Rows, Show};

const INSIDE: [u8; 4] = [10, 9, 0, 1];
const PROVIDER: [u8; 4] = [198, 51, 100, 1];
const NEEDS_CSUM: u8 = 1;
const TCPV4: u8 = 1;
/// Longer than a frame takes.
const SILENCE: Duration = Duration::from_millis(200);

fn config() -> Config {
    let file: File = toml::from_str(
        "[ports]
         up = { device = \"up0\" }
         m = { device = \"vm0\", create = {} }
         [personalities]
         wan = { port = \"up\", mac = \"02:00:00:00:00:77\", addresses = [\"198.51.100.8/24\"] }
         [networks]
         n = { ports = [\"m\"], addresses = [\"10.9.0.254/24\"], mac = \"02:00:00:00:00:fe\" }
         [guests]
         vm = { port = \"m\", addresses = [\"10.9.0.1\"], personality = \"wan\" }
         [nat]
         snat = [{ from = \"10.9.0.0/24\", to = \"198.51.100.8\" }]\n",
    )
    .unwrap();
    Config::try_from(file).unwrap()
}

fn header(kind: u8, size: u16, start: u16, offset: u16) -> [u8; HEADER] {
    let mut header = [NEEDS_CSUM, kind, 0, 0, 0, 0, 0, 0, 0, 0];
    let headers = if kind == 0 { 0u16 } else { 54 };
    header[2..4].copy_from_slice(&headers.to_ne_bytes());
    header[4..6].copy_from_slice(&size.to_ne_bytes());
    header[6..8].copy_from_slice(&start.to_ne_bytes());
    header[8..10].copy_from_slice(&offset.to_ne_bytes());
    header
}

/// A guest's packet to the provider, whose transport checksum, at `field`, holds the pseudo-header's
/// sum.
fn packet(protocol: u8, field: usize, mut transport: Vec<u8>) -> Vec<u8> {
    let pseudo = pseudo_header(&INSIDE, &PROVIDER, protocol, transport.len());
    transport[field..field + 2].copy_from_slice(&fold(pseudo).to_be_bytes());
    let length = (20 + transport.len()) as u16;
    let start = [
        [0x45, 0],
        length.to_be_bytes(),
        [0, 0],
        [0, 0],
        [64, protocol],
        [0, 0],
    ]
    .concat();
    let mut ip = [&start[..], &INSIDE, &PROVIDER].concat();
    let check = checksum(&ip).to_be_bytes();
    ip[10..12].copy_from_slice(&check);
    let ethernet = [2, 0, 0, 0, 0, 0xfe, 2, 0, 0, 0, 0, 0x91, 8, 0];
    [&ethernet[..], &ip, &transport].concat()
}

fn udp(payload: &[u8]) -> Vec<u8> {
    let length = ((8 + payload.len()) as u16).to_be_bytes();
    let start = [0x40, 0, 0x1e, 0x61, length[0], length[1], 0, 0];
    packet(17, 6, [&start[..], payload].concat())
}

fn tcp(payload: usize) -> Vec<u8> {
    let start = [
        0x40, 0, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 0x10, 0xff, 0xff, 0, 0, 0, 0,
    ];
    packet(6, 16, [&start[..], &vec![7; payload]].concat())
}

/// How often the guest was told to have forged metadata.
fn forged(dataplane: &Dataplane) -> u64 {
    let (Rows::Guests(guests), _) = dataplane.show(Show::Guests, 0).unwrap() else {
        panic!("no guests");
    };
    let vm = guests.iter().find(|guest| guest.name == "vm").unwrap();
    vm.violations.get("forged-offload").copied().unwrap_or(0)
}

#[test]
fn h12_a_machine_s_metadata_write_no_port_and_make_no_swarm() {
    let mut lab = Lab::new();
    let provider = lab.veth_guest("provider", "up0", "198.51.100.1/24");
    let dataplane = Dataplane::new().unwrap();
    dataplane.configure(&config()).unwrap();
    let machine = Wire::machine("vm0").unwrap();
    let wire = Wire::veth(&provider).unwrap();
    // IPv4 frames of the guest that come out, by their protocol.
    let came = |protocol: u8| {
        std::thread::sleep(SILENCE);
        let all = std::iter::from_fn(|| wire.receive());
        let its = |frame: &Vec<u8>| {
            frame[12..14] == [8, 0] && frame[23] == protocol && frame[26..30] == [198, 51, 100, 8]
        };
        all.filter(its).collect::<Vec<_>>()
    };
    // The provider's MAC is found, and an honest sender served.
    eventually("an honest datagram", 5, || {
        assert!(machine.send_with(header(0, 0, 34, 6), &udp(b"honest")));
        !came(17).is_empty()
    });
    assert_eq!(forged(&dataplane), 0);
    while !came(17).is_empty() {}

    // Whoever completes it writes the destination port.
    assert!(machine.send_with(header(0, 0, 34, 2), &udp(b"evil")));
    assert_eq!(came(17), [[0; 0]; 0]);
    assert_eq!(forged(&dataplane), 1);
    // Thirty thousand segments. Newer kernels refuse some of what follows themselves.
    let sent = machine.send_with(header(TCPV4, 1, 34, 16), &tcp(30_000));
    assert_eq!(came(6), [[0; 0]; 0]);
    assert_eq!(forged(&dataplane), 1 + u64::from(sent));
    assert!(sent);
    // An honest super-frame leaves as one, or as its segments.
    assert!(machine.send_with(header(TCPV4, 1448, 34, 16), &tcp(30_000)));
    let segments = came(6);
    assert!((1..=21).contains(&segments.len()), "{}", segments.len());

    // A datagram inside a tunnel: the provider gets it whole.
    let (from, to) = ([172, 16, 0, 1], [172, 16, 0, 2]);
    let mut inner = vec![0, 1, 0, 2, 0, 14, 0, 0];
    inner.extend(b"inside");
    let pseudo = pseudo_header(&from, &to, 17, inner.len());
    inner[6..8].copy_from_slice(&fold(pseudo).to_be_bytes());
    assert!(machine.send_with(header(0, 0, 42, 6), &udp(&inner)));
    let sent = came(17);
    let received = &sent[0][42..42 + inner.len()];
    assert_eq!(fold(sum(received, pseudo)), 0xffff, "{received:02x?}");
    run("ip link show vm0");
    dataplane.stop();
}
