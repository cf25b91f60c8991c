//! The demo's nodes as child processes: started, watched, killed by their process id, waited for.

use std::fs::{File, OpenOptions};
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, ChildStdin, Command};
use tokio::time::timeout;

use super::files::Files;
use super::shape::Shape;

/// How long a node may take to stop by itself; longer than it gives its own open requests.
const STOP_WITHIN: Duration = Duration::from_secs(12);

/// A node that runs.
struct Running {
    child: Child,
    /// Held open, never written: see [`super::lifeline`].
    _lifeline: Option<ChildStdin>,
}

/// All nodes, running or not.
pub(crate) struct Launcher {
    names: Vec<String>,
    running: Vec<Option<Running>>,
}

impl Launcher {
    /// Starts every node. Those that are up when one can not be started end with the return.
    ///
    /// # Errors
    /// When a process can not be started or a log not be opened.
    pub(crate) fn start(shape: &Shape, files: &Files) -> Result<Launcher> {
        let names: Vec<String> = (0..shape.nodes())
            .map(|node| shape.node_name(node))
            .collect();
        let running = names.iter().map(|name| spawn(files, name).map(Some));
        Ok(Launcher {
            running: running.collect::<Result<_>>()?,
            names,
        })
    }

    /// Starts a node again that has ended.
    ///
    /// # Errors
    /// When it still runs, or can not be started.
    pub(crate) fn restart(&mut self, node: usize, files: &Files) -> Result<()> {
        if self.running[node].is_some() {
            bail!("{} still runs", self.names[node]);
        }
        self.running[node] = Some(spawn(files, &self.names[node])?);
        Ok(())
    }

    /// Ends a node with SIGKILL and waits for it.
    ///
    /// # Errors
    /// When it did not run.
    pub(crate) async fn kill(&mut self, node: usize) -> Result<()> {
        let name = &self.names[node];
        let mut running = self.running[node]
            .take()
            .with_context(|| format!("{name} does not run"))?;
        running
            .child
            .kill()
            .await
            .with_context(|| format!("can not kill {name}"))
    }

    /// Nodes that ended without being told to, with how they did; each is reported once.
    pub(crate) fn ended(&mut self) -> Vec<(String, ExitStatus)> {
        let mut ended = Vec::new();
        for (name, slot) in self.names.iter().zip(&mut self.running) {
            let status = slot
                .as_mut()
                .and_then(|it| it.child.try_wait().ok().flatten());
            if let Some(status) = status {
                ended.push((name.clone(), status));
                *slot = None;
            }
        }
        ended
    }

    /// Stops all nodes: SIGTERM, and SIGKILL for those that are not gone within 12 s. When it returns
    /// none is left. Names those that had to be killed.
    pub(crate) async fn stop(mut self) -> Vec<String> {
        for running in self.running.iter().flatten() {
            terminate(&running.child);
        }
        let mut killed = Vec::new();
        for (name, slot) in self.names.iter().zip(&mut self.running) {
            let Some(running) = slot else { continue };
            if timeout(STOP_WITHIN, running.child.wait()).await.is_err() {
                // An error means that it is gone: there is nothing left to do.
                let _ = running.child.kill().await;
                killed.push(name.clone());
            }
        }
        killed
    }
}

fn terminate(child: &Child) {
    // No id means that it has ended and was waited for.
    let id = child.id().and_then(|id| i32::try_from(id).ok());
    if let Some(id) = id.and_then(Pid::from_raw) {
        // It may end at this moment: the wait that follows tells.
        let _ = kill_process(id, Signal::TERM);
    }
}

fn spawn(files: &Files, name: &str) -> Result<Running> {
    let program = std::env::current_exe().context("the path of this program is not known")?;
    let log = open_log(&files.log(name))?;
    let errors = log.try_clone().context("the log can not be opened twice")?;
    let mut command = Command::new(program);
    command
        .args(["serve", "--parent-pipe", "--config"])
        .arg(files.settings(name))
        .current_dir(files.path())
        .stdin(Stdio::piped())
        .stdout(log)
        .stderr(errors)
        // Ctrl-C on the terminal is for the demo, which stops its nodes in order.
        .process_group(0)
        .kill_on_drop(true);
    // Variables win over files: what is meant for clients must not reach the nodes.
    let ours = std::env::vars_os().map(|(name, _)| name);
    for variable in ours.filter(|name| name.as_encoded_bytes().starts_with(b"HANSA_")) {
        command.env_remove(variable);
    }
    let failed = || format!("the node {name} can not be started");
    let mut child = command.spawn().with_context(failed)?;
    // Out of the child: waiting for a child closes the input that it still holds.
    let lifeline = child.stdin.take();
    Ok(Running {
        child,
        _lifeline: lifeline,
    })
}

fn open_log(path: &Path) -> Result<File> {
    let mut options = OpenOptions::new();
    let opened = options.create(true).append(true).open(path);
    opened.with_context(|| format!("can not write the log {}", path.display()))
}
