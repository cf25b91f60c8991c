//! What replicas say to each other costs what they differ by, not what they hold.

use hansa_node::store::Engine;
use hansa_proto::v1::Level;

use crate::support::Cluster;

/// Keys that every region holds.
const KEYS: usize = 2_000;

/// Keys that change while a region is away.
const CHANGED: usize = 10;

/// Bytes of a value.
const VALUE: usize = 1024;

/// What a region that comes back may receive: the changed entries, and what nodes say to each other when one starts.
/// A twentieth of what the regions hold.
const BACK_BYTES_MAX: u64 = (KEYS * VALUE / 20) as u64;

/// Bytes of messages that the third region received since its start.
async fn received(cluster: &Cluster) -> u64 {
    let labels = "direction=\"received\"";
    cluster.counter(2, "hansa_peer_bytes_total", labels).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_region_that_was_away_receives_what_changed_and_not_what_it_holds() {
    let mut cluster = Cluster::start_with(3, Engine::Fjall, |settings| {
        settings[2].metrics_listen = Some("127.0.0.1:0".parse().unwrap());
    });
    let mut client = cluster.client(0).await;
    let value = "x".repeat(VALUE);
    for key in 0..KEYS {
        let key = format!("key {key}");
        client.put(&key, &value, Level::Eventual).await.unwrap();
    }
    let mut away = cluster.client(2).await;
    for key in 0..KEYS {
        away.get_when_it_came(&format!("key {key}"), &value).await;
    }
    let loaded = received(&cluster).await;
    assert!(
        loaded > (KEYS * VALUE) as u64,
        "the counter counts: {loaded}"
    );

    cluster.stop(2).await;
    for key in 0..CHANGED {
        let key = format!("key {}", key * KEYS / CHANGED);
        client.put(&key, "changed", Level::Eventual).await.unwrap();
    }
    cluster.restart(2).await;
    let mut back = cluster.client(2).await;
    for key in 0..CHANGED {
        let key = format!("key {}", key * KEYS / CHANGED);
        back.get_when_it_came(&key, "changed").await;
    }
    let received = received(&cluster).await;
    assert!(
        received < BACK_BYTES_MAX,
        "{received} bytes for {CHANGED} changed keys"
    );
    cluster.stop_all().await;
}
