//! A running dataplane with one guest on a port in memory.

use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Instant as Clock;

use tapgate_engine::config::Config;
use tapgate_engine::explain::{Packet, frame};
use tapgate_engine::frame::Offload;
use tapgate_protocol::{Channel, Request, Response};

use super::*;
use crate::port::memory::StoredFrame;
use crate::server::Server;
use crate::watching::{BURST, RATE};

const CONFIG: &str = r#"
[ports]
g = { memory = true }
h = { memory = true }
[networks]
n = { ports = ["g"], addresses = ["10.9.0.254/24"] }
m = { ports = ["h"], addresses = ["10.8.0.254/24"] }
[guests]
one = { port = "g", mac = "02:00:00:00:00:01", addresses = ["10.9.0.1"] }
other = { port = "h", addresses = ["10.8.0.1"] }
[policy]
default = [{ action = "accept" }]
"#;
const ANY: WatchQuery = WatchQuery {
    port: None,
    from: None,
    to: None,
    protocol: None,
    source_port: None,
    destination_port: None,
};
const LONG: Duration = Duration::from_secs(5);

struct Lab {
    dataplane: Arc<Dataplane>,
    config: Config,
}

impl Lab {
    fn new() -> Self {
        let config: Config = toml::from_str(CONFIG).unwrap();
        let dataplane = Dataplane::new().unwrap();
        dataplane.configure(&config).unwrap();
        Self { dataplane, config }
    }

    /// The guest sends an echo request, or a datagram.
    fn sends(&self, to: &str, protocol: u8) {
        let packet = Packet {
            port: "g",
            from: [10, 9, 0, 1].into(),
            to: to.parse().unwrap(),
            tos: 0,
            protocol,
            source_port: 7,
            destination_port: 53,
        };
        let (bytes, vlan) = frame(&self.config, &packet).unwrap();
        let offload = Offload::default();
        let far = self.dataplane.memory_port("g").unwrap();
        assert!(far.put(StoredFrame {
            bytes,
            vlan,
            offload
        }));
    }

    /// How many echo replies the guest gets within a short time, until there are `most`.
    fn replies(&self, most: usize) -> usize {
        let far = self.dataplane.memory_port("g").unwrap();
        let is_reply = |frame: &StoredFrame| {
            frame.bytes.get(12..14) == Some(&[8, 0]) && frame.bytes.get(34) == Some(&0)
        };
        let (begun, mut replies) = (Clock::now(), 0);
        while replies < most && begun.elapsed() < LONG {
            match far.take() {
                Some(frame) => replies += usize::from(is_reply(&frame)),
                None => std::thread::sleep(Duration::from_millis(1)),
            }
        }
        replies
    }

    fn is_watched(&self) -> bool {
        let caller = {
            let state = self.dataplane.state();
            state.running.as_ref().unwrap().worker.caller()
        };
        caller.ask(|worker| worker.is_watched()).unwrap()
    }

    fn eventually_unwatched(&self) {
        let begun = Clock::now();
        while self.is_watched() {
            assert!(begun.elapsed() < LONG, "somebody still watches");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

#[test]
fn what_really_happens_to_a_packet_is_told() {
    let lab = Lab::new();
    let query = WatchQuery {
        port: Some("g".to_owned()),
        to: Some([10, 9, 0, 254].into()),
        protocol: Some(1),
        source_port: Some(7),
        ..ANY
    };
    let watch = lab.dataplane.watch(query).unwrap();
    // Others pass unseen: by destination, by protocol.
    lab.sends("10.9.0.77", 1);
    lab.sends("10.9.0.254", 17);
    lab.sends("10.9.0.254", 1);
    let (packets, missed) = watch.seen(LONG).unwrap();
    assert_eq!((packets.len(), missed), (1, 0), "{packets:#?}");
    let packet = &packets[0];
    assert_eq!((packet.port.as_str(), packet.source_port), ("g", 7));
    assert_eq!(packet.length, 36);
    assert_eq!(packet.explanation.verdict, "emit on g");
    let stages = packet.explanation.steps.iter();
    let stages: Vec<_> = stages.map(|step| step.stage.as_str()).collect();
    assert!(stages.starts_with(&["interface"]), "{stages:?}");
    assert!(stages.ends_with(&["neighbor", "egress"]), "{stages:?}");
    // It has really been answered.
    assert_eq!(lab.replies(1), 1);
    assert_eq!(watch.seen(Duration::ZERO).unwrap(), (Vec::new(), 0));
    let nowhere = WatchQuery {
        port: Some("x".to_owned()),
        ..ANY
    };
    let error = lab.dataplane.watch(nowhere).unwrap_err();
    assert_eq!(error, "there is no port \"x\"");
    lab.dataplane.stop();
}

/// One that waits for its next hop, and one that is dropped: as well.
#[test]
fn a_packet_that_waits_is_seen_again_when_it_goes_on() {
    let lab = Lab::new();
    let query = WatchQuery {
        protocol: Some(17),
        ..ANY
    };
    let watch = lab.dataplane.watch(query).unwrap();
    lab.sends("10.8.0.1", 17);
    let (packets, _) = watch.seen(LONG).unwrap();
    let verdict = &packets[0].explanation.verdict;
    assert!(verdict.starts_with("hold: "), "{packets:#?}");
    // The other guest says where it is.
    let far = lab.dataplane.memory_port("h").unwrap();
    let begun = Clock::now();
    let request = loop {
        let asked = far.take().map(|frame| frame.bytes);
        match asked.filter(|bytes| bytes[12..14] == [8, 6] && bytes[38..42] == [10, 8, 0, 1]) {
            Some(request) => break request,
            None => assert!(begun.elapsed() < LONG, "nobody is asked for"),
        }
    };
    let mac = [2, 0, 0, 0, 0, 9];
    let mut reply = [&request[6..12], &mac, &request[12..20], &[0, 2], &mac].concat();
    reply.extend([10, 8, 0, 1]);
    reply.extend_from_slice(&request[22..32]);
    assert!(far.put(StoredFrame {
        bytes: reply,
        vlan: None,
        offload: Offload::default(),
    }));
    let (packets, _) = watch.seen(LONG).unwrap();
    assert_eq!(packets[0].explanation.verdict, "emit on h", "{packets:#?}");

    lab.sends("127.0.0.1", 17);
    let (packets, _) = watch.seen(LONG).unwrap();
    assert!(!packets[0].explanation.delivered, "{packets:#?}");
    let last = packets[0].explanation.steps.last().unwrap();
    assert_eq!(last.stage, "drop");
    lab.dataplane.stop();
}

#[test]
fn many_packets_are_traced_as_few_and_all_of_them_pass() {
    const MANY: u64 = 200;
    let lab = Lab::new();
    let watch = lab.dataplane.watch(ANY).unwrap();
    let begun = Clock::now();
    for _ in 0..MANY {
        lab.sends("10.9.0.254", 1);
    }
    assert_eq!(lab.replies(MANY as usize), MANY as usize);
    let took = begun.elapsed();
    let (mut traced, mut missed) = (0, 0);
    while traced + missed < MANY {
        let (packets, more) = watch.seen(LONG).unwrap();
        assert!(packets.len() <= ROOM + 1);
        assert!(
            begun.elapsed() < 2 * LONG,
            "{traced} traced, {missed} missed"
        );
        traced += packets.len() as u64;
        missed += more;
    }
    assert_eq!(traced + missed, MANY);
    let most = BURST + RATE * (took.as_millis() as u64 + 1) / 1_000 + 1;
    assert!((1..=most.min(MANY)).contains(&traced), "{traced} of {most}");
    lab.dataplane.stop();
}

#[test]
fn the_last_who_began_watches_and_nothing_stays_of_others() {
    let lab = Lab::new();
    assert!(!lab.is_watched());
    let first = lab.dataplane.watch(ANY).unwrap();
    let second = lab.dataplane.watch(ANY).unwrap();
    let error = first.seen(LONG).unwrap_err();
    assert!(error.contains("somebody else watches"), "{error}");
    drop(first);
    lab.sends("10.9.0.254", 1);
    assert_eq!(second.seen(LONG).unwrap().0.len(), 1);
    drop(second);
    assert!(!lab.is_watched());

    // One who is gone without a word: the connection's end ends it, as does a trace that nobody takes.
    let directory = std::env::temp_dir().join(format!("tapgate-watch-{}", std::process::id()));
    let server = Server::bind(&directory).unwrap();
    let path = server.path().to_owned();
    let dataplane = Arc::clone(&lab.dataplane);
    std::thread::spawn(move || server.serve(&dataplane, |_, _| {}));
    let mut channel = Channel::new(UnixStream::connect(path).unwrap());
    channel.greet().unwrap();
    let request = Request::Watch {
        query: ANY,
        wait_ms: 100,
    };
    let answer = channel.ask(&request).unwrap();
    assert!(matches!(answer, Response::Watched { .. }), "{answer:?}");
    assert!(lab.is_watched());
    channel.send(&request, &[]).unwrap();
    drop(channel);
    lab.eventually_unwatched();
    let _ = std::fs::remove_dir_all(directory);

    // Its traces go nowhere, and it never says that it ends.
    let mut watch = lab.dataplane.watch(ANY).unwrap();
    watch.told.traces = crossbeam_channel::bounded(1).1;
    watch.watcher = u64::MAX;
    lab.sends("10.9.0.254", 1);
    lab.eventually_unwatched();
    lab.dataplane.stop();
}
