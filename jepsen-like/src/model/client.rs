//! Clients: each makes one call after another, and asks again elsewhere, under the same request id, when a reply
//! does not come.

use hansa_consistency::clock::Hlc;
use hansa_consistency::record::RequestId;
use hansa_consistency::register::{Action as Does, Expect, Operation, Outcome, StrongValue};
use hansa_consistency::session::Context;
use hansa_consistency::topology::ValueType;

use super::calls::{Action, Call, Condition, EVENTUAL_MAX, NEVER, Reply, Seen, Version};
use super::logs::bytes_of;
use super::world::{REGIONS, World};

/// Clients of a schedule.
pub(super) const CLIENTS: usize = 4;

/// Strong calls that clients make; one more looks at the end.
pub(super) const CALLS_MAX: usize = 11;

/// One client session.
#[derive(Clone, Debug)]
pub(super) struct Client {
    /// What the session has seen.
    pub(super) context: Context,
    seq: u32,
    /// The call it waits for.
    pub(super) call: Option<usize>,
    /// When it last asked.
    asked: u64,
    attempts: u32,
    /// The newest version that a reply named, with its etag.
    seen: (Version, bytes::Bytes),
}

impl Client {
    /// All clients of a schedule, and one that looks at the end.
    pub(super) fn all() -> Vec<Client> {
        let client = Client {
            context: Context::new(),
            seq: 0,
            call: None,
            asked: 0,
            attempts: 0,
            seen: (NEVER, bytes::Bytes::new()),
        };
        vec![client; CLIENTS + 1]
    }
}

impl World {
    /// A client does what it would do now.
    pub(super) fn client_step(&mut self) {
        let client = self.random.below(CLIENTS as u64) as usize;
        let Some(call) = self.clients[client].call else {
            if self.history.calls.len() < CALLS_MAX {
                self.call_at_random(client);
            }
            return;
        };
        let late = self.now > self.clients[client].asked + 2 * self.patience();
        if !late && !self.random.chance(60) {
            return;
        }
        if self.random.chance(250) || self.clients[client].attempts > 3 {
            // The client gives up: the call may take effect at any time, or never.
            self.clients[client].call = None;
            return;
        }
        if self.random.chance(500) {
            for number in 0..REGIONS {
                self.give_up(self.proposer(number), call);
            }
        }
        let at = self.any_proposer();
        self.submit(client, call, at);
    }

    /// A proposer by chance.
    pub(super) fn any_proposer(&mut self) -> usize {
        let number = self.random.below(REGIONS as u64) as usize;
        self.proposer(number)
    }

    fn call_at_random(&mut self, client: usize) {
        let at = self.any_proposer();
        let action = match self.shape.value_type {
            ValueType::Counter => self.counter_action(),
            _ => self.register_action(client),
        };
        self.call(client, action, at);
    }

    fn counter_action(&mut self) -> Action {
        let own = 1 << (EVENTUAL_MAX + self.history.calls.len());
        match self.random.below(10) {
            0..=3 => Action::Read,
            4 => Action::Delete,
            _ => Action::Add(own),
        }
    }

    fn register_action(&mut self, client: usize) -> Action {
        let (version, _) = self.clients[client].seen;
        let expects = match self.random.below(4) {
            0 => Condition::Absent,
            1 if version != NEVER => Condition::IsValue(version),
            _ => Condition::IsVersion(version),
        };
        match self.random.below(10) {
            0..=2 => Action::Read,
            3..=4 => Action::Put,
            5 => Action::Delete,
            _ => Action::CompareAndSet {
                expects,
                deletes: self.random.chance(200),
            },
        }
    }

    /// A client calls: the first attempt goes to a node.
    pub(super) fn call(&mut self, client: usize, action: Action, at: usize) -> usize {
        let index = self.history.calls.len();
        let session = &mut self.clients[client];
        session.seq += 1;
        session.attempts = 0;
        session.call = Some(index);
        // The session has just had a reply of this node, which told it the time.
        let issued = Hlc(self.nodes[at].clock);
        let request = RequestId {
            session: client as u64 + 1,
            seq: session.seq,
            issued,
        };
        let operation = Operation {
            action: does(action, index as Version + 1, &session.seen.1),
            request: (action != Action::Read).then_some(request),
            deps: session.context.clone(),
        };
        self.history.calls.push(Call {
            client,
            action,
            operation,
            invoked: self.now,
            reply: None,
            covered: u32::MAX,
        });
        self.submit(client, index, at);
        index
    }

    /// An attempt at a call arrives at a node.
    fn submit(&mut self, client: usize, call: usize, at: usize) {
        self.clients[client].asked = self.now;
        self.clients[client].attempts += 1;
        let covered = self.own_writes_at(client, at);
        let asked = &mut self.history.calls[call];
        asked.covered &= covered;
        let action = asked.action;
        self.trace.note(self.now, (b'I', client, call, at), || {
            format!("client {client} asks n{at}: call {call} {action:?}")
        });
        if action == Action::Read {
            self.begin_read(at, call);
        } else if !self.refused_from_cache(at, call) {
            self.enqueue(at, call);
        }
    }

    /// A reply to a call; the first one counts, later ones must agree with it.
    pub(super) fn answer(
        &mut self,
        call: usize,
        outcome: &Outcome,
        value: &StrongValue,
        context: Context,
    ) {
        let client = self.history.calls[call].client;
        self.trace.note(self.now, (b'O', call), || {
            format!("call {call} is answered {outcome:?}")
        });
        if self.clients[client].call == Some(call) {
            self.clients[client].call = None;
            self.clients[client].context.join(&context);
        }
        let Some((seen, etag)) = self.seen(outcome, value) else {
            self.counts.unknown += 1;
            return;
        };
        let known = &self.history.calls[call];
        if let Some(first) = &known.reply {
            if known.action != Action::Read && (first.seen != seen || first.etag != etag) {
                let first = first.seen;
                self.ledger
                    .violated(|| format!("S6: call {call} was answered {first:?}, then {seen:?}"));
            }
            return;
        }
        if let Seen::Version(version) | Seen::Refused(version) = seen {
            self.clients[client].seen = (version, etag.clone());
        }
        // The client's request went out with its context; the reply adds to it.
        let mut whole = known.operation.deps.clone();
        whole.join(&context);
        let reply = Reply {
            at: self.now,
            seen,
            etag,
            context,
        };
        self.history.calls[call].reply = Some(reply);
        self.clients[client].context.join(&whole);
    }

    /// What an outcome shows; `None` when it shows nothing.
    fn seen(&mut self, outcome: &Outcome, value: &StrongValue) -> Option<(Seen, bytes::Bytes)> {
        let etag = match outcome {
            Outcome::Read => value.etag(),
            Outcome::Done { etag, .. } | Outcome::ConditionFailed { etag } => etag.clone(),
            Outcome::Unknown | Outcome::Overflow => return None,
        };
        if self.shape.value_type == ValueType::Counter {
            let shown = value.state.as_ref().map_or(Ok(0), |state| state.total());
            let total = match outcome {
                Outcome::Done { total, .. } => *total,
                _ => shown.ok()?,
            };
            return Some((Seen::Total(total), etag));
        }
        let Some(version) = self.ledger.version(&etag) else {
            self.ledger
                .violated(|| "S4: a reply carries an etag that nobody made".to_owned());
            return None;
        };
        let seen = match outcome {
            Outcome::ConditionFailed { .. } => Seen::Refused(version),
            _ => Seen::Version(version),
        };
        Some((seen, etag))
    }
}

/// An action in the product's words; `version` is what it writes, `etag` that of the version it may expect.
fn does(action: Action, version: Version, etag: &bytes::Bytes) -> Does {
    match action {
        Action::Read => Does::Read,
        Action::Put => Does::Put(bytes_of(version)),
        Action::Delete => Does::Delete,
        Action::Add(amount) => Does::Increment(amount),
        Action::CompareAndSet { expects, deletes } => {
            let expect = match expects {
                Condition::Absent => Expect::Absent,
                Condition::IsVersion(_) => Expect::Etag(etag.clone()),
                Condition::IsValue(expected) => Expect::Value(bytes_of(expected)),
            };
            Does::CompareAndSet(expect, (!deletes).then(|| bytes_of(version)))
        }
    }
}
