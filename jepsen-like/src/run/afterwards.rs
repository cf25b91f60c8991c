//! After healing, every region serves every level again: not only the nodes say so, clients see it.

use std::collections::BTreeSet;
use std::time::Duration;

use super::outcome::Finding;
use crate::history::{Datum, Level, Op, Record, Status};
use crate::nemesis::NodeIndex;
use crate::target::{RunClock, Target, TargetClient};
use crate::workload::{Intent, Levels, REGISTERS};

/// The first process of these operations; those of a run's clients are below it.
const PROCESS: u64 = 900_000;

/// Writes and reads one register at every level of the round at every node that is whole, and says what was not
/// served. The operations belong to the history.
///
/// # Errors
/// When a client can not be made.
pub(super) async fn serve<T: Target>(
    target: &T,
    levels: Levels,
    prefix: &str,
    spoilt: &BTreeSet<NodeIndex>,
    (clock, deadline): (RunClock, Duration),
) -> anyhow::Result<(Vec<Record>, Vec<Finding>)> {
    let (mut records, mut findings) = (Vec::new(), Vec::new());
    let whole = (0..target.layout().nodes()).filter(|node| !spoilt.contains(node));
    for node in whole {
        let mut client = target.client(PROCESS + node as u64, node)?;
        for level in asked(levels) {
            let key = format!("{REGISTERS}/{prefix}after-{node}-{level:?}");
            for (op, value) in [(Op::Put, Some("healed")), (Op::Get, None)] {
                // A write has a request id, so that the client may ask again over a new connection when it finds that a
                // fault broke the old one.
                let value = value.map(|text| Datum::Text(text.to_owned()));
                let intent = Intent::plain(op, &key, value, *level);
                let done = client.perform(&intent, clock, deadline);
                let Ok(record) = tokio::time::timeout(deadline * 2, done).await else {
                    let what = format!("after healing: {op:?} of {key} never ended");
                    findings.push(Finding::new("serves_again", what));
                    return Ok((records, findings));
                };
                if record.status != Status::Ok {
                    let what = format!("after healing: {}", record.describe());
                    findings.push(Finding::new("serves_again", what));
                }
                records.push(record);
            }
        }
    }
    Ok((records, findings))
}

fn asked(levels: Levels) -> &'static [Level] {
    match levels {
        Levels::Eventual => &[Level::Eventual],
        Levels::Session => &[Level::Session],
        Levels::Strong => &[Level::Strong],
        Levels::Mixed => &[Level::Eventual, Level::Session, Level::Strong],
    }
}
