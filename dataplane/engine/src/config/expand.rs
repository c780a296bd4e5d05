//! Every shorthand of a file spelled out.

use std::collections::{BTreeMap, BTreeSet};

use super::services::Ra;
use super::{
    AddressRange, Config, File, Guest, InterfaceKind, Limits, MAIN, NextHop, OneOrMore, PortKind,
    RouteAction, Target,
};
use crate::base::ip::is_of_a_link;

impl Config {
    /// The file that this was made from with every shorthand spelled out: what a value is by default,
    /// by which interface and to which next hop a route leads, which address a translation wears. It
    /// compiles to the same configuration, and spelled out again it stays as it is.
    pub fn expanded(&self) -> File {
        let mut file = self.file.clone();
        let router = &mut file.router;
        router.limits = router.limits.spelled();
        router.timeouts.tcp_opening = Some(router.timeouts.tcp_opening());
        router.timeouts.tcp_closing = Some(router.timeouts.tcp_closing());
        ports(&mut file, self);
        for interface in &self.interfaces {
            if let Some(network) = file.networks.get_mut(&interface.name)
                && interface.kind.bridged().is_none()
                && !interface.kind.is_personality()
            {
                network.mac = Some(interface.mac);
                network.ra = interface.services.ra.clone();
            }
        }
        guests(&mut file, self);
        for guest in file.guests.values_mut() {
            // What is in another file stays there: it may be secret.
            if let Some(data) = guest.user_data.as_mut().filter(|data| data.file.is_some()) {
                data.text = None;
            }
        }
        routes(&mut file, self);
        file.routing.rules.sort_by_key(|rule| rule.priority);
        translations(&mut file, self);
        file
    }

    /// Whether both mean the same in every respect, however they are written. Two that do may be written
    /// too differently for this to see it.
    pub fn means(&self, other: &Self) -> bool {
        self.file == other.file || self.compiles_like(other) && self.expanded() == other.expanded()
    }

    /// Spelled out, a file compiles to what it does as it is. So what compiles to something else means something
    /// else, and this is known without copying a million routes; and what is in a guest's file of user data is
    /// known only so.
    fn compiles_like(&self, other: &Self) -> bool {
        self.tables == other.tables && self.rules == other.rules && self.guests == other.guests
    }
}

fn ports(file: &mut File, config: &Config) {
    let networks = config.interfaces.iter();
    let guests = networks.flat_map(|interface| match &interface.kind {
        InterfaceKind::Network { ports, .. } => &ports[..],
        InterfaceKind::Personality { .. } => &[],
    });
    let guests: BTreeSet<usize> = guests.copied().collect();
    for (index, port) in config.ports.iter().enumerate() {
        let Some(written) = file.ports.get_mut(&port.name) else {
            continue;
        };
        written.mtu = Some(port.mtu);
        if let PortKind::Tap { .. } = port.kind {
            written.queues = Some(port.queues);
        }
        if guests.contains(&index) {
            written.source = Some(port.source);
        }
    }
}

fn guests(file: &mut File, config: &Config) {
    let mut wearers = BTreeMap::<_, u32>::new();
    for guest in &config.guests {
        *wearers.entry((guest.port, guest.mac)).or_default() += 1;
    }
    for guest in &config.guests {
        let Some(written) = file.guests.get_mut(&guest.name) else {
            continue;
        };
        // Several guests behind one TAP have its MAC as long as none of them says so.
        if wearers[&(guest.port, guest.mac)] == 1 {
            written.mac = guest.mac;
        }
        written.limits = guest.limits;
        let network = &config.interfaces[guest.network];
        if let Some(personality) = guest.personality {
            written.personality = Some(config.interfaces[personality].name.clone());
        }
        if network.services.dhcp.is_some() {
            written.dhcp = guest.dhcp_address;
            if has_hostname(guest) {
                written.hostname = Some(guest.hostname.clone());
            }
        }
    }
}

/// Whether a guest's host name can be written: its name here need not be one.
fn has_hostname(guest: &Guest) -> bool {
    let name = &guest.hostname;
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '-';
    name.chars().all(fits) && !name.starts_with('-') && !name.ends_with('-')
}

fn routes(file: &mut File, config: &Config) {
    for (name, routes) in &mut file.tables {
        let Some(table) = config.tables.iter().find(|table| table.name == *name) else {
            continue;
        };
        // Connected prefixes come first.
        let connected = table.routes.len().saturating_sub(routes.len());
        debug_assert!(connected == 0 || name == MAIN);
        for (route, checked) in routes.iter_mut().zip(&table.routes[connected..]) {
            let RouteAction::Forward(forward) = &checked.action else {
                continue;
            };
            let name = |hop: &NextHop| match hop.interfaces[..] {
                [interface] => Some(config.interfaces[interface].name.clone()),
                _ => None,
            };
            match (&mut route.nexthops[..], &forward.hops[..]) {
                ([], [hop]) => (route.via, route.dev) = (hop.via, name(hop)),
                (written, hops) => {
                    for (written, hop) in written.iter_mut().zip(hops) {
                        (written.via, written.dev) = (hop.via, name(hop));
                    }
                }
            }
        }
    }
}

fn translations(file: &mut File, config: &Config) {
    for (entry, checked) in file.nat.snat.iter_mut().zip(&config.snat) {
        entry.ports = Some(checked.ports);
        // A link-local address may be several personalities'.
        if let ([worn], true) = (&checked.to[..], entry.to.is_empty())
            && !is_of_a_link(*worn)
        {
            let (first, last) = (*worn, *worn);
            entry.to = OneOrMore(vec![AddressRange { first, last }]);
            entry.dev = None;
        }
    }
    for (entry, checked) in file.nat.forward.iter_mut().zip(&config.redirects) {
        entry.to = OneOrMore(checked.to.clone());
    }
}

impl Target {
    /// The same with its port written, where `first` is the first of the forwarded ones.
    pub(super) fn spelled(self, first: u16) -> Self {
        Self {
            port: Some(self.port.unwrap_or(first)),
            ..self
        }
    }
}

impl Limits {
    /// The same with every default written that is a number.
    #[must_use]
    pub(super) fn spelled(self) -> Self {
        Self {
            new_sessions_per_second: Some(self.new_sessions()),
            unanswered_syns: Some(self.syns()),
            new_destinations_per_second: Some(self.destinations()),
            icmp_errors_per_second: Some(self.icmp_errors()),
            ..self
        }
    }
}

impl Ra {
    /// The same with every lifetime written that follows from `interval`.
    #[must_use]
    pub(super) fn spelled(mut self) -> Self {
        let all = self.three_intervals();
        // Out of range only if `interval` is, which is a fault.
        let most = u16::try_from(all).unwrap_or(u16::MAX);
        self.lifetime = Some(self.lifetime.unwrap_or(most));
        for route in &mut self.routes {
            route.lifetime = Some(route.lifetime.unwrap_or(all));
        }
        self
    }
}
