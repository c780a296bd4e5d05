//! The recorded cases. Each test writes down what goes into one folder of `tests/golden`, which
//! is named after the rows of the requirements that it proves; what must come out is in the folder.

mod arp;
mod errors;
mod forwarding;
mod nat;
mod nat_errors;
mod owners;
mod services;

#[test]
fn every_folder_has_its_test() {
    let sources = [
        include_str!("arp.rs"),
        include_str!("errors.rs"),
        include_str!("forwarding.rs"),
        include_str!("nat.rs"),
        include_str!("nat_errors.rs"),
        include_str!("owners.rs"),
        include_str!("services.rs"),
    ];
    for name in tapgate_tests::golden::all() {
        let tested = sources
            .iter()
            .any(|text| text.contains(&format!("check(\"{name}\"")));
        assert!(tested, "tests/golden/{name} belongs to no test");
    }
}
