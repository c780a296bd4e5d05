//! What a rule asks of a packet. A new condition is a field here with its lines in `map`, `holds` and
//! `terms`, a key in `routing.rs` and its check in `validate/rules.rs`.

use std::net::IpAddr;

use ipnet::IpNet;

use super::policy::ProtocolName;
use super::routing::FwMark;
use super::value::PortRange;

/// What `iif` says of the router's own packets, as in Linux.
pub const OWN: &str = "lo";
/// The bits of the type of service that `tos` compares of IPv4.
pub const LEGACY_TOS: u8 = 0x1c;
/// The bits of it that are not DSCP (RFC 3168 §5).
pub const ECN: u8 = 3;

/// Conditions of a rule, all of which must hold. `I` stands for an interface: its index in a
/// configuration, its number in a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Condition<I> {
    /// They must not hold all together.
    pub not: bool,
    /// Source prefix; any when absent.
    pub from: Option<IpNet>,
    /// Destination prefix; any when absent.
    pub to: Option<IpNet>,
    /// Where the packet comes from; anywhere when absent.
    pub iif: Option<Origin<I>>,
    /// The interface that a packet of the router's own is bound to; any or none when absent.
    pub oif: Option<I>,
    /// The flow's mark; any when absent.
    pub fwmark: Option<FwMark>,
    /// The packet's type of service; any when absent.
    pub tos: Option<Tos>,
    /// Its protocol; any when absent.
    pub ipproto: Option<ProtocolName>,
    /// Its source port; any when absent.
    pub sport: Option<PortRange>,
    /// Its destination port; any when absent.
    pub dport: Option<PortRange>,
}

/// Where a packet comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin<I> {
    /// From the router itself.
    Own,
    /// It came in by this interface.
    Interface(I),
}

/// What is asked of the type of service, or traffic class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tos {
    /// Of IPv4 the lower three bits of the DSCP, of IPv6 all of it (as `ip rule … tos` of Linux).
    Tos(u8),
    /// The DSCP (RFC 2474 §3), without the two bits of ECN.
    Dscp(u8),
}

/// The packet that conditions are compared with.
#[derive(Debug, Clone, Copy)]
pub struct Subject<I> {
    /// The packet's source.
    pub source: IpAddr,
    /// Its destination.
    pub destination: IpAddr,
    /// Where it comes from.
    pub iif: Origin<I>,
    /// The interface that it is bound to, if it is the router's own.
    pub oif: Option<I>,
    /// The mark of its flow; 0 is none.
    pub mark: u32,
    /// The whole byte of the type of service or traffic class.
    pub tos: u8,
    /// Its protocol.
    pub protocol: u8,
    /// Its source and destination port; 0 if it has none.
    pub ports: (u16, u16),
}

impl<I> Condition<I> {
    /// Holds for every packet.
    pub const ANY: Self = Self {
        not: false,
        from: None,
        to: None,
        iif: None,
        oif: None,
        fwmark: None,
        tos: None,
        ipproto: None,
        sport: None,
        dport: None,
    };

    /// The same conditions, with each interface replaced by what `name` makes of it.
    pub fn map<J>(self, name: impl Fn(I) -> J) -> Condition<J> {
        Condition {
            not: self.not,
            from: self.from,
            to: self.to,
            iif: self.iif.map(|iif| match iif {
                Origin::Own => Origin::Own,
                Origin::Interface(interface) => Origin::Interface(name(interface)),
            }),
            oif: self.oif.map(name),
            fwmark: self.fwmark,
            tos: self.tos,
            ipproto: self.ipproto,
            sport: self.sport,
            dport: self.dport,
        }
    }

    /// Whether the rule is for packets of this family at all: a prefix makes it one of its own family, as
    /// a rule of Linux is, whatever `not` says.
    pub fn is_for(&self, ipv4: bool) -> bool {
        let same = |prefix: Option<IpNet>| prefix.is_none_or(|net| net.addr().is_ipv4() == ipv4);
        same(self.from) && same(self.to)
    }
}

impl<I: Copy + PartialEq> Condition<I> {
    /// Whether they hold for a packet.
    #[inline]
    pub fn holds(&self, packet: &Subject<I>) -> bool {
        let all = self.from.is_none_or(|from| covers(from, packet.source))
            && self.to.is_none_or(|to| covers(to, packet.destination))
            && self.iif.is_none_or(|iif| iif == packet.iif)
            && self.hold_rarely(packet);
        match self.not {
            false => all,
            true => !all && self.is_for(packet.source.is_ipv4()),
        }
    }

    /// What few rules ask.
    fn hold_rarely(&self, packet: &Subject<I>) -> bool {
        (self.oif.is_none() || self.oif == packet.oif)
            && self.fwmark.is_none_or(|mark| mark.holds(packet.mark))
            && self
                .tos
                .is_none_or(|tos| tos.holds(packet.tos, packet.source.is_ipv4()))
            && self
                .ipproto
                .is_none_or(|proto| proto.numbers().contains(&packet.protocol))
            && self
                .sport
                .is_none_or(|range| range.contains(packet.ports.0))
            && self
                .dport
                .is_none_or(|range| range.contains(packet.ports.1))
    }

    /// Keyword and value of each, as in `ip rule`; `from` always.
    pub fn terms(&self, name: impl Fn(I) -> String) -> Vec<(&'static str, String)> {
        let from = self.from.map_or("all".to_owned(), |net| net.to_string());
        let tos = |tos| match tos {
            Tos::Tos(value) => ("tos", format!("{value:#x}")),
            Tos::Dscp(value) => ("dscp", value.to_string()),
        };
        let iif = |iif| match iif {
            Origin::Own => OWN.to_owned(),
            Origin::Interface(interface) => name(interface),
        };
        [
            Some((if self.not { "not from" } else { "from" }, from)),
            self.to.map(|net| ("to", net.to_string())),
            self.tos.map(tos),
            self.fwmark.map(|mark| ("fwmark", mark.to_string())),
            self.iif.map(|origin| ("iif", iif(origin))),
            self.oif.map(|oif| ("oif", name(oif))),
            self.ipproto.map(|proto| ("ipproto", proto.to_string())),
            self.sport.map(|ports| ("sport", ports.to_string())),
            self.dport.map(|ports| ("dport", ports.to_string())),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

impl Tos {
    fn holds(self, byte: u8, ipv4: bool) -> bool {
        match self {
            Self::Tos(value) if ipv4 => byte & LEGACY_TOS == value,
            Self::Tos(value) => byte & !ECN == value,
            Self::Dscp(value) => byte >> 2 == value,
        }
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
