//! Which rules are broken in real processes, and under which load and faults.

use std::time::Duration;

use hansa_consistency::rules::Mutant;

use super::{Candidate, Cell, Levels, Nemesis, Workload};

/// Rules of the processes that no round is for, and where they are looked for instead (`docs/mutants.md`).
pub const ELSEWHERE: &[(&str, &str)] = &[
    (
        "SequenceNotSynced",
        "it matters only on a disk that loses what was synced in one file and keeps it in another: the simulator has one \
         (VoteBeforeSequence), and so has a unit test of the node",
    ),
    (
        "ShortStoreAccepted",
        "peers convict a short store too; it matters only while all that saw the lost end are away: a unit test of the \
         node opens such a store",
    ),
    (
        "StartCounted",
        "peers hand the forgotten log back too, which convicts the node within a round trip: a unit test of the node starts \
         one copy twice",
    ),
    (
        "ClaimsIgnored",
        "it matters only when the disks of the writer and of the one that claims lose their data within one resend: a unit \
         test of the node plays the peer",
    ),
    (
        "BatchTorn",
        "the harness' disk keeps of unsynced writes a part of the newest one only, and an engine needs several writes for \
         several batches: a unit test of the store counts them",
    ),
];

/// What a sync takes on a slow disk, milliseconds: groups are large, and most moments are between a write and its sync.
const SLOW_MS: u64 = 60;
/// Longest pause of a client that leaves nodes idle at times.
const RELAXED: Duration = Duration::from_millis(60);
/// Longest pause of a client that comes by often.
const BRISK: Duration = Duration::from_millis(20);
/// Longest pause of a client that keeps groups full.
const BUSY: Duration = Duration::from_millis(8);

/// All of them: the rules of processes and disks, then those of the core that processes must show too.
#[must_use]
pub fn all() -> Vec<Candidate> {
    disks().into_iter().chain(core()).collect()
}

fn candidate(name: &str, workload: Workload, levels: Levels, nemeses: &[Nemesis]) -> Candidate {
    Candidate {
        name: name.to_owned(),
        cell: Cell {
            workload,
            levels,
            nemeses: nemeses.to_vec(),
        },
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
