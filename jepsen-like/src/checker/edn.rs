//! Histories for checkers that we did not write: as EDN, the way Jepsen's tools read them.
//!
//! Every operation is two maps, its invocation and its completion, in order of time. What Jepsen asks beyond our
//! format is done here: the attempts of one request are one operation, and a process whose operation has an unknown
//! outcome goes on under a new number. `docs/history-format.md` describes the maps.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::{self, Write};

use super::index::{self, KeyIndex, Operation, Outcome, Writers};
use super::spread::Spread;
use crate::history::events::FaultEvent;
use crate::history::{Datum, Expect, History, Level, Op, Record};

/// Processes of a history are below this; those that read the further keys of a read of several are above.
const PROCESSES: u64 = 1 << 32;

/// Why a history could not be written as EDN.
#[derive(Debug, thiserror::Error)]
pub enum EdnError {
    /// The writer failed.
    #[error("edn: {0}")]
    Io(#[from] io::Error),
    /// A process began something before it had ended what it did: Jepsen's tools refuse that.
    #[error("edn: line {line} begins before its process ended the operation before; see `check`")]
    Busy {
        /// Number of the line, from 1.
        line: usize,
    },
}

/// Writes a history as EDN, one map a line; of one key only, if there is one given. Returns how many maps.
///
/// Operations on keys and, if all keys are written, nemesis lines; final reads, digests and usage are left out, and so
/// are reads of several keys that did not succeed. One that did is a read of each key, each by a process of its own.
///
/// # Errors
/// When the writer fails, and when a process does two things at once.
pub fn write(history: &History, key: Option<&str>, out: impl Write) -> Result<usize, EdnError> {
    let Some(mut spread) = Spread::of(history) else {
        return write_keys(history, key, out);
    };
    let mut before = None;
    let mut place = 0;
    for (record, &line) in spread.history.records.iter_mut().zip(&spread.origin) {
        place = if before == Some(line) { place + 1 } else { 0 };
        before = Some(line);
        record.process += place * PROCESSES;
    }
    write_keys(&spread.history, key, out).map_err(|error| match error {
        EdnError::Busy { line } => EdnError::Busy {
            line: spread.origin[line - 1] + 1,
        },
        other => other,
    })
}

fn write_keys(history: &History, key: Option<&str>, out: impl Write) -> Result<usize, EdnError> {
    let mut keys = index::by_key(history);
    keys.retain(|index| key.is_none_or(|key| key == index.key));
    let mut moments = Vec::new();
    let mut threads = Threads::of(&keys);
    let calls: Vec<Call<'_>> = keys
        .iter()
        .flat_map(|index| Call::of_key(history, index, &mut threads))
        .collect();
    for (at, call) in calls.iter().enumerate() {
        moments.push((call.invoke, 0, call.line, Event::Invoke(at)));
        moments.push((call.complete, 1, call.line, Event::Complete(at)));
    }
    for (line, record) in history.records.iter().enumerate() {
        if record.op == Op::Nemesis && key.is_none() {
            let end = record.complete_ns.unwrap_or(record.invoke_ns);
            for (time, rank) in [(record.invoke_ns, 0), (end, 1)] {
                moments.push((time, rank, line, Event::Nemesis(record)));
            }
        }
    }
    // Of equal times invocations stand first: such operations are concurrent.
    moments.sort_by_key(|(time, rank, line, _)| (*time, *rank, *line));
    let last = moments.iter().map(|(time, ..)| *time);
    let last = last.filter(|time| *time != u64::MAX).max().unwrap_or(0);
    let mut out = io::BufWriter::new(out);
    let count = moments.len();
    for (index, (time, _, _, event)) in moments.into_iter().enumerate() {
        let time = time.min(last);
        let text = match event {
            Event::Nemesis(record) => nemesis(record, time, index),
            Event::Invoke(at) => {
                let call = &calls[at];
                let process = threads.invoke(call)?;
                call.map("invoke", &call.asked, process, time, index)
            }
            Event::Complete(at) => {
                let call = &calls[at];
                let process = threads.complete(call);
                let (kind, value) = call.completion();
                call.map(kind, value, process, time, index)
            }
        };
        writeln!(out, "{text}")?;
    }
    out.flush()?;
    Ok(count)
}

enum Event<'h> {
    Invoke(usize),
    Complete(usize),
    Nemesis(&'h Record),
}

/// Who runs what: a thread runs one call at a time, under a number that changes after an unknown outcome.
struct Threads {
    /// By process of our format.
    of_process: BTreeMap<u64, usize>,
    /// The number of each, and whether it has a call under way.
    now: Vec<(usize, bool)>,
}

impl Threads {
    fn of(keys: &[KeyIndex<'_>]) -> Self {
        let all = keys.iter().flat_map(|key| &key.operations);
        let alone = all.filter(|operation| operation.lines.len() == 1);
        let processes: BTreeSet<u64> = alone.map(|operation| operation.record.process).collect();
        let of_process: BTreeMap<u64, usize> = processes.into_iter().zip(0..).collect();
        Self {
            now: (0..of_process.len())
                .map(|number| (number, false))
                .collect(),
            of_process,
        }
    }

    /// The thread of an operation. One that was repeated has a thread of its own: its process may have done something
    /// else in between.
    fn take(&mut self, operation: &Operation<'_>) -> usize {
        if operation.lines.len() == 1
            && let Some(thread) = self.of_process.get(&operation.record.process)
        {
            return *thread;
        }
        self.now.push((self.now.len(), false));
        self.now.len() - 1
    }

    fn invoke(&mut self, call: &Call<'_>) -> Result<usize, EdnError> {
        let (number, busy) = &mut self.now[call.thread];
        match std::mem::replace(busy, true) {
            true => Err(EdnError::Busy {
                line: call.line + 1,
            }),
            false => Ok(*number),
        }
    }

    fn complete(&mut self, call: &Call<'_>) -> usize {
        let threads = self.now.len();
        let (number, busy) = &mut self.now[call.thread];
        *busy = false;
        let process = *number;
        if call.outcome == Outcome::Unknown {
            *number += threads;
        }
        process
    }
}

/// One operation of the export.
struct Call<'h> {
    line: usize,
    thread: usize,
    key: &'h str,
    record: &'h Record,
    outcome: Outcome,
    invoke: u64,
    /// `u64::MAX`: after everything else.
    complete: u64,
    function: &'static str,
    /// The value as it was asked, and as it was answered.
    asked: String,
    answered: String,
}

impl<'h> Call<'h> {
    fn of_key(history: &'h History, key: &KeyIndex<'h>, threads: &mut Threads) -> Vec<Call<'h>> {
        let writers = Writers::of(&key.operations);
        let calls = key.operations.iter().map(|operation| {
            let (function, asked, answered) = shape(key, &writers, operation.record);
            let complete = match operation.outcome {
                // The client gave up, but only its last attempt says when.
                Outcome::Unknown => {
                    let ends = operation.lines.iter();
                    let ends = ends.map(|&line| history.records[line].complete_ns);
                    ends.map(|end| end.unwrap_or(u64::MAX)).max()
                }
                _ => Some(operation.complete),
            };
            Call {
                line: operation.lines[0],
                thread: threads.take(operation),
                key: key.key,
                record: operation.record,
                outcome: operation.outcome,
                invoke: operation.invoke,
                complete: complete.unwrap_or(u64::MAX),
                function,
                asked,
                answered,
            }
        });
        calls.collect()
    }

    fn completion(&self) -> (&'static str, &str) {
        match self.outcome {
            Outcome::Ok => ("ok", &self.answered),
            Outcome::Refused | Outcome::Failed => ("fail", &self.asked),
            Outcome::Unknown => ("info", &self.asked),
        }
    }

    fn map(&self, kind: &str, value: &str, process: usize, time: u64, index: usize) -> String {
        let mut text = format!(
            "{{:type :{kind}, :f :{}, :key {}, :value {value}, :process {process}, :time {time}, :index {index}",
            self.function,
            quote(self.key)
        );
        if let Some(level) = self.record.level {
            text += match level {
                Level::Eventual => ", :level :eventual",
                Level::Session => ", :level :session",
                Level::Strong => ", :level :strong",
            };
        }
        for (name, part) in [("region", &self.record.region), ("node", &self.record.node)] {
            if let Some(part) = part {
                text += &format!(", :{name} {}", quote(part));
            }
        }
        if let Some(error) = self.record.error.as_deref().filter(|_| kind != "invoke") {
            text += &format!(", :error {}", quote(error));
        }
        text + "}"
    }
}

/// The function of an operation, its value as asked and its value as answered.
fn shape(
    key: &KeyIndex<'_>,
    writers: &Writers<'_>,
    record: &Record,
) -> (&'static str, String, String) {
    let text = || record.text().map_or_else(nil, quote);
    let both = |function, value: String| (function, value.clone(), value);
    match (record.op, &record.value) {
        (Op::Put, _) => both("write", text()),
        (Op::Delete, _) => both("write", nil()),
        (Op::Cas, Some(Datum::Swap(swap))) => {
            let old = match &swap.expect {
                Expect::Absent => nil(),
                Expect::Value(value) => quote(value),
                Expect::Etag(version) => match writers.by_version.get(version.as_str()) {
                    Some(&at) => key.operations[at].record.stores().map_or_else(nil, quote),
                    None => format!("{{:etag {}}}", quote(version)),
                },
            };
            both("cas", format!("[{old} {}]", quote(&swap.new)))
        }
        (Op::Incr, Some(Datum::Integer(amount))) => both("add", amount.to_string()),
        (Op::Add, _) => both("add", text()),
        (Op::Remove, _) => both("remove", text()),
        (Op::Contains, Some(Datum::Membership(asked))) => {
            let element = quote(&asked.element);
            let present = asked
                .present
                .map_or_else(nil, |present| present.to_string());
            (
                "contains",
                format!("[{element} nil]"),
                format!("[{element} {present}]"),
            )
        }
        (Op::Read, Some(Datum::Integer(total))) => ("read", nil(), total.to_string()),
        (Op::Members, Some(Datum::Members(members))) => {
            let members: BTreeSet<String> = members.iter().map(|member| quote(member)).collect();
            let members: Vec<String> = members.into_iter().collect();
            ("read", nil(), format!("#{{{}}}", members.join(" ")))
        }
        _ => ("read", nil(), text()),
    }
}

fn nil() -> String {
    "nil".to_owned()
}

fn nemesis(record: &Record, time: u64, index: usize) -> String {
    let event = FaultEvent::of(record).ok().flatten();
    let named = event.as_ref().map_or("", |event| &event.nemesis);
    let keyword = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let function =
        match named.starts_with(|c: char| c.is_ascii_lowercase()) && named.chars().all(keyword) {
            true => named,
            false => "fault",
        };
    let said = match &record.value {
        Some(Datum::Text(text)) => quote(text),
        // Values are plain data, and always have a form as JSON.
        Some(value) => quote(&serde_json::to_string(value).unwrap_or_default()),
        None => nil(),
    };
    format!(
        "{{:type :info, :f :{function}, :value {said}, :process :nemesis, :time {time}, :index {index}}}"
    )
}

/// A string of EDN.
fn quote(text: &str) -> String {
    let mut quoted = String::from('"');
    for c in text.chars() {
        match c {
            '"' => quoted += "\\\"",
            '\\' => quoted += "\\\\",
            '\n' => quoted += "\\n",
            '\r' => quoted += "\\r",
            '\t' => quoted += "\\t",
            // Writing into a string cannot fail.
            c if c.is_control() => drop(write!(quoted, "\\u{:04x}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted + "\""
}

#[cfg(test)]
mod tests;
