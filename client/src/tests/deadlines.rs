use std::time::{Duration, Instant};

use tokio::net::TcpListener;

use super::three;
use crate::fake::Fault;
use crate::{Applied, Client, ErrorKind};

const SHORT: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(2);

#[tokio::test]
async fn a_silent_write_ends_at_its_deadline_as_unknown_and_a_read_as_not_applied() {
    let (cluster, client) = three().await;
    cluster.nodes[1].fault(Fault::Silence);
    cluster.nodes[1].fault(Fault::Silence);
    let began = Instant::now();
    let error = client
        .increment("stock", "k", 1)
        .deadline(SHORT)
        .await
        .unwrap_err();
    assert!(began.elapsed() >= SHORT && began.elapsed() < LONGEST);
    assert_eq!(error.reason(), "DEADLINE_EXCEEDED");
    assert_eq!(
        (error.kind(), error.applied()),
        (ErrorKind::Indeterminate, Applied::Maybe)
    );
    let error = client.get("stock", "k").deadline(SHORT).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.applied()),
        (ErrorKind::Unavailable, Applied::No)
    );
    let told = cluster.seen()[0].deadline_ms;
    assert!((1..200).contains(&told), "the server is told less: {told}");
}

#[tokio::test]
async fn an_address_that_takes_connections_and_says_nothing_cannot_hang_a_call() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let client = Client::builder()
        .endpoint_anywhere(url)
        .connect_timeout(SHORT)
        .build()
        .await
        .unwrap();
    let began = Instant::now();
    let error = client
        .put("profiles", "k", "v")
        .deadline(SHORT)
        .await
        .unwrap_err();
    assert!(began.elapsed() < LONGEST);
    assert_eq!(
        (error.kind(), error.applied()),
        (ErrorKind::Unreachable, Applied::No)
    );
}

#[tokio::test(start_paused = true)]
async fn building_takes_one_connect_timeout_at_most() {
    let silent = || async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        (listener, url)
    };
    let (home, near) = (silent().await, silent().await);
    let began = tokio::time::Instant::now();
    let client = Client::builder()
        .region("eu-central")
        .endpoint("eu-central", home.1)
        .endpoint_anywhere(near.1)
        .connect_timeout(LONGEST)
        .build();
    client.await.unwrap();
    let took = began.elapsed();
    assert!(took <= LONGEST + Duration::from_millis(10), "{took:?}");
}

#[tokio::test]
async fn a_session_whose_call_was_dropped_goes_on() {
    let (cluster, client) = three().await;
    let session = client.session();
    cluster.nodes[1].fault(Fault::Silence);
    let call = session.put("profiles", "k", "1").into_future();
    assert!(tokio::time::timeout(SHORT, call).await.is_err());
    session.put("profiles", "k", "2").await.unwrap();
    let seen = cluster.seen();
    assert_eq!(seen[0].request_id.unwrap().1, 1);
    assert_eq!(
        seen[1].request_id.unwrap().1,
        2,
        "a number is never used twice"
    );
}
