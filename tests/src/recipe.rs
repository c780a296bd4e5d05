//! The configuration most tests run: the recipe of `examples/multi-mac.toml` on memory ports, and
//! who lives around it.

use tapgate_engine::addr::MacAddr;

/// Three personalities (A untagged, B in VLAN 20, C untagged), each with a network behind it and a
/// guest in it.
pub const MULTI_MAC: &str = include_str!("../golden/config.toml");

const fn station(last: u8) -> MacAddr {
    MacAddr([2, 0, 0, 0, 0, last])
}

/// The personalities' MACs.
pub const A: MacAddr = station(0xaa);
/// See [`A`].
pub const B: MacAddr = station(0xbb);
/// See [`A`].
pub const C: MacAddr = station(0xcc);
/// The networks' gateway MACs.
pub const NET_A: MacAddr = station(1);
/// See [`NET_A`].
pub const NET_B: MacAddr = station(2);
/// See [`NET_A`].
pub const NET_C: MacAddr = station(3);
/// The guests' MACs: 10.0.1.1, 10.0.2.1, 10.0.3.1.
pub const GUEST_A: MacAddr = station(0x11);
/// See [`GUEST_A`].
pub const GUEST_B: MacAddr = station(0x12);
/// See [`GUEST_A`].
pub const GUEST_C: MacAddr = station(0x13);
/// The provider's gateway, 192.0.2.1.
pub const PROVIDER: MacAddr = station(0xfe);
/// A host on the internet.
pub const REMOTE: &str = "198.51.100.9";
