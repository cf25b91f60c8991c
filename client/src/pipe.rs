//! One long-lived stream to a node: many requests at once, replies in any order.
//!
//! A stream over `Kv.Pipe` costs a tenth of the CPU of unary calls. It lives until the connection
//! breaks; then every open call is told so, and the endpoint makes a new one for the next call.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hansa_proto::MESSAGE_BYTES_MAX;
use hansa_proto::v1::kv_client::KvClient;
use hansa_proto::v1::{Hello, PipeReply, PipeRequest, pipe_reply, pipe_request};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use crate::error::{Error, what_came, what_came_first, with_sources};

/// Requests handed to the transport and not yet written: enough to fill a packet.
const OUTBOX_REQUESTS: usize = 64;
/// Requests open at once on one stream when the server names no bound of its own.
const IN_FLIGHT_DEFAULT: usize = 1024;

/// How a call on a stream ended without a reply.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The request never left.
    NotSent(Error),
    /// It left, and the stream broke before the reply came; why.
    Broken(String),
}

/// Open calls by their number; `None` once the stream broke.
#[derive(Debug)]
struct Waiting(Mutex<Option<HashMap<u64, oneshot::Sender<pipe_reply::Body>>>>);

impl Waiting {
    fn lock(&self) -> MutexGuard<'_, Option<HashMap<u64, oneshot::Sender<pipe_reply::Body>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A stream to one node.
#[derive(Debug)]
pub(crate) struct Stream {
    /// What the node said about itself.
    pub(crate) hello: Hello,
    /// How long that took on a standing connection: one round trip.
    pub(crate) greeted_in: Duration,
    requests: mpsc::Sender<PipeRequest>,
    waiting: Arc<Waiting>,
    /// Why the stream broke, once it did.
    broken: Arc<Mutex<String>>,
    slots: Semaphore,
    next_id: AtomicU64,
}

impl Stream {
    /// Connects and waits for the greeting. The caller bounds the time.
    pub(crate) async fn open(channel: &tonic::transport::Endpoint) -> Result<Stream, Error> {
        let connection = channel
            .connect()
            .await
            .map_err(|error| Error::unreachable(with_sources(&error)))?;
        let mut client = KvClient::new(connection)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        let asked = Instant::now();
        let (requests, outbox) = mpsc::channel(OUTBOX_REQUESTS);
        let refused = |status: Status| Error::unreachable(what_came_first(&status));
        let replies = client
            .pipe(ReceiverStream::new(outbox))
            .await
            .map_err(refused)?;
        let mut replies = replies.into_inner();
        let hello = match replies.message().await.map_err(refused)? {
            Some(PipeReply {
                id: 0,
                body: Some(pipe_reply::Body::Hello(hello)),
            }) => hello,
            _ => {
                return Err(Error::unreachable(
                    "what answers there did not greet: it is no client port of a Hansa node",
                ));
            }
        };
        let waiting = Arc::new(Waiting(Mutex::new(Some(HashMap::new()))));
        let broken = Arc::new(Mutex::new(String::new()));
        tokio::spawn(receive(replies, waiting.clone(), broken.clone()));
        let bound = match hello.in_flight_max {
            0 => IN_FLIGHT_DEFAULT,
            bound => usize::try_from(bound).unwrap_or(IN_FLIGHT_DEFAULT),
        };
        Ok(Stream {
            hello,
            greeted_in: asked.elapsed(),
            requests,
            waiting,
            broken,
            slots: Semaphore::new(bound.min(Semaphore::MAX_PERMITS)),
            next_id: AtomicU64::new(1),
        })
    }

    /// Whether nobody noticed yet that it broke.
    pub(crate) fn is_open(&self) -> bool {
        self.waiting.lock().is_some() && !self.requests.is_closed()
    }

    /// Sends one request and waits for its reply. `sent` becomes true the moment the request is out
    /// of our hands; dropping the future forgets the reply and recalls nothing.
    pub(crate) async fn call(
        &self,
        body: pipe_request::Body,
        sent: &AtomicBool,
    ) -> Result<pipe_reply::Body, Failure> {
        let not_sent = || Failure::NotSent(Error::unreachable("the connection broke"));
        let _slot = self.slots.acquire().await.map_err(|_| not_sent())?;
        let outbox = self.requests.reserve().await.map_err(|_| not_sent())?;
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let (reply, answer) = oneshot::channel();
        match self.waiting.lock().as_mut() {
            Some(waiting) => waiting.insert(id, reply),
            None => return Err(not_sent()),
        };
        let _forget = Forget {
            waiting: &self.waiting,
            id,
        };
        sent.store(true, Ordering::Relaxed);
        let body = Some(body);
        outbox.send(PipeRequest { id, body });
        answer.await.map_err(|_| Failure::Broken(self.why_broken()))
    }

    fn why_broken(&self) -> String {
        let why = self.broken.lock().unwrap_or_else(PoisonError::into_inner);
        format!("the connection broke before the reply came: {why}")
    }
}

/// Takes a call off the list when its caller stops waiting.
struct Forget<'a> {
    waiting: &'a Waiting,
    id: u64,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        if let Some(waiting) = self.waiting.lock().as_mut() {
            waiting.remove(&self.id);
        }
    }
}

/// Hands replies to their callers until the stream ends; then drops all callers' senders, which
/// tells them.
async fn receive(
    mut replies: Streaming<PipeReply>,
    waiting: Arc<Waiting>,
    broken: Arc<Mutex<String>>,
) {
    let why = loop {
        match replies.message().await {
            Ok(Some(PipeReply { id, body })) => {
                let caller = waiting.lock().as_mut().and_then(|open| open.remove(&id));
                if let (Some(caller), Some(body)) = (caller, body) {
                    // The caller may have stopped waiting meanwhile.
                    let _ = caller.send(body);
                }
            }
            Ok(None) => break "the server closed it".to_owned(),
            Err(status) => break what_came(&status),
        }
    };
    tracing::debug!(why, "stream ended");
    *broken.lock().unwrap_or_else(PoisonError::into_inner) = why;
    *waiting.lock() = None;
}
