//! The rules that can be left out, to see that the model notices.

/// One rule left out.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum Broken {
    /// A replica forgets in a crash whose entries it promised to refuse.
    FenceNotDurable,
    /// A replica forgets in a crash what it promised and accepted.
    PromiseNotDurable,
    /// A proposer ends logs where it holds them, not where the longest prefix among a majority ends.
    EndOfOneself,
    /// One replica's refusal is enough to end a node's logs.
    ClosesAlone,
    /// With one replica a region, another region ends the log of a node that it does not reach.
    ClosedFromOutside,
    /// A proposer does not go on with a roster that a replica has accepted already.
    AdoptsNothing,
    /// A replica accepts the end of a log whose entries it does not hold.
    AcceptsWithoutEntries,
    /// Own entries count as committed when the own disk holds them.
    CommittedAlone,
    /// A replica keeps what it holds of logs that ended without being named.
    UnnamedKept,
    /// Writers whose entries lie behind the end are answered as if they were committed.
    AnsweredBehindTheEnd,
    /// What lies behind the end is dropped instead of published again.
    RestDropped,
    /// What lies behind the end is published again under its old clock.
    RestKeepsItsClock,
    /// A replica refuses the logs it knew when it promised; a log it never heard of it takes.
    FenceOfKnownLogs,
    /// A node begins a new term by itself, once it knows that its logs ended.
    OpensUnannounced,
    /// A node begins a new term without raising its clock to what the others had reached.
    ClockNotRaised,
    /// What a node states is believed by who does not know the roster that the node has accepted.
    StatementWithoutRoster,
    /// A replica that accepted a roster trusts its own word before it knows that roster chosen.
    OwnWordWithoutRoster,
    /// What a relay states is believed by who does not know the relay's roster.
    RelayWithoutRoster,
    /// A reader forgets in a crash which roster it knew, and keeps what was stated since.
    RosterNotKept,
    /// Logs are ended until a minority writes.
    MajorityClosed,
    /// A node that lost its disk acknowledges, promises and accepts.
    LostTakesPart,
    /// Safe time leaves out nodes that are silent and not closed.
    SilentLeftOut,
    /// Safe time leaves out a closed node though entries before its ends are missing.
    EndsNotReached,
    /// A node that begins again does not name its logs that nobody had heard of.
    EmptyNotNamed,
    /// Ends stated before a log was closed are waited for though they lie behind its end.
    StatedBehindTheEnd,
}

impl Broken {
    /// All of them, each with what goes wrong.
    pub const ALL: [(Broken, &'static str); 25] = [
        (
            Broken::FenceNotDurable,
            "an acknowledged entry lies behind the end",
        ),
        (Broken::PromiseNotDurable, "one version names two rosters"),
        (
            Broken::EndOfOneself,
            "an acknowledged entry lies behind the end",
        ),
        (
            Broken::ClosesAlone,
            "an acknowledged entry lies behind the end",
        ),
        (
            Broken::ClosedFromOutside,
            "an acknowledged entry lies behind the end",
        ),
        (Broken::AdoptsNothing, "one version names two rosters"),
        (
            Broken::AcceptsWithoutEntries,
            "an entry is shown that a majority does not hold",
        ),
        (
            Broken::CommittedAlone,
            "an entry is shown that a majority does not hold",
        ),
        (Broken::UnnamedKept, "a log ends in two places"),
        (
            Broken::AnsweredBehindTheEnd,
            "a session misses what it wrote",
        ),
        (
            Broken::RestDropped,
            "a writer that is still there is never answered",
        ),
        (
            Broken::RestKeepsItsClock,
            "a session misses what it has seen",
        ),
        (
            Broken::FenceOfKnownLogs,
            "an acknowledged entry lies behind the end",
        ),
        (
            Broken::OpensUnannounced,
            "an acknowledged entry lies behind the end",
        ),
        (Broken::ClockNotRaised, "a session misses what it has seen"),
        (
            Broken::StatementWithoutRoster,
            "a session misses what it has seen",
        ),
        (
            Broken::OwnWordWithoutRoster,
            "a session misses what it has seen",
        ),
        (
            Broken::RelayWithoutRoster,
            "a session misses what it has seen",
        ),
        (Broken::RosterNotKept, "a session misses what it has seen"),
        (Broken::MajorityClosed, "a session misses what it has seen"),
        (
            Broken::LostTakesPart,
            "an acknowledged entry lies behind the end",
        ),
        (Broken::SilentLeftOut, "a session misses what it has seen"),
        (Broken::EndsNotReached, "a session misses what it has seen"),
        (Broken::EmptyNotNamed, "sessions stall"),
        (Broken::StatedBehindTheEnd, "sessions stall"),
    ];
}
