//! The host's kernel beside the router, on one device with one MAC and one address.

mod lab;

use std::io::{ErrorKind, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use afpacket::sync::RawPacketStream;
use ipnet::IpNet;
use lab::bridge::{A, device};
use lab::{Lab, attempt, eventually, run, within};
use tapgate_dataplane::hostguard::{Guarded, HostGuard};
use tapgate_dataplane::link::Links;
use tapgate_dataplane::port::Ports;
use tapgate_dataplane::shared::{Device, Shared, SharedAddress};
use tapgate_engine::addr::MacAddr;
use tapgate_engine::config::PortRange;

const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 7]);
const HOST: &str = "192.0.2.7";
const HOST6: &str = "2001:db8::7";
/// Longer than an answer takes.
const SILENCE: Duration = Duration::from_millis(200);

/// The host, with `up0` towards the provider; returns the provider's namespace.
fn host(lab: &mut Lab) -> String {
    let provider = lab.veth_guest("provider", "up0", "192.0.2.1/24");
    run(&format!("ip link set up0 address {MAC}"));
    run(&format!("ip address add {HOST}/24 dev up0"));
    run(&format!("ip address add {HOST6}/64 dev up0 nodad"));
    run(&format!(
        "ip -n {provider} address add 2001:db8::1/64 dev eth0 nodad"
    ));
    run("sysctl -qw net.ipv4.icmp_ratelimit=0 net.ipv6.icmp.ratelimit=0");
    eventually("the provider is there", 5, || {
        attempt(&format!("ping -q -c 1 -W 1 {}", "2001:db8::1")).0
    });
    provider
}

fn ports(text: &str) -> Vec<PortRange> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        PortRange {
            first: first.parse().unwrap(),
            last: last.parse().unwrap(),
        }
    };
    text.split(',').map(range).collect()
}

/// `up0` with these TCP and UDP ports of both addresses ours.
fn shared(tcp: &str, udp: &str, guests: &[IpNet]) -> Guarded {
    let address = |text: &str| SharedAddress {
        address: text.parse().unwrap(),
        tcp: ports(tcp),
        udp: ports(udp),
    };
    let device = Device {
        name: "up0".to_owned(),
        shared: vec![Shared {
            name: "host".to_owned(),
            mac: MAC,
            vlan: None,
            addresses: [HOST, HOST6].map(address).into(),
            guests: guests.to_vec(),
            alive: Vec::new(),
        }],
    };
    Guarded {
        closed: Vec::new(),
        shared: vec![device],
        stays: false,
    }
}

fn configure(guard: &mut HostGuard, guarded: Guarded, links: &Links) {
    assert_eq!(guard.configure(guarded, links), [""; 0]);
    guard.release(links);
}

/// What a TCP connection attempt from a namespace comes to; nothing within [`SILENCE`] is
/// `TimedOut`.
fn tcp(from: &str, to: &str, port: u16) -> Result<(), ErrorKind> {
    let to = SocketAddr::new(to.parse::<IpAddr>().unwrap(), port);
    within(from, || {
        TcpStream::connect_timeout(&to, SILENCE)
            .map(drop)
            .map_err(|error| error.kind())
    })
}

/// Whether a datagram is answered with "port unreachable".
fn udp_is_refused(from: &str, to: &str, port: u16) -> bool {
    let to = SocketAddr::new(to.parse::<IpAddr>().unwrap(), port);
    within(from, || {
        let local = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(local).unwrap();
        socket.connect(to).unwrap();
        socket.set_read_timeout(Some(SILENCE)).unwrap();
        socket.send(b"?").unwrap();
        socket.recv(&mut [0; 8]).unwrap_err().kind() == ErrorKind::ConnectionRefused
    })
}

fn tables() -> String {
    run("nft list tables")
}

fn guard(guarded: Guarded) -> (HostGuard, Links) {
    let links = Links::open().unwrap();
    let mut guard = HostGuard::default();
    configure(&mut guard, guarded, &links);
    (guard, links)
}

#[test]
fn the_kernel_answers_for_its_own_ports_and_not_for_the_router_s() {
    let mut lab = Lab::new();
    let provider = host(&mut lab);
    let ssh = TcpListener::bind("[::]:22").unwrap();
    let _hidden = TcpListener::bind("[::]:61001").unwrap();
    let refused = Err(ErrorKind::ConnectionRefused);
    let silent = Err(ErrorKind::TimedOut);
    for to in [HOST, HOST6] {
        assert_eq!(tcp(&provider, to, 22), Ok(()));
        assert_eq!(tcp(&provider, to, 61_000), refused);
        assert_eq!(tcp(&provider, to, 61_001), Ok(()));
        assert!(udp_is_refused(&provider, to, 61_000));
    }

    let mut sockets = Ports::default();
    sockets.attach(A, device("up0"));
    let (mut guard, links) = guard(shared("61000-65535,2222", "5353,61000-65535", &[]));
    for to in [HOST, HOST6] {
        for port in [61_000, 61_001, 65_535, 2222] {
            assert_eq!(tcp(&provider, to, port), silent, "{to}:{port}");
        }
        for port in [22, 60_999, 2221, 2223, 5353] {
            assert_ne!(tcp(&provider, to, port), silent, "{to}:{port}");
        }
        assert!(!udp_is_refused(&provider, to, 61_000));
        assert!(!udp_is_refused(&provider, to, 5353));
        assert!(udp_is_refused(&provider, to, 2222));
        assert!(attempt(&format!("ip netns exec {provider} ping -q -c 1 -W 1 {to}")).0);
    }
    assert!(attempt("ping -q -c 1 -W 1 192.0.2.1").0);
    let _ = ssh.accept().unwrap();

    let mut seen = 0;
    while sockets
        .pass(A, |frames, _| {
            let syn =
                |frame: &[u8]| frame[12..14] == [8, 0] && frame[36..38] == 61_000u16.to_be_bytes();
            seen += frames.iter().filter(|frame| syn(frame.bytes)).count();
        })
        .unwrap()
        .frames
        > 0
    {}
    assert!(seen >= 2, "{seen} of a SYN and a datagram");

    configure(&mut guard, Guarded::default(), &links);
    eventually("the table is gone", 5, || tables().is_empty());
    assert_eq!(tcp(&provider, HOST, 61_000), refused);
}

#[test]
fn guests_packets_are_not_forwarded_a_second_time() {
    let mut lab = Lab::new();
    let provider = host(&mut lab);
    let guest = lab.veth_guest("guest", "in0", "198.51.100.9/24");
    run("ip address add 198.51.100.254/24 dev in0");
    run("ip address add 2001:db8:9::fe/64 dev in0 nodad");
    run("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1");
    for address in ["2001:db8:9::1", "2001:db8:9::2"] {
        run(&format!(
            "ip -n {guest} address add {address}/64 dev eth0 nodad"
        ));
    }
    run(&format!(
        "ip -n {guest} route add default via 198.51.100.254"
    ));
    run(&format!(
        "ip -n {guest} route add default via 2001:db8:9::fe"
    ));
    run(&format!(
        "ip -n {provider} route add 198.51.100.0/24 via {HOST}"
    ));
    run(&format!(
        "ip -n {provider} route add 2001:db8:9::/64 via {HOST6}"
    ));
    let reaches = |to: &str| attempt(&format!("ip netns exec {provider} ping -q -c 1 -W 1 {to}")).0;
    for to in ["198.51.100.9", "2001:db8:9::1", "2001:db8:9::2"] {
        eventually(to, 5, || reaches(to));
    }
    let public = ["198.51.100.8/29", "198.51.100.9/32", "2001:db8:9::1/128"];
    let public = public.map(|prefix| prefix.parse().unwrap());
    let (_guard, _) = guard(shared("61000-65535", "61000-65535", &public));
    assert!(!reaches("198.51.100.9"));
    assert!(!reaches("2001:db8:9::1"));
    assert!(reaches("2001:db8:9::2"));
    assert!(reaches(HOST));
}

#[test]
fn what_may_be_alive_behind_the_router_is_its_own_but_for_the_host_s_addresses() {
    let mut lab = Lab::new();
    let provider = host(&mut lab);
    run("ip address add 2001:db8::77/64 dev up0 nodad");
    run(&format!(
        "ip -n {provider} route add 198.51.100.0/24 via {HOST}"
    ));
    run("ip address add 198.51.100.1/32 dev up0");
    run("ip address add 198.51.100.2/32 dev lo");
    let mut devices = shared("61000-65535", "61000-65535", &[]);
    let alive = ["2001:db8::/64", "198.51.100.0/24"];
    devices.shared[0].shared[0].alive = alive.map(|prefix| prefix.parse().unwrap()).into();
    let (_guard, _) = guard(devices);
    let reaches = |to: &str| attempt(&format!("ip netns exec {provider} ping -q -c 1 -W 1 {to}")).0;
    for own in [HOST, HOST6, "2001:db8::77", "198.51.100.1", "198.51.100.2"] {
        assert!(reaches(own), "{own}");
    }
    assert_eq!(tcp(&provider, HOST6, 61_000), Err(ErrorKind::TimedOut));
    // Without the rule the host, which forwards, would say that there is no way.
    run("sysctl -qw net.ipv4.ip_forward=1");
    run("ip route add unreachable 198.51.100.9");
    assert_eq!(tcp(&provider, "198.51.100.9", 80), Err(ErrorKind::TimedOut));
    drop(_guard);
    eventually("the table is gone", 5, || tables().is_empty());
    assert_eq!(
        tcp(&provider, "198.51.100.9", 80),
        Err(ErrorKind::HostUnreachable)
    );
}

#[test]
fn the_rules_last_as_long_as_somebody_keeps_their_descriptor() {
    let mut lab = Lab::new();
    let provider = host(&mut lab);
    let silent = |port| tcp(&provider, HOST, port) == Err(ErrorKind::TimedOut);
    let (first, links) = guard(shared("61000-65535", "61000-65535", &[]));
    let kept: OwnedFd = first.descriptor().unwrap().try_clone_to_owned().unwrap();
    let table = tables();
    assert!(table.starts_with("table netdev tapgate-"), "{table}");

    drop(first);
    assert!(silent(61_000) && tables() == table);
    let _ = attempt("nft flush ruleset");
    assert!(silent(61_000) && tables() == table);
    let mut second = HostGuard::default();
    second.adopt(kept).unwrap();
    assert!(silent(61_000));
    let other = shared("62000-62999", "61000-65535", &[]);
    configure(&mut second, other, &links);
    assert!(!silent(61_000) && silent(62_000) && tables() == table);

    drop(second);
    eventually("the table is gone", 5, || tables().is_empty());
    assert!(!silent(62_000));
}

#[test]
fn the_kernel_removes_the_rules_of_a_killed_process() {
    let mut lab = Lab::new();
    let provider = host(&mut lab);
    let silent = |port| tcp(&provider, HOST, port) == Err(ErrorKind::TimedOut);
    let (guard, _links) = guard(shared("61000-65535", "61000-65535", &[]));
    // A process that only keeps the descriptor, as control does.
    let descriptor = guard.descriptor().unwrap().try_clone_to_owned().unwrap();
    let keeper = std::process::Command::new("sleep")
        .arg("60")
        .stdin(std::process::Stdio::from(descriptor))
        .spawn()
        .map(lab::Background)
        .unwrap();
    drop(guard);
    assert!(silent(61_000));
    drop(keeper); // by SIGKILL
    eventually("the table is gone", 5, || tables().is_empty());
    assert!(!silent(61_000));
}

#[test]
fn a_change_leaves_no_moment_without_rules() {
    let mut lab = Lab::new();
    let provider = host(&mut lab);
    let versions = ["61000-65535", "61000-62000,2222,62001-65535", "1024-65535"];
    let guests = ["198.51.100.0/24".parse().unwrap()];
    let version = |number: usize| shared(versions[number], versions[number], &guests);
    let (mut guard, links) = guard(version(0));
    let done = AtomicBool::new(false);
    let (sent, answers) = std::thread::scope(|scope| {
        let flood = scope.spawn(|| {
            within(&provider, || {
                let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
                socket.connect((HOST, 62_000)).unwrap();
                socket.set_nonblocking(true).unwrap();
                let (mut sent, mut answers) = (0, 0);
                while !done.load(Ordering::Relaxed) {
                    let refused = |kind| kind == ErrorKind::ConnectionRefused;
                    match socket.send(b"?") {
                        Err(error) if refused(error.kind()) => answers += 1,
                        _ => sent += 1,
                    }
                }
                (sent, answers)
            })
        });
        let begun = Instant::now();
        let mut changes = 0;
        while begun.elapsed() < Duration::from_secs(2) {
            for number in 0..versions.len() {
                configure(&mut guard, version(number), &links);
                changes += 1;
            }
        }
        done.store(true, Ordering::Relaxed);
        println!("{changes} changes");
        flood.join().unwrap()
    });
    println!("{sent} datagrams");
    assert!(sent > 10_000);
    assert_eq!(answers, 0);
}

#[test]
fn a_device_that_returns_is_guarded_again() {
    let mut lab = Lab::new();
    let provider = host(&mut lab);
    let silent = |port| tcp(&provider, HOST, port) == Err(ErrorKind::TimedOut);
    let (mut guard, mut links) = guard(shared("61000-65535", "61000-65535", &[]));
    for _ in 0..2 {
        run("ip link del up0");
        links.update().unwrap();
        guard.follow(&links);
        lab::veth("up0", &provider, "192.0.2.1/24");
        run(&format!("ip link set up0 address {MAC}"));
        run(&format!("ip address add {HOST}/24 dev up0"));
        links.update().unwrap();
        guard.follow(&links);
        assert!(silent(61_000));
        assert_ne!(tcp(&provider, HOST, 22), Err(ErrorKind::TimedOut));
        assert_eq!(run("nft list chains").matches("chain").count(), 1);
    }
    // Another device takes the name.
    run("ip link set up0 down");
    run("ip link set up0 name old0");
    run("ip link add up0 type veth peer name nobody");
    links.update().unwrap();
    guard.follow(&links);
    let chains = run("nft list chains");
    assert!(
        chains.contains("\"up0\"") && !chains.contains("\"old0\""),
        "{chains}"
    );
}

#[test]
fn only_frames_to_the_shared_mac_in_its_vlan_are_kept_from_the_kernel() {
    let mut lab = Lab::new();
    let provider = host(&mut lab);
    let mut devices = shared("61000-65535", "61000-65535", &[]);
    let mut tagged = devices.shared[0].shared[0].clone();
    tagged.vlan = Some(100);
    tagged.addresses[0].udp = ports("7");
    devices.shared[0].shared.push(tagged);
    let (_guard, _) = guard(devices);
    // Counts what passes ours.
    run("nft add table netdev probe");
    lab::shell(
        "nft 'add chain netdev probe c { type filter hook ingress device up0 priority 0; }'",
    );
    run("nft add rule netdev probe c vlan type 0x0800 counter");
    run("nft add rule netdev probe c ether type 0x0800 udp sport 9 counter");
    let passed = || {
        let listed = run("nft list chain netdev probe c");
        let count = |what: &str| {
            let line = listed
                .lines()
                .find(|line| line.contains(what))
                .expect(&listed);
            let words = line.split_whitespace();
            words
                .skip_while(|word| *word != "packets")
                .nth(1)
                .unwrap()
                .parse::<u32>()
                .unwrap()
        };
        (count("vlan"), count("udp"))
    };
    let send = |mac: MacAddr, tag: Option<u16>, port: u16| {
        let mut frame = [mac.0, [2, 0, 0, 0, 0, 1]].concat();
        if let Some(tag) = tag {
            frame.extend([0x81, 0x00]);
            frame.extend(tag.to_be_bytes());
        }
        frame.extend([0x08, 0x00, 0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0xf6, 0xca]);
        frame.extend([192, 0, 2, 1, 192, 0, 2, 7, 0, 9]);
        frame.extend(port.to_be_bytes());
        frame.extend([0, 8, 0, 0]);
        frame.resize(64, 0);
        within(&provider, || {
            let mut socket = RawPacketStream::new().unwrap();
            socket.bind("eth0").unwrap();
            socket.write_all(&frame).unwrap();
        });
        passed()
    };
    let other = MacAddr([2, 0, 0, 0, 0, 8]);
    assert_eq!(send(MAC, None, 61_000), (0, 0));
    assert_eq!(send(MAC, None, 7), (0, 1));
    assert_eq!(send(other, None, 61_000), (0, 2));
    assert_eq!(send(MAC, Some(0x2064), 7), (0, 2));
    assert_eq!(send(MAC, Some(0x2064), 61_000), (1, 2));
    assert_eq!(send(MAC, Some(0xe000), 61_000), (1, 2));
    assert_eq!(send(MAC, Some(101), 7), (2, 2));
    assert_eq!(send(other, Some(100), 7), (3, 2));
}

#[test]
fn a_hundred_thousand_prefixes_are_loaded_in_no_time() {
    let _lab = Lab::new();
    run("ip link add up0 type veth peer name nobody");
    let hosts = (0..100_000u128).map(|n| {
        // Neither in order nor next to each other.
        let low = (n * 0x9e37_79b9_7f4a_7c15) & 0xffff_ffff_ffff_fffe;
        IpNet::from(IpAddr::V6(Ipv6Addr::from(0x2001_0db8 << 96 | low)))
    });
    let nets = (0..1000u32).map(|n| format!("10.{}.{}.0/30", n / 250, n % 250).parse().unwrap());
    let guests: Vec<IpNet> = hosts.chain(nets).collect();
    let begun = Instant::now();
    let (mut guard, links) = guard(shared("61000-65535", "61000-65535", &guests));
    let first = begun.elapsed();
    let mut guests = guests;
    guests.pop();
    let begun = Instant::now();
    let fewer = shared("61000-65535", "61000-65535", &guests);
    configure(&mut guard, fewer, &links);
    let second = begun.elapsed();
    let begun = Instant::now();
    drop(guard);
    println!(
        "{} prefixes: loaded in {first:?}, changed in {second:?}, gone in {:?}",
        guests.len() + 1,
        begun.elapsed()
    );
    assert!(first < Duration::from_secs(5) && second < Duration::from_secs(5));
}
