//! Reads and writes of single rows, and of several at once.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::FuturesOrdered;
use futures_util::{Stream, StreamExt as _};
use hansa_consistency::key::Row;
use hansa_consistency::register::Expect;
use hansa_consistency::request::{Answer, Applied, Command, Found, Level, Reply};
use hansa_proto::v1;
use hansa_proto::v1::compare_and_set_request::Expect as WireExpect;
use hansa_proto::v1::update_request::Change;
use hansa_proto::v1::{kv_server::Kv, pipe_reply, pipe_request};
use tokio::sync::{Semaphore, SemaphorePermit};
use tonic::{Request, Response, Status, Streaming};

use super::pipe::Replies;
use super::status::Failure;
use super::wire::{self, Options, Target};
use super::{Edge, transport_deadline};
use crate::limits::{BATCH_KEYS_MAX, BATCH_READS_MAX, BATCH_REPLY_BYTES_MAX};

/// Time a transport leaves for a request.
type Within = Option<Duration>;

/// What a write answers: its header, the new etag, a counter's value.
struct Written {
    header: v1::ReplyHeader,
    etag: bytes::Bytes,
    total: i64,
}

impl Edge {
    /// The header of a reply.
    fn header(&self, reply: &Reply) -> v1::ReplyHeader {
        let (context, hlc) = (&reply.context, reply.hlc);
        wire::header(
            &self.names,
            self.node,
            reply.level,
            context,
            hlc,
            &reply.receipt,
        )
    }

    async fn write(
        &self,
        target: Target<'_>,
        command: Command,
        options: Option<v1::RequestOptions>,
        default_level: Level,
        within: Within,
    ) -> Result<Written, Failure> {
        debug_assert_eq!(
            command.row().map(|row| row.shard().keyspace),
            Some(target.id)
        );
        let now = self.driver.now();
        let options = wire::options(&self.names, now, options, default_level, within)?;
        let reply = self.ask(options.request(command)).await?;
        let header = self.header(&reply);
        match reply.answer {
            Answer::Written { etag, total } => Ok(Written {
                header,
                etag,
                total,
            }),
            _ => Err(Failure::internal("a write was answered by something else")),
        }
    }

    async fn get(&self, request: v1::GetRequest, within: Within) -> Result<v1::GetReply, Failure> {
        let target = wire::target(&self.names, &request.keyspace)?;
        let row = target.row(&request.key, &request.sort, request.element.as_deref())?;
        let (now, default) = (self.driver.now(), target.default_level);
        let options = wire::options(&self.names, now, request.options, default, within)?;
        let reply = self.ask(options.request(Command::Get(row))).await?;
        let header = Some(self.header(&reply));
        let (found, etag) = read(reply.answer)?;
        let (found, value, total) = wire::found_to_wire(found);
        use v1::get_reply::Content;
        Ok(v1::GetReply {
            header,
            found,
            content: value.map(Content::Value).or(total.map(Content::Total)),
            etag,
        })
    }

    async fn put(&self, request: v1::PutRequest, within: Within) -> Result<v1::PutReply, Failure> {
        let target = wire::target(&self.names, &request.keyspace)?;
        let row = target.row(&request.key, &request.sort, None)?;
        let command = Command::Put(row, wire::value("value", request.value)?);
        let default = target.default_level;
        let done = self.write(target, command, request.options, default, within);
        done.await.map(|done| v1::PutReply {
            header: Some(done.header),
            etag: done.etag,
        })
    }

    async fn delete(
        &self,
        request: v1::DeleteRequest,
        within: Within,
    ) -> Result<v1::DeleteReply, Failure> {
        let target = wire::target(&self.names, &request.keyspace)?;
        let command = Command::Delete(target.row(&request.key, &request.sort, None)?);
        let default = target.default_level;
        let done = self.write(target, command, request.options, default, within);
        done.await.map(|done| v1::DeleteReply {
            header: Some(done.header),
            etag: done.etag,
        })
    }

    async fn compare_and_set(
        &self,
        request: v1::CompareAndSetRequest,
        within: Within,
    ) -> Result<v1::CompareAndSetReply, Failure> {
        let target = wire::target(&self.names, &request.keyspace)?;
        let row = target.row(&request.key, &request.sort, None)?;
        let expect = match request.expect {
            Some(WireExpect::ExpectAbsent(true)) => Expect::Absent,
            Some(WireExpect::ExpectEtag(etag)) => Expect::Etag(wire::etag(etag)?),
            Some(WireExpect::ExpectValue(bytes)) => {
                Expect::Value(wire::value("expect_value", bytes)?)
            }
            Some(WireExpect::ExpectAbsent(false)) | None => {
                let message =
                    "say what must be found: expect_absent = true, expect_etag or expect_value";
                return Err(Failure::invalid("expect", message));
            }
        };
        let value = request.value.map(|v| wire::value("value", v)).transpose()?;
        let command = Command::CompareAndSet(row, expect, value);
        // There is only one level it makes sense at, so it need not be said.
        let done = self.write(target, command, request.options, Level::Strong, within);
        done.await.map(|done| v1::CompareAndSetReply {
            header: Some(done.header),
            etag: done.etag,
        })
    }

    async fn update(
        &self,
        request: v1::UpdateRequest,
        within: Within,
    ) -> Result<v1::UpdateReply, Failure> {
        let target = wire::target(&self.names, &request.keyspace)?;
        let row = |element| target.row(&request.key, &request.sort, element);
        let command = match &request.change {
            Some(Change::Increment(amount)) => Command::Increment(row(None)?, *amount),
            Some(Change::Add(element)) => Command::AddElement(row(Some(element))?),
            Some(Change::Remove(element)) => Command::RemoveElement(row(Some(element))?),
            None => {
                let message = "say what to do: increment, add or remove";
                return Err(Failure::invalid("change", message));
            }
        };
        let default = target.default_level;
        let counter = matches!(command, Command::Increment(..));
        let done = self.write(target, command, request.options, default, within);
        done.await.map(|done| v1::UpdateReply {
            header: Some(done.header),
            etag: done.etag,
            total: counter.then_some(done.total),
        })
    }

    async fn batch_get(
        &self,
        request: v1::BatchGetRequest,
        within: Within,
    ) -> Result<v1::BatchGetReply, Failure> {
        let room = &self.batch_room;
        self.batch_get_in(request, within, room).await
    }

    /// Reads the keys side by side, holding no more values than `room` has permits.
    async fn batch_get_in(
        &self,
        request: v1::BatchGetRequest,
        within: Within,
        room: &BatchRoom,
    ) -> Result<v1::BatchGetReply, Failure> {
        let target = wire::target(&self.names, &request.keyspace)?;
        let count = request.keys.len();
        if !(1..=BATCH_KEYS_MAX).contains(&count) {
            let message = format!("there are {count}, name 1 to {BATCH_KEYS_MAX}");
            return Err(Failure::invalid("keys", message));
        }
        let (now, default) = (self.driver.now(), target.default_level);
        let options = wire::options(&self.names, now, request.options, default, within)?;
        let row = |key: &v1::BatchKey| target.row(&key.key, &key.sort, key.element.as_deref());
        let rows: Vec<Row> = request.keys.iter().map(row).collect::<Result<_, _>>()?;
        let _room = self
            .room_for(count, &options, room.of(options.level))
            .await?;
        let ask = |row| self.ask(options.request(Command::Get(row)));
        let mut replies: FuturesOrdered<_> = rows.into_iter().map(ask).collect();
        let mut batch = Batch::default();
        while let Some(reply) = replies.next().await {
            // The first failure, and the first value too many, drop the rest, and so cancel it.
            batch.add(reply?)?;
        }
        Ok(v1::BatchGetReply {
            header: batch.sum.map(|sum| self.header(&sum)),
            rows: batch.rows,
        })
    }

    /// Waits until so many values more may be held.
    async fn room_for<'a>(
        &self,
        keys: usize,
        options: &Options,
        room: &'a Semaphore,
    ) -> Result<SemaphorePermit<'a>, Failure> {
        let left = options.deadline.saturating_sub(self.driver.now().monotonic);
        match tokio::time::timeout(left, room.acquire_many(keys as u32)).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) => Err(Failure::internal("the room for batches was closed")),
            Err(_) => Err(Failure::late(Applied::No)),
        }
    }

    /// Serves one request of a Pipe, whose batches share `room`.
    pub(super) async fn serve(
        &self,
        body: pipe_request::Body,
        room: &BatchRoom,
    ) -> Result<pipe_reply::Body, Failure> {
        use pipe_reply::Body as Reply;
        use pipe_request::Body as Ask;
        let (command, keyspace, options) = about(&body);
        let (keyspace, options) = (keyspace.to_owned(), options.cloned());
        let served = async {
            Ok(match body {
                Ask::Get(request) => Reply::Get(self.get(request, None).await?),
                Ask::Put(request) => Reply::Put(self.put(request, None).await?),
                Ask::Delete(request) => Reply::Delete(self.delete(request, None).await?),
                Ask::CompareAndSet(request) => {
                    Reply::CompareAndSet(self.compare_and_set(request, None).await?)
                }
                Ask::Update(request) => Reply::Update(self.update(request, None).await?),
                Ask::Scan(request) => Reply::Scan(self.scan(request, None).await?),
                Ask::BatchGet(request) => {
                    Reply::BatchGet(self.batch_get_in(request, None, room).await?)
                }
                Ask::Members(request) => Reply::Members(self.members(request, None).await?),
            })
        };
        self.counted(command, &keyspace, options.as_ref(), served)
            .await
    }
}

/// How many keys the batches of one Pipe, or all unary ones, read side by side. Eventual ones have a room of
/// their own: the others may wait for regions that are far away or cut off.
pub(super) struct BatchRoom {
    pub(super) eventual: Semaphore,
    pub(super) others: Semaphore,
}

impl Default for BatchRoom {
    fn default() -> BatchRoom {
        BatchRoom {
            eventual: Semaphore::new(BATCH_READS_MAX),
            others: Semaphore::new(BATCH_READS_MAX),
        }
    }
}

impl BatchRoom {
    fn of(&self, level: Level) -> &Semaphore {
        match level {
            Level::Eventual => &self.eventual,
            Level::Session | Level::Strong => &self.others,
        }
    }
}

/// The rows of a batch so far, and what they are worth together.
#[derive(Default)]
struct Batch {
    sum: Option<Reply>,
    rows: Vec<v1::BatchRow>,
    /// Values, bytes.
    bytes: usize,
}

impl Batch {
    /// Adds the next row, unless the values are too many for one reply.
    fn add(&mut self, reply: Reply) -> Result<(), Failure> {
        match &mut self.sum {
            // Its value is shared, not copied.
            None => self.sum = Some(reply.clone()),
            Some(sum) => {
                // They were asked side by side: the longest way counts, not the sum.
                let trips = &mut sum.receipt.wan_round_trips;
                *trips = (*trips).max(reply.receipt.wan_round_trips);
                sum.join(&reply);
            }
        }
        let (found, etag) = read(reply.answer)?;
        let (found, value, total) = wire::found_to_wire(found);
        self.bytes += value.as_ref().map_or(0, bytes::Bytes::len);
        if self.bytes > BATCH_REPLY_BYTES_MAX {
            return Err(Failure::reply_too_large());
        }
        use v1::batch_row::Content;
        self.rows.push(v1::BatchRow {
            found,
            content: value.map(Content::Value).or(total.map(Content::Total)),
            etag,
        });
        Ok(())
    }
}

/// What a request is counted under: its command, keyspace and options.
fn about(body: &pipe_request::Body) -> (&'static str, &str, Option<&v1::RequestOptions>) {
    use pipe_request::Body;
    match body {
        Body::Get(r) => ("get", &r.keyspace, r.options.as_ref()),
        Body::Put(r) => ("put", &r.keyspace, r.options.as_ref()),
        Body::Delete(r) => ("delete", &r.keyspace, r.options.as_ref()),
        Body::CompareAndSet(r) => ("compare_and_set", &r.keyspace, r.options.as_ref()),
        Body::Update(r) => ("update", &r.keyspace, r.options.as_ref()),
        Body::Scan(r) => ("scan", &r.keyspace, r.options.as_ref()),
        Body::BatchGet(r) => ("batch_get", &r.keyspace, r.options.as_ref()),
        Body::Members(r) => ("members", &r.keyspace, r.options.as_ref()),
    }
}

fn read(answer: Answer) -> Result<(Found, bytes::Bytes), Failure> {
    match answer {
        Answer::Read { found, etag } => Ok((found, etag)),
        _ => Err(Failure::internal("a read was answered by something else")),
    }
}

/// The service `hansa.v1.Kv`.
pub(super) struct KvService {
    edge: Arc<Edge>,
}

impl KvService {
    pub(super) fn new(edge: Arc<Edge>) -> KvService {
        KvService { edge }
    }
}

/// One unary method: decode, serve, count, encode.
macro_rules! unary {
    ($service:ident, $request:ident, $method:ident) => {{
        let within = transport_deadline($request.metadata());
        let (edge, request) = (&$service.edge, $request.into_inner());
        let (keyspace, options) = (request.keyspace.clone(), request.options.clone());
        let served = edge.$method(request, within);
        let counted = edge.counted(stringify!($method), &keyspace, options.as_ref(), served);
        counted
            .await
            .map(Response::new)
            .map_err(|failure| edge.refusal(failure))
    }};
}

#[tonic::async_trait]
impl Kv for KvService {
    async fn get(
        &self,
        request: Request<v1::GetRequest>,
    ) -> Result<Response<v1::GetReply>, Status> {
        unary!(self, request, get)
    }

    async fn put(
        &self,
        request: Request<v1::PutRequest>,
    ) -> Result<Response<v1::PutReply>, Status> {
        unary!(self, request, put)
    }

    async fn delete(
        &self,
        request: Request<v1::DeleteRequest>,
    ) -> Result<Response<v1::DeleteReply>, Status> {
        unary!(self, request, delete)
    }

    async fn compare_and_set(
        &self,
        request: Request<v1::CompareAndSetRequest>,
    ) -> Result<Response<v1::CompareAndSetReply>, Status> {
        unary!(self, request, compare_and_set)
    }

    async fn update(
        &self,
        request: Request<v1::UpdateRequest>,
    ) -> Result<Response<v1::UpdateReply>, Status> {
        unary!(self, request, update)
    }

    async fn scan(
        &self,
        request: Request<v1::ScanRequest>,
    ) -> Result<Response<v1::ScanReply>, Status> {
        unary!(self, request, scan)
    }

    async fn batch_get(
        &self,
        request: Request<v1::BatchGetRequest>,
    ) -> Result<Response<v1::BatchGetReply>, Status> {
        unary!(self, request, batch_get)
    }

    async fn members(
        &self,
        request: Request<v1::MembersRequest>,
    ) -> Result<Response<v1::MembersReply>, Status> {
        unary!(self, request, members)
    }

    type PipeStream = Pin<Box<dyn Stream<Item = Result<v1::PipeReply, Status>> + Send>>;

    async fn pipe(
        &self,
        request: Request<Streaming<v1::PipeRequest>>,
    ) -> Result<Response<Self::PipeStream>, Status> {
        let replies = Replies::new(Arc::clone(&self.edge), request.into_inner());
        Ok(Response::new(Box::pin(replies)))
    }
}
