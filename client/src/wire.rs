//! Between the generated messages and the SDK's own types. The only file that knows both.

use std::time::Duration;

use bytes::Bytes;
use hansa_proto::v1;
use hansa_proto::v1::pipe_reply::Body as ReplyBody;
use hansa_proto::v1::pipe_request::Body as RequestBody;

use crate::consistency::Consistency;
use crate::error::{Applied, Error, ErrorKind};
use crate::etag::Etag;
use crate::key::Key;
use crate::reply::{
    Batch, Contained, Found, Got, Members, Page, Path, Receipt, Row, Value, Written,
};
use crate::request_ids::RequestId;

/// What the SDK itself knows about a finished call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct About {
    pub(crate) attempts: u32,
    pub(crate) elapsed: Duration,
    pub(crate) request_id: Option<RequestId>,
}

/// Takes a reply apart; `None` when it is not the reply to the request.
pub(crate) type Decode<R> = fn(ReplyBody, About) -> Option<R>;

pub(crate) fn level(level: Consistency) -> v1::Level {
    match level {
        Consistency::KeyspaceDefault => v1::Level::Unspecified,
        Consistency::Eventual => v1::Level::Eventual,
        Consistency::Session => v1::Level::Session,
        Consistency::Strong => v1::Level::Strong,
    }
}

/// Puts the options into a request.
pub(crate) fn set_options(body: &mut RequestBody, options: v1::RequestOptions) {
    let place = match body {
        RequestBody::Get(request) => &mut request.options,
        RequestBody::Put(request) => &mut request.options,
        RequestBody::Delete(request) => &mut request.options,
        RequestBody::CompareAndSet(request) => &mut request.options,
        RequestBody::Update(request) => &mut request.options,
        RequestBody::Scan(request) => &mut request.options,
        RequestBody::BatchGet(request) => &mut request.options,
        RequestBody::Members(request) => &mut request.options,
    };
    *place = Some(options);
}

/// Puts a page token into a paged request.
pub(crate) fn set_page_token(body: &mut RequestBody, token: Bytes) {
    match body {
        RequestBody::Scan(request) => request.page_token = token,
        RequestBody::Members(request) => request.page_token = token,
        _ => {}
    }
}

/// Puts a page size into a paged request.
pub(crate) fn set_page_size(body: &mut RequestBody, size: u32) {
    match body {
        RequestBody::Scan(request) => request.page_size = size,
        RequestBody::Members(request) => request.page_size = size,
        _ => {}
    }
}

/// The header of a successful reply.
pub(crate) fn header(body: &ReplyBody) -> Option<&v1::ReplyHeader> {
    match body {
        ReplyBody::Get(reply) => reply.header.as_ref(),
        ReplyBody::Put(reply) => reply.header.as_ref(),
        ReplyBody::Delete(reply) => reply.header.as_ref(),
        ReplyBody::CompareAndSet(reply) => reply.header.as_ref(),
        ReplyBody::Update(reply) => reply.header.as_ref(),
        ReplyBody::Scan(reply) => reply.header.as_ref(),
        ReplyBody::BatchGet(reply) => reply.header.as_ref(),
        ReplyBody::Members(reply) => reply.header.as_ref(),
        ReplyBody::Hello(_) | ReplyBody::Error(_) => None,
    }
}

/// The server's clock as a reply tells it; 0 when it does not.
pub(crate) fn server_hlc(body: &ReplyBody) -> u64 {
    match body {
        ReplyBody::Error(refusal) => refusal.server_hlc,
        _ => header(body).map_or(0, |header| header.server_hlc),
    }
}

/// A refusal, as the server said it. A write's that does not say what was applied counts as unknown;
/// a read never applies anything.
pub(crate) fn error(refusal: v1::Error, is_read: bool) -> Error {
    let applied = match refusal.applied() {
        _ if is_read => Applied::No,
        v1::Applied::No => Applied::No,
        v1::Applied::Maybe | v1::Applied::Unspecified => Applied::Maybe,
    };
    let code = refusal.code.unsigned_abs();
    let kind = ErrorKind::of_refusal(code, &refusal.reason, applied);
    let hint = match refusal.retry_after_ms {
        0 => None,
        ms => Some(Duration::from_millis(ms.into())),
    };
    let message = match refusal.field.as_str() {
        "" => refusal.message,
        field if refusal.message.contains(field) => refusal.message,
        field => format!("{} (field `{field}`)", refusal.message),
    };
    Error::new(kind, applied, refusal.reason, message)
        .with_field(refusal.field)
        .with_etag(Etag(refusal.etag))
        .with_session_token(refusal.session_token)
        .with_retry_after(hint)
}

fn receipt(header: Option<v1::ReplyHeader>, about: About) -> Option<Receipt> {
    let header = header?;
    let level = match header.level() {
        v1::Level::Eventual => Consistency::Eventual,
        v1::Level::Session => Consistency::Session,
        v1::Level::Strong => Consistency::Strong,
        _ => Consistency::KeyspaceDefault,
    };
    let receipt = header.receipt.unwrap_or_default();
    let path = path(receipt.path());
    Some(Receipt {
        level,
        staleness: receipt.staleness_ms.map(Duration::from_millis),
        served_by: receipt.served_by,
        served_in: receipt.served_in,
        replicas: receipt.replicas,
        regions: receipt.regions,
        durable_regions: receipt.durable_regions,
        wan_round_trips: receipt.wan_round_trips,
        path,
        absorbed: receipt.absorbed,
        merged: receipt.merged,
        forwarded_to: Some(receipt.forwarded_to).filter(|node| !node.is_empty()),
        epoch: header.epoch,
        attempts: about.attempts,
        elapsed: about.elapsed,
        request_id: about.request_id,
    })
}

fn path(path: v1::Path) -> Option<Path> {
    match path {
        v1::Path::Unspecified => None,
        v1::Path::Proven => Some(Path::Proven),
        v1::Path::Helped => Some(Path::Helped),
        v1::Path::Delegated => Some(Path::Delegated),
        v1::Path::Combined => Some(Path::Combined),
        v1::Path::Prepared => Some(Path::Prepared),
    }
}

pub(crate) fn got(body: ReplyBody, about: About) -> Option<Got> {
    let ReplyBody::Get(reply) = body else {
        return None;
    };
    let value = reply.content.map(|content| match content {
        v1::get_reply::Content::Value(bytes) => Value::Bytes(bytes),
        v1::get_reply::Content::Total(total) => Value::Total(total),
    });
    Some(Got {
        found: Found {
            value: reply.found.then(|| value.unwrap_or(Value::Member)),
            etag: Etag(reply.etag),
        },
        receipt: receipt(reply.header, about)?,
    })
}

pub(crate) fn contained(body: ReplyBody, about: About) -> Option<Contained> {
    let got = got(body, about)?;
    Some(Contained {
        member: got.found.value.is_some(),
        receipt: got.receipt,
    })
}

pub(crate) fn written(body: ReplyBody, about: About) -> Option<Written> {
    let (header, etag, total) = match body {
        ReplyBody::Put(reply) => (reply.header, reply.etag, None),
        ReplyBody::Delete(reply) => (reply.header, reply.etag, None),
        ReplyBody::CompareAndSet(reply) => (reply.header, reply.etag, None),
        ReplyBody::Update(reply) => (reply.header, reply.etag, reply.total),
        _ => return None,
    };
    Some(Written {
        etag: Etag(etag),
        total,
        receipt: receipt(header, about)?,
    })
}

pub(crate) fn batch(body: ReplyBody, about: About) -> Option<Batch> {
    let ReplyBody::BatchGet(reply) = body else {
        return None;
    };
    let found = |row: v1::BatchRow| {
        let value = row.content.map(|content| match content {
            v1::batch_row::Content::Value(bytes) => Value::Bytes(bytes),
            v1::batch_row::Content::Total(total) => Value::Total(total),
        });
        Found {
            value: row.found.then(|| value.unwrap_or(Value::Member)),
            etag: Etag(row.etag),
        }
    };
    Some(Batch {
        rows: reply.rows.into_iter().map(found).collect(),
        receipt: receipt(reply.header, about)?,
    })
}

pub(crate) fn page(body: ReplyBody, about: About) -> Option<Page> {
    let ReplyBody::Scan(reply) = body else {
        return None;
    };
    let row = |row: v1::ScanRow| Row {
        key: Key {
            partition: row.key,
            sort: row.sort,
        },
        element: row.element,
        value: match row.content {
            Some(v1::scan_row::Content::Value(bytes)) => Value::Bytes(bytes),
            Some(v1::scan_row::Content::Total(total)) => Value::Total(total),
            None => Value::Member,
        },
        etag: Etag(row.etag),
    };
    Some(Page {
        rows: reply.rows.into_iter().map(row).collect(),
        next: reply.next_page_token,
        receipt: receipt(reply.header, about)?,
    })
}

pub(crate) fn members(body: ReplyBody, about: About) -> Option<Members> {
    let ReplyBody::Members(reply) = body else {
        return None;
    };
    Some(Members {
        elements: reply.elements,
        next: reply.next_page_token,
        receipt: receipt(reply.header, about)?,
    })
}
