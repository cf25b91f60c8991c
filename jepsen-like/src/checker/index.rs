//! A history as the checkers want it: per key, attempts of one request joined, writes found by value and by version.

use std::collections::BTreeMap;

use crate::history::{Expect, History, Level, Op, Record, Status};

/// Low bits of a counter that hold the eventual and session increments, one distinct power of two each. Strong
/// increments are multiples of two to this power, so that a total can be taken apart.
pub(super) const LOW_BITS: u32 = 40;

/// Splits a counter's total into the sum of its strong increments, in units of `2^LOW_BITS`, and the mask of the
/// others.
pub(super) fn split(total: i64) -> (i64, u64) {
    (total >> LOW_BITS, (total & ((1 << LOW_BITS) - 1)) as u64)
}

/// The type of a key, from the operations on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Register,
    Counter,
    Set,
}

impl Kind {
    pub(super) fn of(op: Op) -> Option<Self> {
        match op {
            Op::Put | Op::Get | Op::Delete | Op::Cas => Some(Self::Register),
            Op::Incr | Op::Read => Some(Self::Counter),
            Op::Add | Op::Remove | Op::Contains | Op::Members => Some(Self::Set),
            // Of registers, but their key is none.
            Op::BatchGet | Op::Scan => None,
            Op::Final | Op::Digest | Op::Nemesis | Op::Usage => None,
        }
    }
}

/// How an operation ended, over all its attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Ok,
    /// A condition that did not hold: nothing was written, but something was read.
    Refused,
    Unknown,
    Failed,
}

impl Outcome {
    pub(super) fn of(record: &Record) -> Self {
        match record.status {
            Status::Ok => Self::Ok,
            Status::Info => Self::Unknown,
            Status::Fail if record.is_refused() => Self::Refused,
            Status::Fail => Self::Failed,
        }
    }
}

/// One client operation: the attempts of one request id, or one line.
#[derive(Clone, Debug)]
pub(super) struct Operation<'h> {
    /// Positions of its attempts, by time of invocation.
    pub(super) lines: Vec<usize>,
    /// The attempt that tells the outcome: the first that succeeded, else was refused, else is unknown.
    pub(super) record: &'h Record,
    pub(super) outcome: Outcome,
    /// Invocation of the first attempt.
    pub(super) invoke: u64,
    /// First completion with this outcome; `u64::MAX` if the outcome is unknown.
    pub(super) complete: u64,
}

impl Operation<'_> {
    pub(super) fn op(&self) -> Op {
        self.record.op
    }

    pub(super) fn is_strong(&self) -> bool {
        self.record.level == Some(Level::Strong)
    }

    /// Whether it is a write that took effect or may have.
    pub(super) fn may_apply(&self) -> bool {
        self.op().is_write() && matches!(self.outcome, Outcome::Ok | Outcome::Unknown)
    }

    fn join(&mut self, position: usize, record: &Record) -> bool {
        self.lines.push(position);
        self.invoke = self.invoke.min(record.invoke_ns);
        let outcome = Outcome::of(record);
        let rank = |outcome| match outcome {
            Outcome::Ok => 0,
            Outcome::Refused => 1,
            Outcome::Unknown => 2,
            Outcome::Failed => 3,
        };
        if outcome == self.outcome {
            self.complete = self.complete.min(completion(record));
        }
        rank(outcome) < rank(self.outcome)
    }
}

/// When the outcome of a line stood; an unknown one stays open for ever.
fn completion(record: &Record) -> u64 {
    match record.status {
        Status::Info => u64::MAX,
        Status::Ok | Status::Fail => record.complete_ns.unwrap_or(u64::MAX),
    }
}

/// The operations on one key.
#[derive(Debug)]
pub(super) struct KeyIndex<'h> {
    pub(super) key: &'h str,
    pub(super) kind: Option<Kind>,
    /// Client operations by time of first invocation.
    pub(super) operations: Vec<Operation<'h>>,
    /// Positions of the final reads.
    pub(super) finals: Vec<usize>,
}

/// The operations of a history by key, in the order of the keys. Reads of several keys are not among them: see
/// [`super::spread`].
pub(super) fn by_key(history: &History) -> Vec<KeyIndex<'_>> {
    let mut order: Vec<usize> = (0..history.records.len()).collect();
    order.sort_by_key(|&position| (history.records[position].invoke_ns, position));
    let mut keys: BTreeMap<&str, KeyIndex<'_>> = BTreeMap::new();
    let mut requests: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for position in order {
        let record = &history.records[position];
        let Some(key) = record.key.as_deref() else {
            continue;
        };
        if matches!(record.op, Op::Digest | Op::Nemesis | Op::Usage) || record.op.is_several() {
            continue;
        }
        let index = keys.entry(key).or_insert_with(|| KeyIndex {
            key,
            kind: None,
            operations: Vec::new(),
            finals: Vec::new(),
        });
        if record.op == Op::Final {
            index.finals.push(position);
            continue;
        }
        index.kind = index.kind.or(Kind::of(record.op));
        let request = record
            .request_id
            .as_deref()
            .filter(|_| record.op.is_write());
        let known = request.and_then(|request| requests.get(&(key, request)).copied());
        if let Some(at) = known {
            let operation = &mut index.operations[at];
            if operation.join(position, record) {
                operation.record = record;
                operation.outcome = Outcome::of(record);
                operation.complete = completion(record);
            }
            continue;
        }
        if let Some(request) = request {
            requests.insert((key, request), index.operations.len());
        }
        index.operations.push(Operation {
            lines: vec![position],
            record,
            outcome: Outcome::of(record),
            invoke: record.invoke_ns,
            complete: completion(record),
        });
    }
    keys.into_values().collect()
}

/// Who wrote which value and which version of one register. Numbers are positions in `operations`.
#[derive(Debug, Default)]
pub(super) struct Writers<'h> {
    pub(super) by_value: BTreeMap<&'h str, usize>,
    pub(super) by_version: BTreeMap<&'h str, usize>,
    /// Version of each operation that is a write, where a reply or a read told it.
    pub(super) versions: Vec<Option<&'h str>>,
}

impl<'h> Writers<'h> {
    /// Collects them. A write whose reply was lost has the version under which its value was read.
    pub(super) fn of(operations: &[Operation<'h>]) -> Self {
        let mut writers = Self {
            versions: vec![None; operations.len()],
            ..Self::default()
        };
        for (at, operation) in operations.iter().enumerate() {
            if !operation.op().is_write() {
                continue;
            }
            if let Some(value) = operation.record.stores() {
                let known = writers.by_value.entry(value).or_insert(at);
                // A value of a failed attempt and of a good one belongs to the good one.
                if !operations[*known].may_apply() {
                    *known = at;
                }
            }
            if operation.outcome == Outcome::Ok
                && let Some(version) = operation.record.etag.as_deref()
            {
                writers.learn(at, version);
            }
        }
        for operation in operations {
            let record = operation.record;
            if record.op == Op::Get
                && operation.outcome == Outcome::Ok
                && let (Some(value), Some(version)) = (record.text(), record.etag.as_deref())
                && let Some(&at) = writers.by_value.get(value)
            {
                writers.learn(at, version);
            }
        }
        writers
    }

    fn learn(&mut self, at: usize, version: &'h str) {
        if self.versions[at].is_none() {
            self.versions[at] = Some(version);
            self.by_version.entry(version).or_insert(at);
        }
    }

    /// The version that a register operation read: of a get what it found, of a compare-and-set what it expected
    /// or found. `None` if the history does not tell.
    pub(super) fn version_read(&self, record: &'h Record) -> Option<&'h str> {
        match (record.op, Outcome::of(record)) {
            (Op::Get | Op::Final, Outcome::Ok) => record
                .etag
                .as_deref()
                .or_else(|| self.versions[*self.by_value.get(record.text()?)?]),
            (Op::Cas, Outcome::Refused) => record.etag.as_deref(),
            (Op::Cas, Outcome::Ok) => match &record.swap()?.expect {
                Expect::Absent => None,
                Expect::Etag(version) => Some(version),
                Expect::Value(value) => self.versions[*self.by_value.get(value.as_str())?],
            },
            _ => None,
        }
    }

    /// The write that a register operation read, if the history tells.
    pub(super) fn write_read(&self, record: &'h Record) -> Option<usize> {
        if matches!(record.op, Op::Get | Op::Final)
            && record.status == Status::Ok
            && let Some(value) = record.text()
        {
            return self.by_value.get(value).copied();
        }
        self.by_version.get(self.version_read(record)?).copied()
    }
}

/// A counter's increment, decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Increment {
    /// Eventual or session: this single bit of the low part.
    Low(u64),
    /// Strong: this many units of `2^LOW_BITS`.
    High(i64),
}

/// Decodes the increment of each operation of a counter; `None` for reads.
///
/// # Errors
/// Says which increment cannot be told apart in a total.
pub(super) fn increments(
    key: &str,
    operations: &[Operation<'_>],
) -> Result<Vec<Option<Increment>>, String> {
    let mut taken = 0u64;
    operations
        .iter()
        .map(|operation| {
            if operation.op() != Op::Incr {
                return Ok(None);
            }
            let Some(amount) = operation.record.integer() else {
                return Err(format!("{key}: an increment without an amount"));
            };
            if operation.is_strong() {
                let (units, low) = split(amount);
                return match low {
                    0 => Ok(Some(Increment::High(units))),
                    _ => Err(format!(
                        "{key}: strong increment {amount} is no multiple of 2^{LOW_BITS}"
                    )),
                };
            }
            let bit = amount.cast_unsigned();
            if !bit.is_power_of_two() || bit >> LOW_BITS != 0 || taken & bit != 0 {
                return Err(format!(
                    "{key}: increment {amount} is no power of two below 2^{LOW_BITS} of its own"
                ));
            }
            taken |= bit;
            Ok(Some(Increment::Low(bit)))
        })
        .collect()
}
