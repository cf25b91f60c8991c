//! The SDK against a pretended cluster.

mod deadlines;
mod naming;
mod operations;
mod retries;
mod routing;
mod sessions;

use std::time::Duration;

use crate::fake::{Cluster, Seen};
use crate::{Builder, Client};

/// Three regions, one node each; the client lives in the second.
async fn three() -> (Cluster, Client) {
    let cluster = Cluster::start(&["us-east", "eu-central", "ap-northeast"]).unwrap();
    let client = builder(&cluster)
        .region("eu-central")
        .build()
        .await
        .unwrap();
    (cluster, client)
}

fn builder(cluster: &Cluster) -> Builder {
    let builder = Client::builder().connect_timeout(Duration::from_secs(5));
    cluster.nodes.iter().fold(builder, |builder, node| {
        builder.endpoint(&node.region, node.url())
    })
}

/// The nodes that were asked, in order.
fn asked(cluster: &Cluster) -> Vec<String> {
    cluster
        .seen()
        .into_iter()
        .map(|Seen { node, .. }| node)
        .collect()
}

/// Waits for an event that the client only learns in the background.
async fn until(mut holds: impl FnMut() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waiting)
        .await
        .expect("it never came");
}
