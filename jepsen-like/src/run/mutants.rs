//! Rules broken in real processes, and the round in which each one matters.
//!
//! A round is one of `run`: the same plan of faults, the same load, the same checkers, on a fresh cluster. Only the
//! binary differs: it is built with feature `mutants` and told which rule to leave out.

use std::path::{Path, PathBuf};
use std::time::Duration;

use hansa_consistency::rules::Mutant;

use super::outcome::Finding;
use super::{Cell, Options, Outcome, Round, round};
use crate::cluster::Spec;
use crate::nemesis::{Action, Disk, Layout, Nemesis, Plan, Planned, Refused};
use crate::target::Target;
use crate::target::hansa::HansaTarget;
use crate::workload::{Levels, Recipe, Workload};

mod list;
mod stages;

pub use list::all;

/// The load of a round: time for two or three faults of a kind.
const ROUND: Duration = Duration::from_secs(10);
/// An operation is given up after this.
const DEADLINE: Duration = Duration::from_millis(2_500);
/// How long after healing everything must be quiet and equal. A whole cluster takes less than 10 s on a busy machine; a
/// broken one never settles, and is waited for in every round.
const SETTLE_WITHIN: Duration = Duration::from_secs(30);

/// Rounds for a rule of which it is proved that no run can tell: enough to see that the proof is not plainly wrong.
const PROVED_ROUNDS_MAX: u32 = 3;

/// A broken rule, and the rounds to look for it in.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Its name, as the binary knows it.
    pub name: String,
    /// What clients do and which faults strike. All kinds of fault strike in every round.
    pub cell: Cell,
    /// Where a plan drawn from the seed would hardly ever bring it about: what is done when instead, of the kinds of the
    /// cell and no others, and which operations clients do meanwhile.
    pub stage: Option<(Vec<Planned>, Recipe)>,
    /// Clients that begin at each node.
    pub clients: usize,
    /// Longest pause of a client between two operations.
    pub think: Duration,
    /// How much longer every sync takes throughout, milliseconds: the power then goes between a write and its sync.
    pub slow_ms: u64,
    /// Whether the power goes with every kill, in the middle of a sync too: every kill has to be part of a power cut.
    pub cuts: bool,
    /// Why no run can tell, when that is proved: a title in `docs/mutants.md`.
    pub equivalent: Option<&'static str>,
    /// Whether a name on the disks is durable only when its directory is synced, which is all that POSIX promises.
    pub strict_names: bool,
}

/// Where rounds are tried, and how many.
#[derive(Clone, Debug)]
pub struct Trial {
    /// A `hansa` built with feature `mutants`.
    pub program: PathBuf,
    /// Histories and verdicts go to `RULE/broken` and `RULE/whole` in it.
    pub folder: PathBuf,
    /// Everything that varies is drawn from it.
    pub seed: u64,
    /// Rounds for each rule at most.
    pub rounds: u32,
}

/// What came of a search.
#[derive(Clone, Debug, Default)]
pub struct Search {
    /// Rounds played with the rule broken, the telling one included.
    pub rounds: u32,
    /// The property that told, and what else the same round violated; empty when none did.
    pub by: Vec<String>,
    /// What was wrong in rounds with all rules in force.
    pub control: Vec<Finding>,
    /// What this machine does not permit.
    pub not_here: Option<String>,
}

/// What a round showed.
enum Shown {
    Findings(Vec<Finding>),
    NotHere(String),
}

/// The rules that the binary can break.
///
/// # Errors
/// When it can not be run, or is not built with feature `mutants`; says how to build it.
pub fn known_to(program: &Path) -> anyhow::Result<Vec<String>> {
    let asked = std::process::Command::new(program)
        .arg("serve")
        .env("HANSA_MUTANT", "")
        .output()
        .map_err(|error| anyhow::anyhow!("can not run {}: {error}", program.display()))?;
    let said = String::from_utf8_lossy(&asked.stderr);
    let names = said.split_once("one for a process: ").map(|(_, it)| it);
    let Some(names) = names.filter(|_| said.contains("HANSA_MUTANT")) else {
        anyhow::bail!(
            "{} breaks no rules: build it with `cargo build --release -p hansa --features mutants --target-dir target/mutants`",
            program.display()
        );
    };
    let names = names.trim().split(", ").map(str::to_owned);
    Ok(names.collect())
}

/// Refuses a list that does not fit the binary: a rule of the processes that nobody answers for, or one unknown there.
///
/// # Errors
/// Names the rules.
pub fn check(known: &[String]) -> anyhow::Result<()> {
    let tried: Vec<String> = all().into_iter().map(|it| it.name).collect();
    let core = Mutant::ALL.map(|mutant| format!("{mutant:?}"));
    let unanswered = known
        .iter()
        .filter(|name| !core.contains(name) && !tried.contains(name));
    let unanswered: Vec<&String> = unanswered.collect();
    anyhow::ensure!(
        unanswered.is_empty(),
        "rules of the binary without a round: {unanswered:?}"
    );
    let unknown: Vec<&String> = tried.iter().filter(|it| !known.contains(it)).collect();
    anyhow::ensure!(
        unknown.is_empty(),
        "rules that the binary does not know: {unknown:?}"
    );
    Ok(())
}

impl Candidate {
    /// Plays rounds with the rule broken until a checker tells. That counts only when the same round with all rules in
    /// force is clean.
    ///
    /// # Errors
    /// When a file can not be written, or a cluster with all rules in force not be started.
    pub async fn search(&self, trial: &Trial) -> anyhow::Result<Search> {
        let mut search = Search::default();
        let mut broken = Bench::new(self, trial, true)?;
        let mut whole = Bench::new(self, trial, false)?;
        let most = match self.equivalent {
            Some(_) => trial.rounds.min(PROVED_ROUNDS_MAX),
            None => trial.rounds,
        };
        while search.rounds < most && search.by.is_empty() {
            let number = search.rounds;
            search.rounds += 1;
            let findings = match broken.play(number).await? {
                Shown::Findings(findings) if findings.is_empty() => continue,
                Shown::Findings(findings) => findings,
                Shown::NotHere(why) => {
                    search.not_here = Some(why);
                    break;
                }
            };
            match whole.play(number).await? {
                Shown::Findings(control) if control.is_empty() => search.by = properties(findings),
                Shown::Findings(control) => search.control.extend(control),
                Shown::NotHere(why) => search.not_here = Some(why),
            }
        }
        if search.rounds == most && search.by.is_empty() && search.control.is_empty() {
            // What escapes must at least have had a control that is clean.
            if let Shown::Findings(control) = whole.play(0).await? {
                search.control = control;
            }
        }
        Ok(search)
    }
}

/// The properties, each once, the first first; last that the cluster does not settle, which follows from others.
fn properties(mut findings: Vec<Finding>) -> Vec<String> {
    findings.sort_by_key(|it| it.property == "settles");
    let mut properties: Vec<String> = Vec::new();
    for finding in findings {
        if !properties.contains(&finding.property) {
            properties.push(finding.property);
        }
    }
    properties
}

/// Plays rounds of one candidate, with its rule broken or with all in force.
struct Bench<'a> {
    candidate: &'a Candidate,
    breaks: bool,
    spec: Spec,
    options: Options,
    outcome: Outcome,
}

impl<'a> Bench<'a> {
    fn new(candidate: &'a Candidate, trial: &Trial, breaks: bool) -> anyhow::Result<Bench<'a>> {
        let which = if breaks { "broken" } else { "whole" };
        let folder = trial.folder.join(&candidate.name).join(which);
        std::fs::create_dir_all(&folder)?;
        super::remove(&folder)?;
        let options = Options {
            seed: trial.seed,
            workloads: vec![candidate.cell.workload],
            levels: vec![candidate.cell.levels],
            nemeses: candidate.cell.nemeses.clone(),
            time: ROUND,
            round: ROUND,
            rounds: 1,
            asked: std::collections::BTreeMap::new(),
            clients_per_node: candidate.clients,
            think: candidate.think,
            deadline: DEADLINE,
            settle_within: SETTLE_WITHIN,
            folder,
            prefix: String::new(),
            keep: usize::MAX,
            done: None,
        };
        let layout = Layout {
            regions: 3,
            nodes_per_region: 1,
        };
        let kinds = &candidate.cell.nemeses;
        let spec = Spec {
            program: Some(trial.program.clone()),
            clocks: kinds.iter().any(|kind| kind.needs_clocks()),
            disks: kinds.iter().any(|kind| kind.needs_disks()),
            strict_names: candidate.strict_names,
            kills_cut_power: candidate.cuts,
            mutant: breaks.then(|| candidate.name.clone()),
            seed: trial.seed,
            ..Spec::new(layout)
        };
        Ok(Bench {
            candidate,
            breaks,
            spec,
            outcome: Outcome::new(&options),
            options,
        })
    }

    async fn play(&mut self, number: u32) -> anyhow::Result<Shown> {
        let spec = Spec {
            seed: self.spec.seed.wrapping_add(u64::from(number) << 16),
            ..self.spec.clone()
        };
        let mut target = match HansaTarget::start(spec).await {
            Ok(target) => target,
            Err(error) => return self.not_started(&error),
        };
        let round = self.play_on(number, &mut target).await;
        target.stop().await;
        let round = round?;
        let not_here = round.not_here.values().next().cloned();
        let findings = round.findings.clone();
        self.outcome.add(round);
        self.outcome.write(&self.options.folder)?;
        Ok(match not_here {
            Some(why) => Shown::NotHere(why),
            None => Shown::Findings(findings),
        })
    }

    async fn play_on(&self, number: u32, target: &mut HansaTarget) -> anyhow::Result<Round> {
        let slow = self.candidate.slow_ms;
        let nodes = 0..if slow > 0 { target.layout().nodes() } else { 0 };
        for node in nodes {
            target.act(Action::Disk(node, Disk::Slow(slow))).await?;
        }
        let (options, cell) = (&self.options, (&self.candidate.cell, ROUND));
        let Some((stage, recipe)) = &self.candidate.stage else {
            return round::play(options, number, cell, target).await;
        };
        let plan = Plan::staged(target.layout(), stage.clone());
        let random = super::random_of(options.seed, number);
        round::play_plan(options, number, cell, (plan, *recipe, random), target).await
    }

    /// A cluster that does not start shows that a rule is broken, unless none is.
    fn not_started(&self, error: &anyhow::Error) -> anyhow::Result<Shown> {
        if let Some(Refused::NotHere(why)) = error.downcast_ref() {
            return Ok(Shown::NotHere(why.clone()));
        }
        if !self.breaks {
            anyhow::bail!("a cluster with all rules in force did not start: {error:#}");
        }
        Ok(Shown::Findings(vec![Finding::new(
            "starts",
            format!("{error:#}"),
        )]))
    }
}

#[cfg(test)]
mod tests;
