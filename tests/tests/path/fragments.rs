//! Fragments in any order: of what is sent on, translated or not, and of what is for the router.

mod bounds;
mod forwarded;
mod own;
mod random;
mod refused;

use std::net::SocketAddr;

use tapgate_engine::addr::MacAddr;
use tapgate_engine::frame::Verdict;
use tapgate_tests::flow::{ECHO, UDP};
use tapgate_tests::fragments::datagram;
use tapgate_tests::packet::mac;
use tapgate_tests::recipe::{A, PROVIDER};
use tapgate_tests::router::Router;

const TCP: u8 = 6;
const HOME: MacAddr = MacAddr([2, 0, 0, 0, 1, 0xfe]);

/// Guests `g` (translated over IPv4, public over IPv6) and `h` (translated over both), and `w`, of which
/// nothing is translated. Ports that are forwarded lead to `g` and `h`.
const TEXT: &str = r#"
[router]
sessions = 4096
icmp_errors_per_second = 1000
[ports]
up = { memory = true }
g = { memory = true }
h = { memory = true }
w = { memory = true }
[personalities]
A = { port = "up", mac = "02:00:00:00:00:aa", addresses = ["203.0.113.10/24", "2001:db8:a::1/64"], gateway = ["203.0.113.1", "2001:db8:a::9"] }
[networks]
n = { ports = ["g", "h", "w"], addresses = ["10.0.1.254/24", "2001:db8:1::fe/64"], mac = "02:00:00:00:01:fe" }
[guests]
g = { port = "g", mac = "02:00:00:00:02:01", addresses = ["10.0.1.1"], public = ["2001:db8:a::11"] }
h = { port = "h", mac = "02:00:00:00:02:02", addresses = ["10.0.1.2", "2001:db8:1::2"] }
w = { port = "w", mac = "02:00:00:00:02:03", public = ["203.0.113.33", "2001:db8:a::33"] }
[tables]
main = [{ to = "default", dev = "A" }, { to = "::/0", dev = "A" }]
[nat]
snat = [
  { from = "10.0.1.0/24", to = "203.0.113.10", ports = "40000-49999" },
  { from = "2001:db8:1::/64", to = "2001:db8:a::1", ports = "40000-49999" },
]
forward = [
  { address = "203.0.113.10", proto = "udp", port = 53, to = "10.0.1.1:5353" },
  { address = "203.0.113.10", proto = "tcp", port = 80, to = "10.0.1.1:8080" },
  { address = "2001:db8:a::1", proto = "udp", port = 53, to = "[2001:db8:1::2]:5353" },
  { address = "2001:db8:a::1", proto = "tcp", port = 80, to = "[2001:db8:1::2]:8080" },
]
"#;

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// The router, which explains every frame first and knows the provider's gateways.
fn router() -> Router {
    let mut router = Router::settled(TEXT);
    router.explain_everything();
    router.answer_everything();
    for (from, to) in [
        ("10.0.1.1:1", "198.51.100.9:1"),
        ("[2001:db8:a::11]:1", "[2001:db8:f::9]:1"),
    ] {
        let hello = datagram(macs("g"), UDP, (at(from), at(to)), b"hello");
        router.inject("g", hello);
    }
    router.take_all();
    router
}

/// Of a station on a port and of the router there.
fn macs(port: &str) -> (MacAddr, MacAddr) {
    match port {
        "g" => (mac("02:00:00:00:02:01"), HOME),
        "h" => (mac("02:00:00:00:02:02"), HOME),
        "w" => (mac("02:00:00:00:02:03"), HOME),
        _ => (PROVIDER, A),
    }
}

/// Bytes that differ wherever they are.
fn payload(length: usize) -> Vec<u8> {
    (0..length)
        .map(|n| (n * 7 + n / 256) as u8 | 0x80)
        .collect()
}

/// What came out of the router's ports but for ARP and neighbour discovery, in order.
fn packets(router: &mut Router) -> Vec<(String, Vec<u8>)> {
    let is_packet = |bytes: &[u8]| match bytes[12..14] {
        [8, 0] => true,
        [0x86, 0xdd] => !(bytes[20] == 58 && (133..=137).contains(&bytes[54])),
        _ => false,
    };
    let mut sent = router.sent();
    sent.retain(|(_, bytes)| is_packet(bytes));
    sent
}

fn dropped(verdict: Verdict) -> bool {
    matches!(verdict, Verdict::Drop(_))
}

/// One echo request of so many bytes from guest `w`, to an own address of that family.
fn echo_to_us(v6: bool, length: usize) -> Vec<u8> {
    let ends = match v6 {
        false => ("203.0.113.33:77", "203.0.113.10:0"),
        true => ("[2001:db8:a::33]:77", "[2001:db8:a::1]:0"),
    };
    datagram(macs("w"), ECHO, (at(ends.0), at(ends.1)), &payload(length))
}
