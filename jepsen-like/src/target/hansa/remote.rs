//! A Hansa cluster that somebody else runs: the same load and the same checkers, and no faults but those that its
//! operator brings about.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use hansa_client::Admin;
use hansa_client::admin::{NodeInfo, TopologyReply};

use super::state::{Admins, Expected};
use super::{CONNECT_WITHIN, HansaClient, Patience, Seat, finals, seat};
use crate::history::Record;
use crate::nemesis::{Action, Effect, Layout, NodeIndex, Refused};
use crate::target::{RunClock, Target, Usage};
use crate::workload::{COUNTERS, REGISTERS, SETS};

/// A cluster that the harness did not start. It needs the keyspaces `registers`, `counters` and `sets`.
pub struct RemoteTarget {
    layout: Layout,
    regions: Vec<String>,
    seats: Arc<Vec<Seat>>,
    urls: Vec<Option<String>>,
    admins: Admins,
}

impl RemoteTarget {
    /// Learns the topology from one node.
    ///
    /// # Errors
    /// When the node does not answer, the regions have different numbers of nodes, or a keyspace is missing; says
    /// what to add to the topology then.
    pub async fn connect(url: &str) -> Result<RemoteTarget> {
        let admin = Admin::connect(url, CONNECT_WITHIN).await;
        let admin = admin.with_context(|| format!("{url} does not answer"))?;
        let topology = admin
            .topology()
            .await
            .context("its topology can not be had")?;
        check_keyspaces(&topology)?;
        let sizes: BTreeSet<usize> = topology.regions.iter().map(|it| it.nodes.len()).collect();
        let [size] = Vec::from_iter(sizes)[..] else {
            bail!("regions with different numbers of nodes can not be tested");
        };
        ensure!(size > 0, "the topology names no node");
        let (mut seats, mut urls) = (Vec::new(), Vec::new());
        for region in &topology.regions {
            for NodeInfo {
                name,
                client_address,
                ..
            } in &region.nodes
            {
                let url = format!("http://{client_address}");
                seats.push(seat(&region.name, name, &url).await?);
                urls.push(Some(url));
            }
        }
        Ok(RemoteTarget {
            layout: Layout {
                regions: topology.regions.len(),
                nodes_per_region: size,
            },
            regions: topology.regions.into_iter().map(|it| it.name).collect(),
            admins: Admins::new(urls.len()),
            seats: Arc::new(seats),
            urls,
        })
    }
}

fn check_keyspaces(topology: &TopologyReply) -> Result<()> {
    let wanted = [
        (REGISTERS, "register"),
        (COUNTERS, "counter"),
        (SETS, "set"),
    ];
    let held = |name: &str| topology.keyspaces.iter().any(|it| it.name == name);
    let missing = wanted.iter().filter(|(name, _)| !held(name));
    let lines: Vec<String> = missing
        .map(|(name, kind)| format!("[[keyspaces]]\nname = \"{name}\"\ntype = \"{kind}\"\n"))
        .collect();
    ensure!(
        lines.is_empty(),
        "the cluster lacks keyspaces that the workloads need; append to its topology:\n\n{}",
        lines.join("\n")
    );
    Ok(())
}

impl Target for RemoteTarget {
    type Client = HansaClient;

    fn layout(&self) -> Layout {
        self.layout
    }

    fn region_name(&self, region: usize) -> String {
        self.regions[region].clone()
    }

    fn node_name(&self, node: NodeIndex) -> String {
        self.seats[node].name.clone()
    }

    fn brings_faults(&self) -> bool {
        false
    }

    fn client(&self, process: u64, node: NodeIndex) -> Result<HansaClient> {
        ensure!(node < self.seats.len(), "there is no node {node}");
        Ok(HansaClient::new(process, self.seats.clone(), node))
    }

    async fn act(&mut self, _: Action) -> Result<Effect, Refused> {
        let why = "the harness did not start this cluster: bring faults about yourself";
        Err(Refused::NotHere(why.to_owned()))
    }

    async fn heal(&mut self) -> Result<()> {
        Ok(())
    }

    async fn settle(&mut self, within: Duration) -> Result<Duration, String> {
        let RemoteTarget {
            admins,
            urls,
            seats,
            ..
        } = self;
        let expected = Expected {
            names: seats.iter().map(|seat| seat.name.as_str()).collect(),
            harmed: BTreeSet::new(),
        };
        let patience = Patience::new(within);
        while let Some(missing) = admins.unsettled(urls, &expected).await {
            patience.wait(&missing).await?;
        }
        Ok(patience.began.elapsed())
    }

    async fn finals(&mut self, keys: &[String], clock: RunClock) -> Vec<Record> {
        let nodes = (&self.seats[..], self.layout);
        finals::all(nodes, (&mut self.admins, &self.urls), keys, clock).await
    }

    async fn probes(&mut self) -> BTreeMap<String, u64> {
        BTreeMap::new()
    }

    async fn usage(&mut self) -> Vec<Usage> {
        Vec::new()
    }

    fn deaths(&mut self) -> Vec<String> {
        Vec::new()
    }

    async fn stop(self) -> Vec<String> {
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use hansa_client::admin::KeyspaceInfo;

    use super::*;

    #[test]
    fn what_the_topology_lacks_is_printed_as_it_has_to_be_added() {
        let keyspace = |name: &str| KeyspaceInfo {
            name: name.to_owned(),
            ..KeyspaceInfo::default()
        };
        let topology = TopologyReply {
            keyspaces: [REGISTERS, SETS].map(keyspace).to_vec(),
            ..TopologyReply::default()
        };
        let error = check_keyspaces(&topology).unwrap_err().to_string();
        assert!(
            error.contains("[[keyspaces]]\nname = \"counters\"\ntype = \"counter\"\n"),
            "{error}"
        );
        assert!(!error.contains("registers"), "{error}");
    }
}
