//! What each session must already see: the engine behind the four session guarantees of Terry and others 1994.
//!
//! Every session keeps a log of what it learned: its own acknowledged writes and what its reads showed. A write
//! remembers how long the logs were that its session knew when it was invoked. Whoever reads that write knows those
//! logs from then on, as far as they went. So a read must show, of the cell that it reads, at least
//!
//! - what the session itself wrote (read your writes) and read (monotonic reads);
//! - what was written (monotonic writes) and read (writes follow reads) in another session before a write of that
//!   session that was read here, and whatever that session knew in turn (writes follow reads).
//!
//! A write at session or strong level must get a version above those that its session knows of its key, by the same
//! rules. Operations at eventual level are not judged and pass nothing on; the exception is an eventual write that
//! returned a token, which its own session must see. Writes of unknown outcome count from the moment they are seen.
//!
//! A *cell* is a register, a counter, or one element of a set. Registers are compared by version. Counters are
//! compared by the mask of their low increments and, where no strong increment is negative, by a lower bound of their
//! strong part; strong increments pass nothing on, as a sum does not name them. An element that is missing is a
//! fault only if no removal can explain it; one that is there although it was removed, only if the remover's session
//! knew of every add that can explain it (a removal takes away what its replica has seen, and no more).

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use self::cells::{Cells, Shown};
use super::index::{self, KeyIndex, Outcome};
use super::spread::Spread;
use super::{Verdict, Violation};
use crate::history::{History, Level, Record, Status};

mod cells;
#[cfg(test)]
mod tests;

/// Most clock entries kept in memory (sessions times writes).
const MAX_CLOCKS: usize = 400_000_000;

/// One of the four.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Guarantee {
    ReadYourWrites,
    MonotonicReads,
    MonotonicWrites,
    WritesFollowReads,
}

/// How much of each session's log is known: entry `s` is a length.
type Clock = Vec<u32>;

/// What a session knew at some moment.
#[derive(Clone)]
struct Knowledge {
    /// Length of its own log.
    own: u32,
    /// Logs known because a write that follows them was read here.
    direct: Rc<Clock>,
    /// Logs known in any way, `direct` included.
    full: Rc<Clock>,
}

/// Finds the first operation, by completion, that breaks `guarantee`.
pub(super) fn check(history: &History, name: &'static str, guarantee: Guarantee) -> Verdict {
    Spread::judge(history, |history| of_keys(history, name, guarantee))
}

fn of_keys(history: &History, name: &'static str, guarantee: Guarantee) -> Verdict {
    let keys = index::by_key(history);
    let cells = match Cells::of(history, &keys) {
        Ok(cells) => cells,
        Err(why) => return Verdict::Unknown { why },
    };
    let mut engine = Engine::new(history, &keys, cells, guarantee);
    if engine.sessions.len().saturating_mul(engine.writes) > MAX_CLOCKS {
        let why = format!(
            "{} sessions with {} writes are too many",
            engine.sessions.len(),
            engine.writes
        );
        return Verdict::Unknown { why };
    }
    match engine.run() {
        None => Verdict::Ok,
        Some((explanation, operations)) => {
            Violation::verdict(history, name, explanation, operations)
        }
    }
}

/// Finds a final read that shows an element whose removal had seen every add: the explanation and both lines.
///
/// # Errors
/// Says why the sessions' knowledge cannot be followed.
pub(super) fn undone_removal(history: &History) -> Result<Option<(String, Vec<usize>)>, String> {
    let keys = index::by_key(history);
    let cells = Cells::of(history, &keys)?;
    let mut engine = Engine::new(history, &keys, cells, Guarantee::ReadYourWrites);
    // Whatever it finds is reported under its own name; here its logs are wanted.
    engine.run();
    let finals = keys.iter().flat_map(|key| key.finals.iter().copied());
    let mut undone = finals.filter_map(|last| {
        let (what, removal) = engine.cells.undone(last)?;
        Some((what, vec![removal, last]))
    });
    Ok(undone.next())
}

/// Whether the operation carried its session's token and promises the guarantees.
fn is_judged(record: &Record) -> bool {
    record.session.is_some() && matches!(record.level, Some(Level::Session | Level::Strong))
}

/// Whether the session must see this operation later.
fn is_learned(record: &Record) -> bool {
    is_judged(record)
        || (record.session.is_some() && record.op.is_write() && record.token_out.is_some())
}

struct Engine<'h> {
    history: &'h History,
    guarantee: Guarantee,
    cells: Cells<'h>,
    sessions: BTreeMap<&'h str, usize>,
    /// Per session, what it knows now.
    now: Vec<Knowledge>,
    /// Per line in flight or write done, what its session knew when it was invoked.
    then: BTreeMap<usize, Knowledge>,
    /// Session writes in the history.
    writes: usize,
}

/// Why something must be seen: it was learned by `session`, at a length of its log below `upto`.
struct Reason {
    session: usize,
    /// Entries from here on count.
    from: u32,
    upto: u32,
    /// The writes or the reads of that log.
    writes: bool,
}

impl<'h> Engine<'h> {
    fn new(
        history: &'h History,
        keys: &[KeyIndex<'h>],
        cells: Cells<'h>,
        guarantee: Guarantee,
    ) -> Self {
        let mut sessions = BTreeMap::new();
        let mut writes = 0;
        for operation in keys.iter().flat_map(|key| &key.operations) {
            for &line in &operation.lines {
                let record = &history.records[line];
                if let Some(session) = record.session.as_deref() {
                    sessions.insert(session, 0);
                    writes += usize::from(record.op.is_write());
                }
            }
        }
        for (number, session) in sessions.values_mut().enumerate() {
            *session = number;
        }
        let clock = Rc::new(vec![0; sessions.len()]);
        let nothing = Knowledge {
            own: 0,
            direct: Rc::clone(&clock),
            full: clock,
        };
        Self {
            now: vec![nothing; sessions.len()],
            then: BTreeMap::new(),
            history,
            guarantee,
            cells,
            sessions,
            writes,
        }
    }

    /// Goes through the history in order of time.
    fn run(&mut self) -> Option<(String, Vec<usize>)> {
        let mut moments = Vec::new();
        for (line, record) in self.history.records.iter().enumerate() {
            if record.session.is_none() || record.key.is_none() || !record.op.is_client() {
                continue;
            }
            moments.push((record.invoke_ns, 1, line));
            if let Some(end) = record.complete_ns
                && (record.status == Status::Ok || record.is_refused())
            {
                // Well-formed histories never use one moment twice in a process; between processes, a completion
                // at the moment of an invocation is not before it.
                moments.push((end, 2, line));
            }
        }
        moments.sort_unstable();
        for (_, what, line) in moments {
            let record = &self.history.records[line];
            let session = record.session.as_deref().and_then(|s| self.sessions.get(s));
            let Some(&session) = session else { continue };
            if what == 1 {
                self.then.insert(line, self.now[session].clone());
                continue;
            }
            let Some(known) = self.then.get(&line).cloned() else {
                continue;
            };
            if let Some(violation) = self.complete(session, &known, line) {
                return Some(violation);
            }
            if !record.op.is_write() {
                self.then.remove(&line);
            }
        }
        None
    }

    fn complete(
        &mut self,
        session: usize,
        known: &Knowledge,
        line: usize,
    ) -> Option<(String, Vec<usize>)> {
        let record = &self.history.records[line];
        if is_judged(record) {
            if let Some(violation) = self.judge_read(session, known, line) {
                return Some(violation);
            }
            if let Some(violation) = self.judge_write(session, known, line) {
                return Some(violation);
            }
            self.inherit(session, line);
        }
        if is_learned(record) {
            let own = self.now[session].own;
            let seen = self.adds_removed(session, known, line);
            self.cells.learn(session, own, line, seen);
            self.now[session].own += 1;
        }
        None
    }

    /// The adds that a removal must have taken away: those its session knew, if its level promises to see them.
    fn adds_removed(
        &self,
        session: usize,
        known: &Knowledge,
        line: usize,
    ) -> Option<BTreeSet<usize>> {
        let cell = self.cells.removes(line)?;
        let judged = is_judged(&self.history.records[line]);
        judged.then(|| {
            let learners = self.cells.learners(cell);
            let known = learners.flat_map(|learner| {
                let upto = match learner == session {
                    true => known.own,
                    false => known.full[learner],
                };
                self.cells.adds_known(cell, learner, upto)
            });
            known.collect()
        })
    }

    fn judge_read(
        &self,
        session: usize,
        known: &Knowledge,
        line: usize,
    ) -> Option<(String, Vec<usize>)> {
        for shown in self.cells.shown(line) {
            for learner in self.cells.learners(shown.cell) {
                for reason in self.reasons(session, known, learner) {
                    if let Some((what, proof)) = self.missing(&shown, &reason) {
                        return Some(self.explain(line, &what, proof, session == learner));
                    }
                }
            }
        }
        None
    }

    /// A write at these levels is ordered after what its session knows of the same register.
    fn judge_write(
        &self,
        session: usize,
        known: &Knowledge,
        line: usize,
    ) -> Option<(String, Vec<usize>)> {
        let shown = self.cells.written(line)?;
        for learner in self.cells.learners(shown.cell) {
            for reason in self.write_reasons(session, known, learner) {
                if let Some((what, proof)) = self.missing(&shown, &reason) {
                    return Some(self.explain(line, &what, proof, session == learner));
                }
            }
        }
        None
    }

    fn missing(&self, shown: &Shown<'h>, reason: &Reason) -> Option<(String, usize)> {
        self.cells.missing(
            shown,
            reason.session,
            reason.from..reason.upto,
            reason.writes,
        )
    }

    /// Which parts of `learner`'s log a read by `session` must cover under the guarantee.
    fn reasons(&self, session: usize, known: &Knowledge, learner: usize) -> Vec<Reason> {
        let part = |from, upto, writes| Reason {
            session: learner,
            from,
            upto,
            writes,
        };
        let (direct, full) = (known.direct[learner], known.full[learner]);
        let own = session == learner;
        let reasons = match self.guarantee {
            Guarantee::ReadYourWrites if own => vec![part(0, known.own, true)],
            Guarantee::MonotonicReads if own => vec![part(0, known.own, false)],
            Guarantee::MonotonicWrites if !own => vec![part(0, direct, true)],
            Guarantee::WritesFollowReads if !own => {
                vec![part(0, full, false), part(direct, full, true)]
            }
            _ => Vec::new(),
        };
        reasons
            .into_iter()
            .filter(|reason| reason.from < reason.upto)
            .collect()
    }

    /// Which parts of `learner`'s log a write by `session` must stand above under the guarantee.
    fn write_reasons(&self, session: usize, known: &Knowledge, learner: usize) -> Vec<Reason> {
        let part = |upto, writes| Reason {
            session: learner,
            from: 0,
            upto,
            writes,
        };
        let full = known.full[learner];
        match self.guarantee {
            Guarantee::MonotonicWrites if session == learner => vec![part(known.own, true)],
            Guarantee::WritesFollowReads if session == learner => vec![part(known.own, false)],
            Guarantee::WritesFollowReads => vec![part(full, true), part(full, false)],
            _ => Vec::new(),
        }
    }

    /// After a read the session knows what the writers of what it read knew.
    fn inherit(&mut self, session: usize, line: usize) {
        for write in self.cells.observed(line) {
            let record = &self.history.records[write];
            let Some(writer) = record.session.as_deref().filter(|_| is_judged(record)) else {
                continue;
            };
            let (Some(&writer), Some(theirs)) =
                (self.sessions.get(writer), self.then.get(&write).cloned())
            else {
                continue;
            };
            if writer == session {
                continue;
            }
            let ours = &mut self.now[session];
            if ours.direct[writer] < theirs.own {
                Rc::make_mut(&mut ours.direct)[writer] = theirs.own;
            }
            if ours.full[writer] < theirs.own {
                Rc::make_mut(&mut ours.full)[writer] = theirs.own;
            }
            if ours
                .full
                .iter()
                .zip(theirs.full.iter())
                .any(|(our, their)| our < their)
            {
                let full = Rc::make_mut(&mut ours.full);
                for (our, their) in full.iter_mut().zip(theirs.full.iter()) {
                    *our = (*our).max(*their);
                }
            }
        }
    }

    fn explain(&self, line: usize, what: &str, proof: usize, own: bool) -> (String, Vec<usize>) {
        let record = &self.history.records[line];
        let session = record.session.as_deref().unwrap_or_default();
        let theirs = self.history.records[proof].session.as_deref();
        let origin = match own {
            true => "the session itself".to_owned(),
            false => format!("session {}", theirs.unwrap_or_default()),
        };
        let verb = match self.history.records[proof].op.is_write() {
            true => "wrote",
            false => "read",
        };
        let mut text = format!("session {session}: {what}, which {origin} {verb} before");
        if !own {
            text += " a write that this session knew of";
        }
        (text, vec![proof, line])
    }
}

/// Whether a line's outcome says that it was done or seen.
fn is_known(record: &Record) -> bool {
    matches!(Outcome::of(record), Outcome::Ok | Outcome::Refused)
}
