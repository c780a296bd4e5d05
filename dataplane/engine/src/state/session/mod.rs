//! Sessions: tracked flows with their translation and their resolved path.

mod connections;
mod layout6;
mod ledger;
mod memory;
mod record;
#[cfg(test)]
mod scale;
mod stage;
mod table;
mod tally;
mod tcp;

pub(crate) use connections::Opener;
pub use layout6::Detail6;
pub(crate) use ledger::Ledger;
pub use memory::{SessionMemory, Sessions};
pub use record::{LAYOUT, Path, SessionDetail, SessionRecord};
pub use stage::Stage;
pub(crate) use table::ENDED_AT_ONCE;
pub use table::{Hit, SessionTable};
pub(crate) use tally::Subject;
