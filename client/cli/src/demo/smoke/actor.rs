//! A client of the smoke run: does one operation at a time, records it, enters writes into the
//! ledger, and notices when its session goes back.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use hansa_client::{
    Applied, Bytes, Call, Client, Consistency, Error, Etag, Expect, Receipt, Session,
};
use hansa_client::{Contained, Got, Written};
use serde_json::{Value as Json, json};

use super::super::board::Board;
use super::super::board::LEVELS;
use super::super::history::{History, Line, Op, Status};
use super::super::shape::REGIONS;
use super::ledger::{Fate, Ledger, STRONG_UNIT, split};
use crate::output;

/// Keyspaces by type.
pub(crate) const REGISTERS: &str = "profiles";
/// See [`REGISTERS`].
pub(crate) const COUNTERS: &str = "counters";
/// See [`REGISTERS`].
pub(crate) const SETS: &str = "carts";

/// What all actors of a run share.
#[derive(Debug)]
pub(crate) struct Desk {
    /// Where operations are recorded.
    pub(crate) history: History,
    /// What was acknowledged.
    pub(crate) ledger: Ledger,
    /// Latencies.
    pub(crate) board: Board,
    /// One client per region that stays there.
    pub(crate) clients: Vec<Client>,
    /// Promises that were broken, in words.
    broken: Mutex<Vec<String>>,
    numbers: AtomicU64,
}

impl Desk {
    /// The desk of a run.
    pub(crate) fn new(history: History, clients: Vec<Client>) -> Desk {
        Desk {
            history,
            ledger: Ledger::default(),
            board: Board::default(),
            clients,
            broken: Mutex::default(),
            numbers: AtomicU64::new(1),
        }
    }

    /// A number that this run has not used.
    pub(crate) fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// Notes a broken promise.
    pub(crate) fn broke(&self, what: String) {
        self.broken
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(what);
    }

    /// The broken promises so far.
    pub(crate) fn broken(&self) -> Vec<String> {
        self.broken
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// What an actor's session has seen.
#[derive(Default, Debug)]
struct Seen {
    registers: BTreeMap<String, String>,
    totals: BTreeMap<String, (i64, i64)>,
}

impl Seen {
    /// Takes a version in; says so if it is older than what was seen.
    fn version(&mut self, key: &str, etag: &str) -> Option<String> {
        let newest = self.registers.entry(key.to_owned()).or_default();
        if etag < newest.as_str() {
            return Some(format!(
                "profiles {key}: a session saw {newest} and then {etag}"
            ));
        }
        etag.clone_into(newest);
        None
    }

    /// Takes a total in; says so if it lacks what was seen.
    fn total(&mut self, key: &str, total: i64) -> Option<String> {
        let (weak, strong) = split(total);
        let seen = self.totals.entry(key.to_owned()).or_default();
        let back = seen.0 & !weak != 0 || strong < seen.1;
        let fault = back.then(|| {
            let (before, units) = (seen.0, seen.1 / STRONG_UNIT);
            format!("counters {key}: a session saw {before:#x} and {units} strong, then {total:#x}")
        });
        *seen = (seen.0 | weak, seen.1.max(strong));
        fault
    }

    /// Takes an own, acknowledged increment in.
    fn incremented(&mut self, key: &str, by: i64) {
        let seen = self.totals.entry(key.to_owned()).or_default();
        match split(by) {
            (weak, 0) => seen.0 |= weak,
            // The session has seen at least its own.
            (_, strong) => seen.1 = seen.1.max(strong),
        }
    }
}

/// What a reply says, for the history.
struct Answer {
    value: Option<Json>,
    etag: Option<String>,
    receipt: Receipt,
}

/// One logical client.
#[derive(Debug)]
pub(crate) struct Actor {
    desk: Arc<Desk>,
    process: u64,
    region: usize,
    client: Client,
    /// Carries operations at level session and strong.
    session: Session,
    session_name: String,
    seen: Seen,
    last_ns: u64,
    deadline: Duration,
    /// Whether its operations count among the figures of latency.
    counted: bool,
}

/// A call of the session, or of the client at level eventual.
macro_rules! call {
    ($actor:expr, $level:expr, $operation:ident ( $($argument:expr),* )) => {
        match $level {
            Consistency::Eventual => $actor.client.$operation($($argument),*),
            _ => $actor.session.$operation($($argument),*),
        }
    };
}

impl Actor {
    /// A new client with a new session in a region. Its calls end after `deadline`.
    pub(crate) fn new(desk: &Arc<Desk>, region: usize, deadline: Duration) -> Actor {
        let client = desk.clients[region].clone();
        let process = desk.number();
        Actor {
            desk: desk.clone(),
            process,
            region,
            session: client.session(),
            session_name: format!("s{process}"),
            client,
            seen: Seen::default(),
            last_ns: 0,
            deadline,
            counted: true,
        }
    }

    /// The same client, one of so many that its latencies would drown those of the others.
    pub(crate) fn uncounted(self) -> Actor {
        Actor {
            counted: false,
            ..self
        }
    }

    /// Where it is.
    pub(crate) fn region(&self) -> usize {
        self.region
    }

    /// Goes on in another region, with the session as exported here and resumed there.
    pub(crate) async fn hop(&mut self, region: usize) -> Result<(), Error> {
        let exported = self.session.export().await;
        self.client = self.desk.clients[region].clone();
        self.session = self.client.resume(&exported)?;
        self.region = region;
        Ok(())
    }

    /// Writes a value that nobody wrote before; returns it.
    pub(crate) async fn put(
        &mut self,
        level: Consistency,
        key: &str,
    ) -> Result<(String, Receipt), Error> {
        let value = format!("{}-{}", REGIONS[self.region], self.desk.number());
        let call = call!(self, level, put(REGISTERS, key, value.clone()));
        let argument = Some(value.clone().into());
        let outcome = self
            .act(Op::Put, (REGISTERS, key), level, argument, call, written)
            .await;
        self.wrote(level, key, &outcome);
        Ok((value, outcome?.receipt))
    }

    /// Deletes a register.
    pub(crate) async fn delete(&mut self, level: Consistency, key: &str) -> Result<Receipt, Error> {
        let call = call!(self, level, delete(REGISTERS, key));
        let outcome = self
            .act(Op::Delete, (REGISTERS, key), level, None, call, written)
            .await;
        self.wrote(level, key, &outcome);
        Ok(outcome?.receipt)
    }

    /// Swaps a register if it has this version, or is absent with `None`, for a value that nobody
    /// wrote before; returns that.
    pub(crate) async fn cas(&mut self, key: &str, expected: Option<Etag>) -> Result<String, Error> {
        let value = format!("{}-{}", REGIONS[self.region], self.desk.number());
        let words = match &expected {
            None => json!("absent"),
            Some(etag) => json!({"etag": etag.to_string()}),
        };
        let expect = expected.map_or(Expect::Absent, Expect::Etag);
        let level = Consistency::Strong;
        let call = self
            .session
            .cas(REGISTERS, key, expect, Some(Bytes::from(value.clone())));
        let argument = Some(json!({"expect": words, "new": value}));
        let outcome = self
            .act(Op::Cas, (REGISTERS, key), level, argument, call, written)
            .await;
        self.wrote(level, key, &outcome);
        outcome.map(|_| value)
    }

    fn wrote(&mut self, level: Consistency, key: &str, outcome: &Result<Written, Error>) {
        let ledger = &self.desk.ledger;
        match outcome {
            Ok(written) => {
                let etag = written.etag.to_string();
                ledger.wrote(key, Some(&etag), Fate::Acked);
                if level != Consistency::Eventual {
                    self.check(|seen| seen.version(key, &etag));
                }
            }
            Err(error) if error.applied() == Applied::Maybe => ledger.wrote(key, None, Fate::Maybe),
            Err(_) => {}
        }
    }

    /// Reads a register.
    pub(crate) async fn get(&mut self, level: Consistency, key: &str) -> Result<Got, Error> {
        let call = call!(self, level, get(REGISTERS, key));
        let got = self
            .act(Op::Get, (REGISTERS, key), level, None, call, got)
            .await?;
        if level != Consistency::Eventual {
            let etag = got.found.etag.to_string();
            self.check(|seen| seen.version(key, &etag));
        }
        Ok(got)
    }

    /// Adds to a counter an amount that names this increment; the counter's key.
    pub(crate) async fn increment(
        &mut self,
        level: Consistency,
    ) -> Result<(String, Receipt), Error> {
        let run = self.desk.history.run();
        let (key, by) = match level {
            Consistency::Strong => (self.desk.ledger.counter(run), STRONG_UNIT),
            _ => self.desk.ledger.next_weak(run),
        };
        let call = call!(self, level, increment(COUNTERS, key.as_str(), by));
        let argument = Some(by.into());
        let address = (COUNTERS, key.as_str());
        let outcome = self
            .act(Op::Incr, address, level, argument, call, counted)
            .await;
        match &outcome {
            Ok(_) => {
                self.desk.ledger.incremented(&key, by, Fate::Acked);
                if level != Consistency::Eventual {
                    self.seen.incremented(&key, by);
                }
            }
            Err(error) if error.applied() == Applied::Maybe => {
                self.desk.ledger.incremented(&key, by, Fate::Maybe);
            }
            Err(_) => {}
        }
        Ok((key, outcome?.receipt))
    }

    /// Reads a counter.
    pub(crate) async fn read(&mut self, level: Consistency, key: &str) -> Result<i64, Error> {
        let call = call!(self, level, get(COUNTERS, key));
        let outcome = self
            .act(Op::Read, (COUNTERS, key), level, None, call, total)
            .await?;
        let total = outcome.total().unwrap_or(0);
        if level != Consistency::Eventual {
            self.check(|seen| seen.total(key, total));
        }
        Ok(total)
    }

    /// Adds an element that nobody added before; returns it.
    pub(crate) async fn add(&mut self, level: Consistency, key: &str) -> Result<String, Error> {
        let element = format!("e{}", self.desk.number());
        let call = call!(self, level, add(SETS, key, element.clone()));
        let argument = Some(element.clone().into());
        let outcome = self
            .act(Op::Add, (SETS, key), level, argument, call, counted)
            .await;
        match &outcome {
            Ok(_) => self.desk.ledger.added(key, &element, Fate::Acked),
            Err(error) if error.applied() == Applied::Maybe => {
                self.desk.ledger.added(key, &element, Fate::Maybe);
            }
            Err(_) => {}
        }
        outcome.map(|_| element)
    }

    /// Removes an element.
    pub(crate) async fn remove(
        &mut self,
        level: Consistency,
        key: &str,
        element: &str,
    ) -> Result<(), Error> {
        self.desk.ledger.removing(key, element);
        let call = call!(self, level, remove(SETS, key, element.to_owned()));
        let argument = Some(element.into());
        let outcome = self
            .act(Op::Remove, (SETS, key), level, argument, call, counted)
            .await;
        outcome.map(drop)
    }

    /// Whether an element is in a set.
    pub(crate) async fn contains(
        &mut self,
        level: Consistency,
        key: &str,
        element: &str,
    ) -> Result<bool, Error> {
        let call = call!(self, level, contains(SETS, key, element.to_owned()));
        let asked = element.to_owned();
        let answer = move |it: &Contained| Answer {
            value: Some(json!({"element": asked, "present": it.member})),
            etag: None,
            receipt: it.receipt.clone(),
        };
        let argument = Some(json!({"element": element}));
        let outcome = self
            .act(Op::Contains, (SETS, key), level, argument, call, answer)
            .await;
        Ok(outcome?.member)
    }

    fn check(&mut self, look: impl FnOnce(&mut Seen) -> Option<String>) {
        if let Some(fault) = look(&mut self.seen) {
            self.desk
                .broke(format!("{} went back: {fault}", self.session_name));
        }
    }

    /// Makes one call and records it.
    async fn act<R: 'static>(
        &mut self,
        op: Op,
        (keyspace, key): (&str, &str),
        level: Consistency,
        argument: Option<Json>,
        call: Call<R>,
        answer: impl Fn(&R) -> Answer,
    ) -> Result<R, Error> {
        let in_session = level != Consistency::Eventual;
        let token_in = self.token(in_session).await;
        // A process invokes strictly after its last operation completed.
        let invoke_ns = self.desk.history.now_ns().max(self.last_ns + 1);
        let outcome = call.level(level).deadline(self.deadline).await;
        let complete_ns = self.desk.history.now_ns().max(invoke_ns);
        self.last_ns = complete_ns;
        let mut line = Line {
            process: self.process,
            session: in_session.then(|| self.session_name.clone()),
            region: Some(REGIONS[self.region]),
            key: Some(format!("{keyspace}/{key}")),
            value: argument,
            level: Some(level.name()),
            invoke_ns,
            complete_ns,
            token_in,
            token_out: self.token(in_session).await,
            ..Line::event(op, invoke_ns)
        };
        let counted = match &outcome {
            Ok(reply) => {
                let answer = answer(reply);
                line.value = line.value.filter(|_| op != Op::Contains).or(answer.value);
                line.etag = answer.etag;
                line.node = Some(answer.receipt.served_by.clone());
                line.receipt = Some(output::receipt(&answer.receipt));
                Ok(answer.receipt)
            }
            Err(error) => {
                line.status = match error.applied() {
                    Applied::No => Status::Fail,
                    Applied::Maybe => Status::Info,
                };
                line.error = Some(error.reason().to_owned());
                line.etag = error.etag().map(ToString::to_string);
                Err(error.clone())
            }
        };
        let level = LEVELS.iter().position(|it| *it == level);
        if let Some(level) = level.filter(|_| self.counted) {
            self.desk.board.count(self.region, level, &counted);
        }
        self.desk.history.write(&line);
        outcome
    }

    async fn token(&self, in_session: bool) -> Option<String> {
        if !in_session {
            return None;
        }
        let token = self.session.token().await;
        (!token.is_empty()).then(|| STANDARD_NO_PAD.encode(token))
    }
}

fn written(it: &Written) -> Answer {
    Answer {
        value: None,
        etag: Some(it.etag.to_string()),
        receipt: it.receipt.clone(),
    }
}

/// Counters and sets have no versions that the history wants.
fn counted(it: &Written) -> Answer {
    Answer {
        etag: None,
        ..written(it)
    }
}

fn got(it: &Got) -> Answer {
    Answer {
        value: it
            .bytes()
            .map(|bytes| String::from_utf8_lossy(bytes).into()),
        etag: (!it.found.etag.is_empty()).then(|| it.found.etag.to_string()),
        receipt: it.receipt.clone(),
    }
}

fn total(it: &Got) -> Answer {
    Answer {
        value: Some(it.total().unwrap_or(0).into()),
        etag: None,
        receipt: it.receipt.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_that_goes_back_is_noticed() {
        let mut seen = Seen::default();
        for (etag, back) in [("03", false), ("05", false), ("05", false), ("04", true)] {
            assert_eq!(seen.version("k", etag).is_some(), back, "{etag}");
        }
        assert!(seen.version("k", "").is_some(), "nothing there any more");
        assert!(seen.version("other", "").is_none());
    }

    #[test]
    fn a_total_without_what_was_seen_is_noticed() {
        let mut seen = Seen::default();
        seen.incremented("k", 4);
        assert!(seen.total("k", 1 + 4).is_none());
        assert!(seen.total("k", 4).is_some(), "the increment of 1 is gone");
        assert!(seen.total("k", 5 + 2 * STRONG_UNIT).is_none());
        assert!(seen.total("k", 5 + STRONG_UNIT).is_some());
    }
}
