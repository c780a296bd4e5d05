//! Routes a number of frames in memory and ends: the load under which `bench-instructions.sh`
//! counts instructions.

use std::hint::black_box;

use clap::{Parser, ValueEnum};
use tapgate_benches::{
    BATCH, GUESTS, Router, TCP_SUPER_FRAME, UDP_FRAME, turn_around, write_malformed, write_tcp,
    write_udp, write_without_route, write_without_translation,
};

/// Routes frames in memory, so that their instructions can be counted.
#[derive(Parser)]
struct Options {
    /// What kind of frames.
    scenario: Scenario,
    /// How many.
    frames: u32,
    /// How many rules `policy` has.
    #[arg(long, default_value_t = 0)]
    rules: u32,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Scenario {
    /// Nothing but writing the frames of `established`, which every scenario includes.
    Write,
    /// One flow of a guest.
    Established,
    /// The same with `Shard::warm` before each batch.
    Warm,
    /// The replies to it.
    Reply,
    /// One flow of TCP super-frames.
    Bulk,
    /// A new flow each time.
    NewFlow,
    /// No route.
    Miss,
    /// Stopped by the egress guard.
    Guard,
    /// Wrong header checksum.
    Malformed,
}

fn main() {
    let Options {
        scenario,
        frames,
        rules,
    } = Options::parse();
    let mut router = match rules {
        0 => Router::new(1 << 17),
        rules => Router::with_rules(1 << 17, rules),
    };
    router.open(GUESTS);
    let mut reply = [0; UDP_FRAME];
    write_udp(&mut reply, 0);
    router.from_guest(&mut reply);
    turn_around(&mut reply);
    router.from_provider(&mut reply.clone());
    router.resolve_next_hops();
    if scenario == Scenario::Bulk {
        router.open_bulk();
    }

    let length = match scenario {
        Scenario::Bulk => TCP_SUPER_FRAME,
        _ => UDP_FRAME,
    };
    let mut bytes = vec![0; BATCH * length];
    let mut flow = GUESTS;
    for _ in 0..frames / BATCH as u32 {
        for frame in bytes.chunks_exact_mut(length) {
            match scenario {
                Scenario::Write | Scenario::Established | Scenario::Warm => write_udp(frame, 0),
                Scenario::Reply => frame.copy_from_slice(&reply),
                Scenario::Bulk => write_tcp(frame),
                Scenario::NewFlow => {
                    write_udp(frame, flow);
                    flow += 1;
                }
                Scenario::Miss => write_without_route(frame),
                Scenario::Guard => write_without_translation(frame),
                Scenario::Malformed => write_malformed(frame),
            }
        }
        if scenario == Scenario::Warm {
            router.engine.shard.warm(bytes.chunks_exact(length));
        }
        for frame in bytes.chunks_exact_mut(length) {
            let frame = black_box(frame);
            match scenario {
                Scenario::Write => {}
                Scenario::Reply => {
                    black_box(router.from_provider(frame));
                }
                Scenario::Bulk => {
                    black_box(router.bulk_from_guest(frame));
                }
                _ => {
                    black_box(router.from_guest(frame));
                }
            }
        }
    }
}
