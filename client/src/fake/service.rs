//! The pretended gRPC services.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use hansa_proto::v1;
use hansa_proto::v1::admin_server::{Admin, AdminServer};
use hansa_proto::v1::kv_server::{Kv, KvServer};
use hansa_proto::v1::pipe_reply::Body as Reply;
use hansa_proto::v1::pipe_request::Body as Request;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Response, Status, Streaming};

use crate::consistency::Consistency;
use crate::error::Applied;

use super::data::{Refused, check_request_id, or_default};
use super::{Fault, Seen, Shared, lock};

const CLUSTER: &str = "fake";
/// Where the pretended server clock starts, any number but 0; every write moves it on by 1.
const HLC: u64 = 1 << 16;

#[derive(Clone, Debug)]
pub(super) struct Service {
    pub(super) node: String,
    pub(super) region: String,
    pub(super) faults: Arc<Mutex<VecDeque<Fault>>>,
    pub(super) shared: Arc<Shared>,
}

type Outbox = mpsc::Sender<Result<v1::PipeReply, Status>>;

impl Service {
    pub(super) async fn serve(self, listener: TcpListener) {
        // The runtime's end is the server's end; an error of the listener ends it as well, and the
        // test sees a node that does not answer.
        let _ = tonic::transport::Server::builder()
            .add_service(KvServer::new(self.clone()))
            .add_service(AdminServer::new(self))
            .serve_with_incoming(TcpListenerStream::new(listener))
            .await;
    }

    /// One request after the other; only `Delay` and `Silence` let others pass.
    async fn converse(self, mut requests: Streaming<v1::PipeRequest>, outbox: Outbox) {
        let hello = Reply::Hello(v1::Hello {
            cluster_id: CLUSTER.to_owned(),
            node: self.node.clone(),
            region: self.region.clone(),
            epoch: 1,
            server_hlc: HLC + lock(&self.shared.data).version,
            version: "fake".to_owned(),
            in_flight_max: 1024,
        });
        if send(&outbox, 0, hello).await.is_err() {
            return;
        }
        while let Ok(Some(v1::PipeRequest { id, body })) = requests.message().await {
            let Some(body) = body else { continue };
            let fault = lock(&self.faults).pop_front();
            self.record(&body);
            let reply = match &fault {
                Some(Fault::BreakBefore) => None,
                Some(Fault::Refuse {
                    reason,
                    code,
                    applied,
                    retry_after_ms,
                }) => Some(Reply::Error(v1::Error {
                    code: *code,
                    reason: (*reason).to_owned(),
                    applied: claim(*applied).into(),
                    message: "as the test asked for".to_owned(),
                    retry_after_ms: *retry_after_ms,
                    ..v1::Error::default()
                })),
                _ => Some(self.answer(&body)),
            };
            match (fault, reply) {
                (Some(Fault::BreakBefore | Fault::BreakAfter), _) | (_, None) => {
                    let _ = outbox.send(Err(Status::unavailable("told to break"))).await;
                    return;
                }
                (Some(Fault::Silence), _) => {}
                (Some(Fault::Delay(time)), Some(reply)) => {
                    let outbox = outbox.clone();
                    tokio::spawn(async move {
                        tokio::time::sleep(time).await;
                        let _ = send(&outbox, id, reply).await;
                    });
                }
                (_, Some(reply)) => {
                    if send(&outbox, id, reply).await.is_err() {
                        return;
                    }
                }
            }
        }
    }

    fn record(&self, body: &Request) {
        let options = options(body);
        let level = match options.level() {
            v1::Level::Eventual => Consistency::Eventual,
            v1::Level::Session => Consistency::Session,
            v1::Level::Strong => Consistency::Strong,
            _ => Consistency::KeyspaceDefault,
        };
        let id = options.request_id.as_ref();
        lock(&self.shared.seen).push(Seen {
            node: self.node.clone(),
            command: command(body),
            level,
            token: options.session_token.clone(),
            request_id: id.map(|id| (id.session, id.seq, id.attempt)),
            issued_hlc: id.map_or(0, |id| id.issued_hlc),
            first_node: id.map(|id| id.first_node.clone()).unwrap_or_default(),
            deadline_ms: options.deadline_ms,
        });
    }

    fn answer(&self, body: &Request) -> Reply {
        let options = options(body);
        let level = or_default(options.level());
        let strong = level == v1::Level::Strong;
        let path = match strong {
            true => v1::Path::Proven,
            false => v1::Path::Unspecified,
        };
        let header = |version: u64| v1::ReplyHeader {
            level: level.into(),
            session_token: Bytes::copy_from_slice(&version.to_be_bytes()),
            receipt: Some(v1::Receipt {
                staleness_ms: Some(if strong { 0 } else { 7 }),
                served_by: self.node.clone(),
                served_in: self.region.clone(),
                replicas: vec![self.node.clone()],
                regions: vec![self.region.clone()],
                durable_regions: vec![self.region.clone()],
                wan_round_trips: u32::from(strong),
                absorbed: false,
                merged: false,
                forwarded_to: String::new(),
                path: path.into(),
            }),
            server_hlc: HLC + version,
            epoch: 1,
        };
        let nodes = &self.shared.nodes;
        let checked = match &options.request_id {
            Some(id) => check_request_id(id, nodes, &self.node, level),
            None => Ok(()),
        };
        let answer = checked.and_then(|()| lock(&self.shared.data).answer(body, &options, header));
        answer.unwrap_or_else(|refused| {
            let Refused {
                code,
                reason,
                applied,
                message,
                etag,
            } = refused;
            Reply::Error(v1::Error {
                code,
                reason: reason.to_owned(),
                applied: applied.into(),
                message: message.to_owned(),
                etag,
                ..v1::Error::default()
            })
        })
    }
}

async fn send(outbox: &Outbox, id: u64, body: Reply) -> Result<(), ()> {
    let body = Some(body);
    let sent = outbox.send(Ok(v1::PipeReply { id, body })).await;
    sent.map_err(|_| ())
}

fn claim(applied: Applied) -> v1::Applied {
    match applied {
        Applied::No => v1::Applied::No,
        Applied::Maybe => v1::Applied::Maybe,
    }
}

fn options(body: &Request) -> v1::RequestOptions {
    let options = match body {
        Request::Get(request) => &request.options,
        Request::Put(request) => &request.options,
        Request::Delete(request) => &request.options,
        Request::CompareAndSet(request) => &request.options,
        Request::Update(request) => &request.options,
        Request::Scan(request) => &request.options,
        Request::BatchGet(request) => &request.options,
        Request::Members(request) => &request.options,
    };
    options.clone().unwrap_or_default()
}

fn command(body: &Request) -> &'static str {
    match body {
        Request::Get(_) => "get",
        Request::Put(_) => "put",
        Request::Delete(_) => "delete",
        Request::CompareAndSet(_) => "compare_and_set",
        Request::Update(_) => "update",
        Request::Scan(_) => "scan",
        Request::BatchGet(_) => "batch_get",
        Request::Members(_) => "members",
    }
}

macro_rules! kv {
    ($($method:ident: $request:ident -> $reply:ident),* $(,)?) => {
        #[tonic::async_trait]
        impl Kv for Service {
            type PipeStream =
                Pin<Box<dyn Stream<Item = Result<v1::PipeReply, Status>> + Send + 'static>>;

            async fn pipe(
                &self,
                request: tonic::Request<Streaming<v1::PipeRequest>>,
            ) -> Result<Response<Self::PipeStream>, Status> {
                let (outbox, replies) = mpsc::channel(64);
                tokio::spawn(self.clone().converse(request.into_inner(), outbox));
                Ok(Response::new(Box::pin(ReceiverStream::new(replies))))
            }

            $(async fn $method(
                &self,
                _: tonic::Request<v1::$request>,
            ) -> Result<Response<v1::$reply>, Status> {
                Err(Status::unimplemented("the fake serves Pipe only"))
            })*
        }
    };
}

kv! {
    get: GetRequest -> GetReply,
    put: PutRequest -> PutReply,
    delete: DeleteRequest -> DeleteReply,
    compare_and_set: CompareAndSetRequest -> CompareAndSetReply,
    update: UpdateRequest -> UpdateReply,
    scan: ScanRequest -> ScanReply,
    batch_get: BatchGetRequest -> BatchGetReply,
    members: MembersRequest -> MembersReply,
}

#[tonic::async_trait]
impl Admin for Service {
    async fn status(
        &self,
        _: tonic::Request<v1::StatusRequest>,
    ) -> Result<Response<v1::StatusReply>, Status> {
        Ok(Response::new(v1::StatusReply {
            cluster_id: CLUSTER.to_owned(),
            node: self.node.clone(),
            region: self.region.clone(),
            epoch: 1,
            version: "fake".to_owned(),
            standing: v1::Standing::Voting.into(),
            levels: ["eventual", "session", "strong"].map(str::to_owned).into(),
            incarnation: 1,
            start: 1,
            server_hlc: HLC,
            ..v1::StatusReply::default()
        }))
    }

    async fn topology(
        &self,
        _: tonic::Request<v1::TopologyRequest>,
    ) -> Result<Response<v1::TopologyReply>, Status> {
        Ok(Response::new(v1::TopologyReply {
            cluster_id: CLUSTER.to_owned(),
            epoch: 1,
            ..v1::TopologyReply::default()
        }))
    }

    async fn digest(
        &self,
        _: tonic::Request<v1::DigestRequest>,
    ) -> Result<Response<v1::DigestReply>, Status> {
        Ok(Response::new(v1::DigestReply::default()))
    }

    async fn set_link(
        &self,
        request: tonic::Request<v1::SetLinkRequest>,
    ) -> Result<Response<v1::SetLinkReply>, Status> {
        let request = request.into_inner();
        let cut = request.state() == v1::LinkState::Cut;
        lock(&self.shared.links).push((request.region, cut));
        Ok(Response::new(v1::SetLinkReply { links: 4 }))
    }
}
