//! Sessions: tracked flows with their translation and their resolved path.

/// One session as it lies in memory: integers only, so that any bytes are a valid value, and the
/// memory can outlive the process.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
pub struct Record {
    todo: [u64; 10],
}

/// Changes whenever the layout or meaning of [`Record`] does; memory of another layout is not
/// taken over.
pub const LAYOUT: u32 = 1;

/// Where sessions are kept.
#[derive(Debug)]
pub enum SessionMemory {
    /// The process's own memory.
    Owned(Box<[Record]>),
    /// Memory that outlives the process (a mapped memfd).
    Mapped(&'static mut [Record]),
}

impl SessionMemory {
    /// Fresh memory for `capacity` sessions.
    pub fn owned(capacity: usize) -> Self {
        Self::Owned(vec![Record::default(); capacity].into())
    }
}
