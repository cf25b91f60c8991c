//! Many clients of one region at once: how many syncs their durable writes cost.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use hansa_client::Consistency::Eventual;
use tokio::task::JoinSet;

use super::super::cluster::Cluster;
use super::super::scrape::counter;
use super::super::shape::REGIONS;
use super::Figures;
use super::actor::{Actor, Desk};

/// The region whose clients write.
const REGION: usize = 0;

/// Clients that write at the same time, each waiting for its reply.
const CLIENTS: usize = 64;

/// Eventual writes of each client.
const WRITES: usize = 30;

/// How long a write may take.
const DEADLINE: Duration = Duration::from_secs(10);

/// Lets the clients write and counts the syncs of the region's stores meanwhile, the load's included.
pub(super) async fn run(cluster: &Cluster, desk: &Arc<Desk>, figures: &mut Figures) -> Result<()> {
    let before = syncs(cluster).await?;
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        let mut actor = Actor::new(desk, REGION, DEADLINE).uncounted();
        let key = format!("{}/burst/{client}", desk.history.run());
        clients.spawn(async move {
            for _ in 0..WRITES {
                actor.put(Eventual, &key).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(ended) = clients.join_next().await {
        ended
            .context("a client of the burst ended early")?
            .with_context(|| format!("{CLIENTS} clients at once in {}", REGIONS[REGION]))?;
    }
    let syncs = syncs(cluster).await? - before;
    figures.insert("burst_writes".to_owned(), (CLIENTS * WRITES).into());
    figures.insert("burst_syncs".to_owned(), syncs.into());
    Ok(())
}

/// Syncs of the stores of the region's nodes so far.
async fn syncs(cluster: &Cluster) -> Result<u64> {
    let mut sum = 0;
    for node in cluster.shape.nodes_of(REGION) {
        let page = cluster.ports.metrics(node);
        sum += counter(page, "hansa_syncs_total", &["file=\"store\""]).await?;
    }
    Ok(sum)
}
