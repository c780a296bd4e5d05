//! Whatever is read, something is written that is TOML, or it is refused.

mod ifupdown;
mod marks;
mod plans;
mod same;
mod saved;
mod systems;
mod units;

use std::fs;
use std::path::Path;

use ipnet::IpNet;

use super::*;
use crate::document::Document;
use crate::failure::Code;

/// Numbers that are the same in every run (Knuth's MMIX generator).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, most: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % most.max(1)
    }
}

/// A text with something cut out, put in, doubled, or two of its words changed for each other.
fn mutated(text: &str, numbers: &mut Numbers) -> String {
    const WORDS: [&str; 18] = [
        "!",
        "-",
        "\"",
        "\\",
        "{",
        "}",
        "[",
        "]",
        "0",
        "65536",
        "::/0",
        "0.0.0.0/0",
        "$FW",
        "all",
        "é",
        "-j",
        "RETURN",
        "\n",
    ];
    let place = |numbers: &mut Numbers| {
        let mut at = numbers.below(text.len() + 1);
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        at
    };
    let (a, b) = (place(numbers), place(numbers));
    let (first, last) = (a.min(b), a.max(b).min(a.min(b) + 60));
    let last = (first..=last)
        .rev()
        .find(|at| text.is_char_boundary(*at))
        .unwrap_or(first);
    let (before, middle, after) = (&text[..first], &text[first..last], &text[last..]);
    match numbers.below(5) {
        0 => before.to_owned(),
        1 => format!("{before}{after}"),
        2 => format!("{before}{middle}{middle}{after}"),
        3 => format!(
            "{before}{}{middle}{after}",
            WORDS[numbers.below(WORDS.len())]
        ),
        _ => {
            let mut lines: Vec<&str> = text.lines().collect();
            let count = lines.len();
            let (a, b) = (numbers.below(count), numbers.below(count));
            lines.swap(a, b);
            lines.join("\n")
        }
    }
}

/// Writes what was read; whether tapgate would take it.
fn write(read: Result<Firewall, Failure>) -> Option<bool> {
    judge(read, |firewall| translate(firewall, &Options::default()))
}

/// The same of a system's own setup.
fn set_up(read: Result<System, Failure>) -> Option<bool> {
    judge(read, |system| settle(system, &Options::default()))
}

fn judge<T>(read: Result<T, Failure>, with: impl FnOnce(T) -> Written) -> Option<bool> {
    let read = match read {
        Ok(read) => read,
        Err(failure) => {
            assert_eq!(failure.code(), Code::Refused);
            assert!(failure.to_string().contains("name "), "{failure}");
            return None;
        }
    };
    let written = with(read);
    assert!(Document::parse(&written.text).is_ok(), "{}", written.text);
    for note in &written.notes {
        assert!(written.text.contains(&note.why), "{note:?}");
    }
    Some(written.faults.is_empty())
}

fn input(name: &str) -> String {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/import");
    fs::read_to_string(directory.join(name)).unwrap()
}

#[test]
fn whatever_iptables_says_is_written_or_refused() {
    let mut numbers = Numbers(1);
    let (mut taken, mut written) = (0, 0);
    for name in [
        "hard.save",
        "docker.save",
        "port-forward.save",
        "single-address.save6",
    ] {
        let (text, sets) = (input(name), input("friends.ipset"));
        for _ in 0..80 {
            let files = [
                (name.to_owned(), mutated(&text, &mut numbers)),
                ("friends.ipset".to_owned(), mutated(&sets, &mut numbers)),
            ];
            let result = write(iptables::read(&files));
            written += usize::from(result.is_some());
            taken += usize::from(result == Some(true));
        }
    }
    assert!(
        taken * 10 > written * 9 && written > 150,
        "{taken} of {written} would be taken"
    );
}

#[test]
fn whatever_nft_says_is_written_or_refused() {
    let mut numbers = Numbers(2);
    let mut written = 0;
    for name in [
        "native.nft.json",
        "port-forward.nft.json",
        "by-iptables.nft.json",
    ] {
        let text = input(name);
        for _ in 0..40 {
            let files = [(name.to_owned(), mutated(&text, &mut numbers))];
            written += usize::from(write(nft::read(&files)).is_some());
        }
        // Text that is still JSON comes further.
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        for _ in 0..60 {
            let mut json = json.clone();
            for _ in 0..3 {
                shake(&mut json["nftables"], &mut numbers);
            }
            let files = [(name.to_owned(), json.to_string())];
            written += usize::from(write(nft::read(&files)).is_some());
        }
    }
    assert!(written > 100, "{written}");
}

/// Puts something else in the place of one value.
fn shake(json: &mut serde_json::Value, numbers: &mut Numbers) {
    let here = numbers.below(8) == 0;
    match json {
        serde_json::Value::Array(all) if !all.is_empty() && !here => {
            let at = numbers.below(all.len());
            shake(&mut all[at], numbers);
        }
        serde_json::Value::Object(all) if !all.is_empty() && !here => {
            let at = numbers.below(all.len());
            if let Some(value) = all.values_mut().nth(at) {
                shake(value, numbers);
            }
        }
        serde_json::Value::Array(all) if here => *json = serde_json::json!({ "set": all }),
        other => {
            let others = [
                serde_json::json!(null),
                serde_json::json!(-1),
                serde_json::json!(70_000),
                serde_json::json!("@admins"),
                serde_json::json!({ "range": ["10.0.0.9", "10.0.0.1"] }),
                serde_json::json!({ "prefix": { "addr": "::1", "len": 300 } }),
                serde_json::json!([[], {}]),
            ];
            *other = others[numbers.below(others.len())].clone();
        }
    }
}

#[test]
fn whatever_shorewall_says_is_written_or_refused() {
    let mut numbers = Numbers(3);
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/import");
    let to = std::env::temp_dir().join(format!("tapgate-import-{}", std::process::id()));
    let mut written = 0;
    for name in ["shorewall-hard", "shorewall-port-forward", "shorewall-old"] {
        let files: Vec<(String, String)> = fs::read_dir(from.join(name))
            .unwrap()
            .map(|file| file.unwrap().file_name().into_string().unwrap())
            .map(|file| {
                (
                    file.clone(),
                    fs::read_to_string(from.join(name).join(&file)).unwrap(),
                )
            })
            .collect();
        for round in 0..60 {
            fs::create_dir_all(&to).unwrap();
            for (n, (file, text)) in files.iter().enumerate() {
                let text = match round % files.len() == n {
                    true => mutated(text, &mut numbers),
                    false => text.clone(),
                };
                fs::write(to.join(file), text).unwrap();
            }
            written += usize::from(write(shorewall::read(&to, Path::new("none"))).is_some());
            fs::remove_dir_all(&to).unwrap();
        }
    }
    assert!(written > 150, "{written}");
}

/// A file that includes itself, a macro that calls itself, chains that jump in a circle.
#[test]
fn what_goes_in_circles_ends() {
    let to = std::env::temp_dir().join(format!("tapgate-import-circle-{}", std::process::id()));
    fs::create_dir_all(&to).unwrap();
    for (file, text) in [
        ("zones", "fw firewall\nnet ipv4\nloc ipv4\n"),
        ("interfaces", "net eth0\nloc eth1\n"),
        (
            "macro.Round",
            "Round(PARAM)\nRound(PARAM)\nPARAM - - tcp 1\n",
        ),
        (
            "rules",
            "Round(ACCEPT) net loc\nINCLUDE rules\nINCLUDE rules\n",
        ),
        ("params", "A=$B\nB=$A$A\n"),
    ] {
        fs::write(to.join(file), text).unwrap();
    }
    write(shorewall::read(&to, Path::new("none")));
    fs::remove_dir_all(&to).unwrap();
    let mut text = String::from("*filter\n:FORWARD ACCEPT\n");
    for n in 0..40 {
        text.push_str(&format!(
            ":c{n} -\n-A c{n} -j c{0}\n-A c{n} -j c{0}\n",
            (n + 1) % 40
        ));
    }
    text.push_str("-A FORWARD -j c0\nCOMMIT\n");
    assert_eq!(
        write(iptables::read(&[("circle".to_owned(), text)])),
        Some(true)
    );
}

/// Of several forward chains each is asked: drops of the first hold, what it accepts the next decides.
#[test]
fn several_forward_chains_are_not_one() {
    let chain = |name: &str, priority: i32, policy: &str| {
        serde_json::json!({ "chain": { "family": "inet", "table": "t", "name": name, "handle": 1,
            "type": "filter", "hook": "forward", "prio": priority, "policy": policy } })
    };
    let rule = |chain: &str, port: u16, verdict: &str| {
        let left = serde_json::json!({ "payload": { "protocol": "tcp", "field": "dport" } });
        serde_json::json!({ "rule": { "family": "inet", "table": "t", "chain": chain, "handle": port, "expr": [
            { "match": { "op": "==", "left": left, "right": port } }, { verdict: null }] } })
    };
    let written = |first: &[serde_json::Value]| {
        let mut all = vec![
            chain("late", 10, "drop"),
            chain("early", 0, "accept"),
            rule("late", 80, "accept"),
        ];
        all.extend_from_slice(first);
        let text = serde_json::json!({ "nftables": all }).to_string();
        let read = nft::read(&[("two".to_owned(), text)]).unwrap();
        translate(read, &Options::default())
    };
    let drops = written(&[rule("early", 25, "drop")]);
    let place = |text: &str| drops.text.find(text).unwrap();
    assert!(
        place("action = \"drop\", proto = \"tcp\", port = 25")
            < place("action = \"accept\", proto = \"tcp\", port = 80")
    );
    assert!(drops.notes.iter().all(|note| note.fate != Fate::Wider));
    let accepts = written(&[rule("early", 22, "accept"), rule("early", 25, "drop")]);
    assert!(!accepts.text.contains("port = 22"), "{}", accepts.text);
    assert!(accepts.notes.iter().any(|note| note.fate == Fate::Wider));
}

#[test]
fn what_is_logged_and_then_decided_is_one_rule() {
    let text = "*filter\n:FORWARD ACCEPT [0:0]\n\
        -A FORWARD -i eth0 -p tcp -m tcp --dport 22 -j LOG --log-prefix \"ssh: \"\n\
        -A FORWARD -i eth0 -p tcp -m tcp --dport 22 -j DROP\n\
        -A FORWARD -i eth0 -o eth1 -j LOG\n\
        -A FORWARD -i eth0 -p udp -j DROP\nCOMMIT\n";
    let options = Options {
        uplinks: vec![("eth0".to_owned(), None)],
        ..Options::default()
    };
    let read = iptables::read(&[("a".to_owned(), text.to_owned())]).unwrap();
    let written = translate(read, &options);
    let rules: Vec<&str> = written
        .text
        .lines()
        .filter(|line| line.trim_start().starts_with("{ action = \"drop\""))
        .collect();
    assert_eq!(rules.len(), 2, "{}", written.text);
    assert!(
        rules[0].ends_with("port = 22, log = true },"),
        "{}",
        rules[0]
    );
    assert!(!rules[1].contains("log"), "{}", rules[1]);
    let missing: Vec<&str> = written.notes.iter().map(|note| &*note.why).collect();
    let asked = "write `log = true` at the rule that decides about these";
    assert_eq!(missing, [asked]);
}
