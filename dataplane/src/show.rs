//! Answers to `tapgate show`.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use tapgate_engine::Engine;
use tapgate_engine::addr::{InterfaceId, PortId};
use tapgate_engine::config::{
    Config, Guest, InterfaceKind, Route, RouteAction, RuleVerdict, Table,
};
use tapgate_engine::drops::DropReason;
use tapgate_engine::model::interface::Interface;
use tapgate_engine::run::{self, NeighborView, NextHopView, SessionView, Usage};
use tapgate_engine::snapshot::Snapshot;
use tapgate_engine::time::Instant;
use tapgate_protocol::{
    CounterRow, DropRow, GuestRow, HealthRow, InterfaceRow, NeighborRow, NextHopRow, PortRow,
    RouteRow, Rows, RuleRow, SessionRow, Show, UsageRow, VirtualRow,
};

use crate::binding::Binding;
use crate::dataplane::{Dataplane, Running, State};
use crate::link::Links;
use crate::port::PortCounters;
use crate::sys::packet::ReceiveMode;
use crate::worker;

/// Most rows of one page.
const PAGE: usize = 4096;
/// Guests that the forwarding thread is asked about at once.
const ASKED_AT_ONCE: usize = 256;
/// Why there is nothing to show.
pub(crate) const ENDED: &str = "the forwarding thread has ended; see the dataplane's log";

impl Dataplane {
    /// One page of rows from `cursor` on, and the cursor to go on with.
    ///
    /// # Errors
    /// The worker has ended.
    pub fn show(&self, what: Show, cursor: u64) -> Result<(Rows, Option<u64>), String> {
        let state = self.state();
        let Some(running) = &state.running else {
            return Ok((nothing(what), None));
        };
        let snapshot = running.snapshots.load_full();
        let config = snapshot.config();
        Ok(match what {
            Show::Ports => (Rows::Ports(ports(&state, running)?), None),
            Show::Interfaces => page(
                interfaces(config, unusable(&snapshot, running)?),
                cursor,
                Rows::Interfaces,
            ),
            Show::Guests => page(
                guests(&snapshot, &violations(running)?, usage(&snapshot, running)?),
                cursor,
                Rows::Guests,
            ),
            Show::Rules => page(rules(config), cursor, Rows::Rules),
            Show::Routes => {
                let health = health(running)?;
                let row = |route: (&Table, &Route)| self::route(route, &snapshot, &health);
                page_of(routes(config), cursor, row, Rows::Routes)
            }
            Show::Neighbors => page(neighbors(&snapshot, running)?, cursor, Rows::Neighbors),
            Show::Sessions => sessions(&snapshot, running, cursor)?,
            Show::Counters => page(counters(running)?, cursor, Rows::Counters),
            Show::Drops => (Rows::Drops(drops(running)?), None),
        })
    }
}

fn nothing(what: Show) -> Rows {
    match what {
        Show::Ports => Rows::Ports(Vec::new()),
        Show::Interfaces => Rows::Interfaces(Vec::new()),
        Show::Guests => Rows::Guests(Vec::new()),
        Show::Rules => Rows::Rules(Vec::new()),
        Show::Routes => Rows::Routes(Vec::new()),
        Show::Neighbors => Rows::Neighbors(Vec::new()),
        Show::Sessions => Rows::Sessions(Vec::new()),
        Show::Counters => Rows::Counters(Vec::new()),
        Show::Drops => Rows::Drops(Vec::new()),
    }
}

/// The page from row `cursor` on of rows that are cheap to make anew.
fn page<R>(
    rows: impl IntoIterator<Item = R>,
    cursor: u64,
    wrap: impl FnOnce(Vec<R>) -> Rows,
) -> (Rows, Option<u64>) {
    page_of(rows, cursor, |row| row, wrap)
}

/// The same of things that a row is made of only where it is on the page.
fn page_of<T, R>(
    things: impl IntoIterator<Item = T>,
    cursor: u64,
    row: impl Fn(T) -> R,
    wrap: impl FnOnce(Vec<R>) -> Rows,
) -> (Rows, Option<u64>) {
    let start = usize::try_from(cursor).unwrap_or(usize::MAX);
    let those = things.into_iter().skip(start).take(PAGE + 1);
    let mut rows: Vec<R> = those.map(row).collect();
    let next = (rows.len() > PAGE).then_some(cursor + PAGE as u64);
    rows.truncate(PAGE);
    (wrap(rows), next)
}

fn ports(state: &State, running: &Running) -> Result<Vec<PortRow>, String> {
    let ids: Vec<PortId> = state.bindings.values().map(|binding| binding.id).collect();
    let counters = running.worker.ask(move |worker| {
        let ports = worker.ports();
        ids.into_iter()
            .map(|id| ports.counters(id))
            .collect::<Vec<_>>()
    });
    let bindings = state.bindings.values().zip(counters.ok_or(ENDED)?);
    Ok(bindings
        .map(|(binding, counters)| port(binding, &counters, &state.links))
        .collect())
}

fn port(binding: &Binding, counters: &PortCounters, links: &Links) -> PortRow {
    let (kind, device) = binding.kind();
    let receive_mode = binding.bound.receive_mode().map(|mode| match mode {
        ReceiveMode::UnicastFilter => "unicast-filter",
        ReceiveMode::Promiscuous => "promiscuous",
    });
    PortRow {
        name: binding.port.name.clone(),
        kind: kind.to_owned(),
        device: device.map(str::to_owned),
        state: match binding.is_up(links) {
            None => "waiting",
            Some(true) => "up",
            Some(false) => "down",
        }
        .to_owned(),
        mtu: binding.port.mtu,
        receive_mode: receive_mode.map(str::to_owned),
        rx_frames: counters.rx_frames,
        rx_bytes: counters.rx_bytes,
        tx_frames: counters.tx_frames,
        tx_bytes: counters.tx_bytes,
        kernel_drops: counters.kernel_drops,
        tx_errors: counters.tx_errors,
        binds: counters.binds,
    }
}

/// By interface: own addresses that are not used, and why.
type Unusable = BTreeMap<String, Vec<String>>;

fn unusable(snapshot: &Arc<Snapshot>, running: &Running) -> Result<Unusable, String> {
    let snapshot = Arc::clone(snapshot);
    let asked = running.worker.ask(move |worker| {
        let list = |interface: &Interface| {
            let not_yet = |address| {
                let state = worker.engine().claim_state(interface.id, address)?;
                Some(format!("{address} {}", state.name()))
            };
            let addresses = interface.own.iter().filter_map(not_yet);
            (interface.name.clone(), addresses.collect())
        };
        snapshot.interfaces().map(list).collect()
    });
    Ok(asked.ok_or(ENDED)?)
}

/// By port and reason: frames that its guests should not have sent.
type Violations = BTreeMap<(PortId, DropReason), u64>;

fn violations(running: &Running) -> Result<Violations, String> {
    let asked = running.worker.ask(|worker| {
        let list = worker.engine().shard.violations();
        list.map(|(port, reason, frames)| ((port, reason), frames))
            .collect()
    });
    Ok(asked.ok_or(ENDED)?)
}

/// What the guests use, in the order of the configuration.
fn usage(snapshot: &Arc<Snapshot>, running: &Running) -> Result<Vec<Usage>, String> {
    let guests = snapshot.owners().guests().len();
    let mut usage = Vec::new();
    for from in (0..guests).step_by(ASKED_AT_ONCE) {
        let snapshot = snapshot.clone();
        let asked = running.worker.ask(move |worker| {
            let Engine { router, shard } = worker.engine();
            let guests = snapshot.owners().guests().iter().skip(from);
            let list = guests.map(|guest| run::usage(router, shard, guest));
            list.take(ASKED_AT_ONCE).collect::<Vec<_>>()
        });
        usage.extend(asked.ok_or(ENDED)?);
    }
    Ok(usage)
}

fn guests(
    snapshot: &Snapshot,
    violations: &Violations,
    usage: Vec<Usage>,
) -> impl Iterator<Item = GuestRow> {
    let config = snapshot.config();
    let strings = |prefixes: &[ipnet::IpNet]| prefixes.iter().map(short).collect();
    let usage = usage.into_iter().map(Some).chain(std::iter::repeat(None));
    config
        .guests()
        .iter()
        .zip(usage)
        .map(move |(guest, usage)| {
            let port = &config.ports()[guest.port].name;
            let id = snapshot.port_id(port);
            let its = violations.iter().filter(|((port, _), _)| Some(*port) == id);
            GuestRow {
                name: guest.name.clone(),
                port: port.clone(),
                network: config.interfaces()[guest.network].name.clone(),
                mac: guest.mac,
                addresses: strings(&guest.addresses),
                public: strings(&guest.public),
                virtual_addresses: virtual_addresses(guest, snapshot).collect(),
                personality: guest
                    .personality
                    .map(|index| config.interfaces()[index].name.clone()),
                violations: its
                    .map(|((_, reason), frames)| (reason.name().to_owned(), *frames))
                    .collect(),
                usage: usage.map(|usage| UsageRow {
                    sessions_opened: usage.opened,
                    sessions_served: usage.served,
                    external_ports: usage.ports,
                    neighbors: usage.neighbors,
                    refused: usage
                        .refused
                        .iter()
                        .map(|(reason, packets)| (reason.name().to_owned(), *packets))
                        .collect(),
                }),
            }
        })
}

fn virtual_addresses(guest: &Guest, snapshot: &Snapshot) -> impl Iterator<Item = VirtualRow> {
    let all = guest.virtual_addresses.iter();
    all.filter_map(|listed| {
        let holder = snapshot.owners().owner(listed.address)?;
        Some(VirtualRow {
            address: listed.address,
            holder: holder.name.clone(),
        })
    })
}

/// A prefix, or the address alone if it is a single one's.
fn short(prefix: &ipnet::IpNet) -> String {
    match prefix.prefix_len() == prefix.max_prefix_len() {
        true => prefix.addr().to_string(),
        false => prefix.to_string(),
    }
}

fn interfaces(config: &Config, mut unusable: Unusable) -> impl Iterator<Item = InterfaceRow> {
    let port_name = |index: &usize| config.ports()[*index].name.clone();
    config.interfaces().iter().map(move |interface| {
        let (kind, ports, vlan, gateways, shared) = match &interface.kind {
            InterfaceKind::Personality {
                port,
                vlan,
                gateways,
                shared,
                ..
            } => (
                "personality",
                vec![port_name(port)],
                *vlan,
                gateways.clone(),
                *shared,
            ),
            InterfaceKind::Network { ports, bridged, .. } => {
                let ports = ports.iter().map(port_name).collect();
                let vlan = bridged.and_then(|segment| segment.vlan);
                ("network", ports, vlan, Vec::new(), None)
            }
        };
        let bridged = interface.kind.bridged();
        InterfaceRow {
            name: interface.name.clone(),
            kind: kind.to_owned(),
            ports,
            mac: bridged.is_none().then_some(interface.mac),
            bridged: bridged.map(|segment| port_name(&segment.port)),
            vlan,
            addresses: interface
                .addresses
                .iter()
                .map(ToString::to_string)
                .collect(),
            unusable: unusable.remove(&interface.name).unwrap_or_default(),
            gateways,
            shared: shared.map(|range| range.to_string()),
            mtu: interface.mtu,
        }
    })
}

fn rules(config: &Config) -> impl Iterator<Item = RuleRow> {
    config.rules().iter().map(move |rule| {
        let (action, suppress_prefixlength) = match &rule.verdict {
            RuleVerdict::Lookup {
                table,
                suppress_prefixlength,
            } => (
                format!("lookup {}", config.tables()[*table].name),
                *suppress_prefixlength,
            ),
            RuleVerdict::Goto(target) => (format!("goto {target}"), None),
            RuleVerdict::Nop => ("nop".to_owned(), None),
            RuleVerdict::End(end) => (end.name().to_owned(), None),
        };
        let name = |index: usize| config.interfaces()[index].name.clone();
        let terms = rule.condition.terms(name).into_iter();
        RuleRow {
            priority: rule.priority,
            conditions: terms.map(|(key, value)| (key.to_owned(), value)).collect(),
            action,
            suppress_prefixlength,
        }
    })
}

/// What is known of each next hop, and when it was asked for.
type Health = (BTreeMap<(InterfaceId, IpAddr), NextHopView>, Instant);

fn health(running: &Running) -> Result<Health, String> {
    let asked = running
        .worker
        .ask(|worker| run::next_hops(&worker.engine().router));
    let views = asked.ok_or(ENDED)?.into_iter();
    let views = views.map(|view| ((view.interface, view.address), view));
    Ok((views.collect(), worker::now()))
}

/// Whether a next hop is in use. Of several interfaces with the same, one where it is, if there is one.
fn health_of(
    dev: &[String],
    via: IpAddr,
    snapshot: &Snapshot,
    (known, now): &Health,
) -> Option<HealthRow> {
    let ids = dev.iter().filter_map(|name| snapshot.interface_id(name));
    let views = ids.filter_map(|id| known.get(&(id, via)));
    let best = views.min_by_key(|view| view.down.is_some())?;
    Some(HealthRow {
        state: if best.down.is_some() { "down" } else { "up" }.to_owned(),
        reason: best.down.map(str::to_owned),
        since_ms: now.since(best.since).as_millis() as u64,
        changes: best.changes,
    })
}

fn routes(config: &Config) -> impl Iterator<Item = (&Table, &Route)> {
    let of = |table| std::iter::repeat(table);
    let tables = config.tables().iter();
    tables.flat_map(move |table| of(table).zip(&table.routes))
}

fn route((table, route): (&Table, &Route), snapshot: &Snapshot, health: &Health) -> RouteRow {
    let interfaces = snapshot.config().interfaces();
    let (kind, forward) = match &route.action {
        RouteAction::Forward(forward) => ("unicast", Some(forward)),
        RouteAction::Blackhole => ("blackhole", None),
        RouteAction::Unreachable => ("unreachable", None),
        RouteAction::Prohibit => ("prohibit", None),
        RouteAction::Throw => ("throw", None),
    };
    let hops = forward.map_or(&[][..], |forward| &forward.hops);
    let hops = hops.iter().map(|hop| {
        let dev = hop.interfaces.iter();
        let dev: Vec<String> = dev.map(|index| interfaces[*index].name.clone()).collect();
        NextHopRow {
            via: hop.via,
            weight: hop.weight,
            health: hop
                .via
                .and_then(|via| health_of(&dev, via, snapshot, health)),
            dev,
        }
    });
    RouteRow {
        table: table.name.clone(),
        to: route.to.to_string(),
        metric: route.metric,
        kind: kind.to_owned(),
        nexthops: hops.collect(),
        src: forward.and_then(|forward| forward.src),
        mtu: forward.and_then(|forward| forward.mtu),
        advmss: forward.and_then(|forward| forward.advmss),
    }
}

fn neighbors(
    snapshot: &Snapshot,
    running: &Running,
) -> Result<impl Iterator<Item = NeighborRow>, String> {
    let asked = running
        .worker
        .ask(|worker| run::neighbors(&worker.engine().router));
    let views = asked.ok_or(ENDED)?.into_iter();
    Ok(views.map(|view| neighbor(view, snapshot)))
}

fn neighbor(view: NeighborView, snapshot: &Snapshot) -> NeighborRow {
    NeighborRow {
        address: view.address,
        interface: snapshot.interface_name(view.interface).to_owned(),
        port: view.port.map(|port| snapshot.port_name(port).to_owned()),
        mac: view.mac,
        state: view.state.to_owned(),
        age_ms: worker::now().since(view.confirmed).as_millis() as u64,
        held: view.held as u32,
    }
}

/// One page of sessions, which the worker itself cuts off: there may be millions.
fn sessions(
    snapshot: &Arc<Snapshot>,
    running: &Running,
    cursor: u64,
) -> Result<(Rows, Option<u64>), String> {
    let now = worker::now();
    let judged_by = snapshot.clone();
    let asked = running
        .worker
        .ask(move |worker| run::sessions(&judged_by, &worker.engine().shard, cursor, PAGE, now));
    let (views, next) = asked.ok_or(ENDED)?;
    let rows = views.into_iter().map(|view| session(view, snapshot, now));
    Ok((Rows::Sessions(rows.collect()), next))
}

fn session(view: SessionView, snapshot: &Snapshot, now: Instant) -> SessionRow {
    let protocol = match view.protocol {
        1 => "icmp".to_owned(),
        6 => "tcp".to_owned(),
        17 => "udp".to_owned(),
        58 => "icmpv6".to_owned(),
        other => other.to_string(),
    };
    SessionRow {
        protocol,
        source: view.source.0,
        source_port: view.source.1,
        destination: view.destination.0,
        destination_port: view.destination.1,
        translated: view.translated,
        iif: snapshot.interface_name(view.iif).to_owned(),
        oif: snapshot.interface_name(view.oif).to_owned(),
        state: view.state.to_owned(),
        rule: view.rule.map(|rule| snapshot.rule_name(rule)),
        mark: view.mark,
        forward: view.forward,
        reply: view.reply,
        expires_s: view.expires.since(now).as_secs(),
    }
}

fn counters(running: &Running) -> Result<impl Iterator<Item = CounterRow>, String> {
    let asked = running.worker.ask(|worker| {
        let engine = worker.engine();
        run::counters(&engine.router, &engine.shard)
    });
    let row = |(name, value, explanation): (&str, u64, &str)| CounterRow {
        name: name.to_owned(),
        value,
        explanation: explanation.to_owned(),
    };
    Ok(asked.ok_or(ENDED)?.into_iter().map(row))
}

fn drops(running: &Running) -> Result<Vec<DropRow>, String> {
    let asked = running.worker.ask(|worker| {
        let of_ports = worker.ports().drops().clone();
        let of_engine = worker.engine().shard.drops();
        let count = |&reason: &DropReason| DropRow {
            reason,
            frames: of_engine.get(reason) + of_ports.get(reason),
            explanation: reason.explanation().to_owned(),
        };
        DropReason::ALL.iter().map(count).collect()
    });
    Ok(asked.ok_or(ENDED)?)
}
