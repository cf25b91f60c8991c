//! What the terminal shows while a run goes on: a line as each round ends, and the verdict last.

use super::{Outcome, Round};

/// One line about a round, and one about each thing that is wrong in it.
#[must_use]
pub fn line(round: &Round) -> String {
    let (mut ok, mut failed, mut unknown) = (0, 0, 0);
    for it in &round.figures {
        ok += it.ok;
        failed += it.failed;
        unknown += it.unknown;
    }
    let verdict = if round.is_clean() { "ok " } else { "BAD" };
    let strikes: u64 = round.strikes.values().sum();
    let settled = match round.settled_ms {
        Some(ms) => format!("quiet after {:.1} s", ms as f64 / 1000.0),
        None => "never quiet".to_owned(),
    };
    let mut text = format!(
        "{verdict} round {:>3}  {}x{}  {:<58} {strikes:>3} faults  {ok:>5} ok {failed:>4} refused {unknown:>3} unknown  {settled}",
        round.number,
        round.layout.regions,
        round.layout.nodes_per_region,
        round.cell.describe(),
    );
    for (kind, times) in &round.vain {
        text += &format!("\n    {times} more did nothing: {}", kind.name());
    }
    for (kind, why) in &round.not_here {
        text += &format!("\n    not done: {}: {why}", kind.name());
    }
    for finding in &round.findings {
        let first = finding.explanation.replace('\n', "\n      ");
        text += &format!("\n    {}: {first}", finding.property);
        if !finding.lines.is_empty() {
            let lines: Vec<String> = finding.lines.iter().map(ToString::to_string).collect();
            text += &format!(
                "\n      see {} lines {}",
                round.history_name(),
                lines.join(", ")
            );
        }
    }
    text
}

/// The last lines of a run.
#[must_use]
pub fn closing(outcome: &Outcome) -> String {
    let (ok, failed, unknown) = outcome.operations();
    let bad = outcome.rounds.iter().filter(|it| !it.is_clean()).count();
    let faults: u64 = outcome
        .rounds
        .iter()
        .flat_map(|it| it.strikes.values())
        .sum();
    let vain = outcome.rounds.iter().flat_map(|it| it.vain.values());
    let vain: u64 = vain.sum();
    let wanted = match outcome.wanted {
        0 => String::new(),
        wanted => format!(" ({wanted} wanted)"),
    };
    let mut text = format!(
        "{} rounds{wanted} in {:.0} s: {faults} faults, {vain} more that did nothing; {} operations: {ok} done, {failed} refused, {unknown} of unknown outcome\n",
        outcome.rounds.len(),
        outcome.seconds,
        ok + failed + unknown,
    );
    for (round, gap) in outcome.longest_gaps() {
        let (level, seconds) = (gap.level, gap.length_ns() as f64 / 1e9);
        let region = gap.region.as_deref().unwrap_or("the majority");
        text += &format!("longest gap of {level:?} in {region}: {seconds:.2} s (round {round})\n");
    }
    for (kind, why) in outcome.not_here() {
        text += &format!("not done here: {}: {why}\n", kind.name());
    }
    for (kind, issue) in &outcome.not_applicable {
        text += &format!("n/a (issue {issue}): {}\n", kind.name());
    }
    text += &match bad {
        0 => format!("clean (seed {})", outcome.seed),
        bad => format!("{bad} rounds are not clean (seed {})", outcome.seed),
    };
    text
}
