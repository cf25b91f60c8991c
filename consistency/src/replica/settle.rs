//! Accepted values nobody finished: their proposer died between choosing and logging.
//!
//! An acceptor that holds an accepted value of which it saw no log entry reads the row
//! strongly after a while: the read helps the value to be chosen if it may be, and logs
//! it here. So every chosen value reaches the eventual view of every replica.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::time::Duration;

use crate::clock::Now;
use crate::codec::Encode;
use crate::effect::Note;
use crate::key::{Row, ShardId};
use crate::layout;
use crate::limits::{DEADLINE_DEFAULT_MS, SETTLE_AFTER_MS, SETTLE_ROWS_PER_TICK};
use crate::port::{Damaged, Family, Reader};
use crate::record::Record;
use crate::register::acceptor::Accepted;
use crate::request::{Command, Level, Request};
use crate::session::Context;
use crate::version::Ballot;

use super::jobs::Asker;
use super::turn::{Turn, damaged};
use super::{Replica, Standing};

/// Rows whose accepted value is not known chosen.
#[derive(Clone, Debug, Default)]
pub(super) struct Unsettled {
    rows: BTreeMap<Row, (Ballot, Duration)>,
}

impl Unsettled {
    /// Every accepted value is unsettled unless its row shows that its ballot or a later one is chosen.
    pub(super) fn load(reader: &dyn Reader, now: Now) -> Result<Unsettled, Damaged> {
        let mut unsettled = Unsettled::default();
        let mut failed = None;
        reader.scan(Family::Slot, &[], None, &mut |key, value| {
            let Some((row, layout::ACCEPTED)) = layout::slot_row(key) else {
                return ControlFlow::Continue(());
            };
            match Accepted::from_record(&value) {
                Ok(accepted) => {
                    if accepted.value.state.is_some() {
                        unsettled.accepted(&row, accepted.ballot, now.monotonic);
                    }
                    ControlFlow::Continue(())
                }
                Err(error) => {
                    failed = Some(damaged(Family::Slot, &error));
                    ControlFlow::Break(())
                }
            }
        })?;
        failed.map_or(Ok(()), Err)?;
        unsettled.rows.retain(|row, (ballot, _)| {
            // A damaged row costs a refill, not the start: it stays unsettled.
            let record = reader.get(Family::Data, row.as_bytes()).ok().flatten();
            let record = record.and_then(|bytes| Record::from_record(&bytes).ok());
            record.is_none_or(|record| record.chosen < *ballot)
        });
        Ok(unsettled)
    }

    /// A value was accepted.
    pub(super) fn accepted(&mut self, row: &Row, ballot: Ballot, now: Duration) {
        self.rows.insert(row.clone(), (ballot, now));
    }

    /// An entry with a chosen value was applied.
    pub(super) fn settle(&mut self, row: &Row, chosen: Ballot) {
        if self
            .rows
            .get(row)
            .is_some_and(|(ballot, _)| *ballot <= chosen)
        {
            self.rows.remove(row);
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }
}

impl Replica {
    /// Looks at rows that have waited long enough.
    pub(super) fn settle_some(&mut self, turn: &mut Turn<'_>) {
        if self.standing != Standing::Voting {
            return;
        }
        let now = turn.now.monotonic;
        // Replicas take turns, so that as a rule one of them does the work.
        let turn_of = u64::from(self.me.node.0 % 8) * (SETTLE_AFTER_MS / 2);
        let patience = Duration::from_millis(SETTLE_AFTER_MS + turn_of);
        // Rows whose quorum is gone must not take the places of those that can be settled.
        let mut reachable: BTreeMap<ShardId, bool> = BTreeMap::new();
        let mut may_settle = |shard: ShardId| {
            let reached = || self.quorum_reachable(now, shard);
            *reachable.entry(shard).or_insert_with(reached)
        };
        let due: Vec<(Row, Ballot)> = self
            .unsettled
            .rows
            .iter()
            .filter(|(row, (_, since))| now >= *since + patience && may_settle(row.shard()))
            .map(|(row, (ballot, _))| (row.clone(), *ballot))
            .take(SETTLE_ROWS_PER_TICK)
            .collect();
        for (row, ballot) in due {
            match self.record(turn, &row) {
                Ok(Some(record)) if record.chosen >= ballot => {
                    self.unsettled.settle(&row, ballot);
                    continue;
                }
                Ok(_) => {}
                Err(damage) => {
                    self.meet_damage(turn, damage);
                    // Once its row is rebuilt it can be settled.
                    self.unsettled.accepted(&row, ballot, now);
                    continue;
                }
            }
            turn.note(Note::Settled);
            self.unsettled.accepted(&row, ballot, now);
            let request = Request {
                command: Command::Get(row.clone()),
                level: Level::Strong,
                context: Context::new(),
                request_id: None,
                retry_of: None,
                ack_regions: 0,
                deadline: now + Duration::from_millis(DEADLINE_DEFAULT_MS),
            };
            let job = self.open_job(Asker::Settle, request);
            self.begin_read(turn, job, row);
        }
    }
}
