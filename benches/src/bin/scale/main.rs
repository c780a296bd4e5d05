//! What a large configuration costs: its start, changes to it, and idling; above all for how long a
//! change keeps the forwarding thread from forwarding. And what a full table of sessions costs: the
//! longest calls while it fills, is full, and empties.

mod engine;
mod fill;
mod probe;
mod routes;
mod running;
mod setup;
mod table;

use clap::{Parser, ValueEnum};
use serde::Serialize;
use setup::{Setup, Shape};

/// Measures what a large configuration costs.
#[derive(Parser)]
struct Options {
    /// Guests' ports, with ten guests each.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(2..=2_000))]
    ports: u32,
    /// How often each change is made and taken back.
    #[arg(long, default_value_t = 10)]
    rounds: usize,
    /// What to measure.
    #[arg(long, value_enum, default_value_t = Part::All)]
    part: Part,
    /// Which networks the ports are in; both when absent.
    #[arg(long, value_enum)]
    networks: Option<Networks>,
    /// Sessions that a table is filled with.
    #[arg(long, default_value_t = 4_000_000, value_parser = clap::value_parser!(u32).range(1_000_000..=4_000_000))]
    sessions: u32,
    /// Print one object for each shape.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Part {
    /// The engine alone, then the dataplane, then sessions.
    All,
    /// What the forwarding thread does, without anything around it.
    Engine,
    /// The whole dataplane with memory ports.
    Dataplane,
    /// A table that fills with sessions, in the engine alone.
    Sessions,
    /// A million routes and ten thousand rules: to load them, and the pause when one changes.
    Routes,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Networks {
    /// One for all ports.
    One,
    /// One for each port.
    Each,
}

#[derive(Serialize)]
struct Report {
    networks: &'static str,
    ports: u32,
    guests: u32,
    engine_start: Option<engine::Start>,
    engine: Vec<engine::Row>,
    dataplane: Option<running::Measured>,
}

fn main() -> Result<(), String> {
    let options = Options::parse();
    for (networks, shape, name) in [
        (Networks::One, Shape::OneNetwork, "one for all ports"),
        (Networks::Each, Shape::NetworkEach, "one for each port"),
    ] {
        if matches!(options.part, Part::Sessions | Part::Routes)
            || options.networks.is_some_and(|wanted| wanted != networks)
        {
            continue;
        }
        let setup = Setup {
            shape,
            ports: options.ports,
        };
        let mut report = Report {
            networks: name,
            ports: setup.ports,
            guests: setup.guests(),
            engine_start: None,
            engine: Vec::new(),
            dataplane: None,
        };
        if matches!(options.part, Part::All | Part::Engine) {
            let (start, rows) = engine::measure(setup, options.rounds);
            (report.engine_start, report.engine) = (Some(start), rows);
        }
        if matches!(options.part, Part::All | Part::Dataplane) {
            report.dataplane = Some(running::measure(setup, options.rounds)?);
        }
        show(options.json, &report, print)?;
    }
    if matches!(options.part, Part::All | Part::Sessions) {
        let rows = fill::measure(options.sessions);
        show(options.json, &rows, |rows| {
            print_fill(options.sessions, rows)
        })?;
    }
    if matches!(options.part, Part::All | Part::Routes) {
        show(options.json, &routes::measure(options.rounds), print_routes)?;
    }
    Ok(())
}

/// Prints what was measured, for people or as JSON.
fn show<T: Serialize>(json: bool, measured: &T, print: impl FnOnce(&T)) -> Result<(), String> {
    match json {
        false => print(measured),
        true => {
            let text = serde_json::to_string(measured).map_err(|error| error.to_string())?;
            println!("{text}");
        }
    }
    Ok(())
}

fn print_routes(measured: &routes::Measured) {
    let routes::Measured {
        rules,
        tables,
        routes,
        ..
    } = measured;
    println!("\n{routes} routes in {tables} tables, {rules} rules; min / median / max of CPU\n");
    let load = (measured.read_ms + measured.build_ms) / 1e3;
    let verdict = |met: bool| if met { "met" } else { "NOT MET" };
    println!(
        "load: read and check {:.0} MiB {:.0} ms, snapshot {:.0} ms: {load:.2} s; bar: under 5 s: {}",
        measured.mebibytes,
        measured.read_ms,
        measured.build_ms,
        verdict(load < 5.0)
    );
    println!(
        "one route changed: snapshot {} ms; pause of the forwarding thread {} us; bar: at most 1000 us: {}",
        measured.change_ms,
        measured.pause_us,
        verdict(measured.pause_us.max <= 1_000.0)
    );
}

fn print_fill(sessions: u32, rows: &[fill::Row]) {
    const BAR: f64 = 100.0;
    println!(
        "\n{sessions} sessions; microseconds of CPU, of each call the least of several rounds\n"
    );
    println!(
        "{:<28} {:<26} {:>9} {:>9} {:>9} {:>10}",
        "setup", "calls", "number", "mean", "longest", "at fill"
    );
    for row in rows {
        println!(
            "{:<28} {:<26} {:>9} {:>9.2} {:>9.1} {:>10}",
            row.setup, row.calls, row.number, row.mean_us, row.longest_us, row.fill
        );
    }
    let longest = rows.iter().map(|row| row.longest_us).fold(0.0, f64::max);
    let verdict = if longest <= BAR { "met" } else { "NOT MET" };
    println!("\nlongest call: {longest:.1} us; bar: at most {BAR} us at any fill: {verdict}");
}

fn print(report: &Report) {
    let Report { ports, guests, .. } = report;
    println!(
        "\n{guests} guests on {ports} ports; networks: {}",
        report.networks
    );
    println!("microseconds: min / median / max\n");
    if let Some(start) = &report.engine_start {
        println!(
            "start: check {:.0}, snapshot {:.0}, engine {:.0}, longest poll {:.0} ({} frames)",
            start.check_us, start.build_us, start.engine_us, start.poll_us, start.frames_at_once
        );
        println!(
            "{:<28} {:>24} {:>22} {:>22} {:>8}",
            "engine", "snapshot", "adopt", "longest poll", "frames"
        );
        for row in &report.engine {
            println!(
                "{:<28} {:>24} {:>22} {:>22} {:>8}",
                row.change, row.build_us, row.adopt_us, row.poll_us, row.frames_at_once
            );
        }
    }
    if let Some(dataplane) = &report.dataplane {
        println!(
            "\nstart of the dataplane: {:.0}; idle: {:.1} ms of CPU and {:.1} wake-ups a second",
            dataplane.start_us,
            dataplane.idle.cpu_ms_per_second,
            dataplane.idle.wake_ups_per_second
        );
        println!(
            "the machine itself stands still for {} in the same time",
            dataplane.machine_us
        );
        println!(
            "{:<28} {:>26} {:>24} {:>24}",
            "dataplane", "configure", "longest pause", "without a change"
        );
        for row in &dataplane.rows {
            println!(
                "{:<28} {:>26} {:>24} {:>24}",
                row.change, row.apply_us, row.pause_us, row.quiet_us
            );
        }
    }
}
