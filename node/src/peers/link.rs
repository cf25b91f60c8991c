//! One link: dial, greet, send until it breaks, pause, dial again.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream;
use hansa_consistency::key::NodeId;
use hansa_proto::v1::peer_client::PeerClient;
use hansa_proto::v1::{PeerFrame, PeerHello, peer_frame};
use tonic::transport::{Channel, Endpoint};
use tonic::{Status, Streaming};

use super::outbox::Outbox;
use crate::driver::DriverHandle;
use crate::grpc::peer::{HelloError, check_hello};
use crate::limits::{
    CONNECT_WITHIN, CONNECTION_WINDOW_BYTES, HELLO_WITHIN, KEEP_ALIVE_INTERVAL, KEEP_ALIVE_TIMEOUT,
    MESSAGE_BYTES_MAX, RECONNECT_PAUSE_MAX, STREAM_WINDOW_BYTES,
};
use crate::metrics::{Direction, Metrics};
use crate::settings::Names;

/// The first pause after a link broke.
const RECONNECT_PAUSE_MIN: Duration = Duration::from_millis(50);

/// The link to one peer.
pub(super) struct Link {
    pub(super) me: NodeId,
    pub(super) peer: NodeId,
    /// host:port.
    pub(super) address: String,
    pub(super) names: Arc<Names>,
    pub(super) greeting: PeerHello,
    pub(super) outbox: Arc<Outbox>,
    pub(super) driver: DriverHandle,
    pub(super) metrics: Arc<Metrics>,
}

/// Why a link does not stand.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("can not be reached: {0}")]
    Unreachable(#[from] tonic::transport::Error),
    #[error("did not say hello in time")]
    Silent,
    #[error("{}", .0.message())]
    Status(#[from] Status),
    #[error("is none of ours: {0}")]
    Stranger(#[from] HelloError),
    #[error("says it is node `{0}`: check its address")]
    SomebodyElse(String),
    #[error("does not begin with a hello")]
    Speechless,
    #[error("ended the stream")]
    Ended,
}

/// Says on our side that the link is down, whatever ended it.
struct Standing<'a>(&'a Link);

impl<'a> Standing<'a> {
    fn begin(link: &'a Link) -> Standing<'a> {
        link.metrics.link(link.peer, true);
        link.driver.link_up(link.peer);
        Standing(link)
    }
}

impl Drop for Standing<'_> {
    fn drop(&mut self) {
        let link = self.0;
        link.outbox.close();
        link.metrics.link(link.peer, false);
        link.driver.link_down(link.peer);
    }
}

impl Link {
    /// Keeps the link up for as long as the node runs.
    pub(super) async fn run(self) {
        let peer = self.names.node_name(self.peer).to_owned();
        self.metrics.link(self.peer, false);
        let mut pause = RECONNECT_PAUSE_MIN;
        let mut said = String::new();
        loop {
            let mut stood = false;
            let broken = self.keep(&mut stood).await;
            let why = broken.to_string();
            // A peer that is away for hours says so once.
            if stood || why != said {
                tracing::warn!(peer, address = self.address, why, "the link is down");
                said = why;
            }
            if stood {
                pause = RECONNECT_PAUSE_MIN;
            }
            tokio::time::sleep(pause.mul_f64(rand::random_range(0.5..1.0))).await;
            pause = (pause * 2).min(RECONNECT_PAUSE_MAX);
        }
    }

    /// One life of the link. `stood` tells whether it ever stood.
    async fn keep(&self, stood: &mut bool) -> Broken {
        let mut incoming = match self.connect().await {
            Ok(incoming) => incoming,
            Err(broken) => {
                self.outbox.close();
                return broken;
            }
        };
        *stood = true;
        let standing = Standing::begin(self);
        tracing::info!(peer = self.names.node_name(self.peer), "the link stands");
        let broken = loop {
            match incoming.message().await {
                // The other side says nothing after its hello; a later version may.
                Ok(Some(_)) => {}
                Ok(None) => break Broken::Ended,
                Err(status) => break status.into(),
            }
        };
        drop(standing);
        broken
    }

    /// Dials and greets.
    async fn connect(&self) -> Result<Streaming<PeerFrame>, Broken> {
        let channel = self.channel().await?;
        let number = self.outbox.open();
        let greet = async {
            let mut client = PeerClient::new(channel)
                .max_decoding_message_size(MESSAGE_BYTES_MAX)
                .max_encoding_message_size(MESSAGE_BYTES_MAX);
            let mut incoming = client.link(self.outgoing(number)).await?.into_inner();
            match incoming.message().await?.and_then(|frame| frame.body) {
                Some(peer_frame::Body::Hello(theirs)) => self.check(&theirs)?,
                _ => return Err(Broken::Speechless),
            }
            Ok(incoming)
        };
        let greeted = tokio::time::timeout(HELLO_WITHIN, greet).await;
        greeted.unwrap_or(Err(Broken::Silent))
    }

    async fn channel(&self) -> Result<Channel, tonic::transport::Error> {
        let channel = Endpoint::from_shared(format!("http://{}", self.address))?
            .connect_timeout(CONNECT_WITHIN)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES);
        channel.connect().await
    }

    fn check(&self, theirs: &PeerHello) -> Result<(), Broken> {
        let node = check_hello(&self.names, self.me, theirs)?;
        match node == self.peer {
            true => Ok(()),
            false => Err(Broken::SomebodyElse(theirs.node.clone())),
        }
    }

    /// Our frames: the hello, then whatever the outbox holds.
    fn outgoing(&self, number: u64) -> impl stream::Stream<Item = PeerFrame> + Send + use<> {
        let hello = PeerFrame {
            body: Some(peer_frame::Body::Hello(self.greeting.clone())),
        };
        let outbox = Arc::clone(&self.outbox);
        let metrics = Arc::clone(&self.metrics);
        let peer = self.peer;
        stream::unfold((Some(hello), outbox), move |(hello, outbox)| {
            let metrics = Arc::clone(&metrics);
            async move {
                if let Some(hello) = hello {
                    return Some((hello, (None, outbox)));
                }
                let parcel = outbox.next(number).await?;
                metrics.message(peer, Direction::Sent, parcel.kind, parcel.bytes);
                Some((parcel.frame, (None, outbox)))
            }
        })
    }
}
