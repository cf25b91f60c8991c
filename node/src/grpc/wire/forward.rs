//! Client requests and their outcomes on their way between two nodes.
//!
//! Between nodes rows travel as storage keys and everything by number: both sides have the same topology.

use std::time::Duration;

use hansa_consistency::clock::Hlc;
use hansa_consistency::codec::Encode;
use hansa_consistency::key::{KeyspaceId, NodeId, RegionId};
use hansa_consistency::record::RequestId;
use hansa_consistency::register::Expect;
use hansa_consistency::request::{
    Answer, Applied, Command, Found, Level, Path, Reason, Receipt, Refusal, Reply, Request, Scan,
    ScannedRow,
};
use hansa_proto::v1::{
    self, forwarded_compare_and_set::Expect as WireExpect, forwarded_found::Found as WireFound,
    forwarded_reply::Answer as WireAnswer, forwarded_request::Command as WireCommand,
    peer_forwarded::Result as WireResult,
};

use super::WireError;
use super::envelope::{Read, need, node, row, small, stored};

/// A request as it goes to another node; its deadline is the time left.
pub(super) fn request_to(request: Request) -> v1::ForwardedRequest {
    v1::ForwardedRequest {
        command: Some(command_to(request.command)),
        level: level_to(request.level).into(),
        context: request.context.to_record(),
        request_id: request.request_id.map(|id| v1::ForwardedRequestId {
            session: id.session,
            seq: id.seq,
            issued: id.issued.0,
        }),
        retry_of: request.retry_of.map(|(node, level)| v1::ForwardedRetry {
            node: u32::from(node.0),
            level: level_to(level).into(),
        }),
        ack_regions: u32::from(request.ack_regions),
        deadline_us: request.deadline.as_micros() as u64,
    }
}

/// A request as it came from another node.
pub(super) fn request_from(request: v1::ForwardedRequest) -> Read<Request> {
    let retry = |retry: v1::ForwardedRetry| Ok((node(retry.node)?, level_from(retry.level)?));
    Ok(Request {
        command: command_from(need(request.command, "command")?)?,
        level: level_from(request.level)?,
        context: stored(&request.context, "context")?,
        request_id: request.request_id.map(|id| RequestId {
            session: id.session,
            seq: id.seq,
            issued: Hlc(id.issued),
        }),
        retry_of: request.retry_of.map(retry).transpose()?,
        ack_regions: small(request.ack_regions, "number of regions")?,
        deadline: Duration::from_micros(request.deadline_us),
    })
}

fn command_to(command: Command) -> WireCommand {
    match command {
        Command::Get(row) => WireCommand::Get(row.as_bytes().clone()),
        Command::Put(row, value) => WireCommand::Put(v1::ForwardedPut {
            row: row.as_bytes().clone(),
            value,
        }),
        Command::Delete(row) => WireCommand::Delete(row.as_bytes().clone()),
        Command::CompareAndSet(row, expect, new_value) => {
            WireCommand::CompareAndSet(v1::ForwardedCompareAndSet {
                row: row.as_bytes().clone(),
                expect: Some(match expect {
                    Expect::Absent => WireExpect::Absent(true),
                    Expect::Etag(etag) => WireExpect::Etag(etag),
                    Expect::Value(value) => WireExpect::Value(value),
                }),
                new_value,
            })
        }
        Command::Increment(row, amount) => WireCommand::Increment(v1::ForwardedIncrement {
            row: row.as_bytes().clone(),
            amount,
        }),
        Command::AddElement(row) => WireCommand::AddElement(row.as_bytes().clone()),
        Command::RemoveElement(row) => WireCommand::RemoveElement(row.as_bytes().clone()),
        Command::Scan(scan) => WireCommand::Scan(v1::ForwardedScan {
            keyspace: u32::from(scan.keyspace.0),
            from: scan.from,
            to: scan.to,
            limit: scan.limit as u32,
        }),
    }
}

fn command_from(command: WireCommand) -> Read<Command> {
    Ok(match command {
        WireCommand::Get(key) => Command::Get(row(key)?),
        WireCommand::Put(put) => Command::Put(row(put.row)?, put.value),
        WireCommand::Delete(key) => Command::Delete(row(key)?),
        WireCommand::CompareAndSet(body) => {
            let expect = match need(body.expect, "condition")? {
                WireExpect::Absent(true) => Expect::Absent,
                WireExpect::Absent(false) => return Err(WireError { what: "condition" }),
                WireExpect::Etag(etag) => Expect::Etag(etag),
                WireExpect::Value(value) => Expect::Value(value),
            };
            Command::CompareAndSet(row(body.row)?, expect, body.new_value)
        }
        WireCommand::Increment(body) => Command::Increment(row(body.row)?, body.amount),
        WireCommand::AddElement(key) => Command::AddElement(row(key)?),
        WireCommand::RemoveElement(key) => Command::RemoveElement(row(key)?),
        WireCommand::Scan(scan) => Command::Scan(Scan {
            keyspace: KeyspaceId(small(scan.keyspace, "keyspace")?),
            from: scan.from,
            to: scan.to,
            limit: scan.limit as usize,
        }),
    })
}

/// The outcome of a request as it goes back.
pub(super) fn result_to(result: Result<Reply, Refusal>) -> WireResult {
    match result {
        Ok(reply) => WireResult::Reply(v1::ForwardedReply {
            answer: Some(answer_to(reply.answer)),
            level: level_to(reply.level).into(),
            context: reply.context.to_record(),
            hlc: reply.hlc.0,
            receipt: Some(receipt_to(&reply.receipt)),
        }),
        Err(refusal) => WireResult::Refusal(v1::ForwardedRefusal {
            reason: refusal.reason.name().to_owned(),
            maybe_applied: refusal.applied == Applied::Maybe,
            message: refusal.message,
            etag: refusal.etag,
            context: refusal.context.to_record(),
        }),
    }
}

/// The outcome of a request as it came back.
pub(super) fn result_from(result: WireResult) -> Read<Result<Reply, Refusal>> {
    Ok(match result {
        WireResult::Reply(reply) => Ok(Reply {
            answer: answer_from(need(reply.answer, "answer")?)?,
            level: level_from(reply.level)?,
            context: stored(&reply.context, "context")?,
            hlc: Hlc(reply.hlc),
            receipt: receipt_from(need(reply.receipt, "receipt")?)?,
        }),
        WireResult::Refusal(refusal) => {
            let named = |reason: &Reason| reason.name() == refusal.reason;
            Err(Refusal {
                reason: need(Reason::ALL.into_iter().find(named), "reason")?,
                applied: match refusal.maybe_applied {
                    true => Applied::Maybe,
                    false => Applied::No,
                },
                message: refusal.message,
                etag: refusal.etag,
                context: stored(&refusal.context, "context")?,
            })
        }
    })
}

fn answer_to(answer: Answer) -> WireAnswer {
    match answer {
        Answer::Read { found, etag } => WireAnswer::Read(v1::ForwardedReadAnswer {
            found: Some(found_to(found)),
            etag,
        }),
        Answer::Written { etag, total } => {
            WireAnswer::Written(v1::ForwardedWritten { etag, total })
        }
        Answer::Page { rows, next } => {
            let row = |row: ScannedRow| v1::ForwardedRow {
                row: row.row.as_bytes().clone(),
                found: Some(found_to(row.found)),
                etag: row.etag,
            };
            let rows = rows.into_iter().map(row).collect();
            WireAnswer::Page(v1::ForwardedPage { rows, next })
        }
    }
}

fn answer_from(answer: WireAnswer) -> Read<Answer> {
    Ok(match answer {
        WireAnswer::Read(read) => Answer::Read {
            found: found_from(read.found)?,
            etag: read.etag,
        },
        WireAnswer::Written(written) => Answer::Written {
            etag: written.etag,
            total: written.total,
        },
        WireAnswer::Page(page) => {
            let scanned = |scanned: v1::ForwardedRow| {
                Ok(ScannedRow {
                    row: row(scanned.row)?,
                    found: found_from(scanned.found)?,
                    etag: scanned.etag,
                })
            };
            Answer::Page {
                rows: page.rows.into_iter().map(scanned).collect::<Read<_>>()?,
                next: page.next,
            }
        }
    })
}

fn found_to(found: Found) -> v1::ForwardedFound {
    let found = match found {
        Found::Nothing => WireFound::Nothing(true),
        Found::Value(value) => WireFound::Value(value),
        Found::Total(total) => WireFound::Total(total),
        Found::Member => WireFound::Member(true),
    };
    v1::ForwardedFound { found: Some(found) }
}

fn found_from(found: Option<v1::ForwardedFound>) -> Read<Found> {
    let found = found.and_then(|found| found.found);
    Ok(match need(found, "finding")? {
        WireFound::Nothing(_) => Found::Nothing,
        WireFound::Value(value) => Found::Value(value),
        WireFound::Total(total) => Found::Total(total),
        WireFound::Member(_) => Found::Member,
    })
}

fn receipt_to(receipt: &Receipt) -> v1::ForwardedReceipt {
    let regions = |regions: &[RegionId]| regions.iter().map(|r| u32::from(r.0)).collect();
    v1::ForwardedReceipt {
        // Rounded up: the bound must hold.
        staleness_us: receipt
            .staleness
            .map(|age| age.as_nanos().div_ceil(1000) as u64),
        replicas: receipt.replicas.iter().map(|n| u32::from(n.0)).collect(),
        regions: regions(&receipt.regions),
        durable_regions: regions(&receipt.durable_regions),
        wan_round_trips: u32::from(receipt.wan_round_trips),
        absorbed: receipt.absorbed,
        merged: receipt.merged,
        forwarded_to: receipt.forwarded_to.map(|node| u32::from(node.0)),
        path: receipt.path.map_or(0, |path| path as u32 + 1),
    }
}

fn receipt_from(receipt: v1::ForwardedReceipt) -> Read<Receipt> {
    let regions = |regions: Vec<u32>| {
        let region = |region| small(region, "region").map(RegionId);
        regions.into_iter().map(region).collect::<Read<Vec<_>>>()
    };
    let replicas = receipt.replicas.into_iter().map(node);
    Ok(Receipt {
        staleness: receipt.staleness_us.map(Duration::from_micros),
        replicas: replicas.collect::<Read<Vec<NodeId>>>()?,
        regions: regions(receipt.regions)?,
        durable_regions: regions(receipt.durable_regions)?,
        wan_round_trips: small(receipt.wan_round_trips, "round trips")?,
        absorbed: receipt.absorbed,
        merged: receipt.merged,
        forwarded_to: receipt.forwarded_to.map(node).transpose()?,
        path: path_from(receipt.path)?,
    })
}

fn path_from(number: u32) -> Read<Option<Path>> {
    let Some(place) = number.checked_sub(1) else {
        return Ok(None);
    };
    need(Path::ALL.get(place as usize).copied(), "path").map(Some)
}

fn level_to(level: Level) -> v1::ForwardLevel {
    match level {
        Level::Eventual => v1::ForwardLevel::Eventual,
        Level::Session => v1::ForwardLevel::Session,
        Level::Strong => v1::ForwardLevel::Strong,
    }
}

fn level_from(level: i32) -> Read<Level> {
    match v1::ForwardLevel::try_from(level) {
        Ok(v1::ForwardLevel::Eventual) => Ok(Level::Eventual),
        Ok(v1::ForwardLevel::Session) => Ok(Level::Session),
        Ok(v1::ForwardLevel::Strong) => Ok(Level::Strong),
        Ok(v1::ForwardLevel::Unspecified) | Err(_) => Err(WireError { what: "level" }),
    }
}
