//! All interfaces: who wears which MAC, who holds which address, what may come in where.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr};

use foldhash::fast::FixedState;
use ipnet::IpNet;
use prefix_trie::joint::map::JointPrefixMap;

use super::admission::{ANY, Admission};
use super::bridge::Bridge;
use super::interface::{Interface, link_local};
use super::owners::{Guest, Owners};
use crate::base::addr::{InterfaceId, MacAddr, PortId};
use crate::base::ip::is_of_a_link;
use crate::config::metadata::{METADATA_V4, METADATA_V6};
use crate::config::{self, Config, InterfaceKind, RouteAction, SourceCheck};

/// All interfaces of a snapshot, and what is found by port, MAC or address.
#[derive(Debug, Default)]
pub(crate) struct Interfaces {
    by_id: Vec<Option<Interface>>,
    /// (port, VLAN, MAC) -> the interface that wears it.
    wearers: Wearers,
    on_port: Vec<Vec<InterfaceId>>,
    /// By port: the bridged networks that it is in, or is the uplink of.
    segments: Vec<Vec<InterfaceId>>,
    /// By port.
    admissions: Vec<Admission>,
    holders: HashMap<IpAddr, InterfaceId, FixedState>,
    /// The next hops of personalities: the provider's routers.
    gateways: HashSet<IpAddr, FixedState>,
    broadcast: HashSet<Ipv4Addr, FixedState>,
    /// Connected prefixes, and whether each is a network's.
    connected: JointPrefixMap<IpNet, bool>,
}

/// The numbers of ports and interfaces, by their place in a configuration's lists.
#[derive(Debug)]
pub(crate) struct Numbering {
    pub(crate) ports: Vec<PortId>,
    pub(crate) interfaces: Vec<InterfaceId>,
}

impl Interfaces {
    pub(crate) fn build(config: &Config, numbering: &Numbering, owners: &Owners) -> Self {
        let mut all = Self::default();
        for (spec, &id) in config.interfaces().iter().zip(&numbering.interfaces) {
            all.add(spec, id, numbering, owners);
        }
        for (spec, &port) in config.ports().iter().zip(&numbering.ports) {
            let is_guests = |id: &InterfaceId| {
                let network = all.get(*id);
                network.is_some_and(|network| network.ports.contains(&port))
            };
            if all.network_on(port).is_some() || all.all_bridged(port).iter().any(is_guests) {
                all.admit(spec, port, owners);
            }
            if !all.all_bridged(port).is_empty() {
                all.admission_mut(port).bridged = true;
            }
        }
        all.join_segments();
        for route in config.tables().iter().flat_map(|table| &table.routes) {
            let RouteAction::Forward(forward) = &route.action else {
                continue;
            };
            for hop in &forward.hops {
                for interface in &hop.interfaces {
                    let id = numbering.interfaces[*interface];
                    hop.via
                        .into_iter()
                        .for_each(|via| all.add_next_hop(id, via));
                }
            }
        }
        all.gateways = all
            .iter()
            .filter(|interface| interface.personality)
            .flat_map(|interface| interface.next_hops.iter().copied())
            .filter(|hop| !is_of_a_link(*hop))
            .collect();
        all
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Interface> {
        self.by_id.iter().flatten()
    }

    #[inline]
    pub(crate) fn get(&self, id: InterfaceId) -> Option<&Interface> {
        self.by_id.get(id.index())?.as_ref()
    }

    #[inline]
    pub(crate) fn wearer(
        &self,
        port: PortId,
        vlan: Option<u16>,
        mac: MacAddr,
    ) -> Option<&Interface> {
        self.get(self.wearers.find(wearer_key(port, vlan, mac))?)
    }

    pub(crate) fn on_port(
        &self,
        port: PortId,
        vlan: Option<u16>,
    ) -> impl Iterator<Item = &Interface> + Clone {
        // A bridged guest's port is untagged, whatever VLAN its segment is on the uplink.
        let is_there = move |interface: &&Interface| match interface.personality
            && interface.ports != [port]
        {
            true => vlan.is_none(),
            false => interface.vlan == vlan,
        };
        self.all_on(port).filter(is_there)
    }

    pub(crate) fn all_on(&self, port: PortId) -> impl Iterator<Item = &Interface> + Clone {
        let ids = self
            .on_port
            .get(port.index())
            .map_or(&[][..], Vec::as_slice);
        ids.iter().filter_map(|id| self.get(*id))
    }

    pub(crate) fn network_on(&self, port: PortId) -> Option<&Interface> {
        self.on_port(port, None)
            .find(|interface| !interface.personality)
    }

    pub(crate) fn is_uplink(&self, port: PortId) -> bool {
        let admission = self.admission(port);
        if admission.bridged {
            return admission.source.is_none();
        }
        let ids = self.on_port.get(port.index()).and_then(|ids| ids.first());
        ids.and_then(|id| self.get(*id))
            .is_some_and(|interface| interface.personality)
    }

    /// The bridged network whose segment `port` is on in `vlan`.
    pub(crate) fn segment(&self, port: PortId, vlan: Option<u16>) -> Option<&Interface> {
        let networks = self.all_bridged(port).iter().filter_map(|id| self.get(*id));
        let mut networks = networks.filter_map(|network| Some((network, network.bridge?)));
        let found = networks.find(|(_, segment)| match segment.uplink == port {
            true => segment.vlan == vlan,
            false => vlan.is_none(),
        });
        found.map(|(network, _)| network)
    }

    fn all_bridged(&self, port: PortId) -> &[InterfaceId] {
        let ids = self.segments.get(port.index());
        ids.map_or(&[], Vec::as_slice)
    }

    #[inline]
    pub(crate) fn holder(&self, address: IpAddr) -> Option<&Interface> {
        self.get(*self.holders.get(&address)?)
    }

    #[inline]
    pub(crate) fn admission(&self, port: PortId) -> &Admission {
        self.admissions.get(port.index()).unwrap_or(&ANY)
    }

    pub(crate) fn is_gateway(&self, address: IpAddr) -> bool {
        self.gateways.contains(&address)
    }

    /// Whether `address` is in a network's prefix, and no longer prefix of an uplink has it.
    pub(crate) fn is_in_network(&self, address: IpAddr) -> bool {
        let longest = self.connected.get_lpm(&IpNet::from(address));
        longest.is_some_and(|(_, networks)| *networks)
    }

    pub(crate) fn is_directed_broadcast(&self, address: Ipv4Addr) -> bool {
        self.broadcast.contains(&address)
    }

    fn add(
        &mut self,
        spec: &config::Interface,
        id: InterfaceId,
        numbering: &Numbering,
        owners: &Owners,
    ) {
        let bridge = spec.kind.bridged().map(|bridged| Bridge {
            uplink: numbering.ports[bridged.port],
            vlan: bridged.vlan,
        });
        let (ports, vlan, gateways, shared, acd) = match &spec.kind {
            InterfaceKind::Personality {
                port,
                vlan,
                gateways,
                shared,
                acd,
            } => {
                let ports = vec![numbering.ports[*port]];
                (ports, *vlan, gateways.clone(), *shared, *acd)
            }
            InterfaceKind::Network { ports, .. } => {
                let ports = ports.iter().map(|index| numbering.ports[*index]).collect();
                (ports, None, Vec::new(), None, false)
            }
        };
        for &port in &ports {
            match bridge {
                None => self.wear(id, (port, vlan, spec.mac)),
                Some(_) => push(&mut self.segments, port, id),
            }
        }
        if let Some(bridge) = bridge {
            push(&mut self.segments, bridge.uplink, id);
        }
        // A link-local address says nothing without its link.
        let addresses = spec.addresses.iter();
        for prefix in addresses.filter(|prefix| !is_of_a_link(prefix.addr())) {
            self.holders.insert(prefix.addr(), id);
            let networks = !spec.kind.is_personality();
            self.connected.insert(prefix.trunc(), networks);
            if let IpNet::V4(net) = prefix
                && net.prefix_len() < 31
            {
                self.broadcast.insert(net.broadcast());
            }
        }
        if self.by_id.len() <= id.index() {
            self.by_id.resize(id.index() + 1, None);
        }
        let own = spec.addresses.iter().map(IpNet::addr);
        let mut guests = ports.iter().flat_map(|port| owners.on_port(*port));
        let link_local = (own.clone().any(|address| address.is_ipv6())
            || spec.services.speak_ipv6()
            || guests.any(Guest::has_ipv6))
        .then(|| link_local(spec))
        .filter(|_| bridge.is_none());
        let written = |address: &IpAddr| own.clone().any(|own| own == *address);
        let derived = link_local
            .map(IpAddr::V6)
            .filter(|address| !written(address));
        let metadata = [METADATA_V4.into(), METADATA_V6.into()];
        let metadata = metadata.into_iter().filter(|_| spec.services.metadata);
        self.by_id[id.index()] = Some(Interface {
            id,
            name: spec.name.clone(),
            personality: spec.kind.is_personality(),
            mac: spec.mac,
            vlan,
            ports,
            bridge,
            addresses: spec.addresses.clone(),
            own: own.clone().chain(derived).chain(metadata).collect(),
            link_local,
            next_hops: gateways,
            shared,
            claims_ipv4: acd,
            mtu: spec.mtu,
            services: spec.services.clone(),
            sources: spec.sources.clone(),
            clamps_mss: spec.clamps_mss,
            probe: spec.probe,
        });
    }

    fn admit(&mut self, spec: &config::Port, port: PortId, owners: &Owners) {
        let guests = owners.on_port(port);
        let checked = spec.source != SourceCheck::Off;
        let macs: Option<Vec<MacAddr>> = guests.clone().map(|guest| guest.mac).collect();
        let guests = guests.len() > 0;
        let admission = self.admission_mut(port);
        admission.source = Some(spec.source);
        admission.macs = macs.filter(|_| checked).unwrap_or_default();
        admission.guests = guests;
    }

    fn admission_mut(&mut self, port: PortId) -> &mut Admission {
        if self.admissions.len() <= port.index() {
            self.admissions
                .resize(port.index() + 1, Admission::default());
        }
        &mut self.admissions[port.index()]
    }

    /// A personality is reached by the guests that are bridged to its segment as by the uplink.
    fn join_segments(&mut self) {
        let networks = self.by_id.iter().flatten();
        let bridged = networks.filter_map(|i| Some((i.bridge?, i.ports.clone())));
        for (segment, ports) in bridged.collect::<Vec<_>>() {
            let there = self.on_port(segment.uplink, segment.vlan);
            for (id, mac) in there.map(|i| (i.id, i.mac)).collect::<Vec<_>>() {
                for &port in &ports {
                    self.wear(id, (port, None, mac));
                }
            }
        }
    }

    fn wear(&mut self, id: InterfaceId, (port, vlan, mac): (PortId, Option<u16>, MacAddr)) {
        self.wearers.insert(wearer_key(port, vlan, mac), id);
        push(&mut self.on_port, port, id);
    }

    fn add_next_hop(&mut self, id: InterfaceId, via: IpAddr) {
        if let Some(Some(interface)) = self.by_id.get_mut(id.index())
            && !interface.next_hops.contains(&via)
        {
            interface.next_hops.push(via);
        }
    }
}

fn push(by_port: &mut Vec<Vec<InterfaceId>>, port: PortId, id: InterfaceId) {
    if by_port.len() <= port.index() {
        by_port.resize(port.index() + 1, Vec::new());
    }
    by_port[port.index()].push(id);
}

/// Who wears a MAC on a port in a VLAN: open addressing, at most half full. Only the
/// configuration puts entries in, so that nobody outside can make it slow.
#[derive(Debug, Default)]
struct Wearers {
    places: Vec<Option<(u128, InterfaceId)>>,
    used: usize,
}

impl Wearers {
    #[inline]
    fn find(&self, key: u128) -> Option<InterfaceId> {
        let mut at = self.home(key);
        loop {
            match self.places.get(at)? {
                Some((found, id)) if *found == key => return Some(*id),
                Some(_) => at = (at + 1) & (self.places.len() - 1),
                None => return None,
            }
        }
    }

    fn insert(&mut self, key: u128, id: InterfaceId) {
        if (self.used + 1) * 2 > self.places.len() {
            let old = std::mem::take(&mut self.places);
            self.places = vec![None; (old.len() * 2).max(8)];
            self.used = 0;
            for (key, id) in old.into_iter().flatten() {
                self.insert(key, id);
            }
        }
        let mut at = self.home(key);
        while self.places[at].is_some() {
            at = (at + 1) & (self.places.len() - 1);
        }
        self.places[at] = Some((key, id));
        self.used += 1;
    }

    #[inline]
    fn home(&self, key: u128) -> usize {
        let mixed = (key as u64 ^ (key >> 64) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed >> 32) as usize & self.places.len().wrapping_sub(1)
    }
}

#[inline]
fn wearer_key(port: PortId, vlan: Option<u16>, mac: MacAddr) -> u128 {
    u128::from(mac.to_u64())
        | u128::from(vlan.unwrap_or(0) & 0xfff) << 48
        | u128::from(port.0) << 64
}
