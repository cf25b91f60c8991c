//! The trace of a schedule: a fingerprint always, readable lines when asked for.

use std::hash::Hash;

use hansa_consistency::version::Ballot;
use xxhash_rust::xxh3::Xxh3;

/// Every event of a schedule in order.
#[derive(Default)]
pub(super) struct Trace {
    fingerprint: Xxh3,
    lines: Option<Vec<String>>,
}

impl Trace {
    /// An empty trace, with lines if `readable`.
    pub(super) fn new(readable: bool) -> Trace {
        Trace {
            fingerprint: Xxh3::new(),
            lines: readable.then(Vec::new),
        }
    }

    /// Notes an event: `fact` tells it apart from others, `describe` puts it in words.
    pub(super) fn note(&mut self, now: u64, fact: impl Hash, describe: impl FnOnce() -> String) {
        (now, fact).hash(&mut self.fingerprint);
        if let Some(lines) = &mut self.lines {
            lines.push(format!("{now:>5} {}", describe()));
        }
    }

    /// Equal for equal schedules.
    pub(super) fn fingerprint(&self) -> u64 {
        self.fingerprint.digest()
    }

    /// The lines, if they were kept.
    pub(super) fn into_lines(self) -> Vec<String> {
        self.lines.unwrap_or_default()
    }
}

/// A ballot in few characters: its number, its proposer and the proposer's incarnation.
pub(super) fn short(ballot: Ballot) -> String {
    match ballot == Ballot::ZERO {
        true => "none".to_owned(),
        false => format!(
            "{}@n{}.{}",
            ballot.n, ballot.origin.node.0, ballot.origin.incarnation
        ),
    }
}
