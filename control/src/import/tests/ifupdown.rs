//! ifupdown's files, and the commands in them.

use super::systems::{left_out, made_of};
use super::*;

/// An uplink with more in its stanza, and a bridge.
fn with(name: &str, more: &str) -> Written {
    let text = format!(
        "iface br0 inet static\n address 10.0.0.1/24\n bridge-ports none\n\
         iface eth0 inet static\n address 203.0.113.5/24\n gateway 203.0.113.1\n{more}"
    );
    let written = read(name, &[("interfaces", &text)]);
    assert_eq!(written.faults, [""; 0], "{}", written.text);
    written
}

fn read(name: &str, files: &[(&str, &str)]) -> Written {
    let read = |to: &Path| interfaces::read(&to.join("interfaces"));
    made_of(&format!("ifupdown-{name}"), files, read).unwrap()
}

fn has(written: &Written, entry: &str) {
    assert!(written.text.contains(entry), "{entry}\n{}", written.text);
}

#[test]
fn rules_in_quotes_are_read() {
    let written = with(
        "quotes",
        " post-up iptables -t nat -A POSTROUTING -s '10.0.0.0/24' -o eth0 -j MASQUERADE\n\
         \x20post-up iptables -A FORWARD -i \"br0\" -m comment --comment 'web; \"mail\"' -p tcp --dport 25 -j DROP && true\n",
    );
    has(&written, "{ from = \"10.0.0.0/24\", dev = \"eth0\" }");
    has(
        &written,
        "action = \"drop\", from = \"br0\", proto = \"tcp\", port = 25",
    );
    assert!(
        written.notes.iter().all(|note| note.fate != Fate::Missing),
        "{:?}",
        written.notes
    );
}

#[test]
fn rules_that_come_elsewhere_are_listed() {
    let written = with(
        "order",
        " up iptables -A FORWARD -o br0 -j ACCEPT\n\
         \x20up iptables -I FORWARD -s 10.0.0.66 -j DROP\n\
         \x20up iptables -I FORWARD 1 -s 10.0.0.67 -j own\n\
         \x20up iptables -I FORWARD -s 10.0.0.68 -j ACCEPT\n\
         \x20up iptables -D FORWARD 1\n\
         \x20up iptables -D FORWARD -s 10.0.0.69 -j DROP\n\
         \x20up iptables -A FORWARD -s 10.0.0.70 -j DROP\n\
         \x20up iptables -D FORWARD -s 10.0.0.70 -j DROP\n\
         \x20up iptables -t nat -A POSTROUTING -s 10.0.9.0/24 -o eth0 -j MASQUERADE\n\
         \x20up iptables -t nat -F POSTROUTING\n\
         \x20up iptables -X\n",
    );
    let wider = left_out(&written, Fate::Wider, "");
    assert_eq!(wider.len(), 3, "{wider:?}");
    let missing = left_out(&written, Fate::Missing, "");
    assert_eq!(missing.len(), 2, "{missing:?}");
    assert_eq!(
        left_out(&written, Fate::Implied, "starts with nothing").len(),
        1
    );
    assert_eq!(left_out(&written, Fate::Implied, "is left out").len(), 2);
    for gone in ["10.0.0.70/32", "10.0.9.0/24\", dev"] {
        assert!(!written.text.contains(gone), "{gone}\n{}", written.text);
    }
}

#[test]
fn what_keeps_something_out_and_is_left_out_is_told() {
    let written = with(
        "wider",
        " up iptables -P FORWARD DROP\n pre-up iptables -P FORWARD ACCEPT\n",
    );
    let late = left_out(&written, Fate::Wider, "in the order in which they are run");
    assert!(late.len() == 1 && late[0].contains("DROP"), "{late:?}");
    let written = with(
        "failure",
        " up [ -e /x ] || iptables -A FORWARD -s 10.0.0.66 -j DROP\n\
         \x20up iptables -C FORWARD -s 10.0.0.67 -j DROP || iptables -v -A FORWARD -s 10.0.0.67 -j DROP\n\
         \x20up ip link set eth0 up || true\n\
         \x20up env X=1 iptables -A FORWARD -s 10.0.0.68 -j DROP\n\
         \x20up iptables -D FORWARD -s 10.0.0.69 -j ACCEPT\n",
    );
    let wider = left_out(&written, Fate::Wider, "");
    assert_eq!(wider.len(), 3, "{wider:?}");
    assert!(wider[0].contains("10.0.0.66") && wider[1].contains("10.0.0.68"));
    assert_eq!(left_out(&written, Fate::Missing, "").len(), 0);
    has(&written, "source = \"10.0.0.67\"");
}

#[test]
fn a_peer_is_routed_to() {
    let written = with(
        "peer",
        " up ip addr add 10.9.0.1 peer 10.9.0.2/32 dev eth0\n",
    );
    has(
        &written,
        "{ to = \"10.9.0.2\", via = \"10.9.0.2\", dev = \"eth0\", onlink = true }",
    );
}

#[test]
fn a_peer_makes_one_address_of_a_prefix() {
    let orders = ["pointopoint 203.0.113.1\n netmask", "netmask"];
    for (n, order) in orders.into_iter().enumerate() {
        let end = if n == 0 {
            ""
        } else {
            " pointopoint 203.0.113.1\n"
        };
        let text = format!(
            "iface eth0 inet static\n address 203.0.113.5\n {order} 255.255.255.192\n{end} gateway 203.0.113.1\n"
        );
        let written = read(&format!("peer-{n}"), &[("interfaces", &text)]);
        has(&written, "addresses = [\"203.0.113.5/32\"]");
        has(&written, "gateway = \"203.0.113.1\", onlink = true");
    }
}

/// Whatever the order of the lines, ifup sets the address, then the gateway, then runs commands.
#[test]
fn what_is_replaced_is_gone() {
    let text = "iface eth0 inet static\n up ip route replace default via 203.0.113.2 dev eth0\n\
                \x20up ip route add 10.3.0.0/16 via 203.0.113.3 dev eth0\n\
                \x20up ip route append 10.3.0.0/16 via 203.0.113.4 dev eth0\n\
                \x20up ip route prepend 10.3.0.0/16 via 203.0.113.9 dev eth0\n\
                \x20up ip route add 10.3.0.0/16 via 203.0.113.9 dev eth0\n\
                \x20address 203.0.113.5/24\n gateway 203.0.113.1\n";
    let written = read("replace", &[("interfaces", text)]);
    assert_eq!(written.faults, [""; 0], "{}", written.text);
    has(&written, "gateway = \"203.0.113.2\"");
    has(&written, "to = \"10.3.0.0/16\", via = \"203.0.113.9\"");
    assert_eq!(
        left_out(&written, Fate::Implied, "a later line replaces it"),
        ["gateway 203.0.113.1"]
    );
    assert_eq!(
        left_out(&written, Fate::Missing, "the same prefix and metric").len(),
        2
    );
    let same = left_out(&written, Fate::Implied, "the same route is there already");
    assert_eq!(
        same,
        ["up ip route add 10.3.0.0/16 via 203.0.113.9 dev eth0"]
    );
}

#[test]
fn tunnels_are_no_networks() {
    let written = with(
        "tunnels",
        "iface he inet6 v4tunnel\n address 2001:db8:77::2\n netmask 64\n gateway 2001:db8:77::1\n",
    );
    assert_eq!(
        left_out(&written, Fate::Missing, "there are no tunnels here").len(),
        1
    );
    assert!(!written.text.contains("he = "), "{}", written.text);
    assert!(!written.text.contains("to = \"::/0\""), "{}", written.text);
}

#[test]
fn words_of_ip_are_read_as_ip_reads_them() {
    let written = with(
        "words",
        " accept_ra 0\n mtu abc\n up ip link set eth0 mtu large\n\
         \x20up ip -f inet6 route add blackhole default table 9\n\
         \x20up ip --family inet6 rule add iif br0 table 9 pref 99\n\
         \x20up ip addr add dev br0.5 192.0.2.9/24 broadcast 192.0.2.255\n\
         \x20up ip -n other route add default via 203.0.113.9\n\
         \x20up echo 1 > /proc/sys/net/ipv4/conf/eth0/proxy_arp\n\
         \x20up sysctl -w net.ipv6.conf.eth0.proxy_ndp=1\n\
         \x20up sysctl -w net.ipv6.conf.br0.proxy_ndp=0\n\
         iface eth7 inet manual inherits common\n",
    );
    has(&written, "{ to = \"::/0\", type = \"blackhole\" }");
    has(
        &written,
        "{ priority = 99, from = \"::/0\", iif = \"br0\", lookup = \"9\" }",
    );
    has(
        &written,
        "br0.5\" = { ports = [\"br0.5\"], addresses = [\"192.0.2.9/24\"]",
    );
    for (why, count) in [
        ("is not a size", 2),
        ("what `ip -n` does", 1),
        ("who is answered for", 2),
        ("what common says", 1),
    ] {
        assert_eq!(left_out(&written, Fate::Missing, why).len(), count, "{why}");
    }
    assert_eq!(
        left_out(&written, Fate::Host, "about the host itself").len(),
        2
    );
}

#[test]
fn files_are_read_once_and_patterns_may_have_none() {
    let rule = "iface eth0 inet static\n address 203.0.113.5/24\n gateway 203.0.113.1\n";
    let main = format!(
        "{rule} up ip rule add from 203.0.113.5 table 100\nsource ./interfaces\nsource none.d/*\n\
         source-directory nothing\nsource missing\nsource [a-d]*.d/l?n\n"
    );
    let files = [
        ("interfaces", main.as_str()),
        ("extra.d/lan", ""),
        (
            "b.d/lan",
            "iface br0 inet static\n address 10.0.0.1/24\nsource ../b.d/../interfaces\n",
        ),
    ];
    let written = read("files", &files);
    assert_eq!(
        written.text.matches("{ priority").count(),
        1,
        "{}",
        written.text
    );
    has(&written, "br0 = { ports");
    assert_eq!(
        left_out(&written, Fate::Missing, "there is no file").len(),
        1
    );
}
