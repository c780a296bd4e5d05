//! The socket filter of an uplink: a classic BPF program that lets in what is for the router.
//!
//! An uplink is shared with the host. Without it the kernel would copy every frame of the host's
//! own traffic to us as well, super-frames included, only for us to drop it.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use libc::{sock_filter, sock_fprog};
use tapgate_engine::addr::MacAddr;

/// Most MACs that are told apart by a filter: the program is searched from its start for each
/// frame, and the kernel takes 4096 instructions at most.
const MOST: usize = 256;

const LOAD_WORD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const LOAD_HALF: u16 = (libc::BPF_LD | libc::BPF_H | libc::BPF_ABS) as u16;
const LOAD_BYTE: u16 = (libc::BPF_LD | libc::BPF_B | libc::BPF_ABS) as u16;
const JUMP_IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const JUMP_IF_SET: u16 = (libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
const ALL: u32 = u32::MAX;
const NOTHING: u32 = 0;

/// Has `socket` receive only frames to `macs`, broadcasts and multicasts; everything when there are
/// none, or too many.
///
/// # Errors
/// The kernel refuses the program.
pub fn attach(socket: &OwnedFd, macs: Option<&[MacAddr]>) -> io::Result<()> {
    let program = match macs {
        Some(macs) if macs.len() <= MOST => program(macs),
        _ => vec![instruction(RETURN, 0, 0, ALL)],
    };
    let fprog = sock_fprog {
        len: program.len() as u16,
        filter: program.as_ptr().cast_mut(),
    };
    // SAFETY: `fprog` points to `len` instructions, which the kernel copies.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const fprog).cast(),
            size_of_val(&fprog) as libc::socklen_t,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

fn program(macs: &[MacAddr]) -> Vec<sock_filter> {
    let mut program = vec![
        // The group bit (IEEE 802 §8.2).
        instruction(LOAD_BYTE, 0, 0, 0),
        instruction(JUMP_IF_SET, 0, 1, 1),
        instruction(RETURN, 0, 0, ALL),
    ];
    for MacAddr([a, b, c, d, e, f]) in macs {
        let (high, low) = (
            u16::from_be_bytes([*a, *b]),
            u32::from_be_bytes([*c, *d, *e, *f]),
        );
        program.extend([
            instruction(LOAD_WORD, 0, 0, 2),
            instruction(JUMP_IF_EQUAL, 0, 3, low),
            instruction(LOAD_HALF, 0, 0, 0),
            instruction(JUMP_IF_EQUAL, 0, 1, high.into()),
            instruction(RETURN, 0, 0, ALL),
        ]);
    }
    program.push(instruction(RETURN, 0, 0, NOTHING));
    program
}

const fn instruction(code: u16, jt: u8, jf: u8, k: u32) -> sock_filter {
    sock_filter { code, jt, jf, k }
}
