//! What the simulated clients do, and how it is recorded.
//!
//! A process has one session and at most one operation in flight. It asks now this node, now that one,
//! at levels drawn per operation; keys rotate so that histories stay checkable.

use std::collections::BTreeMap;

use bytes::Bytes;
use hansa_consistency::clock::Hlc;
use hansa_consistency::key::{KeyspaceId, NodeId, Row};
use hansa_consistency::record::RequestId;
use hansa_consistency::register;
use hansa_consistency::request::{
    Answer, Applied, Command, Found, Level, Reason, Refusal, Reply, Request, Scan,
};
use hansa_consistency::session::Context;

use super::random::Random;
use crate::history::{self, CONDITION_FAILED, Datum, Expect, Op, Record, Status, Swap};

/// The register keyspace of the simulated cluster.
pub const REGISTERS: KeyspaceId = KeyspaceId(0);
/// The counter keyspace.
pub const COUNTERS: KeyspaceId = KeyspaceId(1);
/// The set keyspace.
pub const SETS: KeyspaceId = KeyspaceId(2);
/// Shards of each keyspace.
pub const SHARDS: u16 = 4;

/// Operations on one generation of keys before the next one begins.
const ROTATE_AFTER: u64 = 90;
/// Eventual increments a counter key can tell apart: every other bit below 2^40.
const EVENTUAL_BITS: u64 = 19;
/// What one strong increment adds.
const STRONG_UNIT: i64 = 1 << 40;
/// Elements a set can have.
const ELEMENTS: u64 = 4;
/// Keys of each type in one generation.
const KEYS: u64 = 2;

/// One logical client.
#[derive(Debug)]
pub struct Process {
    /// Its number.
    pub id: u64,
    /// The node it asks.
    pub node: NodeId,
    /// What its session has seen.
    pub context: Context,
    /// The newest server clock value it got in a reply.
    pub issued: Hlc,
    /// The operation in flight: its number, the place of its record, what was asked.
    pub open: Option<Open>,
    /// An attempt whose outcome is unknown and that may be retried under its request id.
    pub retry: Option<Record>,
    /// The node that was asked first for the newest request with an id.
    first_asked: NodeId,
    next_seq: u32,
    session: u64,
}

/// An operation in flight.
#[derive(Clone, Debug)]
pub struct Open {
    /// Its number in the run.
    pub number: u64,
    /// The record, still without outcome.
    pub record: Record,
    /// The request.
    pub request: Request,
}

/// Makes operations; counts what was made so that values are unique.
#[derive(Debug, Default)]
pub struct Generator {
    made: u64,
    /// Eventual increments given out, by key.
    bits: BTreeMap<String, u64>,
    /// The number of the newest value seen or written, and its version, by key.
    newest: BTreeMap<String, (u64, Option<String>)>,
}

/// Which mix of levels a run has, permille.
#[derive(Clone, Copy, Debug)]
pub struct Mix {
    /// Eventual operations.
    pub eventual: u64,
    /// Session operations; the rest is strong.
    pub session: u64,
}

impl Process {
    /// A client that has seen nothing.
    #[must_use]
    pub fn new(id: u64, node: NodeId) -> Process {
        Process {
            id,
            node,
            context: Context::new(),
            issued: Hlc::ZERO,
            open: None,
            retry: None,
            first_asked: node,
            next_seq: 0,
            session: 1000 + id,
        }
    }

    fn request_id(&mut self) -> RequestId {
        self.next_seq += 1;
        self.first_asked = self.node;
        RequestId {
            session: self.session,
            seq: self.next_seq,
            issued: self.issued,
        }
    }
}

/// The row of a key's name; `None` when a part is out of its bounds.
#[must_use]
pub fn row(keyspace: KeyspaceId, key: &str, element: Option<&str>) -> Option<Row> {
    Row::new(
        keyspace,
        SHARDS,
        key.as_bytes(),
        b"",
        element.map(str::as_bytes),
    )
    .ok()
}

/// The keyspace and bare key of a record's `KEYSPACE/KEY`.
#[must_use]
pub fn split_key(key: &str) -> (KeyspaceId, &str) {
    let (space, name) = key.split_once('/').unwrap_or(("", key));
    let keyspace = match space {
        "counters" => COUNTERS,
        "sets" => SETS,
        _ => REGISTERS,
    };
    (keyspace, name)
}

impl Generator {
    /// The next operation of a process, at a moment of the run.
    pub fn next(
        &mut self,
        random: &mut Random,
        process: &mut Process,
        mix: Mix,
        now_ns: u64,
    ) -> Option<(Record, Request)> {
        if let Some(retry) = process.retry.take()
            && random.chance(700)
        {
            return retry_of(process, &retry, now_ns);
        }
        self.made += 1;
        let level = match random.below(1000) {
            roll if roll < mix.eventual => Level::Eventual,
            roll if roll < mix.eventual + mix.session => Level::Session,
            _ => Level::Strong,
        };
        let generation = self.made / ROTATE_AFTER;
        let key = format!("k{}", generation * KEYS + random.below(KEYS));
        match random.below(10) {
            0..6 => self.on_register(random, process, level, &format!("registers/{key}"), now_ns),
            6..9 => self.on_counter(random, process, level, &format!("counters/{key}"), now_ns),
            _ => self.on_set(random, process, level, &format!("sets/{key}"), now_ns),
        }
    }

    fn on_register(
        &mut self,
        random: &mut Random,
        process: &mut Process,
        level: Level,
        key: &str,
        now_ns: u64,
    ) -> Option<(Record, Request)> {
        let (keyspace, name) = split_key(key);
        let row = row(keyspace, name, None)?;
        let fresh = format!("v{}", self.made);
        let roll = random.below(100);
        let (op, value, command) = match roll {
            0..45 => (Op::Get, None, Command::Get(row)),
            45..70 => {
                let put = Command::Put(row, Bytes::from(fresh.clone()));
                (Op::Put, Some(Datum::Text(fresh)), put)
            }
            70..74 => (Op::Delete, None, Command::Delete(row)),
            _ if level != Level::Strong => (Op::Get, None, Command::Get(row)),
            _ => self.cas(random, row, fresh, key)?,
        };
        let made = Made { op, value, command };
        Some(begin(process, random, key, level, made, now_ns))
    }

    /// A compare-and-set on a value written before, or on absence: about half of them succeed.
    fn cas(
        &mut self,
        random: &mut Random,
        row: Row,
        new: String,
        key: &str,
    ) -> Option<(Op, Option<Datum>, Command)> {
        let newest = self.newest.get(key).filter(|_| random.chance(850));
        let expect = match newest {
            Some((_, Some(etag))) if random.chance(300) => Expect::Etag(etag.clone()),
            Some((made, _)) => Expect::Value(format!("v{made}")),
            None => Expect::Absent,
        };
        let wanted = wanted(&expect)?;
        let command = Command::CompareAndSet(row, wanted, Some(Bytes::from(new.clone())));
        Some((Op::Cas, Some(Datum::Swap(Swap { expect, new })), command))
    }

    /// Remembers the newest value seen or written of a key, for later compare-and-sets.
    pub fn seen(&mut self, record: &Record) {
        let value = match record.op {
            Op::Put | Op::Cas if record.status == Status::Ok => record.stores(),
            Op::Get => record.text(),
            _ => None,
        };
        let made = value.and_then(|v| v.strip_prefix('v')?.parse().ok());
        if let (Some(key), Some(made)) = (&record.key, made) {
            self.newest.insert(key.clone(), (made, record.etag.clone()));
        }
    }

    fn on_counter(
        &mut self,
        random: &mut Random,
        process: &mut Process,
        level: Level,
        key: &str,
        now_ns: u64,
    ) -> Option<(Record, Request)> {
        let (keyspace, name) = split_key(key);
        let row = row(keyspace, name, None)?;
        let read = (Op::Read, None, Command::Get(row.clone()));
        let given = self.bits.entry(key.to_owned()).or_default();
        let (op, value, command) = if random.chance(450) {
            read
        } else if level == Level::Strong {
            let add = Command::Increment(row, STRONG_UNIT);
            (Op::Incr, Some(Datum::Integer(STRONG_UNIT)), add)
        } else if *given < EVENTUAL_BITS {
            let amount = 1i64 << (2 * *given);
            *given += 1;
            let add = Command::Increment(row, amount);
            (Op::Incr, Some(Datum::Integer(amount)), add)
        } else {
            read
        };
        let made = Made { op, value, command };
        Some(begin(process, random, key, level, made, now_ns))
    }

    fn on_set(
        &mut self,
        random: &mut Random,
        process: &mut Process,
        level: Level,
        key: &str,
        now_ns: u64,
    ) -> Option<(Record, Request)> {
        let (keyspace, name) = split_key(key);
        if level != Level::Strong && random.chance(250) {
            let made = Made {
                op: Op::Members,
                value: None,
                command: elements(row(keyspace, name, None)?),
            };
            return Some(begin(process, random, key, level, made, now_ns));
        }
        let element = format!("e{}", random.below(ELEMENTS));
        let row = row(keyspace, name, Some(&element))?;
        let text = Some(Datum::Text(element.clone()));
        let asked = history::Membership {
            element,
            present: None,
        };
        let (op, value, command) = match random.below(100) {
            0..45 => (Op::Add, text, Command::AddElement(row)),
            45..65 => (Op::Remove, text, Command::RemoveElement(row)),
            _ => (
                Op::Contains,
                Some(Datum::Membership(asked)),
                Command::Get(row),
            ),
        };
        let made = Made { op, value, command };
        Some(begin(process, random, key, level, made, now_ns))
    }
}

/// A request id as histories name it.
#[must_use]
pub fn id_text(id: RequestId) -> String {
    format!("{}-{}-{}", id.session, id.seq, id.issued.0)
}

fn recorded(level: Level) -> history::Level {
    match level {
        Level::Eventual => history::Level::Eventual,
        Level::Session => history::Level::Session,
        Level::Strong => history::Level::Strong,
    }
}

/// An operation, as recorded and as asked.
struct Made {
    op: Op,
    value: Option<Datum>,
    command: Command,
}

fn begin(
    process: &mut Process,
    random: &mut Random,
    key: &str,
    level: Level,
    made: Made,
    now_ns: u64,
) -> (Record, Request) {
    let Made { op, value, command } = made;
    let mut record = Record::invoked(process.id, op, key, recorded(level), now_ns);
    record.value = value;
    // Some strong operations belong to no session; some eventual writes leave their token with one.
    let kept = match level {
        Level::Session => true,
        Level::Strong => !random.chance(150),
        Level::Eventual => op.is_write() && random.chance(300),
    };
    let in_session = kept && level != Level::Eventual;
    if kept {
        record.session = Some(format!("s{}", process.session));
    }
    let identified = op.is_write()
        && random.chance(match level {
            Level::Strong => 800,
            Level::Eventual | Level::Session => 400,
        });
    let waits_for = match op.is_write() && random.chance(60) {
        true => random.between(1, 2) as u8,
        false => 0,
    };
    let request_id = identified.then(|| process.request_id());
    record.request_id = request_id.map(id_text);
    let request = Request {
        command,
        level,
        context: match in_session {
            true => process.context.clone(),
            false => Context::new(),
        },
        request_id,
        retry_of: None,
        ack_regions: waits_for,
        deadline: std::time::Duration::ZERO,
    };
    (record, request)
}

/// The same operation again under the same request id, at whatever node the process asks now.
fn retry_of(process: &mut Process, before: &Record, now_ns: u64) -> Option<(Record, Request)> {
    let key = before.key.as_deref()?;
    let (keyspace, name) = split_key(key);
    let element = match (before.op, &before.value) {
        (Op::Add | Op::Remove, Some(Datum::Text(element))) => Some(element.as_str()),
        _ => None,
    };
    let row = row(keyspace, name, element)?;
    let command = match (before.op, &before.value) {
        (Op::Put, Some(Datum::Text(value))) => Command::Put(row, Bytes::from(value.clone())),
        (Op::Delete, _) => Command::Delete(row),
        (Op::Incr, Some(Datum::Integer(amount))) => Command::Increment(row, *amount),
        (Op::Add, _) => Command::AddElement(row),
        (Op::Remove, _) => Command::RemoveElement(row),
        (Op::Cas, Some(Datum::Swap(swap))) => {
            let expect = wanted(&swap.expect)?;
            Command::CompareAndSet(row, expect, Some(Bytes::from(swap.new.clone())))
        }
        _ => return None,
    };
    let mut numbers = before.request_id.as_deref()?.split('-');
    let mut number = || numbers.next()?.parse::<u64>().ok();
    let request_id = RequestId {
        session: number()?,
        seq: number()? as u32,
        issued: Hlc(number()?),
    };
    let level = match before.level? {
        history::Level::Eventual => Level::Eventual,
        history::Level::Session => Level::Session,
        history::Level::Strong => Level::Strong,
    };
    let mut record = Record::invoked(process.id, before.op, key, before.level?, now_ns);
    record.value = before.value.clone();
    record.session = before.session.clone();
    record.request_id = before.request_id.clone();
    let request = Request {
        command,
        level,
        context: match level {
            Level::Session | Level::Strong if before.session.is_some() => process.context.clone(),
            _ => Context::new(),
        },
        request_id: Some(request_id),
        retry_of: Some((process.first_asked, level)),
        ack_regions: 0,
        deadline: std::time::Duration::ZERO,
    };
    Some((record, request))
}

/// Fills in the outcome of an operation; the process learns what the reply carries.
pub fn complete(process: &mut Process, record: &mut Record, result: &Result<Reply, Refusal>) {
    match result {
        Ok(reply) => {
            record.status = Status::Ok;
            match (&record.session, record.level) {
                (Some(_), Some(history::Level::Eventual)) => {
                    // It sent no token, so what comes back is merged.
                    process.context.join(&reply.context);
                    record.token_out = Some("kept".into());
                }
                (Some(_), _) => process.context = reply.context.clone(),
                (None, _) => {}
            }
            process.issued = process.issued.max(reply.hlc);
            fill(record, &reply.answer);
        }
        Err(refusal) => {
            record.status = match refusal.applied {
                Applied::No => Status::Fail,
                Applied::Maybe => Status::Info,
            };
            record.error = Some(match refusal.reason {
                Reason::ConditionFailed => CONDITION_FAILED.to_owned(),
                reason => reason.name().to_owned(),
            });
            if refusal.reason == Reason::ConditionFailed {
                record.etag = etag(&refusal.etag);
                if record.session.is_some() {
                    process.context.join(&refusal.context);
                }
            }
        }
    }
}

/// A recorded condition as it is asked; `None` for a version that is not hexadecimal.
fn wanted(expect: &Expect) -> Option<register::Expect> {
    Some(match expect {
        Expect::Absent => register::Expect::Absent,
        Expect::Value(value) => register::Expect::Value(Bytes::from(value.clone())),
        Expect::Etag(etag) => {
            let digits = |at: usize| u8::from_str_radix(etag.get(at..at + 2)?, 16).ok();
            let bytes = (0..etag.len()).step_by(2).map(digits);
            register::Expect::Etag(bytes.collect::<Option<Vec<u8>>>()?.into())
        }
    })
}

fn etag(bytes: &Bytes) -> Option<String> {
    let hex = |byte: &u8| format!("{byte:02x}");
    (!bytes.is_empty()).then(|| bytes.iter().map(hex).collect())
}

/// Writes an answer into a record.
pub fn fill(record: &mut Record, answer: &Answer) {
    match answer {
        Answer::Read {
            found,
            etag: version,
        } => {
            record.etag = etag(version);
            match (record.op, found) {
                (Op::Contains, found) => {
                    if let Some(Datum::Membership(asked)) = &mut record.value {
                        asked.present = Some(*found == Found::Member);
                    }
                }
                (_, Found::Value(bytes)) => {
                    record.value = Some(Datum::Text(String::from_utf8_lossy(bytes).into_owned()));
                }
                (_, Found::Total(total)) => record.value = Some(Datum::Integer(*total)),
                (Op::Read, _) => record.value = Some(Datum::Integer(0)),
                (Op::Final, Found::Nothing | Found::Member)
                | (_, Found::Nothing | Found::Member) => {}
            }
        }
        Answer::Written { etag: version, .. } => record.etag = etag(version),
        Answer::Page { rows, .. } => {
            let element = |row: &Row| row.parts()?.element;
            let members = rows.iter().filter_map(|r| element(&r.row));
            let text = |bytes: Bytes| String::from_utf8_lossy(&bytes).into_owned();
            record.value = Some(Datum::Members(members.map(text).collect()));
        }
    }
}

/// Asks for all elements of a set.
fn elements(set: Row) -> Command {
    Command::Scan(Scan {
        keyspace: SETS,
        from: set.as_bytes().clone(),
        to: set.elements_end(),
        limit: 100,
    })
}

/// The request that shows a key's final state at one replica.
#[must_use]
pub fn final_request(key: &str) -> Option<Request> {
    let (keyspace, name) = split_key(key);
    let row = row(keyspace, name, None)?;
    let command = match keyspace == SETS {
        false => Command::Get(row),
        true => elements(row),
    };
    Some(plain(command, Level::Eventual))
}

/// Reads that together show a key at level strong: as recorded and as asked. A set is asked element by element.
#[must_use]
pub fn strong_reads(key: &str) -> Vec<(Op, Option<Datum>, Request)> {
    let (keyspace, name) = split_key(key);
    let get = |element: Option<&str>| {
        let row = row(keyspace, name, element)?;
        Some(plain(Command::Get(row), Level::Strong))
    };
    match keyspace {
        SETS => {
            let elements = (0..ELEMENTS).map(|number| format!("e{number}"));
            let reads = elements.filter_map(|element| {
                let request = get(Some(&element))?;
                let present = None;
                let asked = Datum::Membership(history::Membership { element, present });
                Some((Op::Contains, Some(asked), request))
            });
            reads.collect()
        }
        COUNTERS => get(None).map(|r| (Op::Read, None, r)).into_iter().collect(),
        _ => get(None).map(|r| (Op::Get, None, r)).into_iter().collect(),
    }
}

/// A request outside every session.
fn plain(command: Command, level: Level) -> Request {
    Request {
        command,
        level,
        context: Context::new(),
        request_id: None,
        retry_of: None,
        ack_regions: 0,
        deadline: std::time::Duration::ZERO,
    }
}
