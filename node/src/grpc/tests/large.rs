//! Requests that are too long, by a byte and by a lot: told so at once, and nobody else suffers.

use hansa_proto::v1::pipe_reply::Body;
use hansa_proto::v1::pipe_request::Body as Ask;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::*;
use crate::limits::BATCH_READS_MAX;

const MIB: usize = 1 << 20;

fn long(bytes: usize) -> v1::PutRequest {
    put(b"long", &vec![7; bytes])
}

#[tokio::test]
async fn a_unary_request_that_is_too_long_gets_the_documented_refusal() {
    let node = run(ALONE).await;
    for bytes in [MIB + 1, 5 * MIB, 17 * MIB] {
        let mut kv = node.kv().await;
        let status = kv.put(long(bytes)).await.unwrap_err();
        let expected = (Code::InvalidArgument, "INVALID".to_owned(), "NO".to_owned());
        assert_eq!(told(&status), expected, "{bytes}: {status}");
        assert!(status.message().contains("1048576"), "{bytes}: {status}");
    }
    let found = node.kv().await.get(get("profiles", b"long")).await;
    assert!(!found.unwrap().into_inner().found);
}

#[tokio::test]
async fn a_longest_value_passes_both_ways() {
    let node = run(ALONE).await;
    let mut kv = node.kv().await;
    kv.put(long(MIB)).await.unwrap();
    let request = swap(
        b"long",
        Expect::ExpectValue(vec![7; MIB].into()),
        Some(&vec![8; MIB]),
    );
    kv.compare_and_set(request).await.unwrap();
}

/// Sends an innocent request, one that is too long, and, where the stream lives on, another innocent one.
async fn beside_the_innocent(bytes: usize) -> (Vec<(u64, Body)>, Option<Status>) {
    let node = run(ALONE).await;
    let (sender, asked) = mpsc::channel(64);
    let replies = node.kv().await.pipe(ReceiverStream::new(asked)).await;
    let mut replies = replies.unwrap().into_inner();
    let ask = |id, put| v1::PipeRequest {
        id,
        body: Some(Ask::Put(put)),
    };
    for id in 1..=20 {
        let innocent = put(format!("k{id}").as_bytes(), b"v");
        sender.send(ask(id, innocent)).await.unwrap();
    }
    sender.send(ask(21, long(bytes))).await.unwrap();
    sender.send(ask(22, put(b"last", b"v"))).await.unwrap();
    drop(sender);
    let mut told = Vec::new();
    loop {
        match replies.message().await {
            Ok(Some(reply)) => told.push((reply.id, reply.body.unwrap())),
            Ok(None) => return (told, None),
            Err(status) => return (told, Some(status)),
        }
    }
}

fn written(told: &[(u64, Body)]) -> Vec<u64> {
    let puts = told.iter().filter(|(_, body)| matches!(body, Body::Put(_)));
    let mut ids: Vec<u64> = puts.map(|(id, _)| *id).collect();
    ids.sort_unstable();
    ids
}

#[tokio::test]
async fn a_pipe_answers_a_value_that_is_too_long_and_goes_on() {
    for bytes in [MIB + 1, 5 * MIB] {
        let (told, end) = beside_the_innocent(bytes).await;
        assert_eq!(end.map(|status| status.to_string()), None);
        let expected: Vec<u64> = (1..=20).chain([22]).collect();
        assert_eq!(written(&told), expected);
        let refused = told.iter().find(|(id, _)| *id == 21);
        let Some((_, Body::Error(error))) = refused else {
            panic!("{refused:?}");
        };
        assert_eq!(error.reason, "INVALID");
        assert_eq!(error.applied(), v1::Applied::No);
        assert_eq!(error.field, "value");
    }
}

#[tokio::test]
async fn a_pipe_that_can_not_go_on_answers_the_innocent_first_and_says_why() {
    let (answered, end) = beside_the_innocent(17 * MIB).await;
    assert_eq!(written(&answered), (1..=20).collect::<Vec<u64>>());
    let status = end.unwrap();
    let expected = (Code::InvalidArgument, "INVALID".to_owned(), "NO".to_owned());
    assert_eq!(told(&status), expected, "{status}");
}

#[tokio::test]
async fn opaque_bytes_that_can_not_be_ours_are_refused_before_they_travel() {
    let node = run(ALONE).await;
    let mut kv = node.kv().await;
    let etag = swap(b"k", Expect::ExpectEtag(vec![1; 65].into()), None);
    let status = kv.compare_and_set(etag).await.unwrap_err();
    assert_eq!(told(&status).1, "INVALID", "{status}");
    assert!(status.message().starts_with("expect_etag: "), "{status}");
}

#[tokio::test]
async fn batches_hold_a_bounded_number_of_values_and_wait_within_their_deadline() {
    let node = run(ALONE).await;
    let batch = |keys: usize| v1::BatchGetRequest {
        keyspace: "profiles".to_owned(),
        keys: vec![
            v1::BatchKey {
                key: "k".into(),
                ..v1::BatchKey::default()
            };
            keys
        ],
        options: Some(RequestOptions {
            deadline_ms: 50,
            ..RequestOptions::default()
        }),
    };
    let waiting = node
        .edge
        .batch_room
        .others
        .acquire_many(BATCH_READS_MAX as u32);
    let _waiting = waiting.await.unwrap();
    let room = &node.edge.batch_room.eventual;
    let taken = room.acquire_many(BATCH_READS_MAX as u32 - 1).await.unwrap();
    let status = node.kv().await.batch_get(batch(2)).await.unwrap_err();
    let expected = (
        Code::DeadlineExceeded,
        "DEADLINE_EXCEEDED".to_owned(),
        "NO".to_owned(),
    );
    assert_eq!(told(&status), expected);
    node.kv().await.batch_get(batch(1)).await.unwrap();
    drop(taken);
    node.kv().await.batch_get(batch(100)).await.unwrap();
    assert_eq!(room.available_permits(), BATCH_READS_MAX);
}
