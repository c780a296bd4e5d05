//! Against the kernel: what it does with the same rules and routes, translations and policy, and what
//! guests on real devices notice if it takes the router's place.

mod nat;
mod oracle;
mod random;
mod routes;
mod taps;
