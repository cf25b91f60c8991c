//! `hansa-jepsen bench`: how fast it is, beside a peer.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use tokio::runtime::Handle;
use tokio::time::{Instant, timeout_at};

use crate::bench::bars::{self, Bar, NOT_DECIDED, Pace, Verdict};
use crate::bench::document::{Document, Facts};
use crate::bench::keys::Share;
use crate::bench::mix::{self, Mix, Weighted};
use crate::bench::sweep::{
    Dimension, NODES_PER_REGION_MAX, NotMeasured, Point, REGIONS_MAX, Series, Sweep,
};
use crate::bench::{self, Bench, Database, Load, Run, Setup, table};
use crate::history::Level;
use crate::nemesis::Layout;
use crate::report;

/// Longest load, seconds.
const SECONDS_MAX: u64 = 24 * 3600;
/// Longest round trip, milliseconds.
const ROUND_TRIP_MAX_MS: f64 = 10_000.0;
/// The skew of YCSB's workloads where nothing else is said.
const YCSB_SKEW: f64 = 0.99;

/// What to measure, and where.
#[derive(Args, Clone, Debug)]
pub struct BenchArgs {
    /// The databases, one after the other: hansa, etcd, redis.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "hansa")]
    target: Vec<Database>,
    /// The small series of loads that decide bars, a lost region among them, instead of one load; exits with 1 where one
    /// is missed.
    #[arg(long, conflicts_with_all = ["clients", "rate", "mix", "levels", "keys", "skew", "keys_of", "value_bytes"])]
    bars: bool,
    /// With --bars: the memory of a node with a million keys as well, which takes minutes.
    #[arg(long, requires = "bars")]
    bars_long: bool,
    /// One load at several sizes of one thing, each on a cluster of its own: keys=1000,100000, clients=1,16,256,
    /// regions=3,5,7 or nodes-per-region=1,3. All else is as named.
    #[arg(long, value_name = "WHAT=SIZES", conflicts_with = "bars", value_parser = Sweep::parse)]
    series: Option<Sweep>,
    /// With --series: what is not measured after so many seconds is not measured, and named.
    #[arg(long, value_name = "SECONDS", default_value_t = 3600, requires = "series", value_parser = clap::value_parser!(u64).range(1..=SECONDS_MAX))]
    within: u64,
    /// Clients of each region: one number for all, or one for each.
    #[arg(long, value_delimiter = ',', default_value = "8")]
    clients: Vec<usize>,
    /// Open loop: so many operations a second are due, all clients together; latency counts from when they were due.
    /// Without it the loop is closed: a client asks again when it was answered.
    #[arg(long)]
    rate: Option<f64>,
    /// How long operations count, seconds.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=SECONDS_MAX))]
    time: u64,
    /// Load before that, which does not count, seconds; none with --keys-of elsewhere and each.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(0..=SECONDS_MAX))]
    warm_up: u64,
    /// Operations, keys and times are drawn from it.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// A workload of YCSB, a to f, or chances as get=50,put=50 of get, put, cas, incr, scan, insert, read-modify-write.
    #[arg(long, default_value = "a", value_parser = Mix::parse)]
    mix: Mix,
    /// eventual, session, strong, or chances as eventual=90,strong=10. A compare-and-set is always strong.
    #[arg(long, default_value = "eventual", value_parser = mix::levels)]
    levels: Weighted<Level>,
    /// Keys that are written before the load.
    #[arg(long, default_value_t = 1000)]
    keys: u64,
    /// How much some keys are preferred, 0 (not at all) to less than 1; 0.99 for the workloads of YCSB, else 0.
    #[arg(long)]
    skew: Option<f64>,
    /// Whose keys a region asks for.
    #[arg(long, value_enum, default_value = "all")]
    keys_of: Share,
    /// The length of values.
    #[arg(long, default_value_t = 100)]
    value_bytes: usize,
    /// Regions.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=REGIONS_MAX as i64))]
    regions: u16,
    /// Nodes in each region.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=NODES_PER_REGION_MAX as i64))]
    nodes_per_region: u16,
    /// Round trips between regions, milliseconds: one for all, or one for each pair in the order us-eu, us-ap, eu-ap;
    /// 0 for none. 90,150,220 when it is not given.
    #[arg(long, value_delimiter = ',')]
    wan: Vec<f64>,
    /// The storage engine of Hansa's nodes: fjall or sled.
    #[arg(long, default_value = "fjall")]
    engine: String,
    /// The `hansa` to start; else the one beside this program.
    #[arg(long)]
    bin: Option<PathBuf>,
    /// One JSON object on standard output; the tables go to standard error.
    #[arg(long)]
    json: bool,
    /// Write a report here: one HTML file with tables, percentile curves, bars and costs.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

/// Measures, prints, and says whether no bar was missed; without `--bars` there is none.
///
/// # Errors
/// When an option is wrong, or a cluster can not be started or ends under load.
pub fn bench(args: &BenchArgs) -> Result<bool> {
    let setup = args.setup()?;
    let generator = bench::generator()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("no runtime")?;
    let handle = generator.handle().clone();
    let facts = Facts::gather(command(), &args.target, &setup);
    let work = async {
        let mut document = Document::new(facts);
        match (&args.series, args.bars) {
            (Some(sweep), _) => args.on_series(sweep, &handle, &mut document).await?,
            (None, true) => args.on_bars(&setup, &handle, &mut document).await?,
            (None, false) => document.runs = args.on_load(&setup, &handle).await?,
        }
        Ok(document)
    };
    let outcome = runtime.block_on(async {
        tokio::select! {
            outcome = work => outcome,
            // What is dropped here ends its processes.
            _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
        }
    });
    // Its threads must not outlive what they talk to; what they still wait for is of no use.
    generator.shutdown_background();
    let document = outcome?;
    if let Some(path) = &args.report {
        report::bench::write(&document, path)?;
    }
    if args.json {
        println!("{}", serde_json::to_string(&document)?);
    }
    let missed = |bar: &Bar| matches!(bar.verdict, Verdict::Missed { .. });
    Ok(!document.bars.iter().any(missed))
}

/// The command that this program was started with.
fn command() -> String {
    let words = std::env::args().map(|word| match word.contains(char::is_whitespace) {
        true => format!("'{word}'"),
        false => word,
    });
    words.collect::<Vec<_>>().join(" ")
}

/// One load on a cluster of its own; `None` where there was no time for it.
async fn one(
    database: Database,
    name: &str,
    (setup, load): (&Setup, &Load),
    (generator, until): (&Handle, Instant),
) -> Result<Option<Run>> {
    if Instant::now() >= until {
        return Ok(None);
    }
    let mut bench = Bench::start(database, setup, generator).await?;
    let measured = timeout_at(until, bench.measure(name, load)).await;
    let stopped = bench.stop().await;
    let Ok(measured) = measured else {
        // What was cut off in the middle may end as it likes.
        return Ok(None);
    };
    let run = measured?;
    stopped?;
    Ok(Some(run))
}

impl BenchArgs {
    fn say(&self, text: &str) {
        match self.json {
            true => eprintln!("{text}"),
            false => println!("{text}"),
        }
    }

    fn setup(&self) -> Result<Setup> {
        let regions = usize::from(self.regions);
        let pairs = (0..regions).flat_map(|a| (a + 1..regions).map(move |b| (a, b)));
        let pairs: Vec<(usize, usize)> = pairs.collect();
        let wan = &self.wan;
        ensure!(
            wan.len() <= 1 || wan.len() == pairs.len(),
            "--wan: {} round trips for {} pairs of regions: name one, or one for each",
            wan.len(),
            pairs.len()
        );
        ensure!(
            wan.iter().all(|ms| (0.0..=ROUND_TRIP_MAX_MS).contains(ms)),
            "--wan: 0 to {ROUND_TRIP_MAX_MS} ms"
        );
        let times = wan.iter().cycle();
        let times = times.map(|ms| Duration::from_secs_f64(ms / 1000.0));
        Ok(Setup {
            layout: Layout {
                regions,
                nodes_per_region: self.nodes_per_region.into(),
            },
            round_trips: pairs.into_iter().zip(times).collect::<BTreeMap<_, _>>(),
            engine: self.engine.clone(),
            program: self.bin.clone(),
        })
    }

    fn load(&self) -> Load {
        let regions = usize::from(self.regions);
        let usual = if self.mix.skewed { YCSB_SKEW } else { 0.0 };
        Load {
            clients: match self.clients[..] {
                [clients] => vec![clients; regions],
                _ => self.clients.clone(),
            },
            rate: self.rate,
            warm_up: Duration::from_secs(self.warm_up),
            time: Duration::from_secs(self.time),
            seed: self.seed,
            mix: self.mix.clone(),
            levels: self.levels.clone(),
            keys: self.keys,
            skew: self.skew.unwrap_or(usual),
            share: self.keys_of,
            value_bytes: self.value_bytes,
        }
    }

    /// Whether a load can be measured on each database, before anything is started.
    fn check(&self, setup: &Setup, load: &Load) -> Result<()> {
        load.check(setup.layout.regions)?;
        for database in &self.target {
            database.check(setup, &load.mix, &load.levels)?;
        }
        for database in &self.target {
            database.program(setup)?;
        }
        Ok(())
    }

    /// One load on each database.
    async fn on_load(&self, setup: &Setup, generator: &Handle) -> Result<Vec<Run>> {
        let load = self.load();
        self.check(setup, &load)?;
        let mut runs = Vec::new();
        for database in &self.target {
            let far = Instant::now() + Duration::from_secs(2 * SECONDS_MAX);
            let run = one(*database, "load", (setup, &load), (generator, far)).await?;
            runs.extend(run);
        }
        let all: Vec<&Run> = runs.iter().collect();
        self.say(&table::side_by_side(&all));
        Ok(runs)
    }

    /// The same with one thing at another size.
    fn at(&self, dimension: Dimension, value: u64) -> BenchArgs {
        let mut args = self.clone();
        match dimension {
            Dimension::Keys => args.keys = value,
            Dimension::Clients => args.clients = vec![value as usize],
            Dimension::Regions => args.regions = value as u16,
            Dimension::NodesPerRegion => args.nodes_per_region = value as u16,
        }
        args
    }

    /// One load at several sizes, each on each database.
    async fn on_series(
        &self,
        sweep: &Sweep,
        generator: &Handle,
        document: &mut Document,
    ) -> Result<()> {
        let mut plan = Vec::new();
        for value in &sweep.values {
            let args = self.at(sweep.dimension, *value);
            let (setup, load) = (args.setup()?, args.load());
            self.check(&setup, &load)?;
            for database in &self.target {
                plan.push((*value, *database, setup.clone(), load.clone()));
            }
        }
        let mut series = Series {
            dimension: sweep.dimension,
            points: Vec::new(),
            not_measured: Vec::new(),
        };
        let until = Instant::now() + Duration::from_secs(self.within);
        for (value, target, setup, load) in plan {
            let name = sweep.load_name(value);
            let run = one(target, &name, (&setup, &load), (generator, until)).await?;
            match run {
                Some(run) => {
                    eprintln!("measured: {name} of {}", target.name());
                    series.points.push(Point::of(value, &run));
                    document.runs.push(run);
                }
                None => series.not_measured.push(NotMeasured {
                    value,
                    target,
                    why: format!("the {} s of --within were over", self.within),
                }),
            }
        }
        for series in bars::series_of(&document.runs) {
            let same = document.runs.iter().filter(|run| run.series == series);
            self.say(&table::side_by_side(&same.collect::<Vec<_>>()));
        }
        self.say(&table::growth(&series));
        document.series = Some(series);
        Ok(())
    }

    /// The series of loads that decide bars, on each database.
    async fn on_bars(
        &self,
        setup: &Setup,
        generator: &Handle,
        document: &mut Document,
    ) -> Result<()> {
        self.check(setup, &self.load())?;
        let pace = Pace {
            time: Duration::from_secs(self.time),
            warm_up: Duration::from_secs(self.warm_up),
            seed: self.seed,
        };
        let told = |what: &str, database: Database| {
            eprintln!("measured: {what} of {}", database.name());
        };
        let what = (setup, pace, self.bars_long);
        let measured = bars::run(what, &self.target, generator, told).await?;
        for series in bars::series_of(&measured.runs) {
            let same = measured.runs.iter().filter(|run| run.series == series);
            self.say(&table::side_by_side(&same.collect::<Vec<_>>()));
        }
        self.say(&table::losses(&measured.losses));
        for bar in &measured.bars {
            self.say(&bar.line());
        }
        if !self.bars_long {
            document.bars_not_decided = NOT_DECIDED.to_vec();
        }
        for other in &document.bars_not_decided {
            self.say(&format!("not decided by this run: {other}"));
        }
        document.runs = measured.runs;
        (document.bars, document.losses) = (measured.bars, measured.losses);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: BenchArgs,
    }

    fn parse(line: &str) -> Result<BenchArgs, String> {
        let words = std::iter::once("bench").chain(line.split_whitespace());
        let parsed = Line::try_parse_from(words);
        parsed.map(|it| it.args).map_err(|it| it.to_string())
    }

    #[test]
    fn options_become_a_load_and_a_cluster() {
        let args = parse("--clients 2 --wan 10,20,30 --mix b --levels session").unwrap();
        let (load, setup) = (args.load(), args.setup().unwrap());
        assert_eq!(load.clients, [2; 3]);
        assert!((load.skew - YCSB_SKEW).abs() < 1e-9);
        assert_eq!(setup.limit(2), Duration::from_millis(20));
        let plain = parse("--mix get=50,put=50 --clients 1,0,2").unwrap();
        assert_eq!(plain.load().clients, [1, 0, 2]);
        assert!(plain.load().skew.abs() < 1e-9);
        assert_eq!(plain.setup().unwrap().limit(2), Duration::from_millis(150));
        let none = parse("--wan 0 --regions 5").unwrap().setup().unwrap();
        assert_eq!(none.pairs(), [Duration::ZERO; 10]);
    }

    #[test]
    fn a_series_changes_one_thing_and_leaves_the_others() {
        let args = parse("--series clients=1,64 --keys 50 --clients 5").unwrap();
        let sweep = args.series.clone().unwrap();
        let at = args.at(sweep.dimension, 64);
        assert_eq!((at.load().clients, at.load().keys), (vec![64; 3], 50));
        let many = parse("--series keys=7").unwrap().at(Dimension::Keys, 7);
        assert_eq!((many.load().keys, many.load().clients), (7, vec![8; 3]));
        let regions = parse("--series regions=5").unwrap();
        let setup = regions.at(Dimension::Regions, 5).setup().unwrap();
        assert_eq!(setup.layout.regions, 5);
        let nodes = regions.at(Dimension::NodesPerRegion, 3).setup().unwrap();
        assert_eq!(nodes.layout.nodes(), 9);
        let uneven = parse("--series regions=5 --wan 1,2,3").unwrap();
        assert!(uneven.at(Dimension::Regions, 5).setup().is_err());
    }

    #[test]
    fn wrong_options_are_named() {
        let uneven = parse("--wan 1,2").unwrap().setup().unwrap_err();
        assert!(uneven.to_string().contains("2 round trips for 3 pairs"));
        let negative = parse("--wan=-1").unwrap().setup().unwrap_err();
        assert!(negative.to_string().contains("--wan: 0 to"));
        for (line, part) in [
            ("--mix z", "a workload of YCSB"),
            ("--levels weak", "eventual, session, strong"),
            ("--bars --keys 5", "cannot be used with"),
            ("--bars --series keys=5", "cannot be used with"),
            ("--bars-long", "--bars"),
            ("--within 5", "--series"),
            ("--series size=5", "one of keys, clients"),
            ("--target foundationdb", "hansa, etcd, redis"),
        ] {
            let why = parse(line).unwrap_err();
            assert!(why.contains(part), "{why}");
        }
    }
}
