//! How an input is played against a router.

use std::sync::LazyLock;
use std::time::Duration;

use tapgate_engine::config::Config;
use tapgate_engine::frame::{Checksum, Gso, GsoKind, Offload, OwnedFrame};
use tapgate_tests::recipe::MULTI_MAC;
use tapgate_tests::router::{self, Router};

use crate::mend;

/// The configurations; inputs name them by their place.
pub const CONFIGS: [&str; 4] = [
    include_str!("../configs/owners.toml"),
    include_str!("../configs/moved.toml"),
    MULTI_MAC,
    include_str!("../configs/services.toml"),
];

static READ: LazyLock<Vec<Config>> = LazyLock::new(|| CONFIGS.map(router::config).into());

/// Flags of an input's first byte, whose two lowest bits name the configuration.
pub const EVERYBODY_ANSWERS: u8 = 4;
/// See [`EVERYBODY_ANSWERS`]: each frame is explained first, and must end as explained.
pub const EXPLAINED: u8 = 8;
/// See [`EVERYBODY_ANSWERS`]: it starts when addresses are claimed and announced.
pub const SETTLED: u8 = 16;

/// The low four bits of an operation: a frame; the high four bits are its port's number.
pub const FRAME: u8 = 0;
/// The last frame again, so many times as the next byte says; the byte after that one says which of
/// its bytes counts up.
pub const AGAIN: u8 = 1;
/// Time passes: two bytes, in units of 1, 10, 100 or 1000 ms by the high four bits.
pub const TIME: u8 = 2;
/// Another configuration, by the high four bits.
pub const RELOAD: u8 = 3;
/// The device of a port is there again, by the high four bits.
pub const ATTACH: u8 = 4;
const OPERATIONS: u8 = 5;

/// Flags of a frame's second byte, whose lowest two bits say what is known of its checksum: nothing,
/// right, to be completed in its transport header, to be completed where the next two bytes say.
pub const GSO: u8 = 4;
/// See [`GSO`]: in the VLAN that the next two bytes say.
pub const VLAN: u8 = 8;
/// See [`GSO`]: its checksums and lengths are mended first.
pub const MENDED: u8 = 16;

/// Most frames of an input, and most time.
const MOST_FRAMES: usize = 500;
const MOST_TIME: Duration = Duration::from_secs(2_000);

/// The rest of an input; behind its end are zeroes.
pub(crate) struct Bytes<'i>(pub(crate) &'i [u8]);

impl<'i> Bytes<'i> {
    pub(crate) fn byte(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or(0)
    }

    fn word(&mut self) -> u16 {
        u16::from_le_bytes([self.byte(), self.byte()])
    }

    /// The next bytes, as many as there are.
    pub(crate) fn take(&mut self, most: usize) -> &'i [u8] {
        let (taken, rest) = self.0.split_at(most.min(self.0.len()));
        self.0 = rest;
        taken
    }
}

/// The configuration that an input's first byte names.
pub(crate) fn config(byte: u8) -> &'static Config {
    &READ[usize::from(byte) % CONFIGS.len()]
}

/// Makes the neighbourhood that an input's first byte asks for.
pub(crate) fn start(router: &mut Router, byte: u8) {
    if byte & EVERYBODY_ANSWERS != 0 {
        router.answer_everything();
    }
    if byte & EXPLAINED != 0 {
        router.explain_everything();
    }
    if byte & SETTLED != 0 {
        router.wait(10_000);
    }
    router.take_all();
}

/// Plays operations to the input's end.
pub(crate) fn play(router: &mut Router, input: &mut Bytes<'_>) {
    let (mut frames, mut time) = (0, Duration::ZERO);
    let mut last: Option<(usize, OwnedFrame)> = None;
    while !input.0.is_empty() && frames < MOST_FRAMES {
        let operation = input.byte();
        let high = operation >> 4;
        match operation % 16 % OPERATIONS {
            FRAME => {
                let port = router.port_name(high.into());
                let frame = frame(input);
                frames += 1;
                router.inject_frame(&port, frame.clone());
                last = Some((high.into(), frame));
            }
            AGAIN => {
                let (times, at) = (input.byte(), usize::from(input.byte()));
                let Some((port, frame)) = &mut last else {
                    continue;
                };
                let port = router.port_name(*port);
                for _ in 0..times {
                    if let Some(byte) = frame.bytes.get_mut(at) {
                        *byte = byte.wrapping_add(1);
                        mend::mend(&mut frame.bytes);
                    }
                    frames += 1;
                    router.inject_frame(&port, frame.clone());
                }
            }
            TIME => {
                let unit = 10_u64.pow((high % 4).into());
                let most = MOST_TIME.saturating_sub(time);
                let passes = Duration::from_millis(u64::from(input.word()) * unit).min(most);
                router.advance(passes);
                time += passes;
            }
            RELOAD => router.change_to(config(high)),
            ATTACH => {
                let port = router.port_name(high.into());
                router.attach(&port);
            }
            _ => {}
        }
        router.take_all();
    }
}

/// What must hold at the end of every input: time goes on, idle sessions end.
pub(crate) fn end(router: &mut Router) {
    router.advance(Duration::from_secs(400));
    router.take_all();
}

/// One frame: flags, metadata, two bytes of length, the bytes.
fn frame(input: &mut Bytes<'_>) -> OwnedFrame {
    let flags = input.byte();
    let place = (flags & 3 == 3).then(|| (u16::from(input.byte()), u16::from(input.byte())));
    let size = (flags & GSO != 0).then(|| input.word());
    let vlan = (flags & VLAN != 0).then(|| input.word());
    let length = usize::from(input.word());
    let mut bytes = input.take(length).to_vec();
    if flags & MENDED != 0 {
        mend::mend(&mut bytes);
    }
    mend::shorten_error(&mut bytes);
    let own = mend::transport(&bytes);
    let kind = match own.as_ref().map(|own| (own.ipv4, own.protocol)) {
        Some((true, 6)) => GsoKind::Tcp4,
        Some((false, 6)) => GsoKind::Tcp6,
        _ => GsoKind::Udp,
    };
    let checksum = match (flags & 3, place, own) {
        (1, ..) => Checksum::Verified,
        (3, Some((start, offset)), _) => Checksum::Partial { start, offset },
        (2, _, Some(own)) => Checksum::Partial {
            start: own.at as u16,
            offset: own.checksum as u16,
        },
        _ => Checksum::Present,
    };
    let gso = size.map(|size| Gso {
        kind,
        size,
        ecn: size & 1 == 1,
    });
    let offload = Offload { checksum, gso };
    OwnedFrame {
        offload,
        bytes,
        vlan,
    }
}
