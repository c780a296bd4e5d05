//! What a rule asks of a packet. A new condition is a field here with its three lines below, a key in
//! `file.rs` and its check in `validate/rules.rs`.

use std::net::IpAddr;

use ipnet::IpNet;

/// Conditions of a rule, all of which must hold. `I` stands for an interface: its index in a
/// configuration, its number in a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Condition<I> {
    /// Source prefix; any when absent.
    pub from: Option<IpNet>,
    /// Destination prefix; any when absent.
    pub to: Option<IpNet>,
    /// The interface the packet came in by; any when absent.
    pub iif: Option<I>,
}

/// The packet that conditions are compared with.
#[derive(Debug, Clone, Copy)]
pub struct Subject<I> {
    /// The packet's source.
    pub source: IpAddr,
    /// Its destination.
    pub destination: IpAddr,
    /// Where it came in; `None`: it is our own.
    pub iif: Option<I>,
}

impl<I> Condition<I> {
    /// Holds for every packet.
    pub const ANY: Self = Self {
        from: None,
        to: None,
        iif: None,
    };

    /// The same conditions, with each interface replaced by what `name` makes of it.
    pub fn map<J>(self, name: impl Fn(I) -> J) -> Condition<J> {
        Condition {
            from: self.from,
            to: self.to,
            iif: self.iif.map(name),
        }
    }
}

impl<I: Copy + PartialEq> Condition<I> {
    /// Whether they hold for a packet.
    #[inline]
    pub fn holds(&self, packet: &Subject<I>) -> bool {
        self.from.is_none_or(|from| covers(from, packet.source))
            && self.to.is_none_or(|to| covers(to, packet.destination))
            && (self.iif.is_none() || self.iif == packet.iif)
    }

    /// Keyword and value of each, as in `ip rule`; `from` always.
    pub fn terms(&self, name: impl Fn(I) -> String) -> Vec<(&'static str, String)> {
        let from = self.from.map_or("all".to_owned(), |net| net.to_string());
        let to = self.to.map(|net| ("to", net.to_string()));
        let iif = self.iif.map(|interface| ("iif", name(interface)));
        [Some(("from", from)), to, iif]
            .into_iter()
            .flatten()
            .collect()
    }
}

/// Whether `address` is in `prefix`: every rule asks, for every first packet, and this takes a third of
/// what comparing with the first and last address does.
#[inline]
fn covers(prefix: IpNet, address: IpAddr) -> bool {
    let (differs, length) = match (prefix, address) {
        (IpNet::V4(net), IpAddr::V4(address)) => {
            let differs = net.addr().to_bits() ^ address.to_bits();
            (differs.leading_zeros(), net.prefix_len())
        }
        (IpNet::V6(net), IpAddr::V6(address)) => {
            let differs = net.addr().to_bits() ^ address.to_bits();
            (differs.leading_zeros(), net.prefix_len())
        }
        _ => return false,
    };
    differs >= u32::from(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_covers_its_addresses_and_no_others() {
        for prefix in [
            "0.0.0.0/0",
            "10.0.0.0/8",
            "10.1.2.128/25",
            "10.1.2.3/32",
            "::/0",
            "2001:db8::/33",
            "::1/128",
        ] {
            let prefix: IpNet = prefix.parse().unwrap();
            for address in [
                "10.1.2.3",
                "10.1.2.128",
                "10.1.2.255",
                "11.0.0.0",
                "0.0.0.0",
                "::1",
                "::",
                "2001:db8:7fff::",
                "2001:db8:8000::",
            ] {
                let address: IpAddr = address.parse().unwrap();
                assert_eq!(
                    covers(prefix, address),
                    prefix.contains(&address),
                    "{prefix} {address}"
                );
            }
        }
    }
}
