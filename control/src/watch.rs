//! `tapgate explain --watch`: what becomes of the next real packets that are so.

use std::path::Path;
use std::time::{Duration, Instant};

use tapgate_protocol::{DATAPLANE_SOCKET, Request, Response, WatchQuery, Watched};

use crate::cli::Explain;
use crate::connect::failure;
use crate::explain::{OLD, dataplane, steps};
use crate::failure::{Code, Failure};
use crate::output::print;

const TCP: u8 = 6;
const UDP: u8 = 17;
/// How long one question waits at most.
const WAIT: Duration = Duration::from_millis(500);

/// Prints packets as they pass, until there are as many as asked for, or the time is over.
///
/// # Errors
/// Fewer came in time, or the dataplane does not answer.
pub fn watch(directory: &Path, question: &Explain) -> Result<(), Failure> {
    if let (Some(from), Some(to)) = (question.from, question.to)
        && from.is_ipv4() != to.is_ipv4()
    {
        let problem = format!(
            "{from} and {to} are of different families, and no packet is: give two IPv4 or two IPv6 addresses"
        );
        return Err(Failure::with(Code::Refused, problem));
    }
    if question.dport.is_some()
        && question
            .proto
            .is_some_and(|proto| ![TCP, UDP].contains(&proto))
    {
        let problem =
            "no packet of that protocol has a port: leave --dport out, or give --proto tcp or udp";
        return Err(Failure::with(Code::Refused, problem));
    }
    let query = WatchQuery {
        port: question.port.clone(),
        from: question.from,
        to: question.to,
        protocol: question.proto,
        source_port: question.sport,
        destination_port: question.dport,
    };
    let socket = directory.join(DATAPLANE_SOCKET);
    let mut peer = dataplane(&socket)?;
    if !peer.channel.speaks(4) {
        return Err(Failure::new(OLD));
    }
    let end = question
        .timeout
        .map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let mut left = question.count;
    let mut missed = 0;
    while left > 0 {
        let until = end.map(|end| end.saturating_duration_since(Instant::now()));
        let wait = until.map_or(WAIT, |until| until.min(WAIT));
        let request = Request::Watch {
            query: query.clone(),
            wait_ms: wait.as_millis() as u32,
        };
        let answer = peer.channel.ask(&request);
        match answer.map_err(|error| failure(&error, "the dataplane", &socket))? {
            Response::Watched {
                packets,
                missed: more,
            } => {
                missed += more;
                for packet in packets.iter().take(left as usize) {
                    show(packet, question.json)?;
                }
                left = left.saturating_sub(packets.len() as u32);
            }
            Response::Failed { message } => return Err(Failure::new(message)),
            other => return Err(Failure::new(format!("the dataplane answered {other:?}"))),
        }
        if left > 0 && until.is_some_and(|until| until.is_zero()) {
            break;
        }
    }
    if missed > 0 {
        eprintln!("note: {missed} more packets matched, which were too many at once to trace");
    }
    match left {
        0 => Ok(()),
        all if all == question.count => Err(Failure::new("no such packet came")),
        _ => Err(Failure::silent(Code::Failed)),
    }
}

fn show(packet: &Watched, json: bool) -> Result<(), Failure> {
    if json {
        let json = serde_json::to_string(packet).unwrap_or_default();
        return print(&format!("{json}\n"));
    }
    let at = |address, port| std::net::SocketAddr::new(address, port);
    print(&format!(
        "{} > {}, protocol {}, {} bytes, in by {}\n{}",
        at(packet.from, packet.source_port),
        at(packet.to, packet.destination_port),
        packet.protocol,
        packet.length,
        packet.port,
        steps(&packet.explanation)
    ))
}
