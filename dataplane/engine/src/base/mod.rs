//! Values without policy: addresses, time, random numbers, checksums, keyed hashes, a hash index,
//! look-ups by prefix and range, token buckets, deadlines, shares, and the names of what is counted.

pub mod addr;
pub mod bucket;
pub mod checksum;
pub mod counters;
pub mod deadlines;
pub mod drops;
pub mod hash;
pub mod index;
pub mod ip;
pub mod random;
pub mod shares;
pub mod spans;
pub mod time;
