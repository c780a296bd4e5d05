//! Stations around the router, which answer ARP and neighbour solicitations and do nothing else.

use std::net::{IpAddr, Ipv4Addr};

use tapgate_engine::addr::MacAddr;

use super::{Router, mac_of};
use crate::nd;
use crate::packet::{Arp, tagged};

/// A station that answers ARP for its address.
#[derive(Debug, Clone)]
pub(super) struct Station {
    port: String,
    vlan: Option<u16>,
    address: Ipv4Addr,
    mac: MacAddr,
}

impl Router {
    /// Puts a station on a port that answers ARP for its address from now on.
    pub fn station(&mut self, port: &str, vlan: Option<u16>, address: &str, mac: MacAddr) {
        self.stations.push(Station {
            port: port.to_owned(),
            vlan,
            address: address.parse().expect("an address"),
            mac,
        });
    }

    /// Where everybody answers, `address` does so on this port alone from now on; on one that there is not,
    /// it does so nowhere.
    pub fn lives_on(&mut self, address: IpAddr, port: &str) {
        self.homes.insert(address, port.to_owned());
    }

    /// It may do so on any port.
    pub fn lives_anywhere(&mut self, address: IpAddr) {
        self.homes.remove(&address);
    }

    fn answers_on(&self, address: IpAddr, port: &str) -> bool {
        let home = self.homes.get(&address);
        self.everybody_answers && home.is_none_or(|home| home == port)
    }

    /// What the stations answer to a frame that left.
    pub(super) fn answer(&mut self, port: &str, vlan: Option<u16>, bytes: &[u8]) {
        if let Some((asker, asked, mac)) = nd::solicited(bytes)
            && self.answers_on(asked.into(), port)
            && asker != asked
            // Nobody has the addresses that the router wants.
            && !asker.is_unspecified()
        {
            let [.., a, b, c, d] = asked.octets();
            let own = MacAddr([6, 6, a, b, c, d]);
            let reply = nd::advertisement((asked, own), (asker, mac));
            self.answers
                .push_back((port.to_owned(), tagged(&reply, vlan)));
        }
        let Some(arp) = Arp::parse(bytes).filter(|arp| arp.operation == 1) else {
            return;
        };
        let (asked, own) = (arp.target.1, arp.sender.1);
        let station = self.stations.iter().find(|station| {
            station.port == port && station.vlan == vlan && station.address == asked
        });
        let mac = match station {
            Some(station) => station.mac,
            None if self.answers_on(asked.into(), port) && asked != own => mac_of(asked),
            None => return,
        };
        let reply = Arp {
            operation: 2,
            sender: (mac, asked),
            target: arp.sender,
            from: mac,
            to: arp.from,
            vlan,
        };
        self.answers.push_back((port.to_owned(), reply.bytes()));
    }
}
