//! The services over a real driver, on loopback: one node that is a whole cluster, asked by generated clients.

mod faces;
mod large;
mod links;
mod pipes;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use hansa_consistency::message::Envelope;
use hansa_proto::v1::compare_and_set_request::Expect;
use hansa_proto::v1::get_reply::Content;
use hansa_proto::v1::kv_client::KvClient;
use hansa_proto::v1::update_request::Change;
use hansa_proto::v1::{Level, RequestOptions};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::*;
use crate::driver::{Driver, Outbound, Parts, start};
use crate::open::{Plan, open};
use crate::settings::TopologySettings;
use crate::store::{Engine, Options};

/// One region, one node, every type of keyspace.
const ALONE: &str = r#"
cluster_id = "alone"
epoch = 3
[[regions]]
name = "here"
nodes = [{ name = "only", peer_address = "127.0.0.1:1", client_address = "127.0.0.1:2" }]
[[keyspaces]]
name = "profiles"
type = "register"
shards = 8
[[keyspaces]]
name = "stock"
type = "counter"
[[keyspaces]]
name = "carts"
type = "set"
[[keyspaces]]
name = "locks"
type = "register"
mixing = "strong_only"
"#;

struct Nobody;

impl Outbound for Nobody {
    fn send(&self, _: NodeId, _: Envelope) {}
}

/// A running node. Dropped, it ends.
struct Running {
    edge: Arc<Edge>,
    clients: SocketAddr,
    peers: SocketAddr,
    server: tokio::task::JoinHandle<()>,
    _driver: Driver,
    _dir: TempDir,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn listen() -> (SocketAddr, TcpListenerStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    (
        listener.local_addr().unwrap(),
        TcpListenerStream::new(listener),
    )
}

fn greeting(names: &Names, node: &str, region: &str) -> v1::PeerHello {
    v1::PeerHello {
        format_version: hansa_proto::PEER_FORMAT_VERSION,
        cluster_id: names.cluster_id().to_owned(),
        topology_epoch: names.epoch(),
        topology_digest: names.digest().to_be_bytes().to_vec().into(),
        node: node.to_owned(),
        region: region.to_owned(),
        start: 1,
        incarnation: 1,
        build_version: "test".to_owned(),
    }
}

/// Starts the first node of a topology.
async fn run(topology: &str) -> Running {
    let topology = TopologySettings::from_text(Path::new("t"), topology).unwrap();
    let names = Arc::new(Names::new(&topology).unwrap());
    let (dir, node) = (TempDir::new().unwrap(), NodeId(0));
    let plan = Plan {
        dir: dir.path(),
        engine: Engine::Memory,
        options: Options::default(),
        names: &names,
        node,
        rebuild: false,
    };
    let opened = open(plan, &AtomicBool::new(false)).unwrap();
    let metrics = Arc::new(Metrics::new(Arc::clone(&names), node));
    let mut starts = opened.opened.start;
    let driver = start(Parts {
        replica: opened.replica,
        config: opened.config,
        opened: opened.opened,
        store: opened.store,
        sequence: opened.sequence,
        next_start: Box::new(move || {
            starts += 1;
            Ok(starts)
        }),
        outbound: Arc::new(Nobody),
        observer: Arc::<Metrics>::clone(&metrics),
    })
    .unwrap();
    let handle = driver.handle();
    let edge = Edge::new(Arc::clone(&names), node, opened.opened, handle, metrics);
    let (clients, for_clients) = listen().await;
    let (peers, for_peers) = listen().await;
    let (reporter, health) = health::service().await;
    let routes = client_routes(&edge, health, true).unwrap();
    let ourselves = names.nodes()[0].name.clone();
    let greeting = greeting(
        &names,
        &ourselves,
        names.region_name(names.nodes()[0].region),
    );
    let peer_routes = peer_routes(&edge, greeting);
    let kept = Arc::clone(&edge);
    let server = tokio::spawn(async move {
        let clients = Server::builder()
            .add_routes(routes)
            .serve_with_incoming(for_clients);
        let peers = Server::builder()
            .add_routes(peer_routes)
            .serve_with_incoming(for_peers);
        let (clients, peers, ()) = tokio::join!(clients, peers, reporter.keep(kept));
        clients.and(peers).unwrap();
    });
    Running {
        edge,
        clients,
        peers,
        server,
        _driver: driver,
        _dir: dir,
    }
}

async fn channel(address: SocketAddr) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    endpoint.connect().await.unwrap()
}

impl Running {
    async fn kv(&self) -> KvClient<Channel> {
        KvClient::new(channel(self.clients).await).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }
}

fn at(level: Level) -> Option<RequestOptions> {
    Some(RequestOptions {
        level: level.into(),
        ..RequestOptions::default()
    })
}

fn get(keyspace: &str, key: &[u8]) -> v1::GetRequest {
    v1::GetRequest {
        keyspace: keyspace.to_owned(),
        key: key.to_vec().into(),
        ..v1::GetRequest::default()
    }
}

fn put(key: &[u8], value: &[u8]) -> v1::PutRequest {
    v1::PutRequest {
        keyspace: "profiles".to_owned(),
        key: key.to_vec().into(),
        value: value.to_vec().into(),
        ..v1::PutRequest::default()
    }
}

fn update(keyspace: &str, key: &[u8], change: Change) -> v1::UpdateRequest {
    v1::UpdateRequest {
        keyspace: keyspace.to_owned(),
        key: key.to_vec().into(),
        change: Some(change),
        ..v1::UpdateRequest::default()
    }
}

fn swap(key: &[u8], expect: Expect, value: Option<&[u8]>) -> v1::CompareAndSetRequest {
    v1::CompareAndSetRequest {
        keyspace: "profiles".to_owned(),
        key: key.to_vec().into(),
        expect: Some(expect),
        value: value.map(|value| value.to_vec().into()),
        ..v1::CompareAndSetRequest::default()
    }
}

/// A refusal's code, reason and `applied`, as the details tell them.
fn told(status: &Status) -> (Code, String, String) {
    let info = status.get_details_error_info().unwrap();
    assert_eq!(info.domain, "hansa");
    (status.code(), info.reason, info.metadata["applied"].clone())
}

const LEVELS: [Level; 3] = [Level::Eventual, Level::Session, Level::Strong];

#[tokio::test]
async fn registers_are_written_and_read_at_every_level() {
    let node = run(ALONE).await;
    let mut kv = node.kv().await;
    let absent = kv
        .get(get("profiles", b"nobody"))
        .await
        .unwrap()
        .into_inner();
    assert!(!absent.found && absent.content.is_none() && absent.etag.is_empty());
    for written in LEVELS {
        let key = format!("key-{written:?}");
        let mut request = put(key.as_bytes(), b"value");
        request.options = at(written);
        let reply = kv.put(request).await.unwrap().into_inner();
        let header = reply.header.unwrap();
        assert_eq!(header.level(), written);
        assert_eq!(header.epoch, 3);
        let receipt = header.receipt.unwrap();
        assert_eq!(
            (receipt.served_by.as_str(), receipt.served_in.as_str()),
            ("only", "here")
        );
        assert_eq!(receipt.durable_regions, ["here"]);
        for level in LEVELS {
            let mut request = get("profiles", key.as_bytes());
            request.options = at(level);
            let options = request.options.as_mut().unwrap();
            options.session_token = header.session_token.clone();
            let found = kv.get(request).await.unwrap().into_inner();
            assert!(found.found && !found.etag.is_empty());
            assert_eq!(found.content, Some(Content::Value("value".into())));
            assert_eq!(found.header.unwrap().level(), level);
        }
    }
    let deleted = v1::DeleteRequest {
        keyspace: "profiles".to_owned(),
        key: "key-Eventual".into(),
        ..v1::DeleteRequest::default()
    };
    kv.delete(deleted).await.unwrap();
    let gone = kv
        .get(get("profiles", b"key-Eventual"))
        .await
        .unwrap()
        .into_inner();
    assert!(!gone.found);
}

#[tokio::test]
async fn counters_and_sets_are_changed_and_read() {
    let node = run(ALONE).await;
    let mut kv = node.kv().await;
    for (amount, total) in [(5, 5), (-7, -2)] {
        let change = update("stock", b"bolts", Change::Increment(amount));
        let reply = kv.update(change).await.unwrap().into_inner();
        assert_eq!(reply.total, Some(total));
    }
    let found = kv.get(get("stock", b"bolts")).await.unwrap().into_inner();
    assert_eq!(found.content, Some(Content::Total(-2)));

    for element in ["tea", "", "salt"] {
        let change = update("carts", b"c", Change::Add(element.into()));
        let reply = kv.update(change).await.unwrap().into_inner();
        assert_eq!(reply.total, None);
    }
    let change = update("carts", b"c", Change::Remove("tea".into()));
    kv.update(change).await.unwrap();
    let mut contains = get("carts", b"c");
    for (element, expected) in [("tea", false), ("salt", true), ("", true)] {
        contains.element = Some(element.into());
        let reply = kv.get(contains.clone()).await.unwrap().into_inner();
        assert_eq!((reply.found, reply.content), (expected, None));
    }
    let members = v1::MembersRequest {
        keyspace: "carts".to_owned(),
        key: "c".into(),
        page_size: 1,
        ..v1::MembersRequest::default()
    };
    let first = kv.members(members.clone()).await.unwrap().into_inner();
    assert_eq!(first.elements, [""]);
    let second = v1::MembersRequest {
        page_token: first.next_page_token,
        ..members
    };
    let second = kv.members(second).await.unwrap().into_inner();
    assert_eq!(second.elements, ["salt"]);
}

#[tokio::test]
async fn compare_and_set_is_strong_and_says_what_it_found() {
    let node = run(ALONE).await;
    let mut kv = node.kv().await;
    let created = swap(b"k", Expect::ExpectAbsent(true), Some(b"one"));
    let created = kv.compare_and_set(created).await.unwrap().into_inner();
    assert_eq!(created.header.unwrap().level(), Level::Strong);

    let again = swap(b"k", Expect::ExpectAbsent(true), Some(b"two"));
    let status = kv.compare_and_set(again).await.unwrap_err();
    let expected = (
        Code::Aborted,
        "CONDITION_FAILED".to_owned(),
        "NO".to_owned(),
    );
    assert_eq!(told(&status), expected);
    let info = status.get_details_error_info().unwrap();
    assert_eq!(info.metadata["etag"], status::hex(&created.etag));

    let next = swap(b"k", Expect::ExpectEtag(created.etag), Some(b"two"));
    kv.compare_and_set(next).await.unwrap();
    let delete = swap(b"k", Expect::ExpectValue("two".into()), None);
    kv.compare_and_set(delete).await.unwrap();
    assert!(
        !kv.get(get("profiles", b"k"))
            .await
            .unwrap()
            .into_inner()
            .found
    );
}

#[tokio::test]
async fn a_keyspace_is_scanned_in_pages_without_loss_or_repetition() {
    let node = run(ALONE).await;
    let mut kv = node.kv().await;
    let mut keys = Vec::new();
    for n in 0..60 {
        let key = format!("key-{n:02}");
        kv.put(put(key.as_bytes(), b"v")).await.unwrap();
        keys.push(key);
    }
    for page_size in [7, 1000] {
        let mut request = v1::ScanRequest {
            keyspace: "profiles".to_owned(),
            page_size,
            ..v1::ScanRequest::default()
        };
        let mut seen = Vec::new();
        loop {
            let page = kv.scan(request.clone()).await.unwrap().into_inner();
            assert!(page.rows.len() <= page_size as usize);
            let key = |row: &v1::ScanRow| String::from_utf8(row.key.to_vec()).unwrap();
            seen.extend(page.rows.iter().map(key));
            if page.next_page_token.is_empty() {
                break;
            }
            request.page_token = page.next_page_token;
        }
        seen.sort();
        assert_eq!(seen, keys);
    }
}

#[tokio::test]
async fn sort_keys_are_scanned_in_order_by_prefix() {
    let node = run(ALONE).await;
    let mut kv = node.kv().await;
    for sort in ["b2", "a1", "b1", "c"] {
        let mut request = put(b"k", sort.as_bytes());
        request.sort = sort.into();
        kv.put(request).await.unwrap();
    }
    kv.put(put(b"kk", b"other key")).await.unwrap();
    let mut request = v1::ScanRequest {
        keyspace: "profiles".to_owned(),
        key: "k".into(),
        ..v1::ScanRequest::default()
    };
    let sorts = |page: v1::ScanReply| -> Vec<String> {
        let sort = |row: v1::ScanRow| String::from_utf8(row.sort.to_vec()).unwrap();
        page.rows.into_iter().map(sort).collect()
    };
    let all = kv.scan(request.clone()).await.unwrap().into_inner();
    assert_eq!(sorts(all), ["a1", "b1", "b2", "c"]);
    request.sort_prefix = "b".into();
    let some = kv.scan(request).await.unwrap().into_inner();
    assert_eq!(sorts(some), ["b1", "b2"]);
}

#[tokio::test]
async fn a_batch_answers_in_order_and_stays_within_one_message() {
    let node = run(ALONE).await;
    let mut kv = node.kv().await;
    kv.put(put(b"a", b"1")).await.unwrap();
    let key = |key: &str| v1::BatchKey {
        key: key.to_owned().into(),
        ..v1::BatchKey::default()
    };
    let batch = |keys: Vec<v1::BatchKey>| v1::BatchGetRequest {
        keyspace: "profiles".to_owned(),
        keys,
        options: at(Level::Strong),
    };
    let reply = kv
        .batch_get(batch(vec![key("b"), key("a")]))
        .await
        .unwrap()
        .into_inner();
    let found: Vec<bool> = reply.rows.iter().map(|row| row.found).collect();
    assert_eq!(found, [false, true]);
    assert_eq!(reply.header.unwrap().level(), Level::Strong);

    let status = kv.batch_get(batch(vec![])).await.unwrap_err();
    assert_eq!(told(&status).1, "INVALID");
    let status = kv.batch_get(batch(vec![key("a"); 101])).await.unwrap_err();
    assert!(
        status.message().starts_with("keys: there are 101"),
        "{status}"
    );
    let big = vec![7; 1 << 20];
    for name in ["x", "y", "z", "w"] {
        kv.put(put(name.as_bytes(), &big)).await.unwrap();
    }
    let three = kv
        .batch_get(batch(["x", "y", "z"].map(key).to_vec()))
        .await
        .unwrap();
    assert_eq!(three.into_inner().rows.len(), 3);
    let four = kv
        .batch_get(batch(["x", "y", "z", "w"].map(key).to_vec()))
        .await;
    assert_eq!(told(&four.unwrap_err()).1, "REPLY_TOO_LARGE");
}

#[tokio::test]
async fn bad_requests_are_refused_at_once_and_change_nothing() {
    let node = run(ALONE).await;
    let mut kv = node.kv().await;
    let refuse = |status: Status| {
        let (code, reason, applied) = told(&status);
        assert_eq!(applied, "NO", "{status}");
        (code, reason)
    };
    let expect = |code, reason: &str| (code, reason.to_owned());

    let status = kv.get(get("mars", b"k")).await.unwrap_err();
    assert_eq!(refuse(status), expect(Code::NotFound, "UNKNOWN_KEYSPACE"));
    let status = kv.get(get("profiles", b"")).await.unwrap_err();
    assert_eq!(refuse(status), expect(Code::InvalidArgument, "INVALID"));
    let status = kv.put(put(&[1; 4097], b"v")).await.unwrap_err();
    assert_eq!(refuse(status), expect(Code::InvalidArgument, "INVALID"));
    let status = kv
        .put(put(b"k", &vec![0; (1 << 20) + 1]))
        .await
        .unwrap_err();
    assert!(
        status.message().starts_with("value: is 1048577 bytes"),
        "{status}"
    );
    let wrong = update("profiles", b"k", Change::Increment(1));
    let status = kv.update(wrong).await.unwrap_err();
    assert_eq!(refuse(status), expect(Code::InvalidArgument, "WRONG_TYPE"));
    let nothing = v1::UpdateRequest {
        change: None,
        ..update("stock", b"k", Change::Increment(1))
    };
    let status = kv.update(nothing).await.unwrap_err();
    assert!(status.message().starts_with("change: "), "{status}");

    let mut request = put(b"k", b"v");
    request.keyspace = "locks".to_owned();
    request.options = at(Level::Eventual);
    let status = kv.put(request).await.unwrap_err();
    assert_eq!(
        refuse(status),
        expect(Code::FailedPrecondition, "STRONG_ONLY")
    );
    let mut request = swap(b"k", Expect::ExpectAbsent(true), None);
    request.options = at(Level::Eventual);
    let status = kv.compare_and_set(request).await.unwrap_err();
    assert_eq!(
        refuse(status),
        expect(Code::InvalidArgument, "LEVEL_NOT_SUPPORTED")
    );
    let scan = v1::ScanRequest {
        keyspace: "profiles".to_owned(),
        options: at(Level::Strong),
        ..v1::ScanRequest::default()
    };
    let status = kv.scan(scan.clone()).await.unwrap_err();
    assert_eq!(
        refuse(status),
        expect(Code::InvalidArgument, "LEVEL_NOT_SUPPORTED")
    );
    let damaged = v1::ScanRequest {
        page_token: "noise".into(),
        options: None,
        ..scan
    };
    let status = kv.scan(damaged).await.unwrap_err();
    assert_eq!(
        refuse(status),
        expect(Code::InvalidArgument, "PAGE_TOKEN_INVALID")
    );

    let mut request = get("profiles", b"k");
    request.options = at(Level::Bounded);
    let status = kv.get(request.clone()).await.unwrap_err();
    assert_eq!(
        refuse(status),
        expect(Code::Unimplemented, "LEVEL_NOT_AVAILABLE")
    );
    request.options = Some(RequestOptions {
        session_token: "noise".into(),
        ..RequestOptions::default()
    });
    let status = kv.get(request).await.unwrap_err();
    assert_eq!(
        refuse(status),
        expect(Code::InvalidArgument, "SESSION_TOKEN_MALFORMED")
    );
    assert!(
        !kv.get(get("profiles", b"k"))
            .await
            .unwrap()
            .into_inner()
            .found
    );
}

#[tokio::test]
async fn every_refusal_tells_the_servers_clock() {
    let node = run(ALONE).await;
    let mut kv = node.kv().await;
    let reply = kv.put(put(b"k", b"v")).await.unwrap().into_inner();
    let seen = reply.header.unwrap().server_hlc;
    let unknown = kv.get(get("mars", b"k")).await.unwrap_err();
    let unread = vec![0; REQUEST_BYTES_MAX];
    let unread = kv.put(put(b"k", &unread)).await.unwrap_err();
    for status in [unknown, unread] {
        let info = status.get_details_error_info().unwrap();
        let told: u64 = info.metadata["server_hlc"].parse().unwrap();
        assert!(told >= seen, "{told} {seen}");
    }
    let asked = v1::PipeRequest { id: 1, body: None };
    let replies = kv.pipe(tokio_stream::iter([asked])).await.unwrap();
    let mut replies = replies.into_inner();
    replies.message().await.unwrap();
    let refused = replies.message().await.unwrap().unwrap();
    let Some(v1::pipe_reply::Body::Error(error)) = refused.body else {
        panic!("not refused");
    };
    assert!(error.server_hlc >= seen);
}

#[test]
fn the_transports_deadline_is_understood() {
    let deadline = |text: &'static str| {
        let mut metadata = tonic::metadata::MetadataMap::new();
        metadata.insert("grpc-timeout", text.parse().unwrap());
        transport_deadline(&metadata)
    };
    assert_eq!(deadline("2S"), Some(Duration::from_secs(2)));
    assert_eq!(deadline("150m"), Some(Duration::from_millis(150)));
    assert_eq!(deadline("7u"), Some(Duration::from_micros(7)));
    assert_eq!(deadline("1H"), Some(Duration::from_secs(3600)));
    assert_eq!(deadline("9"), None);
    assert_eq!(deadline("S"), None);
    assert_eq!(
        transport_deadline(&tonic::metadata::MetadataMap::new()),
        None
    );
}
