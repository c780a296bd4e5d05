//! `tapgate show`: the dataplane's state, for people and programs.

use std::fmt::Display;
use std::path::Path;
use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets};
use tapgate_protocol::{
    Channel, ChannelError, CounterRow, DATAPLANE_SOCKET, DropRow, GuestRow, InterfaceRow,
    NeighborRow, PortRow, Request, Response, RouteRow, Rows, RuleRow, SessionRow, Show,
};

use crate::cli::ShowWhat;
use crate::connect::{connect, failure};
use crate::failure::{Code, Failure};
use crate::output::print;

/// How long the dataplane may take over one page.
const PATIENCE: Duration = Duration::from_secs(10);

/// Asks the dataplane itself, so that it works while control is down.
///
/// # Errors
/// No dataplane answers.
pub fn show(directory: &Path, what: Show, how: &ShowWhat) -> Result<(), Failure> {
    if how.expanded || how.config.is_some() {
        let problem = "--expanded and --config FILE are of `tapgate show config`";
        return Err(Failure::with(Code::Refused, problem));
    }
    let (json, all) = (how.json, how.all);
    let socket = directory.join(DATAPLANE_SOCKET);
    let peer = connect(&socket, PATIENCE).map_err(|error| failure(&error, "tapgate", &socket))?;
    if json {
        print("[")?;
        let mut between = "\n";
        pages(peer.channel, what, |rows| {
            for row in records(&shown(rows, all))? {
                print(&format!("{between}{row}"))?;
                between = ",\n";
            }
            Ok(())
        })?;
        return print("\n]\n");
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    pages(peer.channel, what, |rows| {
        add(&mut table, shown(rows, all));
        Ok(())
    })?;
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let text = table.to_string();
    let lines = text.lines().map(str::trim_end);
    print(&lines.flat_map(|line| [line, "\n"]).collect::<String>())
}

/// Hands every page of `what` to `each`.
///
/// # Errors
/// The dataplane does not answer as it should, or `each` fails.
pub fn pages(
    mut channel: Channel,
    what: Show,
    mut each: impl FnMut(Rows) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut cursor = 0;
    loop {
        let answer = channel
            .ask(&Request::Show { what, cursor })
            .map_err(|error: ChannelError| Failure::new(format!("the dataplane: {error}")))?;
        match answer {
            Response::Page { rows, next } => {
                each(rows)?;
                match next {
                    // A cursor that stands still would make this endless.
                    Some(next) if next != cursor => cursor = next,
                    _ => return Ok(()),
                }
            }
            Response::Failed { message } => return Err(Failure::new(message)),
            other => return Err(Failure::new(format!("the dataplane answered {other:?}"))),
        }
    }
}

/// Drop reasons that never occurred are left out unless `all` are wanted.
fn shown(rows: Rows, all: bool) -> Rows {
    match rows {
        Rows::Drops(rows) if !all => Rows::Drops(
            rows.into_iter()
                .filter(|row: &DropRow| row.frames > 0)
                .collect(),
        ),
        rows => rows,
    }
}

fn records(rows: &Rows) -> Result<Vec<String>, Failure> {
    let failed = |error| Failure::new(format!("a row cannot be written as JSON: {error}"));
    match serde_json::to_value(rows).map_err(failed)?.get("rows") {
        Some(serde_json::Value::Array(rows)) => Ok(rows.iter().map(ToString::to_string).collect()),
        _ => Ok(Vec::new()),
    }
}

fn add(table: &mut Table, rows: Rows) {
    match rows {
        Rows::Ports(rows) => ports(table, rows),
        Rows::Interfaces(rows) => interfaces(table, rows),
        Rows::Guests(rows) => guests(table, rows),
        Rows::Rules(rows) => rules(table, rows),
        Rows::Routes(rows) => routes(table, rows),
        Rows::Neighbors(rows) => neighbors(table, rows),
        Rows::Sessions(rows) => sessions(table, rows),
        Rows::Counters(rows) => counters(table, rows),
        Rows::Drops(rows) => drops(table, rows),
    }
}

fn ports(table: &mut Table, rows: Vec<PortRow>) {
    head(
        table,
        "PORT KIND DEVICE STATE MTU> RECEIVES RX> RX-BYTES> TX> TX-BYTES> KERNEL-DROPS> TX-ERRORS> BINDS>",
    );
    for row in rows {
        table.add_row([
            row.name,
            row.kind,
            or_dash(row.device),
            row.state,
            row.mtu.to_string(),
            or_dash(row.receive_mode),
            row.rx_frames.to_string(),
            row.rx_bytes.to_string(),
            row.tx_frames.to_string(),
            row.tx_bytes.to_string(),
            row.kernel_drops.to_string(),
            row.tx_errors.to_string(),
            row.binds.to_string(),
        ]);
    }
}

fn interfaces(table: &mut Table, rows: Vec<InterfaceRow>) {
    head(
        table,
        "INTERFACE KIND PORTS MAC VLAN ADDRESSES UNUSABLE GATEWAYS SHARED MTU>",
    );
    for row in rows {
        let gateways: Vec<String> = row.gateways.iter().map(ToString::to_string).collect();
        table.add_row([
            row.name,
            match row.bridged {
                Some(uplink) => format!("bridged to {uplink}"),
                None => row.kind,
            },
            row.ports.join(" "),
            or_dash(row.mac),
            or_dash(row.vlan),
            row.addresses.join(" "),
            row.unusable.join(", "),
            gateways.join(" "),
            or_dash(row.shared),
            row.mtu.to_string(),
        ]);
    }
}

fn guests(table: &mut Table, rows: Vec<GuestRow>) {
    head(
        table,
        "GUEST PORT NETWORK MAC ADDRESSES PUBLIC VIRTUAL PERSONALITY SESSIONS> SERVED> PORTS> VIOLATIONS",
    );
    for row in rows {
        let refused = row.usage.iter().flat_map(|usage| &usage.refused);
        let violations: Vec<String> = row
            .violations
            .iter()
            .chain(refused)
            .map(|(reason, frames)| format!("{reason} {frames}"))
            .collect();
        let listed = row.virtual_addresses.iter();
        let listed: Vec<String> = listed
            .map(|listed| match listed.holder == row.name {
                true => listed.address.to_string(),
                false => format!("{} at {}", listed.address, listed.holder),
            })
            .collect();
        table.add_row([
            row.name,
            row.port,
            row.network,
            or_dash(row.mac),
            some(&row.addresses),
            some(&row.public),
            some(&listed),
            or_dash(row.personality),
            of(row.usage.as_ref().map(|usage| usage.sessions_opened)),
            of(row.usage.as_ref().map(|usage| usage.sessions_served)),
            of(row.usage.as_ref().map(|usage| usage.external_ports)),
            violations.join(", "),
        ]);
    }
}

/// So many, and how many it could be.
fn of(use_and_limit: Option<(u32, u32)>) -> String {
    or_dash(use_and_limit.map(|(used, most)| format!("{used}/{most}")))
}

fn rules(table: &mut Table, rows: Vec<RuleRow>) {
    head(table, "PRIORITY> CONDITIONS ACTION SUPPRESS-PREFIXLENGTH");
    for row in rows {
        let conditions = row.conditions.iter();
        let conditions: Vec<_> = conditions
            .map(|(key, value)| format!("{key} {value}"))
            .collect();
        table.add_row([
            row.priority.to_string(),
            conditions.join(" "),
            row.action,
            or_dash(row.suppress_prefixlength),
        ]);
    }
}

fn routes(table: &mut Table, rows: Vec<RouteRow>) {
    head(
        table,
        "TABLE TO TYPE METRIC> MTU> ADVMSS> SRC VIA DEV WEIGHT> STATE SINCE>",
    );
    for row in rows {
        let several = row.nexthops.len() > 1;
        let metric = row.metric.to_string();
        let (mtu, advmss, src) = (or_dash(row.mtu), or_dash(row.advmss), or_dash(row.src));
        let mut first = [row.table, row.to, row.kind, metric, mtu, advmss, src];
        let mut hops = row.nexthops.into_iter().map(Some).collect::<Vec<_>>();
        if hops.is_empty() {
            hops.push(None);
        }
        // One row for each next hop; what they have in common stands in the first.
        for hop in hops {
            let [name, to, kind, metric, mtu, advmss, src] = std::mem::take(&mut first);
            let weight = hop.as_ref().map(|hop| hop.weight).filter(|_| several);
            let health = hop.as_ref().and_then(|hop| hop.health.as_ref());
            table.add_row([
                name,
                to,
                kind,
                metric,
                mtu,
                advmss,
                src,
                or_dash(hop.as_ref().and_then(|hop| hop.via)),
                or_dash(hop.as_ref().map(|hop| hop.dev.join(" "))),
                or_dash(weight),
                or_dash(health.map(|health| match &health.reason {
                    Some(reason) => format!("{}: {reason}", health.state),
                    None => health.state.clone(),
                })),
                or_dash(health.map(|health| format!("{} s", health.since_ms / 1_000))),
            ]);
        }
    }
}

fn neighbors(table: &mut Table, rows: Vec<NeighborRow>) {
    head(table, "ADDRESS INTERFACE PORT MAC STATE CONFIRMED> HELD>");
    for row in rows {
        table.add_row([
            row.address.to_string(),
            row.interface,
            or_dash(row.port),
            or_dash(row.mac),
            row.state,
            format!(
                "{:.1} s ago",
                Duration::from_millis(row.age_ms).as_secs_f64()
            ),
            row.held.to_string(),
        ]);
    }
}

fn sessions(table: &mut Table, rows: Vec<SessionRow>) {
    head(
        table,
        "PROTOCOL FROM TO AS IIF OIF STATE RULE MARK> PACKETS> BYTES> BACK> BACK-BYTES> ENDS-IN>",
    );
    for row in rows {
        let at = |(address, port)| std::net::SocketAddr::new(address, port).to_string();
        table.add_row([
            row.protocol,
            at((row.source, row.source_port)),
            at((row.destination, row.destination_port)),
            or_dash(row.translated.map(at)),
            row.iif,
            row.oif,
            row.state,
            or_dash(row.rule),
            or_dash((row.mark != 0).then_some(row.mark)),
            row.forward.0.to_string(),
            row.forward.1.to_string(),
            row.reply.0.to_string(),
            row.reply.1.to_string(),
            format!("{} s", row.expires_s),
        ]);
    }
}

fn counters(table: &mut Table, rows: Vec<CounterRow>) {
    head(table, "COUNTER VALUE> MEANING");
    for row in rows {
        table.add_row([row.name, row.value.to_string(), row.explanation]);
    }
}

fn drops(table: &mut Table, rows: Vec<DropRow>) {
    head(table, "REASON FRAMES> MEANING");
    for row in rows {
        table.add_row([
            row.reason.name().to_owned(),
            row.frames.to_string(),
            row.explanation,
        ]);
    }
}

/// The first of a list that may be very long.
fn some(addresses: &[String]) -> String {
    const MOST: usize = 6;
    match addresses.len() {
        0..=MOST => addresses.join(" "),
        many => format!("{} and {} more", addresses[..MOST].join(" "), many - MOST),
    }
}

/// Sets the header on the first page. `>` marks a column of numbers.
fn head(table: &mut Table, columns: &str) {
    if table.header().is_some() {
        return;
    }
    table.set_header(columns.split(' ').map(|name| name.trim_end_matches('>')));
    for (index, name) in columns.split(' ').enumerate() {
        if let Some(column) = table.column_mut(index)
            && name.ends_with('>')
        {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
}

fn or_dash<T: Display>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}
