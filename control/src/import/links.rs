//! What the rules only name: the devices, which of them face the provider, and their addresses. Where
//! nobody says them, there are placeholders.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use ipnet::IpNet;

use super::firewall::{Entry, Firewall, Origin, Worn};
use super::matching::State;
use super::names;
use super::options::Options;

/// Ports of an address that the host has too, those that Linux does not hand out itself.
pub(super) const SHARED: &str = "61000-65535";

/// What is asked where nobody says who is behind a network's ports.
pub(super) const WHO: &str = "guests of one network reach each other if [guests] says which address is behind which port; --guest ADDRESS=PORT does";

/// A MAC on an uplink.
#[derive(Debug)]
pub(super) struct Personality {
    pub(super) name: String,
    /// The device that the rules name.
    pub(super) device: String,
    /// The device that its frames take.
    pub(super) nic: String,
    pub(super) vlan: Option<u16>,
    pub(super) mac: String,
    pub(super) addresses: Vec<IpNet>,
    pub(super) gateways: Vec<IpAddr>,
    /// The host has its MAC and addresses too.
    pub(super) shared: bool,
    /// What to change.
    pub(super) changes: Vec<String>,
}

/// A device towards guests.
#[derive(Debug)]
pub(super) struct Network {
    pub(super) name: String,
    pub(super) device: String,
    pub(super) ports: Vec<String>,
    pub(super) addresses: Vec<IpNet>,
    /// The NIC whose segment it is a part of, and the VLAN there.
    pub(super) bridged: Option<(String, Option<u16>)>,
    /// Addresses to answer for outside, and the personality that does.
    pub(super) proxy: Option<(String, Vec<IpNet>)>,
    pub(super) changes: Vec<String>,
}

/// What is known of who is behind a port.
#[derive(Debug, Default)]
pub(super) struct Guest {
    pub(super) mac: Option<String>,
    pub(super) addresses: Vec<IpNet>,
    pub(super) public: Vec<IpNet>,
    /// Who answers for the public ones.
    pub(super) personality: Option<String>,
    /// Where that stands.
    pub(super) origins: Vec<Origin>,
}

/// All interfaces.
#[derive(Debug, Default)]
pub(super) struct Links {
    /// The first is the one that all goes by unless something else is said.
    pub(super) personalities: Vec<Personality>,
    pub(super) networks: Vec<Network>,
    /// All devices' names.
    pub(super) all: BTreeSet<String>,
    /// Those that face the provider.
    pub(super) uplinks: BTreeSet<String>,
    /// Guests by the device that they are behind.
    pub(super) guests: BTreeMap<String, Guest>,
    /// The device behind which the guest is that has an address or a prefix.
    pub(super) owned: HashMap<IpNet, String>,
    /// Largest packets of devices where it is not 1500 bytes.
    pub(super) mtus: BTreeMap<String, u32>,
    /// The system's routes were read, and so its gateways.
    pub(super) routed: bool,
}

impl Links {
    /// Sorts a firewall's devices.
    pub(super) fn new(firewall: &Firewall, options: &Options) -> Self {
        let mut links = Self::default();
        let mut uplinks: Vec<(String, Option<String>)> = options.uplinks.clone();
        if uplinks.is_empty() {
            let found = match firewall.uplinks.is_empty() {
                true => facing(firewall),
                false => firewall.uplinks.clone(),
            };
            uplinks = found.into_iter().map(|device| (device, None)).collect();
        }
        let said = !options.uplinks.is_empty();
        let unknown = uplinks.is_empty();
        if unknown {
            uplinks.push(("uplink0".to_owned(), None));
        }
        for (device, nic) in uplinks {
            if links.uplinks.insert(device.clone()) {
                links.personality(&device, nic.as_deref(), options);
            }
        }
        if !said {
            for personality in &mut links.personalities[1..] {
                personality.shared = false;
            }
        }
        if unknown {
            let why = "the rules do not tell which device faces the provider; --uplink does";
            links.personalities[0].changes.push(why.to_owned());
        }
        for device in &firewall.devices {
            let is_nic = links.personalities.iter().any(|p| p.nic == *device);
            if !links.uplinks.contains(device) && !is_nic {
                links.network(device, options);
            }
        }
        for (address, port) in &options.guests {
            let guest = links.guests.entry(port.clone()).or_default();
            guest.addresses.push((*address).into());
        }
        links.all = links.uplinks.clone();
        links
            .all
            .extend(links.networks.iter().map(|n| n.device.clone()));
        links
    }

    /// The first personality of a device.
    pub(super) fn of(&self, device: &str) -> Option<usize> {
        self.personalities.iter().position(|p| p.device == device)
    }

    /// The personality that has an address.
    pub(super) fn owner(&self, address: IpAddr) -> Option<usize> {
        let mut all = self.personalities.iter();
        all.position(|p| p.addresses.iter().any(|net| net.addr() == address))
    }

    /// Gives a personality an address, unless one has it already; who has it.
    pub(super) fn give(&mut self, address: IpAddr, personality: usize) -> usize {
        self.owner(address).unwrap_or_else(|| {
            self.personalities[personality]
                .addresses
                .push(address.into());
            personality
        })
    }

    /// Another personality on the link of one that is shared with the host.
    pub(super) fn beside(&mut self, personality: usize, address: IpAddr) -> usize {
        let like = &self.personalities[personality];
        let count = self.personalities.len();
        let another = Personality {
            name: self.free(&format!("{}-{}", like.name, count + 1)),
            device: like.device.clone(),
            nic: like.nic.clone(),
            vlan: like.vlan,
            mac: placeholder_mac(count),
            addresses: vec![address.into()],
            gateways: like.gateways.clone(),
            shared: false,
            changes: vec![format!(
                "a MAC of its own that the provider lets in with {address}"
            )],
        };
        self.personalities.push(another);
        count
    }

    /// What the rules call a device, by the names that it has in the file.
    pub(super) fn interfaces(&self, device: &str) -> Vec<String> {
        let personalities = self.personalities.iter().filter(|p| p.device == device);
        let networks = self.networks.iter().filter(|n| n.device == device);
        let names = personalities
            .map(|p| &p.name)
            .chain(networks.map(|n| &n.name));
        names.cloned().collect()
    }

    /// The prefixes of a network.
    pub(super) fn prefixes(&self, device: &str) -> Vec<IpNet> {
        let network = self.networks.iter().find(|n| n.device == device);
        let nets = network.map(|n| n.addresses.as_slice()).unwrap_or_default();
        nets.iter().map(IpNet::trunc).collect()
    }

    /// Gives personalities that have none an address and a gateway, to be changed.
    pub(super) fn complete_personalities(&mut self) {
        for (n, personality) in (0_u8..).zip(&mut self.personalities) {
            if personality.addresses.is_empty() {
                let address = IpAddr::from([192, 0, 2, 1 + n % 200]);
                personality.addresses.push(address.into());
                personality
                    .changes
                    .push("its address; --address says it".to_owned());
            }
            if personality.gateways.is_empty() && !self.routed {
                personality.gateways.push(IpAddr::from([192, 0, 2, 254]));
                personality
                    .changes
                    .push("the provider's gateway; --gateway says it".to_owned());
            }
        }
    }

    /// Gives networks that have none an address, to be changed.
    pub(super) fn complete_networks(&mut self, firewall: &Firewall) {
        let guessed = match &self.networks[..] {
            [_] => firewall.snat.iter().find_map(|entry| {
                let is_segment =
                    |net: &&IpNet| (16..=30).contains(&net.prefix_len()) && net.addr().is_ipv4();
                entry
                    .when
                    .source
                    .within
                    .as_ref()?
                    .iter()
                    .find(is_segment)
                    .copied()
            }),
            _ => None,
        };
        for (n, network) in (0_u16..).zip(&mut self.networks) {
            if !network.addresses.is_empty() || network.bridged.is_some() {
                continue;
            }
            let prefix = guessed.or_else(|| {
                let [high, low] = n.to_be_bytes();
                IpNet::new([10, 250_u8.saturating_add(high.min(5)), low, 0].into(), 24).ok()
            });
            let router =
                prefix.and_then(|net| IpNet::new(net.hosts().next()?, net.prefix_len()).ok());
            network.addresses.extend(router);
            let what = format!(
                "the router's address there; --address {}=… says it",
                network.device
            );
            network.changes.push(what);
        }
    }

    fn personality(&mut self, device: &str, nic: Option<&str>, options: &Options) {
        let n = self.personalities.len();
        let own = |of: &Option<String>| match of {
            Some(of) => of == device,
            None => n == 0,
        };
        let mut changes = Vec::new();
        let said = options.macs.iter().find(|(of, _)| own(of));
        let mac = said.map_or_else(|| placeholder_mac(n), |(_, mac)| mac.clone());
        if said.is_none() {
            changes.push(format!("the MAC of {device}; --mac says it"));
        }
        let nic = nic.unwrap_or(device);
        let vlan = device
            .strip_prefix(nic)
            .and_then(|rest| rest.strip_prefix('.'));
        let addresses = options.addresses.iter().filter(|(of, _)| own(of));
        self.personalities.push(Personality {
            name: self.free(device),
            device: device.to_owned(),
            nic: nic.to_owned(),
            vlan: vlan.and_then(|vlan| vlan.parse().ok()),
            mac,
            addresses: addresses.map(|(_, net)| *net).collect(),
            gateways: options.gateways.clone(),
            shared: nic == device,
            changes,
        });
    }

    fn network(&mut self, device: &str, options: &Options) {
        let said = options.ports.iter().find(|(of, _)| of == device);
        let addresses = options.addresses.iter();
        let addresses = addresses.filter(|(of, _)| of.as_deref() == Some(device));
        let mut changes = Vec::new();
        let ports = match said {
            Some((_, ports)) => ports.clone(),
            None => {
                let why = format!(
                    "if {device} is a bridge, its ports, one for each guest; --ports {device}=… says them"
                );
                changes.push(why);
                vec![device.to_owned()]
            }
        };
        let said = |port: &String| options.guests.iter().any(|(_, behind)| behind == port);
        if ports.len() > 1 && !ports.iter().any(said) {
            changes.push(WHO.to_owned());
        }
        let network = Network {
            name: self.free(device),
            device: device.to_owned(),
            ports,
            addresses: addresses.map(|(_, net)| *net).collect(),
            bridged: None,
            proxy: None,
            changes,
        };
        self.networks.push(network);
    }

    /// A name for a device that nothing has yet.
    pub(super) fn free(&self, device: &str) -> String {
        names::free(device, |name| {
            self.personalities.iter().any(|p| p.name == name)
                || self.networks.iter().any(|n| n.name == name)
        })
    }
}

fn placeholder_mac(n: usize) -> String {
    let [.., high, low] = n.wrapping_add(1).to_be_bytes();
    format!("02:00:00:00:{high:02x}:{low:02x}")
}

/// Devices that translations face: those that sources are translated at, and redirected flows come by.
fn facing(firewall: &Firewall) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let mut inside: BTreeSet<String> = BTreeSet::new();
    // Where an address is that of the device, the device is the host's.
    for entry in &firewall.snat {
        if matches!(entry.worn, Worn::Device { .. }) && entry.when.state != State::Redirected {
            found.extend(entry.when.to.within.iter().flatten().cloned());
        }
    }
    for entry in &firewall.snat {
        inside.extend(entry.when.to.except.iter().cloned());
        let redirected = entry.when.state == State::Redirected;
        if entry.worn != Worn::Own && !redirected {
            found.extend(entry.when.to.within.iter().flatten().cloned());
        }
    }
    for (.., device, _) in &firewall.one_to_one {
        found.push(device.clone());
    }
    // What guests send may be redirected too: those devices tell something only where no others do.
    let translated = !found.is_empty();
    for entry in &firewall.dnat {
        inside.extend(entry.when.from.except.iter().cloned());
        if !translated {
            found.extend(entry.when.from.within.iter().flatten().cloned());
        }
    }
    let mut uplinks = Vec::new();
    for device in found {
        if !inside.contains(&device) && !uplinks.contains(&device) {
            uplinks.push(device);
        }
    }
    // A rule that is for all but one device, and no translation: that one is the way out.
    if uplinks.is_empty() && firewall.snat.is_empty() && firewall.dnat.is_empty() {
        for entry in &firewall.rules {
            if let Entry::Rule(rule) = entry {
                uplinks.extend(rule.when.from.except.iter().cloned());
            }
        }
        uplinks.dedup();
        uplinks.truncate(1);
    }
    uplinks
}
