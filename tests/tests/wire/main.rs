//! Bytes: whether they are read as others read them, and written so that sums are right.

mod checksum;
mod parsers;
