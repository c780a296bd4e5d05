//! systemd-networkd's files.

use super::systems::{left_out, made_of};
use super::*;

const ETH0: &str = "[Match]\nName=eth0\n[Network]\nAddress=203.0.113.5/24\nGateway=203.0.113.1\n";

fn read(name: &str, files: &[(&str, &str)]) -> Result<Written, Failure> {
    made_of(&format!("networkd-{name}"), files, networkd::read)
}

/// An uplink, with more in its file.
fn with(name: &str, more: &str) -> Written {
    let written = read(name, &[("10-eth0.network", &format!("{ETH0}{more}"))]).unwrap();
    assert_eq!(written.faults, [""; 0], "{}", written.text);
    written
}

fn has(written: &Written, entry: &str) {
    assert!(written.text.contains(entry), "{entry}\n{}", written.text);
}

#[test]
fn switches_are_read_as_systemd_reads_them() {
    for (n, (value, not)) in [("True", "not = true, "), ("ON", "not = true, "), ("No", "")]
        .into_iter()
        .enumerate()
    {
        let rule = format!(
            "[RoutingPolicyRule]\nFrom=10.7.0.0/16\nInvertRule={value}\nTable=100\nPriority=50\n"
        );
        let written = with(&format!("switch-{n}"), &rule);
        has(
            &written,
            &format!("{{ priority = 50, {not}from = \"10.7.0.0/16\""),
        );
    }
    let wrong = "[RoutingPolicyRule]\nFrom=10.7.0.0/16\nInvertRule=maybe\nTable=100\n";
    assert_eq!(
        left_out(&with("switch", wrong), Fate::Missing, "neither yes nor no").len(),
        1
    );
    let off = with(
        "off",
        "[Network]\nDHCP=False\nIPMasquerade=N\nDefaultRouteOnDevice=0\n",
    );
    assert!(
        off.notes.iter().all(|note| note.fate != Fate::Missing),
        "{:?}",
        off.notes
    );
    let onlink = "[Route]\nGateway=198.51.100.9\nGatewayOnLink=Yes\nTable=7\n";
    has(&with("onlink", onlink), "onlink = true");
}

#[test]
fn a_default_route_by_a_device_is_one() {
    let file = "[Match]\nName=ppp0\n[Network]\nAddress=203.0.113.5/32\nDefaultRouteOnDevice=yes\n";
    let written = read("device", &[("a.network", file)]).unwrap();
    has(&written, "{ to = \"default\", dev = \"ppp0\" }");
}

/// systemd sets a device up by the first file that matches, and by no other.
#[test]
fn a_device_has_one_file() {
    let vlan = "[NetDev]\nName=eth0.10\nKind=vlan\n[VLAN]\nId=10\n";
    let written = read(
        "first",
        &[
            ("10-eth0.network", &format!("{ETH0}VLAN=eth0.10\n")),
            ("20-eth0.10.netdev", vlan),
            (
                "90-default.network",
                "[Match]\nName=e*\n[Network]\nAddress=192.0.2.200/24\n",
            ),
            (
                "91-lan.network",
                "[Match]\nName=eth[1-3]\n[Network]\nAddress=192.0.2.9/24\n",
            ),
            (
                "92-lan.network",
                "[Match]\nName=eth2\n[Network]\nAddress=10.2.0.1/24\n",
            ),
        ],
    )
    .unwrap();
    has(&written, "addresses = [\"203.0.113.5/24\"]");
    has(
        &written,
        "eth0.10\" = { ports = [\"eth0.10\"], addresses = [\"192.0.2.200/24\"]",
    );
    assert!(!written.text.contains("10.2.0.1"), "{}", written.text);
    let unused = left_out(
        &written,
        Fate::Implied,
        "eth0 is set up by 10-eth0.network alone",
    );
    assert_eq!(unused, ["[Match] Name=e*"]);
    let unused = left_out(
        &written,
        Fate::Implied,
        "eth2 is set up by 90-default.network alone",
    );
    assert_eq!(unused, ["[Match] Name=eth[1-3]", "[Match] Name=eth2"]);
}

#[test]
fn of_a_file_for_unknown_devices_all_is_listed() {
    let unknown = "[Match]\nMACAddress=02:00:00:00:00:09\n[Network]\nAddress=198.51.100.9/24\n[Route]\nGateway=198.51.100.1\n";
    let all = "[Network]\nAddress=198.51.100.10/24\n";
    let files = [
        ("10.network", ETH0),
        ("20.network", unknown),
        ("30.network", all),
    ];
    let written = read("unknown", &files).unwrap();
    assert_eq!(
        left_out(&written, Fate::Missing, "which devices these are").len(),
        3
    );
    assert_eq!(
        left_out(&written, Fate::Missing, "without [Match]").len(),
        1
    );
    let failure = read("nothing", &[("a.network", unknown)]).err().unwrap();
    let said = failure.to_string();
    assert!(
        said.contains("a.network:1: [Match] MACAddress=02:00:00:00:00:09: which"),
        "{said}"
    );
}

#[test]
fn no_line_vanishes() {
    let written = read(
        "lines",
        &[
            (
                "10.network",
                &format!(
                    "{ETH0}DNS=1.1.1.1 \\\n# between\n  8.8.8.8\nIPv4ProxyARP=yes\nno key\n\
                     [Link]\nARP=no\nMTUBytes=9K\n\
                     [Address]\nAddress=203.0.113.77/24\nAddPrefixRoute=no\n\
                     [Route]\nDestination=10.8.0.0/16\nGateway=203.0.113.9\nInitialCongestionWindow=20\n"
                ),
            ),
            ("20.netdev", "[NetDev]\nName=vx0\nKind=vxlan\n[VXLAN]\nVNI=7\n"),
            ("30.netdev", "[NetDev]\nName=q\nKind=vlan\n[VLAN]\nId=10\nProtocol=802.1ad\n"),
            ("30.network", "[Match]\nName=q\n[Network]\nAddress=10.88.0.254/24\n"),
            ("40.network", "before\n[Match]\nName=eth9\n[Link]\nMTUBytes=large\n"),
            ("50.link", "[Match]\nMACAddress=02:00:00:00:00:09\n[Link]\nName=x\nMTUBytes=9000\n"),
        ],
    )
    .unwrap();
    assert_eq!(written.faults, [""; 0]);
    has(&written, "mtu = 9216");
    has(&written, "{ to = \"10.8.0.0/16\", via = \"203.0.113.9\"");
    assert_eq!(
        left_out(&written, Fate::Host, "host itself")[0],
        "DNS=1.1.1.1 8.8.8.8"
    );
    for (why, lines) in [
        ("it is no KEY=VALUE", &["no key", "before"][..]),
        (
            "option is not read",
            &["VNI=7", "IPv4ProxyARP=yes", "ARP=no"],
        ),
        ("always connected", &["AddPrefixRoute=no"]),
        (
            "there are no vxlan devices",
            &["[NetDev] Name=vx0 Kind=vxlan"],
        ),
        ("the host goes on routing that", &["Address=10.88.0.254/24"]),
        ("large is not a size", &["MTUBytes=large"]),
        ("no other file is for its device", &["MTUBytes=9000"]),
    ] {
        assert_eq!(left_out(&written, Fate::Missing, why), lines, "{why}");
    }
}

/// systemd.network(5): an empty string takes back what was assigned before.
#[test]
fn what_is_empty_takes_back() {
    let drop_in = "[Network]\nAddress=\nAddress=203.0.113.6/24\nGateway=\nGateway=203.0.113.2\n";
    let file = format!(
        "{ETH0}[Address]\nAddress=203.0.113.77/24\n[Route]\nDestination=10.5.0.0/16\nGateway=203.0.113.9\n"
    );
    let files = [
        ("a.network", file.as_str()),
        ("a.network.d/o.conf", drop_in),
    ];
    let written = read("back", &files).unwrap();
    has(
        &written,
        "addresses = [\"203.0.113.6/24\"], gateway = \"203.0.113.2\"",
    );
    let gone = left_out(&written, Fate::Implied, "a later line takes it back");
    assert_eq!(gone.len(), 4, "{gone:?}");
    assert!(
        !written.text.contains("to = \"10.5.0.0/16\""),
        "{}",
        written.text
    );
}
