//! The dataplane with a personality that has the host's own MAC and address, while the host goes on
//! using them.

mod lab;

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use caps::{CapSet, Capability};
use lab::{Lab, attempt, eventually, run, within};
use tapgate_dataplane::dataplane::Dataplane;
use tapgate_engine::config::{Config, File};
use tapgate_protocol::{Kept, Rows, Show};

const MAC: &str = "02:00:00:00:00:07";
const PATIENCE: Duration = Duration::from_secs(3);

/// The host on `up0` with a guest on `in0`; returns the namespaces of provider and guest.
fn host(lab: &mut Lab) -> (String, String) {
    let provider = lab.veth_guest("provider", "up0", "192.0.2.1/24");
    let guest = lab.veth_guest("guest", "in0", "10.9.0.1/24");
    run(&format!("ip link set up0 address {MAC}"));
    run("ip address add 192.0.2.7/24 dev up0");
    run(&format!("ip -n {guest} route add default via 10.9.0.254"));
    (provider, guest)
}

fn config(mac: &str, shared: &str) -> Config {
    let file: File = toml::from_str(&format!(
        "[ports]
         up = {{ device = \"up0\" }}
         in = {{ device = \"in0\" }}
         [personalities]
         host = {{ port = \"up\", mac = \"{mac}\", addresses = [\"192.0.2.7/24\"], gateway = \"192.0.2.1\", shared = \"{shared}\" }}
         [networks]
         n = {{ ports = [\"in\"], addresses = [\"10.9.0.254/24\"] }}
         [guests]
         g = {{ port = \"in\", addresses = [\"10.9.0.1\"], personality = \"host\" }}
         [tables]
         main = [{{ to = \"default\", dev = \"host\" }}]
         [nat]
         snat = [{{ from = \"10.9.0.0/24\", to = \"192.0.2.7\" }}]
         forward = [{{ address = \"192.0.2.7\", proto = \"tcp\", port = 2222, to = \"10.9.0.1:22\" }}]\n"
    ))
    .unwrap();
    Config::try_from(file).unwrap()
}

fn connect(to: &str) -> TcpStream {
    let to: SocketAddr = to.parse().unwrap();
    let stream = TcpStream::connect_timeout(&to, PATIENCE).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Says `text` to whoever connects there.
fn greeter(namespace: &str, at: &str, text: &'static [u8]) {
    let listener = within(namespace, || TcpListener::bind(at).unwrap());
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let _ = stream.write_all(text);
        }
    });
}

fn greeting(from: &str, at: &str) -> String {
    let mut text = String::new();
    let mut stream = within(from, || connect(at));
    stream.read_to_string(&mut text).unwrap();
    text
}

fn word(stream: &mut TcpStream) -> [u8; 4] {
    let mut word = [0; 4];
    stream.read_exact(&mut word).unwrap();
    word
}

/// Frames received on the uplink.
fn received(dataplane: &Dataplane) -> u64 {
    let (Rows::Ports(ports), _) = dataplane.show(Show::Ports, 0).unwrap() else {
        panic!("no ports");
    };
    let uplink = ports.iter().find(|port| port.name == "up");
    uplink.unwrap().rx_frames
}

#[test]
fn host_and_guests_use_one_address_at_once_and_connections_outlive_the_dataplane() {
    let mut lab = Lab::new();
    let (provider, guest) = host(&mut lab);
    let config = config(MAC, "61000-65535");
    let first = Dataplane::new().unwrap();
    let configured = first.configure(&config).unwrap();
    assert_eq!(configured.warnings, [""; 0]);
    let names: Vec<_> = configured.kept.iter().map(|(name, _)| name).collect();
    assert_eq!(names, [&Kept::Sessions { worker: 0 }, &Kept::HostGuard]);

    let server = within(&provider, || TcpListener::bind("192.0.2.1:80").unwrap());
    let guests = within(&guest, || connect("192.0.2.1:80"));
    let (mut at_provider, guests_from) = server.accept().unwrap();
    let hosts = connect("192.0.2.1:80");
    let (_, hosts_from) = server.accept().unwrap();
    assert_eq!(guests_from.ip(), hosts_from.ip());
    assert!(guests_from.port() >= 61_000 && hosts_from.port() < 61_000);

    let ssh = TcpListener::bind("192.0.2.7:22").unwrap();
    greeter(&guest, "10.9.0.1:22", b"the guest's");
    let mut to_host = within(&provider, || connect("192.0.2.7:22"));
    let mut from_host = ssh.accept().unwrap().0;
    from_host.write_all(b"host").unwrap();
    assert_eq!(word(&mut to_host), *b"host");
    let before = received(&first);
    for _ in 0..100 {
        to_host.write_all(b"more").unwrap();
        assert_eq!(word(&mut from_host), *b"more");
    }
    assert!(received(&first) - before < 10, "the host's own is copied");
    assert_eq!(greeting(&provider, "192.0.2.7:2222"), "the guest's");
    assert!(
        attempt(&format!(
            "ip netns exec {provider} ping -q -c 1 -W 1 192.0.2.7"
        ))
        .0
    );
    assert!(
        attempt(&format!(
            "ip netns exec {guest} ping -q -c 1 -W 1 192.0.2.1"
        ))
        .0
    );

    // The dataplane dies: what comes meanwhile is answered by nobody, and comes again.
    drop(first);
    let mut guests = guests;
    at_provider.write_all(b"gap?").unwrap();
    guests.write_all(b"gap!").unwrap();
    std::thread::sleep(Duration::from_millis(300));
    from_host.write_all(b"okay").unwrap();
    assert_eq!(word(&mut to_host), *b"okay");
    let second = Dataplane::new().unwrap();
    second.adopt(configured.kept);
    let configured = second.configure(&config).unwrap();
    assert_eq!(configured.warnings, [""; 0]);
    assert_eq!(word(&mut guests), *b"gap?");
    assert_eq!(word(&mut at_provider), *b"gap!");

    // Both end.
    second.stop();
    drop(configured.kept);
    eventually("no rules are left", 5, || run("nft list tables").is_empty());
    let refused = within(&provider, || {
        TcpStream::connect_timeout(&"192.0.2.7:2222".parse().unwrap(), PATIENCE)
    });
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    drop((hosts, to_host));
}

#[test]
fn a_device_that_returns_is_guarded_and_rules_follow_the_configuration() {
    let mut lab = Lab::new();
    let (provider, _) = host(&mut lab);
    let dataplane: Arc<Dataplane> = Dataplane::new().unwrap();
    dataplane.configure(&config(MAC, "61000-65535")).unwrap();
    let ruled = |what: &str| run("nft list ruleset").contains(what);
    assert!(ruled("dport { 2222, 61000-65535 }") && ruled("dport { 61000-65535 }"));
    run("ip link del up0");
    eventually("the device is gone", 5, || !ruled("\"up0\""));
    lab::veth("up0", &provider, "192.0.2.1/24");
    run(&format!("ip link set up0 address {MAC}"));
    eventually("it is guarded again", 5, || ruled("device \"up0\""));

    dataplane.configure(&config(MAC, "62000-65535")).unwrap();
    assert!(ruled("dport { 2222, 62000-65535 }") && !ruled("61000"));
    let alone: File = toml::from_str("[ports]\nup = { device = \"up0\" }\n").unwrap();
    let alone = Config::try_from(alone).unwrap();
    assert_eq!(dataplane.configure(&alone).unwrap().kept.len(), 1);
    eventually("no rules are left", 5, || run("nft list tables").is_empty());
    dataplane.stop();
}

#[test]
fn what_the_host_may_do_with_the_router_s_ports_is_told() {
    let mut lab = Lab::new();
    let _ = host(&mut lab);
    run("sysctl -qw net.ipv4.ip_local_reserved_ports=60500-60999");
    let dataplane = Dataplane::new().unwrap();
    let warnings = dataplane
        .configure(&config("02:00:00:00:00:08", "60000-65535"))
        .unwrap()
        .warnings;
    assert_eq!(
        warnings,
        [
            "personalities.host: the host's own connections may use ports 60000-60499 too \
             (net.ipv4.ip_local_port_range is 32768 60999): \
             sysctl -w net.ipv4.ip_local_reserved_ports=60500-60999,60000-60499",
            "personalities.host.mac: 02:00:00:00:00:08 is shared with the host, but up0 has \
             02:00:00:00:00:07: write mac = \"02:00:00:00:00:07\", or leave `shared` out",
        ]
    );
    dataplane.stop();
}

#[test]
fn without_rules_the_reason_and_the_remedy_are_told_and_it_is_tried_again() {
    let mut lab = Lab::new();
    let _ = host(&mut lab);
    let dataplane = Dataplane::new().unwrap();
    let config = config(MAC, "61000-65535");
    // The calling thread's alone.
    caps::drop(None, CapSet::Effective, Capability::CAP_NET_ADMIN).unwrap();
    let warnings = dataplane.configure(&config).unwrap().warnings;
    let told = "device up0: the host's kernel answers for tapgate's ports";
    let warning = warnings.iter().find(|warning| warning.starts_with(told));
    let warning = warning.unwrap_or_else(|| panic!("{warnings:?}"));
    assert!(warning.ends_with(": CAP_NET_ADMIN is needed"), "{warning}");
    caps::raise(None, CapSet::Effective, Capability::CAP_NET_ADMIN).unwrap();
    let configured = dataplane.configure(&config).unwrap();
    assert_eq!(configured.kept[1].0, Kept::HostGuard);
    assert!(run("nft list ruleset").contains("dport { 2222, 61000-65535 }"));
    dataplane.stop();
}
