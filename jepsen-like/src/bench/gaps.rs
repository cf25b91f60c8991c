//! The longest time in which nothing succeeds when a region is lost: strong gets and puts are due at a constant rate in
//! the regions that are left, whatever becomes of the ones before.
//!
//! A third of the keys of three regions was written last by the region that is lost, and they are counted once more by
//! themselves: what succeeds elsewhere is of no use to those who need just these.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use serde::Serialize;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::bars::{Bar, MS};
use super::load::{self, Load};
use super::machine;
use super::mix::Kind;
use super::peer::{Connection, DEADLINE, Peer};
use super::{Bench, Database};
use crate::history::Level;
use crate::nemesis::{Action, Layout, Wire};
use crate::random::Random;
use crate::target::Target;

/// The longest gap that is allowed, milliseconds.
const GAP_MS: f64 = 500.0;
/// Load before the region is lost.
const BEFORE: Duration = Duration::from_secs(2);
/// Load while it is.
const WHILE: Duration = Duration::from_secs(12);
/// One get and one put of a region are due so often. Much shorter than the gap that is allowed.
const EVERY: Duration = Duration::from_millis(10);
/// Puts of each region that tell where the leader of a peer is.
const PROBES: u64 = 3;

/// How a region is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// All its processes end by SIGKILL.
    Killed,
    /// Nothing that is sent to it or by it arrives, and nobody is told.
    BlackHoled,
}

impl Fault {
    /// Both.
    pub const ALL: [Fault; 2] = [Fault::Killed, Fault::BlackHoled];

    /// In words.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Fault::Killed => "killed",
            Fault::BlackHoled => "black-holed",
        }
    }
}

/// What a loss came to for one operation in one region that is left.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Gap {
    /// Get or put, at level strong.
    pub operation: Kind,
    /// Where it was asked.
    pub region: String,
    /// Only keys that the lost region wrote last; else all.
    pub written_there: bool,
    /// The longest time without any that ended well, milliseconds.
    pub longest_ms: f64,
    /// Ended well.
    pub done: u64,
    /// Did not.
    pub failed: u64,
    /// The longest that one took that ended well, milliseconds.
    pub slowest_ms: Option<f64>,
}

/// A region that was lost under load.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Loss {
    /// The database.
    pub target: Database,
    /// How.
    pub fault: Fault,
    /// Which.
    pub region: String,
    /// As in runs.
    pub sync_p50_ms: f64,
    /// By operation, region and keys.
    pub gaps: Vec<Gap>,
}

impl Loss {
    /// The longest gap of an operation in any region.
    #[must_use]
    pub fn longest_ms(&self, operation: Kind, written_there: bool) -> Option<f64> {
        let gaps = self.gaps.iter();
        let wanted =
            gaps.filter(|it| (it.operation, it.written_there) == (operation, written_there));
        wanted.map(|it| it.longest_ms).reduce(f64::max)
    }
}

/// The bars that losses decide: those of Hansa.
#[must_use]
pub fn bars(losses: &[Loss]) -> Vec<Bar> {
    let mut out = Vec::new();
    for fault in Fault::ALL {
        let ours = |it: &&Loss| it.target == Database::Hansa && it.fault == fault;
        let loss = losses.iter().find(ours);
        for operation in [Kind::Get, Kind::Put] {
            for written_there in [false, true] {
                let keys = match written_there {
                    true => ", keys that it wrote last",
                    false => "",
                };
                out.push(Bar::new(
                    format!(
                        "a region {}: longest gap of strong {}s{keys}",
                        fault.name(),
                        operation.name()
                    ),
                    (true, GAP_MS, MS),
                    loss.and_then(|it| it.longest_ms(operation, written_there)),
                    loss.map(|it| it.sync_p50_ms),
                ));
            }
        }
    }
    out
}

/// One operation that ended.
#[derive(Clone, Copy, Debug)]
struct Ended {
    region: usize,
    operation: Kind,
    written_there: bool,
    begun: Instant,
    at: Instant,
    well: bool,
}

impl Bench {
    /// Loses a region under load, measures, and brings it back. Of Hansa it is the first region, which is the nearest to
    /// all others at the default round trips; of etcd the one of the leader.
    ///
    /// # Errors
    /// When the keys can not be written, the fault can not be done, or the cluster does not settle before or after it.
    pub async fn lose(&mut self, fault: Fault, load: &Load) -> Result<Loss> {
        let regions = self.setup.layout.regions;
        load.check(regions)?;
        ensure!(
            regions >= 3,
            "with {regions} regions no majority is left without one: choose 3 or more"
        );
        // Else no key would be written by the region that is lost, or all would be.
        ensure!(
            load.keys >= regions as u64,
            "{} keys: at least one for each of {regions} regions",
            load.keys
        );
        let lost = match self.database {
            Database::Hansa => 0,
            Database::Etcd => self.quickest(load).await?,
            Database::Redis => {
                bail!("redis has nobody who takes the place of its primary when that is lost")
            }
        };
        load::fill(load, &self.connections, &self.generator).await?;
        self.peer.settle().await?;
        let sync = machine::sync_p50(self.folder.path())?;
        let (stop, stopped) = watch::channel(false);
        let ended = Arc::new(Mutex::new(Vec::new()));
        let left = (0..regions).filter(|region| *region != lost);
        let mut asking = JoinSet::new();
        for region in left.clone() {
            let node = self.connections[region]
                .first()
                .context("a region without nodes")?;
            let due = Asking {
                region,
                lost,
                load: load.clone(),
                connection: node.clone(),
                ended: ended.clone(),
            };
            asking.spawn_on(due.ask(stopped.clone()), &self.generator);
        }
        sleep(BEFORE).await;
        let begun = Instant::now();
        self.peer.lose(lost, fault).await?;
        sleep(WHILE).await;
        let over = Instant::now();
        // Nobody listens when all have ended by themselves.
        let _ = stop.send(true);
        let all = async { while asking.join_next().await.is_some() {} };
        let in_time = timeout(DEADLINE + DEADLINE, all).await;
        in_time.context("operations do not end")?;
        self.peer.mend().await?;
        let sync = sync.max(machine::sync_p50(self.folder.path())?);
        let ended = ended.lock().unwrap_or_else(PoisonError::into_inner);
        let spec = self.setup.spec();
        let gaps = left
            .flat_map(|region| gaps_of(&ended, (region, &spec.region_name(region)), (begun, over)));
        Ok(Loss {
            target: self.database,
            fault,
            region: spec.region_name(lost),
            sync_p50_ms: sync.as_secs_f64() * 1000.0,
            gaps: gaps.collect(),
        })
    }

    /// The region whose puts take the least: where the leader is, if there is one.
    async fn quickest(&self, load: &Load) -> Result<usize> {
        let mut best = (Duration::MAX, 0);
        for (region, nodes) in self.connections.iter().enumerate() {
            let node = nodes.first().context("a region without nodes")?.clone();
            let load = load.clone();
            let took = self.generator.spawn(async move {
                let begun = Instant::now();
                for key in 0..PROBES {
                    let asked = load.asked((Kind::Put, Level::Strong), key, 0);
                    node.client().ask(&asked).await?;
                }
                Ok::<Duration, String>(begun.elapsed())
            });
            let took = took
                .await?
                .map_err(|why| anyhow!("a put before the load failed with {why}"))?;
            best = best.min((took, region));
        }
        Ok(best.1)
    }
}

/// What is due in one region.
struct Asking {
    region: usize,
    lost: usize,
    load: Load,
    connection: Connection,
    ended: Arc<Mutex<Vec<Ended>>>,
}

impl Asking {
    /// Begins operations when they are due, until it is told to stop; returns when all have ended. There are never more
    /// than the deadline has room for.
    async fn ask(self, stopped: watch::Receiver<bool>) {
        let mut under_way = JoinSet::new();
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let mut random = Random::new(self.load.seed.wrapping_add(self.region as u64));
        let mut written_there = false;
        while !*stopped.borrow() {
            ticks.tick().await;
            written_there = !written_there;
            for operation in [Kind::Get, Kind::Put] {
                let key = self.key(written_there, &mut random);
                let asked = self.load.asked((operation, Level::Strong), key, 0);
                let mut client = self.connection.client();
                let (ended, region) = (self.ended.clone(), self.region);
                under_way.spawn(async move {
                    let begun = Instant::now();
                    let well = client.ask(&asked).await.is_ok();
                    let at = Instant::now();
                    let mut ended = ended.lock().unwrap_or_else(PoisonError::into_inner);
                    ended.push(Ended {
                        region,
                        operation,
                        written_there,
                        begun,
                        at,
                        well,
                    });
                });
            }
            while under_way.try_join_next().is_some() {}
        }
        while under_way.join_next().await.is_some() {}
    }

    /// A key that the lost region wrote last, or one that it did not.
    fn key(&self, written_there: bool, random: &mut Random) -> u64 {
        loop {
            let key = random.below(self.load.keys);
            if (self.load.writer(key) == self.lost) == written_there {
                return key;
            }
        }
    }
}

/// The gaps of both operations in one region, for all keys and for those of the lost region.
fn gaps_of(ended: &[Ended], (region, name): (usize, &str), span: (Instant, Instant)) -> Vec<Gap> {
    let mut out = Vec::new();
    for operation in [Kind::Get, Kind::Put] {
        for written_there in [false, true] {
            let wanted = |it: &&Ended| {
                it.region == region
                    && it.operation == operation
                    && (it.written_there || !written_there)
            };
            let ended: Vec<&Ended> = ended.iter().filter(wanted).collect();
            let well = ended.iter().filter(|it| it.well);
            let took = well
                .clone()
                .map(|it| it.at.saturating_duration_since(it.begun));
            let ms = |time: Duration| time.as_secs_f64() * 1000.0;
            let done = well.clone().count() as u64;
            out.push(Gap {
                operation,
                region: name.to_owned(),
                written_there,
                longest_ms: ms(longest(well.map(|it| it.at).collect(), span)),
                done,
                failed: ended.len() as u64 - done,
                slowest_ms: took.max().map(ms),
            });
        }
    }
    out
}

/// The longest time between two of these moments that reaches into the span. Where there is none before or behind it,
/// the span ends the time.
fn longest(mut moments: Vec<Instant>, (begin, end): (Instant, Instant)) -> Duration {
    moments.sort_unstable();
    let before = moments.iter().rev().find(|it| **it <= begin);
    let mut last = before.copied().unwrap_or(begin);
    let mut longest = Duration::ZERO;
    for moment in moments.into_iter().filter(|it| *it > begin).chain([end]) {
        // What ends behind the span began in it: nothing is due there any more.
        let moment = moment.min(end);
        longest = longest.max(moment.saturating_duration_since(last));
        last = last.max(moment);
    }
    longest
}

impl Peer {
    async fn lose(&mut self, region: usize, fault: Fault) -> Result<()> {
        match self {
            Peer::Hansa(target) => lose(target.as_mut(), region, fault).await,
            Peer::Etcd(target) => lose(target.as_mut(), region, fault).await,
            Peer::Redis(_) => bail!("a redis can not be lost"),
        }
    }

    async fn mend(&mut self) -> Result<()> {
        match self {
            Peer::Hansa(target) => mend(target.as_mut()).await?,
            Peer::Etcd(target) => mend(target.as_mut()).await?,
            Peer::Redis(_) => {}
        }
        self.settle().await
    }
}

async fn lose<T: Target>(target: &mut T, region: usize, fault: Fault) -> Result<()> {
    for action in actions(target.layout(), region, fault) {
        let done = target.act(action).await;
        done.map_err(|refused| anyhow!("{action}: {refused}"))?;
    }
    Ok(())
}

async fn mend<T: Target>(target: &mut T) -> Result<()> {
    let open = target.act(Action::HealWires).await;
    open.map_err(|refused| anyhow!("{refused}"))?;
    target.heal().await
}

/// What takes a region away.
fn actions(layout: Layout, region: usize, fault: Fault) -> Vec<Action> {
    let nodes = || 0..layout.nodes();
    let lost = nodes().filter(|node| layout.region_of(*node) == region);
    match fault {
        Fault::Killed => lost.map(Action::Kill).collect(),
        Fault::BlackHoled => {
            let left = || nodes().filter(|node| layout.region_of(*node) != region);
            let pairs = lost.flat_map(|a| left().flat_map(move |b| [(a, b), (b, a)]));
            pairs
                .map(|(from, to)| Action::Wire(from, to, Wire::Blackhole))
                .collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::bars::Verdict;
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn the_longest_gap_reaches_into_the_span_from_before_and_to_its_end() {
        let start = Instant::now();
        let at = |all: &[u64]| all.iter().map(|it| start + ms(*it)).collect::<Vec<_>>();
        let span = (start + ms(1000), start + ms(5000));
        assert_eq!(longest(at(&[0, 900, 1300, 1400, 4900]), span), ms(3500));
        assert_eq!(
            longest(at(&[800, 1300, 1400]), span),
            ms(3600),
            "to the end"
        );
        assert_eq!(
            longest(at(&[4900, 3000, 2000, 1100, 200]), span),
            ms(1900),
            "in any order"
        );
        assert_eq!(
            longest(at(&[100]), span),
            ms(4900),
            "nothing succeeded any more"
        );
        assert_eq!(longest(Vec::new(), span), ms(4000));
        let every: Vec<u64> = (0..600).map(|it| it * 10).collect();
        assert_eq!(longest(at(&every), span), ms(10));
        assert_eq!(
            longest(at(&[990, 9000]), span),
            ms(4010),
            "what ends later does not make it longer"
        );
    }

    #[test]
    fn keys_of_the_lost_region_are_counted_once_more_by_themselves() {
        let start = Instant::now();
        let span = (start, start + ms(1000));
        let one = |written_there, at, well| Ended {
            region: 1,
            operation: Kind::Get,
            written_there,
            begun: start,
            at: start + ms(at),
            well,
        };
        let mut ended: Vec<Ended> = (0..100).map(|at| one(false, at * 10, true)).collect();
        ended.extend([one(true, 600, true), one(true, 700, false)]);
        let gaps = gaps_of(&ended, (1, "eu"), span);
        let of = |written_there| {
            let mut gaps = gaps.iter().filter(|it| it.operation == Kind::Get);
            gaps.find(|it| it.written_there == written_there).unwrap()
        };
        assert!((of(false).longest_ms - 10.0).abs() < 1e-6);
        assert!((of(true).longest_ms - 600.0).abs() < 1e-6);
        assert_eq!(
            (of(true).done, of(true).failed, of(false).done),
            (1, 1, 101)
        );
        assert_eq!(of(true).slowest_ms, Some(600.0));
        assert!(
            gaps_of(&ended, (2, "ap"), span)
                .iter()
                .all(|it| it.done == 0)
        );
    }

    #[test]
    fn a_black_hole_is_in_both_directions_and_nowhere_else() {
        let layout = Layout {
            regions: 3,
            nodes_per_region: 2,
        };
        let cut = actions(layout, 1, Fault::BlackHoled);
        assert_eq!(cut.len(), 2 * 2 * 4);
        let into = |node| move |it: &&Action| matches!(it, Action::Wire(_, to, Wire::Blackhole) if *to == node);
        assert_eq!(cut.iter().filter(into(2)).count(), 4);
        assert_eq!(
            cut.iter().filter(into(0)).count(),
            2,
            "only from the lost region"
        );
        let killed = actions(layout, 1, Fault::Killed);
        assert_eq!(killed, [Action::Kill(2), Action::Kill(3)]);
    }

    #[test]
    fn the_worst_region_decides_a_bar() {
        let gap = |region: &str, written_there, longest_ms| Gap {
            operation: Kind::Put,
            region: region.to_owned(),
            written_there,
            longest_ms,
            done: 1,
            failed: 0,
            slowest_ms: None,
        };
        let gaps = vec![
            gap("eu", false, 200.0),
            gap("ap", false, 501.0),
            gap("eu", true, 450.0),
        ];
        let loss = |target| Loss {
            target,
            fault: Fault::Killed,
            region: "us".to_owned(),
            sync_p50_ms: 0.3,
            gaps: gaps.clone(),
        };
        let all = bars(&[loss(Database::Etcd), loss(Database::Hansa)]);
        assert_eq!(all.len(), 8);
        let of = |name: &str| &all.iter().find(|it| it.name == name).unwrap().verdict;
        let any = of("a region killed: longest gap of strong puts");
        assert_eq!(any, &Verdict::Missed { by: Some(1.0) });
        let there = of("a region killed: longest gap of strong puts, keys that it wrote last");
        assert_eq!(there, &Verdict::Met { by: 50.0 });
        let not_run = of("a region black-holed: longest gap of strong puts");
        assert!(matches!(not_run, Verdict::Undecided { .. }));
        assert!(
            bars(&[loss(Database::Etcd)])
                .iter()
                .all(|it| it.measured.is_none())
        );
    }
}
