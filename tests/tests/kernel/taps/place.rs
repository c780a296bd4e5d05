//! Who stands in the router's place.

use std::fmt::Write;
use std::sync::Arc;

use tapgate_dataplane::dataplane::Dataplane;
use tapgate_protocol::{Rows, Show};
use tapgate_tests::netns;
use tapgate_tests::router::config;

use super::{GATEWAY, GATEWAY_MAC, GUESTS, PUBLIC, address, mac, tap};

/// A router between the TAPs of the guests and `up0`.
pub(crate) trait Place {
    /// Starts in the caller's namespace.
    fn start(&mut self);
    /// The TAP of this guest is open, and wants to be used.
    fn attached(&mut self, number: usize);
    /// It gives the guests their addresses.
    fn has_dhcp(&self) -> bool;
    /// Forged frames that it counted.
    fn forgeries(&self) -> u64;
}

/// The real dataplane, as control drives it.
pub(crate) struct Tapgate {
    dataplane: Option<Arc<Dataplane>>,
}

impl Tapgate {
    pub(crate) fn new() -> Self {
        Self { dataplane: None }
    }
}

impl Place for Tapgate {
    fn start(&mut self) {
        let dataplane = Dataplane::new().expect("a dataplane");
        dataplane.configure(&config(&text())).expect("to be right");
        self.dataplane = Some(dataplane);
    }

    fn attached(&mut self, number: usize) {
        netns::ip(&format!("link set {} up", tap(number)));
    }

    fn has_dhcp(&self) -> bool {
        true
    }

    fn forgeries(&self) -> u64 {
        let dataplane = self.dataplane.as_ref().expect("it was started");
        let shown = dataplane.show(Show::Drops, 0);
        let Ok((Rows::Drops(rows), _)) = shown else {
            panic!("no drops are shown");
        };
        let forged = rows
            .iter()
            .filter(|row| row.reason.name().starts_with("spoofed"));
        forged.map(|row| row.frames).sum()
    }
}

impl Drop for Tapgate {
    /// Of a failed test, what the router counted is worth knowing.
    fn drop(&mut self) {
        let dataplane = self.dataplane.as_ref().filter(|_| std::thread::panicking());
        for what in [Show::Drops, Show::Counters] {
            if let Some(Ok((rows, _))) = dataplane.map(|dataplane| dataplane.show(what, 0)) {
                eprintln!("{rows:?}");
            }
        }
    }
}

/// Every second guest's TAP is made by tapgate, the others' by the guests.
fn text() -> String {
    let (mut ports, mut guests, mut names) = (String::new(), String::new(), Vec::new());
    for number in 0..GUESTS {
        let (tap, mac, address) = (tap(number), mac(number), address(number));
        let create = if number % 2 == 1 { ", create = {}" } else { "" };
        let _ = writeln!(ports, "{tap} = {{ device = \"{tap}\"{create} }}");
        let _ = writeln!(
            guests,
            "{tap} = {{ port = \"{tap}\", mac = \"{mac}\", addresses = [\"{address}\"] }}"
        );
        names.push(format!("\"{tap}\""));
    }
    format!(
        r#"
[ports]
uplink = {{ device = "up0" }}
{ports}
[personalities]
A = {{ port = "uplink", mac = "02:00:00:00:00:aa", addresses = ["{PUBLIC}/32"], gateway = "192.0.2.1", onlink = true }}
[networks]
lan = {{ ports = [{names}], mac = "{GATEWAY_MAC}", addresses = ["{GATEWAY}/24"], dhcp = {{}} }}
[guests]
{guests}
[tables]
main = [{{ to = "default", dev = "A" }}]
[nat]
snat = [{{ from = "10.0.0.0/24", to = "{PUBLIC}" }}]
"#,
        names = names.join(", ")
    )
}

/// The kernel, told to do the same: proxy ARP, a route for each guest, strict reverse paths and
/// masquerading.
pub(crate) struct Kernel;

impl Kernel {
    pub(crate) fn new() -> Self {
        Self
    }
}

impl Place for Kernel {
    fn start(&mut self) {
        for (name, value) in [
            ("net/ipv4/ip_forward", "1"),
            ("net/ipv4/conf/all/rp_filter", "1"),
            ("net/ipv4/conf/default/rp_filter", "1"),
            ("net/ipv4/conf/default/proxy_arp", "1"),
            ("net/ipv4/conf/all/send_redirects", "0"),
        ] {
            netns::sysctl(name, value);
        }
        netns::ip(&format!(
            "address add {GATEWAY}/32 dev lo\naddress add {PUBLIC}/32 dev up0\nroute add default via 192.0.2.1 dev up0 onlink"
        ));
        netns::feed(
            "nft -f -",
            "table ip nat { chain out { type nat hook postrouting priority srcnat; oifname \"up0\" masquerade; }; }",
        );
    }

    fn attached(&mut self, number: usize) {
        let (tap, address) = (tap(number), address(number));
        netns::ip(&format!(
            "link set {tap} address {GATEWAY_MAC}\nlink set {tap} up\nroute replace {address}/32 dev {tap}"
        ));
        netns::sysctl(&format!("net/ipv4/neigh/{tap}/proxy_delay"), "0");
    }

    fn has_dhcp(&self) -> bool {
        false
    }

    fn forgeries(&self) -> u64 {
        0
    }
}
