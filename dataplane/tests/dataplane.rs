//! The dataplane as control drives it, in namespaces of its own.

mod lab;

use std::os::fd::OwnedFd;

use lab::{Lab, attempt, eventually, run};
use tapgate_dataplane::dataplane::Dataplane;
use tapgate_dataplane::port::driver::Capabilities;
use tapgate_dataplane::port::memory::{Acts, StoredFrame};
use tapgate_engine::config::Config;
use tapgate_protocol::{ExplainQuery, Kept, PortRow, Rows, Show};

fn config(text: &str) -> Config {
    let file: tapgate_engine::config::File = toml::from_str(text).unwrap();
    Config::try_from(file).unwrap()
}

fn ports(dataplane: &Dataplane) -> Vec<PortRow> {
    match dataplane.show(Show::Ports, 0).unwrap() {
        (Rows::Ports(rows), None) => rows,
        other => panic!("{other:?}"),
    }
}

fn port(dataplane: &Dataplane, name: &str) -> PortRow {
    let row = ports(dataplane).into_iter().find(|port| port.name == name);
    row.unwrap()
}

fn counter(dataplane: &Dataplane, name: &str) -> u64 {
    let (Rows::Counters(rows), _) = dataplane.show(Show::Counters, 0).unwrap() else {
        panic!("no counters");
    };
    rows.iter().find(|row| row.name == name).unwrap().value
}

fn pings(guest: &str, to: &str) -> bool {
    attempt(&format!("ip netns exec {guest} ping -q -c 1 -W 1 {to}")).0
}

fn one_network(ports: &str, members: &str) -> Config {
    config(&format!(
        "[ports]\n{ports}\n[networks]\nn = {{ ports = [{members}], addresses = [\"10.9.0.254/24\"] }}\n"
    ))
}

/// A network of one guest on a TAP.
fn tap_config(guest: &str) -> Config {
    let port =
        format!("t = {{ tap = \"eth0\", netns = \"{guest}\", mac = \"02:00:00:00:00:d0\" }}");
    one_network(&port, "\"t\"")
}

#[test]
fn a_device_port_waits_for_its_device_and_follows_it() {
    let mut lab = Lab::new();
    let guest = lab.guest("a");
    let dataplane = Dataplane::new().unwrap();
    let configured = dataplane
        .configure(&one_network("p = { device = \"va\" }", "\"p\""))
        .unwrap();
    assert_eq!(configured.generation, 1);
    assert_eq!(
        configured.warnings,
        ["port p: there is no device va yet; waiting"]
    );
    assert_eq!(port(&dataplane, "p").state, "waiting");

    for binds in 1..=2 {
        lab::veth("va", &guest, "10.9.0.1/24");
        eventually("up", 5, || port(&dataplane, "p").state == "up");
        assert!(pings(&guest, "10.9.0.254"));
        assert_eq!(port(&dataplane, "p").binds, binds);
        run("ip link set va down");
        eventually("down", 5, || port(&dataplane, "p").state == "down");
        run("ip link set va up");
        eventually("up again", 5, || pings(&guest, "10.9.0.254"));
        assert_eq!(port(&dataplane, "p").binds, binds);
        if binds == 1 {
            announces_after_link_up(&dataplane);
        }
        run("ip link del va");
        eventually("waiting", 5, || port(&dataplane, "p").state == "waiting");
    }
    dataplane.stop();
}

/// A link that comes up again is told anew what is on it.
fn announces_after_link_up(dataplane: &Dataplane) {
    let announced = || counter(dataplane, "arp_announcements_sent");
    // The burst of the start is three rounds in two seconds.
    std::thread::sleep(std::time::Duration::from_millis(2_500));
    let before = announced();
    run("ip link set va down");
    eventually("down", 5, || port(dataplane, "p").state == "down");
    run("ip link set va up");
    eventually("announced", 5, || announced() >= before + 2);
}

/// A device that is made again has another MAC. Its guest may never say so in an ARP request: what
/// it asked before the port was open is lost, and the port's announcement tells it the gateway's MAC.
#[test]
fn a_device_that_returns_with_another_mac_is_asked_for_anew() {
    let mut lab = Lab::new();
    let guest = lab.veth_guest("a", "va", "10.9.0.1/24");
    let other = lab.veth_guest("b", "vb", "10.9.1.1/24");
    let dataplane = Dataplane::new().unwrap();
    dataplane
        .configure(&config(
            "[ports]
             a = { device = \"va\" }
             b = { device = \"vb\" }
             [networks]
             a = { ports = [\"a\"], addresses = [\"10.9.0.254/24\"], mac = \"02:00:00:00:01:fe\" }
             b = { ports = [\"b\"], addresses = [\"10.9.1.254/24\"] }
             [policy]
             default = [{ action = \"accept\" }]\n",
        ))
        .unwrap();
    run(&format!(
        "ip -n {other} route add default via 10.9.1.254 dev eth0"
    ));
    let mac = || run(&format!("ip -n {guest} -br link show eth0"));
    let first = mac();
    for again in [false, true] {
        if again {
            run("ip link del va");
            eventually("waiting", 5, || port(&dataplane, "a").state == "waiting");
            lab::veth("va", &guest, "10.9.0.1/24");
            assert_ne!(first, mac());
        }
        // So that it never asks.
        run(&format!(
            "ip -n {guest} neighbour replace 10.9.0.254 lladdr 02:00:00:00:01:fe nud permanent dev eth0"
        ));
        run(&format!(
            "ip -n {guest} route add default via 10.9.0.254 dev eth0"
        ));
        eventually("the other guest is reached", 5, || {
            pings(&guest, "10.9.1.1")
        });
    }
    dataplane.stop();
}

#[test]
fn a_tap_and_its_sessions_outlive_the_dataplane() {
    let mut lab = Lab::new();
    let guest = lab.guest("a");
    let up = lab.veth_guest("up", "vu", "192.0.2.1/24");
    let config = config(&format!(
        "[ports]
         t = {{ tap = \"eth0\", netns = \"{guest}\", mac = \"02:00:00:00:00:d0\" }}
         u = {{ device = \"vu\" }}
         [personalities]
         P = {{ port = \"u\", mac = \"02:00:00:00:00:aa\", addresses = [\"192.0.2.10/24\"], gateway = \"192.0.2.1\" }}
         [networks]
         n = {{ ports = [\"t\"], addresses = [\"10.9.0.254/24\"] }}
         [tables]
         out = [{{ to = \"default\", dev = \"P\" }}]
         [routing]
         rules = [{{ priority = 100, from = \"10.9.0.0/24\", lookup = \"out\" }}]
         [nat]
         snat = [{{ from = \"10.9.0.0/24\", to = \"192.0.2.10\" }}]\n"
    ));
    let first = Dataplane::new().unwrap();
    let kept = first.configure(&config).unwrap().kept;
    let names: Vec<_> = kept.iter().map(|(name, _)| name.clone()).collect();
    let tap = Kept::Tap {
        port: "t".to_owned(),
        queue: 0,
    };
    assert_eq!(names, [Kept::Sessions { worker: 0 }, tap]);
    run(&format!("ip -n {guest} address add 10.9.0.1/24 dev eth0"));
    run(&format!("ip -n {guest} route add default via 10.9.0.254"));
    assert!(pings(&guest, "192.0.2.1"));
    let link = |guest: &str| run(&format!("ip -n {guest} -o link show eth0"));
    let before = link(&guest);
    assert!(before.contains("02:00:00:00:00:d0"), "{before}");

    drop(first);
    assert_eq!(link(&guest), before);
    let second = Dataplane::new().unwrap();
    second.adopt(kept);
    let configured = second.configure(&config).unwrap();
    assert_eq!(configured.warnings, [""; 0]);
    assert!(pings(&guest, "192.0.2.1"));
    assert_eq!(link(&guest), before);
    assert_eq!(counter(&second, "sessions_recovered"), 1);
    assert!(pings(&up, "192.0.2.10"));
    second.stop();
    drop(configured.kept);
    eventually("the TAP is gone", 5, || {
        !run(&format!("ip -n {guest} link")).contains("eth0")
    });
}

#[test]
fn a_tap_waits_for_its_namespace_and_is_made_anew_with_it() {
    let mut lab = Lab::new();
    let guest = lab.guest("a");
    run(&format!("ip netns del {guest}"));
    let dataplane = Dataplane::new().unwrap();
    let configured = dataplane.configure(&tap_config(&guest)).unwrap();
    let expected = format!("port t: there is no network namespace {guest} yet; waiting");
    assert_eq!(configured.warnings, [expected]);
    for _ in 0..2 {
        run(&format!("ip netns add {guest}"));
        eventually("up", 5, || port(&dataplane, "t").state == "up");
        run(&format!("ip -n {guest} address add 10.9.0.1/24 dev eth0"));
        assert!(pings(&guest, "10.9.0.254"));
        run(&format!("ip netns del {guest}"));
        eventually("waiting", 10, || port(&dataplane, "t").state == "waiting");
    }
    run(&format!("ip netns add {guest}"));
    dataplane.stop();
}

#[test]
fn a_machine_s_tap_is_made_marked_and_removed() {
    let _lab = Lab::new();
    let text = "p = { device = \"vm-c\", create = { owner = \"nobody\" }, mtu = 1400 }";
    let config = one_network(text, "\"p\"");
    let first = Dataplane::new().unwrap();
    assert_eq!(first.configure(&config).unwrap().warnings, [""; 0]);
    let shown = run("ip -d link show vm-c");
    for expected in [
        "tun type tap",
        "vnet_hdr on",
        "persist on",
        "user nobody",
        "mtu 1400",
        ",UP",
        "addrgenmode none",
    ] {
        assert!(shown.contains(expected), "{expected}: {shown}");
    }
    assert_eq!(run("ip -6 address show dev vm-c"), "");
    assert_eq!(port(&first, "p").state, "down");

    let wider = one_network(&text.replace("1400", "1450"), "\"p\"");
    assert_eq!(first.configure(&wider).unwrap().warnings, [""; 0]);
    assert!(run("ip link show vm-c").contains("mtu 1450"));

    // The next dataplane knows the device for one of ours, and takes it away in the end.
    drop(first);
    let second = Dataplane::new().unwrap();
    assert_eq!(second.configure(&config).unwrap().warnings, [""; 0]);
    second.stop();
    assert!(!run("ip link").contains("vm-c"));

    // Somebody else's stays.
    run("ip tuntap add vm-c mode tap vnet_hdr");
    let third = Dataplane::new().unwrap();
    third.configure(&config).unwrap();
    third.stop();
    assert!(run("ip link").contains("vm-c"));
}

#[test]
fn a_reload_touches_only_what_changed() {
    let mut lab = Lab::new();
    let a = lab.veth_guest("a", "va", "10.9.0.1/24");
    let b = lab.veth_guest("b", "vb", "10.9.0.2/24");
    let dataplane = Dataplane::new().unwrap();
    let both = "a = { device = \"va\" }\nb = { device = \"vb\" }";
    let configure = |ports, members| {
        let configured = dataplane.configure(&one_network(ports, members)).unwrap();
        assert_eq!(configured.warnings, [""; 0]);
        configured.generation
    };
    assert_eq!(configure(both, "\"a\", \"b\""), 1);
    assert!(pings(&a, "10.9.0.254") && pings(&b, "10.9.0.254"));
    assert_eq!(configure("a = { device = \"va\" }", "\"a\""), 2);
    assert!(pings(&a, "10.9.0.254") && !pings(&b, "10.9.0.254"));
    assert_eq!(ports(&dataplane).len(), 1);
    assert_eq!(
        configure(
            "c = { device = \"vb\" }\na = { device = \"va\" }",
            "\"a\", \"c\""
        ),
        3
    );
    assert!(pings(&a, "10.9.0.254"));
    eventually("the new port works", 5, || pings(&b, "10.9.0.254"));
    let row = port(&dataplane, "a");
    assert_eq!(row.binds, 1);
    // A question and three pings; what a guest says of itself may have come before.
    assert!(row.rx_frames >= 4, "{row:?}");
    dataplane.stop();
}

#[test]
fn explain_tells_the_way_and_the_end() {
    let mut lab = Lab::new();
    let _a = lab.veth_guest("a", "va", "10.9.0.1/24");
    let dataplane = Dataplane::new().unwrap();
    dataplane
        .configure(&one_network("p = { device = \"va\" }", "\"p\""))
        .unwrap();
    let query = |port: &str, to: &str| ExplainQuery {
        port: port.to_owned(),
        from: "10.9.0.1".parse().unwrap(),
        to: to.parse().unwrap(),
        tos: 0,
        protocol: 17,
        source_port: 1000,
        destination_port: 53,
    };
    let explained = dataplane.explain(&query("p", "192.0.2.1")).unwrap();
    assert!(
        explained.verdict.starts_with("drop: no-route ("),
        "{explained:?}"
    );
    assert!(!explained.delivered && !explained.steps.is_empty());
    assert!(dataplane.explain(&query("q", "192.0.2.1")).is_err());
    dataplane.stop();
}

#[test]
fn memory_ports_carry_frames() {
    let _lab = Lab::new();
    let dataplane = Dataplane::new().unwrap();
    dataplane
        .configure(&one_network("p = { memory = true }", "\"p\""))
        .unwrap();
    let far = dataplane.memory_port("p").unwrap();
    // The gateway announces itself.
    eventually("an announcement", 5, || {
        far.take()
            .is_some_and(|frame| frame.bytes[12..14] == [0x08, 0x06])
    });
    let nobody_s: Vec<(Kept, OwnedFd)> = Vec::new();
    dataplane.adopt(nobody_s);
    dataplane.stop();
}

/// The worker asks a driver that completes later until it has, although nothing else happens.
#[test]
fn the_forwarding_thread_asks_for_short_turns() {
    let dataplane = Dataplane::new().unwrap();
    let port = "a = { memory = true }";
    dataplane.configure(&one_network(port, "\"a\"")).unwrap();
    assert_eq!(ports(&dataplane).len(), 1, "the thread has answered");
    let read = |task: &std::path::Path, name| std::fs::read_to_string(task.join(name)).unwrap();
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let turns: Vec<_> = tasks
        .map(|task| task.unwrap().path())
        .filter(|task| read(task, "comm").trim_end() == "worker-0")
        .map(|task| read(&task, "sched"))
        .collect();
    assert!(!turns.is_empty());
    let turn = |shown: &String| {
        let line = shown.lines().find(|line| line.starts_with("se.slice"));
        line.and_then(|line| line.split_whitespace().last().map(str::to_owned))
    };
    // Other tests of this process may have a worker that has just been started.
    let short = turns
        .iter()
        .filter(|shown| turn(shown).as_deref() == Some("100000"));
    assert_ne!(
        short.count(),
        0,
        "nanoseconds: {:?}",
        turns.iter().map(turn).collect::<Vec<_>>()
    );
}

#[test]
fn frames_under_way_are_completed_by_a_worker_that_has_nothing_else_to_do() {
    let _lab = Lab::new();
    let dataplane = Dataplane::new().unwrap();
    dataplane
        .configure(&one_network("p = { memory = true }", "\"p\""))
        .unwrap();
    let far = dataplane.memory_port("p").unwrap();
    let rounds = 200;
    far.act(Acts {
        capabilities: Capabilities::ALL,
        completes_after: rounds,
    });
    let sender = [2, 0, 0, 0, 0, 0xd0];
    let mut request = [&[0xff; 6][..], &sender].concat();
    request.extend([0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, 1]);
    request.extend(sender);
    request.extend([10, 9, 0, 1, 0, 0, 0, 0, 0, 0, 10, 9, 0, 254]);
    let asked = std::time::Instant::now();
    far.put(StoredFrame {
        bytes: request,
        vlan: None,
        offload: tapgate_engine::frame::Offload::default(),
    });
    eventually("the answer", 3, || {
        far.take().is_some_and(|frame| frame.bytes[..6] == sender)
    });
    // It sleeps in between.
    assert!(asked.elapsed().as_millis() >= u128::from(rounds) / 2);
    dataplane.stop();
}

/// The farewell to guests is under way when the worker ends, and leaves all the same.
#[test]
fn a_worker_that_ends_waits_for_frames_under_way() {
    let _lab = Lab::new();
    let dataplane = Dataplane::new().unwrap();
    let text = "[ports]\np = { memory = true }\n[networks.n]\nports = [\"p\"]\n\
                addresses = [\"10.9.0.254/24\"]\n\
                ra = { prefixes = [{ prefix = \"2001:db8:1::/64\" }] }\n";
    dataplane.configure(&config(text)).unwrap();
    let far = dataplane.memory_port("p").unwrap();
    // The lifetime that a router advertisement gives us as a router (RFC 4861 §4.2).
    let lifetime = |frame: StoredFrame| {
        let bytes = &frame.bytes;
        let advertisement = bytes.len() > 62 && bytes[12..14] == [0x86, 0xdd] && bytes[54] == 134;
        advertisement.then(|| u16::from_be_bytes([bytes[60], bytes[61]]))
    };
    eventually("an advertisement", 10, || {
        far.take()
            .and_then(lifetime)
            .is_some_and(|seconds| seconds > 0)
    });
    far.act(Acts {
        capabilities: Capabilities::ALL,
        completes_after: 20,
    });
    dataplane.stop();
    let last = std::iter::from_fn(|| far.take())
        .filter_map(lifetime)
        .last();
    assert_eq!(last, Some(0));
}

/// F20: what a guest sent and may not is shown with the guest's name.
#[test]
fn f20_violations_are_shown_by_guest() {
    let _lab = Lab::new();
    let dataplane = Dataplane::new().unwrap();
    let network = one_network("p = { memory = true }", "\"p\"");
    let mut file = network.file().clone();
    let guest = "web = { port = \"p\", mac = \"02:00:00:00:00:d0\", addresses = [\"10.9.0.1\"] }";
    let guests: tapgate_engine::config::File =
        toml::from_str(&format!("[guests]\n{guest}")).unwrap();
    file.guests = guests.guests;
    dataplane
        .configure(&Config::try_from(file).unwrap())
        .unwrap();
    let far = dataplane.memory_port("p").unwrap();
    let mut forged = vec![0; 60];
    forged[..12].copy_from_slice(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 0xd1]);
    forged[12..14].copy_from_slice(&[0x08, 0x06]);
    for _ in 0..3 {
        far.put(StoredFrame {
            bytes: forged.clone(),
            vlan: None,
            offload: tapgate_engine::frame::Offload::default(),
        });
    }
    let shown = || match dataplane.show(Show::Guests, 0).unwrap() {
        (Rows::Guests(rows), None) => rows.into_iter().next().unwrap(),
        other => panic!("{other:?}"),
    };
    eventually("three violations", 5, || {
        shown().violations.get("spoofed-mac") == Some(&3)
    });
    let row = shown();
    assert_eq!((row.name.as_str(), row.port.as_str()), ("web", "p"));
    assert_eq!(
        (row.network.as_str(), &row.addresses[..]),
        ("n", &["10.9.0.1".to_owned()][..])
    );
    dataplane.stop();
}

#[test]
fn a_dataplane_started_by_a_descriptor_has_its_name() {
    let _lab = Lab::new();
    let program = std::fs::File::open(env!("CARGO_BIN_EXE_tapgate-dataplane")).unwrap();
    let directory = std::env::temp_dir().join(format!("tapgate-name-{}", std::process::id()));
    let dataplane = lab::background(&format!(
        "/proc/self/fd/{} --runtime-dir {}",
        std::os::fd::AsRawFd::as_raw_fd(&program),
        directory.display()
    ));
    eventually("it has its name", 5, || {
        let name = std::fs::read_to_string(format!("/proc/{}/comm", dataplane.0.id()));
        name.is_ok_and(|name| name.starts_with("tapgate-"))
    });
    drop(dataplane);
    let _ = std::fs::remove_dir_all(directory);
}

/// Random bytes where an earlier dataplane kept its sessions: it starts, says how many it refused, and
/// forwards.
#[test]
fn h14_random_session_memory_is_refused_and_counted() {
    use std::os::unix::fs::FileExt;

    let mut lab = Lab::new();
    let guest = lab.veth_guest("a", "va", "10.9.0.1/24");
    let up = lab.veth_guest("up", "vu", "192.0.2.1/24");
    run(&format!("ip -n {guest} route add default via 10.9.0.254"));
    let config = config(
        "[router]
         sessions = 1000
         [ports]
         t = { device = \"va\" }
         u = { device = \"vu\" }
         [personalities]
         P = { port = \"u\", mac = \"02:00:00:00:00:aa\", addresses = [\"192.0.2.10/24\"] }
         [networks]
         n = { ports = [\"t\"], addresses = [\"10.9.0.254/24\"] }
         [nat]
         snat = [{ from = \"10.9.0.0/24\", to = \"192.0.2.10\" }]\n",
    );
    let first = Dataplane::new().unwrap();
    let mut kept = first.configure(&config).unwrap().kept;
    eventually("a session", 5, || pings(&guest, "192.0.2.1"));
    drop(first);
    kept.retain(|(name, _)| *name == Kept::Sessions { worker: 0 });
    let memory = std::fs::File::from(kept[0].1.try_clone().unwrap());
    let length = memory.metadata().unwrap().len();
    // All but the header.
    let mut noise = vec![0; length as usize - 4096];
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    for byte in &mut noise {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        *byte = random as u8;
    }
    memory.write_all_at(&noise, 4096).unwrap();
    let second = Dataplane::new().unwrap();
    second.adopt(kept);
    assert_eq!(second.configure(&config).unwrap().warnings, [""; 0]);
    assert_eq!(counter(&second, "sessions_recovered"), 0);
    // Of 2,000 records, those whose second byte happens to be zero are free.
    let refused = counter(&second, "sessions_refused");
    assert!((1_950..2_000).contains(&refused), "{refused}");
    assert!(pings(&guest, "192.0.2.1"));
    assert!(pings(&up, "192.0.2.10"));
    second.stop();
}
