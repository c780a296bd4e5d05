//! Keeps from the host's own kernel what guests send, and what is tapgate's on a device that both
//! use.
//!
//! A guest's device is a device of the host's too: the kernel would answer there for the host's
//! addresses, take a guest's word for a router's, forward what it spoofs. So it is closed
//! ([`closing`]). Where a personality shares its MAC and addresses with the host, the kernel sees
//! tapgate's packets as well: it would answer them with RST or "port unreachable", and a host that
//! forwards would forward the guests' packets a second time. So it does not get them ([`sharing`]).
//! We have received all of it before, because packet sockets come before the netdev ingress hook,
//! where these rules are.
//!
//! The table belongs to a netlink socket (see [`crate::netfilter`]) whose descriptor control keeps,
//! so that the rules outlive this process, and nothing outlives both; or the rules do until tapgate
//! runs again, if the policy wants that (`on_stop`).

mod closing;
mod sharing;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use tapgate_engine::config::Config;
use tapgate_engine::config::policy::OnStop;

use crate::link::Links;
use crate::netfilter::{Netfilter, kernel};
use crate::shared::{self, Device};

/// The kernel that first let a table belong to a socket.
const OLDEST_KERNEL: (u32, u32) = (5, 12);
/// The kernel that first kept a table whose socket has gone.
const STAYS_SINCE: (u32, u32) = (6, 9);
/// How long after a failure it is tried again.
const RETRY: Duration = Duration::from_secs(10);

/// The devices with something that the kernel must not get.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Guarded {
    /// Guests' devices, by name: it gets nothing of what comes in by them.
    pub closed: Vec<String>,
    /// Devices shared with the host: it does not get what is ours.
    pub shared: Vec<Device>,
    /// It gets nothing of it when tapgate has stopped, either.
    pub stays: bool,
}

impl Guarded {
    /// Those of a configuration.
    pub fn of(config: &Config) -> Self {
        Self {
            closed: closing::devices(config),
            shared: shared::devices(config),
            stays: config.file().policy.on_stop == OnStop::Closed,
        }
    }

    fn is_empty(&self) -> bool {
        self.closed.is_empty() && self.shared.is_empty()
    }
}

/// The rules on all these devices.
#[derive(Debug, Default)]
pub struct HostGuard {
    /// From the first device on.
    netfilter: Option<Netfilter>,
    wanted: Guarded,
    closing: Option<Attempt>,
    sharing: Option<Attempt>,
}

/// Wanted devices, with the number of each that is there ([`crate::link::Link::number`]).
type Devices = Vec<(String, Option<u64>)>;

/// The last attempt to have the rules of one kind as they should be.
#[derive(Debug)]
struct Attempt {
    devices: Devices,
    result: Result<(), String>,
    at: Instant,
}

impl Attempt {
    /// Whether it was for the devices there are and succeeded, or is not `pause` ago.
    fn stands(&self, devices: &Devices, pause: Duration) -> bool {
        self.devices == *devices && (self.result.is_ok() || self.at.elapsed() < pause)
    }
}

impl HostGuard {
    /// Takes over the rules of an earlier process. They stay in force until the next
    /// [`Self::configure`], which changes them at once.
    ///
    /// # Errors
    /// The descriptor is no netlink socket's.
    pub fn adopt(&mut self, descriptor: OwnedFd) -> io::Result<()> {
        self.netfilter = Some(Netfilter::adopt(descriptor)?);
        Ok(())
    }

    /// Keeps from the kernel what is `wanted`. Devices that were closed stay so until
    /// [`Self::release`]. Returns what is the matter where the kernel refuses, and what to do; the
    /// rules are then what they were.
    pub fn configure(&mut self, wanted: Guarded, links: &Links) -> Vec<String> {
        if self.wanted.shared != wanted.shared {
            self.sharing = None;
        }
        self.wanted = wanted;
        let mut faults = Vec::new();
        if self.wanted.stays && kernel().is_some_and(|kernel| kernel < STAYS_SINCE) {
            let (major, minor) = STAYS_SINCE;
            let fault = "policy.on_stop: \"closed\" needs";
            faults.push(format!("{fault} Linux {major}.{minor} or newer: after a stop the host's kernel hears the guests"));
            self.wanted.stays = false;
        }
        let stays = self.wanted.stays;
        let before = self.netfilter.take_if(|before| before.stays() != stays);
        if before.is_some() {
            (self.closing, self.sharing) = (None, None);
        }
        if !self.wanted.is_empty() {
            self.renew(links, Duration::ZERO);
        }
        let attempts = [&self.closing, &self.sharing].into_iter().flatten();
        faults.extend(attempts.filter_map(|attempt| attempt.result.clone().err()));
        if let Some(before) = before
            && let Err(error) = before.remove()
        {
            tracing::warn!(%error, "earlier rules for the host's kernel are left");
        }
        // What stands now takes the place of what stayed of an earlier tapgate.
        if faults.is_empty()
            && let Err(error) = self.remove_left()
        {
            tracing::warn!(%error, "an earlier tapgate's rules for the host's kernel are left");
        }
        faults
    }

    /// Deletes what stayed of an earlier tapgate.
    fn remove_left(&self) -> io::Result<()> {
        match &self.netfilter {
            Some(netfilter) => netfilter.remove_left(),
            // Without nf_tables there is nothing.
            None => Netfilter::open(false).map_or(Ok(()), |netfilter| netfilter.remove_left()),
        }
    }

    /// Opens the devices that need not be closed any more, now that their ports are.
    pub fn release(&mut self, links: &Links) {
        if self.wanted.is_empty() {
            // The table goes with the socket, unless it was made to stay.
            let netfilter = self.netfilter.take().filter(Netfilter::stays);
            if let Some(Err(error)) = netfilter.map(Netfilter::remove) {
                tracing::warn!(%error, "rules for the host's kernel are left");
            }
            *self = Self::default();
        } else if let Some(netfilter) = &self.netfilter
            && let chains = closing::chains(&self.wanted.closed, links)
            && let Err(error) = closing::open_others(netfilter, &chains)
        {
            tracing::warn!(%error, "devices that are no guest's any more stay closed to the host");
        }
    }

    /// Makes the rules anew if there are other devices than before, or if the last attempt failed
    /// and some time has passed.
    pub fn follow(&mut self, links: &Links) {
        if self.wanted.is_empty() {
            return;
        }
        let fault = |attempt: &Option<Attempt>| attempt.as_ref()?.result.clone().err();
        let before = [fault(&self.closing), fault(&self.sharing)];
        if self.renew(links, RETRY) {
            self.release(links);
        }
        for (before, now) in before
            .iter()
            .zip([fault(&self.closing), fault(&self.sharing)])
        {
            if let Some(fault) = now.filter(|now| before.as_ref() != Some(now)) {
                tracing::warn!("{fault}");
            }
        }
    }

    /// What keeps the rules in force as long as it is open.
    pub fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.netfilter.as_ref().map(AsFd::as_fd)
    }

    /// Makes the rules that do not stand. Whether devices were closed.
    fn renew(&mut self, links: &Links, pause: Duration) -> bool {
        let numbered = |name: &String| (name.clone(), links.get(name).map(|link| link.number));
        let stands = |last: &Option<Attempt>, devices: &Devices| {
            last.as_ref()
                .is_some_and(|last| last.stands(devices, pause))
        };
        let closed: Devices = self.wanted.closed.iter().map(numbered).collect();
        let close = !stands(&self.closing, &closed);
        if close {
            let result = self.close(links);
            self.closing = Some(Attempt::now(closed, result));
        }
        let shared = self.wanted.shared.iter().map(|device| &device.name);
        let shared: Devices = shared.map(numbered).collect();
        if !stands(&self.sharing, &shared) {
            let result = self.share(links);
            self.sharing = Some(Attempt::now(shared, result));
        }
        close && matches!(&self.closing, Some(last) if last.result.is_ok())
    }

    fn close(&mut self, links: &Links) -> Result<(), String> {
        let harm = "the host's kernel hears its guests";
        let all = || self.wanted.closed.iter().map(|name| &**name);
        let netfilter = opened(&mut self.netfilter, self.wanted.stays)
            .map_err(|error| explained(all(), harm, &error))?;
        let chains = closing::chains(&self.wanted.closed, links);
        closing::close(netfilter, &chains)
            .map_err(|(devices, error)| explained(devices, harm, &error))
    }

    fn share(&mut self, links: &Links) -> Result<(), String> {
        let harm = "the host's kernel answers for tapgate's ports and forwards its guests' packets";
        let wanted = self.wanted.shared.iter();
        let there: Vec<_> = wanted
            .filter(|device| links.get(&device.name).is_some())
            .collect();
        if there.is_empty() && self.netfilter.is_none() {
            return Ok(());
        }
        let enforced = opened(&mut self.netfilter, self.wanted.stays)
            .and_then(|netfilter| sharing::enforce(netfilter, &there));
        let names = || self.wanted.shared.iter().map(|device| &*device.name);
        enforced.map_err(|error| explained(names(), harm, &error))
    }
}

impl Attempt {
    fn now(devices: Devices, result: Result<(), String>) -> Self {
        Self {
            devices,
            result,
            at: Instant::now(),
        }
    }
}

/// The socket that owns the table, from the first use on.
fn opened(netfilter: &mut Option<Netfilter>, stays: bool) -> io::Result<&Netfilter> {
    let opened = match netfilter.take() {
        Some(opened) => opened,
        None => Netfilter::open(stays)?,
    };
    Ok(netfilter.insert(opened))
}

/// What is the matter with these devices, and what to do about it.
fn explained<'a>(
    devices: impl IntoIterator<Item = &'a str>,
    harm: &str,
    error: &io::Error,
) -> String {
    let remedy = match error.raw_os_error() {
        Some(libc::EPERM) => "CAP_NET_ADMIN is needed".to_owned(),
        _ if kernel().is_some_and(|kernel| kernel < OLDEST_KERNEL) => {
            let (major, minor) = OLDEST_KERNEL;
            format!("Linux {major}.{minor} or newer is needed")
        }
        Some(libc::EOPNOTSUPP | libc::EPROTONOSUPPORT | libc::EAFNOSUPPORT) => {
            "load its module (modprobe nf_tables); the kernel must have CONFIG_NF_TABLES_NETDEV"
                .to_owned()
        }
        Some(libc::ENOENT) => "it is tried again every 10 s; a network's `proxy` needs \
                               CONFIG_NFT_FIB_NETDEV (modprobe nft_fib_netdev)"
            .to_owned(),
        _ => "it is tried again every 10 s".to_owned(),
    };
    let devices: Vec<&str> = devices.into_iter().collect();
    format!(
        "device {}: {harm}, for want of nf_tables rules ({error}): {remedy}",
        devices.join(", ")
    )
}
