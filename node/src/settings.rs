//! What a node is told before it starts: plain values, where each came from, and what is wrong with them.
//!
//! Two files. `topology.toml` is the same on all nodes ([`TopologySettings`]); its order gives regions, nodes
//! and keyspaces their numbers ([`Names`]). `node.toml` is a node's own. Each of its values may also come from
//! the environment or a flag: flag over environment over file over default ([`FIELDS`]).
//!
//! Unknown fields are refused. Every [`Problem`] names the file and line (or flag, or variable), the field and
//! what to do. Relative paths in a file are relative to that file's folder; elsewhere to the working directory.

mod example;
mod filter;
mod lines;
mod names;
mod problem;
mod source;
mod topology;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use crate::store::Engine;

pub use self::example::{NODE_EXAMPLE, TOPOLOGY_EXAMPLE};
pub(crate) use self::filter::{FILTER_ADVICE, parse_filter};
pub use self::names::{KeyspaceNames, Names, NodeNames};
pub use self::problem::{Place, Problem, SettingsError};
pub use self::source::{Origin, Partial};
pub use self::topology::{
    KeyspaceSettings, NodeSettings, RegionSettings, TopologySettings, level_from, level_name,
    mixing_name, value_type_name,
};

/// One setting of a node: its names, its default, and what it means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Field {
    /// In `node.toml`; with dashes for underscores it is the flag's name.
    pub name: &'static str,
    /// The environment variable.
    pub environment: &'static str,
    /// The value when nobody gives one; `None` when it must be given.
    pub default: Option<&'static str>,
    /// What it means, with unit or form.
    pub help: &'static str,
}

/// Every setting of a node.
pub const FIELDS: [Field; 11] = [
    Field {
        name: "node",
        environment: "HANSA_NODE",
        default: None,
        help: "this node's name in the topology",
    },
    Field {
        name: "data_dir",
        environment: "HANSA_DATA_DIR",
        default: None,
        help: "directory of everything this node keeps; one node each",
    },
    Field {
        name: "topology",
        environment: "HANSA_TOPOLOGY",
        default: Some("topology.toml"),
        help: "path of the topology file",
    },
    Field {
        name: "listen",
        environment: "HANSA_LISTEN",
        default: Some("127.0.0.1:7101"),
        help: "ip:port for clients",
    },
    Field {
        name: "peer_listen",
        environment: "HANSA_PEER_LISTEN",
        default: Some("127.0.0.1:7201"),
        help: "ip:port for the other nodes",
    },
    Field {
        name: "metrics_listen",
        environment: "HANSA_METRICS_LISTEN",
        default: Some("127.0.0.1:9464"),
        help: "ip:port for /metrics and /healthz, or off",
    },
    Field {
        name: "engine",
        environment: "HANSA_ENGINE",
        default: Some("fjall"),
        help: "storage engine: fjall, sled or memory (memory keeps nothing over a restart)",
    },
    Field {
        name: "log_format",
        environment: "HANSA_LOG_FORMAT",
        default: Some("text"),
        help: "text or json",
    },
    Field {
        name: "log_level",
        environment: "HANSA_LOG_LEVEL",
        default: Some("info"),
        help: "off, error, warn, info, debug or trace, or a filter like hansa_node=debug,warn",
    },
    Field {
        name: "reflection",
        environment: "HANSA_REFLECTION",
        default: Some("on"),
        help: "gRPC server reflection: on or off",
    },
    Field {
        name: "dial",
        environment: "HANSA_DIAL",
        default: Some(""),
        help: "other addresses to dial peers at: NAME=host:port, separated by commas",
    },
];

/// How log lines look.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum LogFormat {
    /// One line of text each.
    #[default]
    Text,
    /// One JSON object each.
    Json,
}

/// What a node is told. Checked: see [`Settings::load`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    /// This node's name; the topology has it.
    pub node: String,
    /// Where everything it keeps lies.
    pub data_dir: PathBuf,
    /// Where clients connect. Port 0 lets the operating system choose.
    pub listen: SocketAddr,
    /// Where the other nodes connect.
    pub peer_listen: SocketAddr,
    /// Where metrics are served; `None` = nowhere.
    pub metrics_listen: Option<SocketAddr>,
    /// The storage engine.
    pub engine: Engine,
    /// How log lines look.
    pub log_format: LogFormat,
    /// What is logged, as a `tracing` filter.
    pub log_level: String,
    /// Whether server reflection is served.
    pub reflection: bool,
    /// The whole cluster.
    pub topology: TopologySettings,
    /// Addresses that replace the topology's when dialling a peer, by its name.
    pub dial: BTreeMap<String, String>,
    /// Whether a damaged or shortened store is put aside and refilled from the peers. A flag only, never
    /// kept in a file: it is a decision about one start.
    pub rebuild: bool,
}

/// Settings, and where each came from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Loaded {
    /// The values.
    pub settings: Settings,
    /// Name, text and origin of each, in the order of [`FIELDS`].
    pub origins: Vec<(&'static str, String, Origin)>,
}

impl Settings {
    /// Settings of one node of `topology` with every other value at its default: for embedding and tests.
    ///
    /// # Errors
    /// [`SettingsError`] when the topology has problems or does not name the node.
    pub fn new(
        node: &str,
        data_dir: PathBuf,
        topology: TopologySettings,
    ) -> Result<Settings, SettingsError> {
        let given = [
            ("node", node.to_owned()),
            ("data_dir", data_dir.display().to_string()),
        ];
        let partial = Partial::flags(given)?.over(Partial::defaults());
        let mut settings = build(&partial, topology)?;
        settings.data_dir = data_dir;
        settings.check()?;
        Ok(settings)
    }

    /// Merges what the sources say, reads the topology file they name, and checks everything.
    ///
    /// # Errors
    /// [`SettingsError`] with everything that is wrong with the topology, or else the first value that can not be
    /// understood, or else everything that is wrong with the values together.
    pub fn load(
        flags: Partial,
        environment: Partial,
        file: Partial,
    ) -> Result<Loaded, SettingsError> {
        let partial = flags.over(environment).over(file).over(Partial::defaults());
        let path = partial.path("topology")?;
        let named = match partial.place("topology") {
            // As a rule the default's file is missing because nobody named another.
            Place::Unknown => partial.place_in_file("topology"),
            given => given,
        };
        let topology = TopologySettings::read(&path, named)?;
        let settings = build(&partial, topology)?;
        SettingsError::none_of(settings.problems(|field| partial.place(field)))?;
        Ok(Loaded {
            settings,
            origins: partial.origins(),
        })
    }

    /// Checks the values against each other.
    ///
    /// # Errors
    /// [`SettingsError`] with every problem found.
    pub fn check(&self) -> Result<(), SettingsError> {
        let mut problems = self.topology.problems();
        problems.extend(self.problems(|_| Place::Unknown));
        SettingsError::none_of(problems)
    }

    /// What is wrong but for the topology itself; `place` knows where each value was given.
    fn problems(&self, place: impl Fn(&str) -> Place) -> Vec<Problem> {
        let mut problems = Vec::new();
        let known = |name: &str| self.topology.nodes().any(|(_, node)| node.name == name);
        if !known(&self.node) {
            problems.push(Problem::new(
                "node",
                format!("the topology names no node `{}`", self.node),
                "use a name that stands in the topology file, or add the node there",
            ));
        }
        for name in self.dial.keys().filter(|name| !known(name)) {
            problems.push(Problem::new(
                format!("dial.{name}"),
                format!("the topology names no node `{name}`"),
                "use a name that stands in the topology file",
            ));
        }
        for (name, address) in &self.dial {
            problems.extend(topology::address_problem(&format!("dial.{name}"), address));
        }
        problems.extend(self.equal_listeners(&place));
        let located = |problem: Problem| {
            let place = place(&problem.field);
            problem.at(place)
        };
        problems.into_iter().map(located).collect()
    }

    /// The numbers behind the names. Works on checked settings.
    ///
    /// # Errors
    /// [`SettingsError`] when the topology has problems.
    pub fn names(&self) -> Result<Arc<Names>, SettingsError> {
        Names::new(&self.topology).map(Arc::new)
    }

    fn equal_listeners(&self, place: &impl Fn(&str) -> Place) -> Vec<Problem> {
        // Of two, whoever overrode something is asked to change it; the later one when both were given alike.
        let rank = |name: &str| match place(name) {
            Place::Flag(_) => 0,
            Place::Environment(_) => 1,
            Place::File { .. } => 2,
            Place::Unknown => 3,
        };
        let listeners = [
            ("listen", Some(self.listen)),
            ("peer_listen", Some(self.peer_listen)),
            ("metrics_listen", self.metrics_listen),
        ];
        let mut problems = Vec::new();
        for (at, (name, address)) in listeners.iter().enumerate() {
            for (other, taken) in &listeners[..at] {
                let (Some(address), Some(taken)) = (address, taken) else {
                    continue;
                };
                // The same port on two addresses is fine unless one of them is all of them.
                let overlap = address.ip() == taken.ip()
                    || address.ip().is_unspecified()
                    || taken.ip().is_unspecified();
                if address.port() != 0 && address.port() == taken.port() && overlap {
                    let (name, other, address) = match rank(name) <= rank(other) {
                        true => (name, other, address),
                        false => (other, name, taken),
                    };
                    problems.push(Problem::new(
                        *name,
                        format!("{address} is what `{other}` listens on already"),
                        "give each listener a port of its own",
                    ));
                }
            }
        }
        problems
    }
}

/// Reads each value out of the merged texts.
fn build(partial: &Partial, topology: TopologySettings) -> Result<Settings, SettingsError> {
    let address = "write ip:port, for example 127.0.0.1:7101";
    let metrics = partial.text("metrics_listen")?;
    Ok(Settings {
        node: partial.text("node")?.to_owned(),
        data_dir: partial.path("data_dir")?,
        listen: partial.parse("listen", address)?,
        peer_listen: partial.parse("peer_listen", address)?,
        metrics_listen: match metrics {
            "off" => None,
            _ => Some(partial.parse("metrics_listen", "write ip:port, or off")?),
        },
        engine: partial.parse("engine", "write fjall, sled or memory")?,
        log_format: partial.parse("log_format", "write text or json")?,
        log_level: partial.parse::<LogFilter>("log_level", FILTER_ADVICE)?.0,
        reflection: partial.parse::<Switch>("reflection", "write on or off")?.0,
        topology,
        dial: partial
            .parse::<Dial>("dial", "write NAME=host:port, separated by commas")?
            .0,
        rebuild: false,
    })
}

impl FromStr for LogFormat {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<LogFormat, Self::Err> {
        match text {
            "text" => Ok(LogFormat::Text),
            "json" => Ok(LogFormat::Json),
            _ => Err("not a log format"),
        }
    }
}

/// A filter that can be understood, as text.
struct LogFilter(String);

impl FromStr for LogFilter {
    type Err = String;

    fn from_str(text: &str) -> Result<LogFilter, Self::Err> {
        parse_filter(text).map(|_| LogFilter(text.to_owned()))
    }
}

struct Switch(bool);

impl FromStr for Switch {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Switch, Self::Err> {
        match text {
            "on" | "true" => Ok(Switch(true)),
            "off" | "false" => Ok(Switch(false)),
            _ => Err("neither on nor off"),
        }
    }
}

struct Dial(BTreeMap<String, String>);

impl FromStr for Dial {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Dial, Self::Err> {
        let pair = |part: &str| {
            let (name, address) = part.trim().split_once('=')?;
            Some((name.to_owned(), address.to_owned()))
        };
        text.split(',')
            .filter(|part| !part.trim().is_empty())
            .map(|part| pair(part).ok_or("not NAME=host:port"))
            .collect::<Result<_, _>>()
            .map(Dial)
    }
}

#[cfg(test)]
mod tests;
