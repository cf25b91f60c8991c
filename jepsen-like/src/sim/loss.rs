//! What a disk may take with it: at one replica per region, the acknowledged eventual and session writes that
//! were durable nowhere else (DESIGN 4.1, 20). Exactly those become writes of unknown outcome.
//!
//! A write is known by the log entry that carries it: at the crash those entries are noted that no other node
//! held durably, and at the end those of them count as lost that nobody holds even then (one may have been under
//! way). The acknowledged write is the one whose reply named the entry's clock, or whose request id the entry
//! carries. Of sessions only those reads are no longer judged that may have shown a lost entry: reads of its key,
//! before the crash, by a session whose token covers it. Strong writes are never forgiven: a quorum has them.

use std::collections::BTreeMap;

use hansa_consistency::clock::Hlc;
use hansa_consistency::codec::Encode;
use hansa_consistency::key::{NodeId, RegionId, Row};
use hansa_consistency::record::{Entry, RequestId};
use hansa_consistency::session::Context;
use hansa_consistency::version::Ballot;

use super::client;
use super::disk::LostEntry;
use super::node::Node;
use super::several::key_of;
use crate::history::{DISK_LOST, Datum, History, Level, Op, Record, Status};

/// An entry that was durable on one disk only, until that disk lost it.
#[derive(Debug)]
struct Lost {
    stored: LostEntry,
    region: RegionId,
    hlc: Hlc,
    request: Option<RequestId>,
    rows: Vec<Row>,
    /// When it was lost, nanoseconds of the run.
    at_ns: u64,
}

/// The watcher of losses.
#[derive(Debug, Default)]
pub struct Losses {
    lost: Vec<Lost>,
    /// What the reply to each line of the history said that its session has seen.
    told: BTreeMap<usize, Context>,
}

impl Losses {
    /// Notes what the reply to a line of the history said.
    pub fn told(&mut self, line: usize, context: Context) {
        self.told.insert(line, context);
    }

    /// A node lost entries of a disk, at a moment in nanoseconds.
    pub fn struck(
        &mut self,
        nodes: &BTreeMap<NodeId, Node>,
        id: NodeId,
        entries: Vec<LostEntry>,
        at_ns: u64,
    ) {
        let Some(node) = nodes.get(&id) else { return };
        for stored in entries {
            // A log key is a shard (4 bytes), the origin's node and incarnation (2 and 4), a seq (8).
            let own = stored.key.get(4..6) == Some(&id.0.to_be_bytes()[..]);
            let mut others = nodes.values().filter(|other| other.id != id);
            if !own || others.any(|other| other.disk.holds(&stored, true)) {
                continue;
            }
            let Ok(entry) = Entry::from_record(&stored.record) else {
                continue;
            };
            let eventual = entry.changes.into_iter();
            let eventual = eventual.filter(|change| change.chosen == Ballot::ZERO);
            self.lost.push(Lost {
                stored,
                region: node.region,
                hlc: entry.hlc,
                request: entry.request,
                rows: eventual.map(|change| change.row).collect(),
                at_ns,
            });
        }
    }

    /// Takes back the acknowledgement of what was lost.
    pub fn forgive(&self, nodes: &BTreeMap<NodeId, Node>, history: &mut History) {
        let held = |lost: &&Lost| nodes.values().any(|n| n.disk.holds(&lost.stored, false));
        for lost in self.lost.iter().filter(|lost| !held(lost)) {
            for (line, record) in history.records.iter_mut().enumerate() {
                let judged = record.op.is_client() && record.status == Status::Ok;
                if !judged || record.level == Some(Level::Strong) {
                    continue;
                }
                let seen = self.told.get(&line).map(|context| context.get(lost.region));
                if record.op.is_write() && lost.made_by(record, seen) {
                    record.status = Status::Info;
                    record.error = Some(DISK_LOST.into());
                } else if !record.op.is_write() && lost.may_show(record, seen) {
                    record.session = None;
                }
            }
        }
    }
}

impl Lost {
    /// Whether the entry is what made an acknowledged write, given the clock its reply named.
    fn made_by(&self, record: &Record, named: Option<Hlc>) -> bool {
        let element = match (record.op, &record.value) {
            (Op::Add | Op::Remove, Some(Datum::Text(element))) => Some(element.as_str()),
            _ => None,
        };
        let key = record.key.as_deref().map(client::split_key);
        let row = key.and_then(|(keyspace, name)| client::row(keyspace, name, element));
        let requested = self.request.map(client::id_text);
        let same = named == Some(self.hlc)
            || (requested.is_some() && requested.as_ref() == record.request_id.as_ref());
        same && row.is_some_and(|row| self.rows.contains(&row))
    }

    /// Whether a read may have shown the entry, given the clock that its reply covers.
    fn may_show(&self, record: &Record, covered: Option<Hlc>) -> bool {
        let same = |row: &Row| key_of(row).is_some_and(|key| record.tells_of(&key));
        record.invoke_ns <= self.at_ns && covered >= Some(self.hlc) && self.rows.iter().any(same)
    }
}
