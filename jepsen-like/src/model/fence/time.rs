//! Safe time: up to when everything that the region wrote is applied.
//!
//! A node states that all it wrote up to its clock lies within the prefixes it names, and which roster it has
//! accepted. The statement is worth nothing to who does not know a roster as new as that: another node may have been
//! let in by it, and that node's entries carry clocks above those of the nodes that let it in, and of no others.

use std::collections::BTreeMap;

use hansa_consistency::clock::Hlc;
use hansa_consistency::roster::Version;
use hansa_consistency::version::{Origin, Seq};

use super::broken::Broken;
use super::logs::writer;
use super::roster::{end_of, is_closed};
use super::world::{Body, Life, World};

/// All that a node wrote with a clock up to `hlc` lies within these prefixes.
#[derive(Clone, Debug)]
pub(super) struct Statement {
    about: usize,
    hlc: Hlc,
    ends: BTreeMap<Origin, Seq>,
    /// Whoever does not know a chosen roster as new as this must not believe it.
    roster: Version,
}

impl World {
    /// Tells another node up to when it has everything; of a node that lost its disk nobody would believe it.
    pub(super) fn heartbeat(&mut self, at: usize, to: usize) {
        if at >= self.home || self.nodes[at].lost {
            self.send(at, to, Body::Nothing);
            return;
        }
        let hlc = self.tick(at);
        let node = &self.nodes[at];
        let own = node
            .logs
            .iter()
            .filter(|(origin, _)| writer(**origin) == at);
        let statement = Statement {
            about: at,
            hlc,
            ends: own
                .map(|(origin, log)| (*origin, log.items.len() as Seq))
                .collect(),
            roster: node.acceptor.newest(&node.roster),
        };
        self.send(at, to, Body::Heartbeat(statement));
    }

    /// What a node knows of everybody's writes.
    pub(super) fn relayed_statements(&self, at: usize) -> Vec<Statement> {
        let node = &self.nodes[at];
        let ends = |about: usize| {
            let logs = node.logs.iter().filter(move |(o, _)| writer(**o) == about);
            logs.map(|(origin, log)| (*origin, log.applied)).collect()
        };
        let statement = |about: usize| Statement {
            about,
            hlc: self.safe_of(at, about),
            ends: ends(about),
            roster: match about == at {
                true => node.acceptor.newest(&node.roster),
                false if self.broken(Broken::RelayWithoutRoster) => 0,
                false => node.roster.version(),
            },
        };
        (0..self.home).map(statement).collect()
    }

    /// A node's own word: kept until everything it names is here.
    pub(super) fn keep_statement(&mut self, at: usize, statement: Statement) {
        let place = &mut self.nodes[at].stated[statement.about];
        match place {
            Some(before) => {
                for (origin, end) in statement.ends {
                    let known = before.ends.entry(origin).or_default();
                    *known = (*known).max(end);
                }
                before.hlc = before.hlc.max(statement.hlc);
                before.roster = before.roster.max(statement.roster);
            }
            None => *place = Some(statement),
        }
        self.try_statements(at);
    }

    /// Something came: what was stated may be all here.
    pub(super) fn try_statements(&mut self, at: usize) {
        for about in 0..self.home {
            let Some(statement) = self.nodes[at].stated[about].take() else {
                continue;
            };
            if !self.learn_statement(at, &statement) {
                self.nodes[at].stated[about] = Some(statement);
            }
        }
    }

    /// Somebody's word on what a node wrote: believed when everything it names is here, and its roster known.
    pub(super) fn learn_statement(&mut self, at: usize, statement: &Statement) -> bool {
        let Statement { about, hlc, .. } = *statement;
        let node = &self.nodes[at];
        let known = statement.roster <= node.roster.version()
            || self.broken(Broken::StatementWithoutRoster);
        let cut = !self.broken(Broken::StatedBehindTheEnd);
        let reached = statement.ends.iter().all(|(origin, seq)| {
            let end = end_of(&node.roster, *origin).filter(|_| cut);
            node.applied(*origin) >= end.unwrap_or(*seq).min(*seq)
        });
        let believed = known && reached && about != at;
        if believed {
            let before = &mut self.nodes[at].known[about];
            *before = (*before).max(hlc);
        }
        believed
    }

    /// Up to when one node's writes are applied at another. Its own word is bounded by its clock.
    fn safe_of(&self, at: usize, about: usize) -> Hlc {
        let node = &self.nodes[at];
        if about != at {
            return node.known[about];
        }
        let unresolved = node.acceptor.unresolved().is_some();
        if node.lost || unresolved && !self.broken(Broken::OwnWordWithoutRoster) {
            return Hlc::ZERO;
        }
        let before = self
            .oldest_uncommitted(at)
            .map_or(u64::MAX, |hlc| hlc.0 - 1);
        Hlc(before.min(node.clock))
    }

    /// Whether safe time leaves a node out.
    fn left_out(&self, at: usize, about: usize) -> bool {
        let node = &self.nodes[at];
        let silent = self.broken(Broken::SilentLeftOut) && self.nodes[about].life != Life::Up;
        silent || is_closed(&node.roster, about)
    }

    /// Up to when everything that the region wrote is applied at a node.
    pub(super) fn safe_time(&self, at: usize) -> Hlc {
        let node = &self.nodes[at];
        let mut ends = node.roster.ends().iter();
        let reached = ends.all(|((_, origin), end)| node.applied(*origin) >= *end);
        if !reached && !self.broken(Broken::EndsNotReached) {
            return Hlc::ZERO;
        }
        let counted = (0..self.home).filter(|about| !self.left_out(at, *about));
        let safe = counted.map(|about| self.safe_of(at, about)).min();
        safe.unwrap_or(Hlc(node.clock))
    }

    /// Holds a node to what it believes now, for good.
    pub(super) fn note_safe_time(&mut self, at: usize) {
        let safe = self.safe_time(at);
        self.ledger.believes(at, safe, &self.nodes);
    }
}
