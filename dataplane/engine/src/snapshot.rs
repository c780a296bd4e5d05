//! Everything configured, compiled for forwarding: immutable, shared by all workers.

use crate::addr::{InterfaceId, PortId};
use crate::config::Config;

/// A compiled configuration, numbered by generation.
#[derive(Debug)]
pub struct Snapshot {
    config: Config,
    generation: u32,
}

impl Snapshot {
    /// Compiles `config`. Ports and interfaces that `previous` knows by name keep their numbers.
    pub fn build(config: &Config, previous: Option<&Snapshot>) -> Self {
        Self {
            config: config.clone(),
            generation: previous.map_or(1, |p| p.generation + 1),
        }
    }
    /// The configuration this was compiled from.
    pub fn config(&self) -> &Config {
        &self.config
    }
    /// Counts up with every configuration; the first is 1.
    pub fn generation(&self) -> u32 {
        self.generation
    }
    /// The number of the port called `name`.
    pub fn port_id(&self, _name: &str) -> Option<PortId> {
        todo!()
    }
    /// The name of a port.
    pub fn port_name(&self, _port: PortId) -> &str {
        todo!()
    }
    /// The name of an interface.
    pub fn interface_name(&self, _interface: InterfaceId) -> &str {
        todo!()
    }
}
