//! What the database promises, as functions from a history to a verdict. One property a file; the first line of
//! each file is the definition and its source.
//!
//! A checker judges only what the history proves. Where it cannot decide it says [`Verdict::Unknown`], and that
//! counts as a failure: an undecided run is not a clean one.

use crate::history::History;

pub mod availability;
mod causality;
pub mod convergence;
pub mod counter_bounds;
pub mod durability;
pub mod edn;
mod finals;
mod index;
pub mod linearizable;
pub mod monotonic_reads;
pub mod monotonic_writes;
pub mod phantom;
pub mod read_your_writes;
mod receipt;
pub mod receipts;
pub mod request_ids;
pub mod resources;
mod spread;
pub mod staleness;
#[cfg(test)]
mod testing;
mod totals;
pub mod well_formed;
pub mod writes_follow_reads;

/// What a checker says about a history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The property holds in this history.
    Ok,
    /// The property does not hold.
    Violation(Violation),
    /// The checker could not decide. Counts as a failure.
    Unknown {
        /// What was missing, or which bound was met.
        why: String,
    },
}

impl Verdict {
    /// Whether the property was proved to hold in this history.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        matches!(self, Self::Ok)
    }
}

/// A proof that a property does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Name of the property, as in [`ALL`].
    pub property: &'static str,
    /// One or two sentences: what was seen, and what was promised.
    pub explanation: String,
    /// The operations that prove it, as positions in [`History::records`], by time of invocation.
    pub operations: Vec<usize>,
}

impl Violation {
    /// The explanation and, below it, each operation with its line number.
    #[must_use]
    pub fn render(&self, history: &History) -> String {
        let mut text = format!("{}: {}", self.property, self.explanation);
        for &position in &self.operations {
            if let Some(record) = history.records.get(position) {
                text += &format!("\n  line {}: {}", position + 1, record.describe());
            }
        }
        text
    }

    /// A violation as a verdict, with its operations in order of time and each named once.
    fn verdict(
        history: &History,
        property: &'static str,
        explanation: String,
        mut operations: Vec<usize>,
    ) -> Verdict {
        operations.sort_by_key(|&position| (history.records[position].invoke_ns, position));
        operations.dedup();
        Verdict::Violation(Self {
            property,
            explanation,
            operations,
        })
    }
}

/// A property and the function that decides it.
#[derive(Clone, Copy, Debug)]
pub struct Property {
    /// Its name in verdicts and reports.
    pub name: &'static str,
    /// Decides it. Pure: the same history always gets the same verdict, word for word.
    pub check: fn(&History) -> Verdict,
}

/// Every property, in the order in which a report should show them: first whether the history can be judged at all.
pub const ALL: &[Property] = &[
    Property {
        name: well_formed::NAME,
        check: well_formed::check,
    },
    Property {
        name: linearizable::NAME,
        check: linearizable::check,
    },
    Property {
        name: read_your_writes::NAME,
        check: read_your_writes::check,
    },
    Property {
        name: monotonic_reads::NAME,
        check: monotonic_reads::check,
    },
    Property {
        name: monotonic_writes::NAME,
        check: monotonic_writes::check,
    },
    Property {
        name: writes_follow_reads::NAME,
        check: writes_follow_reads::check,
    },
    Property {
        name: durability::NAME,
        check: durability::check,
    },
    Property {
        name: convergence::NAME,
        check: convergence::check,
    },
    Property {
        name: phantom::NAME,
        check: phantom::check,
    },
    Property {
        name: request_ids::NAME,
        check: request_ids::check,
    },
    Property {
        name: counter_bounds::NAME,
        check: counter_bounds::check,
    },
    Property {
        name: staleness::NAME,
        check: staleness::check,
    },
    Property {
        name: receipts::NAME,
        check: receipts::check,
    },
    Property {
        name: availability::NAME,
        check: availability::check,
    },
    Property {
        name: resources::NAME,
        check: resources::check,
    },
];

/// Runs every checker of [`ALL`], in its order.
#[must_use]
pub fn check_all(history: &History) -> Vec<(&'static str, Verdict)> {
    ALL.iter()
        .map(|property| (property.name, (property.check)(history)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::testing::*;
    use super::*;
    use crate::history::{Datum, Op};

    #[test]
    fn a_good_run_passes_every_checker_and_violations_read_well() {
        let put = op(1, Op::Put, Session, 1, 2)
            .text("a")
            .etag("1")
            .session("s");
        let get = op(1, Op::Get, Strong, 5, 6)
            .text("a")
            .etag("1")
            .session("s");
        let end = |region| last(region, Some(Datum::Text("a".into()))).etag("1");
        let good = history([put.clone(), get, end("eu"), end("us")]);
        let verdicts = check_all(&good);
        assert_eq!(verdicts.len(), ALL.len());
        for (name, verdict) in verdicts {
            assert!(verdict.is_ok(), "{name}: {verdict:?}");
        }
        let get = op(1, Op::Get, Strong, 5, 6).session("s");
        let bad = history([put, get]);
        let Verdict::Violation(violation) = read_your_writes::check(&bad) else {
            panic!("a lost write passed");
        };
        assert_eq!(
            violation.render(&bad),
            "read_your_writes: session s: version none is below version 1, which the session itself wrote before\n\
             \x20 line 1: process 1 session s session put t/k a [1..2] ok etag 1\n\
             \x20 line 2: process 1 session s strong get t/k nothing [5..6] ok"
        );
    }
}
