//! That a configuration spelled out is the same configuration, whatever a test is about.

use tapgate_engine::config::{Config, File};

/// The file with every shorthand spelled out compiles to the same, and is spelled out as it is.
///
/// # Panics
/// It does not.
#[track_caller]
pub fn assert_same_expanded(config: &Config) {
    let expanded = config.expanded();
    let again = Config::try_from(expanded.clone())
        .unwrap_or_else(|faults| panic!("the expanded file is wrong:\n{faults}\n{expanded:#?}"));
    assert_eq!(again.expanded(), expanded, "expanded twice it is another");
    assert!(config.means(&again));
    assert_eq!(config.ports(), again.ports());
    assert_eq!(config.interfaces(), again.interfaces());
    assert_eq!(config.guests(), again.guests());
    assert_eq!(config.tables(), again.tables());
    assert_eq!(config.rules(), again.rules());
    assert_eq!(config.snat(), again.snat());
    assert_eq!(config.one_to_one(), again.one_to_one());
    assert_eq!(config.redirects(), again.redirects());
    assert_eq!(config.policy(), again.policy());
    let (before, after) = (config.router(), again.router());
    assert_eq!(
        (before.id, before.sessions, before.neighbors),
        (after.id, after.sessions, after.neighbors)
    );
    let timeouts = |file: &File| {
        let timeouts = file.router.timeouts;
        let tcp = (timeouts.tcp_opening(), timeouts.tcp_closing());
        (tcp, timeouts.tcp_established, timeouts.udp, timeouts.icmp)
    };
    assert_eq!(timeouts(config.file()), timeouts(again.file()));
    // All that is not in the parts above.
    let rest = |file: &File| (file.nat.block_log.clone(), file.policy.on_stop);
    assert_eq!(rest(config.file()), rest(again.file()));
}
