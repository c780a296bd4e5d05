//! netplan's files.

use super::systems::left_out;
use super::*;

const ETH0: &str =
    "    eth0: {addresses: [203.0.113.5/24], routes: [{to: default, via: 203.0.113.1}]}\n";

fn read(files: &[&str]) -> Written {
    let named = |(n, text): (usize, &&str)| (format!("{n}.yaml"), (*text).to_owned());
    let files: Vec<(String, String)> = files.iter().enumerate().map(named).collect();
    let written = settle(netplan::read(&files).unwrap(), &Options::default());
    assert_eq!(written.faults, [""; 0], "{}", written.text);
    written
}

/// The device eth0 and others, then other kinds.
fn with(ethernets: &str, more: &str) -> Written {
    read(&[&format!("network:\n  ethernets:\n{ETH0}{ethernets}{more}")])
}

fn has(written: &Written, entry: &str) {
    assert!(written.text.contains(entry), "{entry}\n{}", written.text);
}

/// netplan's own IDs are not the names of devices that it renames, wherever they are named.
#[test]
fn what_names_an_id_means_its_device() {
    let more = "  bridges:\n    br0: {interfaces: [lan, two], addresses: [10.0.0.1/24]}\n  \
                vlans:\n    v10: {id: 10, link: wan, addresses: [10.10.0.1/24]}\n";
    let ethernets = "    lan: {match: {macaddress: \"02:00:00:00:00:02\"}, set-name: eth1, mtu: 9000}\n    \
                     two: {match: {name: eth2}}\n    wan: {match: {name: eth0}}\n";
    let written = with(ethernets, more);
    has(&written, "br0 = { ports = [\"eth1\", \"eth2\"]");
    has(&written, "eth1 = { device = \"eth1\", mtu = 9000 }");
    assert!(!written.text.contains("wan") && !written.text.contains("lan\""));
    assert!(written.notes.is_empty(), "{:?}", written.notes);
}

#[test]
fn a_bond_has_no_ports_of_a_network() {
    let more = "  bonds:\n    bond0: {interfaces: [one, two], addresses: [10.9.0.1/24]}\n";
    let written = with("    one: {}\n    two: {}\n", more);
    has(&written, "bond0 = { ports = [\"bond0\"]");
}

#[test]
fn devices_without_a_known_name_are_listed() {
    let ethernets = "    lan: {match: {macaddress: \"02:00:00:00:00:02\"}, addresses: [10.0.0.1/24]}\n    \
                     all: {match: {name: \"en*\"}, addresses: [10.1.0.1/24], mtu: 9000}\n";
    let more = "  bridges:\n    br0: {interfaces: [all], addresses: [10.2.0.1/24]}\n";
    let written = with(ethernets, more);
    has(&written, "lan = { device = \"lan\" }");
    let of_mac = left_out(
        &written,
        Fate::Missing,
        "write its name as `device` of lan in [ports]",
    );
    assert_eq!(of_mac, ["macaddress: 02:00:00:00:00:02"]);
    assert_eq!(
        left_out(&written, Fate::Missing, "nothing of it is written").len(),
        1
    );
    assert_eq!(
        left_out(&written, Fate::Missing, "which devices en* are").len(),
        2
    );
    assert!(!written.text.contains("10.1.0.1/24\"]"), "{}", written.text);
}

#[test]
fn of_two_gateways_the_last_holds() {
    let file = |address: &str, gateway: &str| {
        format!(
            "network:\n  ethernets:\n    eth0:\n      addresses: [{address}]\n      gateway4: {gateway}\n      dhcp4: No\n"
        )
    };
    let (first, second) = (
        file("203.0.113.5/24", "203.0.113.1"),
        file("203.0.113.6/24", "203.0.113.2"),
    );
    let written = read(&[&first, &second]);
    has(&written, "gateway = \"203.0.113.2\"");
    let replaced = left_out(&written, Fate::Implied, "a later file says another");
    assert_eq!(replaced, ["gateway4: 203.0.113.1"]);
}

#[test]
fn what_is_no_size_and_no_vlan_is_listed() {
    let more =
        "  vlans:\n    v10:\n      id: ten\n      link: eth0\n      addresses: [10.10.0.1/24]\n";
    let written = with("    one:\n      mtu: abc\n", more);
    assert_eq!(
        left_out(&written, Fate::Missing, "is not a size"),
        ["mtu: abc"]
    );
    assert_eq!(
        left_out(&written, Fate::Missing, "it is not a VLAN"),
        ["id: ten"]
    );
    assert_eq!(
        left_out(&written, Fate::Missing, "nothing tells which VLAN it is").len(),
        1
    );
}

#[test]
fn what_is_in_a_vrf_is_not_written() {
    let more =
        "  vrfs:\n    v: {table: 10, interfaces: [one], routes: [{to: default, via: 10.0.0.9}]}\n";
    let written = with("    one: {addresses: [10.0.0.1/24]}\n", more);
    assert_eq!(
        left_out(&written, Fate::Missing, "it is in the VRF v").len(),
        1
    );
    assert!(!written.text.contains("one = "), "{}", written.text);
}
