//! What smoltcp takes for a device: packets come in one way, frames without MACs go out the other.

use smoltcp::phy::{self, ChecksumCapabilities, DeviceCapabilities, Medium};
use smoltcp::time;

use crate::base::time::Instant;
use crate::wire::frame::{ETHERNET, ETHERTYPE_IPV4, ETHERTYPE_IPV6};

/// Packets that are sent at once; what is left follows with traffic between.
pub(super) const SENT_AT_ONCE: usize = 32;

/// Between smoltcp and the router: packets one way, frames without MACs the other.
pub(super) struct Wire {
    pub(super) mtu: usize,
    /// What comes in; empty if nothing does.
    pub(super) received: Vec<u8>,
    pub(super) sent: Vec<Vec<u8>>,
}

/// A packet that comes in.
pub(super) struct In(Vec<u8>);
/// Leave to send a packet.
pub(super) struct Out<'w>(&'w mut Vec<Vec<u8>>);

impl phy::Device for Wire {
    type RxToken<'a> = In;
    type TxToken<'a> = Out<'a>;

    fn receive(&mut self, _: time::Instant) -> Option<(In, Out<'_>)> {
        let packet = std::mem::take(&mut self.received);
        (!packet.is_empty()).then_some((In(packet), Out(&mut self.sent)))
    }

    fn transmit(&mut self, _: time::Instant) -> Option<Out<'_>> {
        (self.sent.len() < SENT_AT_ONCE).then_some(Out(&mut self.sent))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = self.mtu;
        capabilities.checksum = unverified();
        capabilities
    }
}

impl phy::RxToken for In {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

impl phy::TxToken for Out<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, f: F) -> R {
        let mut bytes = vec![0; ETHERNET + length];
        let result = f(&mut bytes[ETHERNET..]);
        let ethertype = match bytes[ETHERNET] >> 4 {
            4 => ETHERTYPE_IPV4,
            _ => ETHERTYPE_IPV6,
        };
        bytes[12..14].copy_from_slice(&ethertype.to_be_bytes());
        self.0.push(bytes);
        result
    }
}

/// What comes in was verified, as far as it is not for its port to finish; what goes out is finished
/// here.
pub(super) fn unverified() -> ChecksumCapabilities {
    let mut checksums = ChecksumCapabilities::default();
    checksums.ipv4 = phy::Checksum::Tx;
    checksums.tcp = phy::Checksum::Tx;
    checksums
}

/// The same time, to smoltcp.
pub(super) fn at(now: Instant) -> time::Instant {
    time::Instant::from_millis(now.as_millis() as i64)
}
