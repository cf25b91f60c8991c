//! How fast it is: one generator for Hansa and its peers, on the clusters that the harness starts.
//!
//! Reading order: `mix.rs` and `keys.rs` (what is asked), `schedule.rs` (when), `peer.rs` (whom), `load.rs` (all together),
//! `figures.rs` (what came of it), `bars.rs` (what has to come of it), `gaps.rs` (what a lost
//! region costs), `sweep.rs` (how it grows), `document.rs` (all of it, for others). No history is written and nothing is judged but
//! speed.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde::Serialize;
use tempfile::TempDir;
use tokio::runtime::{Builder, Handle, Runtime};

pub mod bars;
pub mod document;
mod figures;
pub mod gaps;
pub mod keys;
mod load;
mod machine;
pub mod mix;
mod peer;
mod redis;
mod schedule;
pub mod sweep;
pub mod table;
#[cfg(test)]
pub(crate) mod testing;

pub use figures::Row;
pub use load::{CLIENTS_MAX, Load, VALUE_BYTES_MAX};
pub use peer::{Database, Setup};
pub use schedule::Schedule;

use figures::Tally;
use load::Measured;
use peer::{Connection, Peer};

/// Above this part of one processor the generator is what was measured.
pub const GENERATOR_BUSY_MAX: f64 = 0.8;

/// One load on one cluster, measured.
#[derive(Clone, Debug, Serialize)]
pub struct Run {
    /// The database.
    pub target: Database,
    /// The load, by name.
    pub series: String,
    /// `open` where operations are due at times that the rate draws and latency counts from then; `closed` where a
    /// client asks again when it was answered.
    pub schedule: &'static str,
    /// Operations a second that were asked for, in an open loop.
    pub rate: Option<f64>,
    /// Clients of each region.
    pub clients: Vec<usize>,
    /// What else was set.
    pub settings: Settings,
    /// Round trips between the regions, in the order (0, 1), (0, 2), (1, 2) for three.
    pub wan_ms: Vec<f64>,
    /// How long operations counted.
    pub seconds: f64,
    /// The median of 200 disk syncs, right before the load or right after it, whichever is worse.
    pub sync_p50_ms: f64,
    /// Processor time of all server processes for each operation; `None` when there was none.
    pub server_cpu_us_per_op: Option<f64>,
    /// Processor time of the generator for each operation.
    pub generator_cpu_us_per_op: Option<f64>,
    /// What part of its one processor the generator used.
    pub generator_busy: f64,
    /// Memory of each server process at the end, bytes.
    pub resident_bytes: Vec<u64>,
    /// Operations that were due and that no client came to begin.
    pub not_begun: u64,
    /// By operation, level and region; then the same for all regions together.
    pub rows: Vec<Row>,
}

/// The settings of a load and its cluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Settings {
    /// Regions.
    pub regions: usize,
    /// Nodes in each.
    pub nodes_per_region: usize,
    /// The storage engine of Hansa.
    pub engine: String,
    /// The part of each operation.
    pub mix: BTreeMap<&'static str, f64>,
    /// The part of each level.
    pub levels: BTreeMap<&'static str, f64>,
    /// Keys that were there before.
    pub keys: u64,
    /// Whose keys a region asked for.
    pub keys_of: keys::Share,
    /// How much some keys were preferred.
    pub skew: f64,
    /// The length of values.
    pub value_bytes: usize,
    /// What did not count, seconds.
    pub warm_up_seconds: f64,
    /// What everything was drawn from.
    pub seed: u64,
}

impl Settings {
    fn of(setup: &Setup, load: &Load) -> Settings {
        Settings {
            regions: setup.layout.regions,
            nodes_per_region: setup.layout.nodes_per_region,
            engine: setup.engine.clone(),
            mix: load.mix.kinds.shares(mix::Kind::name),
            levels: load.levels.shares(mix::level_name),
            keys: load.keys,
            keys_of: load.share,
            skew: load.skew,
            value_bytes: load.value_bytes,
            warm_up_seconds: load.warm_up.as_secs_f64(),
            seed: load.seed,
        }
    }
}

impl Run {
    /// The row of an operation in a region; `all` is one.
    #[must_use]
    pub fn row(&self, operation: mix::Kind, region: &str) -> Option<&Row> {
        let mut rows = self.rows.iter();
        rows.find(|row| row.operation == operation && row.region == region)
    }

    fn of(
        (target, series): (Database, &str),
        (setup, load): (&Setup, &Load),
        measured: &Measured,
        (sync_p50, resident_bytes): (Duration, Vec<u64>),
    ) -> Run {
        let ms = |time: Duration| time.as_secs_f64() * 1000.0;
        let mut all = Tally::default();
        let mut rows = Vec::new();
        let spec = setup.spec();
        for (region, tally) in measured.tallies.iter().enumerate() {
            let name = spec.region_name(region);
            rows.extend(tally.rows(&name, Some(setup.limit(region)), measured.seconds));
            all.add(tally);
        }
        rows.extend(all.rows(ALL_REGIONS, None, measured.seconds));
        let operations = all.ended();
        let each = |cpu: f64| (operations > 0).then(|| cpu * 1e6 / operations as f64);
        Run {
            target,
            series: series.to_owned(),
            schedule: if load.rate.is_some() {
                "open"
            } else {
                "closed"
            },
            rate: load.rate,
            clients: load.clients.clone(),
            settings: Settings::of(setup, load),
            wan_ms: setup.pairs().into_iter().map(ms).collect(),
            seconds: measured.seconds,
            sync_p50_ms: ms(sync_p50),
            server_cpu_us_per_op: each(measured.server_cpu),
            generator_cpu_us_per_op: each(measured.generator_cpu),
            generator_busy: measured.generator_cpu / measured.seconds.max(1e-9),
            resident_bytes,
            not_begun: measured.not_begun,
            rows,
        }
    }
}

/// The name of all regions together.
pub const ALL_REGIONS: &str = "all";

/// The runtime of the generator: one thread of its own, so that its processor time is told from the link proxies', which
/// run in the same process.
///
/// # Errors
/// When the system has no thread left.
pub fn generator() -> Result<Runtime> {
    let runtime = Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name(machine::GENERATOR_THREAD)
        .enable_all()
        .build();
    runtime.context("no runtime for the generator")
}

/// A cluster with connections to it, on which one load after the other is measured.
pub struct Bench {
    database: Database,
    setup: Setup,
    peer: Peer,
    connections: Vec<Vec<Connection>>,
    generator: Handle,
    /// Last: the data is on it.
    folder: TempDir,
}

impl Bench {
    /// Starts a cluster and connects to it.
    ///
    /// # Errors
    /// When it can not be started or reached.
    pub async fn start(database: Database, setup: &Setup, generator: &Handle) -> Result<Bench> {
        let folder = tempfile::Builder::new().prefix("hansa-bench-").tempdir();
        let folder = folder.context("no temporary directory could be made")?;
        let peer = Peer::start(database, setup, folder.path()).await?;
        match load::connect(&peer, setup, generator).await {
            Ok(connections) => Ok(Bench {
                database,
                setup: setup.clone(),
                peer,
                connections,
                generator: generator.clone(),
                folder,
            }),
            Err(error) => {
                peer.stop().await;
                Err(error)
            }
        }
    }

    /// Writes the keys of a load, waits until all nodes hold them, and measures it.
    ///
    /// # Errors
    /// When the load is out of bounds, or the keys can not be written or do not arrive everywhere.
    pub async fn measure(&mut self, series: &str, load: &Load) -> Result<Run> {
        load.check(self.setup.layout.regions)?;
        self.database.check(&self.setup, &load.mix, &load.levels)?;
        load::fill(load, &self.connections, &self.generator).await?;
        self.peer.settle().await?;
        let sync = machine::sync_p50(self.folder.path())?;
        let processes = self.peer.processes();
        let cpu = || (machine::cpu_of(&processes), machine::cpu_of_generator());
        let measured = load::measure(load, &self.connections, &self.generator, cpu).await?;
        if self.peer.processes() != processes {
            bail!("a node ended under load");
        }
        let resident = self.peer.resident();
        let after = machine::sync_p50(self.folder.path())?;
        let seen = (sync.max(after), resident);
        let what = (self.database, series);
        Ok(Run::of(what, (&self.setup, load), &measured, seen))
    }

    /// Ends the cluster.
    ///
    /// # Errors
    /// When a node ended by itself, or not as it should.
    pub async fn stop(self) -> Result<()> {
        // Nodes wait for open streams when they stop, and those end on the generator's runtime.
        drop(self.connections);
        let wrong = self.peer.stop().await;
        match wrong.is_empty() {
            true => Ok(()),
            false => bail!("{}", wrong.join("\n")),
        }
    }
}
