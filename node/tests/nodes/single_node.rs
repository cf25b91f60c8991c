//! One node alone: what it serves, what it refuses to start with, and that it stops.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use hansa_node::server::{Listeners, ServeError, serve};
use hansa_node::store::Engine;
use hansa_proto::v1;

use crate::support::{Client, Cluster, LEVELS, PATIENCE, Running, serve_briefly, settings};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_level_writes_and_reads() {
    let mut cluster = Cluster::start(1, Engine::Memory);
    let mut client = cluster.client(0).await;
    client.put_when_there_is_a_quorum("first", "value").await;
    for level in LEVELS {
        let key = level.as_str_name();
        let token = client.put(key, key, level).await.unwrap();
        for level in LEVELS {
            let found = client.get(key, level, &token).await.unwrap();
            assert_eq!(found.as_deref(), Some(key));
        }
    }
    cluster.stop_all().await;
}

#[tokio::test]
async fn a_port_in_use_is_told_before_the_data_directory_is_touched() {
    let dir = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut settings = settings(1, 0, &dir.path().join("data"), Engine::Fjall);
    settings.listen = taken.local_addr().unwrap();
    let error = serve(settings, std::future::pending()).await.unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, ServeError::Listen { .. }), "{text}");
    let address = taken.local_addr().unwrap().to_string();
    for word in [&address, "listen", "clients"] {
        assert!(text.contains(word), "{word} in {text}");
    }
    assert!(!dir.path().join("data").exists());
}

#[tokio::test]
async fn the_directory_of_another_node_is_refused_naming_both() {
    let dir = tempfile::tempdir().unwrap();
    let first = settings(2, 0, dir.path(), Engine::Fjall);
    serve_briefly(first).await;
    let other = settings(2, 1, dir.path(), Engine::Fjall);
    let error = serve(other, std::future::pending()).await.unwrap_err();
    let text = error.to_string();
    for word in ["node-0", "node-1", "three", "data directory"] {
        assert!(text.contains(word), "{word} in {text}");
    }
}

#[tokio::test]
async fn a_node_told_to_stop_while_it_opens_ends_well_and_leaves_the_directory_free() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(1, 0, dir.path(), Engine::Fjall);
    for _ in 0..2 {
        let stopped = serve(settings.clone(), std::future::ready(()));
        tokio::time::timeout(PATIENCE, stopped)
            .await
            .unwrap()
            .unwrap();
    }
    serve_briefly(settings).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_stream_does_not_keep_the_node_from_stopping() {
    let mut cluster = Cluster::start(1, Engine::Memory);
    let mut client = cluster.client(0).await;
    client.put_when_there_is_a_quorum("key", "value").await;
    let (_asking, requests) = tokio::sync::mpsc::channel::<v1::PipeRequest>(1);
    let requests = tokio_stream::wrappers::ReceiverStream::new(requests);
    let mut replies = client.kv.pipe(requests).await.unwrap().into_inner();
    let hello = replies.message().await.unwrap().unwrap();
    assert_eq!(hello.id, 0);

    let begun = Instant::now();
    cluster.stop_all().await;
    assert!(begun.elapsed() < Duration::from_secs(8));
    assert!(!matches!(replies.message().await, Ok(Some(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_does_not_wait_for_delayed_acknowledgements() {
    let mut cluster = Cluster::start(1, Engine::Memory);
    let mut client = cluster.client(0).await;
    client.put_when_there_is_a_quorum("key", "value").await;
    let mut took = Vec::new();
    for _ in 0..50 {
        let begun = Instant::now();
        client.get("key", LEVELS[0], &[]).await.unwrap();
        took.push(begun.elapsed());
    }
    took.sort();
    // Without TCP_NODELAY on both sides it is 40 ms and more.
    assert!(took[25] < Duration::from_millis(20), "p50 {:?}", took[25]);
    cluster.stop_all().await;
}

#[tokio::test]
async fn two_nodes_can_not_share_a_directory() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(1, 0, dir.path(), Engine::Fjall);
    let listeners = Listeners::bind(&settings).unwrap();
    let mut first_settings = settings.clone();
    first_settings.listen = listeners.client_address().unwrap();
    let running = Running::start(settings.clone(), listeners);
    let mut client = Client::connect(&first_settings.listen.to_string()).await;
    client.put_when_there_is_a_quorum("key", "value").await;
    let error = serve(settings, std::future::pending()).await.unwrap_err();
    assert!(error.to_string().contains("in use"), "{error}");
    running.stop().await.unwrap();
}
