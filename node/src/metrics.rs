//! What a node counts and measures: one registry per node, so that several nodes fit into one process.
//!
//! [`TABLE`] is the whole catalogue. Names start with `hansa_`, end in their unit, and carry the labels
//! `region` and `node`; no label ever holds a key, a value or anything else a client chose.

mod http;

use std::collections::BTreeSet;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hansa_consistency::effect::Note;
use hansa_consistency::key::NodeId;
use hansa_consistency::replica::Status;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry, Unit};

use crate::driver::{Condition, GroupStats, Observer};
use crate::settings::Names;

pub use self::http::{Health, serve};

/// One metric of the catalogue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Described {
    /// Its name as Prometheus shows it, without suffixes of histograms.
    pub name: &'static str,
    /// `counter`, `gauge` or `histogram`.
    pub kind: &'static str,
    /// What one of it is.
    pub unit: &'static str,
    /// Its labels beside `region` and `node`.
    pub labels: &'static str,
    /// What it says.
    pub help: &'static str,
}

const fn row(
    name: &'static str,
    kind: &'static str,
    unit: &'static str,
    labels: &'static str,
    help: &'static str,
) -> Described {
    Described {
        name,
        kind,
        unit,
        labels,
        help,
    }
}

/// Every metric of a node.
#[rustfmt::skip]
pub const TABLE: [Described; 28] = [
    row("hansa_operations_total", "counter", "requests", "command, level, outcome", "requests answered; outcome is ok or the refusal's reason"),
    row("hansa_operation_seconds", "histogram", "seconds", "command, level", "time from a request's arrival to its answer"),
    row("hansa_pipes", "gauge", "streams", "", "Pipe streams open"),
    row("hansa_connections", "gauge", "connections", "listener", "connections accepted and open; listener is clients, peers or metrics"),
    row("hansa_connections_refused_total", "counter", "connections", "listener", "connections closed because there were too many"),
    row("hansa_groups_total", "counter", "groups", "", "groups made durable: one atomic batch each"),
    row("hansa_group_events_total", "counter", "events", "", "steps whose effects were in those groups"),
    row("hansa_group_writes_total", "counter", "writes", "", "changes of the store in those groups"),
    row("hansa_group_written_bytes_total", "counter", "bytes", "", "keys and values in those changes"),
    row("hansa_group_seconds", "histogram", "seconds", "", "time to apply and sync one group"),
    row("hansa_syncs_total", "counter", "syncs", "file", "syncs of the store and of the sequence file"),
    row("hansa_sequence_sync_seconds", "histogram", "seconds", "", "time to sync the sequence file"),
    row("hansa_notes_total", "counter", "events", "note", "rare paths of the core"),
    row("hansa_disk_condition", "gauge", "0 or 1", "condition", "1 for the disk's condition: serving, disk_full, disk_failed"),
    row("hansa_standing", "gauge", "0 or 1", "standing", "1 for what the node is: asking, voting, lost"),
    row("hansa_writable", "gauge", "0 or 1", "", "whether the core takes writes"),
    row("hansa_strong_available", "gauge", "0 or 1", "", "whether a quorum of every shard is reachable"),
    row("hansa_open_requests", "gauge", "requests", "", "requests open in the core"),
    row("hansa_sessions_waiting", "gauge", "requests", "", "session requests that wait for entries"),
    row("hansa_unsettled_rows", "gauge", "rows", "", "rows with an accepted strong value not known chosen"),
    row("hansa_entries_applied", "gauge", "entries", "", "log entries of all nodes applied"),
    row("hansa_peer_reachable", "gauge", "0 or 1", "peer, peer_region", "whether messages get through both ways"),
    row("hansa_peer_link_up", "gauge", "0 or 1", "peer, peer_region", "whether our stream to the peer stands"),
    row("hansa_peer_rtt_seconds", "gauge", "seconds", "peer, peer_region", "measured round trip; -1 before it was"),
    row("hansa_peer_staleness_seconds", "gauge", "seconds", "peer, peer_region", "everything the peer had this long ago is here; -1 when never heard of"),
    row("hansa_peer_messages_total", "counter", "messages", "peer, peer_region, direction, kind", "messages by kind; direction is sent, received or dropped"),
    row("hansa_peer_bytes_total", "counter", "bytes", "peer, peer_region, direction", "encoded messages"),
    row("hansa_peer_shards_behind", "gauge", "shards", "peer, peer_region", "shards in which entries the peer told of are missing"),
];

/// Which way a message went.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Direction {
    /// Handed to the link.
    Sent,
    /// Taken from the link.
    Received,
    /// Thrown away: the link was down or full.
    Dropped,
}

impl Direction {
    /// The label's value.
    pub fn name(self) -> &'static str {
        match self {
            Direction::Sent => "sent",
            Direction::Received => "received",
            Direction::Dropped => "dropped",
        }
    }
}

type Labels<const N: usize> = [(&'static str, &'static str); N];
type PeerLabels = Vec<(&'static str, String)>;
type Seconds = Gauge<f64, AtomicU64>;

/// Who a peer is, in labels.
fn peer_labels(names: &Names, peer: NodeId) -> PeerLabels {
    let region = names.node_names(peer).map(|node| node.region);
    let region = region.map_or("?", |region| names.region_name(region));
    vec![
        ("peer", names.node_name(peer).to_owned()),
        ("peer_region", region.to_owned()),
    ]
}

/// Registers a metric under its name in [`TABLE`].
fn put<M: Metric + Clone>(registry: &mut Registry, name: &'static str, metric: &M) {
    let described = TABLE.iter().find(|row| row.name == name);
    let help = described.map_or("", |row| row.help);
    // The text format adds `_total` to counters, and the unit to the name, by itself.
    let bare = name.strip_suffix("_total").unwrap_or(name);
    let (bare, unit) = match (bare.strip_suffix("_seconds"), bare.strip_suffix("_bytes")) {
        (Some(bare), _) => (bare, Some(Unit::Seconds)),
        (_, Some(bare)) => (bare, Some(Unit::Bytes)),
        _ => (bare, None),
    };
    match unit {
        Some(unit) => registry.register_with_unit(bare, help, unit, metric.clone()),
        None => registry.register(bare, help, metric.clone()),
    }
}

/// From 100 us to 13 s, four steps a decade.
fn latency() -> Histogram {
    Histogram::new([
        0.0001, 0.000_18, 0.000_32, 0.000_56, 0.001, 0.0018, 0.0032, 0.0056, 0.01, 0.018, 0.032,
        0.056, 0.1, 0.18, 0.32, 0.56, 1.0, 1.8, 3.2, 5.6, 13.0,
    ])
}

/// Since when the disk owes something. A node with a link says a heartbeat on it every second at least, and its
/// clock's bound is made durable before that: so while a link stands, something becomes durable all the time.
#[derive(Debug)]
struct Owed {
    links: BTreeSet<NodeId>,
    since: Instant,
}

impl Owed {
    fn link(&mut self, peer: NodeId, up: bool, now: Instant) {
        if self.links.is_empty() {
            self.since = now;
        }
        match up {
            true => self.links.insert(peer),
            false => self.links.remove(&peer),
        };
    }

    fn silent_for(&self, now: Instant) -> Duration {
        match self.links.is_empty() {
            true => Duration::ZERO,
            false => now.saturating_duration_since(self.since),
        }
    }
}

/// One node's metrics. Every method is cheap and never blocks for long.
pub struct Metrics {
    registry: Registry,
    names: Arc<Names>,
    owed: Mutex<Owed>,
    operations: Family<Labels<3>, Counter>,
    operation_seconds: Family<Labels<2>, Histogram, fn() -> Histogram>,
    pipes: Gauge,
    connections: Family<Labels<1>, Gauge>,
    connections_refused: Family<Labels<1>, Counter>,
    groups: Counter,
    group_events: Counter,
    group_writes: Counter,
    group_bytes: Counter,
    group_seconds: Histogram,
    syncs: Family<Labels<1>, Counter>,
    sequence_seconds: Histogram,
    notes: Family<Labels<1>, Counter>,
    condition: Family<Labels<1>, Gauge>,
    standing: Family<Labels<1>, Gauge>,
    writable: Gauge,
    strong_available: Gauge,
    open_requests: Gauge,
    sessions_waiting: Gauge,
    unsettled: Gauge,
    entries_applied: Gauge,
    reachable: Family<PeerLabels, Gauge>,
    link_up: Family<PeerLabels, Gauge>,
    rtt: Family<PeerLabels, Seconds>,
    staleness: Family<PeerLabels, Seconds>,
    messages: Family<PeerLabels, Counter>,
    bytes: Family<PeerLabels, Counter>,
    behind: Family<PeerLabels, Gauge>,
}

impl Metrics {
    /// The metrics of node `node`, everything at its start.
    pub fn new(names: Arc<Names>, node: NodeId) -> Metrics {
        let region = names.node_names(node).map(|node| node.region);
        let region = region.map_or("?", |region| names.region_name(region));
        let labels = [
            ("region", region.to_owned()),
            ("node", names.node_name(node).to_owned()),
        ];
        let labels = labels.map(|(name, value)| (name.into(), value.into()));
        let mut metrics = Metrics {
            registry: Registry::with_labels(labels.into_iter()),
            names,
            owed: Mutex::new(Owed {
                links: BTreeSet::new(),
                since: Instant::now(),
            }),
            operations: Family::default(),
            operation_seconds: Family::new_with_constructor(latency),
            pipes: Gauge::default(),
            connections: Family::default(),
            connections_refused: Family::default(),
            groups: Counter::default(),
            group_events: Counter::default(),
            group_writes: Counter::default(),
            group_bytes: Counter::default(),
            group_seconds: latency(),
            syncs: Family::default(),
            sequence_seconds: latency(),
            notes: Family::default(),
            condition: Family::default(),
            standing: Family::default(),
            writable: Gauge::default(),
            strong_available: Gauge::default(),
            open_requests: Gauge::default(),
            sessions_waiting: Gauge::default(),
            unsettled: Gauge::default(),
            entries_applied: Gauge::default(),
            reachable: Family::default(),
            link_up: Family::default(),
            rtt: Family::default(),
            staleness: Family::default(),
            messages: Family::default(),
            bytes: Family::default(),
            behind: Family::default(),
        };
        metrics.register();
        metrics.condition(&Condition::Serving);
        for note in Note::ALL {
            drop(metrics.notes.get_or_create(&[("note", note.name())]));
        }
        metrics
    }

    fn register(&mut self) {
        let registry = &mut self.registry;
        put(registry, "hansa_operations_total", &self.operations);
        put(registry, "hansa_operation_seconds", &self.operation_seconds);
        put(registry, "hansa_pipes", &self.pipes);
        put(registry, "hansa_connections", &self.connections);
        put(
            registry,
            "hansa_connections_refused_total",
            &self.connections_refused,
        );
        put(registry, "hansa_groups_total", &self.groups);
        put(registry, "hansa_group_events_total", &self.group_events);
        put(registry, "hansa_group_writes_total", &self.group_writes);
        put(
            registry,
            "hansa_group_written_bytes_total",
            &self.group_bytes,
        );
        put(registry, "hansa_group_seconds", &self.group_seconds);
        put(registry, "hansa_syncs_total", &self.syncs);
        put(
            registry,
            "hansa_sequence_sync_seconds",
            &self.sequence_seconds,
        );
        put(registry, "hansa_notes_total", &self.notes);
        put(registry, "hansa_disk_condition", &self.condition);
        put(registry, "hansa_standing", &self.standing);
        put(registry, "hansa_writable", &self.writable);
        put(registry, "hansa_strong_available", &self.strong_available);
        put(registry, "hansa_open_requests", &self.open_requests);
        put(registry, "hansa_sessions_waiting", &self.sessions_waiting);
        put(registry, "hansa_unsettled_rows", &self.unsettled);
        put(registry, "hansa_entries_applied", &self.entries_applied);
        put(registry, "hansa_peer_reachable", &self.reachable);
        put(registry, "hansa_peer_link_up", &self.link_up);
        put(registry, "hansa_peer_rtt_seconds", &self.rtt);
        put(registry, "hansa_peer_staleness_seconds", &self.staleness);
        put(registry, "hansa_peer_messages_total", &self.messages);
        put(registry, "hansa_peer_bytes_total", &self.bytes);
        put(registry, "hansa_peer_shards_behind", &self.behind);
    }

    /// A request was answered. `outcome` is `ok` or the refusal's reason.
    pub fn operation(
        &self,
        command: &'static str,
        level: &'static str,
        outcome: &'static str,
        took: Duration,
    ) {
        let labels = [("command", command), ("level", level), ("outcome", outcome)];
        self.operations.get_or_create(&labels).inc();
        let labels = [("command", command), ("level", level)];
        let seconds = self.operation_seconds.get_or_create(&labels);
        seconds.observe(took.as_secs_f64());
    }

    /// A Pipe was opened (`1`) or closed (`-1`).
    pub fn pipes(&self, by: i64) {
        self.pipes.inc_by(by);
    }

    /// A connection of a listener was accepted (`1`) or closed (`-1`).
    pub fn connections(&self, listener: &'static str, by: i64) {
        let open = self.connections.get_or_create(&[("listener", listener)]);
        open.inc_by(by);
    }

    /// A connection was closed because the listener has too many.
    pub fn connection_refused(&self, listener: &'static str) {
        let refused = self
            .connections_refused
            .get_or_create(&[("listener", listener)]);
        refused.inc();
    }

    /// A message of a kind went to a peer or came from it; `bytes` is its encoded length.
    pub fn message(&self, peer: NodeId, direction: Direction, kind: &'static str, bytes: usize) {
        let mut labels = peer_labels(&self.names, peer);
        labels.push(("direction", direction.name().to_owned()));
        self.bytes.get_or_create(&labels).inc_by(bytes as u64);
        labels.push(("kind", kind.to_owned()));
        self.messages.get_or_create(&labels).inc();
    }

    /// Our stream to a peer stands, or does not.
    pub fn link(&self, peer: NodeId, up: bool) {
        let labels = peer_labels(&self.names, peer);
        self.link_up.get_or_create(&labels).set(i64::from(up));
        self.owed().link(peer, up, Instant::now());
    }

    /// Groups made durable so far.
    #[cfg(test)]
    pub(crate) fn groups(&self) -> u64 {
        self.groups.get()
    }

    /// How long nothing has become durable though something should have; zero while no link stands, because such a
    /// node may have nothing to write.
    pub fn disk_silent_for(&self) -> Duration {
        self.owed().silent_for(Instant::now())
    }

    /// A panic elsewhere leaves it whole: every change of it is one call.
    fn owed(&self) -> MutexGuard<'_, Owed> {
        self.owed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes over what the replica says of itself. Called before metrics are read.
    pub fn status(&self, status: &Status) {
        for standing in ["asking", "voting", "lost"] {
            let now = i64::from(standing == status.standing.name());
            self.standing
                .get_or_create(&[("standing", standing)])
                .set(now);
        }
        self.writable.set(i64::from(status.writable));
        self.strong_available
            .set(i64::from(status.strong_available));
        self.open_requests.set(status.open_requests as i64);
        self.sessions_waiting.set(status.sessions_waiting as i64);
        self.unsettled.set(status.unsettled as i64);
        self.entries_applied.set(status.entries_applied as i64);
        for peer in &status.peers {
            let labels = peer_labels(&self.names, peer.node);
            let seconds = |time: Option<Duration>| time.map_or(-1.0, |time| time.as_secs_f64());
            self.reachable
                .get_or_create(&labels)
                .set(i64::from(peer.reachable));
            self.rtt
                .get_or_create(&labels)
                .set(seconds(peer.round_trip));
            self.staleness
                .get_or_create(&labels)
                .set(seconds(peer.staleness));
            self.behind
                .get_or_create(&labels)
                .set(peer.shards_behind as i64);
        }
    }

    /// Everything, in the OpenMetrics text format.
    ///
    /// # Errors
    /// Never for a `String`; the encoder's interface has one.
    pub fn encode(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

impl Observer for Metrics {
    fn note(&self, note: Note) {
        self.notes.get_or_create(&[("note", note.name())]).inc();
    }

    fn group(&self, group: &GroupStats) {
        self.owed().since = Instant::now();
        self.groups.inc();
        self.group_events.inc_by(group.events as u64);
        self.group_writes.inc_by(group.writes as u64);
        self.group_bytes.inc_by(group.bytes as u64);
        self.group_seconds.observe(group.took.as_secs_f64());
        self.syncs.get_or_create(&[("file", "store")]).inc();
    }

    fn sequence_synced(&self, took: Duration) {
        self.sequence_seconds.observe(took.as_secs_f64());
        self.syncs.get_or_create(&[("file", "sequence")]).inc();
    }

    fn condition(&self, condition: &Condition) {
        // A full disk made nothing durable for as long as it was full.
        self.owed().since = Instant::now();
        let name = match condition {
            Condition::Serving => "serving",
            Condition::DiskFull => "disk_full",
            Condition::DiskFailed(_) => "disk_failed",
        };
        for each in ["serving", "disk_full", "disk_failed"] {
            let gauge = self.condition.get_or_create(&[("condition", each)]);
            gauge.set(i64::from(each == name));
        }
    }
}

#[cfg(test)]
mod tests;
