//! Marks in the words of iptables.

use super::super::iproute::number;
use super::super::line::{Asked, Marking, Of};

/// `--mark 0x2/0xff`, of either.
pub(super) fn asked(of: Of, text: &str, not: bool) -> Option<Asked> {
    let (value, mask) = masked(text)?;
    Some(Asked {
        of,
        value,
        mask,
        not,
    })
}

/// What MARK and CONNMARK do by their options; `None`: there is no word for it.
pub(super) fn marking<'w>(to: Of, words: &mut impl Iterator<Item = &'w str>) -> Option<Marking> {
    let set = |(value, mask): (u32, u32)| Marking {
        to,
        keep: !mask,
        take: 0,
        flip: value,
    };
    let (mut marking, mut copied_to) = (None, None);
    let (mut of_packet, mut of_connection) = (u32::MAX, u32::MAX);
    while let Some(word) = words.next() {
        match word {
            "--set-xmark" => marking = Some(set(masked(words.next()?)?)),
            "--set-mark" => {
                let (value, mask) = masked(words.next()?)?;
                marking = Some(set((value, mask | value)));
            }
            "--and-mark" => marking = Some(set((0, !number(words.next()?)?))),
            "--or-mark" => {
                let bits = number(words.next()?)?;
                marking = Some(set((bits, bits)));
            }
            "--xor-mark" => marking = Some(set((number(words.next()?)?, 0))),
            "--save-mark" if to == Of::Connection => copied_to = Some(Of::Connection),
            "--restore-mark" if to == Of::Connection => copied_to = Some(Of::Packet),
            "--nfmask" => of_packet = number(words.next()?)?,
            "--ctmask" => of_connection = number(words.next()?)?,
            "--mask" => {
                of_packet = number(words.next()?)?;
                of_connection = of_packet;
            }
            _ => return None,
        }
    }
    match copied_to {
        None => marking,
        Some(Of::Packet) => Some(copied(Of::Packet, of_packet, of_connection)),
        Some(Of::Connection) => Some(copied(Of::Connection, of_connection, of_packet)),
    }
}

/// The bits of one mask go, and those of the other's come.
fn copied(to: Of, own: u32, other: u32) -> Marking {
    Marking {
        to,
        keep: !own,
        take: other,
        flip: 0,
    }
}

fn masked(text: &str) -> Option<(u32, u32)> {
    match text.split_once('/') {
        Some((value, mask)) => Some((number(value)?, number(mask)?)),
        None => Some((number(text)?, u32::MAX)),
    }
}
