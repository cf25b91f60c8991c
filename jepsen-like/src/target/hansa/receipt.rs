//! Receipts in histories: the same object as in the command line's JSON.

use hansa_client::Receipt;
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
