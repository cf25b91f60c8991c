//! The data set of the demo: `client/cli/data/demo.jsonl`, written through the SDK, each line in its
//! home region.

use std::str::FromStr;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use hansa_client::{Client, Consistency, Key};
use serde::Deserialize;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::shape::region_index;

/// The data set itself.
const LINES: &str = include_str!("../../data/demo.jsonl");

/// Writes under way per region: enough to fill the nodes' group commits.
const IN_FLIGHT: usize = 64;

/// One write of the data set.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    keyspace: String,
    key: String,
    #[serde(default)]
    sort: String,
    op: Op,
    value: Option<String>,
    element: Option<String>,
    amount: Option<i64>,
    home: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Op {
    Put,
    Add,
    Incr,
}

/// What a line writes.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Change {
    Put(String),
    Add(String),
    Increment(i64),
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Record {
    keyspace: String,
    key: Key,
    change: Change,
    home: usize,
}

impl FromStr for Record {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Record> {
        let line: Line = serde_json::from_str(text)?;
        let change = match (line.op, line.value, line.element, line.amount) {
            (Op::Put, Some(value), None, None) => Change::Put(value),
            (Op::Add, None, Some(element), None) => Change::Add(element),
            (Op::Incr, None, None, Some(amount)) => Change::Increment(amount),
            _ => bail!("the line's operation and its fields do not fit"),
        };
        Ok(Record {
            keyspace: line.keyspace,
            key: Key::from((line.key, line.sort)),
            change,
            home: region_index(&line.home)?,
        })
    }
}

fn records() -> Result<Vec<Record>> {
    let lines = LINES.lines().enumerate();
    lines
        .map(|(at, line)| {
            line.parse()
                .with_context(|| format!("data set, line {}", at + 1))
        })
        .collect()
}

/// Loads the data set at level eventual; `clients` has one client per region. With `resumed` an
/// earlier, broken load may have written some of it: counters that are there already are left alone,
/// everything else can be written twice. Returns the number of lines.
///
/// # Errors
/// When a write fails.
pub(crate) async fn load(clients: &[Client], resumed: bool) -> Result<usize> {
    let records = records()?;
    let count = records.len();
    let gates: Vec<_> = clients
        .iter()
        .map(|_| Arc::new(Semaphore::new(IN_FLIGHT)))
        .collect();
    let mut writes = JoinSet::new();
    for record in records {
        let gate = gates[record.home].clone();
        let client = clients[record.home].clone();
        writes.spawn(async move {
            let _turn = gate.acquire_owned().await?;
            write(&client, record, resumed).await
        });
    }
    while let Some(done) = writes.join_next().await {
        done.context("a write of the data set broke off")??;
    }
    Ok(count)
}

async fn write(client: &Client, record: Record, resumed: bool) -> Result<()> {
    let Record { keyspace, key, .. } = record;
    let call = match record.change {
        Change::Put(value) => client.put(keyspace, key, value),
        Change::Add(element) => client.add(keyspace, key, element),
        Change::Increment(amount) => {
            // Only the home region writes a counter while the data set is loaded, so its own view
            // says whether this was done.
            let level = Consistency::Eventual;
            if resumed
                && let Some(total) = client
                    .get(&keyspace, key.clone())
                    .level(level)
                    .await?
                    .total()
                && total != 0
            {
                return Ok(());
            }
            client.increment(keyspace, key, amount)
        }
    };
    let written = call.level(Consistency::Eventual).await;
    written.map(drop).context("the data set can not be loaded")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_data_set_is_whole() {
        let records = records().unwrap();
        assert_eq!(records.len(), 2935);
        for home in 0..3 {
            assert!(records.iter().filter(|record| record.home == home).count() > 700);
        }
    }

    #[test]
    fn every_counter_is_written_by_one_line() {
        // What `resumed` rests on.
        let records = records().unwrap();
        let counters = || {
            let is_counter = |record: &&Record| matches!(record.change, Change::Increment(_));
            records.iter().filter(is_counter)
        };
        let keys: BTreeSet<_> = counters().map(|it| (&it.keyspace, &it.key)).collect();
        assert_eq!(keys.len(), counters().count());
    }

    #[test]
    fn lines_that_do_not_fit_are_refused() {
        for line in [
            r#"{"keyspace":"k","key":"a","op":"put","element":"e","home":"us-east"}"#,
            r#"{"keyspace":"k","key":"a","op":"put","value":"v","home":"mars"}"#,
            r#"{"keyspace":"k","key":"a","op":"put","value":"v","home":"us-east","x":1}"#,
        ] {
            assert!(line.parse::<Record>().is_err(), "{line}");
        }
    }
}
