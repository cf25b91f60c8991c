//! Origin logs and the eventual view, reduced to what the register meets: the view changes only by applying
//! entries, each origin's in order, every replica at its own pace.

use bytes::Bytes;
use hansa_consistency::clock::Hlc;
use hansa_consistency::record::{Change, Entry, Record};
use hansa_consistency::session::Context;
use hansa_consistency::topology::ValueType;
use hansa_consistency::value::{Actor, Counter, State};
use hansa_consistency::version::{Ballot, Dot, Origin, Stamp, Tag};

use super::calls::{EVENTUAL, EventualWrite, Version};
use super::world::{World, describe_state};

impl World {
    /// Appends an entry to a node's own log, durably, and applies it there; its clock value.
    pub(super) fn append(
        &mut self,
        at: usize,
        hlc: Hlc,
        (state, chosen): (State, Ballot),
        deps: Context,
    ) {
        let change = Change {
            row: self.row.clone(),
            state,
            chosen,
        };
        let entry = Entry {
            hlc,
            deps,
            request: None,
            changes: vec![change],
            extension: Bytes::new(),
        };
        let origin = self.nodes[at].origin;
        self.logs.entry(origin).or_default().push(entry);
        self.apply_next(at, origin);
    }

    /// Applies an origin's next entry at a node; `false` when there is none.
    pub(super) fn apply_next(&mut self, at: usize, origin: Origin) -> bool {
        let next = self.nodes[at].applied.entry(origin).or_default();
        let log = self.logs.get(&origin);
        let Some(entry) = log.and_then(|log| log.get(*next)) else {
            return false;
        };
        *next += 1;
        let region = self.nodes[usize::from(origin.node.0)].region;
        let node = &mut self.nodes[at];
        node.clock = node.clock.max(entry.hlc.0);
        for change in &entry.changes {
            let before = node.record.take();
            let (record, _) = Record::apply(before, region, entry, change, self.rules);
            node.record = Some(record);
        }
        let (record, applied) = (node.record.as_ref(), node.applied.get(&origin));
        self.trace.note(self.now, (b'A', at, origin, applied), || {
            let state = describe_state(record.map(|r| &r.state));
            format!(
                "n{at} applies entry {applied:?} of n{}: {state}",
                origin.node.0
            )
        });
        true
    }

    /// Every replica applies every entry.
    pub(super) fn ship_all(&mut self) {
        let origins: Vec<Origin> = self.logs.keys().copied().collect();
        for at in 0..self.nodes.len() {
            for origin in &origins {
                while self.apply_next(at, *origin) {}
            }
        }
    }

    /// An eventual write by a client at a node.
    pub(super) fn write_eventually(&mut self, client: usize, at: usize) {
        let k = self.history.eventual.len();
        let hlc = self.tick(at);
        let node = &self.nodes[at];
        let before = node.record.as_ref().map(|record| &record.state);
        let seq = self.logs.get(&node.origin).map_or(0, Vec::len) as u64 + 1;
        let dot = Dot {
            origin: node.origin,
            seq,
        };
        let state = match self.shape.value_type {
            ValueType::Counter => counted(before, node.origin, 1 << k),
            _ => Some(registered(before, hlc, dot, EVENTUAL + k as Version)),
        };
        let Some(state) = state else {
            return;
        };
        let etag = state.etag();
        if self.shape.value_type == ValueType::Register {
            self.ledger.name(&etag, EVENTUAL + k as Version);
        }
        let deps = self.clients[client].context.clone();
        let region = node.region;
        self.clients[client].context.raise(region, hlc);
        self.history.eventual.push(EventualWrite {
            client,
            dot,
            invoked: self.now,
            context: self.clients[client].context.clone(),
            etag,
        });
        self.trace.note(self.now, (b'V', at, k), || {
            format!("client {client} writes eventually at n{at}: write {k}")
        });
        self.append(at, hlc, (state, Ballot::ZERO), deps);
    }

    /// A client's own eventual writes that a node has applied, as bits.
    pub(super) fn own_writes_at(&self, client: usize, at: usize) -> u32 {
        let applied = |dot: &Dot| {
            let applied = self.nodes[at].applied.get(&dot.origin);
            applied.is_some_and(|count| *count as u64 >= dot.seq)
        };
        let writes = self.history.eventual.iter().enumerate();
        let own = writes.filter(|(_, w)| w.client == client && applied(&w.dot));
        own.map(|(k, _)| 1 << k).sum()
    }

    /// An eventual read at a node.
    pub(super) fn read_eventually(&mut self, at: usize) {
        if let Some(record) = &self.nodes[at].record {
            self.ledger.check_view(record);
        }
    }
}

/// An origin's new absolute totals after adding `amount`.
fn counted(before: Option<&State>, origin: Origin, amount: i64) -> Option<State> {
    let actor = Actor::Origin(origin);
    let totals = match before {
        Some(State::Counter(counter)) => counter.totals(actor),
        _ => (0, 0),
    };
    let totals = Counter::plus(totals, amount).ok()?;
    Some(State::Counter(Counter::of(actor, totals)))
}

fn registered(before: Option<&State>, hlc: Hlc, dot: Dot, version: Version) -> State {
    let stamp = Stamp {
        strong_version: before.map_or(0, State::strong_version),
        hlc,
        tag: Tag::Entry(dot),
    };
    State::register(stamp, Some(bytes_of(version)))
}

/// The bytes that a version writes.
pub(super) fn bytes_of(version: Version) -> Bytes {
    Bytes::copy_from_slice(&version.to_be_bytes())
}
