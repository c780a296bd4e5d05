//! House rule 4: no allocation per forwarded frame, nor per dropped one.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::Duration;

use tapgate_engine::addr::PortId;
use tapgate_engine::frame::Verdict;
use tapgate_tests::packet::{ping, pong, tcp, udp};
use tapgate_tests::recipe::*;
use tapgate_tests::router::Router;

/// The system's allocator, counting what each thread asks for.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every call is passed on to `System` unchanged; the counter neither allocates (it is
// const-initialised and has no destructor) nor touches the memory.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promises are `System`'s conditions.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Rounds over all templates.
const ROUNDS: usize = 12_500;

#[test]
fn no_allocation_per_forwarded_or_dropped_frame() {
    let mut router = Router::new(MULTI_MAC);
    router.answer_everything();
    let out = (GUEST_A, NET_A);
    let forwarded = [
        (
            "guest-a",
            udp("10.0.1.1:4000", "198.51.100.9:53", b"out").link(out.0, out.1),
        ),
        (
            "uplink",
            udp("198.51.100.9:53", "203.0.113.10:4000", b"back").link(PROVIDER, A),
        ),
        (
            "guest-a",
            tcp("10.0.1.1:4000", "198.51.100.9:80", ".", &[1; 1_000]).link(out.0, out.1),
        ),
        (
            "uplink",
            tcp("198.51.100.9:80", "203.0.113.10:4000", ".", &[1; 1_000]).link(PROVIDER, A),
        ),
        (
            "guest-a",
            ping("10.0.1.1", REMOTE, 4_242, 1, b"ping").link(out.0, out.1),
        ),
        (
            "uplink",
            pong(REMOTE, "203.0.113.10", 4_242, 1, b"ping").link(PROVIDER, A),
        ),
        (
            "guest-a",
            udp("10.0.1.1:4000", "10.0.2.1:53", b"inside").link(out.0, out.1),
        ),
        (
            "guest-a",
            ping("10.0.1.1", "10.0.1.254", 1, 1, b"own").link(out.0, out.1),
        ),
    ];
    let dropped = [
        (
            "uplink",
            udp("198.51.100.9:53", "203.0.113.10:9", b"unasked").link(PROVIDER, A),
        ),
        (
            "uplink",
            udp("198.51.100.9:53", "203.0.113.10:9", b"mac").link(PROVIDER, NET_A),
        ),
        (
            "guest-a",
            udp("127.0.0.1:53", "198.51.100.9:9", b"martian").link(out.0, out.1),
        ),
        (
            "guest-a",
            udp("10.0.1.1:53", "198.18.3.1:9", b"blackhole").link(out.0, out.1),
        ),
        (
            "uplink",
            pong(REMOTE, "203.0.113.10", 7, 1, b"unasked").link(PROVIDER, A),
        ),
    ];
    for (port, packet) in &forwarded {
        router.inject(port, packet.bytes());
    }
    // What a start has to say is said before.
    router.advance(Duration::from_millis(1));

    let frames = |list: &[(&str, tapgate_tests::packet::Packet)]| -> Vec<(PortId, Vec<u8>)> {
        list.iter()
            .map(|(name, packet)| (router.port(name), packet.bytes()))
            .collect()
    };
    let (forwarded, dropped) = (frames(&forwarded), frames(&dropped));
    let emitted = |verdict| matches!(verdict, Verdict::Emit(_));
    assert_eq!(
        run(&mut router, &forwarded, emitted),
        0,
        "over forwarded frames"
    );
    let gone = |verdict| matches!(verdict, Verdict::Drop(_));
    assert_eq!(run(&mut router, &dropped, gone), 0, "over dropped frames");
}

/// Processes the frames again and again as a worker does, and counts allocations. Every frame ends
/// as `expected`.
fn run(
    router: &mut Router,
    frames: &[(PortId, Vec<u8>)],
    expected: impl Fn(Verdict) -> bool,
) -> u64 {
    let mut buffers = frames.to_vec();
    let start = router.now;
    let before = ALLOCATIONS.get();
    for round in 0..ROUNDS {
        router.now = start + Duration::from_millis(round as u64 / 100);
        for ((_, template), (_, buffer)) in frames.iter().zip(&mut buffers) {
            buffer.copy_from_slice(template);
        }
        router.batch(&mut buffers, |verdict| {
            assert!(expected(verdict), "{verdict:?} in round {round}");
        });
    }
    ALLOCATIONS.get() - before
}

#[test]
fn the_counter_counts() {
    let before = ALLOCATIONS.get();
    drop(std::hint::black_box(vec![1_u8; 100]));
    assert_eq!(ALLOCATIONS.get() - before, 1);
}
