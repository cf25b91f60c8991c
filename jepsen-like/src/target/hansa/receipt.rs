//! Receipts in histories: the same object as in the command line's JSON.

use hansa_client::{Consistency, Receipt};
use serde_json::{Value as Json, json};

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

/// What all pages of a reply together cost and are worth: the weakest level, as stale as the stalest, as dear as their
/// sum. The node named is the one that served the last.
pub(super) fn join(before: Receipt, page: Receipt) -> Receipt {
    let union = |mut names: Vec<String>, more: Vec<String>| {
        for name in more {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    };
    Receipt {
        level: weaker(before.level, page.level),
        // One page of unknown staleness makes the whole unknown.
        staleness: before.staleness.zip(page.staleness).map(|(a, b)| a.max(b)),
        served_by: page.served_by,
        served_in: page.served_in,
        replicas: union(before.replicas, page.replicas),
        regions: union(before.regions, page.regions),
        durable_regions: union(before.durable_regions, page.durable_regions),
        wan_round_trips: before.wan_round_trips.saturating_add(page.wan_round_trips),
        absorbed: before.absorbed || page.absorbed,
        merged: before.merged || page.merged,
        forwarded_to: page.forwarded_to.or(before.forwarded_to),
        epoch: before.epoch.max(page.epoch),
        attempts: before.attempts.saturating_add(page.attempts),
        elapsed: before.elapsed.saturating_add(page.elapsed),
    }
}

fn weaker(a: Consistency, b: Consistency) -> Consistency {
    let levels = [Consistency::Eventual, Consistency::Session];
    let either = levels.into_iter().find(|level| a == *level || b == *level);
    either.unwrap_or(a)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn page(
        level: Consistency,
        staleness_ms: Option<u64>,
        regions: &[&str],
        trips: u32,
    ) -> Receipt {
        let names: Vec<String> = regions.iter().map(|it| (*it).to_owned()).collect();
        Receipt {
            level,
            staleness: staleness_ms.map(Duration::from_millis),
            served_by: "eu-1".to_owned(),
            served_in: "eu".to_owned(),
            replicas: names.clone(),
            regions: names,
            durable_regions: Vec::new(),
            wan_round_trips: trips,
            absorbed: trips > 0,
            merged: false,
            forwarded_to: (trips > 0).then(|| "us-1".to_owned()),
            epoch: 1,
            attempts: 1,
            elapsed: Duration::from_millis(2),
        }
    }

    #[test]
    fn the_pages_of_a_set_have_one_receipt_that_hides_none_of_them() {
        use Consistency::{Eventual, Session, Strong};
        let dear = page(Eventual, Some(90), &["us"], 1);
        let cheap = page(Session, Some(1), &["eu"], 0);
        for whole in [
            join(dear.clone(), cheap.clone()),
            join(cheap.clone(), dear.clone()),
        ] {
            assert_eq!(whole.level, Eventual);
            assert_eq!(whole.staleness, Some(Duration::from_millis(90)));
            assert_eq!((whole.wan_round_trips, whole.attempts), (1, 2));
            assert_eq!((whole.regions.len(), whole.replicas.len()), (2, 2));
            assert_eq!(whole.forwarded_to.as_deref(), Some("us-1"));
            assert_eq!(whole.elapsed, Duration::from_millis(4));
            assert!(whole.absorbed && !whole.merged);
        }
        let unknown = page(Strong, None, &["eu"], 0);
        assert_eq!(join(unknown.clone(), cheap.clone()).staleness, None);
        assert_eq!(join(cheap, unknown.clone()).level, Session);
        assert_eq!(join(unknown.clone(), unknown).level, Strong);
    }
}
