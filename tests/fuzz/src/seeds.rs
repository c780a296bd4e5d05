//! Inputs to begin with: what the golden captures hold, the examples, one message of each kind.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tapgate_engine::config::Config;
use tapgate_protocol::{Configure, ExplainQuery, Kept, Request, Response, Rows, Show, Versions};
use tapgate_tests::packet::untag;
use tapgate_tests::{golden, router};

use crate::play::{CONFIGS, EVERYBODY_ANSWERS, EXPLAINED, FRAME, RELOAD, SETTLED, TIME, VLAN};
use crate::{control, play};

/// Inputs by name.
pub type Seeds = BTreeMap<String, Vec<u8>>;

/// For [`crate::frames`]: the golden cases.
pub fn frames() -> Seeds {
    let cases = golden::all().into_iter();
    cases.map(|name| (name.clone(), case(&name, &[]))).collect()
}

/// For [`crate::sessions`]: some golden cases over sessions that were there, one with all its bytes
/// the same.
pub fn sessions() -> Seeds {
    let names = golden::all().into_iter().step_by(4).enumerate();
    names
        .map(|(number, name)| {
            let record = match number % 3 {
                0 => vec![0xff; 88],
                number => session(number as u8),
            };
            let memory = [&[1][..], &record].concat();
            (name.clone(), case(&name, &memory))
        })
        .collect()
}

/// For [`crate::file`]: the examples, the fuzzers' own, and what `check` refuses in its tests.
pub fn files() -> Seeds {
    let top = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut seeds = Seeds::new();
    for folder in [
        "examples",
        "tests/fuzz/configs",
        "control/tests/diagnostics",
    ] {
        let entries = std::fs::read_dir(top.join(folder)).expect("a folder of the project");
        for path in entries.flatten().map(|entry| entry.path()) {
            if path
                .extension()
                .is_some_and(|extension| extension == "toml")
            {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                seeds.insert(name.into_owned(), std::fs::read(&path).expect("a file"));
            }
        }
    }
    seeds
}

/// For [`crate::control`]: one message of each kind.
pub fn control() -> Seeds {
    let config: Config = router::config(CONFIGS[3]);
    let kept = vec![
        Kept::Tap {
            port: "web".to_owned(),
            queue: 0,
        },
        Kept::Sessions { worker: 0 },
        Kept::HostGuard,
    ];
    let requests = [
        Request::Hello {
            version: 1,
            speaks: Some(Versions::OURS),
        },
        Request::Adopt { kept: kept.clone() },
        Request::Configure(Configure {
            config: Arc::new(config),
        }),
        Request::Show {
            what: Show::Sessions,
            cursor: 7,
        },
        Request::Explain(ExplainQuery {
            port: "web".to_owned(),
            from: IpAddr::from([10, 0, 1, 1]),
            to: IpAddr::from([198, 51, 100, 9]),
            tos: 0,
            protocol: 17,
            source_port: 4_000,
            destination_port: 53,
        }),
        Request::Stop,
    ];
    let responses = [
        Response::Hello {
            version: 2,
            speaks: Some(Versions::OURS),
            pid: 7,
            generation: 1,
        },
        Response::Ok,
        Response::Configured {
            generation: 2,
            warnings: vec!["there is no device eth0".to_owned()],
            kept,
            unchanged: false,
        },
        Response::Page {
            rows: Rows::Drops(Vec::new()),
            next: Some(1),
        },
        Response::Refused { errors: Vec::new() },
        Response::Failed {
            message: "no".to_owned(),
        },
    ];
    let mut seeds = Seeds::new();
    let said = requests.iter().map(|said| (0, serde_json::to_vec(said)));
    let answered = responses
        .iter()
        .map(|said| (control::ANSWERS, serde_json::to_vec(said)));
    for (number, (flags, body)) in said.chain(answered).enumerate() {
        let body = body.expect("to memory");
        // A batch of descriptors ahead, then the message with three; what does not fit in a piece
        // follows in others.
        let mut seed = vec![flags | control::MANY];
        seed.extend((0x3004_u16).to_le_bytes());
        seed.extend([0; 4]);
        let mut whole = (body.len() as u32).to_be_bytes().to_vec();
        whole.extend(&body);
        for piece in whole.chunks(0x7ff) {
            seed.extend((piece.len() as u16 | 0x1800).to_le_bytes());
            seed.extend(piece);
        }
        seeds.insert(format!("{number}-many"), seed);
        if body.len() < 0x7ff {
            let head = (0x8000 | body.len() as u16).to_le_bytes();
            seeds.insert(number.to_string(), [&[flags][..], &head, &body].concat());
        }
    }
    seeds
}

/// A golden case as operations; `memory` comes after the first byte.
fn case(name: &str, memory: &[u8]) -> Vec<u8> {
    let (captures, own) = golden::inputs(name);
    let config = match own {
        Some(text) if text.contains("host = {") => 0,
        Some(text) if text.contains("[networks.lan]") => 3,
        _ => 2,
    };
    let mut input = vec![config | EVERYBODY_ANSWERS | EXPLAINED | SETTLED];
    input.extend(memory);
    let mut frames: Vec<_> = captures
        .iter()
        .flat_map(|(port, frames)| frames.iter().map(move |(at, bytes)| (*at, port, bytes)))
        .collect();
    frames.sort_by_key(|(at, ..)| *at);
    let mut now = Duration::ZERO;
    // What is repeated often tells the fuzzer little more.
    for (at, port, bytes) in frames.into_iter().take(40) {
        let passes = at.saturating_sub(now).as_millis() as u16;
        if passes > 0 {
            input.push(TIME);
            input.extend(passes.to_le_bytes());
            now = at;
        }
        let ports = play::config(config).ports();
        let port = ports.iter().position(|known| known.name == *port);
        input.push(FRAME | (port.unwrap_or(0) as u8) << 4);
        let (bytes, vlan) = untag(bytes);
        input.push(if vlan.is_some() { VLAN } else { 0 });
        input.extend(vlan.into_iter().flat_map(u16::to_le_bytes));
        input.extend((bytes.len() as u16).to_le_bytes());
        input.extend(bytes);
    }
    if config == 0 {
        input.push(RELOAD | 1 << 4);
    }
    input
}

/// An IPv4 session's record and detail as they lie in memory: of guest-a in the recipe, at various
/// stages.
fn session(stage: u8) -> Vec<u8> {
    let mut bytes = vec![17, stage, 0, 5];
    for word in [1_u32, 10_000] {
        bytes.extend(word.to_ne_bytes());
    }
    bytes.extend([0xff; 4 + 16]);
    for port in [4_000_u16, 53, 53, 4_000] {
        bytes.extend(port.to_ne_bytes());
    }
    bytes.extend([0; 8]);
    bytes.extend([
        10, 0, 1, 1, 198, 51, 100, 9, 198, 51, 100, 9, 203, 0, 113, 10,
    ]);
    bytes.resize(88, 0);
    bytes
}
