//! The MACs that are worn on a port, and how its device comes to receive for them.

use tapgate_engine::addr::MacAddr;
use tapgate_engine::config::{Config, Guest, Interface, InterfaceKind};

use crate::shared::{self, Shared};
use crate::sys::packet::{PacketSocket, ReceiveMode};

/// The MACs of the interfaces on a port.
#[derive(Debug)]
pub struct Macs {
    /// All of them, one for each interface, and those of guests that are bridged to an uplink.
    pub all: Vec<MacAddr>,
    /// Whether guests are bridged from it: they send to the MACs of all on their segment.
    bridged: bool,
    /// Whether all interfaces are personalities: the host uses the device too.
    uplink: bool,
    /// Those that the host has too.
    shared: Vec<Shared>,
}

impl Macs {
    /// Those of the interfaces that `config` has on each of its ports.
    pub fn of_ports(config: &Config) -> Vec<Self> {
        let mut here: Vec<Vec<&Interface>> = vec![Vec::new(); config.ports().len()];
        for interface in config.interfaces() {
            match &interface.kind {
                InterfaceKind::Personality { port, .. } => here[*port].push(interface),
                InterfaceKind::Network { ports, .. } => {
                    ports.iter().for_each(|port| here[*port].push(interface));
                }
            }
        }
        let of_port = |(index, here): (usize, Vec<&Interface>)| {
            let uplink = here.iter().all(|interface| interface.kind.is_personality());
            let routed = here.iter().filter(|i| i.kind.bridged().is_none());
            let macs = routed.map(|interface| interface.mac);
            let is_beyond = |guest: &&Guest| {
                let segment = config.interfaces()[guest.network].kind.bridged();
                segment.is_some_and(|segment| segment.port == index)
            };
            let guests = config.guests().iter().filter(is_beyond);
            let beyond = guests.filter_map(|guest| guest.mac);
            Self {
                bridged: here.iter().any(|i| i.kind.bridged().is_some()),
                shared: match uplink {
                    true => shared::on_port(config, index),
                    false => Vec::new(),
                },
                all: macs.chain(beyond).collect(),
                uplink,
            }
        };
        here.into_iter().enumerate().map(of_port).collect()
    }

    /// Whether all interfaces of the port are personalities, or there are none.
    pub fn uplink(&self) -> bool {
        self.uplink
    }

    /// Has the device receive for the MACs that were not there `before`, or all of the link if it
    /// cannot pick them.
    pub fn listen(
        &self,
        socket: &PacketSocket,
        before: &[MacAddr],
        mode: ReceiveMode,
    ) -> ReceiveMode {
        let shared = |mac: &MacAddr| self.shared.iter().any(|shared| shared.mac == *mac);
        let ours: Vec<_> = self
            .all
            .iter()
            .copied()
            .filter(|mac| !shared(mac))
            .collect();
        if let Err(error) = socket.only(self.uplink.then_some(&ours), &self.shared) {
            tracing::warn!(%error, "no socket filter: the host's own traffic is received and dropped");
        }
        if mode == ReceiveMode::Promiscuous {
            return mode;
        }
        if self.bridged {
            if let Err(error) = socket.listen_to_all() {
                tracing::error!(%error, "no promiscuous mode: what bridged guests send may not arrive");
            }
            return ReceiveMode::Promiscuous;
        }
        for mac in self.all.iter().filter(|mac| !before.contains(mac)) {
            if let Err(refused) = socket.listen(*mac, true) {
                tracing::warn!(%mac, error = %refused, "no unicast filter: promiscuous mode");
                if let Err(error) = socket.listen_to_all() {
                    tracing::error!(%error, "no promiscuous mode either");
                }
                return ReceiveMode::Promiscuous;
            }
        }
        mode
    }
}
