//! The state of an etcd cluster after healing: whether all members agree, and what they show.

use std::time::{Duration, Instant};

use futures_util::future::{join_all, try_join_all};
use futures_util::stream::{self, StreamExt as _};
use tokio::time::{sleep, timeout};
use xxhash_rust::xxh3::Xxh3Default;

use super::api::{RangeRequest, RangeResponse};
use super::ask::{self, Ask};
use super::{Api, Reads, node_name, region_name};
use crate::history::{Datum, Op, Record, Status};
use crate::nemesis::NodeIndex;
use crate::target::{FINAL_PROCESS, RunClock};

/// How long one request of the harness may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two looks whether the members agree.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Final reads under way at a member at a time.
const AT_ONCE: usize = 16;

/// Asks a member within [`PATIENCE`].
async fn ask(
    mut api: Api,
    member: NodeIndex,
    range: RangeRequest,
) -> Result<RangeResponse, String> {
    let name = node_name(member);
    match timeout(PATIENCE, api.range(range)).await {
        Ok(Ok(reply)) => Ok(reply.into_inner()),
        Ok(Err(error)) => Err(format!("{name}: {:?}: {}", error.code(), error.message())),
        Err(_) => Err(format!("{name} does not answer within {PATIENCE:?}")),
    }
}

/// Asks every member the same at once.
async fn ask_all(members: &[Api], range: &RangeRequest) -> Result<Vec<RangeResponse>, String> {
    let all = members.iter().enumerate();
    try_join_all(all.map(|(member, api)| ask(api.clone(), member, range.clone()))).await
}

/// Waits until every member serves linearizable reads and all hold the same at the same revision. Returns how long that
/// took.
///
/// # Errors
/// What was still missing after `within`.
pub(super) async fn settle(members: &[Api], within: Duration) -> Result<Duration, String> {
    until(members, within, true).await
}

/// Waits until every member serves linearizable reads and has every revision that any had when it was asked. What they
/// hold is not read: there may be millions of keys. Returns how long that took.
///
/// # Errors
/// What was still missing after `within`.
pub(super) async fn catch_up(members: &[Api], within: Duration) -> Result<Duration, String> {
    until(members, within, false).await
}

/// Looks again and again whether all members agree, in all that they hold or in their revisions only.
async fn until(members: &[Api], within: Duration, in_all: bool) -> Result<Duration, String> {
    let begun = Instant::now();
    loop {
        let missing = match agree(members, in_all).await {
            Ok(()) => return Ok(begun.elapsed()),
            Err(missing) => missing,
        };
        if begun.elapsed() >= within {
            return Err(missing);
        }
        sleep(LOOK_EVERY).await;
    }
}

/// Waits until a member serves a linearizable read.
///
/// # Errors
/// Why it did not, after `within`.
pub(super) async fn serves(api: &Api, member: NodeIndex, within: Duration) -> Result<(), String> {
    let begun = Instant::now();
    let mut one = ask::read_all(Reads::Linearizable);
    one.limit = 1;
    loop {
        match ask(api.clone(), member, one.clone()).await {
            Ok(_) => return Ok(()),
            Err(why) if begun.elapsed() >= within => return Err(why),
            Err(_) => sleep(LOOK_EVERY).await,
        }
    }
}

fn reached(held: &[RangeResponse], newest: i64) -> Result<(), String> {
    let mut all = held.iter().map(revision).enumerate();
    match all.find(|(_, at)| *at < newest) {
        Some((member, at)) => {
            let name = node_name(member);
            Err(format!("{name} is at revision {at} of {newest}"))
        }
        None => Ok(()),
    }
}

async fn agree(members: &[Api], in_all: bool) -> Result<(), String> {
    // A linearizable read is answered when its member has caught up with a majority.
    let mut one = ask::read_all(Reads::Linearizable);
    one.limit = 1;
    let newest = ask_all(members, &one).await?;
    let newest = newest.iter().map(revision).max().unwrap_or_default();
    let mut held = ask::read_all(Reads::Serializable);
    if !in_all {
        held.limit = 1;
    }
    let held = ask_all(members, &held).await?;
    reached(&held, newest)?;
    for (member, holds) in held.iter().enumerate().filter(|_| in_all) {
        // Compared and not digested: this is done ten times a second.
        if revision(holds) != revision(&held[0]) || holds.kvs != held[0].kvs {
            return Err(format!("{} and {} differ", node_name(member), node_name(0)));
        }
    }
    Ok(())
}

fn revision(range: &RangeResponse) -> i64 {
    range.header.as_ref().map_or(0, |header| header.revision)
}

/// A digest of all keys, values and revisions.
fn digest(range: &RangeResponse) -> String {
    let mut hash = Xxh3Default::new();
    for found in &range.kvs {
        for part in [&found.key, &found.value] {
            hash.update(&(part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        hash.update(&found.create_revision.to_le_bytes());
        hash.update(&found.mod_revision.to_le_bytes());
        hash.update(&found.version.to_le_bytes());
    }
    format!("{:016x}", hash.digest())
}

/// Every key as every member shows it, linearizably, and a digest of what every member has itself.
pub(super) async fn finals(members: &[Api], keys: &[String], clock: RunClock) -> Vec<Record> {
    let all = members.iter().cloned().enumerate();
    let lines = all.map(|(member, api)| finals_of(api, member, keys.to_vec(), clock));
    join_all(lines).await.concat()
}

async fn finals_of(api: Api, member: NodeIndex, keys: Vec<String>, clock: RunClock) -> Vec<Record> {
    let reads = stream::iter(keys).map(|key| last(api.clone(), member, key, clock));
    let mut lines: Vec<Record> = reads.buffered(AT_ONCE).collect().await;
    lines.push(digest_of(api.clone(), member, clock).await);
    lines
}

fn begin(op: Op, member: NodeIndex, key: &str, clock: RunClock) -> Record {
    let mut record = Record::event(FINAL_PROCESS, op, clock.now_ns());
    record.node = Some(node_name(member));
    record.region = Some(region_name(member));
    record.key = Some(key.to_owned());
    record
}

async fn last(mut api: Api, member: NodeIndex, key: String, clock: RunClock) -> Record {
    let mut record = begin(Op::Final, member, &key, clock);
    let asked = Ask::Range(ask::read(&key, Reads::Linearizable));
    match timeout(PATIENCE, asked.send(&mut api)).await {
        Ok(Ok(answer)) => answer.note(&mut record),
        Ok(Err(error)) => ask::note_error(&mut record, &error),
        Err(_) => record.error = Some("DEADLINE".to_owned()),
    }
    record.complete_ns = Some(clock.now_ns());
    record
}

async fn digest_of(api: Api, member: NodeIndex, clock: RunClock) -> Record {
    let mut record = begin(Op::Digest, member, "all", clock);
    match ask(api, member, ask::read_all(Reads::Serializable)).await {
        Ok(range) => {
            record.status = Status::Ok;
            record.value = Some(Datum::Text(digest(&range)));
        }
        Err(why) => record.error = Some(why),
    }
    record.complete_ns = Some(clock.now_ns());
    record
}

/// The term of the newest election that any member knows of; 0 when none answers.
pub(super) async fn term(members: &[Api]) -> u64 {
    let all = members.iter().enumerate();
    let mut range = ask::read_all(Reads::Serializable);
    range.limit = 1;
    let asked = all.map(|(member, api)| ask(api.clone(), member, range.clone()));
    let replies = join_all(asked).await.into_iter().flatten();
    let terms = replies.filter_map(|reply| Some(reply.header?.raft_term));
    terms.max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::api::KeyValue;
    use super::*;

    fn holds(key: &'static str, value: &'static str, mod_revision: i64) -> RangeResponse {
        let kvs = vec![KeyValue {
            key: key.into(),
            value: value.into(),
            mod_revision,
            ..KeyValue::default()
        }];
        RangeResponse {
            kvs,
            ..RangeResponse::default()
        }
    }

    #[test]
    fn who_is_behind_is_named() {
        let held = [holds("a", "b", 3), RangeResponse::default()];
        assert_eq!(reached(&held, 0), Ok(()));
        let why = reached(&held, 3).unwrap_err();
        assert!(why.contains("is at revision 0 of 3"), "{why}");
    }

    #[test]
    fn a_digest_covers_keys_values_and_revisions() {
        let one = digest(&holds("ab", "c", 5));
        assert_eq!(one, digest(&holds("ab", "c", 5)));
        for other in [
            holds("a", "bc", 5),
            holds("ab", "d", 5),
            holds("ab", "c", 6),
        ] {
            assert_ne!(one, digest(&other));
        }
        assert_ne!(one, digest(&RangeResponse::default()));
    }
}
