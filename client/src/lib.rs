//! The Hansa SDK: one key, three consistency levels, chosen per request.
//!
//! ```no_run
//! use hansa_client::{Client, Consistency::{Eventual, Strong}};
//! # async fn example() -> Result<(), hansa_client::Error> {
//! let client = Client::builder()
//!     .region("eu-central")
//!     .endpoint("eu-central", "http://127.0.0.1:7102")
//!     .endpoint("us-east", "http://127.0.0.1:7101")
//!     .build().await?;
//! client.put("profiles", "alice", "Luebeck").level(Strong).await?;   // linearizable, 1-2 round trips
//! let fast = client.get("profiles", "alice").level(Eventual).await?; // the local region, at once
//! let session = client.session();                                    // sees its own writes anywhere
//! session.add("carts", "alice", "TEA-01").await?;
//! assert!(session.contains("carts", "alice", "TEA-01").await?.member);
//! println!("{:?} at most {:?} old", fast.bytes(), fast.receipt.staleness);
//! # Ok(()) }
//! ```
//!
//! * [`Client`] routes to the nearest endpoint and to the next one when that can not serve. [`Call`]s are
//!   built, given a level or a deadline, and run when awaited.
//! * [`Session`] carries its token by itself and can be [exported](Session::export) and
//!   [resumed](Client::resume) elsewhere.
//! * Every reply has a [`Receipt`]: level reached, staleness, who took part, round trips paid.
//! * Every [`Error`] says whether anything was [applied](Error::applied), has a stable
//!   [reason](Error::reason) and, where the server knows, a hint when to come back.
//!
//! # What is retried
//! A call is repeated by itself only where it can not take effect twice, and never outside of the
//! home region by a client that [stays there](Builder::stay_in_region).
//!
//! * **Nothing was applied.** An endpoint that can not be reached, and a node that refuses with
//!   `NOT_HERE`, `AWAITING_READMISSION`, `CLOCK_OUT_OF_BOUNDS`, `DAMAGED`, `STORE_FAILED` or
//!   `SHUTTING_DOWN`: the next endpoint is asked at once. `OVERLOADED`: the same node again, after a
//!   pause; when it stays overloaded, the others. After two pauses, between rounds over all endpoints
//!   or for an overloaded node, the call gives up and the last error is given back.
//! * **The connection broke before the answer.** Reads go to any endpoint. Writes keep their request
//!   id, by which servers know them again: at level strong a put, delete, add or remove goes to any
//!   endpoint, a compare-and-set or increment to its region only; at the other levels a put, delete,
//!   add or remove goes to the same node only, an increment nowhere. Such a write is repeated until
//!   its deadline: to know is worth the wait.
//! * **Every other refusal** is given back at once, and so is each that says
//!   [`Applied::Maybe`]. So are `QUORUM_UNREACHABLE` and `SESSION_UNAVAILABLE`: asking another region
//!   for a level is the caller's choice.
//!
//! A write can be sent [without a request id](Call::without_request_id); then it is not repeated at all
//! once it may have been applied. Whoever was told [`Applied::Maybe`] can [repeat](Call::repeat) the
//! call under its request id, also after a restart of the own process and through another client.
//!
//! Once an attempt may have been applied, an error of the call says [`Applied::Maybe`], whatever later
//! attempts were told. But a compare-and-set at level strong that is told that its condition did not
//! hold was not applied by any attempt: the servers keep that outcome under the request id.
//!
//! # Deadlines
//! A call ends at its deadline whatever happens: waiting for its session's turn, connecting and
//! retries included. A node that vanished without a word is noticed after at most 3 s by keep-alive
//! pings.

#![forbid(unsafe_code)]

pub mod admin;
mod call;
mod client;
mod consistency;
mod endpoint;
mod error;
mod etag;
mod execute;
#[cfg(any(test, feature = "fake"))]
pub mod fake;
mod key;
mod operations;
mod pages;
mod pipe;
mod portable;
mod reply;
mod request_ids;
mod retry;
mod route;
mod session;
#[cfg(test)]
mod tests;
mod wire;

pub use admin::Admin;
pub use bytes::Bytes;
pub use call::Call;
pub use client::{Builder, Client, DEADLINE_MAX, EndpointInfo};
pub use consistency::{Consistency, UnknownLevel};
pub use error::{Applied, Error, ErrorKind};
pub use etag::{Etag, InvalidEtag};
pub use key::Key;
pub use operations::Expect;
pub use pages::{Paged, Pages};
pub use reply::{Batch, Contained, Found, Got, Members, Page, Path, Receipt, Row, Value, Written};
pub use request_ids::{InvalidUnfinished, RequestId, Unfinished};
pub use session::Session;
