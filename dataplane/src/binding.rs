//! Configured ports and the devices behind them, which come and go.

mod bound;

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use tapgate_engine::addr::PortId;
use tapgate_engine::config::Port;

use crate::link::{self, Link, Links};
use crate::macs::Macs;
use crate::port::Opened;
use crate::sys::packet::ReceiveMode;

pub use bound::Bound;

/// How long after a failure it is tried again to open a port. At once if its device has come.
const RETRY: Duration = Duration::from_secs(1);

/// A configured port.
#[derive(Debug)]
pub struct Binding {
    /// Its number, the same as in the snapshot.
    pub id: PortId,
    /// What it is to be.
    pub port: Port,
    /// The MACs of the interfaces on it.
    macs: Macs,
    /// What is behind it.
    pub bound: Bound,
    /// When it was last tried to open it, and which device was there ([`Link::number`]).
    tried: Option<(Instant, Option<u64>)>,
}

impl Binding {
    /// A port with these MACs that has nothing behind it yet.
    pub fn new(id: PortId, port: &Port, macs: Macs) -> Self {
        Self {
            id,
            port: port.clone(),
            macs,
            bound: Bound::Waiting("not opened yet".to_owned()),
            tried: None,
        }
    }

    /// Whether what is behind it can serve `port` as it is, without being closed and opened anew.
    pub fn serves(&self, port: &Port) -> bool {
        bound::serves(&self.port, port)
    }

    /// Takes over what changed about a port that still serves.
    pub fn update(&mut self, port: &Port, macs: Macs, links: &Links) {
        let before = std::mem::replace(&mut self.macs, macs).all;
        let old = std::mem::replace(&mut self.port, port.clone());
        if old.mtu != port.mtu {
            self.bound.change_mtu(&self.port, links);
        }
        self.bound.listen(&self.macs, &before);
        let link = self.link(links).cloned();
        self.bound.keep_quiet(&self.port, &self.macs, link.as_ref());
    }

    /// Whether the device behind a bound port is no longer the one of its name.
    pub fn is_stale(&self, links: &Links) -> bool {
        self.bound.is_stale(self.link(links))
    }

    /// Whether frames can pass. `None` while it waits.
    pub fn is_up(&self, links: &Links) -> Option<bool> {
        self.bound.is_up(self.link(links))
    }

    /// What the kind of port is called, and its netdev, wherever that is.
    pub fn kind(&self) -> (&'static str, Option<&str>) {
        bound::kind(&self.port)
    }

    /// Whether it waits and should be tried again. What an attempt changes about devices is itself
    /// news of devices, so they are no reason to try unless this port's own has come.
    pub fn is_due(&self, links: &Links) -> bool {
        let number = self.link(links).map(|link| link.number);
        let tried = self
            .tried
            .filter(|(at, before)| at.elapsed() < RETRY && *before == number);
        matches!(self.bound, Bound::Waiting(_)) && tried.is_none()
    }

    /// Makes the device of a port that waits, if it is to be made and is not there. It is not set up
    /// yet. Whether it can be opened then.
    pub fn make_device(&mut self, links: &mut Links) -> bool {
        let made = bound::make_device(&self.port, links);
        let number = self.link(links).map(|link| link.number);
        self.tried = Some((Instant::now(), number));
        made.map_err(|reason| self.wait(reason)).is_ok()
    }

    /// Opens a port that waits, if that can be done now. `adopted` are the queues of its TAP that
    /// outlived an earlier dataplane.
    pub fn open(&mut self, links: &mut Links, adopted: Vec<OwnedFd>) -> Option<Opened> {
        match bound::open(&self.port, &self.macs, links, adopted) {
            Ok((bound, opened)) => {
                tracing::info!(port = self.port.name, "open");
                self.bound = bound;
                Some(opened)
            }
            Err(reason) => {
                self.wait(reason);
                None
            }
        }
    }

    /// There is nothing behind it any more, or still not.
    pub fn wait(&mut self, reason: String) {
        let told = matches!(&self.bound, Bound::Waiting(before) if *before == reason);
        if !told {
            tracing::warn!(port = self.port.name, reason, "waiting");
        }
        self.bound = Bound::Waiting(reason);
    }

    /// Removes the device if it is of our making and nobody uses it.
    pub fn remove_device(&self, links: &Links) {
        let Some(device) = bound::made(&self.port) else {
            return;
        };
        let Some(link) = links.get(device).filter(|link| bound::is_ours(link)) else {
            return;
        };
        if link.carrier {
            // Deleting it would cut a running machine off for good.
            tracing::warn!(device, "left in place: a virtual machine has it open");
            return;
        }
        match link::delete(link.index) {
            Ok(()) => tracing::info!(device, "removed"),
            Err(error) => tracing::warn!(device, %error, "cannot be removed"),
        }
    }

    /// What the operator should know about it.
    pub fn warnings(&self, links: &Links) -> Vec<String> {
        let name = &self.port.name;
        let mut warnings = Vec::new();
        if let Bound::Waiting(reason) = &self.bound {
            warnings.push(format!("port {name}: {reason}; waiting"));
        }
        if self.bound.receive_mode() == Some(ReceiveMode::Promiscuous) {
            warnings.push(format!(
                "port {name}: the device cannot filter for more MACs, it is in promiscuous mode now"
            ));
        }
        let lost = self.bound.host_addresses();
        if !lost.is_empty() {
            let lost: Vec<_> = lost.iter().map(|net| net.addr().to_string()).collect();
            warnings.push(format!(
                "port {name}: the host has {} on a guest's device, but nobody there reaches it; \
                 `ip address del` it, and give the network's gateway the address if guests need it",
                lost.join(" and ")
            ));
        }
        if let Some(link) = self.link(links) {
            if link.mtu != self.port.mtu {
                warnings.push(format!(
                    "port {name}: the device's MTU is {}, the port's {}; make them the same",
                    link.mtu, self.port.mtu
                ));
            }
            if !link.up {
                warnings.push(format!(
                    "port {name}: the device is down; `ip link set {} up`",
                    self.device().unwrap_or_default()
                ));
            }
        }
        warnings
    }

    /// The netdev in our own namespace.
    pub fn device(&self) -> Option<&str> {
        bound::device(&self.port)
    }

    fn link<'a>(&self, links: &'a Links) -> Option<&'a Link> {
        links.get(self.device()?)
    }
}
