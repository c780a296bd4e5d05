//! What four million sessions take.

use std::net::Ipv4Addr;
use std::time::Instant as Clock;

use super::table::ENDED_AT_ONCE;
use super::{SessionDetail, SessionMemory, SessionRecord, SessionTable};
use crate::base::time::Ticks;
use crate::config::Timeouts;
use crate::state::payer::Payer;
use crate::wire::flow::{Direction, Flow};
use crate::wire::packet::UDP;

const SESSIONS: u32 = 4_000_000;
/// Bytes that each may take.
const EACH: usize = 128;

fn flow(number: u32) -> Flow<Ipv4Addr> {
    Flow {
        source: Ipv4Addr::from_bits(0x0a00_0000 | number >> 8 & 0xff),
        destination: Ipv4Addr::from_bits(0xc612_0000 | number >> 16),
        source_port: 1_024 + (number & 0xff) as u16,
        destination_port: 53,
        protocol: UDP,
    }
}

#[test]
fn four_million_sessions_take_at_most_128_bytes_each() {
    let before = resident();
    let memory = SessionMemory::owned(SESSIONS as usize);
    let mut table = SessionTable::new(memory, 7, &Timeouts::default());
    table.prepare();
    let at_start = table.memory();
    for number in 0..SESSIONS {
        let record = SessionRecord::new(flow(number), flow(number), false, 1);
        let payer = Payer::By((number % 1_000) as u16);
        let inserted = table.insert(record, SessionDetail::default(), payer);
        assert_eq!(inserted, Some(number));
    }
    let (taken, counted) = (resident() - before, table.memory());
    let each = |bytes: usize| bytes as f64 / f64::from(SESSIONS);
    println!(
        "{:.2} bytes each; the process has {:.2}",
        each(counted),
        each(taken)
    );
    assert!(counted <= EACH * SESSIONS as usize, "{counted}");
    // The account is honest. Where tests share a process, that has what others take as well.
    let alone = std::env::var_os("NEXTEST").is_some();
    assert!(
        !alone || taken < counted + (16 << 20),
        "{taken}, and {counted} by our count"
    );
    // No packet waits until a large table is made.
    assert!(
        counted - at_start < 1 << 17,
        "{at_start} at the start, then {counted}"
    );
    for number in (0..SESSIONS).step_by(999) {
        let hit = table.find(&flow(number));
        assert_eq!(
            hit.map(|hit| (hit.number, hit.direction)),
            Some((number, Direction::Forward))
        );
    }
    empties(&mut table);
}

/// A few sessions are ended at once, however many have expired.
fn empties(table: &mut SessionTable<Ipv4Addr>) {
    let (began, mut looks) = (Clock::now(), 0);
    while !table.is_empty() {
        let mut ended = 0;
        table.sweep(256, Ticks(u32::MAX), |_, _| false, |_, _| ended += 1);
        assert!((1..=ENDED_AT_ONCE).contains(&ended), "{ended}");
        looks += 1;
    }
    let each = began.elapsed().as_nanos() as f64 / 1e3 / f64::from(looks);
    println!("{each:.1} us to end {ENDED_AT_ONCE}");
    assert!(looks >= SESSIONS / ENDED_AT_ONCE as u32);
}

/// What the process has in memory, in bytes.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    number.unwrap().parse::<usize>().unwrap() * 1024
}
