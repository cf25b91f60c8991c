//! Linearizability of a schedule's strong calls, with eventual writes as environment joins, by exhaustive search.
//!
//! Wing and Gong 1993 with memory: an order of calls is extended by any call that began before every call still to
//! come has returned. A call without a reply may be put anywhere behind its invocation, or nowhere. An eventual
//! write joins the row at most once, between two calls, after its invocation; it is put in only where a reply shows
//! it, which loses nothing because an unseen one constrains nobody.

use std::collections::BTreeSet;

use hansa_consistency::topology::ValueType;

use super::calls::{Action, Call, EVENTUAL, EVENTUAL_MAX, History, Seen, Version};

/// The sequential object.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct State {
    /// A counter's total, or a register's version.
    shown: i64,
    /// The eventual writes that have joined, as bits.
    joined: u32,
}

struct Search<'a> {
    history: &'a History,
    /// Bits of the calls that were answered.
    answered: u32,
    tried: BTreeSet<(u32, State)>,
}

/// Whether the calls can be put in one order that explains every reply.
pub(super) fn linearizable(history: &History) -> bool {
    let calls = history.calls.iter().enumerate();
    let answered = calls.filter(|(_, call)| call.reply.is_some());
    let mut search = Search {
        history,
        answered: answered.map(|(i, _)| 1 << i).sum(),
        tried: BTreeSet::new(),
    };
    let start = State {
        shown: 0,
        joined: 0,
    };
    search.extend(0, start)
}

impl Search<'_> {
    /// Whether the order of the calls in `done`, which leads to `state`, can be completed.
    fn extend(&mut self, done: u32, state: State) -> bool {
        if done & self.answered == self.answered {
            return true;
        }
        if !self.tried.insert((done, state)) {
            return false;
        }
        let history = self.history;
        let open = |i: usize| done >> i & 1 == 0;
        let calls = || history.calls.iter().enumerate().filter(|(i, _)| open(*i));
        let replies = calls().filter_map(|(_, call)| call.reply.as_ref().map(|r| r.at));
        let bound = replies.min().unwrap_or(u64::MAX);
        calls()
            .filter(|(_, call)| call.invoked <= bound)
            .any(|(i, call)| {
                self.after(i, call, state, bound)
                    .into_iter()
                    .any(|next| self.extend(done | 1 << i, next))
            })
    }

    /// The states that a call can leave behind when it comes next, by time `bound` at the latest.
    fn after(&self, index: usize, call: &Call, state: State, bound: u64) -> Vec<State> {
        match self.history.value_type {
            ValueType::Counter => self
                .after_on_counter(call, state, bound)
                .into_iter()
                .collect(),
            _ => self.after_on_register(index, call, state, bound),
        }
    }

    fn may_join(&self, k: usize, state: State, bound: u64) -> bool {
        let write = self.history.eventual.get(k);
        state.joined >> k & 1 == 0 && write.is_some_and(|w| w.invoked <= bound)
    }

    fn after_on_counter(&self, call: &Call, state: State, bound: u64) -> Option<State> {
        let adds = |shown: i64| State { shown, ..state };
        let Some(reply) = &call.reply else {
            return match call.action {
                Action::Add(amount) => Some(adds(state.shown + amount)),
                Action::Delete => Some(adds(0)),
                _ => None,
            };
        };
        let Seen::Total(total) = reply.seen else {
            return None;
        };
        let before = match call.action {
            Action::Add(amount) => total - amount,
            Action::Delete if total == 0 => return Some(adds(0)),
            _ => total,
        };
        let joins = u32::try_from(before - state.shown).ok()?;
        let may = (0..32)
            .filter(|k| joins >> k & 1 == 1)
            .all(|k| k < EVENTUAL_MAX && self.may_join(k, state, bound));
        may.then_some(State {
            shown: total,
            joined: state.joined | joins,
        })
    }

    fn after_on_register(&self, index: usize, call: &Call, state: State, bound: u64) -> Vec<State> {
        let joins = (0..EVENTUAL_MAX).filter(|k| self.may_join(*k, state, bound));
        let joined = joins.map(|k| State {
            shown: i64::from(EVENTUAL) + k as i64,
            joined: state.joined | 1 << k,
        });
        let own = index as Version + 1;
        std::iter::once(state)
            .chain(joined)
            .filter_map(|before| self.register_step(own, call, before))
            .collect()
    }

    fn register_step(&self, own: Version, call: &Call, before: State) -> Option<State> {
        let found = before.shown as Version;
        let wrote = State {
            shown: i64::from(own),
            ..before
        };
        let seen = call.reply.as_ref().map(|reply| reply.seen);
        match (call.action, seen) {
            (Action::Read, Some(Seen::Version(version))) => (version == found).then_some(before),
            (Action::Put | Action::Delete, Some(Seen::Version(version))) => {
                (version == own).then_some(wrote)
            }
            (Action::Put | Action::Delete, None) => Some(wrote),
            (Action::CompareAndSet { expects, .. }, seen) => {
                let met = self.history.meets(expects, found);
                match seen {
                    None => met.then_some(wrote),
                    Some(Seen::Version(version)) => (met && version == own).then_some(wrote),
                    Some(Seen::Refused(version)) => (!met && version == found).then_some(before),
                    Some(Seen::Total(_)) => None,
                }
            }
            _ => None,
        }
    }
}
