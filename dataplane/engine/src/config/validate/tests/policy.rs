//! `[policy]`.

use serde_json::{Value, json};

use super::{one, spoiled};

#[test]
fn who_may_open_flows_to_whom() {
    let policy = |policy: Value, what: &str| one("/policy", policy, what);
    let rule = |rule: Value, what: &str| policy(json!({ "rules": [rule] }), what);
    rule(
        json!({ "action": "drop", "from": "nowhere" }),
        "\"nowhere\"",
    );
    rule(
        json!({ "action": "drop", "source": "bad" }),
        "[policy.sets]",
    );
    rule(
        json!({ "action": "drop", "source": "10.0.0.1/8" }),
        "write 10.0.0.0/8",
    );
    rule(
        json!({ "action": "drop", "port": 22 }),
        "no protocol that has them",
    );
    rule(
        json!({ "action": "drop", "proto": ["tcp", "gre"], "source_port": 22 }),
        "no protocol that has them",
    );
    rule(
        json!({ "action": "drop", "proto": "tcp", "icmp_type": 8 }),
        "but not ICMP",
    );
    let zones = |zones: Value, what: &str| policy(json!({ "zones": zones }), what);
    zones(json!({ "z": ["a"], "y": ["a"] }), "in two zones");
    zones(json!({ "a": ["b"] }), "also the name");
    zones(json!({ "z": ["nowhere"] }), "\"nowhere\"");
    policy(
        json!({ "sets": { "empty": [] }, "rules": [{ "action": "drop", "source": "empty" }] }),
        "is empty",
    );
    policy(
        json!({ "default": [{ "action": "drop", "to": "nowhere" }] }),
        "\"nowhere\"",
    );
    let right = json!({
        "zones": { "inside": ["a", "b"], "outside": ["A"] },
        "sets": { "bad": ["192.0.2.0/24", "2001:db8::/32"] },
        "rules": [
            { "action": "drop", "source": ["bad", "198.51.100.7"] },
            { "action": "accept", "from": "inside", "to": ["outside", "B"], "proto": [47, "udp"] },
            { "action": "reject", "proto": "icmp", "icmp_type": ["echo-request", 13] },
        ],
        "default": [{ "action": "drop" }],
    });
    assert_eq!(spoiled("/policy", right), [""; 0]);
}
