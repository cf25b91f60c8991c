//! The history of a smoke run: JSON lines as `docs/history-format.md` describes them.
//!
//! The harness has the same format as Rust types. This binary does not depend on the harness, so the
//! fields are written down once more here; a test holds them against that page.

use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, Result};
use serde::Serialize;
use serde_json::Value as Json;
use tokio::time::Instant;

/// What a line records.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Op {
    Put,
    Get,
    Delete,
    Cas,
    Incr,
    Read,
    Add,
    Remove,
    Contains,
    Final,
    Digest,
    Nemesis,
}

/// How an operation ended, as far as its client can know.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Status {
    /// It took effect.
    Ok,
    /// It did not and never will.
    Fail,
    /// Nobody knows.
    Info,
}

/// One line, without what is the same on all lines of a run.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Line {
    pub(crate) process: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) session: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) region: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) node: Option<String>,
    pub(crate) op: Op,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) value: Option<Json>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) level: Option<&'static str>,
    pub(crate) invoke_ns: u64,
    pub(crate) complete_ns: u64,
    pub(crate) status: Status,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) etag: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) token_in: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) token_out: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) receipt: Option<Json>,
}

impl Line {
    /// A line about the run itself: a fault, a final read, a digest.
    pub(crate) fn event(op: Op, at_ns: u64) -> Line {
        Line {
            process: 0,
            session: None,
            region: None,
            node: None,
            op,
            key: None,
            value: None,
            level: None,
            invoke_ns: at_ns,
            complete_ns: at_ns,
            status: Status::Ok,
            error: None,
            etag: None,
            token_in: None,
            token_out: None,
            receipt: None,
        }
    }
}

#[derive(Serialize)]
struct Whole<'a> {
    run: &'a str,
    seed: u64,
    #[serde(flatten)]
    line: &'a Line,
}

/// The file, or nowhere, and the run's clock.
#[derive(Debug)]
pub(crate) struct History {
    run: String,
    seed: u64,
    started: Instant,
    out: Mutex<Out>,
}

#[derive(Debug, Default)]
struct Out {
    file: Option<BufWriter<File>>,
    /// The first write that failed; nothing is written after it.
    failed: Option<io::Error>,
    lines: u64,
}

impl History {
    /// Begins a run; without a path its lines are only counted.
    ///
    /// # Errors
    /// When the file can not be made.
    pub(crate) fn begin(path: Option<&Path>, seed: u64) -> Result<History> {
        let create = |path: &Path| {
            let made = File::create(path);
            made.with_context(|| format!("can not write --history {}", path.display()))
        };
        let file = path.map(create).transpose()?.map(BufWriter::new);
        Ok(History {
            run: format!("demo-{seed:016x}"),
            seed,
            started: Instant::now(),
            out: Mutex::new(Out {
                file,
                ..Out::default()
            }),
        })
    }

    /// The run's name.
    pub(crate) fn run(&self) -> &str {
        &self.run
    }

    /// Nanoseconds since the run began.
    pub(crate) fn now_ns(&self) -> u64 {
        // 584 years fit.
        self.started.elapsed().as_nanos() as u64
    }

    /// Adds a line.
    pub(crate) fn write(&self, line: &Line) {
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        out.lines += 1;
        if out.failed.is_some() {
            return;
        }
        let Some(file) = &mut out.file else { return };
        let whole = Whole {
            run: &self.run,
            seed: self.seed,
            line,
        };
        let written = serde_json::to_writer(&mut *file, &whole).map_err(io::Error::from);
        if let Err(error) = written.and_then(|()| file.write_all(b"\n")) {
            out.failed = Some(error);
        }
    }

    /// Adds a fault's begin or end.
    pub(crate) fn nemesis(&self, what: &str) {
        let value = Some(what.into());
        self.write(&Line {
            value,
            ..Line::event(Op::Nemesis, self.now_ns())
        });
    }

    /// Completes the file; the number of lines.
    ///
    /// # Errors
    /// When any line could not be written: the file is of no use then.
    pub(crate) fn finish(&self) -> Result<u64> {
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        let failed = out.failed.take();
        let flushed = failed.map_or_else(
            || out.file.as_mut().map_or(Ok(()), |file| file.flush()),
            Err,
        );
        flushed.context("the history can not be written")?;
        Ok(out.lines)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn lines_have_the_fields_of_the_format_and_no_empty_ones() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("history.jsonl");
        let history = History::begin(Some(&path), 7).unwrap();
        history.nemesis("cut ap-northeast");
        history.write(&Line {
            key: Some("profiles/a".to_owned()),
            level: Some("strong"),
            value: Some("v1".into()),
            etag: Some("00ff".to_owned()),
            ..Line::event(Op::Put, 5)
        });
        assert_eq!(history.finish().unwrap(), 2);
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[1],
            "{\"run\":\"demo-0000000000000007\",\"seed\":7,\"process\":0,\"op\":\"put\",\
             \"key\":\"profiles/a\",\"value\":\"v1\",\"level\":\"strong\",\"invoke_ns\":5,\
             \"complete_ns\":5,\"status\":\"ok\",\"etag\":\"00ff\"}"
        );
        assert!(lines[0].contains("\"op\":\"nemesis\",\"value\":\"cut ap-northeast\""));
    }

    /// The names in the first column of the table below a heading.
    fn names_below(page: &str, heading: &str) -> BTreeSet<String> {
        let (_, below) = page.split_once(&format!("\n## {heading}\n")).unwrap();
        let (section, _) = below.split_once("\n## ").unwrap();
        let rows = section.lines().filter(|line| line.starts_with("| `"));
        let names = rows.flat_map(|row| {
            let column = row.split('|').nth(1).unwrap_or_default();
            column.split('`').skip(1).step_by(2).map(str::to_owned)
        });
        names.collect()
    }

    #[test]
    fn every_field_and_operation_stands_in_the_format() {
        let page = include_str!("../../../../docs/history-format.md");
        let text = || Some("x".to_owned());
        let line = Line {
            session: text(),
            region: Some("us-east"),
            node: text(),
            key: text(),
            value: Some("v".into()),
            level: Some("strong"),
            error: text(),
            etag: text(),
            token_in: text(),
            token_out: text(),
            receipt: Some(serde_json::json!({})),
            ..Line::event(Op::Put, 1)
        };
        let whole = Whole {
            run: "r",
            seed: 1,
            line: &line,
        };
        let fields = names_below(page, "Fields");
        let written = serde_json::to_value(whole).unwrap();
        for field in written.as_object().unwrap().keys() {
            assert!(fields.contains(field), "{field} is not in {fields:?}");
        }
        let operations = names_below(page, "Operations");
        let written = [
            Op::Put,
            Op::Get,
            Op::Delete,
            Op::Cas,
            Op::Incr,
            Op::Read,
            Op::Add,
            Op::Remove,
            Op::Contains,
            Op::Final,
            Op::Digest,
            Op::Nemesis,
        ];
        for op in written {
            let name = serde_json::to_value(op).unwrap();
            let name = name.as_str().unwrap();
            assert!(operations.contains(name), "{name} is not in {operations:?}");
        }
        for status in [Status::Ok, Status::Fail, Status::Info] {
            let name = serde_json::to_value(status).unwrap();
            assert!(
                page.contains(&format!("`{}`: ", name.as_str().unwrap())),
                "{name}"
            );
        }
    }

    #[test]
    fn a_file_that_can_not_be_made_is_named() {
        let error = History::begin(Some(Path::new("/nowhere/at/all")), 1).unwrap_err();
        assert!(
            error.to_string().contains("--history /nowhere/at/all"),
            "{error}"
        );
    }
}
