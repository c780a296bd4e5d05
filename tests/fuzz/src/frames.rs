//! Frames through the router, with times and reloads between them.

use tapgate_engine::session::SessionMemory;
use tapgate_tests::router::Router;

use crate::play::{self, Bytes};

/// Plays an input against a router that starts empty. Its first byte chooses the configuration and
/// the neighbourhood, the rest is [`play::play`]'s.
pub fn run(input: &[u8]) {
    let mut input = Bytes(input);
    let start = input.byte();
    let config = play::config(start);
    let memory = SessionMemory::owned(config.router().sessions as usize);
    let mut router = Router::over(config, memory);
    play::start(&mut router, start);
    play::play(&mut router, &mut input);
    play::end(&mut router);
}
