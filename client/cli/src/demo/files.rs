//! The files of the demo's nodes: settings, data and logs, in a temporary directory or a kept one.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;

use super::links::Planned;
use super::ports::Ports;
use super::shape::{REGIONS, Shape};

/// The demo's keyspaces and their types.
const KEYSPACES: [(&str, &str); 4] = [
    ("carts", "set"),
    ("stock", "counter"),
    ("profiles", "register"),
    ("counters", "counter"),
];

/// Present once the data set is loaded.
const LOADED: &str = "dataset-loaded";

/// Says for which options a kept directory was made.
const MADE_FOR: &str = "demo.txt";

/// The directory of one demo.
#[derive(Debug)]
pub(crate) struct Files {
    path: PathBuf,
    /// Removed with everything in it when this is dropped.
    temporary: Option<TempDir>,
}

impl Files {
    /// A new temporary directory, removed at the end.
    ///
    /// # Errors
    /// When it can not be made.
    pub(crate) fn temporary() -> Result<Files> {
        let made = tempfile::Builder::new().prefix("hansa-demo-").tempdir();
        let temporary = made.context("no temporary directory could be made: use --data-dir")?;
        Ok(Files {
            path: temporary.path().to_owned(),
            temporary: Some(temporary),
        })
    }

    /// A directory that is kept and used again.
    ///
    /// # Errors
    /// When it can not be made, or was made for another number of nodes or another engine.
    pub(crate) fn kept(path: &Path, shape: &Shape, engine: &str) -> Result<Files> {
        let refused = || format!("--data-dir {} can not be used", path.display());
        fs::create_dir_all(path).with_context(refused)?;
        let path = fs::canonicalize(path).with_context(refused)?;
        let made_for = format!(
            "--nodes-per-region {} --engine {engine}",
            shape.nodes_per_region
        );
        let note = path.join(MADE_FOR);
        match fs::read_to_string(&note) {
            Ok(before) if before.trim() == made_for => {}
            Ok(before) => bail!(
                "--data-dir {} was made by a demo with `{}`: say the same, or name another directory",
                path.display(),
                before.trim()
            ),
            Err(_) if fs::read_dir(&path).with_context(refused)?.next().is_some() => bail!(
                "--data-dir {} is not empty and no demo's: name another directory",
                path.display()
            ),
            Err(_) => fs::write(&note, made_for + "\n").with_context(refused)?,
        }
        Ok(Files {
            path,
            temporary: None,
        })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Keeps a temporary directory after all.
    pub(crate) fn keep(&mut self) {
        if let Some(temporary) = self.temporary.take() {
            self.path = temporary.keep();
        }
    }

    /// Whether an earlier demo may have written here.
    pub(crate) fn is_kept(&self) -> bool {
        self.temporary.is_none()
    }

    /// The cluster's id. New data is a new cluster: a session's token from an earlier demo is refused by name
    /// instead of waiting for writes that are gone.
    fn cluster(&self) -> String {
        match self.is_kept() {
            true => "demo".to_owned(),
            false => format!("demo-{:08x}", rand::random::<u32>()),
        }
    }

    /// Whether the data set was loaded completely.
    pub(crate) fn is_loaded(&self) -> bool {
        self.path.join(LOADED).exists()
    }

    /// Remembers that the data set was loaded completely.
    ///
    /// # Errors
    /// When the directory takes no file.
    pub(crate) fn set_loaded(&self) -> Result<()> {
        fs::write(self.path.join(LOADED), "").context("the data directory takes no file")
    }

    /// A node's settings file.
    pub(crate) fn settings(&self, name: &str) -> PathBuf {
        self.path.join(format!("{name}.toml"))
    }

    /// A node's log.
    pub(crate) fn log(&self, name: &str) -> PathBuf {
        self.path.join(format!("{name}.log"))
    }

    /// Writes the topology and every node's settings.
    ///
    /// # Errors
    /// When the directory takes no file.
    pub(crate) fn write_settings(
        &self,
        shape: &Shape,
        ports: Ports,
        plan: &[Planned],
        engine: &str,
    ) -> Result<()> {
        let write = |path: PathBuf, text: String| {
            let failed = || format!("can not write {}", path.display());
            fs::write(&path, text).with_context(failed)
        };
        write(
            self.path.join("topology.toml"),
            topology(shape, ports, &self.cluster()),
        )?;
        for node in 0..shape.nodes() {
            let text = settings(shape, ports, plan, engine, node);
            write(self.settings(&shape.node_name(node)), text)?;
        }
        Ok(())
    }

    /// The last lines of a node's log, indented; for errors.
    pub(crate) fn log_end(&self, name: &str) -> String {
        const LINES: usize = 8;
        let text = fs::read_to_string(self.log(name)).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let from = lines.len().saturating_sub(LINES);
        lines[from..].iter().fold(String::new(), |mut out, line| {
            let _ = write!(out, "\n  {line}");
            out
        })
    }
}

/// The topology file. The names need no quoting: they are ours.
fn topology(shape: &Shape, ports: Ports, cluster: &str) -> String {
    let mut text = format!("# Written by `hansa demo`.\ncluster_id = \"{cluster}\"\nepoch = 1\n");
    // Writing to a String does not fail, here and below.
    for (region, name) in REGIONS.iter().enumerate() {
        let _ = write!(text, "\n[[regions]]\nname = \"{name}\"\n");
        for node in shape.nodes_of(region) {
            let name = shape.node_name(node);
            let (peer, client) = (ports.peer(node), ports.client(node));
            let _ = write!(
                text,
                "\n[[regions.nodes]]\nname = \"{name}\"\npeer_address = \"{peer}\"\nclient_address = \"{client}\"\n"
            );
        }
    }
    for (name, value_type) in KEYSPACES {
        let replicas = shape.nodes_per_region;
        let _ = write!(
            text,
            "\n[[keyspaces]]\nname = \"{name}\"\ntype = \"{value_type}\"\nreplicas = {replicas}\n"
        );
    }
    text
}

/// One node's settings: it dials the nodes of other regions at its own links.
fn settings(shape: &Shape, ports: Ports, plan: &[Planned], engine: &str, node: usize) -> String {
    let name = shape.node_name(node);
    let (client, peer, metrics) = (ports.client(node), ports.peer(node), ports.metrics(node));
    let mut text = format!(
        "# Written by `hansa demo`.\nnode = \"{name}\"\ntopology = \"topology.toml\"\n\
         data_dir = \"{name}\"\nlisten = \"{client}\"\npeer_listen = \"{peer}\"\n\
         metrics_listen = \"{metrics}\"\nengine = \"{engine}\"\n\n[dial]\n"
    );
    for link in plan.iter().filter(|link| link.from == node) {
        let _ = writeln!(text, "{} = \"{}\"", shape.node_name(link.to), link.listen);
    }
    text
}

#[cfg(test)]
mod tests {
    use hansa_node::settings::{Partial, Settings};

    use super::super::links;
    use super::super::ports::BASE_DEFAULT;
    use super::*;

    #[test]
    fn nodes_accept_their_settings_and_dial_their_own_links() {
        let shape = Shape::new(2, &[]);
        let ports = Ports::new(BASE_DEFAULT, shape.nodes(), links::count(&shape)).unwrap();
        let plan = links::plan(&shape, ports);
        let files = Files::temporary().unwrap();
        files
            .write_settings(&shape, ports, &plan, "memory")
            .unwrap();
        for node in 0..shape.nodes() {
            let name = shape.node_name(node);
            let file = Partial::file(&files.settings(&name)).unwrap();
            let loaded = Settings::load(Partial::default(), Partial::default(), file).unwrap();
            assert_eq!(loaded.settings.listen, ports.client(node));
            assert_eq!(loaded.settings.dial.len(), 4, "the nodes of two regions");
            let own = shape.nodes_of(shape.region_of(node));
            for neighbour in own.map(|node| shape.node_name(node)) {
                assert!(!loaded.settings.dial.contains_key(&neighbour));
            }
        }
    }

    #[test]
    fn a_kept_directory_is_for_one_kind_of_demo() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kept");
        let one = Shape::new(1, &[]);
        for _ in 0..2 {
            assert!(Files::kept(&path, &one, "fjall").unwrap().is_kept());
        }
        let error = Files::kept(&path, &one, "sled").unwrap_err().to_string();
        assert!(error.contains("--engine fjall"), "{error}");
        fs::write(folder.path().join("mine"), "").unwrap();
        let error = Files::kept(folder.path(), &one, "fjall").unwrap_err();
        assert!(error.to_string().contains("no demo's"), "{error}");
    }

    #[test]
    fn a_temporary_directory_goes_unless_it_is_kept() {
        let files = Files::temporary().unwrap();
        let path = files.path().to_owned();
        drop(files);
        assert!(!path.exists());
        let mut files = Files::temporary().unwrap();
        files.keep();
        let path = files.path().to_owned();
        drop(files);
        assert!(path.exists());
        fs::remove_dir_all(path).unwrap();
    }
}
