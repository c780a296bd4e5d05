//! Golden tests: a configuration and captures in, captures and counters out.
//!
//! A case is a folder of `tests/golden`: `config.toml` (that of `tests/golden` if it has none),
//! `in.PORT.pcap`, `out.PORT.pcap` and `counters.txt`, which holds what was counted meanwhile.
//! A frame's timestamp is its time since the start of the case. `TAPGATE_GOLDEN=update` records
//! anew, `TAPGATE_GOLDEN=show` prints what goes in and comes out; a mismatch leaves `*.actual`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pcap_file::pcap::{PcapHeader, PcapPacket, PcapReader, PcapWriter};
use pcap_file::{DataLink, Endianness, TsResolution};

use crate::decode;
use crate::recipe::{A, B, C, GUEST_A, GUEST_B, GUEST_C, PROVIDER};
use crate::router::Router;
use crate::{packet, packet::Arp};

/// How long the router runs before a case, so that the announcements after the start have passed.
const BEFORE: Duration = Duration::from_secs(10);
/// How long a case goes on after its last frame: long enough for a next hop to fail to resolve.
const AFTER: Duration = Duration::from_secs(4);

/// This counter is left out: it counts bytes, which change with the layout of a record.
const MEMORY: &str = "session_memory_bytes";

/// Frames by port, each with its time since the start of the case.
pub type Captures = BTreeMap<String, Vec<(Duration, Vec<u8>)>>;

/// What goes into a case.
#[derive(Debug, Default)]
pub struct Case {
    inputs: Captures,
}

impl Case {
    /// A frame comes in by `port`, `millis` milliseconds after the start.
    pub fn at(&mut self, millis: u64, port: &str, bytes: impl AsRef<[u8]>) {
        let frames = self.inputs.entry(port.to_owned()).or_default();
        frames.push((Duration::from_millis(millis), bytes.as_ref().to_vec()));
    }

    /// The recipe's guests and the provider's gateway make themselves known: each asks for the
    /// router's address on its link, at the start.
    pub fn all_known(&mut self) {
        for (port, mac, own, router) in [
            ("guest-a", GUEST_A, "10.0.1.1", "10.0.1.254"),
            ("guest-b", GUEST_B, "10.0.2.1", "10.0.2.254"),
            ("guest-c", GUEST_C, "10.0.3.1", "10.0.3.254"),
        ] {
            self.at(0, port, packet::who_has(router, (mac, own)).bytes());
        }
        for (own, mac, vlan) in [
            ("203.0.113.10", A, None),
            ("203.0.113.20", B, Some(20)),
            ("203.0.113.30", C, None),
        ] {
            let ask = packet::who_has(own, (PROVIDER, "192.0.2.1"));
            self.at(
                0,
                "uplink",
                Arp {
                    to: mac,
                    vlan,
                    ..ask
                }
                .bytes(),
            );
        }
    }
}

/// Runs the case called `name`, whose inputs `build` writes down, and compares what comes out with
/// what is recorded.
pub fn check(name: &str, build: impl FnOnce(&mut Case)) {
    let folder = root().join(name);
    let mut case = Case::default();
    build(&mut case);
    let mode = std::env::var("TAPGATE_GOLDEN").unwrap_or_default();
    if mode == "update" {
        record(&folder, "in", &case.inputs);
    }
    let inputs = recorded(&folder, "in", "pcap");
    if inputs != case.inputs {
        let difference = difference(&inputs, &case.inputs);
        panic!(
            "{name}: the recorded input is not what the test builds; TAPGATE_GOLDEN=update records it\n{difference}"
        );
    }
    let own = folder.join("config.toml");
    let config = if own.exists() {
        own
    } else {
        root().join("config.toml")
    };
    let config = fs::read_to_string(&config).expect("a configuration");
    let (mut router, outputs, counters) = run(&config, &inputs);
    if mode == "show" {
        print!("{}", transcript(name, &inputs, &outputs, &counters));
    }
    if mode == "update" {
        record(&folder, "out", &outputs);
        fs::write(folder.join("counters.txt"), &counters).expect("to write counters.txt");
    }
    let expected = recorded(&folder, "out", "pcap");
    let counted = fs::read_to_string(folder.join("counters.txt")).unwrap_or_default();
    if outputs != expected || counters != counted {
        write_captures(&folder, "out", "pcap.actual", &outputs);
        fs::write(folder.join("counters.txt.actual"), &counters).expect("to write");
        let frames = difference(&expected, &outputs);
        let counters = lines_difference(&lines(&counted), &lines(&counters));
        let state = router.state();
        panic!("{name}: not as recorded (- recorded, + now)\n{frames}{counters}\n{state}");
    }
    remove(&folder, |file| file.ends_with(".actual"));
}

/// The names of all recorded cases.
pub fn all() -> Vec<String> {
    let entries = fs::read_dir(root()).expect("tests/golden").flatten();
    let folders = entries.filter(|entry| entry.path().is_dir());
    let mut names: Vec<String> = folders
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// What goes into the recorded case called `name`, and its configuration if it has one of its own.
pub fn inputs(name: &str) -> (Captures, Option<String>) {
    let folder = root().join(name);
    let own = fs::read_to_string(folder.join("config.toml")).ok();
    (recorded(&folder, "in", "pcap"), own)
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden")
}

fn run(config: &str, inputs: &Captures) -> (Router, Captures, String) {
    let mut router = Router::new(config);
    router.advance(BEFORE);
    router.take_all();
    let start = router.now;
    let before = router.counts();
    let mut frames: Vec<_> = inputs
        .iter()
        .flat_map(|(port, frames)| frames.iter().map(move |(at, bytes)| (*at, port, bytes)))
        .collect();
    frames.sort_by_key(|(at, ..)| *at);
    for (at, port, bytes) in frames {
        let now = router.now;
        router.advance((start + at).since(now));
        router.inject(port, bytes);
    }
    router.advance(AFTER);

    let mut outputs = Captures::new();
    for (port, sent) in router.take_all() {
        let frames = sent
            .into_iter()
            .map(|sent| (sent.at.since(start), sent.bytes));
        outputs.insert(port, frames.collect());
    }
    let mut counters = String::new();
    for (name, count) in router.counts() {
        let more = count - before.get(&name).unwrap_or(&0);
        if more > 0 && name != MEMORY {
            let _ = writeln!(counters, "{name} {more}");
        }
    }
    (router, outputs, counters)
}

fn record(folder: &Path, direction: &str, captures: &Captures) {
    fs::create_dir_all(folder).expect("to make the case's folder");
    let stale = format!("{direction}.");
    remove(folder, |file| {
        file.starts_with(&stale) || file.ends_with(".actual")
    });
    write_captures(folder, direction, "pcap", captures);
}

fn remove(folder: &Path, matches: impl Fn(&str) -> bool) {
    for entry in fs::read_dir(folder).expect("the case's folder").flatten() {
        if matches(&entry.file_name().to_string_lossy()) {
            fs::remove_file(entry.path()).expect("to remove a stale file");
        }
    }
}

fn write_captures(folder: &Path, direction: &str, extension: &str, captures: &Captures) {
    for (port, frames) in captures {
        let path = folder.join(format!("{direction}.{port}.{extension}"));
        let header = PcapHeader {
            version_major: 2,
            version_minor: 4,
            ts_correction: 0,
            ts_accuracy: 0,
            snaplen: 65_535,
            datalink: DataLink::ETHERNET,
            ts_resolution: TsResolution::MicroSecond,
            endianness: Endianness::Little,
        };
        let mut writer = PcapWriter::with_header(Vec::new(), header).expect("to memory");
        for (at, bytes) in frames {
            let packet = PcapPacket {
                timestamp: *at,
                orig_len: bytes.len() as u32,
                data: Cow::Borrowed(bytes),
            };
            writer.write_packet(&packet).expect("to memory");
        }
        fs::write(&path, writer.into_writer()).expect("to write a capture");
    }
}

fn recorded(folder: &Path, direction: &str, extension: &str) -> Captures {
    let mut captures = Captures::new();
    let Ok(entries) = fs::read_dir(folder) else {
        return captures;
    };
    for entry in entries.flatten() {
        let file = entry.file_name().to_string_lossy().into_owned();
        let port = file
            .strip_prefix(&format!("{direction}."))
            .and_then(|rest| rest.strip_suffix(&format!(".{extension}")));
        let Some(port) = port else { continue };
        let bytes = fs::read(entry.path()).expect("a capture");
        let mut reader = PcapReader::new(&bytes[..]).unwrap_or_else(|e| panic!("{file}: {e}"));
        let mut frames = Vec::new();
        while let Some(packet) = reader.next_packet() {
            let packet = packet.unwrap_or_else(|error| panic!("{file}: {error}"));
            frames.push((packet.timestamp, packet.data.into_owned()));
        }
        captures.insert(port.to_owned(), frames);
    }
    captures
}

/// What differs, by port, as decoded lines.
fn difference(expected: &Captures, actual: &Captures) -> String {
    let mut text = String::new();
    let mut ports: Vec<&String> = expected.keys().chain(actual.keys()).collect();
    ports.sort();
    ports.dedup();
    for port in ports {
        let described = |captures: &Captures| -> Vec<String> {
            let frames = captures.get(port).into_iter().flatten();
            frames
                .map(|(at, bytes)| {
                    let line = decode::line(bytes);
                    format!(
                        "{:>6} ms {line}\n            {}",
                        at.as_millis(),
                        decode::hex(bytes)
                    )
                })
                .collect()
        };
        let lines = lines_difference(&described(expected), &described(actual));
        if !lines.is_empty() {
            let _ = write!(text, "{port}:\n{lines}");
        }
    }
    text
}

fn lines(text: &str) -> Vec<String> {
    text.lines().map(str::to_owned).collect()
}

/// Lines only in `expected` with `-`, lines only in `actual` with `+`, in order (the longest common
/// subsequence stays).
fn lines_difference(expected: &[String], actual: &[String]) -> String {
    let mut common = vec![vec![0; actual.len() + 1]; expected.len() + 1];
    for i in (0..expected.len()).rev() {
        for j in (0..actual.len()).rev() {
            common[i][j] = if expected[i] == actual[j] {
                common[i + 1][j + 1] + 1
            } else {
                common[i + 1][j].max(common[i][j + 1])
            };
        }
    }
    let (mut i, mut j, mut text) = (0, 0, String::new());
    while i < expected.len() || j < actual.len() {
        if i < expected.len() && j < actual.len() && expected[i] == actual[j] {
            (i, j) = (i + 1, j + 1);
        } else if j == actual.len() || (i < expected.len() && common[i + 1][j] >= common[i][j + 1])
        {
            let _ = writeln!(text, "- {}", expected[i]);
            i += 1;
        } else {
            let _ = writeln!(text, "+ {}", actual[j]);
            j += 1;
        }
    }
    text
}

fn transcript(name: &str, inputs: &Captures, outputs: &Captures, counters: &str) -> String {
    let mut all: Vec<(Duration, String)> = Vec::new();
    for (captures, arrow) in [(inputs, "->"), (outputs, "<-")] {
        for (port, frames) in captures {
            for (at, bytes) in frames {
                all.push((*at, format!("{arrow} {port:8} {}", decode::line(bytes))));
            }
        }
    }
    all.sort_by_key(|(at, _)| *at);
    let mut text = format!("== {name}\n");
    for (at, line) in all {
        let _ = writeln!(text, "{:>5} {line}", at.as_millis());
    }
    text + counters
}
