//! Translations, compiled: which sources are translated, and which ports are redirected.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use foldhash::fast::FixedState;
use ipnet::IpNet;

use crate::base::addr::InterfaceId;
use crate::base::ip::Address;
use crate::config::PortRange;
use crate::wire::flow::Flow;

/// A source translation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snat {
    /// Source prefix.
    pub from: IpNet,
    /// The interface packets must leave by.
    pub interface: InterfaceId,
    /// The address they then wear.
    pub to: IpAddr,
    /// The external ports.
    pub ports: PortRange,
}

/// All translations of a configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Translations {
    /// In the order of the file: the first that matches counts.
    pub(crate) snat: Vec<Snat>,
    /// (address, protocol number, port) -> where it is redirected, and the personality it is for.
    pub(crate) redirects: HashMap<(IpAddr, u8, u16), (SocketAddr, InterfaceId), FixedState>,
}

impl Translations {
    /// The source translation for packets from `source` that leave by `interface`, and its place.
    pub fn snat_for(&self, source: IpAddr, interface: InterfaceId) -> Option<(usize, &Snat)> {
        self.snat
            .iter()
            .enumerate()
            .find(|(_, snat)| snat.interface == interface && snat.from.contains(&source))
    }

    /// Whether some source translation gives out this address and port.
    pub fn gives(&self, address: IpAddr, port: u16) -> bool {
        let gives = |snat: &Snat| snat.to == address && snat.ports.contains(port);
        self.snat.iter().any(gives)
    }

    /// The flow with its new destination, if it came in by `interface` and is redirected.
    #[inline]
    pub fn redirected<A: Address>(
        &self,
        flow: &Flow<A>,
        interface: InterfaceId,
    ) -> Option<Flow<A>> {
        if self.redirects.is_empty() {
            return None;
        }
        let key = (
            flow.destination.into(),
            flow.protocol,
            flow.destination_port,
        );
        let (to, _) = self
            .redirects
            .get(&key)
            .filter(|(_, personality)| *personality == interface)?;
        Some(Flow {
            destination: A::from_ip(to.ip())?,
            destination_port: to.port(),
            ..*flow
        })
    }

    /// The ports that SNAT must not give out, because they are redirected.
    pub fn reserved_ports<A: Address>(&self) -> Vec<(A, u8, u16)> {
        let keys = self.redirects.keys();
        keys.filter_map(|&(address, protocol, port)| Some((A::from_ip(address)?, protocol, port)))
            .collect()
    }
}
