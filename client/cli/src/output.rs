//! What reaches the terminal, a pipe or a program.

use std::env;
use std::io::{self, IsTerminal as _, Write as _};

use clap::ValueEnum;
use comfy_table::Table;
use comfy_table::presets::NOTHING;
use hansa_client::{Receipt, Value};
use serde_json::{Map, Value as Json, json};

use crate::exit::Failure;
use crate::hint::next_step;
use crate::text::{Encoding, to_base64};

/// Output formats.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Format {
    /// For people
    Table,
    /// One JSON value over several lines
    Json,
    /// One JSON value in a line
    Jsonl,
}

/// How to print.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Style {
    /// For people, aligned.
    Table,
    /// Bytes as they are, fields separated by tabs.
    Plain,
    Json,
    Jsonl,
}

/// Where a command prints to and how.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    pub(crate) style: Style,
}

impl Output {
    /// A table on a terminal, plain text otherwise, unless a format was asked for.
    pub(crate) fn new(asked: Option<Format>) -> Output {
        let style = match asked {
            Some(Format::Table) => Style::Table,
            Some(Format::Json) => Style::Json,
            Some(Format::Jsonl) => Style::Jsonl,
            None if io::stdout().is_terminal() => Style::Table,
            None => Style::Plain,
        };
        Output { style }
    }

    pub(crate) fn is_json(self) -> bool {
        matches!(self.style, Style::Json | Style::Jsonl)
    }

    /// One JSON value, in the chosen form.
    pub(crate) fn json(self, value: &Json) -> Result<(), Failure> {
        let text = match self.style {
            Style::Json => format!("{value:#}\n"),
            _ => format!("{value}\n"),
        };
        bytes(text.as_bytes())
    }

    /// Rows with a head: aligned for people, with tabs and without the head for programs.
    pub(crate) fn rows(self, head: &[&str], rows: &[Vec<String>]) -> Result<(), Failure> {
        if self.style == Style::Plain {
            let lines: String = rows.iter().map(|row| row.join("\t") + "\n").collect();
            return bytes(lines.as_bytes());
        }
        let mut table = Table::new();
        table.load_style(NOTHING);
        table.set_header(head.iter().copied());
        for row in rows {
            table.add_row(row);
        }
        let text: String = table
            .lines()
            .map(|line| line.trim_end().to_owned() + "\n")
            .collect();
        bytes(text.as_bytes())
    }

    /// Rows with a head in every style: their columns may become more.
    pub(crate) fn rows_under_head(
        self,
        head: &[&str],
        rows: &[Vec<String>],
    ) -> Result<(), Failure> {
        if self.style == Style::Plain {
            bytes((head.join("\t") + "\n").as_bytes())?;
        }
        self.rows(head, rows)
    }

    /// One value: as it is for a program, with a line end for people.
    pub(crate) fn value(self, shown: &[u8]) -> Result<(), Failure> {
        bytes(shown)?;
        if io::stdout().is_terminal() && !shown.ends_with(b"\n") {
            bytes(b"\n")?;
        }
        Ok(())
    }

    /// A failure on standard error: what was wrong, what was applied, what to do next.
    pub(crate) fn failure(self, failure: &Failure) {
        if matches!(failure, Failure::Hangup) {
            return;
        }
        let mut stderr = io::stderr().lock();
        // Nobody is left to tell if this fails.
        let _ = if self.is_json() {
            writeln!(stderr, "{}", failure_json(failure))
        } else {
            write!(stderr, "{}", failure_text(failure))
        };
    }

    /// The same of a list: its rows in lines of their own leave no place for the receipt.
    pub(crate) fn explain_list(self, wanted: bool, of_all: &Receipt) {
        if wanted && self.style == Style::Jsonl {
            let line = json!({"receipt": receipt(of_all)});
            let _ = writeln!(io::stderr().lock(), "{line}");
        }
        self.explain(wanted, of_all);
    }

    /// What a reply cost and is worth, on standard error.
    pub(crate) fn explain(self, wanted: bool, receipt: &Receipt) {
        // In JSON the receipt is part of the reply.
        if !wanted || self.is_json() {
            return;
        }
        let text = explanation(receipt);
        let _ = io::stderr().lock().write_all(text.as_bytes());
    }
}

/// `{"error":{..}}`: kind, reason, message, applied and exit_code always, all else where there is any.
fn failure_json(failure: &Failure) -> Json {
    let (kind, reason) = match failure.cause() {
        Failure::Call(error, _) => (error.kind().name(), error.reason()),
        Failure::Node(_) => ("invalid", "NOT_SERVING"),
        Failure::Afterwards(_) => ("local", "FAILED_AFTERWARDS"),
        _ => ("invalid", "USAGE"),
    };
    let mut shown = json!({
        "kind": kind,
        "reason": reason,
        "message": failure.to_string(),
        "applied": failure.applied(),
        "next": next(failure),
        "exit_code": failure.code() as u8,
    });
    if let Failure::Call(error, doing) = failure.cause() {
        shown["message"] = error.message().into();
        shown["doing"] = doing.as_str().into();
        shown["field"] = error.field().into();
        shown["etag"] = error.etag().map(ToString::to_string).into();
        let after = error.retry_after().map(|time| time.as_millis() as u64);
        shown["retry_after_ms"] = after.into();
        shown["endpoint"] = error.endpoint().into();
        shown["attempts"] = error.attempts().into();
        shown["request_id"] = error.request_id().map(|id| id.to_string()).into();
    }
    if let Some(stopped) = failure.stopped() {
        shown["lines"] = json!({
            "applied": stopped.applied,
            "not_applied": stopped.failed,
            "maybe": stopped.maybe,
            "last": stopped.last,
        });
    }
    if let Failure::Unstored(_, what) = failure {
        shown["besides"] = what.as_str().into();
    }
    // What is not known or not the case has no field.
    if let Some(fields) = shown.as_object_mut() {
        fields.retain(|_, value| !value.is_null() && value.as_str() != Some(""));
    }
    json!({"error": shown})
}

/// What to do next, where there is more to it than correcting the command.
fn next(failure: &Failure) -> Option<String> {
    let step = match failure.cause() {
        Failure::Call(error, doing) => Some(next_step(error, doing)),
        Failure::Afterwards(_) => {
            Some("do not repeat it: it was done, and only this failed".to_owned())
        }
        _ => None,
    };
    if failure.stopped().is_none_or(|stopped| stopped.applied == 0) {
        return step;
    }
    let rest = "import the rest without the lines that were applied";
    Some(step.map_or_else(|| rest.to_owned(), |step| format!("{step}; {rest}")))
}

fn failure_text(failure: &Failure) -> String {
    let mut text = format!("{} {failure}\n", error_word());
    if !matches!(failure, Failure::Local(_) | Failure::Node(_)) {
        text += &format!("applied: {}\n", failure.applied());
    }
    if let Some(stopped) = failure.stopped() {
        text += &format!("lines: {stopped}\n");
    }
    if let Failure::Call(error, _) = failure.cause()
        && let Some(etag) = error.etag()
    {
        text += &format!("current etag: {etag}\n");
    }
    if let Some(next) = next(failure) {
        text += &format!("next: {next}\n");
    }
    text
}

/// `error:`, red where that is wanted (see no-color.org).
fn error_word() -> &'static str {
    let plain = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    match io::stderr().is_terminal() && !plain {
        true => "\x1b[1;31merror:\x1b[0m",
        false => "error:",
    }
}

fn explanation(receipt: &Receipt) -> String {
    let list = |names: &[String]| match names {
        [] => "-".to_owned(),
        names => names.join(", "),
    };
    let mut text = format!(
        "served by  {} in {}\n",
        receipt.served_by, receipt.served_in
    );
    if let Some(node) = &receipt.forwarded_to {
        text += &format!("forwarded  to {node}\n");
    }
    let staleness = match receipt.staleness {
        Some(time) => format!("at most {} ms", time.as_millis()),
        None => "not known: some region was never heard of".to_owned(),
    };
    let trips = receipt.wan_round_trips;
    let plural = if trips == 1 { "trip" } else { "trips" };
    let way = receipt
        .path
        .map_or_else(String::new, |path| format!(" ({})", path.name()));
    let merged = match (receipt.absorbed, receipt.merged) {
        (true, true) => "eventual writes were absorbed; a concurrent write was merged",
        (true, false) => "eventual writes were absorbed",
        (false, true) => "a concurrent write was merged or overwritten",
        (false, false) => "nothing",
    };
    text += &format!("level      {}\n", receipt.level);
    text += &format!("staleness  {staleness}\n");
    text += &format!(
        "replicas   {} ({})\n",
        list(&receipt.replicas),
        list(&receipt.regions)
    );
    if !receipt.durable_regions.is_empty() {
        text += &format!("durable in {}\n", list(&receipt.durable_regions));
    }
    text += &format!("merged     {merged}\n");
    if let Some(id) = &receipt.request_id {
        text += &format!("request    {id}\n");
    }
    text += &format!(
        "price      {trips} WAN round {plural}{way}, {:.1} ms, attempts: {}\n",
        receipt.elapsed.as_secs_f64() * 1000.0,
        receipt.attempts
    );
    text
}

/// A receipt as JSON. Fields are added, never changed.
pub(crate) fn receipt(receipt: &Receipt) -> Json {
    json!(receipt)
}

/// Bytes under a name: as text where they are text, else under `NAME_base64`.
pub(crate) fn put_bytes(object: &mut Map<String, Json>, name: &str, bytes: &[u8]) {
    match str::from_utf8(bytes) {
        Ok(text) => object.insert(name.to_owned(), text.into()),
        Err(_) => object.insert(format!("{name}_base64"), to_base64(bytes).into()),
    };
}

/// A row's content under the name of its type.
pub(crate) fn put_value(object: &mut Map<String, Json>, value: &Value) {
    match value {
        Value::Bytes(bytes) => put_bytes(object, "value", bytes),
        Value::Total(total) => {
            object.insert("total".to_owned(), (*total).into());
        }
        Value::Member => {
            object.insert("member".to_owned(), true.into());
        }
    }
}

/// A row's content in a table.
pub(crate) fn show_value(encoding: Encoding, value: &Value) -> String {
    match value {
        Value::Bytes(bytes) => encoding.show(bytes),
        Value::Total(total) => total.to_string(),
        Value::Member => "member".to_owned(),
    }
}

/// Bytes to standard output.
pub(crate) fn bytes(bytes: &[u8]) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes)?;
    stdout.flush()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use hansa_client::{Consistency, Path, RequestId};

    use super::*;

    #[test]
    fn a_receipt_has_the_documented_fields() {
        let whole = Receipt {
            level: Consistency::Strong,
            staleness: Some(Duration::ZERO),
            served_by: "eu-1".to_owned(),
            served_in: "eu".to_owned(),
            replicas: vec!["eu-1".to_owned(), "us-1".to_owned()],
            regions: vec!["eu".to_owned(), "us".to_owned()],
            durable_regions: vec!["eu".to_owned()],
            wan_round_trips: 2,
            path: Some(Path::Prepared),
            absorbed: true,
            merged: false,
            forwarded_to: Some("eu-2".to_owned()),
            epoch: 3,
            attempts: 4,
            elapsed: Duration::from_micros(1500),
            request_id: Some(RequestId {
                session: 5,
                seq: 6,
                issued: 7,
            }),
        };
        let mut expected = json!({
            "level": "strong",
            "staleness_ms": 0,
            "served_by": "eu-1",
            "served_in": "eu",
            "replicas": ["eu-1", "us-1"],
            "regions": ["eu", "us"],
            "durable_regions": ["eu"],
            "wan_round_trips": 2,
            "path": "prepared",
            "absorbed": true,
            "merged": false,
            "forwarded_to": "eu-2",
            "epoch": 3,
            "attempts": 4,
            "elapsed_us": 1500,
            "request_id": "5-6-7",
        });
        assert_eq!(receipt(&whole), expected);
        // What is not known is null, not missing.
        let none = Receipt {
            staleness: None,
            forwarded_to: None,
            request_id: None,
            path: None,
            ..whole
        };
        for field in ["staleness_ms", "forwarded_to", "request_id", "path"] {
            expected[field] = Json::Null;
        }
        assert_eq!(receipt(&none), expected);
    }
}
