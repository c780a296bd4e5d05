//! Every scenario of `netns-scripts`, each in a lab of its own: namespaces, a real VM, the real
//! program. They need root (or sudo) and the release build, so `make test` runs them and a plain
//! `cargo test` does not. Those that measure time, loss or throughput run alone; of the others, which mostly
//! wait, two run side by side.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::RwLock;

static RUNNING: RwLock<()> = RwLock::new(());

/// What else runs meanwhile.
enum Labs {
    /// Nothing.
    Alone,
    /// Another lab.
    Beside,
}

impl Labs {
    /// Runs a scenario with `dut` in the router's place, and shows what it said if it fails.
    fn scenario(self, name: &str, dut: &str) {
        self.run(name, dut, &[]);
    }

    /// Runs a scenario with what `tapgate import` made of its rules, as `control/tests/import.rs` keeps it,
    /// in place of the recipe's configuration.
    fn imported(self, name: &str, configuration: &str) {
        let file = root().join("control/tests/import").join(configuration);
        self.run(name, "tapgate", &[("CONFIGURATION", &file)]);
    }

    /// The same of the kernel's own setup, with what is written by hand in place of what is there.
    fn changed(self, name: &str, changes: &[(&str, &str)]) {
        let file = root().join(format!("control/tests/import/kernel-{name}.toml"));
        let mut text = fs::read_to_string(file).unwrap();
        for (there, by_hand) in changes {
            assert!(text.contains(there), "{there}");
            text = text.replace(there, by_hand);
        }
        let file = std::env::temp_dir().join(format!("tapgate-{name}-{}.toml", std::process::id()));
        fs::write(&file, text).unwrap();
        self.run(name, "tapgate", &[("CONFIGURATION", &file)]);
        fs::remove_file(&file).unwrap();
    }

    /// What the kernel's router of a recipe says of itself is saved by the commands of `--help`, imported, and
    /// taken by `tapgate check`.
    fn saved(self, recipe: &str) {
        self.run("saved", "kernel", &[("RECIPE", Path::new(recipe))]);
    }

    fn run(self, name: &str, dut: &str, variables: &[(&str, &Path)]) {
        match self {
            Self::Alone => {
                let _nobody_else = RUNNING.write();
                lab(name, dut, variables, "");
            }
            Self::Beside => {
                let _nobody_alone = RUNNING.read();
                lab(name, dut, variables, "yes");
            }
        }
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn lab(name: &str, dut: &str, variables: &[(&str, &Path)], beside: &str) {
    let root = root();
    let tools = Path::new(env!("CARGO_BIN_EXE_flow")).with_file_name("");
    let tapgate = tools.with_file_name("release").join("tapgate");
    let mut command = if std::fs::metadata("/proc/self").is_ok_and(|me| me.uid() == 0) {
        Command::new("env")
    } else {
        let mut sudo = Command::new("sudo");
        sudo.args(["--non-interactive", "env"]);
        sudo
    };
    for (variable, value) in variables {
        command.arg(format!("{variable}={}", value.display()));
    }
    let output = command
        .arg(format!("LAB_TOOLS={}", tools.display()))
        .arg(format!("TAPGATE={}", tapgate.display()))
        .args(["LAB_WAIT=300", "IPERF_SECONDS=1"])
        .arg(format!("LAB_BESIDE={beside}"))
        .arg(root.join("netns-scripts/lab.sh"))
        .args(["run", name, &format!("DUT={dut}")])
        .output()
        .expect("the lab cannot be started (without root, sudo is needed)");
    assert!(
        output.status.success(),
        "netns-scripts/lab.sh run {name} DUT={dut}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    print!("{}", String::from_utf8_lossy(&output.stdout));
}

/// What is true of time, loss or throughput, and would not be beside another lab.
mod alone {
    use super::Labs::Alone;

    #[test]
    #[ignore = "needs root; run by make test"]
    fn control_killed() {
        Alone.scenario("restart-control", "tapgate");
    }

    #[test]
    #[ignore = "needs root; run by make test"]
    fn dataplane_killed() {
        Alone.scenario("restart-dataplane", "tapgate");
    }

    #[test]
    #[ignore = "needs root; run by make test"]
    fn dataplane_stands_still() {
        Alone.scenario("standstill", "tapgate");
    }

    #[test]
    #[ignore = "needs root; run by make test"]
    fn bandwidth_of_a_guest() {
        Alone.scenario("bandwidth", "tapgate");
    }

    #[test]
    #[ignore = "needs root; run by make test"]
    fn bandwidth_of_a_guest_by_the_kernel() {
        Alone.scenario("bandwidth", "kernel");
    }

    #[test]
    #[ignore = "needs root; run by make test"]
    fn apply_under_load() {
        Alone.scenario("apply", "tapgate");
    }

    #[test]
    #[ignore = "needs root; run by make test"]
    fn h13_what_an_apply_adds_disturbs_no_guest() {
        Alone.scenario("grow", "tapgate");
    }

    #[test]
    #[ignore = "needs root; run by make test"]
    fn devices_vanish_and_return() {
        Alone.scenario("devices", "tapgate");
    }

    #[test]
    #[ignore = "needs root; run by make test"]
    fn hostile_frames() {
        Alone.scenario("hostile", "tapgate");
    }

    #[test]
    #[ignore = "needs root; run by make test"]
    fn hostile_frames_at_the_kernel() {
        Alone.scenario("hostile", "kernel");
    }

    #[test]
    #[ignore = "needs root; run by make test"]
    fn a_rebooted_vm_finds_a_duplicate_by_the_kernel() {
        Alone.scenario("reboot", "kernel");
    }

    #[test]
    #[ignore = "needs root; run by make test"]
    fn a_vm_reboots_ten_times_and_finds_no_duplicate() {
        Alone.scenario("reboot", "tapgate");
    }

    #[test]
    #[ignore = "needs root; run by make test"]
    fn n24_a_scan_disturbs_no_guest() {
        Alone.scenario("scan", "tapgate");
    }

    #[test]
    #[ignore = "needs root; run by make test"]
    fn honest_guests_beside_one_that_attacks() {
        Alone.scenario("soak", "tapgate");
    }

    #[test]
    #[ignore = "needs root; run by make test"]
    fn two_uplinks() {
        Alone.scenario("two-uplinks", "tapgate");
    }

    #[test]
    #[ignore = "needs root; run by make test"]
    fn two_uplinks_by_the_kernel() {
        Alone.scenario("two-uplinks", "kernel");
    }

    #[test]
    #[ignore = "needs root; run by make test"]
    fn cloud_multiport() {
        Alone.scenario("cloud-multiport", "tapgate");
    }

    #[test]
    #[ignore = "needs root; run by make test"]
    fn cloud_multiport_by_the_kernel() {
        Alone.scenario("cloud-multiport", "kernel");
    }

    /// The marks by which the kernel answers at the uplink that a connection came by are implied; it has no probes.
    #[test]
    #[ignore = "needs root; run by make test"]
    fn two_uplinks_as_the_kernel_says() {
        Alone.imported("two-uplinks", "kernel-two-uplinks.toml");
    }

    /// Which guests have an address in turn is written by hand: the kernel's bridge believes whoever announces it.
    #[test]
    #[ignore = "needs root; run by make test"]
    fn cloud_multiport_as_the_kernel_says() {
        let lists = |own: &str| {
            let written = format!(r#"addresses = ["{own}"] }}"#);
            let more = format!(r#"addresses = ["{own}"], virtual = ["10.0.0.100"] }}"#);
            (written, more)
        };
        let both = [lists("10.0.0.21"), lists("10.0.0.22")];
        let both = both.each_ref().map(|(written, more)| (&**written, &**more));
        Alone.changed("cloud-multiport", &both);
    }
}

/// What is true however long it takes.
mod beside {
    use super::Labs::Beside;

    #[test]
    #[ignore = "needs root; run by make test"]
    fn multi_mac() {
        Beside.scenario("multi-mac", "tapgate");
    }

    #[test]
    #[ignore = "needs root; run by make test"]
    fn multi_mac_by_the_kernel() {
        Beside.scenario("multi-mac", "kernel");
    }

    #[test]
    #[ignore = "needs root; run by make test"]
    fn metadata() {
        Beside.scenario("metadata", "tapgate");
    }

    #[test]
    #[ignore = "needs root; run by make test"]
    fn metadata_by_the_kernel() {
        Beside.scenario("metadata", "kernel");
    }

    #[test]
    #[ignore = "needs root; run by make test"]
    fn stopped_leaves_nothing() {
        Beside.scenario("stop", "tapgate");
    }

    #[test]
    #[ignore = "needs root; run by make test"]
    fn the_processes_have_few_rights() {
        Beside.scenario("rights", "tapgate");
    }

    #[test]
    #[ignore = "needs root; run by make test"]
    fn egress_guard() {
        Beside.scenario("guard", "tapgate");
    }

    #[test]
    #[ignore = "needs root; run by make test"]
    fn egress_guard_is_missing_in_the_kernel() {
        Beside.scenario("guard", "kernel");
    }

    #[test]
    #[ignore = "needs root; run by make test"]
    fn ovh_ipv6_by_the_kernel() {
        Beside.scenario("ovh-ipv6", "kernel");
    }

    #[test]
    #[ignore = "needs root; run by make test"]
    fn hetzner_routed_by_the_kernel() {
        Beside.scenario("hetzner-routed", "kernel");
    }

    #[test]
    #[ignore = "needs root; run by make test"]
    fn ovh_ipv6() {
        Beside.scenario("ovh-ipv6", "tapgate");
    }

    #[test]
    #[ignore = "needs root; run by make test"]
    fn bridged() {
        Beside.scenario("bridged", "tapgate");
    }

    #[test]
    #[ignore = "needs root; run by make test"]
    fn bridged_by_the_kernel() {
        Beside.scenario("bridged", "kernel");
    }

    #[test]
    #[ignore = "needs root; run by make test"]
    fn hetzner_routed() {
        Beside.scenario("hetzner-routed", "tapgate");
    }

    #[test]
    #[ignore = "needs root; run by make test"]
    fn d06_dhcp_clients() {
        Beside.scenario("clients", "tapgate");
    }

    #[test]
    #[ignore = "needs root; run by make test"]
    fn n06_groups_are_known_to_a_switch_that_snoops() {
        Beside.scenario("snooping", "tapgate");
    }

    #[test]
    #[ignore = "needs root; run by make test"]
    fn n06_groups_are_known_to_a_switch_that_snoops_by_the_kernel() {
        Beside.scenario("snooping", "kernel");
    }

    #[test]
    #[ignore = "needs root; run by make test"]
    fn single_address() {
        Beside.scenario("single-address", "tapgate");
    }

    #[test]
    #[ignore = "needs root; run by make test"]
    fn t01_t05_t06_a_stun_client_finds_each_behaviour() {
        Beside.scenario("natdiscovery", "tapgate");
    }

    #[test]
    #[ignore = "needs root; run by make test"]
    fn single_address_by_the_kernel() {
        Beside.scenario("single-address", "kernel");
    }

    #[test]
    #[ignore = "needs root; run by make test"]
    fn port_forward() {
        Beside.scenario("port-forward", "tapgate");
    }

    #[test]
    #[ignore = "needs root; run by make test"]
    fn port_forward_by_the_kernel() {
        Beside.scenario("port-forward", "kernel");
    }

    #[test]
    #[ignore = "needs root; run by make test"]
    fn t01_t05_a_stun_client_finds_the_kernels_behaviour() {
        Beside.scenario("natdiscovery", "kernel");
    }

    #[test]
    #[ignore = "needs root; run by make test"]
    fn single_address_as_iptables_says() {
        Beside.imported("single-address", "single-address.toml");
    }

    #[test]
    #[ignore = "needs root; run by make test"]
    fn single_address_as_shorewall_says() {
        Beside.imported("single-address", "shorewall-single-address.toml");
    }

    #[test]
    #[ignore = "needs root; run by make test"]
    fn port_forward_as_iptables_says() {
        Beside.imported("port-forward", "port-forward.toml");
    }

    #[test]
    #[ignore = "needs root; run by make test"]
    fn port_forward_as_shorewall_says() {
        Beside.imported("port-forward", "shorewall-port-forward.toml");
    }

    #[test]
    #[ignore = "needs root; run by make test"]
    fn stopped_closed_leaves_guests_nobody_to_talk_to() {
        Beside.scenario("stop-closed", "tapgate");
    }

    #[test]
    #[ignore = "needs root; run by make test"]
    fn each_kernels_setup_is_saved_and_imported() {
        for recipe in [
            "multi-mac",
            "single-address",
            "port-forward",
            "ovh-ipv6",
            "hetzner-routed",
            "bridged",
            "cloud-multiport",
            "two-uplinks",
        ] {
            Beside.saved(recipe);
        }
    }

    #[test]
    #[ignore = "needs root; run by make test"]
    fn multi_mac_as_the_kernel_says() {
        Beside.imported("multi-mac", "kernel-multi-mac.toml");
    }

    #[test]
    #[ignore = "needs root; run by make test"]
    fn single_address_as_the_kernel_says() {
        Beside.imported("single-address", "kernel-single-address.toml");
    }

    #[test]
    #[ignore = "needs root; run by make test"]
    fn port_forward_as_the_kernel_says() {
        Beside.imported("port-forward", "kernel-port-forward.toml");
    }

    #[test]
    #[ignore = "needs root; run by make test"]
    fn ovh_ipv6_as_the_kernel_says() {
        Beside.imported("ovh-ipv6", "kernel-ovh-ipv6.toml");
    }

    /// The kernel knows nothing of the DHCP server beside it: that is written by hand.
    #[test]
    #[ignore = "needs root; run by make test"]
    fn hetzner_routed_as_the_kernel_says() {
        let network = r#"addresses = ["10.0.1.254/24", "fe80::1/64"]"#;
        let offers = format!(r#"{network}, dhcp = {{ dns = ["9.9.9.9"] }}"#);
        Beside.changed("hetzner-routed", &[(network, &offers)]);
    }

    /// Who the bridged guests are is written by hand, as a comment asks: rules for their frames are not read. The
    /// host has no address in this lab, so nothing is shared with it.
    #[test]
    #[ignore = "needs root; run by make test"]
    fn bridged_as_the_kernel_says() {
        let guests = r#"
[guests]
web = { port = "vnet-web", mac = "52:54:00:00:00:0a", public = ["203.0.113.21", "2001:db8:9::21"] }
db = { port = "port-db", mac = "02:00:00:00:02:0b", public = ["203.0.113.22", "2001:db8:9::22"] }
"#;
        Beside.changed(
            "bridged",
            &[
                ("\n[guests]\n", guests),
                (r#", shared = "61000-65535""#, ""),
            ],
        );
    }

    #[test]
    #[ignore = "needs root; run by make test"]
    fn interfaces_are_read_as_ifup_does_them() {
        Beside.scenario("ifup", "kernel");
    }
}
