//! The MACs that are worn on a port, and how its device comes to receive for them.

use tapgate_engine::addr::MacAddr;
use tapgate_engine::config::{Config, InterfaceKind, Port};

use crate::shared::{self, Shared};
use crate::sys::packet::{PacketSocket, ReceiveMode};

/// The MACs of the interfaces on a port.
#[derive(Debug)]
pub struct Macs {
    /// All of them, one for each interface.
    pub all: Vec<MacAddr>,
    /// Whether all interfaces are personalities: the host uses the device too.
    uplink: bool,
    /// Those that the host has too.
    shared: Vec<Shared>,
}

impl Macs {
    /// Those of the interfaces that `config` has on `port`.
    pub fn on(port: &Port, config: &Config) -> Self {
        let is_it = |index: usize| config.ports()[index].name == port.name;
        let index = (0..config.ports().len()).find(|index| is_it(*index));
        let interfaces = config.interfaces().iter();
        let here: Vec<_> = interfaces
            .filter(|interface| match &interface.kind {
                InterfaceKind::Personality { port, .. } => is_it(*port),
                InterfaceKind::Network { ports, .. } => ports.iter().any(|port| is_it(*port)),
            })
            .collect();
        Self {
            shared: index.map_or_else(Vec::new, |index| shared::on_port(config, index)),
            all: here.iter().map(|interface| interface.mac).collect(),
            uplink: here.iter().all(|interface| interface.kind.is_personality()),
        }
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
