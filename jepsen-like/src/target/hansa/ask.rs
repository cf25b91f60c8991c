//! How calls of the SDK are asked, and what their answers are in a history.

use std::time::{Duration, Instant};

use hansa_client::{
    Applied, Bytes, Call, Consistency, Contained, Error, Etag, Expect, Got, Members, Receipt,
    Written,
};

use super::receipt;
use crate::history::{self, Datum, Level, Membership, Record, Status};

/// Elements in a page of a set. Less than a set has, so that a whole one takes several.
const PAGE: u32 = 2;

/// The shortest time that a page of a set is given, when the deadline has passed while earlier ones came.
const SHORTEST: Duration = Duration::from_millis(1);

/// What a reply says, for the history.
pub(super) struct Answer {
    value: Option<Datum>,
    etag: Option<String>,
    receipt: Receipt,
}

/// How to ask.
pub(super) struct How {
    pub(super) level: Consistency,
    /// All attempts, and all pages, together.
    pub(super) deadline: Duration,
    pub(super) ack_regions: u8,
}

impl How {
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

    /// Every page of a set.
    ///
    /// # Errors
    /// That of the first page that fails.
    pub(super) async fn all(&self, call: Call<Members>) -> Result<Answer, Error> {
        let end = Instant::now() + self.deadline;
        let mut call = call.level(self.level).page_size(PAGE);
        let mut elements = Vec::new();
        let mut joined: Option<Receipt> = None;
        loop {
            let left = end.saturating_duration_since(Instant::now()).max(SHORTEST);
            let page = call.clone().deadline(left).await?;
            elements.extend(page.elements.iter().map(|element| text(element)));
            let receipt = match joined.take() {
                Some(before) => receipt::join(before, page.receipt),
                None => page.receipt,
            };
            if page.next.is_empty() {
                return Ok(Answer {
                    value: Some(Datum::Members(elements)),
                    etag: None,
                    receipt,
                });
            }
            joined = Some(receipt);
            call = call.page_token(page.next);
        }
    }
}

/// Writes an outcome into a record.
pub(super) fn finish(record: &mut Record, outcome: Result<Answer, Error>) {
    match outcome {
        Ok(answer) => {
            record.status = Status::Ok;
            record.value = answer.value.or(record.value.take());
            record.etag = answer.etag;
            record.receipt = Some(receipt::json(&answer.receipt));
        }
        Err(error) => {
            record.status = match error.applied() {
                Applied::No => Status::Fail,
                Applied::Maybe => Status::Info,
            };
            record.error = Some(error.reason().to_owned());
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
    }
}

pub(super) fn total(it: Got) -> Answer {
    Answer {
        // A counter that nobody wrote is at zero.
        value: Some(Datum::Integer(it.total().unwrap_or(0))),
        etag: None,
        receipt: it.receipt,
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
    }
}
