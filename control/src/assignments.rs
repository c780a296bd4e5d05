//! Which external addresses and ports are whose, as far as the configuration alone says.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use tapgate_engine::config::{Config, PortRange, Prefix, Protocol};
use tapgate_engine::model::pair::translated;

/// An external address, or some ports of it, and whose it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Place {
    /// The address; a prefix where a guest has all of it.
    pub external: Prefix,
    /// Its ports; all, and what has no ports, when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ports: Option<PortRange>,
    /// The protocol; any when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proto: Option<Protocol>,
}

/// Whose a place is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Assignment {
    /// What is assigned.
    #[serde(flatten)]
    pub place: Place,
    /// The inside address that it stands for; of a `public` one, itself.
    pub inside: Prefix,
    /// The guest that has the inside address, if one is configured to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guest: Option<String>,
    /// What says so: a key of the configuration.
    pub by: String,
}

impl Assignment {
    /// The inside address that `external`, one of the place's, stands for; where both are prefixes that are
    /// translated.
    pub fn inside_of(&self, external: IpAddr) -> Prefix {
        let (inside, outside) = (self.inside.0, self.place.external.0);
        let is_translated = inside != outside && inside.prefix_len() == outside.prefix_len();
        let one = is_translated.then(|| translated(external, outside, inside));
        one.flatten().map_or(self.inside, |one| Prefix(one.into()))
    }
}

impl Place {
    /// Whether an address and port are in it; `proto` is that of the port, if it is known.
    pub fn has(&self, (address, port): (IpAddr, u16), proto: Option<u8>) -> bool {
        let same = |own: Protocol| proto.is_none_or(|proto| proto == own.number());
        self.external.0.contains(&address)
            && self.ports.is_none_or(|ports| ports.contains(port))
            && self.proto.is_none_or(same)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.ports {
            None => write!(f, "all of it"),
            Some(ports) => write!(f, "ports {ports}"),
        }
    }
}

/// All that `config` assigns. What goes before comes first: a redirected port is not its block's.
pub fn assignments(config: &Config) -> Vec<Assignment> {
    let mut all = Vec::new();
    let host = |address: IpAddr| Prefix(address.into());
    // A prefix that is translated may be several guests'.
    let pairs = config
        .one_to_one()
        .iter()
        .filter(|pair| pair.is_of_prefixes());
    let pairs: Vec<_> = pairs.map(|pair| pair.inside).collect();
    let is_ones = |inside: &Prefix| !pairs.contains(&inside.0);
    // Their names are at hand, and to look for each takes as long as there are guests.
    for guest in config.guests() {
        all.extend(guest.outside().map(|public| Assignment {
            place: Place {
                external: Prefix(public),
                ports: None,
                proto: None,
            },
            inside: Prefix(public),
            guest: Some(guest.name.clone()),
            by: "guests".to_owned(),
        }));
    }
    let mut add = |place: Place, inside: Prefix, by: &str| {
        all.push(Assignment {
            place,
            inside,
            guest: is_ones(&inside)
                .then(|| guest(config, inside.0.addr()))
                .flatten(),
            by: by.to_owned(),
        });
    };
    let whole = |external| Place {
        external,
        ports: None,
        proto: None,
    };
    for pair in config.one_to_one() {
        add(
            whole(Prefix(pair.outside)),
            Prefix(pair.inside),
            "nat.one_to_one",
        );
    }
    for forward in config.redirects() {
        for target in &forward.to {
            let place = Place {
                external: host(forward.address),
                ports: Some(forward.ports),
                proto: Some(forward.protocol),
            };
            add(place, host(target.address), "nat.forward");
        }
    }
    for blocks in config.snat().iter().filter_map(|entry| entry.blocks()) {
        for (inside, external, ports) in blocks.all() {
            let place = Place {
                external: host(external),
                ports: Some(ports),
                proto: None,
            };
            add(place, host(inside), "nat.snat");
        }
    }
    all
}

/// The guest that has an address, by the longest of its prefixes.
pub fn guest(config: &Config, address: IpAddr) -> Option<String> {
    let guests = config.guests().iter();
    let owned = guests.flat_map(|guest| guest.owned().map(move |prefix| (prefix, guest)));
    owned
        .filter(|(prefix, _)| prefix.contains(&address))
        .max_by_key(|(prefix, _)| prefix.prefix_len())
        .map(|(_, guest)| guest.name.clone())
}
