//! Rules broken on purpose, to see the checkers catch it.
//!
//! [`Rules::broken`] is `false` at compile time unless feature `mutants` is on,
//! and nothing but the harness turns it on. Each [`Mutant`] names one rule of the
//! protocol; the code asks at the one place where the rule is kept.

/// One rule that can be left out.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum Mutant {
    /// A second group goes out under a ballot that already carries one.
    DoubleBallot,
    /// The eventual view takes an accepted value over before it is chosen.
    MergeAtAccept,
    /// A request id is not looked up: a retry takes effect again.
    NoDedup,
    /// Remembered request ids are evicted without raising the floor.
    DedupFloorNotRaised,
    /// A strong read returns after one answer.
    ReadQuorumOne,
    /// A proposer goes on after one promise.
    PrepareQuorumOne,
    /// An acceptor accepts below its promise.
    PromiseIgnored,
    /// A promise is answered without being written.
    PromiseNotDurable,
    /// A strong read returns the newest accepted value without proof that it is chosen.
    ReadWithoutProof,
    /// A failed compare-and-set is answered from the coordinator's own slot.
    CasFalseFromCache,
    /// A failed compare-and-set is answered after prepare, though promises differ.
    CasFalseAfterPrepare,
    /// A strong read joins the quorum's eventual state instead of absorbing it.
    StrongReadJoinsEventual,
    /// Eventual state that the whole quorum agrees on counts as absorbed.
    QuorumEqualityInsteadOfAbsorption,
    /// Any commit at or above the newest accepted ballot counts as its proof.
    CommitAboveProves,
    /// Votes of two shard epochs are counted together.
    EpochsCountedTogether,
    /// A strong write is answered before its commit entry is durable in the own region's log.
    ReplyBeforeEntry,
    /// A strong read is answered though no applied entry carries its ballot.
    ReadWithoutEntry,
    /// A session put does not wait for its token.
    SessionPutDoesNotWait,
    /// A strong operation does not wait for its token.
    StrongIgnoresToken,
    /// The eventual view is joined when a ballot is known chosen, without a log entry.
    ViewJoinedAtCommit,
    /// A reply's token names the stamp's clock instead of the entry's.
    TokenFromStamp,
    /// A strong value does not carry the contexts of its writers and of what it absorbed.
    StrongValueWithoutDeps,
    /// A counter entry carries the increment instead of the new absolute totals.
    AdditiveCounterEntries,
    /// Strong increments count on the proposer's own actor.
    StrongIncrementsOnOwnActor,
    /// All operations of a group share one version and one tie-breaker.
    GroupSharesDot,
    /// A heartbeat lists the shards changed since the last one sent, not echoed.
    HeartbeatSinceSent,
    /// A heartbeat raises the safe time though entries before it are missing.
    HeartbeatOverGap,
    /// A push raises the safe time though pushes before it are missing.
    PushesOverGap,
    /// A push claims to be complete though an older own entry is not committed yet.
    PushesHideUncommitted,
    /// What a node states of its log is believed before it knows whether it lost some of it.
    TrustsWhoeverStarts,
    /// A vote leaves before the file with its store sequence is synced.
    VoteBeforeSequence,
    /// A node that lost data goes on under its old incarnation.
    IncarnationReused,
    /// Reads do not see the effects of the running group.
    PendingNotOverlaid,
    /// A session's token is replaced by a reply's instead of merged.
    TokenReplaced,
    /// A log entry does not carry its writer's context.
    DepsOmitted,
    /// The clock's bound is not taken up again after a restart.
    ClockNotReserved,
    /// A write that had begun when its deadline passed is said not to be applied.
    TimeoutSaysNotApplied,
    /// A node takes the retry of a request whose first attempt another node took.
    RetryTakenElsewhere,
    /// A node that does not know yet what it lost takes the retry of a request that it may have taken.
    RetryTakenInDoubt,
    /// A session's read that has waited long enough is served from what is there.
    SessionServedUncovered,
    /// Own entries count as committed in the region once they are durable here.
    CommittedAlone,
    /// A delegate executes below a promise it gave, or a ballot a second time.
    DelegateNotStrict,
    /// A delegate rests on its own promise alone.
    DelegateIgnoresPromise,
    /// A group is delegated to two regions under one ballot.
    DelegatedToTwo,
    /// A proposer ships a promise that it does not write.
    ShippedPromiseNotDurable,
    /// A node that may not vote delegates with its promise and counts its accept.
    DelegatesWithoutVote,
    /// What a delegate accepted counts as chosen.
    DelegateDecides,
    /// A group that its delegate does not answer is handed to the next region under the same ballot.
    DelegationReusesBallot,
    /// A group that its proposer gave up before its last one takes effect when its message arrives late.
    StaleGroupApplied,
    /// Who combines another node's group does not take in what that node has applied.
    CombinedWithoutView,
    /// Who combines another node's group answers when it is proposed, not when it is chosen.
    CombinedBeforeChosen,
}

impl Mutant {
    /// All of them, in the order of the declaration.
    pub const ALL: [Mutant; 51] = [
        Mutant::DoubleBallot,
        Mutant::MergeAtAccept,
        Mutant::NoDedup,
        Mutant::DedupFloorNotRaised,
        Mutant::ReadQuorumOne,
        Mutant::PrepareQuorumOne,
        Mutant::PromiseIgnored,
        Mutant::PromiseNotDurable,
        Mutant::ReadWithoutProof,
        Mutant::CasFalseFromCache,
        Mutant::CasFalseAfterPrepare,
        Mutant::StrongReadJoinsEventual,
        Mutant::QuorumEqualityInsteadOfAbsorption,
        Mutant::CommitAboveProves,
        Mutant::EpochsCountedTogether,
        Mutant::ReplyBeforeEntry,
        Mutant::ReadWithoutEntry,
        Mutant::SessionPutDoesNotWait,
        Mutant::StrongIgnoresToken,
        Mutant::ViewJoinedAtCommit,
        Mutant::TokenFromStamp,
        Mutant::StrongValueWithoutDeps,
        Mutant::AdditiveCounterEntries,
        Mutant::StrongIncrementsOnOwnActor,
        Mutant::GroupSharesDot,
        Mutant::HeartbeatSinceSent,
        Mutant::HeartbeatOverGap,
        Mutant::PushesOverGap,
        Mutant::PushesHideUncommitted,
        Mutant::TrustsWhoeverStarts,
        Mutant::VoteBeforeSequence,
        Mutant::IncarnationReused,
        Mutant::PendingNotOverlaid,
        Mutant::TokenReplaced,
        Mutant::DepsOmitted,
        Mutant::ClockNotReserved,
        Mutant::TimeoutSaysNotApplied,
        Mutant::RetryTakenElsewhere,
        Mutant::RetryTakenInDoubt,
        Mutant::SessionServedUncovered,
        Mutant::CommittedAlone,
        Mutant::DelegateNotStrict,
        Mutant::DelegateIgnoresPromise,
        Mutant::DelegatedToTwo,
        Mutant::ShippedPromiseNotDurable,
        Mutant::DelegatesWithoutVote,
        Mutant::DelegateDecides,
        Mutant::DelegationReusesBallot,
        Mutant::StaleGroupApplied,
        Mutant::CombinedWithoutView,
        Mutant::CombinedBeforeChosen,
    ];
}

/// Which rule is broken, if any. Carries nothing unless feature `mutants` is on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Rules {
    #[cfg(feature = "mutants")]
    broken: Option<Mutant>,
}

impl Rules {
    /// All rules but one.
    #[cfg(feature = "mutants")]
    pub fn without(mutant: Mutant) -> Rules {
        Rules {
            broken: Some(mutant),
        }
    }

    /// Whether this rule is left out. Always `false` in the product.
    #[inline]
    pub fn broken(self, mutant: Mutant) -> bool {
        #[cfg(feature = "mutants")]
        {
            self.broken == Some(mutant)
        }
        #[cfg(not(feature = "mutants"))]
        {
            let _ = mutant;
            false
        }
    }
}
