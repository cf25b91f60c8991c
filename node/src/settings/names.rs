//! Names and numbers: people and clients use names, the core uses numbers.

use std::collections::BTreeMap;
use std::sync::Arc;

use hansa_consistency::codec::Encoder;
use hansa_consistency::key::{ClusterId, KeyspaceId, NodeId, RegionId};
use hansa_consistency::request::Level;
use hansa_consistency::topology::{Keyspace, Topology};

use super::problem::{Problem, SettingsError};
use super::topology::{TopologySettings, level_from, mixing_from, value_type_from};

/// A node's names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeNames {
    /// Its own.
    pub name: String,
    /// Its region.
    pub region: RegionId,
    /// host:port its peers dial.
    pub peer_address: String,
    /// host:port clients dial.
    pub client_address: String,
}

/// A keyspace's name, and what only the edge of the node needs to know of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyspaceNames {
    /// Its own.
    pub name: String,
    /// The level of requests that name none.
    pub default_level: Level,
}

/// The topology by name and by number. Numbers are positions in the file.
#[derive(Clone, Debug)]
pub struct Names {
    cluster_id: String,
    epoch: u64,
    digest: u128,
    layout: Vec<u64>,
    topology: Arc<Topology>,
    regions: Vec<String>,
    nodes: Vec<NodeNames>,
    keyspaces: Vec<KeyspaceNames>,
    keyspace_ids: BTreeMap<String, KeyspaceId>,
}

impl Names {
    /// Numbers everything in file order.
    ///
    /// # Errors
    /// [`SettingsError`] when the topology has problems.
    pub fn new(settings: &TopologySettings) -> Result<Names, SettingsError> {
        SettingsError::none_of(settings.problems())?;
        let nodes: Vec<NodeNames> = settings
            .nodes()
            .map(|(region, node)| NodeNames {
                name: node.name.clone(),
                region: RegionId(region as u8),
                peer_address: node.peer_address.clone(),
                client_address: node.client_address.clone(),
            })
            .collect();
        let mut regions: BTreeMap<RegionId, Vec<NodeId>> = BTreeMap::new();
        for (number, node) in (0..).zip(&nodes) {
            regions.entry(node.region).or_default().push(NodeId(number));
        }
        let (policies, keyspaces): (Vec<_>, Vec<_>) = settings
            .keyspaces
            .iter()
            .map(|keyspace| policy(settings, keyspace))
            .collect::<Option<Vec<_>>>()
            .ok_or_else(|| Problem::new("keyspaces", "an unknown word", "check the file"))?
            .into_iter()
            .unzip();
        let ids = (0..).map(KeyspaceId);
        Ok(Names {
            cluster_id: settings.cluster_id.clone(),
            epoch: settings.epoch,
            digest: digest(settings),
            layout: layout(settings),
            topology: Arc::new(Topology {
                cluster: ClusterId::of(&settings.cluster_id),
                regions,
                keyspaces: policies,
            }),
            regions: settings.regions.iter().map(|r| r.name.clone()).collect(),
            nodes,
            keyspace_ids: keyspaces.iter().map(|k| k.name.clone()).zip(ids).collect(),
            keyspaces,
        })
    }

    /// The cluster's textual id.
    pub fn cluster_id(&self) -> &str {
        &self.cluster_id
    }

    /// The short form of it.
    pub fn cluster(&self) -> ClusterId {
        self.topology.cluster
    }

    /// The epoch of the topology file.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// A digest of everything nodes must agree on: cluster id, epoch, names, order and policies. Addresses
    /// are left out: a node may be dialled differently from elsewhere, and may move.
    pub fn digest(&self) -> u128 {
        self.digest
    }

    /// What data is stored under: a digest of the regions and nodes in their order, then one of each
    /// keyspace (name, type, regions, replicas, shards) in order. Policies, levels and addresses may change
    /// under stored data; these may not, but for keyspaces appended to the end.
    pub fn layout(&self) -> &[u64] {
        &self.layout
    }

    /// What the core works with.
    pub fn topology(&self) -> &Arc<Topology> {
        &self.topology
    }

    /// The regions' names, in order of their numbers.
    pub fn regions(&self) -> &[String] {
        &self.regions
    }

    /// The nodes, in order of their numbers.
    pub fn nodes(&self) -> &[NodeNames] {
        &self.nodes
    }

    /// The keyspaces, in order of their numbers.
    pub fn keyspaces(&self) -> &[KeyspaceNames] {
        &self.keyspaces
    }

    /// A region's number.
    pub fn region(&self, name: &str) -> Option<RegionId> {
        let at = self.regions.iter().position(|region| region == name)?;
        Some(RegionId(at as u8))
    }

    /// A region's name; `?` for a number the topology does not know.
    pub fn region_name(&self, region: RegionId) -> &str {
        self.regions
            .get(usize::from(region.0))
            .map_or("?", String::as_str)
    }

    /// A node's number.
    pub fn node(&self, name: &str) -> Option<NodeId> {
        let at = self.nodes.iter().position(|node| node.name == name)?;
        Some(NodeId(at as u16))
    }

    /// A node's name; `?` for a number the topology does not know.
    pub fn node_name(&self, node: NodeId) -> &str {
        self.node_names(node).map_or("?", |node| &node.name)
    }

    /// A node's names.
    pub fn node_names(&self, node: NodeId) -> Option<&NodeNames> {
        self.nodes.get(usize::from(node.0))
    }

    /// A keyspace by name: its number, its policy and its default level.
    pub fn keyspace(&self, name: &str) -> Option<(KeyspaceId, &Keyspace, Level)> {
        let id = *self.keyspace_ids.get(name)?;
        let at = usize::from(id.0);
        Some((
            id,
            self.topology.keyspace(id)?,
            self.keyspaces.get(at)?.default_level,
        ))
    }
}

fn policy(
    settings: &TopologySettings,
    keyspace: &super::KeyspaceSettings,
) -> Option<(Keyspace, KeyspaceNames)> {
    let number = |name: &String| {
        let at = settings.regions.iter().position(|r| r.name == *name)?;
        Some(RegionId(at as u8))
    };
    let mut regions: Vec<RegionId> = keyspace.regions.iter().map(number).collect::<Option<_>>()?;
    regions.sort_unstable();
    let policy = Keyspace {
        value_type: value_type_from(&keyspace.value_type)?,
        regions,
        replicas: keyspace.replicas,
        shards: keyspace.shards,
        mixing: mixing_from(&keyspace.mixing)?,
    };
    let names = KeyspaceNames {
        name: keyspace.name.clone(),
        default_level: level_from(&keyspace.default_level)?,
    };
    Some((policy, names))
}

fn layout(settings: &TopologySettings) -> Vec<u64> {
    let hash = |out: Encoder| xxhash_rust::xxh3::xxh3_64(&out.finish());
    let mut places = Encoder::record();
    for region in &settings.regions {
        places.bytes(region.name.as_bytes());
        places.number(region.nodes.len() as u64);
        for node in &region.nodes {
            places.bytes(node.name.as_bytes());
        }
    }
    let keyspaces = settings.keyspaces.iter().map(|keyspace| {
        let mut out = Encoder::record();
        out.bytes(keyspace.name.as_bytes());
        out.bytes(keyspace.value_type.as_bytes());
        for region in &keyspace.regions {
            out.bytes(region.as_bytes());
        }
        out.number(u64::from(keyspace.replicas));
        out.number(u64::from(keyspace.shards));
        hash(out)
    });
    std::iter::once(hash(places)).chain(keyspaces).collect()
}

/// Over the core's canonical encoding, so that it does not depend on how a file is laid out.
fn digest(settings: &TopologySettings) -> u128 {
    let mut out = Encoder::record();
    out.bytes(settings.cluster_id.as_bytes());
    out.number(settings.epoch);
    out.number(settings.regions.len() as u64);
    for region in &settings.regions {
        out.bytes(region.name.as_bytes());
        out.number(region.nodes.len() as u64);
        for node in &region.nodes {
            out.bytes(node.name.as_bytes());
        }
    }
    out.number(settings.keyspaces.len() as u64);
    for keyspace in &settings.keyspaces {
        out.bytes(keyspace.name.as_bytes());
        out.bytes(keyspace.value_type.as_bytes());
        out.number(keyspace.regions.len() as u64);
        for region in &keyspace.regions {
            out.bytes(region.as_bytes());
        }
        out.number(u64::from(keyspace.replicas));
        out.number(u64::from(keyspace.shards));
        out.bytes(keyspace.default_level.as_bytes());
        out.bytes(keyspace.mixing.as_bytes());
    }
    xxhash_rust::xxh3::xxh3_128(&out.finish())
}
