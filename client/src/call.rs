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
        let safety = match (self.effect, level) {
            (Effect::Read, _) => Safety::Read,
            (Effect::Idempotent, Consistency::Strong) => Safety::StrongIdempotent,
            (Effect::Once, Consistency::Strong) => Safety::StrongOnce,
            (Effect::Idempotent, _) => Safety::LocalIdempotent,
            (Effect::Once, _) => Safety::Once,
        };
        Plan {
            body: self.body.clone(),
            level,
            safety,
            deadline,
            ack_regions: self.ack_regions.into(),
            token: Bytes::new(),
            request: None,
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
        let progress = Progress::default();
        let plan = self.plan(started + time);
        let work = self.work(plan, &progress);
        // Around everything, connecting included: no attempt can outlive the call.
        let body = match timeout_at(started + time, work).await {
            Ok(result) => result?,
            Err(_) => return Err(progress.deadline_error()),
        };
        let about = About {
            attempts: progress.attempts.into_inner(),
            elapsed: started.elapsed(),
        };
        let written = self.effect != Effect::Read;
        (self.decode)(body, about).ok_or_else(|| {
            let applied = if written { Applied::Maybe } else { Applied::No };
            let message = "the reply does not fit the request: report it with both versions";
            Error::new(ErrorKind::Internal, applied, "BAD_REPLY", message)
        })
    }

    async fn work(&self, mut plan: Plan, progress: &Progress) -> Result<ReplyBody, Error> {
        let writes = self.effect != Effect::Read;
        match &self.caller {
            Caller::Session(session) => {
                progress.queued.store(true, Ordering::Relaxed);
                let mut state = session.state.lock().await;
                progress.queued.store(false, Ordering::Relaxed);
                plan.request = writes.then(|| state.lane.take());
                plan.token = state.token.clone();
                plan.issued = state.issued;
                let outcome = execute(session.client(), &plan, progress).await;
                remember(session.client(), &mut state, &outcome);
                outcome
            }
            Caller::Client(client) => {
                let mut loan = writes.then(|| client.lanes().borrow());
                plan.request = loan.as_mut().map(|loan| loan.lane.take());
                execute(client, &plan, progress).await
            }
        }
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
