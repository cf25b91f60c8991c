//! One call, from its first attempt to its last.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use hansa_proto::v1;
use hansa_proto::v1::pipe_reply::Body as ReplyBody;
use hansa_proto::v1::pipe_request::Body as RequestBody;
use tokio::time::{Instant, sleep};

use crate::client::Client;
use crate::consistency::Consistency;
use crate::endpoint::Endpoint;
use crate::error::{Applied, Error, ErrorKind};
use crate::pipe::{Failure, Stream};
use crate::request_ids::{RequestId, Unfinished};
use crate::retry::{Ended, Next, Safety, next};
use crate::wire;

/// Pauses of a call that left nothing behind: between two rounds over all endpoints, or before an
/// overloaded node is asked again. Then it gives up. A write that may have been applied goes on
/// until its deadline: to know is worth the wait.
const PAUSES_MAX: u32 = 2;
/// The first pause and the longest one.
const PAUSE: [Duration; 2] = [Duration::from_millis(50), Duration::from_millis(500)];
/// Added to the round trip when the server is told to be done before the caller stops waiting, so
/// that the server's reason arrives instead of a bare timeout.
const ANSWER_MARGIN: Duration = Duration::from_millis(10);

/// What to ask for, the same in every attempt.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) body: RequestBody,
    pub(crate) level: Consistency,
    pub(crate) safety: Safety,
    pub(crate) deadline: Instant,
    pub(crate) ack_regions: u32,
    pub(crate) token: Bytes,
    /// For writes that have a request id: its session and number.
    pub(crate) request: Option<(u64, u32)>,
    /// The write of an earlier call that this one repeats, under its request id.
    pub(crate) repeats: Option<Unfinished>,
    /// The newest server clock value of the session; a newer one of the client replaces it.
    pub(crate) issued: u64,
}

/// How far a call has come. It stands outside of the future that a deadline drops.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    pub(crate) attempts: AtomicU32,
    /// A write is out that may have been applied.
    unknown: AtomicBool,
    /// Any request at all was sent.
    sent: AtomicBool,
    /// An earlier call of the session is still under way.
    pub(crate) queued: AtomicBool,
    /// What came of the last attempt at each endpoint that could not be reached, by its number.
    unreached: Mutex<BTreeMap<usize, String>>,
    /// What the attempts are named by; the node is that of the first which may have been applied, or
    /// of the newest when none of them may.
    named: Mutex<Option<Unfinished>>,
}

impl Progress {
    /// That of a call which repeats an earlier one: that one may have been applied.
    pub(crate) fn repeating(before: &Unfinished) -> Progress {
        Progress {
            unknown: AtomicBool::new(true),
            named: Mutex::new(Some(before.clone())),
            ..Progress::default()
        }
    }

    /// What the attempts were named by; `None` when none was made or they had no name.
    pub(crate) fn named(&self) -> Option<Unfinished> {
        self.name().clone()
    }

    fn name(&self) -> MutexGuard<'_, Option<Unfinished>> {
        self.named.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The last attempt's error as that of the whole call: an earlier attempt may have been applied.
    ///
    /// A condition that did not hold is different. At level strong the servers agree on that as on any
    /// outcome and keep it under the request id, so it is what became of every attempt.
    fn of_call(&self, safety: Safety, error: Error) -> Error {
        let is_outcome = safety == Safety::StrongOnce && error.reason() == "CONDITION_FAILED";
        match self.unknown.load(Ordering::Relaxed) && !is_outcome {
            true => error.after_unknown(),
            false => error,
        }
    }

    fn not_reached(&self, index: usize, error: &Error) {
        if error.kind() == ErrorKind::Unreachable {
            let mut unreached = self
                .unreached
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            unreached.insert(index, error.message().to_owned());
        }
    }

    /// What was tried and what came of it; empty when no attempt ended.
    fn tried(&self) -> String {
        let unreached = self
            .unreached
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let all: Vec<&str> = unreached.values().map(String::as_str).collect();
        all.join("; ")
    }

    /// The error of a call that its deadline ended.
    pub(crate) fn deadline_error(&self) -> Error {
        let attempts = self.attempts.load(Ordering::Relaxed);
        let (kind, applied, message) = if self.unknown.load(Ordering::Relaxed) {
            (
                ErrorKind::Indeterminate,
                Applied::Maybe,
                "the deadline passed before the outcome was known: read, then decide",
            )
        } else if self.sent.load(Ordering::Relaxed) {
            (
                ErrorKind::Unavailable,
                Applied::No,
                "the deadline passed before an answer came: allow more time or choose another level",
            )
        } else if self.queued.load(Ordering::Relaxed) {
            (
                ErrorKind::Unavailable,
                Applied::No,
                "the deadline passed while an earlier call of the session was under way: a session makes one call \
                 after the other; allow more time or use another session",
            )
        } else {
            let message = match self.tried() {
                tried if tried.is_empty() => "no endpoint answered before the deadline".to_owned(),
                tried => format!("no endpoint could be reached before the deadline: {tried}"),
            };
            return Error::unreachable(message).at("", attempts);
        };
        Error::new(kind, applied, "DEADLINE_EXCEEDED", message).at("", attempts)
    }
}

/// Where the first request that was sent went: repetitions name it.
#[derive(Clone, Debug)]
struct First {
    endpoint: usize,
    node: String,
    region: String,
}

/// One call under way.
struct Journey<'a> {
    client: &'a Client,
    plan: &'a Plan,
    progress: &'a Progress,
    first: Option<First>,
    /// The clock value of the request id, fixed by the first attempt.
    issued: Option<u64>,
    /// Endpoints asked in this round.
    tried: BTreeSet<usize>,
    pauses: u32,
}

/// Makes attempts until one succeeds or none is allowed any more. The caller bounds the time.
pub(crate) async fn execute(
    client: &Client,
    plan: &Plan,
    progress: &Progress,
) -> Result<ReplyBody, Error> {
    let mut journey = Journey {
        client,
        plan,
        progress,
        first: None,
        issued: plan.repeats.as_ref().map(|before| before.id.issued),
        tried: BTreeSet::new(),
        pauses: 0,
    };
    let mut place = Next::Anywhere;
    loop {
        let index = match journey.choose(place).await {
            Ok(index) => index,
            Err(error) => return Err(progress.of_call(plan.safety, error)),
        };
        let attempt = progress.attempts.fetch_add(1, Ordering::Relaxed) + 1;
        let endpoint = client.endpoint(index);
        let (ended, error) = match journey.attempt(index, place).await {
            Ok(reply) => return Ok(reply),
            Err(failed) => failed,
        };
        progress.not_reached(index, &error);
        let unknown = progress.unknown.load(Ordering::Relaxed);
        let error = progress.of_call(plan.safety, error.at(&endpoint.url, attempt));
        place = next(plan.safety, ended, unknown);
        tracing::debug!(
            endpoint = endpoint.url,
            attempt,
            reason = error.reason(),
            ?place,
            "attempt failed"
        );
        if place == Next::GiveUp || !journey.goes_on(place, unknown) {
            return Err(match error.kind() {
                ErrorKind::Unreachable => {
                    Error::unreachable(progress.tried()).at(&endpoint.url, attempt)
                }
                _ => error,
            });
        }
        if ended == Ended::RefusedNow && journey.stays(error.retry_after()) {
            journey.tried.remove(&index);
            journey.pause(error.retry_after()).await;
        }
    }
}

impl Journey<'_> {
    /// The nearest allowed endpoint not asked in this round; after a pause a new round begins.
    async fn choose(&mut self, place: Next) -> Result<usize, Error> {
        let allowed = self.allowed(place);
        if allowed.is_empty() {
            return Err(self.nowhere(place));
        }
        if let Some(index) = allowed.iter().find(|index| !self.tried.contains(index)) {
            let index = *index;
            self.tried.insert(index);
            return Ok(index);
        }
        self.tried.clear();
        self.pause(None).await;
        let index = self.allowed(place).first().copied().unwrap_or(allowed[0]);
        self.tried.insert(index);
        Ok(index)
    }

    /// The error of a call that no endpoint may be asked for.
    fn nowhere(&self, place: Next) -> Error {
        let attempts = self.progress.attempts.load(Ordering::Relaxed);
        let message = match (&self.first, place) {
            (Some(first), Next::SameNode | Next::SameRegion) => format!(
                "no endpoint leads to region `{}` any more, where the first attempt went",
                first.region
            ),
            _ => {
                "no endpoint is in the home region, and the client may not leave it: name one there"
                    .to_owned()
            }
        };
        Error::unreachable(message).at("", attempts)
    }

    /// Endpoints the next attempt may go to, nearest first.
    fn allowed(&self, place: Next) -> Vec<usize> {
        let order = self.client.order();
        let Some(first) = &self.first else {
            return self.first_allowed(order);
        };
        let fits = |index: &usize| match place {
            Next::SameNode => *index == first.endpoint,
            Next::SameRegion => self.client.region_of(*index).as_ref() == Some(&first.region),
            Next::Anywhere | Next::GiveUp => true,
        };
        order.into_iter().filter(fits).collect()
    }

    /// Endpoints the first attempt may go to. Below strong only the node that took a write knows it
    /// again; where no endpoint is known to lead there, any node says so.
    fn first_allowed(&self, order: Vec<usize>) -> Vec<usize> {
        let repeats = self.plan.repeats.as_ref();
        let Some(before) = repeats.filter(|before| before.level != Consistency::Strong) else {
            return order;
        };
        let leads_there = |index: &usize| {
            let health = self.client.endpoint(*index).health();
            health.node.as_ref() == Some(&before.node)
        };
        let there: Vec<usize> = order.iter().copied().filter(leads_there).collect();
        if there.is_empty() { order } else { there }
    }

    /// Whether another attempt is worth it.
    fn goes_on(&self, place: Next, unknown: bool) -> bool {
        let untried = || self.allowed(place).iter().any(|i| !self.tried.contains(i));
        unknown || self.pauses < PAUSES_MAX || untried()
    }

    /// Whether to wait for a node that is overloaded: not when all pauses are used up, nor longer
    /// than the call may take. Then another node is asked.
    fn stays(&self, hint: Option<Duration>) -> bool {
        let in_time = |hint| Instant::now() + hint < self.plan.deadline;
        self.pauses < PAUSES_MAX && hint.is_none_or(in_time)
    }

    /// Waits as long as the server hinted, else longer from pause to pause.
    async fn pause(&mut self, hint: Option<Duration>) {
        let [shortest, longest] = PAUSE;
        let pause = shortest
            .saturating_mul(1 << (2 * self.pauses.min(8)))
            .min(longest);
        self.pauses += 1;
        let jitter = 0.5 + rand::random::<f64>() / 2.0;
        sleep(hint.unwrap_or(pause.mul_f64(jitter))).await;
    }

    /// One attempt at one endpoint.
    async fn attempt(&mut self, index: usize, place: Next) -> Result<ReplyBody, (Ended, Error)> {
        let endpoint = self.client.endpoint(index);
        let stream = endpoint
            .stream()
            .await
            .map_err(|error| (Ended::NotSent, error))?;
        self.admits(place, &stream.hello)?;
        let body = self.request(&stream, endpoint);
        let is_read = self.plan.safety == Safety::Read;
        let unknown_before = self.progress.unknown.load(Ordering::Relaxed);
        let sent = if is_read {
            &self.progress.sent
        } else {
            &self.progress.unknown
        };
        let outcome = stream.call(body, sent).await;
        let clock = outcome.as_ref().map_or(0, wire::server_hlc);
        self.client.shared().saw_hlc(clock);
        match outcome {
            Err(Failure::NotSent(error)) => Err((Ended::NotSent, error)),
            Err(Failure::Broken(why)) => {
                self.sent(index, &stream);
                Err((Ended::Broken, self.broken(&why)))
            }
            Ok(ReplyBody::Error(refusal)) => {
                let error = wire::error(refusal, is_read);
                if error.reason() == "UNKNOWN_OUTCOME" && clock == 0 {
                    // The clock value in the request may be older than what the server remembers.
                    // Named again by the next request it would be refused again: a new greeting
                    // tells a newer one.
                    endpoint.forget(&stream).await;
                }
                if error.applied() == Applied::Maybe {
                    self.sent(index, &stream);
                    return Err((Ended::RefusedForGood, error));
                }
                self.progress
                    .unknown
                    .store(unknown_before, Ordering::Relaxed);
                self.sent(index, &stream);
                Err((Ended::refused(error.reason()), error))
            }
            Ok(reply) => Ok(reply),
        }
    }

    /// Holds the greeting against where the attempt may go: what was known when the endpoint was
    /// chosen may be missing or out of date.
    fn admits(&self, place: Next, hello: &v1::Hello) -> Result<(), (Ended, Error)> {
        let refused = |ended, message| Err((ended, Error::unreachable(message)));
        if !self.client.may_ask(&hello.region) {
            let elsewhere = format!(
                "this endpoint is in region `{}`, and the client may not leave its home region",
                hello.region
            );
            return refused(Ended::NotSent, elsewhere);
        }
        match (&self.first, place) {
            (Some(first), Next::SameNode) if first.node != hello.node => {
                let other = "another node answers at this address now".to_owned();
                refused(Ended::RefusedForGood, other)
            }
            (Some(first), Next::SameRegion) if first.region != hello.region => {
                let other = "a node of another region answers at this address now".to_owned();
                refused(Ended::NotSent, other)
            }
            _ => Ok(()),
        }
    }

    /// The request as this attempt sends it.
    fn request(&mut self, stream: &Stream, endpoint: &Endpoint) -> RequestBody {
        let plan = self.plan;
        let newest = self
            .client
            .shared()
            .newest_hlc()
            .max(stream.hello.server_hlc);
        let issued = *self.issued.get_or_insert(plan.issued.max(newest));
        let level = wire::level(plan.level).into();
        let request_id = plan.request.map(|(session, seq)| {
            let id = RequestId {
                session,
                seq,
                issued,
            };
            self.name(id, &stream.hello.node)
        });
        let remaining = plan.deadline.saturating_duration_since(Instant::now());
        let round_trip = endpoint.health().round_trip.unwrap_or_default();
        let server_time = remaining
            .saturating_sub(round_trip + ANSWER_MARGIN)
            .max(remaining / 2)
            .max(Duration::from_millis(1));
        let mut body = plan.body.clone();
        wire::set_options(
            &mut body,
            v1::RequestOptions {
                level,
                session_token: plan.token.clone(),
                request_id,
                ack_regions: plan.ack_regions,
                deadline_ms: u32::try_from(server_time.as_millis()).unwrap_or(u32::MAX),
                epoch: 0,
            },
        );
        body
    }

    /// The request id as this attempt sends it to this node; remembers what the call is named by.
    fn name(&self, id: RequestId, node: &str) -> v1::RequestId {
        let progress = self.progress;
        let attempts = progress.attempts.load(Ordering::Relaxed);
        let unknown = progress.unknown.load(Ordering::Relaxed);
        let mut named = progress.name();
        // What was surely not applied counts as never attempted.
        let first = named.as_ref().filter(|_| unknown);
        let sent = v1::RequestId {
            session: id.session,
            seq: id.seq,
            issued_hlc: id.issued,
            attempt: match (first, &self.plan.repeats) {
                (None, _) => 0,
                (Some(_), None) => attempts.saturating_sub(1),
                // The call before made one at least.
                (Some(_), Some(_)) => attempts,
            },
            first_node: first.map(|first| first.node.clone()).unwrap_or_default(),
            first_level: first.map_or(0, |first| wire::level(first.level).into()),
        };
        if first.is_none() {
            *named = Some(Unfinished {
                id,
                level: self.plan.level,
                node: node.to_owned(),
            });
        }
        sent
    }

    /// Remembers where the first request went that may have been applied.
    fn sent(&mut self, index: usize, stream: &Stream) {
        self.progress.sent.store(true, Ordering::Relaxed);
        let unknown = self.progress.unknown.load(Ordering::Relaxed);
        if unknown && self.first.is_none() {
            self.first = Some(First {
                endpoint: index,
                node: stream.hello.node.clone(),
                region: stream.hello.region.clone(),
            });
        }
    }

    /// The error of a broken connection.
    fn broken(&self, why: &str) -> Error {
        let reason = "CONNECTION_BROKEN";
        match self.plan.safety {
            Safety::Read => Error::new(ErrorKind::Unavailable, Applied::No, reason, why),
            _ => Error::new(
                ErrorKind::Indeterminate,
                Applied::Maybe,
                reason,
                format!("{why}: read, then decide"),
            ),
        }
    }
}
