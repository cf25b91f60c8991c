use std::time::Duration;

use bytes::Bytes;

use super::three;
use crate::{Consistency, ErrorKind, Etag, Expect, Value};

#[tokio::test]
async fn registers_counters_and_sets_do_what_they_say() {
    let (_cluster, client) = three().await;
    let absent = client.get("profiles", "alice").await.unwrap();
    assert_eq!(absent.found.value, None);
    assert!(absent.found.etag.is_empty());

    let put = client.put("profiles", "alice", "Visby").await.unwrap();
    let got = client.get("profiles", "alice").await.unwrap();
    assert_eq!(got.bytes().unwrap(), "Visby");
    assert_eq!(got.found.etag, put.etag);
    client.delete("profiles", "alice").await.unwrap();
    assert_eq!(client.get("profiles", "alice").await.unwrap().bytes(), None);

    let key = ("views/DE", "2026-01-01");
    client.increment("counters", key, 40).await.unwrap();
    assert_eq!(
        client.increment("counters", key, 2).await.unwrap().total,
        Some(42)
    );
    let batch = client
        .batch_get("counters", [key, ("views/DE", "2026-01-02")])
        .await
        .unwrap();
    assert_eq!(batch.rows[0].value, Some(Value::Total(42)));
    assert_eq!(batch.rows[1].value, None);

    client.add("carts", "alice", "TEA").await.unwrap();
    assert!(
        client
            .contains("carts", "alice", "TEA")
            .await
            .unwrap()
            .member
    );
    client.remove("carts", "alice", "TEA").await.unwrap();
    assert!(
        !client
            .contains("carts", "alice", "TEA")
            .await
            .unwrap()
            .member
    );
}

#[tokio::test]
async fn compare_and_set_is_strong_and_tells_the_current_version() {
    let (cluster, client) = three().await;
    let value = Some(Bytes::from("1"));
    let first = client
        .cas("profiles", "k", Expect::Absent, value.clone())
        .await
        .unwrap();
    assert_eq!(cluster.seen()[0].level, Consistency::Strong);
    let error = client
        .cas("profiles", "k", Expect::Absent, value.clone())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert_eq!(error.etag(), Some(&first.etag));
    assert_eq!(error.applied(), crate::Applied::No);
    client
        .cas("profiles", "k", Expect::Etag(first.etag), None)
        .await
        .unwrap();
    let stale = Expect::Etag(Etag(Bytes::from_static(b"no")));
    assert!(client.cas("profiles", "k", stale, value).await.is_err());
}

#[tokio::test]
async fn pages_come_in_order_and_end() {
    let (_cluster, client) = three().await;
    for number in 0..25 {
        let element = format!("{number:02}");
        client.add("carts", "alice", element.clone()).await.unwrap();
        client.put("profiles", ("p", element), "x").await.unwrap();
    }
    let mut pages = client.members("carts", "alice").page_size(10).pages();
    let mut sizes = Vec::new();
    let mut elements = Vec::new();
    while let Some(page) = pages.next().await {
        let page = page.unwrap();
        sizes.push(page.elements.len());
        elements.extend(page.elements);
    }
    assert_eq!(sizes, [10, 10, 5]);
    assert!(elements.is_sorted() && elements.len() == 25);

    let page = client.scan_key("profiles", ("p", "1")).await.unwrap();
    assert_eq!(page.rows.len(), 10);
    assert_eq!(page.rows[0].key.sort, "10");
    let strong = client.scan("profiles").level(Consistency::Strong);
    let refused = strong.pages().next().await.unwrap().unwrap_err();
    assert_eq!(refused.reason(), "LEVEL_NOT_SUPPORTED");
}

#[tokio::test]
async fn every_reply_has_a_receipt() {
    let (_cluster, client) = three().await;
    let strong = client
        .put("profiles", "k", "v")
        .level(Consistency::Strong)
        .await
        .unwrap();
    assert_eq!(strong.receipt.level, Consistency::Strong);
    assert_eq!(strong.receipt.wan_round_trips, 1);
    assert_eq!(strong.receipt.attempts, 1);
    let read = client
        .get("profiles", "k")
        .level(Consistency::Eventual)
        .await
        .unwrap();
    assert_eq!(read.receipt.staleness, Some(Duration::from_millis(7)));
    assert_eq!(read.receipt.served_in, "eu-central");
    assert!(read.receipt.elapsed > Duration::ZERO);
}

#[tokio::test]
async fn wrong_requests_are_refused_with_a_reason() {
    let (_cluster, client) = three().await;
    let error = client.get("nowhere", "k").await.unwrap_err();
    assert_eq!(
        (error.kind(), error.reason()),
        (ErrorKind::Invalid, "UNKNOWN_KEYSPACE")
    );
    assert_eq!(
        client.put("stock", "k", "v").await.unwrap_err().reason(),
        "WRONG_TYPE"
    );
    let long = client
        .get("profiles", "k")
        .deadline(Duration::from_secs(61));
    assert_eq!(long.await.unwrap_err().kind(), ErrorKind::Invalid);
}
