//! Turns the harness's measurements into the side-by-side table, with the bars beside it.
//!
//! Reads lines of `DUT METRIC VALUE` from standard input, any number per metric, and compares
//! medians.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Read as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use serde::Serialize;

/// Prints the side-by-side table from `DUT METRIC VALUE` lines on standard input.
#[derive(Parser)]
struct Options {
    /// Also write everything as JSON to this file.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Fail unless every bar is met.
    #[arg(long)]
    strict: bool,
}

/// What tapgate has to reach.
#[derive(Clone, Copy)]
enum Bar {
    /// Nothing; the figure is for information.
    None,
    /// At least this share of the kernel's.
    Share(f64),
    /// Less than this above the kernel's.
    Added(f64),
    /// Less than this.
    Below(f64),
}

struct Metric {
    name: &'static str,
    title: &'static str,
    bar: Bar,
}

const METRICS: &[Metric] = &[
    metric("tcp_out_gbps", "TCP out, Gbit/s", Bar::Share(0.9)),
    metric("tcp_in_gbps", "TCP in, Gbit/s", Bar::Share(0.9)),
    metric(
        "udp_mpps",
        "60-byte UDP with SNAT, Mpps delivered",
        Bar::None,
    ),
    metric("flood_cpu_ns", "CPU-ns per packet, flooded", Bar::None),
    metric("paced_cpu_ns", "CPU-ns per packet, paced", Bar::None),
    metric("paced_lost_percent", "lost when paced, %", Bar::None),
    metric("rtt_p50_us", "ping RTT p50, us", Bar::Added(20.0)),
    metric("rtt_p99_us", "ping RTT p99, us", Bar::None),
    metric("idle_percent", "idle CPU, % of a core", Bar::Below(1.0)),
    metric("rss_mib", "memory (RSS), MiB", Bar::None),
];

const fn metric(name: &'static str, title: &'static str, bar: Bar) -> Metric {
    Metric { name, title, bar }
}

#[derive(Serialize)]
struct Row {
    metric: &'static str,
    title: &'static str,
    kernel: Option<Figure>,
    tapgate: Option<Figure>,
    ratio: Option<f64>,
    bar: String,
    met: Option<bool>,
}

#[derive(Serialize)]
struct Figure {
    median: f64,
    samples: Vec<f64>,
}

fn main() -> ExitCode {
    let options = Options::parse();
    match run(&options) {
        Ok(met) if met || !options.strict => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(2),
        Err(error) => {
            eprintln!("report: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether every bar is met, by figures that are there.
fn run(options: &Options) -> Result<bool, String> {
    let mut text = String::new();
    std::io::stdin()
        .read_to_string(&mut text)
        .map_err(|error| format!("standard input: {error}"))?;
    let mut samples = parse(&text)?;
    let rows: Vec<Row> = METRICS.iter().map(|m| row(m, &mut samples)).collect();
    print!("{}", table(&rows));
    if let Some(path) = &options.json {
        let json = format!("{:#}\n", serde_json::json!({ "rows": rows }));
        std::fs::write(path, json).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(rows
        .iter()
        .all(|row| row.bar.is_empty() || row.met == Some(true)))
}

type Samples<'a> = BTreeMap<(&'a str, &'a str), Vec<f64>>;

fn parse(text: &str) -> Result<Samples<'_>, String> {
    let mut samples = Samples::new();
    for line in text.lines() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (dut, name, value) = match fields[..] {
            [dut, name, value] => (dut, name, value),
            _ => return Err(format!("\"{line}\" is not DUT METRIC VALUE")),
        };
        let value: f64 = value
            .parse()
            .map_err(|_| format!("\"{line}\" has no number at its end"))?;
        samples.entry((dut, name)).or_default().push(value);
    }
    Ok(samples)
}

fn row(metric: &Metric, samples: &mut Samples<'_>) -> Row {
    let mut figure = |dut| {
        let mut samples = samples.remove(&(dut, metric.name))?;
        samples.sort_by(f64::total_cmp);
        let (low, high) = (samples[(samples.len() - 1) / 2], samples[samples.len() / 2]);
        Some(Figure {
            median: (low + high) / 2.0,
            samples,
        })
    };
    let (kernel, tapgate) = (figure("kernel"), figure("tapgate"));
    let medians = kernel.as_ref().zip(tapgate.as_ref());
    let ratio = medians
        .filter(|(kernel, _)| kernel.median > 0.0)
        .map(|(kernel, tapgate)| tapgate.median / kernel.median);
    let (bar, met) = match metric.bar {
        Bar::None => (String::new(), None),
        Bar::Share(share) => (
            format!("at least {share} of the kernel's"),
            ratio.map(|ratio| ratio >= share),
        ),
        Bar::Added(most) => (
            format!("less than {most} added"),
            medians.map(|(kernel, tapgate)| tapgate.median - kernel.median < most),
        ),
        Bar::Below(most) => (
            format!("below {most}"),
            tapgate.as_ref().map(|tapgate| tapgate.median < most),
        ),
    };
    Row {
        metric: metric.name,
        title: metric.title,
        kernel,
        tapgate,
        ratio,
        bar,
        met,
    }
}

/// The table for people: medians, with the lowest and highest sample behind them.
fn table(rows: &[Row]) -> String {
    let mut out = format!(
        "{:<38} {:>22} {:>22} {:>6}  bar\n",
        "median (lowest..highest)", "kernel", "tapgate", "ratio"
    );
    for row in rows {
        let ratio = row
            .ratio
            .map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"));
        let met = match row.met {
            Some(true) => ": met",
            Some(false) => ": NOT MET",
            None if row.bar.is_empty() => "",
            None => ": not measured",
        };
        // Writing to a String cannot fail.
        let _ = writeln!(
            out,
            "{:<38} {:>22} {:>22} {:>6}  {}{met}",
            row.title,
            cell(row.kernel.as_ref()),
            cell(row.tapgate.as_ref()),
            ratio,
            row.bar,
        );
    }
    out
}

fn cell(figure: Option<&Figure>) -> String {
    let Some(Figure { median, samples }) = figure else {
        return "-".to_owned();
    };
    match (samples.first(), samples.last()) {
        (Some(low), Some(high)) if samples.len() > 1 => {
            format!("{} ({}..{})", number(*median), number(*low), number(*high))
        }
        _ => number(*median),
    }
}

/// Three significant digits, more or less.
fn number(value: f64) -> String {
    match value.abs() {
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}
