//! The acceptor's side of a node: it answers questions, and writes what it promised before it does.

use std::sync::Arc;

use bytes::Bytes;
use hansa_consistency::clock::Hlc;
use hansa_consistency::key::NodeId;
use hansa_consistency::record::{Change, Entry, Record};
use hansa_consistency::register::proposer::Eventual;
use hansa_consistency::register::{Promise, ReadAnswer, StrongValue};
use hansa_consistency::rules::Mutant;
use hansa_consistency::version::{Ballot, ShardEpoch};

use super::trace::short;
use super::world::{Body, Envelope, World};

impl World {
    /// A question arrives at its acceptor.
    pub(super) fn on_question(&mut self, question: Envelope) {
        let at = question.to;
        if !self.nodes[at].votes {
            return;
        }
        let epoch = self.nodes[at].epoch;
        let body = if question.epoch < epoch && !self.rules.broken(Mutant::EpochsCountedTogether) {
            Body::Stale(epoch)
        } else {
            if question.epoch > epoch {
                self.adopt(at, question.epoch);
            }
            match question.body {
                Body::Prepare(ballot) => self.on_prepare(at, ballot),
                Body::Accept(ballot, value) => self.on_accept(at, ballot, &value),
                Body::Read(have) => self.on_read(at, have),
                Body::Combine(..) => {
                    self.on_combine(question);
                    return;
                }
                Body::Delegate(ballot, promise, errands, calls) => {
                    let asker = (question.from, promise);
                    match self.on_delegate(at, ballot, asker, (&errands, &calls)) {
                        Some(body) => body,
                        None => return,
                    }
                }
                _ => return,
            }
        };
        self.send(Envelope {
            from: at,
            to: question.from,
            body,
            ..question
        });
    }

    fn on_prepare(&mut self, at: usize, ballot: Ballot) -> Body {
        let node = &mut self.nodes[at];
        if let Err(nack) = node.slot.prepare(ballot) {
            return Body::Nack(nack.promised);
        }
        if !self.rules.broken(Mutant::PromiseNotDurable) {
            node.written = node.slot.clone();
        }
        Body::Promised(ballot, self.promise(at))
    }

    /// What a node that promises holds.
    pub(super) fn promise(&self, at: usize) -> Promise {
        let slot = &self.nodes[at].slot;
        Promise {
            accepted: slot.accepted,
            value: slot.value.clone(),
            eventual: self.eventual_unproven(at),
        }
    }

    fn on_accept(&mut self, at: usize, ballot: Ballot, value: &Arc<StrongValue>) -> Body {
        let node = &mut self.nodes[at];
        match node.slot.accept(ballot, value, self.rules) {
            Err(nack) => Body::Nack(nack.promised),
            Ok(news) => {
                node.written.accepted = ballot;
                node.written.value = Some(value.clone());
                node.written.promised = node.written.promised.max(ballot);
                self.ledger.accepted(ballot, value);
                self.holds(at);
                if news && self.rules.broken(Mutant::MergeAtAccept) {
                    self.join_view(at, ballot, value);
                }
                Body::Accepted(ballot)
            }
        }
    }

    /// Enters in the ledger what an acceptor holds in its epoch.
    pub(super) fn holds(&mut self, at: usize) {
        let node = &self.nodes[at];
        let (ballot, epoch) = (node.slot.accepted, node.epoch);
        if ballot == Ballot::ZERO {
            return;
        }
        let id = NodeId(at as u16);
        if self.ledger.holds(ballot, epoch, id, &self.voters) {
            self.trace.note(self.now, (b'C', ballot), || {
                format!("CHOSEN {}", short(ballot))
            });
        }
    }

    fn on_read(&mut self, at: usize, have: Ballot) -> Body {
        let node = &self.nodes[at];
        Body::Answer(ReadAnswer {
            accepted: node.slot.accepted,
            chosen: node.record.as_ref().map_or(Ballot::ZERO, |r| r.chosen),
            value: node
                .slot
                .value
                .clone()
                .filter(|_| node.slot.accepted != have),
            eventual: self.eventual_unproven(at),
        })
    }

    /// What a node reports of its eventual state: all of it, unless a value known chosen contains it.
    pub(super) fn eventual_unproven(&self, at: usize) -> Option<Eventual> {
        let node = &self.nodes[at];
        let chosen = node.record.as_ref().map(|record| record.chosen);
        let proven = chosen == Some(node.slot.accepted);
        self.eventual_beyond(at, node.slot.value.as_deref().filter(|_| proven))
    }

    /// The node's eventual state, if a value lacks something of it.
    pub(super) fn eventual_beyond(
        &self,
        at: usize,
        value: Option<&StrongValue>,
    ) -> Option<Eventual> {
        let record = self.nodes[at].record.as_ref()?;
        let lacks = value.is_none_or(|value| value.lacks(&record.state));
        lacks.then(|| Eventual {
            state: record.state.clone(),
            context: record.context(),
        })
    }

    /// Shows a value in the eventual view without a log entry. Only a mutant gets here.
    fn join_view(&mut self, at: usize, chosen: Ballot, value: &StrongValue) {
        let Some(state) = value.state.clone() else {
            return;
        };
        let entry = Entry {
            hlc: Hlc::ZERO,
            deps: value.deps.clone(),
            request: None,
            changes: Vec::new(),
            extension: Bytes::new(),
        };
        let change = Change {
            row: self.row.clone(),
            state,
            chosen,
        };
        let node = &mut self.nodes[at];
        let before = node.record.take();
        node.record = Some(Record::apply(before, node.region, &entry, &change, self.rules).0);
    }

    /// A node adopts a newer epoch: what it coordinates starts over under new ballots.
    pub(super) fn adopt(&mut self, at: usize, epoch: ShardEpoch) {
        if self.nodes[at].epoch >= epoch {
            return;
        }
        self.nodes[at].epoch = epoch;
        self.trace.note(self.now, (b'E', at, epoch), || {
            format!("n{at} adopts epoch {}", epoch.n)
        });
        self.holds(at);
        // Starting over keeps votes of two epochs apart as much as refusing them does: one rule.
        if !self.rules.broken(Mutant::EpochsCountedTogether) {
            self.restart_all(at);
        }
    }
}
