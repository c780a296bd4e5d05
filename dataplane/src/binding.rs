//! Configured ports and the devices behind them, which come and go.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use tapgate_engine::addr::{MacAddr, PortId};
use tapgate_engine::config::{Config, Create, Port, PortKind};

use crate::link::{self, Change, Link, Links};
use crate::macs::Macs;
use crate::memory::{self, MemoryPort};
use crate::port::{Egress, Ingress, Opened};
use crate::sys::packet::{self, PacketSocket, ReceiveMode};
use crate::sys::tap;

/// What `ip link` shows as alias of a device of our making: what bears it we remove.
const MADE_BY_US: &str = "made by tapgate";

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
}

/// What is behind a port.
#[derive(Debug)]
pub enum Bound {
    /// Nothing yet, and why.
    Waiting(String),
    /// A socket on a device.
    Device {
        /// The device's index.
        index: u32,
        /// The socket.
        socket: Arc<PacketSocket>,
        /// How it gets frames to our MACs.
        mode: ReceiveMode,
    },
    /// A TAP's queues.
    Tap(Vec<Arc<OwnedFd>>),
    /// The end of a pair of queues that is not ours.
    Memory(Arc<MemoryPort>),
}

impl Binding {
    /// A port of `config` that has nothing behind it yet.
    pub fn new(id: PortId, port: &Port, config: &Config) -> Self {
        Self {
            id,
            port: port.clone(),
            macs: Macs::on(port, config),
            bound: Bound::Waiting("not opened yet".to_owned()),
        }
    }

    /// Whether what is behind it serves `port` as well: nothing to be closed and opened.
    pub fn serves(&self, port: &Port) -> bool {
        match (&self.port.kind, &port.kind) {
            (PortKind::Device { device: old, .. }, PortKind::Device { device, .. }) => {
                old == device
            }
            (old @ PortKind::Tap { .. }, new @ PortKind::Tap { .. }) => {
                old == new && self.port.queues == port.queues
            }
            (PortKind::Memory, PortKind::Memory) => true,
            _ => false,
        }
    }

    /// Takes over what changed about a port that still serves.
    pub fn update(&mut self, port: &Port, config: &Config, links: &Links) {
        let before = std::mem::replace(&mut self.macs, Macs::on(port, config)).all;
        let old = std::mem::replace(&mut self.port, port.clone());
        if old.mtu != port.mtu {
            self.change_mtu(links);
        }
        if let Bound::Device { socket, mode, .. } = &mut self.bound {
            for mac in before.iter().filter(|mac| !self.macs.all.contains(mac)) {
                let _ = socket.listen(*mac, false);
            }
            *mode = self.macs.listen(socket, &before, *mode);
        }
    }

    /// Gives a device of our making the port's new MTU.
    fn change_mtu(&self, links: &Links) {
        let device = match (&self.port.kind, &self.bound) {
            (PortKind::Device { device, .. }, Bound::Device { .. })
                if links.get(device).is_some_and(is_ours) =>
            {
                device
            }
            (
                PortKind::Tap {
                    device,
                    netns: None,
                    ..
                },
                Bound::Tap(_),
            ) => device,
            (PortKind::Tap { device, .. }, Bound::Tap(_)) => {
                // Only its own namespace can change it now, and we may not enter that.
                tracing::warn!(
                    device,
                    mtu = self.port.mtu,
                    "set the new MTU in the device's namespace"
                );
                return;
            }
            _ => return,
        };
        let change = Change {
            mtu: Some(self.port.mtu),
            ..Change::default()
        };
        if let Err(error) = link::change(device, &change) {
            tracing::warn!(device, %error, "cannot change the MTU");
        }
    }

    /// Whether the device behind a bound port is no longer the one of its name.
    pub fn is_stale(&self, links: &Links) -> bool {
        match (&self.port.kind, &self.bound) {
            (PortKind::Device { device, .. }, Bound::Device { index, .. }) => {
                links.get(device).is_none_or(|link| link.index != *index)
            }
            _ => false,
        }
    }

    /// Opens a port that waits, if that can be done now. `adopted` are the queues of its TAP that
    /// outlived an earlier dataplane.
    pub fn open(&mut self, links: &mut Links, adopted: Vec<OwnedFd>) -> Option<Opened> {
        let opened = match &self.port.kind {
            PortKind::Device { device, create } => {
                open_device(&self.port, device, create.as_ref(), &self.macs, links)
            }
            PortKind::Tap { device, netns, mac } => {
                open_tap(&self.port, device, netns.as_deref(), *mac, adopted)
            }
            PortKind::Memory => open_memory(),
        };
        match opened {
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
        let PortKind::Device {
            device,
            create: Some(_),
        } = &self.port.kind
        else {
            return;
        };
        let Some(link) = links.get(device).filter(|link| is_ours(link)) else {
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
        if let Bound::Device {
            mode: ReceiveMode::Promiscuous,
            ..
        } = &self.bound
        {
            warnings.push(format!(
                "port {name}: the device cannot filter for more MACs, it is in promiscuous mode now"
            ));
        }
        if let Some(link) = self.device().and_then(|device| links.get(device)) {
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
        match &self.port.kind {
            PortKind::Device { device, .. } => Some(device),
            _ => None,
        }
    }
}

fn is_ours(link: &Link) -> bool {
    link.alias.as_deref() == Some(MADE_BY_US)
}

fn open_device(
    port: &Port,
    device: &str,
    create: Option<&Create>,
    macs: &Macs,
    links: &mut Links,
) -> Result<(Bound, Opened), String> {
    if let Some(create) = create
        && links.get(device).is_none_or(is_ours)
    {
        make_device(port, device, create, links.get(device))
            .map_err(|error| format!("cannot make the TAP {device}: {error}"))?;
        links
            .update()
            .map_err(|error| format!("cannot list devices: {error}"))?;
    }
    let index = links
        .get(device)
        .ok_or_else(|| format!("there is no device {device} yet"))?
        .index;
    let (receiver, sender) = packet::open(index, port.mtu)
        .map_err(|error| format!("cannot open device {device}: {error}"))?;
    let socket = receiver.socket().clone();
    let mode = macs.listen(&socket, &[], ReceiveMode::UnicastFilter);
    let bound = Bound::Device {
        index,
        socket,
        mode,
    };
    Ok((bound, (Ingress::Device(receiver), Egress::Device(sender))))
}

/// Makes a virtual machine's TAP, or brings one made earlier into the state it should be in.
fn make_device(
    port: &Port,
    device: &str,
    create: &Create,
    existing: Option<&Link>,
) -> Result<(), String> {
    if existing.is_none() {
        let owner = create.owner.as_deref().map(user_number).transpose()?;
        tap::create_persistent(device, owner, create.multi_queue)
            .map_err(|error| explained(&error))?;
        tracing::info!(device, "made");
    }
    let change = Change {
        mtu: Some(port.mtu),
        alias: Some(MADE_BY_US),
        no_own_ipv6: true,
        ..Change::default()
    };
    link::change(device, &change).map_err(|error| explained(&error))
}

fn open_tap(
    port: &Port,
    device: &str,
    netns: Option<&str>,
    mac: Option<MacAddr>,
    adopted: Vec<OwnedFd>,
) -> Result<(Bound, Opened), String> {
    let whole = adopted.len() == usize::from(port.queues)
        && adopted
            .iter()
            .all(|queue| tap::name_of(queue).is_ok_and(|name| name == device));
    let queues = if whole {
        // The netdev is where it was, and so is what its owner configured on it.
        adopted
    } else {
        drop(adopted);
        let queues = tap::create(device, port.queues)
            .map_err(|error| format!("cannot make the TAP {device}: {}", explained(&error)))?;
        tracing::info!(device, "made");
        let change = Change {
            netns,
            mac,
            mtu: Some(port.mtu),
            ..Change::default()
        };
        link::change(device, &change).map_err(|error| match (netns, error.kind()) {
            (Some(netns), io::ErrorKind::NotFound) => {
                format!("there is no network namespace {netns} yet")
            }
            (Some(netns), _) => format!("cannot move {device} to namespace {netns}: {error}"),
            (None, _) => format!("cannot set up {device}: {error}"),
        })?;
        queues
    };
    let queues: Vec<_> = queues.into_iter().map(Arc::new).collect();
    let first = queues.first().ok_or("a TAP without queues")?.clone();
    let opened = (Ingress::Tap(queues.clone()), Egress::Tap(first));
    Ok((Bound::Tap(queues), opened))
}

fn open_memory() -> Result<(Bound, Opened), String> {
    let (near, far) = memory::pair().map_err(|error| format!("cannot make queues: {error}"))?;
    let near = Arc::new(near);
    let opened = (Ingress::Memory(near.clone()), Egress::Memory(near));
    Ok((Bound::Memory(Arc::new(far)), opened))
}

fn explained(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::EBUSY) => "a device of this name exists".to_owned(),
        Some(libc::EPERM) => "not permitted; CAP_NET_ADMIN is needed".to_owned(),
        Some(libc::EACCES) => "no access to /dev/net/tun; see to its owner and mode".to_owned(),
        _ => error.to_string(),
    }
}

/// A user's number by name or number, from /etc/passwd.
fn user_number(user: &str) -> Result<u32, String> {
    if let Ok(number) = user.parse() {
        return Ok(number);
    }
    let users = std::fs::read_to_string("/etc/passwd").map_err(|e| format!("/etc/passwd: {e}"))?;
    users
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .find(|fields| fields.first() == Some(&user))
        .and_then(|fields| fields.get(2)?.parse().ok())
        .ok_or_else(|| format!("there is no user {user} in /etc/passwd; write the number"))
}
