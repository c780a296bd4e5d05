//! One flow between a lab's guest and its remote host, watched closely: what was lost and the
//! longest time in which nothing arrived.
//!
//! ```text
//! flow serve ADDRESS:PORT                        the remote host's side, TCP and UDP
//! flow echo ADDRESS:PORT --seconds N --rate N    UDP datagrams per second, sent back by the server
//! flow upload ADDRESS:PORT --seconds N --rate N  TCP, Mbit/s
//! flow download ADDRESS:PORT --seconds N --rate N
//! ```
//! Prints one line, `received=N lost=N gap_ms=N`: datagrams for `echo`, bytes for TCP. The gap is
//! the longest time without an arrival, from the start to the end of the flow.

use std::error::Error;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

/// How long to wait for what is still on its way at the end of a flow.
const LINGER: Duration = Duration::from_secs(2);
/// How often a TCP flow writes: the finest gap that it can show.
const TICK: Duration = Duration::from_millis(2);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("flow {}: {error}", arguments.join(" "));
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<(), Box<dyn Error>> {
    let [kind, address, options @ ..] = arguments else {
        return Err(
            "expected: serve|echo|upload|download ADDRESS:PORT [--seconds N --rate N]".into(),
        );
    };
    let option = |name: &str, default: u64| -> Result<u64, Box<dyn Error>> {
        match options.iter().position(|option| option == name) {
            Some(at) => Ok(options.get(at + 1).ok_or("a value is missing")?.parse()?),
            None => Ok(default),
        }
    };
    let time = Duration::from_secs(option("--seconds", 5)?);
    match kind.as_str() {
        "serve" => serve(address),
        "echo" => echo(address, time, option("--rate", 1000)?),
        "upload" => upload(address, time, option("--rate", 100)?),
        "download" => download(address, time, option("--rate", 100)?),
        _ => Err(format!("no such kind of flow: {kind}").into()),
    }
}

/// Serves until killed.
fn serve(address: &str) -> Result<(), Box<dyn Error>> {
    let datagrams = UdpSocket::bind(address)?;
    let listener = TcpListener::bind(address)?;
    thread::spawn(move || {
        let mut buffer = [0; 2048];
        loop {
            // An ICMP error of an earlier datagram shows up here: nothing to do about it.
            if let Ok((length, from)) = datagrams.recv_from(&mut buffer) {
                let _ = datagrams.send_to(&buffer[..length], from);
            }
        }
    });
    for stream in listener.incoming() {
        let mut stream = stream?;
        thread::spawn(move || {
            let mut order = [0; 9];
            stream.read_exact(&mut order)?;
            let bits = u64::from_be_bytes(std::array::from_fn(|i| order[i + 1]));
            if order[0] == b'e' {
                stream.set_nodelay(true)?;
                io::copy(&mut stream.try_clone()?, &mut stream).map(drop)
            } else if order[0] == b'u' {
                let mut watch = Watch::start();
                drain(&mut stream, &mut watch)?;
                writeln!(stream, "{}", watch.report(0))
            } else {
                pour(&mut stream, Duration::from_secs(3600), bits)
            }
        });
    }
    Ok(())
}

/// Sends numbered datagrams at a steady rate and counts those that come back.
fn echo(address: &str, time: Duration, rate: u64) -> Result<(), Box<dyn Error>> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.connect(address)?;
    let sender = socket.try_clone()?;
    let start = Instant::now();
    let sending = thread::spawn(move || {
        let mut sent = 0_u64;
        while start.elapsed() < time {
            let due = start.elapsed().as_micros() as u64 * rate / 1_000_000;
            while sent < due {
                // A send that fails is a datagram that does not come back.
                let _ = sender.send(&sent.to_be_bytes());
                sent += 1;
            }
            thread::sleep(Duration::from_micros(500));
        }
        sent
    });

    let mut watch = Watch::start();
    let mut seen = vec![false; ((time.as_secs() + 1) * rate) as usize];
    socket.set_read_timeout(Some(Duration::from_millis(10)))?;
    let mut read = |watch: &mut Watch| {
        let mut buffer = [0; 8];
        if let Ok(8) = socket.recv(&mut buffer) {
            let number = u64::from_be_bytes(buffer) as usize;
            if !std::mem::replace(&mut seen[number], true) {
                watch.arrival(1);
            }
        }
    };
    while start.elapsed() < time {
        read(&mut watch);
    }
    // Not now: the last look may have waited for what nobody sends any more.
    watch.end_at(start + time);
    let sent = sending.join().map_err(|_| "the sender panicked")?;
    while watch.received < sent && start.elapsed() < time + LINGER {
        read(&mut watch);
    }
    println!("{}", watch.report(sent - watch.received));
    Ok(())
}

/// Writes to the server, which tells what it saw.
fn upload(address: &str, time: Duration, rate: u64) -> Result<(), Box<dyn Error>> {
    let mut stream = order(address, b'u', rate)?;
    pour(&mut stream, time, rate)?;
    stream.shutdown(Shutdown::Write)?;
    let mut report = String::new();
    stream.read_to_string(&mut report)?;
    print!("{report}");
    Ok(())
}

/// Reads what the server writes.
fn download(address: &str, time: Duration, rate: u64) -> Result<(), Box<dyn Error>> {
    let mut stream = order(address, b'd', rate)?;
    stream.set_read_timeout(Some(Duration::from_millis(50)))?;
    let mut watch = Watch::start();
    let start = Instant::now();
    let mut buffer = vec![0; 1 << 16];
    while start.elapsed() < time {
        match stream.read(&mut buffer) {
            Ok(0) => return Err("the server closed the flow".into()),
            Ok(length) => watch.arrival(length as u64),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
    }
    watch.end();
    println!("{}", watch.report(0));
    Ok(())
}

/// Connects, and says which way the bytes shall go and at how many Mbit/s.
fn order(address: &str, direction: u8, rate: u64) -> Result<TcpStream, Box<dyn Error>> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let mut message = vec![direction];
    message.extend(rate.to_be_bytes());
    stream.write_all(&message)?;
    Ok(stream)
}

/// Writes at `rate` Mbit/s for `time`. What could not be written in time is not caught up.
fn pour(stream: &mut TcpStream, time: Duration, rate: u64) -> io::Result<()> {
    let piece = vec![0x5a; (rate as usize * 1_000_000 / 8 * TICK.as_millis() as usize) / 1000];
    let start = Instant::now();
    while start.elapsed() < time {
        stream.write_all(&piece)?;
        thread::sleep(TICK);
    }
    Ok(())
}

fn drain(stream: &mut TcpStream, watch: &mut Watch) -> io::Result<()> {
    let mut buffer = vec![0; 1 << 16];
    loop {
        match stream.read(&mut buffer)? {
            0 => {
                watch.end();
                return Ok(());
            }
            length => watch.arrival(length as u64),
        }
    }
}

/// Arrivals and the longest time between two.
struct Watch {
    last: Instant,
    gap: Duration,
    received: u64,
}

impl Watch {
    fn start() -> Self {
        Self {
            last: Instant::now(),
            gap: Duration::ZERO,
            received: 0,
        }
    }

    fn arrival(&mut self, amount: u64) {
        self.end();
        self.received += amount;
    }

    /// The flow ends here: the time since the last arrival counts.
    fn end(&mut self) {
        self.end_at(Instant::now());
    }

    fn end_at(&mut self, now: Instant) {
        self.gap = self.gap.max(now.saturating_duration_since(self.last));
        self.last = now;
    }

    fn report(&self, lost: u64) -> String {
        format!(
            "received={} lost={lost} gap_ms={}",
            self.received,
            self.gap.as_millis()
        )
    }
}
