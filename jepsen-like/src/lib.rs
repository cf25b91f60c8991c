//! Hansa's fault-injection harness.
//!
//! A run leaves a *history*: one line per client operation and per fault. The checkers judge that history and
//! nothing else, so the same verdict is reached for the simulator, for real processes, and for a history somebody
//! else recorded.
//!
//! Reading order: [`history`] (the format), [`checker`] (what is promised, one property a file), [`workload`] and
//! [`nemesis`] (what is done), then the two engines: [`sim`] and [`run`].

#![forbid(unsafe_code)]

pub mod bench;
pub mod checker;
pub mod cluster;
pub mod commands;
pub mod disk;
pub mod history;
pub mod matrix;
pub mod model;
pub mod nemesis;
pub mod random;
pub mod report;
pub mod run;
pub mod shrink;
pub mod sim;
pub mod target;
pub mod wan;
pub mod workload;
