//! Read your writes: a read shows every write that its session made before (Terry and others 1994).
//!
//! Judged over session and strong operations of a session, wherever its token was carried; the engine and its limits
//! are described in `causality`.

use super::Verdict;
use super::causality::{self, Guarantee};
use crate::history::History;

/// Name of the property.
pub const NAME: &str = "read_your_writes";

/// Decides the property.
#[must_use]
pub fn check(history: &History) -> Verdict {
    causality::check(history, NAME, Guarantee::ReadYourWrites)
}
