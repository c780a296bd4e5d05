//! A guest's device on which the host itself does not speak: it has no IPv6 link-local address
//! there, from which it would solicit routers and report groups.

use ipnet::{IpNet, Ipv6Net};

use crate::link::{self, In6AddrGenMode, Link};

/// A device whose link-local addresses were taken. They are given back when this is dropped.
#[derive(Debug)]
pub struct Quiet {
    index: u32,
    /// How the kernel made such addresses before, if that was changed.
    before: Option<In6AddrGenMode>,
    taken: Vec<Ipv6Net>,
    others: Vec<IpNet>,
}

impl Quiet {
    /// Takes the host's link-local addresses from a device, and has the kernel make no more.
    pub fn keep(device: &str, link: &Link) -> Self {
        let index = link.index;
        let told = |what: &str, error: &std::io::Error| {
            tracing::warn!(device, %error, "the host can be heard on a guest's device: {what}");
        };
        let mut quiet = Self {
            index,
            before: link.own_ipv6.filter(|mode| *mode != In6AddrGenMode::None),
            taken: Vec::new(),
            others: Vec::new(),
        };
        // First, so that none is made meanwhile.
        if quiet.before.is_some()
            && let Err(error) = link::own_ipv6(index, In6AddrGenMode::None)
        {
            told("`ip link set` cannot set addrgenmode none", &error);
            quiet.before = None;
        }
        let addresses = link::addresses(index).unwrap_or_else(|error| {
            told("its addresses cannot be listed", &error);
            Vec::new()
        });
        for address in addresses {
            match address {
                IpNet::V6(own) if own.addr().is_unicast_link_local() => {
                    match link::take_address(index, own) {
                        Ok(()) => quiet.taken.push(own),
                        Err(error) => told("a link-local address cannot be taken", &error),
                    }
                }
                other => quiet.others.push(other),
            }
        }
        quiet
    }

    /// Addresses of the host's that are not the kernel's own doing. They stay, for somebody wants
    /// them; but nobody behind the device can reach the host by them.
    pub fn others(&self) -> &[IpNet] {
        &self.others
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        // All of it fails when the device is gone, and then nothing is left to be given back.
        if let Some(mode) = self.before {
            let _ = link::own_ipv6(self.index, mode);
        }
        for address in &self.taken {
            let _ = link::give_address(self.index, *address);
        }
    }
}
