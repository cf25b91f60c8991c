//! Health, reflection, admin and metrics of a running node.

use std::sync::Mutex;

use hansa_proto::v1::admin_client::AdminClient;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::*;

#[tokio::test]
async fn health_is_told_by_level() {
    let node = run(ALONE).await;
    let mut health = HealthClient::new(channel(node.clients).await);
    for name in [
        "",
        "hansa.v1.Kv",
        "hansa.v1.Kv/eventual",
        "hansa.v1.Kv/strong",
    ] {
        let request = HealthCheckRequest {
            service: name.to_owned(),
        };
        // The first word may still be that of a starting node: wait for the change.
        let mut words = health.watch(request).await.unwrap().into_inner();
        loop {
            let word = words.message().await.unwrap().unwrap();
            if word.status() == ServingStatus::Serving {
                break;
            }
        }
    }
    let unknown = HealthCheckRequest {
        service: "mars".to_owned(),
    };
    assert_eq!(
        health.check(unknown).await.unwrap_err().code(),
        Code::NotFound
    );
}

#[tokio::test]
async fn a_node_without_its_peers_does_not_serve_strong() {
    let node = run(crate::settings::TOPOLOGY_EXAMPLE).await;
    let status = node.edge.driver.status();
    let levels = health::levels(&status, &node.edge.driver.condition(), true);
    assert!(levels.contains(&hansa_consistency::request::Level::Eventual));
    assert!(!levels.contains(&hansa_consistency::request::Level::Strong));
    let full = health::levels(&status, &crate::driver::Condition::DiskFull, true);
    assert_eq!(full, [hansa_consistency::request::Level::Eventual]);
}

#[tokio::test]
async fn a_node_with_a_link_makes_something_durable_all_the_time() {
    let node = run(crate::settings::TOPOLOGY_EXAMPLE).await;
    let mut driver = node.edge.driver.clone();
    driver.link_up(NodeId(1));
    node.edge.metrics.link(NodeId(1), true);
    // Nobody asks anything: what is written is the clock's bound, for the heartbeats.
    let durable = async {
        while node.edge.metrics.groups() < 4 {
            assert!(node.edge.disk_answers());
            driver.status_changed().await;
        }
    };
    tokio::time::timeout(4 * crate::limits::DISK_SILENT_MAX, durable)
        .await
        .unwrap();
}

macro_rules! reflected {
    ($name:ident, $version:ident) => {
        #[tokio::test]
        async fn $name() {
            use tonic_reflection::pb::$version::ServerReflectionRequest;
            use tonic_reflection::pb::$version::server_reflection_client::ServerReflectionClient;
            use tonic_reflection::pb::$version::server_reflection_request::MessageRequest;
            use tonic_reflection::pb::$version::server_reflection_response::MessageResponse;

            let node = run(ALONE).await;
            let mut client = ServerReflectionClient::new(channel(node.clients).await);
            let ask = |request| ServerReflectionRequest {
                host: String::new(),
                message_request: Some(request),
            };
            let requests = tokio_stream::iter([
                ask(MessageRequest::ListServices(String::new())),
                ask(MessageRequest::FileContainingSymbol(
                    "hansa.v1.Kv".to_owned(),
                )),
            ]);
            let mut replies = client
                .server_reflection_info(requests)
                .await
                .unwrap()
                .into_inner();
            let reply = replies.message().await.unwrap().unwrap();
            let Some(MessageResponse::ListServicesResponse(list)) = reply.message_response else {
                panic!("no list");
            };
            let names: Vec<_> = list
                .service
                .into_iter()
                .map(|service| service.name)
                .collect();
            for name in ["hansa.v1.Kv", "hansa.v1.Admin", "grpc.health.v1.Health"] {
                assert!(
                    names.iter().any(|each| each == name),
                    "{name} is not in {names:?}"
                );
            }
            let reply = replies.message().await.unwrap().unwrap();
            let Some(MessageResponse::FileDescriptorResponse(file)) = reply.message_response else {
                panic!("no file");
            };
            assert!(!file.file_descriptor_proto.is_empty());
        }
    };
}

reflected!(reflection_v1_names_the_services, v1);
reflected!(reflection_v1alpha_names_the_services, v1alpha);

#[tokio::test]
async fn admin_tells_status_topology_and_digests() {
    let node = run(ALONE).await;
    let mut admin = AdminClient::new(channel(node.clients).await);
    let status = admin
        .status(v1::StatusRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (status.node.as_str(), status.region.as_str()),
        ("only", "here")
    );
    assert_eq!((status.epoch, status.start), (3, node.edge.opened.start));
    assert_eq!(status.incarnation, node.edge.opened.incarnation);
    assert!(status.server_hlc > 0);
    assert!(status.writable && status.disk_trouble.is_empty());
    let shards: Vec<_> = status
        .keyspaces
        .iter()
        .map(|keyspace| keyspace.shards)
        .collect();
    assert_eq!(shards, [8, 64, 64, 64]);
    assert_eq!(status.shards, 200);

    let topology = admin
        .topology(v1::TopologyRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(topology.regions[0].nodes[0].client_address, "127.0.0.1:2");
    assert_eq!(topology.keyspaces[3].mixing, "strong_only");
    assert_eq!(topology.keyspaces[3].default_level, "strong");
    assert_eq!(topology.digest.len(), 32);

    let digest = |keyspace: &str| v1::DigestRequest {
        keyspace: keyspace.to_owned(),
        shards: true,
    };
    let before = admin.digest(digest("profiles")).await.unwrap().into_inner();
    assert_eq!(before.keyspaces.len(), 1);
    assert_eq!(before.keyspaces[0].shards.len(), 8);
    node.kv().await.put(put(b"k", b"v")).await.unwrap();
    let after = admin.digest(digest("profiles")).await.unwrap().into_inner();
    assert_ne!(before.keyspaces[0].digest, after.keyspaces[0].digest);
    let all = admin.digest(digest("")).await.unwrap().into_inner();
    assert_eq!(all.keyspaces.len(), 4);
    assert_eq!(all.keyspaces[0], after.keyspaces[0]);
    let unknown = admin.digest(digest("mars")).await.unwrap_err();
    assert_eq!(told(&unknown).1, "UNKNOWN_KEYSPACE");

    let refused = admin
        .set_link(v1::SetLinkRequest::default())
        .await
        .unwrap_err();
    assert_eq!(told(&refused).1, "NOT_SERVED");
}

#[tokio::test]
async fn digests_are_computed_one_after_the_other_and_in_bounded_time() {
    let node = run(ALONE).await;
    let mut admin = AdminClient::new(channel(node.clients).await);
    let turn = node.edge.digest_turn.lock().await;
    let mut request = tonic::Request::new(v1::DigestRequest::default());
    request.set_timeout(Duration::from_millis(100));
    // Asked without a connection, whose own timer would race the node's.
    let service = admin::NodeAdmin::new(Arc::clone(&node.edge));
    let late = v1::admin_server::Admin::digest(&service, request)
        .await
        .unwrap_err();
    let expected = (
        Code::DeadlineExceeded,
        "DEADLINE_EXCEEDED".to_owned(),
        "NO".to_owned(),
    );
    assert_eq!(told(&late), expected);
    drop(turn);
    admin.digest(v1::DigestRequest::default()).await.unwrap();
}

#[derive(Default)]
struct Cables(Mutex<Vec<admin::LinkChange>>);

#[tonic::async_trait]
impl admin::Links for Cables {
    async fn set(&self, change: admin::LinkChange) -> Result<u32, String> {
        if change.region == "mars" {
            return Err("there is no region `mars`".to_owned());
        }
        self.0.lock().unwrap().push(change);
        Ok(4)
    }
}

#[tokio::test]
async fn a_demo_serves_links_and_nothing_else() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let cables = Arc::new(Cables::default());
    let links: Arc<dyn admin::Links> = Arc::<Cables>::clone(&cables);
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = tokio::spawn(admin::serve_links(listener, links, async {
        let _ = stopped.await;
    }));
    let mut client = AdminClient::new(channel(address).await);
    let request = |region: &str, direction: v1::LinkDirection| v1::SetLinkRequest {
        region: region.to_owned(),
        state: v1::LinkState::Cut.into(),
        direction: direction.into(),
        peer_region: String::new(),
    };
    let cut = request("here", v1::LinkDirection::Outbound);
    let reply = client.set_link(cut).await.unwrap().into_inner();
    assert_eq!(reply.links, 4);
    let change = cables.0.lock().unwrap()[0].clone();
    assert!(change.cut && change.outbound && !change.inbound);
    assert_eq!(change.peer_region, None);
    let unknown = request("mars", v1::LinkDirection::Unspecified);
    let status = client.set_link(unknown).await.unwrap_err();
    assert!(status.message().contains("mars"), "{status}");
    let nothing = v1::SetLinkRequest::default();
    assert_eq!(
        told(&client.set_link(nothing).await.unwrap_err()).1,
        "INVALID"
    );
    let status = client.status(v1::StatusRequest {}).await.unwrap_err();
    assert_eq!(told(&status).1, "NOT_SERVED");
    drop(client);
    stop.send(()).unwrap();
    server.await.unwrap().unwrap();
}

#[tokio::test]
async fn operations_are_counted_by_command_level_and_outcome() {
    let node = run(ALONE).await;
    let mut kv = node.kv().await;
    kv.put(put(b"k", b"v")).await.unwrap();
    kv.get(get("locks", b"k")).await.unwrap();
    kv.get(get("mars", b"k")).await.unwrap_err();
    let text = node.edge.metrics.encode().unwrap();
    for labels in [
        "command=\"put\",level=\"eventual\",outcome=\"ok\"} 1",
        "command=\"get\",level=\"strong\",outcome=\"ok\"} 1",
        "command=\"get\",level=\"unknown\",outcome=\"UNKNOWN_KEYSPACE\"} 1",
    ] {
        assert!(text.contains(labels), "{labels} is not in\n{text}");
    }
}

#[tokio::test]
async fn a_probe_is_told_the_levels_until_the_node_stops() {
    let node = run(ALONE).await;
    let check = || crate::metrics::Health::check(&*node.edge);
    assert!(check().unwrap().contains("eventual"));
    node.edge.begin_to_stop();
    assert!(check().unwrap_err().contains("stopping"));
    // The reporter hears it, too, without being told.
    let mut health = HealthClient::new(channel(node.clients).await);
    let request = HealthCheckRequest {
        service: "hansa.v1.Kv/eventual".to_owned(),
    };
    let mut words = health.watch(request).await.unwrap().into_inner();
    while words.message().await.unwrap().unwrap().status() != ServingStatus::NotServing {}
}
