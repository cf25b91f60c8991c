//! The files of a cluster's nodes: settings, data and logs, in a temporary directory or a kept one.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;

use super::data;
use super::network::Network;
use super::ports::{Addresses, Ports};
use super::spec::Spec;
use crate::nemesis::NodeIndex;
use crate::workload::{COUNTERS, REGISTERS, SETS};

/// The keyspaces and their types.
const KEYSPACES: [(&str, &str); 3] = [
    (REGISTERS, "register"),
    (COUNTERS, "counter"),
    (SETS, "set"),
];

/// Lines of a log that an error shows.
const LOG_LINES: usize = 8;

/// The directory of one cluster.
#[derive(Debug)]
pub(super) struct Files {
    path: PathBuf,
    /// Removed with everything in it when this is dropped.
    _temporary: Option<TempDir>,
}

/// The second process of a node: its settings and its data.
#[derive(Debug)]
pub(super) struct Copy {
    /// The settings file.
    pub(super) settings: PathBuf,
    /// The data directory; to be removed at the end.
    pub(super) data: PathBuf,
    /// Held while it runs.
    _ports: Ports,
}

impl Files {
    /// The directory that was asked for, or a new temporary one.
    ///
    /// # Errors
    /// When it can not be made, or is not empty.
    pub(super) fn new(spec: &Spec) -> Result<Files> {
        let Some(path) = &spec.folder else {
            let made = tempfile::Builder::new().prefix("hansa-jepsen-").tempdir();
            let temporary = made.context("no temporary directory could be made: name one")?;
            return Ok(Files {
                path: temporary.path().to_owned(),
                _temporary: Some(temporary),
            });
        };
        let refused = || format!("the directory {} can not be used", path.display());
        fs::create_dir_all(path).with_context(refused)?;
        if fs::read_dir(path).with_context(refused)?.next().is_some() {
            bail!("{} is not empty: name another directory", path.display());
        }
        Ok(Files {
            path: fs::canonicalize(path).with_context(refused)?,
            _temporary: None,
        })
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// A node's settings file.
    pub(super) fn settings(&self, name: &str) -> PathBuf {
        self.path.join(format!("{name}.toml"))
    }

    /// A node's log.
    pub(super) fn log(&self, name: &str) -> PathBuf {
        self.path.join(format!("{name}.log"))
    }

    /// What a node's wall clock is to show.
    pub(super) fn clock(&self, name: &str) -> PathBuf {
        self.path.join(format!("{name}.clock"))
    }

    /// A node's data directory.
    pub(super) fn data(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Where the disk of a node's data keeps its bytes.
    pub(super) fn backing(&self, name: &str) -> PathBuf {
        self.path.join(format!("{name}-disk"))
    }

    /// Where a copy of a node's data is put aside.
    pub(super) fn kept(&self, name: &str) -> PathBuf {
        self.path.join(format!("{name}-kept"))
    }

    /// Writes the topology and every node's settings.
    ///
    /// # Errors
    /// When the directory takes no file.
    pub(super) fn write(&self, spec: &Spec, ports: &Ports, network: &Network) -> Result<()> {
        write(&self.path.join("topology.toml"), &topology(spec, ports))?;
        for node in 0..spec.layout.nodes() {
            let name = spec.node_name(node);
            let text = settings(spec, node, &name, ports.of(node), |to| {
                network.dial(node, to)
            });
            write(&self.settings(&name), &text)?;
        }
        Ok(())
    }

    /// Copies a node's data and writes settings for a second process on the copy: other ports, the same name, the
    /// same links to the others.
    ///
    /// # Errors
    /// When a file can not be copied or written, or no port is left.
    pub(super) fn write_copy(
        &self,
        spec: &Spec,
        node: NodeIndex,
        network: &Network,
    ) -> Result<Copy> {
        let folder = format!("{}-copy", spec.node_name(node));
        let ports = network.ports_of_copy(node)?;
        let dial = |to| network.dial(node, to);
        let text = settings(spec, node, &folder, ports.of(0), dial);
        let copy = Copy {
            settings: self.settings(&folder),
            data: self.data(&folder),
            _ports: ports,
        };
        data::copy(&self.data(&spec.node_name(node)), &copy.data)?;
        write(&copy.settings, &text)?;
        Ok(copy)
    }

    /// The last lines of a node's log, indented.
    pub(super) fn log_end(&self, name: &str) -> String {
        let text = fs::read_to_string(self.log(name)).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let from = lines.len().saturating_sub(LOG_LINES);
        lines[from..].iter().fold(String::new(), |mut out, line| {
            // Writing to a String does not fail, here and below.
            let _ = write!(out, "\n  {line}");
            out
        })
    }
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("can not write {}", path.display()))
}

/// The topology file. The names need no quoting: they are ours.
fn topology(spec: &Spec, ports: &Ports) -> String {
    // Sessions of another run are refused by name instead of waiting for writes that are not here.
    let cluster = format!("jepsen-{:08x}", rand::random::<u32>());
    let mut text = format!("cluster_id = \"{cluster}\"\nepoch = 1\n");
    for region in 0..spec.layout.regions {
        let _ = write!(
            text,
            "\n[[regions]]\nname = \"{}\"\n",
            spec.region_name(region)
        );
        for node in spec.layout.nodes_of(region) {
            let Addresses { client, peer, .. } = ports.of(node);
            let _ = write!(
                text,
                "\n[[regions.nodes]]\nname = \"{}\"\npeer_address = \"{peer}\"\nclient_address = \"{client}\"\n",
                spec.node_name(node)
            );
        }
    }
    for (name, value_type) in KEYSPACES {
        let replicas = spec.layout.nodes_per_region;
        let _ = write!(
            text,
            "\n[[keyspaces]]\nname = \"{name}\"\ntype = \"{value_type}\"\nreplicas = {replicas}\n"
        );
    }
    text
}

/// One node's settings: it dials every other node at its own link to it, where it has one.
fn settings(
    spec: &Spec,
    node: NodeIndex,
    folder: &str,
    addresses: Addresses,
    dial: impl Fn(NodeIndex) -> Option<SocketAddr>,
) -> String {
    let Addresses {
        client,
        peer,
        metrics,
    } = addresses;
    let (name, engine) = (spec.node_name(node), &spec.engine);
    let mut text = format!(
        "node = \"{name}\"\ntopology = \"topology.toml\"\ndata_dir = \"{folder}\"\nlisten = \"{client}\"\n\
         peer_listen = \"{peer}\"\nmetrics_listen = \"{metrics}\"\nengine = \"{engine}\"\n\n[dial]\n"
    );
    for to in (0..spec.layout.nodes()).filter(|to| *to != node) {
        if let Some(address) = dial(to) {
            let _ = writeln!(text, "{} = \"{address}\"", spec.node_name(to));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nemesis::Layout;

    #[test]
    fn a_directory_with_something_in_it_is_refused_and_a_kept_one_stays() {
        let outer = tempfile::tempdir().unwrap();
        let mut spec = Spec::new(Layout {
            regions: 1,
            nodes_per_region: 1,
        });
        spec.folder = Some(outer.path().join("kept"));
        let files = Files::new(&spec).unwrap();
        fs::write(files.log("a"), "one\ntwo\n").unwrap();
        assert_eq!(files.log_end("a"), "\n  one\n  two");
        let path = files.path().to_owned();
        drop(files);
        assert!(path.exists());
        let error = Files::new(&spec).unwrap_err().to_string();
        assert!(error.contains("not empty"), "{error}");
        spec.folder = None;
        let files = Files::new(&spec).unwrap();
        let path = files.path().to_owned();
        drop(files);
        assert!(!path.exists());
    }
}
