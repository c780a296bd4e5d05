//! `tapgate show config --expanded`: the file spelled out is a file, and means the same.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tapgate_engine::config::Config;

/// A little of everything that has a short form.
const EVERYTHING: &str = r#"
[ports]
uplink = { device = "eth0", mtu = 9000 }
a = { tap = "a", mac = "02:00:00:00:01:01" }
b = { device = "b", create = {} }
c = { device = "c" }
v = { device = "v", mtu = 9000 }
[personalities]
A = { port = "uplink", mac = "02:00:00:00:00:aa", addresses = ["203.0.113.10", "203.0.113.11", "203.0.113.12", "2001:db8:1::1/64"], gateway = ["192.0.2.1", "fe80::9"], onlink = true }
[networks]
n = { ports = ["a", "b"], addresses = ["10.0.1.254/24", "2001:db8:2::1/64"], dhcp = { dns = ["9.9.9.9"] }, dhcp6 = {}, ra = { prefixes = [{ prefix = "2001:db8:2::/64" }], routes = [{ prefix = "2001:db8::/32" }] } }
m = { ports = ["c"], addresses = ["10.0.2.254/24"] }
v = { ports = ["v"], bridged = "uplink", vlan = 7 }
[guests]
one = { port = "a", addresses = ["10.0.1.1", "2001:db8:2::11"], groups = ["www"] }
two = { port = "a", addresses = ["10.0.1.2"] }
three_ = { port = "b", addresses = ["10.0.1.3"], public = ["203.0.113.33"], limits = { sessions = 10 } }
vm = { port = "v", mac = "52:54:00:00:00:01", public = ["203.0.113.44"], bandwidth = { out = "1000kbit/s" } }
[tables]
main = [{ to = "default", dev = "A" }, { to = "::/0", dev = "A" }, { to = "10.9.0.0/16", via = "10.0.1.3" }]
other = [{ to = "10.8.0.0/16", type = "throw" }, { to = "10.7.0.0/16", dev = "m" }]
[routing]
rules = [
  { priority = 40000, action = "prohibit" },
  { priority = 100, from = "10.0.1.0/24", iif = "n", lookup = "other" },
]
[nat]
snat = [{ from = "10.0.1.0/24", dev = "A", block = 200 }, { from = "10.0.2.0/24", to = "203.0.113.11" }]
one_to_one = [{ inside = "10.0.1.3", outside = "203.0.113.12" }]
forward = [{ address = "203.0.113.10", proto = "udp", port = "500-520", to = ["10.0.1.1", "10.0.1.2:600"] }]
[policy]
zones = { inside = ["n", "m"], "out.side" = ["A"] }
sets = { admins = ["198.51.100.0/24"] }
rules = [{ action = "accept", source = "admins", proto = "tcp", port = 22, rate = 7 }]
[policy.groups]
www = { in = [{ action = "accept", proto = "tcp", port = [80, 443] }], out = [] }
"#;

/// What `everything` has to say of what is not written.
const LINES: [&str; 18] = [
    "addresses = [\"10.0.1.1/32\", \"2001:db8:2::11/128\"]",
    "hostname = \"one\"",
    "dhcp = \"10.0.1.1\"",
    "# DHCPv6 hands out 2001:db8:2::11",
    "# also fe80::1/64, as there is IPv6 on the link",
    "  { to = \"0.0.0.0/0\", via = \"192.0.2.1\", dev = \"A\" },",
    "  { to = \"::/0\", via = \"fe80::9\", dev = \"A\" },",
    "  { to = \"10.9.0.0/16\", via = \"10.0.1.3\", dev = \"n\" },",
    "# main: { to = \"10.0.2.0/24\", dev = \"m\" }, connected",
    "# main: { to = \"10.0.1.2/32\", dev = \"n\" }, guest \"two\"",
    "  # { priority = 32766, lookup = \"main\" }",
    "  { from = \"10.0.1.0/24\", to = \"203.0.113.10\", block = 200, ports = \"1024-65535\", mapping = \"endpoint-independent\", filtering = \"address-and-port-dependent\" },",
    "  { address = \"203.0.113.10\", proto = \"udp\", port = \"500-520\", to = [\"10.0.1.1:500\", \"10.0.1.2:600\"] },",
    "  # of personality \"A\"",
    "# with the guests of its networks: one, three_, two",
    "  # admins: 198.51.100.0/24",
    "# where no rule above decides: guests of one network reach each other, and the `public` addresses and forwarded ports of all;",
    "on_stop = \"host\"",
];

fn expanded(file: &Path, more: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tapgate"))
        .args(["show", "config", "--expanded", "--config"])
        .arg(file)
        .args(more)
        .output()
        .unwrap()
}

fn text(file: &Path) -> String {
    let output = expanded(file, &[]);
    assert!(output.status.success(), "{file:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn config(text: &str) -> Config {
    tapgate::check_text(text).unwrap_or_else(|faults| panic!("{faults:#?}\n{text}"))
}

/// The file spelled out, after it has been proved to be the same file.
fn assert_same(file: &Path) -> String {
    let first = text(file);
    let before = config(&fs::read_to_string(file).unwrap());
    let after = config(&first);
    assert!(before.means(&after), "{first}");
    let parts = |config: &Config| {
        let routing = (config.tables().to_vec(), config.rules().to_vec());
        let nat = (config.snat().to_vec(), config.redirects().to_vec());
        let policy = config.policy().clone();
        (
            routing,
            nat,
            config.guests().to_vec(),
            config.interfaces().to_vec(),
            policy,
        )
    };
    assert_eq!(parts(&before), parts(&after), "{first}");
    let again = Temporary::new(&first);
    assert_eq!(text(&again.0), first);
    first
}

struct Temporary(PathBuf);

impl Temporary {
    fn new(text: &str) -> Self {
        static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let n = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let name = format!("tapgate-config-{}-{n}.toml", std::process::id());
        let file = std::env::temp_dir().join(name);
        fs::write(&file, text).unwrap();
        Self(file)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[test]
fn every_example_spelled_out_is_the_same_file() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let mut files = 0;
    for entry in fs::read_dir(examples).unwrap() {
        let file = entry.unwrap().path();
        if file.extension().is_some_and(|kind| kind == "toml") {
            assert_same(&file);
            files += 1;
        }
    }
    assert!(files > 0);
}

#[test]
fn every_short_form_is_spelled_out() {
    let file = Temporary::new(EVERYTHING);
    let said = assert_same(&file.0);
    for line in LINES {
        assert!(said.lines().any(|said| said == line), "no {line}\n{said}");
    }
    // Rules stand in the order in which they are asked.
    let at = |what: &str| said.find(what).unwrap();
    assert!(at("priority = 100,") < at("priority = 32766"));
    assert!(at("priority = 32766") < at("priority = 40000"));
    // What goes for several guests behind one TAP cannot be said of each.
    let two = at("[guests.two]");
    assert!(!said[two..at("[guests.vm]")].contains("mac = "), "{said}");
}

#[test]
fn programs_get_the_same() {
    let file = Temporary::new(EVERYTHING);
    let output = expanded(&file.0, &["--json"]);
    let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(said["text"], EVERYTHING);
    assert_eq!(said["config"]["tables"]["main"][0]["via"], "192.0.2.1");
    let implicit = said["implicit"].as_array().unwrap();
    let main = implicit
        .iter()
        .filter(|remark| remark["at"] == serde_json::json!(["tables", "main"]));
    assert!(main.count() > 3, "{said}");
    let config: Config = serde_json::from_value(said["config"].clone()).unwrap();
    assert!(config.means(&self::config(EVERYTHING)));
}

#[test]
fn a_file_is_shown_as_it_is_written() {
    let file = Temporary::new(EVERYTHING);
    let output = Command::new(env!("CARGO_BIN_EXE_tapgate"))
        .args(["show", "config", "--config"])
        .arg(&file.0)
        .output()
        .unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), EVERYTHING);
    let wrong = Temporary::new(&EVERYTHING.replace("mtu", "mut"));
    assert_eq!(expanded(&wrong.0, &[]).status.code(), Some(2));
    let drops = Command::new(env!("CARGO_BIN_EXE_tapgate"))
        .args(["show", "drops", "--expanded"])
        .output()
        .unwrap();
    assert_eq!(drops.status.code(), Some(2));
}
