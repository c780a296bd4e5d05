//! Answers to `tapgate explain`.

use tapgate_engine::explain::{self, Packet};
use tapgate_engine::frame::{Frame, Offload, Verdict};
use tapgate_engine::model::trace::Steps;
use tapgate_engine::snapshot::Snapshot;
use tapgate_protocol::{ExplainQuery, Explanation};

use crate::dataplane::Dataplane;
use crate::show::ENDED;
use crate::worker;

/// Why nothing can be explained.
pub(crate) const UNCONFIGURED: &str = "nothing is configured yet";

impl Dataplane {
    /// What would become of a packet that comes in.
    ///
    /// # Errors
    /// Nothing is configured, or the packet makes no sense.
    pub fn explain(&self, query: &ExplainQuery) -> Result<Explanation, String> {
        let state = self.state();
        let running = state.running.as_ref().ok_or(UNCONFIGURED)?;
        let snapshot = running.snapshots.load_full();
        let (mut bytes, vlan) = explain::frame(snapshot.config(), &packet(query))?;
        let port = snapshot
            .port_id(&query.port)
            .ok_or("there is no such port")?;
        let asked = snapshot.clone();
        let answer = running.worker.ask(move |worker| {
            let mut frame = Frame {
                bytes: &mut bytes,
                vlan,
                offload: Offload::default(),
                headroom: &mut [],
            };
            worker
                .engine()
                .explain(&mut frame, port, &asked, worker::now())
        });
        let (steps, verdict) = answer.ok_or(ENDED)?;
        Ok(explanation(&steps, verdict, &snapshot))
    }

    /// What would become of a packet of the router's own.
    ///
    /// # Errors
    /// Nothing is configured, or the router sends no such packet.
    pub fn explain_own(&self, query: &ExplainQuery) -> Result<Explanation, String> {
        let state = self.state();
        let running = state.running.as_ref().ok_or(UNCONFIGURED)?;
        let snapshot = running.snapshots.load_full();
        let (query, asked) = (query.clone(), snapshot.clone());
        let answer = running.worker.ask(move |worker| {
            let engine = worker.engine();
            engine.explain_own(&packet(&query), &asked, worker::now())
        });
        let (steps, verdict) = answer.ok_or(ENDED)??;
        Ok(explanation(&steps, verdict, &snapshot))
    }
}

fn packet(query: &ExplainQuery) -> Packet<'_> {
    Packet {
        port: &query.port,
        from: query.from,
        to: query.to,
        tos: query.tos,
        protocol: query.protocol,
        source_port: query.source_port,
        destination_port: query.destination_port,
    }
}

/// What was decided, in words.
pub(crate) fn explanation(steps: &Steps, verdict: Verdict, snapshot: &Snapshot) -> Explanation {
    let (verdict, delivered) = match verdict {
        Verdict::Emit(to) => (format!("emit on {}", snapshot.port_name(to)), true),
        Verdict::Hold => (
            "hold: waiting for its next hop's MAC, or for other fragments".to_owned(),
            true,
        ),
        Verdict::Consumed => ("consumed: for the router itself".to_owned(), true),
        Verdict::Replaced => (
            "replaced: goes out as fragments, or is answered so".to_owned(),
            true,
        ),
        Verdict::Drop(reason) => (
            format!("drop: {} ({})", reason.name(), reason.explanation()),
            false,
        ),
    };
    let steps = steps.0.iter();
    Explanation {
        steps: steps
            .map(|step| explain::describe(step, snapshot))
            .collect(),
        verdict,
        delivered,
    }
}
