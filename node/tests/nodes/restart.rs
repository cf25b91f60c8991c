//! What a node still knows after it was away.

use std::fs;

use hansa_node::server::serve;
use hansa_node::store::Engine;
use hansa_proto::v1::Level;

use crate::support::{Cluster, LEVELS, serve_briefly, settings};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_acknowledged_is_there_after_a_restart_and_the_node_votes_again() {
    let mut cluster = Cluster::start(1, Engine::Fjall);
    let mut client = cluster.client(0).await;
    client.put_when_there_is_a_quorum("first", "value").await;
    for level in LEVELS {
        client
            .put(level.as_str_name(), "value", level)
            .await
            .unwrap();
    }
    for _ in 0..3 {
        cluster.stop(0).await;
        cluster.restart(0).await;
        let mut client = cluster.client(0).await;
        client.put_when_there_is_a_quorum("again", "value").await;
        for written in LEVELS {
            for read in LEVELS {
                let found = client.get(written.as_str_name(), read, &[]).await.unwrap();
                assert_eq!(found.as_deref(), Some("value"), "{written:?} {read:?}");
            }
        }
    }
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_was_away_catches_up_and_the_others_go_on_without_it() {
    let mut cluster = Cluster::start(3, Engine::Fjall);
    let mut first = cluster.client(0).await;
    first.put_when_there_is_a_quorum("before", "one").await;
    cluster.stop(2).await;
    first
        .put_when_there_is_a_quorum("strong while away", "two")
        .await;
    first
        .put("eventual while away", "three", Level::Eventual)
        .await
        .unwrap();

    cluster.restart(2).await;
    let mut back = cluster.client(2).await;
    back.get_when_it_came("eventual while away", "three").await;
    back.put_when_there_is_a_quorum("after", "four").await;
    let found = back.get("strong while away", Level::Strong, &[]).await;
    assert_eq!(found.unwrap().as_deref(), Some("two"));
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_aborted_in_the_middle_of_writes_has_everything_it_acknowledged_and_votes_again() {
    let mut cluster = Cluster::start(1, Engine::Fjall);
    for round in 0..4 {
        let mut client = cluster.client(0).await;
        client.put_when_there_is_a_quorum("voting", "yes").await;
        let (acknowledged, mut acknowledgements) = tokio::sync::mpsc::unbounded_channel();
        let mut writers = tokio::task::JoinSet::new();
        for writer in 0..6 {
            let mut client = cluster.client(0).await;
            let acknowledged = acknowledged.clone();
            writers.spawn(async move {
                let level = LEVELS[writer % LEVELS.len()];
                for n in 0.. {
                    let key = format!("{round} {writer} {n}");
                    if client.put(&key, &key, level).await.is_err() {
                        return;
                    }
                    acknowledged.send(key).unwrap();
                }
            });
        }
        drop(acknowledged);
        let mut keys = Vec::new();
        while keys.len() < 100 {
            keys.push(acknowledgements.recv().await.unwrap());
        }
        cluster.abort(0).await;
        writers.join_all().await;
        while let Some(key) = acknowledgements.recv().await {
            keys.push(key);
        }
        cluster.restart(0).await;
        let mut client = cluster.client(0).await;
        client.put_when_there_is_a_quorum("voting", "again").await;
        for key in keys {
            for level in LEVELS {
                let found = client.get(&key, level, &[]).await.unwrap();
                assert_eq!(found.as_ref(), Some(&key), "{level:?}");
            }
        }
    }
    cluster.stop_all().await;
}

#[tokio::test]
async fn a_shortened_store_is_refused_and_served_again_with_rebuild() {
    let dir = tempfile::tempdir().unwrap();
    let mut settings = settings(3, 0, dir.path(), Engine::Fjall);
    serve_briefly(settings.clone()).await;
    let file = dir.path().join("sequence");
    fs::remove_file(&file).unwrap();
    hansa_node::store::sequence::SequenceFile::create(&file, 1_000_000).unwrap();

    let refused = serve(settings.clone(), std::future::pending()).await;
    let text = refused.unwrap_err().to_string();
    assert!(text.contains("hansa serve --rebuild"), "{text}");
    settings.rebuild = true;
    serve_briefly(settings.clone()).await;
    let kept = fs::read_dir(dir.path()).unwrap();
    let names = kept.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let aside = names.filter(|name| name.starts_with("quarantine-"));
    assert_eq!(aside.count(), 1, "the old store is kept");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_lost_its_disk_refills_and_does_not_vote() {
    let mut cluster = Cluster::start(3, Engine::Memory);
    let mut first = cluster.client(0).await;
    first.put_when_there_is_a_quorum("key", "value").await;
    cluster.stop(2).await;
    // In memory nothing is kept: it comes back with an identity and no data.
    cluster.restart(2).await;
    let mut lost = cluster.client(2).await;
    lost.get_when_it_came("key", "value").await;
    let refused = lost.put("key", "other", Level::Strong).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::Unavailable, "{refused:?}");
    first
        .put_when_there_is_a_quorum("key", "still a majority")
        .await;
    cluster.stop_all().await;
}
