//! Keeps the host's own kernel quiet about what is tapgate's on a device that both use.
//!
//! Where a personality shares its MAC and addresses with the host, the kernel sees tapgate's packets
//! as well: it would answer them with RST or "port unreachable", and a host that forwards would
//! forward the guests' packets a second time. Rules on the device drop them for the kernel; we have
//! received them before, because packet sockets come before the netdev ingress hook.
//!
//! The table belongs to a netlink socket (see [`crate::netfilter`]) whose descriptor control keeps,
//! so that the rules outlive this process, and nothing outlives both.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use rustix::system::uname;

use crate::link::Links;
use crate::netfilter::{Batch, Header, Match, Netfilter, Verdict};
use crate::shared::{Device, Shared, disjoint, of_ports, of_prefix, without};

/// The kernel that first let a table belong to a socket.
const OLDEST_KERNEL: (u32, u32) = (5, 12);
/// How long after a failure it is tried again.
const RETRY: Duration = Duration::from_secs(10);
/// Where the first chain is among those of others on the same device: before them.
const PRIORITY: i32 = -1_000_000;

/// The rules on all shared devices.
#[derive(Debug, Default)]
pub struct HostGuard {
    /// From the first shared device on.
    netfilter: Option<Netfilter>,
    devices: Vec<Device>,
    last: Option<Attempt>,
}

/// The last attempt to have the rules as they should be.
#[derive(Debug)]
struct Attempt {
    /// The device and its index of each chain.
    chains: Vec<(String, u32)>,
    result: Result<(), String>,
    at: Instant,
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

    /// Has the kernel stop answering for what is ours on `devices`, as far as they are there, and
    /// on no others.
    ///
    /// # Errors
    /// The kernel refuses: what is the matter and what to do. The rules are what they were.
    pub fn configure(&mut self, devices: Vec<Device>, links: &Links) -> Result<(), String> {
        let same = self.devices == devices;
        self.devices = devices;
        if self.devices.is_empty() {
            // The table goes with the socket.
            self.netfilter = None;
        }
        if same && self.stands(links, Duration::ZERO) {
            return Ok(());
        }
        self.enforce(links)
    }

    /// Makes the rules anew if there are other devices than before, if the last attempt failed and
    /// some time has passed, or if a device was opened again (`anew`).
    pub fn follow(&mut self, links: &Links, anew: bool) {
        if !anew && self.stands(links, RETRY) {
            return;
        }
        let before = self.last.take().and_then(|last| last.result.err());
        if let Err(fault) = self.enforce(links)
            && before.as_ref() != Some(&fault)
        {
            tracing::warn!("{fault}");
        }
    }

    /// Whether rules are wanted on the device of this name.
    pub fn guards(&self, device: &str) -> bool {
        self.devices.iter().any(|guarded| guarded.name == device)
    }

    /// What keeps the rules in force as long as it is open.
    pub fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.netfilter.as_ref().map(AsFd::as_fd)
    }

    /// Whether the last attempt was for the devices there are and succeeded, or is not `pause` ago.
    fn stands(&self, links: &Links, pause: Duration) -> bool {
        self.last.as_ref().is_some_and(|last| {
            last.chains == self.chains(links) && (last.result.is_ok() || last.at.elapsed() < pause)
        })
    }

    /// The device and its index of each chain there should be.
    fn chains(&self, links: &Links) -> Vec<(String, u32)> {
        let index = |device: &Device| Some((device.name.clone(), links.get(&device.name)?.index));
        self.devices.iter().filter_map(index).collect()
    }

    fn enforce(&mut self, links: &Links) -> Result<(), String> {
        let chains = self.chains(links);
        let result = match self.devices.is_empty() {
            true => Ok(()),
            false => self.commit(&chains).map_err(|error| self.explained(&error)),
        };
        self.last = Some(Attempt {
            chains,
            result: result.clone(),
            at: Instant::now(),
        });
        result
    }

    /// Makes new chains beside those there are, and only then deletes the old ones. In one step
    /// there would be a moment without rules: the kernel lets rules see the elements of a new set
    /// of intervals a little after the rules themselves. A new chain comes after the old one, so
    /// that a packet which finds the old one empty finds the new one at work.
    fn commit(&mut self, chains: &[(String, u32)]) -> io::Result<()> {
        let netfilter = match self.netfilter.take() {
            Some(netfilter) => netfilter,
            None => Netfilter::open()?,
        };
        let netfilter = self.netfilter.insert(netfilter);
        let old = netfilter.chains()?;
        let number = |chain: &String| chain.rsplit('.').next()?.parse::<i32>().ok();
        let last = old.iter().filter_map(number).max().unwrap_or(0);
        let next = last.saturating_add(1);

        let mut making = Batch::new(netfilter.table());
        for (device, _) in chains {
            let chain = format!("{device}.{next}");
            making.chain(&chain, device, PRIORITY.saturating_add(next));
            let guarded = self.devices.iter().find(|guarded| guarded.name == *device);
            let shared = guarded.iter().flat_map(|guarded| &guarded.shared);
            let (tagged, untagged): (Vec<_>, Vec<_>) = shared.partition(|s| s.vlan.is_some());
            for shared in tagged {
                add_rules(&mut making, &chain, shared);
            }
            let others = [Match::Ethernet, Match::InVlan];
            making.rule(&chain, &others, Verdict::Accept);
            for shared in untagged {
                add_rules(&mut making, &chain, shared);
            }
        }
        netfilter.commit(making)?;
        if old.is_empty() {
            return Ok(());
        }
        let mut deleting = Batch::new(netfilter.table());
        for chain in &old {
            deleting.flush(chain);
            deleting.delete_chain(chain);
        }
        netfilter.commit(deleting)
    }

    fn explained(&self, error: &io::Error) -> String {
        let names: Vec<_> = self.devices.iter().map(|device| &*device.name).collect();
        let remedy = match error.raw_os_error() {
            Some(libc::EPERM) => "CAP_NET_ADMIN is needed".to_owned(),
            _ if kernel().is_some_and(|kernel| kernel < OLDEST_KERNEL) => format!(
                "Linux {}.{} or newer is needed; give the personality a MAC and an address of its \
                 own, without `shared`",
                OLDEST_KERNEL.0, OLDEST_KERNEL.1
            ),
            Some(libc::EOPNOTSUPP | libc::EPROTONOSUPPORT | libc::EAFNOSUPPORT) => {
                "load its module (modprobe nf_tables); the kernel must have CONFIG_NF_TABLES_NETDEV"
                    .to_owned()
            }
            Some(libc::ENOENT) => {
                "it is tried again every 10 s; a network's `proxy` needs CONFIG_NFT_FIB_NETDEV                  (modprobe nft_fib_netdev)"
                    .to_owned()
            }
            _ => "it is tried again every 10 s".to_owned(),
        };
        format!(
            "device {}: the host's kernel answers for tapgate's ports and forwards its guests' \
             packets, for want of nf_tables rules ({error}): {remedy}",
            names.join(", ")
        )
    }
}

fn kernel() -> Option<(u32, u32)> {
    let name = uname();
    let mut numbers = name.release().to_str().ok()?.split(['.', '-']);
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn add_rules(batch: &mut Batch, chain: &str, shared: &Shared) {
    for own in &shared.addresses {
        for (protocol, ports) in own.ports() {
            let ports = disjoint(ports.iter().map(of_ports));
            if ports.is_empty() {
                continue;
            }
            let port = Match::In {
                header: Header::Transport,
                offset: 2,
                length: 2,
                intervals: &ports,
            };
            let protocol = Match::Transport(protocol);
            match own.address {
                IpAddr::V4(address) => {
                    let to = Match::Bytes {
                        header: Header::Network,
                        offset: 16,
                        value: &address.octets(),
                        mask: None,
                    };
                    drop_if(batch, chain, shared, IPV4, [to, protocol, port]);
                }
                IpAddr::V6(address) => {
                    let to = Match::Bytes {
                        header: Header::Network,
                        offset: 24,
                        value: &address.octets(),
                        mask: None,
                    };
                    drop_if(batch, chain, shared, IPV6, [to, protocol, port]);
                }
            }
        }
    }
    for (ethertype, offset, length) in [(IPV4, 16, 4), (IPV6, 24, 16)] {
        let family = |prefix: &&IpNet| (prefix.max_prefix_len() == 32) == (length == 4);
        let to = |intervals| Match::In {
            header: Header::Network,
            offset,
            length,
            intervals,
        };
        // The host's own address may lie in a guest's prefix.
        let own = shared.addresses.iter().map(|own| IpNet::from(own.address));
        let own = own.filter(|own| family(&own)).map(|own| of_prefix(&own).0);
        let guests = shared.guests.iter().filter(family).map(of_prefix);
        let guests = without(disjoint(guests), own);
        if !guests.is_empty() {
            drop_if(batch, chain, shared, ethertype, [to(&guests)]);
        }
        let alive = disjoint(shared.alive.iter().filter(family).map(of_prefix));
        if !alive.is_empty() {
            let matches = [to(&alive), Match::NotForHost];
            drop_if(batch, chain, shared, ethertype, matches);
        }
    }
}

const IPV4: [u8; 2] = [0x08, 0x00];
const IPV6: [u8; 2] = [0x86, 0xdd];

/// Drops packets to the shared MAC, in its VLAN, for which all of `matches` hold.
fn drop_if<const N: usize>(
    batch: &mut Batch,
    chain: &str,
    shared: &Shared,
    ethertype: [u8; 2],
    matches: [Match<'_>; N],
) {
    let link = |offset, value, mask| Match::Bytes {
        header: Header::Link,
        offset,
        value,
        mask,
    };
    let mut all = vec![Match::Ethernet, link(0, &shared.mac.0[..], None)];
    let tag = shared.vlan.map(u16::to_be_bytes);
    if let Some(tag) = &tag {
        all.push(link(12, &[0x81, 0x00], None));
        all.push(link(14, tag, Some(&[0x0f, 0xff])));
    }
    all.push(Match::Network(ethertype));
    all.extend(matches);
    batch.rule(chain, &all, Verdict::Drop);
}
