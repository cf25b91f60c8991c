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
//! * [`Client`] routes to the nearest endpoint and to the next one when that is down. [`Call`]s are
//!   built, given a level or a deadline, and run when awaited.
//! * [`Session`] carries its token by itself and can be [exported](Session::export) and
//!   [resumed](Client::resume) elsewhere.
//! * Every reply has a [`Receipt`]: level reached, staleness, who took part, round trips paid.
//! * Every [`Error`] says whether anything was [applied](Error::applied), has a stable
//!   [reason](Error::reason) and, where the server knows, a hint when to come back.
//!
//! # What is retried
//! Reads, anywhere. Writes that were refused with nothing applied, where that can help. A write
//! whose connection broke: at level strong under its request id (compare-and-set and increment in
//! the same region only), otherwise put, delete, add and remove at the same node. Everything else is
//! given back as [`ErrorKind::Indeterminate`]. `QUORUM_UNREACHABLE` and `SESSION_UNAVAILABLE` are
//! given back at once: asking another region for a level is the caller's choice.
//!
//! # Deadlines
//! A call ends at its deadline whatever happens, connecting and retries included. A node that
//! vanished without a word is noticed after at most 3 s by keep-alive pings.

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
pub use reply::{Batch, Contained, Found, Got, Members, Page, Receipt, Row, Value, Written};
pub use session::Session;
