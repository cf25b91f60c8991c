//! Cells: what an operation showed of each, what each session learned of each, and what is missing from a read.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::super::index::{
    Increment, KeyIndex, Kind, Operation, Outcome, Writers, increments, split,
};
use super::is_known;
use crate::history::{Datum, History, Op, Record, Status};

/// What one operation says about one cell.
#[derive(Clone, Debug)]
pub(super) struct Shown<'h> {
    pub(super) cell: usize,
    state: State<'h>,
    /// Time by which an operation that explains it was invoked.
    until: u64,
}

#[derive(Clone, Debug, PartialEq)]
enum State<'h> {
    /// A version of a register.
    Version(&'h str),
    /// That nothing is there, under no version: never written, or deleted.
    Absent,
    /// Low mask and strong part of a counter.
    Total { mask: u64, strong: i64 },
    /// Whether the element is there. Of one that was learned, `since` is the time from which a removal counts: one
    /// that ended before cannot have taken the element away.
    Element { present: bool, since: u64 },
    /// That the element was removed by somebody who knew these adds (positions of operations, sorted).
    Removed { seen: Vec<usize> },
}

/// A state that a session learned.
#[derive(Debug)]
struct Learned<'h> {
    /// Position in the session's log.
    at: u32,
    line: usize,
    own: State<'h>,
    /// Everything up to here in one state.
    sum: State<'h>,
}

/// What a session learned of one cell, by position in its log.
#[derive(Debug, Default)]
struct Log<'h> {
    writes: Vec<Learned<'h>>,
    reads: Vec<Learned<'h>>,
}

/// What is needed to judge one key.
struct Key<'h> {
    kind: Kind,
    operations: Vec<Operation<'h>>,
    writers: Writers<'h>,
    increments: Vec<Option<Increment>>,
    /// Whether every strong increment that may have taken effect is at least zero.
    grows: bool,
    /// Invocation and, where it is told, version of the deletes that took effect or may have.
    deletes: Vec<(u64, Option<&'h str>)>,
    /// Adds and removals of each element of a set that may have taken effect.
    elements: BTreeMap<&'h str, Vec<usize>>,
}

/// All cells of a history.
pub(super) struct Cells<'h> {
    history: &'h History,
    keys: Vec<Key<'h>>,
    key_of: BTreeMap<&'h str, usize>,
    /// Number of each cell: by key, and for sets by element.
    cells: BTreeMap<(usize, &'h str), usize>,
    /// Key of each cell and, for sets, element.
    names: Vec<(usize, &'h str)>,
    /// Per cell and session.
    logs: Vec<BTreeMap<usize, Log<'h>>>,
    /// Position of each line's operation in its key.
    operation_of: BTreeMap<usize, usize>,
}

impl<'h> Cells<'h> {
    /// Prepares the cells of all keys.
    ///
    /// # Errors
    /// Says which increment cannot be told apart in a total.
    pub(super) fn of(history: &'h History, index: &[KeyIndex<'h>]) -> Result<Self, String> {
        let mut cells = Self {
            history,
            keys: Vec::new(),
            key_of: BTreeMap::new(),
            cells: BTreeMap::new(),
            names: Vec::new(),
            logs: Vec::new(),
            operation_of: BTreeMap::new(),
        };
        for entry in index {
            let Some(kind) = entry.kind else { continue };
            let number = cells.keys.len();
            cells.key_of.insert(entry.key, number);
            for (at, operation) in entry.operations.iter().enumerate() {
                for &line in &operation.lines {
                    cells.operation_of.insert(line, at);
                }
            }
            let key = Key::of(entry, kind)?;
            for element in key.elements.keys().copied() {
                cells.add(number, element);
            }
            if kind != Kind::Set {
                cells.add(number, "");
            }
            cells.keys.push(key);
        }
        Ok(cells)
    }

    fn add(&mut self, key: usize, element: &'h str) {
        self.cells.insert((key, element), self.names.len());
        self.names.push((key, element));
        self.logs.push(BTreeMap::new());
    }

    fn key(&self, record: &Record) -> Option<(usize, &Key<'h>)> {
        let number = *self.key_of.get(record.key.as_deref()?)?;
        Some((number, &self.keys[number]))
    }

    fn record(&self, line: usize) -> &'h Record {
        &self.history.records[line]
    }

    /// Sessions that learned something of the cell.
    pub(super) fn learners(&self, cell: usize) -> impl Iterator<Item = usize> {
        self.logs[cell].keys().copied()
    }

    /// What a completed read, or the reading half of a compare-and-set, showed.
    pub(super) fn shown(&self, line: usize) -> Vec<Shown<'h>> {
        let record = self.record(line);
        let Some((number, key)) = self.key(record).filter(|_| is_known(record)) else {
            return Vec::new();
        };
        let until = record.complete_ns.unwrap_or(u64::MAX);
        let show = |element: &'h str, state| {
            let cell = *self.cells.get(&(number, element))?;
            Some(Shown { cell, state, until })
        };
        let element = |element, present| show(element, State::Element { present, since: 0 });
        match (record.op, &record.value) {
            (Op::Get | Op::Cas, _) => {
                let state = key.register_read(record);
                state
                    .and_then(|state| show("", state))
                    .into_iter()
                    .collect()
            }
            (Op::Read, Some(Datum::Integer(total))) => {
                let (strong, mask) = split(*total);
                show("", State::Total { mask, strong })
                    .into_iter()
                    .collect()
            }
            (Op::Contains, Some(Datum::Membership(asked))) => {
                let present = asked.present;
                let shown = present.and_then(|present| element(&asked.element, present));
                shown.into_iter().collect()
            }
            (Op::Members, Some(Datum::Members(members))) => {
                let members: BTreeSet<&str> = members.iter().map(String::as_str).collect();
                let all = key.elements.keys();
                all.filter_map(|name| element(name, members.contains(name)))
                    .collect()
            }
            _ => Vec::new(),
        }
    }

    /// The version that an acknowledged register write got.
    pub(super) fn written(&self, line: usize) -> Option<Shown<'h>> {
        let record = self.record(line);
        let (number, key) = self.key(record)?;
        let done = record.status == Status::Ok && record.op.is_write();
        let version = record.etag.as_deref().filter(|_| done)?;
        (key.kind == Kind::Register).then(|| Shown {
            cell: self.cells[&(number, "")],
            state: State::Version(version),
            until: record.complete_ns.unwrap_or(u64::MAX),
        })
    }

    /// Lines of the writes that a completed operation observed, where the history tells which they were. Of several
    /// attempts it is the first: it knew least.
    pub(super) fn observed(&self, line: usize) -> Vec<usize> {
        let record = self.record(line);
        let Some((_, key)) = self.key(record).filter(|_| is_known(record)) else {
            return Vec::new();
        };
        let operations: Vec<usize> = match (record.op, &record.value) {
            (Op::Get | Op::Cas, _) => key.writers.write_read(record).into_iter().collect(),
            (Op::Read, Some(Datum::Integer(total))) => {
                let (_, mask) = split(*total);
                let all = key.increments.iter().enumerate();
                all.filter(|(_, increment)| matches!(increment, Some(Increment::Low(bit)) if mask & bit != 0))
                    .map(|(at, _)| at)
                    .collect()
            }
            (Op::Contains, Some(Datum::Membership(asked))) if asked.present == Some(true) => {
                key.only_add(&asked.element).into_iter().collect()
            }
            (Op::Members, Some(Datum::Members(members))) => {
                let adds = members.iter().filter_map(|element| key.only_add(element));
                adds.collect()
            }
            _ => Vec::new(),
        };
        let first = operations.into_iter().map(|at| key.operations[at].lines[0]);
        first.collect()
    }

    /// Notes what `session` learned from a completed operation, at position `at` of its log. Of a removal, `seen`
    /// are the adds that the session knew when it was invoked.
    pub(super) fn learn(
        &mut self,
        session: usize,
        at: u32,
        line: usize,
        seen: Option<BTreeSet<usize>>,
    ) {
        for mut shown in self.shown(line) {
            if shown.state == State::Absent {
                continue;
            }
            if let State::Element { present, since } = &mut shown.state {
                if !*present {
                    continue;
                }
                *since = self.added(shown.cell);
            }
            self.note(session, at, line, shown, false);
        }
        let removed = seen.and_then(|seen| {
            let seen = seen.into_iter().collect();
            let (cell, until) = (self.removes(line)?, 0);
            let state = State::Removed { seen };
            Some(Shown { cell, state, until })
        });
        if let Some(shown) = self.put(line).or(removed) {
            self.note(session, at, line, shown, true);
        }
    }

    /// The cell that an acknowledged removal took an element from.
    pub(super) fn removes(&self, line: usize) -> Option<usize> {
        let record = self.record(line);
        let done = record.status == Status::Ok && record.op == Op::Remove;
        let (number, _) = self.key(record).filter(|_| done)?;
        self.cells.get(&(number, record.text()?)).copied()
    }

    /// Adds that `session` learned of at positions below `upto` of its log: own ones, and those its reads showed.
    ///
    /// Only an add of a single attempt is known for sure: of several, one may have taken effect unseen.
    pub(super) fn adds_known(&self, cell: usize, session: usize, upto: u32) -> BTreeSet<usize> {
        let (key, element) = self.names[cell];
        let key = &self.keys[key];
        let Some(log) = self.logs[cell].get(&session) else {
            return BTreeSet::new();
        };
        let until = |side: &'_ [Learned<'h>]| side.partition_point(|learned| learned.at < upto);
        let writes = log.writes[..until(&log.writes)].iter();
        let own = writes.filter_map(|learned| self.operation_of.get(&learned.line).copied());
        let read = (until(&log.reads) > 0).then(|| key.only_add(element));
        own.chain(read.flatten())
            .filter(|&at| {
                let operation = &key.operations[at];
                operation.op() == Op::Add && operation.lines.len() == 1
            })
            .collect()
    }

    /// A removal that a final read shows undone: what is wrong, and the removal's line.
    pub(super) fn undone(&self, last: usize) -> Option<(String, usize)> {
        let record = self.record(last);
        let (number, key) = self.key(record)?;
        record.members()?.iter().find_map(|element| {
            let (name, _) = key.elements.get_key_value(element.as_str())?;
            let cell = *self.cells.get(&(number, *name))?;
            let present = State::Element {
                present: true,
                since: 0,
            };
            let shown = Shown {
                cell,
                state: present,
                until: record.complete_ns.unwrap_or(u64::MAX),
            };
            let writes = self.logs[cell].values().flat_map(|log| &log.writes);
            let mut writes = writes.filter_map(|learned| {
                let what = key.lacks(name, &shown, &learned.own)?;
                Some((what, learned.line))
            });
            writes.next()
        })
    }

    fn note(&mut self, session: usize, at: u32, line: usize, shown: Shown<'h>, write: bool) {
        let log = self.logs[shown.cell].entry(session).or_default();
        let side = match write {
            true => &mut log.writes,
            false => &mut log.reads,
        };
        let own = shown.state;
        let sum = match side.last() {
            Some(before) => before.sum.join(&own, write),
            None => own.clone(),
        };
        side.push(Learned { at, line, own, sum });
    }

    /// When the only add of an element was invoked; 0 if there are several, so that every removal counts.
    fn added(&self, cell: usize) -> u64 {
        let (key, element) = self.names[cell];
        let key = &self.keys[key];
        let add = key.only_add(element);
        add.map_or(0, |at| key.operations[at].invoke)
    }

    /// What an acknowledged write put into its cell.
    fn put(&self, line: usize) -> Option<Shown<'h>> {
        let record = self.record(line);
        let (number, key) = self.key(record)?;
        if record.status != Status::Ok || !record.op.is_write() {
            return None;
        }
        let at = *self.operation_of.get(&line)?;
        let (element, state) = match key.kind {
            Kind::Register => return self.written(line),
            Kind::Counter => {
                let (mask, strong) = match key.increments[at]? {
                    Increment::Low(bit) => (bit, 0),
                    Increment::High(units) => (0, units),
                };
                ("", State::Total { mask, strong })
            }
            Kind::Set if record.op == Op::Add => {
                let since = key.operations[at].invoke;
                let present = true;
                (record.text()?, State::Element { present, since })
            }
            Kind::Set => return None,
        };
        Some(Shown {
            cell: *self.cells.get(&(number, element))?,
            state,
            until: 0,
        })
    }

    /// What `shown` lacks of the writes (or reads) that `session` learned at positions `range` of its log, and the
    /// line that proves that it was there.
    pub(super) fn missing(
        &self,
        shown: &Shown<'h>,
        session: usize,
        range: Range<u32>,
        writes: bool,
    ) -> Option<(String, usize)> {
        let log = self.logs[shown.cell].get(&session)?;
        let log = if writes { &log.writes } else { &log.reads };
        let first = log.partition_point(|learned| learned.at < range.start);
        let end = log.partition_point(|learned| learned.at < range.end);
        let all = log[..end].last().filter(|_| first < end)?;
        let (key, element) = self.names[shown.cell];
        let key = &self.keys[key];
        let whole = key.lacks(element, shown, &all.sum);
        if whole.is_none() && !matches!(shown.state, State::Element { .. }) {
            // What lacks nothing of a whole log lacks nothing of its parts. (Elements do not add up.)
            return None;
        }
        let single = log[first..end].iter().find_map(|learned| {
            let what = key.lacks(element, shown, &learned.own)?;
            Some((what, learned.line))
        });
        // Strong increments may be missing from the sum although no single one is, but only a whole log has a sum.
        single.or_else(|| Some((whole.filter(|_| first == 0)?, all.line)))
    }
}

impl State<'_> {
    /// Both together. Strong increments of writes add up; strong totals of reads are bounds.
    fn join(&self, other: &Self, add: bool) -> Self {
        match (self, other) {
            (Self::Version(a), Self::Version(b)) => Self::Version(a.max(b)),
            (Self::Total { mask, strong }, Self::Total { mask: m, strong: s }) => Self::Total {
                mask: mask | m,
                strong: if add { strong + s } else { *strong.max(s) },
            },
            (_, other) => other.clone(),
        }
    }
}

impl<'h> Key<'h> {
    fn of(entry: &KeyIndex<'h>, kind: Kind) -> Result<Self, String> {
        let operations = entry.operations.clone();
        let increments = match kind {
            Kind::Counter => increments(entry.key, &operations)?,
            _ => vec![None; operations.len()],
        };
        let mut both = operations.iter().zip(&increments);
        let grows = both.all(|(operation, increment)| {
            !operation.may_apply() || !matches!(increment, Some(Increment::High(..0)))
        });
        let mut elements: BTreeMap<&'h str, Vec<usize>> = BTreeMap::new();
        let writers = Writers::of(&operations);
        let mut deletes = Vec::new();
        for (at, operation) in operations.iter().enumerate() {
            if !operation.may_apply() {
                continue;
            }
            match (operation.op(), operation.record.text()) {
                (Op::Delete, _) => deletes.push((operation.invoke, writers.versions[at])),
                (Op::Add | Op::Remove, Some(element)) => {
                    elements.entry(element).or_default().push(at);
                }
                _ => {}
            }
        }
        Ok(Self {
            writers,
            kind,
            operations,
            increments,
            grows,
            deletes,
            elements,
        })
    }

    /// What a read showed of a register; `None` if the history does not tell.
    fn register_read(&self, record: &'h Record) -> Option<State<'h>> {
        let nothing = record.op == Op::Get && record.value.is_none();
        let version = self.writers.version_read(record).map(State::Version);
        version.or_else(|| nothing.then_some(State::Absent))
    }

    /// The add that put the element there, if there is only one.
    fn only_add(&self, element: &str) -> Option<usize> {
        let all = self.elements.get(element)?.iter().copied();
        let mut adds = all.filter(|&at| self.operations[at].op() == Op::Add);
        adds.next().filter(|_| adds.next().is_none())
    }

    /// What `shown` lacks of `known`.
    fn lacks(&self, element: &str, shown: &Shown<'h>, known: &State<'h>) -> Option<String> {
        match (&shown.state, known) {
            (State::Version(shown), State::Version(known)) if shown < known => {
                Some(format!("version {shown} is below version {known}"))
            }
            (State::Absent, State::Version(known)) => {
                let mut deletes = self.deletes.iter();
                let explained = deletes.any(|(invoke, version)| {
                    *invoke <= shown.until && version.is_none_or(|version| version >= *known)
                });
                (!explained).then(|| format!("version none is below version {known}"))
            }
            (State::Total { mask, strong }, State::Total { mask: m, strong: s }) => {
                let lost = m & !mask;
                if lost != 0 {
                    return Some(format!("the total lacks increments {lost}"));
                }
                (self.grows && strong < s).then(|| format!("the strong part {strong} is below {s}"))
            }
            (State::Element { present: false, .. }, State::Element { since, .. }) => {
                let removals = self.elements.get(element)?.iter();
                let mut removals = removals.map(|&at| &self.operations[at]);
                let explained = removals.any(|operation| {
                    operation.op() == Op::Remove
                        && operation.invoke <= shown.until
                        && !(operation.outcome == Outcome::Ok && operation.complete < *since)
                });
                (!explained).then(|| format!("element {element} is missing"))
            }
            (State::Element { present: true, .. }, State::Removed { seen }) => {
                let mut all = self.elements.get(element)?.iter();
                let explained = all.any(|at| {
                    let operation = &self.operations[*at];
                    operation.op() == Op::Add
                        && operation.invoke <= shown.until
                        && seen.binary_search(at).is_err()
                });
                (!explained).then(|| {
                    format!("element {element} is there, and its removal knew of every add")
                })
            }
            _ => None,
        }
    }
}
