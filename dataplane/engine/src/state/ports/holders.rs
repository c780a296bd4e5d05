//! Who holds the ports of a pool.

use crate::base::ip::Address;

/// Ports of one pool.
pub(super) const PORTS: usize = 1 << 16;
/// Ports whose holders are made together, when one of them is held first: memory for all at once would
/// keep a packet waiting for a millisecond.
const TOGETHER: usize = 256;

/// Who holds a port; nobody in particular if it is shared.
#[derive(Debug, Clone, Copy)]
pub(super) struct Holder<A> {
    pub(super) address: A,
    pub(super) port: u16,
    /// Sessions that use the mapping; 0 when the port is free.
    pub(super) uses: u32,
    /// Whom it counts against, by index.
    pub(super) payer: u32,
}

/// The holders of all ports.
#[derive(Debug, Clone)]
pub(super) struct Holders<A> {
    /// By port: empty where none was ever held.
    chunks: Box<[Box<[Holder<A>]>]>,
    nobody: Holder<A>,
}

impl<A: Address> Holders<A> {
    /// All ports are free.
    pub(super) fn new() -> Self {
        Self {
            chunks: vec![Box::default(); PORTS / TOGETHER].into(),
            nobody: Holder {
                address: A::UNSPECIFIED,
                port: 0,
                uses: 0,
                payer: 0,
            },
        }
    }

    /// Who holds `port`, or had it last.
    #[inline]
    pub(super) fn get(&self, port: u16) -> &Holder<A> {
        let port = port as usize;
        let holder = self.chunks[port / TOGETHER].get(port % TOGETHER);
        holder.unwrap_or(&self.nobody)
    }

    /// The same, to change it.
    #[inline]
    pub(super) fn get_mut(&mut self, port: u16) -> &mut Holder<A> {
        let port = port as usize;
        let chunk = &mut self.chunks[port / TOGETHER];
        if chunk.is_empty() {
            *chunk = vec![self.nobody; TOGETHER].into();
        }
        &mut chunk[port % TOGETHER]
    }

    /// In bytes.
    pub(super) fn memory(&self) -> usize {
        let each = self.chunks.iter().map(|chunk| size_of_val(&**chunk));
        size_of_val(&*self.chunks) + each.sum::<usize>()
    }
}
