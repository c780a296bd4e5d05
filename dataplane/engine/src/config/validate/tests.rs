mod nat;
mod policy;

use serde_json::{Value, json};

use super::check::place;
use super::*;
use crate::config::{InterfaceKind, MAIN, RouteAction};

/// A configuration with nothing wrong in it, for the tests to spoil.
fn right() -> Value {
    json!({
        "ports": {
            "uplink": { "device": "eth0" },
            "guest-a": { "tap": "tap-a", "netns": "a", "mac": "02:00:00:00:01:01" },
            "guest-b": { "device": "vm-b", "create": { "owner": "libvirt-qemu" } },
        },
        "personalities": {
            "A": {
                "port": "uplink", "mac": "02:00:00:00:00:aa", "addresses": ["203.0.113.10/24"],
                "gateway": "203.0.113.1",
            },
            "B": {
                "port": "uplink", "mac": "02:00:00:00:00:bb", "addresses": ["198.51.100.20/32"],
                "gateway": "192.0.2.1", "onlink": true, "vlan": 7,
            },
        },
        "networks": {
            "a": { "ports": ["guest-a"], "addresses": ["10.0.1.254/24"] },
            "b": { "ports": ["guest-b"], "addresses": ["10.0.2.254/24"] },
        },
        "tables": {
            "ipA": [{ "to": "default", "dev": "A" }],
            "ipB": [{ "to": "default", "dev": "B" }],
        },
        "routing": { "rules": [
            { "priority": 100, "from": "10.0.1.0/24", "lookup": "ipA" },
            { "priority": 101, "from": "10.0.2.0/24", "iif": "b", "lookup": "ipB" },
            { "priority": 40000, "action": "prohibit" },
        ] },
        "nat": { "snat": [
            { "from": "10.0.1.0/24", "to": "203.0.113.10" },
            { "from": "10.0.2.0/24", "to": "198.51.100.20", "ports": "2000-2999" },
        ] },
    })
}

/// The faults of `right()` with the value at `pointer` (its last key may be new) replaced.
fn spoiled(pointer: &str, value: Value) -> Vec<String> {
    let mut config = right();
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    match config.pointer_mut(parent).unwrap() {
        Value::Object(table) => {
            table.insert(key.to_owned(), value);
        }
        Value::Array(array) => match key.parse::<usize>() {
            Ok(index) if index < array.len() => array[index] = value,
            _ => array.push(value),
        },
        other => panic!("{other} has nothing in it"),
    }
    let file: File = serde_json::from_value(config).unwrap();
    match Config::try_from(file) {
        Ok(_) => Vec::new(),
        Err(ConfigErrors(errors)) => errors.iter().map(ToString::to_string).collect(),
    }
}

/// Exactly one fault, and it says `what`.
#[track_caller]
fn one(pointer: &str, value: Value, what: &str) {
    let faults = spoiled(pointer, value);
    assert_eq!(faults.len(), 1, "{faults:#?}");
    assert!(faults[0].contains(what), "{faults:#?}");
}

#[test]
fn a_right_configuration_is_taken_and_survives_the_journey() {
    let config: Config = serde_json::from_value(right()).unwrap();
    let again: Config = serde_json::from_slice(&serde_json::to_vec(&config).unwrap()).unwrap();
    assert_eq!(config, again);
    assert_eq!(config.tables()[0].name, MAIN);
    assert_eq!(config.tables()[0].routes.len(), 3, "the connected prefixes");
    let priorities: Vec<u32> = config.rules().iter().map(|rule| rule.priority).collect();
    assert_eq!(priorities, [100, 101, 32_766, 40_000]);
    let RouteAction::Forward(forward) = &config.tables()[1].routes[0].action else {
        panic!("{:?}", config.tables()[1]);
    };
    assert_eq!(
        forward.hops[0].via,
        Some("203.0.113.1".parse().unwrap()),
        "A's own gateway"
    );
}

#[test]
fn a_prefix_that_two_personalities_share_is_carried_by_both() {
    let shared = json!({
        "port": "uplink", "mac": "02:00:00:00:00:cc", "addresses": ["203.0.113.30/24"],
    });
    let mut config = right();
    config["personalities"]["C"] = shared;
    let config: Config = serde_json::from_value(config).unwrap();
    let routes = &config.tables()[0].routes;
    let route = routes
        .iter()
        .find(|route| route.to.to_string() == "203.0.113.0/24");
    let RouteAction::Forward(forward) = &route.unwrap().action else {
        panic!("{route:?}");
    };
    let names: Vec<&str> = forward.hops[0]
        .interfaces
        .iter()
        .map(|index| config.interfaces()[*index].name.as_str())
        .collect();
    assert_eq!(names, ["A", "C"]);
    assert!(matches!(
        config.interfaces()[0].kind,
        InterfaceKind::Personality { .. }
    ));
}

#[test]
fn ports() {
    one("/ports/x", json!({}), "must say what it is, once");
    one(
        "/ports/x",
        json!({ "device": "a", "tap": "b" }),
        "must say what it is, once",
    );
    one(
        "/ports/x",
        json!({ "device": "eth0" }),
        "\"eth0\" is used by two ports",
    );
    one(
        "/ports/x",
        json!({ "device": "a-name-too-long-" }),
        "cannot be a device's name",
    );
    one(
        "/ports/x",
        json!({ "device": "a/b" }),
        "cannot be a device's name",
    );
    one(
        "/ports/x",
        json!({ "device": "x", "netns": "y" }),
        "is for a `tap` port",
    );
    one(
        "/ports/x",
        json!({ "tap": "x", "create": {} }),
        "is for a `device` port",
    );
    one(
        "/ports/x",
        json!({ "tap": "x", "netns": "a/b" }),
        "cannot be a network namespace",
    );
    one(
        "/ports/x",
        json!({ "tap": "x", "netns": "" }),
        "cannot be a network namespace",
    );
    one(
        "/ports/x",
        json!({ "device": "x", "create": { "owner": "" } }),
        "owner has no name",
    );
    one(
        "/ports/x",
        json!({ "tap": "x", "mac": "01:00:5e:00:00:01" }),
        "is a multicast address",
    );
    one(
        "/ports/x",
        json!({ "device": "x", "mtu": 575 }),
        "out of range",
    );
    one(
        "/ports/x",
        json!({ "tap": "x", "queues": 0 }),
        "out of range",
    );
    one(
        "/ports/x",
        json!({ "device": "x", "queues": 2 }),
        "is for a `tap` port",
    );
    one(
        "/ports/two words",
        json!({ "device": "x" }),
        "cannot be a name",
    );
    let elsewhere = json!({ "tap": "tap-a", "netns": "elsewhere" });
    assert!(
        spoiled("/ports/x", elsewhere).is_empty(),
        "the same name in another namespace"
    );
}

#[test]
fn personalities() {
    let a = |key: &str| format!("/personalities/A/{key}");
    one(
        &a("mac"),
        json!("01:00:5e:00:00:01"),
        "is a multicast address",
    );
    one(&a("mac"), json!("00:00:00:00:00:00"), "is the zero address");
    one(&a("port"), json!("uplnk"), "did you mean \"uplink\"?");
    one(&a("vlan"), json!(4095), "not a VLAN identifier");
    one(&a("gateway"), json!("192.0.2.9"), "cannot be reached");
    one(&a("gateway"), json!("203.0.113.10"), "\"A\"'s own address");
    one(&a("gateway"), json!("224.0.0.1"), "not one host's address");
    let b = |key: &str| format!("/personalities/B/{key}");
    one(
        &b("gateway"),
        json!("10.0.1.254"),
        "one of the router's own addresses",
    );
    one(
        &b("gateway"),
        json!("2001:db8::1"),
        "no address of gateway 2001:db8::1's family",
    );
    one(&b("onlink"), json!(false), "add `onlink = true`");
    let with = |address: &str, what: &str| {
        let personality = json!({
            "port": "uplink", "mac": "02:00:00:00:00:cc", "addresses": [address],
        });
        one("/personalities/C", personality, what);
    };
    with("203.0.113.10/32", "is configured twice");
    with("10.0.2.254/32", "is configured twice");
    with("192.0.2.0/24", "is the prefix itself");
    with("192.0.2.255/24", "broadcast address");
    with("127.0.0.1/8", "loopback");
    with("0.1.2.3/32", "this network");

    let twice = json!({
        "port": "uplink", "mac": "02:00:00:00:00:aa", "addresses": ["203.0.113.99/24"],
    });
    one(
        "/personalities/C",
        twice.clone(),
        "is worn twice on port \"uplink\"",
    );
    let mut other_vlan = twice;
    other_vlan["vlan"] = json!(9);
    assert!(
        spoiled("/personalities/C", other_vlan).is_empty(),
        "another VLAN, another link"
    );
}

#[test]
fn a_wrong_port_is_not_reported_again_where_its_personality_is_used() {
    let faults = spoiled("/ports/uplink", json!({ "device": "eth0", "mtu": 1 }));
    assert_eq!(faults.len(), 1, "{faults:#?}");
    let faults = spoiled(
        "/ports",
        json!({ "guest-a": { "tap": "x" }, "guest-b": { "tap": "y" } }),
    );
    assert_eq!(faults.len(), 2, "one for each personality: {faults:#?}");
}

#[test]
fn networks() {
    let b = |key: &str| format!("/networks/b/{key}");
    one(
        &b("ports/0"),
        json!("guest-a"),
        "is in network \"a\" already",
    );
    one(&b("ports/1"), json!("guest-b"), "is listed twice");
    one(&b("ports/0"), json!("uplink"), "is an uplink");
    one(&b("ports"), json!([]), "has no port");
    one(&b("addresses"), json!([]), "there is no address");
    one(
        &b("addresses/0"),
        json!("10.0.1.126/25"),
        "overlaps 10.0.1.0/24 of network \"a\"",
    );
    one(
        &b("addresses/0"),
        json!("203.0.113.254/24"),
        "is connected on an uplink too",
    );
    assert!(
        spoiled(&b("addresses/0"), json!("203.0.113.30/28")).is_empty(),
        "a part of it"
    );
    assert!(
        spoiled(&b("addresses/next"), json!("10.0.2.253/24")).is_empty(),
        "a second one"
    );
    one(
        &b("mac"),
        json!("ff:ff:ff:ff:ff:ff"),
        "is a multicast address",
    );
    one(
        "/networks/a/mac",
        json!("02:00:00:00:01:01"),
        "worn twice in network \"a\"",
    );
    let named = json!({ "ports": ["spare"], "addresses": ["10.0.3.254/24"] });
    let faults = spoiled("/networks/A", named);
    assert!(
        faults[0].contains("names a personality and a network"),
        "{faults:#?}"
    );
}

#[test]
fn tables() {
    let routes = |routes: Value, what: &str| one("/tables/t", routes, what);
    routes(
        json!([{ "to": "default", "dev": "C" }]),
        "personality or network \"C\" is not defined",
    );
    routes(
        json!([{ "to": "10.9.0.1/16", "dev": "A" }]),
        "write 10.9.0.0/16",
    );
    routes(json!([{ "to": "10.9.0.0/16" }]), "leads nowhere");
    routes(
        json!([{ "to": "10.9.0.0/16", "via": "172.16.0.1" }]),
        "cannot be reached",
    );
    routes(
        json!([{ "to": "10.9.0.0/16", "via": "172.16.0.1", "dev": "a" }]),
        "cannot be reached",
    );
    routes(
        json!([{ "to": "10.9.0.0/16", "via": "10.0.1.254" }]),
        "\"a\"'s own address",
    );
    routes(
        json!([{ "to": "10.9.0.0/16", "via": "10.0.1.254", "dev": "a" }]),
        "\"a\"'s own",
    );
    routes(
        json!([{ "to": "::/0", "via": "10.0.1.1" }]),
        "different families",
    );
    routes(
        json!([{ "to": "default", "dev": "A", "onlink": true }]),
        "one of the two is missing",
    );
    routes(
        json!([{ "to": "default", "type": "throw", "dev": "A" }]),
        "has no \"dev\"",
    );
    routes(
        json!([{ "to": "default", "dev": "A" }, { "to": "0.0.0.0/0", "dev": "B" }]),
        "has two routes to 0.0.0.0/0",
    );
    one("/tables/local", json!([]), "the router's own addresses");
    one(
        "/tables/main",
        json!([{ "to": "10.0.1.0/24", "dev": "b" }]),
        "it is connected",
    );
    assert!(spoiled("/tables/main", json!([{ "to": "default", "dev": "A" }])).is_empty());
    let onlink = json!([{ "to": "10.9.0.0/16", "via": "172.16.0.1", "dev": "a", "onlink": true }]);
    assert!(spoiled("/tables/t", onlink).is_empty());
}

#[test]
fn rules() {
    let rule = |rule: Value, what: &str| one("/routing/rules/next", rule, what);
    rule(
        json!({ "priority": 100, "lookup": "ipA" }),
        "two rules have priority 100",
    );
    rule(
        json!({ "priority": 32766, "lookup": "ipA" }),
        "is the priority of table \"main\"",
    );
    rule(json!({ "priority": 0, "lookup": "ipA" }), "write 1 or more");
    rule(
        json!({ "priority": 5, "lookup": "ipa" }),
        "did you mean \"ipA\"?",
    );
    rule(
        json!({ "priority": 5, "iif": "c", "lookup": "ipA" }),
        "\"c\" is not defined",
    );
    rule(
        json!({ "priority": 5, "from": "10.0.1.1/24", "lookup": "ipA" }),
        "write 10.0.1.0/24, or",
    );
    rule(json!({ "priority": 5 }), "says what to do, once");
    rule(
        json!({ "priority": 5, "lookup": "ipA", "action": "prohibit" }),
        "says what to do, once",
    );
    rule(
        json!({ "priority": 5, "action": "prohibit", "suppress_prefixlength": 0 }),
        "no table is looked up",
    );
    rule(
        json!({ "priority": 5, "from": "10.0.0.0/8", "to": "2001:db8::/32", "lookup": "ipA" }),
        "different families",
    );
    let suppress = json!({ "priority": 5, "lookup": "main", "suppress_prefixlength": 0 });
    assert!(spoiled("/routing/rules/next", suppress).is_empty());
}

#[test]
fn the_router_as_a_whole() {
    one(
        "/router",
        json!({ "timeouts": { "udp": 119 } }),
        "write 120 or more",
    );
    one(
        "/router",
        json!({ "timeouts": { "tcp_established": 7439 } }),
        "RFC 5382",
    );
    one(
        "/router",
        json!({ "timeouts": { "tcp_opening": 29 } }),
        "write 30 or more",
    );
    one(
        "/router",
        json!({ "timeouts": { "tcp_closing": 239 } }),
        "RFC 7857",
    );
    one("/router", json!({ "sessions": 0 }), "out of range");
    one("/router", json!({ "id": "224.0.0.1" }), "multicast");
}

#[test]
fn all_faults_are_reported_at_once_each_with_its_place() {
    let mut config = right();
    config["personalities"]["A"]["mac"] = json!("01:00:00:00:00:00");
    config["personalities"]["B"]["addresses"][0] = json!("10.0.2.254/32");
    config["networks"]["b"]["ports"][0] = json!("nowhere");
    config["routing"]["rules"][1]["lookup"] = json!("nowhere");
    let file: File = serde_json::from_value(config).unwrap();
    let ConfigErrors(errors) = Config::try_from(file).unwrap_err();
    let places: Vec<String> = errors
        .iter()
        .map(|error| error.to_string().split(": ").next().unwrap().to_owned())
        .collect();
    assert_eq!(
        places,
        [
            "personalities.A.mac",
            "networks.b.addresses[0]",
            "networks.b.ports[0]",
            "routing.rules[1].lookup",
            "nat.snat[1].to",
        ]
    );
    let other = errors[1].other.as_ref().unwrap();
    assert_eq!(*other, place!["personalities", "B", "addresses", 0]);
}

#[test]
fn a_guest_lists_64_virtual_addresses_at_most() {
    let listing = |count: u8| {
        let addresses: Vec<String> = (1..=count).map(|n| format!("10.0.1.{n}")).collect();
        spoiled(
            "/guests",
            json!({ "a": { "port": "guest-a", "addresses": ["10.0.1.200"], "virtual": addresses } }),
        )
    };
    assert_eq!(listing(64), [] as [String; 0]);
    let faults = listing(66);
    assert_eq!(faults.len(), 1, "told once: {faults:#?}");
    assert!(
        faults[0].contains("more than 64 virtual addresses"),
        "{faults:#?}"
    );
}

#[test]
fn a_guests_changed_file_of_user_data_means_something_else() {
    let with = |text: &str| {
        let mut config = right();
        config["networks"]["a"]["metadata"] = json!({});
        config["guests"] = json!({
            "a": { "port": "guest-a", "addresses": ["10.0.1.1"], "user_data": { "file": "a.yaml", "text": text } },
        });
        serde_json::from_value::<Config>(config).unwrap()
    };
    let before = with("#cloud-config");
    assert!(before.means(&with("#cloud-config")));
    assert!(!before.means(&with("#cloud-config\n")));
}
