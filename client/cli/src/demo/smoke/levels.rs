//! Every level from every region, on an undisturbed cluster.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use hansa_client::Consistency::{self, Eventual, Session, Strong};

use super::super::shape::REGIONS;
use super::actor::{Actor, Desk};
use super::until;

/// How long one operation may take here.
const DEADLINE: Duration = Duration::from_secs(5);

/// How long an eventual write may take until another region shows it.
const SPREAD_WITHIN: Duration = Duration::from_secs(10);

/// Runs the checks of all regions, one region after the other.
pub(super) async fn run(desk: &Arc<Desk>) -> Result<()> {
    for (region, name) in REGIONS.iter().enumerate() {
        for level in [Eventual, Session, Strong] {
            registers(desk, region, level)
                .await
                .with_context(|| format!("a register at level {level} in {name}"))?;
            counters_and_sets(desk, region, level)
                .await
                .with_context(|| format!("a counter or a set at level {level} in {name}"))?;
        }
        conditions(desk, region)
            .await
            .with_context(|| format!("compare-and-set in {name}"))?;
    }
    Ok(())
}

/// Writes in one region and reads in all.
async fn registers(desk: &Arc<Desk>, region: usize, level: Consistency) -> Result<()> {
    let key = format!("{}/levels/{}-{level}", desk.history.run(), REGIONS[region]);
    let mut writer = Actor::new(desk, region, DEADLINE);
    let (value, receipt) = writer.put(level, &key).await?;
    ensure!(
        receipt.level == level,
        "the write reached level {}",
        receipt.level
    );
    ensure!(
        receipt
            .durable_regions
            .iter()
            .any(|it| it == REGIONS[region]),
        "the receipt does not name the own region as durable: {:?}",
        receipt.durable_regions
    );
    for (reader_region, there) in REGIONS.iter().enumerate() {
        match level {
            Eventual => {
                let mut reader = Actor::new(desk, reader_region, DEADLINE);
                spread(&mut reader, &key, &value).await?;
            }
            // The same session, carried there.
            Session => {
                writer.hop(reader_region).await?;
                let got = writer.get(Session, &key).await?;
                let found = got.bytes().is_some_and(|it| *it == value);
                ensure!(found, "the session did not see its own write in {there}");
            }
            _ => {
                let mut reader = Actor::new(desk, reader_region, DEADLINE);
                let got = reader.get(Strong, &key).await?;
                let found = got.bytes().is_some_and(|it| *it == value);
                ensure!(found, "a strong read in {there} missed a strong write");
                let trips = got.receipt.wan_round_trips;
                ensure!(
                    trips > 0,
                    "a strong read in {there} claims to have asked nobody"
                );
            }
        }
    }
    Ok(())
}

/// Waits until an eventual read shows a value.
async fn spread(reader: &mut Actor, key: &str, value: &str) -> Result<()> {
    let place = REGIONS[reader.region()];
    let started = tokio::time::Instant::now();
    loop {
        let got = reader.get(Eventual, key).await?;
        if got.bytes().is_some_and(|it| *it == value) {
            return Ok(());
        }
        if started.elapsed() > SPREAD_WITHIN {
            bail!("an eventual write is not seen in {place} after 10 s");
        }
        // Nothing tells when it arrives: that is what eventual means.
        tokio::time::sleep(super::LOOK_EVERY).await;
    }
}

async fn counters_and_sets(desk: &Arc<Desk>, region: usize, level: Consistency) -> Result<()> {
    let mut actor = Actor::new(desk, region, DEADLINE);
    let (counter, receipt) = actor.increment(level).await?;
    ensure!(
        receipt.level == level,
        "the increment reached level {}",
        receipt.level
    );
    let total = actor.read(level, &counter).await?;
    ensure!(total > 0, "the counter reads {total} after an increment");
    let cart = format!("{}/levels/{}-{level}", desk.history.run(), REGIONS[region]);
    let element = actor.add(level, &cart).await?;
    ensure!(
        actor.contains(level, &cart, &element).await?,
        "an added element is missing"
    );
    let second = actor.add(level, &cart).await?;
    actor.remove(level, &cart, &second).await?;
    ensure!(
        !actor.contains(level, &cart, &second).await?,
        "a removed element is there"
    );
    Ok(())
}

/// Compare-and-set on absence and on a version, and a condition that does not hold; delete.
async fn conditions(desk: &Arc<Desk>, region: usize) -> Result<()> {
    let key = format!("{}/levels/{}-cas", desk.history.run(), REGIONS[region]);
    let mut actor = Actor::new(desk, region, DEADLINE);
    let value = actor.cas(&key, None).await?;
    let got = actor.get(Strong, &key).await?;
    ensure!(
        got.bytes().is_some_and(|it| *it == value),
        "the swapped value is not read"
    );
    actor.cas(&key, Some(got.found.etag)).await?;
    let refused = actor.cas(&key, None).await;
    let Err(error) = refused else {
        bail!("a swap on absence worked although there is a value");
    };
    ensure!(
        error.reason() == "CONDITION_FAILED",
        "a failed condition says {error}"
    );
    ensure!(
        error.etag().is_some(),
        "a failed condition does not say which version is there"
    );
    actor.delete(Strong, &key).await?;
    let got = actor.get(Strong, &key).await?;
    ensure!(
        got.found.value.is_none(),
        "a deleted register still has a value"
    );
    let missing = || {
        let mut reader = Actor::new(desk, region, DEADLINE);
        let key = key.clone();
        async move {
            let got = reader.get(Eventual, &key).await;
            let gone = got.as_ref().is_ok_and(|it| it.found.value.is_none());
            (!gone).then(|| "it still has a value".to_owned())
        }
    };
    until(
        "an eventual read of a deleted register",
        SPREAD_WITHIN,
        missing,
    )
    .await?;
    Ok(())
}
