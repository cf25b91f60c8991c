//! The running demo: links, nodes and clients, from start to stop.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use hansa_client::Client;
use hansa_node::settings::Settings;
use tokio::time::Instant;

use super::DemoArgs;
use super::dataset;
use super::files::Files;
use super::launcher::Launcher;
use super::links::{self, Links};
use super::ports::Ports;
use super::ready;
use super::shape::{REGIONS, Shape};

/// Everything that runs.
pub(crate) struct Cluster {
    pub(crate) shape: Shape,
    pub(crate) ports: Ports,
    pub(crate) files: Files,
    pub(crate) links: Arc<Links>,
    pub(crate) launcher: Launcher,
    /// One client per region that stays there.
    pub(crate) clients: Vec<Client>,
    /// Time from the start until all links were up and all nodes voted.
    pub(crate) ready_after: Duration,
}

impl Cluster {
    /// Starts links and nodes and waits until the cluster is ready, or until `stop` is done: then
    /// there is none. After an error and after a stop nothing is left running.
    ///
    /// # Errors
    /// When a port is taken, a directory can not be used, or a node does not get ready.
    pub(crate) async fn start(
        args: &DemoArgs,
        stop: impl Future<Output = ()>,
    ) -> Result<Option<Cluster>> {
        let started = Instant::now();
        let shape = Shape::new(args.nodes_per_region, &args.rtt);
        let ports = Ports::new(args.port_base, shape.nodes(), links::count(&shape))?;
        ports.check_free()?;
        let files = match &args.data_dir {
            Some(path) => Files::kept(path, &shape, &args.engine)?,
            None => Files::temporary()?,
        };
        let plan = links::plan(&shape, ports);
        files.write_settings(&shape, ports, &plan, &args.engine)?;
        check_settings(&shape, &files)?;
        let links = Arc::new(Links::start(&shape, &plan).await?);
        let mut launcher = Launcher::start(&shape, &files)?;
        let started_up = async {
            ready::wait(&shape, ports, &files, &mut launcher).await?;
            clients(&shape, ports).await.map(Some)
        };
        let clients = tokio::select! {
            clients = started_up => clients,
            () = stop => Ok(None),
        };
        match clients {
            Ok(Some(clients)) => Ok(Some(Cluster {
                shape,
                ports,
                files,
                links,
                launcher,
                clients,
                ready_after: started.elapsed(),
            })),
            other => {
                launcher.stop().await;
                other.map(|_| None)
            }
        }
    }

    /// Loads the data set unless a kept directory has it; the number of lines loaded.
    ///
    /// # Errors
    /// When a write fails.
    pub(crate) async fn load(&self) -> Result<usize> {
        if self.files.is_loaded() {
            return Ok(0);
        }
        let lines = dataset::load(&self.clients, self.files.is_kept()).await?;
        self.files.set_loaded()?;
        Ok(lines)
    }

    /// Stops everything; when it returns no process is left. Names the nodes that had to be killed.
    pub(crate) async fn stop(self) -> Vec<String> {
        // First the clients: nodes wait for open streams when they stop.
        drop(self.clients);
        let killed = self.launcher.stop().await;
        if let Some(links) = Arc::into_inner(self.links) {
            links.shutdown().await;
        }
        killed
    }
}

/// Lets the node's own check look at the files before a child process trips over them.
fn check_settings(shape: &Shape, files: &Files) -> Result<()> {
    use hansa_node::settings::Partial;
    let name = shape.node_name(0);
    let checked = Partial::file(&files.settings(&name))
        .and_then(|file| Settings::load(Partial::default(), Partial::default(), file));
    checked.map(drop).context("the demo's settings are wrong")
}

async fn clients(shape: &Shape, ports: Ports) -> Result<Vec<Client>> {
    let mut clients = Vec::with_capacity(REGIONS.len());
    for (region, name) in REGIONS.into_iter().enumerate() {
        let mut builder = Client::builder().region(name).stay_in_region();
        for node in shape.nodes_of(region) {
            builder = builder.endpoint(name, format!("http://{}", ports.client(node)));
        }
        clients.push(builder.build().await?);
    }
    Ok(clients)
}
