//! `tapgate whois` by a file and its log of blocks (T18).

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

const CONFIG: &str = r#"
[ports]
uplink = { device = "eth0" }
a = { device = "a" }
b = { device = "b" }
[personalities.x]
port = "uplink"
mac = "02:00:00:00:00:aa"
addresses = ["203.0.113.10/24", "203.0.113.11/24", "203.0.113.12/24"]
gateway = "203.0.113.1"
[networks.n]
ports = ["a", "b"]
addresses = ["10.0.0.254/24"]
[guests]
a = { port = "a", addresses = ["10.0.0.1"], public = ["203.0.113.21"] }
b = { port = "b", addresses = ["10.0.0.2", "10.9.0.7"] }
[nat]
snat = [{ from = "10.0.0.0/26", to = "203.0.113.10", block = 1000 }]
one_to_one = [{ inside = "10.0.0.77", outside = "203.0.113.12" }, { inside = "10.9.0.0/24", outside = "198.51.100.0/24", dev = "x" }]
forward = [{ address = "203.0.113.10", proto = "tcp", port = 2500, to = "10.0.0.2:22" }]
"#;

struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        let place = std::env::temp_dir().join(format!("whois-{name}-{}", std::process::id()));
        fs::create_dir_all(&place).unwrap();
        let log = place.join("blocks.jsonl");
        let config = format!("{CONFIG}block_log = \"{}\"\n", log.display());
        fs::write(place.join("config.toml"), config).unwrap();
        Self(place)
    }

    fn whois(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_tapgate"))
            .args(["whois", "--config"])
            .arg(self.0.join("config.toml"))
            .arg("--runtime-dir")
            .arg(&self.0)
            .args(arguments)
            .output()
            .unwrap()
    }

    fn says(&self, arguments: &[&str], sentence: &str) {
        let output = self.whois(arguments);
        let said = String::from_utf8(output.stdout).unwrap();
        assert_eq!(
            said.trim_end(),
            sentence,
            "{arguments:?}: {:?}",
            output.stderr
        );
        assert_eq!(output.status.code(), Some(0));
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn t18_a_block_and_what_else_the_file_assigns_is_named() {
    let place = Place::new("now");
    for (who, sentence) in [
        (
            "203.0.113.10:2024",
            "is guest a's, 10.0.0.1: by nat.snat, ports 2024-3023",
        ),
        (
            "203.0.113.10:3023",
            "is guest a's, 10.0.0.1: by nat.snat, ports 2024-3023",
        ),
        (
            "203.0.113.10:3024",
            "is guest b's, 10.0.0.2: by nat.snat, ports 3024-4023",
        ),
        (
            "203.0.113.10:64023",
            "is 10.0.0.62's, which is no configured guest: by nat.snat, ports 63024-64023",
        ),
        ("203.0.113.21:80", "is guest a's, 203.0.113.21: by guests"),
        (
            "198.51.100.7:80",
            "is guest b's, 10.9.0.7: by nat.one_to_one",
        ),
        (
            "203.0.113.12:9",
            "is 10.0.0.77's, which is no configured guest: by nat.one_to_one",
        ),
    ] {
        place.says(&[who], &format!("{who} {sentence}"));
    }
    // A redirected port is not its block's, of that protocol.
    let who = "203.0.113.10:2500";
    let forward = format!("{who} (tcp) is guest b's, 10.0.0.2: by nat.forward, ports 2500");
    place.says(&[who, "--proto", "tcp"], &forward);
    let block = format!("{who} is guest a's, 10.0.0.1: by nat.snat, ports 2024-3023");
    place.says(&[who, "--proto", "udp"], &block);
    place.says(&[who], &format!("{forward}\n{block}"));
    let json: serde_json::Value =
        serde_json::from_slice(&place.whois(&[who, "--json", "--proto", "udp"]).stdout).unwrap();
    assert_eq!(
        (&json[0]["guest"], &json[0]["inside"]),
        (&"a".into(), &"10.0.0.1".into())
    );
}

#[test]
fn t18_the_log_tells_who_had_it() {
    let place = Place::new("then");
    let line = |time: &str, event: &str, guest: &str| {
        format!(
            r#"{{"time":"{time}","event":"{event}","external":"203.0.113.10","ports":"2024-3023","inside":"10.0.0.1","guest":"{guest}","by":"nat.snat"}}"#
        )
    };
    let log = [
        line("2026-01-01T00:00:00Z", "begin", "old"),
        line("2026-02-01T00:00:00Z", "end", "old"),
        line("2026-02-01T00:00:00Z", "begin", "a"),
        "{ torn".to_owned(),
    ];
    fs::write(place.0.join("blocks.jsonl"), log.join("\n")).unwrap();
    let who = "203.0.113.10:2500";
    let at = |guest: &str, time: &str, since: &str| {
        let ports = "by nat.snat, ports 2024-3023";
        let sentence =
            format!("{who} was at {time} guest {guest}'s, 10.0.0.1: {ports}, since {since}");
        place.says(&[who, "--at", time], &sentence);
    };
    at("old", "2026-01-31T23:59:59Z", "2026-01-01T00:00:00Z");
    at("a", "2026-02-01T00:00:00Z", "2026-02-01T00:00:00Z");
    let nobody = place.whois(&[who, "--at", "2025-12-31T23:59:59Z"]);
    assert_eq!(nobody.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&nobody.stderr).contains("names nobody"));
    assert_eq!(
        place.whois(&[who, "--at", "yesterday"]).status.code(),
        Some(2)
    );
    place.says(
        &[who, "--proto", "udp"],
        &format!(
            "{who} is guest a's, 10.0.0.1: by nat.snat, ports 2024-3023, since 2026-02-01T00:00:00Z"
        ),
    );
    // What no file assigns is asked of the running dataplane.
    assert_eq!(place.whois(&["203.0.113.11:2500"]).status.code(), Some(3));
}
