use std::time::Duration;

use super::{builder, three};
use crate::fake::Fault;
use crate::{Applied, Bytes, Consistency};

#[tokio::test]
async fn a_session_carries_its_token_from_call_to_call_and_node_to_node() {
    let (mut cluster, client) = three().await;
    let session = client.session();
    session.put("profiles", "k", "v").await.unwrap();
    let token = session.token().await;
    assert!(!token.is_empty());
    cluster.nodes[1].stop();
    session.get("profiles", "k").await.unwrap();
    let seen = cluster.seen();
    assert_eq!(seen[0].token, Bytes::new());
    assert_eq!(seen[0].level, Consistency::Session);
    let last = seen.last().unwrap();
    assert_eq!(last.token, token);
    assert_ne!(last.node, "eu-central-1");
}

#[tokio::test]
async fn a_call_that_only_waited_for_its_session_blames_no_endpoint() {
    let (cluster, client) = three().await;
    let session = client.session();
    cluster.nodes[1].fault(Fault::Delay(Duration::from_secs(2)));
    let slow = tokio::spawn(session.get("profiles", "k").into_future());
    while cluster.seen().is_empty() {
        tokio::task::yield_now().await;
    }
    let queued = session.put("profiles", "k", "v");
    let error = queued
        .deadline(Duration::from_millis(50))
        .await
        .unwrap_err();
    assert_eq!(error.reason(), "DEADLINE_EXCEEDED");
    assert_eq!(error.applied(), Applied::No);
    assert!(error.to_string().contains("session"), "{error}");
    slow.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_session_runs_its_calls_one_after_the_other() {
    let (cluster, client) = three().await;
    let session = client.session();
    (0..8).for_each(|_| cluster.nodes[1].fault(Fault::Delay(Duration::from_millis(5))));
    let calls: Vec<_> = (0..8)
        .map(|_| tokio::spawn(session.increment("stock", "k", 1).into_future()))
        .collect();
    for call in calls {
        call.await.unwrap().unwrap();
    }
    let seen = cluster.seen();
    for (before, after) in seen.iter().zip(&seen[1..]) {
        // The fake's token counts its writes: each call had seen the one before.
        assert!(before.token < after.token);
        assert_eq!(
            before.request_id.unwrap().1 + 1,
            after.request_id.unwrap().1
        );
        assert_eq!(before.request_id.unwrap().0, after.request_id.unwrap().0);
    }
}

#[tokio::test]
async fn an_exported_session_goes_on_elsewhere_with_new_numbers() {
    let (cluster, client) = three().await;
    let session = client.session();
    session.put("profiles", "k", "1").await.unwrap();
    let exported = session.export().await;
    assert!(exported.len() <= 264);
    let elsewhere = builder(&cluster).region("us-east").build().await.unwrap();
    let resumed = elsewhere.resume(&exported).unwrap();
    assert_eq!(resumed.token().await, session.token().await);
    resumed.put("profiles", "k", "2").await.unwrap();
    let seen = cluster.seen();
    let (first, second) = (seen[0].request_id.unwrap(), seen[1].request_id.unwrap());
    assert_eq!((first.0, first.1 + 1), (second.0, second.1));
    assert_eq!(seen[1].node, "us-east-1");
    assert!(elsewhere.resume(&exported[..20]).is_err());
}

#[tokio::test]
async fn an_export_ahead_leaves_numbers_out() {
    let (cluster, client) = three().await;
    let session = client.session();
    let ahead = session.export_ahead(10).await;
    session.put("profiles", "k", "1").await.unwrap();
    // The process died here; the next one resumes what was stored before.
    client
        .resume(&ahead)
        .unwrap()
        .put("profiles", "k", "2")
        .await
        .unwrap();
    let seen = cluster.seen();
    assert_eq!(
        seen[1].request_id.unwrap().1,
        seen[0].request_id.unwrap().1 + 10
    );
}

#[tokio::test]
async fn a_token_starts_another_session_that_saw_the_same() {
    let (cluster, client) = three().await;
    let session = client.session();
    session.put("profiles", "k", "1").await.unwrap();
    let other = client.session_from(session.token().await).unwrap();
    other.put("profiles", "k", "2").await.unwrap();
    let seen = cluster.seen();
    assert_eq!(seen[1].token, session.token().await);
    assert_ne!(seen[0].request_id.unwrap().0, seen[1].request_id.unwrap().0);
    assert!(client.session_from(Bytes::from(vec![0; 161])).is_err());
}

#[tokio::test]
async fn levels_can_be_mixed_in_a_session_and_all_move_it_on() {
    let (cluster, client) = three().await;
    let session = client.session();
    session
        .put("profiles", "k", "1")
        .level(Consistency::Strong)
        .await
        .unwrap();
    let after_strong = session.token().await;
    session
        .put("profiles", "k", "2")
        .level(Consistency::Eventual)
        .await
        .unwrap();
    assert!(session.token().await > after_strong);
    assert_eq!(cluster.seen()[1].token, after_strong);
}
