//! The pretended data: maps, and the memory of strong request ids.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;
use hansa_proto::v1;
use hansa_proto::v1::pipe_reply::Body as Reply;
use hansa_proto::v1::pipe_request::Body as Request;

/// Keyspace, partition key, sort key, element.
type Name = (String, Bytes, Bytes, Option<Bytes>);

#[derive(Clone, PartialEq, Debug)]
enum Content {
    Bytes(Bytes),
    Total(i64),
    Member,
}

#[derive(Clone, Debug)]
struct Stored {
    content: Content,
    version: u64,
}

/// A refusal: gRPC code and stable reason.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Refused {
    pub(super) code: i32,
    pub(super) reason: &'static str,
    pub(super) applied: v1::Applied,
    pub(super) message: &'static str,
    pub(super) etag: Bytes,
}

fn refused(code: i32, reason: &'static str, message: &'static str) -> Refused {
    let etag = Bytes::new();
    Refused {
        code,
        reason,
        applied: v1::Applied::No,
        message,
        etag,
    }
}

/// Refuses a request id as a real node does: one that names nothing, and a repetition whose first
/// attempt had another level or, below strong, went to another node. `node` and `level` are where
/// and at which level it is served.
pub(super) fn check_request_id(
    id: &v1::RequestId,
    nodes: &[String],
    node: &str,
    level: v1::Level,
) -> Result<(), Refused> {
    let invalid = |message| Err(refused(3, "INVALID", message));
    if id.session == 0 || id.seq == 0 || id.issued_hlc == 0 {
        return invalid("a request id has no part that is 0");
    }
    if id.attempt == 0 {
        return Ok(());
    }
    if !nodes.contains(&id.first_node) {
        return invalid("name the node that took the first attempt");
    }
    if or_default(id.first_level()) != level {
        return invalid("a retry must name the level of its first attempt");
    }
    if level != v1::Level::Strong && id.first_node != node {
        let message = "another node took the first attempt; only it can tell the outcome";
        return Err(Refused {
            applied: v1::Applied::Maybe,
            ..refused(2, "UNKNOWN_OUTCOME", message)
        });
    }
    Ok(())
}

/// A level as it is served: every keyspace here is eventual unless a request says otherwise.
pub(super) fn or_default(level: v1::Level) -> v1::Level {
    match level {
        v1::Level::Unspecified => v1::Level::Eventual,
        level => level,
    }
}

#[derive(Debug, Default)]
pub(super) struct Data {
    rows: BTreeMap<Name, Stored>,
    /// Rises with every write.
    pub(super) version: u64,
    pub(super) executed: u64,
    /// Replies to strong writes, by session and number.
    answered: BTreeMap<(u64, u32), Reply>,
}

fn type_of(keyspace: &str) -> Option<&'static str> {
    match keyspace {
        "profiles" => Some("register"),
        "stock" | "counters" => Some("counter"),
        "carts" => Some("set"),
        _ => None,
    }
}

fn check(keyspace: &str, types: &[&str]) -> Result<(), Refused> {
    match type_of(keyspace) {
        None => Err(refused(5, "UNKNOWN_KEYSPACE", "there is no such keyspace")),
        Some(found) if types.contains(&found) => Ok(()),
        Some(_) => Err(refused(9, "WRONG_TYPE", "the keyspace has another type")),
    }
}

impl Data {
    /// Executes a request, or answers it from memory, and puts the header into the reply.
    pub(super) fn answer(
        &mut self,
        request: &Request,
        options: &v1::RequestOptions,
        header: impl FnOnce(u64) -> v1::ReplyHeader,
    ) -> Result<Reply, Refused> {
        let strong = options.level() == v1::Level::Strong;
        let id = options.request_id.as_ref().map(|id| (id.session, id.seq));
        if strong && let Some(known) = id.and_then(|id| self.answered.get(&id)) {
            return Ok(known.clone());
        }
        let paged = matches!(request, Request::Scan(_) | Request::Members(_));
        if strong && paged {
            let message = "scan and members are offered at eventual and session";
            return Err(refused(3, "LEVEL_NOT_SUPPORTED", message));
        }
        let mut reply = self.execute(request)?;
        set_header(&mut reply, header(self.version));
        if let (true, Some(id)) = (strong, id) {
            self.answered.insert(id, reply.clone());
        }
        Ok(reply)
    }

    fn execute(&mut self, request: &Request) -> Result<Reply, Refused> {
        match request {
            Request::Get(r) => self.get(r),
            Request::Put(r) => {
                check(&r.keyspace, &["register"])?;
                let name = (r.keyspace.clone(), r.key.clone(), r.sort.clone(), None);
                let etag = self.write(name, Some(Content::Bytes(r.value.clone())));
                Ok(Reply::Put(v1::PutReply { header: None, etag }))
            }
            Request::Delete(r) => {
                check(&r.keyspace, &["register", "counter"])?;
                let name = (r.keyspace.clone(), r.key.clone(), r.sort.clone(), None);
                let counter = type_of(&r.keyspace) == Some("counter");
                let etag = self.write(name, counter.then_some(Content::Total(0)));
                Ok(Reply::Delete(v1::DeleteReply { header: None, etag }))
            }
            Request::CompareAndSet(r) => self.compare_and_set(r),
            Request::Update(r) => self.update(r),
            Request::Scan(r) => self.scan(r),
            Request::BatchGet(r) => self.batch_get(r),
            Request::Members(r) => self.members(r),
        }
    }

    fn write(&mut self, name: Name, content: Option<Content>) -> Bytes {
        self.executed += 1;
        self.version += 1;
        let version = self.version;
        match content {
            Some(content) => self.rows.insert(name, Stored { content, version }),
            None => self.rows.remove(&name),
        };
        etag(version)
    }

    fn get(&self, r: &v1::GetRequest) -> Result<Reply, Refused> {
        check(&r.keyspace, &["register", "counter", "set"])?;
        if (type_of(&r.keyspace) == Some("set")) != r.element.is_some() {
            return Err(refused(3, "INVALID", "element: for sets, and only there"));
        }
        let name = (
            r.keyspace.clone(),
            r.key.clone(),
            r.sort.clone(),
            r.element.clone(),
        );
        let stored = self.rows.get(&name);
        Ok(Reply::Get(v1::GetReply {
            header: None,
            found: stored.is_some(),
            content: stored.and_then(|stored| match &stored.content {
                Content::Bytes(bytes) => Some(v1::get_reply::Content::Value(bytes.clone())),
                Content::Total(total) => Some(v1::get_reply::Content::Total(*total)),
                Content::Member => None,
            }),
            etag: stored
                .map(|stored| etag(stored.version))
                .unwrap_or_default(),
        }))
    }

    fn compare_and_set(&mut self, r: &v1::CompareAndSetRequest) -> Result<Reply, Refused> {
        use v1::compare_and_set_request::Expect;
        check(&r.keyspace, &["register"])?;
        let name = (r.keyspace.clone(), r.key.clone(), r.sort.clone(), None);
        let found = self.rows.get(&name);
        let holds = match (&r.expect, found) {
            (Some(Expect::ExpectAbsent(_)), found) => found.is_none(),
            (Some(Expect::ExpectEtag(wanted)), Some(found)) => *wanted == etag(found.version),
            (Some(Expect::ExpectValue(wanted)), Some(found)) => {
                found.content == Content::Bytes(wanted.clone())
            }
            _ => false,
        };
        if !holds {
            let etag = found.map(|found| etag(found.version)).unwrap_or_default();
            let message = "the row is not as expected";
            let refused = refused(10, "CONDITION_FAILED", message);
            return Err(Refused { etag, ..refused });
        }
        let etag = self.write(name, r.value.clone().map(Content::Bytes));
        let header = None;
        Ok(Reply::CompareAndSet(v1::CompareAndSetReply {
            header,
            etag,
        }))
    }

    fn update(&mut self, r: &v1::UpdateRequest) -> Result<Reply, Refused> {
        use v1::update_request::Change;
        let name = |element| (r.keyspace.clone(), r.key.clone(), r.sort.clone(), element);
        let (etag, total) = match &r.change {
            Some(Change::Increment(by)) => {
                check(&r.keyspace, &["counter"])?;
                let before = match self.rows.get(&name(None)).map(|stored| &stored.content) {
                    Some(Content::Total(total)) => *total,
                    _ => 0,
                };
                let Some(total) = before.checked_add(*by) else {
                    return Err(refused(11, "OVERFLOW", "the counter would overflow"));
                };
                (
                    self.write(name(None), Some(Content::Total(total))),
                    Some(total),
                )
            }
            Some(Change::Add(element)) => {
                check(&r.keyspace, &["set"])?;
                (
                    self.write(name(Some(element.clone())), Some(Content::Member)),
                    None,
                )
            }
            Some(Change::Remove(element)) => {
                check(&r.keyspace, &["set"])?;
                (self.write(name(Some(element.clone())), None), None)
            }
            None => return Err(refused(3, "INVALID", "change: required")),
        };
        Ok(Reply::Update(v1::UpdateReply {
            header: None,
            etag,
            total,
        }))
    }

    fn batch_get(&self, r: &v1::BatchGetRequest) -> Result<Reply, Refused> {
        check(&r.keyspace, &["register", "counter"])?;
        let row = |key: &v1::BatchKey| {
            let name = (r.keyspace.clone(), key.key.clone(), key.sort.clone(), None);
            let stored = self.rows.get(&name);
            v1::BatchRow {
                found: stored.is_some(),
                content: stored.and_then(|stored| match &stored.content {
                    Content::Bytes(bytes) => Some(v1::batch_row::Content::Value(bytes.clone())),
                    Content::Total(total) => Some(v1::batch_row::Content::Total(*total)),
                    Content::Member => None,
                }),
                etag: stored
                    .map(|stored| etag(stored.version))
                    .unwrap_or_default(),
            }
        };
        Ok(Reply::BatchGet(v1::BatchGetReply {
            header: None,
            rows: r.keys.iter().map(row).collect(),
        }))
    }

    /// The page tokens are row counts.
    fn scan(&self, r: &v1::ScanRequest) -> Result<Reply, Refused> {
        check(&r.keyspace, &["register", "counter", "set"])?;
        let from = (r.keyspace.clone(), Bytes::new(), Bytes::new(), None);
        let rows = self
            .rows
            .range((Bound::Included(from), Bound::Unbounded))
            .take_while(|(name, _)| name.0 == r.keyspace)
            .filter(|(name, _)| r.key.is_empty() || name.1 == r.key)
            .filter(|(name, _)| name.2.starts_with(&r.sort_prefix));
        let row = |(name, stored): (&Name, &Stored)| v1::ScanRow {
            key: name.1.clone(),
            sort: name.2.clone(),
            element: name.3.clone(),
            content: match &stored.content {
                Content::Bytes(bytes) => Some(v1::scan_row::Content::Value(bytes.clone())),
                Content::Total(total) => Some(v1::scan_row::Content::Total(*total)),
                Content::Member => None,
            },
            etag: etag(stored.version),
        };
        let (rows, next_page_token) = page(rows.map(row), r.page_size, &r.page_token)?;
        Ok(Reply::Scan(v1::ScanReply {
            header: None,
            rows,
            next_page_token,
        }))
    }

    fn members(&self, r: &v1::MembersRequest) -> Result<Reply, Refused> {
        check(&r.keyspace, &["set"])?;
        let from = (r.keyspace.clone(), r.key.clone(), r.sort.clone(), None);
        let elements = self
            .rows
            .range((Bound::Included(from), Bound::Unbounded))
            .take_while(|(name, _)| (&name.0, &name.1, &name.2) == (&r.keyspace, &r.key, &r.sort))
            .filter_map(|(name, _)| name.3.clone());
        let (elements, next_page_token) = page(elements, r.page_size, &r.page_token)?;
        Ok(Reply::Members(v1::MembersReply {
            header: None,
            elements,
            next_page_token,
        }))
    }
}

fn page<T>(
    rows: impl Iterator<Item = T>,
    size: u32,
    token: &Bytes,
) -> Result<(Vec<T>, Bytes), Refused> {
    let size = if size == 0 { 100 } else { size as usize };
    let text = str::from_utf8(token).unwrap_or("?");
    let skip = if text.is_empty() {
        Ok(0)
    } else {
        text.parse::<usize>()
    };
    let skip = skip.map_err(|_| refused(3, "INVALID", "page_token: not one of ours"))?;
    let mut page: Vec<T> = rows.skip(skip).take(size + 1).collect();
    let more = page.len() > size;
    page.truncate(size);
    let next = if more {
        Bytes::from((skip + size).to_string())
    } else {
        Bytes::new()
    };
    Ok((page, next))
}

fn etag(version: u64) -> Bytes {
    Bytes::copy_from_slice(&version.to_be_bytes())
}

fn set_header(reply: &mut Reply, header: v1::ReplyHeader) {
    let place = match reply {
        Reply::Get(reply) => &mut reply.header,
        Reply::Put(reply) => &mut reply.header,
        Reply::Delete(reply) => &mut reply.header,
        Reply::CompareAndSet(reply) => &mut reply.header,
        Reply::Update(reply) => &mut reply.header,
        Reply::Scan(reply) => &mut reply.header,
        Reply::BatchGet(reply) => &mut reply.header,
        Reply::Members(reply) => &mut reply.header,
        Reply::Hello(_) | Reply::Error(_) => return,
    };
    *place = Some(header);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repetition_is_held_against_its_first_attempt() {
        use v1::Level::{Eventual, Session, Strong, Unspecified};
        let nodes = ["a-1".to_owned(), "b-1".to_owned()];
        let refusal = |first_node: &str, first_level: v1::Level, level| {
            let id = v1::RequestId {
                session: 7,
                seq: 1,
                issued_hlc: 1,
                attempt: 1,
                first_node: first_node.to_owned(),
                first_level: first_level.into(),
            };
            let refused = check_request_id(&id, &nodes, "a-1", level).err()?;
            Some((refused.reason, refused.applied))
        };
        // As with the level of the request: none named is the default.
        assert_eq!(refusal("a-1", Unspecified, Eventual), None);
        assert_eq!(refusal("a-1", Eventual, Eventual), None);
        assert_eq!(refusal("b-1", Strong, Strong), None);
        let invalid = Some(("INVALID", v1::Applied::No));
        assert_eq!(refusal("a-1", Unspecified, Strong), invalid);
        assert_eq!(refusal("a-1", Eventual, Session), invalid);
        assert_eq!(refusal("c-1", Strong, Strong), invalid);
        assert_eq!(refusal("", Strong, Strong), invalid);
        let unknown = Some(("UNKNOWN_OUTCOME", v1::Applied::Maybe));
        assert_eq!(refusal("b-1", Session, Session), unknown);
    }
}
