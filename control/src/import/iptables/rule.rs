//! One rule of iptables.

use std::iter::Peekable;

use super::super::chains::{Line, Then, destinations};
use super::super::firewall::{Firewall, Origin, Verdict, Worn};
use super::super::ipset::{Sets, net, net_or_range};
use super::super::line::{Asked, Of};
use super::super::matching::{
    Addresses, Devices, Family, Match, Ports, Service, State, other_ports,
};
use super::super::untranslated::{MATCHES, why};
use super::super::words::{self, goal, state};
use super::mark::{asked, marking};

/// Modules whose options are read here.
const KNOWN: [&str; 13] = [
    "tcp",
    "udp",
    "icmp",
    "icmp6",
    "conntrack",
    "state",
    "multiport",
    "comment",
    "addrtype",
    "set",
    "iprange",
    "mark",
    "connmark",
];

/// A line's words; quotation marks hold one together.
pub(in crate::import) fn split(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quoted = false;
    let mut letters = line.chars();
    while let Some(c) = letters.next() {
        match c {
            '"' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            '\\' if quoted => word.get_or_insert_default().extend(letters.next()),
            c if c.is_whitespace() && !quoted => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// Reads one rule.
pub(super) fn rule(
    words: &[String],
    family: Family,
    origin: Origin,
    is_chain: &dyn Fn(&str) -> bool,
    firewall: &Firewall,
    sets: &Sets,
) -> Line {
    let mut reading = Reading {
        firewall,
        sets,
        when: Match::default(),
        marks: Vec::new(),
        of: Of::Packet,
        problem: None,
    };
    let mut words = words.iter().map(String::as_str).peekable();
    let mut then = Then::Nothing;
    let mut not = false;
    while let Some(word) = words.next() {
        match word {
            "!" => {
                not = true;
                continue;
            }
            "-j" | "--jump" => {
                let target = words.next().unwrap_or_default();
                then = self::then(target, &mut words, is_chain);
                break;
            }
            "-g" | "--goto" => {
                then = Then::Goto(words.next().unwrap_or_default().to_owned());
                break;
            }
            option => {
                if words.peek() == Some(&"!") {
                    words.next();
                    not = true;
                }
                reading.option(option, not, &mut words);
            }
        }
        not = false;
    }
    Line {
        origin,
        family,
        when: match reading.problem {
            None => Ok(reading.when),
            Some(problem) => Err(problem),
        },
        marks: reading.marks,
        then,
    }
}

/// What a target does.
fn then<'w>(
    target: &str,
    words: &mut Peekable<impl Iterator<Item = &'w str>>,
    is_chain: &dyn Fn(&str) -> bool,
) -> Then {
    let marked = match target {
        "MARK" => Some(Of::Packet),
        "CONNMARK" => Some(Of::Connection),
        _ => None,
    };
    if let Some(of) = marked {
        let unclear = || Then::Unclear("what it does to a mark is not understood".to_owned());
        return marking(of, words).map_or_else(unclear, Then::Mark);
    }
    let mut goals = Vec::new();
    let mut ports = None;
    while let Some(word) = words.next() {
        match word {
            "--to-source" | "--to-destination" => match words.next().and_then(goal) {
                Some(goal) => goals.push(goal),
                None => {
                    return Then::Unclear(
                        "the address that it is translated to is no plain one".to_owned(),
                    );
                }
            },
            "--to-ports" => {
                ports = words
                    .next()
                    .and_then(|p| words::ports(&p.replace('-', ":")))
            }
            _ => {}
        }
    }
    match target {
        "ACCEPT" => Then::Decide(Verdict::Accept),
        "DROP" => Then::Decide(Verdict::Drop),
        "REJECT" => Then::Decide(Verdict::Reject),
        "RETURN" => Then::Return,
        "MASQUERADE" => Then::Snat(Worn::Device { ports }),
        "SNAT" => {
            let ranges = goals.iter().filter_map(|goal| goal.addresses).collect();
            let ports = goals.first().and_then(|goal| goal.ports);
            Then::Snat(Worn::Addresses { ranges, ports })
        }
        "DNAT" => destinations(&goals),
        chain if is_chain(chain) => Then::Jump(chain.to_owned()),
        other => Then::Other(other.to_owned()),
    }
}

struct Reading<'r> {
    firewall: &'r Firewall,
    sets: &'r Sets,
    when: Match,
    marks: Vec<Asked>,
    /// Whose mark is asked for next.
    of: Of,
    problem: Option<String>,
}

impl Reading<'_> {
    fn option<'w>(&mut self, option: &str, not: bool, words: &mut impl Iterator<Item = &'w str>) {
        let read = self.condition(option, not, words);
        let joined = read.and_then(|more| {
            let never = || "it asks for what cannot be together".to_owned();
            self.when.and(&more).ok_or_else(never)
        });
        match joined {
            Ok(when) => self.when = when,
            Err(problem) => {
                self.problem.get_or_insert(problem);
            }
        }
    }

    /// One condition.
    fn condition<'w>(
        &mut self,
        option: &str,
        not: bool,
        words: &mut impl Iterator<Item = &'w str>,
    ) -> Result<Match, String> {
        let mut when = Match::default();
        let mut value = || words.next().unwrap_or_default();
        let unknown = |what: &str| format!("\"{what}\" is not understood");
        match option {
            "-m" | "--match" => {
                let module = value();
                match module {
                    "mark" => self.of = Of::Packet,
                    "connmark" => self.of = Of::Connection,
                    _ => {}
                }
                if !KNOWN.contains(&module) {
                    let known = why(MATCHES, module).map(str::to_owned);
                    return Err(
                        known.unwrap_or_else(|| format!("a rule does not ask for \"{module}\""))
                    );
                }
            }
            "--comment" => {
                value();
            }
            "--mark" => {
                let text = value();
                let asked = asked(self.of, text, not).ok_or_else(|| unknown(text))?;
                self.marks.push(asked);
            }
            "-s" | "--source" | "--src-range" => when.source = addresses(value(), not)?,
            "-d" | "--destination" | "--dst-range" => when.destination = addresses(value(), not)?,
            "-i" | "--in-interface" => when.from = self.device(value(), not)?,
            "-o" | "--out-interface" => when.to = self.device(value(), not)?,
            "-p" | "--protocol" => match value() {
                "all" | "0" if !not => {}
                name => {
                    let number = words::protocol(name).ok_or_else(|| unknown(name))?;
                    if not {
                        return Err("a rule asks for protocols, not for all but one".to_owned());
                    }
                    when.service = Service::protocol(number);
                }
            },
            "--dport" | "--dports" | "--destination-port" | "--destination-ports" => {
                when.service.ports = Some(port_list(value(), not)?);
            }
            "--sport" | "--sports" | "--source-port" | "--source-ports" => {
                when.service.source_ports = Some(port_list(value(), not)?);
            }
            "--icmp-type" | "--icmpv6-type" => {
                let kind = value();
                let protocol = if option == "--icmp-type" { 1 } else { 58 };
                if kind != "any" && kind != "255" {
                    let number = words::icmp_type(kind, protocol);
                    let number = number.ok_or("a rule asks for ICMP types, not for codes")?;
                    if not {
                        return Err("a rule asks for ICMP types, not for all but one".to_owned());
                    }
                    when.service.icmp_types = Some([number].into());
                }
            }
            "--ctstate" | "--state" => when.state = state(value().split(','), not)?,
            "--ctstatus" => when.state = state(value().split(','), not)?,
            // A first packet of TCP has SYN; whether others are let begin a flow no rule says.
            "--syn" if !not => {}
            "--tcp-flags" => {
                let flags = (value(), value());
                if not || !matches!(flags, ("FIN,SYN,RST,ACK" | "SYN,RST,ACK", "SYN")) {
                    return Err("a rule does not ask for TCP flags".to_owned());
                }
            }
            "--syn" => return Err("a rule does not ask for TCP flags".to_owned()),
            "--src-type" | "--dst-type" => match (value(), not) {
                ("LOCAL", false) if option == "--dst-type" => when.to_own = true,
                ("BROADCAST" | "MULTICAST", false) => when.state = State::Group,
                _ => return Err("a rule does not ask for the type of an address".to_owned()),
            },
            "--ctorigdst" | "--ctorigdstport" => {
                return Err(
                    "a rule sees destinations as they are inside, not as they were before"
                        .to_owned(),
                );
            }
            "--match-set" => {
                let (name, side) = (value(), value());
                let addresses = self.set(name, not)?;
                match side {
                    "src" => when.source = addresses,
                    "dst" => when.destination = addresses,
                    _ => return Err(format!("a set has addresses alone, not {side}")),
                }
            }
            other => return Err(unknown(other)),
        }
        Ok(when)
    }

    fn device(&self, name: &str, not: bool) -> Result<Devices, String> {
        let devices = self.firewall.named(name);
        let devices = devices.ok_or_else(|| format!("no device's name begins as in {name}"))?;
        match not {
            false => Ok(devices),
            true => devices
                .negated()
                .ok_or_else(|| "it is for no device".to_owned()),
        }
    }

    fn set(&self, name: &str, not: bool) -> Result<Addresses, String> {
        let nets = match self.sets.get(name) {
            Some(Ok(nets)) if nets.is_empty() => Err(format!("the set {name} is empty")),
            Some(nets) => nets.clone(),
            None => Err(format!(
                "the set {name} is not among what was read: name the output of `ipset save` as well"
            )),
        }?;
        let all = Addresses {
            name: Some(name.to_owned()),
            ..Addresses::within(nets)
        };
        match not {
            false => Ok(all),
            true => all
                .negated()
                .ok_or_else(|| "it is for no address".to_owned()),
        }
    }
}

fn addresses(text: &str, not: bool) -> Result<Addresses, String> {
    let mut nets = Vec::new();
    for part in text.split(',') {
        let part = net(part)
            .map(|net| vec![net])
            .or_else(|| net_or_range(part));
        nets.extend(part.ok_or_else(|| format!("{text} is no plain address or prefix"))?);
    }
    let all = Addresses::within(nets);
    let any = |net: &ipnet::IpNet| net.prefix_len() == 0;
    match (not, all.within.iter().flatten().any(any)) {
        (false, true) => Ok(Addresses::default()),
        (false, false) => Ok(all),
        (true, true) => Err("it is for no address".to_owned()),
        (true, false) => all
            .negated()
            .ok_or_else(|| "it is for no address".to_owned()),
    }
}

fn port_list(text: &str, not: bool) -> Result<Vec<Ports>, String> {
    let ports = words::port_list(text).ok_or_else(|| format!("{text} are no ports"))?;
    match not {
        false => Ok(ports),
        true => Some(other_ports(&ports))
            .filter(|left| !left.is_empty())
            .ok_or_else(|| "no port is left".to_owned()),
    }
}
