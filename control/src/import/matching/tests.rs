use super::*;

fn nets(text: &str) -> Vec<IpNet> {
    text.split_whitespace()
        .map(|n| n.parse().unwrap())
        .collect()
}

#[test]
fn what_is_taken_out_is_gone_and_nothing_else() {
    assert_eq!(
        without(&nets("10.0.0.0/30"), &nets("10.0.0.1/32")),
        nets("10.0.0.0/32 10.0.0.2/31")
    );
    assert_eq!(without(&nets("10.0.0.0/30"), &nets("10.0.0.0/8")), []);
    let left = without(&Family::V6.all(), &nets("fe80::/10"));
    assert_eq!(left.len(), 10);
    assert!(left.iter().all(|net| !meet(net, &nets("fe80::/10")[0])));
}

#[test]
fn all_ports_but_some() {
    assert_eq!(other_ports(&[(80, 80), (1, 10)]), [(11, 79), (81, 65_535)]);
    assert_eq!(other_ports(&[(0, 65_535)]), []);
}

#[test]
fn two_conditions_join() {
    let one = Addresses::within(nets("10.0.0.0/8"));
    let two = Addresses::within(nets("10.1.0.0/16 192.168.0.0/16"));
    assert_eq!(one.and(&two), Some(Addresses::within(nets("10.1.0.0/16"))));
    assert_eq!(one.and(&Addresses::within(nets("192.168.0.0/16"))), None);
    let not = Addresses::within(nets("10.1.0.0/16")).negated().unwrap();
    let left = one
        .and(&not)
        .unwrap()
        .prefixes(Family::V4)
        .unwrap()
        .unwrap();
    assert!(
        left.iter()
            .all(|net| net.contains(&net.network()) && !nets("10.1.0.0/16")[0].contains(net))
    );
    assert_eq!(left.len(), 8);
}
