//! Sessions whose ends, or interfaces, are elsewhere after a reload (P04).

use tapgate_engine::addr::MacAddr;
use tapgate_engine::drops::DropReason;
use tapgate_engine::frame::Verdict;
use tapgate_tests::packet::{Packet, udp};
use tapgate_tests::recipe::*;
use tapgate_tests::router::Router;

/// A guest without a MAC of its own, behind the first of three ports in two networks.
const CONFIG: &str = r#"
[ports]
up = { memory = true }
g0 = { memory = true }
g1 = { memory = true }
g2 = { memory = true }
[personalities]
A = { port = "up", mac = "02:00:00:00:00:aa", addresses = ["203.0.113.10/24"], gateway = "203.0.113.1" }
[networks]
a = { ports = ["g0", "g1"], addresses = ["10.0.1.254/24"], mac = "02:00:00:00:00:01" }
b = { ports = ["g2"], addresses = ["10.0.2.254/24"], mac = "02:00:00:00:00:02" }
[guests]
one = { port = "g0", addresses = ["10.0.1.1"] }
[tables]
out = [{ to = "default", dev = "A" }]
[routing]
rules = [{ priority = 40000, lookup = "out" }]
[nat]
snat = [{ from = "10.0.0.0/8", to = "203.0.113.10" }]
"#;

fn out(network: MacAddr) -> Packet {
    udp("10.0.1.1:4000", "198.51.100.9:53", b"").link(GUEST_A, network)
}

fn back() -> Packet {
    udp("198.51.100.9:53", "203.0.113.10:4000", b"").link(PROVIDER, A)
}

fn talking(config: &str) -> Router {
    let mut router = Router::settled(config);
    router.answer_everything();
    router.inject("g0", out(NET_A).bytes());
    assert_eq!(router.take_packets("up").len(), 1);
    router
}

fn is_the_only_session(router: &mut Router) {
    let counts = router.counts();
    assert_eq!(counts.get("sessions_revoked"), None);
    assert_eq!(counts["sessions_created"], 1);
}

#[test]
fn p04_a_session_follows_its_guest_into_another_network() {
    let mut router = talking(CONFIG);
    router.reload(&CONFIG.replace("port = \"g0\"", "port = \"g2\""));
    assert_eq!(router.inject("g2", out(NET_B).bytes()), router.emit("up"));
    router.inject("up", back().bytes());
    assert_eq!(router.take_packets("g2").len(), 1);
    is_the_only_session(&mut router);
}

#[test]
fn p04_a_session_follows_its_port_into_another_network() {
    let anybody = CONFIG.replace("one = {", "# one = {").replace(
        "g0 = { memory = true }",
        "g0 = { memory = true, source = \"off\" }",
    );
    let mut router = talking(&anybody);
    let moved = anybody
        .replace("[\"g0\", \"g1\"]", "[\"g1\"]")
        .replace("[\"g2\"]", "[\"g2\", \"g0\"]");
    router.reload(&moved);
    assert_eq!(router.inject("g0", out(NET_B).bytes()), router.emit("up"));
    is_the_only_session(&mut router);
}

/// Whoever is behind the old port is not taken for the guest that left it.
#[test]
fn p04_the_port_that_a_guest_left_is_not_admitted_to_its_sessions() {
    for other_speaks in [false, true] {
        let mut router = talking(CONFIG);
        router.reload(&CONFIG.replace("port = \"g0\"", "port = \"g1\""));
        if other_speaks {
            router.inject("up", back().bytes());
        }
        assert_eq!(
            router.inject("g0", out(NET_A).bytes()),
            Verdict::Drop(DropReason::SpoofedSource)
        );
        assert_eq!(router.inject("g1", out(NET_A).bytes()), router.emit("up"));
        is_the_only_session(&mut router);
    }
}

/// Answers that a rule sends out again do not close the way of what they answer.
#[test]
fn answers_that_lead_elsewhere_leave_the_opener_alone() {
    let astray = CONFIG.replace(
        "rules = [",
        "rules = [{ priority = 100, to = \"10.0.1.1\", lookup = \"out\" }, ",
    );
    let mut router = talking(&astray);
    router.inject("up", back().bytes());
    assert!(router.take_packets("g0").is_empty());
    assert_eq!(router.inject("g0", out(NET_A).bytes()), router.emit("up"));
    is_the_only_session(&mut router);
}

/// A personality's name is nothing to the sessions that leave by it, also if they are silent for
/// longer than it takes to look through them all.
#[test]
fn p04_a_new_name_of_the_way_out_ends_nothing() {
    let renamed = CONFIG.replace("A = {", "Z = {").replace("\"A\"", "\"Z\"");
    let mut router = talking(CONFIG);
    router.reload(&renamed);
    router.wait(10_000);
    router.inject("up", back().bytes());
    assert_eq!(router.take_packets("g0").len(), 1);
    // The gateway is asked for anew.
    router.inject("g0", out(NET_A).bytes());
    assert_eq!(router.take_packets("up").len(), 1);
    is_the_only_session(&mut router);
}
