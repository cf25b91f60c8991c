//! How calls of the SDK are asked, and what their answers are in a history.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hansa_client::{
    Applied, Batch, Bytes, Call, Consistency, Contained, Error, Etag, Expect, Got, Key, Members,
    Page, Paged, Receipt, Row, Unfinished, Value, Written,
};
use serde_json::json;

use crate::history::{self, Datum, Held, Level, Membership, ROW_TWICE, Record, Status};
use crate::workload::{split_key, split_row};

/// Elements in a page of a set, and rows in one of a register key. Less than there are, so that a whole one takes
/// several.
const PAGE: u32 = 2;
/// Rows in a page of a whole keyspace.
const WHOLE_PAGE: u32 = 100;

/// The shortest time that a page is given, when the deadline has passed while earlier ones came.
const SHORTEST: Duration = Duration::from_millis(1);

/// What a reply says, for the history.
pub(super) struct Answer {
    value: Option<Datum>,
    etag: Option<String>,
    receipt: Receipt,
    /// What is wrong with it although it succeeded.
    error: Option<&'static str>,
}

/// What a write is named by.
pub(super) enum Naming<'a> {
    /// A request id of its own.
    Fresh,
    /// No request id.
    Without,
    /// That of an earlier call whose outcome is unknown.
    Again(&'a Unfinished),
}

/// How to ask.
pub(super) struct How<'a> {
    pub(super) level: Consistency,
    /// All attempts, and all pages, together.
    pub(super) deadline: Duration,
    pub(super) ack_regions: u8,
    /// Of writes only.
    pub(super) naming: Naming<'a>,
}

impl How<'_> {
    /// One call.
    ///
    /// # Errors
    /// Those of the call.
    pub(super) async fn ask<R: 'static>(
        &self,
        call: Call<R>,
        answer: impl FnOnce(R) -> Answer,
    ) -> Result<Answer, Error> {
        let call = call.level(self.level).deadline(self.deadline);
        call.ack_regions(self.ack_regions).await.map(answer)
    }

    /// One write.
    ///
    /// # Errors
    /// Those of the call.
    pub(super) async fn write(
        &self,
        call: Call<Written>,
        answer: impl FnOnce(Written) -> Answer,
    ) -> Result<Answer, Error> {
        let call = match self.naming {
            Naming::Fresh => call,
            Naming::Without => call.without_request_id(),
            Naming::Again(before) => call.repeat(before),
        };
        self.ask(call, answer).await
    }

    /// Every page of a set.
    ///
    /// # Errors
    /// That of the first page that fails.
    pub(super) async fn all(&self, call: Call<Members>) -> Result<Answer, Error> {
        let mut elements = Vec::new();
        let receipt = self.pages(call.page_size(PAGE), |page| {
            elements.extend(page.elements.iter().map(|element| text(element)));
            page.receipt
        });
        Ok(Answer {
            receipt: receipt.await?,
            value: Some(Datum::Members(elements)),
            etag: None,
            error: None,
        })
    }

    /// Every page of a scan; of its rows those whose key begins with `start`.
    ///
    /// # Errors
    /// That of the first page that fails.
    pub(super) async fn scan(&self, call: Call<Page>, start: &str) -> Result<Answer, Error> {
        let (space, name) = split_key(start);
        let page = if name.contains('/') { PAGE } else { WHOLE_PAGE };
        let mut rows = BTreeMap::new();
        let mut twice = false;
        let receipt = self.pages(call.page_size(page), |page| {
            for row in &page.rows {
                let (key, held) = listed(space, row);
                if key.starts_with(start) {
                    twice |= rows.contains_key(&key);
                    rows.entry(key).or_insert(held);
                }
            }
            page.receipt
        });
        Ok(Answer {
            receipt: receipt.await?,
            value: Some(Datum::Rows(rows)),
            etag: None,
            error: twice.then_some(ROW_TWICE),
        })
    }

    /// Asks for page after page. What all are worth together.
    async fn pages<R: Paged>(
        &self,
        call: Call<R>,
        mut take: impl FnMut(R) -> Receipt,
    ) -> Result<Receipt, Error> {
        let end = Instant::now() + self.deadline;
        let mut call = call.level(self.level);
        let mut sum: Option<Receipt> = None;
        loop {
            let left = end.saturating_duration_since(Instant::now()).max(SHORTEST);
            let page = call.clone().deadline(left).await?;
            let next = page.next().clone();
            let receipt = take(page);
            let receipt = match sum {
                Some(before) => before.join(receipt),
                None => receipt,
            };
            if next.is_empty() {
                return Ok(receipt);
            }
            sum = Some(receipt);
            call = call.page_token(next);
        }
    }
}

/// A bare key as the SDK has it.
pub(super) fn key_of(name: &str) -> Key {
    Key::from(split_row(name))
}

/// The `KEYSPACE/KEY` of a scanned row, and what it holds.
fn listed(space: &str, row: &Row) -> (String, Held) {
    let (partition, sort) = (text(&row.key.partition), text(&row.key.sort));
    let behind = if sort.is_empty() { "" } else { "/" };
    let held = held(Some(&row.value), &row.etag);
    (format!("{space}/{partition}{behind}{sort}"), held)
}

fn held(value: Option<&Value>, etag: &Etag) -> Held {
    let value = match value {
        Some(Value::Bytes(bytes)) => Some(text(bytes)),
        Some(Value::Total(_) | Value::Member) | None => None,
    };
    let etag = version(etag);
    Held { value, etag }
}

/// The rows of a batch, of the keys that were asked for.
pub(super) fn batch(asked: &BTreeMap<String, Held>, it: Batch) -> Answer {
    let rows = it.rows.iter();
    let rows = rows.map(|found| held(found.value.as_ref(), &found.etag));
    Answer {
        value: Some(Datum::Rows(asked.keys().cloned().zip(rows).collect())),
        etag: None,
        receipt: it.receipt,
        error: None,
    }
}

/// Writes an outcome into a record.
pub(super) fn finish(record: &mut Record, outcome: Result<Answer, Error>) {
    match outcome {
        Ok(answer) => {
            record.status = Status::Ok;
            record.value = answer.value.or(record.value.take());
            record.etag = answer.etag;
            record.error = answer.error.map(str::to_owned);
            record.request_id = answer.receipt.request_id.map(|id| id.to_string());
            record.receipt = Some(json!(answer.receipt));
        }
        Err(error) => {
            record.status = match error.applied() {
                Applied::No => Status::Fail,
                Applied::Maybe => Status::Info,
            };
            record.error = Some(error.reason().to_owned());
            record.request_id = error.request_id().map(|id| id.to_string());
            record.etag = error.etag().map(ToString::to_string);
        }
    }
}

pub(super) fn level(level: Level) -> Consistency {
    match level {
        Level::Eventual => Consistency::Eventual,
        Level::Session => Consistency::Session,
        Level::Strong => Consistency::Strong,
    }
}

/// A condition as the SDK takes it. A version that is none is asked for as one that no row has.
pub(super) fn wanted(expect: &history::Expect) -> Expect {
    match expect {
        history::Expect::Absent => Expect::Absent,
        history::Expect::Value(value) => Expect::Value(Bytes::from(value.clone())),
        history::Expect::Etag(etag) => {
            let nobodys = Etag(Bytes::from_static(b"?"));
            Expect::Etag(etag.parse().unwrap_or(nobodys))
        }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn version(etag: &Etag) -> Option<String> {
    (!etag.is_empty()).then(|| etag.to_string())
}

pub(super) fn written(it: Written) -> Answer {
    Answer {
        value: None,
        etag: version(&it.etag),
        receipt: it.receipt,
        error: None,
    }
}

/// Counters and sets have no versions that a history wants.
pub(super) fn counted(it: Written) -> Answer {
    Answer {
        etag: None,
        ..written(it)
    }
}

pub(super) fn got(it: Got) -> Answer {
    Answer {
        value: it.bytes().map(|bytes| Datum::Text(text(bytes))),
        etag: version(&it.found.etag),
        receipt: it.receipt,
        error: None,
    }
}

pub(super) fn total(it: Got) -> Answer {
    Answer {
        // A counter that nobody wrote is at zero.
        value: Some(Datum::Integer(it.total().unwrap_or(0))),
        etag: None,
        receipt: it.receipt,
        error: None,
    }
}

pub(super) fn contained(element: &str, it: Contained) -> Answer {
    let answer = Membership {
        element: element.to_owned(),
        present: Some(it.member),
    };
    Answer {
        value: Some(Datum::Membership(answer)),
        etag: None,
        receipt: it.receipt,
        error: None,
    }
}
