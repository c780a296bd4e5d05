//! Guests that are told about their network, with the kernel and busybox as guests.

mod lab;

use lab::{Lab, eventually, run, shell};
use tapgate_dataplane::dataplane::Dataplane;
use tapgate_engine::config::Config;

/// A network with these services and a guest on `va`.
fn config(services: &str) -> Config {
    let text = format!(
        "[ports]\n\
         a = {{ device = \"va\", mtu = 1400 }}\n\
         [networks.n]\n\
         ports = [\"a\"]\n\
         addresses = [\"10.9.0.254/24\"]\n\
         {services}\n\
         [guests]\n\
         g = {{ port = \"a\", addresses = [\"203.0.113.20\", \"2001:db8:1::/64\"] }}\n"
    );
    let file: tapgate_engine::config::File = toml::from_str(&text).unwrap();
    Config::try_from(file).unwrap()
}

/// The kernel configures itself by advertisements, forgets what is withdrawn, and at the end its
/// gateway (rows N20 to N23).
#[test]
fn n20_n21_n22_n23_the_kernel_follows_advertisements() {
    let mut lab = Lab::new();
    let guest = lab.guest("a");
    for key in ["accept_ra=1", "accept_ra_rt_info_max_plen=128"] {
        shell(&format!(
            "ip netns exec {guest} sysctl -qw net.ipv6.conf.default.{key}"
        ));
    }
    lab::veth("va", &guest, "203.0.113.20/32");
    let routes = || run(&format!("ip -n {guest} -6 route show"));
    let ra = |routes: &str| {
        config(&format!(
            "ra = {{ prefixes = [{{ prefix = \"2001:db8:1::/64\" }}], routes = [{routes}] }}"
        ))
    };
    let route = "{ prefix = \"2001:db8:ff::/48\", preference = \"high\" }";
    let dataplane = Dataplane::new().unwrap();
    dataplane.configure(&ra(route)).unwrap();
    eventually("a default route", 10, || {
        routes().contains("default via fe80::1 dev eth0 proto ra")
    });
    let all = routes();
    let specific = "2001:db8:ff::/48 via fe80::1";
    assert!(all.contains(specific) && all.contains("pref high"), "{all}");
    assert!(!all.contains("2001:db8:1::/64"), "it is off-link: {all}");
    let address = run(&format!(
        "ip -n {guest} -6 address show dev eth0 scope global"
    ));
    assert!(address.contains("2001:db8:1:"), "{address}");
    let mtu = format!("ip netns exec {guest} cat /proc/sys/net/ipv6/conf/eth0/mtu");
    assert_eq!(run(&mtu).trim(), "1400");

    dataplane.configure(&ra("")).unwrap();
    eventually("the route is withdrawn", 10, || {
        !routes().contains(specific)
    });
    assert!(routes().contains("default via fe80::1"));
    dataplane.stop();
    eventually("the gateway is gone", 5, || !routes().contains("default"));
}

/// What busybox's client makes of an address whose gateway is outside (D05, D06), and of a renewal.
#[test]
fn d05_d06_busybox_takes_an_address_whose_gateway_is_outside() {
    let mut lab = Lab::new();
    let guest = lab.guest("a");
    lab::veth("va", &guest, "192.0.2.1/32");
    run(&format!("ip -n {guest} address flush dev eth0"));
    let script = std::env::temp_dir().join(format!("tapgate-udhcpc-{}", std::process::id()));
    let text = "#!/bin/sh\n[ \"$1\" = bound ] || exit 0\n\
                echo \"$ip $subnet via $router: $staticroutes mtu $mtu dns $dns name $hostname $domain\"\n";
    std::fs::write(&script, text).unwrap();
    run(&format!("chmod +x {}", script.display()));

    let dataplane = Dataplane::new().unwrap();
    let dhcp = "dhcp = { dns = [\"9.9.9.9\"], domain = \"example.net\" }";
    dataplane.configure(&config(dhcp)).unwrap();
    let client = format!(
        "timeout 20 ip netns exec {guest} busybox udhcpc -i eth0 -f -n -q -t 5 -T 1 \
         -O staticroutes -O mtu -O hostname -s {}",
        script.display()
    );
    let (ok, told) = lab::attempt(&client);
    std::fs::remove_file(&script).unwrap();
    let expected = "203.0.113.20 255.255.255.255 via 10.9.0.254: \
                    10.9.0.254/32 0.0.0.0 0.0.0.0/0 10.9.0.254 \
                    mtu 1400 dns 9.9.9.9 name g example.net";
    assert!(ok && told.contains(expected), "{told}");
    dataplane.stop();
}
