//! The provider's side: a namespace with the gateway and a server behind it.

use std::io::Write;
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use tapgate_tests::netns;

/// The server's address.
pub(crate) const SERVER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 9);
/// Sends when as many are connected as were announced.
pub(crate) const TOGETHER: u16 = 80;
/// Sends little by little, for about a second.
pub(crate) const PACED: u16 = 81;
/// Sends datagrams back.
pub(crate) const ECHO: u16 = 7;
/// Bytes that are sent behind a line with the peer's address.
pub(crate) const LENGTH: usize = 64_000;
/// How long a connection waits for the others, and for its peer.
const PATIENCE: Duration = Duration::from_secs(30);
/// How many pieces the paced server sends.
const PIECES: usize = 40;

/// Runs as long as this lives.
pub(crate) struct Provider(Arc<Server>);

#[derive(Default)]
struct Server {
    ended: AtomicBool,
    together: Mutex<Together>,
    changed: Condvar,
    heard: Mutex<Vec<Vec<u8>>>,
}

/// Connections that are served together.
#[derive(Default)]
struct Together {
    expected: usize,
    connected: usize,
}

impl Provider {
    /// Makes the namespace, and a veth to it whose other end, `up0`, is in the caller's.
    pub(crate) fn new() -> Self {
        let server = Arc::new(Server::default());
        let (ready, is_ready) = mpsc::channel();
        let (connect, is_connected) = mpsc::channel::<()>();
        let runs = server.clone();
        thread::spawn(move || {
            netns::enter_new();
            ready.send(netns::current()).expect("the test runs");
            is_connected.recv().expect("the test runs");
            netns::ip(&format!(
                "link set eth0 up\naddress add 192.0.2.1/24 dev eth0\naddress add {SERVER}/32 dev lo\nroute add 203.0.113.0/24 dev eth0"
            ));
            let listeners = [TOGETHER, PACED].map(|port| {
                let listener = TcpListener::bind((SERVER, port)).expect("a port");
                listener.set_nonblocking(true).expect("a socket");
                listener
            });
            let echo = UdpSocket::bind((SERVER, ECHO)).expect("a port");
            echo.set_nonblocking(true).expect("a socket");
            ready.send(0).expect("the test runs");
            runs.serve(&listeners, &echo);
        });
        let namespace = is_ready.recv().expect("a namespace for the provider");
        netns::ip(&format!(
            "link add up0 type veth peer name eth0 netns {namespace}\nlink set up0 up"
        ));
        connect.send(()).expect("the provider runs");
        is_ready.recv().expect("the server listens");
        Self(server)
    }

    /// The next `count` connections are served together.
    pub(crate) fn expect_together(&self, count: usize) {
        *self.0.together.lock().expect("no panic") = Together {
            expected: count,
            connected: 0,
        };
    }

    /// How many datagrams with this text came.
    pub(crate) fn heard(&self, text: &str) -> usize {
        let heard = self.0.heard.lock().expect("no panic");
        heard
            .iter()
            .filter(|bytes| **bytes == text.as_bytes())
            .count()
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.0.ended.store(true, Ordering::SeqCst);
    }
}

impl Server {
    fn serve(self: &Arc<Self>, listeners: &[TcpListener; 2], echo: &UdpSocket) {
        let mut datagram = [0; 2_048];
        while !self.ended.load(Ordering::SeqCst) {
            for (listener, pieces) in listeners.iter().zip([1, PIECES]) {
                while let Ok((stream, _)) = listener.accept() {
                    let server = self.clone();
                    thread::spawn(move || server.send(stream, pieces));
                }
            }
            while let Ok((length, from)) = echo.recv_from(&mut datagram) {
                let bytes = datagram[..length].to_vec();
                let _ = echo.send_to(&bytes, from);
                self.heard.lock().expect("no panic").push(bytes);
            }
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Waits until as many are connected as are expected; whether they are.
    fn wait_for_others(&self) -> bool {
        let mut together = self.together.lock().expect("no panic");
        together.connected += 1;
        self.changed.notify_all();
        let incomplete = |together: &mut Together| together.connected < together.expected;
        let waited = self
            .changed
            .wait_timeout_while(together, PATIENCE, incomplete);
        waited.is_ok_and(|(_, result)| !result.timed_out())
    }

    /// A peer that goes away is no concern of the server's.
    fn send(&self, mut stream: TcpStream, pieces: usize) {
        let Ok(peer) = stream.peer_addr() else { return };
        let _ = stream.set_nonblocking(false);
        let _ = stream.set_write_timeout(Some(PATIENCE));
        if pieces == 1 && !self.wait_for_others() {
            return;
        }
        let mut bytes = format!("{peer}\n").into_bytes();
        bytes.extend((0..LENGTH).map(pattern));
        for piece in bytes.chunks(bytes.len().div_ceil(pieces)) {
            if stream.write_all(piece).is_err() {
                return;
            }
            if pieces > 1 {
                thread::sleep(Duration::from_millis(25));
            }
        }
    }
}

/// The byte at `at` of what is sent.
pub(crate) fn pattern(at: usize) -> u8 {
    (at ^ at >> 8) as u8
}
