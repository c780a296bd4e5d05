//! The command line.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use tapgate_protocol::{DEFAULT_RUNTIME_DIR, Show};

use crate::block_log::time;

const ABOUT: &str = "A packet-level userspace router for hypervisors: many MACs on one NIC, \
source-based tables, SNAT, from one file";

const EXAMPLE: &str = "\
First steps:
  tapgate check examples/multi-mac.toml       is the file right?
  sudo tapgate run examples/multi-mac.toml    route until Ctrl-C or SIGTERM
  sudo tapgate show ports                     what is there, what passes
  sudo tapgate explain --in guest-a --from 10.0.1.1 --to 192.0.2.80
                                              every decision about such a packet
  sudo tapgate apply examples/multi-mac.toml  change it; flows still allowed go on

Exit codes:
  0  ok
  1  failed; for `explain`: the packet is dropped; for `whois`: nobody has it
  2  wrong usage, or the configuration is refused (nothing was changed)
  3  tapgate is not running there
  4  permission denied";

/// What was asked for.
#[derive(Debug, Parser)]
#[command(name = "tapgate", version, about = ABOUT, after_help = EXAMPLE, max_term_width = 100)]
pub struct Cli {
    /// Where the sockets of the running tapgate are
    #[arg(long, global = true, env = "TAPGATE_RUNTIME_DIR", value_name = "DIR", default_value = DEFAULT_RUNTIME_DIR)]
    pub runtime_dir: PathBuf,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// One command.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Route as FILE says, until SIGTERM or Ctrl-C
    ///
    /// Starts the dataplane, or takes over the one that an earlier `run` left behind, and restarts
    /// it should it die. SIGHUP reads FILE again. TAPGATE_LOG sets what is logged: error, warn,
    /// info (the default) or debug. Needs CAP_NET_ADMIN and CAP_NET_RAW for the dataplane, which
    /// gets nothing else and runs as a user of its own. This process gives up every capability.
    Run {
        /// The configuration file
        file: PathBuf,
        /// The dataplane's program [default: tapgate-dataplane beside this one]
        #[arg(long, value_name = "PATH")]
        dataplane: Option<PathBuf>,
        /// The user that the dataplane runs as, and nothing else should
        #[arg(long, value_name = "USER", default_value = "tapgate")]
        user: String,
    },
    /// A part of `run`, which starts it
    #[command(hide = true)]
    Launcher,
    /// Say whether FILE is right, and if not where and what to write instead
    Check {
        /// The configuration file
        file: PathBuf,
        /// Print a JSON array of {file, line, column, length, problem, remedy}
        #[arg(long)]
        json: bool,
    },
    /// Make FILE the configuration of the running tapgate: all of it or nothing
    Apply {
        /// The configuration file
        file: PathBuf,
        /// Print {generation, warnings}, or what `check --json` prints
        #[arg(long)]
        json: bool,
    },
    /// Show what is configured, and what the dataplane knows and counts
    Show(ShowWhat),
    /// Follow a packet through every decision, without sending it; or the next one that comes (--watch)
    Explain(Explain),
    /// Say which guest has, or had, an external address and port
    Whois(Whois),
    /// Say what runs
    Status {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// End it in good order, and leave nothing behind
    Stop,
    /// Write another firewall's rules, or a kernel's own setup, as a configuration file
    ///
    /// The file goes to standard output, or to `-o`; each entry says which line it is from. What could
    /// not be translated is listed with its line, on standard error and at the end of the file, and never
    /// written more widely than it was. Where something was refused that no longer is, the file says WIDER.
    /// What rules do not tell, such as addresses, are guesses to look for: CHANGE. Options say them.
    ///
    /// Exit codes: 0 all is translated, 1 something was left out, 2 the input cannot be read.
    Import(Import),
}

/// `tapgate import`.
#[derive(Debug, Args)]
pub struct Import {
    /// From where.
    #[command(subcommand)]
    pub from: ImportFrom,
    /// A device towards the provider; the first is the host's own NIC. DEVICE@NIC: one that is only a MAC
    /// or a VLAN on a NIC, as macvlan devices are [default: those that translations face]
    #[arg(long, global = true, value_name = "DEVICE[@NIC]")]
    pub uplink: Vec<String>,
    /// An address of the router with its prefix length, at a device or at the first uplink
    #[arg(long, global = true, value_name = "[DEVICE=]ADDRESS")]
    pub address: Vec<String>,
    /// The MAC of an uplink, or of the first one
    #[arg(long, global = true, value_name = "[DEVICE=]MAC")]
    pub mac: Vec<String>,
    /// The provider's gateway, at most one of each family
    #[arg(long, global = true, value_name = "ADDRESS")]
    pub gateway: Vec<IpAddr>,
    /// The guests' devices in place of a bridge that rules name
    #[arg(long, global = true, value_name = "BRIDGE=DEVICE,...")]
    pub ports: Vec<String>,
    /// Which guest's address is behind which port: guests of one network do not reach each other without
    #[arg(long, global = true, value_name = "ADDRESS=DEVICE")]
    pub guest: Vec<String>,
    /// Write the file there
    #[arg(short, long, global = true, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// With `-o`: print the list as a JSON array of {file, line, place, text, fate, why}
    #[arg(long, global = true, requires = "output")]
    pub json: bool,
}

/// What `tapgate import` reads.
#[derive(Debug, Subcommand)]
pub enum ImportFrom {
    /// The output of `iptables-save` and `ip6tables-save`
    ///
    /// Chains are walked in order, those that are jumped to with them: FORWARD becomes the policy,
    /// PREROUTING and POSTROUTING of nat become translations. INPUT and OUTPUT are about the host itself,
    /// which tapgate leaves alone. Sets need the output of `ipset save` as well.
    Iptables {
        /// What was saved, of one family or of both
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// The output of `nft -j list ruleset`
    Nft {
        /// What was listed
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// The kernel's own setup: devices, rules, routes, neighbours and its firewall, as `ip -j` tells them
    #[command(after_help = crate::import::kernel::SAVE)]
    Kernel {
        /// Where the output was saved
        directory: PathBuf,
    },
    /// A file of ifupdown
    ///
    /// With the files that it names by `source`. `ip`, `brctl` and `iptables` of `up`, `pre-up` and `post-up` lines
    /// are read too.
    Interfaces {
        /// The file, such as /etc/network/interfaces
        file: PathBuf,
    },
    /// A directory of systemd-networkd: .netdev, .network and .link files
    Networkd {
        /// The directory, such as /etc/systemd/network
        directory: PathBuf,
    },
    /// Files of netplan
    ///
    /// In the order in which netplan reads them: by name.
    Netplan {
        /// The files, such as /etc/netplan/*.yaml
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// A directory of Shorewall's configuration, of version 3 to 5
    Shorewall {
        /// The directory, such as /etc/shorewall
        directory: PathBuf,
        /// Where Shorewall's own macros are, if it is installed
        #[arg(long, value_name = "DIR", default_value = "/usr/share/shorewall")]
        macros: PathBuf,
    },
}

/// `tapgate show`.
#[derive(Debug, Args)]
pub struct ShowWhat {
    /// What to show
    #[arg(value_enum)]
    pub what: What,
    /// Print a JSON array; of `config`: {text, config, implicit}
    #[arg(long)]
    pub json: bool,
    /// With `drops`: also the reasons that never occurred
    #[arg(long)]
    pub all: bool,
    /// With `config`: spell out every shorthand and default as entries of their own; what has no words in
    /// the file's language, such as connected routes, is a comment at its place. This is a file as well,
    /// and means the same
    #[arg(long)]
    pub expanded: bool,
    /// With `config`: show this file, without a running tapgate
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// `tapgate explain`.
#[derive(Debug, Args)]
pub struct Explain {
    /// The port it comes in by; with --from-router the one where what it answers came in, if it is an answer
    #[arg(long = "in", value_name = "PORT", required_unless_present_any = ["own", "watch"])]
    pub port: Option<String>,
    /// Its source address; with --from-router the one that the route says, if it is left out
    #[arg(long, value_name = "IP", required_unless_present_any = ["own", "watch"])]
    pub from: Option<IpAddr>,
    /// Its destination address
    #[arg(long, value_name = "IP", required_unless_present = "watch")]
    pub to: Option<IpAddr>,
    /// Its protocol: tcp, udp, icmp (an echo request, or a reply by the router) or a number [default: icmp]
    #[arg(long, value_parser = protocol)]
    pub proto: Option<u8>,
    /// Its source port, or the identifier of an echo request [default: 40000]
    #[arg(long, value_name = "N")]
    pub sport: Option<u16>,
    /// Its destination port [default: 443]
    #[arg(long, value_name = "N")]
    pub dport: Option<u16>,
    /// Its type of service or traffic class, all eight bits: four times the DSCP [default: 0]
    #[arg(long, value_name = "N", value_parser = byte, conflicts_with = "watch")]
    pub tos: Option<u8>,
    /// It is the router's own, such as an echo reply or an ICMP error: sent from one of its addresses
    ///
    /// What it says of a guest's lease or to a neighbour needs no route; explain the request instead.
    #[arg(long = "from-router")]
    pub own: bool,
    /// Wait for the next real packet that is so, as it comes in, and print what becomes of it
    ///
    /// What is not said is any. One watches at a time, the last that began, and hears of 100 packets a
    /// second. A packet that waits for its next hop is seen again when it goes on. Exit code 1: fewer
    /// packets came than asked for.
    #[arg(long, conflicts_with_all = ["own", "config"])]
    pub watch: bool,
    /// With --watch: so many packets
    #[arg(long, value_name = "N", default_value_t = 1, requires = "watch")]
    pub count: u32,
    /// With --watch: for so many seconds at most
    #[arg(long, value_name = "SECONDS", requires = "watch")]
    pub timeout: Option<u64>,
    /// Explain by this file, without a running tapgate
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print JSON; of --watch an object for each packet, in a line of its own
    #[arg(long)]
    pub json: bool,
}

/// `tapgate whois`.
#[derive(Debug, Args)]
pub struct Whois {
    /// The external address and port, as in 203.0.113.10:41234 or [2001:db8::1]:443
    #[arg(value_name = "IP:PORT")]
    pub place: SocketAddr,
    /// The protocol: tcp, udp, icmp (an identifier) or a number; any when absent
    #[arg(long, value_parser = protocol)]
    pub proto: Option<u8>,
    /// When, in UTC, as in 2026-01-31T23:59:59Z; needs `block_log` in the configuration
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub at: Option<String>,
    /// The configuration file
    #[arg(long, value_name = "FILE", default_value = "/etc/tapgate.toml")]
    pub config: PathBuf,
    /// Print a JSON array of {guest, inside, port, protocol, by, ports, since}
    #[arg(long)]
    pub json: bool,
}

/// What `tapgate show` can show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum What {
    /// Where frames enter and leave: devices, what passed, what the kernel dropped
    Ports,
    /// Personalities and networks: MACs, VLANs, addresses, gateways
    Interfaces,
    /// VMs and containers: what each owns, and what it sent but may not
    Guests,
    /// Routing rules by priority
    Rules,
    /// Routes of all tables
    Routes,
    /// Next hops and their MACs
    Neighbors,
    /// Tracked flows and their translation
    Sessions,
    /// Everything that is counted and not a drop
    Counters,
    /// Dropped frames by reason
    Drops,
    /// The file as it was applied last, comments included: control keeps its text. The file itself may be
    /// another by now
    Config,
}

impl What {
    /// What to ask the dataplane for; `None`: it is control that knows.
    pub fn rows(self) -> Option<Show> {
        Some(match self {
            Self::Ports => Show::Ports,
            Self::Interfaces => Show::Interfaces,
            Self::Guests => Show::Guests,
            Self::Rules => Show::Rules,
            Self::Routes => Show::Routes,
            Self::Neighbors => Show::Neighbors,
            Self::Sessions => Show::Sessions,
            Self::Counters => Show::Counters,
            Self::Drops => Show::Drops,
            Self::Config => return None,
        })
    }
}

fn protocol(text: &str) -> Result<u8, String> {
    match text {
        "icmp" => Ok(1),
        "tcp" => Ok(6),
        "udp" => Ok(17),
        number => number
            .parse()
            .map_err(|_| "write tcp, udp, icmp or a protocol number from 0 to 255".to_owned()),
    }
}

fn byte(text: &str) -> Result<u8, String> {
    let number = match text.strip_prefix("0x") {
        Some(hex) => u8::from_str_radix(hex, 16),
        None => text.parse(),
    };
    number.map_err(|_| "write a number from 0 to 255, or 0x00 to 0xff".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn protocols_by_name_and_number() {
        assert_eq!(protocol("udp"), Ok(17));
        assert_eq!(protocol("47"), Ok(47));
        assert!(protocol("256").is_err());
    }
}
