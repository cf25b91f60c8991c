//! Hansa's pure core: replication, sessions and the strong register.
//!
//! No clock, no I/O, no threads, no ambient randomness: time, events and a read-only
//! view of storage go into [`replica::Replica::step`], effects come out in order. The
//! node's driver carries them out for real; the simulator carries them out in virtual
//! time. What each level promises stands in `docs/consistency-model.md`.
//!
//! Reading order: [`key`], [`clock`], [`version`] (names and orders) - [`value`],
//! [`record`] (what is stored) - [`session`], [`quorum`], [`roster`], [`topology`] (who has seen
//! what, who must agree) - [`register`] (the strong register's arithmetic) -
//! [`message`], [`event`], [`effect`] (the borders) - [`replica`] (everything together).

#![forbid(unsafe_code)]
#![forbid(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod clock;
pub mod codec;
pub mod effect;
pub mod event;
pub mod key;
pub mod layout;
pub mod limits;
pub mod message;
pub mod port;
pub mod quorum;
pub mod record;
pub mod register;
pub mod replica;
pub mod request;
pub mod roster;
pub mod rules;
pub mod session;
pub mod topology;
pub mod value;
pub mod version;
