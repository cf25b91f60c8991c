//! The bars that one run of minutes can decide, and the loads that they need.
//!
//! They hold where a disk sync takes no longer than [`SYNC_MAX_MS`] in the median: on a slower disk a bar that is missed
//! is not decided, unless it is a latency missed by more than the disk can explain.

use std::time::Duration;

use anyhow::Result;
use serde::Serialize;
use tokio::runtime::Handle;

use super::gaps::{self, Fault, Loss};
use super::keys::Share;
use super::mix::{Kind, Mix, Weighted};
use super::{ALL_REGIONS, Bench, Database, Load, Run, Setup};
use crate::history::Level;

/// The bars hold where the median of a disk sync is at most this.
pub const SYNC_MAX_MS: f64 = 0.5;
/// What a run without the long loads does not decide.
pub const NOT_DECIDED: [&str; 1] =
    ["resident memory of a node with 1 M keys of 100 bytes (--bars-long)"];

/// So many disk syncs explain a latency at most: an operation waits for a few, some of which wait for one under way.
const SYNCS_WAITED_MAX: f64 = 10.0;

/// A strong get may take so much more than the link, milliseconds.
const GET_OVER_MS: f64 = 3.0;
/// A strong put or compare-and-set.
const WRITE_OVER_MS: f64 = 5.0;
/// From p50 to p99 of a strong operation.
const SPREAD_MS: f64 = 15.0;
/// A contended write, in round trips to the nearest region.
const CONTENDED_TRIPS: f64 = 3.0;
/// An eventual get at one client.
const LOCAL_GET_MS: f64 = 0.15;
/// An eventual get, processor time of all servers, at 64 clients.
const LOCAL_GET_CPU_US: f64 = 50.0;
/// Durable eventual puts a second at 256 clients.
const LOCAL_PUTS: f64 = 20_000.0;
/// Their processor time on all servers.
const LOCAL_PUT_CPU_US: f64 = 80.0;
/// Their number for each put of etcd.
const PUTS_PER_ETCD: f64 = 1.5;

/// A node with [`MEMORY_KEYS`] keys, after all were read: the most that it holds in memory, MB.
const MEMORY_MB: f64 = 200.0;
/// See [`MEMORY_MB`].
const MEMORY_KEYS: u64 = 1_000_000;
/// How long reading them all may take, in each region at the same time.
const MEMORY_WITHIN: Duration = Duration::from_secs(1800);
/// Clients of a region that read them.
const MEMORY_CLIENTS: usize = 32;

/// The unit of latencies.
pub(super) const MS: &str = "ms";
/// The unit of comparisons with a peer.
const TIMES: &str = "times";

/// Clients of a region under strong loads.
const CLIENTS: usize = 8;
/// Keys of strong loads: so many that two clients seldom meet.
const KEYS: u64 = 3000;
/// With fewer regions no majority is left when one is lost.
const LOSING_FROM: usize = 3;
/// Keys of local loads.
const LOCAL_KEYS: u64 = 10_000;

const GET: &str = "strong get";
const PUT: &str = "strong put";
const CAS: &str = "strong cas";
const PUT_ELSEWHERE: &str = "strong put, written elsewhere before";
const CAS_ELSEWHERE: &str = "strong cas, written elsewhere before";
const CONTENDED: &str = "strong put, one key";
const LOCAL_GET_1: &str = "eventual get, 1 client";
const LOCAL_GET_64: &str = "eventual get, 64 clients";
const LOCAL_PUT_256: &str = "eventual put, 256 clients";
const MEMORY: &str = "eventual get, 1 M keys, each once in each region";

/// Whether a bar holds.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "verdict", rename_all = "lowercase")]
pub enum Verdict {
    /// It holds; by so much to spare.
    Met {
        /// In the unit of the bar.
        by: f64,
    },
    /// It does not.
    Missed {
        /// In the unit of the bar; `None` where no operation succeeded.
        by: Option<f64>,
    },
    /// Nobody knows.
    Undecided {
        /// The reason.
        why: String,
    },
}

/// A bar.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Bar {
    /// What is measured.
    pub name: String,
    /// Whether the bound is the most that is allowed, or the least.
    pub at_most: bool,
    /// The bound.
    pub bound: f64,
    /// Of the bound and what was measured.
    pub unit: &'static str,
    /// What was measured; `None` when it was not.
    pub measured: Option<f64>,
    /// What came of it.
    #[serde(flatten)]
    pub verdict: Verdict,
}

impl Bar {
    pub(super) fn new(
        name: String,
        (at_most, bound, unit): (bool, f64, &'static str),
        measured: Option<f64>,
        sync_ms: Option<f64>,
    ) -> Bar {
        Bar {
            verdict: verdict((at_most, bound, unit), measured, sync_ms),
            name,
            at_most,
            bound,
            unit,
            measured,
        }
    }

    /// One line.
    #[must_use]
    pub fn line(&self) -> String {
        let Bar { name, unit, .. } = self;
        let sign = if self.at_most { "<=" } else { ">=" };
        let asked = format!("{name} {sign} {:.2} {unit}", self.bound);
        let found = match self.measured {
            Some(value) => format!("{value:.2} {unit}"),
            None => "not measured".to_owned(),
        };
        match &self.verdict {
            Verdict::Met { by } => format!("met       {asked}: {found}, {by:.2} to spare"),
            Verdict::Missed { by: Some(by) } => format!("MISSED    {asked}: {found}, by {by:.2}"),
            Verdict::Missed { by: None } => format!("MISSED    {asked}: no operation succeeded"),
            Verdict::Undecided { why } => format!("undecided {asked}: {found}; {why}"),
        }
    }
}

/// What came of a bar. The sync is that of its run; `None` where there was none.
fn verdict(
    (at_most, bound, unit): (bool, f64, &str),
    measured: Option<f64>,
    sync_ms: Option<f64>,
) -> Verdict {
    let Some(measured) = measured else {
        return match sync_ms {
            Some(_) => Verdict::Missed { by: None },
            None => Verdict::Undecided {
                why: "there was no such run".to_owned(),
            },
        };
    };
    let spare = match at_most {
        true => bound - measured,
        false => measured - bound,
    };
    let explains = |sync: &f64| unit != MS || -spare <= sync * SYNCS_WAITED_MAX;
    let slow = sync_ms.filter(|it| *it > SYNC_MAX_MS && explains(it));
    match (spare >= 0.0, slow) {
        (true, _) => Verdict::Met { by: spare },
        (false, None) => Verdict::Missed { by: Some(-spare) },
        (false, Some(sync)) => Verdict::Undecided {
            why: format!(
                "a disk sync takes {sync:.2} ms here, and bars hold up to {SYNC_MAX_MS} ms"
            ),
        },
    }
}

/// A load by name.
struct Series {
    name: &'static str,
    load: Load,
}

/// How long each load counts, and what does not before.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// What counts.
    pub time: Duration,
    /// What does not.
    pub warm_up: Duration,
    /// The seed of all loads.
    pub seed: u64,
}

impl Pace {
    fn load(self, (kind, level): (Kind, Level), clients: Vec<usize>, keys: u64) -> Load {
        Load {
            clients,
            rate: None,
            warm_up: self.warm_up,
            time: self.time,
            seed: self.seed,
            mix: Mix::only(kind),
            levels: Weighted::only(level),
            keys,
            skew: 0.0,
            share: Share::All,
            value_bytes: 100,
        }
    }

    /// The loads behind links with delay.
    fn far(self, regions: usize) -> Vec<Series> {
        let strong = |name, kind, share| Series {
            name,
            load: Load {
                share,
                ..self.load((kind, Level::Strong), vec![CLIENTS; regions], KEYS)
            },
        };
        vec![
            strong(GET, Kind::Get, Share::Own),
            strong(PUT, Kind::Put, Share::Own),
            strong(CAS, Kind::Cas, Share::Own),
            strong(PUT_ELSEWHERE, Kind::Put, Share::Elsewhere),
            strong(CAS_ELSEWHERE, Kind::Cas, Share::Elsewhere),
            Series {
                name: CONTENDED,
                load: self.load((Kind::Put, Level::Strong), vec![1; regions], 1),
            },
        ]
    }

    /// The load under which a region is lost.
    fn losing(self, regions: usize) -> Load {
        self.load((Kind::Put, Level::Strong), vec![1; regions], KEYS)
    }

    /// The load behind the memory of many keys: the keys are written, then read in every region.
    fn long(self, regions: usize) -> Series {
        let all = self.load(
            (Kind::Get, Level::Eventual),
            vec![MEMORY_CLIENTS; regions],
            MEMORY_KEYS,
        );
        let load = Load {
            share: Share::Each,
            time: MEMORY_WITHIN,
            ..all
        };
        Series { name: MEMORY, load }
    }

    /// The loads without any delay.
    fn near(self, regions: usize) -> Vec<Series> {
        let local = |name, kind, clients| Series {
            name,
            load: self.load(
                (kind, Level::Eventual),
                spread(clients, regions),
                LOCAL_KEYS,
            ),
        };
        vec![
            local(LOCAL_GET_1, Kind::Get, 1),
            local(LOCAL_GET_64, Kind::Get, 64),
            local(LOCAL_PUT_256, Kind::Put, 256),
        ]
    }
}

/// So many clients over the regions, as even as can be.
fn spread(clients: usize, regions: usize) -> Vec<usize> {
    let more = clients % regions;
    (0..regions)
        .map(|region| clients / regions + usize::from(region < more))
        .collect()
}

/// What the bars are judged by.
#[derive(Debug, Default)]
pub struct Measured {
    /// Every load on every database.
    pub runs: Vec<Run>,
    /// Every region that was lost.
    pub losses: Vec<Loss>,
    /// What came of the bars.
    pub bars: Vec<Bar>,
}

/// Measures everything that the bars need, and tells what was measured. Hansa is measured whether it is among the
/// databases or not: the bars are its own. With `long`, what takes minutes is measured as well.
///
/// # Errors
/// As [`Bench::start`], [`Bench::measure`] and [`Bench::lose`].
pub async fn run(
    (setup, pace, long): (&Setup, Pace, bool),
    databases: &[Database],
    generator: &Handle,
    mut told: impl FnMut(&str, Database),
) -> Result<Measured> {
    let mut near = setup.clone();
    let regions = setup.layout.regions;
    near.round_trips = (0..regions)
        .flat_map(|b| (0..b).map(move |a| ((a, b), Duration::ZERO)))
        .collect();
    let mut order = vec![Database::Hansa];
    order.extend(databases.iter().filter(|it| **it != Database::Hansa));
    let mut measured = Measured::default();
    for database in &order {
        let bench = Bench::start(*database, setup, generator).await?;
        let loses = regions >= LOSING_FROM && *database != Database::Redis;
        let losing = loses.then(|| pace.losing(regions));
        let plan = (pace.far(regions), losing);
        measured.on(bench, plan, &mut told).await?;
    }
    for database in &order {
        let bench = Bench::start(*database, &near, generator).await?;
        measured
            .on(bench, (pace.near(regions), None), &mut told)
            .await?;
    }
    if long {
        let bench = Bench::start(Database::Hansa, &near, generator).await?;
        measured
            .on(bench, (vec![pace.long(regions)], None), &mut told)
            .await?;
    }
    measured.bars = judge(setup, &measured.runs);
    measured.bars.extend(gaps::bars(&measured.losses));
    Ok(measured)
}

impl Measured {
    /// Measures loads on one cluster, then what its loss of a region costs under the other one, and ends it.
    async fn on(
        &mut self,
        mut bench: Bench,
        plan: (Vec<Series>, Option<Load>),
        told: &mut impl FnMut(&str, Database),
    ) -> Result<()> {
        let done = self.all_of(&mut bench, plan, told).await;
        let stopped = bench.stop().await;
        // The first error is the one to tell.
        done.and(stopped)
    }

    async fn all_of(
        &mut self,
        bench: &mut Bench,
        (series, losing): (Vec<Series>, Option<Load>),
        told: &mut impl FnMut(&str, Database),
    ) -> Result<()> {
        for series in &series {
            let run = bench.measure(series.name, &series.load).await?;
            told(series.name, run.target);
            self.runs.push(run);
        }
        let Some(load) = losing else { return Ok(()) };
        for fault in Fault::ALL {
            let loss = bench.lose(fault, &load).await?;
            told(&format!("a region {}", fault.name()), loss.target);
            self.losses.push(loss);
        }
        Ok(())
    }
}

/// The names of the loads of these runs, in order, each once.
#[must_use]
pub fn series_of(runs: &[Run]) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for run in runs {
        if !names.contains(&run.series.as_str()) {
            names.push(&run.series);
        }
    }
    names
}

/// The bars that these runs decide.
#[must_use]
pub fn judge(setup: &Setup, runs: &[Run]) -> Vec<Bar> {
    let of = |database, series: &str| {
        let mut runs = runs.iter();
        runs.find(|run| run.target == database && run.series == series)
    };
    let hansa = |series| of(Database::Hansa, series);
    let sync = |series| hansa(series).map(|run| run.sync_p50_ms);
    let mut bars = far_bars(setup, hansa);
    let local_get = hansa(LOCAL_GET_1).and_then(|run| run.row(Kind::Get, ALL_REGIONS)?.p50_ms);
    let cpu = |series| hansa(series).and_then(|run| run.server_cpu_us_per_op);
    let puts = |database| {
        let run = of(database, LOCAL_PUT_256);
        run.and_then(|run| Some(run.row(Kind::Put, ALL_REGIONS)?.per_second))
    };
    let ratio = puts(Database::Hansa).zip(puts(Database::Etcd));
    let ratio = ratio.map(|(ours, theirs)| ours / theirs.max(1e-9));
    let local = [
        (LOCAL_GET_1, "p50", (true, LOCAL_GET_MS, MS), local_get),
        (
            LOCAL_GET_64,
            "server CPU",
            (true, LOCAL_GET_CPU_US, "us/op"),
            cpu(LOCAL_GET_64),
        ),
        (
            LOCAL_PUT_256,
            "throughput",
            (false, LOCAL_PUTS, "/s"),
            puts(Database::Hansa),
        ),
        (
            LOCAL_PUT_256,
            "server CPU",
            (true, LOCAL_PUT_CPU_US, "us/op"),
            cpu(LOCAL_PUT_256),
        ),
        (
            LOCAL_PUT_256,
            "throughput for each put of etcd (--target hansa,etcd)",
            (false, PUTS_PER_ETCD, TIMES),
            ratio,
        ),
    ];
    for (series, what, bound, measured) in local {
        let name = format!("{series}: {what}");
        // What compares needs both runs.
        let sync = sync(series).filter(|_| bound.2 != TIMES || measured.is_some());
        bars.push(Bar::new(name, bound, measured, sync));
    }
    bars.extend(hansa(MEMORY).map(memory_bar));
    let ours = runs.iter().filter(|run| run.target == Database::Hansa);
    let rows = ours.flat_map(|run| &run.rows);
    let failed: u64 = rows
        .filter(|row| row.region == ALL_REGIONS)
        .map(|row| row.failed)
        .sum();
    let name = "all series: operations that failed".to_owned();
    bars.push(Bar::new(
        name,
        (true, 0.0, "ops"),
        Some(failed as f64),
        None,
    ));
    bars
}

/// The node with the most memory after every key was read in every region.
fn memory_bar(run: &Run) -> Bar {
    let most = run.resident_bytes.iter().max();
    let most = most.map(|bytes| *bytes as f64 / 1e6);
    let name = format!("{MEMORY}: resident memory of a node");
    // The disk has no part in it.
    let mut bar = Bar::new(name, (true, MEMORY_MB, "MB"), most, None);
    let row = run.row(Kind::Get, ALL_REGIONS);
    let read = row.map_or(0, |row| row.count);
    let all = MEMORY_KEYS * run.clients.len() as u64;
    if read < all {
        bar.verdict = Verdict::Undecided {
            why: format!("only {read} of {all} reads ended well in time"),
        };
    }
    bar
}

/// Those behind links with delay.
fn far_bars<'a>(setup: &Setup, hansa: impl Fn(&'static str) -> Option<&'a Run>) -> Vec<Bar> {
    let mut bars = Vec::new();
    let spec = setup.spec();
    let p50s = [
        (GET, Kind::Get, 1.0, GET_OVER_MS),
        (PUT, Kind::Put, 1.0, WRITE_OVER_MS),
        (CAS, Kind::Cas, 1.0, WRITE_OVER_MS),
        (PUT_ELSEWHERE, Kind::Put, 1.0, WRITE_OVER_MS),
        (CAS_ELSEWHERE, Kind::Cas, 1.0, WRITE_OVER_MS),
        (CONTENDED, Kind::Put, CONTENDED_TRIPS, 0.0),
    ];
    for (series, kind, trips, over) in p50s {
        for region in 0..setup.layout.regions {
            let region_name = spec.region_name(region);
            let limit = setup.limit(region).as_secs_f64() * 1000.0;
            let run = hansa(series);
            let p50 = run.and_then(|run| run.row(kind, &region_name)?.p50_ms);
            bars.push(Bar::new(
                format!("{series}: p50 in {region_name}"),
                (true, limit * trips + over, MS),
                p50,
                run.map(|run| run.sync_p50_ms),
            ));
        }
    }
    for (series, kind) in [(GET, Kind::Get), (PUT, Kind::Put), (CAS, Kind::Cas)] {
        let run = hansa(series);
        let spreads = run.into_iter().flat_map(|run| &run.rows);
        let spreads = spreads.filter(|row| row.operation == kind && row.region != ALL_REGIONS);
        let spreads = spreads.filter_map(|row| Some(row.p99_ms? - row.p50_ms?));
        bars.push(Bar::new(
            format!("{series}: p99 - p50, the worst region"),
            (true, SPREAD_MS, MS),
            spreads.reduce(f64::max),
            run.map(|run| run.sync_p50_ms),
        ));
    }
    bars
}

#[cfg(test)]
mod tests {
    use super::super::testing::{row, run, setup};
    use super::*;

    fn found<'a>(bars: &'a [Bar], name: &str) -> &'a Bar {
        bars.iter().find(|bar| bar.name == name).unwrap()
    }

    fn by(verdict: &Verdict) -> (bool, i64) {
        match verdict {
            Verdict::Met { by } => (true, (by * 100.0).round() as i64),
            Verdict::Missed { by: Some(by) } => (false, (by * 100.0).round() as i64),
            Verdict::Missed { by: None } => panic!("nothing succeeded"),
            Verdict::Undecided { why } => panic!("{why}"),
        }
    }

    #[test]
    fn a_bar_is_the_limit_of_its_region_and_what_is_allowed_over_it() {
        let gets = vec![
            row(Kind::Get, "us-east", 92.5, 1.0),
            row(Kind::Get, "eu-central", 93.5, 1.0),
            row(Kind::Get, "ap-northeast", 153.0, 1.0),
        ];
        let bars = judge(&setup(), &[run(Database::Hansa, GET, gets)]);
        let of = |region| by(&found(&bars, &format!("strong get: p50 in {region}")).verdict);
        assert_eq!(of("us-east"), (true, 50));
        assert_eq!(of("eu-central"), (false, 50));
        assert_eq!(of("ap-northeast"), (true, 0));
        let spread = found(&bars, "strong get: p99 - p50, the worst region");
        assert_eq!(by(&spread.verdict), (false, 500));
        let contended = found(&bars, "strong put, one key: p50 in ap-northeast");
        assert!((contended.bound - 450.0).abs() < 1e-9);
        assert_eq!(contended.measured, None);
        assert!(matches!(contended.verdict, Verdict::Undecided { .. }));
    }

    #[test]
    fn least_bounds_count_the_other_way_and_need_the_peer() {
        let puts = |target, per_second| {
            let rows = vec![row(Kind::Put, ALL_REGIONS, 5.0, per_second)];
            run(target, LOCAL_PUT_256, rows)
        };
        let ours = puts(Database::Hansa, 18_000.0);
        let alone = judge(&setup(), std::slice::from_ref(&ours));
        let throughput = found(&alone, "eventual put, 256 clients: throughput");
        assert_eq!(by(&throughput.verdict), (false, 200_000));
        let ratio =
            "eventual put, 256 clients: throughput for each put of etcd (--target hansa,etcd)";
        let undecided = &found(&alone, ratio).verdict;
        assert!(
            matches!(undecided, Verdict::Undecided { .. }),
            "{undecided:?}"
        );
        let both = judge(&setup(), &[ours, puts(Database::Etcd, 9_000.0)]);
        assert_eq!(by(&found(&both, ratio).verdict), (true, 50));
    }

    #[test]
    fn a_slow_disk_excuses_what_is_missed_and_says_so() {
        let latency = |measured, sync| verdict((true, 95.0, MS), Some(measured), Some(sync));
        let slow = latency(99.0, 2.0);
        let Verdict::Undecided { why } = slow else {
            panic!("{slow:?}");
        };
        assert!(why.contains("2.00 ms"), "{why}");
        assert_eq!(by(&latency(94.0, 2.0)), (true, 100));
        assert_eq!(by(&latency(99.0, 0.5)), (false, 400));
        assert_eq!(
            by(&latency(995.0, 2.0)),
            (false, 90_000),
            "no disk explains that"
        );
        let puts = verdict((false, 20_000.0, "/s"), Some(9_000.0), Some(2.0));
        assert!(matches!(puts, Verdict::Undecided { .. }), "{puts:?}");
    }

    #[test]
    fn a_region_where_nothing_succeeded_misses_its_bars() {
        let elsewhere = vec![row(Kind::Put, "us-east", 99.0, 1.0)];
        let bars = judge(&setup(), &[run(Database::Hansa, CONTENDED, elsewhere)]);
        let starved = found(&bars, "strong put, one key: p50 in ap-northeast");
        assert_eq!(starved.verdict, Verdict::Missed { by: None });
        assert!(starved.line().contains("no operation succeeded"));
    }

    #[test]
    fn memory_counts_only_after_every_key_was_read_everywhere() {
        let mut all = row(Kind::Get, ALL_REGIONS, 1.0, 1.0);
        all.count = 3 * MEMORY_KEYS;
        let mut passed = run(Database::Hansa, MEMORY, vec![all.clone()]);
        passed.resident_bytes = vec![150_000_000, 199_000_000, 160_000_000];
        passed.sync_p50_ms = 4.0;
        assert_eq!(by(&memory_bar(&passed).verdict), (true, 100));
        passed.resident_bytes[0] = 201_000_000;
        assert_eq!(
            by(&memory_bar(&passed).verdict),
            (false, 100),
            "no disk explains that"
        );
        all.count -= 1;
        passed.rows = vec![all];
        let short = memory_bar(&passed).verdict;
        assert!(matches!(short, Verdict::Undecided { .. }), "{short:?}");
        assert!(
            judge(&setup(), &[]).iter().all(|bar| bar.unit != "MB"),
            "it is asked for"
        );
    }

    #[test]
    fn operations_that_fail_miss_a_bar() {
        let mut failing = row(Kind::Get, ALL_REGIONS, 1.0, 1.0);
        failing.failed = 2;
        let bars = judge(&setup(), &[run(Database::Hansa, GET, vec![failing])]);
        let bar = found(&bars, "all series: operations that failed");
        assert_eq!(by(&bar.verdict), (false, 200));
        assert!(bar.line().starts_with("MISSED"), "{}", bar.line());
    }

    #[test]
    fn json_has_the_shape_that_is_documented() {
        let gets = vec![row(Kind::Get, "us-east", 92.5, 1.0)];
        let run = run(Database::Hansa, GET, gets);
        let bars = judge(&setup(), std::slice::from_ref(&run));
        let json = serde_json::to_value(&run).unwrap();
        assert_eq!(json["target"], "hansa");
        assert_eq!(json["schedule"], "closed");
        assert_eq!(json["rows"][0]["operation"], "get");
        assert_eq!(json["rows"][0]["p50_ms"], 92.5);
        assert!(json["rows"][0]["p999_ms"].is_null());
        let bar = serde_json::to_value(&bars[0]).unwrap();
        assert_eq!(bar["verdict"], "met");
        assert_eq!(bar["by"], 0.5);
        assert_eq!(bar["at_most"], true);
    }

    #[test]
    fn clients_are_spread_evenly() {
        assert_eq!(spread(1, 3), [1, 0, 0]);
        assert_eq!(spread(64, 3), [22, 21, 21]);
        assert_eq!(spread(256, 3).iter().sum::<usize>(), 256);
    }
}
