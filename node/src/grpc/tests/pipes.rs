//! Many requests over one stream.

use std::collections::BTreeMap;

use hansa_proto::v1::pipe_reply::Body;
use hansa_proto::v1::pipe_request::Body as Ask;
use hansa_proto::v1::{PipeReply, PipeRequest};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::*;

async fn pipe(node: &Running) -> (mpsc::Sender<PipeRequest>, Streaming<PipeReply>) {
    let (ask, asked) = mpsc::channel(4096);
    let replies = node.kv().await.pipe(ReceiverStream::new(asked)).await;
    (ask, replies.unwrap().into_inner())
}

async fn next(replies: &mut Streaming<PipeReply>) -> (u64, Body) {
    let reply = replies.message().await.unwrap().unwrap();
    (reply.id, reply.body.unwrap())
}

fn ask(id: u64, body: Ask) -> PipeRequest {
    PipeRequest {
        id,
        body: Some(body),
    }
}

#[tokio::test]
async fn a_pipe_says_hello_then_answers_everything_once() {
    let node = run(ALONE).await;
    let (sender, mut replies) = pipe(&node).await;
    let (id, Body::Hello(hello)) = next(&mut replies).await else {
        panic!("no hello");
    };
    assert_eq!((id, hello.epoch), (0, 3));
    assert_eq!(
        (hello.cluster_id.as_str(), hello.node.as_str()),
        ("alone", "only")
    );
    assert!(hello.server_hlc > 0);

    // More than may be open at once: the rest waits in the stream.
    let count = 3000u64;
    let feed = tokio::spawn(async move {
        for id in 1..=count {
            let key = format!("k{id}");
            let body = match id % 2 {
                0 => Ask::Put(put(key.as_bytes(), b"v")),
                _ => Ask::Get(get("profiles", key.as_bytes())),
            };
            sender.send(ask(id, body)).await.unwrap();
        }
    });
    let mut seen = BTreeMap::new();
    while let Some(reply) = replies.message().await.unwrap() {
        let body = reply.body.unwrap();
        let fits = match reply.id % 2 {
            0 => matches!(body, Body::Put(_)),
            _ => matches!(body, Body::Get(_)),
        };
        assert!(fits, "{body:?}");
        assert_eq!(seen.insert(reply.id, ()), None);
    }
    feed.await.unwrap();
    assert_eq!(seen.len() as u64, count);
}

#[tokio::test]
async fn a_refused_request_leaves_the_stream_alone() {
    let node = run(ALONE).await;
    let (sender, mut replies) = pipe(&node).await;
    next(&mut replies).await;
    sender
        .send(ask(1, Ask::Get(get("mars", b"k"))))
        .await
        .unwrap();
    let (id, Body::Error(error)) = next(&mut replies).await else {
        panic!("not refused");
    };
    assert_eq!(
        (id, error.code, error.reason.as_str()),
        (1, 5, "UNKNOWN_KEYSPACE")
    );
    assert_eq!(error.applied(), v1::Applied::No);
    sender
        .send(PipeRequest { id: 2, body: None })
        .await
        .unwrap();
    let (id, Body::Error(error)) = next(&mut replies).await else {
        panic!("not refused");
    };
    assert_eq!((id, error.field.as_str()), (2, "body"));
    // A number may be used again once it was answered.
    sender
        .send(ask(2, Ask::Put(put(b"k", b"v"))))
        .await
        .unwrap();
    assert!(matches!(next(&mut replies).await, (2, Body::Put(_))));
    drop(sender);
    assert!(replies.message().await.unwrap().is_none());
}

#[tokio::test]
async fn a_client_that_breaks_the_rules_loses_the_stream() {
    let node = run(ALONE).await;
    let (sender, mut replies) = pipe(&node).await;
    next(&mut replies).await;
    sender
        .send(ask(0, Ask::Get(get("profiles", b"k"))))
        .await
        .unwrap();
    let status = replies.message().await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);

    // Two requests under one number: both are read before either is answered.
    let requests = [7, 7].map(|id| Ok(ask(id, Ask::Get(get("profiles", b"k")))));
    let requests = tokio_stream::iter(requests);
    let mut replies = pipe::Replies::new(Arc::clone(&node.edge), requests);
    use futures_util::StreamExt as _;
    assert!(replies.next().await.unwrap().is_ok());
    let status = replies.next().await.unwrap().unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(replies.next().await.is_none());
}
