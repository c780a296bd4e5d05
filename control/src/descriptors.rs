//! Descriptors that outlive the dataplane: a TAP, the sessions' memory and the rules for the
//! host's kernel live as long as somebody holds them.

use std::collections::HashSet;
use std::os::fd::OwnedFd;

use tapgate_engine::config::{Config, PortKind};
use tapgate_protocol::Kept;

/// What control keeps for the next dataplane.
#[derive(Debug, Default)]
pub struct Descriptors {
    all: Vec<(Kept, OwnedFd)>,
}

impl Descriptors {
    /// All of them.
    pub fn all(&self) -> &[(Kept, OwnedFd)] {
        &self.all
    }

    /// Lets go of all.
    pub fn clear(&mut self) {
        self.all.clear();
    }

    /// Lets go of the sessions' memory: the next dataplane starts with none. Whether there was any.
    pub fn forget_sessions(&mut self) -> bool {
        let before = self.all.len();
        self.all
            .retain(|(name, _)| !matches!(name, Kept::Sessions { .. }));
        self.all.len() < before
    }

    /// Keeps `descriptors` in place of older ones of the same name, and lets go of those that
    /// `config` has no use for. They are fewer than `names` if not all could be received.
    pub fn renew(&mut self, names: Vec<Kept>, descriptors: Vec<OwnedFd>, config: &Config) {
        let guarded = names.contains(&Kept::HostGuard);
        let (come, missing) = names.split_at(descriptors.len().min(names.len()));
        let fresh: HashSet<&Kept> = come.iter().collect();
        self.all.retain(|(name, _)| !fresh.contains(name));
        self.all.extend(come.iter().cloned().zip(descriptors));
        let ports = config.ports();
        self.all.retain(|(name, _)| match name {
            Kept::Sessions { .. } => true,
            Kept::HostGuard => guarded,
            Kept::Tap { port, queue } => ports.iter().any(|known| {
                known.name == *port
                    && matches!(known.kind, PortKind::Tap { .. })
                    && *queue < known.queues
            }),
        });
        self.miss(missing);
    }

    /// Says which are `missing`. A TAP of which a queue is missing is let go of: no dataplane could
    /// use it, nor make another of its name.
    fn miss(&mut self, missing: &[Kept]) {
        if missing.is_empty() {
            return;
        }
        tracing::warn!(
            "{} descriptors of the dataplane's are not kept, for want of room: their TAPs do not \
             survive its restart; allow more open files (LimitNOFILE=, ulimit -n)",
            missing.len()
        );
        let known: HashSet<&Kept> = self.all.iter().map(|(name, _)| name).collect();
        let parts: HashSet<&str> = missing
            .iter()
            .filter(|name| !known.contains(name))
            .filter_map(port)
            .collect();
        self.all
            .retain(|(name, _)| port(name).is_none_or(|port| !parts.contains(port)));
    }
}

fn port(kept: &Kept) -> Option<&str> {
    match kept {
        Kept::Tap { port, .. } => Some(port),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::fs::File;

    fn config(queues: u16) -> Config {
        serde_json::from_value(serde_json::json!({ "ports": {
            "a": { "tap": "tap-a", "queues": queues },
            "b": { "tap": "tap-b", "queues": queues },
        }}))
        .unwrap()
    }

    fn tap(port: &str, queue: u16) -> Kept {
        let port = port.to_owned();
        Kept::Tap { port, queue }
    }

    fn everything() -> Vec<Kept> {
        let sessions = Kept::Sessions { worker: 0 };
        let [a, b] = ["a", "b"].map(|port| (0..2).map(move |queue| tap(port, queue)));
        [sessions, Kept::HostGuard]
            .into_iter()
            .chain(a)
            .chain(b)
            .collect()
    }

    fn opened(number: usize) -> Vec<OwnedFd> {
        let open = |_| File::open("/dev/null").unwrap().into();
        (0..number).map(open).collect()
    }

    fn names(descriptors: &Descriptors) -> Vec<Kept> {
        let names = descriptors.all().iter().map(|(name, _)| name.clone());
        names.collect()
    }

    #[test]
    fn what_the_configuration_has_no_use_for_is_let_go_of() {
        let mut descriptors = Descriptors::default();
        for _ in 0..2 {
            descriptors.renew(everything(), opened(6), &config(2));
            assert_eq!(names(&descriptors), everything());
        }
        let one_queue = [Kept::Sessions { worker: 0 }, tap("a", 0), tap("b", 0)];
        descriptors.renew(one_queue.to_vec(), opened(3), &config(1));
        assert_eq!(names(&descriptors), one_queue);
    }

    #[test]
    fn a_tap_with_a_queue_missing_is_let_go_of_as_a_whole() {
        let mut descriptors = Descriptors::default();
        descriptors.renew(everything(), opened(5), &config(2));
        assert_eq!(names(&descriptors), everything()[..4]);

        // One that is kept already is as good as a new one.
        descriptors.renew(everything(), opened(6), &config(2));
        descriptors.renew(everything(), opened(3), &config(2));
        let mut kept = names(&descriptors);
        kept.sort_by_key(|name| everything().iter().position(|known| known == name));
        assert_eq!(kept, everything());

        // Nor are there more than were named.
        let mut descriptors = Descriptors::default();
        descriptors.renew(everything(), opened(9), &config(2));
        assert_eq!(names(&descriptors), everything());
    }
}
