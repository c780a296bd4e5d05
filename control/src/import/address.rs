//! What addresses are for.

use std::net::IpAddr;

use ipnet::IpNet;

/// One address.
pub(super) fn is_host(net: IpNet) -> bool {
    net.prefix_len() == net.max_prefix_len()
}

/// An address of one link only.
pub(super) fn is_of_a_link(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

/// An address that no provider routes.
pub(super) fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            address.is_private() || (address.octets()[0] == 100 && address.octets()[1] & 0xc0 == 64)
        }
        IpAddr::V6(address) => address.is_unique_local(),
    }
}
