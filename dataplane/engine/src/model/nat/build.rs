//! Translations from the configuration.

use super::{Redirect, Snat, Translations};
use crate::base::addr::InterfaceId;
use crate::config::{self, Config, Filtering};
use crate::model::pair::PrefixPair;

impl Translations {
    /// Those of `config`; `interfaces`: the number of each of its interfaces.
    pub(crate) fn build(config: &Config, interfaces: &[InterfaceId]) -> Self {
        let snat = config.snat().iter().map(|snat| Snat {
            from: snat.from,
            interface: interfaces[snat.interface],
            to: snat.to.clone(),
            except: snat.except.clone(),
            ports: snat.ports,
            mapping: snat.mapping,
            filtering: snat.filtering,
            block: snat.block,
        });
        let is_open = |snat: &config::Snat| snat.filtering != Filtering::default();
        let mut translations = Self {
            snat: snat.collect(),
            open: config.snat().iter().any(is_open),
            ..Self::default()
        };
        for entry in config.one_to_one() {
            let interface = interfaces[entry.interface];
            if entry.is_of_prefixes() {
                translations.pairs.push(PrefixPair {
                    interface,
                    inside: entry.inside,
                    outside: entry.outside,
                });
                continue;
            }
            let (inside, outside) = (entry.inside.addr(), entry.outside.addr());
            translations.outside.insert(outside, (interface, inside));
            translations.inside.insert((interface, inside), outside);
            translations.known_by.entry(inside).or_insert(interface);
        }
        for entry in config.redirects() {
            let place = (entry.address, entry.protocol.number());
            let personality = interfaces[entry.interface];
            let of_address = translations.redirects.entry(place);
            let (_, redirects) = of_address.or_insert((personality, Vec::new()));
            redirects.push(Redirect {
                ports: entry.ports,
                from: entry.from.clone(),
                to: entry.to.clone(),
            });
        }
        for (_, redirects) in translations.redirects.values_mut() {
            redirects.sort_by_key(|redirect| redirect.ports.first);
        }
        translations
    }
}
