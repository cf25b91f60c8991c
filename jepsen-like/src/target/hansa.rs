//! Hansa as a target: real processes, asked through the SDK.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use futures_util::future::join_all;
use hansa_client::Client;

use super::{RunClock, Target, Usage};
use crate::cluster::{Cluster, Spec, process};
use crate::history::Record;
use crate::nemesis::{Action, Effect, Layout, NodeIndex, Refused};

mod ask;
mod client;
mod finals;
mod probes;
mod remote;
mod state;

pub use client::HansaClient;
pub use remote::RemoteTarget;

use probes::Probes;
use state::{Admins, Expected};

/// How long a cluster may take from its start until all its nodes are ready. It takes some seconds; a loaded machine
/// takes longer.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// How long connecting to a node may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(1);

/// Between two looks whether the cluster has settled. The nodes tell nobody: they have to be asked.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A node as clients know it.
#[derive(Debug)]
struct Seat {
    region: String,
    name: String,
    client: Client,
}

/// A Hansa cluster on this machine.
pub struct HansaTarget {
    cluster: Cluster,
    seats: Arc<Vec<Seat>>,
    admins: Admins,
    probes: Probes,
}

impl HansaTarget {
    /// Starts a cluster and waits until every node votes and reaches every other one. After an error no process is
    /// left.
    ///
    /// # Errors
    /// As [`Cluster::start`]; when a node ends at its start, or not all are ready within 60 s.
    pub async fn start(spec: Spec) -> Result<HansaTarget> {
        let cluster = Cluster::start(spec).await?;
        let layout = cluster.layout();
        let seats = match seats(&cluster).await {
            Ok(seats) => seats,
            Err(error) => {
                cluster.stop().await;
                return Err(error);
            }
        };
        let mut target = HansaTarget {
            admins: Admins::new(layout.nodes()),
            probes: Probes::new(layout.nodes()),
            seats: Arc::new(seats),
            cluster,
        };
        match target.begin().await {
            Ok(()) => Ok(target),
            Err(error) => {
                target.stop().await;
                Err(error)
            }
        }
    }

    /// The processes.
    #[must_use]
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    async fn begin(&mut self) -> Result<()> {
        let ready = self.settle(READY_WITHIN).await;
        let deaths = self.deaths().join("\n");
        ensure!(deaths.is_empty(), "{deaths}");
        ready
            .map(drop)
            .map_err(anyhow::Error::msg)
            .context("the cluster did not get ready")
    }

    /// What keeps the cluster from having settled, in words; `None` when nothing does.
    async fn unsettled(&mut self) -> Option<String> {
        if let Err(refused) = self.cluster.look() {
            return Some(refused.to_string());
        }
        let expected = Expected {
            names: self.seats.iter().map(|seat| seat.name.as_str()).collect(),
            harmed: self.cluster.harmed(),
        };
        let urls = urls(&self.cluster);
        self.admins.unsettled(&urls, &expected).await
    }

    /// Notes what a node has counted, before it ends.
    async fn note(&mut self, node: NodeIndex) {
        let process = self.cluster.process_id(node);
        if let Some(process) = process.filter(|_| self.cluster.is_running(node)) {
            let page = self.cluster.addresses(node).metrics;
            self.probes.look(node, process, page).await;
        }
    }
}

/// A client for each node, that asks nobody else.
async fn seats(cluster: &Cluster) -> Result<Vec<Seat>> {
    let spec = cluster.spec();
    let seat = |node| async move {
        let region = spec.region_name(spec.layout.region_of(node));
        let url = format!("http://{}", cluster.addresses(node).client);
        seat(&region, &spec.node_name(node), &url).await
    };
    join_all((0..spec.layout.nodes()).map(seat))
        .await
        .into_iter()
        .collect()
}

/// A client that asks this node only. Nobody needs to listen yet: the connection is made when a call needs it.
async fn seat(region: &str, name: &str, url: &str) -> Result<Seat> {
    let built = Client::builder()
        .region(region)
        .stay_in_region()
        .endpoint(region, url)
        .connect_timeout(CONNECT_WITHIN)
        .build();
    Ok(Seat {
        client: built.await?,
        name: name.to_owned(),
        region: region.to_owned(),
    })
}

/// Where each node listens for clients; `None` where it does not run.
fn urls(cluster: &Cluster) -> Vec<Option<String>> {
    let url = |node| {
        cluster.process_id(node)?;
        Some(format!("http://{}", cluster.addresses(node).client))
    };
    (0..cluster.layout().nodes()).map(url).collect()
}

/// How long to ask again and again until nothing is missing.
struct Patience {
    began: Instant,
    within: Duration,
}

impl Patience {
    fn new(within: Duration) -> Patience {
        Patience {
            began: Instant::now(),
            within,
        }
    }

    /// Waits until it is time to ask again.
    ///
    /// # Errors
    /// What is missing, when it is for too long.
    async fn wait(&self, missing: &str) -> Result<(), String> {
        if self.began.elapsed() >= self.within {
            let within = self.within.as_secs();
            return Err(format!("not settled within {within} s: {missing}"));
        }
        tokio::time::sleep(LOOK_EVERY).await;
        Ok(())
    }
}

impl Target for HansaTarget {
    type Client = HansaClient;

    fn layout(&self) -> Layout {
        self.cluster.layout()
    }

    fn region_name(&self, region: usize) -> String {
        self.cluster.spec().region_name(region)
    }

    fn node_name(&self, node: NodeIndex) -> String {
        self.cluster.spec().node_name(node)
    }

    fn client(&self, process: u64, node: NodeIndex) -> Result<HansaClient> {
        ensure!(node < self.seats.len(), "there is no node {node}");
        Ok(HansaClient::new(process, self.seats.clone(), node))
    }

    async fn act(&mut self, action: Action) -> Result<Effect, Refused> {
        if let Action::Kill(node) | Action::Stop(node) = action {
            self.note(node).await;
        }
        self.cluster.act(action).await
    }

    async fn heal(&mut self) -> Result<()> {
        self.cluster.heal().await
    }

    async fn settle(&mut self, within: Duration) -> Result<Duration, String> {
        let patience = Patience::new(within);
        while let Some(missing) = self.unsettled().await {
            patience.wait(&missing).await?;
        }
        let took = patience.began.elapsed();
        for node in 0..self.seats.len() {
            self.note(node).await;
        }
        Ok(took)
    }

    async fn finals(&mut self, keys: &[String], clock: RunClock) -> Vec<Record> {
        let nodes = (&self.seats[..], self.cluster.layout());
        let admins = (&mut self.admins, &urls(&self.cluster)[..]);
        finals::all(nodes, admins, keys, clock).await
    }

    async fn probes(&mut self) -> BTreeMap<String, u64> {
        for node in 0..self.seats.len() {
            self.note(node).await;
        }
        self.probes.totals()
    }

    async fn usage(&mut self) -> Vec<Usage> {
        let nodes = 0..self.seats.len();
        let running = nodes.filter_map(|node| {
            let id = self.cluster.process_id(node)?;
            let (memory, files) = process::used(id)?;
            let disk = self.cluster.data_bytes(node);
            Some(Usage {
                node,
                memory,
                disk,
                files,
            })
        });
        running.collect()
    }

    fn deaths(&mut self) -> Vec<String> {
        self.cluster.deaths()
    }

    async fn stop(self) -> Vec<String> {
        // First the clients: nodes wait for open streams when they stop. Those that the run still holds are its own.
        drop((self.seats, self.admins));
        self.cluster.stop().await
    }
}
