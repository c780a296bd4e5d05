use super::*;
use crate::config::Config;

const GATEWAY: &str = "192.0.2.1";

fn at(ms: u64) -> Instant {
    Instant::from_millis(ms)
}

fn snapshot(probe: &str) -> Snapshot {
    let file = format!(
        r#"{{ "ports": {{ "uplink": {{ "memory": true }} }},
          "personalities": {{ "P": {{ "port": "uplink", "mac": "02:00:00:00:aa:00",
            "addresses": ["192.0.2.10/24"], "gateway": "{GATEWAY}" {probe} }} }},
          "tables": {{ "main": [{{ "to": "default", "dev": "P" }}] }} }}"#
    );
    let config: Config = serde_json::from_str(&file).unwrap();
    Snapshot::build(&config, None)
}

const PROBE: &str = r#", "probe": { "interval": 1, "count": 3 }"#;

fn watched(snapshot: &Snapshot) -> (NextHops, Place) {
    let mut hops = NextHops::new(7);
    hops.adopt(snapshot, at(0));
    let (place, hop) = hops.iter().next().expect("one");
    assert_eq!(
        (place.1, hop.down),
        (GATEWAY.parse::<IpAddr>().unwrap(), None)
    );
    (hops, place)
}

/// Runs until `until`, where the next hop answers from each of `changes` on, or does not: the times at
/// which it came into use or went out of it.
fn run(hops: &mut NextHops, until: u64, changes: &[(u64, bool)]) -> Vec<(u64, Option<Outage>)> {
    let answers = |now: u64| {
        let before = changes.iter().take_while(|(from, _)| *from <= now);
        before.last().is_none_or(|(_, answers)| *answers)
    };
    let mut news = Vec::new();
    while let Some(due) = hops.next_deadline().filter(|due| *due <= at(until)) {
        hops.poll(due, |_, asked| answers(asked.as_millis()), |_| false);
        let notices = hops.take_notices().into_iter();
        news.extend(notices.map(|notice| (due.as_millis(), notice.down)));
    }
    news
}

#[test]
fn one_with_probes_is_lost_after_so_many_without_an_answer_and_is_back_when_it_answers() {
    let snapshot = snapshot(PROBE);
    let (mut hops, place) = watched(&snapshot);
    let news = run(&mut hops, 60_000, &[(10_500, false), (30_500, true)]);
    let [(lost, Some(Outage::Silent)), (back, None)] = news[..] else {
        panic!("{news:?}");
    };
    // Three that are sent after 10.5 s are not answered; what was sent at 31.3 s is.
    assert_eq!((lost, back), (14_333, 34_333));
    assert_eq!(hops.take_health(), Some(Health::default()));
    assert_eq!(hops.take_health(), None);
    assert_eq!(hops.iter().next().map(|(_, hop)| hop.changes), Some(2));
    hops.failed(place, at(70_000));
    let health = hops.take_health().expect("it is out of use");
    assert!(health.outage(place.0, place.1) == Some(Outage::Silent));
}

/// A dataplane that is started anew while a next hop is gone: it is known after one interval.
#[test]
fn one_that_is_new_is_asked_as_often_as_it_must_answer_within_one_interval() {
    let snapshot = snapshot(r#", "probe": { "interval": 5, "count": 3 }"#);
    let (mut hops, _) = watched(&snapshot);
    assert_eq!(hops.next_deadline(), Some(at(0)), "it is asked at once");
    let silent = [(0, false), (12_000, true), (30_000, false), (50_000, true)];
    let news = run(&mut hops, 9_000, &silent);
    let [(lost, Some(Outage::Silent))] = news[..] else {
        panic!("{news:?}");
    };
    assert!((4_990..=5_000).contains(&lost), "{lost}");
    // It was not lost: its first answer has it used. Later it must answer for as long as others.
    let news = run(&mut hops, 70_000, &silent);
    let [(first, None), (lost, Some(_)), (back, None)] = news[..] else {
        panic!("{news:?}");
    };
    let times = [first, lost, back].map(|time| time.div_ceil(1_000));
    assert_eq!(times, [20, 50, 65]);

    // Who answers is asked once an interval from then on.
    let (mut hops, _) = watched(&snapshot);
    assert_eq!(run(&mut hops, 2_000, &[]), []);
    assert_eq!(hops.next_deadline(), Some(at(1_666 + 5_000)));
}

/// Nobody can be asked while the address to ask from is being claimed, or the device is not there yet.
#[test]
fn one_that_is_new_must_answer_only_what_it_can_be_asked() {
    let snapshot = snapshot(PROBE);
    let (mut hops, place) = watched(&snapshot);
    let mut asked = 0;
    while let Some(due) = hops.next_deadline().filter(|due| *due < at(9_000)) {
        asked += usize::from(hops.poll(due, |_, _| false, |_| due < at(7_000)).is_some());
        if asked == 3 {
            break;
        }
    }
    assert_eq!(asked, 3);
    hops.attached(place.0, at(8_000));
    assert_eq!(run(&mut hops, 8_900, &[(0, false)]), []);
    let news = run(&mut hops, 9_100, &[(0, false)]);
    assert!(matches!(news[..], [(8_999..=9_000, Some(_))]), "{news:?}");
}

/// An answer that is longer under way than to the next of the first pings.
#[test]
fn one_that_is_new_may_answer_any_of_the_first_pings() {
    let target: IpAddr = "198.51.100.53".parse().unwrap();
    let snapshot = snapshot(&format!(r#", "probe": {{ "target": "{target}" }}"#));
    let (mut hops, place) = watched(&snapshot);
    let mut asked = Vec::new();
    for time in [0, 333, 666] {
        let (_, ask) = hops
            .poll(at(time), |_, _| true, |_| false)
            .expect("it is asked");
        let Ask::Ping { number, .. } = ask else {
            panic!("{ask:?}");
        };
        asked.push(number);
    }
    assert!(hops.pong(place.0, target, asked[0]));
    let later = hops.poll(at(1_000), |_, _| true, |_| false);
    assert_eq!(hops.iter().next().and_then(|(_, hop)| hop.down), None);
    let Some((_, Ask::Ping { number, .. })) = later else {
        panic!("{later:?}");
    };
    assert!(!asked.contains(&number), "{asked:?} {number:?}");
}

#[test]
fn one_without_probes_is_asked_only_when_it_is_lost() {
    let snapshot = snapshot("");
    let (mut hops, place) = watched(&snapshot);
    assert_eq!(hops.next_deadline(), None);
    hops.failed(place, at(1_000));
    assert_eq!(hops.take_notices().len(), 1);
    let news = run(&mut hops, 60_000, &[(0, false), (20_000, true)]);
    assert_eq!(news, [(23_000, None)]);
    assert_eq!(hops.next_deadline(), None);
}

#[test]
fn one_that_comes_and_goes_is_kept_out_of_use_for_longer_each_time() {
    let snapshot = snapshot(PROBE);
    let (mut hops, _) = watched(&snapshot);
    // It answers for 20 s and is silent for 20 s, in turn.
    let flapping: Vec<_> = (0..60).map(|n| (20_000 * n, n % 2 == 0)).collect();
    let news = run(&mut hops, 1_200_000, &flapping);
    let returns = news.iter().filter(|(_, down)| down.is_none()).count();
    // After 2, 4, 8 and 16 s without a gap, and then never.
    assert_eq!(returns, 4, "{news:?}");
    // Who answers for long enough is used again, and forgiven later.
    let news = run(&mut hops, 1_500_000, &[(0, true)]);
    let [(back, None)] = news[..] else {
        panic!("{news:?}");
    };
    assert!((1_232_000..1_266_000).contains(&back), "{back}");
    let news = run(
        &mut hops,
        1_600_000,
        &[(0, true), (1_500_000, false), (1_510_000, true)],
    );
    let [(_, Some(Outage::Silent)), (back, None)] = news[..] else {
        panic!("{news:?}");
    };
    assert_eq!(back, 1_513_333);
}

#[test]
fn one_that_answers_every_other_time_has_sessions_looked_at_once() {
    let snapshot = snapshot(PROBE);
    let (mut hops, place) = watched(&snapshot);
    run(&mut hops, 5_000, &[(0, true), (500, false)]);
    let health = hops.take_health().expect("it is lost");
    assert_eq!(health.outage(place.0, place.1), Some(Outage::Silent));
    let every_other: Vec<_> = (0..300).map(|n| (1_000 * n + 500, n % 2 == 0)).collect();
    let mut reasons = BTreeSet::new();
    for second in 6..300 {
        run(&mut hops, 1_000 * second, &every_other);
        reasons.insert(hops.iter().next().and_then(|(_, hop)| hop.down));
        assert_eq!(hops.take_health(), None, "at {second} s");
    }
    let both = [Some(Outage::Damped), Some(Outage::Silent)];
    assert_eq!(reasons, BTreeSet::from(both), "it is shown as it is");
}

/// Nearer to use after a while, and further from it at once.
#[test]
fn one_whose_target_alone_is_silent_is_taken_for_that_after_ten_seconds() {
    let probe = r#", "probe": { "interval": 1, "count": 3, "target": "198.51.100.53" }"#;
    let snapshot = snapshot(probe);
    let (mut hops, place) = watched(&snapshot);
    run(&mut hops, 5_000, &[(0, true)]);
    let known = |hops: &mut NextHops| {
        let health = hops.take_health()?;
        health.outage(place.0, place.1)
    };
    assert_eq!(known(&mut hops), Some(Outage::TargetSilent));
    hops.failed(place, at(5_000));
    assert_eq!(known(&mut hops), Some(Outage::Silent));
    run(&mut hops, 14_900, &[(0, true)]);
    assert_eq!(known(&mut hops), None);
    run(&mut hops, 16_500, &[(0, true)]);
    assert_eq!(known(&mut hops), Some(Outage::TargetSilent));
}

#[test]
fn a_target_that_is_new_is_not_answered_by_what_was_asked_before() {
    let before = snapshot(PROBE);
    let (mut hops, place) = watched(&before);
    run(&mut hops, 5_000, &[(0, true), (500, false)]);
    // It answers ARP, and would be back with the next answer.
    run(&mut hops, 7_400, &[(0, false), (4_500, true)]);
    let after = snapshot(r#", "probe": { "interval": 1, "count": 3, "target": "198.51.100.53" }"#);
    hops.adopt(&after, at(7_500));
    let down = |hops: &NextHops| {
        let mut all = hops.iter().filter(|(known, _)| *known == place);
        all.next().and_then(|(_, hop)| hop.down)
    };
    for second in 8..20 {
        run(&mut hops, 1_000 * second, &[(0, true)]);
        assert!(down(&hops).is_some(), "at {second} s");
    }
}

#[test]
fn all_behind_a_link_that_is_down_are_out_of_use() {
    let snapshot = snapshot(PROBE);
    let (mut hops, place) = watched(&snapshot);
    let uplink = snapshot.port_id("uplink").unwrap();
    run(&mut hops, 4_000, &[]);
    hops.set_ports_down(BTreeSet::from([uplink]), &snapshot, at(5_000));
    let health = hops.take_health().unwrap();
    let other: IpAddr = "192.0.2.77".parse().unwrap();
    assert!(health.outage(place.0, place.1) == health.outage(place.0, other));
    assert_eq!(hops.next_deadline(), None, "nobody is asked");
    hops.take_notices();
    hops.set_ports_down(BTreeSet::new(), &snapshot, at(9_000));
    let health = hops.take_health().unwrap();
    assert!(health.outage(place.0, place.1).is_some() && health.outage(place.0, other).is_none());
    assert_eq!(run(&mut hops, 60_000, &[(0, true)]), [(12_000, None)]);
}
