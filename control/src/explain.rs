//! `tapgate explain`: every decision about a packet, in order.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::time::Duration;

use tapgate_engine::Engine;
use tapgate_engine::config::Config;
use tapgate_engine::explain::{Packet, describe, frame};
use tapgate_engine::frame::{Frame, Offload, Verdict};
use tapgate_engine::session::SessionMemory;
use tapgate_engine::snapshot::Snapshot;
use tapgate_engine::time::Instant;
use tapgate_protocol::{DATAPLANE_SOCKET, ExplainQuery, Explanation, Request, Response};

use crate::cli::Explain;
use crate::connect::{Peer, connect, failure};
use crate::failure::{Code, Failure};
use crate::output::print;
use crate::source;

/// How long the dataplane may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// The protocol of a packet of which nothing else is said.
const ICMP: u8 = 1;

/// Asks the running dataplane, or the engine itself when a file is given.
///
/// # Errors
/// The packet is dropped, or the question cannot be answered.
pub fn explain(directory: &Path, question: &Explain, colour: bool) -> Result<(), Failure> {
    let Some(to) = question.to else {
        let problem = "--to says where the packet goes";
        return Err(Failure::with(Code::Refused, problem));
    };
    let any: IpAddr = match to {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let Some(from) = question.from.or(question.own.then_some(any)) else {
        let problem = "--from says where the packet comes from";
        return Err(Failure::with(Code::Refused, problem));
    };
    let query = ExplainQuery {
        port: question.port.clone().unwrap_or_default(),
        from,
        to,
        tos: question.tos.unwrap_or(0),
        protocol: question.proto.unwrap_or(ICMP),
        source_port: question.sport.unwrap_or(40_000),
        destination_port: question.dport.unwrap_or(443),
    };
    let explanation = match &question.config {
        Some(file) => {
            let (config, _) =
                source::load(file).map_err(|refusal| refusal.report(question.json, colour))?;
            offline(&config, &query, question.own).map_err(Failure::new)?
        }
        None => running(directory, query, question.own)?,
    };
    if question.json {
        let json = serde_json::to_string_pretty(&explanation).unwrap_or_default();
        print(&format!("{json}\n"))?;
    } else {
        print(&steps(&explanation))?;
    }
    if explanation.delivered {
        Ok(())
    } else {
        Err(Failure::silent(Code::Failed))
    }
}

fn running(directory: &Path, query: ExplainQuery, own: bool) -> Result<Explanation, Failure> {
    let socket = directory.join(DATAPLANE_SOCKET);
    let mut peer = dataplane(&socket)?;
    let is_new = query.tos != 0 || (own && query.from.is_unspecified());
    if is_new && !peer.channel.speaks(5) {
        return Err(Failure::new(OLD));
    }
    let request = match own {
        false => Request::Explain(query),
        true if peer.channel.speaks(4) => Request::ExplainOwn(query),
        true => return Err(Failure::new(OLD)),
    };
    match peer.channel.ask(&request) {
        Ok(Response::Explained(explanation)) => Ok(explanation),
        Ok(Response::Failed { message }) => Err(Failure::new(message)),
        Ok(other) => Err(Failure::new(format!("the dataplane answered {other:?}"))),
        Err(error) => Err(failure(&error, "the dataplane", &socket)),
    }
}

/// A connection to the dataplane at `socket`.
pub(crate) fn dataplane(socket: &Path) -> Result<Peer, Failure> {
    connect(socket, PATIENCE).map_err(|error| {
        let failure = failure(&error, "tapgate", socket);
        match failure.code() {
            Code::NotRunning => Failure::with(
                Code::NotRunning,
                format!("{failure}, or give --config FILE to explain by that file"),
            ),
            _ => failure,
        }
    })
}

/// Why an earlier dataplane cannot answer.
pub(crate) const OLD: &str = "the running dataplane is of an earlier version, which does not tell: stop tapgate and run it anew";

/// What a router that has just started with `config` would do.
fn offline(config: &Config, query: &ExplainQuery, own: bool) -> Result<Explanation, String> {
    let packet = Packet {
        port: &query.port,
        from: query.from,
        to: query.to,
        tos: query.tos,
        protocol: query.protocol,
        source_port: query.source_port,
        destination_port: query.destination_port,
    };
    let snapshot = Snapshot::build(config, None);
    let now = Instant::from_millis(0);
    let engine = Engine::new(&snapshot, SessionMemory::owned(64), 0, now);
    let (steps, verdict) = match own {
        true => engine.explain_own(&packet, &snapshot, now)?,
        false => {
            let (mut bytes, vlan) = frame(config, &packet)?;
            let ingress = snapshot
                .port_id(&query.port)
                .ok_or_else(|| format!("there is no port \"{}\"", query.port))?;
            let mut frame = Frame {
                bytes: &mut bytes,
                vlan,
                offload: Offload::default(),
                headroom: &mut [],
            };
            engine.explain(&mut frame, ingress, &snapshot, now)
        }
    };
    let (verdict, delivered) = match verdict {
        Verdict::Emit(port) => (format!("emit on {}", snapshot.port_name(port)), true),
        Verdict::Hold => ("hold until the next hop's MAC is known".to_owned(), true),
        Verdict::Consumed => (
            "for the router itself, which deals with it".to_owned(),
            true,
        ),
        Verdict::Replaced => ("leaves in fragments".to_owned(), true),
        Verdict::Drop(reason) => (
            format!("drop: {} ({})", reason.name(), reason.explanation()),
            false,
        ),
    };
    Ok(Explanation {
        steps: steps
            .0
            .iter()
            .map(|step| describe(step, &snapshot))
            .collect(),
        verdict,
        delivered,
    })
}

/// The steps, numbered, and the end.
pub(crate) fn steps(explanation: &Explanation) -> String {
    let width = explanation.steps.iter().map(|step| step.stage.len()).max();
    let width = width.unwrap_or_default();
    let mut text = String::new();
    for (n, step) in explanation.steps.iter().enumerate() {
        text += &format!("{:>2}. {:<width$}  {}\n", n + 1, step.stage, step.detail);
    }
    text + &format!("=> {}\n", explanation.verdict)
}
