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
        self.from
            .is_none_or(|prefix| prefix.contains(&packet.source))
            && self
                .to
                .is_none_or(|prefix| prefix.contains(&packet.destination))
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
