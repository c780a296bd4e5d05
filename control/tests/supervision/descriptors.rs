//! More descriptors than Linux passes in one message.

use rustix::process::Signal;

use crate::lab::{Lab, kill};

/// Forty TAPs of eight queues.
const QUEUES: usize = 320;
/// What a message of protocol version 1 has room for.
const FEW: usize = 250;

fn configuration() -> String {
    let ports: String = (0..40)
        .map(|n| format!("guest-{n} = {{ tap = \"tap-{n}\", queues = 8 }}\n"))
        .collect();
    format!("[ports]\n{ports}")
}

/// What the last dataplane was given of the one before it, and that one's process id.
fn adopted(lab: &Lab) -> (Vec<String>, u64) {
    let first = lab.dataplane_pid();
    kill(first, Signal::KILL);
    lab.wait_for_deed("configure", 2);
    let deeds = lab.deeds();
    let adopted = deeds
        .iter()
        .filter_map(|deed| deed.strip_prefix("adopt "))
        .next_back()
        .unwrap();
    let adopted = adopted.split(' ').map(str::to_owned);
    (adopted.collect(), first)
}

#[test]
fn hundreds_of_queues_outlive_the_dataplane() {
    let lab = Lab::new("queues");
    lab.write("tapgate.toml", &configuration());
    let running = lab.run();
    let (adopted, first) = adopted(&lab);
    let mut expected = vec![format!("sessions:0=made-by-{first}")];
    for port in 0..40 {
        let queue = |queue| format!("tap:guest-{port}:{queue}=made-by-{first}");
        expected.extend((0..8).map(queue));
    }
    let mut sorted = adopted;
    sorted.sort();
    expected.sort();
    assert_eq!(sorted.len(), QUEUES + 1);
    assert_eq!(sorted, expected);
    // In one message, however many it takes below.
    let times = lab
        .deeds()
        .iter()
        .filter(|d| d.starts_with("adopt"))
        .count();
    assert_eq!(times, 1);
    assert!(running.terminate().success());
    lab.assert_nothing_left();
}

#[test]
fn a_dataplane_from_before_an_upgrade_is_given_what_it_can_take() {
    let lab = Lab::new("few");
    lab.write("tapgate.toml", &configuration());
    lab.tell("older");
    let running = lab.run();
    let (adopted, _) = adopted(&lab);
    assert_eq!(adopted.len(), FEW);
    assert!(running.terminate().success());
    lab.assert_nothing_left();
}
