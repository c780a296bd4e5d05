//! What the router says and answers itself: who is answered about which address, what is claimed,
//! announced, asked, reported and handed out.

mod alive;
mod announce;
mod answers;
mod antispoof;
mod claims;
mod first_come;
mod hostile;
mod linklocal;
mod listener;
mod metadata;
mod neighbors;
mod services;
mod solicitations;
mod virtuals;
