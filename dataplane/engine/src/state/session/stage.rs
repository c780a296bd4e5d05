//! How far a session has come.

/// How far a session has come; decides its idle time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Stage {
    /// Seen from the opener only, or TCP's handshake is not complete.
    New = 1,
    /// Seen both ways.
    Established = 2,
    /// TCP: both FINs or a reset.
    Closing = 3,
}

impl Stage {
    /// As printed.
    pub const fn name(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Established => "established",
            Self::Closing => "closing",
        }
    }
}
