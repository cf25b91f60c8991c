//! The databases that are measured: how they are started, and how a client asks them.
//!
//! They are asked as a program would: Hansa through its SDK, etcd through its gRPC API, over one connection for each
//! node that all clients there share. Redis has its own file.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use clap::ValueEnum;
use hansa_client::{Call, Consistency, Expect, Key, Session};
use serde::Serialize;
use tokio::time::timeout;
use tonic::transport::{Channel, Endpoint};

use super::keys::Place;
use super::mix::{Kind, Mix, Weighted};
use super::redis;
use crate::cluster::{Spec, process};
use crate::history::Level;
use crate::nemesis::Layout;
use crate::target::Target as _;
use crate::target::etcd::api::compare::{CompareResult, CompareTarget, TargetUnion};
use crate::target::etcd::api::kv_client::KvClient;
use crate::target::etcd::api::request_op::Request;
use crate::target::etcd::api::{Compare, PutRequest, RangeRequest, RequestOp, TxnRequest};
use crate::target::etcd::{self, EtcdOptions, EtcdTarget, Reads};
use crate::target::hansa::HansaTarget;
use crate::workload::{COUNTERS, REGISTERS};

/// An operation is given up after this.
pub(super) const DEADLINE: Duration = Duration::from_secs(5);
/// How long a connection may take to be made.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// How long all nodes may take until they hold the same.
const SETTLE_WITHIN: Duration = Duration::from_secs(120);

/// A database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Database {
    /// Hansa.
    Hansa,
    /// etcd, of which Debian's package `etcd-server` is installed.
    Etcd,
    /// Redis with replicas, of which Debian's package `redis-server` is installed.
    Redis,
}

impl Database {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Database::Hansa => "hansa",
            Database::Etcd => "etcd",
            Database::Redis => "redis",
        }
    }

    /// Its program.
    ///
    /// # Errors
    /// When it is not installed or not built; says how to get it.
    pub fn program(self, setup: &Setup) -> Result<PathBuf> {
        match self {
            Database::Hansa => setup.spec().binary(),
            Database::Etcd => etcd::installed().context(
                "there is no etcd in PATH: install it (Debian: apt-get install etcd-server), or leave it out of --target",
            ),
            Database::Redis => redis::program(),
        }
    }

    /// Whether it has what is asked.
    ///
    /// # Errors
    /// Says what it does not have.
    pub fn check(self, setup: &Setup, mix: &Mix, levels: &Weighted<Level>) -> Result<()> {
        let Layout {
            regions,
            nodes_per_region,
        } = setup.layout;
        match self {
            Database::Hansa => {
                let strong_scan = mix.kinds.has(Kind::Scan) && levels.has(Level::Strong);
                ensure!(
                    !strong_scan,
                    "hansa scans at level eventual or session only: choose another of --levels"
                );
            }
            Database::Etcd => {
                ensure!(
                    !mix.kinds.has(Kind::Incr),
                    "etcd has no counters: leave incr out of --mix, or etcd out of --target"
                );
                let odd = regions % 2 == 1 && (3..=etcd::MEMBERS_MAX).contains(&regions);
                ensure!(
                    nodes_per_region == 1 && odd,
                    "etcd is measured with one member in each of 3, 5 or {} regions: not {nodes_per_region} in {regions}",
                    etcd::MEMBERS_MAX
                );
            }
            Database::Redis => {
                ensure!(
                    !mix.kinds.has(Kind::Scan),
                    "redis has no order of keys to scan: leave scan out of --mix, or redis out of --target"
                );
                ensure!(
                    nodes_per_region == 1 && regions >= 2,
                    "redis is measured with one server in each of at least 2 regions: not {nodes_per_region} in {regions}"
                );
            }
        }
        Ok(())
    }
}

/// The cluster to measure.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Regions and nodes.
    pub layout: Layout,
    /// Round trips that differ from those of [`Spec`], by positions of the regions, the smaller one first.
    pub round_trips: BTreeMap<(usize, usize), Duration>,
    /// The storage engine of Hansa.
    pub engine: String,
    /// The `hansa` binary; `None` for the one beside this program.
    pub program: Option<PathBuf>,
}

impl Setup {
    /// What Hansa is started from.
    #[must_use]
    pub fn spec(&self) -> Spec {
        Spec {
            round_trips: self.round_trips.clone(),
            engine: self.engine.clone(),
            program: self.program.clone(),
            ..Spec::new(self.layout)
        }
    }

    /// The round trip to the nearest other region: what a strong operation takes at least. Zero where there is none.
    #[must_use]
    pub fn limit(&self, region: usize) -> Duration {
        let spec = self.spec();
        let others = (0..self.layout.regions).filter(|other| *other != region);
        let nearest = others.map(|other| spec.round_trip(region, other)).min();
        nearest.unwrap_or_default()
    }

    /// The round trips between all pairs, in the order (0, 1), (0, 2), (1, 2) and so on for three regions.
    #[must_use]
    pub fn pairs(&self) -> Vec<Duration> {
        let regions = self.layout.regions;
        let pairs = (0..regions).flat_map(|a| (a + 1..regions).map(move |b| (a, b)));
        pairs.map(|(a, b)| self.spec().round_trip(a, b)).collect()
    }
}

/// A running cluster of a database.
pub(super) enum Peer {
    Hansa(Box<HansaTarget>),
    Etcd(Box<EtcdTarget>),
    Redis(Box<redis::Servers>),
}

/// Where a node is asked.
#[derive(Clone, Debug)]
pub(super) struct Door {
    database: Database,
    region: String,
    address: SocketAddr,
    /// Where the region finds who takes writes, if not every node does.
    primary: Option<SocketAddr>,
}

impl Peer {
    /// Starts it, with its data in this directory, and waits until it serves.
    ///
    /// # Errors
    /// When it is not installed, or does not get ready.
    pub(super) async fn start(database: Database, setup: &Setup, folder: &Path) -> Result<Peer> {
        match database {
            Database::Hansa => {
                let spec = Spec {
                    folder: Some(folder.join(database.name())),
                    ..setup.spec()
                };
                let target = HansaTarget::start(spec).await?;
                Ok(Peer::Hansa(Box::new(target)))
            }
            Database::Etcd => {
                let options = EtcdOptions {
                    members: setup.layout.regions,
                    reads: Reads::Linearizable,
                    round_trips: setup.pairs(),
                };
                let mut peer = Peer::Etcd(Box::new(etcd::start(options).await?));
                match peer.settle().await {
                    Ok(()) => Ok(peer),
                    Err(error) => {
                        peer.stop().await;
                        Err(error)
                    }
                }
            }
            Database::Redis => {
                let servers = redis::Servers::start(setup, folder, SETTLE_WITHIN).await?;
                Ok(Peer::Redis(Box::new(servers)))
            }
        }
    }

    /// Waits until all nodes hold the same.
    ///
    /// # Errors
    /// When they do not in time.
    pub(super) async fn settle(&mut self) -> Result<()> {
        let settled = match self {
            Peer::Hansa(target) => target.settle(SETTLE_WITHIN).await,
            Peer::Etcd(target) => target.catch_up(SETTLE_WITHIN).await,
            Peer::Redis(servers) => {
                let settled = servers.settle(SETTLE_WITHIN).await;
                return settled.context("the servers of redis do not settle");
            }
        };
        let settled = settled.map_err(anyhow::Error::msg);
        settled.map(drop).context("the cluster does not settle")
    }

    /// The nodes of a region.
    pub(super) fn doors(&self, setup: &Setup, region: usize) -> Vec<Door> {
        let spec = setup.spec();
        let nodes = (0..setup.layout.nodes()).filter(|it| setup.layout.region_of(*it) == region);
        let door = |node| {
            let (database, address, primary) = match self {
                Peer::Hansa(target) => {
                    let address = target.cluster().addresses(node).client;
                    (Database::Hansa, address, None)
                }
                Peer::Etcd(target) => (Database::Etcd, target.address(node), None),
                Peer::Redis(servers) => {
                    let (own, primary) = servers.addresses(region);
                    (Database::Redis, own, Some(primary))
                }
            };
            Door {
                database,
                region: spec.region_name(region),
                address,
                primary,
            }
        };
        nodes.map(door).collect()
    }

    /// The process ids of all nodes.
    pub(super) fn processes(&self) -> Vec<u32> {
        match self {
            Peer::Hansa(target) => {
                let nodes = 0..target.layout().nodes();
                let ids = nodes.filter_map(|node| target.cluster().process_id(node));
                ids.collect()
            }
            Peer::Etcd(target) => target.process_ids(),
            Peer::Redis(servers) => servers.process_ids(),
        }
    }

    /// What each node holds in memory now, bytes.
    pub(super) fn resident(&self) -> Vec<u64> {
        let used = self.processes().into_iter().filter_map(process::used);
        used.map(|(memory, _)| memory).collect()
    }

    /// Ends it. Says what ended by itself or not as it should.
    pub(super) async fn stop(self) -> Vec<String> {
        match self {
            Peer::Hansa(target) => target.stop().await,
            Peer::Etcd(target) => target.stop().await,
            Peer::Redis(servers) => servers.stop().await,
        }
    }
}

/// A connection to one node. Clones share it.
#[derive(Clone)]
pub(super) enum Connection {
    Hansa(hansa_client::Client),
    Etcd(KvClient<Channel>),
    Redis(redis::Ways),
}

impl Connection {
    /// Connects on the runtime that this is awaited on, and stays there.
    ///
    /// # Errors
    /// When the node can not be reached.
    pub(super) async fn open(door: &Door) -> Result<Connection> {
        let url = format!("http://{}", door.address);
        match door.database {
            Database::Hansa => {
                let built = hansa_client::Client::builder()
                    .region(&door.region)
                    .stay_in_region()
                    .endpoint(&door.region, url)
                    .connect_timeout(CONNECT_WITHIN)
                    .deadline(DEADLINE)
                    .build();
                Ok(Connection::Hansa(built.await?))
            }
            Database::Etcd => {
                let endpoint = Endpoint::from_shared(url)?.connect_timeout(CONNECT_WITHIN);
                let channel = endpoint.tcp_nodelay(true).connect().await;
                let channel = channel.context("a member of etcd does not answer")?;
                Ok(Connection::Etcd(KvClient::new(channel)))
            }
            Database::Redis => {
                let primary = door.primary.unwrap_or(door.address);
                let ways = redis::Ways::open(door.address, primary, CONNECT_WITHIN).await;
                Ok(Connection::Redis(ways?))
            }
        }
    }

    /// A client of its own on it.
    pub(super) fn client(&self) -> Asker {
        match self {
            Connection::Hansa(client) => Asker::Hansa {
                client: client.clone(),
                session: client.session(),
            },
            Connection::Etcd(api) => Asker::Etcd(api.clone()),
            Connection::Redis(ways) => Asker::Redis(ways.client()),
        }
    }
}

/// What is asked.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) kind: Kind,
    pub(super) level: Level,
    pub(super) place: Place,
    /// What the key holds, and what is written to it.
    pub(super) value: Bytes,
    /// Of a scan: how many rows.
    pub(super) rows: u32,
}

/// One client.
pub(super) enum Asker {
    Hansa {
        client: hansa_client::Client,
        session: Session,
    },
    Etcd(KvClient<Channel>),
    Redis(redis::RedisAsker),
}

impl Asker {
    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// The reason, one word.
    pub(super) async fn ask(&mut self, asked: &Asked) -> Result<(), String> {
        match self {
            Asker::Hansa { client, session } => ask_hansa(client, session, asked).await,
            Asker::Etcd(api) => {
                let answer = timeout(DEADLINE, ask_etcd(api, asked)).await;
                answer.unwrap_or_else(|_| Err("DEADLINE".to_owned()))
            }
            Asker::Redis(asker) => asker.ask(asked).await,
        }
    }
}

/// A call of the client, or of its session at level session.
macro_rules! call {
    ($client:expr, $session:expr, $asked:expr, $verb:ident($($with:expr),*)) => {
        match $asked.level {
            Level::Session => $session.$verb($($with),*).level(Consistency::Session),
            Level::Eventual => $client.$verb($($with),*).level(Consistency::Eventual),
            Level::Strong => $client.$verb($($with),*).level(Consistency::Strong),
        }
    };
}

async fn ask_hansa(
    client: &hansa_client::Client,
    session: &Session,
    asked: &Asked,
) -> Result<(), String> {
    let Place { partition, sort } = &asked.place;
    let key = || Key::from((partition, sort));
    let value = asked.value.clone();
    match asked.kind {
        Kind::Get => done(call!(client, session, asked, get(REGISTERS, key()))).await,
        Kind::Put | Kind::Insert => {
            done(call!(client, session, asked, put(REGISTERS, key(), value))).await
        }
        Kind::Cas => {
            let expect = Expect::Value(value.clone());
            let call = client.cas(REGISTERS, key(), expect, Some(value));
            done(call).await
        }
        Kind::Incr => done(call!(client, session, asked, increment(COUNTERS, key(), 1))).await,
        Kind::Scan => {
            let all = Key::from((partition, ""));
            let call = call!(client, session, asked, scan_key(REGISTERS, all));
            done(call.page_size(asked.rows)).await
        }
        Kind::ReadModifyWrite => {
            done(call!(client, session, asked, get(REGISTERS, key()))).await?;
            done(call!(client, session, asked, put(REGISTERS, key(), value))).await
        }
    }
}

async fn done<R: 'static>(call: Call<R>) -> Result<(), String> {
    let answer = call.await;
    answer.map(drop).map_err(|error| error.reason().to_owned())
}

async fn ask_etcd(api: &mut KvClient<Channel>, asked: &Asked) -> Result<(), String> {
    let Place { partition, sort } = &asked.place;
    let key = Bytes::from(format!("{partition}/{sort}"));
    let value = asked.value.clone();
    let put = PutRequest {
        key: key.clone(),
        value: value.clone(),
    };
    let get = RangeRequest {
        key: key.clone(),
        // etcd knows no sessions: what keeps their promises there is linearizable.
        serializable: asked.level == Level::Eventual,
        ..RangeRequest::default()
    };
    let answer = match asked.kind {
        Kind::Get => api.range(get).await.map(drop),
        Kind::Put | Kind::Insert => api.put(put).await.map(drop),
        Kind::Scan => {
            let page = RangeRequest {
                key: Bytes::from(format!("{partition}/")),
                // The byte behind the separator ends the partition.
                range_end: Bytes::from(format!("{partition}0")),
                limit: asked.rows.into(),
                ..get
            };
            api.range(page).await.map(drop)
        }
        Kind::Cas => match api.txn(compare_and_set(key, value, put)).await {
            Ok(reply) if reply.get_ref().succeeded => Ok(()),
            Ok(_) => return Err("CONDITION_FAILED".to_owned()),
            Err(status) => Err(status),
        },
        Kind::ReadModifyWrite => match api.range(get).await {
            Ok(_) => api.put(put).await.map(drop),
            Err(status) => Err(status),
        },
        Kind::Incr => return Err("NOT_SUPPORTED".to_owned()),
    };
    answer.map_err(|status| format!("{:?}", status.code()))
}

fn compare_and_set(key: Bytes, value: Bytes, put: PutRequest) -> TxnRequest {
    TxnRequest {
        compare: vec![Compare {
            result: CompareResult::Equal.into(),
            target: CompareTarget::Value.into(),
            key,
            target_union: Some(TargetUnion::Value(value)),
        }],
        success: vec![RequestOp {
            request: Some(Request::RequestPut(put)),
        }],
        failure: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::mix::levels;

    fn setup(regions: usize, nodes_per_region: usize) -> Setup {
        Setup {
            layout: Layout {
                regions,
                nodes_per_region,
            },
            round_trips: BTreeMap::new(),
            engine: "fjall".to_owned(),
            program: None,
        }
    }

    #[test]
    fn the_limit_is_the_way_to_the_nearest_region_and_back() {
        let limits = [0, 1, 2].map(|region| setup(3, 1).limit(region).as_millis());
        assert_eq!(limits, [90, 90, 150]);
        assert_eq!(setup(1, 3).limit(0), Duration::ZERO);
        let pairs: Vec<u128> = setup(3, 1)
            .pairs()
            .iter()
            .map(Duration::as_millis)
            .collect();
        assert_eq!(pairs, [90, 150, 220]);
    }

    #[test]
    fn what_a_database_does_not_have_is_refused_by_name() {
        let check = |database: Database, setup: Setup, mix: &str, level: &str| {
            let mix = Mix::parse(mix).unwrap();
            let checked = database.check(&setup, &mix, &levels(level).unwrap());
            checked.err().map(|error| error.to_string())
        };
        let (hansa, etcd, redis) = (Database::Hansa, Database::Etcd, Database::Redis);
        assert_eq!(check(hansa, setup(4, 2), "incr", "strong"), None);
        assert_eq!(check(hansa, setup(3, 1), "e", "session"), None);
        assert_eq!(check(etcd, setup(3, 1), "a", "strong"), None);
        for (database, setup, mix, part) in [
            (hansa, setup(3, 1), "e", "hansa scans"),
            (etcd, setup(3, 1), "incr", "no counters"),
            (etcd, setup(3, 3), "a", "one member"),
            (etcd, setup(4, 1), "a", "3, 5 or 7"),
            (redis, setup(3, 1), "e", "no order of keys"),
            (redis, setup(1, 1), "a", "at least 2 regions"),
            (redis, setup(3, 3), "a", "one server"),
        ] {
            let why = check(database, setup, mix, "strong").unwrap();
            assert!(why.contains(part), "{why}");
        }
    }
}
