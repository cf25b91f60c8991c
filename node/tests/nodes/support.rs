//! Embedded nodes on loopback, and a client that speaks the wire format.

// What fails here fails the test.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use hansa_node::server::{self, Listeners, ServeError};
use hansa_node::settings::{
    KeyspaceSettings, NodeSettings, RegionSettings, Settings, TopologySettings,
};
use hansa_node::store::Engine;
use hansa_proto::v1::admin_client::AdminClient;
use hansa_proto::v1::get_reply::Content;
use hansa_proto::v1::kv_client::KvClient;
use hansa_proto::v1::{self, Level, StatusRequest};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

/// How long anything may take on a machine that is busy with other tests.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Every level a client can ask for.
pub(crate) const LEVELS: [Level; 3] = [Level::Eventual, Level::Session, Level::Strong];

/// A keyspace of registers that lives everywhere.
pub(crate) const KEYSPACE: &str = "things";

fn topology(nodes: usize) -> TopologySettings {
    let regions = (0..nodes).map(|number| RegionSettings {
        name: format!("region-{number}"),
        nodes: vec![NodeSettings {
            name: format!("node-{number}"),
            // Nobody dials these: every node is told where the others are.
            peer_address: format!("127.0.0.1:{}", 2 * number + 1),
            client_address: format!("127.0.0.1:{}", 2 * number + 2),
        }],
    });
    TopologySettings {
        cluster_id: "three".to_owned(),
        epoch: 1,
        regions: regions.collect(),
        keyspaces: vec![KeyspaceSettings {
            name: KEYSPACE.to_owned(),
            value_type: "register".to_owned(),
            regions: (0..nodes)
                .map(|number| format!("region-{number}"))
                .collect(),
            replicas: 1,
            shards: 4,
            default_level: "eventual".to_owned(),
            mixing: "strong_wins".to_owned(),
        }],
    }
}

/// Settings of one node over `dir`, on ports the operating system chooses.
pub(crate) fn settings(nodes: usize, number: usize, dir: &Path, engine: Engine) -> Settings {
    let name = format!("node-{number}");
    let mut settings = Settings::new(&name, dir.to_owned(), topology(nodes)).unwrap();
    settings.listen = "127.0.0.1:0".parse().unwrap();
    settings.peer_listen = settings.listen;
    settings.metrics_listen = None;
    settings.engine = engine;
    settings
}

/// A node that runs in this process.
pub(crate) struct Running {
    stop: oneshot::Sender<()>,
    served: JoinHandle<Result<(), ServeError>>,
}

impl Running {
    /// Starts a node on bound sockets.
    pub(crate) fn start(settings: Settings, listeners: Listeners) -> Running {
        let (stop, stopped) = oneshot::channel();
        let shutdown = async {
            let _ = stopped.await;
        };
        Running {
            stop,
            served: tokio::spawn(server::serve_on(settings, listeners, shutdown)),
        }
    }

    /// Stops it and waits for its end.
    pub(crate) async fn stop(self) -> Result<(), ServeError> {
        let _ = self.stop.send(());
        tokio::time::timeout(PATIENCE, self.served)
            .await
            .expect("a node stops in bounded time")
            .expect("a node does not panic")
    }

    /// Drops its tasks in the middle of whatever they do: what is not yet handed to the disk never will be. The
    /// process lives on, so what the engine has buffered is not lost: the store's own tests kill a process.
    pub(crate) async fn abort(self) {
        self.served.abort();
        assert!(self.served.await.is_err(), "it had ended by itself");
    }
}

/// Starts a node, waits until it answers, and stops it.
pub(crate) async fn serve_briefly(settings: Settings) {
    let listeners = Listeners::bind(&settings).unwrap();
    let address = listeners.client_address().unwrap().to_string();
    let node = Running::start(settings, listeners);
    let mut client = Client::connect(&address).await;
    client.admin.status(StatusRequest {}).await.unwrap();
    node.stop().await.unwrap();
}

/// Several nodes, one region each.
pub(crate) struct Cluster {
    pub(crate) nodes: Vec<Option<Running>>,
    settings: Vec<Settings>,
    _dirs: Vec<TempDir>,
}

impl Cluster {
    /// Starts `count` nodes that know each other.
    pub(crate) fn start(count: usize, engine: Engine) -> Cluster {
        Cluster::start_with(count, engine, |_| {})
    }

    /// As [`Cluster::start`], with some settings changed first.
    pub(crate) fn start_with(
        count: usize,
        engine: Engine,
        change: impl FnOnce(&mut [Settings]),
    ) -> Cluster {
        let dirs: Vec<_> = (0..count).map(|_| tempfile::tempdir().unwrap()).collect();
        let mut all: Vec<_> = (0..count)
            .map(|number| settings(count, number, dirs[number].path(), engine))
            .collect();
        change(&mut all);
        let listeners: Vec<_> = all.iter().map(|s| Listeners::bind(s).unwrap()).collect();
        let dial: BTreeMap<_, _> = listeners
            .iter()
            .enumerate()
            .map(|(number, bound)| {
                let address = bound.peer_address().unwrap().to_string();
                (format!("node-{number}"), address)
            })
            .collect();
        for (settings, bound) in all.iter_mut().zip(&listeners) {
            settings.dial = dial.clone();
            settings.listen = bound.client_address().unwrap();
            settings.peer_listen = bound.peer_address().unwrap();
            settings.metrics_listen = bound.metrics_address().unwrap();
        }
        let nodes = all
            .iter()
            .zip(listeners)
            .map(|(settings, bound)| Some(Running::start(settings.clone(), bound)))
            .collect();
        Cluster {
            nodes,
            settings: all,
            _dirs: dirs,
        }
    }

    /// Stops one node.
    pub(crate) async fn stop(&mut self, number: usize) {
        if let Some(node) = self.nodes[number].take() {
            node.stop().await.unwrap();
        }
    }

    /// Drops one node's tasks.
    pub(crate) async fn abort(&mut self, number: usize) {
        if let Some(node) = self.nodes[number].take() {
            node.abort().await;
        }
    }

    /// Stops all nodes.
    pub(crate) async fn stop_all(&mut self) {
        for number in 0..self.nodes.len() {
            self.stop(number).await;
        }
    }

    /// Starts a node again, where it was.
    pub(crate) async fn restart(&mut self, number: usize) {
        let settings = self.settings[number].clone();
        let begun = std::time::Instant::now();
        // The sockets of an aborted node go a moment after it.
        let listeners = loop {
            match Listeners::bind(&settings) {
                Ok(listeners) => break listeners,
                Err(error) => assert!(begun.elapsed() < PATIENCE, "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        self.nodes[number] = Some(Running::start(settings, listeners));
    }

    /// The sum of one node's counter over all series that carry `label`; the node must serve metrics.
    pub(crate) async fn counter(&self, number: usize, name: &str, label: &str) -> u64 {
        let address = self.settings[number].metrics_listen.unwrap();
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = b"GET /metrics HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n";
        stream.write_all(request).await.unwrap();
        let mut page = String::new();
        stream.read_to_string(&mut page).await.unwrap();
        assert!(page.starts_with("HTTP/1.1 200"), "{page}");
        let series = page.lines().filter(|line| line.starts_with(name));
        let values = series.filter(|line| line.contains(label)).map(|line| {
            let (_, value) = line.rsplit_once(' ').unwrap();
            value.parse::<u64>().unwrap()
        });
        values.sum()
    }

    /// A client of one node.
    pub(crate) async fn client(&self, number: usize) -> Client {
        Client::connect(&self.settings[number].listen.to_string()).await
    }
}

/// A client of one node.
pub(crate) struct Client {
    pub(crate) kv: KvClient<Channel>,
    pub(crate) admin: AdminClient<Channel>,
}

fn options(level: Level, token: &[u8]) -> Option<v1::RequestOptions> {
    Some(v1::RequestOptions {
        level: level.into(),
        session_token: token.to_vec().into(),
        deadline_ms: 10_000,
        ..v1::RequestOptions::default()
    })
}

impl Client {
    /// Connects, waiting for the node to accept.
    pub(crate) async fn connect(address: &str) -> Client {
        let channel = Endpoint::from_shared(format!("http://{address}"))
            .unwrap()
            .connect_lazy();
        Client {
            kv: KvClient::new(channel.clone()),
            admin: AdminClient::new(channel),
        }
    }

    /// Writes; the reply's session token.
    pub(crate) async fn put(
        &mut self,
        key: &str,
        value: &str,
        level: Level,
    ) -> Result<Vec<u8>, Status> {
        let request = v1::PutRequest {
            keyspace: KEYSPACE.to_owned(),
            key: key.to_owned().into(),
            value: value.to_owned().into(),
            options: options(level, &[]),
            ..v1::PutRequest::default()
        };
        let reply = self.kv.put(request).await?.into_inner();
        Ok(reply.header.unwrap().session_token.to_vec())
    }

    /// Reads.
    pub(crate) async fn get(
        &mut self,
        key: &str,
        level: Level,
        token: &[u8],
    ) -> Result<Option<String>, Status> {
        let request = v1::GetRequest {
            keyspace: KEYSPACE.to_owned(),
            key: key.to_owned().into(),
            options: options(level, token),
            ..v1::GetRequest::default()
        };
        let reply = self.kv.get(request).await?.into_inner();
        Ok(match (reply.found, reply.content) {
            (true, Some(Content::Value(value))) => Some(String::from_utf8(value.to_vec()).unwrap()),
            _ => None,
        })
    }

    /// Writes at level strong until a quorum is there: nodes that just started have yet to find each other.
    pub(crate) async fn put_when_there_is_a_quorum(&mut self, key: &str, value: &str) {
        let begun = std::time::Instant::now();
        while let Err(status) = self.put(key, value, Level::Strong).await {
            assert!(begun.elapsed() < PATIENCE, "no quorum: {status:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Reads at level eventual until the value is there.
    pub(crate) async fn get_when_it_came(&mut self, key: &str, value: &str) {
        let begun = std::time::Instant::now();
        loop {
            match self.get(key, Level::Eventual, &[]).await {
                Ok(Some(found)) if found == value => return,
                other => assert!(begun.elapsed() < PATIENCE, "it did not come: {other:?}"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}
