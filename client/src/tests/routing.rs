use std::time::Duration;

use super::{asked, builder, three, until};
use crate::fake::{Cluster, Fault};
use crate::{Applied, Client, ErrorKind};

#[tokio::test]
async fn the_home_region_is_asked_first() {
    let (cluster, client) = three().await;
    for _ in 0..3 {
        client.get("profiles", "k").await.unwrap();
    }
    assert_eq!(asked(&cluster), ["eu-central-1"; 3]);
    assert_eq!(client.endpoints()[0].node.as_deref(), Some("eu-central-1"));
}

#[tokio::test]
async fn calls_fail_over_and_come_back() {
    let (mut cluster, client) = three().await;
    client.get("profiles", "k").await.unwrap();
    cluster.nodes[1].stop();
    let got = client.get("profiles", "k").await.unwrap();
    assert_ne!(got.receipt.served_in, "eu-central");
    cluster.nodes[1].restart().unwrap();
    // Noticed in the background: no call pays for it.
    until(|| client.endpoints()[0].region.as_deref() == Some("eu-central")).await;
    let got = client.get("profiles", "k").await.unwrap();
    assert_eq!(got.receipt.served_in, "eu-central");
    assert_eq!(got.receipt.attempts, 1);
}

#[tokio::test]
async fn a_second_node_of_the_region_comes_before_other_regions() {
    let mut cluster = Cluster::start(&["us-east", "eu-central", "eu-central"]).unwrap();
    let client = builder(&cluster)
        .region("eu-central")
        .build()
        .await
        .unwrap();
    cluster.nodes[1].stop();
    for _ in 0..3 {
        let got = client.get("profiles", "k").await.unwrap();
        assert_eq!(got.receipt.served_by, "eu-central-2");
    }
}

#[tokio::test]
async fn nobody_there_is_told_soon_and_as_not_applied() {
    let (mut cluster, client) = three().await;
    cluster.nodes.iter_mut().for_each(|node| node.stop());
    let error = client
        .put("profiles", "k", "v")
        .deadline(Duration::from_secs(1))
        .await
        .unwrap_err();
    // The first write may have met the end of the old connection.
    if error.kind() != ErrorKind::Indeterminate {
        assert_eq!(
            (error.kind(), error.applied()),
            (ErrorKind::Unreachable, Applied::No)
        );
    }
    let began = std::time::Instant::now();
    let error = client.increment("stock", "k", 1).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.applied()),
        (ErrorKind::Unreachable, Applied::No)
    );
    assert!(
        began.elapsed() < Duration::from_secs(4),
        "well before the deadline of 5 s"
    );
}

#[tokio::test]
async fn a_client_may_be_told_to_stay_home() {
    let mut cluster = Cluster::start(&["us-east", "eu-central"]).unwrap();
    let builder = builder(&cluster).region("eu-central").stay_in_region();
    let client = builder.build().await.unwrap();
    cluster.nodes[1].stop();
    let error = client.get("profiles", "k").await.unwrap_err();
    assert!(
        matches!(
            error.kind(),
            ErrorKind::Unreachable | ErrorKind::Unavailable
        ),
        "{error}"
    );
    assert!(asked(&cluster).iter().all(|node| node != "us-east-1"));
}

#[tokio::test]
async fn an_endpoint_that_is_elsewhere_is_refused() {
    let cluster = Cluster::start(&["us-east"]).unwrap();
    let url = cluster.nodes[0].url();
    let client = Client::builder()
        .endpoint("eu-central", url)
        .build()
        .await
        .unwrap();
    let error = client.get("profiles", "k").await.unwrap_err();
    assert_eq!(error.reason(), "WRONG_ENDPOINT");
    assert!(
        error.message().contains("is in region `us-east`"),
        "{error}"
    );
}

#[tokio::test]
async fn settings_that_cannot_work_are_refused() {
    let with = |url: &str| Client::builder().endpoint_anywhere(url);
    for builder in [
        Client::builder(),
        with("127.0.0.1"),
        with("https://127.0.0.1:1"),
        with("http://127.0.0.1:1").deadline(Duration::ZERO),
        with("http://127.0.0.1:1").stay_in_region(),
        Client::builder()
            .endpoint("a", "http://127.0.0.1:1")
            .region("b"),
    ] {
        let shown = format!("{builder:?}");
        let error = builder.build().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{shown}");
    }
}

#[tokio::test]
async fn an_overloaded_node_is_asked_again_after_its_hint() {
    let (cluster, client) = three().await;
    cluster.nodes[1].fault(Fault::Refuse {
        reason: "OVERLOADED",
        code: 8,
        applied: Applied::No,
        retry_after_ms: 30,
    });
    let began = std::time::Instant::now();
    client.increment("stock", "k", 1).await.unwrap();
    assert!(began.elapsed() >= Duration::from_millis(30));
    assert_eq!(asked(&cluster), ["eu-central-1"; 2]);
    assert_eq!(cluster.executed(), 1);
}
