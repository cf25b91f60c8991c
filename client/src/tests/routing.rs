use std::time::Duration;

use super::{asked, builder, three, until};
use crate::fake::{Cluster, Fault};
use crate::{Applied, Client, Consistency, ErrorKind};

fn refuse(reason: &'static str, code: i32) -> Fault {
    Fault::Refuse {
        reason,
        code,
        applied: Applied::No,
        retry_after_ms: 5,
    }
}

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
async fn the_other_regions_are_measured_too() {
    let (cluster, client) = three().await;
    until(|| {
        let known = |info: &crate::EndpointInfo| info.node.is_some() && info.round_trip.is_some();
        client.endpoints().iter().all(known)
    })
    .await;
    let others: Vec<_> = client.endpoints().drain(1..).collect();
    assert!(others[0].round_trip <= others[1].round_trip, "{others:?}");
    assert_eq!(cluster.seen(), []);
}

#[tokio::test]
async fn a_client_that_stays_home_connects_nowhere_else() {
    let cluster = Cluster::start(&["us-east", "eu-central"]).unwrap();
    let elsewhere = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", elsewhere.local_addr().unwrap());
    let client = Client::builder()
        .region("eu-central")
        .stay_in_region()
        .endpoint("ap-northeast", url)
        .endpoint("eu-central", cluster.nodes[1].url())
        .build();
    let client = client.await.unwrap();
    client.get("profiles", "k").await.unwrap();
    let connected = tokio::time::timeout(Duration::from_millis(100), elsewhere.accept());
    assert!(connected.await.is_err());
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

#[tokio::test]
async fn a_node_that_stays_overloaded_is_left_for_another_one() {
    let (cluster, client) = three().await;
    (0..3).for_each(|_| cluster.nodes[1].fault(refuse("OVERLOADED", 8)));
    client.increment("stock", "k", 1).await.unwrap();
    let asked = asked(&cluster);
    assert_eq!(asked[..3], ["eu-central-1"; 3]);
    assert_ne!(asked[3], "eu-central-1");
    assert_eq!((asked.len(), cluster.executed()), (4, 1));
}

#[tokio::test]
async fn overload_everywhere_is_told_after_every_node_was_asked() {
    let (cluster, client) = three().await;
    for node in &cluster.nodes {
        (0..3).for_each(|_| node.fault(refuse("OVERLOADED", 8)));
    }
    let error = client.increment("stock", "k", 1).await.unwrap_err();
    assert_eq!(
        (error.reason(), error.applied()),
        ("OVERLOADED", Applied::No)
    );
    // The others are not asked again and again: that would make it worse.
    assert_eq!(error.attempts(), 5);
}

#[tokio::test]
async fn a_node_that_can_not_serve_is_left_at_once() {
    for reason in ["STORE_FAILED", "SHUTTING_DOWN"] {
        let (cluster, client) = three().await;
        cluster.nodes[1].fault(refuse(reason, 14));
        let done = client.increment("stock", "k", 1).await.unwrap();
        assert_eq!(done.receipt.attempts, 2, "{reason}");
        assert_ne!(done.receipt.served_in, "eu-central", "{reason}");
        assert_eq!(cluster.executed(), 1);
    }
}

#[tokio::test]
async fn a_node_that_can_not_serve_does_not_make_a_client_leave_home() {
    for reason in ["STORE_FAILED", "SHUTTING_DOWN", "OVERLOADED"] {
        let cluster = Cluster::start(&["us-east", "eu-central"]).unwrap();
        let builder = builder(&cluster).region("eu-central").stay_in_region();
        let client = builder.build().await.unwrap();
        (0..3).for_each(|_| cluster.nodes[1].fault(refuse(reason, 14)));
        let error = client.increment("stock", "k", 1).await.unwrap_err();
        assert_eq!((error.reason(), error.applied()), (reason, Applied::No));
        assert_eq!(asked(&cluster), ["eu-central-1"; 3]);
    }
}

#[tokio::test]
async fn an_endpoint_that_turns_out_to_be_elsewhere_gets_no_request_of_a_client_that_stays_home() {
    let mut cluster = Cluster::start(&["us-east"]).unwrap();
    let url = cluster.nodes[0].url();
    cluster.nodes[0].stop();
    let client = Client::builder()
        .region("eu-central")
        .stay_in_region()
        .endpoint_anywhere(url)
        .build()
        .await
        .unwrap();
    cluster.nodes[0].restart().unwrap();
    // The first call may be the one that learns the region, the second one is not.
    for _ in 0..2 {
        let error = client.increment("stock", "k", 1).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.applied()),
            (ErrorKind::Unreachable, Applied::No)
        );
    }
    assert_eq!(cluster.seen(), []);
}

/// An address that leads to the one node for the first connection and to the other from then on.
async fn moving(first: &str, then: &str) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let address = |url: &str| url.trim_start_matches("http://").to_owned();
    let (mut to, then) = (address(first), address(then));
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let mut far = tokio::net::TcpStream::connect(&to).await.unwrap();
            to.clone_from(&then);
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut near, &mut far).await });
        }
    });
    url
}

#[tokio::test]
async fn an_address_that_moved_to_another_region_gets_no_repetition_and_hides_no_write() {
    for stays_home in [true, false] {
        let cluster = Cluster::start(&["us-east", "eu-central"]).unwrap();
        let url = moving(&cluster.nodes[1].url(), &cluster.nodes[0].url()).await;
        let mut builder = Client::builder()
            .region("eu-central")
            .endpoint_anywhere(url);
        if stays_home {
            builder = builder.stay_in_region();
        }
        let client = builder.build().await.unwrap();
        cluster.nodes[1].fault(Fault::BreakAfter);
        let write = client.increment("stock", "k", 1).level(Consistency::Strong);
        let error = write.await.unwrap_err();
        assert_eq!(
            (error.kind(), error.applied()),
            (ErrorKind::Indeterminate, Applied::Maybe)
        );
        assert_eq!(asked(&cluster), ["eu-central-1"]);
        assert_eq!(cluster.executed(), 1);
    }
}

/// Says these bytes to everybody who connects.
async fn says(bytes: &'static [u8]) -> String {
    use tokio::io::AsyncWriteExt as _;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            // It may have hung up already.
            let _ = stream.write_all(bytes).await;
        }
    });
    url
}

#[tokio::test]
async fn what_is_no_node_is_named_with_what_it_answered() {
    let rubbish = says(b"SSH-2.0-none\r\n").await;
    let page = says(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n").await;
    let client = Client::builder()
        .endpoint_anywhere(rubbish.clone())
        .endpoint_anywhere(page.clone())
        .build()
        .await
        .unwrap();
    let error = client.get("profiles", "k").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreachable);
    for url in [rubbish, page] {
        let said = error.message().split(&format!("{url}: ")).nth(1);
        assert!(said.is_some_and(|said| said.len() > 10), "{error}");
    }
}

#[tokio::test]
async fn an_endpoint_that_never_greets_is_named_at_the_deadline() {
    let mute = says(b"").await;
    let client = Client::builder()
        .endpoint_anywhere(mute.clone())
        .connect_timeout(Duration::from_millis(200))
        .deadline(Duration::from_secs(1))
        .build()
        .await
        .unwrap();
    let error = client.put("profiles", "k", "v").await.unwrap_err();
    assert_eq!(
        (error.kind(), error.applied()),
        (ErrorKind::Unreachable, Applied::No)
    );
    assert!(error.message().contains(&mute), "{error}");
}
