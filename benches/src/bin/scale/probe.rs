//! A flow through the running dataplane that tells how long it stood still.

use std::num::NonZero;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant as Clock};

use tapgate_dataplane::port::memory::{FarEnd, StoredFrame};
use tapgate_engine::checksum;
use tapgate_engine::frame::Offload;

use crate::setup::{personality_mac, public};

/// Time between two frames.
const INTERVAL: Duration = Duration::from_micros(50);
/// What tells our frames from others.
const PAYLOAD: &[u8; 8] = b"scale!!!";

/// A small UDP datagram from outside to the public address of a guest.
pub fn frame(guest: u32) -> Vec<u8> {
    let source: [u8; 16] = [
        0x20, 0x01, 0x0d, 0xb8, 0xee, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1,
    ];
    let destination = public(guest).octets();
    let length = [0, 8 + PAYLOAD.len() as u8];
    let mut datagram = [&[0x13, 0x88, 0x00, 0x35][..], &length, &[0, 0], PAYLOAD].concat();
    let pseudo = checksum::pseudo_header(&source, &destination, 17, datagram.len());
    let sum = !checksum::fold(checksum::sum(&datagram, pseudo));
    datagram[6..8].copy_from_slice(&sum.to_be_bytes());
    let ethernet = [
        &personality_mac(guest)[..],
        &[0x02, 0xff, 0, 0, 0, 1],
        &[0x86, 0xdd],
    ];
    let ip = [&[0x60, 0, 0, 0][..], &length, &[17, 64]].concat();
    [
        &ethernet.concat()[..],
        &ip,
        &source,
        &destination,
        &datagram,
    ]
    .concat()
}

/// The longest that a frame was on its way while `during` ran and for `settle` after it.
pub fn longest_while<R>(
    (from, to): (&Arc<FarEnd>, &Arc<FarEnd>),
    settle: Duration,
    during: impl FnOnce() -> R,
) -> (Duration, R) {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watching = scope.spawn(|| watch(from, to, &stop));
        // The flow is under way.
        std::thread::sleep(Duration::from_millis(20));
        let result = during();
        std::thread::sleep(settle);
        stop.store(true, Ordering::Relaxed);
        (watching.join().expect("the probe runs"), result)
    })
}

/// Sends one frame after another. A frame counts from when it was put in until it was looked for in
/// vain for the last time, so that the probe's own sleep does not count.
fn watch(from: &FarEnd, to: &FarEnd, stop: &AtomicBool) -> Duration {
    let mut longest = Duration::ZERO;
    while !stop.load(Ordering::Relaxed) {
        while from.take().is_some() {}
        let stored = StoredFrame {
            bytes: frame(0),
            vlan: None,
            offload: Offload::default(),
        };
        let put = Clock::now();
        if from.put(stored) {
            let mut in_vain = put;
            loop {
                let looked = Clock::now();
                match to.take() {
                    Some(frame) if frame.bytes.ends_with(PAYLOAD) => break,
                    Some(_) => {}
                    None if looked - put > Duration::from_secs(1) => break,
                    None => {
                        in_vain = looked;
                        std::thread::yield_now();
                    }
                }
            }
            longest = longest.max(in_vain - put);
        }
        std::thread::sleep(INTERVAL);
    }
    longest
}

/// How long the machine itself stands still: for each of so many spans of time, the longest that a
/// thread on each processor, which only looks at the clock, was kept from it. A virtual machine that
/// shares its host has some milliseconds here, and no pause measured on it can be shorter.
pub fn machine(spans: usize, span: Duration) -> Vec<Duration> {
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
    let look = || {
        let (began, mut longest) = (Clock::now(), Duration::ZERO);
        let mut last = began;
        while last - began < span {
            let now = Clock::now();
            longest = longest.max(now - last);
            last = now;
        }
        longest
    };
    let one = || {
        std::thread::scope(|scope| {
            let looking: Vec<_> = (0..threads).map(|_| scope.spawn(look)).collect();
            let longest = looking.into_iter().filter_map(|thread| thread.join().ok());
            longest.max().unwrap_or_default()
        })
    };
    (0..spans).map(|_| one()).collect()
}
