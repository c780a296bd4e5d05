//! Guests against the host's kernel: their devices are closed to it.

mod lab;

use std::collections::BTreeSet;
use std::fs;
use std::net::{Ipv6Addr, TcpListener, UdpSocket};
use std::num::NonZeroU32;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use lab::wire::Wire;
use lab::{Lab, attempt, eventually, run, within};
use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SocketFlags, SocketType, recv, socket_with, sockopt,
};
use tapgate_dataplane::dataplane::Dataplane;
use tapgate_dataplane::hostguard::{Guarded, HostGuard};
use tapgate_dataplane::link::Links;
use tapgate_engine::checksum::{checksum, fold, pseudo_header, sum};
use tapgate_engine::config::{Config, File};
use tapgate_protocol::{Channel, Configure, DATAPLANE_SOCKET, Kept, Request, Response};

/// Longer than an answer takes.
const SILENCE: Duration = Duration::from_millis(100);
/// Of local experiments (IEEE 802): nobody but this test has a use for it.
const EXPERIMENTAL: u16 = 0x88b5;
const GUEST: [u8; 6] = [2, 0, 0, 0, 0, 0x91];
/// An address of the host's that has nothing to do with guests.
const HOST: [u8; 4] = [192, 0, 2, 7];
const PROVIDER: [u8; 4] = [198, 51, 100, 1];

/// A host that forwards, believes routers and has a service; its guest's device is `va`.
struct Host {
    guest: String,
    provider: String,
    /// Gets what passes the ingress hook of any device.
    stack: OwnedFd,
    _service: TcpListener,
}

impl Host {
    fn new(lab: &mut Lab) -> Self {
        let guest = lab.veth_guest("guest", "va", "10.9.0.1/24");
        let provider = lab.veth_guest("provider", "up0", "198.51.100.1/24");
        run("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.va.accept_ra=1");
        run("ip address add 192.0.2.7/32 dev lo");
        run("ip address add 198.51.100.7/24 dev up0");
        run(&format!(
            "ip -n {guest} link set eth0 address {}",
            text(GUEST)
        ));
        run("ip route add 10.9.0.1 dev va");
        run(&format!(
            "ip neighbour add 10.9.0.1 lladdr {} dev va",
            text(GUEST)
        ));
        Self {
            guest,
            provider,
            stack: listener(EXPERIMENTAL),
            _service: TcpListener::bind("192.0.2.7:22").unwrap(),
        }
    }

    /// What the host does about the frames of a guest whose device is `device`.
    fn does(&self, device: &str, guest: &Wire) -> BTreeSet<&'static str> {
        let mac = mac_of(device);
        let sink = within(&self.provider, || {
            let socket = UdpSocket::bind("198.51.100.1:7777").unwrap();
            socket.set_read_timeout(Some(SILENCE)).unwrap();
            socket
        });
        while guest.receive().is_some() {}
        while self.has_seen_experimental() {}
        for frame in [
            arp_request(HOST),
            tcp_syn(mac, HOST),
            router_advertisement(),
            spoofed(mac, PROVIDER, 7777),
            experimental(),
        ] {
            assert!(guest.send(&frame));
        }
        let mut done = BTreeSet::new();
        if sink.recv(&mut [0; 64]).is_ok() {
            done.insert("forwards what is spoofed");
        }
        std::thread::sleep(SILENCE);
        while let Some(frame) = guest.receive() {
            match (&frame[12..14], &frame[26..32]) {
                ([8, 6], of) if of[2..6] == HOST => done.insert("answers ARP"),
                ([8, 0], from) if from[..4] == HOST => done.insert("answers TCP"),
                _ => true,
            };
        }
        if self.has_seen_experimental() {
            done.insert("sees an unknown ethertype");
        }
        if !run(&format!("ip -6 route show default dev {device}")).is_empty() {
            done.insert("believes a router");
            run(&format!("ip -6 route flush default dev {device}"));
        }
        done
    }

    fn has_seen_experimental(&self) -> bool {
        recv(&self.stack, &mut [0; 64], RecvFlags::DONTWAIT).is_ok()
    }

    /// How many frames the stack sees while something is done and a guest sends as many as it can.
    /// `wire` is its device's end, when it has one.
    fn sees_during(
        &self,
        wire: impl Fn() -> Option<Wire> + Sync,
        what: impl FnOnce(),
    ) -> (u64, u64) {
        let (over, sent) = (AtomicBool::new(false), AtomicU64::new(0));
        let stack = listener(EXPERIMENTAL);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let frame = experimental();
                while !over.load(Ordering::Relaxed) {
                    let Some(wire) = wire() else { continue };
                    let mut left = 0;
                    // A device that is not up, or is gone, takes none.
                    while !over.load(Ordering::Relaxed) && left < 1000 {
                        match wire.send(&frame) {
                            true => sent.fetch_add(1, Ordering::Relaxed),
                            false => {
                                left += 1;
                                0
                            }
                        };
                    }
                }
            });
            let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(what));
            over.store(true, Ordering::Relaxed);
            done.unwrap();
        });
        std::thread::sleep(SILENCE);
        let seen = || recv(&stack, &mut [0; 64], RecvFlags::DONTWAIT).ok();
        let seen = std::iter::from_fn(seen).count();
        (seen as u64, sent.into_inner())
    }
}

fn everything() -> BTreeSet<&'static str> {
    BTreeSet::from([
        "answers ARP",
        "answers TCP",
        "believes a router",
        "forwards what is spoofed",
        "sees an unknown ethertype",
    ])
}

fn nothing() -> BTreeSet<&'static str> {
    BTreeSet::new()
}

fn text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

fn mac_of(device: &str) -> [u8; 6] {
    let links = Links::open().unwrap();
    links.get(device).unwrap().mac.unwrap().0
}

/// A packet socket for one protocol on any device. Unlike one for all, it comes after the ingress
/// hook.
fn listener(ethertype: u16) -> OwnedFd {
    let protocol = NonZeroU32::new(ethertype.to_be().into()).map(Protocol::from_raw);
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::PACKET, SocketType::RAW, flags, protocol).unwrap();
    sockopt::set_socket_recv_buffer_size_force(&socket, 64 << 20).unwrap();
    socket
}

fn ethernet(to: [u8; 6], ethertype: u16, content: &[u8]) -> Vec<u8> {
    let mut frame = [&to[..], &GUEST, &ethertype.to_be_bytes(), content].concat();
    frame.resize(frame.len().max(60), 0);
    frame
}

fn arp_request(target: [u8; 4]) -> Vec<u8> {
    let start = [0, 1, 8, 0, 6, 4, 0, 1];
    let content = [&start[..], &GUEST, &[10, 9, 0, 1], &[0; 6], &target].concat();
    ethernet([0xff; 6], 0x0806, &content)
}

fn experimental() -> Vec<u8> {
    ethernet([0xff; 6], EXPERIMENTAL, &[])
}

fn ipv4(to: [u8; 6], source: [u8; 4], destination: [u8; 4], protocol: u8, rest: &[u8]) -> Vec<u8> {
    let length = (20 + rest.len()) as u16;
    let mut header = [
        &[0x45, 0],
        &length.to_be_bytes()[..],
        &[0, 0, 0, 0, 64, protocol, 0, 0],
    ]
    .concat();
    header.extend([source, destination].concat());
    let check = checksum(&header).to_be_bytes();
    header[10..12].copy_from_slice(&check);
    ethernet(to, 0x0800, &[&header, rest].concat())
}

fn tcp_syn(to: [u8; 6], destination: [u8; 4]) -> Vec<u8> {
    let source = [10, 9, 0, 1];
    let mut tcp = vec![
        0x40, 0, 0, 22, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0,
    ];
    let check = !fold(sum(
        &tcp,
        pseudo_header(&source, &destination, 6, tcp.len()),
    ));
    tcp[16..18].copy_from_slice(&check.to_be_bytes());
    ipv4(to, source, destination, 6, &tcp)
}

/// A datagram without a checksum, in a stranger's name.
fn spoofed(to: [u8; 6], destination: [u8; 4], port: u16) -> Vec<u8> {
    let udp = [&[0x40, 0], &port.to_be_bytes()[..], &[0, 12, 0, 0], b"spam"].concat();
    ipv4(to, [203, 0, 113, 5], destination, 17, &udp)
}

fn router_advertisement() -> Vec<u8> {
    let [source, to]: [Ipv6Addr; 2] = ["fe80::91", "ff02::1"].map(|text| text.parse().unwrap());
    let mut message = [&[134, 0, 0, 0, 64, 0, 0x07, 0x08][..], &[0; 8]].concat();
    let pseudo = pseudo_header(&source.octets(), &to.octets(), 58, message.len());
    let check = !fold(sum(&message, pseudo));
    message[2..4].copy_from_slice(&check.to_be_bytes());
    let header = [0x60, 0, 0, 0, 0, message.len() as u8, 58, 255];
    let packet = [&header[..], &source.octets(), &to.octets(), &message].concat();
    ethernet([0x33, 0x33, 0, 0, 0, 1], 0x86dd, &packet)
}

fn config(ports: &str, members: &str) -> Config {
    let file: File = toml::from_str(&format!(
        "[ports]
         up = {{ device = \"up0\" }}
         {ports}
         [personalities]
         wan = {{ port = \"up\", mac = \"02:00:00:00:00:77\", addresses = [\"198.51.100.8/24\"] }}
         [networks]
         n = {{ ports = [{members}], addresses = [\"10.9.0.254/24\"] }}\n"
    ))
    .unwrap();
    Config::try_from(file).unwrap()
}

fn tables() -> String {
    run("nft list tables")
}

#[test]
fn h01_the_host_hears_nothing_of_a_guest_for_as_long_as_its_port_exists() {
    let mut lab = Lab::new();
    let host = Host::new(&mut lab);
    let guest = Wire::veth(&host.guest).unwrap();
    assert_eq!(host.does("va", &guest), everything());

    let dataplane = Dataplane::new().unwrap();
    let both = config(
        "v = { device = \"va\" }\nm = { device = \"vm0\", create = {} }",
        "\"v\", \"m\"",
    );
    assert_eq!(dataplane.configure(&both).unwrap().warnings, [""; 0]);
    assert_eq!(host.does("va", &guest), nothing());
    // The router goes on hearing it, and speaks there.
    let ping = format!("ip netns exec {} ping -q -c 1 -W 1 10.9.0.254", host.guest);
    assert!(attempt(&ping).0);
    // The uplink stays the host's as well.
    let ping = format!(
        "ip netns exec {} ping -q -c 1 -W 1 198.51.100.7",
        host.provider
    );
    assert!(attempt(&ping).0);

    let machine = Wire::machine("vm0").unwrap();
    run("sysctl -qw net.ipv6.conf.vm0.accept_ra=1");
    assert_eq!(host.does("vm0", &machine), nothing());

    // A port that is no guest's any more: its device is the host's again.
    let without = config("m = { device = \"vm0\", create = {} }", "\"m\"");
    assert_eq!(dataplane.configure(&without).unwrap().warnings, [""; 0]);
    assert_eq!(host.does("va", &guest), everything());
    assert_eq!(host.does("vm0", &machine), nothing());

    dataplane.configure(&both).unwrap();
    assert_eq!(host.does("va", &guest), nothing());
    dataplane.stop();
    assert_eq!(tables(), "");
    assert_eq!(host.does("va", &guest), everything());
}

#[test]
fn h01_the_host_has_no_address_of_its_own_on_a_guest_s_device() {
    let mut lab = Lab::new();
    let _host = Host::new(&mut lab);
    let addresses = || run("ip -6 -o address show dev va scope link");
    let mode = || run("ip -d link show va").contains("addrgenmode eui64");
    eventually("the kernel has made itself an address", 5, || {
        addresses().contains("inet6 fe80::")
    });
    run("ip -6 address add fe80::1/64 dev va nodad");
    let before = addresses().matches("inet6").count();
    assert!(mode());
    let dataplane = Dataplane::new().unwrap();
    let config = config("v = { device = \"va\" }", "\"v\"");
    assert_eq!(dataplane.configure(&config).unwrap().warnings, [""; 0]);
    assert_eq!((addresses().as_str(), mode()), ("", false));
    // Set up anew, it makes itself none.
    run("ip link set va down");
    run("ip link set va up");
    std::thread::sleep(SILENCE);
    assert_eq!(addresses(), "");

    // An address that somebody gave the host stays, and is told.
    run("ip address add 10.9.0.77/24 dev va");
    drop(dataplane);
    assert_eq!(
        (addresses().matches("inet6").count(), mode()),
        (before, true)
    );
    let dataplane = Dataplane::new().unwrap();
    assert_eq!(
        dataplane.configure(&config).unwrap().warnings,
        [
            "port v: the host has 10.9.0.77 on a guest's device, but nobody there reaches it; \
             `ip address del` it, and give the network's gateway the address if guests need it"
        ]
    );
    dataplane.stop();
    assert_eq!(
        (addresses().matches("inet6").count(), mode()),
        (before, true)
    );
}

#[test]
fn h01_a_device_is_closed_before_its_first_frame() {
    let mut lab = Lab::new();
    let host = Host::new(&mut lab);
    let dataplane = Dataplane::new().unwrap();
    let without = config("q = { memory = true }", "\"q\"");
    let with = config("m = { device = \"vm0\", create = {} }", "\"m\"");
    // Made by us: closed before it is set up, by any kernel.
    for _ in 0..5 {
        let (seen, sent) = host.sees_during(
            || Wire::machine("vm0"),
            || {
                assert_eq!(dataplane.configure(&with).unwrap().warnings, [""; 0]);
                std::thread::sleep(Duration::from_millis(50));
            },
        );
        assert!(sent > 100, "{sent}");
        assert_eq!(seen, 0, "of {sent}");
        dataplane.configure(&without).unwrap();
        eventually("it was removed", 5, || !run("ip link").contains("vm0"));
    }
    dataplane.stop();
}

#[test]
fn h01_a_device_that_returns_is_closed() {
    let mut lab = Lab::new();
    let host = Host::new(&mut lab);
    let dataplane = Dataplane::new().unwrap();
    let config = config("v = { device = \"va\" }", "\"v\"");
    dataplane.configure(&config).unwrap();
    let wire = || Wire::veth(&host.guest);
    let (seen, sent) = host.sees_during(wire, || {
        for _ in 0..20 {
            run("ip link delete va");
            lab::veth("va", &host.guest, "10.9.0.1/24");
            std::thread::sleep(Duration::from_millis(100));
        }
    });
    println!("the host saw {seen} of {sent} frames");
    assert!(sent > 1_000, "{sent}");
    // Older kernels forget the rules with the device, and it is open until we hear of the new one.
    if kernel() >= (6, 16) {
        assert_eq!(seen, 0);
    }
    assert_eq!(
        host.does("va", &Wire::veth(&host.guest).unwrap()),
        nothing()
    );
    dataplane.stop();
}

fn kernel() -> (u32, u32) {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release
        .split(['.', '-'])
        .map(|number| number.parse().unwrap());
    (numbers.next().unwrap(), numbers.next().unwrap())
}

/// A dataplane's process, killed with SIGKILL when dropped, and its directory.
struct Process {
    child: Child,
    directory: PathBuf,
}

impl Process {
    fn start(directory: PathBuf) -> (Self, Channel) {
        let _ = fs::create_dir(&directory);
        let socket = directory.join(DATAPLANE_SOCKET);
        let child = Command::new(env!("CARGO_BIN_EXE_tapgate-dataplane"))
            .arg("--runtime-dir")
            .arg(&directory)
            .env("TAPGATE_LOG", "warn")
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let process = Self { child, directory };
        eventually("it listens", 10, || UnixStream::connect(&socket).is_ok());
        let mut channel = Channel::new(UnixStream::connect(&socket).unwrap());
        channel.greet().unwrap();
        (process, channel)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn configure(channel: &mut Channel, config: &Config) -> Vec<(Kept, OwnedFd)> {
    let config = Arc::new(config.clone());
    let order = Request::Configure(Configure { config });
    channel.send(&order, &[]).unwrap();
    match channel.receive().unwrap() {
        (Response::Configured { kept, warnings, .. }, descriptors) => {
            assert_eq!(warnings, [""; 0]);
            kept.into_iter().zip(descriptors).collect()
        }
        (other, _) => panic!("{other:?}"),
    }
}

#[test]
fn h01_devices_stay_closed_while_the_dataplane_is_killed_and_another_takes_over() {
    let mut lab = Lab::new();
    let host = Host::new(&mut lab);
    let guest = Wire::veth(&host.guest).unwrap();
    let config = config("v = { device = \"va\" }", "\"v\"");
    let directory =
        |n: u32| std::env::temp_dir().join(format!("tapgate-closed-{n}-{}", std::process::id()));
    let (process, mut channel) = Process::start(directory(1));
    let mut kept = configure(&mut channel, &config);
    let mut number = 1;
    let mut replace = |process: &mut Option<Process>, kept: &mut Vec<(Kept, OwnedFd)>| {
        number += 1;
        let (next, mut channel) = Process::start(directory(number));
        let (names, descriptors): (Vec<_>, Vec<_>) = std::mem::take(kept).into_iter().unzip();
        let borrowed: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
        channel
            .send(&Request::Adopt { kept: names }, &borrowed)
            .unwrap();
        assert!(matches!(channel.receive().unwrap().0, Response::Ok));
        *kept = configure(&mut channel, &config);
        *process = Some(next);
    };
    let mut process = Some(process);
    assert_eq!(host.does("va", &guest), nothing());
    // By SIGKILL. Nobody but us, as control, holds the rules then.
    drop(process.take());
    assert_eq!(host.does("va", &guest), nothing());
    replace(&mut process, &mut kept);
    assert_eq!(host.does("va", &guest), nothing());
    let (seen, sent) = host.sees_during(
        || Wire::veth(&host.guest),
        || {
            for _ in 0..3 {
                drop(process.take());
                std::thread::sleep(Duration::from_millis(100));
                replace(&mut process, &mut kept);
            }
        },
    );
    assert!(sent > 1_000, "{sent}");
    assert_eq!(seen, 0, "of {sent}");

    // Both end, by force.
    drop((process, kept));
    eventually("no rules are left", 5, || tables().is_empty());
    eventually("the host hears it again", 5, || {
        host.does("va", &guest) == everything()
    });
}

#[test]
fn h01_a_thousand_devices_are_closed_in_no_time() {
    let _lab = Lab::new();
    let names: Vec<_> = (0..1000).map(|n| format!("t{n}")).collect();
    let guarded = |names: &[String]| Guarded {
        closed: names.to_vec(),
        shared: Vec::new(),
        stays: false,
    };
    let add: String = names
        .iter()
        .map(|name| format!("link add {name} type veth peer name p-{name}\n"))
        .collect();
    let batch = std::env::temp_dir().join(format!("tapgate-closed-batch-{}", std::process::id()));
    fs::write(&batch, add).unwrap();
    let (made, output) = attempt(&format!("ip -batch {}", batch.display()));
    fs::remove_file(&batch).unwrap();
    assert!(made, "{output}");

    let links = Links::open().unwrap();
    let mut guard = HostGuard::default();
    let timed = |what: &str, act: &mut dyn FnMut()| {
        let begun = Instant::now();
        act();
        let taken = begun.elapsed();
        println!("{what}: {taken:?}");
        assert!(taken < Duration::from_secs(1), "{what}: {taken:?}");
        taken
    };
    let all = timed("all closed", &mut || {
        assert_eq!(guard.configure(guarded(&names), &links), [""; 0])
    });
    timed("nothing new", &mut || {
        assert_eq!(guard.configure(guarded(&names), &links), [""; 0])
    });
    let mut changes = Vec::new();
    for _ in 0..5 {
        let less = timed("one less", &mut || {
            assert_eq!(guard.configure(guarded(&names[1..]), &links), [""; 0]);
            guard.release(&links);
        });
        assert_eq!(run("nft list chains").matches("chain ").count(), 999);
        let more = timed("one more", &mut || {
            assert_eq!(guard.configure(guarded(&names), &links), [""; 0])
        });
        assert_eq!(run("nft list chains").matches("chain ").count(), 1000);
        changes.push((less, more));
    }
    // A change closes what has changed, and not all of them anew. The fastest is what it takes.
    for (what, fastest) in [
        ("less", changes.iter().map(|(less, _)| *less).min()),
        ("more", changes.iter().map(|(_, more)| *more).min()),
    ] {
        assert!(
            fastest < Some(all / 2),
            "one {what}: {fastest:?}, all: {all:?}"
        );
    }
    timed("all open", &mut || drop(std::mem::take(&mut guard)));
}
