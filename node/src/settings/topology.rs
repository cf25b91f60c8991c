//! The topology file: who there is, and what is kept where.

use std::collections::BTreeSet;
use std::path::Path;

use hansa_consistency::limits::REGIONS_MAX;
use hansa_consistency::request::Level;
use hansa_consistency::topology::{Mixing, ValueType};
use serde::{Deserialize, Serialize};

use super::lines::{self, text_of};
use super::problem::{Place, Problem, SettingsError};
use crate::limits::{KEYSPACES_MAX, NAME_BYTES_MAX, NODES_MAX, SHARDS_MAX};

/// The whole cluster, by name. The same on all nodes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct TopologySettings {
    /// The cluster's textual id: nodes and tokens of other clusters are refused.
    pub cluster_id: String,
    /// Rises with every change of the file; from 1.
    pub epoch: u64,
    /// The regions; a region's number is its position. 1 to 16.
    pub regions: Vec<RegionSettings>,
    /// The keyspaces; a keyspace's number is its position.
    pub keyspaces: Vec<KeyspaceSettings>,
}

/// A region.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegionSettings {
    /// Its name.
    pub name: String,
    /// Its nodes, at least one; numbers are given in file order over all regions.
    #[serde(default)]
    pub nodes: Vec<NodeSettings>,
}

/// A node, as others see it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeSettings {
    /// Its name, unique in the cluster.
    pub name: String,
    /// host:port its peers dial.
    pub peer_address: String,
    /// host:port clients dial.
    pub client_address: String,
}

/// A keyspace.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct KeyspaceSettings {
    /// Its name.
    pub name: String,
    /// `register`, `counter` or `set`.
    #[serde(rename = "type")]
    pub value_type: String,
    /// The regions that hold it; in the file, left out = all.
    pub regions: Vec<String>,
    /// Replicas of each shard in each region; in the file, left out = 1.
    pub replicas: u16,
    /// Shards; in the file, left out = 64.
    pub shards: u16,
    /// `eventual`, `session` or `strong`: the level of requests that name none. In the file, left out =
    /// `eventual`, or `strong` where only strong writes are taken.
    pub default_level: String,
    /// `strong_wins` or `strong_only`; in the file, left out = `strong_wins`.
    pub mixing: String,
}

/// `topology.toml` as written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TopologyFile {
    cluster_id: String,
    epoch: u64,
    #[serde(default)]
    regions: Vec<RegionSettings>,
    #[serde(default)]
    keyspaces: Vec<KeyspaceFile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyspaceFile {
    name: String,
    #[serde(rename = "type")]
    value_type: String,
    regions: Option<Vec<String>>,
    replicas: Option<u16>,
    shards: Option<u16>,
    default_level: Option<String>,
    mixing: Option<String>,
}

impl TopologySettings {
    /// Reads and checks a topology file. `named` is where its path was given.
    ///
    /// # Errors
    /// [`SettingsError`] with every problem found.
    pub(super) fn read(path: &Path, named: Place) -> Result<TopologySettings, SettingsError> {
        let advice = "name the topology file with --topology, HANSA_TOPOLOGY or in node.toml; \
                      `hansa config init` writes one";
        let text = text_of(path, |what| {
            Problem::new("topology", what, advice).at(named)
        })?;
        TopologySettings::from_text(path, &text)
    }

    /// Takes and checks the text of a topology file; `path` is used in messages.
    ///
    /// # Errors
    /// [`SettingsError`] with every problem found.
    pub fn from_text(path: &Path, text: &str) -> Result<TopologySettings, SettingsError> {
        let (file, lines) = lines::read::<TopologyFile>(path, text)?;
        let topology = from_file(file);
        let located = |problem: Problem| {
            let place = lines.place(&problem.field);
            problem.at(place)
        };
        SettingsError::none_of(topology.problems().into_iter().map(located).collect())?;
        Ok(topology)
    }

    /// The text of a topology file that says the same.
    ///
    /// # Errors
    /// The TOML writer's, for values TOML has no form for; names that pass [`Self::problems`] have one.
    pub fn to_text(&self) -> Result<String, toml::ser::Error> {
        toml::to_string(self)
    }

    /// Every node, with its region's position.
    pub fn nodes(&self) -> impl Iterator<Item = (usize, &NodeSettings)> {
        let regions = self.regions.iter().enumerate();
        regions.flat_map(|(at, region)| region.nodes.iter().map(move |node| (at, node)))
    }

    /// Everything that is wrong.
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        problems.extend(name_problem("cluster_id", &self.cluster_id));
        if self.epoch == 0 {
            problems.push(Problem::new("epoch", "is 0", "count from 1"));
        }
        self.region_problems(&mut problems);
        self.keyspace_problems(&mut problems);
        problems
    }

    fn region_problems(&self, problems: &mut Vec<Problem>) {
        let count = self.regions.len();
        if !(1..=REGIONS_MAX).contains(&count) {
            // Of too many, the first that is one too many.
            let field = match count {
                0 => "regions".to_owned(),
                _ => format!("regions[{REGIONS_MAX}]"),
            };
            problems.push(Problem::new(
                field,
                format!("there are {count}"),
                format!("name 1 to {REGIONS_MAX} regions"),
            ));
        }
        let nodes = self.nodes().count();
        if let Some((at, _)) = self.nodes().nth(NODES_MAX) {
            let before: usize = self.regions[..at].iter().map(|r| r.nodes.len()).sum();
            problems.push(Problem::new(
                format!("regions[{at}].nodes[{}]", NODES_MAX - before),
                format!("there are {nodes}"),
                format!("name at most {NODES_MAX} nodes in all regions"),
            ));
        }
        let (mut regions, mut names, mut addresses) = Default::default();
        for (at, region) in self.regions.iter().enumerate() {
            let field = format!("regions[{at}]");
            check_name(
                problems,
                &format!("{field}.name"),
                &region.name,
                &mut regions,
            );
            if region.nodes.is_empty() {
                problems.push(Problem::new(
                    format!("{field}.nodes"),
                    format!("region `{}` has no nodes", region.name),
                    "give it at least one node, or remove it",
                ));
            }
            for (at, node) in region.nodes.iter().enumerate() {
                let field = format!("{field}.nodes[{at}]");
                check_name(problems, &format!("{field}.name"), &node.name, &mut names);
                for (name, address) in [
                    ("peer_address", &node.peer_address),
                    ("client_address", &node.client_address),
                ] {
                    let field = format!("{field}.{name}");
                    problems.extend(address_problem(&field, address));
                    check_unique(problems, &field, address, &mut addresses);
                }
            }
        }
    }

    fn keyspace_problems(&self, problems: &mut Vec<Problem>) {
        if self.keyspaces.len() > KEYSPACES_MAX {
            problems.push(Problem::new(
                format!("keyspaces[{KEYSPACES_MAX}]"),
                format!("there are {}", self.keyspaces.len()),
                format!("name at most {KEYSPACES_MAX} keyspaces"),
            ));
        }
        let mut names = BTreeSet::new();
        for (at, keyspace) in self.keyspaces.iter().enumerate() {
            let field = format!("keyspaces[{at}]");
            check_name(
                problems,
                &format!("{field}.name"),
                &keyspace.name,
                &mut names,
            );
            self.holder_problems(&field, keyspace, problems);
            problems.extend(word_problems(&field, keyspace));
            if !(1..=SHARDS_MAX).contains(&keyspace.shards) {
                problems.push(Problem::new(
                    format!("{field}.shards"),
                    format!("is {}", keyspace.shards),
                    format!("write a number from 1 to {SHARDS_MAX}"),
                ));
            }
        }
    }

    /// What is wrong with the regions that hold a keyspace.
    fn holder_problems(
        &self,
        field: &str,
        keyspace: &KeyspaceSettings,
        problems: &mut Vec<Problem>,
    ) {
        if keyspace.regions.is_empty() {
            problems.push(Problem::new(
                format!("{field}.regions"),
                format!("keyspace `{}` is held by no region", keyspace.name),
                "name at least one region, or leave `regions` out for all",
            ));
        }
        let mut seen = BTreeSet::new();
        for (at, name) in keyspace.regions.iter().enumerate() {
            let region_field = format!("{field}.regions[{at}]");
            check_unique(problems, &region_field, name, &mut seen);
            let Some(region) = self.regions.iter().find(|region| region.name == *name) else {
                let known: Vec<_> = self.regions.iter().map(|r| r.name.as_str()).collect();
                problems.push(Problem::new(
                    region_field,
                    format!("there is no region `{name}`"),
                    format!("the regions are {}", known.join(", ")),
                ));
                continue;
            };
            if usize::from(keyspace.replicas) > region.nodes.len() {
                problems.push(Problem::new(
                    format!("{field}.replicas"),
                    format!(
                        "{} replicas are wanted, region `{name}` has {} nodes",
                        keyspace.replicas,
                        region.nodes.len()
                    ),
                    "ask for fewer replicas, or add nodes",
                ));
            }
        }
        if keyspace.replicas == 0 {
            let (what, advice) = ("is 0", "write at least 1");
            problems.push(Problem::new(format!("{field}.replicas"), what, advice));
        }
    }
}

fn from_file(file: TopologyFile) -> TopologySettings {
    let all: Vec<String> = file.regions.iter().map(|r| r.name.clone()).collect();
    let keyspaces = file.keyspaces.into_iter();
    TopologySettings {
        cluster_id: file.cluster_id,
        epoch: file.epoch,
        keyspaces: keyspaces.map(|one| keyspace_from(one, &all)).collect(),
        regions: file.regions,
    }
}

fn keyspace_from(keyspace: KeyspaceFile, all: &[String]) -> KeyspaceSettings {
    let mixing = keyspace.mixing.unwrap_or_else(|| "strong_wins".to_owned());
    // Eventual writes would all be refused there.
    let level = match mixing.as_str() {
        "strong_only" => Level::Strong,
        _ => Level::Eventual,
    };
    let default_level = keyspace.default_level;
    KeyspaceSettings {
        name: keyspace.name,
        value_type: keyspace.value_type,
        regions: keyspace.regions.unwrap_or_else(|| all.to_vec()),
        replicas: keyspace.replicas.unwrap_or(1),
        shards: keyspace.shards.unwrap_or(64),
        default_level: default_level.unwrap_or_else(|| level.name().to_owned()),
        mixing,
    }
}

fn word_problems(field: &str, keyspace: &KeyspaceSettings) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut unknown = |name: &str, word: &str, advice: &str| {
        let what = format!("`{word}` is none");
        problems.push(Problem::new(format!("{field}.{name}"), what, advice));
    };
    if value_type_from(&keyspace.value_type).is_none() {
        unknown(
            "type",
            &keyspace.value_type,
            "write register, counter or set",
        );
    }
    if level_from(&keyspace.default_level).is_none() {
        let advice = "write eventual, session or strong";
        unknown("default_level", &keyspace.default_level, advice);
    }
    if mixing_from(&keyspace.mixing).is_none() {
        unknown(
            "mixing",
            &keyspace.mixing,
            "write strong_wins or strong_only",
        );
    }
    problems
}

/// A name is 1 to 64 of `a-z`, `0-9`, `-`, `_` and `.`, and starts with a letter or digit.
fn name_problem(field: &str, name: &str) -> Option<Problem> {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c);
    let starts = name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    let good = starts && name.len() <= NAME_BYTES_MAX && name.chars().all(fits);
    (!good).then(|| {
        Problem::new(
            field,
            format!("`{name}` is no name"),
            format!(
                "write 1 to {NAME_BYTES_MAX} of a-z, 0-9, -, _ and ., starting with a letter or digit"
            ),
        )
    })
}

fn check_name(problems: &mut Vec<Problem>, field: &str, name: &str, seen: &mut BTreeSet<String>) {
    problems.extend(name_problem(field, name));
    check_unique(problems, field, name, seen);
}

fn check_unique(problems: &mut Vec<Problem>, field: &str, name: &str, seen: &mut BTreeSet<String>) {
    if !seen.insert(name.to_owned()) {
        problems.push(Problem::new(
            field,
            format!("`{name}` is there already"),
            "give each its own",
        ));
    }
}

/// An address is host:port with a port that is not 0; the host may be a name.
pub(super) fn address_problem(field: &str, address: &str) -> Option<Problem> {
    let good = address.rsplit_once(':').is_some_and(|(host, port)| {
        let bare = host.starts_with('[') == host.ends_with(']');
        let host_fits = bare && !host.is_empty() && !host.contains(['/', ' ']);
        host_fits && port.parse::<u16>().is_ok_and(|port| port != 0)
    });
    (!good).then(|| {
        Problem::new(
            field,
            format!("`{address}` is no address"),
            "write host:port, for example 10.0.0.1:7201",
        )
    })
}

pub(super) fn value_type_from(word: &str) -> Option<ValueType> {
    [ValueType::Register, ValueType::Counter, ValueType::Set]
        .into_iter()
        .find(|value_type| value_type_name(*value_type) == word)
}

/// The word for a value type in files and replies.
pub fn value_type_name(value_type: ValueType) -> &'static str {
    match value_type {
        ValueType::Register => "register",
        ValueType::Counter => "counter",
        ValueType::Set => "set",
    }
}

/// The level a word names.
pub fn level_from(word: &str) -> Option<Level> {
    [Level::Eventual, Level::Session, Level::Strong]
        .into_iter()
        .find(|level| level_name(*level) == word)
}

/// The word for a level.
pub fn level_name(level: Level) -> &'static str {
    level.name()
}

pub(super) fn mixing_from(word: &str) -> Option<Mixing> {
    [Mixing::StrongWins, Mixing::StrongOnly]
        .into_iter()
        .find(|mixing| mixing_name(*mixing) == word)
}

/// The word for a keyspace's mixing.
pub fn mixing_name(mixing: Mixing) -> &'static str {
    match mixing {
        Mixing::StrongWins => "strong_wins",
        Mixing::StrongOnly => "strong_only",
    }
}
