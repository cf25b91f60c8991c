//! Wire messages and core types, both ways, as functions: both kinds are foreign here, so `From` is no choice.
//!
//! * this file: what requests and replies of clients have in common;
//! * `envelope`: messages between nodes; `forward`: client requests on their way between nodes.

mod envelope;
mod forward;

use std::time::Duration;

use bytes::Bytes;
use hansa_consistency::clock::{Hlc, Now};
use hansa_consistency::key::{KeyspaceId, NodeId, Row};
use hansa_consistency::limits::{DEADLINE_DEFAULT_MS, DEADLINE_MAX_MS, VALUE_BYTES_MAX};
use hansa_consistency::record::RequestId;
use hansa_consistency::request::{Command, Found, Level, Path, Receipt, Request};
use hansa_consistency::session::{Context, SessionToken, TokenError};
use hansa_consistency::topology::{Keyspace, ValueType};
use hansa_proto::v1;

pub use self::envelope::{envelope_from_wire, envelope_to_wire};
use super::status::Failure;
use crate::limits::ETAG_BYTES_MAX;
use crate::settings::Names;

/// A peer's message that can not be understood. Nothing was taken over.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a peer message without a valid {what}")]
pub struct WireError {
    /// What is wrong with it.
    pub what: &'static str,
}

/// What a request's options mean here.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Options {
    /// The level to serve at.
    pub(super) level: Level,
    context: Context,
    request_id: Option<RequestId>,
    retry_of: Option<(NodeId, Level)>,
    ack_regions: u8,
    /// On the node's monotonic clock.
    pub(super) deadline: Duration,
}

/// Where a request wants to go.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target<'a> {
    /// The keyspace's number.
    pub(super) id: KeyspaceId,
    /// Its policy.
    pub(super) policy: &'a Keyspace,
    /// The level of requests that name none.
    pub(super) default_level: Level,
}

/// Finds a keyspace by name.
pub(super) fn target<'a>(names: &'a Names, keyspace: &str) -> Result<Target<'a>, Failure> {
    if keyspace.is_empty() {
        return Err(Failure::invalid("keyspace", "name a keyspace"));
    }
    let (id, policy, default_level) = names
        .keyspace(keyspace)
        .ok_or_else(Failure::unknown_keyspace)?;
    Ok(Target {
        id,
        policy,
        default_level,
    })
}

impl Target<'_> {
    /// The row of a register or counter, or of a set's element. The element must be there exactly for sets.
    pub(super) fn row(
        &self,
        key: &[u8],
        sort: &[u8],
        element: Option<&[u8]>,
    ) -> Result<Row, Failure> {
        match (self.policy.value_type, element) {
            (ValueType::Set, None) => {
                let message = "the keyspace holds sets: name an element, or call Members";
                return Err(Failure::wrong_type("element", message));
            }
            (ValueType::Register | ValueType::Counter, Some(_)) => {
                let message = "the keyspace holds no sets: leave the element out";
                return Err(Failure::wrong_type("element", message));
            }
            _ => {}
        }
        self.any_row(key, sort, element)
    }

    /// A row's name, whatever the keyspace's type.
    pub(super) fn any_row(
        &self,
        key: &[u8],
        sort: &[u8],
        element: Option<&[u8]>,
    ) -> Result<Row, Failure> {
        use hansa_consistency::key::KeyError;
        Row::new(self.id, self.policy.shards, key, sort, element).map_err(|error| {
            let field = match error {
                KeyError::Empty | KeyError::KeyTooLong { .. } => "key",
                KeyError::ElementTooLong { .. } => "element",
            };
            Failure::invalid(field, error.to_string())
        })
    }
}

/// Checks a register's bytes.
pub(super) fn value(field: &'static str, bytes: Bytes) -> Result<Bytes, Failure> {
    if bytes.len() > VALUE_BYTES_MAX {
        let (is, most) = (bytes.len(), VALUE_BYTES_MAX);
        let message = format!("is {is} bytes long, at most {most} are allowed");
        return Err(Failure::invalid(field, message));
    }
    Ok(bytes)
}

/// Checks an etag that a client gives back.
pub(super) fn etag(bytes: Bytes) -> Result<Bytes, Failure> {
    if bytes.len() > ETAG_BYTES_MAX {
        let is = bytes.len();
        let message = format!("is {is} bytes long, no etag has more than {ETAG_BYTES_MAX}");
        return Err(Failure::invalid("expect_etag", message));
    }
    Ok(bytes)
}

/// How long a request may take: the smaller of the field and what the transport says.
pub(super) fn budget(deadline_ms: u32, transport: Option<Duration>) -> Result<Duration, Failure> {
    let ms = u64::from(deadline_ms);
    if ms > DEADLINE_MAX_MS {
        let message = format!("is {ms} ms, at most {DEADLINE_MAX_MS} are allowed");
        return Err(Failure::invalid("options.deadline_ms", message));
    }
    let field = match ms {
        0 => Duration::from_millis(DEADLINE_DEFAULT_MS),
        ms => Duration::from_millis(ms),
    };
    Ok(transport.map_or(field, |time| in_time(time).min(field)))
}

/// When to answer a caller who gives a transport's deadline: it stops listening when that is over, so a little
/// earlier.
pub(super) fn in_time(transport: Duration) -> Duration {
    transport.saturating_sub((transport / 10).min(EARLIER))
}

/// How much earlier than the transport's deadline the node gives up, at most.
const EARLIER: Duration = Duration::from_millis(10);

/// Takes the options of a request apart.
pub(super) fn options(
    names: &Names,
    now: Now,
    options: Option<v1::RequestOptions>,
    default_level: Level,
    transport: Option<Duration>,
) -> Result<Options, Failure> {
    let options = options.unwrap_or_default();
    if options.epoch != 0 && options.epoch != names.epoch() {
        return Err(Failure::epoch_differs(options.epoch, names.epoch()));
    }
    let level = level_from_wire(options.level, "options.level")?.unwrap_or(default_level);
    let others = names.regions().len() - 1;
    let ack_regions = u8::try_from(options.ack_regions)
        .ok()
        .filter(|regions| usize::from(*regions) <= others)
        .ok_or_else(|| {
            let message = format!("the cluster has {others} further regions");
            Failure::invalid("options.ack_regions", message)
        })?;
    let budget = budget(options.deadline_ms, transport)?;
    let (request_id, retry_of) = match options.request_id {
        None => (None, None),
        Some(id) => request_id(names, &id, default_level).map(|(id, retry)| (Some(id), retry))?,
    };
    Ok(Options {
        level,
        context: context(names, now, &options.session_token)?,
        request_id,
        retry_of,
        ack_regions,
        deadline: now.monotonic + budget,
    })
}

impl Options {
    /// The core's request for a command.
    pub(super) fn request(&self, command: Command) -> Request {
        Request {
            command,
            level: self.level,
            context: self.context.clone(),
            request_id: self.request_id,
            retry_of: self.retry_of,
            ack_regions: self.ack_regions,
            deadline: self.deadline,
        }
    }

    /// The same options for a later part of the same request, which has seen more.
    pub(super) fn having_seen(&self, context: &Context) -> Options {
        let mut options = self.clone();
        options.context.join(context);
        options
    }
}

/// A token's context; it may name no region the topology does not know.
fn context(names: &Names, now: Now, token: &Bytes) -> Result<Context, Failure> {
    let context = SessionToken::decode(names.cluster(), now, token)
        .map_err(|error| Failure::token(&error))?;
    let known = |region: u8| usize::from(region) < names.regions().len();
    if !context.iter().all(|(region, _)| known(region.0)) {
        return Err(Failure::token(&TokenError::OtherCluster));
    }
    Ok(context)
}

/// A request id, and what it retries.
fn request_id(
    names: &Names,
    id: &v1::RequestId,
    default_level: Level,
) -> Result<(RequestId, Option<(NodeId, Level)>), Failure> {
    let zero = |field| Failure::invalid(field, "must not be 0");
    if id.session == 0 {
        return Err(zero("options.request_id.session"));
    }
    if id.seq == 0 {
        return Err(zero("options.request_id.seq"));
    }
    if id.issued_hlc == 0 {
        return Err(zero("options.request_id.issued_hlc"));
    }
    let retry_of = match id.attempt {
        0 => None,
        _ => {
            let node = names.node(&id.first_node).ok_or_else(|| {
                let message = "name the node that took the first attempt";
                Failure::invalid("options.request_id.first_node", message)
            })?;
            let field = "options.request_id.first_level";
            // As `options.level`: none named is the default, then and now.
            let level = level_from_wire(id.first_level, field)?;
            Some((node, level.unwrap_or(default_level)))
        }
    };
    let known = RequestId {
        session: id.session,
        seq: id.seq,
        issued: Hlc(id.issued_hlc),
    };
    Ok((known, retry_of))
}

/// A level; `None` when none was named.
fn level_from_wire(level: i32, field: &'static str) -> Result<Option<Level>, Failure> {
    match v1::Level::try_from(level) {
        Ok(v1::Level::Unspecified) => Ok(None),
        Ok(v1::Level::Eventual) => Ok(Some(Level::Eventual)),
        Ok(v1::Level::Session) => Ok(Some(Level::Session)),
        Ok(v1::Level::Strong) => Ok(Some(Level::Strong)),
        Ok(v1::Level::Bounded) => Err(Failure::level_not_available("bounded")),
        Ok(v1::Level::Sla) => Err(Failure::level_not_available("sla")),
        Err(_) => Err(Failure::invalid(field, format!("{level} is no level"))),
    }
}

/// A level's number on the wire.
pub(super) fn level_to_wire(level: Level) -> v1::Level {
    match level {
        Level::Eventual => v1::Level::Eventual,
        Level::Session => v1::Level::Session,
        Level::Strong => v1::Level::Strong,
    }
}

/// What every reply carries, out of what the core's reply carries beside its answer.
pub(super) fn header(
    names: &Names,
    node: NodeId,
    level: Level,
    context: &Context,
    hlc: Hlc,
    receipt: &Receipt,
) -> v1::ReplyHeader {
    v1::ReplyHeader {
        level: level_to_wire(level).into(),
        session_token: SessionToken::encode(names.cluster(), context),
        receipt: Some(receipt_to_wire(names, node, receipt)),
        server_hlc: hlc.0,
        epoch: names.epoch(),
    }
}

fn receipt_to_wire(names: &Names, node: NodeId, receipt: &Receipt) -> v1::Receipt {
    let node_name = |node: &NodeId| names.node_name(*node).to_owned();
    let region = names.node_names(node).map(|node| node.region);
    v1::Receipt {
        // Rounded up: the bound must hold.
        staleness_ms: receipt
            .staleness
            .map(|age| age.as_nanos().div_ceil(1_000_000) as u64),
        served_by: node_name(&node),
        served_in: region.map_or(String::new(), |r| names.region_name(r).to_owned()),
        replicas: receipt.replicas.iter().map(node_name).collect(),
        regions: region_names(names, &receipt.regions),
        durable_regions: region_names(names, &receipt.durable_regions),
        wan_round_trips: u32::from(receipt.wan_round_trips),
        absorbed: receipt.absorbed,
        merged: receipt.merged,
        forwarded_to: receipt
            .forwarded_to
            .map_or(String::new(), |n| node_name(&n)),
        path: receipt.path.map_or(v1::Path::Unspecified, path_to_wire) as i32,
    }
}

fn path_to_wire(path: Path) -> v1::Path {
    match path {
        Path::Proven => v1::Path::Proven,
        Path::Helped => v1::Path::Helped,
        Path::Delegated => v1::Path::Delegated,
        Path::Combined => v1::Path::Combined,
        Path::Prepared => v1::Path::Prepared,
    }
}

fn region_names(names: &Names, regions: &[hansa_consistency::key::RegionId]) -> Vec<String> {
    let name = |region: &hansa_consistency::key::RegionId| names.region_name(*region).to_owned();
    regions.iter().map(name).collect()
}

/// What a row holds, for each of the three messages that say so: found, a register's bytes, a counter's value.
pub(super) fn found_to_wire(found: Found) -> (bool, Option<Bytes>, Option<i64>) {
    match found {
        Found::Nothing => (false, None, None),
        Found::Value(bytes) => (true, Some(bytes), None),
        Found::Total(total) => (true, None, Some(total)),
        Found::Member => (true, None, None),
    }
}

#[cfg(test)]
mod tests;
