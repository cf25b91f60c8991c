//! Writes follow reads: a write is ordered after what its session had read; who sees it sees that (Terry and others 1994).
//!
//! Judged over session and strong operations of a session, wherever its token was carried; the engine and its limits
//! are described in `causality`.

use super::Verdict;
use super::causality::{self, Guarantee};
use crate::history::History;

/// Name of the property.
pub const NAME: &str = "writes_follow_reads";

/// Decides the property.
#[must_use]
pub fn check(history: &History) -> Verdict {
    causality::check(history, NAME, Guarantee::WritesFollowReads)
}
