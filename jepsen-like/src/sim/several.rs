//! Operations that are several requests of the core, put together as a node puts them together (`node/src/grpc`).
//!
//! A batch asks for each key under the same context, side by side; the first refusal refuses it. A scan asks range
//! after range, each within one shard; what a page has shown, its later ranges show at least, and with a session so do
//! later pages. The answer is the sum: the lowest level, all that was seen, the worst receipt.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use hansa_consistency::key::{Row, ShardId, prefix_end, sort_prefix};
use hansa_consistency::request::{
    Answer, Command, Found, Level, Refusal, Reply, Request, Scan, ScannedRow,
};
use hansa_consistency::session::Context;

use super::client::{self, REGISTERS, SHARDS, split_key};
use crate::history::{Datum, Held, Op, ROW_TWICE, Record};
use crate::workload::{self, split_row};

/// Rows in a page of the rows of one key. Less than a key has, so that a whole one takes several.
const PAGE: usize = 2;
/// Rows in a page of a whole keyspace.
const WHOLE_PAGE: usize = 20;

/// An operation of several requests, under way.
#[derive(Clone, Debug)]
pub struct Several {
    level: Level,
    /// What its session had seen when it began.
    context: Context,
    way: Way,
    rows: BTreeMap<String, Held>,
    twice: bool,
    sum: Option<Reply>,
}

#[derive(Clone, Debug)]
enum Way {
    /// Keys that are not asked for yet, and those that are, by the number of their request.
    SideBySide {
        keys: Vec<String>,
        asked: BTreeMap<u64, String>,
    },
    Walk(Walk),
}

/// A scan.
#[derive(Clone, Debug)]
struct Walk {
    /// Begins the keys that are listed.
    start: String,
    ranges: VecDeque<(Bytes, Bytes)>,
    /// Rows in a page, and how many the page under way can still take.
    page: usize,
    room: usize,
    /// What the page under way was asked with and has shown.
    seen: Context,
}

/// What follows an answer.
#[derive(Debug)]
pub enum Step {
    /// Others are under way.
    Wait,
    /// This is asked next; `true` if the client asks it, as the next page.
    Ask(Box<Request>, bool),
    /// It is done.
    Done(Box<Result<Reply, Refusal>>),
}

impl Several {
    /// The operation, if it is one of several requests; `None` also when a part is out of its bounds.
    #[must_use]
    pub fn of(record: &Record, level: Level, context: Context) -> Option<Several> {
        let key = record.key.as_deref()?;
        let way = match (record.op, record.rows()) {
            (Op::BatchGet, Some(rows)) => Way::SideBySide {
                keys: rows.keys().cloned().collect(),
                asked: BTreeMap::new(),
            },
            (Op::Scan, _) => Way::Walk(Walk::over(key, context.clone())?),
            _ => return None,
        };
        Some(Several {
            level,
            context,
            way,
            rows: BTreeMap::new(),
            twice: false,
            sum: None,
        })
    }

    /// What is asked at once. `number` gives the numbers.
    pub fn begin(&mut self, mut number: impl FnMut() -> u64) -> Vec<(u64, Request)> {
        let (level, context) = (self.level, self.context.clone());
        match &mut self.way {
            Way::SideBySide { keys, asked } => {
                let all = std::mem::take(keys).into_iter();
                let requests = all.filter_map(|key| {
                    let (keyspace, name) = split_key(&key);
                    let command = Command::Get(client::row(keyspace, name, None)?);
                    let number = number();
                    asked.insert(number, key);
                    Some((number, request(command, level, context.clone())))
                });
                requests.collect()
            }
            Way::Walk(walk) => {
                let first = walk.next(level);
                first.map(|first| (number(), first)).into_iter().collect()
            }
        }
    }

    /// The rows that the answer to one of its requests shows, with their versions; none at level strong.
    #[must_use]
    pub fn shown(&self, number: u64, reply: &Reply) -> Vec<(Row, Bytes)> {
        match (&reply.answer, &self.way) {
            _ if self.level == Level::Strong => Vec::new(),
            (Answer::Page { rows, .. }, _) => {
                let rows = rows.iter();
                rows.map(|it| (it.row.clone(), it.etag.clone())).collect()
            }
            (Answer::Read { etag, .. }, Way::SideBySide { asked, .. }) => {
                let key = asked.get(&number).map(|key| split_key(key));
                let row = key.and_then(|(keyspace, name)| client::row(keyspace, name, None));
                row.map(|row| (row, etag.clone())).into_iter().collect()
            }
            _ => Vec::new(),
        }
    }

    /// Takes the answer to one of its requests.
    pub fn answered(&mut self, number: u64, result: &Result<Reply, Refusal>) -> Step {
        let reply = match result {
            Ok(reply) => reply,
            Err(refusal) => return Step::Done(Box::new(Err(refusal.clone()))),
        };
        let side_by_side = matches!(self.way, Way::SideBySide { .. });
        match &mut self.sum {
            None => self.sum = Some(reply.clone()),
            Some(sum) => add(sum, reply, side_by_side),
        }
        let next = match (&mut self.way, &reply.answer) {
            (Way::SideBySide { asked, .. }, Answer::Read { found, etag }) => {
                if let Some(key) = asked.remove(&number) {
                    self.rows.insert(key, held(found, etag));
                }
                if !asked.is_empty() {
                    return Step::Wait;
                }
                None
            }
            (Way::Walk(walk), Answer::Page { rows, next }) => {
                for row in rows {
                    let Some(key) = key_of(&row.row).filter(|key| key.starts_with(&walk.start))
                    else {
                        continue;
                    };
                    self.twice |= self.rows.contains_key(&key);
                    let held = held(&row.found, &row.etag);
                    self.rows.entry(key).or_insert(held);
                }
                let by_client = walk.went_on(rows, next.as_ref(), &reply.context);
                if by_client {
                    // A session takes along what the page has shown; without one the next page knows nothing of it.
                    walk.seen = match self.level {
                        Level::Session => walk.seen.clone(),
                        Level::Eventual | Level::Strong => self.context.clone(),
                    };
                }
                walk.next(self.level).map(|next| (next, by_client))
            }
            _ => None,
        };
        match (next, self.sum.take()) {
            (Some((next, by_client)), sum) => {
                self.sum = sum;
                Step::Ask(Box::new(next), by_client)
            }
            (None, Some(sum)) => Step::Done(Box::new(Ok(sum))),
            (None, None) => Step::Wait,
        }
    }

    /// Writes what was shown into the record of an operation that succeeded.
    pub fn fill(&mut self, record: &mut Record) {
        record.value = Some(Datum::Rows(std::mem::take(&mut self.rows)));
        record.error = self.twice.then(|| ROW_TWICE.to_owned());
    }
}

impl Walk {
    /// Over the rows of one key, or over the whole keyspace where `key` names none.
    fn over(key: &str, context: Context) -> Option<Walk> {
        let (_, name) = split_key(key);
        let (ranges, page) = match name.contains('/') {
            true => {
                let (partition, sort) = split_row(name);
                let from = sort_prefix(REGISTERS, SHARDS, partition.as_bytes(), sort.as_bytes());
                let to = prefix_end(&from)?;
                (VecDeque::from([(from, to)]), PAGE)
            }
            false => {
                let shards = (0..SHARDS).map(|index| {
                    let keyspace = REGISTERS;
                    let shard = ShardId { keyspace, index };
                    let from = Bytes::copy_from_slice(&shard.prefix());
                    Some((from, Bytes::copy_from_slice(&shard.end()?)))
                });
                (shards.collect::<Option<_>>()?, WHOLE_PAGE)
            }
        };
        Some(Walk {
            start: key.to_owned(),
            ranges,
            page,
            room: page,
            seen: context,
        })
    }

    /// What is asked next; `None` at the end.
    fn next(&self, level: Level) -> Option<Request> {
        let (from, to) = self.ranges.front()?.clone();
        let scan = Scan {
            keyspace: REGISTERS,
            from,
            to,
            limit: self.room,
        };
        Some(request(Command::Scan(scan), level, self.seen.clone()))
    }

    /// Goes on behind the rows shown; whether that is the next page.
    fn went_on(&mut self, rows: &[ScannedRow], next: Option<&Bytes>, seen: &Context) -> bool {
        self.seen.join(seen);
        match (next, self.ranges.front_mut()) {
            (Some(next), Some((from, _))) => from.clone_from(next),
            _ => drop(self.ranges.pop_front()),
        }
        self.room = self.room.saturating_sub(rows.len());
        let full = self.room == 0;
        if full {
            self.room = self.page;
        }
        full
    }
}

/// A read under a session's context, or under none.
fn request(command: Command, level: Level, context: Context) -> Request {
    Request {
        command,
        level,
        context,
        request_id: None,
        retry_of: None,
        ack_regions: 0,
        deadline: Duration::ZERO,
    }
}

/// Adds a further reply to the sum. Of what was asked side by side the longest way counts.
fn add(sum: &mut Reply, part: &Reply, side_by_side: bool) {
    let (trips, more) = (
        &mut sum.receipt.wan_round_trips,
        part.receipt.wan_round_trips,
    );
    *trips = match side_by_side {
        true => more.max(*trips),
        false => trips.saturating_add(more),
    };
    sum.join(part);
}

fn held(found: &Found, etag: &Bytes) -> Held {
    let value = match found {
        Found::Value(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
        Found::Nothing | Found::Member | Found::Total(_) => None,
    };
    Held {
        value,
        etag: client::etag(etag),
    }
}

/// The `KEYSPACE/KEY` of a row; of an element, that of its set.
pub(super) fn key_of(row: &Row) -> Option<String> {
    let parts = row.parts()?;
    let space = match row.shard().keyspace {
        client::COUNTERS => workload::COUNTERS,
        client::SETS => workload::SETS,
        _ => workload::REGISTERS,
    };
    let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
    let (partition, sort) = (text(&parts.partition), text(&parts.sort));
    let behind = if sort.is_empty() { "" } else { "/" };
    Some(format!("{space}/{partition}{behind}{sort}"))
}

#[cfg(test)]
mod tests;
