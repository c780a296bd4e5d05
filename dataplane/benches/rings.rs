//! Shapes of receive rings compared, with TCP and ping through a bridge of two veths. Needs root.

#[path = "../tests/lab/mod.rs"]
mod lab;

use lab::bridge::Bridge;
use lab::{Lab, iperf, run};
use tapgate_dataplane::link::Links;
use tapgate_dataplane::port::Opened;
use tapgate_dataplane::port::device::Device;
use tapgate_dataplane::sys::ring::Geometry;

/// What a shape is called, the bytes of a frame its slots hold, and its slots.
const SHAPES: [(&str, usize, usize); 4] = [
    (
        "slots of the MTU, super-frames read from the queue",
        1518,
        1024,
    ),
    (
        "slots of the MTU, super-frames read from the queue",
        1518,
        4096,
    ),
    ("slots of 64 KiB", 65_600, 256),
    ("slots of 64 KiB", 65_600, 1024),
];

fn main() {
    let mut lab = Lab::new();
    let a = lab.veth_guest("a", "va", "10.9.0.1/24");
    let b = lab.veth_guest("b", "vb", "10.9.0.2/24");
    for round in 1..=3 {
        for (what, frame, slots) in SHAPES {
            let open = |name: &str| {
                let geometry = Geometry::holding(frame, slots);
                let index = Links::open().unwrap().get(name).unwrap().index;
                Opened::Device(Device::open_with(index, geometry).unwrap())
            };
            let bridge = Bridge::between(open("va"), open("vb"));
            let rate = iperf(&a, &b, "10.9.0.2", 3);
            let ping = run(&format!(
                "ip netns exec {a} ping -q -i 0.002 -c 500 10.9.0.2"
            ));
            let ended = bridge.end();
            let drops: u64 = ended.counters.iter().map(|c| c.kernel_drops).sum();
            println!(
                "round {round}, {what} x {slots}: {rate:.2} Gbit/s, longest frame {}, {drops} kernel drops, {}",
                ended.longest(),
                ping.lines().last().unwrap()
            );
        }
    }
}
