//! Values as systemd writes them.

use crate::import::words::switch;

/// A size in bytes, with a suffix by 1024.
///
/// # Errors
/// It is none.
pub(super) fn size(text: &str) -> Result<u32, String> {
    let units = [('B', 1_u32), ('K', 1 << 10), ('M', 1 << 20), ('G', 1 << 30)];
    let with = |(suffix, unit)| Some((text.strip_suffix(suffix)?, unit));
    let (number, unit) = units.into_iter().find_map(with).unwrap_or((text, 1));
    let number: Option<u32> = number.trim().parse().ok();
    let size = number.and_then(|number| number.checked_mul(unit));
    size.ok_or_else(|| format!("{text} is not a size"))
}

/// A switch.
///
/// # Errors
/// It is none.
pub(super) fn is_on(text: &str) -> Result<bool, String> {
    switch(text).ok_or_else(|| format!("{text} is neither yes nor no"))
}
