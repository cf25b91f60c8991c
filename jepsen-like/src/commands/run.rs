//! `hansa-jepsen run`: real processes, real faults, a verdict.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use clap::{Args, ValueEnum};

use crate::cluster::{Spec, Wires};
use crate::disk;
use crate::history::Level;
use crate::nemesis::{Layout, Nemesis, Refused};
use crate::report;
use crate::run::{self, Options, Outcome, Round, progress};
use crate::target::etcd::{self, EtcdOptions, Reads};
use crate::target::hansa::{HansaTarget, RemoteTarget};
use crate::wan;
use crate::workload::name_of;

/// Longest run that can be asked for: a month.
const HOURS_MAX: u64 = 720;
/// The load of a round where nothing else is said, seconds.
const ROUND: u64 = 8;
/// Where nothing is said of rounds, so many seconds of a run have one: five minutes have thirty.
const ROUND_EACH: u64 = 10;
/// An operation is given up after this.
const DEADLINE: Duration = Duration::from_millis(2_500);
/// How long after healing everything must be quiet and equal.
const SETTLE_WITHIN: Duration = Duration::from_secs(60);

/// What to run, and where.
#[derive(Args, Debug)]
pub struct RunArgs {
    /// The database to run against.
    #[arg(long, value_enum, default_value = "hansa")]
    target: Kind,
    /// Of `--target remote`: the URL of any node's client port.
    #[arg(long)]
    endpoint: Option<String>,
    /// Workloads, by name or `all`; all when it is not given, and of etcd `register`.
    #[arg(long, value_delimiter = ',')]
    workload: Vec<String>,
    /// Levels, by name or `all`: eventual, session, strong and mixed; all when it is not given, and of etcd `strong`.
    #[arg(long, value_delimiter = ',')]
    levels: Vec<String>,
    /// Kinds of fault, by name or `all`; `calm` for none.
    #[arg(long, value_delimiter = ',', default_value = "all")]
    nemesis: Vec<String>,
    /// Kinds of fault to leave out of those.
    #[arg(long, value_enum, value_delimiter = ',')]
    without: Vec<Nemesis>,
    /// The whole run, seconds; a round that has begun is finished.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=HOURS_MAX * 3600))]
    time: u64,
    /// The load of one round, seconds, at most; 8 when it is not given.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=3600))]
    round: Option<u64>,
    /// Rounds to do in that time: loads get shorter for it, to a quarter at most. One each 10 s when neither this nor
    /// --round is given.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rounds: Option<u32>,
    /// Everything that varies is drawn from it; a new one each time when it is not given.
    #[arg(long)]
    seed: Option<u64>,
    /// Regions; 3 when it is not given, and 5 for rounds whose faults need them.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=7))]
    regions: Option<u16>,
    /// Nodes in each region.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=5))]
    nodes_per_region: u16,
    /// Clients that begin at each node.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=256))]
    clients: u16,
    /// Longest pause of a client between two operations, milliseconds.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=60_000))]
    think: u64,
    /// The storage engine of the nodes: fjall or sled.
    #[arg(long, default_value = "fjall")]
    engine: String,
    /// The `hansa` to start; else the one beside this program.
    #[arg(long)]
    bin: Option<PathBuf>,
    /// Where histories, the verdict and the report go.
    #[arg(long, default_value = "jepsen-run")]
    out: PathBuf,
    /// Take up the run in this folder where it ended.
    #[arg(long, conflicts_with = "replace")]
    resume: bool,
    /// Remove the run that is in this folder first.
    #[arg(long)]
    replace: bool,
    /// Histories of clean rounds that are kept, the newest ones.
    #[arg(long, default_value_t = 1000)]
    keep: usize,
    /// What connects the nodes; hosts need root.
    #[arg(long, value_enum, default_value = "proxies")]
    wires: Wires,
    /// Nodes without changeable clocks and disks: faster, and the faults that need them are not done.
    #[arg(long)]
    plain: bool,
}

/// How long to go on.
#[derive(Args, Debug)]
pub struct SoakArgs {
    /// The whole run, hours.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=HOURS_MAX))]
    hours: u64,
    #[command(flatten)]
    run: RunArgs,
}

/// Runs for hours; bounded in what it keeps, and taken up again with `--resume`.
///
/// # Errors
/// As [`run()`].
pub fn soak(args: SoakArgs) -> anyhow::Result<bool> {
    run(RunArgs {
        time: args.hours * 3600,
        keep: args.run.keep.min(50),
        ..args.run
    })
}

/// Runs, tells about every round on standard output, and says whether all was clean.
///
/// # Errors
/// When an option is wrong, no cluster can be started, or a file not be written.
pub fn run(args: RunArgs) -> anyhow::Result<bool> {
    let args = args.completed();
    let options = args.options()?;
    println!(
        "seed {}; histories in {}",
        options.seed,
        options.folder.display()
    );
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("no runtime")?;
    let told = |round: &Round| println!("{}", progress::line(round));
    let work = async {
        match args.target {
            Kind::Hansa => {
                let start = async |kinds: &[Nemesis]| hansa(args.spec(&options, kinds)).await;
                run::run(&options, start, told).await
            }
            Kind::Remote => {
                let url = args.endpoint.as_deref();
                let url =
                    url.context("--target remote needs --endpoint URL: any node's client port")?;
                let start = async |_: &[Nemesis]| RemoteTarget::connect(url).await;
                run::run(&options, start, told).await
            }
            Kind::Etcd => args.on_etcd(&options, Reads::Linearizable, told).await,
            Kind::EtcdSerializable => args.on_etcd(&options, Reads::Serializable, told).await,
        }
    };
    let outcome = runtime.block_on(async {
        tokio::select! {
            outcome = work => outcome,
            // What is dropped here ends its processes and mounts.
            _ = tokio::signal::ctrl_c() => bail!("interrupted; --resume takes the run up"),
        }
    })?;
    println!("{}", progress::closing(&outcome));
    let page = options.folder.join(report::FILE);
    let histories = report::in_folder(&options.folder);
    report::write(
        &outcome,
        &args.replay(&options),
        &gaps(&outcome),
        &histories,
        &page,
    )?;
    println!("report: {}", page.display());
    Ok(outcome.is_clean())
}

/// Starts a cluster; without what this machine does not permit, each of which is told.
async fn hansa(mut spec: Spec) -> anyhow::Result<HansaTarget> {
    loop {
        let error = match HansaTarget::start(spec.clone()).await {
            Ok(target) => return Ok(target),
            Err(error) => error,
        };
        let Some(Refused::NotHere(why)) = error.downcast_ref::<Refused>() else {
            return Err(error);
        };
        println!("not possible here: {why}");
        if spec.disks && disk::possible().is_err() {
            spec.disks = false;
        } else if spec.wires == Wires::Hosts && wan::possible().is_err() {
            spec.wires = Wires::Proxies;
        } else if spec.clocks {
            spec.clocks = false;
        } else {
            return Err(error);
        }
    }
}

/// The database to run against.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// Hansa, started here.
    Hansa,
    /// A Hansa cluster that runs already, without faults of ours.
    Remote,
    /// etcd, started here, with linearizable reads.
    Etcd,
    /// etcd with serializable reads that are taken for linearizable ones: this has to be caught.
    EtcdSerializable,
}

/// The gaps of a run, as the report shows them.
fn gaps(outcome: &Outcome) -> Vec<report::Gap> {
    let rounds = outcome.rounds.iter();
    let gaps = rounds.flat_map(|round| round.gaps.iter().map(|gap| (round.number, gap)));
    let shown = gaps.map(|(round, gap)| report::Gap {
        round,
        level: gap.level,
        region: gap
            .region
            .clone()
            .unwrap_or_else(|| "the majority".to_owned()),
        begin_ns: gap.from_ns,
        end_ns: gap.until_ns,
        during: match gap.level {
            Level::Strong => "a majority was connected".to_owned(),
            Level::Eventual | Level::Session => "the region was isolated".to_owned(),
        },
    });
    shown.collect()
}

impl RunArgs {
    /// The same with what is not given and depends on the database.
    fn completed(mut self) -> RunArgs {
        let (workload, levels) = match self.target {
            Kind::Hansa | Kind::Remote => ("all", "all"),
            Kind::Etcd | Kind::EtcdSerializable => ("register", "strong"),
        };
        for (given, otherwise) in [(&mut self.workload, workload), (&mut self.levels, levels)] {
            if given.is_empty() {
                given.push(otherwise.to_owned());
            }
        }
        self
    }

    fn layout(&self, kinds: &[Nemesis]) -> Layout {
        let needed = kinds.iter().map(|kind| kind.regions_min()).max();
        Layout {
            regions: self.regions.map_or(needed.unwrap_or(3).max(3), usize::from),
            nodes_per_region: self.nodes_per_region.into(),
        }
    }

    fn options(&self) -> anyhow::Result<Options> {
        if self.replace {
            run::remove(&self.out)?;
        }
        let before = Outcome::read(&self.out)?;
        let done = match (self.resume, before) {
            (true, None) => bail!("--resume: there is no verdict in {}", self.out.display()),
            (false, Some(_)) => bail!(
                "--out {}: there is a verdict already; take it up with --resume, remove it with --replace, or name another folder",
                self.out.display()
            ),
            (_, before) => before,
        };
        let drawn = || self.seed.unwrap_or_else(rand::random);
        if let (Some(done), Some(seed)) = (&done, self.seed) {
            let before = done.seed;
            ensure!(
                seed == before,
                "--resume: --seed was {before} and is {seed}; leave it out"
            );
        }
        Ok(Options {
            seed: done.as_ref().map_or_else(drawn, |done| done.seed),
            workloads: chosen("workload", &self.workload)?,
            levels: chosen("levels", &self.levels)?,
            nemeses: {
                let mut nemeses = chosen("nemesis", &self.nemesis)?;
                nemeses.retain(|kind| !self.without.contains(kind));
                nemeses
            },
            time: Duration::from_secs(self.time),
            round: Duration::from_secs(self.round.unwrap_or(ROUND)),
            rounds: match (self.rounds, self.round) {
                (Some(rounds), _) => rounds,
                // Their length was asked for: there are as many as fit.
                (None, Some(_)) => 0,
                (None, None) => u32::try_from(self.time / ROUND_EACH).unwrap_or(u32::MAX),
            },
            clients_per_node: self.clients.into(),
            think: Duration::from_millis(self.think),
            deadline: DEADLINE,
            settle_within: SETTLE_WITHIN,
            folder: self.out.clone(),
            prefix: match self.target {
                Kind::Remote => format!("{:08x}-", rand::random::<u32>()),
                _ => String::new(),
            },
            keep: self.keep,
            asked: self.asked(),
            done,
        })
    }

    async fn on_etcd(
        &self,
        options: &Options,
        reads: Reads,
        told: impl FnMut(&Round),
    ) -> anyhow::Result<Outcome> {
        for workload in &options.workloads {
            for levels in &options.levels {
                etcd::supports(*workload, *levels).map_err(anyhow::Error::msg)?;
            }
        }
        let mut options = options.clone();
        options.nemeses.retain(|kind| match etcd::suffers(*kind) {
            Ok(()) => true,
            Err(why) => {
                println!("not done on etcd: {}: {why}", kind.name());
                false
            }
        });
        let start = async |kinds: &[Nemesis]| {
            let etcd = EtcdOptions {
                members: self.layout(kinds).regions,
                reads,
                ..EtcdOptions::default()
            };
            etcd::start(etcd).await
        };
        run::run(&options, start, told).await
    }

    /// The command that repeats the run.
    fn replay(&self, options: &Options) -> String {
        let mut words = vec![format!("{} run --time {}", super::invocation(), self.time)];
        words.extend(
            options
                .asked
                .iter()
                .map(|(name, value)| match value.as_str() {
                    "" => format!("--{name}"),
                    value => format!("--{name} {value}"),
                }),
        );
        words.push(format!("--seed {}", options.seed));
        words.join(" ")
    }

    /// What decides what a round is, by option; empty for one that has no value. Not how long to go on, nor what to keep
    /// of it and where.
    fn asked(&self) -> BTreeMap<String, String> {
        let list = |names: Vec<String>| (!names.is_empty()).then(|| names.join(","));
        let without = self.without.iter().map(|it| it.name()).collect();
        let all = [
            ("target", Some(name_of(&self.target))),
            ("endpoint", self.endpoint.clone()),
            ("workload", list(self.workload.clone())),
            ("levels", list(self.levels.clone())),
            ("nemesis", list(self.nemesis.clone())),
            ("without", list(without)),
            ("round", self.round.map(|it| it.to_string())),
            ("rounds", self.rounds.map(|it| it.to_string())),
            ("regions", self.regions.map(|it| it.to_string())),
            ("nodes-per-region", Some(self.nodes_per_region.to_string())),
            ("clients", Some(self.clients.to_string())),
            ("think", Some(self.think.to_string())),
            ("engine", Some(self.engine.clone())),
            ("bin", self.bin.as_ref().map(|it| it.display().to_string())),
            ("wires", Some(name_of(&self.wires))),
            ("plain", self.plain.then(String::new)),
        ];
        let given = all
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), value?)));
        given.collect()
    }

    /// A cluster that can do what these kinds of fault need.
    fn spec(&self, options: &Options, kinds: &[Nemesis]) -> Spec {
        Spec {
            engine: self.engine.clone(),
            wires: self.wires,
            program: self.bin.clone(),
            clocks: !self.plain && kinds.iter().any(|kind| kind.needs_clocks()),
            disks: !self.plain && kinds.iter().any(|kind| kind.needs_disks()),
            seed: options.seed,
            ..Spec::new(self.layout(kinds))
        }
    }
}

/// The choices that these names stand for.
fn chosen<T: ValueEnum + Clone>(option: &str, names: &[String]) -> anyhow::Result<Vec<T>> {
    if names.iter().any(|name| name == "all") {
        return Ok(T::value_variants().to_vec());
    }
    let choose = |name: &String| {
        T::from_str(name, false).or_else(|_| {
            let known: Vec<String> = T::value_variants().iter().map(name_of).collect();
            bail!(
                "--{option}: no {name:?}; there are all, {}",
                known.join(", ")
            )
        })
    };
    names.iter().map(choose).collect()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        run: RunArgs,
    }

    fn asked(words: &str) -> [String; 2] {
        let line = format!("run {words}");
        let run = Line::try_parse_from(line.split_whitespace()).unwrap().run;
        let asked = run.completed().asked();
        ["workload", "levels"].map(|name| asked[name].clone())
    }

    #[test]
    fn a_database_is_asked_what_it_has_unless_something_else_is_named() {
        assert_eq!(asked(""), ["all", "all"]);
        assert_eq!(asked("--target etcd"), ["register", "strong"]);
        let both = asked("--target etcd-serializable --workload contended");
        assert_eq!(both, ["contended", "strong"]);
        assert_eq!(asked("--levels session"), ["all", "session"]);
    }
}
