//! `[nat]`.

use serde_json::{Value, json};

use super::{one, right, spoiled};
use crate::config::{Config, File};

#[test]
fn source_translations() {
    let snat = |snat: Value, what: &str| one("/nat/snat/next", snat, what);
    snat(
        json!({ "from": "10.0.3.0/24", "to": "10.0.1.254" }),
        "is no personality's address",
    );
    snat(
        json!({ "from": "10.0.3.1/24", "to": "203.0.113.10" }),
        "write 10.0.3.0/24",
    );
    snat(
        json!({ "from": "2001:db8::/64", "to": "203.0.113.10" }),
        "different families",
    );
    snat(
        json!({ "from": "10.0.1.0/24", "to": "203.0.113.10" }),
        "is never used",
    );
    snat(
        json!({ "from": "10.0.1.128/25", "to": "203.0.113.10" }),
        "is never used",
    );
    let other_way = json!({ "from": "10.0.1.0/24", "to": "198.51.100.20" });
    assert!(
        spoiled("/nat/snat/next", other_way).is_empty(),
        "it leaves by another personality"
    );
}

#[test]
fn pools_exceptions_and_masquerade() {
    let snat = |snat: Value, what: &str| one("/nat/snat/next", snat, what);
    let from = "10.0.3.0/24";
    snat(json!({ "from": from }), "neither `to` nor `dev`");
    snat(json!({ "from": from, "dev": "Z" }), "\"Z\"");
    snat(json!({ "from": from, "dev": "a" }), "is no personality");
    snat(
        json!({ "from": from, "to": "203.0.113.10", "dev": "A" }),
        "both `to` and `dev`",
    );
    snat(
        json!({ "from": from, "to": ["203.0.113.10", "198.51.100.20"] }),
        "is not among the addresses of \"A\"",
    );
    snat(json!({ "from": from, "to": "203.0.0.0/16" }), "too many");
    snat(
        json!({ "from": from, "to": "203.0.113.10", "except": ["172.16.0.1/12"] }),
        "write 172.16.0.0/12",
    );
    snat(
        json!({ "from": from, "to": "203.0.113.10", "except": ["2001:db8::/32"] }),
        "another family",
    );
    let right = json!({ "from": from, "dev": "A", "except": ["172.16.0.0/12"] });
    assert!(spoiled("/nat/snat/next", right).is_empty());
}

#[test]
fn t05_t18_how_translations_map_and_filter() {
    let snat = |snat: Value, what: &str| one("/nat/snat/next", snat, what);
    let right = |snat: Value| assert_eq!(spoiled("/nat/snat/next", snat), [""; 0]);
    // Of an address that another entry gives out: 203.0.113.10; of one that no other does.
    let (from, dependent) = ("10.0.3.0/24", "endpoint-dependent");
    let (free, ports) = ("203.0.113.10", "3000-3999");
    for filtering in ["address-dependent", "endpoint-independent"] {
        right(json!({ "from": from, "to": free, "filtering": filtering }));
        let both = json!({
            "from": from, "to": "198.51.100.20", "ports": ports,
            "mapping": dependent, "filtering": filtering,
        });
        snat(both, "leave out `filtering`, or `mapping`");
    }
    let other =
        json!({ "from": from, "to": "198.51.100.20", "ports": ports, "mapping": dependent });
    right(other);
    let shared =
        json!({ "from": from, "to": "198.51.100.20", "ports": "2999-3999", "mapping": dependent });
    snat(
        shared,
        "both entries give out ports of 198.51.100.20, and they map differently",
    );
    let block = |to: &str, ports: &str, block: u16| json!({ "from": "10.0.3.0/28", "to": to, "ports": ports, "block": block });
    right(block("198.51.100.20", ports, 62));
    snat(
        block("198.51.100.20", ports, 100),
        "write 2 addresses in `to` (16 / 10), or `block = 62`, or a longer prefix in `from`",
    );
    snat(block("198.51.100.20", ports, 1001), "write at most 1000");
    snat(
        block("198.51.100.20", "1000-1999", 10),
        "write ports from 1024 on",
    );
    snat(
        block(free, ports, 10),
        "in blocks, which are one address's alone",
    );
    let both = json!({
        "from": "10.0.3.0/28", "to": "198.51.100.20", "ports": ports, "block": 10, "mapping": dependent,
    });
    snat(both, "leave out `block`, or `mapping`");
}

#[test]
fn addresses_that_stand_for_each_other() {
    let pair = |inside: &str, outside: &str| json!([{ "inside": inside, "outside": outside }]);
    let one_to_one = |pairs: Value, what: &str| one("/nat/one_to_one", pairs, what);
    one_to_one(pair("10.0.1.5", "10.0.1.6"), "is no personality's address");
    one_to_one(
        pair("10.0.1.5", "203.0.113.10"),
        "other sources are translated to",
    );
    let mut config = right();
    config["personalities"]["A"]["addresses"] = json!(["203.0.113.10/24", "203.0.113.11/24"]);
    config["nat"]["one_to_one"] = pair("10.0.1.5", "203.0.113.11");
    let faults = |config: &Value| {
        let file: File = serde_json::from_value(config.clone()).unwrap();
        Config::try_from(file).err().map_or(Vec::new(), |errors| {
            errors.0.iter().map(ToString::to_string).collect()
        })
    };
    assert_eq!(faults(&config), [""; 0]);
    config["nat"]["one_to_one"][0]["inside"] = json!("2001:db8::5");
    assert!(faults(&config)[0].contains("different families"));
    let masquerade = json!([{ "from": "10.0.3.0/24", "dev": "A" }]);
    config["nat"]["snat"] = masquerade;
    config["nat"]["one_to_one"] = pair("10.0.1.5", "203.0.113.10");
    assert!(faults(&config)[0].contains("other sources are translated to"));
    config["nat"]["snat"] = json!([]);
    config["nat"]["one_to_one"] = pair("2001:db8::5", "203.0.113.11");
    config["nat"]["forward"] = json!([
        { "address": "203.0.113.11", "proto": "tcp", "port": 22, "to": "10.0.1.6" },
    ]);
    assert!(faults(&config)[1].contains("stands for one guest"));
}

#[test]
fn prefixes_that_stand_for_each_other() {
    let pair =
        |inside: &str, outside: &str| json!([{ "inside": inside, "outside": outside, "dev": "A" }]);
    let one_to_one = |pairs: Value, what: &str| one("/nat/one_to_one", pairs, what);
    let (inside, outside) = ("fd00:1::/48", "2001:db8:1::/48");
    assert_eq!(spoiled("/nat/one_to_one", pair(inside, outside)), [""; 0]);
    one_to_one(pair(inside, "2001:db8::/47"), "of the same length");
    one_to_one(pair(inside, "192.0.2.0/24"), "different families");
    one_to_one(pair("fd00:1::1/48", outside), "write fd00:1::/48");
    one_to_one(pair("fd00::/80", "2001:db8::/80"), "one entry for each");
    one_to_one(pair("10.9.0.0/25", "203.0.113.128/25"), "is on a link");
    one_to_one(
        json!([{ "inside": inside, "outside": outside }]),
        "need a personality",
    );
    one_to_one(
        json!([{ "inside": inside, "outside": outside, "dev": "a" }]),
        "is no personality",
    );
    let single = json!([{ "inside": "10.0.1.5", "outside": "203.0.113.10", "dev": "A" }]);
    assert!(spoiled("/nat/one_to_one", single)[0].contains("leave it out"));
    let two =
        [pair(inside, outside), pair("fd00::/44", "2001:db8::/44")].map(|pair| pair[0].clone());
    one_to_one(json!(two), "overlap");
}

#[test]
fn forwarded_ports() {
    let entry = |port: Value, to: Value, from: Value| json!({ "address": "203.0.113.10", "proto": "tcp", "port": port, "to": to, "from": from });
    let forward = |entries: Value, what: &str| one("/nat/forward", entries, what);
    let (port, to, all) = (json!(22), json!("10.0.1.5"), json!([]));
    let first = entry(port.clone(), to.clone(), all.clone());
    forward(json!([first, first]), "forwarded twice");
    let range = entry(json!("20-30"), to.clone(), all.clone());
    forward(json!([first, range]), "in part");
    forward(
        json!([entry(port.clone(), json!([]), all.clone())]),
        "goes nowhere",
    );
    forward(
        json!([entry(json!("20-30"), json!("10.0.1.5:65530"), all.clone())]),
        "are not ports",
    );
    forward(
        json!([entry(port.clone(), json!("10.0.1.254"), all.clone())]),
        "is not a guest's address",
    );
    forward(
        json!([entry(port.clone(), to.clone(), json!(["2001:db8::/32"]))]),
        "another family",
    );
    let some = entry(port, to, json!(["192.0.2.0/24"]));
    assert!(spoiled("/nat/forward", json!([some, first])).is_empty());
    forward(json!([first, some]), "forwarded twice");
}
