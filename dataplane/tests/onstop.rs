//! What the host's kernel hears of guests when tapgate has stopped (`policy.on_stop`).

mod lab;

use lab::{Lab, attempt, run};
use tapgate_dataplane::hostguard::{Guarded, HostGuard};
use tapgate_dataplane::link::Links;
use tapgate_engine::config::{Config, File};

fn guarded(devices: &[&str], stays: bool) -> Guarded {
    Guarded {
        closed: devices.iter().map(|name| (*name).to_owned()).collect(),
        shared: Vec::new(),
        stays,
    }
}

fn configure(guard: &mut HostGuard, guarded: Guarded) {
    let mut links = Links::open().unwrap();
    links.update().unwrap();
    assert_eq!(guard.configure(guarded, &links), [""; 0]);
    guard.release(&links);
}

fn tables() -> usize {
    run("nft list tables").lines().count()
}

#[test]
fn closed_devices_stay_closed_until_tapgate_runs_again() {
    let mut lab = Lab::new();
    let guest = lab.veth_guest("guest", "g0", "192.0.2.1/24");
    run("ip address add 192.0.2.254/24 dev g0");
    let ping = format!("ip netns exec {guest} ping -q -c 1 -W 1 192.0.2.254");
    let heard = || attempt(&ping).0;
    assert!(heard());
    let mut first = HostGuard::default();
    configure(&mut first, guarded(&["g0"], true));
    assert!(!heard());
    // Stopped, or dead: the kernel does not tell the two apart.
    drop(first);
    assert!(!heard() && tables() == 1, "after a stop");

    // The next takes its place, and nothing of the first is left.
    let mut second = HostGuard::default();
    configure(&mut second, guarded(&["g0"], true));
    assert!(!heard() && tables() == 1);
    // A new configuration without it, and with it again.
    configure(&mut second, guarded(&["g0"], false));
    assert!(!heard() && tables() == 1);
    configure(&mut second, guarded(&["g0"], true));
    assert!(!heard() && tables() == 1);
    // Without guests nothing need be closed.
    configure(&mut second, guarded(&[], true));
    assert!(heard() && tables() == 0);

    configure(&mut second, guarded(&["g0"], true));
    drop(second);
    assert!(!heard() && tables() == 1);
    // By default nothing is left, not even what an earlier one left.
    let mut third = HostGuard::default();
    configure(&mut third, guarded(&["g0"], false));
    assert!(!heard() && tables() == 1);
    drop(third);
    assert!(heard() && tables() == 0);
}

#[test]
fn a_configuration_says_whether_they_stay_closed() {
    let stays = |more: &str| {
        let text = format!(
            "[ports]\ng = {{ device = \"g0\" }}\n[networks]\nlan = {{ ports = [\"g\"], addresses = [\"192.0.2.254/24\"] }}\n{more}"
        );
        let file: File = toml::from_str(&text).unwrap();
        Guarded::of(&Config::try_from(file).unwrap()).stays
    };
    assert!(!stays(""));
    assert!(!stays("[policy]\non_stop = \"host\""));
    assert!(stays("[policy]\non_stop = \"closed\""));
}
