//! The same of systems' own setup.

use std::fs;
use std::path::{Path, PathBuf};

use super::*;

/// Copies a directory of inputs, with the files that `change` changes.
pub(super) fn copied(name: &str, to: &Path, mut change: impl FnMut(&str, String) -> String) {
    fs::create_dir_all(to).unwrap();
    let from = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/import")
        .join(name);
    for file in fs::read_dir(from).unwrap().flatten() {
        if file.path().is_file() {
            let name = file.file_name().into_string().unwrap();
            let text = fs::read_to_string(file.path()).unwrap();
            fs::write(to.join(&name), change(&name, text)).unwrap();
        }
    }
}

pub(super) fn scratch(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("tapgate-import-{name}-{}", std::process::id()))
}

/// What is made of a directory with these files.
pub(super) fn made_of(
    name: &str,
    files: &[(&str, &str)],
    read: impl FnOnce(&Path) -> Result<System, Failure>,
) -> Result<Written, Failure> {
    let to = scratch(name);
    for (file, text) in files {
        let file = to.join(file);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }
    let read = read(&to);
    fs::remove_dir_all(&to).unwrap();
    Ok(settle(read?, &Options::default()))
}

/// Lines that were left out for something that these words are of.
pub(super) fn left_out(written: &Written, fate: Fate, why: &str) -> Vec<String> {
    let notes = written.notes.iter();
    notes
        .filter(|note| note.fate == fate && note.why.contains(why))
        .map(|note| note.origin.text.clone())
        .collect()
}

#[test]
fn whatever_the_kernel_says_is_written_or_refused() {
    let mut numbers = Numbers(5);
    let (to, mut written, mut taken) = (scratch("kernel"), 0, 0);
    for name in [
        "kernel/hard",
        "kernel/ovh-ipv6",
        "kernel/bridged",
        "kernel/marks",
        "kernel/two-uplinks",
    ] {
        for round in 0..40 {
            let mut place = 0;
            copied(name, &to, |file, text| match file.strip_suffix(".json") {
                // One at a time; text that is still JSON comes further.
                _ if {
                    place += 1;
                    place % 9 != round % 9
                } =>
                {
                    text
                }
                Some(_) if round % 4 > 0 => {
                    let mut json: serde_json::Value = serde_json::from_str(&text).unwrap();
                    (0..3).for_each(|_| shake(&mut json, &mut numbers));
                    json.to_string()
                }
                _ => mutated(&text, &mut numbers),
            });
            let result = set_up(kernel::read(&to));
            written += usize::from(result.is_some());
            taken += usize::from(result == Some(true));
            fs::remove_dir_all(&to).unwrap();
        }
    }
    assert!(
        written > 60 && taken * 2 > written,
        "{taken} of {written} would be taken"
    );
}

#[test]
fn whatever_interfaces_say_is_written_or_refused() {
    let mut numbers = Numbers(6);
    let (to, mut written) = (scratch("interfaces"), 0);
    fs::create_dir_all(&to).unwrap();
    let text = format!("{}{}", input("interfaces"), input("interfaces.d/lan"));
    for _ in 0..150 {
        fs::write(to.join("interfaces"), mutated(&text, &mut numbers)).unwrap();
        written += usize::from(set_up(interfaces::read(&to.join("interfaces"))).is_some());
    }
    fs::remove_dir_all(&to).unwrap();
    assert!(written > 120, "{written}");
}

#[test]
fn whatever_netplan_says_is_written_or_refused() {
    let mut numbers = Numbers(7);
    let mut written = 0;
    let text = input("netplan/10-base.yaml");
    for _ in 0..150 {
        let files = [("a.yaml".to_owned(), mutated(&text, &mut numbers))];
        written += usize::from(set_up(netplan::read(&files)).is_some());
    }
    assert!(written > 40, "{written}");
}

#[test]
fn whatever_networkd_says_is_written_or_refused() {
    let mut numbers = Numbers(8);
    let (to, mut written) = (scratch("networkd"), 0);
    for name in ["networkd", "networkd-of-netplan"] {
        for _ in 0..60 {
            copied(name, &to, |_, text| mutated(&text, &mut numbers));
            written += usize::from(set_up(networkd::read(&to)).is_some());
            fs::remove_dir_all(&to).unwrap();
        }
    }
    assert!(written > 80, "{written}");
}

/// An uplink and a network, and routes beside their own.
fn with_routes(name: &str, routes: &str) -> Written {
    let text = format!(
        "iface eth0 inet static\n address 198.51.100.7/24\n gateway 198.51.100.254\n\
         iface eth1 inet static\n address 203.0.113.7/24\n up ip route add default via 203.0.113.254 dev eth1 table 9\n\
         iface br0 inet static\n address 10.0.1.254/24\niface br0 inet6 static\n address 2001:db8::1/64\n{routes}"
    );
    let file = scratch(name);
    fs::write(&file, text).unwrap();
    let read = interfaces::read(&file).unwrap();
    fs::remove_file(&file).unwrap();
    settle(read, &Options::default())
}

#[test]
fn a_routes_sizes_are_as_the_kernel_takes_them() {
    let written = with_routes(
        "sizes",
        " up ip route add 10.1.0.0/16 via 10.0.1.1 dev br0 mtu lock 1400 window lock 4 advmss 70000\n\
          up ip route add 10.2.0.0/16 via 10.0.1.1 dev br0 mtu 90000 advmss 0\n\
          up ip route add 10.3.0.0/16 via 10.0.1.1 dev br0 mtu 500 advmss 200\n\
          up ip -6 route add 2001:db8:1::/48 via 2001:db8::2 dev br0 mtu lock 1279\n\
          up ip -6 route add 2001:db8:2::/48 via 2001:db8::2 dev br0 mtu lock 1280\n\
          up ip route add blackhole 10.4.0.0/16 mtu 1400 src 10.0.1.254\n",
    );
    for (to, rest) in [
        ("10.1.0.0/16", ", mtu = 1400, advmss = 65495 }"),
        ("10.2.0.0/16", ", mtu = 65520 }"),
        ("10.3.0.0/16", " }"),
        ("2001:db8:1::/48", " }"),
        ("2001:db8:2::/48", ", mtu = 1280 }"),
    ] {
        let via = if to.contains(':') {
            "2001:db8::2"
        } else {
            "10.0.1.1"
        };
        let line = format!("{{ to = \"{to}\", via = \"{via}\", dev = \"br0\"{rest},");
        assert!(written.text.contains(&line), "{line}\n{}", written.text);
    }
    let blackhole = "{ to = \"10.4.0.0/16\", type = \"blackhole\" },";
    assert!(written.text.contains(blackhole), "{}", written.text);
    let missing = written
        .notes
        .iter()
        .filter(|note| note.fate == Fate::Missing);
    let of = |note: &Note| (note.origin.text.clone(), note.why.clone());
    let missing: Vec<_> = missing.map(of).collect();
    assert_eq!(missing.len(), 3, "{missing:?}");
    assert_eq!(written.faults, [""; 0]);
}

#[test]
fn a_routes_source_is_one_that_may_leave_there() {
    let written = with_routes(
        "sources",
        " up ip route add 10.1.0.0/16 via 198.51.100.1 dev eth0 src 198.51.100.7\n\
          up ip route add 10.2.0.0/16 via 198.51.100.1 dev eth0 src 203.0.113.7\n\
          up ip route add 10.3.0.0/16 via 10.0.1.1 dev br0 src 203.0.113.7\n\
          up ip route add 10.4.0.0/16 src 198.51.100.7 nexthop via 198.51.100.1 dev eth0 nexthop via 203.0.113.1 dev eth1\n\
          up ip route add 10.5.0.0/16 via 10.0.1.1 dev br0 src 192.0.2.1\n",
    );
    let written_with = |to: &str| {
        let start = format!("{{ to = \"{to}\"");
        let mut lines = written.text.lines().map(str::trim);
        lines
            .find(|line| line.starts_with(&start))
            .unwrap()
            .contains("src = ")
    };
    let with: Vec<bool> = (1..=5)
        .map(|n| written_with(&format!("10.{n}.0.0/16")))
        .collect();
    assert_eq!(with, [true, false, true, false, false], "{}", written.text);
    let host = "`src` is for what the host itself sends; the route is written without it";
    assert_eq!(
        written.notes.iter().filter(|note| note.why == host).count(),
        3
    );
    assert_eq!(written.faults, [""; 0]);
}
