//! How control starts, keeps, restarts and ends the dataplane, and who can disturb it.

mod descriptors;
mod fake;
mod heartbeat;
mod hostile;
mod lab;
mod lifecycle;
mod orders;
mod rights;
mod upgrade;
