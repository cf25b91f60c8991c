//! What a run needs of the database that it tests: clients, faults, and the state at the end.
//!
//! Hansa is one target, started by the harness as real processes; etcd is another, which shows that the checkers
//! have teeth that are not ours.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::history::Record;
use crate::nemesis::{Action, Effect, Layout, NodeIndex, Refused};
use crate::workload::Intent;

pub mod etcd;
pub mod hansa;

/// The number of the first process that reads final states; those of a run's clients are below it.
pub const FINAL_PROCESS: u64 = 1_000_000;

/// A running cluster. The methods that change it are called one after the other.
pub trait Target: Send {
    /// Its clients.
    type Client: TargetClient + 'static;

    /// Regions and nodes.
    fn layout(&self) -> Layout;

    /// The name of a region, as in histories.
    fn region_name(&self, region: usize) -> String;

    /// The name of a node, as in histories.
    fn node_name(&self, node: NodeIndex) -> String;

    /// Whether all faults are brought about through [`Target::act`], so that it is known what is cut when.
    fn brings_faults(&self) -> bool {
        true
    }

    /// A client that asks a node, and no other until it is moved. It has a session of its own.
    ///
    /// # Errors
    /// When it can not be made; a node that does not run is no reason.
    fn client(&self, process: u64, node: NodeIndex) -> anyhow::Result<Self::Client>;

    /// Carries an action out. Returns when it is in force, and whether it changed anything; a node that was started
    /// need not be ready.
    ///
    /// # Errors
    /// [`Refused`].
    fn act(&mut self, action: Action) -> impl Future<Output = Result<Effect, Refused>> + Send;

    /// Ends all faults and starts every node that does not run. Returns without waiting for readiness.
    ///
    /// # Errors
    /// When a process can not be started.
    fn heal(&mut self) -> impl Future<Output = anyhow::Result<()>> + Send;

    /// Waits until nothing is under way any more: every node up and reaching all others, lag zero, equal digests.
    /// Returns how long that took.
    ///
    /// # Errors
    /// What was still missing after `within`, in words.
    fn settle(&mut self, within: Duration)
    -> impl Future<Output = Result<Duration, String>> + Send;

    /// The state of these keys in every region, and the digests of every node: `final` and `digest` lines of a
    /// history. A read that fails is a line too.
    fn finals(
        &mut self,
        keys: &[String],
        clock: RunClock,
    ) -> impl Future<Output = Vec<Record>> + Send;

    /// How often rare paths were taken, over all nodes and all their lives, by name.
    fn probes(&mut self) -> impl Future<Output = BTreeMap<String, u64>> + Send;

    /// What each running node uses now.
    fn usage(&mut self) -> impl Future<Output = Vec<Usage>> + Send;

    /// Processes that ended although nobody ended them, since the last question; in words. A clean run has none.
    fn deaths(&mut self) -> Vec<String>;

    /// Ends everything. When it returns no process is left. Says which processes did not end as they should, in words;
    /// those that [`Target::deaths`] did not tell of yet are among them. After a clean run there are none.
    fn stop(self) -> impl Future<Output = Vec<String>> + Send;
}

/// How often a client repeats a write whose outcome is unknown under its request id, permille; else it lets it be. The
/// simulator's clients do the same.
pub const REPEAT_PERMILLE: u64 = 700;

/// One logical client of a target: one operation at a time.
pub trait TargetClient: Send {
    /// Asks this node from now on; the session comes along by its exported token.
    fn move_to(&mut self, node: NodeIndex);

    /// Does what is intended and tells how it went: a whole line of the history but for `run` and `seed`. An
    /// attempt whose outcome is unknown may be repeated by the target's own client where that is safe; it is one line.
    ///
    /// Ends within the deadline and a second.
    fn perform(
        &mut self,
        intent: &Intent,
        clock: RunClock,
        deadline: Duration,
    ) -> impl Future<Output = Record> + Send;

    /// Repeats the last operation under its request id, at the node that is asked now, when it had one and nobody knows
    /// what became of it: another line of the history with the same request id. `None` when there is nothing to repeat,
    /// and of targets without request ids.
    ///
    /// Ends within the deadline and a second.
    fn repeat(
        &mut self,
        _clock: RunClock,
        _deadline: Duration,
    ) -> impl Future<Output = Option<Record>> + Send {
        std::future::ready(None)
    }
}

/// The one clock of a run's history.
#[derive(Clone, Copy, Debug)]
pub struct RunClock(std::time::Instant);

impl RunClock {
    /// A clock that starts now.
    #[must_use]
    pub fn start() -> RunClock {
        RunClock(std::time::Instant::now())
    }

    /// Time since its start.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }

    /// Nanoseconds since its start.
    #[must_use]
    pub fn now_ns(&self) -> u64 {
        u64::try_from(self.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// What a node uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Which.
    pub node: NodeIndex,
    /// Resident memory, bytes.
    pub memory: u64,
    /// Size of its data directory, bytes.
    pub disk: u64,
    /// Open files.
    pub files: u64,
}
