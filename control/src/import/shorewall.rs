//! placeholder
use super::firewall::Firewall;
use crate::failure::Failure;
pub(super) fn read(_: &std::path::Path, _: &std::path::Path) -> Result<Firewall, Failure> {
    Ok(Firewall::default())
}
