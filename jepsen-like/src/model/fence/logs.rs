//! Logs: a node appends to its own, a majority of the region holds an entry durably before it counts, everybody
//! applies what counts, in order.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use hansa_consistency::clock::Hlc;
use hansa_consistency::quorum::majority;
use hansa_consistency::record::{Change, Entry, Record};
use hansa_consistency::roster::{Roster, Version};
use hansa_consistency::rules::Rules;
use hansa_consistency::session::Context;
use hansa_consistency::value::{Actor, Counter, State};
use hansa_consistency::version::{Ballot, Origin, Seq};

use super::broken::Broken;
use super::roster::{end_of, node};
use super::time::Statement;
use super::world::{Body, HOME, World};

/// One entry with the write it is of; only the ledger and the waiting client look at that.
#[derive(Clone)]
pub(super) struct Item {
    pub(super) entry: Entry,
    pub(super) write: usize,
}

impl fmt::Debug for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "w{} at {}", self.write, self.entry.hlc.0)
    }
}

/// One origin's log as a replica holds it.
#[derive(Clone, Debug, Default)]
pub(super) struct Log {
    pub(super) items: Vec<Item>,
    /// The term it is of, where entries came from its writer. Other entries were committed before they came.
    pub(super) term: Option<Version>,
    /// Up to here a majority of the region holds it, as far as is known here.
    pub(super) committed: Seq,
    pub(super) applied: Seq,
}

/// Consecutive entries of a log, from this seq on.
pub(super) type Run = (Origin, Seq, Vec<Item>);

/// The node that writes a log.
pub(super) fn writer(origin: Origin) -> usize {
    usize::from(origin.node.0)
}

impl World {
    /// A write of 2^`write` to a row, at a node that may write.
    pub(super) fn write(&mut self, at: usize, write: usize, row: usize, deps: Context) {
        let Some((origin, _)) = self.nodes[at].writes else {
            return;
        };
        let entry = Entry {
            hlc: self.tick(at),
            deps,
            request: None,
            changes: vec![Change {
                row: self.rows[row].clone(),
                state: self.counted(at, origin, row, write),
                chosen: Ballot::ZERO,
            }],
            extension: Bytes::new(),
        };
        self.nodes[at].waiting.insert(write);
        self.append(at, Item { entry, write });
    }

    /// The origin's new absolute totals of a row; what is logged counts, committed or not.
    fn counted(&self, at: usize, origin: Origin, row: usize, write: usize) -> State {
        let actor = Actor::Origin(origin);
        let log = self.nodes[at].logs.get(&origin);
        let changes = log.into_iter().flat_map(|log| &log.items);
        let changes = changes.flat_map(|item| &item.entry.changes);
        let totals = changes
            .filter(|c| c.row == self.rows[row])
            .map(|c| match &c.state {
                State::Counter(counter) => counter.totals(actor),
                _ => (0, 0),
            });
        let (up, down) = totals.max().unwrap_or((0, 0));
        State::Counter(Counter::of(actor, (up + (1 << write), down)))
    }

    /// Appends to the own log, durably, and shows it to the others.
    fn append(&mut self, at: usize, item: Item) {
        let Some((origin, term)) = self.nodes[at].writes else {
            return;
        };
        let log = self.nodes[at].logs.entry(origin).or_default();
        log.items.push(item);
        log.term = Some(term);
        let seq = log.items.len() as Seq;
        self.ledger.holds(at, origin, seq);
        self.ledger.term_of(origin, term);
        self.count_acknowledged(at, origin);
        self.push(at);
    }

    /// Sends what others of the region have not acknowledged.
    pub(super) fn push(&mut self, at: usize) {
        let Some((_, term)) = self.nodes[at].writes else {
            return;
        };
        for origin in self.own_logs(at) {
            for to in (0..self.home).filter(|to| *to != at) {
                let node = &self.nodes[at];
                let known = node.acknowledged.get(&(origin, to)).copied().unwrap_or(0);
                let items = node.items_behind(origin, known, Seq::MAX);
                if items.is_empty() {
                    continue;
                }
                let committed = node.logs.get(&origin).map_or(0, |log| log.committed);
                let body = Body::Append {
                    origin,
                    term,
                    first: known + 1,
                    items,
                    committed,
                };
                self.send(at, to, body);
            }
        }
    }

    /// The logs a node writes: those of its term.
    pub(super) fn own_logs(&self, at: usize) -> Vec<Origin> {
        let node = &self.nodes[at];
        let own = |o: &&Origin| writer(**o) == at && end_of(&node.roster, **o).is_none();
        node.logs.keys().filter(own).copied().collect()
    }

    /// Whether a replica of the region takes a node's entries of a term.
    fn takes(&self, to: usize, from: usize, origin: Origin, term: Version) -> bool {
        let held = &self.nodes[to];
        let known = held.held(origin) > 0 || end_of(&held.roster, origin).is_some();
        if self.broken(Broken::FenceOfKnownLogs) && !known {
            return true;
        }
        let alone = self.broken(Broken::OpensUnannounced) && term >= held.roster.version();
        let refuses = held.acceptor.refuses(node(from), term);
        held.acceptor.takes(node(from), term, &held.roster) || alone && !refuses
    }

    pub(super) fn on_append(
        &mut self,
        from: usize,
        to: usize,
        (origin, term): (Origin, Version),
        first: Seq,
        items: &[Item],
        committed: Seq,
    ) {
        if !self.takes_part(to) {
            return;
        }
        if !self.takes(to, from, origin, term) {
            self.send(to, from, Body::Refused(term));
            return;
        }
        if self.extend(to, origin, first, items) {
            let log = self.nodes[to].logs.entry(origin).or_default();
            log.term = Some(term);
            log.committed = log.committed.max(committed.min(log.items.len() as Seq));
            let held = self.nodes[to].held(origin);
            self.send(to, from, Body::Acknowledge(origin, held));
            self.apply(to, origin);
        }
    }

    /// Takes entries of a log, durably; `false` if there is a gap before them.
    pub(super) fn extend(&mut self, at: usize, origin: Origin, first: Seq, items: &[Item]) -> bool {
        let log = self.nodes[at].logs.entry(origin).or_default();
        if first > log.items.len() as Seq + 1 {
            return false;
        }
        for (seq, item) in (first..).zip(items) {
            if seq > log.items.len() as Seq {
                log.items.push(item.clone());
                self.ledger.holds(at, origin, seq);
            }
        }
        true
    }

    pub(super) fn on_acknowledge(&mut self, from: usize, to: usize, origin: Origin, seq: Seq) {
        let known = self.nodes[to]
            .acknowledged
            .entry((origin, from))
            .or_default();
        *known = (*known).max(seq);
        self.count_acknowledged(to, origin);
    }

    /// Commits what a majority of the region holds of an own log.
    fn count_acknowledged(&mut self, at: usize, origin: Origin) {
        let alone = self.broken(Broken::CommittedAlone);
        let home = self.home;
        let node = &mut self.nodes[at];
        let logged = node.held(origin);
        let end = |other: usize| match other == at {
            true => logged,
            false => {
                let known = node.acknowledged.get(&(origin, other));
                known.copied().unwrap_or(0).min(logged)
            }
        };
        let mut ends: Vec<Seq> = (0..home).map(end).collect();
        ends.sort_unstable_by(|a, b| b.cmp(a));
        let needed = if alone { 1 } else { majority(home) };
        let committed = ends[needed - 1];
        if let Some(log) = node.logs.get_mut(&origin) {
            log.committed = log.committed.max(committed);
        }
        self.apply(at, origin);
    }

    /// Applies what is known to be committed, and answers whose entries those are.
    pub(super) fn apply(&mut self, at: usize, origin: Origin) {
        loop {
            let node = &mut self.nodes[at];
            let Some(log) = node.logs.get_mut(&origin) else {
                return;
            };
            let next = log.applied as usize;
            let Some(item) = log.items.get(next).filter(|_| log.applied < log.committed) else {
                return;
            };
            let item = item.clone();
            log.applied += 1;
            let seq = log.applied;
            node.clock = node.clock.max(item.entry.hlc.0);
            for change in &item.entry.changes {
                if let Some(row) = self.rows.iter().position(|row| *row == change.row) {
                    let before = node.view[row].take();
                    let rules = Rules::default();
                    let (record, _) = Record::apply(before, HOME, &item.entry, change, rules);
                    node.view[row] = Some(record);
                }
            }
            let waited = node.waiting.remove(&item.write);
            self.try_statements(at);
            self.ledger
                .applied(at, origin, seq, item.entry.hlc, &self.nodes);
            let now = self.now;
            self.trace.note(now, (b'a', at, origin, seq), || {
                format!(
                    "n{at} applies {}.{}:{seq}",
                    origin.node.0, origin.incarnation
                )
            });
            if waited {
                self.answer(item.write, item.entry.hlc);
            }
        }
    }

    /// Asks somebody for what it holds beyond what is applied here.
    pub(super) fn pull(&mut self, at: usize, from: usize) {
        let logs = self.nodes[at].logs.iter();
        let have = logs.map(|(origin, log)| (*origin, log.applied)).collect();
        self.send(at, from, Body::Pull(have));
    }

    /// Only committed entries are served.
    pub(super) fn on_pull(&mut self, from: usize, to: usize, have: &BTreeMap<Origin, Seq>) {
        let node = &self.nodes[to];
        let missing = |(origin, log): (&Origin, &Log)| {
            let known = have.get(origin).copied().unwrap_or(0);
            let items = node.items_behind(*origin, known, log.applied);
            (log.applied > known).then_some((*origin, known + 1, items))
        };
        let runs = node.logs.iter().filter_map(missing).collect();
        let statements = self.relayed_statements(to);
        self.send(to, from, Body::Entries(runs, statements));
    }

    pub(super) fn on_entries(&mut self, at: usize, runs: Vec<Run>, statements: &[Statement]) {
        for (origin, first, items) in runs {
            if self.extend(at, origin, first, &items) {
                let log = self.nodes[at].logs.entry(origin).or_default();
                log.committed = log.committed.max(first + items.len() as Seq - 1);
                self.apply(at, origin);
            }
        }
        for statement in statements {
            self.learn_statement(at, statement);
        }
    }

    /// A node learns the newest roster that is known to be chosen.
    pub(super) fn learn_roster(&mut self, at: usize, roster: &Arc<Roster>) {
        let learner = &mut self.nodes[at];
        if roster.version() <= learner.roster.version() {
            return;
        }
        learner.roster_before = std::mem::replace(&mut learner.roster, roster.clone());
        learner.acceptor.learn(roster);
        for ((_, origin), end) in roster.ends() {
            self.end_log(at, *origin, *end);
        }
        self.drop_unnamed(at);
        self.try_statements(at);
        if at >= self.home || self.nodes[at].lost {
            return;
        }
        let written = self.nodes[at].writes.map(|(_, term)| term);
        match roster.term(node(at)) {
            Some(term) if written.is_none_or(|own| own < term) => self.begin_term(at, term),
            None if self.broken(Broken::OpensUnannounced) => {
                self.begin_term(at, roster.version());
            }
            None => self.stop_writing(at),
            Some(_) => {}
        }
    }

    /// A log ends: what lies before its end counts; what lies behind is nowhere any more, but with its writer.
    fn end_log(&mut self, at: usize, origin: Origin, end: Seq) {
        let node = &mut self.nodes[at];
        let log = node.logs.entry(origin).or_default();
        let held = log.items.len() as Seq;
        if log.applied > end {
            self.ledger
                .violated(|| format!("n{at} applied {origin:?} beyond its end {end}"));
            return;
        }
        let behind = log.items.split_off(end.min(held) as usize);
        log.committed = end;
        if writer(origin) == at {
            node.rest.extend(behind);
        }
        self.apply(at, origin);
    }

    /// Logs of an ended term that the roster does not name are empty: what is held of them was never committed,
    /// and must not be found by whoever ends the next term.
    fn drop_unnamed(&mut self, at: usize) {
        let kept = self.broken(Broken::UnnamedKept);
        let roster = self.nodes[at].roster.clone();
        let unnamed = |(origin, log): (&Origin, &Log)| {
            let ended = log
                .term
                .is_some_and(|term| roster.has_ended(origin.node, term));
            let kept = kept && writer(*origin) != at;
            (ended && !kept && end_of(&roster, *origin).is_none()).then_some(*origin)
        };
        let unnamed: Vec<Origin> = self.nodes[at].logs.iter().filter_map(unnamed).collect();
        for origin in unnamed {
            self.end_log(at, origin, 0);
            self.nodes[at].logs.remove(&origin);
        }
    }

    /// Its logs have ended, and no new one may be begun yet.
    fn stop_writing(&mut self, at: usize) {
        self.nodes[at].writes = None;
        if self.broken(Broken::AnsweredBehindTheEnd) {
            for item in self.nodes[at].rest.clone() {
                if self.nodes[at].waiting.remove(&item.write) {
                    self.answer(item.write, item.entry.hlc);
                }
            }
        }
    }

    /// Begins a log of a new term with what lay behind the ends of the earlier ones.
    fn begin_term(&mut self, at: usize, term: Version) {
        self.stop_writing(at);
        let node = &mut self.nodes[at];
        let origin = node.next_origin(at);
        node.writes = Some((origin, term));
        node.refused = false;
        let mut rest = std::mem::take(&mut node.rest);
        if self.broken(Broken::RestDropped) {
            return;
        }
        rest.sort_by_key(|item| item.entry.hlc);
        for mut item in rest {
            if !self.broken(Broken::RestKeepsItsClock) {
                item.entry.hlc = self.tick(at);
            }
            self.counts.published_again += 1;
            self.append(at, item);
        }
    }

    /// The clock of the oldest own entry that is not applied.
    pub(super) fn oldest_uncommitted(&self, at: usize) -> Option<Hlc> {
        let node = &self.nodes[at];
        let oldest = |origin: Origin| {
            let log = node.logs.get(&origin)?;
            Some(log.items.get(log.applied as usize)?.entry.hlc)
        };
        self.own_logs(at).into_iter().filter_map(oldest).min()
    }
}
