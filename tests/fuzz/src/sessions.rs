//! A router over session memory that anybody may have written.

use std::net::{Ipv4Addr, Ipv6Addr};

use tapgate_engine::session::Sessions;
use tapgate_tests::router::Router;

use crate::memory::Memory;
use crate::play::{self, Bytes};

/// Sessions of a family that there is room for.
pub const CAPACITY: usize = 16;

/// Plays an input against a router that takes over memory. The first byte is as in
/// [`crate::frames::run`], the second says how many records of each family follow (low and high four
/// bits), each with its detail; the rest is [`play::play`]'s. The other records are free.
pub fn run(input: &[u8]) {
    let mut input = Bytes(input);
    let (start, counts) = (input.byte(), input.byte());
    let mut v4 = Memory::<Ipv4Addr>::free(CAPACITY);
    let mut v6 = Memory::<Ipv6Addr>::free(CAPACITY);
    for number in 0..usize::from(counts & 0xf) {
        v4.write(number, input.take(Memory::<Ipv4Addr>::SIZE));
    }
    for number in 0..usize::from(counts >> 4) {
        v6.write(number, input.take(Memory::<Ipv6Addr>::SIZE));
    }
    let config = play::config(start);
    v4.lend(|v4| {
        v6.lend(|v6| {
            let inherited = true;
            let sessions = Sessions { v4, v6, inherited };
            let mut router = Router::over(config, sessions);
            play::start(&mut router, start);
            play::play(&mut router, &mut input);
            play::end(&mut router);
        });
    });
}
