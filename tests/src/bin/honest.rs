//! What an honest guest does all day, watched closely: a TCP connection that a line goes there and
//! back by every 50 ms, two new connections a second, and fifty questions a second, each a datagram
//! from a port of its own, as for DNS.
//!
//! ```text
//! honest ADDRESS:PORT --seconds N        the other side is `flow serve ADDRESS:PORT`
//! ```
//! Prints one line, `lines=N broken=N slowest_ms=N connects=N refused=N asked=N unanswered=N`.

use std::error::Error;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

/// A connection that says nothing for so long is lost.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long an answer is waited for.
const ANSWERED: Duration = Duration::from_secs(1);
const LINES: Duration = Duration::from_millis(50);
const CONNECTS: Duration = Duration::from_millis(500);
const QUESTIONS: Duration = Duration::from_millis(20);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("honest {}: {error}", arguments.join(" "));
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<(), Box<dyn Error>> {
    let [server, option, seconds] = arguments else {
        return Err("expected: ADDRESS:PORT --seconds N".into());
    };
    if option != "--seconds" {
        return Err(format!("no such option: {option}").into());
    }
    let server: SocketAddr = server.parse()?;
    let end = Instant::now() + Duration::from_secs(seconds.parse()?);
    let lines = thread::spawn(move || lines(server, end));
    let connects = thread::spawn(move || connects(server, end));
    let (asked, unanswered) = questions(server, end)?;
    let (lines, broken, slowest) = lines.join().map_err(|_| "a thread panicked")?;
    let (connects, refused) = connects.join().map_err(|_| "a thread panicked")?;
    println!(
        "lines={lines} broken={broken} slowest_ms={} connects={connects} refused={refused} \
         asked={asked} unanswered={unanswered}",
        slowest.as_millis()
    );
    Ok(())
}

/// A connection whose other side sends back what it gets.
fn connect(server: SocketAddr) -> io::Result<BufReader<TcpStream>> {
    let mut stream = TcpStream::connect_timeout(&server, PATIENCE)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(&[b'e', 0, 0, 0, 0, 0, 0, 0, 0])?;
    Ok(BufReader::new(stream))
}

/// One line there and back.
fn line(stream: &mut BufReader<TcpStream>, number: u64) -> io::Result<()> {
    let said = format!("line {number}\n");
    stream.get_mut().write_all(said.as_bytes())?;
    let mut heard = String::new();
    stream.read_line(&mut heard)?;
    match heard == said {
        true => Ok(()),
        false => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// Lines, how many connections broke, and the longest time that a line took.
fn lines(server: SocketAddr, end: Instant) -> (u64, u64, Duration) {
    let (mut count, mut broken, mut slowest) = (0, 0, Duration::ZERO);
    while Instant::now() < end {
        let Ok(mut stream) = connect(server) else {
            broken += 1;
            continue;
        };
        while Instant::now() < end {
            let said = Instant::now();
            if line(&mut stream, count).is_err() {
                broken += 1;
                break;
            }
            count += 1;
            slowest = slowest.max(said.elapsed());
            thread::sleep(LINES.saturating_sub(said.elapsed()));
        }
    }
    (count, broken, slowest)
}

/// New connections, each for one line, and how many came to nothing.
fn connects(server: SocketAddr, end: Instant) -> (u64, u64) {
    let (mut count, mut refused) = (0, 0);
    while Instant::now() < end {
        let begun = Instant::now();
        let done = connect(server).and_then(|mut stream| line(&mut stream, count));
        refused += u64::from(done.is_err());
        count += 1;
        thread::sleep(CONNECTS.saturating_sub(begun.elapsed()));
    }
    (count, refused)
}

/// Questions, and how many had no answer in time.
fn questions(server: SocketAddr, end: Instant) -> Result<(u64, u64), Box<dyn Error>> {
    let (mut count, mut unanswered) = (0_u64, 0);
    while Instant::now() < end {
        let begun = Instant::now();
        let socket = match server {
            SocketAddr::V4(_) => UdpSocket::bind("0.0.0.0:0")?,
            SocketAddr::V6(_) => UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0))?,
        };
        socket.set_read_timeout(Some(ANSWERED))?;
        socket.connect(server)?;
        let question = count.to_be_bytes();
        let mut answer = [0; 8];
        let heard = socket
            .send(&question)
            .and_then(|_| socket.recv(&mut answer));
        unanswered += u64::from(heard.is_err() || answer != question);
        count += 1;
        thread::sleep(QUESTIONS.saturating_sub(begun.elapsed()));
    }
    Ok((count, unanswered))
}
