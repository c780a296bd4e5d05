//! A configuration in few words.

use tapgate_engine::config::Config;

/// What a configuration consists of, in one line.
pub fn summary(config: &Config) -> String {
    let personalities = config
        .interfaces()
        .iter()
        .filter(|i| i.kind.is_personality());
    let personalities = personalities.count();
    let count = |n: usize, one: &str, many: &str| match n {
        1 => format!("1 {one}"),
        n => format!("{n} {many}"),
    };
    [
        count(config.ports().len(), "port", "ports"),
        count(personalities, "personality", "personalities"),
        count(
            config.interfaces().len() - personalities,
            "network",
            "networks",
        ),
        // Beside the one that is always there.
        count(config.tables().len() - 1, "table", "tables"),
        count(config.rules().len() - 1, "rule", "rules"),
        count(config.snat().len(), "SNAT", "SNATs"),
    ]
    .join(", ")
}
