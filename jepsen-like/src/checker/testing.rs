//! Short ways to write histories down, and a generator that is the same everywhere. For tests only.

use super::Verdict;
use crate::history::{
    CONDITION_FAILED, Datum, Expect, History, Level, Membership, Op, Record, Status, Swap,
};

pub(crate) use crate::history::Level::{Eventual, Session, Strong};

/// An operation on `t/k` that succeeded.
pub(crate) fn op(process: u64, op: Op, level: Level, invoke: u64, complete: u64) -> Record {
    Record {
        complete_ns: Some(complete),
        status: Status::Ok,
        ..Record::invoked(process, op, "t/k", level, invoke)
    }
}

/// A final read of `t/k`.
pub(crate) fn last(region: &str, value: Option<Datum>) -> Record {
    Record {
        region: Some(region.into()),
        value,
        ..op(99, Op::Final, Eventual, 1_000_000, 1_000_001)
    }
}

pub(crate) fn swap(expect: Expect, new: &str) -> Datum {
    Datum::Swap(Swap {
        expect,
        new: new.into(),
    })
}

pub(crate) fn asked(element: &str, present: bool) -> Datum {
    Datum::Membership(Membership {
        element: element.into(),
        present: Some(present),
    })
}

pub(crate) fn members(elements: &[&str]) -> Datum {
    Datum::Members(elements.iter().map(|e| (*e).to_owned()).collect())
}

pub(crate) fn history(records: impl IntoIterator<Item = Record>) -> History {
    History {
        records: records.into_iter().collect(),
    }
}

/// Shorthands on records.
pub(crate) trait Build: Sized {
    fn text(self, value: &str) -> Self;
    fn int(self, value: i64) -> Self;
    fn value(self, value: Datum) -> Self;
    fn etag(self, etag: &str) -> Self;
    fn key(self, key: &str) -> Self;
    fn session(self, session: &str) -> Self;
    fn request(self, id: &str) -> Self;
    fn info(self) -> Self;
    fn failed(self) -> Self;
    fn refused(self) -> Self;
}

impl Build for Record {
    fn text(self, value: &str) -> Self {
        self.value(Datum::Text(value.into()))
    }

    fn int(self, value: i64) -> Self {
        self.value(Datum::Integer(value))
    }

    fn value(mut self, value: Datum) -> Self {
        self.value = Some(value);
        self
    }

    fn etag(mut self, etag: &str) -> Self {
        self.etag = Some(etag.into());
        self
    }

    fn key(mut self, key: &str) -> Self {
        self.key = Some(key.into());
        self
    }

    fn session(mut self, session: &str) -> Self {
        self.session = Some(session.into());
        self
    }

    fn request(mut self, id: &str) -> Self {
        self.request_id = Some(id.into());
        self
    }

    fn info(mut self) -> Self {
        self.status = Status::Info;
        self.etag = None;
        self
    }

    fn failed(mut self) -> Self {
        self.status = Status::Fail;
        self.error = Some("UNAVAILABLE".into());
        self
    }

    fn refused(mut self) -> Self {
        self.status = Status::Fail;
        self.error = Some(CONDITION_FAILED.into());
        self
    }
}

/// Asserts a violation whose explanation contains `part` and whose operations are `lines` (from 0).
#[track_caller]
pub(crate) fn assert_violation(verdict: &Verdict, part: &str, lines: &[usize]) {
    match verdict {
        Verdict::Violation(violation) => {
            assert!(violation.explanation.contains(part), "{violation:?}");
            assert_eq!(violation.operations, lines, "{violation:?}");
        }
        other => panic!("{other:?}, not a violation with \"{part}\""),
    }
}

#[track_caller]
pub(crate) fn assert_unknown(verdict: &Verdict, part: &str) {
    match verdict {
        Verdict::Unknown { why } => assert!(why.contains(part), "{why}"),
        other => panic!("{other:?}, not unknown with \"{part}\""),
    }
}

/// SplitMix64 (Steele and others 2014).
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    /// A number below `bound`, which is above 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }

    pub(crate) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}
