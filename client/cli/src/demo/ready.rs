//! When the cluster is ready: every node votes and reaches every other one.

use std::time::Duration;

use anyhow::{Result, bail};
use hansa_client::Admin;
use hansa_client::admin::{Standing, StatusReply};
use tokio::time::{Instant, sleep};

use super::files::Files;
use super::launcher::Launcher;
use super::ports::Ports;
use super::shape::Shape;

/// How long the cluster may take. It takes about a second; a loaded machine takes longer.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// How long a question to one node may take.
const ASK_WITHIN: Duration = Duration::from_secs(1);

/// Between two looks. The nodes tell nobody when they are ready: they have to be asked.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How a node sees itself and its peers; `None` when it does not answer.
pub(crate) async fn status(ports: Ports, node: usize) -> Option<StatusReply> {
    let admin = admin(ports, node).await?;
    admin.status().await.ok()
}

/// A connection to a node's admin service; `None` when it does not answer.
pub(crate) async fn admin(ports: Ports, node: usize) -> Option<Admin> {
    let url = format!("http://{}", ports.client(node));
    Admin::connect(&url, ASK_WITHIN).await.ok()
}

/// Whether a node votes, takes writes and reaches all its peers.
pub(crate) fn is_ready(status: &StatusReply) -> bool {
    status.standing == i32::from(Standing::Voting)
        && status.writable
        && status.strong_available
        && status.peers.iter().all(|peer| peer.reachable && peer.votes)
}

/// Waits until all nodes are ready.
///
/// # Errors
/// When a node ends, or not all are ready within 30 s; with what is missing and the end of a log.
pub(crate) async fn wait(
    shape: &Shape,
    ports: Ports,
    files: &Files,
    launcher: &mut Launcher,
) -> Result<()> {
    let give_up = Instant::now() + READY_WITHIN;
    for node in 0..shape.nodes() {
        loop {
            if let Some((name, how)) = launcher.ended().into_iter().next() {
                bail!(
                    "{name} ended at its start, {how}; its log ends with{}",
                    files.log_end(&name)
                );
            }
            let status = status(ports, node).await;
            if status.as_ref().is_some_and(is_ready) {
                break;
            }
            if Instant::now() >= give_up {
                let name = shape.node_name(node);
                let why = explain(status.as_ref());
                bail!(
                    "{name} is not ready after 30 s: {why}; its log ends with{}",
                    files.log_end(&name)
                );
            }
            sleep(LOOK_EVERY).await;
        }
    }
    Ok(())
}

/// What a node lacks to be ready.
fn explain(status: Option<&StatusReply>) -> String {
    let Some(status) = status else {
        return "it does not answer".to_owned();
    };
    let missing: Vec<&str> = status
        .peers
        .iter()
        .filter(|peer| !peer.reachable || !peer.votes)
        .map(|peer| peer.node.as_str())
        .collect();
    match (status.standing == i32::from(Standing::Voting), &missing[..]) {
        (false, _) => "it does not vote yet".to_owned(),
        (true, []) => "it takes no writes or sees no quorum".to_owned(),
        (true, missing) => format!("it misses {}", missing.join(", ")),
    }
}
