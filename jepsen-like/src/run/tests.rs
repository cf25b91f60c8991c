//! The runner against a target in memory that is as good, or as bad, as a test wants.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use serde_json::json;

use super::*;
use crate::history::{self, CONDITION_FAILED, Datum, Expect, Held, Level, Op, Record, Status};
use crate::nemesis::{Action, Effect, NodeIndex, Refused};
use crate::target::{FINAL_PROCESS, RunClock, TargetClient, Usage};
use crate::workload::{COUNTERS, Intent, SETS, Tie, split_key};

const LAYOUT: Layout = Layout {
    regions: 3,
    nodes_per_region: 1,
};

/// What is wrong with the target.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Flaws {
    /// Every so many acknowledged puts one is not kept.
    pub(super) loses: Option<u64>,
    /// Operations never end.
    pub(super) hangs: bool,
    /// Replicas never become equal.
    pub(super) unequal: bool,
    /// Memory that is used while operations are done, and not at the end, bytes.
    pub(super) peak: u64,
    /// The final state is never told.
    pub(super) mute: bool,
    /// A process has to be killed at the end.
    pub(super) stays: bool,
}

#[derive(Default)]
struct Data {
    /// Whether an operation was asked for since the last look.
    asked: bool,
    version: u64,
    puts: u64,
    registers: BTreeMap<String, (u64, Option<String>)>,
    totals: BTreeMap<String, i64>,
    sets: BTreeMap<String, BTreeSet<String>>,
}

#[derive(Clone, Default)]
pub(super) struct Fake {
    flaws: Flaws,
    data: Arc<Mutex<Data>>,
}

impl Fake {
    pub(super) fn with(flaws: Flaws) -> Fake {
        Fake {
            flaws,
            ..Fake::default()
        }
    }
}

pub(super) struct FakeClient {
    fake: Fake,
    process: u64,
    node: NodeIndex,
    last_ns: u64,
}

fn node_name(node: NodeIndex) -> String {
    format!("n{node}")
}

fn region_name(region: usize) -> String {
    format!("region-{region}")
}

impl Data {
    fn etag(version: u64) -> Option<String> {
        (version > 0).then(|| format!("{version:016x}"))
    }

    fn read(&self, key: &str, record: &mut Record) {
        match split_key(key).0 {
            COUNTERS => {
                let total = self.totals.get(key).copied().unwrap_or_default();
                record.value = Some(Datum::Integer(total));
            }
            SETS => {
                let members = self.sets.get(key).cloned().unwrap_or_default();
                record.value = Some(Datum::Members(members.into_iter().collect()));
            }
            _ => {
                let (version, value) = self.registers.get(key).cloned().unwrap_or_default();
                record.value = value.map(Datum::Text);
                record.etag = Data::etag(version);
            }
        }
    }

    fn held(&self, key: String) -> (String, Held) {
        let (version, value) = self.registers.get(&key).cloned().unwrap_or_default();
        let etag = Data::etag(version);
        (key, Held { value, etag })
    }

    fn store(&mut self, key: &str, value: Option<String>, record: &mut Record, loses: bool) {
        self.version += 1;
        record.etag = Data::etag(self.version);
        if !loses {
            self.registers.insert(key.to_owned(), (self.version, value));
        }
    }

    fn perform(&mut self, intent: &Intent, flaws: Flaws, record: &mut Record) {
        let key = intent.key.as_str();
        self.asked = true;
        record.status = Status::Ok;
        match (intent.op, &intent.value) {
            (Op::Get | Op::Read | Op::Members, _) => self.read(key, record),
            (Op::Put, Some(Datum::Text(text))) => {
                self.puts += 1;
                let loses = flaws
                    .loses
                    .is_some_and(|each| self.puts.is_multiple_of(each));
                self.store(key, Some(text.clone()), record, loses);
            }
            (Op::Delete, _) => self.store(key, None, record, false),
            (Op::Cas, Some(Datum::Swap(swap))) => {
                let (version, value) = self.registers.get(key).cloned().unwrap_or_default();
                let holds = match &swap.expect {
                    Expect::Absent => value.is_none(),
                    Expect::Value(expected) => value.as_ref() == Some(expected),
                    Expect::Etag(expected) => Data::etag(version).as_ref() == Some(expected),
                };
                match holds {
                    true => self.store(key, Some(swap.new.clone()), record, false),
                    false => {
                        record.status = Status::Fail;
                        record.error = Some(CONDITION_FAILED.to_owned());
                        record.etag = Data::etag(version);
                    }
                }
            }
            (Op::Incr, Some(Datum::Integer(by))) => {
                *self.totals.entry(key.to_owned()).or_default() += by;
            }
            (Op::Add, Some(Datum::Text(element))) => {
                let set = self.sets.entry(key.to_owned()).or_default();
                set.insert(element.clone());
            }
            (Op::Remove, Some(Datum::Text(element))) => {
                self.sets.entry(key.to_owned()).or_default().remove(element);
            }
            (Op::Contains, Some(Datum::Membership(asked))) => {
                let set = self.sets.get(key);
                let present = set.is_some_and(|set| set.contains(&asked.element));
                record.value = Some(Datum::Membership(history::Membership {
                    element: asked.element.clone(),
                    present: Some(present),
                }));
            }
            (Op::BatchGet, Some(Datum::Rows(asked))) => {
                let keys = asked.keys().cloned();
                record.value = Some(Datum::Rows(keys.map(|key| self.held(key)).collect()));
            }
            (Op::Scan, _) => {
                let live = self
                    .registers
                    .iter()
                    .filter(|(_, (_, value))| value.is_some());
                let keys = live.map(|(name, _)| name.clone());
                let covered = keys.filter(|name| name.starts_with(key));
                record.value = Some(Datum::Rows(covered.map(|key| self.held(key)).collect()));
            }
            other => panic!("no such operation: {other:?}"),
        }
    }
}

impl TargetClient for FakeClient {
    fn move_to(&mut self, node: NodeIndex) {
        self.node = node;
    }

    async fn perform(&mut self, intent: &Intent, clock: RunClock, deadline: Duration) -> Record {
        let invoke_ns = clock.now_ns().max(self.last_ns + 1);
        let session = format!("s{}", self.process);
        let mut record = intent.record(self.process, &session, invoke_ns);
        if self.fake.flaws.hangs {
            tokio::time::sleep(deadline * 1000).await;
        }
        tokio::task::yield_now().await;
        let flaws = self.fake.flaws;
        self.fake
            .data
            .lock()
            .unwrap()
            .perform(intent, flaws, &mut record);
        let region = region_name(self.node);
        record.node = Some(node_name(self.node));
        record.region = Some(region.clone());
        if intent.tie == Tie::Keeps {
            record.token_out = Some("kept".to_owned());
        }
        let strong = intent.level == Level::Strong;
        let regions: Vec<String> = match strong {
            true => (0..3).map(region_name).collect(),
            false => vec![region.clone()],
        };
        // It knows one place only, so nobody waits for others.
        record.ack_regions = None;
        record.receipt = Some(json!({
            "level": if strong { "strong" } else { "session" },
            "served_by": record.node, "served_in": region, "staleness_ms": 0,
            "durable_regions": regions, "regions": regions, "wan_round_trips": u8::from(strong),
        }));
        self.last_ns = clock.now_ns().max(invoke_ns);
        record.complete_ns = Some(self.last_ns);
        record
    }
}

impl Target for Fake {
    type Client = FakeClient;

    fn layout(&self) -> Layout {
        LAYOUT
    }

    fn region_name(&self, region: usize) -> String {
        region_name(region)
    }

    fn node_name(&self, node: NodeIndex) -> String {
        node_name(node)
    }

    fn client(&self, process: u64, node: NodeIndex) -> anyhow::Result<FakeClient> {
        Ok(FakeClient {
            fake: self.clone(),
            process,
            node,
            last_ns: 0,
        })
    }

    async fn act(&mut self, action: Action) -> Result<Effect, Refused> {
        match action {
            Action::Clock(..) => Err(Refused::NotHere("a clock of its own".to_owned())),
            Action::Pause(_) => Ok(Effect::Nothing),
            _ => Ok(Effect::Changed),
        }
    }

    async fn heal(&mut self) -> anyhow::Result<()> {
        Ok(())
    }

    async fn settle(&mut self, _: Duration) -> Result<Duration, String> {
        self.data.lock().unwrap().asked = false;
        Ok(Duration::from_millis(3))
    }

    async fn finals(&mut self, keys: &[String], clock: RunClock) -> Vec<Record> {
        if self.flaws.mute {
            std::future::pending::<()>().await;
        }
        let data = self.data.lock().unwrap();
        let mut lines = Vec::new();
        for region in 0..3 {
            for key in keys {
                let mut record = Record::event(FINAL_PROCESS, Op::Final, clock.now_ns());
                record.region = Some(region_name(region));
                record.node = Some(node_name(region));
                record.key = Some(key.clone());
                record.status = Status::Ok;
                data.read(key, &mut record);
                record.complete_ns = Some(clock.now_ns());
                lines.push(record);
            }
            let mut record = Record::event(FINAL_PROCESS, Op::Digest, clock.now_ns());
            record.node = Some(node_name(region));
            record.key = Some("all".to_owned());
            let differs = self.flaws.unequal && region == 1;
            record.value = Some(Datum::Text(if differs { "a" } else { "b" }.to_owned()));
            record.status = Status::Ok;
            record.complete_ns = Some(clock.now_ns());
            lines.push(record);
        }
        lines
    }

    async fn probes(&mut self) -> BTreeMap<String, u64> {
        BTreeMap::from([("starts".to_owned(), 1)])
    }

    async fn usage(&mut self) -> Vec<Usage> {
        let busy = self.data.lock().unwrap().asked;
        self.data.lock().unwrap().asked = false;
        let memory = if busy { self.flaws.peak } else { 1 << 20 };
        let (disk, files) = (1 << 20, 10);
        let node = 0;
        vec![Usage {
            node,
            memory,
            disk,
            files,
        }]
    }

    fn deaths(&mut self) -> Vec<String> {
        Vec::new()
    }

    async fn stop(self) -> Vec<String> {
        let stays = self.flaws.stays.then(|| "n1 was killed".to_owned());
        stays.into_iter().collect()
    }
}

pub(super) fn options(folder: &Path) -> Options {
    Options {
        seed: 11,
        workloads: vec![Workload::All],
        levels: vec![Levels::Mixed],
        nemeses: vec![Nemesis::RegionIsolation],
        time: Duration::from_millis(1),
        round: Duration::from_millis(5_500),
        rounds: 0,
        clients_per_node: 2,
        think: Duration::from_millis(4),
        deadline: Duration::from_millis(200),
        settle_within: Duration::from_secs(5),
        folder: folder.to_owned(),
        prefix: String::new(),
        keep: 100,
        asked: BTreeMap::new(),
        done: None,
    }
}

fn play(flaws: Flaws, change: impl FnOnce(&mut Options)) -> (Outcome, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let mut options = options(folder.path());
    change(&mut options);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let start = async |_: &[Nemesis]| Ok(Fake::with(flaws));
    let outcome = runtime.block_on(run(&options, start, |_| {})).unwrap();
    (outcome, folder)
}

fn found(outcome: &Outcome) -> Vec<&str> {
    let all = outcome.rounds.iter().flat_map(|round| &round.findings);
    all.map(|finding| finding.property.as_str()).collect()
}

#[test]
fn a_good_target_is_clean_and_leaves_its_history() {
    let (outcome, folder) = play(Flaws::default(), |_| {});
    assert!(outcome.is_clean(), "{:?}", outcome.rounds[0].findings);
    let round = &outcome.rounds[0];
    assert!(round.strikes[&Nemesis::RegionIsolation] >= 1);
    assert!(outcome.operations().0 > 500, "{:?}", outcome.operations());
    let file = fs::File::open(folder.path().join(round.history_name())).unwrap();
    let history = history::History::read(std::io::BufReader::new(file)).unwrap();
    let faults = history.records.iter().filter(|it| it.op == Op::Nemesis);
    assert!(faults.count() >= 6, "begin, act and end are lines");
    assert!(history.records.iter().all(|it| it.run == "round-0000"));
    let verdict = fs::read(folder.path().join("verdict.json")).unwrap();
    let verdict: Outcome = serde_json::from_slice(&verdict).unwrap();
    assert_eq!(verdict.rounds.len(), 1);
    let histories = crate::report::in_folder(folder.path());
    let report = crate::report::render(&outcome, "again", &[], &histories);
    assert!(
        report.contains("class=\"full isolated\""),
        "faults are shaded"
    );
    assert_eq!(verdict.probes["starts"], 1);
}

#[test]
fn a_lost_write_and_unequal_replicas_are_found() {
    let flaws = Flaws {
        loses: Some(3),
        unequal: true,
        ..Flaws::default()
    };
    let (outcome, _folder) = play(flaws, |it| {
        it.round = Duration::from_secs(3);
        it.workloads = vec![Workload::Register];
        it.levels = vec![Levels::Strong];
    });
    assert!(!outcome.is_clean());
    let found = found(&outcome);
    for property in ["durability", "linearizable", "convergence"] {
        assert!(found.contains(&property), "{property} in {found:?}");
    }
    let text = progress::line(&outcome.rounds[0]);
    assert!(text.contains("history-0000.jsonl lines"), "{text}");
    assert!(progress::closing(&outcome).contains("1 rounds are not clean (seed 11)"));
}

#[test]
fn operations_that_never_end_are_found() {
    let flaws = Flaws {
        hangs: true,
        ..Flaws::default()
    };
    let (outcome, _folder) = play(flaws, |it| {
        it.round = Duration::from_millis(300);
        it.deadline = Duration::from_millis(10);
    });
    assert!(found(&outcome).contains(&"operations_end"));
}

#[test]
fn a_process_that_does_not_end_as_told_makes_the_last_round_of_its_cluster_red() {
    let flaws = Flaws {
        stays: true,
        ..Flaws::default()
    };
    let (outcome, folder) = play(flaws, |it| it.round = Duration::from_millis(300));
    assert!(found(&outcome).contains(&"process_ended"));
    let written = Outcome::read(folder.path()).unwrap().unwrap();
    assert!(!written.is_clean());
}

#[test]
fn what_can_not_be_done_here_is_named() {
    let (outcome, _folder) = play(Flaws::default(), |it| {
        it.nemeses = vec![Nemesis::ClockJump, Nemesis::Upgrade];
    });
    assert_eq!(
        outcome.not_here()[&Nemesis::ClockJump],
        "a clock of its own"
    );
    assert_eq!(outcome.rounds[0].strikes.len(), 0);
    let closing = progress::closing(&outcome);
    assert!(closing.contains("not done here: clock-jump: a clock of its own"));
    assert!(closing.contains("n/a (issue 7): upgrade"), "{closing}");
}

#[test]
fn a_peak_within_a_round_is_found_and_not_only_what_is_left_at_its_end() {
    let flaws = Flaws {
        peak: 600 << 20,
        ..Flaws::default()
    };
    let short = |it: &mut Options| {
        it.nemeses = vec![Nemesis::Calm];
        it.round = Duration::from_millis(2_500);
    };
    let (outcome, folder) = play(flaws, short);
    assert_eq!(found(&outcome), ["resources"]);
    let file = fs::File::open(folder.path().join(outcome.rounds[0].history_name())).unwrap();
    let history = history::History::read(std::io::BufReader::new(file)).unwrap();
    let usage = history.records.iter().filter(|it| it.op == Op::Usage);
    let count = usage.count();
    assert!(
        (2..=4).contains(&count),
        "each second, and at the end: {count}"
    );
}

#[test]
fn more_rounds_than_would_fit_have_the_same_faults_closer_together() {
    let (outcome, folder) = play(Flaws::default(), |it| {
        it.time = Duration::from_secs(12);
        it.round = Duration::from_secs(12);
        it.rounds = 3;
        it.nemeses = vec![Nemesis::RegionIsolation];
    });
    assert!(outcome.rounds.len() >= 3, "{}", outcome.rounds.len());
    for round in &outcome.rounds {
        assert!((1000..12_000).contains(&round.load_ms), "{}", round.load_ms);
        assert!(round.strikes[&Nemesis::RegionIsolation] >= 1);
        let file = fs::File::open(folder.path().join(round.history_name())).unwrap();
        let history = history::History::read(std::io::BufReader::new(file)).unwrap();
        assert!(history.records.iter().any(|it| it.op == Op::Final));
    }
    let closing = progress::closing(&outcome);
    let rounds = outcome.rounds.len();
    assert!(
        closing.starts_with(&format!("{rounds} rounds (3 wanted) in ")),
        "{closing}"
    );
}

#[test]
fn faults_that_did_nothing_are_shown_apart() {
    let (outcome, folder) = play(Flaws::default(), |it| {
        it.nemeses = vec![Nemesis::Pause];
        it.round = Duration::from_secs(3);
    });
    let round = &outcome.rounds[0];
    assert!(round.strikes.is_empty(), "{:?}", round.strikes);
    let vain = round.vain[&Nemesis::Pause];
    assert!(progress::line(round).contains(&format!("{vain} more did nothing: pause")));
    let closing = progress::closing(&outcome);
    assert!(
        closing.contains(&format!("0 faults, {vain} more that did nothing")),
        "{closing}"
    );
    let histories = crate::report::in_folder(folder.path());
    let report = crate::report::render(&outcome, "again", &[], &histories);
    assert!(report.contains("without effect"));
}

#[test]
fn every_workload_level_and_fault_comes_up_before_any_comes_again() {
    use clap::ValueEnum;
    let folder = tempfile::tempdir().unwrap();
    let mut options = options(folder.path());
    options.workloads = Workload::value_variants().to_vec();
    options.levels = Levels::value_variants().to_vec();
    options.nemeses = Nemesis::value_variants().to_vec();
    let mut deck = Deck::new(&options);
    let cells: Vec<Cell> = (0..40).map(|_| deck.draw()).collect();
    let workloads: BTreeSet<_> = cells[..10].iter().map(|cell| cell.workload).collect();
    assert_eq!(workloads.len(), 10);
    let nemeses: BTreeSet<_> = cells.iter().flat_map(|cell| &cell.nemeses).collect();
    assert_eq!(nemeses.len(), Nemesis::value_variants().len() - 2);
    let mut again = Deck::new(&options);
    for cell in &cells {
        let upcoming = again.upcoming(3);
        assert_eq!(&upcoming[0], cell);
        assert!(!upcoming[..upcoming.len() - 1].iter().any(Cell::destroys));
        assert_eq!(&again.draw(), cell);
    }
}

#[test]
fn a_run_is_taken_up_where_it_ended_and_old_histories_go() {
    let many = |it: &mut Options| {
        it.round = Duration::from_millis(60);
        it.time = Duration::from_secs(2);
        it.nemeses = vec![Nemesis::Calm];
        it.keep = 2;
    };
    let (first, folder) = play(Flaws::default(), many);
    let rounds = first.rounds.len();
    assert!(rounds >= 3, "{rounds}");
    assert_eq!(histories(folder.path()), 2);
    let path = folder.path().to_owned();
    let (second, _other) = play(Flaws::default(), |it| {
        many(it);
        it.done = Outcome::read(&path).unwrap();
    });
    assert!(second.rounds.len() > rounds);
    assert_eq!(second.rounds[rounds].number as usize, rounds);
    assert!(second.seconds > first.seconds);
}

/// Runs short rounds, each on a cluster of its own, of which only so many start.
fn only(clusters: usize, folder: &Path) -> anyhow::Result<Outcome> {
    let mut options = options(folder);
    options.round = Duration::from_millis(60);
    options.time = Duration::from_secs(60);
    options.nemeses = vec![Nemesis::BitFlip];
    let mut started = 0;
    let start = async |_: &[Nemesis]| {
        started += 1;
        anyhow::ensure!(started <= clusters, "no port is left");
        Ok(Fake::default())
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(run(&options, start, |_| {}))
}

#[test]
fn a_later_cluster_that_does_not_start_is_a_round_that_is_not_clean() {
    let folder = tempfile::tempdir().unwrap();
    let error = only(0, folder.path()).unwrap_err();
    assert_eq!(error.to_string(), "no port is left", "nothing was tried");
    let outcome = only(2, folder.path()).unwrap();
    assert_eq!(outcome.rounds.len(), 3);
    let last = &outcome.rounds[2];
    assert_eq!(last.findings.len(), 1);
    assert_eq!(last.findings[0].property, "cluster_starts");
    assert!(last.findings[0].explanation.contains("no port is left"));
    assert!(!outcome.is_clean());
    let written = Outcome::read(folder.path()).unwrap().unwrap();
    assert_eq!(written.rounds.len(), 3);
    let histories = crate::report::in_folder(folder.path());
    let report = crate::report::render(&outcome, "again", &[], &histories);
    assert!(report.contains("no port is left"));
}

#[test]
fn a_run_is_not_taken_up_with_other_options() {
    let asked = |levels: &str| {
        let pairs = [("levels", levels), ("think", "60")];
        BTreeMap::from(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())))
    };
    let short = |it: &mut Options, levels: &str| {
        it.round = Duration::from_millis(60);
        it.asked = asked(levels);
    };
    let (first, folder) = play(Flaws::default(), |it| short(it, "mixed"));
    let done = Outcome::read(folder.path()).unwrap();
    assert_eq!(done.as_ref().unwrap().asked, asked("mixed"));
    let mut options = options(folder.path());
    short(&mut options, "strong");
    options.done = done.clone();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let start = async |_: &[Nemesis]| Ok(Fake::default());
    let why = runtime.block_on(run(&options, start, |_| {})).unwrap_err();
    let why = why.to_string();
    assert!(
        why.contains("--levels was `mixed` and is `strong`; give"),
        "{why}"
    );
    assert!(!why.contains("think"), "{why}");
    options.asked.remove("levels");
    let why = runtime.block_on(run(&options, start, |_| {})).unwrap_err();
    assert!(
        why.to_string()
            .contains("--levels was `mixed` and is not given")
    );
    let (second, _other) = play(Flaws::default(), |it| {
        short(it, "mixed");
        it.done = done;
    });
    assert!(second.rounds.len() > first.rounds.len());
}

fn histories(folder: &Path) -> usize {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let names = entries.map(|entry| entry.file_name().into_string().unwrap());
    names.filter(|name| name.starts_with("history-")).count()
}
