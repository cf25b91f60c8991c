//! A call is never executed twice, and never forgotten silently.

use bytes::Bytes;

use super::{asked, builder, three};
use crate::fake::{Cluster, Fault};
use crate::{Applied, Consistency, ErrorKind, Expect};

fn refuse(reason: &'static str, code: i32, applied: Applied) -> Fault {
    Fault::Refuse {
        reason,
        code,
        applied,
        retry_after_ms: 0,
    }
}

#[tokio::test]
async fn a_broken_read_runs_elsewhere() {
    let (cluster, client) = three().await;
    cluster.nodes[1].fault(Fault::BreakBefore);
    let got = client.get("profiles", "k").await.unwrap();
    assert_eq!(got.receipt.attempts, 2);
    assert_eq!(asked(&cluster)[0], "eu-central-1");
    assert_ne!(asked(&cluster)[1], "eu-central-1");
}

#[tokio::test]
async fn a_broken_eventual_or_default_put_runs_again_on_the_same_node_under_its_name() {
    let levels = [Consistency::Eventual, Consistency::KeyspaceDefault];
    let faults = [Fault::BreakBefore, Fault::BreakAfter];
    let cases = levels.map(|level| faults.clone().map(|fault| (level, fault)));
    for (level, fault) in cases.into_iter().flatten() {
        let (cluster, client) = three().await;
        cluster.nodes[1].fault(fault);
        let put = client.put("profiles", "k", "v").level(level);
        put.await.unwrap();
        let seen = cluster.seen();
        assert_eq!(seen[1].level, level);
        assert_eq!(asked(&cluster), ["eu-central-1"; 2]);
        let (first, second) = (seen[0].request_id.unwrap(), seen[1].request_id.unwrap());
        assert_eq!((first.0, first.1, first.2), (second.0, second.1, 0));
        assert_eq!(second.2, 1);
        assert_eq!(seen[1].first_node, "eu-central-1");
    }
}

#[tokio::test]
async fn a_broken_eventual_put_waits_for_its_node_to_come_back() {
    let (mut cluster, client) = three().await;
    cluster.nodes[1].fault(Fault::BreakAfter);
    let put = tokio::spawn({
        let client = client.clone();
        async move {
            client
                .put("profiles", "k", "v")
                .level(Consistency::Eventual)
                .await
        }
    });
    super::until(|| cluster.executed() == 1).await;
    cluster.nodes[1].restart().unwrap();
    put.await.unwrap().unwrap();
    assert!(asked(&cluster).iter().all(|node| node == "eu-central-1"));
}

#[tokio::test]
async fn a_broken_eventual_increment_is_given_back_as_unknown() {
    for level in [
        Consistency::Eventual,
        Consistency::Session,
        Consistency::KeyspaceDefault,
    ] {
        let (cluster, client) = three().await;
        cluster.nodes[1].fault(Fault::BreakAfter);
        let error = client
            .increment("stock", "k", 1)
            .level(level)
            .await
            .unwrap_err();
        assert_eq!(
            (error.kind(), error.applied()),
            (ErrorKind::Indeterminate, Applied::Maybe)
        );
        assert_eq!(error.attempts(), 1);
        assert_eq!(cluster.executed(), 1);
    }
}

#[tokio::test]
async fn a_broken_strong_put_runs_anywhere_and_once() {
    let (mut cluster, client) = three().await;
    cluster.nodes[1].fault(Fault::BreakAfter);
    let put = client
        .put("profiles", "k", "v")
        .level(Consistency::Strong)
        .await
        .unwrap();
    assert_eq!(put.receipt.attempts, 2);
    assert_ne!(asked(&cluster)[1], "eu-central-1");
    assert_eq!(cluster.executed(), 1);
    cluster.nodes[1].stop();
}

#[tokio::test]
async fn a_broken_strong_increment_stays_in_its_region_and_runs_once() {
    let cluster = Cluster::start(&["us-east", "eu-central", "eu-central"]).unwrap();
    let client = builder(&cluster)
        .region("eu-central")
        .build()
        .await
        .unwrap();
    for node in &cluster.nodes {
        node.fault(Fault::BreakAfter);
    }
    let done = client
        .increment("stock", "k", 5)
        .level(Consistency::Strong)
        .await
        .unwrap();
    assert_eq!(done.total, Some(5));
    assert!(
        asked(&cluster)
            .iter()
            .all(|node| node.starts_with("eu-central"))
    );
    assert_eq!(cluster.executed(), 1);
}

#[tokio::test]
async fn a_broken_compare_and_set_never_crosses_regions_by_itself() {
    let (mut cluster, client) = three().await;
    cluster.nodes[1].fault(Fault::BreakAfter);
    let value = Some(Bytes::from("v"));
    let cas = client.cas("profiles", "k", Expect::Absent, value);
    let call = tokio::spawn(
        cas.deadline(std::time::Duration::from_millis(900))
            .into_future(),
    );
    super::until(|| cluster.executed() == 1).await;
    cluster.nodes[1].stop();
    match call.await.unwrap() {
        // It came again before the node was gone, and was answered from memory.
        Ok(written) => assert_eq!(written.receipt.served_by, "eu-central-1"),
        Err(error) => assert_eq!(error.applied(), Applied::Maybe),
    }
    assert!(asked(&cluster).iter().all(|node| node == "eu-central-1"));
    assert_eq!(cluster.executed(), 1);
}

#[tokio::test]
async fn what_was_refused_with_nothing_applied_may_run_anywhere() {
    let (cluster, client) = three().await;
    cluster.nodes[1].fault(refuse("AWAITING_READMISSION", 14, Applied::No));
    let done = client.increment("stock", "k", 1).await.unwrap();
    assert_eq!(done.total, Some(1));
    let seen = cluster.seen();
    assert_ne!(seen[1].node, "eu-central-1");
    assert_eq!(
        seen[1].request_id.unwrap().2,
        0,
        "nothing was attempted yet"
    );
    assert_eq!(cluster.executed(), 1);
}

#[tokio::test]
async fn a_node_with_a_wrong_clock_is_left_and_the_request_is_not_blamed() {
    let (cluster, client) = three().await;
    // The code that servers use: FAILED_PRECONDITION.
    let wrong = || refuse("CLOCK_OUT_OF_BOUNDS", 9, Applied::No);
    cluster.nodes[1].fault(wrong());
    client.increment("stock", "k", 1).await.unwrap();
    for node in &cluster.nodes {
        (0..3).for_each(|_| node.fault(wrong()));
    }
    let error = client.increment("stock", "k", 1).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.applied()),
        (ErrorKind::Unavailable, Applied::No)
    );
    assert_eq!(error.attempts(), 9);
}

#[tokio::test]
async fn a_missing_quorum_and_an_unknown_outcome_are_given_back_at_once() {
    let (cluster, client) = three().await;
    for (reason, applied, kind) in [
        ("QUORUM_UNREACHABLE", Applied::No, ErrorKind::Unavailable),
        ("SESSION_UNAVAILABLE", Applied::No, ErrorKind::Unavailable),
        ("UNKNOWN_OUTCOME", Applied::Maybe, ErrorKind::Indeterminate),
        ("SHUTTING_DOWN", Applied::Maybe, ErrorKind::Indeterminate),
    ] {
        cluster.nodes[1].fault(refuse(reason, 14, applied));
        let put = client.put("profiles", "k", "v").level(Consistency::Strong);
        let error = put.await.unwrap_err();
        assert_eq!(
            (error.reason(), error.applied(), error.kind()),
            (reason, applied, kind)
        );
        assert_eq!(error.attempts(), 1);
    }
    assert_eq!(asked(&cluster), ["eu-central-1"; 4]);
}

#[tokio::test]
async fn a_refusal_after_a_broken_attempt_does_not_make_it_surely_not_applied() {
    let (cluster, client) = three().await;
    cluster.nodes[1].fault(Fault::BreakAfter);
    for node in &cluster.nodes {
        node.fault(refuse("QUORUM_UNREACHABLE", 14, Applied::No));
    }
    let put = client.put("profiles", "k", "v").level(Consistency::Strong);
    let error = put.await.unwrap_err();
    assert_eq!(
        (error.applied(), error.reason()),
        (Applied::Maybe, "UNKNOWN_OUTCOME")
    );
    assert_eq!(error.attempts(), 2);
}

#[tokio::test]
async fn after_an_unknown_outcome_the_next_request_names_a_newer_clock() {
    let (cluster, client) = three().await;
    let other = builder(&cluster).build().await.unwrap();
    let newest = || cluster.seen().last().map(|seen| seen.issued_hlc);
    for round in 1..=2 {
        for _ in 0..5 {
            other.increment("stock", "other", 1).await.unwrap();
        }
        cluster.nodes[1].fault(refuse("UNKNOWN_OUTCOME", 2, Applied::Maybe));
        let write = client.increment("stock", "k", 1).level(Consistency::Strong);
        let error = write.clone().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Indeterminate);
        let refused = newest();
        // Servers refuse what is older than they remember: with the same value, for ever.
        write.await.unwrap();
        assert!(newest() >= refused.map(|hlc| hlc + 5), "round {round}");
    }
}

#[tokio::test]
async fn writes_at_the_same_time_have_names_of_different_sessions() {
    let (cluster, client) = three().await;
    let hold = Fault::Delay(std::time::Duration::from_millis(50));
    (0..8).for_each(|_| cluster.nodes[1].fault(hold.clone()));
    let calls: Vec<_> = (0..8)
        .map(|_| tokio::spawn(client.increment("stock", "k", 1).into_future()))
        .collect();
    for call in calls {
        call.await.unwrap().unwrap();
    }
    let mut sessions: Vec<u64> = cluster
        .seen()
        .iter()
        .map(|seen| seen.request_id.unwrap().0)
        .collect();
    sessions.sort_unstable();
    sessions.dedup();
    assert_eq!(sessions.len(), 8);
    // And one after the other reuses them: servers remember a bounded number.
    client.increment("stock", "k", 1).await.unwrap();
    let last = cluster.seen().last().unwrap().request_id.unwrap();
    assert!(sessions.contains(&last.0) && last.1 == 2);
}
