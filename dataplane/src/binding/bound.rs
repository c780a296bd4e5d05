//! What is behind a port: for each kind of port, how it is opened, how it changes and what can be
//! told of it.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use ipnet::IpNet;
use tapgate_engine::addr::MacAddr;
use tapgate_engine::config::{Create, Port, PortKind};

use crate::link::{self, Change, In6AddrGenMode, Link, Links};
use crate::macs::Macs;
use crate::port::Opened;
use crate::port::device::Device;
use crate::port::memory::{self, FarEnd};
use crate::port::tap::Tap;
use crate::quiet::Quiet;
use crate::sys::packet::{PacketSocket, ReceiveMode};
use crate::sys::{netns, tap};

/// The alias of devices that we made, as `ip link` shows it: only those do we remove.
const MADE_BY_US: &str = "made by tapgate";

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
        /// If it is a guest's: what was taken from it, so that the host does not speak there.
        quiet: Option<Quiet>,
    },
    /// A TAP's queues.
    Tap(Vec<Arc<OwnedFd>>),
    /// Queues in memory: their far end, for a test.
    Memory(Arc<FarEnd>),
}

/// Opens what `port` is to be. `adopted` are the queues of its TAP that outlived an earlier
/// dataplane.
///
/// # Errors
/// It cannot be opened now; says why.
pub fn open(
    port: &Port,
    macs: &Macs,
    links: &mut Links,
    adopted: Vec<OwnedFd>,
) -> Result<(Bound, Opened), String> {
    match &port.kind {
        PortKind::Device { device, create } => {
            open_device(port, device, create.as_ref(), macs, links)
        }
        PortKind::Tap { device, netns, mac } => {
            open_tap(port, device, netns.as_deref(), *mac, adopted)
        }
        PortKind::Memory => open_memory(),
    }
}

/// Whether what is behind a port that was `old` can serve `new` as it is, without being closed and
/// opened anew.
pub fn serves(old: &Port, new: &Port) -> bool {
    match (&old.kind, &new.kind) {
        (PortKind::Device { device: old, .. }, PortKind::Device { device, .. }) => old == device,
        (was @ PortKind::Tap { .. }, is @ PortKind::Tap { .. }) => {
            was == is && old.queues == new.queues
        }
        (PortKind::Memory, PortKind::Memory) => true,
        _ => false,
    }
}

/// What a kind of port is called, and the netdev's name.
pub fn kind(port: &Port) -> (&'static str, Option<&str>) {
    match &port.kind {
        PortKind::Device { device, .. } => ("device", Some(device)),
        PortKind::Tap { device, .. } => ("tap", Some(device)),
        PortKind::Memory => ("memory", None),
    }
}

/// The netdev of a port, if it is always in our own namespace.
pub fn device(port: &Port) -> Option<&str> {
    match &port.kind {
        PortKind::Device { device, .. } => Some(device),
        PortKind::Tap { .. } | PortKind::Memory => None,
    }
}

/// The netdev of a port that is made for it when it is not there.
pub fn made(port: &Port) -> Option<&str> {
    match &port.kind {
        PortKind::Device { device, create } => create.as_ref().map(|_| &**device),
        PortKind::Tap { .. } | PortKind::Memory => None,
    }
}

/// Whether a device is of our making.
pub fn is_ours(link: &Link) -> bool {
    link.alias.as_deref() == Some(MADE_BY_US)
}

impl Bound {
    /// Has frames to `macs`, and no longer to those that were there only `before`, received.
    pub fn listen(&mut self, macs: &Macs, before: &[MacAddr]) {
        if let Self::Device { socket, mode, .. } = self {
            for mac in before.iter().filter(|mac| !macs.all.contains(mac)) {
                let _ = socket.listen(*mac, false);
            }
            *mode = macs.listen(socket, before, *mode);
        }
    }

    /// Has the host not speak on the device if it is a guest's, and else as it did before.
    pub fn keep_quiet(&mut self, port: &Port, macs: &Macs, link: Option<&Link>) {
        if let (Self::Device { quiet, .. }, PortKind::Device { device, .. }) = (self, &port.kind) {
            match link.filter(|_| !macs.uplink()) {
                Some(link) if quiet.is_none() => *quiet = Some(Quiet::keep(device, link)),
                Some(_) => {}
                None => *quiet = None,
            }
        }
    }

    /// The addresses that the host has on a guest's device.
    pub fn host_addresses(&self) -> &[IpNet] {
        match self {
            Self::Device {
                quiet: Some(quiet), ..
            } => quiet.others(),
            _ => &[],
        }
    }

    /// Gives a device of our making the MTU that its port has now.
    pub fn change_mtu(&self, port: &Port, links: &Links) {
        let device = match (&port.kind, self) {
            (PortKind::Device { device, .. }, Self::Device { .. })
                if links.get(device).is_some_and(is_ours) =>
            {
                device
            }
            (PortKind::Tap { device, netns, .. }, Self::Tap(_)) => {
                if netns.is_some() {
                    // Only its own namespace can change it now, and we may not enter that.
                    tracing::warn!(
                        device,
                        mtu = port.mtu,
                        "set the new MTU in the device's namespace"
                    );
                    return;
                }
                device
            }
            _ => return,
        };
        let change = Change {
            mtu: Some(port.mtu),
            ..Change::default()
        };
        if let Err(error) = link::change(device, &change) {
            tracing::warn!(device, %error, "cannot change the MTU");
        }
    }

    /// Whether the port's device is no longer the one that was opened. `link` is what is there now
    /// by its name.
    pub fn is_stale(&self, link: Option<&Link>) -> bool {
        match self {
            Self::Device { index, .. } => link.is_none_or(|link| link.index != *index),
            Self::Waiting(_) | Self::Tap(_) | Self::Memory(_) => false,
        }
    }

    /// Whether frames can pass. `None` while nothing is there.
    pub fn is_up(&self, link: Option<&Link>) -> Option<bool> {
        match self {
            Self::Waiting(_) => None,
            Self::Device { .. } => Some(link.is_some_and(|link| link.up && link.carrier)),
            Self::Tap(queues) => Some(queues.first().is_some_and(|queue| tap::is_up(queue))),
            Self::Memory(_) => Some(true),
        }
    }

    /// How a device gets frames to our MACs.
    pub fn receive_mode(&self) -> Option<ReceiveMode> {
        match self {
            Self::Device { mode, .. } => Some(*mode),
            Self::Waiting(_) | Self::Tap(_) | Self::Memory(_) => None,
        }
    }

    /// The descriptors that should outlive the process, in the order of their queues.
    pub fn kept(&self) -> &[Arc<OwnedFd>] {
        match self {
            Self::Tap(queues) => queues,
            Self::Waiting(_) | Self::Device { .. } | Self::Memory(_) => &[],
        }
    }

    /// The far end of queues in memory.
    pub fn far_end(&self) -> Option<&Arc<FarEnd>> {
        match self {
            Self::Memory(far) => Some(far),
            Self::Waiting(_) | Self::Device { .. } | Self::Tap(_) => None,
        }
    }
}

/// Makes the device of `port` if it is to be made and is not there. It is not set up yet.
///
/// # Errors
/// It cannot be made; says why.
pub fn make_device(port: &Port, links: &mut Links) -> Result<(), String> {
    let PortKind::Device {
        device,
        create: Some(create),
    } = &port.kind
    else {
        return Ok(());
    };
    if links.get(device).is_some() {
        return Ok(());
    }
    let owner = create.owner.as_deref().map(user_number).transpose();
    let made = owner.and_then(|owner| {
        tap::create_persistent(device, owner, create.multi_queue).map_err(|error| explained(&error))
    });
    made.map_err(|error| format!("cannot make the TAP {device}: {error}"))?;
    tracing::info!(device, "made");
    let mark = Change {
        alias: Some(MADE_BY_US),
        leave_down: true,
        ..Change::default()
    };
    link::change(device, &mark).map_err(|error| format!("cannot mark {device}: {error}"))?;
    links
        .look_at(device)
        .map_err(|error| format!("cannot look at {device}: {error}"))
}

fn open_device(
    port: &Port,
    device: &str,
    create: Option<&Create>,
    macs: &Macs,
    links: &mut Links,
) -> Result<(Bound, Opened), String> {
    if let Some(link) = links.get(device).filter(|link| is_ours(link))
        && create.is_some()
    {
        set_up(port, device, link)
            .map_err(|error| format!("cannot set up {device}: {}", explained(&error)))?;
        links
            .look_at(device)
            .map_err(|error| format!("cannot look at {device}: {error}"))?;
    }
    let link = links
        .get(device)
        .ok_or_else(|| format!("there is no device {device} yet"))?;
    let opened = Device::open(link.index, port.mtu)
        .map_err(|error| format!("cannot open device {device}: {error}"))?;
    let socket = opened.socket().clone();
    let mode = macs.listen(&socket, &[], ReceiveMode::UnicastFilter);
    let mut bound = Bound::Device {
        index: link.index,
        socket,
        mode,
        quiet: None,
    };
    bound.keep_quiet(port, macs, Some(link));
    Ok((bound, Opened::Device(opened)))
}

/// Brings a device of our making into the state it should be in.
fn set_up(port: &Port, device: &str, link: &Link) -> io::Result<()> {
    // By itself and first: the kernel sets a device up before it looks at this.
    if link.own_ipv6.is_some() {
        link::own_ipv6(link.index, In6AddrGenMode::None)?;
    }
    let change = Change {
        mtu: Some(port.mtu),
        ..Change::default()
    };
    link::change(device, &change)
}

fn open_tap(
    port: &Port,
    device: &str,
    namespace: Option<&str>,
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
        make_tap(port, device, namespace, mac)?
    };
    let queues: Vec<_> = queues.into_iter().map(Arc::new).collect();
    let opened = Opened::Tap(Tap::new(queues.clone()));
    Ok((Bound::Tap(queues), opened))
}

/// Makes a TAP and moves it to its namespace, if that is there.
fn make_tap(
    port: &Port,
    device: &str,
    namespace: Option<&str>,
    mac: Option<MacAddr>,
) -> Result<Vec<OwnedFd>, String> {
    // First: a TAP that is made to be deleted again is news to everybody who follows devices.
    let netns = namespace.map(|name| {
        netns::open(name).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => format!("there is no network namespace {name} yet"),
            io::ErrorKind::InvalidInput => format!("{name} is no network namespace yet"),
            io::ErrorKind::PermissionDenied => {
                format!("the dataplane's user may not open network namespace {name}")
            }
            _ => format!("cannot open network namespace {name}: {error}"),
        })
    });
    let netns = netns.transpose()?;
    let queues = tap::create(device, port.queues)
        .map_err(|error| format!("cannot make the TAP {device}: {}", explained(&error)))?;
    let change = Change {
        netns: netns.as_ref().map(AsFd::as_fd),
        mac,
        mtu: Some(port.mtu),
        ..Change::default()
    };
    link::change(device, &change).map_err(|error| match namespace {
        Some(name) => format!("cannot move {device} to namespace {name}: {error}"),
        None => format!("cannot set up {device}: {error}"),
    })?;
    tracing::info!(device, "made");
    Ok(queues)
}

fn open_memory() -> Result<(Bound, Opened), String> {
    let (near, far) = memory::pair().map_err(|error| format!("cannot make queues: {error}"))?;
    Ok((Bound::Memory(Arc::new(far)), Opened::Memory(near)))
}

fn explained(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::EBUSY) => "a device of this name exists".to_owned(),
        Some(libc::EPERM) => "not permitted; CAP_NET_ADMIN is needed".to_owned(),
        Some(libc::EACCES) => "the dataplane's user has no access to /dev/net/tun; \
                               `chmod 666 /dev/net/tun`, as udev does"
            .to_owned(),
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
