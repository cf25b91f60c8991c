//! The driver's thread: takes mail, steps the replica, sorts the effects.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use hansa_consistency::effect::{Effect, Note};
use hansa_consistency::event::Event;
use hansa_consistency::key::{NodeId, OpId};
use hansa_consistency::layout;
use hansa_consistency::message::Envelope;
use hansa_consistency::port::{Family, Write};
use hansa_consistency::replica::{Config, Opened, Replica, Status};
use hansa_consistency::request::{Applied, Level, Refusal, Reply, Request};
use tokio::sync::watch;

use super::claim::{Claim, claim};
use super::failure::{Failure, Open, Trouble};
use super::group::{Group, carries_writes};
use super::mailbox::{Answerer, Mail};
use super::pipeline::{Pipeline, Surroundings};
use super::{Condition, NextStart, now, stopping};
use crate::limits::{
    DISK_FULL_RETRY, EVENTS_PER_TURN, GROUP_BYTES_MAX, GROUPS_IN_FLIGHT_MAX, READS_DEFERRED_MAX,
    STATUS_INTERVAL,
};
use crate::mutant::DiskMutant;
use crate::store::StoreError;
use crate::store::overlay::{Overlay, Pending};

/// A tick comes at least this often, whatever the core asked for.
const TICK_AT_LEAST: Duration = Duration::from_secs(1);

/// How often it is looked whether the pipeline has let go of the store while reads wait for that.
const DEFERRED_PATIENCE: Duration = Duration::from_millis(1);

/// No record is ever kept under this key. Deleting it asks the store whether there is space.
const PROBE_KEY: &[u8] = b"\xffprobe";

/// Where the replica comes from.
pub(super) struct Origin {
    pub(super) replica: Replica,
    pub(super) config: Config,
    pub(super) opened: Opened,
    pub(super) next_start: NextStart,
}

/// What the driver's thread owns.
pub(super) struct Turns {
    /// `None` only while it can not be opened after a failure.
    replica: Option<Replica>,
    config: Config,
    opened: Opened,
    next_start: NextStart,
    around: Surroundings,
    pipeline: Pipeline,
    status: watch::Sender<Arc<Status>>,
    condition: watch::Sender<Condition>,
    /// Writes that are not yet durable.
    pending: Pending,
    /// The group that grows.
    open: Group,
    /// Requests somebody waits for and that have no outcome yet.
    waiting: BTreeMap<OpId, Open>,
    /// Peers whose link stands.
    links: BTreeSet<NodeId>,
    /// What the node said to itself without having to wait.
    to_self: VecDeque<Envelope>,
    /// Set while writes are refused.
    failure: Option<Failure>,
    /// Reads that came between a failure and the replica that is opened to serve them: some milliseconds.
    deferred: Vec<(OpId, Request, Open)>,
    wake: Option<Duration>,
    stepped_at: Duration,
    publish_at: Duration,
    /// When a replica to read with is opened at the earliest.
    reopen_at: Duration,
    /// When it is tried at the earliest whether the trouble has passed.
    retry_at: Duration,
    effects: Vec<Effect>,
    stopping: bool,
}

impl Turns {
    pub(super) fn new(
        origin: Origin,
        around: Surroundings,
        pipeline: Pipeline,
        status: watch::Sender<Arc<Status>>,
        condition: watch::Sender<Condition>,
    ) -> Turns {
        Turns {
            replica: Some(origin.replica),
            config: origin.config,
            opened: origin.opened,
            next_start: origin.next_start,
            around,
            pipeline,
            status,
            condition,
            pending: Pending::default(),
            open: Group::new(1, 0),
            waiting: BTreeMap::new(),
            links: BTreeSet::new(),
            to_self: VecDeque::new(),
            failure: None,
            deferred: Vec::new(),
            wake: None,
            stepped_at: Duration::ZERO,
            publish_at: Duration::ZERO,
            reopen_at: Duration::ZERO,
            retry_at: Duration::ZERO,
            effects: Vec::new(),
            stopping: false,
        }
    }

    /// Runs until told to stop.
    pub(super) fn run(mut self) {
        let mut mail = VecDeque::new();
        self.step(Event::Started);
        while !self.stopping {
            self.hand_over();
            // A full group that can not be handed over yet holds back everything behind it.
            let room = if self.open.is_full() {
                0
            } else {
                EVENTS_PER_TURN
            };
            self.around
                .mailbox
                .take(&mut mail, room, Some(self.patience()));
            let progress = &self.around.progress;
            let durable = progress.durable.load(Ordering::Acquire);
            // A vote counts when the small file knows of it, too: what rests on it is not shown before.
            let released = progress.released.load(Ordering::Acquire);
            self.pending.retire(durable.min(released));
            for mail in mail.drain(..) {
                self.handle(mail);
            }
            for _ in 0..self.to_self.len() {
                if let Some(envelope) = self.to_self.pop_front() {
                    self.step(Event::Received(envelope));
                }
            }
            self.tick();
            self.recover();
            self.serve_deferred();
            self.publish();
        }
        self.finish();
    }

    /// How long nothing has to happen if nobody says anything.
    fn patience(&self) -> Duration {
        if !self.to_self.is_empty() {
            return Duration::ZERO;
        }
        if !self.deferred.is_empty() {
            return DEFERRED_PATIENCE;
        }
        let next = self.wake.unwrap_or(self.publish_at).min(self.publish_at);
        next.saturating_sub(now().monotonic)
    }

    fn handle(&mut self, mail: Mail) {
        match mail {
            Mail::Request {
                id,
                request,
                answerer,
            } => self.on_request(id, request, answerer),
            Mail::Received { envelope, .. } => self.step_unless_failed(Event::Received(envelope)),
            Mail::Event(event) => self.on_event(event),
            Mail::Failed(failure) => self.on_failed(failure),
            Mail::Stop => self.stopping = true,
        }
    }

    fn on_request(&mut self, id: OpId, request: Request, answerer: Answerer) {
        let open = Open {
            answerer,
            group: self.open.number,
            read: request.command.is_read(),
        };
        if let Some(failure) = self.failure.clone() {
            let served = request.command.is_read() && request.level == Level::Eventual;
            if served && self.is_settling() && self.deferred.len() < READS_DEFERRED_MAX {
                self.deferred.push((id, request, open));
                return;
            }
            let result = self.read_only(&failure, id, request);
            open.answer(result);
            return;
        }
        self.waiting.insert(id, open);
        self.step(Event::Request { id, request });
    }

    fn on_event(&mut self, event: Event) {
        match &event {
            Event::LinkUp(node) => {
                self.links.insert(*node);
            }
            Event::LinkDown(node) => {
                self.links.remove(node);
            }
            // Answered already.
            Event::Cancelled { id } if self.waiting.remove(id).is_none() => return,
            _ => {}
        }
        self.step_unless_failed(event);
    }

    fn step_unless_failed(&mut self, event: Event) {
        if self.failure.is_none() {
            self.step(event);
        }
    }

    /// One step, and its effects.
    fn step(&mut self, event: Event) {
        let Some(replica) = &mut self.replica else {
            return;
        };
        let at = now();
        let overlay = Overlay::new(&*self.around.store, &self.pending);
        replica.step(at, event, &overlay, &mut self.effects);
        let touched = overlay.touched_pending().is_some();
        let unread = overlay.take_failure();
        self.stepped_at = at.monotonic;
        if let Some(error) = unread {
            // The core took it for damage: nothing of what it decided on that is carried out.
            self.effects.clear();
            return self.on_failed(self.unreadable(&error));
        }
        self.carry_out(touched);
    }

    /// Sorts the effects of one step: now, or with the group.
    fn carry_out(&mut self, touched: bool) {
        let mut effects = std::mem::take(&mut self.effects);
        let wrote = effects
            .iter()
            .any(|effect| matches!(effect, Effect::Persist(_)));
        let free = !wrote && !touched;
        let held = self.open.held();
        for effect in effects.drain(..) {
            match effect {
                Effect::Persist(writes) => {
                    self.pending.push(self.open.number, &writes);
                    self.open.write(writes);
                }
                Effect::StoreSequence { sequence, counted } => {
                    self.open.sequence = Some(sequence);
                    self.open.votes |= counted;
                }
                Effect::Send { to, envelope } => self.send(free, to, envelope),
                Effect::Reply { id, result, waits } => {
                    let at_once = (!waits && !touched)
                        || (free && self.nothing_under_way())
                        || self.around.rules.broken(DiskMutant::RepliedBeforeSync);
                    self.reply(at_once, id, result);
                }
                Effect::Wake(at) => self.wake = Some(at),
                Effect::Note(note) => self.note(note),
            }
        }
        self.effects = effects;
        self.open.events += usize::from(self.open.held() > held);
    }

    fn send(&mut self, free: bool, to: NodeId, envelope: Envelope) {
        let progress = &self.around.progress;
        let at_once = free
            && match claim(&envelope.message) {
                Claim::Nothing => true,
                Claim::Clock => !self.pending.holds(Family::Meta, layout::CLOCK),
                Claim::Stored => {
                    self.nothing_under_way() || self.around.rules.broken(DiskMutant::ClaimsIgnored)
                }
                Claim::Vote => {
                    let in_file = progress.sequence.load(Ordering::Acquire);
                    self.nothing_under_way() && in_file >= envelope.store_sequence
                }
            };
        if !at_once && !self.around.rules.broken(DiskMutant::SentBeforeSync) {
            self.open.send(to, envelope);
        } else if to == self.around.node {
            self.to_self.push_back(envelope);
        } else {
            if carries_writes(&envelope.message) {
                progress.leaked.store(self.open.number, Ordering::Release);
            }
            self.around.outbound.send(to, envelope);
        }
    }

    fn reply(&mut self, at_once: bool, id: OpId, result: Result<Reply, Refusal>) {
        let Some(open) = self.waiting.remove(&id) else {
            return;
        };
        match at_once {
            true => open.answer(result),
            false => self.open.reply(open, result),
        }
    }

    fn note(&mut self, note: Note) {
        self.around.observer.note(note);
        if matches!(note, Note::VotesAgain | Note::DataLost) {
            self.publish_at = Duration::ZERO;
        }
    }

    /// Whether everything stepped so far is durable and said.
    fn nothing_under_way(&self) -> bool {
        let released = self.around.progress.released.load(Ordering::Acquire);
        self.open.is_empty() && released + 1 == self.open.number
    }

    /// Hands the group on when the disk is idle; a full one also while the last is being synced.
    fn hand_over(&mut self) {
        let committed = self.around.progress.committed.load(Ordering::Acquire);
        let under_way = self.open.number - 1 - committed;
        let room = match self.open.is_full() {
            true => GROUPS_IN_FLIGHT_MAX as u64,
            false => 1,
        };
        if self.open.is_empty() || under_way >= room {
            return;
        }
        let next = Group::new(self.open.number + 1, self.open.life);
        let group = std::mem::replace(&mut self.open, next);
        if let Err(group) = self.pipeline.hand_over(group) {
            tracing::error!("the commit thread has ended: the node stops");
            let failure = Failure {
                life: group.life,
                nothing_from: None,
                trouble: Trouble::Failed,
                cause: "the commit thread has ended".into(),
            };
            group.fail(&failure, u64::MAX);
            self.stopping = true;
        }
    }

    fn tick(&mut self) {
        let at = now().monotonic;
        let due = self.wake.is_some_and(|wake| wake <= at) || self.stepped_at + TICK_AT_LEAST <= at;
        if due && self.failure.is_none() {
            self.wake = None;
            self.step(Event::Tick);
        }
    }

    fn publish(&mut self) {
        let at = now();
        if at.monotonic < self.publish_at {
            return;
        }
        self.publish_at = at.monotonic + STATUS_INTERVAL;
        if let Some(replica) = &self.replica {
            self.status.send_replace(Arc::new(replica.status(at)));
        }
    }

    /// Refuses everything open, and waits until everything else is durable and said.
    fn finish(mut self) {
        for mail in self.around.mailbox.close() {
            if let Mail::Request { answerer, .. } = mail {
                let _ = answerer.send(Err(stopping(Applied::No)));
            }
        }
        for (.., open) in std::mem::take(&mut self.deferred) {
            open.answer(Err(stopping(Applied::No)));
        }
        if self.around.progress.abandoned.load(Ordering::Acquire) {
            drop(self.open);
        } else {
            for (_, open) in std::mem::take(&mut self.waiting) {
                let applied = match open.read {
                    true => Applied::No,
                    false => Applied::Maybe,
                };
                open.answer(Err(stopping(applied)));
            }
            if !self.open.is_empty() && self.pipeline.hand_over(self.open).is_err() {
                tracing::error!("the commit thread ended before the driver");
            }
        }
        self.pipeline.finish();
    }
}

/// Bad days.
impl Turns {
    /// Ends the life of the replica: everything stepped and not durable is gone.
    fn on_failed(&mut self, failure: Failure) {
        if failure.life != self.open.life || self.failure.is_some() {
            return;
        }
        let leaked = self.around.progress.leaked.load(Ordering::Acquire);
        let next = Group::new(self.open.number, self.open.life + 1);
        std::mem::replace(&mut self.open, next).fail(&failure, leaked);
        for (_, open) in std::mem::take(&mut self.waiting) {
            open.fail(&failure, leaked);
        }
        self.pending = Pending::default();
        self.to_self.clear();
        self.replica = None;
        self.wake = None;
        self.reopen_at = Duration::ZERO;
        self.retry_at = now().monotonic + DISK_FULL_RETRY;
        self.set_condition(match failure.trouble {
            Trouble::Full => Condition::DiskFull,
            Trouble::Short | Trouble::Failed => Condition::DiskFailed(Arc::clone(&failure.cause)),
        });
        self.failure = Some(failure);
    }

    /// What it means that a step could not read. Nothing of the group that grows was handed on, so nothing of
    /// it is applied; what was handed on before stays good.
    fn unreadable(&self, error: &StoreError) -> Failure {
        Failure {
            life: self.open.life,
            nothing_from: Some(self.open.number),
            trouble: match error.may_pass() {
                true => Trouble::Short,
                false => Trouble::Failed,
            },
            cause: error.to_string().into(),
        }
    }

    /// Tells everybody, and the log once for every change.
    fn set_condition(&mut self, condition: Condition) {
        match &condition {
            Condition::Serving => {
                tracing::info!(start = self.opened.start, "the disk works again");
            }
            Condition::DiskFull => {
                tracing::warn!("the disk is full: eventual reads only until there is space");
            }
            Condition::DiskFailed(cause) => {
                tracing::error!(%cause, "the disk failed: eventual reads only");
            }
        }
        self.around.observer.condition(&condition);
        self.condition.send_replace(condition);
        self.publish_at = Duration::ZERO;
    }

    /// Whether a replica to read with is opened as soon as the pipeline has let go of the store.
    fn is_settling(&self) -> bool {
        self.replica.is_none() && self.reopen_at == Duration::ZERO
    }

    /// Serves the reads that waited for a replica to read with, or refuses them when there is none.
    fn serve_deferred(&mut self) {
        if self.deferred.is_empty() || self.is_settling() {
            return;
        }
        for (id, request, open) in std::mem::take(&mut self.deferred) {
            match self.failure.clone() {
                Some(failure) => {
                    let result = self.read_only(&failure, id, request);
                    open.answer(result);
                }
                None => {
                    self.waiting.insert(id, open);
                    self.step(Event::Request { id, request });
                }
            }
        }
    }

    /// Serves a read at level eventual from what the store holds, and refuses everything else.
    fn read_only(
        &mut self,
        failure: &Failure,
        id: OpId,
        request: Request,
    ) -> Result<Reply, Refusal> {
        let readable = request.command.is_read() && request.level == Level::Eventual;
        let (true, Some(replica)) = (readable, &mut self.replica) else {
            return Err(failure.refusal(Applied::No));
        };
        let context = request.context.clone();
        let overlay = Overlay::new(&*self.around.store, &self.pending);
        let event = Event::Request { id, request };
        replica.step(now(), event, &overlay, &mut self.effects);
        let unread = overlay.take_failure().is_some();
        let mut outcome = None;
        for effect in self.effects.drain(..) {
            match effect {
                Effect::Reply { id: of, result, .. } if of == id => outcome = Some(result),
                // Nothing is written or sent while the disk does not take it.
                _ => {}
            }
        }
        match outcome {
            _ if unread => Err(failure.refusal(Applied::No)),
            Some(Ok(reply)) => Ok(Reply { context, ..reply }),
            Some(Err(refusal)) => Err(refusal),
            None => Err(failure.refusal(Applied::No)),
        }
    }

    /// After a failure: opens a replica to read with, and starts anew when the trouble has passed.
    fn recover(&mut self) {
        let Some(failure) = &self.failure else {
            return;
        };
        // Until then the pipeline may still change the store.
        let released = self.around.progress.released.load(Ordering::Acquire);
        if released + 1 != self.open.number {
            return;
        }
        let at = now().monotonic;
        let may_pass = failure.may_pass();
        if self.replica.is_none() && self.reopen_at <= at {
            self.reopen_at = at + DISK_FULL_RETRY;
            self.replica = self.reopen().ok();
        }
        if !may_pass || at < self.retry_at {
            return;
        }
        self.retry_at = at + DISK_FULL_RETRY;
        match self.probe() {
            Ok(()) => self.begin_new_life(),
            Err(StoreError::Full { .. }) => {}
            Err(error) if error.may_pass() => {}
            Err(error) => self.give_up(&error.to_string()),
        }
    }

    /// A replica as the store has it. An error says whether it may work later.
    fn reopen(&self) -> Result<Replica, bool> {
        let overlay = Overlay::new(&*self.around.store, &self.pending);
        let config = self.config.clone();
        let opened = Replica::open(config, self.opened, rand::random(), now(), &overlay);
        opened.map_err(|error| {
            tracing::warn!(%error, "the replica could not be opened again");
            overlay.take_failure().is_some_and(|error| error.may_pass())
        })
    }

    /// Whether the store takes writes again: a whole group of them, or the next large one would end the new
    /// life as soon as it began.
    fn probe(&self) -> Result<(), StoreError> {
        let store = &self.around.store;
        store.room_for(GROUP_BYTES_MAX as u64)?;
        store.apply(&[Write {
            family: Family::Meta,
            key: Bytes::from_static(PROBE_KEY),
            value: None,
        }])?;
        store.sync()
    }

    /// Starts anew, as after a restart of the node.
    fn begin_new_life(&mut self) {
        match (self.next_start)() {
            Ok(start) => self.opened.start = start,
            // Tried again with the next probe.
            Err(error) => {
                tracing::warn!(%error, "the fresh start number could not be written");
                return;
            }
        }
        match self.reopen() {
            Ok(replica) => self.replica = Some(replica),
            // Tried again with the next probe.
            Err(true) => return,
            Err(false) => return self.give_up("the store can not be opened again"),
        }
        self.failure = None;
        self.set_condition(Condition::Serving);
        self.step(Event::Started);
        for node in self.links.clone() {
            self.step(Event::LinkUp(node));
        }
    }

    /// Trouble that could have passed became a failed disk.
    fn give_up(&mut self, cause: &str) {
        let cause: Arc<str> = cause.into();
        self.set_condition(Condition::DiskFailed(Arc::clone(&cause)));
        self.failure = self.failure.take().map(|failure| Failure {
            nothing_from: None,
            trouble: Trouble::Failed,
            cause,
            ..failure
        });
    }
}
