//! What the tests of tapgate are made of.
//!
//! A [`router::Router`] runs the real engine over a configuration text with a clock of its own and
//! checks every frame that comes out of it ([`wire`]); [`packet`] builds frames, [`flow`] those of both
//! families, [`decode`] makes them readable, [`golden`] compares them with what is recorded;
//! [`inject`] sends them into labs. A [`memory::Memory`] of sessions outlives a router.
//! A [`stack::Stack`] is a guest in memory with a TCP stack. A [`guest::Guest`] is a network stack on a real TAP, in a namespace made by [`netns`].

pub mod decode;
pub mod flow;
pub mod fragments;
pub mod golden;
pub mod guest;
pub mod inject;
pub mod memory;
pub mod nd;
pub mod netns;
pub mod packet;
pub mod pair;
pub mod recipe;
pub mod router;
pub mod stack;
pub mod wire;
