//! A router over session memory that anybody may have written.

use std::net::{Ipv4Addr, Ipv6Addr};

use tapgate_tests::memory::{Memory, Records};

use crate::play::{self, Bytes};

/// Sessions of a family that there is room for.
pub const CAPACITY: usize = 16;

/// Plays an input against a router that takes over memory. The first byte is as in
/// [`crate::frames::run`], the second says how many records of each family follow (low and high four
/// bits), each with its detail; the rest is [`play::play`]'s. The other records are free.
pub fn run(input: &[u8]) {
    let mut input = Bytes(input);
    let (start, counts) = (input.byte(), input.byte());
    let mut memory = Memory::free(CAPACITY).used();
    for number in 0..usize::from(counts & 0xf) {
        memory
            .v4
            .write(number, input.take(Records::<Ipv4Addr>::SIZE));
    }
    for number in 0..usize::from(counts >> 4) {
        memory
            .v6
            .write(number, input.take(Records::<Ipv6Addr>::SIZE));
    }
    memory.start(play::config(start), |router| {
        play::start(router, start);
        play::play(router, &mut input);
        play::end(router);
    });
}
