//! What a failed test prints.

use std::fmt::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};

use tapgate_engine::frame::Verdict;
use tapgate_engine::time::Instant;

use super::Router;
use crate::decode;

/// What happened, for the report of a failed test.
#[derive(Debug)]
pub(super) enum Event {
    In(Instant, String, Vec<u8>),
    Out(Instant, String, Vec<u8>),
    Verdict(Verdict),
    Reload(u32),
}

impl Router {
    /// Everything there is to know, for the report of a failed test.
    pub fn state(&mut self) -> String {
        let mut text = format!(
            "--- at {:?}, generation {}\n",
            self.now,
            self.engine.generation()
        );
        for event in &self.remembered {
            let _ = match event {
                Event::In(at, port, bytes) => {
                    writeln!(
                        text,
                        "{} in  {port}: {}",
                        at.as_millis(),
                        decode::line(bytes)
                    )
                }
                Event::Out(at, port, bytes) => {
                    writeln!(
                        text,
                        "{} out {port}: {}",
                        at.as_millis(),
                        decode::line(bytes)
                    )
                }
                Event::Verdict(verdict) => writeln!(text, "    {verdict:?}"),
                Event::Reload(generation) => writeln!(text, "reload: generation {generation}"),
            };
        }
        text.push_str("--- neighbours\n");
        for neighbor in self.neighbors() {
            let _ = writeln!(text, "{neighbor:?}");
        }
        text.push_str("--- sessions\n");
        for session in self.sessions().iter().take(50) {
            let _ = writeln!(text, "{session:?}");
        }
        text.push_str("--- counters\n");
        for (name, value) in self.counts() {
            let _ = writeln!(text, "{name} {value}");
        }
        if let Some((port, mut frame)) = self.last.clone() {
            let _ = writeln!(text, "--- explain: {}", decode::line(&frame.bytes));
            let explained = self.engine.explain(&mut frame.as_frame(), port, self.now);
            for step in explained.0 {
                let _ = writeln!(text, "{}: {}", step.stage, step.detail);
            }
            let _ = writeln!(text, "{:?}", explained.1);
        }
        text
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        if std::thread::panicking() {
            match catch_unwind(AssertUnwindSafe(|| self.state())) {
                Ok(state) => eprintln!("{state}"),
                Err(_) => eprintln!("{:#?}", self.remembered),
            }
        }
    }
}
