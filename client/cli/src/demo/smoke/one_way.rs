//! One direction of a region's links is cut: the region hears everybody and nobody hears it.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use hansa_client::Consistency::Eventual;
use hdrhistogram::Histogram;
use tokio::time::Instant;

use super::super::board::{count, histogram};
use super::super::cluster::Cluster;
use super::super::links::Way;
use super::super::shape::REGIONS;
use super::actor::{Actor, Desk};
use super::{CUT_REGION, Figures, milliseconds};

/// How long an operation may take that must succeed.
const DEADLINE: Duration = Duration::from_secs(5);

/// Puts and gets in each region, one after another.
const ROUNDS: usize = 200;

/// Cuts what the region sends, measures eventual operations in every region, and heals the cut.
pub(super) async fn run(cluster: &Cluster, desk: &Arc<Desk>, figures: &mut Figures) -> Result<()> {
    let region = REGIONS[CUT_REGION];
    desk.history.nemesis(&format!("cut {region} (outbound)"));
    cluster.links.set(CUT_REGION, None, Way::Outbound, true);
    let (mut puts, mut gets) = (Vec::new(), Vec::new());
    for (region, name) in REGIONS.iter().enumerate() {
        let measured = measure(desk, region).await;
        let (put, get) =
            measured.with_context(|| format!("eventual in {name} while one direction is cut"))?;
        puts.push(milliseconds(Duration::from_micros(
            put.value_at_quantile(0.5),
        )));
        gets.push(milliseconds(Duration::from_micros(
            get.value_at_quantile(0.5),
        )));
    }
    desk.history.nemesis(&format!("heal {region} (outbound)"));
    cluster.links.set(CUT_REGION, None, Way::Outbound, false);
    figures.insert("one_way_cut_put_p50_ms".to_owned(), puts.into());
    figures.insert("one_way_cut_get_p50_ms".to_owned(), gets.into());
    Ok(())
}

/// Times of eventual puts and gets as the caller sees them, in microseconds.
async fn measure(desk: &Arc<Desk>, region: usize) -> Result<(Histogram<u64>, Histogram<u64>)> {
    let mut actor = Actor::new(desk, region, DEADLINE);
    let key = format!("{}/one way/{}", desk.history.run(), REGIONS[region]);
    let (mut puts, mut gets) = (histogram(3), histogram(3));
    for _ in 0..ROUNDS {
        let started = Instant::now();
        actor.put(Eventual, &key).await?;
        count(&mut puts, started.elapsed());
        let started = Instant::now();
        actor.get(Eventual, &key).await?;
        count(&mut gets, started.elapsed());
    }
    Ok((puts, gets))
}
