//! Guests' devices, closed to the host's kernel: it gets nothing of what comes in by them, whatever
//! it is. A chain without rules for each device, whose policy is to drop.

use std::collections::HashSet;
use std::io;

use tapgate_engine::config::{Config, InterfaceKind, Port, PortKind};

use crate::link::Links;
use crate::netfilter::{FIRST, Netfilter, Verdict, kernel};

/// The kernel that first hooks a chain to the device of a name when one comes, before it can be up.
/// Older ones want the device to be there, and the chain goes with it.
const FOLLOWS_NAMES: (u32, u32) = (6, 16);
/// Stands behind the device's name in a chain's name. No device has it in its own.
const MARK: &str = "/closed";

/// A chain by its name, and the device that it closes.
pub type Chain<'a> = (String, &'a str);

/// The devices of guests' ports, by name. The netdev of a `tap` port is not among them: what comes
/// in by that is what we send to its owner.
pub fn devices(config: &Config) -> Vec<String> {
    let networks = config.interfaces().iter();
    let ports = networks.filter_map(|interface| match &interface.kind {
        InterfaceKind::Network { ports, .. } => Some(ports),
        InterfaceKind::Personality { .. } => None,
    });
    let guests: HashSet<usize> = ports.flatten().copied().collect();
    let ports = config.ports().iter().enumerate();
    let device = |(index, port): (usize, &Port)| match &port.kind {
        PortKind::Device { device, .. } if guests.contains(&index) => Some(device.clone()),
        _ => None,
    };
    ports.filter_map(device).collect()
}

/// The chains that close `devices`: of those that are there, or of all where the kernel hooks them
/// to a device when it comes.
pub fn chains<'a>(devices: &'a [String], links: &Links) -> Vec<Chain<'a>> {
    let follows_names = kernel().is_some_and(|kernel| kernel >= FOLLOWS_NAMES);
    let name = |device: &String| match links.get(device) {
        _ if follows_names => Some(format!("{device}{MARK}")),
        // An older kernel leaves a chain with a device that is renamed, and another may get the
        // name: so the index is told as well.
        Some(link) => Some(format!("{device}{MARK}-{}", link.index)),
        None => None,
    };
    let chain = |device: &'a String| Some((name(device)?, &**device));
    devices.iter().filter_map(chain).collect()
}

/// Whether a chain is one that closes a device.
pub fn is_ours(chain: &str) -> bool {
    chain.contains(MARK)
}

/// Makes those of `chains` that are not there.
///
/// # Errors
/// Which devices are not closed, and why. All others are.
pub fn close<'a>(
    netfilter: &Netfilter,
    chains: &[Chain<'a>],
) -> Result<(), (Vec<&'a str>, io::Error)> {
    let names = |chains: &[&Chain<'a>]| chains.iter().map(|(_, device)| *device).collect();
    let there = match netfilter.chains() {
        Ok(there) => HashSet::<String>::from_iter(there),
        Err(error) => return Err((names(&chains.iter().collect::<Vec<_>>()), error)),
    };
    let missing = chains.iter().filter(|(chain, _)| !there.contains(chain));
    let missing: Vec<_> = missing.collect();
    if make(netfilter, &missing).is_ok() {
        return Ok(());
    }
    // A device that has just gone, or is of a kind without ingress, must not keep the others open.
    let refused = missing.into_iter().filter_map(|one| {
        let error = make(netfilter, &[one]).err()?;
        Some((one, error))
    });
    let (refused, errors): (Vec<_>, Vec<_>) = refused.unzip();
    match errors.into_iter().next() {
        Some(error) => Err((names(&refused), error)),
        None => Ok(()),
    }
}

/// Makes all of `chains` or none. Even if there are none there is a table then, and a descriptor to
/// be kept.
fn make(netfilter: &Netfilter, chains: &[&Chain<'_>]) -> io::Result<()> {
    let mut making = netfilter.batch();
    for (chain, device) in chains {
        making.chain(chain, device, FIRST, Verdict::Drop);
    }
    netfilter.commit(making)
}

/// Opens all devices but those of `chains`.
///
/// # Errors
/// The kernel refuses: nothing is opened.
pub fn open_others(netfilter: &Netfilter, chains: &[Chain<'_>]) -> io::Result<()> {
    let there = netfilter.chains()?;
    let stay: HashSet<&str> = chains.iter().map(|(chain, _)| &**chain).collect();
    let goes = |chain: &&String| is_ours(chain) && !stay.contains(&***chain);
    let go: Vec<_> = there.iter().filter(goes).collect();
    if go.is_empty() {
        return Ok(());
    }
    let mut deleting = netfilter.batch();
    for chain in go {
        deleting.delete_chain(chain);
    }
    netfilter.commit(deleting)
}
