//! The strong register: one per row, linearizable, without leader or election.
//!
//! CASPaxos (Rystsov 2018) over the row's merged state, with reads that change
//! nothing (as in RMWPaxos, Skrzypczak et al. 2020). A *proposer* asks a quorum to
//! promise a ballot, merges what they report, applies its group of operations, and
//! asks a quorum to accept the result under that ballot. A value accepted by a quorum
//! is *chosen*; chosen values form a chain in which each contains the one before.
//!
//! Everything in this module is arithmetic over votes. Who is asked, and what is
//! written before an answer leaves, is decided by the coordinator (`crate::replica`).
//!
//! A write takes one round trip between regions where the promises of two of them are a quorum: see
//! [`delegation`]. Coordinators that get into each other's way let one of them apply the groups of all: see [`errand`].

pub mod acceptor;
pub mod delegation;
pub mod errand;
pub mod proposer;
pub mod reader;
pub mod strong_value;

pub use acceptor::Slot;
pub use errand::{Combined, Errand, Executed};
pub use proposer::{Attempt, Base, Promise};
pub use reader::{Decision, ReadAnswer, Reading};
pub use strong_value::{Action, Expect, Operation, Outcome, StrongValue};
