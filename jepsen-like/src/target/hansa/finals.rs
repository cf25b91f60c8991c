//! The state at the end: what every region shows of every key, and the digests of every node.

use std::time::Duration;

use futures_util::future::join_all;
use hansa_client::Consistency;

use super::Seat;
use super::ask::{How, Naming, finish, got, key_of, total};
use super::state::{Admins, Digests};
use crate::history::{Datum, Op, Record, Status};
use crate::nemesis::Layout;
use crate::target::{FINAL_PROCESS, RunClock};
use crate::workload::{COUNTERS, SETS, split_key};

/// Reads under way at a time in each region.
const READERS: usize = 8;

/// How long a read may take. Nothing is broken any more.
const READ_WITHIN: Duration = Duration::from_secs(10);

/// What every region shows of these keys, and the digests of every node. `urls` say where each node listens.
pub(super) async fn all(
    (seats, layout): (&[Seat], Layout),
    (admins, urls): (&mut Admins, &[Option<String>]),
    keys: &[String],
    clock: RunClock,
) -> Vec<Record> {
    let mut records = states(seats, layout, keys, clock).await;
    let nodes = seats.iter().zip(admins.digests(urls).await);
    records.extend(nodes.flat_map(|(seat, digests)| self::digests(seat, digests, clock)));
    records
}

/// What every region shows of these keys. The nodes of a region take turns.
async fn states(seats: &[Seat], layout: Layout, keys: &[String], clock: RunClock) -> Vec<Record> {
    let all =
        (0..layout.regions).flat_map(|region| (0..READERS).map(move |reader| (region, reader)));
    let readers = all
        .enumerate()
        .map(|(number, (region, reader))| async move {
            let process = FINAL_PROCESS + number as u64;
            let mut records = Vec::new();
            let mut last_ns = 0;
            for (at, key) in keys.iter().enumerate().skip(reader).step_by(READERS) {
                let node = layout.nodes_of(region).start + at % layout.nodes_per_region;
                let seat = &seats[node];
                let invoke_ns = clock.now_ns().max(last_ns + 1);
                let mut record = Record::event(process, Op::Final, invoke_ns);
                record.region = Some(seat.region.clone());
                record.node = Some(seat.name.clone());
                record.key = Some(key.clone());
                read(seat, key, &mut record).await;
                last_ns = clock.now_ns().max(invoke_ns);
                record.complete_ns = Some(last_ns);
                records.push(record);
            }
            records
        });
    join_all(readers).await.concat()
}

async fn read(seat: &Seat, name: &str, record: &mut Record) {
    let how = How {
        level: Consistency::Eventual,
        deadline: READ_WITHIN,
        ack_regions: 0,
        naming: Naming::Without,
    };
    let (space, key) = split_key(name);
    let outcome = match space {
        SETS => how.all(seat.client.members(space, key)).await,
        COUNTERS => how.ask(seat.client.get(space, key), total).await,
        _ => how.ask(seat.client.get(space, key_of(key)), got).await,
    };
    finish(record, outcome);
}

/// A node's digests as lines; one failed line when it did not say them.
fn digests(seat: &Seat, digests: Result<Digests, String>, clock: RunClock) -> Vec<Record> {
    let now = clock.now_ns();
    let line = |status| {
        let mut record = Record::event(FINAL_PROCESS, Op::Digest, now);
        record.region = Some(seat.region.clone());
        record.node = Some(seat.name.clone());
        record.complete_ns = Some(now);
        record.status = status;
        record
    };
    match digests {
        Ok(digests) => digests
            .into_iter()
            .map(|(keyspace, digest)| Record {
                key: Some(keyspace),
                value: Some(Datum::Text(digest)),
                ..line(Status::Ok)
            })
            .collect(),
        Err(why) => vec![Record {
            error: Some(why),
            ..line(Status::Fail)
        }],
    }
}
