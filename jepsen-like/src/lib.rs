//! Hansa's fault-injection harness.
//!
//! A run leaves a *history*: one line per client operation and per fault. The checkers judge that history and
//! nothing else, so the same verdict is reached for the simulator, for real processes, and for a history somebody
//! else recorded.
//!
//! Reading order: [`history`] (the format), [`checker`] (what is promised, one property a file).

#![forbid(unsafe_code)]

pub mod checker;
pub mod commands;
pub mod history;
pub mod model;
pub mod sim;
