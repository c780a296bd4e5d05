//! What the operator says on the command line and rules do not.

use std::net::IpAddr;

use ipnet::IpNet;
use tapgate_engine::addr::MacAddr;

use crate::cli::Import;
use crate::failure::{Code, Failure};

/// What the operator says that rules do not.
#[derive(Debug, Clone, Default)]
pub(super) struct Options {
    /// Devices towards the provider, and the NIC under each that is none itself.
    pub(super) uplinks: Vec<(String, Option<String>)>,
    /// Addresses by device; of the first uplink where none is named.
    pub(super) addresses: Vec<(Option<String>, IpNet)>,
    /// MACs by device, likewise.
    pub(super) macs: Vec<(Option<String>, String)>,
    pub(super) gateways: Vec<IpAddr>,
    /// A network's ports, by the device that the rules name.
    pub(super) ports: Vec<(String, Vec<String>)>,
    /// Guests' addresses, each with the device that it is behind.
    pub(super) guests: Vec<(IpAddr, String)>,
}

/// Reads them from the command line.
///
/// # Errors
/// One is not right.
pub(super) fn options(import: &Import) -> Result<Options, Failure> {
    let wrong = |what: &str, text: &str, like: &str| {
        Failure::with(
            Code::Refused,
            format!("{what} {text} is not right; write it as in {like}"),
        )
    };
    let mut options = Options {
        gateways: import.gateway.clone(),
        ..Options::default()
    };
    for text in &import.uplink {
        options.uplinks.push(match text.split_once('@') {
            Some((device, nic)) => (device.to_owned(), Some(nic.to_owned())),
            None => (text.clone(), None),
        });
    }
    let split = |text: &str| match text.split_once('=') {
        Some((device, value)) => (Some(device.to_owned()), value.to_owned()),
        None => (None, text.to_owned()),
    };
    for text in &import.address {
        let (device, address) = split(text);
        let net = address
            .parse::<IpNet>()
            .or_else(|_| address.parse::<IpAddr>().map(IpNet::from));
        let net =
            net.map_err(|_| wrong("--address", text, "198.51.100.7/24 or br0=192.168.1.254/24"))?;
        options.addresses.push((device, net));
    }
    for text in &import.mac {
        let (device, mac) = split(text);
        if mac.parse::<MacAddr>().is_err() {
            return Err(wrong(
                "--mac",
                text,
                "02:00:00:00:00:01 or eth1=02:00:00:00:00:02",
            ));
        }
        options.macs.push((device, mac));
    }
    for text in &import.ports {
        let (Some(device), ports) = split(text) else {
            return Err(wrong("--ports", text, "br0=tap-a,tap-b"));
        };
        let ports = ports.split(',').filter(|port| !port.is_empty());
        options
            .ports
            .push((device, ports.map(str::to_owned).collect()));
    }
    for text in &import.guest {
        let guest = split(text);
        let address = guest.0.and_then(|address| address.parse().ok());
        let address = address.ok_or_else(|| wrong("--guest", text, "192.168.1.1=tap-a"))?;
        options.guests.push((address, guest.1));
    }
    Ok(options)
}
