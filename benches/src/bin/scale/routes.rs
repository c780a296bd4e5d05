//! What many rules and routes cost: to load them, and how long a change keeps the forwarding thread from
//! forwarding.

use std::fmt::Write;

use serde::Serialize;
use tapgate_engine::Engine;
use tapgate_engine::config::File;
use tapgate_engine::session::{SessionMemory, Sessions};
use tapgate_engine::snapshot::Snapshot;
use tapgate_engine::time::Instant;

use crate::setup;
use crate::table::{Spread, cpu, micros};

const RULES: u32 = 10_000;
const TABLES: u32 = 1_000;
const ROUTES: u32 = 1_000_000;

/// Times in milliseconds, but for the pauses.
#[derive(Debug, Serialize)]
pub struct Measured {
    pub rules: u32,
    pub tables: u32,
    pub routes: u32,
    /// The configuration as control sends it.
    pub mebibytes: f64,
    /// Reading that, with its checks.
    pub read_ms: f64,
    /// `Snapshot::build`.
    pub build_ms: f64,
    /// `Snapshot::build` where one route is other than before.
    pub change_ms: Spread,
    /// `Engine::adopt` of that, in microseconds: the forwarding thread's pause.
    pub pause_us: Spread,
}

/// Measures a start, and changes of one route.
pub fn measure(rounds: usize) -> Measured {
    let texts = [text(0), text(1)];
    let began = cpu();
    let file: File = serde_json::from_str(&texts[0]).expect("it is JSON");
    let config = setup::config(file);
    let read_ms = micros(cpu() - began) / 1e3;
    let began = cpu();
    let base = Snapshot::build(&config, None);
    let build_ms = micros(cpu() - began) / 1e3;
    let other = setup::config(serde_json::from_str(&texts[1]).expect("it is JSON"));

    let mut now = Instant::from_millis(1_000_000);
    let memory = Sessions {
        v4: SessionMemory::owned(1 << 10),
        v6: SessionMemory::owned(1 << 10),
        inherited: false,
    };
    let mut engine = Engine::new(&base, memory, 0x5eed, now);
    let (mut current, mut changes, mut pauses) = (base, Vec::new(), Vec::new());
    for round in 0..2 * rounds {
        let began = cpu();
        let next = Snapshot::build([&other, &config][round % 2], Some(&current));
        changes.push(micros(cpu() - began) / 1e3);
        now = now + std::time::Duration::from_secs(1);
        let began = cpu();
        engine.adopt(&next, now);
        pauses.push(micros(cpu() - began));
        current = next;
    }
    Measured {
        rules: RULES,
        tables: TABLES,
        routes: ROUTES,
        mebibytes: texts[0].len() as f64 / f64::from(1 << 20),
        read_ms,
        build_ms,
        change_ms: Spread::of(changes),
        pause_us: Spread::of(pauses),
    }
}

/// The configuration; `changed` is the metric of one of its routes.
fn text(changed: u32) -> String {
    let mut text = String::from(
        r#"{ "ports": { "up": { "memory": true }, "lan": { "memory": true } },
        "personalities": { "P": { "port": "up", "mac": "02:00:00:00:aa:00",
            "addresses": ["203.0.113.10/24"], "gateway": "203.0.113.1" } },
        "networks": { "n": { "ports": ["lan"], "addresses": ["10.0.255.254/16"] } }, "tables": {"#,
    );
    for table in 0..TABLES {
        let comma = if table == 0 { "" } else { "," };
        let _ = write!(text, "{comma}\"t{table}\": [");
        for route in 0..ROUTES / TABLES {
            let number = table * (ROUTES / TABLES) + route;
            let (comma, metric) = match number {
                0 => ("", format!(", \"metric\": {changed}")),
                _ if route == 0 => ("", String::new()),
                _ => (",", String::new()),
            };
            // Prefixes of /24 in no order.
            let net = number.wrapping_mul(2_654_435_761) % (1 << 22);
            let to = std::net::Ipv4Addr::from_bits((64 << 24) | net << 8);
            let _ = write!(text, "{comma}{{\"to\":\"{to}/24\",\"dev\":\"P\"{metric}}}");
        }
        text.push(']');
    }
    text.push_str("}, \"routing\": { \"rules\": [");
    for rule in 0..RULES {
        let comma = if rule == 0 { "" } else { "," };
        let from = std::net::Ipv4Addr::from_bits((10 << 24) | rule << 8);
        let table = rule % TABLES;
        let priority = rule + 1;
        let _ = write!(
            text,
            "{comma}{{\"priority\":{priority},\"from\":\"{from}/24\",\"lookup\":\"t{table}\"}}"
        );
    }
    text.push_str("] } }");
    text
}
