//! One round: safety under faults, then liveness after healing, then the verdict.

use std::collections::BTreeSet;
use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::task::JoinSet;

use super::load::{self, Desk};
use super::outcome::{Finding, Round};
use super::strikes::{self, Struck};
use super::{Cell, Options, afterwards, forgive, gauge, random_of};
use crate::checker;
use crate::history::{History, Record};
use crate::nemesis::Plan;
use crate::random::Random;
use crate::target::{RunClock, Target};
use crate::workload::Recipe;

/// How long reading the final state may take, all keys and nodes together. It takes a second or two; a loaded machine,
/// or several nodes that do not answer, take longer.
const FINALS_WITHIN: Duration = Duration::from_secs(60);

/// Plays a round on a cluster that is ready and quiet; clients act for as long as `load`.
///
/// # Errors
/// When a client can not be made or the history not be written; what is wrong with the target is in the round.
pub(super) async fn play<T: Target>(
    options: &Options,
    number: u32,
    (cell, load): (&Cell, Duration),
    target: &mut T,
) -> anyhow::Result<Round> {
    let mut random = random_of(options.seed, number);
    let plan = Plan::new(target.layout(), &cell.nemeses, options.round, &mut random);
    let recipe = cell.workload.recipe();
    play_plan(
        options,
        number,
        (cell, load),
        (plan, recipe, random),
        target,
    )
    .await
}

/// As [`play`], with this plan and these operations; what else varies is drawn from `random`.
///
/// # Errors
/// As [`play`].
pub(super) async fn play_plan<T: Target>(
    options: &Options,
    number: u32,
    (cell, load): (&Cell, Duration),
    (plan, recipe, mut random): (Plan, Recipe, Random),
    target: &mut T,
) -> anyhow::Result<Round> {
    let layout = target.layout();
    let clock = RunClock::start();
    let recipe = (recipe, cell.levels.mix());
    let prefix = format!("{}r{number}-", options.prefix);
    let desk = Arc::new(Desk::new(options, recipe, (layout, clock, load), &prefix));
    let clients = load::start(target, &desk, options.clients_per_node, &mut random)?;
    // The seed's faults are the same ones whatever the load is, only closer together.
    let pressed = load.as_secs_f64() / options.round.as_secs_f64().max(f64::MIN_POSITIVE);
    let struck = strikes::carry_out(&plan, target, &desk, (clock, load, pressed)).await;
    let mut round = Round::new(number, cell, layout, &struck);
    round.load_ms = u64::try_from(load.as_millis()).unwrap_or(u64::MAX);
    let (findings, settled) = heal_and_settle(options, target, clients, &desk, clock).await;
    round.findings.extend(findings);
    round.settled_ms = settled;
    // Where something is wrong already, nothing is learned from more of it.
    if round.is_clean() {
        let times = (clock, options.deadline);
        let (records, findings) =
            afterwards::serve(target, cell.levels, &prefix, &struck.spoilt(), times).await?;
        records.into_iter().for_each(|record| desk.record(record));
        round.findings.extend(findings);
        // What was just written has to arrive everywhere before the final state is read.
        if let Err(missing) = target.settle(options.settle_within).await {
            round.findings.push(Finding::new("settles", missing));
        }
    }
    finish(options, target, &desk, clock, round, &struck).await
}

/// Ends all faults; then every operation has to end, and the cluster to become quiet and equal.
async fn heal_and_settle<T: Target>(
    options: &Options,
    target: &mut T,
    mut clients: JoinSet<()>,
    desk: &Desk,
    clock: RunClock,
) -> (Vec<Finding>, Option<u64>) {
    let mut findings = Vec::new();
    if let Err(error) = target.heal().await {
        findings.push(Finding::new("heal", format!("{error:#}")));
    }
    if let Some(healed) = strikes::healed(target, clock) {
        desk.record(healed);
    }
    // An operation ends within its deadline and a second; the last begins when the load ends.
    let patience = options.deadline + Duration::from_secs(5);
    let ended = tokio::time::timeout(patience, async {
        while let Some(done) = clients.join_next().await {
            if let Err(error) = done {
                findings.push(Finding::new("harness", error.to_string()));
            }
        }
    });
    if ended.await.is_err() {
        let what = format!(
            "{} clients still waited {patience:?} after the load",
            clients.len()
        );
        findings.push(Finding::new("operations_end", what));
        clients.shutdown().await;
    }
    match target.settle(options.settle_within).await {
        Ok(took) => (
            findings,
            Some(u64::try_from(took.as_millis()).unwrap_or(u64::MAX)),
        ),
        Err(missing) => {
            let what = format!("{:?} after healing: {missing}", options.settle_within);
            findings.push(Finding::new("settles", what));
            (findings, None)
        }
    }
}

/// Reads the final state, judges the history and writes it.
async fn finish<T: Target>(
    options: &Options,
    target: &mut T,
    desk: &Desk,
    clock: RunClock,
    mut round: Round,
    struck: &Struck,
) -> anyhow::Result<Round> {
    let mut records = desk.take();
    let single = records.iter().filter(|it| !it.op.is_several());
    let keys: BTreeSet<String> = single.filter_map(|it| it.key.clone()).collect();
    let keys: Vec<String> = keys.into_iter().collect();
    let (finals, finding) = finals(target, &keys, clock, FINALS_WITHIN).await;
    records.extend(finals);
    round.findings.extend(finding);
    records.extend(gauge::measure(target, clock).await);
    for loss in &struck.destroyed {
        forgive::disk_lost(&mut records, &target.node_name(loss.node), loss);
    }
    round.ended(target.deaths());
    let run = format!("round-{:04}", round.number);
    for record in &mut records {
        record.run.clone_from(&run);
        record.seed = options.seed;
    }
    records.sort_by_key(|record| record.invoke_ns);
    let history = History { records };
    round.judged(&history, checker::check_all(&history));
    let path = options.folder.join(round.history_name());
    let file = File::create(&path).with_context(|| format!("can not write {}", path.display()))?;
    history.write(file)?;
    Ok(round)
}

/// The final state. What was not read in time is unknown, and unknown is wrong.
async fn finals<T: Target>(
    target: &mut T,
    keys: &[String],
    clock: RunClock,
    within: Duration,
) -> (Vec<Record>, Option<Finding>) {
    match tokio::time::timeout(within, target.finals(keys, clock)).await {
        Ok(records) => (records, None),
        Err(_) => {
            let what = format!(
                "undecided, which counts as wrong: the final state of {} keys was not read within {within:?}",
                keys.len()
            );
            (Vec::new(), Some(Finding::new("final_state", what)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Fake, Flaws};
    use super::*;

    #[tokio::test]
    async fn a_final_state_that_is_not_read_in_time_is_wrong() {
        let flaws = Flaws {
            mute: true,
            ..Flaws::default()
        };
        let keys = ["registers/a".to_owned(), "registers/b".to_owned()];
        let short = Duration::from_millis(20);
        let mut mute = Fake::with(flaws);
        let (records, finding) = finals(&mut mute, &keys, RunClock::start(), short).await;
        assert_eq!(records, []);
        let finding = finding.unwrap();
        assert_eq!(finding.property, "final_state");
        assert!(
            finding
                .explanation
                .contains("of 2 keys was not read within 20ms")
        );
        let mut good = Fake::with(Flaws::default());
        let long = Duration::from_secs(60);
        let (records, finding) = finals(&mut good, &keys, RunClock::start(), long).await;
        assert_eq!((records.len(), finding), (9, None));
    }
}
