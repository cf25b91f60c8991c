//! Which levels a node can serve now, as `grpc.health.v1` and as `/healthz`.
//!
//! | service | SERVING when |
//! | --- | --- |
//! | the empty name, `hansa.v1.Kv` | the driver runs and has a replica to read from |
//! | `hansa.v1.Kv/eventual` | that replica is not still fetching what it lost |
//! | `hansa.v1.Kv/session` | the node takes writes, too: its data, its clock and its disk are in order |
//! | `hansa.v1.Kv/strong` | it votes, too, and reaches a quorum of every shard it holds |
//!
//! A node that lost data lists eventual only, though it answers those session reads it has everything for: who
//! asks for a node to hold a session with wants one that takes writes. A node that stops serves nothing.
//! `/healthz` answers 200 with the levels, also with none while lost data is fetched: a restart would only begin
//! that again. It answers 503 when nothing answers.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use hansa_consistency::replica::{Standing, Status};
use hansa_consistency::request::Level;
use hansa_proto::KV_SERVICE;
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_health::server::HealthReporter;

use super::Edge;
use crate::driver::Condition;
use crate::limits::{DISK_SILENT_MAX, HEALTH_INTERVAL, STATUS_SILENT_MAX};
use crate::metrics::{self, Metrics};

/// The levels that can be served now, lowest first. A node that still fetches what it lost serves none; a disk that
/// does not answer takes no writes, like a full one.
pub(super) fn levels(status: &Status, disk: &Condition, answers: bool) -> Vec<Level> {
    if status.shards_refilling > 0 {
        return Vec::new();
    }
    let mut levels = vec![Level::Eventual];
    if status.writable && *disk == Condition::Serving && answers {
        levels.push(Level::Session);
        if status.standing == Standing::Voting && status.strong_available {
            levels.push(Level::Strong);
        }
    }
    levels
}

/// Notices when the driver falls silent: when its thread hangs, or when it has no replica any more. Then not even
/// a read is answered, and the last status it published says nothing.
#[derive(Debug)]
pub(super) struct Pulse {
    last: Mutex<(Arc<Status>, Instant)>,
}

impl Pulse {
    /// Heard of at `now`.
    pub(super) fn new(status: Arc<Status>, now: Instant) -> Pulse {
        Pulse {
            last: Mutex::new((status, now)),
        }
    }

    /// Whether `status`, the newest there is at `now`, is an old one. Must be asked every [`HEALTH_INTERVAL`].
    fn is_silent(&self, status: &Arc<Status>, now: Instant) -> bool {
        // A panic elsewhere leaves a whole pair.
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if !Arc::ptr_eq(&last.0, status) {
            *last = (Arc::clone(status), now);
        }
        now.saturating_duration_since(last.1) > STATUS_SILENT_MAX
    }
}

/// Why a node serves nothing at all.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum Down {
    #[error("stopping: no level is served")]
    Stopping,
    #[error(
        "the driver has said nothing for {} s: no level is served; the log says why",
        STATUS_SILENT_MAX.as_secs()
    )]
    Silent,
}

impl Edge {
    /// The levels that can be served now, lowest first: at least one, unless the node still fetches what it lost.
    pub(super) fn levels(&self) -> Result<Vec<Level>, Down> {
        let status = self.driver.status();
        if self.stopping.load(Ordering::Relaxed) {
            return Err(Down::Stopping);
        }
        if self.pulse.is_silent(&status, Instant::now()) {
            return Err(Down::Silent);
        }
        let (disk, answers) = (self.driver.condition(), self.disk_answers());
        Ok(levels(&status, &disk, answers))
    }

    /// Whether the disk has made something durable lately, or had nothing to.
    pub(super) fn disk_answers(&self) -> bool {
        self.metrics.disk_silent_for() <= DISK_SILENT_MAX
    }

    /// From now on the node is not healthy: it is about to stop.
    pub fn begin_to_stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }
}

/// Keeps the health service up to date.
pub struct Reporter {
    reporter: HealthReporter,
}

/// A health service that says NOT_SERVING until it is kept, and who keeps it.
pub async fn service() -> (Reporter, HealthServer<impl Health>) {
    let (reporter, server) = tonic_health::server::health_reporter();
    let reporter = Reporter { reporter };
    reporter.report(None).await;
    (reporter, server)
}

impl Reporter {
    /// Takes over the driver's word every [`HEALTH_INTERVAL`], until the future is dropped.
    pub async fn keep(&self, edge: Arc<Edge>) {
        let mut ticks = tokio::time::interval(HEALTH_INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (mut said, mut answered) = (None, true);
        loop {
            ticks.tick().await;
            let answers = edge.disk_answers();
            if answered && !answers {
                let silent = edge.metrics.disk_silent_for();
                tracing::error!(
                    ?silent,
                    "the disk makes nothing durable: it does not answer"
                );
            }
            answered = answers;
            let now = edge.levels();
            // Watchers are told of changes only.
            if said.as_ref() != Some(&now) {
                self.report(now.as_deref().ok()).await;
                if let Err(down @ Down::Silent) = now {
                    tracing::error!("{down}");
                }
                said = Some(now);
            }
        }
    }

    /// Says NOT_SERVING for everything: the node is about to stop.
    pub async fn stop(&self) {
        self.report(None).await;
    }

    async fn report(&self, levels: Option<&[Level]>) {
        let word = |serving| match serving {
            true => ServingStatus::Serving,
            false => ServingStatus::NotServing,
        };
        for name in ["", KV_SERVICE] {
            let status = word(levels.is_some());
            self.reporter.set_service_status(name, status).await;
        }
        for level in [Level::Eventual, Level::Session, Level::Strong] {
            let name = format!("{KV_SERVICE}/{}", level.name());
            let serving = levels.is_some_and(|levels| levels.contains(&level));
            self.reporter.set_service_status(name, word(serving)).await;
        }
    }
}

impl metrics::Health for Edge {
    fn refresh(&self, metrics: &Metrics) {
        metrics.status(&self.driver.status());
    }

    fn check(&self) -> Result<String, String> {
        let levels = self.levels().map_err(|down| down.to_string())?;
        let names: Vec<_> = levels.iter().map(|level| level.name()).collect();
        Ok(match names.is_empty() {
            true => "serving nothing yet: fetching from its peers what it lost".to_owned(),
            false => format!("serving {}", names.join(", ")),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use hansa_consistency::clock::Hlc;
    use hansa_consistency::key::{NodeId, RegionId};

    use super::*;

    fn status(standing: Standing) -> Status {
        Status {
            node: NodeId(0),
            region: RegionId(0),
            start: 1,
            writable: standing != Standing::Lost,
            standing,
            strong_available: true,
            store_sequence: 0,
            hlc: Hlc(1),
            peers: Vec::new(),
            shards: 1,
            entries_applied: 0,
            entries_uncommitted: 0,
            shards_refilling: 0,
            open_requests: 0,
            sessions_waiting: 0,
            unsettled: 0,
            damage: None,
        }
    }

    #[test]
    fn each_level_needs_what_it_promises() {
        let all = [Level::Eventual, Level::Session, Level::Strong];
        let of = |standing, disk| levels(&status(standing), &disk, true);
        assert_eq!(of(Standing::Voting, Condition::Serving), all);
        assert_eq!(of(Standing::Lost, Condition::Serving), all[..1]);
        let refilling = Status {
            shards_refilling: 1,
            ..status(Standing::Lost)
        };
        assert_eq!(levels(&refilling, &Condition::Serving, true), []);
        assert_eq!(of(Standing::Voting, Condition::DiskFull), all[..1]);
        let failed = Condition::DiskFailed("a test".into());
        assert_eq!(of(Standing::Voting, failed), all[..1]);
        let hanging = levels(&status(Standing::Voting), &Condition::Serving, false);
        assert_eq!(hanging, all[..1]);
    }

    #[test]
    fn a_driver_is_silent_when_its_status_grows_old() {
        let (begun, first) = (Instant::now(), Arc::new(status(Standing::Voting)));
        let after = |ms| begun + Duration::from_millis(ms);
        let long = STATUS_SILENT_MAX.as_millis() as u64 + 1;
        let pulse = Pulse::new(Arc::clone(&first), begun);
        assert!(!pulse.is_silent(&first, after(long - 1)));
        assert!(pulse.is_silent(&first, after(long)));
        let second = Arc::new(status(Standing::Voting));
        assert!(!pulse.is_silent(&second, after(long)));
        assert!(!pulse.is_silent(&second, after(2 * long - 1)));
        assert!(pulse.is_silent(&second, after(2 * long)));
    }
}
