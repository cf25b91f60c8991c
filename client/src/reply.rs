//! What calls return. Every reply carries a [`Receipt`].

use std::time::Duration;

use bytes::Bytes;
use serde::{Serialize, Serializer};

use crate::consistency::Consistency;
use crate::etag::Etag;
use crate::key::Key;
use crate::request_ids::RequestId;

/// What a reply is worth and what it cost.
///
/// Serialized it is the object in the JSON of the command line and in histories: the fields as they
/// are named here, with `staleness_ms` and `elapsed_us` for the times. Fields are added, never changed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Receipt {
    /// The level that was reached; never below the one asked for.
    pub level: Consistency,
    /// Upper bound of the staleness of what was read: everything acknowledged in any region longer
    /// ago than this was seen. `None` when the serving node has not heard of some region yet. Zero
    /// for strong reads.
    #[serde(rename = "staleness_ms", serialize_with = "milliseconds")]
    pub staleness: Option<Duration>,
    /// The name of the node that took the request.
    pub served_by: String,
    /// Its region.
    pub served_in: String,
    /// The names of the nodes that took part.
    pub replicas: Vec<String>,
    /// Their regions, each once.
    pub regions: Vec<String>,
    /// For a write: the regions in which it was durable when the reply left.
    pub durable_regions: Vec<String>,
    /// Round trips between regions that were paid, one after the other.
    pub wan_round_trips: u32,
    /// How a strong operation was decided in the end; `None` below strong.
    pub path: Option<Path>,
    /// Whether eventual writes were absorbed into the strong value for this request.
    pub absorbed: bool,
    /// Whether a concurrent write was merged or overwritten.
    pub merged: bool,
    /// The node that did the work, when that was not the one asked.
    pub forwarded_to: Option<String>,
    /// The serving node's topology epoch.
    pub epoch: u64,
    /// Attempts the SDK made; 1 when the first one succeeded.
    pub attempts: u32,
    /// Time from the call to the reply, as the caller saw it.
    #[serde(rename = "elapsed_us", serialize_with = "microseconds")]
    pub elapsed: Duration,
    /// For a write: the request id that its attempts carried; `None` for one
    /// [without](crate::Call::without_request_id).
    pub request_id: Option<RequestId>,
}

/// How a strong operation was decided. Of several in one reply: the last in this order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Path {
    /// A read whose newest ballot was proven chosen: one round trip between regions.
    Proven,
    /// A read that sent an unproven value again.
    Helped,
    /// Executed by one far replica: one round trip.
    Delegated,
    /// The key is contended: another coordinator proposed it together with operations of its own.
    Combined,
    /// A majority promised, then a majority accepted: two round trips.
    Prepared,
}

impl Path {
    /// The word used in JSON and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Path::Proven => "proven",
            Path::Helped => "helped",
            Path::Delegated => "delegated",
            Path::Combined => "combined",
            Path::Prepared => "prepared",
        }
    }
}

impl Receipt {
    /// What this and a further reply of one list together cost and are worth: the weakest level, as stale as the
    /// stalest, as dear as their sum. The node named is the one that served the last.
    #[must_use]
    pub fn join(self, page: Receipt) -> Receipt {
        Receipt {
            level: self.level.weaker(page.level),
            // One page of unknown staleness makes the whole unknown.
            staleness: self.staleness.zip(page.staleness).map(|(a, b)| a.max(b)),
            served_by: page.served_by,
            served_in: page.served_in,
            replicas: union(self.replicas, page.replicas),
            regions: union(self.regions, page.regions),
            durable_regions: union(self.durable_regions, page.durable_regions),
            wan_round_trips: self.wan_round_trips.saturating_add(page.wan_round_trips),
            path: self.path.max(page.path),
            absorbed: self.absorbed || page.absorbed,
            merged: self.merged || page.merged,
            forwarded_to: page.forwarded_to.or(self.forwarded_to),
            epoch: self.epoch.max(page.epoch),
            attempts: self.attempts.saturating_add(page.attempts),
            elapsed: self.elapsed.saturating_add(page.elapsed),
            request_id: page.request_id,
        }
    }
}

fn union(mut names: Vec<String>, more: Vec<String>) -> Vec<String> {
    for name in more {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// The longest time that fits stands for all longer ones.
fn number(time: u128) -> u64 {
    u64::try_from(time).unwrap_or(u64::MAX)
}

fn milliseconds<S: Serializer>(time: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
    time.map(|time| number(time.as_millis())).serialize(to)
}

fn microseconds<S: Serializer>(time: &Duration, to: S) -> Result<S::Ok, S::Error> {
    number(time.as_micros()).serialize(to)
}

/// What a row holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Value {
    /// A register's bytes.
    Bytes(Bytes),
    /// A counter's value.
    Total(i64),
    /// The element asked for is in its set.
    Member,
}

/// What a row held when it was read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Found {
    /// Its content; `None` when nothing is there. That is no error.
    pub value: Option<Value>,
    /// Its version; empty when it was never written.
    pub etag: Etag,
}

impl Found {
    /// A register's bytes, if there are any.
    pub fn bytes(&self) -> Option<&Bytes> {
        match &self.value {
            Some(Value::Bytes(bytes)) => Some(bytes),
            _ => None,
        }
    }

    /// A counter's value, if it was ever written.
    pub fn total(&self) -> Option<i64> {
        match &self.value {
            Some(Value::Total(total)) => Some(*total),
            _ => None,
        }
    }
}

/// Answer to [`get`](crate::Client::get).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Got {
    /// What the row held.
    pub found: Found,
    /// What the reply is worth.
    pub receipt: Receipt,
}

impl Got {
    /// A register's bytes, if there are any.
    pub fn bytes(&self) -> Option<&Bytes> {
        self.found.bytes()
    }

    /// A counter's value, if it was ever written.
    pub fn total(&self) -> Option<i64> {
        self.found.total()
    }
}

/// Answer to every write.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Written {
    /// The row's version right after the write.
    pub etag: Etag,
    /// A counter's value right after the write as the serving replica saw it.
    pub total: Option<i64>,
    /// What the reply is worth.
    pub receipt: Receipt,
}

/// Answer to [`contains`](crate::Client::contains).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Contained {
    /// Whether the element is in the set.
    pub member: bool,
    /// What the reply is worth.
    pub receipt: Receipt,
}

/// Answer to [`batch_get`](crate::Client::batch_get).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Batch {
    /// The rows, in order of the keys asked for.
    pub rows: Vec<Found>,
    /// Over all rows: the lowest level, the worst staleness.
    pub receipt: Receipt,
}

/// One row of a scan.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Row {
    /// Its key.
    pub key: Key,
    /// In a set keyspace: its element.
    pub element: Option<Bytes>,
    /// What it holds.
    pub value: Value,
    /// Its version.
    pub etag: Etag,
}

/// A page of a scan.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Page {
    /// The rows, in order inside a shard; a page may be empty before the end.
    pub rows: Vec<Row>,
    /// Where to go on; empty at the end.
    pub next: Bytes,
    /// What the reply is worth.
    pub receipt: Receipt,
}

/// A page of a set's elements.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Members {
    /// The elements, in byte order.
    pub elements: Vec<Bytes>,
    /// Where to go on; empty at the end.
    pub next: Bytes,
    /// What the reply is worth.
    pub receipt: Receipt,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(level: Consistency, staleness: Option<u64>, region: &str, trips: u32) -> Receipt {
        Receipt {
            level,
            staleness: staleness.map(Duration::from_millis),
            served_by: format!("{region}-1"),
            served_in: region.to_owned(),
            replicas: vec![format!("{region}-1")],
            regions: vec![region.to_owned()],
            durable_regions: Vec::new(),
            wan_round_trips: trips,
            path: (trips > 0).then_some(Path::Proven),
            absorbed: false,
            merged: trips == 0,
            forwarded_to: (trips > 0).then(|| "us-2".to_owned()),
            epoch: 1,
            attempts: 1,
            elapsed: Duration::from_millis(2),
            request_id: None,
        }
    }

    #[test]
    fn pages_have_one_receipt_that_hides_none_of_them() {
        use Consistency::{Eventual, Session, Strong};
        let dear = page(Eventual, Some(90), "us", 2);
        let cheap = page(Session, Some(1), "eu", 0);
        for (first, last) in [(&dear, &cheap), (&cheap, &dear)] {
            let whole = first.clone().join(last.clone());
            assert_eq!(whole.level, Eventual);
            assert_eq!(whole.staleness, Some(Duration::from_millis(90)));
            assert_eq!((whole.wan_round_trips, whole.attempts), (2, 2));
            assert_eq!(whole.path, Some(Path::Proven));
            assert_eq!((whole.regions.len(), whole.replicas.len()), (2, 2));
            assert_eq!(whole.served_by, last.served_by);
            assert_eq!(whole.forwarded_to.as_deref(), Some("us-2"));
            assert_eq!(whole.elapsed, Duration::from_millis(4));
            assert!(whole.merged && !whole.absorbed);
        }
        let unknown = page(Strong, None, "eu", 0);
        assert_eq!(cheap.clone().join(unknown).staleness, None);
        let again = dear.clone().join(dear.clone());
        assert_eq!(again.regions, ["us"]);
    }
}
