//! Levels eventual and session: reads from the local rows, writes to the own log.

use std::collections::{BTreeMap, VecDeque};
use std::ops::ControlFlow;
use std::time::Duration;

use bytes::Bytes;

use crate::clock::{ClockAhead, Hlc, Now};
use crate::codec::Encode;
use crate::effect::Note;
use crate::key::{Row, ShardId};
use crate::limits::{CLOCK_AHEAD_MAX_MS, SCAN_BYTES_MAX, SCAN_ROWS_MAX, VALUE_BYTES_MAX};
use crate::port::{Damaged, Family};
use crate::record::{Change, Entry, Record, RequestId};
use crate::request::{
    Answer, Command, Found, Level, Reason, Receipt, Refusal, Reply, Request, Scan, ScannedRow,
};
use crate::rules::Mutant;
use crate::session::Context;
use crate::topology::{Mixing, Topology, ValueType};
use crate::value::{Actor, Counter, Element, Overflow, State};
use crate::version::{Ballot, Dot, Origin, Seq, Stamp, Tag};

use super::jobs::JobId;
use super::shard::Waiting;
use super::turn::{Turn, damaged};
use super::{Replica, Standing};

/// Requests of sessions at levels eventual and session that are remembered, at most.
const RECENT_MAX: usize = 65_536;

/// The latest request of each (session, row) that this start took, to answer a retry.
///
/// A restart forgets them; a retry from before is answered `UNKNOWN_OUTCOME`, never executed again.
#[derive(Clone, Debug)]
pub(super) struct Recent {
    known: BTreeMap<(u64, Row), Taken>,
    order: VecDeque<(u64, Row)>,
    /// A request issued before this may have been taken and forgotten.
    floor: Hlc,
    /// The same as long as it is not known that the store lost nothing.
    floor_in_doubt: Hlc,
}

/// A request that was taken: the entry it became, and what it is told when that is durable.
#[derive(Clone, Debug)]
struct Taken {
    id: RequestId,
    /// The entry it became and what it is told; `None` when another node was asked to take it.
    here: Option<(Dot, Answer, Context)>,
}

impl Recent {
    pub(super) fn new(floor: Hlc) -> Recent {
        Recent {
            known: BTreeMap::new(),
            order: VecDeque::new(),
            floor,
            floor_in_doubt: floor,
        }
    }

    /// A start began: what an earlier one may have taken was issued at most this far ahead of a clock that
    /// showed less then, however old the store is that this start found. (A clock that was set back by more in
    /// between, and a store that went back as well, are two faults at once: then a retry may be taken again.)
    pub(super) fn begin_start(&mut self, now: Now) {
        let newest = Hlc::from_ms(now.wall_ms).plus_ms(CLOCK_AHEAD_MAX_MS + 1);
        self.floor_in_doubt = self.floor.max(newest);
    }

    /// A request was handed to another node, which may have taken it.
    pub(super) fn remember_elsewhere(&mut self, row: Row, id: RequestId) {
        self.remember(row, Taken { id, here: None });
    }

    /// The node that was asked to take it surely did not.
    pub(super) fn forget_elsewhere(&mut self, row: &Row, id: RequestId) {
        let key = (id.session, row.clone());
        let elsewhere = |taken: &Taken| taken.id.seq == id.seq && taken.here.is_none();
        if self.known.get(&key).is_some_and(elsewhere) {
            self.known.remove(&key);
        }
    }

    fn remember(&mut self, row: Row, mut taken: Taken) {
        let key = (taken.id.session, row);
        if let Some(before) = self.known.get_mut(&key) {
            // When it is forgotten, the floor must cover all of them.
            let issued = taken.id.issued.max(before.id.issued);
            if before.id.seq > taken.id.seq {
                before.id.issued = issued;
                return;
            }
            taken.id.issued = issued;
        }
        if self.known.insert(key.clone(), taken).is_none() {
            self.order.push_back(key);
        }
        while self.order.len() > RECENT_MAX {
            let evicted = self
                .order
                .pop_front()
                .and_then(|key| self.known.remove(&key));
            if let Some(taken) = evicted {
                self.floor = self.floor.max(Hlc(taken.id.issued.0.saturating_add(1)));
            }
        }
    }
}

/// The shard a command is about.
pub(super) fn shard_of(command: &Command) -> ShardId {
    match command {
        Command::Scan(scan) => {
            let at = |i: usize| {
                let byte = |i: usize| scan.from.get(i).copied().unwrap_or(0);
                u16::from_be_bytes([byte(i), byte(i + 1)])
            };
            ShardId {
                keyspace: scan.keyspace,
                index: at(2),
            }
        }
        Command::Get(row)
        | Command::Put(row, _)
        | Command::Delete(row)
        | Command::CompareAndSet(row, ..)
        | Command::Increment(row, _)
        | Command::AddElement(row)
        | Command::RemoveElement(row) => row.shard(),
    }
}

/// Whether the keyspace knows the command at this level, and every field is in its bounds.
pub(super) fn check(topology: &Topology, request: &Request) -> Result<(), Refusal> {
    let command = &request.command;
    let refuse = |reason, message: &str| Err(Refusal::not_applied(reason, message));
    let Some(keyspace) = topology.keyspace(shard_of(command).keyspace) else {
        return refuse(
            Reason::UnknownKeyspace,
            "the topology names no such keyspace",
        );
    };
    let fits = match command {
        Command::Get(_) | Command::Scan(_) => true,
        Command::Put(..) | Command::CompareAndSet(..) => keyspace.value_type == ValueType::Register,
        Command::Delete(_) => keyspace.value_type != ValueType::Set,
        Command::Increment(..) => keyspace.value_type == ValueType::Counter,
        Command::AddElement(_) | Command::RemoveElement(_) => keyspace.value_type == ValueType::Set,
    };
    let element = command
        .row()
        .and_then(Row::parts)
        .is_some_and(|p| p.element.is_some());
    let needs_element = keyspace.value_type == ValueType::Set && command.row().is_some();
    if !fits || element != needs_element {
        return refuse(
            Reason::WrongType,
            "the keyspace's value type does not know this command",
        );
    }
    let others = keyspace.regions.len().saturating_sub(1);
    if !command.is_read() && usize::from(request.ack_regions) > others {
        return refuse(
            Reason::Invalid,
            "ack_regions asks for more further regions than hold the keyspace",
        );
    }
    match (command, request.level) {
        (Command::CompareAndSet(..), Level::Eventual | Level::Session) => {
            return refuse(
                Reason::LevelNotSupported,
                "compare-and-set is offered at level strong only",
            );
        }
        (Command::Scan(_), Level::Strong) => {
            return refuse(
                Reason::LevelNotSupported,
                "scans and whole sets are read at level eventual or session: each key is its own strong object",
            );
        }
        (_, Level::Eventual | Level::Session)
            if keyspace.mixing == Mixing::StrongOnly && !command.is_read() =>
        {
            return refuse(
                Reason::StrongOnly,
                "the keyspace takes writes at level strong only",
            );
        }
        _ => {}
    }
    check_bounds(command)
}

fn check_bounds(command: &Command) -> Result<(), Refusal> {
    let invalid = |message: String| Err(Refusal::not_applied(Reason::Invalid, message));
    match command {
        Command::Put(_, value) | Command::CompareAndSet(_, _, Some(value))
            if value.len() > VALUE_BYTES_MAX =>
        {
            let bytes = value.len();
            invalid(format!(
                "the value is {bytes} bytes long, at most {VALUE_BYTES_MAX} are allowed"
            ))
        }
        Command::Scan(scan) if scan.limit == 0 || scan.limit > SCAN_ROWS_MAX => invalid(format!(
            "a page holds 1 to {SCAN_ROWS_MAX} rows, {} were asked for",
            scan.limit
        )),
        Command::Scan(scan) if scan.from.get(..4) != Some(&shard_of(command).prefix()) => {
            invalid("the scan's range names no shard of its keyspace".into())
        }
        _ => Ok(()),
    }
}

/// What a state shows to a reader.
pub(super) fn found(state: Option<&State>) -> Result<Found, Overflow> {
    Ok(match state {
        None => Found::Nothing,
        Some(State::Register(_)) => match state.and_then(State::bytes) {
            Some(bytes) => Found::Value(bytes.clone()),
            None => Found::Nothing,
        },
        Some(state @ State::Counter(_)) => Found::Total(state.total()?),
        Some(state @ State::Element(_)) if state.present() => Found::Member,
        Some(State::Element(_)) => Found::Nothing,
    })
}

/// The refusal of a request id that was issued at a moment that has not come yet.
pub(super) fn from_the_future(ahead: &ClockAhead) -> Refusal {
    Refusal::not_applied(
        Reason::Invalid,
        format!("the request id's `issued` is {ahead}; take it from a reply's server clock"),
    )
}

/// The refusal of a counter that leaves its range.
pub(super) fn overflow(error: Overflow) -> Refusal {
    Refusal::not_applied(Reason::Overflow, error.to_string())
}

impl Replica {
    /// Serves a request whose session (if any) is covered here.
    pub(super) fn serve_local(&mut self, turn: &mut Turn<'_>, id: JobId, shard: ShardId) {
        let Some(job) = self.jobs.get(&id) else {
            return;
        };
        let request = job.request.clone();
        let result = match &request.command {
            Command::Get(row) => self.read_row(turn, &request, row),
            Command::Scan(scan) => self.read_page(turn, &request, scan, shard),
            _ => match self.write_row(turn, id, &request, shard) {
                Ok(()) => return,
                Err(refusal) => Err(refusal),
            },
        };
        self.finish(turn, id, result);
    }

    /// The row of the eventual view.
    pub(super) fn record(&self, turn: &Turn<'_>, row: &Row) -> Result<Option<Record>, Damaged> {
        turn.load(Family::Data, row.as_bytes())
    }

    fn read_row(
        &mut self,
        turn: &mut Turn<'_>,
        request: &Request,
        row: &Row,
    ) -> Result<Reply, Refusal> {
        let record = self
            .record(turn, row)
            .map_err(|damage| self.meet_damage(turn, damage))?;
        let state = record.as_ref().map(|r| &r.state);
        let answer = Answer::Read {
            found: found(state).map_err(overflow)?,
            etag: state.map_or_else(Bytes::new, State::etag),
        };
        let seen = record
            .as_ref()
            .map_or_else(Context::new, |r| self.context_of(r));
        Ok(self.local_reply(turn, request, answer, &seen, row.shard()))
    }

    /// What a session learns by reading a row.
    pub(super) fn context_of(&self, record: &Record) -> Context {
        if !self.rules.broken(Mutant::TokenFromStamp) {
            return record.context();
        }
        match &record.state {
            State::Register(register) => {
                let node = match register.marker.tag {
                    Tag::Strong(ballot, _) => ballot.origin.node,
                    Tag::Entry(dot) => dot.origin.node,
                };
                let region = self.topology.region_of(node).unwrap_or(self.me.region);
                Context::of(region, register.marker.hlc)
            }
            _ => record.context(),
        }
    }

    fn read_page(
        &mut self,
        turn: &mut Turn<'_>,
        request: &Request,
        scan: &Scan,
        shard: ShardId,
    ) -> Result<Reply, Refusal> {
        let mut rows = Vec::new();
        let mut seen = Context::new();
        let mut bytes = 0;
        let mut next = None;
        let mut damage = None;
        let mut visit = |key: &[u8], value: Bytes| {
            if rows.len() >= scan.limit || bytes >= SCAN_BYTES_MAX {
                next = Some(Bytes::copy_from_slice(key));
                return ControlFlow::Break(());
            }
            bytes += key.len() + value.len();
            match scanned(key, &value) {
                Ok((row, record)) => {
                    seen.join(&record.context());
                    rows.extend(row);
                    ControlFlow::Continue(())
                }
                Err(error) => {
                    damage = Some(error);
                    ControlFlow::Break(())
                }
            }
        };
        turn.scan(Family::Data, (&scan.from, &scan.to), &mut visit)
            .map_err(|damage| self.meet_damage(turn, damage))?;
        if let Some(damage) = damage {
            return Err(self.meet_damage(turn, damage));
        }
        let answer = Answer::Page { rows, next };
        Ok(self.local_reply(turn, request, answer, &seen, shard))
    }

    /// What a reply's context starts from: everything the session had seen before.
    fn session_base(&self, request: &Request) -> Context {
        match self.rules.broken(Mutant::TokenReplaced) {
            true => Context::new(),
            false => request.context.clone(),
        }
    }

    fn local_reply(
        &mut self,
        turn: &Turn<'_>,
        request: &Request,
        answer: Answer,
        seen: &Context,
        shard: ShardId,
    ) -> Reply {
        let mut context = self.session_base(request);
        context.join(seen);
        Reply {
            answer,
            level: request.level,
            context,
            // A read must not wait for a sync only because time has passed.
            hlc: self.clock.within_reserve(),
            receipt: Receipt {
                staleness: self.staleness(turn.now.monotonic, shard),
                replicas: vec![self.me.node],
                regions: vec![self.me.region],
                ..Receipt::default()
            },
        }
    }

    fn write_row(
        &mut self,
        turn: &mut Turn<'_>,
        id: JobId,
        request: &Request,
        shard: ShardId,
    ) -> Result<(), Refusal> {
        // Reads were served before; every other command names a row.
        let Some(row) = request.command.row().cloned() else {
            return Ok(());
        };
        if self.answer_again(turn, id, request, &row)? {
            return Ok(());
        }
        let record = self
            .record(turn, &row)
            .map_err(|damage| self.meet_damage(turn, damage))?;
        let origin = self.open_origin(turn);
        if self
            .clock
            .observe(turn.now, request.context.newest())
            .is_err()
        {
            return Err(Refusal::not_applied(
                Reason::Invalid,
                "the session token names a moment that has not come yet",
            ));
        }
        let hlc = self.clock.tick(turn.now);
        let seq = self.next_seq(shard, origin);
        let before = record.as_ref().map(|r| &r.state);
        let dot = Dot { origin, seq };
        let change = self.local_change(&request.command, before, dot, hlc, shard)?;
        let (etag, total) = preview(before, &change);
        let answer = Answer::Written { etag, total };
        let mut context = self.session_base(request);
        context.raise(self.me.region, hlc);
        if let Some(request_id) = request.request_id {
            let taken = Taken {
                id: request_id,
                here: Some((dot, answer.clone(), context.clone())),
            };
            self.recent.remember(row.clone(), taken);
        }
        let entry = self.own_entry(request, hlc, row, change);
        let reply = Reply {
            answer,
            level: request.level,
            context,
            hlc,
            receipt: Receipt {
                staleness: self.staleness(turn.now.monotonic, shard),
                ..Receipt::default()
            },
        };
        self.begun(id);
        let waiting = Waiting {
            job: id,
            ack_regions: request.ack_regions,
            result: Ok(reply),
        };
        self.append(turn, shard, entry, vec![waiting]);
        Ok(())
    }

    fn own_entry(&self, request: &Request, hlc: Hlc, row: Row, state: State) -> Entry {
        Entry {
            hlc,
            deps: match self.rules.broken(Mutant::DepsOmitted) {
                true => Context::new(),
                false => request.context.clone(),
            },
            request: request.request_id,
            changes: vec![Change {
                row,
                state,
                chosen: Ballot::ZERO,
            }],
            extension: Bytes::new(),
        }
    }

    /// Answers a request that was taken before, when what it wrote is durable where it wants it.
    fn answer_again(
        &mut self,
        turn: &mut Turn<'_>,
        id: JobId,
        request: &Request,
        row: &Row,
    ) -> Result<bool, Refusal> {
        let shard = row.shard();
        let Some((dot, known)) = self.recall(turn, request, row, shard)? else {
            return Ok(false);
        };
        self.begun(id);
        let waiting = Waiting {
            job: id,
            ack_regions: request.ack_regions,
            result: Ok(known),
        };
        self.await_entry(turn, shard, dot, waiting);
        Ok(true)
    }

    /// A retry, or a repeated request: answered from memory or not at all, never executed twice.
    fn recall(
        &mut self,
        turn: &mut Turn<'_>,
        request: &Request,
        row: &Row,
        shard: ShardId,
    ) -> Result<Option<(Dot, Reply)>, Refusal> {
        let unknown = |message: &str| Refusal::maybe_applied(Reason::UnknownOutcome, message);
        if let Some((node, level)) = request.retry_of {
            if level != request.level {
                return Err(Refusal::not_applied(
                    Reason::Invalid,
                    "a retry must name the level of its first attempt",
                ));
            }
            if node != self.me.node && !self.rules.broken(Mutant::RetryTakenElsewhere) {
                return Err(unknown(
                    "another node took the first attempt; only it can tell the outcome: read, then decide",
                ));
            }
        }
        let Some(id) = request.request_id else {
            return Ok(None);
        };
        match self.recent.known.get(&(id.session, row.clone())) {
            Some(taken) if taken.id.seq == id.seq => {
                let Some((dot, answer, context)) = taken.here.clone() else {
                    return Err(unknown(
                        "the first attempt was handed to another node; only it can tell the outcome: read, then decide",
                    ));
                };
                turn.note(Note::RequestRecalled);
                let reply = self.local_reply(turn, request, answer, &context, shard);
                Ok(Some((dot, reply)))
            }
            Some(taken) if taken.id.seq > id.seq => {
                Err(unknown("a later request of this session was taken already"))
            }
            _ if request.retry_of.is_some() && id.issued < self.recall_floor() => Err(unknown(
                "the request is older than what this node remembers: read, then decide",
            )),
            _ => Ok(None),
        }
    }

    /// A retry that was issued before this and is not remembered may have been taken by an earlier start. A
    /// store that went back in time does not name a floor for what came after it.
    fn recall_floor(&self) -> Hlc {
        let sure = self.standing == Standing::Voting;
        match sure || self.rules.broken(Mutant::RetryTakenInDoubt) {
            true => self.recent.floor,
            false => self.recent.floor.max(self.recent.floor_in_doubt),
        }
    }

    /// What a command merges into its row, as a join that needs nothing of what was there.
    fn local_change(
        &self,
        command: &Command,
        before: Option<&State>,
        dot: Dot,
        hlc: Hlc,
        shard: ShardId,
    ) -> Result<State, Refusal> {
        let register = |value: Option<Bytes>| {
            let stamp = Stamp {
                strong_version: before.map_or(0, State::strong_version),
                hlc,
                tag: Tag::Entry(dot),
            };
            State::register(stamp, value)
        };
        let value_type = self.topology.keyspace(shard.keyspace).map(|k| k.value_type);
        Ok(match command {
            Command::Put(_, value) => register(Some(value.clone())),
            Command::Delete(row) if value_type == Some(ValueType::Counter) => {
                let observed = before.map_or(Ok(0), State::total).map_err(overflow)?;
                let amount = observed.checked_neg().ok_or(Overflow).map_err(overflow)?;
                self.count(before, row, amount, dot.origin)?
            }
            Command::Delete(_) => register(None),
            Command::Increment(row, amount) => self.count(before, row, *amount, dot.origin)?,
            Command::AddElement(_) => State::Element(Element::added(dot)),
            Command::RemoveElement(_) => State::Element(match before {
                Some(State::Element(element)) => element.remove_observed(),
                _ => Element::default(),
            }),
            Command::Get(_) | Command::Scan(_) | Command::CompareAndSet(..) => {
                return Err(Refusal::not_applied(
                    Reason::LevelNotSupported,
                    "not a write of this level",
                ));
            }
        })
    }

    /// The origin's new absolute totals of a counter row.
    fn count(
        &self,
        before: Option<&State>,
        row: &Row,
        amount: i64,
        origin: Origin,
    ) -> Result<State, Refusal> {
        let actor = Actor::Origin(origin);
        let applied = match before {
            Some(State::Counter(counter)) => counter.totals(actor),
            _ => (0, 0),
        };
        if self.rules.broken(Mutant::AdditiveCounterEntries) {
            let alone = Counter::plus((0, 0), amount).map_err(overflow)?;
            return Ok(State::Counter(Counter::of(actor, alone)));
        }
        let logged = self.logged_totals(row, actor, applied);
        let totals = Counter::plus(logged, amount).map_err(overflow)?;
        let seen = before.map_or(Ok(0), State::total).map_err(overflow)?;
        seen.checked_add(amount).ok_or(Overflow).map_err(overflow)?;
        Ok(State::Counter(Counter::of(actor, totals)))
    }

    /// An actor's totals of a row with every own entry counted in, committed in the region or not. The
    /// maximum: a strong entry among them may carry older totals of the same actor.
    fn logged_totals(&self, row: &Row, actor: Actor, applied: (u64, u64)) -> (u64, u64) {
        let uncommitted = self.shards.get(&row.shard()).map(|held| &held.uncommitted);
        let entries = uncommitted.into_iter().flat_map(|entries| entries.values());
        let changes = entries.flat_map(|entry| &entry.changes);
        changes
            .filter(|change| change.row == *row)
            .filter_map(|change| match &change.state {
                State::Counter(counter) => Some(counter.totals(actor)),
                _ => None,
            })
            .fold(applied, |(up, down), (p, n)| (up.max(p), down.max(n)))
    }

    fn next_seq(&self, shard: ShardId, origin: Origin) -> Seq {
        let logs = self.shards.get(&shard).map(|s| &s.logs);
        1 + logs
            .and_then(|l| l.get(&origin))
            .map_or(0, |log| log.logged)
    }

    /// How old what is read here may be: the longest time since any other replica's state was
    /// known here completely. Rests on no wall clock. Unknown where own writes may be missing.
    pub(super) fn staleness(&self, now: Duration, shard: ShardId) -> Option<Duration> {
        if self.standing != Standing::Voting {
            return None;
        }
        let voters = &self.shards.get(&shard)?.voters;
        voters
            .nodes()
            .filter(|node| *node != self.me.node)
            .map(|node| {
                let fresh_at = self.peers.get(&node)?.known(shard).fresh_at?;
                Some(now.saturating_sub(fresh_at))
            })
            .try_fold(Duration::ZERO, |oldest, age| Some(oldest.max(age?)))
    }
}

/// The row's version and total as this replica sees it right after the change.
fn preview(before: Option<&State>, change: &State) -> (Bytes, i64) {
    let mut after = before.cloned();
    match &mut after {
        Some(state) => {
            state.merge(change);
        }
        none => *none = Some(change.clone()),
    }
    // A register's etag names the write itself, also where another one wins.
    let etag = match change {
        State::Register(_) => change.etag(),
        _ => after.as_ref().map_or_else(Bytes::new, State::etag),
    };
    let total = after.as_ref().map_or(Ok(0), State::total).unwrap_or(0);
    (etag, total)
}

fn scanned(key: &[u8], value: &Bytes) -> Result<(Option<ScannedRow>, Record), Damaged> {
    let record = Record::from_record(value).map_err(|error| damaged(Family::Data, &error))?;
    let row = Row::from_bytes(Bytes::copy_from_slice(key)).ok_or_else(|| Damaged {
        family: Family::Data,
        what: "a key that names no row".into(),
    })?;
    let found = found(Some(&record.state)).unwrap_or(Found::Nothing);
    let shown = (found != Found::Nothing).then(|| ScannedRow {
        row,
        found,
        etag: record.state.etag(),
    });
    Ok((shown, record))
}
