//! How soon the forwarding thread gets a processor.

use std::io;
use std::time::Duration;

/// Asks for turns of `slice` on the processor for the calling thread, kept between 0.1 and 100 ms
/// by the kernel. A thread that wakes up goes before others whose turns are longer, and has no
/// larger share of the processor for it (Linux 6.12; older kernels ignore it).
///
/// # Errors
/// The kernel has no such call, or forbids it.
pub fn short_turns(slice: Duration) -> io::Result<()> {
    // SAFETY: all zeroes is a valid sched_attr: SCHED_OTHER, no flags, nice 0.
    let mut attributes: libc::sched_attr = unsafe { std::mem::zeroed() };
    attributes.size = size_of::<libc::sched_attr>() as u32;
    // SAFETY: 0 is the calling thread, and the kernel writes no more than the size it is told.
    let got = unsafe {
        libc::syscall(
            libc::SYS_sched_getattr,
            0,
            &raw mut attributes,
            attributes.size,
            0,
        )
    };
    if got < 0 {
        return Err(io::Error::last_os_error());
    }
    attributes.sched_runtime = slice.as_nanos() as u64;
    // SAFETY: 0 is the calling thread; `attributes` is as long as its size says, and only read.
    let set = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
    match set {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
