//! Which levels a node can serve now, as `grpc.health.v1` and as `/healthz`.
//!
//! | service | SERVING when |
//! | --- | --- |
//! | the empty name, `hansa.v1.Kv`, `hansa.v1.Kv/eventual` | the driver runs |
//! | `hansa.v1.Kv/session` | the node takes writes, too: its data, its clock and its disk are in order |
//! | `hansa.v1.Kv/strong` | it votes, too, and reaches a quorum of every shard it holds |

use std::sync::Arc;

use hansa_consistency::replica::{Standing, Status};
use hansa_consistency::request::Level;
use hansa_proto::KV_SERVICE;
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_health::server::HealthReporter;

use super::Edge;
use crate::driver::Condition;
use crate::limits::HEALTH_INTERVAL;
use crate::metrics::{self, Metrics};

/// The levels that can be served now, lowest first.
pub(super) fn levels(status: &Status, disk: &Condition) -> Vec<Level> {
    let mut levels = vec![Level::Eventual];
    if status.writable && *disk == Condition::Serving {
        levels.push(Level::Session);
        if status.standing == Standing::Voting && status.strong_available {
            levels.push(Level::Strong);
        }
    }
    levels
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
        let mut said = None;
        loop {
            ticks.tick().await;
            let now = levels(&edge.driver.status(), &edge.driver.condition());
            // Watchers are told of changes only.
            if said.as_ref() != Some(&now) {
                self.report(Some(&now)).await;
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
        let levels = levels(&self.driver.status(), &self.driver.condition());
        let names: Vec<_> = levels.iter().map(|level| level.name()).collect();
        Ok(format!("serving {}", names.join(", ")))
    }
}
