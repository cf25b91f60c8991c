//! `import`: the writes of a file, many at once, until the first that fails.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use hansa_client::{Applied, Call, Error, Written};
use serde_json::json;
use tokio::task::{Id, JoinSet};

use crate::exit::{Code, Failure, Stopped, told};

use super::line::{Change, Write, read};
use super::{Work, call};

/// Lines after which a stored session moves its reserve of request numbers on; well below the
/// reserve.
const RESERVE_EVERY: u64 = 1 << 18;

/// Writes under way, and what became of those before.
#[derive(Default)]
struct Import {
    open: JoinSet<Result<Written, Error>>,
    /// The lines of the writes under way.
    lines: HashMap<Id, u64>,
    applied: u64,
    failed: Vec<u64>,
    maybe: Vec<u64>,
    /// The last line looked at.
    last: u64,
    /// The worst failure so far; nothing is begun after one.
    worst: Option<Failure>,
}

pub(super) async fn run(work: &Work<'_>, path: &Path, concurrency: u16) -> Result<Code, Failure> {
    let concurrency = if work.stored.is_some() {
        1
    } else {
        concurrency
    };
    let name = match path.as_os_str() == "-" {
        true => "standard input".to_owned(),
        false => path.display().to_string(),
    };
    let source: Box<dyn BufRead> = match path.as_os_str() == "-" {
        true => Box::new(BufReader::new(io::stdin())),
        false => match File::open(path) {
            Ok(file) => Box::new(BufReader::new(file)),
            Err(error) => return Err(Failure::local(format!("{name}: {error}"))),
        },
    };
    let mut import = Import::default();
    for (number, line) in (1..).zip(source.lines()) {
        while import.open.len() >= concurrency.into() {
            import.finish_one().await;
        }
        if import.worst.is_some() {
            break;
        }
        import.last = number;
        match line.map_err(|error| error.to_string()) {
            Ok(line) if line.trim().is_empty() => {}
            line => match line.and_then(|line| read(&line)) {
                Ok(write) => import.begin(number, call_of(work, write)),
                Err(what) => {
                    let what = Failure::local(format!("{name}, line {number}: {what}"));
                    import.not_done(number, what);
                }
            },
        }
        if number % RESERVE_EVERY == 0
            && let Some(stored) = &work.stored
            && let Err(unstored) = stored.store_ahead().await
        {
            import.fail(unstored);
        }
    }
    while !import.open.is_empty() {
        import.finish_one().await;
    }
    import.report(work)
}

impl Import {
    fn begin(&mut self, number: u64, call: Call<Written>) {
        let task = self.open.spawn(call.into_future());
        self.lines.insert(task.id(), number);
    }

    /// Waits for one write.
    async fn finish_one(&mut self) {
        let (task, result) = match self.open.join_next_with_id().await {
            Some(Ok((task, result))) => (task, Ok(result)),
            Some(Err(error)) => (error.id(), Err(error)),
            None => return,
        };
        // Zero is no line: every write under way has its own.
        let number = self.lines.remove(&task).unwrap_or_default();
        match result {
            Ok(Ok(_)) => self.applied += 1,
            Ok(Err(error)) if error.applied() == Applied::No => {
                self.not_done(number, Failure::Call(error, format!("line {number}")));
            }
            Ok(Err(error)) => {
                self.maybe.push(number);
                self.fail(Failure::Call(error, format!("line {number}")));
            }
            Err(error) => {
                self.maybe.push(number);
                self.fail(Failure::local(format!(
                    "line {number} ended early: {error}"
                )));
            }
        }
    }

    fn not_done(&mut self, number: u64, failure: Failure) {
        self.failed.push(number);
        self.fail(failure);
    }

    fn fail(&mut self, failure: Failure) {
        self.worst = Some(match self.worst.take() {
            Some(worst) => worst.or_worse(failure),
            None => failure,
        });
    }

    /// How many writes were applied, also when one failed.
    fn report(mut self, work: &Work<'_>) -> Result<Code, Failure> {
        if let Some(worst) = self.worst {
            self.failed.sort_unstable();
            self.maybe.sort_unstable();
            return Err(Failure::Import(Box::new(Stopped {
                worst,
                applied: self.applied,
                failed: self.failed,
                maybe: self.maybe,
                last: self.last,
            })));
        }
        let printed = match work.output.is_json() {
            true => work.output.json(&json!({"imported": self.applied})),
            false => {
                let line = format!("imported {}\n", self.applied);
                work.output.value(line.as_bytes())
            }
        };
        let printed = match self.applied {
            0 => printed,
            _ => printed.map_err(Failure::afterwards),
        };
        told(printed, Code::Ok)
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
