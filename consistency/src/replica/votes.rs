//! The acceptor's side, and the epochs its votes belong to.
//!
//! A promise or acceptance is written in the step that gives it, so the answer (an
//! effect behind the write) leaves when it is durable. A node that is not sure to
//! remember all its votes gives none.

use std::sync::Arc;

use bytes::Bytes;

use crate::clock::Hlc;
use crate::effect::Note;
use crate::key::{NodeId, Row, ShardId};
use crate::layout;
use crate::message::{Message, Vote};
use crate::port::{Damaged, Family};
use crate::record::{Change, Entry, Record};
use crate::register::acceptor::Accepted;
use crate::register::proposer::Eventual;
use crate::register::{Promise, ReadAnswer, Slot, StrongValue};
use crate::rules::Mutant;
use crate::version::{Ballot, ShardEpoch};

use super::turn::Turn;
use super::{Replica, Standing};

impl Replica {
    /// A message of the strong register: a question to this acceptor, or an answer to this coordinator.
    pub(super) fn on_vote_message(&mut self, turn: &mut Turn<'_>, from: NodeId, message: Message) {
        match message {
            Message::Prepare { vote, ballot } => {
                if self.may_vote(turn, from, &vote) {
                    self.on_prepare(turn, from, vote, ballot);
                }
            }
            Message::Accept {
                vote,
                ballot,
                value,
            } => {
                if self.may_vote(turn, from, &vote) {
                    self.on_accept(turn, from, vote, ballot, &value);
                }
            }
            Message::Delegate {
                vote,
                ballot,
                promise,
                errands,
            } => {
                if self.may_vote(turn, from, &vote) {
                    self.on_delegate(turn, from, (vote, ballot), promise, &errands);
                }
            }
            Message::Combine { vote, errand } => {
                if self.may_vote(turn, from, &vote) {
                    self.on_combine(turn, from, vote, errand);
                }
            }
            Message::Read { vote, have } => {
                if self.may_vote(turn, from, &vote) {
                    self.on_read(turn, from, vote, have);
                }
            }
            Message::StaleEpoch { vote, epoch } => {
                self.adopt_epoch(turn, vote.row.shard(), epoch);
            }
            answer => self.on_vote_answer(turn, from, answer),
        }
    }

    fn on_vote_answer(&mut self, turn: &mut Turn<'_>, from: NodeId, message: Message) {
        let (Message::Promised { vote, .. }
        | Message::Accepted { vote, .. }
        | Message::Delegated { vote, .. }
        | Message::Combined { vote, .. }
        | Message::Nack { vote, .. }
        | Message::ReadAnswer { vote, .. }) = &message
        else {
            return;
        };
        if let Message::Delegated { .. } = &message
            && let Some(peer) = self.peers.get_mut(&from)
        {
            peer.answers();
        }
        let vote = vote.clone();
        let epoch = self.epoch_of(vote.row.shard());
        if epoch != Some(vote.epoch) && !self.rules.broken(Mutant::EpochsCountedTogether) {
            // Votes of different epochs never count together.
            turn.note(Note::EpochRefused);
            return;
        }
        let read = self.reads.get(&vote.round).map(|read| read.row());
        if self.proposals.get(&vote.round).or(read) != Some(&vote.row) {
            // That conversation is over, or never was about this row.
            return;
        }
        match message {
            Message::Promised {
                ballot, promise, ..
            } => self.on_promised(turn, from, &vote, ballot, promise),
            Message::Delegated {
                ballot, executed, ..
            } => {
                let row = &vote.row;
                self.on_delegated(turn, from, row, ballot, executed);
            }
            Message::Combined {
                ballot, combined, ..
            } => self.on_combined(turn, from, &vote, ballot, combined),
            Message::Accepted { ballot, .. } => match self.proposals.get(&vote.round).cloned() {
                Some(row) => self.on_proposal_accepted(turn, from, &row, ballot),
                None => self.on_help_accepted(turn, from, vote.round, ballot),
            },
            // A repeated question is refused with its own ballot: it was answered before.
            Message::Nack {
                ballot, promised, ..
            } if ballot == promised => {}
            Message::Nack { promised, .. } => match self.proposals.get(&vote.round).cloned() {
                Some(row) => self.on_proposal_refused(turn, &row, promised),
                None => self.on_help_refused(turn, vote.round),
            },
            Message::ReadAnswer { answer, .. } => self.on_read_answer(turn, from, &vote, answer),
            _ => {}
        }
    }

    fn epoch_of(&self, shard: ShardId) -> Option<ShardEpoch> {
        self.shards.get(&shard).map(|held| held.epoch.epoch)
    }

    /// Whether this node votes on a question of this epoch; an older one is told the newer.
    fn may_vote(&mut self, turn: &mut Turn<'_>, from: NodeId, vote: &Vote) -> bool {
        let shard = vote.row.shard();
        let Some(epoch) = self
            .epoch_of(shard)
            .filter(|_| self.standing == Standing::Voting)
        else {
            return false;
        };
        if vote.epoch < epoch && !self.rules.broken(Mutant::EpochsCountedTogether) {
            turn.note(Note::EpochRefused);
            let vote = vote.clone();
            self.send(turn, from, Message::StaleEpoch { vote, epoch });
            return false;
        }
        if vote.epoch > epoch {
            self.adopt_epoch(turn, shard, vote.epoch);
        }
        true
    }

    /// Adopts a newer epoch: durable before any vote in it; what runs starts over under new ballots.
    pub(super) fn adopt_epoch(&mut self, turn: &mut Turn<'_>, shard: ShardId, epoch: ShardEpoch) {
        let Some(held) = self
            .shards
            .get_mut(&shard)
            .filter(|h| h.epoch.epoch < epoch)
        else {
            return;
        };
        held.epoch.epoch = epoch;
        let record = held.epoch.clone();
        turn.store(Family::Meta, layout::epoch(shard), &record);
        self.restart_proposals(turn, shard);
        self.restart_reads(turn, shard);
    }

    /// The acceptor's record of a row.
    pub(super) fn load_slot(&self, turn: &Turn<'_>, row: &Row) -> Result<Slot, Damaged> {
        let promised: Option<Ballot> =
            turn.load(Family::Slot, &layout::slot(row, layout::PROMISED))?;
        let accepted: Option<Accepted> =
            turn.load(Family::Slot, &layout::slot(row, layout::ACCEPTED))?;
        let (accepted, value) = match accepted {
            Some(accepted) => (accepted.ballot, Some(accepted.value)),
            None => (Ballot::ZERO, None),
        };
        let unwritten = self.unwritten.get(row).copied().unwrap_or(Ballot::ZERO);
        Ok(Slot {
            promised: promised
                .unwrap_or(Ballot::ZERO)
                .max(accepted)
                .max(unwritten),
            accepted,
            value,
        })
    }

    /// A row as the acceptor and the eventual view hold it.
    pub(super) fn load_row(
        &self,
        turn: &Turn<'_>,
        row: &Row,
    ) -> Result<(Slot, Option<Record>), Damaged> {
        Ok((self.load_slot(turn, row)?, self.record(turn, row)?))
    }

    fn on_prepare(&mut self, turn: &mut Turn<'_>, from: NodeId, vote: Vote, ballot: Ballot) {
        let (mut slot, record) = match self.load_row(turn, &vote.row) {
            Ok(loaded) => loaded,
            // A promise that is silent about the view would pass for one that holds nothing.
            Err(damage) if from == self.me.node => {
                self.refuse_damaged(turn, &vote.row, damage);
                return;
            }
            Err(damage) => {
                self.meet_damage(turn, damage);
                return;
            }
        };
        let message = match slot.prepare(ballot) {
            Ok(()) => {
                if self.rules.broken(Mutant::PromiseNotDurable) {
                    self.unwritten.insert(vote.row.clone(), ballot);
                } else {
                    let key = layout::slot(&vote.row, layout::PROMISED);
                    turn.store(Family::Slot, key, &ballot);
                }
                Message::Promised {
                    vote,
                    ballot,
                    promise: promise_of(slot, record),
                }
            }
            Err(nack) => Message::Nack {
                vote,
                ballot,
                promised: nack.promised,
            },
        };
        self.send(turn, from, message);
    }

    fn on_accept(
        &mut self,
        turn: &mut Turn<'_>,
        from: NodeId,
        vote: Vote,
        ballot: Ballot,
        value: &Arc<StrongValue>,
    ) {
        if vote.round == 0 && self.rules.broken(Mutant::ViewJoinedAtCommit) {
            self.join_chosen(turn, &vote.row, ballot, value);
            return;
        }
        let mut slot = match self.load_slot(turn, &vote.row) {
            Ok(slot) => slot,
            Err(damage) => {
                self.meet_damage(turn, damage);
                return;
            }
        };
        let message = match slot.accept(ballot, value, self.rules) {
            Ok(news) => {
                if news {
                    self.store_accepted(turn, &vote.row, ballot, value);
                }
                Message::Accepted { vote, ballot }
            }
            Err(nack) => {
                if slot.accepted == ballot {
                    // Two values under one ballot: whoever says so is damaged or forges.
                    turn.note(Note::DamageMet);
                }
                Message::Nack {
                    vote,
                    ballot,
                    promised: nack.promised,
                }
            }
        };
        self.send(turn, from, message);
    }

    /// Writes down an accepted value.
    pub(super) fn store_accepted(
        &mut self,
        turn: &mut Turn<'_>,
        row: &Row,
        ballot: Ballot,
        value: &Arc<StrongValue>,
    ) {
        let accepted = Accepted {
            ballot,
            value: value.clone(),
        };
        let key = layout::slot(row, layout::ACCEPTED);
        turn.store(Family::Slot, key, &accepted);
        if value.state.is_some() {
            self.unsettled.accepted(row, ballot, turn.now.monotonic);
        }
        if self.rules.broken(Mutant::MergeAtAccept) {
            self.join_chosen(turn, row, ballot, value);
        }
    }

    /// Shows a value in the eventual view without a log entry. Only mutants get here.
    fn join_chosen(&mut self, turn: &mut Turn<'_>, row: &Row, ballot: Ballot, value: &StrongValue) {
        let Some(state) = value.state.clone() else {
            return;
        };
        let change = Change {
            row: row.clone(),
            state,
            chosen: ballot,
        };
        let entry = Entry {
            hlc: Hlc::ZERO,
            deps: value.deps.clone(),
            request: None,
            changes: Vec::new(),
            extension: Bytes::new(),
        };
        self.join_view(turn, &change, &entry);
    }

    fn on_read(&mut self, turn: &mut Turn<'_>, from: NodeId, vote: Vote, have: Ballot) {
        let (slot, record) = match self.load_row(turn, &vote.row) {
            Ok(loaded) => loaded,
            Err(damage) => {
                self.meet_damage(turn, damage);
                return;
            }
        };
        let answer = ReadAnswer {
            accepted: slot.accepted,
            chosen: record.as_ref().map_or(Ballot::ZERO, |r| r.chosen),
            eventual: unreported(record, &slot),
            value: slot.value.filter(|_| slot.accepted != have),
        };
        self.send(turn, from, Message::ReadAnswer { vote, answer });
    }
}

/// What an acceptor that promises tells of what it holds.
pub(super) fn promise_of(slot: Slot, record: Option<Record>) -> Promise {
    Promise {
        accepted: slot.accepted,
        eventual: unreported(record, &slot),
        value: slot.value,
    }
}

/// The eventual state of a row, unless a value known chosen contains it: whatever was only accepted may
/// never be chosen, and what it contains would go unreported.
pub(super) fn unreported(record: Option<Record>, slot: &Slot) -> Option<Eventual> {
    let contained = |record: &Record| {
        let value = slot.value.as_ref();
        record.chosen == slot.accepted && value.is_some_and(|v| !v.lacks(&record.state))
    };
    let record = record.filter(|record| !contained(record))?;
    Some(Eventual {
        context: record.context(),
        state: record.state,
    })
}
