//! The kernel as the oracle: the same rules and routes in a namespace of our own, asked with
//! `ip route get`. Needs root and iproute2.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;

use super::model::{Action, Flow, Model, NETWORKS, Outcome, Verdict};

/// Configurations compared, and flows through each.
const MODELS: usize = 40;
const FLOWS: usize = 12;
/// The kernel's number of the model's first table.
const FIRST_TABLE: usize = 1_000;

#[test]
fn f19_as_the_kernel_does() {
    let mut runner = TestRunner::deterministic();
    let mut kinds = HashSet::new();
    for _ in 0..MODELS {
        let model = Model::any().new_tree(&mut runner).unwrap().current();
        let kernel = Kernel::new(&model);
        let mut router = super::router(&model);
        for n in 0..FLOWS {
            let flow = Flow::any().new_tree(&mut runner).unwrap().current();
            let expected = kernel.outcome(&flow);
            kinds.insert(std::mem::discriminant(&expected));
            assert_eq!(
                model.outcome(&flow),
                expected,
                "the model: {flow:?}\n{}",
                model.toml()
            );
            assert_eq!(
                super::routed(&mut router, n, &flow),
                expected,
                "{flow:?}\n{}",
                model.toml()
            );
        }
    }
    assert_eq!(kinds.len(), 5, "every outcome is among them");
}

/// A network namespace with a model's configuration, gone when this is.
struct Kernel {
    namespace: String,
}

impl Kernel {
    fn new(model: &Model) -> Self {
        static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let count = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let namespace = format!("tst-{}-{count}", std::process::id());
        ip(&["netns", "add", &namespace]);
        let kernel = Self { namespace };
        kernel.batch(&commands(model));
        kernel.execute(&[
            "sysctl",
            "-qw",
            "net.ipv4.ip_forward=1",
            "net.ipv4.conf.all.rp_filter=0",
        ]);
        kernel
    }

    fn outcome(&self, flow: &Flow) -> Outcome {
        let (from, to) = (flow.from.to_string(), flow.to.to_string());
        let iif = format!("v{}", flow.iif);
        let ask = [
            "-n",
            &self.namespace,
            "route",
            "get",
            &to,
            "from",
            &from,
            "iif",
            &iif,
        ];
        let Output { stdout, stderr, .. } = run("ip", &ask);
        let (answer, error) = (
            String::from_utf8_lossy(&stdout),
            String::from_utf8_lossy(&stderr),
        );
        match error.trim() {
            "" => {}
            "RTNETLINK answers: Network is unreachable" => return Outcome::NetUnreachable,
            "RTNETLINK answers: No route to host" => return Outcome::HostUnreachable,
            "RTNETLINK answers: Permission denied" => return Outcome::Prohibited,
            "RTNETLINK answers: Invalid argument" => return Outcome::Silent,
            other => panic!("{flow:?}: {other}"),
        }
        let words: Vec<&str> = answer.split_whitespace().collect();
        let after = |word: &str| {
            let at = words.iter().position(|known| *known == word)?;
            words.get(at + 1).copied()
        };
        let device = after("dev").unwrap_or_else(|| panic!("{flow:?}: {answer}"));
        Outcome::Forwarded {
            network: device[1..].parse().unwrap(),
            next_hop: after("via").map_or(flow.to, |via| via.parse().unwrap()),
        }
    }

    /// Runs `ip` commands, one per line, within the namespace.
    fn batch(&self, commands: &str) {
        let mut child = Command::new("ip")
            .args(["-n", &self.namespace, "-batch", "-"])
            .stdin(Stdio::piped())
            .spawn()
            .expect("iproute2 is needed");
        child
            .stdin
            .take()
            .unwrap()
            .write_all(commands.as_bytes())
            .unwrap();
        assert!(child.wait().unwrap().success(), "{commands}");
    }

    fn execute(&self, command: &[&str]) {
        ip(&[&["netns", "exec", &self.namespace], command].concat());
    }
}

impl Drop for Kernel {
    fn drop(&mut self) {
        run("ip", &["netns", "del", &self.namespace]);
    }
}

/// What gives the kernel the model's configuration.
fn commands(model: &Model) -> String {
    let mut text = String::new();
    for n in 0..NETWORKS {
        let _ = writeln!(text, "link add v{n} type veth peer name w{n}");
        let _ = writeln!(text, "link set v{n} up\nlink set w{n} up");
        let _ = writeln!(text, "address add 10.0.{n}.254/24 dev v{n}");
    }
    for (n, table) in model.tables.iter().enumerate() {
        for route in table {
            let to = route.to;
            let kind = match route.action {
                Action::Forward { .. } => "unicast",
                Action::Blackhole => "blackhole",
                Action::Unreachable => "unreachable",
                Action::Prohibit => "prohibit",
                Action::Throw => "throw",
            };
            let _ = write!(text, "route add {kind} {to}");
            if let Action::Forward { network, via } = route.action {
                if let Some(host) = via {
                    let _ = write!(text, " via 10.0.{network}.{host}");
                }
                let _ = write!(text, " dev v{network}");
            }
            let _ = writeln!(text, " table {}", FIRST_TABLE + n);
        }
    }
    for rule in &model.rules {
        let _ = write!(text, "rule add priority {}", rule.priority);
        let from = rule.from.map_or("all".to_owned(), |from| from.to_string());
        let _ = write!(text, " from {from}");
        if let Some(to) = rule.to {
            let _ = write!(text, " to {to}");
        }
        if let Some(iif) = rule.iif {
            let _ = write!(text, " iif v{iif}");
        }
        let _ = match rule.verdict {
            Verdict::Lookup { table, suppress } => {
                let _ = write!(text, " lookup {}", FIRST_TABLE + table);
                match suppress {
                    Some(length) => writeln!(text, " suppress_prefixlength {length}"),
                    None => writeln!(text),
                }
            }
            Verdict::Blackhole => writeln!(text, " blackhole"),
            Verdict::Unreachable => writeln!(text, " unreachable"),
            Verdict::Prohibit => writeln!(text, " prohibit"),
        };
    }
    text
}

fn ip(arguments: &[&str]) {
    let output = run("ip", arguments);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.success(),
        "ip {arguments:?} (as root?): {error}"
    );
}

fn run(program: &str, arguments: &[&str]) -> Output {
    let output = Command::new(program).args(arguments).output();
    output.unwrap_or_else(|error| panic!("{program} is needed: {error}"))
}
