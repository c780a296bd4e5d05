//! control's socket: one thread for each connection, none of which can hold up another.

use std::collections::VecDeque;
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Sender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use tapgate_protocol::{Channel, ChannelError, Greeting, Request, Response, Versions};

use crate::event::{Call, Event, Order};
use crate::health::Health;

/// Most connections that may wait for their peer's request; the next one ends the oldest of them.
/// Only the owner of the socket can connect, so this guards against mistakes, not attacks.
const MOST_WAITING: usize = 32;
/// Most connections at once, with those that are being ended and those whose answer is due.
const MOST: usize = 48;
/// How long a peer may take over one read or write.
const PATIENCE: Duration = Duration::from_secs(30);

/// The connections.
#[derive(Debug, Default)]
pub struct Server {
    waiting: Mutex<VecDeque<(u64, UnixStream)>>,
    /// Connections' threads.
    threads: Mutex<usize>,
    ended: Condvar,
    next: AtomicU64,
    /// Requests whose answers are not sent yet.
    busy: Mutex<usize>,
    idle: Condvar,
    /// The running generation, for greetings.
    generation: AtomicU64,
    health: Arc<Health>,
}

impl Server {
    /// Serves `listener` in a thread of its own; orders go to `events`.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn start(listener: UnixListener, events: Sender<Event>) -> std::io::Result<Arc<Self>> {
        let server = Arc::new(Self::default());
        let accepting = Arc::clone(&server);
        thread::Builder::new()
            .name("accept".into())
            .spawn(move || accepting.accept(&listener, &events))?;
        Ok(server)
    }

    /// Sets the generation that greetings tell.
    pub fn set_generation(&self, generation: u64) {
        self.generation.store(generation, Ordering::Relaxed);
    }

    /// What is told of the dataplane's life.
    pub fn health(&self) -> &Arc<Health> {
        &self.health
    }

    /// Waits until every answer is sent, at most `patience`.
    pub fn finish(&self, patience: Duration) {
        let busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = self
            .idle
            .wait_timeout_while(busy, patience, |busy| *busy > 0);
    }

    fn accept(self: &Arc<Self>, listener: &UnixListener, events: &Sender<Event>) {
        for stream in listener.incoming() {
            let Ok(stream) = stream else {
                // Out of descriptors or memory: others must end first.
                thread::sleep(Duration::from_millis(50));
                continue;
            };
            let id = self.next.fetch_add(1, Ordering::Relaxed);
            self.wait_for(id, &stream);
            // The oldest was told to end; until its thread has, nobody else gets one.
            let threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
            let mut threads = self
                .ended
                .wait_while(threads, |threads| *threads >= MOST)
                .unwrap_or_else(PoisonError::into_inner);
            let (server, events) = (Arc::clone(self), events.clone());
            let started = thread::Builder::new()
                .name("connection".into())
                .stack_size(256 << 10)
                .spawn(move || {
                    let _ = server.serve(id, stream, &events);
                    server.forget(id);
                    *server
                        .threads
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner) -= 1;
                    server.ended.notify_one();
                });
            // If there is no thread to be had the stream is dropped, and so the connection closed.
            *threads += usize::from(started.is_ok());
        }
    }

    fn serve(
        &self,
        id: u64,
        stream: UnixStream,
        events: &Sender<Event>,
    ) -> Result<(), ChannelError> {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut channel = Channel::new(stream);
        let Request::Hello { version, speaks } = self.request(&mut channel)? else {
            return refuse(&mut channel, "a connection begins with a greeting");
        };
        let greeting = Greeting {
            pid: std::process::id(),
            generation: self.generation.load(Ordering::Relaxed),
        };
        channel.welcome(Versions::said(version, speaks), greeting)?;
        loop {
            let order = match self.request(&mut channel)? {
                Request::Apply(configuration) => Order::Apply(configuration),
                Request::Config => Order::Config,
                Request::Stop => Order::Stop,
                Request::Health => {
                    channel.send(&self.health.told(), &[])?;
                    continue;
                }
                _ => {
                    refuse(
                        &mut channel,
                        "control takes apply and stop; ask the dataplane",
                    )?;
                    continue;
                }
            };
            self.forget(id);
            *self.busy.lock().unwrap_or_else(PoisonError::into_inner) += 1;
            let (reply, answer) = sync_channel(1);
            let _ = events.send(Event::Call(Call { order, reply }));
            let answer = answer.recv().unwrap_or_else(|_| Response::Failed {
                message: "control is ending; nothing was changed".to_owned(),
            });
            let sent = channel.send(&answer, &[]);
            *self.busy.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
            self.idle.notify_all();
            sent?;
            self.wait_for(id, channel.stream());
        }
    }

    /// The next request. A peer that sends something else is told so, and the connection ends.
    fn request(&self, channel: &mut Channel) -> Result<Request, ChannelError> {
        let received = channel.receive();
        if let Err(
            error @ (ChannelError::Malformed(_)
            | ChannelError::TooLong(_)
            | ChannelError::TooManyDescriptors(_)),
        ) = &received
        {
            refuse(channel, &error.to_string())?;
        }
        Ok(received?.0)
    }

    fn wait_for(&self, id: u64, stream: &UnixStream) {
        let Ok(stream) = stream.try_clone() else {
            return;
        };
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.push_back((id, stream));
        if waiting.len() > MOST_WAITING
            && let Some((_, oldest)) = waiting.pop_front()
        {
            let _ = oldest.shutdown(Shutdown::Both);
        }
    }

    fn forget(&self, id: u64) {
        self.waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|(waiting, _)| *waiting != id);
    }
}

fn refuse(channel: &mut Channel, message: &str) -> Result<(), ChannelError> {
    let message = message.to_owned();
    channel.send(&Response::Failed { message }, &[])
}
