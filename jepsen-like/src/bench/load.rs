//! One load on a running cluster: keys are written first, then clients ask for a while.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use futures_util::future::{join_all, try_join_all};
use tokio::runtime::Handle;
use tokio::time::{sleep, sleep_until};

use super::figures::{Tally, Window};
use super::keys::{self, KEYS_MAX, Keys, Place, Share};
use super::mix::{Kind, Mix, Weighted};
use super::peer::{Asked, Asker, Connection, DEADLINE, Peer, Setup};
use super::schedule::{Dispatcher, Due, Schedule};
use crate::history::Level;
use crate::random::Random;

/// Most clients of one region.
pub const CLIENTS_MAX: usize = 4096;
/// Longest value, bytes: what Hansa takes.
pub const VALUE_BYTES_MAX: usize = 1 << 20;
/// Clients of one region that write the keys before a load.
const WRITERS: usize = 64;
/// How often a key is tried to be written before a load.
const WRITE_TRIES: u32 = 5;
/// After the end of an open loop, what was due before goes on for so long.
const DRAIN: Duration = Duration::from_secs(5);
/// A client whose operation failed waits for so long in a closed loop: refusals are quick and would be all there is.
const AFTER_FAILURE: Duration = Duration::from_millis(10);

/// What clients do.
#[derive(Clone, Debug)]
pub struct Load {
    /// Clients of each region.
    pub clients: Vec<usize>,
    /// Operations a second, all clients together; `None` for a closed loop, where each client asks again when it was
    /// answered.
    pub rate: Option<f64>,
    /// What does not count, before what does. Nothing where each key is asked for once.
    pub warm_up: Duration,
    /// What counts.
    pub time: Duration,
    /// Everything that is drawn comes from it.
    pub seed: u64,
    /// The operations.
    pub mix: Mix,
    /// Their levels.
    pub levels: Weighted<Level>,
    /// Keys that are there before.
    pub keys: u64,
    /// How much some keys are preferred, `0.0..1.0`.
    pub skew: f64,
    /// Whose keys a region asks for.
    pub share: Share,
    /// The length of values.
    pub value_bytes: usize,
}

impl Load {
    /// Whether it can be done in so many regions.
    ///
    /// # Errors
    /// Names the bound that does not hold.
    pub fn check(&self, regions: usize) -> Result<()> {
        let clients: usize = self.clients.iter().sum();
        ensure!(
            self.clients.len() == regions,
            "--clients names {} regions and there are {regions}",
            self.clients.len()
        );
        ensure!(
            clients > 0 && self.clients.iter().all(|it| *it <= CLIENTS_MAX),
            "--clients: 1 to {CLIENTS_MAX} a region"
        );
        ensure!(
            self.rate.is_none_or(|it| it.is_finite() && it > 0.0),
            "--rate: more than 0"
        );
        let least = match self.share {
            Share::All | Share::Each => 1,
            Share::Own | Share::Elsewhere => regions as u64,
        };
        ensure!(
            (least..=KEYS_MAX).contains(&self.keys),
            "--keys: {least} to {KEYS_MAX}"
        );
        ensure!(
            (0.0..1.0).contains(&self.skew),
            "--skew: at least 0 and less than 1"
        );
        ensure!(
            self.value_bytes <= VALUE_BYTES_MAX,
            "--value-bytes: at most {VALUE_BYTES_MAX}"
        );
        if self.share.once() && (self.rate.is_some() || self.mix.kinds.has(Kind::Insert)) {
            bail!(
                "--keys-of elsewhere and each go through the keys once: leave --rate and inserts out, or choose own or all"
            );
        }
        Ok(())
    }

    /// The level at which keys are written first: keys that are asked for strongly have to be settled.
    fn first_level(&self) -> Level {
        match self.levels.has(Level::Strong) || self.mix.kinds.has(Kind::Cas) {
            true => Level::Strong,
            false => Level::Eventual,
        }
    }

    /// The region that writes a key before the load.
    pub(super) fn writer(&self, key: u64) -> usize {
        let regions = self.clients.len();
        let owner = (key % regions as u64) as usize;
        match self.share {
            Share::All | Share::Own | Share::Each => owner,
            Share::Elsewhere => (owner + 1) % regions,
        }
    }

    /// One operation on a key.
    pub(super) fn asked(&self, (kind, level): (Kind, Level), key: u64, rows: u32) -> Asked {
        Asked {
            kind,
            level,
            place: Place::of(key, self.mix.kinds.has(Kind::Scan)),
            value: keys::value(key, self.value_bytes),
            rows,
        }
    }
}

/// What a load came to.
#[derive(Debug)]
pub(super) struct Measured {
    /// By region.
    pub(super) tallies: Vec<Tally>,
    /// How long operations counted; less than asked for where the keys ran out.
    pub(super) seconds: f64,
    /// Seconds of processors while they counted.
    pub(super) server_cpu: f64,
    /// As `server_cpu`.
    pub(super) generator_cpu: f64,
    /// Operations that were due and that no client came to begin.
    pub(super) not_begun: u64,
}

/// What all clients of a load have in common.
struct Shared {
    load: Load,
    /// By region.
    keys: Vec<Keys>,
    tallies: Vec<Mutex<Tally>>,
    /// By region: the keys gone through, where each is asked for once.
    through: Vec<AtomicU64>,
    /// Keys that inserts were begun for, and that were there before.
    begun: AtomicU64,
    /// Keys that are there.
    known: AtomicU64,
    window: Window,
    give_up: Instant,
}

impl Shared {
    fn new(load: &Load, begin: Instant) -> Shared {
        let regions = load.clients.len();
        let keys = |region| Keys::new(load.keys, load.skew, load.share, (region, regions));
        let begin = match load.share.once() {
            // None of the keys is to be lost before it counts.
            true => begin,
            false => begin + load.warm_up,
        };
        let end = begin + load.time;
        Shared {
            keys: (0..regions).map(keys).collect(),
            tallies: (0..regions).map(|_| Mutex::default()).collect(),
            through: (0..regions).map(|_| AtomicU64::new(0)).collect(),
            begun: AtomicU64::new(load.keys),
            known: AtomicU64::new(load.keys),
            window: Window { begin, end },
            give_up: end + DRAIN,
            load: load.clone(),
        }
    }

    /// What a client of a region asks next; `None` when its keys have all been asked for.
    fn draw(&self, region: usize, random: &mut Random) -> Option<Asked> {
        let load = &self.load;
        let kind = load.mix.kinds.draw(random);
        let level = match kind {
            Kind::Cas => Level::Strong,
            _ => load.levels.draw(random),
        };
        let keys = &self.keys[region];
        let key = match (kind, load.share) {
            (Kind::Insert, _) => self.begun.fetch_add(1, Ordering::Relaxed),
            (_, share) if share.once() => {
                let position = self.through[region].fetch_add(1, Ordering::Relaxed);
                (position < keys.count()).then(|| keys.at(position))?
            }
            _ if load.mix.latest => keys.draw_latest(self.known.load(Ordering::Relaxed), random),
            _ => keys.draw(random),
        };
        let rows = random.between(1, keys::ROWS) as u32;
        Some(load.asked((kind, level), key, rows))
    }

    fn note(&self, region: usize, asked: &Asked, from: Instant, outcome: Result<(), String>) {
        if asked.kind == Kind::Insert && outcome.is_ok() {
            self.known.fetch_add(1, Ordering::Relaxed);
        }
        let tally = self.tallies[region].lock();
        let mut tally = tally.unwrap_or_else(PoisonError::into_inner);
        let what = (asked.kind, asked.level);
        tally.note(what, (from, Instant::now()), outcome, self.window);
    }
}

/// One client, until the end.
async fn client(
    mut asker: Asker,
    shared: Arc<Shared>,
    region: usize,
    mut random: Random,
    due: Option<Due>,
) {
    while Instant::now() < shared.give_up {
        let from = match &due {
            Some(due) => due.next().await,
            None => Some(Instant::now()).filter(|now| *now < shared.window.end),
        };
        let Some(from) = from else { return };
        let Some(asked) = shared.draw(region, &mut random) else {
            return;
        };
        let outcome = asker.ask(&asked).await;
        let failed = outcome.is_err();
        shared.note(region, &asked, from, outcome);
        if failed && due.is_none() {
            sleep(AFTER_FAILURE).await;
        }
    }
}

/// Connections to every node, by region, made on the runtime of the generator.
///
/// # Errors
/// When a node can not be reached.
pub(super) async fn connect(
    peer: &Peer,
    setup: &Setup,
    generator: &Handle,
) -> Result<Vec<Vec<Connection>>> {
    let regions = (0..setup.layout.regions).map(|region| peer.doors(setup, region));
    let doors: Vec<_> = regions.collect();
    let connecting = generator.spawn(async move {
        let region =
            |doors: Vec<_>| async move { try_join_all(doors.iter().map(Connection::open)).await };
        try_join_all(doors.into_iter().map(region)).await
    });
    connecting.await.context("the generator ended")?
}

/// Writes every key.
///
/// # Errors
/// When one can not be written, however often it is tried.
pub(super) async fn fill(
    load: &Load,
    connections: &[Vec<Connection>],
    generator: &Handle,
) -> Result<()> {
    let counts = load.mix.kinds.has(Kind::Incr);
    let only_counts = counts
        && Kind::ALL
            .iter()
            .filter(|it| load.mix.kinds.has(**it))
            .count()
            == 1;
    let mut kinds = Vec::new();
    kinds.extend((!only_counts).then_some(Kind::Put));
    kinds.extend(counts.then_some(Kind::Incr));
    let load = Arc::new(load.clone());
    for kind in kinds {
        let mut writers = Vec::new();
        for (region, nodes) in connections.iter().enumerate() {
            let next = Arc::new(AtomicU64::new(0));
            for writer in 0..WRITERS {
                let asker = nodes[writer % nodes.len()].client();
                let work = write_all(asker, load.clone(), (region, kind), next.clone());
                writers.push(generator.spawn(work));
            }
        }
        for written in join_all(writers).await {
            written.context("the generator ended")??;
        }
    }
    Ok(())
}

/// Writes what is left of the keys that a region writes, together with others.
async fn write_all(
    mut asker: Asker,
    load: Arc<Load>,
    (region, kind): (usize, Kind),
    next: Arc<AtomicU64>,
) -> Result<()> {
    loop {
        let key = next.fetch_add(1, Ordering::Relaxed);
        if key >= load.keys {
            return Ok(());
        }
        if load.writer(key) != region {
            continue;
        }
        let asked = load.asked((kind, load.first_level()), key, 0);
        let mut tries = 0;
        while let Err(reason) = asker.ask(&asked).await {
            tries += 1;
            ensure!(
                tries < WRITE_TRIES,
                "key {key} can not be written before the load: {reason}"
            );
            sleep(AFTER_FAILURE).await;
        }
    }
}

/// Lets the clients ask, on the runtime of the generator.
///
/// # Errors
/// When the generator itself fails.
pub(super) async fn measure(
    load: &Load,
    connections: &[Vec<Connection>],
    generator: &Handle,
    cpu: impl Fn() -> (f64, f64),
) -> Result<Measured> {
    let begin = Instant::now();
    let shared = Arc::new(Shared::new(load, begin));
    let all: usize = load.clients.iter().sum();
    let mut clients = Vec::new();
    let mut dispatchers = Vec::new();
    for (region, nodes) in connections.iter().enumerate() {
        let count = load.clients[region];
        let seed = load.seed.wrapping_add((region as u64) << 32);
        let mut waiting = None;
        if let Some(rate) = load.rate.filter(|_| count > 0) {
            let schedule = Schedule::new(rate * count as f64 / all as f64, !seed);
            let (dispatcher, due) = Dispatcher::start(schedule, (begin, shared.window.end))?;
            dispatchers.push((dispatcher, due.clone()));
            waiting = Some(due);
        }
        for index in 0..count {
            let asker = nodes[index % nodes.len()].client();
            let random = Random::new(seed.wrapping_add(index as u64));
            let work = client(asker, shared.clone(), region, random, waiting.clone());
            clients.push(generator.spawn(work));
        }
    }
    let mut ended = Box::pin(join_all(clients));
    sleep_until(shared.window.begin.into()).await;
    let (counted, before) = (Instant::now(), cpu());
    let early = tokio::select! {
        results = &mut ended => Some(results),
        () = sleep_until(shared.window.end.into()) => None,
    };
    let (seconds, after) = (counted.elapsed().as_secs_f64(), cpu());
    let results = match early {
        Some(results) => results,
        None => tokio::time::timeout(DRAIN + DEADLINE + DEADLINE, ended)
            .await
            .context("clients do not end")?,
    };
    for result in results {
        result.context("a client ended")?;
    }
    let mut not_begun = 0;
    for (dispatcher, due) in dispatchers {
        not_begun += dispatcher.left(due).await;
    }
    let shared = Arc::into_inner(shared).context("a client has not ended")?;
    let tallies = shared.tallies.into_iter();
    Ok(Measured {
        tallies: tallies
            .map(|it| it.into_inner().unwrap_or_else(PoisonError::into_inner))
            .collect(),
        seconds,
        server_cpu: after.0 - before.0,
        generator_cpu: after.1 - before.1,
        not_begun,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::mix::levels;

    fn load(mix: &str, share: Share) -> Load {
        Load {
            clients: vec![1; 3],
            rate: None,
            warm_up: Duration::ZERO,
            time: Duration::from_secs(60),
            seed: 1,
            mix: Mix::parse(mix).unwrap(),
            levels: levels("strong").unwrap(),
            keys: 10,
            skew: 0.0,
            share,
            value_bytes: 10,
        }
    }

    #[test]
    fn bounds_are_named() {
        let good = load("a", Share::Own);
        assert!(good.check(3).is_ok());
        type Change = fn(&mut Load);
        let wrong: [(Change, &str); 7] = [
            (|it| it.clients = vec![1; 2], "names 2 regions"),
            (|it| it.clients = vec![0; 3], "1 to 4096"),
            (|it| it.rate = Some(0.0), "--rate"),
            (|it| it.keys = 2, "--keys: 3 to"),
            (|it| it.skew = 1.0, "--skew"),
            (|it| it.value_bytes = 2 << 20, "--value-bytes"),
            (
                |it| (it.share, it.rate) = (Share::Elsewhere, Some(1.0)),
                "once",
            ),
        ];
        for (change, part) in wrong {
            let mut load = good.clone();
            change(&mut load);
            let why = load.check(3).unwrap_err().to_string();
            assert!(why.contains(part), "{why}");
        }
    }

    #[test]
    fn keys_of_elsewhere_are_written_by_another_region_and_asked_for_once() {
        let load = load("put", Share::Elsewhere);
        let shared = Shared::new(&load, Instant::now());
        let mut random = Random::new(1);
        let mut seen = Vec::new();
        for region in 0..3 {
            while let Some(asked) = shared.draw(region, &mut random) {
                let key: u64 = asked.place.partition["user".len()..].parse().unwrap();
                assert_ne!(load.writer(key), region, "key {key}");
                seen.push(key);
            }
        }
        seen.sort_unstable();
        assert_eq!(seen, (0..10).collect::<Vec<_>>());
        let each = self::load("get", Share::Each);
        let shared = Shared::new(&each, Instant::now());
        for region in 0..3 {
            let all = std::iter::from_fn(|| shared.draw(region, &mut random));
            assert_eq!(all.count(), 10, "all keys, once");
        }
        let own = self::load("put", Share::Own);
        let shared = Shared::new(&own, Instant::now());
        for region in 0..3 {
            let asked = shared.draw(region, &mut random).unwrap();
            let key: u64 = asked.place.partition["user".len()..].parse().unwrap();
            assert_eq!(own.writer(key), region);
        }
    }

    #[test]
    fn inserts_take_new_keys_and_a_compare_and_set_is_strong() {
        let mut load = load("insert", Share::All);
        load.levels = levels("eventual").unwrap();
        let shared = Shared::new(&load, Instant::now());
        let mut random = Random::new(1);
        let names = [10, 11].map(|_| shared.draw(0, &mut random).unwrap().place.partition);
        assert_eq!(names, ["user0000000010", "user0000000011"]);
        let mut load = self::load("cas", Share::All);
        load.levels = levels("eventual").unwrap();
        assert_eq!(load.first_level(), Level::Strong);
        let asked = Shared::new(&load, Instant::now()).draw(0, &mut random);
        assert_eq!(asked.unwrap().level, Level::Strong);
    }
}
