//! The history of a run: one JSON line per client operation and per nemesis event.
//!
//! `docs/history-format.md` describes the format for people who write or judge histories with other tools; the types
//! here are that page in Rust. The format only grows: a reader keeps fields that it does not know, and refuses an
//! operation, level or status that it does not know, because a checker that skips what it cannot read proves nothing.

use std::collections::BTreeMap;
use std::io::{self, BufRead, Write};

use serde::{Deserialize, Serialize};

pub mod events;
#[cfg(test)]
mod tests;

/// The error text of a compare-and-set whose condition did not hold. Such an operation has status
/// [`Status::Fail`] (it changed nothing) and is still a read: `etag` is the version that it found.
pub const CONDITION_FAILED: &str = "CONDITION_FAILED";

/// The error text of an acknowledged write that only a destroyed disk held, which it may lose. Such an operation has
/// status [`Status::Info`].
pub const DISK_LOST: &str = "DISK_LOST";

/// The error text of a scan that showed a row more than once; its status is [`Status::Ok`] all the same. The value has
/// what it showed first.
pub const ROW_TWICE: &str = "ROW_TWICE";

/// What a line of the history records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Op {
    /// Register: blind write of `value` (text, unique for its key).
    Put,
    /// Register: read. `value` is the text found, omitted when nothing was found.
    Get,
    /// Register: delete.
    Delete,
    /// Register: compare-and-set; `value` is a [`Swap`].
    Cas,
    /// Registers: read several in one call. `key` is the keyspace with a slash, `value` names the keys and, once
    /// answered, what each holds. Each is read for itself.
    BatchGet,
    /// Registers: read whatever is there of the keys that begin with `key`, in pages. `value` is what was found; a key
    /// that it does not name showed nothing.
    Scan,
    /// Counter: add `value` (an integer).
    Incr,
    /// Counter: read; `value` is the integer found.
    Read,
    /// Set: add the element `value` (text).
    Add,
    /// Set: remove the element `value` (text).
    Remove,
    /// Set: ask for one element; `value` is a [`Membership`].
    Contains,
    /// Set: read the whole set; `value` is the list of elements.
    Members,
    /// The state of `key` as `region` shows it after everything healed and drained; `value` as the type's read
    /// returns it (text or nothing, integer, list).
    Final,
    /// The digest (`value`, text) of the data that `key` names (a shard or a keyspace), as `node` reports it.
    Digest,
    /// A fault began, changed or ended; `value` is a structured one (see `docs/history-format.md`) or text for people.
    Nemesis,
    /// What `node` uses; `value` has `memory`, `disk` (bytes) and `files`.
    Usage,
}

impl Op {
    /// Whether the operation can change data.
    #[must_use]
    pub fn is_write(self) -> bool {
        matches!(
            self,
            Self::Put | Self::Delete | Self::Cas | Self::Incr | Self::Add | Self::Remove
        )
    }

    /// Whether a client of the workload issued it (not a final read, a digest, a fault or a measurement).
    #[must_use]
    pub fn is_client(self) -> bool {
        !matches!(
            self,
            Self::Final | Self::Digest | Self::Nemesis | Self::Usage
        )
    }

    /// Whether it reads several keys, so that its `key` is none itself.
    #[must_use]
    pub fn is_several(self) -> bool {
        matches!(self, Self::BatchGet | Self::Scan)
    }
}

/// The consistency level that the client asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Served by the local region at once.
    Eventual,
    /// Eventual, plus what the session's token names.
    Session,
    /// Linearizable per key.
    Strong,
}

/// How an operation ended, as far as the client can know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// The server said yes: it took effect.
    Ok,
    /// The server said no: it did not take effect and never will.
    Fail,
    /// Nobody knows: it took effect, or will at any later time, or never.
    Info,
}

/// The argument of a compare-and-set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Swap {
    /// What must be there.
    pub expect: Expect,
    /// The value to store then; unique for its key like that of a put.
    pub new: String,
}

/// The condition of a compare-and-set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Expect {
    /// Nothing is stored (never written, or deleted).
    Absent,
    /// Exactly this value is stored.
    Value(String),
    /// Exactly this version is stored.
    Etag(String),
}

/// The argument and the answer of [`Op::Contains`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Membership {
    /// The element asked for.
    pub element: String,
    /// The answer; omitted unless the status is ok.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub present: Option<bool>,
}

/// What one of several registers held.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<String, String>")]
pub struct Held {
    /// The text found; omitted if nothing was found, or nothing was answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// Its version, where the reply has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
}

/// By way of a map, because a list would pass as a struct, too, and other values have lists.
impl TryFrom<BTreeMap<String, String>> for Held {
    type Error = String;

    fn try_from(mut fields: BTreeMap<String, String>) -> Result<Self, String> {
        let (value, etag) = (fields.remove("value"), fields.remove("etag"));
        match fields.pop_first() {
            None => Ok(Self { value, etag }),
            Some((other, _)) => Err(format!("a row has a value and an etag, no {other}")),
        }
    }
}

/// The `value` of a line: the argument of a write, the answer of a read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Datum {
    /// Amount or total of a counter.
    Integer(i64),
    /// Value of a register, element of a set, digest.
    Text(String),
    /// Elements of a set, in any order.
    Members(Vec<String>),
    /// Argument of a compare-and-set.
    Swap(Swap),
    /// Argument and answer of a membership question.
    Membership(Membership),
    /// Argument and answer of a read of several registers, by `KEYSPACE/KEY`.
    Rows(BTreeMap<String, Held>),
    /// Anything else; only nemesis events and measurements use it.
    Json(serde_json::Value),
}

/// One line of a history. Optional fields are omitted when empty.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Name of the run; the same on all its lines.
    pub run: String,
    /// Seed of the run's generator.
    pub seed: u64,
    /// The logical client: it has one operation in flight at a time.
    pub process: u64,
    /// The session whose token the operation carried. A token exported and resumed elsewhere keeps its session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// Region that was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Node that was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// What was done.
    pub op: Op,
    /// `KEYSPACE/KEY`, or what a read of several keys names them by; present for everything but nemesis events and
    /// measurements.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Argument of a write, answer of a read; see [`Op`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Datum>,
    /// Level asked for; present for every client operation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<Level>,
    /// Regions beyond the one asked that must have a write durably before the reply; omitted when none were asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ack_regions: Option<u8>,
    /// Nanoseconds since the run began, on one clock for all processes, just before the request left.
    pub invoke_ns: u64,
    /// The same clock just after the reply came, or after the client gave up. Omitted if neither happened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub complete_ns: Option<u64>,
    /// How it ended.
    pub status: Status,
    /// Stable reason of a failure or of an unknown outcome.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Version in the reply. For registers its text order is the order of winning: greater is later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// Dot that a write got, where the reply names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dot: Option<String>,
    /// Dots or versions that the reply proves to have seen, where it names them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub seen: Vec<String>,
    /// Session token sent, opaque.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_in: Option<String>,
    /// Session token received, opaque.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_out: Option<String>,
    /// Request id. Lines with the same one are attempts of one operation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// The receipt as the client got it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipt: Option<serde_json::Value>,
    /// Fields that this version does not know, kept so that rewriting a history loses nothing.
    #[serde(flatten)]
    pub extra: BTreeMap<String, serde_json::Value>,
}

impl Record {
    /// An operation that was just invoked: status info, no answer yet. The caller fills in the rest.
    #[must_use]
    pub fn invoked(process: u64, op: Op, key: &str, level: Level, invoke_ns: u64) -> Self {
        Self {
            key: Some(key.to_owned()),
            level: Some(level),
            ..Self::event(process, op, invoke_ns)
        }
    }

    /// A line without key and level: a nemesis event, a measurement, or the start of a final read or a digest.
    #[must_use]
    pub fn event(process: u64, op: Op, invoke_ns: u64) -> Self {
        Self {
            run: String::new(),
            seed: 0,
            process,
            session: None,
            region: None,
            node: None,
            op,
            key: None,
            value: None,
            level: None,
            ack_regions: None,
            invoke_ns,
            complete_ns: None,
            status: Status::Info,
            error: None,
            etag: None,
            dot: None,
            seen: Vec::new(),
            token_in: None,
            token_out: None,
            request_id: None,
            receipt: None,
            extra: BTreeMap::new(),
        }
    }

    /// Whether this is a compare-and-set whose condition did not hold.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        self.op == Op::Cas
            && self.status == Status::Fail
            && self.error.as_deref() == Some(CONDITION_FAILED)
    }

    /// The value's text, if it is text.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Some(Datum::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// The value's integer, if it is one.
    #[must_use]
    pub fn integer(&self) -> Option<i64> {
        match &self.value {
            Some(Datum::Integer(number)) => Some(*number),
            _ => None,
        }
    }

    /// The compare-and-set's argument, if there is one.
    #[must_use]
    pub fn swap(&self) -> Option<&Swap> {
        match &self.value {
            Some(Datum::Swap(swap)) => Some(swap),
            _ => None,
        }
    }

    /// The elements, if the value is a list.
    #[must_use]
    pub fn members(&self) -> Option<&[String]> {
        match &self.value {
            Some(Datum::Members(members)) => Some(members),
            _ => None,
        }
    }

    /// The registers that a read of several names, if the value is such.
    #[must_use]
    pub fn rows(&self) -> Option<&BTreeMap<String, Held>> {
        match &self.value {
            Some(Datum::Rows(rows)) => Some(rows),
            _ => None,
        }
    }

    /// Whether the operation is about this `KEYSPACE/KEY`, alone or among others.
    #[must_use]
    pub fn tells_of(&self, key: &str) -> bool {
        match (self.op, self.key.as_deref()) {
            (Op::BatchGet, _) => self.rows().is_some_and(|rows| rows.contains_key(key)),
            (Op::Scan, Some(start)) => key.starts_with(start),
            (_, own) => own == Some(key),
        }
    }

    /// The register value that this write stores: that of a put, the new one of a compare-and-set.
    #[must_use]
    pub fn stores(&self) -> Option<&str> {
        match self.op {
            Op::Put => self.text(),
            Op::Cas => self.swap().map(|swap| swap.new.as_str()),
            _ => None,
        }
    }

    /// One line of text for people.
    #[must_use]
    pub fn describe(&self) -> String {
        let name = |value: &dyn Fn() -> Result<String, serde_json::Error>| {
            value().map_or_else(|_| "?".to_owned(), |text| text.trim_matches('"').to_owned())
        };
        let mut line = format!("process {} ", self.process);
        if let Some(session) = &self.session {
            line += &format!("session {session} ");
        }
        if let Some(level) = self.level {
            line += &format!("{} ", name(&|| serde_json::to_string(&level)));
        }
        line += &name(&|| serde_json::to_string(&self.op));
        for part in [self.key.as_deref(), self.region.as_deref()]
            .into_iter()
            .flatten()
        {
            line += &format!(" {part}");
        }
        match &self.value {
            Some(value) => line += &format!(" {}", name(&|| serde_json::to_string(value))),
            None if self.op == Op::Get => line += " nothing",
            None => {}
        }
        let end = self
            .complete_ns
            .map_or_else(|| "?".to_owned(), |end| end.to_string());
        line += &format!(
            " [{}..{end}] {}",
            self.invoke_ns,
            name(&|| serde_json::to_string(&self.status))
        );
        for (label, part) in [("", &self.error), ("etag ", &self.etag)] {
            if let Some(part) = part {
                line += &format!(" {label}{part}");
            }
        }
        line
    }
}

/// A whole history. Positions in `records` name operations in verdicts; in a file they are line numbers less one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    /// The lines, in the order they were written; checkers go by the times in them.
    pub records: Vec<Record>,
}

/// Why a history could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The file could not be read or written.
    #[error("history: {0}")]
    Io(#[from] io::Error),
    /// A line is not what the format says.
    #[error("history line {line}: {source}")]
    Line {
        /// Number of the line, from 1.
        line: usize,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

impl History {
    /// Reads a history to its end. Empty lines are skipped.
    ///
    /// # Errors
    /// The first line that cannot be read ends it, a cut last line included.
    pub fn read(reader: impl BufRead) -> Result<Self, HistoryError> {
        let mut records = Vec::new();
        for (index, line) in reader.lines().enumerate() {
            let line = line?;
            if line.trim().is_empty() {
                continue;
            }
            let record = serde_json::from_str(&line).map_err(|source| HistoryError::Line {
                line: index + 1,
                source,
            })?;
            records.push(record);
        }
        Ok(Self { records })
    }

    /// Writes every record as a line.
    ///
    /// # Errors
    /// What the writer returns.
    pub fn write(&self, writer: impl Write) -> Result<(), HistoryError> {
        let mut writer = HistoryWriter::new(writer);
        for record in &self.records {
            writer.append(record)?;
        }
        writer.finish()?;
        Ok(())
    }
}

/// Writes a history line by line while the run goes on. Lines may stand in any order. Nothing is synced to disk.
#[derive(Debug)]
pub struct HistoryWriter<W: Write> {
    out: io::BufWriter<W>,
}

impl<W: Write> HistoryWriter<W> {
    /// A writer over `out`; it buffers by itself.
    pub fn new(out: W) -> Self {
        Self {
            out: io::BufWriter::new(out),
        }
    }

    /// Appends one line.
    ///
    /// # Errors
    /// What the writer below returns.
    pub fn append(&mut self, record: &Record) -> Result<(), HistoryError> {
        serde_json::to_writer(&mut self.out, record).map_err(io::Error::from)?;
        self.out.write_all(b"\n")?;
        Ok(())
    }

    /// Flushes what is buffered and gives the writer below back.
    ///
    /// # Errors
    /// What the writer below returns.
    pub fn finish(self) -> Result<W, HistoryError> {
        Ok(self
            .out
            .into_inner()
            .map_err(io::IntoInnerError::into_error)?)
    }
}
