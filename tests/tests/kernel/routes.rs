//! F19: rules and tables, against a linear scan and against the kernel.

mod kernel;
mod model;

use proptest::prelude::*;
use tapgate_engine::drops::DropReason;
use tapgate_engine::frame::Verdict;
use tapgate_tests::packet::{self, address, mac};
use tapgate_tests::router::{Router, mac_of};

use model::{Flow, Model, Outcome, network_mac};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn f19_as_a_linear_scan_says(
        model in Model::any(),
        flows in proptest::collection::vec(Flow::any(), 1..20),
    ) {
        let mut router = router(&model);
        for (n, flow) in flows.iter().enumerate() {
            let expected = model.outcome(flow);
            prop_assert_eq!(routed(&mut router, n, flow), expected, "{:?}\n{}", flow, model.toml());
        }
    }
}

fn router(model: &Model) -> Router {
    let mut router = Router::new(&model.toml());
    router.answer_everything();
    router
}

/// What the router does with the first packet of a flow; `n` makes it one.
fn routed(router: &mut Router, n: usize, flow: &Flow) -> Outcome {
    let (from, to) = (flow.from.to_string(), flow.to.to_string());
    let port = format!("p{}", flow.iif);
    let packet = packet::udp(&format!("{from}:{}", 10_000 + n), &format!("{to}:53"), b"");
    let sender = mac("02:00:00:00:01:00");
    let frame = packet.link(sender, network_mac(flow.iif)).bytes();
    router.take_all();
    let verdict = router.inject(&port, &frame);
    if let Verdict::Drop(reason) = verdict {
        return refused(router, reason, &port, &frame);
    }
    let sent = router.take_all();
    let forwarded = sent.iter().flat_map(|(port, frames)| {
        frames
            .iter()
            .map(move |frame| (port, &frame.bytes))
            .filter(|(_, bytes)| bytes[12..14] == [8, 0] && bytes[30..34] == address(&to).octets())
    });
    let [(out, bytes)] = forwarded.collect::<Vec<_>>()[..] else {
        panic!("{verdict:?}, and not one packet came out: {sent:?}");
    };
    let [six, zero, a, b, c, d] = bytes[..6] else {
        unreachable!()
    };
    let next_hop = [a, b, c, d].into();
    assert_eq!([six, zero], mac_of(next_hop).0[..2]);
    Outcome::Forwarded {
        network: out[1..].parse().unwrap(),
        next_hop,
    }
}

/// A drop is told apart by its reason and by what `explain` says the sender is told.
fn refused(router: &mut Router, reason: DropReason, port: &str, frame: &[u8]) -> Outcome {
    let (steps, verdict) = router.explain(port, frame);
    assert_eq!(
        verdict,
        Verdict::Drop(reason),
        "explain says what process does"
    );
    let told = steps
        .iter()
        .find(|step| step.stage == "icmp")
        .map(|step| step.detail.as_str());
    let told = told.map_or("", |told| told.split_once("told: ").unwrap().1);
    match (reason, told) {
        (DropReason::NoRoute | DropReason::Unreachable, "type 3 code 0") => Outcome::NetUnreachable,
        (DropReason::Unreachable, "type 3 code 1") => Outcome::HostUnreachable,
        (DropReason::Prohibited, "type 3 code 13") => Outcome::Prohibited,
        (DropReason::Blackhole, "") => Outcome::Silent,
        other => panic!("{other:?}"),
    }
}
