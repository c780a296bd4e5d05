//! What the programs share that send frames into a lab: options, pace, result.

use std::error::Error;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use smoltcp::phy::{Device, Medium, RawSocket, TxToken};

/// Runs a program with its arguments; prints how many `what` it sent, or why it could not.
pub fn main(
    program: &str,
    what: &str,
    run: impl FnOnce(&[String]) -> Result<u64, Box<dyn Error>>,
) -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(count) => {
            println!("{what}={count}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{program} {}: {error}", arguments.join(" "));
            ExitCode::FAILURE
        }
    }
}

/// The value of an option such as `--rate`.
///
/// # Errors
/// It has none, or one that is not a number.
pub fn option(options: &[String], name: &str, default: u64) -> Result<u64, Box<dyn Error>> {
    match options.iter().position(|option| option == name) {
        Some(at) => Ok(options.get(at + 1).ok_or("a value is missing")?.parse()?),
        None => Ok(default),
    }
}

/// Sends `count` bursts of frames on a device, `rate` bursts a second; how many there were.
///
/// # Errors
/// No such device, or it takes no frames; a burst that could not be made.
pub fn send<B: AsRef<[Vec<u8>]>>(
    device: &str,
    (count, rate): (u64, u64),
    mut burst: impl FnMut() -> Result<B, Box<dyn Error>>,
) -> Result<u64, Box<dyn Error>> {
    let mut socket = RawSocket::new(device, Medium::Ethernet)?;
    let start = Instant::now();
    for sent in 0..count {
        for frame in burst()?.as_ref() {
            let token = socket
                .transmit(smoltcp::time::Instant::now())
                .ok_or("the device takes no frame")?;
            token.consume(frame.len(), |buffer| buffer.copy_from_slice(frame));
        }
        let due = Duration::from_micros((sent + 1) * 1_000_000 / rate);
        thread::sleep(due.saturating_sub(start.elapsed()));
    }
    Ok(count)
}
