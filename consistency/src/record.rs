//! What is stored: the eventual view's row ([`Record`]) and the log's [`Entry`].
//!
//! The eventual view changes only by applying log entries; it is their join.

use bytes::Bytes;

use crate::clock::Hlc;
use crate::codec::{Decoded, Decoder, Encode, Encoder};
use crate::key::{RegionId, Row};
use crate::rules::{Mutant, Rules};
use crate::session::Context;
use crate::value::State;
use crate::version::Ballot;

/// The name a client gave a request, so that a retry takes effect at most once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RequestId {
    /// The client session; random.
    pub session: u64,
    /// The request's number within its session, rising.
    pub seq: u32,
    /// A server clock value that the session got in a reply before it made the request.
    pub issued: Hlc,
}

/// One changed row of an entry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change {
    /// Which row.
    pub row: Row,
    /// What to merge into it.
    pub state: State,
    /// The chosen ballot whose value this is, or [`Ballot::ZERO`] for an eventual write.
    pub chosen: Ballot,
}

/// One entry of an origin's log in one shard; its name, the dot, is its storage key.
///
/// Every change is a join, so applying an entry twice or beside any other is harmless;
/// entries of one origin are applied in order of their seq.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// When it was written; rises along an origin's log.
    pub hlc: Hlc,
    /// What its writer had seen.
    pub deps: Context,
    /// The request that made it, to answer a retry.
    pub request: Option<RequestId>,
    /// The rows it changes, all or none.
    pub changes: Vec<Change>,
    /// Fields of a later minor format: kept and relayed.
    pub extension: Bytes,
}

/// A row of the eventual view.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// The join of all applied changes.
    pub state: State,
    /// What the writers of the visible state had seen.
    pub deps: Context,
    /// Per region, the clock of the last entry of that region that changed the row.
    pub touched: Context,
    /// The newest chosen ballot that an applied entry carried: proof that it is chosen.
    pub chosen: Ballot,
}

impl Record {
    /// What a session that reads this row has seen.
    pub fn context(&self) -> Context {
        let mut context = self.touched.clone();
        context.join(&self.deps);
        context
    }

    /// The row after applying one change of `entry`, written in `region`, and whether its value differs.
    pub fn apply(
        before: Option<Record>,
        region: RegionId,
        entry: &Entry,
        change: &Change,
        rules: Rules,
    ) -> (Record, bool) {
        let Some(mut record) = before else {
            let record = Record {
                state: change.state.clone(),
                deps: entry.deps.clone(),
                touched: Context::of(region, entry.hlc),
                chosen: change.chosen,
            };
            return (record, true);
        };
        let changed = match (&mut record.state, &change.state) {
            (State::Counter(mine), State::Counter(theirs))
                if rules.broken(Mutant::AdditiveCounterEntries)
                    && change.chosen == Ballot::ZERO =>
            {
                mine.add_totals(theirs);
                true
            }
            (state, incoming) => state.merge(incoming),
        };
        if changed {
            record.touched.raise(region, entry.hlc);
            // A register shows one write: its winner's causes. Other types show them all.
            if matches!(record.state, State::Register(_)) {
                record.deps = entry.deps.clone();
            } else {
                record.deps.join(&entry.deps);
            }
        }
        record.chosen = record.chosen.max(change.chosen);
        (record, changed)
    }
}

impl Encode for RequestId {
    fn encode(&self, out: &mut Encoder) {
        out.number(self.session);
        out.number(u64::from(self.seq));
        out.put(&self.issued);
    }
    fn decode(input: &mut Decoder) -> Decoded<RequestId> {
        Ok(RequestId {
            session: input.number("session")?,
            seq: input.small("request seq")?,
            issued: input.get()?,
        })
    }
}

impl Encode for Change {
    fn encode(&self, out: &mut Encoder) {
        out.put(&self.row);
        out.put(&self.state);
        out.put(&self.chosen);
    }
    fn decode(input: &mut Decoder) -> Decoded<Change> {
        Ok(Change {
            row: input.get()?,
            state: input.get()?,
            chosen: input.get()?,
        })
    }
}

impl Encode for Entry {
    fn encode(&self, out: &mut Encoder) {
        out.put(&self.hlc);
        out.put(&self.deps);
        out.option(self.request.as_ref());
        out.number(self.changes.len() as u64);
        for change in &self.changes {
            out.put(change);
        }
        out.bytes(&self.extension);
    }
    fn decode(input: &mut Decoder) -> Decoded<Entry> {
        Ok(Entry {
            hlc: input.get()?,
            deps: input.get()?,
            request: input.option()?,
            changes: input.list("changes")?,
            extension: input.bytes("extension")?,
        })
    }
}

impl Encode for Record {
    fn encode(&self, out: &mut Encoder) {
        out.put(&self.state);
        out.put(&self.deps);
        out.put(&self.touched);
        out.put(&self.chosen);
    }
    fn decode(input: &mut Decoder) -> Decoded<Record> {
        Ok(Record {
            state: input.get()?,
            deps: input.get()?,
            touched: input.get()?,
            chosen: input.get()?,
        })
    }
}
