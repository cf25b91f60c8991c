//! Which rules are broken in real processes, and under which load and faults.

use std::collections::BTreeSet;
use std::time::Duration;

use hansa_consistency::rules::Mutant;

use super::stages::{forgotten_votes, started_twice, torn_often, word_of_the_other};
use super::{Candidate, Cell, Levels, Nemesis, Planned, Recipe, Workload};

/// What a sync takes on a slow disk, milliseconds: groups are large, and most moments are between a write and its sync.
const SLOW_MS: u64 = 60;
/// What a sync takes on a disk so slow that others ask what is held before it is done, milliseconds.
const SLUGGISH_MS: u64 = 150;
/// What a disk loses of which the sequence file may not tell, milliseconds.
const YOUNG_MS: u64 = 60;
/// Clients that begin at each node.
const FEW: usize = 4;
/// Clients for votes on every key at every time.
const SOME: usize = 12;
/// Clients of which most wait for something.
const MANY: usize = 40;
/// Longest pause of a client that leaves nodes idle at times.
const RELAXED: Duration = Duration::from_millis(60);
/// Longest pause of a client that comes by often.
const BRISK: Duration = Duration::from_millis(20);
/// Longest pause of a client that keeps groups full.
const BUSY: Duration = Duration::from_millis(8);

/// All of them: the rules of processes and disks, then those of the core that processes must show too.
#[must_use]
pub fn all() -> Vec<Candidate> {
    let processes = disks().into_iter().chain(staged());
    processes.chain(core()).collect()
}

fn candidate(name: &str, workload: Workload, levels: Levels, nemeses: &[Nemesis]) -> Candidate {
    Candidate {
        name: name.to_owned(),
        cell: Cell {
            workload,
            levels,
            nemeses: nemeses.to_vec(),
        },
        stage: None,
        clients: FEW,
        think: RELAXED,
        slow_ms: 0,
        cuts: false,
        equivalent: None,
        strict_names: false,
    }
}

fn disks() -> Vec<Candidate> {
    use Nemesis::{BitFlip, FailedSync, PowerCut};
    let on = |name, nemesis| candidate(name, Workload::All, Levels::Mixed, &[nemesis]);
    // The power goes between a write and its sync.
    let between = |name| Candidate {
        slow_ms: SLOW_MS,
        cuts: true,
        think: BRISK,
        ..on(name, PowerCut)
    };
    // A lost increment is missed in every total, a lost value only if nobody writes another. And no votes are among the
    // answers: those wait for the sequence file, and so for the next sync.
    let counted = |name| Candidate {
        cell: Cell {
            workload: Workload::Counter,
            levels: Levels::Eventual,
            nemeses: vec![PowerCut],
        },
        ..between(name)
    };
    let proved = |name, nemesis, proof| Candidate {
        equivalent: Some(proof),
        ..on(name, nemesis)
    };
    vec![
        on("SyncSkipped", PowerCut),
        // The next group's sync covers what this one left out.
        counted("SyncSkippedAtTimes"),
        counted("RepliedBeforeSync"),
        between("SentBeforeSync"),
        on("SyncFailureIgnored", FailedSync),
        on("FailureSaysNotApplied", FailedSync),
        Candidate {
            strict_names: true,
            ..on("NamesNotSynced", PowerCut)
        },
        on("IdentityNotSynced", PowerCut),
        proved("ChecksumIgnored", BitFlip, "the engine's own checksums"),
        proved("VerifySkipped", BitFlip, "what is read at opening"),
    ]
}

/// Rules that matter only when several faults come in one order.
fn staged() -> Vec<Candidate> {
    use Levels::{Eventual, Strong};
    let on = |name, workload, levels, recipe, stage: Vec<Planned>| {
        let kinds: BTreeSet<Nemesis> = stage.iter().map(|it| it.of).collect();
        let kinds: Vec<Nemesis> = kinds.into_iter().collect();
        Candidate {
            stage: Some((stage, recipe)),
            think: BRISK,
            ..candidate(name, workload, levels, &kinds)
        }
    };
    // Totals hide nothing that was lost, where the keys stay the same whatever is refused meanwhile.
    let steady = Recipe {
        keys: 12,
        rotate_after: u64::MAX,
        ..Workload::Counter.recipe()
    };
    let strong = |name, stage| on(name, Workload::Counter, Strong, steady, stage);
    // Some writes wait for another region, and not so many that all clients do; a total tells so many increments apart.
    let acked = Recipe {
        rotate_after: 50,
        acked: 250,
        acking: 1,
        ..Workload::Counter.recipe()
    };
    let cut = |staged| Candidate {
        cuts: true,
        ..staged
    };
    let all = Workload::All.recipe();
    let torn = on("BatchTorn", Workload::All, Eventual, all, torn_often());
    let told = word_of_the_other();
    let told = on("ClaimsIgnored", Workload::Counter, Eventual, acked, told);
    vec![
        Candidate {
            slow_ms: SLOW_MS,
            ..cut(torn)
        },
        // The file is written each 100 ms, and as much later as a sync takes: what is lost has to be younger.
        Candidate {
            slow_ms: YOUNG_MS / 3,
            clients: SOME,
            ..cut(strong("SequenceNotSynced", forgotten_votes(YOUNG_MS)))
        },
        cut(strong("ShortStoreAccepted", forgotten_votes(400))),
        strong("StartCounted", started_twice()),
        Candidate {
            slow_ms: SLUGGISH_MS,
            clients: MANY,
            ..cut(told)
        },
    ]
}

fn core() -> Vec<Candidate> {
    use Levels::{Eventual, Mixed, Session, Strong};
    use Nemesis::{Flapping, FullPartition, Jitter, Kill, OldCopy, Pause, RegionIsolation, Reset};
    use Workload::{Contended, Counter, CounterIds, Register, Sessions};
    let of = |mutant: Mutant, workload, levels, nemeses: &[Nemesis]| {
        candidate(&format!("{mutant:?}"), workload, levels, nemeses)
    };
    // A session comes from a region that goes on into one that stands still.
    let stranded = |mutant, levels| Candidate {
        think: BRISK,
        ..of(mutant, Sessions, levels, &[RegionIsolation])
    };
    vec![
        of(Mutant::NoDedup, CounterIds, Strong, &[Reset, Kill]),
        of(Mutant::DoubleBallot, Contended, Strong, &[Flapping]),
        of(Mutant::ReadQuorumOne, Contended, Strong, &[RegionIsolation]),
        of(
            Mutant::PrepareQuorumOne,
            Contended,
            Strong,
            &[FullPartition],
        ),
        // Only what is made of the value before shows that one was lost, and only under contention.
        Candidate {
            think: BUSY,
            ..of(Mutant::PromiseIgnored, Counter, Strong, &[Jitter])
        },
        stranded(Mutant::TokenReplaced, Session),
        stranded(Mutant::StrongIgnoresToken, Mixed),
        stranded(Mutant::SessionServedUncovered, Session),
        of(
            Mutant::TimeoutSaysNotApplied,
            Register,
            Strong,
            &[Pause, RegionIsolation],
        ),
        // Totals that go back are seen by everybody; values are overwritten.
        of(Mutant::IncarnationReused, Counter, Eventual, &[OldCopy]),
    ]
}
