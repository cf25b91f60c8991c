//! Second processes of nodes, on copies of their data: what a copied disk image does to a cluster.

use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::data;
use super::files::Copy;
use super::process::Process;
use crate::nemesis::NodeIndex;

/// How long a copy may run before it is killed.
const RUNS: Duration = Duration::from_secs(3);

/// One copy that runs, or ran.
struct Running {
    node: NodeIndex,
    /// Ends it when it is dropped.
    end: oneshot::Sender<()>,
    done: JoinHandle<()>,
}

/// All copies that were started and not ended.
#[derive(Default)]
pub(super) struct Copies(Vec<Running>);

impl Copies {
    /// Lets a copy run for 3 s, or until it ends by itself or all are ended; then it and its data are gone.
    pub(super) fn watch(&mut self, node: NodeIndex, process: Process, copy: Copy) {
        let (end, ended) = oneshot::channel();
        let done = tokio::spawn(async move {
            // Told to end or not: the time is up.
            let _ = timeout(RUNS, ended).await;
            // An error means that it is gone already.
            let _ = process.kill().await;
            // What can not be removed goes with the cluster's directory.
            let _ = data::wipe(&copy.data);
        });
        self.0.push(Running { node, end, done });
    }

    /// Ends those of a node; when it returns no process of theirs is left. Returns whether there were any since the
    /// last question.
    pub(super) async fn end(&mut self, node: NodeIndex) -> bool {
        let (its, others) = self.0.drain(..).partition(|it| it.node == node);
        self.0 = others;
        let its: Vec<Running> = its;
        let any = !its.is_empty();
        for Running { end, done, .. } in its {
            drop(end);
            // It failed only if it panicked, and then the process went with it.
            let _ = done.await;
        }
        any
    }
}
