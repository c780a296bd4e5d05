//! The README's examples of routes and rules, `[nat]` and `[policy]` are right, and stand side by side.

use std::fs;
use std::path::Path;
use std::process::Command;

/// What they take for granted.
const AROUND: &str = r#"
[ports]
uplink = { device = "eth0" }
a = { device = "a" }
b = { device = "b" }
web = { device = "web" }
db = { device = "db" }
[personalities.A]
port = "uplink"
mac = "02:00:00:00:00:aa"
addresses = ["203.0.113.9", "203.0.113.10", "203.0.113.11", "203.0.113.12", "203.0.113.13", "203.0.113.14", "2001:db8:1::1/64"]
gateway = ["192.0.2.1", "fe80::9"]
onlink = true
[personalities.B]
port = "uplink"
mac = "02:00:00:00:00:bb"
addresses = ["198.51.100.10/24"]
gateway = "198.51.100.1"
[networks]
a = { ports = ["a"], addresses = ["10.0.1.254/24"] }
b = { ports = ["b"], addresses = ["10.0.2.254/24"] }
c = { ports = ["web", "db"], addresses = ["10.0.3.254/24"] }
[guests]
web = { port = "web", addresses = ["10.0.3.1"], groups = ["www"] }
db = { port = "db", addresses = ["10.0.3.2"], groups = ["sql"] }
"#;

#[test]
fn the_readme_s_routes_translation_and_policy_are_right() {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let readme = fs::read_to_string(readme).unwrap();
    let blocks = readme
        .split("```toml\n")
        .skip(1)
        .filter_map(|block| block.split("```").next());
    let wanted = [
        "[tables]\nmain = [",
        "[nat]\nsnat = [   ",
        "[policy]\nzones",
        "[policy.groups]",
    ];
    let mut config = AROUND.to_owned();
    for beginning in wanted {
        let block = blocks.clone().find(|block| block.starts_with(beginning));
        config += block.unwrap_or_else(|| panic!("no block begins with {beginning}"));
    }
    let file = std::env::temp_dir().join(format!("readme-{}.toml", std::process::id()));
    fs::write(&file, &config).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_tapgate"))
        .arg("check")
        .arg(&file)
        .output()
        .unwrap();
    fs::remove_file(&file).unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{config}");
}
