//! A region is cut off, both sides go on, and the cut is healed.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use hansa_client::Applied;
use hansa_client::Consistency::{Eventual, Session, Strong};
use serde_json::json;
use tokio::time::Instant;

use super::super::cluster::Cluster;
use super::super::links::Way;
use super::super::ready::{is_ready, status};
use super::super::shape::REGIONS;
use super::actor::{Actor, Desk};
use super::{CUT_REGION, Figures, HEAL_WITHIN, millis, until};

/// How long the cut-off region may take to notice that it is a minority.
const NOTICE_WITHIN: Duration = Duration::from_secs(15);

/// What `at once` means: a refusal that waits for nothing, on a loaded machine.
const AT_ONCE: Duration = Duration::from_millis(500);

/// How long an operation may take that must succeed.
const DEADLINE: Duration = Duration::from_secs(5);

/// Operations of each kind.
const ROUNDS: usize = 5;

/// Cuts the region off and checks both sides.
pub(super) async fn run(cluster: &Cluster, desk: &Arc<Desk>, figures: &mut Figures) -> Result<()> {
    desk.history
        .nemesis(&format!("cut {}", REGIONS[CUT_REGION]));
    cluster.links.set(CUT_REGION, None, Way::Both, true);
    let noticed = until("the cut-off region notices it", NOTICE_WITHIN, || async {
        for node in cluster.shape.nodes_of(CUT_REGION) {
            if status(cluster.ports, node)
                .await
                .is_none_or(|it| it.strong_available)
            {
                return Some("it still counts on a quorum".to_owned());
            }
        }
        None
    });
    figures.insert("cut_noticed_ms".to_owned(), millis(noticed.await?));
    refused_in_the_minority(desk, figures).await?;
    for region in (0..REGIONS.len()).filter(|region| *region != CUT_REGION) {
        served_by_the_majority(desk, region)
            .await
            .with_context(|| format!("strong in {}, with the majority", REGIONS[region]))?;
    }
    for (region, name) in REGIONS.iter().enumerate() {
        eventual_served(desk, region).await.with_context(|| {
            format!(
                "eventual in {name} while {} is cut off",
                REGIONS[CUT_REGION]
            )
        })?;
    }
    Ok(())
}

/// Strong reads and writes are refused at once, with a clear error, and nothing is applied.
async fn refused_in_the_minority(desk: &Arc<Desk>, figures: &mut Figures) -> Result<()> {
    let mut actor = Actor::new(desk, CUT_REGION, DEADLINE);
    let key = shared(desk);
    let mut slowest = Duration::ZERO;
    for _ in 0..ROUNDS {
        let started = Instant::now();
        let read = actor.get(Strong, &key).await.map(drop);
        let read_after = started.elapsed();
        let write = actor.put(Strong, &key).await.map(drop);
        let write_after = started.elapsed() - read_after;
        for (what, outcome, after) in [("read", read, read_after), ("write", write, write_after)] {
            let Err(error) = outcome else {
                bail!("a strong {what} succeeded in the cut-off region");
            };
            ensure!(
                error.reason() == "QUORUM_UNREACHABLE" && error.applied() == Applied::No,
                "a strong {what} in the cut-off region says {error}"
            );
            ensure!(
                after <= AT_ONCE,
                "a strong {what} was refused only after {after:?}"
            );
            slowest = slowest.max(after);
        }
    }
    figures.insert("refused_within_ms".to_owned(), millis(slowest));
    Ok(())
}

async fn served_by_the_majority(desk: &Arc<Desk>, region: usize) -> Result<()> {
    let mut actor = Actor::new(desk, region, DEADLINE);
    let key = shared(desk);
    for _ in 0..ROUNDS {
        actor.put(Strong, &key).await?;
        let got = actor.get(Strong, &key).await?;
        let regions = &got.receipt.regions;
        ensure!(
            !regions.iter().any(|it| it == REGIONS[CUT_REGION]),
            "a strong read names the cut-off region among {regions:?}"
        );
    }
    Ok(())
}

/// Eventual and session operations go on in every region, on the keys that the others write, too.
async fn eventual_served(desk: &Arc<Desk>, region: usize) -> Result<()> {
    let mut actor = Actor::new(desk, region, DEADLINE);
    let key = shared(desk);
    for _ in 0..ROUNDS {
        for level in [Eventual, Session] {
            let (_, receipt) = actor.put(level, &key).await?;
            let regions = receipt.regions;
            let alone = regions.iter().all(|it| it == REGIONS[region]);
            ensure!(alone, "a write at level {level} waited for {regions:?}");
            actor.get(level, &key).await?;
            actor.increment(level).await?;
            actor.add(level, &key).await?;
        }
    }
    Ok(())
}

fn shared(desk: &Desk) -> String {
    format!("{}/shared/0", desk.history.run())
}

/// Heals the cut; waits until all nodes are ready again and the region serves strong.
pub(super) async fn heal(cluster: &Cluster, desk: &Arc<Desk>, figures: &mut Figures) -> Result<()> {
    desk.history
        .nemesis(&format!("heal {}", REGIONS[CUT_REGION]));
    cluster.links.set(CUT_REGION, None, Way::Both, false);
    let healed = until(
        "all nodes are ready after the heal",
        HEAL_WITHIN,
        || async {
            for node in 0..cluster.shape.nodes() {
                if status(cluster.ports, node)
                    .await
                    .is_none_or(|it| !is_ready(&it))
                {
                    return Some(format!("{} is not", cluster.shape.node_name(node)));
                }
            }
            None
        },
    );
    figures.insert("healed_after_ms".to_owned(), millis(healed.await?));
    let mut actor = Actor::new(desk, CUT_REGION, DEADLINE);
    let (value, _) = actor
        .put(Strong, &format!("{}/healed", desk.history.run()))
        .await?;
    let got = actor
        .get(Strong, &format!("{}/healed", desk.history.run()))
        .await?;
    ensure!(
        got.bytes().is_some_and(|it| *it == value),
        "a strong read missed a strong write"
    );
    figures.insert(
        "strong_after_heal_round_trips".to_owned(),
        json!(got.receipt.wan_round_trips),
    );
    Ok(())
}
