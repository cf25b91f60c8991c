//! `import`: the writes of a file, many at once, until the first that fails.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use hansa_client::{Call, Error, Written};
use serde_json::json;
use tokio::task::JoinSet;

use crate::exit::{Code, Failure};

use super::line::{Change, Write, read};
use super::{Work, call};

/// Lines after which a stored session moves its reserve of request numbers on; well below the
/// reserve.
const RESERVE_EVERY: u64 = 1 << 18;

/// Writes under way, and what became of those before.
struct Import {
    open: JoinSet<(u64, Result<Written, Error>)>,
    applied: u64,
    failure: Option<Failure>,
}

pub(super) async fn run(work: &Work<'_>, path: &Path, concurrency: u16) -> Result<Code, Failure> {
    let concurrency = if work.stored.is_some() {
        1
    } else {
        concurrency
    };
    let name = path.display();
    let source: Box<dyn BufRead> = match path.as_os_str() == "-" {
        true => Box::new(BufReader::new(io::stdin())),
        false => match File::open(path) {
            Ok(file) => Box::new(BufReader::new(file)),
            Err(error) => return Err(Failure::local(format!("{name}: {error}"))),
        },
    };
    let mut import = Import {
        open: JoinSet::new(),
        applied: 0,
        failure: None,
    };
    for (number, line) in (1..).zip(source.lines()) {
        while import.open.len() >= concurrency.into() {
            import.finish_one().await;
        }
        if import.failure.is_some() {
            break;
        }
        match line.map_err(|error| error.to_string()) {
            Ok(line) if line.trim().is_empty() => {}
            line => match line.and_then(|line| read(&line)) {
                Ok(write) => import.begin(number, call_of(work, write)),
                Err(what) => {
                    import.failure = Some(Failure::local(format!("{name}, line {number}: {what}")));
                }
            },
        }
        if number % RESERVE_EVERY == 0
            && let Some(stored) = &work.stored
        {
            stored.store_ahead().await?;
        }
    }
    while !import.open.is_empty() {
        import.finish_one().await;
    }
    report(work, import.applied, import.failure)
}

impl Import {
    fn begin(&mut self, number: u64, call: Call<Written>) {
        self.open.spawn(async move { (number, call.await) });
    }

    /// Waits for one write; keeps the first failure.
    async fn finish_one(&mut self) {
        match self.open.join_next().await {
            Some(Ok((_, Ok(_)))) => self.applied += 1,
            Some(Ok((number, Err(error)))) if self.failure.is_none() => {
                self.failure = Some(Failure::Call(error, format!("line {number}")));
            }
            Some(Err(error)) if self.failure.is_none() => {
                self.failure = Some(Failure::local(format!("a write ended early: {error}")));
            }
            _ => {}
        }
    }
}

fn call_of(work: &Work<'_>, write: Write) -> Call<Written> {
    let Write {
        keyspace,
        key,
        change,
    } = write;
    match change {
        Change::Put(value) => call!(work, put(keyspace, key, value)),
        Change::Add(element) => call!(work, add(keyspace, key, element)),
        Change::Increment(by) => call!(work, increment(keyspace, key, by)),
    }
}

/// How many writes were acknowledged, also when one failed.
fn report(work: &Work<'_>, applied: u64, failure: Option<Failure>) -> Result<Code, Failure> {
    match failure {
        None if work.output.is_json() => work.output.json(&json!({"imported": applied}))?,
        None => work
            .output
            .value(format!("imported {applied}\n").as_bytes())?,
        Some(failure) => {
            eprintln!("{applied} writes were acknowledged before and beside it");
            return Err(failure);
        }
    }
    Ok(Code::Ok)
}
