//! Everything a replica can ask for.
//!
//! Effects are carried out in order. A [`Effect::Persist`] must be durable before any
//! later [`Effect::Send`] or [`Effect::Reply`] of the same or a later step leaves,
//! except one that says it need not wait ([`Effect::Reply::waits`]) and whose step read
//! no row that is still pending. A whole turn's writes may be one batch with one sync.
//!
//! A driver may let a [`Effect::Send`] overtake writes of *earlier* steps only if its own step
//! wrote nothing and read no pending row, and the message claims nothing that those writes hold:
//! a question, but no acknowledgement, entry, outcome of a write, or vote. A ballot claims the
//! clock's bound ([`crate::layout::CLOCK`]). Drivers that hold back every send are right too.

use std::time::Duration;

use crate::key::{NodeId, OpId};
use crate::message::Envelope;
use crate::port::Write;
use crate::request::{Refusal, Reply};

/// An output of [`crate::replica::Replica::step`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Effect {
    /// Write these, all or none.
    Persist(Vec<Write>),
    /// The store sequence after this step's writes: to be synced in the small file before any vote
    /// (`envelope.message.is_vote()`) of this turn leaves.
    StoreSequence {
        /// The sequence.
        sequence: u64,
        /// Whether this step counted a vote that is among its writes: then it is to be synced before anything that
        /// this step says leaves, as before a vote.
        counted: bool,
    },
    /// Send this to a peer; to the node itself it comes back as an event. May be dropped when the link is down.
    Send {
        /// To whom.
        to: NodeId,
        /// What.
        envelope: Envelope,
    },
    /// Answer a client.
    Reply {
        /// Which request.
        id: OpId,
        /// The outcome.
        result: Result<Reply, Refusal>,
        /// Whether it must wait for the writes before it. An eventual or session read need not,
        /// unless it used a row that is still pending.
        waits: bool,
    },
    /// Feed [`crate::event::Event::Tick`] at this time (monotonic) or earlier; replaces any earlier wish.
    Wake(Duration),
    /// Something rare happened: count it under this name. Never carries keys or values.
    Note(Note),
}

/// Rare paths, counted by metrics and by the harness's "was this path hit" probes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum Note {
    /// A strong read sent an unproven value again.
    ReadHelped,
    /// Eventual state was absorbed through a ballot.
    Absorbed,
    /// A group was chosen in one round trip: a delegate had executed it.
    Delegated,
    /// A replica did not answer delegations in time and is handed none for a while.
    DelegateShunned,
    /// A ballot that carried another coordinator's group was chosen.
    Combined,
    /// A proposal was refused by a higher ballot.
    Nacked,
    /// A request id was answered from memory.
    RequestRecalled,
    /// A session request was forwarded.
    SessionForwarded,
    /// A session request waited for entries.
    SessionWaited,
    /// A vote of another epoch was refused.
    EpochRefused,
    /// A peer's clock was refused.
    ClockRefused,
    /// Entries were pulled after a gap or an exchange.
    Pulled,
    /// Version vectors were exchanged.
    Exchanged,
    /// An orphaned accepted value was settled.
    Settled,
    /// A message of a fenced start, of another cluster or incarnation was dropped.
    Fenced,
    /// This node found out that it lost data.
    DataLost,
    /// A damaged record was met.
    DamageMet,
    /// An eventual write was merged with a concurrent one.
    Merged,
    /// This node resumed voting after its peers answered.
    VotesAgain,
    /// A node that lost data holds again what its peers hold.
    Refilled,
    /// A broken stream to a peer stands again.
    StreamResumed,
    /// Several strong operations went out under one ballot.
    OperationsShared,
    /// Own entries went to a replica of the region again, because it had not acknowledged them.
    PushedAgain,
    /// New entries go to a fresh origin.
    OriginRenewed,
    /// An open strong operation was refused because no quorum was reachable any more.
    QuorumLost,
    /// The outcome of a request was not remembered.
    OutcomeUnknown,
}

impl Note {
    /// All of them.
    pub const ALL: [Note; 26] = [
        Note::ReadHelped,
        Note::Absorbed,
        Note::Delegated,
        Note::DelegateShunned,
        Note::Combined,
        Note::Nacked,
        Note::RequestRecalled,
        Note::SessionForwarded,
        Note::SessionWaited,
        Note::EpochRefused,
        Note::ClockRefused,
        Note::Pulled,
        Note::Exchanged,
        Note::Settled,
        Note::Fenced,
        Note::DataLost,
        Note::DamageMet,
        Note::Merged,
        Note::VotesAgain,
        Note::Refilled,
        Note::StreamResumed,
        Note::OperationsShared,
        Note::PushedAgain,
        Note::OriginRenewed,
        Note::QuorumLost,
        Note::OutcomeUnknown,
    ];

    /// The name used in metrics and probes.
    pub fn name(self) -> &'static str {
        match self {
            Note::ReadHelped => "read_helped",
            Note::Absorbed => "absorbed",
            Note::Delegated => "delegated",
            Note::DelegateShunned => "delegate_shunned",
            Note::Combined => "combined",
            Note::Nacked => "nacked",
            Note::RequestRecalled => "request_recalled",
            Note::SessionForwarded => "session_forwarded",
            Note::SessionWaited => "session_waited",
            Note::EpochRefused => "epoch_refused",
            Note::ClockRefused => "clock_refused",
            Note::Pulled => "pulled",
            Note::Exchanged => "exchanged",
            Note::Settled => "settled",
            Note::Fenced => "fenced",
            Note::DataLost => "data_lost",
            Note::DamageMet => "damage_met",
            Note::Merged => "merged",
            Note::VotesAgain => "votes_again",
            Note::Refilled => "refilled",
            Note::StreamResumed => "stream_resumed",
            Note::OperationsShared => "operations_shared",
            Note::PushedAgain => "pushed_again",
            Note::OriginRenewed => "origin_renewed",
            Note::QuorumLost => "quorum_lost",
            Note::OutcomeUnknown => "outcome_unknown",
        }
    }
}
