//! A guest's end of its device, frame by frame: of a veth, or of a TAP as a virtual machine has it.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};

use afpacket::sync::RawPacketStream;
use rustix::fs::{Mode, OFlags};
use rustix::net::netdevice::name_to_index;

use super::within;

/// Bytes of a `virtio_net_hdr`, which stands before each frame of a machine.
pub const HEADER: usize = 10;

pub enum Wire {
    Veth(RawPacketStream),
    Machine(File),
}

impl Wire {
    /// `eth0` of a guest. `None` as long as it is not there.
    pub fn veth(guest: &str) -> Option<Self> {
        within(guest, || {
            let mut socket = RawPacketStream::new().unwrap();
            socket.set_non_blocking().unwrap();
            socket.bind("eth0").ok()?;
            Some(Self::Veth(socket))
        })
    }

    /// The fd side of a persistent TAP, with `virtio_net_hdr`, as a virtual machine opens it. `None`
    /// as long as it is not there.
    pub fn machine(tap: &str) -> Option<Self> {
        let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let descriptor: OwnedFd = rustix::fs::open("/dev/net/tun", flags, Mode::empty()).unwrap();
        // What is not there would be made.
        let (any, _) = std::os::unix::net::UnixDatagram::pair().unwrap();
        name_to_index(any, tap).ok()?;
        // SAFETY: all zeroes is a valid ifreq.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        for (to, from) in request.ifr_name.iter_mut().zip(tap.bytes()) {
            *to = from as libc::c_char;
        }
        let flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
        request.ifr_ifru.ifru_flags = flags as libc::c_short;
        // SAFETY: TUNSETIFF reads an ifreq and writes the name back into it.
        let attached =
            unsafe { libc::ioctl(descriptor.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
        (attached == 0).then(|| Self::Machine(descriptor.into()))
    }

    /// Sends a frame with nothing left to do to it. Whether it left.
    pub fn send(&self, frame: &[u8]) -> bool {
        self.send_with([0; HEADER], frame)
    }

    /// Sends a frame behind this `virtio_net_hdr`; over a veth, without it. Whether it left.
    pub fn send_with(&self, header: [u8; HEADER], frame: &[u8]) -> bool {
        match self {
            Self::Veth(socket) => (&mut &*socket).write(frame).is_ok(),
            Self::Machine(tap) => (&mut &*tap).write(&[&header, frame].concat()).is_ok(),
        }
    }

    /// The next frame that came, if one did.
    pub fn receive(&self) -> Option<Vec<u8>> {
        let mut room = vec![0; 70_000];
        let (length, header) = match self {
            Self::Veth(socket) => ((&mut &*socket).read(&mut room).ok()?, 0),
            Self::Machine(tap) => ((&mut &*tap).read(&mut room).ok()?, HEADER),
        };
        Some(room[header..length].to_vec())
    }
}
