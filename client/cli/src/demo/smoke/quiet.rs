//! Nobody asks anything: what a pair of nodes still says to each other.

use std::time::Duration;

use anyhow::{Result, ensure};
use tokio::time::sleep;

use super::super::cluster::Cluster;
use super::Figures;

/// How long the pairs are watched. Longer than a few heartbeats.
const WATCHED: Duration = Duration::from_secs(4);

/// How long the last acknowledgements may take before the cluster counts as quiet.
const SETTLED: Duration = Duration::from_secs(1);

/// Bytes that a quiet pair of nodes may send each second, both directions of both its connections
/// together, with the frames around the messages.
const PAIR_BYTES_MAX: u64 = 1024;

/// Counts what passes through the links of the busiest pair of nodes in different regions.
pub(super) async fn run(cluster: &Cluster, figures: &mut Figures) -> Result<()> {
    sleep(SETTLED).await;
    let before = cluster.links.bytes_by_pair();
    sleep(WATCHED).await;
    let after = cluster.links.bytes_by_pair();
    let sent = |(pair, bytes): (&(usize, usize), &u64)| bytes - before.get(pair).unwrap_or(&0);
    let busiest = after.iter().map(sent).max().unwrap_or(0) / WATCHED.as_secs();
    figures.insert("quiet_pair_bytes_per_s".to_owned(), busiest.into());
    ensure!(
        busiest <= PAIR_BYTES_MAX,
        "a pair of nodes sends {busiest} bytes a second though nobody asks anything"
    );
    Ok(())
}
