//! From [`File`] to [`Config`]: every check a configuration must pass, all faults reported at once.

mod address;
mod bridged;
mod check;
mod groups;
mod guests;
mod interfaces;
mod mappings;
mod metadata;
mod one_to_one;
mod policy;
mod policy_rules;
mod ports;
mod probe;
mod redirects;
mod router;
mod rules;
mod services;
mod snat;
mod tables;
#[cfg(test)]
mod tests;
mod virtuals;

use super::{Config, ConfigErrors, File};
use check::Check;

impl TryFrom<File> for Config {
    type Error = ConfigErrors;

    fn try_from(file: File) -> Result<Self, ConfigErrors> {
        let mut check = Check::default();
        check.router(&file);
        for (section, entries) in [
            ("ports", file.ports.len()),
            ("personalities", file.personalities.len()),
            ("networks", file.networks.len()),
            ("guests", file.guests.len()),
            ("tables", file.tables.len()),
        ] {
            check.count(section, entries);
        }
        let ports = check.ports(&file);
        let mut interfaces = check.interfaces(&file, &ports);
        let guests = check.guests(&file, &ports, &interfaces);
        let tables = check.tables(&file, &interfaces);
        let rules = check.rules(&file, &interfaces, &tables);
        let snat = check.snat(&file, &interfaces);
        for (_, entry) in snat.iter().filter(|(_, entry)| !entry.except.is_empty()) {
            interfaces[entry.interface].sources.push(entry.from);
        }
        let one_to_one = check.one_to_one(&file, &interfaces, (&guests, &snat));
        for entry in one_to_one.iter().filter(|entry| entry.is_of_prefixes()) {
            interfaces[entry.interface].sources.push(entry.outside);
        }
        let redirects = check.redirects(&file, &interfaces);
        let policy = check.policy(&file, &interfaces, &guests);
        if check.errors.is_empty() {
            Ok(Self {
                file,
                ports,
                interfaces,
                guests,
                tables,
                rules,
                snat: snat.into_iter().map(|(_, entry)| entry).collect(),
                one_to_one,
                redirects,
                policy,
            })
        } else {
            Err(ConfigErrors(check.errors))
        }
    }
}
