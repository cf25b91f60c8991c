//! Receipts in histories: the same object as in the command line's JSON.

use hansa_client::{Consistency, Receipt};
use serde_json::{Value as Json, json};

/// What a further page makes of the receipt of those before it: the lowest level, the worst staleness, everybody who
/// took part, all that was paid.
pub(super) fn joined(before: Option<Receipt>, page: Receipt) -> Receipt {
    let Some(mut sum) = before else { return page };
    let add = |all: &mut Vec<String>, more: Vec<String>| {
        all.extend(more);
        all.sort_unstable();
        all.dedup();
    };
    if strength(page.level) < strength(sum.level) {
        sum.level = page.level;
    }
    sum.staleness = sum.staleness.zip(page.staleness).map(|(a, b)| a.max(b));
    add(&mut sum.replicas, page.replicas);
    add(&mut sum.regions, page.regions);
    sum.wan_round_trips = sum.wan_round_trips.saturating_add(page.wan_round_trips);
    sum.absorbed |= page.absorbed;
    sum.merged |= page.merged;
    sum.forwarded_to = sum.forwarded_to.or(page.forwarded_to);
    sum.attempts = sum.attempts.saturating_add(page.attempts);
    sum.elapsed = sum.elapsed.saturating_add(page.elapsed);
    sum
}

/// The place of a level among those that a reply can have reached.
fn strength(level: Consistency) -> u8 {
    match level {
        Consistency::KeyspaceDefault | Consistency::Eventual => 0,
        Consistency::Session => 1,
        Consistency::Strong => 2,
    }
}

/// A receipt as a history has it.
pub(super) fn json(receipt: &Receipt) -> Json {
    json!({
        "level": receipt.level.name(),
        "staleness_ms": receipt.staleness.map(|time| time.as_millis() as u64),
        "served_by": receipt.served_by,
        "served_in": receipt.served_in,
        "replicas": receipt.replicas,
        "regions": receipt.regions,
        "durable_regions": receipt.durable_regions,
        "wan_round_trips": receipt.wan_round_trips,
        "absorbed": receipt.absorbed,
        "merged": receipt.merged,
        "forwarded_to": receipt.forwarded_to,
        "epoch": receipt.epoch,
        "attempts": receipt.attempts,
        "elapsed_us": receipt.elapsed.as_micros() as u64,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn page(level: Consistency, staleness_ms: Option<u64>, region: &str) -> Receipt {
        Receipt {
            level,
            staleness: staleness_ms.map(Duration::from_millis),
            served_by: "eu-1".to_owned(),
            served_in: "eu".to_owned(),
            replicas: vec![format!("{region}-1")],
            regions: vec![region.to_owned()],
            durable_regions: Vec::new(),
            wan_round_trips: 1,
            absorbed: false,
            merged: false,
            forwarded_to: None,
            epoch: 1,
            attempts: 1,
            elapsed: Duration::from_millis(3),
        }
    }

    #[test]
    fn pages_are_worth_the_worst_of_them() {
        let first = page(Consistency::Session, Some(40), "us");
        assert_eq!(joined(None, first.clone()), first);
        let both = joined(Some(first), page(Consistency::Eventual, Some(5), "eu"));
        assert_eq!(both.level, Consistency::Eventual);
        assert_eq!(both.staleness, Some(Duration::from_millis(40)));
        assert_eq!(both.regions, ["eu", "us"]);
        assert_eq!(both.replicas, ["eu-1", "us-1"]);
        assert_eq!((both.wan_round_trips, both.attempts), (2, 2));
        let unheard = joined(Some(both), page(Consistency::Session, None, "eu"));
        assert_eq!(
            (unheard.level, unheard.staleness),
            (Consistency::Eventual, None)
        );
    }
}
