//! Marks in nft's JSON.

use serde_json::Value;

use super::super::chains::Then;
use super::super::line::{Asked, Marking, Of};

/// The bits that are left of a packet's mark and of its connection's, and those that are then flipped.
#[derive(Debug, Clone, Copy)]
struct Bits {
    packet: u32,
    connection: u32,
    flip: u32,
}

/// Whose mark an expression is.
fn mark(value: &Value) -> Option<Of> {
    let is_mark = |pointer: &str| value.pointer(pointer).and_then(Value::as_str) == Some("mark");
    match (is_mark("/meta/key"), is_mark("/ct/key")) {
        (true, _) => Some(Of::Packet),
        (_, true) => Some(Of::Connection),
        _ => None,
    }
}

fn number(value: &Value) -> Option<u32> {
    u32::try_from(value.as_u64()?).ok()
}

/// What is asked of a mark; `None`: nothing is.
pub(super) fn asked(left: &Value, right: &Value, not: bool) -> Option<Result<Asked, String>> {
    let (of, mask) = match left.get("&").and_then(Value::as_array) {
        Some(both) => (mark(both.first()?)?, both.get(1).and_then(number)),
        None => (mark(left)?, Some(u32::MAX)),
    };
    let asked = number(right).zip(mask).map(|(value, mask)| Asked {
        of,
        value,
        mask,
        not,
    });
    Some(asked.ok_or_else(|| "what it asks of a mark is not understood".to_owned()))
}

/// What a statement does to a mark; `None`: it is about something else.
pub(super) fn then(statement: &Value) -> Option<Then> {
    let to = mark(statement.get("key")?)?;
    let bits = statement.get("value").and_then(bits);
    Some(match bits {
        Some(bits) => {
            let (keep, take) = match to {
                Of::Packet => (bits.packet, bits.connection),
                Of::Connection => (bits.connection, bits.packet),
            };
            Then::Mark(Marking {
                to,
                keep,
                take,
                flip: bits.flip,
            })
        }
        None => Then::Unclear("what it does to a mark is not understood".to_owned()),
    })
}

fn bits(value: &Value) -> Option<Bits> {
    let none = Bits {
        packet: 0,
        connection: 0,
        flip: 0,
    };
    if let Some(flip) = number(value) {
        return Some(Bits { flip, ..none });
    }
    match mark(value) {
        Some(Of::Packet) => {
            return Some(Bits {
                packet: u32::MAX,
                ..none
            });
        }
        Some(Of::Connection) => {
            return Some(Bits {
                connection: u32::MAX,
                ..none
            });
        }
        None => {}
    }
    let (operator, both) = value.as_object()?.iter().next()?;
    let [left, right] = both.as_array()?.as_slice() else {
        return None;
    };
    let (bits, by) = (self::bits(left)?, number(right)?);
    let only = |mask: u32| Bits {
        packet: bits.packet & mask,
        connection: bits.connection & mask,
        flip: bits.flip & mask,
    };
    match operator.as_str() {
        "&" => Some(only(by)),
        "|" => Some(Bits {
            flip: (bits.flip & !by) | by,
            ..only(!by)
        }),
        "^" => Some(Bits {
            flip: bits.flip ^ by,
            ..bits
        }),
        _ => None,
    }
}
