//! Sessions: what a user has seen, carried from call to call, node to node, process to process.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::Mutex;

use crate::client::Client;
use crate::error::Error;
use crate::portable::{Portable, TOKEN_BYTES_MAX};
use crate::request_ids::Lane;

/// What changes from call to call.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) lane: Lane,
    /// The newest server clock value that its client was told before its latest call ended.
    pub(crate) issued: u64,
    /// The token of the latest reply: the servers join it with every request's.
    pub(crate) token: Bytes,
}

/// A session: read your writes, monotonic reads, monotonic writes and writes follow reads, over all
/// keys, at any node of any region.
///
/// Its calls have level [`Session`](crate::Consistency::Session) unless told otherwise, and every
/// reply moves it on, whatever its level. It runs one call at a time, in the order in which they
/// were awaited: the token is opaque and only a server can join two of them. Use one session per
/// user or per flow, not one for a whole program. Clones are the same session. The time a call waits
/// for those before it counts towards its deadline.
///
/// A write that failed with [`Applied::Maybe`](crate::Applied::Maybe), or whose call was dropped, is
/// not among what the session has seen: later reads may show it or not.
#[derive(Clone, Debug)]
pub struct Session {
    client: Client,
    pub(crate) state: Arc<Mutex<State>>,
}

impl Session {
    pub(crate) fn new(client: Client, lane: Lane, issued: u64, token: Bytes) -> Session {
        let state = State {
            lane,
            issued,
            token,
        };
        Session {
            client,
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// The client it runs on.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// What the session has seen, at most 160 opaque bytes; empty before the first reply.
    ///
    /// Hand this to others so that they see what this session saw: [`Client::session_from`] starts
    /// a session of their own there. Waits for the call that is under way.
    pub async fn token(&self) -> Bytes {
        self.state.lock().await.token.clone()
    }

    /// The whole session as a string of at most 264 characters: token, session id and the next
    /// request number. [`Client::resume`] goes on with it, in this or another process.
    ///
    /// One session must not go on in two places: the two would give different writes the same
    /// request id, and a server would answer the second with the outcome of the first. To share
    /// what was seen, hand over the [`token`](Session::token). Waits for the call that is under way.
    pub async fn export(&self) -> String {
        self.export_ahead(0).await
    }

    /// As [`export`](Session::export), with the next `writes` request numbers left out.
    ///
    /// For a process that may die between a write and the export after it: store this first, then
    /// up to `writes` writes can be made, and whoever resumes uses none of their numbers again. A
    /// session has 2^32 numbers; one that ran out of them goes on under a fresh session id.
    pub async fn export_ahead(&self, writes: u32) -> String {
        let state = self.state.lock().await;
        let mut lane = state.lane;
        match lane.next_seq.checked_add(writes) {
            Some(next) => lane.next_seq = next,
            None => lane = Lane::random(),
        }
        let portable = Portable {
            lane,
            issued: state.issued,
            token: state.token.clone(),
        };
        portable.write()
    }
}

/// Beginning a session.
impl Client {
    /// A new session that has seen nothing.
    pub fn session(&self) -> Session {
        Session::new(self.clone(), Lane::random(), 0, Bytes::new())
    }

    /// A new session that has seen what another one had when its
    /// [`token`](Session::token) was taken.
    ///
    /// # Errors
    /// When it is longer than 160 bytes, as no token is. A server refuses a damaged or foreign one.
    pub fn session_from(&self, token: Bytes) -> Result<Session, Error> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(Error::invalid("a session token has at most 160 bytes"));
        }
        Ok(Session::new(self.clone(), Lane::random(), 0, token))
    }

    /// Goes on with an [exported](Session::export) session.
    ///
    /// # Errors
    /// When the string is damaged (`SESSION_TOKEN_MALFORMED`) or of a newer version
    /// (`SESSION_TOKEN_NEWER`). A server refuses a session of another
    /// cluster.
    pub fn resume(&self, exported: &str) -> Result<Session, Error> {
        let Portable {
            lane,
            issued,
            token,
        } = Portable::read(exported)?;
        Ok(Session::new(self.clone(), lane, issued, token))
    }
}
