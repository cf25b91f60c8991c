//! Three regions of one node each.

use hansa_node::store::Engine;
use hansa_proto::v1::{DigestRequest, Level, StatusRequest};

use crate::support::{Cluster, LEVELS, PATIENCE};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_node_writes_and_reads_at_every_level() {
    let mut cluster = Cluster::start(3, Engine::Fjall);
    let mut clients = Vec::new();
    for number in 0..3 {
        let mut client = cluster.client(number).await;
        client.put_when_there_is_a_quorum("first", "value").await;
        clients.push(client);
    }
    for writer in 0..3 {
        for level in LEVELS {
            let key = format!("{} by {writer}", level.as_str_name());
            let token = clients[writer].put(&key, &key, level).await.unwrap();
            for (reader, client) in clients.iter_mut().enumerate() {
                let strong = client.get(&key, Level::Strong, &token).await.unwrap();
                let session = client.get(&key, Level::Session, &token).await.unwrap();
                assert_eq!(strong.as_ref(), Some(&key), "strong from {reader}");
                assert_eq!(session.as_ref(), Some(&key), "session from {reader}");
                client.get_when_it_came(&key, &key).await;
            }
        }
    }
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn digests_become_equal_and_status_shows_the_links() {
    let mut cluster = Cluster::start(3, Engine::Memory);
    let mut clients = Vec::new();
    for number in 0..3 {
        let mut client = cluster.client(number).await;
        client.put_when_there_is_a_quorum("first", "value").await;
        for n in 0..20 {
            let key = format!("key {n}");
            client
                .put(&key, &format!("by {number}"), Level::Eventual)
                .await
                .unwrap();
        }
        clients.push(client);
    }
    let begun = std::time::Instant::now();
    loop {
        let mut digests = Vec::new();
        for client in &mut clients {
            let reply = client.admin.digest(DigestRequest::default()).await.unwrap();
            digests.push(reply.into_inner());
        }
        if digests.windows(2).all(|pair| pair[0] == pair[1]) {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "{digests:?}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    for client in &mut clients {
        let status = client
            .admin
            .status(StatusRequest {})
            .await
            .unwrap()
            .into_inner();
        assert_eq!(status.peers.len(), 2);
        assert!(status.peers.iter().all(|peer| peer.reachable), "{status:?}");
    }
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn alone_a_node_serves_eventual_and_refuses_strong() {
    let mut cluster = Cluster::start(3, Engine::Memory);
    let mut client = cluster.client(0).await;
    client.put_when_there_is_a_quorum("key", "value").await;
    cluster.stop(1).await;
    cluster.stop(2).await;
    client.put("key", "alone", Level::Eventual).await.unwrap();
    let found = client.get("key", Level::Eventual, &[]).await.unwrap();
    assert_eq!(found.as_deref(), Some("alone"));
    let refused = client.put("key", "alone", Level::Strong).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::Unavailable, "{refused:?}");
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_with_another_topology_is_refused_by_its_peers_and_serves_eventual() {
    let mut cluster = Cluster::start_with(3, Engine::Memory, |settings| {
        settings[2].topology.keyspaces[0].shards += 1;
    });
    let mut agreeing = cluster.client(0).await;
    agreeing.put_when_there_is_a_quorum("key", "value").await;
    let mut odd = cluster.client(2).await;
    odd.put("key", "alone", Level::Eventual).await.unwrap();
    let refused = odd.put("key", "alone", Level::Strong).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::Unavailable, "{refused:?}");
    for client in [&mut agreeing, &mut odd] {
        let status = client.admin.status(StatusRequest {}).await;
        let status = status.unwrap().into_inner();
        let links = status.peers.iter().filter(|peer| peer.reachable);
        let expected = usize::from(status.node == "node-0");
        assert_eq!(links.count(), expected, "{status:?}");
    }
    cluster.stop_all().await;
}
