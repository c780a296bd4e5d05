//! Large configurations: what is done at once stays small.

use std::collections::BTreeMap;
use std::time::Duration;

use tapgate_engine::Engine;
use tapgate_engine::addr::PortId;
use tapgate_engine::config::{Config, File};
use tapgate_engine::frame::{Frame, Offload, Verdict};
use tapgate_engine::run::neighbors;
use tapgate_engine::session::{SessionMemory, Sessions};
use tapgate_engine::snapshot::Snapshot;
use tapgate_engine::time::Instant;
use tapgate_tests::packet::{mac, udp};

const START: Instant = Instant::from_millis(1_000_000);
const PORTS: u32 = 300;

/// One network of many ports, a guest on each; those of `elsewhere` are on another port.
fn config(guests: u32, elsewhere: Option<u32>) -> Config {
    let names: Vec<String> = (0..PORTS).map(|port| format!("\"v{port}\"")).collect();
    let mut text = format!(
        "[networks.lan]\nports = [{}]\naddresses = [\"10.0.255.254/16\"]\n",
        names.join(", ")
    );
    for port in 0..PORTS {
        text += &format!("[ports.v{port}]\nmemory = true\n");
    }
    for guest in 0..guests {
        let port = if elsewhere == Some(guest) {
            PORTS - 1
        } else {
            guest
        };
        text += &format!(
            "[guests.g{guest}]\nport = \"v{port}\"\nmac = \"02:00:00:00:01:{guest:02x}\"\n\
             addresses = [\"10.0.0.{}\"]\n",
            guest + 1
        );
    }
    let file: File = toml::from_str(&text).unwrap();
    Config::try_from(file).unwrap()
}

fn engine(snapshot: &Snapshot) -> Engine {
    let memory = Sessions {
        v4: SessionMemory::owned(64),
        v6: SessionMemory::owned(64),
        inherited: false,
    };
    Engine::new(snapshot, memory, 7, START)
}

/// A guest sends to another; where the packet goes.
fn sent(engine: &mut Engine, snapshot: &Snapshot, from: u32, to: u32) -> Verdict {
    let gateway = snapshot.interfaces().next().unwrap().mac;
    let (source, destination) = (from + 1, to + 1);
    let packet = udp(
        &format!("10.0.0.{source}:4000"),
        &format!("10.0.0.{destination}:53"),
        b"",
    );
    let guest = mac(&format!("02:00:00:00:01:{from:02x}"));
    let mut bytes = packet.link(guest, gateway).bytes();
    let mut frame = Frame {
        bytes: &mut bytes,
        vlan: None,
        offload: Offload::default(),
        headroom: &mut [],
    };
    let ingress = snapshot.port_id(&format!("v{from}")).unwrap();
    engine.process(&mut frame, ingress, snapshot, START)
}

/// What all ports are told leaves in pieces, so that traffic passes between, and each is told it.
#[test]
fn what_many_ports_are_told_leaves_in_pieces() {
    let snapshot = Snapshot::build(&config(0, None), None);
    let mut engine = engine(&snapshot);
    let mut heard: BTreeMap<PortId, u32> = BTreeMap::new();
    let end = START + Duration::from_secs(10);
    while let Some(due) = engine.next_deadline().filter(|due| *due <= end) {
        let mut at_once = 0;
        let now = due.max(START);
        engine.poll(&snapshot, now);
        engine.drain(&snapshot, now, |port, _| {
            at_once += 1;
            *heard.entry(port).or_default() += 1;
        });
        assert!(at_once <= 128, "{at_once} frames at once");
    }
    // Three announcements in two forms each.
    assert_eq!(heard.len(), PORTS as usize);
    assert!(heard.values().all(|count| *count == 6), "{heard:?}");
}

/// A guest that comes or moves makes the router forget its own next hop, and no other guest's.
#[test]
fn a_guest_that_comes_or_moves_leaves_the_others_next_hops() {
    let mut snapshot = Snapshot::build(&config(3, None), None);
    let mut engine = engine(&snapshot);
    let known = |engine: &Engine| {
        let list = neighbors(&engine.router).into_iter();
        list.map(|neighbor| neighbor.address.to_string())
            .collect::<Vec<_>>()
    };
    for to in [1, 2] {
        let at = snapshot.port_id(&format!("v{to}")).unwrap();
        assert_eq!(sent(&mut engine, &snapshot, 0, to), Verdict::Emit(at));
    }
    assert_eq!(known(&engine), ["10.0.0.2", "10.0.0.3"]);
    for (next, left) in [
        (config(4, None), vec!["10.0.0.2", "10.0.0.3"]),
        (config(4, Some(1)), vec!["10.0.0.3"]),
    ] {
        snapshot = Snapshot::build(&next, Some(&snapshot));
        engine.adopt(&snapshot, START);
        assert_eq!(known(&engine), left);
    }
    let moved = snapshot.port_id(&format!("v{}", PORTS - 1)).unwrap();
    assert_eq!(sent(&mut engine, &snapshot, 0, 1), Verdict::Emit(moved));
}
