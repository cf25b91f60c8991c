//! One long-lived stream for many requests: client-chosen numbers, replies in any order.
//!
//! No task and no queue of its own: the stream of replies drives the open requests while the connection asks it
//! for more, and reads further requests only while fewer than
//! [`PIPE_IN_FLIGHT_MAX`](crate::limits::PIPE_IN_FLIGHT_MAX) are open. When the connection
//! goes, everything open is dropped, and with it cancelled. A request that can not be read ends the stream, after
//! everything before it was answered.

use std::collections::HashSet;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::Stream;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use hansa_proto::v1;
use hansa_proto::v1::pipe_reply::Body;
use tonic::Status;

use super::Edge;
use super::kv::BatchRoom;
use super::status::{Failure, broken_stream, unreadable};
use crate::limits::PIPE_IN_FLIGHT_MAX;

type Open = Pin<Box<dyn Future<Output = v1::PipeReply> + Send>>;

/// The replies of one Pipe whose requests come in by `S`.
pub(super) struct Replies<S> {
    edge: Arc<Edge>,
    requests: S,
    /// The client has closed its side.
    ended: bool,
    greeted: bool,
    open: FuturesUnordered<Open>,
    numbers: HashSet<u64>,
    /// Of its own: a client that reads no replies holds up its own batches only.
    batch_room: Arc<BatchRoom>,
    /// Why the stream can not go on: said when everything open is answered.
    last: Option<Status>,
}

impl<S> Replies<S> {
    pub(super) fn new(edge: Arc<Edge>, requests: S) -> Replies<S> {
        edge.metrics.pipes(1);
        Replies {
            edge,
            requests,
            ended: false,
            greeted: false,
            open: FuturesUnordered::new(),
            numbers: HashSet::new(),
            batch_room: Arc::default(),
            last: None,
        }
    }

    fn hello(&self) -> v1::PipeReply {
        let (names, node) = (&self.edge.names, self.edge.node);
        let region = names.node_names(node).map(|node| node.region);
        let hello = v1::Hello {
            cluster_id: names.cluster_id().to_owned(),
            node: names.node_name(node).to_owned(),
            region: region.map_or(String::new(), |r| names.region_name(r).to_owned()),
            epoch: names.epoch(),
            server_hlc: self.edge.hlc().0,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            in_flight_max: PIPE_IN_FLIGHT_MAX as u32,
        };
        v1::PipeReply {
            id: 0,
            body: Some(Body::Hello(hello)),
        }
    }

    /// Begins to serve a request.
    fn begin(&mut self, request: v1::PipeRequest) -> Result<(), Failure> {
        let id = request.id;
        if id == 0 {
            return Err(broken_stream("0 is the hello's: count from 1"));
        }
        if !self.numbers.insert(id) {
            return Err(broken_stream("is the number of a request still open"));
        }
        let (edge, room) = (Arc::clone(&self.edge), Arc::clone(&self.batch_room));
        self.open.push(Box::pin(async move {
            let served = match request.body {
                Some(body) => edge.serve(body, &room).await,
                None => Err(Failure::invalid("body", "say what to do")),
            };
            let body = served.unwrap_or_else(|failure| Body::Error(failure.into_error(edge.hlc())));
            v1::PipeReply {
                id,
                body: Some(body),
            }
        }));
        Ok(())
    }
}

impl<S: Stream<Item = Result<v1::PipeRequest, Status>> + Unpin> Stream for Replies<S> {
    type Item = Result<v1::PipeReply, Status>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if !this.greeted {
            this.greeted = true;
            return Poll::Ready(Some(Ok(this.hello())));
        }
        while !this.ended && this.open.len() < PIPE_IN_FLIGHT_MAX {
            match this.requests.poll_next_unpin(context) {
                Poll::Pending => break,
                Poll::Ready(None) => this.ended = true,
                Poll::Ready(Some(Ok(request))) => {
                    if let Err(failure) = this.begin(request) {
                        // What is open is dropped: its numbers can not be trusted.
                        this.ended = true;
                        this.open.clear();
                        return Poll::Ready(Some(Err(this.edge.refusal(failure))));
                    }
                }
                Poll::Ready(Some(Err(status))) => {
                    // Nothing behind it can be read, but what came before it did nothing wrong.
                    this.ended = true;
                    let failure = unreadable(&status);
                    this.last = Some(failure.map_or(status, |failure| this.edge.refusal(failure)));
                }
            }
        }
        match this.open.poll_next_unpin(context) {
            Poll::Ready(Some(reply)) => {
                this.numbers.remove(&reply.id);
                Poll::Ready(Some(Ok(reply)))
            }
            Poll::Ready(None) if this.ended => Poll::Ready(this.last.take().map(Err)),
            // No request is open: the requests' stream wakes us.
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }
}

impl<S> Drop for Replies<S> {
    fn drop(&mut self) {
        self.edge.metrics.pipes(-1);
    }
}
