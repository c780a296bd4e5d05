//! A configuration file: read, checked, compiled.

use tapgate::{Diagnostic, check_text, for_people, for_programs};
use tapgate_engine::session::SessionMemory;
use tapgate_engine::snapshot::Snapshot;
use tapgate_engine::time::Instant;

/// Largest snapshot that is also run: an engine has memory for all its sessions from the start.
const RUN: u32 = 4_096;

/// Reads a text. It becomes a configuration, which is compiled and survives its own way through
/// JSON, as between the processes; or every fault has its place in the text, what is wrong and what
/// to write.
pub fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    match check_text(text) {
        Ok(config) => {
            let sent = serde_json::to_vec(&config).expect("to memory");
            let received = serde_json::from_slice(&sent).expect("what was sent is read");
            assert_eq!(config, received);
            let first = Snapshot::build(&config, None);
            let again = Snapshot::build(&config, Some(&first));
            if config.router().sessions <= RUN {
                let memory = SessionMemory::owned(config.router().sessions as usize);
                let now = Instant::from_millis(1_000_000);
                let mut engine = tapgate_engine::Engine::new(&first, memory, 7, now);
                engine.adopt(&again, now);
                engine.poll(&again, now);
                engine.drain(&again, now, |_, _| {});
            }
        }
        Err(faults) => {
            assert!(!faults.is_empty(), "refused without a fault");
            for fault in &faults {
                check(fault, text);
            }
            for_people("fuzz.toml", text, &faults, false);
            let list = for_programs("fuzz.toml", text, &faults);
            serde_json::from_str::<serde_json::Value>(&list).expect("an array");
        }
    }
}

fn check(fault: &Diagnostic, text: &str) {
    let said = !fault.problem.is_empty() && !fault.remedy.is_empty();
    assert!(said, "it says nothing: {fault:?}");
    for span in fault.span.iter().chain(&fault.other) {
        assert!(
            text.get(span.clone()).is_some(),
            "no place in it: {fault:?}"
        );
    }
    // What is not there has no place: a section, or everything.
    let nothing = fault.problem.contains("there is nothing in the file");
    assert!(nothing || fault.span.is_some(), "no place: {fault:?}");
}
