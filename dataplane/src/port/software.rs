//! Doing in software what a driver cannot do with a frame on its way out.

use arrayvec::ArrayVec;
use tapgate_engine::frame::Frame;
use tapgate_engine::segment::{complete_checksum, segment};

use super::driver::{BATCH, Driver, Sent};

/// Sends frames by a driver that does not take all of them as they are: completes their checksums
/// and cuts super-frames, in their order. `scratch` is worth keeping for the next call. Returns
/// what became of them, and how many were dropped because their offloads contradict them.
pub fn transmit<'f, 'b: 'f>(
    driver: &impl Driver,
    frames: impl Iterator<Item = &'f mut Frame<'b>>,
    scratch: &mut Vec<u8>,
) -> (Sent, u64) {
    let capabilities = driver.capabilities();
    let mut sent = Sent::default();
    let mut malformed = 0;
    let mut ready = ArrayVec::<_, BATCH>::new();
    for frame in frames {
        if !capabilities.take(&frame.offload) {
            if frame.offload.gso.is_some() {
                sent += driver.transmit(ready.drain(..));
                let cut = segment(frame, scratch, &mut |piece| {
                    sent += driver.transmit(std::iter::once(piece));
                });
                malformed += u64::from(cut.is_err());
                continue;
            }
            if complete_checksum(frame).is_err() {
                malformed += 1;
                continue;
            }
        }
        if ready.is_full() {
            sent += driver.transmit(ready.drain(..));
        }
        ready.push(frame);
    }
    sent += driver.transmit(ready.into_iter());
    (sent, malformed)
}
