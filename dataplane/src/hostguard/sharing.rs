//! Rules on devices that personalities share with the host: the kernel does not get what is ours.

use std::io;
use std::net::IpAddr;

use ipnet::IpNet;

use super::closing;
use crate::netfilter::{Batch, FIRST, Header, Match, Netfilter, Verdict};
use crate::shared::{Device, Shared, disjoint, of_ports, of_prefix, without};

/// Has the kernel stop answering for what is ours on `devices`, which are there, and on no others.
///
/// Makes new chains beside those there are, and only then deletes the old ones. In one step there
/// would be a moment without rules: the kernel lets rules see the elements of a new set of intervals
/// a little after the rules themselves. A new chain comes after the old one, so that a packet which
/// finds the old one empty finds the new one at work.
///
/// # Errors
/// The kernel refuses. The rules are what they were.
pub fn enforce(netfilter: &Netfilter, devices: &[&Device]) -> io::Result<()> {
    let mut old = netfilter.chains()?;
    old.retain(|chain| !closing::is_ours(chain));
    let number = |chain: &String| chain.rsplit('.').next()?.parse::<i32>().ok();
    let last = old.iter().filter_map(number).max().unwrap_or(0);
    let next = last.saturating_add(1);

    let mut making = netfilter.batch();
    for device in devices {
        let chain = format!("{}.{next}", device.name);
        let priority = FIRST.saturating_add(next);
        making.chain(&chain, &device.name, priority, Verdict::Accept);
        let (tagged, untagged): (Vec<_>, Vec<_>) = device
            .shared
            .iter()
            .partition(|shared| shared.vlan.is_some());
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
    let mut deleting = netfilter.batch();
    for chain in &old {
        deleting.flush(chain);
        deleting.delete_chain(chain);
    }
    netfilter.commit(deleting)
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
