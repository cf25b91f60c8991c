//! How simulated clients ask the core for what a workload intends, and how the answers are recorded.
//!
//! A process has one session and at most one operation in flight. It asks now this node, now that one.

use bytes::Bytes;
use hansa_consistency::clock::Hlc;
use hansa_consistency::key::{KeyspaceId, NodeId, RegionId, Row};
use hansa_consistency::record::RequestId;
use hansa_consistency::register;
use hansa_consistency::request::{
    Answer, Applied, Command, Found, Level, Path, Reason, Refusal, Reply, Request, Scan,
};
use hansa_consistency::session::Context;
use serde_json::json;

use super::several::Several;
use crate::history::{self, CONDITION_FAILED, Datum, Expect, Op, Record, Status};
use crate::random::Random;
use crate::workload::{self, ELEMENTS, Intent, Tie, split_row};

/// The register keyspace of the simulated cluster.
pub const REGISTERS: KeyspaceId = KeyspaceId(0);
/// The counter keyspace.
pub const COUNTERS: KeyspaceId = KeyspaceId(1);
/// The set keyspace.
pub const SETS: KeyspaceId = KeyspaceId(2);
/// Shards of each keyspace.
pub const SHARDS: u16 = 4;

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
    /// What is asked of the core.
    pub asked: Asked,
}

/// What an operation asks of the core.
#[derive(Clone, Debug)]
pub enum Asked {
    /// One request.
    One(Box<Request>),
    /// Several.
    Several(Box<Several>),
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
    let (partition, sort) = split_row(key);
    let element = element.map(str::as_bytes);
    Row::new(
        keyspace,
        SHARDS,
        partition.as_bytes(),
        sort.as_bytes(),
        element,
    )
    .ok()
}

/// The keyspace and bare key of a record's `KEYSPACE/KEY`.
#[must_use]
pub fn split_key(key: &str) -> (KeyspaceId, &str) {
    let (space, name) = workload::split_key(key);
    let keyspace = match space {
        workload::COUNTERS => COUNTERS,
        workload::SETS => SETS,
        _ => REGISTERS,
    };
    (keyspace, name)
}

/// What the process does next: what it intended, or what it has to repeat.
pub fn next(
    random: &mut Random,
    process: &mut Process,
    intend: impl FnOnce(&mut Random) -> Intent,
    now_ns: u64,
) -> Option<(Record, Asked)> {
    if let Some(retry) = process.retry.take()
        && random.chance(700)
    {
        let (record, request) = retry_of(process, &retry, now_ns)?;
        return Some((record, Asked::One(Box::new(request))));
    }
    let intent = intend(random);
    begin(process, &intent, now_ns)
}

/// A request id as histories name it.
#[must_use]
pub fn id_text(id: RequestId) -> String {
    format!("{}-{}-{}", id.session, id.seq, id.issued.0)
}

fn begin(process: &mut Process, intent: &Intent, now_ns: u64) -> Option<(Record, Asked)> {
    let session = format!("s{}", process.session);
    let mut record = intent.record(process.id, &session, now_ns);
    let request_id = intent.identified.then(|| process.request_id());
    record.request_id = request_id.map(id_text);
    let context = match intent.tie {
        Tie::Carries => process.context.clone(),
        Tie::Keeps | Tie::None => Context::new(),
    };
    if intent.op.is_several() {
        let several = Several::of(&record, asked(intent.level), context)?;
        return Some((record, Asked::Several(Box::new(several))));
    }
    let request = Request {
        command: command(intent.op, &intent.key, intent.value.as_ref())?,
        level: asked(intent.level),
        context,
        request_id,
        retry_of: None,
        ack_regions: intent.ack_regions,
        deadline: std::time::Duration::ZERO,
    };
    Some((record, Asked::One(Box::new(request))))
}

/// A recorded operation as the core is asked; `None` when a part is out of its bounds.
fn command(op: Op, key: &str, value: Option<&Datum>) -> Option<Command> {
    let (keyspace, name) = split_key(key);
    let row = |element: Option<&str>| row(keyspace, name, element);
    Some(match (op, value) {
        (Op::Get | Op::Read, _) => Command::Get(row(None)?),
        (Op::Put, Some(Datum::Text(value))) => Command::Put(row(None)?, value.clone().into()),
        (Op::Delete, _) => Command::Delete(row(None)?),
        (Op::Cas, Some(Datum::Swap(swap))) => {
            let expect = wanted(&swap.expect)?;
            Command::CompareAndSet(row(None)?, expect, Some(swap.new.clone().into()))
        }
        (Op::Incr, Some(Datum::Integer(amount))) => Command::Increment(row(None)?, *amount),
        (Op::Add, Some(Datum::Text(element))) => Command::AddElement(row(Some(element))?),
        (Op::Remove, Some(Datum::Text(element))) => Command::RemoveElement(row(Some(element))?),
        (Op::Contains, Some(Datum::Membership(asked))) => Command::Get(row(Some(&asked.element))?),
        (Op::Members, _) => elements(row(None)?),
        _ => return None,
    })
}

fn asked(level: history::Level) -> Level {
    match level {
        history::Level::Eventual => Level::Eventual,
        history::Level::Session => Level::Session,
        history::Level::Strong => Level::Strong,
    }
}

/// The same operation again under the same request id, at whatever node the process asks now.
fn retry_of(process: &mut Process, before: &Record, now_ns: u64) -> Option<(Record, Request)> {
    let key = before.key.as_deref()?;
    let command = command(before.op, key, before.value.as_ref())?;
    let mut numbers = before.request_id.as_deref()?.split('-');
    let mut number = || numbers.next()?.parse::<u64>().ok();
    let request_id = RequestId {
        session: number()?,
        seq: number()? as u32,
        issued: Hlc(number()?),
    };
    let level = asked(before.level?);
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
pub fn complete(process: &mut Process, open: &mut Open, result: &Result<Reply, Refusal>) {
    let record = &mut open.record;
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
            match &mut open.asked {
                Asked::One(_) => fill(record, &reply.answer),
                Asked::Several(several) => several.fill(record),
            }
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

/// Writes into a record who was asked and the receipt, as real runs record it.
pub fn served(record: &mut Record, node: NodeId, region: Option<RegionId>, reply: Option<&Reply>) {
    let node_name = |node: &NodeId| format!("n{}", node.0);
    let region_name = |region: &RegionId| format!("r{}", region.0);
    record.node = Some(node_name(&node));
    record.region = region.as_ref().map(region_name);
    let Some(reply) = reply else { return };
    let names = |regions: &[RegionId]| regions.iter().map(region_name).collect::<Vec<_>>();
    let receipt = &reply.receipt;
    let nodes: Vec<String> = receipt.replicas.iter().map(node_name).collect();
    let level = match reply.level {
        Level::Eventual => "eventual",
        Level::Session => "session",
        Level::Strong => "strong",
    };
    record.receipt = Some(json!({
        "level": level,
        // Rounded up, as a node does it: the bound must hold.
        "staleness_ms": receipt.staleness.map(|age| age.as_nanos().div_ceil(1_000_000) as u64),
        "served_by": record.node,
        "served_in": record.region,
        "replicas": nodes,
        "regions": names(&receipt.regions),
        "durable_regions": names(&receipt.durable_regions),
        "wan_round_trips": receipt.wan_round_trips,
        "path": receipt.path.map(Path::name),
        "absorbed": receipt.absorbed,
        "merged": receipt.merged,
        "forwarded_to": receipt.forwarded_to.as_ref().map(node_name),
    }));
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

/// A version as histories have it; `None` for none.
pub(super) fn etag(bytes: &Bytes) -> Option<String> {
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
