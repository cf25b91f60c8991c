//! Request ids are shown, can be left out, and a write can be repeated under them.

use std::time::Duration;

use super::{asked, builder, three};
use crate::fake::{Cluster, Fault, Node, Seen};
use crate::{
    Applied, Call, Client, Consistency, ErrorKind, Expect, RequestId, Unfinished, Written,
};

const LEVELS: [Consistency; 4] = [
    Consistency::KeyspaceDefault,
    Consistency::Eventual,
    Consistency::Session,
    Consistency::Strong,
];

/// The request id as a node saw it.
fn id_of(seen: &Seen) -> Option<RequestId> {
    seen.request_id.map(|(session, seq, _)| RequestId {
        session,
        seq,
        issued: seen.issued_hlc,
    })
}

fn refuse(applied: Applied) -> Fault {
    Fault::Refuse {
        reason: "QUORUM_UNREACHABLE",
        code: 14,
        applied,
        retry_after_ms: 0,
    }
}

/// Writes that may not be executed twice.
fn increment(client: &Client) -> Call<Written> {
    client.increment("stock", "k", 5)
}

#[tokio::test]
async fn a_reply_and_an_error_say_the_request_id_of_their_attempts() {
    let (cluster, client) = three().await;
    cluster.nodes[1].fault(Fault::BreakAfter);
    let put = client.put("profiles", "k", "v").await.unwrap();
    let seen = cluster.seen();
    assert_eq!(put.receipt.attempts, 2);
    assert!(put.receipt.request_id.is_some());
    for attempt in &seen {
        assert_eq!(id_of(attempt), put.receipt.request_id);
    }

    cluster.nodes[1].fault(refuse(Applied::No));
    let refused = client.put("profiles", "k", "v").await.unwrap_err();
    assert_eq!(refused.request_id(), id_of(&cluster.seen()[2]));
    assert_eq!(refused.unfinished(), None, "nothing was applied");

    let read = client.get("profiles", "k").await.unwrap();
    assert_eq!(read.receipt.request_id, None);
    let wrong = client.get("nowhere", "k").await.unwrap_err();
    assert_eq!(wrong.request_id(), None);
}

#[tokio::test]
async fn an_error_of_unknown_outcome_says_what_to_repeat_it_by() {
    for level in LEVELS {
        for fault in [Fault::BreakAfter, Fault::Silence, refuse(Applied::Maybe)] {
            let (cluster, client) = three().await;
            (0..20).for_each(|_| cluster.nodes[1].fault(fault.clone()));
            let call = increment(&client).level(level);
            let error = call.deadline(Duration::from_millis(300)).await.unwrap_err();
            let expected = Unfinished {
                id: id_of(&cluster.seen()[0]).unwrap(),
                level,
                node: "eu-central-1".to_owned(),
            };
            assert_eq!(error.applied(), Applied::Maybe);
            assert_eq!(error.unfinished(), Some(&expected), "{level} {fault:?}");
        }
    }
}

#[tokio::test]
async fn a_call_that_reached_nobody_has_no_request_id() {
    let mut cluster = Cluster::start(&["us-east", "eu-central"]).unwrap();
    cluster.nodes.iter_mut().for_each(Node::stop);
    let client = builder(&cluster).build().await.unwrap();
    let call = increment(&client).deadline(Duration::from_millis(300));
    let error = call.await.unwrap_err();
    assert_eq!(error.applied(), Applied::No, "{error}");
    assert_eq!((error.request_id(), error.unfinished()), (None, None));
}

#[tokio::test]
async fn without_a_request_id_what_may_be_applied_is_not_tried_again() {
    for level in LEVELS {
        for fault in [Fault::BreakBefore, Fault::BreakAfter] {
            let (cluster, client) = three().await;
            cluster.nodes[1].fault(fault);
            let call = client.put("profiles", "k", "v").level(level);
            let error = call.without_request_id().await.unwrap_err();
            assert_eq!(
                (error.kind(), error.applied(), error.attempts()),
                (ErrorKind::Indeterminate, Applied::Maybe, 1)
            );
            assert_eq!((error.request_id(), error.unfinished()), (None, None));
            assert_eq!(cluster.seen().len(), 1);
            assert_eq!(cluster.seen()[0].request_id, None);
        }
    }
}

#[tokio::test]
async fn without_a_request_id_what_left_nothing_behind_is_tried_elsewhere() {
    let (cluster, client) = three().await;
    cluster.nodes[1].fault(Fault::Refuse {
        reason: "SHUTTING_DOWN",
        code: 14,
        applied: Applied::No,
        retry_after_ms: 0,
    });
    let cas = client.cas("profiles", "k", Expect::Absent, Some("v".into()));
    let written = cas.without_request_id().await.unwrap();
    assert_eq!(written.receipt.attempts, 2);
    assert_eq!(written.receipt.request_id, None);
    assert!(cluster.seen().iter().all(|seen| seen.request_id.is_none()));
}

#[tokio::test]
async fn a_write_without_a_request_id_uses_up_no_number_of_its_session() {
    let (cluster, client) = three().await;
    let session = client.session();
    session.put("profiles", "k", "1").await.unwrap();
    let unnamed = session.put("profiles", "k", "2").without_request_id();
    unnamed.await.unwrap();
    session.put("profiles", "k", "3").await.unwrap();
    let seen = cluster.seen();
    let numbers: Vec<_> = seen.iter().map(|it| it.request_id.map(|id| id.1)).collect();
    assert_eq!(numbers, [Some(1), None, Some(2)]);
    assert!(
        seen[1].token > seen[0].token,
        "the session's token goes with it"
    );
    assert!(seen[2].token > seen[1].token, "and the session has seen it");
}

#[tokio::test]
async fn a_strong_write_is_repeated_by_another_process_elsewhere_and_counts_once() {
    let (cluster, client) = three().await;
    cluster.nodes[1].fault(Fault::Silence);
    let call = increment(&client).level(Consistency::Strong);
    let error = call.deadline(Duration::from_millis(200)).await.unwrap_err();
    let kept = error.unfinished().unwrap().to_string();
    drop(client);

    let later = builder(&cluster).region("us-east").build().await.unwrap();
    let before: Unfinished = kept.parse().unwrap();
    let written = increment(&later).repeat(&before).await.unwrap();
    assert_eq!(written.total, Some(5));
    assert_eq!(written.receipt.request_id, Some(before.id));
    assert_eq!(cluster.executed(), 1);
    let seen = cluster.seen();
    assert_eq!(asked(&cluster), ["eu-central-1", "us-east-1"]);
    assert_eq!(id_of(&seen[0]), id_of(&seen[1]));
    assert_eq!(seen[1].request_id.map(|id| id.2), Some(1));
    assert_eq!(seen[1].first_node, "eu-central-1");
    assert_eq!(seen[1].level, Consistency::Strong);
}

#[tokio::test]
async fn a_local_write_is_repeated_at_the_node_that_took_it() {
    let (cluster, client) = three().await;
    cluster.nodes[1].fault(Fault::BreakAfter);
    let call = increment(&client).level(Consistency::Eventual);
    let error = call.await.unwrap_err();
    let before = error.unfinished().unwrap();
    // This one lives elsewhere, but knows that node.
    let later = builder(&cluster).region("us-east").build().await.unwrap();
    super::until(|| later.endpoints().iter().all(|it| it.node.is_some())).await;
    cluster.nodes[1].fault(Fault::BreakBefore);
    let written = increment(&later).repeat(before).await.unwrap();
    assert_eq!(asked(&cluster), ["eu-central-1"; 3]);
    assert_eq!(written.receipt.attempts, 2, "it broke once more");
    let attempts: Vec<_> = cluster
        .seen()
        .iter()
        .map(|it| it.request_id.unwrap().2)
        .collect();
    assert_eq!(attempts, [0, 1, 2]);
}

#[tokio::test]
async fn where_nothing_leads_to_that_node_any_other_says_that_it_does_not_know() {
    let (cluster, client) = three().await;
    cluster.nodes[1].fault(Fault::BreakAfter);
    let call = increment(&client).level(Consistency::Eventual);
    let before = call.await.unwrap_err().unfinished().unwrap().clone();
    let elsewhere = Client::builder().endpoint("us-east", cluster.nodes[0].url());
    let elsewhere = elsewhere.build().await.unwrap();
    let error = increment(&elsewhere).repeat(&before).await.unwrap_err();
    assert_eq!(error.reason(), "UNKNOWN_OUTCOME");
    assert_eq!(error.unfinished(), Some(&before));
    assert_eq!(cluster.executed(), 1);
}

#[tokio::test]
async fn whatever_a_repetition_is_told_its_write_may_have_been_applied() {
    let (cluster, client) = three().await;
    cluster.nodes[1].fault(refuse(Applied::Maybe));
    let call = increment(&client).level(Consistency::Strong);
    let before = call.await.unwrap_err().unfinished().unwrap().clone();

    cluster.nodes[1].fault(refuse(Applied::No));
    let error = increment(&client).repeat(&before).await.unwrap_err();
    assert_eq!(
        (error.reason(), error.applied()),
        ("UNKNOWN_OUTCOME", Applied::Maybe)
    );
    assert_eq!(
        error.unfinished(),
        Some(&before),
        "the first node stays the first"
    );

    let other_level = increment(&client)
        .repeat(&before)
        .level(Consistency::Eventual);
    let error = other_level.await.unwrap_err();
    assert_eq!(error.applied(), Applied::Maybe);
    assert!(error.message().contains("INVALID"), "{error}");
    assert_eq!(cluster.executed(), 0);

    let repeated = increment(&client).repeat(&before).await.unwrap();
    assert_eq!(repeated.total, Some(5));
}

#[tokio::test]
async fn a_repetition_takes_no_number_of_its_session() {
    let (cluster, client) = three().await;
    let session = client.session();
    let strong = || {
        session
            .increment("stock", "k", 1)
            .level(Consistency::Strong)
    };
    cluster.nodes[1].fault(refuse(Applied::Maybe));
    let before = strong().await.unwrap_err().unfinished().unwrap().clone();
    strong().repeat(&before).await.unwrap();
    strong().await.unwrap();
    let seen = cluster.seen();
    let numbers: Vec<_> = seen.iter().map(|it| it.request_id.unwrap().1).collect();
    assert_eq!(numbers, [1, 1, 2]);
    assert!(
        seen[2].token > seen[0].token,
        "the session saw the repeated write"
    );
}

#[tokio::test]
async fn a_strong_condition_that_did_not_hold_is_the_outcome_of_every_attempt() {
    let (cluster, client) = three().await;
    client.put("profiles", "k", "v").await.unwrap();
    let cas = || client.cas("profiles", "k", Expect::Absent, Some("w".into()));
    // Inside of a call.
    cluster.nodes[1].fault(Fault::BreakBefore);
    let error = cas().await.unwrap_err();
    assert_eq!((error.kind(), error.attempts()), (ErrorKind::Conflict, 2));
    assert_eq!((error.applied(), error.unfinished()), (Applied::No, None));
    assert!(error.etag().is_some());
    // And of one that is repeated.
    cluster.nodes[1].fault(refuse(Applied::Maybe));
    let before = cas().await.unwrap_err().unfinished().unwrap().clone();
    let error = cas().repeat(&before).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert_eq!(error.applied(), Applied::No);
    assert_eq!(error.request_id(), Some(before.id));
}
