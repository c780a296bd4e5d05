//! The control process at work: one configuration, one dataplane that must have it.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use sd_notify::NotifyState;
use tapgate_engine::config::{Config, PortKind};
use tapgate_protocol::{Configuration, Configure, Request, Response};

use crate::assignments::{Assignment, assignments};
use crate::block_log;
use crate::dataplane::{Dataplane, DataplaneError};
use crate::descriptors::Descriptors;
use crate::event::{Call, Event, Order};
use crate::failure::Failure;
use crate::launcher::Launcher;
use crate::runtime_dir::RuntimeDir;
use crate::server::Server;
use crate::source;
use crate::summary::summary;

/// How long the dataplane may take over a new configuration, from one step of progress to the next.
const CONFIGURE_PATIENCE: Duration = Duration::from_secs(30);
/// How long the dataplane may take to end, from one step of progress to the next.
const STOP_PATIENCE: Duration = Duration::from_secs(5);
/// If a dataplane lived this long, its death has a new cause: it is started again at once.
const HEALTHY: Duration = Duration::from_secs(10);
/// After this many deaths within [`DEATHS_WITHIN`] it may be what they leave that kills the next.
const MANY_DEATHS: usize = 3;
const DEATHS_WITHIN: Duration = Duration::from_secs(60);
/// Longest pause between two starts of a dataplane that dies again and again.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// What does not change while control runs.
pub struct Setup {
    /// The configuration file, which SIGHUP reads again.
    pub file: PathBuf,
    /// Whether diagnostics are coloured.
    pub colour: bool,
    /// Starts the dataplane.
    pub launcher: Launcher,
    /// The runtime directory, ours alone.
    pub directory: RuntimeDir,
    /// Answers at control's socket.
    pub server: Arc<Server>,
    /// Where events go.
    pub events: Sender<Event>,
    /// Set by SIGTERM and SIGINT at once, whatever the supervisor is waiting for.
    pub stop: Arc<AtomicBool>,
}

/// Everything control knows.
pub struct Supervisor {
    setup: Setup,
    config: Arc<Config>,
    /// What it was read from, if that is known.
    text: Option<String>,
    /// Descriptors that outlive the dataplane.
    kept: Descriptors,
    dataplane: Option<Dataplane>,
    /// Counts connections, so that news of an old one is not taken for the present one's.
    serial: u64,
    /// How often in a row the dataplane died young.
    failures: u32,
    /// When it died, of late.
    deaths: Vec<Instant>,
    /// When to start the dataplane, if it does not run.
    next_start: Option<Instant>,
}

impl Supervisor {
    /// Has `config` to bring about; nothing runs yet.
    pub fn new(setup: Setup, config: Config) -> Self {
        Self {
            setup,
            config: Arc::new(config),
            text: None,
            kept: Descriptors::default(),
            dataplane: None,
            serial: 0,
            failures: 0,
            deaths: Vec::new(),
            next_start: None,
        }
    }

    /// Runs until told to stop. `source` is the text of the configuration.
    ///
    /// # Errors
    /// It could not start.
    pub fn run(mut self, inbox: &Receiver<Event>, source: source::Source) -> Result<(), Failure> {
        self.text = Some(source.text().to_owned());
        if let Err(failure) = self.begin(source) {
            let interrupted = self.setup.stop.load(Ordering::Relaxed);
            if !interrupted && self.dataplane.as_ref().is_some_and(Dataplane::is_adopted) {
                // It goes on with the configuration it has.
                self.dataplane = None;
            }
            self.end();
            return if interrupted { Ok(()) } else { Err(failure) };
        }
        let _ = sd_notify::notify(&[NotifyState::Ready]);
        let asked = loop {
            let event = match self.next_start {
                None => inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(at) => inbox.recv_timeout(at.saturating_duration_since(Instant::now())),
            };
            match event {
                Err(RecvTimeoutError::Timeout) => self.restart(),
                Err(RecvTimeoutError::Disconnected) | Ok(Event::Terminate) => break None,
                Ok(Event::Call(Call {
                    order: Order::Stop,
                    reply,
                })) => break Some(reply),
                Ok(Event::Call(Call {
                    order: Order::Apply(configuration),
                    reply,
                })) => {
                    let answer = self.apply(configuration);
                    let _ = reply.send(answer);
                }
                Ok(Event::Call(Call {
                    order: Order::Config,
                    reply,
                })) => {
                    let _ = reply.send(Response::Config(Configuration {
                        config: self.config.clone(),
                        text: self.text.clone(),
                    }));
                }
                Ok(Event::Reload) => self.reload(),
                Ok(Event::Lost { serial }) if serial == self.serial => {
                    self.lost("the connection ended")
                }
                Ok(Event::StoodStill { serial }) if serial == self.serial => {
                    self.lost(&DataplaneError::StoodStill.to_string());
                }
                Ok(Event::Lost { .. } | Event::StoodStill { .. }) => {}
                Ok(Event::LauncherLost) => {
                    // The dataplane goes on, for the next control.
                    self.dataplane = None;
                    self.end();
                    return Err(Failure::new(
                        "the launcher is gone, without which no dataplane can be started\n\
                         packets flow on; `tapgate run FILE` takes over"
                            .to_owned(),
                    ));
                }
            }
        };
        let server = Arc::clone(&self.setup.server);
        self.end();
        if let Some(reply) = asked {
            let _ = reply.send(Response::Ok);
            server.finish(Duration::from_secs(1));
        }
        Ok(())
    }

    /// Takes over the running dataplane or starts one, and configures it.
    fn begin(&mut self, source: source::Source) -> Result<(), Failure> {
        let socket = self.setup.directory.dataplane_socket();
        let failure = |error: DataplaneError| Failure::new(format!("the dataplane: {error}"));
        match Dataplane::adopt(&socket) {
            Ok(Some(dataplane)) => {
                tracing::info!(pid = dataplane.pid(), "taking over the running dataplane");
                self.attach(dataplane).map_err(failure)?;
            }
            Ok(None) => self.start().map_err(failure)?,
            Err(error) => {
                return Err(Failure::new(format!(
                    "a dataplane is there already, but cannot be taken over: {error}\n\
                     end its process, and run this again"
                )));
            }
        }
        let config = self.config.clone();
        let response = match self.configure(config) {
            // One that an earlier control left behind may be stuck.
            Err(error @ DataplaneError::StoodStill) => {
                self.lost(&error.to_string());
                return Ok(());
            }
            response => response.map_err(failure)?,
        };
        match response {
            Response::Configured { .. } => Ok(()),
            Response::Refused { errors } => {
                Err(source.refusal(&errors).report(false, self.setup.colour))
            }
            Response::Failed { message } => Err(Failure::new(message)),
            other => Err(Failure::new(format!("the dataplane answered {other:?}"))),
        }
    }

    /// Starts a dataplane and gives it what outlived the last one.
    fn start(&mut self) -> Result<(), DataplaneError> {
        let dataplane = Dataplane::start(
            &mut self.setup.launcher,
            &self.setup.directory,
            &self.setup.stop,
        )?;
        self.attach(dataplane)?;
        let Some(dataplane) = &mut self.dataplane else {
            return Ok(());
        };
        for part in self.kept.all().chunks(dataplane.most_descriptors()) {
            let request = Request::Adopt {
                kept: part.iter().map(|(what, _)| what.clone()).collect(),
            };
            let descriptors: Vec<_> = part.iter().map(|(_, fd)| fd.as_fd()).collect();
            dataplane.ask(
                &request,
                &descriptors,
                CONFIGURE_PATIENCE,
                Some(&self.setup.stop),
            )?;
        }
        Ok(())
    }

    fn attach(&mut self, dataplane: Dataplane) -> Result<(), DataplaneError> {
        self.serial += 1;
        // First: if it cannot be watched over, it is to be parted with.
        self.dataplane.insert(dataplane).watch(
            &self.setup.directory.dataplane_socket(),
            self.serial,
            &self.setup.events,
            self.setup.server.health(),
        )?;
        self.next_start = None;
        Ok(())
    }

    /// Makes `config` the dataplane's, and ours if it takes it.
    fn configure(&mut self, config: Arc<Config>) -> Result<Response, DataplaneError> {
        let Some(dataplane) = &mut self.dataplane else {
            return Ok(Response::Failed {
                message: "the dataplane does not run at the moment; it is being restarted. \
                          Nothing was changed, try again"
                    .to_owned(),
            });
        };
        let adopted = dataplane.is_adopted();
        let request = Request::Configure(Configure {
            config: config.clone(),
        });
        let (response, descriptors) =
            dataplane.ask(&request, &[], CONFIGURE_PATIENCE, Some(&self.setup.stop))?;
        let Response::Configured {
            generation,
            mut warnings,
            kept,
            ..
        } = response
        else {
            return Ok(response);
        };
        let unchanged = self.config.means(&config);
        let before = std::mem::replace(&mut self.config, config);
        let (old, new) = (
            &before.file().nat.block_log,
            &self.config.file().nat.block_log,
        );
        if old != new {
            warnings.extend(write_down(old.as_deref(), &[]));
        }
        if let Some(log) = new {
            warnings.extend(write_down(Some(log), &assignments(&self.config)));
        }
        self.kept.renew(kept, descriptors, &self.config);
        self.setup.server.set_generation(generation);
        // A dataplane that we started logs warnings on our standard error itself.
        if adopted {
            for warning in &warnings {
                tracing::warn!("{warning}");
            }
        }
        let ready = format!("ready: {}; generation {generation}", summary(&self.config));
        let _ = sd_notify::notify(&[NotifyState::Status(&ready)]);
        tracing::info!("{ready}");
        Ok(Response::Configured {
            generation,
            warnings,
            kept: Vec::new(),
            unchanged,
        })
    }

    fn apply(&mut self, Configuration { config, text }: Configuration) -> Response {
        match self.configure(config) {
            Ok(response) => {
                if let Response::Configured { .. } = response {
                    self.text = text;
                }
                response
            }
            Err(error) => {
                self.lost(&error.to_string());
                Response::Failed {
                    message: format!(
                        "the dataplane failed over the new configuration ({error}); \
                         it is restarted with the one before"
                    ),
                }
            }
        }
    }

    fn reload(&mut self) {
        let mut state = vec![NotifyState::Reloading];
        state.extend(NotifyState::monotonic_usec_now());
        let _ = sd_notify::notify(&state);
        match source::load(&self.setup.file) {
            Err(refusal) => eprint!("{}", refusal.for_people(self.setup.colour)),
            Ok((config, source)) => {
                let read = Configuration {
                    config: Arc::new(config),
                    text: Some(source.text().to_owned()),
                };
                match self.apply(read) {
                    Response::Refused { errors } => {
                        eprint!("{}", source.refusal(&errors).for_people(self.setup.colour));
                    }
                    Response::Failed { message } => tracing::error!("not reloaded: {message}"),
                    _ => {}
                }
            }
        }
        let _ = sd_notify::notify(&[NotifyState::Ready]);
    }

    /// The dataplane is gone, or of no use: restarts it, at once unless it keeps dying.
    fn lost(&mut self, why: &str) {
        let Some(dataplane) = self.dataplane.take() else {
            return;
        };
        self.serial += 1;
        if dataplane.age() > HEALTHY {
            self.failures = 0;
        }
        self.setup.server.health().lost();
        let pid = dataplane.pid();
        let end = dataplane.bury(&mut self.setup.launcher);
        tracing::error!(pid, "lost the dataplane: {why}: {end}");
        self.note_death();
        self.next_start = Some(Instant::now() + pause(self.failures));
        if self.failures == 0 {
            self.failures = 1;
            self.restart();
        } else {
            self.failures += 1;
            self.say_pause();
        }
    }

    /// Brings a dataplane back to the present configuration. If that fails, it is tried again
    /// after a pause.
    fn restart(&mut self) {
        self.next_start = None;
        let begun = Instant::now();
        let config = self.config.clone();
        let failed = match self.start().and_then(|()| self.configure(config)) {
            Ok(Response::Configured { .. }) => {
                let ms = begun.elapsed().as_millis();
                let pid = self.dataplane.as_ref().map_or(0, Dataplane::pid);
                tracing::info!(pid, "the dataplane runs again after {ms} ms");
                return;
            }
            Err(DataplaneError::Interrupted) => return,
            Ok(other) => format!("it does not take the configuration: {other:?}"),
            Err(error) => error.to_string(),
        };
        tracing::error!("the dataplane cannot be restarted: {failed}");
        if let Some(dataplane) = self.dataplane.take() {
            self.serial += 1;
            self.setup.server.health().lost();
            dataplane.bury(&mut self.setup.launcher);
            self.note_death();
        }
        self.next_start = Some(Instant::now() + pause(self.failures));
        self.failures += 1;
        self.say_pause();
    }

    /// A dataplane died. If that happens too often, the next one gets no sessions: what the last ones
    /// left of them may be why (H14).
    fn note_death(&mut self) {
        let now = Instant::now();
        self.deaths
            .retain(|at| now.duration_since(*at) < DEATHS_WITHIN);
        self.deaths.push(now);
        if self.deaths.len() >= MANY_DEATHS && self.kept.forget_sessions() {
            tracing::error!(
                "the dataplane died {} times within {} s: the next one starts without sessions",
                self.deaths.len(),
                DEATHS_WITHIN.as_secs()
            );
            self.deaths.clear();
        }
    }

    fn say_pause(&self) {
        let pause = self.next_start.map_or(Duration::ZERO, |at| {
            at.saturating_duration_since(Instant::now())
        });
        let line = format!(
            "the dataplane died {} times in a row; the next start is in {:.1} s",
            self.failures,
            pause.as_secs_f32()
        );
        let _ = sd_notify::notify(&[NotifyState::Status(&line)]);
        tracing::error!("{line}");
    }

    /// Ends the dataplane and removes what is ours.
    fn end(mut self) {
        let _ = sd_notify::notify(&[NotifyState::Stopping]);
        self.serial += 1;
        // First, so that the TAPs and the rules go when the dataplane lets go of them.
        self.kept.clear();
        let ended = self.dataplane.is_some();
        if let Some(dataplane) = self.dataplane.take()
            && let Err(what) = dataplane.stop(STOP_PATIENCE, &mut self.setup.launcher)
        {
            tracing::error!("{what}");
            for port in self.config.ports() {
                if let PortKind::Device {
                    device,
                    create: Some(_),
                } = &port.kind
                {
                    tracing::warn!(
                        "TAP {device} may be left: `ip link delete {device}` removes it"
                    );
                }
            }
        }
        let log = self.config.file().nat.block_log.as_deref();
        if let Some(unwritten) = write_down(log.filter(|_| ended), &[]) {
            tracing::warn!("{unwritten}");
        }
        if let Err(left) = self.setup.directory.leave() {
            tracing::warn!("{left}");
        }
        tracing::info!("tapgate stopped");
    }
}

/// The pause before the next start after `failures` deaths in a row.
fn pause(failures: u32) -> Duration {
    match failures {
        0 => Duration::ZERO,
        n => LONGEST_PAUSE.min(Duration::from_millis(100) * 2_u32.saturating_pow(n - 1)),
    }
}

/// Writes down in the log of blocks who has what from now on; what went wrong.
fn write_down(log: Option<&Path>, assigned: &[Assignment]) -> Option<String> {
    let path = log?;
    let error = block_log::record(path, assigned).err()?;
    Some(format!(
        "the log of blocks {} cannot be written ({error}): who has which external ports is not written down",
        path.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_five_seconds() {
        let pauses: Vec<_> = (0..9).map(|n| pause(n).as_millis()).collect();
        assert_eq!(pauses, [0, 100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        assert_eq!(pause(u32::MAX), LONGEST_PAUSE);
    }
}
