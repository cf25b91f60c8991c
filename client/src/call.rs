//! A call: what to do, at which level, until when. It runs when it is awaited.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use hansa_proto::v1::pipe_reply::Body as ReplyBody;
use hansa_proto::v1::pipe_request::Body as RequestBody;
use tokio::time::{Instant, timeout_at};

use crate::client::{Client, DEADLINE_MAX};
use crate::consistency::Consistency;
use crate::error::{Applied, Error, ErrorKind};
use crate::execute::{Plan, Progress, execute};
use crate::reply::Written;
use crate::request_ids::Unfinished;
use crate::retry::Safety;
use crate::session::{Session, State};
use crate::wire::{self, About, Decode};

/// What repeating an operation would do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Effect {
    /// It changes nothing.
    Read,
    /// It leaves the same state when it runs twice.
    Idempotent,
    /// It does not.
    Once,
}

/// What a write is named by.
#[derive(Clone, Debug)]
enum Naming {
    /// A request id of its own.
    Fresh,
    /// No request id.
    Without,
    /// The request id of an earlier call, which is repeated.
    Again(Unfinished),
}

/// Who calls.
#[derive(Clone, Debug)]
pub(crate) enum Caller {
    Client(Client),
    Session(Session),
}

impl From<&Client> for Caller {
    fn from(client: &Client) -> Caller {
        Caller::Client(client.clone())
    }
}

impl From<&Session> for Caller {
    fn from(session: &Session) -> Caller {
        Caller::Session(session.clone())
    }
}

impl Caller {
    fn client(&self) -> &Client {
        match self {
            Caller::Client(client) => client,
            Caller::Session(session) => session.client(),
        }
    }
}

/// One call. Nothing happens until it is awaited.
///
/// Dropping the future before it is done stops waiting and nothing else: a write may still be
/// applied. A clone is another call: awaiting both writes twice.
///
/// # Errors
/// Awaiting it gives an [`Error`] of one of these kinds:
///
/// * [`Invalid`](ErrorKind::Invalid): the request can never succeed as it is, or an endpoint is not
///   where it was named. [`Denied`](ErrorKind::Denied): nor can it for this caller.
/// * [`Conflict`](ErrorKind::Conflict): the condition of a compare-and-set did not hold.
/// * [`Unreachable`](ErrorKind::Unreachable), [`Overloaded`](ErrorKind::Overloaded),
///   [`Unavailable`](ErrorKind::Unavailable): not now; nothing was applied.
/// * [`Indeterminate`](ErrorKind::Indeterminate): a write may have been applied.
/// * [`Corrupt`](ErrorKind::Corrupt), [`Internal`](ErrorKind::Internal): somebody has to look at it.
///
/// [`Error::applied`] tells for each whether anything was applied, [`Error::reason`] why exactly. What
/// was tried before is told [here](crate#what-is-retried).
#[must_use = "a call does nothing until it is awaited"]
pub struct Call<R> {
    caller: Caller,
    pub(crate) body: RequestBody,
    effect: Effect,
    decode: Decode<R>,
    level: Option<Consistency>,
    time: Option<Duration>,
    ack_regions: u8,
    naming: Naming,
}

impl<R> fmt::Debug for Call<R> {
    /// Without the body: keys and values stay out of logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call")
            .field("effect", &self.effect)
            .field("level", &self.level)
            .finish_non_exhaustive()
    }
}

impl<R> Clone for Call<R> {
    fn clone(&self) -> Call<R> {
        Call {
            caller: self.caller.clone(),
            body: self.body.clone(),
            naming: self.naming.clone(),
            ..*self
        }
    }
}

impl<R> Call<R> {
    pub(crate) fn new(
        caller: impl Into<Caller>,
        effect: Effect,
        body: RequestBody,
        decode: Decode<R>,
    ) -> Call<R> {
        Call {
            caller: caller.into(),
            body,
            effect,
            decode,
            level: None,
            time: None,
            ack_regions: 0,
            naming: Naming::Fresh,
        }
    }

    /// At this level; else the keyspace's default, in a session level session, and always strong
    /// for a compare-and-set.
    pub fn level(mut self, level: Consistency) -> Call<R> {
        self.level = Some(level);
        self
    }

    /// Ends the call after this time, whatever happens: more than 0, at most [`DEADLINE_MAX`], all
    /// attempts together. Another time is refused as [`Invalid`](ErrorKind::Invalid).
    pub fn deadline(mut self, time: Duration) -> Call<R> {
        self.time = Some(time);
        self
    }

    /// For eventual and session writes: answers only when this many further regions have the write
    /// durably, too: 0 (the default) to 15, and less than the cluster has regions. Others are refused
    /// by the server. When they do not have it in time the error says [`Applied::Maybe`]: the write
    /// is there and goes on spreading.
    pub fn ack_regions(mut self, regions: u8) -> Call<R> {
        self.ack_regions = regions;
        self
    }

    fn plan(&self, deadline: Instant) -> Plan {
        let level = self.level.unwrap_or(match (&self.body, &self.caller) {
            (RequestBody::CompareAndSet(_), _) => Consistency::Strong,
            (_, Caller::Session(_)) => Consistency::Session,
            (_, Caller::Client(_)) => Consistency::KeyspaceDefault,
        });
        let safety = match (self.effect, level, &self.naming) {
            (Effect::Read, ..) => Safety::Read,
            (_, _, Naming::Without) => Safety::Once,
            (Effect::Idempotent, Consistency::Strong, _) => Safety::StrongIdempotent,
            (Effect::Once, Consistency::Strong, _) => Safety::StrongOnce,
            (Effect::Idempotent, ..) | (_, _, Naming::Again(_)) => Safety::LocalIdempotent,
            (Effect::Once, ..) => Safety::Once,
        };
        Plan {
            body: self.body.clone(),
            level,
            safety,
            deadline,
            ack_regions: self.ack_regions.into(),
            token: Bytes::new(),
            request: None,
            repeats: match &self.naming {
                Naming::Again(before) => Some(before.clone()),
                Naming::Fresh | Naming::Without => None,
            },
            issued: 0,
        }
    }

    async fn run(self) -> Result<R, Error> {
        let started = Instant::now();
        let client = self.caller.client();
        let time = self.time.unwrap_or(client.deadline());
        if time.is_zero() || time > DEADLINE_MAX {
            return Err(Error::invalid(
                "the deadline is more than 0 and at most 60 s",
            ));
        }
        let plan = self.plan(started + time);
        let progress = match &plan.repeats {
            Some(before) => Progress::repeating(before),
            None => Progress::default(),
        };
        let work = self.work(plan, &progress);
        // Around everything, connecting included: no attempt can outlive the call.
        let outcome = match timeout_at(started + time, work).await {
            Ok(result) => result,
            Err(_) => Err(progress.deadline_error()),
        };
        let named = progress.named();
        let about = About {
            attempts: progress.attempts.into_inner(),
            elapsed: started.elapsed(),
            request_id: named.as_ref().map(|named| named.id),
        };
        let reply = outcome.and_then(|body| self.reply(body, about));
        reply.map_err(|error| error.of_write(named))
    }

    fn reply(&self, body: ReplyBody, about: About) -> Result<R, Error> {
        let written = self.effect != Effect::Read;
        (self.decode)(body, about).ok_or_else(|| {
            let applied = if written { Applied::Maybe } else { Applied::No };
            let message = "the reply does not fit the request: report it with both versions";
            Error::new(ErrorKind::Internal, applied, "BAD_REPLY", message)
        })
    }

    async fn work(&self, mut plan: Plan, progress: &Progress) -> Result<ReplyBody, Error> {
        if let Naming::Again(before) = &self.naming {
            plan.request = Some((before.id.session, before.id.seq));
        }
        let names = self.effect != Effect::Read && matches!(self.naming, Naming::Fresh);
        match &self.caller {
            Caller::Session(session) => {
                progress.queued.store(true, Ordering::Relaxed);
                let mut state = session.state.lock().await;
                progress.queued.store(false, Ordering::Relaxed);
                if names {
                    plan.request = Some(state.lane.take());
                }
                plan.token = state.token.clone();
                plan.issued = state.issued;
                let outcome = execute(session.client(), &plan, progress).await;
                remember(session.client(), &mut state, &outcome);
                outcome
            }
            Caller::Client(client) => {
                let mut loan = names.then(|| client.lanes().borrow());
                if let Some(loan) = &mut loan {
                    plan.request = Some(loan.lane.take());
                }
                execute(client, &plan, progress).await
            }
        }
    }
}

/// What only writes have.
impl Call<Written> {
    /// Sends no request id: servers keep no memory of this write, and nobody can repeat it. An attempt
    /// that may have been applied is the last one, at every level: the error says
    /// [`Applied::Maybe`] and has no [`unfinished`](Error::unfinished). Takes back an earlier
    /// [`repeat`](Call::repeat).
    pub fn without_request_id(mut self) -> Call<Written> {
        self.naming = Naming::Without;
        self
    }

    /// Asks again for what an earlier call did not hear the end of, under its request id and at its
    /// level: [`Error::unfinished`] tells both, of this process or of one before it. Build the same
    /// call: servers look at the request id and not at what it asks for, and answer a write that they
    /// know with the outcome that it had.
    ///
    /// It takes effect at most once, the earlier call included. At level strong any endpoint finds its
    /// outcome. At the other levels only the node that took it does, while it runs; it is asked
    /// where an endpoint is known to lead there. Where the outcome can not be told, and when a later
    /// write of the same session, or on the same client, to the same row was taken, the server answers
    /// `UNKNOWN_OUTCOME` and does not take it again. At another [`level`](Call::level) than the first
    /// attempt's the server refuses it.
    ///
    /// As the earlier call may have been applied, the errors of the repetition say
    /// [`Applied::Maybe`]. But [`Conflict`](ErrorKind::Conflict) at level strong is the outcome of both;
    /// and when its own settings are invalid the repetition is not made at all.
    pub fn repeat(mut self, before: &Unfinished) -> Call<Written> {
        self.level = Some(before.level);
        self.naming = Naming::Again(before.clone());
        self
    }
}

/// Keeps what a reply or a failed condition says about what was seen.
fn remember(client: &Client, state: &mut State, outcome: &Result<ReplyBody, Error>) {
    state.issued = state.issued.max(client.shared().newest_hlc());
    let token = match outcome {
        Ok(body) => wire::header(body).map(|header| &header.session_token),
        Err(error) => Some(error.session_token()),
    };
    if let Some(token) = token.filter(|token| !token.is_empty()) {
        state.token = token.clone();
    }
}

impl<R: 'static> IntoFuture for Call<R> {
    type Output = Result<R, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Result<R, Error>> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}
